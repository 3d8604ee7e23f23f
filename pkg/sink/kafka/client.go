package kafka

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/sasl"
	"github.com/twmb/franz-go/pkg/sasl/oauth"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"
	"go.uber.org/zap"

	"github.com/vodrelay/vodrelay/pkg/internal/secretfile"
	"github.com/vodrelay/vodrelay/pkg/redact"
	"github.com/vodrelay/vodrelay/pkg/sink/internal/neterr"
)

const (
	// The buffer only fills while the brokers take nothing: there are never more Sends than the sink's
	// concurrency, but those that gave up leave their records behind.
	maxBufferedRecords = 10_000
	maxBufferedBytes   = 64 << 20

	// Brokers that are back are noticed within it.
	metadataMinAge = time.Second
	maxBackoff     = time.Second
	requestRetries = 4 // of what is no record; records are tried again until their time is over
)

var codecs = map[string]kgo.CompressionCodec{
	"none":   kgo.NoCompression(),
	"gzip":   kgo.GzipCompression(),
	"snappy": kgo.SnappyCompression(),
	"lz4":    kgo.Lz4Compression(),
	"zstd":   kgo.ZstdCompression(),
}

// options are those of every client of the sink.
func (c Config) options(health *health, log *zap.Logger) ([]kgo.Opt, error) {
	opts := []kgo.Opt{
		kgo.SeedBrokers(c.Brokers...),
		kgo.ClientID(c.ClientID),
		kgo.SoftwareNameAndVersion("vodrelay", "1"),
		kgo.WithLogger(logger{log}),
		kgo.WithHooks(health),
		kgo.DisableClientMetrics(), // brokers would be sent statistics of this process otherwise
		kgo.RequiredAcks(kgo.AllISRAcks()),
		kgo.ProducerBatchCompression(codecs[c.Compression], kgo.NoCompression()),
		kgo.ProducerBatchMaxBytes(int32(c.MaxMessageBytes)),
		kgo.MaxBufferedBytes(max(maxBufferedBytes, 2*c.MaxMessageBytes)),
		kgo.ProduceRequestTimeout(c.RequestTimeout),
		kgo.RecordDeliveryTimeout(c.DeliveryTimeout),
		kgo.DialTimeout(c.ConnectTimeout),
		kgo.MetadataMinAge(metadataMinAge),
		kgo.RequestRetries(requestRetries),
		kgo.RetryBackoffFn(func(fails int) time.Duration {
			return min(100*time.Millisecond<<min(fails, 10), maxBackoff)
		}),
	}
	if !c.Idempotent {
		opts = append(opts, kgo.DisableIdempotentWrite())
	}
	if c.usesTLS() {
		cfg, err := c.TLS.Load()
		if err != nil {
			return nil, err
		}
		opts = append(opts, kgo.DialTLSConfig(cfg))
	}
	if c.usesSASL() {
		opts = append(opts, kgo.SASL(c.SASL.mechanism()))
	}
	return opts, nil
}

// fileError is a file of ours that spoils a login, told apart from what the other side does.
type fileError struct{ error }

func (f *fileError) Unwrap() error { return f.error }

// secret is read at each login: from the file, if one is named.
func secret(text, key, path string) func() (string, error) {
	file := secretfile.New(key, path)
	return func() (string, error) {
		if path == "" {
			return text, nil
		}
		content, err := file.Get()
		if err != nil {
			return "", &fileError{err}
		}
		return content, nil
	}
}

func (c SASLConfig) mechanism() sasl.Mechanism {
	password := secret(c.Password, "sasl.password_file", c.PasswordFile)
	login := func(context.Context) (scram.Auth, error) {
		text, err := password()
		return scram.Auth{User: c.Username, Pass: text}, err
	}
	switch c.Mechanism {
	case "OAUTHBEARER":
		token := secret("", "sasl.token_file", c.TokenFile)
		return oauth.Oauth(func(context.Context) (oauth.Auth, error) {
			text, err := token()
			return oauth.Auth{Token: text}, err
		})
	case "SCRAM-SHA-256":
		return scram.Sha256(login)
	case "SCRAM-SHA-512":
		return scram.Sha512(login)
	}
	return plain.Plain(func(context.Context) (plain.Auth, error) {
		text, err := password()
		return plain.Auth{User: c.Username, Pass: text}, err
	})
}

// producer is a client that is made when first needed, and made anew when it is of no more use.
type producer struct {
	opts []kgo.Opt

	mu     sync.Mutex
	client *kgo.Client
	closed bool
}

func (p *producer) get() (*kgo.Client, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, errClosed
	}
	if p.client == nil {
		client, err := kgo.NewClient(p.opts...)
		if err != nil {
			return nil, err
		}
		p.client = client
	}
	return p.client, nil
}

