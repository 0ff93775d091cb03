/*
 * lanes [-r rounds | -T seconds] [-s seed] [-p processes] [-t threads]
 *     [-d percent] [-v]: processes that live long do with libslabd whatever it offers, by lanes and by
 * messages, and in most rounds some of them are killed in the midst of it, or
 * just exit. In so many percent of the rounds the daemon is killed too, and at
 * times its successors while they recover; no call may fail for it.
 *
 * A round has three parts. First all threads work, until each has done so many
 * operations. Then, with nothing under way, every process takes back what it
 * offered in that round. Last, two processes play a duet, in which one waits for
 * what the other does by its lane, and the daemon is asked for its books. Rules:
 *
 *	Who holds a slot alone has put his tag into it, and found no other
 *	living one's there. Who shares a slot has a bit in it, and no bit is
 *	set in a slot that is allocated.
 *	An offer is known by a number that is written into the slot, and into a
 *	row of the board that all processes see:
 *		taken + recalled <= offered				always
 *		offered <= taken + recalled + by those who died of it	settled
 *	where one dies of an offer who is killed while he receives it.
 *	After a round the figures of each pool add up to its slots, and the
 *	books balance; at times everything is given back, and then every slot
 *	is free or cached.
 *
 * Numbers of offers travel over places on the board, which many read and
 * anybody overwrites, so there are always several who race for one ref, and
 * nobody gets stuck when another is killed.
 *
 * With -T the rounds go on for so long, in the second half with the daemon that
 * is there then; one process is never killed, and what it, the daemon and its
 * helper use must stay flat (trend.h).
 *
 * The seed decides what each thread does, but not how they are mixed.
 */
#include "config.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "../e2e/raw.h"
#include "../e2e/server.h"
#include "atomic.h"
#include "slabd.h"
#include "trend.h"
#include "../core/random.h"

enum {
	PROCESSES_MAX = 16,
	THREADS_MAX = 4,
	WORKERS_MAX = PROCESSES_MAX * THREADS_MAX,
	POOLS = 2,
	STEPS = 120,	    /* operations of a thread in a round */
	KEEP = 16,	    /* slots a thread holds, and more by recall */
	SLOTS_MAX = 2048,   /* of the larger pool */
	HOARD = 160,	    /* that it takes at once, rarely */
	MINE = 24,	    /* offers of a thread under way */
	OFFERS = 1 << 16,   /* rows on the board */
	PLACES = 24,	    /* for numbers of offers */
	EXIT_ODDS = 8000,   /* operations to one sudden exit */
	CHECK_EVERY = 500,  /* rounds: everything is given back */
	SAMPLES = 64,	    /* of what is used, with -T */
	PATIENCE_MS = 60000 /* without progress it hangs */
};

/* One where magazines are in use, and one too small for that. */
#define CONFIG                                                              \
	"\"log_level\": \"error\", \"shrink_seconds\": 0, \"pools\": ["     \
	"{\"name\": \"wide\", \"slot_size\": 128, \"slots_per_segment\": "  \
	"512, \"max_segments\": 4, \"orphan_seconds\": 1, "                 \
	"\"max_clients\": 256},"                                            \
	"{\"name\": \"tight\", \"slot_size\": 128, \"slots_per_segment\": " \
	"16, \"max_segments\": 4, \"orphan_seconds\": 0, "                  \
	"\"max_clients\": 256}]"

static const char *const pool_names[POOLS] = {"wide", "tight"};

/* What has happened; all but the rare must have. */
#define KINDS(X)                                        \
	X(ALLOC, "alloc")                               \
	X(ALLOC_MANY, "alloc_many")                     \
	X(ALLOC_WAIT, "alloc_wait")                     \
	X(NONE_FREE, "none free")                       \
	X(HOARD, "hoarded")                             \
	X(FREE, "free")                                 \
	X(FREE_MANY, "free_many")                       \
	X(SEND, "send")                                 \
	X(SHARE, "share")                               \
	X(RECEIVE, "receive")                           \
	X(TOO_LATE, "receive too late")                 \
	X(RECALL, "recall")                             \
	X(RECALL_N, "recall_n")                         \
	X(FLUSH, "flush")                               \
	X(WANT, "want")                                 \
	X(COMPARE, "compared")                          \
	X(ATTACH, "attach")                             \
	X(NO_LANE, "attach without a lane")             \
	X(CHECKED, "attach checked")                    \
	X(RDONLY, "attach read-only")                   \
	X(OPEN, "open")                                 \
	X(EXIT, "sudden exits")                         \
	X(DUET, "woken by another's lane")              \
	X(SETTLED, "offers settled")                    \
	X(KILL, "kills")                                \
	X(KILL_AT_ONCE, "of them at the start")         \
	X(KILL_IDLE, "of them between two rounds")      \
	X(DAEMON, "daemons killed")                     \
	X(DAEMON_YOUNG, "of them while they recovered") \
	X(LOST, "rare: receipts lost with the killed")  \
	X(CHECK, "everything given back")

enum kind {
#define X(name, text) DID_##name,
	KINDS(X)
#undef X
	    NKINDS
};

static const char *const kind_names[] = {
#define X(name, text) text,
    KINDS(X)
#undef X
};

/* A row of the board; it is about another offer when `id` is another. */
struct row {
	_Atomic uint64_t id, ref;
	_Atomic uint32_t pool, offered, taken, recalled;
	_Atomic uint32_t died; /* receivers, in the midst of it */
};

/* What all processes see. */
struct board {
	_Atomic uint64_t done[NKINDS];
	_Atomic uint64_t last_id;
	_Atomic uint64_t places[PLACES];
	_Atomic uint64_t baton;	 /* in a duet: EXHAUSTED, then a ref */
	_Atomic bool pledged;	 /* its second voice has a slot */
	_Atomic uint64_t deaths; /* about to happen, all */
	_Atomic uint32_t generation[PROCESSES_MAX]; /* who died is older */
	_Atomic uint32_t leaving[PROCESSES_MAX];    /* by itself */
	_Atomic uint64_t receiving[WORKERS_MAX];    /* a number of an offer */
	_Atomic uint32_t doing[WORKERS_MAX];
	struct row rows[OFFERS];
};

/* What is in a slot. */
struct payload {
	_Atomic uint64_t owner; /* a tag; 0: nobody; SHARED */
	_Atomic uint64_t bits;	/* of those who share it */
	uint64_t deaths;	/* before it was shared */
	uint64_t id;
	uint64_t filling[11];
	uint64_t not_id;
};

