#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ledger.h"
#include "magazine.h"
#include "world.h"

#define PATIENCE 5000 /* milliseconds until what is done later is done */

static char reason[256];

static const char *__attribute__((format(printf, 1, 2)))
wrong(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(reason, sizeof(reason), fmt, ap);
	va_end(ap);
	return reason;
}

/* Objects of the pool, by name. */

static void *
map_object(const struct world *w, const char *kind, int flags, size_t *bytes)
{
	char path[160];
	struct stat st;
	void *at;
	int fd;

	snprintf(path, sizeof(path), "/dev/shm/%s" WORLD_POOL ".%s",
	    w->server.prefix, kind);
	fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return NULL;
	at = fstat(fd, &st) == 0 && st.st_size > 0
		 ? mmap(NULL, (size_t)st.st_size, PROT_READ | PROT_WRITE, flags,
		       fd, 0)
		 : MAP_FAILED;
	close(fd);
	*bytes = (size_t)st.st_size;
	return at == MAP_FAILED ? NULL : at;
}

/* The lane as it is now behind its name: a client's mapping of it. */
static int
map_lane(struct world *w, struct client *c)
{
	struct raw_lane *l = &c->lane;
	struct lane_geometry g;
	char kind[32];
	size_t bytes;
	void *mem;

	snprintf(kind, sizeof(kind), "lane-%u", c->holder);
	mem = map_object(w, kind, MAP_SHARED, &bytes);
	if (mem == NULL)
		return -ENOENT;
	g = ((struct lane_header *)mem)->geometry;
	l->lane_bytes = bytes;
	l->claims = map_object(w, "claims", MAP_SHARED, &bytes);
	l->claims_bytes = bytes;
	if (l->claims == NULL)
		return -ENOENT;
	l->outlet.tail =
	    load_acquire(&((struct lane_header *)mem)->record_tail);
	l->outlet.head =
	    load_acquire(&((struct lane_header *)mem)->record_head);
	return lane_open(&l->lane, mem, l->lane_bytes, &g);
}

/* A private copy: opening it finishes what was cut short in it. */
static int
map_ledger(const struct world *w, struct ledger *l, void **mem, size_t *bytes)
{
	struct ledger_identity id;

	*mem = map_object(w, "ledger", MAP_PRIVATE, bytes);
	return *mem == NULL ? -ENOENT : ledger_open(l, *mem, *bytes, &id);
}

static unsigned
find_holder(const struct ledger *l, const struct client *c)
{
	const struct ledger_attachment *a = l->attachments;

	for (unsigned i = 0; i < l->geometry.row_bits; i++)
		if (a[i].state != LEDGER_NOBODY &&
		    a[i].session == c->raw.session && a[i].number == c->at)
			return i + 1;
	return 0;
}

/* Beliefs. */

void
world_hold(struct world *w, unsigned client, uint64_t ref)
{
	struct client *c = &w->clients[client];

	for (unsigned i = 0; i < c->nheld; i++)
		if (c->held[i] == ref)
			return;
	c->held[c->nheld++] = ref;
}

void
world_drop(struct world *w, unsigned client, uint64_t ref)
{
	struct client *c = &w->clients[client];

	for (unsigned i = 0; i < c->nheld; i++)
		if (c->held[i] == ref) {
			c->held[i] = c->held[--c->nheld];
			return;
		}
}

void
world_offer(struct world *w, unsigned client, uint64_t ref, unsigned open)
{
	w->offers[w->noffers++] = (struct offer){ref, open, client};
}

void
world_take(struct world *w, uint64_t ref, unsigned n)
{
	for (unsigned i = 0; i < w->noffers; i++)
		if (w->offers[i].ref == ref)
			w->offers[i].open -= n;
}

/* What the answer to a request means to whoever asked. */

static void
granted(struct world *w, const struct pending *q)
{
	uint64_t ref;

	for (int i = 0; i < q->reply.h.status; i++) {
		memcpy(&ref, q->reply.body + 16 * i, 8);
		world_hold(w, q->client, ref);
	}
}

