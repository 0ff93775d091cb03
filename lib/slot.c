/*
 * Allocating and freeing: from what is at hand (stock.h), else by message.
 *
 * Refs that messages brought ahead of use, for slabd_pool_want() and for
 * non-blocking calls, lie in the pool's stash until slabd_alloc() takes them,
 * before anything else.
 * Invariant: stashed + expected <= SLABD_BATCH_MAX, so every answer has room.
 */
#include "config.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mark.h"
#include "stock.h"

#define REF_BYTES   8u
#define GRANT_BYTES 16u

/* The next slot of a grant; 0 when there is none that could be. */
static uint64_t
next_grant(const struct slabd_pool *p, struct wire_reader *r)
{
	uint64_t ref = wire_get_u64(r), offset = wire_get_u64(r);
	bool good = table_valid(&p->table, ref) && !ref_shared(ref) &&
		    offset == ref_slot(ref) * p->table.slot_size;

	return good ? ref : 0;
}

/* The granted refs: how many, 0 after a refusal, or -EBADMSG. */
static int
read_grant(struct slabd_call *c, struct message *m, uint64_t *refs)
{
	int n = c->status;

	if (m == NULL || n < 0)
		return 0;
	if (n == 0 || (uint64_t)n > c->result ||
	    (c->flags & WIRE_WAIT && (uint64_t)n != c->result) ||
	    wire_left(&m->body) != (size_t)n * GRANT_BYTES)
		return -EBADMSG;
	for (int i = 0; i < n; i++)
		if ((refs[i] = next_grant(c->pool, &m->body)) == 0)
			return -EBADMSG;
	return n;
}

/* How many there are; like every change of it with the session's lock. */
static uint32_t
stashed(const struct slabd_pool *p)
{
	/* Relaxed: who looks without the lock need not be up to date. */
	return load_relaxed(&p->stashed);
}

static void *
hand_out(struct slabd_pool *p, uint64_t ref)
{
	table_hold(&p->table, ref);
	return table_address(&p->table, ref_slot(ref));
}

/* The answer to an ALLOC somebody waits for. */
static int
granted(struct slabd_call *c, struct message *m)
{
	uint64_t refs[SLABD_BATCH_MAX];
	void **v = c->out;
	int n = read_grant(c, m, refs);

	for (int i = 0; i < n; i++)
		v[i] = hand_out(c->pool, refs[i]);
	return n < 0 ? n : 0;
}

/* The answer to one for the stash. */
static int
reserved(struct slabd_call *c, struct message *m)
{
	struct slabd_pool *p = c->pool;
	int n = read_grant(c, m, p->stash + stashed(p));

	p->expected -= (unsigned)c->result;
	if (n > 0)
		store_relaxed(&p->stashed, stashed(p) + (unsigned)n);
	if (p->want == c) {
		p->want = NULL;
		session_news(p->session);
	}
	return n < 0 ? n : 0;
}

/* The answer to one that was withdrawn, and had crossed that. */
static int
unwanted(struct slabd_call *c, struct message *m)
{
	uint64_t refs[SLABD_BATCH_MAX];
	int n = read_grant(c, m, refs);

	if (n > 0)
		pool_give_back(c->pool, refs, (uint32_t)n);
	return n < 0 ? n : 0;
}

/* An ALLOC of `n` for the stash; -ENOMEM. */
static int
stash_ask(struct slabd_pool *p, struct slabd_call *c, uint32_t n)
{
	if (p->stash == NULL)
		p->stash = calloc(SLABD_BATCH_MAX, sizeof(*p->stash));
	if (p->stash == NULL)
		return error_plain(-ENOMEM, "alloc");
	p->expected += n;
	c->reply = reserved;
	c->result = n;
	call_put_u32(c, n);
	return 0;
}

