/*
 * The daemon's side of a pool's claims (claim.h): it offers and takes for
 * clients without a lane, and it revokes before it ends what is in flight.
 *
 * A client of the pool can write here what it likes, and cut the object off;
 * then nothing is offered or taken any more, and what is in flight comes back
 * by recall and by time. The ledger is not touched by that.
 *
 * To revoke: claims_revoke() for each slot, then claims_settle() once, then
 * look at the ledger again. Who had taken a receipt and published it before
 * that is in the ledger then; who has not will find the claim revoked, and ask.
 *
 * To take: an intent of the ledger names the slot; the mirror, how many; the
 * exchange leaves a mark in the claim; then the ledger changes, and claims_end()
 * removes the mark. A successor that finds the mark where the ledger has not
 * changed gives back what was taken.
 */
#ifndef SLABD_DAEMON_CLAIMS_H
#define SLABD_DAEMON_CLAIMS_H

#include <stdbool.h>
#include <stdint.h>

#include "guard.h"
#include "region.h"

struct attachment;
struct pool;

struct claims {
	struct region region;
	struct guard guard;
	_Atomic uint64_t *words;
	uint32_t high;	/* segments whose words have memory */
	bool unsettled; /* lanes may hold records of what was revoked */
};

/* 0 or -errno. */
int claims_create(struct pool *);
/* Those that a daemon before us has made. 0 or -errno. */
int claims_find(struct pool *);
/* Unmaps and closes; with claims_unlink() before the name goes too. */
void claims_close(struct pool *);
void claims_unlink(struct pool *);

/*
 * The bytes of the object that `segment` needs and no segment before it had;
 * false: none.
 */
bool claims_range(
    const struct pool *, uint32_t segment, uint64_t *at, uint64_t *bytes);

/* Whether nobody has cut them off, so that a client may be let near them. */
bool claims_whole(const struct pool *);
/* The segment has them now; the lanes are told. */
void claims_attached(struct pool *, uint32_t segment);

void claims_offer(struct pool *, uint64_t ref, unsigned receipts);
/* Takes up to `most` receipts for the attachment; how many. If any,
 * claims_end() must follow: whether they count, or go back. */
unsigned claims_take(struct attachment *, uint64_t ref, unsigned most);
void claims_end(struct attachment *, uint64_t ref, bool received);
/* Nobody can take a receipt of what the slot is in flight or shared as. */
void claims_revoke(struct pool *, uint32_t slot);
/* The lanes are read once more if that can matter. */
void claims_settle(struct pool *);

#endif
