package world

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"time"

	"github.com/vodrelay/vodrelay/scripts/chaos/ledger"
)

// target is what a sink sends to, seen from outside.
type target interface {
	// settings are those of the sink in the configuration of r, but for what all sinks have.
	settings(r *relay) map[string]any
	// address is what proxies lead to; "" for none.
	address() string
	// read enters what arrived since the last time.
	read(ctx context.Context, l *ledger.Ledger) error
	close() error
}

// server is a target that is a process.
type server interface {
	Kill() error  // SIGKILL
	Start() error // again, at the same address, with all that it had
	Pause() error // SIGSTOP
	Resume() error
}

// fileTarget are the files that the relays write, one each.
type fileTarget struct {
	name   string
	offset map[string]int64
	world  *World
}

func (t *fileTarget) settings(r *relay) map[string]any {
	return map[string]any{"path": r.file(".events.jsonl")}
}
func (t *fileTarget) address() string { return "" }
func (t *fileTarget) close() error    { return nil }

// read takes whole lines. A line that a kill cut off was never accepted; vodrelay begins a new one behind it.
func (t *fileTarget) read(_ context.Context, l *ledger.Ledger) error {
	for _, r := range t.world.relays {
		path := r.file(".events.jsonl")
		f, err := os.Open(path)
		if errors.Is(err, os.ErrNotExist) {
			continue
		} else if err != nil {
			return err
		}
		_, err = f.Seek(t.offset[path], io.SeekStart)
		in := bufio.NewReaderSize(f, 1<<16)
		for err == nil {
			var line []byte
			if line, err = in.ReadBytes('\n'); err == nil {
				t.offset[path] += int64(len(line))
				if line = bytes.TrimSuffix(line, []byte("\n")); json.Valid(line) {
					l.Arrive(t.name, time.Now(), line)
				}
			}
		}
		_ = f.Close()
		if !errors.Is(err, io.EOF) {
			return err
		}
	}
	return nil
}
