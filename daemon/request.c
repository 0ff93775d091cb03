/*
 * What clients ask for: one function a message type, and the table of them.
 *
 * A handler reads its body from rq->in, writes its reply's body to rq->out,
 * and returns the status: 0 or a count, or -errno, with the reason for people
 * in rq->why if the plain words for the number do not say enough. DEFERRED
 * means that the answer comes later from a waiter.
 */
#include "config.h"

#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "barrier.h"
#include "client.h"
#include "daemon.h"
#include "document.h"
#include "event.h"
#include "lanes.h"
#include "log.h"
#include "pool.h"
#include "share.h"

#define DEFERRED INT_MIN

struct request {
	struct daemon *daemon;
	struct client *client;
	struct attachment *attachment;
	struct wire_header h;
	struct wire_reader in;
	struct wire_writer out;
	struct descriptors passed; /* go with the reply */
	bool document;		   /* one that is a document */
	bool own_body;		   /* an error's body is the handler's */
	bool end;		   /* the client ends after the reply */
	char why[1024];
};

static int __attribute__((format(printf, 3, 4)))
refuse(struct request *rq, int err, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(rq->why, sizeof(rq->why), fmt, ap);
	va_end(ap);
	return err;
}

static int
bad_body(struct request *rq)
{
	return refuse(rq, -EINVAL, "the message's body has the wrong form");
}

/* The whole body must be an empty one, or what was read of it. */
#define CHECK_BODY(rq)                         \
	do {                                   \
		if (!wire_done(&(rq)->in))     \
			return bad_body((rq)); \
	} while (0)

static int
serve_hello(struct request *rq)
{
	struct client *c = rq->client;
	char label[WIRE_LABEL_MAX + 1];
	uint64_t session, token;
	uint32_t magic = wire_get_u32(&rq->in);
	uint16_t lowest = wire_get_u16(&rq->in);
	uint16_t highest = wire_get_u16(&rq->in);

	rq->end = true;
	if (magic != WIRE_MAGIC || lowest > WIRE_VERSION ||
	    highest < WIRE_VERSION)
		return refuse(rq, -EPROTONOSUPPORT,
		    "this daemon speaks version %u only", WIRE_VERSION);
	wire_get_u64(&rq->in); /* features wanted: there are none yet */
	session = wire_get_u64(&rq->in);
	token = wire_get_u64(&rq->in);
	wire_get_string(&rq->in, label, sizeof(label));
	CHECK_BODY(rq);
	if (!client_resume(c, session, token) &&
	    (getrandom(&c->session, sizeof(c->session), 0) !=
		    sizeof(c->session) ||
		getrandom(&c->token, sizeof(c->token), 0) != sizeof(c->token)))
		return -EIO;
	rq->end = false;
	client_welcome(c, label);
	wire_put_u16(&rq->out, WIRE_VERSION);
	wire_put_u16(&rq->out, 0);
	wire_put_u32(&rq->out, WIRE_BATCH_MAX);
	wire_put_u64(&rq->out, 0);
	wire_put_u64(&rq->out, c->session);
	wire_put_u64(&rq->out, c->token);
	wire_put_u64(&rq->out, rq->daemon->identity);
	wire_put_u32(&rq->out, WIRE_MESSAGE_MAX);
	wire_put_string(&rq->out, VERSION, WIRE_LABEL_MAX);
	return 0;
}

static int
serve_ping(struct request *rq)
{
	CHECK_BODY(rq);
	return 0;
}

static int
serve_bye(struct request *rq)
{
	CHECK_BODY(rq);
	/* Before the answer: who has it may count on it. */
	client_detach_all(rq->client);
	rq->end = true;
	return 0;
}

/* What the access list gives the client: WIRE_RIGHT_*. */
static unsigned
rights_of(const struct client *c, const struct config_pool *conf)
{
	unsigned rights = 0;
	bool match;

	if (conf->naccess == 0)
		return WIRE_RIGHT_READ | WIRE_RIGHT_WRITE;
	for (size_t i = 0; i < conf->naccess; i++) {
		match = conf->access[i].who == CONFIG_USER
			    ? conf->access[i].id == c->peer.uid
			    : peer_in_group(&c->peer, conf->access[i].id);
		if (match)
			rights |=
			    WIRE_RIGHT_READ |
			    (conf->access[i].write ? WIRE_RIGHT_WRITE : 0);
	}
	return rights;
}

static void
pass(struct request *rq, uint32_t kind, int fd, uint64_t bytes)
{
	wire_put_u32(&rq->out, kind);
	wire_put_u32(&rq->out, 0);
	wire_put_u64(&rq->out, bytes);
	rq->passed.fds[rq->passed.n++] = fd;
}

static void
pass_lane(struct request *rq, const struct lane_end *e, bool whole)
{
	const struct pool *p = e->attachment->pool;
	const struct lane_geometry *g = &e->lane.geometry;

	if (whole) {
		pass(rq, WIRE_FD_CLAIMS, p->claims.region.fd,
		    p->claims.region.bytes);
		pass(rq, WIRE_FD_LANE, e->object.fd, e->object.bytes);
	}
	pass(rq, WIRE_FD_DOORBELL, e->doorbell, 0);
	wire_put_u32(&rq->out, g->grants_at);
	wire_put_u32(&rq->out, g->grants);
	wire_put_u32(&rq->out, g->records_at);
	wire_put_u32(&rq->out, g->records);
	wire_put_u32(&rq->out, g->magazines_at);
	wire_put_u32(&rq->out, g->magazines);
	wire_put_u32(&rq->out, g->magazine_room);
	wire_put_u32(&rq->out, 0);
}

