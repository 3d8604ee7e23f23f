package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/vodrelay/vodrelay/pkg/internal/diskprobe"
	"github.com/vodrelay/vodrelay/pkg/retry"
)

// checkTime bounds the check of a whole database, some GB of it.
const checkTime = 10 * time.Second

const hintWALAlone = "it has parcels that are nowhere else: put the database back that it belongs to, from where it was moved or from a backup; if they are not needed, move it away"

// prepareFile checks the place of the database, and makes it for the daemon, for its owner only. What the daemon
// would make is ErrPending for a check, which finds out whether it could.
func prepareFile(path string, o options) error {
	dir := filepath.Dir(path)
	var err error
	switch {
	case o.checked:
		dir, err = diskprobe.MakeAll(dir)
	case !o.admin:
		err = os.MkdirAll(dir, 0o700)
	}
	if err != nil {
		return err
	}
	if kind := networkFileSystem(dir); kind != "" {
		return retry.Permanent(retry.WithHint(fmt.Errorf("%s is on a network file system (%s), where SQLite can lose data", path, kind),
			"set path to a file on a local disk, or use driver postgres"))
	}
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return makeFile(path, dir, o)
	case err != nil:
		return err
	case !info.Mode().IsRegular():
		return retry.Permanent(retry.WithHint(fmt.Errorf("%s is not a regular file", path), "correct path"))
	}
	return nil
}

// makeFile makes the database in dir, which is above path, or does for a check all but that.
func makeFile(path, dir string, o options) error {
	if err := alone(path); err != nil {
		return err
	}
	if o.admin && !o.checked {
		return retry.Permanent(retry.WithHint(fmt.Errorf("there is no store at %s: %w", path, fs.ErrNotExist),
			"start vodrelay run once, which makes it, or correct path; it must be the path that the daemon uses"))
	}
	if err := diskprobe.Write(dir, path); err != nil {
		return err
	}
	if o.checked {
		return fmt.Errorf("%s will be made %w", path, ErrPending)
	}
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	return file.Close()
}

// alone refuses a database of several names, each of which would have a write-ahead log of its own, and a log
// without a database: SQLite would delete it.
func alone(path string) error {
	wal, walErr := os.Stat(path + "-wal") // first: a log that is not empty comes after the database's first page
	info, err := os.Stat(path)
	if err == nil && links(info) > 1 {
		return retry.Permanent(retry.WithHint(fmt.Errorf("%s has %d names (hard links): SQLite loses data when it is opened by two of them", path, links(info)),
			"remove the others (find -samefile "+path+" shows them); use a symbolic link for another name, sqlite3's .backup for a copy"))
	}
	missing := errors.Is(err, fs.ErrNotExist) || err == nil && info.Size() == 0
	if missing && walErr == nil && wal.Size() > 0 {
		return retry.Permanent(retry.WithHint(fmt.Errorf("%s is missing or empty, but its write-ahead log %s-wal has %d bytes", path, path, wal.Size()), hintWALAlone))
	}
	return nil
}

// rollBack has SQLite take back a change that a kill cut short before the database had a write-ahead log: the very
// first ones, which go through a rollback journal. Until then the database is not whole, and cannot be opened for
// reading only.
func (g *guard) rollBack(ctx context.Context) (err error) {
	if info, err := os.Stat(g.path + "-journal"); err != nil || info.Size() == 0 {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	}
	pool, err := sql.Open("sqlite", address(g.path, "mode=rw&_pragma=busy_timeout(10000)"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, pool.Close()) }()
	var tables int
	return pool.QueryRowContext(ctx, `SELECT COUNT(*) FROM sqlite_schema`).Scan(&tables)
}

