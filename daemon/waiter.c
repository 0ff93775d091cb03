/*
 * Requests that wait: for slots, first come first served and one turn a
 * client, and for everything sent to be received.
 *
 * An attachment with waiting requests stands once on the pool's queue. When
 * slots are free the first attachment gets what its first request asks for, and
 * goes to the end if it has more. Who asks for many is served when so many are
 * free, and the others wait behind; but three things are not the others' to
 * wait for: what is reserved for oneself, segments that those before have not
 * mapped, and more than an equal share of the pool for one who stands before,
 * or a client could stop the rest by asking for too much.
 */
#include "config.h"

#include <errno.h>
#include <stdlib.h>

#include "client.h"
#include "lanes.h"
#include "pool.h"
#include "wire.h"

static void
enqueue(struct attachment *a)
{
	if (a->queued || TAILQ_EMPTY(&a->waiters))
		return;
	a->queued = true;
	TAILQ_INSERT_TAIL(&a->pool->queue, a, turn);
}

static void
dequeue(struct attachment *a)
{
	if (!a->queued)
		return;
	a->queued = false;
	TAILQ_REMOVE(&a->pool->queue, a, turn);
}

void
waiter_add(struct waiter *w)
{
	struct attachment *a = w->attachment;

	TAILQ_INSERT_TAIL(&a->waiters, w, entry);
	a->pool->growth_waiters += w->growth_only;
	enqueue(a);
	lanes_mind_waiters(a->pool);
	waiters_serve(a->pool);
}

void
waiter_add_flush(struct waiter *w)
{
	struct attachment *a = w->attachment;

	TAILQ_INSERT_TAIL(&a->flushes, w, entry);
	a->pool->flushes++;
	lanes_mind_waiters(a->pool);
	/* That may have read what was waited for. */
	waiters_flushed(a);
}

static struct waiter *
find(struct waiter_list *list, uint32_t tag)
{
	struct waiter *w;

	TAILQ_FOREACH (w, list, entry)
		if (w->tag == tag)
			break;
	return w;
}

struct waiter *
waiter_find(struct attachment *a, uint32_t tag)
{
	struct waiter *w = find(&a->waiters, tag);

	return w != NULL ? w : find(&a->flushes, tag);
}

static void
finish(struct waiter_list *list, struct waiter *w, int status,
    const uint64_t *refs)
{
	struct attachment *a = w->attachment;

	TAILQ_REMOVE(list, w, entry);
	a->pool->growth_waiters -= w->growth_only;
	a->pool->flushes -= list == &a->flushes;
	if (TAILQ_EMPTY(&a->waiters))
		dequeue(a);
	w->done(w, status, refs);
}

void
waiter_cancel(struct waiter *w)
{
	struct attachment *a = w->attachment;
	bool flush = find(&a->flushes, w->tag) == w;

	finish(flush ? &a->flushes : &a->waiters, w, -ECANCELED, NULL);
	waiters_serve(a->pool);
}

/* True when the first in the queue was answered. */
static bool
serve_one(struct attachment *a)
{
	uint64_t refs[WIRE_BATCH_MAX];
	struct waiter *w = TAILQ_FIRST(&a->waiters);
	int n = pool_alloc(a, w->n, !w->growth_only, w->tag, refs);

	if (n == -ENOBUFS)
		return false;
	/* Its next request waits for its next turn. */
	dequeue(a);
	finish(&a->waiters, w, n, refs);
	enqueue(a);
	return true;
}

/*
 * Who waits for growth alone gets its answer: those whom nothing that is still
 * to come would help, or, when it failed, everybody.
 */
static void
give_up_growth(struct pool *p, bool failed, int status)
{
	struct attachment *a, *next_attachment;
	struct waiter *w, *next;

	for (a = TAILQ_FIRST(&p->queue); a != NULL && p->growth_waiters > 0;
	     a = next_attachment) {
		next_attachment = TAILQ_NEXT(a, turn);
		if (!failed && segments_may_help(a))
			continue;
		for (w = TAILQ_FIRST(&a->waiters); w != NULL; w = next) {
			next = TAILQ_NEXT(w, entry);
			if (w->growth_only)
				finish(&a->waiters, w, status, NULL);
		}
	}
}

