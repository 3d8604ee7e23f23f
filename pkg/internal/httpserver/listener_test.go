package httpserver

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// street is a listener that is connected to from any address.
type street struct {
	conns chan net.Conn
	done  chan struct{}
}

func newStreet() *street { return &street{make(chan net.Conn), make(chan struct{})} }

func (s *street) Accept() (net.Conn, error) {
	select {
	case c := <-s.conns:
		return c, nil
	case <-s.done:
		return nil, net.ErrClosed
	}
}

func (s *street) Close() error {
	close(s.done)
	return nil
}

func (s *street) Addr() net.Addr { return &net.TCPAddr{} }

type from struct {
	net.Conn
	addr string
}

func (f from) RemoteAddr() net.Addr { return net.TCPAddrFromAddrPort(netip.MustParseAddrPort(f.addr)) }

// come connects from addr, without a port.
func (s *street) come(addr string) net.Conn {
	client, server := net.Pipe()
	s.conns <- from{server, net.JoinHostPort(addr, "1024")}
	synctest.Wait() // it has a place, or none
	return client
}

// gone reports whether the server has closed the connection.
func gone(t *testing.T, c net.Conn) bool {
	t.Helper()
	if c.SetReadDeadline(time.Now().Add(time.Millisecond)) != nil { // of a pipe whose other end is closed
		return true
	}
	_, err := c.Read(make([]byte, 1))
	require.ErrorIs(t, err, os.ErrDeadlineExceeded)
	return false
}

// served is a server on a street; its requests wait for release at /work, and keep their places at /kept.
func served(t *testing.T, limits Limits, body func(t *testing.T, s *street, l *Listener, release func())) {
	synctest.Test(t, func(t *testing.T) {
		s, released := newStreet(), make(chan struct{})
		l := Listen(s, limits)
		server := &http.Server{ReadHeaderTimeout: time.Hour, Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			switch r.URL.Path {
			case "/kept":
				defer Keep(r.Context())()
				<-released
			case "/work":
				<-released
			}
		})}
		Attach(server)
		ended := make(chan error, 1)
		go func() { ended <- server.Serve(l) }()
		body(t, s, l, func() { close(released) })
		require.NoError(t, server.Close())
		require.ErrorIs(t, <-ended, http.ErrServerClosed)
		select {
		case <-released:
		default:
			close(released)
		}
		synctest.Wait()
		require.Zero(t, l.Stats().Open)
		require.Empty(t, l.clients)
	})
}

func request(t *testing.T, c net.Conn, path string) {
	t.Helper()
	_, err := io.WriteString(c, "GET "+path+" HTTP/1.1\r\nHost: x\r\n\r\n")
	require.NoError(t, err)
	synctest.Wait()
}

func TestAStrangerTakesNoPlace(t *testing.T) {
	type report struct {
		reason Reason
		count  int64
		from   string
	}
	var reports []report
	allowed := netip.MustParsePrefix("10.0.0.0/8")
	served(t, Limits{Most: 2, Admit: allowed.Contains, Closed: func(r Reason, n int64, from net.Addr) { reports = append(reports, report{r, n, from.String()}) }},
		func(t *testing.T, s *street, l *Listener, _ func()) {
			friend := s.come("10.1.2.3")
			for range 100 {
				require.True(t, gone(t, s.come("192.0.2.1")))
			}
			require.True(t, gone(t, s.come("2001:db8::1")))
			require.False(t, gone(t, friend))
			require.EqualValues(t, 1, l.Stats().Open)
			require.EqualValues(t, 101, l.Stats().Closed[Stranger])
			require.Equal(t, []report{{Stranger, 1, "192.0.2.1:1024"}}, reports, "the others are told of later")
			time.Sleep(time.Minute)
			require.True(t, gone(t, s.come("192.0.2.9")))
			require.Equal(t, report{Stranger, 101, "192.0.2.9:1024"}, reports[1])
			require.Len(t, reports, 2)
		})
}

func TestTheLongestWithoutARequestGivesUpItsPlace(t *testing.T) {
	served(t, Limits{Most: 3}, func(t *testing.T, s *street, l *Listener, _ func()) {
		silent := s.come("127.0.0.1")
		slow := s.come("127.0.0.1")
		_, err := io.WriteString(slow, "GET / HTTP/1.1\r\nX-")
		require.NoError(t, err)
		busy := s.come("127.0.0.1")
		request(t, busy, "/work")

		require.False(t, gone(t, s.come("127.0.0.1")))
		require.True(t, gone(t, silent), "it has waited for longest")
		_, err = io.WriteString(slow, "s") // a byte of a header is no request
		require.NoError(t, err)
		require.False(t, gone(t, s.come("127.0.0.1")))
		require.True(t, gone(t, slow))
		require.False(t, gone(t, busy), "what has a request is not closed while others wait")
		require.EqualValues(t, 3, l.Stats().Open)
		require.EqualValues(t, 2, l.Stats().Closed[Replaced])
	})
}

