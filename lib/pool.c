/*
 * Attaching, mapping, growing, resuming and detaching pools.
 *
 * A pool's region is mapped once, at the start of twice as much reserved
 * address space, so that a region that grows is continued in place and no slot
 * ever moves.
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "atomic.h"
#include "barrier.h"
#include "fork.h"
#include "mark.h"
#include "pool.h"
#include "stock.h"

#define ATTACH_FLAGS \
	(SLABD_RDONLY | SLABD_NO_LANE | SLABD_NONBLOCK | SLABD_CHECKED)
#define SLOT_GRAIN 64u /* slot sizes are multiples of it */

/* What the answer to ATTACH says. */
struct geometry {
	uint64_t bytes, slot_size, identity;
	uint32_t segment_slots, segments, rights, features;
	uint32_t served; /* of RESUME: the tag of the last ALLOC */
	struct lane_geometry lane;
};

/* Whether this process has joined those the daemon can ask for a barrier. */
static pthread_once_t join_once = PTHREAD_ONCE_INIT;
static bool joined;

static void
join(void)
{
	joined = barrier_join();
}

int
pool_error(const struct slabd_pool *p, int err, const char *what)
{
	if (p == NULL)
		return error_set(-EINVAL, "the pool is NULL; did "
					  "slabd_pool_attach() succeed?");
	return error_set(
	    err, "%s: pool %s: %s", what, p->name, slabd_strerror(err));
}

int
pool_error_at(
    const struct slabd_pool *p, int err, const char *what, const void *at)
{
	const char *why = err != -EINVAL ? slabd_strerror(err)
			  : at != NULL	 ? "no slot starts there"
					 : "NULL is no slot";

	if (err == -EBUSY)
		why = "the slot is shared, so it can be neither sent nor "
		      "shared again";
	return error_set(
	    err, "%s: pool %s, address %p: %s", what, p->name, at, why);
}

int
pool_enter(struct slabd_pool *p, bool change, int *cancel)
{
	int err = p == NULL ? pool_error(NULL, -EINVAL, "enter")
			    : session_enter(p->session, cancel);

	if (err == 0 && !pool_is_current(p))
		stock_shut(p); /* the lane leads nowhere any more */
	if (err == 0 && change && p->flags & SLABD_RDONLY) {
		session_leave(p->session, *cancel);
		err = error_set(-EACCES,
		    "pool %s was attached SLABD_RDONLY, to receive and free "
		    "only",
		    p->name);
	}
	return err;
}

int
pool_run(struct slabd_pool *p, struct slabd_call *c)
{
	struct slabd_call *kept;

	if (!(p->flags & SLABD_NONBLOCK))
		return call_run(p->session, c);
	c->owner = CALL_KEPT;
	kept = call_copy(c, 0);
	if (kept == NULL) {
		c->status = -ENOMEM;
		c->reply(c, NULL);
		return error_plain(c->status, "call");
	}
	/* A receipt that was taken may have counted, so that is asked later. */
	if (call_start(p->session, kept, c->type == WIRE_HELD) < 0) {
		c->status = call_result(kept);
		free(kept);
		return c->status;
	}
	LIST_INSERT_HEAD(&p->kept, kept, kept);
	return pool_error(p, -EAGAIN, wire_type_name(c->type));
}

/* While a slot moves its version changes, but only one call moves it. */
static bool
same_call(const struct slabd_call *a, const struct slabd_call *b)
{
	bool moves = a->type == WIRE_SEND || a->type == WIRE_SHARE;

	return a->type == b->type && a->flags == b->flags && a->n == b->n &&
	       (moves ? ref_slot(a->ref) == ref_slot(b->ref)
		      : a->ref == b->ref);
}

static struct slabd_call *
find_kept(const struct slabd_pool *p, const struct slabd_call *c)
{
	struct slabd_call *kept;

	LIST_FOREACH (kept, &p->kept, kept)
		if (same_call(kept, c))
			break;
	return kept;
}

