//go:build unix

package store

import (
	"context"
	"database/sql"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/vodrelay/vodrelay/pkg/event"
	"github.com/vodrelay/vodrelay/pkg/retry"
)

// checkpoint moves the write-ahead log into the database.
func checkpoint(t *testing.T, s *Store) {
	t.Helper()
	var busy, log, done int
	require.NoError(t, s.db.write.QueryRowContext(t.Context(), `PRAGMA wal_checkpoint(TRUNCATE)`).Scan(&busy, &log, &done))
	require.Zero(t, busy)
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	data, err := os.ReadFile(from)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(to, data, 0o600))
}

// copyStore copies the files of a store that nobody writes to at the moment.
func copyStore(t *testing.T, from string) (to string) {
	t.Helper()
	to = filepath.Join(t.TempDir(), "copy.db")
	for _, suffix := range []string{"", "-wal"} {
		if _, err := os.Stat(from + suffix); err == nil {
			copyFile(t, from+suffix, to+suffix)
		}
	}
	return to
}

// TestAFileThatIsLost: nothing is confirmed that depends on it, what is there can be worked off, and that is
// said once.
func TestAFileThatIsLost(t *testing.T) {
	other := func(t *testing.T) string {
		cfg := sqliteConfig(t)
		s := open(t, cfg)
		require.NoError(t, s.Put(t.Context(), parcels(500, 700, "other")...))
		require.NoError(t, s.Close(t.Context()))
		return cfg.Path
	}
	for name, c := range map[string]struct {
		harm func(t *testing.T, path string)
		want string
		// broken: what is there cannot be read any more.
		broken bool
	}{
		"deleted":           {harm: func(t *testing.T, path string) { require.NoError(t, os.Remove(path)) }, want: "vodrelay.db (the database) was deleted"},
		"log deleted":       {harm: func(t *testing.T, path string) { require.NoError(t, os.Remove(path+"-wal")) }, want: "-wal (its write-ahead log) was deleted"},
		"index deleted":     {harm: func(t *testing.T, path string) { require.NoError(t, os.Remove(path+"-shm")) }, want: "-shm (the index of its write-ahead log) was deleted"},
		"directory deleted": {harm: func(t *testing.T, path string) { require.NoError(t, os.RemoveAll(filepath.Dir(path))) }, want: "was deleted"},
		"moved":             {harm: func(t *testing.T, path string) { require.NoError(t, os.Rename(path, path+".old")) }, want: "was deleted or moved"},
		"replaced":          {harm: func(t *testing.T, path string) { require.NoError(t, os.Rename(other(t), path)) }, want: "was replaced"},
		"log replaced": {harm: func(t *testing.T, path string) {
			copyFile(t, path+"-wal", path+"-copy")
			require.NoError(t, os.Rename(path+"-copy", path+"-wal"))
		}, want: "(its write-ahead log) was replaced"},
		"emptied":     {harm: func(t *testing.T, path string) { require.NoError(t, os.Truncate(path, 0)) }, want: "its first page is damaged", broken: true},
		"cut in half": {harm: func(t *testing.T, path string) { require.NoError(t, os.Truncate(path, 100<<10)) }, want: "was cut off", broken: true},
		"log emptied": {harm: func(t *testing.T, path string) { require.NoError(t, os.Truncate(path+"-wal", 0)) }, want: "vodrelay.db-wal was overwritten or cut off", broken: true},
		"overwritten": {harm: func(t *testing.T, path string) { copyFile(t, other(t), path) }, want: "was overwritten with another database", broken: true},
	} {
		t.Run(name, func(t *testing.T) {
			core, logs := observer.New(zap.ErrorLevel)
			cfg := sqliteConfig(t)
			s, err := Open(t.Context(), cfg, zap.New(core))
			require.NoError(t, err)
			defer func() { _ = s.Close(context.Background()) }() // of a damaged file it may say so
			require.NoError(t, s.Put(t.Context(), parcels(0, 200, "a")...))
			checkpoint(t, s)
			require.NoError(t, s.Put(t.Context(), parcel(300, "a")))
			require.Empty(t, logs.All())

			c.harm(t, cfg.Path)
			err = s.Put(t.Context(), parcel(301, "a"))
			require.ErrorIs(t, err, ErrLost)
			require.ErrorContains(t, err, c.want)
			require.False(t, retry.IsPermanent(err), "the event is not to blame")
			require.NotEmpty(t, retry.Hint(err))
			require.ErrorIs(t, s.Healthy(t.Context()), ErrLost)
			require.Equal(t, err.Error(), s.Put(t.Context(), parcel(302, "a")).Error(), "it stays so, with the same text")
			if !c.broken {
				claimed, err := s.Claim(t.Context(), "a", 500, 1)
				require.NoError(t, err)
				require.Len(t, claimed, 202)
				require.NoError(t, s.Complete(t.Context(), keys(claimed)...))
			}
			require.Len(t, logs.All(), 1, "it is said once")
			require.Equal(t, retry.Hint(err), logs.All()[0].ContextMap()["hint"])
		})
	}
}

