/*
 * What a request costs: one-slot allocation over the socket against a bare
 * SOCK_SEQPACKET ping-pong of the same bytes, 64 slots in one message against
 * one, and attaching a large pool against a small one. Everything in one run,
 * in turns.
 *
 *	socket POOL SMALL LARGE	 pools to allocate from and to attach
 *
 * $SLABD_PID is the daemon's, so that it can be placed beside its client.
 */
#define _GNU_SOURCE
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <unistd.h>

#include "bench.h"
#include "slabd.h"

#define ROUNDS	 41
#define TURNS	 400 /* operations in a round */
#define REQUEST	 20  /* bytes of an ALLOC for one slot */
#define REPLY	 32  /* and of its answer */
#define MANY	 64
#define ATTACHES 20

struct bench {
	struct slabd *slabd;
	struct slabd_pool *pool;
	const char *small, *large;
	int ping;
	pid_t pong;
};

/* The other end of the bare ping-pong: blocking, as simple as can be. */
static void
pong(int fd, int cpu)
{
	char request[REQUEST], reply[REPLY] = {0};

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	bench_pin(cpu);
	while (recv(fd, request, sizeof(request), 0) > 0)
		send(fd, reply, sizeof(reply), MSG_NOSIGNAL);
	_exit(0);
}

static void
start_pong(struct bench *b, int cpu)
{
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0)
		bench_die("socketpair");
	b->pong = fork();
	if (b->pong < 0)
		bench_die("fork");
	if (b->pong == 0) {
		close(pair[0]);
		pong(pair[1], cpu);
	}
	close(pair[1]);
	b->ping = pair[0];
}

static double
ping_pong(void *arg)
{
	struct bench *b = arg;
	char request[REQUEST] = {0}, reply[REPLY];
	uint64_t start = bench_ns();

	for (int i = 0; i < TURNS; i++)
		if (send(b->ping, request, sizeof(request), 0) < 0 ||
		    recv(b->ping, reply, sizeof(reply), 0) < 0)
			bench_die("ping");
	return (double)(bench_ns() - start) / TURNS;
}

/* Only the allocations count; the frees between the batches do not. */
static double
alloc_one(void *arg)
{
	struct bench *b = arg;
	void *slots[TURNS];
	uint64_t start = bench_ns(), spent;

	for (int i = 0; i < TURNS; i++)
		if ((slots[i] = slabd_alloc(b->pool)) == NULL)
			bench_die(slabd_error_detail());
	spent = bench_ns() - start;
	if (slabd_free_many(b->pool, slots, TURNS) != TURNS)
		bench_die(slabd_error_detail());
	return (double)spent / TURNS;
}

static double
alloc_many(void *arg)
{
	struct bench *b = arg;
	void *slots[MANY];
	uint64_t spent = 0, start;

	for (int i = 0; i < TURNS; i++) {
		start = bench_ns();
		if (slabd_alloc_many(b->pool, slots, MANY) != MANY)
			bench_die(slabd_error_detail());
		spent += bench_ns() - start;
		if (slabd_free_many(b->pool, slots, MANY) != MANY)
			bench_die(slabd_error_detail());
	}
	return (double)spent / TURNS;
}

static double
attach(struct bench *b, const char *name)
{
	struct slabd_pool *p;
	uint64_t spent = 0, start;

	for (int i = 0; i < ATTACHES; i++) {
		start = bench_ns();
		if (slabd_pool_attach(&p, b->slabd, name, 0) != 0)
			bench_die(slabd_error_detail());
		spent += bench_ns() - start;
		slabd_pool_detach(p);
	}
	return (double)spent / ATTACHES;
}

static double
attach_small(void *arg)
{
	struct bench *b = arg;

	return attach(b, b->small);
}

static double
attach_large(void *arg)
{
	struct bench *b = arg;

	return attach(b, b->large);
}

static void
report(const char *what, const char *where, const struct bench_ratio *r)
{
	printf("%-34s %-10s %9.0f ns %9.0f ns   %5.2f (%.2f to %.2f)\n", what,
	    where, r->a, r->b, r->median, r->least, r->most);
	fflush(stdout);
}

static void
pin_daemon(int cpu)
{
	const char *pid = getenv("SLABD_PID");
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET((unsigned)cpu, &set);
	if (pid == NULL ||
	    sched_setaffinity((pid_t)atoi(pid), sizeof(set), &set) != 0)
		fprintf(stderr, "the daemon could not be placed\n");
}

static void
placed(struct bench *b, const char *where, int daemon_cpu)
{
	struct bench_ratio r;

	bench_pin(0);
	pin_daemon(daemon_cpu);
	start_pong(b, daemon_cpu);
	r = bench_compare(ROUNDS, ping_pong, alloc_one, b);
	report("one slot / bare ping-pong", where, &r);
	r = bench_compare(ROUNDS, alloc_one, alloc_many, b);
	report("64 slots in one message / one slot", where, &r);
	r = bench_compare(ROUNDS, attach_small, attach_large, b);
	report("attach 64 GiB / 64 MiB", where, &r);
	close(b->ping);
}

int
main(int argc, char *argv[])
{
	struct bench b = {0};

	if (argc != 4) {
		fprintf(stderr, "usage: socket POOL SMALL LARGE\n");
		return 2;
	}
	b.small = argv[2];
	b.large = argv[3];
	if (slabd_open(&b.slabd, NULL) != 0 ||
	    slabd_pool_attach(&b.pool, b.slabd, argv[1], SLABD_NO_LANE) != 0) {
		fprintf(stderr, "%s\n", slabd_error_detail());
		return 1;
	}
	printf("%-34s %-10s %12s %12s   %s\n", "what", "CPUs", "against",
	    "measured", "ratio: median (least to most)");
	placed(&b, "same", 0);
	if (sysconf(_SC_NPROCESSORS_ONLN) > 1)
		placed(&b, "two", 1);
	slabd_close(b.slabd);
	return 0;
}
