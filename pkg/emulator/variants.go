package emulator

import (
	"fmt"
	"slices"
	"time"
)

// DefaultSignKey signs what a variant signs when Options.SignKey is empty.
const DefaultSignKey = "emulatorsignkey"

// Question is something that the documentation leaves open. The variants of one question exclude each other.
type Question string

// The questions, in the order of the API's documentation.
const (
	AskEmpty         Question = "empty queue"
	AskBatch         Question = "events in one answer"
	AskMiss          Question = "empty answers though events wait"
	AskOrder         Question = "order of redeliveries"
	AskDeliveries    Question = "limit of deliveries"
	AskLease         Question = "start of the lease"
	AskHold          Question = "hold of an empty poll"
	AskHandle        Question = "handle of a redelivery"
	AskOldHandle     Question = "handle after its lease"
	AskStaleBatch    Question = "batch with a stale handle"
	AskStaleCode     Question = "error code of a stale handle"
	AskReconfirm     Question = "handle of a confirmed event"
	AskRetention     Question = "retention of pulled events"
	AskCount         Question = "leased events in the count"
	AskCountAge      Question = "age of the count"
	AskNullFields    Question = "payload fields without a value"
	AskTypes         Question = "event types"
	AskPulledSign    Question = "signature of pulled events"
	AskSignPlace     Question = "place of the signature"
	AskSignNames     Question = "names of the signature"
	AskSignCase      Question = "letters of Sign"
	AskSignTime      Question = "type of T"
	AskPushAnswer    Question = "answer that acknowledges a post"
	AskPushRetry     Question = "posts that failed"
	AskPushMode      Question = "PullEvents in PUSH mode"
	AskUnknownSubApp Question = "SubAppId that does not exist"
)

// Variant is one plausible answer to a Question. Each question has one default, which a server follows unless
// another variant is chosen.
type Variant struct {
	Name     string   `json:"name"`
	Question Question `json:"question"`
	// Summary says what the server does, in one line.
	Summary string `json:"summary"`
	Default bool   `json:"default,omitempty"`

	set func(*Options)
}

