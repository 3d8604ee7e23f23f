package admin

import (
	"context"
	"maps"
	"math"
	"net/http"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/vodrelay/vodrelay/pkg/event"
	"github.com/vodrelay/vodrelay/pkg/redact"
	"github.com/vodrelay/vodrelay/pkg/safetext"
	"github.com/vodrelay/vodrelay/pkg/selection"
)

// Status is what GET /status returns. It says nothing of single events, but for what an error may say.
type Status struct {
	Version       string    `json:"version"`
	Started       time.Time `json:"started"`
	UptimeSeconds float64   `json:"uptime_seconds"`
	Ready         bool      `json:"ready"`
	// Reasons says why it is not ready, or not alive.
	Reasons  []string `json:"reasons"`
	Stopping bool     `json:"stopping"`

	// ErrorsHidden: the texts of errors, their hints and the names of types that are not documented are left out, since
	// the token is configured and was not sent.
	ErrorsHidden bool `json:"errors_hidden,omitempty"`

	// QueueDepth is about how many events wait in all queues; null when one of them is not known.
	QueueDepth *uint64       `json:"queue_depth"`
	Queues     []QueueStatus `json:"queues"`
	InHand     int64         `json:"in_hand"`
	MaxInHand  int           `json:"max_in_hand"`
	Pollers    int64         `json:"pollers"`

	// Totals since the start.
	Received  int64 `json:"received"`
	Settled   int64 `json:"settled"`
	Unsettled int64 `json:"unsettled"`
	Confirmed int64 `json:"confirmed"`
	Late      int64 `json:"confirms_late"`
	// LogDropped is how many lines whatever reads the log did not take in time.
	LogDropped int64 `json:"log_lines_dropped"`
	// Unrouted are events that no sink wanted, in all and by type. They are confirmed all the same.
	Unrouted      uint64            `json:"unrouted"`
	UnroutedTypes map[string]uint64 `json:"unrouted_types"`

	// Callback is null without a receiver of VOD's normal callback.
	Callback *CallbackStatus `json:"callback"`

	// When a step succeeded last; null before the first time.
	LastPull    *time.Time `json:"last_pull"`
	LastSettled *time.Time `json:"last_settled"`
	LastConfirm *time.Time `json:"last_confirm"`

	// Store identifies the store without saying where it is; empty without one.
	Store string `json:"store,omitempty"`
	// StoreFailing is how opening the store or writing to it fails; null while it does not.
	StoreFailing *FailingStatus `json:"store_failing"`
	Sinks        []SinkStatus   `json:"sinks"`
	// Parcels is null without a store, and when it cannot be read.
	Parcels *ParcelsStatus `json:"parcels"`
	// Removed names the sinks that (removed) stands for, mostRemoved at most.
	Removed []selection.Gone `json:"removed,omitempty"`
}

// mostRemoved is how many names of sinks a Status has that are not configured any more.
const mostRemoved = 20

// CallbackStatus is what the receiver of VOD's normal callback did since the start.
type CallbackStatus struct {
	Accepted  int64 `json:"accepted"`
	Unsigned  int64 `json:"unsigned"`
	Refused   int64 `json:"refused"`
	Unsettled int64 `json:"unsettled"`
	InHand    int64 `json:"in_hand"`
}

// QueueStatus is the queue of one application.
type QueueStatus struct {
	SubAppID uint64     `json:"sub_app_id"`
	Depth    *uint64    `json:"depth"`
	ReadAt   *time.Time `json:"read_at"`
	// How its calls fail; null while they succeed.
	PullFailing    *FailingStatus `json:"pull_failing"`
	ConfirmFailing *FailingStatus `json:"confirm_failing"`
}

// FailingStatus is how something fails that a success ends. The texts are left out where ErrorsHidden says so.
type FailingStatus struct {
	Since        time.Time `json:"since"` // the first failure since the last success
	FailedInARow int       `json:"failed_in_a_row"`
	LastFailed   time.Time `json:"last_failed"`
	LastError    string    `json:"last_error,omitempty"` // at most 1 KiB before what cannot be seen became escapes
	Hint         string    `json:"hint,omitempty"`       // what a person can do about it
}

