package world

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"regexp"
	"sync"
	"syscall"
	"time"

	"github.com/vodrelay/vodrelay/scripts/chaos/ledger"
)

// RoleReceive is the first argument with which the harness starts itself as a webhook.
const RoleReceive = "receive"

// webhook is a receiver in a process of its own, with a journal on the disk that outlives it.
type webhook struct {
	name, self, log, journal string
	listen                   string
	process                  *process
	offset                   int64
}

var listening = regexp.MustCompile(`^listening at (.*)$`)

func startWebhook(w *World, name string) (*webhook, error) {
	h := &webhook{name: name, self: w.options.Self, log: w.path(name + ".log"), journal: w.path(name + ".journal"), listen: "127.0.0.1:0"}
	return h, h.Start()
}

func (h *webhook) settings(r *relay) map[string]any {
	return map[string]any{"url": "http://" + r.links[h.name].Addr() + "/vod"}
}
func (h *webhook) address() string { return h.listen }
func (h *webhook) close() error    { h.process.signal(syscall.SIGCONT); return h.Kill() }
func (h *webhook) Kill() error     { h.process.kill(); return nil }
func (h *webhook) Pause() error    { h.process.signal(syscall.SIGSTOP); return nil }
func (h *webhook) Resume() error   { h.process.signal(syscall.SIGCONT); return nil }

// Start starts it, at the address that it had before.
func (h *webhook) Start() error {
	found := make(chan string, 1)
	p, err := start(h.log, os.Environ(), func(line []byte) {
		if m := listening.FindSubmatch(line); m != nil {
			found <- string(m[1])
		}
	}, h.self, RoleReceive, h.listen, h.journal)
	if err != nil {
		return err
	}
	h.process = p
	select {
	case h.listen = <-found:
		return nil
	case <-p.ended:
		return fmt.Errorf("the webhook %s ended with %d: see %s", h.name, p.code, h.log)
	case <-time.After(10 * time.Second):
		p.kill()
		return fmt.Errorf("the webhook %s did not start: see %s", h.name, h.log)
	}
}

// received is a line of the journal.
type received struct {
	At   time.Time
	Body []byte
}

func (h *webhook) read(_ context.Context, l *ledger.Ledger) error {
	f, err := os.Open(h.journal)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.Seek(h.offset, io.SeekStart); err != nil {
		return err
	}
	text, err := io.ReadAll(f)
	if err != nil {
		return err
	}
	for line := range bytes.Lines(text) {
		if !bytes.HasSuffix(line, []byte("\n")) {
			break // it is being written
		}
		h.offset += int64(len(line))
		var r received
		if json.Unmarshal(line, &r) == nil { // else it was killed in the middle of it, and did not answer
			l.Arrive(h.name, r.At, r.Body)
		}
	}
	return nil
}

// Receive is the process: it accepts what is posted, but for the events with refuseMark, and notes it before it answers.
func Receive(address, path string) error {
	journal, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	if _, err := journal.WriteString("\n"); err != nil { // ends a line that a kill cut off
		return err
	}
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	var mu sync.Mutex
	server := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		if bytes.Contains(body, []byte(refuseMark)) {
			http.Error(rw, "this event is refused on purpose", http.StatusUnprocessableEntity)
			return
		}
		line, err := json.Marshal(received{time.Now(), body})
		mu.Lock()
		if err == nil {
			_, err = journal.Write(append(line, '\n'))
		}
		mu.Unlock()
		if err != nil {
			http.Error(rw, err.Error(), http.StatusInternalServerError)
			return
		}
		rw.WriteHeader(http.StatusNoContent)
	})}
	fmt.Printf("listening at %s\n", listener.Addr())
	return errors.Join(server.Serve(listener), journal.Close())
}