/* All of it, or what a client that resumes it has not got yet. */
static int
put_attachment(struct request *rq, const struct attachment *a, bool whole)
{
	const struct pool *p = a->pool;
	uint32_t features = a->lane != NULL ? WIRE_ATTACHED_LANE : 0;

	if (features != 0 && !barrier_possible())
		features |= WIRE_ATTACHED_FENCES;
	rq->h.attachment = a->number;
	wire_put_u64(&rq->out, p->region.bytes);
	wire_put_u64(&rq->out, p->conf.slot_stride);
	wire_put_u32(&rq->out, p->conf.slots_per_segment);
	wire_put_u32(&rq->out, p->segments_max);
	wire_put_u32(
	    &rq->out, WIRE_RIGHT_READ | (a->write ? WIRE_RIGHT_WRITE : 0));
	wire_put_u32(&rq->out, features);
	wire_put_u64(&rq->out, p->id);
	wire_put_u32(&rq->out, (whole ? 1 : 0) + (features == 0 ? 0
						     : whole	? 3
								: 1));
	wire_put_u32(&rq->out, whole ? 0 : a->mirror->batch_tag);
	if (whole)
		pass(rq, WIRE_FD_REGION,
		    a->write ? p->region.fd : p->region_rdonly,
		    p->region.bytes);
	if (features != 0)
		pass_lane(rq, a->lane, whole);
	return 0;
}

/* One user must not take all the places there are. */
static int
check_places(struct request *rq, const struct pool *p)
{
	unsigned most = rq->daemon->conf->max_clients_per_uid;

	if (rq->client->guest)
		return refuse(rq, -EUSERS,
		    "all connections are taken: this one is for "
		    "administration only (max_clients and "
		    "max_clients_per_uid in slabd.conf)");
	if (attachments_of(p, rq->client->peer.uid) < most)
		return 0;
	return refuse(rq, -EUSERS,
	    "uid %u has attached pool %s %u times "
	    "(max_clients_per_uid in slabd.conf)",
	    (unsigned)rq->client->peer.uid, p->conf.name, most);
}

/* Without one the client goes on by messages. */
static void
try_lane(struct attachment *a)
{
	static struct log_limit limit = LOG_LIMIT_INIT("lane");
	int err = lane_create(a);

	if (err != 0 && log_allowed(&limit))
		log_warn("pool", "%s: a client gets no lane: %s",
		    a->pool->conf.name, strerror(-err));
}

/* What an ATTACH has made whose answer was lost; NULL: nothing. */
static struct attachment *
find_attached(const struct client *c, uint32_t tag)
{
	struct attachment *a;

	for (uint32_t i = 0; i < c->nattachments; i++) {
		a = c->attachments[i];
		if (a != NULL && attachment_tag(a) == tag)
			return a;
	}
	return NULL;
}

/* The same attachment again, with whatever of it was not made. */
static int
attach_again(struct request *rq, struct attachment *a, uint32_t flags)
{
	int err = 0;

	if (!client_reads_fds(rq->client))
		return refuse(rq, -EBUSY, "read the earlier replies first");
	if (a->lane != NULL)
		err = lane_resume(a->lane);
	else if ((flags & WIRE_ATTACH_LANE) != 0)
		try_lane(a);
	lanes_turn(a->pool);
	return err == 0 ? put_attachment(rq, a, true) : err;
}

static int
serve_attach(struct request *rq)
{
	struct client *c = rq->client;
	char name[WIRE_NAME_MAX + 1];
	uint32_t flags = wire_get_u32(&rq->in);
	struct attachment *a;
	unsigned rights;
	struct pool *p;
	int err;

	wire_get_string(&rq->in, name, sizeof(name));
	CHECK_BODY(rq);
	if ((flags & ~(WIRE_ATTACH_RDONLY | WIRE_ATTACH_LANE)) != 0)
		return refuse(rq, -EINVAL, "unknown attach flags 0x%x", flags);
	if ((rq->h.flags & WIRE_AGAIN) != 0 &&
	    (a = find_attached(c, rq->h.tag)) != NULL)
		return attach_again(rq, a, flags);
	p = daemon_pool(rq->daemon, name);
	if (p == NULL)
		return refuse(
		    rq, -ENOENT, "there is no pool %s", log_quote(name));
	rights = rights_of(c, &p->conf);
	if (rights == 0 || ((flags & WIRE_ATTACH_RDONLY) == 0 &&
			       (rights & WIRE_RIGHT_WRITE) == 0))
		return refuse(rq, -EACCES,
		    "uid %u may not %s pool %s (access in slabd.conf)",
		    (unsigned)c->peer.uid, rights == 0 ? "read" : "write to",
		    name);
	if (!client_reads_fds(c))
		return refuse(rq, -EBUSY, "read the earlier replies first");
	err = check_places(rq, p);
	if (err != 0)
		return err;
	/* Whoever comes shall find a region of its full size. */
	segments_scrub(p);
	err = attachment_new(&a, p, c, (flags & WIRE_ATTACH_RDONLY) == 0,
	    rq->h.tag, rq->why, sizeof(rq->why));
	if (err != 0)
		return err;
	if ((flags & WIRE_ATTACH_LANE) != 0)
		try_lane(a);
	return put_attachment(rq, a, true);
}

