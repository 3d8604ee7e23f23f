package monitoring_test

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/model/timestamp"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/template"
	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"

	"github.com/vodrelay/vodrelay/deploy/test/internal/repo"
)

const (
	rulesFile = "deploy/monitoring/vodrelay.rules.yaml"
	testsFile = "deploy/monitoring/vodrelay.rules.test.yaml"
)

var promQL = parser.NewParser(parser.Options{})

// ruleTests is what promtool's test files may hold, as far as ours need it.
type ruleTests struct {
	RuleFiles          []string       `yaml:"rule_files"`
	EvaluationInterval model.Duration `yaml:"evaluation_interval"`
	Tests              []struct {
		Name     string         `yaml:"name"`
		Interval model.Duration `yaml:"interval"`
		Input    []struct {
			Series string `yaml:"series"`
			Values string `yaml:"values"`
		} `yaml:"input_series"`
		Alerts []struct {
			Name     string         `yaml:"alertname"`
			EvalTime model.Duration `yaml:"eval_time"`
			Expected []alert        `yaml:"exp_alerts"`
		} `yaml:"alert_rule_test"`
	} `yaml:"tests"`
}

type alert struct {
	Labels      map[string]string `yaml:"exp_labels"`
	Annotations map[string]string `yaml:"exp_annotations"`
}

// TestRules runs the file that `promtool test rules` runs too. promtool itself would bring the clients of
// every cloud that Prometheus can discover targets in.
func TestRules(t *testing.T) {
	rules := alertRules(t)
	var file ruleTests
	decoder := yaml.NewDecoder(strings.NewReader(repo.Read(t, testsFile)))
	decoder.KnownFields(true)
	require.NoError(t, decoder.Decode(&file))
	require.Equal(t, []string{"vodrelay.rules.yaml"}, file.RuleFiles)

	fired, silent := map[string]bool{}, map[string]bool{}
	for _, test := range file.Tests {
		t.Run(test.Name, func(t *testing.T) {
			var data series
			for _, in := range test.Input {
				require.NoError(t, data.add(in.Series, in.Values, time.Duration(test.Interval)))
			}
			for _, want := range test.Alerts {
				rule, known := rules[want.Name]
				require.True(t, known, "there is no alert %s", want.Name)
				got := evaluate(t, rule, data, time.Duration(file.EvaluationInterval), time.Duration(want.EvalTime))
				require.ElementsMatch(t, want.Expected, got, "%s after %s", want.Name, want.EvalTime)
				if len(want.Expected) > 0 {
					fired[want.Name] = true
				} else {
					silent[want.Name] = true
				}
			}
		})
	}
	for name := range rules {
		require.True(t, fired[name], "no test has %s fire", name)
		require.True(t, silent[name], "no test has %s silent", name)
	}
}

// alertRules are the rules by their name, after Prometheus' own checks.
func alertRules(t *testing.T) map[string]rulefmt.Rule {
	groups, errs := rulefmt.Parse([]byte(repo.Read(t, rulesFile)), false, model.UTF8Validation, promQL, slog.New(slog.DiscardHandler))
	require.Empty(t, errs)
	rules := map[string]rulefmt.Rule{}
	for _, group := range groups.Groups {
		for _, rule := range group.Rules {
			require.NotContains(t, rules, rule.Alert)
			rules[rule.Alert] = rule
		}
	}
	require.NotEmpty(t, rules)
	return rules
}

// evaluate runs the rule at every interval until end, and returns the alerts that fire then.
func evaluate(t *testing.T, rule rulefmt.Rule, data series, interval, end time.Duration) []alert {
	engine := promql.NewEngine(promql.EngineOpts{MaxSamples: 1e6, Timeout: time.Minute, LookbackDelta: 5 * time.Minute, Parser: promQL})
	t.Cleanup(func() { require.NoError(t, engine.Close()) })
	query := func(ctx context.Context, expr string, at time.Time) (promql.Vector, error) {
		q, err := engine.NewInstantQuery(ctx, data, nil, expr, at)
		if err != nil {
			return nil, err
		}
		defer q.Close()
		return q.Exec(ctx).Vector()
	}
	since := map[string]time.Duration{} // by labels
	var firing []alert
	for now := time.Duration(0); now <= end; now += interval {
		at := timestamp.Time(now.Milliseconds())
		vector, err := query(t.Context(), rule.Expr, at)
		require.NoError(t, err)
		active := map[string]bool{}
		firing = nil
		for _, sample := range vector {
			expand := func(text string) string {
				text = "{{$labels := .Labels}}{{$value := .Value}}" + text
				data := template.AlertTemplateData(sample.Metric.Map(), nil, "", sample)
				got, err := template.NewTemplateExpander(t.Context(), text, rule.Alert, data, model.Time(now.Milliseconds()), query, &url.URL{}, nil).Expand()
				require.NoError(t, err)
				return got
			}
			a := alert{Labels: sample.Metric.Map(), Annotations: map[string]string{}}
			delete(a.Labels, model.MetricNameLabel)
			for name, text := range rule.Labels {
				a.Labels[name] = expand(text)
			}
			for name, text := range rule.Annotations {
				a.Annotations[name] = expand(text)
			}
			key := fmt.Sprint(a.Labels) // sorted by name
			require.False(t, active[key], "two alerts with the labels %s", key)
			active[key] = true
			if _, pending := since[key]; !pending {
				since[key] = now
			}
			if now-since[key] >= time.Duration(rule.For) {
				firing = append(firing, a)
			}
		}
		maps.DeleteFunc(since, func(key string, _ time.Duration) bool { return !active[key] })
	}
	return firing
}

// TestRunbooks checks that each alert points to its own paragraph.
func TestRunbooks(t *testing.T) {
	readme := repo.Read(t, "README.md")
	for name, rule := range alertRules(t) {
		require.Equal(t, "https://github.com/vodrelay/vodrelay#"+strings.ToLower(name), rule.Annotations["runbook_url"])
		require.Contains(t, []string{"warning", "critical"}, rule.Labels["severity"], name)
		require.Contains(t, readme, "\n### "+name+"\n")
	}
}
