/*
 * The share of the daemon's time: who has used it waits, and nobody else. Time
 * stands still here but for what a test lets the daemon's work take.
 */
#include "config.h"

#include <criterion/criterion.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/un.h>

#include "daemon/listener.h"
#include "daemon/share.h"
#include "daemon/user.h"
#include "inside.h"

/* More than a reserve, */
#define MUCH_US 10000000u
/* after which somebody has nothing left, but not for longer than that. */
#define WAIT_US 48000u
/* Who was served so long ago is not about any more. */
#define LONG_US 100000u
#define TRIES	5000
#define UID	4000u

TestSuite(share, .fini = end, .timeout = 60);

static struct party peer[3];
static uint64_t now_us = MUCH_US;
static uint64_t cost_us; /* of a request, a turn, a new connection */
static uid_t comes_as;	 /* whoever connects */
static unsigned turns, rests;

uint64_t __wrap_loop_now_us(void);
void __real_pool_look_at_clock(void);
void __wrap_pool_look_at_clock(void);
int __real_peer_of(struct peer *, int);
int __wrap_peer_of(struct peer *, int);
void __real_clients_turn(void *);
void __wrap_clients_turn(void *);
void __real_listener_rest(struct listener *, uint32_t);
void __wrap_listener_rest(struct listener *, uint32_t);

uint64_t
__wrap_loop_now_us(void)
{
	return now_us;
}

void
__wrap_pool_look_at_clock(void)
{
	__real_pool_look_at_clock();
	now_us += cost_us;
}

int
__wrap_peer_of(struct peer *p, int fd)
{
	int err = __real_peer_of(p, fd);

	p->uid = comes_as;
	now_us += cost_us;
	return err;
}

void
__wrap_clients_turn(void *d)
{
	turns++;
	__real_clients_turn(d);
}

void
__wrap_listener_rest(struct listener *l, uint32_t ms)
{
	rests++;
	__real_listener_rest(l, ms);
}

/* So many, each another user's. */
static void
start(unsigned n, bool laned)
{
	begin("\"slots_per_segment\": 1024");
	for (unsigned i = 0; i < n; i++) {
		comes_as = UID + i;
		join_as(&peer[i], laned);
	}
	comes_as = UID;
}

static void
use(const struct party *q, uint64_t us)
{
	now_us += us;
	share_charge(q->client->user, now_us - us);
}

static int
ping(struct party *q, uint64_t us)
{
	int status;

	cost_us = us;
	status = ask(q, WIRE_PING, 0, NULL, 0);
	cost_us = 0;
	return status;
}

/* `q` asks, but has used its share, which matters because of `other`. */
static void
be_late(struct party *q, struct party *other, uint64_t us)
{
	use(q, us);
	cr_assert_eq(ping(other, 0), 0);
	cr_assert_eq(ping(q, 0), UNANSWERED);
	cr_assert(q->client->late);
}

static void
pass(uint64_t us)
{
	now_us += us;
	clients_turn(&inside);
	loop_poll(inside.loop);
}

static bool
hung_up(const struct party *q)
{
	struct pollfd state = {.fd = q->fd, .events = POLLRDHUP};

	return poll(&state, 1, 0) == 1;
}

static void
wait_a_little(void)
{
	poll(NULL, 0, 1);
	loop_poll(inside.loop);
}

/* The tag of the next answer; 0: there is none yet. */
static uint32_t
hear_tag(const struct party *q)
{
	uint8_t bytes[WIRE_MESSAGE_MAX];
	ssize_t len = recv(q->fd, bytes, sizeof(bytes), 0);
	struct wire_reader r;
	struct wire_header h;

	if (len <= 0)
		return 0;
	cr_assert_eq(wire_open(&r, bytes, (size_t)len, &h), 0);
	cr_assert_eq(h.status, 0);
	return h.tag;
}

/* ------------------------------------------------------------- who is late */

