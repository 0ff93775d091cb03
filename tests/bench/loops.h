/*
 * What is done with an allocator, compiled into each peer's own file, so that
 * nothing stands between the loops and a peer's inline functions. That file
 * defines first:
 *
 *	void *slot_alloc(void)		never NULL: it dies instead
 *	void slot_free(void *)
 *	uint64_t slot_give(void *)	what travels through the queue
 *	void *slot_take(uint64_t)	and the slot in the process it came to
 *
 * loops_enter() and loops_run() are the peer's enter(), or a part of it, and
 * run(). In C and C++.
 */
#include "bench.h"
#include "payload.h"
#include "peer.h"

#include "../core/random.h"

#define SHUFFLED_SLOTS 64
#define SHUFFLED_TURNS 64
#define BATCH_SLOTS    4096

static unsigned char loops_order[SHUFFLED_TURNS][SHUFFLED_SLOTS];
static void *loops_slots[BATCH_SLOTS];
static struct queue_end loops_end;

static void
loops_shuffle(unsigned char *order, uint64_t *random)
{
	unsigned char swap;

	for (unsigned i = 0; i < SHUFFLED_SLOTS; i++)
		order[i] = (unsigned char)i;
	for (unsigned i = SHUFFLED_SLOTS - 1; i > 0; i--) {
		unsigned k = random_below(random, i + 1);

		swap = order[i];
		order[i] = order[k];
		order[k] = swap;
	}
}

static inline void
loops_enter(const struct setting *s, unsigned side)
{
	uint64_t random = 1;

	for (unsigned i = 0; i < SHUFFLED_TURNS; i++)
		loops_shuffle(loops_order[i], &random);
	loops_end.queue = s->queue;
	loops_end.side = side;
	loops_end.depth = s->in_flight;
}

static void
loops_lifo(uint64_t n)
{
	for (uint64_t i = 0; i < n; i++) {
		void *slot = slot_alloc();

		payload_write(slot, PAYLOAD_LINE, i);
		slot_free(slot);
	}
}

static void
loops_take(unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		loops_slots[i] = slot_alloc();
		payload_write(loops_slots[i], PAYLOAD_LINE, i);
	}
}

static void
loops_shuffled(uint64_t n)
{
	for (uint64_t done = 0; done < n; done += SHUFFLED_SLOTS) {
		const unsigned char *order =
		    loops_order[done / SHUFFLED_SLOTS % SHUFFLED_TURNS];

		loops_take(SHUFFLED_SLOTS);
		for (unsigned i = 0; i < SHUFFLED_SLOTS; i++)
			slot_free(loops_slots[order[i]]);
	}
}

static void
loops_batch(uint64_t n)
{
	for (uint64_t done = 0; done < n; done += BATCH_SLOTS) {
		loops_take(BATCH_SLOTS);
		for (unsigned i = 0; i < BATCH_SLOTS; i++)
			slot_free(loops_slots[i]);
	}
}

static void
loops_produce(uint64_t n)
{
	for (uint64_t i = 0; i < n; i++) {
		void *slot = slot_alloc();

		payload_write(slot, PAYLOAD_LINE, i);
		queue_put(&loops_end, slot_give(slot));
	}
}

static void
loops_consume(uint64_t n)
{
	for (uint64_t i = 0; i < n; i++) {
		void *slot = slot_take(queue_peek(&loops_end));

		queue_pop(&loops_end);
		payload_read(slot, PAYLOAD_LINE, i);
		slot_free(slot);
	}
}

static inline uint64_t
loops_run(enum pattern pattern, unsigned side, uint64_t n)
{
	if (pattern == LIFO)
		loops_lifo(n);
	else if (pattern == SHUFFLED)
		loops_shuffled(n);
	else if (pattern == BATCH)
		loops_batch(n);
	else if (side == 0)
		loops_produce(n);
	else
		loops_consume(n);
	return 0;
}
