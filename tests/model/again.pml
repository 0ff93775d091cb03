/*
 * Again: a request whose answer was lost with the daemon is sent once more, to
 * its successor, under the same tag.
 *
 * Models SEND, RECEIVE and RECALL by message (daemon/request.c) of one slot, while
 * the same is done by lanes. Each client waits for one answer at a time; what was
 * answered before a kill can still be read, what was asked is asked again.
 *
 *	serve	known by the tag of the last reply? Say that. Else drain the lanes;
 *		RECALL: revoke the claim, and drain them once more;
 *		intent: the word as it is; RECEIVE: take the claim, if it is open,
 *		and mark it; word; no mark; reply; no intent; answer
 *	start	an intent whose word has changed was carried out: reply; if not, and
 *		the claim is marked, it is open again. Either way there is no mark
 *		and no intent any more, before anything else is done
 *
 * A client that finds a claim revoked which it had taken asks whether its record
 * counted, as in revoke.pml.
 *
 * Properties: of all clients one at most believes to have the slot; at rest the
 * ledger says who, and what is in flight can be received.
 *
 * Left out: FREE, which its version decides, and ALLOC (journal.pml); shares.
 */
#ifndef KILLS
#define KILLS 3
#endif
#ifndef STEPS
#define STEPS 3
#endif
#define LANE 3

mtype = { none, send, receive, recall };

/* There after a kill: the ledger; of each client's requests, the intent and the
 * last reply; how far its lane is read. */
byte state;
byte version;
bit holder; /* the sender, in flight */
#define is_held	     1
#define is_in_flight 2
#define WORD ((state == is_held -> 0 : 1) + 2 * holder + 4 * version)
byte intent[2], word[2], reply_tag[2];
bool reply[2];
byte done[2];

/* Shared. */
#define CLAIM(version, how) ((version) * 4 + (how))
#define TAKEN	0
#define OPEN	1
#define REVOKED 2
#define MARKED	3
byte claim;
mtype operation[2 * LANE];
byte record[2 * LANE], published[2];

/* What clients ask: the answer may have been sent. */
mtype what[2];
byte ref[2], tag[2];
bool again[2], answered[2], answer[2];

byte mine[2]; /* the version at which a client believes to have it */
byte sent[2]; /* the version that it may recall */
byte offered[2]; /* a ref that it was passed */
byte steps, kills;

#define only(c)	     (mine[1 - (c)] == 0)
#define record_of(c) record[(c) * LANE + done[c]]
#define kind_of(c)   operation[(c) * LANE + done[c]]

inline believe(c, v)
{
	believed_by_one = only(c);
	assert(believed_by_one);
	believed_by_one = false;
	mine[c] = v
}

inline publish(kind, v)
{
	operation[me * LANE + published[me]] = kind;
	record[me * LANE + published[me]] = v;
	published[me]++
}

#define ledger_names(c, v) (state == is_held && holder == (c) && version == (v))

/* After the record; asks the daemon, behind its lane, when the claim was
 * revoked. */
inline confirm()
{
	if
	:: claim != CLAIM(v, TAKEN) ->
		atomic {
			done[me] == published[me] ->
			if
			:: ledger_names(me, v) -> believe(me, v)
			:: else
			fi
		}
	:: else -> d_step { believe(me, v) }
	fi
}

inline ask(kind, v)
{
	what[me] = kind;
	ref[me] = v;
	tag[me]++
}

proctype client(bit me)
{
	byte v;
	bool believed_by_one;

end:
	do
	:: what[me] == none && mine[me] > 0 && steps < STEPS ->
		if
		:: d_step { steps++; ask(send, mine[me]) }
		:: published[me] < LANE ->
			/* By the lane: claim, record, ref. */
			d_step { steps++; claim = CLAIM(mine[me] + 1, OPEN) }
			d_step {
				publish(send, mine[me]);
				sent[me] = mine[me] + 1;
				mine[me] = 0;
				offered[1 - me] = sent[me]
			}
		fi
	:: what[me] == none && offered[me] > 0 && mine[me] == 0 ->
		if
		:: d_step { ask(receive, offered[me]); offered[me] = 0 }
		:: published[me] < LANE ->
			atomic {
				v = offered[me];
				offered[me] = 0;
				if
				:: claim == CLAIM(v, OPEN) -> claim = CLAIM(v, TAKEN)
				:: else -> v = 0
				fi
			}
			if
			:: v > 0 -> d_step { publish(receive, v) }
				confirm()
			:: else
			fi;
			v = 0
		fi
	:: d_step {
		what[me] == none && sent[me] > 0 && steps < STEPS ->
		steps++;
		ask(recall, sent[me]);
		sent[me] = 0
	   }
	:: d_step {
		answered[me] ->
		if
		:: what[me] == send && answer[me] ->
			sent[me] = ref[me] + 1;
			mine[me] = 0;
			offered[1 - me] = sent[me]
		:: what[me] != send && answer[me] -> believe(me, ref[me])
		:: else
		fi;
		what[me] = none;
		ref[me] = 0;
		answered[me] = false;
		answer[me] = false;
		again[me] = false
	   }
	od
}

inline may_be_killed()
{
	if
	:: d_step { kills < KILLS ->
		kills++;
		again[0] = (what[0] != none && !answered[0]);
		again[1] = (what[1] != none && !answered[1])
	   } goto start
	:: true
	fi
}

