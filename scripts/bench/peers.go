package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"sync"

	jsonv2 "github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/tencentcloud/tencentcloud-sdk-go/tencentcloud/common"
	sdkerrors "github.com/tencentcloud/tencentcloud-sdk-go/tencentcloud/common/errors"
	tchttp "github.com/tencentcloud/tencentcloud-sdk-go/tencentcloud/common/http"
	"github.com/tencentcloud/tencentcloud-sdk-go/tencentcloud/common/profile"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/vodrelay/vodrelay/pkg/emulator"
	"github.com/vodrelay/vodrelay/pkg/event"
)

// The sinks that are compared. A peer's does what vodrelay's does with its defaults: an event counts as
// handled when the target has it.
const (
	sinkStdout  = "stdout"
	sinkFile    = "file" // on the disk (fsync)
	sinkWebhook = "webhook"
	sinkKafka   = "kafka" // acknowledged by all replicas
)

// target takes one event.
type target func(ctx context.Context, body []byte) error

// newTarget makes the target of a peer; where is a path, a URL or a broker.
func newTarget(sink, where string) (target, error) {
	switch sink {
	case sinkStdout:
		var mu sync.Mutex
		return func(_ context.Context, body []byte) error {
			mu.Lock()
			defer mu.Unlock()
			_, err := os.Stdout.Write(append(body, '\n'))
			return err
		}, nil
	case sinkFile:
		f, err := os.OpenFile(where, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		if err != nil {
			return nil, err
		}
		var mu sync.Mutex
		return func(_ context.Context, body []byte) error {
			mu.Lock()
			defer mu.Unlock()
			if _, err := f.Write(append(body, '\n')); err != nil {
				return err
			}
			return f.Sync()
		}, nil
	case sinkWebhook:
		client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64, MaxConnsPerHost: 64}}
		return func(ctx context.Context, body []byte) error {
			request, err := http.NewRequestWithContext(ctx, http.MethodPost, where, bytes.NewReader(body))
			if err != nil {
				return err
			}
			request.Header.Set("Content-Type", "application/json")
			response, err := client.Do(request)
			if err != nil {
				return err
			}
			defer response.Body.Close()
			if _, err := io.Copy(io.Discard, response.Body); err != nil {
				return err
			}
			if response.StatusCode >= http.StatusMultipleChoices {
				return errors.New(response.Status)
			}
			return nil
		}, nil
	case sinkKafka:
		client, err := kgo.NewClient(kgo.SeedBrokers(where), kgo.DefaultProduceTopic(topic))
		if err != nil {
			return nil, err
		}
		return func(ctx context.Context, body []byte) error {
			return client.ProduceSync(ctx, &kgo.Record{Value: body}).FirstErr()
		}, nil
	}
	return nil, fmt.Errorf("no such sink: %s", sink)
}

// endpoint is where the emulator is, as every program here is told.
func endpoint() string { return os.Getenv("VODRELAY_VOD_ENDPOINT") }

// newClient is the SDK as its documentation shows it, for an emulator. transport may be nil.
func newClient(endpoint string, transport http.RoundTripper) (*common.Client, error) {
	at, err := url.Parse(endpoint)
	if err != nil {
		return nil, err
	}
	p := profile.NewClientProfile()
	p.HttpProfile.Scheme, p.HttpProfile.Endpoint = at.Scheme, at.Host
	client := common.NewCommonClient(common.NewCredential(emulator.DefaultSecretID, emulator.DefaultSecretKey), "", p)
	if transport != nil {
		client.WithHttpTransport(transport)
	}
	return client, nil
}

// call makes one call with the SDK's CommonRequest and CommonResponse.
func call(client *common.Client, action string, parameters map[string]any) ([]byte, error) {
	request := tchttp.NewCommonRequest("vod", "2018-07-17", action)
	parameters["SubAppId"] = application
	if err := request.SetActionParameters(parameters); err != nil {
		return nil, err
	}
	response := tchttp.NewCommonResponse()
	if err := client.Send(request, response); err != nil {
		return nil, err
	}
	return response.GetBody(), nil
}

// pulled is one event as a peer gets it.
type pulled struct {
	handle string
	body   []byte
}

