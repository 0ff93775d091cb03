/*
 * The library with the real daemon: what the manual promises, from several
 * processes and threads, and through the daemon's end; with lanes and without.
 */
#include "config.h"

#include <cJSON.h>
#include <criterion/criterion.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "annotate.h"
#include "connection.h"
#include "server.h"

#define SLOTS 32   /* all that pool "few" has */
#define MANY  1024 /* and "many" */

#define CONFIG                                                   \
	"\"pools\": ["                                           \
	"  { \"name\": \"few\", \"slot_size\": \"4K\","          \
	"    \"slots_per_segment\": 8, \"max_segments\": 4,"     \
	"    \"orphan_seconds\": 60 },"                          \
	"  { \"name\": \"odd\", \"slot_size\": 1000,"            \
	"    \"slots_per_segment\": 100, \"max_segments\": 8 }," \
	"  { \"name\": \"kept\", \"slot_size\": 64,"             \
	"    \"slots_per_segment\": 4, \"max_segments\": 1 },"   \
	"  { \"name\": \"many\", \"slot_size\": 64,"             \
	"    \"slots_per_segment\": 1024, \"max_segments\": 1 } ]"

static struct server server;

static void
setup(void)
{
	cr_assert_eq(server_open(&server, CONFIG), 0);
}

static void
teardown(void)
{
	const char *why = server.pid > 0 ? server_stop(&server, SIGTERM) : NULL;

	server_close(&server);
	cr_assert_null(why, "%s", why);
}

TestSuite(library, .timeout = 120, .init = setup, .fini = teardown);

/* What every attachment is made with; children inherit it. */
static unsigned how;

TestSuite(messages, .timeout = 120, .init = setup, .fini = teardown);

/* A test of suite `library`, and once more without lanes. */
#define TEST_BOTH(name)              \
	static void name(void);      \
	Test(library, name)          \
	{                            \
		name();              \
	}                            \
	Test(messages, name)         \
	{                            \
		how = SLABD_NO_LANE; \
		name();              \
	}                            \
	static void name(void)

static void
setup_impatient(void)
{
	cr_assert_eq(
	    server_open(&server, "\"handshake_seconds\": 1, " CONFIG), 0);
}

TestSuite(impatient, .timeout = 120, .init = setup_impatient, .fini = teardown);

static void
setup_full(void)
{
	cr_assert_eq(server_open(&server, "\"max_clients\": 2, " CONFIG), 0);
}

TestSuite(crowded, .timeout = 120, .init = setup_full, .fini = teardown);

/* In a child's function: returns 1 from it. */
#define CHECK(condition)          \
	do {                      \
		if (!(condition)) \
			return 1; \
	} while (0)

/* The same, with the library's words about it. */
#define CHECK_SAYING(condition)                                    \
	do {                                                       \
		if (!(condition)) {                                \
			fprintf(stderr, "line %d: %s\n", __LINE__, \
			    slabd_error_detail());                 \
			return 1;                                  \
		}                                                  \
	} while (0)

static struct slabd *
join(void)
{
	struct slabd_options opt = SLABD_OPTIONS_INIT;
	struct slabd *s;

	opt.socket_path = server.socket;
	opt.label = "test";
	return slabd_open_options(&s, &opt) == 0 ? s : NULL;
}

static struct slabd *
open_daemon(void)
{
	struct slabd *s = join();

	cr_assert_not_null(s, "%s", slabd_error_detail());
	return s;
}

static struct slabd_pool *
attach(struct slabd *s, const char *name, unsigned flags)
{
	struct slabd_pool *p;
	int err = slabd_pool_attach(&p, s, name, flags | how);

	cr_assert_eq(err, 0, "%s: %s", name, slabd_error_detail());
	return p;
}

/* How many slots can be had; they are given back. */
static int
count_free(struct slabd_pool *p)
{
	static void *v[MANY + 1];
	int n = 0, got;

	while ((got = slabd_alloc_many(p, v + n, (unsigned)(MANY + 1 - n))) > 0)
		n += got;
	cr_assert_eq(slabd_free_many(p, v, (unsigned)n), n);
	return n;
}

