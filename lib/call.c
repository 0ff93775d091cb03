/*
 * Sending requests and handing out the answers. See call.h for the rules.
 */
#include "config.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "call.h"
#include "fork.h"
#include "pool.h"

/* How long a sender sleeps for room when another thread receives, in ms. */
#define ROOM_MS 10

int64_t
clock_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

int64_t
clock_after(int ms)
{
	return ms < 0 ? NEVER : clock_ms() + ms;
}

int
session_enter(struct slabd *s, int *cancel)
{
	if (s == NULL)
		return error_set(-EINVAL, "the connection is NULL; did "
					  "slabd_open() succeed?");
	if (fork_foreign(s->generation))
		return error_plain(-EOWNERDEAD, "handle");
	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, cancel);
	pthread_mutex_lock(&s->lock);
	return 0;
}

/* Somebody asleep gets the role, if nobody has it. */
static void
pass_on(struct slabd *s)
{
	struct slabd_call *next = TAILQ_FIRST(&s->sleepers);

	if (next != NULL && !s->receiving)
		sem_post(&next->wake);
}

void
session_leave(struct slabd *s, int cancel)
{
	pass_on(s);
	pthread_mutex_unlock(&s->lock);
	pthread_setcancelstate(cancel, NULL);
}

void
call_put_u32(struct slabd_call *c, uint32_t value)
{
	struct wire_writer w = {c->small, c->len, sizeof(c->small), false};

	wire_put_u32(&w, value);
	c->body = c->small;
	c->len = w.len;
}

void
call_put_u64(struct slabd_call *c, uint64_t value)
{
	struct wire_writer w = {c->small, c->len, sizeof(c->small), false};

	wire_put_u64(&w, value);
	c->body = c->small;
	c->len = w.len;
}

void
session_news(struct slabd *s)
{
	if (s->news++ == 0 && s->event >= 0)
		eventfd_write(s->event, 1);
}

/* The call is off the list and its `reply` has run. */
static void
finish(struct slabd *s, struct slabd_call *c)
{
	c->done = true;
	if (c->owner == CALL_POSTED)
		free(c);
	else if (c->owner == CALL_KEPT)
		session_news(s);
	else
		/* Under the lock, so it cannot be gone before we are done. */
		sem_post(&c->wake);
}

static void
fail_all(struct slabd *s, struct call_list *list, int err)
{
	struct slabd_call *c;

	while ((c = TAILQ_FIRST(list)) != NULL) {
		TAILQ_REMOVE(list, c, link);
		c->status = err;
		if (c->reply != NULL)
			c->reply(c, NULL);
		finish(s, c);
	}
}

void
session_lost(struct slabd *s, int err)
{
	if (s->socket < 0)
		return;
	/* A forked child's copy would keep the registration alive. */
	if (s->epoll >= 0)
		epoll_ctl(s->epoll, EPOLL_CTL_DEL, s->socket, NULL);
	shutdown(s->socket, SHUT_RDWR);
	close(s->socket);
	s->socket = -1;
	s->broken = false;
	s->lost_at = clock_ms();
	fail_all(s, &s->unsent, err);
	fail_all(s, &s->calls, err);
	session_news(s);
}

static struct slabd_call *
find(struct slabd *s, uint32_t tag)
{
	struct slabd_call *c;

	TAILQ_FOREACH (c, &s->calls, link)
		if (c->tag == tag)
			return c;
	return NULL;
}

/* Only these two refuse with numbers instead of a text. */
static bool
has_text(const struct wire_header *h)
{
	return h->status < 0 && h->type != (WIRE_FREE | WIRE_REPLY) &&
	       !(h->type == (WIRE_FLUSH | WIRE_REPLY) &&
		   h->status == -ECANCELED);
}

static int
answer(struct slabd *s, struct message *m)
{
	struct slabd_call *c = find(s, m->header.tag);
	size_t left = wire_left(&m->body);
	int err = 0;

	if (c == NULL || m->header.type != (c->type | WIRE_REPLY) ||
	    m->header.status < -4095)
		return -EBADMSG;
	c->status = m->header.status;
	if (has_text(&m->header))
		error_copy(c->text, sizeof(c->text),
		    wire_get_bytes(&m->body, left), left);
	if (m->cut && c->status >= 0)
		c->status = -EMFILE;
	if (c->reply != NULL)
		err = c->reply(c, m);
	else if (!wire_done(&m->body))
		err = -EBADMSG;
	TAILQ_REMOVE(&s->calls, c, link);
	if (err < 0)
		c->status = -EPROTO;
	finish(s, c);
	return err;
}

