package app

import (
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
)

// What a check passes on of the log shows no secret.
func TestAWarningOfACheckShowsNoSecret(t *testing.T) {
	core, logs := observer.New(zap.WarnLevel)
	zap.New(core).Warn("https://user:hidden@example.com/hidden is odd", zap.String("sink", "site"), zap.String("hint", `write "https://user:hidden@example.com/hidden" anew`))
	require.Equal(t, Finding{
		Name: "sink site", Status: Warned, Detail: "https://***@example.com/*** is odd", Hint: `write "https://***@example.com/***" anew`,
	}, warningOf(logs.All()[0]))
}
