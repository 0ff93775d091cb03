/*
 * library [-r rounds] [-s seed]: threads of several processes do with libslabd
 * whatever it offers, all at once. A plain program, so that it also runs under
 * ThreadSanitizer.
 *
 * The threads of a process share a connection and two attachments on it, one
 * of them non-blocking and used by one thread in a round, which alone polls and
 * dispatches. Each thread has an attachment of its own besides. Refs travel
 * through a pipe for each thread, often to more receivers than were offered.
 *
 * A round has three parts, and all threads meet before each: at their work;
 * receiving what is left in the pipes; giving everything back. Rules:
 *
 *	A slot carries its writer's mark at both ends until it is written to
 *	again, which only the one who holds it alone may do.
 *	Of each offer: receives that succeeded + receipts recalled = offered,
 *	unless its sender detached; then at most that many.
 *	Between rounds the daemon's books balance and every slot is free.
 *
 * The seed decides what each thread does, but not how they are mixed.
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "../e2e/raw.h"
#include "../e2e/server.h"
#include "atomic.h"
#include "slabd.h"
#include "../core/random.h"

enum {
	PROCESSES = 3,
	THREADS = 4, /* in each */
	WORKERS = PROCESSES * THREADS,
	STEPS = 250, /* operations of a thread in a round */
	KEEP = 12,   /* slots a thread holds, and more only by recall */
	OFFERS = 64, /* that a thread makes in a round */
	DUELS = 8,
	WORDS = 32, /* of eight bytes in a slot */
	PATIENCE_MS = 120000
};

#define POOL                                                               \
	"\"log_level\": \"error\", \"shrink_seconds\": 0, \"pools\": [{"   \
	"\"name\": \"p\", \"slot_size\": 256, \"slots_per_segment\": 16, " \
	"\"max_segments\": 6, \"orphan_seconds\": 600, \"max_clients\": 64}]"

#define KINDS(X)                          \
	X(ALLOC, "alloc")                 \
	X(ALLOC_MANY, "alloc_many")       \
	X(ALLOC_WAIT, "alloc_wait")       \
	X(FREE, "free")                   \
	X(FREE_MANY, "free_many")         \
	X(DOUBLE_FREE, "double free")     \
	X(DUEL, "duel")                   \
	X(SEND, "send")                   \
	X(SHARE, "share")                 \
	X(REFUSED, "shared again")        \
	X(RECEIVE, "receive")             \
	X(OUTRACED, "receive too late")   \
	X(RECALL, "recall")               \
	X(RECALL_N, "recall_n")           \
	X(FLUSH, "flush")                 \
	X(WANT, "want")                   \
	X(DISPATCH, "dispatch")           \
	X(LATER, "non-blocking, by poll") \
	X(STATS, "stats_json")            \
	X(ATTACH, "attach")               \
	X(OPEN, "open")

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

/* By which attachment something is done. */
enum via { BY_SHARED, BY_LATER, BY_OWN, BY_NONE };

/* What all processes see. */
struct board {
	_Atomic uint64_t done[NKINDS];
	/* Receives that succeeded, for the current round's offers. */
	_Atomic uint32_t taken[WORKERS][OFFERS];
};

struct letter {
	uint64_t ref, mark;
	uint32_t sender, offer;
};

struct hold {
	void *slot;
	uint64_t mark;
	enum via via;
	bool shared;
};

struct offer {
	uint64_t ref;
	struct hold sent; /* via BY_NONE: nobody can recall it any more */
	uint32_t offered, posted, recalled;
};

struct worker {
	struct process *home;
	unsigned number; /* among all */
	unsigned thread; /* in its process */
	uint64_t random;
	uint32_t sequence; /* of the last mark */
	struct slabd_pool *own;
	struct hold holds[KEEP + OFFERS];
	unsigned nholds;
	struct offer offers[OFFERS];
	unsigned noffers;
};

/* One slot that every thread frees or sends, and what came of it. */
struct duel {
	void *slot;
	atomic_uint freed, sent, already, denied;
	slabd_ref ref; /* the winner's, if it was sent */
};

struct process {
	unsigned number, round;
	uint64_t seed;
	int control;
	bool go; /* the parent says so; written between barriers */
	struct slabd *session;
	struct slabd_pool *shared, *later;
	pthread_barrier_t meet;
	struct worker workers[THREADS];
	struct duel duels[DUELS];
	int nduels;
};