/* One message of `len` bytes in the inbox goes where it belongs. */
static int
deliver(struct slabd *s, struct message *m, size_t len)
{
	int err = wire_open(&m->body, s->inbox, len, &m->header);

	if (err < 0)
		return err;
	if (m->header.type & WIRE_REPLY)
		return answer(s, m);
	/* Requests are ours to make; unknown events are for newer libraries. */
	return m->header.type >= WIRE_EVENT_RETIRED ? pool_event(s, m)
						    : -EBADMSG;
}

static void
close_fds(const struct message *m)
{
	for (unsigned i = 0; i < m->n_fds; i++)
		if (m->fds[i] >= 0)
			close(m->fds[i]);
}

/* What recvmsg() returned, or -errno; m has the descriptors. */
static ssize_t
receive(struct slabd *s, struct message *m, int flags)
{
	_Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(m->fds))];
	struct iovec iov = {s->inbox, sizeof(s->inbox)};
	struct msghdr msg = {.msg_iov = &iov,
	    .msg_iovlen = 1,
	    .msg_control = control,
	    .msg_controllen = sizeof(control)};
	ssize_t len = recvmsg(s->socket, &msg, flags | MSG_CMSG_CLOEXEC);
	struct cmsghdr *c;

	m->n_fds = 0;
	if (len < 0)
		return -errno;
	for (c = CMSG_FIRSTHDR(&msg); c != NULL; c = CMSG_NXTHDR(&msg, c))
		if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS) {
			m->n_fds = (unsigned)((c->cmsg_len - CMSG_LEN(0)) /
					      sizeof(int));
			memcpy(m->fds, CMSG_DATA(c), m->n_fds * sizeof(int));
		}
	m->cut = msg.msg_flags & MSG_CTRUNC;
	return msg.msg_flags & MSG_TRUNC ? -EBADMSG : len;
}

static void send_unsent(struct slabd *);

/* What came of receive(): 1 a message, 0 none, negative: connection lost. */
static int
take(struct slabd *s, struct message *m, ssize_t len)
{
	int err;

	/*
	 * A peer that died with our words unread shows as ECONNRESET first,
	 * and what it had said comes after that.
	 */
	if (len == -EAGAIN || len == -EINTR || len == -ECONNRESET)
		return 0;
	/* The inbox is in use: what `reply` posts must not receive into it. */
	s->receiving = true;
	err = len == 0	? -ENOTCONN
	      : len < 0 ? (int)len
			: deliver(s, m, (size_t)len);
	s->receiving = false;
	close_fds(m);
	if (err < 0) {
		session_lost(s, err == -EBADMSG ? -EPROTO : -ENOTCONN);
		return err;
	}
	send_unsent(s);
	return 1;
}

/* As receiver, without waiting; the lock is kept. */
static int
take_now(struct slabd *s)
{
	struct message m;
	ssize_t len = receive(s, &m, MSG_DONTWAIT);

	if (len == -ECONNRESET)
		len = receive(s, &m, MSG_DONTWAIT);
	return take(s, &m, len);
}

void
session_drain(struct slabd *s)
{
	while (!s->receiving && s->socket >= 0 && take_now(s) > 0)
		continue;
}

/* Waits in the socket for `events`: 0, -ETIMEDOUT or -EINTR. */
static int
wait_socket(int fd, short events, int64_t deadline, bool interruptible)
{
	struct pollfd p = {.fd = fd, .events = events};
	int64_t left;
	int n;

	do {
		left = deadline == NEVER ? -1 : deadline - clock_ms();
		if (deadline != NEVER && left < 0)
			left = 0;
		n = poll(&p, 1, left > INT_MAX ? INT_MAX : (int)left);
	} while (n < 0 && errno == EINTR && !interruptible);
	return n > 0 ? 0 : n == 0 ? -ETIMEDOUT : -EINTR;
}

