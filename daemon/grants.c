/*
 * What clients are given before they ask, and how it comes back.
 *
 * A client's stock lies in its grant ring, where the daemon can take it back by
 * itself; only a few slots lie in the magazines above, which cost a barrier.
 * How much is ahead follows what the client has out: a flow with k slots under
 * way turns over at most 2 k and one batch, so that what was just freed is used
 * again soon, while it is in the caches. A batch is what fits BATCH_BYTES, up to
 * BATCH_SLOTS, and it is divided so: an eighth goes between rings and magazines
 * at a time, on either side; as many records, two or three of which make a slot,
 * may lie in a return ring before its client rings; and three eighths are ahead
 * in the grant ring, or as many slots as the client has out of late, if that is
 * more.
 */
#include "config.h"

#include "barrier.h"
#include "lanes.h"
#include "magazine.h"
#include "pool.h"
#include "probe.h"
#include "ring.h"
#include "slot.h"

#define BATCH_BYTES (UINT64_C(1) << 20)
#define BATCH_SLOTS 512u
/* Where there are fewer slots than this for each client, none is kept back. */
#define SHARE_MIN 64u
/* Of what a client had out, this part is forgotten with every turn. */
#define PEAK_DECAY 32u

static uint32_t
at_least_one(uint32_t n)
{
	return n > 0 ? n : 1;
}

/* Slots in one batch. */
static uint32_t
batch_of(const struct pool *p)
{
	uint64_t n = BATCH_BYTES / p->conf.slot_stride;

	return n < BATCH_SLOTS ? at_least_one((uint32_t)n) : BATCH_SLOTS;
}

/* Slots a magazine may hold. */
static uint32_t
magazine_limit(const struct pool *p, const struct attachment *a)
{
	uint64_t all = (uint64_t)p->segments_max * p->conf.slots_per_segment;
	uint64_t share = all / at_least_one(p->clients);
	uint32_t limit = batch_of(p) / 2;

	if (!a->write || share < SHARE_MIN || limit < 2 || !barrier_possible())
		return 0;
	limit = limit < share / 4 ? limit : (uint32_t)(share / 4);
	return limit < LANE_MAGAZINE ? limit : LANE_MAGAZINE;
}

/* Records that may lie in a return ring before the client should ring. */
static uint32_t
watermark(const struct pool *p, const struct lane_end *e)
{
	uint32_t used = p->count[SLOT_USED] + p->count[SLOT_IN_FLIGHT];
	uint32_t mark = batch_of(p), most = e->lane.geometry.records / 4;

	/* Many slots under way are worth fewer turns. */
	mark = mark > used / 8 ? mark : used / 8;
	return mark < most ? at_least_one(mark) : most;
}

/* Tells the client its marks, where they have changed. */
static void
set_marks(struct lane_end *e, uint32_t stock)
{
	struct pool *p = e->attachment->pool;
	struct lane_header *h = e->lane.header;
	uint32_t mark = watermark(p, e), low = stock / 2;

	/* Relaxed: heuristics, each for itself. */
	if (mark > e->watermark || mark < e->watermark / 2) {
		e->watermark = mark;
		store_relaxed(&h->watermark, mark);
	}
	if (low != e->low) {
		e->low = low;
		store_relaxed(&h->low, low);
	}
}

void
lanes_tune(struct pool *p)
{
	uint32_t batch = at_least_one(batch_of(p) / 8), limit;
	struct lane_end *e;
	bool less = false;

	LIST_FOREACH (e, &p->lanes, entry) {
		limit = magazine_limit(p, e->attachment);
		less = less || limit < e->limit;
		e->limit = limit;
		store_relaxed(&e->lane.header->batch, batch);
		store_relaxed(&e->lane.header->magazine_limit, limit);
		set_marks(e, 2 * e->low);
	}
	if (less)
		lanes_revoke(p, NULL);
}

