package callback

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vodrelay/vodrelay/pkg/emulator"
	"github.com/vodrelay/vodrelay/pkg/event"
	"github.com/vodrelay/vodrelay/pkg/pipeline"
	"github.com/vodrelay/vodrelay/pkg/relay"
	"github.com/vodrelay/vodrelay/pkg/retry"
	"github.com/vodrelay/vodrelay/pkg/store"
)

// childTask is the variable that makes this test binary a receiver to be killed.
const childTask = "VODRELAY_CALLBACK_CHILD"

// task is what such a receiver is told.
type task struct {
	Listen string
	Store  string // path of the SQLite file
	Sink   string // path of the file that the sink appends to
	Mode   pipeline.ParkMode
}

// child receives, stores and delivers until it is killed; its store and its sink fail now and then.
func child(text string) {
	var work task
	check(json.Unmarshal([]byte(text), &work))
	check(work.run(context.Background()))
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}

func storeConfig(path string) store.Config {
	cfg := store.DefaultConfig()
	cfg.Path = path
	return cfg
}

// run is the wiring of a program: receiver -> pipeline -> store -> scheduler -> sink.
func (w task) run(ctx context.Context) error {
	file, err := os.OpenFile(w.Sink, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer file.Close()
	parcels, err := store.Open(ctx, storeConfig(w.Store), nil)
	if err != nil {
		return err
	}
	sink := pipeline.SinkFunc(func(ctx context.Context, e event.Event) error {
		switch rand.IntN(10) {
		case 0:
			return errors.New("the sink is down")
		case 1:
			_ = retry.Sleep(ctx, rand.N(200*time.Millisecond))
			return errors.Join(errors.New("the sink is slow"), ctx.Err())
		}
		_, err := fmt.Fprintf(file, "%s\n", e.ID) // one write, which survives the process
		return err
	})
	var p *pipeline.Pipeline
	deliver := func(ctx context.Context, sink string, e event.Event) error { return p.Deliver(ctx, sink, e) }
	schedule := retry.Schedule{Initial: 10 * time.Millisecond, Max: 100 * time.Millisecond}
	scheduler := relay.NewScheduler(nil, parcels, deliver, []relay.Lane{{Sink: "file", Concurrency: 8, Timeout: time.Second, Policy: schedule}})
	p, err = pipeline.New(nil, nil, []pipeline.Route{{Name: "file", Sink: sink, Timeout: 100 * time.Millisecond, Concurrency: 8, Parcels: schedule}},
		pipeline.WithParking(flaky{parcels}, w.Mode), pipeline.OnParked(scheduler.Wake))
	if err != nil {
		return err
	}
	engine, err := relay.New(relay.DefaultConfig(), nil, p, emptySource{})
	if err != nil {
		return err
	}
	engine.UseScheduler(scheduler, nil)
	cfg := testConfig()
	cfg.Listen, cfg.SignKey, cfg.AnswerWithin = w.Listen, testKey, 400*time.Millisecond
	receiver, err := New(cfg, nil, p)
	if err != nil {
		return err
	}
	var all sync.WaitGroup
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	all.Go(func() { check(engine.Run(ctx)) })
	err = receiver.Serve(ctx)
	stop()
	all.Wait()
	return errors.Join(err, parcels.Close(context.Background()))
}

// flaky is a store that fails before or after it has stored something.
type flaky struct{ *store.Store }

func (f flaky) Put(ctx context.Context, parcels ...event.Parcel) error {
	switch rand.IntN(8) {
	case 0:
		return errDown
	case 1:
		return errors.Join(f.Store.Put(ctx, parcels...), errDown)
	}
	return f.Store.Put(ctx, parcels...)
}

type emptySource struct{}

func (emptySource) Pull(ctx context.Context) ([]event.Delivery, error) {
	return nil, retry.Sleep(ctx, time.Second)
}
func (emptySource) Confirm(context.Context, []string) error { return nil }

// TestNothingThatWasAcceptedIsLost has VOD push events at a receiver that is killed again and again while
// its store and its sink fail. Every event whose post was answered with 200 must be in the sink or in a
// parcel afterwards; the posts that nobody answered are what VOD tries again.
func TestNothingThatWasAcceptedIsLost(t *testing.T) {
	for mode, name := range map[pipeline.ParkMode]string{pipeline.ParkEverything: "stored first", pipeline.ParkFailures: "sent first"} {
		t.Run(name, func(t *testing.T) { killReceivers(t, mode) })
	}
}

func killReceivers(t *testing.T, mode pipeline.ParkMode) {
	dir := t.TempDir()
	work := task{Listen: freeAddress(t), Store: filepath.Join(dir, "store.db"), Sink: filepath.Join(dir, "sink"), Mode: mode}
	cloud := emulator.New(emulator.Options{
		Mode: emulator.ModePush, NotificationURL: "http://" + work.Listen + "/", SignKey: testKey,
		PushTimeout: 500 * time.Millisecond, PushPause: 20 * time.Millisecond, JournalSize: 1 << 20,
		Variants: emulator.Variants{PushAcknowledge: emulator.AcknowledgeSuccess},
	})
	defer cloud.Close()
	const rounds, each = 5, 250
	ids := make(map[int64]string)
	for round := range rounds {
		cmd := exec.Command(os.Args[0])
		text, err := json.Marshal(work)
		require.NoError(t, err)
		cmd.Env = append(os.Environ(), childTask+"="+string(text))
		cmd.Stderr = os.Stderr
		require.NoError(t, cmd.Start())
		require.Eventually(t, func() bool {
			conn, err := net.Dial("tcp", work.Listen)
			if err == nil {
				_ = conn.Close()
			}
			return err == nil
		}, 30*time.Second, 5*time.Millisecond)
		before := cloud.Counts()
		contents := emulator.GenerateUploads(each, uint64(round))
		for i, n := range cloud.Publish(testApp, contents...) {
			ids[n] = idOf(t, string(contents[i]))
		}
		threshold := before.Acknowledged + int64(rand.IntN(each)) // in the midst of it
		require.Eventually(t, func() bool {
			c := cloud.Counts()
			return c.Acknowledged > threshold || c.Pushing == 0
		}, 30*time.Second, time.Millisecond)
		require.NoError(t, cmd.Process.Kill())
		require.Error(t, cmd.Wait())
	}
	require.Eventually(t, func() bool { return cloud.Counts().Pushing == 0 }, 30*time.Second, 10*time.Millisecond)

	there := make(map[string]bool)
	file, err := os.Open(work.Sink)
	require.NoError(t, err)
	defer file.Close()
	for lines := bufio.NewScanner(file); lines.Scan(); {
		there[lines.Text()] = true
	}
	inSink := len(there)
	parcels, err := store.Open(t.Context(), storeConfig(work.Store), nil)
	require.NoError(t, err)
	for after := store.Cursor(""); ; {
		page, next, err := parcels.List(t.Context(), store.Filter{}, after, 1000)
		require.NoError(t, err)
		for _, p := range page {
			there[p.ID] = true
		}
		if after = next; next == "" {
			break
		}
	}
	require.NoError(t, parcels.Close(t.Context()))
	acknowledged := 0
	for _, entry := range cloud.Journal() {
		if entry.Kind == emulator.KindAcknowledged {
			require.Equal(t, 200, entry.Status)
			require.True(t, there[ids[entry.Event]], "event %d was answered with 200 and is nowhere", entry.Event)
			acknowledged++
		}
	}
	require.Greater(t, acknowledged, each)
	counts := cloud.Counts()
	t.Logf("%d events, %d posts: %d answered with 200, %d given up; %d in the sink, %d in parcels only",
		counts.Published, counts.Pushed, acknowledged, counts.GivenUp, inSink, len(there)-inSink)
}

func freeAddress(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	return l.Addr().String()
}

// TestAMigrationCollapsesCopies relays from the queue and receives posts of the same events.
func TestAMigrationCollapsesCopies(t *testing.T) {
	dir := t.TempDir()
	parcels, err := store.Open(t.Context(), storeConfig(filepath.Join(dir, "store.db")), nil)
	require.NoError(t, err)
	defer func() { require.NoError(t, parcels.Close(context.Background())) }()
	p, err := pipeline.New(nil, nil, []pipeline.Route{{Name: "site", Sink: pipeline.SinkFunc(func(context.Context, event.Event) error { return nil })}},
		pipeline.WithParking(parcels, pipeline.ParkEverything))
	require.NoError(t, err)
	s := receiver(t, testConfig(), nil, p)
	for _, content := range emulator.GenerateUploads(20, 1) {
		pulled, _, err := event.Decode([]byte(strings.Replace(string(content), "{", `{"EventHandle":"h","PullCompleteEvent":null,`, 1)), testApp)
		require.NoError(t, err)
		require.NoError(t, p.Handle(t.Context(), event.Delivery{Event: pulled, Handle: "h", Deadline: time.Now().Add(time.Minute)}))
		status, _ := ask(s, signed(t, string(content), testKey, time.Minute))
		require.Equal(t, http.StatusOK, status)
	}
	counts, err := parcels.Counts(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, 20, counts[0].Parcels)
}
