package emulator

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"time"
)

// FaultKind is what goes wrong.
type FaultKind string

// The faults. The first group carries the action out and spoils its answer;
// the second does not carry it out, unless Fault.After is set.
const (
	FaultLatency     FaultKind = "latency"      // the answer leaves Delay later
	FaultLoseReply   FaultKind = "lose-reply"   // events are leased, or confirmed, and the connection is reset
	FaultTruncate    FaultKind = "truncate"     // half of the body, then the connection ends
	FaultStall       FaultKind = "stall"        // half of the body, the rest after Delay; 0: after ReleaseHung
	FaultContentType FaultKind = "content-type" // the answer with ContentType
	FaultDuplicate   FaultKind = "duplicate"    // PullEvents only: each event twice in one answer
	FaultNoHold      FaultKind = "no-hold"      // PullEvents only: an empty queue answers at once
	FaultClockSkew   FaultKind = "clock-skew"   // the timestamp is judged, and the Date made, by a clock that is Delay ahead
	FaultHang        FaultKind = "hang"         // nothing happens for Delay; 0: until ReleaseHung or the client goes
	FaultExtraItems  FaultKind = "extra-items"  // PullEvents only: Count items behind the events that are numbers; 0: 1,048,576
	FaultOddItems    FaultKind = "odd-items"    // PullEvents only: items behind the events that are none, or lack something
	FaultDeep        FaultKind = "deep"         // the first event, or else the answer, has a field nested Count deep; 0: 20,000
	FaultBig         FaultKind = "big"          // the first event, or else the answer, has a field of Count bytes; 0: 8 MiB

	FaultReset           FaultKind = "reset"             // the connection is reset
	FaultBadGateway      FaultKind = "bad-gateway"       // 502 with an HTML page
	FaultNullBody        FaultKind = "null-body"         // 200 with the body null
	FaultEmptyBody       FaultKind = "empty-body"        // 200 without a body
	FaultEmptyObject     FaultKind = "empty-object"      // 200 with the body {}
	FaultTooManyRequests FaultKind = "too-many-requests" // 429 with Retry-After Delay; a JSON error when Code is set
	FaultError           FaultKind = "error"             // 200 with the error Code, default InternalError; an expired key is AuthFailure.SecretIdNotFound, .SignatureExpire or .TokenFailure
)

// FaultKinds returns all kinds.
func FaultKinds() []FaultKind {
	return []FaultKind{
		FaultLatency, FaultLoseReply, FaultTruncate, FaultStall, FaultContentType, FaultDuplicate, FaultNoHold,
		FaultClockSkew, FaultHang, FaultExtraItems, FaultOddItems, FaultDeep, FaultBig, FaultReset, FaultBadGateway, FaultNullBody, FaultEmptyBody, FaultEmptyObject,
		FaultTooManyRequests, FaultError,
	}
}

// afterAllowed are the kinds that may be carried out or not.
func (k FaultKind) afterAllowed() bool {
	return oneOf(k, FaultReset, FaultBadGateway, FaultNullBody, FaultEmptyBody, FaultEmptyObject, FaultTooManyRequests, FaultError)
}

// pushAllowed are the kinds that posts of PUSH mode can meet.
func (k FaultKind) pushAllowed() bool {
	return oneOf(k, FaultLatency, FaultLoseReply, FaultTruncate, FaultDuplicate, FaultClockSkew, FaultHang, FaultReset)
}

// pullOnly are the kinds that only answers of PullEvents can meet.
func (k FaultKind) pullOnly() bool {
	return oneOf(k, FaultDuplicate, FaultNoHold, FaultExtraItems, FaultOddItems)
}

// counted are the kinds that Fault.Count is for, with the bytes that each one counted takes.
func (k FaultKind) counted() int {
	switch k {
	case FaultExtraItems, FaultDeep:
		return 2
	case FaultBig:
		return 1
	default:
		return 0
	}
}

func (k FaultKind) needsDelay() bool { return k == FaultLatency || k == FaultClockSkew }

