/*
 * Slots at hand: what the daemon has granted ahead of need, and what was freed
 * and not given back.
 *
 * A thread that uses a pool's lane takes a seat: one of the lane's magazines
 * (magazine.h) is its own until it ends, or needs the place in its array of
 * seats for another pool. From there it allocates and frees without locks,
 * barriers and system calls; an empty magazine is filled from the grant ring,
 * a full one emptied into the return ring. A slot in a magazine is SLOT_FREED
 * in the table, under exactly the ref in the magazine.
 *
 * The gate. A pool with a lane has a number nobody else ever has, its serial. A
 * seat bears the serial of its pool, and so does the pool's gate, a word in
 * memory that the kernel wipes in a forked child. While both agree the seat is
 * this pool's, and it is this process's to use: no other question is asked. To
 * close the gate is to end the use of the lane.
 *
 * Nothing here is async-signal-safe; but a handler that allocates or frees
 * while it interrupts just that, in the same thread and pool, gets EDEADLK.
 */
#ifndef SLABD_STOCK_H
#define SLABD_STOCK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "magazine.h"
#include "pool.h"

#define SEATS	   8u /* of one thread; a power of two */
#define SEAT_EMPTY UINT64_MAX

struct seat {
	uint64_t
	    everyday; /* the serial, but SEAT_EMPTY if the table is checked */
	uint64_t serial; /* the pool's; 0 or SEAT_EMPTY: none */
	struct lane_magazine *magazine;
	uint32_t limit;	 /* refs it may keep */
	uint32_t number; /* of the magazine */
	uint64_t allocs; /* the magazine's, at its last flush */
};

/* Its place in the array is the serial's remainder. */
extern _Thread_local struct seat stock_seats[SEATS]
    __attribute__((tls_model("initial-exec")));

/* The gate of a pool without a lane. */
extern _Atomic uint64_t stock_closed;

/*
 * Opens the gate of a pool whose lane is mapped: 0 or -ENOMEM. Closing it is
 * right in every state, and leaves what is in the magazines to the daemon.
 */
int stock_open(struct slabd_pool *);
void stock_close(struct slabd_pool *);
/* The pool's daemon is gone for good: nobody takes the fast way any more. */
void stock_shut(struct slabd_pool *);

/*
 * The slow ways, for every case the fast ones below leave; the pool is usable.
 * Slots at hand: how many, 0..n, or -EDEADLK.
 */
int stock_take(struct slabd_pool *, void **v, unsigned n);
/* Frees; 1: other holds are left. -EALREADY, -EPERM, -EDEADLK. */
int stock_put(struct slabd_pool *, uint32_t slot);
/* Attends to a notice for this thread's magazine, if there is one. */
void stock_look(struct slabd_pool *);
/* There is a notice; outside the magazine. 0. */
int stock_attend(struct slabd_pool *, struct lane_magazine *)
    __attribute__((cold));

/* Whether the pool's lane may be used, in this process. */
static inline bool
stock_usable(const struct slabd_pool *p)
{
	/* Relaxed: one word, and no data behind it. */
	return load_relaxed(p->gate) == p->serial;
}

/*
 * This thread's seat, if that is all it needs to know; NULL: it has none, or
 * the table is checked.
 */
static inline struct seat *
stock_seat(const struct slabd_pool *p)
{
	uint64_t gate = load_relaxed(p->gate); /* see stock_usable() */
	struct seat *seat = &stock_seats[gate % SEATS];

	return seat->everyday == gate ? seat : NULL;
}

/* One operation more; only the magazine's thread writes it. */
static inline void
stock_count(_Atomic uint64_t *counter, uint64_t n)
{
	store_relaxed(counter, load_relaxed(counter) + n);
}

/*
 * A slot from this thread's magazine, for the caller; 0: it takes more than
 * that. Afterwards stock_noticed() has to be asked.
 */
static inline __attribute__((always_inline)) uint64_t
stock_pop(struct slabd_pool *p, struct lane_magazine *m)
{
	uint64_t ref;

	if (!magazine_enter(m))
		return 0;
	ref = magazine_noticed(m, &p->lane) ? 0 : magazine_pop(m);
	if (ref == 0 || !table_pick(&p->table, ref, false)) {
		/* What is wrong with it is looked at there. */
		if (ref != 0)
			magazine_push(m, ref);
		magazine_leave(m);
		return 0;
	}
	stock_count(&m->allocs, 1);
	magazine_leave(m);
	return ref;
}

/* Frees into it, unless it has `limit` refs; false: it takes more. */
static inline __attribute__((always_inline)) bool
stock_push(struct slabd_pool *p, struct lane_magazine *m, uint32_t limit,
    uint32_t slot)
{
	uint64_t ref;

	if (!magazine_enter(m))
		return false;
	/* Relaxed: only this thread writes the count. */
	if (magazine_noticed(m, &p->lane) || load_relaxed(&m->count) >= limit ||
	    !table_put(&p->table, slot, &ref, false)) {
		magazine_leave(m);
		return false;
	}
	magazine_push(m, ref);
	stock_count(&m->frees, 1);
	magazine_leave(m);
	return true;
}

/* Whether there is something for stock_attend(), after having been inside. */
static inline bool
stock_noticed(const struct slabd_pool *p, const struct lane_magazine *m)
{
	return __builtin_expect(magazine_noticed(m, &p->lane), false);
}

#endif
