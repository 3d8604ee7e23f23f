package app_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/vodrelay/vodrelay/pkg/app"
	"github.com/vodrelay/vodrelay/pkg/config"
	"github.com/vodrelay/vodrelay/pkg/emulator"
	"github.com/vodrelay/vodrelay/pkg/event"
	"github.com/vodrelay/vodrelay/pkg/pipeline"
	"github.com/vodrelay/vodrelay/pkg/retry"
)

const patient = 30 * time.Second // what a step may take on a busy machine

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	require.Eventually(t, ok, patient, 5*time.Millisecond, what)
}

// relaying is an assembled App at work, with real sinks, against an emulator.
type relaying struct {
	t       *testing.T
	cloud   *emulator.Server
	app     *app.App
	level   zap.AtomicLevel
	dir     string
	environ []string
	hook    string
	posted  atomic.Int64
	stop    context.CancelFunc
	ended   chan error

	mu    sync.Mutex
	made  []*counted
	stuck string // the name of a sink whose Close waits for its context and longer
	free  chan struct{}
}

// counted is a real sink whose closes are counted.
type counted struct {
	app.Sink
	name   string
	closed atomic.Int64
	deaf   <-chan struct{} // nil: Close is the sink's
}

func (c *counted) Close(ctx context.Context) error {
	c.closed.Add(1)
	if c.deaf != nil {
		<-c.deaf
	}
	return c.Sink.Close(ctx)
}

const relayed = `
vod: {sub_app_ids: [1, 2, 3]}
relay: {max_in_hand: 96}
`

func startRelaying(t *testing.T) *relaying {
	r := &relaying{t: t, cloud: emulator.New(emulator.Options{}), level: zap.NewAtomicLevel(), dir: t.TempDir(), ended: make(chan error, 1), free: make(chan struct{})}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	serving := make(chan error, 1)
	go func() { serving <- r.cloud.Serve(l) }()
	target := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { r.posted.Add(1) }))
	r.hook = target.URL
	r.environ = []string{
		"HOME=" + r.dir, "VODRELAY_VOD_CREDENTIALS_SECRET_ID=" + emulator.DefaultSecretID, "VODRELAY_VOD_CREDENTIALS_SECRET_KEY=" + emulator.DefaultSecretKey,
		"VODRELAY_VOD_ENDPOINT=http://" + l.Addr().String(), "VODRELAY_ADMIN_LISTEN=127.0.0.1:0",
		"VODRELAY_STORE_PATH=" + filepath.Join(r.dir, "store.db"),
	}
	cfg := r.load(relayed + r.sinks("removed", "kept"))
	r.app, err = app.New(t.Context(), cfg, zap.NewNop(), io.Discard, app.WithLog(&app.Log{Level: r.level}), app.WithSinks(r.wrap))
	require.NoError(t, err)
	var running context.Context
	running, r.stop = context.WithCancel(context.Background())
	go func() { r.ended <- r.app.Run(running) }()
	t.Cleanup(func() {
		r.stop()
		target.Close()
		r.cloud.Close()
		require.NoError(t, <-serving)
	})
	return r
}

func (r *relaying) wrap(name string, s app.Sink) app.Sink {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := &counted{Sink: s, name: name}
	if name == r.stuck {
		c.deaf = r.free
	}
	r.made = append(r.made, c)
	return c
}

// sinks has the webhook and a file for each name.
func (r *relaying) sinks(files ...string) string {
	text := fmt.Sprintf("sinks:\n  - {name: hook, type: webhook, url: %q}\n", r.hook)
	for _, name := range files {
		text += fmt.Sprintf("  - {name: %s, type: file, path: %q}\n", name, filepath.Join(r.dir, name))
	}
	return text
}

func (r *relaying) load(text string) *config.Config {
	r.t.Helper()
	path := filepath.Join(r.t.TempDir(), "vodrelay.yaml")
	require.NoError(r.t, os.WriteFile(path, []byte(text), 0o600))
	cfg, err := config.Load(config.LoadOptions{Path: path, Environ: r.environ})
	require.NoError(r.t, err)
	return cfg
}