static int
serve_resume(struct request *rq)
{
	struct attachment *a = rq->attachment;
	int err = 0;

	CHECK_BODY(rq);
	if (a->lane_lost)
		return refuse(rq, -ENOTRECOVERABLE,
		    "pool %s: the lane of this attachment is lost",
		    a->pool->conf.name);
	if (!client_reads_fds(rq->client))
		return refuse(rq, -EBUSY, "read the earlier replies first");
	if (a->lane != NULL)
		err = lane_resume(a->lane);
	if (err != 0)
		return err;
	if (a->pool->state == POOL_RETIRED)
		client_event(
		    rq->client, WIRE_EVENT_RETIRED, a->number, a->pool);
	/* Its ring is read and its bell is heard from now on. */
	lanes_turn(a->pool);
	return put_attachment(rq, a, false);
}

static int
serve_detach(struct request *rq)
{
	CHECK_BODY(rq);
	client_detach(rq->client, rq->attachment->number);
	attachment_end(rq->attachment);
	return 0;
}

static int
serve_extend(struct request *rq)
{
	struct attachment *a = rq->attachment;
	uint32_t segments = wire_get_u32(&rq->in);

	CHECK_BODY(rq);
	if (segments < a->segments_seen || segments > a->pool->segments_max)
		return refuse(rq, -EINVAL, "the pool has %u segments",
		    a->pool->segments_max);
	attachment_extend(a, segments);
	waiters_serve(a->pool);
	return 0;
}

static void
explain_quota(const struct attachment *a, char *why, size_t len)
{
	const struct config_pool *conf = &a->pool->conf;

	if (conf->quota > 0 && a->charged >= conf->quota)
		snprintf(why, len,
		    "pool %s: this client has %u slots of its quota of %u: "
		    "free some, or raise quota in slabd.conf",
		    conf->name, a->charged, conf->quota);
	else if (conf->uid_quota > 0 && a->account->slots >= conf->uid_quota)
		snprintf(why, len,
		    "pool %s: uid %u has %u slots of its quota of %u: "
		    "free some, or raise uid_quota in slabd.conf",
		    conf->name, (unsigned)a->account->uid, a->account->slots,
		    conf->uid_quota);
	else
		snprintf(why, len,
		    "pool %s: so many at once are beyond the quota (%u a "
		    "client, %u a user; 0: no limit)",
		    conf->name, conf->quota, conf->uid_quota);
}

/* Why there is no slot, for people. */
static void
explain_none(const struct attachment *a, int status, char *why, size_t len)
{
	const struct pool *p = a->pool;
	char top[256];

	pool_largest_holders(p, top, sizeof(top));
	if (status == -ENOBUFS || status == -ECANCELED)
		snprintf(why, len,
		    "pool %s: %u of %u slots are free%s; largest holders: %s",
		    p->conf.name, p->count[SLOT_FREE], p->slots,
		    segments_may_help(a) ? "" : " and it is at its cap", top);
	else if (status == -ENOSPC)
		snprintf(why, len,
		    "pool %s cannot grow: %s; largest holders: %s",
		    p->conf.name, p->growth_why, top);
	else if (status == -EDQUOT)
		explain_quota(a, why, len);
	else if (status == -ESHUTDOWN)
		snprintf(why, len, "pool %s was retired", p->conf.name);
	else if (status == -EACCES)
		snprintf(
		    why, len, "pool %s is attached read-only", p->conf.name);
}

/* The same, and the log hears of an exhausted pool. */
static int
refuse_alloc(const struct attachment *a, int status, char *why, size_t len)
{
	static struct log_limit limit = LOG_LIMIT_INIT("pool");

	a->pool->failures_total++;
	explain_none(a, status, why, len);
	if ((status == -ENOBUFS || status == -ENOSPC) && log_allowed(&limit))
		log_warn(NULL, "%s", why);
	return status;
}

/* The log hears too when clients begin to wait for slots. */
static void
note_waiting(const struct attachment *a)
{
	static struct log_limit limit = LOG_LIMIT_INIT("pool");
	char why[512];

	if (!TAILQ_EMPTY(&a->pool->queue) || segments_may_help(a) ||
	    !log_allowed(&limit))
		return;
	explain_none(a, -ECANCELED, why, sizeof(why));
	log_info(NULL, "clients wait: %s", why);
}

static void
put_slots(
    struct wire_writer *out, const struct pool *p, const uint64_t *refs, int n)
{
	for (int i = 0; i < n; i++) {
		wire_put_u64(out, refs[i]);
		wire_put_u64(out, ref_slot(refs[i]) * p->conf.slot_stride);
	}
}

