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

#include "state.pml"

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
#include "steps.pml"

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
