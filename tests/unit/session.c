/*
 * A session that goes on with another daemon, of our own making (fake.h): it
 * dies whenever a script ends, and the next script is its successor.
 */
#include "config.h"

#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <time.h>

#include "fake.h"
#include "pool.h"
#include "ring.h"

#define LONG 30000 /* ms; no test waits for that */

TestSuite(session, .timeout = 60, .init = scratch_open, .fini = scratch_close);

/* ------------------------------------------------------ the daemons' scripts */

/* Is the daemon of the session that was opened first. */
static void
welcome_back(int fd)
{
	answer_hello(fd, 1);
	cr_assert_eq(fake.asked, 1);
}

/* An attachment as it was attached, or as it is resumed. */
struct attachment {
	uint32_t number;
	uint64_t identity;
	const struct lane_geometry *lane; /* NULL: without */
	const int *fds;
	uint32_t first, n; /* kinds of descriptors */
};

static void
put_fds(int fd, const struct wire_writer *w, const int *fds, unsigned n)
{
	_Alignas(struct cmsghdr) char control[CMSG_SPACE(4 * sizeof(int))];
	struct iovec iov = {w->buf, w->len};
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
	struct cmsghdr *c;

	memset(control, 0, sizeof(control));
	if (n > 0) {
		msg.msg_control = control;
		msg.msg_controllen = CMSG_SPACE(n * sizeof(int));
		c = CMSG_FIRSTHDR(&msg);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(n * sizeof(int));
		memcpy(CMSG_DATA(c), fds, n * sizeof(int));
	}
	cr_assert_geq(sendmsg(fd, &msg, MSG_NOSIGNAL), 0);
}

static void
put_attachment(int fd, struct request *rq, const struct attachment *a)
{
	struct wire_writer w;

	rq->h.attachment = a->number;
	w = reply(rq, 0);
	wire_put_u64(&w, REGION);
	wire_put_u64(&w, SLOT_SIZE);
	wire_put_u32(&w, SEGMENT);
	wire_put_u32(&w, SEGMENTS);
	wire_put_u32(&w, WIRE_RIGHT_READ | WIRE_RIGHT_WRITE);
	wire_put_u32(&w, a->lane != NULL ? WIRE_ATTACHED_LANE : 0);
	wire_put_u64(&w, a->identity);
	wire_put_u32(&w, a->n);
	wire_put_u32(&w, 0);
	for (uint32_t i = 0; i < a->n; i++) {
		wire_put_u32(&w, a->first + i);
		wire_put_u32(&w, 0);
		wire_put_u64(&w, 0);
	}
	if (a->lane != NULL) {
		wire_put_u32(&w, a->lane->grants_at);
		wire_put_u32(&w, a->lane->grants);
		wire_put_u32(&w, a->lane->records_at);
		wire_put_u32(&w, a->lane->records);
		wire_put_u32(&w, a->lane->magazines_at);
		wire_put_u32(&w, a->lane->magazines);
		wire_put_u32(&w, a->lane->magazine_room);
		wire_put_u32(&w, 0);
	}
	put_fds(fd, &w, a->fds, a->n);
}

/* The next request is RESUME of this attachment, without anything more. */
static void
expect_resume(int fd, struct request *rq, uint32_t number)
{
	expect(fd, rq, WIRE_RESUME);
	cr_assert_eq(rq->h.attachment, number);
	cr_assert_eq(rq->h.flags, 0);
	cr_assert(wire_done(&rq->in));
}

static void
serve_resume(int fd)
{
	static const struct attachment plain = {POOL, 1, NULL, NULL, 0, 0};
	static struct request rq;

	expect_resume(fd, &rq, POOL);
	put_attachment(fd, &rq, &plain);
}

/* What was not answered; it comes again. */
static struct request lost;

/* Dies over it. */
static void
take_down(int fd, enum wire_type type)
{
	expect(fd, &lost, type);
	cr_assert_eq(lost.h.flags & WIRE_AGAIN, 0);
}

/* The same request, byte by byte but for the flag. */
static void
expect_again(int fd, struct request *rq)
{
	expect(fd, rq, lost.h.type);
	cr_assert_eq(rq->h.tag, lost.h.tag);
	cr_assert_eq(rq->h.attachment, lost.h.attachment);
	cr_assert_eq(rq->h.flags, lost.h.flags | WIRE_AGAIN);
	cr_assert_eq(rq->in.len, lost.in.len);
	cr_assert_arr_eq(rq->buf + WIRE_HEADER_BYTES,
	    lost.buf + WIRE_HEADER_BYTES, rq->in.len - WIRE_HEADER_BYTES);
}

/* Until the client knows that its daemon is away. */
static void
see_it_die(struct slabd *s)
{
	while (s->phase == SESSION_READY) {
		cr_assert(readable(slabd_fd(s), -1));
		pthread_mutex_lock(&s->lock);
		session_drain(s);
		pthread_mutex_unlock(&s->lock);
	}
}

/* There is no daemon, until it listens again. */
static void
stop_listening(void)
{
	pthread_join(fake.thread, NULL);
	close(fake.listener);
	unlink(scratch_path("sock"));
}

static void
listen_again(void (*script)(int))
{
	fake.script[0] = script;
	fake.script[1] = NULL;
	fake.listener = listen_at(scratch_path("sock"));
	cr_assert_eq(pthread_create(&fake.thread, NULL, server, NULL), 0);
}

/* --------------------------------------------------------------- going on */

static void
die_over_alloc(int fd)
{
	welcome_attached(fd);
	serve_alloc(fd, 0, 1);
	take_down(fd, WIRE_ALLOC);
}