static void
offered(struct world *w, const struct pending *q, uint64_t ref)
{
	uint64_t out;
	uint32_t n = 1;

	memcpy(&out, q->reply.body, 8);
	world_drop(w, q->client, ref);
	if (q->type == WIRE_SHARE) {
		memcpy(&n, q->body + 8, 4);
		world_hold(w, q->client, out);
	}
	world_offer(w, q->client, out, n);
}

static void
attached(struct world *w, const struct pending *q)
{
	struct client *c = &w->clients[q->client];

	c->at = q->reply.h.attachment;
	/* Unless it was RESUME that brought one. */
	if (q->reply.fds[3] >= 0)
		c->lane.doorbell = q->reply.fds[3];
	for (unsigned i = 0; i < 3; i++)
		if (q->reply.fds[i] >= 0)
			close(q->reply.fds[i]);
}

/* An ALLOC that does not wait may get less. */
static bool
is_expected(const struct pending *q, int status)
{
	if (q->expected == ANY_STATUS)
		return status >= 0;
	if (q->type == WIRE_ALLOC && (q->flags & WIRE_WAIT) == 0)
		return status > 0 && status <= q->expected;
	return status == q->expected;
}

static const char *
understand(struct world *w, const struct pending *q)
{
	int status = q->reply.h.status;
	uint64_t ref;

	if (!is_expected(q, status))
		return wrong("%s of client %u was answered %d instead of %d",
		    wire_type_name(q->type), q->client, status, q->expected);
	memcpy(&ref, q->body, 8);
	switch (q->type) {
	case WIRE_ALLOC:
		granted(w, q);
		break;
	case WIRE_FREE:
		for (size_t i = 0; i < q->len; i += 8) {
			memcpy(&ref, q->body + i, 8);
			world_drop(w, q->client, ref);
		}
		break;
	case WIRE_SEND:
	case WIRE_SHARE:
		offered(w, q, ref);
		break;
	case WIRE_RECEIVE:
		world_take(w, ref, 1);
		world_hold(w, q->client, ref);
		break;
	case WIRE_RECALL:
		world_take(w, ref, (unsigned)status);
		if (!ref_shared(ref))
			world_hold(w, q->client, ref);
		break;
	case WIRE_ATTACH:
		attached(w, q);
		break;
	case WIRE_DETACH:
	case WIRE_BYE:
		w->clients[q->client].nheld = 0;
		w->clients[q->client].presence = DEAD;
		break;
	}
	return NULL;
}

/* Requests. */

void
world_post(struct world *w, unsigned client, unsigned type, unsigned flags,
    const void *body, size_t len, int expected)
{
	struct pending *q = &w->pending[w->npending++];
	struct client *c = &w->clients[client];

	*q = (struct pending){.client = client,
	    .type = type,
	    .flags = flags,
	    .len = len,
	    .expected = expected};
	if (len > 0)
		memcpy(q->body, body, len);
	q->tag = raw_post(&c->raw, type, flags, c->at, body, len);
}

static void
take_answer(struct world *w, unsigned client, struct raw_message *m)
{
	struct pending *q;

	/* Everything is mapped by name, and bells come with RESUME. */
	for (unsigned i = 0; i < WIRE_FDS_MAX; i++) {
		if (m->fds[i] >= 0)
			close(m->fds[i]);
		m->fds[i] = -1;
	}
	for (unsigned i = 0; i < w->npending; i++) {
		q = &w->pending[i];
		if (q->client != client || q->tag != m->h.tag ||
		    (m->h.type & WIRE_REPLY) == 0)
			continue;
		q->answered = true;
		q->reply = *m;
	}
}

unsigned
world_answers(struct world *w)
{
	struct pollfd ready = {.events = POLLIN};
	struct raw_message m;
	unsigned mask = 0;

	for (unsigned i = 0; i < WORLD_CLIENTS; i++) {
		ready.fd = w->clients[i].raw.fd;
		while (w->clients[i].presence == PRESENT &&
		       poll(&ready, 1, 0) == 1 &&
		       raw_next(&w->clients[i].raw, &m) == 0)
			take_answer(w, i, &m);
	}
	for (unsigned i = 0; i < w->npending; i++)
		mask |= (unsigned)w->pending[i].answered << i;
	return mask;
}

