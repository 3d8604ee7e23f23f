package monitoring_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/stretchr/testify/require"

	"github.com/vodrelay/vodrelay/deploy/test/internal/repo"
)

// TestRulesUseKnownMetrics keeps the rules in step with pkg/admin.
func TestRulesUseKnownMetrics(t *testing.T) {
	known := knownMetrics(t)
	for name, rule := range alertRules(t) {
		checkExpression(t, known, name, rule.Expr)
	}
}

// knownMetrics are the labels of each metric, by the names that Prometheus stores it under.
func knownMetrics(t *testing.T) map[string][]string {
	known := map[string][]string{
		"up":                            nil, // Prometheus' own
		"process_resident_memory_bytes": nil, // client_golang's collector
		"process_cpu_seconds_total":     nil,
	}
	for line := range strings.Lines(repo.Read(t, "pkg/admin/testdata/metrics.txt")) {
		metric, rest, ok := strings.Cut(line, "{")
		names, kind, ok2 := strings.Cut(rest, "} ")
		require.True(t, ok && ok2, "%q", line)
		labels := strings.Split(names, ",")
		if !strings.HasPrefix(kind, "histogram:") {
			known[metric] = labels
			continue
		}
		known[metric+"_bucket"] = append(labels, model.BucketLabel)
		known[metric+"_sum"], known[metric+"_count"] = labels, labels
	}
	require.Contains(t, known, "vodrelay_confirm_lease_left_seconds_bucket")
	return known
}

// checkExpression parses a PromQL expression, and reports metrics and labels in it that do not exist.
func checkExpression(t *testing.T, known map[string][]string, where, text string) {
	t.Helper()
	expr, err := promQL.ParseExpr(text)
	require.NoError(t, err, where)
	target := []string{model.JobLabel, model.InstanceLabel, "namespace"}
	allowed := slices.Clone(target)
	metrics := 0
	parser.Inspect(expr, func(node parser.Node, _ []parser.Node) error {
		selector, ok := node.(*parser.VectorSelector)
		if !ok {
			return nil
		}
		metrics++
		names, exists := known[selector.Name]
		require.True(t, exists, "%s: there is no metric %s", where, selector.Name)
		allowed = append(allowed, names...)
		for _, m := range selector.LabelMatchers {
			if m.Name != labels.MetricName {
				require.Contains(t, append(names, target...), m.Name, "%s: %s", where, selector.Name)
			}
		}
		return nil
	})
	require.Positive(t, metrics, "%s: asks for no metric", where)
	parser.Inspect(expr, func(node parser.Node, _ []parser.Node) error {
		switch n := node.(type) {
		case *parser.AggregateExpr:
			require.Subset(t, allowed, n.Grouping, where)
		case *parser.BinaryExpr:
			if n.VectorMatching != nil {
				require.Subset(t, allowed, n.VectorMatching.MatchingLabels, where)
			}
		}
		return nil
	})
}

type dashboard struct {
	Title         string `json:"title"`
	SchemaVersion int    `json:"schemaVersion"`
	Templating    struct {
		List []struct {
			Name  string          `json:"name"`
			Type  string          `json:"type"`
			Query json.RawMessage `json:"query"`
		} `json:"list"`
	} `json:"templating"`
	Panels []struct {
		ID         int        `json:"id"`
		Type       string     `json:"type"`
		Title      string     `json:"title"`
		Datasource datasource `json:"datasource"`
		GridPos    struct {
			X, Y, W, H int
		} `json:"gridPos"`
		Targets []struct {
			RefID      string     `json:"refId"`
			Expr       string     `json:"expr"`
			Datasource datasource `json:"datasource"`
		} `json:"targets"`
	} `json:"panels"`
}

type datasource struct{ Type, UID string }

// TestDashboard checks what Grafana would only tell by an empty panel.
func TestDashboard(t *testing.T) {
	var d dashboard
	require.NoError(t, json.Unmarshal([]byte(repo.Read(t, "deploy/monitoring/vodrelay.dashboard.json")), &d))
	require.GreaterOrEqual(t, d.SchemaVersion, 41)
	require.Equal(t, "datasource", d.Templating.List[0].Type)

	known := knownMetrics(t)
	// What Grafana puts in for the variables.
	variables := strings.NewReplacer("$job", ".*", "$instance", ".*", "$__rate_interval", "2m")
	templated := datasource{Type: "prometheus", UID: "${datasource}"}
	ids, cells := map[int]bool{}, map[[2]int]string{}
	used := map[string]bool{}
	for _, p := range d.Panels {
		require.NotEmpty(t, p.Title)
		require.False(t, ids[p.ID], "two panels have the id %d", p.ID)
		ids[p.ID] = true
		require.LessOrEqual(t, p.GridPos.X+p.GridPos.W, 24, p.Title)
		for x := range p.GridPos.W {
			for y := range p.GridPos.H {
				cell := [2]int{p.GridPos.X + x, p.GridPos.Y + y}
				require.Empty(t, cells[cell], "%s overlaps", p.Title)
				cells[cell] = p.Title
			}
		}
		if p.Type == "row" {
			continue
		}
		require.Equal(t, templated, p.Datasource, p.Title)
		require.NotEmpty(t, p.Targets, p.Title)
		for _, target := range p.Targets {
			require.Equal(t, templated, target.Datasource, p.Title)
			require.Contains(t, target.Expr, `{job=~"$job",instance=~"$instance"`, p.Title)
			text := variables.Replace(target.Expr)
			require.NotContains(t, text, "$", p.Title)
			checkExpression(t, known, fmt.Sprintf("panel %s, query %s", p.Title, target.RefID), text)
			for name := range known {
				if strings.Contains(text, name+"{") {
					used[strings.TrimSuffix(strings.TrimSuffix(name, "_bucket"), "_count")] = true
				}
			}
		}
	}
	for _, about := range []string{
		"vodrelay_events_received_total", "vodrelay_sink_events_settled_total", "vodrelay_events_confirmed_total",
		"vodrelay_pull_duration_seconds", "vodrelay_handling_duration_seconds", "vodrelay_confirm_duration_seconds",
		"vodrelay_confirm_lease_left_seconds", "vodrelay_queue_depth", "vodrelay_parcels", "vodrelay_sink_breaker_state",
	} {
		require.True(t, used[about], "no panel shows %s", about)
	}
}