/* The answer to a request that waited. */
static void
answer(struct waiter *w, enum wire_type type, int status, const uint64_t *refs)
{
	static uint8_t bytes[WIRE_MESSAGE_MAX];
	struct attachment *a = w->attachment;
	struct wire_header h = {.type = (uint16_t)type | WIRE_REPLY,
	    .tag = w->tag,
	    .status = status,
	    .attachment = a->number};
	struct wire_writer out;
	char why[1024] = "";

	wire_begin(&out, bytes, sizeof(bytes), &h);
	if (type == WIRE_FLUSH && status < 0) {
		wire_put_u32(&out, a->open);
	} else if (status < 0) {
		refuse_alloc(a, status, why, sizeof(why));
		wire_put_bytes(&out, why, strlen(why));
	} else if (type == WIRE_ALLOC) {
		put_slots(&out, a->pool, refs, status);
	}
	client_send(a->client, bytes, out.len, NULL);
	a->client->waiters--;
	free(w);
}

static void
alloc_done(struct waiter *w, int status, const uint64_t *refs)
{
	answer(w, WIRE_ALLOC, status, refs);
}

static void
flush_done(struct waiter *w, int status, const uint64_t *refs)
{
	answer(w, WIRE_FLUSH, status, refs);
}

static struct waiter *
waiter_new(struct request *rq, uint32_t n)
{
	struct waiter *w;

	if (rq->client->waiters == CLIENT_WAITERS_MAX)
		return NULL;
	w = calloc(1, sizeof(*w));
	if (w == NULL)
		return NULL;
	rq->client->waiters++;
	w->attachment = rq->attachment;
	w->tag = rq->h.tag;
	w->n = n;
	return w;
}

static int
no_waiter(struct request *rq)
{
	return refuse(rq, -EAGAIN, "%u requests of this client wait already",
	    rq->client->waiters);
}

/* Nothing to be had at once: stand in the queue, if that can help. */
static int
queue_alloc(struct request *rq, uint32_t n, bool wait)
{
	struct attachment *a = rq->attachment;
	struct waiter *w;

	if (!wait && !segments_may_help(a))
		return refuse_alloc(a, -ENOBUFS, rq->why, sizeof(rq->why));
	w = waiter_new(rq, n);
	if (w == NULL)
		return no_waiter(rq);
	w->growth_only = !wait;
	w->done = alloc_done;
	if (wait)
		note_waiting(a);
	waiter_add(w);
	return DEFERRED;
}

struct wish {
	const struct attachment *attachment;
	uint32_t n;
	bool exact;
};

static bool
can_be_met(const void *arg)
{
	const struct wish *w = arg;

	return pool_can_alloc(w->attachment, w->n, w->exact);
}

/* Slots now: how many, or why not; -ENOBUFS: perhaps later. */
static int
try_alloc(
    struct attachment *a, uint32_t n, bool wait, uint32_t tag, uint64_t *refs)
{
	struct wish wish = {a, n, wait};
	uint32_t most;
	int got;

	/* What was just freed, perhaps by others, is the first to be used. */
	lanes_glance(a->pool);
	/*
	 * Before the answer is no, see what lies about; at others' only if that
	 * can help.
	 */
	if (!can_be_met(&wish))
		lanes_sweep(a->pool);
	if (attachment_quota_left(a) < (wait ? n : 1))
		lanes_recover(a->pool, a->account, can_be_met, &wish);
	else if (!can_be_met(&wish))
		lanes_recover(a->pool, NULL, can_be_met, &wish);
	got = pool_may_alloc(a, n, wait);
	most = waiters_leave(a, n);
	if (got != 0)
		return got;
	return most == 0 || (wait && most < n)
		   ? -ENOBUFS
		   : pool_alloc(a, most, wait, tag, refs);
}

static int
put_granted(struct request *rq, const uint64_t *refs, int n)
{
	struct attachment *a = rq->attachment;

	put_slots(&rq->out, a->pool, refs, n);
	if (a->lane != NULL)
		lane_asked(a->lane);
	segments_grow(a->pool);
	return n;
}

/*
 * What it was granted by a daemon that could not say so any more; what is too
 * little goes back.
 */
static int
alloc_again(struct request *rq, uint32_t n, bool wait, uint64_t *refs)
{
	int got = pool_alloc_again(rq->attachment, rq->h.tag, refs);

	if ((!wait && got > 0 && (uint32_t)got <= n) || (uint32_t)got == n)
		return got;
	while (got > 0)
		pool_ungrant(rq->attachment, refs[--got]);
	return 0;
}

static int
serve_alloc(struct request *rq)
{
	struct attachment *a = rq->attachment;
	struct pool *p = a->pool;
	uint32_t n = wire_get_u32(&rq->in);
	bool wait = (rq->h.flags & WIRE_WAIT) != 0;
	uint64_t all = (uint64_t)p->segments_max * p->conf.slots_per_segment;
	uint64_t refs[WIRE_BATCH_MAX];
	int got;

	CHECK_BODY(rq);
	if (n == 0 || n > WIRE_BATCH_MAX)
		return refuse(
		    rq, -EINVAL, "1 to %u slots at once", WIRE_BATCH_MAX);
	if ((rq->h.flags & WIRE_AGAIN) != 0 &&
	    (got = alloc_again(rq, n, wait, refs)) > 0)
		return put_granted(rq, refs, got);
	got = pool_may_alloc(a, n, false);
	if (got == 0 && wait && n > all)
		return refuse(rq, -ENOBUFS, "pool %s never has %u slots",
		    p->conf.name, n);
	got = try_alloc(a, n, wait, rq->h.tag, refs);
	if (got == -ENOBUFS)
		return queue_alloc(rq, n, wait);
	if (got < 0)
		return refuse_alloc(a, got, rq->why, sizeof(rq->why));
	return put_granted(rq, refs, got);
}

