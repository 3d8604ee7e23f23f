//go:build unix

package mistakes

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vodrelay/vodrelay/cmd/vodrelay/internal/programtest"
	"github.com/vodrelay/vodrelay/pkg/emulator"
)

// rekey changes the key at VOD's side; "": to what it was.
func rekey(key string) action {
	return func(w *world) {
		if key == "" {
			key = emulator.DefaultSecretKey
		}
		w.cloud.SetCredentials(map[string]emulator.Credential{emulator.DefaultSecretID: {SecretKey: key}})
	}
}

// denied has VOD refuse an action with a code.
func denied(action_, code string) action {
	return func(w *world) {
		_, err := w.cloud.AddFault(emulator.Fault{Kind: emulator.FaultError, Action: action_, Code: code, Rate: 1})
		require.NoError(w.t, err)
	}
}

// allowed ends denied.
func allowed(w *world) { w.cloud.ClearFaults() }

// clock sets this machine's clock, as VOD sees it.
func clock(ahead time.Duration) action {
	return func(w *world) { w.cloud.SetClockSkew(-ahead) }
}

// endpointAt restarts the daemon with another address of VOD's API.
func endpointAt(address func(w *world) string) action {
	return func(w *world) {
		w.replace(w.endpointText(), address(w))
		w.halt()
		w.spawn()
	}
}

// serving is the address of a server that answers as the handler does.
func serving(h http.HandlerFunc) func(w *world) string {
	return func(w *world) string {
		server := httptest.NewServer(h)
		w.t.Cleanup(server.Close)
		return server.URL
	}
}

// fromFile is a world whose key is in files.
func fromFile(w *world) {
	toSite(w)
	require.NoError(w.t, os.Mkdir(w.path("keys"), 0o700))
	write("keys/secret_id", emulator.DefaultSecretID)(w)
	write("keys/secret_key", emulator.DefaultSecretKey)(w)
	w.environ = append(w.environ[:2], "CREDENTIALS_DIRECTORY="+w.path("keys"))
}

