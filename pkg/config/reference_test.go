package config

import (
	"bytes"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"
)

var (
	referenceFile = filepath.Join(configsDir, "vodrelay.yaml")
	schemaFile    = filepath.Join(configsDir, "vodrelay.schema.json")
)

var update = flag.Bool("update", false, "write configs/vodrelay.yaml and configs/vodrelay.schema.json anew")

const referenceHead = `# yaml-language-server: $schema=vodrelay.schema.json
#
# Every key of vodrelay's configuration, with its default. A key behind a # is a comment: take the # away
# to set it. What is not set has its default.
#
# Flags come before the environment, the environment before this file, this file before the defaults. In
# the environment the name of a key is VODRELAY_ and its path in capitals: VODRELAY_VOD_RATE_LIMIT. Lists
# are separated by commas there, and VODRELAY_SINKS and VODRELAY_PROCESSORS hold JSON or YAML.
#
# A time needs its unit: 200ms, 10s, 5m, 2h. ${NAME} has no meaning in this file. Keep secrets out of it:
# wherever there is a key with _file behind its name, that file is read instead.
#
# vodrelay check tells what is wrong, vodrelay config show what is in effect.
`

// written are the values in the reference of keys whose default is empty and not allowed, or says nothing.
var written = map[string]string{
	"processors[].filter":  `type == "NewFileUpload"`,
	"processors[].project": `{FileId: payload.FileId, Name: payload.MediaBasicInfo.Name}`,
	"processors[].set":     `{FileUploadEvent.MediaBasicInfo.Name: "upper(payload.MediaBasicInfo.Name)"}`,
	"sinks[].path":         "/var/lib/vodrelay/events.jsonl",
	"sinks[].url":          "https://example.com/vod",
	"sinks[].brokers":      "[kafka-1:9092, kafka-2:9092]",
	"sinks[].topic":        "vod-events",
	"sinks[].servers":      "[nats://nats-1:4222]",
	"sinks[].subject":      "vod.events",
	"sinks[].command":      "[/usr/local/bin/on-upload, --quiet]",
}

// writtenFor are values of one type of sink.
var writtenFor = map[string]string{
	"redis.addresses":    "[redis:6379]",
	"redis.command":      "xadd",
	"redis.key":          "vod-events",
	"rabbitmq.addresses": "[rabbitmq-1:5672, rabbitmq-2:5672]",
	"rabbitmq.username":  "vodrelay",
	"rabbitmq.password":  "change-me",
	"rabbitmq.exchange":  "vod",
	"postgres.url":       "postgres://vodrelay@db.example.com:5432/media?sslmode=verify-full",
}

// reference writes the reference from the tags of the components.
func reference() string {
	var out strings.Builder
	out.WriteString(referenceHead)
	c := Default()
	fields, values := members(reflect.ValueOf(c).Elem())
	for i, f := range fields {
		out.WriteString("\n")
		writeDoc(&out, "", f.doc)
		switch f.name {
		case "processors":
			out.WriteString("#processors:\n")
			for _, step := range fieldsOf(f.typ.Elem()) {
				writeDoc(&out, "  ", step.doc)
				fmt.Fprintf(&out, "  #- %s: %s\n", step.name, written["processors[]."+step.name])
			}
		case "sinks":
			out.WriteString("#sinks:\n")
			for i, kind := range SinkTypes() {
				writeSink(&out, kind, i == 0)
			}
		case "sources":
			fmt.Fprintf(&out, "#sources: %s\n", flow(showValue(values[i], f)))
		default:
			fmt.Fprintf(&out, "%s:\n", f.name)
			writeSection(&out, f.name, "  ", true, values[i])
		}
	}
	return out.String()
}

func writeSink(out *strings.Builder, kind string, first bool) {
	sink, _ := NewSink(kind)
	sink.Name = kind
	all := parts(reflect.ValueOf(&sink).Elem())
	common := names(fieldsOf(all[0].Type()))
	fields, values := members(all...)
	if !first {
		out.WriteString("\n")
	}
	for i, f := range fields {
		shared := slices.Contains(common, f.name)
		if shared && !first && f.name != "type" && f.name != "name" {
			continue // told with the first sink
		}
		if f.name == "type" {
			if first {
				writeDoc(out, "  ", f.doc+" The keys up to retry are the same for all types.")
			}
			fmt.Fprintf(out, "  #- type: %s\n", kind)
			continue
		}
		if text, ok := writtenFor[kind+"."+f.name]; ok {
			writeDoc(out, "    ", f.doc)
			fmt.Fprintf(out, "    #%s: %s\n", f.name, text)
			continue
		}
		writeKey(out, "sinks[]", "    ", !shared || first, f, values[i])
	}
}