static void
grant_again(int fd)
{
	static struct request rq;

	welcome_back(fd);
	serve_resume(fd);
	expect_again(fd, &rq);
	put_grant(fd, &rq, 1, 1, 1);
	serve_free(fd, ref_make(0, false, 1));
	serve_free(fd, ref_make(1, false, 1));
	serve(fd, WIRE_BYE);
}

Test(session, a_call_does_not_notice)
{
	struct slabd *s;
	struct slabd_pool *p;
	void *first, *second;

	fake_start(die_over_alloc, grant_again);
	s = open_patient(LONG);
	p = attach_fake(s, 0);
	first = slabd_alloc(p);
	second = slabd_alloc(p);
	cr_assert_eq(
	    second, slabd_at(p, SLOT_SIZE), "%s", slabd_error_detail());
	cr_assert_eq(slabd_free(p, first), 0);
	cr_assert_eq(slabd_free(p, second), 0);
	slabd_close(s);
	fake_end();
}

/* Which requests come again, and how. */
static const struct {
	uint16_t type;
	int again; /* 0: as it was, 1: with the flag, -1: not at all */
} kinds[] = {
    {WIRE_ATTACH, 1},
    {WIRE_ALLOC, 1},
    {WIRE_FREE, 1},
    {WIRE_SEND, 1},
    {WIRE_SHARE, 1},
    {WIRE_RECEIVE, 1},
    {WIRE_RECALL, 1},
    {WIRE_PING, 0},
    {WIRE_DETACH, 0},
    {WIRE_EXTEND, 0},
    {WIRE_CANCEL, 0},
    {WIRE_FLUSH, 0},
    {WIRE_HELD, 0},
    {WIRE_STATS, 0},
    {WIRE_HOLDERS, 0},
    {WIRE_CONFIG, 0},
    {WIRE_AUDIT, 0},
    {WIRE_RELOAD, -1},
    {WIRE_TRIM, -1},
    {WIRE_SHUTDOWN, -1},
    {99, -1},
};
static unsigned kind;

static void
die_over_kind(int fd)
{
	welcome(fd);
	cr_assert(get(fd, &lost));
	cr_assert_eq(lost.h.type, kinds[kind].type);
}

static void
serve_kind_again(int fd)
{
	static struct request rq;
	int again = kinds[kind].again;

	welcome_back(fd);
	cr_assert(get(fd, &rq));
	if (again < 0)
		cr_assert_eq(rq.h.type, WIRE_BYE);
	else {
		cr_assert_eq(rq.h.type, lost.h.type);
		cr_assert_eq(rq.h.tag, lost.h.tag);
		cr_assert_eq(rq.h.attachment, 3);
		cr_assert_eq(rq.h.flags, again > 0 ? WIRE_AGAIN : 0);
		put_plain(fd, &rq, rq.h.type == WIRE_DETACH ? -EBADF : 7);
		expect(fd, &rq, WIRE_BYE);
	}
	put_plain(fd, &rq, 0);
}

Test(session, each_request_is_repeated_as_it_may_be)
{
	struct slabd *s;
	int err, expected;

	for (kind = 0; kind < sizeof(kinds) / sizeof(kinds[0]); kind++) {
		fake.session = 1;
		fake_start(die_over_kind, serve_kind_again);
		s = open_patient(LONG);
		err = slabd_request(s, kinds[kind].type, 0, 3, "body", 4, NULL);
		expected = kinds[kind].type == WIRE_DETACH ? 0 : 7;
		if (kinds[kind].again < 0) {
			expected = -ENOTCONN;
			/* It is back before the session is closed. */
			while (s->phase != SESSION_READY) {
				slabd_fd(s);
				slabd_dispatch(s);
			}
		}
		cr_assert_eq(
		    err, expected, "type %u: %d", kinds[kind].type, err);
		slabd_close(s);
		fake_end();
		unlink(scratch_path("sock"));
	}
}

static uint32_t tags[3];

static void
die_over_many(int fd)
{
	static struct request rq;

	welcome_attached(fd);
	for (int i = 0; i < 3; i++) {
		expect(fd, &rq, WIRE_RECEIVE);
		tags[i] = rq.h.tag;
	}
}

static void
die_while_resuming(int fd)
{
	static struct request rq;

	welcome_back(fd);
	expect_resume(fd, &rq, POOL);
}

static void
die_in_the_middle(int fd)
{
	static struct request rq;

	welcome_back(fd);
	serve_resume(fd);
	expect(fd, &rq, WIRE_RECEIVE);
	cr_assert_eq(rq.h.tag, tags[0]);
	put_received(fd, &rq, ref_make(0, false, 1));
}

static void
serve_the_rest(int fd)
{
	static struct request rq;

	welcome_back(fd);
	serve_resume(fd);
	for (int i = 1; i < 3; i++) {
		expect(fd, &rq, WIRE_RECEIVE);
		cr_assert_eq(rq.h.tag, tags[i], "in their order");
		cr_assert_eq(rq.h.flags, WIRE_AGAIN);
		put_received(fd, &rq, wire_get_u64(&rq.in));
	}
	serve(fd, WIRE_BYE);
}

/* An event loop that only knows when the descriptor is readable. */
static void
loop_until_received(struct slabd *s, struct slabd_pool *p, uint32_t slot)
{
	void *at;
	int err;

	while ((err = slabd_receive(p, ref_make(slot, false, 1), &at)) ==
	       -EAGAIN) {
		cr_assert(readable(slabd_fd(s), -1));
		cr_assert_geq(slabd_dispatch(s), 0);
	}
	cr_assert_eq(err, 0, "%s", slabd_error_detail());
	cr_assert_eq(at, slabd_at(p, OFFSET(slot)));
}

