/*
 * The rings of a lane, from both ends.
 */
#include "config.h"

#include <criterion/criterion.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "atomic.h"

/* What others do just before an exchange, in the tests that want it. */
static void (*others)(void);

static void
now_others(void)
{
	void (*what)(void) = others;

	others = NULL;
	if (what != NULL)
		what();
}

static bool
exchange(_Atomic uint64_t *at, uint64_t *is, uint64_t to)
{
	now_others();
	return atomic_compare_exchange_strong(at, is, to);
}

static uint32_t
swap(_Atomic uint32_t *at, uint32_t to)
{
	now_others();
	return atomic_exchange(at, to);
}

#undef atomic_compare_exchange_weak_explicit
#undef atomic_exchange_explicit
#define atomic_compare_exchange_weak_explicit(at, is, to, won, lost) \
	exchange(at, is, to)
#define atomic_exchange_explicit(at, to, order) swap(at, to)

#include "ring.h"

static struct lane lane;
static struct lane_header *h;
static struct ring_outlet outlet;
static uint64_t size;

static void
begin(void)
{
	struct lane_geometry g = lane_geometry_for(1);
	void *mem = aligned_alloc(LANE_PAGE, lane_bytes(&g));

	memset(mem, 0, lane_bytes(&g));
	cr_assert_eq(lane_format(&lane, mem, &g, 1, 1), 0);
	h = lane.header;
	size = g.grants;
}

static void
end(void)
{
	free(h);
}

TestSuite(ring, .timeout = 60, .init = begin, .fini = end);

/* Both rings as they are after `n` went through them. */
static void
start_at(uint64_t n)
{
	h->grant_head = h->grant_tail = h->record_head = h->record_tail = n;
	outlet = (struct ring_outlet){n, n};
}

static void
grant(uint64_t from, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		ring_put_grant(&lane, from + i, 1000 + from + i);
	ring_granted(&lane, from + n);
}

Test(ring, takes_in_order)
{
	uint64_t refs[64], at[] = {0, 5, size - 3, 1000 * size - 1};

	for (int k = 0; k < 4; k++) {
		start_at(at[k]);
		cr_assert_eq(ring_take(&lane, refs, 64), 0);
		grant(at[k], 20);
		cr_assert_eq(ring_stock(&lane), 20);
		cr_assert_eq(ring_take(&lane, refs, 7), 7);
		cr_assert_eq(ring_take(&lane, refs + 7, 64), 13);
		cr_assert_eq(ring_take(&lane, refs, 0), 0);
		for (unsigned i = 0; i < 20; i++)
			cr_assert_eq(refs[i], 1000 + at[k] + i);
		cr_assert_eq(h->grant_head, at[k] + 20);
	}
}

/* What the daemon cannot have written is not followed. */
Test(ring, forged_grants)
{
	uint64_t refs[64];

	start_at(10);
	h->grant_tail = 10 + size + 1;
	cr_assert_eq(ring_take(&lane, refs, 64), 0);
	h->grant_tail = 9;
	cr_assert_eq(ring_take(&lane, refs, 64), 0);
	cr_assert_eq(h->grant_head, 10);
}

Test(ring, takes_back)
{
	uint64_t refs[64], head;

	start_at(60);
	grant(60, 10);
	cr_assert_eq(ring_take(&lane, refs, 4), 4);
	cr_assert(ring_unread(&lane, 70, 60, &head));
	cr_assert_eq(head, 64);
	/* The client is faster. */
	cr_assert_eq(ring_take(&lane, refs, 1), 1);
	cr_assert_not(ring_close(&lane, head));
	cr_assert(ring_unread(&lane, 70, head, &head));
	cr_assert(ring_close(&lane, head));
	cr_assert_eq(ring_take(&lane, refs, 64), 0);
	cr_assert_eq(ring_stock(&lane), 0);
	ring_reopen(&lane, 70);
	cr_assert_eq(ring_take(&lane, refs, 64), 0);
	cr_assert_eq(ring_stock(&lane), 0);
	cr_assert(ring_unread(&lane, 70, head, &head));
	cr_assert_eq(head, 70);
}

