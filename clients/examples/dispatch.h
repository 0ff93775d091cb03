/*
 * The dispatcher of filepipe: starts the other processes, gives chunks to
 * workers, and gives a chunk to another worker when its worker was killed. It
 * handles refs only and has no connection to the daemon.
 */
#ifndef EXAMPLE_DISPATCH_H
#define EXAMPLE_DISPATCH_H

#include <stdint.h>

#include "sha256.h"
#include "stages.h"

#define DISPATCH_WORKERS_MAX 60u

struct dispatch_worker {
	uint64_t chunks; /* done by it, and those started in its place */
	unsigned killed;
};

/* What came of it. */
struct dispatch_result {
	uint64_t chunks, bytes, chunk_bytes;
	uint64_t retries; /* chunks given to another worker once more */
	unsigned killed;
	uint8_t read[SHA256_BYTES];    /* digest of what the reader read */
	uint8_t written[SHA256_BYTES]; /* and of what the collector wrote */
	struct dispatch_worker workers[DISPATCH_WORKERS_MAX];
};

/*
 * Takes plan->input through `workers` processes to plan->output, and kills a
 * busy worker `kills` times on the way. 0, or 1 and it was said why; no process
 * is left either way.
 */
int dispatch_run(const struct plan *plan, unsigned workers, unsigned kills,
    struct dispatch_result *);

#endif
