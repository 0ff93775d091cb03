/*
 * Reading a lane: each record once, and what comes of it.
 */
#include "config.h"

#include <errno.h>

#include "lanes.h"
#include "pool.h"
#include "ring.h"
#include "slot.h"

/* Whether a library can have written it. */
static bool
is_well_formed(const struct pool *p, uint64_t record)
{
	unsigned count = record_count(record);
	bool shared = ref_shared(record);

	if (ledger_segment_of(&p->ledger, ref_slot(record)) >= p->segments_max)
		return false;
	switch (record_operation(record)) {
	case LANE_FREE:
	case LANE_RECEIVE:
		return count == 0;
	case LANE_SEND:
		return count == 0 && !shared;
	case LANE_SHARE:
		return count > 0 && !shared;
	case LANE_RECALL:
		return count > 0;
	}
	return false;
}

/*
 * Takes back what the claim had open. If of a sent slot that is nothing, the
 * claim was forged, and the sender must hear that it has not got it back.
 */
static int
recall(struct attachment *a, uint64_t record, uint64_t ref)
{
	int n = pool_recall(a, ref, record_count(record));

	if (n != 0 || ref_shared(ref))
		return n;
	pool_reject(a);
	return -ESTALE;
}

/* The operation itself, at the slot's version: 0, a count, or -errno. */
static int
operate(struct attachment *a, uint64_t record, uint64_t ref)
{
	unsigned operation = record_operation(record);
	uint64_t out;

	if (!a->write && operation != LANE_FREE && operation != LANE_RECEIVE) {
		pool_reject(a);
		return -EACCES;
	}
	switch (operation) {
	case LANE_FREE:
		return pool_free(a, ref);
	case LANE_SEND:
		return pool_send(a, ref, &out);
	case LANE_SHARE:
		return pool_share(a, ref, record_count(record), &out);
	case LANE_RECEIVE:
		return pool_receive(a, ref);
	case LANE_RECALL:
		return recall(a, record, ref);
	}
	return -EINVAL;
}

enum outcome
record_apply(struct lane_end *e, uint64_t index, uint64_t record)
{
	struct attachment *a = e->attachment;
	struct place at;
	uint64_t version, ref;
	int32_t ahead;

	/* Where no segment is there are no words to look at. */
	if (!place_of(a->pool, ref_slot(record), &at)) {
		pool_reject(a);
		return RECORD_REFUSED;
	}
	version = ledger_version(&a->pool->ledger, place_word(&at));
	ahead = record_ahead(record, version);
	if (ahead > 0)
		return RECORD_AHEAD;
	if (ahead < 0) {
		pool_reject(a);
		return RECORD_REFUSED;
	}
	ref = record_ref(record, version);
	ledger_intend(
	    &a->pool->ledger, &a->mirror->record, 1 + index, ref, a->holder);
	return operate(a, record, ref) < 0 ? RECORD_REFUSED : RECORD_APPLIED;
}

/*
 * The ref of a record that was refused, as its client knows it: its version is
 * near the slot's. Of a receipt that came too late for a slot that the client
 * holds by just this ref, from another of its threads, it is 0: it shall not
 * think that it has lost it.
 */
static uint64_t
refused_ref(const struct lane_end *e, uint64_t record)
{
	const struct pool *p = e->attachment->pool;
	uint32_t slot = ref_slot(record);
	uint64_t version = ledger_word(&p->ledger, slot).version, ref;

	version += (uint64_t)(int64_t)record_ahead(record, version);
	ref = record_ref(record, version & REF_VERSION_MASK);
	return record_operation(record) == LANE_RECEIVE &&
		       ledger_ref(&p->ledger, slot) == ref &&
		       ledger_holds(&p->ledger, slot, e->attachment->holder)
		   ? 0
		   : ref;
}

