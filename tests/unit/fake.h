/*
 * A daemon of the test's own making. Each test gives it a script: one function
 * for each connection it accepts. When that returns the connection is closed,
 * as by a daemon that dies.
 */
#ifndef SLABD_TESTS_FAKE_H
#define SLABD_TESTS_FAKE_H

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "scratch.h"
#include "connection.h"

#define SLOT_SIZE 4096u
#define SEGMENT	  4u /* slots */
#define SEGMENTS  2u
#define REGION	  (SLOT_SIZE * SEGMENT * SEGMENTS)
#define POOL	  7u /* the attachment's number */
#define SCRIPTS	  64
#define OFFSET(i) ((uint64_t)(i)*SLOT_SIZE)

/* The last failure's words contain these. */
#define SAYS(words)         \
	cr_assert_not_null( \
	    strstr(slabd_error_detail(), (words)), "%s", slabd_error_detail())

struct request {
	struct wire_header h;
	struct wire_reader in;
	uint8_t buf[WIRE_MESSAGE_MAX];
};

static struct {
	int listener, region;
	pthread_t thread;
	void (*script[SCRIPTS])(int);
	uint64_t session; /* of the next one that says hello */
	uint64_t asked;	  /* the session the last one asked for */
	char label[WIRE_LABEL_MAX + 1];
} fake = {.listener = -1, .region = -1, .session = 1};

static inline int
listen_at(const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	strcpy(address.sun_path, path);
	cr_assert_eq(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	cr_assert_eq(listen(fd, 8), 0);
	return fd;
}

/* The next message; false when the client hung up. */
static inline bool
get(int fd, struct request *rq)
{
	ssize_t len = recv(fd, rq->buf, sizeof(rq->buf), 0);

	return len > 0 && wire_open(&rq->in, rq->buf, (size_t)len, &rq->h) == 0;
}

static inline void
expect(int fd, struct request *rq, enum wire_type type)
{
	cr_assert(get(fd, rq), "%s did not come", wire_type_name(type));
	cr_assert_eq(rq->h.type, type, "%s came, not %s",
	    wire_type_name(rq->h.type), wire_type_name(type));
	cr_assert_neq(rq->h.tag, 0);
}

static inline void
expect_end(int fd)
{
	static struct request rq;

	cr_assert(!get(fd, &rq), "%s came", wire_type_name(rq.h.type));
}

static inline void
put_fd(int fd, const struct wire_writer *w, int passed)
{
	_Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {0};
	struct iovec iov = {w->buf, w->len};
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
	struct cmsghdr *c;

	if (passed >= 0) {
		msg.msg_control = control;
		msg.msg_controllen = sizeof(control);
		c = CMSG_FIRSTHDR(&msg);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(c), &passed, sizeof(int));
	}
	sendmsg(fd, &msg, MSG_NOSIGNAL);
}

static inline void
put(int fd, const struct wire_writer *w)
{
	put_fd(fd, w, -1);
}

static uint8_t outbox[WIRE_MESSAGE_MAX];

/* Begins the answer to a request. */
static inline struct wire_writer
reply(const struct request *rq, int32_t status)
{
	struct wire_header h = {.type = rq->h.type | WIRE_REPLY,
	    .tag = rq->h.tag,
	    .status = status,
	    .attachment = rq->h.attachment};
	struct wire_writer w;

	wire_begin(&w, outbox, sizeof(outbox), &h);
	return w;
}

static inline void
put_plain(int fd, const struct request *rq, int32_t status)
{
	struct wire_writer w = reply(rq, status);

	put(fd, &w);
}

static inline struct wire_writer
event(enum wire_type type)
{
	struct wire_header h = {.type = (uint16_t)type, .attachment = POOL};
	struct wire_writer w;

	wire_begin(&w, outbox, sizeof(outbox), &h);
	return w;
}

static inline void
serve(int fd, enum wire_type type)
{
	static struct request rq;

	expect(fd, &rq, type);
	put_plain(fd, &rq, 0);
}

