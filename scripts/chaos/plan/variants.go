package plan

import (
	"math/rand/v2"
	"slices"
	"strings"
)

// Variants are the emulator's answers to what VOD's documentation leaves open, by question, without those that it
// takes by itself and those that nothing here can meet: ages of days, applications that do not exist.
var Variants = [][]string{
	{"empty-null", "empty-array", "empty-absent"},
	{"batch-any"},
	{"poll-misses"},
	{"order-last", "order-random"},
	{"deliveries-16"},
	{"lease-from-answer"},
	{"hold-none"},
	{"handle-same"},
	{"old-handle-until-redelivery", "old-handle-confirms"},
	{"stale-batch-partial", "stale-batch-ignored"},
	{"stale-invalid-event-handle", "stale-invalid-parameter", "stale-failed-operation", "stale-resource-not-found", "stale-internal-error"},
	{"reconfirm-ok"},
	{"count-leased"},
	{"count-5s-old", "count-3m-old"},
	{"null-fields", "null-fields-newer"},
	{"pulled-signed"},
	{"sign-behind-payload", "sign-in-payload"},
	{"sign-names-lower"},
	{"sign-upper"},
	{"sign-t-string"},
	{"push-mode-events", "push-mode-failed-operation", "push-mode-unsupported-operation", "push-mode-invalid-parameter-value"},
}

// Unmet are the other variants that are no defaults.
var Unmet = []string{
	"retention-ends-leases", "retention-until-pulled", // events are days old
	"types-newer",                                                                 // the events here are made here, unknown types among them
	"push-answer-2xx", "push-retry-later", "push-retry-often", "push-retry-never", // what is posted goes to others here
	"sub-app-empty", "sub-app-not-found", "sub-app-failed-operation", "sub-app-unauthorized",
}

// Each is a plan with a world for each variant, and no other variant but what it needs to be seen.
func Each(seed uint64, o Options) Plan {
	names := slices.Concat(Variants...)
	o.Worlds = len(names)
	p := New(seed, o)
	for i, name := range names {
		p.Worlds[i].Variants = []string{name}
		if strings.HasPrefix(name, "sign-") {
			p.Worlds[i].Variants = append(p.Worlds[i].Variants, "pulled-signed")
		}
	}
	return p
}

// slow are variants with which a drain takes minutes longer.
var slow = map[string]bool{"count-3m-old": true}

// chooseVariants takes a quarter of the questions, and one other answer to each.
func chooseVariants(random *rand.Rand, o Options) (names []string) {
	for _, answers := range Variants {
		name := answers[random.IntN(len(answers))]
		if random.IntN(4) == 0 && !(o.Short && slow[name]) {
			names = append(names, name)
		}
	}
	return names
}