static struct board *board;
static int inboxes[WORKERS][2];

static void
count(enum kind kind)
{
	/* Relaxed, as all of the board: read after everybody has met. */
	atomic_fetch_add_explicit(&board->done[kind], 1, memory_order_relaxed);
}

/* Ends the process when something is not as promised. */
static void
must(const struct worker *w, bool is, const char *what, long result)
{
	if (is)
		return;
	fprintf(stderr, "process %u thread %u round %u: %s: %ld (%s)\n",
	    w->home->number, w->thread, w->home->round, what, result,
	    slabd_error_detail());
	_exit(1);
}

static struct slabd_pool *
pool_of(const struct worker *w, enum via via)
{
	return via == BY_SHARED	 ? w->home->shared
	       : via == BY_LATER ? w->home->later
				 : w->own;
}

/* The one that may use the non-blocking attachment, and dispatch. */
static bool
on_duty(const struct worker *w)
{
	return w->home->round % THREADS == w->thread;
}

static enum via
pick_via(struct worker *w)
{
	static const enum via ways[] = {BY_SHARED, BY_OWN, BY_SHARED, BY_LATER};

	return ways[random_below(&w->random, on_duty(w) ? 4 : 3)];
}

/* True, once there is news, when a non-blocking call is to be made again. */
static bool
again(struct worker *w, enum via via, int err)
{
	struct pollfd news = {.events = POLLIN};

	if (err != -EAGAIN || via != BY_LATER)
		return false;
	news.fd = slabd_fd(w->home->session);
	must(w, poll(&news, 1, PATIENCE_MS) == 1, "no news came", news.fd);
	err = slabd_dispatch(w->home->session);
	must(w, err >= 0, "dispatch", err);
	/* None: another thread is about to take what made it readable. */
	if (err > 0)
		count(DID_LATER);
	return true;
}

/* Slots and marks. */

static void
stamp(struct worker *w, struct hold *h)
{
	uint64_t *words = h->slot;

	h->mark = (uint64_t)w->number << 32 | ++w->sequence;
	words[0] = words[WORDS - 1] = h->mark;
}

static void
check_mark(const struct worker *w, const struct hold *h)
{
	const uint64_t *words = h->slot;

	must(w, words[0] == h->mark && words[WORDS - 1] == h->mark,
	    "another's mark is in the slot", (long)words[0]);
}

static void
keep_new(struct worker *w, enum via via, void *slot)
{
	struct hold *h = &w->holds[w->nholds++];

	*h = (struct hold){slot, 0, via, false};
	stamp(w, h);
}

static struct hold
take_away(struct worker *w, unsigned i)
{
	struct hold h = w->holds[i];

	w->holds[i] = w->holds[--w->nholds];
	check_mark(w, &h);
	return h;
}

static struct hold
take_any(struct worker *w)
{
	return take_away(w, random_below(&w->random, w->nholds));
}

static bool
full(const struct worker *w)
{
	return w->nholds >= KEEP;
}

static void
free_hold(struct worker *w, const struct hold *h)
{
	int err;

	do
		err = slabd_free(pool_of(w, h->via), h->slot);
	while (again(w, h->via, err));
	must(w, err == 0, "free", err);
}

/* Operations. Each does nothing where it would have to wait for others. */

static void
do_alloc(struct worker *w)
{
	enum via via = pick_via(w);
	void *slot;

	if (full(w))
		return;
	do
		slot = slabd_alloc(pool_of(w, via));
	while (slot == NULL && again(w, via, -errno));
	must(w, slot != NULL || errno == ENOBUFS, "alloc", errno);
	if (slot == NULL)
		return;
	keep_new(w, via, slot);
	count(DID_ALLOC);
}

/* How many of up to `n` there were. */
static unsigned
alloc_some(struct worker *w, enum via via, unsigned n)
{
	void *v[KEEP];
	int got;

	if (n > KEEP - w->nholds)
		n = KEEP - w->nholds;
	do
		got = slabd_alloc_many(pool_of(w, via), v, n);
	while (again(w, via, got));
	must(w, got > 0 || got == -ENOBUFS, "alloc_many", got);
	for (int i = 0; i < got; i++)
		keep_new(w, via, v[i]);
	return got > 0 ? (unsigned)got : 0;
}

static void
do_alloc_many(struct worker *w)
{
	if (!full(w) &&
	    alloc_some(w, pick_via(w), 1 + random_below(&w->random, 4)) > 0)
		count(DID_ALLOC_MANY);
}

