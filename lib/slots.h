/*
 * slots.h - one segment: a run of equal slots and the list of the free ones.
 *
 * Slots 0 .. carved-1 have been handed out at least once; of the others neither
 * memory nor link nor bit has ever been touched.  The free ones among the
 * carved form a list of 16-bit indices, last in first out; the link of slot i
 * is at links + i * stride, which is inside the slot (stride = slot_size) or in
 * an array elsewhere (stride = 2), and the code below cannot tell.
 *
 *	0 <= used <= carved <= capacity <= 65534
 *	the list is carved - used slots long, and SEG_NIL ends it
 *	checked: the bit of a carved slot is set  <=>  the slot is out
 *
 * An intrusive link lies where its slot's last user may still write, so it is
 * believed only if it names a carved slot, in a checked segment a free one.
 * Behind a broken link nothing can be found: those slots count as out for ever,
 * which loses memory but never hands out what is not ours.  Likewise a list
 * bent into a ring ends where the count says so.
 *
 * Not public, and inline, since slab.c and the daemon do this for each slot;
 * slots.c gives it out under the names of <slab.h>.
 */
#ifndef SLOTS_H
#define SLOTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "slab.h"

#define SEG_NIL	      UINT32_C(65535)
#define SEG_WORD_BITS (sizeof(uintptr_t) * 8)

#ifdef SLAB_DEBUG
#define SEG_INVARIANT(s)                                               \
	do {                                                           \
		if (slab_seg_check((const struct slab_seg *)(s)) != 0) \
			__builtin_trap();                              \
	} while (0)
#else
#define SEG_INVARIANT(s) ((void)(s))
#endif

/* A link shares its bytes with whatever the slot's user keeps there. */
typedef uint16_t __attribute__((may_alias)) link16;

struct __attribute__((may_alias)) seg {
	unsigned char *mem;   /* slot 0; NULL: indices only */
	unsigned char *links; /* the link of slot 0 */
	unsigned char *bits;  /* NULL: not checked */
	uintptr_t bytes;      /* capacity * slot_size */
	uintptr_t inverse;    /* of slot_size's odd factor, modulo 2^word */
	uint32_t shift;	      /* slot_size = odd factor << shift */
	uint32_t slot_size;
	uint32_t stride; /* from one link to the next, bytes */
	uint32_t capacity;
	uint32_t carved;
	uint32_t used;
	uint32_t head; /* the slot freed last, or SEG_NIL */
};

_Static_assert(sizeof(struct seg) <= sizeof(struct slab_seg), "opaque_");
_Static_assert(_Alignof(struct seg) <= _Alignof(struct slab_seg), "opaque_");

static inline struct seg *
seg_of(struct slab_seg *seg)
{
	return (struct seg *)seg;
}

static inline const struct seg *
seg_of_const(const struct slab_seg *seg)
{
	return (const struct seg *)seg;
}

static inline link16 *
seg_link(const struct seg *s, uint32_t index)
{
	return (link16 *)(void *)(s->links + (size_t)index * s->stride);
}

static inline bool
seg_is_out(const struct seg *s, uint32_t index)
{
	return s->bits[index / 8] >> index % 8 & 1;
}

static inline void
seg_set_out(struct seg *s, uint32_t index)
{
	s->bits[index / 8] |= (unsigned char)(1u << index % 8);
}

static inline void
seg_set_free(struct seg *s, uint32_t index)
{
	s->bits[index / 8] &= (unsigned char)~(1u << index % 8);
}

/*
 * The slot that starts `offset` bytes behind slot 0, or something >= capacity:
 * range, boundary and quotient in one multiplication (Granlund and
 * Montgomery, "Division by Invariant Integers using Multiplication", 1994, on
 * exact division).  Multiplying by the inverse and rotating by the shift undo
 * the multiplication by slot_size modulo 2^word, one to one.  So the result is
 * a q below capacity only if offset = q * slot_size modulo 2^word, and as no
 * slot of the segment starts beyond 2^word, only if the two are equal.
 */
static inline uintptr_t
seg_quotient(const struct seg *s, uintptr_t offset)
{
	uintptr_t product = offset * s->inverse;
	unsigned back = (SEG_WORD_BITS - s->shift) % SEG_WORD_BITS;

	return product >> s->shift | product << back;
}

/* Hand out a slot for the first time, and its link and bit for later. */
static inline int
seg_carve(struct seg *s)
{
	uint32_t index = s->carved;

	if (index == s->capacity)
		return SLAB_ENOMEM;
	s->carved++;
	s->used++;
	/* The first bit of a byte starts the byte: nobody has cleared it. */
	if (s->bits && index % 8 == 0)
		s->bits[index / 8] = 1;
	else if (s->bits)
		seg_set_out(s, index);
	return (int)index;
}

/* The free slot behind a free slot; SEG_NIL if its link cannot be believed. */
static inline uint32_t
seg_next(const struct seg *s, uint32_t index)
{
	uint32_t next = *seg_link(s, index);

	if (next >= s->carved || (s->bits && seg_is_out(s, next)))
		return SEG_NIL;
	return next;
}

static inline int
seg_take(struct seg *s)
{
	uint32_t index = s->head;

	if (index == SEG_NIL)
		return seg_carve(s);
	if (s->bits)
		seg_set_out(s, index);
	s->used++;
	s->head = s->used < s->carved ? seg_next(s, index) : SEG_NIL;
	if (s->head == SEG_NIL)
		s->used = s->carved;
	SEG_INVARIANT(s);
	return (int)index;
}

static inline int
seg_give(struct seg *s, uint32_t index)
{
	if (index >= s->capacity)
		return SLAB_ERANGE;
	if (index >= s->carved || index == s->head || s->used == 0)
		return SLAB_EFREE;
	if (s->bits) {
		if (!seg_is_out(s, index))
			return SLAB_EFREE;
		seg_set_free(s, index);
	}
	*seg_link(s, index) = (link16)s->head;
	s->head = index;
	s->used--;
	SEG_INVARIANT(s);
	return 0;
}

static inline int
seg_index(const struct seg *s, const void *slot)
{
	uintptr_t offset = (uintptr_t)slot - (uintptr_t)s->mem;
	uintptr_t index = seg_quotient(s, offset);

	if (!s->mem)
		return SLAB_ERANGE;
	if (index >= s->capacity)
		return offset < s->bytes ? SLAB_ESLOT : SLAB_ERANGE;
	return (int)index;
}

static inline void *
seg_pop(struct seg *s)
{
	int index;

	if (!s->mem)
		return NULL;
	index = seg_take(s);
	return index < 0 ? NULL : s->mem + (size_t)index * s->slot_size;
}

static inline int
seg_push(struct seg *s, void *slot)
{
	int index = seg_index(s, slot);

	return index < 0 ? index : seg_give(s, (uint32_t)index);
}

static inline enum slab_state
seg_state(const struct seg *s)
{
	if (s->used == 0)
		return SLAB_EMPTY;
	return s->used < s->capacity ? SLAB_PARTIAL : SLAB_FULL;
}

#endif
