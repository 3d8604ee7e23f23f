package event

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	cloudevents "github.com/cloudevents/sdk-go/v2/event"
)

// Format is the form in which a sink writes an event.
type Format string

// The formats that every sink knows.
const (
	// FormatCallback is the body that VOD's normal callback would POST, so that a receiver written for it
	// works unchanged: EventContent without EventHandle and without fields whose value is null.
	FormatCallback Format = "callback"
	// FormatCloudEvents is a CloudEvents 1.0 object in JSON, the callback body as its data.
	FormatCloudEvents Format = "cloudevents"
	// FormatCloudEventsBinary is the callback body, the CloudEvents attributes beside it as headers.
	FormatCloudEventsBinary Format = "cloudevents-binary"
)

// Message is an event in one format.
type Message struct {
	ContentType string
	// Attributes are the CloudEvents attributes that travel beside the body, only in
	// FormatCloudEventsBinary. A sink writes them under its protocol's own prefix.
	Attributes []Attribute
	Body       []byte // one JSON object without a line break outside or inside
}

// Attribute is one CloudEvents attribute.
type Attribute struct{ Name, Value string }

// Validate reports a format that does not exist. "" is FormatCallback.
func (f Format) Validate() error {
	switch f {
	case "", FormatCallback, FormatCloudEvents, FormatCloudEventsBinary:
		return nil
	}
	return fmt.Errorf("%q is not a format: use %s, %s or %s", string(f), FormatCallback, FormatCloudEvents, FormatCloudEventsBinary)
}

// Encode writes e in the format. The result is new memory. It fails only for an event whose Raw has not
// the structure of JSON, or a format that Validate refuses.
func (f Format) Encode(e Event) (Message, error) {
	body, err := e.CallbackBody()
	if err != nil {
		return Message{}, err
	}
	switch f {
	case "", FormatCallback:
		return Message{ContentType: "application/json", Body: body}, nil
	case FormatCloudEventsBinary:
		return Message{ContentType: "application/json", Attributes: e.attributes(), Body: body}, nil
	case FormatCloudEvents:
		text, err := e.cloudEvent(body)
		if err != nil {
			return Message{}, fmt.Errorf("event %s as CloudEvent: %w", e.ID, err)
		}
		return Message{ContentType: "application/cloudevents+json; charset=utf-8", Body: text}, nil
	}
	return Message{}, f.Validate()
}

// cloudEvent is e in FormatCloudEvents.
func (e Event) cloudEvent(body []byte) ([]byte, error) {
	ce := cloudevents.New(cloudevents.CloudEventsVersionV1)
	ce.SetID(e.ID)
	ce.SetSource(e.source())
	ce.SetType(e.cloudEventsType())
	if subject := e.Subject(); subject != "" {
		ce.SetSubject(subject)
	}
	if err := ce.SetData(cloudevents.ApplicationJSON, body); err != nil {
		return nil, err
	}
	ce.DataBase64 = false // the SDK would write any []byte as data_base64, but this one is JSON already
	return ce.MarshalJSON()
}

// CallbackBody is the event as VOD's normal callback would send it, on one line.
// Source: https://tencentcloud.com/document/product/266/33948.
func (e Event) CallbackBody() ([]byte, error) {
	body, err := appendWithoutNulls(make([]byte, 0, len(e.Raw)+1), e.Raw) // and a line break, which several sinks add
	if err != nil {
		return nil, fmt.Errorf("event %s: its content is not JSON: %w", e.ID, err)
	}
	return body, nil
}

// Subject is what the event is about: its FileID, else the TaskId of its payload, else "".
func (e Event) Subject() string {
	file, task := e.ids()
	if file != "" {
		return file
	}
	return task
}

// FileID is the file that the event is about: the FileId of its payload, else the only one in its FileIdSet, as in most
// FileDeleted, so that the delete of a file stands beside its upload. It is "" when there are several.
func (e Event) FileID() string {
	file, _ := e.ids()
	return file
}

func (e Event) ids() (file, task string) {
	var ids struct { // raw, so that one of an odd type does not hide the others
		File  json.RawMessage `json:"FileId"`
		Files json.RawMessage `json:"FileIdSet"`
		Task  json.RawMessage `json:"TaskId"`
	}
	if json.Unmarshal(e.Payload(), &ids) != nil {
		return "", ""
	}
	file = text([]byte(ids.File))
	var files []json.RawMessage
	if file == "" && json.Unmarshal(ids.Files, &files) == nil && len(files) == 1 {
		file = text([]byte(files[0]))
	}
	return file, text([]byte(ids.Task))
}

func (e Event) attributes() []Attribute {
	attrs := []Attribute{
		{"specversion", cloudevents.CloudEventsVersionV1},
		{"id", e.ID},
		{"source", e.source()},
		{"type", e.cloudEventsType()},
	}
	if subject := e.Subject(); subject != "" {
		attrs = append(attrs, Attribute{"subject", subject})
	}
	return attrs
}

func (e Event) source() string {
	const host = "//vod.tencentcloudapi.com"
	if e.SubAppID == 0 {
		return host
	}
	return host + "/" + strconv.FormatUint(e.SubAppID, 10)
}

func (e Event) cloudEventsType() string {
	return "com.tencentcloud.vod." + strings.ToValidUTF8(e.Type, "\uFFFD")
}