static void
do_alloc_wait(struct worker *w)
{
	enum via via = random_below(&w->random, 2) ? BY_SHARED : BY_OWN;
	void *slot;

	if (full(w))
		return;
	slot =
	    slabd_alloc_wait(pool_of(w, via), (int)random_below(&w->random, 4));
	must(w, slot != NULL || errno == ETIMEDOUT, "alloc_wait", errno);
	if (slot != NULL)
		keep_new(w, via, slot);
	count(DID_ALLOC_WAIT);
}

static void
do_free(struct worker *w)
{
	struct hold h;

	if (w->nholds == 0)
		return;
	h = take_any(w);
	free_hold(w, &h);
	count(DID_FREE);
}

static void
do_free_many(struct worker *w)
{
	enum via via = pick_via(w);
	void *v[KEEP + OFFERS];
	unsigned n = 0;
	int err;

	for (unsigned i = w->nholds; i-- > 0;)
		if (w->holds[i].via == via)
			v[n++] = take_away(w, i).slot;
	if (n == 0)
		return;
	do
		err = slabd_free_many(pool_of(w, via), v, n);
	while (again(w, via, err));
	must(w, err == (int)n, "free_many", err);
	count(DID_FREE_MANY);
}

/* By its own attachment: nobody else can be granted the slot there. */
static void
do_double_free(struct worker *w)
{
	slabd_ref ref;
	struct hold h;
	int err;

	for (unsigned i = 0; i < w->nholds; i++) {
		if (w->holds[i].via != BY_OWN || w->holds[i].shared)
			continue;
		h = take_away(w, i);
		free_hold(w, &h);
		err = slabd_free(w->own, h.slot);
		must(w, err == -EALREADY, "free of a free slot", err);
		err = slabd_send(w->own, h.slot, &ref);
		must(w, err == -EALREADY && ref == 0, "send of one", err);
		count(DID_DOUBLE_FREE);
		return;
	}
}

/* Tells some threads, perhaps fewer and perhaps more than may receive. */
static void
post(struct worker *w, struct offer *o)
{
	struct letter letter = {
	    o->ref, o->sent.mark, w->number, (uint32_t)(o - w->offers)};
	unsigned n = o->offered + random_below(&w->random, 4);
	int fd;

	for (unsigned i = 1; i < n || o->posted == 0; i++) {
		fd = inboxes[random_below(&w->random, WORKERS)][1];
		if (write(fd, &letter, sizeof(letter)) != sizeof(letter))
			return; /* full; what is open gets recalled */
		o->posted++;
	}
}

static void
offer(struct worker *w, const struct hold *h, unsigned n, slabd_ref ref)
{
	struct offer *o = &w->offers[w->noffers++];

	*o = (struct offer){ref, *h, n, 0, 0};
	post(w, o);
}

static void
do_send(struct worker *w)
{
	struct hold h;
	slabd_ref ref;
	int err;

	if (w->nholds == 0 || w->noffers == OFFERS)
		return;
	h = take_any(w);
	do
		err = slabd_send(pool_of(w, h.via), h.slot, &ref);
	while (again(w, h.via, err));
	if (h.shared) {
		must(w, err == -EBUSY && ref == 0, "send, shared", err);
		w->holds[w->nholds++] = h;
		count(DID_REFUSED);
		return;
	}
	must(w, err == 0 && ref != 0, "send", err);
	if (h.via == BY_OWN) {
		err = slabd_free(w->own, h.slot);
		must(w, err == -EPERM, "free of a sent slot", err);
	}
	offer(w, &h, 1, ref);
	count(DID_SEND);
}

static void
do_share(struct worker *w)
{
	unsigned n = 1 + random_below(&w->random, 4);
	struct hold h;
	slabd_ref ref;
	int err;

	if (w->nholds == 0 || w->noffers == OFFERS)
		return;
	h = take_any(w);
	do
		err = slabd_share(pool_of(w, h.via), h.slot, n, &ref);
	while (again(w, h.via, err));
	must(w, err == (h.shared ? -EBUSY : 0), "share", err);
	if (!h.shared) {
		h.shared = true;
		offer(w, &h, n, ref);
	}
	w->holds[w->nholds++] = h;
	count(err == 0 ? DID_SHARE : DID_REFUSED);
}

