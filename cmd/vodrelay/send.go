package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	pacing "golang.org/x/time/rate"

	"github.com/vodrelay/vodrelay/pkg/app"
	"github.com/vodrelay/vodrelay/pkg/callback"
	"github.com/vodrelay/vodrelay/pkg/config"
	"github.com/vodrelay/vodrelay/pkg/event"
	"github.com/vodrelay/vodrelay/pkg/redact"
	"github.com/vodrelay/vodrelay/pkg/retry"
	"github.com/vodrelay/vodrelay/pkg/safetext"
)

// signKeyVariable is also where a configuration takes the receiver's key from.
const signKeyVariable = "VODRELAY_CALLBACK_SIGN_KEY"

// longestNotification is the longest line that send reads, in bytes.
const longestNotification = 16 << 20

func newSend(p *program) *cobra.Command {
	var out outputFormat
	var keyFile string
	s := &sender{sum: sendSummary{Answers: map[string]int64{}}}
	cmd := &cobra.Command{
		Use:   "send FILE --to URL",
		Short: "Post notifications to a URL as VOD's normal callback would",
		Long: `Post the notifications of a file of JSON lines to a URL, as VOD's normal callback
would, to test a receiver: vodrelay's own or yours. FILE - reads standard input.

A post that is not answered with a status from 200 to 299 is repeated, 3 times in
all, and each waits 5 s. VOD's documentation says that it repeats a post only when
no answer came in time; so do not count on more than one for any other answer.

With a key from --sign-key-file or $` + signKeyVariable + ` each post carries Sign
and T. A line's EventHandle is left out.

Exit codes: 0 all were accepted, 1 some were not`,
		Args: arguments(1, "FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := s.validate(); err != nil {
				return &exitError{exitUsage, err}
			}
			var err error
			if s.key, err = p.signKey(keyFile); err != nil {
				return &exitError{exitUsage, err}
			}
			in := p.stdin
			if args[0] != "-" {
				file, err := os.Open(args[0])
				if err != nil {
					return &exitError{exitUsage, err}
				}
				defer func() { _ = file.Close() }() // only read
				in = file
			}
			log, err := app.NewLogger(config.Log{Level: "info", Format: "auto"}, p.stderr)
			if err != nil {
				return err
			}
			defer func() { _ = log.Sync() }() // nobody is left to be told
			ctx, unwatch := untilSignal(cmd.Context(), log.Logger, func(context.Context) {})
			defer unwatch()
			s.said = log
			failed := s.run(ctx, in)
			if err := out.write(p.stdout, s.sum, func(w io.Writer) { s.sum.print(w) }); err != nil {
				return err
			}
			return failed
		},
	}
	out.addFlag(cmd)
	flags := cmd.Flags()
	flags.StringVar(&s.url, "to", "", "address to post to, such as https://example.com/vod")
	flags.StringVar(&keyFile, "sign-key-file", "", "path of a file with the SignKey that signs each post")
	flags.IntVar(&s.tries, "tries", 3, "most posts of each notification")
	flags.DurationVar(&s.timeout, "timeout", 5*time.Second, "longest wait for an answer")
	flags.DurationVar(&s.pause, "pause", 0, "wait before a repeated post")
	flags.IntVar(&s.concurrency, "concurrency", 8, "most posts at a time")
	flags.Float64Var(&s.perSecond, "rate", 0, "most notifications per second; 0: no limit")
	return cmd
}

// signKey is the key to sign with, "" for none.
func (p *program) signKey(path string) (string, error) {
	if path == "" {
		for _, v := range p.environ {
			if name, value, _ := strings.Cut(v, "="); name == signKeyVariable {
				return value, nil
			}
		}
		return "", nil
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("--sign-key-file: %w", err)
	}
	key := strings.TrimSpace(string(text))
	if key == "" {
		return "", fmt.Errorf("--sign-key-file: %s is empty", path)
	}
	return key, nil
}

