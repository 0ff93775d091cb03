/*
 * Grants: slots handed out ahead of need, taken by the client's threads, taken
 * back by the daemon, with the daemon killed at any step.
 *
 * Models the grant ring in lib/lane.h, the threads that take from it in the
 * library, and the daemon that fills it from a copy of its own (in the ledger's
 * object, so that it is there after a kill).
 *
 *	take	load head and tail; read the entries; compare and swap the head
 *	grant	copy; ledger word; clear the copy's next place; own tail; ring
 *		entry; tail. One place stays empty, so what is cleared is read
 *	take	compare and swap the head to the same index, CLOSED: no thread
 *	back	takes any more; free in the ledger what the copy names from there
 *		to the own tail; store the head, at the own tail and open
 *	start	a copy at the own tail that the ledger agrees with was a grant
 *		cut short: clear the next, move the own tail; a CLOSED head was a
 *		taking back cut short: free the rest, open; rewrite the entries
 *		from the copy; tail
 *
 * Properties: of what was granted every slot has one owner, a thread, a place of
 * the ring or the daemon; nobody takes what the ledger does not say is his.
 *
 * Left out: store buffers (threads meet in one compare and swap, the daemon's
 * stores are releases); more than one client; what a hostile client writes into
 * its head, which is checked against the own tail, and can only lose its slots.
 */
#ifndef GRANTS
#define GRANTS 5
#endif
#ifndef KILLS
#define KILLS 2
#endif
#ifndef TAKES
#define TAKES 4 /* of all threads, won or lost */
#endif
#ifndef THREADS
#define THREADS 2
#endif
#ifndef BACKS
#define BACKS 2
#endif
#define SLOTS	2
#define PLACES	3
#ifdef SMALL_INDEX
#define INDEXES 3
#else
#define INDEXES 60 /* more than are used: an index never comes back */
#endif
#define index(i)     ((i) % INDEXES)
#define between(a, b) (((b) + INDEXES - (a)) % INDEXES)

/* Of the daemon, and there after a kill. */
byte held[SLOTS]; /* ledger: the version the client holds, 0: free */
byte version[SLOTS];
byte copy_slot[PLACES], copy_version[PLACES]; /* slot + 1 */
byte own_tail;
byte records_read;

/* Shared with the client. */
byte ring_slot[PLACES], ring_version[PLACES];
byte tail;
byte head;
bool closed;
#define RECORDS 3 /* slots that threads give back */
byte freed_slot[RECORDS], freed_version[RECORDS], freed;

/* What threads believe. */
byte mine[2 * SLOTS];
#define nobodys(s) (mine[s] == 0 && mine[SLOTS + (s)] == 0)

byte kills, grants, takes, backs;

inline take_one(s, v)
{
	taken_is_granted = held[s] == v && nobodys(s);
	assert(taken_is_granted);
	taken_is_granted = false;
	mine[me * SLOTS + s] = v
}

inline give_back(s)
{
	freed_slot[freed] = s;
	freed_version[freed] = mine[me * SLOTS + s];
	freed++;
	mine[me * SLOTS + s] = 0
}

proctype thread(byte me)
{
	byte at, n, slots[2], versions[2];
	bool taken_is_granted;

end:
	do
	:: atomic {
		takes < TAKES && !closed && head != tail ->
		takes++;
		at = head;
		n = between(head, tail);
		if
		:: n > 1 -> n = 1
		:: true
		fi
	   }
		d_step {
			slots[0] = ring_slot[at % PLACES];
			versions[0] = ring_version[at % PLACES];
			if
			:: n > 1 ->
				slots[1] = ring_slot[(at + 1) % PLACES];
				versions[1] = ring_version[(at + 1) % PLACES]
			:: else
			fi
		}
		d_step {
			if
			:: head == at && !closed ->
				head = index(at + n);
				take_one(slots[0] - 1, versions[0]);
				if
				:: n > 1 -> take_one(slots[1] - 1, versions[1])
				:: else
				fi
			:: else
			fi;
			slots[0] = 0; slots[1] = 0; versions[0] = 0;
			versions[1] = 0; at = 0; n = 0
		}
	:: d_step { mine[me * SLOTS] > 0 && freed < RECORDS -> give_back(0) }
	:: d_step { mine[me * SLOTS + 1] > 0 && freed < RECORDS -> give_back(1) }
	od
}