// SinkStatus is one sink with its parcels. Name is - for events that a processor failed on, and (removed)
// for all sinks that still have parcels and are not configured any more.
type SinkStatus struct {
	Name string `json:"name"`
	// State is up (it accepted what it got last), down (its breaker is not closed), failing (it failed since it accepted
	// an event last, and does not count as down yet), refusing (it answers, and refused what it got last) or unknown (it
	// got nothing since the start).
	State        string     `json:"state,omitempty"`
	Breaker      string     `json:"breaker,omitempty"`
	BreakerSince *time.Time `json:"breaker_since,omitempty"` // of a sink that is down: its first failure
	Accepted     uint64     `json:"accepted"`
	Failed       uint64     `json:"failed"`
	LastAccepted *time.Time `json:"last_accepted"`
	// FailedInARow counts the deliveries that failed since an event was accepted last: those that were refused, and
	// those that were not tried since the sink is down, among them. FailingSince is when the first attempt failed, or
	// was refused; null while the sink accepts what it gets.
	FailedInARow int        `json:"failed_in_a_row"`
	FailingSince *time.Time `json:"failing_since"`
	// LastFailed, LastError and Hint are of the latest attempt that failed otherwise than by a refusal; they stay. As to
	// the texts see FailingStatus.
	LastFailed *time.Time `json:"last_failed"`
	LastError  string     `json:"last_error,omitempty"`
	Hint       string     `json:"hint,omitempty"`
	// Refused counts the events that the sink refused; RefusedInARow those since it accepted one last, with the
	// time of the first of them. A sink may be up and refuse everything.
	Refused       uint64     `json:"refused"`
	RefusedInARow int        `json:"refused_in_a_row"`
	RefusingSince *time.Time `json:"refusing_since"`
	LastRefused   *time.Time `json:"last_refused"`
	LastRefusal   string     `json:"last_refusal,omitempty"` // why
	RefusalHint   string     `json:"refusal_hint,omitempty"`
	Waiting       int64      `json:"waiting"`
	OldestWaiting *time.Time `json:"oldest_waiting"`
	Dead          int64      `json:"dead"`
	OldestDead    *time.Time `json:"oldest_dead"`
	Bytes         int64      `json:"bytes"` // of the events in its parcels
	// ShareUsed is how much of its share of the store the sink's parcels take, 1 for all of it; null where there is no
	// limit to a share.
	ShareUsed *float64 `json:"share_used"` // to four places
}

// ParcelsStatus sums up the store.
type ParcelsStatus struct {
	Waiting    int64 `json:"waiting"`
	Dead       int64 `json:"dead"`
	Bytes      int64 `json:"bytes"`
	MaxParcels int64 `json:"max_parcels"`
	MaxBytes   int64 `json:"max_bytes"`
	MaxShare   int   `json:"max_share"` // percent of them that one sink may take; 0: no limit
	// LogBytes is the size of SQLite's write-ahead log. What is beyond 32 MiB counts into MaxBytes.
	LogBytes int64      `json:"log_bytes"`
	Oldest   *time.Time `json:"oldest"`
}

func (s *Server) status(w http.ResponseWriter, r *http.Request) {
	st := s.Status(r.Context())
	if !s.mayRead(r) {
		st.hideForeign()
	}
	reply(w, http.StatusOK, st)
}

// hideForeign leaves out texts from outside, and hints: what a target or an API answers may quote events, and names
// what is inside the network; a type that is not documented is text of whoever sent it.
func (st *Status) hideForeign() {
	st.ErrorsHidden = true
	for _, t := range st.troubles() {
		t.LastError, t.Hint = "", ""
	}
	types := map[string]uint64{}
	for eventType, n := range st.UnroutedTypes {
		types[typeLabel(eventType)] += n
	}
	st.UnroutedTypes = types
	for i := range st.Sinks {
		s := &st.Sinks[i]
		s.LastError, s.Hint, s.LastRefusal, s.RefusalHint = "", "", "", ""
	}
}

// shown is a text from outside as a page and a terminal may show it.
func shown(text string) string { return safetext.Line(redact.Text(text), 0) }

// fails is nil for what does not fail.
func fails(f Failing) *FailingStatus {
	if f.InARow == 0 {
		return nil
	}
	return &FailingStatus{Since: f.Since, FailedInARow: f.InARow, LastFailed: f.Last, LastError: shown(f.Error), Hint: shown(f.Hint)}
}

