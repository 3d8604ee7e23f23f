package relaytest

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"

	"github.com/vodrelay/vodrelay/pkg/event"
)

// Parcels is a store of parcels in memory, with the claims of a real one. The zero value is empty. What it
// holds survives the relay that uses it, as a database does.
type Parcels struct {
	// Fault, if set, runs before each call, with the method's name; its error is returned instead.
	Fault func(ctx context.Context, method string) error

	mu      sync.Mutex
	parcels map[event.ParcelKey]*stored
	due     map[string][]*stored // by sink, those that are waiting, kept in the order of their due
	marks   map[event.ParcelKey]time.Time
	puts    int
	most    int
}

type stored struct {
	event.Parcel
	due     time.Time // Next, or the end of the claim
	claimed bool
}

func (p *Parcels) enter(ctx context.Context, method string) error {
	if p.Fault != nil {
		if err := p.Fault(ctx, method); err != nil {
			return err
		}
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	p.mu.Lock()
	if p.parcels == nil {
		p.parcels, p.due, p.marks = map[event.ParcelKey]*stored{}, map[string][]*stored{}, map[event.ParcelKey]time.Time{}
	}
	return nil
}

// place puts a waiting parcel into its sink's order.
func (p *Parcels) place(s *stored) {
	list := p.due[s.Sink]
	i, _ := slices.BinarySearchFunc(list, s, order)
	p.due[s.Sink] = slices.Insert(list, i, s)
}

func (p *Parcels) displace(s *stored) {
	list := p.due[s.Sink]
	if i, ok := slices.BinarySearchFunc(list, s, order); ok {
		p.due[s.Sink] = slices.Delete(list, i, i+1)
	}
}

func order(a, b *stored) int {
	return cmp.Or(a.due.Compare(b.due), a.Created.Compare(b.Created), cmp.Compare(a.ID, b.ID), cmp.Compare(a.SubAppID, b.SubAppID))
}

// Put implements pipeline.Parker.
func (p *Parcels) Put(ctx context.Context, parcels ...event.Parcel) error {
	if err := p.enter(ctx, "Put"); err != nil {
		return err
	}
	defer p.mu.Unlock()
	p.puts++
	for _, parcel := range parcels {
		if p.parcels[parcel.Key()] != nil {
			continue
		}
		s := &stored{Parcel: parcel, due: parcel.Next}
		p.parcels[parcel.Key()] = s
		if s.State == event.ParcelWaiting {
			p.place(s)
		}
	}
	p.most = max(p.most, len(p.parcels))
	return nil
}

// Claim implements relay.Parcels.
func (p *Parcels) Claim(ctx context.Context, sink string, limit int, hold time.Duration) ([]event.Parcel, error) {
	if err := p.enter(ctx, "Claim"); err != nil {
		return nil, err
	}
	defer p.mu.Unlock()
	now := time.Now()
	var claimed []*stored
	for _, s := range p.due[sink] {
		if len(claimed) == limit || s.due.After(now) {
			break
		}
		claimed = append(claimed, s)
	}
	p.due[sink] = slices.Delete(p.due[sink], 0, len(claimed))
	out := make([]event.Parcel, len(claimed))
	for i, s := range claimed {
		s.due, s.claimed = now.Add(hold), true
		p.place(s)
		out[i] = s.Parcel
	}
	return out, nil
}

// Extend implements relay.Parcels.
func (p *Parcels) Extend(ctx context.Context, hold time.Duration, keys ...event.ParcelKey) error {
	if err := p.enter(ctx, "Extend"); err != nil {
		return err
	}
	defer p.mu.Unlock()
	for _, key := range keys {
		if s := p.parcels[key]; s != nil && s.claimed {
			p.displace(s)
			s.due = time.Now().Add(hold)
			p.place(s)
		}
	}
	return nil
}

// Unclaim implements relay.Parcels.
func (p *Parcels) Unclaim(ctx context.Context, keys ...event.ParcelKey) error {
	if err := p.enter(ctx, "Unclaim"); err != nil {
		return err
	}
	defer p.mu.Unlock()
	for _, key := range keys {
		if s := p.parcels[key]; s != nil && s.claimed {
			p.displace(s)
			s.due, s.claimed = s.Next, false
			p.place(s)
		}
	}
	return nil
}

// Complete implements relay.Parcels.
func (p *Parcels) Complete(ctx context.Context, keys ...event.ParcelKey) error {
	if err := p.enter(ctx, "Complete"); err != nil {
		return err
	}
	defer p.mu.Unlock()
	for _, key := range keys {
		if s := p.parcels[key]; s != nil {
			p.displace(s)
			delete(p.parcels, key)
		}
	}
	return nil
}

// Fail implements relay.Parcels.
func (p *Parcels) Fail(ctx context.Context, outcomes ...event.ParcelOutcome) error {
	if err := p.enter(ctx, "Fail"); err != nil {
		return err
	}
	defer p.mu.Unlock()
	for _, o := range outcomes {
		s := p.parcels[o.Key]
		if s == nil || s.State != event.ParcelWaiting {
			continue
		}
		p.displace(s)
		s.Attempts++
		s.LastError, s.FirstError = o.Err, cmp.Or(s.FirstError, o.Err)
		s.Updated, s.Next, s.due, s.claimed = time.Now(), o.Next, o.Next, false
		if o.Dead {
			s.State = event.ParcelDead
			continue
		}
		p.place(s)
	}
	return nil
}

// NextDue implements relay.Parcels.
func (p *Parcels) NextDue(ctx context.Context, sink string) (time.Time, bool, error) {
	if err := p.enter(ctx, "NextDue"); err != nil {
		return time.Time{}, false, err
	}
	defer p.mu.Unlock()
	if len(p.due[sink]) == 0 {
		return time.Time{}, false, nil
	}
	return p.due[sink][0].due, true, nil
}

// ReleaseSink implements relay.Parcels.
func (p *Parcels) ReleaseSink(ctx context.Context, sink string) (released int64, err error) {
	if err := p.enter(ctx, "ReleaseSink"); err != nil {
		return 0, err
	}
	defer p.mu.Unlock()
	now := time.Now()
	for _, s := range p.due[sink] {
		if !s.claimed && s.due.After(now) {
			s.Next, s.due = s.Created, s.Created
			released++
		}
	}
	slices.SortFunc(p.due[sink], order)
	return released, nil
}

// Replay makes a dead letter due, as a person does.
func (p *Parcels) Replay(key event.ParcelKey) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if s := p.parcels[key]; s != nil && s.State == event.ParcelDead {
		s.State, s.Attempts, s.Next, s.due = event.ParcelWaiting, 0, time.Now(), time.Now()
		p.place(s)
	}
}

