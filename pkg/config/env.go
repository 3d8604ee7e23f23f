package config

import (
	"fmt"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/spf13/pflag"
	"go.yaml.in/yaml/v3"
)

const (
	prefix       = "VODRELAY_"
	pathVariable = prefix + "CONFIG"
)

// serviceVariable matches what Kubernetes sets in every container for a Service named vodrelay, or
// vodrelay- and more, such as VODRELAY_PORT=tcp://10.0.0.1:80.
// Source: https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables.
var serviceVariable = regexp.MustCompile(`^VODRELAY_([A-Z0-9_]+_)?(SERVICE_HOST|SERVICE_PORT(_[A-Z0-9_]+)?|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?|PORT=(tcp|udp|sctp):/.*)(=|$)`)

// readEnvironment reads the settings of the environment, and the path of the configuration file.
func readEnvironment(environ []string, r *report) (found map[string]any, path string) {
	found = map[string]any{}
	known := map[string]setting{}
	for _, s := range settings() {
		known[s.variable()] = s
	}
	for _, pair := range environ {
		name, text, _ := strings.Cut(pair, "=")
		if !strings.HasPrefix(name, prefix) {
			continue
		}
		s, ok := known[name]
		switch {
		case ok && text == "" && !s.off: // as if it was not there, which is how many a script leaves a setting out
		case ok:
			putText(found, s, text, name, r)
		case name == pathVariable:
			path = text
		case !serviceVariable.MatchString(pair):
			r.at(place{name: shorten(name)}, "", "unknown variable: "+nearestVariable(name, known))
		}
	}
	return found, path
}

func nearestVariable(name string, known map[string]setting) string {
	suffixes := []string{strings.TrimPrefix(pathVariable, prefix)}
	for _, variable := range slices.Sorted(maps.Keys(known)) {
		if strings.HasPrefix(name, variable+"_") && !isScalar(known[variable].typ) {
			return "set all of it in " + variable + ", as JSON or YAML"
		}
		suffixes = append(suffixes, strings.TrimPrefix(variable, prefix))
	}
	if near := Nearest(strings.TrimPrefix(name, prefix), suffixes); near != "" {
		return "did you mean " + prefix + near + "?"
	}
	return "unset it; vodrelay config show lists the keys, each of which is a variable"
}

// putText stores a setting that was written as text of its own.
func putText(into map[string]any, s setting, text, from string, r *report) {
	if text == "" {
		putEmpty(into, s, from, r)
		return
	}
	if !utf8.ValidString(text) {
		r.at(place{name: from}, s.path, "is not valid UTF-8")
		return
	}
	n, wrong := nodeOf(text, s.typ)
	switch {
	case wrong != nil:
		r.at(place{name: from}, s.path, wrong.text) // its line says nothing
	case n != nil:
		put(into, s.path, &value{n, source{name: from}})
	}
}

// putEmpty stores what was written as empty: a text or a list. Nothing else can be.
func putEmpty(into map[string]any, s setting, from string, r *report) {
	switch {
	case s.typ.Kind() == reflect.Slice:
		put(into, s.path, &value{&yaml.Node{Kind: yaml.SequenceNode}, source{name: from}})
	case s.typ.Kind() == reflect.String || isText(s.typ):
		put(into, s.path, &value{word("!!str", ""), source{name: from}})
	default:
		r.at(place{name: from}, s.path, "is empty: write a value"+example(s.field)+", or leave it out")
	}
}

// nodeOf is the YAML node of a text. Only what has a structure is read as YAML: a word is taken as it is.
func nodeOf(text string, t reflect.Type) (*yaml.Node, *mistake) {
	switch {
	case t.Kind() == reflect.Slice && isScalar(t.Elem()) && !strings.HasPrefix(strings.TrimSpace(text), "["):
		list := &yaml.Node{Kind: yaml.SequenceNode}
		for part := range strings.SplitSeq(text, ",") {
			list.Content = append(list.Content, wordOf(strings.TrimSpace(part), t.Elem()))
		}
		return list, nil
	case isScalar(t):
		return wordOf(text, t), nil
	}
	return parse([]byte(text))
}

func wordOf(text string, t reflect.Type) *yaml.Node {
	if t.Kind() == reflect.String || isText(t) {
		return word("!!str", text)
	}
	return word("", strings.TrimSpace(text)) // a number, which tells its own type
}

const setFlag = "set"

// flagOf is the flag that a setting has of its own; "" for none.
func flagOf(path string) string {
	switch path {
	case "vod.endpoint":
		return "endpoint"
	case "vod.sub_app_ids":
		return "sub-app-ids"
	case "log.level":
		return "log-level"
	case "log.format":
		return "log-format"
	}
	return ""
}

// AddFlags defines the flags that set keys of the configuration: some by their own name, all others by
// --set key=value, with values written as in the environment.
func AddFlags(flags *pflag.FlagSet) {
	for _, s := range settings() {
		if name := flagOf(s.path); name != "" {
			first, _, _ := strings.Cut(s.doc, ". ")
			flags.String(name, "", strings.TrimSuffix(first, ".")+" ("+s.path+")")
			flags.Lookup(name).DefValue = s.def
		}
	}
	flags.StringArray(setFlag, nil, "set any other `key=value` of the configuration, such as vod.rate_limit=20; may be repeated")
}

// readFlags reads the settings of the flags that were given.
func readFlags(flags *pflag.FlagSet, r *report) map[string]any {
	found := map[string]any{}
	if flags == nil {
		return found
	}
	known := map[string]setting{}
	for _, s := range settings() {
		known[s.path] = s
	}
	pairs, _ := flags.GetStringArray(setFlag) // none where the flag is not defined
	for _, pair := range pairs {
		path, text, ok := strings.Cut(pair, "=")
		s, exists := known[path]
		where := place{name: "--" + setFlag}
		switch {
		case !exists:
			text := "unknown key"
			if near := Nearest(path, slices.Sorted(maps.Keys(known))); near != "" {
				text += ": did you mean " + near + "?"
			}
			r.at(where, shorten(path), text)
		case !ok:
			r.at(where, path, "has no value: write --set "+path+"=VALUE")
		case s.secret:
			r.at(where, path, fmt.Sprintf("every user of the machine can see a flag: use %s_file or %s", path, s.variable()))
		default:
			putText(found, s, text, "--set "+path, r)
		}
	}
	for _, s := range settings() {
		if f := flags.Lookup(flagOf(s.path)); f != nil && f.Changed {
			putText(found, s, f.Value.String(), "--"+f.Name, r)
		}
	}
	return found
}
