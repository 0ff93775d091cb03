/*
 * Reading and changing the ledger; ledger.h has the layout and the invariants.
 */
#include "config.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "atomic.h"
#include "lane.h"
#include "ledger.h"
#include "wire.h"

/* Absolute values of one multi-word step. */
struct ledger_redo {
	_Atomic uint64_t armed; /* 1 + slot while the step is under way */
	uint64_t word, share;
	uint64_t row_index, row;
	uint64_t reserved[3];
};

struct ledger_header {
	uint64_t magic;
	uint32_t format;
	uint32_t header_bytes;
	uint64_t bytes;
	uint64_t slot_size;
	uint32_t slots_per_segment, segments_cap;
	uint32_t attachments_max, row_bits;
	uint64_t attachments_at, segments_at, blocks_at, block_bytes;
	uint64_t seed;
	uint64_t pool_id;
	uint64_t instance;
	uint8_t boot_id[16];
	char pool[64];
	uint64_t mirrors_at, mirror_bytes, ring_size;
	uint64_t segments_max;
	uint8_t reserved[296];
	struct ledger_redo redo;
};

_Static_assert(offsetof(struct ledger_header, redo) == 512, "format");
_Static_assert(sizeof(struct ledger_header) <= LEDGER_PAGE, "format");
_Static_assert(sizeof(struct ledger_attachment) == 64, "format");
_Static_assert(sizeof(struct ledger_mirror) == 128, "format");

#define SENDER_SHIFT 8

struct layout {
	uint64_t attachments_at, segments_at, mirrors_at, mirror_bytes;
	uint64_t blocks_at, block_bytes, bytes;
};

static uint64_t
page_up(uint64_t bytes)
{
	return (bytes + LEDGER_PAGE - 1) & ~(uint64_t)(LEDGER_PAGE - 1);
}

static uint32_t
row_words(const struct ledger_geometry *g)
{
	return (g->row_bits + 63) / 64;
}

/* The limits keep every sum and product below far from overflowing. */
static bool
geometry_ok(const struct ledger_geometry *g)
{
	return g->slots_per_segment > 0 && g->segments_cap > 0 &&
	       g->slot_size > 0 &&
	       g->slots_per_segment <= REF_SLOTS_MAX / g->segments_cap &&
	       g->attachments_max > 0 &&
	       g->attachments_max <= LEDGER_HOLDERS_MAX &&
	       g->row_bits <= g->attachments_max && g->ring_size % 64 == 0 &&
	       g->ring_size <= LANE_RING_MAX;
}

static uint64_t
mirror_size(const struct ledger_geometry *g)
{
	return page_up(sizeof(struct ledger_mirror) +
		       g->ring_size * UINT64_C(8) + g->ring_size / 8 +
		       WIRE_BATCH_MAX * UINT64_C(8));
}

static int
lay_out(struct layout *l, const struct ledger_geometry *g)
{
	uint64_t slot_bytes = 8 + 8 + 8 * (uint64_t)row_words(g) + 4;

	if (!geometry_ok(g))
		return -EINVAL;
	l->attachments_at = LEDGER_PAGE;
	l->segments_at =
	    l->attachments_at +
	    page_up(g->attachments_max * sizeof(struct ledger_attachment));
	l->mirrors_at = l->segments_at + page_up(g->segments_cap * UINT64_C(8));
	l->mirror_bytes = mirror_size(g);
	l->blocks_at = l->mirrors_at + l->mirror_bytes * g->row_bits;
	l->block_bytes = page_up(g->slots_per_segment * slot_bytes);
	l->bytes = l->blocks_at + l->block_bytes * g->segments_cap;
	return 0;
}

uint64_t
ledger_bytes(const struct ledger_geometry *g)
{
	struct layout l;

	return lay_out(&l, g) == 0 ? l.bytes : 0;
}

