// Package target runs the targets of a chaos run, each in a process of its own, so that it can be killed, frozen and
// started again at the same address: a webhook, a NATS JetStream server and a Kafka broker. What a target accepted can
// be read from outside.
package target

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"sync"
	"time"

	"github.com/vodrelay/vodrelay/scripts/chaos/child"
)

// Role is the first argument of a process that is a target: a program that starts targets calls Main with what
// follows it.
const Role = "target"

// The kinds of targets.
const (
	Webhook = "webhook"
	NATS    = "nats"
	Kafka   = "kafka"
)

// Main is the target's process: args are the kind, a directory and the address to listen at. It returns the exit code.
func Main(args []string) int {
	if len(args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: target KIND DIRECTORY ADDRESS")
		return 2
	}
	dir, listen := args[1], args[2]
	err := fmt.Errorf("no target is of the kind %q", args[0])
	switch args[0] {
	case Webhook:
		err = serveWebhook(dir, listen)
	case NATS:
		err = serveNATS(dir, listen)
	case Kafka:
		err = serveKafka(listen)
	}
	fmt.Fprintln(os.Stderr, err)
	return 1
}

// ready tells the process that started this one where it listens.
func ready(address string) { fmt.Fprintf(os.Stderr, "listening at %s\n", address) }

var listening = regexp.MustCompile(`^listening at (.*)$`)

// Event is something that a target accepted.
type Event struct {
	At   time.Time
	ID   string // of the event, as the relay sent it
	Body []byte
}

// Target is a target, seen from outside.
type Target struct {
	kind, program, dir, log string

	mu      sync.Mutex
	process *child.Child
	address string
	frozen  bool
	changes []Change

	reading sync.Mutex
	journal journalReader
	stream  natsReader
	topic   kafkaReader
}

// Start runs a target of a kind in a process of program, which must call Main. Its files go to dir.
func Start(ctx context.Context, program, kind, dir string) (*Target, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	t := &Target{
		kind: kind, program: program, dir: dir, log: filepath.Join(dir, "log"), address: "127.0.0.1:0",
		journal: journalReader{path: filepath.Join(dir, journalFile)},
	}
	return t, t.Start(ctx)
}

// Start starts the process again after Kill, at the same address.
func (t *Target) Start(ctx context.Context) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.process != nil {
		return errors.New("the target runs already")
	}
	address := make(chan string, 1)
	process, err := child.Start(child.Command{
		Program: t.program, Args: []string{Role, t.kind, t.dir, t.address}, Dir: t.dir, Log: t.log,
		Lines: func(line string) {
			if found := listening.FindStringSubmatch(line); found != nil {
				address <- found[1]
			}
		},
	})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, readyTime)
	defer cancel()
	select {
	case t.address = <-address:
		t.process = process
		return nil
	case <-process.Ended():
		return fmt.Errorf("the target %s has ended: see %s", t.kind, t.log)
	case <-ctx.Done():
		process.Kill()
		return fmt.Errorf("the target %s does not start: %w: see %s", t.kind, ctx.Err(), t.log)
	}
}

// Addr is its address, the same after each start.
func (t *Target) Addr() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.address
}

// Kill ends it with SIGKILL. A Kafka broker forgets everything.
func (t *Target) Kill() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.process != nil {
		t.process.Kill()
		t.process, t.frozen = nil, false
	}
}

// Close ends it.
func (t *Target) Close() error { t.Kill(); return nil }

// Freeze stops it with SIGSTOP; Thaw ends that.
func (t *Target) Freeze() { t.freeze(true) }

// Thaw ends Freeze.
func (t *Target) Thaw() { t.freeze(false) }

func (t *Target) freeze(on bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case t.process == nil:
	case on:
		t.process.Freeze()
	default:
		t.process.Thaw()
	}
	t.frozen = on
}

// Behave changes how a webhook answers, from the next request on, also after a kill.
func (t *Target) Behave(b Behaviour) error {
	if t.kind != Webhook {
		return fmt.Errorf("only a webhook has a behaviour, not %s", t.kind)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := writeBehaviour(t.dir, b); err != nil {
		return err
	}
	t.changes = append(t.changes, Change{time.Now(), b})
	return nil
}

// Changes are the behaviours it was given.
func (t *Target) Changes() []Change {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Clone(t.changes)
}

// Next returns what the target accepted since the last call that succeeded. A webhook's can be read at any time; the
// brokers must run.
func (t *Target) Next(ctx context.Context) ([]Event, error) {
	t.reading.Lock()
	defer t.reading.Unlock()
	switch t.kind {
	case NATS:
		return t.stream.next(ctx, t.Addr())
	case Kafka:
		return t.topic.next(ctx, t.Addr())
	}
	entries, err := t.journal.next()
	var events []Event
	for _, e := range entries {
		if e.accepted() {
			events = append(events, Event{At: e.At, ID: e.ID, Body: e.Body})
		}
	}
	return events, err
}

func timeLeft(ctx context.Context) time.Duration {
	if end, ok := ctx.Deadline(); ok {
		return max(time.Until(end), time.Millisecond)
	}
	return readyTime
}
