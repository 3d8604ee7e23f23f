//go:build unix

package mistakes

import (
	"os"
	"strings"

	"github.com/stretchr/testify/require"

	"github.com/vodrelay/vodrelay/cmd/vodrelay/internal/programtest"
)

// dead is a world with dead letters: the events that came first, and those of the action.
func dead(w *world) {
	answers(422)(w)
	w.publish(batch)
	w.deadLetters(batch)
	accept(w)
}

// lively sends the dead letters again.
var lively = run("parcels", "replay", "--all", "--yes")

// dropped deletes the parcels of the events that dead made; they are elsewhere then.
var exported = run("parcels", "export", "{dir}/parcels.jsonl")

// commands are those that are not about parcels.
var commands = []mistake{
	{name: "command: misspelled", says: `unknown command "dran": did you mean vodrelay drain?`, make: run("dran"), code: 2, spares: true},
	{name: "command: a flag is misspelled", says: `"0": vodrelay drain takes no arguments`, make: run("drain", "--quiet", "0"), code: 2, spares: true},
	{name: "command: check with a broken file", says: `(site).ulr: unknown key`, make: each(func(w *world) { w.replace("url:", "ulr:") }, run("check")), code: 78, spares: true},
	{name: "command: check while a sink is wrong", says: `warning     sink site (webhook): … answered a HEAD with 404 Not Found`, make: each(answers(404), run("check")), code: 0, fix: accept},
	{name: "command: check of a condition that never holds", says: `warning     sink site, when: "NewFileUplod" is no event type that VOD documents`, make: each(edit("type: webhook", `type: webhook, when: 'type == "NewFileUplod"'`), run("check")), code: 0, misses: map[string]int{"site": batch}},
	{name: "command: check of a sink that is a web page", says: `warning     sink site (webhook): … answered a HEAD with 200 OK and a web page`, make: each(page(200, map[string]string{"Content-Type": "text/html"}, "<html>"), run("check")), code: 0, fix: accept, misses: map[string]int{"site": batch}},
	{name: "command: peek beside the daemon", says: `the queue is empty`, make: run("peek", "-n", "1"), code: 0, spares: true},
	{name: "command: peek without a number", says: `--count: 0: must be at least 1`, make: run("peek", "-n", "0"), code: 2, spares: true},
	{name: "command: drain of the wrong application", says: `drain ended; confirmed=0 … empty=true`, make: func(w *world) {
		w.halt()
		w.command("drain", "--quiet-for", "0", "--sub-app-ids", "1500000002")
		w.spawn()
	}, code: 0, fix: nothing, spares: true},
	{name: "command: drain of an application that is not there", says: `what to do: check vod.sub_app_ids`, make: func(w *world) {
		w.halt()
		w.command("drain", "--quiet-for", "0", "--sub-app-ids", "1500000009")
		w.spawn()
	}, code: 78, fix: nothing, spares: true},
	{name: "command: drain into a sink that is wrong", says: `the queue is empty, but 1 parcel waits to be sent again and 0 are dead: see vodrelay parcels list`, make: func(w *world) {
		w.halt()
		answers(404)(w)
		w.publish(1)
		w.command("drain", "--quiet-for", "0")
		accept(w)
		w.spawn()
	}, code: 3, fix: nothing, spares: true},
	{name: "command: drain with a limit without unit", says: `invalid argument "10" for "--for" flag: must be a duration like "30s" or "5m"`, make: run("drain", "--for", "10"), code: 2, spares: true},
	{name: "command: config show of a broken file", says: `(site).ulr: unknown key`, make: each(func(w *world) { w.replace("url:", "ulr:") }, run("config", "show")), code: 78, spares: true},
	{name: "command: a configuration that is not there", says: `/nowhere/vodrelay.yaml: the configuration file cannot be read: no such file or directory`, make: run("check", "-c", "/nowhere/vodrelay.yaml"), code: 78, spares: true},
	{name: "command: --set of an unknown key", says: `vod.rate_limt: unknown key: did you mean vod.rate_limit?`, make: run("check", "--set", "vod.rate_limt=1"), code: 78, spares: true},
	{name: "command: --set without a value", says: `vod.rate_limit: has no value: write --set vod.rate_limit=VALUE`, make: run("check", "--set", "vod.rate_limit"), code: 78, spares: true},
	{name: "command: send to a URL where nobody is", says: `line 1: not accepted: connection: … connection refused`, make: each(notification, func(w *world) {
		w.command("send", "{dir}/n.jsonl", "--to", "http://"+programtest.FreeAddress(w.t), "--tries", "1")
	}), code: 1, spares: true},
	{name: "command: send without a scheme", says: `--to: … write https://host/path or http://host:port/path`, make: each(notification, run("send", "{dir}/n.jsonl", "--to", "example.com/vod")), code: 2, spares: true},
	{name: "command: send of a file that is not there", says: `none: no such file or directory`, make: run("send", "{dir}/none", "--to", "http://127.0.0.1:1"), code: 2, spares: true},
	{name: "command: send of a file that is no JSON", says: `line 1: is not a JSON object`, make: each(write("n.jsonl", "hello\n"), func(w *world) { w.command("send", "{dir}/n.jsonl", "--to", w.endpoint.URL) }), code: 1, spares: true},
	{name: "command: emulator on a port that is taken", says: `address already in use`, make: func(w *world) { w.ends("emulator", "--listen", w.admin) }, code: 1, spares: true},
	{name: "command: completion for an unknown shell", says: `unknown command "cmd.exe"`, make: func(w *world) { w.ends("completion", "cmd.exe") }, code: 2, spares: true},
}

