/*
 * A pool's life, and what clients do with its slots.
 */
#include "config.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#include "client.h"
#include "daemon.h"
#include "event.h"
#include "helper.h"
#include "instance.h"
#include "lanes.h"
#include "log.h"
#include "pool.h"
#include "probe.h"
#include "share.h"
#include "slot.h"
#include "wire.h"

uint32_t pool_clock;

void
pool_look_at_clock(void)
{
	struct timespec now;

	clock_gettime(CLOCK_BOOTTIME, &now);
	pool_clock = (uint32_t)((uint64_t)now.tv_sec * 10 +
				(uint64_t)now.tv_nsec / 100000000);
}

bool
pool_slot_attached(const struct pool *p, uint32_t slot)
{
	uint32_t segment = ledger_segment_of(&p->ledger, slot);

	return segment < p->segments_max &&
	       p->segments[segment].state == LEDGER_ATTACHED;
}

static enum slot_class
class_of_shared(const struct pool *p, uint32_t slot)
{
	const uint64_t *row = ledger_row(&p->ledger, slot);
	enum slot_class class = SLOT_IN_FLIGHT;

	for (uint32_t i = 0; i < p->ledger.rows; i++) {
		if ((row[i] & ~p->quarantined_row[i]) != 0)
			return SLOT_USED;
		if (row[i] != 0)
			class = SLOT_QUARANTINED;
	}
	return class;
}

enum slot_class
pool_class(const struct pool *p, uint32_t slot)
{
	struct ledger_word w = ledger_word(&p->ledger, slot);

	switch (w.state) {
	case LEDGER_FREE:
		return SLOT_FREE;
	case LEDGER_HELD:
		return attachment_class(p->attachments[w.holder - 1]);
	case LEDGER_IN_FLIGHT:
		return SLOT_IN_FLIGHT;
	case LEDGER_SHARED:
		return class_of_shared(p, slot);
	}
	abort();
}

void
pool_stake(const struct pool *p, uint32_t slot, const struct attachment *a,
    bool *held, bool *open)
{
	struct ledger_word w = ledger_word(&p->ledger, slot);
	struct ledger_share share;

	*held = ledger_holds(&p->ledger, slot, a->holder);
	*open = w.state == LEDGER_IN_FLIGHT && w.holder == a->holder;
	if (w.state == LEDGER_SHARED) {
		share = ledger_share_of(&p->ledger, slot);
		*open = share.open > 0 && share.sender == a->holder;
	}
}

static int
each_sharer(const struct pool *p, uint32_t slot,
    int (*visit)(void *arg, uint32_t slot, unsigned holder), void *arg)
{
	struct ledger_share share = ledger_share_of(&p->ledger, slot);
	const uint64_t *row = ledger_row(&p->ledger, slot);
	uint64_t left;
	int err = 0;

	for (uint32_t i = 0; i < p->ledger.rows; i++)
		for (left = row[i]; left != 0 && err == 0; left &= left - 1)
			err = visit(arg, slot,
			    i * 64 + (unsigned)__builtin_ctzll(left) + 1);
	if (err == 0 && share.open > 0 &&
	    !ledger_holds(&p->ledger, slot, share.sender))
		err = visit(arg, slot, share.sender);
	return err;
}

int
pool_each_holder(const struct pool *p, uint32_t slot,
    int (*visit)(void *arg, uint32_t slot, unsigned holder), void *arg)
{
	struct ledger_word w = ledger_word(&p->ledger, slot);

	if (w.state == LEDGER_SHARED)
		return each_sharer(p, slot, visit, arg);
	return w.state == LEDGER_FREE ? 0 : visit(arg, slot, w.holder);
}

struct attachment *
pool_sender(const struct pool *p, uint32_t slot)
{
	struct ledger_word w = ledger_word(&p->ledger, slot);
	unsigned holder = w.holder;

	if (w.state == LEDGER_SHARED)
		holder = ledger_share_of(&p->ledger, slot).sender;
	else if (w.state != LEDGER_IN_FLIGHT)
		holder = 0;
	return holder == 0 ? NULL : p->attachments[holder - 1];
}