/* Being the receiver until one message came. */
static int
lead(struct slabd *s, int64_t deadline, bool interruptible)
{
	bool patient = deadline == NEVER && !interruptible;
	struct message m = {.n_fds = 0};
	ssize_t len = 0;
	int err = 0;

	s->receiving = true;
	pthread_mutex_unlock(&s->lock);
	if (!patient)
		err = wait_socket(s->socket, POLLIN, deadline, interruptible);
	if (err == 0)
		len = receive(s, &m, patient ? 0 : MSG_DONTWAIT);
	pthread_mutex_lock(&s->lock);
	s->receiving = false;
	if (err == 0)
		take(s, &m, len);
	return err;
}

/* Asleep until the call is answered or the role is free. */
static int
follow(struct slabd *s, struct slabd_call *c, int64_t deadline)
{
	struct timespec until = {.tv_sec = (time_t)(deadline / 1000),
	    .tv_nsec = (long)(deadline % 1000) * 1000000};
	int r;

	TAILQ_INSERT_TAIL(&s->sleepers, c, nap);
	pthread_mutex_unlock(&s->lock);
	r = deadline == NEVER
		? sem_wait(&c->wake)
		: sem_clockwait(&c->wake, CLOCK_MONOTONIC, &until);
	r = r < 0 ? -errno : 0;
	pthread_mutex_lock(&s->lock);
	TAILQ_REMOVE(&s->sleepers, c, nap);
	return r == -EINTR && !c->interruptible ? 0 : r;
}

int
call_await(struct slabd *s, struct slabd_call *c, int64_t deadline)
{
	int err = 0;

	while (!c->done && err == 0)
		err = s->receiving ? follow(s, c, deadline)
				   : lead(s, deadline, c->interruptible);
	return c->done ? 0 : err;
}

/* As receiver, so that threads wait for the one that connects. */
static int
reconnect(struct slabd *s, struct slabd_call *c)
{
	const char *why = slabd_error_detail();
	int64_t deadline =
	    s->reconnect_ms < 0 ? NEVER : s->lost_at + s->reconnect_ms;
	struct greeting g;
	int err;

	s->receiving = true;
	pthread_mutex_unlock(&s->lock);
	err = session_connect(s, deadline, &g);
	pthread_mutex_lock(&s->lock);
	s->receiving = false;
	if (err < 0) {
		error_copy(c->text, sizeof(c->text), why, strlen(why));
		return -ENOTCONN;
	}
	session_install(s, &g);
	return 0;
}

/* A dead socket was met while sending. */
static void
broken(struct slabd *s)
{
	if (s->receiving) {
		/* Ends the receiver's sleep, after what came before. */
		s->broken = true;
		shutdown(s->socket, SHUT_RDWR);
		return;
	}
	session_drain(s);
	session_lost(s, -ENOTCONN);
}

int
call_ready(struct slabd *s, struct slabd_call *c, bool wait)
{
	int err = 0;

	while (err == 0 && (s->socket < 0 || s->broken)) {
		if (!wait)
			err = -ENOTCONN;
		else if (s->receiving)
			follow(s, c, NEVER);
		else if (s->broken)
			broken(s);
		else
			err = reconnect(s, c);
	}
	if (err == 0 && c->pool != NULL && c->pool->epoch != s->epoch)
		err = -ENOTRECOVERABLE;
	return err;
}

/*
 * One try: 0, -EAGAIN (no room), -ENOTCONN (and it is known), -ENOMEM,
 * -EMSGSIZE. One piece of memory is cheaper to send than two.
 */
