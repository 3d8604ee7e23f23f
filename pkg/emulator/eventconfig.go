package emulator

import "time"

// eventConfig is an application's callback configuration
// (https://www.tencentcloud.com/document/product/266/57589).
type eventConfig struct {
	mode        string // what DescribeEventConfig answers
	before      string // the mode in effect until effectiveAt
	effectiveAt time.Time

	notificationURL   string
	uploadSwitch      string
	deleteSwitch      string
	persistenceSwitch string
	signKey           string
}

const (
	switchOn  = "ON"
	switchOff = "OFF"
)

func newEventConfig(o *Options) eventConfig {
	return eventConfig{mode: o.Mode, before: o.Mode, notificationURL: o.NotificationURL, signKey: o.SignKey,
		uploadSwitch: switchOn, deleteSwitch: switchOn, persistenceSwitch: switchOn}
}

// modeAt returns the mode in effect.
func (c *eventConfig) modeAt(now time.Time) string {
	if now.Before(c.effectiveAt) {
		return c.before
	}
	return c.mode
}

func (c *eventConfig) setMode(mode string, now time.Time, delay time.Duration) {
	c.before = c.modeAt(now)
	c.mode = mode
	c.effectiveAt = now.Add(delay)
}

// eventConfigChange is a ModifyEventConfig; nil fields were not sent.
type eventConfigChange struct {
	mode, notificationURL, uploadSwitch, deleteSwitch, persistenceSwitch, signKey *string
}

func (c *eventConfigChange) validate() *apiError {
	if c.mode != nil && !oneOf(*c.mode, ModePull, ModePush) {
		return refuse(codeInvalidParameterValue, "Mode must be PUSH or PULL.")
	}
	for _, s := range []*string{c.uploadSwitch, c.deleteSwitch, c.persistenceSwitch} {
		if s != nil && !oneOf(*s, switchOn, switchOff) {
			return refuse(codeInvalidParameterValue, "A switch must be ON or OFF.")
		}
	}
	if c.signKey != nil && !validSignKey(*c.signKey) {
		return refuse(codeInvalidParameterValue, "SignKey must be at most 32 letters and digits.")
	}
	if c.notificationURL != nil && checkURL(*c.notificationURL) != nil {
		return refuse(codeInvalidParameterValue, "NotificationUrl must be an HTTP or HTTPS URL.")
	}
	return nil
}

func validSignKey(key string) bool {
	for _, r := range key {
		if (r < '0' || r > '9') && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z') {
			return false
		}
	}
	return len(key) <= 32
}

// apply makes the change. A switch that was not sent turns off, as the
// documentation's default says; the other fields stay.
func (c *eventConfig) apply(change eventConfigChange, now time.Time, delay time.Duration) {
	if change.mode != nil && *change.mode != c.mode {
		c.setMode(*change.mode, now, delay)
	}
	for _, f := range []struct {
		to       *string
		value    *string
		fallback string
	}{
		{&c.notificationURL, change.notificationURL, c.notificationURL},
		{&c.signKey, change.signKey, c.signKey},
		{&c.uploadSwitch, change.uploadSwitch, switchOff},
		{&c.deleteSwitch, change.deleteSwitch, switchOff},
		{&c.persistenceSwitch, change.persistenceSwitch, switchOff},
	} {
		if *f.to = f.fallback; f.value != nil {
			*f.to = *f.value
		}
	}
}
