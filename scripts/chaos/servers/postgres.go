package servers

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"

	"github.com/jackc/pgx/v5"

	"github.com/vodrelay/vodrelay/scripts/chaos/child"
)

// Postgres is a cluster of its own. Its operator is the user postgres; relays use the user Relay, so that what an
// operator does to that one does not bind the operator. Nobody has a password.
type Postgres struct {
	server
	dir  string
	port int
}

// Relay is the user, and the name of the database, for relays.
const Relay = "relay"

// NewPostgres makes a cluster with the database Relay in a temporary directory, and runs it on a free port. settings
// are lines of postgresql.conf.
func NewPostgres(ctx context.Context, settings ...string) (_ *Postgres, err error) {
	if err := HasPostgres(); err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "chaos-pg") // a place that its user can reach
	if err != nil {
		return nil, err
	}
	p := &Postgres{dir: dir}
	defer func() {
		if err != nil {
			err = errors.Join(err, p.Close())
		}
	}()
	who, err := account()
	if err == nil && who != nil {
		err = os.Chown(dir, int(who.Uid), int(who.Gid))
	}
	if err == nil {
		err = initialize(ctx, dir, who)
	}
	if err == nil {
		p.port, err = freePort()
	}
	if err != nil {
		return nil, err
	}
	args := []string{
		"-D", filepath.Join(dir, "data"), "-k", dir, "-c", "listen_addresses=127.0.0.1", "-p", strconv.Itoa(p.port),
		"-c", "max_connections=60", "-c", "shared_buffers=32MB",
	}
	for _, setting := range settings {
		args = append(args, "-c", setting)
	}
	p.server = server{
		command: child.Command{
			Program: filepath.Join(programs(), "postgres"), Args: args, Dir: dir, Env: []string{"LC_ALL=C"}, Account: who, Log: filepath.Join(dir, "log"),
		},
		ready: func(ctx context.Context) error { return p.order(ctx, "SELECT") },
		stop:  syscall.SIGINT, // it ends the sessions of its clients
	}
	if err := p.Start(ctx); err != nil {
		return nil, err
	}
	return p, p.order(ctx, "CREATE ROLE "+Relay+" LOGIN", "CREATE DATABASE "+Relay+" OWNER "+Relay)
}

func initialize(ctx context.Context, dir string, who *syscall.Credential) error {
	cmd := exec.CommandContext(ctx, filepath.Join(programs(), "initdb"), "-D", filepath.Join(dir, "data"), "-U", "postgres", "--auth=trust", "--encoding=UTF8", "--no-sync")
	cmd.Dir, cmd.Env = dir, append(os.Environ(), "LC_ALL=C")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: who}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("initdb: %w: %s", err, out)
	}
	return nil
}

// Addr is where it listens.
func (p *Postgres) Addr() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(p.port)) }

// URL is the address of its database for relays, through what listens at addr: Addr, or a proxy before it.
func (p *Postgres) URL(addr string) string {
	return "postgres://" + Relay + "@" + addr + "/" + Relay + "?sslmode=disable"
}

// ReadOnly makes it look as a standby does after a failover: the sessions of relays end, and new ones cannot write. Off
// makes it the primary again, which ends them once more.
func (p *Postgres) ReadOnly(ctx context.Context, on bool) error {
	change := "ALTER ROLE " + Relay + " RESET default_transaction_read_only"
	if on {
		change = "ALTER ROLE " + Relay + " SET default_transaction_read_only = on"
	}
	return p.order(ctx, change, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '"+Relay+"'")
}

// order has the operator carry out statements.
func (p *Postgres) order(ctx context.Context, statements ...string) error {
	conn, err := pgx.Connect(ctx, "postgres://postgres@"+p.Addr()+"/postgres?sslmode=disable")
	if err != nil {
		return err
	}
	for _, statement := range statements {
		if _, err = conn.Exec(ctx, statement); err != nil {
			err = fmt.Errorf("%s: %w", statement, err)
			break
		}
	}
	return errors.Join(err, conn.Close(ctx))
}

// Close stops it and removes the cluster.
func (p *Postgres) Close() error {
	return errors.Join(p.Stop(), os.RemoveAll(p.dir))
}
