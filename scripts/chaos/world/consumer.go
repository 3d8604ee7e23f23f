package world

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strconv"
	"time"
)

// consumer is somebody else who uses the same queue. What it confirms is its own to answer for.
type consumer struct {
	world  *World
	random *rand.Rand
	share  float64 // of the events that it confirms
}

// run pulls until ctx ends. Its calls go to the emulator itself and may fail, as the emulator's faults have it.
func (c *consumer) run(ctx context.Context) {
	for ctx.Err() == nil {
		var answer struct {
			EventSet []struct{ EventHandle string }
		}
		_ = c.call(ctx, "PullEvents", map[string]any{"SubAppId": application}, &answer)
		var handles []string
		for _, e := range answer.EventSet {
			if e.EventHandle != "" && c.random.Float64() < c.share {
				c.world.ledger.Took(e.EventHandle)
				handles = append(handles, e.EventHandle)
			}
		}
		if len(handles) > 0 {
			_ = c.call(ctx, "ConfirmEvents", map[string]any{"SubAppId": application, "EventHandles": handles}, nil)
		}
		pause(ctx, 200*time.Millisecond)
	}
}

// call makes one signed request (TC3-HMAC-SHA256). response gets what is in Response.
func (c *consumer) call(ctx context.Context, action string, parameters, response any) error {
	body, err := json.Marshal(parameters)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+c.world.emulator.address+"/", bytes.NewReader(body))
	if err != nil {
		return err
	}
	const contentType = "application/json; charset=utf-8"
	now := time.Now().UTC()
	stamp, scope := strconv.FormatInt(now.Unix(), 10), now.Format(time.DateOnly)+"/vod/tc3_request"
	sum := func(text []byte) string { s := sha256.Sum256(text); return hex.EncodeToString(s[:]) }
	canonical := fmt.Sprintf("POST\n/\n\ncontent-type:%s\nhost:%s\n\ncontent-type;host\n%s", contentType, request.Host, sum(body))
	id, key := c.world.key()
	signature := []byte("TC3" + key)
	for _, text := range []string{now.Format(time.DateOnly), "vod", "tc3_request", "TC3-HMAC-SHA256\n" + stamp + "\n" + scope + "\n" + sum([]byte(canonical))} {
		mac := hmac.New(sha256.New, signature)
		mac.Write([]byte(text))
		signature = mac.Sum(nil)
	}
	request.Header.Set("Content-Type", contentType)
	request.Header.Set("X-TC-Action", action)
	request.Header.Set("X-TC-Version", "2018-07-17")
	request.Header.Set("X-TC-Timestamp", stamp)
	request.Header.Set("Authorization", fmt.Sprintf("TC3-HMAC-SHA256 Credential=%s/%s, SignedHeaders=content-type;host, Signature=%x", id, scope, signature))
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil || response == nil {
		return err
	}
	return json.Unmarshal(text, &struct{ Response any }{response})
}

// pause waits for d or the end of ctx.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
