package file

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"
	"golang.org/x/sync/errgroup"

	"github.com/vodrelay/vodrelay/pkg/event"
	"github.com/vodrelay/vodrelay/pkg/retry"
	"github.com/vodrelay/vodrelay/pkg/sink/sinktest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func config(path string) Config {
	cfg := DefaultConfig()
	cfg.Path = path
	return cfg
}

func create(t testing.TB, path string) *Sink {
	t.Helper()
	s, err := New(config(path), zaptest.NewLogger(t))
	require.NoError(t, err)
	return s
}

// lines are the whole lines of a file, none if there is no file.
func lines(t testing.TB, path string) [][]byte {
	t.Helper()
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	require.NoError(t, err)
	all := bytes.Split(text, []byte("\n"))
	return all[:len(all)-1]
}

// faulty is a real file with faults put in.
type faulty struct {
	handle
	faults *faults
}

type faults struct {
	mu     sync.Mutex
	write  func(f handle, p []byte) (int, error)
	sync   func(f handle) error
	opened int
}

func (f *faults) open(path string, mode fs.FileMode) (handle, error) {
	file, err := openFile(path, mode)
	if err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.opened++
	return faulty{file, f}, nil
}

func (f *faults) set(write func(handle, []byte) (int, error), sync func(handle) error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.write, f.sync = write, sync
}

func (f faulty) Write(p []byte) (int, error) {
	f.faults.mu.Lock()
	write := f.faults.write
	f.faults.mu.Unlock()
	if write != nil {
		return write(f.handle, p)
	}
	return f.handle.Write(p)
}

func (f faulty) Sync() error {
	f.faults.mu.Lock()
	sync := f.faults.sync
	f.faults.mu.Unlock()
	if sync != nil {
		return sync(f.handle)
	}
	return f.handle.Sync()
}

func TestContract(t *testing.T) {
	sinktest.Run(t, func(t *testing.T) sinktest.Harness {
		path := filepath.Join(t.TempDir(), "events.jsonl")
		faults := &faults{}
		return sinktest.Harness{
			Sink:     newSink(config(path), zaptest.NewLogger(t), faults.open),
			Received: func(t *testing.T) [][]byte { return lines(t, path) },
			// The written half of a line must be gone when the fault is.
			Break: func(*testing.T) {
				faults.set(func(f handle, p []byte) (int, error) {
					n, _ := f.Write(p[:len(p)/2])
					return n, &fs.PathError{Op: "write", Path: path, Err: syscall.ENOSPC}
				}, nil)
			},
			Mend:       func(*testing.T) { faults.set(nil, nil) },
			BlindCheck: true, // a full disk shows when it is written to
			Stall: func(*testing.T) func() {
				wait := make(chan struct{})
				faults.set(nil, func(f handle) error { <-wait; return f.Sync() })
				return func() { faults.set(nil, nil); close(wait) }
			},
			Mistakes: []sinktest.Mistake{
				{
					Name: "directory missing",
					Make: func(t *testing.T) { require.NoError(t, os.RemoveAll(filepath.Dir(path))) },
					Fix:  func(t *testing.T) { require.NoError(t, os.Mkdir(filepath.Dir(path), 0o700)) },
				},
				{
					Name: "directory in its place",
					Make: func(t *testing.T) {
						require.NoError(t, os.Remove(path))
						require.NoError(t, os.Mkdir(path, 0o700))
					},
					Fix: func(t *testing.T) { require.NoError(t, os.Remove(path)) },
				},
				{
					Name: "link to nowhere",
					Make: func(t *testing.T) {
						require.NoError(t, os.Remove(path))
						require.NoError(t, os.Symlink(filepath.Join(path+".d", "x"), path))
					},
					Fix: func(t *testing.T) { require.NoError(t, os.Remove(path)) },
				},
			},
		}
	})
}

