// Package vod is the cloud adapter: it pulls and confirms the events of Tencent Cloud VOD's reliable
// callback, reads the state of the queue, and reads and sets how an application's events are delivered.
//
// The Tencent Cloud SDK signs and sends; no other package knows it. What comes back is read and decoded
// here, byte for byte, since the SDK's own decoding loses large integers and panics on some replies. Every
// failure passes through one function, classify, which decides what it means to the relay: see the
// functions of package retry, and event.ErrStaleHandle.
package vod

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tencentcloud/tencentcloud-sdk-go/tencentcloud/common"
	tchttp "github.com/tencentcloud/tencentcloud-sdk-go/tencentcloud/common/http"
	"github.com/vodrelay/vodrelay/pkg/event"
	"github.com/vodrelay/vodrelay/pkg/internal/conns"
	"github.com/vodrelay/vodrelay/pkg/internal/secretfile"
	"github.com/vodrelay/vodrelay/pkg/retry"
	"go.uber.org/zap"
)

const (
	service = "vod"
	version = "2018-07-17"

	actionPull         = "PullEvents"
	actionConfirm      = "ConfirmEvents"
	actionState        = "DescribeEventsState"
	actionConfig       = "DescribeEventConfig"
	actionModifyConfig = "ModifyEventConfig"
)

// Client talks to the VOD event API for any number of applications. It is safe for concurrent use.
type Client struct {
	sdk         *common.Client
	keys        *keeper
	transport   http.RoundTripper
	pullTimeout time.Duration
	callTimeout time.Duration
	limits      limits
	log         *zap.Logger
	clock       atomic.Pointer[Clock] // by the latest reply with a Date

	mu     sync.Mutex
	queues map[uint64]*Queue
}

// Option changes how New builds a Client.
type Option func(*options)

type options struct {
	dial      DialContext
	transport http.RoundTripper
	provider  Provider
	log       *zap.Logger
}

// WithDialContext opens every connection with dial, those to STS and the metadata service included.
func WithDialContext(dial DialContext) Option { return func(o *options) { o.dial = dial } }

// WithTransport sends the requests to VOD and STS with rt instead of the client's own transport; the proxy
// setting does not apply then. rt must end with the request's context.
func WithTransport(rt http.RoundTripper) Option { return func(o *options) { o.transport = rt } }

// WithCredentials takes the credential from p instead of what Config.Credentials says.
func WithCredentials(p Provider) Option { return func(o *options) { o.provider = p } }

// WithLogger logs what no caller sees: a credential that was found or cannot be refreshed, and events
// that could not be read. Without it nothing is logged.
func WithLogger(log *zap.Logger) Option { return func(o *options) { o.log = log } }

// New builds a Client. It does not use the network: the first call fetches the credential. Close must be
// called.
func New(cfg Config, opts ...Option) (*Client, error) {
	o := options{log: zap.NewNop()}
	for _, opt := range opts {
		opt(&o)
	}
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	at, err := parseEndpoint(cfg.Endpoint, DefaultEndpoint)
	if err != nil {
		return nil, err
	}
	if at.scheme == "http" && !at.loopback() {
		o.log.Warn("the endpoint is not encrypted: events and temporary tokens can be read on the way, use https://", zap.String("endpoint", at.host))
	}
	proxy, err := proxyOf(cfg)
	if err != nil {
		return nil, err
	}
	c := &Client{
		transport:   o.transport,
		pullTimeout: cfg.PullTimeout,
		callTimeout: cfg.CallTimeout,
		limits:      newLimits(cfg.ReadTimeout, cfg.MaxReplyBytes),
		log:         o.log,
		queues:      map[uint64]*Queue{},
	}
	if c.transport == nil {
		c.transport = conns.NewHTTP(newTransport(o.dial, proxy))
	}
	provider := o.provider
	if provider == nil {
		src := &sources{cfg: &cfg.Credentials, dial: o.dial, transport: reader{c.transport}, limits: c.limits, env: os.LookupEnv}
		if provider, err = src.provider(); err != nil {
			return nil, err
		}
	}
	keys := newKeeper(provider, o.log)
	if c.sdk, err = newSDK(keys, at, "", reader{c.transport}); err != nil {
		keys.close()
		return nil, err
	}
	c.keys = keys
	return c, nil
}

func proxyOf(cfg Config) (*url.URL, error) {
	text := cfg.Proxy
	if cfg.ProxyFile != "" {
		data, err := readSmall(cfg.ProxyFile)
		if err != nil {
			return nil, fmt.Errorf("proxy_file: %w", err)
		}
		if text, err = secretfile.Text(data); err != nil {
			return nil, fmt.Errorf("proxy_file: %w", err)
		}
	}
	if text == "" {
		return nil, nil
	}
	proxy, err := parseProxy(text)
	if err != nil {
		return nil, fmt.Errorf("proxy: %w", err)
	}
	return proxy, nil
}

