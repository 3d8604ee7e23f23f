package config

import (
	"encoding"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/vodrelay/vodrelay/pkg/pipeline"
)

// field is one key of a section, as the tags of its struct describe it.
type field struct {
	name   string
	doc    string
	def    string // the default as text; "" for none
	enum   []string
	secret bool
	off    bool // an empty value is one of its own, and not the default
	// firstShown: of a list that is secret, the first item is none.
	firstShown bool
	// namesShown: of a list that is secret, the names in NAME=value are none.
	namesShown bool
	typ        reflect.Type
	index      []int
}

// fieldsOf lists the keys of a struct in order; embedded structs are part of it.
func fieldsOf(t reflect.Type) []field {
	var fields []field
	for sf := range t.Fields() {
		name, option, _ := strings.Cut(sf.Tag.Get("mapstructure"), ",")
		switch {
		case name == "-":
		case option == "squash":
			for _, f := range fieldsOf(sf.Type) {
				f.index = append(slices.Clone(sf.Index), f.index...)
				fields = append(fields, f)
			}
		default:
			f := field{
				name: name, doc: sf.Tag.Get("doc"), def: sf.Tag.Get("default"),
				secret: sf.Tag.Get("secret") != "", firstShown: sf.Tag.Get("secret") == "arguments", namesShown: sf.Tag.Get("secret") == "settings", off: sf.Tag.Get("empty") == "off",
				typ: sf.Type, index: sf.Index,
			}
			if enum := sf.Tag.Get("enum"); enum != "" {
				f.enum = strings.Split(enum, ",")
			}
			fields = append(fields, f)
		}
	}
	return fields
}

// members are the keys of several structs that form one section, with their values.
func members(structs ...reflect.Value) (fields []field, values []reflect.Value) {
	for _, s := range structs {
		for _, f := range fieldsOf(s.Type()) {
			fields = append(fields, f)
			values = append(values, s.FieldByIndex(f.index))
		}
	}
	return fields, values
}

// setting is a key of the configuration that is replaced as a whole by a source of higher precedence.
type setting struct {
	path string // vod.endpoint
	field
}

// settings lists all of them, in order. It is asked for by every command, which would take a tenth of the
// program's start. The list must not be changed.
var settings = sync.OnceValue(func() []setting { return settingsIn(reflect.TypeFor[Config](), "") })

func settingsIn(t reflect.Type, prefix string) []setting {
	var all []setting
	for _, f := range fieldsOf(t) {
		if isSection(f.typ) {
			all = append(all, settingsIn(f.typ, prefix+f.name+".")...)
			continue
		}
		all = append(all, setting{prefix + f.name, f})
	}
	return all
}

// variable is the environment's variable for the setting.
func (s setting) variable() string {
	return prefix + strings.ToUpper(strings.ReplaceAll(s.path, ".", "_"))
}

var (
	durationType  = reflect.TypeFor[time.Duration]()
	textType      = reflect.TypeFor[encoding.TextUnmarshaler]()
	processorType = reflect.TypeFor[pipeline.ProcessorConfig]()
	sinkType      = reflect.TypeFor[Sink]()
)

// isText reports a type with a text form of its own.
func isText(t reflect.Type) bool { return reflect.PointerTo(t).Implements(textType) }

// isSection reports a type that is an object with known keys.
func isSection(t reflect.Type) bool { return t.Kind() == reflect.Struct && !isText(t) }

// isScalar reports a type whose values are written in one word.
func isScalar(t reflect.Type) bool {
	switch t.Kind() {
	case reflect.Struct, reflect.Slice, reflect.Map:
		return isText(t)
	default:
		return true
	}
}

func item(path string, i int) string { return fmt.Sprintf("%s[%d]", path, i) }

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

func names(fields []field) []string {
	all := make([]string, 0, len(fields))
	for _, f := range fields {
		all = append(all, f.name)
	}
	return all
}

// Nearest is the known word that word was most likely meant to be, or "".
func Nearest(word string, known []string) string {
	best, least := "", max(1, (len(word)+1)/3)+1
	for _, k := range known {
		if d := distance(word, k); d < least && d < len(k) {
			best, least = k, d
		}
	}
	return best
}

// distance is the number of letters to add, remove, change or swap with their neighbour.
func distance(a, b string) int {
	const longest = 64 // keys are shorter; the work is quadratic
	if len(a) > longest || len(b) > longest {
		return longest
	}
	a, b = strings.ToLower(a), strings.ToLower(b)
	var before []int
	last := make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := range len(a) {
		row := make([]int, len(b)+1)
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			row[j+1] = min(last[j]+cost, last[j+1]+1, row[j]+1)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				row[j+1] = min(row[j+1], before[j-1]+1)
			}
		}
		before, last = last, row
	}
	return last[len(b)]
}
