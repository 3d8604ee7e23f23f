package emulator

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"net"
	"slices"
	"time"
)

// The key pair that a server without Options.Credentials accepts.
const (
	DefaultSecretID  = "emulator-secret-id"
	DefaultSecretKey = "emulator-secret-key"
)

// The actions that the emulator answers.
const (
	ActionPullEvents          = "PullEvents"
	ActionConfirmEvents       = "ConfirmEvents"
	ActionDescribeEventsState = "DescribeEventsState"
	ActionDescribeEventConfig = "DescribeEventConfig"
	ActionModifyEventConfig   = "ModifyEventConfig"
)

// The callback modes of an application.
const (
	ModePull = "PULL" // reliable callback: events wait in the queue
	ModePush = "PUSH" // normal callback
)

// Credential is what belongs to one SecretId.
type Credential struct {
	SecretKey string
	// Token, when set, must come with every request as X-TC-Token, as with
	// temporary credentials. When empty, a request with a token is refused.
	Token string
}

// String hides the secret.
func (Credential) String() string { return "[credential]" }

// GoString hides the secret from %#v.
func (Credential) GoString() string { return "[credential]" }

// Options describe a Server. The zero value is a server with the documented
// behaviour; see the package documentation for what is documented.
type Options struct {
	// Credentials maps SecretId to its key. Empty: DefaultSecretID with
	// DefaultSecretKey.
	Credentials map[string]Credential
	// SubAppIDs are the applications that exist. Empty: every SubAppId is
	// accepted. A request without SubAppId means application 0.
	SubAppIDs []uint64
	// Quotas are requests per second for each action, for all applications
	// together. A missing action has its documented default, 0 is unlimited.
	Quotas map[string]int
	// Lease is how long a pulled event can be confirmed. Default 30 s.
	Lease time.Duration
	// Hold is how long PullEvents waits for an event. Default 5 s, negative:
	// not at all.
	Hold time.Duration
	// Retention is how long an unconfirmed event is kept. Default 4 days.
	Retention time.Duration
	// MaxBatch is the most events in one answer and the most handles in one
	// ConfirmEvents. Default 16.
	MaxBatch int
	// MaxEvents bounds the unconfirmed events of all applications together.
	// Default 2,000,000.
	MaxEvents int
	// JournalSize is how many journal entries are kept. Default 65,536.
	JournalSize int
	// Latency is added to every API request, half before the action and half
	// after it, as a network's round trip would be.
	Latency time.Duration
	// ClockSkew is how far the server's clock is ahead of the real one when it
	// judges timestamps and tells the Date.
	ClockSkew time.Duration
	// Mode is the callback mode that applications start with. Default PULL.
	Mode string
	// ModeDelay is the time until a change of mode takes effect; up to 10
	// minutes on the real service. Default 0.
	ModeDelay time.Duration
	// NotificationURL is where events are posted in PUSH mode at first, and SignKey
	// what signs them. ModifyEventConfig changes both.
	NotificationURL, SignKey string
	// PushTimeout is how long a post waits for its answer. Default 5 s.
	PushTimeout time.Duration
	// PushTries is how often an event is posted at most. Default 3.
	PushTries int
	// PushPause is the time from a failed post to the next. Default 0.
	PushPause time.Duration
	// PushConcurrency is the most posts at a time. Default 64.
	PushConcurrency int
	// PushDial makes the connections of posts, such as a Network's DialContext.
	// Default: a TCP dialer.
	PushDial func(ctx context.Context, network, address string) (net.Conn, error)
	// StateLag is how old the answer of DescribeEventsState may be; seconds to
	// minutes on the real service. Default 0.
	StateLag time.Duration
	// Seed decides handles, request IDs and the faults that come at a rate.
	Seed uint64
	// OnWrongSignature, when set, gets what a request with a wrong signature should have signed. It is
	// called from many goroutines.
	OnWrongSignature func(WrongSignature)
	// Variants choose between behaviours that are not established.
	Variants Variants
}

