package ledger

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

var zero = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)

// at is a moment of a history, in seconds.
func at(seconds float64) time.Time { return zero.Add(time.Duration(seconds * float64(time.Second))) }

func body(serial int) []byte {
	return fmt.Appendf(nil, `{"EventType":"NewFileUpload","FileUploadEvent":{"FileId":"5","Context":"%s"}}`, Mark(serial))
}

// history is a ledger in the making.
type history struct {
	*Ledger
	seq int64
}

func (h *history) publish(serial int) {
	h.Publish(Event{Serial: serial, Type: "NewFileUpload", Body: body(serial), Published: at(0)})
	h.Number(serial, int64(serial))
}

func (h *history) queue(seconds float64, kind string, serial int) {
	h.seq++
	h.Journal(Entry{Seq: h.seq, Time: at(seconds), Kind: kind, Event: int64(serial), Handle: fmt.Sprint("handle ", serial)})
}

func (h *history) arrive(seconds float64, sink string, serial int) {
	h.Arrive(sink, at(seconds), body(serial))
}

// good is the history of event 1, which two sinks got, from its publication to its confirm.
func good() *history {
	h := &history{Ledger: New(Sink{Name: "site", Refuses: true}, Sink{Name: "table", Once: true})}
	h.publish(1)
	h.queue(1, leased, 1)
	h.arrive(2, "site", 1)
	h.arrive(2, "table", 1)
	h.queue(3, confirmed, 1)
	return h
}

