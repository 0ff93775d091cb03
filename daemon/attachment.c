/*
 * Who is attached to a pool, what they are charged for, and what becomes of
 * their slots when they go.
 */
#include "config.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client.h"
#include "daemon.h"
#include "lanes.h"
#include "pool.h"
#include "probe.h"

uint32_t
attachment_owed(const struct attachment *a)
{
	bool entitled = a->client != NULL && a->write && !a->quarantined;
	uint32_t reserve = entitled ? a->pool->conf.reserve : 0;

	return reserve > a->charged ? reserve - a->charged : 0;
}

uint32_t
attachment_quota_left(const struct attachment *a)
{
	const struct config_pool *conf = &a->pool->conf;
	uint32_t left = UINT32_MAX, mine, users;

	if (conf->quota > 0) {
		mine = a->charged;
		left = conf->quota > mine ? conf->quota - mine : 0;
	}
	if (conf->uid_quota > 0) {
		users = a->account->slots;
		users = conf->uid_quota > users ? conf->uid_quota - users : 0;
		left = left < users ? left : users;
	}
	return left;
}

static struct account *
account_get(struct pool *p, uid_t uid)
{
	struct account *account;

	LIST_FOREACH (account, &p->accounts, entry)
		if (account->uid == uid)
			break;
	if (account == NULL) {
		account = calloc(1, sizeof(*account));
		if (account == NULL)
			return NULL;
		account->uid = uid;
		LIST_INSERT_HEAD(&p->accounts, account, entry);
	}
	account->users++;
	return account;
}

unsigned
attachments_of(const struct pool *p, uid_t uid)
{
	const struct account *account;

	LIST_FOREACH (account, &p->accounts, entry)
		if (account->uid == uid)
			return account->users - (account->orphans != NULL);
	return 0;
}

static void
account_put(struct account *account)
{
	if (--account->users > 0)
		return;
	LIST_REMOVE(account, entry);
	free(account);
}

/* A holder index in [from, to) that nobody has, or 0. */
static unsigned
free_holder(const struct pool *p, unsigned from, unsigned to)
{
	for (unsigned holder = from; holder < to; holder++)
		if (p->attachments[holder - 1] == NULL)
			return holder;
	return 0;
}

static struct attachment *
attachment_blank(struct pool *p, uid_t uid, unsigned holder)
{
	struct attachment *a = calloc(1, sizeof(*a));

	if (a == NULL)
		return NULL;
	a->pool = p;
	a->holder = holder;
	a->stakes = calloc(p->segments_max, sizeof(*a->stakes));
	a->account = account_get(p, uid);
	TAILQ_INIT(&a->waiters);
	TAILQ_INIT(&a->flushes);
	if (a->stakes != NULL && a->account != NULL)
		return a;
	if (a->account != NULL)
		account_put(a->account);
	free(a->stakes);
	free(a);
	return NULL;
}

/* As it was blank. */
static void
attachment_drop(struct attachment *a)
{
	account_put(a->account);
	free(a->stakes);
	free(a);
}

static struct ledger_attachment *
entry_of(const struct attachment *a)
{
	return &a->pool->ledger.attachments[a->holder - 1];
}

int
attachment_resize(struct attachment *a, uint32_t segments_max)
{
	uint32_t old = a->pool->segments_max;
	uint32_t *stakes = realloc(a->stakes, segments_max * sizeof(*stakes));

	if (stakes == NULL)
		return -ENOMEM;
	memset(stakes + old, 0, (segments_max - old) * sizeof(*stakes));
	a->stakes = stakes;
	return 0;
}

static void
attachment_free(struct attachment *a)
{
	struct pool *p = a->pool;

	/* First: a lane that nobody is said to have is swept at a start. */
	entry_of(a)->state = LEDGER_NOBODY;
	compiler_barrier();
	lane_unlink(a->lane);
	lane_close(a->lane);
	p->attachments[a->holder - 1] = NULL;
	attachment_drop(a);
}

