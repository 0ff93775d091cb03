/*
 * How the two sides of a lane move along its rings. Nothing here makes a system
 * call or waits; whoever is told to ring a doorbell does it himself.
 *
 * The grant ring has one producer, the daemon, and many who take: the client's
 * threads, and the daemon when it wants back what nobody has read. All take by
 * compare-and-swap of the head. Entries below the tail do not change before the
 * head has passed them, and 63-bit indices never come round, so whoever moved
 * the head has what it read before. The daemon does not move it but closes it,
 * with a bit of the same word, takes the slots, and opens it at the tail: the
 * head says to a successor, too, which slots the daemon meant to take.
 *
 * The return ring has one producer, the client (its threads take turns), and
 * one consumer, the daemon, which reads each entry once.
 *
 * The doorbell. The daemon, done with a lane, stores `sleeping`, passes a full
 * fence, and looks at the ring again before it sleeps; a client stores its
 * tail, passes a full fence, and looks at `sleeping`: one of the two sees the
 * other (Dekker's idea, as io_uring and AF_XDP use it). A client looks only
 * when a ring has crossed the daemon's mark, or when it finds `eager` set; when
 * the daemon sets that, it asks all clients for a barrier (barrier.h) and reads
 * every ring once more, so that a client needs no fence to look at `eager`.
 */
#ifndef SLABD_RING_H
#define SLABD_RING_H

#include <stdbool.h>
#include <stdint.h>

#include "atomic.h"
#include "lane.h"

#define RING_CLOSED (UINT64_C(1) << 63) /* in grant_head */

/* The client's side. */

/* What a client alone knows of its return ring; the caller's lock guards it. */
struct ring_outlet {
	uint64_t tail; /* next index to write */
	uint64_t head; /* the daemon's, when last looked */
};

/* Takes up to `n` grants, lowest index first. Any thread. */
static inline unsigned
ring_take(const struct lane *l, uint64_t *refs, unsigned n)
{
	struct lane_header *h = l->header;
	uint32_t mask = l->geometry.grants - 1;
	uint64_t head = load_acquire(&h->grant_head), tail;
	unsigned got;

	do {
		if ((head & RING_CLOSED) != 0)
			return 0;
		/* Acquire: with ring_granted(). */
		tail = load_acquire(&h->grant_tail);
		got = tail - head < n ? (unsigned)(tail - head) : n;
		if (got == 0 || tail - head > l->geometry.grants)
			return 0;
		/* Relaxed: valid only if the exchange succeeds, see above. */
		for (unsigned i = 0; i < got; i++)
			refs[i] = load_relaxed(&l->grants[(head + i) & mask]);
		/* Release: the places may be written from now on; with
		 * ring_unread(). */
	} while (!atomic_compare_exchange_weak_explicit(&h->grant_head, &head,
	    head + got, memory_order_acq_rel, memory_order_acquire));
	return got;
}

/* Grants nobody has taken yet, as a client sees them. */
static inline uint64_t
ring_stock(const struct lane *l)
{
	/* Relaxed: a number for heuristics. */
	uint64_t head = load_relaxed(&l->header->grant_head);

	return (head & RING_CLOSED) != 0
		   ? 0
		   : load_relaxed(&l->header->grant_tail) - head;
}

/* Whether `n` more records fit now. */
static inline bool
ring_has_room(const struct lane *l, struct ring_outlet *o, unsigned n)
{
	if (o->tail + n - o->head <= l->geometry.records)
		return true;
	/* Acquire: with ring_release(), before the places are written again. */
	o->head = load_acquire(&l->header->record_head);
	return o->tail + n - o->head <= l->geometry.records;
}

/* Publishes `n` records; there is room. */
static inline void
ring_publish(const struct lane *l, struct ring_outlet *o,
    const uint64_t *records, unsigned n)
{
	uint32_t mask = l->geometry.records - 1;

	for (unsigned i = 0; i < n; i++)
		store_relaxed(&l->records[(o->tail + i) & mask], records[i]);
	o->tail += n;
	/* Release: with ring_tail(). */
	store_release(&l->header->record_tail, o->tail);
}

/*
 * After publishing: whether the daemon should hear of it. Then ring_wake() says
 * whether the doorbell must be rung.
 */
static inline bool
ring_is_due(const struct lane *l, struct ring_outlet *o)
{
	/* Relaxed, all: the daemon's barrier orders `eager`, and the mark may
	 * be an old one. */
	uint32_t mark = load_relaxed(&l->header->watermark);

	if (load_relaxed(&l->header->eager) != 0)
		return true;
	if (o->tail - o->head < mark)
		return false;
	o->head = load_acquire(&l->header->record_head);
	return o->tail - o->head >= mark;
}

/* The same for the grant ring, after taking. */
static inline bool
ring_is_low(const struct lane *l)
{
	return ring_stock(l) < load_relaxed(&l->header->low);
}

/* True: the daemon sleeps, nobody else has rung, ring the doorbell. */
static inline bool
ring_wake(const struct lane *l)
{
	/* With the daemon's, between ring_sleep() and its last look. */
	atomic_thread_fence(memory_order_seq_cst);
	return load_relaxed(&l->header->sleeping) != 0 &&
	       atomic_exchange_explicit(
		   &l->header->sleeping, 0, memory_order_relaxed) != 0;
}

/* The daemon's side: what it needs of the client's it reads once and checks. */

/* The end of the return ring, `read` being what was read of it; false: the
 * index is none a client can have written. */
static inline bool
ring_tail(const struct lane *l, uint64_t read, uint64_t head, uint64_t *tail)
{
	/* Acquire: with ring_publish(). */
	uint64_t is = load_acquire(&l->header->record_tail);

	*tail = is;
	return is - head <= l->geometry.records && is - head >= read - head;
}

static inline uint64_t
ring_record(const struct lane *l, uint64_t i)
{
	return load_relaxed(&l->records[i & (l->geometry.records - 1)]);
}

/* Records below `head` may be overwritten. Release: with ring_has_room(). */
static inline void
ring_release(const struct lane *l, uint64_t head)
{
	store_release(&l->header->record_head, head);
}

/*
 * The head of the grant ring, `seen` being the last one; false: it is none a
 * client can have written. Acquire: with ring_take().
 */
static inline bool
ring_unread(const struct lane *l, uint64_t tail, uint64_t seen, uint64_t *head)
{
	uint64_t is = load_acquire(&l->header->grant_head);

	*head = is;
	return tail - is <= tail - seen;
}

static inline void
ring_put_grant(const struct lane *l, uint64_t i, uint64_t ref)
{
	store_relaxed(&l->grants[i & (l->geometry.grants - 1)], ref);
}

/* Grants below `tail` are there. Release: with ring_take(). */
static inline void
ring_granted(const struct lane *l, uint64_t tail)
{
	store_release(&l->header->grant_tail, tail);
}

/* Nobody takes the grants from `head` on; false: the client was faster. */
static inline bool
ring_close(const struct lane *l, uint64_t head)
{
	return atomic_compare_exchange_strong_explicit(&l->header->grant_head,
	    &head, head | RING_CLOSED, memory_order_acq_rel,
	    memory_order_relaxed);
}

/* A closed ring is open again, and empty. Release: with ring_take(). */
static inline void
ring_reopen(const struct lane *l, uint64_t tail)
{
	store_release(&l->header->grant_head, tail);
}

/* The caller passes a full fence before it looks at the rings again. */
static inline void
ring_sleep(const struct lane *l)
{
	store_relaxed(&l->header->sleeping, 1);
}

#endif
