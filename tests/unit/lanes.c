/*
 * The daemon's ends of lanes.
 */
#include "config.h"

#include <criterion/criterion.h>
#include <poll.h>

#include "barrier.h"
#include "daemon/user.h"
#include "inside.h"
#include "magazine.h"

#define SLOTS 256u

TestSuite(lanes, .fini = end, .timeout = 60);

static struct party peer[2];

static void
start(void)
{
	begin("\"slots_per_segment\": 256");
}

/* Called once, when the daemon has done a turn's work and is about to sleep. */
static void (*before_sleep)(void);

void __real_pool_note_used(struct pool *);
void __wrap_pool_note_used(struct pool *);

void
__wrap_pool_note_used(struct pool *p)
{
	void (*meanwhile)(void) = before_sleep;

	__real_pool_note_used(p);
	before_sleep = NULL;
	if (meanwhile != NULL)
		meanwhile();
}

static bool
is_read(const struct party *q)
{
	return load_relaxed(&q->lane.header->record_head) == q->outlet.tail;
}

static enum ledger_state
state_of(uint64_t ref)
{
	return ledger_word(&pool->ledger, ref_slot(ref)).state;
}

/* ----------------------------------------------------------------- parked */

/*
 * What comes later in a lane about the same slot and version waits for its
 * turn, also when the slot has moved by a message, so that the parked ones were
 * not tried again.
 */
Test(lanes, nothing_overtakes_a_parked_record)
{
	struct party *a = &peer[0], *b = &peer[1];
	uint64_t ref, sent;

	start();
	join_as(a, true);
	join_as(b, true);
	take_slots(a, &ref, 1);
	sent = ref_after(ref);
	publish(b, LANE_RECEIVE, sent);
	lanes_sweep(pool);
	cr_assert_eq(b->e->parked, 1);
	cr_assert_eq(pool_send(a->a, ref, &sent), 0);
	publish(b, LANE_RECEIVE, sent);
	lanes_sweep(pool);
	cr_assert_eq(b->e->refused_tail, 1, "the first was judged");
	cr_assert_eq(b->e->parked, 1, "the second is behind it");
	cr_assert_eq(state_of(sent), LEDGER_IN_FLIGHT);
}

/* ------------------------------------------------------- before it sleeps */

static uint64_t held[SLOTS];

/* So many that they are due, of one who has seen that the daemon is awake. */
static void
free_a_row(void)
{
	struct party *a = &peer[0];
	uint32_t mark = a->e->watermark;

	cr_assert(mark > 1 && mark < SLOTS);
	cr_assert_not(ring_wake(&a->lane), "it is awake");
	for (uint32_t i = 0; i < mark; i++)
		publish(a, LANE_FREE, held[i]);
	cr_assert(ring_is_due(&a->lane, &a->outlet));
}

static void
free_one(void)
{
	publish(&peer[0], LANE_FREE, held[0]);
}

static void
take_all_grants(void)
{
	uint64_t refs[SLOTS];
	struct party *a = &peer[0];

	cr_assert_gt(ring_take(&a->lane, refs, SLOTS), 0);
	cr_assert(ring_is_low(&a->lane));
}

/*
 * A turn for a bell that was rung, with `meanwhile` at the end of it, and the
 * next turn, if the daemon has seen to one.
 */
static void
turn_with(void (*meanwhile)(void))
{
	ring_wake(&peer[0].lane);
	before_sleep = meanwhile;
	lanes_turn(pool);
	cr_assert_null(before_sleep);
	/* As if that had been quick. */
	pool->laborious = false;
	loop_poll(inside.loop);
}

Test(lanes, records_due_while_it_goes_to_sleep)
{
	struct party *a = &peer[0];

	start();
	join_as(a, true);
	take_slots(a, held, SLOTS);
	turn_with(free_a_row);
	cr_assert(is_read(a));
	/* Those that are not due can wait. */
	turn_with(free_one);
	cr_assert_not(is_read(a));
}

/* Another user's from now on. */
static void
become(struct party *q, uid_t uid)
{
	user_dismiss(&inside, q->client->user);
	q->client->peer.uid = uid;
	q->client->user = user_keep_place(&inside, uid);
	cr_assert_not_null(q->client->user);
}

/* The first half of what is held is one's, the other the other's. */
static void
free_two_rows(void)
{
	for (unsigned i = 0; i < 2; i++) {
		struct party *q = &peer[i];

		cr_assert_leq(q->e->watermark, SLOTS / 2);
		for (uint32_t n = 0; n < q->e->watermark; n++)
			publish(q, LANE_FREE, held[i * SLOTS / 2 + n]);
		cr_assert(ring_is_due(&q->lane, &q->outlet));
	}
}

