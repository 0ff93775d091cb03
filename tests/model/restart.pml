/*
 * Restart: the daemon is killed between any two of its stores, and its
 * successors, killed as well, go on with what they find.
 *
 * Models one pool with two clients that send slots to each other, one of which
 * may be killed, too; client 0 has a grant ring, and may ask by message. What
 * the daemon knows lies in the ledger's object (lib/ledger.h).
 *
 *	grant	copy; word; 0 at the copy's next place; own tail; ring; and after
 *		one grant or more the tail
 *	record	word; head of the return ring
 *	take	close the ring's head; free what the copy names from there to the
 *	back	own tail; open the head, at the own tail
 *	bury	read all that was published; free what the dead client holds
 *	start	the record at a head whose effect the word shows is done; a copy at
 *		the own tail is granted if the word says so, or else cleared; a
 *		closed ring is taken back; ring and tail are written from the copy
 *
 * Properties: who takes a grant is its only owner; what becomes free is nobody's;
 * no record of these honest clients is refused; at rest each slot is in one place.
 *
 * Left out: store buffers (a killed process loses no store, and how the sides
 * meet is in grants.pml and revoke.pml); records that wait while later ones of
 * their lane are done, and shares (marks.pml); magazines (seize.pml); the answers
 * to messages (again.pml); what a receiver that died after its claim leaves in
 * flight, which is revoked (revoke.pml).
 */
#ifndef KILLS
#define KILLS 3
#endif
#ifndef GRANTS
#define GRANTS 3
#endif
#ifndef SENDS
#define SENDS 1
#endif
#ifndef BACKS
#define BACKS 1
#endif
#ifndef MESSAGES
#define MESSAGES 1
#endif
#ifndef MORTAL
#define MORTAL 0 /* which client may be killed; 2: none */
#endif
#define PLACES 3
#define LANE   3 /* records of a client, at most */

#define REF(s, v)  ((v) * 2 + (s)) /* a version is 1 at least */
#define slot_of(r) ((r) % 2)
#define version_of(r) ((r) / 2)

/* There after a kill: the ledger, and what belongs to a lane. */
mtype = { is_free, is_held, is_in_flight };
mtype state[2];
byte version[2];
bit holder[2]; /* the sender, in flight */
byte copy[PLACES], own_tail;
byte done[2]; /* records */
bool buried;

/* Shared: claims (a version while open), the grant ring, the return rings. */
byte claim[2];
byte ring[PLACES], head, tail;
bool closed;
mtype = { send, receive, free };
mtype operation[2 * LANE];
byte record[2 * LANE], published[2];

/* What clients believe: the version at which they have it. */
byte mine[4];
chan inbox[2] = [2] of { byte };
bool dead;
byte kills, grants, sends, backs, messages;

#define at(c, i)     ((c) * LANE + (i))
#define nobodys(s)   (mine[s] == 0 && mine[2 + (s)] == 0)
#define holds(c, r) \
	(state[slot_of(r)] == is_held && holder[slot_of(r)] == (c) && \
	    version[slot_of(r)] == version_of(r))

inline publish(what, ref)
{
	operation[at(me, published[me])] = what;
	record[at(me, published[me])] = ref;
	published[me]++
}

inline may_die()
{
	if
	:: me == MORTAL -> goto die
	:: true
	fi
}

inline take_grant()
{
	r = ring[head % PLACES];
	taken_is_granted = holds(0, r) && nobodys(slot_of(r));
	assert(taken_is_granted);
	taken_is_granted = false;
	mine[slot_of(r)] = version_of(r);
	head++;
	r = 0
}

