// Package emulator is Tencent Cloud VOD's event notification API on this
// machine: the queue of "reliable callback" behind PullEvents and
// ConfirmEvents, with signatures, leases, long polls, quotas and faults on
// demand. Use it to test what consumes those events, ours or yours, without an
// account. It uses the standard library only and shares no code with any
// client, so that a mistake in a client is not repeated here.
//
//	srv := emulator.New(emulator.Options{Seed: 1})
//	defer srv.Close()
//	listener, err := net.Listen("tcp", "127.0.0.1:0")
//	...
//	go srv.Serve(listener)
//	srv.Publish(1500000001, emulator.GenerateUploads(100, 1)...)
//	srv.AddFault(emulator.Fault{Kind: emulator.FaultLoseReply, Action: emulator.ActionConfirmEvents})
//	// point a client at http:// + listener.Addr(), with DefaultSecretID and
//	// DefaultSecretKey
//
// Time comes from package time, so that inside a testing/synctest bubble, with
// the listener of NewNetwork, half a minute's lease or four days' retention
// pass at once. An idle server has no goroutine and no timer.
//
// # What is documented, what is a guess
//
// Documented, at https://cloud.tencent.com/document/api/266/33433 and its
// neighbours:
//
//	TC3-HMAC-SHA256 over the bytes received, timestamp within 5 minutes; the
//	Host is signed with its port or without, as the vendor's SDKs differ
//	HTTP status 200 for every answer of the API, errors in Response.Error
//	a long poll of 5 s, ended at once by an event        Options.Hold
//	at most 16 events, at most 16 handles                Options.MaxBatch
//	30 s to confirm, then the event is delivered again   Options.Lease
//	unconfirmed events are kept for 4 days               Options.Retention
//	requests per second for each action                  Options.Quotas
//	DescribeEventsState lags (5 s or 3 minutes)          Options.StateLag, default 0
//	a change of mode takes up to 10 minutes              Options.ModeDelay, default 0
//	a switch that ModifyEventConfig leaves out is OFF
//	a post of PUSH mode waits 5 s for its answer         Options.PushTimeout
//	and is made 3 times at most                          Options.PushTries
//	Sign is MD5(SignKey + T), T is 10 minutes ahead
//	any answer in time will do (for the v2.0 format)     Variants.PushAcknowledge
//
// Seen in several consumers, but not documented:
//
//	an empty queue is the error ResourceNotFound, "no event"   empty-error
//
// Not established: AllVariants lists each open question with its plausible
// answers, by name; the first is what the emulator does by default, and
// Options.Choose takes another. Options.Variants has a field for each.
//
//	opts := emulator.Options{}
//	err := opts.Choose("empty-null", "handle-same", "stale-batch-partial")
//
// Guesses without a choice:
//
//	several consumers of one application compete
//	the mode in effect when an event is published decides its way: events that
//	are in the queue when PUSH mode begins stay there, and come out in PULL mode
//	in PUSH mode without NotificationUrl events wait in the queue
//	NotificationUrl must be an HTTP or HTTPS URL
//	DescribeEventConfig shows a new mode before it is in effect
//	a quota is a bucket of one second's requests, for all applications together
//	a request without SubAppId means application 0
//	applications start in PULL mode with all switches ON; switches do not filter
//	the signature is checked before the names of action and version, the quota and
//	the parameters
//	codes of malformed requests: MissingParameter, InvalidParameter (wrong type),
//	InvalidParameterValue (wrong value), UnknownParameter, UnsupportedProtocol
//	(anything but POST with JSON), AuthFailure.InvalidAuthorization (no or
//	malformed Authorization header)
//
// Not emulated: GET and multipart requests, the older signature methods, the
// v2.0 format, and every other action of VOD.
//
// # Control
//
// The control API, at /_emulator/ (which describes itself), publishes events,
// shows counts and the journal, and adds faults. Methods of Server do the same.
// It asks for no credentials: bind it to this machine. Web pages of other sites
// cannot use it, and it answers to no name that one could have given to its
// address: use an IP address, localhost or the network's own names.
package emulator
