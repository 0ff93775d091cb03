/*
 * Publishing records in a lane's return ring, by the threads of a client in
 * turn.
 *
 * A full ring is the daemon's to empty, and it is asked to by a message. A slot
 * that is freed must not wait for that, so its ref is kept in private memory
 * and published later. Invariants: nothing is published while something is
 * kept, so that the records of a slot are published in the order they were
 * made; and a slot is kept at most once, since whatever could give it back to
 * us comes after its record.
 *
 * The lock is the last to be taken, and nobody waits for anything under it.
 */
#ifndef SLABD_POST_H
#define SLABD_POST_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ring.h"

struct slabd_pool;

struct post {
	pthread_mutex_t lock;
	struct ring_outlet outlet;
	uint64_t *kept; /* refs to be published as FREE, a place a slot */
	size_t kept_bytes;
	_Atomic uint32_t n_kept;  /* these two change under the lock */
	_Atomic uint64_t refused; /* the next refused ref to look at */
	bool asked;		  /* room, by a message; session's lock */
	bool recalling;		  /* by a message, perhaps: handoff.c */
	int doorbell;
};

/* For a lane just mapped. 0 or -ENOMEM. */
int post_init(struct slabd_pool *);
void post_destroy(struct slabd_pool *);

/*
 * With the lock: makes room for a record, or waits until the daemon has, without
 * the lock. An error, as of post_begin() (publish.h), is without the lock too.
 */
int post_make_room(struct slabd_pool *);
/* Wakes the daemon if it sleeps. */
void post_wake(struct slabd_pool *);
/* Frees `n` slots, at most LANE_MAGAZINE, in this order. Never waits. */
void post_free(struct slabd_pool *, const uint64_t *refs, unsigned n);
/* table_drop(), and a record if it was the last hold. Never waits. */
int post_drop(struct slabd_pool *, uint32_t slot);
/*
 * Ends one hold of just this ref, if there is one: it was received, and may not
 * have counted. A record says so only where it may have. Never waits.
 */
void post_withdraw(struct slabd_pool *, uint64_t ref, bool counted);
/* Whether `n` more frees could be published now. */
bool post_has_room(struct slabd_pool *, unsigned n);
/*
 * Asks for room if refs are kept, and waits, unless it is non-blocking or the
 * daemon is away.
 */
void post_relieve(struct slabd_pool *);

/* Learns what the daemon refused since the last time. */
void post_read_refused(struct slabd_pool *);
/* Whether the record of that index is among those refused last. */
bool post_was_refused(const struct slabd_pool *, uint64_t index);

#endif