Test(session, an_event_loop_gets_over_daemons_that_die_and_die)
{
	struct slabd *s;
	struct slabd_pool *p;
	void *at;

	fake.script[2] = die_in_the_middle;
	fake.script[3] = serve_the_rest;
	fake_start(die_over_many, die_while_resuming);
	s = open_patient(LONG);
	p = attach_fake(s, SLABD_NONBLOCK);
	for (uint32_t slot = 0; slot < 3; slot++)
		cr_assert_eq(
		    slabd_receive(p, ref_make(slot, false, 1), &at), -EAGAIN);
	for (uint32_t slot = 0; slot < 3; slot++)
		loop_until_received(s, p, slot);
	slabd_close(s);
	fake_end();
}

#define PINGS 50

static pthread_barrier_t full;

static void
read_nothing(int fd)
{
	welcome(fd);
	pthread_barrier_wait(&full);
}

static void
read_in_order(int fd)
{
	static struct request rq;
	uint32_t last = 0;

	welcome_back(fd);
	for (int i = 0; i < PINGS; i++) {
		expect(fd, &rq, WIRE_PING);
		cr_assert(i == 0 || rq.h.tag == last + 1);
		last = rq.h.tag;
		put_plain(fd, &rq, 0);
	}
	serve(fd, WIRE_STATS);
	serve(fd, WIRE_BYE);
}

/* From the heap, with nobody who waits for it. */
static void
post_ping(struct slabd *s)
{
	struct slabd_call *c = calloc(1, sizeof(*c));

	c->type = WIRE_PING;
	c->reply = call_ignore;
	call_post(s, c);
}

Test(session, what_was_sent_comes_before_what_was_not)
{
	struct slabd *s;
	int tiny = 1;

	pthread_barrier_init(&full, NULL, 2);
	fake_start(read_nothing, read_in_order);
	s = open_patient(LONG);
	cr_assert_eq(
	    setsockopt(s->socket, SOL_SOCKET, SO_SNDBUF, &tiny, sizeof(tiny)),
	    0);
	pthread_mutex_lock(&s->lock);
	for (int i = 0; i < PINGS; i++)
		post_ping(s);
	cr_assert(!TAILQ_EMPTY(&s->calls) && !TAILQ_EMPTY(&s->unsent));
	pthread_mutex_unlock(&s->lock);
	pthread_barrier_wait(&full);
	cr_assert_eq(ask(s, WIRE_STATS), 0);
	slabd_close(s);
	fake_end();
}

static void
hang_up(int fd)
{
	static struct request rq;

	expect(fd, &rq, WIRE_HELLO);
}

Test(session, who_is_turned_away_comes_again)
{
	struct slabd *s;
	struct slabd_pool *p;
	void *slot;

	fake.script[2] = hang_up;
	fake.script[3] = turn_away;
	fake.script[4] = grant_again;
	fake_start(die_over_alloc, turn_away);
	s = open_patient(LONG);
	p = attach_fake(s, 0);
	slot = slabd_alloc(p);
	cr_assert_not_null(slabd_alloc(p));
	slabd_free(p, slot);
	slabd_free(p, slabd_at(p, SLOT_SIZE));
	slabd_close(s);
	fake_end();
}

static void
speak_otherwise(int fd)
{
	static struct request rq;

	expect(fd, &rq, WIRE_HELLO);
	put_plain(fd, &rq, -EPROTONOSUPPORT);
}

Test(session, what_waiting_does_not_cure_is_told_at_once)
{
	struct slabd *s;

	fake_start(welcome_attached, speak_otherwise);
	s = open_patient(-1);
	attach_fake(s, 0);
	cr_assert_eq(ask(s, WIRE_PING), -ENOTCONN);
	fake_end();
	slabd_close(s);
}

/* -------------------------------------------------- a daemon that knows not */

static void
die_over_two(int fd)
{
	static struct request rq;

	welcome_attached(fd);
	expect(fd, &rq, WIRE_RECEIVE);
	take_down(fd, WIRE_ATTACH);
}

static void
know_nothing(int fd)
{
	static struct request rq;

	answer_hello(fd, 2);
	cr_assert_eq(fake.asked, 1);
	expect(fd, &rq, WIRE_ATTACH);
	cr_assert_eq(rq.h.tag, lost.h.tag);
	cr_assert_eq(rq.h.flags, 0);
	put_plain(fd, &rq, 0);
	serve(fd, WIRE_BYE);
}

Test(session, of_another_session_only_what_concerns_no_pool_goes_on)
{
	struct slabd *s;
	struct slabd_pool *p;
	void *at;

	fake_start(die_over_two, know_nothing);
	s = open_patient(LONG);
	p = attach_fake(s, SLABD_NONBLOCK);
	cr_assert_eq(slabd_receive(p, ref_make(0, false, 1), &at), -EAGAIN);
	cr_assert_eq(slabd_request(s, WIRE_ATTACH, 0, 0, "body", 4, NULL), 0);
	cr_assert_eq(
	    slabd_receive(p, ref_make(0, false, 1), &at), -ENOTRECOVERABLE);
	cr_assert_null(slabd_alloc(p));
	cr_assert_eq(errno, ENOTRECOVERABLE);
	slabd_close(s);
	fake_end();
}

static void
attach_three(int fd)
{
	static struct request rq;
	struct attachment a = {1, 1, NULL, &fake.region, WIRE_FD_REGION, 1};

	welcome(fd);
	for (; a.number <= 3; a.number++) {
		expect(fd, &rq, WIRE_ATTACH);
		put_attachment(fd, &rq, &a);
	}
	take_down(fd, WIRE_PING);
}