/* Who is connected, but has nothing to say, has nothing to fear either. */
Test(share, who_is_alone_is_never_late)
{
	struct party *a = &peer[0], *b = &peer[1];

	start(2, false);
	use(a, MUCH_US);
	cr_assert_eq(ping(a, 0), 0, "nobody else has asked yet");
	cr_assert_eq(ping(b, 0), 0);
	cr_assert_eq(ping(a, 0), UNANSWERED);
	now_us += LONG_US;
	use(a, 1);
	pass(0);
	cr_assert_eq(hear(a, NULL), 0);
	use(a, LONG_US);
	cr_assert_eq(ping(a, 0), 0, "the other is not about any more");
}

/* What it is there for. */
static void
work(struct party *q)
{
	uint64_t ref;

	take_slots(q, &ref, 1);
	cr_assert_eq(ask(q, WIRE_FREE, 0, &ref, sizeof(ref)), 1);
}

/* What a user asks beyond its share comes at the pace of the share. */
Test(share, who_has_used_it_is_served_later_and_in_order)
{
	enum { REQUESTS = 40, COST_US = 500, PART_US = 16 * COST_US };
	struct party *a = &peer[0], *b = &peer[1];
	uint64_t begun = now_us;
	uint32_t heard = 0;

	start(2, false);
	work(b);
	cost_us = COST_US;
	for (unsigned i = 0; i < REQUESTS; i++) {
		say(a, WIRE_PING, 0, NULL, 0);
		work(b);
	}
	cr_assert(a->client->late);
	for (unsigned i = 0; i < 2 * REQUESTS; i++) {
		while (hear_tag(a) == heard + 1)
			heard++;
		/* What it may, and its reserve, and the one too many. */
		cr_assert_leq(heard, (now_us - begun + 16000) / PART_US + 1);
		pass(PART_US);
		work(b);
	}
	cr_assert_eq(heard, REQUESTS);
}

Test(share, a_debt_is_bounded)
{
	struct party *a = &peer[0], *b = &peer[1];

	start(2, false);
	be_late(a, b, MUCH_US);
	pass(WAIT_US - 1);
	cr_assert_eq(hear(a, NULL), UNANSWERED);
	pass(1);
	cr_assert_eq(hear(a, NULL), 0);
}

/* Behind one who owes more. */
Test(share, each_waits_for_itself)
{
	struct party *a = &peer[0], *b = &peer[1], *c = &peer[2];

	start(3, false);
	be_late(a, b, MUCH_US);
	be_late(c, b, 2000);
	pass(WAIT_US / 2);
	cr_assert_eq(hear(a, NULL), UNANSWERED);
	cr_assert_eq(hear(c, NULL), 0);
}

/* The first may have used up what there is. */
Test(share, the_late_are_read_a_few_at_a_time)
{
	enum { N = 64 };
	static struct party late[N];
	struct party *a = &peer[0], *b = &peer[1];
	unsigned left = 0;

	start(2, false);
	use(a, MUCH_US);
	cr_assert_eq(ping(b, 0), 0);
	for (unsigned i = 0; i < N; i++) {
		connect_as(&late[i]);
		cr_assert_eq(ping(&late[i], 0), UNANSWERED);
	}
	now_us += WAIT_US;
	clients_turn(&inside);
	for (unsigned i = 0; i < N; i++)
		left += late[i].client->late;
	cr_assert_gt(left, N / 2);
	cr_assert_lt(left, N);
	cr_assert_not(late[0].client->late, "who came first");
	for (unsigned i = 0; i < N; i++)
		pass(0);
	for (unsigned i = 0; i < N; i++)
		cr_assert_eq(hear(&late[i], NULL), 0, "%u", i);
}

/* Whoever is late, and for however long, somebody looks. */
Test(share, who_is_late_is_looked_at)
{
	struct party *a = &peer[0], *b = &peer[1];
	int answer, tries = TRIES;

	start(2, false);
	be_late(a, b, MUCH_US);
	while (turns < 2 && tries-- > 0)
		wait_a_little();
	cr_assert_geq(turns, 2);
	cr_assert_eq(hear(a, NULL), UNANSWERED);
	now_us += WAIT_US;
	while ((answer = hear(a, NULL)) == UNANSWERED && tries-- > 0)
		wait_a_little();
	cr_assert_eq(answer, 0);
}

