package kubernetes_test

import (
	"os"
	"path/filepath"
	"testing"

	monitoringv1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"

	"github.com/vodrelay/vodrelay/deploy/test/internal/repo"
)

const kustomizations = "deploy/kubernetes"

// kustomized is the manifest of a kustomization in the repository.
func kustomized(t *testing.T, name string) manifest {
	t.Helper()
	return build(t, repo.Path(kustomizations, name))
}

func build(t *testing.T, dir string) manifest {
	t.Helper()
	resources, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), dir)
	require.NoError(t, err)
	text, err := resources.AsYaml()
	require.NoError(t, err)
	return decode(t, text)
}

// own is the manifest of a kustomization as a user writes it, on top of the repository's: text makes it from
// the path to deploy/kubernetes, and files lie beside it.
func own(t *testing.T, text func(path string) string, files map[string]string) manifest {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	require.NoError(t, err)
	from, err := filepath.Rel(dir, repo.Path(kustomizations))
	require.NoError(t, err)
	files["kustomization.yaml"] = text(from)
	for name, content := range files {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644))
	}
	return build(t, dir)
}

func TestKustomize(t *testing.T) {
	for _, name := range []string{"base", "overlays/postgres", "overlays/volume", "overlays/drain-job", "overlays/drain-cronjob"} {
		t.Run(name, func(t *testing.T) {
			m := kustomized(t, name)
			check(t, m)
			require.Len(t, pods(t, m), 1)
		})
	}

	t.Run("stores", func(t *testing.T) {
		drivers := map[string]string{"base": "none", "overlays/postgres": "postgres", "overlays/volume": "sqlite", "overlays/drain-job": "none", "overlays/drain-cronjob": "none"}
		for name, driver := range drivers {
			require.Equal(t, driver, env(pods(t, kustomized(t, name))[0])["VODRELAY_STORE_DRIVER"], name)
		}
		volume := all[*appsv1.Deployment](kustomized(t, "overlays/volume"))[0]
		require.Equal(t, appsv1.RecreateDeploymentStrategyType, volume.Spec.Strategy.Type, "two pods cannot share the file")
		require.Nil(t, volume.Spec.Strategy.RollingUpdate)
		require.Equal(t, new(int32(1)), volume.Spec.Replicas)
		require.Equal(t, new(int32(2)), all[*appsv1.Deployment](kustomized(t, "overlays/postgres"))[0].Spec.Replicas)
		require.Equal(t, []string{"drain"}, all[*batchv1.Job](kustomized(t, "overlays/drain-job"))[0].Spec.Template.Spec.Containers[0].Args)
	})

	t.Run("components", func(t *testing.T) {
		m := own(t, func(path string) string {
			return "resources: [" + path + "/overlays/postgres]\n" +
				"components: [" + path + "/components/prometheus-operator, " + path + "/components/tke-oidc, " + path + "/components/callback]\n"
		}, map[string]string{})
		check(t, m)
		checkRules(t, m)
		require.Len(t, all[*monitoringv1.ServiceMonitor](m), 1)
		require.Contains(t, all[*corev1.ServiceAccount](m)[0].Annotations, "tke.cloud.tencent.com/role-arn")
	})

	t.Run("own configuration and image", func(t *testing.T) {
		const config = "vod:\n  sub_app_ids: [1]\n"
		m := own(t, func(path string) string {
			return "namespace: media\nresources: [" + path + "/overlays/volume]\n" +
				"configMapGenerator: [{name: vodrelay, behavior: replace, files: [vodrelay.yaml]}]\n" +
				"images: [{name: vodrelay/vodrelay, newName: registry.example.com/vodrelay, newTag: v1}]\n"
		}, map[string]string{"vodrelay.yaml": config})
		check(t, m)
		require.Equal(t, map[string]string{"vodrelay.yaml": config}, all[*corev1.ConfigMap](m)[0].Data)
		require.Equal(t, "registry.example.com/vodrelay:v1", pods(t, m)[0].container().Image)
	})
}
