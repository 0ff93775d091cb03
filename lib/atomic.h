/*
 * Atomic operations whose names carry their order. Every use of an acquire or
 * a release names its partner in a comment beside it; a relaxed one says why
 * no order is needed.
 */
#ifndef SLABD_ATOMIC_H
#define SLABD_ATOMIC_H

#include <stdatomic.h>

/*
 * Built so, the library is one whose threads may stop for long before any of
 * these, as they may by chance: tests/stress/stall.c has the chance.
 */
#ifdef SLABD_STALLS
void stall(void);
#else
#define stall() ((void)0)
#endif

#define load_relaxed(p) \
	(stall(), atomic_load_explicit((p), memory_order_relaxed))
#define load_acquire(p) \
	(stall(), atomic_load_explicit((p), memory_order_acquire))
#define store_relaxed(p, v) \
	(stall(), atomic_store_explicit((p), (v), memory_order_relaxed))
#define store_release(p, v) \
	(stall(), atomic_store_explicit((p), (v), memory_order_release))
/* Keeps the compiler, not the processor, from moving stores across. */
#define compiler_barrier() atomic_signal_fence(memory_order_seq_cst)

#endif