// DefaultQuotas are the documented limits, in requests per second.
func DefaultQuotas() map[string]int {
	return map[string]int{
		ActionPullEvents:          100,
		ActionConfirmEvents:       100,
		ActionDescribeEventsState: 20,
		ActionDescribeEventConfig: 20,
		ActionModifyEventConfig:   20,
	}
}

// UnlimitedQuotas is for Options.Quotas when quotas are not what is tested.
func UnlimitedQuotas() map[string]int {
	quotas := DefaultQuotas()
	for action := range quotas {
		quotas[action] = 0
	}
	return quotas
}

// Validate reports every value that New would refuse.
func (o Options) Validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	for id, c := range o.Credentials {
		if id == "" || c.SecretKey == "" {
			bad("Credentials: a SecretId or its SecretKey is empty, set both")
		}
	}
	for action, n := range o.Quotas {
		if _, ok := DefaultQuotas()[action]; !ok {
			bad("Quotas: %q is not an action, write one of %v", action, slices.Sorted(maps.Keys(DefaultQuotas())))
		}
		if n < 0 {
			bad("Quotas: %s is %d, write requests per second or 0 for unlimited", action, n)
		}
	}
	for _, d := range []struct {
		name  string
		value time.Duration
	}{
		{"Lease", o.Lease}, {"Retention", o.Retention}, {"Latency", o.Latency},
		{"ModeDelay", o.ModeDelay}, {"StateLag", o.StateLag}, {"PushTimeout", o.PushTimeout}, {"PushPause", o.PushPause},
	} {
		if d.value < 0 {
			bad("%s: %v is negative, write 0 or more", d.name, d.value)
		}
	}
	if o.MaxBatch < 0 || o.MaxBatch > math.MaxUint16 {
		bad("MaxBatch: %d, write 1 to %d", o.MaxBatch, math.MaxUint16)
	}
	if o.MaxEvents < 0 {
		bad("MaxEvents: %d is negative, write 1 or more", o.MaxEvents)
	}
	if o.JournalSize < 0 {
		bad("JournalSize: %d is negative, write 1 or more", o.JournalSize)
	}
	if o.PushTries < 0 || o.PushConcurrency < 0 || o.PushConcurrency > math.MaxUint16 {
		bad("PushTries, PushConcurrency: %d, %d, write 1 or more, and at most %d at a time", o.PushTries, o.PushConcurrency, math.MaxUint16)
	}
	if err := checkURL(o.NotificationURL); err != nil {
		bad("NotificationURL: %w", err)
	}
	if !validSignKey(o.SignKey) {
		bad("SignKey: (hidden), write at most 32 letters and digits")
	}
	if len(o.SubAppIDs) > maxApplications {
		bad("SubAppIDs: %d applications, at most %d", len(o.SubAppIDs), maxApplications)
	}
	if !oneOf(o.Mode, "", ModePull, ModePush) {
		bad("Mode: %q, write PULL or PUSH", o.Mode)
	}
	o.Variants.validate(bad)
	return errors.Join(errs...)
}

func oneOf[T comparable](v T, of ...T) bool { return slices.Contains(of, v) }

func (o Options) withDefaults() Options {
	if len(o.Credentials) == 0 {
		o.Credentials = map[string]Credential{DefaultSecretID: {SecretKey: DefaultSecretKey}}
	} else {
		o.Credentials = maps.Clone(o.Credentials)
	}
	o.SubAppIDs = slices.Clone(o.SubAppIDs)
	quotas := DefaultQuotas()
	maps.Copy(quotas, o.Quotas)
	o.Quotas = quotas
	setDefault(&o.Lease, 30*time.Second)
	setDefault(&o.Hold, 5*time.Second)
	setDefault(&o.Retention, 4*24*time.Hour)
	setDefault(&o.MaxBatch, 16)
	setDefault(&o.MaxEvents, 2_000_000)
	setDefault(&o.JournalSize, 1<<16)
	setDefault(&o.Mode, ModePull)
	setDefault(&o.PushTimeout, 5*time.Second)
	setDefault(&o.PushTries, 3)
	setDefault(&o.PushConcurrency, 64)
	o.Variants.setDefaults()
	return o
}

func setDefault[T comparable](v *T, value T) {
	var zero T
	if *v == zero {
		*v = value
	}
}
