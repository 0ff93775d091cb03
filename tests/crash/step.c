/*
 * step [-a] [-l] [-v] [-j jobs] [-n points] [-k kills] [-s seed] [scene...]: the
 * daemon is killed at every instruction of every transition there is, and
 * nothing may be lost by it.
 *
 * How every instruction is covered without as many deaths: what a killed daemon
 * leaves behind is its shared-memory objects and what lies in its sockets, and
 * all else of it dies with the process. So the daemon goes through a transition
 * once, one instruction after the other, and after each all objects are looked
 * at (a string instruction stops after each of its steps, so no store escapes).
 * Each time something has changed, or an answer has come, that is another point
 * to be killed at; between two points it makes no difference where. For each
 * point the objects are put back as they were, a successor is started on them,
 * the clients are what they were then, and world.h says what must hold.
 *
 * That the substitute is none is tried too: now and then a daemon is really
 * killed, at an instruction drawn by lot, with all that lies in its sockets.
 *
 * What this does not reach is the inside of a system call, and the helper, a
 * process of its own; syscalls.sh kills there.
 *
 * A recovery is a transition like others: a successor is stepped through its
 * start from one of the points, is killed at each of its own, and again, for
 * as long as there is a row of them. (That one does not confine itself: a filter
 * is two million instructions, all of them about memory of its own.)
 *
 * -a: all points, otherwise some of each scene by lot; -j: so many scenes at a
 * time; -l: the scenes' names. What is left to the lot depends on the seed and
 * the scene alone, so that a scene can be repeated without the others.
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "../core/random.h"
#include "image.h"
#include "lane.h"
#include "scenes.h"
#include "trace.h"

#define SKIPPED	       77
#define STEPS_MAX      5000000u
#define VIOLATIONS_MAX 3u /* of one scene; then it is left */
#define RECOVERIES     3u /* of them in a row */
#define JOBS_MAX       16u

static struct options {
	bool all, verbose;
	unsigned jobs, points, kills;
	uint64_t seed, random;
} options = {.jobs = 1, .points = 2, .kills = 0};

/* Where a daemon may be killed. */
struct point {
	struct image image;
	unsigned answered; /* a mask */
	unsigned phase;	   /* which beliefs */
	unsigned step;
};

struct points {
	struct point *list;
	unsigned n;
};

/* One scene under way. */
struct play {
	const struct scene *scene;
	struct world now;
	struct world phases[2]; /* what was believed, without sockets */
	unsigned phase;
	struct points points;
	unsigned steps, found, kills, violations;
};

/* What one job has done. */
struct sum {
	unsigned scenes, failed, points, kills, violations;
};

static void
report(struct play *p, const char *what, unsigned step, const char *why)
{
	p->violations++;
	printf("not as it should be: %s, %s at instruction %u: %s\n",
	    p->scene->name, what, step, why);
	fflush(stdout);
}

static int
add_point(struct play *p, const struct watched *watched, unsigned answered)
{
	struct point *grown =
	    reallocarray(p->points.list, p->points.n + 1, sizeof(*grown));

	if (grown == NULL)
		return -ENOMEM;
	p->points.list = grown;
	grown += p->points.n;
	*grown = (struct point){
	    .answered = answered, .phase = p->phase, .step = p->steps};
	if (image_copy(watched, &grown->image) != 0)
		return -ENOMEM;
	p->points.n++;
	p->found++;
	return 0;
}

static void
free_points(struct points *points)
{
	for (unsigned i = 0; i < points->n; i++)
		image_free(&points->list[i].image);
	free(points->list);
	*points = (struct points){.n = 0};
}

/* What the clients believe now; of their answers those count that came. */
static void
note_beliefs(struct play *p)
{
	p->phases[p->phase] = p->now;
	world_adrift(&p->phases[p->phase]);
}

static bool
rings_are_read(const struct world *w)
{
	const struct lane_header *h;

	for (unsigned i = 0; i < WORLD_CLIENTS; i++) {
		h = w->clients[i].lane.lane.header;
		if (h != NULL && w->clients[i].presence == PRESENT &&
		    load_acquire(&h->record_head) !=
			load_acquire(&h->record_tail))
			return false;
	}
	return true;
}

