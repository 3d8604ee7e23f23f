// Package sinktest is the contract that every sink keeps, as a test suite: what Send promises when it
// returns nil, and what its errors say when it does not. The test of a sink calls Run with a function that
// makes the sink and its target.
package sinktest

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/vodrelay/vodrelay/pkg/event"
	"github.com/vodrelay/vodrelay/pkg/retry"
	"github.com/vodrelay/vodrelay/pkg/safetext"
)

// Sink is pipeline.Sink.
type Sink interface {
	Send(ctx context.Context, e event.Event) error
	Close(ctx context.Context) error
}

// checker is what a Sink may have besides: a test of the target that sends no event.
type checker interface {
	Check(ctx context.Context) error
}

// Harness is one sink with a target of its own, both fresh. What it starts it also ends, with t.Cleanup.
type Harness struct {
	// Sink is under test, in format callback. Run closes it. If it has a method Check, that is tested too.
	Sink Sink
	// Received returns the bodies that the target holds, in any order. It is called after Send or Close
	// has returned, possibly after Close.
	Received func(t *testing.T) [][]byte
	// IDs returns what a reader of the target knows an event by that comes again, one for each body that the
	// target holds, in any order. nil: a reader is shown none.
	IDs func(t *testing.T) []string
	// Shown says that people read what the target holds: what cannot be seen is escaped, which means the same.
	Shown bool
	// Deduplicates says that the target keeps an event once, however often it is sent.
	Deduplicates bool
	// Break makes the target fail until Mend, as in an outage. Optional, both or none.
	Break, Mend func(t *testing.T)
	// BlindCheck says that Check cannot see what Break does.
	BlindCheck bool
	// Stall makes the target take what it is sent but not answer, until the returned function is called.
	// Optional.
	Stall func(t *testing.T) (resume func())
	// Strand leaves the connections that there are without answers and without an end; new ones work. Optional.
	Strand func(t *testing.T)
	// Mistakes are those of an operator that can be staged at the target. Each is corrected before the next.
	Mistakes []Mistake
	// Refused are events that are themselves to blame, by the reason why the target never takes them.
	Refused map[string]event.Event
	// MaxBody is the most bytes that the target takes in one event; 0 means that it takes 5 MB.
	MaxBody int
	// Secrets must appear in no error, such as the password of the target.
	Secrets []string
}

// Mistake is one of an operator, such as a right that was withdrawn. While it lasts every event fails; after Fix
// each is accepted.
type Mistake struct {
	Name      string
	Make, Fix func(t *testing.T)
}

// Limits of time. They are generous since they only bound a failure.
const (
	prompt  = 5 * time.Second  // a cancelled Send returns within it
	patient = 30 * time.Second // anything that may depend on a real server, and the return of a sink
)

// Run checks the contract, with a new harness for each part of it. The options are passed to goleak, for
// goroutines that belong to a target which outlives the harness.
func Run(t *testing.T, newSink func(t *testing.T) Harness, options ...goleak.Option) {
	t.Helper()
	for _, part := range []struct {
		name string
		test func(t *testing.T, h Harness)
	}{
		{"EveryByteArrives", everyByteArrives},
		{"SentTwice", sentTwice},
		{"Deduplication", deduplication},
		{"Concurrent", concurrent},
		{"Huge", huge},
		{"Cancelled", cancelled},
		{"Stalled", stalled},
		{"Stranded", stranded},
		{"Outage", outage},
		{"Mistakes", mistakes},
		{"Refused", refused},
		{"Check", check},
		{"Close", closing},
	} {
		t.Run(part.name, func(t *testing.T) {
			leaks := append([]goleak.Option{goleak.IgnoreCurrent()}, options...)
			t.Cleanup(func() { goleak.VerifyNone(t, leaks...) }) // runs after the harness's own cleanups
			h := newSink(t)
			t.Cleanup(func() {
				ctx, cancel := context.WithTimeout(context.Background(), patient)
				defer cancel()
				_ = h.Sink.Close(ctx) // harmless where the part has closed it already: that is in the contract
			})
			part.test(t, h)
		})
	}
}

// Upload is the i-th of many different NewFileUpload events, as a target would see them.
func Upload(i int) event.Event {
	return decode(fmt.Sprintf(`{"EventType":"NewFileUpload","FileUploadEvent":{"FileId":"%d",`+
		`"MediaBasicInfo":{"Name":"clip %d","MediaUrl":"http://example.com/%d.mp4","Type":"mp4"},"ProcedureTaskId":""}}`,
		5285890784273533167+i, i, i))
}