uint64_t
ledger_head_bytes(const struct ledger_geometry *g, uint32_t segments)
{
	struct layout l;

	if (lay_out(&l, g) != 0 || segments > g->segments_cap)
		return 0;
	return page_up(l.segments_at + segments * UINT64_C(8));
}

uint64_t
ledger_block_at(const struct ledger *l, uint32_t segment)
{
	return l->header->blocks_at + segment * l->block_bytes;
}

uint64_t
ledger_mirror_at(const struct ledger *l, unsigned holder)
{
	return l->header->mirrors_at + (holder - 1) * l->mirror_bytes;
}

struct ledger_mirror *
ledger_mirror(const struct ledger *l, unsigned holder)
{
	assert(holder > 0 && holder <= l->geometry.row_bits);
	return (struct ledger_mirror *)(void *)(l->mirrors +
						(holder - 1) * l->mirror_bytes);
}

uint64_t *
ledger_mirror_done(const struct ledger *l, struct ledger_mirror *m)
{
	return m->words + l->geometry.ring_size;
}

uint64_t *
ledger_mirror_batch(const struct ledger *l, struct ledger_mirror *m)
{
	return m->words + l->geometry.ring_size + l->geometry.ring_size / 64;
}

static void
attach(struct ledger *l, void *mem, const struct ledger_geometry *g,
    const struct layout *at)
{
	l->header = mem;
	l->attachments = (void *)((uint8_t *)mem + at->attachments_at);
	l->blocks = (uint8_t *)mem + at->blocks_at;
	l->block_bytes = at->block_bytes;
	l->mirrors = (uint8_t *)mem + at->mirrors_at;
	l->mirror_bytes = at->mirror_bytes;
	l->bytes = at->bytes;
	l->geometry = *g;
	l->rows = row_words(g);
	l->inverse = (UINT64_C(1) << 40) / g->slots_per_segment + 1;
	l->seed = l->header->seed;
}

int
ledger_format(struct ledger *l, void *mem, uint64_t bytes,
    const struct ledger_geometry *g, const struct ledger_identity *id,
    uint64_t seed)
{
	struct ledger_header *h = mem;
	struct layout at;

	if (lay_out(&at, g) != 0 || bytes < at.bytes)
		return -EINVAL;
	h->format = LEDGER_FORMAT;
	h->header_bytes = sizeof(*h);
	h->bytes = at.bytes;
	h->slot_size = g->slot_size;
	h->slots_per_segment = g->slots_per_segment;
	h->segments_cap = g->segments_cap;
	h->attachments_max = g->attachments_max;
	h->row_bits = g->row_bits;
	h->attachments_at = at.attachments_at;
	h->segments_at = at.segments_at;
	h->blocks_at = at.blocks_at;
	h->block_bytes = at.block_bytes;
	h->mirrors_at = at.mirrors_at;
	h->mirror_bytes = at.mirror_bytes;
	h->ring_size = g->ring_size;
	h->seed = seed & REF_VERSION_MASK;
	h->pool_id = id->pool_id;
	h->instance = id->instance;
	memcpy(h->boot_id, id->boot_id, sizeof(h->boot_id));
	memcpy(h->pool, id->pool, sizeof(h->pool));
	/* The magic comes last: what has none was never finished. */
	compiler_barrier();
	h->magic = LEDGER_MAGIC;
	attach(l, mem, g, &at);
	return 0;
}

static uint8_t *
block_of(const struct ledger *l, uint32_t slot, uint32_t *index)
{
	uint32_t segment = ledger_segment_of(l, slot);

	*index = slot - segment * l->geometry.slots_per_segment;
	return l->blocks + segment * l->block_bytes;
}

static _Atomic uint64_t *
word_at(const struct ledger *l, uint32_t slot)
{
	uint32_t i;
	uint8_t *block = block_of(l, slot, &i);

	return (_Atomic uint64_t *)(void *)block + i;
}

static uint64_t *
share_at(const struct ledger *l, uint32_t slot)
{
	uint32_t i;
	uint8_t *block = block_of(l, slot, &i);

	return (uint64_t *)(void *)block + l->geometry.slots_per_segment + i;
}

