#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/queue.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/daemon.h"
#include "daemon/document.h"
#include "daemon/event.h"
#include "daemon/helper.h"
#include "daemon/peer.h"
#include "daemon/pool.h"
#include "input.h"
#include "kernel.h"
#include "sockets.h"
#include "wire.h"

#define LINES	 64
#define ROOM	 8    /* packets in one direction */
#define SAY_MAX	 1024 /* bytes to the daemon */
#define OVERHEAD 512  /* bytes of a packet, as SIOCOUTQ counts them */
#define WATCHES	 1024
#define JOBS	 64

WRAP(recv);
WRAP(recvmsg);
WRAP(send);
WRAP(sendmsg);
WRAP(shutdown);
WRAP(ioctl);
WRAP(fcntl);
WRAP(ftruncate);
WRAP(getrandom);
WRAP(geteuid);
WRAP(document_seal);
WRAP(peer_refuse_descriptors);
WRAP(daemon_submit);
WRAP(watch_new);
WRAP(watch_set);
WRAP(watch_wake);
WRAP(watch_free);
WRAP(timer_new);
WRAP(timer_start);
WRAP(timer_ensure);
WRAP(timer_stop);
WRAP(timer_free);

/* To the daemon, and from it. */
struct said {
	size_t len;
	bool descriptors;
	uint8_t bytes[SAY_MAX];
};
struct heard {
	size_t len;
	uint8_t bytes[WIRE_MESSAGE_MAX];
};

struct line {
	int fd;	    /* the daemon's end */
	bool open;  /* the fuzzer has not closed its own */
	bool shut;  /* the daemon has shut it down */
	bool reset; /* the fuzzer's end was closed over unread packets */
	unsigned said_at, nsaid, heard_at, nheard;
	struct said said[ROOM];
	struct heard heard[ROOM];
};

struct watch {
	bool used;
	int fd;
	unsigned mask, woken;
	watch_callback callback;
	void *arg;
};

struct timer {
	TAILQ_ENTRY(timer) entry;
	timer_callback callback;
	void *arg;
	bool runs;
	uint64_t due;
};

struct job {
	struct pool *pool;
	uint32_t segment;
	bool attach;
};

static struct line lines[LINES];
static struct line *line_of_fd[KERNEL_FDS]; /* NULL: another kind of thing */
static bool ended[KERNEL_FDS];		    /* pidfds */
static struct watch watches[WATCHES];
static unsigned nwatches; /* beyond it none is used */
static TAILQ_HEAD(, timer) timers = TAILQ_HEAD_INITIALIZER(timers);
static struct job jobs[JOBS];
static unsigned njobs;
static bool job_fails;
static uint64_t random_state;

static struct line *
line_of(int fd)
{
	return kernel_fd_is_open(fd) ? line_of_fd[kernel_fd_index(fd)] : NULL;
}

struct line *
line_open(int *fd)
{
	struct line *l = lines;

	while (l->open || kernel_fd_is_open(l->fd))
		if (++l == lines + LINES)
			return NULL;
	*fd = kernel_fd();
	l->fd = *fd;
	l->open = true;
	l->shut = l->reset = false;
	l->nsaid = l->nheard = 0;
	line_of_fd[kernel_fd_index(*fd)] = l;
	return l;
}

void
line_say(struct line *l, const void *bytes, size_t len, bool descriptors)
{
	struct said *s = &l->said[(l->said_at + l->nsaid) % ROOM];

	if (l->nsaid == ROOM || l->shut || !kernel_fd_is_open(l->fd) ||
	    len > SAY_MAX)
		return;
	l->nsaid++;
	s->len = len;
	s->descriptors = descriptors;
	memcpy(s->bytes, bytes, len);
}

const uint8_t *
line_hear(struct line *l, size_t *len)
{
	struct heard *h = &l->heard[l->heard_at];

	if (l->nheard == 0)
		return NULL;
	l->heard_at = (l->heard_at + 1) % ROOM;
	l->nheard--;
	*len = h->len;
	return h->bytes;
}

void
line_hang_up(struct line *l)
{
	l->open = false;
	l->reset = l->nheard > 0;
	l->nheard = 0;
}

static ssize_t
fail(int err)
{
	errno = err;
	return -1;
}

static ssize_t
take(struct line *l, void *bytes, size_t size, bool *descriptors)
{
	struct said *s = &l->said[l->said_at];
	size_t len = s->len < size ? s->len : size;

	if (l->reset) {
		l->reset = false;
		return fail(ECONNRESET);
	}
	if (l->nsaid == 0)
		return l->open && !l->shut ? fail(EAGAIN) : 0;
	l->said_at = (l->said_at + 1) % ROOM;
	l->nsaid--;
	memcpy(bytes, s->bytes, len);
	*descriptors = s->descriptors;
	return (ssize_t)len;
}