#define fits(c, kind, v) \
	(version == (v) && \
	    ((kind == send && state == is_held && holder == (c)) || \
		(kind == receive && state == is_in_flight) || \
		(kind == recall && state == is_in_flight && holder == (c))))
#define readable(c) (done[c] < published[c] && record_of(c) <= version)
#define ready(c) (done[c] < published[c] && fits(c, kind_of(c), record_of(c)))

inline change(c, kind)
{
	if
	:: kind == send -> state = is_in_flight; version++
	:: else -> state = is_held; holder = c
	fi
}

/* One record, with its mark: what is between is in restart.pml. */
inline drain_one(c)
{
	if
	:: ready(c) -> change(c, kind_of(c)); done[c]++
	:: readable(c) && !ready(c) -> done[c]++
	:: else
	fi
}

inline drain()
{
	d_step {
		drain_one(0); drain_one(1); drain_one(0); drain_one(1);
		drain_one(0); drain_one(1);
		skip
	}
}

inline intend(c)
{
	word[c] = WORD;
	intent[c] = tag[c]
}

inline serve(c)
{
#ifdef INTENT_FIRST
	d_step { intend(c) }
#endif
	drain();
	may_be_killed();
	if
	:: d_step {
		what[c] == recall && fits(c, recall, ref[c]) ->
		/* A claim about something else is left alone. */
		if
		:: claim / 4 == ref[c] -> claim = CLAIM(ref[c], REVOKED)
		:: else
		fi
	   }
		may_be_killed();
		drain();
		may_be_killed()
	:: else
	fi;
#ifndef INTENT_FIRST
	d_step { intend(c) }
	may_be_killed();
#endif
	if
	:: d_step {
		fits(c, what[c], ref[c]) &&
		    (what[c] != receive || claim == CLAIM(ref[c], OPEN)) ->
		ok = true;
		if
		:: what[c] == receive -> claim = CLAIM(ref[c], MARKED)
		:: else
		fi
	   }
		may_be_killed();
		d_step { change(c, what[c]) }
		may_be_killed();
		d_step {
			if
			:: claim == CLAIM(ref[c], MARKED) ->
				claim = CLAIM(ref[c], TAKEN)
			:: else
			fi;
			skip
		}
		may_be_killed()
	:: else -> ok = false
	fi;
	d_step { reply[c] = ok; reply_tag[c] = tag[c] }
	may_be_killed();
	intent[c] = 0;
	may_be_killed();
	if
	:: what[c] == send && ok && version == ref[c] + 1 && state == is_in_flight ->
		claim = CLAIM(version, OPEN)
	:: else
	fi
}

/* The slot's version in an intent, which a claim is about. */
#define version_of(word) ((word) / 4)
#define carried_out(c) (WORD != word[c])

inline finish(c)
{
	if
	:: intent[c] > 0 ->
#ifndef NOT_GIVEN_BACK
		d_step {
			if
			:: claim == CLAIM(version_of(word[c]), MARKED) ->
				claim = CLAIM(version_of(word[c]),
				    (carried_out(c) -> TAKEN : OPEN))
			:: else
			fi;
			skip
		}
		may_be_killed();
#endif
		d_step {
			if
			:: carried_out(c) && reply_tag[c] != intent[c] ->
				reply[c] = true;
				reply_tag[c] = intent[c]
#ifdef INTENT_KEPT
				; intent[c] = 0
#endif
			:: else
			fi;
			skip
		}
#ifndef INTENT_KEPT
		may_be_killed();
		intent[c] = 0
#endif
	:: else
	fi
}

inline repeated(c)
{
	ok = reply[c];
	if
	:: what[c] == send && ok && version == ref[c] + 1 && state == is_in_flight ->
		claim = CLAIM(version, OPEN)
	:: else
	fi
}

#define asks(c)	    (what[c] != none && !answered[c])
#define is_known(c) (again[c] && reply_tag[c] == tag[c])

proctype daemon()
{
	bool ok;

start:
	skip;
	ok = false;
#ifndef AT_ITS_TURN
	finish(0);
	finish(1);
	may_be_killed();
#endif
end:
	do
	:: d_step { readable(0) -> drain_one(0) }
	:: d_step { readable(1) -> drain_one(1) }
	:: asks(0) ->
#ifdef AT_ITS_TURN
		finish(0);
#endif
		if
		:: is_known(0) -> repeated(0)
		:: else -> serve(0)
		fi;
		may_be_killed();
		d_step { answered[0] = true; answer[0] = ok; ok = false }
	:: asks(1) ->
#ifdef AT_ITS_TURN
		finish(1);
#endif
		if
		:: is_known(1) -> repeated(1)
		:: else -> serve(1)
		fi;
		may_be_killed();
		d_step { answered[1] = true; answer[1] = ok; ok = false }
	od
}

#define believed(c) (mine[c] == 0 || ledger_names(c, mine[c]))

proctype at_rest()
{
	bool ledger_agrees, receivable;

	atomic {
		timeout;
		ledger_agrees = believed(0) && believed(1) &&
		    (state != is_held || mine[holder] == version);
		assert(ledger_agrees);
		receivable = state != is_in_flight || claim == CLAIM(version, OPEN);
		assert(receivable)
	}
}

init
{
	atomic {
		what[0] = none;
		what[1] = none;
		state = is_held;
		version = 1;
		mine[0] = 1;
		run client(0);
		run client(1);
		run daemon();
		run at_rest()
	}
}