void
change_begin(
    struct change *c, struct pool *p, uint32_t slot, struct attachment *party)
{
	*c = (struct change){.pool = p, .slot = slot};
	c->class_before = pool_class(p, slot);
	c->party[0] = party;
	c->party[1] = pool_sender(p, slot);
	if (c->party[1] == party)
		c->party[1] = NULL;
	for (int i = 0; i < 2; i++)
		if (c->party[i] != NULL)
			pool_stake(
			    p, slot, c->party[i], &c->held[i], &c->open[i]);
}

static void
settle_party(const struct change *c, int i)
{
	struct attachment *a = c->party[i];
	bool held, open;

	pool_stake(c->pool, c->slot, a, &held, &open);
	if (held == c->held[i] && open == c->open[i])
		return;
	slot_charge(a, ledger_segment_of(&c->pool->ledger, c->slot),
	    held - c->held[i], open - c->open[i],
	    (held || open) - (c->held[i] || c->open[i]));
}

static void
settle_class(struct pool *p, uint32_t slot, enum slot_class before,
    enum slot_class after)
{
	struct place at;

	if (after == before)
		return;
	if (after != SLOT_FREE) {
		p->count[before]--;
		p->count[after]++;
	} else if (place_of(p, slot, &at))
		slot_release(p, &at, before);
}

void
change_end(struct change *c)
{
	for (int i = 0; i < 2; i++)
		if (c->party[i] != NULL)
			settle_party(c, i);
	settle_class(
	    c->pool, c->slot, c->class_before, pool_class(c->pool, c->slot));
}

void
pool_take_back(struct attachment *a, uint32_t slot, uint32_t now)
{
	struct pool *p = a->pool;

	ledger_reclaim(&p->ledger, slot, a->holder, now);
	slot_charge(a, ledger_segment_of(&p->ledger, slot), -1, 0, -1);
	settle_class(p, slot, attachment_class(a), SLOT_FREE);
	p->reclaimed_total++;
}

/* Reserved for those who were attached before. */
static uint32_t
owed_before(const struct pool *p, const struct attachment *a)
{
	const struct attachment *other;
	uint32_t owed = 0;

	for (unsigned i = 0; i < p->conf.max_clients; i++) {
		other = p->attachments[i];
		if (other != NULL && other->since < a->since)
			owed += attachment_owed(other);
	}
	return owed;
}

/*
 * What is free and reserved for nobody else. Who attaches when slots are
 * scarce, or sends what he had, is owed what is not there: then the reserves
 * count in the order in which they were attached.
 */
static uint32_t
pool_available(const struct pool *p, const struct attachment *a)
{
	uint32_t owed = attachment_owed(a), others = p->owed - owed;
	uint32_t free = p->count[SLOT_FREE];

	if (free > others)
		return free - others;
	if (owed == 0)
		return 0;
	others = owed_before(p, a);
	free = free > others ? free - others : 0;
	return free < owed ? free : owed;
}

int
pool_may_alloc(const struct attachment *a, uint32_t n, bool exact)
{
	uint32_t quota = attachment_quota_left(a);

	if (a->pool->state == POOL_RETIRED)
		return -ESHUTDOWN;
	if (!a->write)
		return -EACCES;
	return quota == 0 || (exact && quota < n) ? -EDQUOT : 0;
}

/* What is available in the segments this attachment has mapped. */
static uint32_t
room_for(const struct attachment *a)
{
	const struct pool *p = a->pool;
	uint32_t room = pool_available(p, a), mapped = 0;

	if (a->segments_seen == p->segments_max)
		return room;
	for (uint32_t i = 0; i < a->segments_seen; i++)
		if (p->segments[i].state == LEDGER_ATTACHED)
			mapped += p->conf.slots_per_segment -
				  slab_seg_used(&p->segments[i].core);
	return mapped < room ? mapped : room;
}

/* How many of `n` could be granted now; <= 0: why not. */
static int
grantable(struct attachment *a, uint32_t n, bool exact)
{
	struct pool *p = a->pool;
	uint32_t quota = attachment_quota_left(a), room, least;
	int err = pool_may_alloc(a, n, exact);

	if (err != 0)
		return err;
	n = n < quota ? n : quota;
	room = room_for(a);
	least = exact ? n : 1;
	if (room < least && !segments_may_help(a) &&
	    orphans_slots(p) >= least - room) {
		orphans_evict(p, least - room);
		room = room_for(a);
	}
	if (room < least)
		return -ENOBUFS;
	return (int)(n < room ? n : room);
}

