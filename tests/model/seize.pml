/*
 * Seize: the daemon takes slots out of a magazine, and is killed at it.
 *
 * Models magazine.h and lane_empty() in daemon/grants.c with what is noted in the
 * ledger's object. How owner and daemon keep out of each other's way is in
 * magazine.pml; here they act in turns, and it is about who has a slot when the
 * daemon is gone.
 *
 *	owner	as in magazine.pml, but takes by compare and swap of the ref with
 *		0, and leaves MARK alone
 *	daemon	NOTICE++; not BUSY? for each place: TAKING = place and ref; compare
 *		and swap the ref with MARK; had it? free it in the ledger;
 *		TAKING = none. DONE = NOTICE
 *	start	TAKING, and MARK in that place? Free it, if it is held under that
 *		ref; TAKING = none; only then DONE = NOTICE
 *
 * Properties: a slot is freed once, and by who holds it; what comes out of the
 * magazine is a slot; at rest every slot is in one place, and the magazine can be
 * used again.
 *
 * Left out: store buffers and barriers (magazine.pml); a second magazine.
 */
#ifndef KILLS
#define KILLS 3
#endif
#ifndef OPERATIONS
#define OPERATIONS 4
#endif
#ifndef NOTICES
#define NOTICES 2
#endif
#define PLACES	2
#define RECORDS 6

#define MARK	      1
#define REF(s, v)     (2 + (s) + 2 * (v)) /* a version is 1 at least */
#define slot_of(r)    ((r) % 2)
#define version_of(r) (((r) - 2) / 2)

/* There after a kill. */
byte held[2], version[2]; /* the version while held */
byte taking, taking_ref; /* 1 + place */
byte done;

/* Shared. */
byte place[PLACES], count;
bool busy;
byte notice, finished; /* DONE */
byte record[RECORDS], published; /* all are FREE */

byte granted; /* the grant ring */
byte in_hand[2]; /* the ref */
byte kills;

inline publish(r)
{
	d_step { assert(published < RECORDS); record[published] = r; published++ }
}

inline drain()
{
	n = count;
	do
	:: n > 0 ->
		n--;
		r = place[n];
		d_step {
			if
#ifdef TAKES_MARK
			:: r == MARK -> place[n] = 0; r = 0
#else
			:: r == MARK -> r = 0
#endif
			:: r > MARK && place[n] == r -> place[n] = 0
			:: else -> r = 0
			fi
		}
		if
		:: r > 0 -> publish(r); r = 0
		:: else
		fi
	:: else -> break
	od;
	count = 0;
	if
	:: finished == look -> seen = look
	:: else
	fi
}

inline allocate()
{
	n = count - 1;
	r = place[n];
	count = n;
	d_step {
		slot_at_hand = r > MARK && held[slot_of(r)] == version_of(r) &&
		    in_hand[slot_of(r)] == 0;
		assert(slot_at_hand);
		slot_at_hand = false;
		in_hand[slot_of(r)] = r;
		r = 0;
		n = 0
	}
}

inline take_grant()
{
	in_hand[slot_of(granted)] = granted;
	granted = 0
}

inline give_back(s)
{
	d_step { r = in_hand[s]; in_hand[s] = 0 }
	if
	:: usable && count < PLACES ->
		place[count] = r;
		count = count + 1
	:: else -> publish(r)
	fi;
	r = 0
}

proctype owner()
{
	byte seen, look, operations, n, r;
	bool usable, slot_at_hand;

	do
	:: operations < OPERATIONS ->
		operations++;
		busy = true;
		look = notice;
		if
		:: look != seen -> drain()
		:: else
		fi;
		usable = (look == seen);
		if
		:: usable && count > 0 -> allocate()
		:: in_hand[0] > 0 -> give_back(0)
		:: in_hand[1] > 0 -> give_back(1)
		:: d_step { granted > 0 -> take_grant() }
		:: else
		fi;
		busy = false;
		look = notice;
		if
		:: look != seen -> busy = true; drain(); busy = false
		:: else
		fi;
		d_step { usable = false; look = 0 }
	:: break
	od
}

inline may_be_killed()
{
	if
	:: kills < KILLS -> kills++; goto start
	:: true
	fi
}

inline free(r)
{
	d_step {
		freed_by_holder = held[slot_of(r)] == version_of(r) &&
		    in_hand[slot_of(r)] == 0;
		assert(freed_by_holder);
		freed_by_holder = false;
		held[slot_of(r)] = 0
	}
}

inline seize()
{
	ref = place[i];
	if
	:: ref > MARK ->
#if !defined(NOT_NOTED) && !defined(NOTED_LATE)
		taking_ref = ref;
		may_be_killed();
		taking = 1 + i;
		may_be_killed();
#endif
		d_step {
			if
#ifdef LEAVES_ZERO
			:: place[i] == ref -> place[i] = 0
#else
			:: place[i] == ref -> place[i] = MARK
#endif
			:: else -> ref = 0
			fi
		}
		may_be_killed();
#ifdef NOTED_LATE
		d_step { taking_ref = ref; taking = 1 + i }
		may_be_killed();
#endif
#ifdef ENDED_EARLY
		taking = 0;
		may_be_killed();
#endif
		if
		:: ref > 0 -> free(ref); may_be_killed()
		:: else
		fi;
		taking = 0
	:: else
	fi;
	ref = 0
}

inline finish()
{
	if
	:: taking > 0 && place[taking - 1] == MARK &&
	    held[slot_of(taking_ref)] == version_of(taking_ref) ->
		free(taking_ref);
		may_be_killed()
	:: else
	fi;
	taking = 0;
	may_be_killed()
}

proctype daemon()
{
	byte i, n, ref, notices;
	bool freed_by_holder;

start:
	skip;
	d_step {
		i = 0; n = 0; ref = 0;
		if
		:: done < published && held[slot_of(record[done])] == 0 &&
		    version[slot_of(record[done])] ==
			version_of(record[done]) -> done++
		:: else
		fi
	}
#ifdef DONE_FIRST
	finished = notice;
	finish();
#else
	finish();
#ifndef NEVER_DONE
	finished = notice;
#endif
#endif
	may_be_killed();
end:
	do
	:: done < published ->
		free(record[done]);
		may_be_killed();
		done++
	:: d_step {
		held[0] == 0 && granted == 0 ->
		version[0]++;
		held[0] = version[0];
		granted = REF(0, version[0])
	   }
	:: notices < NOTICES ->
		d_step { notices++; notice++ }
		may_be_killed();
		if
		:: busy
		:: else -> n = count
		fi;
		do
		:: i < n -> seize(); i++
		:: else -> break
		od;
		finished = notice;
		d_step { i = 0; n = 0 }
	od
}

#define in_magazine(s) \
	((count > 0 && place[0] == REF(s, held[s])) + \
	    (count > 1 && place[1] == REF(s, held[s])))
#define places(s) \
	((held[s] == 0) + (in_hand[s] > 0) + in_magazine(s) + \
	    (granted > 0 && slot_of(granted) == s))

proctype at_rest()
{
	bool one_place, usable_again;

	atomic {
		timeout;
		one_place = places(0) == 1 && places(1) == 1;
		assert(one_place);
		usable_again = finished == notice;
		assert(usable_again)
	}
}

/* Slot 0 lies in the magazine, slot 1 with the program. */
init
{
	atomic {
		version[0] = 1;
		held[0] = 1;
		place[0] = REF(0, 1);
		count = 1;
		version[1] = 1;
		held[1] = 1;
		in_hand[1] = REF(1, 1);
		run owner();
		run daemon();
		run at_rest()
	}
}
