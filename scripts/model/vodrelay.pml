/*
 * How vodrelay keeps its first promise: no event is confirmed before it is safe, and each one is settled and confirmed
 * in the end. ./check searches everything that this model can do; ARCHITECTURE.md, "The model", has its states and
 * steps as tables. "code:" names the functions that a part stands for.
 *
 * There is no time in it: what time decides may happen at any moment. What goes wrong is counted: each lost request or
 * reply, each write that fails, each crash, each lease or claim that ends while somebody works under it costs
 * one of TROUBLE, so that "in the end" has a meaning. A sink may refuse a new event, or be down, for nothing. A process
 * that crashed is back at once: before it does anything, others may have done much. A stop in order is a crash at a
 * moment at which nothing is in hand.
 *
 * What nobody knows of the service is chosen anew at each call: whether an old handle confirms, whether a batch
 * with one is refused as a whole or confirms the others, whether it is passed over in silence, and whether what was
 * confirmed can be confirmed again. A handle is as good as its lease, so there are no numbers of deliveries.
 */
#ifndef EVENTS
#define EVENTS 3 /* 2 or 3 */
#endif
#ifndef COPIES
#define COPIES 1 /* messages with the same content, and so the same event ID: 1 or 2 */
#endif
#ifndef REPLICAS
#define REPLICAS 2 /* 1 or 2 */
#endif
#ifndef SINKS
#define SINKS 1 /* 1 or 2 */
#endif

/* What a broken relay would do. ./check has to find an error in each; the environment says which one. */
#define confirm_first        1 /* an event is settled when it is pulled */
#define mark_first           2 /* it is remembered as settled before it is */
#define unsettled_remembered 3 /* it is remembered as settled when it could not be */
#define memory_of_all        4 /* all sinks are said to have accepted an event that is not settled */
#define park_not_durable     5 /* parcels do not survive a crash */
#define park_drops_one       6 /* where two sinks failed, one parcel is stored */
#define complete_first       7 /* a parcel is deleted when it is claimed */
#define dead_dropped         8 /* there are no dead letters */
#define join_drops           9 /* the handle that joins a settled event is not confirmed */
#define forget_claim        10 /* claims have no end */
#define batch_not_split     11 /* a batch that is refused is tried again as it is */
hidden byte way;
#define broken(how) (way == how)

hidden byte troubles;
byte trouble; /* what is left of TROUBLE */
#define bad_luck trouble > 0 -> trouble--
c_code {
	static int from_environment(char *name, int otherwise)
	{
		char *value = getenv(name);
		return value ? atoi(value) : otherwise;
	}
};

/* ---- what is where ---- */

/* code: emulator/list.go: placeReady, placeLeased, placeGone */
mtype:place = { ready, leased, confirmed };

/* code: event/parcel.go: ParcelWaiting, ParcelDead */
mtype:parcel = { nothing, waiting, dead };
#define NOBODY 0
#define GONE   255 /* a process that has ended: its claim goes on */
typedef Parcel { mtype:parcel state = nothing; byte claimedBy = NOBODY };

/* code: relay/hand.go: lease */
mtype:handle = { none, current, stale }; /* stale: the lease is over for the service */
typedef Lease {
	mtype:handle handle = none; /* of the newest delivery of a message */
	bit older;      /* the one before is kept, too; it is stale */
	bit unanswered; /* an attempt to confirm it had no reply */
	bit alone       /* a batch that it was in was refused: it is tried by itself */
};

/* code: relay/hand.go: entry */
mtype:entry = { absent, working, settled };
/* code: pipeline/handle.go: result */
mtype:result = { target, accepted, err };
/* code: relay/lane.go: lane */
mtype:lane = { idle, inFlight, completed };