/* The state comes last: what has none means nothing. */
static void
ledger_enter(const struct attachment *a, enum ledger_holder state, uint32_t tag)
{
	struct ledger_attachment *l = entry_of(a);

	*l = (struct ledger_attachment){.state = LEDGER_NOBODY,
	    .uid = a->account->uid,
	    .rights = 1u | (unsigned)a->write << 1,
	    .number = a->number,
	    .tag = tag,
	    .segments = a->segments_seen};
	if (a->client != NULL)
		client_identify(a->client, l);
	compiler_barrier();
	l->state = state;
}

uint32_t
attachment_tag(const struct attachment *a)
{
	return entry_of(a)->tag;
}

void
attachment_extend(struct attachment *a, uint32_t segments)
{
	a->segments_seen = segments;
	entry_of(a)->segments = segments;
}

/* Whether one more reserve could still be honoured with the pool full. */
static bool
reserve_fits(const struct pool *p)
{
	uint64_t all = (uint64_t)p->segments_max * p->conf.slots_per_segment;

	return (uint64_t)p->conf.reserve * (p->clients + 1) <= all;
}

int
attachment_new(struct attachment **out, struct pool *p, struct client *client,
    bool write, uint32_t tag, char *why, size_t len)
{
	unsigned holder = free_holder(p, 1, p->conf.max_clients + 1);
	struct attachment *a;
	int err;

	*out = NULL;
	why[0] = '\0';
	if (p->state == POOL_RETIRED) {
		snprintf(why, len, "pool %s was retired", p->conf.name);
		return -ESHUTDOWN;
	}
	if (holder == 0) {
		snprintf(why, len,
		    "pool %s has its %u clients (max_clients in slabd.conf)",
		    p->conf.name, p->conf.max_clients);
		return -EUSERS;
	}
	if (!reserve_fits(p)) {
		snprintf(why, len,
		    "pool %s cannot reserve %u slots for one more client",
		    p->conf.name, p->conf.reserve);
		return -EDQUOT;
	}
	a = attachment_blank(p, client_uid(client), holder);
	if (a == NULL)
		return -ENOMEM;
	a->write = write;
	a->segments_seen = p->segments_max;
	err = mirror_create(a);
	if (err == 0)
		err = client_attach(client, a, tag);
	if (err != 0) {
		attachment_drop(a);
		return err;
	}
	a->since = ++p->attached_total;
	p->attachments[holder - 1] = a;
	p->clients++;
	p->owed += attachment_owed(a);
	ledger_enter(a, LEDGER_LIVE, tag);
	*out = a;
	lanes_tune(p);
	segments_grow(p);
	return 0;
}

/* Where the orphans of this user are booked; NULL: there are to be none, or
 * there is no room. */
static struct attachment *
orphanage(struct attachment *sender)
{
	struct pool *p = sender->pool;
	struct account *account = sender->account;
	unsigned all = p->ledger.geometry.attachments_max;
	unsigned holder = free_holder(p, p->conf.max_clients + 1, all + 1);
	struct attachment *a = account->orphans;

	if (p->conf.orphan_seconds == 0)
		return NULL;
	if (a != NULL || holder == 0)
		return a;
	a = attachment_blank(p, account->uid, holder);
	if (a == NULL)
		return NULL;
	p->attachments[holder - 1] = a;
	account->orphans = a;
	ledger_enter(a, LEDGER_ORPHANS, 0);
	return a;
}

void
attachment_settled(struct attachment *a)
{
	if (a->client != NULL) {
		waiters_flushed(a);
	} else if (a->charged == 0) {
		a->account->orphans = NULL;
		attachment_free(a);
	}
}

static void
flip_quarantine(struct attachment *a)
{
	unsigned bit = a->holder - 1;

	a->quarantined = !a->quarantined;
	a->pool->quarantined_row[bit / 64] ^= UINT64_C(1) << bit % 64;
}

