package vod

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"

	"github.com/go-json-experiment/json/jsontext"
	tchttp "github.com/tencentcloud/tencentcloud-sdk-go/tencentcloud/common/http"
	"github.com/vodrelay/vodrelay/pkg/retry"
)

// The requests. What may be left out is a pointer: the SDK's copy of encoding/json takes omitempty to mean
// nil, and would send a SubAppId of 0.
type (
	pullRequest struct {
		*tchttp.BaseRequest
		SubAppID *uint64 `json:"SubAppId,omitempty"`
	}
	confirmRequest struct {
		*tchttp.BaseRequest
		SubAppID     *uint64  `json:"SubAppId,omitempty"`
		EventHandles []string `json:"EventHandles"`
	}
	describeRequest struct {
		*tchttp.BaseRequest
		SubAppID *uint64 `json:"SubAppId,omitempty"`
	}
	modifyRequest struct {
		*tchttp.BaseRequest
		SubAppID            *uint64 `json:"SubAppId,omitempty"`
		Mode                *string `json:"Mode,omitempty"`
		NotificationURL     *string `json:"NotificationUrl,omitempty"`
		UploadMediaComplete Switch  `json:"UploadMediaCompleteEventSwitch"`
		DeleteMediaComplete Switch  `json:"DeleteMediaCompleteEventSwitch"`
		PersistenceComplete Switch  `json:"PersistenceCompleteEventSwitch"`
		SignKey             *string `json:"SignKey,omitempty"`
	}
)

// given is a pointer to v, or nil for the zero value.
func given[T comparable](v T) *T {
	var zero T
	if v == zero {
		return nil
	}
	return &v
}

// Modes in which an application delivers its events.
// Source: https://www.tencentcloud.com/document/product/266/64486.
const (
	ModePush = "PUSH" // normal callback: VOD posts each event to a URL
	ModePull = "PULL" // reliable callback: events wait in the queue
)

// Switch turns one kind of event on or off.
type Switch string

// The values of a Switch; "" is one that the server did not tell.
const (
	On  Switch = "ON"
	Off Switch = "OFF"
)

// EventConfig is how an application delivers its events.
type EventConfig struct {
	Mode            string `json:"mode"`             // ModePush or ModePull
	NotificationURL string `json:"notification_url"` // where ModePush posts to
	// These three kinds of events have a switch; all others are always delivered.
	UploadMediaComplete Switch `json:"upload_media_complete"`
	DeleteMediaComplete Switch `json:"delete_media_complete"`
	PersistenceComplete Switch `json:"persistence_complete"`
}

// Change is a change that leaves everything as it is, to be modified.
func (c EventConfig) Change() EventConfigChange {
	return EventConfigChange{
		Mode:                c.Mode,
		UploadMediaComplete: c.UploadMediaComplete,
		DeleteMediaComplete: c.DeleteMediaComplete,
		PersistenceComplete: c.PersistenceComplete,
	}
}

// EventConfigChange is what SetEventConfig sets.
type EventConfigChange struct {
	Mode string // ModePush or ModePull; "" leaves it
	// NotificationURL nil leaves the address as it is; an empty one clears it.
	NotificationURL *string
	// The switches must all be set: VOD turns off what is not named. Take them from EventConfig.
	UploadMediaComplete Switch
	DeleteMediaComplete Switch
	PersistenceComplete Switch
	// SignKey, at most 32 letters and digits, has VOD sign what it posts; "" leaves the key as it is.
	SignKey string
}

// signKeys are what the API accepts. Source: ModifyEventConfigRequest in tencentcloud-sdk-go, vod/v20180717.
var signKeys = regexp.MustCompile(`^[A-Za-z0-9]{0,32}$`)

func (c EventConfigChange) check() error {
	switch c.Mode {
	case "", ModePush, ModePull:
	default:
		return fmt.Errorf("mode %q: must be %s or %s", c.Mode, ModePush, ModePull)
	}
	if !signKeys.MatchString(c.SignKey) {
		return errors.New("the SignKey must have at most 32 letters and digits")
	}
	for _, s := range []Switch{c.UploadMediaComplete, c.DeleteMediaComplete, c.PersistenceComplete} {
		if s != On && s != Off {
			return fmt.Errorf("all three switches must be %s or %s: VOD turns off what is not named", On, Off)
		}
	}
	return nil
}

// QueueDepth is about how many events wait. It lags by seconds to minutes: for display only, never to
// decide whether to pull. Quota: 20 requests per second.
// Source: https://cloud.tencent.com/document/api/266/48758.
func (c *Client) QueueDepth(ctx context.Context, subAppID uint64) (uint64, error) {
	var depth uint64
	err := c.describe(ctx, actionState, subAppID, map[string]any{"CountOfEventsToPull": &depth})
	return depth, err
}

// EventConfig reads how the application delivers its events. Quota: 20 requests per second.
// Source: https://www.tencentcloud.com/document/product/266/64486.
func (c *Client) EventConfig(ctx context.Context, subAppID uint64) (EventConfig, error) {
	var cfg EventConfig
	err := c.describe(ctx, actionConfig, subAppID, map[string]any{
		"Mode":                           &cfg.Mode,
		"NotificationUrl":                &cfg.NotificationURL,
		"UploadMediaCompleteEventSwitch": &cfg.UploadMediaComplete,
		"DeleteMediaCompleteEventSwitch": &cfg.DeleteMediaComplete,
		"PersistenceCompleteEventSwitch": &cfg.PersistenceComplete,
	})
	return cfg, err
}

// SetEventConfig changes how the application delivers its events. It takes up to 10 minutes to have
// effect. Quota: 20 requests per second.
// Source: https://www.tencentcloud.com/document/api/266/57589.
func (c *Client) SetEventConfig(ctx context.Context, subAppID uint64, change EventConfigChange) error {
	if err := change.check(); err != nil {
		return retry.Permanent(fmt.Errorf("%s: %w", actionModifyConfig, err))
	}
	req := &modifyRequest{
		BaseRequest:         newBase(service, version, actionModifyConfig),
		SubAppID:            given(subAppID),
		Mode:                given(change.Mode),
		NotificationURL:     change.NotificationURL,
		UploadMediaComplete: change.UploadMediaComplete,
		DeleteMediaComplete: change.DeleteMediaComplete,
		PersistenceComplete: change.PersistenceComplete,
		SignKey:             given(change.SignKey),
	}
	_, err := c.call(ctx, req, c.callTimeout, circumstances{}, skipField)
	return err
}

// describe makes a call that only reads, and stores the fields of the reply that are in targets.
func (c *Client) describe(ctx context.Context, action string, subAppID uint64, targets map[string]any) error {
	req := &describeRequest{BaseRequest: newBase(service, version, action), SubAppID: given(subAppID)}
	_, err := c.call(ctx, req, c.callTimeout, circumstances{}, intoFields(targets))
	return err
}

// intoFields stores the fields of a reply that are in targets, which are pointers as json.Unmarshal wants
// them. A field that is missing or null leaves its target as it was.
func intoFields(targets map[string]any) fieldFunc {
	return func(name string, v jsontext.Value) error {
		target, wanted := targets[name]
		if !wanted {
			return nil
		}
		var mismatch *json.UnmarshalTypeError
		if err := json.Unmarshal(v, target); errors.As(err, &mismatch) {
			return shapeError("the reply's " + name + " is not of the documented type")
		} else if err != nil {
			return errNotJSON
		}
		return nil
	}
}
