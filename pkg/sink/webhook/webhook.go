// Package webhook is the sink that sends each event to an HTTP endpoint. An answer of 2xx accepts the event;
// 400, 410, 413, 414, 415 and 422 refuse it permanently. Every other answer, redirects included, is trouble of the
// endpoint or its operator, as is trouble on the network: the event is sent again until that is over. Redirects are not
// followed. A name is looked up again within conns.MaxAge, however busy the connections are.
//
// Each request has the event's DedupID in Idempotency-Key and webhook-id, so that a receiver
// can tell an event that is sent again.
package webhook

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/vodrelay/vodrelay/pkg/event"
	"github.com/vodrelay/vodrelay/pkg/internal/conns"
	"github.com/vodrelay/vodrelay/pkg/internal/secretfile"
	"github.com/vodrelay/vodrelay/pkg/redact"
	"github.com/vodrelay/vodrelay/pkg/retry"
	"github.com/vodrelay/vodrelay/pkg/safetext"
	"github.com/vodrelay/vodrelay/pkg/sink/internal/ceheader"
	"github.com/vodrelay/vodrelay/pkg/sink/internal/renew"
	"github.com/vodrelay/vodrelay/pkg/sink/internal/tlsconf"
)

const (
	// A body is read for the sake of the connection, which can be used again when it has ended. A longer or
	// slower one costs the connection.
	maxBody   = 64 << 10
	drainTime = time.Second

	excerptBytes = 256 // of a refusal's body go into the log, at debug
)

// Sink sends events to one endpoint, over connections of its own.
type Sink struct {
	method string
	target string // without user and fragment
	origin string // all of the URL that is shown
	format event.Format
	header http.Header // what is the same for all events
	host   string      // of the header Host, "" for that of target
	files  map[string]*secretfile.File
	secret func() (string, error) // nil: no signature
	conns  *conns.HTTP
	proxy  func(*http.Request) (*url.URL, error) // nil: none
	watch  renew.Watch
	log    *zap.Logger
	closed atomic.Bool
	paged  atomic.Bool // that a web page accepts the events was logged

	// What options say.
	extensions []event.Attribute
	bearer     func() (string, error) // nil: none
	roots      *x509.CertPool         // nil: the system's
}

// New makes the sink. It reads the files but does not connect.
func New(cfg Config, log *zap.Logger, options ...Option) (*Sink, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	target, err := parseURL(cfg.URL)
	if err != nil {
		return nil, err
	}
	transport, err := newTransport(cfg)
	if err != nil {
		return nil, err
	}
	if cfg.TLS.InsecureSkipVerify {
		log.Warn(tlsconf.InsecureWarning)
	}
	s := &Sink{
		method: cfg.Method,
		origin: target.Scheme + "://" + target.Host,
		format: cfg.Format,
		header: http.Header{"User-Agent": {"vodrelay"}},
		files:  make(map[string]*secretfile.File),
		log:    log,
	}
	for name, value := range cfg.Headers {
		if http.CanonicalHeaderKey(name) == "Host" {
			s.host = value
			continue
		}
		s.header.Set(name, value)
	}
	for name, path := range cfg.HeadersFile {
		s.files[http.CanonicalHeaderKey(name)] = secretfile.New("headers_file", path)
	}
	switch {
	case cfg.Secret != "":
		s.secret = func() (string, error) { return cfg.Secret, nil }
	case cfg.SecretFile != "":
		s.secret = secretfile.New("secret_file", cfg.SecretFile).Get
	}
	s.address(target)
	for _, option := range options {
		option(s)
	}
	if s.roots != nil && transport.TLSClientConfig.RootCAs == nil {
		transport.TLSClientConfig.RootCAs = s.roots
	}
	s.conns, s.proxy = conns.NewHTTP(transport), transport.Proxy
	return s, nil
}

// address takes the user out of target, so that nothing that prints the URL can show the password.
func (s *Sink) address(target *url.URL) {
	if user := target.User; user != nil {
		password, _ := user.Password()
		basic := http.Request{Header: s.header}
		basic.SetBasicAuth(user.Username(), password)
	}
	bare := *target
	bare.User, bare.Fragment, bare.RawFragment = nil, "", ""
	s.target = bare.String()
}

