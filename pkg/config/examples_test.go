package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// configsDir is absolute: tests change the working directory.
var configsDir, _ = filepath.Abs("../../configs")

func configFiles(t *testing.T) []string {
	t.Helper()
	examples, err := filepath.Glob(configsDir + "/examples/*.yaml")
	require.NoError(t, err)
	require.GreaterOrEqual(t, len(examples), 7)
	all, err := filepath.Glob(configsDir + "/*.yaml")
	require.NoError(t, err)
	return append(examples, all...)
}

// loadExample loads an example with its secrets in place.
func loadExample(t *testing.T, name string) *Config {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(configsDir, "examples", name))
	require.NoError(t, err)
	secrets := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(secrets, "vodrelay-webhook"), []byte("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n"), 0o600))
	for _, name := range []string{"redis-password", "rabbitmq-password", "vod-sign-key"} {
		require.NoError(t, os.WriteFile(filepath.Join(secrets, name), []byte("s3cret\n"), 0o600))
	}
	c, err := load(t, strings.ReplaceAll(string(text), "/run/secrets", secrets))
	require.NoError(t, err)
	return c
}

func TestExamples(t *testing.T) {
	want := map[string]string{ // the sinks: name and type of each
		"stdout.yaml":               "stdout stdout",
		"webhook.yaml":              "site webhook",
		"file.yaml":                 "archive file",
		"exec.yaml":                 "on-upload exec",
		"cloudevents.yaml":          "structured webhook, binary webhook",
		"several-applications.yaml": "studio webhook, lessons webhook, archive file",
		"kafka.yaml":                "kafka kafka",
		"nats.yaml":                 "nats nats",
		"redis.yaml":                "redis redis",
		"rabbitmq.yaml":             "rabbitmq rabbitmq",
		"postgres.yaml":             "database postgres, uploads postgres",
		"knative.yaml":              "broker knative",
		"callback.yaml":             "site webhook",
		"emulator.yaml":             "stdout stdout",
	}
	paths, err := filepath.Glob(configsDir + "/examples/*.yaml")
	require.NoError(t, err)
	require.Len(t, paths, len(want))
	for _, path := range paths {
		name := filepath.Base(path)
		t.Run(name, func(t *testing.T) {
			c := loadExample(t, name)
			var sinks []string
			for _, s := range c.Sinks {
				sinks = append(sinks, s.Name+" "+s.Type)
			}
			require.Equal(t, want[name], strings.Join(sinks, ", "))

			text, err := os.ReadFile(path)
			require.NoError(t, err)
			lines := strings.SplitN(string(text), "\n", 3)
			require.Regexp(t, `^# For .*[.:].*`, lines[0], "the first two lines say what it is for")
			require.Regexp(t, `^# [A-Z]`, lines[1])
		})
	}
	site := loadExample(t, "webhook.yaml").Sinks[0]
	require.NotEmpty(t, site.Webhook.SecretFile)
	require.Equal(t, `type == "NewFileUpload"`, site.When)
	require.Equal(t, "http://127.0.0.1:9090", loadExample(t, "emulator.yaml").Vod.Endpoint)
}