/* Takes a slot off the free lists: the ref it will be held by. */
static uint64_t
pick(struct attachment *a)
{
	struct pool *p = a->pool;
	int segment = segments_pick(p, a->segments_seen);
	struct place at;

	assert(segment >= 0);
	at.number = (uint32_t)segment;
	at.segment = &p->segments[segment];
	slot_take(&at);
	slot_count_granted(a, at.number, 1);
	return slot_next_ref(p, &at);
}

/* So that a successor can answer the request again. */
static void
write_down(struct attachment *a, uint32_t tag, const uint64_t *refs, uint32_t n)
{
	struct ledger_mirror *m = a->mirror;

	m->batch = 0;
	compiler_barrier();
	memcpy(
	    ledger_mirror_batch(&a->pool->ledger, m), refs, n * sizeof(*refs));
	m->batch_tag = tag;
	compiler_barrier();
	m->batch = n;
	compiler_barrier();
}

int
pool_alloc(
    struct attachment *a, uint32_t n, bool exact, uint32_t tag, uint64_t *refs)
{
	struct pool *p = a->pool;
	int room = grantable(a, n, exact);
	struct place at;

	if (room <= 0)
		return room;
	for (int i = 0; i < room; i++)
		refs[i] = pick(a);
	write_down(a, tag, refs, (uint32_t)room);
	for (int i = 0; i < room; i++)
		if (place_of(p, ref_slot(refs[i]), &at))
			place_put(
			    &at, LEDGER_HELD, a->holder, ref_version(refs[i]));
	PROBE3(slabd, grant, p->conf.name, a->holder, room);
	pool_note_used(p);
	p->allocs_total += (uint32_t)room;
	return room;
}

int
pool_alloc_again(struct attachment *a, uint32_t tag, uint64_t *refs)
{
	const struct ledger_mirror *m = a->mirror;
	const uint64_t *batch =
	    ledger_mirror_batch(&a->pool->ledger, a->mirror);
	int n = 0;

	if (m->batch_tag != tag)
		return 0;
	for (uint32_t i = 0; i < m->batch && i < WIRE_BATCH_MAX; i++)
		if (slot_is_granted(a, batch[i]))
			refs[n++] = batch[i];
	return n;
}

bool
pool_can_alloc(const struct attachment *a, uint32_t n, bool exact)
{
	uint32_t least = exact ? n : 1;

	return attachment_quota_left(a) >= least && room_for(a) >= least;
}

uint32_t
pool_spare(const struct attachment *a)
{
	const struct pool *p = a->pool;
	uint32_t room = room_for(a), keep = 0;

	/* Nobody's stock shall make the pool grow. */
	if (p->segments_attached < p->segments_max)
		keep = segments_low_water(p);
	return room > keep ? (room - keep) / 2 : 0;
}

uint32_t
attachment_cached(const struct attachment *a)
{
	uint32_t n;

	if (a->lane == NULL)
		return 0;
	n = lane_stock(a->lane) + lane_magazines(a->lane);
	return n < a->held ? n : a->held;
}

uint32_t
pool_cached(const struct pool *p)
{
	const struct lane_end *e;
	uint32_t n = 0;

	LIST_FOREACH (e, &p->lanes, entry)
		if (!e->attachment->quarantined)
			n += attachment_cached(e->attachment);
	/* The clients' word for it is not to be relied on. */
	return n < p->count[SLOT_USED] ? n : p->count[SLOT_USED];
}

void
pool_note_used(struct pool *p)
{
	uint32_t used = p->count[SLOT_USED];

	/* To count what is cached costs a look at every client. */
	if (used > p->used_max)
		used -= pool_cached(p);
	if (used > p->used_max)
		p->used_max = used;
}

void
pool_reject(struct attachment *a)
{
	a->rejected_total++;
	a->pool->rejected_total++;
	if (a->client != NULL)
		share_charge_reject(a->client->user);
}

static int
rejected(struct attachment *a, int err)
{
	pool_reject(a);
	return err;
}