/* It would not be heard if it were woken for, and the other not either. */
Test(lanes, who_has_used_its_share_is_no_reason_to_stay_awake)
{
	struct party *a = &peer[0], *b = &peer[1];
	uint64_t late_us = loop_now_us() + UINT64_C(3600000000);

	start();
	/* The lane that came last is looked at first. */
	join_as(b, true);
	join_as(a, true);
	become(b, geteuid() + 1);
	take_slots(a, held, SLOTS / 2);
	take_slots(b, held + SLOTS / 2, SLOTS / 2);
	a->client->user->paid_us = late_us;
	b->client->user->served_us = late_us;
	before_sleep = free_two_rows;
	lanes_turn(pool);
	cr_assert(a->e->muted);
	cr_assert_not(b->e->muted);
	timer_stop(pool->judge);
	/* As if that had been quick. */
	pool->laborious = false;
	loop_poll(inside.loop);
	cr_assert(is_read(b));
}

static int answered;

static void
note_answer(struct waiter *w, int status, const uint64_t *refs)
{
	(void)w;
	(void)refs;
	answered = status;
}

Test(lanes, a_record_somebody_waits_for_while_it_goes_to_sleep)
{
	struct party *a = &peer[0];
	struct waiter w = {.tag = 2, .n = 1, .done = note_answer};

	start();
	join_as(a, true);
	join_as(&peer[1], true);
	take_slots(a, held, SLOTS);
	w.attachment = peer[1].a;
	waiter_add(&w);
	cr_assert_eq(answered, 0);
	turn_with(free_one);
	cr_assert_eq(answered, 1);
}

Test(lanes, grants_taken_while_it_goes_to_sleep)
{
	struct party *a = &peer[0];

	start();
	join_as(a, true);
	lane_asked(a->e);
	cr_assert_gt(ring_stock(&a->lane), 0);
	turn_with(take_all_grants);
	cr_assert_gt(ring_stock(&a->lane), 0, "there are others");
}

/* ----------------------------------------------------------------- shares */

/* Where the daemon could not take it back nobody keeps any. */
static void
start_with_magazines(void)
{
	start();
	if (!barrier_possible())
		cr_skip_test("the kernel has no barrier");
}

/* The more there are, the less each may keep: what is at hand comes back. */
Test(lanes, who_comes_leaves_less_to_others)
{
	struct party *a = &peer[0];
	struct lane_magazine *m;
	uint64_t ref;

	start_with_magazines();
	join_as(a, true);
	take_slots(a, &ref, 1);
	m = lane_magazine(&a->lane, 0);
	store_relaxed(&a->lane.header->magazines_used, 1);
	store_relaxed(&m->seen, load_relaxed(&a->lane.header->notice));
	magazine_push(m, ref);
	join_as(&peer[1], true);
	cr_assert(magazine_is_seized(m, 0));
	cr_assert_eq(state_of(ref), LEDGER_FREE);
}

/* The fewer there are, the more each thread may keep at hand. */
Test(lanes, who_leaves_leaves_more_to_others)
{
	struct party *a = &peer[0], *b = &peer[1];
	uint32_t alone;

	start_with_magazines();
	join_as(a, true);
	alone = a->lane.header->magazine_limit;
	join_as(b, true);
	cr_assert_lt(a->lane.header->magazine_limit, alone);
	cr_assert_eq(ask(b, WIRE_DETACH, 0, NULL, 0), 0);
	cr_assert_eq(a->lane.header->magazine_limit, alone);
}

/* ---------------------------------------------------------------- cut off */

/* Nothing was ever said in it, so that zeros in its place say nothing new. */
Test(lanes, a_lane_that_is_cut_off_ends_its_client)
{
	struct party *a = &peer[0], *b = &peer[1];

	start();
	join_as(a, true);
	join_as(b, true);
	cr_assert_eq(ftruncate(a->e->object.fd, 0), 0);
	lanes_sweep(pool);
	cr_assert(a->e->breached);
	loop_poll(inside.loop);
	cr_assert_eq(hear(a, NULL), -ENOTCONN);
	cr_assert_eq(hear(b, NULL), UNANSWERED);
}

/* --------------------------------------------------------------- patience */

/* More than is read in one turn of what does not fit. */
#define MANY 600u

/* One lane that tries patience, one beside it, and a slot of the first. */
static void
start_with_ref(uint64_t *ref)
{
	begin("\"slots_per_segment\": 1024");
	join_as(&peer[0], true);
	join_as(&peer[1], true);
	take_slots(&peer[0], ref, 1);
}

/* Receipts of what nobody has sent at that version: refused. */
static void
publish_refused(struct party *q, uint64_t ref, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		publish(q, LANE_RECEIVE, ref);
}

/* What is good is not kept waiting, and the rest comes to its turn. */
Test(lanes, a_lane_full_of_refused_records)
{
	struct party *a = &peer[0], *b = &peer[1];
	uint64_t ref, good;
	int tries = 5000;

	start_with_ref(&ref);
	take_slots(b, &good, 1);
	publish_refused(a, ref, MANY);
	publish(b, LANE_FREE, good);
	lanes_turn(pool);
	cr_assert(is_read(b));
	cr_assert_not(is_read(a));
	while (!is_read(a) && tries-- > 0) {
		poll(NULL, 0, 1);
		loop_poll(inside.loop);
	}
	cr_assert(is_read(a));
	cr_assert_eq(pool->rejected_total, MANY);
	cr_assert_eq(a->e->refused_tail, MANY);
}