bool
pool_collect(struct slabd_pool *p, struct slabd_call *c)
{
	struct slabd_call *kept = find_kept(p, c);

	/* It may end by that, and one that is settled is gone then. */
	if (kept != NULL && !kept->done && p->session->phase != SESSION_READY) {
		call_ready(p->session, c);
		kept = find_kept(p, c);
	}
	if (kept == NULL)
		return false;
	if (!kept->done) {
		c->status = pool_error(p, -EAGAIN, wire_type_name(c->type));
		return true;
	}
	*c = *kept;
	LIST_REMOVE(kept, kept);
	free(kept);
	call_result(c);
	return true;
}

/* Bytes of the region; 0 where it cannot be one. */
static uint64_t
region_bytes(int fd)
{
	struct stat st;

	return fstat(fd, &st) == 0 ? (uint64_t)st.st_size : 0;
}

/* True when `segments` full segments, `total` slots, lie within `bytes`. */
static bool
segments_fit(uint64_t bytes, uint64_t slot_size, uint64_t segment_slots,
    uint64_t segments, uint32_t *total)
{
	uint64_t n, needed;

	return !__builtin_mul_overflow(segment_slots, segments, &n) && n > 0 &&
	       n <= REF_SLOTS_MAX &&
	       !__builtin_mul_overflow(n, slot_size, &needed) &&
	       needed <= bytes && bytes <= INT64_MAX &&
	       (*total = (uint32_t)n) == n;
}

/* Maps the region's bytes from `from` (of a page) to `to` where they belong. */
static int
map_part(struct slabd_pool *p, uint64_t from, uint64_t to)
{
	int prot = p->flags & SLABD_RDONLY ? PROT_READ : PROT_READ | PROT_WRITE;
	void *at = mmap(p->base + from, (size_t)(to - from), prot,
	    MAP_SHARED | MAP_FIXED | MAP_NORESERVE, p->region, (off_t)from);

	if (at == MAP_FAILED)
		return -errno;
	madvise(at, (size_t)(to - from), MADV_DONTFORK);
	madvise(at, (size_t)(to - from), MADV_DONTDUMP);
	return 0;
}

/* Address space from a multiple of `align` bytes on, or NULL. */
static void *
reserve_aligned(size_t bytes, size_t align)
{
	char *at = mmap(NULL, bytes + align, PROT_NONE,
	    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	size_t before;

	if (at == MAP_FAILED)
		return NULL;
	before = -(uintptr_t)at & (align - 1);
	if (before > 0)
		munmap(at, before);
	munmap(at + before + bytes, align - before);
	return at + before;
}

/* Of the region: huge ones must be mapped at their own multiples. */
static size_t
page_of(const struct slabd_pool *p)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	struct stat st;

	if (fstat(p->region, &st) < 0 || st.st_blksize <= (blksize_t)page ||
	    (st.st_blksize & (st.st_blksize - 1)) != 0)
		return page;
	return (size_t)st.st_blksize;
}

/* Reserves address space: twice the region, else just it, else -ENOMEM. */
static int
reserve(struct slabd_pool *p, uint64_t bytes)
{
	size_t page = page_of(p);
	void *at = NULL;

	for (uint64_t factor = 2; factor > 0 && at == NULL; factor--) {
		if (bytes > SIZE_MAX / 4)
			return -ENOMEM;
		p->reserved = (size_t)(bytes * factor);
		at = reserve_aligned(p->reserved, page);
	}
	if (at == NULL)
		return -ENOMEM;
	p->base = at;
	madvise(at, p->reserved, MADV_DONTFORK);
	return 0;
}

