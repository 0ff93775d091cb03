/*
 * The ledger: the daemon's record of every slot of one pool, and the only
 * place where the truth about a slot is written. Free lists, counters and
 * statistics are derived from it.
 *
 * It is a shared-memory object of the daemon's own (mode 0600), so that it
 * outlives the daemon. Only the daemon writes it, with one thread; others may
 * map it read-only. The layout, all offsets from the start of the object:
 *
 *	0		header, one page; the redo record lies inside it
 *	attachments_at	attachments_max times struct ledger_attachment
 *	segments_at	one u64 a segment: enum ledger_segment
 *	mirrors_at	one for each of the first row_bits attachments,
 *			mirror_bytes apart: struct ledger_mirror, what the
 *			daemon alone knows of that attachment
 *	blocks_at	one block a segment, block_bytes apart, for its
 *			slots_per_segment = n slots:
 *			n * u64  word: version 0-38, state 39-41, holder 48-63
 *			n * u64  share: open receipts 0-7, sender 8-23
 *			n * rows * u64  a bit for each attachment that holds
 *				the shared slot (holder h is bit h - 1)
 *			n * u32  since: when it last changed hands, in tenths
 *				of a second of the boot clock
 *
 * A block's memory is allocated with its segment, so that no transition can
 * fail for want of room, and is never given back: versions survive detach.
 * A word of zero is a slot never granted; its version is the header's seed.
 *
 * Invariants, for each slot (ledger_check() looks at them):
 *	FREE		holder 0, share 0, row empty
 *	HELD, IN_FLIGHT	holder > 0, share 0, row empty
 *	SHARED		holder 0, and open > 0 or the row is not empty;
 *			open > 0 implies sender > 0
 *
 * A transition is one atomic store, or, where several words change, a redo
 * record of absolute values: armed, applied, disarmed. A daemon killed in
 * between repeats it at start, which changes nothing that was done already.
 * (Compiler order is enough: a killed process loses no store.)
 *
 * Functions here make no system call and take no lock: one thread only.
 */
#ifndef SLABD_LEDGER_H
#define SLABD_LEDGER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "atomic.h"
#include "wire.h"

#define LEDGER_MAGIC	   UINT64_C(0x5247444c42414c53) /* "SLABLDGR" */
#define LEDGER_FORMAT	   4u
#define LEDGER_PAGE	   4096u
#define LEDGER_HOLDERS_MAX 65535u

enum ledger_state {
	LEDGER_FREE,
	LEDGER_HELD,	  /* by one attachment */
	LEDGER_IN_FLIGHT, /* sent by one attachment, received by none */
	LEDGER_SHARED,	  /* by the attachments of its row */
};

enum ledger_segment {
	LEDGER_ABSENT,
	LEDGER_ATTACHING,
	LEDGER_ATTACHED,
	LEDGER_DETACHING,
};

enum ledger_holder {
	LEDGER_NOBODY,
	LEDGER_LIVE,	    /* an attachment of a connected client */
	LEDGER_QUARANTINED, /* connection gone, process alive */
	LEDGER_ORPHANS,	    /* what ended clients of one uid had sent */
};

/* Who stands behind a holder index: enough for a successor to find them. */
struct ledger_attachment {
	uint32_t state; /* enum ledger_holder */
	uint32_t uid;
	uint32_t pid;
	uint32_t rights;
	uint64_t session, token;
	uint64_t start_time; /* of the process, ticks since boot */
	uint32_t number;     /* the client's name for it; 0: none yet */
	uint32_t tag;	     /* of the ATTACH that asked for it */
	uint32_t segments;   /* it has mapped */
	uint32_t lane;	     /* 1: it was given one */
	uint64_t pids;	     /* the pid namespace in which `pid` is counted */
};

/*
 * What is about to be done to a slot, and how it was before: if that is
 * different at the next start it was done.
 */
struct ledger_intent {
	uint64_t key; /* whose doing it is; 0: nothing is under way */
	uint64_t ref, word;
	uint64_t share; /* the share word; bit 63: the holder has the slot */
};

/* What a ledger is for; fixed for the life of the object. */
struct ledger_geometry {
	uint64_t slot_size;
	uint32_t slots_per_segment;
	uint32_t segments_cap;	  /* room for, not the pool's maximum */
	uint32_t attachments_max; /* holders 1..attachments_max */
	uint32_t row_bits;	  /* of these, the first that may share */
	uint32_t ring_size;	  /* of each ring of a lane */
};

