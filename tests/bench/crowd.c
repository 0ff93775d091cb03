/*
 * How long the statistics of a large installation take: so many clients, each
 * attached to ten pools p0, p1, ..., and then the JSON document, asked for
 *again and again.
 *
 *	crowd CLIENTS
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench.h"
#include "slabd.h"

#define POOLS  10
#define ROUNDS 31

int
main(int argc, char *argv[])
{
	unsigned n = argc > 1 ? (unsigned)atoi(argv[1]) : 100;
	struct slabd **clients = calloc(n, sizeof(struct slabd *));
	struct slabd_pool *pool;
	double ms[ROUNDS], median;
	char name[16], *json;
	size_t bytes = 0;
	uint64_t start;

	if (clients == NULL || n == 0)
		bench_die("crowd");
	for (unsigned i = 0; i < n; i++) {
		if (slabd_open(&clients[i], NULL) != 0)
			bench_die(slabd_error_detail());
		for (unsigned k = 0; k < POOLS; k++) {
			snprintf(name, sizeof(name), "p%u", (i * 7 + k) % 1000);
			if (slabd_pool_attach(&pool, clients[i], name, 0) != 0)
				bench_die(slabd_error_detail());
		}
	}
	for (unsigned i = 0; i < ROUNDS; i++) {
		start = bench_ns();
		if (slabd_stats_json(clients[0], &json) != 0)
			bench_die(slabd_error_detail());
		ms[i] = (double)(bench_ns() - start) / 1e6;
		bytes = strlen(json);
		free(json);
	}
	median = bench_median(ms, ROUNDS);
	printf("statistics of 1,000 pools and %u clients: %.1f ms median "
	       "(least %.1f, most %.1f), %zu bytes (goal: below 20 ms)\n",
	    n, median, ms[0], ms[ROUNDS - 1], bytes);
	for (unsigned i = 0; i < n; i++)
		slabd_close(clients[i]);
	free(clients);
	return 0;
}
