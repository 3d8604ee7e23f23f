// Package redis is the sink that writes each event to Redis, or what speaks its protocol, such as Valkey and
// TencentDB for Redis: as an entry of a stream (XADD), or, with weaker guarantees, an element of a list
// (LPUSH) or a message of a channel (PUBLISH). The field id of an entry is the event's DedupID.
//
// An event counts as accepted when the master has answered and, on request, so many replicas hold it. How
// much of that a crash can undo is a matter of the server's appendfsync.
//
// TencentDB for Redis is reached through a proxy, its cluster edition too: mode single. The name of a custom
// account is part of the password. Source: https://www.tencentcloud.com/document/product/239/34590.
//
// Without dedup_window, an event whose answer was lost is written again when it is sent again. With it, the
// event and a mark of its ID are written in one step, and what has a mark is not written again.
package redis

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"

	"github.com/vodrelay/vodrelay/pkg/event"
	"github.com/vodrelay/vodrelay/pkg/expression"
	"github.com/vodrelay/vodrelay/pkg/redact"
	"github.com/vodrelay/vodrelay/pkg/sink/internal/group"
	"github.com/vodrelay/vodrelay/pkg/sink/internal/renew"
	"github.com/vodrelay/vodrelay/pkg/sink/internal/tlsconf"
)

const (
	batchLength = 256     // commands in one pipeline at most
	batchBytes  = 1 << 20 // a pipeline is not made longer than this, unless by its last command
	pipelines   = 4       // that run at a time: one that waits for an answer does not hold up the others
)

// Sink writes to one server, cluster or master.
type Sink struct {
	cfg     Config
	servers string // as errors name them
	key     *expression.Expression
	log     *zap.Logger
	clients *clients
	batches *group.Batcher[*item]
	watch   renew.Watch

	ctx    context.Context // of the pipelines
	cancel context.CancelFunc
}

