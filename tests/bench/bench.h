/*
 * What the benchmarks share: a clock, a place for a process, and the way two
 * things are compared: in turns within one run, as the median of the ratios.
 */
#ifndef SLABD_TESTS_BENCH_H
#define SLABD_TESTS_BENCH_H

#include <stdint.h>

#define BENCH_ROUNDS_MAX 101

struct bench_ratio {
	double median, least, most; /* of b / a */
	double a, b;		    /* median nanoseconds an operation */
};

uint64_t bench_ns(void);
/* Confines this process to one CPU; what cannot be is said and ignored. */
void bench_pin(int cpu);
void bench_die(const char *what);
/*
 * Runs a and b `rounds` times in turns; each returns nanoseconds an operation.
 */
struct bench_ratio bench_compare(
    unsigned rounds, double (*a)(void *), double (*b)(void *), void *arg);
/* The middle one of n values, which are sorted in place. */
double bench_median(double *values, unsigned n);

#endif