static bool
read_letter(struct worker *w, struct letter *letter)
{
	ssize_t n = read(inboxes[w->number][0], letter, sizeof(*letter));

	must(w, n == sizeof(*letter) || (n < 0 && errno == EAGAIN), "pipe", n);
	return n > 0;
}

/* True when this thread was among those that received; it is the last hold. */
static bool
receive(struct worker *w, const struct letter *l)
{
	struct hold h = {NULL, l->mark, pick_via(w), ref_shared(l->ref)};
	int err;

	do
		err = slabd_receive(pool_of(w, h.via), l->ref, &h.slot);
	while (again(w, h.via, err));
	must(w, err == 0 || (err == -ESTALE && h.slot == NULL), "receive", err);
	count(err == 0 ? DID_RECEIVE : DID_OUTRACED);
	if (err < 0)
		return false;
	atomic_fetch_add_explicit(
	    &board->taken[l->sender][l->offer], 1, memory_order_relaxed);
	check_mark(w, &h);
	if (!h.shared)
		stamp(w, &h);
	w->holds[w->nholds++] = h;
	return true;
}

static void
do_receive(struct worker *w)
{
	struct letter letter;

	if (!full(w) && read_letter(w, &letter))
		receive(w, &letter);
}

/* All that is open, or at most `n`. */
static void
recall(struct worker *w, struct offer *o, unsigned n)
{
	struct slabd_pool *p = pool_of(w, o->sent.via);
	int got;

	do
		got = n == 0 ? slabd_recall(p, o->ref)
			     : slabd_recall_n(p, o->ref, n);
	while (again(w, o->sent.via, got));
	must(w, got >= 0 || got == -ESTALE, "recall", got);
	if (got <= 0)
		return;
	o->recalled += (uint32_t)got;
	if (o->sent.shared)
		return;
	check_mark(w, &o->sent);
	w->holds[w->nholds++] = o->sent;
}

static void
do_recall(struct worker *w)
{
	unsigned n = random_below(&w->random, 3);
	struct offer *o;

	if (w->noffers == 0 || full(w))
		return;
	o = &w->offers[random_below(&w->random, w->noffers)];
	if (o->sent.via == BY_NONE)
		return;
	recall(w, o, n);
	count(n == 0 ? DID_RECALL : DID_RECALL_N);
}

static void
do_flush(struct worker *w)
{
	enum via via = pick_via(w);
	int ms = via == BY_LATER ? 0 : (int)random_below(&w->random, 3);
	int open;

	do
		open = slabd_flush(pool_of(w, via), ms);
	while (again(w, via, open));
	must(w, open >= 0, "flush", open);
	count(DID_FLUSH);
}

static void
do_dispatch(struct worker *w)
{
	struct pollfd news = {slabd_fd(w->home->session), POLLIN, 0};
	int n;

	if (!on_duty(w) || poll(&news, 1, (int)random_below(&w->random, 3)) < 1)
		return;
	n = slabd_dispatch(w->home->session);
	must(w, n >= 0, "dispatch", n);
	count(DID_DISPATCH);
}

static void
want(struct worker *w, enum via via, unsigned n)
{
	int err;

	do
		err = slabd_pool_want(pool_of(w, via), n);
	while (again(w, via, err));
	must(w, err == 0, "want", err);
}

/* Half of them stay in the queue, for whoever allocates next. */
static void
do_want(struct worker *w)
{
	unsigned n = 1 + random_below(&w->random, 4);
	enum via via = pick_via(w);

	if (full(w))
		return;
	want(w, via, n);
	do_dispatch(w);
	if (alloc_some(w, via, n) > 0)
		count(DID_WANT);
	if (random_below(&w->random, 2))
		want(w, via, 0);
}

static void
do_stats(struct worker *w)
{
	char *json;
	int err = slabd_stats_json(w->home->session, &json);

	must(w, err == 0 && strstr(json, "\"pools\"") != NULL, "stats", err);
	free(json);
	count(DID_STATS);
}

static struct slabd_pool *
attach(struct worker *w, unsigned flags)
{
	struct slabd_pool *p;
	int err = slabd_pool_attach(&p, w->home->session, "p", flags);

	must(w, err == 0, "attach", err);
	count(DID_ATTACH);
	return p;
}

