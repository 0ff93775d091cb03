/*
 * The floor of passing: the queue and the payload alone. Nothing is allocated;
 * the slots are used in turn, more of them than the queue holds.
 */
#include "config.h"

#include <sys/mman.h>

#include "bench.h"
#include "peer.h"

static char *slots;
static size_t slots_len, slot_size, next;

static inline void *
slot_alloc(void)
{
	void *slot = slots + next;

	next = (next + slot_size) & (slots_len - 1);
	return slot;
}

static inline void
slot_free(void *slot)
{
	(void)slot;
}

static inline uint64_t
slot_give(void *slot)
{
	return (uint64_t)((char *)slot - slots);
}

static inline void *
slot_take(uint64_t offset)
{
	return slots + offset;
}

#include "loops.h"

static const char *
prepare(const struct setting *s)
{
	slot_size = s->slot_size;
	slots_len = 2 * QUEUE_SIZE * slot_size;
	slots = bench_shared(slots_len);
	return NULL;
}

static const char *
enter(const struct setting *s, unsigned side)
{
	loops_enter(s, side);
	return NULL;
}

static void
release(void)
{
	munmap(slots, slots_len);
}

const struct peer peer_ring = {.name = "bare ring",
    .prepare = prepare,
    .enter = enter,
    .run = loops_run,
    .release = release};
