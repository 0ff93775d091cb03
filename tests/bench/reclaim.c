#include "config.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cjson/cJSON.h>

#include "slabd.h"

#include "bench.h"
#include "reclaim.h"

#include "../e2e/server.h"

#define TOUCH_STEP 4096

static struct slabd *slabd;
static struct slabd_pool *pool;
static char pool_name[32];

static void
attach(unsigned held)
{
	snprintf(pool_name, sizeof(pool_name), "%ux%u", RECLAIM_SLOTS(held),
	    RECLAIM_SIZE);
	if (slabd_open(&slabd, NULL) != 0 ||
	    slabd_pool_attach(&pool, slabd, pool_name, 0) != 0)
		bench_die(slabd_error_detail());
}

/* Takes all there is, says how much that is, and waits for its end. */
static int
hold(int control, void *wanted)
{
	void *slots[SLABD_BATCH_MAX];
	unsigned held = 0;
	int n;

	attach(*(const unsigned *)wanted);
	while ((n = slabd_alloc_many(pool, slots, SLABD_BATCH_MAX)) > 0) {
		for (int i = 0; i < n; i++)
			memset(slots[i], 1, RECLAIM_SIZE);
		held += (unsigned)n;
	}
	tell(control, &held, sizeof(held));
	hear(control, &held, sizeof(held));
	return 0;
}

/* The holder but for the slots. */
static int
exist(int control, void *wanted)
{
	unsigned held = *(const unsigned *)wanted;
	size_t len = (size_t)RECLAIM_SLOTS(held) * RECLAIM_SIZE;
	char *mem = bench_shared(len);

	for (size_t i = 0; i < len; i += TOUCH_STEP)
		mem[i] = 1;
	tell(control, &held, sizeof(held));
	hear(control, &held, sizeof(held));
	return 0;
}

static pid_t
start(int (*body)(int, void *), unsigned wanted, int *control)
{
	pid_t pid = spawn(body, &wanted, control);
	unsigned held;

	if (pid < 0 || hear(*control, &held, sizeof(held)) != 0)
		bench_die("a client");
	if (held < wanted) {
		fprintf(stderr, "a client got %u slots of %u\n", held,
		    RECLAIM_SLOTS(wanted));
		exit(1);
	}
	return pid;
}

static double
free_slots(void)
{
	cJSON *root, *entry;
	double found = 0;
	char *json;

	if (slabd_stats_json(slabd, &json) != 0)
		bench_die(slabd_error_detail());
	root = cJSON_Parse(json);
	cJSON_ArrayForEach (entry, cJSON_GetObjectItem(root, "pools"))
		if (strcmp(cJSON_GetStringValue(
			       cJSON_GetObjectItem(entry, "name")),
			pool_name) == 0)
			found = cJSON_GetNumberValue(
			    cJSON_GetObjectItem(entry, "free"));
	cJSON_Delete(root);
	free(json);
	return found;
}

double
reclaim_slabd(unsigned held)
{
	int control;
	pid_t pid = start(hold, held, &control);
	uint64_t begin, end;

	attach(held);
	begin = bench_ns();
	kill(pid, SIGKILL);
	if (slabd_alloc_wait(pool, -1) == NULL)
		bench_die(slabd_error_detail());
	while (free_slots() < RECLAIM_SLOTS(held) - SLABD_BATCH_MAX)
		;
	end = bench_ns();
	slabd_close(slabd);
	reap(pid);
	close(control);
	return (double)(end - begin);
}

double
reclaim_floor(unsigned held)
{
	int control;
	pid_t pid = start(exist, held, &control);
	uint64_t begin, end;
	char byte;

	begin = bench_ns();
	kill(pid, SIGKILL);
	if (recv(control, &byte, 1, 0) > 0)
		bench_die("it lives");
	end = bench_ns();
	reap(pid);
	close(control);
	return (double)(end - begin);
}
