/*
 * Revocation: the daemon takes back a slot that is in flight, while somebody
 * may be between taking the receipt and saying so.
 *
 * Models the claim word in lib/lane.h, receive and recall in lib/handoff.c, and
 * the daemon where it frees what is in flight (daemon/orphan.c): one slot, three
 * clients that send it, receive it, recall it, free it and are granted it again.
 * Refs are copied, so that two clients may hold the same one.
 *
 *	send	claim = (version + 1, open); publish SEND; the ref leaves
 *	receive	compare and swap open away at exactly this version; publish
 *		RECEIVE; look at the claim again: not as it was left? Ask the
 *		daemon, which drains the lanes and reads its ledger
 *	recall	the same, with RECALL
 *	daemon	compare and swap the claim of the version in its ledger to
 *		REVOKED; membarrier; drain every lane; still in flight at that
 *		version? Free at a higher one
 *
 * Clients have store buffers; a compare and swap empties its own first, as on
 * x86. The daemon stores at once.
 *
 * Properties: of all clients one at most believes that the slot is its own; what
 * is free is nobody's; an open claim is closed only by a receiver, the sender's
 * recall, or a revocation of that very version; at rest the ledger names whoever
 * believes to hold the slot.
 *
 * Left out: shares (every receipt is taken alike); clients that write claims they
 * should not, which cannot change the ledger; a receiver's death, which to the
 * daemon looks as if it had stopped before its record.
 */
#ifndef STEPS
#define STEPS 4 /* that clients begin, together */
#endif
#ifndef REVOCATIONS
#define REVOCATIONS 2
#endif
#define CLIENTS 3
#define LANE	4 /* records in a lane, at most */

/* The claim word. */
#define CLAIM(version, how) ((version) * 4 + (how))
#define TAKEN	0
#define OPEN	1
#define REVOKED 2
#define version_of(claim) ((claim) / 4)
byte claim;

/* Lanes: a record is a version and an operation. */
#define SEND	0
#define RECEIVE 1
#define RECALL	2
#define FREE	3
byte record[CLIENTS * LANE], tail[CLIENTS], head[CLIENTS];

/* The store buffers hold values for the claim, and tails. */
#define TO_CLAIM 0
#define TO_TAIL	 1
chan buffer[CLIENTS] = [3] of { bit, byte };

mtype = { is_free, is_held, is_in_flight };
mtype state = is_held;
byte version = 1, holder = 0; /* the sender, in flight */

byte mine[CLIENTS]; /* the version at which a client believes to hold the slot */
chan inbox[CLIENTS] = [2] of { byte };
byte steps;
bool claim_was_closed, believed_by_one;
short closed; /* a bit for each version whose claim was closed with good reason */
#define MOST 12 /* versions */

#define only(c) (mine[((c) + 1) % 3] == 0 && mine[((c) + 2) % 3] == 0)

proctype store_buffers()
{
	byte value;
end:
	do
	:: atomic { buffer[0]?TO_CLAIM, value -> claim = value; value = 0 }
	:: atomic { buffer[1]?TO_CLAIM, value -> claim = value; value = 0 }
	:: atomic { buffer[2]?TO_CLAIM, value -> claim = value; value = 0 }
	:: atomic { buffer[0]?TO_TAIL, value -> tail[0] = value; value = 0 }
	:: atomic { buffer[1]?TO_TAIL, value -> tail[1] = value; value = 0 }
	:: atomic { buffer[2]?TO_TAIL, value -> tail[2] = value; value = 0 }
	od
}

inline publish(operation, v)
{
	atomic {
		assert(next < LANE);
		record[me * LANE + next] = CLAIM(v, operation);
		next++;
		buffer[me]!TO_TAIL, next
	}
}

/* Takes the claim away if it is open at this version. */
inline take(v)
{
	atomic {
		empty(buffer[me]) ->
		if
		:: claim == CLAIM(v, OPEN) ->
			claim = CLAIM(v, TAKEN);
			closed = closed | (1 << v);
			ok = true
		:: else -> ok = false
		fi
	}
}

#define matches(c, v) (state == is_held && holder == (c) && version == (v))

inline free_slot(v)
{
	believed_by_one = mine[0] == 0 && mine[1] == 0 && mine[2] == 0;
	assert(believed_by_one);
	believed_by_one = false;
	state = is_free;
	version = v
}

inline apply(c, operation, v)
{
	if
	:: operation == SEND && matches(c, v) -> state = is_in_flight; version++
	:: operation == RECEIVE && state == is_in_flight && version == v ->
		state = is_held;
		holder = c
	:: operation == RECALL && state == is_in_flight && version == v && holder == c ->
		state = is_held
	:: operation == FREE && matches(c, v) -> free_slot(version)
	/* The receiver, or the sender who recalled, came too late and will be told. */
	:: else ->
		assert((operation == RECEIVE || operation == RECALL) && version > v)
	fi
}

