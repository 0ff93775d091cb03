#include "config.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ledger.h"
#include "magazine.h"
#include "scenes.h"

#define A (&w->clients[0])
#define B (&w->clients[1])

/* Steps of a preparation: the first that fails ends it. */
#define TRY(expression)                  \
	do {                             \
		int err_ = (expression); \
		if (err_ != 0)           \
			return err_;     \
	} while (0)

void
scene_config(const struct scene *s, char *text, size_t len)
{
	snprintf(text, len,
	    "\"log_level\": \"warning\", \"pools\": [{\"name\": \"" WORLD_POOL
	    "\", \"slot_size\": 64, \"slots_per_segment\": %u, "
	    "\"min_segments\": 1, \"max_clients\": 8%s}]",
	    WORLD_SLOTS, s->config);
}

/* Shorthands. */

static int
post_refs(struct world *w, unsigned client, unsigned type, const uint64_t *refs,
    unsigned n)
{
	world_post(
	    w, client, type, 0, refs, 8 * n, type == WIRE_FREE ? (int)n : 0);
	return 0;
}

static int
post_ref(struct world *w, unsigned client, unsigned type, uint64_t ref,
    uint32_t more, int expected)
{
	uint8_t body[12];

	memcpy(body, &ref, 8);
	memcpy(body + 8, &more, 4);
	world_post(w, client, type, 0, body,
	    type == WIRE_SHARE || type == WIRE_RECALL ? 12 : 8, expected);
	return 0;
}

static int
post_alloc(struct world *w, unsigned client, uint32_t n, unsigned flags)
{
	world_post(w, client, WIRE_ALLOC, flags, &n, sizeof(n), (int)n);
	return 0;
}

/* Sent or shared by message. */
static int
hand_on(struct world *w, unsigned client, uint64_t ref, unsigned receivers)
{
	struct client *c = &w->clients[client];
	uint64_t out;

	if (receivers == 0)
		TRY(raw_send(&c->raw, c->at, ref, &out));
	else
		TRY(raw_share(&c->raw, c->at, ref, receivers, &out));
	world_drop(w, client, ref);
	if (receivers > 0)
		world_hold(w, client, out);
	world_offer(w, client, out, receivers > 0 ? receivers : 1);
	return 0;
}

static int
receive(struct world *w, unsigned client, uint64_t ref)
{
	struct client *c = &w->clients[client];

	TRY(raw_receive(&c->raw, c->at, ref));
	world_take(w, ref, 1);
	world_hold(w, client, ref);
	return 0;
}

/* The same by a lane, and the belief with it. */

static int
lane_free(struct world *w, unsigned client, uint64_t ref)
{
	if (!raw_lane_record(&w->clients[client].lane, LANE_FREE, ref, 0))
		return -ENOSPC;
	world_drop(w, client, ref);
	return 0;
}

static int
lane_hand_on(struct world *w, unsigned client, uint64_t ref, unsigned n)
{
	struct raw_lane *l = &w->clients[client].lane;
	uint64_t out;

	TRY(n == 0 ? raw_lane_send(l, ref, &out)
		   : raw_lane_share(l, ref, n, &out));
	world_drop(w, client, ref);
	if (n > 0)
		world_hold(w, client, out);
	world_offer(w, client, out, n > 0 ? n : 1);
	return 0;
}

static int
lane_receive(struct world *w, unsigned client, uint64_t ref)
{
	TRY(raw_lane_receive(&w->clients[client].lane, ref));
	world_take(w, ref, 1);
	world_hold(w, client, ref);
	return 0;
}

static int
lane_recall(struct world *w, unsigned client, uint64_t ref, unsigned n)
{
	int got = raw_lane_recall(&w->clients[client].lane, ref, n);

	if (got != (int)n)
		return -ESTALE;
	world_take(w, ref, n);
	if (!ref_shared(ref))
		world_hold(w, client, ref);
	return 0;
}

static int
ring(struct client *c)
{
	raw_lane_bell(&c->lane);
	return 0;
}

/* What was published so far is the daemon's. */
static int
settle(struct world *w)
{
	return raw_audit(&A->raw);
}

/* Preparations. */

