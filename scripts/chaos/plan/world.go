package plan

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"
)

// newWorld makes one world; n chooses the kind of its store, so that all kinds take turns.
func newWorld(seed uint64, n int, o Options) World {
	random := rand.New(rand.NewPCG(seed, 1))
	w := World{Seed: seed, Confirm: "handled", Relays: 1, Rate: 20 + random.IntN(30), Length: o.Length}
	stores := slices.DeleteFunc([]string{SQLite, Postgres, None}, func(s string) bool { return slices.Contains(o.Missing, s) })
	w.Store = stores[n%len(stores)]
	w.Disk = w.Store == SQLite && !slices.Contains(o.Missing, "disk")
	switch w.Store {
	case Postgres:
		w.Relays = 1 + random.IntN(3)
	case None:
		w.Relays = 1 + random.IntN(2)
	}
	if w.Store != None && random.IntN(3) == 0 {
		w.Confirm = "stored"
	}
	if w.Abrupt = random.IntN(2) == 0; w.Abrupt && o.Short {
		w.Length = (w.Length * 2 / 3).Round(time.Second) // it takes 30 s longer
	}
	if o.Mild { // the relays live as long as the world
		w.Rate, w.Abrupt = 20, false
	}
	w.Sinks = chooseSinks(random, w.Store, o)
	w.StopGrace = time.Duration(random.IntN(11)) * time.Second
	w.Variants = chooseVariants(random, o)
	if len(o.Variants) > 0 {
		w.Variants = o.Variants
	}
	w.Actions = newActions(random, w, o)
	return w
}

// chooseSinks takes the webhook always, and two or three others.
func chooseSinks(random *rand.Rand, store string, o Options) []Sink {
	all := []Sink{
		{Name: "file", Type: "file"},
		{Name: "table", Type: "postgres", Once: true},
		{Name: "stream", Type: "nats", Once: true},
		{Name: "redis", Type: "redis", Once: true},
		{Name: "topic", Type: "kafka"},
	}
	all = slices.DeleteFunc(all, func(s Sink) bool { return slices.Contains(o.Missing, s.Type) })
	random.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	sinks := []Sink{{Name: "site", Type: "webhook", Refuses: store != None}}
	sinks = append(sinks, all[:min(len(all), 1+random.IntN(2))]...)
	sinks = append(sinks, Sink{Name: "extra", Type: "webhook", Types: []string{"NewFileUpload"}, Extra: true, Refuses: store != None})
	return sinks
}

// choice is an action that a world can have, with how often it comes beside the others.
type choice struct {
	weight int
	do     func() Action
	on     func(Action) []string // what it holds while it lasts: two actions never hold the same
}

