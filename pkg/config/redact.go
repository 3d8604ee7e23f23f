package config

import (
	"bytes"
	"encoding"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/vodrelay/vodrelay/pkg/redact"
)

// Redacted is the effective configuration with every key, as "yaml" (or "text") or "json". Secrets are
// shown as ***, and addresses as https://host/***. What it prints is a configuration again, once these are put
// back.
func (c *Config) Redacted(format string) ([]byte, error) {
	tree := show(reflect.ValueOf(c).Elem())
	switch format {
	case "yaml", "text":
		var out bytes.Buffer
		enc := yaml.NewEncoder(&out)
		enc.SetIndent(2)
		if err := enc.Encode(tree); err != nil {
			return nil, err
		}
		return out.Bytes(), enc.Close()
	case "json":
		var out bytes.Buffer
		if err := json.Indent(&out, appendJSON(nil, tree), "", "  "); err != nil {
			return nil, err
		}
		out.WriteByte('\n')
		return out.Bytes(), nil
	}
	return nil, fmt.Errorf("format %q: use yaml or json", format)
}

// Origin says in a few words where the configuration comes from.
func (c *Config) Origin() string {
	if c.File == "" {
		return "no file, only the environment, flags and defaults"
	}
	return "from " + c.File
}

// String is the configuration without secrets.
func (c Config) String() string {
	text, err := c.Redacted("yaml")
	if err != nil {
		return "config: " + err.Error()
	}
	return string(text)
}

// GoString is String.
func (c Config) GoString() string { return c.String() }

// MarshalJSON shows no secret.
func (c Config) MarshalJSON() ([]byte, error) { return c.Redacted("json") }

// String is the sink without secrets, as JSON.
func (s Sink) String() string {
	return string(appendJSON(nil, show(parts(reflect.ValueOf(&s).Elem())...)))
}

// GoString is String.
func (s Sink) GoString() string { return s.String() }

// MarshalJSON shows no secret.
func (s Sink) MarshalJSON() ([]byte, error) { return []byte(s.String()), nil }

// show is the YAML of structs that form one section.
func show(structs ...reflect.Value) *yaml.Node {
	section := &yaml.Node{Kind: yaml.MappingNode}
	fields, values := members(structs...)
	onlyOne := structs[0].Type() == processorType // of which one key is set
	for i, f := range fields {
		if onlyOne && values[i].IsZero() {
			continue
		}
		section.Content = append(section.Content, word("!!str", f.name), showValue(values[i], f))
	}
	return section
}

func showValue(v reflect.Value, f field) *yaml.Node {
	t := v.Type()
	switch {
	case isSection(t):
		return show(parts(v)...)
	case t.Kind() == reflect.Slice && isSection(t.Elem()):
		list := &yaml.Node{Kind: yaml.SequenceNode}
		for i := range v.Len() {
			list.Content = append(list.Content, showValue(v.Index(i), f))
		}
		return list
	case t.Kind() == reflect.Slice:
		list := &yaml.Node{Kind: yaml.SequenceNode, Style: yaml.FlowStyle}
		for i := range v.Len() {
			if name := assigned.FindString(v.Index(i).String()); name != "" && f.namesShown {
				list.Content = append(list.Content, word("!!str", name+redact.Hidden))
				continue
			}
			list.Content = append(list.Content, showWord(v.Index(i), f.secret && (i > 0 || !f.firstShown)))
		}
		return list
	case t.Kind() == reflect.Map:
		dictionary := &yaml.Node{Kind: yaml.MappingNode}
		entries := map[string]*yaml.Node{}
		for key, value := range v.Seq2() {
			entries[key.String()] = showWord(value, f.secret)
		}
		for _, key := range slices.Sorted(maps.Keys(entries)) {
			dictionary.Content = append(dictionary.Content, word("!!str", key), entries[key])
		}
		return dictionary
	}
	return showWord(v, f.secret)
}

func showWord(v reflect.Value, secret bool) *yaml.Node {
	if text, ok := v.Interface().(encoding.TextMarshaler); ok {
		s, err := text.MarshalText()
		if err != nil {
			s = []byte(err.Error())
		}
		return word("!!str", shown(string(s), secret))
	}
	switch value := v.Interface(); {
	case v.Type() == durationType:
		return word("!!str", duration(value.(time.Duration)))
	case v.Kind() == reflect.String:
		return word("!!str", shown(v.String(), secret))
	case secret:
		return word("!!str", redact.Hidden)
	case v.Kind() == reflect.Bool:
		return word("", strconv.FormatBool(v.Bool()))
	case v.CanFloat():
		return word("", strconv.FormatFloat(v.Float(), 'f', -1, 64))
	default:
		return word("", fmt.Sprint(value))
	}
}

// word is a scalar. With the tag of a text, the encoder puts it in quotes if it would be read as another
// type; without a tag it is written as it is.
func word(tag, value string) *yaml.Node {
	return &yaml.Node{Kind: yaml.ScalarNode, Tag: tag, Value: value}
}

// duration is d without the zeros that its String has: 2h, not 2h0m0s.
func duration(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// assigned is NAME= of a setting.
var assigned = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*=`)

// shown is a value without what is secret in it: all of a secret, and what stands in an address besides its host.
func shown(s string, secret bool) string {
	if secret {
		return redact.Secret(s)
	}
	return redact.Value(s)
}

// appendJSON writes a tree as JSON, with the keys in their order.
func appendJSON(out []byte, n *yaml.Node) []byte {
	switch n.Kind {
	case yaml.MappingNode:
		out = append(out, '{')
		for i := 0; i < len(n.Content); i += 2 {
			if i > 0 {
				out = append(out, ',')
			}
			out = append(appendJSON(out, n.Content[i]), ':')
			out = appendJSON(out, n.Content[i+1])
		}
		return append(out, '}')
	case yaml.SequenceNode:
		out = append(out, '[')
		for i, element := range n.Content {
			if i > 0 {
				out = append(out, ',')
			}
			out = appendJSON(out, element)
		}
		return append(out, ']')
	default:
		return appendWord(out, n)
	}
}

func appendWord(out []byte, n *yaml.Node) []byte {
	if n.Tag != "!!str" && json.Valid([]byte(n.Value)) {
		return append(out, n.Value...)
	}
	var text bytes.Buffer
	enc := json.NewEncoder(&text)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(n.Value) // a string can always be written
	return append(out, bytes.TrimSuffix(text.Bytes(), []byte("\n"))...)
}
