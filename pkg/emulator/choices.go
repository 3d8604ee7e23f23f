package emulator

// EmptyAnswer is how PullEvents says that there is no event.
type EmptyAnswer string

// The known answers of an empty queue.
const (
	EmptyError  EmptyAnswer = "error"  // error ResourceNotFound, "no event"; the default
	EmptyNull   EmptyAnswer = "null"   // "EventSet": null
	EmptyArray  EmptyAnswer = "array"  // "EventSet": []
	EmptyAbsent EmptyAnswer = "absent" // no EventSet
)

// Order is where an event comes back to whose lease ran out.
type Order string

// The plausible orders.
const (
	OrderFirst  Order = "first"  // before those never delivered; the default
	OrderLast   Order = "last"   // behind those that wait
	OrderRandom Order = "random" // anywhere, and the others come in no order either
)

// OldHandle is what a handle is worth when its lease ran out.
type OldHandle string

// The plausible worths of an old handle.
const (
	OldHandleStale           OldHandle = "stale"            // nothing; the default
	OldHandleUntilRedelivery OldHandle = "until-redelivery" // it confirms until the event is delivered again
	OldHandleConfirms        OldHandle = "confirms"         // it confirms
)

// StaleBatch is what ConfirmEvents does with a batch that has a stale handle.
type StaleBatch string

// The plausible treatments of a batch with a stale handle.
const (
	StaleRefuseAll    StaleBatch = "refuse-all"    // an error, nothing is confirmed; the default
	StaleConfirmValid StaleBatch = "confirm-valid" // an error, yet the valid handles are confirmed
	StaleIgnore       StaleBatch = "ignore"        // success, the stale handles are ignored
)

// Retention is what 4 days mean for an event that was pulled, and not confirmed.
type Retention string

// The plausible retentions.
const (
	RetentionBetweenLeases Retention = "between-leases" // it is purged then, or when its lease ends; the default
	RetentionEndsLeases    Retention = "ends-leases"    // it is purged then, and its handle is stale
	RetentionUntilPulled   Retention = "until-pulled"   // it is not purged
)

// NullFields are the payload fields of an event that have no value.
type NullFields string

// The plausible fields.
const (
	NullsAbsent     NullFields = "absent"     // none; the default
	NullsDocumented NullFields = "documented" // those of all other documented types
	NullsNewer      NullFields = "newer"      // also that of a type that is not documented
)

// AnswerEmpty is for Variants.PushMode and Variants.UnknownSubApp: an answer
// like that of an empty queue. Any other text is an error code.
const AnswerEmpty = "empty"

// AnswerEvents is for Variants.PushMode: the events that wait in the queue.
const AnswerEvents = "events"

// Acknowledge is which answer to a post ends its attempts.
type Acknowledge string

// The plausible acknowledgements.
const (
	AcknowledgeAny     Acknowledge = "any" // any answer in time, as documented for the v2.0 format; the default
	AcknowledgeSuccess Acknowledge = "2xx" // only a status from 200 to 299
)

// SignPlace is where Sign and T stand.
type SignPlace string

// The plausible places.
const (
	SignFirst     SignPlace = "first"   // before EventType; the default
	SignLast      SignPlace = "last"    // behind the payload
	SignInPayload SignPlace = "payload" // in the payload, first
)