/* ------------------------------------------------------- what is held to it */

Test(share, slots_that_move_cost_nothing)
{
	enum { N = 64, COST_US = 1000 };
	struct party *a = &peer[0], *b = &peer[1];
	uint64_t refs[N];

	start(2, false);
	take_slots(a, refs, N);
	for (unsigned i = 0; i < N; i++) {
		cr_assert_eq(ping(b, 0), 0);
		cost_us = COST_US;
		cr_assert_eq(ask(a, WIRE_FREE, 0, &refs[i], sizeof(*refs)), 1);
	}
	for (unsigned i = 0; i < 4 && !a->client->late; i++) {
		cr_assert_eq(ping(b, 0), 0);
		cost_us = COST_US;
		say(a, WIRE_SEND, 0, &refs[i], sizeof(*refs));
	}
	cr_assert(a->client->late, "what is refused does");
}

/* Whether `q`, who owes nothing, is charged for what is answered like this. */
static bool
costs(struct party *q, enum wire_type type, unsigned flags, const void *body,
    size_t len, int status)
{
	uint64_t paid_us = q->client->user->paid_us;

	now_us += LONG_US;
	cost_us = 100;
	cr_assert_eq(ask(q, type, flags, body, len), status, "type %d", type);
	cost_us = 0;
	return q->client->user->paid_us != paid_us;
}

Test(share, what_only_asks_is_charged)
{
	struct party *a = &peer[0];
	uint64_t refs[1024], body[2];
	uint32_t one = 1, tag;

	start(1, false);
	take_slots(a, refs, 1024);
	body[0] = refs[0];
	body[1] = 0;
	cr_assert(costs(a, WIRE_FLUSH, 0, NULL, 0, 0));
	cr_assert(costs(a, WIRE_HELD, 0, body, 8, 1));
	cr_assert(costs(a, WIRE_EXTEND, 0, &one, sizeof(one), 0));
	cr_assert(costs(a, WIRE_RECALL, 0, body, 12, 0), "of nothing");
	say(a, WIRE_ALLOC, WIRE_WAIT, &one, sizeof(one));
	tag = a->tag;
	/* The answer to what waited comes first. */
	cr_assert(costs(a, WIRE_CANCEL, 0, &tag, sizeof(tag), -ECANCELED));
	cr_assert_eq(hear(a, NULL), 0);
}

Test(share, what_moves_slots_is_not_charged)
{
	struct party *a = &peer[0], *b = &peer[1];
	uint64_t refs[1023], body[2];
	uint32_t one = 1;

	start(2, false);
	take_slots(a, refs, 1023);
	cr_assert_not(costs(a, WIRE_ALLOC, 0, &one, sizeof(one), 1));
	cr_assert_not(
	    costs(a, WIRE_ALLOC, WIRE_WAIT, &one, sizeof(one), UNANSWERED));
	cr_assert_not(costs(a, WIRE_SEND, 0, &refs[0], 8, 0));
	cr_assert_not(costs(a, WIRE_FLUSH, WIRE_WAIT, NULL, 0, UNANSWERED));
	body[0] = ref_after(refs[0]);
	cr_assert_not(costs(b, WIRE_RECEIVE, 0, body, 8, 0));
	cr_assert_eq(hear(a, NULL), 0, "all is received");
	cr_assert_not(costs(a, WIRE_SEND, 0, &refs[1], 8, 0));
	body[0] = ref_after(refs[1]);
	body[1] = 0;
	cr_assert_not(costs(a, WIRE_RECALL, 0, body, 12, 1));
	body[0] = refs[2];
	body[1] = 1;
	cr_assert_not(costs(a, WIRE_SHARE, 0, body, 12, 0));
	/* It goes to the request that waits, whose answer is the first. */
	cr_assert_not(
	    costs(b, WIRE_FREE, 0, (uint64_t[]){ref_after(refs[0])}, 8, 1));
	cr_assert_eq(hear(a, NULL), 1);
}

