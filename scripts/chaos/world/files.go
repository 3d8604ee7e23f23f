package world

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"strings"
	"time"

	"github.com/vodrelay/vodrelay/scripts/chaos/ledger"
)

// files are what the relays write, one file each.
type files struct {
	name   string
	world  *World
	offset map[string]int64
	count  map[string]int       // of the lines of one content in one file
	first  map[string]time.Time // when the n-th of them was seen first
}

func (t *files) settings(r *relay) map[string]any { return map[string]any{"path": t.path(r)} }
func (t *files) address() string                  { return "" }
func (t *files) close() error                     { return nil }
func (t *files) path(r *relay) string             { return t.world.disk(fmt.Sprintf("events-%d.jsonl", r.number)) }

// read takes whole lines. While relays write, it notes when a line was seen first, and no more: a line may be taken back,
// as when the disk is full, or be gone with the disk's power. At rest it enters all that is there.
func (t *files) read(_ context.Context, l *ledger.Ledger, rest bool) error {
	type arrival struct {
		at   time.Time
		line []byte
	}
	var all []arrival
	for _, r := range t.world.relays {
		path, from := t.path(r), t.offset[t.path(r)]
		if rest {
			from = 0
			maps.DeleteFunc(t.count, func(key string, _ int) bool { return strings.HasPrefix(key, path+" ") })
		}
		text, err := readFrom(path, from)
		if err != nil {
			return err
		}
		for line := range bytes.Lines(text) {
			if !bytes.HasSuffix(line, []byte("\n")) {
				break
			}
			from += int64(len(line))
			line = bytes.TrimSuffix(line, []byte("\n"))
			if !json.Valid(line) {
				continue // a kill cut it off, and it was never accepted; vodrelay begins a new one behind it
			}
			key := fmt.Sprintf("%s %x", path, sha256.Sum256(line))
			t.count[key]++
			key = fmt.Sprint(key, " ", t.count[key])
			if t.first[key].IsZero() {
				t.first[key] = time.Now()
			}
			all = append(all, arrival{t.first[key], bytes.Clone(line)})
		}
		t.offset[path] = from
	}
	if rest {
		l.Forget(t.name)
		for _, a := range all {
			l.Arrive(t.name, a.at, a.line)
		}
	}
	return nil
}

// readFrom reads the rest of a file; nothing of one that is not there, or is shorter.
func readFrom(path string, offset int64) ([]byte, error) {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	defer f.Close()
	if _, err := f.Seek(offset, io.SeekStart); err != nil {
		return nil, err
	}
	return io.ReadAll(f)
}
