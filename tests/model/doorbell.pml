/*
 * Doorbell: when does a client ring, and may the daemon sleep?
 *
 * Models lib/lane.h with the client's side of it and the daemon's sleep: the
 * return ring up to its watermark, the grant ring down to its low-water mark,
 * SLEEPING, and EAGER, which is switched on in every lane when somebody starts
 * to wait for a slot. HUNGRY is switched on in the same way.
 *
 * Everybody has a store buffer, a queue, so that a load may overtake the stores
 * before it. An atomic exchange orders nothing here but itself, as acquire and
 * release do on a weak machine. Those stores of the daemon are made at once that
 * could only make a client ring too often by being late.
 *
 * Properties, each looked at when nothing can move any more:
 *	while somebody waits no record is unread, and no free slot idles;
 *	a lane has less than a watermark of unread records;
 *	a grant ring at its low-water mark means that no slot is free.
 *
 * Left out: the entries (a tail is stored with release, after its entry); rings
 * that wrap or are full; lanes that come and go; loads that overtake loads.
 */
#ifndef RECORDS
#define RECORDS 2 /* that each client publishes */
#endif
#ifndef WAITS
#define WAITS 2
#endif
#ifndef TAKERS
#define TAKERS 1 /* clients that take grants */
#endif
#define CLIENTS	  2
#define WATERMARK 2
#define LOW	  0
#define GRANTED	  1 /* at the start, to each client */

/* The words of a lane. */
#define TAIL(c)	    (c) /* return ring: published by the client */
#define HEAD(c)	    (2 + (c)) /* return ring: read by the daemon */
#define GIVEN(c)    (4 + (c)) /* tail of the grant ring */
#define TAKEN(c)    (6 + (c)) /* head of the grant ring */
#define SLEEPING(c) (8 + (c))
#define EAGER(c)    (10 + (c))
#define DAEMON	    CLIENTS

byte memory[12];
chan buffer[CLIENTS + 1] = [2] of { byte, byte }; /* word, value */

bool bell; /* an edge of the eventfd that the daemon has not seen */
bool request; /* a message on the socket: somebody wants to wait */
bool waiting; /* the daemon knows about it */
byte available; /* free slots */
byte head[CLIENTS]; /* the daemon's own */
byte given[CLIENTS]; /* the daemon's own */

#define store(who, word, value) buffer[who]!word, value
#define fence(who)		empty(buffer[who])

proctype store_buffers()
{
	byte word, value;
end:
	do
	:: atomic {
		buffer[0]?word, value ->
		memory[word] = value;
		word = 0;
		value = 0
	   }
	:: atomic {
		buffer[1]?word, value ->
		memory[word] = value;
		word = 0;
		value = 0
	   }
	:: atomic {
		buffer[DAEMON]?word, value ->
		memory[word] = value;
		word = 0;
		value = 0
	   }
	od
}

inline ring()
{
#ifndef NO_CLIENT_FENCE
	fence(me);
#endif
	atomic {
		if
		:: memory[SLEEPING(me)] -> memory[SLEEPING(me)] = 0; loud = true
		:: else
		fi
	}
	if
	:: loud -> atomic { bell = true; loud = false }
	:: else
	fi
}

proctype client(byte me)
{
	byte tail = 0, taken = 0;
	bool wanted = false, loud = false;

	do
	:: tail < RECORDS ->
#ifdef FLAG_FIRST
		wanted = memory[EAGER(me)];
#endif
		atomic { tail++; store(me, TAIL(me), tail) }
		wanted = wanted || tail - memory[HEAD(me)] >= WATERMARK;
#ifndef FLAG_FIRST
		wanted = wanted || memory[EAGER(me)];
#endif
		if
		:: wanted -> wanted = false; ring()
		:: else
		fi
	:: atomic {
		me < TAKERS && memory[GIVEN(me)] > taken ->
		taken++;
		store(me, TAKEN(me), taken)
	   }
		if
		:: memory[GIVEN(me)] - taken <= LOW -> ring()
		:: else
		fi
	:: break
	od
}

proctype waiter()
{
	byte n;

	do
	:: n < WAITS ->
		atomic { n++; request = true };
end:		(!request && !waiting)
	:: break
	od
}

#define eager() \
	store(DAEMON, EAGER(0), 1); store(DAEMON, EAGER(1), 1)
#define not_eager() \
	memory[EAGER(0)] = 0; memory[EAGER(1)] = 0
#define sleeping() \
	store(DAEMON, SLEEPING(0), 1); store(DAEMON, SLEEPING(1), 1)
#define not_sleeping() \
	memory[SLEEPING(0)] = 0; memory[SLEEPING(1)] = 0

/* A full fence of its own, and one in every client some time before its end. */
inline barrier()
{
	fence(DAEMON);
#ifndef NO_MEMBARRIER
	fence(0);
	fence(1)
#endif
}

inline sweep(c)
{
	atomic {
		if
		:: memory[TAIL(c)] > head[c] ->
			available = available + memory[TAIL(c)] - head[c];
			head[c] = memory[TAIL(c)];
			memory[HEAD(c)] = head[c]
		:: else
		fi
	}
}

#define low(c) (given[c] - memory[TAKEN(c)] <= LOW)

inline top_up(c)
{
	atomic {
		if
		:: available && low(c) ->
			available--;
			given[c]++;
			memory[GIVEN(c)] = given[c]
		:: else
		fi
	}
}

#define unread(c) (memory[TAIL(c)] > head[c])
#ifdef TAILS_ONLY
#define work(c) (unread(c))
#else
#define work(c) (unread(c) || (available && low(c)))
#endif

proctype daemon()
{
	bool more;
awake:
	do
	:: request ->
#ifdef BARRIER_FIRST
		barrier();
		atomic { request = false; waiting = true; eager() }
		fence(DAEMON)
#else
		atomic { request = false; waiting = true; eager() }
		barrier()
#endif
	:: else ->
		sweep(0);
		sweep(1);
		if
		:: waiting && available ->
			atomic {
				available--;
				waiting = false;
				not_eager()
			}
		:: else
		fi;
		top_up(0);
		top_up(1);
		atomic { sleeping() }
#ifndef NO_DAEMON_FENCE
		fence(DAEMON);
#endif
#ifndef NO_SECOND_LOOK
		more = work(0);
		more = more || work(1);
		if
		:: more -> fence(DAEMON);
			atomic { more = false; not_sleeping() }; goto awake
		:: else
		fi;
#endif
end:
		atomic {
			(bell || request) && fence(DAEMON) ->
			bell = false;
			not_sleeping()
		}
	od
}

proctype at_rest()
{
	bool waiter_served, watermark_kept, grants_topped_up;

	atomic {
		timeout;
		waiter_served = !waiting ||
		    !(unread(0) || unread(1) || available);
		assert(waiter_served);
		watermark_kept = memory[TAIL(0)] - head[0] < WATERMARK &&
		    memory[TAIL(1)] - head[1] < WATERMARK;
		assert(watermark_kept);
		grants_topped_up = !available || !(low(0) || low(1));
		assert(grants_topped_up)
	}
}

init
{
	atomic {
		given[0] = GRANTED;
		given[1] = GRANTED;
		memory[GIVEN(0)] = GRANTED;
		memory[GIVEN(1)] = GRANTED;
		run store_buffers();
		run client(0);
		run client(1);
		run waiter();
		run daemon();
		run at_rest()
	}
}
