package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"sync"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/vodrelay/vodrelay/pkg/config"
	"github.com/vodrelay/vodrelay/pkg/event"
	"github.com/vodrelay/vodrelay/pkg/pipeline"
	"github.com/vodrelay/vodrelay/pkg/redact"
	"github.com/vodrelay/vodrelay/pkg/retry"
	"github.com/vodrelay/vodrelay/pkg/safetext"
	"github.com/vodrelay/vodrelay/pkg/store"
	"github.com/vodrelay/vodrelay/pkg/vod"
)

// Report is what Check found.
type Report struct {
	Findings []Finding `json:"checks"`
	Summary  Summary   `json:"summary"`
}

// Summary counts findings by their status.
type Summary struct {
	OK        int `json:"ok"`
	Warnings  int `json:"warnings"`
	Failed    int `json:"failed"`
	NotTested int `json:"not_tested"`
	// Permanent reports that vodrelay run would end at once with one of the failures, which no restart cures.
	Permanent bool `json:"permanent"`
}

// Finding is the result of one check.
type Finding struct {
	Name   string `json:"name"`             // what was checked
	Status Status `json:"status"`           // how it went
	Detail string `json:"detail,omitempty"` // what was found
	Hint   string `json:"hint,omitempty"`   // what to do about it
	// Untested is what the check could not find out, "" for nothing.
	Untested string `json:"untested,omitempty"`
	// Permanent: vodrelay run would end with the same error, which no restart cures.
	Permanent bool `json:"permanent,omitempty"`
}

// Status is how a check went.
type Status string

// The results of a check.
const (
	Passed    Status = "ok"
	Warned    Status = "warning" // works, but not as most people want it; or may not work
	Failed    Status = "failed"
	NotTested Status = "not tested" // cannot be, or is pointless after another failure
)

// NewReport counts the findings.
func NewReport(findings ...Finding) Report {
	r := Report{Findings: findings}
	for _, f := range findings {
		switch f.Status {
		case Passed:
			r.Summary.OK++
		case Warned:
			r.Summary.Warnings++
		case Failed:
			r.Summary.Failed++
			r.Summary.Permanent = r.Summary.Permanent || f.Permanent
		case NotTested:
			r.Summary.NotTested++
		}
	}
	return r
}

// String is the summary as people read it, such as "7 ok, 1 warning, 1 failed, 2 not tested".
func (s Summary) String() string {
	text := fmt.Sprintf("%d ok, %s, %d failed", s.OK, safetext.Count(s.Warnings, "warning", "warnings"), s.Failed)
	if s.NotTested > 0 {
		text += fmt.Sprintf(", %d not tested", s.NotTested)
	}
	return text
}

// checkTime bounds the checks of each sink and each application.
const checkTime = 15 * time.Second

// Check looks at everything that cfg's relay needs: the credentials, each application's callback mode and queue, the
// right to confirm, the clock, the store, the addresses to listen on, and every sink. It sends and pulls no event. It
// changes nothing, except that a sink to PostgreSQL with create_table makes its table. What the relay would log as a
// warning is a finding, too. The error is that of a configuration from which nothing can be built.
func Check(ctx context.Context, cfg *config.Config) (_ []Finding, err error) {
	warnings, logged := observer.New(zap.WarnLevel)
	a, err := newApp(cfg, zap.New(warnings), io.Discard)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, a.Close(ctx)) }()
	findings := append(checkUser(), a.checkCloud(ctx)...)
	beside := daemonBeside(ctx, cfg)
	findings = append(findings, checkStore(ctx, cfg.Store, cfg.Sinks, a.log, beside)...)
	findings = append(findings, checkTypes(cfg)...)
	findings = append(findings, checkReceiver(ctx, cfg, cfg.Store.Driver != store.DriverNone, beside)...)
	findings = append(findings, checkAdmin(ctx, cfg, beside)...)
	results := make([]Finding, len(a.sinks))
	var checks sync.WaitGroup
	for i, s := range a.sinks {
		checks.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, checkTime)
			defer cancel()
			results[i] = checkSink(ctx, s)
		})
	}
	checks.Wait()
	findings = append(findings, results...)
	for _, entry := range logged.All() {
		findings = append(findings, warningOf(entry))
	}
	return findings, nil
}

