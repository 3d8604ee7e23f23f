// Package admin is the HTTP server for those who run vodrelay: metrics, health, status, the parcels in the
// store, profiles, and a page for people. It knows none of the components: Options says where its data
// comes from.
//
//	GET  /                       a page that shows the state and the latest dead letters
//	GET  /metrics                for Prometheus
//	GET  /livez, /readyz         for probes; ?verbose names each check
//	GET  /status                 the state as JSON; queue_depth is a plain number, for autoscalers
//	GET  /parcels                parcels by state, sink, type, id, error, older_than, newer_than; limit, after
//	GET  /parcels/{id}           the parcels of an event, with its content
//	POST /parcels/replay, /drop  a Selection: {"ids": [...]}, {"sink": ..., "state": ...} or {"all": true}
//	GET  /debug/pprof/           Go's profiles, if they are switched on
//
// Where a token is configured, everything that shows or changes events asks for it: the page, the parcels
// and the profiles. On the loopback address no token is needed, but that alone does not keep out a web page
// in a browser on the same machine: such requests are recognised by their Host, Origin and Sec-Fetch-Site
// headers.
package admin

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"go.uber.org/zap"
	"golang.org/x/time/rate"

	"github.com/vodrelay/vodrelay/pkg/internal/httpserver"
	"github.com/vodrelay/vodrelay/pkg/retry"
)

const (
	// stopTime is how long requests under way may go on when Serve's context ends.
	stopTime = time.Second
	// maxBody is the most bytes of a request's body.
	maxBody = 1 << 20
	// maxHeader is the most bytes of a request's header.
	maxHeader = 32 << 10
	// changeTime bounds a replay or a drop, which may be about millions of parcels.
	changeTime = 10 * time.Minute
	// maxLooks is the most requests about parcels at a time.
	maxLooks = 4
)

// limits are the times that a client has, and how many connections have a place: a further one takes that of the
// longest without a request, so that probes always get through.
type limits struct {
	header, read, write, idle time.Duration
	conns                     int
}

var defaultLimits = limits{header: 5 * time.Second, read: 10 * time.Second, write: 30 * time.Second, idle: time.Minute, conns: 256}

// Server is the admin server. It serves once.
type Server struct {
	cfg      Config
	opts     Options
	log      *zap.Logger
	limit    limits
	started  time.Time
	registry *prometheus.Registry
	depths   *depths
	counts   *cached[[]Count]  // nil without a store
	health   *cached[struct{}] // nil without a store
	looks    chan struct{}     // a place for each request about parcels
	http     *http.Server
	denied   rate.Sometimes // tells of requests without the token

	cut    context.CancelFunc // ends every request
	blind  context.CancelFunc // ends every look at the store
	closed chan struct{}      // closed when the last request has ended

	mu       sync.Mutex
	listener *httpserver.Listener // nil before Listen
	serving  bool
	ending   bool           // no request begins any more
	requests sync.WaitGroup // under way
	close    sync.Once
}

// New makes a server; nothing listens yet. The error is that of Validate, or names what opts lacks. log may
// be nil.
func New(cfg Config, log *zap.Logger, opts Options) (*Server, error) {
	return newServer(cfg, log, opts, defaultLimits)
}

func newServer(cfg Config, logger *zap.Logger, opts Options, limit limits) (*Server, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	switch {
	case cfg.Listen == "":
		return nil, errors.New(`listen: "": there is no admin server without an address`)
	case opts.Stats == nil || opts.Observer == nil:
		return nil, errors.New("admin: Options needs Stats and Observer")
	}
	if logger == nil {
		logger = zap.NewNop()
	}
	s := &Server{
		cfg: cfg, opts: opts, log: logger, limit: limit, started: time.Now(),
		registry: prometheus.NewRegistry(),
		depths:   &depths{log: logger, apps: opts.Applications, read: opts.Depth},
		looks:    make(chan struct{}, maxLooks),
		denied:   rate.Sometimes{First: 1, Interval: time.Minute},
		closed:   make(chan struct{}),
	}
	life, blind := context.WithCancel(context.Background())
	s.blind = blind
	if opts.Parcels != nil {
		s.counts = &cached[[]Count]{life: life, look: opts.Parcels.Counts}
		s.health = &cached[struct{}]{life: life, look: func(ctx context.Context) (struct{}, error) { return struct{}{}, opts.Parcels.Healthy(ctx) }}
	}
	for _, c := range append(slices.Clone(opts.Observer.all), collector{s}, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{})) {
		if err := s.registry.Register(c); err != nil {
			return nil, fmt.Errorf("metrics: %w", err)
		}
	}
	requests, cut := context.WithCancel(context.Background()) // a stop ends them later than Serve's own context
	s.cut = cut
	s.http = &http.Server{
		Handler:           s.handler(),
		ReadHeaderTimeout: limit.header,
		ReadTimeout:       limit.read,
		WriteTimeout:      limit.write,
		IdleTimeout:       limit.idle,
		MaxHeaderBytes:    maxHeader,
		BaseContext:       func(net.Listener) context.Context { return requests },
		ErrorLog:          log.New(debugWriter{logger}, "", 0), //nolint:forbidigo // what net/http wants
	}
	httpserver.Attach(s.http)
	return s, nil
}

