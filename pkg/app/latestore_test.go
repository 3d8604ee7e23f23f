//go:build unix

package app_test

import (
	"io"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"github.com/vodrelay/vodrelay/pkg/app"
	"github.com/vodrelay/vodrelay/pkg/config"
	"github.com/vodrelay/vodrelay/pkg/retry"
	"github.com/vodrelay/vodrelay/pkg/store"
	"github.com/vodrelay/vodrelay/pkg/store/pgtest"
)

// What no retry can cure ends a run also when it shows later than at the start.
func TestAStoreThatCannotBeOpenedAfterAllEndsTheRun(t *testing.T) {
	server := pgtest.Start(t)
	cfg, err := config.Load(config.LoadOptions{NoFile: true, Environ: []string{
		"VODRELAY_VOD_ENDPOINT=http://127.0.0.1:1", "VODRELAY_ADMIN_LISTEN=",
		"VODRELAY_VOD_CREDENTIALS_PROVIDER=static", "VODRELAY_VOD_CREDENTIALS_SECRET_ID=a", "VODRELAY_VOD_CREDENTIALS_SECRET_KEY=b",
		"VODRELAY_STORE_DRIVER=postgres", "VODRELAY_STORE_URL=" + server.URL("postgres"),
	}})
	require.NoError(t, err)
	made, err := store.Open(t.Context(), cfg.Store, nil)
	require.NoError(t, err)
	require.NoError(t, made.Close(t.Context()))
	server.Order(`UPDATE vodrelay_schema SET version = 99`)
	server.Stop()
	a, err := app.New(t.Context(), cfg, zap.NewNop(), io.Discard)
	require.NoError(t, err)
	require.ErrorContains(t, a.StoreErr(), "not open yet")
	ended := make(chan error, 1)
	go func() { ended <- a.Run(t.Context()) }()

	server.Run()
	select {
	case err := <-ended:
		require.ErrorIs(t, err, store.ErrSchema)
		require.True(t, retry.IsPermanent(err))
	case <-time.After(time.Minute):
		t.Fatal("it goes on without a store that it can never open")
	}
	require.NoError(t, a.Close(t.Context()))
}
