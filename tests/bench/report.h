/*
 * What the benchmark says: a table on standard output as it goes, and all of it
 * as JSON at the end.
 */
#ifndef SLABD_TESTS_REPORT_H
#define SLABD_TESTS_REPORT_H

#include "bench.h"
#include "rows.h"

struct report;

struct report *report_new(unsigned rounds, unsigned ms);
/* A comparison of slabd (b) with the peer (a), in ns an operation. */
void report_row(struct report *, const struct row *, unsigned size_index,
    const struct bench_ratio *);
/* A comparison that could not be made. */
void report_skip(
    struct report *, const struct row *, unsigned size_index, const char *why);
/* `different` slots were used by a flow with `in_flight` of them on their way.
 */
void report_flow(struct report *, unsigned in_flight, unsigned different);
/* Medians, and of what reclaiming takes longer, in milliseconds. */
void report_reclaim(
    struct report *, double slabd, double floor, const double extra[3]);
/* Writes the JSON file and frees the report; how many goals were missed. */
int report_write(struct report *, const char *path);

#endif