/* Between where it was and the tail, nothing else. */
Test(ring, forged_head)
{
	static const uint64_t tails[] = {
	    50, RING_CLOSED - 3, UINT64_C(1) << 40};
	uint64_t head;

	for (int i = 0; i < 3; i++) {
		uint64_t tail = tails[i], seen = tail - 10;
		uint64_t bad[] = {seen - 1, tail + 1, tail + (1u << 31), 0,
		    tail + (UINT64_C(1) << 32), tail ^ UINT64_C(1) << 63};

		for (uint64_t k = seen; k != tail + 1; k++) {
			h->grant_head = k;
			cr_assert(ring_unread(&lane, tail, seen, &head));
			cr_assert_eq(head, k);
		}
		for (int k = 0; k < 6; k++) {
			h->grant_head = bad[k];
			cr_assert_not(ring_unread(&lane, tail, seen, &head));
		}
	}
}

Test(ring, publishes_in_order)
{
	uint64_t records[64], at[] = {0, size - 2, UINT64_C(1) << 50}, tail;

	for (int k = 0; k < 3; k++) {
		start_at(at[k]);
		for (uint64_t i = 0; i < size; i++)
			records[i] = at[k] * 3 + i;
		cr_assert(ring_has_room(&lane, &outlet, (unsigned)size));
		ring_publish(&lane, &outlet, records, 5);
		ring_publish(&lane, &outlet, records + 5, (unsigned)size - 5);
		cr_assert_not(ring_has_room(&lane, &outlet, 1));
		cr_assert(ring_tail(&lane, at[k], at[k], &tail));
		cr_assert_eq(tail, at[k] + size);
		for (uint64_t i = 0; i < size; i++)
			cr_assert_eq(ring_record(&lane, at[k] + i), records[i]);
		ring_release(&lane, at[k] + 3);
		cr_assert_not(ring_has_room(&lane, &outlet, 4));
		cr_assert(ring_has_room(&lane, &outlet, 3));
		cr_assert_eq(outlet.head, at[k] + 3);
	}
}

/* Between what was read and a full ring, nothing else. */
Test(ring, forged_tail)
{
	uint64_t head = 1000, read = 1010, tail;
	uint64_t bad[] = {read - 1, head, head - 1, head + size + 1,
	    head + (1u << 31), head + UINT32_MAX, read + (UINT64_C(1) << 32), 0,
	    head ^ UINT64_C(1) << 63, UINT64_MAX};

	for (uint64_t k = read; k <= head + size; k++) {
		h->record_tail = k;
		cr_assert(ring_tail(&lane, read, head, &tail));
		cr_assert_eq(tail, k);
	}
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		h->record_tail = bad[i];
		cr_assert_not(ring_tail(&lane, read, head, &tail), "%zu", i);
	}
}

Test(ring, doorbell)
{
	uint64_t records[64] = {0};

	h->watermark = 8;
	ring_publish(&lane, &outlet, records, 7);
	cr_assert_not(ring_is_due(&lane, &outlet));
	/* Whoever is awake needs no bell, and who sleeps only one. */
	cr_assert_not(ring_wake(&lane));
	ring_sleep(&lane);
	ring_publish(&lane, &outlet, records, 1);
	cr_assert(ring_is_due(&lane, &outlet));
	cr_assert(ring_wake(&lane));
	cr_assert_not(ring_wake(&lane));
	/* What the daemon has taken does not count. */
	ring_release(&lane, 8);
	ring_publish(&lane, &outlet, records, 1);
	cr_assert_not(ring_is_due(&lane, &outlet));
	cr_assert_eq(outlet.head, 8);
	h->eager = 1;
	cr_assert(ring_is_due(&lane, &outlet));
	h->low = 4;
	grant(0, 4);
	cr_assert_not(ring_is_low(&lane));
	cr_assert_eq(ring_take(&lane, records, 1), 1);
	cr_assert(ring_is_low(&lane));
}

static void
others_take(void)
{
	uint64_t refs[4];

	cr_assert_eq(ring_take(&lane, refs, 4), 4);
	cr_assert_eq(refs[0], 1005);
}

static void
others_take_all(void)
{
	h->grant_head = h->grant_tail;
}

static void
others_close(void)
{
	cr_assert(ring_close(&lane, h->grant_head));
}

