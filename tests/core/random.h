/*
 * random.h - reproducible randomness for the tests of the core.
 *
 * SLAB_SEED in the environment repeats a run; each test prints its seed.
 */
#ifndef TESTS_CORE_RANDOM_H
#define TESTS_CORE_RANDOM_H

#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

/* splitmix64, Steele, Lea and Flood 2014: any seed will do. */
static inline uint64_t
random_next(uint64_t *state)
{
	uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);

	z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
	return z ^ z >> 31;
}

static inline uint32_t
random_below(uint64_t *state, uint32_t limit)
{
	return (uint32_t)((random_next(state) >> 32) * limit >> 32);
}

static inline uint64_t
random_seed(const char *test)
{
	const char *fixed = getenv("SLAB_SEED");
	uint64_t seed = (uint64_t)time(NULL) << 20 ^ (uint64_t)clock();

	if (fixed)
		seed = strtoull(fixed, NULL, 0);
	fprintf(stderr, "%s: SLAB_SEED=%" PRIu64 "\n", test, seed);
	return seed;
}

#endif
