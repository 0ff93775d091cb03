/*
 * Records that are ahead of their slot's version: for each slot and version a
 * queue for each lane, so that what one lane publishes stays in order, and what
 * is tried when the slot moves is one record a lane, however many a hostile
 * client has parked. (Records of one lane and slot at different versions need no
 * order: the versions are it. A bogus one would hold up the good ones behind it.)
 *
 * They are found by a table hashed with a secret, that grows with what it holds.
 */
#include "config.h"

#include <stdlib.h>
#include <sys/random.h>

#include "lanes.h"
#include "pool.h"

#define BUCKETS_FIRST 64u

struct parked {
	STAILQ_ENTRY(parked) next;
	TAILQ_ENTRY(parked) age;
	struct parked_queue *queue;
	uint64_t index, record;
	uint64_t sweep; /* the last one begun when it was read */
};

/* Of one lane, about one slot at one version. */
struct parked_queue {
	LIST_ENTRY(parked_queue) entry;
	struct parked_place *place;
	struct lane_end *lane;
	STAILQ_HEAD(, parked) records;
};

struct parked_place {
	LIST_ENTRY(parked_place) entry;
	uint64_t key; /* slot and version */
	LIST_HEAD(, parked_queue) queues;
};

LIST_HEAD(bucket, parked_place);

struct parking {
	struct bucket *buckets;
	uint32_t size, places; /* buckets, a power of two; what is in them */
	uint64_t secret;       /* odd */
	TAILQ_HEAD(, parked) ages;
	bool busy; /* inside parked_retry() */
};

struct parking *
parking_new(void)
{
	struct parking *g = calloc(1, sizeof(*g));

	if (g == NULL)
		return NULL;
	TAILQ_INIT(&g->ages);
	g->size = BUCKETS_FIRST;
	g->buckets = calloc(g->size, sizeof(*g->buckets));
	if (g->buckets == NULL ||
	    getrandom(&g->secret, sizeof(g->secret), 0) != sizeof(g->secret)) {
		free(g->buckets);
		free(g);
		return NULL;
	}
	g->secret |= 1;
	return g;
}

void
parking_free(struct parking *g)
{
	if (g == NULL)
		return;
	free(g->buckets);
	free(g);
}

bool
parking_empty(const struct parking *g)
{
	return TAILQ_EMPTY(&g->ages);
}

/* Of a record, or, with the version of a slot, of those that fit it now. */
static uint64_t
key_of(uint32_t slot, uint64_t version)
{
	return slot | (version & ((UINT64_C(1) << RECORD_VERSION_BITS) - 1))
			  << REF_SLOT_BITS;
}

static uint64_t
key_of_record(uint64_t record)
{
	return key_of(ref_slot(record), record >> RECORD_VERSION_SHIFT);
}

/*
 * The high bits of a product with an odd secret (Dietzfelbinger et al., 1997).
 */
static struct bucket *
bucket_of(const struct parking *g, uint64_t key)
{
	unsigned bits = (unsigned)__builtin_ctz(g->size);

	return &g->buckets[key * g->secret >> (64 - bits)];
}

static struct parked_place *
find_place(const struct parking *g, uint64_t key)
{
	struct parked_place *s;

	LIST_FOREACH (s, bucket_of(g, key), entry)
		if (s->key == key)
			break;
	return s;
}

static struct parked_queue *
find_queue(const struct parking *g, const struct lane_end *e, uint64_t key)
{
	struct parked_place *s = find_place(g, key);
	struct parked_queue *q = NULL;

	if (s != NULL)
		LIST_FOREACH (q, &s->queues, entry)
			if (q->lane == e)
				break;
	return q;
}

/* Twice the buckets; without memory it goes on with those it has. */
static void
grow(struct parking *g)
{
	struct bucket *old = g->buckets;
	uint32_t size = g->size;
	struct parked_place *s;
	struct bucket *fresh = calloc(size * 2, sizeof(*fresh));

	if (fresh == NULL)
		return;
	g->buckets = fresh;
	g->size = size * 2;
	for (uint32_t i = 0; i < size; i++)
		while ((s = LIST_FIRST(&old[i])) != NULL) {
			LIST_REMOVE(s, entry);
			LIST_INSERT_HEAD(bucket_of(g, s->key), s, entry);
		}
	free(old);
}

static struct parked_place *
make_place(struct parking *g, uint64_t key)
{
	struct parked_place *s = find_place(g, key);

	if (s != NULL)
		return s;
	s = calloc(1, sizeof(*s));
	if (s == NULL)
		return NULL;
	s->key = key;
	LIST_INIT(&s->queues);
	if (g->places == g->size)
		grow(g);
	LIST_INSERT_HEAD(bucket_of(g, key), s, entry);
	g->places++;
	return s;
}

static void
drop_if_empty(struct parking *g, struct parked_place *s)
{
	if (!LIST_EMPTY(&s->queues))
		return;
	LIST_REMOVE(s, entry);
	g->places--;
	free(s);
}