func TestJudge(t *testing.T) {
	t.Parallel()
	stored := Moment{Stored: true, Final: true, Relays: 1}
	waiting := func(sink string) Parcel { return Parcel{Sink: sink, Raw: body(2)} }
	for name, c := range map[string]struct {
		moment Moment
		do     func(h *history)
		want   string // the rule that is broken; "" for none
	}{
		"all is well":               {moment: stored, do: func(*history) {}},
		"all is well without store": {moment: Moment{Final: true}, do: func(*history) {}},

		"confirmed, and nowhere": {moment: stored, want: "lost", do: func(h *history) {
			h.publish(2)
			h.queue(4, leased, 2)
			h.arrive(5, "site", 2)
			h.queue(6, confirmed, 2)
		}},
		"a sink has not got it, a parcel waits": {moment: Moment{Stored: true, Parcels: []Parcel{waiting("table")}}, do: func(h *history) {
			h.publish(2)
			h.queue(4, leased, 2)
			h.arrive(5, "site", 2)
			h.queue(6, confirmed, 2)
		}},
		"the parcel of the wrong sink": {moment: Moment{Stored: true, Parcels: []Parcel{waiting("site")}}, want: "lost", do: func(h *history) {
			h.publish(2)
			h.queue(4, leased, 2)
			h.arrive(5, "site", 2)
			h.queue(6, confirmed, 2)
		}},
		"purged": {moment: stored, want: "lost", do: func(h *history) {
			h.publish(2)
			h.queue(4, purged, 2)
		}},
		"taken by another consumer": {moment: stored, do: func(h *history) {
			h.publish(2)
			h.queue(4, leased, 2)
			h.Took("handle 2")
			h.queue(6, confirmed, 2)
		}},
		"posted elsewhere": {moment: stored, do: func(h *history) {
			h.publish(2)
			h.queue(4, acknowledged, 2)
		}},
		"still in the queue": {moment: Moment{Stored: true, Queued: 1}, do: func(h *history) { h.publish(2) }},
		"still in the queue at the end": {moment: Moment{Stored: true, Queued: 1, Final: true}, want: "unsettled", do: func(h *history) {
			h.publish(2)
		}},
		"said to be empty, and is not": {moment: Moment{Stored: true}, want: "queue", do: func(h *history) { h.publish(2) }},
		"waits in the store at the end": {moment: Moment{Stored: true, Final: true, Parcels: []Parcel{waiting("table")}}, want: "unsettled", do: func(h *history) {
			h.publish(2)
			h.queue(4, leased, 2)
			h.arrive(5, "site", 2)
			h.queue(6, confirmed, 2)
		}},

		"confirmed before the sink had it, no store": {moment: Moment{Final: true}, want: "early", do: func(h *history) {
			h.publish(2)
			h.queue(4, leased, 2)
			h.queue(5, confirmed, 2)
			h.arrive(6, "site", 2)
			h.arrive(6, "table", 2)
		}},

		"another byte": {moment: stored, want: "bytes", do: func(h *history) {
			h.publish(2)
			h.Arrive("site", at(1), append(body(2), ' '))
			h.queue(4, acknowledged, 2)
		}},
		"never published": {moment: stored, want: "bytes", do: func(h *history) { h.arrive(1, "site", 77) }},
		"a parcel with another value": {moment: Moment{Stored: true, Parcels: []Parcel{{Sink: "table", Raw: fmt.Appendf(nil, `{"EventType":"NewFileUpload","FileUploadEvent":{"FileId":5,"Context":"%s"}}`, Mark(2))}}}, want: "bytes", do: func(h *history) {
			h.publish(2)
			h.queue(4, leased, 2)
			h.arrive(5, "site", 2)
			h.queue(6, confirmed, 2)
		}},

		"twice where one of each is kept": {moment: stored, want: "duplicate", do: func(h *history) {
			h.Did(Deed{Kind: Killed, Period: Period{at(3), at(4)}})
			h.arrive(5, "table", 1)
		}},
		"twice, and nothing explains it": {moment: stored, want: "duplicate", do: func(h *history) { h.arrive(5, "site", 1) }},
		"twice, the way of another sink was disturbed": {moment: stored, want: "duplicate", do: func(h *history) {
			h.Did(Deed{Kind: Target, Of: "table", Period: Period{at(1), at(4)}})
			h.arrive(5, "site", 1)
		}},
		"twice, the answer was lost": {moment: stored, do: func(h *history) {
			h.Did(Deed{Kind: Target, Of: "site", Period: Period{at(1), at(4)}})
			h.arrive(5, "site", 1)
		}},
		"twice, a relay was killed in between": {moment: stored, do: func(h *history) {
			h.Did(Deed{Kind: Killed, Period: Period{at(3), at(4)}})
			h.arrive(33, "site", 1)
		}},
		"twice, a relay had been killed long before": {moment: stored, want: "duplicate", do: func(h *history) {
			h.Did(Deed{Kind: Killed, Period: Period{at(-30), at(-20)}})
			h.arrive(5, "site", 1)
		}},
		"twice, killed after the confirm, no store": {moment: Moment{Final: true}, want: "duplicate", do: func(h *history) {
			h.publish(2)
			h.queue(4, leased, 2)
			h.arrive(4.5, "table", 2)
			h.queue(5, confirmed, 2)
			h.arrive(4.2, "site", 2)
			h.arrive(9, "site", 1)
		}},
		"twice, the store was away": {moment: stored, do: func(h *history) {
			h.Did(Deed{Kind: Store, Period: Period{at(1), at(4)}})
			h.arrive(5, "site", 1)
		}},
		"twice, pulled again by another relay": {moment: Moment{Stored: true, Final: true, Relays: 2}, do: func(h *history) { pulledAgain(h, true) }},
		"twice, pulled again by the same":      {moment: stored, want: "duplicate", do: func(h *history) { pulledAgain(h, true) }},
		"twice, pulled again for no reason":    {moment: Moment{Stored: true, Final: true, Relays: 2}, want: "duplicate", do: func(h *history) { pulledAgain(h, false) }},

		"twice, the machine stood still": {moment: stored, do: func(h *history) {
			h.Did(Deed{Kind: Slow, Period: Period{at(1), at(2)}})
			h.arrive(5, "site", 1)
		}},
		"twice, the machine stood still later": {moment: stored, want: "duplicate", do: func(h *history) {
			h.Did(Deed{Kind: Slow, Period: Period{at(6), at(7)}})
			h.arrive(5, "site", 1)
		}},

		"a dead letter that the target refuses": {moment: Moment{Stored: true, Final: true, Parcels: []Parcel{{Sink: "site", Raw: body(3), Dead: true, Reason: "422"}}}, do: refused},
		"a refused event that is nowhere":       {moment: stored, want: "lost", do: refused},
		"a dead letter without a reason":        {moment: Moment{Stored: true, Final: true, Parcels: []Parcel{{Sink: "site", Raw: body(3), Dead: true}}}, want: "dead", do: refused},
		"a dead letter that nobody refuses": {moment: Moment{Stored: true, Parcels: []Parcel{{Sink: "table", Raw: body(2), Dead: true, Reason: "500"}}}, want: "dead", do: func(h *history) {
			h.publish(2)
			h.queue(4, leased, 2)
			h.arrive(5, "site", 2)
			h.queue(6, confirmed, 2)
		}},

		"configured all the time": {moment: stored, want: "lost", do: func(h *history) {
			h.Configure("table", Period{From: at(3)})
			missing(h)
		}},
		"configured too late": {moment: stored, do: func(h *history) {
			h.Configure("table", Period{From: at(4.5)})
			missing(h)
		}},
		"removed too early": {moment: stored, do: func(h *history) {
			h.Configure("table", Period{From: at(0), To: at(5.5)})
			missing(h)
		}},

		"a gap in the journal": {moment: stored, want: "harness", do: func(h *history) { h.seq++; h.queue(9, leased, 1) }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := good()
			c.do(h)
			r := h.Judge(c.moment)
			if c.want == "" {
				require.Empty(t, r.Breaches)
				return
			}
			require.NotEmpty(t, r.Breaches)
			for _, b := range r.Breaches {
				require.Equal(t, c.want, b.Rule, b)
			}
		})
	}
}

