package main

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vodrelay/vodrelay/pkg/emulator"
)

func TestModePrintsTheStepsThatLoseNothing(t *testing.T) {
	t.Parallel()
	for mode, end := range map[string]string{"push": "sources: [callback]", "pull": "sources: [pull]"} {
		code, out, log := command(t, nil, "mode", mode, "--steps")
		require.Equal(t, exitDone, code, log)
		steps := strings.Split(strings.TrimSpace(out), "\n")
		require.Contains(t, steps[0], "1. Set sources: [pull, callback]")
		require.Contains(t, steps[changeStep-1], "vodrelay mode "+mode)
		require.Contains(t, steps[len(steps)-1], end)
		code, out, _ = command(t, nil, "mode", mode, "--steps", "-o", "json")
		require.Equal(t, exitDone, code)
		var list []string
		require.NoError(t, json.Unmarshal([]byte(out), &list))
		require.Len(t, list, len(steps))
	}
	code, _, log := command(t, nil, "mode", "--steps")
	require.Equal(t, exitUsage, code)
	require.Contains(t, log, "name the mode to move to")

	_, environ := startEmulator(t, emulator.Options{})
	code, _, log = command(t, environ, "mode", "push", "--url", "https://example.com/vod")
	require.Equal(t, exitDone, code, log)
	require.Contains(t, log, "\n4. Wait 10 minutes")
	require.NotContains(t, log, "3. Change")
	code, _, log = command(t, environ, "mode", "--uploads", "off")
	require.Equal(t, exitDone, code, log)
	require.NotContains(t, log, "Wait 10 minutes")
}
