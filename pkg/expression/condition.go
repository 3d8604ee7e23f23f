package expression

import (
	"context"
	"fmt"

	"github.com/vodrelay/vodrelay/pkg/event"
	"github.com/vodrelay/vodrelay/pkg/retry"
	"github.com/vodrelay/vodrelay/pkg/safetext"
)

// Condition is a compiled yes-or-no expression on events. It is safe for concurrent use.
type Condition struct{ x *Expression }

// CompileCondition compiles an expression of https://expr-lang.org/docs/language-definition that is true
// or false. It can name
//
//   - type, id, subject (texts) and sub_app_id (a number) of the event; subject is the FileId that it is about, of
//     FileDeleted the one in FileIdSet if it is the only one, else the TaskId, else "",
//   - payload, the object that describes what happened, whatever its field is called: older names of these fields
//     are documented, too,
//   - each documented payload field, such as FileUploadEvent.MediaBasicInfo.Name,
//   - event, the whole content,
//
// and call the built-in functions except type. Letter case matters. FileUploadEvent, FileDeleteEvent,
// ProcedureStateChangeEvent and PullCompleteEvent are checked against VOD's documentation; payload, event
// and the other fields are not.
//
// VOD leaves out or nulls any field, so a missing value, here called null and written nil, is no error:
//
//   - a field of null, a missing field and an index out of range are null;
//   - an ordering (< <= > >=) with null is false; == and != compare with null as with any other value;
//   - null counts as false in and, or, not, ?: and as a condition;
//   - a calculation with null, and a function with a null argument, give null; but len(null) is 0;
//   - functions over lists, such as any or filter, take null as a list without elements.
//
// Only the bounds of a range, as in 1..n, must not be null.
//
// So FileUploadEvent.MetaData.Duration > 60 is false on an event without MetaData. What has the wrong
// type, such as a text where a number is needed, is an error when it is met. fromJSON gives null for a
// text that is not JSON. Integers of up to 64 bits compare exactly; calculations beyond int64 are in
// float64.
//
// An expression has no access to anything but the event, the clock and the time zones. It has at most 8 KiB and
// 1,000 operations. What it does with an event has limits, too, and an error names the one that was reached:
// 10 million steps (a step is one operation on one element of a list, or some bytes of a text), 64 MiB for all values,
// 1 MiB for a text that it makes, 100,000 elements for a list that it makes, and 1 KiB for a regular expression that
// comes out of an event. They count what is done, not time: an event passes always, or never.
//
// The error is one line that names the expression, the place, and the nearest names.
func CompileCondition(src string) (*Condition, error) {
	x, err := compile(src, true)
	if err != nil {
		return nil, err
	}
	return &Condition{x}, nil
}

// Match evaluates the condition on e. Only what the expression names is decoded. An error is permanent,
// since the same event gives the same error again. One of an evaluation that ctx ended is not: it wraps ctx's own
// and retry.ErrNotTried.
func (c *Condition) Match(ctx context.Context, e event.Event) (bool, error) {
	v, err := c.x.eval(ctx, e)
	if err != nil {
		return false, err
	}
	matched, err := truth(v)
	if err != nil {
		return false, retry.Permanent(fmt.Errorf("expression '%s': the result must be true or false, not %s", safetext.Line(c.x.src, longest), describe(v)))
	}
	return matched, nil
}

// String is the expression as it was written.
func (c *Condition) String() string { return c.x.src }
