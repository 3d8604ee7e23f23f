package vod

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/vodrelay/vodrelay/pkg/event"
	"github.com/vodrelay/vodrelay/pkg/retry"
)

// Error is a call that failed: refused by the API (Code is set), answered by something that is not the
// API, or not answered at all. Its text stays the same while the same thing goes wrong, so that a log can
// tell a repetition from news; what differs each time is in the fields.
type Error struct {
	Action string // such as "PullEvents"
	// Code is the API's error code, such as "AuthFailure.SignatureFailure"; "" without an API reply.
	Code string
	// Message is the API's own text, or what is wrong with the exchange: at most 512 bytes, no control
	// characters, and nothing else of the reply.
	Message string
	// Status is the HTTP status; 0 when no reply began.
	Status int

	requestID string
	cause     error
}

// RequestID is what Tencent Cloud's support asks for; "" without an API reply.
func (e *Error) RequestID() string { return e.requestID }

// Error is the action, the code and the message.
func (e *Error) Error() string {
	if e.Code == "" {
		return e.Action + ": " + e.Message
	}
	text := e.Action + ": " + e.Code
	message := e.Message
	if e.requestID != "" {
		message = strings.ReplaceAll(message, e.requestID, "...")
	}
	// These messages count requests or tell the time, so they differ at every repetition; and they say no
	// more than the code.
	if family(e.Code) == "RequestLimitExceeded" || e.Code == "AuthFailure.SignatureExpire" {
		message = ""
	}
	if message != "" {
		text += ": " + message
	}
	return text
}

// Unwrap is the error of the network, if that is what it was.
func (e *Error) Unwrap() error { return e.cause }

// errEmpty is an empty queue, which the API reports as an error.
var errEmpty = errors.New("the queue is empty")

const (
	credentialsDelay = 15 * time.Second // keys are replaced by people, or by a refresh that takes seconds
	throttledDelay   = time.Second      // quotas count per second
	maxDelay         = time.Minute      // what is believed of a Retry-After
)

// circumstances are what classify needs to know beside the error.
type circumstances struct {
	handles    int           // number of handles in a confirm
	sts        bool          // a call to STS, not to VOD
	retryAfter time.Duration // from the reply's Retry-After, 0 if none
	clock      *Clock        // of this reply; nil: not known
	hint       string        // of an exchange that failed
}

// here makes a hint that names VOD's address fit for STS.
func (at circumstances) here(hint string) string {
	if at.sts {
		return strings.ReplaceAll(hint, "vod.endpoint", "vod.credentials.sts_endpoint")
	}
	return hint
}

