/*
 * How a pool grows and shrinks: segments attached and detached by the helper.
 *
 * Growth starts before the pool is empty (fewer than a quarter of a segment's
 * slots are free) and one segment at a time; an empty segment goes back when it
 * has not been needed for shrink_seconds, so that a load that swings around a
 * segment's border does not attach and detach at every swing.
 *
 * A segment needs three ranges: its part of the region, its block of the ledger
 * and its claims. The last two are never given back; only the region's memory
 * is.
 */
#include "config.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon.h"
#include "event.h"
#include "helper.h"
#include "lanes.h"
#include "log.h"
#include "pool.h"

/* Until growth that failed is tried again for those who wait. */
#define GROWTH_RETRY_MS 250u

uint32_t
segments_low_water(const struct pool *p)
{
	uint32_t quarter = p->conf.slots_per_segment / 4;

	return quarter > 0 ? quarter : 1;
}

/* Whether the segment has memory, or is about to: what it shares is kept. */
static bool
has_memory(const struct pool *p, uint32_t segment)
{
	return segment < p->segments_max &&
	       (p->segments[segment].state == LEDGER_ATTACHED ||
		   p->segments[segment].state == LEDGER_ATTACHING);
}

static uint64_t
segment_bytes(const struct pool *p)
{
	return p->conf.slot_stride * p->conf.slots_per_segment;
}

/*
 * The pages of segments first..last that no neighbour has. Where segments are
 * no whole number of pages neighbours share one: it comes with the first of
 * them and goes with the last, and a failed attach must not take it away.
 */
static void
page_range(const struct pool *p, uint32_t first, uint32_t last, uint64_t *at,
    uint64_t *bytes)
{
	uint64_t mask = p->region.page_bytes - 1;
	uint64_t from = first * segment_bytes(p);
	uint64_t to = (last + 1) * segment_bytes(p);

	if (first > 0 && has_memory(p, first - 1))
		from += mask;
	if (!has_memory(p, last + 1))
		to += mask;
	*at = from & ~mask;
	*bytes = (to & ~mask) > *at ? (to & ~mask) - *at : 0;
}

static int
submit(struct pool *p, uint32_t segment, enum helper_kind kind, int fd,
    uint64_t at, uint64_t bytes)
{
	/* What the daemon keeps beside the slots is small. */
	bool slots = fd == p->region.fd;
	struct helper_job job = {.kind = kind,
	    .fd = fd,
	    .offset = at,
	    .bytes = bytes,
	    .prefault = slots && p->conf.prefault,
	    .lock = slots && p->conf.lock};
	int err = bytes == 0 ? 0 : daemon_submit(p->daemon, p, segment, &job);

	if (err == 0 && bytes > 0) {
		p->jobs++;
		p->segments[segment].jobs++;
	}
	return err;
}

static void
set_state(struct pool *p, uint32_t segment, enum ledger_segment state)
{
	p->segments[segment].state = state;
	ledger_segment_set(&p->ledger, segment, state);
}

/* Remember why the pool could not grow; said once for the same reason. */
static void
growth_note(struct pool *p, int err, const char *why)
{
	if (p->growth_error != err)
		log_warn("pool", "%s: cannot attach a segment: %s",
		    p->conf.name, why);
	p->growth_error = err;
	snprintf(p->growth_why, sizeof(p->growth_why), "%s", why);
}

static int
first_absent(const struct pool *p)
{
	for (uint32_t i = 0; i < p->segments_max; i++)
		if (p->segments[i].state == LEDGER_ABSENT)
			return (int)i;
	return -1;
}

/* Somebody waits whom another segment would help. */
static bool
is_waited_for(const struct pool *p)
{
	const struct attachment *a;
	int next = TAILQ_EMPTY(&p->queue) ? -1 : first_absent(p);

	TAILQ_FOREACH (a, &p->queue, turn)
		if (next >= 0 && (uint32_t)next < a->segments_seen)
			return true;
	return false;
}

