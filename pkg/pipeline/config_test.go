package pipeline

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vodrelay/vodrelay/pkg/retry"
)

func TestProcessorConfig(t *testing.T) {
	tests := []struct {
		name   string
		config ProcessorConfig
		want   string // the error
	}{
		{"filter", ProcessorConfig{Filter: `type == "X"`}, ""},
		{"project", ProcessorConfig{Project: map[string]string{"b": "1", "a": "2"}}, ""},
		{"set", ProcessorConfig{Set: map[string]string{"b": "1"}}, ""},
		{"none", ProcessorConfig{}, "0 of filter, project and set are given: write exactly one in each processor"},
		{"two", ProcessorConfig{Filter: "true", Set: map[string]string{"b": "1"}}, "2 of filter, project and set are given: write exactly one in each processor"},
		{"bad filter", ProcessorConfig{Filter: "typ"}, "filter: expression 'typ', column 1: unknown name typ: did you mean type?"},
		{"all that is bad", ProcessorConfig{Project: map[string]string{"z": "typ", "a": "idd", "c": "id"}},
			"project.a: expression 'idd', column 1: unknown name idd: did you mean id?\nproject.z: expression 'typ', column 1: unknown name typ: did you mean type?"},
		{"overlap", ProcessorConfig{Set: map[string]string{"a": "1", "a.b": "2"}}, "set.a.b: overlaps with a: keep one of them"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := tt.config.Validate()
			if tt.want != "" {
				require.EqualError(t, err, tt.want)
				return
			}
			require.NoError(t, err)
		})
	}
	p, err := tests[1].config.Processor()
	require.NoError(t, err)
	e, err := p.Process(t.Context(), parse(t, bare))
	require.NoError(t, err)
	require.Equal(t, `{"a":2,"b":1}`, string(e.Raw))
}

func TestRouteConfig(t *testing.T) {
	c := DefaultRouteConfig()
	require.EqualError(t, c.Validate(), `name: "": write 1 to 63 letters, digits, dots, dashes and underscores, the first one a letter or a digit`)
	c.Name = strings.Repeat("x", 64)
	require.ErrorContains(t, c.Validate(), "write 1 to 63 letters")
	c.Name, c.Concurrency = strings.Repeat("x", 63), 1
	require.NoError(t, c.Validate())
	c.Name, c.Concurrency = "site-1", 64
	require.NoError(t, c.Validate())
	r, err := c.Route(&target{})
	require.NoError(t, err)
	require.Nil(t, r.When)
	require.Equal(t, 10*time.Second, r.Timeout)
	require.Equal(t, 64, r.Concurrency)
	require.Equal(t, retry.DefaultPolicy(), r.Retry)

	c.When = `type == "NewFileUpload"`
	r, err = c.Route(&target{})
	require.NoError(t, err)
	require.Equal(t, c.When, r.When.String())

	require.Equal(t, BreakerConfig{Failures: 5, Open: 10 * time.Second}, r.Breaker)
	require.Equal(t, retry.DefaultSchedule(), r.Parcels)

	bad := RouteConfig{Name: "a b", When: "typ", Breaker: BreakerConfig{Failures: 1}, Retry: retry.Policy{Max: -1, MaxAttempts: -1}}
	require.EqualError(t, bad.Validate(), `name: "a b": write 1 to 63 letters, digits, dots, dashes and underscores, the first one a letter or a digit
when: expression 'typ', column 1: unknown name typ: did you mean type?
timeout: 0s: must be more than 0, such as 10s
concurrency: 0: must be 1 or more
breaker.open: 0s: must be more than 0, such as 10s
parcels.initial: 0s: must be more than 0, such as 10s
retry.initial: 0s: must be more than 0, such as 200ms
retry.max: -1ns: must be at least initial (0s)
retry.max_attempts: -1: must be 0 (no limit) or more`)
	_, err = bad.Route(&target{})
	require.ErrorContains(t, err, "when: ")
}
