/*
 * What becomes of a request, where that takes a daemon in a certain state.
 */
#include "config.h"

#include <criterion/criterion.h>

#include "inside.h"

TestSuite(request, .fini = end, .timeout = 60);

static struct party peer[3];

/* To the pool "p", to write, without a lane. */
static const uint8_t attach_p[] = {0, 0, 0, 0, 1, 0, 'p'};

/* Whoever has the region can cut it; who comes next finds it whole. */
Test(request, attach_finds_a_whole_region)
{
	struct party *a = &peer[0];
	struct stat st;
	int fd;

	begin("\"slots_per_segment\": 8");
	connect_as(a);
	cr_assert_eq(ftruncate(pool->region.fd, 0), 0);
	say(a, WIRE_ATTACH, 0, attach_p, sizeof(attach_p));
	cr_assert_eq(hear(a, &fd), 0);
	cr_assert_eq(fstat(fd, &st), 0);
	cr_assert_eq((uint64_t)st.st_size, pool->region.bytes);
	close(fd);
}

/* Descriptors that lie unread are the daemon's to pay for. */
Test(request, attach_waits_for_its_reader)
{
	struct party *a = &peer[0];

	begin("\"slots_per_segment\": 8");
	connect_as(a);
	for (unsigned i = 0; i < CLIENT_UNREAD_FDS; i++)
		say(a, WIRE_ATTACH, 0, attach_p, sizeof(attach_p));
	say(a, WIRE_ATTACH, 0, attach_p, sizeof(attach_p));
	for (unsigned i = 0; i < CLIENT_UNREAD_FDS; i++)
		cr_assert_eq(hear(a, NULL), 0);
	cr_assert_eq(hear(a, NULL), -EBUSY);
	cr_assert_eq(pool->clients, CLIENT_UNREAD_FDS);
	cr_assert_eq(ask(a, WIRE_ATTACH, 0, attach_p, sizeof(attach_p)), 0);
}

/* What a receiver now has of its reserve is not kept back for it any more. */
Test(request, a_receipt_serves_who_waits)
{
	struct party *a = &peer[0], *b = &peer[1];
	uint64_t refs[6], sent;
	uint32_t one = 1;

	begin("\"slots_per_segment\": 8, \"reserve\": 2");
	join_as(a, false);
	join_as(b, false);
	take_slots(a, refs, 6);
	cr_assert_eq(pool_send(a->a, refs[0], &sent), 0);
	claims_offer(pool, sent, 1);
	cr_assert_eq(
	    ask(a, WIRE_ALLOC, WIRE_WAIT, &one, sizeof(one)), UNANSWERED);
	cr_assert_eq(ask(b, WIRE_RECEIVE, 0, &sent, sizeof(sent)), 0);
	cr_assert_eq(hear(a, NULL), 1);
}

/* A slot of a segment that it has not mapped it cannot have. */
Test(request, a_receiver_must_know_the_segment)
{
	struct party *a = &peer[0], *b = &peer[1];
	uint64_t sent = begin_with_sent(a, b, false);
	uint32_t one = 1;

	claims_offer(pool, sent, 1);
	b->a->segments_seen = 0;
	cr_assert_eq(ask(b, WIRE_RECEIVE, 0, &sent, sizeof(sent)), -EREMCHG);
	cr_assert_eq(ask(b, WIRE_EXTEND, 0, &one, sizeof(one)), 0);
	cr_assert_eq(ask(b, WIRE_RECEIVE, 0, &sent, sizeof(sent)), 0);
}

/* All or nothing: what was granted of less than that before goes back. */
Test(request, an_allocation_repeated_leaves_nothing_behind)
{
	struct party *a = &peer[0];
	uint32_t two = 2, five = 5;

	begin("\"slots_per_segment\": 8");
	join_as(a, false);
	cr_assert_eq(ask(a, WIRE_ALLOC, 0, &two, sizeof(two)), 2);
	a->tag--;
	cr_assert_eq(
	    ask(a, WIRE_ALLOC, WIRE_WAIT | WIRE_AGAIN, &five, sizeof(five)), 5);
	cr_assert_eq(pool->count[SLOT_USED], 5);
}

/* Both wait for a segment of one slot, and after it there is none to come. */
Test(request, an_allocation_that_nothing_helps_ends)
{
	struct party *a = &peer[0], *b = &peer[1], *c = &peer[2];
	uint32_t one = 1;
	int answer;
	uint64_t ref;

	begin("\"slots_per_segment\": 1");
	join_as(a, false);
	take_slots(a, &ref, 1);
	cr_assert_eq(pool_resize(pool, 2), 0);
	join_as(b, false);
	join_as(c, false);
	cr_assert(pool->growing);
	cr_assert_eq(watch_set(inside.helper_watch, 0), 0);
	cr_assert_eq(ask(b, WIRE_ALLOC, 0, &one, sizeof(one)), UNANSWERED);
	cr_assert_eq(ask(c, WIRE_ALLOC, 0, &one, sizeof(one)), UNANSWERED);
	cr_assert_eq(watch_set(inside.helper_watch, WATCH_READ), 0);
	while ((answer = hear(b, NULL)) == UNANSWERED)
		loop_poll(inside.loop);
	cr_assert_eq(answer, 1);
	cr_assert_eq(hear(c, NULL), -ENOBUFS);
}

/* A claim is closed for whoever comes after that, not for who took it before. */
Test(request, a_recall_reads_what_was_said_before_it)
{
	struct party *a = &peer[0], *b = &peer[1];
	uint64_t sent = begin_with_sent(a, b, true);

	claims_offer(pool, sent, 1);
	claims_revoke(pool, ref_slot(sent));
	publish(b, LANE_RECEIVE, sent);
	claims_settle(pool);
	cr_assert(ledger_holds(&pool->ledger, ref_slot(sent), b->a->holder));
}
