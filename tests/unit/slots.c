/*
 * Tests of lib/slots.c: one segment against a model, and each wrong call.
 */
#include "config.h"

#include <criterion/criterion.h>
#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "slab.h"
#include "../core/random.h"

TestSuite(slots, .timeout = 120);

/* cr_assert reports every success to the runner: too slow for inner loops. */
#define MUST(cond)                                                      \
	do {                                                            \
		if (!(cond))                                            \
			cr_assert_fail("line %d: %s", __LINE__, #cond); \
	} while (0)

enum { UNTOUCHED = 0xa5, GUARD = 256 };

/* A segment, all memory it may use, and what must be true of it. */
struct model {
	struct slab_seg seg;
	unsigned char *buffer; /* GUARD bytes, the memory, GUARD bytes */
	unsigned char *mem, *first;
	size_t len;
	struct slab_geom geom;
	uint16_t *links;
	unsigned char *bitmap;
	uint32_t capacity, carved, used, nfree;
	uint32_t *stack; /* the free ones, the last freed on top */
	uint8_t *stamp;	 /* what the slot is filled with; 0: free */
};

static struct slab_geom
geometry(uint32_t flags, uint32_t size, uint32_t align)
{
	return (struct slab_geom){.size = sizeof(struct slab_geom),
	    .flags = flags,
	    .slot_size = size,
	    .slot_align = align};
}

static void
model_open(struct model *m, struct slab_geom geom, uint32_t shift, uint32_t n)
{
	size_t align = geom.slot_align ? geom.slot_align : 64;
	int got;

	memset(m, 0, sizeof(*m));
	m->geom = geom;
	m->len = (size_t)n * geom.slot_size + geom.slot_size / 2;
	m->buffer = aligned_alloc(
	    4096, (m->len + shift + 2 * GUARD + 4096 + 4095) & ~(size_t)4095);
	m->mem = m->buffer + GUARD + shift;
	memset(m->buffer, UNTOUCHED, m->len + shift + 2 * GUARD);
	m->links = malloc(SLAB_LINK_BYTES(n + 1));
	m->bitmap = malloc(SLAB_BITMAP_BYTES(n + 1));
	memset(m->links, UNTOUCHED, SLAB_LINK_BYTES(n + 1));
	memset(m->bitmap, UNTOUCHED, SLAB_BITMAP_BYTES(n + 1));
	m->stack = calloc(n + 1, sizeof(*m->stack));
	m->stamp = calloc(n + 1, 1);
	m->geom.links = m->links;
	m->geom.bitmap = m->bitmap;
	got = slab_seg_init(&m->seg, m->mem, m->len, &m->geom);
	cr_assert(got > 0 && got <= (int)n, "%d of %u slots", got, n);
	m->capacity = (uint32_t)got;
	m->first = slab_seg_at(&m->seg, 0);
	cr_assert(m->first >= m->mem);
	cr_assert(m->first + (size_t)got * geom.slot_size <= m->mem + m->len);
	if (geom.slot_align)
		cr_assert_eq((uintptr_t)m->first % align, 0);
}

static void
model_close(struct model *m)
{
	free(m->buffer);
	free(m->links);
	free(m->bitmap);
	free(m->stack);
	free(m->stamp);
}

static unsigned char *
slot_at(const struct model *m, uint32_t index)
{
	return m->first + (size_t)index * m->geom.slot_size;
}

static bool
filled(const unsigned char *p, size_t len, int with)
{
	return len == 0 || (*p == with && memcmp(p, p + 1, len - 1) == 0);
}

static bool
slot_whole(const struct model *m, uint32_t index)
{
	return filled(slot_at(m, index), m->geom.slot_size, m->stamp[index]);
}

static void
model_take(struct model *m, uint64_t *rng)
{
	bool full = m->used == m->capacity;
	uint32_t expected;
	int index;

	if (random_next(rng) & 1) {
		index = slab_seg_take(&m->seg);
		MUST(full ? index == SLAB_ENOMEM : index >= 0);
	} else {
		void *slot = slab_seg_pop(&m->seg);

		MUST(full == !slot);
		index = slot ? slab_seg_index(&m->seg, slot) : -1;
	}
	if (full)
		return;
	expected = m->nfree ? m->stack[--m->nfree] : m->carved++;
	MUST((uint32_t)index == expected);
	MUST(slab_seg_at(&m->seg, expected) == (void *)slot_at(m, expected));
	m->used++;
	m->stamp[index] = (uint8_t)(1 + random_below(rng, 255));
	memset(slot_at(m, expected), m->stamp[index], m->geom.slot_size);
}

static void
model_give(struct model *m, uint64_t *rng)
{
	uint32_t index = random_below(rng, m->capacity);
	bool out = m->stamp[index];
	bool sure = m->geom.flags & SLAB_CHECKED || index >= m->carved ||
		    m->used == 0 ||
		    (m->nfree && m->stack[m->nfree - 1] == index);
	int got;

	if (!out && !sure)
		return; /* nobody can see this double free */
	if (out)
		MUST(slot_whole(m, index));
	got = random_next(rng) & 1 ? slab_seg_give(&m->seg, index)
				   : slab_seg_push(&m->seg, slot_at(m, index));
	MUST(got == (out ? 0 : SLAB_EFREE));
	if (!out)
		return;
	if (m->geom.flags & SLAB_EXTERNAL)
		MUST(slot_whole(m, index));
	m->stamp[index] = 0;
	m->stack[m->nfree++] = index;
	m->used--;
}

static void
model_compare(const struct model *m)
{
	enum slab_state state = m->used == 0		? SLAB_EMPTY
				: m->used < m->capacity ? SLAB_PARTIAL
							: SLAB_FULL;
	const unsigned char *rest = slot_at(m, m->carved);
	const unsigned char *end = m->mem + m->len + GUARD;

	MUST(slab_seg_check(&m->seg) == 0);
	MUST(slab_seg_used(&m->seg) == m->used);
	MUST(slab_seg_capacity(&m->seg) == m->capacity);
	MUST(slab_seg_state(&m->seg) == state);
	for (uint32_t i = 0; i < m->carved; i++)
		MUST(!m->stamp[i] || slot_whole(m, i));
	for (uint32_t i = 0; i < m->capacity; i++)
		MUST(slab_seg_taken(&m->seg, i) == (m->geom.flags & SLAB_CHECKED
							   ? m->stamp[i] != 0
							   : SLAB_EINVAL));
	MUST(!(m->geom.flags & SLAB_CHECKED) ||
	     slab_seg_taken(&m->seg, m->capacity) == SLAB_ERANGE);
	MUST(filled(m->buffer, (size_t)(m->first - m->buffer), UNTOUCHED));
	MUST(filled(rest, (size_t)(end - rest), UNTOUCHED));
	for (uint32_t i = m->carved; i < m->capacity; i++)
		MUST(m->links[i] == UNTOUCHED * 0x101);
	for (uint32_t i = (m->carved + 7) / 8; i < (m->capacity + 7) / 8; i++)
		MUST(m->bitmap[i] == UNTOUCHED);
}

/* Waves of mostly taking and mostly giving, so that it runs full and empty. */
static void
model_run(struct model *m, uint64_t *rng)
{
	for (int wave = 0; wave < 12; wave++) {
		uint32_t takes = wave & 1 ? 25 : 75;

		for (uint32_t i = 0; i < 3 * m->capacity; i++)
			if (random_below(rng, 100) < takes)
				model_take(m, rng);
			else
				model_give(m, rng);
		model_compare(m);
	}
	while (m->used < m->capacity)
		model_take(m, rng);
	model_take(m, rng);
	model_compare(m);
	while (m->used > 0)
		model_give(m, rng);
	model_compare(m);
}

Test(slots, random_against_model)
{
	static const struct {
		uint32_t size, align, shift, n;
	} shapes[] = {{2, 0, 0, 300}, {2, 2, 1, 64}, {4, 0, 3, 257},
	    {6, 0, 1, 100}, {24, 8, 5, 77}, {64, 64, 1, 40}, {96, 32, 31, 33},
	    {100, 0, 0, 50}, {128, 0, 127, 9}, {200, 0, 9, 31},
	    {1000, 0, 7, 17}, {4096, 4096, 1, 5}, {12288, 4096, 0, 3},
	    {65536, 0, 33, 2}};
	uint64_t rng = random_seed("slots/random_against_model");

	for (size_t i = 0; i < sizeof(shapes) / sizeof(*shapes); i++)
		for (uint32_t flags = 0; flags < 4; flags++) {
			struct model m;

			model_open(&m,
			    geometry(flags, shapes[i].size, shapes[i].align),
			    shapes[i].shift, shapes[i].n + 1);
			model_run(&m, &rng);
			model_close(&m);
		}
}

/* Odd sizes and alignment 1 are for external links only. */
Test(slots, odd_sizes_external)
{
	uint64_t rng = random_seed("slots/odd_sizes_external");

	for (uint32_t size = 3; size < 60; size += 2) {
		struct model m;

		model_open(&m, geometry(SLAB_EXTERNAL | SLAB_CHECKED, size, 0),
		    size % 7, 50);
		model_run(&m, &rng);
		model_close(&m);
	}
}

/* Index by multiplication equals index by division, at and between slots. */
Test(slots, index_is_exact)
{
	static const uint32_t sizes[] = {2, 3, 5, 7, 12, 48, 100, 640, 641,
	    4095, 4096, 4097, 65535, 65536, 1000003, 0x7fffffff, 0x80000000,
	    0xfffffffe, 0xffffffff};
	uintptr_t base = (uintptr_t)1 << 20;
	uint16_t links[1];

	for (size_t i = 0; i < sizeof(sizes) / sizeof(*sizes); i++) {
		struct slab_geom geom = geometry(SLAB_EXTERNAL, sizes[i], 1);
		size_t len = (size_t)sizes[i] * SLAB_SEG_MAX;
		struct slab_seg seg;

		geom.links = links; /* never used: nothing is taken */
		MUST(slab_seg_init(&seg, (void *)base, len, &geom) ==
		     (int)SLAB_SEG_MAX);
		for (uint32_t k = 0; k < SLAB_SEG_MAX; k++) {
			uintptr_t at = base + (uintptr_t)k * sizes[i];

			MUST(slab_seg_index(&seg, (void *)at) == (int)k);
			MUST(slab_seg_at(&seg, k) == (void *)at);
			MUST(slab_seg_index(&seg, (void *)(at + 1)) ==
			     SLAB_ESLOT);
			MUST(slab_seg_index(&seg, (void *)(at - 1)) ==
			     (k ? SLAB_ESLOT : SLAB_ERANGE));
		}
		MUST(slab_seg_index(&seg, (void *)(base + len)) == SLAB_ERANGE);
		MUST(slab_seg_index(&seg, NULL) == SLAB_ERANGE);
		MUST(slab_seg_index(&seg, (void *)UINTPTR_MAX) == SLAB_ERANGE);
		MUST(!slab_seg_at(&seg, SLAB_SEG_MAX));
		MUST(!slab_seg_at(&seg, UINT_MAX));
	}
}

Test(slots, index_random_addresses)
{
	uint64_t rng = random_seed("slots/index_random_addresses");

	for (int round = 0; round < 200000; round++) {
		uint32_t size = 2 + (uint32_t)(random_next(&rng) >>
					       (33 + random_below(&rng, 30)));
		uint32_t n = 1 + random_below(&rng, SLAB_SEG_MAX);
		struct slab_geom geom = geometry(SLAB_EXTERNAL, size, 1);
		uintptr_t base = 1 + (random_next(&rng) >> 2);
		uintptr_t offset = random_next(&rng) % ((uintptr_t)size * n);
		uint16_t links[1];
		struct slab_seg seg;
		int index;

		geom.links = links;
		slab_seg_init(&seg, (void *)base, (size_t)size * n, &geom);
		index = slab_seg_index(&seg, (void *)(base + offset));
		MUST(index ==
		     (offset % size ? SLAB_ESLOT : (int)(offset / size)));
		offset = random_next(&rng);
		index = slab_seg_index(&seg, (void *)(base + offset));
		MUST(offset < (uintptr_t)size * n || index == SLAB_ERANGE);
	}
}

/* Every wrong offset of every slot, and every place where no slot is. */
Test(slots, misaligned_and_foreign_refused)
{
	struct model m;
	int local;

	model_open(&m, geometry(0, 24, 8), 3, 20);
	for (uint32_t i = 0; i < m.capacity; i++)
		slab_seg_take(&m.seg);
	for (uint32_t i = 0; i < m.capacity; i++)
		for (uint32_t off = 1; off < 24; off++)
			MUST(slab_seg_push(&m.seg, slot_at(&m, i) + off) ==
			     SLAB_ESLOT);
	for (unsigned char *p = m.buffer; p < m.first; p++)
		MUST(slab_seg_push(&m.seg, p) == SLAB_ERANGE);
	for (uint32_t off = 0; off < 100; off++)
		MUST(slab_seg_push(&m.seg, slot_at(&m, m.capacity) + off) ==
		     SLAB_ERANGE);
	MUST(slab_seg_push(&m.seg, &local) == SLAB_ERANGE);
	MUST(slab_seg_push(&m.seg, NULL) == SLAB_ERANGE);
	MUST(slab_seg_give(&m.seg, m.capacity) == SLAB_ERANGE);
	MUST(slab_seg_give(&m.seg, UINT_MAX) == SLAB_ERANGE);
	MUST(slab_seg_used(&m.seg) == m.capacity);
	for (uint32_t i = 0; i < m.capacity; i++)
		MUST(slab_seg_push(&m.seg, slot_at(&m, i)) == 0);
	model_close(&m);
}

Test(slots, uncarved_and_double_free_refused)
{
	for (uint32_t flags = 0; flags < 4; flags++) {
		struct model m;

		model_open(&m, geometry(flags, 32, 0), 0, 10);
		MUST(slab_seg_push(&m.seg, m.first) == SLAB_EFREE);
		slab_seg_take(&m.seg);
		slab_seg_take(&m.seg);
		slab_seg_take(&m.seg);
		MUST(slab_seg_give(&m.seg, 3) == SLAB_EFREE);
		MUST(slab_seg_give(&m.seg, 1) == 0);
		MUST(slab_seg_give(&m.seg, 1) == SLAB_EFREE);
		MUST(slab_seg_give(&m.seg, 0) == 0);
		if (flags & SLAB_CHECKED)
			MUST(slab_seg_give(&m.seg, 1) == SLAB_EFREE);
		MUST(slab_seg_give(&m.seg, 2) == 0);
		for (unsigned i = 0; i < m.capacity; i++)
			MUST(slab_seg_give(&m.seg, i) == SLAB_EFREE);
		MUST(slab_seg_state(&m.seg) == SLAB_EMPTY);
		model_close(&m);
	}
}

/* A daemon's view: indices only, of memory that it never maps. */
Test(slots, without_memory)
{
	static uint16_t links[100];
	static unsigned char bitmap[SLAB_BITMAP_BYTES(100)];
	struct slab_geom geom = geometry(SLAB_EXTERNAL | SLAB_CHECKED, 4096, 0);
	struct slab_seg seg;

	geom.links = links;
	geom.bitmap = bitmap;
	cr_assert_eq(slab_seg_init(&seg, NULL, 100 * 4096, &geom), 100);
	cr_assert_null(slab_seg_pop(&seg));
	cr_assert_eq(slab_seg_used(&seg), 0);
	for (int i = 0; i < 100; i++)
		MUST(slab_seg_take(&seg) == i);
	cr_assert_eq(slab_seg_take(&seg), SLAB_ENOMEM);
	cr_assert_null(slab_seg_at(&seg, 0));
	cr_assert_null(slab_seg_at(&seg, 99));
	cr_assert_eq(slab_seg_index(&seg, NULL), SLAB_ERANGE);
	cr_assert_eq(slab_seg_push(&seg, (void *)4096), SLAB_ERANGE);
	for (unsigned i = 0; i < 100; i += 3)
		MUST(slab_seg_give(&seg, i) == 0);
	for (int i = 99; i >= 0; i -= 3)
		MUST(slab_seg_take(&seg) == i);
	cr_assert_eq(slab_seg_state(&seg), SLAB_FULL);
}

/* Pages that nothing may touch are not even readable. */
Test(slots, lazy_down_to_the_page)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	size_t len = 64 * page;
	unsigned char *mem = mmap(NULL, 3 * len, PROT_NONE,
	    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	struct slab_geom geom = geometry(SLAB_CHECKED, 256, 0);
	struct slab_seg seg;

	cr_assert_neq(mem, MAP_FAILED);
	geom.bitmap = mem + len;
	cr_assert_gt(slab_seg_init(&seg, mem, len, &geom), 0);
	cr_assert_eq(mprotect(mem, page, PROT_READ | PROT_WRITE), 0);
	cr_assert_eq(mprotect(mem + len, page, PROT_READ | PROT_WRITE), 0);
	for (size_t i = 0; i < page / 256; i++)
		MUST(slab_seg_pop(&seg) == mem + i * 256);
	for (size_t i = 0; i < page / 256; i++)
		MUST(slab_seg_push(&seg, mem + i * 256) == 0);
	for (size_t i = page / 256; i-- > 0;)
		MUST(slab_seg_pop(&seg) == mem + i * 256);

	/* External: the memory stays unreadable to the end. */
	geom = geometry(SLAB_EXTERNAL, 256, 0);
	geom.links = mem;
	for (int i = slab_seg_init(&seg, mem + 2 * len, len, &geom); i > 0; i--)
		MUST(slab_seg_pop(&seg));
	for (size_t at = 0; at < len; at += 256)
		MUST(slab_seg_push(&seg, mem + 2 * len + at) == 0);
	for (size_t at = len; at > 0; at -= 256)
		MUST(slab_seg_pop(&seg) == mem + 2 * len + at - 256);
	munmap(mem, 3 * len);
}

Test(slots, capacity_is_capped)
{
	struct model m;

	model_open(&m, geometry(SLAB_CHECKED, 2, 0), 0, 70000);
	cr_assert_eq(m.capacity, SLAB_SEG_MAX);
	for (int i = 0; i < (int)SLAB_SEG_MAX; i++)
		MUST(slab_seg_take(&m.seg) == i);
	cr_assert_eq(slab_seg_take(&m.seg), SLAB_ENOMEM);
	cr_assert_eq(slab_seg_give(&m.seg, SLAB_SEG_MAX), SLAB_ERANGE);
	cr_assert_eq(slab_seg_give(&m.seg, 65535), SLAB_ERANGE);
	for (unsigned i = 0; i < SLAB_SEG_MAX; i++)
		MUST(slab_seg_give(&m.seg, i) == 0);
	for (int i = SLAB_SEG_MAX; i-- > 0;)
		MUST(slab_seg_take(&m.seg) == i);
	cr_assert_eq(slab_seg_check(&m.seg), 0);
	model_close(&m);
}

/* The smallest buffer for one slot is enough, and one byte less is not. */
Test(slots, smallest_buffer)
{
	static _Alignas(64) unsigned char buffer[512];

	for (uint32_t align = 2; align <= 64; align *= 2)
		for (uint32_t shift = 0; shift < 64; shift++) {
			struct slab_geom geom = geometry(0, 3 * align, align);
			size_t need = (-shift & (align - 1)) + 3 * align;
			struct slab_seg seg;

			MUST(slab_seg_init(&seg, buffer + shift, need, &geom) ==
			     1);
			for (size_t len = 0; len < need; len++)
				MUST(slab_seg_init(&seg, buffer + shift, len,
					 &geom) == SLAB_ESIZE);
			MUST(slab_seg_init(&seg, buffer + shift,
				 need + 3 * align, &geom) == 2);
			MUST(slab_seg_init(&seg, buffer + shift,
				 need + 3 * align - 1, &geom) == 1);
		}
}

Test(slots, wrong_arguments)
{
	static _Alignas(64) unsigned char b[256];
	static _Alignas(2) unsigned char aux[64];
	static const uint32_t ext = SLAB_EXTERNAL;
	const struct {
		struct slab_geom geom;
		void *mem;
		size_t len;
		int err;
	} wrong[] = {
	    {{20, 0, 8, 0, NULL, NULL}, b, 256, SLAB_EINVAL},
	    {{sizeof(struct slab_geom), 4, 8, 0, aux, aux}, b, 256,
		SLAB_EINVAL},
	    {geometry(0, 8, 0), NULL, 256, SLAB_EINVAL},
	    {geometry(ext, 8, 0), b, 256, SLAB_EINVAL},
	    {geometry(SLAB_CHECKED, 8, 0), b, 256, SLAB_EINVAL},
	    {geometry(0, 8, 0), b, SIZE_MAX, SLAB_EINVAL},
	    {geometry(0, 8, 0), (void *)(UINTPTR_MAX - 63), 65, SLAB_EINVAL},
	    {geometry(0, 0, 0), b, 256, SLAB_ESIZE},
	    {geometry(0, 1, 0), b, 256, SLAB_ESIZE},
	    {geometry(0, 1, 1), b, 256, SLAB_ESIZE},
	    {geometry(0, UINT32_MAX - 1, 0), b, 256, SLAB_ESIZE},
	    {geometry(0, 0x80000000, 0x80000000), b, 256, SLAB_ESIZE},
	    {geometry(0, 3, 0), b, 256, SLAB_EALIGN},
	    {geometry(0, 8, 1), b, 256, SLAB_EALIGN},
	    {geometry(0, 24, 3), b, 256, SLAB_EALIGN},
	    {geometry(0, 24, 16), b, 256, SLAB_EALIGN},
	    {geometry(0, 8, 16), b, 256, SLAB_EALIGN},
	    {{sizeof(struct slab_geom), ext, 8, 0, aux + 1, NULL}, b, 256,
		SLAB_EALIGN},
	};
	struct slab_geom good = geometry(0, 8, 0);
	struct slab_seg seg;

	for (size_t i = 0; i < sizeof(wrong) / sizeof(*wrong); i++) {
		int err = slab_seg_init(
		    &seg, wrong[i].mem, wrong[i].len, &wrong[i].geom);

		cr_assert_eq(err, wrong[i].err, "case %zu: %d", i, err);
	}
	cr_assert_eq(slab_seg_init(NULL, b, 256, &good), SLAB_EINVAL);
	cr_assert_eq(slab_seg_init(&seg, b, 256, NULL), SLAB_EINVAL);
}

Test(slots, default_alignment)
{
	static _Alignas(128) unsigned char buffer[1024];
	static const uint32_t sizes[][2] = {{2, 2}, {6, 2}, {12, 4}, {40, 8},
	    {48, 16}, {96, 32}, {64, 64}, {192, 64}, {128, 64}};
	struct slab_seg seg;

	for (size_t i = 0; i < sizeof(sizes) / sizeof(*sizes); i++) {
		struct slab_geom geom = geometry(0, sizes[i][0], 0);

		slab_seg_init(&seg, buffer + 1, sizeof(buffer) - 1, &geom);
		cr_assert_eq(slab_seg_at(&seg, 0), buffer + sizes[i][1]);
	}
}

/* Whoever writes to a freed slot may lose memory, never gain another's. */
Test(slots, overwritten_links)
{
	uint64_t rng = random_seed("slots/overwritten_links");

#ifdef SLAB_DEBUG
	cr_skip_test("a debug build traps here");
#endif

	for (int round = 0; round < 3000; round++) {
		uint32_t flags = round & 1 ? SLAB_CHECKED : 0;
		bool out[32] = {false};
		struct model m;
		unsigned char *slot;
		uint32_t taken = 0;

		model_open(&m, geometry(flags, 16, 0), 0, 32);
		for (uint32_t i = 0; i < 24; i++)
			slab_seg_take(&m.seg);
		for (uint32_t i = 0; i < 24; i += 1 + random_below(&rng, 3))
			slab_seg_give(&m.seg, i);
		for (uint32_t i = 0; i < 24; i++) {
			uint32_t wide = random_next(&rng) & 1 ? 65536 : 40;
			uint16_t junk = (uint16_t)random_below(&rng, wide);

			memcpy(slot_at(&m, i), &junk, sizeof(junk));
		}
		while ((slot = slab_seg_pop(&m.seg))) {
			int index = slab_seg_index(&m.seg, slot);

			MUST(index >= 0);
			MUST(!(flags & SLAB_CHECKED) || !out[index]);
			out[index] = true;
			MUST(++taken <= m.capacity);
		}
		MUST(slab_seg_state(&m.seg) == SLAB_FULL);
		MUST(slab_seg_check(&m.seg) == 0);
		model_close(&m);
	}
}

Test(slots, check_sees_damage)
{
	struct model m;

	model_open(&m, geometry(SLAB_EXTERNAL | SLAB_CHECKED, 16, 0), 0, 8);
	for (int i = 0; i < 4; i++)
		slab_seg_take(&m.seg);
	for (unsigned i = 0; i < 3; i++)
		slab_seg_give(&m.seg, i);
	cr_assert_eq(slab_seg_check(&m.seg), 0);
	m.links[2] = 7;
	cr_assert_eq(slab_seg_check(&m.seg), SLAB_EINVAL);
	m.links[2] = 1;
	m.bitmap[0] |= 2;
	cr_assert_eq(slab_seg_check(&m.seg), SLAB_EINVAL);
	m.bitmap[0] &= (unsigned char)~2;
	cr_assert_eq(slab_seg_check(&m.seg), 0);
	model_close(&m);
}

Test(slots, errors_have_words)
{
	const char *unknown = slab_strerror(-1000);

	for (int err = SLAB_EBUSY; err <= 0; err++)
		cr_assert_str_neq(slab_strerror(err), unknown);
	cr_assert_str_eq(slab_strerror(INT_MIN), unknown);
	cr_assert_str_eq(slab_strerror(65534), slab_strerror(0));
}
