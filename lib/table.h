/*
 * What an attachment knows of each slot of its pool: where it is, and whether
 * the caller may free or send it. Private memory, one word a slot, touched only
 * where slots are used. It answers from itself what otherwise the daemon would
 * have to be asked; the daemon's ledger decides.
 *
 * A word is the slot's ref with its slot bits, which the place says already,
 * given to state and count:
 *
 *	bits 25-63 version | 24 kind | 20-23 state | 0-19 holds
 *
 * holds is 1 for a held slot, more when a shared one was received several times
 * in this process, and 0 in every other state.
 *
 * Every change is one compare-and-swap or one store of a whole word that refers
 * to nothing else, hence relaxed: of threads racing on one slot one wins.
 */
#ifndef SLABD_TABLE_H
#define SLABD_TABLE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum slot_state {
	SLOT_NONE,   /* never had */
	SLOT_HELD,   /* the caller's */
	SLOT_MOVING, /* being sent or shared */
	SLOT_FREED,  /* freed, and not granted since */
	SLOT_SENT,   /* given away */
	SLOT_LOST,   /* the daemon says it never was ours */
};

#define TABLE_NO_SLOT UINT32_MAX

struct table {
	_Atomic uint64_t *words;
	size_t bytes;	      /* mapped for words */
	char *base;	      /* where slot 0 starts */
	uint64_t slot_size;   /* odd << shift */
	uint64_t inverse;     /* of the odd part, modulo 2^64 */
	unsigned shift;	      /* below 64 */
	_Atomic uint32_t top; /* slots 0..top-1 exist; only rises */
};

/*
 * For slots of `slot_size` bytes (not 0) from `base`: `slots` now, `reserve`
 * (at least as many) when the pool has grown. 0 or -ENOMEM.
 */
int table_init(struct table *, void *base, uint64_t slot_size, uint32_t slots,
    uint32_t reserve);
void table_destroy(struct table *);
void table_grow(struct table *, uint32_t slots);

/* The slot that starts at `at`, or TABLE_NO_SLOT. */
uint32_t table_slot(const struct table *, const void *at);
/* The slot at `offset` bytes, or TABLE_NO_SLOT. */
uint32_t table_slot_at(const struct table *, uint64_t offset);
/* Where a slot starts; no check. */
void *table_address(const struct table *, uint32_t slot);
/* True when `ref` could be one of this pool. */
bool table_valid(const struct table *, uint64_t ref);

/* The ref a slot was last known by; its version is 0 when there is none. */
uint64_t table_ref(const struct table *, uint32_t slot);

/* The caller has `ref`: granted, recalled, shared or received (again). */
void table_hold(struct table *, uint64_t ref);

/*
 * Ends one hold: 0 and the ref when it was the last (the slot is SLOT_FREED
 * now), 1 when others are left; -EALREADY, -EPERM.
 */
int table_drop(struct table *, uint32_t slot, uint64_t *ref);

/*
 * Begins to move a held slot: it is SLOT_MOVING, and nobody else's to free or
 * send; -EALREADY, -EPERM, -EBUSY: shared.
 */
int table_move(struct table *, uint32_t slot, uint64_t *ref);

/* Ends a claim: `ref` goes on in state `to`, if it still is in `from`. */
void table_settle(
    struct table *, uint64_t ref, enum slot_state from, enum slot_state to);

#endif