static uint64_t *
row_at(const struct ledger *l, uint32_t slot)
{
	uint32_t i;
	uint8_t *block = block_of(l, slot, &i);

	return (uint64_t *)(void *)block +
	       2 * (size_t)l->geometry.slots_per_segment + (size_t)i * l->rows;
}

static uint32_t *
since_at(const struct ledger *l, uint32_t slot)
{
	uint32_t i;
	uint8_t *block = block_of(l, slot, &i);

	return (uint32_t *)(void *)(block + (2 + (size_t)l->rows) * 8 *
						l->geometry.slots_per_segment) +
	       i;
}

static void
redo_apply(struct ledger *l, uint32_t slot)
{
	const struct ledger_redo *r = &l->header->redo;

	if (r->row_index < l->rows)
		row_at(l, slot)[r->row_index] = r->row;
	*share_at(l, slot) = r->share;
	/* Read by observers only, who take each word by itself. */
	store_relaxed(word_at(l, slot), r->word);
}

/* A killed step is repeated whole: its values are absolute. */
static int
redo_recover(struct ledger *l)
{
	struct ledger_redo *r = &l->header->redo;
	uint64_t armed = load_relaxed(&r->armed);

	if (armed == 0)
		return 0;
	if (armed - 1 >=
	    (uint64_t)l->geometry.slots_per_segment * l->geometry.segments_cap)
		return -EUCLEAN;
	redo_apply(l, (uint32_t)(armed - 1));
	compiler_barrier();
	store_relaxed(&r->armed, 0);
	return 0;
}

int
ledger_open(
    struct ledger *l, void *mem, uint64_t bytes, struct ledger_identity *id)
{
	const struct ledger_header *h = mem;
	struct ledger_geometry g;
	struct layout at;

	if (bytes < LEDGER_PAGE || h->magic != LEDGER_MAGIC ||
	    h->format != LEDGER_FORMAT || h->header_bytes != sizeof(*h))
		return -EUCLEAN;
	g = (struct ledger_geometry){h->slot_size, h->slots_per_segment,
	    h->segments_cap, h->attachments_max, h->row_bits,
	    (uint32_t)h->ring_size};
	if (lay_out(&at, &g) != 0 || bytes < at.bytes || h->bytes != at.bytes ||
	    h->attachments_at != at.attachments_at ||
	    h->segments_at != at.segments_at || h->blocks_at != at.blocks_at ||
	    h->block_bytes != at.block_bytes ||
	    h->mirrors_at != at.mirrors_at ||
	    h->mirror_bytes != at.mirror_bytes || h->ring_size != g.ring_size)
		return -EUCLEAN;
	attach(l, mem, &g, &at);
	memcpy(id->pool, h->pool, sizeof(id->pool));
	id->pool[sizeof(id->pool) - 1] = '\0';
	id->pool_id = h->pool_id;
	id->instance = h->instance;
	memcpy(id->boot_id, h->boot_id, sizeof(id->boot_id));
	return redo_recover(l);
}

uint32_t
ledger_segments_max(const struct ledger *l)
{
	return (uint32_t)l->header->segments_max;
}

void
ledger_segments_max_set(struct ledger *l, uint32_t segments)
{
	l->header->segments_max = segments;
}

static _Atomic uint64_t *
segment_at(const struct ledger *l, uint32_t segment)
{
	return (_Atomic uint64_t *)(void *)((uint8_t *)l->header +
					    l->header->segments_at) +
	       segment;
}

enum ledger_segment
ledger_segment(const struct ledger *l, uint32_t segment)
{
	return (enum ledger_segment)load_relaxed(segment_at(l, segment));
}

void
ledger_segment_set(struct ledger *l, uint32_t segment, enum ledger_segment s)
{
	store_relaxed(segment_at(l, segment), (uint64_t)s);
}