// sender posts notifications.
type sender struct {
	url, key       string
	tries          int
	timeout, pause time.Duration
	concurrency    int
	perSecond      float64
	said           io.Writer // what a person is to know

	client     *http.Client
	mu         sync.Mutex
	sum        sendSummary
	complaints int
}

// complain tells of a line that was not accepted, unless many have been told of.
func (s *sender) complain(line numbered, reason string) {
	const most = 20
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.complaints++; s.complaints <= most {
		sayTo(s.said, "line %d: %s", line.number, reason)
	}
}

// sendSummary is what became of the notifications.
type sendSummary struct {
	Notifications int64            `json:"notifications"`
	Accepted      int64            `json:"accepted"`
	Failed        int64            `json:"failed"`  // not accepted after all posts
	Invalid       int64            `json:"invalid"` // lines that are no JSON object, which were not posted
	Posts         int64            `json:"posts"`
	Answers       map[string]int64 `json:"answers"` // posts by status, or "timeout" or "connection"
	Seconds       float64          `json:"seconds"`
	PerSecond     float64          `json:"per_second"` // accepted
	MeanMillis    float64          `json:"mean_ms"`    // of the answers
	MaxMillis     float64          `json:"max_ms"`

	answered time.Duration
	answers  int64
}

func (s *sender) validate() error {
	target, err := url.Parse(s.url)
	switch {
	case err != nil || target.Host == "" || (target.Scheme != "http" && target.Scheme != "https"):
		return fmt.Errorf("--to: %q: write https://host/path or http://host:port/path", redact.Address(s.url))
	case s.tries < 1:
		return fmt.Errorf("--tries: %d: must be 1 or more", s.tries)
	case s.concurrency < 1 || s.concurrency > 10_000:
		return fmt.Errorf("--concurrency: %d: must be from 1 to 10000", s.concurrency)
	case s.timeout <= 0 || s.pause < 0 || s.perSecond < 0:
		return errors.New("--timeout must be more than 0, --pause and --rate not negative")
	}
	return nil
}

// run posts every line of in. The error says that some were not accepted.
func (s *sender) run(ctx context.Context, in io.Reader) error {
	transport := &http.Transport{Proxy: http.ProxyFromEnvironment, MaxIdleConnsPerHost: s.concurrency}
	defer transport.CloseIdleConnections()
	s.client = &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	limit := pacing.Inf
	if s.perSecond > 0 {
		limit = pacing.Limit(s.perSecond)
	}
	pace := pacing.NewLimiter(limit, 1)
	began := time.Now()
	lines := make(chan numbered)
	var senders sync.WaitGroup
	for range s.concurrency {
		senders.Go(func() {
			for line := range lines {
				s.send(ctx, line)
			}
		})
	}
	reading := read(in, func(line numbered) bool {
		if pace.Wait(ctx) != nil {
			return false
		}
		select {
		case lines <- line:
			return true
		case <-ctx.Done():
			return false
		}
	})
	close(lines)
	senders.Wait()
	s.sum.finish(time.Since(began))
	switch {
	case ctx.Err() != nil:
		return errStopped
	case reading != nil:
		return reading
	case s.sum.Failed+s.sum.Invalid > 0:
		return fmt.Errorf("%d of %s not accepted, %s not valid", s.sum.Failed,
			safetext.Count(s.sum.Notifications, "notification was", "notifications were"), safetext.Count(s.sum.Invalid, "line was", "lines were"))
	}
	return nil
}

// numbered is a line of the input.
type numbered struct {
	number int
	text   []byte
}

// read hands on every line that is not empty, until next says no more.
func read(in io.Reader, next func(numbered) bool) error {
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, longestNotification)
	for n := 1; lines.Scan(); n++ {
		text := bytes.TrimSpace(lines.Bytes())
		if len(text) > 0 && !next(numbered{n, bytes.Clone(text)}) {
			return nil
		}
	}
	if errors.Is(lines.Err(), bufio.ErrTooLong) {
		return fmt.Errorf("a line is longer than %d bytes: write one notification per line", longestNotification)
	}
	return lines.Err()
}