static void
growth_failed(struct pool *p, uint32_t segment)
{
	p->growing = false;
	set_state(p, segment, LEDGER_ABSENT);
	waiters_growth_failed(p);
	/* Nothing else may happen in the pool before there is enough again. */
	if (is_waited_for(p))
		timer_start(p->retry, GROWTH_RETRY_MS);
}

void
segments_retry(void *pool)
{
	segments_grow(pool);
}

/*
 * Memory again for what a client has cut off of an attached segment, from
 * `size` on, and for no page before that: a failed attach leaves a hole.
 */
static void
restore_segment(struct pool *p, uint32_t segment, uint64_t size)
{
	uint64_t at, bytes, from = size & ~(p->region.page_bytes - 1);

	page_range(p, segment, segment, &at, &bytes);
	if (p->segments[segment].state != LEDGER_ATTACHED || at + bytes <= from)
		return;
	if (at < from) {
		bytes -= from - at;
		at = from;
	}
	submit(p, segment, HELPER_ATTACH, p->region.fd, at, bytes);
}

/*
 * A client that may write can make the region shorter or longer. It gets its
 * size back, and attached segments their memory: what was cut off is lost, but
 * nobody meets a SIGBUS from then on.
 */
static void
restore_size(struct pool *p)
{
	uint64_t size;
	int err = region_size(&p->region, &size);

	/* Others are sealed. */
	if (p->region.kind != REGION_POSIX ||
	    (err == 0 && size == p->region.bytes))
		return;
	if (err == 0)
		err = region_grow(&p->region, p->region.bytes);
	log_error("pool",
	    "%s: its region was %llu bytes instead of %llu: a "
	    "client has changed it%s",
	    p->conf.name, (unsigned long long)size,
	    (unsigned long long)p->region.bytes,
	    err == 0 && size < p->region.bytes ? ", and what lay beyond is lost"
					       : "");
	for (uint32_t i = 0; err == 0 && i < p->segments_high; i++)
		restore_segment(p, i, size);
}

/* Ask the helper for the memory of one more segment. */
static void
attach_one(struct pool *p)
{
	int i = first_absent(p), err;
	uint64_t at, bytes;

	if (i < 0)
		return;
	/* The attach would give a cut region its length back unnoticed. */
	restore_size(p);
	p->growing = true;
	if ((uint32_t)i >= p->segments_high)
		p->segments_high = (uint32_t)i + 1;
	p->segments[i].failed = false;
	set_state(p, (uint32_t)i, LEDGER_ATTACHING);
	page_range(p, (uint32_t)i, (uint32_t)i, &at, &bytes);
	err = submit(p, (uint32_t)i, HELPER_ATTACH, p->ledger_region.fd,
	    ledger_block_at(&p->ledger, (uint32_t)i), p->ledger.block_bytes);
	if (err == 0)
		err = submit(
		    p, (uint32_t)i, HELPER_ATTACH, p->region.fd, at, bytes);
	if (err == 0 && claims_range(p, (uint32_t)i, &at, &bytes))
		err = submit(p, (uint32_t)i, HELPER_ATTACH, p->claims.region.fd,
		    at, bytes);
	if (err == 0)
		return;
	p->segments[i].failed = true;
	growth_note(p, err, "the segment helper is gone");
	if (p->segments[i].jobs == 0)
		growth_failed(p, (uint32_t)i);
}

bool
segments_may_help(const struct attachment *a)
{
	const struct pool *p = a->pool;

	if (!p->growing &&
	    (p->state != POOL_READY || p->segments_attached == p->segments_max))
		return false;
	for (uint32_t i = a->segments_seen; i-- > 0;)
		if (p->segments[i].state != LEDGER_ATTACHED)
			return true;
	return false;
}

void
segments_grow(struct pool *p)
{
	if (p->growing || p->state != POOL_READY ||
	    p->segments_attached >= p->segments_max)
		return;
	if (is_waited_for(p)) {
		attach_one(p);
		return;
	}
	if (p->segments_attached >= p->conf.min_segments &&
	    p->count[SLOT_FREE] >= segments_low_water(p) + p->owed)
		return;
	/* What failed is tried again when somebody needs it. */
	if (p->growth_error != 0 && p->count[SLOT_FREE] > p->owed)
		return;
	attach_one(p);
}