static void
resume_one_of_three(int fd)
{
	static struct request rq;
	struct attachment a = {3, 1, NULL, NULL, 0, 0};

	welcome_back(fd);
	expect_resume(fd, &rq, 3);
	put_attachment(fd, &rq, &a);
	expect_resume(fd, &rq, 2);
	put_plain(fd, &rq, -ENOTRECOVERABLE);
	expect_resume(fd, &rq, 1);
	a = (struct attachment){1, 8, NULL, NULL, 0, 0};
	put_attachment(fd, &rq, &a);
	expect(fd, &rq, WIRE_PING);
	put_plain(fd, &rq, 0);
	expect(fd, &rq, WIRE_ALLOC);
	cr_assert_eq(rq.h.attachment, 3);
	put_grant(fd, &rq, 0, 1, 1);
	expect(fd, &rq, WIRE_DETACH);
	cr_assert_eq(rq.h.attachment, 2, "it may know it, though not how");
	put_plain(fd, &rq, 0);
	serve(fd, WIRE_BYE);
}

Test(session, a_pool_that_is_lost_is_lost_alone)
{
	struct slabd *s;
	struct slabd_pool *p[3];

	fake_start(attach_three, resume_one_of_three);
	s = open_patient(LONG);
	for (int i = 0; i < 3; i++)
		p[i] = attach_fake(s, 0);
	cr_assert_eq(ask(s, WIRE_PING), 0);
	for (int i = 0; i < 2; i++) {
		cr_assert_null(slabd_alloc(p[i]));
		cr_assert_eq(errno, ENOTRECOVERABLE, "pool %d", i);
	}
	cr_assert_not_null(slabd_alloc(p[2]));
	slabd_pool_detach(p[1]);
	slabd_close(s);
	fake_end();
}

static void
resume_badly(int fd)
{
	static const struct attachment bad = {
	    POOL, 1, NULL, &fake.region, WIRE_FD_REGION, 1};
	static struct request rq;

	welcome_back(fd);
	expect_resume(fd, &rq, POOL);
	put_attachment(fd, &rq, &bad);
	expect_end(fd);
}

Test(session, a_malformed_resumption_ends_the_session)
{
	struct slabd *s;
	unsigned before;

	fake_start(die_over_alloc, resume_badly);
	s = open_patient(LONG);
	cr_assert_not_null(slabd_alloc(attach_fake(s, 0)));
	before = open_fds();
	cr_assert_null(slabd_alloc(LIST_FIRST(&s->pools)));
	cr_assert_eq(errno, EPROTO);
	fake_end();
	cr_assert_eq(open_fds(), before - 4, "two sockets, two of the test's");
	slabd_close(s);
}

static void
resume_grown(int fd)
{
	static struct request rq;
	struct wire_writer w;

	cr_assert_eq(ftruncate(fake.region, 2 * REGION), 0);
	welcome_back(fd);
	expect_resume(fd, &rq, POOL);
	w = reply(&rq, 0);
	wire_put_u64(&w, 2 * REGION);
	wire_put_u64(&w, SLOT_SIZE);
	wire_put_u32(&w, SEGMENT);
	wire_put_u32(&w, 2 * SEGMENTS);
	wire_put_u32(&w, WIRE_RIGHT_READ | WIRE_RIGHT_WRITE);
	wire_put_u32(&w, 0);
	wire_put_u64(&w, 1);
	wire_put_u32(&w, 0);
	wire_put_u32(&w, 0);
	put(fd, &w);
	expect_again(fd, &rq);
	put_grant(fd, &rq, 1, 1, 1);
	expect(fd, &rq, WIRE_EXTEND);
	cr_assert_eq(wire_get_u32(&rq.in), 2 * SEGMENTS);
	put_plain(fd, &rq, 0);
	serve(fd, WIRE_BYE);
}

Test(session, a_pool_may_have_grown_meanwhile)
{
	struct slabd *s;
	struct slabd_pool *p;
	uint64_t bytes;

	fake_start(die_over_alloc, resume_grown);
	s = open_patient(LONG);
	p = attach_fake(s, 0);
	slabd_alloc(p);
	cr_assert_not_null(slabd_alloc(p));
	slabd_pool_region(p, NULL, &bytes);
	cr_assert_eq(bytes, 2 * REGION);
	slabd_close(s);
	fake_end();
}

/* ----------------------------------------------------- a daemon that is away */

static void
be_back(int fd)
{
	welcome_back(fd);
	serve_resume(fd);
	serve(fd, WIRE_PING);
	serve(fd, WIRE_BYE);
}

Test(session, calls_wait_no_longer_than_was_asked)
{
	struct slabd *s;
	int64_t before;

	fake_start(welcome_attached, NULL);
	s = open_patient(50);
	attach_fake(s, 0);
	before = clock_ms();
	stop_listening();
	cr_assert_eq(ask(s, WIRE_PING), -ENOTCONN);
	cr_assert_geq(clock_ms() - before, 50 - 1);
	SAYS("/sock: no daemon");
	cr_assert_eq(ask(s, WIRE_PING), -ENOTCONN);
	listen_again(be_back);
	cr_assert_eq(ask(s, WIRE_PING), 0, "the handle works again");
	slabd_close(s);
	fake_end();
}

static void
settle_alloc(int fd)
{
	static struct request rq;

	welcome_back(fd);
	serve_resume(fd);
	expect_again(fd, &rq);
	put_grant(fd, &rq, 1, 1, 1);
	/* Who asked for it has been told that it failed. */
	while (get(fd, &rq) && rq.h.type != WIRE_FREE)
		put_plain(fd, &rq, 0);
	cr_assert_eq(wire_get_u64(&rq.in), ref_make(1, false, 1));
	put_plain(fd, &rq, 1);
	while (get(fd, &rq) && rq.h.type != WIRE_BYE)
		put_plain(fd, &rq, 0);
	put_plain(fd, &rq, 0);
}