func checkSink(ctx context.Context, s builtSink) Finding {
	detail, untested := "ready", s.sink.Untested()
	if untested != "" {
		detail = "is there"
	}
	f := finding(fmt.Sprintf("sink %s (%s)", s.cfg.Name, s.cfg.Type), detail, s.sink.Check(ctx))
	if f.Status == Passed {
		f.Untested = untested
	}
	f.Permanent = false // a sink ends no run: its events wait
	return f
}

// warningOf is what the relay would log when it starts.
func warningOf(entry observer.LoggedEntry) Finding {
	f := Finding{Name: "configuration", Status: Warned, Detail: redact.Text(entry.Message)}
	fields := entry.ContextMap()
	if sink, ok := fields["sink"].(string); ok {
		f.Name = "sink " + sink
	}
	if hint, ok := fields["hint"].(string); ok {
		f.Hint = redact.Quoted(hint)
	}
	return f
}

// checkUser says what the checks of files are worth.
func checkUser() []Finding {
	if os.Geteuid() != 0 {
		return nil
	}
	return []Finding{{
		Name: "rights of files", Status: NotTested, Detail: "root may read and write every file: as another user, run may not",
		Hint: "run the check as the user that runs vodrelay, unless that is root",
	}}
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
			findings = append(findings, Finding{Name: application(id), Status: NotTested, Detail: "without credentials there is nothing to ask"})
			continue
		}
		findings = append(findings, a.checkApplication(ctx, id)...)
	}
	if err == nil {
		findings = append(findings, a.checkClock())
	}
	return findings
}

func (a *App) checkApplication(ctx context.Context, id uint64) []Finding {
	ctx, cancel := context.WithTimeout(ctx, checkTime)
	defer cancel()
	name := application(id)
	settings, err := a.client.EventConfig(ctx, id)
	var findings []Finding
	switch {
	case err == nil:
		findings = append(findings, checkMode(name+", callback mode", settings, a.cfg), checkUploads(name+", upload events", settings))
	case vod.IsDenied(err):
		findings = append(findings, optional(name+", callback mode", err))
	default:
		return []Finding{
			finding(name+", callback mode", "", err),
			{Name: name, Status: NotTested, Detail: "its queue and the rights to it: the failure above comes first"},
		}
	}
	return append(findings, a.checkQueue(ctx, name+", queue", id), a.checkConfirm(ctx, name+", right to confirm", id), Finding{
		Name: name + ", right to pull", Status: NotTested, Detail: "only a pull shows it",
		Hint: fmt.Sprintf("test it with vodrelay peek -n 1: it pulls up to %d events and confirms none, so they come back when their lease of %s ends", event.MaxBatch, event.LeaseTime),
	})
}

// optional is the finding that the key lacks a right that the relay can do without.
func optional(name string, err error) Finding {
	f := finding(name, "", err)
	f.Status, f.Permanent = Warned, false
	f.Detail += "; vodrelay run works without it, but nothing tells what this would have shown"
	return f
}

// How far this machine's clock may be off. From clockWarning on nobody keeps it right, and near vod.MaxSkew the next
// hour may bring the end.
const (
	clockWarning = 10 * time.Second
	clockFailure = vod.MaxSkew - time.Minute
)

func (a *App) checkClock() Finding {
	const name = "clock"
	clock, known := a.client.Clock()
	if !known {
		return Finding{Name: name, Status: NotTested, Detail: "it could not be measured, since no reply had a Date"}
	}
	f := Finding{Name: name, Status: Passed, Detail: clock.String()}
	switch off := clock.Ahead.Abs(); {
	case off >= clockFailure:
		f.Status, f.Hint = Failed, vod.ClockRemedy
	case off >= clockWarning:
		f.Status, f.Hint = Warned, vod.ClockRemedy
	}
	return f
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
	if vod.IsDenied(err) {
		return optional(name, err)
	}
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

// finding is detail where there is no error.
func finding(name, detail string, err error) Finding {
	if err == nil {
		return Finding{Name: name, Status: Passed, Detail: detail}
	}
	f := Finding{Name: name, Status: Failed, Detail: redact.Text(err.Error()), Hint: redact.Quoted(retry.Hint(err)), Permanent: retry.IsPermanent(err)}
	if retry.IsDoubtful(err) {
		f.Status, f.Permanent = Warned, false
	}
	return f
}

func application(id uint64) string {
	if id == 0 {
		return "application (no SubAppId)"
	}
	return "application " + strconv.FormatUint(id, 10)
}
