/*
 * Opening and closing connections, and an event loop's side of them.
 */
#include "config.h"

#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <sys/un.h>
#include <fcntl.h>
#include <time.h>
#include <unistd.h>

#include "call.h"
#include "connection.h"
#include "fork.h"
#include "pool.h"

#define CROWD_MS    1000 /* for a daemon with a full backlog to accept */
#define PATHS_MAX   2
#define SYSTEM_PATH "/run/slabd/slabd.sock"
/* The kernel takes one byte more, but not every tool does. */
#define PATH_MAX_BYTES (sizeof(((struct sockaddr_un *)0)->sun_path) - 1)

/* Why a socket could not be connected, with what to do about it. */
static int
explain(int err, const char *path)
{
	switch (-err) {
	case ENOENT:
		return error_set(err,
		    "%s: no daemon has made this socket; "
		    "start slabd or set SLABD_SOCKET",
		    path);
	case ENOTSOCK:
		return error_set(err,
		    "%s: it is not a socket; "
		    "name the one slabd listens on",
		    path);
	case EPROTOTYPE:
		return error_set(err,
		    "%s: it is another program's socket; "
		    "name the one slabd listens on",
		    path);
	case ENAMETOOLONG:
		return error_set(err,
		    "a socket's path has at most %zu bytes, not %zu: %s",
		    PATH_MAX_BYTES, strlen(path), path);
	case ECONNREFUSED:
		return error_set(err,
		    "%s: nobody listens there any more; "
		    "start slabd again",
		    path);
	case EACCES:
		return error_set(err,
		    "%s: not allowed to open it; ask to join "
		    "the socket's group (ls -l shows it)",
		    path);
	case EAGAIN:
		return error_set(err,
		    "%s: the daemon does not accept new "
		    "connections; it may be stopped",
		    path);
	case ETIMEDOUT:
		return error_set(err,
		    "%s: connected, but the daemon does not "
		    "answer; it may be stopped",
		    path);
	}
	return error_plain(err, path);
}

/* What refused may be no socket at all, which connect() does not tell. */
static int
refused_by(const char *path)
{
	struct stat st;

	return stat(path, &st) == 0 && !S_ISSOCK(st.st_mode) ? -ENOTSOCK
							     : -ECONNREFUSED;
}

/* A connected blocking socket, or -errno. */
static int
dial(const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd, err;

	if (strlen(path) > PATH_MAX_BYTES)
		return -ENAMETOOLONG;
	strcpy(address.sun_path, path);
	fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	/* Non-blocking only here: a full backlog would hold us for ever. */
	if (connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0 &&
	    fcntl(fd, F_SETFL, 0) == 0)
		return fd;
	err = errno == ECONNREFUSED ? refused_by(path) : -errno;
	close(fd);
	return err;
}

/*
 * Connects and sends HELLO: the socket, or -errno. Who is turned away finds the
 * answer there before it has asked, and then, since the daemon has hung up,
 * sends in vain and meets a reset before the answer.
 */
static int
ask(const struct slabd *s, const char *path)
{
	uint8_t buf[WIRE_HEADER_BYTES + 64 + WIRE_LABEL_MAX];
	struct wire_header h = {.type = WIRE_HELLO, .tag = 1};
	struct wire_writer w;
	int fd = dial(path), err;

	if (fd < 0)
		return fd;
	wire_begin(&w, buf, sizeof(buf), &h);
	wire_put_u32(&w, WIRE_MAGIC);
	wire_put_u16(&w, WIRE_VERSION);
	wire_put_u16(&w, WIRE_VERSION);
	wire_put_u64(&w, 0);
	wire_put_u64(&w, s->session);
	wire_put_u64(&w, s->token);
	wire_put_string(&w, s->label, WIRE_LABEL_MAX);
	if (send(fd, buf, w.len, MSG_NOSIGNAL | MSG_DONTWAIT) >= 0 ||
	    errno == EPIPE || errno == ECONNRESET)
		return fd;
	err = -errno;
	close(fd);
	return err;
}

int
hello_send(const struct slabd *s)
{
	int fd = ask(s, s->path);

	return fd < 0 ? explain(fd, s->path) : fd;
}

