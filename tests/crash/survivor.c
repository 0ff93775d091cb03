/*
 * survivor [-o trace] | [CALL N]: goes through a daemon's life as its client,
 * from the start to the stop, while strace(1) kills it at its Nth CALL; then
 * through that of a successor, in which nothing may be missing. -o only records
 * the calls of such a life. For syscalls.sh, which knows which calls there are.
 *
 * The helper of the daemon is traced as well, and what that starts. Without it a
 * daemon goes on, but can attach no memory; once it gives no answer for that it
 * is killed too.
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "world.h"

#define CONFIG                                                             \
	"\"log_level\": \"warning\", \"pools\": [{\"name\": \"" WORLD_POOL \
	"\", \"slot_size\": 64, \"slots_per_segment\": 64, "               \
	"\"min_segments\": 1, \"max_segments\": 2, \"max_clients\": 8}]"

#define PATIENCE 30000 /* milliseconds for an answer, */
#define HELPLESS 200   /* and without memory to be had */

/* An act of that life: 0 or -errno; what it asks for is waited for. */
struct act {
	const char *name;
	int (*play)(struct world *);
};

#define A (&w->clients[0])

static int
hello(struct world *w)
{
	return raw_open(&A->raw, w->server.socket, "survivor");
}

static int
attach(struct world *w)
{
	uint32_t flags = WIRE_ATTACH_LANE;
	uint8_t body[16];

	memcpy(body, &flags, 4);
	world_post(
	    w, 0, WIRE_ATTACH, 0, body, 4 + raw_name(body + 4, WORLD_POOL), 0);
	A->presence = PRESENT;
	A->lane.pool.features = WIRE_ATTACHED_LANE;
	return 0;
}

static int
alloc(struct world *w)
{
	uint32_t n = 20;

	world_post(w, 0, WIRE_ALLOC, WIRE_WAIT, &n, sizeof(n), (int)n);
	return 0;
}

static int
grow(struct world *w)
{
	uint32_t n = WORLD_SLOTS;

	world_post(w, 0, WIRE_ALLOC, WIRE_WAIT, &n, sizeof(n), (int)n);
	return 0;
}

static int
hand_on(struct world *w)
{
	world_post(w, 0, WIRE_SEND, 0, &A->held[0], 8, 0);
	return 0;
}

static int
share(struct world *w)
{
	uint8_t body[12] = {0};

	memcpy(body, &A->held[1], 8);
	body[8] = 3;
	world_post(w, 0, WIRE_SHARE, 0, body, sizeof(body), 0);
	return 0;
}

static int
receive(struct world *w)
{
	world_post(w, 0, WIRE_RECEIVE, 0, &w->offers[0].ref, 8, 0);
	return 0;
}

static int
detach(struct world *w)
{
	world_post(w, 1, WIRE_DETACH, 0, NULL, 0, 0);
	return 0;
}

static int
join(struct world *w)
{
	return world_join(w, 1, true);
}

static int
goodbye(struct world *w)
{
	world_post(w, 2, WIRE_BYE, 0, NULL, 0, 0);
	return 0;
}

static int
join_third(struct world *w)
{
	return world_join(w, 2, false);
}

static int
stop(struct world *w)
{
	struct pollfd ended = {.fd = w->server.pidfd, .events = POLLIN};

	kill(w->server.pid, SIGTERM);
	return poll(&ended, 1, PATIENCE) == 1 ? 0 : -ETIMEDOUT;
}

static const struct act acts[] = {{"hello", hello}, {"attach", attach},
    {"alloc", alloc}, {"send", hand_on}, {"share", share}, {"receive", receive},
    {"grow", grow}, {"join", join}, {"detach", detach}, {"another", join_third},
    {"goodbye", goodbye}, {"stop", stop}};

static bool
has_ended(const struct world *w)
{
	struct pollfd ended = {.fd = w->server.pidfd, .events = POLLIN};

	return poll(&ended, 1, 0) == 1;
}