Test(session, what_a_failed_call_brings_is_given_back)
{
	struct slabd *s;
	struct slabd_pool *p;

	fake_start(die_over_alloc, NULL);
	s = open_fake();
	p = attach_fake(s, 0);
	cr_assert_not_null(slabd_alloc(p));
	cr_assert_null(slabd_alloc(p));
	cr_assert_eq(errno, ENOTCONN);
	stop_listening();
	listen_again(settle_alloc);
	for (int i = 0; i < 3; i++)
		cr_assert_eq(ask(s, WIRE_PING), 0);
	slabd_close(s);
	fake_end();
}

static void
die_over_send(int fd)
{
	welcome_attached(fd);
	serve_alloc(fd, 0, 1);
	take_down(fd, WIRE_SEND);
}

static void
settle_send(int fd)
{
	static struct request rq;
	struct wire_writer w;

	welcome_back(fd);
	serve_resume(fd);
	expect_again(fd, &rq);
	w = reply(&rq, 0);
	wire_put_u64(&w, ref_make(0, false, 2));
	put(fd, &w);
	serve(fd, WIRE_PING);
	expect(fd, &rq, WIRE_RECALL);
	cr_assert_eq(wire_get_u64(&rq.in), ref_make(0, false, 2));
	put_plain(fd, &rq, 1);
	serve(fd, WIRE_PING);
	serve_free(fd, ref_make(0, false, 2));
	serve(fd, WIRE_BYE);
}

Test(session, what_was_not_sent_after_all_stays_with_the_caller)
{
	struct slabd *s;
	struct slabd_pool *p;
	slabd_ref ref;
	void *slot;

	fake_start(die_over_send, NULL);
	s = open_fake();
	p = attach_fake(s, 0);
	slot = slabd_alloc(p);
	cr_assert_eq(slabd_send(p, slot, &ref), -ENOTCONN);
	stop_listening();
	listen_again(settle_send);
	for (int i = 0; i < 2; i++)
		cr_assert_eq(ask(s, WIRE_PING), 0);
	cr_assert_eq(slabd_free(p, slot), 0);
	slabd_close(s);
	fake_end();
}

static void
die_over_receive(int fd)
{
	welcome_attached(fd);
	take_down(fd, WIRE_RECEIVE);
}

static void
settle_receive(int fd)
{
	static struct request rq;

	welcome_back(fd);
	serve_resume(fd);
	expect_again(fd, &rq);
	put_received(fd, &rq, ref_make(2, false, 5));
	serve(fd, WIRE_PING);
	serve_free(fd, ref_make(2, false, 5));
	serve(fd, WIRE_BYE);
}

Test(session, what_was_received_too_late_is_freed)
{
	struct slabd *s;
	struct slabd_pool *p;
	void *slot;

	fake_start(die_over_receive, NULL);
	s = open_fake();
	p = attach_fake(s, 0);
	cr_assert_eq(slabd_receive(p, ref_make(2, false, 5), &slot), -ENOTCONN);
	stop_listening();
	listen_again(settle_receive);
	cr_assert_eq(ask(s, WIRE_PING), 0);
	slabd_close(s);
	fake_end();
}

static void
die_over_wait(int fd)
{
	welcome_attached(fd);
	take_down(fd, WIRE_ALLOC);
	cr_assert_eq(lost.h.flags, WIRE_WAIT);
}

static void
settle_wait(int fd)
{
	static struct request rq, cancel;

	welcome_back(fd);
	serve_resume(fd);
	expect_again(fd, &rq);
	expect(fd, &cancel, WIRE_CANCEL);
	cr_assert_eq(wire_get_u32(&cancel.in), lost.h.tag);
	put_grant(fd, &rq, 3, 1, 1);
	put_plain(fd, &cancel, -ENOENT);
	serve(fd, WIRE_PING);
	serve_free(fd, ref_make(3, false, 1));
	serve(fd, WIRE_BYE);
}

Test(session, a_wait_ends_in_time_without_a_daemon)
{
	struct slabd *s;
	struct slabd_pool *p;

	fake_start(die_over_wait, NULL);
	s = open_patient(-1);
	p = attach_fake(s, 0);
	cr_assert_null(slabd_alloc_wait(p, 20));
	cr_assert_eq(errno, ETIMEDOUT, "%s", slabd_error_detail());
	SAYS("no slot came free in 20 ms");
	stop_listening();
	/* This one is never sent, so nothing is left of it. */
	cr_assert_null(slabd_alloc_wait(p, 1));
	cr_assert_eq(errno, ETIMEDOUT);
	listen_again(settle_wait);
	cr_assert_eq(ask(s, WIRE_PING), 0);
	slabd_close(s);
	fake_end();
}

Test(session, non_blocking_calls_say_that_they_are_not_finished)
{
	struct slabd *s;
	struct slabd_pool *p;
	slabd_ref ref;
	void *slot;

	fake_start(welcome_attached, NULL);
	s = open_patient(LONG);
	p = attach_fake(s, SLABD_NONBLOCK);
	stop_listening();
	see_it_die(s);
	cr_assert_null(slabd_alloc(p));
	cr_assert_eq(errno, EAGAIN);
	table_hold(&p->table, ref_make(0, false, 1));
	slot = slabd_at(p, 0);
	cr_assert_eq(slabd_send(p, slot, &ref), -EAGAIN);
	cr_assert_eq(slabd_free(p, slot), -EAGAIN);
	cr_assert_eq(slabd_pool_want(p, 1), -EAGAIN);
	cr_assert_geq(slabd_dispatch(s), 0);
	s->reconnect_ms = 0; /* as if the time were over */
	cr_assert_eq(slabd_dispatch(s), -ENOTCONN);
	cr_assert_eq(slabd_free(p, slot), -ENOTCONN);
	cr_assert_eq(slabd_send(p, slot, &ref), -ENOTCONN);
	close(fake.region);
	slabd_close(s);
}

