/*
 * Whether what a daemon and its clients use stays flat while they work: samples
 * of it, a table, and a line fitted through each column.
 *
 * The first quarter of the samples is warm-up and not judged. What begins anew
 * with each daemon is judged only from the last restart on, again without the
 * first quarter. Over what is judged, the fitted line may rise by a tenth of the
 * mean and a constant that the column's grain makes necessary.
 *
 * One thread. Under a sanitizer, whose memory grows by design, resident sizes
 * are shown and not judged.
 */
#ifndef SLABD_TESTS_TREND_H
#define SLABD_TESTS_TREND_H

#include <stdbool.h>
#include <sys/types.h>

#define TREND_SAMPLES_MAX 128

struct server;

/*
 * Takes a sample, or none when there are that many: of the daemon, its helper,
 * its names under /dev/shm, and one client that is never killed. `restarted`:
 * by a daemon that was not there at the sample before.
 */
void trend_sample(const struct server *, pid_t client, bool restarted);
/* Prints the samples and what became of each column; 0, or -1: one grew. */
int trend_report(void);

#endif
