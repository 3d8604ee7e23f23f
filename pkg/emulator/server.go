package emulator

import (
	"context"
	"errors"
	"io"
	"log"
	"maps"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

var errClosed = errors.New("the emulator is closed")

// controlPath is where the control API is.
const controlPath = "/_emulator/"

// Server is one emulator. It is an http.Handler: the API at "/", the control
// API below "/_emulator/". All methods may be called at the same time.
type Server struct {
	opts    Options
	handles handleCodec
	queues  *queues
	faults  *faults
	quotas  *quotas
	control http.Handler
	poster  *poster

	requests  atomic.Uint64 // counts request IDs
	generated atomic.Uint64 // counts generations, for seeds of their own
	done      chan struct{} // closed by Close

	mu          sync.Mutex
	closed      bool
	credentials map[string]Credential
	skew        time.Duration
	servers     []*http.Server
	running     sync.WaitGroup // requests and Serve calls
}

// New returns a server without events. It panics on options that Validate
// refuses. Inside a testing/synctest bubble, call New in the bubble.
func New(opts Options) *Server {
	if err := opts.Validate(); err != nil {
		panic("emulator: " + err.Error())
	}
	opts = opts.withDefaults()
	s := &Server{
		opts:        opts,
		handles:     newHandleCodec(opts.Seed),
		faults:      newFaults(opts.Seed),
		quotas:      newQuotas(opts.Quotas),
		credentials: opts.Credentials,
		skew:        opts.ClockSkew,
		done:        make(chan struct{}),
	}
	s.queues = newQueues(&s.opts, s.handles, s.done)
	s.control = s.newControl()
	s.poster = newPoster(&s.opts)
	return s
}

// API returns the handler of the VOD API alone.
func (s *Server) API() http.Handler { return http.HandlerFunc(s.serveAPI) }

// Control returns the handler of the control API alone. Its paths start with
// "/_emulator/". It asks for no credentials: serve it to this machine only.
func (s *Server) Control() http.Handler { return s.control }

// ServeHTTP serves both.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if strings.HasPrefix(r.URL.Path, controlPath) {
		s.control.ServeHTTP(w, r)
		return
	}
	s.serveAPI(w, r)
}

// Serve answers on l, which it closes, until Close; then it returns nil.
func (s *Server) Serve(l net.Listener) error {
	server := &http.Server{
		Handler:           s,
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       time.Minute,
		ErrorLog:          log.New(io.Discard, "", 0), //nolint:forbidigo // broken connections are this server's trade
	}
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		_ = l.Close()
		return errClosed
	}
	s.servers = append(s.servers, server)
	s.running.Add(1)
	s.mu.Unlock()
	defer s.running.Done()

	err := server.Serve(l)
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

// Close ends the calls of Serve and every request, and returns when they have
// ended. Requests that came through a server of the caller's end as soon as
// their clients read or go.
func (s *Server) Close() {
	s.mu.Lock()
	servers := s.servers
	s.servers = nil
	if !s.closed {
		s.closed = true
		close(s.done)
		s.poster.cancel()
	}
	s.mu.Unlock()

	// Requests in flight see done and end; what is left is a client that does
	// not read, or that never asked anything.
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	for _, server := range servers {
		_ = server.Shutdown(ctx)
		_ = server.Close()
	}
	s.running.Wait()
	s.poster.client.CloseIdleConnections()
}

// enter counts a request in, unless the server is closed.
func (s *Server) enter() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.running.Add(1)
	return true
}

// SetCredentials replaces the key pairs, as a rotation of keys would.
func (s *Server) SetCredentials(credentials map[string]Credential) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.credentials = make(map[string]Credential, len(credentials))
	maps.Copy(s.credentials, credentials)
}

// SetCredential adds or replaces the key of one SecretId.
func (s *Server) SetCredential(secretID string, credential Credential) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.credentials[secretID] = credential
}

// RemoveCredential has a SecretId refused from now on. It reports whether it was accepted before.
func (s *Server) RemoveCredential(secretID string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, found := s.credentials[secretID]
	delete(s.credentials, secretID)
	return found
}

// SetClockSkew sets how far the server's clock is ahead when it judges
// timestamps and tells the Date.
func (s *Server) SetClockSkew(skew time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.skew = skew
}

func (s *Server) credential(secretID string) (Credential, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c, ok := s.credentials[secretID]
	return c, ok
}

func (s *Server) clock() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return time.Now().Add(s.skew)
}

// sleep waits for d. It reports false when the client or the server went away.
func (s *Server) sleep(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return true
	}
	return s.wait(ctx, d, nil)
}

// wait waits for d, without limit when it is 0, or for release.
func (s *Server) wait(ctx context.Context, d time.Duration, release <-chan struct{}) bool {
	var after <-chan time.Time
	if d > 0 {
		timer := time.NewTimer(d)
		defer timer.Stop()
		after = timer.C
	}
	select {
	case <-after:
		return true
	case <-release:
		return true
	case <-ctx.Done():
		return false
	case <-s.done:
		return false
	}
}
