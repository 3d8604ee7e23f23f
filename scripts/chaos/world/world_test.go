package world

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vodrelay/vodrelay/scripts/chaos/ledger"
)

// newTest is a world without processes, with a file as its only target.
func newTest(t *testing.T) *World {
	w := &World{dir: t.TempDir(), options: Options{Say: t.Logf}, ledger: ledger.New(ledger.Sink{Name: "file", Untimed: true})}
	require.NoError(t, os.Mkdir(w.path("disk"), 0o700))
	return w
}

func TestADrainIsHeldToItsWord(t *testing.T) {
	t.Parallel()
	empty := drained{Empty: true}
	for name, c := range map[string]struct {
		code, left, parcels int
		said                bool
		sum                 drained
		good                bool
	}{
		"nothing left":                      {code: 0, said: true, sum: empty, good: true},
		"parcels left":                      {code: 3, parcels: 2, said: true, sum: empty, good: true},
		"events left":                       {code: 4, left: 1, said: true, good: true},
		"empty with events left":            {code: 0, left: 1, said: true, sum: empty},
		"empty in words only":               {code: 4, left: 1, said: true, sum: empty},
		"left, and there is nothing":        {code: 4, said: true},
		"nothing said of parcels":           {code: 0, parcels: 2, said: true, sum: empty},
		"parcels that are not there":        {code: 3, said: true, sum: empty},
		"no summary":                        {code: 0},
		"an end by a panic, nothing left":   {code: 2, said: true, sum: empty},
		"not empty though nothing was left": {code: 0, said: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newTest(t)
			w.judgeDrain(c.code, c.said, c.sum, c.left, c.parcels)
			require.Equal(t, c.good, len(w.failed) == 0, w.failed)
		})
	}
}

func TestTheSummaryOfADrainIsFoundInItsLog(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "log")
	require.NoError(t, os.WriteFile(path, []byte("{\"msg\":\"draining\"}\n{\"msg\":\"drain ended\",\"empty\":true,\"left\":2,\"counted\":3}\nvodrelay: more\n"), 0o600))
	sum, ok := lastDrain(path)
	require.True(t, ok)
	require.True(t, sum.Empty)
	require.Equal(t, 2, sum.Left)
	_, ok = lastDrain(os.DevNull)
	require.False(t, ok)
}

func TestFilesAreReadAsTheyAreAtRest(t *testing.T) {
	t.Parallel()
	w := newTest(t)
	r := &relay{world: w}
	w.relays = append(w.relays, r)
	f := &files{name: "file", world: w, offset: map[string]int64{}, count: map[string]int{}, first: map[string]time.Time{}}
	line := func(serial int) string { return fmt.Sprintf(`{"a":"%s"}`, ledger.Mark(serial)) }
	for serial := 1; serial <= 3; serial++ {
		w.ledger.Publish(ledger.Event{Serial: serial, Body: []byte(line(serial))})
	}
	ctx := context.Background()
	arrived := func() int {
		require.NoError(t, f.read(ctx, w.ledger, true))
		report := w.ledger.Judge(ledger.Moment{Queued: -1})
		require.Empty(t, report.Breaches)
		return report.Arrived["file"]
	}
	write := func(text string) { require.NoError(t, os.WriteFile(f.path(r), []byte(text), 0o600)) }

	require.Zero(t, arrived(), "there is no file yet")
	write(line(1) + "\n" + line(2) + "\n")
	require.NoError(t, f.read(ctx, w.ledger, false))
	require.Zero(t, w.ledger.Judge(ledger.Moment{Queued: -1}).Arrived["file"], "what is read on the way may be taken back")
	require.Equal(t, 2, arrived())
	require.Equal(t, 2, arrived(), "what was read before is no duplicate")
	write(line(1) + "\n")
	require.Equal(t, 1, arrived(), "a line that is gone has not arrived")
	write(line(1) + "\n" + `{"a":"chaos=2` + "\n" + line(3) + "\n" + `{"a":"`)
	require.Equal(t, 2, arrived(), "a line that was cut off has not arrived")
}

// The publisher and the ledger must agree on every byte, and on what JSON is.
func TestEventsAreWhatTargetsMustGet(t *testing.T) {
	t.Parallel()
	w := newTest(t)
	w.refuses = true
	p := &publisher{world: w, random: rand.New(rand.NewPCG(1, 2))}
	refused := 0
	var parcels []ledger.Parcel
	for serial := 1; serial <= 2000; serial++ {
		published, e := p.event(serial)
		w.ledger.Publish(e)
		w.ledger.Arrive("file", time.Now(), e.Body)
		if e.Refused {
			refused++
		}
		parcels = append(parcels, ledger.Parcel{Sink: "file", Raw: published})
	}
	require.Empty(t, w.ledger.Judge(ledger.Moment{Queued: -1, Stored: true, Parcels: parcels}).Breaches)
	require.Positive(t, refused)
}