/* Some administrators' connections are kept beyond the limit; not so many. */
Test(crowded, who_is_turned_away_learns_why)
{
	struct slabd *all[10] = {NULL};
	int n = 0, err;

	while ((err = slabd_open(&all[n], server.socket)) == 0)
		cr_assert_lt(++n, 10);
	cr_assert_geq(n, 2);
	for (int i = 0; i < 50; i++) {
		cr_assert_eq(err, -EUSERS, "%s", slabd_error_detail());
		cr_assert_null(all[n]);
		cr_assert_not_null(strstr(slabd_error_detail(), "max_clients"));
		err = slabd_open(&all[n], server.socket);
	}
	while (n > 0)
		slabd_close(all[--n]);
}

/* The lines of a fault in the configuration, for whoever asked to read it. */
Test(library, a_refusal_of_many_lines_keeps_them)
{
	struct slabd *s = open_daemon();

	server_configure(&server, "\"handshake_secs\": 1, " CONFIG);
	cr_assert_lt(slabd_request(s, WIRE_RELOAD, 0, 0, NULL, 0, NULL), 0);
	cr_assert_not_null(
	    strstr(slabd_error_detail(), "\n"), "%s", slabd_error_detail());
	cr_assert_not_null(
	    strstr(slabd_error_detail(), " ^"), "%s", slabd_error_detail());
	slabd_close(s);
}

Test(library, an_unknown_pool_is_named)
{
	struct slabd *s = open_daemon();
	struct slabd_pool *p = (void *)1;

	cr_assert_eq(slabd_pool_attach(&p, s, "frames", 0), -ENOENT);
	cr_assert_null(p);
	cr_assert_not_null(strstr(slabd_error_detail(), "frames"));
	slabd_close(s);
}

TEST_BOTH(slots_are_where_and_as_large_as_promised)
{
	struct slabd *s = open_daemon();
	struct slabd_pool *p = attach(s, "odd", 0);
	char *v[100], *base;
	void *at;

	cr_assert_eq(slabd_pool_slot_size(p), 1024);
	cr_assert_eq(slabd_pool_region(p, &at, NULL), 0);
	base = at;
	cr_assert_eq(slabd_alloc_many(p, (void **)v, 100), 100);
	for (int i = 0; i < 100; i++) {
		uint64_t offset = slabd_offset(p, v[i]);

		cr_assert_eq((uintptr_t)v[i] % 1024, 0);
		cr_assert_eq(base + offset, v[i]);
		cr_assert_eq(slabd_at(p, offset), v[i]);
		memset(v[i], i, 1024);
	}
	for (int i = 0; i < 100; i++)
		for (int j = 0; j < 1024; j++)
			cr_assert_eq(v[i][j], i);
	cr_assert_eq(slabd_free_many(p, (void **)v, 100), 100);
	slabd_close(s);
}

TEST_BOTH(an_empty_pool_names_its_holders)
{
	struct slabd *s = open_daemon();
	struct slabd_pool *p = attach(s, "few", 0);
	void *v[SLOTS];
	int n = 0;

	while (n < SLOTS) {
		v[n] = slabd_alloc(p);
		cr_assert_not_null(v[n++], "%s", slabd_error_detail());
	}
	cr_assert_null(slabd_alloc(p));
	cr_assert_eq(errno, ENOBUFS);
	cr_assert_neq(slabd_error_detail()[0], '\0');
	cr_assert_null(slabd_alloc_wait(p, 5));
	cr_assert_eq(errno, ETIMEDOUT);
	cr_assert_not_null(
	    strstr(slabd_error_detail(), "pool few: no slot came free in 5 ms: "
					 "0 of 32 slots are free"),
	    "%s", slabd_error_detail());
	cr_assert_not_null(strstr(slabd_error_detail(), "holders"));
	cr_assert_eq(slabd_free_many(p, v, SLOTS), SLOTS);
	cr_assert_eq(count_free(p), SLOTS);
	slabd_close(s);
}

TEST_BOTH(misuse_is_told_apart)
{
	struct slabd *s = open_daemon();
	struct slabd_pool *p = attach(s, "few", 0), *q = attach(s, "few", 0);
	char *slot = slabd_alloc(p);
	void *mixed[3] = {slot, slot, slot + 1};
	slabd_ref ref;

	cr_assert_eq(slabd_free(p, slot + 64), -EINVAL);
	cr_assert_eq(slabd_free(q, slabd_at(q, slabd_offset(p, slot))), -EPERM,
	    "another attachment's");
	cr_assert_eq(slabd_free_many(p, mixed, 3), -EALREADY);
	cr_assert_eq(slabd_free(p, slot), -EALREADY, "the first was freed");
	cr_assert_eq(slabd_send(p, slot, &ref), -EALREADY);
	cr_assert_eq(ref, 0);
	cr_assert_eq(
	    slabd_receive(p, ref_make(1, false, 12345), mixed), -ESTALE);
	cr_assert_eq(
	    slabd_receive(p, ref_make(1u << 20, false, 1), mixed), -EINVAL);
	slabd_close(s);
}