// TestDamageThatShowsLater: pages that make no sense, found by a write that needs them.
func TestDamageThatShowsLater(t *testing.T) {
	core, logs := observer.New(zap.ErrorLevel)
	cfg := sqliteConfig(t)
	s, err := Open(t.Context(), cfg, zap.New(core))
	require.NoError(t, err)
	defer func() { _ = s.Close(context.Background()) }()
	for n := range 20 { // more than the cache holds
		require.NoError(t, s.Put(t.Context(), parcels(n*200, n*200+200, "a")...))
	}
	checkpoint(t, s)
	file, err := os.OpenFile(cfg.Path, os.O_RDWR, 0)
	require.NoError(t, err)
	info, err := file.Stat()
	require.NoError(t, err)
	_, err = file.WriteAt(make([]byte, info.Size()-4096), 4096) // all but the first page
	require.NoError(t, err)
	require.NoError(t, file.Close())

	_, err = s.Claim(t.Context(), "a", 4000, 1)
	require.Error(t, err)
	require.Equal(t, hintDamaged, retry.Hint(err))
	require.ErrorIs(t, s.Put(t.Context(), parcel(9000, "b")), ErrLost)
	require.ErrorIs(t, s.Healthy(t.Context()), ErrLost)
	_, err = s.Claim(t.Context(), "a", 4000, 1)
	require.Error(t, err)
	require.Len(t, logs.All(), 1, "%v", logs.All())
}

// TestALostFileCanBeSaved as the hint says, after the file and its log were deleted.
func TestALostFileCanBeSaved(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("there is no /proc")
	}
	cfg := sqliteConfig(t)
	s := open(t, cfg)
	require.NoError(t, s.Put(t.Context(), parcels(0, 200, "a")...))
	checkpoint(t, s)
	require.NoError(t, s.Put(t.Context(), parcels(200, 250, "a")...))
	require.NoError(t, os.RemoveAll(filepath.Dir(cfg.Path)))
	err := s.Put(t.Context(), parcel(301, "a"))
	require.ErrorIs(t, err, ErrLost)
	names := regexp.MustCompile(fmt.Sprintf(`/proc/%d/fd/\d+`, os.Getpid())).FindAllString(retry.Hint(err), -1)
	require.Len(t, names, 2)
	saved := sqliteConfig(t)
	require.NoError(t, os.Mkdir(filepath.Dir(saved.Path), 0o700))
	copyFile(t, names[0], saved.Path)
	copyFile(t, names[1], saved.Path+"-wal")
	require.Subset(t, shown(all(t, open(t, saved), Filter{})), shown(parcels(0, 250, "a")))
}

// TestTheEndOfALostStoreLeavesTheOthersLog alone: it has the name of the lost one's.
func TestTheEndOfALostStoreLeavesTheOthersLog(t *testing.T) {
	cfg := sqliteConfig(t)
	lost := open(t, cfg)
	require.NoError(t, lost.Put(t.Context(), parcel(1, "a")))
	require.NoError(t, os.RemoveAll(filepath.Dir(cfg.Path)))
	next := open(t, cfg)
	require.NoError(t, next.Put(t.Context(), parcel(2, "a")))
	require.ErrorIs(t, lost.Put(t.Context(), parcel(3, "a")), ErrLost)
	require.NoError(t, lost.Close(t.Context()))
	require.FileExists(t, cfg.Path+"-wal")
	require.NoError(t, next.Put(t.Context(), parcel(4, "a")))
	same(t, []event.Parcel{parcel(2, "a"), parcel(4, "a")}, all(t, next, Filter{}))
}

// TestTheEndOfALostStoreLeavesALogThatWasPutBack: somebody has put it there, to be read at the next start.
func TestTheEndOfALostStoreLeavesALogThatWasPutBack(t *testing.T) {
	cfg := sqliteConfig(t)
	s := open(t, cfg)
	require.NoError(t, s.Put(t.Context(), parcel(1, "a")))
	log, err := os.ReadFile(cfg.Path + "-wal")
	require.NoError(t, err)
	require.NoError(t, os.Remove(cfg.Path+"-wal"))
	require.NoError(t, os.WriteFile(cfg.Path+"-wal", log, 0o600))
	require.ErrorIs(t, s.Put(t.Context(), parcel(2, "a")), ErrLost)
	require.NoError(t, s.Close(t.Context()))
	back, err := os.ReadFile(cfg.Path + "-wal")
	require.NoError(t, err)
	require.Equal(t, log, back)
}

