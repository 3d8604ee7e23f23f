package emulator

import (
	"bytes"
	"container/list"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"
)

// maxApplications bounds what a server without Options.SubAppIDs remembers.
const maxApplications = 1024

// maxAnswer is about the most bytes of an answer with several events. The API reports an internal error beyond 50 MB
// (https://cloud.tencent.com/document/api/628/45176); that it sends fewer events before is assumed.
const maxAnswer = 50_000_000

// queues hold the events of all applications. One lock guards them: what is
// done under it is short, and the journal gets one order.
type queues struct {
	opts    *Options
	handles handleCodec
	closed  <-chan struct{} // ends every long poll

	mu        sync.Mutex
	random    *rand.Rand
	apps      map[uint64]*application
	order     []*application
	messages  map[int64]*message // the unconfirmed ones, by number
	last      int64              // number of the newest event
	confirmed bitset
	journal   journal
	pushes    messageList // events in PUSH mode that no post has taken up yet
	posters   int         // goroutines that post
}

// application is one application's queue. Guarded by queues.mu.
type application struct {
	id      uint64
	index   uint16
	ready   messageList
	leased  messageList
	ages    messageList
	waiters list.List // of *waiter, the longest waiting first
	counts  Counts
	config  eventConfig

	reported   int // what DescribeEventsState answered last
	reportedAt time.Time
}

// Counts of one application, or of all together.
type Counts struct {
	Published   int64 `json:"published"`
	Delivered   int64 `json:"delivered"`   // deliveries, redeliveries included
	Redelivered int64 `json:"redelivered"` // deliveries after an event's first
	Confirmed   int64 `json:"confirmed"`
	Expired     int64 `json:"expired"` // leases that ran out
	Purged      int64 `json:"purged"`  // unconfirmed events past the retention time
	Refused     int64 `json:"refused"` // stale or unknown handles given to ConfirmEvents
	Ready       int64 `json:"ready"`   // events that can be pulled now
	Leased      int64 `json:"leased"`  // events whose lease runs now
	Waiting     int64 `json:"waiting"` // long polls that wait now

	Pushed       int64 `json:"pushed,omitempty"`       // posts in PUSH mode, repeated ones included
	Acknowledged int64 `json:"acknowledged,omitempty"` // events whose post was answered
	GivenUp      int64 `json:"given_up,omitempty"`     // events whose last post failed: they are lost
	Pushing      int64 `json:"pushing,omitempty"`      // events that wait for a post or its answer now
}

func (c *Counts) add(o Counts) {
	c.Published += o.Published
	c.Delivered += o.Delivered
	c.Redelivered += o.Redelivered
	c.Confirmed += o.Confirmed
	c.Expired += o.Expired
	c.Purged += o.Purged
	c.Refused += o.Refused
	c.Ready += o.Ready
	c.Leased += o.Leased
	c.Waiting += o.Waiting
	c.Pushed += o.Pushed
	c.Acknowledged += o.Acknowledged
	c.GivenUp += o.GivenUp
	c.Pushing += o.Pushing
}

func newQueues(opts *Options, handles handleCodec, closed <-chan struct{}) *queues {
	q := &queues{
		opts:     opts,
		handles:  handles,
		closed:   closed,
		random:   rand.New(rand.NewPCG(opts.Seed, 2)),
		apps:     make(map[uint64]*application),
		messages: make(map[int64]*message),
		journal:  journal{size: opts.JournalSize},
	}
	for _, id := range opts.SubAppIDs {
		q.open(id)
	}
	return q
}

// open returns the application, making it when it is new.
func (q *queues) open(id uint64) *application {
	if app := q.apps[id]; app != nil {
		return app
	}
	app := &application{id: id, index: uint16(len(q.order)), config: newEventConfig(q.opts)}
	app.ages.kind = byAge
	q.apps[id] = app
	q.order = append(q.order, app)
	return app
}

// application finds an application; any exists while Options.SubAppIDs is
// empty.
func (q *queues) application(id uint64) (*application, *apiError) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if app := q.apps[id]; app != nil {
		return app, nil
	}
	if len(q.opts.SubAppIDs) > 0 {
		return nil, refuse(codeInvalidSubAppID, "The SubAppId %d does not exist.", id)
	}
	if len(q.order) >= maxApplications {
		return nil, refuse(codeLimitExceeded, "The emulator keeps at most %d applications.", maxApplications)
	}
	return q.open(id), nil
}

// publish appends events and returns the number of the first; the others
// follow it.
func (q *queues) publish(app *application, contents []json.RawMessage) (first int64, err error) {
	tails := make([][]byte, len(contents))
	for i, content := range contents {
		if tails[i], err = prepare(content, q.opts.Variants.NullFields); err != nil {
			return 0, fmt.Errorf("event %d of %d: %w", i+1, len(contents), err)
		}
	}
	return q.add(app, tails, false)
}

