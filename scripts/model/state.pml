/* Part of vodrelay.pml: the states, their order, and what is promised of them. */

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
