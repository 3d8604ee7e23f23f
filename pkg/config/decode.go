package config

import (
	"encoding"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/vodrelay/vodrelay/pkg/redact"
)

// decoder fills values from nodes, strictly, and reports all that does not fit.
type decoder struct {
	report *report
	from   source
	spent  int // nodes so far: aliases can make a short text long
	depth  int // of << in <<
}

const (
	maxNodes = 20_000
	maxMerge = 20
)

// spend takes nodes out of what one source may use, and reports whether there were enough.
func (d *decoder) spend(n *yaml.Node, path string, nodes int) bool {
	if d.spent > maxNodes {
		return false
	}
	d.spent += nodes
	if d.spent > maxNodes {
		d.fail(n, path, fmt.Sprintf("holds too much: there are more than %d values so far", maxNodes))
	}
	return d.spent <= maxNodes
}

// collect finds the settings in the sections of a file.
func (d *decoder) collect(n *yaml.Node, path string, section reflect.Type, into map[string]any) {
	fields := fieldsOf(section)
	for _, e := range d.entries(n, path, names(fields)) {
		if path == "" && e.key == "$schema" { // for editors of JSON
			continue
		}
		i := slices.IndexFunc(fields, func(f field) bool { return f.name == e.key })
		if i < 0 {
			d.unknown(e, path, fields, "")
			continue
		}
		path := join(path, e.key)
		d.report.wheres[path] = d.from.place(e.at)
		switch {
		case isSection(fields[i].typ):
			d.collect(e.value, path, fields[i].typ, into)
		case resolve(e.value).ShortTag() != "!!null":
			put(into, path, &value{e.value, d.from})
		}
	}
}

// decode fills v, which keeps what it has when n is empty.
func (d *decoder) decode(n *yaml.Node, path string, v reflect.Value, f field) {
	if !d.spend(n, path, 1) {
		return
	}
	if _, known := d.report.wheres[path]; !known || !d.from.lines {
		d.report.wheres[path] = d.from.place(n)
	}
	n = resolve(n)
	t := v.Type()
	switch {
	case n.ShortTag() == "!!null":
	case f.secret && !f.firstShown && strings.HasPrefix(d.from.name, "--"):
		variable, _, _ := strings.Cut(path, "[")
		d.fail(n, path, "every user of the machine can see a flag: set "+prefix+strings.ToUpper(variable)+", or write it in the configuration file")
	case isText(t):
		d.text(n, path, v, f)
	case t == sinkType:
		d.sink(n, path, v.Addr().Interface().(*Sink))
	case t.Kind() == reflect.Struct:
		d.object(n, path, "", v)
	case t.Kind() == reflect.Slice:
		d.list(n, path, v, f)
	case t.Kind() == reflect.Map:
		d.dictionary(n, path, v, f)
	default:
		d.scalar(n, path, v, f)
	}
}

// object fills the fields of structs that form one section, which must all be addressable.
func (d *decoder) object(n *yaml.Node, path, kind string, structs ...reflect.Value) {
	fields, values := members(structs...)
	for _, e := range d.entries(n, path, names(fields)) {
		i := slices.IndexFunc(fields, func(f field) bool { return f.name == e.key })
		if i < 0 {
			d.unknown(e, path, fields, kind)
			continue
		}
		path := join(path, e.key)
		d.report.wheres[path] = d.from.place(e.at)
		d.decode(e.value, path, values[i], fields[i])
	}
}

// unknown reports a key that does not exist, and the nearest that does.
func (d *decoder) unknown(e entry, path string, fields []field, kind string) {
	known := names(fields)
	key, _, colon := strings.Cut(e.key, ":")
	text := "unknown key"
	if kind != "" {
		text += " for a sink of type " + kind
	}
	near := Nearest(key, known)
	switch {
	case colon && slices.Contains(known, key):
		text = "write a space after the colon"
		near = key
	case near != "":
		text += ": did you mean " + near + "?"
	case path == "" && elsewhere(key) != "":
		section, name := elsewhere(key), key[strings.LastIndexByte(key, '.')+1:]
		text += fmt.Sprintf(": write %s inside %s", name, section)
	default:
		text += ": the keys here are " + strings.Join(known, ", ")
	}
	d.report.at(d.from.place(e.at), join(path, shownKey(key)), text)
	if near != "" {
		d.report.failed[join(path, near)] = true // that it is missing need not be said as well
	}
}

// elsewhere is the section of the setting with this path or last part of it; "" if there is none.
func elsewhere(key string) string {
	for _, s := range settings() {
		if section, found := strings.CutSuffix("."+s.path, "."+key); found && section != "" {
			return strings.TrimPrefix(section, ".")
		} else if found {
			return s.path[:max(0, strings.LastIndexByte(s.path, '.'))]
		}
	}
	return ""
}

func (d *decoder) list(n *yaml.Node, path string, v reflect.Value, f field) {
	if n.Kind != yaml.SequenceNode {
		remedy := "must be a list"
		switch {
		case n.Kind == yaml.ScalarNode && isScalar(v.Type().Elem()) && !f.secret && listed(n.Value) != "":
			remedy += ": write [" + shorten(listed(n.Value)) + "]"
		case !isScalar(v.Type().Elem()):
			remedy += ": begin each item with a dash"
		default:
			remedy += ": put it in brackets"
		}
		d.report.at(d.from.place(n), path, remedy)
		return
	}
	v.SetZero() // a default is replaced as a whole
	element := f
	element.def, element.typ = "", v.Type().Elem()
	for i, n := range n.Content {
		if d.spent > maxNodes {
			return
		}
		v.Set(reflect.Append(v, reflect.Zero(element.typ)))
		if resolve(n).ShortTag() == "!!null" {
			d.fail(n, item(path, i), "is empty: write a value or remove the item")
			continue
		}
		d.decode(n, item(path, i), v.Index(i), element)
	}
}

