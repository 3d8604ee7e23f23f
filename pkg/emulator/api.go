package emulator

import (
	"bytes"
	"context"
	"io"
	"mime"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"
)

const (
	version  = "2018-07-17"
	jsonType = "application/json"

	// maxRequest is the limit of a signed POST
	// (https://cloud.tencent.com/document/product/1278/46710).
	maxRequest  = 10 << 20
	readTimeout = 30 * time.Second
)

// scratch is the memory that a request needs, used again by later ones.
type scratch struct {
	in  bytes.Buffer
	out []byte
}

var scratches = sync.Pool{New: func() any { return new(scratch) }}

// maxPooled keeps a rare huge request from staying in memory.
const maxPooled = 1 << 20

func (m *scratch) free() {
	if m.in.Cap() <= maxPooled && cap(m.out) <= maxPooled {
		m.in.Reset()
		m.out = m.out[:0]
		scratches.Put(m)
	}
}

// call is one request to the API.
type call struct {
	server   *Server
	request  *http.Request
	action   string
	body     []byte
	params   params
	subAppID uint64
	// invalid is what is wrong with the request itself. It is held back until
	// the signature was checked.
	invalid *apiError
	fault   Fault
	release <-chan struct{}
	out     []byte     // the answer
	batch   []*message // events whose leases start with the answer
}

func (s *Server) serveAPI(w http.ResponseWriter, r *http.Request) {
	if !s.enter() {
		panic(http.ErrAbortHandler)
	}
	defer s.running.Done()
	if r.URL.Path != "/" {
		http.NotFound(w, r)
		return
	}
	memory := scratches.Get().(*scratch)
	defer memory.free()
	c := &call{server: s, request: r, action: r.Header.Get("X-TC-Action"), out: memory.out}
	if !c.read(w, &memory.in) {
		panic(http.ErrAbortHandler)
	}
	c.fault, c.release = s.faults.take(c.action, c.subAppID)
	c.serve(w)
	memory.out = c.out
}

// read reads the request. It reports false when the client did not send it.
func (c *call) read(w http.ResponseWriter, in *bytes.Buffer) bool {
	control := http.NewResponseController(w)
	_ = control.SetReadDeadline(time.Now().Add(readTimeout))
	n, err := in.ReadFrom(io.LimitReader(c.request.Body, maxRequest+1))
	if err != nil {
		return false
	}
	_ = control.SetReadDeadline(time.Time{})
	c.body = in.Bytes()
	if n > maxRequest {
		c.invalid = refuse(codeRequestSizeExceeded, "The request is larger than %d bytes.", maxRequest)
		return true
	}
	if c.params, c.invalid = parseParams(c.body); c.invalid == nil {
		c.subAppID, c.invalid = c.params.subAppID()
	}
	return true
}

// serve carries the request out and answers, with the fault that it met.
func (c *call) serve(w http.ResponseWriter) {
	s, ctx, f := c.server, c.request.Context(), &c.fault
	half := s.opts.Latency / 2
	if !s.sleep(ctx, half) {
		panic(http.ErrAbortHandler)
	}
	if f.Kind == FaultHang && !s.wait(ctx, f.Delay, c.release) {
		panic(http.ErrAbortHandler)
	}
	if f.carriesOut() && !c.execute(ctx) {
		panic(http.ErrAbortHandler)
	}
	delay := half
	if f.Kind == FaultLatency {
		delay += f.Delay
	}
	present := s.sleep(ctx, delay)
	s.queues.startLeases(c.batch)
	switch {
	case !present:
		panic(http.ErrAbortHandler)
	case f.Kind == FaultReset || f.Kind == FaultLoseReply:
		reset(w)
	default:
		c.respond(w, f.response(c.out, s.errorBody))
	}
}

// execute checks the request and does what it asks. It reports false when the
// client or the server went away first.
func (c *call) execute(ctx context.Context) bool {
	err := c.check()
	if err == nil {
		var gone bool
		if gone, err = c.act(ctx); gone {
			return false
		}
	}
	if err != nil {
		if err.expected != nil && c.server.opts.OnWrongSignature != nil {
			err.expected.Action = clip(c.action)
			c.server.opts.OnWrongSignature(*err.expected)
		}
		if !err.quiet {
			c.server.queues.refused(c.subAppID, clip(c.action), err.Code)
		}
		c.out = c.server.errorBody(err)
	}
	return true
}

func (c *call) check() *apiError {
	r, s := c.request, c.server
	if c.action == "" {
		return refuse(codeMissingParameter, "The request is missing the header X-TC-Action.")
	}
	if media, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type")); r.Method != http.MethodPost || media != jsonType {
		return refuse(codeUnsupportedProtocol, "The emulator answers POST with Content-Type %s.", jsonType)
	}
	if len(c.body) > maxRequest { // only a part was read, its signature cannot be checked
		return c.invalid
	}
	if err := verify(r, c.body, c.clock(), s.credential); err != nil {
		return err
	}
	if _, ok := parameters[c.action]; !ok {
		return refuse(codeInvalidAction, "The action %q does not exist.", clip(c.action))
	}
	if v := r.Header.Get("X-TC-Version"); v == "" {
		return refuse(codeMissingParameter, "The request is missing the header X-TC-Version.")
	} else if v != version {
		return refuse(codeNoSuchVersion, "The version %q does not exist, write %s.", clip(v), version)
	}
	if err := s.quotas.take(c.action, time.Now()); err != nil {
		return err
	}
	if c.invalid != nil {
		return c.invalid
	}
	return c.params.check(c.action)
}

// clock is the time that the server has for this request.
func (c *call) clock() time.Time {
	now := c.server.clock()
	if c.fault.Kind == FaultClockSkew {
		now = now.Add(c.fault.Delay)
	}
	return now
}

// response is an answer as it goes out.
type response struct {
	status      int
	contentType string
	retryAfter  time.Duration
	body        []byte
}

func (c *call) respond(w http.ResponseWriter, a response) {
	h := w.Header()
	h.Set("Date", c.clock().UTC().Format(http.TimeFormat))
	h.Set("Content-Type", a.contentType)
	h.Set("Content-Length", strconv.Itoa(len(a.body)))
	if a.retryAfter > 0 {
		h.Set("Retry-After", strconv.Itoa(int((a.retryAfter+time.Second-1)/time.Second)))
	}
	w.WriteHeader(a.status)
	if c.fault.Kind == FaultTruncate || c.fault.Kind == FaultStall {
		half := len(a.body) / 2
		_, _ = w.Write(a.body[:half])
		_ = http.NewResponseController(w).Flush()
		if c.fault.Kind == FaultTruncate || !c.server.wait(c.request.Context(), c.fault.Delay, c.release) {
			panic(http.ErrAbortHandler)
		}
		a.body = a.body[half:]
	}
	_, _ = w.Write(a.body) // a client that went away is no error here
}

// reset ends the connection without an answer, on TCP with a reset.
func reset(w http.ResponseWriter) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil { // HTTP/2
		panic(http.ErrAbortHandler)
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = conn.Close()
}

func (s *Server) requestID() string { return s.handles.requestID(s.requests.Add(1)) }