Test(session, a_call_to_be_asked_for_ends_when_the_time_is_over)
{
	struct slabd *s;
	struct slabd_pool *p;
	void *at;
	int err;

	fake_start(die_over_receive, NULL);
	s = open_patient(20);
	p = attach_fake(s, SLABD_NONBLOCK);
	cr_assert_eq(slabd_receive(p, ref_make(2, false, 5), &at), -EAGAIN);
	stop_listening();
	see_it_die(s);
	while ((err = slabd_receive(p, ref_make(2, false, 5), &at)) == -EAGAIN)
		continue;
	cr_assert_eq(err, -ENOTCONN);
	SAYS("/sock: no daemon");
	listen_again(settle_receive);
	cr_assert_eq(ask(s, WIRE_PING), 0);
	slabd_close(s);
	fake_end();
}

static void
take_detach(int fd)
{
	static struct request rq;

	welcome_back(fd);
	/* No RESUME: nothing is attached any more. */
	expect(fd, &rq, WIRE_DETACH);
	cr_assert_eq(rq.h.attachment, POOL);
	put_plain(fd, &rq, -EBADF);
	serve(fd, WIRE_PING);
	serve(fd, WIRE_BYE);
}

Test(session, what_is_detached_meanwhile_is_told_later)
{
	struct slabd *s;
	struct slabd_pool *p;

	fake_start(welcome_attached, NULL);
	s = open_patient(-1);
	p = attach_fake(s, 0);
	stop_listening();
	see_it_die(s);
	slabd_pool_detach(p);
	listen_again(take_detach);
	cr_assert_eq(ask(s, WIRE_PING), 0);
	slabd_close(s);
	fake_end();
}

/* With no lane to say it in, for some seconds; who would not wait does not. */
Test(session, nobody_waits_for_ever_to_say_goodbye)
{
	struct slabd *s;

	for (int patience = -1; patience <= 0; patience++) {
		fake_start(welcome_attached, NULL);
		s = open_patient(patience);
		attach_fake(s, 0);
		stop_listening();
		slabd_close(s);
		close(fake.region);
	}
}

/* Answers the first of two, and dies with the second unread. */
static void
die_over_the_second(int fd)
{
	static struct request rq;

	welcome_attached(fd);
	expect(fd, &rq, WIRE_RECEIVE);
	put_received(fd, &rq, ref_make(0, false, 1));
	readable(fd, -1);
}

/* So the client meets a reset, and behind it what was answered. */
Test(session, what_a_daemon_said_before_its_death_counts)
{
	struct slabd *s;
	struct slabd_pool *p;
	void *at;

	fake_start(die_over_the_second, NULL);
	s = open_patient(LONG);
	p = attach_fake(s, SLABD_NONBLOCK);
	for (uint32_t slot = 0; slot < 2; slot++)
		cr_assert_eq(
		    slabd_receive(p, ref_make(slot, false, 1), &at), -EAGAIN);
	stop_listening();
	cr_assert_eq(slabd_dispatch(s), 2, "an answer, and a loss");
	cr_assert_eq(slabd_receive(p, ref_make(0, false, 1), &at), 0);
	close(fake.region);
	slabd_close(s);
}

static sem_t go_on;

static void
answer_detach_and_die(int fd)
{
	welcome_attached(fd);
	serve(fd, WIRE_DETACH);
}

static void
answer_resume_late(int fd)
{
	static const struct attachment plain = {POOL, 1, NULL, NULL, 0, 0};
	static struct request rq;

	welcome_back(fd);
	expect_resume(fd, &rq, POOL);
	sem_wait(&go_on);
	put_attachment(fd, &rq, &plain);
	serve(fd, WIRE_PING);
	serve(fd, WIRE_BYE);
}

static void *
detach(void *pool)
{
	slabd_pool_detach(pool);
	return NULL;
}

/* Waits for the answer to what another thread has asked, and takes the lock. */
static void
receive_for_another(struct slabd *s)
{
	pthread_mutex_lock(&s->lock);
	while (TAILQ_EMPTY(&s->sleepers)) {
		pthread_mutex_unlock(&s->lock);
		sched_yield();
		pthread_mutex_lock(&s->lock);
	}
	s->receiving = false;
	while (s->phase == SESSION_READY) {
		readable(s->socket, -1);
		session_drain(s);
	}
}

/*
 * Between the answer to DETACH and the thread that waits for it the session
 * goes on elsewhere, and asks there for the pool that is about to be freed.
 */
Test(session, who_detaches_is_not_resumed)
{
	struct slabd *s;
	struct slabd_pool *p;
	pthread_t other;

	sem_init(&go_on, 0, 0);
	fake_start(answer_detach_and_die, answer_resume_late);
	s = open_patient(LONG);
	p = attach_fake(s, 0);
	s->receiving = true;
	pthread_create(&other, NULL, detach, p);
	receive_for_another(s);
	session_knock(s);
	while (s->phase != SESSION_RESUMING) {
		readable(s->socket, -1);
		session_drain(s);
	}
	cr_assert_eq(s->resume.pool, p);
	pthread_mutex_unlock(&s->lock);
	pthread_join(other, NULL);
	cr_assert_null(s->resume.pool);
	sem_post(&go_on);
	cr_assert_eq(ask(s, WIRE_PING), 0);
	slabd_close(s);
	fake_end();
}

static atomic_bool told;

static void
take_goodbye(int fd)
{
	welcome_back(fd);
	serve_resume(fd);
	told = true;
	serve(fd, WIRE_BYE);
}

Test(session, but_who_listens_is_told)
{
	struct slabd *s;

	fake_start(welcome_attached, take_goodbye);
	s = open_patient(0);
	attach_fake(s, 0);
	see_it_die(s);
	slabd_close(s);
	fake_end();
}