func TestOneSyncForAllThatWait(t *testing.T) {
	path := filepath.Join(t.TempDir(), "events.jsonl")
	synctest.Test(t, func(t *testing.T) {
		faults := &faults{}
		syncs := 0
		faults.set(nil, func(handle) error { syncs++; time.Sleep(time.Second); return nil })
		s := newSink(config(path), zap.NewNop(), faults.open)
		var group errgroup.Group
		start := time.Now()
		for i := range 100 {
			group.Go(func() error {
				time.Sleep(time.Duration(i) * time.Millisecond)
				err := s.Send(t.Context(), sinktest.Upload(i))
				if i > 0 && time.Since(start) < 2*time.Second {
					return errors.New("Send returned before the sync that covers the event")
				}
				return err
			})
		}
		require.NoError(t, group.Wait())
		require.Equal(t, 2, syncs)
		require.Len(t, lines(t, path), 100)
		require.NoError(t, s.Close(t.Context()))
		require.Equal(t, 2, syncs)
	})
}

// TestFailedSync has a sync fail once: nothing of its batch is accepted, and a retry writes it once more on
// a newly opened file, with no trace of the first attempt.
func TestFailedSync(t *testing.T) {
	path := filepath.Join(t.TempDir(), "events.jsonl")
	faults := &faults{}
	s := newSink(config(path), zaptest.NewLogger(t), faults.open)
	require.NoError(t, s.Send(t.Context(), sinktest.Upload(0)))
	faults.set(nil, func(handle) error { return &fs.PathError{Op: "sync", Path: path, Err: syscall.EIO} })
	err := s.Send(t.Context(), sinktest.Upload(1))
	require.ErrorIs(t, err, syscall.EIO)
	require.False(t, retry.IsPermanent(err))
	require.NotEmpty(t, retry.Hint(err))
	faults.set(nil, nil)
	require.NoError(t, s.Send(t.Context(), sinktest.Upload(1)))
	require.NoError(t, s.Close(t.Context()))
	require.Equal(t, 2, faults.opened)
	require.Equal(t, [][]byte{sinktest.Body(t, sinktest.Upload(0)), sinktest.Body(t, sinktest.Upload(1))}, lines(t, path))
}

// TestTornLine finds what a crash, or a truncation that failed too, left behind.
func TestTornLine(t *testing.T) {
	path := filepath.Join(t.TempDir(), "events.jsonl")
	require.NoError(t, os.WriteFile(path, []byte("{\"a\":1}\n{\"b\":"), 0o600))
	s := create(t, path)
	require.NoError(t, s.Send(t.Context(), sinktest.Upload(0)))
	require.NoError(t, s.Send(t.Context(), sinktest.Upload(1)))

	// Another process dies in the middle of a line while this one has the file open.
	other, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	require.NoError(t, err)
	_, err = other.WriteString(`{"c":`)
	require.NoError(t, err)
	require.NoError(t, other.Close())
	require.NoError(t, s.Send(t.Context(), sinktest.Upload(2)))
	require.NoError(t, s.Close(t.Context()))
	require.Equal(t, [][]byte{
		[]byte(`{"a":1}`), []byte(`{"b":`),
		sinktest.Body(t, sinktest.Upload(0)), sinktest.Body(t, sinktest.Upload(1)),
		[]byte(`{"c":`), sinktest.Body(t, sinktest.Upload(2)),
	}, lines(t, path))
}

// TestCutByCopytruncate empties the file under the sink, and fails the next write in its middle: the repair
// must not fill the file up with zeros.
func TestCutByCopytruncate(t *testing.T) {
	path := filepath.Join(t.TempDir(), "events.jsonl")
	faults := &faults{}
	s := newSink(config(path), zaptest.NewLogger(t), faults.open)
	require.NoError(t, s.Send(t.Context(), sinktest.Upload(0)))
	faults.set(func(f handle, p []byte) (int, error) {
		require.NoError(t, os.Truncate(path, 0))
		n, _ := f.Write(p[:5])
		return n, syscall.ENOSPC
	}, nil)
	require.ErrorIs(t, s.Send(t.Context(), sinktest.Upload(1)), syscall.ENOSPC)
	faults.set(nil, nil)
	require.NoError(t, s.Send(t.Context(), sinktest.Upload(1)))
	require.NoError(t, s.Close(t.Context()))
	require.Equal(t, [][]byte{[]byte(`{"Eve`), sinktest.Body(t, sinktest.Upload(1))}, lines(t, path))
}