/*
 * What the daemon alone knows of an attachment, and a successor must.
 *
 * Of its lane: the grants are a copy of the grant ring, one place of which
 * always is 0: the next. A grant is: the copy, the slot's word, 0 at the copy's
 * next place, the tail, and then the shared ring; a successor finds a copy at
 * the tail only if the daemon was killed in between, and can tell from the
 * slot's word whether the grant counts. Of the return ring, records below
 * record_head are done, and beyond it those whose bit is set; while the head
 * moves over such bits, `clearing` says from where. A record whose slot may
 * change without its version leaves an intent (key: 1 + its index). What is
 * being seized from a magazine is named in `taking`.
 *
 * Of its messages: a request that hands a slot on leaves an intent (key: its
 * type << 32 | tag), `took`, and then its reply (tag << 32 | status); an ALLOC
 * first writes down what it will grant, so that one whose answer was lost can be
 * answered again.
 */
struct ledger_mirror {
	uint64_t grant_tail, record_head;
	uint64_t clearing; /* 1 + the old head; 0: nothing is cleared */
	uint64_t taking;   /* 1 + magazine * room + place; 0: nothing is */
	uint64_t taking_ref;
	struct ledger_intent record, request;
	uint64_t reply;
	uint64_t took;		   /* out of a claim, for `request` */
	uint32_t batch_tag, batch; /* the last ALLOC, and slots in it */
	uint64_t words[]; /* ring_size grants, ring_size bits, a batch */
};

struct ledger_header;

/* A mapped ledger. */
struct ledger {
	struct ledger_header *header;
	struct ledger_attachment *attachments; /* [holder - 1] */
	uint8_t *blocks;
	uint64_t block_bytes;
	uint8_t *mirrors;
	uint64_t mirror_bytes;
	uint64_t bytes;
	struct ledger_geometry geometry;
	uint32_t rows;	  /* words in a row */
	uint64_t inverse; /* of slots_per_segment, for ledger_segment_of() */
	uint64_t seed;
};

/*
 * The segment of a slot without a division: with d slots a segment, inverse is
 * 2^40 / d rounded up to the next, wrong by e <= d / 2^40. The error of the
 * product, slot * e, stays below 1 / d, since slot < 2^24 and d < 2^16, so the
 * whole part is right (Granlund and Montgomery, "Division by Invariant Integers
 * using Multiplication", 1994).
 */
static inline uint32_t
ledger_segment_of(const struct ledger *l, uint32_t slot)
{
	return (uint32_t)(slot * l->inverse >> 40);
}

/* A slot's word, taken apart. */
struct ledger_word {
	enum ledger_state state;
	unsigned holder;
	uint64_t version;
};

#define LEDGER_STATE_SHIFT  39
#define LEDGER_HOLDER_SHIFT 48

static inline uint64_t
ledger_pack(enum ledger_state state, unsigned holder, uint64_t version)
{
	return version | (uint64_t)state << LEDGER_STATE_SHIFT |
	       (uint64_t)holder << LEDGER_HOLDER_SHIFT;
}

/* Whether a word names this state and holder, at whatever version. */
static inline bool
ledger_is(uint64_t word, enum ledger_state state, unsigned holder)
{
	return (word ^ ledger_pack(state, holder, 0)) >> LEDGER_STATE_SHIFT ==
	       0;
}

/* A word of zero has the seed for its version. */
static inline uint64_t
ledger_version(const struct ledger *l, uint64_t word)
{
	return word == 0 ? l->seed : word & REF_VERSION_MASK;
}

static inline struct ledger_word
ledger_unpack(uint64_t word)
{
	return (struct ledger_word){
	    (enum ledger_state)(word >> LEDGER_STATE_SHIFT & 7),
	    (unsigned)(word >> LEDGER_HOLDER_SHIFT), word & REF_VERSION_MASK};
}

struct ledger_share {
	unsigned open;	 /* receipts nobody has taken yet */
	unsigned sender; /* whoever may recall them */
};

/* Bytes of the object; 0 when the geometry is impossible. */
uint64_t ledger_bytes(const struct ledger_geometry *);
/* What must be allocated, from offset 0, before the first `segments` are used;
 * the blocks of the segments themselves apart. */
uint64_t ledger_head_bytes(const struct ledger_geometry *, uint32_t segments);
/* The range that segment `segment` needs, block_bytes long. */
uint64_t ledger_block_at(const struct ledger *, uint32_t segment);
/* The range that the lane of `holder` needs, mirror_bytes long. */
uint64_t ledger_mirror_at(const struct ledger *, unsigned holder);
/* The mirror itself, for holders up to row_bits. */
struct ledger_mirror *ledger_mirror(const struct ledger *, unsigned holder);
/* Its bits, and the refs of its batch: WIRE_BATCH_MAX places. */
uint64_t *ledger_mirror_done(const struct ledger *, struct ledger_mirror *);
uint64_t *ledger_mirror_batch(const struct ledger *, struct ledger_mirror *);