void
record_refused(struct lane_end *e, uint64_t index, uint64_t record)
{
	struct lane_header *h = e->lane.header;
	uint32_t place = e->refused_tail % LANE_REFUSED;
	uint64_t ref;

	if (!pool_slot_attached(e->attachment->pool, ref_slot(record)))
		return;
	ref = refused_ref(e, record);
	store_relaxed(&h->refused[place], ref);
	store_relaxed(&h->refused_at[place], index);
	/* Release: with the client's acquire, when it attends to the notice, or
	 * has its answer to HELD. */
	store_release(&h->refused_tail, ++e->refused_tail);
	e->refused = e->refused || ref != 0;
}

/* Where the bit of record `index` is. */
static uint64_t *
bit_of(const struct lane_end *e, uint64_t index, uint64_t *bit)
{
	uint64_t place = index & (e->lane.geometry.records - 1);

	*bit = UINT64_C(1) << place % 64;
	return &e->done[place / 64];
}

static bool
is_done(const struct lane_end *e, uint64_t index)
{
	uint64_t bit;

	return e->early > 0 && (*bit_of(e, index, &bit) & bit) != 0;
}

static void
clear_bits(struct lane_end *e, uint64_t from, uint64_t to)
{
	uint64_t bit, *word;

	for (; from != to; from++) {
		word = bit_of(e, from, &bit);
		e->early -= (*word & bit) != 0;
		*word &= ~bit;
	}
}

/*
 * The head moves on, over bits as well, which are the next round's from then
 * on: a successor must not take old ones for those.
 */
static void
move_head(struct lane_end *e, uint64_t to)
{
	struct ledger_mirror *m = e->mirror;
	uint64_t from = m->record_head;

	while (to < e->read && is_done(e, to))
		to++;
	m->clearing = 1 + from;
	compiler_barrier();
	m->record_head = to;
	compiler_barrier();
	clear_bits(e, from, to);
	compiler_barrier();
	m->clearing = 0;
}

void
record_done(struct lane_end *e, uint64_t index)
{
	uint64_t bit, *word;

	if (index != e->mirror->record_head) {
		word = bit_of(e, index, &bit);
		*word |= bit;
		e->early++;
	} else if (e->early == 0)
		e->mirror->record_head = index + 1;
	else
		move_head(e, index + 1);
	ledger_intent_end(&e->mirror->record);
}

/* What comes of the record read last. */
static void
conclude(
    struct lane_end *e, uint64_t index, uint64_t record, enum outcome outcome)
{
	if (outcome == RECORD_REFUSED)
		record_refused(e, index, record);
	record_done(e, index);
	if (outcome == RECORD_APPLIED)
		parked_retry(e->attachment->pool, ref_slot(record));
}

/* One more that does not fit: after so many its lane waits. */
static void
lose_patience(struct lane_end *e)
{
	e->patience -= e->patience > 0;
	e->tiresome = e->patience == 0;
	if (e->tiresome)
		e->end = e->read;
}

/* One record of the ring; false: it can wait for other lanes to be read. */
static bool
take(struct lane_end *e, bool park)
{
	struct attachment *a = e->attachment;
	uint64_t index = e->read, record = ring_record(&e->lane, index);
	bool behind = parked_before(e, record);
	enum outcome outcome = RECORD_AHEAD;

	if (is_done(e, index)) {
		e->read++;
		if (index == e->mirror->record_head)
			move_head(e, index + 1);
		return true;
	}

	if (!is_well_formed(a->pool, record)) {
		lane_breach(e, "published a record that is none");
		e->end = e->read;
		return false;
	}
	if (!behind)
		outcome = record_apply(e, index, record);
	if (outcome == RECORD_AHEAD && ((!behind && !park) || e->tiresome))
		return false;
	e->read++;
	if (outcome != RECORD_APPLIED)
		lose_patience(e);
	if (outcome == RECORD_AHEAD) {
		if (parked_add(e, index, record))
			return true;
		pool_reject(a);
		outcome = RECORD_REFUSED;
	}
	conclude(e, index, record, outcome);
	return true;
}

