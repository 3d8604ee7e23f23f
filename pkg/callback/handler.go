package callback

import (
	"context"
	"errors"
	"io"
	"mime"
	"net/http"
	"os"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/vodrelay/vodrelay/pkg/event"
	"github.com/vodrelay/vodrelay/pkg/internal/httpserver"
	"github.com/vodrelay/vodrelay/pkg/safetext"
)

// refusal is an answer that is not 200, and its one line of text.
type refusal struct {
	status int
	text   string
}

func refuse(status int, text string) *refusal { return &refusal{status, text} }

// ServeHTTP answers a probe at Config.ProbePath, and one notification at Config.Path: 200 when it is settled, a status below 500 when it is
// none or nobody may post it, and otherwise as Config.Unsettled says.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if s.cfg.ProbePath != "" && r.URL.Path == s.cfg.ProbePath {
		s.probe(w, r)
		return
	}
	if !s.begin() {
		s.answer(w, r, refuse(http.StatusServiceUnavailable, "vodrelay is stopping"))
		return
	}
	defer s.requests.Done()
	ctx, cancel := context.WithTimeout(r.Context(), s.cfg.AnswerWithin)
	defer cancel()
	s.answer(w, r, s.receive(ctx, w, r))
}

// probe says whether notifications are taken. It is no request in Stats.
func (s *Server) probe(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Type", "text/plain; charset=utf-8")
	h.Set("X-Content-Type-Options", "nosniff")
	status, text := http.StatusOK, "ok"
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		h.Set("Allow", "GET, HEAD")
		status, text = http.StatusMethodNotAllowed, "GET this path to ask whether notifications are taken"
	} else if s.isEnding() {
		status, text = http.StatusServiceUnavailable, "vodrelay is stopping"
	} else if _, err := s.keys.keys(); err != nil {
		status, text = http.StatusServiceUnavailable, "the key for signatures cannot be read"
	}
	w.WriteHeader(status)
	_, _ = io.WriteString(w, text+"\n") // a probe that went away needs no answer
}

func (s *Server) isEnding() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ending
}

func (s *Server) answer(w http.ResponseWriter, r *http.Request, refused *refusal) {
	s.stats.requests.Add(1)
	h := w.Header()
	h.Set("Content-Type", "text/plain; charset=utf-8")
	h.Set("X-Content-Type-Options", "nosniff")
	if refused == nil {
		s.stats.accepted.Add(1)
		_, _ = io.WriteString(w, "accepted\n") // a client that went away needs no answer
		return
	}
	fields := []zap.Field{zap.Int("status", refused.status), zap.String("reason", refused.text), zap.String("from", r.RemoteAddr)}
	switch {
	case refused.status == http.StatusUnauthorized:
		s.stats.unsigned.Add(1)
		s.log.Error("callback: a notification was refused: "+refused.text, fields...)
	case refused.status < http.StatusInternalServerError:
		s.stats.refused.Add(1)
		s.log.Warn("callback: a request was refused", fields...)
	default:
		s.stats.unsettled.Add(1)
		s.log.Warn("callback: a notification was not accepted", fields...)
		if s.cfg.Unsettled == UnsettledSilence {
			s.keepSilent(r)
		}
		h.Set("Retry-After", "5")
	}
	if refused.status != http.StatusServiceUnavailable {
		h.Set("Connection", "close") // nothing more is read from whoever sent it
	}
	w.WriteHeader(refused.status)
	_, _ = io.WriteString(w, refused.text+"\n")
}

// keepSilent ends the connection without an answer after VOD has given up on it.
func (s *Server) keepSilent(r *http.Request) {
	timer := time.NewTimer(s.limit.silence)
	defer timer.Stop()
	select {
	case <-r.Context().Done():
	case <-timer.C:
	case <-s.stopping:
	}
	panic(http.ErrAbortHandler)
}

// receive returns nil when the notification is settled.
func (s *Server) receive(ctx context.Context, w http.ResponseWriter, r *http.Request) *refusal {
	received := time.Now()
	if refused := s.check(r); refused != nil {
		if refused.status == http.StatusMethodNotAllowed {
			w.Header().Set("Allow", http.MethodPost)
		}
		return refused
	}
	release, refused := s.reserve(ctx, r)
	if refused != nil {
		return refused
	}
	body, refused := s.read(ctx, w, r)
	if refused != nil {
		release()
		return refused
	}
	e, refused := s.decode(body, received)
	if refused != nil {
		release()
		return refused
	}
	defer httpserver.Keep(ctx)() // from here on it is known to be VOD's
	return s.settle(ctx, e, received, release)
}

// check looks at all but the body.
func (s *Server) check(r *http.Request) *refusal {
	switch {
	case r.URL.Path != s.cfg.Path:
		return refuse(http.StatusNotFound, "this path receives nothing: VOD's callback belongs to callback.path")
	case !s.allowed(r):
		return refuse(http.StatusForbidden, "this address may not post: see callback.allow and callback.trusted_proxies")
	case r.Method != http.MethodPost:
		return refuse(http.StatusMethodNotAllowed, "only POST is received here")
	case r.Header.Get("Content-Encoding") != "" && !strings.EqualFold(r.Header.Get("Content-Encoding"), "identity"):
		return refuse(http.StatusUnsupportedMediaType, "the body must not be compressed")
	case !isJSON(r.Header.Get("Content-Type")):
		return refuse(http.StatusUnsupportedMediaType, "the body must be JSON in UTF-8")
	case r.ContentLength > s.cfg.MaxBody:
		return refuse(http.StatusRequestEntityTooLarge, "the body is larger than callback.max_body")
	}
	return nil
}

