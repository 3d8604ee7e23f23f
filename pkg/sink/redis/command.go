package redis

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/vodrelay/vodrelay/pkg/event"
	"github.com/vodrelay/vodrelay/pkg/retry"
	"github.com/vodrelay/vodrelay/pkg/sink/internal/eventname"
	"github.com/vodrelay/vodrelay/pkg/sink/internal/group"
)

// Fields of a stream's entry. Redis has no CloudEvents binding; the attributes of cloudevents-binary are
// fields with a prefix as in Kafka's.
const (
	FieldID          = "id"           // event.Event.DedupID, in every format
	FieldType        = "type"         // the event's type as VOD sent it
	FieldContentType = "content_type" // of FieldData
	FieldData        = "data"         // the event
	cePrefix         = "ce_"
)

// once runs a command unless the event's mark is there, and leaves the mark. The mark comes last, since what
// a script has written stays when a later step of it fails. A mark that is found is written again: WAIT
// waits for writes only, and must not let pass an event whose first attempt reached no replica.
//
// KEYS: the target and the mark. ARGV: the mark's life in ms, the command, and what follows its key.
const once = `if redis.call('EXISTS', KEYS[2]) == 1 then
redis.call('PEXPIRE', KEYS[2], ARGV[1])
return 0
end
redis.call(ARGV[2], KEYS[1], unpack(ARGV, 3))
redis.call('SET', KEYS[2], '', 'PX', ARGV[1])
return 1`

// command is how e is written: its key, and the command with all arguments.
func (s *Sink) command(ctx context.Context, e event.Event) (*item, error) {
	message, err := s.cfg.Format.Encode(e)
	if err != nil {
		return nil, retry.Permanent(retry.WithHint(err, "the event cannot be written as JSON; look at it as a dead letter"))
	}
	key := s.cfg.Key
	if s.key != nil {
		if key, err = keys.Of(ctx, s.key, e); err != nil {
			return nil, err
		}
	}
	args := []any{s.cfg.Command, key}
	if s.cfg.Command == commandXAdd {
		args = append(args, s.entry(e, message)...)
	} else {
		args = append(args, message.Body)
	}
	if s.cfg.DedupWindow > 0 {
		prefix, err := s.cfg.markPrefix(key)
		if err != nil {
			return nil, retry.Permanent(retry.WithHint(fmt.Errorf("key_expression: %.300q: %w", key, err), "correct key_expression"))
		}
		rest := args[2:]
		args = append([]any{"eval", once, 2, key, prefix + e.DedupID(), s.cfg.DedupWindow.Milliseconds(), s.cfg.Command}, rest...)
	}
	return &item{Item: group.NewItem(len(message.Body)), key: key, cmd: redis.NewCmd(context.Background(), args...)}, nil
}

func (s *Sink) entry(e event.Event, message event.Message) []any {
	var args []any
	if s.cfg.MaxLength > 0 {
		args = append(args, "MAXLEN", "~", s.cfg.MaxLength)
	}
	args = append(args, "*", FieldID, e.DedupID(), FieldType, e.Type, FieldContentType, message.ContentType)
	for _, attribute := range message.Attributes {
		args = append(args, cePrefix+attribute.Name, attribute.Value)
	}
	return append(args, FieldData, message.Body)
}

// marks is how the keys of marks begin.
const marks = "vodrelay:seen:"

// keys is the rule for keys that events decide. An event that could write a mark could have another one taken for sent;
// two underscores are the beginning of the channels that Redis and Sentinel use themselves: __keyspace@0__:,
// __redis__:invalidate, __sentinel__:hello.
var keys = eventname.Rule{
	Key: "key_expression", What: "key", MaxBytes: 1024, Reserved: []string{"__", marks}, By: "Redis or vodrelay",
}

// markPrefix and an event's DedupID are the key of its mark for deduplication, in the same slot as key: a script
// may touch keys of one slot only. Source: https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/#hash-tags.
func (c Config) markPrefix(key string) (string, error) {
	if open := strings.IndexByte(key, '{'); open >= 0 {
		if length := strings.IndexByte(key[open+1:], '}'); length > 0 {
			return marks + key[open:open+length+2] + ":" + key + ":", nil
		}
	}
	if !strings.Contains(key, "}") {
		return marks + "{" + key + "}:", nil
	}
	if c.Mode == modeCluster && c.DedupWindow > 0 {
		return "", errors.New("a } without a hash tag before it cannot go with dedup_window in a cluster: choose another key")
	}
	return marks + key + ":", nil
}
