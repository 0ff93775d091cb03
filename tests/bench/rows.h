/*
 * What slabd is compared with, and the goals: the table the benchmark runs.
 */
#ifndef SLABD_TESTS_ROWS_H
#define SLABD_TESTS_ROWS_H

#include <stdbool.h>
#include <stddef.h>

#include "peer.h"

#define LOCAL_SLOTS 2048u /* in a pool, and in every peer's */
#define BATCH_POOL  16384u

/* One comparison, made for each of the sizes. */
struct row {
	const char *name; /* in the JSON; several rows may share it */
	const char *what;
	const struct peer *against;
	enum pattern pattern;
	unsigned slots; /* STREAM: stream_slots() */
	unsigned sides, against_sides;
	const size_t *sizes; /* of a slot; 0 ends them */
	const double *goals; /* for each size, 0: none; NULL: none at all */
	double aim;	     /* beyond the goal, 0: none */
	bool throughput;     /* bytes a second, at least; not ns, at most */
};

extern const struct row rows[];
extern const size_t rows_count;
/* Of slots and of what is streamed; 0 ends them. */
extern const size_t slot_sizes[], stream_sizes[];

/*
 * Messages in flight at most in a stream, and slots in its pool. As many as
 * fit into the peer's pipe of 1 MiB, where that is enough to bridge a wake-up.
 */
unsigned stream_depth(size_t size);
unsigned stream_slots(size_t size);

#endif
