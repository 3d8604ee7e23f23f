package redis

import (
	"context"
	"crypto/tls"
	"net"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/logging"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/vodrelay/vodrelay/pkg/internal/conns"
	"github.com/vodrelay/vodrelay/pkg/internal/secretfile"
	"github.com/vodrelay/vodrelay/pkg/redact"
	"github.com/vodrelay/vodrelay/pkg/sink/internal/group"
	"github.com/vodrelay/vodrelay/pkg/sink/internal/neterr"
)

// poolSize is more than the connections that are ever in use at a time. The client takes so many failures to
// connect in a row as a sign to try no more than once a second.
const poolSize = 8 * pipelines

// silence turns off the client's own log, which is one for the whole process and goes to stderr. What
// matters of it is in the errors of Send.
var silence = sync.OnceFunc(logging.Disable)

// fileError is a file of ours that spoils a login, told apart from what the other side does.
type fileError struct{ error }

func (f *fileError) Unwrap() error { return f.error }

// secret gives a password: the one in the configuration, or what is in the file now.
func secret(key, text, path string) func() (string, error) {
	if path == "" {
		return func() (string, error) { return text, nil }
	}
	file := secretfile.New(key, path)
	return func() (string, error) {
		content, err := file.Get()
		if err != nil {
			return "", &fileError{err}
		}
		return content, nil
	}
}

// options are those of the client; it repeats nothing by itself, since a command whose answer was lost may
// have been carried out.
func (c Config) options(tlsConfig *tls.Config) (*redis.UniversalOptions, error) {
	opts := &redis.UniversalOptions{
		Dialer:                   c.dialer(tlsConfig),
		OnConnect:                introduce,
		DB:                       c.DB,
		MasterName:               c.MasterName,
		IsClusterMode:            c.Mode == modeCluster,
		MaxRetries:               -1,
		DialerRetries:            1,
		DialTimeout:              c.ConnectTimeout,
		ReadTimeout:              c.answerTimeout(),
		WriteTimeout:             c.ReplyTimeout,
		ContextTimeoutEnabled:    true,
		PoolSize:                 poolSize,
		PoolTimeout:              c.ReplyTimeout,
		ConnMaxIdleTime:          5 * time.Minute,
		ConnMaxLifetime:          conns.MaxAge - conns.Jitter,
		ConnMaxLifetimeJitter:    conns.Jitter, // more or less
		PipelinePoolSize:         -1,
		DisableIdentity:          true,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	}
	for _, address := range c.Addresses {
		if address[0] != '/' { // a unix socket
			var err error
			if address, err = c.hostPort(address); err != nil {
				return nil, err
			}
		}
		opts.Addrs = append(opts.Addrs, address)
	}
	password := secret("password_file", c.Password, c.PasswordFile)
	opts.CredentialsProviderContext = func(context.Context) (string, string, error) {
		text, err := password()
		return c.Username, text, err
	}
	return opts, nil
}

// introduce names the connection in CLIENT LIST, where that is permitted. It also finds out whether a server
// wants a login that it was not given.
func introduce(ctx context.Context, conn *redis.Conn) error {
	if err := conn.ClientSetName(ctx, "vodrelay").Err(); redis.HasErrorPrefix(err, "NOAUTH") {
		return err
	}
	return nil
}

// connectError is a failure before the first command.
type connectError struct{ error }

func (c *connectError) Unwrap() error { return c.error }

func (c Config) dialer(tlsConfig *tls.Config) func(ctx context.Context, network, address string) (net.Conn, error) {
	plain := &net.Dialer{Timeout: c.ConnectTimeout, KeepAlive: 30 * time.Second}
	dial := plain.DialContext
	if tlsConfig != nil {
		dial = (&tls.Dialer{NetDialer: plain, Config: tlsConfig}).DialContext
	}
	addresses := c.sources()
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		ctx, cancel := context.WithTimeout(ctx, c.ConnectTimeout)
		defer cancel()
		conn, err := dial(ctx, network, address)
		if err != nil {
			return nil, &connectError{addresses.Failed(address, err)}
		}
		return conn, nil
	}
}

// sources tells the servers of the configuration from those that they name.
func (c Config) sources() neterr.Source {
	s := neterr.Source{
		Configured: make(map[string]string), From: "named by the cluster at " + redact.Addresses(c.Addresses),
		Key: "what the cluster names (cluster-announce-ip and cluster-announce-port of the server, CLUSTER NODES)",
	}
	if c.Mode == modeSentinel {
		s.From = "named by the sentinels at " + redact.Addresses(c.Addresses)
		s.Key = "what the sentinels name (sentinel monitor, and replica-announce-ip and replica-announce-port of the server)"
	}
	for _, address := range c.Addresses {
		if address[0] != '/' {
			address, _ = c.hostPort(address) // was validated
		}
		s.Configured[address] = address
	}
	return s
}

// answerTimeout covers WAIT.
func (c Config) answerTimeout() time.Duration {
	if c.Replicas > 0 {
		return 2 * c.ReplyTimeout
	}
	return c.ReplyTimeout
}

// clients holds the client. The one of sentinels is made anew when their password has changed, which it
// could not learn otherwise.
type clients struct {
	opts             *redis.UniversalOptions
	sentinelUsername string
	sentinelPassword func() (string, error)

	mu       sync.Mutex
	client   redis.UniversalClient
	password string
	closed   bool
}

// get makes no connection.
func (c *clients) get() (redis.UniversalClient, error) {
	password, err := c.sentinelPassword()
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, group.ErrClosed
	}
	if c.client != nil && c.password == password {
		return c.client, nil
	}
	if c.client != nil {
		_ = c.client.Close()
	}
	opts := *c.opts
	opts.SentinelUsername, opts.SentinelPassword = c.sentinelUsername, password
	c.client, c.password = redis.NewUniversalClient(&opts), password
	return c.client, nil
}

// renew ends the client, and what is under way on it; the next get makes a new one.
func (c *clients) renew() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.client != nil {
		_ = c.client.Close()
		c.client = nil
	}
}

// close ends the connections, and what is under way on them.
func (c *clients) close() {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	c.renew()
}