struct ledger_word
ledger_word(const struct ledger *l, uint32_t slot)
{
	/* Relaxed: the writer is this thread, or an observer wants a glance. */
	uint64_t w = load_relaxed(word_at(l, slot));
	struct ledger_word word = ledger_unpack(w);

	word.version = ledger_version(l, w);
	return word;
}

_Atomic uint64_t *
ledger_words(const struct ledger *l, uint32_t segment)
{
	return word_at(l, segment * l->geometry.slots_per_segment);
}

uint32_t *
ledger_sinces(const struct ledger *l, uint32_t segment)
{
	return since_at(l, segment * l->geometry.slots_per_segment);
}

struct ledger_share
ledger_share_of(const struct ledger *l, uint32_t slot)
{
	uint64_t s = *share_at(l, slot);

	return (struct ledger_share){s & 0xff, s >> SENDER_SHIFT & 0xffff};
}

const uint64_t *
ledger_row(const struct ledger *l, uint32_t slot)
{
	return row_at(l, slot);
}

bool
ledger_holds(const struct ledger *l, uint32_t slot, unsigned holder)
{
	struct ledger_word w = ledger_word(l, slot);

	if (w.state == LEDGER_HELD)
		return w.holder == holder;
	return w.state == LEDGER_SHARED && holder <= l->geometry.row_bits &&
	       (row_at(l, slot)[(holder - 1) / 64] >> (holder - 1) % 64 & 1);
}

unsigned
ledger_holders(const struct ledger *l, uint32_t slot)
{
	const uint64_t *row = row_at(l, slot);
	unsigned n = 0;

	for (uint32_t i = 0; i < l->rows; i++)
		n += (unsigned)__builtin_popcountll(row[i]);
	return n;
}

uint32_t
ledger_since(const struct ledger *l, uint32_t slot)
{
	return *since_at(l, slot);
}

uint64_t
ledger_ref(const struct ledger *l, uint32_t slot)
{
	struct ledger_word w = ledger_word(l, slot);

	return ref_make(slot, w.state == LEDGER_SHARED, w.version);
}

/* All of a slot that one holder can change, but for its word. */
static uint64_t
share_of_holder(const struct ledger *l, uint32_t slot, unsigned holder)
{
	return *share_at(l, slot) | (uint64_t)ledger_holds(l, slot, holder)
					<< 63;
}

void
ledger_intend(const struct ledger *l, struct ledger_intent *i, uint64_t key,
    uint64_t ref, unsigned holder)
{
	i->ref = ref;
	/* Relaxed: only this thread writes it. */
	i->word = load_relaxed(word_at(l, ref_slot(ref)));
	i->share = share_of_holder(l, ref_slot(ref), holder);
	compiler_barrier();
	i->key = key;
	compiler_barrier();
}

bool
ledger_intent_met(
    const struct ledger *l, const struct ledger_intent *i, unsigned holder)
{
	uint32_t slot = ref_slot(i->ref);

	return load_relaxed(word_at(l, slot)) != i->word ||
	       share_of_holder(l, slot, holder) != i->share;
}

static void
set_word(struct ledger *l, uint32_t slot, enum ledger_state state,
    unsigned holder, uint64_t version, uint32_t now)
{
	*since_at(l, slot) = now;
	/* One store is the transition; partners are observers' glances. */
	store_relaxed(word_at(l, slot), ledger_pack(state, holder, version));
}

/*
 * Change share word and one holder's bit together with the word: the slot
 * stays shared while a receipt is open or a holder is left, else it is free.
 */
static void
set_share(struct ledger *l, uint32_t slot, uint64_t version,
    struct ledger_share share, unsigned holder, bool holds, uint32_t now)
{
	struct ledger_redo *r = &l->header->redo;
	uint64_t bit = holder == 0 ? 0 : UINT64_C(1) << (holder - 1) % 64;
	uint64_t index = holder == 0 ? l->rows : (holder - 1) / 64;
	uint64_t old = holder == 0 ? 0 : row_at(l, slot)[index];
	bool was = (old & bit) != 0;
	unsigned left = ledger_holders(l, slot) - was + (holds && bit != 0);

