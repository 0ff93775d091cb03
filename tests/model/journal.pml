/*
 * Journal: slots that were asked for by message are given once, although the
 * daemon is killed at it and the answer is lost.
 *
 * Models ALLOC of one client, some of whose threads ask at the same time, and of
 * others who are granted slots meanwhile. Each request wants up to two slots, and
 * may have to wait, so that a later one is served first.
 *
 *	serve	journal: no slots; refs and tag; their number; then the words;
 *		answer
 *	start	of the journal there stays what the client holds under just that
 *		ref: the rest was not granted, and may be granted now to anybody,
 *		under that ref even to the same client
 *	resume	before the client asks again it is told what the journal has, and
 *		under which tag; if it still waits for that, this is the answer
 *
 * Properties: what is given to a thread is nobody else's; at rest no slot is held
 * that nobody was given.
 *
 * Left out: how grants come by themselves (restart.pml); an answer the daemon
 * could not write into the socket at once: it must be there before the next one's
 * journal is.
 */
#ifndef KILLS
#define KILLS 3
#endif
#ifndef REQUESTS
#define REQUESTS 2
#endif
#ifndef GRANTS
#define GRANTS 2 /* to others, and to the client by its lane */
#endif
#define SLOTS 3

#define REF(s, v)     ((s) + 1 + 4 * (v))
#define slot_of(r)    ((r) % 4 - 1)
#define version_of(r) ((r) / 4)

/* There after a kill. */
byte holder[SLOTS], version[SLOTS]; /* holder 0: free, 1: the client */
byte journal[2], tag, number;

/* Of the client: requests, and the answers in its socket. */
bool asked[REQUESTS], again[REQUESTS], answered[REQUESTS];
byte answer[2 * REQUESTS];
byte mine[SLOTS]; /* ref */
bool resumed = true;
byte kills, grants;

#define is_held(r) \
	((r) > 0 && holder[slot_of(r)] == 1 && version[slot_of(r)] == version_of(r))

inline give(r)
{
	if
	:: r > 0 ->
		given_to_one = is_held(r) && mine[slot_of(r)] == 0;
		assert(given_to_one);
		given_to_one = false;
		mine[slot_of(r)] = r
	:: else
	fi
}

/* A thread asks once. */
proctype thread(bit me)
{
	bool given_to_one;

	asked[me] = true;
end:
	d_step {
		answered[me] ->
		give(answer[2 * me]);
		give(answer[2 * me + 1]);
		asked[me] = false;
		answered[me] = false;
		again[me] = false;
		answer[2 * me] = 0;
		answer[2 * me + 1] = 0
	}
}

/* Slots are freed again; what comes of the record is in restart.pml. */
proctype frees()
{
	byte n;

end:
	do
	:: d_step { mine[0] > 0 && n < 2 -> n++; mine[0] = 0; holder[0] = 0 }
	:: d_step { mine[1] > 0 && n < 2 -> n++; mine[1] = 0; holder[1] = 0 }
	od
}

inline may_be_killed()
{
	if
	:: d_step {
		kills < KILLS ->
		kills++;
		resumed = false;
		again[0] = again[0] || (asked[0] && !answered[0]);
		again[1] = again[1] || (asked[1] && !answered[1])
	   } goto start
	:: true
	fi
}

/* A free slot, or none; wanted is the ref it would be granted by. */
inline pick(wanted)
{
	if
	:: holder[0] == 0 && journal[0] != REF(0, version[0] + 1) ->
		wanted = REF(0, version[0] + 1)
	:: holder[1] == 0 && journal[0] != REF(1, version[1] + 1) ->
		wanted = REF(1, version[1] + 1)
	:: holder[2] == 0 && journal[0] != REF(2, version[2] + 1) ->
		wanted = REF(2, version[2] + 1)
	fi
}

inline put_word(r)
{
	d_step {
		version[slot_of(r)] = version_of(r);
		holder[slot_of(r)] = 1
	}
	may_be_killed()
}

inline write_down(t)
{
	number = 0;
	may_be_killed();
	atomic {
		journal[0] = 0;
		journal[1] = 0;
		pick(journal[0]);
		n = 1
	}
	atomic {
		if
		:: pick(journal[1]); n = 2
		:: true
		fi
	}
	may_be_killed();
	tag = t;
	may_be_killed();
	number = n;
	may_be_killed()
}

inline reply(t)
{
	d_step {
		answer[2 * t] = (number > 0 && is_held(journal[0]) -> journal[0] : 0);
		answer[2 * t + 1] =
		    (number > 1 && is_held(journal[1]) -> journal[1] : 0);
		answered[t] = true;
		n = 0
	}
}

#define any_free (holder[0] == 0 || holder[1] == 0 || holder[2] == 0)
#define journal_has_some \
	((number > 0 && is_held(journal[0])) || (number > 1 && is_held(journal[1])))
#define waits(t) (asked[t] && !answered[t])

#ifdef BY_TAG
#define is_known(t) (again[t] && tag == t && journal_has_some)
#else
#define is_known(t) false
#endif

inline serve(t)
{
	if
#ifdef BY_TAG
	:: is_known(t) -> reply(t)
#endif
	:: else ->
#ifdef WORDS_FIRST
		atomic { journal[0] = 0; journal[1] = 0; pick(journal[0]) }
		put_word(journal[0]);
		d_step { tag = t; number = 1 }
#else
		write_down(t);
		put_word(journal[0]);
		if
		:: n > 1 -> put_word(journal[1])
		:: else
		fi;
#endif
		reply(t)
	fi
}

inline recover()
{
	d_step {
		if
		:: number > 1 && !is_held(journal[1]) -> journal[1] = 0
		:: else
		fi;
		if
		:: number > 0 && !is_held(journal[0]) -> journal[0] = 0
		:: else
		fi
	}
}

inline resume()
{
	if
	:: waits(tag) && again[tag] && journal_has_some -> reply(tag)
	:: else
	fi;
	may_be_killed();
	resumed = true
}

proctype daemon()
{
	byte n, s;

start:
	n = 0;
#ifndef NOT_TRIMMED
	recover();
	may_be_killed();
#endif
#ifdef BY_TAG
	resumed = true;
#endif
end:
	do
	:: !resumed -> resume()
	:: resumed && waits(0) && (any_free || is_known(0)) -> serve(0)
	:: resumed && waits(1) && (any_free || is_known(1)) -> serve(1)
	:: grants < GRANTS && any_free ->
		atomic {
			grants++;
			if
			:: holder[0] == 0 -> s = 0
			:: holder[1] == 0 -> s = 1
			:: holder[2] == 0 -> s = 2
			fi;
			version[s]++;
			if
			:: holder[s] = 2
			:: holder[s] = 1; mine[s] = REF(s, version[s])
			fi;
			s = 0
		}
	od
}

#define kept(s) (holder[s] != 1 || mine[s] == REF(s, version[s]))

proctype at_rest()
{
	bool none_lost;

	atomic {
		timeout;
		none_lost = kept(0) && kept(1) && kept(2);
		assert(none_lost)
	}
}

init
{
	atomic {
		run thread(0);
		run thread(1);
		run frees();
		run daemon();
		run at_rest()
	}
}
