/*
 * Opening the pools at start: finding those again that a daemon before us has
 * served.
 *
 * Everything is there by name, and the ledger says what it means: segments are
 * opened as they were, free lists and books rebuilt from the slots' words,
 * attachments and the clients behind them are put in their places, away until
 * they come back, and each lane goes on at the daemon's own indices. What that
 * daemon was killed in is finished, or never was.
 *
 * A ledger is believed if its layout, its pool, its socket and the machine's
 * boot are ours, and every slot of it makes sense. One that nobody has a stake
 * in any more makes way for what the configuration says now; else it stays as
 * it is until it is empty at a start.
 */
#include "config.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sysexits.h>
#include <unistd.h>

#include "client.h"
#include "daemon.h"
#include "lanes.h"
#include "log.h"
#include "pool.h"
#include "slot.h"
#include "store.h"
#include "wire.h"

static int
find_object(struct pool *p, struct region *r, const char *what)
{
	char name[REGION_NAME_MAX];

	instance_object_name(
	    &p->daemon->instance, p->conf.name, what, name, sizeof(name));
	return region_open(r, name);
}

static bool
is_ours(const struct pool *p, const struct ledger_identity *id)
{
	return strcmp(id->pool, p->conf.name) == 0 &&
	       id->instance == p->daemon->instance.hash &&
	       memcmp(id->boot_id, p->daemon->boot_id, sizeof(id->boot_id)) ==
		   0;
}

static int
find_ledger(struct pool *p)
{
	struct region *r = &p->ledger_region;
	struct ledger_identity id;
	void *mem;
	int err = find_object(p, r, "ledger");

	if (err != 0)
		return err;
	/* Its maker was killed before there was anything in it. */
	if (r->bytes < LEDGER_PAGE)
		return -ESTALE;
	mem = mmap(NULL, r->bytes, PROT_READ | PROT_WRITE,
	    MAP_SHARED | MAP_NORESERVE, r->fd, 0);
	if (mem == MAP_FAILED)
		return -errno;
	madvise(mem, r->bytes, MADV_DONTDUMP);
	err = ledger_open(&p->ledger, mem, r->bytes, &id);
	if (err == 0 && is_ours(p, &id)) {
		p->id = id.pool_id;
		return 0;
	}
	munmap(mem, r->bytes);
	p->ledger.header = NULL;
	return -ESTALE;
}

static bool
is_in_use(const struct ledger *l)
{
	for (uint32_t i = 0; i < l->geometry.attachments_max; i++)
		if (l->attachments[i].state != LEDGER_NOBODY)
			return true;
	return false;
}

/* The pool as its users know it; what can change while they do is new. */
static int
take_geometry(struct pool *p)
{
	const struct ledger_geometry *g = &p->ledger.geometry;
	struct config_pool *conf = &p->conf;
	uint32_t segments = ledger_segments_max(&p->ledger);

	if (g->attachments_max != g->row_bits + POOL_ORPHAN_HOLDERS ||
	    segments == 0 || segments > g->segments_cap)
		return -ESTALE;
	if (g->slot_size != conf->slot_stride ||
	    g->slots_per_segment != conf->slots_per_segment ||
	    g->row_bits != conf->max_clients) {
		if (!is_in_use(&p->ledger))
			return -ESTALE;
		if (conf->slot_size > 0)
			log_warn("pool",
			    "%s: slot_size, slots_per_segment and max_clients "
			    "stay as they were: it is in use",
			    conf->name);
		conf->slot_size = conf->slot_stride = g->slot_size;
		conf->slots_per_segment = g->slots_per_segment;
		conf->max_clients = g->row_bits;
	}
	if (conf->max_segments < segments)
		conf->max_segments = segments;
	if (conf->max_segments > g->segments_cap)
		conf->max_segments = g->segments_cap;
	if (conf->min_segments > conf->max_segments)
		conf->min_segments = conf->max_segments;
	p->segments_max = conf->max_segments;
	p->lane_geometry = lane_geometry_of(g->ring_size);
	return lane_bytes(&p->lane_geometry) > 0 ? 0 : -ESTALE;
}

static enum config_backing
backing_of(const struct region *r)
{
	return r->kind == REGION_HUGETLB ? CONFIG_BACKING_HUGETLB
	       : r->kind == REGION_MEMFD ? CONFIG_BACKING_MEMFD
					 : CONFIG_BACKING_POSIX;
}

