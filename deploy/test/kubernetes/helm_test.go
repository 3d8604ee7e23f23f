package kubernetes_test

import (
	"maps"
	"slices"
	"strings"
	"testing"

	monitoringv1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	"github.com/stretchr/testify/require"
	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/engine"
	"helm.sh/helm/v3/pkg/lint"
	"helm.sh/helm/v3/pkg/lint/support"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/vodrelay/vodrelay/deploy/test/internal/repo"
)

const (
	chartPath = "deploy/helm/vodrelay"
	release   = "vodrelay"
	namespace = "media"
)

// values are chart values for each feature, by what they switch on.
var values = map[string]string{
	"defaults": ``,
	"postgres": `
replicas: 3
store: {driver: postgres}
config: {vod: {sub_app_ids: [1500000001, 1500000002]}}`,
	"statefulset": `
mode: statefulset
persistence: {size: 50Gi, storageClass: cbs, maxBytes: 20000000000}`,
	"job": `
mode: job
existingSecret: ""
tke: {oidc: {roleArn: "qcs::cam::uin/100000000001:roleName/vodrelay"}}`,
	"cronjob": `
mode: cronjob
store: {driver: postgres}
drain: {schedule: "0 3 * * *", timeZone: Asia/Shanghai, for: 30m, suspend: true}`,
	"tke": `
tke: {oidc: {roleArn: "qcs::cam::uin/100000000001:roleName/vodrelay"}}
serviceAccount: {annotations: {example.com/team: media}}`,
	"monitoring": `
serviceMonitor: {enabled: true, labels: {release: prometheus}}
prometheusRule: {enabled: true, labels: {release: prometheus}}
networkPolicy: {ingressFrom: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: monitoring}}}]}`,
	"keda": `
keda: {enabled: true, minReplicas: 2, maxReplicas: 8, queueDepth: 1000000}
networkPolicy: {ingressFrom: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: keda}}}]}
store: {driver: postgres}`,
	"callback": `
callback:
  enabled: true
  path: /vod
  service: {type: NodePort}
  ingress: {enabled: true, className: nginx, host: events.example.com, tlsSecret: events}
config: {sources: [pull, callback], vod: {sub_app_ids: [1500000001]}}`,
	"everything": `
fullnameOverride: events
image: {repository: registry.example.com/vodrelay, digest: "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef", pullPolicy: Always}
imagePullSecrets: [{name: registry}]
existingConfigMap: mine
serviceAccount: {create: false, name: other}
service: {port: 80, annotations: {example.com/a: b}}
networkPolicy:
  ingressFrom: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: monitoring}}}]
  egress: [{ports: [{port: 443}, {port: 53, protocol: UDP}]}]
extraEnv: [{name: HTTPS_PROXY, value: "http://proxy:3128"}]
extraEnvFrom: [{secretRef: {name: more, optional: true}}]
extraVolumes: [{name: ca, configMap: {name: ca}}]
extraVolumeMounts: [{name: ca, mountPath: /etc/ssl/own, readOnly: true}]
podAnnotations: {example.com/a: b}
podLabels: {example.com/a: b}
priorityClassName: high
nodeSelector: {kubernetes.io/arch: amd64}
tolerations: [{key: a, operator: Exists}]
affinity: {podAntiAffinity: {preferredDuringSchedulingIgnoredDuringExecution: [{weight: 1, podAffinityTerm: {topologyKey: kubernetes.io/hostname}}]}}
topologySpreadConstraints: [{maxSkew: 1, topologyKey: topology.kubernetes.io/zone, whenUnsatisfiable: ScheduleAnyway, labelSelector: {matchLabels: {app.kubernetes.io/name: vodrelay}}}]
terminationGracePeriodSeconds: 60`,
	"nothing": `
podDisruptionBudget: {enabled: false}
networkPolicy: {enabled: false}`,
}