/* Whether what it waits for leaves it within an equal share of the pool. */
static bool
holds_up(const struct attachment *a)
{
	const struct pool *p = a->pool;
	const struct waiter *w = TAILQ_FIRST(&a->waiters);
	uint64_t all = (uint64_t)p->segments_max * p->conf.slots_per_segment;
	uint64_t share = p->clients < all ? all / p->clients : 1;

	return a->charged + (uint64_t)(w->growth_only ? 1 : w->n) <= share;
}

void
waiters_resume(struct attachment *a)
{
	enqueue(a);
	waiters_serve(a->pool);
}

/* The first in the queue who can be served was; false: there is none. */
static bool
serve_next(struct pool *p)
{
	uint32_t blocked = 0; /* segments mapped by those who wait on */
	struct attachment *a, *next;

	if (p->count[SLOT_FREE] == 0 && orphans_slots(p) == 0)
		return false;
	for (a = TAILQ_FIRST(&p->queue); a != NULL; a = next) {
		next = TAILQ_NEXT(a, turn);
		/*
		 * Who does not read waits until it does: of one client only
		 * the last grant can be on its way, so that a successor can
		 * tell what has arrived.
		 */
		if (client_is_choked(a->client)) {
			dequeue(a);
			continue;
		}
		if (a->segments_seen <= blocked &&
		    TAILQ_FIRST(&a->waiters)->n > attachment_owed(a))
			continue;
		if (serve_one(a))
			return true;
		if (a->segments_seen > blocked && holds_up(a))
			blocked = a->segments_seen;
		if (blocked == p->segments_max && p->owed == 0)
			return false;
	}
	return false;
}

void
waiters_serve(struct pool *p)
{
	while (serve_next(p))
		;
	segments_grow(p);
	give_up_growth(p, false, -ENOBUFS);
	segments_shrink_later(p);
	lanes_mind_waiters(p);
}

uint32_t
waiters_leave(const struct attachment *a, uint32_t n)
{
	uint32_t owed = attachment_owed(a);
	const struct attachment *other;

	TAILQ_FOREACH (other, &a->pool->queue, turn)
		if (other->segments_seen >= a->segments_seen && holds_up(other))
			return n < owed ? n : owed;
	return n;
}

void
waiters_growth_failed(struct pool *p)
{
	give_up_growth(p, true, -ENOSPC);
}

void
waiters_flushed(struct attachment *a)
{
	struct waiter *w;

	while (a->open == 0 && (w = TAILQ_FIRST(&a->flushes)) != NULL)
		finish(&a->flushes, w, 0, NULL);
	/* The lanes are told that nobody waits with the next waiters_serve().
	 */
}

void
waiters_end_alloc(struct attachment *a, int status)
{
	struct waiter *w;

	while ((w = TAILQ_FIRST(&a->waiters)) != NULL)
		finish(&a->waiters, w, status, NULL);
}

void
waiters_end(struct attachment *a, int status)
{
	struct waiter *w;

	waiters_end_alloc(a, status);
	while ((w = TAILQ_FIRST(&a->flushes)) != NULL)
		finish(&a->flushes, w, status, NULL);
}

void
waiters_forget(struct attachment *a)
{
	struct waiter *w;

	while ((w = TAILQ_FIRST(&a->waiters)) != NULL) {
		TAILQ_REMOVE(&a->waiters, w, entry);
		a->pool->growth_waiters -= w->growth_only;
		free(w);
	}
	while ((w = TAILQ_FIRST(&a->flushes)) != NULL) {
		TAILQ_REMOVE(&a->flushes, w, entry);
		a->pool->flushes--;
		free(w);
	}
	dequeue(a);
}

unsigned
waiters_count(const struct pool *p)
{
	const struct attachment *a;
	const struct waiter *w;
	unsigned n = 0;

	TAILQ_FOREACH (a, &p->queue, turn)
		TAILQ_FOREACH (w, &a->waiters, entry)
			n++;
	return n;
}