TEST_BOTH(a_scope_frees_and_keeps_errno)
{
	struct slabd *s = open_daemon();
	struct slabd_pool *p = attach(s, "few", 0);
	slabd_ref ref;
	void *slot;

	for (int i = 0; i < 2 * SLOTS; i++) {
		SLABD_SCOPED(p, int, number);
		cr_assert_not_null(number, "%s", slabd_error_detail());
		*number = i;
		errno = ERANGE;
	}
	cr_assert_eq(errno, ERANGE);
	{
		SLABD_SCOPED(p, int, number);
		cr_assert_eq(slabd_send(p, number, &ref), 0);
		number = NULL;
	}
	cr_assert_eq(slabd_receive(p, ref, &slot), 0, "not freed");
	slabd_close(s);
}

/* Looks for a byte of the parent's slots. */
static int
look_at_slots(int control, void *region)
{
	unsigned char there;

	(void)control;
	CHECK(mincore(region, 1, &there) < 0 && errno == ENOMEM);
	return 0;
}

TEST_BOTH(in_a_forked_child_slots_are_not_mapped)
{
	struct slabd *s = open_daemon();
	struct slabd_pool *p = attach(s, "few", 0);
	unsigned char there;
	void *region;
	int control;

	cr_assert_eq(slabd_pool_region(p, &region, NULL), 0);
	cr_assert_eq(mincore(region, 1, &there), 0);
	cr_assert_eq(reap(spawn(look_at_slots, region, &control)), 0);
	close(control);
	slabd_close(s);
}

/* Receives each ref it hears, doubles the slot's number, sends it back. */
static int
work(int control, void *arg)
{
	struct slabd *s = join();
	struct slabd_pool *p;
	slabd_ref ref;
	void *slot;

	CHECK(s != NULL);
	CHECK(slabd_pool_attach(&p, s, "few", *(unsigned *)arg) == 0);
	while (hear(control, &ref, sizeof(ref)) == 0) {
		CHECK(slabd_receive(p, ref, &slot) == 0);
		*(int *)slot *= 2;
		CHECK(slabd_send(p, slot, &ref) == 0);
		CHECK(tell(control, &ref, sizeof(ref)) == 0);
	}
	CHECK(slabd_flush(p, -1) == 0);
	slabd_close(s);
	return 0;
}

/* Two hundred slots go to a worker attached with `flags`, and come back. */
static void
travel(unsigned flags)
{
	struct slabd *s = open_daemon();
	struct slabd_pool *p = attach(s, "few", 0);
	slabd_ref ref;
	int *number, control;
	pid_t child = spawn(work, &flags, &control);
	void *slot;

	for (int i = 0; i < 200; i++) {
		number = slabd_alloc(p);
		cr_assert_not_null(number, "%s", slabd_error_detail());
		*number = i;
		cr_assert_eq(slabd_send(p, number, &ref), 0);
		cr_assert_eq(tell(control, &ref, sizeof(ref)), 0);
		cr_assert_eq(hear(control, &ref, sizeof(ref)), 0);
		cr_assert_eq(slabd_receive(p, ref, &slot), 0);
		cr_assert_eq(*(int *)slot, 2 * i);
		cr_assert_eq(slabd_free(p, slot), 0);
	}
	close(control);
	cr_assert_eq(reap(child), 0);
	cr_assert_eq(slabd_flush(p, 0), 0);
	cr_assert_eq(count_free(p), SLOTS);
	slabd_close(s);
}

TEST_BOTH(slots_travel_between_processes)
{
	travel(how);
}

TEST_BOTH(slots_travel_between_lanes_and_messages)
{
	travel(how ^ SLABD_NO_LANE);
}