static bool
is_over(struct play *p, unsigned answered)
{
	struct world *w = &p->now;

	return answered == (1u << w->npending) - 1 && rings_are_read(w) &&
	       (p->scene->is_over == NULL || p->scene->is_over(w));
}

/* The word whose first reading lets things happen meanwhile. */
static int
watch_lane(struct play *p, struct trace *t)
{
	char name[32];
	uintptr_t at;

	if (p->scene->meanwhile == NULL)
		return 0;
	snprintf(name, sizeof(name), ".lane-%u", p->now.clients[0].holder);
	at = trace_mapped(t, name);
	if (at == 0)
		return -ENOENT;
	return trace_word(t, at + offsetof(struct lane_header, record_tail));
}

/* The daemon has just looked at the lane of client 0. */
static int
let_happen(struct play *p)
{
	int err = p->scene->meanwhile(&p->now);

	p->phase = 1;
	note_beliefs(p);
	return err;
}

/*
 * One instruction after the other, up to `limit` of them or to the end of it
 * all: 0 or -errno. Points are noted if `watched` is not NULL.
 */
static int
walk(struct play *p, struct trace *t, struct watched *watched, unsigned limit)
{
	unsigned before = world_answers(&p->now), answered = before;
	enum step s = STEP_DONE;
	bool waits = p->scene->meanwhile != NULL;
	int changed;

	for (p->steps = 0; p->steps < limit; p->steps += s == STEP_DONE) {
		s = trace_step(t);
		if (s == STEP_ENDED)
			return -ECHILD;
		if (s == STEP_ASLEEP) {
			answered = world_answers(&p->now);
			if (!waits && is_over(p, answered))
				return 0;
			poll(NULL, 0, 1);
			continue;
		}
		if (waits && trace_touched(t)) {
			waits = false;
			if (let_happen(p) != 0)
				return -EIO;
		}
		if (t->was_call)
			answered = world_answers(&p->now);
		if (watched == NULL)
			continue;
		changed = image_changed(watched, t->was_call);
		if (changed < 0)
			return changed;
		if (changed > 0 || answered != before)
			if (add_point(p, watched, answered) != 0)
				return -ENOMEM;
		before = answered;
	}
	return -ERANGE;
}

static bool
is_asleep(pid_t pid)
{
	char path[64], text[512] = "";
	const char *end;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	file = fopen(path, "re");
	if (file == NULL || fgets(text, sizeof(text), file) == NULL)
		text[0] = '\0';
	if (file != NULL)
		fclose(file);
	end = strrchr(text, ')');
	return end != NULL && end[1] == ' ' && end[2] == 'S';
}

/* A daemon, the state, and the daemon stopped before it can know more. */
static int
begin(struct play *p, struct trace *t)
{
	char config[512];
	int err;

	memset(&p->now, 0, sizeof(p->now));
	p->phase = 0;
	for (unsigned i = 0; i < WORLD_CLIENTS; i++)
		p->now.clients[i].raw.fd = -1;
	world_adrift(&p->now);
	scene_config(p->scene, config, sizeof(config));
	err = server_open(&p->now.server, config);
	if (err == 0)
		err = p->scene->prepare(&p->now);
	/* Twice, so that no timer's work is in between. */
	for (int i = 0; i < 2 && err == 0; i++) {
		poll(NULL, 0, 5);
		while (!is_asleep(p->now.server.pid))
			poll(NULL, 0, 1);
	}
	if (err == 0)
		err = trace_stop(t, p->now.server.pid);
	if (err == 0)
		err = watch_lane(p, t);
	return err;
}

static void
end(struct play *p)
{
	world_leave(&p->now);
	if (p->now.victim > 0) {
		kill(p->now.victim, SIGKILL);
		reap(p->now.victim);
	}
	if (p->now.control > 0)
		close(p->now.control);
	server_close(&p->now.server);
}

