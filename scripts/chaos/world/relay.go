package world

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/vodrelay/vodrelay/scripts/chaos/ledger"
	"github.com/vodrelay/vodrelay/scripts/chaos/proxy"
)

const (
	stopLimit   = 27 * time.Second // a stop takes at most 25 s
	reloadLimit = time.Minute      // it finishes what is in hand
)

// relay is one vodrelay with its proxies. It is started again whenever it has ended.
type relay struct {
	world  *World
	number int
	config string
	log    string
	admin  string
	links  map[string]*proxy.Proxy // by the other end: api, store, or a sink
	noted  map[string]int          // how much of their logs the ledger has

	mu       sync.Mutex // who holds it may start, end, freeze or configure it
	process  *process
	expected atomic.Bool // its end is wanted
	up       atomic.Bool // it has said that it starts: from then on it knows signals
	extra    bool        // what its configuration says
	changed  int

	reloaded, refused atomic.Int64 // lines of its log
}

func (r *relay) String() string { return fmt.Sprintf("relay %d", r.number) }

// line looks at a line of its log.
func (r *relay) line(text []byte) {
	switch {
	case bytes.Contains(text, []byte(`"msg":"starting"`)):
		r.up.Store(true)
	case bytes.Contains(text, []byte(`"configuration reloaded"`)):
		r.reloaded.Add(1)
	case bytes.Contains(text, []byte(`"the configuration was not reloaded`)):
		r.refused.Add(1)
	case bytes.HasPrefix(text, []byte("panic:")), bytes.HasPrefix(text, []byte("fatal error:")), bytes.Contains(text, []byte("DATA RACE")):
		r.world.fail("exit", "%s: %s (see %s)", r, text, r.log)
	}
}

// start starts it. The caller holds mu.
func (r *relay) start() error {
	r.up.Store(false)
	p, err := start(r.log, r.world.environ(), r.line, r.world.options.Program, "run", "-c", r.config)
	if err != nil {
		return err
	}
	r.expected.Store(false)
	r.process = p
	r.world.watching.Go(func() {
		<-p.ended
		if !r.expected.Load() {
			r.world.fail("exit", "%s ended by itself with %d: see the end of %s", r, p.code, r.log)
		}
	})
	return nil
}

// kill ends it with SIGKILL. The caller holds mu.
func (r *relay) kill() {
	r.expected.Store(true)
	r.process.kill()
}

// startLimit is how long a start may take that waits for nothing.
const startLimit = 40 * time.Second

// wait waits until it knows signals, which would end it at once before. The caller holds mu.
func (r *relay) wait() {
	for end := time.Now().Add(startLimit); !r.up.Load() && r.process.running(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			r.world.fail("exit", "%s did not start within %s: see %s", r, startLimit, r.log)
			return
		}
	}
}

// terminate ends it with SIGTERM, and reports an end that is late or not in order. The caller holds mu.
func (r *relay) terminate() {
	r.wait()
	r.expected.Store(true)
	began := time.Now()
	r.process.signal(syscall.SIGTERM)
	code, err := r.process.wait(stopLimit)
	switch {
	case err != nil:
		r.world.fail("exit", "%s after SIGTERM: %v", r, err)
		r.process.kill()
		r.world.did(ledger.Killed, "", fmt.Sprint(r, " killed after a stop that did not end"), began, time.Now())
	case code != 0:
		r.world.fail("exit", "%s ended with %d after SIGTERM: see %s", r, code, r.log)
	}
	r.world.did(ledger.Stopped, "", fmt.Sprint(r, " stopped"), began, time.Now())
}

// configure writes its configuration. The caller holds mu.
func (r *relay) configure(extra map[string]any) error {
	settings := r.settings()
	for key, value := range extra {
		settings[key] = value
	}
	text, err := json.MarshalIndent(settings, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(r.config+".new", text, 0o600); err != nil {
		return err
	}
	return os.Rename(r.config+".new", r.config)
}

// reload sends SIGHUP and waits until counter says that it was heard. The caller holds mu.
func (r *relay) reload(counter *atomic.Int64) {
	before := counter.Load()
	r.process.signal(syscall.SIGHUP)
	for end := time.Now().Add(reloadLimit); counter.Load() == before; time.Sleep(20 * time.Millisecond) {
		if !r.process.running() {
			return // that is reported by whom it concerns
		}
		if time.Now().After(end) {
			r.world.fail("reload", "%s did not answer SIGHUP within %s: see %s", r, reloadLimit, r.log)
			return
		}
	}
}

// settings are its configuration.
func (r *relay) settings() map[string]any {
	w := r.world
	sinks := []map[string]any{}
	for _, s := range w.plan.Sinks {
		if s.Extra && !r.extra {
			continue
		}
		settings := w.targets[s.Name].settings(r)
		settings["name"], settings["type"] = s.Name, s.Type
		settings["timeout"] = fmt.Sprintf("%ds", 4+r.changed%2)
		settings["breaker"] = map[string]any{"open": "2s"}
		settings["parcels"] = map[string]any{"initial": "1s", "max": "4s"}
		if len(s.Types) > 0 {
			settings["when"] = fmt.Sprintf("type == %q", s.Types[0])
		}
		sinks = append(sinks, settings)
	}
	level := "debug"
	if w.options.Watch != nil { // for an hour
		level = "info"
	}
	return map[string]any{
		"vod": map[string]any{
			"endpoint": "http://" + r.links["api"].Addr(), "sub_app_ids": []int{application},
			"credentials": map[string]any{"provider": "file", "file": w.credentials},
		},
		"relay": map[string]any{"confirm": w.plan.Confirm, "max_in_hand": 256, "stop_grace": w.plan.StopGrace.String()},
		"sinks": sinks,
		"store": w.store.settings(r),
		"admin": map[string]any{"listen": r.admin},
		"log":   map[string]any{"level": level, "format": "json"},
	}
}

// file is a file of this relay.
func (r *relay) file(name string) string {
	return filepath.Join(r.world.dir, fmt.Sprintf("relay-%d%s", r.number, name))
}

// environ is the environment of every vodrelay.
func (w *World) environ() []string {
	return []string{"PATH=" + os.Getenv("PATH"), "HOME=" + w.dir, "TMPDIR=" + w.dir}
}