void
world_unanswer(struct world *w, unsigned mask)
{
	for (unsigned i = 0; i < w->npending; i++)
		w->pending[i].answered = (mask >> i & 1) != 0;
}

/* Joining and leaving. */

int
world_join(struct world *w, unsigned client, bool lane)
{
	struct client *c = &w->clients[client];
	struct raw_pool p;
	struct ledger l;
	size_t bytes;
	void *mem;
	int err = raw_open(&c->raw, w->server.socket, "client");

	c->lane = (struct raw_lane){
	    .pool.fd = -1, .lane_fd = -1, .claims_fd = -1, .doorbell = -1};
	if (err == 0)
		err = lane ? raw_attach_lane(&c->raw, WORLD_POOL, 0, &c->lane)
			   : raw_attach(&c->raw, WORLD_POOL, 0, &p);
	if (err != 0)
		return err;
	if (!lane)
		close(p.fd);
	c->at = lane ? c->lane.pool.number : p.number;
	c->presence = PRESENT;
	err = map_ledger(w, &l, &mem, &bytes);
	if (err == 0)
		c->holder = find_holder(&l, c);
	if (mem != NULL)
		munmap(mem, bytes);
	return err != 0 ? err : c->holder > 0 ? 0 : -ESRCH;
}

int
world_alloc(struct world *w, unsigned client, unsigned n)
{
	struct client *c = &w->clients[client];
	uint64_t refs[WORLD_SLOTS];
	int got = raw_alloc(&c->raw, c->at, n, refs);

	for (int i = 0; i < got; i++)
		world_hold(w, client, refs[i]);
	return got == (int)n ? 0 : got < 0 ? got : -ENOBUFS;
}

void
world_adrift(struct world *w)
{
	struct client *c;

	for (unsigned i = 0; i < WORLD_CLIENTS; i++) {
		c = &w->clients[i];
		c->raw.fd = -1;
		STAILQ_INIT(&c->raw.kept);
		c->lane.lane.header = NULL;
		c->lane.claims = NULL;
		c->lane.pool.fd = c->lane.lane_fd = c->lane.claims_fd = -1;
		c->lane.doorbell = -1;
	}
}

void
world_leave(struct world *w)
{
	for (unsigned i = 0; i < WORLD_CLIENTS; i++) {
		if (w->clients[i].presence == ABSENT)
			continue;
		raw_lane_close(&w->clients[i].lane);
		raw_close(&w->clients[i].raw);
	}
}

/* Coming back. */

/* Whether an ATTACH of it is to be asked for again. */
static bool
is_joining(const struct world *w, unsigned client)
{
	for (unsigned i = 0; i < w->npending; i++)
		if (w->pending[i].client == client &&
		    w->pending[i].type == WIRE_ATTACH &&
		    !w->pending[i].answered)
			return true;
	return false;
}

/* Whether what it has to come back to may have been ended by itself. */
static bool
is_leaving(const struct world *w, unsigned client)
{
	for (unsigned i = 0; i < w->npending; i++)
		if (w->pending[i].client == client &&
		    (w->pending[i].type == WIRE_BYE ||
			w->pending[i].type == WIRE_DETACH))
			return true;
	return false;
}

static bool
has_lane(const struct client *c)
{
	return c->lane.pool.features != 0;
}

/* What a client that has just attached has: a holder, perhaps a lane. */
static void
settle_in(struct world *w, struct client *c)
{
	struct ledger l;
	size_t bytes;
	void *mem;

	if (map_ledger(w, &l, &mem, &bytes) == 0)
		c->holder = find_holder(&l, c);
	if (mem != NULL)
		munmap(mem, bytes);
	if (has_lane(c) && c->lane.lane.header == NULL)
		map_lane(w, c);
}

