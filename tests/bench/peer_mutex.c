/*
 * The other textbook: a free list behind one robust, process-shared mutex. Its
 * links are a table beside the slots.
 */
#include "config.h"

#include <errno.h>
#include <pthread.h>
#include <sys/mman.h>

#include "bench.h"
#include "peer.h"

struct stack {
	pthread_mutex_t mutex;
	uint32_t free; /* how many; their indices come first */
	uint32_t index[] QUEUE_LINE;
};

static struct stack *stack;
static char *slots;
static unsigned shift; /* a slot's size is 1 << shift */
static size_t stack_len, slots_len;

/* Whoever died inside left the list whole: one store changes it. */
static inline void
lock(void)
{
	if (pthread_mutex_lock(&stack->mutex) == EOWNERDEAD)
		pthread_mutex_consistent(&stack->mutex);
}

static inline void *
slot_alloc(void)
{
	uint32_t index;

	lock();
	if (stack->free == 0) {
		errno = ENOBUFS;
		bench_die("mutex");
	}
	index = stack->index[--stack->free];
	pthread_mutex_unlock(&stack->mutex);
	return slots + ((size_t)index << shift);
}

static inline void
slot_free(void *slot)
{
	uint32_t index = (uint32_t)((size_t)((char *)slot - slots) >> shift);

	lock();
	stack->index[stack->free] = index;
	stack->free++;
	pthread_mutex_unlock(&stack->mutex);
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
	pthread_mutexattr_t attr;

	stack_len = sizeof(*stack) + s->slots * sizeof(stack->index[0]);
	slots_len = s->slots * s->slot_size;
	stack = bench_shared(stack_len);
	slots = bench_shared(slots_len);
	shift = (unsigned)__builtin_ctzl(s->slot_size);
	for (uint32_t i = 0; i < s->slots; i++)
		stack->index[stack->free++] = i;
	pthread_mutexattr_init(&attr);
	pthread_mutexattr_setpshared(&attr, PTHREAD_PROCESS_SHARED);
	pthread_mutexattr_setrobust(&attr, PTHREAD_MUTEX_ROBUST);
	pthread_mutex_init(&stack->mutex, &attr);
	pthread_mutexattr_destroy(&attr);
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
	munmap(stack, stack_len);
	munmap(slots, slots_len);
}

const struct peer peer_mutex = {.name = "robust mutex",
    .prepare = prepare,
    .enter = enter,
    .run = loops_run,
    .release = release};