func (s *Server) connections() httpserver.Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.listener == nil {
		return httpserver.Stats{}
	}
	return s.listener.Stats()
}

// connectionsClosed tells of clients that keep more connections than there are places.
func (s *Server) connectionsClosed(reason httpserver.Reason, count int64, from net.Addr) {
	s.log.Warn("admin: connections were closed, since others needed their places: somebody keeps many open",
		zap.Stringer("reason", reason), zap.Int64("connections", count), zap.Stringer("last_from", from))
}

// debugWriter logs what net/http says of broken connections: a scanner should not fill the log.
type debugWriter struct{ log *zap.Logger }

func (w debugWriter) Write(line []byte) (int, error) {
	w.log.Debug("admin: connection failed", zap.String("error", string(line)))
	return len(line), nil
}

// Listen takes the address, so that whoever starts the program learns at once when it is taken. Serve does
// it too.
func (s *Server) Listen(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.listener != nil {
		return nil
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", s.cfg.Listen)
	if err != nil {
		return retry.WithHint(fmt.Errorf("admin: %w", err), "set admin.listen to a free address of this machine, or to \"\" for no admin server")
	}
	if err := s.cfg.closed(l.Addr().String()); err != nil { // localhost can be anything in /etc/hosts
		_ = l.Close()
		return retry.Permanent(fmt.Errorf("admin: %s is %s: %w", s.cfg.Listen, l.Addr(), err))
	}
	s.listener = httpserver.Listen(l, httpserver.Limits{Most: s.limit.conns, Closed: s.connectionsClosed})
	return nil
}

// Addr is the address that Listen took; nil before.
func (s *Server) Addr() net.Addr {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.listener == nil {
		return nil
	}
	return s.listener.Addr()
}

// Serve answers until ctx is done, and then gives requests under way one second; or until Shutdown. It
// returns nil when it was ended, and when every goroutine that it started has ended. A program that stops
// should end ctx last, so that probes see it stopping.
func (s *Server) Serve(ctx context.Context) error {
	if err := s.Listen(ctx); err != nil {
		return err
	}
	s.mu.Lock()
	again := s.serving
	s.serving = true
	s.mu.Unlock()
	if again {
		return errors.New("admin: a server serves only once")
	}
	s.log.Info("admin server listens", zap.Stringer("address", s.Addr()))

	beside, end := context.WithCancel(ctx)
	var all sync.WaitGroup
	all.Go(func() { s.depths.run(beside) })
	all.Go(func() {
		<-beside.Done()
		ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTime)
		defer cancel()
		_ = s.Shutdown(ending) // what it had to cut off is of no concern to a program that ends
	})
	err := s.http.Serve(s.listener)
	if errors.Is(err, http.ErrServerClosed) {
		err = nil
		<-s.closed // by the Shutdown that ended it
	}
	end()
	all.Wait()
	if err != nil {
		return fmt.Errorf("admin: %w", err)
	}
	return nil
}

// Shutdown takes no more requests and waits for those under way; when ctx is done it cuts them off, and
// returns ctx's error. In both cases all have ended when it returns.
func (s *Server) Shutdown(ctx context.Context) error {
	s.blind()
	err := s.http.Shutdown(ctx)
	if err != nil {
		s.cut()
		_ = s.http.Close() // the error of ctx says enough
		err = fmt.Errorf("admin: requests were cut off: %w", err)
	}
	s.mu.Lock()
	s.ending = true
	if s.listener != nil {
		_ = s.listener.Close() // also one that was never served
	}
	s.mu.Unlock()
	s.requests.Wait()
	s.close.Do(func() {
		s.cut()
		close(s.closed)
	})
	return err
}

// begin counts a request in, unless the server has ended.
func (s *Server) begin() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ending {
		return false
	}
	s.requests.Add(1)
	return true
}