_Static_assert(sizeof(struct payload) == 128, "slot_size");

#define SHARED	  UINT64_MAX
#define EXHAUSTED 1u /* no ref is that */

enum via { BY_WIDE, BY_TIGHT, BY_OWN };

struct hold {
	struct payload *slot;
	uint64_t id; /* it was received or shared as */
	enum via via;
	bool shared, unmarked; /* it cannot be written */
};

struct offer {
	uint64_t id;
	slabd_ref ref;
	struct hold hold; /* if it is recalled */
};

struct worker {
	struct process *home;
	unsigned number; /* among all */
	uint64_t random, tag;
	struct slabd_pool *own;
	unsigned own_flags;
	struct hold holds[KEEP + MINE];
	unsigned nholds;
	struct offer mine[MINE];
	unsigned nmine;
};

struct process {
	unsigned number;
	int control;
	struct slabd *session;
	struct slabd_pool *common[POOLS];
	unsigned kill_at; /* operation, after which it may be killed */
	uint64_t deaths;  /* as the round began, when nobody was dying */
	struct worker workers[THREADS_MAX];
};

/* What the parent says. */
struct order {
	char what; /* see obey() */
	enum via pool;
	unsigned kill_at;
	uint64_t seed, deaths;
};

static struct board *board;
static unsigned processes = 4, threads = 2, daemon_percent = 30;
static unsigned soak_seconds; /* 0: it is rounds that count */
static bool daemon_is_spared;
static struct server server;

/* Relaxed, as all figures on the board: read when nothing is under way. */
static void
count(enum kind kind, uint64_t n)
{
	atomic_fetch_add_explicit(&board->done[kind], n, memory_order_relaxed);
}

static struct row *
row_of(uint64_t id)
{
	return &board->rows[id % OFFERS];
}

/* Ends the process when something is not as promised. */
static void
must(const struct worker *w, bool is, const char *what, long long result)
{
	uint32_t kind = load_relaxed(&board->doing[w->number]);

	if (is)
		return;
	fprintf(stderr, "worker %u (pid %d), %s: %s: %lld (%s)\n", w->number,
	    (int)getpid(), kind_names[kind], what, result,
	    slabd_error_detail());
	_exit(1);
}

/* Tags and bits. */

/* Whether a tag is of one who lives; those who are about to die do not. */
static bool
lives(uint64_t tag)
{
	unsigned number = (unsigned)(tag & 0xff) - 1;

	return tag >> 8 == load_relaxed(&board->generation[number / threads]);
}

static uint64_t
bit_of(const struct worker *w)
{
	return UINT64_C(1) << w->number;
}

/* A slot just granted: nobody who lives has it. */
static void
mark_granted(struct worker *w, struct payload *slot)
{
	uint64_t old = atomic_exchange(&slot->owner, w->tag);
	/* The bits of the dead stay; if one has died since, nobody knows. */
	bool known = slot->deaths == atomic_load(&board->deaths);

	if (old == SHARED)
		must(w, atomic_load(&slot->bits) == 0 || !known,
		    "granted while it is shared", (long long)slot->id);
	else
		must(w, old == 0 || !lives(old), "granted to two",
		    (long long)old);
}

/* One that came by a ref, with nobody's tag. */
static void
mark_moved(struct worker *w, const struct hold *h)
{
	uint64_t old = 0;

	if (h->unmarked)
		old = atomic_load(&h->slot->owner);
	else
		old = atomic_exchange(&h->slot->owner, w->tag);
	must(w, old == 0, "another's tag is in it", (long long)old);
}

static void
check_id(const struct worker *w, const struct hold *h)
{
	must(w, h->slot->id == h->id && h->slot->not_id == ~h->id,
	    "another offer is in it", (long long)h->slot->id);
}

/* Before it is given away in whatever way. */
static void
unmark(const struct worker *w, const struct hold *h)
{
	uint64_t old;

	if (h->shared || h->id != 0)
		check_id(w, h);
	if (h->unmarked)
		return;
	if (h->shared) {
		old = atomic_fetch_and(&h->slot->bits, ~bit_of(w));
		must(w, (old & bit_of(w)) != 0, "our bit is gone",
		    (long long)old);
	} else {
		old = atomic_exchange(&h->slot->owner, 0);
		must(w, old == w->tag, "our tag is gone", (long long)old);
	}
}

static struct slabd_pool *
pool_of(const struct worker *w, enum via via)
{
	return via == BY_OWN ? w->own : w->home->common[via];
}

static enum via
pick_via(struct worker *w, bool change)
{
	enum via via = random_below(&w->random, 3);

	return via == BY_OWN && change && w->own_flags & SLABD_RDONLY ? BY_WIDE
								      : via;
}

static bool
full(const struct worker *w)
{
	return w->nholds >= KEEP;
}

static void
keep_new(struct worker *w, enum via via, void *slot)
{
	mark_granted(w, slot);
	w->holds[w->nholds++] = (struct hold){.slot = slot, .via = via};
}

static struct hold
take_away(struct worker *w, unsigned i)
{
	struct hold h = w->holds[i];

	w->holds[i] = w->holds[--w->nholds];
	return h;
}

static bool
has(const struct worker *w, uint64_t id)
{
	for (unsigned i = 0; i < w->nholds; i++)
		if (w->holds[i].shared && w->holds[i].id == id)
			return true;
	return false;
}

/* Operations. */

static void
do_alloc(struct worker *w)
{
	enum via via = pick_via(w, true);
	void *slot;

	if (full(w))
		return;
	slot = slabd_alloc(pool_of(w, via));
	must(w, slot != NULL || errno == ENOBUFS, "alloc", errno);
	count(slot != NULL ? DID_ALLOC : DID_NONE_FREE, 1);
	if (slot != NULL)
		keep_new(w, via, slot);
}

static void
alloc_some(struct worker *w, enum via via, unsigned n)
{
	void *v[KEEP];
	int got;

	n = n < KEEP - w->nholds ? n : KEEP - w->nholds;
	got = slabd_alloc_many(pool_of(w, via), v, n);
	must(w, got > 0 || got == -ENOBUFS, "alloc_many", got);
	for (int i = 0; i < got; i++)
		keep_new(w, via, v[i]);
	count(got > 0 ? DID_ALLOC_MANY : DID_NONE_FREE, 1);
}

