//go:build unix

package mistakes

import (
	"bytes"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/stretchr/testify/require"
)

// endpoint is what a webhook posts to. It accepts everything until that is changed.
type endpoint struct {
	*httptest.Server
	mu      sync.Mutex
	handler http.Handler // nil: accept
	got     map[string]bool
}

// answer has the handler answer from now on; nil: accept.
func (e *endpoint) answer(h http.Handler) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.handler = h
}

func (e *endpoint) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	e.mu.Lock()
	handler := e.handler
	if handler == nil && r.Method == http.MethodPost {
		_, id, _ := strings.Cut(r.Header.Get("Idempotency-Key"), "-") // behind the application
		e.got[id] = true
	}
	e.mu.Unlock()
	if handler != nil {
		handler.ServeHTTP(w, r)
	}
}

func (e *endpoint) accepted() map[string]bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return maps.Clone(e.got)
}

// site is a webhook.
func (w *world) site() (name, keys string, got func() map[string]bool) {
	w.endpoint = &endpoint{got: map[string]bool{}}
	w.endpoint.Server = httptest.NewServer(w.endpoint)
	w.t.Cleanup(w.endpoint.Close)
	return "site", fmt.Sprintf("type: webhook, url: %q", w.endpoint.URL+"/vod"), w.endpoint.accepted
}

// lines are the events in the files of the world's directories, one JSON object a line, wherever they have been moved.
func (w *world) lines() map[string]bool {
	all := map[string]bool{}
	found, _ := filepath.Glob(w.path("*/events*"))
	for _, path := range found {
		data, _ := os.ReadFile(path)
		for line := range bytes.Lines(data) {
			if line[len(line)-1] == '\n' { // the others are still being written
				all[w.idOf(line)] = true
			}
		}
	}
	return all
}

// toFile is a world with a file.
func toFile(w *world) {
	require.NoError(w.t, os.Mkdir(w.path("out"), 0o700))
	path := w.path("out/events.jsonl")
	w.add("archive", fmt.Sprintf("type: file, path: %q", path), w.lines)
}

// toCommand is a world with a command that writes down the IDs.
func toCommand(w *world) {
	require.NoError(w.t, os.WriteFile(w.path("command"), []byte(commandText), 0o700))
	w.add("script", fmt.Sprintf("type: exec, command: [%q], dir: %q", w.path("command"), w.dir), func() map[string]bool {
		all := map[string]bool{}
		data, _ := os.ReadFile(w.path("done"))
		for _, id := range strings.Fields(string(data)) {
			all[id] = true
		}
		return all
	})
}

// commandText writes down the ID of its event.
const commandText = "#!/bin/sh\nprintf '%s\\n' \"${VOD_EVENT_ID#*-}\" >>done\n"
