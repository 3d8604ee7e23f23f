package admin

import (
	"encoding/xml"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vodrelay/vodrelay/pkg/event"
)

func TestPage(t *testing.T) {
	opts := fullOptions()
	s := start(t, Config{}, opts, defaultLimits)
	require.Eventually(t, func() bool { _, known := s.depths.total(); return known }, 5*time.Second, time.Millisecond)
	got := s.get("/")
	require.Equal(t, 200, got.status)
	require.Equal(t, "text/html; charset=utf-8", got.header.Get("Content-Type"))
	require.Equal(t, "no-store", got.header.Get("Cache-Control"))
	for _, text := range []string{
		`<meta name="viewport" content="width=device-width, initial-scale=1">`, `<meta name="color-scheme" content="light dark">`,
		`<meta http-equiv="refresh" content="5">`, `class="state good">Ready<`, "v1.2.3", ">3 of 512<", "down</span> for 60 s: <bdi>http://***@h/*** answered 503: &lt;busy&gt;", "<small><bdi>start &lt;it&gt;</bdi></small>", "<small><bdi>less of &lt;it&gt;</bdi></small>",
		"not known: it got nothing since the start", "Pulling for application 1500000002 has failed for 2 min, 3 in a row: <bdi>no &lt;route&gt;", "<small><bdi>check &lt;it&gt;</bdi></small>",
		"503 Service Unavailable", "NewFileUpload", "52858907843", "(removed)", `href="/parcels/` + parcel(90, "", "").ID,
	} {
		require.Contains(t, got.body, text)
	}
	require.NotContains(t, got.body, ">not known<")
	require.NotContains(t, s.get("/?refresh=off").body, `http-equiv="refresh"`)

	css := s.get("/style.css")
	require.Equal(t, "text/css; charset=utf-8", css.header.Get("Content-Type"))
	require.Contains(t, css.body, "prefers-color-scheme: dark")
	require.Contains(t, css.body, "max-width: 44rem")
	require.NotContains(t, css.body, "url(")
	require.NotContains(t, css.body, "@import")
}

// The policy forbids it all; a page that tried would only look broken.
func TestPageLoadsNothingFromElsewhere(t *testing.T) {
	s := start(t, Config{}, fullOptions(), defaultLimits)
	for _, tag := range tags(t, s.get("/").body) {
		require.NotContains(t, []string{"script", "style", "img", "iframe", "form", "base"}, tag.Name.Local)
		for _, a := range tag.Attr {
			require.NotEqual(t, "style", a.Name.Local)
			require.False(t, strings.HasPrefix(a.Name.Local, "on"), a.Name.Local)
			if a.Name.Local == "href" || a.Name.Local == "src" {
				require.True(t, strings.HasPrefix(a.Value, "/") && !strings.HasPrefix(a.Value, "//"), a.Value)
			}
		}
	}
}

// tags are those of a page, in their order; every one that is opened must be closed.
func tags(t *testing.T, page string) (all []xml.StartElement) {
	t.Helper()
	dec := xml.NewDecoder(strings.NewReader(page))
	dec.Strict, dec.AutoClose, dec.Entity = false, xml.HTMLAutoClose, xml.HTMLEntity
	for {
		token, err := dec.Token()
		if errors.Is(err, io.EOF) {
			return all
		}
		require.NoError(t, err)
		if tag, ok := token.(xml.StartElement); ok {
			all = append(all, tag.Copy())
		}
	}
}