/* Nobody else uses it; what it holds is given back by detaching. */
static void
do_reattach(struct worker *w)
{
	for (unsigned i = 0; i < w->noffers; i++) {
		struct offer *o = &w->offers[i];

		if (o->sent.via != BY_OWN)
			continue;
		/* What too few know of would stay in flight. */
		if (o->posted < o->offered)
			recall(w, o, 0);
		o->sent.via = BY_NONE;
	}
	for (unsigned i = w->nholds; i-- > 0;)
		if (w->holds[i].via == BY_OWN)
			take_away(w, i);
	slabd_pool_detach(w->own);
	w->own = attach(w, 0);
}

static void (*const operations[])(struct worker *) = {do_alloc, do_alloc,
    do_alloc, do_alloc_many, do_alloc_many, do_alloc_wait, do_alloc_wait,
    do_free, do_free, do_free, do_free_many, do_double_free, do_send, do_send,
    do_send, do_send, do_share, do_share, do_share, do_receive, do_receive,
    do_receive, do_receive, do_receive, do_receive, do_receive, do_receive,
    do_receive, do_recall, do_recall, do_flush, do_dispatch, do_want, do_want};

#define NOPERATIONS (sizeof(operations) / sizeof(*operations))

/* Duels: every thread of the process tries to be rid of the same slots. */

/* Allocated by thread 0's own attachment, which grants nothing meanwhile. */
static void
prepare_duels(struct worker *w)
{
	struct process *home = w->home;
	void *v[DUELS];

	home->nduels = slabd_alloc_many(w->own, v, DUELS);
	must(w, home->nduels > 0 || home->nduels == -ENOBUFS, "alloc_many",
	    home->nduels);
	for (int i = 0; i < home->nduels; i++) {
		memset(&home->duels[i], 0, sizeof(home->duels[i]));
		home->duels[i].slot = v[i];
	}
}

static void
fight(struct worker *w, struct duel *d)
{
	struct slabd_pool *p = w->home->workers[0].own;
	bool send = random_below(&w->random, 4) == 0;
	slabd_ref ref = 0;
	int err = send ? slabd_send(p, d->slot, &ref) : slabd_free(p, d->slot);

	must(w, err == 0 || err == -EALREADY || err == -EPERM, "duel", err);
	atomic_fetch_add_explicit(err == -EALREADY ? &d->already
				  : err == -EPERM  ? &d->denied
				  : send	   ? &d->sent
						   : &d->freed,
	    1, memory_order_relaxed); /* read behind a barrier */
	if (ref != 0)
		d->ref = ref; /* by one alone, or else it is found out */
	count(DID_DUEL);
}

static void
judge(struct worker *w, struct duel *d)
{
	/* Relaxed: a barrier is between. */
	unsigned freed = load_relaxed(&d->freed);
	unsigned winners = freed + load_relaxed(&d->sent);
	unsigned losers = load_relaxed(freed > 0 ? &d->already : &d->denied);
	int err;

	must(w, winners == 1, "winners of a duel", winners);
	must(w, losers == THREADS - 1, "losers that were told so", losers);
	if (freed > 0)
		return;
	err = slabd_recall(w->own, d->ref);
	must(w, err == 1, "recall after a duel", err);
	err = slabd_free(w->own, d->slot);
	must(w, err == 0, "free after a duel", err);
}

static void
duel(struct worker *w)
{
	struct process *home = w->home;

	if (w->thread == 0)
		prepare_duels(w);
	pthread_barrier_wait(&home->meet);
	for (int i = 0; i < home->nduels; i++)
		fight(w, &home->duels[i]);
	pthread_barrier_wait(&home->meet);
	for (int i = 0; w->thread == 0 && i < home->nduels; i++)
		judge(w, &home->duels[i]);
}

/* The parts of a round. */

/* For what the process has in common, and in turn the connection. */
static void
renew(struct worker *w)
{
	struct process *home = w->home;
	int err;

	slabd_pool_detach(home->shared);
	slabd_pool_detach(home->later);
	if (home->round % PROCESSES == home->number || home->session == NULL) {
		slabd_close(home->session);
		err = slabd_open(&home->session, NULL);
		must(w, err == 0, "open", err);
		count(DID_OPEN);
	}
	home->shared = attach(w, 0);
	home->later = attach(w, SLABD_NONBLOCK);
	home->round++;
}