func writeSection(out *strings.Builder, path, indent string, doc bool, structs ...reflect.Value) {
	fields, values := members(structs...)
	for i, f := range fields {
		writeKey(out, path, indent, doc, f, values[i])
	}
}

func writeKey(out *strings.Builder, path, indent string, doc bool, f field, v reflect.Value) {
	if doc {
		writeDoc(out, indent, f.doc)
	}
	path = join(path, f.name)
	if isSection(f.typ) {
		hash := ""
		if strings.HasPrefix(path, "sinks") {
			hash = "#"
		}
		fmt.Fprintf(out, "%s%s%s:\n", indent, hash, f.name)
		writeSection(out, path, indent+"  ", doc, v)
		return
	}
	text, ok := written[path]
	if !ok {
		text = flow(showValue(v, f))
	}
	fmt.Fprintf(out, "%s#%s: %s\n", indent, f.name, text)
}

func flow(n *yaml.Node) string {
	n.Style |= yaml.FlowStyle
	if n.Kind == yaml.ScalarNode {
		n.Style = 0
	}
	text, err := yaml.Marshal(n)
	if err != nil {
		panic(err)
	}
	return strings.TrimSuffix(string(text), "\n")
}

func writeDoc(out *strings.Builder, indent, doc string) {
	line := indent + "#"
	for word := range strings.FieldsSeq(doc) {
		if len(line)+1+len(word) > 108 {
			out.WriteString(line + "\n")
			line = indent + "#"
		}
		line += " " + word
	}
	out.WriteString(line + "\n")
}

// golden compares a file with what it should hold, or writes it.
func golden(t *testing.T, path string, want []byte) {
	t.Helper()
	if *update {
		require.NoError(t, os.WriteFile(path, want, 0o644))
		return
	}
	got, err := os.ReadFile(path)
	require.NoError(t, err)
	if !bytes.Equal(got, want) {
		t.Errorf("%s does not fit the code: run go test ./pkg/config -update", path)
	}
}

func TestReferenceFile(t *testing.T) {
	golden(t, referenceFile, []byte(reference()))
}

func TestReferenceIsTheDefaults(t *testing.T) {
	c, err := Load(LoadOptions{Path: referenceFile})
	require.NoError(t, err)
	c.File = ""
	require.Equal(t, Default(), c)
}

// hashed is a key that is a comment: # and no space.
var hashed = regexp.MustCompile(`(?m)^( *)#([^# \n])`)

func TestReferenceHoldsEveryKey(t *testing.T) {
	text, err := os.ReadFile(referenceFile)
	require.NoError(t, err)
	full := hashed.ReplaceAllString(string(text), "$1$2")

	c, err := load(t, full)
	require.NoError(t, err, "with every key set")
	require.Len(t, c.Sinks, len(SinkTypes()))
	for i, kind := range SinkTypes() {
		want, _ := NewSink(kind)
		require.Equal(t, want.Timeout, c.Sinks[i].Timeout)
		require.Equal(t, kind, c.Sinks[i].Name)
	}
	defaults := Default()
	require.Equal(t, defaults.Vod.String(), c.Vod.String())
	require.Equal(t, defaults.Relay, c.Relay)
	require.Equal(t, defaults.Log, c.Log)

	var document yaml.Node
	require.NoError(t, yaml.Unmarshal([]byte(full), &document))
	found := map[string]bool{}
	keysOf("", document.Content[0], found)
	for _, path := range schemaKeys(t) {
		require.True(t, found[path], "the reference lacks %s", path)
	}
}

func keysOf(path string, n *yaml.Node, found map[string]bool) {
	switch n.Kind {
	case yaml.MappingNode:
		for i := 0; i < len(n.Content); i += 2 {
			key := join(path, n.Content[i].Value)
			found[key] = true
			keysOf(key, n.Content[i+1], found)
		}
	case yaml.SequenceNode:
		for _, n := range n.Content {
			keysOf(path+"[]", n, found)
		}
	default:
	}
}

