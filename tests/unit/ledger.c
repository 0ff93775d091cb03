/*
 * The ledger against a model that is too simple to be wrong, its redo record
 * against every moment a writer can be killed at, its header against damage.
 */
#include "config.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "../core/random.h"
#include "lane.h"
#include "ledger.h"
#include "wire.h"

#define SLOTS	 5u /* in a segment */
#define SEGMENTS 3u
#define HOLDERS	 70u /* of these, */
#define ROW_BITS 66u /* may share: two words, the second hardly used */

/* Where the header has its redo record, as ledger.c lays it out. */
#define REDO_AT 512u
struct redo {
	uint64_t armed, word, share, row_index, row;
};

static const struct ledger_geometry geometry = {.slot_size = 64,
    .slots_per_segment = SLOTS,
    .segments_cap = SEGMENTS,
    .attachments_max = HOLDERS,
    .row_bits = ROW_BITS};
static const struct ledger_identity identity = {.pool = "frames",
    .pool_id = 0x123456789abcdef0,
    .instance = 77,
    .boot_id = "0123456789abcde"};

static struct ledger ledger;
static uint8_t *memory, *before;
static uint64_t bytes;

/* Versions begin just below the end, so that they go round. */
static void
start(void)
{
	bytes = ledger_bytes(&geometry);
	cr_assert_gt(bytes, 0);
	memory = aligned_alloc(LEDGER_PAGE, bytes);
	before = malloc(bytes);
	memset(memory, 0, bytes);
	cr_assert_eq(ledger_format(&ledger, memory, bytes, &geometry, &identity,
			 REF_VERSION_MASK - 2),
	    0);
}

static void
stop(void)
{
	free(memory);
	free(before);
}

TestSuite(ledger, .timeout = 300, .init = start, .fini = stop);

/* What a slot should be. */
struct model {
	enum ledger_state state;
	unsigned holder, open, sender;
	uint64_t version;
	bool row[HOLDERS + 1];
	uint32_t since;
};

static struct model models[SLOTS * SEGMENTS];

static unsigned
model_holders(const struct model *m)
{
	unsigned n = 0;

	for (unsigned h = 1; h <= ROW_BITS; h++)
		n += m->row[h];
	return n;
}

/* A shared slot that nobody has or may have is free. */
static void
model_settle(struct model *m)
{
	if (m->open > 0 || model_holders(m) > 0)
		return;
	m->state = LEDGER_FREE;
	m->sender = 0;
}

static bool
model_holds(const struct model *m, unsigned holder)
{
	return m->state == LEDGER_HELD
		   ? m->holder == holder
		   : m->state == LEDGER_SHARED && m->row[holder];
}

static bool
model_matches(const struct model *m, uint64_t ref)
{
	return m->version == ref_version(ref) &&
	       ref_shared(ref) == (m->state == LEDGER_SHARED);
}

static void
model_next(struct model *m)
{
	m->version = m->version == REF_VERSION_MASK ? 1 : m->version + 1;
}

static int
model_free(struct model *m, uint64_t ref, unsigned holder)
{
	if (m->state == LEDGER_FREE)
		return -EALREADY;
	if (!model_matches(m, ref) || !model_holds(m, holder))
		return -EPERM;
	if (m->state == LEDGER_HELD) {
		m->state = LEDGER_FREE;
		m->holder = 0;
		return 0;
	}
	m->row[holder] = false;
	model_settle(m);
	return 0;
}

/* Send and share begin alike. */
static int
model_leave(struct model *m, uint64_t ref, unsigned holder)
{
	if (m->state == LEDGER_FREE)
		return -EALREADY;
	if (!model_matches(m, ref))
		return -EPERM;
	if (m->state == LEDGER_SHARED)
		return -EBUSY;
	return model_holds(m, holder) ? 0 : -EPERM;
}

static int
model_receive(struct model *m, uint64_t ref, unsigned holder)
{
	if (!model_matches(m, ref))
		return -ESTALE;
	if (m->state == LEDGER_IN_FLIGHT) {
		m->state = LEDGER_HELD;
		m->holder = holder;
		return 0;
	}
	if (m->state != LEDGER_SHARED || m->open == 0)
		return -ESTALE;
	m->open--;
	m->row[holder] = true;
	return 0;
}