static void
mingle(struct worker *w)
{
	w->noffers = 0;
	for (int i = 0; i < OFFERS; i++)
		store_relaxed(&board->taken[w->number][i], 0);
	slabd_pool_detach(w->own);
	pthread_barrier_wait(&w->home->meet);
	if (w->thread == 0)
		renew(w);
	pthread_barrier_wait(&w->home->meet);
	w->own = attach(w, 0);
	duel(w);
	for (int i = 0; i < STEPS; i++)
		operations[random_below(&w->random, NOPERATIONS)](w);
	do_stats(w);
	do_reattach(w);
}

static void
drain(struct worker *w)
{
	struct letter letter;
	struct hold h;

	while (read_letter(w, &letter)) {
		if (!receive(w, &letter))
			continue;
		h = take_away(w, w->nholds - 1);
		free_hold(w, &h);
	}
}

static void
check_offer(struct worker *w, const struct offer *o)
{
	uint32_t closed =
	    load_relaxed(&board->taken[w->number][o - w->offers]) + o->recalled;

	must(w,
	    o->sent.via == BY_NONE ? closed <= o->offered
				   : closed == o->offered,
	    "receipts that were taken or recalled", closed);
}

static void
flush(struct worker *w, enum via via)
{
	int open;

	do
		open = slabd_flush(pool_of(w, via), via == BY_LATER ? 0 : -1);
	while (again(w, via, open));
	must(w, open == 0, "still open", open);
}

/* Nothing may be left although the attachments stay until the next round. */
static void
settle(struct worker *w)
{
	struct hold h;

	for (unsigned i = 0; i < w->noffers; i++) {
		if (w->offers[i].sent.via != BY_NONE)
			recall(w, &w->offers[i], 0);
		check_offer(w, &w->offers[i]);
	}
	while (w->nholds > 0) {
		h = take_away(w, w->nholds - 1);
		free_hold(w, &h);
	}
	if (on_duty(w)) {
		want(w, BY_LATER, 0);
		flush(w, BY_LATER);
	}
	want(w, BY_SHARED, 0);
	want(w, BY_OWN, 0);
	flush(w, BY_OWN);
	pthread_barrier_wait(&w->home->meet);
	if (w->thread != 0)
		return;
	/*
	 * Behind the answer to one lies whatever crossed a withdrawal, and is
	 * given back; behind the other the daemon has taken that.
	 */
	flush(w, BY_SHARED);
	flush(w, BY_SHARED);
}

/* All threads of all processes; false: it is over. */
static bool
meet(struct worker *w)
{
	struct process *home = w->home;
	char byte;

	pthread_barrier_wait(&home->meet);
	if (w->thread == 0)
		home->go = tell(home->control, "!", 1) == 0 &&
			   hear(home->control, &byte, 1) == 0 && byte == '!';
	pthread_barrier_wait(&home->meet);
	return home->go;
}

static void *
work(void *arg)
{
	static void (*const parts[])(struct worker *) = {mingle, drain, settle};
	struct worker *w = arg;

	for (unsigned i = 0; meet(w); i++)
		parts[i % 3](w);
	return NULL;
}

