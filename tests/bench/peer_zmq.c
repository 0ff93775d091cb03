/*
 * ZeroMQ between two processes: PUSH to PULL, the message filled in place. The
 * address is an abstract one, so no file stays behind.
 */
#include "config.h"

#include "bench.h"
#include "payload.h"
#include "peer.h"

#ifdef HAVE_ZMQ
#include <stdio.h>
#include <zmq.h>

static void *end;
static size_t len;

static const char *
enter(const struct setting *s, unsigned side)
{
	void *context = zmq_ctx_new();
	int depth = (int)s->in_flight;
	char address[64];

	len = s->slot_size;
	/* Both sides have one parent. */
	snprintf(address, sizeof(address), "ipc://@slabd-bench-%d", getppid());
	end = zmq_socket(context, side == 0 ? ZMQ_PUSH : ZMQ_PULL);
	zmq_setsockopt(end, ZMQ_SNDHWM, &depth, sizeof(depth));
	zmq_setsockopt(end, ZMQ_RCVHWM, &depth, sizeof(depth));
	if ((side == 0 ? zmq_bind : zmq_connect)(end, address) != 0)
		return zmq_strerror(zmq_errno());
	return NULL;
}

static uint64_t
run(enum pattern pattern, unsigned side, uint64_t n)
{
	zmq_msg_t message;

	(void)pattern;
	for (uint64_t i = 0; i < n && side == 0; i++) {
		zmq_msg_init_size(&message, len);
		payload_write(zmq_msg_data(&message), len, i);
		if (zmq_msg_send(&message, end, 0) < 0)
			bench_die("zmq_msg_send");
	}
	for (uint64_t i = 0; i < n && side == 1; i++) {
		zmq_msg_init(&message);
		if (zmq_msg_recv(&message, end, 0) < 0)
			bench_die("zmq_msg_recv");
		payload_read(zmq_msg_data(&message), len, i);
		zmq_msg_close(&message);
	}
	return 0;
}

const struct peer peer_zmq = {.name = "ZeroMQ", .enter = enter, .run = run};

#else

static const char *
prepare(const struct setting *s)
{
	(void)s;
	return "not installed";
}

const struct peer peer_zmq = {.name = "ZeroMQ", .prepare = prepare};

#endif