// add appends events that are prepared, or raw; see publish.
func (q *queues) add(app *application, tails [][]byte, raw bool) (first int64, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	now := time.Now()
	q.advance(now)
	if len(q.messages)+len(tails) > q.opts.MaxEvents {
		return 0, fmt.Errorf("%d events would make more than MaxEvents (%d) unconfirmed ones: confirm some, or raise the limit",
			len(tails), q.opts.MaxEvents)
	}
	first = q.last + 1
	for _, tail := range tails {
		q.last++
		m := &message{number: q.last, app: app, tail: tail, raw: raw, published: now}
		q.messages[m.number] = m
		if app.config.pushing(now) {
			m.place = placePushing
			q.pushes.pushBack(m)
			app.counts.Pushing++
		} else {
			app.ready.pushBack(m)
			app.ages.pushBack(m)
			m.aging = true
		}
		app.counts.Published++
		q.note(now, KindPublished, m, 0)
	}
	if len(tails) > 0 {
		app.wake() // who wakes the next, if there is more than one answer's worth
	}
	return first, nil
}

// advance does what has become due: leases that ran out, events past
// retention. Nothing else looks at the clock, so an idle server has no timer.
func (q *queues) advance(now time.Time) {
	for _, app := range q.order {
		var before *message // what came back together stays in order
		for m := app.leased.head; m != nil && !now.Before(m.expires); m = app.leased.head {
			app.leased.remove(m)
			app.counts.Expired++
			q.note(m.expires, KindExpired, m, m.count)
			if most := q.opts.Variants.MaxDeliveries; most > 0 && int(m.count) >= most {
				m.stopAging()
				q.purge(m, m.expires, codeDeliveries)
				continue
			}
			if m.expired {
				q.purge(m, m.expires, codeRetention)
				continue
			}
			m.place = placeReady
			if q.opts.Variants.Order == OrderFirst {
				app.ready.insertAfter(before, m)
				before = m
			} else {
				app.ready.pushBack(m)
			}
		}
		for m := app.ages.head; m != nil && now.Sub(m.published) >= q.opts.Retention; m = app.ages.head {
			m.stopAging()
			m.expired = true
			switch ends := q.opts.Variants.Retention == RetentionEndsLeases; {
			case m.place == placeReady:
				app.ready.remove(m)
			case m.place == placeLeased && ends:
				app.leased.remove(m)
			case !ends:
				continue
			}
			q.purge(m, m.published.Add(q.opts.Retention), codeRetention)
		}
	}
}

// drop forgets an event that is in no list any more.
func (q *queues) drop(m *message) {
	m.place = placeGone
	m.tail = nil
	delete(q.messages, m.number)
}

// Why an event was purged: the codes of journal entries.
const (
	codeRetention  = "retention"
	codeDeliveries = "deliveries"
)

func (q *queues) purge(m *message, at time.Time, code string) {
	q.drop(m)
	m.app.counts.Purged++
	q.journal.add(Entry{Time: at, Kind: KindPurged, SubAppID: m.app.id, Event: m.number, Code: code})
}

// next is the event that is delivered next, nil without one.
func (q *queues) next(app *application) *message {
	m := app.ready.head
	if q.opts.Variants.Order == OrderRandom && m != nil {
		const among = 64
		for range q.random.IntN(min(app.ready.len, among)) {
			m = m.links[byPlace].next
		}
	}
	return m
}

// take leases up to limit events and appends their JSON to dst; with double,
// each event twice. batch is only filled when leases start with the answer.
func (q *queues) take(app *application, now time.Time, limit int, double bool, dst []byte) (_ []byte, batch []*message, n int) {
	copies := 1
	if double {
		copies = 2
	}
	if q.opts.Variants.AnyBatch {
		limit = 1 + q.random.IntN(limit)
	}
	for m := q.next(app); m != nil && (n == 0 || n+copies <= limit && len(dst)+copies*len(m.tail) <= maxAnswer); m = q.next(app) {
		app.ready.remove(m)
		if q.opts.Variants.Retention == RetentionUntilPulled {
			m.stopAging()
		}
		m.firstOpen = m.count + 1
		for range copies {
			m.count++
			if n++; n > 1 {
				dst = append(dst, ',')
			}
			dst = q.item(dst, m, now)
			app.counts.Delivered++
			if m.count > 1 {
				app.counts.Redelivered++
			}
			q.note(now, KindLeased, m, m.count)
		}
		if q.opts.Variants.LeaseFromAnswer {
			m.place = placeAnswering
			batch = append(batch, m)
		} else {
			q.lease(m, now)
		}
	}
	return dst, batch, n
}

