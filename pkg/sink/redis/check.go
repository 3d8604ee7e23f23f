package redis

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/vodrelay/vodrelay/pkg/retry"
	"github.com/vodrelay/vodrelay/pkg/safetext"
)

// Check connects, logs in, and asks, if the key is the same for all events, whether it holds the right type
// of value or none, and whether the user may write there. A cluster's masters are all asked.
func (s *Sink) Check(ctx context.Context) error {
	ctx, cancel := s.shortly(ctx)
	defer cancel()
	client, err := s.clients.get()
	if err != nil {
		return s.judge(err, s.cfg.Key)
	}
	var master redis.Cmdable = client
	if cluster, ok := client.(*redis.ClusterClient); ok {
		if err := cluster.ForEachMaster(ctx, ping); err != nil {
			return s.judge(err, s.cfg.Key)
		}
		if master, err = cluster.MasterForKey(ctx, s.cfg.Key); err != nil {
			return s.judge(err, s.cfg.Key)
		}
	} else if err := permitted(client.Ping(ctx).Err()); err != nil {
		return s.judge(err, s.cfg.Key)
	}
	if s.cfg.Key != "" {
		if err := s.checkKey(ctx, master); err != nil {
			return err
		}
	}
	if s.cfg.DedupWindow > 0 {
		var keys []string
		if s.cfg.Key != "" {
			keys = append(keys, s.cfg.Key)
		}
		if err := master.Eval(ctx, "return 1", keys).Err(); err != nil {
			return s.judge(err, s.cfg.Key)
		}
	}
	return s.checkServer(ctx, master)
}

func ping(ctx context.Context, node *redis.Client) error { return permitted(node.Ping(ctx).Err()) }

// permitted is err without the answer to one who may not do what only a check needs.
func permitted(err error) error {
	if redis.HasErrorPrefix(err, "NOPERM") {
		return nil
	}
	return err
}

// types are what a key must hold; a channel is no key.
var types = map[string]string{commandXAdd: "stream", commandLPush: "list"}

func (s *Sink) checkKey(ctx context.Context, master redis.Cmdable) error {
	want, ok := types[s.cfg.Command]
	if !ok {
		return nil
	}
	kind, err := master.Type(ctx, s.cfg.Key).Result()
	if err := permitted(err); err != nil {
		return s.judge(err, s.cfg.Key)
	}
	if err == nil && kind != "none" && kind != want {
		return s.judge(wrongTypeError{}, s.cfg.Key)
	}
	if s.cfg.Command != commandXAdd {
		return nil
	}
	// An ID that is none: whether the command is permitted is found out before, and nothing is written.
	const noID = "check"
	pipe := master.Pipeline()
	_ = pipe.Process(ctx, redis.NewCmd(ctx, "xadd", s.cfg.Key, noID, FieldID, noID))
	_, err = pipe.Exec(ctx)
	if err == nil || strings.Contains(strings.ToLower(err.Error()), "invalid stream id") {
		return nil
	}
	return s.judge(err, s.cfg.Key)
}

// wrongTypeError is the server's own answer to a write to such a key.
type wrongTypeError struct{}

func (wrongTypeError) Error() string {
	return "WRONGTYPE Operation against a key holding the wrong kind of value"
}
func (wrongTypeError) RedisError() {}

// checkServer compares the server with what is asked of it. A server that does not tell is not asked twice.
func (s *Sink) checkServer(ctx context.Context, master redis.Cmdable) error {
	info, err := master.Info(ctx).Result()
	if err != nil {
		return nil //nolint:nilerr // INFO may be forbidden
	}
	value := func(name string) (int, bool) {
		_, rest, found := strings.Cut(info, "\n"+name+":")
		text, _, _ := strings.Cut(rest, "\r\n")
		n, err := strconv.Atoi(text)
		return n, found && err == nil
	}
	if n, ok := value("connected_slaves"); ok && n < s.cfg.Replicas {
		return retry.WithHint(fmt.Errorf("%s: %s connected, and replicas asks for %d", s.servers, safetext.Count(n, "replica is", "replicas are"), s.cfg.Replicas),
			"start the replicas, or lower replicas")
	}
	if on, ok := value("aof_enabled"); ok && on == 0 && s.cfg.Command != commandPublish {
		s.log.Warn("the server keeps no append-only file: events that it has accepted are lost with a crash; set appendonly to yes")
	}
	return nil
}
