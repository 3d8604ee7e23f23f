package app

import (
	"context"
	"errors"
	"io/fs"
	"syscall"

	"go.uber.org/zap"

	"github.com/vodrelay/vodrelay/pkg/admin"
	"github.com/vodrelay/vodrelay/pkg/config"
	"github.com/vodrelay/vodrelay/pkg/retry"
)

// listener is a server that can take its address before it serves.
type listener interface {
	Listen(ctx context.Context) error
	Shutdown(ctx context.Context) error
}

// listenOn takes a server's address. That it is in use, or not this machine's yet, may pass; that this user may not
// take it does not.
func listenOn(ctx context.Context, server listener) error {
	err := server.Listen(ctx)
	if errors.Is(err, fs.ErrPermission) {
		return retry.Permanent(retry.WithHint(err, "choose a port from 1024 on, or give vodrelay the capability CAP_NET_BIND_SERVICE (AmbientCapabilities in systemd)"))
	}
	return err
}

// Listen takes the addresses of the admin server and of the receiver, as far as there are these, so that a program
// learns early that one is taken. Run does it too.
func (a *App) Listen(ctx context.Context) error {
	if a.admin != nil {
		if err := listenOn(ctx, a.admin); err != nil {
			return err
		}
	}
	if a.receiver != nil {
		return listenOn(ctx, a.receiver)
	}
	return nil
}

// Daemon is the one that answers at the configured admin address, if it uses the configured store; else nil.
func Daemon(ctx context.Context, cfg *config.Config) (*admin.Client, error) {
	id, err := cfg.Store.ID()
	if cfg.Admin.Listen == "" || err != nil {
		return nil, nil //nolint:nilerr,nilnil // whoever opens the store learns of the error
	}
	client, err := admin.NewClient(cfg.Admin)
	if err != nil {
		return nil, err
	}
	status, err := client.Status(ctx)
	if err != nil || status.Store != id {
		return nil, nil //nolint:nilerr,nilnil // nobody, or somebody else, is there
	}
	return client, nil
}

// beside reports whether a check runs beside the daemon that it is about, which has all that only one can have.
type beside bool

func daemonBeside(ctx context.Context, cfg *config.Config) beside {
	ctx, cancel := context.WithTimeout(ctx, checkTime)
	defer cancel()
	daemon, err := Daemon(ctx, cfg)
	return err == nil && daemon != nil
}

// taken is the finding that somebody else has what run would need.
func (d beside) taken(name string, err error) Finding {
	f := finding(name, "", err)
	if d {
		f.Status, f.Detail, f.Hint = Passed, f.Detail+": the vodrelay that runs with this configuration", ""
	}
	return f
}

// listening is the finding about an address.
func (d beside) listening(ctx context.Context, name, address string, server listener) Finding {
	err := listenOn(ctx, server)
	if closing := server.Shutdown(ctx); err == nil {
		err = closing
	}
	if errors.Is(err, syscall.EADDRINUSE) {
		return d.taken(name, err)
	}
	return finding(name, "can listen on "+address, err)
}

func checkAdmin(ctx context.Context, cfg *config.Config, d beside) []Finding {
	const name = "admin server"
	if cfg.Admin.Listen == "" {
		return nil
	}
	server, err := admin.New(cfg.Admin, zap.NewNop(), admin.Options{Stats: func() (none admin.Stats) { return none }, Observer: admin.NewObserver()})
	if err != nil {
		return []Finding{finding(name, "", retry.Permanent(err))}
	}
	return []Finding{d.listening(ctx, name, cfg.Admin.Listen, server)}
}