static const char *
come_back(struct world *w, unsigned client)
{
	struct client *c = &w->clients[client];
	bool leaving = is_leaving(w, client);
	int err = raw_reopen(&c->raw, w->server.socket, "back");

	if (err < 0 || (err == 0 && !leaving && !is_joining(w, client)))
		return wrong(
		    "client %u is not known any more: %d", client, err);
	if (is_joining(w, client) || err == 0)
		return NULL;
	for (unsigned i = 0; i < w->npending; i++)
		if (w->pending[i].client == client &&
		    w->pending[i].type == WIRE_ATTACH)
			c->at = w->pending[i].reply.h.attachment;
	settle_in(w, c);
	if (has_lane(c) && c->lane.lane.header == NULL)
		return leaving ? NULL : wrong("client %u has no lane", client);
	c->lane.pool.number = c->at;
	err = has_lane(c) ? raw_resume_lane(&c->raw, &c->lane)
			  : raw_resume(&c->raw, c->at);
	if (err != 0 && !(leaving && err == -EBADF))
		return wrong("client %u cannot resume: %d", client, err);
	return NULL;
}

/* Requests may be served again under their tags, and some as if for the first
 * time. */
static bool
is_marked(unsigned type)
{
	return type == WIRE_ATTACH || type == WIRE_ALLOC || type == WIRE_FREE ||
	       type == WIRE_SEND || type == WIRE_SHARE ||
	       type == WIRE_RECEIVE || type == WIRE_RECALL;
}

static void
repeat(struct world *w, const struct pending *q)
{
	struct client *c = &w->clients[q->client];
	uint32_t last = c->raw.tag;

	c->raw.tag = q->tag - 1;
	raw_post(&c->raw, q->type,
	    q->flags | (is_marked(q->type) ? WIRE_AGAIN : 0), c->at, q->body,
	    q->len);
	c->raw.tag = last;
}

/*
 * Its answer may be lost once more: what an ALLOC has brought it brings again,
 * although there may be more of the client's by now.
 */
static const char *
ask_twice(struct world *w, const struct pending *q)
{
	struct raw_message m;
	int err;

	if (q->type != WIRE_ALLOC || q->reply.h.status <= 0)
		return NULL;
	repeat(w, q);
	err = raw_wait(&w->clients[q->client].raw, q->tag, &m);
	if (err == q->reply.h.status &&
	    memcmp(m.body, q->reply.body, 16 * (size_t)err) == 0)
		return NULL;
	return wrong("asked for again, ALLOC of client %u is answered %d "
		     "instead of %d, or with other slots",
	    q->client, err, q->reply.h.status);
}

/* A detached pool and a session that is over have no more to say. */
static bool
is_over(const struct pending *q, int err)
{
	return (q->type == WIRE_DETACH && err == -EBADF) ||
	       (q->type == WIRE_BYE && err == 0);
}

/* Coming back has said these already. */
static bool
is_obsolete(const struct pending *q)
{
	return q->type == WIRE_HELLO || q->type == WIRE_RESUME;
}

const char *
world_finish(struct world *w)
{
	const char *why = NULL;
	struct pending *q;
	int err;

	for (unsigned i = 0; i < w->npending; i++)
		if (!w->pending[i].answered && !is_obsolete(&w->pending[i]))
			repeat(w, &w->pending[i]);
	for (unsigned i = 0; i < w->npending && why == NULL; i++) {
		q = &w->pending[i];
		if (!q->answered && is_obsolete(q))
			continue;
		if (!q->answered) {
			err = raw_wait(
			    &w->clients[q->client].raw, q->tag, &q->reply);
			if (is_over(q, err))
				q->reply.h.status = 0;
			else if (err == -ENOTCONN || err == -ETIMEDOUT)
				return wrong("%s of client %u: no answer (%d)",
				    wire_type_name(q->type), q->client, err);
			why = ask_twice(w, q);
		}
		if (why == NULL)
			why = understand(w, q);
	}
	w->npending = 0;
	return why;
}

/* Comparing: a slot as its holders believe it is. */
struct belief {
	enum ledger_state state;
	uint64_t ref;
	unsigned holder, open; /* 0: whoever */
	unsigned row;	       /* bits of clients */
};

struct beliefs {
	struct belief slots[4 * WORLD_SLOTS];
	bool twice; /* some slot is in two hands */
};

static void
believe(
    struct beliefs *b, enum ledger_state state, uint64_t ref, unsigned holder)
{
	struct belief *s = &b->slots[ref_slot(ref)];

	if (s->state != LEDGER_FREE)
		b->twice = true;
	*s = (struct belief){.state = state, .ref = ref, .holder = holder};
}

