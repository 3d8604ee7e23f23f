package kubernetes_test

import (
	"bufio"
	"bytes"
	_ "embed"
	"encoding/json"
	"errors"
	"io"
	"testing"

	monitoringv1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	kjson "sigs.k8s.io/json"
	"sigs.k8s.io/yaml"
)

// manifest is one rendering, decoded.
type manifest []metav1.Object

// all are the objects of one type.
func all[T metav1.Object](m manifest) []T {
	var found []T
	for _, o := range m {
		if typed, ok := o.(T); ok {
			found = append(found, typed)
		}
	}
	return found
}

// scaledObject is a KEDA ScaledObject. KEDA's own types would bring all of controller-runtime in; the schema
// of its CRD checks the object instead.
type scaledObject struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Spec              struct {
		ScaleTargetRef struct {
			Name string `json:"name"`
		} `json:"scaleTargetRef"`
		MinReplicaCount int32 `json:"minReplicaCount"`
		MaxReplicaCount int32 `json:"maxReplicaCount"`
		PollingInterval int32 `json:"pollingInterval"`
		CooldownPeriod  int32 `json:"cooldownPeriod"`
		Triggers        []struct {
			Type     string            `json:"type"`
			Metadata map[string]string `json:"metadata"`
		} `json:"triggers"`
	} `json:"spec"`
}

var types = map[metav1.TypeMeta]func() metav1.Object{
	{APIVersion: "v1", Kind: "ConfigMap"}:                            func() metav1.Object { return &corev1.ConfigMap{} },
	{APIVersion: "v1", Kind: "PersistentVolumeClaim"}:                func() metav1.Object { return &corev1.PersistentVolumeClaim{} },
	{APIVersion: "v1", Kind: "Pod"}:                                  func() metav1.Object { return &corev1.Pod{} },
	{APIVersion: "v1", Kind: "Service"}:                              func() metav1.Object { return &corev1.Service{} },
	{APIVersion: "v1", Kind: "ServiceAccount"}:                       func() metav1.Object { return &corev1.ServiceAccount{} },
	{APIVersion: "apps/v1", Kind: "Deployment"}:                      func() metav1.Object { return &appsv1.Deployment{} },
	{APIVersion: "apps/v1", Kind: "StatefulSet"}:                     func() metav1.Object { return &appsv1.StatefulSet{} },
	{APIVersion: "batch/v1", Kind: "CronJob"}:                        func() metav1.Object { return &batchv1.CronJob{} },
	{APIVersion: "batch/v1", Kind: "Job"}:                            func() metav1.Object { return &batchv1.Job{} },
	{APIVersion: "networking.k8s.io/v1", Kind: "Ingress"}:            func() metav1.Object { return &networkingv1.Ingress{} },
	{APIVersion: "networking.k8s.io/v1", Kind: "NetworkPolicy"}:      func() metav1.Object { return &networkingv1.NetworkPolicy{} },
	{APIVersion: "policy/v1", Kind: "PodDisruptionBudget"}:           func() metav1.Object { return &policyv1.PodDisruptionBudget{} },
	{APIVersion: "monitoring.coreos.com/v1", Kind: "ServiceMonitor"}: func() metav1.Object { return &monitoringv1.ServiceMonitor{} },
	{APIVersion: "monitoring.coreos.com/v1", Kind: "PrometheusRule"}: func() metav1.Object { return &monitoringv1.PrometheusRule{} },
	{APIVersion: "keda.sh/v1alpha1", Kind: "ScaledObject"}:           func() metav1.Object { return &scaledObject{} },
}

// decode decodes documents as the API server does when it is strict: unknown fields, fields in the wrong
// case and fields that are there twice are errors.
func decode(t *testing.T, text []byte) manifest {
	t.Helper()
	var m manifest
	reader := utilyaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(text)))
	for {
		doc, err := reader.Read()
		if errors.Is(err, io.EOF) {
			return m
		}
		require.NoError(t, err)
		data, err := yaml.YAMLToJSONStrict(doc)
		require.NoError(t, err, "%s", doc)
		if string(data) == "null" {
			continue // nothing but comments
		}
		var meta metav1.TypeMeta
		require.NoError(t, json.Unmarshal(data, &meta))
		create, known := types[meta]
		require.True(t, known, "%v is not expected", meta)
		object := create()
		strict, err := kjson.UnmarshalStrict(data, object)
		require.NoError(t, err, "%s", doc)
		require.Empty(t, strict, "%s", doc)
		if meta.Kind == "ScaledObject" {
			validateScaledObject(t, data)
		}
		m = append(m, object)
	}
}

// scaledObjectSchema is that of KEDA 2.21's CRD, without descriptions and status.
// Source: https://github.com/kedacore/keda/blob/v2.21.0/config/crd/bases/keda.sh_scaledobjects.yaml.
//
//go:embed testdata/scaledobject.schema.json
var scaledObjectSchema []byte

func validateScaledObject(t *testing.T, data []byte) {
	t.Helper()
	schema, err := jsonschema.UnmarshalJSON(bytes.NewReader(scaledObjectSchema))
	require.NoError(t, err)
	compiler := jsonschema.NewCompiler()
	require.NoError(t, compiler.AddResource("scaledobject.json", schema))
	compiled, err := compiler.Compile("scaledobject.json")
	require.NoError(t, err)
	object, err := jsonschema.UnmarshalJSON(bytes.NewReader(data))
	require.NoError(t, err)
	require.NoError(t, compiled.Validate(object))
}