// pull makes one poll; an empty queue is no error.
func pull(client *common.Client) ([]pulled, error) {
	body, err := call(client, "PullEvents", map[string]any{})
	var refused *sdkerrors.TencentCloudSDKError
	if errors.As(err, &refused) && refused.Code == "ResourceNotFound" {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var reply struct {
		Response struct{ EventSet []json.RawMessage }
	}
	if err := json.Unmarshal(body, &reply); err != nil {
		return nil, err
	}
	events := make([]pulled, len(reply.Response.EventSet))
	for i, content := range reply.Response.EventSet {
		var e struct{ EventHandle string }
		if err := json.Unmarshal(content, &e); err != nil {
			return nil, err
		}
		events[i] = pulled{e.EventHandle, content}
	}
	return events, nil
}

func confirm(client *common.Client, handles []string) error {
	_, err := call(client, "ConfirmEvents", map[string]any{"EventHandles": handles})
	return err
}

// runLoop is the documented loop: pull, handle, confirm, one after the other.
func runLoop(handle target) error {
	client, err := newClient(endpoint(), nil)
	if err != nil {
		return err
	}
	for {
		events, err := pull(client)
		if err != nil {
			return err
		}
		handles := make([]string, 0, len(events))
		for _, e := range events {
			if err := handle(context.Background(), e.body); err != nil {
				return err
			}
			handles = append(handles, e.handle)
		}
		if len(handles) == 0 {
			continue
		}
		if err := confirm(client, handles); err != nil {
			return err
		}
	}
}

// handlesOf looks for nothing in a reply but the handles.
func handlesOf(reply []byte) (handles []string, err error) {
	for rest, found := reply, true; found; {
		if _, rest, found = bytes.Cut(rest, []byte(`"EventHandle":"`)); found {
			handle, _, _ := bytes.Cut(rest, []byte(`"`))
			handles = append(handles, string(handle))
		}
	}
	return handles, nil
}

// printed does for each event of a reply what cannot be left out, with vodrelay's own code: it is parsed, gets
// its ID, is written as the callback's body, and all of them are printed at once. Nothing is retried or limited,
// no two at a time, and nothing is noticed that goes wrong.
func printed(reply []byte) (handles []string, err error) {
	var parsed struct {
		Response struct{ EventSet []jsontext.Value }
	}
	if err := jsonv2.Unmarshal(reply, &parsed); err != nil {
		return nil, err
	}
	var lines []byte
	for _, content := range parsed.Response.EventSet {
		e, handle, err := event.Decode(content, application)
		if err != nil {
			return nil, err
		}
		message, err := event.FormatCallback.Encode(e)
		if err != nil {
			return nil, err
		}
		handles = append(handles, handle)
		lines = append(append(lines, message.Body...), '\n')
	}
	_, err = os.Stdout.Write(lines)
	return handles, err
}

// runFloor pulls and confirms with the SDK's signature, and does nothing else but what each does for a reply,
// which returns its handles. It reads replies below the SDK, which would parse them several times.
func runFloor(concurrency int, each func(reply []byte) ([]string, error)) error {
	failed := make(chan error, concurrency)
	base := &http.Transport{MaxIdleConnsPerHost: concurrency}
	for range concurrency {
		under := &reading{base: base}
		client, err := newClient(endpoint(), under)
		if err != nil {
			return err
		}
		go func() {
			for {
				if _, err := call(client, "PullEvents", map[string]any{}); err != nil {
					failed <- err
					return
				}
				handles, err := each(under.body)
				if err == nil && len(handles) > 0 {
					err = confirm(client, handles)
				}
				if err != nil {
					failed <- err
					return
				}
			}
		}()
	}
	return <-failed
}

// reading keeps the body of the latest reply, and gives the SDK a short one in its place.
type reading struct {
	base http.RoundTripper
	body []byte
}

func (r *reading) RoundTrip(request *http.Request) (*http.Response, error) {
	response, err := r.base.RoundTrip(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	buf := bytes.NewBuffer(r.body[:0])
	_, err = buf.ReadFrom(response.Body)
	r.body = buf.Bytes()
	response.Body = io.NopCloser(bytes.NewReader([]byte(`{"Response":{"RequestId":"-"}}`)))
	return response, err
}