// AllVariants lists all variants by question; the default is the first of each.
func AllVariants() []Variant {
	list := make([]Variant, 0, 80)
	ask := func(question Question, answers ...Variant) {
		for i, v := range answers {
			v.Question, v.Default = question, i == 0
			list = append(list, v)
		}
	}
	v := func(name, summary string, set func(*Variants)) Variant {
		return Variant{Name: name, Summary: summary, set: func(o *Options) { set(&o.Variants) }}
	}
	o := func(name, summary string, set func(*Options)) Variant {
		return Variant{Name: name, Summary: summary, set: set}
	}

	// PullEvents.
	ask(AskEmpty,
		v("empty-error", `an empty queue is the error ResourceNotFound, "no event"`, func(v *Variants) { v.Empty = EmptyError }),
		v("empty-null", `an empty queue is "EventSet": null`, func(v *Variants) { v.Empty = EmptyNull }),
		v("empty-array", `an empty queue is "EventSet": []`, func(v *Variants) { v.Empty = EmptyArray }),
		v("empty-absent", "an empty queue is an answer without EventSet", func(v *Variants) { v.Empty = EmptyAbsent }))
	ask(AskBatch,
		v("batch-full", "an answer has 16 events when so many wait", func(v *Variants) { v.AnyBatch = false }),
		v("batch-any", "an answer has 1 to 16 events, however many wait", func(v *Variants) { v.AnyBatch = true }))
	ask(AskMiss,
		v("poll-finds", "a poll finds an event when one waits", func(v *Variants) { v.Misses = 0 }),
		v("poll-misses", "one poll of four answers at once that the queue is empty though events wait", func(v *Variants) { v.Misses = 0.25 }))
	ask(AskOrder,
		v("order-first", "an event comes back before those never delivered", func(v *Variants) { v.Order = OrderFirst }),
		v("order-last", "an event comes back behind those that wait", func(v *Variants) { v.Order = OrderLast }),
		v("order-random", "events come in any order", func(v *Variants) { v.Order = OrderRandom }))
	ask(AskDeliveries,
		v("deliveries-unlimited", "an event comes back until it is confirmed or too old", func(v *Variants) { v.MaxDeliveries = 0 }),
		v("deliveries-16", "an event is purged when its 16th lease has run out", func(v *Variants) { v.MaxDeliveries = 16 }))
	ask(AskLease,
		v("lease-from-choice", "a lease starts when the server chooses the events", func(v *Variants) { v.LeaseFromAnswer = false }),
		v("lease-from-answer", "a lease starts when the answer leaves", func(v *Variants) { v.LeaseFromAnswer = true }))
	ask(AskHold,
		o("hold-5s", "an empty poll is held for 5 s", func(o *Options) { o.Hold = 5 * time.Second }),
		o("hold-none", "an empty poll is answered at once", func(o *Options) { o.Hold = -1 }))

	// ConfirmEvents.
	ask(AskHandle,
		v("handle-new", "each delivery of an event has its own handle", func(v *Variants) { v.StableHandles = false }),
		v("handle-same", "all deliveries of an event have the same handle", func(v *Variants) { v.StableHandles = true }))
	ask(AskOldHandle,
		v("old-handle-stale", "a handle is stale when its lease has run out", func(v *Variants) { v.OldHandle = OldHandleStale }),
		v("old-handle-until-redelivery", "a handle confirms until its event is delivered again", func(v *Variants) { v.OldHandle = OldHandleUntilRedelivery }),
		v("old-handle-confirms", "a handle confirms its event whenever it comes", func(v *Variants) { v.OldHandle = OldHandleConfirms }))
	ask(AskStaleBatch,
		v("stale-batch-refused", "a batch with a stale handle is an error and confirms nothing", func(v *Variants) { v.StaleBatch = StaleRefuseAll }),
		v("stale-batch-partial", "a batch with a stale handle is an error and confirms the valid ones", func(v *Variants) { v.StaleBatch = StaleConfirmValid }),
		v("stale-batch-ignored", "a stale handle is a success that confirms nothing", func(v *Variants) { v.StaleBatch = StaleIgnore }))
	stale := func(name, code string) Variant {
		return v(name, "a stale handle is the error "+code, func(v *Variants) { v.StaleCode = code })
	}
	ask(AskStaleCode,
		stale("stale-invalid-parameter-value", codeInvalidParameterValue),
		stale("stale-invalid-event-handle", codeInvalidParameterValue+".EventHandles"),
		stale("stale-invalid-parameter", codeInvalidParameter),
		stale("stale-failed-operation", codeFailedOperation),
		stale("stale-resource-not-found", codeResourceNotFound),
		stale("stale-internal-error", codeInternalError))
	ask(AskReconfirm,
		v("reconfirm-stale", "a handle that has confirmed is stale", func(v *Variants) { v.ReconfirmOK = false }),
		v("reconfirm-ok", "a handle that has confirmed confirms again", func(v *Variants) { v.ReconfirmOK = true }))
	ask(AskRetention,
		v("retention-ends-between-leases", "4 days after it was published an event is purged, not during a lease", func(v *Variants) { v.Retention = RetentionBetweenLeases }),
		v("retention-ends-leases", "4 days after it was published an event is purged, also during a lease", func(v *Variants) { v.Retention = RetentionEndsLeases }),
		v("retention-until-pulled", "an event that was pulled once is kept until it is confirmed", func(v *Variants) { v.Retention = RetentionUntilPulled }))

	// DescribeEventsState.
	ask(AskCount,
		v("count-ready", "CountOfEventsToPull leaves leased events out", func(v *Variants) { v.CountLeased = false }),
		v("count-leased", "CountOfEventsToPull has leased events, too", func(v *Variants) { v.CountLeased = true }))
	ask(AskCountAge,
		o("count-now", "CountOfEventsToPull is that of this moment", func(o *Options) { o.StateLag = 0 }),
		o("count-5s-old", "CountOfEventsToPull is up to 5 s old", func(o *Options) { o.StateLag = 5 * time.Second }),
		o("count-3m-old", "CountOfEventsToPull is up to 3 minutes old", func(o *Options) { o.StateLag = 3 * time.Minute }))

	// What an event looks like.
	ask(AskNullFields,
		v("null-fields-absent", "the payload fields of other types are left out", func(v *Variants) { v.NullFields = NullsAbsent }),
		v("null-fields", "the payload fields of other types are null", func(v *Variants) { v.NullFields = NullsDocumented }),
		v("null-fields-newer", "the payload fields of other types are null, also that of a type that is not documented", func(v *Variants) { v.NullFields = NullsNewer }))
	ask(AskTypes,
		v("types-documented", "generated events are of documented types", func(v *Variants) { v.NewerTypes = false }),
		v("types-newer", "every second generated event is of a type that is not documented", func(v *Variants) { v.NewerTypes = true }))
	ask(AskPulledSign,
		v("pulled-unsigned", "events that are pulled have no Sign and T", func(v *Variants) { v.SignPulled = false }),
		o("pulled-signed", "events that are pulled have Sign and T, new ones at each delivery", func(o *Options) {
			o.Variants.SignPulled = true
			setDefault(&o.SignKey, DefaultSignKey)
		}))
	ask(AskSignPlace,
		v("sign-beside-type", "Sign and T stand before EventType", func(v *Variants) { v.SignPlace = SignFirst }),
		v("sign-behind-payload", "Sign and T stand behind the payload", func(v *Variants) { v.SignPlace = SignLast }),
		v("sign-in-payload", "Sign and T stand in the payload", func(v *Variants) { v.SignPlace = SignInPayload }))
	ask(AskSignNames,
		v("sign-names-capital", "the names are Sign and T", func(v *Variants) { v.SignNamesLower = false }),
		v("sign-names-lower", "the names are sign and t", func(v *Variants) { v.SignNamesLower = true }))
	ask(AskSignCase,
		v("sign-lower", "Sign has lower-case digits", func(v *Variants) { v.SignUpper = false }),
		v("sign-upper", "Sign has upper-case digits", func(v *Variants) { v.SignUpper = true }))
	ask(AskSignTime,
		v("sign-t-number", "T is a number", func(v *Variants) { v.SignTString = false }),
		v("sign-t-string", "T is a string", func(v *Variants) { v.SignTString = true }))

	// PUSH mode.
	ask(AskPushAnswer,
		v("push-answer-any", "any answer to a post will do", func(v *Variants) { v.PushAcknowledge = AcknowledgeAny }),
		v("push-answer-2xx", "a post is acknowledged by a status from 200 to 299", func(v *Variants) { v.PushAcknowledge = AcknowledgeSuccess }))
	ask(AskPushRetry,
		o("push-retry-at-once", "a failed post is repeated at once, twice", func(o *Options) { o.PushTries, o.PushPause = 3, 0 }),
		o("push-retry-later", "a failed post is repeated after 10 s, twice", func(o *Options) { o.PushTries, o.PushPause = 3, 10*time.Second }),
		o("push-retry-often", "a failed post is repeated after 10 s, 20 times", func(o *Options) { o.PushTries, o.PushPause = 21, 10*time.Second }),
		o("push-retry-never", "a failed post is not repeated", func(o *Options) { o.PushTries = 1 }))
	pushMode := func(name, code string) Variant {
		return v(name, "PullEvents in PUSH mode is the error "+code, func(v *Variants) { v.PushMode = code })
	}
	ask(AskPushMode,
		v("push-mode-empty", "PullEvents in PUSH mode is like an empty queue", func(v *Variants) { v.PushMode = AnswerEmpty }),
		v("push-mode-events", "PullEvents in PUSH mode has the events that came before it", func(v *Variants) { v.PushMode = AnswerEvents }),
		pushMode("push-mode-failed-operation", codeFailedOperation),
		pushMode("push-mode-unsupported-operation", codeUnsupportedOperation),
		pushMode("push-mode-invalid-parameter-value", codeInvalidParameterValue))
	subApp := func(name, code string) Variant {
		return v(name, "an unknown SubAppId is the error "+code, func(v *Variants) { v.UnknownSubApp = code })
	}
	ask(AskUnknownSubApp,
		subApp("sub-app-invalid", codeInvalidSubAppID),
		v("sub-app-empty", "PullEvents with an unknown SubAppId is like an empty queue", func(v *Variants) { v.UnknownSubApp = AnswerEmpty }),
		subApp("sub-app-not-found", codeResourceNotFound),
		subApp("sub-app-failed-operation", codeFailedOperation),
		subApp("sub-app-unauthorized", codeUnauthorizedOperation))
	return list
}

// FindVariant returns the variant of that name.
func FindVariant(name string) (Variant, bool) {
	all := AllVariants()
	if i := slices.IndexFunc(all, func(v Variant) bool { return v.Name == name }); i >= 0 {
		return all[i], true
	}
	return Variant{}, false
}

// Choose has a server follow the named variants. It refuses a name that does not exist, and two different answers
// to one question.
func (o *Options) Choose(names ...string) error {
	chosen := map[Question]string{}
	for _, name := range names {
		v, ok := FindVariant(name)
		if !ok {
			return fmt.Errorf("variant: %q does not exist, see AllVariants", clip(name))
		}
		if before := chosen[v.Question]; before != "" && before != name {
			return fmt.Errorf("variants: %s and %s exclude each other (%s), write one of them", before, name, v.Question)
		}
		chosen[v.Question] = name
		v.set(o)
	}
	return nil
}

// Follows reports whether a server with these options follows v, however they were set.
func (o Options) Follows(v Variant) bool {
	o = o.withDefaults()
	with := o
	v.set(&with)
	return with.Variants == o.Variants && with.Hold == o.Hold && with.StateLag == o.StateLag &&
		with.PushTries == o.PushTries && with.PushPause == o.PushPause && with.SignKey == o.SignKey
}
