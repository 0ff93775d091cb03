/*
 * slots.c - segments for others: how one is made and checked, and the
 * operations of slots.h under their public names.
 *
 * Freestanding: this file needs no libc, and config.h only for SLAB_DEBUG.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "slots.h"

#define ALIGN_AUTO 64u /* the most that slot_align 0 stands for */

static bool
is_power_of_two(uint32_t n)
{
	return n && !(n & (n - 1));
}

/*
 * The inverse of an odd number modulo 2^word by Newton's iteration: 3d ^ 2 is
 * right in 5 bits, and each round doubles that.
 */
static uintptr_t
inverse_of(uintptr_t odd)
{
	uintptr_t inverse = 3 * odd ^ 2;

	for (unsigned bits = 5; bits < SEG_WORD_BITS; bits *= 2)
		inverse *= 2 - odd * inverse;
	return inverse;
}

static int
geom_check(const struct slab_geom *geom, uint32_t align)
{
	if (geom->size != sizeof(*geom) ||
	    geom->flags & ~(SLAB_EXTERNAL | SLAB_CHECKED))
		return SLAB_EINVAL;
	if (geom->flags & SLAB_EXTERNAL && !geom->links)
		return SLAB_EINVAL;
	if (geom->flags & SLAB_CHECKED && !geom->bitmap)
		return SLAB_EINVAL;
	if (geom->slot_size < sizeof(link16))
		return SLAB_ESIZE;
	if (!is_power_of_two(align) || geom->slot_size % align != 0)
		return SLAB_EALIGN;
	if (geom->flags & SLAB_EXTERNAL)
		return (uintptr_t)geom->links % sizeof(link16) ? SLAB_EALIGN
							       : 0;
	return align < sizeof(link16) ? SLAB_EALIGN : 0;
}

static uint32_t
geom_align(const struct slab_geom *geom)
{
	uint32_t size = geom->slot_size | ALIGN_AUTO;

	return geom->slot_align ? geom->slot_align : (size & -size);
}

int
slab_seg_init(
    struct slab_seg *seg, void *mem, size_t len, const struct slab_geom *geom)
{
	struct seg *s = seg_of(seg);
	bool external;
	uintptr_t end;
	size_t pad, fit;
	uint32_t align;
	int err;

	if (!seg || !geom)
		return SLAB_EINVAL;
	align = geom_align(geom);
	err = geom_check(geom, align);
	if (err)
		return err;
	external = geom->flags & SLAB_EXTERNAL;
	if (!mem && !external)
		return SLAB_EINVAL;
	if (__builtin_add_overflow((uintptr_t)mem, len, &end))
		return SLAB_EINVAL;
	pad = -(uintptr_t)mem & (align - 1);
	if (len < pad || len - pad < geom->slot_size)
		return SLAB_ESIZE;
	fit = (len - pad) / geom->slot_size;

	s->mem = mem ? (unsigned char *)mem + pad : NULL;
	s->links = external ? geom->links : s->mem;
	s->stride = external ? sizeof(link16) : geom->slot_size;
	s->bits = geom->flags & SLAB_CHECKED ? geom->bitmap : NULL;
	s->capacity = fit < SLAB_SEG_MAX ? (uint32_t)fit : SLAB_SEG_MAX;
	s->bytes = (uintptr_t)s->capacity * geom->slot_size;
	s->slot_size = geom->slot_size;
	s->shift = (uint32_t)__builtin_ctz(geom->slot_size);
	s->inverse = inverse_of(geom->slot_size >> s->shift);
	s->carved = 0;
	s->used = 0;
	s->head = SEG_NIL;
	SEG_INVARIANT(s);
	return (int)s->capacity;
}

int
slab_seg_take(struct slab_seg *seg)
{
	return seg_take(seg_of(seg));
}

int
slab_seg_give(struct slab_seg *seg, unsigned index)
{
	return seg_give(seg_of(seg), index);
}

void *
slab_seg_pop(struct slab_seg *seg)
{
	return seg_pop(seg_of(seg));
}

int
slab_seg_push(struct slab_seg *seg, void *slot)
{
	return seg_push(seg_of(seg), slot);
}

int
slab_seg_index(const struct slab_seg *seg, const void *slot)
{
	return seg_index(seg_of_const(seg), slot);
}

void *
slab_seg_at(const struct slab_seg *seg, unsigned index)
{
	const struct seg *s = seg_of_const(seg);

	if (!s->mem || index >= s->capacity)
		return NULL;
	return s->mem + (size_t)index * s->slot_size;
}

unsigned
slab_seg_used(const struct slab_seg *seg)
{
	return seg_of_const(seg)->used;
}

unsigned
slab_seg_capacity(const struct slab_seg *seg)
{
	return seg_of_const(seg)->capacity;
}

enum slab_state
slab_seg_state(const struct slab_seg *seg)
{
	return seg_state(seg_of_const(seg));
}

int
slab_seg_taken(const struct slab_seg *seg, unsigned index)
{
	const struct seg *s = seg_of_const(seg);

	if (!s->bits)
		return SLAB_EINVAL;
	if (index >= s->capacity)
		return SLAB_ERANGE;
	return index < s->carved && seg_is_out(s, index);
}

int
slab_seg_check(const struct slab_seg *seg)
{
	const struct seg *s = seg_of_const(seg);
	uint32_t index = s->head;

	if (s->used > s->carved || s->carved > s->capacity ||
	    s->capacity > SLAB_SEG_MAX)
		return SLAB_EINVAL;
	for (uint32_t left = s->carved - s->used; left > 0; left--) {
		if (index >= s->carved || (s->bits && seg_is_out(s, index)))
			return SLAB_EINVAL;
		index = left > 1 ? *seg_link(s, index) : SEG_NIL;
	}
	return index == SEG_NIL ? 0 : SLAB_EINVAL;
}

const char *
slab_strerror(int err)
{
	if (err >= 0)
		return "success";
	switch ((enum slab_error)err) {
	case SLAB_ENOMEM:
		return "no memory";
	case SLAB_EINVAL:
		return "invalid argument";
	case SLAB_ESIZE:
		return "size does not fit";
	case SLAB_EALIGN:
		return "alignment does not fit";
	case SLAB_ERANGE:
		return "address in no segment";
	case SLAB_ESLOT:
		return "no slot starts there";
	case SLAB_EFREE:
		return "slot is free already";
	case SLAB_EBUSY:
		return "busy";
	}
	return "unknown error";
}
