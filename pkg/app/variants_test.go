package app_test

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vodrelay/vodrelay/pkg/emulator"
	"github.com/vodrelay/vodrelay/pkg/relay"
)

// dealt is one answer to each question that VOD's documentation leaves open. Each question has a pack of its answers
// that is shuffled anew when it is used up, so that any few seeds in a row have each answer, and pairs come as they do.
func dealt(seed uint64) (names []string) {
	answers := map[emulator.Question][]string{}
	var questions []emulator.Question
	for _, v := range emulator.AllVariants() {
		if answers[v.Question] == nil {
			questions = append(questions, v.Question)
		}
		answers[v.Question] = append(answers[v.Question], v.Name)
	}
	for i, q := range questions {
		pack := answers[q]
		round, card := seed/uint64(len(pack)), seed%uint64(len(pack))
		names = append(names, pack[rand.New(rand.NewPCG(uint64(i), round)).Perm(len(pack))[card]])
	}
	return names
}

// others are the variants that are no default: the histories without them are those of the defaults.
func others() (names []string) {
	for _, v := range emulator.AllVariants() {
		if !v.Default {
			names = append(names, v.Name)
		}
	}
	return names
}

// The fixed seeds of the histories have each answer several times, and almost all pairs of answers.
func TestTheSeedsHaveEachVariant(t *testing.T) {
	times, pairs := map[string]int{}, map[string]bool{}
	for seed := range uint64(chaosSeeds) {
		names := dealt(seed + 1)
		for i, name := range names {
			times[name]++
			for _, other := range names[:i] {
				pairs[other+" "+name] = true
			}
		}
	}
	possible := 0
	all := emulator.AllVariants()
	for i, v := range all {
		require.GreaterOrEqual(t, times[v.Name], chaosSeeds/6-1, v.Name)
		for _, other := range all[:i] {
			if other.Question != v.Question {
				possible++
			}
		}
	}
	require.Greater(t, len(pairs), possible*8/10, "of %d pairs", possible)
}

// TestChaosUnderEachVariant has each variant alone, so that one that is not survived names itself.
func TestChaosUnderEachVariant(t *testing.T) {
	for i, name := range others() {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newChaos(t, uint64(i), name)
				c.storm = 2 * time.Minute
				c.run()
			})
		})
	}
}

// TestDrainUnderEachVariant drains after another consumer took some events and was killed, while replies are lost:
// what it calls empty is empty, and it gets there.
func TestDrainUnderEachVariant(t *testing.T) {
	for _, name := range others() {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				opts := emulator.Options{Seed: 1}
				require.NoError(t, opts.Choose(name))
				cloud, client := drainable(t, opts)
				cloud.Publish(chaosApp, emulator.GenerateUploads(300, 1)...)
				for range 3 { // another consumer
					_, err := client.Queue(chaosApp).Pull(t.Context())
					require.NoError(t, err)
				}
				for _, f := range []emulator.Fault{
					{Kind: emulator.FaultLoseReply, Action: emulator.ActionPullEvents, Rate: 0.2, Times: 5},
					{Kind: emulator.FaultLoseReply, Action: emulator.ActionConfirmEvents, Rate: 0.2, Times: 5},
				} {
					_, err := cloud.AddFault(f)
					require.NoError(t, err)
				}
				sum, err := drain(t, client, relay.DefaultDrain())
				require.NoError(t, err)
				require.Empty(t, cloud.Pending())
				require.True(t, sum.Empty, "%+v", sum)
				require.Zero(t, cloud.Counts().Purged)
			})
		})
	}
}

// A drain of an application that does not exist never says that its queue is empty.
func TestADrainOfAnUnknownApplicationIsNotEmpty(t *testing.T) {
	for _, v := range emulator.AllVariants() {
		if v.Question != emulator.AskUnknownSubApp {
			continue
		}
		t.Run(v.Name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				opts := emulator.Options{SubAppIDs: []uint64{7}}
				require.NoError(t, opts.Choose(v.Name))
				cloud, client := drainable(t, opts)
				cloud.Publish(7, emulator.GenerateUploads(10, 1)...)
				sum, err := drain(t, client, relay.DefaultDrain())
				t.Logf("%+v %v", sum, err)
				require.True(t, err != nil || !sum.Empty, fmt.Sprint(sum))
				require.Len(t, cloud.Pending(), 10)
			})
		})
	}
}
