/*
 * What an attachment knows of each slot of its pool: where it is, and whether
 * the caller may free or send it. Private memory, one word a slot, touched only
 * where slots are used. It answers from itself what otherwise the daemon would
 * have to be asked; the daemon's ledger decides.
 *
 * A word is the slot's ref with its slot bits, which the place says already,
 * given to state and count:
 *
 *	bits 25-63 version | 24 kind | 20-23 state | 19 offered | 0-18 holds
 *
 * holds is 1 for a held slot, more when a shared one was received several times
 * in this process, and 0 in every other state. Offered is a held slot that was
 * shared from here, as against one that was received.
 *
 * Every change is one store of a whole word that refers to nothing else, hence
 * relaxed. In a checked table it is a compare-and-swap, and of threads racing
 * on one slot one wins. In another one two threads that free the same pointer
 * at the same instant may both succeed; what they have freed twice the daemon
 * refuses the second time.
 *
 * What a thread does to its own slot nobody else does at that time. But who
 * comes late, with a ref that may be over, can meet another thread to whom the
 * slot was just granted again: so table_receive(), table_forget(),
 * table_withdraw(), table_settle() and table_lose() exchange the word they looked
 * at, in every table.
 */
#ifndef SLABD_TABLE_H
#define SLABD_TABLE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "atomic.h"
#include "wire.h"

/*
 * A slot that leaves one thread may come to another by the daemon or another
 * process. All on that way is ordered, but ThreadSanitizer sees one process
 * only, and is told.
 */
#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define TABLE_TELLS
#endif
#elif defined(__SANITIZE_THREAD__)
#define TABLE_TELLS
#endif
#ifdef TABLE_TELLS
void __tsan_release(void *);
void __tsan_acquire(void *);
extern char table_elsewhere;
#define TABLE_LEAVES() __tsan_release(&table_elsewhere)
#define TABLE_COMES()  __tsan_acquire(&table_elsewhere)
#else
#define TABLE_LEAVES() ((void)0)
#define TABLE_COMES()  ((void)0)
#endif

enum slot_state {
	SLOT_NONE,   /* never had */
	SLOT_HELD,   /* the caller's */
	SLOT_MOVING, /* being sent or shared, by a message */
	SLOT_FREED,  /* freed, or at hand and not allocated yet */
	SLOT_SENT,   /* given away */
	SLOT_LOST,   /* the daemon says it never was ours */
};

#define TABLE_NO_SLOT UINT32_MAX

#define TABLE_STATE_SHIFT 20u
#define TABLE_OFFERED	  (UINT64_C(1) << 19)
#define TABLE_HOLDS	  (TABLE_OFFERED - 1)
#define TABLE_NAME	  (~(uint64_t)(REF_SLOTS_MAX - 1)) /* version, kind */

struct table {
	_Atomic uint64_t *words;
	char *base;	      /* where slot 0 starts */
	uint64_t slot_size;   /* odd << shift */
	uint64_t inverse;     /* of the odd part, modulo 2^64 */
	unsigned shift;	      /* below 64 */
	_Atomic uint32_t top; /* slots 0..top-1 exist; only rises */
	bool checked;	      /* as table_init() leaves it */
	uint32_t reserve;     /* words there is room for */
};

/*
 * For slots of `slot_size` bytes (not 0) from `base`: `slots` now, `reserve`
 * (at least as many) when the pool has grown. 0 or -ENOMEM.
 */
int table_init(struct table *, void *base, uint64_t slot_size, uint32_t slots,
    uint32_t reserve);
void table_destroy(struct table *);
void table_grow(struct table *, uint32_t slots);

static inline enum slot_state
table_state(uint64_t word)
{
	return (enum slot_state)(word >> TABLE_STATE_SHIFT & 0xf);
}

/* A ref's word in a state. */
static inline uint64_t
table_word(uint64_t ref, enum slot_state state)
{
	return (ref & TABLE_NAME) | (uint64_t)state << TABLE_STATE_SHIFT |
	       (state == SLOT_HELD);
}

/*
 * Replaces what was read before, by compare-and-swap if `checked`; false: it
 * has changed, and `*word` is what is there instead.
 */
static inline bool
table_swap(struct table *t, uint32_t slot, uint64_t *word, uint64_t fresh,
    bool checked)
{
	if (checked)
		return atomic_compare_exchange_strong_explicit(&t->words[slot],
		    word, fresh, memory_order_relaxed, memory_order_relaxed);
	store_relaxed(&t->words[slot], fresh);
	return true;
}

