/* The private table: arithmetic that must be exact, and who may free what. */
#include "config.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>

#include <criterion/criterion.h>

#include "table.h"
#include "wire.h"

#define THREADS 4
#define ROUNDS	20000

TestSuite(table, .timeout = 60);

static char *const base = (char *)0x7f0000000000; /* never touched */

static struct table
make(uint64_t slot_size, uint32_t slots)
{
	struct table t;

	cr_assert_eq(table_init(&t, base, slot_size, slots, slots), 0);
	return t;
}

static const uint64_t sizes[] = {64, 128, 192, 320, 448, 4096, 4160, 65536,
    64 * 1021, 2097152, 64 * 99991, UINT64_C(1) << 32};

Test(table, every_slot_and_no_other_place_is_one)
{
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		struct table t = make(sizes[i], 1000);

		for (uint32_t slot = 0; slot < 1000; slot++) {
			uint64_t at = slot * sizes[i];

			cr_assert_eq(table_slot_at(&t, at), slot);
			cr_assert_eq(table_slot(&t, base + at), slot);
			cr_assert_eq(table_address(&t, slot), base + at);
			for (uint64_t off = 1; off < 200 && off < sizes[i];
			     off++) {
				cr_assert_eq(
				    table_slot_at(&t, at + off), TABLE_NO_SLOT);
				cr_assert_eq(
				    table_slot_at(&t, at + sizes[i] - off),
				    TABLE_NO_SLOT);
			}
		}
		table_destroy(&t);
	}
}

Test(table, nothing_outside_is_a_slot)
{
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		struct table t = make(sizes[i], 10);

		for (uint64_t n = 10; n < 1000; n++)
			cr_assert_eq(
			    table_slot_at(&t, n * sizes[i]), TABLE_NO_SLOT);
		for (uint64_t n = 1; n < 1000; n++) {
			cr_assert_eq(
			    table_slot_at(&t, 0 - n * sizes[i]), TABLE_NO_SLOT);
			cr_assert_eq(table_slot_at(&t, 0 - n), TABLE_NO_SLOT);
		}
		cr_assert_eq(table_slot(&t, NULL), TABLE_NO_SLOT);
		cr_assert_eq(table_slot_at(&t, UINT64_MAX), TABLE_NO_SLOT);
		cr_assert_eq(
		    table_slot_at(&t, UINT64_C(1) << 63), TABLE_NO_SLOT);
		table_destroy(&t);
	}
}

/* Against division, over places drawn from everywhere. */
Test(table, agrees_with_division)
{
	uint64_t x = 88172645463325252u;

	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		struct table t = make(sizes[i], 1u << 20);

		for (int n = 0; n < 100000; n++) {
			uint64_t at, slot;

			x ^= x << 13;
			x ^= x >> 7;
			x ^= x << 17;
			at = x >> (x & 31);
			if (n % 2 == 0)
				at -= at % sizes[i];
			slot = at / sizes[i];
			if (at % sizes[i] != 0 || slot >= 1u << 20)
				slot = TABLE_NO_SLOT;
			cr_assert_eq(table_slot_at(&t, at), slot);
		}
		table_destroy(&t);
	}
}

Test(table, grows)
{
	struct table t;

	cr_assert_eq(table_init(&t, base, 192, 4, 8), 0);
	cr_assert_eq(table_slot_at(&t, 192 * 7), TABLE_NO_SLOT);
	cr_assert(!table_valid(&t, ref_make(7, false, 1)));
	table_grow(&t, 8);
	cr_assert_eq(table_slot_at(&t, 192 * 7), 7);
	cr_assert(table_valid(&t, ref_make(7, false, 1)));
	cr_assert(!table_valid(&t, ref_make(7, false, 0)));
	cr_assert(!table_valid(&t, ref_make(8, false, 1)));
	table_destroy(&t);
}

Test(table, a_slot_is_freed_once)
{
	struct table t = make(64, 4);
	uint64_t mine = ref_make(2, false, 77), ref = 0;

	cr_assert_eq(table_drop(&t, 2, &ref), -EPERM, "never had");
	table_hold(&t, mine);
	cr_assert_eq(table_ref(&t, 2), mine);
	cr_assert_eq(table_drop(&t, 2, &ref), 0);
	cr_assert_eq(ref, mine);
	cr_assert_eq(table_drop(&t, 2, &ref), -EALREADY);
	table_hold(&t, ref_make(2, false, 78));
	cr_assert_eq(table_drop(&t, 2, &ref), 0, "granted again");
	table_destroy(&t);
}

Test(table, a_moving_slot_is_nobodys)
{
	struct table t = make(64, 4);
	uint64_t mine = ref_make(1, false, 5), ref;

	cr_assert_eq(table_move(&t, 1, &ref), -EPERM);
	table_hold(&t, mine);
	cr_assert_eq(table_move(&t, 1, &ref), 0);
	cr_assert_eq(ref, mine);
	cr_assert_eq(table_move(&t, 1, &ref), -EPERM);
	cr_assert_eq(table_drop(&t, 1, &ref), -EPERM);
	table_settle(&t, mine, SLOT_MOVING, SLOT_HELD);
	cr_assert_eq(table_move(&t, 1, &ref), 0, "it stayed with the caller");
	table_settle(&t, mine, SLOT_MOVING, SLOT_SENT);
	cr_assert_eq(table_drop(&t, 1, &ref), -EPERM, "sent away");
	table_destroy(&t);
}