/* Those who connect again and again leave time to others. */
Test(share, connections_are_taken_with_rests)
{
	enum { N = 4 };
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	struct party *b = &peer[1];
	int tries = TRIES;
	unsigned others;

	start(2, false);
	cr_assert_eq(ping(b, 0), 0);
	others = inside.nclients;
	strcpy(address.sun_path, scratch_path("socket"));
	for (unsigned i = 0; i < N; i++) {
		int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

		cr_assert_eq(connect(fd, (const struct sockaddr *)&address,
				 sizeof(address)),
		    0);
	}
	cost_us = 2000;
	loop_poll(inside.loop);
	cr_assert_gt(rests, 0);
	cost_us = 0;
	while (inside.nclients < others + N && tries-- > 0)
		wait_a_little();
	cr_assert_eq(inside.nclients, others + N);
}

/* ------------------------------------------------------ gone while late */

Test(share, who_is_late_may_hang_up)
{
	struct party *a = &peer[0], *b = &peer[1];
	uint64_t ref;

	start(2, false);
	take_slots(a, &ref, 1);
	use(a, MUCH_US);
	cr_assert_eq(ping(b, 0), 0);
	say(a, WIRE_FREE, 0, &ref, sizeof(ref));
	cr_assert_eq(
	    ledger_word(&pool->ledger, ref_slot(ref)).state, LEDGER_HELD);
	shutdown(a->fd, SHUT_RDWR);
	pass(WAIT_US);
	cr_assert(TAILQ_EMPTY(&inside.late));
	cr_assert_eq(ledger_word(&pool->ledger, ref_slot(ref)).state,
	    LEDGER_FREE, "what it said before still counts");
}

Test(share, who_is_late_may_end)
{
	struct party *a = &peer[0], *b = &peer[1];

	start(2, false);
	be_late(a, b, MUCH_US);
	client_end(a->client, true);
	cr_assert(TAILQ_EMPTY(&inside.late));
	pass(WAIT_US);
	cr_assert(hung_up(a));
}

/* It is disconnected at once, not in its turn. */
Test(share, who_is_late_may_fail)
{
	struct party *a = &peer[0], *b = &peer[1];

	start(2, false);
	be_late(a, b, MUCH_US);
	client_fail(a->client, "is what this is about");
	loop_poll(inside.loop);
	cr_assert(TAILQ_EMPTY(&inside.late));
	cr_assert(hung_up(a));
}

Test(share, who_is_late_may_resume_elsewhere)
{
	struct party *a = &peer[0], *b = &peer[1], *c = &peer[2];

	start(2, false);
	a->client->session = 11;
	a->client->token = 12;
	be_late(a, b, MUCH_US);
	connect_as(c);
	cr_assert(client_resume(c->client, 11, 12));
	cr_assert(TAILQ_EMPTY(&inside.late));
	cr_assert(hung_up(a));
	cr_assert_eq(ping(c, 0), UNANSWERED, "it is the same user");
	pass(WAIT_US);
	cr_assert_eq(hear(c, NULL), 0);
}

/* ------------------------------------------------------------------- bells */

static bool
is_read(const struct party *q)
{
	return load_relaxed(&q->lane.header->record_head) == q->outlet.tail;
}

static void
ring(struct party *q)
{
	if (ring_wake(&q->lane))
		cr_assert_eq(eventfd_write(q->e->doorbell, 1), 0);
	loop_poll(inside.loop);
}

/* As often as it likes, as long as all it publishes is good. */
Test(share, who_owes_nothing_rings_for_nothing)
{
	enum { N = 256, COST_US = 100 };
	struct party *a = &peer[0], *b = &peer[1];
	uint64_t refs[N];

	start(2, true);
	take_slots(a, refs, N);
	for (unsigned i = 0; i < N; i++) {
		cr_assert_eq(ping(b, 0), 0);
		publish(a, LANE_FREE, refs[i]);
		cost_us = COST_US;
		ring(a);
		cr_assert(is_read(a), "%u", i);
	}
}

