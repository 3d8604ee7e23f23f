package vod

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/vodrelay/vodrelay/pkg/event"
	"github.com/vodrelay/vodrelay/pkg/retry"
)

func TestClassifyCodes(t *testing.T) {
	t.Parallel()
	const (
		empty         = "empty"
		throttled     = "throttled"
		transient     = "transient"
		credentials   = "credentials"
		configuration = "configuration"
		stale         = "stale"
	)
	kind := func(err error) string {
		switch {
		case errors.Is(err, errEmpty):
			return empty
		case errors.Is(err, event.ErrStaleHandle):
			return stale
		case retry.IsPermanent(err):
			return configuration
		case retry.Delay(err) == credentialsDelay:
			return credentials
		case retry.Delay(err) == throttledDelay:
			return throttled
		}
		return transient
	}
	for _, row := range []struct {
		code string
		// on PullEvents, on ConfirmEvents with one handle, with several, on any other action
		pull, one, batch, other string
		hint                    bool
	}{
		{"ResourceNotFound", empty, stale, stale, configuration, false},
		{"ResourceNotFound.Something", transient, stale, stale, configuration, true},
		{"RequestLimitExceeded", throttled, throttled, throttled, throttled, false},
		{"RequestLimitExceeded.GlobalRegionUinLimitExceeded", throttled, throttled, throttled, throttled, false},
		{"RequestLimitExceeded.IPLimitExceeded", throttled, throttled, throttled, throttled, false},
		{"RequestLimitExceeded.UinLimitExceeded", throttled, throttled, throttled, throttled, false},
		{"LimitExceeded", throttled, throttled, throttled, throttled, false},
		{"InternalError", transient, transient, transient, transient, false},
		{"InternalError.DBError", transient, transient, transient, transient, false},
		{"ServiceUnavailable", transient, transient, transient, transient, false},
		{"ResourceUnavailable", transient, transient, transient, transient, false},
		{"ResourceInUse", transient, transient, transient, transient, false},
		{"ResourceInsufficient", transient, transient, transient, transient, false},
		{"ResponseSizeLimitExceeded", transient, transient, transient, transient, false},
		{"DryRunOperation", transient, transient, transient, transient, false},
		{"FailedOperation", transient, transient, stale, transient, false},
		{"FailedOperation.NetWorkError", transient, transient, transient, transient, false},
		{"FailedOperation.InvalidVodUser", configuration, configuration, configuration, configuration, true},
		{"FailedOperation.InvalidAccount", configuration, configuration, configuration, configuration, true},
		{"FailedOperation.NoPrivileges", configuration, configuration, configuration, configuration, true},
		{"AuthFailure", credentials, credentials, credentials, credentials, true},
		{"AuthFailure.TokenFailure", credentials, credentials, credentials, credentials, true},
		{"AuthFailure.SignatureExpire", credentials, credentials, credentials, credentials, true},
		{"AuthFailure.SecretIdNotFound", credentials, credentials, credentials, credentials, true},
		{"AuthFailure.InvalidSecretId", credentials, credentials, credentials, credentials, true},
		{"AuthFailure.SomethingNew", credentials, credentials, credentials, credentials, true},
		{"AuthFailure.SignatureFailure", configuration, configuration, configuration, configuration, true},
		{"AuthFailure.InvalidAuthorization", configuration, configuration, configuration, configuration, true},
		{"AuthFailure.MFAFailure", configuration, configuration, configuration, configuration, true},
		{"AuthFailure.UnauthorizedOperation", configuration, configuration, configuration, configuration, true},
		{"UnauthorizedOperation", configuration, configuration, configuration, configuration, true},
		{"UnauthorizedOperation.CamNoAuth", configuration, configuration, configuration, configuration, true},
		{"InvalidParameter", configuration, stale, stale, configuration, false},
		{"InvalidParameter.Handle", configuration, stale, stale, configuration, false},
		{"InvalidParameterValue", configuration, stale, stale, configuration, false},
		{"InvalidParameterValue.EventHandle", configuration, stale, stale, configuration, false},
		{"InvalidParameterValue.SubAppId", configuration, configuration, configuration, configuration, true},
		{"MissingParameter", configuration, configuration, configuration, configuration, true},
		{"UnknownParameter", configuration, configuration, configuration, configuration, true},
		{"ActionOffline", configuration, configuration, configuration, configuration, true},
		{"InvalidAction", configuration, configuration, configuration, configuration, true},
		{"InvalidRequest", configuration, configuration, configuration, configuration, true},
		{"NoSuchProduct", configuration, configuration, configuration, configuration, true},
		{"NoSuchVersion", configuration, configuration, configuration, configuration, true},
		{"UnsupportedOperation", configuration, configuration, configuration, configuration, true},
		{"UnsupportedProtocol", configuration, configuration, configuration, configuration, true},
		{"UnsupportedRegion", configuration, configuration, configuration, configuration, true},
		{"RequestSizeLimitExceeded", configuration, configuration, configuration, configuration, true},
		{"IpInBlacklist", configuration, configuration, configuration, configuration, true},
		{"IpNotInWhitelist", configuration, configuration, configuration, configuration, true},
		{"SomethingNew.OfNextYear", transient, transient, transient, transient, false},
	} {
		t.Run(row.code, func(t *testing.T) {
			for _, on := range []struct {
				action  string
				handles int
				want    string
			}{{actionPull, 0, row.pull}, {actionConfirm, 1, row.one}, {actionConfirm, 16, row.batch}, {actionConfig, 0, row.other}} {
				e := &Error{Action: on.action, Code: row.code, Message: "m", Status: 200}
				err := classify(e, circumstances{handles: on.handles})
				require.Equal(t, on.want, kind(err), on.action)
				require.Equal(t, on.want == credentials && row.code != "AuthFailure.SignatureExpire" || row.code == "AuthFailure.SignatureFailure", retry.IsKeyRefused(err), on.action)
				refused := on.want == configuration || on.want == credentials || on.want == throttled
				require.Equal(t, refused, retry.HadNoEffect(err), "%s: anything else may have been carried out", on.action)
				if on.want == configuration || on.want == credentials || row.hint && on.want != stale {
					require.NotEmpty(t, retry.Hint(err), on.action)
				}
				if on.want != empty {
					var got *Error
					require.ErrorAs(t, err, &got)
					require.Same(t, e, got)
				}
			}
		})
	}
}

