package vod

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vodrelay/vodrelay/pkg/retry"
	"go.uber.org/zap"
)

const (
	// refreshMargin is how long before its end a temporary credential is replaced, or half of what is left
	// if that is less.
	refreshMargin = 5 * time.Minute
	// refreshPause is the wait after a refresh that failed, and the least between two refreshes.
	refreshPause = 15 * time.Second
	// rejectPause is the least age at which a credential that the server refused is fetched again: many
	// requests in flight are refused together.
	rejectPause = time.Second
)

// UntidyHint is what to do about what stands around a key.
const UntidyHint = "correct the source: the key alone, without quotes or blanks; in a file a line end behind it is fine"

var errClosed = errors.New("the client is closed")

// keeper holds the credential in use and replaces it in the background. One goroutine fetches; signing
// never waits for it while the credential in use is valid, however long a metadata service hangs.
// It is the SDK's common.CredentialIface.
type keeper struct {
	provider Provider
	log      *zap.Logger
	current  atomic.Pointer[Credential]

	mu       sync.Mutex
	err      error         // of the last attempt
	ended    chan struct{} // closed when the attempt that is under way, or else the next one, has ended
	fetched  time.Time     // when the last attempt ended
	next     time.Time     // of the next attempt by itself; only for a credential that ends
	rejected bool          // the server refused the credential, and the source was not asked since
	refused  bool          // the server refused the credential, and the source has no other yet
	changed  chan struct{} // closed when another credential is in use

	wake   chan struct{}
	stop   context.CancelFunc
	closed <-chan struct{}
	done   chan struct{}
	streak retry.Streak
}

func newKeeper(p Provider, log *zap.Logger) *keeper {
	ctx, stop := context.WithCancel(context.Background())
	k := &keeper{
		provider: p, log: log,
		ended: make(chan struct{}), changed: make(chan struct{}),
		wake: make(chan struct{}, 1),
		stop: stop, closed: ctx.Done(),
		done: make(chan struct{}),
	}
	go k.run(ctx)
	return k
}

func (k *keeper) close() {
	k.stop()
	<-k.done
}