	if (left == 0 && share.open == 0) {
		r->word = ledger_pack(LEDGER_FREE, 0, version);
		r->share = 0;
	} else {
		r->word = ledger_pack(LEDGER_SHARED, 0, version);
		r->share = share.open | (uint64_t)share.sender << SENDER_SHIFT;
	}
	r->row_index = index;
	r->row = holds ? old | bit : old & ~bit;
	*since_at(l, slot) = now;
	compiler_barrier();
	store_relaxed(&r->armed, 1 + (uint64_t)slot);
	compiler_barrier();
	redo_apply(l, slot);
	compiler_barrier();
	store_relaxed(&r->armed, 0);
}

uint64_t
ledger_grant(struct ledger *l, uint32_t slot, unsigned holder, uint32_t now)
{
	struct ledger_word w = ledger_word(l, slot);
	uint64_t version = ref_version_next(w.version);

	assert(w.state == LEDGER_FREE && holder > 0);
	set_word(l, slot, LEDGER_HELD, holder, version, now);
	return ref_make(slot, false, version);
}

/* 0 when the holder has the slot exclusively under just this ref. */
static int
expect_held(const struct ledger_word *w, uint64_t ref, unsigned holder)
{
	if (w->state == LEDGER_FREE)
		return -EALREADY;
	if (w->version != ref_version(ref) ||
	    ref_shared(ref) != (w->state == LEDGER_SHARED))
		return -EPERM;
	if (w->state == LEDGER_SHARED)
		return -EBUSY;
	return w->state == LEDGER_HELD && w->holder == holder ? 0 : -EPERM;
}

int
ledger_free(struct ledger *l, uint64_t ref, unsigned holder, uint32_t now)
{
	uint32_t slot = ref_slot(ref);
	struct ledger_word w = ledger_word(l, slot);
	int err = expect_held(&w, ref, holder);

	if (err == -EBUSY) {
		if (!ledger_holds(l, slot, holder))
			return -EPERM;
		set_share(l, slot, w.version, ledger_share_of(l, slot), holder,
		    false, now);
		return 0;
	}
	if (err == 0)
		set_word(l, slot, LEDGER_FREE, 0, w.version, now);
	return err;
}

int
ledger_send(struct ledger *l, uint64_t ref, unsigned holder, uint32_t now,
    uint64_t *out)
{
	uint32_t slot = ref_slot(ref);
	struct ledger_word w = ledger_word(l, slot);
	uint64_t version = ref_version_next(w.version);
	int err = expect_held(&w, ref, holder);

	if (err != 0)
		return err;
	set_word(l, slot, LEDGER_IN_FLIGHT, holder, version, now);
	*out = ref_make(slot, false, version);
	return 0;
}

int
ledger_share(struct ledger *l, uint64_t ref, unsigned holder,
    unsigned receivers, uint32_t now, uint64_t *out)
{
	uint32_t slot = ref_slot(ref);
	struct ledger_word w = ledger_word(l, slot);
	uint64_t version = ref_version_next(w.version);
	int err = expect_held(&w, ref, holder);

	if (err != 0)
		return err;
	set_share(l, slot, version,
	    (struct ledger_share){.open = receivers, .sender = holder}, holder,
	    true, now);
	*out = ref_make(slot, true, version);
	return 0;
}

int
ledger_receive(struct ledger *l, uint64_t ref, unsigned holder, uint32_t now)
{
	uint32_t slot = ref_slot(ref);
	struct ledger_word w = ledger_word(l, slot);
	struct ledger_share share;

	if (w.version != ref_version(ref))
		return -ESTALE;
	if (w.state == LEDGER_IN_FLIGHT && !ref_shared(ref)) {
		set_word(l, slot, LEDGER_HELD, holder, w.version, now);
		return 0;
	}
	if (w.state != LEDGER_SHARED || !ref_shared(ref))
		return -ESTALE;
	share = ledger_share_of(l, slot);
	if (share.open == 0)
		return -ESTALE;
	share.open--;
	set_share(l, slot, w.version, share, holder, true, now);
	return 0;
}

