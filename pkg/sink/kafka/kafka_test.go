package kafka

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/sasl/scram"

	"github.com/vodrelay/vodrelay/pkg/sink/sinktest"
)

func TestContract(t *testing.T) {
	sinktest.Run(t, func(t *testing.T) sinktest.Harness {
		may := func(resource kmsg.ACLResourceType, name string, operation kmsg.ACLOperation) kfake.ACL {
			return kfake.ACL{Resource: resource, Name: name, Pattern: kmsg.ACLResourcePatternTypeLiteral, Operation: operation, Allow: true}
		}
		c := startCluster(t, kfake.EnableSASL(), kfake.EnableACLs(), kfake.Superuser("SCRAM-SHA-256", "admin", "hunter2"),
			kfake.User("SCRAM-SHA-256", "vod", "hunter2",
				may(kmsg.ACLResourceTypeTopic, topic, kmsg.ACLOperationWrite),
				may(kmsg.ACLResourceTypeTopic, topic, kmsg.ACLOperationDescribe),
				may(kmsg.ACLResourceTypeCluster, "kafka-cluster", kmsg.ACLOperationIdempotentWrite)))
		admin := kgo.SASL(scram.Auth{User: "admin", Pass: "hunter2"}.AsSha256Mechanism())
		s := open(t, c, func(cfg *Config) {
			cfg.SecurityProtocol = "SASL_PLAINTEXT"
			cfg.SASL = SASLConfig{Mechanism: "SCRAM-SHA-256", Username: "vod", Password: "hunter2"}
			cfg.RequestTimeout = time.Second
		})
		return sinktest.Harness{
			Sink: s,
			Received: func(t *testing.T) [][]byte {
				return c.bodies(t, admin)
			},
			Break:  func(t *testing.T) { c.stop(t) },
			Mend:   func(t *testing.T) { c.start(t) },
			Stall:  func(*testing.T) func() { return c.stall() },
			Strand: func(*testing.T) { c.strand() },
			Mistakes: []sinktest.Mistake{
				{
					Name: "right on the topic withdrawn",
					Make: func(t *testing.T) { c.deny(t, admin, kmsg.ACLResourceTypeTopic, topic, kmsg.ACLOperationWrite) },
					Fix:  func(t *testing.T) { c.allow(t, admin) },
				},
				{
					Name: "topic missing",
					Make: func(t *testing.T) { require.NoError(t, c.DeleteTopic(topic)) },
					Fix:  func(t *testing.T) { require.NoError(t, c.CreateTopic(topic, 3, nil)) },
				},
				{
					Name: "topic with fewer partitions",
					Make: func(t *testing.T) { require.NoError(t, c.DeleteTopic(topic)) },
					Fix:  func(t *testing.T) { require.NoError(t, c.CreateTopic(topic, 1, nil)) },
				},
			},
			IDs: func(t *testing.T) (ids []string) {
				for _, r := range c.records(t, topic, admin) {
					ids = append(ids, header(r, HeaderEventID))
				}
				return ids
			},
			MaxBody: largest(t, s),
			Secrets: []string{"hunter2"},
		}
	})
}

// deny withdraws a right of the user vod, and allow gives all of those back.
func (c *cluster) deny(t *testing.T, admin kgo.Opt, resource kmsg.ACLResourceType, name string, operation kmsg.ACLOperation) {
	req := kmsg.NewPtrCreateACLsRequest()
	acl := kmsg.NewCreateACLsRequestCreation()
	acl.ResourceType, acl.ResourceName, acl.ResourcePatternType = resource, name, kmsg.ACLResourcePatternTypeLiteral
	acl.Principal, acl.Host, acl.Operation, acl.PermissionType = "User:vod", "*", operation, kmsg.ACLPermissionTypeDeny
	req.Creations = append(req.Creations, acl)
	c.request(t, admin, req)
}

func (c *cluster) allow(t *testing.T, admin kgo.Opt) {
	req := kmsg.NewPtrDeleteACLsRequest()
	filter := kmsg.NewDeleteACLsRequestFilter()
	filter.ResourceType, filter.ResourcePatternType = kmsg.ACLResourceTypeAny, kmsg.ACLResourcePatternTypeAny
	filter.Operation, filter.PermissionType = kmsg.ACLOperationAny, kmsg.ACLPermissionTypeDeny
	req.Filters = append(req.Filters, filter)
	c.request(t, admin, req)
}

func (c *cluster) request(t *testing.T, admin kgo.Opt, req kmsg.Request) {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(c.address()), admin)
	require.NoError(t, err)
	defer client.Close()
	_, err = client.Request(t.Context(), req)
	require.NoError(t, err)
}

// largest is the most bytes of a body that the sink takes.
func largest(t *testing.T, s *Sink) int {
	e := sinktest.Upload(0)
	record, err := s.record(t.Context(), e)
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