void
segments_start(struct pool *p)
{
	if (p->segments_attached < p->conf.min_segments && !p->growing)
		attach_one(p);
}

/* Give the segment's slots to the free list. */
static int
open_segment(struct pool *p, uint32_t segment)
{
	struct segment *s = &p->segments[segment];
	uint32_t n = p->conf.slots_per_segment;
	struct slab_geom geom = {.size = sizeof(geom),
	    .flags = SLAB_EXTERNAL | SLAB_CHECKED,
	    .slot_size = (uint32_t)p->conf.slot_stride};
	int made;

	s->links = malloc(SLAB_LINK_BYTES(n) + SLAB_BITMAP_BYTES(n));
	if (s->links == NULL)
		return -ENOMEM;
	geom.links = s->links;
	geom.bitmap = (char *)s->links + SLAB_LINK_BYTES(n);
	made = slab_seg_init(&s->core, NULL, segment_bytes(p), &geom);
	assert(made == (int)n);
	s->words = ledger_words(&p->ledger, segment);
	s->since = ledger_sinces(&p->ledger, segment);
	set_state(p, segment, LEDGER_ATTACHED);
	p->roomy[segment / 64] |= UINT64_C(1) << segment % 64;
	p->segments_attached++;
	p->segments_empty++;
	p->slots += n;
	p->count[SLOT_FREE] += n;
	return made > 0 ? 0 : -EINVAL;
}

/* Takes what the ledger says is not free off the list of a fresh segment. */
static void
take_used(struct pool *p, uint32_t segment)
{
	struct segment *s = &p->segments[segment];
	uint32_t used = p->conf.slots_per_segment, taken;

	/* What never was granted is not even looked at again. */
	while (used > 0 && load_relaxed(&s->words[used - 1]) == 0)
		used--;
	for (uint32_t i = 0; i < used; i++)
		slab_seg_take(&s->core);
	for (uint32_t i = used; i-- > 0;)
		if (ledger_unpack(load_relaxed(&s->words[i])).state ==
		    LEDGER_FREE)
			slab_seg_give(&s->core, i);
	taken = slab_seg_used(&s->core);
	p->count[SLOT_FREE] -= taken;
	p->segments_empty -= taken > 0;
	if (taken == p->conf.slots_per_segment)
		p->roomy[segment / 64] &= ~(UINT64_C(1) << segment % 64);
}

/* The daemon before was killed while it came or went: it goes. */
static void
undo(struct pool *p, uint32_t segment)
{
	uint64_t at, bytes;

	page_range(p, segment, segment, &at, &bytes);
	submit(p, segment, HELPER_DETACH, p->region.fd, at, bytes);
	if (p->segments[segment].jobs == 0)
		set_state(p, segment, LEDGER_ABSENT);
}

/* What the helper before had locked went with it. */
static void
lock(struct pool *p, uint32_t segment)
{
	uint64_t at, bytes;

	page_range(p, segment, segment, &at, &bytes);
	if (p->conf.lock)
		submit(p, segment, HELPER_LOCK, p->region.fd, at, bytes);
}

int
segments_recover(struct pool *p)
{
	enum ledger_segment state;
	int err = 0;

	for (uint32_t i = 0; i < p->segments_max; i++) {
		state = ledger_segment(&p->ledger, i);
		if (state == LEDGER_ABSENT)
			continue;
		p->segments_high = i + 1;
		set_state(
		    p, i, state == LEDGER_ATTACHED ? state : LEDGER_DETACHING);
		if (state == LEDGER_ATTACHED)
			p->claims.high = i + 1;
	}
	for (uint32_t i = 0; i < p->segments_high && err == 0; i++) {
		state = p->segments[i].state;
		if (state == LEDGER_DETACHING)
			undo(p, i);
		else if (state == LEDGER_ATTACHED)
			err = open_segment(p, i);
		if (err == 0 && state == LEDGER_ATTACHED) {
			take_used(p, i);
			lock(p, i);
		}
	}
	return err;
}

