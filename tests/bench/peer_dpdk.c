/*
 * DPDK's rte_mempool with its cache of 256 objects for each core. For one side
 * it needs no huge pages; two sides are a primary and a secondary process,
 * which can share memory only in huge pages: HUGE_DIR has a file system of them
 * (huge.sh), and RUNTIME_DIRECTORY is where DPDK puts its files.
 */
#include "config.h"

#include <stdlib.h>

#include "bench.h"
#include "peer.h"

#ifdef HAVE_DPDK
#include <stdio.h>

#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_mempool.h>

#define CACHE 256

static struct rte_mempool *pool;

static inline void *
slot_alloc(void)
{
	void *slot;

	if (rte_mempool_get(pool, &slot) != 0)
		bench_die("rte_mempool_get");
	return slot;
}

static inline void
slot_free(void *slot)
{
	rte_mempool_put(pool, slot);
}

/* Both processes have the pool at the same address. */
static inline uint64_t
slot_give(void *slot)
{
	return (uintptr_t)slot;
}

static inline void *
slot_take(uint64_t token)
{
	return (void *)(uintptr_t)token;
}

#include "loops.h"

static const char *
prepare(const struct setting *s)
{
	if (s->sides > 1 && getenv("HUGE_DIR") == NULL)
		return "no huge pages to be had";
	return NULL;
}

/* Each process is a core of its own to DPDK, on whichever CPU. */
static int
start(const struct setting *s, unsigned side)
{
	long cpus = sysconf(_SC_NPROCESSORS_ONLN);
	char core[32], dir[4096];
	char *arg[16] = {"bench", "--lcores", core, "--no-pci",
	    "--no-telemetry", "--log-level=1"};
	int n = 6;

	snprintf(core, sizeof(core), "%u@%u", side, side % (unsigned)cpus);
	if (s->sides == 1) {
		arg[n++] = "--no-huge";
		arg[n++] = "--no-shconf";
		arg[n++] = "-m64";
	} else {
		snprintf(dir, sizeof(dir), "--huge-dir=%s", getenv("HUGE_DIR"));
		arg[n++] = dir;
		arg[n++] = "-m32";
		arg[n++] =
		    side == 0 ? "--proc-type=primary" : "--proc-type=secondary";
	}
	return rte_eal_init(n, arg);
}

static const char *
enter(const struct setting *s, unsigned side)
{
	if (start(s, side) < 0)
		return rte_strerror(rte_errno);
	pool = side == 0 ? rte_mempool_create("bench", s->slots - 1,
			       (unsigned)s->slot_size, CACHE, 0, NULL, NULL,
			       NULL, NULL, SOCKET_ID_ANY, 0)
			 : rte_mempool_lookup("bench");
	if (pool == NULL)
		return rte_strerror(rte_errno);
	loops_enter(s, side);
	return NULL;
}

const struct peer peer_dpdk = {.name = "rte_mempool with cache",
    .prepare = prepare,
    .enter = enter,
    .run = loops_run};

#else

static const char *
prepare(const struct setting *s)
{
	(void)s;
	return "not installed";
}

const struct peer peer_dpdk = {
    .name = "rte_mempool with cache", .prepare = prepare};

#endif
