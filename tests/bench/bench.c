#include "config.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "bench.h"

uint64_t
bench_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

void
bench_pin(int cpu)
{
	long cpus = sysconf(_SC_NPROCESSORS_ONLN);
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET((unsigned)(cpu % cpus), &set);
	if (sched_setaffinity(0, sizeof(set), &set) != 0)
		perror("sched_setaffinity");
}

void
bench_die(const char *what)
{
	perror(what);
	exit(1);
}

void *
bench_shared(size_t len)
{
	void *mem = mmap(NULL, len, PROT_READ | PROT_WRITE,
	    MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (mem == MAP_FAILED)
		bench_die("mmap");
	return mem;
}

static int
compare(const void *x, const void *y)
{
	double a = *(const double *)x, b = *(const double *)y;

	return (a > b) - (a < b);
}

double
bench_median(double *values, unsigned n)
{
	qsort(values, n, sizeof(*values), compare);
	return values[n / 2];
}

double
bench_percentile(double *values, unsigned n, unsigned percent)
{
	qsort(values, n, sizeof(*values), compare);
	return values[((size_t)n * percent + 99) / 100 - 1];
}

struct bench_ratio
bench_compare(
    unsigned rounds, double (*a)(void *), double (*b)(void *), void *arg)
{
	double as[BENCH_ROUNDS_MAX], bs[BENCH_ROUNDS_MAX];
	double ratios[BENCH_ROUNDS_MAX];
	struct bench_ratio r;

	a(arg);
	b(arg);
	for (unsigned i = 0; i < rounds; i++) {
		as[i] = a(arg);
		bs[i] = b(arg);
		ratios[i] = bs[i] / as[i];
	}
	r.a = bench_median(as, rounds);
	r.b = bench_median(bs, rounds);
	r.median = bench_median(ratios, rounds);
	r.least = ratios[0];
	r.most = ratios[rounds - 1];
	return r;
}