/* Non-blocking: what is granted comes by the stash, on a later call. */
static int
alloc_later(struct slabd_pool *p, struct slabd_call *c)
{
	uint32_t room = SLABD_BATCH_MAX - stashed(p) - p->expected;
	struct slabd_call earlier = *c;
	int err;

	/* One that went well: what it brought has been taken since. */
	if (pool_collect(p, &earlier) && earlier.status < 0)
		return earlier.status;
	if (room == 0)
		return pool_error(p, -EAGAIN, "alloc");
	err = stash_ask(p, c, c->n < room ? c->n : room);
	return err < 0 ? err : pool_run(p, c);
}

static int
stash_take(struct slabd_pool *p, void **v, uint32_t n)
{
	uint32_t got = 0, left = stashed(p);

	while (got < n && left > 0)
		v[got++] = hand_out(p, p->stash[--left]);
	store_relaxed(&p->stashed, left);
	return (int)got;
}

/* A wait was withdrawn: what the daemon said then tells who has the slots. */
static int
waited_in_vain(const struct slabd_call *c, int err, int timeout_ms)
{
	const char *name = c->pool->name, *who = c->text;
	char prefix[sizeof(c->pool->name) + 8];
	int len = snprintf(prefix, sizeof(prefix), "pool %s: ", name);

	if (strncmp(who, prefix, (size_t)len) == 0)
		who += len;
	if (err == -EINTR)
		return error_set(err,
		    "pool %s: a signal handler ran before a slot came free",
		    name);
	return error_set(err, "pool %s: no slot came free in %d ms%s%s", name,
	    timeout_ms, *who != '\0' ? ": " : "", who);
}

/* Up to `n` slots now, or with WIRE_WAIT `n` in time: how many, or -errno. */
static int
alloc_slots(
    struct slabd_pool *p, void **v, uint32_t n, uint16_t flags, int timeout_ms)
{
	struct slabd *s = p->session;
	struct slabd_call c = {.type = WIRE_ALLOC,
	    .flags = flags,
	    .pool = p,
	    .n = n,
	    .reply = granted,
	    .late = unwanted,
	    .result = n,
	    .out = v};
	int err;

	if (stashed(p) > 0 && pool_is_current(p))
		return stash_take(p, v, n);
	if (p->retired)
		return pool_error(p, -ESHUTDOWN, "alloc");
	if (p->flags & SLABD_NONBLOCK)
		return alloc_later(p, &c);
	call_put_u32(&c, n);
	if (!(flags & WIRE_WAIT))
		return call_run(s, &c);
	err = call_run_until(s, &c, clock_after(timeout_ms));
	return err < 0 && c.status == -ECANCELED
		   ? waited_in_vain(&c, err, timeout_ms)
		   : call_result(&c);
}

/* What there is without a message: 0..n, or -EDEADLK. */
static int
at_hand(struct slabd_pool *p, void **v, uint32_t n)
{
	int got = 0;

	if (p == NULL || !stock_usable(p) || p->flags & SLABD_RDONLY)
		return 0;
	if (stashed(p) == 0)
		got = stock_take(p, v, n);
	else
		stock_look(p);
	return got < 0 ? pool_error(p, got, "alloc") : got;
}

/* How many of `n`; those at hand count even if no more are to be had. */
static int
alloc_many(
    struct slabd_pool *p, void **v, uint32_t n, uint16_t flags, int timeout_ms)
{
	int got = at_hand(p, v, n), cancel, more;

	if (got < 0 || (uint32_t)got == n ||
	    (got > 0 && p->flags & SLABD_NONBLOCK))
		return got;
	more = pool_enter(p, true, &cancel);
	if (more == 0) {
		more = alloc_slots(
		    p, v + got, n - (uint32_t)got, flags, timeout_ms);
		session_leave(p->session, cancel);
	}
	return got > 0 && more < 0 ? got : got + more;
}

/*
 * The everyday cases below end in calls of what is not inlined, so that they
 * need no stack of their own.
 */
static __attribute__((noinline)) void *
alloc_one(struct slabd_pool *p, uint16_t flags, int timeout_ms)
{
	void *slot = NULL;
	int err = alloc_many(p, &slot, 1, flags, timeout_ms);

	return err < 0 ? error_null(err) : slot;
}