// TestOtherProcessesLoseNothing: what commands and other programs do beside the daemon is no loss.
func TestOtherProcessesLoseNothing(t *testing.T) {
	cfg := sqliteConfig(t)
	s := open(t, cfg)
	shell := func(sql string) {
		out, err := exec.Command("sqlite3", "-cmd", ".timeout 10000", cfg.Path, sql).CombinedOutput()
		require.NoError(t, err, "%s", out)
	}
	if _, err := exec.LookPath("sqlite3"); err != nil {
		t.Skip("there is no sqlite3 shell")
	}
	for n := range 30 {
		require.NoError(t, s.Put(t.Context(), parcels(n*100, n*100+100, "a")...))
		switch n % 4 {
		case 0:
			shell(`PRAGMA wal_checkpoint(TRUNCATE)`)
		case 1:
			_, err := s.Drop(t.Context(), Filter{NewerThan: parcel(n*100+50, "a").Created})
			require.NoError(t, err)
			shell(`VACUUM`)
		case 2:
			shell(`UPDATE vodrelay_schema SET checked_at = 1`)
		}
		require.NoError(t, s.Healthy(t.Context()))
	}
	consistent(t, s)
}

// TestALockIsOnTheFile however it is called.
func TestALockIsOnTheFile(t *testing.T) {
	cfg := sqliteConfig(t)
	s := open(t, cfg)
	require.NoError(t, s.Put(t.Context(), parcel(1, "a")))
	link := cfg
	link.Path = filepath.Join(t.TempDir(), "link.db")
	require.NoError(t, os.Symlink(cfg.Path, link.Path))
	require.ErrorIs(t, failsToOpen(t, link), ErrLocked)
	require.Len(t, all(t, open(t, link, Admin()), Filter{}), 1)

	_ = os.Remove(cfg.Path + ".lock")
	require.ErrorIs(t, failsToOpen(t, cfg), ErrLocked, "no lock file has a part in it")

	hard := cfg
	hard.Path = filepath.Join(filepath.Dir(cfg.Path), "hard.db")
	require.NoError(t, os.Link(cfg.Path, hard.Path))
	for _, opts := range [][]Option{nil, {Admin()}} {
		err := failsToOpen(t, hard, opts...)
		require.ErrorContains(t, err, "2 names")
		require.True(t, retry.IsPermanent(err))
	}
	require.NoError(t, s.Put(t.Context(), parcel(2, "a")))
}

