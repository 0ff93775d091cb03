/*
 * Marks: which records of the return rings are done, when the daemon is killed
 * between applying one and marking it, or while it marks.
 *
 * Models the marks of two lanes (struct ledger_mirror, daemon/drain.c): a head,
 * below which all is done, and a bit for each place beyond it, for what was done
 * while an earlier record still waits for another lane. Of a hand-off there is
 * left that each version of slot 0 is moved on by one record, in whichever lane;
 * slot 1 is shared once, and two records take its receipts.
 *
 *	move	word; mark
 *	receipt	intent: the count as it is, then the index; count; mark; no intent
 *	mark	beyond the head: the bit. At the head: CLEARING = the old head;
 *		head, past all bits that follow; clear them; CLEARING = none
 *	start	CLEARING? clear the bits from there to the head. An intent whose
 *		count has changed was carried out: mark it, if it is not. Over all
 *		lanes, before anything is applied: a record whose word is just
 *		what it makes of it is done: mark it
 *
 * Properties: no record is refused; at rest each was applied, and once.
 *
 * Left out: what the records do to claims and clients (restart.pml, handoff.pml);
 * the redo record, which makes one step of the words of a share (ledger.h).
 */
#ifndef KILLS
#define KILLS 3
#endif
#ifndef MOVES
#define MOVES 3
#endif
#define PLACES	 3
#define RECEIPTS 2

/* A record: the version it finds, and the slot. */
#define RECORD(s, v) ((v) * 2 + (s))
#define SHARE	     RECORD(1, 0)
#define RECEIPT	     RECORD(1, 1)

/* There after a kill. */
byte version[2], open;
byte head[2], clearing[2]; /* 1 + the old head */
bool bit_of[2 * PLACES];
byte intent[2], before[2]; /* 1 + index; the count */

/* Shared with the clients. */
byte record[2 * PLACES], published[2], released[2];

byte kills, moves, shares, receipts;

#define place(c, i) ((c) * PLACES + (i) % PLACES)
#define room(c)	    (published[c] - released[c] < PLACES)

inline publish(c, what)
{
	record[place(c, published[c])] = what;
	published[c]++
}

proctype clients()
{
end:
	do
	:: d_step { moves < MOVES && room(0) ->
		publish(0, RECORD(0, moves)); moves++ }
	:: d_step { moves < MOVES && room(1) ->
		publish(1, RECORD(0, moves)); moves++ }
	:: d_step { shares < 1 && room(1) -> publish(1, SHARE); shares++ }
	:: d_step { shares == 1 && receipts < RECEIPTS && room(0) ->
		publish(0, RECEIPT); receipts++ }
	:: d_step { shares == 1 && receipts < RECEIPTS && room(1) ->
		publish(1, RECEIPT); receipts++ }
	od
}

inline may_be_killed()
{
	if
	:: kills < KILLS -> kills++; goto start
	:: true
	fi
}

#define is_done(c, i) ((i) < head[c] || bit_of[place(c, i)])
#define undone(c, i)  ((i) >= head[c] && (i) < published[c] && \
	!bit_of[place(c, i)])
#define what(c, i)    record[place(c, i)]
#define slot(c, i)    (what(c, i) % 2)
#define found(c, i)   (what(c, i) / 2)
#define now(c, i)     version[slot(c, i)]
#define fits(c, i) \
	(found(c, i) == now(c, i) && (what(c, i) != RECEIPT || open > 0))
#define ready(c, i)  (undone(c, i) && fits(c, i))
#define refuse(c, i) (undone(c, i) && !fits(c, i) && found(c, i) <= now(c, i))
#define shows(c, i) \
	(undone(c, i) && what(c, i) != RECEIPT && now(c, i) == found(c, i) + 1)

/* Clears the bits from j to the head. */
inline clear_bits()
{
	do
	:: j < to ->
#ifndef NEVER_CLEARED
		d_step { bit_of[place(l, j)] = false; j++ }
		may_be_killed()
#else
		j++
#endif
	:: else -> j = 0; break
	od
}