static int
model_recall(struct model *m, uint64_t ref, unsigned sender, unsigned most)
{
	unsigned n;

	if (m->version != ref_version(ref) || m->state == LEDGER_FREE)
		return -ESTALE;
	if (!model_matches(m, ref) || m->state == LEDGER_HELD)
		return 0;
	if (m->state == LEDGER_IN_FLIGHT) {
		if (m->holder != sender)
			return -EPERM;
		m->state = LEDGER_HELD;
		return 1;
	}
	if (m->sender != sender)
		return -EPERM;
	n = most == 0 || most > m->open ? m->open : most;
	m->open -= n;
	model_settle(m);
	return (int)n;
}

static void
compare(uint32_t slot)
{
	const struct model *m = &models[slot];
	struct ledger_word w = ledger_word(&ledger, slot);
	struct ledger_share s = ledger_share_of(&ledger, slot);

	cr_assert(ledger_check(&ledger, slot), "slot %u", slot);
	cr_assert_eq(w.state, m->state);
	cr_assert_eq(w.version, m->version);
	cr_assert_eq(w.holder,
	    m->state == LEDGER_HELD || m->state == LEDGER_IN_FLIGHT ? m->holder
								    : 0);
	cr_assert_eq(s.open, m->open);
	cr_assert_eq(s.sender, m->sender);
	cr_assert_eq(ledger_since(&ledger, slot), m->since);
	cr_assert_eq(ledger_holders(&ledger, slot), model_holders(m));
	for (unsigned h = 1; h <= HOLDERS; h++)
		cr_assert_eq(ledger_holds(&ledger, slot, h), model_holds(m, h));
	cr_assert_eq(ledger_ref(&ledger, slot),
	    ref_make(slot, m->state == LEDGER_SHARED, m->version));
}

/* The slot's ref, or one that is nearly it. */
static uint64_t
some_ref(uint64_t *random, uint32_t slot)
{
	uint64_t ref = ledger_ref(&ledger, slot);

	switch (random_below(random, 8)) {
	case 0:
		return ref ^ UINT64_C(1) << REF_SLOT_BITS;
	case 1:
		return ref_make(slot, ref_shared(ref), ref_version(ref) - 1);
	case 2:
		return ref_make(
		    slot, ref_shared(ref), ref_version_next(ref_version(ref)));
	case 3:
		return ref_make(slot, random_below(random, 2), 0);
	default:
		return ref;
	}
}

/* Mostly somebody who has to do with the slot. */
static unsigned
some_holder(uint64_t *random, const struct model *m, unsigned most)
{
	unsigned h = 1 + random_below(random, most);

	switch (random_below(random, 3)) {
	case 0:
		return h;
	case 1:
		h = m->sender > 0 ? m->sender : m->holder;
		break;
	default:
		for (unsigned i = 0; i < ROW_BITS && !model_holds(m, h); i++)
			h = h % ROW_BITS + 1;
	}
	return h > 0 && h <= most ? h : 1;
}

enum step {
	GRANT,
	FREE,
	SEND,
	SHARE,
	RECEIVE,
	RECALL,
	RECLAIM,
	ORPHAN,
	EXPIRE,
	STEPS
};

/* What a client does: the ledger's answer and the model's. */
static int
step_of_client(
    enum step step, uint64_t *random, uint32_t slot, uint32_t now, int *want)
{
	struct model *m = &models[slot];
	uint64_t ref = some_ref(random, slot), out = 0;
	unsigned h =
	    some_holder(random, m, step == RECALL ? HOLDERS : ROW_BITS);
	unsigned n = random_below(random, 4);
	int got;

	switch (step) {
	case FREE:
		*want = model_free(m, ref, h);
		return ledger_free(&ledger, ref, h, now);
	case RECEIVE:
		*want = model_receive(m, ref, h);
		return ledger_receive(&ledger, ref, h, now);
	case RECALL:
		*want = model_recall(m, ref, h, n);
		return ledger_recall(&ledger, ref, h, n, now);
	case SEND:
		got = ledger_send(&ledger, ref, h, now, &out);
		break;
	default:
		n += random_below(random, 2) ? 252 : 1;
		got = ledger_share(&ledger, ref, h, n, now, &out);
		break;
	}
	*want = model_leave(m, ref, h);
	if (*want != 0)
		return got;
	model_next(m);
	if (step == SEND) {
		m->state = LEDGER_IN_FLIGHT;
	} else {
		m->state = LEDGER_SHARED;
		m->open = n;
		m->sender = h;
		m->row[h] = true;
		m->holder = 0;
	}
	cr_assert_eq(out, ledger_ref(&ledger, slot));
	return got;
}

