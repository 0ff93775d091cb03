/*
 * Who gets a slot when there are not enough: those who wait, in turn, what is
 * reserved, what the quotas leave, and what growth brings.
 */
#include "config.h"

#include "e2e.h"

#define POOL(settings)                                             \
	"\"shrink_seconds\": 3600, \"pools\": [{\"name\": \"p\", " \
	"\"slot_size\": 4096, \"orphan_seconds\": 3600, " settings "}]"
#define FIXED(n) "\"slots_per_segment\": " #n ", \"max_segments\": 1"

/* Holds what the others wait for. */
static struct raw holder;
static uint32_t holder_at;
static uint64_t held[256];

static void
begin(const char *text, unsigned hold)
{
	serve(text);
	login(&holder, "holder");
	holder_at = attach(&holder, "p");
	if (hold > 0)
		cr_assert_eq(
		    raw_alloc(&holder, holder_at, hold, held), (int)hold);
}

static void
stop(void)
{
	if (holder.fd >= 0)
		cr_assert_eq(raw_audit(&holder), 0);
	raw_close(&holder);
	finish();
}

TestSuite(waiting, .timeout = 60, .fini = stop);

static void
release(unsigned from, unsigned n)
{
	cr_assert_eq(raw_free(&holder, holder_at, held + from, n), (int)n);
}

/* Stands in the queue when it returns. */
static uint32_t
queue_up(struct raw *r, uint32_t at, uint32_t n)
{
	unsigned before = stats_of(&holder, "p").waiters;
	uint32_t tag = raw_post_alloc(r, at, n);

	cr_assert_eq(raw_ping(r), 0);
	cr_assert_eq(stats_of(&holder, "p").waiters, before + 1);
	return tag;
}

/* The message with that tag has not come: a PING overtakes nothing. */
static void
still_waits(struct raw *r, uint32_t tag)
{
	struct raw_message *m;

	cr_assert_eq(raw_ping(r), 0);
	STAILQ_FOREACH (m, &r->kept, entry)
		cr_assert_neq(m->h.tag, tag, "answered with %d", m->h.status);
}

Test(waiting, exactly_n)
{
	uint64_t refs[4];
	struct raw r;
	uint32_t at, tag;

	begin(POOL(FIXED(4)), 4);
	login(&r, "waiter");
	at = attach(&r, "p");
	tag = queue_up(&r, at, 3);
	for (unsigned i = 0; i < 2; i++) {
		release(i, 1);
		still_waits(&r, tag);
	}
	release(2, 1);
	cr_assert_eq(raw_wait_alloc(&r, tag, refs), 3);
	for (int i = 0; i < 3; i++)
		for (int k = 0; k < i; k++)
			cr_assert_neq(ref_slot(refs[i]), ref_slot(refs[k]));
	/* Without WAIT: as many as there are. */
	cr_assert_eq(raw_free(&r, at, refs, 2), 2);
	cr_assert_eq(raw_alloc(&r, at, 4, refs), 2);
	cr_assert_eq(raw_alloc(&r, at, 1, refs), -ENOBUFS);
}

/* One turn a client: who asks often does not push others back. */
Test(waiting, one_turn_each)
{
	static const int order[] = {0, 1, 2, 0, 1, 0};
	uint32_t at[3], tags[3][3];
	int asked[3] = {3, 2, 1}, served[3] = {0, 0, 0};
	struct raw r[3];
	uint64_t ref;

	begin(POOL(FIXED(6)), 6);
	for (int i = 0; i < 3; i++) {
		login(&r[i], "waiter");
		at[i] = attach(&r[i], "p");
		for (int k = 0; k < asked[i]; k++)
			tags[i][k] = queue_up(&r[i], at[i], 1);
	}
	for (unsigned i = 0; i < 6; i++) {
		int who = order[i];

		release(i, 1);
		cr_assert_eq(
		    raw_wait_alloc(&r[who], tags[who][served[who]++], &ref), 1);
		for (int k = 0; k < 3; k++)
			if (served[k] < asked[k])
				still_waits(&r[k], tags[k][served[k]]);
	}
}