static __attribute__((noinline)) void *
attend_with(struct slabd_pool *p, struct lane_magazine *m, void *slot)
{
	stock_attend(p, m);
	return slot;
}

/* From the thread's magazine, or by whatever else it takes. */
static inline __attribute__((always_inline)) void *
alloc_everyday(struct slabd_pool *p, uint16_t flags, int timeout_ms)
{
	struct seat *seat = p != NULL ? stock_seat(p) : NULL;
	struct lane_magazine *m;
	uint64_t ref;
	void *slot;

	if (seat == NULL || stashed(p) > 0)
		return alloc_one(p, flags, timeout_ms);
	m = seat->magazine;
	ref = stock_pop(p, m);
	if (ref == 0)
		return alloc_one(p, flags, timeout_ms);
	slot = table_address(&p->table, ref_slot(ref));
	return stock_noticed(p, m) ? attend_with(p, m, slot) : slot;
}

void *
slabd_alloc(struct slabd_pool *p)
{
	return mark_allocated(p, alloc_everyday(p, 0, 0));
}

void *
slabd_alloc_wait(struct slabd_pool *p, int timeout_ms)
{
	return mark_allocated(p, alloc_everyday(p, WIRE_WAIT, timeout_ms));
}

int
slabd_alloc_many(struct slabd_pool *p, void **v, unsigned n)
{
	int got;

	if (n == 0)
		return error_set(-EINVAL, "alloc: no slots asked for");
	got = alloc_many(p, v, n < SLABD_BATCH_MAX ? n : SLABD_BATCH_MAX, 0, 0);
	for (int i = 0; i < got; i++)
		v[i] = mark_allocated(p, v[i]);
	return got;
}

/*
 * Withdraws what slabd_pool_want() has asked for and not got; -ENOMEM. Unless
 * non-blocking it is waited for, so that a grant that crossed has been given
 * back before anything asked for next.
 */
static int
unwant(struct slabd_pool *p)
{
	struct slabd_call k = {.type = WIRE_CANCEL,
			      .pool = p,
			      .reply = call_ignore,
			      .late = call_ignore},
			  *post = NULL;

	if (p->want == NULL)
		return 0;
	call_put_u32(&k, p->want->tag);
	if (p->flags & SLABD_NONBLOCK && (post = call_copy(&k, 0)) == NULL)
		return error_plain(-ENOMEM, "want");
	p->want->reply = unwanted;
	p->expected -= (unsigned)p->want->result;
	p->want = NULL;
	if (post != NULL)
		call_post(p->session, post);
	else
		call_run_here(p->session, &k, NEVER);
	return 0;
}

/* Queues for `n` more. */
static int
queue_up(struct slabd_pool *p, uint32_t n)
{
	struct slabd_call c = {.type = WIRE_ALLOC,
			      .flags = WIRE_WAIT,
			      .pool = p,
			      .n = n,
			      .owner = CALL_POSTED},
			  ping = {.type = WIRE_PING}, *post;
	bool waits = !(p->flags & SLABD_NONBLOCK);
	uint32_t room = SLABD_BATCH_MAX - stashed(p) - p->expected;
	int err = 0;

	/* Nobody waits for the queue, but for a daemon that is away. */
	if (waits && p->session->phase != SESSION_READY)
		err = call_run(p->session, &ping);
	if (err == 0)
		err = stash_ask(p, &c, n < room ? n : room);
	if (err < 0)
		return err;
	post = p->want = call_copy(&c, 0);
	if (post == NULL) {
		p->expected -= (unsigned)c.result;
		return error_plain(-ENOMEM, "want");
	}
	err = call_start(p->session, post, waits);
	if (err < 0) {
		err = call_result(post);
		free(post);
	}
	return err;
}

