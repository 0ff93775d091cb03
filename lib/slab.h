/*
 * slab.h - slots of one size over any memory.
 *
 * Two floors, usable apart:
 *
 *   struct slab_seg   one segment: a run of at most 65534 equal slots over a
 *                     buffer of the caller's, or over no buffer at all, when
 *                     only the indices matter.
 *   struct slab       a cache ("master"): obtains segments through hooks, or
 *                     is given them by hand, and gives empty ones back.
 *
 * Both need nothing but the freestanding headers: no system call, no libc.
 *
 * Errors: functions that return int return 0 or a count, else one of enum
 * slab_error; functions that return a pointer return NULL.
 *
 * Threads: a segment has no lock, and one thread at a time may use it.  A
 * cache made with a lock may be used by any number of threads; without one it
 * follows the rule of segments.  Nothing here is async-signal-safe.
 */
#ifndef SLAB_H
#define SLAB_H

#include <stddef.h>
#include <stdint.h>

/*
 * The scope guard keeps errno, whatever a release hook does to it.  A kernel
 * or bare metal has none to keep.
 */
#if defined(__STDC_HOSTED__) && __STDC_HOSTED__ && defined(__has_include)
#if __has_include(<errno.h>)
#include <errno.h>
#define SLAB_ERRNO_ 1
#endif
#endif

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define SLAB_API __attribute__((visibility("default")))
#else
#define SLAB_API
#endif

enum slab_error {
	SLAB_ENOMEM = -1, /* no slot is free, or a hook had no memory */
	SLAB_EINVAL = -2, /* an argument is missing or not understood */
	SLAB_ESIZE = -3,  /* slot size impossible, or memory too small */
	SLAB_EALIGN = -4, /* an alignment that cannot be had */
	SLAB_ERANGE = -5, /* in no segment */
	SLAB_ESLOT = -6,  /* in a segment, but no slot starts there */
	SLAB_EFREE = -7,  /* the slot is free already */
	SLAB_EBUSY = -8	  /* slots are out, or the memory is in use already */
};

/* What a segment is: no slot is out, some are, all are. */
enum slab_state { SLAB_EMPTY, SLAB_PARTIAL, SLAB_FULL };

/* Flags of a geometry or a cache. */
#define SLAB_EXTERNAL \
	1u /* links live elsewhere; the memory is never touched \
	    */
#define SLAB_CHECKED \
	2u /* a bit per slot, so that every double free is seen \
	    */

/* Slots in one segment, at most: links are 16 bits, 65535 ends a list. */
#define SLAB_SEG_MAX 65534u

/* Bytes the caller provides for n slots: links, if external; bits, if checked.
 */
#define SLAB_LINK_BYTES(n)   ((size_t)(n) * sizeof(uint16_t))
#define SLAB_BITMAP_BYTES(n) (((size_t)(n) + 7) / 8)

/* An English phrase for an error of this library; never NULL. */
SLAB_API const char *slab_strerror(int err);

/* ------------------------------------------------------------ segments */

struct slab_geom {
	uint32_t size;	     /* sizeof(struct slab_geom) */
	uint32_t flags;	     /* SLAB_EXTERNAL, SLAB_CHECKED */
	uint32_t slot_size;  /* bytes, at least 2, a multiple of slot_align */
	uint32_t slot_align; /* a power of two, at least 2 unless external; 0:
				the largest that divides slot_size, up to 64 */
	void *links;	     /* external: SLAB_LINK_BYTES, aligned to 2 */
	void *bitmap;	     /* checked: SLAB_BITMAP_BYTES, any alignment */
};

/* Holds pointers into itself never: may be moved, but not copied in use. */
struct slab_seg {
	uint64_t opaque_[12];
};

/*
 * Make `seg` manage the slots in [mem, mem + len).  The first slot starts at
 * the first aligned address; what is left over at the end is not used, nor
 * anything beyond SLAB_SEG_MAX slots, so size links and bitmap for
 * min(len / slot_size, SLAB_SEG_MAX).  Neither mem nor links nor bitmap is read
 * or written here, and later only where slots have been handed out before: no
 * need to clear any of them.
 *
 * External segments may have mem NULL, and then hand out indices only.
 *
 * Returns the number of slots (at least 1), or SLAB_EINVAL (size or flags
 * unknown, a needed pointer NULL, mem + len beyond the address space),
 * SLAB_ESIZE (slot_size under 2, or not one slot fits), SLAB_EALIGN (slot_align
 * not a power of two, not dividing slot_size or under 2 though intrusive; links
 * at an odd address).
 */