/* More daemons die over it than a try or two. */
Test(session, a_goodbye_that_no_lane_can_tell_is_repeated)
{
	struct slabd *s;
	int i;

	for (i = 1; i < 6; i++)
		fake.script[i + 1] = hang_up;
	fake.script[i] = take_goodbye;
	fake.script[i + 1] = NULL;
	fake_start(welcome_attached, hang_up);
	s = open_patient(LONG);
	attach_fake(s, 0);
	see_it_die(s);
	slabd_close(s);
	cr_assert(told, "it was given up");
	fake_end();
}

/* ------------------------------------------------------------------- lanes */

static struct {
	struct lane_geometry geometry;
	struct lane lane;
	int fds[4]; /* region, claims, lane, doorbell */
} far;

static int
object(size_t bytes)
{
	int fd = memfd_create("object", MFD_CLOEXEC);

	cr_assert_eq(ftruncate(fd, (off_t)bytes), 0);
	return fd;
}

/* Before the daemon starts, since its thread asserts, too. */
static void
lane_make(void)
{
	size_t bytes;
	void *at;

	far.geometry = lane_geometry_for(SEGMENT * SEGMENTS);
	bytes = (size_t)lane_bytes(&far.geometry);
	far.fds[0] = object(REGION);
	far.fds[1] = object(SEGMENT * SEGMENTS * sizeof(uint64_t));
	far.fds[2] = object(bytes);
	far.fds[3] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	at = mmap(
	    NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, far.fds[2], 0);
	cr_assert_eq(lane_format(&far.lane, at, &far.geometry, 1, 1), 0);
	store_relaxed(&far.lane.header->batch, 1);
	store_relaxed(&far.lane.header->watermark, far.geometry.records);
	store_relaxed(&far.lane.header->claims, SEGMENT * SEGMENTS);
	for (uint32_t slot = 0; slot < 4; slot++)
		ring_put_grant(&far.lane, slot, ref_make(slot, false, 1));
	ring_granted(&far.lane, 4);
}

static void
attach_lane(int fd)
{
	const struct attachment a = {
	    POOL, 1, &far.geometry, far.fds, WIRE_FD_REGION, 4};
	static struct request rq;

	welcome(fd);
	expect(fd, &rq, WIRE_ATTACH);
	put_attachment(fd, &rq, &a);
}

static void
resume_lane(int fd)
{
	const struct attachment a = {
	    POOL, 1, &far.geometry, far.fds + 3, WIRE_FD_DOORBELL, 1};
	static struct request rq;

	welcome_back(fd);
	expect_resume(fd, &rq, POOL);
	put_attachment(fd, &rq, &a);
}

static void
resume_with_another_bell(int fd)
{
	far.fds[3] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	resume_lane(fd);
	serve(fd, WIRE_PING);
	serve(fd, WIRE_BYE);
}

/* Another process asks who has locked the lane. */
static int
ask_who_lives(void *arg)
{
	struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};

	(void)arg;
	CHECK(fcntl(far.fds[2], F_GETLK, &lock) == 0);
	CHECK(lock.l_type == F_WRLCK && lock.l_pid == getppid());
	return 0;
}

Test(session, a_lane_goes_on_without_a_daemon_and_with_the_next)
{
	struct slabd *s;
	struct slabd_pool *p;
	void *slot, *got;
	eventfd_t rung;
	slabd_ref ref;
	int old;

	lane_make();
	fake_start(attach_lane, NULL);
	s = open_patient(LONG);
	p = attach_fake(s, 0);
	child_check(ask_who_lives, NULL);
	stop_listening();
	see_it_die(s);
	for (int i = 0; i < 3; i++) {
		slot = slabd_alloc(p);
		cr_assert_not_null(slot, "%s", slabd_error_detail());
		cr_assert_eq(slabd_send(p, slot, &ref), 0);
		cr_assert_eq(slabd_receive(p, ref, &got), 0);
		cr_assert_eq(got, slot);
		cr_assert_eq(slabd_free(p, got), 0);
	}
	old = far.fds[3];
	listen_again(resume_with_another_bell);
	cr_assert_eq(ask(s, WIRE_PING), 0);
	cr_assert_eq(eventfd_read(far.fds[3], &rung), 0, "rung in any case");
	cr_assert_eq(eventfd_read(old, &rung), -1);
	store_relaxed(&far.lane.header->sleeping, 1);
	post_wake(p);
	cr_assert_eq(eventfd_read(far.fds[3], &rung), 0, "the new one");
	child_check(ask_who_lives, NULL);
	cr_assert_eq(load_relaxed(&far.lane.header->goodbye), 0);
	slabd_close(s);
	cr_assert_eq(load_relaxed(&far.lane.header->goodbye), 1);
	fake_end();
}

/* Reads a full ring when it is asked to. */
static void
drain_once(int fd)
{
	static struct request rq;

	expect(fd, &rq, WIRE_FLUSH);
	ring_release(&far.lane, far.geometry.records);
	put_plain(fd, &rq, 0);
	serve(fd, WIRE_BYE);
}

static void
resume_and_drain(int fd)
{
	resume_lane(fd);
	drain_once(fd);
}

Test(session, who_only_frees_never_waits_and_comes_back)
{
	struct slabd *s;
	struct slabd_pool *p;

	lane_make();
	fake_start(attach_lane, NULL);
	s = open_patient(-1);
	p = attach_fake(s, 0);
	stop_listening();
	for (unsigned i = 0; i < far.geometry.records + 3; i++) {
		table_hold(&p->table, ref_make(i % 8, false, i + 2));
		cr_assert_eq(slabd_free(p, slabd_at(p, OFFSET(i % 8))), 0);
	}
	cr_assert_eq(p->post.n_kept, 3);
	listen_again(resume_and_drain);
	/* As any free would. */
	while (p->post.n_kept > 0)
		post_relieve(p);
	cr_assert_eq(load_relaxed(&far.lane.header->record_tail),
	    far.geometry.records + 3);
	slabd_close(s);
	fake_end();
}

