package monitoring_test

import (
	"slices"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/util/annotations"
)

// series is a database in memory.
type series []storage.Series

// add reads a series in promtool's notation: name{label="value"} and values such as 0+1x10.
func (s *series) add(name, values string, interval time.Duration) error {
	metric, sequence, err := promQL.ParseSeriesDesc(name + " " + values)
	if err != nil {
		return err
	}
	var points []promql.FPoint
	for i, v := range sequence {
		if !v.Omitted {
			points = append(points, promql.FPoint{T: int64(i) * interval.Milliseconds(), F: v.Value})
		}
	}
	*s = append(*s, promql.NewStorageSeries(promql.Series{Metric: metric, Floats: points}))
	return nil
}

// Querier implements storage.Queryable. What is out of the range, the engine leaves out itself.
func (s series) Querier(int64, int64) (storage.Querier, error) {
	return &storage.MockQuerier{SelectMockFunction: func(_ bool, _ *storage.SelectHints, matchers ...*labels.Matcher) storage.SeriesSet {
		found := &set{at: -1}
		for _, one := range s {
			differs := func(m *labels.Matcher) bool { return !m.Matches(one.Labels().Get(m.Name)) }
			if !slices.ContainsFunc(matchers, differs) {
				found.series = append(found.series, one)
			}
		}
		return found
	}}, nil
}

// set implements storage.SeriesSet.
type set struct {
	series series
	at     int
}

func (s *set) Next() bool                      { s.at++; return s.at < len(s.series) }
func (s *set) At() storage.Series              { return s.series[s.at] }
func (*set) Err() error                        { return nil }
func (*set) Warnings() annotations.Annotations { return nil }
