package config

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"reflect"
	"strings"

	"github.com/spf13/pflag"
	"github.com/spf13/viper"
	"go.yaml.in/yaml/v3"
)

// LoadOptions say where the configuration comes from. The zero value gives the defaults, or what a file in
// one of the usual places says.
type LoadOptions struct {
	// Path is the configuration file. "" stands for VODRELAY_CONFIG in Environ, then for the first of
	// Search that exists.
	Path string
	// Search are the usual places; nil stands for SearchPaths.
	Search []string
	// NoFile reads no file at all.
	NoFile bool
	// Environ is the environment as os.Environ gives it. What does not begin with VODRELAY_ is ignored.
	Environ []string
	// Flags are those that AddFlags defined; nil for none.
	Flags *pflag.FlagSet
}

// SearchPaths are the places where the configuration file is looked for when none is named.
func SearchPaths() []string { return []string{"vodrelay.yaml", "/etc/vodrelay/vodrelay.yaml"} }

// maxFile is the largest configuration that is read, in bytes.
const maxFile = 1 << 20

// Load reads the configuration: flags before the environment before the file before the defaults. The error
// is Errors, with everything that is wrong.
//
// The file is YAML, of which JSON is a part. ${NAME} has no meaning in it. A key without a value is not
// set. Each setting, lists such as sinks included, is taken as a whole from the source that has it.
//
// In the environment, VODRELAY_ and the path of a key in capitals, such as VODRELAY_VOD_RATE_LIMIT, sets
// it; an empty variable does not, except VODRELAY_ADMIN_LISTEN, where empty means that there is no admin server. An
// empty flag sets an empty value. A list is separated by commas or written as JSON; sinks and processors
// are JSON or YAML. Variables that Kubernetes makes for a Service are ignored.
func Load(opts LoadOptions) (*Config, error) {
	r := newReport()
	c := Default()
	environment, path := readEnvironment(opts.Environ, r)
	if opts.Path != "" {
		path = opts.Path
	}
	if !opts.NoFile {
		c.File = find(path, opts)
	}
	layers := viper.New()
	for _, layer := range []map[string]any{readFile(c.File, r), environment, readFlags(opts.Flags, r)} {
		if err := layers.MergeConfigMap(layer); err != nil {
			return nil, Errors{{Text: err.Error()}}
		}
	}

	root := reflect.ValueOf(c).Elem()
	for _, s := range settings() {
		v, ok := layers.Get(s.path).(*value)
		if !ok {
			continue
		}
		d := decoder{report: r, from: v.from}
		d.decode(v.node, s.path, at(root, s.path), s.field)
	}
	_, named := layers.Get("sinks").(*value)
	if c.NoSinks = !named || len(c.Sinks) == 0; c.NoSinks {
		c.Sinks = defaultSinks()
	}
	if !r.unread {
		c.validate(r)
		checkFiles(r, c)
	}
	if err := r.err(); err != nil {
		return nil, err
	}
	return c, nil
}

// value is one setting of one source, as it was written. To viper it is opaque, so that nothing in it loses
// its type or the letter case of its keys.
type value struct {
	node *yaml.Node
	from source
}

// put stores v in nested maps, as viper wants them.
func put(into map[string]any, path string, v *value) {
	parts := strings.Split(path, ".")
	for _, part := range parts[:len(parts)-1] {
		section, ok := into[part].(map[string]any)
		if !ok {
			section = map[string]any{}
			into[part] = section
		}
		into = section
	}
	into[parts[len(parts)-1]] = v
}

// at is the field of the struct in v with the path.
func at(v reflect.Value, path string) reflect.Value {
	for name := range strings.SplitSeq(path, ".") {
		for _, f := range fieldsOf(v.Type()) {
			if f.name == name {
				v = v.FieldByIndex(f.index)
				break
			}
		}
	}
	return v
}

// find is the file to read; "" for none.
func find(path string, opts LoadOptions) string {
	if path != "" {
		return path
	}
	search := opts.Search
	if search == nil {
		search = SearchPaths()
	}
	for _, path := range search {
		if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
			return path // one that cannot be read is reported
		}
	}
	return ""
}

// readFile reads the settings of a file.
func readFile(path string, r *report) map[string]any {
	found := map[string]any{}
	if path == "" {
		return found
	}
	text, err := readLimited(path)
	if err != nil {
		r.at(place{name: path}, "", "the configuration file cannot be read: "+err.Error())
		r.unread = true
		return found
	}
	root, wrong := parse(text)
	switch {
	case wrong != nil:
		r.at(place{path, wrong.line}, "", wrong.text)
		r.unread = true
	case root != nil:
		d := decoder{report: r, from: source{path, true}}
		d.collect(root, "", reflect.TypeFor[Config](), found)
	}
	return found
}

func readLimited(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, reason(err)
	}
	defer f.Close() //nolint:errcheck // was only read
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	switch {
	case err != nil:
		return nil, reason(err)
	case len(text) > maxFile:
		return nil, fmt.Errorf("is larger than %d bytes", maxFile)
	}
	return text, nil
}

// reason is the error without the path and the system call.
func reason(err error) error {
	var at *fs.PathError
	if errors.As(err, &at) {
		return at.Err
	}
	return err
}

// checkFiles reports the files that keys such as secret_key_file name and that cannot be read, so far as
// the component has not. A pipe is left for its one reader.
func checkFiles(r *report, c *Config) {
	c.each(func(path string, f field, v reflect.Value) {
		if !strings.HasSuffix(f.name, "_file") || v.Kind() != reflect.String || v.String() == "" || r.has(path) {
			return
		}
		info, err := os.Stat(v.String())
		switch {
		case err != nil:
		case info.IsDir():
			err = errors.New("is a directory")
		case info.Mode().IsRegular():
			var file *os.File
			if file, err = os.Open(v.String()); err == nil {
				_ = file.Close() // nothing was read or written
			}
		}
		if err != nil {
			r.add(path, fmt.Sprintf("%s: cannot be read: %s: name a file that exists and that this user may read", quote(v.String()), reason(err)))
		}
	})
}

// each calls f with every scalar, list and map of the configuration.
func (c *Config) each(f func(path string, f field, v reflect.Value)) {
	walk("", f, reflect.ValueOf(c).Elem())
}

func walk(path string, visit func(string, field, reflect.Value), structs ...reflect.Value) {
	fields, values := members(structs...)
	for i, f := range fields {
		path, v := join(path, f.name), values[i]
		switch {
		case isSection(f.typ):
			walk(path, visit, v)
		case f.typ.Kind() == reflect.Slice && isSection(f.typ.Elem()):
			for i := range v.Len() {
				walk(item(path, i), visit, parts(v.Index(i))...)
			}
		default:
			visit(path, f, v)
		}
	}
}
