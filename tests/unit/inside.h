/*
 * The daemon in the test's own process, its loop turned by hand, so that every
 * step comes when the test wants it to. Clients are far ends of socket pairs.
 */
#ifndef SLABD_TESTS_INSIDE_H
#define SLABD_TESTS_INSIDE_H

#include <limits.h>
#include <sys/socket.h>

#include "daemon/client.h"
#include "daemon/daemon.h"
#include "daemon/event.h"
#include "daemon/lanes.h"
#include "daemon/pool.h"
#include "ring.h"
#include "scratch.h"

#define UNANSWERED INT_MIN

struct party {
	int fd; /* its end of the connection */
	struct client *client;
	uint32_t tag; /* of its last request */
	struct attachment *a;
	struct lane_end *e; /* NULL: it has no lane */
	struct lane lane;
	struct ring_outlet outlet;
};

static struct daemon inside;
static struct pool *pool;

static inline const char *
write_config(const char *more)
{
	static char path[128];
	FILE *f;

	snprintf(path, sizeof(path), "%s", scratch_path("conf"));
	f = fopen(path, "we");
	cr_assert_not_null(f);
	fprintf(f,
	    "{\"socket\": \"%s\", \"log_level\": \"error\", "
	    "\"handshake_seconds\": 3600, \"shrink_seconds\": 3600, "
	    "\"pools\": [{\"name\": \"p\", \"slot_size\": 64, "
	    "\"max_segments\": 1, \"orphan_seconds\": 3600, %s}]}",
	    scratch_path("socket"), more);
	fclose(f);
	return path;
}

/*
 * With a pool "p" that says `more`, by nobody's name, so that nothing is left
 * behind whatever happens.
 */
static inline void
begin(const char *more)
{
	struct daemon_options options = {0};

	scratch_open();
	options.config_path = write_config(more);
	daemon_start(&inside, &options);
	while (inside.listener == NULL)
		loop_poll(inside.loop);
	pool = daemon_pool(&inside, "p");
	region_unlink(&pool->region);
	region_unlink(&pool->ledger_region);
	region_unlink(&pool->claims.region);
}

static inline void
end(void)
{
	inside.force = true;
	daemon_free(&inside);
	scratch_close();
}

/* Connected, and greeted. */
static inline void
connect_as(struct party *q)
{
	static const char label[WIRE_LABEL_MAX + 1] = "test";
	int pair[2], err;

	err = socketpair(
	    AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair);
	cr_assert_eq(err, 0);
	*q = (struct party){.fd = pair[0]};
	client_accept(&inside, pair[1]);
	q->client = TAILQ_LAST(&inside.clients, client_list);
	cr_assert_eq(q->client->fd, pair[1]);
	client_welcome(q->client, label);
}

/* Attached besides, to write. */
static inline void
join_as(struct party *q, bool laned)
{
	char why[256];
	int err;

	connect_as(q);
	err = attachment_new(&q->a, pool, q->client, true, 1, why, sizeof(why));
	cr_assert_eq(err, 0, "%s", why);
	if (!laned)
		return;
	cr_assert_eq(lane_create(q->a), 0);
	q->e = q->a->lane;
	region_unlink(&q->e->object);
	q->lane = q->e->lane;
}

/* So many slots, by no message. */
static inline void
take_slots(struct party *q, uint64_t *refs, uint32_t n)
{
	cr_assert_eq(pool_alloc(q->a, n, true, 0, refs), (int)n);
}

/* Both in a pool of eight slots, of which `a` has sent one: its ref. */
static inline uint64_t
begin_with_sent(struct party *a, struct party *b, bool laned)
{
	uint64_t ref, sent;

	begin("\"slots_per_segment\": 8");
	join_as(a, false);
	join_as(b, laned);
	take_slots(a, &ref, 1);
	cr_assert_eq(pool_send(a->a, ref, &sent), 0);
	return sent;
}

static inline void
publish(struct party *q, enum lane_operation what, uint64_t ref)
{
	uint64_t record = record_make(what, ref, 0);

	cr_assert(ring_has_room(&q->lane, &q->outlet, 1));
	ring_publish(&q->lane, &q->outlet, &record, 1);
}

static inline uint64_t
ref_after(uint64_t ref)
{
	return ref_make(
	    ref_slot(ref), false, ref_version_next(ref_version(ref)));
}

/* `q` sends a request, and the daemon does what it will about it. */
static inline void
say(struct party *q, enum wire_type type, unsigned flags, const void *body,
    size_t len)
{
	struct wire_header h = {.type = (uint16_t)type,
	    .flags = (uint16_t)flags,
	    .tag = ++q->tag,
	    .attachment = q->a != NULL ? q->a->number : 0};
	uint8_t bytes[256];
	struct wire_writer w;

	wire_begin(&w, bytes, sizeof(bytes), &h);
	wire_put_bytes(&w, body, len);
	cr_assert_eq(send(q->fd, bytes, w.len, MSG_NOSIGNAL), (ssize_t)w.len);
	loop_poll(inside.loop);
}

/*
 * The status of the next message for `q`, and the first descriptor that came
 * with it (-1: none), the caller's; `fd` may be NULL. UNANSWERED: there is
 * none; -ENOTCONN: and there never will be.
 */
static inline int
hear(const struct party *q, int *fd)
{
	uint8_t bytes[WIRE_MESSAGE_MAX];
	struct iovec iov = {bytes, sizeof(bytes)};
	union {
		struct cmsghdr header;
		char room[CMSG_SPACE(WIRE_FDS_MAX * sizeof(int))];
	} control;
	struct msghdr msg = {.msg_iov = &iov,
	    .msg_iovlen = 1,
	    .msg_control = fd != NULL ? &control : NULL,
	    .msg_controllen = fd != NULL ? sizeof(control) : 0};
	ssize_t len = recvmsg(q->fd, &msg, MSG_CMSG_CLOEXEC);
	struct wire_reader r;
	struct wire_header h;

	if (fd != NULL)
		*fd = -1;
	if (len <= 0)
		return len == 0 ? -ENOTCONN : UNANSWERED;
	cr_assert_eq(wire_open(&r, bytes, (size_t)len, &h), 0);
	if (fd != NULL && CMSG_FIRSTHDR(&msg) != NULL)
		memcpy(fd, CMSG_DATA(CMSG_FIRSTHDR(&msg)), sizeof(int));
	return h.status;
}

/* Both. */
static inline int
ask(struct party *q, enum wire_type type, unsigned flags, const void *body,
    size_t len)
{
	say(q, type, flags, body, len);
	return hear(q, NULL);
}

#endif
