package kubernetes_test

import (
	"fmt"
	"net/url"
	"path"
	"slices"
	"strconv"
	"strings"
	"testing"

	monitoringv1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/validation"
)

// stopLimit is the seconds that a stop takes at most: relay.StopLimit.
const stopLimit = 25

// pod is a pod template, or the pod of a test.
type pod struct {
	owner  string
	daemon bool
	labels labels.Set
	claims []corev1.PersistentVolumeClaim // of a StatefulSet
	corev1.PodSpec
}

func (p pod) container() corev1.Container { return p.Containers[0] }

// pods are all pods that the manifest would make.
func pods(t *testing.T, m manifest) []pod {
	t.Helper()
	var found []pod
	add := func(o metav1.Object, template corev1.PodTemplateSpec, daemon bool) *pod {
		found = append(found, pod{owner: o.GetName(), daemon: daemon, labels: template.Labels, PodSpec: template.Spec})
		return &found[len(found)-1]
	}
	selects := func(selector *metav1.LabelSelector, template corev1.PodTemplateSpec) {
		require.True(t, matcher(t, selector).Matches(labels.Set(template.Labels)), "the selector does not match the template")
	}
	for _, o := range all[*appsv1.Deployment](m) {
		add(o, o.Spec.Template, true)
		selects(o.Spec.Selector, o.Spec.Template)
	}
	for _, o := range all[*appsv1.StatefulSet](m) {
		add(o, o.Spec.Template, true).claims = o.Spec.VolumeClaimTemplates
		selects(o.Spec.Selector, o.Spec.Template)
		require.True(t, slices.ContainsFunc(all[*corev1.Service](m), func(s *corev1.Service) bool { return s.Name == o.Spec.ServiceName }))
	}
	jobs := all[*batchv1.Job](m)
	for _, o := range all[*batchv1.CronJob](m) {
		require.Equal(t, batchv1.ForbidConcurrent, o.Spec.ConcurrencyPolicy)
		jobs = append(jobs, &batchv1.Job{ObjectMeta: o.ObjectMeta, Spec: o.Spec.JobTemplate.Spec})
	}
	for _, o := range jobs {
		add(o, o.Spec.Template, false)
		require.Equal(t, corev1.RestartPolicyNever, o.Spec.Template.Spec.RestartPolicy, "podFailurePolicy demands it")
		onExit := o.Spec.PodFailurePolicy.Rules[0].OnExitCodes
		require.Equal(t, []int32{2, 78}, onExit.Values)
		require.Equal(t, o.Spec.Template.Spec.Containers[0].Name, *onExit.ContainerName)
	}
	for _, o := range all[*corev1.Pod](m) {
		add(o, corev1.PodTemplateSpec{ObjectMeta: o.ObjectMeta, Spec: o.Spec}, false)
	}
	return found
}

func matcher(t *testing.T, selector *metav1.LabelSelector) labels.Selector {
	t.Helper()
	s, err := metav1.LabelSelectorAsSelector(selector)
	require.NoError(t, err)
	require.False(t, s.Empty(), "selects everything")
	return s
}

// check checks what types cannot say: that the objects fit together, and that the pods are hardened.
func check(t *testing.T, m manifest) {
	t.Helper()
	seen := map[string]bool{}
	for _, o := range m {
		require.Empty(t, validation.IsDNS1123Subdomain(o.GetName()))
		id := fmt.Sprintf("%T %s", o, o.GetName())
		require.False(t, seen[id], "%s is there twice", id)
		seen[id] = true
		for name, value := range o.GetLabels() {
			require.Empty(t, validation.IsQualifiedName(name))
			require.Empty(t, validation.IsValidLabelValue(value))
		}
	}
	every := pods(t, m)
	for _, p := range every {
		checkHardening(t, p)
		checkReferences(t, m, p)
		if p.daemon {
			checkAdmin(t, p)
		}
	}
	for _, o := range all[*corev1.ConfigMap](m) {
		for name, text := range o.Data {
			for _, word := range []string{"secret_key:", "password:", "token:", "secret:", "sign_key:", "PRIVATE KEY", "://user:"} {
				require.NotContains(t, text, word, "%s in a ConfigMap", name)
			}
		}
	}
	checkSelectors(t, m, every)
}

