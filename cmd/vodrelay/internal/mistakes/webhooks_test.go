//go:build unix

package mistakes

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vodrelay/vodrelay/cmd/vodrelay/internal/programtest"
)

// accept has the webhook accept again.
func accept(w *world) { w.endpoint.answer(nil) }

// page has the webhook answer as a web page does.
func page(status int, headers map[string]string, body string) action {
	return func(w *world) {
		w.endpoint.answer(http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
			for name, value := range headers {
				rw.Header().Set(name, value)
			}
			rw.WriteHeader(status)
			_, _ = rw.Write([]byte(body))
		}))
	}
}

// elsewhere has the webhook go to another address: to what another entry's server is there for.
func elsewhere(address func(w *world) string) action {
	return func(w *world) { edit(w.endpoint.URL+"/vod", address(w))(w) }
}

// certified is the address of an HTTPS server with a certificate for the host, valid from now on for the time, and the
// path of its certificate.
func certified(w *world, host string, valid time.Duration) (address, ca string) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(w.t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: host}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
		NotBefore: time.Now().Add(-48 * time.Hour), NotAfter: time.Now().Add(valid), ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	if ip := net.ParseIP(host); ip != nil {
		template.IPAddresses = []net.IP{ip}
	} else {
		template.DNSNames = []string{host}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	require.NoError(w.t, err)
	ca = w.path("ca.pem")
	require.NoError(w.t, os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))
	server := httptest.NewUnstartedServer(w.endpoint)
	server.TLS = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
	server.Config.ErrorLog = quiet
	server.StartTLS()
	w.t.Cleanup(server.Close)
	return server.URL, ca
}

// corrected has the webhook accept again, and sends the dead letters.
var corrected = each(func(w *world) { w.confirmed() }, accept, replay("site"))

// toTLS has the webhook go to an HTTPS server with such a certificate, whose CA it trusts if that is wanted.
func toTLS(host string, valid time.Duration, trusted bool) action {
	return func(w *world) {
		address, ca := certified(w, host, valid)
		keys := fmt.Sprintf("url: %q", address)
		if trusted {
			keys += fmt.Sprintf(", tls: {ca_file: %q}", ca)
		}
		edit(fmt.Sprintf("url: %q", w.endpoint.URL+"/vod"), keys)(w)
	}
}

// replay sends dead letters again, when all events have become some.
func replay(sink string) action {
	return each(func(w *world) { w.confirmed() }, run("parcels", "replay", "--state", "dead", "--sink", sink, "--yes"))
}

