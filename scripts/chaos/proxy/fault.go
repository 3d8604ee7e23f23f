package proxy

import (
	"fmt"
	"strings"
	"time"
)

// Fault is what a proxy does to the connections through it. The zero Fault does nothing: bytes pass as they come.
// Faults add up.
type Fault struct {
	Request Direction // from client to target
	Reply   Direction // from target to client

	// Reset is the share of chunks of bytes that end their connection: half of the chunk passes, then both
	// sides get an RST.
	Reset float64
	// LostReply is the share of replies that never arrive: the request has passed, the target has answered,
	// and both sides get an RST instead.
	LostReply float64
	// HalfOpen is a connection whose other end is gone without a word: it stays open, nothing passes any more,
	// not even its end. It takes all connections there are and all that come, and they stay so after it.
	HalfOpen bool
	// Hang accepts new connections and forwards nothing as long as it lasts.
	Hang bool
	// Refuse refuses new connections.
	Refuse bool
}

// Direction is what happens to bytes that go one way.
type Direction struct {
	Latency time.Duration
	Jitter  time.Duration // up to this much is added to Latency
	// Loss is the share of chunks that are lost once. They and all behind them wait for the retransmission, as
	// TCP has it: 200 ms, and twice as long for each further loss.
	Loss float64
	// Bandwidth is in bytes per second for each connection; 0 is no limit.
	Bandwidth int
	// Block lets nothing pass. What was sent arrives when it ends, if the connection still stands.
	Block bool
}

// String names the fault, "none" for none.
func (f Fault) String() string {
	var parts []string
	add := func(set bool, format string, args ...any) {
		if set {
			parts = append(parts, fmt.Sprintf(format, args...))
		}
	}
	add(f.Refuse, "refuse")
	add(f.Hang, "hang")
	add(f.HalfOpen, "half-open")
	add(f.Reset > 0, "reset %g", f.Reset)
	add(f.LostReply > 0, "lost reply %g", f.LostReply)
	parts = append(parts, f.Request.words("requests")...)
	parts = append(parts, f.Reply.words("replies")...)
	if len(parts) == 0 {
		return "none"
	}
	return strings.Join(parts, ", ")
}

func (d Direction) words(name string) []string {
	var parts []string
	if d.Block {
		parts = append(parts, name+" blocked")
	}
	if d.Latency > 0 || d.Jitter > 0 {
		parts = append(parts, fmt.Sprintf("%s late by %s to %s", name, d.Latency, d.Latency+d.Jitter))
	}
	if d.Loss > 0 {
		parts = append(parts, fmt.Sprintf("%s lose %g", name, d.Loss))
	}
	if d.Bandwidth > 0 {
		parts = append(parts, fmt.Sprintf("%s at %d B/s", name, d.Bandwidth))
	}
	return parts
}