/* An event at one replica. */
typedef At {
	mtype:entry state = absent;
	Lease lease[COPIES];
	byte leases;       /* at the confirmer, once it is settled: entry.waiting */
	bit failed_lease;  /* one of them could not be confirmed: entry.failed */
	bit remembered;    /* hand.settled: settled, and not confirmed */
	mtype:result result[SINKS] = target;
	bit memory[SINKS]; /* pipeline.memory: who accepted it although it is not settled */
	mtype:lane lane[SINKS] = idle
};

typedef Event {
	mtype:place queue[COPIES] = ready;
	bit has[SINKS];       /* the sinks that have it */
	Parcel parcel[SINKS]; /* in the store, which all replicas share */
	bit mark;             /* in the store, too. code: store/settled.go: RememberSettled, ForgetSettled, Settled */
	At at[REPLICAS]
};
Event event[EVENTS];

#define E      event[e]
#define AT     event[e].at[r]
#define LEASE  event[e].at[r].lease[k]
#define LANE   event[e].at[r].lane[s]
#define PARCEL event[e].parcel[s]

hidden byte i, j; /* counters within a step */
#define each_copy    for (i : 0 .. COPIES-1)
#define each_replica for (i : 0 .. REPLICAS-1)
#define each_sink    for (j : 0 .. SINKS-1)

#if COPIES == 1
#define all_copies(e, are)  (are(e, 0))
#else
#define all_copies(e, are)  (are(e, 0) && are(e, 1))
#endif
#if SINKS == 1
#define all_sinks(e, are)   (are(e, 0))
#define some_sink(e, is)    (is(e, 0))
#else
#define all_sinks(e, are)   (are(e, 0) && are(e, 1))
#define some_sink(e, is)    (is(e, 0) || is(e, 1))
#endif
#if REPLICAS == 1
#define all_replicas(e, are) (are(e, 0))
#else
#define all_replicas(e, are) (are(e, 0) && are(e, 1))
#endif
#if EVENTS == 2
#define all_events(are)     (are(0) && are(1))
#else
#define all_events(are)     (are(0) && are(1) && are(2))
#endif

/*
 * Events differ in nothing, and neither do replicas, so that states which differ only in the order of these are one:
 * every step ends with bringing them into an order. For a trail that can be read, UNSORTED leaves them where they are.
 */
#ifdef UNSORTED
#define done skip
#else
c_code {
	static void sort_events(struct Event *of)
	{
		int a, b;
		for (a = 0; a < EVENTS; a++)
			for (b = a + 1; b < EVENTS; b++)
				if (memcmp(&of[a], &of[b], sizeof of[a]) > 0) {
					struct Event swapped = of[a];
					of[a] = of[b];
					of[b] = swapped;
				}
	}

	static void into_order(void)
	{
		sort_events(now.event);
		if (REPLICAS == 2) {
			static struct Event swapped[EVENTS];
			int e, s;
			memcpy(swapped, now.event, sizeof swapped);
			for (e = 0; e < EVENTS; e++) {
				swapped[e].at[0] = now.event[e].at[REPLICAS-1];
				swapped[e].at[REPLICAS-1] = now.event[e].at[0];
				for (s = 0; s < SINKS; s++)
					if (swapped[e].parcel[s].claimedBy == 1 || swapped[e].parcel[s].claimedBy == 2)
						swapped[e].parcel[s].claimedBy = 3 - swapped[e].parcel[s].claimedBy;
			}
			sort_events(swapped);
			if (memcmp(swapped, now.event, sizeof swapped) < 0)
				memcpy(now.event, swapped, sizeof swapped);
		}
	}
};
#define done c_code { into_order(); }
#endif

/* ---- the promises ---- */

#define CONFIRMED(e, k)  (event[e].queue[k] == confirmed)
#define UNCONFIRMED(e, k) (event[e].queue[k] != confirmed)
#define SAFE(e, s)       (event[e].has[s] || event[e].parcel[s].state != nothing)
#define AT_REST(e, s)    (event[e].parcel[s].state != waiting)
#define NOT_IN_HAND(e, r) (event[e].at[r].state == absent)

