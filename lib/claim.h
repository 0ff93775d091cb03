/*
 * Claims: a word for each slot of a pool, in which those who receive settle
 * among themselves who gets a ref. All clients of the pool and the daemon map
 * them; to the daemon they are advice, and what a hostile client writes there
 * can deny or fake a message, but not change the ledger.
 *
 * The object is an array, one u64 a slot, at 8 times its number:
 *
 *	bits 25-63 version | 24 kind | 9 taking | 8 revoked | 0-7 open receipts
 *
 * Version and kind are those of the ref that was sent or shared, so that all
 * but the low 24 bits are the ref's own. `taking` is the daemon's: it has taken
 * receipts that are not in its ledger yet (daemon/claims.h).
 *
 * Send and share store the claim, then publish the record, and only then does
 * the ref leave. Receive takes one receipt by compare-and-swap at exactly this
 * version, publishes its record, and looks at the claim once more: if that does
 * not stand any more the daemon may have missed the record, and is asked.
 */
#ifndef SLABD_CLAIM_H
#define SLABD_CLAIM_H

#include <stdbool.h>
#include <stdint.h>

#include "atomic.h"
#include "wire.h"

#define CLAIM_OPEN    UINT64_C(0xff)
#define CLAIM_REVOKED UINT64_C(0x100)
#define CLAIM_TAKING  UINT64_C(0x200)
#define CLAIM_NAME    (~(uint64_t)(REF_SLOTS_MAX - 1))
/*
 * How often an exchange is tried: more than a word can change honestly while one
 * receives, so that who changes it for ever holds up nobody.
 */
#define CLAIM_TRIES 4096u

/* True when the claim is about this ref. */
static inline bool
claim_is(uint64_t claim, uint64_t ref)
{
	return ((claim ^ ref) & CLAIM_NAME) == 0;
}

/* How many receipts of `ref` may be taken. */
static inline unsigned
claim_open(uint64_t claim, uint64_t ref)
{
	return claim_is(claim, ref) && (claim & CLAIM_REVOKED) == 0
		   ? (unsigned)(claim & CLAIM_OPEN)
		   : 0;
}

/* Whether any could be just now. Relaxed: to take one takes an exchange. */
static inline bool
claim_is_open(_Atomic uint64_t *claims, uint64_t ref)
{
	return claim_open(load_relaxed(&claims[ref_slot(ref)]), ref) > 0;
}

/* Offers `ref` `receipts` times. Release: with claim_take() of whoever gets it,
 * so that what was written into the slot is seen there. */
static inline void
claim_offer(_Atomic uint64_t *claims, uint64_t ref, unsigned receipts)
{
	store_release(
	    &claims[ref_slot(ref)], (ref & CLAIM_NAME) | (uint64_t)receipts);
}

/*
 * Takes up to `most` receipts of `ref`; how many, 0: none is open. Acquire: see
 * claim_offer().
 */
static inline unsigned
claim_take(_Atomic uint64_t *claims, uint64_t ref, unsigned most)
{
	_Atomic uint64_t *at = &claims[ref_slot(ref)];
	uint64_t is = load_relaxed(at); /* the exchange below decides */
	unsigned n;

	for (unsigned i = 0; i < CLAIM_TRIES; i++) {
		n = claim_open(is, ref);
		if (n == 0)
			break;
		n = n < most ? n : most;
		if (atomic_compare_exchange_weak_explicit(at, &is, is - n,
			memory_order_acquire, memory_order_relaxed))
			return n;
	}
	return 0;
}

/*
 * Whether a receipt of `ref` that was taken still counts: asked after the
 * record was published. Who holds the slot is the only one who could change
 * what its claim is about, so if somebody else has, the slot was revoked and
 * given away meanwhile. The barrier between the record and this load is the
 * daemon's, see barrier.h.
 */
static inline bool
claim_stands(_Atomic uint64_t *claims, uint64_t ref)
{
	uint64_t is = load_relaxed(&claims[ref_slot(ref)]);

	return claim_is(is, ref) && (is & CLAIM_REVOKED) == 0;
}

/*
 * Closes `ref` for good: how many receipts were open. A claim about something
 * else is left alone: nobody can take this ref any more.
 */
static inline unsigned
claim_revoke(_Atomic uint64_t *claims, uint64_t ref)
{
	_Atomic uint64_t *at = &claims[ref_slot(ref)];
	uint64_t is = load_relaxed(at);

	for (unsigned i = 0; i < CLAIM_TRIES && claim_is(is, ref); i++)
		if (atomic_compare_exchange_weak_explicit(at, &is,
			(is & CLAIM_NAME) | CLAIM_REVOKED, memory_order_relaxed,
			memory_order_relaxed))
			return (unsigned)(is & CLAIM_OPEN);
	return 0;
}

#endif
