// Package eventname is the rule for names that events decide: topics, subjects, exchanges and keys that an expression
// gives. Who uploads a file to VOD chooses what stands in its events, and must not reach by it what the broker keeps
// for itself, nor a connection that other events share.
package eventname

import (
	"context"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/vodrelay/vodrelay/pkg/event"
	"github.com/vodrelay/vodrelay/pkg/expression"
	"github.com/vodrelay/vodrelay/pkg/retry"
	"github.com/vodrelay/vodrelay/pkg/safetext"
)

// Rule is what a name has to keep to, beside being valid UTF-8 without anything that cannot be seen. The zero value
// of each field is no further rule.
type Rule struct {
	Key      string // of the configuration, such as topic_expression
	What     string // such as topic
	MaxBytes int
	// Reserved are the beginnings of names that are not the events' to use; By says whose they are, such as NATS.
	Reserved []string
	By       string
	MayLack  bool // the name may be empty
	Check    func(name string) error
}

// Of is the name that x gives for e. An error is the event's own fault, so permanent, unless ctx ended x.
func (r Rule) Of(ctx context.Context, x *expression.Expression, e event.Event) (string, error) {
	name, err := x.Text(ctx, e)
	if err != nil {
		return "", retry.WithHint(fmt.Errorf("%s: %w", r.Key, err), "correct "+r.Key)
	}
	if err := r.validate(name); err != nil {
		return "", retry.Permanent(retry.WithHint(fmt.Errorf("%s: %w", r.Key, err), r.hint()))
	}
	return name, nil
}

func (r Rule) hint() string {
	return fmt.Sprintf("let %s give a possible %s for every event, with a beginning of its own, as in \"vod.\" + type", r.Key, r.What)
}

func (r Rule) validate(name string) error {
	switch {
	case name == "" && r.MayLack:
		return nil
	case name == "":
		return fmt.Errorf("gives no %s", r.What)
	case r.MaxBytes > 0 && len(name) > r.MaxBytes:
		return fmt.Errorf("gives a %s of %d bytes: %d are possible", r.What, len(name), r.MaxBytes)
	case !utf8.ValidString(name) || strings.ContainsFunc(name, unseen):
		return fmt.Errorf("%s: has characters that cannot be seen, which an event may not put into a %s", quoted(name), r.What)
	}
	for _, beginning := range r.Reserved {
		if strings.HasPrefix(name, beginning) {
			return fmt.Errorf("%s: begins with %s, which %s keeps for itself", quoted(name), beginning, r.By)
		}
	}
	if r.Check != nil {
		return r.Check(name)
	}
	return nil
}

func unseen(r rune) bool { return !safetext.Visible(r) || r == utf8.RuneError }

func quoted(name string) string { return safetext.Quote(name, 300) }
