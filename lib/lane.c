/*
 * Where things are in a lane; lane.h has the layout.
 */
#include "config.h"

#include <errno.h>

#include "atomic.h"
#include "lane.h"

_Static_assert(offsetof(struct lane_header, geometry) == 64, "format");
_Static_assert(offsetof(struct lane_header, notice) == 128, "format");
_Static_assert(offsetof(struct lane_header, grant_tail) == 192, "format");
_Static_assert(offsetof(struct lane_header, record_head) == 256, "format");
_Static_assert(offsetof(struct lane_header, sleeping) == 320, "format");
_Static_assert(offsetof(struct lane_header, grant_head) == 384, "format");
_Static_assert(offsetof(struct lane_header, record_tail) == 448, "format");
_Static_assert(offsetof(struct lane_header, revoked) == 512, "format");
_Static_assert(offsetof(struct lane_header, allocs) == 576, "format");
_Static_assert(offsetof(struct lane_header, refused) == 640, "format");
_Static_assert(offsetof(struct lane_header, refused_at) == 1152, "format");
_Static_assert(sizeof(struct lane_header) <= LANE_PAGE, "format");
_Static_assert(sizeof(struct lane_magazine) == 64, "format");

static uint32_t
page_up(uint32_t bytes)
{
	return (bytes + LANE_PAGE - 1) & ~(LANE_PAGE - 1);
}

static uint32_t
magazine_bytes(const struct lane_geometry *g)
{
	return (uint32_t)sizeof(struct lane_magazine) + g->magazine_room * 8;
}

/* Twice the slots, so that neither ring is what a client waits for. */
static uint32_t
ring_size(uint32_t slots)
{
	uint32_t size = LANE_RING_MIN;

	while (size < LANE_RING_MAX && size / 2 < slots)
		size *= 2;
	return size;
}

struct lane_geometry
lane_geometry_for(uint32_t slots)
{
	return lane_geometry_of(ring_size(slots));
}

struct lane_geometry
lane_geometry_of(uint32_t size)
{
	struct lane_geometry g = {.grants = size,
	    .records = size,
	    .magazines = LANE_MAGAZINES,
	    .magazine_room = LANE_MAGAZINE};

	g.magazines_at = LANE_PAGE;
	g.grants_at =
	    g.magazines_at + page_up(g.magazines * magazine_bytes(&g));
	g.records_at = g.grants_at + page_up(g.grants * 8);
	return g;
}

static bool
is_ring(uint32_t at, uint32_t size)
{
	return at % LANE_PAGE == 0 && at >= LANE_PAGE && at < UINT32_MAX / 2 &&
	       size >= LANE_RING_MIN && size <= LANE_RING_MAX &&
	       (size & (size - 1)) == 0;
}

/* The limits keep every sum below far from overflowing. */
static bool
geometry_ok(const struct lane_geometry *g)
{
	return is_ring(g->grants_at, g->grants) &&
	       is_ring(g->records_at, g->records) &&
	       g->magazines_at % LANE_PAGE == 0 &&
	       g->magazines_at >= LANE_PAGE &&
	       g->magazines_at < UINT32_MAX / 2 &&
	       g->magazines <= LANE_MAGAZINES &&
	       g->magazine_room <= LANE_MAGAZINE && g->magazine_room % 8 == 0;
}

static uint32_t
later(uint32_t a, uint32_t b)
{
	return a > b ? a : b;
}

uint64_t
lane_bytes(const struct lane_geometry *g)
{
	uint32_t end;

	if (!geometry_ok(g))
		return 0;
	end =
	    later(g->grants_at + g->grants * 8, g->records_at + g->records * 8);
	return page_up(
	    later(end, g->magazines_at + g->magazines * magazine_bytes(g)));
}

static void
attach(struct lane *l, void *mem, const struct lane_geometry *g)
{
	uint8_t *base = mem;

	l->header = mem;
	l->grants = (_Atomic uint64_t *)(void *)(base + g->grants_at);
	l->records = (_Atomic uint64_t *)(void *)(base + g->records_at);
	l->magazines = base + g->magazines_at;
	l->geometry = *g;
}

int
lane_format(struct lane *l, void *mem, const struct lane_geometry *g,
    uint64_t pool_id, uint32_t holder)
{
	struct lane_header *h = mem;
	uint64_t bytes = lane_bytes(g);

	if (bytes == 0)
		return -EINVAL;
	h->format = LANE_FORMAT;
	h->header_bytes = sizeof(*h);
	h->bytes = bytes;
	h->pool_id = pool_id;
	h->holder = holder;
	h->geometry = *g;
	/* The magic comes last: what has none was never finished. */
	compiler_barrier();
	h->magic = LANE_MAGIC;
	attach(l, mem, g);
	return 0;
}

int
lane_open(
    struct lane *l, void *mem, uint64_t bytes, const struct lane_geometry *g)
{
	const struct lane_header *h = mem;
	uint64_t due = lane_bytes(g);

	if (due == 0)
		return -EINVAL;
	if (bytes < due || h->magic != LANE_MAGIC || h->format != LANE_FORMAT ||
	    h->header_bytes != sizeof(*h) || h->bytes != due)
		return -EUCLEAN;
	attach(l, mem, g);
	return 0;
}

struct lane_magazine *
lane_magazine(const struct lane *l, uint32_t i)
{
	return (
	    struct lane_magazine *)(void *)(l->magazines +
					    i * magazine_bytes(&l->geometry));
}
