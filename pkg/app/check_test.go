package app

import (
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/vodrelay/vodrelay/pkg/config"
)

// What a check passes on of the log shows no secret.
func TestAWarningOfACheckShowsNoSecret(t *testing.T) {
	core, logs := observer.New(zap.WarnLevel)
	zap.New(core).Warn("https://user:hidden@example.com/hidden is odd", zap.String("sink", "site"), zap.String("hint", `write "https://user:hidden@example.com/hidden" anew`))
	require.Equal(t, Finding{
		Name: "sink site", Status: Warned, Detail: "https://***@example.com/*** is odd", Hint: `write "https://***@example.com/***" anew`,
	}, warningOf(logs.All()[0]))
}

// A pushed and a pulled copy of one event are one only if both name the same application.
func TestWarningsOfApplicationsThatAreNotNamed(t *testing.T) {
	both := []string{config.SourcePull, config.SourceCallback}
	for _, tt := range []struct {
		sources []string
		pushed  uint64
		pulled  []uint64
		want    string // part of the warning; empty: none
	}{
		{both, 0, nil, ""},
		{both, 0, []uint64{1}, ""},
		{both, 0, []uint64{1, 2}, "callback.sub_app_id does not say which of the applications posts"},
		{both, 2, []uint64{1, 2}, ""},
		{both, 7, nil, "set vod.sub_app_ids to [7] if it is the same"},
		{[]string{config.SourceCallback}, 7, nil, ""},
		{[]string{config.SourcePull}, 0, []uint64{1, 2}, ""},
	} {
		cfg := config.Default()
		cfg.Sources, cfg.Callback.SubAppID, cfg.Vod.SubAppIDs = tt.sources, tt.pushed, tt.pulled
		warnings := applicationWarnings(cfg)
		if tt.want == "" {
			require.Empty(t, warnings, "%+v", tt)
			continue
		}
		require.Len(t, warnings, 1, "%+v", tt)
		require.Contains(t, warnings[0], tt.want)
	}
}