static void
model_reclaim(struct model *m, unsigned h)
{
	if (m->state == LEDGER_HELD && m->holder == h) {
		m->state = LEDGER_FREE;
	} else if (m->state == LEDGER_SHARED && m->row[h]) {
		m->row[h] = false;
		model_settle(m);
	}
}

static void
model_orphan(struct model *m, unsigned sender, unsigned orphans)
{
	if (m->state == LEDGER_IN_FLIGHT && m->holder == sender)
		m->holder = orphans;
	else if (m->state == LEDGER_SHARED && m->sender == sender)
		m->sender = m->open > 0 ? orphans : 0;
}

static void
model_expire(struct model *m)
{
	if (m->state == LEDGER_IN_FLIGHT) {
		m->state = LEDGER_FREE;
		model_next(m);
	} else if (m->state == LEDGER_SHARED) {
		m->open = m->sender = 0;
		model_settle(m);
	}
}

/* What the daemon does by itself, which cannot fail. */
static void
step_of_daemon(enum step step, uint64_t *random, uint32_t slot, uint32_t now)
{
	struct model *m = &models[slot];
	unsigned h = some_holder(random, m, ROW_BITS);
	unsigned orphans = ROW_BITS + 1 + random_below(random, 4);

	if (step == RECLAIM) {
		ledger_reclaim(&ledger, slot, h, now);
		model_reclaim(m, h);
	} else if (step == ORPHAN) {
		ledger_orphan(&ledger, slot, h, orphans, now);
		model_orphan(m, h, orphans);
	} else if (step == EXPIRE) {
		ledger_expire(&ledger, slot, now);
		model_expire(m);
	} else if (m->state == LEDGER_FREE) {
		cr_assert_eq(ledger_grant(&ledger, slot, h, now),
		    ref_make(slot, false, ref_version_next(m->version)));
		model_next(m);
		m->state = LEDGER_HELD;
		m->holder = h;
	}
}

static void
random_step(uint64_t *random, uint32_t now)
{
	enum step step = (enum step)random_below(random, STEPS);
	uint32_t slot = random_below(random, SLOTS * SEGMENTS);
	struct model *m = &models[slot];
	int want = 0, got = 0;

	memcpy(before, memory, bytes);
	if (step >= FREE && step <= RECALL)
		got = step_of_client(step, random, slot, now, &want);
	else
		step_of_daemon(step, random, slot, now);
	cr_assert_eq(
	    got, want, "step %d of slot %u: %d, not %d", step, slot, got, want);
	if (memcmp(before, memory, bytes) != 0)
		m->since = now;
	if (m->state == LEDGER_FREE)
		m->holder = 0;
	/* What is refused changes nothing at all. */
	if (got < 0)
		cr_assert_eq(memcmp(before, memory, bytes), 0);
	compare(slot);
}

Test(ledger, is_what_the_model_says)
{
	uint64_t random = random_seed("ledger");
	struct ledger_identity id;

	for (uint32_t i = 0; i < SLOTS * SEGMENTS; i++)
		models[i] = (struct model){.version = REF_VERSION_MASK - 2};
	for (uint32_t step = 1; step <= 200000; step++) {
		random_step(&random, step);
		if (step % 1000 != 0)
			continue;
		cr_assert_eq(ledger_open(&ledger, memory, bytes, &id), 0);
		for (uint32_t i = 0; i < SLOTS * SEGMENTS; i++)
			compare(i);
	}
}

/* What the eight bytes are: 0 word, 1 share, 2 row, 3 the time. */
static unsigned
written_as(size_t at, uint32_t slot)
{
	uint64_t column =
	    (at - ledger_block_at(&ledger, slot / SLOTS)) / (8 * SLOTS);

	return column < 2 ? (unsigned)column : column < 2 + ledger.rows ? 2 : 3;
}

/*
 * From what the step at `slot` left behind, make every state in which it could
 * have been killed, and see that opening completes each.
 */
