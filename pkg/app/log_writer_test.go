package app

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"github.com/vodrelay/vodrelay/pkg/config"
)

// reader is what reads a log: it can stop reading, and break.
type reader struct {
	halted chan struct{} // nil: it reads; else until this is closed it does not
	mu     sync.Mutex
	err    error
	text   bytes.Buffer
}

func (r *reader) Write(p []byte) (int, error) {
	if r.halted != nil {
		<-r.halted
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err != nil {
		return 0, r.err
	}
	return r.text.Write(p)
}

// lines is what was read since the last call.
func (r *reader) lines(t *testing.T) []string {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	text := strings.TrimSuffix(r.text.String(), "\n")
	r.text.Reset()
	return strings.Split(text, "\n")
}

func newReaderLog(t *testing.T) (*reader, *Log) {
	r := &reader{}
	log, err := NewLogger(config.Log{Level: "info", Format: "console"}, r)
	require.NoError(t, err)
	return r, log
}

func TestAReaderThatStopsReadingHoldsUpNobody(t *testing.T) {
	for _, c := range []struct {
		name  string
		lines int
		line  string
	}{
		{"by lines", 3 * maxLogLines, "short"},
		{"by bytes", 300, strings.Repeat("long", 2500)},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r, log := newReaderLog(t)
				began := time.Now()
				r.halted = make(chan struct{})
				for i := range c.lines {
					log.Info(fmt.Sprint(i, " ", c.line))
					if i == 0 {
						synctest.Wait() // the reader has the first line: on a busy machine it could have got more
					}
				}
				require.Zero(t, time.Since(began), "nobody waits")
				dropped := log.Dropped()
				require.Positive(t, dropped)
				require.LessOrEqual(t, cap(log.lines.waiting), 2*maxLogBytes)
				require.ErrorIs(t, log.Sync(), errLogStuck)
				require.Equal(t, LogSyncTime, time.Since(began))
				close(r.halted)
				require.NoError(t, log.Sync())
				log.Info("flows again")
				require.NoError(t, log.Sync())

				lines := r.lines(t)
				kept := c.lines - int(dropped)
				require.Len(t, lines, kept+2)
				for i, line := range lines[:kept] {
					require.Contains(t, line, fmt.Sprintf("INFO\t%d %s", i, c.line), "in order, without a gap")
				}
				require.Contains(t, lines[kept], fmt.Sprintf(`lines of the log are missing: whatever reads it did not keep up	{"dropped": %d}`, dropped))
				require.Contains(t, lines[kept+1], "flows again")
				require.Equal(t, dropped, log.Dropped())
			})
		})
	}
}

func TestAReaderThatIsAwayForAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, log := newReaderLog(t)
		r.err = errors.New("away")
		for i := range 3 {
			log.Info(fmt.Sprint(i))
			require.NoError(t, log.Sync(), "an end is no reason to wait")
		}
		require.EqualValues(t, 3, log.Dropped())
		r.err = nil
		log.Info("flows again")
		require.NoError(t, log.Sync())
		lines := r.lines(t)
		require.Len(t, lines, 2)
		require.Contains(t, lines[0], "flows again")
		require.Contains(t, lines[1], `{"dropped": 3}`)
	})
}

func TestManyWhoLogKeepTheirOrder(t *testing.T) {
	const loggers, lines = 8, 500
	r, log := newReaderLog(t)
	var all sync.WaitGroup
	for i := range loggers {
		all.Go(func() {
			for j := range lines {
				log.Info("line", zap.Int("of", i), zap.Int("number", j))
			}
		})
	}
	all.Wait()
	_, err := fmt.Fprintln(log, "text for a person") // after all of them
	require.NoError(t, err)
	require.NoError(t, log.Sync())
	got := r.lines(t)
	require.Len(t, got, loggers*lines+1)
	require.Equal(t, "text for a person", got[loggers*lines])
	next := map[int]int{}
	for _, line := range got[:loggers*lines] {
		var of, number int
		_, fields, _ := strings.Cut(line, "line\t")
		_, err := fmt.Sscanf(fields, `{"of": %d, "number": %d}`, &of, &number)
		require.NoError(t, err, line)
		require.Equal(t, next[of], number)
		next[of]++
	}
	require.Zero(t, log.Dropped())
}

func TestTheLineAboutMissingOnesHasAPriority(t *testing.T) {
	require.True(t, bytes.HasPrefix(missingLines(newEncoder(false, true), 7), []byte(`<4>{"level":"warn","msg":"lines of the log are missing`)))
}