/* It may have more segments than before, as after pool_resize(). */
static int
make_room(struct pool *p)
{
	uint64_t bytes = p->region.bytes;
	int err;

	p->region.bytes = 0;
	err = region_grow(&p->region, bytes);
	return err == 0 ? pool_reserve_head(p) : err;
}

static int
find_region(struct pool *p)
{
	enum config_backing was = p->conf.backing;
	int err = find_object(p, &p->region, "data");

	if (err != 0)
		return err;
	p->conf.backing = backing_of(&p->region);
	if (p->conf.backing != was && !is_in_use(&p->ledger))
		return -ESTALE;
	/* What a client has made of its size is put right with the segments. */
	p->region.bytes = pool_region_bytes(p, p->segments_max);
	if (p->segments_max > ledger_segments_max(&p->ledger))
		err = make_room(p);
	if (err != 0)
		return err;
	p->region_rdonly = region_open_readonly(&p->region);
	if (p->region_rdonly < 0)
		return p->region_rdonly;
	ledger_segments_max_set(&p->ledger, p->segments_max);
	return 0;
}

/* Whether a slot that is no more than the ledger's word for it can be true. */
static int
check_holder(void *arg, uint32_t slot, unsigned holder)
{
	const struct pool *p = arg;

	(void)slot;
	return holder <= p->ledger.geometry.attachments_max &&
		       p->attachments[holder - 1] != NULL
		   ? 0
		   : -EUCLEAN;
}

/* Calls `visit` for each slot that is not free, until it returns not 0. */
static int
each_taken(struct pool *p, int (*visit)(struct pool *, uint32_t slot))
{
	uint32_t n = p->conf.slots_per_segment, left;
	const struct segment *s;
	int err = 0;

	for (uint32_t i = 0; i < p->segments_high && err == 0; i++) {
		s = &p->segments[i];
		left =
		    s->state == LEDGER_ATTACHED ? slab_seg_used(&s->core) : 0;
		for (uint32_t k = 0; left > 0 && err == 0; k++)
			if (slab_seg_taken(&s->core, k) == 1) {
				left--;
				err = visit(p, i * n + k);
			}
	}
	return err;
}

static int
check_slot(struct pool *p, uint32_t slot)
{
	if (!ledger_check(&p->ledger, slot))
		return -EUCLEAN;
	return pool_each_holder(p, slot, check_holder, p);
}

static int
charge_holder(void *arg, uint32_t slot, unsigned holder)
{
	struct pool *p = arg;
	struct attachment *a = p->attachments[holder - 1];
	bool held, open;

	pool_stake(p, slot, a, &held, &open);
	slot_charge(a, ledger_segment_of(&p->ledger, slot), held, open, 1);
	return 0;
}

static int
book_slot(struct pool *p, uint32_t slot)
{
	const struct attachment *sender = pool_sender(p, slot);

	p->count[pool_class(p, slot)]++;
	pool_each_holder(p, slot, charge_holder, p);
	if (sender != NULL && sender->client == NULL)
		orphan_add(p, ledger_ref(&p->ledger, slot));
	return 0;
}

static int
find_attachments(struct pool *p)
{
	int err = 0;

	for (unsigned holder = 1;
	     holder <= p->ledger.geometry.attachments_max && err == 0; holder++)
		err = attachment_recover(p, holder);
	return err;
}

/* What the answer to the request of a met intent was to be. */
static unsigned
status_of(const struct ledger *l, const struct ledger_intent *i)
{
	if (i->key >> 32 != WIRE_RECALL)
		return 0;
	return ledger_unpack(i->word).state == LEDGER_IN_FLIGHT
		   ? 1
		   : (unsigned)(i->share & 0xff) -
			 ledger_share_of(l, ref_slot(i->ref)).open;
}

/*
 * A request that was interrupted was done if its slot has changed. That is
 * judged once, before anything else changes: else it never was.
 */
