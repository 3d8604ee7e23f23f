package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vodrelay/vodrelay/pkg/callback"
	"github.com/vodrelay/vodrelay/pkg/emulator"
	"github.com/vodrelay/vodrelay/pkg/event"
)

// targetOf serves answer, and keeps the bodies of all posts.
func targetOf(t *testing.T, answer func(w http.ResponseWriter, n int)) (url string, bodies func() []string) {
	var mu sync.Mutex
	var all []string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		mu.Lock()
		all = append(all, string(body))
		n := len(all)
		mu.Unlock()
		if err == nil && answer != nil {
			answer(w, n)
		}
	}))
	t.Cleanup(server.Close)
	return server.URL + "/vod", func() []string {
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(all)
	}
}

func linesFile(t *testing.T, lines ...string) string {
	path := filepath.Join(t.TempDir(), "events.jsonl")
	require.NoError(t, os.WriteFile(path, []byte(strings.Join(lines, "\n")), 0o600))
	return path
}

func send(t *testing.T, environ []string, args ...string) (int, sendSummary, string) {
	t.Helper()
	code, out, log := command(t, environ, append([]string{"send", "-o", "json"}, args...)...)
	var sum sendSummary
	require.NoError(t, json.Unmarshal([]byte(out), &sum), log)
	return code, sum, log
}

func TestSendPostsWhatVODWould(t *testing.T) {
	t.Parallel()
	url, bodies := targetOf(t, nil)
	first := `{"EventType":"NewFileUpload","FileUploadEvent":{"FileId":"14508071098244959037","Size":0.10}}`
	code, sum, log := send(t, nil, linesFile(t, first, "", `{"EventHandle":"h","EventType":"A","AEvent":{}}`), "--to", url, "--concurrency", "1")
	require.Equal(t, exitDone, code, log)
	require.Equal(t, []string{first, `{"EventType":"A","AEvent":{}}`}, bodies())
	require.EqualValues(t, []int64{2, 2, 0, 2}, []int64{sum.Notifications, sum.Accepted, sum.Failed, sum.Posts})
	require.Equal(t, map[string]int64{"200": 2}, sum.Answers)

	code, out, _ := command(t, nil, "send", linesFile(t, first), "--to", url)
	require.Equal(t, exitDone, code)
	require.Contains(t, out, "accepted:       1")

	var stdout, stderr bytes.Buffer
	code = execute(&program{stdin: strings.NewReader(first + "\n" + first), stdout: &stdout, stderr: &stderr}, []string{"send", "-", "--to", url})
	require.Equal(t, exitDone, code, stderr.String())
	require.Len(t, bodies(), 5)
}

func TestSendTriesAgainAndTellsWhatFailed(t *testing.T) {
	url, bodies := targetOf(t, func(w http.ResponseWriter, n int) {
		switch n {
		case 1:
			time.Sleep(300 * time.Millisecond) // too late
		case 2:
			w.WriteHeader(http.StatusServiceUnavailable)
		default:
			w.Header().Set("Location", "/elsewhere")
			w.WriteHeader(http.StatusFound)
			_, _ = io.WriteString(w, "not \x1b[31mhere")
		}
	})
	code, sum, log := send(t, nil, linesFile(t, `{"EventType":"A"}`, `[]`, `{"a":`), "--to", url, "--timeout", "100ms", "--concurrency", "1", "--pause", "1ms")
	require.Equal(t, exitFailed, code)
	require.Len(t, bodies(), 3)
	require.Equal(t, map[string]int64{"timeout": 1, "503": 1, "302": 1}, sum.Answers)
	require.EqualValues(t, []int64{1, 0, 1, 2}, []int64{sum.Notifications, sum.Accepted, sum.Failed, sum.Invalid})
	require.Contains(t, log, "line 1: not accepted: 302: not")
	require.NotContains(t, log, "\x1b")
	require.Contains(t, log, "line 2: is not a JSON object")
	require.Contains(t, log, "1 of 1 notification was not accepted, 2 lines were not valid")

	code, sum, log = send(t, nil, linesFile(t, `{"EventType":"A"}`), "--to", "http://user:hunter2@127.0.0.1:1/", "--tries", "2")
	require.Equal(t, exitFailed, code)
	require.Equal(t, map[string]int64{"connection": 2}, sum.Answers)
	require.NotContains(t, log, "hunter2")
}

func TestSendKeepsToItsRate(t *testing.T) {
	url, bodies := targetOf(t, nil)
	began := time.Now()
	code, _, _ := send(t, nil, linesFile(t, slices.Repeat([]string{`{"EventType":"A"}`}, 6)...), "--to", url, "--rate", "20")
	require.Equal(t, exitDone, code)
	require.Len(t, bodies(), 6)
	require.GreaterOrEqual(t, time.Since(began), 240*time.Millisecond)
}

func TestSendSignsForAReceiver(t *testing.T) {
	const key = "abc123"
	var mu sync.Mutex
	got := map[string]bool{}
	cfg := callback.DefaultConfig()
	cfg.Listen, cfg.SignKey = "127.0.0.1:0", key
	s, err := callback.New(cfg, nil, callback.HandlerFunc(func(_ context.Context, d event.Delivery) error {
		mu.Lock()
		defer mu.Unlock()
		got[d.ID] = true
		return nil
	}))
	require.NoError(t, err)
	require.NoError(t, s.Listen(t.Context()))
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(ctx) }()
	defer func() { stop(); require.NoError(t, <-ended) }()
	url := "http://" + s.Addr().String() + "/"

	contents := emulator.GenerateUploads(50, 1)
	var lines []string
	for _, c := range contents {
		lines = append(lines, string(c))
	}
	file, keyFile := linesFile(t, lines...), filepath.Join(t.TempDir(), "key")
	require.NoError(t, os.WriteFile(keyFile, []byte(key+"\n"), 0o600))
	code, sum, log := send(t, nil, file, "--to", url, "--tries", "1")
	require.Equal(t, exitFailed, code)
	require.Equal(t, map[string]int64{"401": 50}, sum.Answers)
	require.Contains(t, log, "carries no signature")
	code, _, log = send(t, nil, file, "--to", url, "--sign-key-file", keyFile)
	require.Equal(t, exitDone, code, log)
	mu.Lock()
	accepted := maps.Clone(got)
	mu.Unlock()
	require.Equal(t, ids(t, contents), accepted)
	code, _, log = send(t, []string{signKeyVariable + "=" + key}, file, "--to", url)
	require.Equal(t, exitDone, code, log)
}

func TestSendUsage(t *testing.T) {
	t.Parallel()
	file := linesFile(t, "{}")
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{file}, `--to: "": write https://host/path`},
		{[]string{"--to", "http://x/"}, "FILE is missing"},
		{[]string{file, "--to", "x"}, `--to: "x": write https://host/path`},
		{[]string{file, "--to", "http://x/", "--tries", "0"}, "--tries: 0: must be 1 or more"},
		{[]string{file, "--to", "http://x/", "--concurrency", "0"}, "--concurrency: 0"},
		{[]string{file + "x", "--to", "http://x/"}, "no such file"},
		{[]string{file, "--to", "http://x/", "--sign-key-file", file + "x"}, "--sign-key-file: open"},
	} {
		code, out, log := command(t, nil, append([]string{"send"}, c.args...)...)
		require.Equal(t, exitUsage, code, c.args)
		require.Empty(t, out)
		require.Contains(t, log, c.want)
	}
}
