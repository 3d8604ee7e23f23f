//go:build unix

package main

import (
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vodrelay/vodrelay/pkg/emulator"
)

// A drain whose conditions have a typo empties the queue, and says that nobody got what was in it.
func TestADrainSaysWhatNoSinkWanted(t *testing.T) {
	t.Parallel()
	cloud, environ := startEmulator(t, emulator.Options{Hold: 100 * time.Millisecond})
	cloud.Publish(testApp, emulator.GenerateUploads(150, 1)...)
	environ = append(environ, `VODRELAY_SINKS=[{type: stdout, when: 'type == "NewFileUploaded"'}]`)
	code, out, log := command(t, environ, "check")
	require.Equal(t, exitDone, code, log)
	require.Contains(t, out, `"NewFileUploaded" is no event type that VOD documents`)
	require.Contains(t, out, "did you mean NewFileUpload?")
	p := start(t, environ, "drain", "--quiet-for", "0")
	require.Equal(t, exitDone, p.wait())
	require.Empty(t, p.stdout.String())
	require.Contains(t, p.stderr.String(), `"wanted_by_no_sink":150`)
	require.Contains(t, p.stderr.String(), "events that no sink wanted were confirmed")

	left := unwanted(&exitError{exitLeft, errors.New("3 events are left")}, 150)
	require.EqualError(t, left, "3 events are left; 150 events were wanted by no sink, and confirmed")
	var exit *exitError
	require.ErrorAs(t, left, &exit)
	require.Equal(t, exitLeft, exit.code)
	require.NoError(t, unwanted(nil, 150))
}
