/*
 * Magazine: a thread's slots at hand, and how the daemon gets them back from a
 * thread that may be idle for ever.
 *
 * Models the magazine in lib/lane.h, the owner's side of it in the library, and
 * the daemon that takes it away when slots are short. HUNGRY makes the owner's
 * frees bypass the magazine.
 *
 *	owner	BUSY = 1; NOTICE changed? drain; use the magazine, or go past it
 *		if it may not be used yet; BUSY = 0 (release); NOTICE changed?
 *		BUSY = 1; drain; BUSY = 0
 *	drain	exchange each ref with 0 and publish FREE for what came out;
 *		COUNT = 0; DONE equals NOTICE (acquire)? it may be used again
 *	daemon	HUNGRY = 1 if so; NOTICE++; membarrier; BUSY? leave it, else
 *		exchange each ref with 0; DONE = NOTICE (release); load the lane's tail
 *		again, and only behind its records free what was taken
 *
 * The owner is BUSY while it drains: a daemon that finds it so may leave the
 * magazine, since nothing is put into it before the next look at NOTICE; and a
 * signal handler that allocates is found out there as well.
 *
 * The owner has a store buffer from which a store may leave before older ones
 * to other words, unless it is a release; so the model also covers machines that
 * do not keep the order of stores. The daemon stores at once: the barrier that
 * follows NOTICE is also its own.
 *
 * Properties: a slot is freed once, and only when the ledger says that the owner
 * holds it; what is free is not in the owner's hands; at rest every slot is in
 * one place, and in none of a magazine while somebody hungers.
 *
 * Left out: loads that overtake loads; more than one magazine (they share NOTICE
 * and DONE and nothing else); versions, and what they would catch; a hostile
 * owner, which can only lie about what it holds itself.
 */
#ifndef OPERATIONS
#define OPERATIONS 4
#endif
#ifndef NOTICES
#define NOTICES 2
#endif
#define SLOTS  2
#define PLACES 2

/* The words the owner stores. */
#define BUSY   0
#define COUNT  1
#define TAIL   2 /* of the return ring */
#define REF(i) (3 + (i)) /* slot + 1, or 0 */
#define WORDS  5
byte memory[WORDS];

/* The words the daemon stores. */
byte notice, finished; /* DONE: the name is taken by spin */
bool hungry;

/* The return ring: long enough here that it does not wrap. */
#define RECORDS 12
#define FREE	0
#define RECEIVE 4
byte record[RECORDS]; /* what + slot */
byte head;

mtype = { is_free, is_held, is_in_flight };
mtype ledger[SLOTS];
bool in_hand[SLOTS]; /* of the owner's program */
bool slot_at_hand, given_to_one, freed_by_holder; /* properties */

/* The owner's store buffer, oldest first. */
#define DEPTH 3
byte word[DEPTH], value[DEPTH], stores;

#define may_not_pass(i) \
	(word[i] == TAIL || (word[i] == BUSY && value[i] == 0 && !RELAXED))
#ifdef BUSY_RELAXED
#define RELAXED 1
#else
#define RELAXED 0
#endif
#define settled(w) \
	(!(stores > 0 && word[0] == (w)) && !(stores > 1 && word[1] == (w)) && \
	    !(stores > 2 && word[2] == (w)))

/* Takes the store at i out of the buffer. */
inline commit(i)
{
	memory[word[i]] = value[i];
	if
	:: i < 1 -> word[0] = word[1]; value[0] = value[1]
	:: else
	fi;
	if
	:: i < 2 -> word[1] = word[2]; value[1] = value[2]
	:: else
	fi;
	word[2] = 0;
	value[2] = 0;
	stores--
}

proctype store_buffer()
{
end:
	do
	:: d_step { stores > 0 -> commit(0) }
	:: d_step {
		stores > 1 && word[1] != word[0] && !may_not_pass(1) ->
		commit(1)
	   }
	:: d_step {
		stores > 2 && word[2] != word[0] && word[2] != word[1] &&
		    !may_not_pass(2) ->
		commit(2)
	   }
	od
}

inline store(w, v)
{
	d_step {
		stores < DEPTH ->
		word[stores] = w;
		value[stores] = v;
		stores++
	}
}

/* The owner sees its own stores. */
inline load(w, to)
{
	d_step {
		to = memory[w];
		if
		:: stores > 0 && word[0] == w -> to = value[0]
		:: else
		fi;
		if
		:: stores > 1 && word[1] == w -> to = value[1]
		:: else
		fi;
		if
		:: stores > 2 && word[2] == w -> to = value[2]
		:: else
		fi
	}
}

inline take(w, to)
{
#ifdef PLAIN_TAKE
	to = memory[w];
	memory[w] = 0
#else
	d_step { to = memory[w]; memory[w] = 0 }
#endif
}

inline publish(what)
{
	d_step { assert(tail < RECORDS); record[tail] = what; tail++ }
	store(TAIL, tail)
}

inline drain(noticed)
{
	load(COUNT, count);
	do
	:: count > 0 ->
		count--;
		settled(REF(count));
		take(REF(count), ref);
		if
		:: ref > 0 -> publish(FREE + ref - 1); ref = 0
		:: else
		fi
	:: else -> break
	od;
	store(COUNT, 0);
	if
#ifdef EARLY_RESUME
	:: true -> seen = noticed
#else
	:: finished == noticed -> seen = noticed
	:: else
#endif
	fi
}

