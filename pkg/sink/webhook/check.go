package webhook

import (
	"context"
	"fmt"
	"mime"
	"net/http"
	"time"

	"go.uber.org/zap"

	"github.com/vodrelay/vodrelay/pkg/retry"
)

// withoutEvent are the answers to what a HEAD does not have, which an event has: the method, a body and its type. They
// show that somebody is there, and nothing else.
var withoutEvent = map[int]bool{
	http.StatusMethodNotAllowed: true, http.StatusNotImplemented: true, http.StatusBadRequest: true,
	http.StatusLengthRequired: true, http.StatusUnsupportedMediaType: true, http.StatusUnprocessableEntity: true,
}

// Check asks the endpoint for a HEAD of its URL, which carries no event. What stands before the endpoint and fails
// would fail an event, too. Any other answer that is neither 2xx nor natural to a HEAD is marked with retry.Doubtful,
// since a POST may be answered in another way.
func (s *Sink) Check(ctx context.Context) error {
	req, cancel, err := s.request(ctx, http.MethodHead, nil)
	if err != nil {
		return err
	}
	defer cancel()
	res, body, err := s.exchange(ctx, req, cancel) //nolint:bodyclose // exchange reads and closes it
	if err != nil {
		return err
	}
	switch code := res.StatusCode; {
	case code >= 200 && code <= 299 && isPage(res):
		return retry.Doubtful(retry.WithHint(fmt.Errorf("%s answered a HEAD with %s and a web page", s.origin, statusText(code)), pageHint))
	case code >= 200 && code <= 299, withoutEvent[code]:
		return nil
	case code == http.StatusProxyAuthRequired, code == http.StatusBadGateway, code == http.StatusServiceUnavailable, code == http.StatusGatewayTimeout:
		return s.judge(res, body, time.Now())
	}
	err = fmt.Errorf("%s answered a HEAD with %s; how it answers a %s only an event shows", s.origin, statusText(res.StatusCode), s.method)
	return retry.Doubtful(retry.WithHint(err, headHint(res)))
}

// Untested is what Check cannot know.
func (s *Sink) Untested() string {
	return "whether the endpoint accepts a " + s.method + ", with these headers and signature"
}

const pageHint = "a page for people, such as one for the login, accepts whatever is posted: check url, if that is not meant"

// isPage reports an answer for people.
func isPage(res *http.Response) bool {
	kind, _, err := mime.ParseMediaType(res.Header.Get("Content-Type"))
	return err == nil && (kind == "text/html" || kind == "application/xhtml+xml")
}

// warnOfPage logs once that a web page has accepted an event: nobody may have read it, and nothing else would tell.
func (s *Sink) warnOfPage(res *http.Response) {
	if res.StatusCode <= 299 && isPage(res) && s.paged.CompareAndSwap(false, true) {
		s.log.Warn("a web page accepts the events", zap.String("endpoint", s.origin), zap.Int("status", res.StatusCode), zap.String("hint", pageHint))
	}
}

func headHint(res *http.Response) string {
	if res.StatusCode == http.StatusNotFound {
		return "probably the path in url is wrong; an endpoint that takes nothing but events may answer so, too"
	}
	return statusHint(res)
}