Test(table, a_claim_that_was_overtaken_changes_nothing)
{
	struct table t = make(64, 4);
	uint64_t old = ref_make(1, false, 5), ref;

	table_hold(&t, old);
	cr_assert_eq(table_drop(&t, 1, &ref), 0);
	table_hold(&t, ref_make(1, false, 6));
	table_settle(&t, old, SLOT_FREED, SLOT_LOST);
	cr_assert_eq(table_drop(&t, 1, &ref), 0, "the new hold is untouched");
	cr_assert_eq(ref_version(ref), 6);
	table_settle(&t, ref, SLOT_FREED, SLOT_LOST);
	cr_assert_eq(table_drop(&t, 1, &ref), -EPERM, "lost");
	table_destroy(&t);
}

Test(table, shared_slots_are_counted)
{
	struct table t = make(64, 4);
	uint64_t shared = ref_make(3, true, 9), ref;

	table_hold(&t, shared);
	table_hold(&t, shared);
	table_hold(&t, shared);
	cr_assert_eq(table_move(&t, 3, &ref), -EBUSY);
	cr_assert_eq(table_drop(&t, 3, &ref), 1);
	cr_assert_eq(table_drop(&t, 3, &ref), 1);
	cr_assert_eq(table_drop(&t, 3, &ref), 0);
	cr_assert_eq(ref, shared);
	cr_assert_eq(table_drop(&t, 3, &ref), -EALREADY);
	table_hold(&t, shared);
	cr_assert_eq(table_drop(&t, 3, &ref), 0, "received once more");
	table_destroy(&t);
}

Test(table, a_slot_at_hand_is_picked_once)
{
	for (int checked = 0; checked < 2; checked++) {
		struct table t = make(64, 4);
		uint64_t mine = ref_make(2, false, 77), ref = 0;

		t.checked = checked;
		table_stock(&t, mine);
		cr_assert_eq(table_drop(&t, 2, &ref), -EALREADY);
		cr_assert(!table_pick(&t, ref_make(2, false, 76), checked));
		cr_assert(table_pick(&t, mine, checked));
		cr_assert(!table_pick(&t, mine, checked));
		cr_assert(table_put(&t, 2, &ref, checked));
		cr_assert_eq(ref, mine);
		cr_assert(!table_put(&t, 2, &ref, checked));
		table_hold(&t, ref_make(2, true, 78));
		cr_assert(!table_put(&t, 2, &ref, checked), "shared");
		table_destroy(&t);
	}
}

Test(table, what_is_offered_has_a_new_ref)
{
	struct table t = make(64, 4);
	uint64_t last = ref_make(1, false, REF_VERSION_MASK), held, ref;

	cr_assert_eq(table_offer(&t, 1, false, &held, &ref), -EPERM);
	table_hold(&t, last);
	cr_assert(!table_offered(&t, last));
	cr_assert_eq(table_offer(&t, 1, false, &held, &ref), 0);
	cr_assert_eq(held, last);
	cr_assert_eq(ref, ref_make(1, false, 1), "around");
	cr_assert(table_offered(&t, ref));
	cr_assert_eq(table_drop(&t, 1, &held), -EPERM, "sent away");
	table_hold(&t, ref);
	cr_assert(!table_offered(&t, ref), "it came back");
	cr_assert_eq(table_offer(&t, 1, true, &held, &ref), 0);
	cr_assert_eq(ref, ref_make(1, true, 2));
	table_hold(&t, ref);
	cr_assert(table_offered(&t, ref), "received here as well");
	cr_assert_eq(table_offer(&t, 1, true, &held, &ref), -EBUSY);
	cr_assert_eq(table_drop(&t, 1, &ref), 1);
	cr_assert(table_offered(&t, ref));
	cr_assert_eq(table_drop(&t, 1, &ref), 0);
	cr_assert(!table_offered(&t, ref));
	table_hold(&t, ref);
	cr_assert(!table_offered(&t, ref), "received, not shared");
	table_destroy(&t);
}

Test(table, a_lost_slot_is_lost_under_its_ref_only)
{
	struct table t = make(64, 4);
	uint64_t ref = ref_make(3, true, 9);

	table_hold(&t, ref);
	table_hold(&t, ref);
	table_lose(&t, ref_make(3, true, 8));
	table_lose(&t, ref_make(3, false, 9));
	cr_assert_eq(table_drop(&t, 3, &ref), 1);
	table_lose(&t, ref);
	cr_assert_eq(table_drop(&t, 3, &ref), -EPERM);
	table_destroy(&t);
}