/* A slot comes into the program's hands: it may be nobody else's. */
inline hand_out(s)
{
	d_step {
		given_to_one = !in_hand[s] && ledger[s] != is_free;
		assert(given_to_one);
		given_to_one = false;
		in_hand[s] = true
	}
}

/* A batch of one from the grant ring. */
inline grant(s)
{
	d_step {
		if
		:: ledger[s] == is_free -> ledger[s] = is_held; in_hand[s] = true
		:: else
		fi
	}
}

inline allocate()
{
	load(COUNT, count);
	if
	:: count > 0 ->
		load(REF(count - 1), ref);
		d_step {
			slot_at_hand = ref > 0;
			assert(slot_at_hand);
			slot_at_hand = false
		}
		store(COUNT, count - 1);
		hand_out(ref - 1);
		ref = 0;
		count = 0
	:: else
	fi
}

inline give_back(s)
{
	in_hand[s] = false;
	load(COUNT, count);
	if
	:: usable && !hungry && count < PLACES ->
		store(REF(count), s + 1);
		store(COUNT, count + 1)
	:: else -> publish(FREE + s)
	fi;
	count = 0
}

proctype owner()
{
	byte seen, tail, count, ref, look, n, s;
	bool usable, received;

	do
	:: n < OPERATIONS && !received -> n++;
		received = true;
		publish(RECEIVE + 1);
		hand_out(1)
	:: n < OPERATIONS ->
		n++;
		store(BUSY, 1);
		look = notice;
		if
		:: look != seen -> drain(look)
		:: else
		fi;
		usable = (look == seen);
		if
		:: usable -> allocate()
		:: in_hand[0] -> give_back(0)
		:: in_hand[1] -> give_back(1)
		:: ledger[0] == is_free && !hungry -> grant(0)
		:: else
		fi;
		store(BUSY, 0);
#ifndef NO_LAST_LOOK
		look = notice;
		if
		:: look != seen -> store(BUSY, 1); drain(look); store(BUSY, 0)
		:: else
		fi;
#endif
		usable = false;
		look = 0
	:: break
	od
}

/* A FREE from the owner, by record or by what was taken from its magazine. */
inline free(s)
{
	d_step {
		freed_by_holder = ledger[s] == is_held && !in_hand[s];
		assert(freed_by_holder);
		freed_by_holder = false;
		ledger[s] = is_free
	}
}

inline sweep()
{
	do
	:: head < memory[TAIL] ->
		if
		:: record[head] < RECEIVE -> free(record[head])
		:: else ->
			assert(ledger[record[head] - RECEIVE] == is_in_flight);
			ledger[record[head] - RECEIVE] = is_held
		fi;
		record[head] = 0;
		head++
	:: else -> break
	od
}

inline membarrier()
{
#ifdef NO_MEMBARRIER
	skip
#else
	stores == 0
#endif
}

proctype daemon()
{
	byte i, ref, taken[PLACES];
	bool busy;

end:
	do
	:: atomic { head < memory[TAIL] -> sweep() }
	:: atomic { hungry && notice < NOTICES -> hungry = false }
	:: notice < NOTICES ->
		if
		:: hungry = true
		:: true /* slots are wanted for another reason */
		fi;
		notice++;
#ifdef BUSY_BEFORE_BARRIER
		busy = memory[BUSY];
		membarrier();
#else
		membarrier();
		busy = memory[BUSY];
#endif
		i = (busy -> 0 : memory[COUNT]);
		do
		:: i > 0 ->
			i--;
			take(REF(i), ref);
#ifdef FREE_AT_ONCE
			if
			:: ref > 0 -> free(ref - 1)
			:: else
			fi
#else
			taken[i] = ref
#endif
		:: else -> break
		od;
		ref = 0;
		finished = notice;
		atomic {
			sweep();
			do
			:: i < PLACES ->
				if
				:: taken[i] > 0 -> free(taken[i] - 1)
				:: else
				fi;
				taken[i] = 0;
				i++
			:: else -> i = 0; break
			od
		}
		busy = false
	od
}

#define in_magazine(s) \
	((memory[COUNT] > 0 && memory[REF(0)] == (s) + 1) + \
	    (memory[COUNT] > 1 && memory[REF(1)] == (s) + 1))

proctype at_rest()
{
	bool one_place, none_hoarded;

	atomic {
		timeout;
		one_place = in_hand[0] + (ledger[0] == is_free) + in_magazine(0) == 1 &&
		    in_hand[1] + (ledger[1] != is_held) + in_magazine(1) == 1;
		assert(one_place);
		none_hoarded = !hungry || in_magazine(0) + in_magazine(1) == 0;
		assert(none_hoarded)
	}
}

/* Slot 0 lies in the magazine, slot 1 is on its way to the owner. */
init
{
	atomic {
		ledger[0] = is_held;
		ledger[1] = is_in_flight;
		memory[REF(0)] = 1;
		memory[COUNT] = 1;
		run store_buffer();
		run owner();
		run daemon();
		run at_rest()
	}
}
