/*
 * slabd itself, by its public interface alone: with lanes, and with every
 * operation a message on the socket.
 */
#include "config.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "slabd.h"

#include "bench.h"
#include "peer.h"

static struct slabd_pool *pool;
static struct setting setting;

static inline void *
slot_alloc(void)
{
	void *slot = slabd_alloc(pool);

	if (slot == NULL)
		bench_die(slabd_error_detail());
	return slot;
}

static inline void
slot_free(void *slot)
{
	if (slabd_free(pool, slot) != 0)
		bench_die(slabd_error_detail());
}

static inline uint64_t
slot_give(void *slot)
{
	slabd_ref ref;

	if (slabd_send(pool, slot, &ref) != 0)
		bench_die(slabd_error_detail());
	return ref;
}

static inline void *
slot_take(uint64_t ref)
{
	void *slot;

	if (slabd_receive(pool, ref, &slot) != 0)
		bench_die(slabd_error_detail());
	return slot;
}

#include "loops.h"

static const char *
enter(const struct setting *s, unsigned side, unsigned flags)
{
	struct slabd *slabd;
	char name[32];

	setting = *s;
	loops_enter(s, side);
	loops_end.sleeps = s->pattern == STREAM;
	snprintf(name, sizeof(name), "%ux%zu", s->slots, s->slot_size);
	if (slabd_open(&slabd, NULL) != 0 ||
	    slabd_pool_attach(&pool, slabd, name, flags) != 0)
		return slabd_error_detail();
	return NULL;
}

static const char *
enter_lane(const struct setting *s, unsigned side)
{
	return enter(s, side, 0);
}

static const char *
enter_socket(const struct setting *s, unsigned side)
{
	return enter(s, side, SLABD_NO_LANE);
}

/* Sends n slots, the first `payload` bytes written. */
static void
produce(uint64_t n, size_t payload)
{
	for (uint64_t i = 0; i < n; i++) {
		void *slot = slot_alloc();

		payload_write(slot, payload, i);
		queue_put(&loops_end, slot_give(slot));
	}
}

/* An entry leaves the queue only when its slot is free: that is in flight. */
static void
consume(uint64_t n, size_t payload)
{
	for (uint64_t i = 0; i < n; i++) {
		void *slot = slot_take(queue_peek(&loops_end));

		payload_read(slot, payload, i);
		slot_free(slot);
		queue_pop(&loops_end);
	}
}

/* As produce(); how many different slots it used. */
static uint64_t
flow(uint64_t n)
{
	bool *used = calloc(setting.slots, sizeof(*used));
	uint64_t different = 0;

	if (used == NULL)
		bench_die("flow");
	for (uint64_t i = 0; i < n; i++) {
		void *slot = slot_alloc();
		uint64_t at = slabd_offset(pool, slot) / setting.slot_size;

		different += !used[at];
		used[at] = true;
		payload_write(slot, PAYLOAD_LINE, i);
		queue_put(&loops_end, slot_give(slot));
	}
	free(used);
	return different;
}

static uint64_t
run(enum pattern pattern, unsigned side, uint64_t n)
{
	size_t payload = pattern == STREAM ? setting.slot_size : PAYLOAD_LINE;

	if (pattern < STREAM)
		return loops_run(pattern, side, n);
	if (side == 1)
		consume(n, payload);
	else if (pattern == FLOW)
		return flow(n);
	else
		produce(n, payload);
	return 0;
}

const struct peer peer_slabd = {
    .name = "slabd", .enter = enter_lane, .run = run};
const struct peer peer_no_lane = {
    .name = "slabd by the socket alone", .enter = enter_socket, .run = run};