// New makes the sink. It reads the files but does not connect. Close must be called.
func New(cfg Config, log *zap.Logger) (*Sink, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	silence()
	var tlsConfig *tls.Config
	if cfg.UseTLS {
		var err error
		if tlsConfig, err = cfg.TLS.Load(); err != nil {
			return nil, err
		}
		if cfg.TLS.InsecureSkipVerify {
			log.Warn(tlsconf.InsecureWarning)
		}
	}
	opts, err := cfg.options(tlsConfig)
	if err != nil {
		return nil, err
	}
	key, err := cfg.keyExpression()
	if err != nil {
		return nil, err
	}
	s := &Sink{
		cfg:     cfg,
		servers: redact.Addresses(cfg.Addresses),
		key:     key,
		log:     log,
		clients: &clients{
			opts:             opts,
			sentinelUsername: cfg.SentinelUsername,
			sentinelPassword: secret("sentinel_password_file", cfg.SentinelPassword, cfg.SentinelPasswordFile),
		},
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.batches = group.NewBatcher(group.Limits{Workers: pipelines, Items: batchLength, Bytes: batchBytes}, s.send, nil)
	return s, nil
}

// Send returns nil when the server has answered that the event is written, and the replicas if wanted.
func (s *Sink) Send(ctx context.Context, e event.Event) error {
	if err := ctx.Err(); err != nil {
		return s.judge(err, "")
	}
	it, err := s.command(ctx, e)
	if err != nil {
		return err
	}
	err = s.judge(s.batches.Submit(ctx, it), it.key)
	if s.watch.Lasts(err) {
		s.clients.renew()
	}
	return err
}

// Untested is what Check cannot know.
func (s *Sink) Untested() string {
	switch {
	case s.cfg.Key == "":
		return "whether the user may write to the keys that events name"
	case s.cfg.Command == commandXAdd:
		return "whether the server has memory left"
	}
	return "whether the user may run " + s.cfg.Command + ", and whether the server has memory left"
}

// Close sends what waits and ends the connections.
func (s *Sink) Close(ctx context.Context) error {
	err := s.batches.Close(ctx)
	s.cancel()
	s.clients.close()
	if err != nil {
		<-s.batches.Done() // the end of the clients ends them
		return fmt.Errorf("%s: events were not acknowledged before the end: %w", s.servers, err)
	}
	return nil
}

// item is one Send that waits.
type item struct {
	*group.Item
	key string
	cmd *redis.Cmd
	err error // of the command
}

// send carries a batch out.
func (s *Sink) send(items []*item) {
	s.exec(s.ctx, items)
	for _, it := range items {
		it.Finish(it.err)
	}
}

// exec sends items in pipelines, one for each server, and sets the error of each.
func (s *Sink) exec(ctx context.Context, items []*item) {
	client, err := s.clients.get()
	if err != nil {
		failAll(items, err)
		return
	}
	// The client's own pipeline over a cluster would repeat all of a server's commands when one answer is lost.
	cluster, ok := client.(*redis.ClusterClient)
	if !ok {
		s.pipeline(ctx, client, items)
		return
	}
	ctx, cancel := context.WithTimeout(ctx, s.cfg.ConnectTimeout+s.cfg.answerTimeout())
	defer cancel()
	byNode := make(map[*redis.Client][]*item)
	for _, it := range items {
		node, err := cluster.MasterForKey(ctx, it.key)
		if err != nil {
			it.err = err
			continue
		}
		byNode[node] = append(byNode[node], it)
	}
	var nodes sync.WaitGroup
	for node, items := range byNode {
		nodes.Go(func() {
			s.pipeline(ctx, node, items)
			s.redirect(ctx, cluster, items)
		})
	}
	nodes.Wait()
}

// pipeline sends items to one server. WAIT covers what its own connection has written, so it comes last in
// the same pipeline.
func (s *Sink) pipeline(ctx context.Context, server redis.Cmdable, items []*item) {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.ConnectTimeout+s.cfg.answerTimeout())
	defer cancel()
	pipe := server.Pipeline()
	for _, it := range items {
		_ = pipe.Process(ctx, it.cmd) // only queues it
	}
	var wait *redis.IntCmd
	if s.cfg.Replicas > 0 {
		wait = redis.NewIntCmd(ctx, "wait", s.cfg.Replicas, s.cfg.ReplyTimeout.Milliseconds())
		_ = pipe.Process(ctx, wait)
	}
	_, err := pipe.Exec(ctx)
	if wait != nil && wait.Err() == nil && wait.Val() < int64(s.cfg.Replicas) {
		wait.SetErr(&replicasError{got: wait.Val(), want: s.cfg.Replicas})
	}
	for _, it := range items {
		it.err = it.cmd.Err()
		if it.err == nil && it.cmd.Val() == nil { // neither answer nor error
			it.err = errors.Join(errNoAnswer, err)
		}
		if it.err == nil && wait != nil {
			it.err = wait.Err()
		}
	}
}

// redirect follows the servers that say a key is elsewhere, as they do while a cluster is changed. Such a
// command was not carried out.
func (s *Sink) redirect(ctx context.Context, cluster *redis.ClusterClient, items []*item) {
	for _, it := range items {
		if !redis.HasErrorPrefix(it.err, "MOVED ") && !redis.HasErrorPrefix(it.err, "ASK ") {
			continue
		}
		if s.cfg.Replicas > 0 { // WAIT would go elsewhere; the next attempt knows where
			cluster.ReloadState(ctx)
			continue
		}
		it.cmd = redis.NewCmd(ctx, it.cmd.Args()...)
		it.err = cluster.Process(ctx, it.cmd)
	}
}

func failAll(items []*item, err error) {
	for _, it := range items {
		it.err = err
	}
}

// shortly bounds what belongs to a check, besides its own context.
func (s *Sink) shortly(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, s.cfg.ConnectTimeout+s.cfg.ReplyTimeout+time.Second)
}
