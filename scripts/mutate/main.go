// Command mutate asks whether the tests are sharp: it changes one operator of the code at a time and runs the tests of
// its package, which should fail. What they do not notice is a rule without a test, or code that no rule needs.
//
//	go run ./scripts/mutate [-workers N] [-files REGEXP] [PACKAGE...]
//
// Gremlins finds the mutants. They are tried here, over an overlay, since gremlins itself takes code that does not
// compile for a mutant that the tests killed, and does not try what coverage has no blocks for: the conditions behind
// `case`, and constants. The report compares what survived with accepted.txt, which has the reason for each.
package main

import (
	"bytes"
	"cmp"
	"context"
	_ "embed"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

const gremlins = "github.com/go-gremlins/gremlins/cmd/gremlins@v0.6.0"

// What a mutant may take before it counts as one that never ends: memory in KB, and time, beside that of the tests.
const (
	memory = 8 << 20
	factor = 10
	extra  = 20 * time.Second
)

// A target is a package, the files of it that are measured, and the tests that are run.
type target struct{ path, files, run string }

var targets = []target{
	{path: "pkg/event"},
	{path: "pkg/retry"},
	{path: "pkg/pipeline"},
	{path: "pkg/relay"},
	{path: "pkg/expression"},
	{ // what is pure of it, with the tests that need no server
		path:  "pkg/store",
		files: `^(config|errors|room|text|wal)\.go$`,
		run:   `^TestContract$/^sqlite$|^Test(Validate|File|Text|ID|Diagnose|Explain|StartWithDamage|StartAfterAKillAtTheVeryBeginning|DamageThatShowsLater|ConfiguredShare|ShareOfALimit|SQLiteFile|Schema)$`,
	},
}

//go:embed accepted.txt
var acceptedText string

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	workers := flag.Int("workers", max(1, runtime.NumCPU()/2), "how many mutants are tried at once")
	files := flag.String("files", "", "only files whose name matches this")
	flag.Parse()
	err := run(ctx, flag.Args(), *workers, *files)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "mutate:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, paths []string, workers int, files string) error {
	accepted, err := parseAccepted(acceptedText)
	if err != nil {
		return err
	}
	chosen := targets
	if len(paths) > 0 {
		chosen = nil
		for _, path := range paths {
			path = strings.TrimPrefix(filepath.ToSlash(filepath.Clean(path)), "./")
			if i := slices.IndexFunc(targets, func(t target) bool { return t.path == path }); i >= 0 {
				chosen = append(chosen, targets[i])
			} else {
				chosen = append(chosen, target{path: path})
			}
		}
	}
	temp, err := os.MkdirTemp("", "mutate-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(temp) }() // of no use to anybody

	var all []mutant
	for _, t := range chosen {
		if files != "" {
			t.files = files
		}
		found, err := measure(ctx, t, temp, workers)
		if err != nil {
			return fmt.Errorf("%s: %w", t.path, err)
		}
		all = append(all, found...)
	}
	report(os.Stdout, all, accepted)
	return nil
}

// measure finds the mutants of one package and tries each of them.
func measure(ctx context.Context, t target, temp string, workers int) ([]mutant, error) {
	allowed, err := test(ctx, t, "", 10*time.Minute)
	if err != nil {
		return nil, fmt.Errorf("its tests fail without any change: %w", err)
	}
	allowed = factor*allowed + extra
	mutants, err := find(ctx, t, temp)
	if err != nil {
		return nil, err
	}
	fmt.Fprintf(os.Stderr, "== %s: %d mutants, %s for each\n", t.path, len(mutants), allowed.Round(time.Second))

	var group sync.WaitGroup
	next := make(chan int)
	errs := make([]error, workers)
	for w := range workers {
		group.Go(func() {
			for i := range next {
				m := &mutants[i]
				if errs[w] == nil {
					errs[w] = m.try(ctx, t, filepath.Join(temp, fmt.Sprint("worker", w)), allowed)
				}
				if m.survived() || m.status == timedOut {
					fmt.Fprintf(os.Stderr, "%-11s  %s:%d  %s  %s\n", m.status, m.file, m.line, m.kind, m.text)
				}
			}
		})
	}
	for i := range mutants {
		next <- i
	}
	close(next)
	group.Wait()
	return mutants, cmp.Or(context.Cause(ctx), firstOf(errs))
}

func firstOf(errs []error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// find asks gremlins for the mutants of a package, without those of the packages below it.
func find(ctx context.Context, t target, temp string) ([]mutant, error) {
	wanted, err := regexp.Compile(t.files)
	if err != nil {
		return nil, err
	}
	output := filepath.Join(temp, "mutants.json")
	command := exec.CommandContext(ctx, "go", "run", gremlins, "unleash", "--dry-run", "--silent", "--output", output, "./"+t.path)
	command.Env = append(os.Environ(), "TMPDIR="+temp)
	if t.run != "" {
		command.Env = append(command.Env, "GOFLAGS="+os.Getenv("GOFLAGS")+" -run="+t.run)
	}
	if out, err := command.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("gremlins: %w\n%s", err, out)
	}
	data, err := os.ReadFile(output)
	if err != nil {
		return nil, fmt.Errorf("gremlins found nothing: %w", err)
	}
	var listed struct {
		Files []struct {
			Name      string `json:"file_name"`
			Mutations []struct {
				Type, Status string
				Line, Column int
			}
		}
	}
	if err := json.Unmarshal(data, &listed); err != nil {
		return nil, fmt.Errorf("gremlins: %w", err)
	}
	var found []mutant
	for _, file := range listed.Files {
		if strings.Contains(file.Name, "/") || !wanted.MatchString(file.Name) {
			continue
		}
		path := t.path + "/" + file.Name
		code, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		for _, l := range file.Mutations {
			m, err := newMutant(path, code, l.Type, l.Line, l.Column)
			if err != nil {
				return nil, err
			}
			m.covered = l.Status == "RUNNABLE"
			found = append(found, m)
		}
	}
	slices.SortFunc(found, func(a, b mutant) int {
		return cmp.Or(cmp.Compare(a.file, b.file), cmp.Compare(a.offset, b.offset), cmp.Compare(a.kind, b.kind))
	})
	// A binary minus is listed as an arithmetic operator and as a sign, with the same change.
	return slices.CompactFunc(found, func(a, b mutant) bool {
		return a.file == b.file && a.offset == b.offset && a.new == b.new
	}), nil
}

// test runs the tests of a package and says how long that took. The error has their output.
func test(ctx context.Context, t target, overlay string, timeout time.Duration) (time.Duration, error) {
	arguments := []string{"-c", fmt.Sprintf(`ulimit -v %d; exec "$@"`, memory), "sh", "go", "test",
		"-trimpath", "-count=1", "-failfast", "-vet=off", "-ldflags=-w", "-timeout=" + timeout.String()}
	if overlay != "" {
		arguments = append(arguments, "-overlay="+overlay)
	}
	if t.run != "" {
		arguments = append(arguments, "-run="+t.run)
	}
	var out bytes.Buffer
	command := exec.CommandContext(ctx, "sh", append(arguments, "./"+t.path)...)
	command.Stdout, command.Stderr = &out, &out
	command.Cancel = func() error { return command.Process.Signal(os.Interrupt) } // go test passes it on
	command.WaitDelay = 10 * time.Second
	start := time.Now()
	err := command.Run()
	if err != nil {
		err = fmt.Errorf("%w\n%s", err, out.Bytes())
	}
	return time.Since(start), err
}