// Counts implements relay.Counts.
func (p *Parcels) Counts(ctx context.Context) (waiting, dead int64, err error) {
	if err := p.enter(ctx, "Counts"); err != nil {
		return 0, 0, err
	}
	defer p.mu.Unlock()
	for _, s := range p.parcels {
		if s.State == event.ParcelDead {
			dead++
		} else {
			waiting++
		}
	}
	return waiting, dead, nil
}

// All is a copy of every parcel, the oldest first.
func (p *Parcels) All() []event.Parcel {
	p.mu.Lock()
	defer p.mu.Unlock()
	all := make([]event.Parcel, 0, len(p.parcels))
	for _, s := range p.parcels {
		all = append(all, s.Parcel)
	}
	slices.SortFunc(all, func(a, b event.Parcel) int {
		return cmp.Or(a.Created.Compare(b.Created), cmp.Compare(a.ID, b.ID), cmp.Compare(a.Sink, b.Sink))
	})
	return all
}

// Claimed counts the parcels that are claimed and whose claim has not run out.
func (p *Parcels) Claimed() (n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range p.parcels {
		if s.claimed && s.due.After(time.Now()) {
			n++
		}
	}
	return n
}

// Puts is how many Puts succeeded, and most how many parcels there were at most.
func (p *Parcels) Puts() (puts, most int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.puts, p.most
}

// RememberSettled implements relay.Memory.
func (p *Parcels) RememberSettled(ctx context.Context, subAppID uint64, id string, at time.Time) error {
	if err := p.enter(ctx, "RememberSettled"); err != nil {
		return err
	}
	defer p.mu.Unlock()
	p.marks[event.ParcelKey{SubAppID: subAppID, EventID: id}] = at
	return nil
}

// ForgetSettled implements relay.Memory.
func (p *Parcels) ForgetSettled(ctx context.Context, subAppID uint64, id string) error {
	if err := p.enter(ctx, "ForgetSettled"); err != nil {
		return err
	}
	defer p.mu.Unlock()
	delete(p.marks, event.ParcelKey{SubAppID: subAppID, EventID: id})
	return nil
}

// Settled implements relay.Memory.
func (p *Parcels) Settled(ctx context.Context, subAppID uint64) ([]event.SettledMark, error) {
	if err := p.enter(ctx, "Settled"); err != nil {
		return nil, err
	}
	defer p.mu.Unlock()
	out := make([]event.SettledMark, 0, len(p.marks))
	for key, at := range p.marks {
		if key.SubAppID == subAppID {
			out = append(out, event.SettledMark{EventID: key.EventID, At: at})
		}
	}
	return out, nil
}