// replace ends client if its error err shows it to be of no more use, or lasts. A client keeps the ID of a topic that was
// deleted and created again, and fails its records from then on; one whose request for a producer ID was refused, be it for
// a right that has been granted since, fails every record. A new client has a producer ID of its own, so that the broker
// takes none of its records for one that was written before.
func (p *producer) replace(ctx context.Context, client *kgo.Client, err error, lasts bool) {
	if code := (*kerr.Error)(nil); !lasts && !errors.Is(err, kerr.UnknownTopicID) {
		if !errors.As(err, &code) || ctx.Err() != nil {
			return
		}
		_, _, err = client.ProducerID(ctx)
		if !errors.As(err, &code) || code.Retriable {
			return
		}
	}
	p.mu.Lock()
	mine := p.client == client
	if mine {
		p.client = nil
	}
	p.mu.Unlock()
	if mine {
		client.Close()
	}
}

// close returns how many records it had to give up.
func (p *producer) close(ctx context.Context) (left int64) {
	p.mu.Lock()
	client := p.client
	p.client, p.closed = nil, true
	p.mu.Unlock()
	if client == nil {
		return 0
	}
	if client.Flush(ctx) != nil {
		left = client.BufferedProduceRecords()
	}
	client.Close()
	return left
}

// health knows what the client is in trouble with: the client itself tries again without a word until a
// record's time is over.
type health struct {
	connectTimeout time.Duration
	addresses      neterr.Source

	mu    sync.Mutex
	err   error             // nil since the latest answer
	unmet map[int32]failure // by broker: those that cannot be reached, whatever others answer
}

// failure is the latest one to reach a broker. It is tried again at least every second while there are records for it.
type failure struct {
	at  time.Time
	err error
}

var (
	_ kgo.HookBrokerConnect = (*health)(nil)
	_ kgo.HookBrokerRead    = (*health)(nil)
)

// OnBrokerConnect is called by the client after each attempt, TLS and SASL included. One that a Send's own
// end cut short says less than the one before it.
func (h *health) OnBrokerConnect(broker kgo.BrokerMetadata, took time.Duration, _ net.Conn, err error) {
	cut := errors.Is(err, context.DeadlineExceeded) && took < h.connectTimeout
	switch {
	case err == nil:
		h.met(broker.NodeID)
	case !cut || h.trouble() == nil:
		err = h.addresses.Failed(net.JoinHostPort(broker.Host, strconv.Itoa(int(broker.Port))), err)
		h.set(err)
		h.missed(broker.NodeID, err)
	}
}

func (h *health) met(broker int32) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.unmet, broker)
}

// missed remembers a broker that the cluster has named. Those of the configuration serve in each other's place.
func (h *health) missed(broker int32, err error) {
	if broker < 0 || ours(err) {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.unmet == nil {
		h.unmet = make(map[int32]failure)
	}
	h.unmet[broker] = failure{time.Now(), err}
}

// ours reports an end that is our own doing.
func ours(err error) bool {
	return errors.Is(err, kgo.ErrClientClosed) || errors.Is(err, context.Canceled)
}

// OnBrokerRead is called by the client after each answer, and when there is none.
func (h *health) OnBrokerRead(_ kgo.BrokerMetadata, key int16, _ int, _, _ time.Duration, err error) {
	switch kmsg.Key(key) {
	case kmsg.ApiVersions, kmsg.SASLHandshake, kmsg.SASLAuthenticate: // part of the attempt to connect
	default:
		h.set(err)
	}
}

func (h *health) set(err error) {
	if ours(err) {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.err = err
}

func (h *health) trouble() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.err != nil {
		return h.err
	}
	var latest failure
	for _, f := range h.unmet {
		if f.at.After(latest.at) && time.Since(f.at) < h.connectTimeout+2*maxBackoff {
			latest = f
		}
	}
	return latest.err
}

// logger has the client log at debug: what matters of it is in the errors of Send.
type logger struct{ log *zap.Logger }

func (l logger) Level() kgo.LogLevel {
	if l.log.Core().Enabled(zap.DebugLevel) {
		return kgo.LogLevelInfo
	}
	return kgo.LogLevelNone
}

func (l logger) Log(_ kgo.LogLevel, message string, pairs ...any) {
	l.log.Debug("kafka client: "+message, fields(pairs)...)
}

func fields(pairs []any) []zap.Field {
	list := make([]zap.Field, 0, len(pairs)/2)
	for i := 0; i+1 < len(pairs); i += 2 {
		if name, ok := pairs[i].(string); ok {
			list = append(list, zap.String(name, redact.Text(fmt.Sprint(pairs[i+1]))))
		}
	}
	return list
}