// get returns the credential in use. Only when there is none, or it has expired, does it wait for one.
func (k *keeper) get(ctx context.Context) (*Credential, error) {
	k.mu.Lock()
	cred, ended := k.current.Load(), k.ended
	due := k.due(time.Now())
	k.mu.Unlock()
	if due {
		k.nudge()
	}
	if cred.usable(time.Now()) {
		return cred, nil
	}
	select {
	case <-ended:
	case <-ctx.Done():
		return nil, fmt.Errorf("waiting for a credential: %w", ctx.Err())
	case <-k.closed:
		return nil, errClosed
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if cred = k.current.Load(); cred.usable(time.Now()) {
		return cred, nil
	}
	if k.err == nil {
		return nil, retry.After(errors.New("the credential had expired when it was fetched"), refreshPause)
	}
	return nil, k.err
}

// reject says that the server refused the credential in use.
func (k *keeper) reject() {
	k.mu.Lock()
	k.rejected, k.refused = true, true
	k.schedule()
	k.mu.Unlock()
	k.nudge()
}

// replaced returns a channel that is closed when another credential is in use; nil when the source gives no
// other one.
func (k *keeper) replaced() <-chan struct{} {
	k.mu.Lock()
	defer k.mu.Unlock()
	if cred := k.current.Load(); cred != nil && cred.Recheck == 0 && cred.Expires.IsZero() {
		return nil
	}
	return k.changed
}

func (k *keeper) nudge() {
	select {
	case k.wake <- struct{}{}:
	default:
	}
}

// due reports whether a fetch is called for. k.mu is held.
func (k *keeper) due(now time.Time) bool {
	cred, age := k.current.Load(), now.Sub(k.fetched)
	switch {
	case !cred.usable(now):
		return true
	case k.rejected && age >= rejectPause:
		return true
	case cred.Recheck > 0 && age >= cred.Recheck:
		return true
	}
	return !k.next.IsZero() && !now.Before(k.next)
}

// schedule sets next after an attempt or a refusal. A source that still gives the same credential is asked
// again after half of the rest. While the server refuses what a file holds, the file is looked at again and
// again: whoever waits makes no calls meanwhile. k.mu is held.
func (k *keeper) schedule() {
	cred := k.current.Load()
	switch {
	case cred == nil:
		k.next = time.Time{}
	case k.refused && cred.Recheck > 0:
		k.next = k.fetched.Add(cred.Recheck)
	case k.err == nil && k.rejected:
		k.next = k.fetched.Add(rejectPause)
	case cred.Expires.IsZero():
		k.next = time.Time{}
	case k.err != nil:
		k.next = k.fetched.Add(refreshPause)
	default:
		left := cred.Expires.Sub(k.fetched)
		k.next = k.fetched.Add(max(left-min(refreshMargin, left/2), refreshPause))
	}
}

func (k *keeper) run(ctx context.Context) {
	defer close(k.done)
	timer := time.NewTimer(0)
	defer timer.Stop()
	timer.Stop() // nothing happens before the first call
	for {
		select {
		case <-ctx.Done():
			return
		case <-k.wake:
		case <-timer.C:
		}
		k.mu.Lock()
		due := k.due(time.Now())
		k.mu.Unlock()
		if due {
			k.fetch(ctx)
		}
		k.mu.Lock()
		next := k.next
		k.mu.Unlock()
		if !next.IsZero() {
			timer.Reset(time.Until(next))
		}
	}
}

// fetch asks the provider once. What it has found stays in use when it finds no more.
func (k *keeper) fetch(ctx context.Context) {
	cred, err := k.retrieve(ctx)
	if ctx.Err() != nil {
		return
	}
	old := k.current.Load()
	k.mu.Lock()
	k.err, k.fetched = err, time.Now()
	if err == nil {
		k.current.Store(&cred)
		k.rejected = false
		if old != nil && !old.signsAs(&cred) { // with the first one nothing was refused yet
			k.refused = false
			close(k.changed)
			k.changed = make(chan struct{})
		}
	}
	k.schedule()
	close(k.ended)
	k.ended = make(chan struct{})
	k.mu.Unlock()

	switch {
	case err == nil:
		k.streak.End()
		if old == nil {
			k.log.Info("credential found", zap.Object("credential", cred))
		} else if !old.signsAs(&cred) {
			k.log.Info("credential replaced", zap.Object("credential", cred))
		}
		if cred.untidy != "" && (old == nil || old.untidy != cred.untidy) {
			k.log.Warn("the API key is used without what stands around it", zap.String("found", cred.untidy),
				zap.String("hint", UntidyHint), zap.Object("credential", cred))
		}
	case old.usable(time.Now()) && k.streak.Fail(err): // otherwise the callers have the error
		k.log.Warn("the credential cannot be fetched again; the one in use is kept", zap.Error(err), zap.String("hint", retry.Hint(err)), zap.Object("credential", old))
	}
}

func (k *keeper) retrieve(ctx context.Context) (cred Credential, err error) {
	defer func() {
		if v := recover(); v != nil {
			err = retry.After(fmt.Errorf("the credential provider panicked: %v", v), refreshPause)
		}
	}()
	cred, err = k.provider.Retrieve(ctx)
	if err == nil {
		if err = cred.tidy(); err != nil {
			err = retry.Permanent(fmt.Errorf("credential from %s: %w", cred.Source, err))
		}
	}
	if err != nil && foreign(err) == nil { // a time limit of the provider's own
		err = errors.New(err.Error())
	}
	if err != nil && !retry.IsPermanent(err) {
		err = retry.After(err, refreshPause)
	}
	return cred, err
}

// Format prints no state.
func (k *keeper) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, "credential keeper") }

// GetCredential is what the SDK signs with.
func (k *keeper) GetCredential() (secretID, secretKey, token string) {
	cred := k.current.Load()
	if cred == nil { // cannot be: calls wait for a credential; the server refuses an empty one
		return "", "", ""
	}
	return cred.SecretID, cred.SecretKey, cred.Token
}

// GetSecretId is part of the SDK's interface.
//
//nolint:revive // the SDK's name
func (k *keeper) GetSecretId() string { id, _, _ := k.GetCredential(); return id }

// GetSecretKey is part of the SDK's interface.
func (k *keeper) GetSecretKey() string { _, key, _ := k.GetCredential(); return key }

// GetToken is part of the SDK's interface.
func (k *keeper) GetToken() string { _, _, token := k.GetCredential(); return token }