/*
 * Who needs many is not starved by those who need few, while it asks for no
 * more than an equal share: three of nine slots for one of three clients.
 */
Test(waiting, nobody_overtakes)
{
	struct raw many, few;
	uint32_t many_at, few_at, many_tag, few_tag;
	uint64_t refs[4];

	begin(POOL(FIXED(9)), 9);
	login(&many, "many");
	many_at = attach(&many, "p");
	login(&few, "few");
	few_at = attach(&few, "p");
	many_tag = queue_up(&many, many_at, 3);
	few_tag = queue_up(&few, few_at, 1);
	release(0, 2);
	still_waits(&many, many_tag);
	still_waits(&few, few_tag);
	/* Nor without waiting, though two are free. */
	cr_assert_eq(raw_alloc(&few, few_at, 1, refs), -ENOBUFS);
	cr_assert_eq(stats_of(&holder, "p").free, 2);
	release(2, 1);
	cr_assert_eq(raw_wait_alloc(&many, many_tag, refs), 3);
	still_waits(&few, few_tag);
	release(3, 1);
	cr_assert_eq(raw_wait_alloc(&few, few_tag, refs), 1);
}

/* Beyond its share nobody holds up others, however long it waits. */
Test(waiting, more_than_a_share)
{
	struct raw many, few;
	uint32_t many_at, few_at, many_tag, few_tag;
	uint64_t refs[4];

	begin(POOL(FIXED(9)), 9);
	login(&many, "many");
	many_at = attach(&many, "p");
	login(&few, "few");
	few_at = attach(&few, "p");
	many_tag = queue_up(&many, many_at, 4);
	few_tag = queue_up(&few, few_at, 2);
	release(0, 2);
	cr_assert_eq(raw_wait_alloc(&few, few_tag, refs), 2);
	release(2, 1);
	cr_assert_eq(raw_alloc(&few, few_at, 1, refs), 1);
	still_waits(&many, many_tag);
	/* It is served when so many are free at once. */
	release(3, 4);
	cr_assert_eq(raw_wait_alloc(&many, many_tag, refs), 4);
}

Test(waiting, cancelled)
{
	uint32_t at, first, second, behind_at, behind;
	struct raw r, other;
	uint64_t ref;

	begin(POOL(FIXED(6)), 6);
	login(&r, "waiter");
	at = attach(&r, "p");
	login(&other, "behind");
	behind_at = attach(&other, "p");
	first = queue_up(&r, at, 2);
	second = queue_up(&r, at, 1);
	behind = queue_up(&other, behind_at, 1);
	cr_assert_eq(raw_cancel(&other, behind_at, 9999), -ENOENT);
	release(0, 1);
	still_waits(&other, behind);
	/* What stood before the others was all that held them up. */
	cr_assert_eq(raw_cancel(&r, at, first), 0);
	cr_assert_eq(raw_wait(&r, first, NULL), -ECANCELED);
	cr_assert_eq(raw_wait_alloc(&r, second, &ref), 1);
	cr_assert_eq(raw_cancel(&r, at, second), -ENOENT);
	release(1, 1);
	cr_assert_eq(raw_wait_alloc(&other, behind, &ref), 1);
	cr_assert_eq(stats_of(&holder, "p").waiters, 0);
}