/* 0, or the refusal for a ref whose slot no segment has. */
static int
find(struct attachment *a, uint64_t ref, int if_free, struct place *at)
{
	const struct pool *p = a->pool;

	if (place_of(p, ref_slot(ref), at))
		return 0;
	return rejected(a, at->number < p->segments_max ? if_free : -EINVAL);
}

/* 0 when the attachment has the slot for itself under just this ref. */
static int
expect_own(const struct attachment *a, const struct place *at, uint64_t ref)
{
	uint64_t word = place_word(at);
	struct ledger_word w = ledger_unpack(word);

	if (w.state == LEDGER_FREE)
		return -EALREADY;
	if (w.version != ref_version(ref) ||
	    ref_shared(ref) != (w.state == LEDGER_SHARED))
		return -EPERM;
	if (w.state == LEDGER_SHARED)
		return -EBUSY;
	return slot_is_own(a, word) ? 0 : -EPERM;
}

static int
free_shared(struct attachment *a, uint64_t ref)
{
	struct change c;
	int err;

	change_begin(&c, a->pool, ref_slot(ref), a);
	err = ledger_free(&a->pool->ledger, ref, a->holder, pool_now());
	change_end(&c);
	return err;
}

int
pool_free(struct attachment *a, uint64_t ref)
{
	struct place at;
	int err = find(a, ref, -EALREADY, &at);

	if (err != 0)
		return err;
	if (ref_shared(ref))
		err = free_shared(a, ref);
	else
		err = expect_own(a, &at, ref);
	if (err != 0)
		return rejected(a, err);
	if (!ref_shared(ref))
		slot_free_own(a, &at, ref_version(ref));
	return 0;
}

unsigned
pool_ungrant(struct attachment *a, uint64_t ref)
{
	struct place at;

	if (ref_shared(ref) || !place_of(a->pool, ref_slot(ref), &at) ||
	    expect_own(a, &at, ref) != 0)
		return 0;
	slot_free_own(a, &at, ref_version(ref));
	return 1;
}

int
pool_send(struct attachment *a, uint64_t ref, uint64_t *out)
{
	struct place at;
	int err = a->write ? find(a, ref, -EALREADY, &at) : -EACCES;

	if (err != 0)
		return err;
	err = expect_own(a, &at, ref);
	if (err != 0)
		return rejected(a, err);
	slot_send_own(a, &at, ref_version(ref));
	*out = ledger_ref(&a->pool->ledger, ref_slot(ref));
	return 0;
}

int
pool_share(struct attachment *a, uint64_t ref, unsigned n, uint64_t *out)
{
	struct pool *p = a->pool;
	struct change c;
	struct place at;
	int err = a->write ? find(a, ref, -EALREADY, &at) : -EACCES;

	if (err == 0 && (n == 0 || n > WIRE_SHARE_MAX))
		err = -EINVAL;
	if (err != 0)
		return err;
	change_begin(&c, p, ref_slot(ref), a);
	err = ledger_share(&p->ledger, ref, a->holder, n, pool_now(), out);
	change_end(&c);
	return err == 0 ? 0 : rejected(a, err);
}

static int
receive_shared(struct attachment *a, uint64_t ref)
{
	struct change c;
	int err;

	change_begin(&c, a->pool, ref_slot(ref), a);
	err = ledger_receive(&a->pool->ledger, ref, a->holder, pool_now());
	change_end(&c);
	return err;
}

int
pool_receive(struct attachment *a, uint64_t ref)
{
	struct attachment *sender;
	struct place at;
	uint64_t word;
	int err = find(a, ref, -ESTALE, &at);

	if (err != 0)
		return err;
	word = place_word(&at);
	if (!ref_shared(ref) && ledger_unpack(word).state == LEDGER_IN_FLIGHT &&
	    ledger_unpack(word).version == ref_version(ref)) {
		slot_receive_sent(a, &at, word);
		return 0;
	}
	sender = pool_sender(a->pool, ref_slot(ref));
	err = ref_shared(ref) ? receive_shared(a, ref) : -ESTALE;
	if (err != 0)
		return rejected(a, err);
	if (sender != NULL)
		attachment_settled(sender);
	return 0;
}