static int
serve_cancel(struct request *rq)
{
	uint32_t tag = wire_get_u32(&rq->in);
	struct waiter *w;

	CHECK_BODY(rq);
	w = waiter_find(rq->attachment, tag);
	if (w == NULL)
		return -ENOENT;
	waiter_cancel(w);
	return 0;
}

/* Whether the attachment has that slot under just this ref. */
static bool
is_held(const struct attachment *a, uint64_t ref)
{
	const struct pool *p = a->pool;
	uint32_t slot = ref_slot(ref);

	return pool_slot_attached(p, slot) &&
	       ledger_ref(&p->ledger, slot) == ref &&
	       ledger_holds(&p->ledger, slot, a->holder);
}

static int
serve_free(struct request *rq)
{
	struct attachment *a = rq->attachment;
	bool again = (rq->h.flags & WIRE_AGAIN) != 0;
	size_t n = wire_left(&rq->in) / 8;
	int err, first = 0;
	uint64_t ref;

	if (n == 0 || n > WIRE_BATCH_MAX || wire_left(&rq->in) % 8 != 0)
		return bad_body(rq);
	for (size_t i = 0; i < n; i++) {
		ref = wire_get_u64(&rq->in);
		/* Under that ref it was freed before, if not now. */
		err = again && !is_held(a, ref) ? 0 : pool_free(a, ref);
		a->pool->frees_total += err == 0;
		first = first == 0 ? err : first;
		wire_put_u32(&rq->out, (uint32_t)err);
	}
	waiters_serve(a->pool);
	rq->own_body = true;
	return first != 0 ? first : (int)n;
}

static int
explain_slot(struct request *rq, int err)
{
	switch (err) {
	case -EALREADY:
		return refuse(rq, err, "the slot is free already");
	case -EPERM:
		return refuse(rq, err,
		    "the slot is not held by this attachment under this ref");
	case -EBUSY:
		return refuse(rq, err, "the slot is shared");
	case -ESTALE:
		return refuse(
		    rq, err, "the ref was received, recalled or has expired");
	case -EACCES:
		return refuse(rq, err, "the pool is attached read-only");
	case -EINVAL:
		return refuse(rq, err, "there is no such slot");
	case -EREMCHG:
		return refuse(rq, err,
		    "the pool has grown: map the new part and send EXTEND");
	default:
		return err;
	}
}

/* Whether the slot is as the ref says, with receipts open; `open` says how
 * many.
 */
static bool
is_open(const struct pool *p, uint64_t ref, unsigned *open)
{
	uint32_t slot = ref_slot(ref);
	struct ledger_word w;

	*open = 0;
	if (!pool_slot_attached(p, slot) || ledger_ref(&p->ledger, slot) != ref)
		return false;
	w = ledger_word(&p->ledger, slot);
	if (w.state == LEDGER_IN_FLIGHT)
		*open = 1;
	else if (w.state == LEDGER_SHARED)
		*open = ledger_share_of(&p->ledger, slot).open;
	return *open > 0;
}

/* What it has just sent or shared is to be had. */
static void
open_claim(const struct attachment *a, uint64_t ref)
{
	unsigned open;

	if (is_open(a->pool, ref, &open) &&
	    pool_sender(a->pool, ref_slot(ref)) == a)
		claims_offer(a->pool, ref, open);
}

/*
 * Requests that hand slots on count once, also when they are sent again to a
 * successor: true if this one was done before, and what came of it.
 */
static bool
was_done(const struct request *rq, int *status)
{
	uint64_t reply = rq->attachment->mirror->reply;

	if ((rq->h.flags & WIRE_AGAIN) == 0 || rq->h.tag == 0 ||
	    reply >> 32 != rq->h.tag)
		return false;
	*status = (int32_t)reply;
	return true;
}

/* Just before the ledger changes: nothing else may change the slot between. */
static void
intend(struct request *rq, uint64_t ref)
{
	struct attachment *a = rq->attachment;

	if (pool_slot_attached(a->pool, ref_slot(ref)))
		ledger_intend(&a->pool->ledger, &a->mirror->request,
		    request_key(rq->h.type, rq->h.tag), ref, a->holder);
}

static int
end(struct request *rq, int status)
{
	struct ledger_mirror *m = rq->attachment->mirror;

	m->reply = (uint64_t)rq->h.tag << 32 | (uint32_t)status;
	ledger_intent_end(&m->request);
	return status;
}

/* The ref that a slot is offered by, which was held by `ref`. */
static uint64_t
offered(uint64_t ref, bool shared)
{
	return ref_make(
	    ref_slot(ref), shared, ref_version_next(ref_version(ref)));
}