static ssize_t
put(struct line *l, const void *bytes, size_t len)
{
	struct heard *h = &l->heard[(l->heard_at + l->nheard) % ROOM];

	if (!l->open || l->shut)
		return fail(EPIPE);
	if (l->nheard == ROOM)
		return fail(EAGAIN);
	must(len <= sizeof(h->bytes), "a long message");
	l->nheard++;
	h->len = len;
	memcpy(h->bytes, bytes, len);
	return (ssize_t)len;
}

/* This one's kernel takes no descriptors: recvmsg() would tell. */
ssize_t
__wrap_recv(int fd, void *bytes, size_t size, int flags)
{
	struct line *l = line_of(fd);
	bool ignored;

	return l != NULL ? take(l, bytes, size, &ignored)
			 : __real_recv(fd, bytes, size, flags);
}

ssize_t
__wrap_recvmsg(int fd, struct msghdr *msg, int flags)
{
	struct line *l = line_of(fd);
	bool descriptors = false;
	ssize_t len;

	if (l == NULL)
		return __real_recvmsg(fd, msg, flags);
	len = take(
	    l, msg->msg_iov->iov_base, msg->msg_iov->iov_len, &descriptors);
	msg->msg_flags = descriptors ? MSG_CTRUNC : 0;
	return len;
}

ssize_t
__wrap_send(int fd, const void *bytes, size_t len, int flags)
{
	struct line *l = line_of(fd);

	return l != NULL ? put(l, bytes, len)
			 : __real_send(fd, bytes, len, flags);
}

ssize_t
__wrap_sendmsg(int fd, const struct msghdr *msg, int flags)
{
	struct line *l = line_of(fd);

	if (l == NULL)
		return __real_sendmsg(fd, msg, flags);
	must(CMSG_FIRSTHDR(msg) != NULL, "no descriptors where there are some");
	return put(l, msg->msg_iov->iov_base, msg->msg_iov->iov_len);
}

int
__wrap_shutdown(int fd, int how)
{
	struct line *l = line_of(fd);

	if (l == NULL)
		return __real_shutdown(fd, how);
	l->shut = true;
	return 0;
}

int
__wrap_ioctl(int fd, unsigned long request, ...)
{
	struct line *l = line_of(fd);
	va_list ap;
	int *unread;

	va_start(ap, request);
	unread = va_arg(ap, void *);
	va_end(ap);
	if (l == NULL)
		return __real_ioctl(fd, request, unread);
	must(request == SIOCOUTQ, "an unknown request");
	*unread = 0;
	for (unsigned i = 0; i < l->nheard; i++)
		*unread +=
		    (int)l->heard[(l->heard_at + i) % ROOM].len + OVERHEAD;
	return 0;
}

int
__wrap_fcntl(int fd, int command, ...)
{
	struct flock *lock;
	va_list ap;
	void *arg;

	va_start(ap, command);
	arg = va_arg(ap, void *);
	va_end(ap);
	if (!kernel_plays())
		return __real_fcntl(fd, command, arg);
	if (command == F_DUPFD_CLOEXEC)
		return kernel_fd();
	must(command == F_GETLK, "an unknown command");
	lock = arg;
	lock->l_type = F_UNLCK;
	return 0;
}

/* A document's, which none but the daemon may close. */
int
__wrap_ftruncate(int fd, off_t bytes)
{
	if (!kernel_plays())
		return __real_ftruncate(fd, bytes);
	must(kernel_fd_is_open(fd), "a document is closed already");
	return 0;
}

int
__wrap_document_seal(const char *text, size_t len)
{
	must(text[len] == '\0', "a document of another length");
	return kernel_fd();
}

ssize_t
__wrap_getrandom(void *to, size_t bytes, unsigned flags)
{
	if (!kernel_plays())
		return __real_getrandom(to, bytes, flags);
	must(bytes == sizeof(random_state), "random numbers of another size");
	random_state += UINT64_C(0x9e3779b97f4a7c15);
	memcpy(to, &random_state, bytes);
	return (ssize_t)bytes;
}

uid_t
__wrap_geteuid(void)
{
	return kernel_plays() ? 0 : __real_geteuid();
}

/* Some kernels can, and some cannot. */
bool
__wrap_peer_refuse_descriptors(int socket)
{
	return (line_of(socket) - lines) % 2 == 0;
}

void
process_end(int pidfd)
{
	ended[kernel_fd_index(pidfd)] = true;
}

bool
process_ended(int pidfd)
{
	return pidfd >= 0 && ended[kernel_fd_index(pidfd)];
}

int
__wrap_daemon_submit(
    struct daemon *d, struct pool *p, uint32_t segment, struct helper_job *job)
{
	if (!kernel_plays())
		return __real_daemon_submit(d, p, segment, job);
	must(njobs < JOBS, "too many jobs");
	jobs[njobs++] = (struct job){p, segment, job->kind == HELPER_ATTACH};
	return 0;
}