static struct parked_queue *
make_queue(struct parking *g, struct lane_end *e, uint64_t key)
{
	struct parked_queue *q = find_queue(g, e, key);
	struct parked_place *s;

	if (q != NULL)
		return q;
	s = make_place(g, key);
	if (s == NULL)
		return NULL;
	q = calloc(1, sizeof(*q));
	if (q == NULL) {
		drop_if_empty(g, s);
		return NULL;
	}
	q->place = s;
	q->lane = e;
	STAILQ_INIT(&q->records);
	LIST_INSERT_HEAD(&s->queues, q, entry);
	return q;
}

static void
drop_queue_if_empty(struct parking *g, struct parked_queue *q)
{
	struct parked_place *s = q->place;

	if (!STAILQ_EMPTY(&q->records))
		return;
	LIST_REMOVE(q, entry);
	free(q);
	drop_if_empty(g, s);
}

bool
parked_before(const struct lane_end *e, uint64_t record)
{
	return e->parked > 0 && find_queue(e->attachment->pool->parking, e,
				    key_of_record(record)) != NULL;
}

bool
parked_add(struct lane_end *e, uint64_t index, uint64_t record)
{
	struct pool *p = e->attachment->pool;
	struct parked_queue *q =
	    make_queue(p->parking, e, key_of_record(record));
	struct parked *r;

	if (q == NULL)
		return false;
	r = calloc(1, sizeof(*r));
	if (r == NULL) {
		drop_queue_if_empty(p->parking, q);
		return false;
	}
	*r = (struct parked){
	    .queue = q, .index = index, .record = record, .sweep = p->sweeps};
	STAILQ_INSERT_TAIL(&q->records, r, next);
	TAILQ_INSERT_TAIL(&p->parking->ages, r, age);
	e->parked++;
	return true;
}

/* The first of its queue is forgotten; in the ring it is as it was. */
static void
drop(struct parking *g, struct parked *r)
{
	struct parked_queue *q = r->queue;

	STAILQ_REMOVE_HEAD(&q->records, next);
	TAILQ_REMOVE(&g->ages, r, age);
	q->lane->parked--;
	free(r);
}

/* The same, and its place in the ring is done. */
static void
leave(struct parking *g, struct parked *r)
{
	record_done(r->queue->lane, r->index);
	drop(g, r);
}

static void
refuse_first(struct parking *g, struct parked_queue *q)
{
	struct parked *r = STAILQ_FIRST(&q->records);

	record_refused(q->lane, r->index, r->record);
	leave(g, r);
}

/* Applies or refuses the queue's; whether one was applied. */
static bool
try_queue(struct parking *g, struct parked_queue *q)
{
	bool moved = false;
	struct parked *r;

	while ((r = STAILQ_FIRST(&q->records)) != NULL) {
		switch (record_apply(q->lane, r->index, r->record)) {
		case RECORD_AHEAD:
			return moved;
		case RECORD_REFUSED:
			refuse_first(g, q);
			break;
		case RECORD_APPLIED:
			leave(g, r);
			moved = true;
			break;
		}
	}
	return moved;
}

/* What waits for the slot's version of now; whether any was applied. */
static bool
try_slot(struct pool *p, uint32_t slot)
{
	struct parking *g = p->parking;
	uint64_t version = ledger_word(&p->ledger, slot).version;
	struct parked_place *s = find_place(g, key_of(slot, version));
	struct parked_queue *q, *next;
	bool moved = false;

	for (q = s != NULL ? LIST_FIRST(&s->queues) : NULL; q != NULL;
	     q = next) {
		next = LIST_NEXT(q, entry);
		moved = try_queue(g, q) || moved;
		drop_queue_if_empty(g, q);
	}
	return moved;
}

void
parked_retry(struct pool *p, uint32_t slot)
{
	struct parking *g = p->parking;

	if (TAILQ_EMPTY(&g->ages) || g->busy)
		return;
	g->busy = true;
	while (try_slot(p, slot))
		continue;
	g->busy = false;
}

void
parked_judge(struct pool *p, uint32_t most)
{
	uint64_t whole = p->sweeps - p->sweeping;
	struct parking *g = p->parking;
	struct parked_queue *q;
	struct parked *r;

	/*
	 * Of one queue the older were parked before, so the oldest of all is
	 * the first of its queue.
	 */
	while ((r = TAILQ_FIRST(&g->ages)) != NULL && r->sweep < whole &&
	       most-- > 0) {
		q = r->queue;
		pool_reject(q->lane->attachment);
		refuse_first(g, q);
		drop_queue_if_empty(g, q);
	}
}

void
parked_drop(struct lane_end *e)
{
	struct parking *g = e->attachment->pool->parking;
	struct parked *r, *next;
	struct parked_queue *q;

	for (r = TAILQ_FIRST(&g->ages); r != NULL && e->parked > 0; r = next) {
		next = TAILQ_NEXT(r, age);
		q = r->queue;
		if (q->lane != e)
			continue;
		/* Not done: a successor will read it again. */
		drop(g, r);
		drop_queue_if_empty(g, q);
	}
}