static void
believe_shared(struct beliefs *b, uint64_t ref, unsigned holder, unsigned open)
{
	struct belief *s = &b->slots[ref_slot(ref)];

	if (s->state != LEDGER_FREE && s->ref != ref)
		b->twice = true;
	s->state = LEDGER_SHARED;
	s->ref = ref;
	s->open += open;
	if (holder > 0)
		s->row |= 1u << (holder - 1);
}

static void
believe_lane(struct beliefs *b, const struct client *c)
{
	const struct lane *l = &c->lane.lane;
	uint64_t head, tail, ref;
	struct lane_magazine *m;

	if (l->header == NULL || c->presence != PRESENT)
		return;
	head = load_acquire(&l->header->grant_head);
	tail = load_acquire(&l->header->grant_tail);
	for (; (head & RING_CLOSED) == 0 && head != tail; head++) {
		ref = load_relaxed(&l->grants[head & (l->geometry.grants - 1)]);
		believe(b, LEDGER_HELD, ref, c->holder);
	}
	m = lane_magazine(l, 0);
	for (uint32_t i = 0; i < load_relaxed(&m->count); i++)
		if (magazine_peek(m, i) != 0)
			believe(b, LEDGER_HELD, magazine_peek(m, i), c->holder);
}

static void
believe_all(struct beliefs *b, const struct world *w)
{
	const struct client *c;
	const struct offer *o;

	for (unsigned i = 0; i < WORLD_CLIENTS; i++) {
		c = &w->clients[i];
		believe_lane(b, c);
		for (unsigned k = 0; k < c->nheld; k++)
			if (ref_shared(c->held[k]))
				believe_shared(b, c->held[k], c->holder, 0);
			else
				believe(b, LEDGER_HELD, c->held[k], c->holder);
	}
	for (unsigned i = 0; i < w->noffers; i++) {
		o = &w->offers[i];
		c = &w->clients[o->sender];
		if (o->open > 0 && ref_shared(o->ref))
			believe_shared(b, o->ref, 0, o->open);
		else if (o->open > 0)
			believe(b, LEDGER_IN_FLIGHT, o->ref,
			    c->presence == PRESENT ? c->holder : 0);
	}
}

static const char *
compare_slot(const struct ledger *l, uint32_t slot, const struct belief *b)
{
	struct ledger_word is = ledger_word(l, slot);
	struct ledger_share s = ledger_share_of(l, slot);
	bool same = is.state == b->state;

	if (same && is.state != LEDGER_FREE)
		same = is.version == ref_version(b->ref);
	if (same && is.state != LEDGER_SHARED)
		same = b->holder == 0 || is.holder == b->holder;
	if (same && is.state == LEDGER_SHARED)
		same = s.open == b->open && *ledger_row(l, slot) == b->row;
	if (same)
		return NULL;
	return wrong(
	    "slot %u: state %d version %llu holder %u open %u row %llx, but "
	    "believed state %d version %llu holder %u open %u row %x",
	    slot, (int)is.state, (unsigned long long)is.version, is.holder,
	    s.open, (unsigned long long)*ledger_row(l, slot), (int)b->state,
	    (unsigned long long)ref_version(b->ref), b->holder, b->open,
	    b->row);
}

static const char *
compare_once(const struct world *w)
{
	struct beliefs b = {.twice = false};
	const char *why = NULL;
	struct ledger l;
	size_t bytes;
	void *mem;
	int err = map_ledger(w, &l, &mem, &bytes);

	if (err == 0)
		believe_all(&b, w);
	for (uint32_t s = 0; err == 0 && why == NULL &&
			     s < ledger_segments_max(&l) * WORLD_SLOTS;
	     s++)
		if (ledger_segment(&l, s / WORLD_SLOTS) == LEDGER_ATTACHED)
			why = compare_slot(&l, s, &b.slots[s]);
	if (b.twice)
		why = wrong("a slot is in two hands");
	if (mem != NULL)
		munmap(mem, bytes);
	return err != 0 ? wrong("the ledger cannot be opened: %d", err) : why;
}

