package callback

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/vodrelay/vodrelay/pkg/internal/httpserver"
	"github.com/vodrelay/vodrelay/pkg/retry"
)

// Listen takes the address, so that whoever starts the program learns at once when it is taken. Serve does
// it too.
func (s *Server) Listen(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.listener != nil {
		return nil
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", s.cfg.Listen)
	if err != nil {
		return retry.WithHint(fmt.Errorf("callback: %w", err), "set callback.listen to a free address of this machine")
	}
	if err := s.cfg.closed(l.Addr().String()); err != nil { // localhost can be anything in /etc/hosts
		_ = l.Close()
		return fmt.Errorf("callback: %s is %s: %w", s.cfg.Listen, l.Addr(), err)
	}
	return s.listenOn(l)
}

func (s *Server) listenOn(l net.Listener) error {
	config, err := s.cfg.TLS.server(s.log)
	if err != nil {
		_ = l.Close()
		return fmt.Errorf("callback: %w", err)
	}
	limits := httpserver.Limits{Most: s.cfg.MaxConnections, Many: s.proxies.Contain, Closed: s.connectionsClosed}
	if len(s.allow) > 0 { // a proxy's own address need not be allowed: the one that it names must be
		limits.Admit = func(addr netip.Addr) bool { return s.allow.Contain(addr) || s.proxies.Contain(addr) }
	}
	s.places = httpserver.Listen(l, limits)
	s.listener = s.places
	if config != nil {
		s.listener = tls.NewListener(s.places, config)
	}
	return nil
}

func (s *Server) connectionsClosed(reason httpserver.Reason, count int64, from net.Addr) {
	text := map[httpserver.Reason]string{
		httpserver.Stranger: "connections were closed, since their addresses may not post: see callback.allow and callback.trusted_proxies",
		httpserver.Crowded:  "connections were closed, since their address has half of all, and a notification on each: if it is a proxy's, it belongs in callback.trusted_proxies",
		httpserver.Replaced: "connections without a request were closed, since others needed their places: see callback.max_connections",
	}[reason]
	s.log.Warn("callback: "+text, zap.Stringer("reason", reason), zap.Int64("connections", count), zap.Stringer("last_from", from))
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

// Serve receives until ctx is done, and then goes on with the work in hand for StopTime; or until Shutdown.
// It returns nil when it was ended, and when every goroutine that it started has ended. What the work needs,
// such as a store, is closed after it.
func (s *Server) Serve(ctx context.Context) error {
	if err := s.Listen(ctx); err != nil {
		return err
	}
	s.mu.Lock()
	again := s.serving
	s.serving = true
	s.mu.Unlock()
	if again {
		return errors.New("callback: a server serves only once")
	}
	s.log.Info("callback receiver listens", zap.Stringer("address", s.Addr()), zap.String("path", s.cfg.Path), zap.Bool("tls", s.cfg.TLS.CertFile != ""))
	for _, warning := range s.cfg.Warnings(true) {
		s.log.Warn("callback: " + warning)
	}

	beside, end := context.WithCancel(ctx)
	var stop sync.WaitGroup
	stop.Go(func() {
		<-beside.Done()
		ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.limit.stop)
		defer cancel()
		if err := s.Shutdown(ending); err != nil {
			s.log.Warn("callback: stopped before all work had ended", zap.Error(err))
		}
	})
	err := s.http.Serve(s.listener)
	if errors.Is(err, http.ErrServerClosed) {
		err = nil
		<-s.closed // by the Shutdown that ended it
	}
	end()
	stop.Wait()
	if err != nil {
		return fmt.Errorf("callback: %w", err)
	}
	return nil
}

// Shutdown takes no more notifications and waits for those in hand. When ctx is done it cancels their work,
// which is not acknowledged then, and returns ctx's error, at most AnswerWithin later. In both cases all
// work has ended when it returns.
func (s *Server) Shutdown(ctx context.Context) error {
	s.mu.Lock()
	if !s.ending {
		s.ending = true
		close(s.stopping)
	}
	s.mu.Unlock()
	waitFor := func(ctx context.Context) { _ = s.http.Shutdown(ctx) } // closes what is idle, and waits for the rest
	now, cancel := context.WithCancel(context.Background())
	cancel()
	waitFor(now) // nothing is accepted any more; what hangs in its headers is not waited for

	over := context.AfterFunc(ctx, s.cut)
	defer over()
	s.requests.Wait()
	s.workers.Wait()
	err := ctx.Err()
	flushing, cancel := context.WithTimeout(context.Background(), flushTime)
	defer cancel()
	waitFor(flushing)
	_ = s.http.Close()
	s.mu.Lock()
	if s.listener != nil {
		_ = s.listener.Close() // also one that was never served
	}
	s.mu.Unlock()
	s.close.Do(func() {
		s.cut()
		close(s.closed)
	})
	if err != nil {
		return fmt.Errorf("callback: work was cancelled: %w", err)
	}
	return nil
}

// flushTime is left to answers that are being written.
const flushTime = 300 * time.Millisecond

// begin counts a request in, unless the server is ending.
func (s *Server) begin() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ending {
		return false
	}
	s.requests.Add(1)
	return true
}
