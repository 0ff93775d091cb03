/*
 * Executes a target very often, with kept inputs that were changed at random.
 * It does not learn from what an input reaches, as a fuzzer does, and so has
 * most of the time for what is tested: first the fuzzer finds inputs that get
 * everywhere, then this goes round about each.
 *
 *	random_NAME [-n executions] [-s seed] [-f first] [-l longest] FILE...
 *
 * Which input is made is a matter of seed and number alone: one that fails is
 * made again by -f NUMBER -n 1.
 */
#include "config.h"

#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "replay.h"

#define LONGEST	    256u
#define CHANGES_MAX 8u

struct bytes {
	uint8_t at[LONGEST];
	size_t n;
};

static struct bytes *kept;
static size_t nkept;
static size_t longest = 128;
static uint64_t seed = 1, number;

/* splitmix64 (Steele, Lea and Flood 2014). */
static uint64_t
draw(uint64_t *random)
{
	uint64_t z = *random += UINT64_C(0x9e3779b97f4a7c15);

	z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
	return z ^ z >> 31;
}

static size_t
below(uint64_t *random, size_t n)
{
	return n == 0 ? 0 : (size_t)((draw(random) >> 32) * n >> 32);
}

/* `n` of `from` in place of `gone` bytes at `at`. */
static void
splice(struct bytes *b, size_t at, size_t gone, const uint8_t *from, size_t n)
{
	size_t rest;

	at = at < b->n ? at : b->n;
	gone = gone < b->n - at ? gone : b->n - at;
	n = n < longest - at ? n : longest - at;
	rest = b->n - at - gone;
	rest = rest < longest - at - n ? rest : longest - at - n;
	memmove(b->at + at + n, b->at + at + gone, rest);
	memcpy(b->at + at, from, n);
	b->n = at + n + rest;
}

static void
change(struct bytes *b, uint64_t *random)
{
	const struct bytes *other = &kept[below(random, nkept)];
	size_t at = below(random, b->n + 1), n = 1 + below(random, 16);
	size_t from = below(random, other->n);
	uint64_t some = draw(random);

	n = n < other->n - from ? n : other->n - from;
	switch (below(random, 5)) {
	case 0: /* other values */
		splice(b, at, 1 + some % 4, (uint8_t *)&some, 1 + some % 4);
		break;
	case 1: /* more */
		splice(b, at, 0, (uint8_t *)&some, 1 + some % 8);
		break;
	case 2: /* less */
		splice(b, at, n, NULL, 0);
		break;
	case 3: /* another's, in between */
		splice(b, at, 0, other->at + from, n);
		break;
	default: /* another's to its end */
		splice(b, at, LONGEST, other->at + from, other->n - from);
	}
}

static void
execute(void)
{
	uint64_t random = seed ^ number * UINT64_C(0xd1342543de82ef95);
	struct bytes b = kept[below(&random, nkept)];
	size_t changes = 1 + below(&random, CHANGES_MAX);

	while (changes-- > 0)
		change(&b, &random);
	LLVMFuzzerTestOneInput(b.at, b.n);
}

static bool
keep(const char *path)
{
	FILE *f = fopen(path, "rb");
	struct bytes *b = &kept[nkept];

	if (f == NULL) {
		perror(path);
		return false;
	}
	b->n = fread(b->at, 1, longest, f);
	fclose(f);
	nkept += b->n > 0;
	return true;
}

/* Nothing goes on behind this, so that snprintf() will do. */
static void
failed(int signo)
{
	char text[64];
	int n = snprintf(text, sizeof(text), "seed %llu, input %llu\n",
	    (unsigned long long)seed, (unsigned long long)number);

	(void)!write(STDERR_FILENO, text, (size_t)n);
	signal(signo, SIG_DFL);
	raise(signo);
}

static int
usage(void)
{
	fprintf(stderr, "usage: random [-n executions] [-s seed] [-f first] "
			"[-l longest] file...\n");
	return 2;
}

int
main(int argc, char **argv)
{
	uint64_t first = 0, runs = 1000000;
	struct timespec begin, end;
	double seconds;
	int opt;

	while ((opt = getopt(argc, argv, "n:s:f:l:")) != -1)
		switch (opt) {
		case 'n':
			runs = strtoull(optarg, NULL, 10);
			break;
		case 's':
			seed = strtoull(optarg, NULL, 10);
			break;
		case 'f':
			first = strtoull(optarg, NULL, 10);
			break;
		case 'l':
			longest = strtoul(optarg, NULL, 10);
			break;
		default:
			return usage();
		}
	if (longest < 1 || longest > LONGEST || optind == argc || runs == 0)
		return usage();
	kept = calloc((size_t)(argc - optind), sizeof(*kept));
	if (kept == NULL)
		return 1;
	for (int i = optind; i < argc; i++)
		if (!keep(argv[i]))
			return 1;
	if (nkept == 0)
		return usage();
	signal(SIGABRT, failed);
	signal(SIGSEGV, failed);
	signal(SIGBUS, failed);
	LLVMFuzzerInitialize(&argc, &argv);
	clock_gettime(CLOCK_MONOTONIC, &begin);
	for (number = first; number < first + runs; number++)
		execute();
	clock_gettime(CLOCK_MONOTONIC, &end);
	seconds = (double)(end.tv_sec - begin.tv_sec) +
		  (double)(end.tv_nsec - begin.tv_nsec) / 1e9;
	printf("seed %llu, %zu kept inputs, %llu executions in %.0f s, 0 "
	       "findings\n",
	    (unsigned long long)seed, nkept, (unsigned long long)runs, seconds);
	return 0;
}
