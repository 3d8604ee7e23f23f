package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/vodrelay/vodrelay/pkg/config"
	"github.com/vodrelay/vodrelay/pkg/event"
	"github.com/vodrelay/vodrelay/pkg/pipeline"
	"github.com/vodrelay/vodrelay/pkg/redact"
	"github.com/vodrelay/vodrelay/pkg/retry"
	"github.com/vodrelay/vodrelay/pkg/safetext"
	"github.com/vodrelay/vodrelay/pkg/store"
	"github.com/vodrelay/vodrelay/pkg/vod"
)

// Finding is the result of one check.
type Finding struct {
	Name   string `json:"name"`             // what was checked
	Status Status `json:"status"`           // how it went
	Detail string `json:"detail,omitempty"` // what was found
	Hint   string `json:"hint,omitempty"`   // what to do about it
	// Permanent: vodrelay run would end with the same error, which no restart cures.
	Permanent bool `json:"permanent,omitempty"`
}

// Status is how a check went.
type Status string

// The results of a check.
const (
	Passed  Status = "ok"
	Warned  Status = "warning" // works, but not as most people want it
	Failed  Status = "failed"
	Skipped Status = "skipped" // pointless after another failure
)

// checkTime bounds the checks of each sink and each application.
const checkTime = 15 * time.Second

// Check looks at everything that cfg's relay needs and changes nothing: the credentials, each application's
// callback mode and queue, the right to confirm, the store, and every sink. No event is pulled. The error
// is that of a configuration from which nothing can be built.
func Check(ctx context.Context, cfg *config.Config) (_ []Finding, err error) {
	a, err := newApp(cfg, zap.NewNop(), io.Discard)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, a.Close(ctx)) }()
	findings := append(a.checkCloud(ctx), checkStore(ctx, cfg.Store, cfg.Sinks)...)
	findings = append(findings, checkTypes(cfg)...)
	findings = append(findings, checkReceiver(ctx, cfg, cfg.Store.Driver != store.DriverNone)...)
	results := make([]Finding, len(a.sinks))
	var checks sync.WaitGroup
	for i, s := range a.sinks {
		checks.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, checkTime)
			defer cancel()
			results[i] = finding(fmt.Sprintf("sink %s (%s)", s.cfg.Name, s.cfg.Type), "ready", s.sink.Check(ctx))
		})
	}
	checks.Wait()
	return append(findings, results...), nil
}

func (a *App) checkCloud(ctx context.Context) []Finding {
	if len(a.apps) == 0 { // what only receives needs no key
		return nil
	}
	source, untidy, err := a.client.CredentialSource(ctx)
	findings := []Finding{finding("credentials", "from "+source, err)}
	if untidy != "" {
		findings[0].Status, findings[0].Detail, findings[0].Hint = Warned, findings[0].Detail+": "+untidy+", which is left out", vod.UntidyHint
	}
	for _, id := range a.apps {
		if err != nil {
			findings = append(findings, Finding{Name: application(id), Status: Skipped, Detail: "without credentials there is nothing to ask"})
			continue
		}
		findings = append(findings, a.checkApplication(ctx, id)...)
	}
	return findings
}

func (a *App) checkApplication(ctx context.Context, id uint64) []Finding {
	ctx, cancel := context.WithTimeout(ctx, checkTime)
	defer cancel()
	name := application(id)
	settings, err := a.client.EventConfig(ctx, id)
	if err != nil {
		return []Finding{finding(name+", callback mode", "", err)}
	}
	return []Finding{
		checkMode(name+", callback mode", settings, a.cfg),
		checkUploads(name+", upload events", settings),
		a.checkQueue(ctx, name+", queue", id),
		a.checkConfirm(ctx, name+", right to confirm", id),
	}
}

func checkMode(name string, settings vod.EventConfig, cfg *config.Config) Finding {
	switch pulled := settings.Mode == vod.ModePull; {
	case pulled && cfg.Pulls():
		return Finding{Name: name, Status: Passed, Detail: "reliable callback (PULL)"}
	case pulled:
		return Finding{
			Name: name, Status: Failed, Detail: "reliable callback (PULL): nothing is posted to this receiver",
			Hint: "add pull to sources, or switch with `vodrelay mode push --url URL`; it takes up to 10 minutes",
		}
	case cfg.Receives():
		return Finding{Name: name, Status: Passed, Detail: "normal callback (" + settings.Mode + ")"}
	}
	return Finding{
		Name: name, Status: Failed, Detail: "normal callback (" + settings.Mode + "): no event goes to the queue",
		Hint: "switch with `vodrelay mode pull`, or in the console under Callback Settings; it takes up to 10 minutes",
	}
}

func checkUploads(name string, settings vod.EventConfig) Finding {
	if settings.UploadMediaComplete == vod.On {
		return Finding{Name: name, Status: Passed, Detail: "on"}
	}
	return Finding{
		Name: name, Status: Warned, Detail: "off: VOD does not notify of finished uploads (NewFileUpload)",
		Hint: "switch them on with `vodrelay mode --uploads on`, unless you want it so",
	}
}

func (a *App) checkQueue(ctx context.Context, name string, id uint64) Finding {
	depth, err := a.client.QueueDepth(ctx, id)
	return finding(name, "about "+safetext.Count(depth, "event is", "events are")+" waiting", err)
}

// checkConfirm confirms a handle that cannot exist. Who may confirm is told that it is stale; nothing else
// happens.
func (a *App) checkConfirm(ctx context.Context, name string, id uint64) Finding {
	err := a.client.Queue(id).Confirm(ctx, []string{"vodrelay-check"})
	if errors.Is(err, event.ErrStaleHandle) {
		err = nil
	}
	return finding(name, "granted", err)
}

// checkTypes finds conditions on event types that VOD does not document, which are true for no event if they are
// typos. What is documented today may not be all that VOD sends.
func checkTypes(cfg *config.Config) (findings []Finding) {
	look := func(where, condition string) {
		if condition == "" {
			return
		}
		cond, err := pipeline.CompileCondition(condition)
		if err != nil { // the configuration was checked
			return
		}
		for _, odd := range cond.UndocumentedTypes() {
			f := Finding{Name: where, Status: Warned, Detail: fmt.Sprintf("%q is no event type that VOD documents", odd.Text)}
			if f.Hint = "leave it if VOD sends such events; `vodrelay peek` shows some"; odd.Near != "" {
				f.Hint = "did you mean " + odd.Near + "?"
			}
			findings = append(findings, f)
		}
	}
	for i, p := range cfg.Processors {
		look(fmt.Sprintf("processors[%d].filter", i), p.Filter)
	}
	for _, s := range cfg.Sinks {
		look("sink "+s.Name+", when", s.When)
	}
	return findings
}

func finding(name, detail string, err error) Finding {
	if err == nil {
		return Finding{Name: name, Status: Passed, Detail: detail}
	}
	return Finding{Name: name, Status: Failed, Detail: redact.Text(err.Error()), Hint: redact.Quoted(retry.Hint(err))}
}

func application(id uint64) string {
	if id == 0 {
		return "application (no SubAppId)"
	}
	return "application " + strconv.FormatUint(id, 10)
}