/* The daemon goes on giving and taking in its own time: it may be late. */
static const char *
compare(const struct world *w, struct raw *r)
{
	const char *why;
	int err;

	for (int i = 0;; i++) {
		err = raw_audit(r);
		if (err != 0)
			return wrong("AUDIT says %d", err);
		why = compare_once(w);
		if (why == NULL || i == PATIENCE / 2)
			return why;
		poll(NULL, 0, 2);
	}
}

/* By notices in its lane. */
static const char *
no_refusals(struct world *w)
{
	uint64_t ref;

	for (unsigned i = 0; i < WORLD_CLIENTS; i++) {
		if (w->clients[i].lane.lane.header == NULL)
			continue;
		ref = raw_lane_refused(&w->clients[i].lane);
		if (ref != 0)
			return wrong(
			    "client %u was refused slot %u", i, ref_slot(ref));
	}
	return NULL;
}

static const char *
no_rejections(struct raw *r)
{
	struct raw_stats s;

	if (raw_pool_stats(r, WORLD_POOL, &s) != 0)
		return wrong("there are no statistics");
	return s.rejected_total == 0
		   ? NULL
		   : wrong("%llu honest operations were rejected",
			 s.rejected_total);
}

unsigned
world_open(const struct world *w)
{
	struct ledger l;
	unsigned n = 0;
	size_t bytes;
	void *mem;

	if (map_ledger(w, &l, &mem, &bytes) == 0)
		for (uint32_t s = 0; s < WORLD_SLOTS; s++)
			n += (ledger_word(&l, s).state == LEDGER_IN_FLIGHT) +
			     ledger_share_of(&l, s).open;
	if (mem != NULL)
		munmap(mem, bytes);
	return n;
}

/* Giving back. */

/* Every open receipt is there, and there is none beyond. */
static const char *
take_offers(struct world *w, struct raw *r, uint32_t at)
{
	struct offer *o;
	int err;

	for (unsigned i = 0; i < w->noffers; i++) {
		o = &w->offers[i];
		for (unsigned k = 0; k < o->open; k++) {
			err = raw_receive(r, at, o->ref);
			if (err != 0)
				return wrong("receipt %u of %u is lost: %d",
				    k + 1, o->open, err);
		}
		err = raw_receive(r, at, o->ref);
		if (err != -ESTALE)
			return wrong("a receipt too many is answered %d", err);
		if (o->open > 0 && raw_free(r, at, &o->ref, 1) != 1)
			return wrong("what was received cannot be freed");
	}
	return NULL;
}

static const char *
free_by_lane(struct world *w, struct client *c)
{
	struct lane_magazine *m = lane_magazine(&c->lane.lane, 0);
	uint64_t ref;

	for (uint32_t i = 0; i < load_relaxed(&m->count); i++) {
		ref = magazine_take(m, i);
		if (ref != 0)
			c->held[c->nheld++] = ref;
	}
	store_relaxed(&m->count, 0);
	for (unsigned i = 0; i < c->nheld; i++) {
		/* Any question has the ring read. */
		if (!ring_has_room(&c->lane.lane, &c->lane.outlet, 1))
			raw_held(&c->raw, c->at, c->held[i]);
		if (!raw_lane_record(&c->lane, LANE_FREE, c->held[i], 0))
			return wrong("the return ring stays full");
	}
	/* A question has them read. */
	raw_held(&c->raw, c->at, 0);
	return no_refusals(w);
}

/*
 * As many records as the return ring has places: none may be passed over for
 * what was there before.
 */
static const char *
turn_round(struct client *c)
{
	uint32_t left = c->lane.lane.geometry.records;
	uint64_t refs[8];
	int n;

	for (; left > 0; left -= (uint32_t)n) {
		n = raw_alloc(&c->raw, c->at, left < 8 ? left : 8, refs);
		if (n <= 0)
			return wrong("no slots for a round: %d", n);
		for (int i = 0; i < n; i++)
			raw_lane_record(&c->lane, LANE_FREE, refs[i], 0);
		for (int i = 0; i < n; i++)
			if (raw_held(&c->raw, c->at, refs[i]) != 0)
				return wrong("a record was passed over");
	}
	return NULL;
}