static void
killed_anywhere(uint32_t slot, const uint8_t *then, const char *what)
{
	uint8_t *after = malloc(bytes);
	struct ledger_identity id;
	struct redo redo;
	struct ledger l;

	memcpy(after, memory, bytes);
	memcpy(&redo, memory + REDO_AT, sizeof(redo));
	cr_assert_eq(redo.armed, 0);
	redo.armed = 1 + slot;
	for (unsigned done = 8; done < 16; done++) {
		memcpy(memory, then, bytes);
		memcpy(memory + REDO_AT, &redo, sizeof(redo));
		/* Those of `done` were written, and the time before them. */
		for (size_t at = LEDGER_PAGE; at < bytes; at += 8) {
			if (memcmp(then + at, after + at, 8) != 0 &&
			    (done >> written_as(at, slot) & 1) != 0)
				memcpy(memory + at, after + at, 8);
		}
		cr_assert_eq(ledger_open(&l, memory, bytes, &id), 0);
		cr_assert_eq(memcmp(memory + LEDGER_PAGE, after + LEDGER_PAGE,
				 bytes - LEDGER_PAGE),
		    0, "%s, killed after %u", what, done);
		memset(&redo, 0, 8);
		cr_assert_eq(memcmp(memory + REDO_AT, &redo, 8), 0);
		redo.armed = 1 + slot;
	}
	free(after);
}