static void
do_alloc_many(struct worker *w)
{
	if (!full(w))
		alloc_some(
		    w, pick_via(w, true), 1 + random_below(&w->random, 6));
}

static void
do_alloc_wait(struct worker *w)
{
	enum via via = pick_via(w, true);
	void *slot;

	if (full(w))
		return;
	slot =
	    slabd_alloc_wait(pool_of(w, via), (int)random_below(&w->random, 3));
	must(w, slot != NULL || errno == ETIMEDOUT, "alloc_wait", errno);
	count(DID_ALLOC_WAIT, 1);
	if (slot != NULL)
		keep_new(w, via, slot);
}

/* More than others can spare. */
static void
do_hoard(struct worker *w)
{
	struct slabd_pool *p = w->home->common[random_below(&w->random, POOLS)];
	void *v[HOARD];
	int got, err;

	if (random_below(&w->random, 4) != 0)
		return;
	got = slabd_alloc_many(p, v, HOARD);
	must(w, got > 0 || got == -ENOBUFS, "alloc_many", got);
	for (int i = 0; i < got; i++)
		mark_granted(w, v[i]);
	for (int i = 0; i < got; i++) {
		struct hold h = {.slot = v[i]};

		unmark(w, &h);
	}
	if (got > 0) {
		err = slabd_free_many(p, v, (unsigned)got);
		must(w, err == got, "free_many", err);
	}
	count(DID_HOARD, 1);
}

static void
free_hold(struct worker *w, const struct hold *h)
{
	int err;

	unmark(w, h);
	err = slabd_free(pool_of(w, h->via), h->slot);
	must(w, err == 0, "free", err);
}

static void
do_free(struct worker *w)
{
	struct hold h;

	if (w->nholds == 0)
		return;
	h = take_away(w, random_below(&w->random, w->nholds));
	free_hold(w, &h);
	count(DID_FREE, 1);
}

static void
do_free_many(struct worker *w)
{
	enum via via = pick_via(w, false);
	void *v[KEEP + MINE];
	struct hold h;
	unsigned n = 0;
	int err;

	for (unsigned i = w->nholds; i-- > 0;) {
		if (w->holds[i].via != via)
			continue;
		h = take_away(w, i);
		unmark(w, &h);
		v[n++] = h.slot;
	}
	if (n == 0)
		return;
	err = slabd_free_many(pool_of(w, via), v, n);
	must(w, err == (int)n, "free_many", err);
	count(DID_FREE_MANY, 1);
}

/* A new row; nobody knows of it before it is posted. */
static struct row *
new_row(const struct hold *h, uint32_t offered)
{
	uint64_t id = atomic_fetch_add(&board->last_id, 1) + 1;
	struct row *row = row_of(id);

	atomic_store(&row->id, 0);
	store_relaxed(&row->pool, h->via == BY_TIGHT ? BY_TIGHT : BY_WIDE);
	store_relaxed(&row->offered, offered);
	store_relaxed(&row->taken, 0);
	store_relaxed(&row->recalled, 0);
	store_relaxed(&row->died, 0);
	h->slot->id = id;
	h->slot->not_id = ~id;
	return row;
}

static void
post(struct worker *w, struct row *row, slabd_ref ref, const struct hold *h)
{
	unsigned n = 1 + random_below(&w->random, 3);

	w->mine[w->nmine++] = (struct offer){h->id, ref, *h};
	store_relaxed(&row->ref, ref);
	/* Release: with find_offer(), for what is in the row. */
	store_release(&row->id, h->id);
	while (n-- > 0)
		store_relaxed(
		    &board->places[random_below(&w->random, PLACES)], h->id);
}

/* A hold that may be offered; false: there is none here. */
static bool
pick_hold(struct worker *w, struct hold *h)
{
	unsigned i;

	if (w->nholds == 0 || w->nmine == MINE)
		return false;
	i = random_below(&w->random, w->nholds);
	if (w->holds[i].shared || w->holds[i].unmarked)
		return false;
	*h = take_away(w, i);
	return true;
}

static void
do_send(struct worker *w)
{
	struct row *row;
	struct hold h;
	slabd_ref ref;
	int err;

	if (!pick_hold(w, &h))
		return;
	unmark(w, &h);
	row = new_row(&h, 1);
	h.id = h.slot->id;
	err = slabd_send(pool_of(w, h.via), h.slot, &ref);
	must(w, err == 0, "send", err);
	post(w, row, ref, &h);
	count(DID_SEND, 1);
}

static void
do_share(struct worker *w)
{
	unsigned n = 1 + random_below(&w->random, 4);
	struct row *row;
	struct hold h;
	slabd_ref ref;
	int err;

	if (!pick_hold(w, &h))
		return;
	row = new_row(&h, n);
	h.id = h.slot->id;
	h.shared = true;
	h.slot->deaths = w->home->deaths;
	atomic_store(&h.slot->bits, bit_of(w));
	atomic_store(&h.slot->owner, SHARED);
	err = slabd_share(pool_of(w, h.via), h.slot, n, &ref);
	must(w, err == 0, "share", err);
	w->holds[w->nholds++] = h;
	post(w, row, ref, &h);
	count(DID_SHARE, 1);
}

/*
 * A number of an offer: one's own last, so that two lanes speak of one slot
 * within a microsecond, or what somebody has posted.
 */
static uint64_t
pick_offer(struct worker *w)
{
	if (w->nmine > 0 && random_below(&w->random, 4) == 0)
		return w->mine[w->nmine - 1].id;
	/* Relaxed: the row tells whether there is anything behind it. */
	return load_relaxed(&board->places[random_below(&w->random, PLACES)]);
}

/* What to receive, that we do not share already; 0: nothing. */
static uint64_t
find_offer(struct worker *w, slabd_ref *ref, enum via *via)
{
	uint64_t id = pick_offer(w);
	struct row *row = row_of(id);

	/* Acquire: with post(). */
	if (id == 0 || load_acquire(&row->id) != id || has(w, id))
		return 0;
	*ref = load_relaxed(&row->ref);
	*via = load_relaxed(&row->pool);
	if (*via == BY_WIDE && random_below(&w->random, 2) != 0)
		*via = BY_OWN;
	return id;
}

