// Package retry says which errors are worth another attempt and makes the attempts: classes that any
// component can put on an error, and a Policy that acts on them.
package retry

import (
	"errors"
	"time"
)

// Permanent marks err as one that no further attempt can cure. It is nil for a nil error.
func Permanent(err error) error {
	if err == nil {
		return nil
	}
	return &permanent{err}
}

// IsPermanent reports whether err, or an error that it wraps, was marked with Permanent. Of joined errors
// all must be: one that may still succeed is worth the attempt.
func IsPermanent(err error) bool { return marked[*permanent](err) }

// NoEffect marks err as the end of an attempt that certainly did nothing: it was refused, or never sent. An
// attempt whose error has no such mark may have been carried out all the same. It is nil for a nil error.
func NoEffect(err error) error {
	if err == nil {
		return nil
	}
	return &noEffectError{err}
}

// HadNoEffect reports whether err, or an error that it wraps, was marked with NoEffect. Of joined errors all
// must be.
func HadNoEffect(err error) bool { return marked[*noEffectError](err) }

// Doubtful marks err as the finding of a check that proves nothing: what was asked for instead of the real thing was
// refused, and the real thing may succeed. It is nil for a nil error.
func Doubtful(err error) error {
	if err == nil {
		return nil
	}
	return &doubtfulError{err}
}

// IsDoubtful reports whether err, or an error that it wraps, was marked with Doubtful. Of joined errors all must be.
func IsDoubtful(err error) bool { return marked[*doubtfulError](err) }

// KeyRefused marks err as the refusal of a credential: only another one helps, which may be in place soon if
// somebody is replacing it. It is nil for a nil error.
func KeyRefused(err error) error {
	if err == nil {
		return nil
	}
	return &keyRefusedError{err}
}

// IsKeyRefused reports whether err, or an error that it wraps, was marked with KeyRefused. Of joined errors all
// must be.
func IsKeyRefused(err error) bool { return marked[*keyRefusedError](err) }

// marked reports whether err or an error that it wraps is an M; of joined errors all must be.
func marked[M error](err error) bool {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		errs := joined.Unwrap()
		for _, e := range errs {
			if !marked[M](e) {
				return false
			}
		}
		return len(errs) > 0
	}
	if _, ok := err.(M); ok { //nolint:errorlint // the walk down is the next line
		return true
	}
	if inner := errors.Unwrap(err); inner != nil {
		return marked[M](inner)
	}
	return false
}

// After marks err as one whose next attempt must not come before d has passed, as a server asks with
// Retry-After. It is nil for a nil error.
func After(err error, d time.Duration) error {
	if err == nil {
		return nil
	}
	return &after{err, d}
}

// Delay is the wait that After put on err, 0 if none.
func Delay(err error) time.Duration {
	var a *after
	if errors.As(err, &a) {
		return a.delay
	}
	return 0
}

// WithHint adds what a person can do about err. It is nil for a nil error.
func WithHint(err error, hint string) error {
	if err == nil {
		return nil
	}
	return &hinted{err, hint}
}

// Hint is what a person can do about err: the outermost hint on it, "" if there is none.
func Hint(err error) string {
	var h *hinted
	if errors.As(err, &h) {
		return h.hint
	}
	return ""
}

// ErrNotTried is wrapped by the error of an attempt that was not made, since the target is known to be
// down. It says nothing about what was to be sent.
var ErrNotTried = errors.New("not tried")

// ErrEnding is wrapped by the error of a sink that has ended, and its process with it, as when the reader
// of the standard output is gone. What was to be sent is not stored for a later attempt, but stays in the
// queue: nobody may ever start such a process again.
var ErrEnding = errors.New("ended")

type permanent struct{ err error }

func (p *permanent) Error() string { return p.err.Error() }
func (p *permanent) Unwrap() error { return p.err }

type noEffectError struct{ err error }

func (n *noEffectError) Error() string { return n.err.Error() }
func (n *noEffectError) Unwrap() error { return n.err }

type doubtfulError struct{ err error }

func (d *doubtfulError) Error() string { return d.err.Error() }
func (d *doubtfulError) Unwrap() error { return d.err }

type keyRefusedError struct{ err error }

func (k *keyRefusedError) Error() string { return k.err.Error() }
func (k *keyRefusedError) Unwrap() error { return k.err }

type after struct {
	err   error
	delay time.Duration
}

func (a *after) Error() string { return a.err.Error() }
func (a *after) Unwrap() error { return a.err }

type hinted struct {
	err  error
	hint string
}

func (h *hinted) Error() string { return h.err.Error() }
func (h *hinted) Unwrap() error { return h.err }