/* Where the client is in its grant ring; false: nowhere. */
static bool
look(struct lane_end *e, uint64_t *head)
{
	if (e->breached)
		return false;
	if (ring_unread(&e->lane, e->mirror->grant_tail, e->head_seen, head))
		return true;
	lane_breach(e, "has a grant ring with an impossible head");
	return false;
}

uint32_t
lane_stock(struct lane_end *e)
{
	uint64_t head;

	return look(e, &head) ? (uint32_t)(e->mirror->grant_tail - head) : 0;
}

/* One grant ahead, in the order that ledger.h prescribes. */
static inline void
grant_one(struct lane_end *e, struct place *at)
{
	const struct attachment *a = e->attachment;
	struct ledger_mirror *m = e->mirror;
	uint32_t mask = e->lane.geometry.grants - 1;
	uint64_t tail = m->grant_tail, ref;

	slot_take(at);
	ref = slot_next_ref(a->pool, at);
	m->words[tail & mask] = ref;
	compiler_barrier();
	place_put(at, LEDGER_HELD, a->holder, ref_version(ref));
	compiler_barrier();
	m->words[(tail + 1) & mask] = 0;
	compiler_barrier();
	m->grant_tail = tail + 1;
	ring_put_grant(&e->lane, tail, ref);
}

/* Grants up to `n` from one segment: how many; 0: there is none with slots. */
static uint32_t
grant_some(struct lane_end *e, uint32_t n)
{
	struct pool *p = e->attachment->pool;
	int number = segments_pick(p, e->attachment->segments_seen);
	const struct seg *core;
	struct place at;
	uint32_t room;

	if (number < 0)
		return 0;
	at.number = (uint32_t)number;
	at.segment = &p->segments[number];
	core = seg_of_const(&at.segment->core);
	room = core->capacity - core->used;
	n = n < room ? n : room;
	for (uint32_t i = 0; i < n; i++)
		grant_one(e, &at);
	slot_count_granted(e->attachment, at.number, n);
	return n;
}

/* How many more may be granted ahead, with `stock` there already. */
static uint32_t
spare(const struct lane_end *e, uint32_t stock)
{
	const struct attachment *a = e->attachment;
	uint32_t room = e->lane.geometry.grants - 1 - stock;
	uint32_t n = pool_spare(a), quota = attachment_quota_left(a);

	n = n < quota ? n : quota;
	return n < room ? n : room;
}

/* Slots in the hands of the client. */
static uint32_t
out(const struct attachment *a, uint32_t stock)
{
	return a->charged > stock ? a->charged - stock : 0;
}

static uint32_t
wanted(struct lane_end *e, uint32_t stock)
{
	struct pool *p = e->attachment->pool;
	uint32_t now_out = out(e->attachment, stock);
	uint32_t most = at_least_one(batch_of(p) * 3 / 8);

	e->peak -= e->peak / PEAK_DECAY;
	e->peak = e->peak > now_out ? e->peak : now_out;
	most = most > e->peak ? most : e->peak;
	return e->target < most ? e->target : most;
}

static bool
may_fill(const struct lane_end *e)
{
	return e->target > 0 && !e->attachment->pool->hungry &&
	       !e->attachment->quarantined &&
	       pool_may_alloc(e->attachment, 1, false) == 0;
}

/* Also if nothing can be granted: else the client would ring for it for ever. */
static void
fill(struct lane_end *e, uint32_t stock)
{
	struct attachment *a = e->attachment;
	uint32_t want, n, got;

	want = may_fill(e) ? wanted(e, stock) : 0;
	n = want > stock ? want - stock : 0;
	n = n < spare(e, stock) ? n : spare(e, stock);
	for (; n > 0 && (got = grant_some(e, n)) > 0; n -= got) {
		stock += got;
		PROBE3(slabd, grant, a->pool->conf.name, a->holder, got);
	}
	ring_granted(&e->lane, e->mirror->grant_tail);
	set_marks(e, stock);
}