func TestPageEscapes(t *testing.T) {
	const attack = `<script>alert(1)</script><img src=x onerror=alert(2)>" onload="x" '`
	evil := parcel(1, attack, event.ParcelDead)
	evil.Type = `<b>Type</b>` + "\u202Egnp.exe\x1b[31m"
	evil.LastError = attack + "\nsecond\x00line \xff " + strings.Repeat("long", 300) + ` {{.Now}}`
	evil.ID = `"><script>`
	evil.Raw = []byte(`{"EventType":"X","P":{"FileId":"</td><script>"}}`)
	opts := someOptions(&fakeStore{parcels: []event.Parcel{evil}})
	opts.Version = attack
	opts.Alive = func() error { return errors.New(attack) }
	opts.Stats = func() Stats {
		return Stats{Pipeline: PipelineStats{Sinks: []SinkStats{
			{Name: attack, Breaker: attack, State: attack}, {Name: "down", State: "down", Failing: Failing{InARow: 1, Error: attack, Hint: attack}},
			{Name: "refusing", State: "refusing", Refusals: Refusals{InARow: 1, Error: attack, Hint: attack}},
		}}, Store: Failing{InARow: 1, Error: attack + "\u202E\x1b", Hint: attack}}
	}
	s := start(t, Config{}, opts, defaultLimits)
	body := s.get("/").body
	require.NotContains(t, body, "<script")
	require.NotContains(t, body, "<img")
	require.NotContains(t, body, "<b>")
	require.NotContains(t, body, "\u202E")
	require.NotContains(t, body, "\x1b")
	require.NotContains(t, body, "\x00")
	require.Contains(t, body, "&lt;script&gt;")
	require.Contains(t, body, "{{.Now}}")
	for _, tag := range tags(t, body) {
		require.NotContains(t, []string{"script", "img", "b"}, tag.Name.Local)
		for _, a := range tag.Attr {
			require.False(t, strings.HasPrefix(a.Name.Local, "on"), a.Name.Local)
		}
	}
	require.True(t, strings.HasSuffix(strings.TrimSpace(body), "</html>"), "the template ran to its end")
	opts.Stats = someStats
	s = start(t, Config{}, opts, defaultLimits)
	require.Contains(t, s.get("/").body, "<bdi>New&lt;b&gt;</bdi>")
	require.Contains(t, s.get("/").body, `<span class="bad">refusing</span>, 7 in a row for 3 min: <bdi>422: &lt;too&gt; large`)
}

func TestPageOfAFailingStore(t *testing.T) {
	opts := fullOptions()
	opts.Parcels.(*fakeStore).fail(errors.New("no <connection>"))
	s := start(t, Config{}, opts, defaultLimits)
	body := s.get("/").body
	require.Contains(t, body, "They cannot be read: <bdi>no &lt;connection&gt;")
	require.Contains(t, body, "Not ready")
}

func TestPageOfAFreshStart(t *testing.T) {
	opts := someOptions(nil)
	opts.Depth = nil
	opts.Stopping = func() bool { return true }
	s := start(t, Config{}, opts, defaultLimits)
	body := s.get("/").body
	require.Contains(t, body, "not known")
	require.Contains(t, body, ">never<")
	require.Contains(t, body, ">Stopping<")
	require.Contains(t, body, "None.")
}

func TestForPeople(t *testing.T) {
	now := time.Now()
	for d, want := range map[time.Duration]string{
		-time.Hour: "now", 0: "now", 59 * time.Second: "59 s", 119 * time.Second: "119 s", 3 * time.Minute: "3 min",
		3 * time.Hour: "3 h", 47 * time.Hour: "47 h", 49 * time.Hour: "2 days",
	} {
		require.Equal(t, want, ago(now, new(now.Add(-d))))
	}
	require.Equal(t, "never", ago(now, nil))
	for n, want := range map[int64]string{0: "0", 999: "999", 1000: "1,000", 1234567: "1,234,567", -1234: "-1,234", -123: "-123"} {
		require.Equal(t, want, count(n))
	}
	require.Equal(t, "9,223,372,036,854,775,807", count(uint64(1<<64-1)))
	for n, want := range map[int64]string{0: "0 B", 1023: "1023 B", 1024: "1.0 KiB", 16 << 30: "16.0 GiB", 5 << 50: "5120.0 TiB"} {
		require.Equal(t, want, size(n))
	}
}