/* Both on their way at once: one of two outcomes, and no slot lost. */
Test(waiting, cancel_races_with_grant)
{
	struct raw_message m;
	uint32_t at, tag;
	int granted = 0;
	uint64_t ref;
	struct raw r;

	begin(POOL(FIXED(1)), 1);
	login(&r, "waiter");
	at = attach(&r, "p");
	for (int i = 0; i < 300; i++) {
		uint8_t body[8];
		struct wire_writer out = {.buf = body, .cap = sizeof(body)};
		int status, cancel;

		tag = raw_post_alloc(&r, at, 1);
		cr_assert_eq(raw_ping(&r), 0);
		wire_put_u64(&out, held[0]);
		raw_post(&holder, WIRE_FREE, 0, holder_at, body, 8);
		cancel = raw_cancel(&r, at, tag);
		cr_assert_eq(raw_next(&holder, &m), 0);
		cr_assert_eq(m.h.status, 1);
		status = raw_wait_alloc(&r, tag, &ref);
		if (cancel == 0)
			cr_assert_eq(status, -ECANCELED);
		else
			cr_assert_eq(status, 1);
		granted += status == 1;
		if (status == 1)
			cr_assert_eq(raw_free(&r, at, &ref, 1), 1);
		held[0] = alloc_one(&holder, holder_at);
	}
	cr_log_info("%d of 300 granted", granted);
}

static int
wait_and_say_so(int control, void *arg)
{
	struct raw_pool p;
	struct raw r;
	char byte = 0;

	(void)arg;
	if (raw_open(&r, server.socket, "doomed") != 0 ||
	    raw_attach(&r, "p", 0, &p) != 0)
		return 1;
	raw_post_alloc(&r, p.number, 2);
	if (raw_ping(&r) != 0 || tell(control, &byte, 1) != 0)
		return 1;
	while (hear(control, &byte, 1) == 0)
		;
	return 0;
}

Test(waiting, first_in_the_queue_dies)
{
	struct raw r;
	uint32_t at, tag;
	uint64_t ref;
	int control;
	char byte;
	pid_t pid;

	begin(POOL(FIXED(6)), 6);
	pid = spawn(wait_and_say_so, NULL, &control);
	cr_assert_eq(hear(control, &byte, 1), 0);
	login(&r, "heir");
	at = attach(&r, "p");
	tag = queue_up(&r, at, 1);
	release(0, 1);
	still_waits(&r, tag);
	kill(pid, SIGKILL);
	reap(pid);
	close(control);
	cr_assert_eq(raw_wait_alloc(&r, tag, &ref), 1);
}

Test(waiting, detach_ends_the_wait)
{
	struct raw r;
	uint32_t at, tag, flush;
	uint64_t ref, out;

	begin(POOL(FIXED(2)), 1);
	login(&r, "waiter");
	at = attach(&r, "p");
	ref = alloc_one(&r, at);
	cr_assert_eq(raw_send(&r, at, ref, &out), 0);
	flush = raw_post(&r, WIRE_FLUSH, WIRE_WAIT, at, NULL, 0);
	tag = raw_post_alloc(&r, at, 1);
	cr_assert_eq(raw_detach(&r, at), 0);
	cr_assert_eq(raw_wait(&r, tag, NULL), -ECANCELED);
	cr_assert_eq(raw_wait(&r, flush, NULL), -ECANCELED);
}

/* Everyone comes to the one slot there is. */
Test(waiting, one_slot_a_hundred_waiters)
{
	static struct raw r[100];
	uint32_t at[100], tags[100];
	uint64_t ref;

	begin(POOL(FIXED(1)), 1);
	for (int i = 0; i < 100; i++) {
		login(&r[i], "waiter");
		at[i] = attach(&r[i], "p");
		tags[i] = raw_post_alloc(&r[i], at[i], 1);
		cr_assert_eq(raw_ping(&r[i]), 0);
	}
	cr_assert_eq(stats_of(&holder, "p").waiters, 100);
	release(0, 1);
	for (int i = 0; i < 100; i++) {
		cr_assert_eq(raw_wait_alloc(&r[i], tags[i], &ref), 1);
		cr_assert_eq(stats_of(&holder, "p").waiters, 99u - (unsigned)i);
		cr_assert_eq(raw_free(&r[i], at[i], &ref, 1), 1);
	}
	cr_assert_eq(stats_of(&holder, "p").free, 1);
}