/* Maps the region and makes the table; claims limit what it can grow to. */
static int
pool_map(struct slabd_pool *p, const struct geometry *g, uint32_t total)
{
	uint64_t most;
	int err = reserve(p, g->bytes);

	if (err == 0)
		err = map_part(p, 0, g->bytes);
	if (err < 0)
		return err;
	store_relaxed(&p->bytes, g->bytes); /* nobody else has the pool yet */
	most = p->reserved / g->slot_size;
	most = most < REF_SLOTS_MAX ? most : REF_SLOTS_MAX;
	if (p->claims != NULL && most > p->claims_bytes / sizeof(*p->claims))
		most = p->claims_bytes / sizeof(*p->claims);
	return table_init(
	    &p->table, p->base, g->slot_size, total, (uint32_t)most);
}

/* Maps what is shared with the daemon, all of it; NULL and errno. */
static void *
map_shared(int fd, uint64_t bytes)
{
	void *at = mmap(
	    NULL, (size_t)bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	if (at == MAP_FAILED)
		return NULL;
	madvise(at, (size_t)bytes, MADV_DONTFORK);
	madvise(at, (size_t)bytes, MADV_DONTDUMP);
	return at;
}

/* Maps the lane and the claims; what is left of them is pool_free()'s. */
static int
lane_map(struct slabd_pool *p, const struct geometry *g, uint32_t total,
    const int *fds)
{
	uint64_t claims = region_bytes(fds[WIRE_FD_CLAIMS - 1]);
	uint64_t bytes = lane_bytes(&g->lane);
	void *at;

	if (bytes == 0)
		return -EBADMSG;
	/* Clients may write to both, and so cut them, as with the region. */
	if (claims < total * sizeof(*p->claims) ||
	    region_bytes(fds[WIRE_FD_LANE - 1]) < bytes)
		return -EUCLEAN;
	if (claims > REF_SLOTS_MAX * sizeof(*p->claims))
		claims = REF_SLOTS_MAX * sizeof(*p->claims);
	p->claims = map_shared(fds[WIRE_FD_CLAIMS - 1], claims);
	if (p->claims == NULL)
		return -errno;
	p->claims_bytes = (size_t)claims;
	at = map_shared(fds[WIRE_FD_LANE - 1], bytes);
	if (at == NULL)
		return -errno;
	if (lane_open(&p->lane, at, bytes, &g->lane) < 0) {
		munmap(at, (size_t)bytes);
		return -EBADMSG;
	}
	return 0;
}

/*
 * Says that this process lives. A lock of the process: a forked child does not
 * have it, and the kernel drops it after the memory.
 */
static int
lane_lock(const struct slabd_pool *p)
{
	struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};

	return fcntl(p->lane_fd, F_SETLK, &lock) < 0 ? -ENOLCK : 0;
}

/* The lane is mapped, and so is the region: opens the fast way. */
static int
lane_begin(struct slabd_pool *p, const struct geometry *g, int *fds)
{
	int err = post_init(p);

	if (err < 0)
		return err;
	p->lane_fd = fds[WIRE_FD_LANE - 1];
	p->post.doorbell = fds[WIRE_FD_DOORBELL - 1];
	fds[WIRE_FD_LANE - 1] = fds[WIRE_FD_DOORBELL - 1] = -1;
	p->fences = !joined || g->features & WIRE_ATTACHED_FENCES;
	p->table.checked = p->flags & SLABD_CHECKED;
	err = lane_lock(p);
	return err < 0 ? err : stock_open(p);
}

/* After the gate was closed: nobody is in the lane any more. */
static void
lane_unmap(struct slabd_pool *p)
{
	/* A child has something else there, or nothing. */
	bool mapped = !fork_foreign(p->session->generation);

	if (p->lane.header != NULL && mapped)
		munmap(p->lane.header, (size_t)lane_bytes(&p->lane.geometry));
	if (p->claims != NULL && mapped)
		munmap((void *)p->claims, p->claims_bytes);
	if (p->lane_fd >= 0)
		close(p->lane_fd);
	post_destroy(p);
}

