#include "config.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "bench.h"
#include "team.h"

#include "../e2e/server.h"

/* A side that says nothing for so long hangs. */
#define PATIENCE_S 120

struct place {
	const struct team *team;
	unsigned side;
};

struct report {
	uint64_t start, end, counted;
};

/* What a side says first: nothing, or why it cannot. */
struct hello {
	char why[160];
};

static int
side_main(int control, void *arg)
{
	const struct place *p = arg;
	const struct team *t = p->team;
	struct hello hello = {""};
	struct report report;
	const char *why;
	uint64_t n;

	bench_pin((int)p->side);
	why = t->peer->enter(&t->setting, p->side);
	if (why != NULL)
		strncpy(hello.why, why, sizeof(hello.why) - 1);
	tell(control, &hello, sizeof(hello));
	while (hear(control, &n, sizeof(n)) == 0) {
		report.start = bench_ns();
		report.counted = t->peer->run(t->setting.pattern, p->side, n);
		report.end = bench_ns();
		tell(control, &report, sizeof(report));
	}
	return 0;
}

static const char *
start_side(struct team *t, unsigned side)
{
	static struct hello hello;
	struct timeval patience = {.tv_sec = PATIENCE_S};
	struct place place = {t, side};

	t->pid[side] = spawn(side_main, &place, &t->control[side]);
	if (t->pid[side] < 0)
		bench_die("fork");
	setsockopt(t->control[side], SOL_SOCKET, SO_RCVTIMEO, &patience,
	    sizeof(patience));
	if (hear(t->control[side], &hello, sizeof(hello)) != 0)
		return "it did not start";
	return hello.why[0] != '\0' ? hello.why : NULL;
}

const char *
team_open(struct team *t, const struct peer *peer, const struct setting *s)
{
	const char *why = NULL;

	*t = (struct team){.peer = peer, .setting = *s};
	if (peer->prepare != NULL)
		why = peer->prepare(s);
	if (why != NULL)
		return why;
	t->setting.queue = bench_shared(sizeof(struct queue));
	for (unsigned side = 0; why == NULL && side < s->sides; side++)
		why = start_side(t, side);
	if (why != NULL)
		team_close(t);
	return why;
}

void
team_close(struct team *t)
{
	for (unsigned side = 0; side < 2 && t->pid[side] > 0; side++) {
		kill(t->pid[side], SIGKILL);
		reap(t->pid[side]);
		close(t->control[side]);
	}
	munmap(t->setting.queue, sizeof(struct queue));
	if (t->peer->release != NULL)
		t->peer->release();
}

double
team_round(void *team)
{
	struct team *t = team;
	uint64_t start = UINT64_MAX, end = 0, sum = 0;
	struct report report;

	for (unsigned side = 0; side < t->setting.sides; side++)
		tell(t->control[side], &t->n, sizeof(t->n));
	for (unsigned side = t->setting.sides; side-- > 0;) {
		if (hear(t->control[side], &report, sizeof(report)) != 0) {
			errno = EPIPE;
			bench_die(t->peer->name);
		}
		start = report.start < start ? report.start : start;
		end = report.end > end ? report.end : end;
		sum += report.end - report.start;
	}
	t->counted = report.counted;
	if (t->setting.pattern < PASS)
		return (double)sum / t->setting.sides / (double)t->n;
	return (double)(end - start) / (double)t->n;
}

static uint64_t
unit(enum pattern pattern)
{
	return pattern == BATCH ? 4096 : pattern == SHUFFLED ? 64 : 1;
}

void
team_calibrate(struct team *t, unsigned ms)
{
	uint64_t units = 1, most;
	double ns;

	do {
		t->n = units * unit(t->setting.pattern);
		ns = team_round(t) * (double)t->n;
		most = (uint64_t)((double)units * ms * 1e6 / ns);
		units = most < 16 * units ? most : 16 * units;
	} while (ns < ms * 0.5e6);
	t->n = (units > 0 ? units : 1) * unit(t->setting.pattern);
}
