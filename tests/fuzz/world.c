#include "config.h"

#include <stdlib.h>
#include <string.h>

#include "daemon/event.h"
#include "host.h"
#include "input.h"
#include "kernel.h"
#include "world.h"

#define KINDS 16

static const char config_text[] =
    "{ 'socket': '%s/s', 'shrink_seconds': 86400, 'log_level': 'error',"
    "  'pools': [ { 'name': 'a', 'slot_size': 64, 'slots_per_segment': 8,"
    "    'min_segments': 2, 'max_segments': 2, 'quota': 10,"
    "    'max_clients': 8, 'orphan_seconds': 3600 } ] }";

static struct daemon host;
struct pool *pool;
struct party parties[CLIENTS];
struct slot slots[SLOTS];

/* The pool's memory as it was before anybody came. */
static struct {
	struct slab_seg core[SEGMENTS];
	uint8_t *head, *blocks;
	uint64_t head_bytes, blocks_bytes;
} pristine;

static void
end(void)
{
	kernel_play(false);
	host_end(&host);
	kernel_release();
	free(pristine.head);
	free(pristine.blocks);
}

static uint8_t *
ledger_at(uint64_t at)
{
	return (uint8_t *)pool->ledger.header + at;
}

static uint8_t *
copy(const void *from, uint64_t bytes)
{
	uint8_t *to = malloc(bytes);

	must(to != NULL, "memory");
	return memcpy(to, from, bytes);
}

static void
keep_pristine(void)
{
	const struct ledger *l = &pool->ledger;
	const uint8_t *behind =
	    (const uint8_t *)(l->attachments + l->geometry.attachments_max);

	for (int i = 0; i < SEGMENTS; i++)
		pristine.core[i] = pool->segments[i].core;
	pristine.head_bytes = (uint64_t)(behind - ledger_at(0));
	pristine.blocks_bytes = SEGMENTS * l->block_bytes;
	pristine.head = copy(ledger_at(0), pristine.head_bytes);
	pristine.blocks = copy(l->blocks, pristine.blocks_bytes);
}

/*
 * What the pool remembers of those that were there before. What it must not
 * remember is left alone: world_clear() and the audits look at that.
 */
static void
forget(void)
{
	memcpy(ledger_at(0), pristine.head, pristine.head_bytes);
	memcpy(pool->ledger.blocks, pristine.blocks, pristine.blocks_bytes);
	for (int i = 0; i < SLOTS; i++)
		pool->claims.words[i] = 0;
	for (int i = 0; i < SEGMENTS; i++)
		pool->segments[i].core = pristine.core[i];
	pool->hot = 0;
	pool->used_max = 0;
	pool->sweeps = 0;
	pool->sweeping = false;
	pool->attached_total = 0;
	pool->allocs_total = pool->frees_total = pool->failures_total = 0;
	pool->reclaimed_total = pool->rejected_total = 0;
}

#ifdef REPLAY
static uint64_t fresh[KINDS];

static uint64_t
hash(uint64_t h, const void *at, uint64_t bytes)
{
	const uint8_t *p = at;

	while (bytes-- > 0)
		h = (h ^ *p++) * UINT64_C(0x100000001b3);
	return h;
}

static uint64_t
hash_party(uint64_t h, const struct party *q)
{
	const struct ledger_mirror *m = q->a->mirror;
	const uint64_t numbers[] = {q->holder, q->a->since, q->a->held,
	    q->a->open, q->a->charged, q->a->account->slots,
	    q->a->account->users, q->a->quarantined, q->a->rejected_total};

	h = hash(h, numbers, sizeof(numbers));
	h = hash(h, m, sizeof(*m) + (RING + RING / 64) * sizeof(m->words[0]));
	if (q->e == NULL)
		return h;
	h = hash(h, q->e->guard.at, q->e->guard.bytes);
	return hash(h, &q->e->early,
	    sizeof(*q->e) - offsetof(struct lane_end, early) -
		sizeof(q->e->bell));
}

/* All that the next instruction depends on. */
static uint64_t
hash_world(void)
{
	const struct pool *p = pool;
	const uint64_t numbers[] = {p->state, p->segments_attached,
	    p->segments_empty, p->hot, p->roomy[0], p->growing, p->slots,
	    p->used_max, p->allocs_total, p->frees_total, p->failures_total,
	    p->reclaimed_total, p->rejected_total, p->clients,
	    p->quarantined_row[0], p->owed, p->growth_waiters, p->flushes,
	    p->norphans, p->claims.high, p->claims.unsettled, p->sweeps,
	    p->laborious, p->hungry, p->eager, p->revoking,
	    parking_empty(p->parking)};
	uint64_t h = hash(0, numbers, sizeof(numbers));

	h = hash(h, p->count, sizeof(p->count));
	h = hash(h, (const void *)p->claims.words, SLOTS * sizeof(uint64_t));
	h = hash(h, ledger_at(0), pristine.head_bytes);
	h = hash(h, p->ledger.blocks, pristine.blocks_bytes);
	for (int i = 0; i < SEGMENTS; i++)
		h = hash(h, &p->segments[i].core, sizeof(struct slab_seg));
	for (int i = 0; i < CLIENTS; i++)
		h = hash_party(h, &parties[i]);
	return h;
}