int
pool_recall(struct attachment *a, uint64_t ref, unsigned most)
{
	struct pool *p = a->pool;
	struct change c;
	struct place at;
	int n = a->write ? find(a, ref, -ESTALE, &at) : -EACCES;

	if (n != 0)
		return n;
	change_begin(&c, p, ref_slot(ref), a);
	n = ledger_recall(&p->ledger, ref, a->holder, most, pool_now());
	change_end(&c);
	if (n < 0)
		return rejected(a, n);
	attachment_settled(a);
	return n;
}

void
pool_largest_holders(const struct pool *p, char *buf, size_t len)
{
	const struct attachment *top[3] = {NULL, NULL, NULL}, *a, *swap;
	size_t at = 0;

	for (unsigned i = 0; i < p->ledger.geometry.attachments_max; i++) {
		a = p->attachments[i];
		for (int k = 0; k < 3 && a != NULL; k++) {
			if (a->charged == 0 ||
			    (top[k] != NULL && top[k]->charged >= a->charged))
				continue;
			swap = top[k];
			top[k] = a;
			a = swap;
		}
	}
	buf[0] = '\0';
	for (int k = 0; k < 3 && top[k] != NULL && at < len; k++) {
		at += (size_t)snprintf(
		    buf + at, len - at, "%s", k == 0 ? "" : ", ");
		if (at < len)
			at += client_describe(top[k]->client,
			    top[k]->account->uid, buf + at, len - at);
		if (at < len)
			at += (size_t)snprintf(
			    buf + at, len - at, " has %u", top[k]->charged);
	}
}

static struct ledger_geometry
geometry_of(const struct config_pool *conf)
{
	return (struct ledger_geometry){
	    .slot_size = conf->slot_stride,
	    .slots_per_segment = conf->slots_per_segment,
	    /* Sparse: room for any resize there may be. */
	    .segments_cap = REF_SLOTS_MAX / conf->slots_per_segment,
	    .attachments_max = conf->max_clients + POOL_ORPHAN_HOLDERS,
	    .row_bits = conf->max_clients,
	    .ring_size =
		lane_geometry_for(conf->slots_per_segment * conf->max_segments)
		    .records,
	};
}

uint64_t
pool_region_bytes(const struct pool *p, uint32_t segments)
{
	uint64_t page =
	    p->region.page_bytes > 0 ? p->region.page_bytes : PAGE_BYTES;
	uint64_t bytes =
	    p->conf.slot_stride * p->conf.slots_per_segment * segments;

	return (bytes + page - 1) & ~(page - 1);
}

static int
fail(char *why, size_t len, int err, const char *what)
{
	snprintf(why, len, "%s: %s", what, strerror(-err));
	return err;
}

/* Memory for the head is there before it is touched: no SIGBUS later. */
static int
reserve_head(const struct pool *p, const struct ledger_geometry *g)
{
	uint64_t bytes = ledger_head_bytes(g, p->segments_max);

	return -posix_fallocate(p->ledger_region.fd, 0, (off_t)bytes);
}

int
pool_reserve_head(struct pool *p)
{
	return reserve_head(p, &p->ledger.geometry);
}

static int
create_ledger(struct pool *p)
{
	struct ledger_geometry g = geometry_of(&p->conf);
	struct ledger_identity id = {
	    .pool_id = p->id, .instance = p->daemon->instance.hash};
	struct region *r = &p->ledger_region;
	uint64_t seed;
	void *mem;
	int err;

	memcpy(id.pool, p->conf.name, sizeof(id.pool));
	memcpy(id.boot_id, p->daemon->boot_id, sizeof(id.boot_id));
	if (getrandom(&seed, sizeof(seed), 0) != sizeof(seed))
		return -EIO;
	err = reserve_head(p, &g);
	if (err != 0)
		return err;
	mem = mmap(NULL, r->bytes, PROT_READ | PROT_WRITE,
	    MAP_SHARED | MAP_NORESERVE, r->fd, 0);
	if (mem == MAP_FAILED)
		return -errno;
	madvise(mem, r->bytes, MADV_DONTDUMP);
	err = ledger_format(&p->ledger, mem, r->bytes, &g, &id, seed);
	if (err == 0)
		ledger_segments_max_set(&p->ledger, p->segments_max);
	return err;
}