func TestClassifyDelays(t *testing.T) {
	t.Parallel()
	limit := &Error{Action: actionPull, Code: "RequestLimitExceeded"}
	require.Equal(t, time.Second, retry.Delay(classify(limit, circumstances{})))
	require.Equal(t, 7*time.Second, retry.Delay(classify(limit, circumstances{retryAfter: 7 * time.Second})))
	gateway := &Error{Action: actionPull, Status: 503}
	require.Zero(t, retry.Delay(classify(gateway, circumstances{})))
	require.Equal(t, 3*time.Second, retry.Delay(classify(gateway, circumstances{retryAfter: 3 * time.Second})))
	require.Equal(t, time.Second, retry.Delay(classify(&Error{Action: actionPull, Status: 429}, circumstances{})))
}

func TestHintsNameTheRightKey(t *testing.T) {
	t.Parallel()
	sts := circumstances{sts: true}
	require.Contains(t, retry.Hint(classify(&Error{Action: "AssumeRole", Code: "UnauthorizedOperation"}, sts)), "sts:AssumeRole")
	require.Contains(t, retry.Hint(classify(&Error{Action: "AssumeRole", Code: "InvalidParameter.RoleNotExist"}, sts)), "role_arn")
	require.Contains(t, retry.Hint(classify(&Error{Action: "AssumeRole", Code: "InvalidAction"}, sts)), "sts_endpoint")
	require.Contains(t, retry.Hint(classify(&Error{Action: actionConfirm, Code: "UnauthorizedOperation"}, circumstances{})), "vod:ConfirmEvents")

	expire := &Error{Action: actionPull, Code: "AuthFailure.SignatureExpire"}
	require.Contains(t, retry.Hint(classify(expire, circumstances{clock: &Clock{-6 * time.Minute}})), "6m0s behind")
	require.Contains(t, retry.Hint(classify(expire, circumstances{clock: &Clock{time.Hour}})), "1h0m0s ahead of")
	require.NotContains(t, retry.Hint(classify(expire, circumstances{})), "behind")
}

func TestErrorTextIsStable(t *testing.T) {
	t.Parallel()
	text := func(code, message, id string) string {
		return (&Error{Action: actionPull, Code: code, Message: message, requestID: id, Status: 200}).Error()
	}
	for i, code := range []string{"RequestLimitExceeded", "RequestLimitExceeded.UinLimitExceeded", "AuthFailure.SignatureExpire"} {
		require.Equal(t, text(code, "21 of 20 requests at 1", "a"), text(code, fmt.Sprint("22 of 20 requests at ", i), "b"))
	}
	require.Equal(t, text("InternalError", "failed, see a-1", "a-1"), text("InternalError", "failed, see b-2", "b-2"))
	require.Equal(t, "PullEvents: AuthFailure.SignatureFailure: wrong", text("AuthFailure.SignatureFailure", "wrong", "a"))
}