// Send returns nil when the endpoint has answered with 2xx.
func (s *Sink) Send(ctx context.Context, e event.Event) error {
	message, err := s.format.Encode(e)
	if err != nil {
		return retry.Permanent(retry.WithHint(err, "the event cannot be written as JSON; look at it as a dead letter"))
	}
	message = s.extend(message)
	req, cancel, err := s.request(ctx, s.method, message.Body)
	if err != nil {
		return err
	}
	defer cancel()
	if req.Header.Get("Content-Type") == "" {
		req.Header.Set("Content-Type", message.ContentType)
	}
	for _, attribute := range message.Attributes {
		req.Header.Set("ce-"+attribute.Name, ceheader.Escape(attribute.Value))
	}
	id := ceheader.Escape(e.DedupID())
	// net/http takes this header as leave to send a request again by itself when an idle connection turns
	// out to be closed.
	req.Header.Set("Idempotency-Key", id)
	req.Header.Set(standardwebhooks.HeaderWebhookID, id)
	if s.secret != nil {
		secrets, err := s.secret()
		if err != nil {
			return err
		}
		if err := sign(req.Header, secrets, id, message.Body, time.Now()); err != nil {
			return retry.WithHint(fmt.Errorf("secret_file: the secret %w", err), "put a good secret into the file")
		}
	}
	res, body, err := s.exchange(ctx, req, cancel) //nolint:bodyclose // exchange reads and closes it
	if err == nil {
		if err = s.judge(res, body, time.Now()); err != nil {
			s.logRefusal(req, res.StatusCode, e.ID, body)
		} else {
			s.warnOfPage(res)
		}
	}
	if s.watch.Lasts(err) {
		s.conns.Renew()
	}
	return err
}

// request makes a request with the configured headers. cancel ends it and must be called.
func (s *Sink) request(ctx context.Context, method string, body []byte) (*http.Request, context.CancelFunc, error) {
	if s.closed.Load() {
		return nil, nil, errors.New("the sink is closed")
	}
	header := s.header.Clone()
	for name, file := range s.files {
		value, err := file.Get()
		if err == nil {
			err = checkHeaderValue(value)
		}
		if err != nil {
			return nil, nil, err
		}
		header.Set(name, value)
	}
	if s.bearer != nil {
		token, err := s.bearer()
		if err == nil {
			err = checkHeaderValue(token)
		}
		if err != nil {
			return nil, nil, err
		}
		header.Set("Authorization", "Bearer "+token)
	}
	ctx, cancel := context.WithCancel(ctx)
	req, err := http.NewRequestWithContext(ctx, method, s.target, bytes.NewReader(body))
	if err != nil {
		cancel()
		return nil, nil, fmt.Errorf("%s: cannot make a request", s.origin) // err would show the URL
	}
	req.Header, req.Host = header, s.host
	return req, cancel, nil
}

// exchange sends req and reads as much of the answer's body as is worth it. The status counts, whatever
// becomes of the body.
func (s *Sink) exchange(ctx context.Context, req *http.Request, cancel context.CancelFunc) (*http.Response, []byte, error) {
	// Not http.Client: it would follow redirects, and put the URL into errors.
	res, err := s.conns.RoundTrip(req)
	if err != nil {
		s.log.Debug("exchange failed", zap.String("endpoint", s.origin), zap.Error(err))
		return nil, nil, describe(ctx, s.origin, s.proxyOf(req), err)
	}
	timer := time.AfterFunc(drainTime, cancel)
	defer timer.Stop()
	body, _ := io.ReadAll(io.LimitReader(res.Body, maxBody))
	_ = res.Body.Close()
	return res, body, nil
}

// logRefusal helps with 4xx, whose reason is in the body. It stays out of errors, whose text must not
// change from one event to the next.
func (s *Sink) logRefusal(req *http.Request, status int, id string, body []byte) {
	entry := s.log.Check(zapcore.DebugLevel, "the endpoint refused an event")
	if entry == nil {
		return
	}
	entry.Write(zap.String("endpoint", s.origin), zap.Int("status", status), zap.String("event_id", id),
		zap.String("body", safetext.Line(redact.Text(withoutRequest(string(body), req)), excerptBytes)))
}

// withoutRequest is the text of an endpoint without the parts of the request that can be secret: an endpoint may well
// show the request that it does not like.
func withoutRequest(text string, req *http.Request) string {
	secrets := append(strings.Split(req.URL.RawQuery, "&"), req.URL.RequestURI(), req.URL.EscapedPath(), req.URL.Path, req.URL.RawQuery)
	for _, values := range req.URL.Query() {
		secrets = append(secrets, values...)
	}
	secrets = append(secrets, strings.Split(req.URL.EscapedPath(), "/")...)
	for _, values := range req.Header {
		for _, value := range values {
			_, token, _ := strings.Cut(value, " ") // of "Bearer token"
			secrets = append(secrets, value, token)
		}
	}
	slices.SortFunc(secrets, func(a, b string) int { return len(b) - len(a) }) // a part of another one does not spoil that
	for _, secret := range secrets {
		if len(secret) >= 6 {
			text = strings.ReplaceAll(text, secret, redact.Hidden)
		}
	}
	return text
}

// Close ends the idle connections, and makes further Sends fail.
func (s *Sink) Close(context.Context) error {
	s.closed.Store(true)
	s.conns.CloseIdleConnections()
	return nil
}
