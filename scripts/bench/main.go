//go:build linux

// Command bench measures vodrelay against its goals, beside a hand-written loop and a Watermill router, in
// one run, and writes a table. Every program that is measured, and everything around it, is a process of its
// own. `make bench` runs it; -short tests the harness within a minute, and that nothing is lost.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"
	"time"
)

// The roles in which the harness starts itself.
const (
	roleWorld     = "world"
	roleLoop      = "loop"
	roleWatermill = "watermill"
	roleFloor     = "floor"
	roleWork      = "work" // the floor's, which prints what it pulls
	roleIdle      = "idle" // the floor's, with a single poll
)

// harness runs sections.
type harness struct {
	short   bool
	rounds  int
	root    string // of the repository
	dir     string // for what is needed only while it runs
	self    string // this program
	program string // vodrelay, as it is released
	size    int64  // of program
	machine []string
	goals   []goal
	fullRSS int64 // most memory at the full quota
}

// part is a section that can be chosen.
type part struct {
	name string
	run  func(*harness, context.Context) (section, error)
}

var parts = []part{
	{"drain", (*harness).drain},
	{"throughput", (*harness).throughput},
	{"latency", (*harness).latency},
	{"idle", (*harness).idle},
	{"outage", (*harness).outage},
	{"parcels", (*harness).parcels},
	{"start", (*harness).starting},
	{"callback", (*harness).callback},
}

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) > 0 && !strings.HasPrefix(args[0], "-") {
		return play(args[0], args[1:])
	}
	names := make([]string, len(parts))
	for i, p := range parts {
		names[i] = p.name
	}
	flags := flag.NewFlagSet("bench", flag.ExitOnError)
	short := flags.Bool("short", false, "test the harness: small numbers, no file unless -out is given")
	rounds := flags.Int("rounds", 3, "rounds of the throughput, of which the median counts")
	chosen := flags.String("run", strings.Join(names, ","), "sections to run")
	out := flags.String("out", "", "file to write (default: RESULTS.md beside this program's source, if every section is run)")
	root := flags.String("root", "../..", "root of the repository")
	_ = flags.Parse(args) // it exits
	wanted := strings.Split(*chosen, ",")
	for _, name := range wanted {
		if !slices.Contains(names, name) {
			return fmt.Errorf("-run: %s: there is no such section; write some of %s", name, strings.Join(names, ","))
		}
	}
	if *out == "" && !*short && len(wanted) == len(names) {
		*out = filepath.Join(*root, "scripts", "bench", "RESULTS.md")
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	h := &harness{short: *short, rounds: max(1, *rounds), root: *root, machine: describe(*root)}
	if h.short {
		h.rounds = 1
	}
	return h.run(ctx, wanted, *out)
}

// play is the other roles.
func play(role string, args []string) error {
	switch {
	case role == roleWorld && len(args) == 1:
		return runWorld(args[0])
	case role == roleIdle:
		return runFloor(1, handlesOf)
	case role == roleFloor:
		return runFloor(8, handlesOf)
	case role == roleWork:
		debug.SetGCPercent(400) // vodrelay's heap has a floor, too
		return runFloor(8, printed)
	case len(args) == 2 && (role == roleLoop || role == roleWatermill):
		handle, err := newTarget(args[0], args[1])
		if err != nil {
			return err
		}
		if role == roleLoop {
			return runLoop(handle)
		}
		return runWatermill(handle)
	}
	return fmt.Errorf("%s: no such role", role)
}

func (h *harness) run(ctx context.Context, wanted []string, out string) (err error) {
	if h.self, err = os.Executable(); err != nil {
		return err
	}
	if h.dir, err = os.MkdirTemp("", "vodrelay-bench"); err != nil {
		return err
	}
	defer os.RemoveAll(h.dir)
	if err := h.build(ctx); err != nil {
		return err
	}
	var sections []section
	for _, p := range parts {
		if !slices.Contains(wanted, p.name) {
			continue
		}
		began := time.Now()
		fmt.Fprintf(os.Stderr, "%s...", p.name)
		s, err := p.run(h, ctx)
		if err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
		fmt.Fprintf(os.Stderr, " %s\n", time.Since(began).Round(100*time.Millisecond))
		sections = append(sections, s)
	}
	text := h.markdown(sections)
	if _, err := os.Stdout.Write(text); err != nil || out == "" {
		return err
	}
	return os.WriteFile(out, text, 0o644)
}

// build makes the static binary as a release has it, and writes it in small pieces as an installation does:
// the linker maps its file, and how a file was written decides in which pieces the kernel keeps it, which is a
// tenth of the time of a start, and of the resident memory what it counts as the file's.
func (h *harness) build(ctx context.Context) error {
	h.program = filepath.Join(h.dir, "vodrelay")
	linked := h.program + ".linked"
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", linked, "./cmd/vodrelay")
	cmd.Dir, cmd.Env = h.root, append(os.Environ(), "CGO_ENABLED=0")
	if text, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build vodrelay: %w\n%s", err, text)
	}
	program, err := os.ReadFile(linked)
	if err != nil {
		return err
	}
	h.size = int64(len(program))
	to, err := os.OpenFile(h.program, os.O_CREATE|os.O_WRONLY, 0o755)
	if err != nil {
		return err
	}
	for piece := range slices.Chunk(program, 32<<10) {
		if _, err := to.Write(piece); err != nil {
			_ = to.Close()
			return err
		}
	}
	return to.Close()
}

// configuration writes one for vodrelay, and returns the arguments of a run with it.
func (h *harness) configuration(text string) ([]string, error) {
	path := filepath.Join(h.dir, fmt.Sprintf("%d.yaml", time.Now().UnixNano()))
	return []string{"run", "-c", path}, os.WriteFile(path, []byte(text), 0o600)
}

// scale is full, or small in a short run.
func scale[T any](h *harness, full, small T) T {
	if h.short {
		return small
	}
	return full
}

var errLost = errors.New("events were lost")

// whole fails when a sink has fewer events than were confirmed.
func whole(what string, confirmed, arrived int64) error {
	if arrived < confirmed {
		return fmt.Errorf("%s: %w: %d were confirmed, %d arrived", what, errLost, confirmed, arrived)
	}
	return nil
}
