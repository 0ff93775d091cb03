#include "config.h"

#include <stdio.h>

#include "barrier.h"
#include "claim.h"
#include "claims.h"
#include "daemon.h"
#include "lanes.h"
#include "log.h"
#include "pool.h"

#define WORD_BYTES UINT64_C(8)

static void
object_name(const struct pool *p, char *name, size_t size)
{
	instance_object_name(
	    &p->daemon->instance, p->conf.name, "claims", name, size);
}

int
claims_create(struct pool *p)
{
	struct claims *c = &p->claims;
	char name[REGION_NAME_MAX];
	int err;

	object_name(p, name, sizeof(name));
	/* Sparse: room for any resize there may be. */
	err = region_create(
	    &c->region, name, REF_SLOTS_MAX * WORD_BYTES, pool_kind(&p->conf));
	if (err == 0)
		err = guard_map(&c->guard, c->region.fd, c->region.bytes);
	c->words = c->guard.at;
	return err;
}

int
claims_find(struct pool *p)
{
	struct claims *c = &p->claims;
	char name[REGION_NAME_MAX];
	uint64_t bytes = REF_SLOTS_MAX * WORD_BYTES;
	int err;

	object_name(p, name, sizeof(name));
	err = region_open(&c->region, name);
	if (err != 0)
		return err;
	/* Shorter, it was cut: as good as if that happened now. */
	err = guard_map(&c->guard, c->region.fd, bytes);
	c->region.bytes = bytes;
	c->words = c->guard.at;
	return err;
}

void
claims_close(struct pool *p)
{
	guard_unmap(&p->claims.guard);
	region_close(&p->claims.region);
}

void
claims_unlink(struct pool *p)
{
	region_unlink(&p->claims.region);
}

bool
claims_range(
    const struct pool *p, uint32_t segment, uint64_t *at, uint64_t *bytes)
{
	uint64_t mask = PAGE_BYTES - 1;
	uint64_t each = p->conf.slots_per_segment * WORD_BYTES;
	uint64_t to = ((segment + 1) * each + mask) & ~mask;

	*at = (p->claims.high * each + mask) & ~mask;
	*bytes = to > *at ? to - *at : 0;
	return *bytes > 0;
}

void
claims_attached(struct pool *p, uint32_t segment)
{
	struct lane_end *e;

	if (segment < p->claims.high)
		return;
	p->claims.high = segment + 1;
	LIST_FOREACH (e, &p->lanes, entry)
		lane_tell_claims(e);
}

bool
claims_whole(const struct pool *p)
{
	uint64_t size;

	return !guard_broken(&p->claims.guard) &&
	       region_size(&p->claims.region, &size) == 0 &&
	       size >= p->claims.region.bytes;
}

/* Whether the words are there; says once that they are not. */
static bool
usable(struct pool *p)
{
	static struct log_limit limit = LOG_LIMIT_INIT("claims");

	if (!guard_broken(&p->claims.guard))
		return true;
	if (log_allowed(&limit))
		log_error("pool",
		    "%s: a client has cut its claims off: nothing can be "
		    "handed on in this pool until it is created anew",
		    p->conf.name);
	return false;
}

void
claims_offer(struct pool *p, uint64_t ref, unsigned receipts)
{
	if (usable(p))
		claim_offer(p->claims.words, ref, receipts);
}

unsigned
claims_take(struct attachment *a, uint64_t ref, unsigned most)
{
	_Atomic uint64_t *at;
	uint64_t is;
	unsigned n;

	if (!usable(a->pool))
		return 0;
	at = &a->pool->claims.words[ref_slot(ref)];
	is = load_relaxed(at); /* the exchange below decides */
	for (unsigned i = 0; i < CLAIM_TRIES; i++) {
		n = claim_open(is, ref);
		if (n == 0)
			break;
		n = n < most ? n : most;
		a->mirror->took = n;
		compiler_barrier();
		/* Acquire: see claim_take(). */
		if (atomic_compare_exchange_weak_explicit(at, &is,
			(is - n) | CLAIM_TAKING, memory_order_acquire,
			memory_order_relaxed))
			return n;
	}
	return 0;
}

void
claims_end(struct attachment *a, uint64_t ref, bool received)
{
	uint64_t is, open, back = received ? 0 : a->mirror->took;
	_Atomic uint64_t *at;

	if (!usable(a->pool))
		return;
	/* Behind the ledger's own change. */
	compiler_barrier();
	at = &a->pool->claims.words[ref_slot(ref)];
	is = load_relaxed(at);
	for (unsigned i = 0;
	     i < CLAIM_TRIES && claim_is(is, ref) && (is & CLAIM_TAKING) != 0;
	     i++) {
		open = (is & CLAIM_OPEN) + back;
		open = open < CLAIM_OPEN ? open : CLAIM_OPEN;
		/* Relaxed: an exchange passes on what claim_offer() released. */
		if (atomic_compare_exchange_weak_explicit(at, &is,
			(is & (CLAIM_NAME | CLAIM_REVOKED)) | open,
			memory_order_relaxed, memory_order_relaxed))
			return;
	}
}

void
claims_revoke(struct pool *p, uint32_t slot)
{
	struct ledger_word w = ledger_word(&p->ledger, slot);

	if (w.state != LEDGER_IN_FLIGHT &&
	    (w.state != LEDGER_SHARED ||
		ledger_share_of(&p->ledger, slot).open == 0))
		return;
	/*
	 * How many are open there does not matter: what says that nobody has
	 * taken any may be forged, and a record of it unread.
	 */
	claim_revoke(p->claims.words, ledger_ref(&p->ledger, slot));
	p->claims.unsettled = !LIST_EMPTY(&p->lanes);
}

void
claims_settle(struct pool *p)
{
	if (!p->claims.unsettled)
		return;
	p->claims.unsettled = false;
	barrier_all();
	lanes_sweep(p);
}
