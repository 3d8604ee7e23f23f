package emulator

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"
)

// ActionPush names the posts of PUSH mode in a Fault. It is no action of the API.
const ActionPush = "Push"

// Why a post did not count as accepted: the codes of journal entries.
const (
	codePushTimeout    = "timeout"
	codePushConnection = "connection"
	codePushStatus     = "status"
	codePushURL        = "url"
	codePushFault      = "fault"
)

// poster is what posts go out by.
type poster struct {
	client *http.Client
	ctx    context.Context //nolint:containedctx // of all posts, ended by Close
	cancel context.CancelFunc
}

func newPoster(opts *Options) *poster {
	transport := &http.Transport{DialContext: opts.PushDial, MaxIdleConnsPerHost: opts.PushConcurrency}
	p := &poster{client: &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	return p
}

// push starts posting what waits for it, unless enough posts are under way.
func (s *Server) push() {
	q := s.queues
	q.mu.Lock()
	starts := min(q.pushes.len, s.opts.PushConcurrency-q.posters)
	q.posters += max(starts, 0)
	q.mu.Unlock()
	for range starts {
		if !s.enter() {
			return
		}
		go func() {
			defer s.running.Done()
			for {
				m := q.nextPush(s.poster.client.CloseIdleConnections) // an idle server has none
				if m == nil {
					return
				}
				s.deliver(m)
			}
		}()
	}
}

// deliver posts an event until it is acknowledged, or PushTries times.
func (s *Server) deliver(m *message) {
	for try := 1; ; try++ {
		p, ok := s.queues.beginPush(m, try)
		if !ok { // reset
			return
		}
		status, code := s.post(p)
		if s.poster.ctx.Err() != nil {
			return
		}
		if s.queues.endPush(m, try, status, code) {
			return
		}
		if !s.sleep(s.poster.ctx, s.opts.PushPause) {
			return
		}
	}
}

// pushed is one post.
type pushed struct {
	url, key string
	subAppID uint64
	content  []byte
}

// post makes one attempt. code is "" when it counts as accepted.
func (s *Server) post(p pushed) (status int, code string) {
	fault, release := s.faults.take(ActionPush, p.subAppID)
	ctx := s.poster.ctx
	switch fault.Kind {
	case FaultReset:
		return 0, codePushFault
	case FaultLatency:
		s.sleep(ctx, fault.Delay)
	case FaultHang:
		s.wait(ctx, fault.Delay, release)
	default: // the others come later
	}
	expires := s.clock().Add(signLife)
	if fault.Kind == FaultClockSkew {
		expires = expires.Add(fault.Delay)
	}
	body := p.content
	if p.key != "" {
		body = s.opts.Variants.sign(body, p.key, expires)
	}
	copies := 1
	if fault.Kind == FaultDuplicate {
		copies = 2
	}
	for range copies {
		status, code = s.postBody(ctx, p.url, body, fault.Kind == FaultTruncate)
	}
	switch {
	case fault.Kind == FaultLoseReply:
		return 0, codePushFault
	case code == "" && s.opts.Variants.PushAcknowledge == AcknowledgeSuccess && (status < 200 || status > 299):
		return status, codePushStatus
	}
	return status, code
}

func (s *Server) postBody(ctx context.Context, target string, body []byte, truncate bool) (status int, code string) {
	ctx, cancel := context.WithTimeout(ctx, s.opts.PushTimeout)
	defer cancel()
	var content io.Reader = bytes.NewReader(body)
	if truncate {
		content = io.MultiReader(bytes.NewReader(body[:len(body)/2]), brokenReader{})
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, target, content)
	if err != nil {
		return 0, codePushURL
	}
	r.ContentLength = int64(len(body))
	r.Header.Set("Content-Type", jsonType)
	resp, err := s.poster.client.Do(r)
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return 0, codePushTimeout
	case err != nil:
		return 0, codePushConnection
	}
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 1<<16)) // the body is ignored
	_ = resp.Body.Close()
	return resp.StatusCode, ""
}

type brokenReader struct{}

func (brokenReader) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

// checkURL refuses an address that nothing can be posted to. "" is none.
func checkURL(text string) error {
	u, err := url.Parse(text)
	if text == "" || err == nil && u.Host != "" && oneOf(u.Scheme, "http", "https") {
		return nil
	}
	return errors.New("this is not an address to post to, write http://host:port/path")
}

// SetNotification changes where an application's events are posted in PUSH mode, and the key that signs
// them; an empty key means no signature. It does not change the mode.
func (s *Server) SetNotification(subAppID uint64, notificationURL, signKey string) error {
	if err := checkURL(notificationURL); err != nil {
		return fmt.Errorf("url: %w", err)
	}
	if !validSignKey(signKey) {
		return errors.New("sign_key: write at most 32 letters and digits")
	}
	app, apiErr := s.queues.application(subAppID)
	if apiErr != nil {
		return fmt.Errorf("notification: %w", apiErr)
	}
	s.queues.mu.Lock()
	defer s.queues.mu.Unlock()
	app.config.notificationURL, app.config.signKey = notificationURL, signKey
	return nil
}

// The parts of the queues that only posts need.

// pushing reports whether the application's events are posted now, rather than queued.
func (c *eventConfig) pushing(now time.Time) bool {
	return c.modeAt(now) == ModePush && c.notificationURL != ""
}

// nextPush takes an event to post. With none the poster ends, and the last one calls idle: no post is under way
// then. One whose answer has just arrived would find its connection closed, and be taken for unanswered.
func (q *queues) nextPush(idle func()) *message {
	q.mu.Lock()
	defer q.mu.Unlock()
	m := q.pushes.head
	if m == nil {
		if q.posters--; q.posters == 0 {
			idle()
		}
		return nil
	}
	q.pushes.remove(m)
	return m
}

func (q *queues) beginPush(m *message, try int) (pushed, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if m.place == placeGone {
		return pushed{}, false
	}
	m.app.counts.Pushed++
	q.notePush(KindPushed, m, try, 0, "")
	content := m.tail
	if !m.raw {
		content = append([]byte{'{'}, content...)
	}
	return pushed{m.app.config.notificationURL, m.app.config.signKey, m.app.id, content}, true
}

// endPush notes what became of a post, and reports whether it was the last one.
func (q *queues) endPush(m *message, try, status int, code string) (last bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if m.place == placeGone {
		return true
	}
	kind := KindUnanswered
	switch {
	case code == "":
		kind = KindAcknowledged
		m.app.counts.Acknowledged++
	case try >= q.opts.PushTries:
		kind = KindGivenUp
		m.app.counts.GivenUp++
	}
	q.notePush(kind, m, try, status, code)
	if kind == KindUnanswered {
		return false
	}
	m.app.counts.Pushing--
	q.drop(m)
	return true
}

func (q *queues) notePush(kind Kind, m *message, try, status int, code string) {
	q.journal.add(Entry{Time: time.Now(), Kind: kind, SubAppID: m.app.id, Event: m.number, Try: try, Status: status, Code: code})
}