int
hello_explain(const struct slabd *s, int err)
{
	return explain(err, s->path);
}

/* Waits for the answer in `buf`: its length, or -errno. */
static ssize_t
await_hello(int fd, uint8_t *buf, size_t cap)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};
	int64_t deadline = clock_after(HELLO_MS), left;
	ssize_t len;

	do {
		left = deadline - clock_ms();
		if (left < 0 || poll(&p, 1, (int)left) == 0)
			return -ETIMEDOUT;
		len = recv(fd, buf, cap, MSG_DONTWAIT);
	} while (len < 0 &&
		 (errno == EAGAIN || errno == EINTR || errno == ECONNRESET));
	return len < 0 ? -errno : len;
}

/* A refusal may have come before the question. */
int
hello_read(struct greeting *g, const uint8_t *buf, size_t len)
{
	char version[64], text[ERROR_TEXT_BYTES];
	struct wire_header h;
	struct wire_reader r;

	if (wire_open(&r, buf, len, &h) < 0 ||
	    h.type != (WIRE_HELLO | WIRE_REPLY) || h.status < -4095 ||
	    (h.tag != 1 && (h.tag != 0 || h.status >= 0)))
		return error_plain(-EPROTO, "HELLO");
	if (h.status < 0) {
		len = wire_left(&r);
		error_copy(text, sizeof(text), wire_get_bytes(&r, len), len);
		return error_set(h.status, "%s",
		    text[0] != '\0' ? text : slabd_strerror(h.status));
	}
	if (wire_get_u16(&r) != WIRE_VERSION)
		return error_plain(-EPROTO, "HELLO");
	wire_get_u16(&r);
	wire_get_u32(&r);
	wire_get_u64(&r);
	g->session = wire_get_u64(&r);
	g->token = wire_get_u64(&r);
	wire_get_u64(&r);
	wire_get_u32(&r);
	wire_get_string(&r, version, sizeof(version));
	if (!wire_done(&r) || g->session == 0)
		return error_plain(-EPROTO, "HELLO");
	return 0;
}

/* Connects and says hello: the socket or -errno, explained. */
static int
greet(const struct slabd *s, const char *path, struct greeting *g)
{
	uint8_t buf[WIRE_HEADER_BYTES + ERROR_TEXT_BYTES];
	ssize_t len;
	int fd = ask(s, path), err;

	if (fd < 0)
		return explain(fd, path);
	len = await_hello(fd, buf, sizeof(buf));
	/* A daemon that is about to end accepts, and hangs up. */
	if (len == 0)
		len = -ECONNREFUSED;
	err =
	    len < 0 ? explain((int)len, path) : hello_read(g, buf, (size_t)len);
	if (err == 0)
		return fd;
	close(fd);
	return err;
}

/* Where to look, in order: how many; `buf` holds what is put together. */
static int
candidates(
    const struct slabd *s, const char *paths[PATHS_MAX], char *buf, size_t cap)
{
	const char *env = secure_getenv("SLABD_SOCKET");
	const char *dir = secure_getenv("XDG_RUNTIME_DIR");
	int n = 0;

	if (s->path != NULL || (env != NULL && env[0] != '\0')) {
		paths[0] = s->path != NULL ? s->path : env;
		return 1;
	}
	if (dir != NULL && dir[0] == '/' &&
	    (size_t)snprintf(buf, cap, "%s/slabd/slabd.sock", dir) < cap)
		paths[n++] = buf;
	paths[n++] = SYSTEM_PATH;
	return n;
}

/* From now on this is where the daemon is. */
static int
settle(struct slabd *s, const char *path, int fd)
{
	if (s->path == NULL && (s->path = strdup(path)) == NULL) {
		close(fd);
		return error_plain(-ENOMEM, "open");
	}
	return fd;
}

/* One round of the places: a socket, or the failure that says most. */
static int
try_all(struct slabd *s, struct greeting *g)
{
	const char *paths[PATHS_MAX];
	char buf[PATH_MAX_BYTES + 1], said[ERROR_TEXT_BYTES];
	int n = candidates(s, paths, buf, sizeof(buf)), err = -ENOENT, before;

	for (int i = 0; i < n; i++) {
		before = err;
		strcpy(said, slabd_error_detail());
		err = greet(s, paths[i], g);
		if (err >= 0)
			return settle(s, paths[i], err);
		/* "No such file" says least: keep what an earlier one said. */
		if (err == -ENOENT && before != -ENOENT)
			err = error_set(before, "%s", said);
	}
	return err;
}

