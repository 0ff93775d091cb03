/*
 * What the benchmarks share: a clock, a place for a process, memory for two of
 * them, and the way two things are compared: in turns within one run, as the
 * median of the ratios.
 */
#ifndef SLABD_TESTS_BENCH_H
#define SLABD_TESTS_BENCH_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define BENCH_ROUNDS_MAX 101

struct bench_ratio {
	double median, least, most; /* of b / a */
	double a, b;		    /* median nanoseconds an operation */
};

uint64_t bench_ns(void);
/*
 * Confines this process to one CPU, counted from 0 and round again where there
 * are not so many; what cannot be is said and ignored.
 */
void bench_pin(int cpu);
void bench_die(const char *what) __attribute__((noreturn));
/* Zeroed memory that children share; munmap() it. */
void *bench_shared(size_t len);
/*
 * Runs a and b `rounds` times in turns; each returns nanoseconds an operation.
 */
struct bench_ratio bench_compare(
    unsigned rounds, double (*a)(void *), double (*b)(void *), void *arg);
/* The middle one of n values, which are sorted in place. */
double bench_median(double *values, unsigned n);
/* What so many of a hundred do not exceed; sorts too. */
double bench_percentile(double *values, unsigned n, unsigned percent);

#ifdef __cplusplus
}
#endif

#endif
