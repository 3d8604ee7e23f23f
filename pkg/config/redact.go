package config

import (
	"bytes"
	"encoding"
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

const hidden = "***"

// Redacted is the effective configuration with every key, as "yaml" (or "text") or "json". Secrets are
// shown as ***, also those in addresses. What it prints is a configuration again, once the secrets are put
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
			list.Content = append(list.Content, showWord(v.Index(i), f.secret))
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
		return word("!!str", redact(string(s), secret))
	}
	switch value := v.Interface(); {
	case v.Type() == durationType:
		return word("!!str", duration(value.(time.Duration)))
	case v.Kind() == reflect.String:
		return word("!!str", redact(v.String(), secret))
	case secret:
		return word("!!str", hidden)
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

var (
	assignment  = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*=`)
	secretParam = regexp.MustCompile(`(?i)(token|key|secret|sign|pass|auth|credential)`)
)

// redact hides a secret, but for the name in NAME=value; and what is secret in an address.
func redact(s string, secret bool) string {
	switch {
	case s == "":
		return ""
	case secret && assignment.MatchString(s):
		return assignment.FindString(s) + hidden
	case secret:
		return hidden
	case strings.Contains(s, "://"):
		return redactURL(s)
	}
	return s
}

// redactURL hides user names and passwords, and the values of parameters that are often secret.
func redactURL(s string) string {
	scheme, rest, _ := strings.Cut(s, "://")
	u, err := url.Parse(s)
	if err != nil { // not an address, but perhaps a password with characters that do not belong there
		if i := strings.LastIndexByte(rest, '@'); i >= 0 {
			return scheme + "://" + hidden + rest[i:]
		}
		return s
	}
	if u.User != nil {
		host := strings.IndexAny(rest, "/?#")
		if host < 0 {
			host = len(rest)
		}
		rest = hidden + rest[strings.LastIndexByte(rest[:host], '@'):]
	}
	before, query, found := strings.Cut(rest, "?")
	if !found {
		return scheme + "://" + rest
	}
	query, fragment, _ := strings.Cut(query, "#")
	params := strings.Split(query, "&")
	for i, param := range params {
		if name, value, _ := strings.Cut(param, "="); value != "" && secretParam.MatchString(name) {
			params[i] = name + "=" + hidden
		}
	}
	if fragment != "" {
		fragment = "#" + fragment
	}
	return scheme + "://" + before + "?" + strings.Join(params, "&") + fragment
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
