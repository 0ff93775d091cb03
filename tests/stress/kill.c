/*
 * kill [-r rounds] [-s seed]: eight clients at their work, and every round one
 * of them is killed in the midst of it. Whatever it was doing: the books must
 * balance, and at the end, when all are gone, every slot must be free.
 *
 * The seed decides what the clients do and when one is killed, but not how the
 * kernel mixes them; a failure may take several runs to come again.
 */
#include "config.h"

#include <errno.h>
#include <poll.h>
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
#include "../core/random.h"

#define CLIENTS 8
#define HELD	24 /* slots a client keeps at most */
#define BOARD	16

#define POOL                                                               \
	"\"log_level\": \"warning\", \"shrink_seconds\": 0, \"pools\": [{" \
	"\"name\": \"p\", \"slot_size\": 64, \"slots_per_segment\": 16, "  \
	"\"max_segments\": 6, \"orphan_seconds\": 1, \"reserve\": 1, "     \
	"\"max_clients\": 64}]"

/* Where clients find each other's refs; anybody may overwrite any. */
static _Atomic uint64_t *board;

struct client {
	pid_t pid;
	int control;
	uint64_t seed;
	unsigned busy; /* operations before it says that it may be killed */
};

/* A client's side. */
struct worker {
	struct raw r;
	uint32_t at;
	uint64_t random;
	uint64_t held[HELD];
	unsigned nheld;
	uint64_t sent; /* what may be recalled, 0: nothing */
};

static bool
holds(const struct worker *w, uint64_t ref)
{
	for (unsigned i = 0; i < w->nheld; i++)
		if (w->held[i] == ref)
			return true;
	return false;
}

/* A shared slot is held once, however often it is received. */
static void
keep(struct worker *w, uint64_t ref)
{
	if (!holds(w, ref))
		w->held[w->nheld++] = ref;
}

static uint64_t
take_away(struct worker *w)
{
	unsigned i = random_below(&w->random, w->nheld);
	uint64_t ref = w->held[i];

	w->held[i] = w->held[--w->nheld];
	return ref;
}

static void
publish(struct worker *w, uint64_t ref)
{
	/* Relaxed, as every use of the board: a ref needs nothing with it. */
	atomic_store_explicit(
	    &board[random_below(&w->random, BOARD)], ref, memory_order_relaxed);
	w->sent = ref;
}

/* The operations: 0, or the status that should not have been. */

static int
do_alloc(struct worker *w)
{
	uint32_t n = 1 + random_below(&w->random, 4);
	uint64_t refs[4];
	int got;

	if (w->nheld + n > HELD)
		return 0;
	got = raw_alloc(&w->r, w->at, n, refs);
	for (int i = 0; i < got; i++)
		keep(w, refs[i]);
	return got > 0 || got == -ENOBUFS ? 0 : got;
}

/* Waits, for a moment: everybody waiting for everybody would be for ever. */
static int
do_wait(struct worker *w)
{
	uint32_t n = 1 + random_below(&w->random, 8), tag;
	uint64_t refs[8];
	int got;

	if (w->nheld + n > HELD)
		return 0;
	tag = raw_post_alloc(&w->r, w->at, n);
	for (unsigned i = random_below(&w->random, 4); i > 0; i--)
		raw_ping(&w->r);
	got = raw_cancel(&w->r, w->at, tag);
	if (got != 0 && got != -ENOENT)
		return got;
	got = raw_wait_alloc(&w->r, tag, refs);
	for (int i = 0; i < got; i++)
		keep(w, refs[i]);
	return got == (int)n || got == -ECANCELED ? 0 : got;
}

static int
do_free(struct worker *w)
{
	uint64_t ref;
	int status;

	if (w->nheld == 0)
		return 0;
	ref = take_away(w);
	status = raw_free(&w->r, w->at, &ref, 1);
	return status == 1 ? 0 : status;
}

static int
do_send(struct worker *w)
{
	uint64_t ref, out;
	int status;

	if (w->nheld == 0)
		return 0;
	ref = take_away(w);
	status = raw_send(&w->r, w->at, ref, &out);
	if (status == 0)
		publish(w, out);
	if (status != -EBUSY || !ref_shared(ref))
		return status;
	keep(w, ref);
	return 0;
}

static int
do_share(struct worker *w)
{
	uint64_t ref, out;
	int status;

	if (w->nheld == 0)
		return 0;
	ref = take_away(w);
	status =
	    raw_share(&w->r, w->at, ref, 1 + random_below(&w->random, 3), &out);
	keep(w, status == 0 ? out : ref);
	if (status == 0)
		publish(w, out);
	return status == -EBUSY && ref_shared(ref) ? 0 : status;
}

static int
do_receive(struct worker *w)
{
	uint64_t ref = atomic_load_explicit(
	    &board[random_below(&w->random, BOARD)], memory_order_relaxed);
	int status;

	if (ref == 0 || w->nheld == HELD)
		return 0;
	status = raw_receive(&w->r, w->at, ref);
	if (status == 0)
		keep(w, ref);
	return status == -ESTALE ? 0 : status;
}

static int
do_recall(struct worker *w)
{
	uint64_t ref = w->sent;
	int n;

	if (ref == 0 || w->nheld == HELD)
		return 0;
	w->sent = 0;
	n = raw_recall(&w->r, w->at, ref, random_below(&w->random, 2));
	if (n == 1 && !ref_shared(ref))
		keep(w, ref);
	return n >= 0 || n == -ESTALE ? 0 : n;
}

