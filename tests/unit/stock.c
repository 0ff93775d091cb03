/*
 * Stock, seats and records against a daemon's end of the lane made by the test
 * itself, so that every step of it comes when the test wants it to.
 */
#include "config.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "barrier.h"
#include "claim.h"
#include "fork.h"
#include "publish.h"
#include "stock.h"
#include "../core/revoke.h"

#define SLOTS	  1024u
#define SLOT_SIZE 64u
#define BATCH	  4u
#define LIMIT	  16u

TestSuite(stock, .timeout = 60);

/* --------------------------------------------------- the daemon's end of it */

/* A pool without a daemon, and what the daemon would know of its lane. */
struct far {
	struct slabd_pool pool;
	uint64_t tail; /* of the grants */
	uint64_t head; /* records read */
};

static struct slabd session = {.lock = PTHREAD_MUTEX_INITIALIZER,
    .socket = -1,
    .epoll = -1,
    .event = -1,
    .timer = -1,
    .path = (char *)"/nonexistent"};

static void *
map(size_t bytes)
{
	void *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
	    MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	cr_assert_neq(at, MAP_FAILED);
	madvise(at, bytes, MADV_DONTFORK);
	return at;
}

static struct lane_header *
header(struct far *f)
{
	return f->pool.lane.header;
}

static void
set_limits(struct far *f, uint32_t batch, uint32_t limit)
{
	store_relaxed(&header(f)->batch, batch);
	store_relaxed(&header(f)->magazine_limit, limit);
}

static struct far *
make(unsigned flags)
{
	struct far *f = calloc(1, sizeof(*f));
	struct slabd_pool *p = &f->pool;
	struct lane_geometry g = lane_geometry_for(64);

	if (session.generation == 0) {
		session.generation = fork_generation();
		TAILQ_INIT(&session.calls);
		TAILQ_INIT(&session.unsent);
		TAILQ_INIT(&session.sleepers);
		cr_assert(barrier_join());
	}
	p->session = &session;
	p->flags = flags;
	strcpy(p->name, "test");
	p->base = map(SLOTS * SLOT_SIZE);
	p->claims = map(SLOTS * sizeof(*p->claims));
	pthread_mutex_init(&p->post.lock, NULL);
	cr_assert_eq(
	    table_init(&p->table, p->base, SLOT_SIZE, SLOTS, SLOTS), 0);
	p->table.checked = flags & SLABD_CHECKED;
	cr_assert_eq(lane_format(&p->lane, map(lane_bytes(&g)), &g, 1, 1), 0);
	set_limits(f, BATCH, LIMIT);
	store_relaxed(&header(f)->watermark, g.records / 2);
	store_relaxed(&header(f)->claims, SLOTS);
	cr_assert_eq(post_init(p), 0);
	p->post.doorbell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	cr_assert_eq(stock_open(p), 0);
	return f;
}

static void
grant_ref(struct far *f, uint64_t ref)
{
	ring_put_grant(&f->pool.lane, f->tail++, ref);
	ring_granted(&f->pool.lane, f->tail);
}

/* Slots from..to-1, at a version. */
static void
grant(struct far *f, uint32_t from, uint32_t to, uint64_t version)
{
	for (uint32_t slot = from; slot < to; slot++)
		grant_ref(f, ref_make(slot, false, version));
}

/* The next record; 0: there is none. */
static uint64_t
next_record(struct far *f)
{
	uint64_t tail, record;

	cr_assert(ring_tail(&f->pool.lane, f->head, f->head, &tail));
	if (tail == f->head)
		return 0;
	record = ring_record(&f->pool.lane, f->head++);
	ring_release(&f->pool.lane, f->head);
	return record;
}

static void
expect_record(struct far *f, enum lane_operation operation, uint32_t slot)
{
	uint64_t record = next_record(f);

	cr_assert_neq(record, 0, "no record");
	cr_assert_eq(record_operation(record), operation);
	cr_assert_eq(
	    ref_slot(record), slot, "slot %u, not %u", ref_slot(record), slot);
}

/* How many records lie unread; all must be FREE. */
static unsigned
count_freed(struct far *f)
{
	uint64_t record;
	unsigned n = 0;

	for (; (record = next_record(f)) != 0; n++)
		cr_assert_eq(record_operation(record), LANE_FREE);
	return n;
}

/* A new notice, as the daemon gives it before it looks at magazines. */
static uint64_t
notify(struct far *f, bool hungry)
{
	uint64_t notice = load_relaxed(&header(f)->notice);

	notice = (notice & ~(uint64_t)LANE_HUNGRY) + LANE_NOTICE + hungry;
	store_release(&header(f)->notice, notice);
	barrier_all();
	return notice;
}

static void
done(struct far *f, uint64_t notice)
{
	store_release(&header(f)->revoked, notice);
}

static uint32_t
alloc_slot(struct far *f)
{
	void *at = slabd_alloc(&f->pool);

	cr_assert_not_null(at, "%s", slabd_error_detail());
	return table_slot(&f->pool.table, at);
}

static void
free_slot(struct far *f, uint32_t slot)
{
	int err = slabd_free(&f->pool, table_address(&f->pool.table, slot));

	cr_assert_eq(err, 0, "slot %u: %s", slot, slabd_strerror(err));
}

/* Slots that were received, as far as the library knows. */
static void
hold(struct far *f, uint32_t from, uint32_t to, uint64_t version)
{
	for (uint32_t slot = from; slot < to; slot++)
		table_hold(&f->pool.table, ref_make(slot, false, version));
}

/* Runs `body` in a thread and waits for its end. */
static void
in_thread(void *(*body)(void *), void *arg)
{
	pthread_t thread;

	cr_assert_eq(pthread_create(&thread, NULL, body, arg), 0);
	pthread_join(thread, NULL);
}

/* ------------------------------------------------------- what is everyday */

Test(stock, grants_come_in_their_order)
{
	struct far *f = make(0);

	grant(f, 0, 3 * BATCH, 1);
	for (uint32_t slot = 0; slot < 3 * BATCH; slot++) {
		cr_assert_eq(alloc_slot(f), slot);
		cr_assert_eq(ring_stock(&f->pool.lane),
		    (2 - slot / BATCH) * BATCH, "by batches");
	}
	cr_assert_null(slabd_alloc(&f->pool));
	cr_assert_eq(errno, ENOTCONN, "it wanted to ask the daemon");
}

Test(stock, what_was_freed_last_is_used_first)
{
	struct far *f = make(0);

	grant(f, 0, 3, 1);
	for (uint32_t slot = 0; slot < 3; slot++)
		cr_assert_eq(alloc_slot(f), slot);
	free_slot(f, 1);
	free_slot(f, 0);
	free_slot(f, 2);
	cr_assert_eq(alloc_slot(f), 2);
	cr_assert_eq(alloc_slot(f), 0);
	cr_assert_eq(alloc_slot(f), 1);
	cr_assert_eq(next_record(f), 0, "nobody else was concerned");
}

Test(stock, a_full_magazine_gives_back_its_hottest)
{
	struct far *f = make(0);

	grant(f, 0, LIMIT + 1, 1);
	for (uint32_t slot = 0; slot <= LIMIT; slot++)
		alloc_slot(f);
	for (uint32_t slot = 0; slot <= LIMIT; slot++)
		free_slot(f, slot);
	for (uint32_t slot = LIMIT - BATCH; slot < LIMIT; slot++)
		expect_record(f, LANE_FREE, slot);
	cr_assert_eq(next_record(f), 0);
	cr_assert_eq(alloc_slot(f), LIMIT);
	cr_assert_eq(alloc_slot(f), LIMIT - BATCH - 1);
}

Test(stock, who_never_allocates_hoards_nothing)
{
	struct far *f = make(0);

	hold(f, 0, 3 * BATCH + 1, 7);
	for (uint32_t slot = 0; slot <= 3 * BATCH; slot++)
		free_slot(f, slot);
	cr_assert_eq(count_freed(f), 3 * BATCH);
}