static void
keep_received(struct worker *w, struct hold *h)
{
	uint64_t old;

	check_id(w, h);
	if (!h->shared)
		mark_moved(w, h);
	else if (!h->unmarked) {
		old = atomic_fetch_or(&h->slot->bits, bit_of(w));
		must(w,
		    (old & bit_of(w)) == 0 ||
			h->slot->deaths != atomic_load(&board->deaths),
		    "our bit is set", (long long)old);
	}
	w->holds[w->nholds++] = *h;
}

static void
do_receive(struct worker *w)
{
	struct hold h = {0};
	uint32_t taken;
	struct row *row;
	slabd_ref ref;
	int err;

	if (full(w) || (h.id = find_offer(w, &ref, &h.via)) == 0)
		return;
	row = row_of(h.id);
	atomic_store(&board->receiving[w->number], h.id);
	err = slabd_receive(pool_of(w, h.via), ref, (void **)&h.slot);
	must(w, err == 0 || err == -ESTALE, "receive", err);
	if (err == 0) {
		taken = atomic_fetch_add(&row->taken, 1) + 1;
		must(w,
		    taken + load_relaxed(&row->recalled) <=
			load_relaxed(&row->offered),
		    "received too often", (long long)h.id);
	}
	atomic_store(&board->receiving[w->number], 0);
	count(err == 0 ? DID_RECEIVE : DID_TOO_LATE, 1);
	if (err < 0)
		return;
	must(w,
	    slabd_offset(pool_of(w, h.via), h.slot) ==
		ref_slot(ref) * sizeof(*h.slot),
	    "not the slot of the ref", (long long)ref);
	h.shared = ref_shared(ref);
	h.unmarked = h.via == BY_OWN && w->own_flags & SLABD_RDONLY;
	keep_received(w, &h);
}

/* Up to `n` receipts, 0: all; how many. */
static int
recall(struct worker *w, const struct offer *o, unsigned n)
{
	struct slabd_pool *p = pool_of(w, o->hold.via);
	struct row *row = row_of(o->id);
	uint32_t recalled;
	int got =
	    n == 0 ? slabd_recall(p, o->ref) : slabd_recall_n(p, o->ref, n);

	must(w, got >= 0 || got == -ESTALE, "recall", got);
	if (got <= 0)
		return 0;
	recalled =
	    atomic_fetch_add(&row->recalled, (uint32_t)got) + (uint32_t)got;
	must(w,
	    recalled + load_relaxed(&row->taken) <= load_relaxed(&row->offered),
	    "recalled too much", (long long)o->id);
	if (o->hold.shared)
		return got;
	check_id(w, &o->hold);
	mark_moved(w, &o->hold);
	w->holds[w->nholds++] = o->hold;
	return got;
}

static void
do_recall(struct worker *w)
{
	unsigned n = random_below(&w->random, 3);

	if (w->nmine == 0 || full(w))
		return;
	recall(w, &w->mine[random_below(&w->random, w->nmine)], n);
	count(n == 0 ? DID_RECALL : DID_RECALL_N, 1);
}

static void
do_flush(struct worker *w)
{
	int open = slabd_flush(
	    pool_of(w, pick_via(w, false)), (int)random_below(&w->random, 2));

	must(w, open >= 0, "flush", open);
	count(DID_FLUSH, 1);
}

static void
want(struct worker *w, struct slabd_pool *p, unsigned n)
{
	int err = slabd_pool_want(p, n);

	must(w, err == 0, "want", err);
}

/* Half of them stay in the queue, for whoever allocates next. */
static void
do_want(struct worker *w)
{
	enum via via = pick_via(w, true);
	int err;

	if (full(w))
		return;
	want(w, pool_of(w, via), 1 + random_below(&w->random, 20));
	err = slabd_dispatch(w->home->session);
	must(w, err >= 0, "dispatch", err);
	alloc_some(w, via, 4);
	if (random_below(&w->random, 2))
		want(w, pool_of(w, via), 0);
	count(DID_WANT, 1);
}

static void
do_compare(struct worker *w)
{
	for (unsigned i = 0; i < w->nholds; i++) {
		struct hold *h = &w->holds[i];
		uint64_t owner = atomic_load(&h->slot->owner);

		if (h->shared || h->id != 0)
			check_id(w, h);
		must(w,
		    owner == (h->shared	       ? SHARED
				 : h->unmarked ? 0
					       : w->tag),
		    "the owner has changed", (long long)owner);
	}
	count(DID_COMPARE, 1);
}

static struct slabd_pool *
attach(struct worker *w, const char *name, unsigned flags)
{
	struct slabd_pool *p;
	int err;

	do
		err = slabd_pool_attach(&p, w->home->session, name, flags);
	while (err == -EBUSY);
	must(w, err == 0, "attach", err);
	count(flags & SLABD_NO_LANE   ? DID_NO_LANE
	      : flags & SLABD_CHECKED ? DID_CHECKED
	      : flags & SLABD_RDONLY  ? DID_RDONLY
				      : DID_ATTACH,
	    1);
	return p;
}

static unsigned
pick_flags(uint64_t *random)
{
	static const unsigned flags[] = {
	    0, 0, 0, 0, SLABD_CHECKED, SLABD_NO_LANE, SLABD_RDONLY, 0};

	return flags[random_below(random, sizeof(flags) / sizeof(*flags))];
}

/* What it holds by an attachment that ends is nobody's, nor recalled. */
static void
abandon(struct worker *w, enum via via)
{
	struct hold h;

	for (unsigned i = w->nholds; i-- > 0;)
		if (w->holds[i].via == via) {
			h = take_away(w, i);
			unmark(w, &h);
		}
	for (unsigned i = w->nmine; i-- > 0;)
		if (w->mine[i].hold.via == via)
			w->mine[i] = w->mine[--w->nmine];
}

static void
attach_own(struct worker *w)
{
	w->own_flags = pick_flags(&w->random);
	w->own = attach(w, pool_names[BY_WIDE], w->own_flags);
}

static void
do_reattach(struct worker *w)
{
	abandon(w, BY_OWN);
	slabd_pool_detach(w->own);
	attach_own(w);
}

/* As if killed, but it knows itself. */
static void
leave(struct worker *w)
{
	atomic_fetch_add(&board->generation[w->home->number], 1);
	atomic_fetch_add(&board->deaths, 1);
	atomic_store(&board->leaving[w->home->number], 1);
	count(DID_EXIT, 1);
	/* Without the last word of a sanitizer, who misses the threads. */
	syscall(SYS_exit_group, 0);
}

