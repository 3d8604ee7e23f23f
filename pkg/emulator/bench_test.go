package emulator

import (
	"encoding/json"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
)

// BenchmarkPullConfirm measures whole HTTP round trips over loopback; the
// client of the tests takes part of the time.
func BenchmarkPullConfirm(b *testing.B) {
	s := New(Options{Quotas: UnlimitedQuotas(), Hold: -1})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	transport := &http.Transport{MaxIdleConnsPerHost: 16}
	defer func() {
		transport.CloseIdleConnections()
		s.Close()
		<-served
	}()
	c := &testClient{url: "http://" + l.Addr().String(), http: &http.Client{Transport: transport}, id: DefaultSecretID, key: DefaultSecretKey}
	events := GenerateUploads(1000, 1)
	for n := 0; n < b.N; n += len(events) {
		s.Publish(testApp, events[:min(len(events), b.N-n)]...)
	}
	b.ReportAllocs()
	b.ResetTimer()
	var group sync.WaitGroup
	var done atomic.Int64
	for range 4 {
		group.Go(func() {
			for done.Load() < int64(b.N) {
				a, err := c.raw(b.Context(), ActionPullEvents, appBody(testApp))
				if err != nil {
					b.Error(err)
					return
				}
				var answer struct {
					Response struct {
						EventSet []struct{ EventHandle string }
					}
				}
				if err := json.Unmarshal(a.Body, &answer); err != nil {
					b.Error(err)
					return
				}
				handles := make([]string, 0, 16)
				for _, e := range answer.Response.EventSet {
					handles = append(handles, e.EventHandle)
				}
				if len(handles) == 0 {
					continue
				}
				body, _ := json.Marshal(map[string]any{"EventHandles": handles, "SubAppId": testApp})
				if _, err := c.raw(b.Context(), ActionConfirmEvents, string(body)); err != nil {
					b.Error(err)
					return
				}
				done.Add(int64(len(handles)))
			}
		})
	}
	group.Wait()
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
	if s.Counts().Confirmed != int64(b.N) {
		b.Fatal("events are left")
	}
}

// BenchmarkQueue measures the queue alone.
func BenchmarkQueue(b *testing.B) {
	s := New(Options{})
	defer s.Close()
	app, _ := s.queues.application(testApp)
	events := GenerateUploads(16, 1)
	var out []byte
	handles := make([]string, 16)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.queues.publish(app, events); err != nil {
			b.Fatal(err)
		}
		p, err := s.queues.pull(b.Context(), app, 0, false, out[:0])
		if err != nil || p.count != 16 {
			b.Fatal(err, p.count)
		}
		out = p.json
		last := s.queues.last
		for i := range handles {
			handles[i] = string(s.handles.append(nil, delivery{event: last - 15 + int64(i), app: app.index, count: 1}))
		}
		if err := s.queues.confirm(app, handles); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N)*16/b.Elapsed().Seconds(), "events/s")
}