inline may_be_killed()
{
	if
	:: kills < KILLS -> kills++; goto start
	:: true
	fi
}

/* What was there was granted one round ago, and may still be held: at start it
 * must not look like the grant that was cut short. */
inline clear_next()
{
#ifndef NOT_CLEARED
	d_step {
		copy_slot[(own_tail + 1) % PLACES] = 0;
		copy_version[(own_tail + 1) % PLACES] = 0
	}
#else
	skip
#endif
}

/* Frees in the ledger what the copy names from `at` to the own tail. */
inline free_unread()
{
	do
	:: at != own_tail ->
		d_step {
			s = copy_slot[at % PLACES] - 1;
			if
			:: held[s] == copy_version[at % PLACES] ->
				assert(nobodys(s));
				held[s] = 0
			:: else
			fi;
			s = 0;
			at = index(at + 1)
		}
		may_be_killed()
	:: else -> break
	od
}

inline take_back()
{
#ifdef NOT_CLOSED
	atomic { at = head; head = own_tail }
	may_be_killed();
	free_unread()
#else
	atomic { closed = true; at = head }
	may_be_killed();
	free_unread();
	atomic { head = own_tail; closed = false }
#endif
}

proctype daemon()
{
	byte s, at;

start:
	skip;
	d_step { s = 0; at = 0 }
	if
	:: copy_slot[own_tail % PLACES] > 0 &&
	    held[copy_slot[own_tail % PLACES] - 1] ==
		copy_version[own_tail % PLACES] ->
		clear_next();
		may_be_killed();
		own_tail = index(own_tail + 1)
	:: else
	fi;
	may_be_killed();
	if
	:: closed ->
		at = head;
		free_unread();
		atomic { head = own_tail; closed = false }
	:: else
	fi;
	at = head;
	do
	:: at != own_tail ->
		d_step {
			ring_slot[at % PLACES] = copy_slot[at % PLACES];
			ring_version[at % PLACES] = copy_version[at % PLACES];
			at = index(at + 1)
		}
	:: else -> at = 0; break
	od;
	may_be_killed();
	tail = own_tail;
end:
	do
	:: atomic {
		grants < GRANTS && between(head, own_tail) < PLACES - 1 &&
		    (held[0] == 0 || held[1] == 0) ->
		grants++;
		if
		:: held[0] == 0 -> s = 0
		:: held[1] == 0 -> s = 1
		fi;
		copy_slot[own_tail % PLACES] = s + 1;
		copy_version[own_tail % PLACES] = version[s] + 1
	   }
		may_be_killed();
		d_step { version[s]++; held[s] = version[s]; s = 0 }
		may_be_killed();
		clear_next();
		may_be_killed();
		own_tail = index(own_tail + 1);
		may_be_killed();
		d_step {
			at = (own_tail + INDEXES - 1) % PLACES;
			ring_slot[at] = copy_slot[at];
			ring_version[at] = copy_version[at];
			at = 0
		}
		may_be_killed();
		tail = own_tail
	:: backs < BACKS && head != own_tail -> backs++; take_back(); at = 0
	:: records_read < freed ->
		d_step {
			s = freed_slot[records_read];
			if
			:: held[s] == freed_version[records_read] ->
				assert(nobodys(s));
				held[s] = 0
			:: else
			fi;
			s = 0
		}
		may_be_killed();
		d_step {
			freed_slot[records_read] = 0;
			freed_version[records_read] = 0;
			records_read++
		}
	od
}

#define place_has(i, s) \
	(ring_slot[(i) % PLACES] == (s) + 1 && ring_version[(i) % PLACES] == held[s])
#define in_ring(s) \
	((head != tail && place_has(head, s)) + \
	    (between(head, tail) > 1 && place_has(head + 1, s)))
#define owners(s) \
	((held[s] == 0) + in_ring(s) + (mine[s] > 0 && mine[s] == held[s]) + \
	    (mine[SLOTS + (s)] > 0 && mine[SLOTS + (s)] == held[s]))

proctype at_rest()
{
	bool one_owner;

	atomic {
		timeout;
		one_owner = owners(0) == 1 && owners(1) == 1 && !closed;
		assert(one_owner)
	}
}

init
{
	atomic {
		run thread(0);
#if THREADS > 1
		run thread(1);
#endif
		run daemon();
		run at_rest()
	}
}