static void
finish_request(struct attachment *a)
{
	const struct ledger *l = &a->pool->ledger;
	struct ledger_intent *i = &a->mirror->request;
	bool met;

	if (i->key == 0 || !pool_slot_attached(a->pool, ref_slot(i->ref))) {
		ledger_intent_end(i);
		return;
	}
	met = ledger_intent_met(l, i, a->holder);
	claims_end(a, i->ref, met);
	if (met)
		a->mirror->reply = i->key << 32 | status_of(l, i);
	ledger_intent_end(i);
}

/*
 * Of an ALLOC what was not granted before the daemon was killed was not granted
 * by it; the same slot may be granted otherwise later, under the same ref.
 */
static void
finish_batch(struct attachment *a)
{
	struct ledger_mirror *m = a->mirror;
	uint64_t *batch = ledger_mirror_batch(&a->pool->ledger, m);

	for (uint32_t i = 0; i < m->batch && i < WIRE_BATCH_MAX; i++)
		if (!slot_is_granted(a, batch[i]))
			batch[i] = 0;
}

static void
finish_requests(struct pool *p)
{
	for (unsigned i = 0; i < p->conf.max_clients; i++)
		if (p->attachments[i] != NULL) {
			finish_request(p->attachments[i]);
			finish_batch(p->attachments[i]);
		}
}

/* A client whose lane is not as it should be keeps what it holds, no more. */
static void
find_lanes(struct pool *p)
{
	struct attachment *a;
	int err;

	for (unsigned i = 0; i < p->conf.max_clients; i++) {
		a = p->attachments[i];
		if (a == NULL || !a->lane_lost)
			continue;
		err = lane_recover(a);
		a->lane_lost = err != 0;
		if (err != 0)
			log_warn("pool",
			    "%s: the lane of holder %u is lost: %s",
			    p->conf.name, i + 1, strerror(-err));
	}
}

/* A purse of orphans with nothing in it. */
static void
close_empty(struct pool *p)
{
	for (unsigned i = p->conf.max_clients;
	     i < p->ledger.geometry.attachments_max; i++)
		if (p->attachments[i] != NULL)
			attachment_settled(p->attachments[i]);
}

static int
recover_rest(struct pool *p)
{
	int err = take_geometry(p);

	if (err == 0)
		err = pool_create_tables(p);
	if (err == 0)
		err = find_region(p);
	if (err == 0)
		err = claims_find(p);
	if (err == 0)
		err = find_attachments(p);
	if (err == 0)
		err = segments_recover(p);
	return err == 0 ? each_taken(p, check_slot) : err;
}

static int
recover(struct pool *p)
{
	int err = find_ledger(p);

	if (err != 0)
		return err;
	err = recover_rest(p);
	/* A ledger without what it is about is about nothing. */
	return err == -ENOENT ? -ESTALE : err;
}

/* It is no pool after all: nobody refers to it. */
static void
abandon(struct pool *p)
{
	struct attachment *a;

	for (unsigned i = 0;
	     p->attachments != NULL && i < p->ledger.geometry.attachments_max;
	     i++) {
		a = p->attachments[i];
		if (a != NULL && a->client != NULL)
			client_detach(a->client, a->number);
	}
	if (p->attachments == NULL)
		pool_destroy(p);
	else
		pool_close(p, false);
}

/*
 * The pool of that configuration as it was, with all its attachments and lanes;
 * -ENOENT: there is none; -ESTALE, -EUCLEAN: there is one of another layout or
 * boot, or that makes no sense; or -errno with a reason in `why`.
 */
static int
find_pool(struct pool **out, struct daemon *d, const struct config_pool *conf,
    char *why, size_t len)
{
	struct pool *p = pool_blank(d, conf);
	struct config_pool now;
	int err = p == NULL ? -ENOMEM : recover(p);

	*out = NULL;
	if (err == 0) {
		now = p->conf;
		now.access = conf->access;
		err = pool_configure(p, &now);
	}
	if (err != 0) {
		snprintf(why, len, "%s", strerror(-err));
		if (p != NULL)
			abandon(p);
		return err;
	}
	each_taken(p, book_slot);
	finish_requests(p);
	find_lanes(p);
	lanes_tune(p);
	close_empty(p);
	log_info("pool", "%s: goes on with %u clients, %u of %u slots free",
	    p->conf.name, p->clients, p->count[SLOT_FREE], p->slots);
	*out = p;
	return 0;
}

/*
 * What a daemon before us left of a pool that cannot be gone on with. The lock
 * is ours, so nobody serves it any more; clients that still map it keep their
 * memory.
 */