// Fault is something that goes wrong with the requests that it matches. A
// request meets at most one: the first that matches, in order of AddFault.
type Fault struct {
	// ID is given by AddFault.
	ID   int64
	Kind FaultKind
	// Action limits the fault to one action. Empty: any of the API. ActionPush:
	// the posts of PUSH mode, which latency and hang delay before they begin,
	// reset leaves out, truncate cuts in the middle of the body, and lose-reply
	// has unanswered.
	Action string
	// SubAppID limits the fault to one application. 0: any.
	SubAppID uint64
	// Times is how many requests are hit before the fault is gone. 0: one,
	// or without limit when Rate is set.
	Times int
	// Rate is the share of matching requests that are hit, above 0 and at most
	// 1, chosen by Options.Seed. 0: each.
	Rate float64
	// Delay is the time of latency, hang, stall, clock-skew (also negative)
	// and Retry-After.
	Delay time.Duration
	// Count is the number of extra items, the depth of deep, or the bytes of big.
	Count int
	// Code and Message are for error and too-many-requests.
	Code    string
	Message string
	// ContentType is for content-type. Default text/event-stream.
	ContentType string
	// After carries the action out before its answer is replaced, so that
	// events are leased or confirmed though the client cannot know.
	After bool
	// Hits is how many requests were hit so far. Set by the server.
	Hits int
}

// Validate reports every value that AddFault would refuse.
func (f Fault) Validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if !slices.Contains(FaultKinds(), f.Kind) {
		bad("kind: %q, write one of %v", f.Kind, FaultKinds())
	}
	if _, ok := parameters[f.Action]; !ok && !oneOf(f.Action, "", ActionPush) {
		bad("action: %q is not an action, write for example %s, or leave it out", f.Action, ActionPullEvents)
	}
	switch {
	case f.Action == ActionPush && f.Kind.valid() && !f.Kind.pushAllowed():
		bad("action: %s does not happen to a %s", f.Kind, ActionPush)
	case f.Action != ActionPush && f.Kind.pullOnly() && !oneOf(f.Action, "", ActionPullEvents):
		bad("action: %s belongs to %s only", f.Kind, ActionPullEvents)
	}
	if f.Times < 0 {
		bad("times: %d is negative, write a number of requests", f.Times)
	}
	if !(f.Rate >= 0 && f.Rate <= 1) {
		bad("rate: %v, write a share from 0 to 1", f.Rate)
	}
	if f.Delay < 0 && f.Kind != FaultClockSkew {
		bad("delay: %v is negative", f.Delay)
	}
	if f.Delay == 0 && f.Kind.needsDelay() {
		bad("delay: %s needs one, write for example 2s", f.Kind)
	}
	switch each := f.Kind.counted(); {
	case f.Count < 0 || each > 0 && f.Count > maxSpoilt/each:
		bad("count: %d, write a number up to %d", f.Count, maxSpoilt/max(each, 1))
	case f.Count > 0 && f.Kind.valid() && each == 0:
		bad("count: has no meaning with %s, leave it out", f.Kind)
	}
	if f.After && f.Kind.valid() && !f.Kind.afterAllowed() {
		bad("after: has no meaning with %s, leave it out", f.Kind)
	}
	return errors.Join(errs...)
}

func (k FaultKind) valid() bool { return slices.Contains(FaultKinds(), k) }

func (f *Fault) matches(action string, subAppID uint64) bool {
	if action == ActionPush {
		return f.Action == ActionPush && oneOf(f.SubAppID, 0, subAppID)
	}
	if f.Kind.pullOnly() && action != ActionPullEvents {
		return false
	}
	return oneOf(f.Action, "", action) && oneOf(f.SubAppID, 0, subAppID)
}

// carriesOut tells whether the action happens.
func (f *Fault) carriesOut() bool { return f.After || !f.Kind.afterAllowed() }

