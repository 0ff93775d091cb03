/*
 * Claims: who gets a ref.
 */
#include "config.h"

#include <criterion/criterion.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "atomic.h"

/*
 * What others do to a word between the look at it and the exchange, which then
 * fails: here it is done on purpose.
 */
static unsigned losing;
static void (*others)(_Atomic uint64_t *);

static bool
exchange(_Atomic uint64_t *at, uint64_t *is, uint64_t to)
{
	if (losing > 0) {
		losing--;
		others(at);
	}
	return atomic_compare_exchange_strong(at, is, to);
}

#undef atomic_compare_exchange_weak_explicit
#define atomic_compare_exchange_weak_explicit(at, is, to, won, lost) \
	exchange(at, is, to)

#include "claim.h"

TestSuite(claim, .timeout = 60);

static _Atomic uint64_t claims[8];

Test(claim, bits)
{
	uint64_t ref = ref_make(3, true, UINT64_C(0x7abcdef012));

	claim_offer(claims, ref, 200);
	cr_assert_eq(claims[3], UINT64_C(0xf579bde0250000c8));
	cr_assert_eq(claim_take(claims, ref, 8), 8);
	cr_assert_eq(claims[3], UINT64_C(0xf579bde0250000c0));
	claim_revoke(claims, ref);
	cr_assert_eq(claims[3], UINT64_C(0xf579bde025000100));
	for (int i = 0; i < 8; i++)
		cr_assert(i == 3 || claims[i] == 0);
}

Test(claim, sent)
{
	uint64_t ref = ref_make(1, false, 77);

	cr_assert_eq(claim_take(claims, ref, 1), 0);
	cr_assert_not(claim_stands(claims, ref));
	claim_offer(claims, ref, 1);
	cr_assert_eq(claim_take(claims, ref, 1), 1);
	cr_assert_eq(claim_take(claims, ref, 1), 0);
	/* Taken is not revoked. */
	cr_assert(claim_stands(claims, ref));
	/* The next owner sends it on: that is another matter. */
	claim_offer(claims, ref_make(1, false, 78), 1);
	cr_assert_not(claim_stands(claims, ref));
	cr_assert_eq(claim_take(claims, ref, 1), 0);
	cr_assert_eq(claim_revoke(claims, ref), 0);
	cr_assert_eq(claim_take(claims, ref_make(1, false, 78), 1), 1);
}

/* Neighbours in version and kind are not the ref. */
Test(claim, exact)
{
	uint64_t ref = ref_make(2, false, UINT64_C(1) << 30);

	claim_offer(claims, ref, 5);
	for (unsigned bit = REF_SLOT_BITS; bit < 64; bit++) {
		uint64_t other = ref ^ UINT64_C(1) << bit;

		cr_assert_eq(claim_take(claims, other, 1), 0, "bit %u", bit);
		cr_assert_eq(claim_revoke(claims, other), 0);
		cr_assert_not(claim_stands(claims, other));
	}
	cr_assert_eq(claim_take(claims, ref, 9), 5);
}

Test(claim, revoked)
{
	uint64_t ref = ref_make(4, true, 9);

	claim_offer(claims, ref, 3);
	cr_assert_eq(claim_take(claims, ref, 1), 1);
	cr_assert_eq(claim_revoke(claims, ref), 2);
	cr_assert_eq(claim_revoke(claims, ref), 0);
	cr_assert_not(claim_stands(claims, ref));
	cr_assert_eq(claim_take(claims, ref, 1), 0);
	/* Not even by a word that says both. */
	claims[4] |= 7;
	cr_assert_eq(claim_take(claims, ref, 1), 0);
	claim_offer(claims, ref_make(4, false, 10), 1);
	cr_assert(claim_stands(claims, ref_make(4, false, 10)));
}

static void
take_one(_Atomic uint64_t *at)
{
	--*at;
}

static void
revoke(_Atomic uint64_t *at)
{
	*at = (*at & CLAIM_NAME) | CLAIM_REVOKED;
}

static void
offer_other(_Atomic uint64_t *at)
{
	claim_offer(at, ref_make(0, false, 99), 7);
}

/* What somebody else did first counts, and the rest is tried again. */
Test(claim, others_are_first)
{
	uint64_t ref = ref_make(0, true, 5);

	claim_offer(claims, ref, 3);
	others = take_one;
	losing = 1;
	cr_assert_eq(claim_take(claims, ref, 3), 2);
	cr_assert_eq(claims[0] & CLAIM_OPEN, 0);
	claim_offer(claims, ref, 3);
	losing = 2;
	cr_assert_eq(claim_revoke(claims, ref), 1);
	claim_offer(claims, ref, 3);
	others = revoke;
	losing = 1;
	cr_assert_eq(claim_take(claims, ref, 3), 0);
	claim_offer(claims, ref, 3);
	others = offer_other;
	losing = 1;
	cr_assert_eq(claim_take(claims, ref, 3), 0);
	claim_offer(claims, ref, 3);
	losing = 1;
	cr_assert_eq(claim_revoke(claims, ref), 0);
	cr_assert_eq(claims[0] & CLAIM_OPEN, 7, "another's claim");
}

static void
turn(_Atomic uint64_t *at)
{
	*at ^= 4;
}

/* Who changes the word for ever holds up nobody. */
Test(claim, ends_all_the_same)
{
	uint64_t ref = ref_make(0, true, 5);

	others = turn;
	claim_offer(claims, ref, 3);
	losing = UINT32_MAX;
	cr_assert_eq(claim_take(claims, ref, 1), 0);
	cr_assert_eq(claim_revoke(claims, ref), 0);
	cr_assert_eq(losing, UINT32_MAX - 2 * CLAIM_TRIES);
	cr_assert(claim_stands(claims, ref));
	losing = 0;
	cr_assert_eq(claim_take(claims, ref, 1), 1);
}

#define RACERS 4
#define ROUNDS 2000

static pthread_barrier_t line;
static unsigned won[RACERS][ROUNDS];

static void *
race(void *arg)
{
	unsigned *mine = arg;

	for (unsigned i = 0; i < ROUNDS; i++) {
		uint64_t ref = ref_make(i % 8, i % 2, i + 1);

		if (mine == won[0])
			claim_offer(claims, ref, 1 + i % 5);
		pthread_barrier_wait(&line);
		/* One by one, or all at once. */
		if (mine == won[0] && i % 3 == 0)
			mine[i] = claim_revoke(claims, ref);
		else
			mine[i] = claim_take(claims, ref, 1 + i % 2);
		pthread_barrier_wait(&line);
	}
	return NULL;
}

/* Receipts go to exactly one each, whoever takes, recalls or revokes. */
Test(claim, races)
{
	pthread_t thread[RACERS];
	unsigned sum, wanted;

	pthread_barrier_init(&line, NULL, RACERS);
	for (int i = 0; i < RACERS; i++)
		cr_assert_eq(pthread_create(&thread[i], NULL, race, won[i]), 0);
	for (int i = 0; i < RACERS; i++)
		pthread_join(thread[i], NULL);
	for (unsigned i = 0; i < ROUNDS; i++) {
		sum = 0;
		for (int k = 0; k < RACERS; k++)
			sum += won[k][i];
		wanted = RACERS * (1 + i % 2);
		if (i % 3 == 0 || wanted > 1 + i % 5)
			wanted = 1 + i % 5;
		cr_assert_eq(sum, wanted, "round %u", i);
	}
}