static int
one(struct world *w)
{
	TRY(world_join(w, 0, false));
	return world_alloc(w, 0, 12);
}

static int
one_lane(struct world *w)
{
	TRY(world_join(w, 0, true));
	return world_alloc(w, 0, 12);
}

static int
two(struct world *w)
{
	TRY(one(w));
	TRY(world_join(w, 1, false));
	return world_alloc(w, 1, 4);
}

/* Lanes are read from the youngest on: A's comes first. */
static int
two_lanes(struct world *w)
{
	TRY(world_join(w, 1, true));
	TRY(world_alloc(w, 1, 6));
	return one_lane(w);
}

static int
all_taken(struct world *w)
{
	TRY(world_join(w, 0, false));
	TRY(world_alloc(w, 0, WORLD_SLOTS));
	return world_join(w, 1, false);
}

static int
all_taken_lane(struct world *w)
{
	uint32_t tag;
	int n;

	TRY(world_join(w, 0, true));
	/* Nothing is kept ahead of who waits for all there are. */
	tag = raw_post_alloc(&A->raw, A->at, WORLD_SLOTS);
	n = raw_wait_alloc(&A->raw, tag, A->held);
	if (n != (int)WORLD_SLOTS)
		return -ENOBUFS;
	A->nheld = WORLD_SLOTS;
	return world_join(w, 1, false);
}

static int
sent(struct world *w)
{
	TRY(two(w));
	return hand_on(w, 0, A->held[0], 0);
}

static int
shared(struct world *w)
{
	TRY(two(w));
	return hand_on(w, 0, A->held[0], 3);
}

/* Nobody else has it, and nothing is open: the next free is the last. */
static int
shared_last(struct world *w)
{
	TRY(one(w));
	TRY(hand_on(w, 0, A->held[0], 1));
	return receive(w, 0, w->offers[0].ref);
}

static int
sent_by_lane(struct world *w)
{
	TRY(two_lanes(w));
	for (unsigned i = 0; i < 4; i++)
		TRY(lane_hand_on(w, 0, A->held[0], 0));
	return settle(w);
}

static int
shared_by_lane(struct world *w)
{
	TRY(two_lanes(w));
	TRY(lane_hand_on(w, 0, A->held[0], 3));
	return settle(w);
}

static int
shared_last_lane(struct world *w)
{
	TRY(one_lane(w));
	TRY(lane_hand_on(w, 0, A->held[0], 1));
	TRY(lane_receive(w, 0, w->offers[0].ref));
	return settle(w);
}

/*
 * Rings that have been round: both are close to the end of a lap, and what they
 * hold of the one before, in the places ahead, looks as good as new.
 */

/* So many slots are kept of the first that are granted, */
#define KEPT 32u
/* and so many places are left to the end of a lap. */
#define LEFT 4u

/*
 * The grant ring and the daemon's copy of it: the client has the slots still
 * that were granted in the places to come.
 */
static int
turn_grants(struct world *w, unsigned client)
{
	struct client *c = &w->clients[client];
	const struct lane *l = &c->lane.lane;
	uint64_t refs[WORLD_SLOTS];
	unsigned n, kept = 0;

	for (int i = 0; i < 5000; i++) {
		n = raw_lane_take(&c->lane, refs, 4);
		for (unsigned k = 0; k < n; k++)
			if (kept++ < KEPT)
				world_hold(w, client, refs[k]);
			else if (!raw_lane_record(
				     &c->lane, LANE_FREE, refs[k], 0))
				return -ENOSPC;
		if (load_acquire(&l->header->grant_tail) + LEFT >=
		    l->geometry.grants)
			return settle(w);
		raw_lane_bell(&c->lane);
		TRY(raw_ping(&c->raw));
	}
	return -ETIMEDOUT;
}

/*
 * The return ring and its bits: one slot goes from hand to hand, both of them
 * the client's. What is then written ahead is not published: frees of slots
 * that it has.
 */