proctype client(bit me)
{
	byte r;
	bool taken_is_granted;

end:
	do
	:: d_step { me == 0 && !closed && head != tail -> take_grant() }
	:: atomic {
		sends < SENDS && published[me] < LANE &&
		    (mine[2 * me] > 0 || mine[2 * me + 1] > 0) ->
		sends++;
		if
		:: mine[2 * me] > 0 -> r = REF(0, mine[2 * me])
		:: mine[2 * me + 1] > 0 -> r = REF(1, mine[2 * me + 1])
		fi;
		claim[slot_of(r)] = version_of(r) + 1
	   }
		may_die();
		d_step { publish(send, r); mine[2 * me + slot_of(r)] = 0 }
		may_die();
		atomic { inbox[1 - me]!r + 2; r = 0 }
	:: atomic {
		published[me] < LANE && nempty(inbox[me]) -> inbox[me]?r;
		if
		:: claim[slot_of(r)] == version_of(r) -> claim[slot_of(r)] = 0
		:: else -> r = 0
		fi
	   }
		may_die();
		d_step {
			if
			:: r > 0 ->
				publish(receive, r);
				mine[2 * me + slot_of(r)] = version_of(r);
				r = 0
			:: else
			fi
		}
	:: d_step {
		published[me] < LANE && mine[2 * me] > 0 ->
		publish(free, REF(0, mine[2 * me]));
		mine[2 * me] = 0
	   }
	:: d_step {
		published[me] < LANE && mine[2 * me + 1] > 0 ->
		publish(free, REF(1, mine[2 * me + 1]));
		mine[2 * me + 1] = 0
	   }
	:: me == MORTAL -> break
	od;
die:
	skip;
	d_step {
		dead = true;
		mine[2 * me] = 0;
		mine[2 * me + 1] = 0;
		r = 0
	}
}

inline may_be_killed()
{
	if
	:: kills < KILLS -> kills++; goto start
	:: true
	fi
}

inline clear_next()
{
#ifndef NOT_CLEARED
	copy[(own_tail + 1) % PLACES] = 0
#else
	skip
#endif
}

inline make_free(slot)
{
	free_is_nobodys = nobodys(slot);
	assert(free_is_nobodys);
	free_is_nobodys = false;
	state[slot] = is_free
}

#define unread(c)	(done[c] < published[c] && !(c == MORTAL && buried))
#define next(c)		record[at(c, done[c])]
#define what(c)		operation[at(c, done[c])]
#define word_is(c, st)	(state[slot_of(next(c))] == st)
#define ahead(c)	(version_of(next(c)) > version[slot_of(next(c))])
#define matches(c) \
	(version_of(next(c)) == version[slot_of(next(c))] && \
	    (what(c) == receive -> word_is(c, is_in_flight) : holds(c, next(c))))
#define ready(c) (unread(c) && matches(c))

/* What the word is after this record. */
#define shows(c) \
	(unread(c) && \
	    ((what(c) == send && word_is(c, is_in_flight) && \
		 holder[slot_of(next(c))] == c && \
		 version[slot_of(next(c))] == version_of(next(c)) + 1) || \
		(what(c) == receive && holds(c, next(c))) || \
		(what(c) == free && word_is(c, is_free) && \
		    version[slot_of(next(c))] == version_of(next(c)))))

inline apply(c)
{
	d_step {
		r = next(c);
		if
		:: what(c) == send ->
			state[slot_of(r)] = is_in_flight;
			version[slot_of(r)]++
		:: what(c) == receive ->
			state[slot_of(r)] = is_held;
			holder[slot_of(r)] = c
		:: what(c) == free -> make_free(slot_of(r))
		fi;
		r = 0
	}
	may_be_killed();
	done[c]++
}

inline refuse()
{
	none_refused = false;
	assert(none_refused)
}

/* Frees in the ledger what the copy names from the head to the own tail. */
inline free_unread()
{
	do
	:: i != own_tail ->
		d_step {
			r = copy[i % PLACES];
			if
			:: holds(0, r) -> make_free(slot_of(r))
			:: else
			fi;
			r = 0;
			i++
		}
		may_be_killed()
	:: else -> break
	od
}

inline open_ring()
{
	d_step { head = own_tail; closed = false; i = 0 }
}

inline recover_grant()
{
	if
	:: copy[own_tail % PLACES] > 0 && holds(0, copy[own_tail % PLACES]) ->
		clear_next();
		may_be_killed();
		own_tail++
	:: else ->
#ifndef NOT_DROPPED
		copy[own_tail % PLACES] = 0
#endif
	fi
}