int
ledger_recall(struct ledger *l, uint64_t ref, unsigned sender, unsigned most,
    uint32_t now)
{
	uint32_t slot = ref_slot(ref);
	struct ledger_word w = ledger_word(l, slot);
	struct ledger_share share;
	unsigned n;

	if (w.version != ref_version(ref) || w.state == LEDGER_FREE)
		return -ESTALE;
	if (w.state == LEDGER_IN_FLIGHT && !ref_shared(ref)) {
		if (w.holder != sender)
			return -EPERM;
		set_word(l, slot, LEDGER_HELD, sender, w.version, now);
		return 1;
	}
	if (w.state != LEDGER_SHARED || !ref_shared(ref))
		return 0; /* received already */
	share = ledger_share_of(l, slot);
	if (share.sender != sender)
		return -EPERM;
	n = most == 0 || most > share.open ? share.open : most;
	share.open -= n;
	if (n > 0)
		set_share(l, slot, w.version, share, 0, false, now);
	return (int)n;
}

void
ledger_reclaim(struct ledger *l, uint32_t slot, unsigned holder, uint32_t now)
{
	struct ledger_word w = ledger_word(l, slot);

	if (!ledger_holds(l, slot, holder))
		return;
	if (w.state == LEDGER_HELD)
		set_word(l, slot, LEDGER_FREE, 0, w.version, now);
	else
		set_share(l, slot, w.version, ledger_share_of(l, slot), holder,
		    false, now);
}

void
ledger_orphan(struct ledger *l, uint32_t slot, unsigned sender,
    unsigned orphans, uint32_t now)
{
	struct ledger_word w = ledger_word(l, slot);
	struct ledger_share share;

	if (w.state == LEDGER_IN_FLIGHT && w.holder == sender)
		set_word(l, slot, LEDGER_IN_FLIGHT, orphans, w.version, now);
	if (w.state != LEDGER_SHARED)
		return;
	share = ledger_share_of(l, slot);
	if (share.sender != sender)
		return;
	/* With nothing open there is nothing left to inherit. */
	share.sender = share.open > 0 ? orphans : 0;
	set_share(l, slot, w.version, share, 0, false, now);
}

void
ledger_expire(struct ledger *l, uint32_t slot, uint32_t now)
{
	struct ledger_word w = ledger_word(l, slot);
	struct ledger_share share = {0, 0};

	/* A higher version: the old ref must not match a later state. */
	if (w.state == LEDGER_IN_FLIGHT)
		set_word(
		    l, slot, LEDGER_FREE, 0, ref_version_next(w.version), now);
	else if (w.state == LEDGER_SHARED)
		set_share(l, slot, w.version, share, 0, false, now);
}

static bool
row_is_empty(const struct ledger *l, uint32_t slot)
{
	const uint64_t *row = row_at(l, slot);
	uint64_t all = 0;

	for (uint32_t i = 0; i < l->rows; i++)
		all |= row[i];
	return all == 0;
}

bool
ledger_check(const struct ledger *l, uint32_t slot)
{
	struct ledger_word w = ledger_word(l, slot);
	struct ledger_share s = ledger_share_of(l, slot);
	bool empty = row_is_empty(l, slot);

	switch (w.state) {
	case LEDGER_FREE:
		return w.holder == 0 && s.open == 0 && s.sender == 0 && empty;
	case LEDGER_HELD:
	case LEDGER_IN_FLIGHT:
		return w.holder > 0 &&
		       w.holder <= l->geometry.attachments_max && s.open == 0 &&
		       s.sender == 0 && empty;
	case LEDGER_SHARED:
		return w.holder == 0 && (s.open > 0 || !empty) &&
		       (s.open == 0 || s.sender > 0);
	}
	return false;
}