// Status reads everything anew. It takes as long as the store needs to be looked at, a few seconds at most.
func (s *Server) Status(ctx context.Context) Status {
	why := append(reasons(s.live()), reasons(s.ready(ctx))...)
	stats := s.opts.Stats() // after the looks at the store, whose failures are among them
	st := Status{
		Version: s.opts.Version, Started: s.started, UptimeSeconds: time.Since(s.started).Seconds(),
		Ready: len(why) == 0, Reasons: why, Stopping: s.stopping(),
		Queues: []QueueStatus{}, InHand: stats.Relay.InHand, MaxInHand: stats.Relay.MaxInHand, Pollers: stats.Relay.Pollers,
		Received: stats.Relay.Received, Settled: stats.Relay.Settled, Unsettled: stats.Relay.Unsettled,
		Confirmed: stats.Relay.Confirmed, Late: stats.Relay.Late, LogDropped: stats.LogDropped,
		LastPull: when(s.opts.Observer.pulled.get()), LastSettled: when(s.opts.Observer.handled.get()), LastConfirm: when(s.opts.Observer.confirmed.get()),
		Unrouted: stats.Pipeline.Unrouted, UnroutedTypes: map[string]uint64{},
		Sinks: []SinkStatus{},
	}
	maps.Copy(st.UnroutedTypes, stats.Pipeline.UnroutedTypes)
	st.StoreFailing = fails(stats.Store)
	if s.opts.StoreID != nil {
		st.Store = s.opts.StoreID()
	}
	if c := stats.Callback; c != nil {
		st.Callback = &CallbackStatus{c.Accepted, c.Unsigned, c.Refused, c.Unsettled, c.InHand}
	}
	if total, known := s.depths.total(); known {
		st.QueueDepth = &total
	}
	for _, app := range s.depths.apps {
		q := QueueStatus{SubAppID: app}
		if d, known := s.depths.of(app); known {
			q.Depth, q.ReadAt = &d.events, when(d.at)
		}
		for _, calls := range stats.Queues {
			if calls.SubAppID == app {
				q.PullFailing, q.ConfirmFailing = fails(calls.Pull), fails(calls.Confirm)
			}
		}
		st.Queues = append(st.Queues, q)
	}
	for _, sink := range stats.Pipeline.Sinks {
		st.Sinks = append(st.Sinks, SinkStatus{
			Name: label(sink.Name), State: sink.State, Breaker: sink.Breaker, BreakerSince: when(sink.BreakerSince),
			Accepted: sink.Sent, Failed: sink.Failed, LastAccepted: when(s.opts.Observer.lastSent(sink.Name)),
			FailedInARow: sink.Failing.InARow, FailingSince: when(sink.Failing.Since),
			LastFailed: when(sink.Failing.Last), LastError: shown(sink.Failing.Error), Hint: shown(sink.Failing.Hint),
			Refused: sink.Refusals.Total, RefusedInARow: sink.Refusals.InARow, RefusingSince: when(sink.Refusals.Since),
			LastRefused: when(sink.Refusals.Last), LastRefusal: shown(sink.Refusals.Error), RefusalHint: shown(sink.Refusals.Hint),
		})
	}
	if s.counts == nil {
		return st
	}
	counts, err := s.counts.get(ctx)
	if err != nil {
		s.log.Debug("cannot count the parcels", zap.Error(err)) // readiness tells
		return st
	}
	st.addParcels(bySink(counts, stats.Pipeline.Sinks))
	st.Removed = removedSinks(counts, stats.Pipeline.Sinks)
	st.Parcels.MaxParcels, st.Parcels.MaxBytes, st.Parcels.MaxShare = s.opts.MaxParcels, s.opts.MaxBytes, s.share()
	if s.opts.StoreLog != nil {
		st.Parcels.LogBytes = s.opts.StoreLog()
	}
	st.addShares()
	return st
}

func (s *Server) share() int {
	if s.opts.MaxShare == nil {
		return 0
	}
	return s.opts.MaxShare()
}

// addShares says how much of its share each sink uses. What stands for many sinks has none.
func (st *Status) addShares() {
	p := st.Parcels
	if p.MaxShare == 0 || p.MaxParcels == 0 && p.MaxBytes == 0 {
		return
	}
	for i := range st.Sinks {
		sink := &st.Sinks[i]
		if sink.Name == removed {
			continue
		}
		used := 0.0
		for _, n := range [][2]int64{{sink.Waiting + sink.Dead, p.MaxParcels}, {sink.Bytes, p.MaxBytes}} {
			if n[1] > 0 {
				used = max(used, float64(n[0])*100/float64(n[1])/float64(p.MaxShare))
			}
		}
		used = math.Round(used*1e4) / 1e4
		sink.ShareUsed = &used
	}
}

// addParcels gives each sink its numbers; counts are those of bySink.
func (st *Status) addParcels(counts []Count) {
	st.Parcels = &ParcelsStatus{}
	var oldest time.Time
	for _, n := range counts {
		if n.Parcels == 0 {
			continue
		}
		if oldest.IsZero() || n.Oldest.Before(oldest) {
			oldest = n.Oldest
		}
		st.Parcels.Bytes += n.Bytes
		sink := st.sink(label(n.Sink))
		sink.Bytes += n.Bytes
		if n.State == event.ParcelDead {
			sink.Dead, sink.OldestDead = n.Parcels, when(n.Oldest)
			st.Parcels.Dead += n.Parcels
		} else {
			sink.Waiting, sink.OldestWaiting = n.Parcels, when(n.Oldest)
			st.Parcels.Waiting += n.Parcels
		}
	}
	st.Parcels.Oldest = when(oldest)
}

// removedSinks are those that are not configured any more and have parcels.
func removedSinks(counts []Count, sinks []SinkStats) []selection.Gone {
	var groups []selection.Group
	for _, c := range counts {
		groups = append(groups, selection.Group{Sink: c.Sink, State: c.State, Parcels: c.Parcels})
	}
	var names []string
	for _, s := range sinks {
		names = append(names, s.Name)
	}
	all := selection.OfGone(groups, names)
	all = all[:min(len(all), mostRemoved)]
	for i := range all {
		all[i].Sink = label(all[i].Sink)
	}
	return all
}

// sink finds the one of that name, or adds it.
func (st *Status) sink(name string) *SinkStatus {
	i := slices.IndexFunc(st.Sinks, func(s SinkStatus) bool { return s.Name == name })
	if i < 0 {
		st.Sinks = append(st.Sinks, SinkStatus{Name: name})
		i = len(st.Sinks) - 1
	}
	return &st.Sinks[i]
}

// when is nil for the zero time.
func when(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}
