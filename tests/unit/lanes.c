/*
 * The daemon's ends of lanes.
 */
#include "config.h"

#include <criterion/criterion.h>

#include "barrier.h"
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
