/*
 * The private table of an attachment. See table.h for the word.
 */
#include "config.h"

#include <errno.h>
#include <sys/mman.h>

#include "atomic.h"
#include "table.h"
#include "wire.h"

#define STATE_SHIFT 20u
#define HOLDS_MASK  ((UINT64_C(1) << STATE_SHIFT) - 1)
#define NAME_MASK   (~(uint64_t)(REF_SLOTS_MAX - 1)) /* version and kind */

static uint64_t
word_make(uint64_t ref, enum slot_state state)
{
	return (ref & NAME_MASK) | (uint64_t)state << STATE_SHIFT |
	       (state == SLOT_HELD);
}

static enum slot_state
word_state(uint64_t word)
{
	return (enum slot_state)(word >> STATE_SHIFT & 0xf);
}

/*
 * Division without dividing: an odd number has an inverse modulo 2^64, and an
 * exact multiple times the inverse is the quotient, while everything else
 * comes out larger than any quotient can be (Granlund and Montgomery, Division
 * by Invariant Integers using Multiplication, 1994, section 9). Newton's
 * iteration doubles the right bits, of which x itself has three.
 */
static uint64_t
inverse(uint64_t odd)
{
	uint64_t x = odd;

	for (int bits = 3; bits < 64; bits *= 2)
		x *= 2 - odd * x;
	return x;
}

int
table_init(struct table *t, void *base, uint64_t slot_size, uint32_t slots,
    uint32_t reserve)
{
	size_t bytes = (size_t)reserve * sizeof(*t->words);
	void *words = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
	    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (words == MAP_FAILED)
		return -ENOMEM;
	t->words = words;
	t->bytes = bytes;
	t->base = base;
	t->slot_size = slot_size;
	t->shift = (unsigned)__builtin_ctzll(slot_size);
	t->inverse = inverse(slot_size >> t->shift);
	/* Relaxed: whoever attaches hands the pool to other threads itself. */
	store_relaxed(&t->top, slots);
	return 0;
}

void
table_destroy(struct table *t)
{
	if (t->words != NULL)
		munmap(t->words, t->bytes);
	t->words = NULL;
}

void
table_grow(struct table *t, uint32_t slots)
{
	/*
	 * Relaxed: a slot beyond the old top reaches other threads only after
	 * its grant, which the connection's lock orders after this.
	 */
	store_relaxed(&t->top, slots);
}

uint32_t
table_slot_at(const struct table *t, uint64_t offset)
{
	/* Turned instead of shifted: low bits that should be 0 become huge. */
	uint64_t turned = offset >> t->shift | offset << ((64 - t->shift) & 63);
	uint64_t slot = turned * t->inverse;

	/* Relaxed: see table_grow. */
	return slot < load_relaxed(&t->top) ? (uint32_t)slot : TABLE_NO_SLOT;
}

uint32_t
table_slot(const struct table *t, const void *at)
{
	return table_slot_at(t, (uint64_t)((uintptr_t)at - (uintptr_t)t->base));
}

void *
table_address(const struct table *t, uint32_t slot)
{
	return t->base + slot * t->slot_size;
}

bool
table_valid(const struct table *t, uint64_t ref)
{
	return ref_version(ref) != 0 && ref_slot(ref) < load_relaxed(&t->top);
}

uint64_t
table_ref(const struct table *t, uint32_t slot)
{
	return (load_relaxed(&t->words[slot]) & NAME_MASK) | slot;
}

/* On failure `*word` is what was there instead. */
static bool
exchange(struct table *t, uint32_t slot, uint64_t *word, uint64_t fresh)
{
	return atomic_compare_exchange_weak_explicit(&t->words[slot], word,
	    fresh, memory_order_relaxed, memory_order_relaxed);
}

void
table_hold(struct table *t, uint64_t ref)
{
	uint32_t slot = ref_slot(ref);
	uint64_t word = load_relaxed(&t->words[slot]), fresh;

	do {
		fresh = word_make(ref, SLOT_HELD);
		if (ref_shared(ref) &&
		    (word & ~HOLDS_MASK) == (fresh & ~HOLDS_MASK))
			fresh = word + 1;
	} while (!exchange(t, slot, &word, fresh));
}

/* Why a slot that is not held can be neither freed nor sent. */
static int
refusal(uint64_t word)
{
	return word_state(word) == SLOT_FREED ? -EALREADY : -EPERM;
}

int
table_drop(struct table *t, uint32_t slot, uint64_t *ref)
{
	uint64_t word = load_relaxed(&t->words[slot]);
	bool last;

	do {
		if (word_state(word) != SLOT_HELD)
			return refusal(word);
		last = (word & HOLDS_MASK) == 1;
	} while (!exchange(
	    t, slot, &word, last ? word_make(word, SLOT_FREED) : word - 1));
	*ref = (word & NAME_MASK) | slot;
	return last ? 0 : 1;
}

int
table_move(struct table *t, uint32_t slot, uint64_t *ref)
{
	uint64_t word = load_relaxed(&t->words[slot]);

	do {
		if (word_state(word) != SLOT_HELD)
			return refusal(word);
		if (ref_shared(word))
			return -EBUSY;
	} while (!exchange(t, slot, &word, word_make(word, SLOT_MOVING)));
	*ref = (word & NAME_MASK) | slot;
	return 0;
}

void
table_settle(
    struct table *t, uint64_t ref, enum slot_state from, enum slot_state to)
{
	uint64_t word = word_make(ref, from);

	while (!exchange(t, ref_slot(ref), &word, word_make(ref, to)))
		if (word != word_make(ref, from))
			return;
}
