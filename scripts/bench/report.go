package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"time"
)

// section is the results of one part of the harness, as Markdown.
type section struct {
	title  string
	tables []table
	notes  []string
}

type table struct {
	header []string
	rows   [][]string
}

func (t *table) add(cells ...string) { t.rows = append(t.rows, cells) }

func (s *section) note(format string, args ...any) {
	s.notes = append(s.notes, fmt.Sprintf(format, args...))
}

// goal is one line of the summary.
type goal struct{ what, want, got, floor string }

func (h *harness) goal(what, want, format string, args ...any) {
	h.goals = append(h.goals, goal{what, want, fmt.Sprintf(format, args...), ""})
}

// floor says of the goal that was told last what no program here could do better, and why.
func (h *harness) floor(format string, args ...any) {
	h.goals[len(h.goals)-1].floor = fmt.Sprintf(format, args...)
}

// markdown writes everything, the summary first.
func (h *harness) markdown(sections []section) []byte {
	var b bytes.Buffer
	b.WriteString("# Measured\n\nWritten by `make bench`; every number is from one run on one machine.\n\n")
	if h.short {
		b.WriteString("This was a short run, which tests the harness: its numbers mean nothing.\n\n")
	}
	for _, line := range h.machine {
		b.WriteString("- " + line + "\n")
	}
	summary := table{header: []string{"goal", "wanted", "reached", "the floor"}}
	for _, g := range h.goals {
		summary.add(g.what, g.want, g.got, g.floor)
	}
	sections = append([]section{{title: "Summary", tables: []table{summary}}}, sections...)
	for _, s := range sections {
		fmt.Fprintf(&b, "\n## %s\n", s.title)
		for _, t := range s.tables {
			b.WriteString("\n")
			t.write(&b)
		}
		if len(s.notes) > 0 {
			b.WriteString("\n")
		}
		for _, n := range s.notes {
			b.WriteString("- " + n + "\n")
		}
	}
	return b.Bytes()
}

func (t *table) write(b *bytes.Buffer) {
	if len(t.rows) == 0 {
		return
	}
	rule := make([]string, len(t.header))
	for i := range rule {
		rule[i] = "---:"
	}
	rule[0] = "---"
	for _, row := range append([][]string{t.header, rule}, t.rows...) {
		b.WriteString("| " + strings.Join(row, " | ") + " |\n")
	}
}

// describe tells what the run is made on.
func describe(root string) []string {
	output := func(name string, args ...string) string {
		cmd := exec.Command(name, args...)
		cmd.Dir = root
		out, _ := cmd.Output() // what cannot be told is left empty
		return strings.TrimSpace(string(out))
	}
	cpu := "unknown CPU"
	if text, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(text)) {
			if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
				cpu = strings.TrimSpace(value)
				break
			}
		}
	}
	memory, _ := readStatus("/proc/meminfo")
	load, _ := os.ReadFile("/proc/loadavg")
	commit := output("git", "rev-parse", "--short", "HEAD")
	if output("git", "status", "--porcelain") != "" {
		commit += ", with changes"
	}
	return []string{
		fmt.Sprintf("%d cores of %s, %.0f GiB, %s %s", runtime.NumCPU(), cpu, float64(memory["MemTotal"])/(1<<20), runtime.GOOS, output("uname", "-r")),
		fmt.Sprintf("%s, GOMAXPROCS %d", runtime.Version(), runtime.GOMAXPROCS(0)),
		fmt.Sprintf("%s, commit %s", time.Now().UTC().Format(time.DateOnly), commit),
		"load average before the run: " + strings.Join(strings.Fields(string(load))[:3], " "),
	}
}

// median of values, the lower one of two in the middle.
func median[T int64 | float64 | time.Duration](values []T) T {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	return sorted[(len(sorted)-1)/2]
}

// quantile of sorted durations.
func quantile(sorted []time.Duration, q float64) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[min(len(sorted)-1, int(q*float64(len(sorted))))]
}

func perSecond(n, from, to int64) float64 {
	if to <= from {
		return 0
	}
	return float64(n) / (float64(to-from) / 1e9)
}

// number prints with a separator of thousands.
func number(f float64) string {
	text := fmt.Sprintf("%.0f", f)
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}

func micros(d time.Duration) string { return fmt.Sprintf("%.1f", float64(d.Nanoseconds())/1e3) }
func millis(d time.Duration) string { return fmt.Sprintf("%.2f", float64(d.Nanoseconds())/1e6) }
func mebi(n int64) string           { return fmt.Sprintf("%.1f", float64(n)/(1<<20)) }

// ratio prints a/b.
func ratio(a, b float64) string {
	if b == 0 {
		return "-"
	}
	return fmt.Sprintf("%.2f", a/b)
}