#define first(c) record[(c) * LANE + head[c]]

/* What was published in one lane and applies, or is behind the ledger. */
inline drain_one(c)
{
	do
	:: head[c] < tail[c] && version_of(first(c)) <= version ->
		apply(c, first(c) % 4, version_of(first(c)));
		record[c * LANE + head[c]] = 0;
		head[c]++
	:: else -> break
	od
}

/* Each round may bring what another lane waits for. */
inline drain()
{
	d_step {
		drain_one(0); drain_one(1); drain_one(2);
		drain_one(0); drain_one(1); drain_one(2);
		drain_one(0); drain_one(1); drain_one(2);
		skip
	}
}

/* What a client holds is nobody else's; the ledger may lag, but not be ahead. */
inline believe(v)
{
	believed_by_one = only(me) && version <= v;
	assert(believed_by_one);
	believed_by_one = false;
	mine[me] = v
}

/* After the record: is it so? The answer comes by a message, behind the lane. */
inline confirm(v)
{
#ifdef NO_SECOND_LOOK
	ok = true;
#else
#ifdef REVOKED_ONLY
	ok = (claim % 4 != REVOKED);
#else
	ok = (claim == CLAIM(v, TAKEN));
#endif
	if
	:: !ok -> atomic { empty(buffer[me]) -> drain(); ok = matches(me, v) }
	:: else
	fi;
#endif
	d_step {
		if
		:: ok -> believe(v)
		:: else
		fi
	}
}

proctype client(byte me)
{
	byte next, v, sent;
	bool ok;

end:
	do
	:: atomic { inbox[me]?v ->
		if
		:: mine[me] > 0 -> v = 0 /* a second ref of what it holds */
		:: else
		fi }
		if
		:: v > 0 ->
			take(v);
			if
			:: ok -> publish(RECEIVE, v); confirm(v)
			:: else ->
				d_step {
					claim_was_closed = (closed & (1 << v)) != 0;
					assert(claim_was_closed);
					claim_was_closed = false
				}
			fi
		:: else
		fi;
		atomic { v = 0; ok = false }
	:: atomic { mine[me] > 0 && steps < STEPS -> steps++; v = mine[me] }
		if
		:: buffer[me]!TO_CLAIM, CLAIM(v + 1, OPEN);
			atomic { mine[me] = 0; publish(SEND, v); sent = v + 1 }
			/* A system call carries the ref: the buffer is empty. */
			atomic {
				empty(buffer[me]);
				inbox[(me + 1) % 3]!sent;
				if
				:: inbox[(me + 2) % 3]!sent
				:: true
				fi;
				v = 0
			}
		:: atomic { mine[me] = 0; publish(FREE, v); v = 0 }
		fi
	:: atomic {
		sent > 0 && mine[me] == 0 && steps < STEPS ->
		steps++;
		v = sent;
		sent = 0
	   }
		take(v);
		if
		:: ok ->
			publish(RECALL, v);
#ifdef RECALL_NO_LOOK
			d_step { believe(v) }
#else
			confirm(v)
#endif
		:: else
		fi;
		atomic { v = 0; ok = false }
	od
}

#define published (tail[0] > head[0] || tail[1] > head[1] || tail[2] > head[2])

proctype daemon()
{
	byte n, v;

end:
	do
	:: atomic { published -> drain() }
	:: atomic { state == is_free && version + 3 < MOST && steps < STEPS ->
		/* Granted again, by way of a grant ring. */
		version++;
		state = is_held;
		if
		:: holder = 0
		:: holder = 1
		fi;
		mine[holder] = version }
	:: atomic { n < REVOCATIONS && state == is_in_flight -> n++; v = version }
		atomic {
#ifdef BLIND
			closed = closed | (1 << v);
			claim = CLAIM(v, REVOKED)
#else
			if
			:: version_of(claim) == v ->
				closed = closed | (1 << v);
				claim = CLAIM(v, REVOKED)
			:: else
			fi
#endif
		}
#ifndef NO_MEMBARRIER
		empty(buffer[0]);
		empty(buffer[1]);
		empty(buffer[2]);
#endif
		atomic {
			drain();
			if
			:: state == is_in_flight && version == v -> free_slot(v + 1)
			:: else
			fi;
			v = 0
		}
	od
}

#define believes(c) (mine[c] == 0 || matches(c, mine[c]))

proctype at_rest()
{
	bool ledger_agrees;

	atomic {
		timeout;
		ledger_agrees = believes(0) && believes(1) && believes(2) &&
		    (state != is_held || mine[holder] == version);
		assert(ledger_agrees)
	}
}

init
{
	atomic {
		mine[0] = 1;
		run store_buffers();
		run client(0);
		run client(1);
		run client(2);
		run daemon();
		run at_rest()
	}
}