static void
remove_leftovers(const struct daemon *d, const char *pool)
{
	static const char *const parts[] = {"ledger", "claims", "data"};
	char name[REGION_NAME_MAX];

	for (size_t i = 0; i < sizeof(parts) / sizeof(*parts); i++) {
		instance_object_name(
		    &d->instance, pool, parts[i], name, sizeof(name));
		region_unlink_stale(name);
	}
}

/* The pool as it was, or a new one. */
static void
open_pool(struct daemon *d, const struct config_pool *conf)
{
	struct pool *p;
	char why[256];
	int err = find_pool(&p, d, conf, why, sizeof(why));

	if (err == -ESTALE || err == -EUCLEAN)
		log_warn("pool", "%s: what was left of it cannot be used: %s",
		    conf->name, why);
	if (err == -ESTALE || err == -EUCLEAN || err == -ENOENT) {
		remove_leftovers(d, conf->name);
		err = pool_create(&p, d, conf, why, sizeof(why));
	}
	if (err != 0)
		fatal(EX_OSERR, "pool %s: %s", conf->name, why);
	TAILQ_INSERT_TAIL(&d->pools, p, entry);
}

/* A pool that is not configured any more goes with its last client. */
static void
find_retired(void *arg, const char *name)
{
	struct config_pool conf = {.slots_per_segment = 1,
	    .max_segments = 1,
	    .max_clients = 1,
	    .orphan_seconds = CONFIG_ORPHAN_SECONDS};
	struct daemon *d = arg;
	const char *pool = name + strlen(d->instance.prefix);
	const char *part = strrchr(pool, '.');
	struct pool *p;
	char why[256];
	int err;

	if (part == NULL || strcmp(part, ".ledger") != 0 ||
	    (size_t)(part - pool) >= sizeof(conf.name))
		return;
	memcpy(conf.name, pool, (size_t)(part - pool));
	if (daemon_pool(d, conf.name) != NULL)
		return;
	err = find_pool(&p, d, &conf, why, sizeof(why));
	/* What is of no use is removed; what only failed must not be. */
	if (err == -ESTALE || err == -EUCLEAN || err == -EPERM)
		return;
	if (err != 0)
		fatal(EX_OSERR, "pool %s: %s", conf.name, why);
	log_info("pool", "%s: not configured any more: retired", conf.name);
	TAILQ_INSERT_TAIL(&d->pools, p, entry);
	pool_retire(p);
}

static bool
is_lane(const struct pool *p, const char *name)
{
	const struct lane_end *e;

	LIST_FOREACH (e, &p->lanes, entry)
		if (strcmp(e->object.name, name) == 0)
			return true;
	return false;
}

/* Whatever belongs to no pool. */
static void
remove_unknown(void *arg, const char *name)
{
	const struct daemon *d = arg;
	const struct pool *p;

	TAILQ_FOREACH (p, &d->pools, entry)
		if (strcmp(p->region.name, name) == 0 ||
		    strcmp(p->ledger_region.name, name) == 0 ||
		    strcmp(p->claims.region.name, name) == 0 ||
		    is_lane(p, name))
			return;
	if (region_unlink_stale(name) == 0)
		log_info(
		    "region", "%s: removed, it is of no use any more", name);
}

static void
drop_if_idle(struct daemon *d)
{
	struct pool *p, *next;

	for (p = TAILQ_FIRST(&d->pools); p != NULL; p = next) {
		next = TAILQ_NEXT(p, entry);
		if (p->state == POOL_RETIRED && p->clients == 0)
			daemon_pool_idle(d, p);
	}
}

void
pools_open(struct daemon *d)
{
	struct pool *p;

	for (size_t i = 0; i < d->conf->npools; i++)
		open_pool(d, &d->conf->pools[i]);
	region_each(d->instance.prefix, find_retired, d);
	region_each(d->instance.prefix, remove_unknown, d);
	store_close_rest();
	/* All that the dead have published is read before they are buried. */
	TAILQ_FOREACH (p, &d->pools, entry)
		lanes_sweep(p);
	clients_settle(d);
	drop_if_idle(d);
	TAILQ_FOREACH (p, &d->pools, entry)
		segments_start(p);
}