static int
turn_records(struct world *w, unsigned client)
{
	struct client *c = &w->clients[client];
	const struct lane *l = &c->lane.lane;
	uint64_t ref = c->held[c->nheld - 1], end;

	end = 2 * (uint64_t)l->geometry.records - LEFT;
	world_drop(w, client, ref);
	while (c->lane.outlet.tail < end) {
		if (!ring_has_room(l, &c->lane.outlet, 2))
			TRY(settle(w));
		TRY(raw_lane_send(&c->lane, ref, &ref));
		TRY(raw_lane_receive(&c->lane, ref));
	}
	world_hold(w, client, ref);
	TRY(settle(w));
	for (uint32_t i = 0; i < l->geometry.records; i++)
		store_relaxed(&l->records[(end + i) % l->geometry.records],
		    record_make(LANE_FREE, c->held[i % c->nheld], 0));
	return 0;
}

static int
turn(struct world *w)
{
	TRY(world_alloc(w, 0, 2));
	TRY(turn_grants(w, 0));
	return turn_records(w, 0);
}

static int
one_round(struct world *w)
{
	TRY(world_join(w, 0, true));
	return turn(w);
}

/* Who wants nearly all there is takes from B what lies ahead of it. */
static int
two_round(struct world *w)
{
	const int most = WORLD_SLOTS - 8;
	uint64_t refs[WORLD_SLOTS];
	uint32_t tag;

	TRY(world_join(w, 1, true));
	TRY(world_alloc(w, 1, 6));
	TRY(world_join(w, 0, true));
	tag = raw_post_alloc(&A->raw, A->at, (uint32_t)most);
	if (raw_wait_alloc(&A->raw, tag, refs) != most ||
	    raw_free(&A->raw, A->at, refs, (size_t)most) != most)
		return -ENOBUFS;
	TRY(turn(w));
	return turn_records(w, 1);
}

static int
sent_round(struct world *w)
{
	TRY(two_round(w));
	for (unsigned i = 0; i < 4; i++)
		TRY(lane_hand_on(w, 0, A->held[0], 0));
	return settle(w);
}

static int
shared_round(struct world *w)
{
	TRY(two_round(w));
	TRY(lane_hand_on(w, 0, A->held[0], 3));
	return settle(w);
}

static int
stocked_round(struct world *w)
{
	TRY(one_round(w));
	return world_join(w, 1, false);
}

/* What was granted ahead is used, and the daemon does not know. */
static int
use_up(struct world *w)
{
	uint64_t refs[WORLD_SLOTS];
	unsigned n = raw_lane_take(&A->lane, refs, WORLD_SLOTS);

	for (unsigned i = 0; i < n; i++)
		world_hold(w, 0, refs[i]);
	return n > 0 ? 0 : -ENODATA;
}

static int
used_up(struct world *w)
{
	TRY(one_lane(w));
	return use_up(w);
}

/* A's magazine has slots, its ring has some, and B wants more than is free. */
static int
stocked(struct world *w)
{
	TRY(one_lane(w));
	TRY(world_alloc(w, 0, 12));
	return world_join(w, 1, false);
}

static int
in_magazine(struct world *w)
{
	struct lane_magazine *m;
	uint64_t refs[6];
	unsigned n;

	TRY(stocked(w));
	n = raw_lane_take(&A->lane, refs, 6);
	if (n < 2)
		return -ENODATA;
	m = lane_magazine(&A->lane.lane, 0);
	store_relaxed(&A->lane.lane.header->magazines_used, 1);
	store_relaxed(&m->seen, load_relaxed(&A->lane.lane.header->notice));
	for (unsigned i = 0; i < n; i++)
		magazine_push(m, refs[i]);
	return 0;
}

static int
grown(struct world *w)
{
	uint32_t tag;
	int n;

	TRY(world_join(w, 0, false));
	tag = raw_post_alloc(&A->raw, A->at, WORLD_SLOTS + 8);
	n = raw_wait_alloc(&A->raw, tag, A->held);
	if (n != (int)WORLD_SLOTS + 8)
		return -ENOBUFS;
	n = raw_free(&A->raw, A->at, A->held, (size_t)n);
	return n == (int)WORLD_SLOTS + 8 ? 0 : -EIO;
}

static int
only_attached(struct world *w)
{
	return world_join(w, 0, false);
}

static int
only_said_hello(struct world *w)
{
	return raw_open(&A->raw, w->server.socket, "new");
}

