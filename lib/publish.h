/*
 * Publishing one record, the everyday case of post.h: the ring has room, and
 * nothing is kept. Inline, since it is most of what handing on costs.
 */
#ifndef SLABD_PUBLISH_H
#define SLABD_PUBLISH_H

#include <pthread.h>

#include "pool.h"
#include "ring.h"

/*
 * Takes the lock, with room for one record: 0; or waits for the daemon to make
 * room, without the lock. -EAGAIN: non-blocking, and it was asked; what a
 * message can fail with.
 */
static inline int
post_begin(struct slabd_pool *p)
{
	pthread_mutex_lock(&p->post.lock);
	/* Relaxed: it changes under the lock. */
	if (load_relaxed(&p->post.n_kept) == 0 &&
	    ring_has_room(&p->lane, &p->post.outlet, 1))
		return 0;
	return post_make_room(p);
}

/* With the lock and the room. */
static inline void
post_publish(struct slabd_pool *p, const uint64_t *records, unsigned n)
{
	ring_publish(&p->lane, &p->post.outlet, records, n);
	/*
	 * Before `eager` and the claims are looked at: with barrier_all() in
	 * the daemon, or, where that is not possible, with its own full fence.
	 */
	if (p->fences)
		atomic_thread_fence(memory_order_seq_cst);
	else
		compiler_barrier();
}

static inline void
post_record(struct slabd_pool *p, uint64_t record)
{
	post_publish(p, &record, 1);
}

/* Drops the lock, and wakes the daemon if it should hear of what there is. */
static inline void
post_end(struct slabd_pool *p)
{
	bool due = ring_is_due(&p->lane, &p->post.outlet);

	pthread_mutex_unlock(&p->post.lock);
	if (due)
		post_wake(p);
}

/* Drops the lock; nothing was published. */
static inline void
post_cancel(struct slabd_pool *p)
{
	pthread_mutex_unlock(&p->post.lock);
}

#endif