#define KILLED(step)                                  \
	do {                                          \
		memcpy(before, memory, bytes);        \
		cr_assert_geq(step, 0);               \
		killed_anywhere(slot, before, #step); \
	} while (0)

Test(ledger, redo)
{
	uint32_t slot = SLOTS + 3;
	uint64_t ref = ledger_grant(&ledger, slot, 66, 1), out;

	KILLED(ledger_share(&ledger, ref, 66, 3, 2, &out));
	KILLED(ledger_receive(&ledger, out, 1, 3));
	KILLED(ledger_receive(&ledger, out, 65, 4));
	KILLED(ledger_recall(&ledger, out, 66, 1, 5));
	KILLED(ledger_free(&ledger, out, 66, 6));
	KILLED(ledger_free(&ledger, out, 1, 7));
	/* The last one makes it free, which is three words at once. */
	KILLED(ledger_free(&ledger, out, 65, 8));
	cr_assert_eq(ledger_word(&ledger, slot).state, LEDGER_FREE);
	ref = ledger_grant(&ledger, slot, 2, 9);
	KILLED(ledger_share(&ledger, ref, 2, 1, 10, &out));
	KILLED(ledger_free(&ledger, out, 2, 11));
	KILLED(ledger_recall(&ledger, out, 2, 0, 12));
	cr_assert_eq(ledger_word(&ledger, slot).state, LEDGER_FREE);
}

Test(ledger, redo_of_nonsense)
{
	struct redo redo = {.armed = 1 + SLOTS * SEGMENTS};
	struct ledger_identity id;
	struct ledger l;

	memcpy(memory + REDO_AT, &redo, sizeof(redo));
	cr_assert_eq(ledger_open(&l, memory, bytes, &id), -EUCLEAN);
	redo.armed = UINT64_MAX;
	memcpy(memory + REDO_AT, &redo, sizeof(redo));
	cr_assert_eq(ledger_open(&l, memory, bytes, &id), -EUCLEAN);
	redo = (struct redo){.armed = 1, .row_index = UINT64_MAX, .row = 1};
	memcpy(memory + REDO_AT, &redo, sizeof(redo));
	cr_assert_eq(ledger_open(&l, memory, bytes, &id), 0);
	cr_assert(ledger_check(&l, 0));
}

Test(ledger, is_found_again)
{
	struct ledger_identity id;
	struct ledger l;

	ledger_segment_set(&ledger, 2, LEDGER_ATTACHED);
	ledger.attachments[HOLDERS - 1].pid = 4711;
	cr_assert_eq(ledger_open(&l, memory, bytes, &id), 0);
	cr_assert_eq(memcmp(&id, &identity, sizeof(id)), 0);
	/* Without the padding at its end. */
	cr_assert_eq(memcmp(&l.geometry, &geometry,
			 offsetof(struct ledger_geometry, ring_size) +
			     sizeof(geometry.ring_size)),
	    0);
	cr_assert_eq(l.seed, REF_VERSION_MASK - 2);
	cr_assert_eq(ledger_segment(&l, 2), LEDGER_ATTACHED);
	cr_assert_eq(ledger_segment(&l, 1), LEDGER_ABSENT);
	cr_assert_eq(l.attachments[HOLDERS - 1].pid, 4711);
	cr_assert_eq(l.bytes, bytes);
}

/* Blocks lie behind the head, on pages of their own, within the object. */
Test(ledger, layout)
{
	uint64_t head = ledger_head_bytes(&geometry, SEGMENTS), last = 0, at;

	cr_assert_eq(head % LEDGER_PAGE, 0);
	for (uint32_t i = 0; i < SEGMENTS; i++) {
		at = ledger_block_at(&ledger, i);
		cr_assert_eq(at % LEDGER_PAGE, 0);
		cr_assert_geq(at, i == 0 ? head : last);
		last = at + ledger.block_bytes;
	}
	cr_assert_eq(last, bytes);
	cr_assert_eq(ledger_head_bytes(&geometry, SEGMENTS + 1), 0);
}

/* Fields that say what this is, or follow from others: any bit matters. */
Test(ledger, damaged_header)
{
	static const struct {
		size_t at, len;
	} fields[] = {{0, 8}, {8, 4}, {12, 4}, {16, 8}, {48, 8}, {56, 8},
	    {64, 8}, {72, 8}};
	struct ledger_identity id;
	struct ledger l;

	for (size_t i = 0; i < sizeof(fields) / sizeof(*fields); i++) {
		for (size_t bit = 0; bit < 8 * fields[i].len; bit++) {
			uint8_t *byte = memory + fields[i].at + bit / 8;

			*byte ^= (uint8_t)(1u << bit % 8);
			cr_assert_eq(ledger_open(&l, memory, bytes, &id),
			    -EUCLEAN, "offset %zu bit %zu", fields[i].at, bit);
			*byte ^= (uint8_t)(1u << bit % 8);
		}
	}
	cr_assert_eq(ledger_open(&l, memory, bytes, &id), 0);
}

/* The geometry: whatever it says, what is opened lies within the object. */
Test(ledger, damaged_geometry)
{
	static const size_t fields[] = {32, 36, 40, 44};
	struct ledger_identity id;
	struct ledger l;
	uint32_t saved, bad;
	int err;

	for (size_t i = 0; i < 4; i++) {
		memcpy(&saved, memory + fields[i], 4);
		for (unsigned bit = 0; bit < 32; bit++) {
			bad = saved ^ UINT32_C(1) << bit;
			memcpy(memory + fields[i], &bad, 4);
			err = ledger_open(&l, memory, bytes, &id);
			cr_assert(
			    err == -EUCLEAN || (err == 0 && l.bytes == bytes),
			    "offset %zu bit %u: %d", fields[i], bit, err);
		}
		bad = 0;
		memcpy(memory + fields[i], &bad, 4);
		err = ledger_open(&l, memory, bytes, &id);
		cr_assert_eq(err, -EUCLEAN);
		memcpy(memory + fields[i], &saved, 4);
	}
	memset(memory + 24, 0, 8); /* slots of no size */
	cr_assert_eq(ledger_open(&l, memory, bytes, &id), -EUCLEAN);
}

/* A name without an end is ended. */
Test(ledger, damaged_name)
{
	struct ledger_identity id;
	struct ledger l;

	memset(memory + 120, 'x', 64);
	cr_assert_eq(ledger_open(&l, memory, bytes, &id), 0);
	cr_assert_eq(strlen(id.pool), 63);
}

Test(ledger, truncated)
{
	struct ledger_identity id;
	struct ledger l;

	for (uint64_t len = 0; len < bytes; len += len < 4096 ? 512 : 4096)
		cr_assert_eq(ledger_open(&l, memory, len, &id), -EUCLEAN);
	cr_assert_eq(ledger_open(&l, memory, bytes - 1, &id), -EUCLEAN);
	cr_assert_eq(
	    ledger_format(&l, memory, bytes - 1, &geometry, &identity, 1),
	    -EINVAL);
	memset(memory, 0, bytes);
	cr_assert_eq(ledger_open(&l, memory, bytes, &id), -EUCLEAN);
}

static uint64_t
bytes_of(uint64_t size, uint32_t slots, uint32_t segments, uint32_t holders,
    uint32_t row)
{
	struct ledger_geometry g = {size, slots, segments, holders, row, 0};

	return ledger_bytes(&g);
}

Test(ledger, geometry_limits)
{
	uint64_t most;

	cr_assert_eq(bytes_of(0, 1, 1, 1, 1), 0);
	cr_assert_eq(bytes_of(64, 0, 1, 1, 1), 0);
	cr_assert_eq(bytes_of(64, 1, 0, 1, 1), 0);
	cr_assert_eq(bytes_of(64, 1, 1, 0, 0), 0);
	cr_assert_eq(bytes_of(64, 1, 1, 1, 2), 0);
	cr_assert_eq(bytes_of(64, 1, 1, LEDGER_HOLDERS_MAX + 1, 1), 0);
	cr_assert_eq(bytes_of(64, REF_SLOTS_MAX + 1, 1, 1, 1), 0);
	cr_assert_eq(bytes_of(64, 1, REF_SLOTS_MAX + 1, 1, 1), 0);
	cr_assert_eq(bytes_of(64, 4097, 4096, 1, 1), 0);
	cr_assert_eq(bytes_of(64, UINT32_MAX, UINT32_MAX, 1, 1), 0);
	cr_assert_eq(bytes_of(64, 65536, 65536, 1, 1), 0);
	cr_assert_eq(bytes_of(64, 1, 1, UINT32_MAX, UINT32_MAX), 0);
	cr_assert_gt(bytes_of(64, 1, 1, 1, 0), 0);
	/* The largest there is: every word of it has its place. */
	most = bytes_of(
	    UINT64_MAX, 4096, 4096, LEDGER_HOLDERS_MAX, LEDGER_HOLDERS_MAX);
	cr_assert_geq(most, (uint64_t)REF_SLOTS_MAX * (16 + 8 * 1024 + 4) +
				(uint64_t)LEDGER_HOLDERS_MAX * 64);
	cr_assert_lt(most, UINT64_C(1) << 40);
	/* One slot a segment: each has a page. */
	cr_assert_geq(bytes_of(64, 1, REF_SLOTS_MAX, 1, 1),
	    (uint64_t)REF_SLOTS_MAX * LEDGER_PAGE);
}

/* The seed is cut to a version's bits. */
Test(ledger, seed)
{
	struct ledger l;

	cr_assert_eq(
	    ledger_format(&l, memory, bytes, &geometry, &identity, UINT64_MAX),
	    0);
	cr_assert_eq(l.seed, REF_VERSION_MASK);
	cr_assert_eq(ref_version(ledger_grant(&l, 0, 1, 0)), 1);
}

/* Each that may share has a mirror, between the head and the slots. */
Test(ledger, mirrors)
{
	struct ledger_geometry g = geometry;
	struct ledger_identity id;
	struct ledger_mirror *m;
	struct ledger l, again;
	uint64_t all, ref;
	uint8_t *mem;

	g.ring_size = 128;
	all = ledger_bytes(&g);
	cr_assert_geq(all, bytes);
	mem = aligned_alloc(LEDGER_PAGE, all);
	memset(mem, 0, all);
	cr_assert_eq(ledger_format(&l, mem, all, &g, &identity, 5), 0);
	cr_assert_geq(l.mirror_bytes,
	    sizeof(*m) + 128 * 8 + 128 / 8 + WIRE_BATCH_MAX * 8);
	cr_assert_leq(ledger_head_bytes(&g, SEGMENTS), ledger_mirror_at(&l, 1));
	cr_assert_eq(ledger_mirror_at(&l, ROW_BITS) + l.mirror_bytes,
	    ledger_block_at(&l, 0));
	for (unsigned i = 1; i <= ROW_BITS; i++) {
		m = ledger_mirror(&l, i);
		cr_assert_eq((uint8_t *)m, mem + ledger_mirror_at(&l, i));
		cr_assert_eq((uint8_t *)ledger_mirror_done(&l, m),
		    (uint8_t *)(m->words + 128));
		cr_assert_eq((uint8_t *)ledger_mirror_batch(&l, m),
		    (uint8_t *)(m->words + 128 + 2));
		memset(m, (int)i, l.mirror_bytes);
	}
	/* Nothing else lies there, and a successor finds them. */
	for (uint32_t i = 0; i < SEGMENTS; i++)
		ledger_segment_set(&l, i, LEDGER_ATTACHED);
	for (uint32_t i = 0; i < SLOTS * SEGMENTS; i++) {
		ref = ledger_grant(&l, i, 1 + i, 9);
		cr_assert_eq(ledger_share(&l, ref, 1 + i, 2, 9, &ref), 0);
		cr_assert_eq(ledger_receive(&l, ref, ROW_BITS, 9), 0);
	}
	cr_assert_eq(ledger_open(&again, mem, all, &id), 0);
	cr_assert_eq(again.geometry.ring_size, 128);
	cr_assert_eq(again.mirror_bytes, l.mirror_bytes);
	for (unsigned i = 1; i <= ROW_BITS; i++) {
		cr_assert_eq(ledger_mirror(&again, i), ledger_mirror(&l, i));
		for (uint64_t k = 0; k < l.mirror_bytes; k++)
			cr_assert_eq(mem[ledger_mirror_at(&l, i) + k], i);
	}
	for (uint32_t i = 0; i < SLOTS * SEGMENTS; i++)
		cr_assert(ledger_holds(&again, i, ROW_BITS));
	free(mem);
}

Test(ledger, mirror_limits)
{
	struct ledger_geometry g = geometry;
	static const uint32_t bad[] = {
	    1, 63, 65, LANE_RING_MAX + 64, UINT32_MAX, UINT32_MAX - 63};

	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		g.ring_size = bad[i];
		cr_assert_eq(ledger_bytes(&g), 0, "%u", bad[i]);
	}
	g.ring_size = LANE_RING_MAX;
	cr_assert_gt(ledger_bytes(&g), 0);
}