/* A process of its own behind client 1. */

struct told {
	uint64_t held[8];
	unsigned nheld, holder;
	struct offer offers[2];
};

struct brief {
	const struct server *server;
	bool lane;
};

static int
victim(int control, void *arg)
{
	static struct world w;
	const struct brief *b = arg;
	struct client *c = &w.clients[1];
	struct told t = {.nheld = 0};
	char order;

	memcpy(&w.server, b->server, sizeof(w.server));
	if (world_join(&w, 1, b->lane) != 0 || world_alloc(&w, 1, 8) != 0 ||
	    hand_on(&w, 1, c->held[7], 0) != 0 ||
	    hand_on(&w, 1, c->held[6], 2) != 0)
		return 1;
	t.nheld = c->nheld;
	t.holder = c->holder;
	memcpy(t.held, c->held, sizeof(t.held));
	memcpy(t.offers, w.offers, sizeof(t.offers));
	tell(control, &t, sizeof(t));
	/* Told to close its connection; and then it waits for its end. */
	if (hear(control, &order, 1) == 0)
		close(c->raw.fd);
	tell(control, &order, 1);
	hear(control, &order, 1);
	return 0;
}

static int
with_victim(struct world *w, bool lane)
{
	struct brief brief = {&w->server, lane};
	struct told t;

	TRY(one(w));
	w->victim = spawn(victim, &brief, &w->control);
	TRY(hear(w->control, &t, sizeof(t)));
	memcpy(B->held, t.held, sizeof(t.held));
	B->nheld = t.nheld;
	B->holder = t.holder;
	B->presence = PARTED;
	for (unsigned i = 0; i < 2; i++)
		w->offers[w->noffers++] = t.offers[i];
	return receive(w, 0, w->offers[1].ref);
}

static int
victim_by_message(struct world *w)
{
	return with_victim(w, false);
}

static int
victim_with_lane(struct world *w)
{
	return with_victim(w, true);
}

static int
bury(struct world *w)
{
	kill(w->victim, SIGKILL);
	reap(w->victim);
	close(w->control);
	w->victim = 0;
	B->nheld = 0;
	B->presence = DEAD;
	return 0;
}

static unsigned
in_flight(struct world *w)
{
	struct raw_stats s = {.in_flight = 1};

	raw_pool_stats(&A->raw, WORLD_POOL, &s);
	return s.in_flight;
}

static int
victim_is_dead(struct world *w)
{
	struct raw_stats s = {.in_flight = 0};

	TRY(victim_by_message(w));
	TRY(bury(w));
	for (int i = 0; i < 5000; i++) {
		TRY(raw_pool_stats(&A->raw, WORLD_POOL, &s));
		if (s.clients == 1 && s.used == 13)
			return in_flight(w) > 0 ? 0 : -EIO;
		poll(NULL, 0, 1);
	}
	return -ETIMEDOUT;
}

/* What sets it off. */

static int
alloc_one(struct world *w)
{
	return post_alloc(w, 0, 1, 0);
}

static int
alloc_many(struct world *w)
{
	return post_alloc(w, 0, 20, 0);
}

/* All that was granted ahead is used: more comes. */
static int
take_all(struct world *w)
{
	TRY(use_up(w));
	return ring(A);
}

static int
wait_and_free(struct world *w)
{
	uint64_t refs[3];

	memcpy(refs, A->held, sizeof(refs));
	post_alloc(w, 1, 3, WIRE_WAIT);
	return post_refs(w, 0, WIRE_FREE, refs, 3);
}

static int
wait_and_free_by_lane(struct world *w)
{
	post_alloc(w, 1, 3, WIRE_WAIT);
	for (unsigned i = 0; i < 3; i++)
		TRY(lane_free(w, 0, A->held[0]));
	return ring(A);
}

/* All that A does not hold itself. */
static int
want_all(struct world *w)
{
	return post_alloc(w, 1, WORLD_SLOTS - A->nheld, WIRE_WAIT);
}

static int
want_more(struct world *w)
{
	return post_alloc(w, 0, WORLD_SLOTS + 8, WIRE_WAIT);
}

static int
free_one(struct world *w)
{
	return post_refs(w, 0, WIRE_FREE, A->held, 1);
}

