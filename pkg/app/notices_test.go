package app

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/vodrelay/vodrelay/pkg/event"
	"github.com/vodrelay/vodrelay/pkg/retry"
)

// noticed runs f beside notices, and returns what they wrote.
func noticed(t *testing.T, f func(n *notices, written func() []string)) {
	synctest.Test(t, func(t *testing.T) {
		core, logs := observer.New(zapcore.WarnLevel)
		n := newNotices(zap.New(core))
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { n.run(ctx) })
		began := time.Now()
		f(n, func() (lines []string) {
			synctest.Wait()
			for _, entry := range logs.TakeAll() {
				fields := entry.ContextMap()
				line := fmt.Sprint(time.Since(began).Truncate(time.Second), " ", entry.Level, " ", fields["events"])
				for _, key := range []string{"sink", "error", "types"} {
					if v, ok := fields[key]; ok {
						line += fmt.Sprint(" ", v)
					}
				}
				lines = append(lines, line)
			}
			return lines
		})
		cancel()
		running.Wait()
	})
}

func TestNoticesWriteTheFirstAndThenOneLineAMinute(t *testing.T) {
	noticed(t, func(n *notices, written func() []string) {
		for range 1000 {
			n.dead("site", event.Event{}, errors.New("refused"))
		}
		n.dead("-", event.Event{}, errors.New("a bug"))
		require.Equal(t, []string{"0s error 1 site refused", "0s error 1 - a bug"}, written())
		time.Sleep(59 * time.Second)
		n.dead("site", event.Event{}, errors.New("refused otherwise"))
		require.Empty(t, written())
		time.Sleep(time.Second)
		require.Equal(t, []string{"1m0s error 1000 site refused otherwise"}, written())
		time.Sleep(30 * time.Second)
		n.dead("site", event.Event{}, errors.New("refused"))
		require.Empty(t, written())
		n.dead("-", event.Event{}, errors.New("a bug"))
		require.Equal(t, []string{"1m30s error 1 - a bug"}, written(), "it was quiet for a minute")
		time.Sleep(30 * time.Second)
		require.Equal(t, []string{"2m0s error 1 site refused"}, written())
		time.Sleep(time.Hour)
		require.Empty(t, written())
		for range 3 {
			n.dead("site", event.Event{}, errors.New("refused"))
		}
		n.flush()
		require.Equal(t, []string{"1h2m0s error 1 site refused", "1h2m0s error 2 site refused"}, written())
		n.flush()
		require.Empty(t, written())
	})
}

func TestNoticesOfEventsThatNoSinkWanted(t *testing.T) {
	noticed(t, func(n *notices, written func() []string) {
		for i := range 10 {
			n.unrouted([]string{"NewFileUpload", "NewFileUpload", "FileDeleted"}[i%3])
		}
		n.dead("site", event.Event{}, errors.New("refused"))
		require.Equal(t, []string{"0s warn 1 NewFileUpload: 1", "0s error 1 site refused"}, written())
		time.Sleep(time.Minute)
		require.Equal(t, []string{"1m0s warn 9 NewFileUpload: 6, FileDeleted: 3"}, written())
		n.unrouted("FileDeleted")
		n.flush()
		require.Equal(t, []string{"1m0s warn 1 FileDeleted: 1"}, written())
	})
}

func TestNoticesSayWhatToDo(t *testing.T) {
	core, logs := observer.New(zapcore.WarnLevel)
	n := newNotices(zap.New(core))
	n.dead("site", event.Event{}, retry.WithHint(errors.New("too large"), "raise the limit"))
	require.Equal(t, "raise the limit; see `vodrelay parcels list --state dead --sink site`, fix the cause, then `vodrelay parcels replay --state dead --sink site`",
		logs.All()[0].ContextMap()["hint"])
	require.True(t, strings.HasPrefix(logs.All()[0].Message, "events became dead letters"))
}