/* The geometry of the lane, in the order of its fields. */
static void
read_lane(struct wire_reader *r, struct lane_geometry *g)
{
	g->grants_at = wire_get_u32(r);
	g->grants = wire_get_u32(r);
	g->records_at = wire_get_u32(r);
	g->records = wire_get_u32(r);
	g->magazines_at = wire_get_u32(r);
	g->magazines = wire_get_u32(r);
	g->magazine_room = wire_get_u32(r);
	g->zero = wire_get_u32(r);
}

/*
 * Reads the answer to ATTACH or RESUME; true when it is well formed and brought
 * the descriptors of that, in the order of their numbers from `first` on: with
 * a lane all that follow, else `alone` of them.
 */
static bool
read_geometry(
    struct message *m, struct geometry *g, uint32_t first, uint32_t alone)
{
	struct wire_reader *r = &m->body;
	bool ordered = true;
	uint32_t n;

	g->bytes = wire_get_u64(r);
	g->slot_size = wire_get_u64(r);
	g->segment_slots = wire_get_u32(r);
	g->segments = wire_get_u32(r);
	g->rights = wire_get_u32(r);
	g->features = wire_get_u32(r);
	g->identity = wire_get_u64(r);
	n = wire_get_u32(r);
	g->served = wire_get_u32(r);
	for (uint32_t i = 0; i < n && i < WIRE_FDS_MAX; i++) {
		ordered = ordered && wire_get_u32(r) == first + i;
		wire_get_u32(r);
		wire_get_u64(r);
	}
	if (g->features & WIRE_ATTACHED_LANE)
		read_lane(r, &g->lane);
	return wire_done(r) && ordered && m->n_fds == n &&
	       n == (g->features & WIRE_ATTACHED_LANE
			    ? WIRE_FD_DOORBELL + 1 - first
			    : alone) &&
	       g->slot_size > 0 && g->slot_size % SLOT_GRAIN == 0;
}

/* Any client that may write can do that; it is not the daemon's breach. */
static int
truncated(const struct slabd_pool *p, uint64_t is, uint64_t due, char *why)
{
	snprintf(why, ERROR_TEXT_BYTES,
	    "pool %s: its region is %llu bytes instead of %llu: a client has "
	    "truncated it; try again, else restart slabd or retire the pool",
	    p->name, (unsigned long long)is, (unsigned long long)due);
	return -EUCLEAN;
}

/* Maps all there is; the descriptors that are kept are taken from `fds`. */
static int
attach_all(
    struct slabd_pool *p, const struct geometry *g, uint32_t total, int *fds)
{
	bool laned = g->features & WIRE_ATTACHED_LANE;
	int err = laned ? lane_map(p, g, total, fds) : 0;

	p->region = fds[WIRE_FD_REGION - 1];
	fds[WIRE_FD_REGION - 1] = -1;
	p->segment_slots = g->segment_slots;
	if (!(g->rights & WIRE_RIGHT_WRITE) && !(p->flags & SLABD_RDONLY))
		err = -EACCES;
	if (err == 0)
		err = pool_map(p, g, total);
	return err == 0 && laned ? lane_begin(p, g, fds) : err;
}

/* The answer to ATTACH; mapped here, so that no event comes between. */
static int
attached(struct slabd_call *c, struct message *m)
{
	struct slabd_pool *p = c->out;
	struct geometry g = {0};
	uint32_t total;
	uint64_t is;

	if (m == NULL || m->header.status < 0)
		return 0;
	p->attachment = m->header.attachment;
	p->epoch = p->session->epoch;
	p->connection = p->session->connections;
	LIST_INSERT_HEAD(&p->session->pools, p, link);
	if (c->status < 0) /* the descriptors did not all come */
		return 0;
	if (!read_geometry(m, &g, WIRE_FD_REGION, 1) ||
	    !segments_fit(
		g.bytes, g.slot_size, g.segment_slots, g.segments, &total))
		return -EBADMSG;
	p->identity = g.identity;
	is = region_bytes(m->fds[WIRE_FD_REGION - 1]);
	if (is < g.bytes) {
		c->status = truncated(p, is, g.bytes, c->text);
		return 0;
	}
	c->status = attach_all(p, &g, total, m->fds);
	return c->status == -EBADMSG ? -EBADMSG : 0;
}

