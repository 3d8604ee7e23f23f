//go:build unix

package mistakes

import (
	"os"
	"strings"
	"unicode/utf16"

	"github.com/stretchr/testify/require"
)

const (
	refused  = "error the configuration was not reloaded: the old one goes on … "
	reloaded = "info configuration reloaded"
	unrouted = "warn events that no sink wanted were confirmed … types=NewFileUpload: … correct `when` of the sinks"
)

// rewrite changes the configuration as a whole and reloads it.
func rewrite(change func(text string) string) action {
	return func(w *world) {
		w.text = change(w.text)
		w.write()
		w.reload()
	}
}

// inUTF16 is text as some editors save it.
func inUTF16(text string) string {
	var b strings.Builder
	for _, unit := range utf16.Encode([]rune("\ufeff" + text)) {
		b.Write([]byte{byte(unit), byte(unit >> 8)})
	}
	return b.String()
}

// reloads are configurations that a reload refuses, or takes although they look wrong: no event waits meanwhile.
var reloads = []mistake{
	{name: "typo in a key", log: refused + `sinks[0] (site).ulr: unknown key … did you mean url?`, make: edit("url:", "ulr:"), spares: true},
	{name: "typo in a section", log: refused + `rety: unknown key … did you mean retry?`, make: edit("retry:", "rety:"), spares: true},
	{name: "a key in the wrong section", log: refused + `vod.max_in_hand: unknown key: the keys here are endpoint, sub_app_ids`, make: edit("vod: {", "vod: {max_in_hand: 64, "), spares: true},
	{name: "a tab as indentation", log: refused + `vodrelay.yaml:5: is not valid YAML: a tab stands before the first word: indent with spaces`, make: edit("- {name", "\t- {name"), spares: true},
	{name: "a key twice", log: refused + `(site).type: is set twice … keep one`, make: edit("type: webhook", "type: webhook, type: webhook"), spares: true},
	{name: "a bracket that is missing", log: refused + `is not valid YAML … check the indentation, quotes and brackets`, make: edit("{max_attempts: 1}", "{max_attempts: 1"), spares: true},
	{name: "a number without unit as a duration", log: refused + `(site).timeout: 10: has no unit: write 10s`, make: edit("type: webhook", "type: webhook, timeout: 10"), spares: true},
	{name: "a unit that does not exist", log: refused + `(site).timeout: "10sec": must be a number with its unit (ms, s, m or h), such as 10s`, make: edit("type: webhook", "type: webhook, timeout: 10sec"), spares: true},
	{name: "a negative number", log: refused + `(site).concurrency: -1: must be 1 or more`, make: edit("type: webhook", "type: webhook, concurrency: -1"), spares: true},
	{name: "a huge number", log: refused + `(site).concurrency: 99999999999999999999: must be a whole number, such as 64`, make: edit("type: webhook", "type: webhook, concurrency: 99999999999999999999"), spares: true},
	{name: "a number as text", log: refused + `(site).concurrency: "many": must be a whole number … leave out the quotes`, make: edit("type: webhook", `type: webhook, concurrency: "many"`), spares: true},
	{name: "a list in place of a text", log: refused + `(site).method: must be a text`, make: edit("type: webhook", "type: webhook, method: [POST]"), spares: true},
	{name: "a text in place of a list", log: refused + `vod.sub_app_ids: must be a list: write [all]`, make: edit("sub_app_ids: [1500000001]", "sub_app_ids: all"), spares: true},
	{name: "a boolean as text", log: refused + `(archive).sync: "off": must be true or false: leave out the quotes`, world: toFile, make: edit("type: file", `type: file, sync: "off"`), spares: true},
	{name: "a boolean of YAML 1.1", log: refused + `(archive).sync: "yes": must be true or false`, world: toFile, make: edit("type: file", "type: file, sync: yes"), spares: true},
	{name: "permissions that are not octal", log: refused + `(archive).mode: "0688" is not a file mode: write octal digits, such as 0640`, world: toFile, make: edit("type: file", "type: file, mode: 0688"), spares: true},
	{name: "permissions without a leading zero", log: reloaded, world: toFile, make: edit("type: file", "type: file, mode: 640"), spares: true},
	{name: "a byte order mark", log: reloaded, make: rewrite(func(s string) string { return "\ufeff" + s }), spares: true},
	{name: "line ends of Windows", log: reloaded, make: rewrite(func(s string) string { return strings.ReplaceAll(s, "\n", "\r\n") }), spares: true},
	{name: "UTF-16", log: reloaded, make: rewrite(inUTF16), spares: true},
	{name: "an empty file", log: refused + `sinks: none is configured any more … name the sinks`, make: rewrite(func(string) string { return "" }), spares: true},
	{name: "a file of comments", log: refused + `sinks: none is configured any more … name the sinks`, make: rewrite(func(s string) string { return "# " + strings.ReplaceAll(strings.TrimSpace(s), "\n", "\n# ") }), spares: true},
	{name: "the sinks are cut off", log: refused + `sinks: none is configured any more … name the sinks`, make: rewrite(func(s string) string { text, _, _ := strings.Cut(s, "sinks:"); return text }), spares: true},
	{name: "a file of another program", log: refused + `is not valid YAML`, make: rewrite(func(string) string { return "[Unit]\nDescription=vodrelay\n" }), spares: true},
	{name: "the file is a directory", log: refused + `the configuration file cannot be read: is a directory`, make: func(w *world) {
		require.NoError(w.t, os.Remove(w.config()))
		require.NoError(w.t, os.Mkdir(w.config(), 0o700))
		w.reload()
		require.NoError(w.t, os.Remove(w.config()))
	}, spares: true},
	{name: "the file is gone", log: refused + `the configuration file cannot be read: no such file or directory`, make: func(w *world) { require.NoError(w.t, os.Remove(w.config())); w.reload() }, spares: true},
	{name: "an unknown type of sink", log: refused + `(site).type: "webhok": unknown type: did you mean webhook?`, make: edit("type: webhook", "type: webhok"), spares: true},
	{name: "two sinks of one name", log: refused + `sinks[1] (site).name: "site": sinks[0] has this name too: give each sink a name of its own`, make: edit("- {", "- {name: site, type: stdout}\n- {"), spares: true},
	{name: "a name with a blank", log: refused + `(my site).name: "my site": write 1 to 63 letters, digits, dots, dashes and underscores`, make: edit("name: site", "name: my site"), spares: true},
	{name: "a misspelled scheme", log: refused + `(site).url: "htp://127.0.0.1: … must start with https:// or http://`, make: edit(`url: "http://`, `url: "htp://`), spares: true},
	{name: "quotes inside quotes", log: refused + `(site).url: … cannot be parsed: leave out quotes and blanks`, make: edit(`url: "http://`, `url: "'http://`), spares: true},
	{name: "a secret file that is missing", log: refused + `(site).secret_file: "/nowhere/secret": no such file or directory … let the user that runs vodrelay read it`, make: edit("type: webhook", "type: webhook, secret_file: /nowhere/secret"), spares: true},
	{name: "a certificate without its key", log: refused + `(site).tls.key_file: "": name the key of tls.cert_file`, make: edit("type: webhook", "type: webhook, tls: {cert_file: {dir}/vodrelay.yaml}"), spares: true},
	{name: "a CA that is no certificate", log: refused + `(site).tls.ca_file: … has no certificate in PEM form`, make: edit("type: webhook", "type: webhook, tls: {ca_file: {dir}/vodrelay.yaml}"), spares: true},
	{name: "a level of the log that does not exist", log: refused + `log.level: "verbose": must be one of debug, info, warn, error`, make: edit("vod: {", "log: {level: verbose}\nvod: {"), spares: true},
	{name: "a store that a reload cannot change", log: `some changes need a restart … restart vodrelay to apply store; everything else is in effect`, make: edit("s.db", "other.db"), spares: true},
	{name: "an application that a reload cannot change", log: `some changes need a restart … restart vodrelay to apply vod; everything else is in effect`, make: edit("[1500000001]", "[1500000001, 1500000002]"), spares: true},
}