void
helper_fail(void)
{
	job_fails = true;
}

static void
finish_jobs(void)
{
	struct helper_result r;
	struct job j;

	for (unsigned n = njobs; n > 0; n--) {
		j = jobs[0];
		memmove(jobs, jobs + 1, --njobs * sizeof(*jobs));
		r = (struct helper_result){0};
		if (j.attach && job_fails) {
			r = (struct helper_result){
			    .status = -ENOSPC, .needed = 2, .available = 1};
			job_fails = false;
		}
		pool_job_done(j.pool, j.segment, j.attach, &r);
	}
}

static bool
is_ours(const struct watch *w)
{
	return w >= watches && w < watches + WATCHES;
}

int
__wrap_watch_new(struct watch **out, struct loop *loop, int fd, unsigned mask,
    enum loop_priority priority, watch_callback callback, void *arg)
{
	struct watch *w = watches;

	if (!kernel_plays())
		return __real_watch_new(
		    out, loop, fd, mask, priority, callback, arg);
	must(kernel_fd_is_open(fd), "a watch on nothing");
	while (w->used)
		must(++w < watches + WATCHES, "too many watches");
	*w = (struct watch){true, fd, mask, 0, callback, arg};
	if (w >= watches + nwatches)
		nwatches = (unsigned)(w - watches) + 1;
	*out = w;
	return 0;
}

int
__wrap_watch_set(struct watch *w, unsigned mask)
{
	if (!is_ours(w))
		return __real_watch_set(w, mask);
	w->mask = mask;
	return 0;
}

void
__wrap_watch_wake(struct watch *w, unsigned what)
{
	if (is_ours(w))
		w->woken |= what;
	else
		__real_watch_wake(w, what);
}

void
__wrap_watch_free(struct watch *w)
{
	if (!is_ours(w)) {
		__real_watch_free(w);
		return;
	}
	must(w->used && kernel_fd_is_open(w->fd), "a watch on nothing");
	w->used = false;
	while (nwatches > 0 && !watches[nwatches - 1].used)
		nwatches--;
}

static unsigned
readiness(const struct watch *w)
{
	const struct line *l = line_of(w->fd);

	if (l == NULL)
		return ended[kernel_fd_index(w->fd)] ? WATCH_READ : 0;
	return (l->nsaid > 0 || !l->open ? WATCH_READ : 0) |
	       (l->nheard < ROOM ? WATCH_WRITE : 0) |
	       (l->open ? 0 : WATCH_CLOSED);
}

void
loop_turn(void)
{
	struct watch *w;
	unsigned what;

	finish_jobs();
	for (unsigned i = 0; i < nwatches; i++) {
		w = &watches[i];
		if (!w->used)
			continue;
		what = w->woken | (readiness(w) & w->mask);
		w->woken = 0;
		if (what != 0)
			w->callback(w->arg, what);
	}
}

int
__wrap_timer_new(
    struct timer **out, struct loop *loop, timer_callback callback, void *arg)
{
	struct timer *t = calloc(1, sizeof(*t));

	(void)loop;
	must(t != NULL, "memory");
	t->callback = callback;
	t->arg = arg;
	*out = t;
	return 0;
}

void
__wrap_timer_stop(struct timer *t)
{
	if (t->runs)
		TAILQ_REMOVE(&timers, t, entry);
	t->runs = false;
}

int
__wrap_timer_start(struct timer *t, uint32_t ms)
{
	__wrap_timer_stop(t);
	t->runs = true;
	t->due = loop_now_ms() + ms;
	TAILQ_INSERT_TAIL(&timers, t, entry);
	return 0;
}

int
__wrap_timer_ensure(struct timer *t, uint32_t ms)
{
	return t->runs ? 0 : __wrap_timer_start(t, ms);
}

void
__wrap_timer_free(struct timer *t)
{
	if (t != NULL)
		__wrap_timer_stop(t);
	free(t);
}

bool
loop_timer(void)
{
	struct timer *t, *first = TAILQ_FIRST(&timers);
	uint64_t now = loop_now_ms();

	if (first == NULL)
		return false;
	TAILQ_FOREACH (t, &timers, entry)
		first = t->due < first->due ? t : first;
	kernel_pass(first->due > now ? first->due - now : 0);
	__wrap_timer_stop(first);
	first->callback(first->arg);
	return true;
}

void
loop_restart(void)
{
	must(njobs == 0 && TAILQ_EMPTY(&timers), "something is to come");
	must(nwatches == 0, "a watch is left");
	memset(ended, 0, sizeof(ended));
	job_fails = false;
	random_state = 0;
	kernel_restart();
}