Test(table, a_receipt_is_held_unless_it_is_over)
{
	struct table t = make(64, 4);
	uint64_t last = ref_make(3, false, REF_VERSION_MASK), ref, word;

	cr_assert_eq(table_opposing(&t, last), 0, "never had");
	cr_assert(table_receive(&t, last));
	cr_assert_eq(table_opposing(&t, last), 0, "the same");
	cr_assert_eq(table_opposing(&t, ref_make(3, true, 1)),
	    table_word(last, SLOT_HELD), "held");
	cr_assert_not(table_receive(&t, ref_make(3, true, 1)));
	cr_assert_eq(table_drop(&t, 3, &ref), 0);
	cr_assert_eq(table_opposing(&t, ref_make(3, true, 1)), 0, "around");
	cr_assert(table_receive(&t, ref_make(3, true, 1)));
	cr_assert(table_receive(&t, ref_make(3, true, 1)), "once more");
	cr_assert_neq(table_opposing(&t, last), 0, "over");
	cr_assert_not(table_receive(&t, last));
	cr_assert_not(table_withdraw(&t, ref_make(3, false, 1)), "unknown");
	cr_assert_not(table_withdraw(&t, ref_make(3, true, 1)), "one is left");
	cr_assert(table_withdraw(&t, ref_make(3, true, 1)), "the last");
	cr_assert_not(table_withdraw(&t, ref_make(3, true, 1)), "it was");
	cr_assert_eq(table_drop(&t, 3, &ref), -EALREADY);
	word = table_opposing(&t, last);
	table_forget(&t, 3, word + 1);
	cr_assert_eq(table_opposing(&t, last), word, "not this word");
	table_forget(&t, 3, word);
	cr_assert_eq(table_opposing(&t, last), 0, "it never was ours");
	cr_assert(table_receive(&t, last));
	table_destroy(&t);
}

/*
 * Who comes late. The table cannot be written: at the first try, when all has
 * been looked at, another thread is granted the slot, and then the try goes on.
 */

#define PAST  ref_make(3, false, 8)
#define NEWER ref_make(3, false, 12)

static struct table late;
static unsigned tries;

static void
grant_meanwhile(int number)
{
	(void)number;
	tries++;
	mprotect((void *)late.words, 4 * sizeof(*late.words),
	    PROT_READ | PROT_WRITE);
	table_hold(&late, NEWER);
}

/* Ready to be met at its first try to change what is held, or free. */
static void
lie_in_wait(bool held, bool checked)
{
	uint64_t ref;

	late = make(64, 4);
	late.checked = checked;
	table_hold(&late, PAST);
	if (!held)
		cr_assert_eq(table_drop(&late, 3, &ref), 0);
	mprotect((void *)late.words, 4 * sizeof(*late.words), PROT_READ);
}

static void
nothing_has_changed(void)
{
	uint64_t ref;

	cr_assert_eq(tries, 1);
	tries = 0;
	cr_assert_eq(table_drop(&late, 3, &ref), 0);
	cr_assert_eq(ref, NEWER);
	table_destroy(&late);
}

Test(table, who_comes_late_changes_nothing)
{
	struct sigaction on = {.sa_handler = grant_meanwhile};

	sigaction(SIGSEGV, &on, NULL);
	for (int checked = 0; checked <= 1; checked++) {
		lie_in_wait(false, checked);
		cr_assert_not(table_receive(&late, PAST));
		nothing_has_changed();
		lie_in_wait(true, checked);
		cr_assert_not(table_withdraw(&late, PAST));
		nothing_has_changed();
		lie_in_wait(true, checked);
		table_lose(&late, PAST);
		nothing_has_changed();
		lie_in_wait(false, checked);
		table_settle(&late, PAST, SLOT_FREED, SLOT_LOST);
		nothing_has_changed();
	}
}

static struct table contested;
static _Atomic unsigned wins;
static pthread_barrier_t barrier;

/* All free and all move the same slot in every round. */
static void *
contend(void *arg)
{
	uint64_t ref;
	int err;

	for (uint64_t i = 1; i <= ROUNDS; i++) {
		if (pthread_barrier_wait(&barrier) ==
		    PTHREAD_BARRIER_SERIAL_THREAD)
			table_hold(&contested, ref_make(0, false, i));
		pthread_barrier_wait(&barrier);
		err = arg != NULL ? table_drop(&contested, 0, &ref)
				  : table_move(&contested, 0, &ref);
		if (err == 0)
			wins++;
		pthread_barrier_wait(&barrier);
	}
	return NULL;
}

Test(table, of_many_threads_one_wins)
{
	pthread_t threads[THREADS];

	contested = make(64, 1);
	pthread_barrier_init(&barrier, NULL, THREADS);
	for (int i = 0; i < THREADS; i++)
		cr_assert_eq(pthread_create(&threads[i], NULL, contend,
				 i % 2 ? &wins : NULL),
		    0);
	for (int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	cr_assert_eq(wins, ROUNDS);
	table_destroy(&contested);
}