func (r *relaying) lines(name string) int {
	data, _ := os.ReadFile(filepath.Join(r.dir, name))
	return bytes.Count(data, []byte("\n"))
}

// requireAccepting publishes events and waits until the webhook and the files have got each of them.
func (r *relaying) requireAccepting(files ...string) {
	r.t.Helper()
	posted, confirmed, lines := r.posted.Load(), r.cloud.Counts().Confirmed, map[string]int{}
	for _, name := range files {
		lines[name] = r.lines(name)
	}
	for id := range uint64(3) {
		r.cloud.Publish(id+1, emulator.GenerateUploads(2, uint64(time.Now().UnixNano()))...)
	}
	eventually(r.t, "all are confirmed", func() bool { return r.cloud.Counts().Confirmed == confirmed+6 })
	require.Equal(r.t, posted+6, r.posted.Load(), "the webhook accepts")
	for _, name := range files {
		require.Equal(r.t, lines[name]+6, r.lines(name), "%s accepts", name)
	}
}

// closes is how often the sinks of a name were closed, each of those that were made.
func (r *relaying) closes(name string) (all []int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range r.made {
		if c.name == name {
			all = append(all, c.closed.Load())
		}
	}
	return all
}

func (r *relaying) finish() {
	r.t.Helper()
	r.stop()
	require.NoError(r.t, <-r.ended)
	require.NoError(r.t, r.app.Close(context.Background()))
}

// Whatever a reload fails of, the sinks in use go on, what it made is closed once, and a later reload works.
func TestAFailedReloadChangesNothing(t *testing.T) {
	r := startRelaying(t)
	text := func(settings string, files ...string) string {
		return settings + "log: {level: debug}\n" + r.sinks(files...)
	}
	missing := filepath.Join(r.dir, "missing", "ca.pem")
	for _, c := range []struct {
		name, settings string
		spoil          func(cfg *config.Config)
		want           string
		made           int // fresh sinks
	}{
		{"limits, with other applications", "vod: {sub_app_ids: [1]}\nrelay: {max_in_hand: 32}\n", nil, "relay.max_in_hand: 32: must be at least 96: 32 for each of 3 applications", 1},
		{"limits, without a source", "sources: [callback]\nrelay: {max_in_hand: 16}\n", nil, "relay.max_in_hand: 16: must be at least 96: 32 for each of 3 applications", 1},
		{"limits", relayed, func(cfg *config.Config) { cfg.Relay.StopGrace = time.Hour }, "relay.stop_grace: 1h0m0s: must be between", 1},
		{"processor", relayed, func(cfg *config.Config) { cfg.Processors = []pipeline.ProcessorConfig{{Filter: "type =="}} }, "processors[0]: filter:", 0},
		{"level", relayed, func(cfg *config.Config) { cfg.Log.Level = "loud" }, "log.level:", 0},
		{"name of two", relayed, func(cfg *config.Config) { cfg.Sinks[2].Name = "kept" }, "sink kept: two sinks have this name", 1},
		{"name of a pseudo sink", relayed, func(cfg *config.Config) { cfg.Sinks[2].Name = event.Unprocessed }, "sink -: this name stands for", 1},
		{"condition", relayed, func(cfg *config.Config) { cfg.Sinks[2].When = "type ==" }, "sink fresh: when:", 1},
		{"policy", relayed, func(cfg *config.Config) { cfg.Sinks[2].Retry.Max = -1 }, "sink fresh: retry.max", 1},
		{"type", relayed, func(cfg *config.Config) { cfg.Sinks = append(cfg.Sinks, config.Sink{Type: "fax"}) }, `type: "fax"`, 1},
		{"file of a later sink", relayed, func(cfg *config.Config) {
			hook := cfg.Sinks[0]
			hook.Name, hook.Webhook = "later", new(*hook.Webhook)
			hook.Webhook.TLS.CAFile = missing
			cfg.Sinks = append(cfg.Sinks, hook)
		}, "sink later:", 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			r.t = t
			cfg := r.load(text(c.settings, "kept", "fresh"))
			if c.spoil != nil {
				c.spoil(cfg)
			}
			before := len(r.made)
			_, err := r.app.Reload(cfg)
			require.ErrorContains(t, err, c.want)
			if c.settings != relayed {
				require.Contains(t, retry.Hint(err), "restart vodrelay")
			}
			require.Len(t, r.made, before+c.made)
			for _, fresh := range r.made[before:] {
				require.EqualValues(t, 1, fresh.closed.Load(), "%s is closed once", fresh.name)
			}
			require.Equal(t, zapcore.InfoLevel, r.level.Level())
			require.Equal(t, []string{"hook", "removed", "kept"}, r.sinkNames())
			r.requireAccepting("removed", "kept")
			for _, old := range r.made[:3] {
				require.Zero(t, old.closed.Load(), "%s goes on", old.name)
			}
		})
	}

	r.t = t
	_, err := r.app.Reload(r.load(text(relayed, "kept", "fresh")))
	require.NoError(t, err)
	require.Equal(t, zapcore.DebugLevel, r.level.Level())
	require.Equal(t, []string{"hook", "kept", "fresh"}, r.sinkNames())
	removed := r.lines("removed")
	r.requireAccepting("kept", "fresh")
	require.Equal(t, removed, r.lines("removed"))
	eventually(t, "the removed sink is closed", func() bool { return r.closes("removed")[0] == 1 })

	late := r.load(text(relayed, "kept", "too-late"))
	r.stop()
	eventually(t, "the stop has begun", func() bool {
		_, err := r.app.Reload(late)
		return err != nil && err.Error() == "vodrelay is stopping"
	})
	r.finish()
	_, err = r.app.Reload(late)
	require.EqualError(t, err, "vodrelay is stopping")
	for _, c := range r.made {
		require.EqualValues(t, 1, c.closed.Load(), "%s is closed once", c.name)
	}
}