/* What its word alone tells, and it does for all but those that are shared. */
static bool
may_have_stake(const struct attachment *a, uint32_t segment, uint32_t index)
{
	/* Relaxed: only this thread writes it. */
	uint64_t word = load_relaxed(&a->pool->segments[segment].words[index]);
	struct ledger_word w = ledger_unpack(word);

	return w.state == LEDGER_SHARED || w.holder == a->holder;
}

/* Call `visit` for each slot the attachment holds or has sent. */
static void
each_stake(struct attachment *a, void (*visit)(struct attachment *, uint32_t))
{
	uint32_t n = a->pool->conf.slots_per_segment, left;
	bool held, open;

	for (uint32_t s = 0; s < a->pool->segments_high && a->charged > 0;
	     s++) {
		left = a->stakes[s];
		for (uint32_t slot = s * n; left > 0; slot++) {
			if (!may_have_stake(a, s, slot - s * n))
				continue;
			pool_stake(a->pool, slot, a, &held, &open);
			if (!held && !open)
				continue;
			left--;
			visit(a, slot);
		}
	}
}

/* What the attachment has sent becomes its user's orphan, or ends at once. */
static void
abandon_open(struct attachment *a, uint32_t slot)
{
	struct pool *p = a->pool;
	struct attachment *orphans = orphanage(a);
	struct change c;

	change_begin(&c, p, slot, orphans);
	if (orphans == NULL)
		ledger_expire(&p->ledger, slot, a->ended);
	else
		ledger_orphan(
		    &p->ledger, slot, a->holder, orphans->holder, a->ended);
	change_end(&c);
	if (orphans != NULL)
		orphan_add(p, ledger_ref(&p->ledger, slot));
}

/* The slot leaves its ended holder. */
static void
abandon(struct attachment *a, uint32_t slot)
{
	struct pool *p = a->pool;
	struct change c;
	bool held, open;

	if (ledger_word(&p->ledger, slot).state == LEDGER_HELD) {
		pool_take_back(a, slot, a->ended);
		return;
	}
	pool_stake(p, slot, a, &held, &open);
	if (held) {
		change_begin(&c, p, slot, a);
		ledger_reclaim(&p->ledger, slot, a->holder, a->ended);
		change_end(&c);
		p->reclaimed_total++;
	}
	if (open)
		abandon_open(a, slot);
}

/*
 * What it published counts, and so do records that others published about what
 * it sent. All lanes are read, because its records may build on theirs.
 */
static void
read_last_words(struct attachment *a)
{
	pool_look_at_clock();
	lanes_sweep(a->pool);
	if (a->lane == NULL)
		return;
	lane_count(a->lane);
	/* What it had ahead it never used. */
	lane_take_back(a->lane);
}

static void
revoke_open(struct attachment *a, uint32_t slot)
{
	bool held, open;

	pool_stake(a->pool, slot, a, &held, &open);
	if (open)
		claims_revoke(a->pool, slot);
}

void
attachment_end(struct attachment *a)
{
	struct pool *p = a->pool;

	waiters_end(a, -ECANCELED);
	read_last_words(a);
	/* It has ended, or said that it has done with them. */
	if (a->lane != NULL)
		lane_empty(a->lane);
	/* What nobody inherits ends here: no one may take it any more. */
	if (a->open > 0 && orphanage(a) == NULL) {
		each_stake(a, revoke_open);
		claims_settle(p);
	}
	a->ended = pool_now();
	PROBE3(slabd, reclaim, p->conf.name, a->holder, a->held);
	each_stake(a, abandon);
	p->owed -= attachment_owed(a);
	if (a->quarantined)
		flip_quarantine(a);
	p->clients--;
	attachment_free(a);
	lanes_tune(p);
	waiters_serve(p);
	if (p->state == POOL_RETIRED && p->clients == 0)
		daemon_pool_idle(p->daemon, p);
}