Test(stock, the_daemon_sets_the_limits)
{
	struct far *f = make(0);

	set_limits(f, BATCH, 0);
	grant(f, 0, 4, 1);
	for (uint32_t slot = 0; slot < 4; slot++) {
		cr_assert_eq(alloc_slot(f), slot);
		cr_assert_eq(ring_stock(&f->pool.lane), 3 - slot, "one by one");
	}
	free_slot(f, 2);
	expect_record(f, LANE_FREE, 2);
	/* What it says is not believed beyond the room there is. */
	set_limits(f, UINT32_MAX, UINT32_MAX);
	hold(f, 0, LANE_MAGAZINE + 1, 7);
	for (uint32_t slot = 0; slot <= LANE_MAGAZINE; slot++)
		free_slot(f, slot);
	cr_assert_eq(count_freed(f), LANE_MAGAZINE);
}

Test(stock, a_lower_limit_is_minded_at_once)
{
	struct far *f = make(0);

	grant(f, 0, 4, 1);
	alloc_slot(f);
	set_limits(f, BATCH, 0);
	done(f, notify(f, false));
	free_slot(f, 0);
	cr_assert_eq(count_freed(f), 4);
	set_limits(f, BATCH, LIMIT);
	hold(f, 0, 2, 9);
	free_slot(f, 0);
	free_slot(f, 1);
	cr_assert_eq(count_freed(f), 0, "and a higher one");
}

/* What can be freed but not allocated, or not taken back, is not kept. */
static void
use_directly(struct far *f)
{
	hold(f, 0, 3, 1);
	for (uint32_t slot = 0; slot < 3; slot++) {
		free_slot(f, slot);
		expect_record(f, LANE_FREE, slot);
	}
	cr_assert_eq(load_relaxed(&header(f)->frees), 3);
	cr_assert_eq(f->pool.sat, 0);
}

Test(stock, readers_keep_nothing)
{
	struct far *f = make(SLABD_RDONLY);

	use_directly(f);
	cr_assert_null(slabd_alloc(&f->pool));
	cr_assert_eq(errno, EACCES);
}

Test(stock, without_barriers_nothing_is_kept)
{
	struct far *f = make(0);

	f->pool.fences = true;
	use_directly(f);
	grant(f, 0, 3, 2);
	cr_assert_eq(alloc_slot(f), 0);
	cr_assert_eq(ring_stock(&f->pool.lane), 2);
	cr_assert_eq(load_relaxed(&header(f)->allocs), 1);
}

/*
 * Duels of who publishes a record and then looks whether the daemon wants to hear
 * of it, with a daemon that says so and then looks for records: one of the two
 * sees the other.
 */
static struct duel {
	struct far *f;
	void (*want)(struct far *);
	bool (*is_wanted)(struct far *);
	_Atomic uint64_t begun, done;
	_Atomic bool wanted;
} duel;

enum { DUELS = 100000, SPINS = 1000 };

/* Awake for a while: the two shall meet within nanoseconds. */
static void
await_turn(_Atomic uint64_t *at, uint64_t turn)
{
	for (unsigned spins = 0; load_acquire(at) != turn; spins++)
		if (spins > SPINS)
			sched_yield();
}

static void *
publish_and_look(void *arg)
{
	struct slabd_pool *p = &duel.f->pool;

	for (uint64_t i = 1; i <= DUELS; i++) {
		await_turn(&duel.begun, i);
		post_begin(p);
		post_record(p, record_make(LANE_FREE, i % SLOTS, 0));
		store_relaxed(&duel.wanted, duel.is_wanted(duel.f));
		post_cancel(p);
		store_release(&duel.done, i);
	}
	return arg;
}

/* How often neither saw the other. */
static unsigned
fight(struct far *f)
{
	unsigned missed = 0;
	pthread_t thread;
	uint64_t tail;

	duel.f = f;
	pthread_create(&thread, NULL, publish_and_look, NULL);
	for (uint64_t i = 1; i <= DUELS; i++) {
		store_release(&duel.begun, i);
		for (uint64_t k = i % 1024; k > 0; k--)
			compiler_barrier();
		duel.want(f);
		atomic_thread_fence(memory_order_seq_cst);
		tail = load_acquire(&header(f)->record_tail);
		await_turn(&duel.done, i);
		missed += tail != i && !load_relaxed(&duel.wanted);
		ring_release(&f->pool.lane, i);
		store_relaxed(&header(f)->eager, 0);
		store_relaxed(&header(f)->sleeping, 0);
	}
	pthread_join(thread, NULL);
	return missed;
}

static void
want_records(struct far *f)
{
	store_relaxed(&header(f)->eager, 1);
}

static bool
are_records_wanted(struct far *f)
{
	return load_relaxed(&header(f)->eager) != 0;
}

Test(stock, without_barriers_a_fence_orders_the_look)
{
	struct far *f = make(0);

	f->pool.fences = true;
	duel.want = want_records;
	duel.is_wanted = are_records_wanted;
	cr_assert_eq(fight(f), 0);
}

static void
want_records_of_all(struct far *f)
{
	want_records(f);
	barrier_all();
}

/* And with barriers by the daemon's alone. */
Test(stock, a_barrier_spares_the_fence)
{
	if (!barrier_possible())
		cr_skip_test("the kernel has no barrier");
	duel.want = want_records_of_all;
	duel.is_wanted = are_records_wanted;
	cr_assert_eq(fight(make(0)), 0);
}

static void
want_a_bell(struct far *f)
{
	ring_sleep(&f->pool.lane);
}

static bool
is_a_bell_wanted(struct far *f)
{
	return ring_wake(&f->pool.lane);
}

Test(stock, who_sleeps_is_woken)
{
	duel.want = want_a_bell;
	duel.is_wanted = is_a_bell_wanted;
	cr_assert_eq(fight(make(0)), 0);
}

Test(stock, many_at_once)
{
	struct far *f = make(0);
	void *v[60];

	grant(f, 0, 60, 1);
	cr_assert_eq(slabd_alloc_many(&f->pool, v, 50), 50);
	for (uint32_t i = 0; i < 50; i++)
		cr_assert_eq(table_slot(&f->pool.table, v[i]), i);
	cr_assert_eq(slabd_free_many(&f->pool, v, 50), 50);
	cr_assert_eq(slabd_alloc_many(&f->pool, v, 60),
	    (int)(60 - count_freed(f)), "fewer are better than none");
}

Test(stock, operations_are_counted)
{
	struct far *f = make(0);
	struct lane_magazine *m = lane_magazine(&f->pool.lane, 0);

	grant(f, 0, 20, 1);
	for (uint32_t slot = 0; slot < 20; slot++)
		alloc_slot(f);
	for (uint32_t slot = 0; slot < 20; slot++)
		free_slot(f, slot);
	cr_assert_eq(load_relaxed(&m->allocs), 20);
	cr_assert_eq(load_relaxed(&m->frees), 20);
}

Test(stock, misuse_is_found_here)
{
	struct far *f = make(0);
	char *at = f->pool.base;

	grant(f, 0, 2, 1);
	alloc_slot(f);
	cr_assert_eq(slabd_free(&f->pool, at + 1), -EINVAL);
	cr_assert_eq(slabd_free(&f->pool, NULL), -EINVAL);
	cr_assert_eq(
	    slabd_free(&f->pool, at + SLOT_SIZE), -EALREADY, "at hand");
	cr_assert_eq(slabd_free(&f->pool, at + 2 * SLOT_SIZE), -EPERM);
	cr_assert_eq(slabd_free(&f->pool, at), 0);
	cr_assert_eq(slabd_free(&f->pool, at), -EALREADY);
	cr_assert_eq(next_record(f), 0);
}