/* The 1025th of one connection is told to come back. */
Test(waiting, too_many_of_one)
{
	struct raw r;
	uint32_t at, last;

	begin(POOL(FIXED(1)), 1);
	login(&r, "greedy");
	at = attach(&r, "p");
	for (int i = 0; i < 1024; i++)
		raw_post_alloc(&r, at, 1);
	last = raw_post_alloc(&r, at, 1);
	cr_assert_eq(raw_wait(&r, last, NULL), -EAGAIN);
	cr_assert_eq(stats_of(&holder, "p").waiters, 1024);
	cr_assert_eq(raw_cancel(&r, at, last - 1), 0);
	/* All end at once, far more answers than the socket takes. */
	cr_assert_eq(raw_detach(&r, at), 0);
	for (uint32_t tag = last - 1024; tag < last; tag++)
		cr_assert_eq(raw_wait(&r, tag, NULL), -ECANCELED);
	cr_assert_eq(stats_of(&holder, "p").waiters, 0);
	logout(&r);
}

/* The answer to BYE comes, however many have to be read before. */
Test(waiting, bye_behind_many_answers)
{
	struct raw_message m;
	struct raw r;
	uint32_t at, bye;

	begin(POOL(FIXED(1)), 1);
	login(&r, "leaving");
	at = attach(&r, "p");
	for (int i = 0; i < 500; i++)
		raw_post_alloc(&r, at, 1);
	bye = raw_post(&r, WIRE_BYE, 0, 0, NULL, 0);
	while (stats_of(&holder, "p").clients > 1)
		cr_assert_eq(raw_ping(&holder), 0);
	cr_assert_eq(raw_wait(&r, bye, NULL), 0);
	for (uint32_t tag = bye - 500; tag < bye; tag++)
		cr_assert_eq(raw_wait(&r, tag, NULL), -ECANCELED);
	cr_assert_eq(raw_next(&r, &m), -ENOTCONN);
	raw_close(&r);
}

Test(waiting, more_than_there_ever_are)
{
	uint64_t refs[8];
	uint32_t tag;

	begin(POOL(FIXED(4)), 0);
	tag = raw_post_alloc(&holder, holder_at, 5);
	cr_assert_eq(raw_wait(&holder, tag, NULL), -ENOBUFS);
	cr_assert_eq(raw_alloc(&holder, holder_at, 5, refs), 4);
}

Test(waiting, flush)
{
	struct raw r;
	struct raw_message m;
	uint32_t at, tag;
	uint64_t a, b;

	begin(POOL(FIXED(8)), 0);
	login(&r, "receiver");
	at = attach(&r, "p");
	tag = raw_post(&holder, WIRE_FLUSH, WIRE_WAIT, holder_at, NULL, 0);
	cr_assert_eq(raw_wait(&holder, tag, NULL), 0);
	a = alloc_one(&holder, holder_at);
	b = alloc_one(&holder, holder_at);
	cr_assert_eq(raw_send(&holder, holder_at, a, &a), 0);
	cr_assert_eq(raw_share(&holder, holder_at, b, 2, &b), 0);
	tag = raw_post(&holder, WIRE_FLUSH, WIRE_WAIT, holder_at, NULL, 0);
	cr_assert_eq(raw_receive(&r, at, a), 0);
	cr_assert_eq(raw_receive(&r, at, b), 0);
	still_waits(&holder, tag);
	cr_assert_eq(raw_cancel(&holder, holder_at, tag), 0);
	cr_assert_eq(raw_wait(&holder, tag, &m), -ECANCELED);
	cr_assert_eq(m.len, 4);
	cr_assert_eq(m.body[0], 1, "one is open still");
	tag = raw_post(&holder, WIRE_FLUSH, WIRE_WAIT, holder_at, NULL, 0);
	still_waits(&holder, tag);
	cr_assert_eq(raw_receive(&r, at, b), 0);
	cr_assert_eq(raw_wait(&holder, tag, NULL), 0);
}