void
lane_top_up(struct lane_end *e)
{
	uint64_t head, taken;
	uint32_t stock;

	if (!look(e, &head))
		return;
	taken = head - e->head_seen;
	stock = (uint32_t)(e->mirror->grant_tail - head);
	e->head_seen = head;
	if (taken == 0 && stock >= e->low) {
		set_marks(e, 2 * e->low);
		return;
	}
	/* Half of it went before anybody noticed: keep more. */
	if (taken > 0 && stock < e->target / 2 &&
	    e->target < e->lane.geometry.grants / 2)
		e->target *= 2;
	fill(e, stock);
}

void
lane_asked(struct lane_end *e)
{
	struct pool *p = e->attachment->pool;
	uint64_t head;

	if (!look(e, &head))
		return;
	e->head_seen = head;
	if (e->target < e->lane.geometry.grants / 2)
		e->target = e->target > 0 ? e->target * 2
					  : at_least_one(batch_of(p) / 8);
	fill(e, (uint32_t)(e->mirror->grant_tail - head));
}

/* Frees what was granted from `head` on, in a ring that is closed there. */
static uint32_t
reclaim(struct lane_end *e, uint64_t head)
{
	struct ledger_mirror *m = e->mirror;
	uint32_t mask = e->lane.geometry.grants - 1, n = 0;

	for (; head != m->grant_tail; head++)
		n += pool_ungrant(e->attachment, m->words[head & mask]);
	e->head_seen = m->grant_tail;
	ring_reopen(&e->lane, m->grant_tail);
	return n;
}

uint32_t
lane_take_back(struct lane_end *e)
{
	struct ledger_mirror *m = e->mirror;
	uint64_t head;

	/* Each failure is the client's progress, or the end of it. */
	do {
		if (!look(e, &head))
			return 0;
		e->head_seen = head;
	} while (head != m->grant_tail && !ring_close(&e->lane, head));
	e->target = 0;
	set_marks(e, 0);
	return head == m->grant_tail ? 0 : reclaim(e, head);
}

static uint32_t
magazines_of(const struct lane_end *e)
{
	uint32_t used = load_relaxed(&e->lane.header->magazines_used);

	return used < e->lane.geometry.magazines ? used
						 : e->lane.geometry.magazines;
}

uint32_t
lane_magazines(const struct lane_end *e)
{
	uint32_t n = 0, count;

	for (uint32_t i = 0; i < magazines_of(e); i++) {
		count = load_relaxed(&lane_magazine(&e->lane, i)->count);
		n += count <= e->lane.geometry.magazine_room ? count : 0;
	}
	return n;
}

/* What was counted since the last time; what is too much for that is a lie. */
static uint64_t
fold(uint64_t now, uint64_t *seen)
{
	uint64_t more = now - *seen;

	*seen = now;
	return more < UINT64_C(1) << 40 ? more : 0;
}

void
lane_count(struct lane_end *e)
{
	struct lane_header *h = e->lane.header;
	uint64_t allocs = load_relaxed(&h->allocs), frees;
	struct pool *p = e->attachment->pool;
	const struct lane_magazine *m;

	frees = load_relaxed(&h->frees);
	for (uint32_t i = 0; i < magazines_of(e); i++) {
		m = lane_magazine(&e->lane, i);
		allocs += load_relaxed(&m->allocs);
		frees += load_relaxed(&m->frees);
	}
	p->allocs_total += fold(allocs, &e->allocs_seen);
	p->frees_total += fold(frees, &e->frees_seen);
}

/* Takes place `k` of magazine `i`; 1 when a slot is free by it. */
static unsigned
seize(struct lane_end *e, uint32_t i, uint32_t k)
{
	struct lane_magazine *magazine = lane_magazine(&e->lane, i);
	uint64_t ref = magazine_peek(magazine, k);
	struct ledger_mirror *m = e->mirror;
	unsigned freed = 0;

	if (ref == 0)
		return 0;
	m->taking_ref = ref;
	compiler_barrier();
	m->taking = 1 + i * e->lane.geometry.magazine_room + k;
	compiler_barrier();
	if (magazine_seize(magazine, k, ref))
		freed = pool_ungrant(e->attachment, ref);
	compiler_barrier();
	m->taking = 0;
	return freed;
}