/* What was read since the last time may have been zeros of our own. */
static void
check_guard(struct lane_end *e)
{
	if (!guard_broken(&e->guard))
		return;
	lane_breach(e, "has cut off its lane");
	e->end = e->read;
}

void
lane_look(struct lane_end *e)
{
	e->end = e->read;
	if (e->breached)
		return;
	if (!ring_tail(&e->lane, e->read, e->mirror->record_head, &e->end)) {
		lane_breach(e, "has a return ring with an impossible end");
		e->end = e->read;
	}
	check_guard(e);
}

bool
lane_drain(struct lane_end *e, bool park)
{
	uint64_t from = e->read;

	while (e->read != e->end) {
		if (e->early == 0 &&
		    parking_empty(e->attachment->pool->parking))
			lane_take_run(e);
		if (e->read == e->end || !take(e, park))
			break;
		park = false;
	}
	check_guard(e);
	return e->read != from;
}

/*
 * Whether the ledger shows what the record at the head would do. Runs leave no
 * intent: of the last record of one the slot's word was stored, and the head
 * perhaps was not. (To pass over one that only looks like that does no harm: it
 * would have been refused.)
 */
static bool
is_shown(const struct lane_end *e, uint64_t record)
{
	const struct pool *p = e->attachment->pool;
	struct ledger_word w;
	struct place at;
	int32_t ahead;

	if (!is_well_formed(p, record) || ref_shared(record) ||
	    !place_of(p, ref_slot(record), &at))
		return false;
	w = ledger_unpack(place_word(&at));
	ahead =
	    record_ahead(record, ledger_version(&p->ledger, place_word(&at)));
	switch (record_operation(record)) {
	case LANE_FREE:
		return ahead == 0 && w.state == LEDGER_FREE;
	case LANE_SEND:
		return ahead == -1 && w.state == LEDGER_IN_FLIGHT &&
		       w.holder == e->attachment->holder;
	case LANE_RECEIVE:
		return ahead == 0 && w.state == LEDGER_HELD &&
		       w.holder == e->attachment->holder;
	}
	return false;
}

/* What was done to a slot for a record, and not noted with the record. */
static void
finish_record(struct lane_end *e)
{
	const struct pool *p = e->attachment->pool;
	const struct ledger_intent *i = &e->mirror->record;
	uint64_t index = i->key - 1;

	if (i->key == 0)
		return;
	if (index >= e->mirror->record_head && !is_done(e, index) &&
	    pool_slot_attached(p, ref_slot(i->ref)) &&
	    ledger_intent_met(&p->ledger, i, e->attachment->holder))
		record_done(e, index);
	else
		ledger_intent_end(&e->mirror->record);
}

void
lane_recover_records(struct lane_end *e)
{
	struct ledger_mirror *m = e->mirror;
	uint64_t bits = e->lane.geometry.records, tail;

	for (uint64_t i = 0; i < bits / 64; i++)
		e->early += (uint32_t)__builtin_popcountll(e->done[i]);
	if (m->clearing != 0)
		clear_bits(e, m->clearing - 1, m->record_head);
	compiler_barrier();
	m->clearing = 0;
	e->read = e->end = m->record_head;
	finish_record(e);
	if (e->early == 0 &&
	    ring_tail(&e->lane, e->read, m->record_head, &tail) &&
	    tail != m->record_head &&
	    is_shown(e, ring_record(&e->lane, m->record_head)))
		m->record_head++;
	e->read = e->end = m->record_head;
	e->released = m->record_head;
	ring_release(&e->lane, e->released);
}

void
lane_settle(struct lane_end *e)
{
	if (e->mirror->record_head != e->released) {
		e->released = e->mirror->record_head;
		ring_release(&e->lane, e->released);
	}
	if (e->refused)
		lane_notify(e);
	e->refused = false;
}