// conditions are mistakes in expressions.
var conditions = []mistake{
	{name: "an unknown name in a condition", log: refused + `(site).when: expression 'typ == … column 1: unknown name typ: did you mean type?`, make: edit("type: webhook", `type: webhook, when: 'typ == "NewFileUpload"'`), spares: true},
	{name: "one = in a condition", log: refused + `(site).when: … column 6: unexpected token "=": write == to compare`, make: edit("type: webhook", `type: webhook, when: 'type = "NewFileUpload"'`), spares: true},
	{name: "a condition that is no condition", log: refused + `(site).when: expression 'type': the result must be true or false, not string: compare it with something`, make: edit("type: webhook", `type: webhook, when: 'type'`), spares: true},
	{name: "a field that VOD does not have", log: refused + `(site).when: … unknown field FileID: did you mean FileId?`, make: edit("type: webhook", `type: webhook, when: 'FileUploadEvent.FileID != ""'`), spares: true},
	{name: "a quotation mark that is missing", log: refused + `(site).when: … literal not terminated: the language is at https://expr-lang.org/docs/language-definition`, make: edit("type: webhook", `type: webhook, when: 'type == "NewFileUpload'`), spares: true},
	{name: "a condition for an event type that does not exist", log: unrouted, make: edit("type: webhook", `type: webhook, when: 'type == "NewFileUplod"'`), misses: map[string]int{"site": batch}},
	{name: "a condition that is never true", log: unrouted, make: edit("type: webhook", `type: webhook, when: 'false'`), misses: map[string]int{"site": batch}},
	{name: "a filter that drops everything", make: edit("sinks:", "processors: [{filter: 'type == \"FileDeleted\"'}]\nsinks:"), misses: map[string]int{"site": batch}},
	{name: "an unknown function in a processor", log: refused + `processors[0].set.Name: … unknown name lowercase: did you mean lower?`, make: edit("sinks:", "processors: [{set: {Name: lowercase(type)}}]\nsinks:"), spares: true},
	{name: "two steps in one processor", log: refused + `processors[0]: 2 of filter, project and set are given: write exactly one in each processor`, make: edit("sinks:", "processors: [{filter: 'true', set: {a: id}}]\nsinks:"), spares: true},
	{name: "a processor that fails on every event", log: `events became dead letters … sink=- … processor 1: expression 'int(type)', column 1: int does not take a text … vodrelay parcels replay --state dead --sink -`, make: edit("sinks:", "processors: [{set: {Name: 'int(type)'}}]\nsinks:"),
		fix: each(restore, run("parcels", "replay", "--sink", "-", "--yes"))},
}