// send posts one notification until it is accepted or its posts are used up.
func (s *sender) send(ctx context.Context, line numbered) {
	body := line.text
	if e, handle, _ := event.Decode(body, 0); handle != "" {
		body = e.Raw
	}
	if !json.Valid(body) || body[0] != '{' {
		s.count(func(sum *sendSummary) { sum.Invalid++ })
		s.complain(line, "is not a JSON object")
		return
	}
	s.count(func(sum *sendSummary) { sum.Notifications++ })
	var answer string
	for try := 1; try <= s.tries && ctx.Err() == nil; try++ {
		if try > 1 && retry.Sleep(ctx, s.pause) != nil {
			break
		}
		var accepted bool
		if answer, accepted = s.post(ctx, body); accepted {
			s.count(func(sum *sendSummary) { sum.Accepted++ })
			return
		}
	}
	s.count(func(sum *sendSummary) { sum.Failed++ })
	if ctx.Err() == nil {
		s.complain(line, "not accepted: "+answer)
	}
}

// post makes one attempt. answer is the status, or why there is none.
func (s *sender) post(ctx context.Context, body []byte) (answer string, accepted bool) {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	if s.key != "" {
		signed, err := callback.Sign(body, s.key, time.Now().Add(callback.SignLife))
		if err != nil {
			return err.Error(), false
		}
		body = signed
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url, bytes.NewReader(body))
	if err != nil {
		return err.Error(), false
	}
	r.Header.Set("Content-Type", "application/json")
	began := time.Now()
	resp, err := s.client.Do(r)
	var reason string
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		answer = "timeout"
	case err != nil:
		answer = "connection"
		var failed *url.Error
		if errors.As(err, &failed) { // without the address, which may hold a password
			reason = failed.Err.Error()
		}
	default:
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<10)) // it only explains
		_ = resp.Body.Close()
		answer, accepted = strconv.Itoa(resp.StatusCode), resp.StatusCode >= 200 && resp.StatusCode <= 299
		reason = strings.TrimSpace(string(text))
	}
	took := time.Since(began)
	s.count(func(sum *sendSummary) {
		sum.Posts++
		sum.Answers[answer]++
		if err == nil {
			sum.answers++
			sum.answered += took
			sum.MaxMillis = max(sum.MaxMillis, millis(took))
		}
	})
	if reason != "" {
		answer += ": " + cell(reason)
	}
	return answer, accepted
}

func (s *sender) count(f func(*sendSummary)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f(&s.sum)
}

func millis(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

func (s *sendSummary) finish(took time.Duration) {
	s.Seconds = took.Seconds()
	s.PerSecond = float64(s.Accepted) / max(took.Seconds(), 1e-9)
	if s.answers > 0 {
		s.MeanMillis = millis(s.answered / time.Duration(s.answers))
	}
}

func (s *sendSummary) print(w io.Writer) {
	table := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	fmt.Fprintf(table, "notifications:\t%d\naccepted:\t%d\nnot accepted:\t%d\n", s.Notifications, s.Accepted, s.Failed)
	if s.Invalid > 0 {
		fmt.Fprintf(table, "invalid lines:\t%d\n", s.Invalid)
	}
	fmt.Fprintf(table, "posts:\t%d\n", s.Posts)
	for _, answer := range slices.Sorted(maps.Keys(s.Answers)) {
		fmt.Fprintf(table, "  %s:\t%d\n", answer, s.Answers[answer])
	}
	fmt.Fprintf(table, "time:\t%.1fs, %.0f accepted per second\nanswers took:\t%.1fms on average, %.1fms at most\n", s.Seconds, s.PerSecond, s.MeanMillis, s.MaxMillis)
	_ = table.Flush() // as every write to a terminal
}