static int
free_many(struct world *w)
{
	uint64_t refs[8];

	memcpy(refs, A->held, sizeof(refs));
	return post_refs(w, 0, WIRE_FREE, refs, 8);
}

static int
free_offered(struct world *w)
{
	return post_refs(w, 0, WIRE_FREE, &w->offers[0].ref, 1);
}

static int
send_one(struct world *w)
{
	return post_ref(w, 0, WIRE_SEND, A->held[0], 0, 0);
}

static int
share_one(struct world *w)
{
	return post_ref(w, 0, WIRE_SHARE, A->held[0], 3, 0);
}

static int
receive_offered(struct world *w)
{
	return post_ref(w, 1, WIRE_RECEIVE, w->offers[0].ref, 0, 0);
}

static int
recall_sent(struct world *w)
{
	return post_ref(w, 0, WIRE_RECALL, w->offers[0].ref, 0, 1);
}

static int
recall_some(struct world *w)
{
	return post_ref(w, 0, WIRE_RECALL, w->offers[0].ref, 2, 2);
}

static int
recall_all(struct world *w)
{
	return post_ref(w, 0, WIRE_RECALL, w->offers[0].ref, 0, 3);
}

static int
lane_free_one(struct world *w)
{
	TRY(lane_free(w, 0, A->held[0]));
	return ring(A);
}

static int
lane_free_run(struct world *w)
{
	for (unsigned i = 0; i < 8; i++)
		TRY(lane_free(w, 0, A->held[0]));
	return ring(A);
}

static int
lane_free_offered(struct world *w)
{
	TRY(lane_free(w, 0, w->offers[0].ref));
	return ring(A);
}

static int
lane_send_run(struct world *w)
{
	for (unsigned i = 0; i < 4; i++)
		TRY(lane_hand_on(w, 0, A->held[0], 0));
	return ring(A);
}

static int
lane_share(struct world *w)
{
	TRY(lane_hand_on(w, 0, A->held[0], 3));
	return ring(A);
}

static int
lane_receive_run(struct world *w)
{
	for (unsigned i = 0; i < 4; i++)
		TRY(lane_receive(w, 1, w->offers[i].ref));
	return ring(B);
}

static int
lane_receive_shared(struct world *w)
{
	TRY(lane_receive(w, 1, w->offers[0].ref));
	return ring(B);
}

static int
lane_recall_sent(struct world *w)
{
	TRY(lane_recall(w, 0, w->offers[0].ref, 1));
	TRY(lane_recall(w, 0, w->offers[2].ref, 1));
	return ring(A);
}

static int
lane_recall_some(struct world *w)
{
	TRY(lane_recall(w, 0, w->offers[0].ref, 2));
	return ring(A);
}

/* Some of everything, about slots that come round. */
static int
lane_mixed(struct world *w)
{
	TRY(lane_hand_on(w, 0, A->held[0], 2));
	TRY(lane_free(w, 0, A->held[1]));
	TRY(lane_hand_on(w, 0, A->held[2], 0));
	TRY(lane_receive(w, 1, w->offers[0].ref));
	TRY(lane_receive(w, 1, w->offers[1].ref));
	TRY(lane_free(w, 1, w->offers[0].ref));
	TRY(lane_hand_on(w, 1, w->offers[1].ref, 0));
	TRY(lane_recall(w, 0, w->offers[0].ref, 1));
	TRY(lane_free(w, 0, w->offers[0].ref));
	return ring(B);
}

/* Something to be read in B's lane. */
static int
lane_ring(struct world *w)
{
	TRY(lane_free(w, 1, B->held[0]));
	return ring(B);
}

/* A's record comes too late for this look at its lane, B's not. */
static int
overtake(struct world *w, unsigned receivers)
{
	uint64_t own[3];

	memcpy(own, B->held, sizeof(own));
	TRY(lane_hand_on(w, 0, A->held[0], receivers));
	TRY(lane_hand_on(w, 0, A->held[1], receivers));
	TRY(lane_receive(w, 1, w->offers[0].ref));
	TRY(lane_free(w, 1, own[0]));
	TRY(lane_receive(w, 1, w->offers[1].ref));
	TRY(lane_free(w, 1, own[1]));
	TRY(lane_free(w, 1, w->offers[0].ref));
	TRY(lane_free(w, 1, own[2]));
	return ring(B);
}

