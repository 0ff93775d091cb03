/*
 * Mappings of objects that a client could make shorter. A named object cannot
 * be sealed against that, and to touch what was cut off would kill the daemon:
 * so SIGBUS inside such a mapping puts zeros in its place and notes that it
 * broke. Whoever reads there finds zeros, and must ask guard_broken() before it
 * believes that they mean something.
 *
 * For the daemon's one thread.
 */
#ifndef SLABD_DAEMON_GUARD_H
#define SLABD_DAEMON_GUARD_H

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

struct guard {
	LIST_ENTRY(guard) entry;
	void *at; /* NULL: not mapped */
	uint64_t bytes;
	volatile sig_atomic_t broken;
};

/* Maps `bytes` of `fd` for reading and writing. 0 or -errno. */
int guard_map(struct guard *, int fd, uint64_t bytes);
/* Nothing if it is not mapped. */
void guard_unmap(struct guard *);

/* The object was cut: what is there now are zeros of our own. */
static inline bool
guard_broken(const struct guard *g)
{
	return g->broken != 0;
}

#endif
