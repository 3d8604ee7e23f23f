package app

import (
	"context"
	"fmt"

	"go.uber.org/zap"

	"github.com/vodrelay/vodrelay/pkg/callback"
	"github.com/vodrelay/vodrelay/pkg/config"
	"github.com/vodrelay/vodrelay/pkg/event"
	"github.com/vodrelay/vodrelay/pkg/retry"
)

// storingShare is which part of the time to an answer an event may take to be stored. What is not stored by then is
// sent in the rest.
const storingShare = 4

// newReceiver makes the receiver of VOD's normal callback, if that is a source. With a store it answers as
// soon as an event is stored, since VOD waits 5 s and no sink can promise to be that quick; what cannot be stored is sent.
func (a *App) newReceiver() (err error) {
	if !a.cfg.Receives() {
		return nil
	}
	handler := callback.HandlerFunc(a.pipeline.Handle)
	if a.store != nil {
		patience := a.cfg.Callback.AnswerWithin / storingShare
		handler = func(ctx context.Context, d event.Delivery) error { return a.pipeline.Store(ctx, d, patience) }
	}
	a.receiver, err = callback.New(receiverConfig(a.cfg), a.log, handler)
	if err != nil {
		return fmt.Errorf("callback: %w", err)
	}
	for _, warning := range applicationWarnings(a.cfg) {
		a.log.Warn("callback: " + warning)
	}
	if c := receiverConfig(a.cfg); a.store == nil { // the others the receiver tells itself
		for _, warning := range c.Warnings(false)[len(c.Warnings(true)):] {
			a.log.Warn("callback: " + warning)
		}
	}
	return nil
}

// receiverConfig gives notifications the application, which they do not name, where there is only one.
func receiverConfig(cfg *config.Config) callback.Config {
	c := cfg.Callback
	if c.SubAppID == 0 && len(cfg.Vod.SubAppIDs) == 1 {
		c.SubAppID = cfg.Vod.SubAppIDs[0]
	}
	return c
}

// applicationWarnings says when a pushed and a pulled copy of one event may count as two, since they do not name
// the same application: a target deduplicates by application and ID.
func applicationWarnings(cfg *config.Config) []string {
	if !cfg.Pulls() || !cfg.Receives() {
		return nil
	}
	pushed, pulled := receiverConfig(cfg).SubAppID, cfg.Vod.SubAppIDs
	const consequence = ", so that an event that comes both ways arrives twice, with two IDs"
	switch {
	case pushed == 0 && len(pulled) > 1:
		return []string{"callback.sub_app_id does not say which of the applications posts" + consequence + ": set it"}
	case pushed != 0 && len(pulled) == 0:
		return []string{fmt.Sprintf("callback.sub_app_id is %d, and vod.sub_app_ids does not say which application is pulled%s: set vod.sub_app_ids to [%d] if it is the same", pushed, consequence, pushed)}
	}
	return nil
}

// receive serves until ctx is done; when it ends before that, it stops everything.
func (a *App) receive(ctx context.Context, stop context.CancelCauseFunc) {
	if err := a.receiver.Serve(ctx); err != nil {
		stop(&endedError{fmt.Errorf("callback: %w", err)})
	}
}

// checkReceiver says what the receiver's configuration risks, and whether its address is free.
func checkReceiver(ctx context.Context, cfg *config.Config, durable bool, d beside) []Finding {
	if !cfg.Receives() {
		return nil
	}
	c := receiverConfig(cfg)
	const name = "callback receiver"
	server, err := callback.New(c, zap.NewNop(), callback.HandlerFunc(nil))
	if err != nil {
		return []Finding{finding(name, "", retry.Permanent(fmt.Errorf("callback: %w", err)))}
	}
	findings := []Finding{d.listening(ctx, name, c.Listen, server)}
	for _, warning := range append(c.Warnings(durable), applicationWarnings(cfg)...) {
		findings = append(findings, Finding{Name: name, Status: Warned, Detail: warning})
	}
	return findings
}
