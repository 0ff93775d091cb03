/*
 * The textbook's lock-free free list in shared memory (R. K. Treiber, 1986):
 * the first free slot's index and a tag against ABA in one 64-bit word, the
 * links in a table beside the slots.
 */
#include "config.h"

#include <errno.h>
#include <sys/mman.h>

#include "bench.h"
#include "peer.h"

#define NONE UINT32_MAX

struct list {
	uint64_t head; /* tag << 32 | index */
	uint32_t next[] QUEUE_LINE;
};

static struct list *list;
static char *slots;
static unsigned shift; /* a slot's size is 1 << shift */
static size_t list_len, slots_len;

static inline void *
slot_alloc(void)
{
	/* acquire, here and below: pairs with slot_free(), for next[] */
	uint64_t head = __atomic_load_n(&list->head, __ATOMIC_ACQUIRE), rest;
	uint32_t index, next;

	do {
		index = (uint32_t)head;
		if (index == NONE) {
			errno = ENOBUFS;
			bench_die("list");
		}
		/* relaxed: a stale link meets a changed tag */
		next = __atomic_load_n(&list->next[index], __ATOMIC_RELAXED);
		rest = ((head >> 32) + 1) << 32 | next;
	} while (!__atomic_compare_exchange_n(
	    &list->head, &head, rest, 1, __ATOMIC_ACQUIRE, __ATOMIC_ACQUIRE));
	return slots + ((size_t)index << shift);
}

static inline void
slot_free(void *slot)
{
	uint32_t index = (uint32_t)((size_t)((char *)slot - slots) >> shift);
	/* relaxed: the exchange decides */
	uint64_t head = __atomic_load_n(&list->head, __ATOMIC_RELAXED), mine;

	do {
		__atomic_store_n(
		    &list->next[index], (uint32_t)head, __ATOMIC_RELAXED);
		mine = ((head >> 32) + 1) << 32 | index;
		/* release: pairs with slot_alloc() */
	} while (!__atomic_compare_exchange_n(
	    &list->head, &head, mine, 1, __ATOMIC_RELEASE, __ATOMIC_RELAXED));
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
	list_len = sizeof(*list) + s->slots * sizeof(list->next[0]);
	slots_len = s->slots * s->slot_size;
	list = bench_shared(list_len);
	slots = bench_shared(slots_len);
	shift = (unsigned)__builtin_ctzl(s->slot_size);
	for (uint32_t i = 0; i < s->slots; i++)
		list->next[i] = i + 1 < s->slots ? i + 1 : NONE;
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
	munmap(list, list_len);
	munmap(slots, slots_len);
}

const struct peer peer_list = {.name = "lock-free list",
    .prepare = prepare,
    .enter = enter,
    .run = loops_run,
    .release = release};
