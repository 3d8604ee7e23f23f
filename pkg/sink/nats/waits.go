package nats

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"sync"

	"github.com/nats-io/nats.go"
)

// waits are the requests that wait for an answer. A server tells that a user may not publish to a subject
// beside the request, which gets no answer at all.
type waits struct {
	mu  sync.Mutex
	all map[*wait]struct{}
}

type wait struct {
	subject string // "" for the requests to JetStream itself
	end     context.CancelCauseFunc
}

// deniedError is a subject that the user may not use.
type deniedError struct{ subject string }

func (d *deniedError) Error() string {
	return fmt.Sprintf("the user may not use the subject %q", d.subject)
}

// begin returns a context that ends with a *deniedError as its cause if subject is denied. end must be
// called.
func (w *waits) begin(ctx context.Context, subject string) (_ context.Context, end func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	mine := &wait{subject, cancel}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.all == nil {
		w.all = make(map[*wait]struct{})
	}
	w.all[mine] = struct{}{}
	return ctx, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		delete(w.all, mine)
		cancel(nil)
	}
}

// deny ends the requests that will get no answer since the user may not use subject: those to it, and all
// if it is that of the answers.
func (w *waits) deny(subject, inboxPrefix string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for one := range w.all {
		toJetStream := one.subject == "" && strings.HasPrefix(subject, "$JS.")
		if one.subject == subject || toJetStream || strings.HasPrefix(subject, inboxPrefix+".") {
			one.end(&deniedError{subject})
		}
	}
}

var violation = regexp.MustCompile(`(?i)permissions violation for (?:publish|subscription) to "([^"]+)"`)

// deniedSubject reads what the server says in words only.
func deniedSubject(err error) (string, bool) {
	if !errors.Is(err, nats.ErrPermissionViolation) {
		return "", false
	}
	if match := violation.FindStringSubmatch(err.Error()); match != nil {
		return match[1], true
	}
	return "", false
}