func checkHardening(t *testing.T, p pod) {
	t.Helper()
	require.Equal(t, new(false), p.AutomountServiceAccountToken)
	require.Equal(t, new(false), p.EnableServiceLinks)
	require.Greater(t, *p.TerminationGracePeriodSeconds, int64(stopLimit))
	require.Equal(t, new(true), p.SecurityContext.RunAsNonRoot)
	require.Equal(t, new(int64(65532)), p.SecurityContext.RunAsUser)
	require.Equal(t, corev1.SeccompProfileTypeRuntimeDefault, p.SecurityContext.SeccompProfile.Type)
	require.False(t, p.HostNetwork || p.HostPID || p.HostIPC)
	require.Len(t, p.Containers, 1)
	c := p.container()
	require.Equal(t, new(true), c.SecurityContext.ReadOnlyRootFilesystem)
	require.Equal(t, new(false), c.SecurityContext.AllowPrivilegeEscalation)
	require.Equal(t, &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}}, c.SecurityContext.Capabilities)
	require.NotEmpty(t, c.Resources.Requests)
	require.Contains(t, c.Resources.Limits, corev1.ResourceMemory)
	require.NotEqual(t, strings.Contains(c.Image, "@sha256:"), strings.Contains(path.Base(c.Image), ":") && !strings.Contains(c.Image, "@"), c.Image)
	require.Empty(t, c.Command, "the image's entry point")
}

// checkReferences checks that what the pod needs is there; the Secret is the user's.
func checkReferences(t *testing.T, m manifest, p pod) {
	t.Helper()
	if accounts := all[*corev1.ServiceAccount](m); len(accounts) > 0 {
		require.Equal(t, accounts[0].Name, p.ServiceAccountName)
		require.Equal(t, new(false), accounts[0].AutomountServiceAccountToken)
	}
	volumes := map[string]bool{}
	for _, claim := range p.claims {
		volumes[claim.Name] = true
	}
	for _, v := range p.Volumes {
		require.False(t, volumes[v.Name], "two volumes %s", v.Name)
		volumes[v.Name] = true
		if v.ConfigMap != nil && len(all[*corev1.ConfigMap](m)) > 0 {
			require.True(t, slices.ContainsFunc(all[*corev1.ConfigMap](m), func(o *corev1.ConfigMap) bool { return o.Name == v.ConfigMap.Name }), v.ConfigMap.Name)
		}
		if v.PersistentVolumeClaim != nil {
			require.True(t, slices.ContainsFunc(all[*corev1.PersistentVolumeClaim](m), func(o *corev1.PersistentVolumeClaim) bool { return o.Name == v.PersistentVolumeClaim.ClaimName }))
		}
		if v.Secret != nil {
			require.Equal(t, new(int32(0o440)), v.Secret.DefaultMode)
		}
	}
	for _, mount := range p.container().VolumeMounts {
		require.True(t, volumes[mount.Name], "there is no volume %s", mount.Name)
		delete(volumes, mount.Name)
	}
	require.Empty(t, volumes, "volumes that nothing mounts")
	names := map[string]bool{}
	for _, v := range p.container().Env {
		require.False(t, names[v.Name], "%s is set twice", v.Name)
		names[v.Name] = true
	}
}

// checkAdmin checks that the probes ask what the admin server answers.
func checkAdmin(t *testing.T, p pod) {
	t.Helper()
	c := p.container()
	require.Equal(t, []string{"run"}, c.Args)
	require.Equal(t, "0.0.0.0:"+strconv.Itoa(int(port(t, p, "admin"))), env(p)["VODRELAY_ADMIN_LISTEN"])
	for probe, path := range map[*corev1.Probe]string{c.StartupProbe: "/livez", c.LivenessProbe: "/livez", c.ReadinessProbe: "/readyz"} {
		require.NotNil(t, probe)
		require.Equal(t, path, probe.HTTPGet.Path)
		require.Equal(t, "admin", probe.HTTPGet.Port.String())
		require.EqualValues(t, 3, probe.TimeoutSeconds)
	}
}

func port(t *testing.T, p pod, name string) int32 {
	t.Helper()
	i := slices.IndexFunc(p.container().Ports, func(c corev1.ContainerPort) bool { return c.Name == name })
	require.NotEqual(t, -1, i, "there is no port %s", name)
	return p.container().Ports[i].ContainerPort
}