/* The answer to an ATTACH nobody waits for any more. */
static int
attached_late(struct slabd_call *c, struct message *m)
{
	struct slabd_call d = {.type = WIRE_DETACH, .reply = call_ignore},
			  *post;

	if (m == NULL || m->header.status < 0)
		return 0;
	d.attachment = m->header.attachment;
	post = call_copy(&d, 0);
	if (post != NULL)
		call_post(c->session, post);
	return 0;
}

/*
 * Tells the daemon, if it still knows the attachment, and waits; one that is
 * away is told when it is back. The pool is not named: it is gone then.
 */
static void
say_detach(struct slabd_pool *p)
{
	struct slabd_call c = {.type = WIRE_DETACH,
	    .attachment = p->attachment,
	    .reply = call_ignore,
	    .late = call_ignore};

	if (p->epoch == p->session->epoch)
		call_run_here(p->session, &c, NEVER);
}

/* What is under way for the pool is answered to nobody from now on. */
static void
abandon_calls(struct slabd_pool *p, struct call_list *list)
{
	struct slabd_call *c;

	TAILQ_FOREACH (c, list, link)
		if (c->pool == p && c->owner != CALL_WAITED) {
			if (c->owner == CALL_KEPT)
				LIST_REMOVE(c, kept);
			call_abandon(c);
		}
}

/* Nothing that is under way names the pool any more. */
static void
abandon(struct slabd_pool *p)
{
	struct slabd *s = p->session;

	abandon_calls(p, &s->calls);
	abandon_calls(p, &s->unsent);
	if (s->resume.pool == p)
		s->resume.pool = NULL;
}

/* Detaches and frees a pool that may be half made; with the lock. */
static void
pool_end(struct slabd_pool *p)
{
	pool_goodbye(p);
	abandon(p);
	if (p->link.le_prev != NULL)
		say_detach(p);
	/* While that waited, the daemon may have come back, and been asked. */
	abandon(p);
	pool_free(p);
}

void
pool_goodbye(struct slabd_pool *p)
{
	stock_close(p);
	/* Release: after all this process has done in the lane. */
	if (p->lane.header != NULL)
		store_release(&p->lane.header->goodbye, 1);
}

static struct slabd_pool *
pool_new(struct slabd *s, const char *name, unsigned flags)
{
	struct slabd_pool *p = calloc(1, sizeof(*p));

	if (p == NULL)
		return NULL;
	p->session = s;
	p->flags = flags;
	strcpy(p->name, name);
	p->gate = &stock_closed;
	p->serial = SEAT_EMPTY;
	p->region = p->lane_fd = p->post.doorbell = -1;
	pthread_mutex_init(&p->post.lock, NULL);
	LIST_INIT(&p->kept);
	return p;
}

void
pool_free(struct slabd_pool *p)
{
	struct slabd_call *c;

	while ((c = LIST_FIRST(&p->kept)) != NULL) {
		LIST_REMOVE(c, kept);
		free(c);
	}
	if (p->link.le_prev != NULL)
		LIST_REMOVE(p, link);
	stock_close(p);
	mark_unmapped(p);
	lane_unmap(p);
	/* A child has something else there, or nothing. */
	if (p->base != NULL && !fork_foreign(p->session->generation))
		munmap(p->base, p->reserved);
	if (p->region >= 0)
		close(p->region);
	table_destroy(&p->table);
	free(p->stash);
	free(p);
}