/* One that takes long was for what others had published, too. */
Test(share, a_long_turn_is_not_its_ringers)
{
	enum { SHORT_US = 100, LONG_TURN_US = 1000 };
	struct party *a = &peer[0];
	uint64_t refs[2], owed;

	start(2, true);
	take_slots(a, refs, 2);
	use(a, 500);
	owed = a->client->user->paid_us;
	publish(a, LANE_FREE, refs[0]);
	timer_stop(pool->judge);
	cost_us = SHORT_US;
	ring(a);
	cr_assert(is_read(a));
	cr_assert_gt(a->client->user->paid_us, owed);
	owed = a->client->user->paid_us;
	publish(a, LANE_FREE, refs[1]);
	timer_stop(pool->judge);
	cost_us = LONG_TURN_US;
	ring(a);
	cr_assert(is_read(a));
	cr_assert(pool->laborious);
	cr_assert_eq(a->client->user->paid_us, owed);
}

/* Its records are read by the judge all the same; then its bell is heard. */
Test(share, a_muted_bell_is_heard_again)
{
	struct party *a = &peer[0], *b = &peer[1];
	int tries = TRIES;
	uint64_t refs[2];

	start(2, true);
	take_slots(a, refs, 2);
	use(a, MUCH_US);
	cr_assert_eq(ping(b, 0), 0);
	lanes_turn(pool);
	publish(a, LANE_FREE, refs[0]);
	ring(a);
	cr_assert(a->e->muted);
	cr_assert_not(is_read(a));
	while (!is_read(a) && tries-- > 0)
		wait_a_little();
	cr_assert(is_read(a));
	cr_assert(a->e->muted);
	now_us += WAIT_US;
	while (a->e->muted && tries-- > 0)
		wait_a_little();
	cr_assert_not(a->e->muted);
	loop_poll(inside.loop);
	timer_stop(pool->judge);
	publish(a, LANE_FREE, refs[1]);
	ring(a);
	cr_assert(is_read(a));
}

/* Many lanes of one who has used its share are not read by the hundreds. */
Test(share, who_has_used_it_finds_less_patience)
{
	struct party *a = &peer[0], *b = &peer[1];
	uint64_t ref;

	start(2, true);
	take_slots(a, &ref, 1);
	for (unsigned i = 0; i < 300; i++) {
		publish(a, LANE_RECEIVE, ref);
		publish(b, LANE_RECEIVE, ref);
	}
	use(a, MUCH_US);
	cr_assert_eq(ping(b, 0), 0);
	cr_assert(share_is_used(&inside, a->client->user));
	lanes_judge(pool);
	cr_assert_gt(a->e->read, 0);
	cr_assert_lt(a->e->read, 128);
}

/* As many as one lane or a few: who brings more has less in each. */
Test(share, many_lanes_of_one_user_find_one_patience)
{
	enum { LANES = 16, RECORDS = 300, MOST = 1024 };
	static struct party many[LANES];
	struct party *b = &peer[1];
	uint64_t ref, ahead, read = 0;

	start(2, true);
	for (unsigned i = 0; i < LANES; i++)
		join_as(&many[i], true);
	take_slots(b, &ref, 1);
	ahead = ref_after(ref);
	for (unsigned n = 0; n < RECORDS; n++) {
		publish(b, LANE_RECEIVE, ahead);
		for (unsigned i = 0; i < LANES; i++)
			publish(&many[i], LANE_RECEIVE, i % 2 ? ref : ahead);
	}
	lanes_judge(pool);
	for (unsigned i = 0; i < LANES; i++) {
		cr_assert_gt(many[i].e->read, 0, "%u", i);
		read += many[i].e->read;
	}
	cr_assert_leq(read, MOST + LANES);
	cr_assert_gt(b->e->read, MOST / LANES, "another's is its own");
}
