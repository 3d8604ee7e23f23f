package relay

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"

	"github.com/vodrelay/vodrelay/pkg/event"
	"github.com/vodrelay/vodrelay/pkg/retry"
)

const (
	// gatherTime is how long a lane waits at most for further results once it has one, so that many share
	// one write; and gatherShare the part of a send's time that it may add to it.
	gatherTime  = 5 * time.Millisecond
	gatherShare = 20
	// busyTime is the wait after a parcel found no place among new events.
	busyTime = time.Second
	// drainProbes is how often a drain waits for a sink that is down before it leaves its parcels.
	drainProbes = 3
)

// sent is what became of one attempt.
type sent struct {
	parcel event.Parcel
	err    error
	took   time.Duration
}

// gather takes the result and those that come soon after it.
func (l *lane) gather(working context.Context, first sent) {
	l.take(working, first)
	over, stop := after(min(gatherTime, first.took/gatherShare))
	defer stop()
	for len(l.inFlight) > 0 {
		select {
		case r := <-l.results:
			l.take(working, r)
		case <-over:
			return
		}
	}
}

// take decides what a result means for its parcel and for the lane.
func (l *lane) take(working context.Context, r sent) {
	delete(l.inFlight, r.parcel.Key())
	l.bytes -= len(r.parcel.Raw)
	s := l.scheduler
	switch {
	case r.err == nil:
		s.delivered.Add(1)
		l.completed = append(l.completed, r.parcel.Key())
		if l.down {
			l.down, l.release, l.probes = false, true, drainProbes
		}
	case errors.Is(r.err, retry.ErrNotTried):
		s.notTried.Add(1)
		l.returned = append(l.returned, r.parcel.Key())
		delay := retry.Delay(r.err)
		if delay <= 0 { // the target is busy, no more
			l.lookAt = later(l.lookAt, time.Now().Add(busyTime))
			return
		}
		l.down, l.probeAt = true, time.Now().Add(delay)
		if l.draining {
			l.probes--
			l.over = l.over || l.probes < 0
		}
	case working.Err() != nil: // cut off by our own stop
		l.returned = append(l.returned, r.parcel.Key())
	default:
		outcome := s.judge(l.Lane, r.parcel, r.err)
		l.outcomes = append(l.outcomes, outcome)
		if at := later(outcome.Next, l.looked.Add(laneBusy)); !outcome.Dead && at.Before(l.lookAt) {
			l.lookAt = at
		}
		s.log.Debug("parcel not delivered", zap.String("sink", r.parcel.Sink), zap.String("event_id", r.parcel.ID),
			zap.String("event_type", r.parcel.Type), zap.Int("attempt", r.parcel.Attempts+1), zap.Bool("dead", outcome.Dead), zap.Time("next", outcome.Next), zap.Error(r.err))
		if l.down && !retry.IsPermanent(r.err) { // which blames the event: the next one is tried at once
			l.over = l.draining // it has been tried, and is still down
		}
	}
}

// judge says what a failed attempt on p means for it.
func (s *Scheduler) judge(l Lane, p event.Parcel, err error) event.ParcelOutcome {
	now := time.Now()
	failures := p.Attempts + 1
	out := event.ParcelOutcome{Key: p.Key(), Dead: retry.IsPermanent(err)}
	if reason := l.Policy.Exhausted(failures, now.Sub(p.Created)); reason != "" && !out.Dead {
		out.Dead = true
		err = fmt.Errorf("%s: %w", reason, err)
	}
	out.Err = event.ParcelError(err)
	out.Next = now
	if !out.Dead {
		out.Next = now.Add(l.Policy.Wait(failures, err))
	}
	s.failed.Add(1)
	if out.Dead {
		s.dead.Add(1)
		s.onDead(p.Sink, p.Event, err)
	}
	return out
}

// record tells the store what became of its parcels.
func (l *lane) record(ctx context.Context) error {
	s := l.scheduler
	if len(l.completed) > 0 {
		if err := s.store.Complete(ctx, l.completed...); err != nil {
			return fmt.Errorf("complete parcels: %w", err)
		}
		l.completed = l.completed[:0]
		s.storeWorked()
	}
	if len(l.outcomes) > 0 {
		if err := s.store.Fail(ctx, l.outcomes...); err != nil {
			return fmt.Errorf("record failed attempts: %w", err)
		}
		l.outcomes = l.outcomes[:0]
		s.storeWorked()
	}
	if len(l.returned) > 0 {
		if err := s.store.Unclaim(ctx, l.returned...); err != nil {
			return fmt.Errorf("give claims back: %w", err)
		}
		l.returned = l.returned[:0]
		s.storeWorked()
	}
	if l.release {
		released, err := s.store.ReleaseSink(ctx, l.Sink)
		if err != nil {
			return fmt.Errorf("make the parcels of a sink that is back due: %w", err)
		}
		l.release = false
		if released > 0 {
			s.log.Debug("sink is back: its parcels are due now", zap.String("sink", l.Sink), zap.Int64("not_due_before", released))
		}
		l.lookAt, l.dueBy = time.Now(), time.Now()
	}
	return nil
}

func (l *lane) storeFailed(err error) {
	l.scheduler.storeFailed(err)
	if l.broken.IsZero() {
		l.broken = time.Now()
	}
	select {
	case <-l.scheduler.drained:
		if !l.draining {
			l.drain()
		}
	default:
	}
	if l.draining && time.Since(l.broken) > drainPatience {
		l.over = true
	}
}

// end waits for what is in flight and has the store learn of it.
func (l *lane) end(working context.Context) {
	l.release = false // the next start finds out by itself
	for len(l.inFlight) > 0 {
		timer := time.NewTimer(max(l.nextExtend(), busyTime))
		select {
		case r := <-l.results:
			l.gather(working, r)
		case <-timer.C:
			_ = l.extend(working) // tried again in a moment
		}
		timer.Stop()
		l.release = false
		if len(l.inFlight) > 0 && working.Err() == nil {
			_ = l.record(working) // tried again below
		}
	}
	l.sends.Wait()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(working), writeTime)
	defer cancel()
	pause := storeRetry.Backoff()
	for {
		err := l.record(ctx)
		if err == nil {
			return
		}
		if retry.Sleep(ctx, pause.Next()) != nil {
			l.scheduler.log.Error("could not record the last attempts of a stop: some events will be sent again",
				append(errorFields(err), zap.String("sink", l.Sink))...)
			return
		}
	}
}
