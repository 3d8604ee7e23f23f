//go:build unix

package store

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vodrelay/vodrelay/pkg/event"
)

// childTask is the variable that makes this test binary a process to be killed.
const childTask = "VODRELAY_STORE_CHILD"

// task is what such a process does. It writes down in Journal what it is about to do, and what it was
// answered; what is in a file survives the process.
type task struct {
	Config  Config
	Journal string
	First   int  // the number of its first parcel
	Migrate bool // begin with the tables of an older version
}

// startChild runs the task until the test kills it.
func startChild(t *testing.T, work task) *exec.Cmd {
	text, err := json.Marshal(work)
	require.NoError(t, err)
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childTask+"="+string(text))
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	require.NoError(t, cmd.Start())
	return cmd
}

func child(text string) {
	var work task
	if err := json.Unmarshal([]byte(text), &work); err != nil {
		panic(err)
	}
	file, err := os.OpenFile(work.Journal, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		panic(err)
	}
	note := func(what string, key event.ParcelKey) {
		if _, err := fmt.Fprintf(file, "%s %s %s\n", what, key.EventID, key.Sink); err != nil {
			panic(err)
		}
	}
	note("start", event.ParcelKey{})
	ctx := context.Background()
	if work.Migrate {
		old := must(Open(ctx, work.Config, nil, func(o *options) { o.migrations = migrations[:1] }))
		putPair(ctx, old, work.First, note)
		check(old.Close(ctx))
		work.First++
	}
	s := must(Open(ctx, work.Config, nil))
	note("open", event.ParcelKey{})
	var all sync.WaitGroup
	const putters = 3
	for n := range putters {
		all.Go(func() {
			for i := work.First + n; ; i += putters {
				putPair(ctx, s, i, note)
			}
		})
	}
	for _, sink := range []string{"a", "a", "b", "b"} {
		all.Go(func() { workOff(ctx, s, sink, note) })
	}
	all.Go(func() {
		for {
			must(s.Replay(ctx, Filter{State: event.ParcelDead}))
		}
	})
	all.Wait()
}

// putPair stores the parcels of one event for both sinks.
func putPair(ctx context.Context, s *Store, n int, note func(string, event.ParcelKey)) {
	a, b := parcel(n, "a"), parcel(n, "b")
	check(s.Put(ctx, a, b))
	note("put", a.Key())
	note("put", b.Key())
}

// workOff completes some, and fails others, which then wait or die.
func workOff(ctx context.Context, s *Store, sink string, note func(string, event.ParcelKey)) {
	for round := 0; ; round++ {
		for i, p := range must(s.Claim(ctx, sink, 5, 200*time.Millisecond)) {
			key := p.Key()
			switch (round + i) % 3 {
			case 0:
				note("completing", key)
				check(s.Complete(ctx, key))
				note("completed", key)
			case 1:
				check(s.Fail(ctx, Outcome{Key: key, Err: "down", Next: time.Now().Add(10 * time.Millisecond)}))
				note("failed", key)
			case 2:
				check(s.Fail(ctx, Outcome{Key: key, Err: "gone", Dead: true}))
				note("died", key)
			}
		}
	}
}

func must[T any](value T, err error) T {
	check(err)
	return value
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}

// journal is what the processes wrote down about a key.
type journal map[event.ParcelKey]map[string]int

func readJournal(t *testing.T, path string) journal {
	text, err := os.ReadFile(path)
	if !os.IsNotExist(err) {
		require.NoError(t, err)
	}
	j := make(journal)
	for line := range strings.Lines(string(text)) {
		words := strings.Split(strings.TrimSuffix(line, "\n"), " ")
		require.Len(t, words, 3, "a line is written at once")
		key := event.ParcelKey{SubAppID: 1500000001, EventID: words[1], Sink: words[2]}
		if j[key] == nil {
			j[key] = make(map[string]int)
		}
		j[key][words[0]]++
	}
	return j
}

// happened reports whether any process came so far.
func happened(path, what string) bool {
	text, _ := os.ReadFile(path)
	return strings.Contains(string(text), what+" ")
}

// verify compares what the store has with what its callers were told.
func (j journal) verify(t *testing.T, s *Store) (acknowledged int) {
	t.Helper()
	consistent(t, s)
	there := make(map[event.ParcelKey]event.Parcel)
	for after := Cursor(""); ; {
		page, next, err := s.List(t.Context(), Filter{}, after, 1000)
		require.NoError(t, err)
		for _, p := range page {
			require.NotContains(t, there, p.Key())
			require.Equal(t, payload, []byte(p.Raw))
			there[p.Key()] = p
		}
		if after = next; next == "" {
			break
		}
	}
	for key, times := range j {
		if key.EventID == "" {
			continue
		}
		p, found := there[key]
		if times["put"] > 0 && times["completing"] == 0 {
			require.True(t, found, "lost: %v %v", key, times)
		}
		if times["completed"] > 0 {
			require.False(t, found, "came back: %v %v", key, times)
		}
		if found && times["died"] == 0 && times["failed"] > 0 && p.FirstError == "down" && p.LastError == "down" {
			require.GreaterOrEqual(t, p.Attempts, times["failed"], "%v %v", key, times)
		}
		acknowledged += times["put"]
	}
	for key := range there { // all parcels of an event, or none
		other := key
		other.Sink = map[string]string{"a": "b", "b": "a"}[key.Sink]
		if _, found := there[other]; !found {
			require.Positive(t, j[other]["completing"], "half an event: %v", key)
		}
	}
	return acknowledged
}