func env(p pod) map[string]string {
	vars := map[string]string{}
	for _, v := range p.container().Env {
		vars[v.Name] = v.Value
	}
	return vars
}

// checkSelectors checks that each selector selects the daemon's pods and no others, or for a NetworkPolicy
// all pods.
func checkSelectors(t *testing.T, m manifest, every []pod) {
	t.Helper()
	daemons := 0
	for _, p := range every {
		if p.daemon {
			daemons++
		}
	}
	require.LessOrEqual(t, daemons, 1)
	exactly := func(s labels.Selector) {
		require.Equal(t, 1, daemons, "there is nothing to select")
		for _, p := range every {
			require.Equal(t, p.daemon, s.Matches(p.labels), "%s selects %s", s, p.owner)
		}
	}
	var admin *corev1.Service
	services := map[string]*corev1.Service{}
	for _, o := range all[*corev1.Service](m) {
		services[o.Name] = o
		require.NotEmpty(t, o.Spec.Selector)
		exactly(labels.SelectorFromSet(o.Spec.Selector))
		require.Len(t, o.Spec.Ports, 1)
		target := o.Spec.Ports[0].TargetPort.String()
		require.Equal(t, target, o.Spec.Ports[0].Name)
		port(t, every[0], target)
		require.Equal(t, target == "admin", o.Spec.PublishNotReadyAddresses, "metrics tell why a pod is not ready; events it cannot take")
		if target == "admin" {
			require.Nil(t, admin)
			admin = o
		}
	}
	require.Equal(t, daemons == 1, admin != nil)
	for _, o := range all[*networkingv1.Ingress](m) {
		backend := o.Spec.Rules[0].HTTP.Paths[0].Backend.Service
		require.Equal(t, services[backend.Name].Spec.Ports[0].Name, backend.Port.Name)
	}
	for _, o := range all[*policyv1.PodDisruptionBudget](m) {
		exactly(matcher(t, o.Spec.Selector))
		require.Equal(t, "1", o.Spec.MaxUnavailable.String(), "more would not let a node be drained, or all replicas go")
	}
	for _, o := range all[*networkingv1.NetworkPolicy](m) {
		for _, p := range every {
			require.True(t, matcher(t, &o.Spec.PodSelector).Matches(p.labels))
		}
		require.Contains(t, o.Spec.PolicyTypes, networkingv1.PolicyTypeIngress)
		var open []string
		for _, rule := range o.Spec.Ingress {
			open = append(open, rule.Ports[0].Port.String())
			if rule.Ports[0].Port.String() != "callback" {
				require.NotEmpty(t, rule.From, "a rule without from admits every pod of the cluster")
			}
			for _, peer := range rule.From {
				require.NotZero(t, peer, "the API server refuses an empty peer")
			}
		}
		if daemons == 1 {
			var ports []string
			for _, p := range every[0].container().Ports {
				ports = append(ports, p.Name)
			}
			require.Subset(t, ports, open)
		}
	}
	for _, o := range all[*monitoringv1.ServiceMonitor](m) {
		for _, s := range services {
			require.Equal(t, s == admin, matcher(t, &o.Spec.Selector).Matches(labels.Set(s.Labels)), s.Name)
		}
		endpoint := o.Spec.Endpoints[0]
		require.Equal(t, admin.Spec.Ports[0].Name, endpoint.Port)
		require.Equal(t, "job", endpoint.RelabelConfigs[0].TargetLabel)
		require.Equal(t, "vodrelay", *endpoint.RelabelConfigs[0].Replacement)
	}
	for _, o := range all[*scaledObject](m) {
		deployment := all[*appsv1.Deployment](m)[0]
		require.Equal(t, deployment.Name, o.Spec.ScaleTargetRef.Name)
		require.Nil(t, deployment.Spec.Replicas, "an upgrade would undo KEDA's number")
		trigger := o.Spec.Triggers[0]
		u, err := url.Parse(trigger.Metadata["url"])
		require.NoError(t, err)
		require.Equal(t, fmt.Sprintf("%s.%s.svc:%d", admin.Name, namespace, admin.Spec.Ports[0].Port), u.Host)
		require.Equal(t, "/status", u.Path)
		require.Equal(t, "queue_depth", trigger.Metadata["valueLocation"])
	}
}
