/*
 * rings [-r rounds] [-s seed] [-v]: both ends of a lane as threads of one
 * process, so that ThreadSanitizer sees across what otherwise lies between two
 * processes: what is handed on is plain memory, written without atomics.
 *
 *	doorbell  producers that ring only when they should, and a daemon that
 *		really sleeps. Who waits for it asks for nothing: a wake-up that
 *		is missed is a hang.
 *	stock	  the library's own, slabd_alloc() and slabd_free() on a pool
 *		without a connection, against a daemon that grants, takes unread
 *grants back and empties magazines at any moment.
 *	claims	  offers that are received, recalled and revoked at once.
 *
 * The daemon's ends are played here, with the least of a ledger that finds out
 * whether every slot is where it should be, and only there.
 *
 * ThreadSanitizer knows nothing of membarrier(2), but needs not to: it only
 * orders what is atomic anyway, and a slot changes hands by acquire and release
 * in each of the cases it tells apart.
 */
#include "config.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "barrier.h"
#include "claim.h"
#include "ring.h"
#include "stock.h"
#include "../core/random.h"
#include "../core/revoke.h"

enum {
	THREADS = 3,	 /* of the client */
	RECORDS = 2000,	 /* that each of them publishes in a round */
	DUELS = 2000,	 /* of one of them with the daemon */
	SLOTS = 192,	 /* of the pool with seats */
	KEEP = 24,	 /* slots a thread holds */
	STEPS = 4000,	 /* operations of each in a round */
	OFFERS = 8,	 /* under way at a time */
	TURNS = 3000,	 /* of the daemon that offers, in a round */
	PATIENCE_S = 60, /* without progress it hangs */
	SLOT_BYTES = 64
};

/* What has happened; all but the rare must have. */
#define KINDS(X)                             \
	X(SLEPT, "slept")                    \
	X(RUNG, "rung by who published")     \
	X(NO_ROOM, "waits for room")         \
	X(FLUSHED, "waits for records")      \
	X(FOUGHT, "duels with the bell")     \
	X(ALLOCATED, "slots from the seat")  \
	X(ASKED, "asked for slots")          \
	X(TOOK_BACK, "grants taken back")    \
	X(OUTRUN, "rare: not taken back")    \
	X(REVOKED, "refs out of magazines")  \
	X(THREAD_ENDED, "seats given up")    \
	X(RECEIVED, "receipts")              \
	X(TOO_LATE, "receipts not taken")    \
	X(RECALLED, "receipts recalled")     \
	X(CLOSED, "receipts revoked")        \
	X(CONFIRMED, "rare: verdicts, held") \
	X(DENIED, "verdicts, not held")

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

static _Atomic uint64_t done[NKINDS];
static const char *scene = "nothing";

/* Relaxed, both: numbers, read when the threads are gone. */
static void
count(enum kind kind, uint64_t n)
{
	atomic_fetch_add_explicit(&done[kind], n, memory_order_relaxed);
}

static uint64_t
progress(void)
{
	uint64_t sum = 0;

	for (int i = 0; i < NKINDS; i++)
		sum += load_relaxed(&done[i]);
	return sum;
}

static void
must(bool is, const char *what, uint64_t value)
{
	if (is)
		return;
	fprintf(
	    stderr, "%s: %s: %#llx\n", scene, what, (unsigned long long)value);
	_exit(1);
}

/* The watchman. */
static void
look_for_progress(int signo)
{
	static uint64_t last;
	uint64_t now = progress();

	(void)signo;
	if (now == last) {
		dprintf(STDERR_FILENO, "%s: nothing moves\n", scene);
		for (int i = 0; i < NKINDS; i++)
			dprintf(STDERR_FILENO, "%10llu %s\n",
			    (unsigned long long)load_relaxed(&done[i]),
			    kind_names[i]);
		_exit(1);
	}
	last = now;
	alarm(PATIENCE_S);
}

static void
maybe_yield(uint64_t *random)
{
	if (random_below(random, 8) == 0)
		sched_yield();
}

static void
start(pthread_t *thread, void *(*body)(void *), void *arg)
{
	int err = pthread_create(thread, NULL, body, arg);

	must(err == 0, "pthread_create", (uint64_t)err);
}

/* A lane and its bell. */
struct end {
	struct lane lane;
	int bell;
	uint64_t read; /* records below were read */
};