/* Who is second takes what is left, and never the same. */
Test(ring, others_are_first)
{
	uint64_t refs[64];

	start_at(5);
	grant(5, 6);
	others = others_take;
	cr_assert_eq(ring_take(&lane, refs, 4), 2);
	cr_assert_eq(refs[0], 1009);
	grant(11, 3);
	others = others_take_all;
	cr_assert_eq(ring_take(&lane, refs, 3), 0);
	grant(14, 3);
	others = others_close;
	cr_assert_eq(ring_take(&lane, refs, 3), 0);
	cr_assert_eq(h->grant_head, 14 | RING_CLOSED);
}

static void
others_ring(void)
{
	h->sleeping = 0;
}

/* One of those who see the daemon asleep rings. */
Test(ring, others_ring)
{
	ring_sleep(&lane);
	others = others_ring;
	cr_assert_not(ring_wake(&lane));
	ring_sleep(&lane);
	cr_assert(ring_wake(&lane));
}

#define GRANTS 200000u
#define TAKERS 3

struct taker {
	pthread_t thread;
	uint64_t sum, n, last;
	bool ordered;
};

static _Atomic bool over;

/* Takes what there is, in pieces of all sizes. */
static void *
take(void *arg)
{
	struct taker *t = arg;
	uint64_t refs[17];
	unsigned n, want = 0;
	bool done;

	t->ordered = true;
	do {
		done = over;
		n = ring_take(&lane, refs, 1 + want++ % 17);
		for (unsigned i = 0; i < n; i++) {
			t->ordered = t->ordered && refs[i] > t->last;
			t->last = refs[i];
			t->sum += refs[i];
		}
		t->n += n;
		if (n == 0)
			sched_yield();
	} while (!done || n > 0);
	return NULL;
}

/*
 * The daemon grants and takes back while threads take: everything goes to
 * exactly one of them, or comes back.
 */
Test(ring, takers)
{
	struct taker takers[TAKERS] = {0};
	uint64_t tail = 0, head = 0, from, back = 0, n = 0, sum = 0, all = 0;

	for (int i = 0; i < TAKERS; i++)
		cr_assert_eq(
		    pthread_create(&takers[i].thread, NULL, take, &takers[i]),
		    0);
	for (unsigned round = 0; tail < GRANTS; round++) {
		cr_assert(ring_unread(&lane, tail, head, &head));
		for (; tail - head < size - 1; tail++, all += tail)
			ring_put_grant(&lane, tail, tail + 1);
		ring_granted(&lane, tail);
		if (round % 7 == 0) {
			from = head;
			while (!ring_close(&lane, from))
				cr_assert(
				    ring_unread(&lane, tail, from, &from));
			for (uint64_t i = from; i < tail; i++, back++)
				sum += i + 1;
			head = tail;
			ring_reopen(&lane, tail);
		}
		sched_yield();
	}
	over = true;
	for (int i = 0; i < TAKERS; i++) {
		pthread_join(takers[i].thread, NULL);
		cr_assert(takers[i].ordered);
		n += takers[i].n;
		sum += takers[i].sum;
	}
	cr_assert_eq(n + back, tail);
	cr_assert_eq(sum, all);
	cr_assert_gt(back, 0);
}

#define RECORDS 200000u

static void *
publish(void *arg)
{
	uint64_t records[9];
	uint64_t next = 1;
	unsigned n;

	(void)arg;
	while (next <= RECORDS) {
		n = 1 + next % 9;
		if (!ring_has_room(&lane, &outlet, n)) {
			sched_yield();
			continue;
		}
		for (unsigned i = 0; i < n; i++)
			records[i] = next++;
		ring_publish(&lane, &outlet, records, n);
	}
	return NULL;
}

Test(ring, one_writes_one_reads)
{
	uint64_t read = 0, head = 0, tail;
	pthread_t writer;

	cr_assert_eq(pthread_create(&writer, NULL, publish, NULL), 0);
	while (read < RECORDS) {
		cr_assert(ring_tail(&lane, read, head, &tail));
		if (read == tail)
			sched_yield();
		for (; read < tail; read++)
			cr_assert_eq(ring_record(&lane, read), read + 1);
		head = read - read % 3;
		ring_release(&lane, head);
	}
	pthread_join(writer, NULL);
}