static int
attach(struct slabd_pool *p)
{
	uint8_t body[4 + 2 + WIRE_NAME_MAX];
	struct wire_writer w = {body, 0, sizeof(body), false};
	struct slabd_call c = {.type = WIRE_ATTACH,
	    .body = body,
	    .reply = attached,
	    .late = attached_late,
	    .out = p};

	if (!(p->flags & SLABD_NO_LANE))
		pthread_once(&join_once, join);
	wire_put_u32(&w, (p->flags & SLABD_RDONLY ? WIRE_ATTACH_RDONLY : 0) |
			     (p->flags & SLABD_NO_LANE ? 0 : WIRE_ATTACH_LANE));
	wire_put_string(&w, p->name, WIRE_NAME_MAX);
	c.len = w.len;
	return call_run(p->session, &c);
}

int
slabd_pool_attach(
    struct slabd_pool **out, struct slabd *s, const char *name, unsigned flags)
{
	size_t len = name != NULL ? strlen(name) : 0;
	struct slabd_pool *p;
	int cancel, err;

	*out = NULL;
	if (flags & ~ATTACH_FLAGS)
		return error_set(-EINVAL, "attach: unknown flags %#x", flags);
	if (len == 0 || len > WIRE_NAME_MAX)
		return error_set(-EINVAL,
		    "attach: a pool's name has 1 to %u "
		    "bytes",
		    WIRE_NAME_MAX);
	err = session_enter(s, &cancel);
	if (err < 0)
		return err;
	p = pool_new(s, name, flags);
	err = p != NULL ? attach(p) : error_plain(-ENOMEM, "attach");
	if (err < 0 && p != NULL)
		pool_end(p);
	else
		*out = p;
	session_leave(s, cancel);
	return err;
}

void
slabd_pool_detach(struct slabd_pool *p)
{
	struct slabd *s;
	int cancel;

	if (p == NULL)
		return;
	s = p->session;
	if (session_enter(s, &cancel) < 0) {
		pool_free(p);
		return;
	}
	pool_end(p);
	session_leave(s, cancel);
}

/* Continues the mapping and tells the daemon; what does not fit is not used. */
static int
grow(struct slabd_pool *p, uint64_t bytes, uint32_t segments)
{
	uint64_t old =
	    load_relaxed(&p->bytes); /* changed under the lock only */
	uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
	struct slabd_call c = {.type = WIRE_EXTEND, .pool = p}, *post;
	uint32_t total;

	if (!segments_fit(
		bytes, p->table.slot_size, p->segment_slots, segments, &total))
		return -EBADMSG;
	/* Any client that may write can have cut it: not the daemon's breach. */
	if (region_bytes(p->region) < bytes)
		return 0;
	if (bytes < old || total < load_relaxed(&p->table.top) ||
	    total > p->table.reserve || bytes > p->reserved ||
	    (bytes > old && map_part(p, old - old % page, bytes) < 0))
		return 0;
	store_relaxed(&p->bytes, bytes); /* refs into it come after the lock */
	table_grow(&p->table, total);
	call_put_u32(&c, segments);
	post = call_copy(&c, 0);
	if (post != NULL)
		call_post(p->session, post);
	return 0;
}

int
pool_event(struct slabd *s, struct message *m)
{
	struct slabd_pool *p;
	uint64_t bytes;
	uint32_t segments;

	LIST_FOREACH (p, &s->pools, link)
		if (p->attachment == m->header.attachment && pool_is_current(p))
			break;
	/* Events for pools just detached may be under way still. */
	if (p == NULL || p->base == NULL)
		return 0;
	session_news(s);
	switch (m->header.type) {
	case WIRE_EVENT_RETIRED:
		p->retired = true;
		return wire_done(&m->body) ? 0 : -EBADMSG;
	case WIRE_EVENT_RESIZED:
		bytes = wire_get_u64(&m->body);
		segments = wire_get_u32(&m->body);
		return wire_done(&m->body) ? grow(p, bytes, segments)
					   : -EBADMSG;
	}
	return 0;
}