static void
attach_and_drain(int fd)
{
	attach_lane(fd);
	drain_once(fd);
}

/* Who was told to try again learns when. */
Test(session, room_in_a_lane_is_news)
{
	struct slabd *s;
	struct slabd_pool *p;
	slabd_ref ref;

	lane_make();
	fake_start(attach_and_drain, NULL);
	s = open_patient(LONG);
	p = attach_fake(s, SLABD_NONBLOCK);
	for (unsigned i = 0; i < far.geometry.records; i++) {
		table_hold(&p->table, ref_make(7, false, i + 2));
		cr_assert_eq(slabd_free(p, slabd_at(p, OFFSET(7))), 0);
	}
	table_hold(&p->table, ref_make(7, false, 1));
	cr_assert_eq(slabd_send(p, slabd_at(p, OFFSET(7)), &ref), -EAGAIN);
	cr_assert(readable(slabd_fd(s), -1));
	cr_assert_eq(slabd_dispatch(s), 1);
	cr_assert_eq(slabd_send(p, slabd_at(p, OFFSET(7)), &ref), 0);
	slabd_close(s);
	fake_end();
}

static void
know_no_lane(int fd)
{
	answer_hello(fd, 2);
	serve(fd, WIRE_PING);
	serve(fd, WIRE_BYE);
}

/* What is in its ring is not the pool's any more, to this successor. */
static void
lose_lane(void (*successor)(int))
{
	struct slabd *s;
	struct slabd_pool *p;

	lane_make();
	fake_start(attach_lane, successor);
	s = open_patient(LONG);
	p = attach_fake(s, 0);
	cr_assert_not_null(slabd_alloc(p));
	cr_assert_eq(ask(s, WIRE_PING), 0);
	cr_assert_null(slabd_alloc(p));
	cr_assert_eq(errno, ENOTRECOVERABLE);
	slabd_close(s);
	fake_end();
}

Test(session, a_lane_of_another_session_is_used_no_more)
{
	lose_lane(know_no_lane);
}

/* be_back() has none. */
Test(session, a_lane_that_is_lost_is_used_no_more)
{
	lose_lane(be_back);
}

/* And nobody waits for anything. */
Test(session, a_detached_lane_says_so_itself)
{
	struct slabd *s;

	lane_make();
	fake_start(attach_lane, NULL);
	s = open_patient(-1);
	attach_fake(s, 0);
	stop_listening();
	see_it_die(s);
	slabd_pool_detach(LIST_FIRST(&s->pools));
	cr_assert_eq(load_relaxed(&far.lane.header->goodbye), 1);
	slabd_close(s);
	close(fake.region);
}

/* ------------------------------------------------------- many deaths, exactly
 */

#define TAGS_MAX 65536
#define LIVES	 40 /* of daemons, before one lives on */

/* What survives a daemon: the ledger, and what was done under which tag. */
static struct {
	bool out[SEGMENT * SEGMENTS];
	uint64_t version;
	struct {
		bool done;
		uint32_t slot;
		uint64_t version;
	} by_tag[TAGS_MAX];
	unsigned life, repeated;
} book;

static void
do_once(const struct request *rq)
{
	struct wire_reader in = rq->in;
	uint64_t ref;
	uint32_t i;

	cr_assert_lt(rq->h.tag, TAGS_MAX);
	if (book.by_tag[rq->h.tag].done) {
		cr_assert(rq->h.flags & WIRE_AGAIN, "done twice");
		book.repeated++;
		return;
	}
	book.by_tag[rq->h.tag].done = true;
	if (rq->h.type == WIRE_ALLOC) {
		for (i = 0; book.out[i]; i++)
			cr_assert_lt(i, SEGMENT * SEGMENTS - 1);
		book.out[i] = true;
		book.by_tag[rq->h.tag].slot = i;
		book.by_tag[rq->h.tag].version = ++book.version;
	} else {
		ref = wire_get_u64(&in);
		cr_assert(book.out[ref_slot(ref)]);
		book.out[ref_slot(ref)] = false;
	}
}

static void
answer_done(int fd, const struct request *rq)
{
	if (rq->h.type == WIRE_ALLOC)
		put_grant(fd, rq, book.by_tag[rq->h.tag].slot, 1,
		    book.by_tag[rq->h.tag].version);
	else
		put_plain(fd, rq, 1);
}

/* Each daemon but the last dies after a while, before or after a deed. */
static void
live_for_a_while(int fd)
{
	static struct request rq;
	unsigned life = book.life++, left = 1 + life * 7 % 29;

	if (life == 0) {
		welcome_attached(fd);
	} else {
		welcome_back(fd);
		serve_resume(fd);
	}
	for (;; left--) {
		cr_assert(get(fd, &rq));
		if (rq.h.type == WIRE_BYE)
			break;
		if (life < LIVES && left == 0 && life % 2 == 0)
			return;
		do_once(&rq);
		if (life < LIVES && left == 0)
			return;
		answer_done(fd, &rq);
	}
	put_plain(fd, &rq, 0);
}

Test(session, threads_lose_nothing_over_many_daemons)
{
	struct slabd *s;

	for (int i = 2; i <= LIVES; i++)
		fake.script[i] = live_for_a_while;
	fake_start(live_for_a_while, live_for_a_while);
	s = open_patient(LONG);
	churn(attach_fake(s, 0));
	slabd_close(s);
	fake_end();
	cr_assert_eq(book.life, LIVES + 1);
	cr_assert_gt(book.repeated, 0, "no deed was asked for twice");
	for (unsigned i = 0; i < SEGMENT * SEGMENTS; i++)
		cr_assert(!book.out[i]);
}