static const struct operation {
	enum kind kind;
	unsigned weight;
	void (*run)(struct worker *);
} operations[] = {
    {DID_ALLOC, 8, do_alloc},
    {DID_ALLOC_MANY, 3, do_alloc_many},
    {DID_ALLOC_WAIT, 1, do_alloc_wait},
    {DID_HOARD, 1, do_hoard},
    {DID_FREE, 7, do_free},
    {DID_FREE_MANY, 1, do_free_many},
    {DID_SEND, 10, do_send},
    {DID_SHARE, 6, do_share},
    {DID_RECEIVE, 24, do_receive},
    {DID_RECALL, 5, do_recall},
    {DID_FLUSH, 1, do_flush},
    {DID_WANT, 1, do_want},
    {DID_COMPARE, 2, do_compare},
    {DID_ATTACH, 1, do_reattach},
};

static const struct operation *
pick_operation(struct worker *w)
{
	const struct operation *o = operations;
	unsigned all = 0, at;

	for (unsigned i = 0; i < sizeof(operations) / sizeof(*o); i++)
		all += operations[i].weight;
	for (at = random_below(&w->random, all); at >= o->weight; o++)
		at -= o->weight;
	return o;
}

/* The parts of a round, in a process. */

/* The one that is looked at does not die. */
static bool
is_spared(unsigned process)
{
	return soak_seconds > 0 && process == 0;
}

static void *
work(void *arg)
{
	struct worker *w = arg;
	struct process *home = w->home;
	const struct operation *o;

	for (unsigned i = 1; i <= STEPS; i++) {
		o = pick_operation(w);
		store_relaxed(&board->doing[w->number], o->kind);
		o->run(w);
		if (w == home->workers && i == home->kill_at)
			tell(home->control, "k", 1);
		if (random_below(&w->random, EXIT_ODDS) == 0 &&
		    !is_spared(home->number))
			leave(w);
	}
	return NULL;
}

/* The first worker is the process's first thread, the others begin and end. */
static void
work_all(struct process *home)
{
	pthread_t ids[THREADS_MAX];
	int err;

	for (unsigned i = 1; i < threads; i++) {
		err = pthread_create(&ids[i], NULL, work, &home->workers[i]);
		must(home->workers, err == 0, "pthread_create", err);
	}
	work(home->workers);
	for (unsigned i = 1; i < threads; i++)
		pthread_join(ids[i], NULL);
}

/* Nobody receives meanwhile: what is open is taken back, and it adds up. */
static void
settle(struct worker *w, const struct offer *o)
{
	struct row *row = row_of(o->id);
	uint32_t sum, offered = load_relaxed(&row->offered);

	while (recall(w, o, 0) > 0)
		continue;
	sum = load_relaxed(&row->taken) + load_relaxed(&row->recalled);
	must(w, load_relaxed(&row->id) == o->id, "the board is too small",
	    (long long)o->id);
	must(w, offered <= sum + load_relaxed(&row->died),
	    "receipts nobody got", (long long)(offered - sum));
	count(DID_LOST, offered - sum);
	count(DID_SETTLED, 1);
}

/* Takes back what it offered and what it still wants: it stands in no queue. */
static void
settle_all(struct process *home)
{
	struct worker *w;

	for (unsigned i = 0; i < POOLS; i++)
		want(home->workers, home->common[i], 0);
	for (unsigned i = 0; i < threads; i++) {
		w = &home->workers[i];
		store_relaxed(&board->doing[w->number], DID_SETTLED);
		for (; w->nmine > 0; w->nmine--)
			settle(w, &w->mine[w->nmine - 1]);
		if (!(w->own_flags & SLABD_RDONLY))
			want(w, w->own, 0);
	}
}

/*
 * A duet: one process takes all the slots of a pool, but for one that another
 * has pledged. It waits for that, sends it back, and waits until it was
 * received. The other does nothing but free and receive, by its lane: unless
 * that wakes the daemon, the first is not heard of again.
 */

static void
pledge(struct process *home, enum via pool)
{
	struct worker *w = home->workers;
	void *slot = full(w) ? NULL : slabd_alloc(home->common[pool]);

	if (slot != NULL)
		keep_new(w, pool, slot);
	atomic_store(&board->pledged, slot != NULL);
	atomic_store(&board->baton, 0);
}

static void
sing_first(struct process *home, enum via pool)
{
	static void *all[SLOTS_MAX];
	struct slabd_pool *p = home->common[pool];
	struct worker *w = home->workers;
	int n = 0, got = 1, open;
	slabd_ref ref;
	void *slot;

	if (!atomic_load(&board->pledged))
		return;
	store_relaxed(&board->doing[w->number], DID_DUET);
	for (; got > 0 && n<SLOTS_MAX; n += got> 0 ? got : 0)
		got = slabd_alloc_many(p, all + n, (unsigned)(SLOTS_MAX - n));
	must(w, got == -ENOBUFS, "more slots than there are", got);
	atomic_store(&board->baton, EXHAUSTED);
	slot = slabd_alloc_wait(p, -1);
	must(w, slot != NULL, "alloc_wait", errno);
	mark_granted(w, slot);
	unmark(w, &(struct hold){.slot = slot});
	got = slabd_send(p, slot, &ref);
	must(w, got == 0, "send", got);
	atomic_store(&board->baton, ref);
	open = slabd_flush(p, -1);
	must(w, open == 0, "still open", open);
	got = n > 0 ? slabd_free_many(p, all, (unsigned)n) : 0;
	must(w, got == n, "free_many", got);
	count(DID_DUET, 1);
}

/* Until it is not what it was. */
static uint64_t
await_baton(uint64_t was)
{
	uint64_t is;

	while ((is = atomic_load(&board->baton)) == was)
		sched_yield();
	return is;
}

static void
sing_second(struct process *home, enum via pool)
{
	struct worker *w = home->workers;
	struct hold h;
	uint64_t ref;
	int err;

	if (!atomic_load(&board->pledged))
		return;
	store_relaxed(&board->doing[w->number], DID_DUET);
	h = take_away(w, w->nholds - 1);
	await_baton(0);
	free_hold(w, &h);
	ref = await_baton(EXHAUSTED);
	h = (struct hold){.via = pool};
	err = slabd_receive(home->common[pool], ref, (void **)&h.slot);
	must(w, err == 0, "receive", err);
	mark_moved(w, &h);
	w->holds[w->nholds++] = h;
}