// TestRotateUnderLoad renames the file again and again while events are written: each is in exactly one of
// the files, and whatever was accepted before Reopen began is in an old one.
func TestRotateUnderLoad(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "events.jsonl")
	s := create(t, path)
	const senders, each, rotations = 8, 100, 10
	require.NoError(t, s.Send(t.Context(), sinktest.Upload(senders*each)))
	var group errgroup.Group
	for sender := range senders {
		group.Go(func() error {
			for i := range each {
				if err := s.Send(t.Context(), sinktest.Upload(sender*each+i)); err != nil {
					return err
				}
			}
			return nil
		})
	}
	for i := range rotations {
		require.NoError(t, os.Rename(path, filepath.Join(dir, fmt.Sprintf("events.jsonl.%d", i))))
		require.NoError(t, s.Reopen())
		require.NoError(t, s.Send(t.Context(), sinktest.Upload(senders*each+1+i)))
	}
	require.NoError(t, group.Wait())
	require.NoError(t, s.Close(t.Context()))

	count := make(map[string]int)
	files, err := filepath.Glob(path + "*")
	require.NoError(t, err)
	require.Len(t, files, rotations+1)
	for _, name := range files {
		for _, line := range lines(t, name) {
			count[string(line)]++
		}
	}
	require.Len(t, count, senders*each+1+rotations)
	for i := range senders*each + 1 + rotations {
		require.Equal(t, 1, count[string(sinktest.Body(t, sinktest.Upload(i)))])
	}
	marker := lines(t, filepath.Join(dir, "events.jsonl.1"))
	require.Contains(t, marker, sinktest.Body(t, sinktest.Upload(senders*each+1)), "accepted between two rotations")
}

func TestReopen(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "events.jsonl")
	s := create(t, path)
	require.NoError(t, s.Reopen(), "before the first event")
	require.FileExists(t, path)
	require.NoError(t, s.Send(t.Context(), sinktest.Upload(0)))

	require.NoError(t, os.Remove(path))
	require.NoError(t, s.Reopen())
	require.Empty(t, lines(t, path))
	require.NoError(t, s.Send(t.Context(), sinktest.Upload(1)))
	require.Len(t, lines(t, path), 1)

	// Renamed, but no Reopen yet: the events still go to the old file.
	require.NoError(t, os.Rename(path, path+".1"))
	require.NoError(t, s.Send(t.Context(), sinktest.Upload(2)))
	require.Len(t, lines(t, path+".1"), 2)
	require.NoFileExists(t, path)

	// The directory is away for a while.
	require.NoError(t, os.Rename(dir, dir+".away"))
	require.ErrorIs(t, s.Reopen(), fs.ErrNotExist)
	err := s.Send(t.Context(), sinktest.Upload(3))
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.Equal(t, "create the directory, or mount its volume, or correct path", retry.Hint(err))
	require.NoError(t, os.Rename(dir+".away", dir))
	require.NoError(t, s.Send(t.Context(), sinktest.Upload(3)))
	require.Len(t, lines(t, path), 1)
	require.NoError(t, s.Close(t.Context()))
}

// TestDeleted has nobody tell the sink that its file is gone.
func TestDeleted(t *testing.T) {
	path := filepath.Join(t.TempDir(), "events.jsonl")
	s := create(t, path)
	require.NoError(t, s.Send(t.Context(), sinktest.Upload(0)))
	require.NoError(t, os.Remove(path))
	require.NoError(t, s.Send(t.Context(), sinktest.Upload(1)))
	require.Equal(t, [][]byte{sinktest.Body(t, sinktest.Upload(1))}, lines(t, path))
	require.NoError(t, s.Close(t.Context()))
}

