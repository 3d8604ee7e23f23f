package app

import (
	"context"
	"fmt"
	"time"

	"go.uber.org/zap"

	"github.com/vodrelay/vodrelay/pkg/config"
	"github.com/vodrelay/vodrelay/pkg/event"
	"github.com/vodrelay/vodrelay/pkg/pipeline"
	"github.com/vodrelay/vodrelay/pkg/retry"
	"github.com/vodrelay/vodrelay/pkg/safetext"
	"github.com/vodrelay/vodrelay/pkg/selection"
	"github.com/vodrelay/vodrelay/pkg/store"
)

const (
	// goneTime bounds one look for parcels of sinks that are gone, and goneRetry is the pause after one that failed.
	goneTime  = 2 * time.Second
	goneRetry = time.Minute
	// mostGone is how many names of sinks are reported.
	mostGone = 10
)

// Shelf is a store as moves and the look for sinks that are gone use it.
type Shelf interface {
	selection.Finder
	Counts(ctx context.Context) ([]store.Count, error)
	Move(ctx context.Context, from, to string, before int64, wanted func(event.Event) bool) (selection.Moved, error)
}

// Move hands the parcels of a sink that is not configured any more to one that is; see store.Move. An error about
// the names is permanent, and has a hint.
func Move(ctx context.Context, s Shelf, sinks []config.Sink, m selection.Move) (selection.Moved, error) {
	wanted, err := moveTarget(ctx, sinks, m.From, m.To)
	if err != nil {
		return selection.Moved{}, err
	}
	return s.Move(ctx, m.From, m.To, m.Before, wanted)
}

// PlanMove looks at what Move would move, and changes nothing. The error is as of Move.
func PlanMove(ctx context.Context, s Shelf, sinks []config.Sink, m selection.Move) (*selection.Plan, error) {
	if _, err := moveTarget(ctx, sinks, m.From, m.To); err != nil {
		return nil, err
	}
	return selection.NewPlan(ctx, s, selection.Selection{Sink: &m.From, Before: m.Before}, time.Now())
}

// moveTarget returns which events the new sink wants. An event on which its condition fails is one: the sink's
// own lane reports that.
func moveTarget(ctx context.Context, sinks []config.Sink, from, to string) (wanted func(event.Event) bool, err error) {
	refuse := func(hint, format string, args ...any) error {
		return retry.Permanent(retry.WithHint(fmt.Errorf(format, args...), hint))
	}
	names := make([]string, len(sinks))
	target := -1
	gone := true
	for i, s := range sinks {
		names[i] = s.Name
		if s.Name == to {
			target = i
		}
		gone = gone && s.Name != from
	}
	switch {
	case from == "" || to == "":
		return nil, refuse("name the sink that is gone and the one that takes its parcels", "from and to: one of them is empty")
	case from == event.Unprocessed || to == event.Unprocessed:
		return nil, refuse("replay them: they go through the whole pipeline then", "%s is no sink: its parcels are events that a processor failed on", event.Unprocessed)
	case target < 0:
		hint := "name a sink of the configuration; a daemon has to be reloaded first when the sink is new there"
		if near := config.Nearest(to, names); near != "" {
			hint = "did you mean " + near + "? A daemon has to be reloaded first when the sink is new there"
		}
		return nil, refuse(hint, "to: there is no sink %s in the configuration", safetext.Name(to))
	case !gone:
		return nil, refuse("rename the sink, or take it out of the configuration, and reload the daemon first", "from: sink %s is in the configuration: it sends its parcels itself", safetext.Name(from))
	}
	if sinks[target].When == "" {
		return func(event.Event) bool { return true }, nil
	}
	condition, err := pipeline.CompileCondition(sinks[target].When)
	if err != nil { // of a valid configuration this never happens
		return nil, err
	}
	return func(e event.Event) bool {
		ok, err := condition.Match(ctx, e)
		return ok || err != nil
	}, nil
}

// goneSinks is what waits in s for none of the sinks.
func goneSinks(ctx context.Context, s Shelf, sinks []config.Sink) ([]selection.Gone, error) {
	counts, err := s.Counts(ctx)
	groups := make([]selection.Group, len(counts))
	for i, c := range counts {
		groups[i] = selection.Group{Sink: c.Sink, State: c.State, Parcels: c.Parcels}
	}
	names := make([]string, len(sinks))
	for i, sink := range sinks {
		names[i] = sink.Name
	}
	return selection.OfGone(groups, names), err
}

// hintGone says what to do about the parcels of a sink that is gone.
func hintGone(sink string) string {
	name := safetext.Name(sink)
	return fmt.Sprintf("hand them to another sink with `vodrelay parcels move --from %s --to NEW`, or delete them with `vodrelay parcels drop --sink %s`", name, name)
}

// warnOfGone logs what waits for sinks that are not configured: when the store opens and after each reload, until
// ctx is done.
func (a *App) warnOfGone(ctx context.Context) {
	select {
	case <-ctx.Done():
		return
	case <-a.store.Opened():
	}
	for {
		var again <-chan time.Time
		if err := a.logGone(ctx); err != nil {
			a.log.Debug("cannot see whether parcels wait for a sink that is gone", zap.Error(err))
			again = time.After(goneRetry)
		}
		select {
		case <-ctx.Done():
			return
		case <-a.sinksChanged:
		case <-again:
		}
	}
}

func (a *App) logGone(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), goneTime) // a drain may end sooner
	defer cancel()
	all, err := goneSinks(ctx, a.store, a.currentSinks())
	if err != nil {
		return err
	}
	for _, g := range all[:min(len(all), mostGone)] {
		a.log.Warn("parcels wait for a sink that is not in the configuration", zap.String("sink", g.Sink),
			zap.Int64("waiting", g.Waiting), zap.Int64("dead", g.Dead), zap.String("hint", hintGone(g.Sink)))
	}
	if len(all) > mostGone {
		a.log.Warn("parcels wait for more sinks that are not in the configuration", zap.Int("sinks", len(all)-mostGone),
			zap.String("hint", "see them with `vodrelay check`"))
	}
	return nil
}

// CheckGone warns of each name for which parcels wait in s and that is none of the sinks.
func CheckGone(ctx context.Context, s Shelf, sinks []config.Sink) ([]Finding, error) {
	all, err := goneSinks(ctx, s, sinks)
	var findings []Finding
	for _, g := range all {
		findings = append(findings, Finding{
			Name: "parcels of sink " + safetext.Name(g.Sink), Status: Warned, Hint: hintGone(g.Sink),
			Detail: fmt.Sprintf("%d waiting and %d dead, for a sink that is not in the configuration", g.Waiting, g.Dead),
		})
	}
	return findings, err
}

// currentSinks are the configurations of the sinks, as of the last reload.
func (a *App) currentSinks() []config.Sink {
	a.mu.Lock()
	defer a.mu.Unlock()
	all := make([]config.Sink, len(a.sinks))
	for i, s := range a.sinks {
		all[i] = s.cfg
	}
	return all
}