/* The same until the deadline: 0 or -errno. */
static int
first_connection(struct slabd *s, int64_t deadline)
{
	int64_t crowd = clock_after(CROWD_MS), until;
	struct timespec pause = {0, PAUSE_MS * 1000000L};
	struct greeting g;
	int err;

	while ((err = try_all(s, &g)) < 0) {
		if (err != -ENOENT && err != -ECONNREFUSED && err != -EAGAIN)
			return err;
		until = err == -EAGAIN && crowd > deadline ? crowd : deadline;
		if (clock_ms() >= until)
			return err;
		nanosleep(&pause, NULL);
		pause.tv_nsec *= 2;
		if (pause.tv_nsec > PAUSE_MAX * 1000000L)
			pause.tv_nsec = PAUSE_MAX * 1000000L;
	}
	s->socket = err;
	s->phase = SESSION_READY;
	s->session = g.session;
	s->token = g.token;
	return 0;
}

/* The caller's options, whatever version of the struct it was built with. */
static int
read_options(struct slabd_options *to, const struct slabd_options *from)
{
	const unsigned char *rest = (const unsigned char *)from;

	if (from == NULL)
		return error_set(-EINVAL, "options: NULL; start from "
					  "SLABD_OPTIONS_INIT");
	if (from->size < sizeof(*to))
		return error_set(-EINVAL,
		    "options: size is %u, not %zu; start "
		    "from SLABD_OPTIONS_INIT",
		    from->size, sizeof(*to));
	for (size_t i = sizeof(*to); i < from->size; i++)
		if (rest[i] != 0)
			return error_set(-EINVAL, "options: this library does "
						  "not know all of them");
	*to = *from;
	if (to->flags != 0)
		return error_set(
		    -EINVAL, "options: unknown flags %#x", to->flags);
	if (to->label != NULL && strlen(to->label) > WIRE_LABEL_MAX)
		return error_set(-EINVAL,
		    "options: the label is longer than "
		    "%u bytes",
		    WIRE_LABEL_MAX);
	return 0;
}

static void
session_free(struct slabd *s)
{
	if (s->socket >= 0)
		close(s->socket);
	if (s->epoll >= 0)
		close(s->epoll);
	if (s->event >= 0)
		close(s->event);
	if (s->timer >= 0)
		close(s->timer);
	free(s->path);
	free(s);
}

static struct slabd *
session_new(const struct slabd_options *opt)
{
	struct slabd *s = calloc(1, sizeof(*s));

	if (s == NULL)
		return NULL;
	s->socket = s->epoll = s->event = s->timer = -1;
	pthread_mutex_init(&s->lock, NULL);
	TAILQ_INIT(&s->calls);
	TAILQ_INIT(&s->unsent);
	TAILQ_INIT(&s->sleepers);
	LIST_INIT(&s->pools);
	s->reconnect_ms = opt->reconnect_ms;
	if (opt->label != NULL)
		strcpy(s->label, opt->label);
	if (opt->socket_path != NULL)
		s->path = strdup(opt->socket_path);
	s->generation = fork_generation();
	if (s->generation == 0 || (opt->socket_path != NULL && !s->path)) {
		session_free(s);
		return NULL;
	}
	return s;
}

int
slabd_open_options(struct slabd **out, const struct slabd_options *opt)
{
	struct slabd_options o = SLABD_OPTIONS_INIT;
	struct slabd *s;
	int err, cancel;

	*out = NULL;
	err = read_options(&o, opt);
	if (err < 0)
		return err;
	s = session_new(&o);
	if (s == NULL)
		return error_plain(-ENOMEM, "open");
	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel);
	err = first_connection(s, clock_after(o.connect_ms));
	pthread_setcancelstate(cancel, NULL);
	if (err < 0) {
		session_free(s);
		return err;
	}
	*out = s;
	return 0;
}