// TestShared has two sinks append to one file, one of which fails in the middle of a line now and then.
func TestShared(t *testing.T) {
	path := filepath.Join(t.TempDir(), "events.jsonl")
	faults := &faults{}
	turn := 0
	faults.set(func(f handle, p []byte) (int, error) {
		if turn++; turn%3 == 0 {
			n, _ := f.Write(p[:len(p)/2])
			return n, syscall.ENOSPC
		}
		return f.Write(p)
	}, nil)
	sinks := []*Sink{newSink(config(path), zap.NewNop(), faults.open), create(t, path)}
	var group errgroup.Group
	for which, s := range sinks {
		group.Go(func() error {
			for i := range 100 {
				e := sinktest.Upload(which*100 + i)
				for s.Send(t.Context(), e) != nil {
				}
			}
			return nil
		})
	}
	require.NoError(t, group.Wait())
	for _, s := range sinks {
		require.NoError(t, s.Close(t.Context()))
	}
	seen := make(map[string]bool)
	for _, line := range lines(t, path) {
		require.True(t, json.Valid(line), "%s", line)
		seen[string(line)] = true
	}
	require.Len(t, seen, 200)
}

// TestRepairSparesOthers has another sink append just when this one has written half a line: cutting that
// off must not cut off the other's.
func TestRepairSparesOthers(t *testing.T) {
	path := filepath.Join(t.TempDir(), "events.jsonl")
	other := create(t, path)
	theirs := make(chan error, 1)
	faults := &faults{}
	s := newSink(config(path), zap.NewNop(), faults.open)
	faults.set(func(f handle, p []byte) (int, error) {
		go func() { theirs <- other.Send(context.Background(), sinktest.Upload(1)) }()
		select { // it has to wait for the repair
		case err := <-theirs:
			theirs <- err
		case <-time.After(200 * time.Millisecond):
		}
		n, _ := f.Write(p[:len(p)/2])
		return n, syscall.ENOSPC
	}, nil)
	require.ErrorIs(t, s.Send(t.Context(), sinktest.Upload(0)), syscall.ENOSPC)
	require.NoError(t, <-theirs)
	require.Equal(t, [][]byte{sinktest.Body(t, sinktest.Upload(1))}, lines(t, path))
	require.NoError(t, s.Close(t.Context()))
	require.NoError(t, other.Close(t.Context()))
}

func TestWithoutSync(t *testing.T) {
	path := filepath.Join(t.TempDir(), "events.jsonl")
	faults := &faults{}
	syncs := 0
	faults.set(nil, func(f handle) error { syncs++; return f.Sync() })
	cfg := config(path)
	cfg.Sync = false
	s := newSink(cfg, zap.NewNop(), faults.open)
	for i := range 5 {
		require.NoError(t, s.Send(t.Context(), sinktest.Upload(i)))
	}
	require.Zero(t, syncs)
	require.Len(t, lines(t, path), 5)
	require.NoError(t, s.Reopen())
	require.Equal(t, 1, syncs)
	require.NoError(t, s.Close(t.Context()))
	require.Equal(t, 2, syncs)
}

func TestModeOfANewFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "events.jsonl")
	cfg := config(path)
	cfg.Mode = 0o600
	s, err := New(cfg, zap.NewNop())
	require.NoError(t, err)
	require.NoFileExists(t, path, "New leaves the disk alone")
	require.NoError(t, s.Send(t.Context(), sinktest.Upload(0)))
	info, err := os.Stat(path)
	require.NoError(t, err)
	require.Equal(t, fs.FileMode(0o600), info.Mode())
	require.NoError(t, s.Close(t.Context()))
}