static int
serve_send(struct request *rq)
{
	uint64_t ref = wire_get_u64(&rq->in), out = offered(ref, false);
	int err;

	CHECK_BODY(rq);
	if (!was_done(rq, &err)) {
		intend(rq, ref);
		err = end(rq, pool_send(rq->attachment, ref, &out));
	}
	if (err != 0)
		return explain_slot(rq, err);
	open_claim(rq->attachment, out);
	wire_put_u64(&rq->out, out);
	return 0;
}

static int
serve_share(struct request *rq)
{
	uint64_t ref = wire_get_u64(&rq->in), out = offered(ref, true);
	uint32_t n = wire_get_u32(&rq->in);
	int err;

	CHECK_BODY(rq);
	if (n == 0 || n > WIRE_SHARE_MAX)
		return refuse(rq, -EINVAL, "1 to %u receivers", WIRE_SHARE_MAX);
	if (!was_done(rq, &err)) {
		intend(rq, ref);
		err = end(rq, pool_share(rq->attachment, ref, n, &out));
	}
	if (err != 0)
		return explain_slot(rq, err);
	open_claim(rq->attachment, out);
	wire_put_u64(&rq->out, out);
	return 0;
}

/*
 * Takes a receipt as a client with a lane would: the claim decides. The ledger
 * may be behind, and is behind a ref that was sent by a lane a moment ago.
 */
static int
receive(struct request *rq, uint64_t ref)
{
	struct attachment *a = rq->attachment;
	struct pool *p = a->pool;
	uint32_t segment = ledger_segment_of(&p->ledger, ref_slot(ref));
	unsigned open;
	int err;

	if (segment >= a->segments_seen && segment < p->segments_max)
		return -EREMCHG;
	if (!is_open(p, ref, &open))
		lanes_sweep(p);
	if (!is_open(p, ref, &open))
		return pool_receive(a, ref); /* which says why not */
	intend(rq, ref);
	if (claims_take(a, ref, 1) == 0) {
		pool_reject(a);
		return -ESTALE;
	}
	err = pool_receive(a, ref);
	claims_end(a, ref, err == 0);
	return err;
}

static int
serve_receive(struct request *rq)
{
	uint64_t ref = wire_get_u64(&rq->in);
	int err;

	CHECK_BODY(rq);
	if (!was_done(rq, &err))
		err = end(rq, receive(rq, ref));
	if (err != 0)
		return explain_slot(rq, err);
	put_slots(&rq->out, rq->attachment->pool, &ref, 1);
	/* Its reserve may be owed less now. */
	waiters_serve(rq->attachment->pool);
	return 0;
}

/* Some of what is open, of which the claim decides how much there is. */
static int
recall_some(struct request *rq, uint64_t ref, unsigned most)
{
	struct attachment *a = rq->attachment;
	unsigned got;
	int n;

	intend(rq, ref);
	got = claims_take(a, ref, most);
	if (got == 0)
		return 0;
	n = pool_recall(a, ref, got);
	claims_end(a, ref, n > 0);
	return n;
}

/*
 * All of it: the claim is closed, and with what it has open that is taken back
 * which somebody took who has not said so, and may have died.
 */
static int
recall_all(struct request *rq, uint64_t ref)
{
	struct pool *p = rq->attachment->pool;

	claims_revoke(p, ref_slot(ref));
	claims_settle(p);
	intend(rq, ref);
	return pool_recall(rq->attachment, ref, 0);
}

static int
recall(struct request *rq, uint64_t ref, unsigned most)
{
	struct attachment *a = rq->attachment;
	struct pool *p = a->pool;
	unsigned open;

	lanes_sweep(p);
	if (!a->write || !is_open(p, ref, &open) ||
	    pool_sender(p, ref_slot(ref)) != a)
		return pool_recall(a, ref, most); /* nothing, or why not */
	return most == 0 || most >= open ? recall_all(rq, ref)
					 : recall_some(rq, ref, most);
}

static int
serve_recall(struct request *rq)
{
	struct attachment *a = rq->attachment;
	uint64_t ref = wire_get_u64(&rq->in);
	uint32_t most = wire_get_u32(&rq->in);
	int n;

	CHECK_BODY(rq);
	if (!was_done(rq, &n))
		n = end(rq, recall(rq, ref, most));
	if (n < 0)
		return explain_slot(rq, n);
	waiters_serve(a->pool);
	return n;
}

/* A client found a claim revoked that it had taken: does it hold the slot? */
static int
serve_held(struct request *rq)
{
	struct attachment *a = rq->attachment;
	uint64_t ref = wire_get_u64(&rq->in);
	struct pool *p = a->pool;

	CHECK_BODY(rq);
	lanes_sweep(p);
	waiters_serve(p);
	return is_held(a, ref);
}

static int
serve_flush(struct request *rq)
{
	struct waiter *w;

	CHECK_BODY(rq);
	lanes_sweep(rq->attachment->pool);
	waiters_serve(rq->attachment->pool);
	if ((rq->h.flags & WIRE_WAIT) == 0 || rq->attachment->open == 0)
		return (int)rq->attachment->open;
	w = waiter_new(rq, 0);
	if (w == NULL)
		return no_waiter(rq);
	w->done = flush_done;
	waiter_add_flush(w);
	return DEFERRED;
}

