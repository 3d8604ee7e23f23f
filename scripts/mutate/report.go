package main

import (
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
	"text/tabwriter"
)

// A place names a mutant without its line number, so that it stays the same when the code around it moves.
type place struct{ file, kind, text string }

func (m *mutant) place() place { return place{m.file, m.kind, m.text} }

// parseAccepted reads the list of survivors that are accepted. An entry is a line with the file, the kind and the
// text of the line, and below it, indented, the reason. Entries that follow each other share the reason below them.
func parseAccepted(text string) (map[place]string, error) {
	accepted := map[place]string{}
	var open []place
	var reason []string
	end := func() error {
		if len(open) > 0 && len(reason) == 0 {
			return fmt.Errorf("accepted.txt: %s, %q has no reason", open[0].file, open[0].text)
		}
		for _, p := range open {
			if _, twice := accepted[p]; twice {
				return fmt.Errorf("accepted.txt: %s, %q stands there twice", p.file, p.text)
			}
			accepted[p] = strings.Join(reason, " ")
		}
		open, reason = nil, nil
		return nil
	}
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\n")
		if line == "" || line[0] == '#' {
			continue
		}
		if strings.HasPrefix(line, "\t") {
			if len(open) == 0 {
				return nil, fmt.Errorf("accepted.txt: the reason %q belongs to nothing", strings.TrimSpace(line))
			}
			reason = append(reason, strings.TrimSpace(line))
			continue
		}
		if len(reason) > 0 {
			if err := end(); err != nil {
				return nil, err
			}
		}
		fields := strings.SplitN(line, "  ", 3)
		if len(fields) != 3 {
			return nil, fmt.Errorf("accepted.txt: %q is no file, kind and line, two blanks apart", line)
		}
		open = append(open, place{fields[0], fields[1], fields[2]})
	}
	return accepted, end()
}

// report writes a table of the packages, then what survived and is not on the list, then what is on the list and
// survives no more.
func report(out io.Writer, all []mutant, accepted map[place]string) {
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(table, "package\tkilled\tlived\ttimed out\tnot covered\tunbuilt\taccepted\tefficacy\tcoverage\t")
	var names []string
	counts := map[string]map[string]int{}
	survivors := map[place]bool{}
	measured := map[string]bool{} // files
	for _, m := range all {
		name := path.Dir(m.file)
		if counts[name] == nil {
			names = append(names, name)
			counts[name] = map[string]int{}
		}
		measured[m.file] = true
		counts[name][m.status]++
		if m.survived() {
			survivors[m.place()] = true
			if accepted[m.place()] != "" {
				counts[name]["accepted"]++
			}
		}
	}
	for _, name := range names {
		c := counts[name]
		run := c[killed] + c[lived]
		fmt.Fprintf(table, "%s\t%d\t%d\t%d\t%d\t%d\t%d\t%s\t%s\t\n", name, c[killed], c[lived], c[timedOut], c[notCovered],
			c[unbuilt], c["accepted"], percent(c[killed], run), percent(run, run+c[notCovered]))
	}
	_ = table.Flush() // fails when out does

	list := func(title string, wanted func(mutant) bool) {
		for _, m := range all {
			if wanted(m) {
				if title != "" {
					fmt.Fprintf(out, "\n%s\n", title)
					title = ""
				}
				fmt.Fprintf(out, "%s  %s  %s\n", m.file, m.kind, m.text)
				fmt.Fprintf(out, "\tline %d, %s\n", m.line, m.status)
			}
		}
	}
	list("Survived, and not accepted:", func(m mutant) bool { return m.survived() && accepted[m.place()] == "" })
	list("The tests did not end:", func(m mutant) bool { return m.status == timedOut })

	var gone []string
	for p := range accepted {
		if measured[p.file] && !survivors[p] {
			gone = append(gone, p.file+"  "+p.kind+"  "+p.text)
		}
	}
	if len(gone) > 0 {
		slices.Sort(gone)
		fmt.Fprintf(out, "\nAccepted, but no longer there:\n%s\n", strings.Join(gone, "\n"))
	}
}

func percent(part, whole int) string {
	if whole == 0 {
		return "-"
	}
	return fmt.Sprintf("%.1f %%", 100*float64(part)/float64(whole))
}
