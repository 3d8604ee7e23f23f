package proxy

import (
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

const (
	chunkBytes    = 16 << 10
	chunksOnWay   = 64 // chunks on their way in one direction; then the sender has to wait
	retransmit    = 200 * time.Millisecond
	retransmitMax = 3200 * time.Millisecond
)

// link is one connection through the proxy.
type link struct {
	proxy  *Proxy
	number int
	client *net.TCPConn

	dead  atomic.Bool  // half-open: takes what comes and forwards nothing
	asked atomic.Int64 // when bytes of a request passed, the first since the last reply; 0: there are none

	mu     sync.Mutex
	target *net.TCPConn // nil until it is connected
	over   bool
	ended  chan struct{} // closed with over
}

// chunk is bytes on their way, or the end of them.
type chunk struct {
	bytes []byte
	due   time.Time
	end   error // io.EOF, or the trouble of the sender's connection
}

func (l *link) run() {
	defer l.finish(false)
	for s := l.proxy.state(); s.Hang; s = l.proxy.state() {
		select {
		case <-s.over:
		case <-l.ended:
			return
		}
	}
	conn, err := (&net.Dialer{Timeout: dialLimit}).DialContext(l.proxy.life, "tcp", l.proxy.target)
	if err != nil {
		l.reset()
		return
	}
	target := conn.(*net.TCPConn)
	l.mu.Lock()
	over := l.over
	if !over {
		l.target = target
	}
	l.mu.Unlock()
	if over {
		hardClose(target)
		return
	}
	var pumps sync.WaitGroup
	for _, p := range []*pump{
		{link: l, from: l.client, to: target, choose: l.choices(0)},
		{link: l, from: target, to: l.client, reply: true, choose: l.choices(1)},
	} {
		way := make(chan chunk, chunksOnWay)
		pumps.Go(func() { p.read(way) })
		pumps.Go(func() { p.write(way) })
	}
	pumps.Wait()
}

func (l *link) choices(direction uint64) *rand.Rand {
	return rand.New(rand.NewPCG(l.proxy.seed, uint64(l.number)<<1|direction)) //nolint:gosec // repeatable is what it must be
}

// reset ends the connection with an RST to both sides.
func (l *link) reset() { l.finish(true) }

func (l *link) finish(hard bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.over {
		return
	}
	l.over = true
	close(l.ended)
	for _, conn := range []*net.TCPConn{l.client, l.target} {
		switch {
		case conn == nil:
		case hard:
			hardClose(conn)
		default:
			_ = conn.Close()
		}
	}
}

func (l *link) isOver() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.over
}

// hardClose ends a connection with an RST.
func hardClose(conn *net.TCPConn) {
	_ = conn.SetLinger(0)
	_ = conn.Close()
}

// pause waits for d, and reports false when the connection has ended.
func (l *link) pause(d time.Duration) bool {
	if d <= 0 {
		return true
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-l.ended:
		return false
	}
}

// pump is one direction of a link. Its reader decides when each chunk is due, its writer delivers them in order.
type pump struct {
	link     *link
	from, to *net.TCPConn
	reply    bool
	choose   *rand.Rand // the reader's
}

func (p *pump) faults(s *state) Direction {
	if p.reply {
		return s.Reply
	}
	return s.Request
}

func (p *pump) read(way chan<- chunk) {
	defer close(way)
	for {
		buffer := make([]byte, chunkBytes)
		n, err := p.from.Read(buffer)
		if p.link.dead.Load() {
			if err != nil {
				_ = p.from.Close() // the other side never learns of it
				return
			}
			continue
		}
		if n > 0 && !p.pass(way, buffer[:n]) {
			return
		}
		if err != nil {
			if asked := p.link.asked.Load(); !p.reply && asked != 0 && !p.link.isOver() {
				p.link.proxy.log.since(Unanswered, time.Unix(0, asked), p.link.number)
			}
			p.send(way, chunk{end: err})
			return
		}
	}
}

// pass decides on the fate of bytes that have arrived, and reports false when it is the end of the connection.
func (p *pump) pass(way chan<- chunk, b []byte) bool {
	s, l := p.link.proxy.state(), p.link
	lost, reset := p.choose.Float64(), p.choose.Float64()
	if !p.reply {
		l.asked.CompareAndSwap(0, time.Now().UnixNano())
	} else if l.asked.Swap(0) != 0 && lost < s.LostReply {
		l.proxy.log.moment("lost reply", l.number)
		l.reset()
		return false
	}
	due, stall := p.due(p.faults(s))
	if stall > 0 {
		l.proxy.log.stalled(l.number, due)
	}
	if reset >= s.Reset {
		return p.send(way, chunk{bytes: b, due: due})
	}
	p.send(way, chunk{bytes: b[:len(b)/2], due: due})
	p.send(way, chunk{due: due, end: errReset})
	return false
}

var errReset = errors.New("reset by the proxy")

// due is when a chunk that arrives now may be delivered, and how long of that its retransmissions take.
func (p *pump) due(d Direction) (time.Time, time.Duration) {
	late, loss := p.choose.Float64(), p.choose.Float64()
	var stall time.Duration
	for again := retransmit; loss < d.Loss && again <= retransmitMax; again *= 2 {
		stall += again
		loss = p.choose.Float64()
	}
	return time.Now().Add(d.Latency + time.Duration(late*float64(d.Jitter)) + stall), stall
}

func (p *pump) send(way chan<- chunk, c chunk) bool {
	select {
	case way <- c:
		return true
	case <-p.link.ended:
		return false
	}
}

func (p *pump) write(way <-chan chunk) {
	for c := range way {
		if !p.link.pause(time.Until(c.due)) || !p.unblocked() {
			return
		}
		switch {
		case p.link.dead.Load():
		case c.end == nil:
			if !p.deliver(c.bytes) {
				return
			}
		case errors.Is(c.end, io.EOF):
			_ = p.to.CloseWrite()
		default:
			if errors.Is(c.end, errReset) {
				p.link.proxy.log.moment("reset", p.link.number)
			}
			p.link.reset()
			return
		}
	}
}

// unblocked waits while the direction is blocked, and reports false when the connection has ended.
func (p *pump) unblocked() bool {
	for s := p.link.proxy.state(); p.faults(s).Block && !p.link.dead.Load(); s = p.link.proxy.state() {
		select {
		case <-s.over:
		case <-p.link.ended:
			return false
		}
	}
	return true
}

// deliver writes bytes as fast as the bandwidth allows, and reports false when the connection has ended.
func (p *pump) deliver(b []byte) bool {
	for len(b) > 0 {
		n := len(b)
		speed := p.faults(p.link.proxy.state()).Bandwidth
		if speed > 0 {
			n = min(n, max(1, speed/20)) // a fresh look 20 times a second
		}
		if _, err := p.to.Write(b[:n]); err != nil {
			if !p.link.dead.Load() {
				p.link.reset()
			}
			return p.link.dead.Load()
		}
		b = b[n:]
		if speed > 0 && !p.link.pause(time.Duration(n)*time.Second/time.Duration(speed)) {
			return false
		}
	}
	return true
}