/* An intent is met when anything has changed that its holder could change. */
Test(ledger, intents)
{
	struct ledger_intent i = {.key = 0};
	uint64_t ref = ledger_grant(&ledger, 2, 3, 9), shared;

	ledger_intend(&ledger, &i, 7, ref, 3);
	cr_assert_eq(i.key, 7);
	cr_assert_not(ledger_intent_met(&ledger, &i, 3));
	cr_assert_eq(ledger_share(&ledger, ref, 3, 2, 9, &shared), 0);
	cr_assert(ledger_intent_met(&ledger, &i, 3));
	/* A receipt, the last hold but one, and what another does. */
	ledger_intend(&ledger, &i, 8, shared, 4);
	cr_assert_eq(ledger_receive(&ledger, shared, 4, 9), 0);
	cr_assert(ledger_intent_met(&ledger, &i, 4));
	ledger_intend(&ledger, &i, 9, shared, 3);
	cr_assert_not(ledger_intent_met(&ledger, &i, 3));
	cr_assert_eq(ledger_free(&ledger, shared, 3, 9), 0);
	cr_assert(ledger_intent_met(&ledger, &i, 3));
	ledger_intent_end(&i);
	cr_assert_eq(i.key, 0);
}

Test(ledger, room_for_segments)
{
	struct ledger_identity id;
	struct ledger l;

	ledger_segments_max_set(&ledger, SEGMENTS - 1);
	cr_assert_eq(ledger_open(&l, memory, bytes, &id), 0);
	cr_assert_eq(ledger_segments_max(&l), SEGMENTS - 1);
}

