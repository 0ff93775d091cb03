/*
 * A session's life from one daemon to the next.
 *
 * Its phases: away, greeting, resuming, ready, and from each of the others back
 * to away when the connection ends. Only a ready session sends calls. None of
 * the steps waits: the answers come where all answers come, to the receiver
 * (call.c), and what has to be done later is done by whoever waits then, or is
 * woken through slabd_fd() by the alarm.
 *
 * Invariants: away means that there is no socket and that `calls` is empty; the
 * session's number and token never change while an attachment depends on them;
 * at most one RESUME is under way, and then nothing else.
 */
#include "config.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "call.h"
#include "pool.h"

void
session_news(struct slabd *s)
{
	if (s->news++ == 0 && s->event >= 0)
		eventfd_write(s->event, 1);
}

bool
session_is_given_up(const struct slabd *s)
{
	return s->reconnect_ms >= 0 &&
	       clock_ms() >= s->lost_at + s->reconnect_ms;
}

int64_t
session_next_try(const struct slabd *s)
{
	int64_t last = s->lost_at + s->reconnect_ms;

	/* The last one is made when the time is over. */
	return s->reconnect_ms >= 0 && last < s->next_try &&
		       !session_is_given_up(s)
		   ? last
		   : s->next_try;
}

void
session_alarm(struct slabd *s)
{
	struct itimerspec at = {{0, 0}, {0, 0}};
	int64_t when = 0;

	if (s->epoll < 0)
		return;
	if (s->phase == SESSION_GREETING)
		when = s->greet_by;
	else if (s->phase == SESSION_AWAY && !session_is_given_up(s))
		when = session_next_try(s);
	at.it_value.tv_sec = (time_t)(when / 1000);
	at.it_value.tv_nsec = (long)(when % 1000) * 1000000;
	timerfd_settime(s->timer, TFD_TIMER_ABSTIME, &at, NULL);
}

/* Waits longer before the next try. */
static void
back_off(struct slabd *s)
{
	s->next_try = clock_after(s->pause_ms);
	s->pause_ms *= 2;
	if (s->pause_ms > PAUSE_MAX)
		s->pause_ms = PAUSE_MAX;
}

/* What does not get better by waiting. */
static bool
is_hopeless(int err)
{
	switch (-err) {
	case ENAMETOOLONG:
	case ENOTSOCK:
	case EPROTO:
	case EPROTONOSUPPORT:
	case EPROTOTYPE:
		return true;
	}
	return false;
}

/* A copy that is owed to the daemon in the name of a call that is given up. */
static struct slabd_call *
substitute(const struct slabd_call *c)
{
	bool small = c->body == c->small;
	struct slabd_call *late = call_copy(c, small ? 0 : c->len);

	if (late == NULL)
		return NULL;
	if (!small && c->len > 0)
		late->body = memcpy(late + 1, c->body, c->len);
	late->owner = CALL_POSTED;
	late->reply = c->late;
	late->late = NULL;
	late->out = NULL;
	late->here = false;
	return late;
}

/* Withdraws what waits under the call's tag. */
static void
post_cancel(struct slabd *s, const struct slabd_call *c)
{
	struct slabd_call k = {.type = WIRE_CANCEL,
			      .pool = c->pool,
			      .reply = call_ignore},
			  *post;

	call_put_u32(&k, c->tag);
	post = call_copy(&k, 0);
	if (post != NULL)
		call_post(s, post);
}

void
session_let_go(struct slabd *s, struct slabd_call *c, int err)
{
	struct slabd_call *late = NULL;

	if (c->late != NULL && (c->sent || c->here))
		late = substitute(c);
	if (late != NULL)
		TAILQ_INSERT_BEFORE(c, late, link);
	TAILQ_REMOVE(&s->unsent, c, link);
	if (late != NULL && (c->flags & WIRE_WAIT) != 0)
		post_cancel(s, c);
	if (err == -ENOTCONN)
		error_copy(c->text, sizeof(c->text), s->why, strlen(s->why));
	call_fail(s, c, err);
}

/* The daemon has been away for too long: nobody waits for it any more. */
static void
expire(struct slabd *s)
{
	struct slabd_call *c, *next;

	for (c = TAILQ_FIRST(&s->unsent); c != NULL; c = next) {
		next = TAILQ_NEXT(c, link);
		if (c->owner != CALL_POSTED)
			session_let_go(s, c, -ENOTCONN);
	}
}

static void
hang_up(struct slabd *s)
{
	/* A forked child's copy would keep the registration alive. */
	if (s->epoll >= 0)
		epoll_ctl(s->epoll, EPOLL_CTL_DEL, s->socket, NULL);
	shutdown(s->socket, SHUT_RDWR);
	close(s->socket);
	s->socket = -1;
	s->phase = SESSION_AWAY;
	s->broken = false;
}

/* From now on the daemon is away. */
static void
depart(struct slabd *s)
{
	s->lost_at = s->next_try = clock_ms();
	s->pause_ms = PAUSE_MS;
	s->why[0] = '\0';
	session_news(s);
}

/* What was sent comes before what was not, or fails if it cannot be repeated.
 */
static void
put_back(struct slabd *s)
{
	struct slabd_call *c, *next;

	for (c = TAILQ_FIRST(&s->calls); c != NULL; c = next) {
		next = TAILQ_NEXT(c, link);
		if (call_again(c) >= 0)
			continue;
		TAILQ_REMOVE(&s->calls, c, link);
		call_fail(s, c, -ENOTCONN);
	}
	TAILQ_CONCAT(&s->calls, &s->unsent, link);
	TAILQ_CONCAT(&s->unsent, &s->calls, link);
}