Test(waiting, flush_ends_with_recall)
{
	uint32_t tag;
	uint64_t a;

	begin(POOL(FIXED(8)), 0);
	a = alloc_one(&holder, holder_at);
	cr_assert_eq(raw_share(&holder, holder_at, a, 9, &a), 0);
	tag = raw_post(&holder, WIRE_FLUSH, WIRE_WAIT, holder_at, NULL, 0);
	still_waits(&holder, tag);
	cr_assert_eq(raw_recall(&holder, holder_at, a, 8), 8);
	still_waits(&holder, tag);
	cr_assert_eq(raw_recall(&holder, holder_at, a, 8), 1);
	cr_assert_eq(raw_wait(&holder, tag, NULL), 0);
}

/* Growth serves who waits, also for more than the slots that are free. */
Test(waiting, served_by_growth)
{
	uint64_t refs[256];
	uint32_t at, tag;
	struct raw r;

	begin(POOL("\"slots_per_segment\": 64, \"max_segments\": 4"), 40);
	cr_assert_eq(stats_of(&holder, "p").segments_attached, 1);
	login(&r, "waiter");
	at = attach(&r, "p");
	/* 24 are free, well above what would make the pool grow by itself. */
	tag = raw_post_alloc(&r, at, 30);
	cr_assert_eq(raw_wait_alloc(&r, tag, refs), 30);
	tag = raw_post_alloc(&r, at, 150);
	cr_assert_eq(raw_wait_alloc(&r, tag, refs + 30), 150);
	cr_assert_eq(stats_of(&holder, "p").segments_attached, 4);
	cr_assert_eq(raw_audit(&r), 0);
}

/* Without WAIT growth is waited for all the same, and nobody else's slots. */
Test(waiting, growth_for_who_does_not_wait)
{
	uint64_t refs[16];
	uint32_t at;
	struct raw r;

	begin(POOL("\"slots_per_segment\": 4, \"max_segments\": 4,"
		   "\"min_segments\": 0"),
	    0);
	login(&r, "client");
	at = attach(&r, "p");
	for (unsigned i = 0; i < 16; i++)
		refs[i] = alloc_one(&r, at);
	cr_assert_eq(raw_alloc(&r, at, 1, refs), -ENOBUFS);
}

/* The rest waits for many while the pool grows: nobody is forgotten. */
Test(waiting, behind_a_blocked_one)
{
	uint32_t many_at, few_at, tag;
	struct raw many, few;
	uint64_t refs[64];

	begin(POOL("\"slots_per_segment\": 16, \"max_segments\": 2"), 14);
	login(&many, "many");
	many_at = attach(&many, "p");
	login(&few, "few");
	few_at = attach(&few, "p");
	tag = raw_post_alloc(&many, many_at, 30);
	cr_assert_eq(raw_ping(&many), 0);
	/* 30 cannot be had with 14 taken; this must be answered though. */
	cr_assert_eq(raw_alloc(&few, few_at, 1, refs), 1);
	release(0, 14);
	cr_assert_eq(raw_wait_alloc(&many, tag, refs + 1), 30);
	cr_assert_eq(raw_alloc(&few, few_at, 4, refs), 1);
}

