package kubernetes_test

import (
	"flag"
	"os"
	"strings"
	"testing"

	monitoringv1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	"github.com/stretchr/testify/require"
	"sigs.k8s.io/yaml"

	"github.com/vodrelay/vodrelay/deploy/test/internal/repo"
)

const (
	rulesFile     = "deploy/monitoring/vodrelay.rules.yaml"
	chartRules    = "deploy/helm/vodrelay/files/vodrelay.rules.yaml"
	componentRule = "deploy/kubernetes/components/prometheus-operator/prometheusrule.yaml"
)

var update = flag.Bool("update", false, "write the copies of the alert rules anew")

// TestRuleCopies keeps the copies of the rules equal: a chart and a kustomization can only read their own
// files. With -update it writes them.
func TestRuleCopies(t *testing.T) {
	rules := repo.Read(t, rulesFile)
	_, groups, found := strings.Cut(rules, "\ngroups:\n")
	require.True(t, found)
	component := "# Made from " + rulesFile + ".\napiVersion: monitoring.coreos.com/v1\nkind: PrometheusRule\nmetadata:\n  name: vodrelay\nspec:\n  groups:\n"
	for line := range strings.Lines(groups) {
		if line != "\n" {
			component += "  "
		}
		component += line
	}
	for path, text := range map[string]string{chartRules: rules, componentRule: component} {
		if *update {
			require.NoError(t, os.WriteFile(repo.Path(path), []byte(text), 0o644))
		}
		require.Equal(t, text, repo.Read(t, path), "run: go test ./kubernetes -run RuleCopies -update")
	}
}

// checkRules checks that the manifest's rules are those of deploy/monitoring.
func checkRules(t *testing.T, m manifest) {
	t.Helper()
	var want monitoringv1.PrometheusRuleSpec
	require.NoError(t, yaml.UnmarshalStrict([]byte(repo.Read(t, rulesFile)), &want))
	require.NotEmpty(t, want.Groups[0].Rules)
	found := all[*monitoringv1.PrometheusRule](m)
	require.Len(t, found, 1)
	require.Equal(t, want, found[0].Spec)
}