// schemaKeys are the paths of all keys in the schema, [] standing for an item of a list.
func schemaKeys(t *testing.T) []string {
	t.Helper()
	text, err := Schema()
	require.NoError(t, err)
	var root any
	require.NoError(t, yaml.Unmarshal(text, &root))
	found := map[string]bool{}
	var visit func(path string, node map[string]any)
	visit = func(path string, node map[string]any) {
		properties, _ := node["properties"].(map[string]any)
		for name, property := range properties {
			if name == "$schema" {
				continue
			}
			found[join(path, name)] = true
			visit(join(path, name), property.(map[string]any))
		}
		if items, ok := node["items"].(map[string]any); ok {
			visit(path+"[]", items)
		}
		branches, _ := node["oneOf"].([]any)
		for _, branch := range branches {
			visit(path, branch.(map[string]any))
		}
	}
	visit("", root.(map[string]any))
	require.Greater(t, len(found), 60)
	return slices.Sorted(maps.Keys(found))
}

func TestSchemaFile(t *testing.T) {
	text, err := Schema()
	require.NoError(t, err)
	golden(t, schemaFile, text)
}

func compileSchema(t *testing.T) *jsonschema.Schema {
	t.Helper()
	text, err := Schema()
	require.NoError(t, err)
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	require.NoError(t, err)
	compiler := jsonschema.NewCompiler()
	require.NoError(t, compiler.AddResource("vodrelay.schema.json", doc))
	schema, err := compiler.Compile("vodrelay.schema.json")
	require.NoError(t, err)
	return schema
}

func TestSchema(t *testing.T) {
	schema := compileSchema(t)
	validate := func(text string) error {
		var document any
		require.NoError(t, yaml.Unmarshal([]byte(text), &document))
		return schema.Validate(document)
	}
	reference, err := os.ReadFile(referenceFile)
	require.NoError(t, err)
	require.NoError(t, validate(hashed.ReplaceAllString(string(reference), "$1$2")), "the reference with every key set")
	for _, path := range configFiles(t) {
		text, err := os.ReadFile(path)
		require.NoError(t, err)
		require.NoError(t, validate(string(text)), path)
	}
	shown, err := Default().Redacted("yaml")
	require.NoError(t, err)
	require.NoError(t, validate(string(shown)), "what config show prints")

	for _, bad := range []string{
		`vodd: {}`,
		`vod: {endpont: x}`,
		`vod: {credentials: {secret: x}}`,
		`vod: {credentials: {provider: magic}}`,
		`vod: {rate_limit: fast}`,
		`vod: {pull_timeout: 10}`,
		`vod: {sub_app_ids: [-1]}`,
		`sinks: [{type: smtp}]`,
		`sinks: [{name: no-type}]`,
		`sinks: [{type: stdout, url: x}]`,
		`sinks: [{type: webhook, retry: {initial: 1}}]`,
		`sinks: {type: stdout}`,
		`processors: [{filter: a, set: {b: c}}]`,
		`processors: [{}]`,
		`log: {level: loud}`,
	} {
		require.Error(t, validate(bad), bad)
	}
}

// TestDefaultTags holds the tags, which the documentation shows, against the defaults that are in effect.
func TestDefaultTags(t *testing.T) {
	c := Default()
	c.Sinks = nil
	for _, kind := range SinkTypes() {
		sink, _ := NewSink(kind)
		c.Sinks = append(c.Sinks, sink)
	}
	tested := 0
	c.each(func(path string, f field, v reflect.Value) {
		require.NotEmpty(t, f.doc, path)
		require.True(t, strings.HasSuffix(f.doc, "."), "%s: %s", path, f.doc)
		require.Regexp(t, `^[a-z][a-z0-9_]*$`, f.name)
		if strings.HasSuffix(path, ".type") {
			return
		}
		want := f.def
		shown := showValue(v, field{typ: f.typ})
		if shown.Kind != yaml.ScalarNode {
			require.Empty(t, want, path)
			if path != "sources" { // its doc comment names the default
				require.Empty(t, shown.Content, path)
			}
			return
		}
		require.Equal(t, want, shown.Value, path)
		tested++
	})
	require.Greater(t, tested, 60)
}

// TestSinkKeys: the keys of a type stand beside those of every sink, so none may have the same name.
func TestSinkKeys(t *testing.T) {
	for _, kind := range SinkTypes() {
		sink, ok := NewSink(kind)
		require.True(t, ok)
		fields, _ := members(parts(reflect.ValueOf(&sink).Elem())...)
		all := names(fields)
		slices.Sort(all)
		require.Equal(t, slices.Compact(slices.Clone(all)), all, kind)
	}
}
