/*
 * How long a restart takes for those who need the daemon: it is killed and
 * another one started at once, and each client says when its first call that
 * needed the new one has returned.
 *
 *	restart [-r ROUNDS] [-c CLIENTS] [-s SLOTS]	(10, 100, 1000000)
 *
 * Every client has a lane in one of four pools, which have so many slots in all;
 * of three in ten it holds its share, one in eight of these in flight. Half of
 * the clients stand in slabd_alloc_wait() when the daemon dies, for a slot that
 * is freed by a lane while there is none. The others sleep on slabd_fd() until
 * slabd_dispatch() has told them of its loss and its return, and then allocate
 * by message. After each round the daemon's books must balance.
 */
#include "config.h"

#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "slabd.h"

#include "bench.h"

#include "../e2e/raw.h"
#include "../e2e/server.h"

enum {
	POOLS = 4,
	SEGMENTS = 4,
	SLOT_SIZE = 64,
	CLIENTS_MAX = 500, /* as a pool admits by default, and two each */
	ROUNDS_MAX = 100000,
	SLOTS_MAX = POOLS * SEGMENTS * 65534,
	GOAL_MS = 200
};

struct client {
	unsigned number;
	pid_t pid;
	int control;
};

/* Milliseconds from the daemon's start. */
struct times {
	double listening, cpu, median, p99, most;
};

static unsigned rounds = 10, nclients = 100, nslots = 1000000;
static struct client clients[CLIENTS_MAX];
static uint64_t *returned; /* when the client's call did, shared */
static struct server server;

static void
need(bool is, const char *what)
{
	if (is)
		return;
	fprintf(stderr, "%s: %s\n", what, slabd_error_detail());
	exit(1);
}

static bool
waits(const struct client *c)
{
	return c->number % 2 == 0;
}

static unsigned
waiting_clients(void)
{
	return (nclients + 1) / 2;
}

/* What a client does. */

/* Its share of what is taken: most of it held, the rest sent to nobody yet. */
static void
take_share(struct slabd_pool *pool)
{
	unsigned share = nslots / 10 * 3 / nclients;
	void *slots[SLABD_BATCH_MAX];
	unsigned n;
	slabd_ref ref;
	int got;

	for (unsigned held = 0; held < share; held += (unsigned)got) {
		n = share - held;
		got = slabd_alloc_many(
		    pool, slots, n < SLABD_BATCH_MAX ? n : SLABD_BATCH_MAX);
		need(got > 0, "alloc_many");
		for (int i = 0; i < got; i += 8)
			need(slabd_send(pool, slots[i], &ref) == 0, "send");
	}
}

/* Sleeps until the daemon was lost and is back. */
static void
watch(struct slabd *slabd)
{
	struct pollfd fd = {.fd = slabd_fd(slabd), .events = POLLIN};
	int events = 0, n;

	while (events < 2) {
		need(poll(&fd, 1, -1) == 1, "poll");
		n = slabd_dispatch(slabd);
		need(n >= 0, "dispatch");
		events += n;
	}
}

static int
be_client(int control, void *arg)
{
	struct client *c = arg;
	struct slabd *slabd;
	struct slabd_pool *mine, *pool;
	char name[8], byte = 'r';
	void *slot;

	snprintf(name, sizeof(name), "p%u", c->number % POOLS);
	need(slabd_open(&slabd, NULL) == 0, "open");
	need(slabd_pool_attach(&mine, slabd, name, 0) == 0, "attach");
	take_share(mine);
	need(slabd_pool_attach(&pool, slabd, waits(c) ? "scarce" : name,
		 waits(c) ? 0 : SLABD_NO_LANE) == 0,
	    "attach");
	need(slabd_fd(slabd) >= 0, "fd");
	slabd_dispatch(slabd);
	tell(control, &byte, 1);
	while (hear(control, &byte, 1) == 0 && byte == 'g') {
		if (!waits(c))
			watch(slabd);
		slot = slabd_alloc_wait(pool, -1);
		returned[c->number] = bench_ns();
		need(slot != NULL && slabd_free(pool, slot) == 0, "slot");
		if (waits(c))
			slabd_dispatch(slabd);
		tell(control, &byte, 1);
	}
	slabd_close(slabd);
	return 0;
}

/* What the parent does. */

static void
start_daemon(void)
{
	char text[1024];
	int len = 0;

	len += snprintf(text, sizeof(text),
	    "\"log_level\": \"error\", \"max_clients_per_uid\": %u, "
	    "\"pools\": [",
	    CLIENTS_MAX + 8);
	for (unsigned i = 0; i < POOLS; i++)
		len += snprintf(text + len, sizeof(text) - (size_t)len,
		    "{\"name\": \"p%u\", \"slot_size\": %u, "
		    "\"slots_per_segment\": %u, \"min_segments\": %u, "
		    "\"max_segments\": %u, \"orphan_seconds\": 0}, ",
		    i, SLOT_SIZE, nslots / (POOLS * SEGMENTS), SEGMENTS,
		    SEGMENTS);
	snprintf(text + len, sizeof(text) - (size_t)len,
	    "{\"name\": \"scarce\", \"slot_size\": %u, "
	    "\"slots_per_segment\": %u, \"max_segments\": 1}]",
	    SLOT_SIZE, waiting_clients());
	if (server_open(&server, text) != 0)
		bench_die("the daemon did not start");
	setenv("SLABD_SOCKET", server.socket, 1);
}

