package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/vodrelay/vodrelay/pkg/emulator"
)

const (
	application = 1500000001
	topic       = "vod-events"
)

// worldOptions say what a world is like.
type worldOptions struct {
	Latency  time.Duration // round trip to the emulator
	Quota    bool          // 100 requests per second for each API; otherwise none
	Kafka    bool
	PushURL  string // where PUSH mode posts to; empty: PULL mode
	SignKey  string
	Receiver string // how the webhook answers at first: receiveOK, receiveDown or receiveHang
}

// The ways of the webhook's receiver.
const (
	receiveOK   = "ok"
	receiveDown = "down" // 503
	receiveHang = "hang" // no answer until the client gives up
)

// worldReport is what has happened in a world. Times are Unix nanoseconds, 0 for never.
type worldReport struct {
	Pulls, Confirms, Throttled int64
	FirstPull, LastPull        int64
	LastConfirm                int64
	Confirmed                  int64
	// Accepted are the webhook's requests that were answered with 204, Distinct their events.
	Accepted, Distinct        int64
	FirstAccepted, LastAccept int64
	Kafka                     int64           // records
	Latencies                 []time.Duration // of the latest stream, sorted
	Missing                   int             // events of the latest stream that did not arrive
}

// addresses are a world's servers.
type addresses struct{ API, Webhook, Control, Kafka string }

// world is everything around a relay: the emulator, the targets, and the clock that measures both ends.
// It runs in a process of its own, so that its work is not on the relay's account.
type world struct {
	emulator *emulator.Server
	calls    calls
	receiver receiver
	kafka    *kfake.Cluster
	seed     atomic.Uint64
}

// runWorld serves until stdin ends, which it does with the process that started it.
func runWorld(text string) error {
	var opts worldOptions
	if err := json.Unmarshal([]byte(text), &opts); err != nil {
		return err
	}
	options := emulator.Options{Seed: 1, Latency: opts.Latency, JournalSize: 1}
	if !opts.Quota {
		options.Quotas = emulator.UnlimitedQuotas()
	}
	if opts.PushURL != "" {
		options.Mode, options.NotificationURL, options.SignKey = emulator.ModePush, opts.PushURL, opts.SignKey
		options.Variants.PushAcknowledge = emulator.AcknowledgeSuccess
		options.JournalSize = 1 << 18
	}
	w := &world{emulator: emulator.New(options)}
	defer w.emulator.Close()
	w.receiver.distinct = make(map[string]struct{})
	w.receiver.sent = make(map[string]time.Time)
	w.receiver.way.Store(opts.Receiver)

	var at addresses
	var err error
	if opts.Kafka {
		if w.kafka, err = kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(3, topic)); err != nil {
			return err
		}
		defer w.kafka.Close()
		at.Kafka = w.kafka.ListenAddrs()[0]
	}
	control := http.NewServeMux()
	control.HandleFunc("/report", func(rw http.ResponseWriter, r *http.Request) { _ = json.NewEncoder(rw).Encode(w.report(r.Context())) })
	control.HandleFunc("/publish", w.publish)
	control.HandleFunc("/receive", func(_ http.ResponseWriter, r *http.Request) { w.receiver.way.Store(r.FormValue("way")) })
	control.HandleFunc("/stream", w.stream)
	control.HandleFunc("/pushes", func(rw http.ResponseWriter, _ *http.Request) { _ = json.NewEncoder(rw).Encode(w.pushes()) })
	for address, handler := range map[*string]http.Handler{
		&at.API: w.calls.counting(w.emulator), &at.Webhook: &w.receiver, &at.Control: control,
	} {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		*address = "http://" + listener.Addr().String()
		server := &http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second}
		defer server.Close()
		go func() { _ = server.Serve(listener) }() // until Close
	}
	if err := json.NewEncoder(os.Stdout).Encode(at); err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

// publish puts generated uploads of 1.5 KB into the queue.
func (w *world) publish(rw http.ResponseWriter, r *http.Request) {
	n, err := strconv.Atoi(r.FormValue("n"))
	if err == nil {
		_, err = w.emulator.Enqueue(application, emulator.GenerateUploads(n, w.seed.Add(1))...)
	}
	if err != nil {
		http.Error(rw, err.Error(), http.StatusBadRequest)
	}
}

// stream publishes events one at a time, independent of each other as uploads are (a Poisson process), and
// returns when all have arrived at the webhook, or after ten seconds more.
func (w *world) stream(rw http.ResponseWriter, r *http.Request) {
	rate, err := strconv.ParseFloat(r.FormValue("rate"), 64)
	if err != nil {
		http.Error(rw, err.Error(), http.StatusBadRequest)
		return
	}
	n, _ := strconv.Atoi(r.FormValue("n"))
	contents := emulator.GenerateUploads(n, w.seed.Add(1))
	ctx, cancel := context.WithTimeout(r.Context(), time.Duration(float64(n)/rate*2*float64(time.Second))+10*time.Second)
	defer cancel()
	w.receiver.beginStream()
	random := rand.New(rand.NewPCG(1, 2))
	due := time.Now()
	for _, content := range contents {
		due = due.Add(time.Duration(random.ExpFloat64() / rate * float64(time.Second)))
		if !sleep(ctx, time.Until(due)) {
			return
		}
		w.receiver.published(fileID(content))
		w.emulator.Publish(application, content)
	}
	for w.receiver.missing() > 0 && sleep(ctx, 10*time.Millisecond) {
	}
}

// pushes is what the journal says of PUSH mode.
type pushes struct{ Acknowledged, First, Last int64 }

