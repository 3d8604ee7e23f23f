package vod

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/tencentcloud/tencentcloud-sdk-go/tencentcloud/common"
	tchttp "github.com/tencentcloud/tencentcloud-sdk-go/tencentcloud/common/http"
	"github.com/tencentcloud/tencentcloud-sdk-go/tencentcloud/common/profile"

	"github.com/vodrelay/vodrelay/pkg/redact"
	"github.com/vodrelay/vodrelay/pkg/retry"
	"github.com/vodrelay/vodrelay/pkg/safetext"
	"golang.org/x/sync/semaphore"
)

// limits hold for every exchange.
type limits struct {
	readWithin time.Duration
	maxBytes   int64               // of a reply that holds events
	large      *semaphore.Weighted // bytes of the replies that are large, all together
}

const (
	// smallReply is the most bytes of a reply that is no EventSet, and of one that counts for itself alone.
	smallReply = 1 << 20
	// largeReplies is how many replies of Config.MaxReplyBytes are in memory at a time.
	largeReplies = 2
)

func newLimits(readWithin time.Duration, maxBytes int64) limits {
	return limits{readWithin, maxBytes, semaphore.NewWeighted(largeReplies * maxBytes)}
}

// newSDK is a client of the SDK that signs and sends, and does nothing else. cred may be nil for requests
// that are not signed.
func newSDK(cred common.CredentialIface, at endpoint, region string, transport http.RoundTripper) (*common.Client, error) {
	if common.DefaultHttpClient != nil {
		// The SDK would use it, and what is set below would change it for all its other users.
		return nil, retry.Permanent(errors.New("the Tencent Cloud SDK's common.DefaultHttpClient is set: leave it nil in a program that embeds vodrelay, its clients would get each other's transport"))
	}
	p := profile.NewClientProfile()
	p.Language = "en-US"
	p.HttpProfile.Scheme = at.scheme
	p.HttpProfile.Endpoint = at.host
	p.HttpProfile.ReqTimeout = 0  // the exchange has finer limits
	p.DisableRegionBreaker = true // it would send requests elsewhere than to the endpoint
	p.NetworkFailureMaxRetries = 0
	p.RateLimitExceededMaxRetries = 0 // its waits ignore the context
	client := common.NewCommonClient(cred, region, p)
	return client.WithHttpTransport(transport).WithRequestClient("vodrelay"), nil
}

// newBase starts a request. Neither a request nor a response may be used twice: the SDK writes to both.
func newBase(service, version, action string) *tchttp.BaseRequest {
	return new(tchttp.BaseRequest).Init().WithApiInfo(service, version, action)
}

// call sends req once and reads the reply's fields, which field must copy to keep. The exchange, also beside an error
// where a reply came, tells when that began; the error is classified. A reply that has begun is read even if ctx ends
// then.
func call(ctx context.Context, sdk *common.Client, req tchttp.Request, replyWithin time.Duration, lim limits, at circumstances, field fieldFunc) (*exchange, error) {
	action := req.GetAction()
	ex := &exchange{replyWithin: replyWithin, readWithin: lim.readWithin, maxBytes: smallReply, large: lim.large}
	if action == actionPull {
		ex.maxBytes, ex.events = lim.maxBytes, true
	}
	defer ex.release()
	if err := ctx.Err(); err != nil {
		return nil, retry.NoEffect(fmt.Errorf("%s: %w", action, err))
	}
	req.SetHttpMethod(tchttp.POST)
	req.SetContext(context.WithValue(ctx, exchangeKey{}, ex))
	sent := send(sdk, req)

	e := &Error{Action: action, Status: ex.status}
	if ex.err == nil && ex.status == 0 { // the SDK failed before the transport was asked
		ex.err = sent
	}
	if ex.err != nil {
		// Of all reasons the caller's own comes first: the SDK would report a body that was cut by it as
		// bad JSON.
		if err := ctx.Err(); err != nil {
			return nil, fmt.Errorf("%s: %w", action, err)
		}
		e.Message, at.hint = describe(ex.err, ex)
		e.cause = foreign(ex.err)
		if neverSent(ex.err) {
			return nil, retry.NoEffect(classify(e, at))
		}
		return nil, classify(e, at)
	}

	r, shape := decodeReply(ex.body, field)
	if shape == nil && r.code == "" && ex.status == http.StatusOK {
		return ex, nil
	}
	at.retryAfter = retryAfter(ex)
	at.clock = clockOf(ex)
	if shape != nil || r.code == "" {
		e.Message, at.hint = noAPI(ex, shape)
		return ex, classify(e, at)
	}
	e.Code, e.Message, e.requestID = safetext.Line(r.code, 128), safetext.Line(redact.Text(r.message), maxMessage), safetext.Line(r.requestID, 128)
	return ex, classify(e, at)
}

// send recovers from the SDK's panics: it has some for input that nobody expected.
func send(sdk *common.Client, req tchttp.Request) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("the Tencent Cloud SDK panicked: %v", v)
		}
	}()
	return sdk.Send(req, &tchttp.BaseResponse{})
}
