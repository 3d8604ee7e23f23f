package app_test

import (
	"fmt"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vodrelay/vodrelay/pkg/app"
	"github.com/vodrelay/vodrelay/pkg/emulator"
)

// A typo in every condition confirms all events and sends none: the check, the log, the status and the metrics say so.
func TestEventsThatNoSinkWantsAreReported(t *testing.T) {
	e := newEndpoint(t, always(http.StatusOK))
	const typo = `type == "NewFileUploaded"`
	a := assemble(t, fmt.Sprintf(`[{name: site, type: webhook, url: %q, when: %q}, {name: other, type: webhook, url: %q, when: 'type in ["FileDeleted", "Nonsense"]'}]`, e.URL, typo, e.URL),
		`VODRELAY_PROCESSORS=[{filter: 'type != "PullCompleted"'}]`)
	a.publish(200, 1)
	stop := a.run()
	a.eventually("all are confirmed", func() bool { return a.cloud.Counts().Confirmed == 200 })
	a.cloud.Publish(chaosApp, []byte(`{"EventType":"FileDeleted","FileDeleteEvent":{"FileIdSet":["1"]}}`), []byte(`{"EventType":"Brand New"}`))
	a.eventually("what is wanted is sent, the rest confirmed", func() bool { return a.cloud.Counts().Confirmed == 202 && e.accepted() == 1 })
	st := a.status()
	require.EqualValues(t, 201, st.Unrouted)
	require.Equal(t, map[string]uint64{"NewFileUpload": 200, "Brand New": 1}, st.UnroutedTypes)
	stop()

	lines := a.logs.FilterMessage("events that no sink wanted were confirmed").All()
	require.LessOrEqual(t, len(lines), 3, "at first, at most once a minute, and at the end")
	var events int64
	for _, line := range lines {
		events += line.ContextMap()["events"].(int64)
		require.Contains(t, line.ContextMap()["hint"], "`filter` processor")
	}
	require.EqualValues(t, 201, events)
	require.Equal(t, "NewFileUpload: 1", lines[0].ContextMap()["types"])

	findings, err := app.Check(t.Context(), a.cfg)
	require.NoError(t, err)
	var warned []string
	for _, f := range findings {
		if f.Status == app.Warned {
			warned = append(warned, f.Name+": "+f.Detail+": "+f.Hint)
		}
	}
	require.Equal(t, []string{
		`processors[0].filter: "PullCompleted" is no event type that VOD documents: did you mean PullComplete?`,
		`sink site, when: "NewFileUploaded" is no event type that VOD documents: did you mean NewFileUpload?`,
		`sink other, when: "Nonsense" is no event type that VOD documents: leave it if VOD sends such events; ` + "`vodrelay peek` shows some",
	}, warned)
}

// What a filter drops on purpose is no news.
func TestEventsThatAFilterDropsAreNotReported(t *testing.T) {
	e := newEndpoint(t, always(http.StatusOK))
	a := assemble(t, fmt.Sprintf(`[{name: site, type: webhook, url: %q, when: 'type == "FileDeleted"'}]`, e.URL), `VODRELAY_PROCESSORS=[{filter: 'type == "FileDeleted"'}]`)
	a.cloud.Publish(chaosApp, emulator.GenerateUploads(100, 1)...)
	stop := a.run()
	a.eventually("all are confirmed", func() bool { return a.cloud.Counts().Confirmed == 100 })
	stop()
	require.Zero(t, a.PipelineStats().Unrouted)
	require.Empty(t, a.logs.FilterMessageSnippet("no sink").All())
}