// rendered are the chart's files for values in YAML.
func rendered(t *testing.T, text string) (map[string]string, error) {
	t.Helper()
	loaded, err := loader.Load(repo.Path(chartPath))
	require.NoError(t, err)
	overrides, err := chartutil.ReadValues([]byte(text))
	require.NoError(t, err)
	options := chartutil.ReleaseOptions{Name: release, Namespace: namespace, Revision: 1, IsInstall: true}
	all, err := chartutil.ToRenderValues(loaded, overrides, options, chartutil.DefaultCapabilities) // validates the schema
	if err != nil {
		return nil, err
	}
	return engine.Render(loaded, all)
}

// templated is the manifest of the chart for values in YAML.
func templated(t *testing.T, text string) manifest {
	t.Helper()
	files, err := rendered(t, text)
	require.NoError(t, err)
	var m manifest
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if strings.HasSuffix(name, ".yaml") {
			m = append(m, decode(t, []byte(files[name]))...)
		}
	}
	return m
}

func TestHelm(t *testing.T) {
	for name, text := range values {
		t.Run(name, func(t *testing.T) {
			overrides, err := chartutil.ReadValues([]byte(text))
			require.NoError(t, err)
			for _, message := range lint.All(repo.Path(chartPath), overrides, namespace, true).Messages {
				require.Less(t, message.Severity, support.WarningSev, message.Error())
			}
			m := templated(t, text)
			check(t, m)
			require.Len(t, pods(t, m), 2, "one, and the one of helm test")
			files, err := rendered(t, text)
			require.NoError(t, err)
			notes := files["vodrelay/templates/NOTES.txt"]
			require.NotContains(t, notes, "<no value>")
			require.Contains(t, notes, "helm -n media test vodrelay")
		})
	}
}

// TestHelmFeatures checks that the values do what they are for.
func TestHelmFeatures(t *testing.T) {
	rules := templated(t, values["monitoring"])
	checkRules(t, rules)
	require.Equal(t, "prometheus", all[*monitoringv1.PrometheusRule](rules)[0].Labels["release"])
	fewer := templated(t, "prometheusRule: {enabled: true, disabled: [VodrelayDown, VodrelayQueueGrowing], rules: [{record: a, expr: vector(1)}]}")
	require.Len(t, all[*monitoringv1.PrometheusRule](fewer)[0].Spec.Groups[0].Rules, len(all[*monitoringv1.PrometheusRule](rules)[0].Spec.Groups[0].Rules)-1)

	tke := all[*corev1.ServiceAccount](templated(t, values["tke"]))[0]
	require.Equal(t, map[string]string{
		"tke.cloud.tencent.com/role-arn":         "qcs::cam::uin/100000000001:roleName/vodrelay",
		"tke.cloud.tencent.com/audience":         "sts.cloud.tencent.com",
		"tke.cloud.tencent.com/token-expiration": "86400",
		"example.com/team":                       "media",
	}, tke.Annotations)

	postgres := templated(t, values["postgres"])
	require.Equal(t, "/run/secrets/vodrelay/postgres_url", env(pods(t, postgres)[0])["VODRELAY_STORE_URL_FILE"])
	require.Equal(t, new(int32(3)), all[*appsv1.Deployment](postgres)[0].Spec.Replicas)
	require.Equal(t, "vod:\n  sub_app_ids:\n  - 1500000001\n  - 1500000002\n", all[*corev1.ConfigMap](postgres)[0].Data["vodrelay.yaml"], "large numbers stay whole")

	state := all[*appsv1.StatefulSet](templated(t, values["statefulset"]))[0]
	require.Equal(t, new(int32(1)), state.Spec.Replicas)
	require.Equal(t, "cbs", *state.Spec.VolumeClaimTemplates[0].Spec.StorageClassName)
	require.Equal(t, "20000000000", env(pods(t, templated(t, values["statefulset"]))[0])["VODRELAY_STORE_MAX_BYTES"])

	cron := all[*batchv1.CronJob](templated(t, values["cronjob"]))[0]
	require.Equal(t, []string{"drain", "--for", "30m"}, cron.Spec.JobTemplate.Spec.Template.Spec.Containers[0].Args)
	require.Equal(t, "1000000", all[*scaledObject](templated(t, values["keda"]))[0].Spec.Triggers[0].Metadata["targetValue"])
	require.Len(t, templated(t, values["nothing"]), 5, "service account, configuration, deployment, service, test")

	checksum := func(text string) string {
		return all[*appsv1.Deployment](templated(t, text))[0].Spec.Template.Annotations["checksum/config"]
	}
	require.NotEqual(t, checksum("{}"), checksum("config: {log: {level: debug}}"), "a new configuration restarts the pods")
}

