package world

import (
	"context"
	"fmt"
	"time"

	"github.com/vodrelay/vodrelay/scripts/chaos/ledger"
	"github.com/vodrelay/vodrelay/scripts/chaos/plan"
	"github.com/vodrelay/vodrelay/scripts/chaos/servers"
	targets "github.com/vodrelay/vodrelay/scripts/chaos/target"
)

// target is what a sink sends to, seen from outside.
type target interface {
	// settings are those of the sink in the configuration of r, but for what all sinks have.
	settings(r *relay) map[string]any
	// address is what proxies lead to; "" for none.
	address() string
	// read enters what arrived since the last time. At rest no relay runs, and everything is read; else it may be only
	// what can be had at little cost.
	read(ctx context.Context, l *ledger.Ledger, rest bool) error
	close() error
}

// server is a target, or a store, that is a process.
type server interface {
	Kill()                           // SIGKILL
	Start(ctx context.Context) error // again, at the same address, with all that it had
	Freeze()                         // SIGSTOP
	Thaw()
}

func (w *World) newTarget(ctx context.Context, s plan.Sink) (target, error) {
	switch s.Type {
	case "webhook", "nats", "kafka":
		t, err := targets.Start(ctx, w.options.Self, s.Type, w.path(s.Name))
		if err != nil {
			return nil, err
		}
		if s.Type == "webhook" {
			err = t.Behave(targets.Behaviour{Mode: targets.OK, Poison: refuseMark})
		}
		return &remote{Target: t, sink: s}, err
	case "postgres":
		p, err := servers.NewPostgres(ctx)
		return &table{Postgres: p, name: s.Name, seen: map[string]bool{}}, err
	case "redis":
		r, err := servers.NewRedis(ctx)
		return &stream{Redis: r, name: s.Name, after: "-"}, err
	case "file":
		return &files{name: s.Name, world: w, offset: map[string]int64{}, count: map[string]int{}, first: map[string]time.Time{}}, nil
	}
	return nil, fmt.Errorf("no target of the type %s", s.Type)
}

// remote is a webhook, a NATS server or a Kafka broker.
type remote struct {
	*targets.Target
	sink plan.Sink
}

func (p *remote) address() string { return p.Addr() }
func (p *remote) close() error    { return p.Close() }

func (p *remote) settings(r *relay) map[string]any {
	at := r.links[p.sink.Name].Addr()
	switch p.sink.Type {
	case "kafka":
		return map[string]any{"brokers": []string{at}, "topic": targets.Topic, "request_timeout": "2s"}
	case "nats":
		return map[string]any{"servers": []string{"nats://" + at}, "subject": targets.Stream, "stream": targets.Stream}
	}
	return map[string]any{"url": "http://" + at + "/vod"}
}

func (p *remote) read(ctx context.Context, l *ledger.Ledger, _ bool) error {
	events, err := p.Next(ctx)
	for _, e := range events {
		l.Arrive(p.sink.Name, e.At, e.Body)
	}
	return err
}