int
slabd_pool_want(struct slabd_pool *p, unsigned n)
{
	int cancel, err;

	if (n > SLABD_BATCH_MAX)
		return error_set(
		    -EINVAL, "want: at most %u slots", SLABD_BATCH_MAX);
	err = pool_enter(p, true, &cancel);
	if (err < 0)
		return err;
	err = unwant(p);
	if (err == 0 && n == 0 && stashed(p) > 0) {
		err = pool_give_back(p, p->stash, stashed(p));
		if (err == 0)
			store_relaxed(&p->stashed, 0);
	} else if (err == 0 && n > 0 && p->retired)
		err = pool_error(p, -ESHUTDOWN, "want");
	else if (err == 0 && n > stashed(p))
		err = queue_up(p, n - stashed(p));
	else if (err == 0 && n > 0)
		session_news(p->session);
	session_leave(p->session, cancel);
	return err;
}

/* The answer to FREE; c->body still lists the refs. */
static int
freed(struct slabd_call *c, struct message *m)
{
	struct wire_reader refs = {c->body, c->len, 0, false};
	bool listed = m != NULL && c->status < 0 &&
		      wire_left(&m->body) == c->n * sizeof(int32_t);
	struct table *t = &c->pool->table;
	uint64_t ref;

	for (uint32_t i = 0; i < c->n; i++) {
		ref = wire_get_u64(&refs);
		if (!c->sent)
			table_settle(t, ref, SLOT_FREED, SLOT_HELD);
		else if (listed && (int32_t)wire_get_u32(&m->body) < 0)
			table_settle(t, ref, SLOT_FREED, SLOT_LOST);
	}
	if (listed && c->owner == CALL_POSTED)
		session_news(c->pool->session);
	return 0;
}

int
pool_give_back(struct slabd_pool *p, const uint64_t *refs, uint32_t n)
{
	struct slabd_call c = {.type = WIRE_FREE,
			      .pool = p,
			      .n = n,
			      .reply = freed},
			  *post;
	struct wire_writer w;

	post = call_copy(&c, (size_t)n * REF_BYTES);
	if (post == NULL)
		return error_plain(-ENOMEM, "free");
	w = (struct wire_writer){
	    (uint8_t *)(post + 1), 0, n * REF_BYTES, false};
	for (uint32_t i = 0; i < n; i++)
		wire_put_u64(&w, refs[i]);
	post->body = w.buf;
	post->len = w.len;
	call_post(p->session, post);
	return 0;
}

static struct slabd_call *
find_receive(const struct call_list *list, const struct slabd_pool *p,
    uint64_t ref, const struct slabd_call *but)
{
	struct slabd_call *c;

	TAILQ_FOREACH (c, list, link)
		if (c != but && c->type == WIRE_RECEIVE && c->pool == p &&
		    c->ref == ref)
			break;
	return c;
}

bool
pool_owe(struct slabd_pool *p, uint64_t ref, const struct slabd_call *but)
{
	struct slabd_call *c;

	c = find_receive(&p->session->calls, p, ref, but);
	if (c == NULL)
		c = find_receive(&p->session->unsent, p, ref, but);
	if (c == NULL)
		return false;
	c->owed = true;
	return true;
}

/* Sends FREE for the refs in `w`; the answer is waited for or not. */
static int
free_refs(struct slabd_pool *p, const struct wire_writer *w)
{
	struct slabd_call c = {.type = WIRE_FREE,
			      .pool = p,
			      .body = w->buf,
			      .len = w->len,
			      .n = (uint32_t)(w->len / REF_BYTES),
			      .reply = freed,
			      .late = freed},
			  *post;

	if (!(p->flags & SLABD_NONBLOCK))
		return call_run(p->session, &c);
	post = call_copy(&c, w->len);
	if (post == NULL) {
		freed(&c, NULL);
		return error_plain(-ENOMEM, "free");
	}
	memcpy(post + 1, w->buf, w->len);
	post->body = post + 1;
	post->owner = CALL_POSTED;
	if (call_start(p->session, post, false) == 0)
		return 0;
	c.status = call_result(post);
	free(post);
	return c.status;
}