/* A world that was used is as one that never was. */
static void
check_fresh(uint8_t kind)
{
	uint64_t h = hash_world();

	if (fresh[kind % KINDS] == 0)
		fresh[kind % KINDS] = h;
	must(fresh[kind % KINDS] == h, "the world remembers");
}
#endif

void
world_begin(void)
{
	host_begin(&host, config_text);
	pool = daemon_pool(&host, "a");
	must(pool != NULL && pool->slots == SLOTS, "the pool is not whole");
	must(pool->ledger.rows == 1, "a row is more than a word");
	host_drop_names(&host);
	atexit(end);
	pool->lane_geometry = (struct lane_geometry){.magazines_at = LANE_PAGE,
	    .magazines = MAGAZINES,
	    .magazine_room = ROOM,
	    .grants_at = 2 * LANE_PAGE,
	    .grants = RING,
	    .records_at = 3 * LANE_PAGE,
	    .records = RING};
	kernel_reserve(LANES, lane_bytes(&pool->lane_geometry));
	keep_pristine();
	kernel_play(true);
}

void
world_reset(uint8_t kind)
{
	static const uint64_t seeds[] = {1, (UINT64_C(1) << 28) - 3,
	    (UINT64_C(1) << 39) - 3, (UINT64_C(1) << 27) + 77};

	forget();
	kernel_restart();
	pool->ledger.seed = seeds[kind & 3];
	pool->conf.orphan_seconds = kind & 4 ? 3600 : 0;
	for (int i = 0; i < SLOTS; i++)
		slots[i] = (struct slot){.version = pool->ledger.seed};
	for (int i = 0; i < CLIENTS; i++) {
		parties[i].client = (struct client){.daemon = &host};
		parties[i].client.peer.uid = (uid_t)(i / 2);
		parties[i].write = true;
	}
	/* One of those with a lane may only read. */
	parties[2].write = (kind >> 3 & 1) == 0;
	/* All are there before anything ends, so that each gets its number. */
	for (int i = 0; i < CLIENTS; i++)
		world_party(i);
#ifdef REPLAY
	check_fresh(kind);
#endif
}

struct party *
world_party(int i)
{
	struct party *q = &parties[i];
	char why[256];

	if (q->a != NULL)
		return q;
	must(attachment_new(
		 &q->a, pool, &q->client, q->write, 0, why, sizeof(why)) == 0,
	    "cannot attach");
	if (i < LANES)
		must(lane_create(q->a) == 0, "cannot have a lane");
	q->holder = q->a->holder;
	must(q->holder <= HOLDERS, "a client booked as orphans");
	q->e = q->a->lane;
	if (q->e != NULL)
		q->lane = q->e->lane;
	q->read = q->seen = q->tail = 0;
	q->breached = q->away = false;
	q->client.ending = false;
	q->n = 0;
	return q;
}

void
world_audit(void)
{
	char why[256];

	must(pool_audit(pool, why, sizeof(why)) == 0, why);
}

void
world_clear(void (*leave)(struct party *))
{
	for (int i = 0; i < CLIENTS; i++)
		if (parties[i].a != NULL)
			leave(&parties[i]);
	orphans_evict(pool, UINT32_MAX);
	must(pool->count[SLOT_FREE] == SLOTS, "a slot is lost");
	must(pool->clients == 0 && pool->owed == 0, "a client is left");
	must(LIST_EMPTY(&pool->accounts), "a user is left");
	must(parking_empty(pool->parking), "a record is left");
}

/*
 * Linked with --wrap, too: there is no loop here, and a client of one pool.
 */
WRAP(watch_new);
WRAP(watch_wake);
WRAP(timer_start);
WRAP(timer_ensure);
WRAP(client_attach);
WRAP(client_fail);

int
__wrap_watch_new(struct watch **out, struct loop *loop, int fd, unsigned mask,
    enum loop_priority priority, watch_callback callback, void *arg)
{
	if (!kernel_plays())
		return __real_watch_new(
		    out, loop, fd, mask, priority, callback, arg);
	*out = NULL;
	return 0;
}

void
__wrap_watch_wake(struct watch *w, unsigned what)
{
	if (!kernel_plays())
		__real_watch_wake(w, what);
}

int
__wrap_timer_start(struct timer *t, uint32_t ms)
{
	return kernel_plays() ? 0 : __real_timer_start(t, ms);
}

int
__wrap_timer_ensure(struct timer *t, uint32_t ms)
{
	return kernel_plays() ? 0 : __real_timer_ensure(t, ms);
}

/* It has no other. */
int
__wrap_client_attach(struct client *c, struct attachment *a, uint32_t tag)
{
	(void)tag;
	a->client = c;
	a->number = 1;
	return 0;
}

/* The loop would end it later; here an instruction does. */
void
__wrap_client_fail(struct client *c, const char *why)
{
	(void)why;
	c->ending = true;
}
