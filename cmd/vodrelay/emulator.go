package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"time"

	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"github.com/vodrelay/vodrelay/pkg/app"
	"github.com/vodrelay/vodrelay/pkg/config"
	"github.com/vodrelay/vodrelay/pkg/emulator"
	"github.com/vodrelay/vodrelay/pkg/safetext"
)

func newEmulator(p *program) *cobra.Command {
	var (
		listen    string
		subAppID  uint64
		uploads   int
		perSecond float64
		file      string
		unlimited bool
		allTypes  bool
		variants  []string
		opts      emulator.Options
	)
	cmd := &cobra.Command{
		Use:   "emulator",
		Short: "Run the VOD event API on this machine",
		Long: `Run an emulator of the VOD event API: PullEvents, ConfirmEvents,
DescribeEventsState, DescribeEventConfig and ModifyEventConfig, with signatures,
30 s leases, long polls and quotas, for tests of vodrelay or of your own
consumer in any language: the requests of the vendor's SDKs are accepted, and a
wrong signature is logged with what should have been signed. An example in
Node.js is in configs/examples/nodejs. Its control API publishes events, shows
counts and the journal, and injects faults:

  curl http://127.0.0.1:9090/_emulator/

It asks for no credentials there, so it listens on this machine only unless
--listen says otherwise. Web pages of other sites cannot use it: it answers to IP
addresses, localhost and names of the network, such as a container's.

Where VOD's documentation leaves open what the service does, the emulator takes
one answer, and --variant another one:

  vodrelay emulator --variant list
  vodrelay emulator --variant empty-null,handle-same`,
		Args: arguments(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if slices.Equal(variants, []string{"list"}) {
				return listVariants(p.stdout)
			}
			_, _, err := net.SplitHostPort(listen)
			switch {
			case err != nil:
				return &exitError{exitUsage, fmt.Errorf("--listen: %q: write host:port, such as 127.0.0.1:9090", listen)}
			case uploads < 0:
				return &exitError{exitUsage, fmt.Errorf("--uploads: %d: must be 0 or more", uploads)}
			case perSecond < 0:
				return &exitError{exitUsage, fmt.Errorf("--rate: %g: must be 0 or more events per second", perSecond)}
			}
			if err := chooseVariants(&opts, variants, subAppID); err != nil {
				return &exitError{exitUsage, err}
			}
			log, err := app.NewLogger(config.Log{Level: "info", Format: "auto"}, p.stderr)
			if err != nil {
				return err
			}
			defer func() { _ = log.Sync() }() // the process ends
			opts.OnWrongSignature = wrongSignature(log.Logger)
			if unlimited {
				opts.Quotas = emulator.UnlimitedQuotas()
			}
			if err := opts.Validate(); err != nil {
				return &exitError{exitUsage, err}
			}
			server := emulator.New(opts)
			defer server.Close()
			generation := emulator.Generation{Count: uploads, Seed: opts.Seed, Types: opts.Variants.GeneratedTypes()}
			if allTypes {
				generation.Types = []string{emulator.TypesAll}
			}
			if err := publishAtStart(server, subAppID, generation, file); err != nil {
				return &exitError{exitUsage, err}
			}
			listener, err := (&net.ListenConfig{}).Listen(cmd.Context(), "tcp", listen)
			if err != nil {
				if failed := new(net.OpError); errors.As(err, &failed) { // it would name the address again
					err = failed.Err
				}
				return fmt.Errorf("--listen: %s: %w", listen, err)
			}
			url := "http://" + listener.Addr().String()
			fmt.Fprintf(log, "The VOD event API is at %s, its control API at %s/_emulator/. To relay from it:\n\n"+
				"  export TENCENTCLOUD_SECRET_ID=%s TENCENTCLOUD_SECRET_KEY=%s\n"+
				"  export VODRELAY_VOD_ENDPOINT=%s VODRELAY_VOD_SUB_APP_IDS=%d\n"+
				"  vodrelay run\n\n", url, url, emulator.DefaultSecretID, emulator.DefaultSecretKey, url, subAppID)
			ctx, unwatch := untilSignal(cmd.Context(), log.Logger, func(context.Context) {})
			defer unwatch()
			return serveEmulator(ctx, server, listener, log.Logger, subAppID, perSecond, generation)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&listen, "listen", "127.0.0.1:9090", "address to listen on; port 0 takes a free one")
	flags.Uint64Var(&subAppID, "sub-app-id", 1500000001, "application that events are published for; others work as well")
	flags.IntVar(&uploads, "uploads", 0, "publish this many generated events at start")
	flags.Float64Var(&perSecond, "rate", 0, "publish this many generated events per second")
	flags.Uint64Var(&opts.Seed, "seed", 1, "seed of everything that is generated")
	flags.StringVar(&file, "file", "", "publish the events of a file of JSON lines at start; - reads standard input")
	flags.DurationVar(&opts.Latency, "latency", 0, "time added to every request, as a network's round trip")
	flags.BoolVar(&unlimited, "no-quota", false, "do not limit the requests per second")
	flags.BoolVar(&allTypes, "all-types", false, "generate every documented type and an unknown one, not uploads only")
	flags.DurationVar(&opts.Lease, "lease", 30*time.Second, "time in which a pulled event can be confirmed")
	flags.DurationVar(&opts.Retention, "retention", 4*24*time.Hour, "time that an unconfirmed event is kept")
	flags.DurationVar(&opts.ModeDelay, "mode-delay", 0, "time until a change of the callback mode takes effect")
	flags.IntVar(&opts.JournalSize, "journal", 1<<16, "entries of the journal that are kept")
	flags.StringSliceVar(&variants, "variant", nil, "what to do where the documentation is open, by name; list shows all")
	_ = cmd.RegisterFlagCompletionFunc("variant", cobra.FixedCompletions(variantNames(), cobra.ShellCompDirectiveNoFileComp)) // the flag exists
	return cmd
}

// wrongSignature logs what a client should have signed.
func wrongSignature(log *zap.Logger) func(emulator.WrongSignature) {
	const longest = 4096
	return func(w emulator.WrongSignature) {
		log.Warn("a signature is wrong: it should be made of these, with the SecretKey of this SecretId", zap.String("action", w.Action),
			zap.String("secret_id", safetext.Cut(w.SecretID, longest)), zap.String("host", safetext.Cut(w.Host, longest)),
			zap.String("canonical_request", safetext.Cut(w.CanonicalRequest, longest)), zap.String("string_to_sign", safetext.Cut(w.StringToSign, longest)))
	}
}

func publishAtStart(server *emulator.Server, subAppID uint64, generation emulator.Generation, file string) error {
	contents, err := emulator.Generate(generation)
	if err != nil {
		return err
	}
	if _, err := server.Enqueue(subAppID, contents...); err != nil {
		return err
	}
	if file == "" {
		return nil
	}
	in := os.Stdin
	if file != "-" {
		if in, err = os.Open(file); err != nil {
			return fmt.Errorf("--file: %w", err)
		}
		defer func() { _ = in.Close() }() // only read
	}
	return publishLines(server, subAppID, in)
}

// publishLines publishes one event for each line of JSON.
func publishLines(server *emulator.Server, subAppID uint64, in io.Reader) error {
	const longest = 10 << 20
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, longest)
	for n := 1; lines.Scan(); n++ {
		if len(lines.Bytes()) == 0 {
			continue
		}
		if _, err := server.Enqueue(subAppID, json.RawMessage(lines.Text())); err != nil {
			return fmt.Errorf("--file: line %d: %w", n, err)
		}
	}
	if errors.Is(lines.Err(), bufio.ErrTooLong) {
		return fmt.Errorf("--file: a line is longer than %d bytes", longest)
	}
	return lines.Err()
}

