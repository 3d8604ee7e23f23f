package relaytest

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vodrelay/vodrelay/pkg/event"
	"github.com/vodrelay/vodrelay/pkg/relay"
)

// Harness is a source under test, with the queue behind it.
type Harness struct {
	Source relay.Source
	// Publish puts EventContents without EventHandle into the queue.
	Publish func(contents ...string)
	// Unconfirmed counts the events that are still in the queue.
	Unconfirmed func() int
	// Close ends whatever the harness started.
	Close func()
}

// RunSource checks that a source keeps the contract of relay.Source. Each test runs newHarness in a
// testing/synctest bubble, so that leases and long polls cost no time.
func RunSource(t *testing.T, newHarness func(t *testing.T) Harness) {
	run := func(name string, f func(t *testing.T, h Harness)) {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHarness(t)
				defer h.Close()
				f(t, h)
			})
		})
	}
	run("an empty poll is no error and is held", testEmpty)
	run("events arrive whole, at most a batch at once", testBatch)
	run("a held poll is woken by an event", testWake)
	run("a confirmed event is gone, another comes back after its lease", testLease)
	run("a confirm takes a full batch", testConfirmBatch)
	run("a handle that nobody gave is stale", testStale)
	run("a cancelled poll ends at once", testCancel)
	run("concurrent polls share the events", testConcurrent)
}

const (
	odd      = `{"EventType":"Newer","NewerEvent":{"big":12345678901234567891,"f":0.10,"e":1e21,"s":"<\u2028😀","n":null}}`
	deletion = `{"EventType":"FileDeleted","FileDeleteEvent":{"FileIdSet":["5285890784273533167"]}}`
)

func mustPull(t *testing.T, h Harness) []event.Delivery {
	t.Helper()
	deliveries, err := h.Source.Pull(t.Context())
	if err != nil {
		t.Fatalf("Pull: %v", err)
	}
	return deliveries
}

func testEmpty(t *testing.T, h Harness) {
	began := time.Now()
	if got := mustPull(t, h); len(got) != 0 {
		t.Fatalf("an empty queue delivered %d events", len(got))
	}
	if held := time.Since(began); held < time.Second || held > 10*time.Second {
		t.Errorf("the poll was held for %s", held)
	}
}

func testBatch(t *testing.T, h Harness) {
	for range 10 {
		h.Publish(odd, deletion)
	}
	first, second := mustPull(t, h), mustPull(t, h)
	if len(first) != event.MaxBatch || len(second) != 4 {
		t.Fatalf("20 events came as %d and %d", len(first), len(second))
	}
	handles := map[string]bool{}
	for _, d := range slices.Concat(first, second) {
		want, _, err := event.Decode([]byte(deletion), d.SubAppID)
		if d.Type == "Newer" {
			want, _, err = event.Decode([]byte(odd), d.SubAppID)
		}
		if err != nil || d.ID != want.ID || string(d.Raw) != string(want.Raw) {
			t.Fatalf("published %s, delivered %s", want.Raw, d.Raw)
		}
		if d.Handle == "" || handles[d.Handle] {
			t.Fatalf("handle %q is empty or was given twice", d.Handle)
		}
		handles[d.Handle] = true
		if since := time.Since(d.ReceivedAt); since < 0 || since > time.Minute || d.Deadline.Sub(d.ReceivedAt) != event.LeaseTime {
			t.Fatalf("received %s, deadline %s", d.ReceivedAt, d.Deadline)
		}
	}
}

func testWake(t *testing.T, h Harness) {
	time.AfterFunc(2*time.Second, func() { h.Publish(deletion) })
	began := time.Now()
	if got := mustPull(t, h); len(got) != 1 {
		t.Fatalf("%d events", len(got))
	}
	if took := time.Since(began); took > 3*time.Second {
		t.Errorf("the event arrived after %s", took)
	}
}

func testLease(t *testing.T, h Harness) {
	h.Publish(odd, deletion)
	got := mustPull(t, h)
	if len(got) != 2 {
		t.Fatalf("%d events", len(got))
	}
	if err := h.Source.Confirm(t.Context(), []string{got[0].Handle}); err != nil {
		t.Fatal(err)
	}
	if n := h.Unconfirmed(); n != 1 {
		t.Fatalf("%d events are left", n)
	}
	if early := mustPull(t, h); len(early) != 0 {
		t.Fatal("delivered again within its lease")
	}
	time.Sleep(event.LeaseTime)
	again := mustPull(t, h)
	if len(again) != 1 || again[0].ID != got[1].ID {
		t.Fatalf("delivered again: %+v", again)
	}
	if err := h.Source.Confirm(t.Context(), []string{again[0].Handle}); err != nil {
		t.Fatal(err)
	}
	if n := h.Unconfirmed(); n != 0 {
		t.Fatalf("%d events are left", n)
	}
}

func testConfirmBatch(t *testing.T, h Harness) {
	for range event.MaxBatch {
		h.Publish(deletion)
	}
	handles := make([]string, 0, event.MaxBatch)
	for _, d := range mustPull(t, h) {
		handles = append(handles, d.Handle)
	}
	if err := h.Source.Confirm(t.Context(), handles); err != nil {
		t.Fatal(err)
	}
	if n := h.Unconfirmed(); n != 0 {
		t.Fatalf("%d events are left", n)
	}
}

func testStale(t *testing.T, h Harness) {
	if err := h.Source.Confirm(t.Context(), []string{"never-given"}); !errors.Is(err, event.ErrStaleHandle) {
		t.Fatalf("the error is %v, not ErrStaleHandle", err)
	}
}

func testCancel(t *testing.T, h Harness) {
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(time.Second, cancel)
	began := time.Now()
	if _, err := h.Source.Pull(ctx); !errors.Is(err, context.Canceled) {
		t.Fatalf("the error is %v, not context.Canceled", err)
	}
	if took := time.Since(began); took > 1100*time.Millisecond {
		t.Errorf("the poll ended %s after it began", took)
	}
	synctest.Wait() // the other side hears of it
	h.Publish(deletion)
	if got := mustPull(t, h); len(got) != 1 {
		t.Fatal("the cancelled poll took the event with it")
	}
}

func testConcurrent(t *testing.T, h Harness) {
	for range 64 {
		h.Publish(odd)
	}
	var pulls sync.WaitGroup
	var mu sync.Mutex
	var handles []string
	for range 8 {
		pulls.Go(func() {
			got, err := h.Source.Pull(t.Context())
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				t.Error(err)
			}
			for _, d := range got {
				handles = append(handles, d.Handle)
			}
		})
	}
	pulls.Wait()
	slices.Sort(handles)
	if len(handles) != 64 || len(slices.Compact(handles)) != 64 {
		t.Fatalf("64 events came as %d deliveries", len(handles))
	}
}