inline recover_take_back()
{
	if
	:: closed -> i = head; free_unread(); open_ring()
	:: else
	fi
}

inline rewrite()
{
	i = head;
	do
	:: i != own_tail -> ring[i % PLACES] = copy[i % PLACES]; i++
	:: else -> i = 0; break
	od
}

proctype daemon()
{
	byte i, r, s;
	bool free_is_nobodys, none_refused;

start:
	skip;
	d_step {
		i = 0; r = 0; s = 0;
#ifdef SHARED_TAIL
		own_tail = tail;
#endif
#ifndef SEEN_TWICE
		if
		:: shows(0) -> done[0]++
		:: shows(1) -> done[1]++
		:: else
		fi
#endif
	}
	may_be_killed();
	recover_grant();
	may_be_killed();
	recover_take_back();
	may_be_killed();
	d_step { rewrite(); skip }
	may_be_killed();
	tail = own_tail;
end:
	do
	:: grants < GRANTS && own_tail - head < PLACES - 1 && !dead &&
	    (state[0] == is_free || state[1] == is_free) ->
		atomic {
			grants++;
			if
			:: state[0] == is_free -> s = 0
			:: state[1] == is_free -> s = 1
			fi;
			copy[own_tail % PLACES] = REF(s, version[s] + 1)
		}
		may_be_killed();
		d_step {
			version[s]++;
			state[s] = is_held;
			holder[s] = 0;
			s = 0
		}
		may_be_killed();
		clear_next();
		may_be_killed();
		own_tail++;
		may_be_killed();
		ring[(own_tail - 1) % PLACES] = copy[(own_tail - 1) % PLACES]
	:: tail != own_tail -> tail = own_tail
	:: atomic {
		messages < MESSAGES && !(dead && MORTAL == 0) &&
		    state[0] == is_free ->
		messages++;
		version[0]++;
		state[0] = is_held;
		holder[0] = 0;
		mine[0] = version[0]
	   }
		may_be_killed()
	:: backs < BACKS && head != own_tail && tail == own_tail ->
#ifdef FREED_FIRST
		atomic { backs++; i = head }
		free_unread();
		open_ring()
#else
		d_step { backs++; closed = true; i = head }
		may_be_killed();
		free_unread();
		open_ring()
#endif
	:: ready(0) -> apply(0)
	:: ready(1) -> apply(1)
	:: atomic {
		(unread(0) && !matches(0) && !ahead(0)) ||
		    (unread(1) && !matches(1) && !ahead(1)) -> refuse()
	   }
	:: dead && !buried &&
#ifdef NOT_SWEPT
	    true ->
#else
	    !ready(0) && !ready(1) ->
#endif
		do
		:: s < 2 ->
			d_step {
				if
				:: state[s] == is_held && holder[s] == MORTAL ->
					make_free(s)
				:: else
				fi;
				s++
			}
			may_be_killed()
		:: else -> s = 0; break
		od;
		buried = true
	od
}

#define place_has(n, s) \
	(own_tail - head > n && ring[(head + n) % PLACES] == REF(s, version[s]) && \
	    holds(0, REF(s, version[s])))
#define has(c, s)      (mine[2 * (c) + (s)] > 0 && holds(c, REF(s, mine[2 * (c) + (s)])))
/* A receiver may have died with the claim in its hands. */
#define receivable(s) \
	(state[s] == is_in_flight && (claim[s] == version[s] || dead))
#define places(s) \
	((state[s] == is_free) + place_has(0, s) + place_has(1, s) + has(0, s) + \
	    has(1, s) + receivable(s))

proctype at_rest()
{
	bool one_place;

	atomic {
		timeout;
		one_place = places(0) == 1 && places(1) == 1 &&
		    (dead || (!closed && tail == own_tail));
		assert(one_place)
	}
}

init
{
	atomic {
		state[0] = is_free;
		state[1] = is_free;
		run client(0);
		run client(1);
		run daemon();
		run at_rest()
	}
}
