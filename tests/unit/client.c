/*
 * Connections, from the side of the daemon.
 */
#include "config.h"

#include <criterion/criterion.h>
#include <poll.h>

#include "inside.h"

#ifndef SO_PASSRIGHTS
#define SO_PASSRIGHTS 83 /* Linux 6.16 */
#endif

TestSuite(client, .fini = end, .timeout = 60);

static struct party peer[3];

/*
 * Says PING and passes `n` descriptors with it, all of a pipe: its other end,
 * where nothing is to be read once the last of them is closed.
 */
static int
ping_with(const struct party *q, unsigned n)
{
	uint8_t bytes[WIRE_HEADER_BYTES];
	struct wire_header h = {.type = WIRE_PING, .tag = 1};
	struct wire_writer w;
	union {
		struct cmsghdr header;
		char room[CMSG_SPACE(WIRE_FDS_MAX * sizeof(int))];
	} control = {.header = {.cmsg_level = SOL_SOCKET,
			 .cmsg_type = SCM_RIGHTS,
			 .cmsg_len = CMSG_LEN(n * sizeof(int))}};
	struct iovec iov = {bytes, sizeof(bytes)};
	struct msghdr msg = {.msg_iov = &iov,
	    .msg_iovlen = 1,
	    .msg_control = &control,
	    .msg_controllen = CMSG_SPACE(n * sizeof(int))};
	int ends[2];

	cr_assert_eq(pipe2(ends, O_CLOEXEC | O_NONBLOCK), 0);
	for (unsigned i = 0; i < n; i++)
		memcpy(CMSG_DATA(&control.header) + i * sizeof(int), &ends[1],
		    sizeof(int));
	wire_begin(&w, bytes, sizeof(bytes), &h);
	cr_assert_eq(
	    sendmsg(q->fd, &msg, MSG_NOSIGNAL), (ssize_t)sizeof(bytes));
	close(ends[1]);
	return ends[0];
}

/* As with a kernel that passes on what a client attaches to its words. */
Test(client, descriptors_are_closed_and_end_it)
{
	struct party *a = &peer[0];
	const int on = 1;
	char byte;
	int other;

	begin("\"slots_per_segment\": 8");
	for (unsigned n = 1; n <= WIRE_FDS_MAX; n++) {
		connect_as(a);
		setsockopt(
		    a->client->fd, SOL_SOCKET, SO_PASSRIGHTS, &on, sizeof(on));
		a->client->no_descriptors = false;
		other = ping_with(a, n);
		cr_assert_eq(read(other, &byte, 1), -1);
		loop_poll(inside.loop);
		cr_assert_eq(hear(a, NULL), -ENOTCONN, "%u", n);
		cr_assert_eq(read(other, &byte, 1), 0, "one of %u is open", n);
		close(other);
		close(a->fd);
	}
}

/* Greeted by a session of its own, that can be resumed. */
static void
join_session(struct party *q)
{
	join_as(q, false);
	q->client->session = 11;
	q->client->token = 12;
}

/* A connection of the same process that says so much of the session of `of`. */
static void
resume(struct party *q, const struct party *of)
{
	uint8_t body[64];
	struct wire_writer w = {body, 0, sizeof(body), false};

	connect_as(q);
	q->client->state = CLIENT_NEW;
	wire_put_u32(&w, WIRE_MAGIC);
	wire_put_u16(&w, WIRE_VERSION);
	wire_put_u16(&w, WIRE_VERSION);
	wire_put_u64(&w, 0);
	wire_put_u64(&w, of->client->session);
	wire_put_u64(&w, of->client->token);
	wire_put_string(&w, "", WIRE_LABEL_MAX);
	cr_assert_eq(ask(q, WIRE_HELLO, 0, body, w.len), 0);
	q->a = of->a;
	cr_assert_eq(q->a->client, q->client);
}

