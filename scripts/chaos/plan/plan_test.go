package plan

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestASeedMakesOnePlan(t *testing.T) {
	t.Parallel()
	o := Options{Worlds: 4, Length: time.Minute}
	require.Equal(t, New(7, o), New(7, o))
	require.Equal(t, New(7, o).Print(), New(7, o).Print())
	require.NotEqual(t, New(7, o), New(8, o))
}

func TestPlansReachEverything(t *testing.T) {
	t.Parallel()
	variants := map[string]bool{}
	verbs, stores, kinds := map[Verb]bool{}, map[string]bool{}, map[string]bool{}
	for seed := range uint64(50) {
		for _, w := range New(seed, Options{Worlds: 3, Length: 2 * time.Minute}).Worlds {
			stores[w.Store] = true
			require.NotEmpty(t, w.Actions)
			for _, v := range w.Variants {
				variants[v] = true
			}
			for _, s := range w.Sinks {
				kinds[s.Type] = true
			}
			for i, a := range w.Actions {
				verbs[a.Do] = true
				require.LessOrEqual(t, a.At+a.For, w.Length, "what is done ends with the chaos")
				require.True(t, i == 0 || w.Actions[i-1].At <= a.At)
				require.Less(t, a.Relay, w.Relays)
				if a.Of == "topic" {
					require.Equal(t, TargetStop, a.Do)
				}
			}
		}
	}
	require.Len(t, verbs, 21)
	require.Len(t, stores, 3)
	require.Len(t, kinds, 6)
	for _, answers := range Variants {
		for _, name := range answers {
			require.True(t, variants[name], name)
		}
	}
}

func TestOneThingIsDisturbedInOneWayAtATime(t *testing.T) {
	t.Parallel()
	for seed := range uint64(50) {
		for _, w := range New(seed, Options{Worlds: 3, Length: 2 * time.Minute}).Worlds {
			until := map[string]time.Duration{}
			for _, a := range w.Actions {
				if a.Do == Link || a.Do == TargetDown || a.Do == TargetStop {
					what := string(a.Do[:4]) + a.Of + string(rune('0'+a.Relay))
					require.LessOrEqual(t, until[what], a.At, "seed %d: %s", seed, a)
					until[what] = a.At + a.For
				}
			}
		}
	}
}

func TestWhatIsMissingIsLeftOut(t *testing.T) {
	t.Parallel()
	for seed := range uint64(50) {
		for _, w := range New(seed, Options{Worlds: 3, Length: time.Minute, Missing: []string{Postgres, "redis"}}).Worlds {
			require.NotEqual(t, Postgres, w.Store)
			for _, s := range w.Sinks {
				require.NotContains(t, []string{"postgres", "redis"}, s.Type)
			}
		}
	}
}
