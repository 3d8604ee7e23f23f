package app_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/vodrelay/vodrelay/pkg/admin"
	"github.com/vodrelay/vodrelay/pkg/app"
	"github.com/vodrelay/vodrelay/pkg/config"
	"github.com/vodrelay/vodrelay/pkg/emulator"
)

// assembled is the whole program but for the process, against an emulator over real sockets.
type assembled struct {
	*app.App
	t     *testing.T
	cfg   *config.Config
	cloud *emulator.Server
	logs  *observer.ObservedLogs
	url   string // of the admin server
}

// assemble builds an application whose configuration has these sinks, in YAML, and further variables of the
// environment.
func assemble(t *testing.T, sinks string, environ ...string) *assembled {
	t.Helper()
	a := &assembled{t: t, cloud: emulator.New(emulator.Options{Seed: 1, Quotas: emulator.UnlimitedQuotas()})}
	serve := func(f func(net.Listener) error, end func()) string {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		done := make(chan error, 1)
		go func() { done <- f(l) }()
		t.Cleanup(func() { end(); require.NoError(t, <-done) })
		return l.Addr().String()
	}
	api := serve(a.cloud.Serve, a.cloud.Close)
	free, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, free.Close())
	a.url = "http://" + free.Addr().String()
	placed := func(v string) bool {
		return strings.HasPrefix(v, "VODRELAY_STORE_PATH=") || strings.HasPrefix(v, "VODRELAY_STORE_DRIVER=")
	}
	if !slices.ContainsFunc(environ, placed) {
		environ = append(environ, "VODRELAY_STORE_PATH="+filepath.Join(t.TempDir(), "store.db"))
	}
	cfg, err := config.Load(config.LoadOptions{NoFile: true, Environ: append([]string{
		"VODRELAY_VOD_ENDPOINT=http://" + api,
		"VODRELAY_VOD_CREDENTIALS_PROVIDER=static",
		"VODRELAY_VOD_CREDENTIALS_SECRET_ID=" + emulator.DefaultSecretID,
		"VODRELAY_VOD_CREDENTIALS_SECRET_KEY=" + emulator.DefaultSecretKey,
		fmt.Sprint("VODRELAY_VOD_SUB_APP_IDS=", chaosApp),
		"VODRELAY_VOD_RATE_LIMIT=10000",
		"VODRELAY_ADMIN_LISTEN=" + free.Addr().String(),
		"VODRELAY_SINKS=" + sinks,
	}, environ...)})
	require.NoError(t, err)
	a.cfg = cfg
	var core zapcore.Core
	core, a.logs = observer.New(zapcore.InfoLevel)
	a.App, err = app.New(t.Context(), cfg, zap.New(core), io.Discard)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, a.Close(context.Background())) })
	return a
}

// run runs it until the function that it returns is called, at the latest when the test ends.
func (a *assembled) run() (stop func()) {
	a.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	require.NoError(a.t, a.Listen(ctx))
	go func() { done <- a.Run(ctx) }()
	stopped := false
	stop = func() {
		cancel()
		if !stopped {
			stopped = true
			require.NoError(a.t, <-done)
		}
	}
	a.t.Cleanup(stop)
	return stop
}

func (a *assembled) publish(n int, seed uint64) {
	a.cloud.Publish(chaosApp, emulator.GenerateUploads(n, seed)...)
}

func (a *assembled) eventually(what string, cond func() bool) {
	a.t.Helper()
	require.Eventually(a.t, cond, time.Minute, 10*time.Millisecond, what)
}

func (a *assembled) status() admin.Status {
	a.t.Helper()
	var st admin.Status
	require.NoError(a.t, fetchJSON(a.t, a.url+"/status", &st))
	return st
}
