package emulator

import (
	"context"
	"encoding/json"
	"strconv"
	"time"
)

// errorBody is the answer for an error.
func (s *Server) errorBody(e *apiError) []byte {
	return mustMarshal(map[string]any{"Response": map[string]any{"Error": e, "RequestId": s.requestID()}})
}

func mustMarshal(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // only strings and numbers are given
	}
	return b
}

// succeed fills the answer: fields are the members before RequestId, each with
// its comma.
func (c *call) succeed(fields string) {
	c.out = append(c.out[:0], `{"Response":{`...)
	c.out = append(c.out, fields...)
	c.finish()
}

func (c *call) finish() {
	c.out = append(c.out, `"RequestId":"`...)
	c.out = append(c.out, c.server.requestID()...)
	c.out = append(c.out, `"}}`...)
}

// act does what the request asks, whose signature and names are checked. gone
// reports that the client or the server went away.
func (c *call) act(ctx context.Context) (gone bool, _ *apiError) {
	q := c.server.queues
	app, err := q.application(c.subAppID)
	if err != nil && err.Code == codeInvalidSubAppID {
		switch answer := q.opts.Variants.UnknownSubApp; {
		case answer != AnswerEmpty:
			err = refuse(answer, "%s", err.Message)
		case c.action == ActionPullEvents:
			return c.empty(ctx, true)
		}
	}
	if err != nil {
		return false, err
	}
	switch c.action {
	case ActionPullEvents:
		return c.pullEvents(ctx, app)
	case ActionConfirmEvents:
		return false, c.confirmEvents(app)
	case ActionDescribeEventsState:
		c.succeed(`"CountOfEventsToPull":` + strconv.Itoa(q.report(app)) + `,`)
	case ActionDescribeEventConfig:
		c.describeEventConfig(app)
	case ActionModifyEventConfig:
		return false, c.modifyEventConfig(app)
	}
	return false, nil
}

func (c *call) hold() time.Duration {
	if c.fault.Kind == FaultNoHold {
		return 0
	}
	return c.server.opts.Hold
}

func (c *call) pullEvents(ctx context.Context, app *application) (gone bool, _ *apiError) {
	q := c.server.queues
	if code := q.opts.Variants.PushMode; !oneOf(code, AnswerEmpty, AnswerEvents) && q.mode(app) == ModePush {
		return false, refuse(code, "The application is in PUSH mode.")
	}
	if q.misses() {
		return c.empty(ctx, false)
	}
	c.out = append(c.out[:0], `{"Response":{"EventSet":[`...)
	p, err := q.pull(ctx, app, c.hold(), c.fault.Kind == FaultDuplicate, c.out)
	if err != nil {
		return true, nil //nolint:nilerr // the client is gone: nobody to tell
	}
	if p.count == 0 {
		return c.empty(ctx, false)
	}
	c.out, c.batch = append(p.json, `],`...), p.batch
	c.finish()
	return false, nil
}

// empty answers that there is no event, after the hold when wait is set.
func (c *call) empty(ctx context.Context, wait bool) (gone bool, _ *apiError) {
	if wait && !c.server.sleep(ctx, c.hold()) {
		return true, nil
	}
	switch c.server.opts.Variants.Empty {
	case EmptyNull:
		c.succeed(`"EventSet":null,`)
	case EmptyArray:
		c.succeed(`"EventSet":[],`)
	case EmptyAbsent:
		c.succeed("")
	default:
		return false, &apiError{Code: codeResourceNotFound, Message: "no event", quiet: true}
	}
	return false, nil
}

func (c *call) confirmEvents(app *application) *apiError {
	handles, err := c.params.handles(c.server.opts.MaxBatch)
	if err != nil {
		return err
	}
	if err := c.server.queues.confirm(app, handles); err != nil {
		return err
	}
	c.succeed("")
	return nil
}

func (c *call) describeEventConfig(app *application) {
	config := c.server.queues.eventConfig(app)
	c.out = mustMarshal(map[string]any{"Response": map[string]string{
		"Mode":                           config.mode,
		"NotificationUrl":                config.notificationURL,
		"UploadMediaCompleteEventSwitch": config.uploadSwitch,
		"DeleteMediaCompleteEventSwitch": config.deleteSwitch,
		"PersistenceCompleteEventSwitch": config.persistenceSwitch,
		"RequestId":                      c.server.requestID(),
	}})
}

func (c *call) modifyEventConfig(app *application) *apiError {
	change, err := c.params.eventConfigChange()
	if err != nil {
		return err
	}
	c.server.queues.modify(app, change)
	c.succeed("")
	return nil
}

// The parts of the queues that only these actions need.

// misses has a poll find nothing, with Variants.Misses.
func (q *queues) misses() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.opts.Variants.Misses > 0 && q.random.Float64() < q.opts.Variants.Misses
}

func (q *queues) mode(app *application) string {
	q.mu.Lock()
	defer q.mu.Unlock()
	return app.config.modeAt(time.Now())
}

func (q *queues) eventConfig(app *application) eventConfig {
	q.mu.Lock()
	defer q.mu.Unlock()
	return app.config
}

func (q *queues) modify(app *application, change eventConfigChange) {
	q.mu.Lock()
	defer q.mu.Unlock()
	app.config.apply(change, time.Now(), q.opts.ModeDelay)
	app.wakeAll()
}

// report counts the events that can be pulled, with Variants.CountLeased those of
// running leases, too, as of at most StateLag ago.
func (q *queues) report(app *application) int {
	q.mu.Lock()
	defer q.mu.Unlock()
	now := time.Now()
	q.advance(now)
	if app.reportedAt.IsZero() || now.Sub(app.reportedAt) >= q.opts.StateLag {
		app.reported, app.reportedAt = app.ready.len, now
		if q.opts.Variants.CountLeased {
			app.reported += int(app.leasedNow())
		}
	}
	return app.reported
}

func (q *queues) refused(subAppID uint64, action, code string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.journal.add(Entry{Time: time.Now(), Kind: KindRefused, SubAppID: subAppID, Action: action, Code: code})
}