/* What an earlier daemon may still have said. */
static void
forget_messages(const struct server *s)
{
	char text[1024];

	while (recv(s->notify, text, sizeof(text), MSG_DONTWAIT) >= 0)
		continue;
}

/* A successor on what is there, and the clients as believed. */
static void
check(struct play *p, const struct world *believed, unsigned answered,
    const char *what, unsigned step)
{
	static struct world w;
	const char *why;
	int err;

	p->kills++;
	forget_messages(&p->now.server);
	err = server_start(&p->now.server);
	if (err != 0) {
		report(p, what, step, "no successor starts");
		if (p->now.server.pid > 0)
			server_kill(&p->now.server);
		return;
	}
	w = *believed;
	w.server = p->now.server;
	w.control = 0;
	world_unanswer(&w, answered);
	why = world_check(&w);
	world_leave(&w);
	if (why != NULL)
		report(p, what, step, why);
	if (server_kill(&p->now.server) != 0)
		report(p, what, step, "the successor has ended");
}

static void
check_point(struct play *p, const struct point *at, const char *what)
{
	if (image_restore(&at->image, p->now.server.prefix) != 0)
		report(p, what, at->step, "the objects cannot be put back");
	else
		check(p, &p->phases[at->phase], at->answered, what, at->step);
}

static unsigned
chosen(const struct points *points, unsigned i)
{
	return options.all || options.points >= points->n
		   ? i
		   : random_below(&options.random, points->n);
}

static void
check_points(struct play *p, const struct points *points, const char *what)
{
	unsigned n = options.all || points->n < options.points ? points->n
							       : options.points;

	for (unsigned i = 0; i < n && p->violations < VIOLATIONS_MAX; i++)
		check_point(p, &points->list[chosen(points, i)], what);
}

/* Like server_start(), but to be traced from its first instruction. */
static int
start_traced(struct server *s, struct trace *t)
{
	const char *build = getenv("builddir");
	char path[4096], notify[64];
	pid_t parent = getpid();
	int log;

	s->pid = fork();
	if (s->pid < 0)
		return -errno;
	if (s->pid == 0) {
		log = open(s->log, O_WRONLY | O_CREAT | O_APPEND, 0600);
		dup2(log, STDOUT_FILENO);
		dup2(log, STDERR_FILENO);
		snprintf(path, sizeof(path), "%s/slabd",
		    build != NULL ? build : ".");
		snprintf(notify, sizeof(notify), "%s/notify", s->dir);
		setenv("NOTIFY_SOCKET", notify, 1);
		fcntl(s->alive, F_SETFD, 0);
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (getppid() == parent)
			ptrace(PTRACE_TRACEME, 0, NULL, NULL);
		execl(path, "slabd", "-U", "-c", s->config, "-s", s->socket,
		    (char *)NULL);
		_exit(127);
	}
	s->pidfd = (int)syscall(SYS_pidfd_open, s->pid, 0);
	return trace_until_open(t, s->pid, ".ledger");
}

/* Until it says that it is ready, and sleeps. */
static int
walk_through_start(struct play *p, struct trace *t, struct watched *watched,
    const struct point *from)
{
	struct pollfd said = {.fd = p->now.server.notify, .events = POLLIN};
	enum step s = STEP_DONE;
	int changed;

	p->phase = from->phase;
	for (p->steps = 0; p->steps < STEPS_MAX; p->steps += s == STEP_DONE) {
		s = trace_step(t);
		if (s == STEP_ENDED)
			return -ECHILD;
		if (s == STEP_ASLEEP && poll(&said, 1, 0) == 1)
			return 0;
		changed =
		    s == STEP_DONE ? image_changed(watched, t->was_call) : 0;
		if (changed < 0 ||
		    (changed > 0 && add_point(p, watched, from->answered) != 0))
			return -EIO;
	}
	return -ERANGE;
}

/*
 * A recovery from a point, itself killed at each of its own, `depth` times in a
 * row.
 */
