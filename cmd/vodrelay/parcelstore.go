package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"github.com/vodrelay/vodrelay/pkg/admin"
	"github.com/vodrelay/vodrelay/pkg/config"
	"github.com/vodrelay/vodrelay/pkg/event"
	"github.com/vodrelay/vodrelay/pkg/store"
)

// parcelStore is the store as the commands about parcels use it: opened by the command itself, or through
// the admin server of the daemon that has it.
type parcelStore interface {
	List(ctx context.Context, f store.Filter, after store.Cursor, limit int) ([]admin.Parcel, store.Cursor, error)
	Get(ctx context.Context, id, sink string) ([]admin.Parcel, error)
	Replay(ctx context.Context, f store.Filter) (int64, error)
	Drop(ctx context.Context, f store.Filter) (int64, error)
	Totals(ctx context.Context) (waiting, dead int64, err error)
}

// withParcels gives f the configured store: through a daemon that uses it, or else opened beside it.
func (p *program) withParcels(cmd *cobra.Command, f func(context.Context, parcelStore) error) error {
	cfg, err := p.loadForParcels(cmd)
	if err != nil {
		return err
	}
	ctx, unwatch := untilSignal(cmd.Context(), zap.NewNop(), func() {})
	defer unwatch()
	remote, err := daemonWith(ctx, cfg)
	switch {
	case err != nil:
		return err
	case remote != nil:
		return f(ctx, remote)
	}
	return openStore(ctx, cfg, func(s *store.Store) error { return f(ctx, local{s}) })
}

// withStore opens the configured store beside a daemon that may be running.
func (p *program) withStore(cmd *cobra.Command, f func(context.Context, *store.Store) error) error {
	cfg, err := p.loadForParcels(cmd)
	if err != nil {
		return err
	}
	ctx, unwatch := untilSignal(cmd.Context(), zap.NewNop(), func() {})
	defer unwatch()
	return openStore(ctx, cfg, func(s *store.Store) error { return f(ctx, s) })
}

func (p *program) loadForParcels(cmd *cobra.Command) (*config.Config, error) {
	cfg, err := p.load(cmd)
	if err == nil && cfg.Store.Driver == store.DriverNone {
		err = &exitError{exitConfig, errors.New("store.driver is none: there are no parcels")}
	}
	return cfg, err
}

func openStore(ctx context.Context, cfg *config.Config, f func(*store.Store) error) error {
	s, err := store.Open(ctx, cfg.Store, zap.NewNop(), store.Admin())
	if err != nil {
		return fatal(err)
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTime)
		defer cancel()
		_ = s.Close(ctx) // everything that was asked for is committed already
	}()
	return f(s)
}

// daemonWith is the daemon that answers at the configured address, if it uses the configured store; else nil.
func daemonWith(ctx context.Context, cfg *config.Config) (*remote, error) {
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
	return &remote{client}, nil
}

// local is a store that this process has opened.
type local struct{ *store.Store }

func (l local) List(ctx context.Context, f store.Filter, after store.Cursor, limit int) ([]admin.Parcel, store.Cursor, error) {
	found, next, err := l.Store.List(ctx, f, after, limit)
	return views(found, false), next, err
}

func (l local) Get(ctx context.Context, id, sink string) ([]admin.Parcel, error) {
	found, err := l.Store.Get(ctx, id, sink)
	return views(found, true), err
}

func views(parcels []event.Parcel, withContent bool) []admin.Parcel {
	all := make([]admin.Parcel, len(parcels))
	for i, p := range parcels {
		all[i] = admin.View(p, withContent)
	}
	return all
}

// remote is a store that a daemon has opened.
type remote struct{ client *admin.Client }

func (r *remote) List(ctx context.Context, f store.Filter, after store.Cursor, limit int) ([]admin.Parcel, store.Cursor, error) {
	page, err := r.client.List(ctx, admin.Filter(f), string(after), limit)
	return page.Parcels, store.Cursor(page.Next), err
}

func (r *remote) Get(ctx context.Context, id, sink string) ([]admin.Parcel, error) {
	found, err := r.client.Get(ctx, id, sink)
	var refused *admin.RefusedError
	if errors.As(err, &refused) && refused.Status == 404 {
		return nil, nil
	}
	return found, err
}

func (r *remote) Replay(ctx context.Context, f store.Filter) (int64, error) {
	return r.client.Replay(ctx, selection(f))
}

func (r *remote) Drop(ctx context.Context, f store.Filter) (int64, error) {
	return r.client.Drop(ctx, selection(f))
}

func selection(f store.Filter) admin.Selection {
	sel := admin.Filter(f).Selection()
	sel.All = f == (store.Filter{})
	return sel
}

func (r *remote) Totals(ctx context.Context) (waiting, dead int64, err error) {
	status, err := r.client.Status(ctx)
	if err != nil {
		return 0, 0, err
	}
	if status.Parcels == nil {
		return 0, 0, fmt.Errorf("the daemon cannot read its store: %v", status.Reasons)
	}
	return status.Parcels.Waiting, status.Parcels.Dead, nil
}