#define safe(e)     (all_copies(e, UNCONFIRMED) || all_sinks(e, SAFE))
#define finished(e) (all_copies(e, CONFIRMED) && all_sinks(e, AT_REST) && all_replicas(e, NOT_IN_HAND))

/* No event is confirmed before it is safe: each sink has it, or the store has a parcel for it. */
active proctype no_confirm_before_safe()
{
end:	!all_events(safe) -> assert(all_events(safe))
}

/* Nothing waits for what never comes: if all stand still before this process could end, spin reports it. */
active proctype no_deadlock()
{
	all_events(finished);
end:	!all_events(finished) -> assert(all_events(finished)) /* and it stays so */
}

/* Every event is settled and confirmed in the end, and every parcel is sent or dead. */
ltl settled_in_the_end { <> all_events(finished) }

/* ---- the service, and the ends of claims ---- */

inline no_lease(e, k) {
	each_replica {
		if
		:: E.at[i].lease[k].handle == current -> E.at[i].lease[k].handle = stale
		:: else
		fi
	}
}

inline service_confirms(e, k) {
	E.queue[k] = confirmed;
	no_lease(e, k);
	if
	:: all_copies(e, CONFIRMED) -> /* nobody will ask for what is remembered: fewer states without it */
		E.mark = 0;
		each_replica {
			E.at[i].remembered = 0;
			each_sink { E.at[i].memory[j] = 0 }
		}
	:: else
	fi
}

#if REPLICAS == 1
#define HELD(e, k) (event[e].at[0].lease[k].handle == current)
#else
#define HELD(e, k) (event[e].at[0].lease[k].handle == current || event[e].at[1].lease[k].handle == current)
#endif

/* A lease ends, which is trouble when somebody works under it; and a claim, which is extended while its send goes on. */
#define LEASE_ENDS(k) \
	:: atomic { E.queue[k] == leased && !HELD(e, k) -> E.queue[k] = ready; done } \
	:: atomic { E.queue[k] == leased && HELD(e, k) && trouble > 0 -> trouble--; E.queue[k] = ready; no_lease(e, k); done }
#define CLAIM_ENDS(s) \
	:: atomic { E.parcel[s].claimedBy == GONE && !broken(forget_claim) -> E.parcel[s].claimedBy = NOBODY; done } \
	:: atomic { E.parcel[s].claimedBy != GONE && E.parcel[s].claimedBy != NOBODY && trouble > 0 -> \
		trouble--; E.parcel[s].claimedBy = NOBODY; done }

proctype time_passes(byte e)
{
end:	do
	LEASE_ENDS(0)
#if COPIES == 2
	LEASE_ENDS(1)
#endif
	CLAIM_ENDS(0)
#if SINKS == 2
	CLAIM_ENDS(1)
#endif
	od
}

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
	:: all_sinks(e, TRIED) && some_sink(e, IS_ERR) && trouble > 0 -> trouble--; park(); unsettled() /* it is, and nobody is told */
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

/* ---- a replica ---- */

#define COPY(k) \
	:: atomic { E.queue[k] == ready -> pull(k); done } \
	:: atomic { AT.state == settled && AT.lease[k].handle != none -> confirm(k); done } \
	:: atomic { AT.state == settled && AT.lease[k].older -> confirm_older(k); done }
#define SINK(s) \
	:: atomic { AT.state == working && AT.result[s] == target -> send(s); done } \
	:: atomic { E.parcel[s].state == waiting && E.parcel[s].claimedBy == NOBODY && AT.lane[s] == idle -> \
		claim(s); done } \
	:: atomic { AT.lane[s] == inFlight -> attempt(s); done } \
	:: atomic { AT.lane[s] == completed -> AT.lane[s] = idle; complete(s); done }

/* All that can happen to an event at a replica. */
proctype relay(byte r, e)
{
end:	do
	COPY(0)
#if COPIES == 2
	COPY(1)
#endif
	SINK(0)
#if SINKS == 2
	SINK(1)
#endif
	:: atomic { AT.remembered -> AT.remembered = 0; E.mark = 0; done } /* code: relay/hand.go: expire */
	od
}