static int
overtake_sent(struct world *w)
{
	return overtake(w, 0);
}

static int
overtake_shared(struct world *w)
{
	return overtake(w, 2);
}

static int
attach(struct world *w, uint32_t flags)
{
	uint8_t body[16];

	memcpy(body, &flags, 4);
	world_post(
	    w, 0, WIRE_ATTACH, 0, body, 4 + raw_name(body + 4, WORLD_POOL), 0);
	A->presence = PRESENT;
	A->lane.pool.features = flags != 0 ? WIRE_ATTACHED_LANE : 0;
	A->lane.doorbell = -1;
	return 0;
}

static int
attach_plain(struct world *w)
{
	return attach(w, 0);
}

static int
attach_lane(struct world *w)
{
	return attach(w, WIRE_ATTACH_LANE);
}

static int
detach(struct world *w)
{
	world_post(w, 0, WIRE_DETACH, 0, NULL, 0, 0);
	return 0;
}

static int
say_goodbye(struct world *w)
{
	world_post(w, 0, WIRE_BYE, 0, NULL, 0, 0);
	return 0;
}

static int
part(struct world *w)
{
	char order = 0;

	tell(w->control, &order, 1);
	return hear(w->control, &order, 1);
}

static int
trim(struct world *w)
{
	uint8_t body[8];

	world_post(
	    w, 0, WIRE_TRIM, 0, body, raw_name(body, WORLD_POOL), ANY_STATUS);
	return 0;
}

/* Time does it: what nobody receives expires. */
static int
wait_for_expiry(struct world *w)
{
	w->offers[0].open = 0;
	w->offers[1].open = 0;
	return 0;
}

/* The session goes on over a second socket, as after a fault of the first. */
static int
resume(struct world *w)
{
	uint64_t session = A->raw.session, token = A->raw.token;
	uint8_t body[34] = {0};
	uint32_t magic = WIRE_MAGIC, version = WIRE_VERSION * 0x10001u;

	/* The daemon has not seen it closed yet. */
	w->control = A->raw.fd;
	TRY(raw_connect(&A->raw, w->server.socket));
	A->raw.session = session;
	A->raw.token = token;
	memcpy(body, &magic, 4);
	memcpy(body + 4, &version, 4);
	memcpy(body + 16, &session, 8);
	memcpy(body + 24, &token, 8);
	world_post(w, 0, WIRE_HELLO, 0, body, sizeof(body), ANY_STATUS);
	world_post(w, 0, WIRE_RESUME, 0, NULL, 0, ANY_STATUS);
	return 0;
}

/* The end of it. */

static bool
is_expired(struct world *w)
{
	return world_open(w) == 0;
}

#define CAP(n) ", \"max_segments\": " #n