static inline void
answer_hello(int fd, uint64_t session)
{
	static struct request rq;
	struct wire_writer w;

	expect(fd, &rq, WIRE_HELLO);
	cr_assert_eq(wire_get_u32(&rq.in), WIRE_MAGIC);
	cr_assert_leq(wire_get_u16(&rq.in), WIRE_VERSION);
	cr_assert_geq(wire_get_u16(&rq.in), WIRE_VERSION);
	wire_get_u64(&rq.in);
	fake.asked = wire_get_u64(&rq.in);
	cr_assert_eq(wire_get_u64(&rq.in), fake.asked != 0 ? 99 : 0);
	wire_get_string(&rq.in, fake.label, sizeof(fake.label));
	cr_assert(wire_done(&rq.in));
	w = reply(&rq, 0);
	wire_put_u16(&w, WIRE_VERSION);
	wire_put_u16(&w, 0);
	wire_put_u32(&w, WIRE_BATCH_MAX);
	wire_put_u64(&w, 0);
	wire_put_u64(&w, session);
	wire_put_u64(&w, 99);
	wire_put_u64(&w, 5);
	wire_put_u32(&w, WIRE_MESSAGE_MAX);
	wire_put_string(&w, "fake", 63);
	put(fd, &w);
}

static inline void
welcome(int fd)
{
	answer_hello(fd, fake.session++);
}

/*
 * What a full daemon says to whoever connects, asked or not, before it hangs
 * up.
 */
static inline void
turn_away(int fd)
{
	struct wire_header h = {
	    .type = WIRE_HELLO | WIRE_REPLY, .status = -EUSERS};
	uint8_t buf[64];
	struct wire_writer w;

	wire_begin(&w, buf, sizeof(buf), &h);
	wire_put_bytes(&w, "the house is full", 17);
	put(fd, &w);
}

struct geometry {
	uint64_t bytes, slot_size;
	uint32_t segment_slots, segments, rights, n, kind;
};

static const struct geometry good = {REGION, SLOT_SIZE, SEGMENT, SEGMENTS,
    WIRE_RIGHT_READ | WIRE_RIGHT_WRITE, 1, WIRE_FD_REGION};

static inline void
serve_attach(int fd, const struct geometry *g, int region)
{
	static struct request rq;
	struct wire_writer w;

	expect(fd, &rq, WIRE_ATTACH);
	rq.h.attachment = POOL;
	w = reply(&rq, 0);
	wire_put_u64(&w, g->bytes);
	wire_put_u64(&w, g->slot_size);
	wire_put_u32(&w, g->segment_slots);
	wire_put_u32(&w, g->segments);
	wire_put_u32(&w, g->rights);
	wire_put_u32(&w, 0);
	wire_put_u64(&w, 1);
	wire_put_u32(&w, g->n);
	wire_put_u32(&w, 0);
	for (uint32_t i = 0; i < g->n; i++) {
		wire_put_u32(&w, g->kind);
		wire_put_u32(&w, 0);
		wire_put_u64(&w, g->bytes);
	}
	put_fd(fd, &w, region);
}

/* The beginning of most scripts. */
static inline void
welcome_attached(int fd)
{
	welcome(fd);
	serve_attach(fd, &good, fake.region);
}

static inline void
put_grant(int fd, const struct request *rq, uint32_t first, uint32_t n,
    uint64_t version)
{
	struct wire_writer w = reply(rq, (int32_t)n);

	for (uint32_t i = first; i < first + n; i++) {
		wire_put_u64(&w, ref_make(i, false, version));
		wire_put_u64(&w, OFFSET(i));
	}
	put(fd, &w);
}

static inline void
serve_alloc(int fd, uint32_t first, uint64_t version)
{
	static struct request rq;

	expect(fd, &rq, WIRE_ALLOC);
	cr_assert_eq(rq.h.attachment, POOL);
	put_grant(fd, &rq, first, wire_get_u32(&rq.in), version);
}

/* Answers SEND or SHARE with `ref`. */
static inline void
serve_ref(int fd, enum wire_type type, uint64_t ref)
{
	static struct request rq;
	struct wire_writer w;

	expect(fd, &rq, type);
	w = reply(&rq, 0);
	wire_put_u64(&w, ref);
	put(fd, &w);
}