static void
start_clients(void)
{
	struct client *c;
	char byte;

	for (unsigned i = 0; i < nclients; i++) {
		c = &clients[i];
		c->number = i;
		c->pid = spawn(be_client, c, &c->control);
		if (c->pid < 0 || hear(c->control, &byte, 1) != 0)
			bench_die("a client");
	}
}

/* Lets all begin; those who wait stand in the daemon's queue afterwards. */
static void
send_off(struct raw *r)
{
	struct raw_stats s = {0};

	for (unsigned i = 0; i < nclients; i++)
		if (tell(clients[i].control, "g", 1) != 0)
			bench_die("a client");
	while (s.waiters < waiting_clients())
		if (raw_pool_stats(r, "scarce", &s) != 0)
			bench_die("statistics");
}

/* Milliseconds that the daemon has had a CPU; 0: the system does not say. */
static double
daemon_cpu(void)
{
	unsigned long long ns = 0;
	char path[64];
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/schedstat", (int)server.pid);
	file = fopen(path, "re");
	if (file == NULL)
		return 0;
	if (fscanf(file, "%llu", &ns) != 1)
		ns = 0;
	fclose(file);
	return (double)ns / 1e6;
}

static struct times
restart(struct raw *r, struct slabd_pool *scarce, void **all)
{
	double ms[CLIENTS_MAX];
	uint64_t begin, listening;
	struct times t;
	char byte;

	for (unsigned i = 0; i < waiting_clients(); i++)
		need((all[i] = slabd_alloc_wait(scarce, -1)) != NULL, "scarce");
	send_off(r);
	if (server_kill(&server) != 0)
		bench_die("kill");
	need(slabd_free_many(scarce, all, waiting_clients()) > 0, "free_many");
	begin = bench_ns();
	if (server_start(&server) != 0)
		bench_die("the daemon did not come back");
	listening = bench_ns();
	t.cpu = daemon_cpu();
	for (unsigned i = 0; i < nclients; i++) {
		if (hear(clients[i].control, &byte, 1) != 0)
			bench_die("a client");
		ms[i] = (double)(returned[i] - begin) / 1e6;
	}
	if (raw_reopen(r, server.socket, "watcher") < 0 || raw_audit(r) != 0)
		bench_die("the books");
	t.listening = (double)(listening - begin) / 1e6;
	t.median = bench_percentile(ms, nclients, 50);
	t.p99 = bench_percentile(ms, nclients, 99);
	t.most = bench_percentile(ms, nclients, 100);
	return t;
}

static void
print(const char *what, const struct times *t)
{
	printf("%-6s %9.1f %9.1f %9.1f %9.1f %9.1f\n", what, t->listening,
	    t->cpu, t->median, t->p99, t->most);
	fflush(stdout);
}

static void
raise_to(double *most, double value)
{
	if (value > *most)
		*most = value;
}

static void
measure(void)
{
	struct times worst = {0}, t;
	struct slabd *slabd;
	struct slabd_pool *scarce;
	void *slots[CLIENTS_MAX];
	char what[16];
	struct raw r;

	need(slabd_open(&slabd, NULL) == 0, "open");
	need(slabd_pool_attach(&scarce, slabd, "scarce", 0) == 0, "attach");
	if (raw_open(&r, server.socket, "watcher") != 0)
		bench_die("the watcher");
	printf("kill -9 of the daemon with %u slots, %u taken, and the next "
	       "one: ms from its start until it\nlistens, of that on a CPU, "
	       "and until the median, p99, last of %u clients has its "
	       "answer\n",
	    nslots, nslots / 10 * 3, nclients);
	for (unsigned i = 0; i < rounds; i++) {
		t = restart(&r, scarce, slots);
		snprintf(what, sizeof(what), "%u", i + 1);
		print(what, &t);
		raise_to(&worst.listening, t.listening);
		raise_to(&worst.cpu, t.cpu);
		raise_to(&worst.median, t.median);
		raise_to(&worst.p99, t.p99);
		raise_to(&worst.most, t.most);
	}
	print("worst", &worst);
	printf("the last answer after %.1f ms at most (goal: %u): %s\n",
	    worst.most, GOAL_MS, worst.most <= GOAL_MS ? "met" : "MISSED");
	raw_close(&r);
	slabd_close(slabd);
}

static unsigned
number(const char *text, unsigned least, unsigned most)
{
	unsigned long n = strtoul(text, NULL, 10);

	if (n < least || n > most) {
		fprintf(stderr, "%s: %u to %u\n", text, least, most);
		exit(2);
	}
	return (unsigned)n;
}

int
main(int argc, char *argv[])
{
	const char *wrong;
	int opt;

	while ((opt = getopt(argc, argv, "r:c:s:")) != -1) {
		if (opt == 'r')
			rounds = number(optarg, 1, ROUNDS_MAX);
		else if (opt == 'c')
			nclients = number(optarg, 1, CLIENTS_MAX);
		else if (opt == 's')
			nslots = number(optarg, 10000, SLOTS_MAX);
		else
			return 2;
	}
	returned = bench_shared(CLIENTS_MAX * sizeof(*returned));
	start_daemon();
	start_clients();
	measure();
	for (unsigned i = 0; i < nclients; i++) {
		tell(clients[i].control, "q", 1);
		if (reap(clients[i].pid) != 0)
			bench_die("a client");
		close(clients[i].control);
	}
	wrong = server_stop(&server, SIGTERM);
	if (wrong != NULL)
		fprintf(stderr, "%s\n", wrong);
	server_close(&server);
	return wrong != NULL;
}
