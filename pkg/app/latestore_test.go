package app_test

import (
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"github.com/vodrelay/vodrelay/pkg/app"
	"github.com/vodrelay/vodrelay/pkg/config"
	"github.com/vodrelay/vodrelay/pkg/store"
)

// What no retry can cure ends a run also when it shows later than at the start.
func TestAStoreThatCannotBeOpenedAfterAllEndsTheRun(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	require.NoError(t, os.WriteFile(dir, nil, 0o600)) // a file where the directory should be
	path := filepath.Join(dir, "s.db")
	cfg, err := config.Load(config.LoadOptions{NoFile: true, Environ: []string{
		"VODRELAY_VOD_ENDPOINT=http://127.0.0.1:1", "VODRELAY_ADMIN_LISTEN=",
		"VODRELAY_VOD_CREDENTIALS_PROVIDER=static", "VODRELAY_VOD_CREDENTIALS_SECRET_ID=a", "VODRELAY_VOD_CREDENTIALS_SECRET_KEY=b",
		"VODRELAY_STORE_PATH=" + path,
	}})
	require.NoError(t, err)
	a, err := app.New(t.Context(), cfg, zap.NewNop(), io.Discard)
	require.NoError(t, err)
	require.ErrorContains(t, a.StoreErr(), "not open yet")
	ended := make(chan error, 1)
	go func() { ended <- a.Run(t.Context()) }()

	require.NoError(t, os.Remove(dir))
	other, err := store.Open(t.Context(), cfg.Store, nil)
	if err != nil {
		require.ErrorIs(t, err, store.ErrLocked)
		t.Skip("the relay was quicker")
	}
	select {
	case err := <-ended:
		require.ErrorIs(t, err, store.ErrLocked)
	case <-time.After(30 * time.Second):
		t.Fatal("it goes on without a store that another process has")
	}
	require.NoError(t, a.Close(t.Context()))
	require.NoError(t, other.Close(t.Context()))
}
