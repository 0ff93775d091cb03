/*
 * An attached pool: where its region is mapped, what is known of its slots,
 * what is reserved for it, and its lane.
 */
#ifndef SLABD_POOL_H
#define SLABD_POOL_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "call.h"
#include "lane.h"
#include "post.h"
#include "table.h"

struct slabd_pool {
	/*
	 * First what every allocation looks at. While the gate says `serial`
	 * the lane may be used, see stock.h.
	 */
	_Atomic uint64_t *gate;
	uint64_t serial;
	struct lane lane;	  /* its header NULL: there is none */
	_Atomic uint32_t stashed; /* refs in the stash */
	struct table table;

	struct slabd *session;
	LIST_ENTRY(slabd_pool) link; /* in the session's pools */
	uint32_t attachment;	     /* the daemon's number for it */
	uint64_t identity;	     /* of the pool, the daemon's too */
	unsigned epoch;		     /* of the session it was made in, */
	unsigned connection;	     /* and the last one it was resumed on */
	bool lost;		     /* it could not be */
	unsigned flags;		     /* SLABD_* */
	char name[WIRE_NAME_MAX + 1];
	bool retired;

	int region;		/* the descriptor, kept for growth */
	char *base;		/* of the mapping */
	size_t reserved;	/* address space taken from base */
	_Atomic uint64_t bytes; /* of it, the region; only rises */
	uint32_t segment_slots;

	/*
	 * Refs granted by messages and not handed out: SLABD_BATCH_MAX places,
	 * or NULL. `stashed` counts them, and changes under the session's lock.
	 */
	uint64_t *stash;
	unsigned expected;	      /* asked for it and not answered yet */
	struct slabd_call *want;      /* slabd_pool_want() under way */
	LIST_HEAD(, slabd_call) kept; /* non-blocking calls to be asked for */

	/* With a lane. */
	LIST_ENTRY(slabd_pool) open; /* among those threads may have seats at */
	_Atomic uint64_t *claims;    /* claim.h */
	size_t claims_bytes;
	/*
	 * Open as long as the lane is mapped, and locked: by that a new daemon
	 * knows that we live. To close any other descriptor of the lane would
	 * drop the lock.
	 */
	int lane_fd;
	bool fences;  /* the daemon cannot ask for barriers */
	uint32_t sat; /* a bit for each magazine in use; post.lock */
	struct post post;
};

/*
 * Enters the session for a call on the pool; -EACCES when `change` and it is
 * attached read-only; -EOWNERDEAD; -EINVAL: NULL.
 */
int pool_enter(struct slabd_pool *, bool change, int *cancel);

/* error_plain() with the pool's name; NULL: what is said is that it is NULL. */
int pool_error(const struct slabd_pool *, int err, const char *what);
/* The same about the slot at an address of the caller's. */
int pool_error_at(
    const struct slabd_pool *, int err, const char *what, const void *at);

/*
 * Runs a call to its end, or, on a non-blocking attachment, starts a copy of it
 * that is kept until it is asked for by pool_collect(): -EAGAIN. The status.
 */
int pool_run(struct slabd_pool *, struct slabd_call *);

/*
 * True when `c` (type, flags, ref and n are looked at) is under way or finished
 * as a kept call; *c is then what came of it, with status -EAGAIN: nothing yet.
 */
bool pool_collect(struct slabd_pool *, struct slabd_call *c);

/* slot.c: starts freeing `n` refs that nobody holds, without waiting. */
int pool_give_back(struct slabd_pool *, const uint64_t *refs, uint32_t n);
/*
 * slot.c: a shared slot's last hold was ended. True when another call than
 * `but` is receiving the same ref, and will free it if it fails: to free it
 * now could take away what that call is about to get.
 */
bool pool_owe(struct slabd_pool *, uint64_t ref, const struct slabd_call *but);

/* Whether the daemon knows the attachment, as far as is known. */
static inline bool
pool_is_current(const struct slabd_pool *p)
{
	return !p->lost && p->epoch == p->session->epoch;
}

/*
 * Ends the use of the lane, and leaves word of that in it for a daemon that
 * cannot be told otherwise.
 */
void pool_goodbye(struct slabd_pool *);

/* Frees it, and what of the mapping this process has; the daemon is not told.
 */
void pool_free(struct slabd_pool *);

#endif
