// Package callback receives VOD's normal callback, the other way to be notified: VOD posts each
// notification to a URL, and a Server hands it on and answers 200 when it is settled.
//
// What VOD does about other answers decides what such an answer is worth. Documented is a timeout of 5 s
// after which it tries again, 3 attempts in all, and that it ignores the status and the body of an answer
// (https://cloud.tencent.com/document/product/266/7829, written for the v2.0 format). So a notification
// should be stored before it is answered for, and nothing that takes longer should be waited for.
package callback

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/semaphore"

	"github.com/vodrelay/vodrelay/pkg/event"
	"github.com/vodrelay/vodrelay/pkg/internal/httpserver"
	"github.com/vodrelay/vodrelay/pkg/retry"
)

// Handler works on events. Handle returns nil when the event is settled, or durably stored: VOD is then
// told that it was accepted, and does not send it again. ctx ends 15 s after the first attempt arrived,
// which can be later than the answer; what is settled then is told to VOD's next attempt. Handle is called
// from many goroutines at once, for the same event from one.
type Handler interface {
	Handle(ctx context.Context, d event.Delivery) error
}

// HandlerFunc makes a function a Handler.
type HandlerFunc func(ctx context.Context, d event.Delivery) error

// Handle calls f.
func (f HandlerFunc) Handle(ctx context.Context, d event.Delivery) error { return f(ctx, d) }

// limits are those that no configuration needs; tests have shorter ones.
type limits struct {
	header  time.Duration // until a request's headers have arrived
	write   time.Duration // from there to the end of the answer; more than silence
	idle    time.Duration // between two requests of a connection
	silence time.Duration // how long an answer is held back: longer than VOD's timeout
	stop    time.Duration // what a stop of Serve leaves to the work in hand
}

var defaultLimits = limits{header: 5 * time.Second, write: 10 * time.Second, idle: 30 * time.Second, silence: 6 * time.Second, stop: StopTime}

const (
	// StopTime is how long Serve goes on with the work in hand after its context has ended.
	StopTime = 5 * time.Second
	// smallBody is the size up to which bodies are bounded by the number of connections alone. Larger ones
	// share bodyMemory.
	smallBody  = 64 << 10
	bodyMemory = 64 << 20
	maxHeader  = 16 << 10
)

// Server is an http.Handler for notifications, and a server of it.
type Server struct {
	cfg     Config
	log     *zap.Logger
	handler Handler
	limit   limits

	keys    *keyring
	allow   httpserver.Networks
	proxies httpserver.Networks
	http    *http.Server
	hand    *hand
	room    *semaphore.Weighted // for each event in hand
	memory  *semaphore.Weighted // bytes of large bodies
	stats   counters

	working  context.Context //nolint:containedctx // of all work, ended by cut
	cut      context.CancelFunc
	stopping chan struct{}
	requests sync.WaitGroup
	workers  sync.WaitGroup
	close    sync.Once
	closed   chan struct{}

	mu       sync.Mutex
	listener net.Listener
	places   *httpserver.Listener // what is below listener; nil before Listen
	serving  bool
	ending   bool

	failing  retry.Streak
	refusing retry.Streak // of what is the fault of single events
}

// Stats are the counters since the start, all but InHand only ever growing.
type Stats struct {
	Requests   int64 // requests answered, whatever for
	Accepted   int64 // notifications answered with 200
	Joined     int64 // notifications of an event that was in hand
	Remembered int64 // notifications of an event that had been settled too late for its last attempt
	Unsigned   int64 // refused with 401
	Refused    int64 // refused with another status below 500
	Unsettled  int64 // not accepted: the handler failed, or had no time or no room
	InHand     int64 // gauge: events being worked on

	Connections httpserver.Stats
}

type counters struct {
	requests, accepted, joined, remembered, unsigned, refused, unsettled, inHand atomic.Int64
}

