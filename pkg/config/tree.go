package config

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// mistake is why a text is not one YAML document.
type mistake struct {
	line int // from 1
	text string
}

// parse reads one YAML document, of which JSON is a part. It returns nil for an empty one.
func parse(text []byte) (*yaml.Node, *mistake) {
	dec := yaml.NewDecoder(bytes.NewReader(plainStrings(text)))
	var doc, second yaml.Node
	err := dec.Decode(&doc)
	if errors.Is(err, io.EOF) {
		return nil, nil
	}
	if err == nil {
		err = dec.Decode(&second)
	}
	switch {
	case err == nil:
		return nil, &mistake{second.Line, "a second document begins here: keep one, without a line of ---"}
	case !errors.Is(err, io.EOF):
		return nil, explain(err, text)
	}
	return doc.Content[0], nil
}

var jsonString = regexp.MustCompile(`"(?:[^"\\]|\\.)*"`)

// plainStrings writes the strings of JSON without the two escapes that YAML lacks: \/ and surrogate pairs.
func plainStrings(text []byte) []byte {
	if !json.Valid(text) {
		return text
	}
	return jsonString.ReplaceAllFunc(text, func(literal []byte) []byte {
		var s string
		if json.Unmarshal(literal, &s) != nil {
			return literal
		}
		plain, err := json.Marshal(s)
		if err != nil {
			return literal
		}
		return plain
	})
}

var yamlLine = regexp.MustCompile(`^line (\d+): `)

// explain adds the remedy to the parser's message, which is kept, but for a name that it repeats: that may
// be a secret that begins with an asterisk.
func explain(err error, text []byte) *mistake {
	message := strings.TrimPrefix(err.Error(), "yaml: ")
	line := 1 // which the parser leaves out
	if found := yamlLine.FindStringSubmatch(message); found != nil {
		line, _ = strconv.Atoi(found[1])
		message = message[len(found[0]):]
	}
	switch {
	case indentedByTab(text, line):
		message = "a tab stands before the first word: indent with spaces"
	case strings.Contains(message, "unknown anchor"):
		message = "a value begins with *, which names an anchor that does not exist: put it in quotes"
	case strings.Contains(message, "cannot start any token"):
		message += ": put the value in quotes"
	case strings.Contains(message, "mapping values are not allowed"):
		message += ": put a value with a colon in quotes, or check the indentation"
	default:
		message += ": check the indentation, quotes and brackets before this place"
	}
	return &mistake{line, "is not valid YAML: " + message}
}

func indentedByTab(text []byte, line int) bool {
	lines := bytes.Split(text, []byte("\n"))
	return line <= len(lines) && bytes.HasPrefix(bytes.TrimLeft(lines[line-1], " "), []byte("\t"))
}

// source is a parsed text.
type source struct {
	name  string // a file, variable or flag
	lines bool   // whether line numbers say anything
}

func (s source) place(n *yaml.Node) place {
	if s.lines {
		return place{s.name, n.Line}
	}
	return place{name: s.name}
}

// entry is one key of a mapping.
type entry struct {
	key   string
	at    *yaml.Node // the key itself, for its line
	value *yaml.Node
}

const mergeTag = "!!merge"

// entries lists the keys of n, which must be a mapping or empty. Each key comes once; << takes over what
// another mapping has and n has not.
func (d *decoder) entries(n *yaml.Node, path string, known []string) []entry {
	n = resolve(n)
	switch {
	case n.ShortTag() == "!!null" || !d.spend(n, path, len(n.Content)):
		return nil
	case n.Kind != yaml.MappingNode:
		// The text is not shown: it may be a secret after a key without a space behind the colon.
		text := "must hold keys with values"
		if len(known) > 0 {
			text += ": " + strings.Join(known, ", ")
		}
		d.report.at(d.from.place(n), path, text)
		return nil
	}
	var own, merged []entry
	first := map[string]*yaml.Node{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := resolve(n.Content[i]), n.Content[i+1]
		switch {
		case key.ShortTag() == mergeTag:
			merged = append(merged, d.merge(value, path, known)...)
		case key.Kind != yaml.ScalarNode:
			d.report.at(d.from.place(n.Content[i]), path, "a key must be one word, not a list or keys")
		case first[key.Value] != nil:
			d.report.at(d.from.place(n.Content[i]), join(path, shownKey(key.Value)), twice(first[key.Value], d.from))
		default:
			first[key.Value] = n.Content[i]
			own = append(own, entry{key.Value, n.Content[i], value})
		}
	}
	for _, e := range merged {
		if first[e.key] == nil {
			first[e.key] = e.at
			own = append(own, e)
		}
	}
	return own
}

func twice(first *yaml.Node, from source) string {
	if !from.lines {
		return "is set twice: keep one"
	}
	return fmt.Sprintf("is set twice, first in line %d: keep one", first.Line)
}

// merge lists the keys behind a <<, which is one mapping or a list of them.
func (d *decoder) merge(value *yaml.Node, path string, known []string) []entry {
	d.depth++
	defer func() { d.depth-- }()
	if d.depth > maxMerge { // perhaps a circle
		d.fail(value, path, "<< leads through too many mappings: name the keys here")
		return nil
	}
	if list := resolve(value); list.Kind == yaml.SequenceNode {
		var all []entry
		for _, n := range list.Content {
			all = append(all, d.merge(n, path, known)...)
		}
		return all
	}
	return d.entries(value, path, known)
}

// resolve follows an alias to what it stands for.
func resolve(n *yaml.Node) *yaml.Node {
	for n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	return n
}
