package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"github.com/vodrelay/vodrelay/pkg/app"
	"github.com/vodrelay/vodrelay/pkg/config"
	"github.com/vodrelay/vodrelay/pkg/emulator"
	"github.com/vodrelay/vodrelay/pkg/event"
)

const (
	demoApp      = 1500000001
	demoTime     = time.Minute // a demo that needs longer has failed
	demoRejects  = 7           // the receiver answers every seventh event with 503 at first
	demoLive     = 5           // uploads published while the relay runs
	demoLivePace = 400 * time.Millisecond
)

func newDemo(p *program) *cobra.Command {
	var count int
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "See it work, without an account: emulator, relay and receiver in one command",
		Long: `Run the whole way of an event on this machine: an emulator of the VOD event API
with sample uploads in its queue, the relay, and a webhook receiver that prints
what arrives. Some things go wrong on purpose: the receiver refuses every
seventh event at first, and the reply to one confirm is lost. It ends by itself
and accounts for every event.`,
		Args: arguments(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if count < 1 || count > 10_000 {
				return &exitError{exitUsage, fmt.Errorf("--count: %d: must be between 1 and 10000", count)}
			}
			return p.demo(cmd.Context(), count)
		},
	}
	cmd.Flags().IntVar(&count, "count", 20, "uploads that wait in the queue at the start, up to 10000")
	return cmd
}

func (p *program) demo(ctx context.Context, count int) (err error) {
	log, err := app.NewLogger(config.Log{Level: "warn", Format: "console"}, p.stderr)
	if err != nil {
		return err
	}
	defer func() { _ = log.Sync() }() // nobody is left to be told
	ctx, unwatch := untilSignal(ctx, log.Logger, func(context.Context) {})
	defer unwatch()
	ctx, cancel := context.WithTimeoutCause(ctx, demoTime, errors.New("the demo did not end within a minute"))
	defer cancel()

	cloud := emulator.New(emulator.Options{Seed: 1})
	cloudURL, stopCloud, err := serve(ctx, cloud)
	if err != nil {
		return err
	}
	defer func() { cloud.Close(); stopCloud() }()
	receiver := newReceiver(p.stdout)
	receiverURL, stopReceiver, err := serve(ctx, receiver)
	if err != nil {
		return err
	}
	defer stopReceiver()

	published, err := demoEvents(cloud, count)
	if err != nil {
		return err
	}
	fmt.Fprintf(p.stdout, "A VOD event API (an emulator) is at %s, with %d events in the queue.\n"+
		"A receiver for VOD's callback is at %s.\nThe relay starts between them.\n\n", cloudURL, published, receiverURL)

	started := time.Now()
	if err := p.demoRelay(ctx, log.Logger, cloud, cloudURL, receiverURL, published+demoLive); err != nil {
		return err
	}
	return p.demoSummary(cloud.Counts(), receiver, published+demoLive, time.Since(started))
}

// demoEvents fills the queue: the documented sample, uploads, and one event of every other type, also of
// one that nobody knows.
func demoEvents(cloud *emulator.Server, count int) (published int, err error) {
	sample, err := emulator.Sample(emulator.SampleReliable)
	if err != nil {
		return 0, err
	}
	others, err := emulator.Generate(emulator.Generation{Count: 4, Seed: 2, Types: []string{"ProcedureStateChanged", "TranscodeComplete", "FileDeleted", emulator.TypeUnknown}})
	if err != nil {
		return 0, err
	}
	contents := append([]json.RawMessage{sample}, emulator.GenerateUploads(count, 1)...)
	contents = append(contents, others...)
	if _, err := cloud.Enqueue(demoApp, contents...); err != nil {
		return 0, err
	}
	_, err = cloud.AddFault(emulator.Fault{Kind: emulator.FaultLoseReply, Action: emulator.ActionConfirmEvents})
	return len(contents), err
}