/* Ends the caller's hold; the ref is added to `w` if the daemon must know. */
static int
drop(struct slabd_pool *p, const void *at, struct wire_writer *w)
{
	uint32_t slot = table_slot(&p->table, at);
	uint64_t ref;
	int err =
	    slot == TABLE_NO_SLOT ? -EINVAL : table_drop(&p->table, slot, &ref);

	if (err < 0)
		return pool_error_at(p, err, "free", at);
	if (err == 0 && !(ref_shared(ref) && pool_owe(p, ref, NULL)))
		wire_put_u64(w, ref);
	return 0;
}

/* Up to a batch: 0 or the first failure met. */
static int
free_batch(struct slabd_pool *p, void **v, unsigned n)
{
	uint8_t body[SLABD_BATCH_MAX * REF_BYTES];
	struct wire_writer w = {body, 0, sizeof(body), false};
	int first = 0, err;

	for (unsigned i = 0; i < n; i++) {
		err = drop(p, v[i], &w);
		first = first < 0 ? first : err;
	}
	if (w.len == 0)
		return first;
	err = free_refs(p, &w);
	return first < 0 || err >= 0 ? first : err;
}

/* By message, all that can be: 0 or the first failure met. */
static int
free_by_message(struct slabd_pool *p, void **v, unsigned n)
{
	int cancel, err = pool_enter(p, false, &cancel), first = 0;
	unsigned part;

	if (err < 0)
		return err;
	for (unsigned at = 0; at < n; at += part) {
		part = n - at < SLABD_BATCH_MAX ? n - at : SLABD_BATCH_MAX;
		err = free_batch(p, v + at, part);
		first = first < 0 ? first : err;
	}
	session_leave(p->session, cancel);
	return first;
}

/* When it takes more than a push. */
static __attribute__((noinline)) int
free_one(struct slabd_pool *p, void *at)
{
	uint32_t slot;
	int err;

	if (p == NULL || !stock_usable(p))
		return free_by_message(p, &at, 1);
	slot = table_slot(&p->table, at);
	err = slot == TABLE_NO_SLOT ? -EINVAL : stock_put(p, slot);
	return err < 0 ? pool_error_at(p, err, "free", at) : 0;
}

/* Into the thread's magazine, or by whatever else it takes. */
static inline __attribute__((always_inline)) int
free_everyday(struct slabd_pool *p, void *at)
{
	struct seat *seat = p != NULL ? stock_seat(p) : NULL;
	struct lane_magazine *m;
	uint32_t slot;

	if (seat == NULL)
		return free_one(p, at);
	m = seat->magazine;
	slot = table_slot(&p->table, at);
	if (slot == TABLE_NO_SLOT || !stock_push(p, m, seat->limit, slot))
		return free_one(p, at);
	return stock_noticed(p, m) ? stock_attend(p, m) : 0;
}

int
slabd_free(struct slabd_pool *p, void *at)
{
	mark_leaves(p, at);
	return mark_freed(p, at, free_everyday(p, at));
}

int
slabd_free_many(struct slabd_pool *p, void **v, unsigned n)
{
	int err, first = 0;

	if (n > INT_MAX)
		return error_set(-EINVAL, "free: too many at once");
	for (unsigned i = 0; i < n; i++)
		mark_leaves(p, v[i]);
	if (p == NULL || !stock_usable(p))
		first = free_by_message(p, v, n);
	else
		for (unsigned i = 0; i < n; i++) {
			err = free_everyday(p, v[i]);
			first = first < 0 ? first : err;
		}
	for (unsigned i = 0; i < n; i++)
		(void)mark_freed(p, v[i], first);
	return first < 0 ? first : (int)n;
}

struct slabd_scope_
slabd_scope_begin_(struct slabd_pool *pool, void *where)
{
	void *slot = slabd_alloc(pool);

	/* By bytes: `where` points to a pointer of the caller's own type. */
	memcpy(where, &slot, sizeof(slot));
	return (struct slabd_scope_){pool, where};
}

void
slabd_scope_end_(struct slabd_scope_ *scope)
{
	int saved = errno;
	void *slot;

	memcpy(&slot, scope->where, sizeof(slot));
	if (slot != NULL)
		slabd_free(scope->pool, slot);
	errno = saved;
}
