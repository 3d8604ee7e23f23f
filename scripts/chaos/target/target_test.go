package target

import (
	"context"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/goleak"
)

const limit = 60 * time.Second

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == Role {
		os.Exit(Main(os.Args[2:]))
	}
	goleak.VerifyTestMain(m)
}

func start(t *testing.T, kind string) *Target {
	t.Helper()
	self, err := os.Executable()
	require.NoError(t, err)
	target, err := Start(within(t), self, kind, t.TempDir())
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, target.Close()) })
	return target
}

func within(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	t.Cleanup(cancel)
	return ctx
}

// post posts and returns the status.
func post(t *testing.T, target *Target, id, body string) (int, error) {
	t.Helper()
	return postWithin(within(t), target, id, body)
}

func postWithin(ctx context.Context, target *Target, id, body string) (int, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+target.Addr()+"/vod", strings.NewReader(body))
	if err != nil {
		return 0, err
	}
	req.Header.Set("webhook-id", id)
	req.Close = true
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	return res.StatusCode, res.Body.Close()
}

// ids are those of the events that are new.
func ids(t *testing.T, target *Target) []string {
	t.Helper()
	events, err := target.Next(within(t))
	require.NoError(t, err)
	ids := []string{}
	for _, e := range events {
		ids = append(ids, e.ID)
		require.Equal(t, "body of "+e.ID, string(e.Body))
		require.WithinDuration(t, time.Now(), e.At, limit)
	}
	return ids
}

// TestWebhook: what was accepted and nothing else is in the journal, in each mode, and a kill loses none of it.
func TestWebhook(t *testing.T) {
	w := start(t, Webhook)
	behave := func(b Behaviour) { t.Helper(); require.NoError(t, w.Behave(b)) }
	status := func(id string, want int) {
		t.Helper()
		got, err := post(t, w, id, "body of "+id)
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
	require.Empty(t, ids(t, w))
	status("one", 204)
	require.Equal(t, []string{"one"}, ids(t, w))
	require.Empty(t, ids(t, w), "each is read once")

	behave(Behaviour{Mode: Down, Share: 1, Poison: "poison"})
	status("two", 503)
	status("poison", 422)
	behave(Behaviour{Mode: LostReply, Share: 1})
	_, err := post(t, w, "three", "body of three")
	require.ErrorIs(t, err, syscall.ECONNRESET)
	behave(Behaviour{Mode: Slow, Share: 1, Delay: 300 * time.Millisecond})
	begin := time.Now()
	status("four", 204)
	require.GreaterOrEqual(t, time.Since(begin), 300*time.Millisecond)
	behave(Behaviour{Mode: Hang, Share: 1})
	short, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	_, err = postWithin(short, w, "five", "body of five")
	require.ErrorIs(t, err, context.DeadlineExceeded)
	behave(Behaviour{Mode: Refuse, Share: 1})
	status("six", 422)

	address := w.Addr()
	w.Kill()
	require.Equal(t, []string{"three", "four"}, ids(t, w))
	_, err = post(t, w, "nobody", "body of nobody")
	require.ErrorIs(t, err, syscall.ECONNREFUSED)
	require.NoError(t, w.Start(within(t)))
	require.Equal(t, address, w.Addr())
	status("seven", 422) // the behaviour outlives the kill
	behave(Behaviour{Poison: "poison"})
	status("eight", 204)
	status("poison", 422)
	require.Equal(t, []string{"eight"}, ids(t, w))
	require.Len(t, w.Changes(), 6)
}

func TestShare(t *testing.T) {
	counts := map[Mode]int{}
	for range 1000 {
		counts[Behaviour{Mode: Down, Share: 0.3}.choose()]++
	}
	require.InDelta(t, 300, counts[Down], 100)
	require.Equal(t, 1000, counts[Down]+counts[OK])
}

// TestCutLine: a line that a kill has cut is no event, and does not spoil the next one.
func TestCutLine(t *testing.T) {
	w := start(t, Webhook)
	_, err := post(t, w, "one", "body of one")
	require.NoError(t, err)
	w.Kill()
	file, err := os.OpenFile(w.journal.path, os.O_APPEND|os.O_WRONLY, 0)
	require.NoError(t, err)
	_, err = file.WriteString(`{"ID":"half","Mode":"ok","Bo`)
	require.NoError(t, err)
	require.NoError(t, file.Close())
	require.Equal(t, []string{"one"}, ids(t, w))
	require.NoError(t, w.Start(within(t)))
	_, err = post(t, w, "two", "body of two")
	require.NoError(t, err)
	require.Equal(t, []string{"two"}, ids(t, w))
}

func TestFreeze(t *testing.T) {
	w := start(t, Webhook)
	w.Freeze()
	short, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	_, err := postWithin(short, w, "one", "body of one")
	require.ErrorIs(t, err, context.DeadlineExceeded)
	w.Thaw()
	status, err := post(t, w, "two", "body of two")
	require.NoError(t, err)
	require.Equal(t, 204, status)
}

// TestNATS: messages and what was seen of IDs survive a kill, and the stream keeps one of each ID.
func TestNATS(t *testing.T) {
	s := start(t, NATS)
	publish := func(id string) {
		t.Helper()
		conn, err := nats.Connect(s.Addr())
		require.NoError(t, err)
		defer conn.Close()
		js, err := jetstream.New(conn)
		require.NoError(t, err)
		_, err = js.PublishMsg(within(t), &nats.Msg{Subject: Stream, Data: []byte("body of " + id), Header: nats.Header{natsID: {id}}})
		require.NoError(t, err)
	}
	publish("one")
	publish("one")
	publish("two")
	require.Equal(t, []string{"one", "two"}, ids(t, s))
	address := s.Addr()
	s.Kill()
	_, err := s.Next(within(t))
	require.Error(t, err, "it must run")
	require.NoError(t, s.Start(within(t)))
	require.Equal(t, address, s.Addr())
	publish("one")
	publish("three")
	require.Equal(t, []string{"three"}, ids(t, s))
	require.Empty(t, ids(t, s))
}

func TestKafka(t *testing.T) {
	k := start(t, Kafka)
	require.Empty(t, ids(t, k))
	client, err := kgo.NewClient(kgo.SeedBrokers(k.Addr()), kgo.DefaultProduceTopic(Topic))
	require.NoError(t, err)
	defer client.Close()
	produce := func(id string) {
		record := &kgo.Record{Value: []byte("body of " + id), Key: []byte(id), Headers: []kgo.RecordHeader{{Key: kafkaID, Value: []byte(id)}}}
		require.NoError(t, client.ProduceSync(within(t), record).FirstErr())
	}
	produce("one")
	produce("two")
	produce("three")
	require.ElementsMatch(t, []string{"one", "two", "three"}, ids(t, k))
	k.Freeze()
	short, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	_, err = k.Next(short)
	require.Error(t, err)
	k.Thaw()
	produce("four")
	require.Equal(t, []string{"four"}, ids(t, k))
}
