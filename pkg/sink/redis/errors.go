package redis

import (
	"context"
	"errors"
	"fmt"
	"net"
	"regexp"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/vodrelay/vodrelay/pkg/retry"
	"github.com/vodrelay/vodrelay/pkg/sink/internal/group"
	"github.com/vodrelay/vodrelay/pkg/sink/internal/neterr"
)

var target = neterr.Target{Name: "server", Key: "addresses", NoTLS: "set use_tls to false"}

var errNoAnswer = errors.New("no answer to the command")

// replicasError is a WAIT that ended too early.
type replicasError struct {
	got  int64
	want int
}

func (r *replicasError) Error() string {
	return fmt.Sprintf("%d of %d replicas hold the event", r.got, r.want)
}

func (s *Sink) fail(text string, err error, hint string) error {
	return neterr.Fail(neterr.At(s.servers, err)+": "+text, err, hint)
}

// judge says what is wrong, what to do about it, and whether another attempt can help.
func (s *Sink) judge(err error, key string) error {
	var (
		file     *fileError
		connect  *connectError
		replicas *replicasError
		answer   redis.Error
	)
	switch {
	case err == nil, errors.Is(err, group.ErrClosed):
		return err
	case errors.Is(err, redis.ErrClosed):
		return s.fail("the client was started anew", err, "nothing: the event is sent again")
	case errors.As(err, &file):
		return file
	case errors.As(err, &connect) && late(err):
		return s.fail("no connection in time", err, "check the host and port in "+target.For(err).Key+", the firewalls on the way, and use_tls")
	case late(err):
		return s.fail("no answer in time", err, "see the server's load and log (SLOWLOG GET), or make the sink's timeout and reply_timeout longer")
	case errors.As(err, &replicas):
		return s.fail(replicas.Error(), err, "start the replicas, or lower replicas; see INFO replication on the master")
	case errors.Is(err, redis.Nil):
		return s.fail(fmt.Sprintf("the sentinels do not know the master %q", s.cfg.MasterName), err, "correct master_name")
	case errors.Is(err, redis.ErrPoolTimeout):
		return s.fail("no connection became free in time", err, "see the server's load and log (SLOWLOG GET)")
	case errors.As(err, &answer):
		return s.refused(answer.Error(), err, key)
	case errors.Is(err, errNoAnswer):
		return s.fail(errNoAnswer.Error(), err, "see the server's log")
	}
	if strings.HasPrefix(err.Error(), "redis: can't parse ") { // the client has no type for it
		return s.fail("it does not speak Redis's protocol", err, "correct the port in "+target.For(err).Key)
	}
	text, hint := target.Explain(err)
	if !s.cfg.UseTLS && neterr.IsClosed(err) {
		hint = "see the server's log; if it takes TLS only, set use_tls to true"
	}
	return s.fail(text, err, hint)
}

// blame says whether an answer blames the event.
type blame int

const (
	never  blame = iota
	chosen       // where key_expression chose the key for it
	always
)

// refusals are answers by how they begin. Only the size of an event is its own fault, and a key that key_expression chose
// for it: what is in the way otherwise is corrected while the event waits.
var refusals = []struct {
	prefix string
	text   string // instead of the server's; %q is the key
	hint   string
	blame  blame
}{
	{"NOAUTH", "the login is refused", "set password_file, and username if it is not the default user", never},
	{"WRONGPASS", "the login is refused", "check username and the password; for TencentDB for Redis leave username empty and write account@password", never},
	{"ERR invalid password", "the login is refused", "check the password; for TencentDB for Redis a custom account is account@password", never},
	{"ERR AUTH", "the server expects no password", "remove password and password_file, or set a password on the server", never},
	{"ERR Client sent AUTH", "the server expects no password", "remove password and password_file, or set a password on the server", never},
	{"NOPERM", "key %q: the user may not write to it", "grant the user the command and the key, such as ACL SETUSER vodrelay +@connection +xadd ~vod-events; dedup_window needs +eval +exists +set +pexpire and ~vodrelay:seen:* too, replicas +wait", never},
	{"WRONGTYPE", "key %q: holds another type of value", "delete the key, or choose another in key or key_expression", never},
	{"OOM", "the server is out of memory", "raise maxmemory, or let consumers delete what they have read (max_length)", never},
	{"READONLY", "the server is a replica", "name the master in addresses, or its sentinels with mode sentinel", never},
	{"MISCONF", "the server takes no writes, since it cannot save", "see the server's log: is its disk full?", never},
	{"LOADING", "the server is still loading its data", "wait", never},
	{"MASTERDOWN", "the server has lost its master", "start the master", never},
	{"NOREPLICAS", "too few replicas are connected", "start the replicas (min-replicas-to-write)", never},
	{"CLUSTERDOWN", "the cluster is down", "see CLUSTER INFO: is each slot served?", never},
	{"TRYAGAIN", "key %q: is being moved in the cluster", "wait", never},
	{"MOVED", "key %q: is on another server of a cluster", "set mode to cluster; if it is, wait until the cluster has settled", never},
	{"ASK", "key %q: is being moved in the cluster", "wait", never},
	{"CROSSSLOT", "key %q: is in another slot than its mark for deduplication", "set dedup_window to 0, or choose a key with a hash tag, such as {vod}:events", chosen},
	{"ERR This instance has cluster support disabled", "the server is not part of a cluster", "set mode to single", never},
	{"BUSY", "the server is busy with a script", "wait, or see SCRIPT KILL", never},
	{"ERR Protocol error: invalid bulk length", "key %q: the event is too large", "raise proto-max-bulk-len of the server", always},
	{"ERR string exceeds maximum allowed size", "key %q: the event is too large", "raise proto-max-bulk-len of the server", always},
	{"ERR Elements are too large", "key %q: the event is too large", "the server takes 1 GiB in one entry", always},
	{"ERR max number of clients reached", "the server has no connection left", "raise maxclients", never},
	{"ERR DB index is out of range", "the database does not exist", "correct db", never},
	{"ERR unknown command", "the server does not know the command", "use a newer server (XADD came with Redis 5), or another command", never},
}

// late reports an end of time, of the context or of the connection.
func late(err error) bool {
	var timeout net.Error
	return errors.Is(err, context.Canceled) || errors.As(err, &timeout) && timeout.Timeout() // a deadline's error is one, too
}

// inScript is how Redis before 7 wraps the answer to a command in a script.
var inScript = regexp.MustCompile(`@user_script: ?\d+: (.*)`)

// refused is an answer of the server.
func (s *Sink) refused(answer string, err error, key string) error {
	if inner := inScript.FindStringSubmatch(answer); inner != nil {
		answer = inner[1]
	}
	for _, r := range refusals {
		if !strings.HasPrefix(answer, r.prefix) {
			continue
		}
		text := r.text
		if strings.Contains(text, "%q") {
			text = fmt.Sprintf(text, key)
		}
		failed := s.fail(text, err, r.hint)
		if r.blame == always || r.blame == chosen && s.key != nil {
			return retry.Permanent(failed)
		}
		return failed
	}
	return s.fail("the server answers "+neterr.Steady(answer), err, "see the server's log")
}
