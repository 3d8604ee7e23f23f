// Package disk makes small disks that fail as disks do: full, read-only after a fault, or gone, with everything lost
// that was not synced. A disk is an ext4 file system in a file, on a loop device; that needs root.
package disk

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Supported reports why this machine can make no disks, nil when it can. It makes one to find out. What the device
// mapper does to disks (dm-error, dm-flakey) is not needed: ext4 itself can be shut down.
var Supported = sync.OnceValue(func() (err error) {
	dir, err := os.MkdirTemp("", "chaos-disk")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	v, err := New(ctx, filepath.Join(dir, "trial"), smallest)
	if err != nil {
		return err
	}
	return errors.Join(v.Fail(), v.Close(ctx))
})

const (
	smallest = 8 << 20
	ballast  = ".ballast"
)

// Volume is a disk, mounted at Dir.
type Volume struct {
	dir, image, device string
	mounted            bool
	faulty             bool
}

// New makes a disk of so many bytes and mounts it at dir, which it makes as well.
func New(ctx context.Context, dir string, bytes int64) (_ *Volume, err error) {
	if os.Geteuid() != 0 {
		return nil, errors.New("disks of our own need root, to mount them")
	}
	v := &Volume{dir: dir, image: dir + ".ext4"}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, v.Close(ctx))
		}
	}()
	if err := os.WriteFile(v.image, nil, 0o600); err != nil {
		return nil, err
	}
	if err := os.Truncate(v.image, max(bytes, smallest)); err != nil {
		return nil, err
	}
	// Without room that only root may use: a full disk is full.
	if _, err := command(ctx, "mkfs.ext4", "-q", "-F", "-m", "0", v.image); err != nil {
		return nil, err
	}
	return v, v.mount(ctx)
}

// Dir is where it is mounted.
func (v *Volume) Dir() string { return v.dir }

func (v *Volume) mount(ctx context.Context) error {
	out, err := command(ctx, "losetup", "--find", "--show", v.image)
	if err != nil {
		return err
	}
	v.device = strings.TrimSpace(out)
	if err := unix.Mount(v.device, v.dir, "ext4", unix.MS_NOATIME, "errors=remount-ro"); err != nil {
		return fmt.Errorf("mount %s: %w", v.device, err)
	}
	v.mounted, v.faulty = true, false
	return nil
}

func (v *Volume) unmount(ctx context.Context) error {
	if v.mounted {
		if err := unix.Unmount(v.dir, 0); err != nil {
			return fmt.Errorf("unmount %s: %w (does a process still have files on it?)", v.dir, err)
		}
		v.mounted = false
	}
	if v.device != "" {
		if _, err := command(ctx, "losetup", "--detach", v.device); err != nil {
			return err
		}
		v.device = ""
	}
	return nil
}

// Fill takes all the room there is. A disk that is full is so for every process.
func (v *Volume) Fill() error {
	file, err := os.OpenFile(filepath.Join(v.dir, ballast), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	for size := 1 << 20; size > 0; { // in ever smaller pieces, down to a byte
		_, err := file.Write(make([]byte, size))
		if err == nil {
			err = file.Sync()
		}
		switch {
		case errors.Is(err, unix.ENOSPC):
			size /= 2
		case err != nil:
			return errors.Join(err, file.Close())
		}
	}
	return file.Close()
}

// Free gives back what Fill took, also where the disk fails later.
func (v *Volume) Free() error {
	err := os.Remove(filepath.Join(v.dir, ballast))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	dir, err := os.Open(v.dir)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// ReadOnly has the file system find a fault: it goes read-only under the processes that use it, until Repair. It is frozen
// meanwhile: ext4 tells a sync that is under way that it worked, and loses what was written (seen on Linux 6.18, four
// times of 25), which no program can know.
func (v *Volume) ReadOnly() error {
	dir, err := os.Open(v.dir)
	if err != nil {
		return err
	}
	defer dir.Close()
	const freeze, thaw = 0xc0045877, 0xc0045878 // FIFREEZE, FITHAW
	if err := unix.IoctlSetInt(int(dir.Fd()), freeze, 0); err != nil {
		return err
	}
	v.faulty = true
	return errors.Join(
		os.WriteFile("/sys/fs/ext4/"+filepath.Base(v.device)+"/trigger_fs_error", []byte("1"), 0),
		unix.IoctlSetInt(int(dir.Fd()), thaw, 0))
}

// Fail is a disk that is gone, as in a power cut: everything fails from now on, syncs included, until Repair. What was
// written and not synced is lost.
func (v *Volume) Fail() error {
	dir, err := os.Open(v.dir)
	if err != nil {
		return err
	}
	v.faulty = true
	const shutdown, noFlush = 0x8004587d, 2 // EXT4_IOC_SHUTDOWN, EXT4_GOING_FLAGS_NOLOGFLUSH
	return errors.Join(unix.IoctlSetPointerInt(int(dir.Fd()), shutdown, noFlush), dir.Close())
}

// Faulty reports whether it needs Repair.
func (v *Volume) Faulty() bool { return v.faulty }

// Repair is what an operator does after ReadOnly or Fail: unmount, check, mount. No process may have a file open on it.
func (v *Volume) Repair(ctx context.Context) error {
	if err := v.unmount(ctx); err != nil {
		return err
	}
	if out, err := command(ctx, "e2fsck", "-f", "-y", v.image); err != nil {
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.ExitCode() != 1 { // 1: what was wrong is right now
			return fmt.Errorf("%w: %s", err, out)
		}
	}
	return v.mount(ctx)
}

// Close unmounts it and removes everything.
func (v *Volume) Close(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	if err := v.unmount(ctx); err != nil {
		return err
	}
	return errors.Join(os.RemoveAll(v.dir), os.RemoveAll(v.image))
}

func command(ctx context.Context, name string, args ...string) (string, error) {
	out, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
	if err != nil {
		return string(out), fmt.Errorf("%s: %w: %s", name, err, strings.TrimSpace(string(out)))
	}
	return string(out), nil
}
