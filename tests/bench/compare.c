/*
 * slabd against its peers, each pair in turns in one run: a table and a JSON
 * file. The daemon is one of its own.
 *
 *	compare JSON [ROW...]	all rows, or those of these names (rows.c)
 *
 * $BENCH_ROUNDS rounds (15), $BENCH_MS milliseconds long on each side (30);
 * $builddir is where the daemon was built.
 */
#include "config.h"

#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench.h"
#include "reclaim.h"
#include "report.h"
#include "rows.h"
#include "team.h"

#include "../e2e/server.h"

/* The time over which a flow's slots are counted, in rounds: a second. */
#define FLOW_ROUNDS 33

/* The configuration's start: a pool that has grown stays so for its rounds. */
#define CONF "\"log_level\": \"error\", \"shrink_seconds\": 3600, \"pools\": ["

struct pair {
	struct team slabd, against;
};

static unsigned rounds, ms;
static char **names; /* of the wanted rows, NULL ends them; none: all */

static bool
wanted(const char *name)
{
	for (char **n = names; *n != NULL; n++)
		if (strcmp(*n, name) == 0)
			return true;
	return *names == NULL;
}

static double
round_against(void *arg)
{
	struct pair *p = arg;

	return team_round(&p->against);
}

static double
round_slabd(void *arg)
{
	struct pair *p = arg;

	return team_round(&p->slabd);
}

static void
open_slabd(struct team *team, const struct setting *s)
{
	const char *why = team_open(team, &peer_slabd, s);

	if (why == NULL)
		return;
	fprintf(stderr, "slabd: %s\n", why);
	exit(1);
}

/* NULL, or why this cannot be compared. */
static const char *
measure(const struct row *row, size_t size, struct bench_ratio *ratio)
{
	struct setting s = {.pattern = row->pattern,
	    .slots = row->slots,
	    .slot_size = size,
	    .in_flight = QUEUE_SIZE};
	struct pair pair;
	const char *why;

	if (row->pattern == STREAM) {
		s.slots = stream_slots(size);
		s.in_flight = stream_depth(size);
	}
	s.sides = row->against_sides;
	why = team_open(&pair.against, row->against, &s);
	if (why != NULL)
		return why;
	s.sides = row->sides;
	open_slabd(&pair.slabd, &s);
	team_calibrate(&pair.against, ms);
	team_calibrate(&pair.slabd, ms);
	*ratio = bench_compare(rounds, round_against, round_slabd, &pair);
	team_close(&pair.slabd);
	team_close(&pair.against);
	return NULL;
}

static void
compare(struct report *r, const struct row *row)
{
	struct bench_ratio ratio;
	const char *why;

	for (unsigned i = 0; row->sizes[i] != 0; i++) {
		why = measure(row, row->sizes[i], &ratio);
		if (why != NULL)
			report_skip(r, row, i, why);
		else
			report_row(r, row, i, &ratio);
	}
}

static void
flow(struct report *r, unsigned in_flight)
{
	struct setting s = {.pattern = FLOW,
	    .sides = 2,
	    .slots = LOCAL_SLOTS,
	    .slot_size = 2048,
	    .in_flight = in_flight};
	struct team team;

	open_slabd(&team, &s);
	team_calibrate(&team, ms);
	team.n *= FLOW_ROUNDS;
	team_round(&team);
	report_flow(r, in_flight, (unsigned)team.counted);
	team_close(&team);
}

static void
reclaim(struct report *r)
{
	double slabd[BENCH_ROUNDS_MAX], floor[BENCH_ROUNDS_MAX];
	double extra[BENCH_ROUNDS_MAX], spread[3];

	for (unsigned i = 0; i < rounds; i++) {
		floor[i] = reclaim_floor(RECLAIM_HELD) / 1e6;
		slabd[i] = reclaim_slabd(RECLAIM_HELD) / 1e6;
		extra[i] = slabd[i] - floor[i];
	}
	spread[1] = bench_median(extra, rounds);
	spread[0] = extra[0];
	spread[2] = extra[rounds - 1];
	report_reclaim(r, bench_median(slabd, rounds),
	    bench_median(floor, rounds), spread);
}

/* A pool, named for what it has, of so many segments: at most, or at once. */
static void
add_pool(FILE *conf, unsigned slots, size_t size, unsigned segments, bool all)
{
	fprintf(conf,
	    "%s{\"name\": \"%ux%zu\", \"slot_size\": %zu, "
	    "\"slots_per_segment\": %u, \"min_segments\": %u, "
	    "\"max_segments\": %u}",
	    ftell(conf) > 0 ? ", " : CONF, slots, size, size, slots / segments,
	    all ? segments : 1, segments);
}

static void
start_daemon(struct server *server)
{
	char *text;
	size_t len;
	FILE *conf = open_memstream(&text, &len);

	for (const size_t *size = slot_sizes; *size != 0; size++) {
		add_pool(conf, LOCAL_SLOTS, *size, 1, true);
		add_pool(conf, BATCH_POOL, *size, 1, true);
	}
	for (const size_t *size = stream_sizes; *size != 0; size++)
		add_pool(conf, stream_slots(*size), *size, 16, false);
	add_pool(conf, RECLAIM_SLOTS(RECLAIM_HELD), RECLAIM_SIZE, 2, true);
	fputs("]", conf);
	fclose(conf);
	if (server_open(server, text) != 0)
		bench_die("the daemon did not start");
	setenv("SLABD_SOCKET", server->socket, 1);
	free(text);
}

static unsigned
number(const char *name, unsigned otherwise, unsigned most)
{
	const char *text = getenv(name);
	unsigned long n = text != NULL ? strtoul(text, NULL, 10) : otherwise;

	return n < 1 ? 1 : n > most ? most : (unsigned)n;
}

int
main(int argc, char *argv[])
{
	static const unsigned in_flight[] = {4, 64, QUEUE_SIZE};
	struct server server;
	struct report *report;
	const char *wrong;
	int missed;

	if (argc < 2) {
		fprintf(stderr, "usage: compare JSON [ROW...]\n");
		return 2;
	}
	names = argv + 2;
	rounds = number("BENCH_ROUNDS", 15, BENCH_ROUNDS_MAX);
	ms = number("BENCH_MS", 30, 1000);
	start_daemon(&server);
	report = report_new(rounds, ms);
	for (size_t i = 0; i < rows_count; i++)
		if (wanted(rows[i].name))
			compare(report, &rows[i]);
	for (unsigned i = 0; i < 3 && wanted("flow"); i++)
		flow(report, in_flight[i]);
	if (wanted("reclaim"))
		reclaim(report);
	missed = report_write(report, argv[1]);
	printf("\n%s, %d of the goals missed\n", argv[1], missed);
	wrong = server_stop(&server, SIGTERM);
	if (wrong != NULL)
		fprintf(stderr, "%s\n", wrong);
	server_close(&server);
	return wrong != NULL;
}