// pulledAgain has event 2 confirmed only after a second relay has sent it, too.
func pulledAgain(h *history, fault bool) {
	if fault {
		h.Did(Deed{Kind: API, Period: Period{at(5), at(20)}})
	}
	h.publish(2)
	h.queue(4, leased, 2)
	h.arrive(5, "site", 2)
	h.queue(34, expired, 2)
	h.queue(34, leased, 2)
	h.arrive(35, "site", 2)
	h.arrive(35, "table", 2)
	h.queue(36, confirmed, 2)
}

// refused is event 3, which site refuses.
func refused(h *history) {
	h.Publish(Event{Serial: 3, Number: 3, Type: "NewFileUpload", Body: body(3), Refused: true})
	h.queue(4, leased, 3)
	h.arrive(5, "table", 3)
	h.queue(6, confirmed, 3)
}

// missing is event 2, which table did not get.
func missing(h *history) {
	h.publish(2)
	h.queue(4, leased, 2)
	h.arrive(5, "site", 2)
	h.queue(6, confirmed, 2)
}

func TestTheJournalMayNameEventsBeforeTheirNumberIsKnown(t *testing.T) {
	t.Parallel()
	l := New(Sink{Name: "site"})
	l.Publish(Event{Serial: 7, Body: body(7)})
	l.Journal(Entry{Seq: 1, Time: at(1), Kind: leased, Event: 9}, Entry{Seq: 2, Time: at(2), Kind: confirmed, Event: 9})
	l.Number(7, 9)
	r := l.Judge(Moment{Stored: true})
	require.Len(t, r.Breaches, 1)
	require.Equal(t, "lost", r.Breaches[0].Rule)
	require.Equal(t, 1, r.Confirmed)
}

func TestTheReportCounts(t *testing.T) {
	t.Parallel()
	h := good()
	refused(h)
	h.Did(Deed{Kind: Killed, Period: Period{at(3), at(4)}})
	h.arrive(30, "site", 1)
	r := h.Judge(Moment{Stored: true, Parcels: []Parcel{{Sink: "site", Raw: body(3), Dead: true, Reason: "422"}}})
	require.Empty(t, r.Breaches)
	require.Equal(t, 2, r.Published)
	require.Equal(t, 2, r.Confirmed)
	require.Equal(t, map[string]int{"site": 1, "table": 2}, r.Arrived)
	require.Equal(t, 1, r.Dead)
	require.Len(t, r.Duplicates, 1)
}

func TestNullsCountAsAbsent(t *testing.T) {
	t.Parallel()
	require.True(t, sameContent([]byte(`{"a":1.0,"b":[{}]}`), []byte(`{"c":null,"b":[{"d":null}],"a":1.0}`)))
	require.False(t, sameContent([]byte(`{"a":1.0}`), []byte(`{"a":1}`)))
	require.False(t, sameContent([]byte(`{"a":1.0}`), []byte(`{"a":1.0`)))
}
