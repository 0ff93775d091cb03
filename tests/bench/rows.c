#include "config.h"

#include "rows.h"

const size_t slot_sizes[] = {64, 2048, 0};
const size_t stream_sizes[] = {
    64, 256, 1 << 10, 4 << 10, 16 << 10, 64 << 10, 256 << 10, 1 << 20, 0};

static const double pipe_goals[] = {0, 0, 0, 1, 0, 4, 0, 8};

#define GOAL(bound)               \
	.goals = (const double[]) \
	{                         \
		bound, bound      \
	}
/* Within one process. */
#define LOCAL(n, w, p)                                                        \
	.name = n, .what = w, .pattern = p, .slots = LOCAL_SLOTS, .sides = 1, \
	.against_sides = 1, .sizes = slot_sizes
#define LIFO_ROW LOCAL("lifo", "allocate + free, one thread", LIFO)
#define SHUFFLED_ROW \
	LOCAL("shuffled", "64 allocated, 64 freed in random order", SHUFFLED)
#define BATCH_ROW                                                              \
	.name = "batch", .what = "4096 allocated, 4096 freed",                 \
	.pattern = BATCH, .slots = BATCH_POOL, .sides = 1, .against_sides = 1, \
	.sizes = slot_sizes
/* From one process to another. */
#define PASS_ROW                                                               \
	.name = "pass", .what = "allocated in A, passed on, freed in B",       \
	.pattern = PASS, .slots = LOCAL_SLOTS, .sides = 2, .against_sides = 2, \
	.sizes = slot_sizes
#define STREAM_ROW                                                          \
	.name = "stream",                                                   \
	.what = "payload written in A, read in B, a side sleeps when idle", \
	.pattern = STREAM, .sides = 2, .sizes = stream_sizes,               \
	.throughput = true

const struct row rows[] = {
    {LIFO_ROW, .against = &peer_dpdk, GOAL(1.0)},
    {LIFO_ROW, .against = &peer_malloc, GOAL(0.5)},
    {LIFO_ROW, .against = &peer_mimalloc},
    {LIFO_ROW, .against = &peer_list},
    {LIFO_ROW, .against = &peer_mutex},
    {LIFO_ROW, .against = &peer_no_lane},
    {SHUFFLED_ROW, .against = &peer_dpdk, GOAL(1.2)},
    {SHUFFLED_ROW, .against = &peer_malloc},
    {SHUFFLED_ROW, .against = &peer_mimalloc},
    {BATCH_ROW, .against = &peer_list, GOAL(1.0)},
    {BATCH_ROW, .against = &peer_mutex},
    {.name = "two",
	.what = "two processes at once on one pool",
	.against = &peer_slabd,
	.pattern = LIFO,
	.slots = LOCAL_SLOTS,
	.sides = 2,
	.against_sides = 1,
	.sizes = slot_sizes,
	GOAL(1.1)},
    {PASS_ROW, .against = &peer_list, GOAL(0.45), .aim = 0.35},
    {PASS_ROW, .against = &peer_boost, GOAL(0.05)},
    {PASS_ROW, .against = &peer_dpdk, GOAL(1.5), .aim = 1.0},
    {PASS_ROW, .against = &peer_mutex},
    {PASS_ROW, .against = &peer_ring},
    {STREAM_ROW, .against = &peer_pipe, .against_sides = 2,
	.goals = pipe_goals},
    {STREAM_ROW, .against = &peer_socket, .against_sides = 2},
    {STREAM_ROW, .against = &peer_zmq, .against_sides = 2},
    {STREAM_ROW, .against = &peer_memcpy, .against_sides = 1},
};
const size_t rows_count = sizeof(rows) / sizeof(rows[0]);

unsigned
stream_depth(size_t size)
{
	return size <= 4 << 10 ? QUEUE_SIZE : size < 1 << 20 ? 64 : 16;
}

unsigned
stream_slots(size_t size)
{
	return 4 * stream_depth(size);
}