/* Until all is answered, or the daemon is no more: false. */
static bool
wait_for_answers(struct world *w)
{
	for (int i = 0; i < PATIENCE; i++) {
		if (world_answers(w) == (1u << w->npending) - 1)
			return true;
		if (has_ended(w))
			return false;
		if (i > HELPLESS &&
		    server_logged(&w->server, "cannot attach a segment"))
			kill(w->server.pid, SIGKILL);
		poll(NULL, 0, 1);
	}
	return false;
}

/*
 * The acts in their order, as far as the daemon lives: the name of the one in
 * which it ended, or NULL and `why`, what is wrong.
 */
static const char *
live(struct world *w, const char **why)
{
	const struct act *a = acts;
	int err;

	for (size_t i = 0; i < sizeof(acts) / sizeof(*acts); i++, a++) {
		err = a->play(w);
		if (a->play == stop && err == 0)
			return a->name;
		if (err == 0 && wait_for_answers(w)) {
			*why = world_finish(w);
			if (*why != NULL)
				return NULL;
			continue;
		}
		/* The socket closes a moment before the process has ended. */
		for (int k = 0; k < PATIENCE && !has_ended(w); k++)
			poll(NULL, 0, 1);
		if (has_ended(w))
			return a->name;
		*why = a->name;
		return NULL;
	}
	return NULL;
}

/*
 * strace in place of the daemon, in a directory of its own. With -D it is a
 * process beside, and the daemon is our child as ever.
 */
static int
wrap(const char *dir, const char *trace, const char *call, const char *number)
{
	const char *build = getenv("builddir");
	char path[128];
	FILE *file;

	snprintf(path, sizeof(path), "%s/slabd", dir);
	file = fopen(path, "we");
	if (file == NULL)
		return -errno;
	fprintf(file, "#!/bin/sh\nexec strace -D -f -qq ");
	if (trace != NULL)
		fprintf(file, "-o '%s' ", trace);
	else
		fprintf(file,
		    "-o /dev/null -e trace=%s "
		    "-e inject=%s:signal=KILL:when=%s ",
		    call, call, number);
	fprintf(file, "'%s/slabd' \"$@\"\n", build != NULL ? build : ".");
	fchmod(fileno(file), 0700);
	return fclose(file) == 0 ? 0 : -errno;
}

/* The daemon that is traced, from its start on: where it ended, or NULL. */
static const char *
first_life(struct world *w, const char **why)
{
	const char *ended = "start";
	int err = server_start(&w->server);

	if (err == 0)
		ended = live(w, why);
	else if (err != -ECHILD)
		*why = strerror(-err);
	if (*why == NULL && server_wait(&w->server) < 0)
		*why = "it does not end";
	if (w->server.helper >= 0)
		close(w->server.helper);
	w->server.helper = -1;
	return ended;
}

static void
prepare(struct world *w)
{
	memset(w, 0, sizeof(*w));
	world_adrift(w);
}

int
main(int argc, char **argv)
{
	static struct world w;
	const char *build = getenv("builddir"), *why = NULL, *ended = NULL;
	bool record = argc == 3 && strcmp(argv[1], "-o") == 0;
	int err;

	if (argc != 3)
		return 2;
	signal(SIGPIPE, SIG_IGN);
	prepare(&w);
	err = server_prepare(&w.server);
	if (err == 0)
		err = server_configure(&w.server, CONFIG);
	if (err == 0)
		err = wrap(
		    w.server.dir, record ? argv[2] : NULL, argv[1], argv[2]);
	if (err != 0)
		why = strerror(-err);
	setenv("builddir", w.server.dir, 1);
	if (why == NULL)
		ended = first_life(&w, &why);
	setenv("builddir", build != NULL ? build : ".", 1);
	if (why == NULL && server_start(&w.server) != 0)
		why = "no successor starts";
	if (why == NULL)
		why = world_check(&w);
	world_leave(&w);
	server_close(&w.server);
	printf("%s%s\n", why == NULL ? "" : "not as it should be: ",
	    why == NULL ? ended : why);
	return why == NULL ? 0 : 1;
}
