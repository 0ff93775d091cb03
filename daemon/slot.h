/*
 * The usual changes of a slot, which one client has for itself: granted, freed,
 * sent, received. They make up nearly all that the daemon does, so they are
 * inline, and what counts before and after is known from the operation instead
 * of being compared; pool.c has all others.
 *
 * A place is where a slot's word is, looked up once for each operation. The
 * books (counts, charges) may be written once for many slots of one segment.
 */
#ifndef SLABD_DAEMON_SLOT_H
#define SLABD_DAEMON_SLOT_H

#include <assert.h>
#include <stdbool.h>
#include <stdint.h>

#include "pool.h"
#include "slots.h"
#include "wire.h"

struct place {
	struct segment *segment;
	uint32_t number, index; /* of the segment, of the slot in it */
};

/* False: no segment is there. */
static inline bool
place_of(const struct pool *p, uint32_t slot, struct place *at)
{
	at->number = ledger_segment_of(&p->ledger, slot);
	if (at->number >= p->segments_max)
		return false;
	at->segment = &p->segments[at->number];
	at->index = slot - at->number * p->conf.slots_per_segment;
	return at->segment->state == LEDGER_ATTACHED;
}

static inline uint64_t
place_word(const struct place *at)
{
	/* Relaxed: only this thread writes it. */
	return load_relaxed(&at->segment->words[at->index]);
}

/* Whether the slot is as a grant to that attachment left it. */
static inline bool
slot_is_granted(const struct attachment *a, uint64_t ref)
{
	struct place at;

	return place_of(a->pool, ref_slot(ref), &at) &&
	       place_word(&at) ==
		   ledger_pack(LEDGER_HELD, a->holder, ref_version(ref));
}

/* The transition is the one store of the word. */
static inline void
place_put(const struct place *at, enum ledger_state state, unsigned holder,
    uint64_t version)
{
	at->segment->since[at->index] = pool_now();
	store_relaxed(&at->segment->words[at->index],
	    ledger_pack(state, holder, version));
}

/* The books of an attachment. */
static inline void
slot_charge(
    struct attachment *a, uint32_t segment, int held, int open, int charged)
{
	bool reserved = a->pool->conf.reserve > 0;
	uint32_t owed = reserved ? attachment_owed(a) : 0;

	a->held += (uint32_t)held;
	a->open += (uint32_t)open;
	a->charged += (uint32_t)charged;
	a->stakes[segment] += (uint32_t)charged;
	a->account->slots += (uint32_t)charged;
	if (reserved)
		a->pool->owed += attachment_owed(a) - owed;
}

/* After `n` slots have joined segment `number`'s free list. */
static inline void
slot_count_free(
    struct pool *p, uint32_t number, enum slot_class before, uint32_t n)
{
	p->count[before] -= n;
	p->count[SLOT_FREE] += n;
	p->roomy[number / 64] |= UINT64_C(1) << number % 64;
	p->hot = number;
	p->segments_empty += seg_of(&p->segments[number].core)->used == 0;
}

/* After `n` slots have left it. */
static inline void
slot_count_taken(struct pool *p, uint32_t number, uint32_t n)
{
	const struct seg *core = seg_of(&p->segments[number].core);

	p->segments_empty -= core->used == n;
	if (core->used == core->capacity)
		p->roomy[number / 64] &= ~(UINT64_C(1) << number % 64);
	p->count[SLOT_FREE] -= n;
}

static inline void
slot_give(const struct place *at)
{
	int err = seg_give(seg_of(&at->segment->core), at->index);

	assert(err == 0);
	(void)err;
}

/* The slot joins its segment's free list; it counted as `before`. */
static inline void
slot_release(struct pool *p, const struct place *at, enum slot_class before)
{
	slot_give(at);
	slot_count_free(p, at->number, before, 1);
}

/* Takes the next slot off the free list of a segment that has one. */
static inline void
slot_take(struct place *at)
{
	int index = seg_take(seg_of(&at->segment->core));

	assert(index >= 0);
	at->index = (uint32_t)index;
}

/* The ref under which a free slot is granted next. */
static inline uint64_t
slot_next_ref(const struct pool *p, const struct place *at)
{
	uint32_t slot = at->number * p->conf.slots_per_segment + at->index;

	return ref_make(slot, false,
	    ref_version_next(ledger_version(&p->ledger, place_word(at))));
}

/* `n` slots of segment `number` were granted. */
static inline void
slot_count_granted(struct attachment *a, uint32_t number, uint32_t n)
{
	slot_count_taken(a->pool, number, n);
	a->pool->count[attachment_class(a)] += n;
	slot_charge(a, number, (int)n, 0, (int)n);
}

/* Whether the word says that this attachment has the slot for itself. */
static inline bool
slot_is_own(const struct attachment *a, uint64_t word)
{
	return ledger_is(word, LEDGER_HELD, a->holder);
}

/* `n` slots of segment `number` were given back. */
static inline void
slot_count_freed(struct attachment *a, uint32_t number, uint32_t n)
{
	slot_count_free(a->pool, number, attachment_class(a), n);
	slot_charge(a, number, -(int)n, 0, -(int)n);
}

static inline void
slot_free_own(struct attachment *a, const struct place *at, uint64_t version)
{
	place_put(at, LEDGER_FREE, 0, version);
	slot_give(at);
	slot_count_freed(a, at->number, 1);
}

/* `n` slots of segment `number` were sent. */
static inline void
slot_count_sent(struct attachment *a, uint32_t number, uint32_t n)
{
	slot_charge(a, number, -(int)n, (int)n, 0);
	a->pool->count[attachment_class(a)] -= n;
	a->pool->count[SLOT_IN_FLIGHT] += n;
}

static inline void
slot_send_own(struct attachment *a, const struct place *at, uint64_t version)
{
	place_put(at, LEDGER_IN_FLIGHT, a->holder, ref_version_next(version));
	slot_count_sent(a, at->number, 1);
}

/* `n` slots of segment `number` were received from `sender`. */
static inline void
slot_count_received(struct attachment *a, struct attachment *sender,
    uint32_t number, uint32_t n)
{
	slot_charge(sender, number, 0, -(int)n, -(int)n);
	slot_charge(a, number, (int)n, 0, (int)n);
	a->pool->count[SLOT_IN_FLIGHT] -= n;
	a->pool->count[attachment_class(a)] += n;
	if (sender->open == 0)
		attachment_settled(sender);
}

/* From whoever sent it; the word says who. */
static inline void
slot_receive_sent(struct attachment *a, const struct place *at, uint64_t word)
{
	struct pool *p = a->pool;
	struct attachment *sender =
	    p->attachments[ledger_unpack(word).holder - 1];

	place_put(at, LEDGER_HELD, a->holder, ledger_version(&p->ledger, word));
	slot_count_received(a, sender, at->number, 1);
}

#endif
