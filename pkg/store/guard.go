package store

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/vodrelay/vodrelay/pkg/internal/diskprobe"
	"github.com/vodrelay/vodrelay/pkg/retry"
)

// guard knows the files of an open SQLite store by what they are, not by how they are called. SQLite goes on
// writing to files that were deleted, and learns late, or not at all, that others took their places. A nil
// guard watches nothing: the store is a server.
type guard struct {
	name string // what the configuration calls the database
	path string // its file, which name may be a symbolic link to: SQLite puts the others beside it
	log  *zap.Logger
	// file is the database. It is closed last: closing it ends all locks that this process has on the file
	// by fcntl(2), those of SQLite among them.
	file *os.File
	lock *os.File // what carries the daemon's lock, may be file; nil: not taken
	wal  *os.File
	// other is the daemon that has the lock, as the error that another would get; only for a check.
	other error

	mu     sync.Mutex // of what follows
	names  []named
	seen   header
	size   int64 // of the database, when it was looked at last
	lost   error // why nothing may be stored any more
	lostAt time.Time
}

// named is a file that must keep its name.
type named struct {
	path, what string
	info       fs.FileInfo
}

// header is what is used of the first 100 bytes of a database: https://sqlite.org/fileformat2.html#the_database_header.
type header struct {
	pageSize, pages int64
	changes         uint32 // never fewer, but for an overflow
	id              uint32 // of the store; 0 until it has one
}

const headerSize = 100

var errHeader = errors.New("its first page is damaged")

func parseHeader(page []byte) (header, error) {
	if len(page) < headerSize || string(page[:16]) != "SQLite format 3\x00" {
		return header{}, errHeader
	}
	h := header{
		pageSize: int64(binary.BigEndian.Uint16(page[16:])), pages: int64(binary.BigEndian.Uint32(page[28:])),
		changes: binary.BigEndian.Uint32(page[24:]), id: binary.BigEndian.Uint32(page[60:]),
	}
	if h.pageSize == 1 { // 65536 has no place in 16 bits
		h.pageSize = 1 << 16
	}
	return h, nil
}

func (g *guard) header() (header, error) {
	var page [headerSize]byte
	if n, err := g.file.ReadAt(page[:], 0); err != nil && n < len(page) {
		return header{}, errHeader
	}
	return parseHeader(page[:])
}

// openGuard opens the database, and for the daemon makes it and takes the daemon's lock.
func openGuard(ctx context.Context, name string, o options, log *zap.Logger) (_ *guard, err error) {
	if err := prepareFile(name, o); err != nil {
		return nil, err
	}
	g := &guard{name: name, log: log}
	if g.path, err = filepath.EvalSymlinks(name); err != nil {
		return nil, err
	}
	if err := alone(g.path); err != nil {
		return nil, err
	}
	if g.file, err = os.OpenFile(g.path, os.O_RDWR, 0); err != nil {
		return nil, err
	}
	switch {
	case !o.admin:
		err = g.takeLock(ctx)
	case o.checked:
		err = g.checkPlace()
	}
	if err != nil {
		return nil, errors.Join(err, g.close())
	}
	return g, nil
}

func (g *guard) takeLock(ctx context.Context) (err error) {
	g.lock = g.file
	if name := lockName(g.path); name != g.path {
		if g.lock, err = os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600); err != nil {
			return err
		}
	}
	return lockFile(ctx, g.lock)
}

// checkPlace looks at what is there already: the file may be an empty one, and a daemon may have it.
func (g *guard) checkPlace() error {
	info, err := g.file.Stat()
	if err != nil {
		return err
	}
	g.other = lockedByOther(g.file, lockName(g.path))
	if info.Size() > 0 {
		return nil
	}
	if err := diskprobe.Write(filepath.Dir(g.path), g.name); err != nil {
		return err
	}
	return fmt.Errorf("%s is empty, and becomes a store %w", g.name, ErrPending)
}

// watch begins to watch the files. SQLite has all of them open by now.
func (g *guard) watch() (err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.wal, err = os.Open(g.path + "-wal"); err != nil {
		return err
	}
	for _, f := range []struct {
		path, what string
		file       *os.File
	}{{g.name, "the database", g.file}, {g.path + "-wal", "its write-ahead log", g.wal}, {g.path + "-shm", "the index of its write-ahead log", nil}} {
		n := named{path: f.path, what: f.what}
		if f.file != nil {
			n.info, err = f.file.Stat()
		} else {
			n.info, err = os.Stat(f.path)
		}
		if err != nil {
			return err
		}
		g.names = append(g.names, n)
	}
	if g.lock != nil && g.lock != g.file {
		info, err := g.lock.Stat()
		if err != nil {
			return err
		}
		g.names = append(g.names, named{g.lock.Name(), "its lock file", info})
	}
	if g.seen, err = g.header(); err != nil {
		return err
	}
	g.size, err = g.look()
	return err
}

