/*
 * How soon the slots of a killed client are free again, over many kills: while
 * nothing else runs, and while other clients of the same daemon keep every CPU
 * busy.
 *
 *	kills [-n KILLS]	of each (50)
 *
 * The victim holds 10,000 slots. The others, two for each CPU, allocate and free
 * so many at once that all of them pass through the daemon.
 */
#include "config.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "slabd.h"

#include "bench.h"
#include "reclaim.h"

#include "../e2e/server.h"

#define HELD	10000u
#define BUSY	"\"busy\", \"slots_per_segment\": 65000, \"min_segments\": 2"
#define IDLE_MS 10
#define LOAD_MS 100

enum { OTHERS_MAX = 256 };

static volatile sig_atomic_t over;

static void
end_it(int signo)
{
	(void)signo;
	over = 1;
}

static int
be_busy(int control, void *unused)
{
	void *slots[SLABD_BATCH_MAX];
	struct slabd *slabd;
	struct slabd_pool *pool;
	int n;

	(void)unused;
	if (slabd_open(&slabd, NULL) != 0 ||
	    slabd_pool_attach(&pool, slabd, "busy", 0) != 0)
		bench_die(slabd_error_detail());
	signal(SIGTERM, end_it);
	tell(control, "r", 1);
	while (!over) {
		n = slabd_alloc_many(pool, slots, SLABD_BATCH_MAX);
		if (n < 0 || slabd_free_many(pool, slots, (unsigned)n) != n)
			bench_die(slabd_error_detail());
	}
	slabd_close(slabd);
	return 0;
}

static void
measure(const char *what, unsigned kills, unsigned goal_ms)
{
	double *ms = calloc(kills, sizeof(*ms)), median, p99;

	if (ms == NULL)
		bench_die("kills");
	for (unsigned i = 0; i < kills; i++)
		ms[i] = reclaim_slabd(HELD) / 1e6;
	median = bench_percentile(ms, kills, 50);
	p99 = bench_percentile(ms, kills, 99);
	printf("%u kills of a client with %u slots, %s: all free again after "
	       "%.2f ms median, %.2f p99, %.2f most; goal for p99 %u: %s\n",
	    kills, HELD, what, median, p99, ms[kills - 1], goal_ms,
	    p99 <= goal_ms ? "met" : "MISSED");
	fflush(stdout);
	free(ms);
}

static void
measure_loaded(unsigned kills)
{
	unsigned n = 2 * (unsigned)sysconf(_SC_NPROCESSORS_ONLN);
	int controls[OTHERS_MAX];
	pid_t pids[OTHERS_MAX];
	char byte;

	n = n < OTHERS_MAX ? n : OTHERS_MAX;
	for (unsigned i = 0; i < n; i++) {
		pids[i] = spawn(be_busy, NULL, &controls[i]);
		if (pids[i] < 0 || hear(controls[i], &byte, 1) != 0)
			bench_die("a busy client");
	}
	measure("all CPUs busy", kills, LOAD_MS);
	for (unsigned i = 0; i < n; i++) {
		kill(pids[i], SIGTERM);
		if (reap(pids[i]) != 0)
			bench_die("a busy client");
		close(controls[i]);
	}
}

int
main(int argc, char *argv[])
{
	unsigned long kills = 50;
	struct server server;
	const char *wrong;
	char text[512];
	int opt;

	while ((opt = getopt(argc, argv, "n:")) != -1) {
		if (opt != 'n')
			return 2;
		kills = strtoul(optarg, NULL, 10);
	}
	if (kills < 1 || kills > 1000000)
		return 2;
	snprintf(text, sizeof(text),
	    "\"log_level\": \"error\", \"pools\": ["
	    "{\"name\": \"%ux%u\", \"slot_size\": %u, "
	    "\"slots_per_segment\": %u, \"max_segments\": 1}, "
	    "{\"name\": " BUSY ", \"max_segments\": 2, \"slot_size\": %u}]",
	    RECLAIM_SLOTS(HELD), RECLAIM_SIZE, RECLAIM_SIZE,
	    RECLAIM_SLOTS(HELD), RECLAIM_SIZE);
	if (server_open(&server, text) != 0)
		bench_die("the daemon did not start");
	setenv("SLABD_SOCKET", server.socket, 1);
	measure("nothing else running", (unsigned)kills, IDLE_MS);
	measure_loaded((unsigned)kills);
	wrong = server_stop(&server, SIGTERM);
	if (wrong != NULL)
		fprintf(stderr, "%s\n", wrong);
	server_close(&server);
	return wrong != NULL;
}
