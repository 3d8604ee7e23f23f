package webhook

import (
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/vodrelay/vodrelay/pkg/retry"
	"github.com/vodrelay/vodrelay/pkg/safetext"
)

// maxRetryAfter bounds what an endpoint may ask for: a wrong date must not silence a sink for years.
const maxRetryAfter = time.Hour

// httpsPort is how servers answer a request without TLS at a port for it: Go's, nginx and Apache, all with 400.
var httpsPort = regexp.MustCompile(`(?i)HTTP request to an HTTPS server|plain HTTP request was sent to HTTPS port|speaking plain HTTP to an SSL-enabled server port`)

// judge turns an answer, and the beginning of its body, into the result of Send.
func (s *Sink) judge(res *http.Response, body []byte, now time.Time) error {
	code := res.StatusCode
	if code >= 200 && code <= 299 {
		return nil
	}
	if code == http.StatusBadRequest && httpsPort.Match(body) {
		return retry.WithHint(fmt.Errorf("%s wants TLS", s.origin), "write https:// in url")
	}
	err := fmt.Errorf("%s answered %s", s.origin, statusText(code))
	err = retry.WithHint(err, statusHint(res))
	if refusals[code] {
		return retry.Permanent(err)
	}
	if wait := retryAfter(res.Header.Get("Retry-After"), now); wait > 0 {
		return retry.After(err, wait)
	}
	return err
}

// refusals are the answers that blame the event itself. Every other one is about the endpoint, the way there or the
// configuration, and ends when that is corrected.
var refusals = map[int]bool{
	http.StatusBadRequest:            true,
	http.StatusGone:                  true,
	http.StatusRequestEntityTooLarge: true,
	http.StatusRequestURITooLong:     true,
	http.StatusUnsupportedMediaType:  true,
	http.StatusUnprocessableEntity:   true,
}

const proxyAuthHint = "put the proxy's user and password into proxy, http://user:password@host:port"

func statusHint(res *http.Response) string {
	switch code := res.StatusCode; code {
	case http.StatusUnauthorized:
		return "the endpoint does not take the credentials: check headers, headers_file, secret, or the user in url"
	case http.StatusForbidden:
		return "the credentials may not do this, or a firewall refuses it: check headers, headers_file, secret and the endpoint's rules"
	case http.StatusNotFound:
		return "check the path in url"
	case http.StatusMethodNotAllowed:
		return "check method, and the path in url"
	case http.StatusProxyAuthRequired:
		return proxyAuthHint
	case http.StatusGone:
		return "the endpoint does not want this event any more: correct url, or filter such events out with when"
	case http.StatusRequestEntityTooLarge:
		return "raise the limit of the request body at the endpoint, in nginx client_max_body_size"
	case http.StatusRequestURITooLong:
		return "raise the limit of the request line at the endpoint, or shorten url"
	case http.StatusUnsupportedMediaType:
		return "choose a format that the endpoint takes"
	case http.StatusTooManyRequests:
		return "lower the sink's concurrency, or raise the endpoint's limit"
	default:
		switch {
		case code >= 500:
			return "see the endpoint's log"
		case refusals[code]:
			return "the endpoint refuses the event; see its log"
		case code >= 400:
			return "see the endpoint's log, and check url, method and headers; the event waits until it is accepted"
		case code >= 300:
			return redirectHint(res)
		}
		return "the endpoint does not answer as a webhook should, with 2xx"
	}
}

// redirectHint names the host of a redirect and no more of it, since paths and queries may hold secrets.
func redirectHint(res *http.Response) string {
	const hint = "redirects are not followed: set url to the final address"
	to, err := res.Location()
	if err != nil || to.Hostname() == "" {
		return hint
	}
	return hint + ", on " + safetext.Line(to.Scheme+"://"+to.Host, 300)
}

// retryAfter reads Retry-After, seconds or a date (RFC 9110, section 10.2.3). It is 0 for what is past or
// cannot be read, and maxRetryAfter at most.
func retryAfter(value string, now time.Time) time.Duration {
	value = strings.TrimSpace(value)
	if value == "" {
		return 0
	}
	if strings.Trim(value, "0123456789") == "" {
		seconds, err := strconv.ParseInt(value, 10, 64)
		if err != nil || seconds > int64(maxRetryAfter/time.Second) {
			return maxRetryAfter
		}
		return time.Duration(seconds) * time.Second
	}
	date, err := http.ParseTime(value)
	if err != nil {
		return 0
	}
	return min(max(date.Sub(now), 0), maxRetryAfter)
}