void
segments_unlock(struct pool *p)
{
	if (p->conf.lock && p->segments_high > 0)
		submit(
		    p, 0, HELPER_FORGET, p->region.fd, 0, p->region.page_bytes);
}

static void
close_segment(struct pool *p, uint32_t segment)
{
	uint32_t n = p->conf.slots_per_segment;

	free(p->segments[segment].links);
	p->segments[segment].links = NULL;
	p->roomy[segment / 64] &= ~(UINT64_C(1) << segment % 64);
	p->segments_attached--;
	p->segments_empty--;
	p->slots -= n;
	p->count[SLOT_FREE] -= n;
}

void
segments_clear(struct pool *p)
{
	for (uint32_t i = 0; i < p->segments_high; i++)
		free(p->segments[i].links);
}

static void
detach_one(struct pool *p, uint32_t segment)
{
	static struct log_limit limit = LOG_LIMIT_INIT("pool");
	uint64_t at, bytes;
	int err;

	close_segment(p, segment);
	set_state(p, segment, LEDGER_DETACHING);
	page_range(p, segment, segment, &at, &bytes);
	err = submit(p, segment, HELPER_DETACH, p->region.fd, at, bytes);
	if (err != 0 && log_allowed(&limit))
		log_warn("pool", "%s: segment %u keeps its memory for now: %s",
		    p->conf.name, segment, strerror(-err));
	if (p->segments[segment].jobs == 0)
		set_state(p, segment, LEDGER_ABSENT);
}

static void
attach_done(struct pool *p, uint32_t segment)
{
	p->growing = false;
	if (open_segment(p, segment) != 0) {
		growth_note(p, -ENOMEM, "the daemon is out of memory");
		growth_failed(p, segment);
		return;
	}
	p->growth_error = 0;
	claims_attached(p, segment);
	log_debug("pool", "%s: segment %u attached", p->conf.name, segment);
	waiters_serve(p);
	segments_grow(p);
	segments_shrink_later(p);
}

static void
attach_failed(struct pool *p, uint32_t segment, const struct helper_result *r)
{
	char why[sizeof(p->growth_why)];

	p->segments[segment].failed = true;
	if (r->status == -EPERM)
		snprintf(why, sizeof(why),
		    "%llu bytes cannot be locked (RLIMIT_MEMLOCK)",
		    (unsigned long long)r->needed);
	else if (r->needed > 0)
		snprintf(why, sizeof(why), "%llu bytes needed, %llu available",
		    (unsigned long long)r->needed,
		    (unsigned long long)r->available);
	else
		snprintf(why, sizeof(why), "%s", strerror(-r->status));
	growth_note(p, r->status, why);
}

void
segments_job_done(struct pool *p, uint32_t segment, bool attach,
    const struct helper_result *r)
{
	struct segment *s = &p->segments[segment];

	p->jobs--;
	s->jobs--;
	if (attach && r->status != 0 && s->state == LEDGER_ATTACHED)
		log_error("pool", "%s: segment %u has no memory any more: %s",
		    p->conf.name, segment, strerror(-r->status));
	else if (attach && r->status != 0)
		attach_failed(p, segment, r);
	else if (r->status != 0)
		log_warn("pool", "%s: segment %u: %s", p->conf.name, segment,
		    strerror(-r->status));
	if (s->jobs > 0)
		return;
	/* The state tells what they were for: a scrub's punch has none. */
	if (s->state == LEDGER_DETACHING) {
		set_state(p, segment, LEDGER_ABSENT);
		/* It may have been missed while it went. */
		segments_grow(p);
	} else if (s->state == LEDGER_ATTACHING && s->failed) {
		growth_failed(p, segment);
		segments_scrub(p);
	} else if (s->state == LEDGER_ATTACHING) {
		attach_done(p, segment);
	}
}

/* A segment's worth is free beyond need: fill the low ones, empty the others.
 */
