/*
 * The layout of a lane, and what a record says.
 */
#include "config.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lane.h"

TestSuite(lane, .timeout = 20);

static const enum lane_operation operations[] = {
    LANE_FREE, LANE_SEND, LANE_SHARE, LANE_RECEIVE, LANE_RECALL};

Test(lane, record_bits)
{
	uint64_t ref = ref_make(0x123456, true, UINT64_C(0x7fedcba987));

	cr_assert_eq(
	    record_make(LANE_RECALL, ref, 0xa5), UINT64_C(0xdcba987a5b123456));
	ref = ref_make(0xffffff, false, 1);
	cr_assert_eq(
	    record_make(LANE_FREE, ref, 0), UINT64_C(0x0000001002ffffff));
	/* Nothing that was never written is a record. */
	cr_assert_eq(record_operation(0), 0);
}

Test(lane, record_says_what_was_put)
{
	static const uint64_t versions[] = {1, 2, (1u << 28) - 1, 1u << 28,
	    REF_VERSION_MASK - 1, REF_VERSION_MASK};
	uint64_t ref, record;

	for (int o = 0; o < 5; o++)
		for (int v = 0; v < 6; v++)
			for (unsigned n = 0; n < 256; n += 51) {
				ref = ref_make(77 * n, n & 1, versions[v]);
				record = record_make(operations[o], ref, n);
				cr_assert_eq(
				    record_operation(record), operations[o]);
				cr_assert_eq(record_count(record), n);
				cr_assert_eq(ref_slot(record), ref_slot(ref));
				cr_assert_eq(
				    ref_shared(record), ref_shared(ref));
				cr_assert_eq(
				    record_ref(record, versions[v]), ref);
			}
}

Test(lane, record_ahead)
{
	static const int32_t steps[] = {
	    0, 1, -1, 2, 1000, -1000, (1 << 27) - 1, -(1 << 27)};
	static const uint64_t versions[] = {1u << 27, (1u << 28) - 1, 1u << 28,
	    UINT64_C(0x5fffffff00), UINT64_C(0x6000000000)};
	uint64_t ref, record;

	for (int v = 0; v < 5; v++)
		for (int s = 0; s < 8; s++) {
			ref = ref_make(5, false,
			    versions[v] + (uint64_t)(int64_t)steps[s]);
			record = record_make(LANE_SEND, ref, 0);
			cr_assert_eq(
			    record_ahead(record, versions[v]), steps[s]);
		}
}

/* Twice the slots, within limits. */
Test(lane, geometry_for)
{
	static const struct {
		uint32_t slots, size;
	} cases[] = {{1, 64}, {32, 64}, {33, 128}, {64, 128}, {1000, 2048},
	    {4096, 8192}, {4097, 8192}, {REF_SLOTS_MAX, 8192}};
	struct lane_geometry g;

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		g = lane_geometry_for(cases[i].slots);
		cr_assert_eq(g.grants, cases[i].size);
		cr_assert_eq(g.records, cases[i].size);
		cr_assert_eq(g.magazines, LANE_MAGAZINES);
		cr_assert_eq(g.magazine_room, LANE_MAGAZINE);
		cr_assert_eq(g.zero, 0);
		cr_assert_neq(lane_bytes(&g), 0);
	}
}

/* The parts do not overlap, and the object ends behind the last. */
Test(lane, parts)
{
	struct lane_geometry g = lane_geometry_for(500);
	uint64_t bytes = lane_bytes(&g);
	uint8_t *mem = aligned_alloc(LANE_PAGE, bytes);
	struct lane_magazine *m;
	struct lane l;

	cr_assert_eq(bytes % LANE_PAGE, 0);
	memset(mem, 0, bytes);
	cr_assert_eq(lane_format(&l, mem, &g, 7, 3), 0);
	/* Each word of each part gets a number, and all are found again. */
	for (uint32_t i = 0; i < g.grants; i++)
		l.grants[i] = UINT64_C(0x1000000) + i;
	for (uint32_t i = 0; i < g.records; i++)
		l.records[i] = UINT64_C(0x2000000) + i;
	for (uint32_t i = 0; i < g.magazines; i++) {
		m = lane_magazine(&l, i);
		cr_assert_eq((uintptr_t)m % 64, 0, "a line of its own");
		m->busy = m->count = i + 1;
		for (uint32_t k = 0; k < g.magazine_room; k++)
			m->refs[k] = i << 16 | k;
		cr_assert_leq(
		    (uint8_t *)&m->refs[g.magazine_room], mem + bytes);
	}
	cr_assert_leq((uint8_t *)&l.grants[g.grants], mem + bytes);
	cr_assert_leq((uint8_t *)&l.records[g.records], mem + bytes);
	for (uint32_t i = 0; i < g.grants; i++)
		cr_assert_eq(l.grants[i], UINT64_C(0x1000000) + i);
	for (uint32_t i = 0; i < g.records; i++)
		cr_assert_eq(l.records[i], UINT64_C(0x2000000) + i);
	for (uint32_t i = 0; i < g.magazines; i++) {
		m = lane_magazine(&l, i);
		cr_assert_eq(m->busy, i + 1);
		cr_assert_eq(m->count, i + 1);
		for (uint32_t k = 0; k < g.magazine_room; k++)
			cr_assert_eq(m->refs[k], i << 16 | k);
	}
	cr_assert_eq(l.header->magic, LANE_MAGIC);
	cr_assert_eq(l.header->pool_id, 7);
	cr_assert_eq(l.header->holder, 3);
	cr_assert_eq(l.header->grant_tail, 0);
	cr_assert_eq(l.header->record_tail, 0);
	free(mem);
}