// isJSON is lenient, since VOD documents no Content-Type: the defaults of HTTP libraries count as JSON.
func isJSON(contentType string) bool {
	if contentType == "" {
		return true
	}
	media, params, err := mime.ParseMediaType(contentType)
	if err != nil {
		return false
	}
	if charset := params["charset"]; charset != "" && !strings.EqualFold(charset, "utf-8") && !strings.EqualFold(charset, "utf8") && !strings.EqualFold(charset, "us-ascii") {
		return false
	}
	switch media {
	case "application/json", "text/json", "text/plain", "application/octet-stream", "application/x-www-form-urlencoded":
		return true
	}
	return strings.HasSuffix(media, "+json")
}

// allowed asks for the address of the client: the connection's, or before trusted proxies the last one in
// X-Forwarded-For that is none of them. What stands before that one anybody can have written.
func (s *Server) allowed(r *http.Request) bool {
	if len(s.allow) == 0 {
		return true
	}
	hops := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	client, ok := httpserver.Addr(r.RemoteAddr)
	for i := len(hops) - 1; ok && i >= 0 && s.proxies.Contain(client); i-- {
		if strings.TrimSpace(hops[i]) == "" {
			break
		}
		client, ok = httpserver.Addr(hops[i])
	}
	return ok && s.allow.Contain(client)
}

// reserve takes memory for a large body, until release.
func (s *Server) reserve(ctx context.Context, r *http.Request) (release func(), _ *refusal) {
	size := r.ContentLength
	if size < 0 { // it is not said
		size = s.cfg.MaxBody
	}
	if size <= smallBody {
		return func() {}, nil
	}
	if s.memory.Acquire(ctx, size) != nil {
		return nil, refuse(http.StatusServiceUnavailable, "too many large notifications at a time")
	}
	return func() { s.memory.Release(size) }, nil
}

func (s *Server) read(ctx context.Context, w http.ResponseWriter, r *http.Request) ([]byte, *refusal) {
	if deadline, ok := ctx.Deadline(); ok {
		_ = http.NewResponseController(w).SetReadDeadline(deadline) // a server without it has its own
	}
	body := make([]byte, 0, max(min(r.ContentLength, smallBody), 512))
	limited := http.MaxBytesReader(w, r.Body, s.cfg.MaxBody)
	for {
		n, err := limited.Read(body[len(body):cap(body)])
		body = body[:len(body)+n]
		var tooLarge *http.MaxBytesError
		switch {
		case errors.Is(err, io.EOF):
			return body, nil
		case errors.As(err, &tooLarge):
			return nil, refuse(http.StatusRequestEntityTooLarge, "the body is larger than callback.max_body")
		case errors.Is(err, os.ErrDeadlineExceeded):
			return nil, refuse(http.StatusRequestTimeout, "the body did not arrive in time")
		case err != nil:
			return nil, refuse(http.StatusBadRequest, "the body ended early")
		}
		if len(body) == cap(body) {
			body = append(body, 0)[:len(body)]
		}
	}
}

// decode makes an event of a body that is signed as it must be.
func (s *Server) decode(body []byte, now time.Time) (event.Event, *refusal) {
	m, err := parse(body)
	if err != nil {
		return event.Event{}, refuse(http.StatusBadRequest, safetext.Line(err.Error(), longest))
	}
	keys, err := s.keys.keys()
	if err != nil {
		s.log.Error("callback: notifications are not accepted: "+err.Error(), errorFields(err)...)
		return event.Event{}, refuse(http.StatusServiceUnavailable, "the key for signatures cannot be read: see vodrelay's log")
	}
	if len(keys) > 0 {
		if err := verify(keys, m.signatures, now); err != nil {
			return event.Event{}, refuse(http.StatusUnauthorized, err.Error())
		}
	}
	content := m.content
	switch {
	case m.eventType != "":
	case m.legacy != nil && s.cfg.Legacy:
		if content, err = m.legacy.content(); err != nil {
			return event.Event{}, refuse(http.StatusBadRequest, "the v2.0 notification cannot be translated: "+safetext.Line(err.Error(), longest))
		}
	case m.legacy != nil:
		return event.Event{}, refuse(http.StatusBadRequest, "this is a notification in the v2.0 format: set callback.legacy to accept those")
	}
	// One without EventType has the type of its payload, or unknown, as when it is pulled; VOD's documentation has such.
	e, _, _ := event.Decode(content, s.cfg.SubAppID) // the event is good in any case
	return e, nil
}

// errFull is the result of an event that found no place in time.
var errFull = errors.New("too many notifications at a time")

// settle has the event worked on, together with every other attempt at the same one.
func (s *Server) settle(ctx context.Context, e event.Event, received time.Time, release func()) *refusal {
	entry, how := s.hand.take(event.Delivery{Event: e, ReceivedAt: received, Deadline: received.Add(workTime)})
	switch how {
	case remembered:
		release()
		s.stats.remembered.Add(1)
		if ctx.Err() == nil {
			s.hand.told(e.ID)
		}
		return nil
	case joined:
		release()
		s.stats.joined.Add(1)
	case fresh:
		if s.room.Acquire(ctx, 1) != nil {
			release()
			s.hand.finish(entry, errFull)
			break
		}
		s.workers.Go(func() {
			defer release()
			defer s.room.Release(1)
			s.work(entry)
		})
	}
	switch {
	case !s.hand.await(ctx, entry):
		return refuse(http.StatusServiceUnavailable, "the notification is not settled yet")
	case errors.Is(entry.err, errFull):
		return refuse(http.StatusServiceUnavailable, entry.err.Error())
	case entry.err != nil:
		return refuse(http.StatusServiceUnavailable, "the notification could not be settled: see vodrelay's log")
	}
	return nil
}

// longest is how much of an error's text, which may quote the body, an answer holds, in bytes.
const longest = 200
