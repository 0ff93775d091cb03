/*
 * Hand-off: records of one slot lie in several lanes, and the daemon applies
 * them in the order of their versions, whichever it finds first.
 *
 * Models send, share, receive and recall in lib/handoff.c with their claim words
 * (lib/lane.h), and the daemon's sweep over the return rings.
 *
 *	client	claim; record; only then does the ref leave. A receipt is taken
 *		from the claim at exactly the ref's version, then published
 *	daemon	reads each record once; applies what matches the ledger, refuses
 *		what is behind it, parks what is ahead. Among records of one slot
 *		and one version in one lane it keeps their order, among others
 *		none. Whatever it applies may let parked ones go. What is still
 *		ahead after one whole sweep that began after it was read is bogus
 *
 * Properties: of all who present a ref as many win as there are receipts; no
 * record of an honest client is refused; what the ledger calls free is nobody's;
 * at rest the ledger says what the clients believe, and each of its receipts can
 * still be taken.
 *
 * Left out: the second look at the claim (revoke.pml) and the grants that follow
 * a free (grants.pml); the daemon's death; rings that wrap; a hostile client that
 * writes claims or guesses a ref: it gets what the ref is worth, like any bearer.
 */
#ifndef STEPS
#define STEPS 3 /* sends and shares, of all clients */
#endif
#ifndef COPIES
#define COPIES 1 /* refs of sent slots that reach both the others */
#endif
#ifndef RECALLS
#define RECALLS 1
#endif
#define CLIENTS 3
#define SLOTS	2
#define LANE	3 /* records of one client, at most */
#define AT(c, i)     ((c) * LANE + (i))
#define HAS(c, s)    ((c) * SLOTS + (s))
#define NEVER	200 /* a version no slot gets */

/* The ledger. */
mtype = { is_free, is_held, is_in_flight, is_shared };
mtype state[SLOTS];
byte version[SLOTS], holder[SLOTS]; /* the sender, in flight */
byte receipts[SLOTS], row[SLOTS];
/* shared: open, and who has it */

/* Claim words. */
byte claim_version[SLOTS], claim_open[SLOTS];

/* Lanes; done, old and read are the daemon's own. */
mtype = { send, share, receive, recall, free };
mtype operation[CLIENTS * LANE];
byte slot[CLIENTS * LANE], at_version[CLIENTS * LANE];
byte tail[CLIENTS], read[CLIENTS];
bool done_with[CLIENTS * LANE], old[CLIENTS * LANE];

/* What clients believe. */
#define ALONE	1
#define TOGETHER 2
byte mine[CLIENTS * SLOTS], mine_at[CLIENTS * SLOTS];
chan inbox[CLIENTS] = [3] of { byte, byte, byte }; /* slot, version, how */
byte steps, copies, recalls;

#ifdef HOSTILE
#define honest(c) ((c) != 0)
#else
#define honest(c) true
#endif
#define alone(s) \
	((mine[HAS(0, s)] == ALONE) + (mine[HAS(1, s)] == ALONE) + \
	    (mine[HAS(2, s)] == ALONE))
#define nobodys(s) \
	((mine[HAS(0, s)] == 0 || !honest(0)) && mine[HAS(1, s)] == 0 && \
	    mine[HAS(2, s)] == 0)

inline publish(what, s, v)
{
	operation[AT(me, tail[me])] = what;
	slot[AT(me, tail[me])] = s;
	at_version[AT(me, tail[me])] = v;
	tail[me]++
}

