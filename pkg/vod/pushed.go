package vod

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/vodrelay/vodrelay/pkg/event"
	"github.com/vodrelay/vodrelay/pkg/retry"
)

// modeDelay is the wait for another callback mode: as long as an empty poll takes.
const modeDelay = 5 * time.Second

// byMode judges a refusal of PullEvents that the callback mode may be the reason of. What PullEvents answers to an
// application in PUSH mode is not documented, and a change of mode takes up to 10 minutes. So when VOD tells the
// application's mode, which shows that address, key and SubAppId are right, a refusal that only a person could cure may
// pass by itself: it must not end a relay that receives posts and waits for the change.
func (q *Queue) byMode(ctx context.Context, err error) error {
	var refused *Error
	final := retry.IsPermanent(err)
	if !errors.As(err, &refused) || !final && refused.Code != "FailedOperation" || retry.IsKeyRefused(err) || IsDenied(err) {
		return err
	}
	settings, asked := q.client.EventConfig(ctx, q.subAppID)
	var hint string
	switch {
	case asked != nil:
		return err
	case settings.Mode == ModePush:
		hint = "the application is in PUSH mode, in which no event goes to the queue: vodrelay mode pull changes it"
	case final:
		hint = "a change of the callback mode takes up to 10 minutes; see the mode with: vodrelay mode"
	default:
		return err
	}
	closed := retry.After(retry.WithHint(fmt.Errorf("%w: %w", event.ErrQueueClosed, refused), hint), modeDelay)
	if retry.HadNoEffect(err) {
		return retry.NoEffect(closed)
	}
	return closed
}