SLAB_API int slab_seg_init(
    struct slab_seg *seg, void *mem, size_t len, const struct slab_geom *geom);

/*
 * Take a free slot, the one freed last if any.  Returns its index, or
 * SLAB_ENOMEM: the segment is full.  O(1).
 */
SLAB_API int slab_seg_take(struct slab_seg *seg);

/*
 * Give a slot back.  Returns 0, or SLAB_ERANGE (no such index), SLAB_EFREE (it
 * is free: always seen in a checked segment; else seen of slots never handed
 * out, of the slot freed last, and when no slot is out).  O(1).
 */
SLAB_API int slab_seg_give(struct slab_seg *seg, unsigned index);

/* slab_seg_take as a pointer; NULL: full, or the segment has no memory. */
SLAB_API void *slab_seg_pop(struct slab_seg *seg);

/* slab_seg_give by pointer: also SLAB_ERANGE and SLAB_ESLOT of slab_seg_index.
 */
SLAB_API int slab_seg_push(struct slab_seg *seg, void *slot);

/*
 * The index of the slot, free or not, that starts at an address; else
 * SLAB_ERANGE (before the first slot, behind the last, or the segment has no
 * memory) or SLAB_ESLOT.  Any pointer may be asked about.
 */
SLAB_API int slab_seg_index(const struct slab_seg *seg, const void *slot);

/* The address of a slot, free or not; NULL: no such index, or no memory. */
SLAB_API void *slab_seg_at(const struct slab_seg *seg, unsigned index);

/* How many slots are out, and how many there are. */
SLAB_API unsigned slab_seg_used(const struct slab_seg *seg);
SLAB_API unsigned slab_seg_capacity(const struct slab_seg *seg);

SLAB_API enum slab_state slab_seg_state(const struct slab_seg *seg);

/*
 * Is the slot of this index out?  Returns 1 or 0, SLAB_ERANGE (no such index),
 * or SLAB_EINVAL: only a checked segment knows.
 */
SLAB_API int slab_seg_taken(const struct slab_seg *seg, unsigned index);

/*
 * Walk the segment's whole free list, O(n).  Returns 0, or SLAB_EINVAL:
 * something has overwritten the segment, its links or its bits.  Builds with
 * SLAB_DEBUG defined do this around every change, and trap.
 */
SLAB_API int slab_seg_check(const struct slab_seg *seg);

/* -------------------------------------------------------------- caches */

struct slab;

/*
 * Where memory comes from.  `obtain` returns `len` bytes aligned to `align` (a
 * power of two) or NULL; it runs under the cache's lock, so it must not use the
 * cache.  `release` (NULL: nothing is ever given back) gets what obtain
 * returned, never what the caller attached, and runs outside the lock.
 */
struct slab_mem {
	void *(*obtain)(void *ctx, size_t len, size_t align);
	void (*release)(void *ctx, void *mem, size_t len);
	void *ctx;
};

/* A lock whose state fits into 16 bytes aligned to 16; init may be NULL. */
struct slab_lock_ops {
	void (*init)(void *state);
	void (*lock)(void *state);
	void (*unlock)(void *state);
};

/*
 * A spinning lock.  Good where holders are not preempted for long; on a busy
 * machine prefer a lock that sleeps.
 */
extern SLAB_API const struct slab_lock_ops slab_lock_spin;

/*
 * What a cache is made of.  All but size and slot_size may be 0, as long as
 * there is memory for the cache itself.
 *
 * Intrusive segments carry their own header, and are aligned to seg_size.
 * External ones lie at base + a multiple of seg_size, and their header, links
 * and bits are obtained from meta.
 *
 * The cache itself lives in memory from `meta`; if that is NULL at the start of
 * `first`; if that is NULL too in memory from `mem`.  So a static buffer as
 * `first` with no hooks at all makes a complete cache.
 */