/* Each of these words breaks one invariant, and no other. */
Test(ledger, check)
{
	static const struct {
		uint64_t word, share, row;
	} wrong[] = {
	    {.word = UINT64_C(3) << LEDGER_HOLDER_SHIFT},
	    {.share = 1},
	    {.share = 3 << 8},
	    {.row = 1},
	    {.word = UINT64_C(1) << LEDGER_STATE_SHIFT},
	    {.word = UINT64_C(1) << LEDGER_STATE_SHIFT |
		     (HOLDERS + 1ull) << LEDGER_HOLDER_SHIFT},
	    {.word = UINT64_C(2) << LEDGER_STATE_SHIFT |
		     UINT64_C(3) << LEDGER_HOLDER_SHIFT,
		.share = 1},
	    {.word = UINT64_C(2) << LEDGER_STATE_SHIFT |
		     UINT64_C(3) << LEDGER_HOLDER_SHIFT,
		.share = 3 << 8},
	    {.word = UINT64_C(1) << LEDGER_STATE_SHIFT |
		     UINT64_C(3) << LEDGER_HOLDER_SHIFT,
		.row = 2},
	    {.word = UINT64_C(3) << LEDGER_STATE_SHIFT |
		     UINT64_C(3) << LEDGER_HOLDER_SHIFT,
		.row = 1},
	    {.word = UINT64_C(3) << LEDGER_STATE_SHIFT},
	    {.word = UINT64_C(3) << LEDGER_STATE_SHIFT, .share = 1},
	    {.word = UINT64_C(3) << LEDGER_STATE_SHIFT, .share = 1, .row = 4},
	    {.word = UINT64_C(4) << LEDGER_STATE_SHIFT},
	    {.word = UINT64_C(7) << LEDGER_STATE_SHIFT, .row = 1},
	};
	uint64_t *word =
	    (uint64_t *)(void *)(memory + ledger_block_at(&ledger, 0));
	uint64_t *share = word + SLOTS, *row = share + SLOTS;

	cr_assert(ledger_check(&ledger, 0));
	for (size_t i = 0; i < sizeof(wrong) / sizeof(*wrong); i++) {
		*word = wrong[i].word | 9;
		*share = wrong[i].share;
		*row = wrong[i].row;
		cr_assert_not(ledger_check(&ledger, 0), "number %zu", i);
	}
	*word = UINT64_C(3) << LEDGER_STATE_SHIFT | 9;
	*share = 3 << 8 | 1;
	*row = 0;
	cr_assert(ledger_check(&ledger, 0), "receipts alone");
	*share = 3 << 8;
	*row = 1;
	cr_assert(ledger_check(&ledger, 0), "holders alone");
}