Test(stock, impossible_grants_are_not_taken)
{
	struct far *f = make(0);

	grant_ref(f, 0);
	grant_ref(f, ref_make(SLOTS, false, 1));
	grant_ref(f, ref_make(1, true, 1));
	grant_ref(f, ref_make(3, false, 1));
	cr_assert_eq(alloc_slot(f), 3);
	cr_assert_null(slabd_alloc(&f->pool));
}

Test(stock, the_doorbell_rings_once_for_who_sleeps)
{
	struct far *f = make(0);
	eventfd_t rings;

	store_relaxed(&header(f)->low, 8);
	grant(f, 0, 4, 1);
	alloc_slot(f);
	cr_assert_lt(
	    eventfd_read(f->pool.post.doorbell, &rings), 0, "it is awake");
	grant(f, 4, 8, 1);
	ring_sleep(&f->pool.lane);
	for (uint32_t slot = 1; slot < 8; slot++)
		alloc_slot(f);
	cr_assert_eq(eventfd_read(f->pool.post.doorbell, &rings), 0);
	cr_assert_eq(rings, 1);
}

/* ------------------------------------------------------------ taking back */

Test(stock, what_the_daemon_took_is_gone)
{
	struct far *f = make(0);
	uint64_t refs[LANE_MAGAZINE], notice;

	grant(f, 0, 4, 1);
	alloc_slot(f);
	notice = notify(f, false);
	cr_assert_eq(magazine_revoke(
			 lane_magazine(&f->pool.lane, 0), refs, LANE_MAGAZINE),
	    3);
	done(f, notice);
	cr_assert_null(slabd_alloc(&f->pool));
	cr_assert_eq(next_record(f), 0);
	free_slot(f, 0);
	cr_assert_eq(alloc_slot(f), 0, "it is used again");
}

Test(stock, what_the_daemon_left_is_kept)
{
	struct far *f = make(0);
	struct lane_magazine *m = lane_magazine(&f->pool.lane, 0);
	uint64_t notice;

	set_limits(f, 5, LIMIT);
	grant(f, 0, 5, 1);
	alloc_slot(f);
	notice = notify(f, false);
	/* The middle of 4, 3, 2, 1. */
	cr_assert_eq(ref_slot(magazine_take(m, 1)), 3);
	cr_assert_eq(ref_slot(magazine_take(m, 2)), 2);
	done(f, notice);
	cr_assert_eq(alloc_slot(f), 1);
	cr_assert_eq(load_relaxed(&m->count), 1, "without gaps");
	cr_assert_eq(alloc_slot(f), 4);
	cr_assert_eq(next_record(f), 0);
}

/* The daemon has seen that nobody is inside, and takes its time. */
Test(stock, an_unfinished_notice_empties_the_magazine)
{
	struct far *f = make(0);
	struct lane_magazine *m = lane_magazine(&f->pool.lane, 0);
	uint64_t notice;

	grant(f, 0, 4, 1);
	alloc_slot(f);
	notice = notify(f, false);
	cr_assert_eq(ref_slot(magazine_take(m, 0)), 3);
	free_slot(f, 0);
	expect_record(f, LANE_FREE, 2);
	expect_record(f, LANE_FREE, 1);
	expect_record(f, LANE_FREE, 0);
	cr_assert_eq(next_record(f), 0);
	cr_assert_eq(magazine_take(m, 1), 0, "one of them has it");
	cr_assert_eq(magazine_take(m, 2), 0);
	done(f, notice);
	hold(f, 1, 2, 9);
	free_slot(f, 1);
	cr_assert_eq(next_record(f), 0, "it is used again");
}

Test(stock, while_slots_are_short_nothing_is_kept)
{
	struct far *f = make(0);

	grant(f, 0, 12, 1);
	alloc_slot(f);
	done(f, notify(f, true));
	free_slot(f, 0);
	cr_assert_eq(count_freed(f), 4);
	for (uint32_t slot = 4; slot < 8; slot++) {
		cr_assert_eq(alloc_slot(f), slot);
		cr_assert_eq(ring_stock(&f->pool.lane), 11 - slot);
		free_slot(f, slot);
		expect_record(f, LANE_FREE, slot);
	}
	done(f, notify(f, false));
	cr_assert_eq(alloc_slot(f), 8);
	cr_assert_eq(ring_stock(&f->pool.lane), 0, "a batch");
}

/* An owner that is idle in the middle gives back by itself when it ends. */
Test(stock, a_notice_that_comes_inside_is_attended_to)
{
	struct far *f = make(0);
	struct lane_magazine *m = lane_magazine(&f->pool.lane, 0);
	uint64_t refs[LANE_MAGAZINE];

	grant(f, 0, 4, 1);
	alloc_slot(f);
	cr_assert(magazine_enter(m));
	notify(f, true);
	cr_assert_eq(magazine_revoke(m, refs, LANE_MAGAZINE), 0);
	magazine_leave(m);
	stock_attend(&f->pool, m);
	cr_assert_eq(count_freed(f), 3);
}

/*
 * What the daemon does while a thread is in the middle of something, namely just
 * before it writes a slot's word: to a table that is write-protected.
 */
static struct {
	struct far *f;
	bool came;
	unsigned taken;
} intruder;

static void
protect_table(const struct far *f, int prot)
{
	mprotect(
	    (void *)f->pool.table.words, (size_t)sysconf(_SC_PAGESIZE), prot);
}

static void
intrude(int signo)
{
	uint64_t refs[LANE_MAGAZINE];

	(void)signo;
	protect_table(intruder.f, PROT_READ | PROT_WRITE);
	intruder.came = true;
	notify(intruder.f, true);
	intruder.taken = magazine_revoke(
	    lane_magazine(&intruder.f->pool.lane, 0), refs, LANE_MAGAZINE);
}

/* From now on: when the word of one of the first slots is written. */
static void
let_intrude(struct far *f)
{
	struct sigaction action = {
	    .sa_handler = intrude, .sa_flags = SA_RESETHAND};

	intruder.f = f;
	intruder.came = false;
	intruder.taken = 0;
	cr_assert_eq(sigaction(SIGSEGV, &action, NULL), 0);
	protect_table(f, PROT_READ);
}

/* It came inside, and left the magazine to its owner. */
static void
was_left_alone(void)
{
	cr_assert(intruder.came);
	cr_assert_eq(intruder.taken, 0);
}

static const unsigned ways[] = {0, SLABD_CHECKED}; /* the short and the long */

Test(stock, a_notice_in_the_middle_of_an_allocation)
{
	for (size_t i = 0; i < sizeof(ways) / sizeof(*ways); i++) {
		struct far *f = make(ways[i]);

		grant(f, 0, BATCH, 1);
		alloc_slot(f);
		let_intrude(f);
		alloc_slot(f);
		was_left_alone();
		cr_assert_eq(count_freed(f), BATCH - 2, "way %zu", i);
	}
}

Test(stock, a_notice_in_the_middle_of_a_free)
{
	for (size_t i = 0; i < sizeof(ways) / sizeof(*ways); i++) {
		struct far *f = make(ways[i]);

		grant(f, 0, BATCH, 1);
		alloc_slot(f);
		let_intrude(f);
		free_slot(f, 0);
		was_left_alone();
		cr_assert_eq(count_freed(f), BATCH, "way %zu", i);
	}
}

/* The record that was read last. */
static void
refuse(struct far *f, uint64_t ref)
{
	uint64_t tail = load_relaxed(&header(f)->refused_tail);

	store_relaxed(&header(f)->refused[tail % LANE_REFUSED], ref);
	store_relaxed(&header(f)->refused_at[tail % LANE_REFUSED], f->head - 1);
	store_release(&header(f)->refused_tail, tail + 1);
}

Test(stock, a_notice_in_the_middle_of_another)
{
	struct far *f = make(0);

	grant(f, 0, BATCH, 1);
	alloc_slot(f);
	refuse(f, ref_make(0, false, 1));
	done(f, notify(f, false));
	let_intrude(f);
	stock_attend(&f->pool, lane_magazine(&f->pool.lane, 0));
	was_left_alone();
	cr_assert_eq(count_freed(f), BATCH - 1);
}

