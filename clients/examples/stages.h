/*
 * The three kinds of process a file goes through; each has a connection to the
 * daemon of its own, and one channel, to the dispatcher.
 *
 * The reader holds a chunk's slot, shared, from before its ref goes out until
 * the chunk is in the output. So a worker may be killed at any moment: its own
 * hold ends with it, the bytes stay, and another worker receives the same ref.
 * A share opens a fixed number of receipts: one is for the collector, one is
 * used up by each worker that tries, and what is left is recalled in the end.
 */
#ifndef EXAMPLE_STAGES_H
#define EXAMPLE_STAGES_H

#include <stdint.h>

#include <slabd.h>

/* Workers that may try one chunk, one after another. */
#define STAGES_TRIES_MAX (SLABD_SHARE_MAX - 1)

struct plan {
	const char *socket; /* NULL: the library finds it */
	const char *pool;
	int input, output; /* open files */
	unsigned window;   /* chunks under way at most */
};

/*
 * Each runs until its work is done or fails, says on stderr why it failed, and
 * returns the process's exit status.
 */
int reader_run(const struct plan *, int channel);
int worker_run(const struct plan *, int channel);
int collector_run(const struct plan *, int channel);

#endif
