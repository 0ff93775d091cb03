/*
 * Who does which chunk; dispatch.h says what for.
 *
 * A chunk is in chunks[] from its CHUNK until its DONE. There are at most
 * plan->window of them, and the reader opens no chunk before the one a window
 * earlier was written, so index % window is a place of its own for each. No
 * channel ever holds more than a window of messages, which is less than a
 * socket's buffer, so that sending never waits.
 */
#include "config.h"

#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "dispatch.h"
#include "message.h"

/* Processes by number: these two, then the workers. */
enum { READER, COLLECTOR, WORKERS };

#define PROCESSES_MAX (WORKERS + DISPATCH_WORKERS_MAX)

struct process {
	pid_t pid;	     /* 0: none */
	bool over;	     /* it said END */
	bool doomed;	     /* we killed it, and have not heard of it yet */
	struct chunk *chunk; /* what a worker does now */
};

struct chunk {
	struct message m;
	unsigned tries;
	bool there;
	bool given; /* to a worker, which is alive as far as we know */
};

struct dispatch {
	const struct plan *plan;
	unsigned processes;
	struct process process[PROCESSES_MAX];
	struct pollfd poll[PROCESSES_MAX]; /* their channels */
	struct chunk *chunks;		   /* [index % window] */
	uint64_t expected;		   /* chunks; 0: nobody knows */
	uint64_t given;
	unsigned kills; /* left */
	unsigned turn;	/* the worker after the last one that got a chunk */
	struct dispatch_result *result;
};

static int
fail(const char *what, const char *why)
{
	fprintf(stderr, "filepipe: %s: %s\n", what, why);
	return 1;
}

static const char *
process_name(unsigned i)
{
	static char name[32];

	if (i == READER)
		return "reader";
	if (i == COLLECTOR)
		return "collector";
	snprintf(name, sizeof(name), "worker %u", i - WORKERS + 1);
	return name;
}

static void
channel_close(struct dispatch *d, unsigned i)
{
	if (d->poll[i].fd >= 0)
		close(d->poll[i].fd);
	d->poll[i].fd = -1;
}

/* The child: nothing of the dispatcher's is its business. */
static _Noreturn void
process_main(struct dispatch *d, unsigned i, int channel, pid_t parent)
{
	static int (*const run[])(const struct plan *, int) = {
	    reader_run, collector_run, worker_run};

	for (unsigned other = 0; other < d->processes; other++)
		channel_close(d, other);
	prctl(PR_SET_NAME, process_name(i));
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(1);
	_exit(run[i < WORKERS ? i : WORKERS](d->plan, channel));
}

static int
process_start(struct dispatch *d, unsigned i)
{
	pid_t parent = getpid(), pid;
	int pair[2];

	d->poll[i].fd = -1;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return fail(process_name(i), strerror(errno));
	d->poll[i] = (struct pollfd){.fd = pair[0], .events = POLLIN};
	pid = fork();
	if (pid == 0)
		process_main(d, i, pair[1], parent);
	close(pair[1]);
	if (pid < 0)
		return fail(process_name(i), strerror(errno));
	d->process[i] = (struct process){.pid = pid};
	return 0;
}

/* Waits for its end: the status of waitpid(). */
static int
process_reap(struct dispatch *d, unsigned i)
{
	int status = 0;

	while (waitpid(d->process[i].pid, &status, 0) < 0 && errno == EINTR)
		;
	d->process[i].pid = 0;
	channel_close(d, i);
	return status;
}

static uint64_t
random_below(uint64_t n)
{
	return (uint64_t)random() % n;
}

/*
 * Picks the chunks to kill at so that each is as likely as another and all
 * `kills` happen (Knuth, The Art of Computer Programming 2, 3.4.2, algorithm
 * S), and strikes within the next half millisecond.
 */
static void
maybe_kill(struct dispatch *d, struct process *p)
{
	struct timespec pause = {.tv_nsec = (long)random_below(500000)};
	uint64_t left = d->expected > d->given ? d->expected - d->given : 1;

	d->given++;
	if (d->kills == 0 || random_below(left) >= d->kills)
		return;
	nanosleep(&pause, NULL);
	kill(p->pid, SIGKILL);
	p->doomed = true;
	d->kills--;
}

/* The first chunk that no worker has, or NULL. */
static struct chunk *
chunk_next(struct dispatch *d)
{
	struct chunk *first = NULL;

	for (unsigned i = 0; i < d->plan->window; i++) {
		struct chunk *c = &d->chunks[i];

		if (c->there && !c->given &&
		    (first == NULL || c->m.index < first->m.index))
			first = c;
	}
	return first;
}

/* Gives every idle worker something to do. */
static int
assign(struct dispatch *d)
{
	unsigned workers = d->processes - WORKERS, first = d->turn;

	for (unsigned n = 0; n < workers; n++) {
		unsigned i = WORKERS + (first + n) % workers;
		struct process *p = &d->process[i];
		struct chunk *c;

		if (p->chunk != NULL || p->doomed)
			continue;
		c = chunk_next(d);
		if (c == NULL)
			break;
		if (c->tries == STAGES_TRIES_MAX)
			return fail("a chunk", "too many workers died of it");
		d->result->retries += c->tries > 0;
		c->tries++;
		c->given = true;
		p->chunk = c;
		d->turn = i - WORKERS + 1;
		/* An error is a dead worker: its channel will say so. */
		(void)message_send(d->poll[i].fd, &c->m);
		maybe_kill(d, p);
	}
	return 0;
}