static void
end_open(struct end *e, uint32_t slots)
{
	struct lane_geometry g = lane_geometry_for(slots);
	void *mem = mmap(NULL, lane_bytes(&g), PROT_READ | PROT_WRITE,
	    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int err;

	must(mem != MAP_FAILED, "mmap", (uint64_t)errno);
	err = lane_format(&e->lane, mem, &g, 1, 1);
	must(err == 0, "lane_format", (uint64_t)-err);
	e->bell = eventfd(0, EFD_CLOEXEC);
	must(e->bell >= 0, "eventfd", (uint64_t)errno);
	e->read = 0;
}

static void
end_close(struct end *e)
{
	munmap(e->lane.header, lane_bytes(&e->lane.geometry));
	close(e->bell);
}

/* Gives each new record to `take`, and its place back; how many. */
static unsigned
end_drain(struct end *e, void (*take)(void *, uint64_t), void *arg)
{
	uint64_t from = e->read, tail;
	bool good = ring_tail(&e->lane, e->read, e->read, &tail);

	must(good, "an impossible end of the ring", tail);
	while (e->read < tail)
		take(arg, ring_record(&e->lane, e->read++));
	ring_release(&e->lane, e->read);
	return (unsigned)(e->read - from);
}

/* A process that was stopped meanwhile goes on to wait. */
static int
await_bell(int bell)
{
	eventfd_t rung;
	int err;

	do
		err = eventfd_read(bell, &rung);
	while (err < 0 && errno == EINTR);
	return err;
}

/*
 * Sleeps until the bell rings, unless so many records have come meanwhile that
 * nobody is bound to ring again.
 */
static void
end_sleep(struct end *e)
{
	struct lane_header *h = e->lane.header;
	uint64_t unread;

	ring_sleep(&e->lane);
	/* With the one in ring_wake(). */
	atomic_thread_fence(memory_order_seq_cst);
	unread = load_relaxed(&h->record_tail) - e->read;
	if (unread > 0 && (unread >= load_relaxed(&h->watermark) ||
			      load_relaxed(&h->eager) != 0))
		return;
	count(DID_SLEPT, 1);
	must(await_bell(e->bell) == 0, "bell", (uint64_t)errno);
}

static void
ring_bell(const struct end *e)
{
	eventfd_write(e->bell, 1);
}

/* Publishes one record; the caller has the room, and the turn. */
static void
publish(struct end *e, struct ring_outlet *o, uint64_t record)
{
	ring_publish(&e->lane, o, &record, 1);
	/* Before `eager` and claims are looked at: with barrier_all(). */
	compiler_barrier();
}

static void
wake_if(struct end *e, bool due)
{
	if (!due || !ring_wake(&e->lane))
		return;
	count(DID_RUNG, 1);
	ring_bell(e);
}

/* The doorbell. */

struct bell_scene {
	struct end end;
	pthread_mutex_t turn; /* guards the outlet; before `lock` */
	struct ring_outlet outlet;
	pthread_mutex_t lock; /* guards what follows */
	pthread_cond_t moved;
	uint64_t consumed, flush_to;
	uint64_t next[THREADS]; /* the daemon's: the sequence due */
	uint64_t random;
};

struct producer {
	struct bell_scene *scene;
	unsigned number;
	uint64_t random;
};

static void
await_room(struct bell_scene *b)
{
	count(DID_NO_ROOM, 1);
	pthread_mutex_lock(&b->lock);
	while (!ring_has_room(&b->end.lane, &b->outlet, 1))
		pthread_cond_wait(&b->moved, &b->lock);
	pthread_mutex_unlock(&b->lock);
}

static void *
produce(void *arg)
{
	struct producer *p = arg;
	struct bell_scene *b = p->scene;
	bool due;

	for (uint64_t i = 1; i <= RECORDS; i++) {
		pthread_mutex_lock(&b->turn);
		if (!ring_has_room(&b->end.lane, &b->outlet, 1))
			await_room(b);
		publish(&b->end, &b->outlet,
		    record_make(LANE_FREE, ref_make(p->number, false, i), 0));
		due = ring_is_due(&b->end.lane, &b->outlet);
		pthread_mutex_unlock(&b->turn);
		wake_if(&b->end, due);
		maybe_yield(&p->random);
	}
	return NULL;
}

/* Waits, again and again, for records that others will publish. */
static void *
flush_often(void *arg)
{
	struct producer *p = arg;
	struct bell_scene *b = p->scene;
	uint64_t to = 0, all = (uint64_t)THREADS * RECORDS;

	while (to < all) {
		pthread_mutex_lock(&b->lock);
		to = b->consumed + 1 + random_below(&p->random, 100);
		to = to < all ? to : all;
		b->flush_to = to;
		ring_bell(&b->end); /* the message that asks for it */
		while (b->consumed < to)
			pthread_cond_wait(&b->moved, &b->lock);
		b->flush_to = 0;
		pthread_mutex_unlock(&b->lock);
		count(DID_FLUSHED, 1);
		for (unsigned i = random_below(&p->random, 20); i > 0; i--)
			sched_yield();
	}
	return NULL;
}

static void
consume(void *arg, uint64_t record)
{
	struct bell_scene *b = arg;
	uint32_t producer = ref_slot(record);

	must(producer < THREADS && record_operation(record) == LANE_FREE,
	    "a record that is none", record);
	must(record_ahead(record, ++b->next[producer]) == 0,
	    "a record lost, doubled or out of order", record);
}

/* Reads, and tells those who wait; whether somebody waits for records. */
static bool
read_records(struct bell_scene *b)
{
	unsigned n = end_drain(&b->end, consume, b);
	bool wanted;

	pthread_mutex_lock(&b->lock);
	b->consumed += n;
	wanted = b->flush_to > b->consumed;
	pthread_cond_broadcast(&b->moved);
	pthread_mutex_unlock(&b->lock);
	return wanted;
}

static void
answer_bells(struct bell_scene *b)
{
	struct lane_header *h = b->end.lane.header;
	uint64_t all = (uint64_t)THREADS * RECORDS;
	uint32_t records = b->end.lane.geometry.records;
	bool wanted;

	while (b->consumed < all) {
		wanted = read_records(b);
		if (wanted && load_relaxed(&h->eager) == 0) {
			store_relaxed(&h->eager, 1);
			barrier_all();
			read_records(b);
		} else if (!wanted)
			store_relaxed(&h->eager, 0);
		store_relaxed(
		    &h->watermark, 1 + random_below(&b->random, records));
		if (b->consumed < all)
			end_sleep(&b->end);
	}
}

static void
play_bell(uint64_t *random)
{
	struct bell_scene b = {.turn = PTHREAD_MUTEX_INITIALIZER,
	    .lock = PTHREAD_MUTEX_INITIALIZER,
	    .moved = PTHREAD_COND_INITIALIZER,
	    .random = random_next(random)};
	struct producer producers[THREADS + 1];
	pthread_t threads[THREADS + 1];

	scene = "doorbell";
	end_open(&b.end, 1);
	for (unsigned i = 0; i <= THREADS; i++) {
		producers[i] = (struct producer){&b, i, random_next(random)};
		start(&threads[i], i < THREADS ? produce : flush_often,
		    &producers[i]);
	}
	answer_bells(&b);
	for (unsigned i = 0; i <= THREADS; i++)
		pthread_join(threads[i], NULL);
	end_close(&b.end);
}

/*
 * The same, as close as can be: one producer publishes a record and waits until
 * it was read, without any lock, while the daemon is about to sleep or to hear
 * of every record.
 */
struct duel_scene {
	struct end end;
	uint64_t random;
	uint64_t next;
};

/* Some nanoseconds. */
static void
dawdle(uint64_t *random)
{
	for (unsigned i = random_below(random, 300); i > 0; i--)
		compiler_barrier();
}

static void *
challenge(void *arg)
{
	struct duel_scene *d = arg;
	uint64_t random = d->random;
	struct ring_outlet outlet = {0, 0};

	for (uint64_t i = 1; i <= DUELS; i++) {
		dawdle(&random);
		publish(&d->end, &outlet,
		    record_make(LANE_FREE, ref_make(0, false, i), 0));
		wake_if(&d->end, ring_is_due(&d->end.lane, &outlet));
		/* Acquire: with ring_release(). */
		while (load_acquire(&d->end.lane.header->record_head) < i)
			sched_yield();
	}
	return NULL;
}

static void
meet(void *arg, uint64_t record)
{
	struct duel_scene *d = arg;

	must(record_ahead(record, ++d->next) == 0, "not the next", record);
}

static void
play_duel(uint64_t *random)
{
	struct duel_scene d = {.random = random_next(random)};
	_Atomic uint32_t *eager;
	pthread_t thread;

	scene = "duel";
	end_open(&d.end, 1);
	eager = &d.end.lane.header->eager;
	store_relaxed(&d.end.lane.header->watermark, LANE_RING_MIN);
	start(&thread, challenge, &d);
	while (end_drain(&d.end, meet, &d), d.next < DUELS) {
		store_relaxed(eager, 1);
		barrier_all();
		end_drain(&d.end, meet, &d);
		dawdle(random);
		if (d.next < DUELS)
			end_sleep(&d.end);
		store_relaxed(eager, random_below(random, 2));
	}
	pthread_join(thread, NULL);
	count(DID_FOUGHT, DUELS);
	end_close(&d.end);
}

/* The stock. */

/* A slot, in plain memory. */
struct payload {
	uint64_t owner;
	uint64_t filling[SLOT_BYTES / 8 - 1];
};

struct stock_scene {
	struct end end;
	struct slabd_pool pool;
	struct payload slots[SLOTS];
	pthread_mutex_t lock; /* guards what follows */
	pthread_cond_t answer;
	uint64_t asked, answered;
	unsigned working; /* threads */
	/* The daemon's own. */
	uint64_t ref[SLOTS]; /* it is granted under; 0: it is free */
	uint64_t version[SLOTS];
	uint32_t free[SLOTS];
	unsigned nfree;
	uint64_t *copy; /* of the grant ring */
	uint64_t tail, head, notice;
	uint64_t random;
};

struct worker {
	struct stock_scene *scene;
	unsigned number;
	uint64_t random;
	struct payload *held[KEEP];
	unsigned nheld;
	uint64_t allocated;
};

/* Asks the daemon for slots, and waits for the answer. */
static void
ask(struct stock_scene *s)
{
	uint64_t mine;

	pthread_mutex_lock(&s->lock);
	mine = ++s->asked;
	ring_bell(&s->end);
	while (s->answered < mine)
		pthread_cond_wait(&s->answer, &s->lock);
	pthread_mutex_unlock(&s->lock);
	count(DID_ASKED, 1);
}

static void
own(struct worker *w, struct payload *slot)
{
	must(slot->owner == 0, "a slot with an owner was allocated",
	    slot->owner);
	slot->owner = w->number;
	w->held[w->nheld++] = slot;
	w->allocated++;
}

static void
alloc_some(struct worker *w)
{
	struct slabd_pool *p = &w->scene->pool;
	unsigned n = random_below(&w->random, 8);
	void *v[8] = {NULL};
	int got;

	n = n < KEEP - w->nheld ? n : KEEP - w->nheld;
	if (n > 1)
		got = slabd_alloc_many(p, v, n);
	else
		got = (v[0] = slabd_alloc(p)) != NULL ? 1 : -errno;
	/* There is no connection by which it could ask for more. */
	must(got > 0 || got == -EINVAL, "alloc", (uint64_t)-got);
	for (int i = 0; i < got; i++)
		own(w, v[i]);
	if (got < 0)
		ask(w->scene);
	maybe_yield(&w->random);
}

static void
free_one(struct worker *w)
{
	unsigned i = random_below(&w->random, w->nheld);
	struct payload *slot = w->held[i];
	int err;

	w->held[i] = w->held[--w->nheld];
	must(slot->owner == w->number, "another owns this slot", slot->owner);
	slot->owner = 0;
	err = slabd_free(&w->scene->pool, slot);
	must(err == 0, "free", (uint64_t)-err);
}

static void *
use_stock(void *arg)
{
	struct worker *w = arg;
	struct stock_scene *s = w->scene;

	for (unsigned i = 0; i < STEPS; i++) {
		bool more = random_below(&w->random, 2) != 0;

		if (w->nheld == 0 || (more && w->nheld < KEEP))
			alloc_some(w);
		else
			free_one(w);
	}
	while (w->nheld > 0)
		free_one(w);
	pthread_mutex_lock(&s->lock);
	s->working--;
	ring_bell(&s->end);
	pthread_mutex_unlock(&s->lock);
	count(DID_THREAD_ENDED, 1);
	return NULL;
}

/*
 * What comes back must be what was granted, and nobody's any more. To a memory
 * checker that knows of slots it is out of reach: this end is not the program's.
 */
static __attribute__((no_sanitize("address"))) void
come_back(struct stock_scene *s, uint64_t ref)
{
	uint32_t slot = ref_slot(ref);

	must(slot < SLOTS && s->ref[slot] == ref, "it was not granted", ref);
	must(s->slots[slot].owner == 0, "it came back with an owner", ref);
	s->ref[slot] = 0;
	s->free[s->nfree++] = slot;
}

static void
take_free(void *arg, uint64_t record)
{
	struct stock_scene *s = arg;
	uint32_t slot = ref_slot(record);

	must(record_operation(record) == LANE_FREE && slot < SLOTS &&
		 record_ahead(record, s->version[slot]) == 0,
	    "a record that does not match", record);
	come_back(s, record_ref(record, s->version[slot]));
}

static void
top_up(struct stock_scene *s)
{
	const struct lane *l = &s->end.lane;
	unsigned n = random_below(&s->random, SLOTS / 2);
	uint32_t slot;

	for (; n > 0 && s->nfree > 0; n--) {
		slot = s->free[--s->nfree];
		s->ref[slot] = ref_make(slot, false, ++s->version[slot]);
		s->copy[s->tail & (l->geometry.grants - 1)] = s->ref[slot];
		ring_put_grant(l, s->tail++, s->ref[slot]);
	}
	ring_granted(l, s->tail);
}

static void
take_back(struct stock_scene *s)
{
	const struct lane *l = &s->end.lane;
	uint64_t head;
	bool good;

	for (;;) {
		good = ring_unread(l, s->tail, s->head, &head);
		must(good, "an impossible head", head);
		maybe_yield(&s->random);
		if (head == s->tail)
			return;
		if (ring_close(l, head))
			break;
		count(DID_OUTRUN, 1);
	}
	count(DID_TOOK_BACK, s->tail - head);
	for (s->head = s->tail; head != s->tail; head++)
		come_back(s, s->copy[head & (l->geometry.grants - 1)]);
	ring_reopen(l, s->tail);
}

/* As lanes_revoke() of the daemon. */
static void
revoke_all(struct stock_scene *s, bool hungry)
{
	struct lane_header *h = s->end.lane.header;
	uint64_t refs[LANE_MAGAZINE];
	unsigned n;

	s->notice = (s->notice + LANE_NOTICE) & ~(uint64_t)LANE_HUNGRY;
	s->notice |= hungry ? LANE_HUNGRY : 0;
	store_relaxed(&h->notice, s->notice);
	barrier_all();
	end_drain(&s->end, take_free, s);
	for (uint32_t i = 0; i < load_relaxed(&h->magazines_used); i++) {
		n = magazine_revoke(
		    lane_magazine(&s->end.lane, i), refs, LANE_MAGAZINE);
		for (unsigned k = 0; k < n; k++)
			come_back(s, refs[k]);
		count(DID_REVOKED, n);
	}
	/* Release: with the owner's acquire, when it goes on. */
	store_release(&h->revoked, s->notice);
}

/* Whatever a client may do, it may meet any of this. */
static void
disturb(struct stock_scene *s)
{
	store_relaxed(
	    &s->end.lane.header->watermark, 1 + random_below(&s->random, 32));
	switch (random_below(&s->random, 8)) {
	case 0:
		take_back(s);
		break;
	case 1:
		revoke_all(s, true);
		break;
	case 2:
	case 3:
		revoke_all(s, false);
		break;
	default:
		top_up(s);
	}
}

/* False: everybody has ended. */
static bool
answer_all(struct stock_scene *s)
{
	bool working;

	pthread_mutex_lock(&s->lock);
	working = s->working > 0;
	if (s->asked > s->answered) {
		if (s->nfree == 0) {
			take_back(s);
			revoke_all(s, false);
		}
		top_up(s);
	}
	s->answered = s->asked;
	pthread_cond_broadcast(&s->answer);
	pthread_mutex_unlock(&s->lock);
	return working;
}

static void
serve_stock(struct stock_scene *s)
{
	while (answer_all(s)) {
		end_drain(&s->end, take_free, s);
		disturb(s);
		end_sleep(&s->end);
	}
}

static void
open_stock(struct stock_scene *s, uint64_t *random)
{
	struct slabd_pool *p = &s->pool;
	struct lane_header *h;
	int err;

	end_open(&s->end, SLOTS);
	s->random = random_next(random);
	s->copy = calloc(s->end.lane.geometry.grants, sizeof(*s->copy));
	must(s->copy != NULL, "calloc", ENOMEM);
	for (uint32_t i = 0; i < SLOTS; i++)
		s->free[s->nfree++] = i;
	h = s->end.lane.header;
	store_relaxed(&h->batch, 8);
	store_relaxed(&h->magazine_limit, 16);
	store_relaxed(&h->watermark, 1);
	store_relaxed(&h->low, 8);
	p->lane = s->end.lane;
	p->post.doorbell = s->end.bell;
	pthread_mutex_init(&p->post.lock, NULL);
	err = table_init(&p->table, s->slots, SLOT_BYTES, SLOTS, SLOTS);
	if (err == 0)
		err = post_init(p);
	if (err == 0)
		err = stock_open(p);
	must(err == 0, "a pool", (uint64_t)-err);
}

/* All slots are free again, and the client has counted right. */
static void
close_stock(struct stock_scene *s, uint64_t allocated)
{
	struct lane_header *h = s->end.lane.header;
	uint64_t allocs = load_relaxed(&h->allocs), frees;
	const struct lane_magazine *m;

	frees = load_relaxed(&h->frees);
	for (uint32_t i = 0; i < LANE_MAGAZINES; i++) {
		m = lane_magazine(&s->end.lane, i);
		must(load_relaxed(&m->busy) == 0, "a busy magazine", i);
		allocs += load_relaxed(&m->allocs);
		frees += load_relaxed(&m->frees);
	}
	must(allocs == allocated && frees == allocated, "counted", allocs);
	count(DID_ALLOCATED, allocated);
	end_drain(&s->end, take_free, s);
	take_back(s);
	must(s->nfree == SLOTS, "slots that came back", s->nfree);
	stock_close(&s->pool);
	table_destroy(&s->pool.table);
	post_destroy(&s->pool);
	pthread_mutex_destroy(&s->pool.post.lock);
	free(s->copy);
	munmap(h, lane_bytes(&s->end.lane.geometry));
}

static void
play_stock(uint64_t *random)
{
	struct stock_scene *s = calloc(1, sizeof(*s));
	struct worker workers[THREADS];
	pthread_t threads[THREADS];
	uint64_t allocated = 0;

	scene = "stock";
	must(s != NULL, "calloc", ENOMEM);
	open_stock(s, random);
	pthread_mutex_init(&s->lock, NULL);
	pthread_cond_init(&s->answer, NULL);
	s->working = THREADS;
	for (unsigned i = 0; i < THREADS; i++) {
		workers[i] = (struct worker){
		    .scene = s, .number = i + 1, .random = random_next(random)};
		start(&threads[i], use_stock, &workers[i]);
	}
	serve_stock(s);
	for (unsigned i = 0; i < THREADS; i++) {
		pthread_join(threads[i], NULL);
		allocated += workers[i].allocated;
	}
	close_stock(s, allocated);
	pthread_mutex_destroy(&s->lock);
	pthread_cond_destroy(&s->answer);
	free(s);
}

/* The claims. */

enum offer_state { IDLE, OPEN, FINISHED };

/* The daemon's record of one. */
struct offer {
	enum offer_state state;
	uint64_t ref;
	unsigned offered, recalled, seen, freed;
	uint32_t receivers; /* a bit for each that was seen */
};

struct claim_scene {
	_Atomic uint64_t claims[OFFERS];
	_Atomic uint64_t posted[OFFERS]; /* refs */
	uint64_t payload[OFFERS];	 /* the ref it was written for */
	struct offer offers[OFFERS];
	struct receiver *receivers;
	uint64_t random, version;
	uint64_t refused;     /* records of those who were denied */
	pthread_mutex_t lock; /* guards what follows */
	pthread_cond_t news, judged;
	uint64_t postings;
	bool over;
	uint64_t verdict[OFFERS]; /* the ref, */
	uint32_t holders[OFFERS]; /* and who holds it */
};

struct receiver {
	struct claim_scene *scene;
	struct end end;
	struct ring_outlet outlet;
	unsigned number;
	uint64_t random;
	uint64_t seen; /* postings */
	uint64_t last[OFFERS], denied;
};

static void
say(struct receiver *r, enum lane_operation operation, uint64_t ref)
{
	must(ring_has_room(&r->end.lane, &r->outlet, 1), "no room", ref);
	publish(&r->end, &r->outlet, record_make(operation, ref, 0));
}

/* The claim does not stand: waits for the daemon's word. */
static bool
ask_verdict(struct receiver *r, uint64_t ref)
{
	struct claim_scene *c = r->scene;
	uint32_t slot = ref_slot(ref);
	bool held;

	pthread_mutex_lock(&c->lock);
	while (c->verdict[slot] < ref)
		pthread_cond_wait(&c->judged, &c->lock);
	/* A later one: nobody had to be waited for. */
	held = c->verdict[slot] == ref && (c->holders[slot] >> r->number & 1);
	pthread_mutex_unlock(&c->lock);
	count(held ? DID_CONFIRMED : DID_DENIED, 1);
	r->denied += !held;
	return held;
}

static void
take_offer(struct receiver *r, uint64_t ref)
{
	struct claim_scene *c = r->scene;

	maybe_yield(&r->random);
	if (claim_take(c->claims, ref, 1) == 0) {
		count(DID_TOO_LATE, 1);
		return;
	}
	maybe_yield(&r->random);
	say(r, LANE_RECEIVE, ref);
	if (!claim_stands(c->claims, ref) && !ask_verdict(r, ref))
		return;
	maybe_yield(&r->random);
	must(c->payload[ref_slot(ref)] == ref, "another's payload",
	    c->payload[ref_slot(ref)]);
	count(DID_RECEIVED, 1);
	say(r, LANE_FREE, ref);
}

static bool
await_news(struct receiver *r)
{
	struct claim_scene *c = r->scene;
	bool over;

	pthread_mutex_lock(&c->lock);
	while (c->postings == r->seen && !c->over)
		pthread_cond_wait(&c->news, &c->lock);
	over = c->postings == r->seen;
	r->seen = c->postings;
	pthread_mutex_unlock(&c->lock);
	return !over;
}

static void *
receive_all(void *arg)
{
	struct receiver *r = arg;
	uint64_t ref;

	while (await_news(r))
		for (unsigned i = 0; i < OFFERS; i++) {
			/* Relaxed: a ref needs nothing with it. */
			ref = load_relaxed(&r->scene->posted[i]);
			if (ref != r->last[i])
				take_offer(r, ref);
			r->last[i] = ref;
		}
	return NULL;
}

static void
take_receipt(void *arg, uint64_t record)
{
	struct receiver *r = arg;
	struct claim_scene *c = r->scene;
	struct offer *o = &c->offers[ref_slot(record)];
	bool current = record_ahead(record, ref_version(o->ref)) == 0;
	uint32_t bit = UINT32_C(1) << r->number;

	if (record_operation(record) == LANE_FREE) {
		must(current && (o->receivers & bit) != 0,
		    "freed by who does not hold it", record);
		o->receivers &= ~bit;
		o->freed++;
	} else if (current && o->state == OPEN) {
		must((o->receivers & bit) == 0, "received twice", record);
		o->receivers |= bit;
		o->seen++;
	} else
		c->refused++;
}

static void
drain_all(struct claim_scene *c)
{
	for (unsigned i = 0; i < THREADS; i++)
		end_drain(&c->receivers[i].end, take_receipt, &c->receivers[i]);
}

/* Whoever had its slot has freed it, so it may be written. */
static void
make_offer(struct claim_scene *c, uint32_t slot)
{
	unsigned n = 1 + random_below(&c->random, THREADS);
	uint64_t ref = ref_make(slot, n > 1, ++c->version);

	c->offers[slot] =
	    (struct offer){.state = OPEN, .ref = ref, .offered = n};
	c->payload[slot] = ref;
	claim_offer(c->claims, ref, n);
	store_relaxed(&c->posted[slot], ref);
	pthread_mutex_lock(&c->lock);
	c->postings++;
	pthread_cond_broadcast(&c->news);
	pthread_mutex_unlock(&c->lock);
}

static void
recall(struct claim_scene *c, struct offer *o)
{
	unsigned n = claim_take(
	    c->claims, o->ref, 1 + random_below(&c->random, THREADS));

	o->recalled += n;
	must(o->seen + o->recalled <= o->offered, "recalled too much", o->ref);
	count(DID_RECALLED, n);
}

/* As claims_revoke() and claims_settle() of the daemon, and the verdict. */
static void
revoke_offer(struct claim_scene *c, struct offer *o)
{
	uint32_t slot = ref_slot(o->ref);
	unsigned open = claim_revoke(c->claims, o->ref);

	barrier_all();
	drain_all(c);
	must(o->seen + o->recalled + open <= o->offered, "more than offered",
	    o->ref);
	count(DID_CLOSED, open);
	o->state = FINISHED;
	pthread_mutex_lock(&c->lock);
	c->verdict[slot] = o->ref;
	/* Those who have freed it already do not ask. */
	c->holders[slot] = o->receivers;
	pthread_cond_broadcast(&c->judged);
	pthread_mutex_unlock(&c->lock);
}

static void
step_offer(struct claim_scene *c, uint32_t slot, bool last)
{
	struct offer *o = &c->offers[slot];
	unsigned what = random_below(&c->random, 8);

	if (o->state == OPEN && o->seen + o->recalled == o->offered)
		o->state = FINISHED;
	if (o->state == FINISHED && o->freed == o->seen)
		o->state = IDLE;
	if (o->state == IDLE && !last)
		make_offer(c, slot);
	else if (o->state == OPEN && (what == 0 || last))
		revoke_offer(c, o);
	else if (o->state == OPEN && what == 1)
		recall(c, o);
}

static bool
all_idle(const struct claim_scene *c)
{
	for (unsigned i = 0; i < OFFERS; i++)
		if (c->offers[i].state != IDLE)
			return false;
	return true;
}

static void
serve_claims(struct claim_scene *c)
{
	for (unsigned turn = 0; turn < TURNS || !all_idle(c); turn++) {
		drain_all(c);
		for (uint32_t i = 0; i < OFFERS; i++)
			step_offer(c, i, turn >= TURNS);
		maybe_yield(&c->random);
	}
	pthread_mutex_lock(&c->lock);
	c->over = true;
	pthread_cond_broadcast(&c->news);
	pthread_mutex_unlock(&c->lock);
}

static void
play_claims(uint64_t *random)
{
	struct receiver receivers[THREADS] = {0};
	struct claim_scene c = {.lock = PTHREAD_MUTEX_INITIALIZER,
	    .news = PTHREAD_COND_INITIALIZER,
	    .judged = PTHREAD_COND_INITIALIZER,
	    .random = random_next(random),
	    .receivers = receivers};
	pthread_t threads[THREADS];
	uint64_t denied = 0;

	scene = "claims";
	for (unsigned i = 0; i < THREADS; i++) {
		receivers[i].scene = &c;
		receivers[i].number = i;
		receivers[i].random = random_next(random);
		end_open(&receivers[i].end, OFFERS);
		start(&threads[i], receive_all, &receivers[i]);
	}
	serve_claims(&c);
	for (unsigned i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	drain_all(&c);
	for (unsigned i = 0; i < THREADS; i++) {
		denied += receivers[i].denied;
		end_close(&receivers[i].end);
	}
	must(c.refused == denied, "refused, and not told", c.refused);
}

/* What never happened was not tested. */
static bool
report(bool verbose)
{
	bool all = true;

	for (int i = 0; i < NKINDS; i++) {
		uint64_t n = load_relaxed(&done[i]);
		bool missing = n == 0 && strncmp(kind_names[i], "rare", 4) != 0;

		if (verbose || missing)
			printf("%10llu %s\n", (unsigned long long)n,
			    kind_names[i]);
		all = all && !missing;
	}
	return all;
}

int
main(int argc, char **argv)
{
	unsigned rounds = 60;
	uint64_t seed = (uint64_t)time(NULL), random;
	bool verbose = false, all;
	int opt;

	while ((opt = getopt(argc, argv, "r:s:v")) != -1) {
		if (opt == 'r')
			rounds = (unsigned)strtoul(optarg, NULL, 10);
		else if (opt == 's')
			seed = strtoull(optarg, NULL, 10);
		else if (opt == 'v')
			verbose = true;
		else
			return 2;
	}
	if (!barrier_join() || !barrier_possible())
		return 77;
	printf("seed %llu, %u rounds\n", (unsigned long long)seed, rounds);
	fflush(stdout);
	signal(SIGALRM, look_for_progress);
	alarm(PATIENCE_S);
	random = seed;
	for (unsigned i = 0; i < rounds; i++) {
		play_bell(&random);
		play_duel(&random);
		play_stock(&random);
		play_claims(&random);
	}
	all = report(verbose);
	printf("%u rounds: %s\n", rounds, all ? "ok" : "FAILED");
	return all ? 0 : 1;
}
