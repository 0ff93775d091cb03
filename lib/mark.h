/*
 * What others are told when a slot changes hands: memory checkers (annotate.h)
 * and tracers (probe.h). Where neither is configured nothing is left of it.
 */
#ifndef SLABD_MARK_H
#define SLABD_MARK_H

#include "annotate.h"
#include "pool.h"
#include "probe.h"

#if defined(SLABD_ANNOTATIONS) || defined(SLABD_PROBES)

static inline uint64_t
mark_offset(const struct slabd_pool *p, const void *slot)
{
	return (uint64_t)((const char *)slot - p->table.base);
}

/* NULL is passed on. */
static inline void *
mark_allocated(struct slabd_pool *p, void *slot)
{
	if (slot == NULL)
		return NULL;
	annotate_allocated(slot, (size_t)p->table.slot_size);
	PROBE2(libslabd, alloc, p->name, mark_offset(p, slot));
	return slot;
}

static inline void
mark_received(struct slabd_pool *p, void *slot, uint64_t ref)
{
	annotate_received(slot, (size_t)p->table.slot_size);
	PROBE2(libslabd, receive, p->name, ref);
}

/* A sent one that came back. */
static inline void
mark_recalled(struct slabd_pool *p, uint64_t ref)
{
	if (!ref_shared(ref))
		annotate_received(table_address(&p->table, ref_slot(ref)),
		    (size_t)p->table.slot_size);
}

/*
 * Before it is freed or sent, since afterwards it may be somebody else's at
 * once; mark_freed() and mark_sent() say what came of it.
 */
static inline void
mark_leaves(const struct slabd_pool *p, void *at)
{
	uint32_t slot = p != NULL ? table_slot(&p->table, at) : TABLE_NO_SLOT;

	if (slot != TABLE_NO_SLOT && table_is_last(&p->table, slot))
		annotate_gone(at, (size_t)p->table.slot_size);
}

static inline int
mark_freed(struct slabd_pool *p, void *at, int err)
{
	if (err >= 0)
		PROBE2(libslabd, free, p->name, mark_offset(p, at));
	else if (p != NULL && table_slot(&p->table, at) != TABLE_NO_SLOT &&
		 table_is_last(&p->table, table_slot(&p->table, at)))
		annotate_received(at, (size_t)p->table.slot_size);
	return err;
}

static inline int
mark_sent(struct slabd_pool *p, void *at, uint64_t ref, int err)
{
	if (err < 0)
		return mark_freed(p, at, err);
	PROBE2(libslabd, send, p->name, ref);
	return err;
}

/* The pool's addresses will be somebody else's. */
static inline void
mark_unmapped(const struct slabd_pool *p)
{
	uint32_t slots = p->base != NULL ? load_relaxed(&p->table.top) : 0;

	for (uint32_t i = 0; i < slots; i++)
		if (ref_version(table_ref(&p->table, i)) != 0)
			annotate_received(table_address(&p->table, i),
			    (size_t)p->table.slot_size);
}

#else

#define mark_allocated(p, slot)	    (slot)
#define mark_received(p, slot, ref) ((void)0)
#define mark_recalled(p, ref)	    ((void)0)
#define mark_leaves(p, at)	    ((void)0)
#define mark_freed(p, at, err)	    (err)
#define mark_sent(p, at, ref, err)  (err)
#define mark_unmapped(p)	    ((void)0)

#endif

#endif
