package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"strconv"
	"time"
)

func truncate(path string) error { return os.WriteFile(path, nil, 0o600) }

// countEvents counts the different events in a file of lines.
func countEvents(path string) (int64, error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	c := lineCounter{distinct: make(map[string]struct{})}
	c.read(bufio.NewReader(f))
	_, distinct := c.counts()
	return distinct, nil
}

// throughput is the work itself, without a quota and without a network between.
func (h *harness) throughput(ctx context.Context) (section, error) {
	n := scale(h, 60_000, 1_000)
	limit := scale(h, 2*time.Second, 15*time.Second)
	s := section{title: "No quota", tables: []table{{header: []string{
		"sink", "program", "events/s", "ratio to vodrelay", "CPU per event, µs", "ratio to vodrelay", "most memory, MiB",
	}}}}
	programs := []string{"vodrelay", roleLoop, roleWatermill}
	names := map[string]string{"vodrelay": "vodrelay", roleLoop: "documented loop", roleWatermill: "Watermill router", roleWork: "bare work", roleFloor: "bare exchange"}
	for _, sink := range []string{sinkStdout, sinkFile, sinkWebhook, sinkKafka} {
		running := programs
		if sink == sinkStdout {
			running = append(running, roleWork, roleFloor)
		}
		rates, costs, memory := map[string][]float64{}, map[string][]time.Duration{}, map[string][]int64{}
		for range h.rounds { // in turn, so that a slow moment of the machine is shared
			for _, program := range running {
				r, err := h.contest(ctx, worldOptions{Kafka: sink == sinkKafka}, program, sink, n, limit)
				if err != nil {
					return s, err
				}
				if h.short && r.Confirmed < int64(n) {
					return s, fmt.Errorf("%s with %s confirmed %d of %d events in %s", program, sink, r.Confirmed, n, limit)
				}
				rates[program] = append(rates[program], r.rate)
				costs[program] = append(costs[program], r.perEvent())
				memory[program] = append(memory[program], r.RSS)
			}
		}
		own := programs[0]
		for _, program := range running {
			s.tables[0].add(sink, names[program], number(median(rates[program])), ratio(median(rates[program]), median(rates[own])),
				micros(median(costs[program])), ratio(median(costs[program]).Seconds(), median(costs[own]).Seconds()), mebi(median(memory[program])))
		}
		if sink == sinkStdout {
			h.goal("throughput without a quota, stdout", "20,000 events/s where the emulator keeps up",
				"%s events/s", number(median(rates[own])))
			h.floor("%s events/s: the bare work; %s: the bare exchange", number(median(rates[roleWork])), number(median(rates[roleFloor])))
			h.goal("CPU time for each event, stdout", "25 µs",
				"%s µs; the loop %s, Watermill %s", micros(median(costs[own])), micros(median(costs[roleLoop])), micros(median(costs[roleWatermill])))
			h.floor("%s µs: the bare work; %s: the bare exchange", micros(median(costs[roleWork])), micros(median(costs[roleFloor])))
		}
	}
	s.note("Median of %s rounds, each of %s events of 1.5 KB, or as many as %s allow. The emulator, the webhook, the broker (kfake) and the reader of stdout share the machine; CPU time (user and system) is that of the program alone, its start included.", strconv.Itoa(h.rounds), number(float64(n)), limit)
	s.note("file: each event is on the disk (fsync) before it is confirmed. kafka: acknowledged by all replicas.")
	s.note("The Watermill router has a subscriber with 64 pollers, which is vodrelay's default of 1,024 events in hand. The bare exchange pulls and confirms with the SDK's signature and looks at nothing but the handles: it is the floor of any program. The bare work also parses each event, gives it its ID, writes it as the callback's body and prints it, with vodrelay's own code, a whole reply at a time: what vodrelay would cost without its engine.")
	return s, nil
}