// verify reports whether what was just committed is in the files that have the store's names, and whether
// they are whole as far as a glance tells. Once an error wraps ErrLost, all do: what others put in the place
// of a lost file is not the store, and does not become it.
func (g *guard) verify(ctx context.Context) error {
	const looks, pause = 3, 10 * time.Millisecond
	if g == nil {
		return nil
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	for n := 1; g.lost == nil; n++ {
		err := g.lookInside()
		if !errors.Is(err, ErrLost) {
			return err
		}
		if n == looks {
			g.lose(err)
			break
		}
		// Another process may be in the midst of a checkpoint.
		if err := retry.Sleep(ctx, pause); err != nil {
			return err
		}
	}
	return g.lost
}

// look compares the files that have the names with those that are open, and returns the size of the database.
func (g *guard) look() (size int64, err error) {
	for i, n := range g.names {
		info, err := os.Stat(n.path)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return 0, g.gone(fmt.Errorf("%w: %s (%s) was deleted or moved while it was open", ErrLost, n.path, n.what))
		case err != nil:
			return 0, err
		case !os.SameFile(info, n.info):
			return 0, g.gone(fmt.Errorf("%w: %s (%s) was replaced by another file while it was open", ErrLost, n.path, n.what))
		}
		if i == 0 {
			size = info.Size()
		}
	}
	return size, nil
}

// lookInside also compares the beginnings of the files with what they were. A commit has come before it, so
// that the log has one.
func (g *guard) lookInside() error {
	size, err := g.look()
	if err != nil {
		return err
	}
	now, err := g.header()
	switch {
	case err != nil:
		return damaged(fmt.Errorf("%w: %s: %w", ErrLost, g.name, err))
	case now.id != g.seen.id && g.seen.id != 0, int32(now.changes-g.seen.changes) < 0:
		return damaged(fmt.Errorf("%w: %s was overwritten with another database while it was open", ErrLost, g.name))
	case size < g.size && size < now.pages*now.pageSize:
		return damaged(fmt.Errorf("%w: %s was cut off while it was open", ErrLost, g.name))
	}
	g.size, g.seen = size, now
	if _, err := readWALHeader(g.wal); errors.Is(err, errWALHeader) {
		return damaged(fmt.Errorf("%w: %s-wal was overwritten or cut off while it was open", ErrLost, g.path))
	}
	return nil
}

// gone says how to get at a file that has lost its name.
func (g *guard) gone(err error) error {
	hint := "nothing more is stored, nor confirmed that would have to be; restart vodrelay when the right file is back. What was stored before goes on being sent while this process runs"
	if runtime.GOOS == "linux" {
		hint += fmt.Sprintf("; to save it, copy as root /proc/%d/fd/%d (the database) and /proc/%[1]d/fd/%[3]d (add -wal to the copy's name) first", os.Getpid(), g.file.Fd(), g.wal.Fd())
	}
	return retry.WithHint(err, hint)
}

func damaged(err error) error {
	return retry.WithHint(err, hintDamaged)
}

// damage notes that SQLite has met a page that makes no sense.
func (g *guard) damage(err error) {
	if g == nil || !diagnose(err).damaged {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.lost == nil {
		g.lose(damaged(fmt.Errorf("%w: %s is damaged: %w", ErrLost, g.name, err)))
	}
}

// lose ends the storing. It needs mu.
func (g *guard) lose(err error) {
	g.lost, g.lostAt = err, time.Now()
	g.log.Error("the store is lost until a restart", zap.Error(err), zap.String("hint", retry.Hint(err)))
}

// failing is how the store fails that is lost; zero if it is not.
func (g *guard) failing() retry.Run {
	if g == nil {
		return retry.Run{}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.lost == nil {
		return retry.Run{}
	}
	return retry.Run{Failures: 1, Since: g.lostAt, Last: g.lostAt, Err: g.lost}
}

// isLost is why nothing may be stored any more, or nil.
func (g *guard) isLost() error {
	if g == nil {
		return nil
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.lost
}

func (g *guard) close() error {
	if g == nil {
		return nil
	}
	if g.lock == g.file {
		g.lock = nil
	}
	var err error
	for _, f := range []*os.File{g.wal, g.lock, g.file} {
		if f != nil {
			err = errors.Join(err, f.Close())
		}
	}
	return err
}