// response makes the answer of a fault that replaces it. out is the real one.
func (f *Fault) response(out []byte, errorBody func(*apiError) []byte) response {
	plain := response{status: http.StatusOK, contentType: jsonType}
	switch f.Kind {
	case FaultBadGateway:
		return response{status: http.StatusBadGateway, contentType: "text/html", body: []byte(badGatewayPage)}
	case FaultNullBody:
		plain.body = []byte("null")
	case FaultEmptyBody:
	case FaultEmptyObject:
		plain.body = []byte("{}")
	case FaultError:
		e := apiError{Code: f.Code, Message: f.Message}
		setDefault(&e.Code, codeInternalError)
		setDefault(&e.Message, "An error that was asked for.")
		plain.body = errorBody(&e)
	case FaultTooManyRequests:
		plain.status, plain.retryAfter = http.StatusTooManyRequests, f.Delay
		if f.Code == "" {
			plain.contentType, plain.body = "text/plain", []byte("Too Many Requests\n")
			break
		}
		e := apiError{Code: f.Code, Message: f.Message}
		setDefault(&e.Message, "The request frequency exceeds the limit.")
		plain.body = errorBody(&e)
	case FaultContentType:
		plain.contentType, plain.body = f.ContentType, out
		setDefault(&plain.contentType, "text/event-stream")
	default:
		plain.body = f.spoil(out)
	}
	return plain
}

const badGatewayPage = `<html>
<head><title>502 Bad Gateway</title></head>
<body>
<center><h1>502 Bad Gateway</h1></center>
<hr><center>nginx</center>
</body>
</html>
`

const maxFaults = 1000

// faults are the active ones.
type faults struct {
	mu      sync.Mutex
	list    []*Fault
	last    int64
	random  *rand.Rand
	release chan struct{} // closed by ReleaseHung
}

func newFaults(seed uint64) *faults {
	return &faults{random: rand.New(rand.NewPCG(seed, 0x6661756c7473)), release: make(chan struct{})}
}

// take returns the fault of a request, and what releases it when it hangs.
func (fs *faults) take(action string, subAppID uint64) (Fault, <-chan struct{}) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	for i, f := range fs.list {
		if !f.matches(action, subAppID) || (f.Rate > 0 && fs.random.Float64() >= f.Rate) {
			continue
		}
		f.Hits++
		if f.Times > 0 && f.Hits >= f.Times {
			fs.list = slices.Delete(fs.list, i, i+1)
		}
		return *f, fs.release
	}
	return Fault{}, fs.release
}

func (fs *faults) add(f Fault) (int64, error) {
	if err := f.Validate(); err != nil {
		return 0, err
	}
	fs.mu.Lock()
	defer fs.mu.Unlock()
	if len(fs.list) >= maxFaults {
		return 0, fmt.Errorf("there are %d faults already, remove some", maxFaults)
	}
	if f.Times == 0 && f.Rate == 0 {
		f.Times = 1
	}
	fs.last++
	f.ID, f.Hits = fs.last, 0
	fs.list = append(fs.list, &f)
	return f.ID, nil
}

// AddFault makes matching requests go wrong from now on. It returns the
// fault's ID.
func (s *Server) AddFault(f Fault) (int64, error) { return s.faults.add(f) }

// Faults returns the faults that are active, those used up left out.
func (s *Server) Faults() []Fault {
	s.faults.mu.Lock()
	defer s.faults.mu.Unlock()
	list := make([]Fault, 0, len(s.faults.list))
	for _, f := range s.faults.list {
		list = append(list, *f)
	}
	return list
}

// RemoveFault ends one fault and reports whether it was active.
func (s *Server) RemoveFault(id int64) bool {
	s.faults.mu.Lock()
	defer s.faults.mu.Unlock()
	before := len(s.faults.list)
	s.faults.list = slices.DeleteFunc(s.faults.list, func(f *Fault) bool { return f.ID == id })
	return len(s.faults.list) < before
}

// ClearFaults ends all faults and releases the requests that hang.
func (s *Server) ClearFaults() {
	s.faults.mu.Lock()
	s.faults.list = nil
	s.faults.mu.Unlock()
	s.ReleaseHung()
}

// ReleaseHung lets requests go on that hang or stall now: a hung one is
// carried out and answered, a stalled body is completed.
func (s *Server) ReleaseHung() {
	s.faults.mu.Lock()
	defer s.faults.mu.Unlock()
	close(s.faults.release)
	s.faults.release = make(chan struct{})
}