static int
create_object(struct pool *p, struct region *r, const char *what,
    enum region_kind kind, uint64_t bytes)
{
	char name[REGION_NAME_MAX];

	instance_object_name(
	    &p->daemon->instance, p->conf.name, what, name, sizeof(name));
	return region_create(r, name, bytes, kind);
}

static int
create_objects(struct pool *p, char *why, size_t len)
{
	struct ledger_geometry g = geometry_of(&p->conf);
	enum region_kind slots = pool_slots_kind(&p->conf);
	enum region_kind kind = pool_kind(&p->conf);
	int err;

	/* What is sealed has room for any resize there may be. */
	err = create_object(p, &p->region, "data", slots,
	    pool_region_bytes(
		p, slots == REGION_POSIX ? p->segments_max : g.segments_cap));
	if (err != 0)
		return fail(why, len, err, "cannot create the region");
	p->region.bytes = pool_region_bytes(p, p->segments_max);
	p->region_rdonly = region_open_readonly(&p->region);
	if (p->region_rdonly < 0)
		return fail(why, len, p->region_rdonly,
		    "cannot open the region read-only");
	err = create_object(
	    p, &p->ledger_region, "ledger", kind, ledger_bytes(&g));
	if (err == 0)
		err = create_ledger(p);
	if (err != 0)
		return fail(why, len, err, "cannot create the ledger");
	err = claims_create(p);
	return err == 0 ? 0 : fail(why, len, err, "cannot create the claims");
}

static int
create_timers(struct pool *p)
{
	struct loop *loop = p->daemon->loop;
	int err = timer_new(&p->shrink, loop, segments_shrink, p);

	if (err == 0)
		err = timer_new(&p->retry, loop, segments_retry, p);
	if (err == 0)
		err = timer_new(&p->expiry, loop, orphans_expire, p);
	return err == 0 ? timer_new(&p->judge, loop, lanes_judge, p) : err;
}

int
pool_create_tables(struct pool *p)
{
	uint32_t holders = p->conf.max_clients + POOL_ORPHAN_HOLDERS;

	p->segments = calloc(p->segments_max, sizeof(*p->segments));
	p->roomy = calloc((p->segments_max + 63) / 64, sizeof(*p->roomy));
	p->attachments = calloc(holders, sizeof(struct attachment *));
	p->quarantined_row = calloc(
	    (p->conf.max_clients + 63) / 64, sizeof(*p->quarantined_row));
	p->parking = parking_new();
	if (p->segments == NULL || p->roomy == NULL || p->attachments == NULL ||
	    p->quarantined_row == NULL || p->parking == NULL)
		return -ENOMEM;
	return create_timers(p);
}

void
pool_destroy(struct pool *p)
{
	timer_free(p->shrink);
	timer_free(p->retry);
	timer_free(p->expiry);
	timer_free(p->judge);
	parking_free(p->parking);
	claims_close(p);
	if (p->segments != NULL)
		segments_clear(p);
	if (p->ledger.header != NULL)
		munmap(p->ledger.header, p->ledger.bytes);
	/* The helper's jobs were the last to need them. */
	region_close(&p->region);
	region_close(&p->ledger_region);
	if (p->region_rdonly >= 0)
		close(p->region_rdonly);
	free(p->segments);
	free(p->roomy);
	free(p->attachments);
	free(p->quarantined_row);
	free(p);
}

static void
unlink_objects(struct pool *p)
{
	region_unlink(&p->region);
	region_unlink(&p->ledger_region);
	claims_unlink(p);
}

struct pool *
pool_blank(struct daemon *d, const struct config_pool *conf)
{
	struct pool *p = calloc(1, sizeof(*p));

	if (p == NULL)
		return NULL;
	p->daemon = d;
	p->conf = *conf;
	p->conf.access = NULL;
	p->segments_max = conf->max_segments;
	p->region.fd = p->ledger_region.fd = p->region_rdonly = -1;
	p->claims.region.fd = -1;
	p->lane_geometry =
	    lane_geometry_for(conf->slots_per_segment * conf->max_segments);
	LIST_INIT(&p->lanes);
	LIST_INIT(&p->accounts);
	TAILQ_INIT(&p->queue);
	TAILQ_INIT(&p->orphans);
	return p;
}