func TestWhatIsIdleAgainHasWaitedSinceThen(t *testing.T) {
	served(t, Limits{Most: 2}, func(t *testing.T, s *street, _ *Listener, _ func()) {
		first, second := s.come("127.0.0.1"), s.come("127.0.0.1")
		go func() { _, _ = io.Copy(io.Discard, first) }()
		time.Sleep(grace)
		request(t, first, "/")
		s.come("127.0.0.1")
		require.True(t, gone(t, second))
		_, err := io.WriteString(first, "GET / HT")
		require.NoError(t, err, "the first has had a request since the second came")
	})
}

func TestRequestsOnTheirWayGiveUpTheirPlacesLast(t *testing.T) {
	served(t, Limits{Most: 2}, func(t *testing.T, s *street, l *Listener, release func()) {
		stream, kept := s.come("127.0.0.1"), s.come("127.0.0.1")
		request(t, stream, "/work") // as a stream of events would be
		request(t, kept, "/kept")
		last := s.come("127.0.0.1")
		require.True(t, gone(t, stream))
		require.False(t, gone(t, kept))
		request(t, last, "/kept")

		// All are kept: a new one waits.
		came := make(chan net.Conn, 1)
		go func() { came <- s.come("127.0.0.1") }()
		waiting := <-came
		require.EqualValues(t, 2, l.Stats().Open)
		release()
		go func() { _, _ = io.Copy(io.Discard, kept) }()
		go func() { _, _ = io.Copy(io.Discard, last) }()
		synctest.Wait()
		request(t, waiting, "/")
		require.EqualValues(t, 2, l.Stats().Closed[Replaced])
	})
}

// Who keeps the server writing does not win by that: what came a moment ago may still send its request.
func TestARequestThatLastsGivesWayToOneThatComes(t *testing.T) {
	served(t, Limits{Most: 3}, func(t *testing.T, s *street, _ *Listener, _ func()) {
		deaf, next := s.come("127.0.0.1"), s.come("127.0.0.1")
		request(t, deaf, "/work")
		request(t, next, "/work")
		time.Sleep(grace)
		fresh := s.come("127.0.0.1")
		s.come("127.0.0.1")
		require.True(t, gone(t, deaf))
		require.False(t, gone(t, next))
		require.False(t, gone(t, fresh))
		time.Sleep(grace)
		s.come("127.0.0.1")
		require.True(t, gone(t, fresh), "it had its time")
		require.False(t, gone(t, next))
	})
}

// However fast others come and go, what has just come gets the time to ask.
func TestWhatHasItsAnswerGivesWayToWhatHasJustCome(t *testing.T) {
	served(t, Limits{Most: 3}, func(t *testing.T, s *street, _ *Listener, _ func()) {
		fresh := s.come("127.0.0.1")
		for range 10 {
			other := s.come("127.0.0.1")
			go func() { _, _ = io.Copy(io.Discard, other) }()
			request(t, other, "/")
		}
		require.False(t, gone(t, fresh))
		time.Sleep(grace)
		s.come("127.0.0.1")
		require.True(t, gone(t, fresh), "it had its time")
	})
}

func TestOneAddressHasHalfOfThePlaces(t *testing.T) {
	proxies := netip.MustParsePrefix("10.0.0.0/8")
	for addr, want := range map[string]int64{
		"192.0.2.1": 2, "2001:db8::1": 2, "::ffff:192.0.2.1": 2,
		"127.0.0.1": 4, "::1": 4, "10.1.2.3": 4, // many clients may be behind it
	} {
		served(t, Limits{Most: 4, Many: proxies.Contains}, func(t *testing.T, s *street, l *Listener, _ func()) {
			for range 10 {
				s.come(addr)
			}
			require.Equal(t, want, l.Stats().Open, addr)
		})
	}
	served(t, Limits{Most: 4}, func(t *testing.T, s *street, l *Listener, _ func()) {
		other := s.come("192.0.2.2")
		for _, addr := range []string{"2001:db8::1", "2001:db8::2", "2001:db8::1:0:0:3"} { // one /64
			s.come(addr)
		}
		require.EqualValues(t, 3, l.Stats().Open)
		require.False(t, gone(t, other), "an address gives up its own places first")

		for _, addr := range []string{"192.0.2.3", "192.0.2.3"} {
			request(t, s.come(addr), "/kept")
		}
		require.True(t, gone(t, s.come("192.0.2.3")), "all that it may have is at work")
		require.EqualValues(t, 1, l.Stats().Closed[Crowded])
	})
}

func TestKeepWithoutAListener(t *testing.T) {
	Keep(context.Background())()
}