static bool
is_roomy(const struct pool *p)
{
	return p->segments_attached > p->conf.min_segments &&
	       p->count[SLOT_FREE] >=
		   p->conf.slots_per_segment + 2 * segments_low_water(p);
}

int
segments_pick(const struct pool *p, uint32_t limit)
{
	uint64_t word;
	uint32_t segment;

	/* Where a slot was freed last the caches are warm. */
	if (p->hot < limit && !is_roomy(p) &&
	    (p->roomy[p->hot / 64] >> p->hot % 64 & 1) != 0)
		return (int)p->hot;
	for (uint32_t i = 0; i * 64 < limit; i++) {
		word = p->roomy[i];
		if (word == 0)
			continue;
		segment = i * 64 + (uint32_t)__builtin_ctzll(word);
		return segment < limit ? (int)segment : -1;
	}
	return -1;
}

/*
 * Whether so much is free that a segment could be empty, but for what clients
 * have ahead.
 */
static bool
may_have_spare(const struct pool *p)
{
	return TAILQ_EMPTY(&p->queue) &&
	       p->segments_attached > p->conf.min_segments &&
	       p->count[SLOT_FREE] >= p->conf.slots_per_segment +
					  2 * segments_low_water(p) + p->owed;
}

/* Whether the pool can do without one of its empty segments. */
static bool
has_spare(const struct pool *p)
{
	return p->segments_empty > 0 && may_have_spare(p);
}

void
segments_shrink_later(struct pool *p)
{
	if (!p->shrinking && p->state == POOL_READY && may_have_spare(p)) {
		p->shrinking = true;
		timer_start(p->shrink, p->daemon->conf->shrink_seconds * 1000);
	}
}

static bool
is_above_minimum(const struct pool *p)
{
	return p->segments_empty > 0 &&
	       p->segments_attached > p->conf.min_segments;
}

/* What clients have ahead keeps segments from being empty. */
static void
take_stock_back(struct pool *p)
{
	struct lane_end *e;

	if (p->segments_attached <= p->conf.min_segments)
		return;
	lanes_sweep(p);
	LIST_FOREACH (e, &p->lanes, entry)
		lane_take_back(e);
	lanes_revoke(p, NULL);
}

/* Give empty segments back, the highest first, while `may` says so. */
static int
detach_empty(struct pool *p, bool (*may)(const struct pool *))
{
	int n = 0;

	take_stock_back(p);

	for (uint32_t i = p->segments_high; i-- > 0 && may(p);) {
		if (p->segments[i].state != LEDGER_ATTACHED ||
		    slab_seg_used(&p->segments[i].core) != 0)
			continue;
		detach_one(p, i);
		n++;
	}
	segments_scrub(p);
	return n;
}

void
segments_shrink(void *arg)
{
	struct pool *p = arg;

	p->shrinking = false;
	pool_look_at_clock();
	detach_empty(p, has_spare);
}

int
segments_trim(struct pool *p)
{
	return detach_empty(p, is_above_minimum);
}

/* Punch a run of absent segments; no segment's state changes. */
static void
punch(struct pool *p, uint32_t first, uint32_t last)
{
	uint64_t at, bytes;

	page_range(p, first, last, &at, &bytes);
	submit(p, first, HELPER_DETACH, p->region.fd, at, bytes);
}

void
segments_scrub(struct pool *p)
{
	uint64_t due =
	    p->segments_attached * (segment_bytes(p) + p->region.page_bytes);
	uint32_t first = p->segments_max;
	uint64_t size;

	restore_size(p);
	if (p->jobs > 0 || region_allocated(p->region.fd) <= due)
		return;
	for (uint32_t i = 0; i <= p->segments_max; i++) {
		if (i < p->segments_max && !has_memory(p, i)) {
			first = first < i ? first : i;
		} else if (first < i) {
			punch(p, first, i - 1);
			first = p->segments_max;
		}
	}
	/* What is sealed is longer than the pool is now. */
	if (region_size(&p->region, &size) == 0 && size > p->region.bytes)
		submit(p, 0, HELPER_DETACH, p->region.fd, p->region.bytes,
		    size - p->region.bytes);
}