/* Without a magazine there is no notice to attend to, only what was refused. */
Test(stock, refusals_reach_those_without_a_magazine)
{
	struct far *f = make(0);
	char *at = f->pool.base;
	slabd_ref ref;

	f->pool.fences = true;
	grant(f, 0, 1, 1);
	hold(f, 1, 3, 1);
	refuse(f, ref_make(1, false, 1));
	alloc_slot(f);
	cr_assert_eq(slabd_send(&f->pool, at + SLOT_SIZE, &ref), -EPERM);
	refuse(f, ref_make(2, false, 1));
	cr_assert_eq(slabd_free(&f->pool, at + 2 * SLOT_SIZE), -EPERM);
	cr_assert_eq(next_record(f), 0);
}

Test(stock, refused_refs_are_lost)
{
	struct far *f = make(0);
	uint64_t n = 0;

	grant(f, 0, 4, 5);
	alloc_slot(f);
	hold(f, 10, 12, 9);
	/* More than are kept, and the last three say something. */
	for (; n < 2 * LANE_REFUSED; n++)
		store_relaxed(&header(f)->refused[n % LANE_REFUSED],
		    ref_make(11, false, 8));
	store_relaxed(
	    &header(f)->refused[n++ % LANE_REFUSED], ref_make(10, false, 9));
	store_relaxed(
	    &header(f)->refused[n++ % LANE_REFUSED], ref_make(1, false, 5));
	store_relaxed(
	    &header(f)->refused[n++ % LANE_REFUSED], ref_make(SLOTS, false, 5));
	store_release(&header(f)->refused_tail, n);
	done(f, notify(f, false));
	cr_assert_eq(alloc_slot(f), 2, "1 is dropped");
	cr_assert_eq(
	    slabd_free(&f->pool, f->pool.base + 10 * SLOT_SIZE), -EPERM);
	free_slot(f, 11);
}

/* ------------------------------------------------------------------ threads */

static void *
use_some(void *arg)
{
	struct far *f = arg;

	for (int i = 0; i < 3; i++)
		free_slot(f, alloc_slot(f));
	return NULL;
}

Test(stock, a_thread_that_ends_gives_back)
{
	struct far *f = make(0);

	for (uint64_t round = 1; round <= 2 * LANE_MAGAZINES; round++) {
		grant(f, 0, BATCH, round);
		in_thread(use_some, f);
		cr_assert_eq(count_freed(f), BATCH);
	}
	cr_assert_eq(f->pool.sat, 0);
	cr_assert_eq(load_relaxed(&lane_magazine(&f->pool.lane, 0)->allocs),
	    6 * LANE_MAGAZINES, "always the same magazine");
	cr_assert_eq(load_relaxed(&header(f)->allocs), 0);
}

static pthread_barrier_t meeting;

static void *
use_and_stay(void *arg)
{
	use_some(arg);
	pthread_barrier_wait(&meeting);
	pthread_barrier_wait(&meeting);
	return NULL;
}

Test(stock, without_a_magazine_threads_work_as_well)
{
	struct far *f = make(0);
	pthread_t threads[LANE_MAGAZINES];

	set_limits(f, 1, 1);
	grant(f, 0, LANE_MAGAZINES + 1, 1);
	pthread_barrier_init(&meeting, NULL, LANE_MAGAZINES + 1);
	for (unsigned i = 0; i < LANE_MAGAZINES; i++)
		pthread_create(&threads[i], NULL, use_and_stay, f);
	pthread_barrier_wait(&meeting);
	cr_assert_eq(count_freed(f), 0);
	grant(f, LANE_MAGAZINES + 1, LANE_MAGAZINES + 3, 1);
	use_some(f);
	cr_assert_eq(count_freed(f), 3);
	cr_assert_eq(load_relaxed(&header(f)->allocs), 3);
	cr_assert_eq(load_relaxed(&header(f)->frees), 3);
	pthread_barrier_wait(&meeting);
	for (unsigned i = 0; i < LANE_MAGAZINES; i++)
		pthread_join(threads[i], NULL);
	cr_assert_eq(count_freed(f), LANE_MAGAZINES);
}

/* Nine pools and eight seats: the first magazine is given back for the last. */
Test(stock, seats_are_few)
{
	struct far *f[SEATS + 1];

	for (unsigned i = 0; i <= SEATS; i++) {
		f[i] = make(0);
		grant(f[i], 0, 2, 1);
		free_slot(f[i], alloc_slot(f[i]));
	}
	cr_assert_eq(count_freed(f[0]), 2);
	cr_assert_eq(f[0]->pool.sat, 0);
	for (unsigned i = 1; i <= SEATS; i++)
		cr_assert_eq(count_freed(f[i]), 0);
	grant(f[0], 2, 4, 1);
	cr_assert_eq(alloc_slot(f[0]), 2);
	cr_assert_eq(count_freed(f[SEATS]), 2);
}

Test(stock, a_thread_may_outlive_a_pool)
{
	struct far *f = make(0);
	pthread_t thread;

	grant(f, 0, 2, 1);
	pthread_barrier_init(&meeting, NULL, 2);
	pthread_create(&thread, NULL, use_and_stay, f);
	pthread_barrier_wait(&meeting);
	stock_close(&f->pool);
	munmap(f->pool.lane.header, lane_bytes(&f->pool.lane.geometry));
	memset(f, 0x5a, sizeof(*f));
	pthread_barrier_wait(&meeting);
	pthread_join(thread, NULL);
	free(f);
}

Test(stock, a_handler_that_interrupts_is_told)
{
	struct far *f = make(0);
	struct lane_magazine *m = lane_magazine(&f->pool.lane, 0);
	void *v[2];

	grant(f, 0, 4, 1);
	alloc_slot(f);
	cr_assert(magazine_enter(m));
	cr_assert_null(slabd_alloc(&f->pool));
	cr_assert_eq(errno, EDEADLK);
	cr_assert_eq(slabd_alloc_many(&f->pool, v, 2), -EDEADLK);
	cr_assert_eq(slabd_free(&f->pool, f->pool.base), -EDEADLK);
	magazine_leave(m);
	cr_assert_eq(alloc_slot(f), 1);
	free_slot(f, 0);
}

/* In the child: that what it inherited is left alone when its thread ends. */
static void *
outlive(void *arg)
{
	pthread_join(*(pthread_t *)arg, NULL);
	_exit(0);
}

Test(stock, a_forked_child_has_no_seat)
{
	struct far *f = make(0);
	int status;
	pid_t child;

	grant(f, 0, 8, 1);
	alloc_slot(f);
	child = fork();
	if (child == 0) {
		static pthread_t self;
		pthread_t thread;

		self = pthread_self();
		if (slabd_alloc(&f->pool) != NULL || errno != EOWNERDEAD ||
		    slabd_free(&f->pool, f->pool.base) != -EOWNERDEAD ||
		    pthread_create(&thread, NULL, outlive, &self) != 0)
			_exit(1);
		pthread_exit(NULL);
	}
	cr_assert_eq(waitpid(child, &status, 0), child);
	cr_assert_eq(status, 0);
	cr_assert_eq(alloc_slot(f), 1);
	cr_assert_eq(next_record(f), 0);
}

#define RACES 50000u

static struct far *contested;
static _Atomic unsigned freed_by, arrived;

/* Two go on within a few nanoseconds, if both run. */
static void
start_together(void)
{
	unsigned mine = arrived++ / 2;

	for (unsigned i = 0; load_relaxed(&arrived) / 2 == mine; i++)
		if (i > 1000)
			sched_yield();
}

static void *
free_the_same(void *first)
{
	for (unsigned i = 1; i <= RACES; i++) {
		if (first != NULL) {
			count_freed(contested);
			hold(contested, 0, 1, i);
		}
		start_together();
		if (slabd_free(&contested->pool, contested->pool.base) == 0)
			freed_by++;
		start_together();
	}
	return NULL;
}