proctype client(byte me)
{
	byte s, v, how, n;
#ifdef HOSTILE
	bool lied = honest(me);
#endif

end:
	do
#ifdef HOSTILE
	:: d_step {
		!lied && tail[me] < LANE ->
		lied = true;
		publish(receive, 0, NEVER)
	   }
	:: d_step {
		!lied && tail[me] < LANE ->
		lied = true;
		publish(free, 1, NEVER)
	   }
#endif
	/* Send or share. */
	:: atomic {
		steps < STEPS && tail[me] < LANE &&
		    (mine[HAS(me, 0)] == ALONE || mine[HAS(me, 1)] == ALONE) ->
		steps++;
		if
		:: mine[HAS(me, 0)] == ALONE -> s = 0
		:: mine[HAS(me, 1)] == ALONE -> s = 1
		fi;
		v = mine_at[HAS(me, s)];
		if
		:: how = ALONE
#ifndef NO_SHARE
		:: how = TOGETHER
#endif
		fi;
		claim_version[s] = v + 1;
		claim_open[s] = how
	   }
		if
		:: how == ALONE ->
			d_step {
				publish(send, s, v);
				mine[HAS(me, s)] = 0;
				mine_at[HAS(me, s)] = v + 1
			}
			atomic {
				if
				:: inbox[(me + 1) % 3]!s, v + 1, how
				:: inbox[(me + 2) % 3]!s, v + 1, how
				:: copies < COPIES ->
					copies++;
					inbox[(me + 1) % 3]!s, v + 1, how;
					inbox[(me + 2) % 3]!s, v + 1, how
				fi;
				s = 0; v = 0; how = 0
			}
		:: how == TOGETHER ->
			d_step {
				publish(share, s, v);
				mine[HAS(me, s)] = TOGETHER;
				mine_at[HAS(me, s)] = v + 1
			}
			atomic {
				inbox[(me + 1) % 3]!s, v + 1, how;
				inbox[(me + 2) % 3]!s, v + 1, how;
				s = 0; v = 0; how = 0
			}
		fi
	/* Recall what was sent or shared and is open still, in one step with its
	 * record: in between nobody could tell it from a receiver. */
	:: d_step {
		recalls < RECALLS && tail[me] < LANE && claim_open[0] > 0 &&
		    claim_version[0] == mine_at[HAS(me, 0)] &&
		    mine[HAS(me, 0)] != ALONE ->
		recalls++;
		n = claim_open[0];
		do
		:: n > 0 && tail[me] < LANE ->
			n--;
			claim_open[0] = claim_open[0] - 1;
			publish(recall, 0, claim_version[0]);
			if
			:: mine[HAS(me, 0)] == 0 -> mine[HAS(me, 0)] = ALONE
			:: else
			fi
		:: else -> break
		od;
		n = 0
	   }
	/* Receive. */
	:: atomic {
		tail[me] < LANE && nempty(inbox[me]) ->
		inbox[me]?s, v, how;
		if
		:: claim_version[s] == v && claim_open[s] > 0 &&
		    mine[HAS(me, s)] == 0 ->
			claim_open[s] = claim_open[s] - 1
		:: else -> how = 0
		fi
	   }
		d_step {
			if
			:: how > 0 ->
				publish(receive, s, v);
				mine[HAS(me, s)] = how;
				mine_at[HAS(me, s)] = v;
				assert(how == TOGETHER || alone(s) == 1)
			:: else
			fi;
			s = 0; v = 0; how = 0
		}
	:: d_step {
		tail[me] < LANE && mine[HAS(me, 0)] > 0 ->
		publish(free, 0, mine_at[HAS(me, 0)]);
		mine[HAS(me, 0)] = 0;
		mine_at[HAS(me, 0)] = 0
	   }
	:: d_step {
		tail[me] < LANE && mine[HAS(me, 1)] > 0 ->
		publish(free, 1, mine_at[HAS(me, 1)]);
		mine[HAS(me, 1)] = 0;
		mine_at[HAS(me, 1)] = 0
	   }
	od
}

/* Must it wait for another record of its lane? */
inline look_before(c, i)
{
	before = false;
	j = 0;
	do
	:: j < i ->
#ifdef PARK_LANE
		before = before || !done_with[AT(c, j)];
#else
		before = before || (!done_with[AT(c, j)] &&
			slot[AT(c, j)] == slot[AT(c, i)]
#ifndef ORDER_BY_SLOT
			&& at_version[AT(c, j)] == at_version[AT(c, i)]
#endif
		    );
#endif
		j++
	:: else -> j = 0; break
	od
}

inline change(to, by)
{
	state[s] = to;
	version[s] = version[s] + by;
	applied = true
}

#define is(what) (operation[AT(c, i)] == what)
#define holds(c, s) (state[s] == is_held && holder[s] == c)

/* Applies a record to the ledger if it matches. */
inline apply(c, i)
{
	applied = false;
	s = slot[AT(c, i)];
	if
#ifndef BY_STATE
	:: at_version[AT(c, i)] != version[s]
#endif
	:: else ->
		if
		:: is(send) && holds(c, s) -> change(is_in_flight, 1)
		:: is(share) && holds(c, s) ->
			change(is_shared, 1);
			receipts[s] = 2;
			row[s] = 1 << c
		:: is(receive) && state[s] == is_in_flight ->
			change(is_held, 0);
			holder[s] = c
		:: is(receive) && state[s] == is_shared && receipts[s] > 0 ->
			change(is_shared, 0); receipts[s] = receipts[s] - 1;
			row[s] = row[s] | (1 << c)
		:: is(recall) && state[s] == is_in_flight && holder[s] == c ->
			change(is_held, 0)
		:: is(recall) && state[s] == is_shared && receipts[s] > 0 ->
			change(is_shared, 0); receipts[s] = receipts[s] - 1
		:: is(free) && holds(c, s) -> change(is_free, 0)
		:: is(free) && state[s] == is_shared && (row[s] & (1 << c)) ->
			change(is_shared, 0); row[s] = row[s] & ~(1 << c)
		:: else
		fi;
		if
		:: state[s] == is_shared && receipts[s] == 0 && row[s] == 0 ->
			state[s] = is_free
		:: else
		fi;
		free_is_nobodys = !applied || state[s] != is_free || nobodys(s);
		assert(free_is_nobodys)
	fi
}