/* Asked for, and not waited for: the reply comes after the next request. */
static int
do_hastily(struct worker *w)
{
	uint32_t tag = raw_post(&w->r, WIRE_FLUSH, 0, w->at, NULL, 0);
	int status = do_send(w);

	return status != 0 ? status : raw_wait(&w->r, tag, NULL) < 0;
}

static int (*const operations[])(struct worker *) = {do_alloc, do_alloc,
    do_wait, do_free, do_free, do_send, do_send, do_share, do_receive,
    do_receive, do_receive, do_recall, do_hastily};

#define NOPERATIONS (sizeof(operations) / sizeof(*operations))

static int
failed(const struct worker *w, unsigned which, int status)
{
	fprintf(stderr, "operation %u of client %d: %s (%d), holds %u\n", which,
	    (int)getpid(), strerror(-status), status, w->nheld);
	return 1;
}

/* Busy until it is killed, or told to end. */
static int
work(int control, void *arg)
{
	const struct client *c = arg;
	const struct raw_pool none = {0};
	struct worker w = {.random = c->seed};
	struct pollfd end = {.fd = control, .events = POLLIN};
	struct raw_pool p = none;
	const char *path = getenv("SLABD_SOCKET");
	unsigned busy = c->busy, which;
	int status;

	status = raw_open(&w.r, path, "worker");
	if (status == 0)
		status = raw_attach(&w.r, "p", 0, &p);
	if (status != 0)
		return failed(&w, NOPERATIONS, status);
	w.at = p.number;
	do {
		which = random_below(&w.random, NOPERATIONS);
		status = operations[which](&w);
		if (status != 0)
			return failed(&w, which, status);
		if (busy > 0 && --busy == 0)
			tell(control, "!", 1);
	} while (poll(&end, 1, 0) == 0);
	return raw_bye(&w.r) == 0 ? 0 : 1;
}

static void
start_client(struct client *c, uint64_t *random)
{
	c->seed = random_next(random);
	c->busy = 1 + random_below(random, 60);
	c->pid = spawn(work, c, &c->control);
}

/* Kills it as soon as it was busy for long enough. */
static int
kill_client(struct client *c)
{
	char byte;
	int status;

	if (hear(c->control, &byte, 1) != 0)
		fprintf(stderr, "client %d ended too soon\n", (int)c->pid);
	kill(c->pid, SIGKILL);
	status = reap(c->pid);
	close(c->control);
	c->pid = 0;
	return status == 128 + SIGKILL ? 0 : -1;
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
	if (raw_pool_stats(r, "p", &s) != 0 ||
	    s.free + s.used + s.cached + s.in_flight + s.quarantined !=
		s.slots) {
		fprintf(stderr, "the counters do not add up\n");
		return -1;
	}
	return 0;
}

static int
kill_rounds(
    struct raw *r, struct client *clients, unsigned rounds, uint64_t *random)
{
	struct client *c;

	for (unsigned i = 0; i < rounds; i++) {
		c = &clients[random_below(random, CLIENTS)];
		if (kill_client(c) != 0) {
			fprintf(stderr, "round %u\n", i);
			return -1;
		}
		start_client(c, random);
		if (check(r) != 0) {
			fprintf(stderr, "round %u\n", i);
			return -1;
		}
	}
	return 0;
}

/* Half of them are killed, half say goodbye. */
static int
end_clients(struct client *clients)
{
	int bad = 0, status;

	for (int i = 0; i < CLIENTS; i++) {
		if (clients[i].pid <= 0)
			continue;
		if (i % 2 == 0)
			kill(clients[i].pid, SIGKILL);
		else
			tell(clients[i].control, "", 1);
		status = reap(clients[i].pid);
		close(clients[i].control);
		bad |= status != (i % 2 == 0 ? 128 + SIGKILL : 0);
	}
	return bad ? -1 : 0;
}

/* Orphans expire within a second; then nothing is left. */
static int
all_is_free(struct raw *r)
{
	struct raw_stats s = {0};

	for (int i = 0; i < 10000; i++) {
		if (raw_pool_stats(r, "p", &s) != 0)
			return -1;
		if (s.free == s.slots && s.clients == 0)
			return check(r);
		poll(NULL, 0, 1);
	}
	fprintf(stderr, "%u of %u slots are free, %u clients\n", s.free,
	    s.slots, s.clients);
	return -1;
}

static int
run(struct server *s, unsigned rounds, uint64_t seed)
{
	struct client clients[CLIENTS] = {{0}};
	struct raw r = {.fd = -1};
	int err;

	setenv("SLABD_SOCKET", s->socket, 1);
	err = raw_open(&r, s->socket, "checker");
	if (err != 0)
		return err;
	for (int i = 0; i < CLIENTS; i++)
		start_client(&clients[i], &seed);
	err = kill_rounds(&r, clients, rounds, &seed);
	if (end_clients(clients) != 0 || all_is_free(&r) != 0)
		err = -1;
	raw_close(&r);
	return err;
}

int
main(int argc, char **argv)
{
	unsigned rounds = 200;
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
	board = mmap(NULL, BOARD * sizeof(*board), PROT_READ | PROT_WRITE,
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
	server_close(&server);
	printf("%u kills: %s\n", rounds,
	    err == 0 && left == NULL ? "ok" : "FAILED");
	return err == 0 && left == NULL ? 0 : 1;
}