func (r *relaying) sinkNames() (names []string) {
	for _, s := range r.app.PipelineStats().Sinks {
		names = append(names, s.Name)
	}
	return names
}

// Reloads come at once, and a stop among them: each sink that was ever made is closed once.
func TestReloadsAtOnceWithAStop(t *testing.T) {
	r := startRelaying(t)
	one, other := r.load(relayed+r.sinks("kept", "a")), r.load(relayed+r.sinks("kept", "b"))
	var reloads sync.WaitGroup
	for _, cfg := range []*config.Config{one, other, one, other} {
		reloads.Go(func() {
			for {
				if _, err := r.app.Reload(cfg); err != nil {
					assert.EqualError(t, err, "vodrelay is stopping")
					return
				}
			}
		})
	}
	r.requireAccepting("kept")
	r.finish()
	reloads.Wait()
	for _, c := range r.made {
		require.EqualValues(t, 1, c.closed.Load(), "%s is closed once", c.name)
	}
}

// A sink whose Close never ends holds up neither the sinks that stay nor a new one under its own name, nor the
// end of the program.
func TestARemovedSinkWhoseCloseHangs(t *testing.T) {
	r := startRelaying(t)
	r.mu.Lock()
	r.stuck = "a"
	r.mu.Unlock()
	reload := func(files ...string) {
		t.Helper()
		_, err := r.app.Reload(r.load(relayed + r.sinks(files...)))
		require.NoError(t, err)
	}
	reload("kept", "a")
	r.requireAccepting("kept", "a")
	reload("kept")
	eventually(t, "it is being closed", func() bool { return r.closes("a")[0] == 1 })
	r.requireAccepting("kept")
	reload("kept", "a")
	r.requireAccepting("kept", "a")
	require.Equal(t, []int64{1, 0}, r.closes("a"))
	r.stop()
	require.NoError(t, <-r.ended)
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	require.ErrorContains(t, r.app.Close(ctx), "sink a: close: does not end")
	require.Equal(t, []int64{1}, r.closes("kept"))
	close(r.free)
}