int
pool_create(struct pool **out, struct daemon *d, const struct config_pool *conf,
    char *why, size_t len)
{
	struct pool *p = pool_blank(d, conf);
	int err = -ENOMEM;

	*out = NULL;
	snprintf(why, len, "%s", strerror(ENOMEM));
	if (p == NULL)
		return err;
	if (getrandom(&p->id, sizeof(p->id), 0) == sizeof(p->id) &&
	    pool_create_tables(p) == 0)
		err = create_objects(p, why, len);
	if (err == 0)
		err = pool_configure(p, conf);
	if (err != 0) {
		unlink_objects(p);
		pool_destroy(p);
		return err;
	}
	*out = p;
	return 0;
}

int
pool_configure(struct pool *p, const struct config_pool *conf)
{
	struct config_access *access = NULL;

	if (conf->naccess > 0) {
		access = calloc(conf->naccess, sizeof(*access));
		if (access == NULL)
			return -ENOMEM;
		memcpy(access, conf->access, conf->naccess * sizeof(*access));
	}
	free(p->conf.access);
	p->conf = *conf;
	p->conf.access = access;
	lanes_tune(p);
	/* What is owed follows from the reserve. */
	p->owed = 0;
	for (unsigned i = 0; i < conf->max_clients; i++)
		if (p->attachments[i] != NULL)
			p->owed += attachment_owed(p->attachments[i]);
	return 0;
}

static void
forget_attachments(struct pool *p)
{
	for (unsigned i = 0; i < p->ledger.geometry.attachments_max; i++)
		if (p->attachments[i] != NULL)
			attachment_forget(p->attachments[i]);
}

void
pool_close(struct pool *p, bool remove)
{
	if (p == NULL)
		return;
	orphans_forget(p);
	forget_attachments(p);
	if (remove)
		unlink_objects(p);
	free(p->conf.access);
	p->conf.access = NULL;
	segments_unlock(p);
	p->dying = true;
	if (p->jobs == 0)
		pool_destroy(p);
}

void
pool_job_done(struct pool *p, uint32_t segment, bool attach,
    const struct helper_result *r)
{
	if (!p->dying)
		segments_job_done(p, segment, attach, r);
	else if (--p->jobs == 0)
		pool_destroy(p);
}

int
pool_resize(struct pool *p, uint32_t segments_max)
{
	struct ledger_geometry *g = &p->ledger.geometry;
	uint32_t old = p->segments_max;
	struct segment *segments;
	uint64_t *roomy;
	int err;

	segments = realloc(p->segments, segments_max * sizeof(*segments));
	if (segments == NULL)
		return -ENOMEM;
	p->segments = segments;
	memset(segments + old, 0, (segments_max - old) * sizeof(*segments));
	roomy = realloc(p->roomy, (segments_max + 63) / 64 * sizeof(*roomy));
	if (roomy == NULL)
		return -ENOMEM;
	p->roomy = roomy;
	memset(roomy + (old + 63) / 64, 0,
	    ((segments_max + 63) / 64 - (old + 63) / 64) * sizeof(*roomy));
	for (unsigned i = 0; i < g->attachments_max; i++)
		if (p->attachments[i] != NULL &&
		    attachment_resize(p->attachments[i], segments_max) != 0)
			return -ENOMEM;
	err = region_grow(&p->region, pool_region_bytes(p, segments_max));
	if (err != 0)
		return err;
	p->segments_max = segments_max;
	err = pool_reserve_head(p);
	if (err != 0)
		p->segments_max = old;
	else
		ledger_segments_max_set(&p->ledger, segments_max);
	return err;
}

void
pool_retire(struct pool *p)
{
	struct attachment *a;

	p->state = POOL_RETIRED;
	timer_stop(p->shrink);
	for (unsigned i = 0; i < p->conf.max_clients; i++) {
		a = p->attachments[i];
		if (a == NULL)
			continue;
		waiters_end_alloc(a, -ESHUTDOWN);
		client_event(a->client, WIRE_EVENT_RETIRED, a->number, p);
	}
	lanes_mind_waiters(p);
}
