/*
 * A lane: what one attachment and the daemon share, so that the usual
 * operations need no message. One shared-memory object of the daemon's for each
 * attachment, mapped by that client and the daemon alone.
 *
 * Slots to use run from the daemon to the client in the grant ring, what became
 * of them runs back in the return ring; above the grant ring the threads of the
 * client keep a few slots at hand in magazines, which lie here too, so that the
 * daemon can take them back from a client that sleeps. ring.h and magazine.h
 * say how both sides move; this file says where everything is and what a
 * record means.
 *
 * The layout, all offsets from the start of the object, all fields of the
 * host's byte order; each line of 64 bytes is written by one side only, unless
 * it says so:
 *
 *	0	u64 magic, u32 format, u32 bytes of this header, u64 bytes of
 *		the object, u64 identity of the pool, u32 holder, u32 0
 *	64	the geometry: u32 grants_at, grants, records_at, records,
 *		magazines_at, magazines, magazine_room, 0
 *	128	u64 notice		daemon: LANE_HUNGRY and a counter
 *		u32 eager		daemon: ring at every record
 *		u32 claims		daemon: slots whose claims are there
 *	192	u64 grant_tail		daemon
 *	256	u64 record_head		daemon
 *	320	u32 sleeping		both: the daemon sets, who rings clears
 *		u32 watermark, low, batch, magazine_limit	daemon
 *	384	u64 grant_head		both, by compare-and-swap
 *	448	u64 record_tail		client
 *	512	u64 revoked, refused_tail	daemon
 *	576	u64 allocs, frees	client: operations past all magazines
 *		u32 magazines_used	client: none beyond has ever been used
 *		u32 goodbye		client: 1, it has done with the pool
 *	640	u64 refused[64]		daemon: refs, the last ones refused
 *	1152	u64 refused_at[64]	daemon: the indices of their records
 *	grants_at	`grants` times u64, refs
 *	records_at	`records` times u64, records
 *	magazines_at	`magazines` times a line (u32 busy, u32 count,
 *			u64 seen, allocs, frees) and `magazine_room` u64, refs
 *
 * Indices of rings rise for ever; their place is the index modulo the size, a
 * power of two.
 *
 * A record is one u64:
 *
 *	bits 36-63 version, the low 28 bits | 28-35 count | 25-27 operation |
 *	24 kind | 0-23 slot
 *
 * with slot and kind as in a ref (wire.h). A record waits for the records of
 * the same slot before it, so its version is near the slot's, and 28 bits tell
 * which of the two is ahead.
 */
#ifndef SLABD_LANE_H
#define SLABD_LANE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "wire.h"

#define LANE_MAGIC     UINT64_C(0x454e414c42414c53) /* "SLABLANE" */
#define LANE_FORMAT    3u
#define LANE_PAGE      4096u
#define LANE_RING_MIN  64u
#define LANE_RING_MAX  8192u
#define LANE_MAGAZINES 32u  /* threads that have one */
#define LANE_MAGAZINE  128u /* slots in it */
#define LANE_REFUSED   64u

/* In `notice`; the rest counts, so that it never is the same again. */
#define LANE_HUNGRY 0x1u /* somebody waits for slots: nothing is kept back */
#define LANE_NOTICE 0x2u /* one notice */

/* What a record says; 0, 6 and 7 are nothing. */
enum lane_operation {
	LANE_FREE = 1, /* a slot held, exclusive or shared */
	LANE_SEND,     /* a slot held, at the version it was held by */
	LANE_SHARE,    /* the same; count: receivers */
	LANE_RECEIVE,  /* the ref received */
	LANE_RECALL,   /* the ref; count: receipts taken back */
};

#define RECORD_OPERATION_SHIFT 25
#define RECORD_COUNT_SHIFT     28
#define RECORD_VERSION_SHIFT   36
#define RECORD_VERSION_BITS    28
#define RECORD_PLACE_MASK      ((UINT64_C(1) << RECORD_OPERATION_SHIFT) - 1)

