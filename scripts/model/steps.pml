/* Part of vodrelay.pml: the steps that a replica takes with one event. */

/* ---- the hand of a replica ---- */

/* code: relay/hand.go: settle */
inline settle() {
	AT.state = settled;
	each_copy {
		if
		:: AT.lease[i].handle != none -> AT.leases = AT.leases + 1 + AT.lease[i].older
		:: else
		fi
	}
	each_sink { AT.result[j] = target; AT.memory[j] = 0 }
}

/* code: relay/work.go: unsettled; relay/hand.go: drop; pipeline/memory.go: add */
inline unsettled() {
	AT.state = absent;
	each_copy { AT.lease[i].handle = none; AT.lease[i].older = 0 }
	each_sink {
		if
		:: !all_copies(e, CONFIRMED) && (AT.result[j] == accepted || broken(memory_of_all)) -> AT.memory[j] = 1
		:: else
		fi;
		AT.result[j] = target
	}
	if
	:: broken(unsettled_remembered) -> AT.remembered = 1
	:: else
	fi
}

/* ---- what happens to a delivery ---- */

/* code: store/parcels.go: Put */
inline put(s) {
	if
	:: PARCEL.state == nothing -> PARCEL.state = waiting
	:: PARCEL.state == nothing && !broken(dead_dropped) -> PARCEL.state = dead /* the sink refused the event */
	:: PARCEL.state == nothing && broken(dead_dropped)
	:: PARCEL.state != nothing /* which goes on as it is */
	fi
}

/* code: pipeline/parking.go: parkAt, park, put */
inline park() {
	if
	:: AT.result[0] == err -> put(0)
	:: else
	fi
#if SINKS == 2
	if
	:: AT.result[1] == err && !broken(park_drops_one) -> put(1)
	:: else
	fi
#endif
}

/* Only one of two parcels can be stored: the share of the other's sink is used up. */
inline park_one(s) {
	put(s);
	AT.result[s] = accepted
}

#define TRIED(e, s)       (AT.result[s] != target)
#define IS_ERR(e, s)      (AT.result[s] == err)
#define IS_ACCEPTED(e, s) (AT.result[s] == accepted)

/* The last sink's result decides. code: pipeline/handle.go: dispatch; relay/work.go: work */
inline dispatch() {
	if
	:: !all_sinks(e, TRIED)
	:: all_sinks(e, IS_ACCEPTED) -> settle()
	:: all_sinks(e, TRIED) && some_sink(e, IS_ERR) -> park(); settle()
	:: all_sinks(e, TRIED) && some_sink(e, IS_ERR) && trouble > 0 -> trouble--; unsettled()         /* it cannot be stored */
	:: all_sinks(e, TRIED) && some_sink(e, IS_ERR) && trouble > 0 -> trouble--; park(); unsettled() /* it is, and nobody hears of it */
#if SINKS == 2
	:: all_sinks(e, IS_ERR) && trouble > 0 -> trouble--; park_one(0); unsettled()
	:: all_sinks(e, IS_ERR) && trouble > 0 -> trouble--; park_one(1); unsettled()
#endif
	fi
}

/* code: relay/queue.go: admit; relay/hand.go: admit, renew */
inline admit(k) {
	if
	:: AT.state == absent && !AT.remembered -> /* fresher */
		AT.state = working;
		LEASE.handle = current;
		each_sink {
			if
			:: AT.memory[j] -> AT.result[j] = accepted
			:: else
			fi
		}
		if
		:: broken(mark_first) -> E.mark = 1
		:: broken(confirm_first) -> settle()
		:: else -> dispatch()
		fi
	:: AT.state == absent && AT.remembered -> /* remembered */
		AT.state = settled;
		AT.leases = 1;
		LEASE.handle = current
	:: AT.state == working -> /* joinedWorking */
		if
		:: LEASE.handle != none -> LEASE.older = 1 /* by the relay's clock its lease goes on */
		:: true
		fi;
		LEASE.handle = current
	:: AT.state == settled -> /* joinedSettled */
		if
		:: broken(join_drops) -> AT.leases++
		:: else ->
			if
			:: LEASE.handle == none -> AT.leases++
			:: LEASE.handle != none && !LEASE.older -> AT.leases++; LEASE.older = 1
			:: LEASE.handle != none && LEASE.older -> AT.failed_lease = 1 /* the oldest is over by the relay's clock, too */
			fi;
			LEASE.handle = current;
			LEASE.unanswered = 0;
			LEASE.alone = 0
		fi
	fi
}