uint32_t
lane_empty(struct lane_end *e)
{
	uint32_t freed = 0, n;

	for (uint32_t i = 0; i < magazines_of(e); i++) {
		n = magazine_idle(
		    lane_magazine(&e->lane, i), e->lane.geometry.magazine_room);
		for (uint32_t k = 0; k < n; k++)
			freed += seize(e, i, k);
	}
	return freed;
}

/* What was seized from a magazine belongs to nobody if it is not free yet. */
static void
finish_seizure(struct lane_end *e)
{
	const struct lane_geometry *g = &e->lane.geometry;
	struct ledger_mirror *m = e->mirror;
	uint64_t at = m->taking - 1;

	if (m->taking != 0 && at < g->magazines * g->magazine_room &&
	    magazine_is_seized(
		lane_magazine(&e->lane, (uint32_t)(at / g->magazine_room)),
		(uint32_t)(at % g->magazine_room)))
		pool_ungrant(e->attachment, m->taking_ref);
	compiler_barrier();
	m->taking = 0;
}

/* A grant cut short is made if the ledger says so, else it never was. */
static void
finish_grant(struct lane_end *e)
{
	struct ledger_mirror *m = e->mirror;
	uint32_t mask = e->lane.geometry.grants - 1;
	uint64_t ref = m->words[m->grant_tail & mask];

	if (ref == 0)
		return;
	if (!slot_is_granted(e->attachment, ref)) {
		m->words[m->grant_tail & mask] = 0;
		return;
	}
	m->words[(m->grant_tail + 1) & mask] = 0;
	compiler_barrier();
	m->grant_tail++;
}

/*
 * The client's ring again shows what the copy says. Its head has no witness any
 * more: one that can be is believed, it is about that client's slots alone.
 */
static void
show_grants(struct lane_end *e)
{
	struct ledger_mirror *m = e->mirror;
	uint64_t most = e->lane.geometry.grants - 1, head;
	uint64_t first = m->grant_tail > most ? m->grant_tail - most : 0;

	for (uint64_t i = first; i != m->grant_tail; i++)
		ring_put_grant(&e->lane, i, m->words[i & most]);
	ring_granted(&e->lane, m->grant_tail);
	/* Acquire: with ring_take(). */
	head = load_acquire(&e->lane.header->grant_head);
	e->head_seen = head & ~RING_CLOSED;
	if (e->head_seen < first || e->head_seen > m->grant_tail) {
		lane_breach(e, "has a grant ring with an impossible head");
		e->head_seen = m->grant_tail;
	} else if ((head & RING_CLOSED) != 0)
		reclaim(e, e->head_seen);
}

void
lane_recover_grants(struct lane_end *e)
{
	finish_grant(e);
	finish_seizure(e);
	show_grants(e);
}

static bool
is_of(const struct lane_end *e, const struct account *of)
{
	return !e->breached && (of == NULL || e->attachment->account == of);
}

uint32_t
lanes_revoke(struct pool *p, const struct account *of)
{
	struct lane_end *e;
	uint32_t freed = 0;

	p->revoking = true;
	LIST_FOREACH (e, &p->lanes, entry)
		if (is_of(e, of))
			lane_notify(e);
	/*
	 * See magazine.h. A slot in a magazine may have been received a moment
	 * ago, so what was published before the barrier is read first.
	 */
	barrier_all();
	lanes_sweep(p);
	LIST_FOREACH (e, &p->lanes, entry) {
		if (is_of(e, of))
			freed += lane_empty(e);
		/* Release: with the owner's acquire: it may go on. */
		store_release(&e->lane.header->revoked, e->notice);
	}
	p->revoking = false;
	return freed;
}