Test(stock, checked_double_frees_are_found_in_a_race)
{
	pthread_t thread;

	contested = make(SLABD_CHECKED);
	pthread_create(&thread, NULL, free_the_same, NULL);
	free_the_same(contested);
	pthread_join(thread, NULL);
	cr_assert_eq(freed_by, RACES);
}

/*
 * Owners and a daemon that takes everything back again and again, hungry or
 * not. A slot is granted only once it has come back, at the next version, so
 * none may ever be held twice, and in the end all have come back.
 */
#define OWNERS 3
#define DEALT  64u
#define ROUNDS 2000

static _Atomic bool over;
static _Atomic int users[SLOTS];

static void *
own(void *arg)
{
	struct far *f = arg;
	void *v[5];
	int n;

	while (!load_relaxed(&over)) {
		for (n = 0; n < 5 && (v[n] = slabd_alloc(&f->pool)) != NULL;
		     n++)
			cr_assert_eq(
			    users[table_slot(&f->pool.table, v[n])]++, 0);
		for (int i = 0; i < n; i++) {
			users[table_slot(&f->pool.table, v[i])]--;
			cr_assert_eq(slabd_free(&f->pool, v[i]), 0);
		}
	}
	return NULL;
}

static uint64_t dealt[SLOTS]; /* the version a slot is out by, 0: it is in */
static uint64_t last_version;

static void
come_back(uint64_t ref)
{
	cr_assert_eq(dealt[ref_slot(ref)], ref_version(ref), "slot %u twice",
	    ref_slot(ref));
	dealt[ref_slot(ref)] = 0;
}

static void
read_all(struct far *f)
{
	uint64_t record;

	while ((record = next_record(f)) != 0) {
		cr_assert_eq(record_operation(record), LANE_FREE);
		come_back(record_ref(record, dealt[ref_slot(record)]));
	}
}

static void
revoke_all(struct far *f)
{
	uint64_t refs[LANE_MAGAZINE];
	unsigned n;

	for (uint32_t i = 0; i < LANE_MAGAZINES; i++) {
		n = magazine_revoke(
		    lane_magazine(&f->pool.lane, i), refs, LANE_MAGAZINE);
		while (n > 0)
			come_back(refs[--n]);
	}
}

static void
deal(struct far *f)
{
	for (uint32_t slot = 0; slot < DEALT; slot++)
		if (dealt[slot] == 0) {
			dealt[slot] = ++last_version;
			grant(f, slot, slot + 1, last_version);
		}
}

Test(stock, nothing_is_lost_between_owner_and_daemon)
{
	struct far *f = make(SLABD_NONBLOCK);
	pthread_t owners[OWNERS];
	uint64_t head;

	for (int i = 0; i < OWNERS; i++)
		pthread_create(&owners[i], NULL, own, f);
	for (int i = 0; i < ROUNDS; i++) {
		uint64_t notice;

		deal(f);
		sched_yield();
		notice = notify(f, i % 3 == 0);
		read_all(f);
		revoke_all(f);
		if (i % 4 != 0)
			done(f, notice);
	}
	over = true;
	for (int i = 0; i < OWNERS; i++)
		pthread_join(owners[i], NULL);
	read_all(f);
	cr_assert(ring_unread(&f->pool.lane, f->tail, 0, &head));
	cr_assert(ring_close(&f->pool.lane, head));
	for (; head < f->tail; head++)
		come_back(load_relaxed(
		    &f->pool.lane.grants[head % f->pool.lane.geometry.grants]));
	for (uint32_t slot = 0; slot < DEALT; slot++)
		cr_assert_eq(dealt[slot], 0, "slot %u is lost", slot);
}

/* -------------------------------------------------------------- a full ring */

/* Frees received slots from 0 until the ring has no room; how many. */
static uint32_t
fill_ring(struct far *f)
{
	uint32_t n = f->pool.lane.geometry.records;

	set_limits(f, 1, 0);
	hold(f, 0, n, 1);
	for (uint32_t slot = 0; slot < n; slot++)
		free_slot(f, slot);
	return n;
}

Test(stock, without_the_daemon_frees_are_kept)
{
	struct far *f = make(0);
	uint32_t full = fill_ring(f);
	slabd_ref ref;

	hold(f, full, full + 10, 1);
	for (uint32_t slot = full; slot < full + 9; slot++)
		free_slot(f, slot);
	cr_assert_eq(f->pool.post.n_kept, 9);
	cr_assert_eq(
	    slabd_send(&f->pool, f->pool.base + (full + 9) * SLOT_SIZE, &ref),
	    -ENOTCONN);
	cr_assert_eq(ref, 0);
	cr_assert_eq(count_freed(f), full);
	/* It stayed with the caller, and what was kept goes before it. */
	free_slot(f, full + 9);
	for (uint32_t i = 0; i < 9; i++)
		cr_assert_eq(record_operation(next_record(f)), LANE_FREE);
	expect_record(f, LANE_FREE, full + 9);
	cr_assert_eq(next_record(f), 0);
}

/* Requests are answered by this thread once it has read the lane. */
static struct {
	pthread_t thread;
	int socket;
	struct far *f;
	int32_t verdict; /* to all but FLUSH */
	unsigned flushes, asked, records;
} daemon_end;

static void *
answer(void *arg)
{
	uint8_t buf[256], out[64];
	struct wire_header h;
	struct wire_reader in;
	struct wire_writer w;
	ssize_t len;

	(void)arg;
	while ((len = recv(daemon_end.socket, buf, sizeof(buf), 0)) > 0) {
		cr_assert_eq(wire_open(&in, buf, (size_t)len, &h), 0);
		while (next_record(daemon_end.f) != 0)
			daemon_end.records++;
		daemon_end.flushes += h.type == WIRE_FLUSH;
		daemon_end.asked += h.type != WIRE_FLUSH;
		h.status = h.type == WIRE_FLUSH ? 0 : daemon_end.verdict;
		h.type |= WIRE_REPLY;
		wire_begin(&w, out, sizeof(out), &h);
		send(daemon_end.socket, out, w.len, MSG_NOSIGNAL);
	}
	return NULL;
}