// examine looks at the database and its write-ahead log before SQLite does, which plays a log back that is
// not the database's own, and passes over what it cannot read.
func (g *guard) examine(ctx context.Context) error {
	const looks, pause = 3, 50 * time.Millisecond
	for n := 1; ; n++ {
		before := g.logState()
		err := g.examineOnce()
		switch {
		case err == nil || !retry.IsPermanent(err):
			return err
		case before != g.logState(): // a process that is at work changes the log while it is read here
			if n == looks {
				return nil
			}
		case n == looks:
			return err
		}
		if err := retry.Sleep(ctx, pause); err != nil {
			return err
		}
	}
}

// logState is another text after each change of the write-ahead log.
func (g *guard) logState() string {
	info, err := os.Stat(g.path + "-wal")
	if err != nil {
		return ""
	}
	return fmt.Sprint(info.Size(), info.ModTime().UnixNano())
}

func (g *guard) examineOnce() error {
	info, err := g.file.Stat()
	if err != nil || info.Size() == 0 {
		return err // new
	}
	h, err := g.header()
	if err != nil {
		return retry.Permanent(retry.WithHint(fmt.Errorf("%s is not an SQLite database, or %w", g.name, err), hintNoDatabase))
	}
	wal, err := os.Open(g.path + "-wal")
	if errors.Is(err, fs.ErrNotExist) {
		return g.whole(h, info)
	}
	if err != nil {
		return err
	}
	defer func() { _ = wal.Close() }() // it was only read
	walInfo, err := wal.Stat()
	if err != nil {
		return err
	}
	content, err := readWAL(wal, walInfo.Size())
	if err != nil {
		return retry.Permanent(retry.WithHint(fmt.Errorf("the write-ahead log %s cannot be read: %w", wal.Name(), err),
			"keep a copy of the database and the log, and restore both from a backup; or give up what is behind the damage: sqlite3 "+g.path+" \"PRAGMA wal_checkpoint(TRUNCATE)\""))
	}
	if content.frames == 0 {
		return g.whole(h, info)
	}
	later, err := parseHeader(content.first)
	if content.pageSize != int(h.pageSize) || content.first != nil && (err != nil || later.id != h.id && h.id != 0) {
		return retry.Permanent(retry.WithHint(fmt.Errorf("the write-ahead log %s does not belong to the database beside it", wal.Name()),
			"a database was restored without its log: put the log back that belongs to it; if there is none, move this one away, its parcels are then lost"))
	}
	return nil
}

// whole compares the size of a database that has all of its pages with what it says itself.
func (g *guard) whole(h header, info fs.FileInfo) error {
	if info.Size() >= h.pages*h.pageSize {
		return nil
	}
	return retry.Permanent(damaged(fmt.Errorf("%s is cut off: it has %d bytes of %d", g.name, info.Size(), h.pages*h.pageSize)))
}

// check reads the whole database for damage, as far as it comes within checkTime. It changes nothing, not even
// what a log that is not the database's own would do to it.
func (g *guard) check(ctx context.Context) error {
	if info, err := g.file.Stat(); err != nil || info.Size() == 0 {
		return err
	}
	pool, err := sql.Open("sqlite", address(g.path, "mode=ro&_pragma=busy_timeout(10000)&_pragma=cache_size(-2048)"))
	if err != nil {
		return err
	}
	pool.SetMaxOpenConns(1)
	defer func() { _ = pool.Close() }() // nothing was written
	limited, cancel := context.WithTimeout(ctx, checkTime)
	defer cancel()
	var found string
	err = pool.QueryRowContext(limited, `PRAGMA quick_check(1)`).Scan(&found)
	switch {
	case err != nil && limited.Err() != nil && ctx.Err() == nil:
		g.log.Info("the store is too large to be checked whole; damage behind the part that was shows when it is read", zap.String("store", g.name), zap.Duration("checked_for", checkTime))
		return nil
	case err != nil:
		return err
	case found != "ok":
		return retry.Permanent(damaged(fmt.Errorf("%s is damaged: %s", g.name, strings.Join(strings.Fields(found), " "))))
	}
	return nil
}
