package config

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/spf13/pflag"
	"github.com/stretchr/testify/require"

	"github.com/vodrelay/vodrelay/pkg/pipeline"
)

// planted are values with a secret in them, as one writes the address of a server, a proxy, a webhook or a database, be it
// under a key that takes none.
var planted = []string{
	"https://user:canary@host", "https://host/robot/send?key=canary", "user:canary@host:1", "host=db password=canary", "https://user:can ary canary@host",
}

// bare are those of keys that hold an address or a secret and nothing else.
var bare = []string{
	"https://canary@host:1", "https://user:ca/canary@host/", "https://host/canary", "https://host?canary", "https://host#canary", "https://user:canary",
	"HTTP://user:canary@host/%zz", "ftp://user:canary@host:x/canary", "user:canary@host/canary", "nats://user:canary@a,nats://user:canary@b",
	"postgres://user:canary@a,b:1/db?x=canary", "https://host/canary ", "host/canary", "host:1?canary", "user:canary",
}

// smallest are sinks with what their types ask for, so that one more key is all that can be wrong.
var smallest = map[string]map[string]any{
	"file": {"path": "/tmp/x"}, "webhook": {"url": "https://example.com"}, "exec": {"command": []string{"true"}},
	"kafka": {"brokers": []string{"a"}, "topic": "t"}, "nats": {"servers": []string{"nats://a"}, "subject": "s"},
	"redis": {"addresses": []string{"a"}, "key": "k"}, "rabbitmq": {"addresses": []string{"a"}, "exchange": "e", "username": "u", "password": "p"},
	"postgres": {"url": "postgres://a/b"}, "knative": {"url": "https://example.com"},
}

// TestPlantedSecrets writes each of them under each key there is, in a file, the environment and a flag, and reads what
// comes of it: the error, or the configuration as it is shown.
func TestPlantedSecrets(t *testing.T) {
	t.Parallel()
	c := Default()
	c.Processors, c.Sinks = []pipeline.ProcessorConfig{{}}, nil
	for _, kind := range SinkTypes() {
		sink, _ := NewSink(kind)
		c.Sinks = append(c.Sinks, sink)
	}
	refused, shown, file := 0, 0, filepath.Join(t.TempDir(), "vodrelay.yaml")
	c.each(func(path string, f field, v reflect.Value) {
		texts := planted
		if f.secret || strings.HasSuffix(f.name, "url") || strings.HasSuffix(f.name, "endpoint") || f.name == "addresses" || f.name == "brokers" || f.name == "servers" || f.name == "proxy" {
			texts = append(texts[:len(texts):len(texts)], bare...)
		}
		if f.secret {
			texts = append(texts, "canary", "canarycanarycanary", "A=canary")
		}
		if f.secret && !f.namesShown { // base64 ends like this
			texts = append(texts, "canarycanarycanary=", "canarycanarycanary==")
		}
		for _, text := range texts {
			values := plant(v.Type(), f, text)
			if len(texts) == len(planted) { // one that takes neither
				values = values[:1]
			}
			for i, value := range values {
				root, document := documentWith(path, value)
				written, err := json.Marshal(map[string]any{root: document})
				require.NoError(t, err)
				flat, err := json.Marshal(document)
				require.NoError(t, err)
				loads := map[string]func() (*Config, error){
					"file": func() (*Config, error) {
						require.NoError(t, os.WriteFile(file, written, 0o600))
						return Load(LoadOptions{Path: file})
					},
				}
				if isList := root == "sinks" || root == "processors"; i == 0 && (isList || v.Kind() == reflect.String) {
					name, line := path, text
					if isList {
						name, line = root, string(flat)
					}
					loads["environment"] = func() (*Config, error) {
						return Load(LoadOptions{NoFile: true, Environ: []string{setting{path: name}.variable() + "=" + line}})
					}
					loads["flag"] = func() (*Config, error) {
						flags := pflag.NewFlagSet("test", pflag.ContinueOnError)
						AddFlags(flags)
						require.NoError(t, flags.Set(setFlag, name+"="+line))
						return Load(LoadOptions{NoFile: true, Flags: flags})
					}
				}
				for source, load := range loads {
					c, err := load()
					if err != nil {
						require.NotContains(t, err.Error(), "canary", "%s: %s: %v", source, path, value)
						refused++
						continue
					}
					require.False(t, source == "flag" && f.secret && !f.firstShown, "a flag took the secret %s", path)
					for _, format := range []string{"yaml", "json"} {
						text, err := c.Redacted(format)
						require.NoError(t, err)
						require.NotContains(t, string(text), "canary", "%s: %s: %v", source, path, value)
					}
					shown++
				}
			}
		}
	})
	require.Greater(t, refused, 1000)
	require.Greater(t, shown, 100)
	t.Log(refused, "refused,", shown, "shown")
}

// plant gives values of a key of type t with the text in them; one of another type too.
func plant(t reflect.Type, f field, text string) []any {
	switch t.Kind() {
	case reflect.Slice:
		if f.firstShown { // the name of a program is no secret
			return []any{[]string{"true", text}, text}
		}
		return []any{[]string{text}, []string{"true", text}, text}
	case reflect.Map:
		key := strings.ReplaceAll(text, " ", "")
		if !strings.Contains(key, "://") { // a name is no secret
			key = "b"
		}
		return []any{map[string]string{"a": text}, map[string]string{key: "a"}, text}
	default:
		return []any{text, []string{text}, map[string]string{strings.ReplaceAll(text, " ", ""): text}}
	}
}

// documentWith has the key at path, and around it what is needed for it to be read.
func documentWith(path string, value any) (root string, document any) {
	root, rest, _ := strings.Cut(path, ".")
	if name, _, isList := strings.Cut(root, "["); isList {
		one := map[string]any{}
		if name == "sinks" {
			var i int
			for i = range SinkTypes() {
				if root == item("sinks", i) {
					break
				}
			}
			one["type"] = SinkTypes()[i]
			for k, v := range smallest[SinkTypes()[i]] {
				one[k] = v
			}
		}
		set(one, rest, value)
		return name, []any{one}
	}
	if rest == "" {
		return root, value
	}
	section := map[string]any{}
	set(section, rest, value)
	return root, section
}

// set writes value at a path of nested maps.
func set(into map[string]any, path string, value any) {
	first, rest, nested := strings.Cut(path, ".")
	if !nested {
		into[first] = value
		return
	}
	section := map[string]any{}
	into[first] = section
	set(section, rest, value)
}