static void
flush(struct worker *w, struct slabd_pool *p)
{
	int open;

	open = slabd_flush(p, -1);
	must(w, open == 0, "still open", open);
}

static void
give_all_back(struct process *home)
{
	struct worker *w;
	struct hold h;

	settle_all(home);
	for (unsigned i = 0; i < threads; i++) {
		w = &home->workers[i];
		while (w->nholds > 0) {
			h = take_away(w, w->nholds - 1);
			free_hold(w, &h);
		}
		if (!(w->own_flags & SLABD_RDONLY))
			flush(w, w->own);
	}
	for (unsigned i = 0; i < POOLS; i++)
		flush(home->workers, home->common[i]);
}

static void
open_session(struct process *home)
{
	struct slabd_options opt = SLABD_OPTIONS_INIT;
	struct worker *w = home->workers;
	int err;

	/* There may be no daemon just now. */
	opt.connect_ms = opt.reconnect_ms = PATIENCE_MS;
	err = slabd_open_options(&home->session, &opt);
	must(w, err == 0, "open", err);
	count(DID_OPEN, 1);
	for (unsigned i = 0; i < POOLS; i++)
		home->common[i] = attach(
		    w, pool_names[i], pick_flags(&w->random) & ~SLABD_RDONLY);
	for (unsigned i = 0; i < threads; i++)
		attach_own(&home->workers[i]);
}

/* Closes with all that is held and offered, or detaches one pool so. */
static void
renew(struct process *home)
{
	struct worker *w = home->workers;
	unsigned pool = random_below(&w->random, POOLS);
	bool all = random_below(&w->random, 4) == 0;

	for (unsigned i = 0; i < threads; i++)
		for (enum via via = BY_WIDE; via <= BY_OWN; via++)
			if (all || via == pool)
				abandon(&home->workers[i], via);
	if (all) {
		slabd_close(home->session);
		open_session(home);
		return;
	}
	slabd_pool_detach(home->common[pool]);
	home->common[pool] =
	    attach(w, pool_names[pool], pick_flags(&w->random) & ~SLABD_RDONLY);
}

static void
begin(struct process *home, const struct order *order)
{
	unsigned generation = load_relaxed(&board->generation[home->number]);
	struct worker *w;

	home->kill_at = order->kill_at;
	home->deaths = order->deaths;
	for (unsigned i = 0; i < threads; i++) {
		w = &home->workers[i];
		w->home = home;
		w->number = home->number * threads + i;
		w->tag = (uint64_t)generation << 8 | (w->number + 1);
		w->random = order->seed + i;
		store_relaxed(&board->doing[w->number], DID_OPEN);
	}
	w = home->workers;
	if (home->session == NULL)
		open_session(home);
	else if (random_below(&w->random, 12) == 0)
		renew(home);
}

/* False: it is over. */
static bool
obey(struct process *home, const struct order *order)
{
	switch (order->what) {
	case 'w':
		begin(home, order);
		work_all(home);
		return true;
	case 's':
		settle_all(home);
		return true;
	case 'p':
		pledge(home, order->pool);
		return true;
	case '1':
		sing_first(home, order->pool);
		return true;
	case '2':
		sing_second(home, order->pool);
		return true;
	case 'g':
		give_all_back(home);
		return true;
	}
	return false;
}

static int
be_process(int control, void *arg)
{
	static struct process home;
	struct order order;

	home.number = *(const unsigned *)arg;
	home.control = control;
	while (hear(control, &order, sizeof(order)) == 0 && obey(&home, &order))
		tell(control, "d", 1);
	slabd_close(home.session);
	/* Not _exit(): the sanitizers have a last word to say. */
	exit(0);
}

/* The parent's side. */

struct child {
	unsigned number;
	pid_t pid; /* 0: it has ended */
	int control;
	bool busy, victim;
	bool herald; /* its moment is the daemon's last */
};

static struct child children[PROCESSES_MAX];

static int
start_child(struct child *c)
{
	atomic_store(&board->leaving[c->number], 0);
	c->pid = spawn(be_process, &c->number, &c->control);
	c->busy = false;
	return c->pid > 0 ? 0 : -errno;
}

/* It has ended; what it was about to receive it may have, or not. */
static int
bury(struct child *c, bool killed)
{
	int status = reap(c->pid);
	uint64_t id;

	close(c->control);
	c->pid = 0;
	c->busy = c->victim = c->herald = false;
	for (unsigned i = 0; i < threads; i++) {
		id = atomic_exchange(
		    &board->receiving[c->number * threads + i], 0);
		if (id != 0)
			atomic_fetch_add(&row_of(id)->died, 1);
	}
	if ((killed && status == 128 + SIGKILL) ||
	    (status == 0 && atomic_load(&board->leaving[c->number]) != 0))
		return 0;
	fprintf(stderr, "process %u ended with %d\n", c->number, status);
	return -1;
}

static int
kill_child(struct child *c, enum kind when)
{
	/* Before it is dead nobody can be granted what it had. */
	atomic_fetch_add(&board->generation[c->number], 1);
	atomic_fetch_add(&board->deaths, 1);
	kill(c->pid, SIGKILL);
	count(DID_KILL, 1);
	if (when != DID_KILL)
		count(when, 1);
	return bury(c, true);
}

/* Who does what, when nothing moves any more. */
static void
diagnose(void)
{
	for (unsigned i = 0; i < processes; i++) {
		if (!children[i].busy)
			continue;
		fprintf(stderr, "process %u (pid %d) is stuck:", i,
		    (int)children[i].pid);
		for (unsigned k = i * threads; k < (i + 1) * threads; k++)
			fprintf(stderr, " %s,",
			    kind_names[load_relaxed(&board->doing[k])]);
		fprintf(stderr, "\n");
	}
}

/* The daemon dies, perhaps some successors too, and then there is one. */
static int
kill_daemon(uint64_t *random)
{
	int err = server_kill(&server);

	count(DID_DAEMON, 1);
	while (err == 0 && random_below(random, 4) == 0) {
		err = server_launch(&server);
		poll(NULL, 0, (int)random_below(random, 12));
		if (err == 0)
			err = server_kill(&server);
		count(DID_DAEMON, 1);
		count(DID_DAEMON_YOUNG, 1);
	}
	if (err == 0)
		err = server_start(&server);
	if (err != 0)
		fprintf(stderr, "no successor: %s\n", strerror(-err));
	return err;
}