static int
be_process(int control, void *arg)
{
	struct process *home = arg;
	pthread_t threads[THREADS];

	home->control = control;
	pthread_barrier_init(&home->meet, NULL, THREADS);
	for (unsigned i = 0; i < THREADS; i++) {
		struct worker *w = &home->workers[i];

		w->home = home;
		w->thread = i;
		w->number = home->number * THREADS + i;
		w->random = home->seed + w->number;
	}
	for (int i = 1; i < THREADS; i++)
		if (pthread_create(
			&threads[i], NULL, work, &home->workers[i]) != 0)
			return 1;
	work(&home->workers[0]);
	for (int i = 1; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	slabd_close(home->session);
	pthread_barrier_destroy(&home->meet);
	/* Not _exit(): the sanitizers have a last word to say. */
	exit(0);
}

/* The parent's side. */

struct child {
	pid_t pid;
	int control;
};

static int
start(struct child *children, uint64_t seed)
{
	static struct process processes[PROCESSES];

	for (int i = 0; i < WORKERS; i++)
		if (pipe2(inboxes[i], O_CLOEXEC | O_NONBLOCK) < 0)
			return -errno;
	for (unsigned i = 0; i < PROCESSES; i++) {
		processes[i].number = i;
		processes[i].seed = seed;
		children[i].pid =
		    spawn(be_process, &processes[i], &children[i].control);
		if (children[i].pid < 0)
			return -errno;
	}
	return 0;
}

/* Every process has come to the end of its part. */
static int
gather(const struct child *children)
{
	char byte;

	for (int i = 0; i < PROCESSES; i++) {
		struct pollfd p = {children[i].control, POLLIN, 0};

		if (poll(&p, 1, PATIENCE_MS) == 1 && hear(p.fd, &byte, 1) == 0)
			continue;
		fprintf(stderr, "process %d %s\n", i,
		    p.revents == 0 ? "is stuck" : "ended");
		return -1;
	}
	return 0;
}

static int
check(struct raw *r)
{
	struct raw_message m;
	struct raw_stats s;
	int status = raw_call(r, WIRE_AUDIT, 0, 0, NULL, 0, &m);

	if (status != 0) {
		fprintf(stderr, "the books: %.*s (%d)\n", (int)m.len, m.body,
		    status);
		return -1;
	}
	if (raw_pool_stats(r, "p", &s) != 0)
		return -1;
	if (s.free + s.cached == s.slots && s.used == 0 && s.in_flight == 0 &&
	    s.quarantined == 0)
		return 0;
	fprintf(stderr,
	    "of %u slots %u are free, %u used, %u cached, %u in flight, %u "
	    "quarantined\n",
	    s.slots, s.free, s.used, s.cached, s.in_flight, s.quarantined);
	return -1;
}

static int
run_rounds(struct raw *r, const struct child *children, unsigned rounds)
{
	for (unsigned part = 0; part <= 3 * rounds; part++) {
		if (gather(children) != 0)
			return -1;
		if (part % 3 == 0 && check(r) != 0) {
			fprintf(stderr, "before round %u\n", part / 3);
			return -1;
		}
		for (int i = 0; part < 3 * rounds && i < PROCESSES; i++)
			tell(children[i].control, "!", 1);
	}
	return 0;
}

/* They are told to end, unless they could not hear it. */
static int
end(struct child *children, bool stuck)
{
	int bad = 0;

	for (int i = 0; i < PROCESSES; i++) {
		if (children[i].pid <= 0)
			continue;
		if (stuck)
			kill(children[i].pid, SIGKILL);
		tell(children[i].control, "", 1);
		bad |= reap(children[i].pid);
		close(children[i].control);
	}
	return bad != 0 ? -1 : 0;
}

/* What was never done was not tested. */
static int
report(void)
{
	int bad = 0;

	for (int i = 0; i < NKINDS; i++) {
		uint64_t n = load_relaxed(&board->done[i]);

		printf("%10llu %s\n", (unsigned long long)n, kind_names[i]);
		if (n == 0)
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
	struct child children[PROCESSES] = {{0}};
	struct raw r = {.fd = -1};
	int err;

	setenv("SLABD_SOCKET", s->socket, 1);
	err = start(children, seed);
	if (err == 0)
		err = raw_open(&r, s->socket, "checker");
	if (err == 0)
		err = run_rounds(&r, children, rounds);
	if (end(children, err != 0) != 0)
		err = -1;
	if (err == 0)
		err = check(&r);
	raw_close(&r);
	return report() != 0 ? -1 : err;
}

int
main(int argc, char **argv)
{
	unsigned rounds = 8;
	uint64_t seed = (uint64_t)time(NULL);
	struct server server;
	const char *left = NULL;
	int opt, err;

	while ((opt = getopt(argc, argv, "r:s:")) != -1) {
		if (opt == 'r')
			rounds = (unsigned)strtoul(optarg, NULL, 10);
		else if (opt == 's')
			seed = strtoull(optarg, NULL, 10);
		else
			return 2;
	}
	board = mmap(NULL, sizeof(*board), PROT_READ | PROT_WRITE,
	    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	err = server_open(&server, POOL);
	if (board == MAP_FAILED || err != 0) {
		fprintf(stderr, "cannot start: %s\n", strerror(-err));
		return 1;
	}
	printf("seed %llu, %u rounds\n", (unsigned long long)seed, rounds);
	fflush(stdout);
	err = run(&server, rounds, seed);
	if (err == 0)
		left = server_stop(&server, SIGTERM);
	if (left != NULL)
		fprintf(stderr, "%s\n", left);
	if (err != 0 || left != NULL)
		show_log(&server);
	server_close(&server);
	printf("%u rounds: %s\n", rounds,
	    err == 0 && left == NULL ? "ok" : "FAILED");
	return err == 0 && left == NULL ? 0 : 1;
}