// notification makes a file of one.
func notification(w *world) {
	write("n.jsonl", `{"EventType":"NewFileUpload","FileUploadEvent":{"FileId":"1"}}`+"\n")(w)
}

// parcels are commands about parcels, beside the daemon that has the store.
var parcels = []mistake{
	{name: "parcels: nothing selects what to drop", says: `which parcels? Name IDs, select with flags, or add --all for every one`, make: each(dead, run("parcels", "drop", "--yes")), code: 2, fix: lively},
	{name: "parcels: nobody is there to answer", says: `nothing was changed: there is no terminal to ask at: add --yes in a script`, make: each(dead, run("parcels", "drop", "--all")), code: 2, fix: lively},
	{name: "parcels: a variable that is empty", says: `--sink: is empty: is a variable without a value?`, make: each(dead, run("parcels", "drop", "--yes", "--sink", "")), code: 2, fix: lively},
	{name: "parcels: an ID that is too short", says: `ID 1: "0a" is too short: write the whole ID, or at least its first 8 digits`, make: each(dead, run("parcels", "drop", "--yes", "0a")), code: 2, fix: lively},
	{name: "parcels: an ID that is not there", says: `no parcel of event ffffffffffffffffffffffffffffffff fits`, make: each(dead, run("parcels", "drop", "--yes", strings.Repeat("f", 32))), code: 1, fix: lively},
	{name: "parcels: a sink that is not there", says: `there is no sink sit in the configuration … did you mean site?`, make: each(dead, run("parcels", "drop", "--yes", "--sink", "sit")), code: 0, fix: lively},
	{name: "parcels: a sink that is not there, to list", says: `there is no sink sit in the configuration … did you mean site?`, make: each(dead, run("parcels", "list", "--sink", "sit")), code: 0, fix: lively},
	{name: "parcels: a state that does not exist", says: `--state: "deed": must be waiting or dead`, make: each(dead, run("parcels", "replay", "--yes", "--state", "deed")), code: 2, fix: lively},
	{name: "parcels: an age without unit", says: `--older-than: "7": write a duration of more than 0 such as 24h`, make: each(dead, run("parcels", "drop", "--yes", "--older-than", "7")), code: 2, fix: lively},
	{name: "parcels: a dry run taken for the real one", says: `nothing was changed (--dry-run)`, make: each(dead, run("parcels", "replay", "--all", "--dry-run")), code: 0, fix: lively},
	{name: "parcels: a move to a sink that is not there", says: `did you mean site?`, make: each(dead, run("parcels", "move", "--yes", "--from", "site", "--to", "sit")), code: 1, fix: lively},
	{name: "parcels: a move from a sink that is there", says: `from: sink site is in the configuration: it sends its parcels itself`, make: each(dead, run("parcels", "move", "--yes", "--from", "site", "--to", "site")), code: 1, fix: lively},
	{name: "parcels: an export into a directory", says: `is there already`, make: each(dead, run("parcels", "export", "{dir}")), code: 1, fix: lively},
	{name: "parcels: an export where there is no room", says: `export: nothing is kept in … no space left on device`, world: onItsVolume, make: each(dead, fill("state"), run("parcels", "export", "{dir}/state/parcels.jsonl")), code: 1, fix: each(removed("state/ballast"), lively)},
	{name: "parcels: an import of what is there", says: `0 parcels are stored`, make: each(dead, exported, run("parcels", "import", "{dir}/parcels.jsonl")), code: 0, fix: lively},
	{name: "parcels: an import of half a file", says: `is not a parcel as vodrelay parcels export writes it`, make: each(dead, exported, func(w *world) {
		info, err := os.Stat(w.path("parcels.jsonl"))
		require.NoError(w.t, err)
		require.NoError(w.t, os.Truncate(w.path("parcels.jsonl"), info.Size()/2))
	}, run("parcels", "import", "{dir}/parcels.jsonl")), code: 1, fix: lively},
	{name: "parcels: an import of another file", says: `line 1: is not a parcel as vodrelay parcels export writes it`, make: each(dead, run("parcels", "import", "{dir}/vodrelay.yaml")), code: 1, fix: lively},
	{name: "parcels: an import of a file that is not there", says: `none: no such file or directory`, make: each(dead, run("parcels", "import", "{dir}/none")), code: 1, fix: lively},
	{name: "parcels: the store of another configuration", says: `there is no store at /nowhere/s.db`, make: each(dead, run("parcels", "list", "--set", "store.path=/nowhere/s.db")), code: 78, fix: lively},
	{name: "parcels: the address of another admin server", says: `3 shown; in all 0 waiting, 3 dead`, make: each(dead, func(w *world) { w.command("parcels", "list", "--set", "admin.listen="+programtest.FreeAddress(w.t)) }), code: 0, fix: lively},
	{name: "parcels: all are dropped", says: `3 parcels are deleted`, make: each(dead, run("parcels", "drop", "--all", "--yes")), code: 0, fix: nothing, misses: map[string]int{"site": batch}},
	{name: "parcels: they are exported, dropped and imported", says: `3 parcels are deleted`, make: each(dead, exported, run("parcels", "drop", "--all", "--yes")), code: 0, fix: each(run("parcels", "import", "{dir}/parcels.jsonl"), lively)},
}

// deadLetters waits until there are so many.
func (w *world) deadLetters(n int64) {
	w.t.Helper()
	w.eventually("there are dead letters", func() bool { st := w.status(); return st.Parcels != nil && st.Parcels.Dead == n })
}
