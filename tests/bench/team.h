/*
 * A team: the processes in which one peer works, one or two of them, each on a
 * CPU of its own. They live as long as a row takes and sleep until they are
 * told to run a round, so that rounds of two teams can alternate.
 */
#ifndef SLABD_TESTS_TEAM_H
#define SLABD_TESTS_TEAM_H

#include <stdint.h>
#include <sys/types.h>

#include "peer.h"

struct team {
	const struct peer *peer;
	struct setting setting;
	pid_t pid[2];
	int control[2];
	uint64_t n;	  /* operations in a round */
	uint64_t counted; /* by side 0 in the last round */
};

/*
 * Fills in and starts a team for what `setting` says (its queue is made here).
 * NULL, or why this cannot be measured; then there is nothing to close.
 */
const char *team_open(
    struct team *, const struct peer *, const struct setting *);
/* Finds n, a multiple of the pattern's unit, for rounds of about so long. */
void team_calibrate(struct team *, unsigned ms);
/*
 * Runs n operations on every side at once: nanoseconds an operation, from the
 * first side's start to the last one's end; where the sides do not depend on
 * each other, as long as one took on average. Takes a struct team, so that it
 * suits bench_compare(). What goes wrong ends the program.
 */
double team_round(void *team);
void team_close(struct team *);

#endif