// Variants choose between behaviours of the real service that its
// documentation leaves open. The zero value takes the stricter one of each.
// AllVariants gives each a name.
type Variants struct {
	// Empty is how PullEvents says that there is no event.
	Empty EmptyAnswer
	// AnyBatch gives an answer 1 to MaxBatch events, however many wait. Default:
	// as many as there are.
	AnyBatch bool
	// Misses is the share of polls that answer at once that the queue is empty
	// though events wait, as a queue of several parts may. Default: 0.
	Misses float64
	// Order is where an event comes back to whose lease ran out.
	Order Order
	// MaxDeliveries is how often an event is delivered before it is purged.
	// Default: without limit.
	MaxDeliveries int
	// LeaseFromAnswer starts a lease when the answer leaves, after injected
	// latency. Default: when the events are chosen.
	LeaseFromAnswer bool
	// StableHandles gives an event the same handle at each delivery. Default:
	// each delivery has its own.
	StableHandles bool
	// OldHandle is what a handle is worth when its lease ran out.
	OldHandle OldHandle
	// StaleBatch is what becomes of a batch with a stale handle.
	StaleBatch StaleBatch
	// StaleCode is the error code for a stale handle. Default
	// InvalidParameterValue.
	StaleCode string
	// ReconfirmOK lets an already confirmed handle be confirmed again. Default:
	// it is stale.
	ReconfirmOK bool
	// Retention is what 4 days mean for an event that was pulled.
	Retention Retention
	// CountLeased has DescribeEventsState count leased events, too. Default: only
	// those that can be pulled.
	CountLeased bool
	// NullFields are the payload fields that are sent as null.
	NullFields NullFields
	// NewerTypes has the control API generate every second event with a type that
	// is not documented, when the request names no types.
	NewerTypes bool
	// SignPulled adds Sign and T to events that are pulled, too, when there is a
	// SignKey: new ones at each delivery.
	SignPulled bool
	// SignPlace is where Sign and T stand.
	SignPlace SignPlace
	// SignNamesLower writes sign and t, SignUpper the digits of Sign in upper
	// case, SignTString T as a string.
	SignNamesLower, SignUpper, SignTString bool
	// PushMode is what PullEvents answers while PUSH mode is in effect:
	// AnswerEmpty (default), AnswerEvents or an error code.
	PushMode string
	// PushAcknowledge is which answer to a post ends its attempts.
	PushAcknowledge Acknowledge
	// UnknownSubApp is the answer for a SubAppId that does not exist:
	// AnswerEmpty (to PullEvents only; the others get the default), or an
	// error code. Default InvalidParameterValue.SubAppId.
	UnknownSubApp string
}

// validate reports what New would refuse.
func (v *Variants) validate(bad func(format string, args ...any)) {
	check := func(ok bool, name string, value any, write string) {
		if !ok {
			bad("Variants.%s: %v, write %s", name, value, write)
		}
	}
	check(oneOf(v.Empty, "", EmptyError, EmptyNull, EmptyArray, EmptyAbsent), "Empty", v.Empty, "error, null, array or absent")
	check(v.Misses >= 0 && v.Misses < 1, "Misses", v.Misses, "a share from 0 to below 1")
	check(oneOf(v.Order, "", OrderFirst, OrderLast, OrderRandom), "Order", v.Order, "first, last or random")
	check(v.MaxDeliveries >= 0, "MaxDeliveries", v.MaxDeliveries, "1 or more, 0 for no limit")
	check(oneOf(v.OldHandle, "", OldHandleStale, OldHandleUntilRedelivery, OldHandleConfirms), "OldHandle", v.OldHandle, "stale, until-redelivery or confirms")
	check(oneOf(v.StaleBatch, "", StaleRefuseAll, StaleConfirmValid, StaleIgnore), "StaleBatch", v.StaleBatch, "refuse-all, confirm-valid or ignore")
	check(oneOf(v.Retention, "", RetentionBetweenLeases, RetentionEndsLeases, RetentionUntilPulled), "Retention", v.Retention, "between-leases, ends-leases or until-pulled")
	check(oneOf(v.NullFields, "", NullsAbsent, NullsDocumented, NullsNewer), "NullFields", v.NullFields, "absent, documented or newer")
	check(oneOf(v.SignPlace, "", SignFirst, SignLast, SignInPayload), "SignPlace", v.SignPlace, "first, last or payload")
	check(oneOf(v.PushAcknowledge, "", AcknowledgeAny, AcknowledgeSuccess), "PushAcknowledge", v.PushAcknowledge, "any or 2xx")
}

func (v *Variants) setDefaults() {
	setDefault(&v.Empty, EmptyError)
	setDefault(&v.Order, OrderFirst)
	setDefault(&v.OldHandle, OldHandleStale)
	setDefault(&v.StaleBatch, StaleRefuseAll)
	setDefault(&v.StaleCode, codeInvalidParameterValue)
	setDefault(&v.Retention, RetentionBetweenLeases)
	setDefault(&v.NullFields, NullsAbsent)
	setDefault(&v.SignPlace, SignFirst)
	setDefault(&v.PushMode, AnswerEmpty)
	setDefault(&v.PushAcknowledge, AcknowledgeAny)
	setDefault(&v.UnknownSubApp, codeInvalidSubAppID)
}
