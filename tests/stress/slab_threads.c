/*
 * slab_threads: twenty threads on one cache, with each lock and each kind of
 * links.  A plain program, so that it also runs under ThreadSanitizer.
 *
 * Each thread keeps a few slots, stamps and checks them, leaves some in a
 * mailbox where another thread finds and frees them, and drops its own handle
 * while its last slots are still out.  Exits 0 if every slot was whole and the
 * hooks got everything back.  An argument scales the number of rounds.
 */
#include "config.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "slab.h"
#include "../core/random.h"

enum {
	THREADS = 20,
	KEEP = 48, /* slots a thread holds */
	SLOT = 512,
	SEGMENT = 16384
};

/* A lock that lets others run while it waits. */
static void
yield_init(atomic_uint *word)
{
	atomic_store(word, 0);
}

static void
yield_lock(atomic_uint *word)
{
	while (atomic_exchange(word, 1))
		sched_yield();
}

static void
yield_unlock(atomic_uint *word)
{
	atomic_store(word, 0);
}

SLAB_LOCK_OPS(yield_ops, atomic_uint, yield_init, yield_lock, yield_unlock);

static atomic_int live;	  /* blocks that the hooks have given and not got */
static atomic_int broken; /* slots that were not whole */
static _Atomic(void *) mailbox[8];
static unsigned rounds = 30000;
static pthread_barrier_t start;

static void *
obtain(void *ctx, size_t len, size_t align)
{
	void *mem = aligned_alloc(align, (len + align - 1) & ~(align - 1));

	(void)ctx;
	if (mem)
		atomic_fetch_add(&live, 1);
	return mem;
}

static void
release(void *ctx, void *mem, size_t len)
{
	(void)ctx;
	memset(mem, 0, len); /* nobody may still be reading it */
	free(mem);
	atomic_fetch_sub(&live, 1);
}

static void
stamp(void *slot, uint64_t rng)
{
	uint64_t *words = slot;

	words[0] = rng;
	words[SLOT / 8 - 1] = ~rng;
}

static void
give(struct slab *s, void *slot)
{
	const uint64_t *words = slot;

	if (!slot)
		return;
	if (words[0] != ~words[SLOT / 8 - 1])
		atomic_fetch_add(&broken, 1);
	if (slab_free(s, slot) != 0)
		atomic_fetch_add(&broken, 1);
}

struct job {
	struct slab *cache;
	uint64_t rng;
};

static void *
work(void *arg)
{
	struct job *job = arg;
	struct slab *s = job->cache;
	void *held[KEEP] = {NULL};

	pthread_barrier_wait(&start);
	for (unsigned i = 0; i < rounds; i++) {
		uint64_t dice = random_next(&job->rng);
		void **place = &held[dice % KEEP];

		if (dice >> 32 & 1) {
			give(s, *place);
			*place = NULL;
		} else if (!*place && (*place = slab_alloc(s))) {
			stamp(*place, dice);
		} else if (dice >> 33 & 1) {
			*place =
			    atomic_exchange(&mailbox[dice >> 40 & 7], *place);
		}
	}
	slab_drop(s);
	for (int i = 0; i < KEEP; i++)
		give(s, held[i]);
	return NULL;
}

static int
run(const char *name, const struct slab_lock_ops *lock, uint32_t flags,
    uint64_t seed)
{
	const struct slab_mem mem = {obtain, release, NULL};
	struct slab_options opt = {.size = sizeof(opt),
	    .flags = flags,
	    .slot_size = SLOT,
	    .seg_size = SEGMENT,
	    .keep_empty = 1,
	    .mem = &mem,
	    .meta = &mem,
	    .lock = lock};
	pthread_t thread[THREADS];
	struct job job[THREADS];
	struct slab *s;

	if (slab_create(&s, &opt) != 0 ||
	    pthread_barrier_init(&start, NULL, THREADS) != 0)
		return 1;
	for (int i = 0; i < THREADS; i++) {
		job[i] = (struct job){slab_clone(s), seed + (uint64_t)i};
		if (pthread_create(&thread[i], NULL, work, &job[i]) != 0)
			return 1;
	}
	for (int i = 0; i < THREADS; i++)
		pthread_join(thread[i], NULL);
	pthread_barrier_destroy(&start);
	if (slab_check(s) != 0)
		atomic_fetch_add(&broken, 1);
	slab_drop(s);
	for (int i = 0; i < 8; i++)
		give(s, atomic_exchange(&mailbox[i], NULL));
	printf("%s, flags %u: %d broken, %d leaked\n", name, flags,
	    atomic_load(&broken), atomic_load(&live));
	return atomic_load(&broken) != 0 || atomic_load(&live) != 0;
}

int
main(int argc, char **argv)
{
	uint64_t seed = random_seed("slab_threads");
	int bad = 0;

	if (argc > 1)
		rounds *= (unsigned)atoi(argv[1]);
	for (uint32_t flags = 0; flags < 4; flags++) {
		bad |= run("spin", &slab_lock_spin, flags, seed);
		bad |= run("yield", &yield_ops, flags, seed);
	}
	return bad;
}