static const char *
give_back(struct world *w, unsigned client)
{
	struct client *c = &w->clients[client];
	const char *why = NULL;
	int n;

	if (c->lane.lane.header != NULL) {
		why = free_by_lane(w, c);
	} else if (c->nheld > 0) {
		n = raw_free(&c->raw, c->at, c->held, c->nheld);
		if (n != (int)c->nheld)
			why = wrong("client %u frees %u slots: %d", client,
			    c->nheld, n);
	}
	c->nheld = 0;
	if (why == NULL && c->lane.lane.header != NULL)
		why = turn_round(c);
	if (why == NULL && raw_bye(&c->raw) != 0)
		why = wrong("client %u cannot say goodbye", client);
	return why;
}

/* Who was cut short in joining comes back only to leave. */
static const char *
leave_early(struct world *w, unsigned client)
{
	struct client *c = &w->clients[client];

	if (c->presence != ABSENT || c->raw.session == 0)
		return NULL;
	c->presence = DEAD;
	if (raw_reopen(&c->raw, w->server.socket, "back") < 0 ||
	    raw_bye(&c->raw) != 0)
		return wrong("client %u cannot leave early", client);
	return NULL;
}

/* Of the ledger's places for attachments, those that are somebody's. */
static unsigned
places_taken(const struct world *w)
{
	struct ledger l;
	unsigned n = 0;
	size_t bytes;
	void *mem;

	if (map_ledger(w, &l, &mem, &bytes) == 0)
		for (unsigned i = 0; i < l.geometry.attachments_max; i++)
			n += l.attachments[i].state != LEDGER_NOBODY;
	if (mem != NULL)
		munmap(mem, bytes);
	return n;
}

/* Nothing is left but what the parted have, and nobody but they and who asks. */
static const char *
all_gone(const struct world *w, struct raw *r)
{
	unsigned kept = 0, there = 1, places = 0;
	struct raw_stats s;

	for (unsigned i = 0; i < WORLD_CLIENTS; i++) {
		kept += w->clients[i].nheld;
		there += w->clients[i].presence == PARTED;
	}
	for (int i = 0; i < PATIENCE / 2; i++) {
		if (raw_audit(r) != 0 || raw_pool_stats(r, WORLD_POOL, &s) != 0)
			return wrong("the books do not balance at the end");
		places = places_taken(w);
		if (s.free + kept == s.slots && s.quarantined == kept &&
		    s.clients == there && places == there)
			return NULL;
		poll(NULL, 0, 2);
	}
	return wrong("%u of %u slots are free at the end, %u quarantined; "
		     "%u clients and %u places taken instead of %u",
	    s.free, s.slots, s.quarantined, s.clients, places, there);
}

static const char *
check_with(struct world *w, struct raw *r, uint32_t at)
{
	const char *why = NULL;

	for (unsigned i = 0; i < WORLD_CLIENTS && why == NULL; i++)
		if (w->clients[i].presence == PRESENT)
			why = come_back(w, i);
	if (why == NULL)
		why = world_finish(w);
	for (unsigned i = 0; i < WORLD_CLIENTS; i++)
		if (w->clients[i].presence == PRESENT)
			settle_in(w, &w->clients[i]);
	if (why == NULL)
		why = compare(w, r);
	if (why == NULL)
		why = no_refusals(w);
	if (why == NULL)
		why = no_rejections(r);
	if (why == NULL)
		why = take_offers(w, r, at);
	for (unsigned i = 0; i < WORLD_CLIENTS && why == NULL; i++)
		if (w->clients[i].presence == PRESENT)
			why = give_back(w, i);
	for (unsigned i = 0; i < WORLD_CLIENTS && why == NULL; i++)
		why = leave_early(w, i);
	return why == NULL ? all_gone(w, r) : why;
}

const char *
world_check(struct world *w)
{
	const char *why;
	struct raw_pool p;
	struct raw r;
	int err = raw_open(&r, w->server.socket, "taker");

	if (err == 0)
		err = raw_attach(&r, WORLD_POOL, 0, &p);
	if (err != 0) {
		why = wrong("the successor serves nobody: %d", err);
	} else {
		close(p.fd);
		why = check_with(w, &r, p.number);
	}
	raw_close(&r);
	return why;
}