/* One process says something, or ends. */
static int
listen_to(struct child *c, uint64_t *random)
{
	char byte;

	if (hear(c->control, &byte, 1) != 0)
		return bury(c, false);
	if (c->herald && kill_daemon(random) != 0)
		return -1;
	c->herald = false;
	if (byte == 'd')
		c->busy = false;
	if (!c->victim)
		return 0;
	return kill_child(c, byte == 'd' ? DID_KILL_IDLE : DID_KILL);
}

/* Until every process has come to the end of its part. */
static int
gather(uint64_t *random)
{
	struct pollfd fds[PROCESSES_MAX];
	unsigned n, which[PROCESSES_MAX];

	for (;;) {
		n = 0;
		for (unsigned i = 0; i < processes; i++)
			if (children[i].busy) {
				which[n] = i;
				fds[n++] = (struct pollfd){
				    children[i].control, POLLIN, 0};
			}
		if (n == 0)
			return 0;
		if (poll(fds, n, PATIENCE_MS) <= 0) {
			diagnose();
			return -1;
		}
		for (unsigned i = 0; i < n; i++)
			if (fds[i].revents != 0 &&
			    listen_to(&children[which[i]], random) != 0)
				return -1;
	}
}

static void
give_order(struct child *c, char what, enum via pool)
{
	struct order order = {.what = what, .pool = pool};

	c->busy = true;
	tell(c->control, &order, sizeof(order));
}

/* Gives an order to all who live, and waits until it is done. */
static int
order_all(char what)
{
	for (unsigned i = 0; i < processes; i++)
		if (children[i].pid > 0)
			give_order(&children[i], what, BY_WIDE);
	return gather(NULL);
}

/* After which operation: 0, or beyond the last, in a tenth of all cases each.
 */
static unsigned
pick_moment(uint64_t *random)
{
	unsigned at = random_below(random, STEPS * 12 / 10);

	return at > STEPS * 11 / 10 ? 0 : at;
}

/* All processes but one, or fewer, and perhaps the daemon, at any moment of the
 * round. */
static void
pick_victims(uint64_t *random)
{
	unsigned victims = random_below(random, processes), i;

	while (victims-- > 0) {
		i = random_below(random, processes);
		children[i].victim = !is_spared(i);
	}
	if (random_below(random, 100) < daemon_percent && !daemon_is_spared)
		children[random_below(random, processes)].herald = true;
}

/* The first part of a round, with its victims, if there are any. */
static int
work_round(uint64_t *random)
{
	struct order order = {
	    .what = 'w', .deaths = atomic_load(&board->deaths)};
	struct child *c;

	for (unsigned i = 0; i < processes; i++) {
		c = &children[i];
		if (c->pid == 0 && start_child(c) != 0)
			return -1;
		order.seed = random_next(random);
		order.kill_at = pick_moment(random);
		c->busy = true;
		tell(c->control, &order, sizeof(order));
		if (c->victim && order.kill_at == 0 &&
		    kill_child(c, DID_KILL_AT_ONCE) != 0)
			return -1;
	}
	return gather(random);
}

/* Between two who live; mostly about the small pool. */
static int
play_duet(uint64_t *random)
{
	struct child *first = &children[random_below(random, processes)];
	struct child *second = &children[random_below(random, processes)];
	enum via pool = random_below(random, 16) == 0 ? BY_WIDE : BY_TIGHT;

	if (first == second || first->pid == 0 || second->pid == 0)
		return 0;
	give_order(second, 'p', pool);
	if (gather(random) != 0)
		return -1;
	give_order(first, '1', pool);
	give_order(second, '2', pool);
	return gather(random);
}

static int
audit(struct raw *r)
{
	struct raw_message m;
	int status = raw_call(r, WIRE_AUDIT, 0, 0, NULL, 0, &m);

	if (status == 0)
		return 0;
	fprintf(stderr, "the books: %.*s (%d)\n", (int)m.len, m.body, status);
	return -1;
}

static int
bad_stats(const char *pool, const struct raw_stats *s)
{
	fprintf(stderr,
	    "pool %s: of %u slots %u are free, %u used, %u cached, %u in "
	    "flight, %u quarantined; %u clients\n",
	    pool, s->slots, s->free, s->used, s->cached, s->in_flight,
	    s->quarantined, s->clients);
	return -1;
}

/* All is free, but for what is cached: once the last orphan has expired. */
static int
all_is_free(struct raw *r, const char *pool)
{
	struct raw_stats s;

	for (int i = 0; i < PATIENCE_MS / 10; i++) {
		if (raw_pool_stats(r, pool, &s) != 0)
			return -1;
		if (s.in_flight == 0 && s.quarantined == 0)
			break;
		poll(NULL, 0, 10);
	}
	return s.free + s.cached == s.slots ? 0 : bad_stats(pool, &s);
}

static int
sums_are_right(struct raw *r, const char *pool)
{
	struct raw_stats s;
	int err = raw_pool_stats(r, pool, &s);

	if (err != 0) {
		fprintf(stderr, "no statistics: %d\n", err);
		return -1;
	}
	if (s.free + s.used + s.cached + s.in_flight + s.quarantined == s.slots)
		return 0;
	return bad_stats(pool, &s);
}

static int
check(struct raw *r, bool deep)
{
	int err = audit(r);

	if (err == 0 && deep)
		err = order_all('g') != 0 || audit(r) != 0;
	for (unsigned i = 0; i < POOLS && err == 0; i++)
		err = deep ? all_is_free(r, pool_names[i])
			   : sums_are_right(r, pool_names[i]);
	count(DID_CHECK, deep);
	return err;
}

/* To the daemon there is now. */
static int
checker_returns(struct raw *r)
{
	int err;

	if (raw_ping(r) == 0)
		return 0;
	err = raw_reopen(r, server.socket, "checker");
	if (err < 0)
		fprintf(stderr, "the checker is not let in: %d\n", err);
	return err < 0 ? err : 0;
}

