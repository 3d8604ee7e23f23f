//go:build unix

package mistakes

import (
	"fmt"
	"strings"

	"github.com/stretchr/testify/require"

	"github.com/vodrelay/vodrelay/cmd/vodrelay/internal/programtest"
	"github.com/vodrelay/vodrelay/pkg/emulator"
)

const signKey = "abcdefghij0123456789"

// posted is a world in which VOD posts its notifications to vodrelay.
func posted(w *world) {
	toSite(w)
	w.notPulled = true
	w.callback = programtest.FreeAddress(w.t)
	w.text = fmt.Sprintf("sources: [pull, callback]\ncallback: {listen: %q, path: /vod, sign_key: %s}\n", w.callback, signKey) + w.text
	require.NoError(w.t, w.cloud.SetMode(app, emulator.ModePush))
	w.notify("http://"+w.callback+"/vod", signKey)
}

// notify sets where VOD posts, and what signs it.
func (w *world) notify(address, key string) {
	require.NoError(w.t, w.cloud.SetNotification(app, address, key))
}

// signedWith has VOD sign with another key, and posts are made at.
func signedWith(key string) action {
	return func(w *world) { w.notify("http://"+w.callback+"/vod", key) }
}

// postedTo has VOD post to another address, in which {callback} stands for the receiver's.
func postedTo(address string) action {
	return func(w *world) { w.notify(strings.ReplaceAll(address, "{callback}", w.callback), signKey) }
}

// lost is what VOD gives up after three attempts.
var lost = map[string]int{"site": batch}

var callbacks = []mistake{
	{name: "callback: the SignKey is changed at VOD only", log: `callback: a notification was refused`, world: posted, make: signedWith("another0another0"), fix: signedWith(signKey), misses: lost},
	{name: "callback: the SignKey is removed at VOD", log: `callback: a … was refused`, world: posted, make: signedWith(""), fix: signedWith(signKey), misses: lost},
	{name: "callback: a wrong path at VOD", log: `callback: a request was refused`, world: posted, make: postedTo("http://{callback}/vdo"), fix: signedWith(signKey), misses: lost},
	{name: "callback: https where there is http", world: posted, make: postedTo("https://{callback}/vod"), fix: signedWith(signKey), misses: lost},
	{name: "callback: VOD's addresses are not allowed", log: `callback: … stranger`, world: posted, make: func(w *world) {
		w.replace("path: /vod", "path: /vod, allow: [192.0.2.0/24]")
		w.halt()
		w.launch()
	}, fix: again, misses: lost},
	{name: "callback: the SignKey is changed here with the old one kept", world: posted, make: func(w *world) {
		w.replace("sign_key: "+signKey, "sign_key: another0another0, previous_sign_key: "+signKey)
		w.halt()
		w.launch()
	}, fix: again, spares: true},
	{name: "callback: a key that a reload cannot change", log: `some changes need a restart … restart vodrelay to apply callback`, world: posted, make: edit("sign_key: "+signKey, "sign_key: another0another0"), spares: true},
	{name: "callback: the sink is down", world: posted, make: answers(503), fix: accept},
	{name: "callback: a key that is too long", log: refused + `callback.sign_key`, world: posted, make: edit("sign_key: "+signKey, "sign_key: "+strings.Repeat("a", 33)), spares: true},
	{name: "callback: no key on an address that others reach", log: refused + `callback`, world: posted, make: each(func(w *world) { w.replace(", sign_key: "+signKey, "") }, edit("listen: \"127.0.0.1:", "listen: \"0.0.0.0:")), spares: true},
}