/* What the old connection waited for is asked for again, or by nobody. */
Test(client, a_resumed_session_waits_for_nothing)
{
	struct party *a = &peer[0], *b = &peer[1];
	uint32_t all = 8;
	uint64_t ref;

	begin("\"slots_per_segment\": 8");
	join_session(a);
	take_slots(a, &ref, 1);
	cr_assert_eq(
	    ask(a, WIRE_ALLOC, WIRE_WAIT, &all, sizeof(all)), UNANSWERED);
	resume(b, a);
	cr_assert_eq(waiters_count(pool), 0);
	cr_assert_eq(ask(b, WIRE_FREE, 0, &ref, sizeof(ref)), 1);
	cr_assert_eq(hear(b, NULL), UNANSWERED);
	cr_assert_eq(pool->count[SLOT_FREE], 8);
}

Test(client, a_resumed_session_has_no_more_rights)
{
	struct party *a = &peer[0], *b = &peer[1];
	static const uint8_t attach_p[] = {0, 0, 0, 0, 1, 0, 'p'};

	begin("\"slots_per_segment\": 8");
	join_session(a);
	a->client->guest = true;
	resume(b, a);
	cr_assert_eq(
	    ask(b, WIRE_ATTACH, 0, attach_p, sizeof(attach_p)), -EUSERS);
}

static enum client_state
hang_up(struct party *q)
{
	shutdown(q->fd, SHUT_RDWR);
	loop_poll(inside.loop);
	return q->client->state;
}

/* Who has only resumed will do so again; who went on and hangs up has left. */
Test(client, who_resumed_and_asked_is_there)
{
	struct party *a = &peer[0], *b = &peer[1], *c = &peer[2];

	begin("\"slots_per_segment\": 8, \"reserve\": 2");
	join_session(a);
	resume(b, a);
	cr_assert_eq(hang_up(b), CLIENT_AWAY);
	resume(c, b);
	cr_assert_eq(ask(c, WIRE_PING, 0, NULL, 0), 0);
	cr_assert_eq(ask(c, WIRE_AUDIT, 0, NULL, 0), 0);
	cr_assert_eq(hang_up(c), CLIENT_QUARANTINED);
}

/* Who stood first in the queue goes, or only goes away: the next is served. */
static void
first_hangs_up(bool fresh)
{
	struct party *a = &peer[0], *b = &peer[1], *c = &peer[2];
	uint32_t one = 1, two = 2;
	uint64_t refs[7];

	begin("\"slots_per_segment\": 8");
	join_as(a, false);
	join_as(b, false);
	join_as(c, false);
	take_slots(c, refs, 7);
	cr_assert_eq(
	    ask(a, WIRE_ALLOC, WIRE_WAIT, &two, sizeof(two)), UNANSWERED);
	cr_assert_eq(
	    ask(b, WIRE_ALLOC, WIRE_WAIT, &one, sizeof(one)), UNANSWERED);
	a->client->fresh = fresh;
	cr_assert_eq(hang_up(a), fresh ? CLIENT_AWAY : CLIENT_QUARANTINED);
	cr_assert_eq(hear(b, NULL), 1);
}

Test(client, who_is_set_aside_leaves_the_queue)
{
	first_hangs_up(false);
}

Test(client, who_is_away_leaves_the_queue)
{
	first_hangs_up(true);
}

/* Nobody needs to ring for what nobody waits for any more. */
Test(client, who_is_away_awaits_no_receipt)
{
	struct party *a = &peer[0], *b = &peer[1];

	begin_with_sent(a, b, true);
	cr_assert_eq(ask(a, WIRE_FLUSH, WIRE_WAIT, NULL, 0), UNANSWERED);
	cr_assert_eq(b->lane.header->eager, 1);
	a->client->fresh = true;
	cr_assert_eq(hang_up(a), CLIENT_AWAY);
	cr_assert_eq(b->lane.header->eager, 0);
}