static int
play_round(struct raw *r, unsigned number, bool last, uint64_t *random)
{
	bool deep = number % CHECK_EVERY == 0 || last;

	if (work_round(random) == 0 && checker_returns(r) == 0 &&
	    order_all('s') == 0 && play_duet(random) == 0 &&
	    check(r, deep) == 0)
		return 0;
	fprintf(stderr, "round %u\n", number);
	return -1;
}

static int
run_rounds(struct raw *r, unsigned rounds, uint64_t *random)
{
	for (unsigned i = 1; i <= rounds; i++) {
		pick_victims(random);
		if (play_round(r, i, i == rounds, random) != 0)
			return -1;
	}
	return 0;
}

static double
seconds_since(const struct timespec *then)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)(now.tv_sec - then->tv_sec) +
	       (double)(now.tv_nsec - then->tv_nsec) / 1e9;
}

/* After a round without victims, so that everybody is there. */
static void
take_sample(void)
{
	static uint64_t daemons;
	uint64_t now = load_relaxed(&board->done[DID_DAEMON]);

	trend_sample(&server, children[0].pid, now != daemons);
	daemons = now;
}

static int
soak(struct raw *r, uint64_t *random)
{
	double at = 0, due = 0;
	struct timespec begin;
	unsigned i = 0;
	bool calm;
	int err;

	clock_gettime(CLOCK_MONOTONIC, &begin);
	while ((at = seconds_since(&begin)) < soak_seconds) {
		daemon_is_spared = at > soak_seconds / 2.0;
		calm = at >= due;
		if (!calm)
			pick_victims(random);
		if (play_round(r, ++i, false, random) != 0)
			return -1;
		if (!calm)
			continue;
		take_sample();
		due += (double)soak_seconds / SAMPLES;
	}
	if (play_round(r, ++i, true, random) != 0)
		return -1;
	printf("%u rounds\n", i);
	err = trend_report();
	/* A child's exit() would say it again. */
	fflush(stdout);
	return err;
}

static int
end_children(bool stuck)
{
	struct order quit = {.what = 'q'};
	int bad = 0;

	for (unsigned i = 0; i < processes; i++) {
		if (children[i].pid <= 0)
			continue;
		if (stuck)
			kill(children[i].pid, SIGKILL);
		tell(children[i].control, &quit, sizeof(quit));
		bad |= reap(children[i].pid);
		close(children[i].control);
		children[i].pid = 0;
	}
	return bad != 0 ? -1 : 0;
}

/* What never happened was not tested. */
static int
report(bool verbose)
{
	int bad = 0;

	for (int i = 0; i < NKINDS; i++) {
		uint64_t n = load_relaxed(&board->done[i]);
		bool missing = n == 0 && strncmp(kind_names[i], "rare", 4) != 0;

		if (daemon_percent == 0 &&
		    (i == DID_DAEMON || i == DID_DAEMON_YOUNG))
			missing = false;
		/* A soak is about memory: a short one has few rounds. */
		if (soak_seconds > 0 && i != DID_KILL && i != DID_DAEMON)
			missing = false;
		if (verbose || missing)
			printf("%10llu %s\n", (unsigned long long)n,
			    kind_names[i]);
		if (missing)
			bad = -1;
	}
	return bad;
}

/* The janitor takes the daemon's last words away. */
static void
show_log(const struct server *s)
{
	FILE *file = fopen(s->log, "re");
	char line[1024];

	while (file != NULL && fgets(line, sizeof(line), file) != NULL)
		fputs(line, stderr);
	if (file != NULL)
		fclose(file);
}

static int
run(struct server *s, unsigned rounds, uint64_t seed)
{
	struct raw r = {.fd = -1};
	int err;

	setenv("SLABD_SOCKET", s->socket, 1);
	for (unsigned i = 0; i < processes; i++)
		children[i].number = i;
	err = raw_open(&r, s->socket, "checker");
	if (err == 0)
		err = soak_seconds > 0 ? soak(&r, &seed)
				       : run_rounds(&r, rounds, &seed);
	if (end_children(err != 0) != 0)
		err = -1;
	if (err == 0)
		err = check(&r, true);
	raw_close(&r);
	return err;
}

static unsigned
number(const char *text, unsigned most)
{
	unsigned long n = strtoul(text, NULL, 10);

	if (n < 1 || n > most) {
		fprintf(stderr, "%s: 1 to %u\n", text, most);
		exit(2);
	}
	return (unsigned)n;
}

int
main(int argc, char **argv)
{
	unsigned rounds = 150;
	uint64_t seed = (uint64_t)time(NULL);
	const char *left = NULL;
	bool verbose = false;
	int opt, err;

	while ((opt = getopt(argc, argv, "r:T:s:p:t:d:v")) != -1) {
		if (opt == 'r')
			rounds = number(optarg, UINT32_MAX);
		else if (opt == 'T')
			soak_seconds = number(optarg, 1000000);
		else if (opt == 's')
			seed = strtoull(optarg, NULL, 10);
		else if (opt == 'p')
			processes = number(optarg, PROCESSES_MAX);
		else if (opt == 't')
			threads = number(optarg, THREADS_MAX);
		else if (opt == 'd')
			daemon_percent = (unsigned)strtoul(optarg, NULL, 10);
		else if (opt == 'v')
			verbose = true;
		else
			return 2;
	}
	board = mmap(NULL, sizeof(*board), PROT_READ | PROT_WRITE,
	    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	err = server_open(&server, CONFIG);
	if (board == MAP_FAILED || err != 0) {
		fprintf(stderr, "cannot start: %s\n", strerror(-err));
		return 1;
	}
	printf("seed %llu, %u %s, %u processes, %u threads\n",
	    (unsigned long long)seed, soak_seconds > 0 ? soak_seconds : rounds,
	    soak_seconds > 0 ? "seconds" : "rounds", processes, threads);
	fflush(stdout);
	err = run(&server, rounds, seed);
	if (err == 0)
		left = server_stop(&server, SIGTERM);
	if (left != NULL)
		fprintf(stderr, "%s\n", left);
	if (err != 0 || left != NULL)
		show_log(&server);
	server_close(&server);
	if (report(verbose) != 0)
		err = -1;
	printf("%llu kills of clients, %llu of daemons: %s\n",
	    (unsigned long long)load_relaxed(&board->done[DID_KILL]),
	    (unsigned long long)load_relaxed(&board->done[DID_DAEMON]),
	    err == 0 && left == NULL ? "ok" : "FAILED");
	return err == 0 && left == NULL ? 0 : 1;
}