static void
play_recovery(struct play *p, const struct point *from, unsigned depth)
{
	struct points outer = p->points;
	struct watched watched = {.n = 0};
	static struct trace t;
	int err = image_restore(&from->image, p->now.server.prefix);

	p->points = (struct points){.n = 0};
	forget_messages(&p->now.server);
	if (err == 0)
		err = start_traced(&p->now.server, &t);
	if (err == 0)
		err = image_watch(&watched, p->now.server.prefix);
	if (err == 0)
		err = walk_through_start(p, &t, &watched, from);
	image_unwatch(&watched);
	server_kill(&p->now.server);
	if (err != 0)
		report(p, "recovery", p->steps, strerror(-err));
	if (options.verbose)
		printf("  recovery %u: %u instructions, %u points\n", depth,
		    p->steps, p->points.n);
	if (err == 0)
		check_points(p, &p->points, "recovery");
	if (err == 0 && depth < RECOVERIES && p->points.n > 0)
		play_recovery(p,
		    &p->points.list[random_below(&options.random, p->points.n)],
		    depth + 1);
	free_points(&p->points);
	p->points = outer;
}

/* Killed for once, at an instruction by lot. */
static void
play_kill(struct play *p, unsigned steps)
{
	unsigned limit = 1 + random_below(&options.random, steps), answered;
	static struct trace t;
	int err = begin(p, &t);

	if (err == 0)
		err = p->scene->trigger(&p->now);
	if (err == 0)
		err = walk(p, &t, NULL, limit);
	/* Over before that, or where it should be. */
	if (err != 0 && err != -ERANGE)
		report(p, "kill", limit, strerror(-err));
	kill(p->now.server.pid, SIGKILL);
	server_kill(&p->now.server);
	answered = world_answers(&p->now);
	if (err == 0 || err == -ERANGE) {
		note_beliefs(p);
		check(p, &p->phases[p->phase], answered, "kill", limit);
	}
	end(p);
}

/* Once through it, and from all its points. */
static int
play_scene(struct play *p)
{
	struct watched watched = {.n = 0};
	static struct trace t;
	int err = begin(p, &t);

	if (err == 0)
		err = p->scene->trigger(&p->now);
	if (err == 0)
		err = image_watch(&watched, p->now.server.prefix);
	if (err == 0)
		note_beliefs(p);
	if (err == 0)
		err = add_point(p, &watched, 0);
	if (err == 0)
		err = walk(p, &t, &watched, STEPS_MAX);
	image_unwatch(&watched);
	server_kill(&p->now.server);
	if (err != 0)
		return err;
	/* The answers are those of the end; each point knows which it had. */
	for (unsigned i = 0; i <= p->phase; i++)
		memcpy(p->phases[i].pending, p->now.pending,
		    sizeof(p->now.pending));
	return 0;
}

/* Starting takes many instructions: not after every scene. */
static bool
recoveries_wanted(void)
{
	return options.all || random_below(&options.random, nscenes) == 0;
}

static void
run_scene(const struct scene *scene, struct sum *sum)
{
	static struct play p;
	unsigned steps, points;
	int err;

	p = (struct play){.scene = scene};
	err = play_scene(&p);
	steps = p.steps;
	points = p.points.n;
	if (err == 0) {
		check_points(&p, &p.points, "point");
		if (p.violations < VIOLATIONS_MAX && recoveries_wanted())
			play_recovery(&p,
			    &p.points
				 .list[random_below(&options.random, points)],
			    options.all ? 1 : RECOVERIES);
	} else {
		report(&p, "step", p.steps, strerror(-err));
	}
	free_points(&p.points);
	end(&p);
	for (unsigned i = 0;
	     i < options.kills && err == 0 && p.violations < VIOLATIONS_MAX;
	     i++)
		play_kill(&p, steps);
	printf("%-30s %7u instructions %4u points %5u kills %u violations\n",
	    scene->name, steps, points, p.kills, p.violations);
	fflush(stdout);
	sum->scenes++;
	sum->failed += p.violations > 0 || p.kills == 0;
	sum->points += p.found;
	sum->kills += p.kills;
	sum->violations += p.violations;
}

/* Whether a daemon can be stepped through at all: it is not dumpable. */
static bool
may_trace(void)
{
	struct play p = {.scene = &scenes[0]};
	static struct trace t;
	bool may = begin(&p, &t) == 0 && trace_step(&t) != STEP_ENDED;

	end(&p);
	return may;
}