/* Whose bell is heard by nobody is looked at while somebody waits. */
Test(client, who_is_away_is_visited)
{
	struct party *a = &peer[0], *b = &peer[1];
	uint64_t refs[8];
	uint32_t one = 1;
	int answer, tries = 5000;

	begin("\"slots_per_segment\": 8");
	join_as(a, true);
	join_as(b, false);
	take_slots(a, refs, 8);
	cr_assert_eq(
	    ask(b, WIRE_ALLOC, WIRE_WAIT, &one, sizeof(one)), UNANSWERED);
	a->client->fresh = true;
	cr_assert_eq(hang_up(a), CLIENT_AWAY);
	publish(a, LANE_FREE, refs[0]);
	while ((answer = hear(b, NULL)) == UNANSWERED && tries-- > 0) {
		poll(NULL, 0, 1);
		loop_poll(inside.loop);
	}
	cr_assert_eq(answer, 1);
}

/* How many PINGs it takes until answers must wait for their reader. */
static unsigned
fill(struct party *q, unsigned most)
{
	const int bytes = 1;
	unsigned n = 0;

	setsockopt(q->client->fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof(bytes));
	for (; n < most && !client_is_choked(q->client); n++)
		say(q, WIRE_PING, 0, NULL, 0);
	return n;
}

/* The first message for it that is no answer to a PING. */
static int
hear_behind(struct party *q)
{
	int status = 0;

	while (status == 0 || status == UNANSWERED) {
		status = hear(q, NULL);
		if (status == UNANSWERED && !client_is_choked(q->client))
			break;
		loop_poll(inside.loop);
	}
	return status;
}

/* It does not read, and is served as soon as it does. */
Test(client, who_reads_again_is_served)
{
	struct party *a = &peer[0], *b = &peer[1];
	uint32_t one = 1;
	uint64_t refs[8];

	begin("\"slots_per_segment\": 8");
	join_as(a, false);
	join_as(b, false);
	take_slots(b, refs, 8);
	cr_assert_eq(
	    ask(a, WIRE_ALLOC, WIRE_WAIT, &one, sizeof(one)), UNANSWERED);
	cr_assert_lt(fill(a, 10000), 10000);
	cr_assert_eq(ask(b, WIRE_FREE, 0, refs, sizeof(*refs)), 1);
	cr_assert_eq(pool->count[SLOT_FREE], 1, "it is not read");
	cr_assert_eq(hear_behind(a), 1);
}

/* Nothing is lost of what was said to who says goodbye. */
Test(client, a_goodbye_is_answered_behind_the_rest)
{
	struct party *a = &peer[0], *b = &peer[1];
	unsigned n, heard = 0;

	begin("\"slots_per_segment\": 8");
	connect_as(a);
	n = fill(a, 10000);
	connect_as(b);
	cr_assert_eq(fill(b, n - 1), n - 1);
	cr_assert_not(client_is_choked(b->client));
	say(b, WIRE_BYE, 0, NULL, 0);
	for (; hear(b, NULL) == 0; heard++)
		loop_poll(inside.loop);
	cr_assert_eq(heard, n);
	cr_assert_eq(hear(b, NULL), -ENOTCONN);
}

/* A document is the daemon's memory: it goes with the connection. */
Test(client, documents_do_not_outlive_it)
{
	struct party *a = &peer[0];
	struct stat st;
	int fd;

	begin("\"slots_per_segment\": 8");
	connect_as(a);
	say(a, WIRE_STATS, 0, NULL, 0);
	cr_assert_eq(hear(a, &fd), 0);
	cr_assert_eq(fstat(fd, &st), 0);
	cr_assert_gt(st.st_size, 0);
	shutdown(a->fd, SHUT_RDWR);
	loop_poll(inside.loop);
	cr_assert_eq(fstat(fd, &st), 0);
	cr_assert_eq(st.st_size, 0);
	close(fd);
}

/* Descriptors on their way count as ours: who leaves them there stays. */
Test(client, unread_descriptors_keep_its_place)
{
	struct party *a = &peer[0];

	begin("\"slots_per_segment\": 8");
	connect_as(a);
	say(a, WIRE_STATS, 0, NULL, 0);
	client_fail(a->client, "is what this is about");
	loop_poll(inside.loop);
	cr_assert_eq(inside.nclients, 1);
	cr_assert_eq(a->client->state, CLIENT_GONE);
}
