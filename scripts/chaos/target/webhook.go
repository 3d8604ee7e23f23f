package target

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"
)

const (
	journalFile = "journal.jsonl"
	headerID    = "Webhook-Id"
	readLimit   = 64 << 20
)

// entry is a line of the webhook's journal.
type entry struct {
	At   time.Time
	ID   string
	Mode Mode // OK, Slow or LostReply: it is accepted; otherwise it is not
	Body []byte
}

func (e entry) accepted() bool { return e.Mode == OK || e.Mode == Slow || e.Mode == LostReply }

// receiver is an HTTP server that accepts what is posted to any path.
type receiver struct {
	dir     string
	mu      sync.Mutex
	journal *os.File
}

func serveWebhook(dir, listen string) error {
	journal, err := os.OpenFile(filepath.Join(dir, journalFile), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600) //nolint:gosec // its parent says where
	if err != nil {
		return err
	}
	defer func() { _ = journal.Close() }()
	if _, err := journal.WriteString("\n"); err != nil { // ends a line that a kill has cut
		return err
	}
	listener, err := net.Listen("tcp", listen) //nolint:noctx // it ends with the process
	if err != nil {
		return err
	}
	ready(listener.Addr().String())
	server := &http.Server{Handler: &receiver{dir: dir, journal: journal}, ReadHeaderTimeout: time.Minute}
	return server.Serve(listener)
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, req.Body, readLimit))
	if err != nil {
		return // the client has gone
	}
	b, err := readBehaviour(r.dir)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	mode := b.choose()
	if b.Poison != "" && bytes.Contains(body, []byte(b.Poison)) {
		mode = Refuse
	}
	if err := r.write(entry{time.Now(), req.Header.Get(headerID), mode, body}); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	switch mode {
	case Down:
		http.Error(w, "down on purpose", http.StatusServiceUnavailable)
	case Refuse:
		http.Error(w, "refused on purpose", http.StatusUnprocessableEntity)
	case Hang:
		<-req.Context().Done()
	case LostReply:
		cut(w)
	case Slow:
		select {
		case <-time.After(b.Delay):
		case <-req.Context().Done():
		}
		w.WriteHeader(http.StatusNoContent)
	case OK:
		w.WriteHeader(http.StatusNoContent)
	}
}

// write is on the disk when it returns.
func (r *receiver) write(e entry) error {
	line, err := json.Marshal(e)
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, err := r.journal.Write(append(line, '\n')); err != nil {
		return err
	}
	return r.journal.Sync()
}

// cut ends the connection of a request with an RST.
func cut(w http.ResponseWriter) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler) // the connection has gone
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = conn.Close()
}

// journalReader reads the journal of a webhook, whether its process runs or not.
type journalReader struct {
	path   string
	offset int64
}

func (j *journalReader) next() ([]entry, error) {
	file, err := os.Open(j.path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }()
	if _, err := file.Seek(j.offset, io.SeekStart); err != nil {
		return nil, err
	}
	var entries []entry
	for lines := bufio.NewReader(file); ; {
		line, err := lines.ReadBytes('\n')
		if errors.Is(err, io.EOF) { // a line that is being written has no end yet
			return entries, nil
		}
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", j.path, err)
		}
		j.offset += int64(len(line))
		var e entry
		if json.Unmarshal(line, &e) == nil { // one that a kill has cut was never accepted
			entries = append(entries, e)
		}
	}
}