/* The slot at `offset` bytes, or TABLE_NO_SLOT. */
static inline uint32_t
table_slot_at(const struct table *t, uint64_t offset)
{
	/* Turned instead of shifted: low bits that should be 0 become huge. */
	uint64_t turned = offset >> t->shift | offset << ((64 - t->shift) & 63);
	uint64_t slot = turned * t->inverse;

	/* Relaxed: see table_grow. */
	return slot < load_relaxed(&t->top) ? (uint32_t)slot : TABLE_NO_SLOT;
}

/* The slot that starts at `at`, or TABLE_NO_SLOT. */
static inline uint32_t
table_slot(const struct table *t, const void *at)
{
	return table_slot_at(t, (uint64_t)((uintptr_t)at - (uintptr_t)t->base));
}

/* Where a slot starts; no check. */
static inline void *
table_address(const struct table *t, uint32_t slot)
{
	return t->base + slot * t->slot_size;
}

/* True when `ref` could be one of this pool. */
static inline bool
table_valid(const struct table *t, uint64_t ref)
{
	return ref_version(ref) != 0 && ref_slot(ref) < load_relaxed(&t->top);
}

/* Whether the slot is held, and no second time: who frees it has it no more. */
static inline bool
table_is_last(const struct table *t, uint32_t slot)
{
	uint64_t word = load_relaxed(&t->words[slot]);

	return table_state(word) == SLOT_HELD && (word & TABLE_HOLDS) == 1;
}

/* The ref a slot was last known by; its version is 0 when there is none. */
uint64_t table_ref(const struct table *, uint32_t slot);

/*
 * The caller has `ref`, and nobody can have the slot by another one: granted,
 * recalled, shared or received (again).
 */
void table_hold(struct table *, uint64_t ref);

/*
 * The word that rules out that `ref` can be had, 0: none does: the slot was ours
 * by a newer one, or is by any other. Unless it says SLOT_SENT it may be wrong,
 * where it does not know yet that a receipt came too late, or was deceived by a
 * forged ref.
 */
uint64_t table_opposing(const struct table *, uint64_t ref);
/* It was: if the slot still has just this word, it is SLOT_LOST. */
void table_forget(struct table *, uint32_t slot, uint64_t word);

/*
 * The same as table_hold() of a `ref` that was received, and not opposed; false,
 * and nothing has changed: we have been granted the slot since, so it is over.
 */
bool table_receive(struct table *, uint64_t ref);

/*
 * Ends one hold of just this `ref`, if there is one; true: it was the last, and
 * the slot is SLOT_FREED.
 */
bool table_withdraw(struct table *, uint64_t ref);

/* The exclusive `ref` is at hand: ours, and not allocated yet. */
static inline void
table_stock(struct table *t, uint64_t ref)
{
	TABLE_COMES();
	store_relaxed(&t->words[ref_slot(ref)], table_word(ref, SLOT_FREED));
}

/*
 * A slot at hand becomes the caller's; false: it is lost. `checked` is the
 * table's, told by who knows it.
 */
static inline bool
table_pick(struct table *t, uint64_t ref, bool checked)
{
	uint32_t slot = ref_slot(ref);
	uint64_t word = load_relaxed(&t->words[slot]);

	return word == table_word(ref, SLOT_FREED) &&
	       table_swap(t, slot, &word, table_word(ref, SLOT_HELD), checked);
}

/* And back; false, and nothing changed: it is not held, or shared. */
static inline bool
table_put(struct table *t, uint32_t slot, uint64_t *ref, bool checked)
{
	uint64_t word = load_relaxed(&t->words[slot]);

	/* Without its version the word must be that of slot 0, exclusive. */
	if ((word & ((UINT64_C(1) << (REF_SLOT_BITS + 1)) - 1)) !=
	    table_word(0, SLOT_HELD))
		return false;
	*ref = (word & TABLE_NAME) | slot;
	TABLE_LEAVES();
	return table_swap(
	    t, slot, &word, table_word(word, SLOT_FREED), checked);
}

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

/*
 * Sends or shares a held slot: `*held` is the ref it was held by, `*ref` the
 * one it has now. Errors as table_move().
 */
int table_offer(
    struct table *, uint32_t slot, bool shared, uint64_t *held, uint64_t *ref);

/*
 * True when this attachment has sent `ref`, or shared it and still holds it.
 * False says nothing.
 */
bool table_offered(const struct table *, uint64_t ref);

/* Ends a claim: `ref` goes on in state `to`, if it still is in `from`. */
void table_settle(
    struct table *, uint64_t ref, enum slot_state from, enum slot_state to);

/* The daemon refused `ref`: if the slot still has it, it is SLOT_LOST. */
void table_lose(struct table *, uint64_t ref);

#endif