/* Sends a document: text in a sealed memfd. */
static int
put_document(struct request *rq, char *text)
{
	size_t len;
	int fd;

	if (text == NULL)
		return -ENOMEM;
	len = strlen(text);
	fd = document_seal(text, len);
	free(text);
	if (fd < 0)
		return fd;
	rq->document = true;
	rq->passed = (struct descriptors){1, {fd}};
	wire_put_u64(&rq->out, len);
	return 0;
}

static int
serve_stats(struct request *rq)
{
	CHECK_BODY(rq);
	if (!client_reads_fds(rq->client))
		return refuse(rq, -EBUSY, "read the earlier replies first");
	return put_document(rq, document_stats(rq->daemon));
}

/* The pool a body of nothing but a name means. */
static int
get_pool(struct request *rq, struct pool **p)
{
	char name[WIRE_NAME_MAX + 1];

	wire_get_string(&rq->in, name, sizeof(name));
	CHECK_BODY(rq);
	*p = daemon_pool(rq->daemon, name);
	return *p != NULL ? 0
			  : refuse(rq, -ENOENT, "there is no pool %s",
				log_quote(name));
}

static int
serve_holders(struct request *rq)
{
	struct pool *p;
	int err = get_pool(rq, &p);

	if (err != 0)
		return err;
	if (!client_reads_fds(rq->client))
		return refuse(rq, -EBUSY, "read the earlier replies first");
	lanes_sweep(p);
	waiters_serve(p);
	return put_document(rq, document_holders(p));
}

static int
serve_config(struct request *rq)
{
	CHECK_BODY(rq);
	if (!client_reads_fds(rq->client))
		return refuse(rq, -EBUSY, "read the earlier replies first");
	return put_document(rq, document_config(rq->daemon));
}

static int
serve_reload(struct request *rq)
{
	char *error = NULL;
	int err;

	CHECK_BODY(rq);
	err = daemon_reload(rq->daemon, &error);
	if (err != 0 && error != NULL)
		refuse(rq, err, "%s", error);
	free(error);
	return err;
}

static int
serve_trim(struct request *rq)
{
	struct pool *p;
	int err = get_pool(rq, &p);

	return err != 0 ? err : segments_trim(p);
}

static int
serve_shutdown(struct request *rq)
{
	CHECK_BODY(rq);
	daemon_stop(rq->daemon, (rq->h.flags & WIRE_FORCE) != 0);
	return 0;
}

static int
serve_audit(struct request *rq)
{
	struct pool *p;
	char why[256];
	int err = 0;

	CHECK_BODY(rq);
	TAILQ_FOREACH (p, &rq->daemon->pools, entry) {
		lanes_sweep(p);
		waiters_serve(p);
		err = pool_audit(p, why, sizeof(why));
		if (err != 0)
			return refuse(
			    rq, err, "pool %s: %s", p->conf.name, why);
	}
	return 0;
}

/* What a request needs before its handler runs. */
#define NEEDS_HELLO	 0x1u
#define NEEDS_ATTACHMENT 0x2u
#define NEEDS_ADMIN	 0x4u
#define NEEDS_READER	 0x8u /* asks, and changes nothing */
#define NEEDS_SLOTS	 (NEEDS_HELLO | NEEDS_ATTACHMENT)
#define NEEDS_RULE	 (NEEDS_HELLO | NEEDS_ADMIN)
#define NEEDS_EAR	 (NEEDS_HELLO | NEEDS_READER)
#define NEVER		 INT_MAX

static const struct handler {
	uint16_t type;
	uint16_t flags; /* allowed */
	unsigned needs;
	int moved; /* a status from here on says that slots have moved */
	int (*serve)(struct request *);
} handlers[] = {
    {WIRE_HELLO, 0, 0, NEVER, serve_hello},
    {WIRE_PING, 0, NEEDS_HELLO, NEVER, serve_ping},
    {WIRE_BYE, 0, NEEDS_HELLO, NEVER, serve_bye},
    {WIRE_ATTACH, WIRE_AGAIN, NEEDS_HELLO, NEVER, serve_attach},
    {WIRE_DETACH, 0, NEEDS_SLOTS, NEVER, serve_detach},
    {WIRE_EXTEND, 0, NEEDS_SLOTS, NEVER, serve_extend},
    {WIRE_RESUME, 0, NEEDS_SLOTS, 0, serve_resume},
    {WIRE_ALLOC, WIRE_WAIT | WIRE_AGAIN, NEEDS_SLOTS, 1, serve_alloc},
    {WIRE_CANCEL, 0, NEEDS_SLOTS, NEVER, serve_cancel},
    {WIRE_FREE, WIRE_AGAIN, NEEDS_SLOTS, 1, serve_free},
    {WIRE_SEND, WIRE_AGAIN, NEEDS_SLOTS, 0, serve_send},
    {WIRE_SHARE, WIRE_AGAIN, NEEDS_SLOTS, 0, serve_share},
    {WIRE_RECEIVE, WIRE_AGAIN, NEEDS_SLOTS, 0, serve_receive},
    {WIRE_RECALL, WIRE_AGAIN, NEEDS_SLOTS, 1, serve_recall},
    {WIRE_FLUSH, WIRE_WAIT, NEEDS_SLOTS, NEVER, serve_flush},
    {WIRE_HELD, 0, NEEDS_SLOTS, NEVER, serve_held},
    {WIRE_STATS, 0, NEEDS_EAR, NEVER, serve_stats},
    {WIRE_HOLDERS, 0, NEEDS_EAR, NEVER, serve_holders},
    {WIRE_CONFIG, 0, NEEDS_EAR, NEVER, serve_config},
    {WIRE_RELOAD, 0, NEEDS_RULE, NEVER, serve_reload},
    {WIRE_TRIM, 0, NEEDS_RULE, NEVER, serve_trim},
    {WIRE_SHUTDOWN, WIRE_FORCE, NEEDS_RULE, NEVER, serve_shutdown},
    {WIRE_AUDIT, 0, NEEDS_RULE, NEVER, serve_audit},
};