/* What an owner needs room for is asked first, what is too little refused. */
Test(ledger, too_small)
{
	struct ledger_geometry g = geometry;
	struct ledger l;

	cr_assert_gt(ledger_head_bytes(&geometry, SEGMENTS), 0);
	cr_assert_eq(ledger_head_bytes(&geometry, SEGMENTS + 1), 0);
	cr_assert_eq(
	    ledger_format(&l, memory, bytes - 1, &geometry, &identity, 1),
	    -EINVAL);
	g.slot_size = 0;
	cr_assert_eq(ledger_head_bytes(&g, SEGMENTS), 0);
	cr_assert_eq(
	    ledger_format(&l, memory, bytes, &g, &identity, 1), -EINVAL);
}

/* Where things are must be where the geometry puts them. */
Test(ledger, damaged_places)
{
	/* attachments, segments, blocks, block bytes; mirrors, bytes, ring */
	static const size_t fields[] = {48, 56, 64, 72, 184, 192, 200};
	struct ledger_identity id;
	struct ledger l;

	for (size_t i = 0; i < sizeof(fields) / sizeof(*fields); i++)
		for (unsigned bit = 0; bit < 64; bit += 9) {
			memory[fields[i] + bit / 8] ^= 1u << bit % 8;
			cr_assert_eq(ledger_open(&l, memory, bytes, &id),
			    -EUCLEAN, "offset %zu bit %u", fields[i], bit);
			memory[fields[i] + bit / 8] ^= 1u << bit % 8;
		}
	/* A ring size whose low half is right. */
	memory[204] = 1;
	cr_assert_eq(ledger_open(&l, memory, bytes, &id), -EUCLEAN);
}

/* Who looks at the words themselves sees what the functions say. */
Test(ledger, words)
{
	uint32_t slot = 2 * SLOTS + 3;
	uint64_t ref = ledger_grant(&ledger, slot, 66, 9);

	cr_assert_eq(ledger_words(&ledger, 2)[3],
	    ledger_pack(LEDGER_HELD, 66, ref_version(ref)));
	cr_assert_eq(ledger_sinces(&ledger, 2)[3], 9);
	cr_assert_eq(ledger_share(&ledger, ref, 66, 1, 9, &ref), 0);
	cr_assert_eq(ledger_row(&ledger, slot)[0], 0);
	cr_assert_eq(ledger_row(&ledger, slot)[1], 2);
}