/* What is reserved for a client it gets, whoever waits and for how many. */
Test(waiting, reserve)
{
	uint32_t at, greedy_at, tag;
	struct raw r, greedy;
	uint64_t refs[16];

	begin(POOL(FIXED(12) ", \"reserve\": 2"), 2);
	login(&r, "modest");
	at = attach(&r, "p");
	login(&greedy, "greedy");
	greedy_at = attach(&greedy, "p");
	/* 10 are free, of which 2 are the modest one's. */
	cr_assert_eq(raw_alloc(&greedy, greedy_at, 12, refs), 8);
	cr_assert_eq(raw_alloc(&greedy, greedy_at, 1, refs), -ENOBUFS);
	tag = queue_up(&greedy, greedy_at, 1);
	cr_assert_eq(raw_alloc(&r, at, 1, refs), 1);
	cr_assert_eq(
	    raw_wait_alloc(&r, raw_post_alloc(&r, at, 1), refs + 1), 1);
	cr_assert_eq(raw_alloc(&r, at, 1, refs + 2), -ENOBUFS);
	still_waits(&greedy, tag);
	release(0, 1); /* and is owed to the holder again */
	still_waits(&greedy, tag);
	logout(&r);
	cr_assert_eq(raw_wait_alloc(&greedy, tag, refs), 1);
	cr_assert_eq(raw_audit(&greedy), 0);
}

/* A reserve that could not be kept is not promised. */
Test(waiting, reserve_that_does_not_fit)
{
	struct raw_pool p;

	begin(POOL(FIXED(4) ", \"reserve\": 2"), 0);
	cr_assert_eq(raw_attach(&holder, "p", 0, &p), 0);
	cr_assert_eq(raw_attach(&holder, "p", 0, &p), -EDQUOT);
}

/* Who frees below its reserve while one waits for its share wakes it. */
Test(waiting, reserve_while_queued)
{
	uint32_t at, greedy_at, greedy_tag, tag;
	struct raw r, greedy;
	uint64_t refs[16];

	begin(POOL(FIXED(6) ", \"reserve\": 2"), 2);
	login(&r, "modest");
	at = attach(&r, "p");
	login(&greedy, "greedy");
	greedy_at = attach(&greedy, "p");
	cr_assert_eq(raw_alloc(&r, at, 2, refs), 2);
	cr_assert_eq(raw_alloc(&greedy, greedy_at, 2, refs + 2), 2);
	greedy_tag = queue_up(&greedy, greedy_at, 3);
	tag = queue_up(&r, at, 1);
	cr_assert_eq(raw_free(&r, at, refs, 1), 1);
	/* It is below its reserve now: the slot is its own again. */
	cr_assert_eq(raw_wait_alloc(&r, tag, refs), 1);
	still_waits(&greedy, greedy_tag);
}

Test(waiting, quota)
{
	uint64_t refs[8], ref, out;
	uint32_t tag, other;

	begin(POOL(FIXED(8) ", \"quota\": 3"), 0);
	other = attach(&holder, "p");
	cr_assert_eq(raw_alloc(&holder, holder_at, 8, refs), 3);
	cr_assert_eq(raw_alloc(&holder, holder_at, 1, refs), -EDQUOT);
	tag = raw_post_alloc(&holder, holder_at, 1);
	cr_assert_eq(raw_wait(&holder, tag, NULL), -EDQUOT);
	tag = raw_post_alloc(&holder, other, 4);
	cr_assert_eq(raw_wait(&holder, tag, NULL), -EDQUOT);
	/* What was sent and not received is still charged. */
	cr_assert_eq(raw_send(&holder, holder_at, refs[0], &out), 0);
	cr_assert_eq(raw_alloc(&holder, holder_at, 1, &ref), -EDQUOT);
	cr_assert_eq(raw_receive(&holder, other, out), 0);
	cr_assert_eq(raw_alloc(&holder, holder_at, 1, &ref), 1);
	cr_assert_eq(raw_alloc(&holder, other, 8, refs), 2);
}