struct slab_options {
	uint32_t size;	     /* sizeof(struct slab_options) */
	uint32_t flags;	     /* SLAB_EXTERNAL (needs meta), SLAB_CHECKED */
	uint32_t slot_size;  /* see struct slab_geom */
	uint32_t slot_align; /* see struct slab_geom */
	size_t seg_size;     /* of obtained segments: bytes, a power of two,
				needed with mem */
	uint32_t keep_empty; /* obtained segments kept though empty: what is
				freed and taken at the brink costs no hook */
	uint32_t max_segs;   /* limits the obtained segments; 0: no limit */
	const struct slab_mem *mem;  /* segments; NULL: the cache never grows */
	const struct slab_mem *meta; /* all else; NULL: as mem */
	const struct slab_lock_ops *lock; /* NULL: none */
	void *first;			  /* a first segment, as by hand */
	size_t first_len;		  /* bytes */
	void *base; /* where external segments count from */
};

struct slab_stats {
	uint32_t size;	     /* sizeof(struct slab_stats), set by the caller */
	uint32_t segs;	     /* segments attached */
	uint32_t segs_full;  /* of them with no slot free */
	uint32_t segs_empty; /* of them with no slot out */
	uint64_t total;	     /* slots in them */
	uint64_t used;	     /* slots out */
	uint64_t rejected;   /* frees refused since creation */
};

/*
 * Make a cache; `*out` is its first handle, NULL on failure.  The options,
 * hooks and lock operations are copied, what they point to further on is not.
 * Returns 0; SLAB_EINVAL (size or flags unknown, seg_size no power of two
 * though there is mem, mem or meta without obtain, lock without lock and
 * unlock, external without meta, no memory for the cache itself), SLAB_ESIZE,
 * SLAB_EALIGN (as slab_seg_init, for a segment of seg_size and for first), or
 * SLAB_ENOMEM (a hook returned NULL).
 */
SLAB_API int slab_create(struct slab **out, const struct slab_options *opt);

/* One more handle for the same cache, `s` itself; NULL: 2^32 - 1 are out. */
SLAB_API struct slab *slab_clone(struct slab *s);

/*
 * Give a handle back; NULL is accepted.  With the last handle all empty
 * segments are released, and the rest of the cache once its last slot is freed:
 * slots stay valid, and slab_free and slab_free_in remain allowed until then,
 * but nothing else.  Then attached memory is the caller's again.
 */
SLAB_API void slab_drop(struct slab *s);

/*
 * Take a slot, uninitialised; growing by a segment if all are full.  NULL: no
 * memory.  O(1) but for the hooks.
 */
SLAB_API void *slab_alloc(struct slab *s);

/*
 * Free a slot, from any thread.  Returns 0, or SLAB_EINVAL (s is NULL),
 * SLAB_ERANGE (not in this cache), SLAB_ESLOT (no slot starts there),
 * SLAB_EFREE (as slab_seg_give); whatever the pointer, memory outside the cache
 * is not read.  O(1), plus a search of the segments attached by hand if it is
 * in no other.
 */
SLAB_API int slab_free(struct slab *s, void *slot);

/*
 * Free a slot knowing only its address and the seg_size of its cache: for
 * intrusive segments aligned to their size.  Of the slot's own segment the
 * header is read, so that the pointer must really lie in such a segment.
 * Returns as slab_free, and SLAB_EINVAL if seg_size is no power of two,
 * SLAB_ERANGE if there is no header.
 */
SLAB_API int slab_free_in(void *slot, size_t seg_size);

/*
 * Attach memory of the caller's as one segment, with any alignment and length.
 * Returns the number of slots added, or SLAB_EINVAL, SLAB_ESIZE, SLAB_EALIGN
 * (as slab_seg_init), SLAB_EBUSY (it overlaps a segment), SLAB_ENOMEM
 * (external: no memory for the links).
 */
SLAB_API int slab_attach(struct slab *s, void *mem, size_t len);

/*
 * Detach memory that was attached by hand at this very address.  Returns 0, or
 * SLAB_EINVAL (NULL), SLAB_ERANGE (not attached by hand), SLAB_EBUSY (slots
 * are out).  A `first` in which the cache lives cannot be detached.
 */
SLAB_API int slab_detach(struct slab *s, void *mem);