static inline void
put_received(int fd, const struct request *rq, uint64_t ref)
{
	struct wire_writer w = reply(rq, 0);

	wire_put_u64(&w, ref);
	wire_put_u64(&w, OFFSET(ref_slot(ref)));
	put(fd, &w);
}

static inline void
serve_free(int fd, uint64_t ref)
{
	static struct request rq;

	expect(fd, &rq, WIRE_FREE);
	cr_assert_eq(wire_get_u64(&rq.in), ref);
	cr_assert(wire_done(&rq.in));
	put_plain(fd, &rq, 1);
}

static inline void *
server(void *arg)
{
	int fd;

	(void)arg;
	for (int i = 0; i < SCRIPTS && fake.script[i] != NULL; i++) {
		fd = accept4(fake.listener, NULL, NULL, SOCK_CLOEXEC);
		cr_assert_geq(fd, 0);
		fake.script[i](fd);
		close(fd);
	}
	return NULL;
}

static inline void
fake_start(void (*first)(int), void (*second)(int))
{
	fake.script[0] = first;
	fake.script[1] = second;
	fake.region = memfd_create("region", MFD_CLOEXEC);
	cr_assert_eq(ftruncate(fake.region, REGION), 0);
	fake.listener = listen_at(scratch_path("sock"));
	cr_assert_eq(pthread_create(&fake.thread, NULL, server, NULL), 0);
}

static inline void
fake_end(void)
{
	pthread_join(fake.thread, NULL);
	close(fake.listener);
	close(fake.region);
}

/* Whose calls wait so long for a daemon that went away. */
static inline struct slabd *
open_patient(int32_t reconnect_ms)
{
	struct slabd_options opt = SLABD_OPTIONS_INIT;
	struct slabd *s;
	int err;

	opt.socket_path = scratch_path("sock");
	opt.label = "tester";
	opt.reconnect_ms = reconnect_ms;
	err = slabd_open_options(&s, &opt);
	cr_assert_eq(err, 0, "%d %s", err, slabd_error_detail());
	return s;
}

static inline struct slabd *
open_fake(void)
{
	return open_patient(0);
}

static inline struct slabd_pool *
attach_fake(struct slabd *s, unsigned flags)
{
	struct slabd_pool *p;
	int err = slabd_pool_attach(&p, s, "pool", flags);

	cr_assert_eq(err, 0, "%d %s", err, slabd_error_detail());
	return p;
}

/* A request with an empty body, about no pool; its status. */
static inline int
ask(struct slabd *s, enum wire_type type)
{
	return slabd_request(s, type, 0, 0, NULL, 0, NULL);
}

#define CHURN_THREADS 8
#define CHURN_ROUNDS  300

static inline void *
alloc_and_free(void *pool)
{
	for (int i = 0; i < CHURN_ROUNDS; i++) {
		unsigned *slot = slabd_alloc(pool);
		unsigned mark = (unsigned)(uintptr_t)&slot;

		cr_assert_not_null(slot, "%s", slabd_error_detail());
		*slot = mark;
		sched_yield();
		cr_assert_eq(*slot, mark);
		cr_assert_eq(slabd_free(pool, slot), 0);
	}
	return NULL;
}

/* Many threads allocate and free; no two may have the same slot. */
static inline void
churn(struct slabd_pool *p)
{
	pthread_t threads[CHURN_THREADS];

	for (int i = 0; i < CHURN_THREADS; i++)
		pthread_create(&threads[i], NULL, alloc_and_free, p);
	for (int i = 0; i < CHURN_THREADS; i++)
		pthread_join(threads[i], NULL);
}

static inline bool
readable(int fd, int timeout_ms)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};

	return poll(&p, 1, timeout_ms) == 1;
}

static inline unsigned
open_fds(void)
{
	unsigned n = 0;

	for (int fd = 0; fd < 256; fd++)
		n += fcntl(fd, F_GETFD) >= 0;
	return n;
}

#endif