// Close ends the refreshing of credentials and closes idle connections. Call it when the last call has
// returned; later calls fail if they need a new credential.
func (c *Client) Close() {
	c.keys.close()
	if t, ok := c.transport.(interface{ CloseIdleConnections() }); ok {
		t.CloseIdleConnections()
	}
}

// Format prints the client's name: what it holds is in use by others, and partly secret.
func (c *Client) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, "VOD client") }

// Format prints the queue's application.
func (q *Queue) Format(f fmt.State, _ rune) {
	_, _ = fmt.Fprintf(f, "VOD queue of application %d", q.subAppID)
}

// CredentialSource fetches the credential, if none is there yet, and names its source for a person. untidy says
// what stands around the key there and was left out, such as a line end; "" if nothing does.
func (c *Client) CredentialSource(ctx context.Context) (source, untidy string, err error) {
	cred, err := c.keys.get(ctx)
	if err != nil {
		return "", "", err
	}
	return cred.Source, cred.untidy, nil
}

// Queue is the queue of one application; 0 sends no SubAppId. The same application gets the same Queue.
func (c *Client) Queue(subAppID uint64) *Queue {
	c.mu.Lock()
	defer c.mu.Unlock()
	q := c.queues[subAppID]
	if q == nil {
		q = &Queue{client: c, subAppID: subAppID}
		c.queues[subAppID] = q
	}
	return q
}

// call makes one signed call to VOD.
func (c *Client) call(ctx context.Context, req tchttp.Request, replyWithin time.Duration, at circumstances, field fieldFunc) (*exchange, error) {
	if _, err := c.keys.get(ctx); err != nil {
		return nil, retry.NoEffect(fmt.Errorf("%s: %w", req.GetAction(), err))
	}
	ex, err := call(ctx, c.sdk, req, replyWithin, c.limits, at, field)
	if ex != nil {
		if clock := clockOf(ex); clock != nil {
			c.clock.Store(clock)
		}
	}
	var e *Error
	if errors.As(err, &e) && rejectsKey(e) {
		c.keys.reject()
	}
	return ex, err
}

// Queue pulls and confirms the events of one application. It is safe for concurrent use.
type Queue struct {
	client   *Client
	subAppID uint64
	oddities [oddities]retry.Streak
}

// CredentialChanged returns a channel that is closed when another credential is in use: what was refused with
// the one before is worth a new attempt. nil: the credential stays as it is.
func (q *Queue) CredentialChanged() <-chan struct{} { return q.client.keys.replaced() }

// SubAppID is the application whose queue it is; 0 when none is named.
func (q *Queue) SubAppID() uint64 { return q.subAppID }

// Pull asks for events once: at most event.MaxBatch as documented, or as many as the server sent, up to 1,024;
// what is beyond that stays in the queue. None
// and no error is an empty queue, for which the server usually takes 5 s. When ctx ends before the reply
// has begun, the error wraps ctx.Err(); a reply that has begun is read to its end and its deliveries are
// returned although ctx is done, since their lease runs. An error that is not marked with retry.NoEffect leaves
// open whether events were leased to us.
func (q *Queue) Pull(ctx context.Context) ([]event.Delivery, error) {
	var set eventSet
	req := &pullRequest{BaseRequest: newBase(service, version, actionPull), SubAppID: given(q.subAppID)}
	ex, err := q.client.call(ctx, req, q.client.pullTimeout, circumstances{}, set.reader(q.subAppID))
	if errors.Is(err, errEmpty) {
		return nil, nil
	}
	if err != nil {
		return nil, q.byMode(ctx, err)
	}
	for i := range set.deliveries {
		set.deliveries[i].ReceivedAt = ex.receivedAt
		set.deliveries[i].Deadline = ex.receivedAt.Add(event.LeaseTime)
	}
	q.report(&set)
	return set.deliveries, nil
}

// Confirm deletes the events of 1 to event.MaxBatch handles from the queue. An error that wraps
// event.ErrStaleHandle may be the fault of one of them. An error that is not marked with retry.NoEffect leaves
// open whether the events were deleted; to confirm them again does no harm.
func (q *Queue) Confirm(ctx context.Context, handles []string) error {
	if len(handles) < 1 || len(handles) > event.MaxBatch {
		return retry.Permanent(fmt.Errorf("%s: %d handles: must be from 1 to %d", actionConfirm, len(handles), event.MaxBatch))
	}
	req := &confirmRequest{BaseRequest: newBase(service, version, actionConfirm), SubAppID: given(q.subAppID), EventHandles: handles}
	_, err := q.client.call(ctx, req, q.client.callTimeout, circumstances{handles: len(handles)}, skipField)
	return err
}
