/* The C library's malloc(), within one process. */
#include "config.h"

#include <stdlib.h>

#include "bench.h"
#include "peer.h"

static size_t slot_size;

static inline void *
slot_alloc(void)
{
	void *slot = malloc(slot_size);

	if (slot == NULL)
		bench_die("malloc");
	return slot;
}

static inline void
slot_free(void *slot)
{
	free(slot);
}

/* Nothing of this heap is in another process; PASS is not for this peer. */
static inline uint64_t
slot_give(void *slot)
{
	return (uintptr_t)slot;
}

static inline void *
slot_take(uint64_t token)
{
	return (void *)(uintptr_t)token;
}

#include "loops.h"

static const char *
enter(const struct setting *s, unsigned side)
{
	slot_size = s->slot_size;
	loops_enter(s, side);
	return NULL;
}

const struct peer peer_malloc = {
    .name = "malloc of the C library", .enter = enter, .run = loops_run};
