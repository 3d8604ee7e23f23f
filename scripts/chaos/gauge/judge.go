package gauge

import (
	"fmt"
	"io"
	"slices"
	"time"
)

const (
	// A life is judged from here on: what is shorter has no quarters that mean anything.
	shortest    = 10 * time.Minute
	fewest      = 40
	slopePoints = 300 // the slope is over at most so many
)

// Verdict is the judgement on one quantity of one process.
type Verdict struct {
	Process string
	Quantity
	Life          time.Duration // the longest in which the process was not restarted; it is what is judged
	Samples       int
	Early, Late   float64 // the medians of its second and its last quarter: the first is for warming up
	Most          float64
	Slope         float64 // units per hour, without the first quarter: the median of the slopes between all pairs
	Flat          bool
	Missed, Lives int
}

// Judge judges each quantity of each process over its longest life. It fails where that is too short to say anything.
func (g *Gauge) Judge() ([]Verdict, error) {
	var all []Verdict
	for _, name := range g.Names() {
		samples, missed := g.Samples(name)
		life, lives := longest(samples)
		took := life[len(life)-1].At.Sub(life[0].At)
		if took < shortest || len(life) < fewest {
			return all, fmt.Errorf("%s ran for %s at a time at most, with %d samples: too short to judge", name, took.Round(time.Second), len(life))
		}
		for n, q := range Quantities {
			v := Verdict{Process: name, Quantity: q, Life: took, Samples: len(life), Missed: missed, Lives: lives}
			values := make([]float64, len(life))
			for i, s := range life {
				values[i] = s.Values[n]
			}
			quarter := func(k int) []float64 { return values[len(values)*(k-1)/4 : len(values)*k/4] }
			v.Early, v.Late, v.Most = median(quarter(2)), median(quarter(4)), slices.Max(values)
			v.Slope = slope(life[len(life)/4:], n)
			v.Flat = v.Late <= v.Early*(1+q.Growth)+q.Slack
			all = append(all, v)
		}
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("no process answered")
	}
	return all, nil
}

// longest is the part of the samples in which the process was not restarted that lasted longest, and how many there are.
func longest(samples []Sample) (best []Sample, lives int) {
	span := func(s []Sample) time.Duration { return s[len(s)-1].At.Sub(s[0].At) }
	for begin := 0; begin < len(samples); lives++ {
		end := begin
		for end < len(samples) && samples[end].Born == samples[begin].Born {
			end++
		}
		if life := samples[begin:end]; best == nil || span(life) > span(best) {
			best = life
		}
		begin = end
	}
	return best, lives
}

func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	if n := len(sorted); n > 0 {
		return (sorted[(n-1)/2] + sorted[n/2]) / 2
	}
	return 0
}

// slope is the estimate of Theil and Sen, which single peaks do not move.
func slope(samples []Sample, n int) float64 {
	step := max(1, (len(samples)+slopePoints-1)/slopePoints)
	var slopes []float64
	for i := 0; i < len(samples); i += step {
		for j := i + step; j < len(samples); j += step {
			hours := samples[j].At.Sub(samples[i].At).Hours()
			slopes = append(slopes, (samples[j].Values[n]-samples[i].Values[n])/hours)
		}
	}
	return median(slopes)
}

// Table writes verdicts as Markdown.
func Table(out io.Writer, verdicts []Verdict) error {
	_, err := fmt.Fprint(out, "| process | quantity | after the start | at the end | at most | per hour | may grow to | verdict |\n| --- | --- | --: | --: | --: | --: | --: | --- |\n")
	for _, v := range verdicts {
		word := "flat"
		if !v.Flat {
			word = "**grows**"
		}
		name := v.Name
		if v.Unit != "" {
			name += ", " + v.Unit
		}
		if err == nil {
			_, err = fmt.Fprintf(out, "| %s | %s | %.1f | %.1f | %.1f | %+.1f | %.1f | %s |\n", v.Process, name, v.Early, v.Late, v.Most, v.Slope,
				v.Early*(1+v.Growth)+v.Slack, word)
		}
	}
	return err
}