/* What is left to the judge is no reason to stay awake. */
Test(lanes, it_sleeps_while_records_wait_for_the_judge)
{
	struct party *a = &peer[0];
	uint64_t ref, read;

	start_with_ref(&ref);
	publish_refused(a, ref, 2 * MANY);
	lanes_turn(pool);
	timer_stop(pool->judge);
	/* As if that had been quick. */
	pool->laborious = false;
	read = a->e->read;
	cr_assert_geq(a->outlet.tail - read, a->e->watermark);
	for (unsigned i = 0; i < 3; i++)
		loop_poll(inside.loop);
	cr_assert_eq(a->e->read, read);
}

/* The one sends the slot, behind many records that say nothing; its new ref,
 * which the other has received. */
static uint64_t
send_behind(struct party *a, struct party *b, uint64_t ref, unsigned many)
{
	uint64_t sent = ref_after(ref);

	publish_refused(a, ref, many);
	publish(a, LANE_SEND, ref);
	publish(b, LANE_RECEIVE, sent);
	return sent;
}

/* The record it builds on is there, only behind many that say nothing. */
Test(lanes, a_parked_record_waits_for_a_whole_sweep)
{
	struct party *a = &peer[0], *b = &peer[1];
	uint64_t ref, sent;

	start_with_ref(&ref);
	sent = send_behind(a, b, ref, MANY);
	lanes_turn(pool);
	cr_assert_eq(b->e->parked, 1);
	for (unsigned i = 0; i < 4; i++)
		lanes_judge(pool);
	cr_assert_eq(b->e->refused_tail, 0);
	cr_assert_eq(state_of(sent), LEDGER_HELD);
	cr_assert(is_read(b));
}

/* It came to a sweep that had begun, and what it builds on did so too. */
Test(lanes, a_parked_record_waits_for_the_next_sweep)
{
	struct party *a = &peer[0], *b = &peer[1];
	uint64_t ref, sent;

	start_with_ref(&ref);
	publish_refused(a, ref, MANY / 2);
	lanes_turn(pool);
	cr_assert(pool->sweeping);
	sent = send_behind(a, b, ref, MANY / 2);
	lanes_judge(pool);
	cr_assert_not(pool->sweeping, "all that had been there is read");
	cr_assert_eq(b->e->parked, 1);
	lanes_judge(pool);
	cr_assert_eq(b->e->refused_tail, 0);
	cr_assert_eq(state_of(sent), LEDGER_HELD);
}

/* Nobody can put off the end of a sweep by publishing more and more. */
Test(lanes, a_sweep_ends)
{
	struct party *a = &peer[0], *b = &peer[1];
	uint64_t ref;

	start_with_ref(&ref);
	publish(b, LANE_RECEIVE, ref_after(ref));
	for (unsigned i = 0; i < 6; i++) {
		publish_refused(a, ref, MANY / 2);
		lanes_judge(pool);
		cr_assert_not(is_read(a));
	}
	cr_assert_eq(b->e->refused_tail, 1);
}

/* What somebody did before his end counts, whatever else he published. */
Test(lanes, the_dead_are_read_to_the_end)
{
	struct party *a = &peer[0], *b = &peer[1];
	uint64_t ref, sent;

	start_with_ref(&ref);
	sent = send_behind(a, b, ref, MANY);
	client_end(a->client, true);
	cr_assert_eq(state_of(sent), LEDGER_HELD);
	cr_assert_eq(pool->reclaimed_total, 0);
	cr_assert_eq(b->e->refused_tail, 0);
}

/* Messages and records of one client keep their order. */
Test(lanes, who_asks_is_read_to_the_end)
{
	struct party *a = &peer[0];
	uint64_t ref, other;

	start_with_ref(&ref);
	take_slots(a, &other, 1);
	publish_refused(a, ref, MANY);
	publish(a, LANE_FREE, ref);
	cr_assert_eq(ask(a, WIRE_FREE, 0, &other, sizeof(other)), 1);
	cr_assert(is_read(a));
	cr_assert_eq(state_of(ref), LEDGER_FREE);
}

/* Before the answer is no, all is read that may have been freed. */
Test(lanes, no_slot_is_missed_behind_refused_records)
{
	struct party *a = &peer[0], *b = &peer[1];
	uint64_t ref, refs[1023];
	uint32_t one = 1;

	start_with_ref(&ref);
	take_slots(a, refs, 1023);
	publish_refused(a, ref, MANY);
	publish(a, LANE_FREE, ref);
	cr_assert_eq(ask(b, WIRE_ALLOC, 0, &one, sizeof(one)), 1);
}
