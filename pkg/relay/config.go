package relay

import (
	"errors"
	"fmt"
	"time"

	"golang.org/x/time/rate"

	"github.com/vodrelay/vodrelay/pkg/event"
)

const (
	// maxInHandLimit is the largest Config.MaxInHand.
	maxInHandLimit = 1 << 20
	// minBytesInHand and maxBytesLimit bound Config.MaxBytesInHand.
	minBytesInHand = 1 << 20
	maxBytesLimit  = 1 << 40
)

// Config bounds the engine.
type Config struct {
	MaxInHand int `mapstructure:"max_in_hand" default:"1024" doc:"Most events that are pulled and not yet confirmed, over all applications. At least 16 for one application, and 32 for each of several; at most 1048576."`
	// MaxBytesInHand bounds memory where events are large: the program takes several times as much.
	MaxBytesInHand int64 `mapstructure:"max_bytes_in_hand" default:"67108864" doc:"Most bytes of the events in hand, over all applications, from 1048576 to 1099511627776. With very large events it decides how many are pulled; what does not fit stays in the queue, and comes back when its lease is over. An event that is larger is taken alone."`
	// Confirm is when an event is confirmed. The handler brings it about; the engine is the same for both.
	Confirm   string        `mapstructure:"confirm" default:"handled" enum:"handled,stored" doc:"When an event is confirmed. handled: every sink has accepted it, or it is in the store for those that have not. stored: it is in the store, and sent from there, so that a sink may take hours."`
	StopGrace time.Duration `mapstructure:"stop_grace" default:"17s" doc:"How long a stop lets work in hand go on before it is cancelled. At most 17s, so that a stop ends within 25s, and so within the 30s that Kubernetes grants."`
	// RateLimit is the most requests per second to each API, over all applications; 0 for no limit. It is
	// configured as vod.rate_limit.
	RateLimit float64 `mapstructure:"-"`
}

// The values of Config.Confirm. Empty counts as ConfirmHandled.
const (
	ConfirmHandled = "handled"
	ConfirmStored  = "stored"
)

// DefaultConfig is the configuration for the documented quota of 100 requests per second for each API.
// Its 1,024 places keep that rate up to a round trip of 250 ms.
func DefaultConfig() Config {
	return Config{MaxInHand: 1024, MaxBytesInHand: 64 << 20, Confirm: ConfirmHandled, StopGrace: MaxStopGrace, RateLimit: 100}
}

// Validate reports every value that makes no sense.
func (c Config) Validate() error { return c.ValidateFor(1) }

// MinInHand is the smallest Config.MaxInHand with which a relay of this number of sources works: one takes a batch at a
// time, and with several the events of one must leave places for the polls of the others.
func MinInHand(sources int) int {
	if sources <= 1 {
		return event.MaxBatch
	}
	return 2 * event.MaxBatch * sources
}

// ValidateFor is Validate, for a relay with this number of sources.
func (c Config) ValidateFor(sources int) error {
	var errs []error
	if need := MinInHand(sources); c.MaxInHand < need {
		why := "the events of one reply"
		if sources > 1 {
			why = fmt.Sprintf("%d for each of %d applications", need/sources, sources)
		}
		errs = append(errs, fmt.Errorf("max_in_hand: %d: must be at least %d: %s", c.MaxInHand, need, why))
	}
	if c.MaxInHand > maxInHandLimit {
		errs = append(errs, fmt.Errorf("max_in_hand: %d: must be at most %d", c.MaxInHand, maxInHandLimit))
	}
	if c.MaxBytesInHand < minBytesInHand || c.MaxBytesInHand > maxBytesLimit {
		errs = append(errs, fmt.Errorf("max_bytes_in_hand: %d: must be from %d to %d", c.MaxBytesInHand, minBytesInHand, maxBytesLimit))
	}
	if c.Confirm != "" && c.Confirm != ConfirmHandled && c.Confirm != ConfirmStored {
		errs = append(errs, fmt.Errorf("confirm: %q: must be %s or %s", c.Confirm, ConfirmHandled, ConfirmStored))
	}
	if c.StopGrace < 0 || c.StopGrace > MaxStopGrace {
		errs = append(errs, fmt.Errorf("stop_grace: %s: must be between 0s and %s, so that a stop ends within %s", c.StopGrace, MaxStopGrace, StopLimit))
	}
	if c.RateLimit < 0 {
		errs = append(errs, fmt.Errorf("rate_limit: %g: must be 0 (no limit) or more", c.RateLimit))
	}
	return errors.Join(errs...)
}

func (c Config) limit() rate.Limit {
	if c.RateLimit > 0 {
		return rate.Limit(c.RateLimit)
	}
	return rate.Inf
}
