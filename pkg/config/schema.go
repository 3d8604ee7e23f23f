package config

import (
	"bytes"
	"encoding/json"
	"reflect"
)

type schema map[string]any

// Schema is the JSON Schema (draft 2020-12) of the configuration file, for editors. It knows keys, types
// and choices; Load knows more.
func Schema() ([]byte, error) {
	root := object(fieldsOf(reflect.TypeFor[Config]()))
	root["$schema"] = "https://json-schema.org/draft/2020-12/schema"
	root["title"] = "vodrelay configuration"
	root["properties"].(schema)["$schema"] = schema{"type": "string", "description": "Address of this schema, for editors."}
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(root); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// object describes a section.
func object(fields []field) schema {
	properties := schema{}
	for _, f := range fields {
		property := describe(f.typ, f)
		property["description"] = f.doc
		if f.secret {
			property["writeOnly"] = true // is not shown again: config show hides it
		}
		properties[f.name] = property
	}
	return schema{"type": "object", "properties": properties, "additionalProperties": false}
}

// describe gives the type of a value, its choices and its default.
func describe(t reflect.Type, f field) schema {
	s := schema{}
	var def any = f.def
	switch {
	case t == sinkType:
		return sinkSchema()
	case isText(t):
		s["type"] = []string{"string", "integer"} // 0640 without quotes is a number to editors
	case t == durationType:
		s["type"] = "string"
		s["pattern"] = `^([0-9]+(\.[0-9]+)?(ns|us|µs|ms|s|m|h))+$`
	case isSection(t):
		s = object(fieldsOf(t))
		if t == processorType {
			s["minProperties"], s["maxProperties"] = 1, 1
		} else {
			s["type"] = []string{"object", "null"} // all of its keys may be comments
		}
	case t.Kind() == reflect.String:
		s["type"] = "string"
	case t.Kind() == reflect.Bool:
		s["type"], def = "boolean", json.RawMessage(f.def)
	case t.Kind() == reflect.Float64:
		s["type"], def = "number", json.RawMessage(f.def)
	case t.Kind() == reflect.Slice:
		element := f
		element.def, element.typ = "", t.Elem()
		s["type"], s["items"] = []string{"array", "null"}, describe(t.Elem(), element)
		return s
	case t.Kind() == reflect.Map:
		s["type"], s["additionalProperties"] = []string{"object", "null"}, schema{"type": "string"}
	default:
		s["type"], def = "integer", json.RawMessage(f.def)
		if reflect.Zero(t).CanUint() {
			s["minimum"] = 0
		}
	}
	if f.def != "" {
		s["default"] = def
	}
	if len(f.enum) > 0 {
		s["enum"] = f.enum
	}
	return s
}

// sinkSchema has one branch for each type, so that each knows all of its keys and no others.
func sinkSchema() schema {
	var branches []schema
	for _, kind := range SinkTypes() {
		sink, _ := NewSink(kind)
		fields, _ := members(parts(reflect.ValueOf(&sink).Elem())...)
		branch := object(fields)
		branch["title"] = "sink of type " + kind
		branch["required"] = []string{"type"}
		kindSchema := branch["properties"].(schema)["type"].(schema)
		delete(kindSchema, "enum")
		kindSchema["const"] = kind
		branches = append(branches, branch)
	}
	return schema{"oneOf": branches}
}
