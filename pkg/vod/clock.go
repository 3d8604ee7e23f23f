package vod

import (
	"net/http"
	"time"
)

// MaxSkew is how far this machine's clock may be off: the API refuses a signature whose time differs from its own by
// more. Source: https://cloud.tencent.com/document/product/266/31774 (AuthFailure.SignatureExpire).
const MaxSkew = 5 * time.Minute

// ClockRemedy is what to do about a clock that is off.
const ClockRemedy = "set this machine's clock, for example with chrony or systemd-timesyncd; more than 5 minutes are not accepted"

// clockGrain is what a clock cannot be told apart by: a Date counts whole seconds, and a reply takes some time.
const clockGrain = 2 * time.Second

// Clock compares this machine's clock with the server's, to a second or two.
type Clock struct {
	// Ahead is this machine's time minus the server's; negative: this machine is behind.
	Ahead time.Duration
}

// String says how far the clock is off, and in which direction.
func (c Clock) String() string {
	off := c.Ahead.Abs().Round(time.Second)
	switch {
	case off <= clockGrain:
		return "this machine's clock is within " + clockGrain.String() + " of the server's"
	case c.Ahead < 0:
		return "this machine's clock is " + off.String() + " behind the server's"
	}
	return "this machine's clock is " + off.String() + " ahead of the server's"
}

// clockOf goes by the header Date of a reply; nil: there is none.
func clockOf(ex *exchange) *Clock {
	date, err := http.ParseTime(ex.header.Get("Date"))
	if err != nil {
		return nil
	}
	// What was cut off the server's second is half of one on the average, a little less so that a whole number of
	// seconds stays one when it is rounded.
	return &Clock{Ahead: ex.receivedAt.Sub(date.Add(499 * time.Millisecond))}
}

// Clock is what the latest reply of the API said about this machine's clock. known is false where no reply had a Date.
func (c *Client) Clock() (clock Clock, known bool) {
	if latest := c.clock.Load(); latest != nil {
		return *latest, true
	}
	return Clock{}, false
}
