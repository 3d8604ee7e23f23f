package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"github.com/vodrelay/vodrelay/pkg/admin"
	"github.com/vodrelay/vodrelay/pkg/app"
	"github.com/vodrelay/vodrelay/pkg/config"
	"github.com/vodrelay/vodrelay/pkg/event"
	"github.com/vodrelay/vodrelay/pkg/selection"
	"github.com/vodrelay/vodrelay/pkg/store"
)

// parcelStore is the store as the commands about parcels use it: opened by the command itself, or through
// the admin server of the daemon that has it.
type parcelStore interface {
	List(ctx context.Context, f store.Filter, after store.Cursor, limit int) ([]admin.Parcel, store.Cursor, error)
	Get(ctx context.Context, id, sink string) ([]admin.Parcel, error)
	Plan(ctx context.Context, sel selection.Selection) (*selection.Plan, error)
	Replay(ctx context.Context, sel selection.Selection) (int64, error)
	Drop(ctx context.Context, sel selection.Selection) (int64, error)
	PlanMove(ctx context.Context, m selection.Move) (*selection.Plan, error)
	Move(ctx context.Context, m selection.Move) (selection.Moved, error)
	Totals(ctx context.Context) (waiting, dead int64, err error)
}

// withParcels gives f the configuration and its store: through a daemon that uses it, or else opened beside it.
func (p *program) withParcels(cmd *cobra.Command, f func(context.Context, *config.Config, parcelStore) error) error {
	cfg, err := p.loadForParcels(cmd)
	if err != nil {
		return err
	}
	ctx, unwatch := untilSignal(cmd.Context(), zap.NewNop(), func(context.Context) {})
	defer unwatch()
	daemon, err := app.Daemon(ctx, cfg)
	switch {
	case err != nil:
		return err
	case daemon != nil:
		return f(ctx, cfg, &remote{daemon})
	}
	return openStore(ctx, cfg, func(s *store.Store) error { return f(ctx, cfg, local{s, cfg.Sinks}) })
}

// withStore opens the configured store beside a daemon that may be running.
func (p *program) withStore(cmd *cobra.Command, f func(context.Context, *config.Config, *store.Store) error) error {
	cfg, err := p.loadForParcels(cmd)
	if err != nil {
		return err
	}
	ctx, unwatch := untilSignal(cmd.Context(), zap.NewNop(), func(context.Context) {})
	defer unwatch()
	return openStore(ctx, cfg, func(s *store.Store) error { return f(ctx, cfg, s) })
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

// local is a store that this process has opened.
type local struct {
	*store.Store
	sinks []config.Sink
}

func (l local) List(ctx context.Context, f store.Filter, after store.Cursor, limit int) ([]admin.Parcel, store.Cursor, error) {
	found, next, err := l.Store.List(ctx, f, after, limit)
	return views(found, false), next, err
}

func (l local) Get(ctx context.Context, id, sink string) ([]admin.Parcel, error) {
	id, err := selection.Resolve(ctx, l.Store, id)
	if err != nil {
		return nil, err
	}
	found, err := l.Store.Get(ctx, id, sink)
	if err == nil && len(found) == 0 {
		err = &selection.NotFoundError{ID: id}
	}
	return views(found, true), err
}

func (l local) Plan(ctx context.Context, sel selection.Selection) (*selection.Plan, error) {
	return selection.NewPlan(ctx, l.Store, sel, time.Now())
}

func (l local) Replay(ctx context.Context, sel selection.Selection) (int64, error) {
	return selection.Apply(ctx, l.Store, sel, time.Now(), l.Store.Replay)
}

func (l local) Drop(ctx context.Context, sel selection.Selection) (int64, error) {
	return selection.Apply(ctx, l.Store, sel, time.Now(), l.Store.Drop)
}

func (l local) PlanMove(ctx context.Context, m selection.Move) (*selection.Plan, error) {
	return app.PlanMove(ctx, l.Store, l.sinks, m)
}

func (l local) Move(ctx context.Context, m selection.Move) (selection.Moved, error) {
	return app.Move(ctx, l.Store, l.sinks, m)
}

func views(parcels []event.Parcel, withContent bool) []admin.Parcel {
	all := make([]admin.Parcel, len(parcels))
	for i, p := range parcels {
		all[i] = admin.View(p, withContent)
	}
	return all
}

// remote is a store that a daemon has opened.
type remote struct{ *admin.Client }

func (r *remote) List(ctx context.Context, f store.Filter, after store.Cursor, limit int) ([]admin.Parcel, store.Cursor, error) {
	page, err := r.Client.List(ctx, f, string(after), limit)
	return page.Parcels, store.Cursor(page.Next), err
}

func (r *remote) Totals(ctx context.Context) (waiting, dead int64, err error) {
	status, err := r.Status(ctx)
	if err != nil {
		return 0, 0, err
	}
	if status.Parcels == nil {
		return 0, 0, fmt.Errorf("the daemon cannot read its store: %v", status.Reasons)
	}
	return status.Parcels.Waiting, status.Parcels.Dead, nil
}
