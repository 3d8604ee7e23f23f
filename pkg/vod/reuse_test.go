package vod

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// What a reply brought stays as it is when the memory of the reply is used for the next one.
func TestRepliesShareNoMemoryWithEvents(t *testing.T) {
	n := 0
	api := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		n++
		fmt.Fprintf(w, `{"Response":{"EventSet":[{"EventHandle":"handle-%d","EventType":"Type%d","P":{"text":%q}}],"RequestId":"r"}}`,
			n, n, strings.Repeat(fmt.Sprint(n), 100))
	})
	c := newClient(t, serve(t, api), testConfig())
	first, err := c.Queue(1).Pull(context.Background())
	require.NoError(t, err)
	for range 8 {
		_, err := c.Queue(1).Pull(context.Background())
		require.NoError(t, err)
	}
	require.Equal(t, "handle-1", first[0].Handle)
	require.Equal(t, "Type1", first[0].Type)
	require.JSONEq(t, fmt.Sprintf(`{"EventType":"Type1","P":{"text":%q}}`, strings.Repeat("1", 100)), string(first[0].Raw))
}