// serveEmulator serves, and publishes perSecond uploads per second, until ctx is done.
func serveEmulator(ctx context.Context, server *emulator.Server, listener net.Listener, log *zap.Logger, subAppID uint64, perSecond float64, generation emulator.Generation) error {
	stop := context.AfterFunc(ctx, server.Close)
	defer stop()
	if perSecond > 0 {
		ctx, cancel := context.WithCancel(ctx)
		published := make(chan struct{})
		go func() {
			defer close(published)
			publishSteadily(ctx, server, log, subAppID, perSecond, generation)
		}()
		defer func() { cancel(); <-published }()
	}
	return server.Serve(listener)
}

// publishSteadily publishes events at a rate, ten times a second at most: those after generation.
func publishSteadily(ctx context.Context, server *emulator.Server, log *zap.Logger, subAppID uint64, perSecond float64, generation emulator.Generation) {
	started, published := time.Now(), 0
	every(ctx, max(100*time.Millisecond, time.Duration(float64(time.Second)/perSecond)), func() {
		due := int(time.Since(started).Seconds()*perSecond) - published
		if due <= 0 {
			return
		}
		generation.Seed++
		generation.Count = min(due, emulator.MaxGenerated)
		contents, err := emulator.Generate(generation)
		if err == nil {
			_, err = server.Enqueue(subAppID, contents...)
		}
		if err != nil {
			log.Warn("cannot publish", zap.Error(err))
			return
		}
		published += due
	})
}