/* `holder` is about to change the slot of `ref`, in an attached segment. */
void ledger_intend(const struct ledger *, struct ledger_intent *, uint64_t key,
    uint64_t ref, unsigned holder);
/* Whether it has changed since; its segment is attached. */
bool ledger_intent_met(
    const struct ledger *, const struct ledger_intent *, unsigned holder);
/* Nothing is under way any more. */
static inline void
ledger_intent_end(struct ledger_intent *i)
{
	compiler_barrier();
	i->key = 0;
}

/* Identity written by the creator and compared by a successor. */
struct ledger_identity {
	char pool[64];
	uint64_t pool_id;
	uint64_t instance;
	uint8_t boot_id[16];
};

/*
 * ledger_format() makes a ledger of `bytes` zeroed bytes at `mem`;
 * ledger_open() finds one there again, finishes what its writer was killed
 * in, and fills geometry and identity. Errors: -EINVAL, or -EUCLEAN when it is
 * not a ledger of this format or contradicts its own size.
 */
int ledger_format(struct ledger *, void *mem, uint64_t bytes,
    const struct ledger_geometry *, const struct ledger_identity *,
    uint64_t seed);
int ledger_open(
    struct ledger *, void *mem, uint64_t bytes, struct ledger_identity *);

/* How many segments the pool may have; kept for a successor. */
uint32_t ledger_segments_max(const struct ledger *);
void ledger_segments_max_set(struct ledger *, uint32_t segments);
enum ledger_segment ledger_segment(const struct ledger *, uint32_t segment);
void ledger_segment_set(struct ledger *, uint32_t segment, enum ledger_segment);

struct ledger_word ledger_word(const struct ledger *, uint32_t slot);
/* Where an attached segment's words and times are, for who changes many. */
_Atomic uint64_t *ledger_words(const struct ledger *, uint32_t segment);
uint32_t *ledger_sinces(const struct ledger *, uint32_t segment);
struct ledger_share ledger_share_of(const struct ledger *, uint32_t slot);
bool ledger_holds(const struct ledger *, uint32_t slot, unsigned holder);
/* Attachments whose bit is set in the slot's row. */
unsigned ledger_holders(const struct ledger *, uint32_t slot);
/* The row itself: `rows` words. */
const uint64_t *ledger_row(const struct ledger *, uint32_t slot);
uint32_t ledger_since(const struct ledger *, uint32_t slot);
/* The ref that names the slot as it is now. */
uint64_t ledger_ref(const struct ledger *, uint32_t slot);

/*
 * The transitions, and the ref that ledger_grant() would give. Slots in refs
 * must lie in attached segments (the caller has checked); `now` is what
 * ledger_since() will say. All return 0 or a count, or change nothing and return
 *	-EALREADY	the slot is free
 *	-EPERM		this holder does not have it at this version
 *	-EBUSY		it is shared
 *	-ESTALE		no receipt is open at this version
 */
uint64_t ledger_grant(
    struct ledger *, uint32_t slot, unsigned holder, uint32_t now);
int ledger_free(struct ledger *, uint64_t ref, unsigned holder, uint32_t now);
int ledger_send(struct ledger *, uint64_t ref, unsigned holder, uint32_t now,
    uint64_t *out);
int ledger_share(struct ledger *, uint64_t ref, unsigned holder,
    unsigned receivers, uint32_t now, uint64_t *out);
int ledger_receive(
    struct ledger *, uint64_t ref, unsigned holder, uint32_t now);
int ledger_recall(struct ledger *, uint64_t ref, unsigned sender, unsigned most,
    uint32_t now);

/*
 * What the daemon does on its own account: end whatever hold `holder` has on
 * the slot; make what `sender` sent an orphan of `orphans`; close what is in
 * flight, so that its ref is stale.
 */
void ledger_reclaim(
    struct ledger *, uint32_t slot, unsigned holder, uint32_t now);
void ledger_orphan(struct ledger *, uint32_t slot, unsigned sender,
    unsigned orphans, uint32_t now);
void ledger_expire(struct ledger *, uint32_t slot, uint32_t now);

/* True when the slot's words fulfil the invariants above. */
bool ledger_check(const struct ledger *, uint32_t slot);

#endif
