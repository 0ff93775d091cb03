#include "config.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "barrier.h"
#include "claim.h"
#include "raw.h"

static void
close_fds(struct raw_message *m)
{
	for (unsigned i = 0; i < WIRE_FDS_MAX; i++)
		if (m->fds[i] >= 0)
			close(m->fds[i]);
}

int
raw_connect(struct raw *r, const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	struct timeval patience = {.tv_sec = RAW_PATIENCE};
	int err;

	*r = (struct raw){.fd = -1};
	STAILQ_INIT(&r->kept);
	if (strlen(path) >= sizeof(address.sun_path))
		return -ENAMETOOLONG;
	strcpy(address.sun_path, path);
	r->fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	if (r->fd < 0)
		return -errno;
	setsockopt(r->fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	setsockopt(r->fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
	if (connect(r->fd, (struct sockaddr *)&address, sizeof(address)) == 0)
		return 0;
	err = -errno;
	raw_close(r);
	return err;
}

void
raw_close(struct raw *r)
{
	struct raw_message *m;

	while ((m = STAILQ_FIRST(&r->kept)) != NULL) {
		STAILQ_REMOVE_HEAD(&r->kept, entry);
		close_fds(m);
		free(m);
	}
	if (r->fd >= 0)
		close(r->fd);
	r->fd = -1;
}

int
raw_put(struct raw *r, const void *bytes, size_t len, int fd)
{
	struct iovec iov = {(void *)(uintptr_t)bytes, len};
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
	union {
		struct cmsghdr header;
		char room[CMSG_SPACE(sizeof(int))];
	} control;

	if (fd >= 0) {
		memset(&control, 0, sizeof(control));
		control.header.cmsg_level = SOL_SOCKET;
		control.header.cmsg_type = SCM_RIGHTS;
		control.header.cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(&control.header), &fd, sizeof(int));
		msg.msg_control = &control;
		msg.msg_controllen = sizeof(control);
	}
	if (sendmsg(r->fd, &msg, MSG_NOSIGNAL) >= 0)
		return 0;
	return errno == EAGAIN ? -ETIMEDOUT : -errno;
}

/* The descriptors a message brings. */
static void
passed_fds(struct msghdr *msg, int *fds)
{
	struct cmsghdr *c = CMSG_FIRSTHDR(msg);

	for (unsigned i = 0; i < WIRE_FDS_MAX; i++)
		fds[i] = -1;
	if (c != NULL && c->cmsg_type == SCM_RIGHTS &&
	    c->cmsg_len <= CMSG_LEN(WIRE_FDS_MAX * sizeof(int)))
		memcpy(fds, CMSG_DATA(c), c->cmsg_len - CMSG_LEN(0));
}

static int
read_message(struct raw *r, struct raw_message *m)
{
	uint8_t bytes[WIRE_MESSAGE_MAX];
	struct iovec iov = {bytes, sizeof(bytes)};
	union {
		struct cmsghdr header;
		char room[CMSG_SPACE(WIRE_FDS_MAX * sizeof(int))];
	} control;
	struct msghdr msg = {.msg_iov = &iov,
	    .msg_iovlen = 1,
	    .msg_control = &control,
	    .msg_controllen = sizeof(control)};
	struct wire_reader in;
	ssize_t n;

	n = recvmsg(r->fd, &msg, MSG_CMSG_CLOEXEC);
	if (n < 0)
		return errno == EAGAIN ? -ETIMEDOUT : -errno;
	if (n == 0)
		return -ENOTCONN;
	passed_fds(&msg, m->fds);
	if ((msg.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0 ||
	    wire_open(&in, bytes, (size_t)n, &m->h) != 0)
		return -EBADMSG;
	m->len = (size_t)n - WIRE_HEADER_BYTES;
	memcpy(m->body, bytes + WIRE_HEADER_BYTES, m->len);
	return 0;
}

int
raw_next(struct raw *r, struct raw_message *m)
{
	struct raw_message *kept = STAILQ_FIRST(&r->kept);

	if (kept == NULL)
		return read_message(r, m);
	STAILQ_REMOVE_HEAD(&r->kept, entry);
	*m = *kept;
	free(kept);
	return 0;
}

static bool
wanted(const struct raw_message *m, unsigned event, uint32_t tag)
{
	if (event != 0)
		return m->h.type == event;
	return (m->h.type & WIRE_REPLY) != 0 && m->h.tag == tag;
}

static int
find(struct raw *r, unsigned event, uint32_t tag, struct raw_message *m)
{
	struct raw_message *kept;
	int err;

	STAILQ_FOREACH (kept, &r->kept, entry) {
		if (!wanted(kept, event, tag))
			continue;
		STAILQ_REMOVE(&r->kept, kept, raw_message, entry);
		*m = *kept;
		free(kept);
		return 0;
	}
	while ((err = read_message(r, m)) == 0 && !wanted(m, event, tag)) {
		kept = malloc(sizeof(*kept));
		if (kept == NULL)
			return -ENOMEM;
		*kept = *m;
		STAILQ_INSERT_TAIL(&r->kept, kept, entry);
	}
	return err;
}

int
raw_wait(struct raw *r, uint32_t tag, struct raw_message *m)
{
	struct raw_message own;
	int err = find(r, 0, tag, m != NULL ? m : &own);

	if (err != 0)
		return err;
	if (m != NULL)
		return m->h.status;
	close_fds(&own);
	return own.h.status;
}

int
raw_event(struct raw *r, unsigned type, struct raw_message *m)
{
	return find(r, type, 0, m);
}

uint32_t
raw_post(struct raw *r, unsigned type, unsigned flags, uint32_t attachment,
    const void *body, size_t len)
{
	struct wire_header h = {.type = (uint16_t)type,
	    .flags = (uint16_t)flags,
	    .tag = ++r->tag,
	    .attachment = attachment};
	uint8_t bytes[WIRE_MESSAGE_MAX];
	struct wire_writer out;

	wire_begin(&out, bytes, sizeof(bytes), &h);
	if (len > 0)
		wire_put_bytes(&out, body, len);
	/* A closed socket shows itself when the reply is read. */
	raw_put(r, bytes, out.len, -1);
	return h.tag;
}

int
raw_call(struct raw *r, unsigned type, unsigned flags, uint32_t attachment,
    const void *body, size_t len, struct raw_message *m)
{
	return raw_wait(r, raw_post(r, type, flags, attachment, body, len), m);
}

/* A body is written like a message, and begins behind the header. */
struct body {
	uint8_t bytes[WIRE_MESSAGE_MAX];
	struct wire_writer out;
};

static struct wire_writer *
body_begin(struct body *b)
{
	struct wire_header none = {0};

	wire_begin(&b->out, b->bytes, sizeof(b->bytes), &none);
	return &b->out;
}

static int
body_call(struct raw *r, unsigned type, uint32_t attachment, struct body *b,
    struct raw_message *m)
{
	return raw_call(r, type, 0, attachment, b->bytes + WIRE_HEADER_BYTES,
	    b->out.len - WIRE_HEADER_BYTES, m);
}

static struct wire_reader
body_of(const struct raw_message *m)
{
	return (struct wire_reader){.buf = m->body, .len = m->len};
}

size_t
raw_name(uint8_t *out, const char *name)
{
	size_t len = strlen(name);

	out[0] = (uint8_t)len;
	out[1] = (uint8_t)(len >> 8);
	memcpy(out + 2, name, len);
	return len + 2;
}

int
raw_hello(struct raw *r, const char *label)
{
	struct raw_message m = {.len = 0};
	struct wire_reader in;
	struct wire_writer *out;
	struct body b;
	int err;

	out = body_begin(&b);
	wire_put_u32(out, WIRE_MAGIC);
	wire_put_u16(out, WIRE_VERSION);
	wire_put_u16(out, WIRE_VERSION);
	wire_put_u64(out, 0);
	wire_put_u64(out, r->session);
	wire_put_u64(out, r->token);
	wire_put_string(out, label, WIRE_LABEL_MAX);
	err = body_call(r, WIRE_HELLO, 0, &b, &m);
	if (err != 0)
		return err;
	in = body_of(&m);
	/* Version, the largest batch, features. */
	wire_get_u64(&in);
	wire_get_u64(&in);
	r->session = wire_get_u64(&in);
	r->token = wire_get_u64(&in);
	return 0;
}

int
raw_reopen(struct raw *r, const char *path, const char *label)
{
	uint64_t session = r->session, token = r->token;
	uint32_t tag = r->tag;
	int err;

	raw_close(r);
	err = raw_connect(r, path);
	r->session = session;
	r->token = token;
	r->tag = tag;
	if (err == 0)
		err = raw_hello(r, label);
	return err != 0 ? err : r->session == session;
}

int
raw_resume(struct raw *r, uint32_t attachment)
{
	struct raw_message m = {.fds = {-1, -1, -1, -1}};
	int err = raw_call(r, WIRE_RESUME, 0, attachment, NULL, 0, &m);

	close_fds(&m);
	return err;
}

int
raw_resume_lane(struct raw *r, struct raw_lane *l)
{
	struct raw_message m = {.fds = {-1, -1, -1, -1}};
	int err = raw_call(r, WIRE_RESUME, 0, l->pool.number, NULL, 0, &m);

	if (err != 0) {
		close_fds(&m);
		return err;
	}
	if (m.fds[0] < 0)
		return -EBADMSG;
	close(l->doorbell);
	l->doorbell = m.fds[0];
	raw_lane_bell(l);
	return 0;
}

int
raw_again(struct raw *r, uint32_t tag, unsigned type, unsigned flags,
    uint32_t attachment, const void *body, size_t len, struct raw_message *m)
{
	uint32_t last = r->tag;
	int status;

	r->tag = tag - 1;
	raw_post(r, type, flags | WIRE_AGAIN, attachment, body, len);
	r->tag = last;
	status = raw_wait(r, tag, m);
	return status;
}

int
raw_open(struct raw *r, const char *path, const char *label)
{
	int err = raw_connect(r, path);

	return err != 0 ? err : raw_hello(r, label);
}

int
raw_ping(struct raw *r)
{
	return raw_call(r, WIRE_PING, 0, 0, NULL, 0, NULL);
}

int
raw_bye(struct raw *r)
{
	return raw_call(r, WIRE_BYE, 0, 0, NULL, 0, NULL);
}

static int
attach(struct raw *r, const char *name, uint32_t flags, struct raw_message *m)
{
	struct wire_writer *out;
	struct body b;

	out = body_begin(&b);
	wire_put_u32(out, flags);
	wire_put_string(out, name, WIRE_MESSAGE_MAX);
	return body_call(r, WIRE_ATTACH, 0, &b, m);
}

/* What every attachment has; the rest is left in the reader. */
static void
take_pool(
    const struct raw_message *m, struct wire_reader *in, struct raw_pool *p)
{
	*in = body_of(m);
	p->number = m->h.attachment;
	p->fd = m->fd;
	p->bytes = wire_get_u64(in);
	p->slot_size = wire_get_u64(in);
	p->segment_slots = wire_get_u32(in);
	p->segments = wire_get_u32(in);
	p->rights = wire_get_u32(in);
	p->features = wire_get_u32(in);
	p->identity = wire_get_u64(in);
}

int
raw_attach(struct raw *r, const char *name, uint32_t flags, struct raw_pool *p)
{
	struct raw_message m;
	struct wire_reader in;
	int err = attach(r, name, flags, &m);

	if (err != 0)
		return err;
	take_pool(&m, &in, p);
	for (unsigned i = 1; i < WIRE_FDS_MAX; i++)
		if (m.fds[i] >= 0)
			close(m.fds[i]);
	return 0;
}

/* The list of descriptors and, with a lane, its geometry. */
static int
take_lane(const struct raw_message *m, struct wire_reader *in,
    struct raw_lane *l, struct lane_geometry *g)
{
	static const uint32_t kinds[] = {
	    WIRE_FD_REGION, WIRE_FD_CLAIMS, WIRE_FD_LANE, WIRE_FD_DOORBELL};
	uint32_t n = wire_get_u32(in),
		 *fields[] = {&g->grants_at, &g->grants, &g->records_at,
		     &g->records, &g->magazines_at, &g->magazines,
		     &g->magazine_room, &g->zero};
	bool with = (l->pool.features & WIRE_ATTACHED_LANE) != 0;
	uint64_t bytes[4] = {0};
	bool good = n == (with ? 4 : 1) && wire_get_u32(in) == 0;

	for (uint32_t i = 0; i < 4; i++) {
		if (i >= n) {
			good = good && m->fds[i] < 0;
			continue;
		}
		good = wire_get_u32(in) == kinds[i] && wire_get_u32(in) == 0 &&
		       m->fds[i] >= 0 && good;
		bytes[i] = wire_get_u64(in);
	}
	for (unsigned i = 0; i < 8 && with; i++)
		*fields[i] = wire_get_u32(in);
	l->claims_fd = m->fds[1];
	l->lane_fd = m->fds[2];
	l->doorbell = m->fds[3];
	l->claims_bytes = bytes[1];
	l->lane_bytes = bytes[2];
	return good && bytes[0] == l->pool.bytes && bytes[3] == 0 &&
		       wire_done(in)
		   ? 0
		   : -EBADMSG;
}

static void *
map(int fd, uint64_t bytes)
{
	void *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	return at == MAP_FAILED ? NULL : at;
}

int
raw_attach_lane(
    struct raw *r, const char *name, uint32_t flags, struct raw_lane *l)
{
	struct lane_geometry g = {0};
	struct raw_message m;
	struct wire_reader in;
	void *mem;
	int err;

	*l = (struct raw_lane){
	    .pool.fd = -1, .lane_fd = -1, .claims_fd = -1, .doorbell = -1};
	/* The daemon's barriers must reach us. */
	barrier_join();
	err = attach(r, name, flags | WIRE_ATTACH_LANE, &m);
	if (err != 0)
		return err;
	take_pool(&m, &in, &l->pool);
	err = take_lane(&m, &in, l, &g);
	if (err != 0 || (l->pool.features & WIRE_ATTACHED_LANE) == 0)
		return err;
	l->claims = map(l->claims_fd, l->claims_bytes);
	mem = map(l->lane_fd, l->lane_bytes);
	if (l->claims == NULL || mem == NULL)
		return -ENOMEM;
	return lane_open(&l->lane, mem, l->lane_bytes, &g);
}

void
raw_lane_close(struct raw_lane *l)
{
	int *fds[] = {&l->pool.fd, &l->claims_fd, &l->lane_fd, &l->doorbell};

	if (l->lane.header != NULL)
		munmap(l->lane.header, l->lane_bytes);
	if (l->claims != NULL)
		munmap((void *)l->claims, l->claims_bytes);
	l->lane.header = NULL;
	l->claims = NULL;
	for (unsigned i = 0; i < 4; i++) {
		if (*fds[i] >= 0)
			close(*fds[i]);
		*fds[i] = -1;
	}
}

unsigned
raw_lane_take(struct raw_lane *l, uint64_t *refs, unsigned n)
{
	return ring_take(&l->lane, refs, n);
}

bool
raw_lane_put(struct raw_lane *l, const uint64_t *records, unsigned n)
{
	if (!ring_has_room(&l->lane, &l->outlet, n))
		return false;
	ring_publish(&l->lane, &l->outlet, records, n);
	/* Whoever looks at the claims or at `eager` next does so later. */
	atomic_thread_fence(memory_order_seq_cst);
	return true;
}

bool
raw_lane_record(
    struct raw_lane *l, enum lane_operation what, uint64_t ref, unsigned count)
{
	uint64_t record = record_make(what, ref, count);

	return raw_lane_put(l, &record, 1);
}

/* Each of these looks for room first: what fails has changed nothing. */

static uint64_t
next_ref(uint64_t ref, bool shared)
{
	return ref_make(
	    ref_slot(ref), shared, ref_version_next(ref_version(ref)));
}

int
raw_lane_send(struct raw_lane *l, uint64_t ref, uint64_t *out)
{
	if (!ring_has_room(&l->lane, &l->outlet, 1))
		return -ENOSPC;
	*out = next_ref(ref, false);
	claim_offer(l->claims, *out, 1);
	raw_lane_record(l, LANE_SEND, ref, 0);
	return 0;
}

int
raw_lane_share(struct raw_lane *l, uint64_t ref, unsigned n, uint64_t *out)
{
	if (!ring_has_room(&l->lane, &l->outlet, 1))
		return -ENOSPC;
	*out = next_ref(ref, true);
	claim_offer(l->claims, *out, n);
	raw_lane_record(l, LANE_SHARE, ref, n);
	return 0;
}

int
raw_lane_receive(struct raw_lane *l, uint64_t ref)
{
	if (!ring_has_room(&l->lane, &l->outlet, 1))
		return -ENOSPC;
	if (claim_take(l->claims, ref, 1) == 0)
		return -ESTALE;
	raw_lane_record(l, LANE_RECEIVE, ref, 0);
	return claim_stands(l->claims, ref) ? 0 : -EAGAIN;
}

int
raw_lane_recall(struct raw_lane *l, uint64_t ref, unsigned n)
{
	unsigned got;

	if (!ring_has_room(&l->lane, &l->outlet, 1))
		return -ENOSPC;
	got = claim_take(l->claims, ref, n);
	if (got > 0)
		raw_lane_record(l, LANE_RECALL, ref, got);
	return (int)got;
}

bool
raw_lane_ring(struct raw_lane *l)
{
	if (!ring_is_due(&l->lane, &l->outlet) || !ring_wake(&l->lane))
		return false;
	raw_lane_bell(l);
	return true;
}

void
raw_lane_bell(struct raw_lane *l)
{
	eventfd_write(l->doorbell, 1);
}

uint64_t
raw_lane_refused(struct raw_lane *l)
{
	/* Acquire: with the daemon's release after it wrote the ref. */
	if (load_acquire(&l->lane.header->refused_tail) == l->refused)
		return 0;
	return load_relaxed(
	    &l->lane.header->refused[l->refused++ % LANE_REFUSED]);
}

int
raw_detach(struct raw *r, uint32_t attachment)
{
	return raw_call(r, WIRE_DETACH, 0, attachment, NULL, 0, NULL);
}

static int
call_u32(struct raw *r, unsigned type, uint32_t attachment, uint32_t value)
{
	struct body b;

	wire_put_u32(body_begin(&b), value);
	return body_call(r, type, attachment, &b, NULL);
}

int
raw_extend(struct raw *r, uint32_t attachment, uint32_t segments)
{
	return call_u32(r, WIRE_EXTEND, attachment, segments);
}

int
raw_cancel(struct raw *r, uint32_t attachment, uint32_t tag)
{
	return call_u32(r, WIRE_CANCEL, attachment, tag);
}

/* The refs in an ALLOC's reply. */
static int
take_refs(int status, const struct raw_message *m, uint64_t *refs)
{
	struct wire_reader in;

	if (status <= 0)
		return status;
	in = body_of(m);
	for (int i = 0; i < status; i++) {
		refs[i] = wire_get_u64(&in);
		wire_get_u64(&in); /* offset */
	}
	return wire_done(&in) ? status : -EBADMSG;
}

int
raw_alloc(struct raw *r, uint32_t attachment, uint32_t n, uint64_t *refs)
{
	struct raw_message m;
	struct body b;
	int status;

	wire_put_u32(body_begin(&b), n);
	status = body_call(r, WIRE_ALLOC, attachment, &b, &m);
	return take_refs(status, &m, refs);
}

uint32_t
raw_post_alloc(struct raw *r, uint32_t attachment, uint32_t n)
{
	struct body b;

	wire_put_u32(body_begin(&b), n);
	return raw_post(r, WIRE_ALLOC, WIRE_WAIT, attachment,
	    b.bytes + WIRE_HEADER_BYTES, 4);
}

int
raw_wait_alloc(struct raw *r, uint32_t tag, uint64_t *refs)
{
	struct raw_message m;
	int status = raw_wait(r, tag, &m);

	return take_refs(status, &m, refs);
}

int
raw_free(struct raw *r, uint32_t attachment, const uint64_t *refs, size_t n)
{
	struct wire_writer *out;
	struct body b;

	out = body_begin(&b);
	for (size_t i = 0; i < n; i++)
		wire_put_u64(out, refs[i]);
	return body_call(r, WIRE_FREE, attachment, &b, NULL);
}

/* A body of one ref, and of a ref and a number. */
static int
call_ref(struct raw *r, unsigned type, uint32_t attachment, uint64_t ref,
    struct raw_message *m)
{
	struct body b;

	wire_put_u64(body_begin(&b), ref);
	return body_call(r, type, attachment, &b, m);
}

static int
call_counted(struct raw *r, unsigned type, uint32_t attachment, uint64_t ref,
    uint32_t n, struct raw_message *m)
{
	struct body b;

	wire_put_u64(body_begin(&b), ref);
	wire_put_u32(&b.out, n);
	return body_call(r, type, attachment, &b, m);
}

/* SEND and SHARE: the new ref is in the reply. */
static int
take_ref(int status, const struct raw_message *m, uint64_t *out)
{
	struct wire_reader in;

	if (status != 0)
		return status;
	in = body_of(m);
	*out = wire_get_u64(&in);
	return wire_done(&in) ? 0 : -EBADMSG;
}

int
raw_send(struct raw *r, uint32_t attachment, uint64_t ref, uint64_t *out)
{
	struct raw_message m;
	int status = call_ref(r, WIRE_SEND, attachment, ref, &m);

	return take_ref(status, &m, out);
}

int
raw_share(
    struct raw *r, uint32_t attachment, uint64_t ref, uint32_t n, uint64_t *out)
{
	struct raw_message m;
	int status = call_counted(r, WIRE_SHARE, attachment, ref, n, &m);

	return take_ref(status, &m, out);
}

int
raw_receive(struct raw *r, uint32_t attachment, uint64_t ref)
{
	struct raw_message m;
	struct wire_reader in;
	int status = call_ref(r, WIRE_RECEIVE, attachment, ref, &m);

	if (status != 0)
		return status;
	in = body_of(&m);
	return wire_get_u64(&in) == ref && m.len == 16 ? 0 : -EBADMSG;
}

int
raw_recall(struct raw *r, uint32_t attachment, uint64_t ref, uint32_t n)
{
	return call_counted(r, WIRE_RECALL, attachment, ref, n, NULL);
}

int
raw_held(struct raw *r, uint32_t attachment, uint64_t ref)
{
	return call_ref(r, WIRE_HELD, attachment, ref, NULL);
}

int
raw_flush(struct raw *r, uint32_t attachment)
{
	return raw_call(r, WIRE_FLUSH, 0, attachment, NULL, 0, NULL);
}

int
raw_audit(struct raw *r)
{
	return raw_call(r, WIRE_AUDIT, 0, 0, NULL, 0, NULL);
}

static char *
read_document(const struct raw_message *m)
{
	struct wire_reader in = body_of(m);
	uint64_t len = wire_get_u64(&in);
	char *text;

	if (!wire_done(&in) || len > SIZE_MAX - 1)
		return NULL;
	text = malloc((size_t)len + 1);
	if (text == NULL)
		return NULL;
	if (pread(m->fd, text, (size_t)len, 0) != (ssize_t)len) {
		free(text);
		return NULL;
	}
	text[len] = '\0';
	return text;
}

char *
raw_document(struct raw *r, unsigned type, const void *body, size_t len)
{
	struct raw_message m;
	char *text;

	if (raw_call(r, type, 0, 0, body, len, &m) != 0 || m.fd < 0)
		return NULL;
	text = read_document(&m);
	close(m.fd);
	return text;
}

static unsigned long long
number(const cJSON *object, const char *key)
{
	const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, key);

	/* A key that is missing shall not look like a zero. */
	return cJSON_IsNumber(item) ? (unsigned long long)item->valuedouble
				    : ~0ull;
}

static void
fill_stats(const cJSON *pool, struct raw_stats *s)
{
	const cJSON *state = cJSON_GetObjectItemCaseSensitive(pool, "state");

	*s = (struct raw_stats){.slots = (unsigned)number(pool, "slots"),
	    .free = (unsigned)number(pool, "free"),
	    .used = (unsigned)number(pool, "used"),
	    .cached = (unsigned)number(pool, "cached"),
	    .in_flight = (unsigned)number(pool, "in_flight"),
	    .quarantined = (unsigned)number(pool, "quarantined"),
	    .segments_attached = (unsigned)number(pool, "segments_attached"),
	    .clients = (unsigned)number(pool, "clients"),
	    .waiters = (unsigned)number(pool, "waiters"),
	    .allocs_total = number(pool, "allocs_total"),
	    .frees_total = number(pool, "frees_total"),
	    .reclaimed_total = number(pool, "reclaimed_total"),
	    .rejected_total = number(pool, "rejected_total"),
	    .retired = cJSON_IsString(state) &&
		       strcmp(state->valuestring, "retired") == 0};
}

int
raw_pool_stats(struct raw *r, const char *name, struct raw_stats *s)
{
	char *text = raw_document(r, WIRE_STATS, NULL, 0);
	const cJSON *pool, *is;
	cJSON *root;
	int err = -ENOENT;

	if (text == NULL)
		return -EIO;
	root = cJSON_Parse(text);
	free(text);
	cJSON_ArrayForEach (
	    pool, cJSON_GetObjectItemCaseSensitive(root, "pools")) {
		is = cJSON_GetObjectItemCaseSensitive(pool, "name");
		if (!cJSON_IsString(is) || strcmp(is->valuestring, name) != 0)
			continue;
		fill_stats(pool, s);
		err = 0;
	}
	cJSON_Delete(root);
	return err;
}
