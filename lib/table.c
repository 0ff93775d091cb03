/*
 * The private table of an attachment. See table.h for the word.
 */
#include "config.h"

#include <errno.h>
#include <sys/mman.h>

#include "table.h"

#ifdef TABLE_TELLS
char table_elsewhere;
#endif

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

static size_t
bytes_of(const struct table *t)
{
	return (size_t)t->reserve * sizeof(*t->words);
}

int
table_init(struct table *t, void *base, uint64_t slot_size, uint32_t slots,
    uint32_t reserve)
{
	void *words;

	t->reserve = reserve;
	words = mmap(NULL, bytes_of(t), PROT_READ | PROT_WRITE,
	    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (words == MAP_FAILED)
		return -ENOMEM;
	t->words = words;
	t->base = base;
	t->slot_size = slot_size;
	t->shift = (unsigned)__builtin_ctzll(slot_size);
	t->inverse = inverse(slot_size >> t->shift);
	t->checked = true;
	/* Relaxed: whoever attaches hands the pool to other threads itself. */
	store_relaxed(&t->top, slots);
	return 0;
}

void
table_destroy(struct table *t)
{
	if (t->words != NULL)
		munmap(t->words, bytes_of(t));
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

static bool
swap(struct table *t, uint32_t slot, uint64_t *word, uint64_t fresh)
{
	return table_swap(t, slot, word, fresh, t->checked);
}

uint64_t
table_ref(const struct table *t, uint32_t slot)
{
	return (load_relaxed(&t->words[slot]) & TABLE_NAME) | slot;
}

/* Whether we had the slot by a version after that of `ref`. */
static bool
is_newer(uint64_t word, uint64_t ref)
{
	uint64_t ahead = ref_version(word) - ref_version(ref);

	return ref_version(word) != 0 && table_state(word) != SLOT_LOST &&
	       (ahead & REF_VERSION_MASK) != 0 &&
	       (ahead & REF_VERSION_MASK) <= REF_VERSION_MASK / 2;
}

static bool
opposes(uint64_t word, uint64_t ref)
{
	return is_newer(word, ref) || (table_state(word) == SLOT_HELD &&
					  ((word ^ ref) & TABLE_NAME) != 0);
}

uint64_t
table_opposing(const struct table *t, uint64_t ref)
{
	uint64_t word = load_relaxed(&t->words[ref_slot(ref)]);

	return opposes(word, ref) ? word : 0;
}

void
table_forget(struct table *t, uint32_t slot, uint64_t word)
{
	table_swap(t, slot, &word, table_word(word, SLOT_LOST), true);
}

/* The word with one hold more of `ref`, or with the first. */
static uint64_t
held_once_more(uint64_t word, uint64_t ref)
{
	uint64_t fresh = table_word(ref, SLOT_HELD);

	return ref_shared(ref) &&
		       ((word ^ fresh) & ~(TABLE_OFFERED | TABLE_HOLDS)) == 0
		   ? word + 1
		   : fresh;
}

/* And with one less. */
static uint64_t
held_once_less(uint64_t word)
{
	return (word & TABLE_HOLDS) == 1 ? table_word(word, SLOT_FREED)
					 : word - 1;
}

void
table_hold(struct table *t, uint64_t ref)
{
	uint32_t slot = ref_slot(ref);
	uint64_t word = load_relaxed(&t->words[slot]);

	TABLE_COMES();
	while (!swap(t, slot, &word, held_once_more(word, ref)))
		continue;
}

bool
table_receive(struct table *t, uint64_t ref)
{
	uint32_t slot = ref_slot(ref);
	uint64_t word = load_relaxed(&t->words[slot]);

	TABLE_COMES();
	do
		if (opposes(word, ref))
			return false;
	while (!table_swap(t, slot, &word, held_once_more(word, ref), true));
	return true;
}

bool
table_withdraw(struct table *t, uint64_t ref)
{
	uint32_t slot = ref_slot(ref);
	uint64_t word = load_relaxed(&t->words[slot]), fresh;

	TABLE_LEAVES();
	do {
		if (((word ^ ref) & TABLE_NAME) != 0 ||
		    table_state(word) != SLOT_HELD)
			return false;
		fresh = held_once_less(word);
	} while (!table_swap(t, slot, &word, fresh, true));
	return table_state(fresh) == SLOT_FREED;
}

/* Why a slot that is not held can be neither freed nor sent. */
static int
refusal(uint64_t word)
{
	return table_state(word) == SLOT_FREED ? -EALREADY : -EPERM;
}

int
table_drop(struct table *t, uint32_t slot, uint64_t *ref)
{
	uint64_t word = load_relaxed(&t->words[slot]), fresh;

	TABLE_LEAVES();
	do {
		if (table_state(word) != SLOT_HELD)
			return refusal(word);
		fresh = held_once_less(word);
	} while (!swap(t, slot, &word, fresh));
	*ref = (word & TABLE_NAME) | slot;
	return table_state(fresh) == SLOT_FREED ? 0 : 1;
}

/* 0 when the slot of this word may be given to others. */
static int
movable(uint64_t word)
{
	if (table_state(word) != SLOT_HELD)
		return refusal(word);
	return ref_shared(word) ? -EBUSY : 0;
}

int
table_move(struct table *t, uint32_t slot, uint64_t *ref)
{
	uint64_t word = load_relaxed(&t->words[slot]);
	int err;

	TABLE_LEAVES();
	do {
		err = movable(word);
		if (err < 0)
			return err;
	} while (!swap(t, slot, &word, table_word(word, SLOT_MOVING)));
	*ref = (word & TABLE_NAME) | slot;
	return 0;
}

int
table_offer(
    struct table *t, uint32_t slot, bool shared, uint64_t *held, uint64_t *ref)
{
	uint64_t word = load_relaxed(&t->words[slot]);
	int err;

	TABLE_LEAVES();
	do {
		err = movable(word);
		if (err < 0)
			return err;
		*ref =
		    ref_make(slot, shared, ref_version_next(ref_version(word)));
	} while (!swap(t, slot, &word,
	    shared ? table_word(*ref, SLOT_HELD) | TABLE_OFFERED
		   : table_word(*ref, SLOT_SENT)));
	*held = (word & TABLE_NAME) | slot;
	return 0;
}

bool
table_offered(const struct table *t, uint64_t ref)
{
	uint64_t word = load_relaxed(&t->words[ref_slot(ref)]);

	if (ref_shared(ref))
		return (word & ~TABLE_HOLDS) ==
		       ((table_word(ref, SLOT_HELD) & ~TABLE_HOLDS) |
			   TABLE_OFFERED);
	return word == table_word(ref, SLOT_SENT);
}

void
table_settle(
    struct table *t, uint64_t ref, enum slot_state from, enum slot_state to)
{
	uint32_t slot = ref_slot(ref);
	uint64_t word = load_relaxed(&t->words[slot]);

	while (word == table_word(ref, from))
		if (table_swap(t, slot, &word, table_word(ref, to), true))
			return;
}

void
table_lose(struct table *t, uint64_t ref)
{
	uint32_t slot = ref_slot(ref);
	uint64_t word = load_relaxed(&t->words[slot]);

	while (((word ^ ref) & TABLE_NAME) == 0)
		if (table_swap(
			t, slot, &word, table_word(ref, SLOT_LOST), true))
			return;
}