static const struct handler *
handler_of(uint16_t type)
{
	for (size_t i = 0; i < sizeof(handlers) / sizeof(*handlers); i++)
		if (handlers[i].type == type)
			return &handlers[i];
	return NULL;
}

/* Everything that can be said before the handler is asked. */
static int
admit(struct request *rq, const struct handler *handler)
{
	bool greeted = rq->client->state == CLIENT_READY;

	if (!greeted && rq->h.type != WIRE_HELLO) {
		rq->end = true;
		return refuse(rq, -EPROTO, "the first message must be HELLO");
	}
	if (handler == NULL)
		return refuse(
		    rq, -ENOSYS, "unknown message type %u", rq->h.type);
	if (greeted && rq->h.type == WIRE_HELLO)
		return refuse(rq, -EPROTO, "HELLO was said already");
	if ((rq->h.flags & ~handler->flags) != 0 || rq->h.status != 0)
		return refuse(rq, -EINVAL,
		    "unknown flags 0x%x, or a status in a request",
		    rq->h.flags);
	if ((handler->needs & NEEDS_ATTACHMENT) == 0)
		rq->attachment = NULL;
	else if (rq->attachment == NULL)
		return refuse(rq, -EBADF, "no attachment has the number %u",
		    rq->h.attachment);
	if ((handler->needs & NEEDS_READER) != 0 && rq->client->deaf)
		return -EPIPE;
	if ((handler->needs & NEEDS_ADMIN) != 0 && !client_is_admin(rq->client))
		return refuse(rq, -EPERM,
		    "this is for root, the daemon's user and admin_group");
	return 0;
}

/* Puts the status into the header, and words behind it if it is an error. */
static void
reply(struct request *rq, int status)
{
	size_t body = rq->out.len;

	rq->h.type |= WIRE_REPLY;
	rq->h.flags = 0;
	rq->h.status = status;
	wire_begin(&rq->out, rq->out.buf, rq->out.cap, &rq->h);
	if (status >= 0 || rq->own_body)
		rq->out.len = body;
	else
		wire_put_bytes(&rq->out,
		    rq->why[0] != '\0' ? rq->why : strerror(-status),
		    strlen(rq->why[0] != '\0' ? rq->why : strerror(-status)));
	client_send(rq->client, rq->out.buf, rq->out.len, &rq->passed);
}

/* To move slots is what the daemon is there for; all else has a share. */
static bool
is_daily(const struct handler *handler, int status)
{
	return status == DEFERRED ||
	       (handler != NULL && status >= handler->moved);
}

bool
request_serve(struct client *c, const uint8_t *bytes, size_t len)
{
	static uint8_t out[WIRE_MESSAGE_MAX];
	struct request rq = {.daemon = c->daemon, .client = c};
	uint64_t begun = loop_now_us();
	const struct handler *handler;
	int status;

	if (wire_open(&rq.in, bytes, len, &rq.h) != 0)
		return true;
	wire_begin(&rq.out, out, sizeof(out), &rq.h);
	rq.attachment = client_attachment(c, rq.h.attachment);
	handler = handler_of(rq.h.type);
	status = admit(&rq, handler);
	/* To resume may take several tries. */
	if (rq.h.type != WIRE_HELLO && rq.h.type != WIRE_RESUME)
		c->fresh = false;
	pool_look_at_clock();
	/* What the client published came before what it asks. */
	if (status == 0 && rq.attachment != NULL)
		lane_catch_up(rq.attachment);
	if (status == 0)
		status = handler->serve(&rq);
	/* Only a FREE may want no answer: tag 0. */
	if (status != DEFERRED &&
	    (rq.h.type != WIRE_FREE || rq.h.tag != 0 || handler == NULL))
		reply(&rq, status);
	/* A session that goes on costs its user no more than its connection. */
	if (!is_daily(handler, status) &&
	    !(rq.h.type == (WIRE_HELLO | WIRE_REPLY) && c->fresh))
		share_charge(c->user, begun);
	if (rq.document)
		client_keep_document(c, rq.passed.fds[0]);
	return !rq.end || client_leave(c);
}