/* ---- handles that are confirmed in one call ---- */

#define IN_BATCH(e, k) (event[e].at[r].state == settled && event[e].at[r].lease[k].handle != none && !event[e].at[r].lease[k].alone)
#define IS_STALE(e, k) (IN_BATCH(e, k) && event[e].at[r].lease[k].handle == stale)
#if COPIES == 1
#define in_batch(e)  (IN_BATCH(e, 0))
#define is_stale(e)  (IS_STALE(e, 0))
#else
#define in_batch(e)  (IN_BATCH(e, 0) + IN_BATCH(e, 1))
#define is_stale(e)  (IS_STALE(e, 0) || IS_STALE(e, 1))
#endif
#if EVENTS == 2
#define batch        (in_batch(0) + in_batch(1))
#define one_is_stale (is_stale(0) || is_stale(1))
#else
#define batch        (in_batch(0) + in_batch(1) + in_batch(2))
#define one_is_stale (is_stale(0) || is_stale(1) || is_stale(2))
#endif

/* code: relay/confirm.go: gather, run, confirm */
inline confirm_batch() {
	if
	:: !one_is_stale -> carried_out = 1; answer = success
	:: one_is_stale -> carried_out = 0; answer = refused /* as a whole */
	:: one_is_stale -> carried_out = 1; answer = refused /* but the others are confirmed */
	:: one_is_stale -> carried_out = 1; answer = success /* the stale one is passed over */
	:: trouble > 0 -> lost_reply()
	fi;
	for (e : 0 .. EVENTS-1) {
		for (k : 0 .. COPIES-1) {
			if
			:: IN_BATCH(e, k) ->
				if
				:: carried_out && LEASE.handle == current -> service_confirms(e, k)
				:: else
				fi;
				if
				:: answer == refused -> LEASE.alone = !broken(batch_not_split)
				:: answer == no_answer -> LEASE.unanswered = 1
				:: answer == success || answer == failure -> resolve(k, answer == success)
				fi
			:: else
			fi
		}
	}
	e = 0;
	k = 0
}

proctype confirmer(byte r)
{
	byte e, k;
end:	do
	:: atomic { batch > 1 -> confirm_batch(); done }
	od
}

/* ---- the process ---- */

/* What is in memory is gone. */
inline lost() {
	for (e : 0 .. EVENTS-1) {
		AT.state = absent;
		AT.leases = 0;
		AT.failed_lease = 0;
		AT.remembered = 0;
		each_copy {
			AT.lease[i].handle = none;
			AT.lease[i].older = 0;
			AT.lease[i].unanswered = 0;
			AT.lease[i].alone = 0
		}
		each_sink {
			AT.result[j] = target;
			AT.memory[j] = 0;
			AT.lane[j] = idle;
			if
			:: E.parcel[j].claimedBy == MINE -> E.parcel[j].claimedBy = GONE
			:: else
			fi;
			if
			:: broken(park_not_durable) -> E.parcel[j].state = nothing
			:: else
			fi
		}
	}
	e = 0
}

/* code: relay/relay.go: run; relay/marks.go: keepMarks, load; relay/hand.go: restore */
proctype program(byte r)
{
	byte e;
end:	do
	:: atomic { bad_luck;
		lost();
		for (e : 0 .. EVENTS-1) { AT.remembered = E.mark }
		e = 0; done }
	od
}

init {
	byte r, e;
	atomic {
		c_code { way = from_environment("BROKEN", 0); troubles = from_environment("TROUBLE", 1); };
		trouble = troubles;
		for (e : 0 .. EVENTS-1) {
			run time_passes(e);
			for (r : 0 .. REPLICAS-1) { run relay(r, e) }
		}
		for (r : 0 .. REPLICAS-1) {
			run confirmer(r);
			run program(r)
		}
	}
}