Test(waiting, uid_quota)
{
	struct raw r;
	uint32_t at, other;
	uint64_t refs[8], out;

	begin(POOL(FIXED(8) ", \"uid_quota\": 5"), 3);
	other = attach(&holder, "p");
	cr_assert_eq(raw_alloc(&holder, other, 8, refs), 2);
	cr_assert_eq(raw_alloc(&holder, other, 1, refs + 2), -EDQUOT);
	login(&r, "same user");
	at = attach(&r, "p");
	cr_assert_eq(raw_alloc(&r, at, 1, refs + 2), -EDQUOT);
	/* Orphans are charged to the user who sent them. */
	cr_assert_eq(raw_send(&holder, other, refs[0], &out), 0);
	cr_assert_eq(raw_detach(&holder, other), 0);
	cr_assert_eq(raw_alloc(&r, at, 8, refs + 2), 1);
	cr_assert_eq(raw_receive(&r, at, out), 0);
	cr_assert_eq(raw_alloc(&r, at, 1, refs + 3), -EDQUOT);
	cr_assert_eq(raw_free(&r, at, &out, 1), 1);
	cr_assert_eq(raw_alloc(&r, at, 1, refs + 3), 1);
}

Test(waiting, retired)
{
	uint32_t at, tag, flush;
	struct raw_message m;
	uint64_t refs[8], out;
	struct raw r;

	begin(POOL(FIXED(4)), 3);
	login(&r, "waiter");
	at = attach(&r, "p");
	refs[0] = alloc_one(&r, at);
	cr_assert_eq(raw_send(&r, at, refs[0], &out), 0);
	flush = raw_post(&r, WIRE_FLUSH, WIRE_WAIT, at, NULL, 0);
	tag = queue_up(&r, at, 1);
	cr_assert_eq(server_configure(&server, "\"pools\": []"), 0);
	cr_assert_eq(raw_call(&holder, WIRE_RELOAD, 0, 0, NULL, 0, NULL), 0);
	cr_assert_eq(raw_wait(&r, tag, NULL), -ESHUTDOWN);
	cr_assert_eq(raw_event(&r, WIRE_EVENT_RETIRED, &m), 0);
	cr_assert_eq(m.h.attachment, at);
	cr_assert_eq(m.h.tag, 0);
	/* What was handed out goes on. */
	still_waits(&r, flush);
	cr_assert_eq(raw_receive(&holder, holder_at, out), 0);
	cr_assert_eq(raw_wait(&r, flush, NULL), 0);
	release(0, 3);
	cr_assert_eq(raw_alloc(&r, at, 1, refs), -ESHUTDOWN);
	tag = raw_post_alloc(&r, at, 1);
	cr_assert_eq(raw_wait(&r, tag, NULL), -ESHUTDOWN);
}

/* Who has not mapped what the pool grew by does not hold up the others. */
Test(waiting, not_extended)
{
	uint32_t old_at, new_at, tag, other;
	struct raw_message m;
	struct raw old, new;
	uint64_t refs[8];

	begin(POOL(FIXED(4)), 4);
	login(&old, "old");
	old_at = attach(&old, "p");
	tag = queue_up(&old, old_at, 2);
	cr_assert_eq(server_configure(&server,
			 POOL("\"slots_per_segment\": 4, \"max_segments\": 2")),
	    0);
	cr_assert_eq(raw_call(&holder, WIRE_RELOAD, 0, 0, NULL, 0, NULL), 0);
	cr_assert_eq(raw_event(&old, WIRE_EVENT_RESIZED, &m), 0);
	cr_assert_eq(m.len, 12);
	cr_assert_eq(m.body[8], 2);
	login(&new, "new");
	new_at = attach(&new, "p");
	cr_assert_eq(raw_alloc(&new, new_at, 1, refs), 1);
	cr_assert_geq(ref_slot(refs[0]), 4);
	other = raw_post_alloc(&new, new_at, 1);
	cr_assert_eq(raw_wait_alloc(&new, other, refs), 1);
	still_waits(&old, tag);
	cr_assert_eq(raw_receive(&old, old_at, refs[0]), -EREMCHG);
	cr_assert_eq(raw_extend(&old, old_at, 2), 0);
	cr_assert_eq(raw_wait_alloc(&old, tag, refs), 2);
	cr_assert_geq(ref_slot(refs[0]), 4);
	cr_assert_geq(ref_slot(refs[1]), 4);
	cr_assert_eq(stats_of(&holder, "p").frees_total, 0);
}
