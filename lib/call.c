/*
 * Sending requests and handing out the answers. See call.h for the rules.
 */
#include "config.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "call.h"
#include "fork.h"
#include "pool.h"

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

struct slabd_call *
call_copy(const struct slabd_call *c, size_t room)
{
	struct slabd_call *copy = malloc(sizeof(*copy) + room);

	if (copy == NULL)
		return NULL;
	*copy = *c;
	if (c->body == c->small)
		copy->body = copy->small;
	return copy;
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

void
call_fail(struct slabd *s, struct slabd_call *c, int err)
{
	c->status = err;
	if (c->reply != NULL)
		c->reply(c, NULL);
	finish(s, c);
}

static struct slabd_call *
find(struct call_list *list, uint32_t tag)
{
	struct slabd_call *c;

	TAILQ_FOREACH (c, list, link)
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
	struct slabd_call *c = find(&s->calls, m->header.tag);
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
	/* The daemon before had done it. */
	if (c->type == WIRE_DETACH && c->status == -EBADF)
		c->status = 0;
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
	int err;

	if (s->phase == SESSION_GREETING)
		return session_greeted(s, len);
	if (len == 0)
		return -ENOTCONN;
	err = wire_open(&m->body, s->inbox, len, &m->header);
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
	err = len < 0 ? (int)len : deliver(s, m, (size_t)len);
	if (err == 0 && s->phase == SESSION_RESUMING && s->resume.done)
		session_resume(s);
	s->receiving = false;
	close_fds(m);
	if (err == -EBADMSG)
		session_end(s, -EPROTO);
	else if (err < 0)
		session_lost(s);
	send_unsent(s);
	return err < 0 ? err : 1;
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

/* Being the receiver until one message came, or there is room to send. */
static int
lead(struct slabd *s, int64_t deadline, bool interruptible)
{
	bool greeting = s->phase == SESSION_GREETING;
	bool full = s->phase == SESSION_READY && !TAILQ_EMPTY(&s->unsent);
	bool late = greeting && s->greet_by < deadline;
	int64_t until = late ? s->greet_by : deadline;
	bool patient = until == NEVER && !interruptible && !full;
	struct message m = {.n_fds = 0};
	ssize_t len = 0;
	int err = 0;

	s->receiving = true;
	pthread_mutex_unlock(&s->lock);
	if (!patient)
		err = wait_socket(s->socket, full ? POLLIN | POLLOUT : POLLIN,
		    until, interruptible);
	if (err == 0)
		len = receive(s, &m, patient ? 0 : MSG_DONTWAIT);
	pthread_mutex_lock(&s->lock);
	s->receiving = false;
	if (err == 0) {
		take(s, &m, len);
		send_unsent(s);
	} else if (late && err == -ETIMEDOUT) {
		session_unanswered(s);
		err = 0;
	}
	return err;
}

/* Asleep until it is time to knock, and then knocks. */
static int
come_back(struct slabd *s, int64_t deadline, bool interruptible)
{
	int64_t until = session_next_try(s), now = clock_ms();
	struct timespec at;
	int err;

	if (now >= until || session_is_given_up(s)) {
		session_knock(s);
		return 0;
	}
	if (now >= deadline)
		return -ETIMEDOUT;
	if (until > deadline)
		until = deadline;
	at.tv_sec = (time_t)(until / 1000);
	at.tv_nsec = (long)(until % 1000) * 1000000;
	s->receiving = true;
	pthread_mutex_unlock(&s->lock);
	err = clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL);
	pthread_mutex_lock(&s->lock);
	s->receiving = false;
	return err == EINTR && interruptible ? -EINTR : 0;
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
		if (c->here && s->phase == SESSION_AWAY)
			err = -ENOTCONN;
		else if (s->receiving)
			err = follow(s, c, deadline);
		else if (s->phase == SESSION_AWAY)
			err = come_back(s, deadline, c->interruptible);
		else
			err = lead(s, deadline, c->interruptible);
	return c->done ? 0 : err;
}

/* A dead socket was met while sending. */
static void
broken(struct slabd *s)
{
	s->broken = true;
	if (s->receiving) {
		/* Ends the receiver's sleep, after what came before. */
		shutdown(s->socket, SHUT_RDWR);
		return;
	}
	session_drain(s);
	session_lost(s);
}

int
call_again(const struct slabd_call *c)
{
	switch (c->type) {
	case WIRE_ATTACH:
	case WIRE_ALLOC:
	case WIRE_FREE:
	case WIRE_SEND:
	case WIRE_SHARE:
	case WIRE_RECEIVE:
	case WIRE_RECALL:
		return c->flags | WIRE_AGAIN;
	case WIRE_PING:
	case WIRE_DETACH:
	case WIRE_EXTEND:
	case WIRE_CANCEL:
	case WIRE_FLUSH:
	case WIRE_HELD:
	case WIRE_STATS:
	case WIRE_HOLDERS:
	case WIRE_CONFIG:
	case WIRE_AUDIT:
		return c->flags;
	}
	return -1;
}

/*
 * One try, as call_transmit(). After -ENOTCONN a call that is in a list may be
 * gone. One piece of memory is cheaper to send than two.
 */
static int
transmit(struct slabd *s, const struct slabd_call *c)
{
	struct wire_header h = {.type = c->type,
	    .flags = (uint16_t)(c->sent ? call_again(c) : c->flags),
	    .tag = c->tag,
	    .attachment = c->attachment};
	struct wire_writer w;

	wire_begin(&w, s->outbox, sizeof(s->outbox), &h);
	wire_put_bytes(&w, c->body, c->len);
	if (w.bad)
		return -EMSGSIZE;
	if (send(s->socket, w.buf, w.len, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0)
		return 0;
	if (errno == EAGAIN || errno == EINTR)
		return -EAGAIN;
	if (errno == ENOBUFS || errno == ENOMEM)
		return -ENOMEM;
	broken(s);
	return -ENOTCONN;
}

/* It is on its way. */
static void
sent(struct slabd *s, struct slabd_call *c)
{
	c->sent = true;
	TAILQ_INSERT_TAIL(&s->calls, c, link);
}

int
call_transmit(struct slabd *s, struct slabd_call *c)
{
	int err = transmit(s, c);

	if (err == 0)
		sent(s, c);
	return err;
}

void
call_number(struct slabd *s, struct slabd_call *c)
{
	do
		c->tag = ++s->tag;
	while (c->tag == 0 || find(&s->calls, c->tag) != NULL ||
	       find(&s->unsent, c->tag) != NULL);
	if (c->pool != NULL)
		c->attachment = c->pool->attachment;
	c->session = s;
	c->epoch = s->epoch;
	c->sent = c->done = false;
	c->status = 0;
	c->text[0] = '\0';
	sem_init(&c->wake, 0, 0);
}

/* Sends what is queued, in order, as far as there is room. */
static void
send_unsent(struct slabd *s)
{
	struct slabd_call *c;
	int err;

	while (s->phase == SESSION_READY && !s->broken &&
	       (c = TAILQ_FIRST(&s->unsent)) != NULL) {
		err = transmit(s, c);
		if (err == -EAGAIN || err == -ENOTCONN ||
		    (err == -ENOMEM && c->owner == CALL_POSTED))
			return;
		TAILQ_REMOVE(&s->unsent, c, link);
		if (err == 0)
			sent(s, c);
		else
			call_fail(s, c, err);
	}
}

static void
enqueue(struct slabd *s, struct slabd_call *c)
{
	TAILQ_INSERT_TAIL(&s->unsent, c, link);
	send_unsent(s);
}

int
call_ready(struct slabd *s, struct slabd_call *c)
{
	if (s->phase != SESSION_READY)
		session_poll(s, true);
	if (session_lacks(s, c))
		return -ENOTRECOVERABLE;
	if (s->phase == SESSION_READY && !s->broken)
		return 0;
	return s->phase == SESSION_AWAY && session_is_given_up(s) ? -ENOTCONN
								  : -EAGAIN;
}

int
call_start(struct slabd *s, struct slabd_call *c, bool wait)
{
	int err;

	call_number(s, c);
	if (wait && !session_lacks(s, c)) {
		enqueue(s, c);
		return 0;
	}
	err = call_ready(s, c);
	if (err == 0)
		err = TAILQ_EMPTY(&s->unsent) ? call_transmit(s, c) : -EAGAIN;
	if (err == 0)
		return 0;
	/* It was found dead by this very call, and may be back for the next. */
	if (err == -ENOTCONN && s->reconnect_ms != 0 &&
	    !(s->phase == SESSION_AWAY && session_is_given_up(s)))
		err = -EAGAIN;
	if (err == -ENOTCONN)
		error_copy(c->text, sizeof(c->text), s->why, strlen(s->why));
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

void
call_post(struct slabd *s, struct slabd_call *c)
{
	c->owner = CALL_POSTED;
	call_number(s, c);
	if (session_lacks(s, c))
		call_fail(s, c, -ENOTRECOVERABLE);
	else
		enqueue(s, c);
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
	c->here = true;
	if (call_start(s, c, true) == 0 &&
	    call_await(s, c, deadline) == -ENOTCONN)
		session_let_go(s, c, -ENOTCONN);
}

/*
 * Withdraws a waiting call; an answer that crossed this one counts. While the
 * daemon is away its copy follows, and after it that this is withdrawn.
 */
static void
withdraw(struct slabd *s, struct slabd_call *c)
{
	struct slabd_call k = {
	    .type = WIRE_CANCEL, .pool = c->pool, .reply = call_ignore};

	if (s->phase == SESSION_READY && c->sent) {
		c->interruptible = false;
		call_put_u32(&k, c->tag);
		call_run_here(s, &k, NEVER);
		c->here = true;
		call_await(s, c, NEVER);
		c->here = false;
	}
	if (!c->done)
		session_let_go(s, c, -ECANCELED);
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
		withdraw(s, c);
	return err;
}

void
call_abandon(struct slabd_call *c)
{
	c->owner = CALL_POSTED;
	c->pool = NULL;
	c->reply = call_ignore;
}