func (w *world) pushes() (p pushes) {
	for _, e := range w.emulator.Journal() {
		switch at := e.Time.UnixNano(); {
		case e.Kind == emulator.KindPushed && p.First == 0:
			p.First = at
		case e.Kind == emulator.KindAcknowledged:
			p.Acknowledged, p.Last = p.Acknowledged+1, at
		}
	}
	return p
}

func (w *world) report(ctx context.Context) worldReport {
	counts := w.emulator.Counts()
	r := worldReport{
		Pulls: w.calls.pulls.Load(), Confirms: w.calls.confirms.Load(), Throttled: w.calls.throttled.Load(),
		FirstPull: w.calls.firstPull.Load(), LastPull: w.calls.lastPull.Load(), LastConfirm: w.calls.lastConfirm.Load(),
		Confirmed: counts.Confirmed,
	}
	w.receiver.report(&r)
	if w.kafka != nil {
		r.Kafka = w.records(ctx)
	}
	return r
}

// records counts what is in the topic.
func (w *world) records(ctx context.Context) (n int64) {
	client, err := kgo.NewClient(kgo.SeedBrokers(w.kafka.ListenAddrs()...))
	if err != nil {
		return -1
	}
	defer client.Close()
	request := kmsg.NewListOffsetsRequest()
	request.ReplicaID = -1
	asked := kmsg.NewListOffsetsRequestTopic()
	asked.Topic = topic
	for i := range int32(3) {
		partition := kmsg.NewListOffsetsRequestTopicPartition()
		partition.Partition, partition.Timestamp = i, -1 // the end
		asked.Partitions = append(asked.Partitions, partition)
	}
	request.Topics = append(request.Topics, asked)
	for _, answer := range client.RequestSharded(ctx, &request) {
		response, ok := answer.Resp.(*kmsg.ListOffsetsResponse)
		if !ok {
			return -1
		}
		for _, t := range response.Topics {
			for _, p := range t.Partitions {
				n += p.Offset
			}
		}
	}
	return n
}

// calls counts the requests of the API.
type calls struct {
	pulls, confirms, throttled atomic.Int64
	firstPull, lastPull        atomic.Int64
	lastConfirm                atomic.Int64
}

func (c *calls) counting(next http.Handler) http.Handler {
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		action := r.Header.Get("X-TC-Action")
		switch action {
		case emulator.ActionPullEvents:
			c.pulls.Add(1)
			now := time.Now().UnixNano()
			c.firstPull.CompareAndSwap(0, now)
			c.lastPull.Store(now)
		case emulator.ActionConfirmEvents:
			c.confirms.Add(1)
		}
		next.ServeHTTP(&watching{rw, c}, r)
		if action == emulator.ActionConfirmEvents {
			c.lastConfirm.Store(time.Now().UnixNano())
		}
	})
}

// watching looks for answers that refuse for the quota.
type watching struct {
	http.ResponseWriter
	calls *calls
}

func (w *watching) Write(b []byte) (int, error) {
	if len(b) < 1000 && bytes.Contains(b, []byte(`"RequestLimitExceeded`)) {
		w.calls.throttled.Add(1)
	}
	return w.ResponseWriter.Write(b)
}

// Unwrap is for http.ResponseController.
func (w *watching) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// receiver is the webhook.
type receiver struct {
	way atomic.Value // string

	mu          sync.Mutex
	accepted    int64
	first, last int64
	distinct    map[string]struct{}
	sent        map[string]time.Time // of the stream, not yet arrived
	latencies   []time.Duration
}

func (rc *receiver) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	switch way, _ := rc.way.Load().(string); {
	case err != nil:
		return
	case way == receiveDown:
		rw.WriteHeader(http.StatusServiceUnavailable)
		return
	case way == receiveHang:
		<-r.Context().Done()
		return
	}
	rc.accept(fileID(body), time.Now())
	rw.WriteHeader(http.StatusNoContent)
}

func (rc *receiver) accept(id string, now time.Time) {
	rc.mu.Lock()
	defer rc.mu.Unlock()
	rc.accepted++
	rc.last = now.UnixNano()
	if rc.first == 0 {
		rc.first = rc.last
	}
	rc.distinct[id] = struct{}{}
	if sent, ok := rc.sent[id]; ok {
		rc.latencies = append(rc.latencies, now.Sub(sent))
		delete(rc.sent, id)
	}
}

func (rc *receiver) beginStream() {
	rc.mu.Lock()
	defer rc.mu.Unlock()
	clear(rc.sent)
	rc.latencies = nil
}

func (rc *receiver) published(id string) {
	rc.mu.Lock()
	defer rc.mu.Unlock()
	rc.sent[id] = time.Now()
}

func (rc *receiver) missing() int {
	rc.mu.Lock()
	defer rc.mu.Unlock()
	return len(rc.sent)
}

func (rc *receiver) report(r *worldReport) {
	rc.mu.Lock()
	defer rc.mu.Unlock()
	r.Accepted, r.Distinct, r.FirstAccepted, r.LastAccept = rc.accepted, int64(len(rc.distinct)), rc.first, rc.last
	r.Missing, r.Latencies = len(rc.sent), slices.Sorted(slices.Values(rc.latencies))
}

// fileID is what tells one upload from another.
func fileID(body []byte) string {
	const name = `"FileId":"`
	_, rest, found := bytes.Cut(body, []byte(name))
	if !found {
		return fmt.Sprintf("no FileId in %d bytes", len(body))
	}
	id, _, _ := bytes.Cut(rest, []byte(`"`))
	return string(id)
}

// sleep waits for d, and reports false when ctx ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