var cloud = []mistake{
	{name: "VOD: the key is changed there only", shows: `pull: … AuthFailure.SignatureFailure … the SecretKey does not belong to the SecretId: copy both again`, make: rekey("another"), fix: rekey("")},
	{name: "VOD: the key is deleted there", shows: `pull: … AuthFailure.SecretIdNotFound … check it at https://console.cloud.tencent.com/cam/capi`, make: func(w *world) { w.cloud.SetCredentials(map[string]emulator.Credential{"x": {SecretKey: "y"}}) }, fix: rekey("")},
	{name: "VOD: the key is changed here only", shows: `pull: … AuthFailure.SignatureFailure … the SecretKey does not belong to the SecretId`, world: fromFile, make: write("keys/secret_key", "another"), fix: write("keys/secret_key", emulator.DefaultSecretKey)},
	{name: "VOD: the file of the key is deleted", log: `the credential cannot be fetched again; the one in use is kept … the secret key is empty`, world: fromFile, make: removed("keys/secret_key"), fix: write("keys/secret_key", emulator.DefaultSecretKey), spares: true},
	{name: "VOD: the file of the key is empty", log: `the credential cannot be fetched again; the one in use is kept … secret_key: is empty`, world: fromFile, make: write("keys/secret_key", ""), fix: write("keys/secret_key", emulator.DefaultSecretKey), spares: true},
	{name: "VOD: the key with quotes and a line end", log: `the API key is used without what stands around it … the secret key has quotes around it … correct the source`, world: fromFile, make: each(write("keys/secret_key", "'"+emulator.DefaultSecretKey+"'\r\n"), func(w *world) { w.halt(); w.launch() }), fix: write("keys/secret_key", emulator.DefaultSecretKey), spares: true},
	{name: "VOD: the ID and the key are swapped", world: fromFile, shows: `pull: … AuthFailure.SecretIdNotFound … the SecretId does not exist or is disabled`,
		make: each(write("keys/secret_id", emulator.DefaultSecretKey), write("keys/secret_key", emulator.DefaultSecretID), stopped, spawned),
		fix:  each(write("keys/secret_id", emulator.DefaultSecretID), write("keys/secret_key", emulator.DefaultSecretKey))},
	{name: "VOD: the right to confirm is withdrawn", shows: `confirm: … UnauthorizedOperation … allow vod:ConfirmEvents in CAM`, make: denied(emulator.ActionConfirmEvents, "UnauthorizedOperation"), fix: allowed},
	{name: "VOD: the right to read the depth is withdrawn", make: denied(emulator.ActionDescribeEventsState, "UnauthorizedOperation"), fix: allowed, spares: true},
	{name: "VOD: this machine's clock is set 10 minutes ahead", shows: `pull: … AuthFailure.SignatureExpire: this machine's clock is … ahead of the server's: set this machine's clock`, make: clock(10 * time.Minute), fix: clock(0)},
	{name: "VOD: this machine's clock is set 10 minutes back", shows: `pull: … AuthFailure.SignatureExpire: this machine's clock is … behind the server's: set this machine's clock`, make: clock(-10 * time.Minute), fix: clock(0)},
	{name: "VOD: the application is switched to PUSH", log: `callback mode: normal callback (PUSH): no event goes to the queue … switch with … vodrelay mode pull`, make: func(w *world) { require.NoError(w.t, w.cloud.SetMode(app, emulator.ModePush)); w.halt(); w.spawn() }, fix: func(w *world) { require.NoError(w.t, w.cloud.SetMode(app, emulator.ModePull)) }},
	{name: "VOD: vodrelay mode switches to PUSH without a URL", says: `push mode needs an address to post to: add --url`, make: run("mode", "push"), code: 2, spares: true},
	{name: "VOD: vodrelay mode sideways", says: `"sideways": write pull or push`, make: run("mode", "sideways"), code: 2, spares: true},
	{name: "VOD: vodrelay mode for an application that is not there", says: `what to do: check vod.sub_app_ids`, make: run("mode", "pull", "--sub-app-ids", "1500000009"), code: 78, spares: true},
	{name: "VOD: another application that has no events", make: each(func(w *world) { w.replace("sub_app_ids: [1500000001]", "sub_app_ids: [1500000002]") }, func(w *world) { w.halt(); w.launch() }), fix: again},
	{name: "VOD: an endpoint that nobody listens on", shows: `pull: … connection refused: check vod.endpoint and the firewall`, make: endpointAt(func(w *world) string { return "http://" + programtest.FreeAddress(w.t) }), fix: again},
	{name: "VOD: an endpoint that does not exist", shows: `pull: … host vod.nowhere.invalid does not exist: check vod.endpoint`, make: endpointAt(func(*world) string { return "http://vod.nowhere.invalid" }), fix: again},
	{name: "VOD: https where there is http", shows: `pull: … the server does not speak TLS: check vod.endpoint: correct the port, or write http://`, make: endpointAt(func(w *world) string { return "https" + w.endpointText()[4:] }), fix: again},
	{name: "VOD: an endpoint that is a web page", shows: `pull: … the reply is not valid JSON (text/html): something on the way answers in the API's place: check vod.endpoint`, make: endpointAt(serving(func(rw http.ResponseWriter, _ *http.Request) {
		rw.Header().Set("Content-Type", "text/html")
		_, _ = fmt.Fprint(rw, "<!doctype html><title>Welcome</title>")
	})), fix: again},
	{name: "VOD: an endpoint behind a login", shows: `pull: … HTTP 302 Found instead of a reply of the API: check vod.endpoint`, make: endpointAt(serving(func(rw http.ResponseWriter, r *http.Request) { http.Redirect(rw, r, "/login", http.StatusFound) })), fix: again},
	{name: "VOD: an endpoint with a path", says: `has more than scheme, host and port, write for example https://vod.tencentcloudapi.com`, make: restart("\", sub_app_ids", "/v2\", sub_app_ids"), code: 78},
	{name: "VOD: the port of Redis", shows: `pull: … the connection was closed without a reply: if it lasts, something else than the VOD API listens there: check vod.endpoint`, make: endpointAt(func(w *world) string { return "http://" + w.servers.redis().Options().Addr }), fix: again},
	{name: "VOD: a proxy that is not there", shows: `pull: … the proxy 127.0.0.1: … connection refused: check vod.proxy`, make: func(w *world) {
		w.replace("vod: {", "vod: {proxy: \"http://"+programtest.FreeAddress(w.t)+"\", ")
		w.halt()
		w.spawn()
	}, fix: again},
	{name: "VOD: a second consumer takes events", says: `3 events are shown, and not confirmed: back in the queue within 30s`, make: func(w *world) { w.halt(); w.publish(batch); w.command("peek", "-n", "3"); w.spawn() }, fix: nothing, spares: true},
}