// OddEvents are events whose bytes a careless target changes, or whose kind it does not expect.
func OddEvents() map[string]event.Event {
	return map[string]event.Event{
		"numbers": decode(`{"EventType":"NewFileUpload","FileUploadEvent":{"FileId":"1","MetaData":` +
			`{"Size":9007199254740993,"Duration":0.10,"Bitrate":1e21,"Rotate":-0,"Width":18446744073709551616}}}`),
		"markup":      decode(`{"EventType":"NewFileUpload","FileUploadEvent":{"FileId":"2","MediaBasicInfo":{"Name":"a<b>&'c'"}}}`),
		"separators":  decode("{\"EventType\":\"NewFileUpload\",\"FileUploadEvent\":{\"FileId\":\"3\",\"MediaBasicInfo\":{\"Name\":\"x\u2028y\u2029z\"}}}"),
		"emoji":       decode(`{"EventType":"NewFileUpload","FileUploadEvent":{"FileId":"4","MediaBasicInfo":{"Name":"动物世界 🎬 e\u0301"}}}`),
		"escapes":     decode(`{"EventType":"NewFileUpload","FileUploadEvent":{"FileId":"5","MediaBasicInfo":{"Name":"\u0041\/\n\t\"\\"}}}`),
		"nul":         decode(`{"EventType":"NewFileUpload","FileUploadEvent":{"FileId":"6","MediaBasicInfo":{"Name":"a\u0000b"}}}`),
		"field order": decode(`{"FileUploadEvent":{"z":1,"a":2,"FileId":"7"},"EventType":"NewFileUpload"}`),
		"same name":   decode(`{"EventType":"NewFileUpload","FileUploadEvent":{"FileId":"8","FileId":"9"}}`),
		"new type":    decode(`{"EventType":"SomethingInvented","SomethingInventedEvent":{"FileId":7,"x":[1,{"y":[]}]}}`),
		"odd type":    decode(`{"EventType":"类型 \"%\r\nx: y","E":{"TaskId":"251000-a"}}`),
		"no type":     decode(`{"Something":{"FileId":"10"}}`),
		"not JSON":    decode("<html>502\x00\xff</html>"),
		"empty":       decode(`{}`),
		"broken text": decode("{\"EventType\":\"NewFileUpload\",\"FileUploadEvent\":{\"FileId\":\"11\",\"Name\":\"a\xffb\"}}"),
	}
}

// decode ignores the error: an event that is not as documented travels on.
func decode(item string) event.Event {
	e, _, _ := event.Decode([]byte(item), 1500000001)
	return e
}

// sized is an event whose callback body has exactly size bytes.
func sized(t *testing.T, size int) event.Event {
	t.Helper()
	const head, tail = `{"EventType":"NewFileUpload","FileUploadEvent":{"FileId":"1","MediaBasicInfo":{"Description":"`, `"}}}`
	e := decode(head + strings.Repeat("0123456789abcdef", size/16+1)[:size-len(head)-len(tail)] + tail)
	require.Len(t, Body(t, e), size)
	return e
}

// Body is what a target must hold of e.
func Body(t *testing.T, e event.Event) []byte {
	t.Helper()
	body, err := e.CallbackBody()
	require.NoError(t, err)
	require.True(t, json.Valid(body))
	return body
}

// requireReceived checks that the target holds every one of the events, and nothing that is none of them.
func (h Harness) requireReceived(t *testing.T, events ...event.Event) {
	t.Helper()
	copies := make(map[string]int)
	for _, body := range h.Received(t) {
		copies[string(body)]++
	}
	expected := func(e event.Event) string {
		if h.Shown {
			return string(safetext.Text(Body(t, e)))
		}
		return string(Body(t, e))
	}
	for _, e := range events {
		body := expected(e)
		require.Positive(t, copies[body], "the target does not hold %.300s", body)
	}
	for _, e := range events {
		delete(copies, expected(e))
	}
	for body := range copies {
		require.Fail(t, "the target holds what was never sent", "%.300q", body)
	}
}

// requireTransient checks an error for which the event is not to blame.
func (h Harness) requireTransient(t *testing.T, err error) {
	t.Helper()
	require.Error(t, err)
	require.False(t, retry.IsPermanent(err), "must not be permanent: %v", err)
	h.requireNoSecret(t, err)
}

func (h Harness) requireNoSecret(t *testing.T, err error) {
	t.Helper()
	for _, secret := range h.Secrets {
		for _, text := range []string{err.Error(), fmt.Sprintf("%+v", err), retry.Hint(err)} {
			require.NotContains(t, text, secret)
		}
	}
}