/* The record at the head is done, and those behind it that have a bit. */
inline move_head()
{
	d_step {
		to = head[l] + 1;
		do
		:: to < head[l] + PLACES && bit_of[place(l, to)] -> to++
		:: else -> break
		od;
		skip
	}
#if defined(BITS_FIRST)
	j = head[l];
	clear_bits();
	head[l] = to;
#elif defined(NO_CLEARING)
	d_step { j = head[l]; head[l] = to }
	may_be_killed();
	clear_bits();
#else
	clearing[l] = 1 + head[l];
	may_be_killed();
	d_step { j = head[l]; head[l] = to }
	may_be_killed();
	clear_bits();
	clearing[l] = 0;
#endif
	to = 0
}

inline mark()
{
	if
	:: i != head[l] -> bit_of[place(l, i)] = true
	:: else -> move_head()
	fi
}

inline apply()
{
	if
	:: what(l, i) == RECEIPT ->
#ifndef NO_INTENT
		before[l] = open;
		intent[l] = 1 + i;
		may_be_killed();
#endif
		open--;
		may_be_killed();
#ifdef INTENT_ENDS_FIRST
		intent[l] = 0;
		may_be_killed();
		mark()
#else
		mark();
		may_be_killed();
		intent[l] = 0
#endif
	:: else ->
		d_step {
			if
			:: what(l, i) == SHARE -> open = RECEIPTS
			:: else
			fi;
			now(l, i)++
		}
		may_be_killed();
		mark()
	fi
}

inline recover_clearing()
{
	if
	:: clearing[l] > 0 ->
		d_step { j = clearing[l] - 1; to = head[l] }
		clear_bits();
		clearing[l] = 0;
		to = 0
	:: else
	fi
}

inline recover_intent()
{
	if
	:: intent[l] > 0 ->
		i = intent[l] - 1;
		if
#ifdef MARK_AGAIN
		:: open != before[l] -> mark()
#else
		:: open != before[l] && !is_done(l, i) -> mark()
#endif
		:: else
		fi;
		may_be_killed();
		intent[l] = 0
	:: else
	fi
}

/* The records of lane l that its words show. */
inline recover_shown()
{
	i = head[l];
	do
	:: i < published[l] && shows(l, i) -> mark(); break
	:: i < published[l] && !shows(l, i) -> i++
	:: i == published[l] -> break
	od
}

proctype daemon()
{
	byte i, j, to;
	bit l;
	bool none_refused;

start:
	skip;
	d_step { i = 0; j = 0; to = 0; l = 0 }
	recover_clearing();
	l = 1;
	recover_clearing();
	l = 0;
	recover_intent();
	l = 1;
	recover_intent();
#ifndef AT_ITS_TURN
	l = 0;
	recover_shown();
	may_be_killed();
	l = 1;
	recover_shown();
#endif
	may_be_killed();
end:
	do
	:: d_step { released[0] != head[0] -> released[0] = head[0] }
	:: d_step { released[1] != head[1] -> released[1] = head[1] }
	:: atomic {
		if
		:: ready(0, head[0]) -> l = 0; i = head[0]
		:: ready(0, head[0] + 1) -> l = 0; i = head[0] + 1
		:: ready(0, head[0] + 2) -> l = 0; i = head[0] + 2
		:: ready(1, head[1]) -> l = 1; i = head[1]
		:: ready(1, head[1] + 1) -> l = 1; i = head[1] + 1
		:: ready(1, head[1] + 2) -> l = 1; i = head[1] + 2
		fi
	   }
		apply();
		may_be_killed();
		d_step { i = 0; l = 0 }
	:: atomic {
		refuse(0, head[0]) || refuse(0, head[0] + 1) ||
		    refuse(0, head[0] + 2) || refuse(1, head[1]) ||
		    refuse(1, head[1] + 1) || refuse(1, head[1] + 2) ->
#ifdef AT_ITS_TURN
		/* The one at the head, if its word is what it makes of it. */
		if
		:: shows(0, head[0]) -> l = 0; i = head[0]
		:: shows(1, head[1]) -> l = 1; i = head[1]
		:: else -> assert(none_refused)
		fi
	   }
		mark();
		d_step { i = 0; l = 0 }
#else
		assert(none_refused)
	   }
#endif
	od
}

proctype at_rest()
{
	bool applied_once;

	atomic {
		timeout;
		applied_once = head[0] == published[0] &&
		    head[1] == published[1] && version[0] == moves &&
		    open == (shares == 1 -> RECEIPTS - receipts : 0);
		assert(applied_once)
	}
}

init
{
	atomic {
		run clients();
		run daemon();
		run at_rest()
	}
}