static void
daemon_connect(struct far *f)
{
	int pair[2];

	cr_assert_eq(
	    socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
	session.socket = pair[0];
	session.phase = SESSION_READY;
	daemon_end.socket = pair[1];
	daemon_end.f = f;
}

static void
daemon_begin(struct far *f)
{
	daemon_connect(f);
	pthread_create(&daemon_end.thread, NULL, answer, NULL);
}

static void
daemon_stop(void)
{
	shutdown(session.socket, SHUT_RDWR);
	pthread_join(daemon_end.thread, NULL);
}

Test(stock, the_daemon_is_asked_for_room)
{
	struct far *f = make(0);
	uint32_t full = fill_ring(f);
	slabd_ref ref;

	daemon_begin(f);
	hold(f, full, full + 2, 3);
	cr_assert_eq(
	    slabd_send(&f->pool, f->pool.base + full * SLOT_SIZE, &ref), 0);
	cr_assert_eq(daemon_end.flushes, 1);
	free_slot(f, full + 1);
	daemon_stop();
	cr_assert_eq(daemon_end.records, full);
	expect_record(f, LANE_SEND, full);
	expect_record(f, LANE_FREE, full + 1);
}

Test(stock, who_must_not_wait_asks_again)
{
	struct far *f = make(SLABD_NONBLOCK);
	uint32_t full = fill_ring(f);
	char *slot = f->pool.base + full * SLOT_SIZE;
	struct pollfd p = {.events = POLLIN};
	slabd_ref ref;

	daemon_connect(f);
	hold(f, full, full + 2, 3);
	free_slot(f, full + 1);
	cr_assert_eq(slabd_send(&f->pool, slot, &ref), -EAGAIN);
	cr_assert_eq(slabd_send(&f->pool, slot, &ref), -EAGAIN);
	/* Had it read meanwhile, there would have been room. */
	pthread_create(&daemon_end.thread, NULL, answer, NULL);
	p.fd = slabd_fd(&session);
	/* Not before its answer: while it reads there is room already. */
	while (f->pool.post.n_kept > 0) {
		cr_assert_eq(poll(&p, 1, 30000), 1);
		cr_assert_geq(slabd_dispatch(&session), 0);
	}
	cr_assert_eq(slabd_send(&f->pool, slot, &ref), 0);
	daemon_stop();
	cr_assert_eq(daemon_end.flushes, 1);
	expect_record(f, LANE_FREE, full + 1);
	expect_record(f, LANE_SEND, full);
}

/* More is kept than the ring has room for: it goes by and by, asked for once. */
Test(stock, what_is_kept_goes_by_itself)
{
	struct far *f = make(SLABD_NONBLOCK);
	uint32_t full = fill_ring(f);
	struct pollfd p = {.events = POLLIN};

	daemon_connect(f);
	hold(f, full, 2 * full + 9, 3);
	for (uint32_t slot = full; slot < 2 * full + 9; slot++)
		free_slot(f, slot);
	cr_assert_eq(f->pool.post.n_kept, full + 9);
	pthread_create(&daemon_end.thread, NULL, answer, NULL);
	p.fd = slabd_fd(&session);
	while (f->pool.post.n_kept > 0) {
		cr_assert_eq(poll(&p, 1, 10000), 1);
		cr_assert_geq(slabd_dispatch(&session), 0);
	}
	daemon_stop();
	cr_assert_eq(daemon_end.records + count_freed(f), 2 * full + 9);
}

/* What messages brought goes first, and a notice is not forgotten for it. */
Test(stock, who_uses_up_a_stash_attends_as_well)
{
	struct far *f = make(0);
	uint64_t stashed = ref_make(9, false, 1);

	daemon_begin(f);
	grant(f, 0, BATCH, 1);
	alloc_slot(f);
	f->pool.stash = &stashed;
	store_relaxed(&f->pool.stashed, 1);
	notify(f, true);
	cr_assert_eq(alloc_slot(f), 9);
	cr_assert_eq(count_freed(f), BATCH - 1);
	daemon_stop();
	cr_assert_eq(daemon_end.asked, 0);
}

/* ------------------------------------------------------------- handing over */

Test(stock, a_slot_goes_by_claim_and_record)
{
	struct far *f = make(0), *g = make(0);
	slabd_ref ref;
	void *at;

	g->pool.claims = f->pool.claims;
	hold(f, 3, 4, 8);
	at = table_address(&f->pool.table, 3);
	cr_assert_eq(slabd_send(&f->pool, at, &ref), 0);
	cr_assert_eq(ref, ref_make(3, false, 9));
	expect_record(f, LANE_SEND, 3);
	cr_assert_eq(slabd_free(&f->pool, at), -EPERM);
	cr_assert_eq(slabd_receive(&g->pool, ref, &at), 0);
	cr_assert_eq(at, table_address(&g->pool.table, 3));
	expect_record(g, LANE_RECEIVE, 3);
	cr_assert_eq(slabd_receive(&f->pool, ref, &at), -ESTALE);
	cr_assert_null(at);
	free_slot(g, 3);
}

/* Its page may have no memory behind it. */
Test(stock, claims_that_are_not_there_are_not_touched)
{
	struct far *f = make(0);
	uint64_t ref = ref_make(5, false, 9);
	void *at;

	claim_offer(f->pool.claims, ref, 1);
	store_relaxed(&header(f)->claims, 5);
	cr_assert_eq(slabd_receive(&f->pool, ref, &at), -ESTALE);
	store_relaxed(&header(f)->claims, 6);
	cr_assert_eq(slabd_receive(&f->pool, ref, &at), 0);
}

Test(stock, shared_slots_never_stay_at_hand)
{
	struct far *f = make(0);
	slabd_ref ref, other;
	void *at = table_address(&f->pool.table, 3);

	hold(f, 3, 4, 8);
	cr_assert_eq(slabd_share(&f->pool, at, 3, &ref), 0);
	expect_record(f, LANE_SHARE, 3);
	cr_assert_eq(slabd_share(&f->pool, at, 1, &other), -EBUSY);
	cr_assert_eq(slabd_send(&f->pool, at, &other), -EBUSY);
	cr_assert_eq(slabd_receive(&f->pool, ref, &at), 0);
	expect_record(f, LANE_RECEIVE, 3);
	cr_assert_eq(slabd_recall_n(&f->pool, ref, 1), 1);
	expect_record(f, LANE_RECALL, 3);
	free_slot(f, 3);
	cr_assert_eq(next_record(f), 0, "one hold is left");
	free_slot(f, 3);
	expect_record(f, LANE_FREE, 3);
	cr_assert_eq(slabd_free(&f->pool, at), -EALREADY);
	cr_assert_eq(slabd_receive(&f->pool, ref, &at), 0, "the last");
	cr_assert_eq(slabd_receive(&f->pool, ref, &at), -ESTALE);
}

Test(stock, a_sent_slot_is_recalled_here)
{
	struct far *f = make(0);
	slabd_ref ref;
	void *at = table_address(&f->pool.table, 3);

	hold(f, 3, 4, 8);
	cr_assert_eq(slabd_send(&f->pool, at, &ref), 0);
	expect_record(f, LANE_SEND, 3);
	cr_assert_eq(slabd_recall(&f->pool, ref), 1);
	expect_record(f, LANE_RECALL, 3);
	cr_assert_eq(slabd_receive(&f->pool, ref, &at), -ESTALE);
	free_slot(f, 3);
}

/* What only the daemon knows it is asked: here, and who received. */
Test(stock, a_receiver_does_not_recall)
{
	struct far *f = make(0);
	uint64_t ref = ref_make(3, true, 9);
	void *at;

	daemon_begin(f);
	claim_offer(f->pool.claims, ref, 2);
	cr_assert_eq(slabd_receive(&f->pool, ref, &at), 0);
	daemon_end.verdict = -EPERM;
	cr_assert_eq(slabd_recall(&f->pool, ref), -EPERM);
	daemon_stop();
	cr_assert_eq(daemon_end.asked, 1);
	cr_assert_eq(claim_take(f->pool.claims, ref, 9), 1, "still open");
}

static slabd_ref doubtful;
static int outcome;

static void *
receive_doubtful(void *arg)
{
	struct far *f = arg;
	void *at;

	outcome = slabd_receive(&f->pool, doubtful, &at);
	return NULL;
}

/* It came too late for a slot that is held all the same. */
static void
refuse_receipt(struct far *f)
{
	refuse(f, 0);
}

/*
 * Revokes a claim between a receiver's record and its second look: there it
 * rings the doorbell, and this one is full, so it stays there.
 */
static void
revoke_meanwhile(struct far *f, uint64_t ref, int32_t verdict,
    void (*meanwhile)(struct far *))
{
	int rung = eventfd(0, EFD_CLOEXEC);
	pthread_t thread;
	eventfd_t rings;

	eventfd_write(rung, UINT64_MAX - 1);
	f->pool.post.doorbell = rung;
	store_relaxed(&header(f)->eager, 1);
	ring_sleep(&f->pool.lane);
	claim_offer(f->pool.claims, ref, 1);
	daemon_end.verdict = verdict;
	doubtful = ref;
	pthread_create(&thread, NULL, receive_doubtful, f);
	while (next_record(f) == 0)
		sched_yield();
	claim_revoke(f->pool.claims, ref);
	if (meanwhile != NULL)
		meanwhile(f);
	eventfd_read(rung, &rings);
	pthread_join(thread, NULL);
	close(rung);
	f->pool.post.doorbell = -1;
}

Test(stock, a_revoked_receipt_is_judged_by_the_daemon)
{
	struct far *f = make(0);

	daemon_begin(f);
	revoke_meanwhile(f, ref_make(3, false, 9), 1, NULL);
	cr_assert_eq(outcome, 0);
	free_slot(f, 3);
	revoke_meanwhile(f, ref_make(4, false, 9), 0, NULL);
	cr_assert_eq(outcome, -ESTALE);
	cr_assert_eq(
	    slabd_free(&f->pool, f->pool.base + 4 * SLOT_SIZE), -EALREADY);
	cr_assert_eq(count_freed(f), 0, "there was nothing to give back");
	revoke_meanwhile(f, ref_make(5, false, 9), -ESHUTDOWN, NULL);
	cr_assert_eq(outcome, -ESHUTDOWN);
	expect_record(f, LANE_FREE, 5);
	daemon_stop();
	cr_assert_eq(daemon_end.asked, 3);
}

/* The other thread's hold ends just before. */
static void
free_and_refuse(struct far *f)
{
	free_slot(f, ref_slot(doubtful));
	cr_assert_eq(count_freed(f), 0, "not the last");
	refuse_receipt(f);
}

/* That the ref is held is due to another thread. */
Test(stock, a_late_receipt_is_none_for_all_that_is_held)
{
	struct far *f = make(0);

	daemon_begin(f);
	/* A share: first it is the other's to free, then it was. */
	table_hold(&f->pool.table, ref_make(3, true, 9));
	revoke_meanwhile(f, ref_make(3, true, 9), 1, refuse_receipt);
	cr_assert_eq(outcome, -ESTALE);
	cr_assert_eq(count_freed(f), 0);
	free_slot(f, 3);
	expect_record(f, LANE_FREE, 3);
	table_hold(&f->pool.table, ref_make(4, true, 9));
	revoke_meanwhile(f, ref_make(4, true, 9), 1, free_and_refuse);
	cr_assert_eq(outcome, -ESTALE);
	expect_record(f, LANE_FREE, 4);
	/* Another record's refusal is nothing to this one. */
	revoke_meanwhile(f, ref_make(6, true, 9), 1, NULL);
	cr_assert_eq(outcome, 0);
	daemon_stop();
	cr_assert_eq(daemon_end.asked, 3);
}

/* Each receipt of a share has its own verdict, if nobody waits for it as well. */
Test(stock, verdicts_are_not_taken_for_each_other)
{
	struct far *f = make(SLABD_NONBLOCK);
	struct pollfd p = {.events = POLLIN};
	slabd_ref ref = ref_make(3, true, 9);
	unsigned got = 0;
	void *at;
	int err;

	daemon_connect(f);
	for (unsigned i = 0; i < 2; i++) {
		revoke_meanwhile(f, ref, 1, NULL);
		cr_assert_eq(outcome, -EAGAIN);
	}
	pthread_create(&daemon_end.thread, NULL, answer, NULL);
	p.fd = slabd_fd(&session);
	do {
		cr_assert_eq(poll(&p, 1, 30000), 1);
		cr_assert_geq(slabd_dispatch(&session), 0);
		while ((err = slabd_receive(&f->pool, ref, &at)) == 0)
			got++;
	} while (err == -EAGAIN);
	cr_assert_eq(err, -ESTALE, "there were two");
	cr_assert_eq(got, 2);
	free_slot(f, 3);
	cr_assert_eq(count_freed(f), 0);
	free_slot(f, 3);
	cr_assert_eq(count_freed(f), 1);
	daemon_stop();
	cr_assert_eq(daemon_end.asked, 2);
}

/* Who must not wait has not lost a receipt only because there is no daemon. */
Test(stock, a_verdict_can_wait_for_the_daemon)
{
	struct far *f = make(SLABD_NONBLOCK);
	void *at;

	session.reconnect_ms = -1;
	revoke_meanwhile(f, ref_make(3, false, 9), 0, NULL);
	cr_assert_eq(outcome, -EAGAIN);
	cr_assert_eq(slabd_receive(&f->pool, doubtful, &at), -EAGAIN);
	cr_assert_eq(count_freed(f), 0);
	session.reconnect_ms = 0;
	cr_assert_eq(slabd_receive(&f->pool, doubtful, &at), -ENOTCONN);
	expect_record(f, LANE_FREE, 3);
}

/* Answers one request, which must be of this type. */
static void
answer_one(enum wire_type type, int32_t status)
{
	uint8_t buf[256], out[64];
	struct wire_header h;
	struct wire_reader in;
	struct wire_writer w;
	ssize_t len = recv(daemon_end.socket, buf, sizeof(buf), MSG_DONTWAIT);

	cr_assert_gt(len, 0, "nothing was asked");
	cr_assert_eq(wire_open(&in, buf, (size_t)len, &h), 0);
	cr_assert_eq(h.type, type);
	h.status = status;
	h.type |= WIRE_REPLY;
	wire_begin(&w, out, sizeof(out), &h);
	send(daemon_end.socket, out, w.len, MSG_NOSIGNAL);
	cr_assert_geq(slabd_dispatch(&session), 0);
}

static bool
is_asked(void)
{
	char byte;

	return recv(daemon_end.socket, &byte, 1, MSG_DONTWAIT | MSG_PEEK) > 0;
}

/* A slot sent, its ref, and one that is shared with three. */
static slabd_ref
hand_out(struct far *f, slabd_ref *shared)
{
	char *slot = f->pool.base + 3 * SLOT_SIZE;
	slabd_ref ref;

	hold(f, 3, 5, 8);
	cr_assert_eq(slabd_send(&f->pool, slot, &ref), 0);
	cr_assert_eq(slabd_share(&f->pool, slot + SLOT_SIZE, 3, shared), 0);
	expect_record(f, LANE_SEND, 3);
	expect_record(f, LANE_SHARE, 4);
	return ref;
}

/*
 * While the daemon is asked to take back what was sent here, it alone says who
 * gets that: what a lane said then might come too late.
 */
Test(stock, what_is_being_recalled_goes_by_the_daemon)
{
	struct far *f = make(SLABD_NONBLOCK);
	slabd_ref ref, shared;
	void *at;

	daemon_connect(f);
	ref = hand_out(f, &shared);
	cr_assert_eq(slabd_recall(&f->pool, shared), -EAGAIN, "under way");
	cr_assert_eq(slabd_receive(&f->pool, ref, &at), -EAGAIN);
	cr_assert_eq(slabd_recall(&f->pool, ref), -EAGAIN);
	cr_assert_eq(slabd_recall_n(&f->pool, shared, 1), -EAGAIN);
	cr_assert_eq(next_record(f), 0);
	cr_assert_eq(claim_take(f->pool.claims, ref, 9), 1);
	cr_assert_eq(claim_take(f->pool.claims, shared, 9), 3);
	/* A share may be received by many, and another's ref is no matter. */
	claim_offer(f->pool.claims, shared, 1);
	cr_assert_eq(slabd_receive(&f->pool, shared, &at), 0);
	claim_offer(f->pool.claims, ref_make(5, false, 8), 1);
	cr_assert_eq(slabd_receive(&f->pool, ref_make(5, false, 8), &at), 0);
	answer_one(WIRE_RECALL, 3);
	cr_assert_eq(slabd_receive(&f->pool, ref, &at), -EAGAIN, "one is left");
	session.phase = SESSION_AWAY;
}

/* Who may wait asks it: by a message, which is answered in its turn. */
Test(stock, what_is_being_recalled_is_received_by_message)
{
	struct far *f = make(0);
	slabd_ref ref, shared;
	void *at;

	daemon_connect(f);
	ref = hand_out(f, &shared);
	f->pool.flags = SLABD_NONBLOCK;
	cr_assert_eq(slabd_recall(&f->pool, shared), -EAGAIN);
	f->pool.flags = 0;
	daemon_end.verdict = -ESTALE;
	pthread_create(&daemon_end.thread, NULL, answer, NULL);
	cr_assert_eq(slabd_receive(&f->pool, ref, &at), -ESTALE);
	daemon_stop();
	cr_assert_eq(daemon_end.asked, 2);
	cr_assert_eq(daemon_end.records, 0);
	cr_assert_eq(claim_take(f->pool.claims, ref, 9), 1);
}

/* Whether or not anybody asks for its answer. */
Test(stock, a_recall_that_is_answered_hinders_nobody)
{
	struct far *f = make(SLABD_NONBLOCK);
	slabd_ref ref, shared;
	void *at;

	daemon_connect(f);
	ref = hand_out(f, &shared);
	cr_assert_eq(slabd_recall(&f->pool, shared), -EAGAIN);
	answer_one(WIRE_RECALL, 3);
	cr_assert_eq(slabd_receive(&f->pool, ref, &at), 0);
	expect_record(f, LANE_RECEIVE, 3);
	cr_assert_eq(slabd_recall(&f->pool, shared), 3);
	cr_assert_not(is_asked());
	cr_assert(LIST_EMPTY(&f->pool.kept));
	session.phase = SESSION_AWAY;
}

/*
 * The table can be wrong about a slot. Before it is known whether that is so
 * nothing is taken, so that all receipts of a share are in the table.
 */

/* One that was late, of a slot that its sender has shared since. */
Test(stock, the_table_is_settled_before_a_receipt_is_taken)
{
	struct far *f = make(SLABD_NONBLOCK);
	slabd_ref shared = ref_make(5, true, 10);
	void *at;

	daemon_connect(f);
	revoke_meanwhile(f, ref_make(5, false, 9), 0, NULL);
	cr_assert_eq(outcome, -EAGAIN);
	claim_offer(f->pool.claims, shared, 3);
	for (int i = 0; i < 3; i++)
		cr_assert_eq(slabd_receive(&f->pool, shared, &at), -EAGAIN);
	cr_assert_eq(next_record(f), 0);
	answer_one(WIRE_HELD, 0);
	cr_assert_eq(slabd_receive(&f->pool, shared, &at), 0);
	expect_record(f, LANE_RECEIVE, 5);
	answer_one(WIRE_HELD, 0);
	cr_assert_not(is_asked(), "once");
	free_slot(f, 5);
	expect_record(f, LANE_FREE, 5);
	cr_assert_eq(claim_take(f->pool.claims, shared, 9), 2);
	cr_assert_eq(
	    slabd_receive(&f->pool, ref_make(5, false, 9), &at), -ESTALE);
	cr_assert(LIST_EMPTY(&f->pool.kept));
	session.phase = SESSION_AWAY;
}

/*
 * Who may write claims can forge refs. That costs who receives them these, and
 * no slot he has, or gets.
 */

Test(stock, a_forged_version_does_not_outlive_its_verdict)
{
	struct far *f = make(0);
	uint64_t forged = ref_make(5, false, 1009),
		 good = ref_make(5, false, 11);
	void *at;

	daemon_begin(f);
	revoke_meanwhile(f, forged, 0, NULL);
	cr_assert_eq(outcome, -ESTALE);
	store_relaxed(&header(f)->eager, 0);
	claim_offer(f->pool.claims, good, 1);
	cr_assert_eq(slabd_receive(&f->pool, good, &at), 0);
	free_slot(f, 5);
	daemon_stop();
	cr_assert_eq(daemon_end.asked, 2);
}

Test(stock, a_forged_ref_of_a_slot_one_has_changes_nothing)
{
	struct far *f = make(0);
	uint64_t forged = ref_make(5, false, 1009), record;
	void *at;

	daemon_begin(f);
	set_limits(f, BATCH, 0);
	hold(f, 5, 6, 9);
	claim_offer(f->pool.claims, forged, 1);
	daemon_end.verdict = 1;
	cr_assert_eq(slabd_receive(&f->pool, forged, &at), -ESTALE);
	daemon_stop();
	cr_assert_eq(daemon_end.records, 0);
	free_slot(f, 5);
	record = next_record(f);
	cr_assert_eq(record_operation(record), LANE_FREE);
	cr_assert_eq(record >> RECORD_VERSION_SHIFT, 9);
}

/* One that lies in a magazine is the daemon's again. */
Test(stock, a_forged_ref_of_a_slot_at_hand_gives_it_back)
{
	struct far *f = make(0);
	uint64_t forged = ref_make(0, false, 1009);

	grant(f, 0, 2, 1);
	cr_assert_eq(alloc_slot(f), 0);
	free_slot(f, 0);
	cr_assert(table_receive(&f->pool.table, forged));
	cr_assert_eq(alloc_slot(f), 1);
	expect_record(f, LANE_FREE, 0);
	table_lose(&f->pool.table, forged);
	cr_assert_eq(next_record(f), 0);
	/* One that was refused itself is not. */
	free_slot(f, 1);
	table_lose(&f->pool.table, ref_make(1, false, 1));
	cr_assert_null(slabd_alloc(&f->pool));
	cr_assert_eq(next_record(f), 0);
}

/* The same for who must not wait: he asks for the answer. */
Test(stock, a_forged_ref_is_found_out_by_who_asks_again)
{
	struct far *f = make(SLABD_NONBLOCK);
	uint64_t forged = ref_make(5, false, 1009);
	void *at;

	daemon_connect(f);
	hold(f, 5, 6, 9);
	claim_offer(f->pool.claims, forged, 1);
	cr_assert_eq(slabd_receive(&f->pool, forged, &at), -EAGAIN);
	answer_one(WIRE_HELD, 1);
	cr_assert_eq(slabd_receive(&f->pool, forged, &at), -ESTALE);
	cr_assert(LIST_EMPTY(&f->pool.kept));
	free_slot(f, 5);
	session.phase = SESSION_AWAY;
}

/* An answer that is under way says nothing of what has happened since. */
Test(stock, what_was_had_since_is_not_forgotten)
{
	struct far *f = make(SLABD_NONBLOCK);
	uint64_t good = ref_make(5, false, 8),
		 forged = ref_make(5, false, 1009);
	void *at;

	daemon_connect(f);
	hold(f, 5, 6, 1009);
	claim_offer(f->pool.claims, good, 1);
	cr_assert_eq(slabd_receive(&f->pool, good, &at), -EAGAIN);
	cr_assert(table_withdraw(&f->pool.table, forged));
	table_hold(&f->pool.table, ref_make(5, false, 9));
	answer_one(WIRE_HELD, 0);
	free_slot(f, 5);
	session.phase = SESSION_AWAY;
}

/* What was sent here is nobody's by an older ref, whatever a claim says. */
Test(stock, what_was_sent_is_not_forgotten)
{
	struct far *f = make(0);
	slabd_ref ref, shared;
	void *at;

	daemon_connect(f);
	ref = hand_out(f, &shared);
	claim_offer(f->pool.claims, ref_make(3, false, 8), 1);
	cr_assert_eq(
	    slabd_receive(&f->pool, ref_make(3, false, 8), &at), -ESTALE);
	cr_assert_not(is_asked());
	claim_offer(f->pool.claims, ref, 1);
	cr_assert_eq(slabd_recall(&f->pool, ref), 1);
	session.phase = SESSION_AWAY;
}

/* Who must not wait hears that nobody is there to ask. */
Test(stock, what_is_recalled_of_nobody_is_not_to_be_had)
{
	struct far *f = make(SLABD_NONBLOCK);
	slabd_ref ref, shared;
	void *at;

	daemon_connect(f);
	ref = hand_out(f, &shared);
	session.reconnect_ms = -1;
	cr_assert_eq(slabd_recall(&f->pool, shared), -EAGAIN);
	close(daemon_end.socket);
	cr_assert_geq(slabd_dispatch(&session), 0);
	cr_assert_eq(slabd_receive(&f->pool, ref, &at), -EAGAIN);
	session.reconnect_ms = 0;
	cr_assert_eq(slabd_receive(&f->pool, ref, &at), -ENOTCONN);
}