struct slabd_pool *
pool_to_resume(struct slabd *s)
{
	struct slabd_pool *p;

	LIST_FOREACH (p, &s->pools, link)
		if (pool_is_current(p) && p->connection != s->connections)
			return p;
	return NULL;
}

/*
 * The same attachment as before, with a new doorbell, which takes the old one's
 * place at once. Whoever rang that in vain has cleared the daemon's flag, so it
 * is rung in any case.
 */
static int
resume(struct slabd_pool *p, const struct geometry *g, int doorbell)
{
	uint64_t bytes = load_relaxed(&p->bytes); /* under the lock */

	if (p->lane.header != NULL) {
		if (dup3(doorbell, p->post.doorbell, O_CLOEXEC) < 0)
			return -errno;
		eventfd_write(p->post.doorbell, 1);
	}
	return g->bytes > bytes || (uint64_t)g->segments * g->segment_slots >
				       load_relaxed(&p->table.top)
		   ? grow(p, g->bytes, g->segments)
		   : 0;
}

int
pool_resumed(struct slabd_call *c, struct message *m)
{
	struct slabd_pool *p = c->pool;
	struct geometry g = {0};
	bool laned;

	/* Without the descriptor, which did not fit here, it is tried again. */
	if (m == NULL || p == NULL || c->status == -EMFILE)
		return m == NULL || p == NULL ? 0 : c->status;
	p->connection = p->session->connections;
	if (c->status >= 0 && !read_geometry(m, &g, WIRE_FD_DOORBELL, 0))
		return -EBADMSG;
	laned = g.features & WIRE_ATTACHED_LANE;
	/* Without the fences we were told not to need it is no lane for us. */
	if (c->status >= 0 && g.identity == p->identity &&
	    laned == (p->lane.header != NULL) &&
	    (p->fences || !(g.features & WIRE_ATTACHED_FENCES))) {
		session_prefer(p->session, p, g.served);
		return resume(p, &g, laned ? m->fds[0] : -1);
	}
	p->lost = true;
	stock_shut(p);
	session_drop_lost(p->session);
	return 0;
}

void
pool_shut_all(struct slabd *s)
{
	struct slabd_pool *p;

	LIST_FOREACH (p, &s->pools, link)
		stock_shut(p);
}

size_t
slabd_pool_slot_size(const struct slabd_pool *p)
{
	return p != NULL ? (size_t)p->table.slot_size : 0;
}

int
slabd_pool_region(const struct slabd_pool *p, void **base, uint64_t *bytes)
{
	if (base != NULL)
		*base = NULL;
	if (p == NULL)
		return pool_error(p, -EINVAL, "region");
	if (fork_foreign(p->session->generation))
		return error_plain(-EOWNERDEAD, "region");
	if (base != NULL)
		*base = p->base;
	if (bytes != NULL)
		*bytes = load_relaxed(&p->bytes); /* a hint: it may grow */
	return 0;
}

uint64_t
slabd_offset(const struct slabd_pool *p, const void *slot)
{
	uint32_t index;

	if (p == NULL || fork_foreign(p->session->generation))
		return UINT64_MAX;
	index = table_slot(&p->table, slot);
	return index != TABLE_NO_SLOT ? index * p->table.slot_size : UINT64_MAX;
}

void *
slabd_at(const struct slabd_pool *p, uint64_t offset)
{
	uint32_t index;

	if (p == NULL)
		return error_null(pool_error(p, -EINVAL, "slabd_at"));
	if (fork_foreign(p->session->generation))
		return error_null(error_plain(-EOWNERDEAD, "slabd_at"));
	index = table_slot_at(&p->table, offset);
	if (index == TABLE_NO_SLOT)
		return error_null(error_set(-EINVAL,
		    "pool %s: no slot starts at offset %#llx", p->name,
		    (unsigned long long)offset));
	return table_address(&p->table, index);
}