const struct scene scenes[] = {
    {"alloc: one", CAP(1), one, alloc_one, NULL, NULL, false},
    {"alloc: many", CAP(1), one, alloc_many, NULL, NULL, false},
    {"alloc: and ahead", CAP(1), one_lane, alloc_one, NULL, NULL, false},
    {"alloc: with nothing ahead", CAP(1), used_up, alloc_many, NULL, NULL,
	false},
    {"top up", CAP(1), one_lane, take_all, NULL, NULL, false},
    {"wait: freed by message", CAP(1), all_taken, wait_and_free, NULL, NULL,
	false},
    {"wait: freed by lane", CAP(1), all_taken_lane, wait_and_free_by_lane, NULL,
	NULL, false},
    {"free: one", CAP(1), one, free_one, NULL, NULL, false},
    {"free: many", CAP(1), one, free_many, NULL, NULL, false},
    {"free: last of a share", CAP(1), shared_last, free_offered, NULL, NULL,
	false},
    {"send", CAP(1), two, send_one, NULL, NULL, false},
    {"share", CAP(1), two, share_one, NULL, NULL, false},
    {"receive: sent", CAP(1), sent, receive_offered, NULL, NULL, false},
    {"receive: shared", CAP(1), shared, receive_offered, NULL, NULL, false},
    {"recall: sent", CAP(1), sent, recall_sent, NULL, NULL, false},
    {"recall: some of a share", CAP(1), shared, recall_some, NULL, NULL, false},
    {"recall: all of a share", CAP(1), shared, recall_all, NULL, NULL, false},
    {"lane: free", CAP(1), one_lane, lane_free_one, NULL, NULL, false},
    {"lane: run of frees", CAP(1), one_lane, lane_free_run, NULL, NULL, false},
    {"lane: free, last of a share", CAP(1), shared_last_lane, lane_free_offered,
	NULL, NULL, false},
    {"lane: run of sends", CAP(1), two_lanes, lane_send_run, NULL, NULL, false},
    {"lane: share", CAP(1), two_lanes, lane_share, NULL, NULL, false},
    {"lane: run of receives", CAP(1), sent_by_lane, lane_receive_run, NULL,
	NULL, false},
    {"lane: receive, shared", CAP(1), shared_by_lane, lane_receive_shared, NULL,
	NULL, false},
    {"lane: recall", CAP(1), sent_by_lane, lane_recall_sent, NULL, NULL, false},
    {"lane: recall, some of a share", CAP(1), shared_by_lane, lane_recall_some,
	NULL, NULL, false},
    {"lane: some of everything", CAP(1), two_lanes, lane_mixed, NULL, NULL,
	false},
    {"lane: overtaken", CAP(1), two_lanes, lane_ring, overtake_sent, NULL,
	false},
    {"lane: overtaken share", CAP(1), two_lanes, lane_ring, overtake_shared,
	NULL, false},
    {"round: top up", CAP(1), one_round, take_all, NULL, NULL, false},
    {"round: alloc and ahead", CAP(1), one_round, alloc_many, NULL, NULL,
	false},
    {"round: frees", CAP(1), one_round, lane_free_run, NULL, NULL, false},
    {"round: sends", CAP(1), two_round, lane_send_run, NULL, NULL, false},
    {"round: receives", CAP(1), sent_round, lane_receive_run, NULL, NULL,
	false},
    {"round: receive, shared", CAP(1), shared_round, lane_receive_shared, NULL,
	NULL, false},
    {"round: recall", CAP(1), sent_round, lane_recall_sent, NULL, NULL, false},
    {"round: some of everything", CAP(1), two_round, lane_mixed, NULL, NULL,
	false},
    {"round: overtaken", CAP(1), two_round, lane_ring, overtake_sent, NULL,
	false},
    {"round: overtaken share", CAP(1), two_round, lane_ring, overtake_shared,
	NULL, false},
    {"round: take back", CAP(1), stocked_round, want_all, NULL, NULL, false},
    {"take back", CAP(1), stocked, want_all, NULL, NULL, false},
    {"seize", CAP(1), in_magazine, want_all, NULL, NULL, false},
    {"death", CAP(1), victim_by_message, bury, NULL, NULL, false},
    {"death: with a lane", CAP(1), victim_with_lane, bury, NULL, NULL, false},
    {"expiry", CAP(1) ", \"orphan_seconds\": 1", victim_is_dead,
	wait_for_expiry, NULL, is_expired, false},
    {"attach", CAP(1), only_said_hello, attach_plain, NULL, NULL, true},
    {"attach: with a lane", CAP(1), only_said_hello, attach_lane, NULL, NULL,
	true},
    {"detach", CAP(1), shared, detach, NULL, NULL, false},
    {"detach: with a lane", CAP(1), shared_by_lane, detach, NULL, NULL, false},
    {"goodbye", CAP(1), shared, say_goodbye, NULL, NULL, false},
    {"goodbye: with a lane", CAP(1), sent_by_lane, say_goodbye, NULL, NULL,
	false},
    {"quarantine", CAP(1), victim_by_message, part, NULL, NULL, false},
    {"grow", CAP(2), only_attached, want_more, NULL, NULL, false},
    {"shrink", CAP(2), grown, trim, NULL, NULL, false},
    {"resume", CAP(1), shared_by_lane, resume, NULL, NULL, false},
};
const unsigned nscenes = sizeof(scenes) / sizeof(*scenes);
