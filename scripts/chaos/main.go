//go:build linux

// Command chaos proves from outside that vodrelay loses no event: it builds worlds of processes, lets everything go
// wrong that a seed chooses, and compares what arrived with what was published. `make chaos` runs it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/vodrelay/vodrelay/scripts/chaos/disk"
	"github.com/vodrelay/vodrelay/scripts/chaos/plan"
	"github.com/vodrelay/vodrelay/scripts/chaos/servers"
	"github.com/vodrelay/vodrelay/scripts/chaos/target"
	"github.com/vodrelay/vodrelay/scripts/chaos/world"
)

func main() {
	err := run(os.Args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, "chaos:", err)
		os.Exit(1)
	}
}

// settings are the flags.
type settings struct {
	seed     uint64
	length   time.Duration
	short    bool
	print    bool
	program  string
	root     string
	keep     bool
	emulator string
	variants string
	each     bool
	soaks    time.Duration

	began time.Time
}

func run(args []string) error {
	if len(args) > 0 && args[0] == target.Role {
		os.Exit(target.Main(args[1:]))
	}
	var s settings
	flags := flag.NewFlagSet("chaos", flag.ExitOnError)
	flags.Uint64Var(&s.seed, "seed", 0, "seed of the plan; 0: a new one")
	flags.DurationVar(&s.length, "for", 10*time.Minute, "about how long it takes, the time to recover included")
	flags.BoolVar(&s.short, "short", false, "one world in about 80 seconds")
	flags.DurationVar(&s.soaks, "soak", 0, "instead, run one world of each kind so long, and write "+resultsFile)
	flags.BoolVar(&s.print, "plan", false, "print the plan of the seed, and do nothing")
	flags.StringVar(&s.program, "program", "", "the vodrelay to test (default: built from the repository)")
	flags.StringVar(&s.emulator, "emulator", "", "the vodrelay that is the emulator (default: that of -program)")
	flags.StringVar(&s.root, "root", "../..", "root of the repository")
	flags.StringVar(&s.variants, "variants", "", "variants of the emulator, in place of those that are drawn, such as empty-null,handle-same")
	flags.BoolVar(&s.each, "each-variant", false, "instead, one short world for each variant of the emulator that a world can meet")
	flags.BoolVar(&s.keep, "keep", false, "keep logs and journals also of what went well")
	_ = flags.Parse(args) // it exits
	if flags.NArg() > 0 {
		return fmt.Errorf("%s: there are no arguments, only flags", flags.Arg(0))
	}
	if s.seed == 0 {
		s.seed = rand.Uint64N(1_000_000_000) + 1
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	return s.run(ctx)
}

// plan is what is done.
func (s settings) plan() plan.Plan {
	o := plan.Options{Worlds: 1, Length: 25 * time.Second, Short: s.short, Missing: missing()}
	if s.variants != "" {
		o.Variants = strings.Split(s.variants, ",")
	}
	switch {
	case s.each:
		o.Short = true
		return plan.Each(s.seed, o)
	case s.soaks > 0:
		o.Mild, o.Length, o.Worlds = true, s.soaks, 3
	case !s.short:
		// A world needs about 100 s to recover and to be drained.
		const recovery = 100 * time.Second
		o.Worlds = max(1, int(s.length/(3*time.Minute)))
		o.Length = max(20*time.Second, s.length/time.Duration(o.Worlds)-recovery)
	}
	return plan.New(s.seed, o)
}

// missing is what this machine has not.
func missing() (kinds []string) {
	for kind, err := range map[string]error{plan.Postgres: servers.HasPostgres(), "redis": servers.HasRedis(), "disk": disk.Supported()} {
		if err != nil {
			fmt.Printf("NOT TESTED: %s: %v\n", kind, err)
			kinds = append(kinds, kind)
		}
	}
	return kinds
}

func (s settings) run(ctx context.Context) error {
	p := s.plan()
	if s.print {
		fmt.Print(p.Print())
		return nil
	}
	fmt.Printf("seed %d: repeat with  go -C scripts/chaos run . -seed %d%s\n", p.Seed, p.Seed, s.again())
	self, err := os.Executable()
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "vodrelay-chaos")
	if err != nil {
		return err
	}
	if s.program == "" {
		s.program = filepath.Join(dir, "vodrelay")
		build := exec.CommandContext(ctx, "go", "-C", s.root, "build", "-trimpath", "-o", s.program, "./cmd/vodrelay")
		if out, err := build.CombinedOutput(); err != nil {
			return errors.Join(fmt.Errorf("build: %w\n%s", err, out), os.RemoveAll(dir))
		}
	}
	if s.emulator == "" {
		s.emulator = s.program
	}
	s.began = time.Now()
	work := s.worlds
	if s.soaks > 0 {
		work = s.soak
	}
	results, failed := work(ctx, p, world.Options{Program: s.program, Emulator: s.emulator, Self: self, Dir: dir, Short: s.short || s.each, Say: s.say})
	report(os.Stdout, results)
	breaches := 0
	for _, r := range results {
		breaches += len(r.Breaches)
	}
	if breaches > 0 {
		failed = errors.Join(failed, fmt.Errorf("%d breaches", breaches))
	}
	switch {
	case failed != nil:
		return fmt.Errorf("seed %d: %w\nlogs and journals are in %s", p.Seed, failed, dir)
	case s.keep:
		fmt.Println("logs and journals are in", dir)
		return nil
	}
	fmt.Printf("seed %d: every promise was kept\n", p.Seed)
	return os.RemoveAll(dir)
}

func (s settings) say(format string, args ...any) {
	fmt.Printf("%7.1fs  %s\n", time.Since(s.began).Seconds(), fmt.Sprintf(format, args...))
}

// worlds runs one world after the other.
func (s settings) worlds(ctx context.Context, p plan.Plan, o world.Options) (results []result, failed error) {
	for i, w := range p.Worlds {
		s.say("world %d of %d: %s", i+1, len(p.Worlds), w)
		o := o
		o.Dir = filepath.Join(o.Dir, fmt.Sprint("world-", i+1))
		r, err := world.Run(ctx, w, o)
		results = append(results, result{w, r})
		if err != nil {
			failed = errors.Join(failed, fmt.Errorf("world %d: %w", i+1, err))
		}
		if ctx.Err() != nil {
			break
		}
	}
	return results, failed
}

func (s settings) again() string {
	if s.each {
		return " -each-variant"
	}
	if s.soaks > 0 {
		return " -soak " + s.soaks.String()
	}
	if s.short {
		return " -short"
	}
	return " -for " + s.length.String()
}