// newActions fills the time with actions.
func newActions(random *rand.Rand, w World, o Options) []Action {
	seconds := func(from, to float64) time.Duration {
		return time.Duration((from + (to-from)*random.Float64()) * float64(time.Second)).Round(100 * time.Millisecond)
	}
	relay := func() int { return random.IntN(w.Relays) }
	relays := func(Action) []string {
		all := []string{"store"}
		for i := range w.Relays {
			all = append(all, fmt.Sprint("relay ", i))
		}
		return all
	}
	one := func(a Action) []string { return []string{fmt.Sprint("relay ", a.Relay)} }
	servers := slices.DeleteFunc(slices.Clone(w.Sinks), func(s Sink) bool { return s.Type == "file" })
	// Kafka's broker keeps everything in memory, and its clients learn its address from it, past any proxy: it is stopped.
	robust := slices.DeleteFunc(slices.Clone(servers), func(s Sink) bool { return s.Type == "kafka" })
	target := func(of []Sink) string { return of[random.IntN(len(of))].Name }
	hold := func(names ...string) func(Action) []string { return func(Action) []string { return names } }
	ofTarget := func(a Action) []string { return []string{"target " + a.Of} }
	all := []choice{
		{12, func() Action {
			ends := []string{"api"}
			for _, s := range robust {
				ends = append(ends, s.Name)
			}
			if w.Store == Postgres {
				ends = append(ends, "store")
			}
			return Action{Do: Link, For: seconds(2, 12), Relay: relay(), Of: ends[random.IntN(len(ends))], How: Disturbances[random.IntN(len(Disturbances))]}
		}, func(a Action) []string { return []string{fmt.Sprint("link ", a.Relay, a.Of)} }},
		{4, func() Action { return Action{Do: Kill, For: seconds(0, 4), Relay: relay()} }, one},
		{4, func() Action { return Action{Do: PowerCut, For: seconds(0, 3)} }, relays},
		{2, func() Action { return Action{Do: Terminate, For: seconds(0, 3), Relay: relay()} }, one},
		{1, func() Action { return Action{Do: Storm} }, relays},
		{2, func() Action { return Action{Do: Rolling} }, relays},
		{5, func() Action {
			return Action{Do: Reload, How: []string{"add", "change", "remove", "refused"}[random.IntN(4)]}
		}, hold("configuration")},
		{3, func() Action { return Action{Do: TargetDown, For: seconds(1, 10), Of: target(robust)} }, ofTarget},
		{2, func() Action { return Action{Do: TargetStop, For: seconds(2, 12), Of: target(servers)} }, ofTarget},
		{4, func() Action { return Action{Do: Cloud, For: seconds(5, 15)} }, hold("cloud")},
		{3, func() Action {
			return Action{Do: Consumer, For: seconds(3, 10), How: []string{"confirms half", "confirms none"}[random.IntN(2)]}
		}, hold("consumer")},
		{2, func() Action { return Action{Do: Push, For: seconds(2, 6)} }, hold("mode")},
		{2, func() Action {
			return Action{Do: Credentials, How: []string{"rotate", "expire"}[random.IntN(2)], For: seconds(1, 5)}
		}, hold("credentials")},
	}
	switch w.Store {
	case Postgres:
		all = append(all,
			choice{2, func() Action { return Action{Do: StoreDown, For: seconds(1, 6)} }, hold("store")},
			choice{2, func() Action { return Action{Do: StoreStop, For: seconds(2, 12)} }, hold("store")},
			choice{2, func() Action { return Action{Do: ReadOnly, For: seconds(2, 8)} }, hold("store")})
	}
	if w.Disk {
		all = append(all,
			choice{2, func() Action { return Action{Do: DiskFull, For: seconds(2, 8)} }, hold("store")},
			choice{1, func() Action { return Action{Do: ReadOnly, For: seconds(2, 8)} }, relays}, // a repair needs a stop
			choice{1, func() Action { return Action{Do: DiskFails, For: seconds(1, 6)} }, relays})
	}
	if w.Store != None {
		all = append(all, choice{2, func() Action { return Action{Do: Replay} }, hold("operator")})
	}
	if !o.Short {
		all = append(all,
			choice{1, func() Action { return Action{Do: Freeze, For: 40 * time.Second, Relay: relay()} }, one},
			choice{1, func() Action { return Action{Do: Drain, For: 20 * time.Second} }, hold("drain")})
	}
	if o.Mild {
		all = slices.DeleteFunc(all, func(c choice) bool {
			return !slices.Contains([]Verb{Link, Reload, TargetDown, TargetStop, Cloud, Credentials, StoreDown}, c.do().Do)
		})
	}
	return schedule(random, all, w, o)
}

// schedule draws actions until the time is full. What stops relays takes a while longer than it says.
func schedule(random *rand.Rand, all []choice, w World, o Options) []Action {
	sum := 0
	for _, c := range all {
		sum += c.weight
	}
	pause := 1.5
	if o.Mild {
		pause = 60
	}
	held := map[string]time.Duration{} // until when
	var actions []Action
	for at := 2 * time.Second; ; {
		at += time.Duration(random.ExpFloat64() * pause * float64(time.Second)).Round(100 * time.Millisecond)
		if at > w.Length {
			break
		}
		n := random.IntN(sum)
		i := slices.IndexFunc(all, func(c choice) bool { n -= c.weight; return n < 0 })
		a := all[i].do()
		a.At = at
		end := at + a.For
		switch a.Do {
		case Terminate, Storm, Rolling:
			end += 5 * time.Second
		case Kill, PowerCut, Freeze:
			end += time.Second
		}
		on := all[i].on(a)
		if end > w.Length || slices.ContainsFunc(on, func(name string) bool { return held[name] > at }) {
			continue
		}
		for _, name := range on {
			held[name] = end
		}
		actions = append(actions, a)
	}
	slices.SortStableFunc(actions, func(a, b Action) int { return cmp.Compare(a.At, b.At) })
	return actions
}