// Stats reads the counters.
func (s *Server) Stats() Stats {
	c := &s.stats
	stats := Stats{
		Requests: c.requests.Load(), Accepted: c.accepted.Load(), Joined: c.joined.Load(), Remembered: c.remembered.Load(),
		Unsigned: c.unsigned.Load(), Refused: c.refused.Load(), Unsettled: c.unsettled.Load(), InHand: c.inHand.Load(),
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.places != nil {
		stats.Connections = s.places.Stats()
	}
	return stats
}

// New makes a receiver that hands notifications to handler; nothing listens yet. log may be nil. The error
// is that of Validate. Shutdown must be called, unless Serve was.
func New(cfg Config, log *zap.Logger, handler Handler) (*Server, error) {
	return newServer(cfg, log, handler, defaultLimits)
}

func newServer(cfg Config, logger *zap.Logger, handler Handler, limit limits) (*Server, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if handler == nil {
		return nil, errors.New("callback: there is no handler")
	}
	if logger == nil {
		logger = zap.NewNop()
	}
	s := &Server{
		cfg: cfg, log: logger, handler: handler, limit: limit,
		keys: newKeyring(cfg), hand: newHand(),
		room:     semaphore.NewWeighted(int64(cfg.MaxConcurrent)),
		memory:   semaphore.NewWeighted(max(bodyMemory, cfg.MaxBody)),
		stopping: make(chan struct{}), closed: make(chan struct{}),
	}
	s.allow, _ = httpserver.ParseNetworks(cfg.Allow) // validated
	s.proxies, _ = httpserver.ParseNetworks(cfg.TrustedProxies)
	s.working, s.cut = context.WithCancel(context.Background())
	s.http = &http.Server{
		Handler:           s,
		ReadHeaderTimeout: limit.header,
		ReadTimeout:       limit.header + cfg.AnswerWithin,
		WriteTimeout:      limit.write,
		IdleTimeout:       limit.idle,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          log.New(debugWriter{logger}, "", 0), //nolint:forbidigo // what net/http wants
		Protocols:         new(http.Protocols),
	}
	httpserver.Attach(s.http)
	s.http.Protocols.SetHTTP1(true) // a connection is one request at a time, so that their limit bounds both
	return s, nil
}

// debugWriter logs what net/http says of broken connections: a scanner should not fill the log.
type debugWriter struct{ log *zap.Logger }

func (w debugWriter) Write(line []byte) (int, error) {
	w.log.Debug("callback: connection failed", zap.String("error", string(line)))
	return len(line), nil
}

// work has one event handled, and ends its time in hand.
func (s *Server) work(e *entry) {
	s.stats.inHand.Add(1)
	defer s.stats.inHand.Add(-1)
	ctx, cancel := context.WithDeadline(s.working, e.Deadline)
	defer cancel()
	err := s.handle(ctx, e.Delivery)
	if err != nil {
		s.unsettled(ctx, e, err)
	} else {
		s.failing.End().Report(s.log, "callback: notifications are accepted again")
		s.refusing.EndAfter(retry.Quiet)
	}
	s.hand.finish(e, err)
}

// handle calls the handler; a panic in it is an error of this one event.
func (s *Server) handle(ctx context.Context, d event.Delivery) (err error) {
	defer func() {
		if p := recover(); p != nil {
			s.log.Error("callback: the handler panicked", zap.Any("panic", p), zap.Stack("stack"), zap.String("event_id", d.ID), zap.String("event_type", d.Type))
			err = fmt.Errorf("the handler panicked: %v", p)
		}
	}()
	return s.handler.Handle(ctx, d)
}

// unsettled tells of a notification that VOD was not told to be accepted.
func (s *Server) unsettled(ctx context.Context, e *entry, err error) {
	fields := append(errorFields(err), zap.String("event_id", e.ID), zap.String("event_type", e.Type))
	s.log.Debug("callback: notification not settled", fields...)
	streak := &s.failing
	if retry.IsPermanent(err) {
		streak = &s.refusing
	}
	if !errors.Is(ctx.Err(), context.Canceled) && streak.Fail(err) {
		s.log.Error("callback: a notification could not be settled: VOD may try again, 3 times in all", fields...)
	}
}

func errorFields(err error) []zap.Field {
	fields := []zap.Field{zap.Error(err)}
	if hint := retry.Hint(err); hint != "" {
		fields = append(fields, zap.String("hint", hint))
	}
	return fields
}