/* Counts a worker that was killed; false: process i ended otherwise. */
static bool
was_killed(struct dispatch *d, unsigned i, int status)
{
	if (i < WORKERS || !WIFSIGNALED(status) || WTERMSIG(status) != SIGKILL)
		return false;
	d->result->workers[i - WORKERS].killed++;
	d->result->killed++;
	return true;
}

/*
 * Process i has ended. A killed worker's chunk is for another, and its place
 * for a new one; any other end before the time ends everything.
 */
static int
lost(struct dispatch *d, unsigned i)
{
	struct chunk *c = d->process[i].chunk;
	int status = process_reap(d, i);

	if (d->process[i].over && status == 0)
		return 0;
	if (was_killed(d, i, status)) {
		if (c != NULL)
			c->given = false;
		return process_start(d, i);
	}
	/* Having failed it has said why. */
	if (WIFEXITED(status) && WEXITSTATUS(status) != 0)
		return 1;
	if (WIFSIGNALED(status))
		return fail(process_name(i), strsignal(WTERMSIG(status)));
	return fail(process_name(i), "it ended before its time");
}

static int
from_reader(struct dispatch *d, const struct message *m)
{
	switch (m->kind) {
	case MESSAGE_INPUT:
		d->result->chunk_bytes = m->bytes;
		d->expected = m->index;
		return 0;
	case MESSAGE_CHUNK:
		d->chunks[m->index % d->plan->window] =
		    (struct chunk){.m = *m, .there = true};
		d->result->chunks++;
		d->result->bytes += m->bytes;
		return 0;
	case MESSAGE_END:
		memcpy(d->result->read, m->digest, sizeof(m->digest));
		d->process[READER].over = true;
		return message_send(d->poll[COLLECTOR].fd, m);
	default:
		return -EBADMSG;
	}
}

static int
from_collector(struct dispatch *d, const struct message *m)
{
	switch (m->kind) {
	case MESSAGE_WRITTEN:
		return message_send(d->poll[READER].fd, m);
	case MESSAGE_END:
		memcpy(d->result->written, m->digest, sizeof(m->digest));
		d->process[COLLECTOR].over = true;
		return 0;
	default:
		return -EBADMSG;
	}
}

static int
from_worker(struct dispatch *d, unsigned i, const struct message *m)
{
	struct chunk *c = d->process[i].chunk;

	if (c == NULL || m->kind != MESSAGE_DONE || m->index != c->m.index)
		return -EBADMSG;
	c->there = false;
	d->process[i].chunk = NULL;
	d->result->workers[i - WORKERS].chunks++;
	return message_send(d->poll[COLLECTOR].fd, m);
}

/* Process i has something to say, or ended. */
static int
hear(struct dispatch *d, unsigned i)
{
	struct message m;
	int got = message_receive(d->poll[i].fd, &m);

	if (got == 0)
		return lost(d, i);
	if (got == 1 && i == READER)
		got = from_reader(d, &m);
	else if (got == 1 && i == COLLECTOR)
		got = from_collector(d, &m);
	else if (got == 1)
		got = from_worker(d, i, &m);
	return got < 0 ? fail(process_name(i), strerror(-got)) : 0;
}

static int
dispatch_loop(struct dispatch *d)
{
	while (!d->process[COLLECTOR].over) {
		if (assign(d) != 0)
			return 1;
		if (poll(d->poll, d->processes, -1) < 0 && errno != EINTR)
			return fail("poll", strerror(errno));
		for (unsigned i = 0; i < d->processes; i++)
			if (d->poll[i].revents != 0 && hear(d, i) != 0)
				return 1;
	}
	return 0;
}

/* Ends what still runs; in peace, when all went well. */
static int
dispatch_end(struct dispatch *d, int status)
{
	int how;

	for (unsigned i = 0; i < d->processes; i++) {
		channel_close(d, i);
		if (status != 0 && d->process[i].pid > 0)
			kill(d->process[i].pid, SIGKILL);
	}
	for (unsigned i = 0; i < d->processes; i++) {
		if (d->process[i].pid == 0)
			continue;
		how = process_reap(d, i);
		if (!was_killed(d, i, how) && how != 0)
			status = 1;
	}
	return status;
}

int
dispatch_run(const struct plan *plan, unsigned workers, unsigned kills,
    struct dispatch_result *result)
{
	struct dispatch d = {.plan = plan, .kills = kills, .result = result};
	int status = 0;

	d.chunks = calloc(plan->window, sizeof(*d.chunks));
	if (d.chunks == NULL)
		return fail("chunks", strerror(errno));
	srandom((unsigned)time(NULL) ^ (unsigned)getpid());
	while (status == 0 && d.processes < WORKERS + workers)
		status = process_start(&d, d.processes++);
	if (status == 0)
		status = dispatch_loop(&d);
	status = dispatch_end(&d, status);
	free(d.chunks);
	return status;
}