TEST_BOTH(shares_are_received_and_recalled)
{
	struct slabd *s = open_daemon();
	struct slabd_pool *p = attach(s, "few", 0), *q = attach(s, "few", 0);
	void *slot = slabd_alloc(p), *copy[3];
	slabd_ref ref, other;

	cr_assert_eq(slabd_share(p, slot, 4, &ref), 0);
	cr_assert_eq(slabd_share(p, slot, 4, &other), -EBUSY);
	cr_assert_eq(slabd_send(p, slot, &other), -EBUSY);
	for (int i = 0; i < 2; i++)
		cr_assert_eq(slabd_receive(q, ref, &copy[i]), 0);
	cr_assert_eq(copy[0], copy[1], "one process, one place");
	cr_assert_eq(slabd_offset(q, copy[0]), slabd_offset(p, slot));
	cr_assert_eq(slabd_flush(p, 0), 1);
	cr_assert_eq(slabd_recall(q, ref), -EPERM, "not the sender");
	cr_assert_eq(slabd_recall_n(p, ref, 1), 1);
	cr_assert_eq(slabd_receive(q, ref, &copy[2]), 0);
	cr_assert_eq(slabd_receive(q, ref, &copy[2]), -ESTALE);
	cr_assert_eq(slabd_recall(p, ref), 0);
	cr_assert_eq(slabd_flush(p, -1), 0);
	cr_assert_eq(slabd_free(p, slot), 0);
	for (int i = 0; i < 3; i++)
		cr_assert_eq(slabd_free(q, copy[0]), 0);
	cr_assert_eq(slabd_free(q, copy[0]), -EALREADY);
	cr_assert_eq(count_free(p), SLOTS);
	slabd_close(s);
}

TEST_BOTH(a_recalled_slot_is_the_senders_again)
{
	struct slabd *s = open_daemon();
	struct slabd_pool *p = attach(s, "few", 0);
	char *slot = slabd_alloc(p);
	slabd_ref ref, later;
	void *again;

	slot[0] = 'x';
	cr_assert_eq(slabd_send(p, slot, &ref), 0);
	cr_assert_eq(slabd_free(p, slot), -EPERM);
	cr_assert_eq(slabd_recall(p, ref), 1);
	cr_assert_eq(slot[0], 'x');
	cr_assert_eq(slabd_receive(p, ref, &again), -ESTALE);
	cr_assert_eq(slabd_send(p, slot, &later), 0);
	cr_assert_neq(later, ref);
	cr_assert_eq(slabd_recall(p, ref), -ESTALE, "an older ref");
	cr_assert_eq(slabd_receive(p, later, &again), 0);
	cr_assert_eq(again, slot);
	cr_assert_eq(slabd_free(p, again), 0);
	slabd_close(s);
}

TEST_BOTH(readers_receive_and_free_only)
{
	struct slabd *s = open_daemon();
	struct slabd_pool *p = attach(s, "few", 0);
	struct slabd_pool *r = attach(s, "few", SLABD_RDONLY);
	char *slot = slabd_alloc(p);
	slabd_ref ref;
	void *seen;

	strcpy(slot, "hello");
	cr_assert_eq(slabd_send(p, slot, &ref), 0);
	cr_assert_eq(slabd_receive(r, ref, &seen), 0);
	cr_assert_str_eq(seen, "hello");
	cr_assert_eq(slabd_send(r, seen, &ref), -EACCES);
	cr_assert_null(slabd_alloc(r));
	cr_assert_eq(errno, EACCES);
	cr_assert_eq(slabd_free(r, seen), 0);
	slabd_close(s);
}

TEST_BOTH(wanted_slots_are_kept_for_their_asker)
{
	struct slabd *s = open_daemon();
	struct slabd_pool *p = attach(s, "kept", 0), *q = attach(s, "kept", 0);
	struct pollfd fd = {.fd = slabd_fd(s), .events = POLLIN};
	void *v[4], *w[4];

	cr_assert_eq(slabd_alloc_many(p, v, 4), 4);
	cr_assert_eq(slabd_pool_want(q, 2), 0);
	cr_assert_eq(slabd_free(p, v[0]), 0);
	cr_assert_null(slabd_alloc(p), "nobody overtakes who waits");
	cr_assert_eq(errno, ENOBUFS);
	cr_assert_eq(slabd_dispatch(s), 0);
	cr_assert_eq(slabd_free(p, v[1]), 0);
	cr_assert_eq(poll(&fd, 1, 30000), 1);
	cr_assert_eq(slabd_dispatch(s), 1);
	cr_assert_eq(slabd_alloc_many(q, w, 4), 2);
	cr_assert_eq(slabd_free_many(p, v + 2, 2), 2);
	cr_assert_eq(slabd_free_many(q, w, 2), 2);
	cr_assert_eq(slabd_pool_want(q, 4), 0);
	cr_assert_eq(slabd_pool_want(q, 0), 0);
	cr_assert_eq(count_free(p), 4, "all were given back");
	slabd_close(s);
}