void
attachment_forget(struct attachment *a)
{
	waiters_forget(a);
	if (a->pool->daemon->force)
		lane_unlink(a->lane);
	lane_close(a->lane);
	a->pool->attachments[a->holder - 1] = NULL;
	attachment_drop(a);
}

/* One of its slots counts as what it would otherwise; all others still are. */
static void
recount(struct attachment *a, uint32_t slot)
{
	struct pool *p = a->pool;

	p->count[pool_class(p, slot)]--;
	flip_quarantine(a);
	p->count[pool_class(p, slot)]++;
	flip_quarantine(a);
}

/* Its slots count otherwise from now on. */
static void
set_aside(struct attachment *a)
{
	if (a->quarantined)
		return;
	each_stake(a, recount);
	a->pool->owed -= attachment_owed(a);
	flip_quarantine(a);
}

/*
 * It has slots: its entry is valid after each of these, and one of no session
 * cannot come back.
 */
static void
enter_quarantine(const struct attachment *a)
{
	struct ledger_attachment *l = entry_of(a);

	l->session = 0;
	compiler_barrier();
	l->token = 0;
	l->tag = l->lane = 0;
	compiler_barrier();
	l->state = LEDGER_QUARANTINED;
}

void
attachment_quarantine(struct attachment *a)
{
	waiters_end(a, -ECANCELED);
	read_last_words(a);
	/* What it writes from now on is nobody's business. */
	lane_unlink(a->lane);
	lane_close(a->lane);
	set_aside(a);
	enter_quarantine(a);
	/* It may have stood first in the queue. */
	waiters_serve(a->pool);
}

void
attachment_away(struct attachment *a)
{
	waiters_forget(a);
	if (a->lane != NULL)
		lane_silence(a->lane);
	set_aside(a);
	waiters_serve(a->pool);
	lanes_visit(a->pool);
}

void
attachment_back(struct attachment *a)
{
	if (!a->quarantined)
		return;
	each_stake(a, recount);
	flip_quarantine(a);
	a->pool->owed += attachment_owed(a);
}

static int
recover_orphans(
    struct attachment **out, struct pool *p, uid_t uid, unsigned holder)
{
	struct attachment *a = attachment_blank(p, uid, holder);

	if (a == NULL)
		return -ENOMEM;
	a->account->orphans = a;
	*out = a;
	return 0;
}

static int
recover_client(struct attachment **out, struct pool *p,
    const struct ledger_attachment *l, unsigned holder)
{
	struct attachment *a = attachment_blank(p, l->uid, holder);
	int err;

	if (a == NULL)
		return -ENOMEM;
	a->mirror = ledger_mirror(&p->ledger, holder);
	a->write = (l->rights & 2) != 0;
	a->segments_seen =
	    l->segments < p->segments_max ? l->segments : p->segments_max;
	a->number = l->number;
	a->lane_lost = l->lane != 0;
	err = client_recover(p->daemon, l, a);
	if (err != 0) {
		attachment_drop(a);
		return err;
	}
	flip_quarantine(a);
	a->since = ++p->attached_total;
	p->clients++;
	*out = a;
	return 0;
}

int
attachment_recover(struct pool *p, unsigned holder)
{
	const struct ledger_attachment *l = &p->ledger.attachments[holder - 1];
	bool orphans = l->state == LEDGER_ORPHANS;
	struct attachment *a = NULL;
	int err;

	if (l->state == LEDGER_NOBODY)
		return 0;
	if (l->state > LEDGER_ORPHANS ||
	    orphans != (holder > p->conf.max_clients))
		return -EUCLEAN;
	err = orphans ? recover_orphans(&a, p, l->uid, holder)
		      : recover_client(&a, p, l, holder);
	if (err != 0)
		return err;
	p->attachments[holder - 1] = a;
	return 0;
}
