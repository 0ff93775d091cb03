/*
 * Runs: most records come in rows of the same kind, about slots of one segment
 * that belong to whom they should. They are taken here, each word checked and
 * changed for itself, and the books written once for all; the first record that
 * is anything else ends the run and is drain.c's.
 */
#include "config.h"

#include "lanes.h"
#include "pool.h"
#include "ring.h"
#include "slot.h"

/* The bits of a record between slot and version. */
#define MIDDLE_SHIFT REF_SLOT_BITS
#define MIDDLE_BITS  (RECORD_VERSION_SHIFT - MIDDLE_SHIFT)

struct run {
	struct lane_end *lane;
	struct place at;
	uint64_t middle;	 /* of its records */
	uint32_t first;		 /* slot of the segment */
	enum ledger_state state; /* in which its slots are found, */
	unsigned holder;	 /* and with whom */
	uint32_t n;		 /* taken */
};

static inline uint64_t
middle(uint64_t record)
{
	return record >> MIDDLE_SHIFT & ((1u << MIDDLE_BITS) - 1);
}

/* An operation on a slot that is not shared, without a count. */
static inline uint64_t
plain(enum lane_operation operation)
{
	return (uint64_t)operation << (RECORD_OPERATION_SHIFT - MIDDLE_SHIFT);
}

/*
 * Takes records as long as they fit; `change` is what comes of a slot's word,
 * and inlined with it.
 */
static inline __attribute__((always_inline)) void
take(struct run *r, void (*change)(struct run *, uint64_t version))
{
	struct lane_end *e = r->lane;
	uint32_t each = e->attachment->pool->conf.slots_per_segment;
	uint64_t record, word;

	while (e->read != e->end) {
		record = ring_record(&e->lane, e->read);
		r->at.index = ref_slot(record) - r->first;
		if (middle(record) != r->middle || r->at.index >= each)
			break;
		word = place_word(&r->at);
		if (!ledger_is(word, r->state, r->holder) ||
		    record_ahead(record, word) != 0)
			break;
		change(r, word & REF_VERSION_MASK);
		r->n++;
		e->mirror->record_head = ++e->read;
	}
}

static inline void
free_one(struct run *r, uint64_t version)
{
	place_put(&r->at, LEDGER_FREE, 0, version);
	slot_give(&r->at);
}

static void
take_frees(struct run *r)
{
	struct attachment *a = r->lane->attachment;

	r->state = LEDGER_HELD;
	r->holder = a->holder;
	take(r, free_one);
	if (r->n > 0)
		slot_count_freed(a, r->at.number, r->n);
}

static inline void
send_one(struct run *r, uint64_t version)
{
	place_put(
	    &r->at, LEDGER_IN_FLIGHT, r->holder, ref_version_next(version));
}

static void
take_sends(struct run *r)
{
	struct attachment *a = r->lane->attachment;

	r->state = LEDGER_HELD;
	r->holder = a->holder;
	take(r, send_one);
	if (r->n > 0)
		slot_count_sent(a, r->at.number, r->n);
}

static inline void
receive_one(struct run *r, uint64_t version)
{
	place_put(&r->at, LEDGER_HELD, r->lane->attachment->holder, version);
}

/* From one sender. */
static void
take_receives(struct run *r)
{
	struct attachment *a = r->lane->attachment;
	struct ledger_word w = ledger_unpack(place_word(&r->at));

	if (w.state != LEDGER_IN_FLIGHT)
		return;
	r->state = LEDGER_IN_FLIGHT;
	r->holder = w.holder;
	take(r, receive_one);
	if (r->n > 0)
		slot_count_received(
		    a, a->pool->attachments[w.holder - 1], r->at.number, r->n);
}

void
lane_take_run(struct lane_end *e)
{
	struct attachment *a = e->attachment;
	uint64_t record = ring_record(&e->lane, e->read);
	struct run r = {.lane = e, .middle = middle(record)};

	if (!place_of(a->pool, ref_slot(record), &r.at))
		return;
	r.first = r.at.number * a->pool->conf.slots_per_segment;
	if (r.middle == plain(LANE_FREE))
		take_frees(&r);
	else if (r.middle == plain(LANE_RECEIVE))
		take_receives(&r);
	else if (r.middle == plain(LANE_SEND) && a->write)
		take_sends(&r);
}