/* Takes all there is, says so, and waits for its end. */
static int
hoard(int control, void *arg)
{
	struct slabd *s = join();
	struct slabd_pool *p;
	void *v[4];

	(void)arg;
	CHECK(s != NULL);
	CHECK(slabd_pool_attach(&p, s, "kept", how) == 0);
	CHECK(slabd_alloc_many(p, v, 4) == 4);
	CHECK(tell(control, "x", 1) == 0);
	pause();
	return 1;
}

TEST_BOTH(nothing_is_left_of_a_killed_client)
{
	struct slabd *s = open_daemon();
	struct slabd_pool *p = attach(s, "kept", 0);
	int control;
	pid_t child = spawn(hoard, NULL, &control);
	char byte;

	cr_assert_eq(hear(control, &byte, 1), 0);
	cr_assert_null(slabd_alloc(p));
	kill(child, SIGKILL);
	cr_assert_not_null(
	    slabd_alloc_wait(p, 30000), "%s", slabd_error_detail());
	cr_assert_eq(reap(child), 128 + SIGKILL);
	slabd_close(s);
}

TEST_BOTH(non_blocking_calls_come_to_their_end)
{
	struct slabd *s = open_daemon();
	struct slabd_pool *p = attach(s, "few", SLABD_NONBLOCK);
	struct pollfd fd = {.fd = slabd_fd(s), .events = POLLIN};
	void *slot;
	slabd_ref ref;
	int err;

	for (int i = 0; i < 100; i++) {
		while ((slot = slabd_alloc(p)) == NULL) {
			cr_assert_eq(errno, EAGAIN);
			cr_assert_eq(poll(&fd, 1, 30000), 1);
			cr_assert_geq(slabd_dispatch(s), 0);
		}
		while ((err = slabd_send(p, slot, &ref)) == -EAGAIN) {
			cr_assert_eq(poll(&fd, 1, 30000), 1);
			cr_assert_geq(slabd_dispatch(s), 0);
		}
		cr_assert_eq(err, 0);
		while ((err = slabd_receive(p, ref, &slot)) == -EAGAIN) {
			cr_assert_eq(poll(&fd, 1, 30000), 1);
			cr_assert_geq(slabd_dispatch(s), 0);
		}
		cr_assert_eq(err, 0);
		cr_assert_eq(slabd_free(p, slot), 0);
	}
	slabd_pool_detach(p);
	cr_assert_eq(count_free(attach(s, "few", 0)), SLOTS);
	slabd_close(s);
}

#define THREADS 6
#define ROUNDS	200

/* More threads than slots: all wait for one another, and nobody for ever. */
static void *
compete(void *arg)
{
	for (int i = 0; i < ROUNDS; i++) {
		unsigned *slot = slabd_alloc_wait(arg, -1);
		unsigned mark = (unsigned)(uintptr_t)&slot + (unsigned)i;

		cr_assert_not_null(slot, "%s", slabd_error_detail());
		*slot = mark;
		sched_yield();
		cr_assert_eq(*slot, mark);
		cr_assert_eq(slabd_free(arg, slot), 0);
	}
	return NULL;
}