// restarts are mistakes that show when the daemon is started again, with its exit code.
var starts = []mistake{
	{name: "restart with a typo in a key", says: `(site).ulr: unknown key … did you mean url?`, make: restart("url:", "ulr:"), code: 78},
	{name: "restart with a misspelled variable", says: `VODRELAY_VOD_RATE_LIMT: unknown variable: did you mean VODRELAY_VOD_RATE_LIMIT?`, make: variable("VODRELAY_VOD_RATE_LIMT=50"), fix: unset, code: 78},
	{name: "restart with a variable of a wrong type", says: `VODRELAY_RELAY_STOP_GRACE: relay.stop_grace: 5: has no unit: write 5s`, make: variable("VODRELAY_RELAY_STOP_GRACE=5"), fix: unset, code: 78},
	{name: "restart with a variable for one item", says: `VODRELAY_SINKS_0_URL: unknown variable: set all of it in VODRELAY_SINKS, as JSON or YAML`, make: variable("VODRELAY_SINKS_0_URL=http://127.0.0.1:1"), fix: unset, code: 78},
	{name: "restart with another file", says: `vodrelay.yml: the configuration file cannot be read: no such file or directory`, make: func(w *world) { w.halt(); w.command("run", "-c", w.path("vodrelay.yml")) }, code: 78},
	{name: "restart with a misspelled flag", says: `unknown flag: --confg: did you mean --config?`, make: func(w *world) { w.halt(); w.command("run", "--confg", "x") }, code: 2},
	{name: "restart with a misspelled command", says: `unknown command "rnu": did you mean vodrelay run?`, make: func(w *world) { w.halt(); w.command("rnu") }, code: 2},
	{name: "restart with a secret in --set", says: `sinks[0] (webhook).secret: every user of the machine can see a flag: set VODRELAY_SINKS, or write it in the configuration file`, make: func(w *world) {
		w.halt()
		w.command("run", "--set", "sinks=[{type: webhook, url: http://x, secret: hunter2}]")
	}, code: 78},
	{name: "restart with a typo in --set", says: `relay.max_in_hnad: unknown key: did you mean relay.max_in_hand?`, make: func(w *world) { w.halt(); w.command("run", "--set", "relay.max_in_hnad=64") }, code: 78},
	{name: "restart while the old one runs", says: `another vodrelay uses the store`, make: run("run"), code: 1, spares: true},
	{name: "restart with the wrong application", says: `what to do: check vod.sub_app_ids`, make: restart("sub_app_ids: [1500000001]", "sub_app_ids: [1500000009]"), code: 78},
	{name: "restart with a wrong key", says: `what to do: the SecretKey does not belong to the SecretId`, make: each(rekey("another"), func(w *world) { w.halt(); w.ends("run") }), fix: each(rekey(""), restore), code: 78},
	{name: "restart without a key", says: `TENCENTCLOUD_SECRET_ID is set, but TENCENTCLOUD_SECRET_KEY is not`, make: func(w *world) { w.environ = w.environ[:3]; w.halt(); w.ends("run") }, fix: func(w *world) {
		w.environ = append(w.environ, "TENCENTCLOUD_SECRET_KEY=emulator-secret-key")
		restore(w)
	}, code: 78},
	{name: "restart with the port of the admin server taken", says: `what to do: set admin.listen to a free address of this machine`, make: func(w *world) {
		w.site()
		edit(w.admin, w.endpoint.Listener.Addr().String())(w)
		w.halt()
		w.ends("run")
	}, world: toFile, code: 1},
}

// variable restarts the daemon with one more variable.
func variable(text string) action {
	return func(w *world) {
		w.environ = append(w.environ, text)
		w.halt()
		w.ends("run")
	}
}

// unset takes the last variable away again.
func unset(w *world) {
	w.environ = w.environ[:len(w.environ)-1]
	restore(w)
}