var webhooks = []mistake{
	{name: "webhook: a path that is not there", shows: `site is down … answered 404 Not Found: check the path in url`, make: answers(404), fix: accept},
	{name: "webhook: the key is changed on one side", shows: `answered 401 Unauthorized: the endpoint does not take the credentials: check headers, headers_file, secret`, make: answers(401), fix: accept},
	{name: "webhook: a firewall for applications", shows: `answered 403 Forbidden: the credentials may not do this, or a firewall refuses it`, make: answers(403), fix: accept},
	{name: "webhook: the method is not allowed", shows: `answered 405 Method Not Allowed: check method`, make: answers(405), fix: accept},
	{name: "webhook: the address has moved", shows: `answered 301 Moved Permanently: redirects are not followed: set url to the final address, on https://example.com`, make: page(301, map[string]string{"Location": "https://example.com/new"}, ""), fix: accept},
	{name: "webhook: a page for the login", shows: `answered 302 Found: redirects are not followed`, make: page(302, map[string]string{"Location": "https://example.com/login"}, ""), fix: accept},
	{name: "webhook: a web page that accepts everything", log: `a web page accepts the events … endpoint=http://127.0.0.1: … check url, if that is not meant`, make: page(200, map[string]string{"Content-Type": "text/html; charset=utf-8"}, "<!doctype html><title>Welcome</title>"), fix: accept, misses: map[string]int{"site": batch}},
	{name: "webhook: a deployment that fails", shows: `answered 500 Internal Server Error: see the endpoint's log`, make: answers(500), fix: accept},
	{name: "webhook: a gateway without its service", shows: `answered 502 Bad Gateway: see the endpoint's log`, make: answers(502), fix: accept},
	{name: "webhook: a validation that refuses", log: `events became dead letters … answered 400 Bad Request … the endpoint refuses the event; see its log … vodrelay parcels replay --state dead --sink site`, make: answers(400), fix: corrected},
	{name: "webhook: a limit for the size", shows: `site refuses … answered 413 Request Entity Too Large: raise the limit of the request body at the endpoint, in nginx client_max_body_size`, make: answers(413), fix: corrected},
	{name: "webhook: the endpoint is gone", shows: `site refuses … answered 410 Gone: the endpoint does not want this event any more: correct url`, make: answers(410), fix: corrected},
	{name: "webhook: a replay before the cause is fixed", says: `1 parcel is due now`, make: each(answers(422), func(w *world) { w.publish(1); w.deadLetters(1) }, replay("site")), fix: each(func(w *world) { w.confirmed(); w.deadLetters(batch + 1) }, accept, replay("site"))},
	{name: "webhook: an endpoint that hangs", shows: `not accepted within 500ms … no answer in time … let the endpoint answer before it works on the event, or make the sink's timeout longer`, make: each(func(w *world) {
		w.endpoint.answer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-w.t.Context().Done() }))
	}, edit("type: webhook", "type: webhook, timeout: 500ms")), fix: accept},
	{name: "webhook: a host that does not exist", shows: `host "nowhere.invalid" is not known: check the host in url, and DNS`, make: elsewhere(func(*world) string { return "http://nowhere.invalid/vod" })},
	{name: "webhook: a port that nobody listens on", shows: `connection refused: nothing listens there: start the endpoint, or correct the host and port in url`, make: elsewhere(func(w *world) string { return "http://" + programtest.FreeAddress(w.t) })},
	{name: "webhook: the port of Redis", shows: `it closed the connection without an answer`, make: elsewhere(func(w *world) string { return "http://" + w.servers.redis().Options().Addr })},
	{name: "webhook: https where there is http", shows: `it does not speak TLS: write http:// in url, or correct the port`, make: edit(`url: "http://`, `url: "https://`)},
	{name: "webhook: http where there is https", shows: `wants TLS: write https:// in url`, make: func(w *world) {
		address, _ := certified(w, "127.0.0.1", time.Hour)
		elsewhere(func(*world) string { return strings.Replace(address, "https", "http", 1) })(w)
	}},
	{name: "webhook: a certificate that has expired", shows: `its certificate has expired or is not yet valid: renew it`, make: toTLS("127.0.0.1", -time.Hour, true)},
	{name: "webhook: a certificate of another host", shows: `its certificate is for another host: correct the host in url, or set tls.server_name`, make: toTLS("example.com", time.Hour, true)},
	{name: "webhook: a certificate that nobody signed", shows: `its certificate is signed by an unknown authority: set tls.ca_file`, make: toTLS("127.0.0.1", time.Hour, false)},
	{name: "webhook: a proxy that is not there", shows: `the proxy http://127.0.0.1: … connection refused: check proxy, or HTTPS_PROXY and HTTP_PROXY in the environment`, make: func(w *world) { edit("type: webhook", "type: webhook, proxy: http://"+programtest.FreeAddress(w.t))(w) }},
	{name: "webhook: a secret file that is deleted", shows: `secret_file: … no such file or directory: let the user that runs vodrelay read the file`, make: func(w *world) {
		write("secret", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")(w)
		edit("type: webhook", "type: webhook, secret_file: {dir}/secret")(w)
		require.NoError(w.t, os.Remove(w.path("secret")))
	}, fix: write("secret", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")},
	{name: "sinks: two at one target", make: func(w *world) {
		edit("- {", fmt.Sprintf("- {name: copy, type: webhook, url: %q, %s}\n- {", w.endpoint.URL+"/vod", short))(w)
	}, spares: true},
	{name: "sinks: one is removed with parcels", log: `parcels wait for a sink that is not in the configuration … sink=site … vodrelay parcels move --from site --to NEW`, make: each(answers(503), parked, edit("name: site", "name: other"), accept),
		fix: run("parcels", "move", "--from", "site", "--to", "other", "--yes")},
	{name: "sinks: one is renamed and renamed back", shows: `removed site: 3 waiting, 0 dead`, make: each(answers(503), parked, edit("name: site", "name: other"), accept)},
	{name: "sinks: a condition is added with parcels", log: `parcels were deleted unsent: the condition (when) of their sink does not want them any more … sink=site … correct`, make: each(answers(503), parked, edit("type: webhook", `type: webhook, when: 'type == "FileDeleted"'`), emptied),
		fix: each(accept, restore), misses: map[string]int{"site": 2 * batch}},
	{name: "sinks: the names of two are swapped", world: func(w *world) { toSite(w); toFile(w) }, make: each(answers(503), parked, swap, emptied, accept), misses: map[string]int{"site": batch}},
}

// swap gives two sinks each other's names.
func swap(w *world) {
	w.text = strings.NewReplacer("name: site", "name: archive", "name: archive", "name: site").Replace(w.text)
	w.write()
	w.reload()
}

// emptied waits until no parcel is left.
func emptied(w *world) {
	w.eventually("no parcel is left", func() bool { st := w.status(); return st.Parcels != nil && st.Parcels.Waiting == 0 })
}

// parked publishes events and waits until they are parcels.
func parked(w *world) {
	w.publish(batch)
	w.eventually("they are parcels", func() bool { st := w.status(); return st.Parcels != nil && st.Parcels.Waiting == batch })
}
