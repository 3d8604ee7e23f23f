package kafka

import (
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl/scram"

	"github.com/vodrelay/vodrelay/pkg/sink/sinktest"
)

func TestContract(t *testing.T) {
	sinktest.Run(t, func(t *testing.T) sinktest.Harness {
		c := startCluster(t, kfake.EnableSASL(), kfake.Superuser("SCRAM-SHA-256", "vod", "hunter2"))
		s := open(t, c, func(cfg *Config) {
			cfg.SecurityProtocol = "SASL_PLAINTEXT"
			cfg.SASL = SASLConfig{Mechanism: "SCRAM-SHA-256", Username: "vod", Password: "hunter2"}
		})
		return sinktest.Harness{
			Sink: s,
			Received: func(t *testing.T) [][]byte {
				return c.bodies(t, kgo.SASL(scram.Auth{User: "vod", Pass: "hunter2"}.AsSha256Mechanism()))
			},
			IDs: func(t *testing.T) (ids []string) {
				for _, r := range c.records(t, topic, kgo.SASL(scram.Auth{User: "vod", Pass: "hunter2"}.AsSha256Mechanism())) {
					ids = append(ids, header(r, HeaderEventID))
				}
				return ids
			},
			Break:   func(t *testing.T) { c.stop(t) },
			Mend:    func(t *testing.T) { c.start(t) },
			Stall:   func(*testing.T) func() { return c.stall() },
			MaxBody: largest(t, s),
			Secrets: []string{"hunter2"},
		}
	})
}

// largest is the most bytes of a body that the sink takes.
func largest(t *testing.T, s *Sink) int {
	e := sinktest.Upload(0)
	record, err := s.record(e)
	require.NoError(t, err)
	record.Key = []byte("1") // as of the huge events
	return s.cfg.MaxMessageBytes - sizeOf(record) + len(record.Value)
}

func header(r *kgo.Record, name string) string {
	for _, h := range r.Headers {
		if h.Key == name {
			return string(h.Value)
		}
	}
	return ""
}