Test(lane, found_again)
{
	struct lane_geometry g = lane_geometry_for(64);
	uint64_t bytes = lane_bytes(&g);
	struct lane_header *h = aligned_alloc(LANE_PAGE, bytes);
	struct lane l, again;

	memset(h, 0, bytes);
	cr_assert_eq(lane_open(&l, h, bytes, &g), -EUCLEAN);
	cr_assert_eq(lane_format(&l, h, &g, 7, 3), 0);
	cr_assert_eq(lane_open(&again, h, bytes, &g), 0);
	cr_assert_eq(again.header, l.header);
	cr_assert_eq((void *)again.grants, (void *)l.grants);
	cr_assert_eq((void *)again.records, (void *)l.records);
	cr_assert_eq(lane_magazine(&again, 5), lane_magazine(&l, 5));
	cr_assert_eq(lane_open(&again, h, bytes - 1, &g), -EUCLEAN);
	h->bytes++;
	cr_assert_eq(lane_open(&again, h, bytes, &g), -EUCLEAN);
	h->bytes--;
	h->format++;
	cr_assert_eq(lane_open(&again, h, bytes, &g), -EUCLEAN);
	h->format--;
	h->header_bytes--;
	cr_assert_eq(lane_open(&again, h, bytes, &g), -EUCLEAN);
	h->header_bytes++;
	/* What the client writes into its geometry is not asked. */
	memset(&h->geometry, 0xff, sizeof(h->geometry));
	cr_assert_eq(lane_open(&again, h, bytes, &g), 0);
	cr_assert_arr_eq(&again.geometry, &g, sizeof(g));
	h->magic = 0;
	cr_assert_eq(lane_open(&again, h, bytes, &g), -EUCLEAN);
	free(h);
}

/* Each of these is one change to a good geometry. */
Test(lane, impossible)
{
	struct lane_geometry good = lane_geometry_for(64), g;
	static const struct {
		size_t field;
		uint32_t value;
	} wrong[] = {
	    {offsetof(struct lane_geometry, grants_at), 0},
	    {offsetof(struct lane_geometry, grants_at), LANE_PAGE + 8},
	    {offsetof(struct lane_geometry, grants_at), UINT32_MAX - 4095},
	    {offsetof(struct lane_geometry, grants), 0},
	    {offsetof(struct lane_geometry, grants), 32},
	    {offsetof(struct lane_geometry, grants), 96},
	    {offsetof(struct lane_geometry, grants), 16384},
	    {offsetof(struct lane_geometry, records_at), 64},
	    {offsetof(struct lane_geometry, records_at), UINT32_MAX},
	    {offsetof(struct lane_geometry, records), UINT32_C(1) << 31},
	    {offsetof(struct lane_geometry, records), 65},
	    {offsetof(struct lane_geometry, magazines_at), 0},
	    {offsetof(struct lane_geometry, magazines_at), 1},
	    {offsetof(struct lane_geometry, magazines_at), 0x80000000},
	    {offsetof(struct lane_geometry, magazines), LANE_MAGAZINES + 1},
	    {offsetof(struct lane_geometry, magazines), UINT32_MAX},
	    {offsetof(struct lane_geometry, magazine_room), LANE_MAGAZINE + 8},
	    {offsetof(struct lane_geometry, magazine_room), 12},
	};
	static uint8_t mem[LANE_PAGE];
	struct lane l;

	cr_assert_neq(lane_bytes(&good), 0);
	for (size_t i = 0; i < sizeof(wrong) / sizeof(*wrong); i++) {
		g = good;
		memcpy((uint8_t *)&g + wrong[i].field, &wrong[i].value, 4);
		cr_assert_eq(lane_bytes(&g), 0, "number %zu", i);
		cr_assert_eq(lane_format(&l, mem, &g, 1, 1), -EINVAL);
		cr_assert_eq(lane_open(&l, mem, UINT64_MAX, &g), -EINVAL);
	}
}