// TestNetworkPolicyAdmits nobody who is not named.
func TestNetworkPolicyAdmits(t *testing.T) {
	monitoring := map[string]string{"kubernetes.io/metadata.name": "monitoring"}
	admitted := func(m manifest) map[string][]networkingv1.NetworkPolicyPeer {
		policies := all[*networkingv1.NetworkPolicy](m)
		require.Len(t, policies, 1)
		from := map[string][]networkingv1.NetworkPolicyPeer{}
		for _, rule := range policies[0].Spec.Ingress {
			require.Len(t, rule.Ports, 1, "no port means all")
			from[rule.Ports[0].Port.String()] = rule.From
		}
		return from
	}
	named := []networkingv1.NetworkPolicyPeer{{NamespaceSelector: &metav1.LabelSelector{MatchLabels: monitoring}}}
	require.Empty(t, admitted(templated(t, "")))
	require.Empty(t, admitted(templated(t, "networkPolicy: {ingressFrom: []}")))
	require.Empty(t, admitted(templated(t, "mode: job")))
	require.Equal(t, map[string][]networkingv1.NetworkPolicyPeer{"callback": nil}, admitted(templated(t, values["callback"])))
	require.Equal(t, map[string][]networkingv1.NetworkPolicyPeer{"admin": named}, admitted(templated(t, values["monitoring"])))
	require.Empty(t, admitted(kustomized(t, "base")))
	require.Empty(t, admitted(kustomized(t, "overlays/drain-job")))
	require.Equal(t, map[string][]networkingv1.NetworkPolicyPeer{"admin": named, "callback": nil}, admitted(own(t, func(path string) string {
		return "resources: [" + path + "/base]\ncomponents: [" + path + "/components/callback, " + path + "/components/prometheus-operator]\n"
	}, map[string]string{})))
}

// TestHelmRefuses checks that mistakes are told before anything is installed.
func TestHelmRefuses(t *testing.T) {
	for text, says := range map[string]string{
		"mod: deployment":           "mod",
		"callback: {enabled: true}": "config.sources",
		"{mode: job, callback: {enabled: true}, config: {sources: [callback]}}":             "mode deployment",
		"config: {callback: {sign_key: abc}}":                                               "sign_key",
		"mode: daemonset":                                                                   "mode",
		"existingSecret: ''":                                                                "existingSecret",
		"terminationGracePeriodSeconds: 20":                                                 "terminationGracePeriodSeconds",
		"store: {driver: sqlite}":                                                           "driver",
		"keda: {enabled: true, minReplicas: 0}":                                             "minReplicas",
		"{mode: statefulset, keda: {enabled: true}}":                                        "set mode to deployment",
		"config: {vod: {credentials: {secret_key: abc}}}":                                   "secret_key",
		"config: {admin: {token: abc}}":                                                     "token",
		"config: {sinks: [{type: webhook, url: 'https://example.com', secret: whsec_abc}]}": "secret",
		"config: {store: {driver: postgres}}":                                               "driver",
		"{mode: job, existingSecret: '', store: {driver: postgres}}":                        "existingSecret",
		"serviceMonitor: {enabled: true}":                                                   "Prometheus cannot reach the pods",
		"keda: {enabled: true}":                                                             "KEDA cannot reach the pods",
		"networkPolicy: {ingressFrom: [{}]}":                                                "ingressFrom",
		"networkPolicy: {ingressFrom: [null]}":                                              "ingressFrom",
		"image: {digest: latest}":                                                           "digest",
		"tke: {oidc: {roleArn: 'arn:aws:iam::123456789012:role/vodrelay'}}":                 "roleArn",
	} {
		_, err := rendered(t, text)
		require.ErrorContains(t, err, says, text)
	}
}