TEST_BOTH(threads_wait_in_turn)
{
	struct slabd *s = open_daemon();
	struct slabd_pool *p = attach(s, "kept", 0);
	pthread_t threads[THREADS];

	for (int i = 0; i < THREADS; i++)
		pthread_create(&threads[i], NULL, compete, p);
	for (int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	cr_assert_eq(count_free(p), 4);
	slabd_close(s);
}

static _Atomic bool late;

static void *
keep_busy(void *arg)
{
	void *slot;

	while (!late) {
		slot = slabd_alloc(arg);
		cr_assert(slot != NULL || errno == ENOBUFS, "%s",
		    slabd_error_detail());
		cr_assert(slot == NULL || slabd_free(arg, slot) == 0, "%s",
		    slabd_error_detail());
	}
	return NULL;
}

/*
 * The daemon gives its descriptors a second to be read. They were, at once,
 * however much else is under way on the connection when the second is over.
 */
Test(impatient, a_busy_client_is_not_taken_for_a_silent_one)
{
	struct slabd *s = open_daemon();
	struct slabd_pool *p = attach(s, "few", 0);
	pthread_t threads[THREADS];

	for (int i = 0; i < THREADS; i++)
		pthread_create(&threads[i], NULL, keep_busy, p);
	poll(NULL, 0, 2000);
	late = true;
	for (int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	cr_assert_eq(count_free(p), SLOTS);
	slabd_close(s);
}

/* Threads received from one ref offered n times: exactly n have it. */
static slabd_ref offered;
static _Atomic int successes;

static void *
race(void *arg)
{
	struct slabd *s = open_daemon();
	struct slabd_pool *p = attach(s, "few", 0);
	void *slot;
	int err;

	pthread_barrier_wait(arg);
	err = slabd_receive(p, offered, &slot);
	if (err == 0)
		successes++;
	else
		cr_assert_eq(err, -ESTALE);
	pthread_barrier_wait(arg);
	slabd_close(s);
	return NULL;
}

TEST_BOTH(of_racing_receives_as_many_win_as_were_offered)
{
	struct slabd *s = open_daemon();
	struct slabd_pool *p = attach(s, "few", 0);
	pthread_t threads[THREADS];
	pthread_barrier_t start;

	pthread_barrier_init(&start, NULL, THREADS);
	cr_assert_eq(slabd_share(p, slabd_alloc(p), 4, &offered), 0);
	for (int i = 0; i < THREADS; i++)
		pthread_create(&threads[i], NULL, race, &start);
	for (int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	cr_assert_eq(successes, 4);
	slabd_close(s);
}

/* kill -9, and a successor. */
static void
restart(void)
{
	cr_assert_eq(server_kill(&server), 0);
	cr_assert_eq(server_start(&server), 0);
}

TEST_BOTH(a_handle_outlives_its_daemon)
{
	struct slabd *s = open_daemon();
	struct slabd_pool *p = attach(s, "few", 0);
	int fd = slabd_fd(s), *held = slabd_alloc(p), *sent = slabd_alloc(p);
	void *shared = slabd_alloc(p), *got;
	slabd_ref ref, offer;
	char *json;

	*held = 1;
	*sent = 2;
	cr_assert_eq(slabd_send(p, sent, &ref), 0);
	cr_assert_eq(slabd_share(p, shared, 2, &offer), 0);
	restart();
	cr_assert_eq(slabd_receive(p, offer, &got), 0);
	cr_assert_eq(got, shared);
	restart();
	cr_assert_eq(slabd_recall(p, offer), 1);
	cr_assert_eq(slabd_free(p, shared), 0);
	cr_assert_eq(slabd_free(p, shared), 0);
	cr_assert_eq(slabd_free(p, shared), -EALREADY);
	cr_assert_eq(
	    slabd_receive(p, ref, &got), 0, "%s", slabd_error_detail());
	cr_assert_eq(got, sent);
	cr_assert_eq(*held + *sent, 3);
	restart();
	cr_assert_eq(slabd_receive(p, ref, &got), -ESTALE);
	cr_assert_eq(slabd_free(p, held), 0, "%s", slabd_error_detail());
	cr_assert_eq(slabd_free(p, sent), 0);
	restart();
	cr_assert_eq(count_free(p), SLOTS);
	cr_assert_eq(slabd_stats_json(s, &json), 0);
	free(json);
	cr_assert_eq(slabd_fd(s), fd);
	slabd_close(s);
}

#define RESTARTS 20
#define BUSY	 4

/* Allocates, hands over and frees as long as daemons come and go. */
static int
stay_busy(int control, void *arg)
{
	struct slabd *s = join();
	struct slabd_pool *p;
	unsigned seed = *(unsigned *)arg, rounds = 0, *slot, *got;
	slabd_ref ref;
	char byte;

	CHECK(s != NULL && slabd_pool_attach(&p, s, "few", how) == 0);
	tell(control, "!", 1);
	while (recv(control, &byte, 1, MSG_DONTWAIT) < 0) {
		slot = seed % 2 ? slabd_alloc_wait(p, -1) : slabd_alloc(p);
		CHECK_SAYING(slot != NULL);
		*slot = seed ^ rounds;
		if (rand_r(&seed) % 2) {
			CHECK_SAYING(slabd_send(p, slot, &ref) == 0);
			CHECK_SAYING(slabd_receive(p, ref, (void **)&got) == 0);
			CHECK_SAYING(got == slot);
		}
		CHECK_SAYING(slabd_free(p, slot) == 0);
		rounds++;
	}
	slabd_close(s);
	return rounds > 0 ? 0 : 1;
}

TEST_BOTH(no_call_fails_while_daemons_come_and_go)
{
	int controls[BUSY];
	pid_t children[BUSY];
	struct timespec pause = {0, 0};
	struct slabd *s;
	struct slabd_pool *p;
	char byte;

	for (unsigned i = 0; i < BUSY; i++) {
		children[i] = spawn(stay_busy, &i, &controls[i]);
		cr_assert_eq(hear(controls[i], &byte, 1), 0);
	}
	for (int i = 0; i < RESTARTS; i++) {
		pause.tv_nsec = rand() % 3000000;
		nanosleep(&pause, NULL);
		restart();
	}
	for (int i = 0; i < BUSY; i++) {
		tell(controls[i], "!", 1);
		cr_assert_eq(reap(children[i]), 0, "child %d", i);
	}
	s = open_daemon();
	p = attach(s, "few", 0);
	cr_assert_eq(count_free(p), SLOTS);
	cr_assert_eq(slabd_request(s, WIRE_AUDIT, 0, 0, NULL, 0, NULL), 0, "%s",
	    slabd_error_detail());
	slabd_close(s);
}

/* A number of a pool in the statistics. */
static double
statistic(struct slabd *s, const char *pool, const char *name)
{
	const cJSON *each, *found = NULL;
	cJSON *root;
	char *json;
	double value;

	cr_assert_eq(slabd_stats_json(s, &json), 0, "%s", slabd_error_detail());
	root = cJSON_Parse(json);
	free(json);
	cJSON_ArrayForEach (each, cJSON_GetObjectItem(root, "pools"))
		if (strcmp(cJSON_GetObjectItem(each, "name")->valuestring,
			pool) == 0)
			found = cJSON_GetObjectItem(each, name);
	cr_assert_not_null(found, "%s: no %s", pool, name);
	value = found->valuedouble;
	cJSON_Delete(root);
	return value;
}

Test(library, what_is_at_hand_is_cached)
{
	struct slabd *s = open_daemon();
	struct slabd_pool *p = attach(s, "many", 0);
	void *slot = slabd_alloc(p);

	cr_assert_not_null(slot);
	cr_assert_eq(statistic(s, "many", "used"), 1);
	for (int i = 0; i < 100; i++) {
		cr_assert_eq(slabd_free(p, slot), 0);
		slot = slabd_alloc(p);
	}
	cr_assert_eq(slabd_free(p, slot), 0);
	cr_assert_eq(statistic(s, "many", "used"), 0);
	cr_assert_gt(statistic(s, "many", "cached"), 0);
	cr_assert_eq(
	    statistic(s, "many", "cached") + statistic(s, "many", "free"),
	    MANY);
	cr_assert_eq(statistic(s, "many", "allocs_total"), 101);
	cr_assert_eq(statistic(s, "many", "frees_total"), 101);
	slabd_pool_detach(p);
	cr_assert_eq(statistic(s, "many", "free"), MANY);
	slabd_close(s);
}

#if defined(SLABD_ANNOTATIONS) && defined(ASAN_)
static bool
is_out_of_bounds(void *slot)
{
	return __asan_address_is_poisoned(slot);
}

static void
touches_only_its_own(struct slabd *s, unsigned flags)
{
	struct slabd_pool *p = attach(s, "many", flags);
	void *slot = slabd_alloc(p), *other;
	slabd_ref ref;

	cr_assert_not(is_out_of_bounds(slot));
	cr_assert_eq(slabd_free(p, slot), 0);
	cr_assert(is_out_of_bounds(slot));
	cr_assert_eq(slabd_free(p, slot), -EALREADY);
	slot = slabd_alloc(p);
	cr_assert_not(is_out_of_bounds(slot));
	cr_assert_eq(slabd_send(p, slot, &ref), 0);
	cr_assert(is_out_of_bounds(slot));
	cr_assert_eq(slabd_recall(p, ref), 1);
	cr_assert_not(is_out_of_bounds(slot));
	cr_assert_eq(slabd_share(p, slot, 1, &ref), 0);
	cr_assert_eq(slabd_receive(p, ref, &other), 0);
	cr_assert_eq(slabd_free(p, slot), 0);
	cr_assert_not(is_out_of_bounds(slot), "it was received as well");
	cr_assert_eq(slabd_free(p, slot), 0);
	cr_assert(is_out_of_bounds(slot));
	slabd_pool_detach(p);
	cr_assert_not(is_out_of_bounds(slot), "the address is free for others");
}

Test(library, a_memory_checker_knows_whose_slots_are)
{
	struct slabd *s = open_daemon();

	touches_only_its_own(s, 0);
	touches_only_its_own(s, SLABD_NO_LANE);
	slabd_close(s);
}
#endif

/* Who has none gets what another has only at hand, in whatever thread. */
static pthread_barrier_t meeting;

static void *
hold_back(void *arg)
{
	void *v[16];

	cr_assert_eq(slabd_alloc_many(arg, v, 16), 16);
	cr_assert_eq(slabd_free_many(arg, v, 16), 16);
	pthread_barrier_wait(&meeting);
	pthread_barrier_wait(&meeting);
	return NULL;
}

Test(library, what_is_at_hand_is_there_for_all)
{
	struct slabd *s = open_daemon(), *t = open_daemon();
	struct slabd_pool *p = attach(s, "many", 0), *q = attach(t, "many", 0);
	pthread_t threads[THREADS];

	pthread_barrier_init(&meeting, NULL, THREADS + 1);
	for (int i = 0; i < THREADS; i++)
		pthread_create(&threads[i], NULL, hold_back, p);
	pthread_barrier_wait(&meeting);
	cr_assert_eq(count_free(q), MANY);
	cr_assert_eq(count_free(p), MANY);
	pthread_barrier_wait(&meeting);
	for (int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	cr_assert_eq(count_free(q), MANY);
	slabd_close(s);
	slabd_close(t);
}

Test(library, one_thread_uses_more_pools_than_it_has_seats)
{
	struct slabd *s = open_daemon();
	struct slabd_pool *p[12];
	void *slot[12];

	for (int i = 0; i < 12; i++)
		p[i] = attach(s, "many", 0);
	for (int round = 0; round < 20; round++) {
		for (int i = 0; i < 12; i++) {
			slot[i] = slabd_alloc(p[i]);
			cr_assert_not_null(slot[i], "%s", slabd_error_detail());
		}
		for (int i = 0; i < 12; i++)
			cr_assert_eq(slabd_free(p[i], slot[i]), 0);
	}
	for (int i = 1; i < 12; i++)
		slabd_pool_detach(p[i]);
	cr_assert_eq(count_free(p[0]), MANY);
	cr_assert_eq(statistic(s, "many", "rejected_total"), 0);
	slabd_close(s);
}

static void *contested;
static _Atomic unsigned freed;

static void *
free_contested(void *arg)
{
	for (int i = 0; i < ROUNDS; i++) {
		if (pthread_barrier_wait(&meeting) ==
		    PTHREAD_BARRIER_SERIAL_THREAD)
			contested = slabd_alloc(arg);
		pthread_barrier_wait(&meeting);
		freed += slabd_free(arg, contested) == 0;
	}
	return NULL;
}

Test(library, of_two_that_free_one_slot_one_succeeds)
{
	struct slabd *s = open_daemon();
	struct slabd_pool *p = attach(s, "many", SLABD_CHECKED);
	pthread_t threads[2];

	pthread_barrier_init(&meeting, NULL, 2);
	for (int i = 0; i < 2; i++)
		pthread_create(&threads[i], NULL, free_contested, p);
	for (int i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	cr_assert_eq(freed, ROUNDS);
	cr_assert_eq(count_free(p), MANY);
	cr_assert_eq(statistic(s, "many", "rejected_total"), 0);
	slabd_close(s);
}

TEST_BOTH(statistics_know_us)
{
	struct slabd *s = open_daemon();
	struct slabd_pool *p = attach(s, "few", 0);
	char *json;

	cr_assert_not_null(slabd_alloc(p));
	cr_assert_eq(slabd_stats_json(s, &json), 0);
	cr_assert_not_null(strstr(json, "\"few\""));
	cr_assert_not_null(strstr(json, "\"test\""));
	free(json);
	slabd_close(s);
}