inline refuse(c, i)
{
	refused_a_liar = !honest(c);
	assert(refused_a_liar);
	done_with[AT(c, i)] = true;
	again = true
}

#ifdef BY_STATE
#define ahead(c, i) true
#else
#define ahead(c, i) (at_version[AT(c, i)] > version[s])
#endif

/* Goes over all that was read until nothing changes any more: the records of a
 * slot are looked at again when its word has changed. */
inline settle(judge)
{
	do
	:: again ->
		again = false;
		c = 0; i = 0;
		do
		:: c == CLIENTS -> break
		:: c < CLIENTS && i >= read[c] -> c++; i = 0
		:: c < CLIENTS && i < read[c] && done_with[AT(c, i)] -> i++
		:: c < CLIENTS && i < read[c] && !done_with[AT(c, i)] ->
			look_before(c, i);
			if
			:: !before ->
				apply(c, i);
				if
				:: applied ->
					done_with[AT(c, i)] = true;
					again = true
				:: !applied && !ahead(c, i) -> refuse(c, i)
				:: !applied && ahead(c, i) && judge && old[AT(c, i)] ->
					refuse(c, i)
				:: else
				fi
			:: else
			fi;
			i++
		od
	:: else -> break
	od;
	c = 0; i = 0; s = 0; applied = false; before = false;
	refused_a_liar = false; free_is_nobodys = false
}

inline sweep(l)
{
	d_step {
		if
		:: read[l] < tail[l] -> read[l] = tail[l]; again = true
		:: else
		fi;
		settle(false);
		skip
	}
}

/* What has been here for a whole sweep is judged. */
inline judge_parked()
{
	d_step {
#ifdef SAME_SWEEP
		grow_old();
#endif
		again = true;
		settle(true);
		grow_old();
		skip
	}
}

inline grow_old()
{
	do
	:: i < CLIENTS * LANE ->
		old[i] = (i % LANE < read[i / LANE] && !done_with[i]);
		i++
	:: else -> i = 0; break
	od
}

#define undone(c) \
	((tail[c] > 0 && !done_with[AT(c, 0)]) || \
	    (tail[c] > 1 && !done_with[AT(c, 1)]) || \
	    (tail[c] > 2 && !done_with[AT(c, 2)]))

proctype daemon()
{
	byte c, i, j, s;
	bool again, before, applied, refused_a_liar, free_is_nobodys;

end:
	do
	:: undone(0) || undone(1) || undone(2) ->
		sweep(0);
		sweep(1);
		sweep(2);
		judge_parked()
	od
}

#define believed(c, s) \
	(!honest(c) || \
	    ((mine[HAS(c, s)] == ALONE) == holds(c, s) && \
		(mine[HAS(c, s)] == TOGETHER) == \
		    (state[s] == is_shared && (row[s] & (1 << (c))) != 0) && \
		(mine[HAS(c, s)] == 0 || mine_at[HAS(c, s)] == version[s])))
#define takeable(s) \
	((state[s] != is_in_flight && state[s] != is_shared) || \
	    (claim_version[s] == version[s] && \
		claim_open[s] == (state[s] == is_shared -> receipts[s] : 1)))

proctype at_rest()
{
	bool ledger_agrees, none_stuck;

	atomic {
		timeout;
		ledger_agrees = believed(0, 0) && believed(1, 0) && believed(2, 0) &&
		    believed(0, 1) && believed(1, 1) && believed(2, 1);
		assert(ledger_agrees);
		none_stuck = takeable(0) && takeable(1);
		assert(none_stuck)
	}
}

init
{
	atomic {
		state[0] = is_held; holder[0] = 0; version[0] = 1;
		mine[HAS(0, 0)] = ALONE; mine_at[HAS(0, 0)] = 1;
		state[1] = is_held; holder[1] = 1; version[1] = 1;
		mine[HAS(1, 1)] = ALONE; mine_at[HAS(1, 1)] = 1;
		run client(0);
		run client(1);
		run client(2);
		run daemon();
		run at_rest()
	}
}