// item appends an event as it stands in an answer.
func (q *queues) item(dst []byte, m *message, now time.Time) []byte {
	var room [64]byte
	handle := q.handles.append(room[:0], q.delivery(m, m.count))
	if m.raw {
		return append(dst, bytes.ReplaceAll(m.tail, []byte(HandleMark), handle)...)
	}
	dst = append(dst, `{"`+handleKey+`":"`...)
	dst = append(append(dst, handle...), '"')
	tail := q.signed(m, now)
	if tail[0] != '}' {
		dst = append(dst, ',')
	}
	return append(dst, tail...)
}

func (q *queues) lease(m *message, now time.Time) {
	m.place = placeLeased
	m.expires = now.Add(q.opts.Lease)
	m.app.leased.pushBack(m)
}

// startLeases starts the leases of a batch whose answer leaves now.
func (q *queues) startLeases(batch []*message) {
	if len(batch) == 0 {
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	now := time.Now()
	q.advance(now)
	for _, m := range batch {
		if m.place == placeAnswering {
			q.lease(m, now)
		}
	}
}

func (q *queues) delivery(m *message, count uint32) delivery {
	if q.opts.Variants.StableHandles {
		count = 0
	}
	return delivery{event: m.number, app: m.app.index, count: count}
}

// confirm deletes the events of the handles, or refuses.
func (q *queues) confirm(app *application, handles []string) *apiError {
	q.mu.Lock()
	defer q.mu.Unlock()
	now := time.Now()
	q.advance(now)
	variants := &q.opts.Variants
	valid := make([]confirmation, 0, len(handles))
	refused := 0
	for _, handle := range handles {
		if c, ok := q.resolve(app, handle); ok {
			valid = append(valid, c)
			continue
		}
		refused++
		app.counts.Refused++
		q.journal.add(Entry{Time: now, Kind: KindRefused, SubAppID: app.id, Event: q.numberOf(handle),
			Handle: clip(handle), Action: ActionConfirmEvents, Code: variants.StaleCode})
	}
	if refused > 0 && variants.StaleBatch == StaleRefuseAll {
		valid = nil
	}
	for _, c := range valid {
		if c.message != nil {
			q.settle(c, now)
		}
	}
	if refused > 0 && variants.StaleBatch != StaleIgnore {
		err := refuse(variants.StaleCode, "%d of the EventHandles are invalid or expired.", refused)
		err.quiet = true
		return err
	}
	return nil
}

// confirmation is what one handle confirms; no message when there is nothing
// left to do.
type confirmation struct {
	message *message
	count   uint32 // which delivery the handle is of
}

// resolve tells whether a handle confirms, and what.
func (q *queues) resolve(app *application, handle string) (confirmation, bool) {
	d, ok := q.handles.parse(handle)
	if !ok || d.app != app.index {
		return confirmation{}, false
	}
	m := q.messages[d.event]
	if m == nil {
		return confirmation{}, q.confirmed.has(d.event) && q.opts.Variants.ReconfirmOK
	}
	if d.count == 0 { // a stable handle
		d.count = m.count
	}
	open := m.place == placeLeased || m.place == placeAnswering
	switch q.opts.Variants.OldHandle {
	case OldHandleConfirms:
		return confirmation{m, d.count}, true
	case OldHandleUntilRedelivery:
		open = open || m.place == placeReady
	case OldHandleStale:
	}
	return confirmation{m, d.count}, open && d.count >= m.firstOpen
}

func (q *queues) numberOf(handle string) int64 {
	d, _ := q.handles.parse(handle)
	return d.event
}

// settle deletes a confirmed event. A handle may be in a batch twice.
func (q *queues) settle(c confirmation, now time.Time) {
	m := c.message
	switch m.place {
	case placeGone:
		return
	case placeReady:
		m.app.ready.remove(m)
	case placeLeased:
		m.app.leased.remove(m)
	case placeAnswering, placePushing:
	}
	m.stopAging()
	q.drop(m)
	q.confirmed.set(m.number)
	m.app.counts.Confirmed++
	q.note(now, KindConfirmed, m, c.count)
}

func (q *queues) note(at time.Time, kind Kind, m *message, count uint32) {
	q.journal.add(Entry{Time: at, Kind: kind, SubAppID: m.app.id, Event: m.number,
		app: m.app.index, Delivery: count})
}

// clip bounds a text from outside that is kept.
func clip(s string) string {
	const limit = 256
	if len(s) > limit {
		return s[:limit]
	}
	return s
}

// bitset remembers event numbers at one bit each.
type bitset []uint64

func (b *bitset) set(n int64) {
	for int64(len(*b)) <= n/64 {
		*b = append(*b, 0)
	}
	(*b)[n/64] |= 1 << (n % 64)
}

func (b bitset) has(n int64) bool {
	return n >= 0 && n/64 < int64(len(b)) && b[n/64]&(1<<(n%64)) != 0
}