void
session_lost(struct slabd *s)
{
	bool ready = s->phase == SESSION_READY;
	struct slabd_call *c;

	if (s->socket < 0)
		return;
	hang_up(s);
	if (ready)
		depart(s);
	else
		back_off(s);
	put_back(s);
	TAILQ_FOREACH (c, &s->sleepers, nap)
		if (c->here)
			sem_post(&c->wake);
	if (session_is_given_up(s))
		expire(s);
	session_alarm(s);
}

static void
fail_all(struct slabd *s, struct call_list *list, int err)
{
	struct slabd_call *c;

	while ((c = TAILQ_FIRST(list)) != NULL) {
		TAILQ_REMOVE(list, c, link);
		call_fail(s, c, err);
	}
}

void
session_end(struct slabd *s, int err)
{
	if (s->socket >= 0) {
		hang_up(s);
		depart(s);
	}
	s->session = s->token = 0;
	fail_all(s, &s->unsent, err);
	fail_all(s, &s->calls, err);
	session_alarm(s);
}

/* The try did not go well; what was said about it last is remembered. */
static void
knocked_in_vain(struct slabd *s, int err)
{
	const char *why = slabd_error_detail();

	error_copy(s->why, sizeof(s->why), why, strlen(why));
	if (s->socket >= 0)
		session_lost(s);
	else
		back_off(s);
	if (is_hopeless(err) || session_is_given_up(s))
		expire(s);
	session_alarm(s);
}

void
session_knock(struct slabd *s)
{
	struct epoll_event in = {.events = EPOLLIN};
	int fd = hello_send(s);

	if (fd < 0) {
		knocked_in_vain(s, fd);
		return;
	}
	s->socket = fd;
	s->phase = SESSION_GREETING;
	s->greet_by = clock_after(HELLO_MS);
	if (s->epoll >= 0)
		epoll_ctl(s->epoll, EPOLL_CTL_ADD, fd, &in);
	session_alarm(s);
}

void
session_unanswered(struct slabd *s)
{
	if (s->phase == SESSION_GREETING && clock_ms() >= s->greet_by)
		knocked_in_vain(s, hello_explain(s, -ETIMEDOUT));
}

void
session_poll(struct slabd *s, bool knock)
{
	if (s->receiving)
		return;
	if (knock && s->phase == SESSION_AWAY &&
	    clock_ms() >= session_next_try(s))
		session_knock(s);
	session_drain(s);
	session_unanswered(s);
	if (s->phase == SESSION_AWAY && session_is_given_up(s))
		expire(s);
}

bool
session_lacks(const struct slabd *s, const struct slabd_call *c)
{
	if (c->pool != NULL)
		return !pool_is_current(c->pool);
	return c->attachment != 0 && c->epoch != s->epoch;
}

void
session_prefer(struct slabd *s, const struct slabd_pool *p, uint32_t tag)
{
	struct slabd_call *c;

	TAILQ_FOREACH (c, &s->unsent, link)
		if (c->sent && c->tag == tag && c->type == WIRE_ALLOC &&
		    c->attachment == p->attachment)
			break;
	if (c == NULL)
		return;
	TAILQ_REMOVE(&s->unsent, c, link);
	TAILQ_INSERT_HEAD(&s->unsent, c, link);
}

void
session_drop_lost(struct slabd *s)
{
	struct slabd_call *c, *next;

	for (c = TAILQ_FIRST(&s->unsent); c != NULL; c = next) {
		next = TAILQ_NEXT(c, link);
		if (!session_lacks(s, c))
			continue;
		TAILQ_REMOVE(&s->unsent, c, link);
		call_fail(s, c, -ENOTRECOVERABLE);
	}
}

/* What was attached belongs to the past; what is left was never sent to it. */
static void
begin_anew(struct slabd *s)
{
	struct slabd_call *c;

	s->epoch++;
	pool_shut_all(s);
	session_drop_lost(s);
	TAILQ_FOREACH (c, &s->unsent, link)
		c->sent = false;
}

int
session_greeted(struct slabd *s, size_t len)
{
	struct greeting g;
	int err = len > 0
		      ? hello_read(&g, s->inbox, len)
		      /* A daemon that is about to end accepts, and hangs up. */
		      : hello_explain(s, -ECONNREFUSED);

	if (err < 0) {
		knocked_in_vain(s, err);
		return -ENOTCONN;
	}
	if (g.session != s->session)
		begin_anew(s);
	s->session = g.session;
	s->token = g.token;
	s->connections++;
	s->phase = SESSION_RESUMING;
	session_resume(s);
	return 0;
}

void
session_resume(struct slabd *s)
{
	struct slabd_call *c = &s->resume;
	struct slabd_pool *p = pool_to_resume(s);

	if (p == NULL) {
		s->phase = SESSION_READY;
		session_news(s);
		session_alarm(s);
		return;
	}
	*c = (struct slabd_call){
	    .type = WIRE_RESUME, .pool = p, .reply = pool_resumed};
	call_number(s, c);
	/* There is room in a socket that is new, or it is found dead. */
	if (call_transmit(s, c) < 0)
		shutdown(s->socket, SHUT_RDWR);
}
