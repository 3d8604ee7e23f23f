package emulator

import (
	"bytes"
	"encoding/json"
	"fmt"
	"time"
)

// faultJSON is a Fault in the control API; the delay is a text such as "1.5s".
type faultJSON struct {
	ID          int64     `json:"id,omitempty"`
	Kind        FaultKind `json:"kind"`
	Action      string    `json:"action,omitempty"`
	SubAppID    uint64    `json:"sub_app_id,omitempty"`
	Times       int       `json:"times,omitempty"`
	Rate        float64   `json:"rate,omitempty"`
	Delay       string    `json:"delay,omitempty"`
	Count       int       `json:"count,omitempty"`
	Code        string    `json:"code,omitempty"`
	Message     string    `json:"message,omitempty"`
	ContentType string    `json:"content_type,omitempty"`
	After       bool      `json:"after,omitempty"`
	Hits        int       `json:"hits,omitempty"`
}

// MarshalJSON writes the form of the control API.
func (f Fault) MarshalJSON() ([]byte, error) {
	j := faultJSON{ID: f.ID, Kind: f.Kind, Action: f.Action, SubAppID: f.SubAppID, Times: f.Times, Rate: f.Rate,
		Count: f.Count, Code: f.Code, Message: f.Message, ContentType: f.ContentType, After: f.After, Hits: f.Hits}
	if f.Delay != 0 {
		j.Delay = f.Delay.String()
	}
	return json.Marshal(j)
}

// UnmarshalJSON reads the form of the control API and refuses unknown fields.
func (f *Fault) UnmarshalJSON(b []byte) error {
	var j faultJSON
	decoder := json.NewDecoder(bytes.NewReader(b))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&j); err != nil {
		return err
	}
	*f = Fault{ID: j.ID, Kind: j.Kind, Action: j.Action, SubAppID: j.SubAppID, Times: j.Times, Rate: j.Rate,
		Count: j.Count, Code: j.Code, Message: j.Message, ContentType: j.ContentType, After: j.After, Hits: j.Hits}
	if j.Delay == "" {
		return nil
	}
	delay, err := time.ParseDuration(j.Delay)
	if err != nil {
		return fmt.Errorf("delay: %q is not a duration, write for example 1.5s", j.Delay)
	}
	f.Delay = delay
	return nil
}