// TestStartWithDamage: what is not whole is refused by the daemon and by a check, and stays as it is.
func TestStartWithDamage(t *testing.T) {
	const all = 4000
	cfg := sqliteConfig(t)
	s := open(t, cfg)
	require.NoError(t, s.Put(t.Context(), parcels(0, all, "a")...))
	checkpoint(t, s)
	whole := copyStore(t, cfg.Path) // without a log
	for n := range 40 {
		require.NoError(t, s.Put(t.Context(), parcels(all+n*10, all+n*10+10, "a")...))
	}
	logged := copyStore(t, cfg.Path) // with one, as after a crash
	other := func(t *testing.T) string {
		cfg := sqliteConfig(t)
		s := open(t, cfg)
		require.NoError(t, s.Put(t.Context(), parcels(0, 2000, "other")...))
		return copyStore(t, cfg.Path)
	}
	edit := func(t *testing.T, path string, change func(data []byte) []byte) {
		data, err := os.ReadFile(path)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(path, change(data), 0o600))
	}
	flip := func(from, n int) func([]byte) []byte {
		return func(data []byte) []byte {
			r := rand.New(rand.NewPCG(1, 2))
			for i := range n {
				data[from+i] ^= byte(1 + r.IntN(255))
			}
			return data
		}
	}
	for name, c := range map[string]struct {
		from string
		harm func(t *testing.T, path string)
		want string
	}{
		"half":                   {whole, func(t *testing.T, path string) { edit(t, path, func(b []byte) []byte { return b[:len(b)/2] }) }, "is cut off"},
		"half, with a log":       {logged, func(t *testing.T, path string) { edit(t, path, func(b []byte) []byte { return b[:len(b)/2] }) }, ""},
		"garbage":                {whole, func(t *testing.T, path string) { edit(t, path, flip(0, 50_000)) }, "is not an SQLite database"},
		"flipped in the header":  {whole, func(t *testing.T, path string) { edit(t, path, flip(3, 1)) }, "is not an SQLite database"},
		"flipped pages":          {whole, func(t *testing.T, path string) { edit(t, path, flip(1<<20, 200_000)) }, ""},
		"flipped schema":         {whole, func(t *testing.T, path string) { edit(t, path, flip(100, 8)) }, ""},
		"flipped page of a tree": {whole, func(t *testing.T, path string) { edit(t, path, flip(4096, 100)) }, ""},
		"zeros": {whole, func(t *testing.T, path string) {
			edit(t, path, func(b []byte) []byte { clear(b[2<<20 : 3<<20]); return b })
		}, ""},
		"empty beside a log":       {logged, func(t *testing.T, path string) { require.NoError(t, os.Truncate(path, 0)) }, "is missing or empty, but its write-ahead log"},
		"missing beside a log":     {logged, func(t *testing.T, path string) { require.NoError(t, os.Remove(path)) }, "is missing or empty, but its write-ahead log"},
		"another store's log":      {whole, func(t *testing.T, path string) { copyFile(t, other(t)+"-wal", path+"-wal") }, "does not belong to the database"},
		"another store's file":     {logged, func(t *testing.T, path string) { copyFile(t, whole, path+".x"); copyFile(t, other(t), path) }, ""},
		"log with a bad header":    {logged, func(t *testing.T, path string) { edit(t, path+"-wal", flip(17, 1)) }, "its header is damaged"},
		"log damaged in its midst": {logged, func(t *testing.T, path string) { edit(t, path+"-wal", flip(200_000, 3)) }, "more commits are"},
		"log without its head": {logged, func(t *testing.T, path string) {
			edit(t, path+"-wal", func(b []byte) []byte { clear(b[:100_000]); return b })
		}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := DefaultConfig()
			cfg.Path = copyStore(t, c.from)
			c.harm(t, cfg.Path)
			before := map[string][]byte{}
			for _, suffix := range []string{"", "-wal"} {
				before[suffix], _ = os.ReadFile(cfg.Path + suffix)
			}
			for _, opts := range [][]Option{nil, {Checked()}} {
				err := failsToOpen(t, cfg, opts...)
				require.ErrorContains(t, err, c.want)
				require.True(t, retry.IsPermanent(err), "%v", err)
				require.NotEmpty(t, retry.Hint(err))
				for suffix, was := range before {
					is, _ := os.ReadFile(cfg.Path + suffix)
					require.True(t, string(was) == string(is), "%s is not what it was", suffix)
				}
			}
		})
	}
	t.Run("unharmed", func(t *testing.T) {
		for from, n := range map[string]int{whole: all, logged: all + 400} {
			cfg := DefaultConfig()
			cfg.Path = copyStore(t, from)
			_, _, err := open(t, cfg).Totals(t.Context())
			require.NoError(t, err)
			waiting, _, err := open(t, cfg, Checked()).Totals(t.Context())
			require.NoError(t, err)
			require.EqualValues(t, n, waiting)
		}
	})
	t.Run("a crash in the last commit", func(t *testing.T) {
		for _, change := range []func([]byte) []byte{
			func(b []byte) []byte { return b[:len(b)-1000] },
			func(b []byte) []byte { return flip(len(b)-4200, 1)(b) },
			func(b []byte) []byte { return flip(len(b)-3*4120-200, 1)(b) },
		} {
			cfg := DefaultConfig()
			cfg.Path = copyStore(t, logged)
			edit(t, cfg.Path+"-wal", change)
			waiting, _, err := open(t, cfg).Totals(t.Context())
			require.NoError(t, err)
			require.EqualValues(t, all+390, waiting)
		}
	})
}

// TestStartAfterAKillAtTheVeryBeginning: the first changes of a new file go through a rollback journal. A kill leaves
// the file half written beside it, which is no damage.
func TestStartAfterAKillAtTheVeryBeginning(t *testing.T) {
	path := filepath.Join(t.TempDir(), "young.db")
	db, err := sql.Open("sqlite", address(path, "_pragma=cache_size(2)"))
	require.NoError(t, err)
	t.Cleanup(func() { _ = db.Close() })
	db.SetMaxOpenConns(1)
	exec := func(query string) {
		_, err := db.ExecContext(t.Context(), query)
		require.NoError(t, err)
	}
	exec(`CREATE TABLE young (n INTEGER PRIMARY KEY, text TEXT)`)
	exec(`WITH RECURSIVE c (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < 500) INSERT INTO young SELECT n, hex(randomblob(200)) FROM c`)
	exec(`BEGIN IMMEDIATE`)
	exec(`UPDATE young SET text = 'half'`) // more than the cache holds, so the journal and the file are written
	cfg := sqliteConfig(t)
	require.NoError(t, os.MkdirAll(filepath.Dir(cfg.Path), 0o700))
	copyFile(t, path, cfg.Path)
	copyFile(t, path+"-journal", cfg.Path+"-journal")
	exec(`ROLLBACK`)

	s := open(t, cfg)
	var half int
	require.NoError(t, s.db.read.QueryRowContext(t.Context(), `SELECT COUNT(*) FROM young WHERE text = 'half'`).Scan(&half))
	require.Zero(t, half, "SQLite took the change back")
	require.NoError(t, s.Put(t.Context(), parcels(0, 10, "site")...))
}