static int
transmit(struct slabd *s, struct slabd_call *c)
{
	struct wire_header h = {.type = c->type,
	    .flags = c->flags,
	    .tag = c->tag,
	    .attachment = c->attachment};
	struct wire_writer w;

	wire_begin(&w, s->outbox, sizeof(s->outbox), &h);
	wire_put_bytes(&w, c->body, c->len);
	if (w.bad)
		return -EMSGSIZE;
	if (send(s->socket, w.buf, w.len, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0) {
		c->sent = true;
		TAILQ_INSERT_TAIL(&s->calls, c, link);
		return 0;
	}
	if (errno == EAGAIN || errno == EINTR)
		return -EAGAIN;
	if (errno == ENOBUFS || errno == ENOMEM)
		return -ENOMEM;
	broken(s);
	return -ENOTCONN;
}

/*
 * Sleeps until the daemon may have read something. Room is announced to nobody
 * but a thread that polls, so behind another receiver look again after a while.
 */
static void
wait_room(struct slabd *s, struct slabd_call *c)
{
	if (s->receiving) {
		follow(s, c, clock_after(ROOM_MS));
		return;
	}
	s->receiving = true;
	pthread_mutex_unlock(&s->lock);
	wait_socket(s->socket, POLLIN | POLLOUT, NEVER, false);
	pthread_mutex_lock(&s->lock);
	s->receiving = false;
	session_drain(s);
}

static void
number(struct slabd *s, struct slabd_call *c)
{
	do
		c->tag = ++s->tag;
	while (c->tag == 0 || find(s, c->tag) != NULL);
	if (c->pool != NULL)
		c->attachment = c->pool->attachment;
	c->sent = c->done = false;
	c->status = 0;
	c->text[0] = '\0';
	sem_init(&c->wake, 0, 0);
}

int
call_start(struct slabd *s, struct slabd_call *c, bool wait)
{
	int err;

	number(s, c);
	while ((err = call_ready(s, c, wait)) == 0) {
		send_unsent(s);
		err = TAILQ_EMPTY(&s->unsent) ? transmit(s, c) : -EAGAIN;
		if (err == 0)
			return 0;
		if (err == -EAGAIN && wait)
			wait_room(s, c);
		else if (err != -ENOTCONN || !wait)
			break;
	}
	c->status = err;
	c->done = true;
	if (c->reply != NULL)
		c->reply(c, NULL);
	return err;
}

int
call_result(const struct slabd_call *c)
{
	const char *name;

	if (c->status >= 0)
		return c->status;
	name = wire_type_name(c->type);
	if (c->text[0] != '\0')
		return error_set(c->status, "%s", c->text);
	name = name != NULL ? name : "call";
	return c->pool != NULL ? pool_error(c->pool, c->status, name)
			       : error_plain(c->status, name);
}

int
call_run(struct slabd *s, struct slabd_call *c)
{
	if (call_start(s, c, true) == 0)
		call_await(s, c, NEVER);
	return call_result(c);
}

/* Sends what was posted when there was no room, in order. */
static void
send_unsent(struct slabd *s)
{
	struct slabd_call *c;

	while (s->socket >= 0 && !s->broken &&
	       (c = TAILQ_FIRST(&s->unsent)) != NULL) {
		TAILQ_REMOVE(&s->unsent, c, link);
		if (transmit(s, c) == 0)
			continue;
		TAILQ_INSERT_HEAD(&s->unsent, c, link);
		return;
	}
}

void
call_post(struct slabd *s, struct slabd_call *c)
{
	c->owner = CALL_POSTED;
	number(s, c);
	if (s->socket < 0) {
		free(c);
		return;
	}
	TAILQ_INSERT_TAIL(&s->unsent, c, link);
	send_unsent(s);
}

int
call_ignore(struct slabd_call *c, struct message *m)
{
	(void)c;
	(void)m;
	return 0;
}

void
call_run_here(struct slabd *s, struct slabd_call *c, int64_t deadline)
{
	while (call_start(s, c, false) == -EAGAIN)
		wait_room(s, c);
	if (c->sent)
		call_await(s, c, deadline);
}

/* Withdraws a waiting call; an answer that crossed this one counts. */
static void
cancel(struct slabd *s, struct slabd_call *c)
{
	struct slabd_call k = {
	    .type = WIRE_CANCEL, .pool = c->pool, .reply = call_ignore};

	c->interruptible = false;
	call_put_u32(&k, c->tag);
	call_run_here(s, &k, NEVER);
	call_await(s, c, NEVER);
}

int
call_run_until(struct slabd *s, struct slabd_call *c, int64_t deadline)
{
	int err;

	c->interruptible = true;
	if (call_start(s, c, true) < 0)
		return 0;
	err = call_await(s, c, deadline);
	if (err < 0)
		cancel(s, c);
	return err;
}

void
call_abandon(struct slabd_call *c)
{
	c->owner = CALL_POSTED;
	c->pool = NULL;
	c->reply = call_ignore;
}
