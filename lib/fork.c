/*
 * The fork detector. Lock-free, because a lock could be inherited locked.
 * Invariant: *page is 0 or the number of this process alone among those it was
 * forked from, since `last` is inherited and only rises.
 */
#include "config.h"

#include <sys/mman.h>
#include <unistd.h>

#include "atomic.h"
#include "fork.h"

static _Atomic(atomic_uint *) page;
static atomic_uint last;

/* A page is published only once the kernel has promised to wipe it. */
static atomic_uint *
page_make(void)
{
	size_t bytes = (size_t)sysconf(_SC_PAGESIZE);
	atomic_uint *fresh = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
	    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	atomic_uint *other = NULL;

	if (fresh == MAP_FAILED)
		return NULL;
	/* Zero-filled by the kernel: nothing to publish but the address. */
	if (madvise(fresh, bytes, MADV_WIPEONFORK) == 0 &&
	    atomic_compare_exchange_strong_explicit(&page, &other, fresh,
		memory_order_relaxed, memory_order_relaxed))
		return fresh;
	munmap(fresh, bytes);
	return other;
}

unsigned
fork_generation(void)
{
	atomic_uint *at = load_relaxed(&page);
	unsigned mine = 0, fresh;

	if (at == NULL && (at = page_make()) == NULL)
		return 0;
	/* One word each, and no data behind them: relaxed throughout. */
	fresh = atomic_fetch_add_explicit(&last, 1, memory_order_relaxed) + 1;
	if (atomic_compare_exchange_strong_explicit(
		at, &mine, fresh, memory_order_relaxed, memory_order_relaxed))
		return fresh;
	return mine;
}

bool
fork_foreign(unsigned generation)
{
	/* The caller has a handle, so the page was there before it. */
	return load_relaxed(load_relaxed(&page)) != generation;
}