// demoRelay runs the relay as `vodrelay run` would, until the queue has been emptied.
func (p *program) demoRelay(ctx context.Context, log *zap.Logger, cloud *emulator.Server, cloudURL, receiverURL string, expected int) (err error) {
	cfg, err := config.Load(config.LoadOptions{Environ: []string{
		"VODRELAY_VOD_ENDPOINT=" + cloudURL,
		fmt.Sprintf("VODRELAY_VOD_SUB_APP_IDS=%d", demoApp),
		"VODRELAY_VOD_CREDENTIALS_PROVIDER=static",
		"VODRELAY_VOD_CREDENTIALS_SECRET_ID=" + emulator.DefaultSecretID,
		"VODRELAY_VOD_CREDENTIALS_SECRET_KEY=" + emulator.DefaultSecretKey,
		"VODRELAY_STORE_DRIVER=none", // what a demo cannot send it tries again, or shows as lost
		`VODRELAY_SINKS=[{name: receiver, type: webhook, url: "` + receiverURL + `"}]`,
	}, NoFile: true})
	if err != nil {
		return err
	}
	cfg.Admin.Listen = "" // a daemon may run on this machine
	a, err := app.New(ctx, cfg, log, io.Discard)
	if err != nil {
		return err
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTime)
		defer cancel()
		err = errors.Join(err, a.Close(ctx))
	}()
	running, finished := context.WithCancel(ctx)
	defer finished()
	var beside sync.WaitGroup
	beside.Go(func() {
		for seed := uint64(100); seed < 100+demoLive; seed++ {
			select {
			case <-running.Done():
				return
			case <-time.After(demoLivePace):
				cloud.Publish(demoApp, emulator.GenerateUploads(1, seed)...)
			}
		}
	})
	beside.Go(func() {
		every(running, 20*time.Millisecond, func() {
			if cloud.Counts().Confirmed == int64(expected) {
				finished()
			}
		})
	})
	err = a.Run(running)
	finished()
	beside.Wait()
	if err == nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return err
}

func (p *program) demoSummary(counts emulator.Counts, r *receiver, expected int, took time.Duration) error {
	deliveries, refused, distinct := r.counts()
	fmt.Fprintf(p.stdout, `
%4d events were published (%d of them while the relay ran)
%4d arrived at the receiver, in %d requests, of which it refused %d on purpose
%4d were confirmed, in spite of a lost reply; %d are left in the queue
     %s from the start to the last confirm

What to do next:
  vodrelay emulator --rate 5     an event API of your own to try things with, also from
                                 other languages: configs/examples/nodejs has an example
  vodrelay config show           the configuration, every key with its default
  vodrelay check                 with your credentials in TENCENTCLOUD_SECRET_ID and
                                 TENCENTCLOUD_SECRET_KEY and your application in
                                 VODRELAY_VOD_SUB_APP_IDS: is everything ready?
  vodrelay run                   relay your application's events
`, expected, demoLive, distinct, deliveries, refused, counts.Confirmed, counts.Published-counts.Confirmed, took.Round(10*time.Millisecond))
	if distinct != expected || counts.Confirmed != int64(expected) {
		return errors.New("the demo did not account for every event")
	}
	return nil
}

// serve runs a handler on a free port of this machine until the returned function is called.
func serve(ctx context.Context, h http.Handler) (url string, stop func(), err error) {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	server := &http.Server{Handler: h, ReadHeaderTimeout: 5 * time.Second}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = server.Serve(listener) // ends with ErrServerClosed
	}()
	return "http://" + listener.Addr().String(), func() {
		_ = server.Close() // only of a listener that is closed already
		<-ended
	}, nil
}

// receiver is what a team's own endpoint for VOD's callback might be: it prints each event, and is not
// always ready.
type receiver struct {
	out io.Writer

	mu       sync.Mutex
	seen     map[string]bool // accepted, by event ID
	refused  map[string]bool
	requests int
}

func newReceiver(out io.Writer) *receiver {
	return &receiver{out: out, seen: map[string]bool{}, refused: map[string]bool{}}
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, req.Body, 1<<20))
	if err != nil {
		http.Error(w, "cannot read", http.StatusBadRequest)
		return
	}
	e, _, err := event.Decode(body, demoApp)
	if err != nil {
		http.Error(w, "not an event", http.StatusBadRequest)
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.requests++
	if !r.refused[e.ID] && (len(r.seen)+len(r.refused))%demoRejects == demoRejects-1 {
		r.refused[e.ID] = true
		fmt.Fprintf(r.out, "  refused   %-22s %-20s with 503, to see it come again\n", e.Type, e.Subject())
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	r.seen[e.ID] = true
	name := ""
	if upload, err := e.FileUpload(); err == nil {
		name = fmt.Sprintf("%q", upload.MediaBasicInfo.Name)
	}
	fmt.Fprintf(r.out, "  received  %-22s %-20s %s\n", e.Type, e.Subject(), name)
}

func (r *receiver) counts() (requests, refused, distinct int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.requests, len(r.refused), len(r.seen)
}
