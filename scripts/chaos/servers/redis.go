package servers

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"syscall"

	"github.com/redis/go-redis/v9"

	"github.com/vodrelay/vodrelay/scripts/chaos/child"
)

// Redis is a server that has each command on the disk before it answers.
type Redis struct {
	server
	dir  string
	addr string
}

// NewRedis runs a server on a free port, with its files in a temporary directory.
func NewRedis(ctx context.Context) (_ *Redis, err error) {
	if err := HasRedis(); err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "chaos-redis")
	if err != nil {
		return nil, err
	}
	r := &Redis{dir: dir}
	defer func() {
		if err != nil {
			err = errors.Join(err, r.Close())
		}
	}()
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	r.addr = net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	r.server = server{
		command: child.Command{
			Program: "redis-server", Dir: dir, Log: filepath.Join(dir, "log"),
			Args: []string{
				"--bind", "127.0.0.1", "--port", strconv.Itoa(port), "--dir", dir, "--appendonly", "yes", "--appendfsync", "always",
				"--save", "", "--maxmemory-policy", "noeviction",
			},
		},
		ready: r.ping, stop: syscall.SIGTERM,
	}
	return r, r.Start(ctx)
}

func (r *Redis) ping(ctx context.Context) error {
	client := redis.NewClient(&redis.Options{Addr: r.addr, MaxRetries: -1})
	return errors.Join(client.Ping(ctx).Err(), client.Close())
}

// Addr is where it listens.
func (r *Redis) Addr() string { return r.addr }

// Close stops it and removes its files.
func (r *Redis) Close() error { return errors.Join(r.Stop(), os.RemoveAll(r.dir)) }