// classify turns a failure into what the relay acts on: errEmpty, event.ErrStaleHandle, retry.Permanent
// for what only a person can cure, retry.After for what needs a longer wait, or the plain error for what
// may pass by itself. The codes and what is known of them: https://cloud.tencent.com/document/product/266/31774.
// The full code counts first, then its part before the first dot; a code that is not known here may pass.
// What the API refused for a reason that it named is marked with retry.NoEffect; after any other failure, its
// own trouble included, events may have been leased or confirmed.
func classify(e *Error, at circumstances) error {
	person := func(hint string) error {
		return retry.NoEffect(retry.Permanent(retry.WithHint(e, at.here(hint))))
	}
	keys := func(hint string) error {
		err := retry.NoEffect(retry.After(retry.WithHint(e, hint), credentialsDelay))
		if rejectsKey(e) {
			err = retry.KeyRefused(err)
		}
		return err
	}
	throttled := func() error { return retry.After(e, max(at.retryAfter, throttledDelay)) }

	switch e.Code {
	case "": // no reply, or none of the API's own
		switch {
		case e.Status == http.StatusTooManyRequests:
			return throttled()
		case at.retryAfter > 0:
			return retry.After(e, at.retryAfter)
		case at.hint != "":
			return retry.WithHint(e, at.here(at.hint))
		}
		// Networks, gateways and their bodies recover: nothing here may end the relay.
		return e

	case "ResourceNotFound":
		// Not documented as such, but this is how every consumer finds the queue empty: "no event". The
		// message may change, so it is not looked at.
		if e.Action == actionPull {
			return errEmpty
		}
	case "FailedOperation":
		// Documented for ConfirmEvents without a meaning. It may be a failure of the moment, or the
		// answer to a batch in which some handles failed, as the message queue behind VOD has one. So a
		// batch is worth splitting, and a single handle worth another attempt.
		if e.Action == actionConfirm && at.handles > 1 {
			return stale(e)
		}
		return e
	case "FailedOperation.InvalidVodUser", "FailedOperation.InvalidAccount":
		return person("activate VOD for the account that the key belongs to, or use a key of the right account; accounts of the international site need vod.endpoint: https://vod.intl.tencentcloudapi.com")
	case "FailedOperation.NoPrivileges", "AuthFailure.UnauthorizedOperation":
		return person(permissionHint(e, at))
	case "InvalidParameterValue.SubAppId":
		// The application is wrong, not a handle.
		return person(subAppHint)

	// A key that is not accepted may be one that was just rotated: the sources are read again, and the
	// next attempt may succeed, so none of these ends a relay that ran for months.
	case "AuthFailure.SignatureExpire":
		return keys(clockHint(at))
	case "AuthFailure.TokenFailure":
		return keys("the temporary key has ended or its token is not its own: check the token (TENCENTCLOUD_TOKEN, vod.credentials.token) or let a role provide the key; the key is fetched again")
	case "AuthFailure.SecretIdNotFound", "AuthFailure.InvalidSecretId":
		return keys("the SecretId does not exist or is disabled: check it at https://console.cloud.tencent.com/cam/capi, and set TENCENTCLOUD_SECRET_ID and TENCENTCLOUD_SECRET_KEY, or vod.credentials; files are read again when they change")
	case "AuthFailure.SignatureFailure":
		// The key itself is wrong, and no refresh corrects a wrong copy; a person may.
		return retry.KeyRefused(person("the SecretKey does not belong to the SecretId: copy both again (TENCENTCLOUD_SECRET_ID, TENCENTCLOUD_SECRET_KEY, or vod.credentials), without blanks; if they are right, a proxy changes the Host header or the body"))
	case "AuthFailure.MFAFailure", "AuthFailure.InvalidAuthorization":
		return person("the request was signed, but not accepted: use an API key of a user without MFA for API calls, and check that no proxy changes the Authorization header")
	case "IpNotInWhitelist", "IpInBlacklist":
		return person("allow this machine's public address in the access settings of the API key or the account")
	case "UnsupportedRegion":
		return person("set vod.endpoint to the address of your site: https://vod.tencentcloudapi.com or https://vod.intl.tencentcloudapi.com")
	}

	switch family(e.Code) {
	case "RequestLimitExceeded", "LimitExceeded":
		// Over the quota of the application, the account or the address. It is counted per second.
		return retry.NoEffect(throttled())
	case "AuthFailure":
		// Some other trouble with the key: as above, a new key may cure it.
		return keys("check the API key at https://console.cloud.tencent.com/cam/capi and in the configuration (vod.credentials)")
	case "UnauthorizedOperation":
		return person(permissionHint(e, at))
	case "InvalidParameter", "InvalidParameterValue":
		// An expired handle is "a parameter error" in ConfirmEvents' documentation; which of the two it
		// is, and whether one such handle refuses the whole batch, is not said.
		if e.Action == actionConfirm {
			return stale(e)
		}
		return person(parameterHint(at))
	case "ResourceNotFound":
		switch e.Action {
		case actionConfirm: // not documented, but what else could be missing than a handle's event
			return stale(e)
		case actionPull: // a suffix that nobody has described: neither certainly empty nor certainly wrong
			return retry.WithHint(e, subAppHint)
		}
		return person(parameterHint(at))
	case "MissingParameter", "UnknownParameter":
		return person(parameterHint(at))
	case "ActionOffline", "InvalidAction", "InvalidRequest", "NoSuchProduct", "NoSuchVersion",
		"UnsupportedOperation", "UnsupportedProtocol", "RequestSizeLimitExceeded":
		// The server does not know this API: it is another product's, or vodrelay is too old for it.
		return person("check vod.endpoint: it must be the address of the VOD API, such as https://vod.tencentcloudapi.com")
	}
	// InternalError, ServiceUnavailable, ResourceUnavailable, ResourceInUse, ResourceInsufficient,
	// FailedOperation.NetWorkError and whatever is added later: the server's own trouble.
	if at.retryAfter > 0 {
		return retry.After(e, at.retryAfter)
	}
	return e
}

func stale(e *Error) error { return fmt.Errorf("%w: %w", event.ErrStaleHandle, e) }

func family(code string) string {
	head, _, _ := strings.Cut(code, ".")
	return head
}

// rejectsKey reports whether fetching the credential again may cure e.
func rejectsKey(e *Error) bool {
	return family(e.Code) == "AuthFailure" && e.Code != "AuthFailure.SignatureExpire"
}

const subAppHint = "check vod.sub_app_ids: the SubAppId is at https://console.cloud.tencent.com/vod/app-manage and must belong to the account of the key; customers who joined on 2023-12-25 or later must always name it"

func permissionHint(e *Error, at circumstances) string {
	if at.sts {
		return "allow the base credential sts:" + e.Action + " in CAM, and let the role's trust policy name it"
	}
	return "allow vod:" + e.Action + " in CAM for the user or role of the key (QcloudVODFullAccess has it), for the application in vod.sub_app_ids"
}

func parameterHint(at circumstances) string {
	if at.sts {
		return "check vod.credentials.role_arn, session_name and duration, and that the role exists"
	}
	return subAppHint
}

func clockHint(at circumstances) string {
	if at.clock == nil {
		return ClockRemedy
	}
	return at.clock.String() + ": " + ClockRemedy
}

// IsDenied reports the answer that the key may not do what was asked, while it may well do other things.
func IsDenied(err error) bool {
	var e *Error
	if !errors.As(err, &e) {
		return false
	}
	return family(e.Code) == "UnauthorizedOperation" || e.Code == "AuthFailure.UnauthorizedOperation" || e.Code == "FailedOperation.NoPrivileges"
}
