/*
 * What an ended client had sent and nobody has received: kept for the pool's
 * orphan_seconds, so that a producer may exit first, and given up before that,
 * oldest first, when the pool has nothing else.
 *
 * The ledger knows an orphan by its holder; the list here only knows when. An
 * entry whose slot has moved on (received, say) means nothing any more.
 */
#include "config.h"

#include <stdlib.h>

#include "daemon.h"
#include "event.h"
#include "pool.h"
#include "wire.h"

#define PORTION 4096 /* orphans that end in one turn of the loop */

static void
arm(struct pool *p)
{
	struct orphan *first = TAILQ_FIRST(&p->orphans);
	uint64_t now = loop_now_ms();

	if (first == NULL)
		timer_stop(p->expiry);
	else
		timer_start(p->expiry, first->expires > now
					   ? (uint32_t)(first->expires - now)
					   : 0);
}

/* Whoever the slot's orphan is booked with; NULL: it is none any more. */
static struct attachment *
booked(const struct pool *p, uint64_t ref)
{
	uint32_t slot = ref_slot(ref);
	struct attachment *a;
	bool held, open;

	if (!pool_slot_attached(p, slot) || ledger_ref(&p->ledger, slot) != ref)
		return NULL;
	for (unsigned h = p->conf.max_clients + 1;
	     h <= p->ledger.geometry.attachments_max; h++) {
		a = p->attachments[h - 1];
		if (a == NULL)
			continue;
		pool_stake(p, slot, a, &held, &open);
		if (open)
			return a;
	}
	return NULL;
}

static void
forget(struct pool *p, struct orphan *o)
{
	TAILQ_REMOVE(&p->orphans, o, entry);
	p->norphans--;
	free(o);
}

/* Entries beyond one a slot cannot all be true: drop those that are not. */
static void
prune(struct pool *p)
{
	struct orphan *o, *next;

	for (o = TAILQ_FIRST(&p->orphans); o != NULL; o = next) {
		next = TAILQ_NEXT(o, entry);
		if (booked(p, o->ref) == NULL)
			forget(p, o);
	}
}

/* Close one orphan, whose claim is revoked; 1 when that made its slot free. */
static uint32_t
expire(struct pool *p, uint64_t ref)
{
	struct attachment *a = booked(p, ref);
	struct change c;

	if (a == NULL)
		return 0;
	change_begin(&c, p, ref_slot(ref), a);
	ledger_expire(&p->ledger, ref_slot(ref), pool_now());
	change_end(&c);
	attachment_settled(a);
	if (pool_class(p, ref_slot(ref)) != SLOT_FREE)
		return 0;
	p->reclaimed_total++;
	return 1;
}

void
orphan_add(struct pool *p, uint64_t ref)
{
	struct orphan *o = calloc(1, sizeof(*o));

	if (o == NULL) {
		claims_revoke(p, ref_slot(ref));
		expire(p, ref);
		return;
	}
	o->ref = ref;
	o->expires = loop_now_ms() + p->conf.orphan_seconds * UINT64_C(1000);
	TAILQ_INSERT_TAIL(&p->orphans, o, entry);
	if (++p->norphans > 2 * p->slots)
		prune(p);
	if (TAILQ_FIRST(&p->orphans) == o)
		arm(p);
}

uint32_t
orphans_slots(const struct pool *p)
{
	const struct account *account;
	uint32_t slots = 0;

	LIST_FOREACH (account, &p->accounts, entry)
		if (account->orphans != NULL)
			slots += account->orphans->charged;
	return slots;
}

/* Nobody can take the first `n` any more. */
static void
revoke_first(struct pool *p, uint32_t n)
{
	struct orphan *o;

	TAILQ_FOREACH (o, &p->orphans, entry) {
		if (n-- == 0)
			break;
		if (booked(p, o->ref) != NULL)
			claims_revoke(p, ref_slot(o->ref));
	}
	claims_settle(p);
}

/* Closes the first; 1 when that made its slot free. */
static uint32_t
expire_first(struct pool *p)
{
	struct orphan *o = TAILQ_FIRST(&p->orphans);
	uint64_t ref = o->ref;

	forget(p, o);
	return expire(p, ref);
}

uint32_t
orphans_evict(struct pool *p, uint32_t n)
{
	uint32_t freed = 0, part;

	while (freed < n && !TAILQ_EMPTY(&p->orphans)) {
		part = n - freed;
		revoke_first(p, part);
		while (part-- > 0 && !TAILQ_EMPTY(&p->orphans))
			freed += expire_first(p);
	}
	return freed;
}

/* How many have had their time, up to a portion. */
static uint32_t
due(const struct pool *p)
{
	uint64_t now = loop_now_ms();
	struct orphan *o;
	uint32_t n = 0;

	TAILQ_FOREACH (o, &p->orphans, entry) {
		if (n == PORTION || o->expires > now)
			break;
		n++;
	}
	return n;
}

void
orphans_expire(void *arg)
{
	struct pool *p = arg;
	/* In portions: there may be a million, and others are waiting. */
	uint32_t n = due(p);

	pool_look_at_clock();
	revoke_first(p, n);
	while (n-- > 0 && !TAILQ_EMPTY(&p->orphans))
		expire_first(p);
	arm(p);
	waiters_serve(p);
}

void
orphans_forget(struct pool *p)
{
	while (!TAILQ_EMPTY(&p->orphans))
		forget(p, TAILQ_FIRST(&p->orphans));
}
