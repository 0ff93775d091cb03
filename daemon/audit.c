/*
 * The books: every derived figure of a pool, computed again from the ledger
 * and compared.
 */
#include "config.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "lanes.h"
#include "pool.h"

struct tally {
	const struct pool *pool;
	uint32_t count[SLOT_CLASSES];
	uint32_t slots, attached, empty;
	struct figures {
		uint32_t held, open, charged;
	} * of; /* [holder - 1] */
	char *why;
	size_t len;
};

static int __attribute__((format(printf, 2, 3)))
contradiction(struct tally *t, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(t->why, t->len, fmt, ap);
	va_end(ap);
	return -EUCLEAN;
}

static int
tally_holder(void *arg, uint32_t slot, unsigned holder)
{
	struct tally *t = arg;
	const struct attachment *a = t->pool->attachments[holder - 1];
	struct figures *f = &t->of[holder - 1];
	bool held, open;

	if (a == NULL)
		return contradiction(
		    t, "slot %u names holder %u, who is gone", slot, holder);
	pool_stake(t->pool, slot, a, &held, &open);
	f->held += held;
	f->open += open;
	f->charged += held || open;
	return 0;
}

static int
audit_slot(const struct pool *p, struct tally *t, uint32_t slot, bool listed)
{
	enum slot_class class;

	if (!ledger_check(&p->ledger, slot))
		return contradiction(t, "slot %u: its words contradict", slot);
	class = pool_class(p, slot);
	t->count[class]++;
	if (listed != (class == SLOT_FREE))
		return contradiction(t, "slot %u is %s but %son the free list",
		    slot, class == SLOT_FREE ? "free" : "not free",
		    listed ? "" : "not ");
	return pool_each_holder(p, slot, tally_holder, t);
}

static int
audit_segment(const struct pool *p, struct tally *t, uint32_t segment)
{
	const struct segment *s = &p->segments[segment];
	uint32_t n = p->conf.slots_per_segment, used = 0, slot;
	bool roomy = p->roomy[segment / 64] >> segment % 64 & 1, listed;
	int err;

	if (ledger_segment(&p->ledger, segment) != s->state)
		return contradiction(t, "segment %u: state", segment);
	if (s->state == LEDGER_ATTACHED && slab_seg_check(&s->core) != 0)
		return contradiction(
		    t, "segment %u: its list is broken", segment);
	if (s->state != LEDGER_ATTACHED)
		return roomy ? contradiction(t, "segment %u: roomy", segment)
			     : 0;
	for (uint32_t i = 0; i < n; i++) {
		slot = segment * n + i;
		listed = slab_seg_taken(&s->core, i) == 0;
		used += !listed;
		err = audit_slot(p, t, slot, listed);
		if (err != 0)
			return err;
	}
	t->slots += n;
	t->attached++;
	t->empty += used == 0;
	if (used != slab_seg_used(&s->core) || roomy != (used < n))
		return contradiction(t, "segment %u: %u taken, list says %u",
		    segment, used, slab_seg_used(&s->core));
	return 0;
}

static int
audit_attachments(const struct pool *p, struct tally *t)
{
	uint32_t owed = 0;
	unsigned clients = 0;

	for (unsigned i = 0; i < p->ledger.geometry.attachments_max; i++) {
		const struct attachment *a = p->attachments[i];
		const struct figures *f = &t->of[i];

		if (a == NULL)
			continue;
		if (a->held != f->held || a->open != f->open ||
		    a->charged != f->charged)
			return contradiction(t,
			    "holder %u: held %u open %u charged %u, ledger "
			    "says %u %u %u",
			    i + 1, a->held, a->open, a->charged, f->held,
			    f->open, f->charged);
		owed += attachment_owed(a);
		clients += a->client != NULL;
	}
	if (owed != p->owed || clients != p->clients)
		return contradiction(t, "owed %u, clients %u; counted %u, %u",
		    p->owed, p->clients, owed, clients);
	return 0;
}

static int
audit_accounts(const struct pool *p, struct tally *t)
{
	const struct account *account;
	uint32_t slots;

	LIST_FOREACH (account, &p->accounts, entry) {
		slots = 0;
		for (unsigned i = 0; i < p->ledger.geometry.attachments_max;
		     i++)
			if (p->attachments[i] != NULL &&
			    p->attachments[i]->account == account)
				slots += p->attachments[i]->charged;
		if (slots != account->slots)
			return contradiction(t, "user %u: charged %u, has %u",
			    (unsigned)account->uid, account->slots, slots);
	}
	return 0;
}

static int
audit_counts(const struct pool *p, struct tally *t)
{
	uint32_t sum = 0;

	for (int c = 0; c < SLOT_CLASSES; c++) {
		sum += p->count[c];
		if (p->count[c] != t->count[c])
			return contradiction(t, "class %d: %u counted as %u", c,
			    t->count[c], p->count[c]);
	}
	if (sum != p->slots || p->slots != t->slots ||
	    p->segments_attached != t->attached ||
	    p->segments_empty != t->empty)
		return contradiction(t,
		    "sum %u slots %u attached %u empty %u; "
		    "counted %u %u %u",
		    sum, p->slots, p->segments_attached, p->segments_empty,
		    t->slots, t->attached, t->empty);
	return 0;
}

/* No grant is half made. What became of the others only their clients know. */
static int
audit_lanes(const struct pool *p, struct tally *t)
{
	uint32_t mask = p->lane_geometry.grants - 1;
	const struct lane_end *e;

	LIST_FOREACH (e, &p->lanes, entry)
		if (e->mirror->words[e->mirror->grant_tail & mask] != 0)
			return contradiction(t, "holder %u: half a grant",
			    e->attachment->holder);
	return 0;
}

int
pool_audit(const struct pool *p, char *why, size_t len)
{
	struct tally t = {.pool = p, .why = why, .len = len};
	uint64_t size;
	int err = region_size(&p->region, &size);

	if (err == 0 && p->region.kind == REGION_POSIX &&
	    size != p->region.bytes)
		return contradiction(&t,
		    "its region has %llu bytes instead of %llu: a client has "
		    "changed it",
		    (unsigned long long)size,
		    (unsigned long long)p->region.bytes);
	t.of = calloc(p->ledger.geometry.attachments_max, sizeof(*t.of));
	if (t.of == NULL)
		return -ENOMEM;
	for (uint32_t i = 0; i < p->segments_high && err == 0; i++)
		err = audit_segment(p, &t, i);
	if (err == 0)
		err = audit_counts(p, &t);
	if (err == 0)
		err = audit_attachments(p, &t);
	if (err == 0)
		err = audit_accounts(p, &t);
	if (err == 0)
		err = audit_lanes(p, &t);
	free(t.of);
	return err;
}