int
slabd_open(struct slabd **out, const char *socket_path)
{
	struct slabd_options opt = SLABD_OPTIONS_INIT;

	opt.socket_path = socket_path;
	return slabd_open_options(out, &opt);
}

/*
 * Whether to say it once more to a daemon that is away: where there is no lane
 * only this process's end could tell it later.
 */
static bool
is_unheard(const struct slabd *s, int64_t deadline)
{
	const struct slabd_pool *p;

	if (s->reconnect_ms == 0 || s->session == 0 || clock_ms() >= deadline)
		return false;
	LIST_FOREACH (p, &s->pools, link)
		if (p->lane.header == NULL && pool_is_current(p))
			return true;
	return false;
}

/*
 * Says goodbye and waits until everything is given back. A daemon that is away
 * gets one chance to hear it: otherwise what can tell it later are the lanes.
 */
static void
say_bye(struct slabd *s)
{
	int64_t deadline = clock_after(HELLO_MS);
	const struct timespec pause = {0, PAUSE_MS * 1000000L};
	struct slabd_call c;

	for (int tries = 0; tries < 2 || is_unheard(s, deadline); tries++) {
		c = (struct slabd_call){.type = WIRE_BYE, .reply = call_ignore};
		if (tries > 1)
			nanosleep(&pause, NULL);
		if (s->phase == SESSION_AWAY && s->session != 0 &&
		    !LIST_EMPTY(&s->pools))
			session_knock(s);
		call_run_here(s, &c, deadline);
		if (c.status != -ENOTCONN)
			break;
	}
	/* If it is not answered it must not outlive this frame. */
	session_end(s, -ENOTCONN);
}

void
slabd_close(struct slabd *s)
{
	struct slabd_pool *p;
	int cancel;

	if (s == NULL)
		return;
	if (!fork_foreign(s->generation) && session_enter(s, &cancel) == 0) {
		LIST_FOREACH (p, &s->pools, link)
			pool_goodbye(p);
		say_bye(s);
		session_leave(s, cancel);
	}
	while ((p = LIST_FIRST(&s->pools)) != NULL)
		pool_free(p);
	session_free(s);
}

static bool
watch(const struct slabd *s, int fd)
{
	struct epoll_event in = {.events = EPOLLIN};

	return epoll_ctl(s->epoll, EPOLL_CTL_ADD, fd, &in) == 0;
}

/* The descriptors of slabd_fd(); nothing is lost if half of it fails. */
static int
fd_make(struct slabd *s)
{
	if (s->event < 0)
		s->event = eventfd(s->news > 0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (s->timer < 0)
		s->timer =
		    timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	if (s->event < 0 || s->timer < 0)
		return -errno;
	s->epoll = epoll_create1(EPOLL_CLOEXEC);
	if (s->epoll < 0)
		return -errno;
	if (watch(s, s->event) && watch(s, s->timer) &&
	    (s->socket < 0 || watch(s, s->socket))) {
		session_alarm(s);
		return 0;
	}
	close(s->epoll);
	s->epoll = -1;
	return -ENOMEM;
}

int
slabd_fd(struct slabd *s)
{
	int cancel, err = session_enter(s, &cancel);

	if (err < 0)
		return err;
	if (s->epoll < 0)
		err = fd_make(s);
	if (err == 0)
		err = s->epoll;
	session_leave(s, cancel);
	return err < 0 ? error_plain(err, "slabd_fd") : err;
}

int
slabd_dispatch(struct slabd *s)
{
	int cancel, err = session_enter(s, &cancel);
	eventfd_t dropped;
	bool crowded;

	if (err < 0)
		return err;
	session_poll(s, !session_is_given_up(s));
	if (s->phase != SESSION_READY)
		session_alarm(s);
	if (s->news > 0 && s->event >= 0)
		eventfd_read(s->event, &dropped);
	err = s->phase == SESSION_AWAY && session_is_given_up(s) ? -ENOTCONN
								 : (int)s->news;
	s->news = 0;
	crowded = err == 0 && s->receiving;
	session_leave(s, cancel);
	/*
	 * What made slabd_fd() readable is another thread's to take, and until
	 * that has run whoever polls would spin: let it.
	 */
	if (crowded)
		sched_yield();
	return err < 0 ? error_plain(err, "slabd_dispatch") : err;
}