static bool
is_wanted(const struct scene *s, char **names, int n)
{
	for (int i = 0; i < n; i++)
		if (strncmp(s->name, names[i], strlen(names[i])) == 0)
			return true;
	/* A sample is for every day. */
	return n == 0 && (options.all || !s->is_long ||
			     random_below(&options.random, 8) == 0);
}

/* The scenes that are one job's. */
static void
run_job(unsigned job, struct sum *sum, char **names, int n)
{
	for (unsigned i = job; i < nscenes; i += options.jobs) {
		options.random = options.seed + ((uint64_t)i << 32);
		if (is_wanted(&scenes[i], names, n))
			run_scene(&scenes[i], sum);
	}
}

/* A job beside this one; it is over when its process is. */
static pid_t
fork_job(unsigned job, struct sum *sum, char **names, int n)
{
	pid_t parent = getpid(), pid = fork();

	if (pid != 0)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() == parent)
		run_job(job, sum, names, n);
	_exit(0);
}

/* All jobs; one that ends before its time has failed. */
static struct sum
run_jobs(char **names, int n)
{
	struct sum *sums = mmap(NULL, options.jobs * sizeof(*sums),
	    PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	struct sum all = {.failed = sums == MAP_FAILED};
	pid_t pids[JOBS_MAX];

	if (sums == MAP_FAILED)
		return all;
	for (unsigned i = 1; i < options.jobs; i++)
		pids[i] = fork_job(i, &sums[i], names, n);
	run_job(0, &sums[0], names, n);
	for (unsigned i = 0; i < options.jobs; i++) {
		all.failed += i > 0 && reap(pids[i]) != 0;
		all.scenes += sums[i].scenes;
		all.failed += sums[i].failed;
		all.points += sums[i].points;
		all.kills += sums[i].kills;
		all.violations += sums[i].violations;
	}
	return all;
}

static bool
run(char **names, int n)
{
	time_t begun = time(NULL);
	struct sum all = run_jobs(names, n);

	printf("%u scenes, %u points, %u kills, %u violations, %lld s, "
	       "SLAB_SEED=%" PRIu64 "\n",
	    all.scenes, all.points, all.kills, all.violations,
	    (long long)(time(NULL) - begun), options.seed);
	return all.scenes > 0 && all.failed == 0;
}

static int
usage(void)
{
	fprintf(stderr, "usage: step [-a] [-l] [-v] [-j jobs] [-n points] "
			"[-k kills] [-s seed] [scene...]\n");
	return 2;
}

int
main(int argc, char **argv)
{
	const char *sanitizers;
	bool seeded = false;
	int c;

	while ((c = getopt(argc, argv, "alvj:n:k:s:")) != -1)
		switch (c) {
		case 'a':
			options.all = true;
			break;
		case 'l':
			for (unsigned i = 0; i < nscenes; i++)
				printf("%s\n", scenes[i].name);
			return 0;
		case 'v':
			options.verbose = true;
			break;
		case 'j':
			options.jobs = (unsigned)atoi(optarg);
			break;
		case 'n':
			options.points = (unsigned)atoi(optarg);
			break;
		case 'k':
			options.kills = (unsigned)atoi(optarg);
			break;
		case 's':
			options.seed = strtoull(optarg, NULL, 0);
			seeded = true;
			break;
		default:
			return usage();
		}
	if (options.jobs == 0 || options.jobs > JOBS_MAX)
		return usage();
	if (!seeded)
		options.seed = random_seed("step");
	signal(SIGPIPE, SIG_IGN);
	/* The same steps with many more in between would show nothing else. */
	sanitizers = getenv("SANITIZERS");
	if (!options.all && sanitizers != NULL && sanitizers[0] != '\0') {
		printf("built with sanitizers\n");
		return SKIPPED;
	}
	if (!may_trace()) {
		printf("no daemon can be traced here\n");
		return SKIPPED;
	}
	return run(argv + optind, argc - optind) ? 0 : 1;
}