static inline uint64_t
record_make(enum lane_operation operation, uint64_t ref, unsigned count)
{
	return (ref & RECORD_PLACE_MASK) |
	       (uint64_t)operation << RECORD_OPERATION_SHIFT |
	       (uint64_t)count << RECORD_COUNT_SHIFT |
	       ref_version(ref) << RECORD_VERSION_SHIFT;
}

static inline unsigned
record_operation(uint64_t record)
{
	return record >> RECORD_OPERATION_SHIFT & 7;
}

static inline unsigned
record_count(uint64_t record)
{
	return record >> RECORD_COUNT_SHIFT & 0xff;
}

/*
 * How far the record is ahead of a slot's version: negative behind it, 0 at it.
 */
static inline int32_t
record_ahead(uint64_t record, uint64_t version)
{
	uint32_t is = (uint32_t)(record >> RECORD_VERSION_SHIFT);
	unsigned unused = 32 - RECORD_VERSION_BITS;

	return (int32_t)((is - (uint32_t)version) << unused) >> unused;
}

/* The ref of a record that is at its slot's version. */
static inline uint64_t
record_ref(uint64_t record, uint64_t version)
{
	return ref_make(ref_slot(record), ref_shared(record), version);
}

/* One thread's stock; magazine.h has its rules. */
struct lane_magazine {
	_Atomic uint32_t busy;	/* its thread is in the middle of something */
	_Atomic uint32_t count; /* refs[0..count-1] */
	_Atomic uint64_t seen;	/* the notice its content agrees with */
	_Atomic uint64_t allocs, frees; /* operations, ever */
	uint64_t reserved[4];
	_Atomic uint64_t refs[]; /* magazine_room */
};

/* Lines apart, so that the two sides disturb each other only on purpose. */
struct lane_header {
	uint64_t magic;
	uint32_t format, header_bytes;
	uint64_t bytes;
	uint64_t pool_id;
	uint32_t holder, zero;
	_Alignas(64) struct lane_geometry {
		uint32_t grants_at, grants, records_at, records;
		uint32_t magazines_at, magazines, magazine_room, zero;
	} geometry;
	_Alignas(64) _Atomic uint64_t notice;
	_Atomic uint32_t eager;
	_Atomic uint32_t claims;
	_Alignas(64) _Atomic uint64_t grant_tail;
	_Alignas(64) _Atomic uint64_t record_head;
	_Alignas(64) _Atomic uint32_t sleeping;
	_Atomic uint32_t watermark, low, batch, magazine_limit;
	_Alignas(64) _Atomic uint64_t grant_head;
	_Alignas(64) _Atomic uint64_t record_tail;
	_Alignas(64) _Atomic uint64_t revoked;
	_Atomic uint64_t refused_tail;
	_Alignas(64) _Atomic uint64_t allocs;
	_Atomic uint64_t frees;
	_Atomic uint32_t magazines_used, goodbye;
	_Alignas(64) _Atomic uint64_t refused[LANE_REFUSED];
	_Alignas(64) _Atomic uint64_t refused_at[LANE_REFUSED];
};

/* A mapped lane. */
struct lane {
	struct lane_header *header;
	_Atomic uint64_t *grants, *records;
	uint8_t *magazines;
	struct lane_geometry geometry; /* checked, and ours */
};

/* The lane of a pool of so many slots; and that whose rings have `size`. */
struct lane_geometry lane_geometry_for(uint32_t slots);
struct lane_geometry lane_geometry_of(uint32_t size);
/* Bytes of the object; 0 when the geometry is impossible. */
uint64_t lane_bytes(const struct lane_geometry *);

/*
 * lane_format() makes a lane of lane_bytes() zeroed bytes at `mem`; lane_open()
 * finds one of this geometry there. -EINVAL: the geometry; -EUCLEAN: it is
 * none.
 */
int lane_format(struct lane *, void *mem, const struct lane_geometry *,
    uint64_t pool_id, uint32_t holder);
int lane_open(
    struct lane *, void *mem, uint64_t bytes, const struct lane_geometry *);

struct lane_magazine *lane_magazine(const struct lane *, uint32_t i);

#endif