/* Release all empty obtained segments; how many, or SLAB_EINVAL (NULL). */
SLAB_API int slab_trim(struct slab *s);

SLAB_API void slab_get_stats(struct slab *s, struct slab_stats *stats);

/* The size of its slots, in bytes. */
SLAB_API size_t slab_slot_size(const struct slab *s);

/*
 * Check all lists, counts and segments, O(slots).  Returns 0, or SLAB_EINVAL:
 * something has overwritten them.  See slab_seg_check.
 */
SLAB_API int slab_check(struct slab *s);

/* ------------------------------------------------- checks while compiling */

#if defined(__cplusplus)
#define SLAB_ASSERT_(cond, text) static_assert(cond, text)
#define SLAB_ALIGNOF_(type)	 alignof(type)
#define SLAB_CAST_(type, value)	 static_cast<type>(value)
#elif defined(__STDC_VERSION__) && __STDC_VERSION__ >= 201112L
#define SLAB_ASSERT_(cond, text) _Static_assert(cond, text)
#define SLAB_ALIGNOF_(type)	 _Alignof(type)
#define SLAB_CAST_(type, value)	 ((type)(value))
#else
/* A function nobody calls, with a type for its parameter if `cond` holds. */
#define SLAB_ASSERT_(cond, text) \
	extern void slab_assert_(char(*holds)[(cond) ? 1 : -1])
#define SLAB_ALIGNOF_(type)	__alignof__(type)
#define SLAB_CAST_(type, value) ((type)(value))
#endif

/*
 * A declaration that compiles only if `type` fits slots of a constant size with
 * the default slot_align:
 *
 *	SLAB_FITS(struct packet, 2048);
 */
#define SLAB_FITS(type, slot_size)                                      \
	SLAB_ASSERT_(sizeof(type) <= (slot_size) && (slot_size) >= 2 && \
			 (slot_size) % SLAB_ALIGNOF_(type) == 0 &&      \
			 SLAB_ALIGNOF_(type) <= 64,                     \
	    "type does not fit the slot")

/*
 * Define `name`, static lock operations over a lock of some type, from three
 * functions or macros that take a pointer to it.  Compiles only if the type
 * fits the 16 bytes of a cache:
 *
 *	SLAB_LOCK_OPS(my_ops, struct my_lock, my_init, my_lock, my_unlock);
 */
#define SLAB_LOCK_OPS(name, type, init, lock, unlock)                 \
	SLAB_ASSERT_(sizeof(type) <= 16 && SLAB_ALIGNOF_(type) <= 16, \
	    "lock does not fit 16 bytes");                            \
	static void name##_init_(void *state)                         \
	{                                                             \
		init(SLAB_CAST_(type *, state));                      \
	}                                                             \
	static void name##_lock_(void *state)                         \
	{                                                             \
		lock(SLAB_CAST_(type *, state));                      \
	}                                                             \
	static void name##_unlock_(void *state)                       \
	{                                                             \
		unlock(SLAB_CAST_(type *, state));                    \
	}                                                             \
	static const struct slab_lock_ops name = {                    \
	    name##_init_, name##_lock_, name##_unlock_}

/* --------------------------------------------------------- scope guard */

#if defined(__GNUC__)
struct slab_scope_ {
	struct slab *cache;
	void *variable; /* the address of the guarded pointer */
};

static inline void
slab_scope_end_(struct slab_scope_ *scope)
{
#ifdef SLAB_ERRNO_
	int saved = errno;
#endif
	void *slot;

	__builtin_memcpy(&slot, scope->variable, sizeof(slot));
	if (slot)
		slab_free(scope->cache, slot);
#ifdef SLAB_ERRNO_
	errno = saved;
#endif
}

/*
 * Declare `type *name`, allocated from a cache (NULL: no memory).  However the
 * scope is left, what `name` then points to is freed; set it to NULL to keep
 * the slot.  errno survives.
 */
#define SLAB_SCOPED(cache, type, name)                              \
	struct slab *name##_cache_ = (cache);                       \
	type *name = SLAB_CAST_(type *, slab_alloc(name##_cache_)); \
	__attribute__((cleanup(slab_scope_end_),                    \
	    unused)) struct slab_scope_ name##_scope_ = {name##_cache_, &name}
#endif

#ifdef __cplusplus
}
#endif

#endif