/* code: relay/hand.go: resolve; relay/marks.go: remember, forget, write */
inline resolved(ok) {
	AT.failed_lease = AT.failed_lease || !(ok);
	AT.leases--;
	if
	:: AT.leases > 0
	:: else ->
		AT.state = absent;
		if
		:: all_copies(e, CONFIRMED)
		:: !all_copies(e, CONFIRMED) && AT.failed_lease ->
			AT.remembered = 1;
			if
			:: E.mark = 1
			:: true /* it is not written before the next crash */
			fi
		:: !all_copies(e, CONFIRMED) && !AT.failed_lease ->
			AT.remembered = 0;
			if
			:: E.mark = 0
			:: true
			fi
		fi;
		AT.failed_lease = 0
	fi
}

inline resolve(k, ok) {
	LEASE.handle = none;
	LEASE.unanswered = 0;
	LEASE.alone = 0;
	resolved(ok)
}

/* ---- the way of an event ---- */

/* code: relay/queue.go: poll, pull */
inline pull(k) {
	E.queue[k] = leased;
	if
	:: admit(k)
	:: bad_luck /* the reply is lost */
	fi
}

inline accept(s) {
#if COPIES == 1 /* the second copy is sent again where it is news */
	assert(!E.has[s] || trouble < troubles); /* no duplicate as long as all goes well */
#endif
	E.has[s] = 1
}

/* code: pipeline/handle.go: fanOut; pipeline/route.go: deliver */
inline send(s) {
	if
	:: accept(s); AT.result[s] = accepted
	:: AT.result[s] = err /* or not tried: the sink is down, or everything is to be stored */
	:: !E.has[s] && trouble > 0 -> trouble--; accept(s); AT.result[s] = err /* the reply is lost */
	fi;
	dispatch()
}

/* What becomes of a call: whether the service does it, and what the relay takes it for. */
mtype:answer = { success, refused, failure, no_answer };
hidden mtype:answer answer;
hidden byte carried_out;

inline lost_reply() {
	trouble--;
	if
	:: carried_out = 0 /* the request is lost */
	:: carried_out = 1 /* the reply is */
	fi;
	if
	:: answer = no_answer /* it is tried again */
	:: answer = failure   /* no time is left */
	fi
}

/* code: relay/confirm.go: confirm, attempt, live */
inline confirm(k) {
	if
	:: LEASE.handle == current -> carried_out = 1; answer = success
	:: LEASE.handle == stale -> carried_out = 0; answer = failure                     /* refused, or too late to be tried */
	:: LEASE.handle == stale && LEASE.unanswered -> carried_out = 0; answer = success /* refused: it was confirmed before */
	:: LEASE.handle == stale -> carried_out = 0; answer = success                     /* passed over */
	:: LEASE.handle == stale -> carried_out = 1; answer = success
	:: trouble > 0 && UNCONFIRMED(e, k) -> lost_reply()
	fi;
	if
	:: carried_out && UNCONFIRMED(e, k) -> service_confirms(e, k)
	:: else
	fi;
	if
	:: answer == no_answer -> LEASE.unanswered = 1
	:: else -> resolve(k, answer == success)
	fi
}

/* A handle that was kept beside a newer one: it has some answer, or its time is over. */
inline confirm_older(k) {
	LEASE.older = 0;
	if
	:: UNCONFIRMED(e, k) -> service_confirms(e, k)
	:: true
	fi;
	if
	:: resolved(true)
	:: resolved(false)
	fi
}

/* ---- the scheduler ---- */

#define MINE (r + 1)

/* code: store/parcels.go: Complete */
inline complete(s) {
	PARCEL.state = nothing;
	PARCEL.claimedBy = NOBODY
}

/* code: relay/lane.go: claim; store/parcels.go: Claim */
inline claim(s) {
	LANE = inFlight;
	PARCEL.claimedBy = MINE;
	if
	:: broken(complete_first) -> complete(s)
	:: else
	fi
}

/* code: relay/results.go: judge; store/parcels.go: Fail, Unclaim */
inline fail(s, outcome) {
	LANE = idle;
	if
	:: PARCEL.state == waiting && (PARCEL.claimedBy == MINE || PARCEL.claimedBy == NOBODY) ->
		PARCEL.claimedBy = NOBODY;
		PARCEL.state = outcome
	:: else /* it is gone, or another replica's */
	fi
}

/* code: relay/lane.go: attempt; relay/results.go: take; pipeline/deliver.go: Deliver */
inline attempt(s) {
	if
	:: accept(s); LANE = completed
	:: !broken(dead_dropped) -> fail(s, dead) /* refused, or tried often enough */
	:: broken(dead_dropped) -> fail(s, nothing)
	:: bad_luck; fail(s, waiting) /* which looks as if it was not tried, and was given back */
	:: !E.has[s] && trouble > 0 -> trouble--; accept(s); fail(s, waiting) /* the reply is lost */
	fi
}