func TestCheckAndFailures(t *testing.T) {
	dir := t.TempDir()
	pipe := filepath.Join(dir, "pipe")
	require.NoError(t, syscall.Mkfifo(pipe, 0o600))
	file := filepath.Join(dir, "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	for name, tt := range map[string]struct{ path, want, hint string }{
		"no directory":      {filepath.Join(dir, "no", "events"), "no such file or directory", "create the directory"},
		"directory":         {dir, "is not a regular file", "name a file"},
		"below a file":      {filepath.Join(file, "events"), "not a directory", "correct path"},
		"pipe":              {pipe, "is not a regular file", "name a file"},
		"device":            {"/dev/full", "is not a regular file", "name a file"},
		"name is too long":  {filepath.Join(dir, string(bytes.Repeat([]byte("x"), 300))), "file name too long", ""},
		"read only for all": {"/proc/sys/kernel/events", "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			s := create(t, tt.path)
			for what, try := range map[string]func() error{
				"check": func() error { return s.Check(t.Context()) },
				"send":  func() error { return s.Send(t.Context(), sinktest.Upload(0)) },
			} {
				if what == "check" && name == "name is too long" {
					require.Error(t, try())
					continue
				}
				err := try()
				require.ErrorContains(t, err, tt.want, what)
				require.Contains(t, retry.Hint(err), tt.hint, what)
				require.NotEmpty(t, retry.Hint(err), what)
				require.False(t, retry.IsPermanent(err), what)
				require.Equal(t, err.Error(), try().Error(), what)
			}
			require.NoError(t, s.Close(t.Context()))
		})
	}
	good := filepath.Join(dir, "good")
	s := create(t, good)
	require.NoError(t, s.Check(t.Context()))
	require.NoFileExists(t, good)
	left, err := filepath.Glob(filepath.Join(dir, ".vodrelay*"))
	require.NoError(t, err)
	require.Empty(t, left)
	require.NoError(t, s.Send(t.Context(), sinktest.Upload(0)))
	require.NoError(t, s.Check(t.Context()))
	require.NoError(t, s.Close(t.Context()))
}

func TestNotJSON(t *testing.T) {
	s := create(t, filepath.Join(t.TempDir(), "x"))
	require.True(t, retry.IsPermanent(s.Send(t.Context(), event.Event{Raw: json.RawMessage("{")})))
	require.NoError(t, s.Close(t.Context()))
}

func TestValidate(t *testing.T) {
	require.NoError(t, config("events.jsonl").Validate())
	for want, change := range map[string]func(*Config){
		`path: "": name the file, such as /var/lib/vodrelay/events.jsonl`:                              func(c *Config) { c.Path = "" },
		`path: "~/x": ~ has no meaning here, write the full path`:                                      func(c *Config) { c.Path = "~/x" },
		`path: "/tmp/": is a directory, add the name of a file`:                                        func(c *Config) { c.Path = "/tmp/" },
		`format: "xml": use callback or cloudevents`:                                                   func(c *Config) { c.Format = "xml" },
		`mode: "1200": must be octal, let the owner read and write, and be 0777 at most, such as 0640`: func(c *Config) { c.Mode = 640 },
		`mode: "0440": must be octal, let the owner read and write, and be 0777 at most, such as 0640`: func(c *Config) { c.Mode = 0o440 },
		`format: "cloudevents-binary": a line has no headers for the attributes, use cloudevents`: func(c *Config) {
			c.Format = event.FormatCloudEventsBinary
		},
	} {
		cfg := config("events.jsonl")
		change(&cfg)
		require.EqualError(t, cfg.Validate(), want)
	}
	_, err := New(Config{}, zap.NewNop())
	require.Error(t, err)
}

func TestModeText(t *testing.T) {
	for text, want := range map[string]Mode{"0640": 0o640, "640": 0o640, "0o600": 0o600, "777": 0o777} {
		var mode Mode
		require.NoError(t, mode.UnmarshalText([]byte(text)))
		require.Equal(t, want, mode)
		again, err := mode.MarshalText()
		require.NoError(t, err)
		require.NoError(t, mode.UnmarshalText(again))
		require.Equal(t, want, mode)
	}
	for _, text := range []string{"", "rw-r-----", "0x1ff", "888", "-1"} {
		var mode Mode
		require.Error(t, mode.UnmarshalText([]byte(text)), text)
	}
}

func BenchmarkSend(b *testing.B) {
	for _, senders := range []int{1, 16, 256} {
		b.Run(fmt.Sprintf("senders=%d", senders), func(b *testing.B) {
			s, err := New(config(filepath.Join(b.TempDir(), "events.jsonl")), zap.NewNop())
			require.NoError(b, err)
			e := sinktest.Upload(1)
			b.SetParallelism(max(1, senders/2))
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if err := s.Send(context.Background(), e); err != nil {
						b.Error(err)
					}
				}
			})
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
			require.NoError(b, s.Close(context.Background()))
		})
	}
}
