/*
 * The queue through which slots travel from one process to another, the same
 * for every peer: a ring for one producer and one consumer in shared memory.
 *
 *	tail - head = entries in it <= depth <= QUEUE_SIZE
 *
 * A side that cannot go on looks again for a while, and then either gives its
 * CPU away (there may be fewer CPUs than processes) or, if its end `sleeps`,
 * sleeps until the other side wakes it.
 */
#ifndef SLABD_TESTS_QUEUE_H
#define SLABD_TESTS_QUEUE_H

#include <linux/futex.h>
#include <sched.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>

#define QUEUE_SIZE  256
#define QUEUE_POLLS 256
#define QUEUE_LINE  __attribute__((aligned(64)))

struct queue {
	/* Entries put and taken so far: each has one writer, both only rise. */
	uint64_t tail QUEUE_LINE, head QUEUE_LINE;
	uint32_t asleep[2] QUEUE_LINE; /* by side: 0 produces, 1 consumes */
	uint64_t entries[QUEUE_SIZE] QUEUE_LINE;
};

/* One side's own view. */
struct queue_end {
	struct queue *queue;
	uint64_t mine; /* tail at the producer, head at the consumer */
	uint64_t seen; /* the other's, when last loaded */
	unsigned side, depth;
	int sleeps;
};

static inline int
queue_full(struct queue_end *e)
{
	if (e->mine - e->seen < e->depth)
		return 0;
	/* acquire: pairs with queue_pop(), whose entry may be overwritten */
	e->seen = __atomic_load_n(&e->queue->head, __ATOMIC_ACQUIRE);
	return e->mine - e->seen >= e->depth;
}

static inline int
queue_empty(struct queue_end *e)
{
	if (e->mine != e->seen)
		return 0;
	/* acquire: pairs with queue_put(), whose entry can be read */
	e->seen = __atomic_load_n(&e->queue->tail, __ATOMIC_ACQUIRE);
	return e->mine == e->seen;
}

static inline void
queue_relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
	__builtin_ia32_pause();
#endif
}

/*
 * Says that it sleeps, then looks once more; queue_wake() moves the ring, then
 * looks who sleeps. A full fence in both, so that one of them sees the other.
 */
static inline void
queue_sleep(struct queue_end *e, int (*blocked)(struct queue_end *))
{
	uint32_t *asleep = &e->queue->asleep[e->side];

	/* relaxed: the fence below orders it before the look at the ring */
	__atomic_store_n(asleep, 1, __ATOMIC_RELAXED);
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	if (blocked(e))
		syscall(SYS_futex, asleep, FUTEX_WAIT, 1, NULL, NULL, 0);
	/* relaxed: a wake-up too many does no harm */
	__atomic_store_n(asleep, 0, __ATOMIC_RELAXED);
}

static inline void
queue_wake(struct queue_end *e)
{
	uint32_t *asleep = &e->queue->asleep[!e->side];

	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	/* relaxed, both: ordered by this fence and the one in queue_sleep() */
	if (__atomic_load_n(asleep, __ATOMIC_RELAXED) == 0)
		return;
	__atomic_store_n(asleep, 0, __ATOMIC_RELAXED);
	syscall(SYS_futex, asleep, FUTEX_WAKE, 1, NULL, NULL, 0);
}

static inline void
queue_wait(struct queue_end *e, int (*blocked)(struct queue_end *))
{
	for (unsigned polls = 0; blocked(e); polls++)
		if (polls < QUEUE_POLLS)
			queue_relax();
		else if (e->sleeps)
			queue_sleep(e, blocked);
		else
			sched_yield();
}

static inline void
queue_put(struct queue_end *e, uint64_t entry)
{
	queue_wait(e, queue_full);
	e->queue->entries[e->mine++ % QUEUE_SIZE] = entry;
	/* release: pairs with queue_empty() */
	__atomic_store_n(&e->queue->tail, e->mine, __ATOMIC_RELEASE);
	if (e->sleeps)
		queue_wake(e);
}

/* The next entry, which stays in the queue. */
static inline uint64_t
queue_peek(struct queue_end *e)
{
	queue_wait(e, queue_empty);
	return e->queue->entries[e->mine % QUEUE_SIZE];
}

/* A producer that sleeps is woken when half of it is empty: in few batches. */
static inline void
queue_pop(struct queue_end *e)
{
	e->mine++;
	/* release: pairs with queue_full() */
	__atomic_store_n(&e->queue->head, e->mine, __ATOMIC_RELEASE);
	if (e->sleeps && e->seen - e->mine <= e->depth / 2)
		queue_wake(e);
}

#endif