// dictionary fills a map of texts, whose keys are free and keep their letter case.
func (d *decoder) dictionary(n *yaml.Node, path string, v reflect.Value, f field) {
	v.SetZero() // a default is replaced as a whole
	element := f
	element.def, element.typ = "", v.Type().Elem()
	for _, e := range d.entries(n, path, nil) {
		if resolve(e.value).ShortTag() == "!!null" || f.secret && strings.Contains(e.key, ":") {
			d.fail(e.at, join(path, shownKey(e.key)), "write a value, with a space after the colon")
			continue
		}
		one := reflect.New(element.typ).Elem()
		path := join(path, redact.Value(e.key))
		d.report.wheres[path] = d.from.place(e.at)
		d.decode(e.value, path, one, element)
		if v.IsNil() {
			v.Set(reflect.MakeMap(v.Type()))
		}
		v.SetMapIndex(reflect.ValueOf(e.key).Convert(v.Type().Key()), one)
	}
}

// text fills a type with a text form of its own. The text is taken as it stands, whatever YAML makes of it.
func (d *decoder) text(n *yaml.Node, path string, v reflect.Value, f field) {
	if n.Kind != yaml.ScalarNode {
		d.wrong(n, path, f, "must be one word"+example(f))
		return
	}
	if err := v.Addr().Interface().(encoding.TextUnmarshaler).UnmarshalText([]byte(n.Value)); err != nil {
		if f.secret {
			d.fail(n, path, "is not valid")
			return
		}
		d.fail(n, path, err.Error())
	}
}

func (d *decoder) scalar(n *yaml.Node, path string, v reflect.Value, f field) {
	tag := n.ShortTag()
	if n.Kind != yaml.ScalarNode {
		tag = ""
	}
	quoted := ""
	if n.Style&(yaml.DoubleQuotedStyle|yaml.SingleQuotedStyle) != 0 {
		quoted = ": leave out the quotes"
	}
	switch kind := v.Kind(); {
	case v.Type() == durationType:
		d.duration(n, tag, path, v, f)
	case kind == reflect.String && (tag == "!!str" || tag == "!!timestamp"):
		v.SetString(n.Value)
	case kind == reflect.String && tag != "" && !f.secret:
		d.wrong(n, path, f, "must be a text: write "+quote(n.Value))
	case kind == reflect.String:
		d.wrong(n, path, f, "must be a text: put it in quotes")
	case kind == reflect.Bool && tag == "!!bool":
		d.native(n, path, v, f, "must be true or false")
	case kind == reflect.Bool:
		d.wrong(n, path, f, "must be true or false"+quoted)
	case v.CanFloat() && (tag == "!!int" || tag == "!!float"):
		d.native(n, path, v, f, "must be a number"+example(f))
	case v.CanFloat():
		d.wrong(n, path, f, "must be a number"+example(f)+quoted)
	case tag == "!!int" && v.CanUint() && strings.HasPrefix(n.Value, "-"):
		d.wrong(n, path, f, "must not be negative")
	case tag == "!!int":
		d.native(n, path, v, f, "must be a whole number within 64 bits"+example(f))
	default:
		d.wrong(n, path, f, "must be a whole number"+example(f)+quoted)
	}
}

// native lets the YAML library read a number or truth value.
func (d *decoder) native(n *yaml.Node, path string, v reflect.Value, f field, remedy string) {
	if n.Decode(v.Addr().Interface()) != nil { // its text repeats the value
		d.wrong(n, path, f, remedy)
	}
}

func (d *decoder) duration(n *yaml.Node, tag, path string, v reflect.Value, f field) {
	switch tag {
	case "!!int", "!!float":
		if _, err := time.ParseDuration(n.Value + "s"); err == nil {
			d.wrong(n, path, f, "has no unit: write "+n.Value+"s")
			return
		}
	case "!!str":
		if parsed, err := time.ParseDuration(n.Value); err == nil {
			v.SetInt(int64(parsed))
			return
		}
	}
	d.wrong(n, path, f, "must be a number with its unit (ms, s, m or h)"+example(f))
}

// wrong reports a value of the wrong type; a secret is not shown.
func (d *decoder) wrong(n *yaml.Node, path string, f field, remedy string) {
	switch {
	case n.Kind != yaml.ScalarNode || f.secret:
	case n.ShortTag() == "!!str":
		remedy = quote(n.Value) + ": " + remedy
	default:
		remedy = shorten(n.Value) + ": " + remedy
	}
	d.fail(n, path, remedy)
}

func (d *decoder) fail(n *yaml.Node, path, text string) {
	d.report.at(d.from.place(n), path, text)
}

// shownKey is a key as it may be shown: what follows a colon is a value, perhaps a secret.
func shownKey(key string) string {
	key, _, _ = strings.Cut(key, ":")
	return shorten(key)
}

func example(f field) string {
	if f.def == "" {
		return ""
	}
	return ", such as " + f.def
}

// shorten keeps what was written without quotes readable in one line.
func shorten(s string) string {
	s = quote(s)
	return s[1 : len(s)-1]
}

// listed is a text, with blanks or commas between its parts, as the items of a list; "" for one that may hold a
// secret, or is no such text.
func listed(text string) string {
	if strings.ContainsAny(text, "'\"[]{}=\n") {
		return ""
	}
	items := strings.FieldsFunc(text, func(r rune) bool { return r == ' ' || r == ',' })
	for _, item := range items {
		if redact.Address(item) != item {
			return ""
		}
	}
	return strings.Join(items, ", ")
}
