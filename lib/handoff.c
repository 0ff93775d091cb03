/*
 * Handing slots to other processes, and taking them back: by records in the
 * lane and by claims (claim.h), or by messages.
 *
 * With a lane the ledger lags behind, so claims decide who receives. What
 * concerns one slot is done under the lock of the return ring: first there is
 * room for a record, then the table and the claim change, then the record is
 * published. So nothing is ever left half done, and for shared slots, which
 * several threads may receive and free at once, the order in the ring is that
 * in the table.
 */
#include "config.h"

#include <errno.h>

#include "claim.h"
#include "mark.h"
#include "publish.h"
#include "stock.h"

/* The answer to SEND or SHARE; the slot is SLOT_MOVING. */
static int
moved(struct slabd_call *c, struct message *m)
{
	struct table *t = &c->pool->table;
	bool shared = c->type == WIRE_SHARE;
	uint64_t ref;

	if (m == NULL || c->status < 0) {
		/* Not ours after all, or it stays with the caller. */
		table_settle(t, c->ref, SLOT_MOVING,
		    m != NULL && (c->status == -EPERM || c->status == -EALREADY)
			? SLOT_LOST
			: SLOT_HELD);
		return 0;
	}
	ref = wire_get_u64(&m->body);
	if (!wire_done(&m->body) || !table_valid(t, ref) ||
	    ref_slot(ref) != ref_slot(c->ref) || ref_shared(ref) != shared)
		return -EBADMSG;
	if (shared)
		table_hold(t, ref);
	else
		table_settle(t, c->ref, SLOT_MOVING, SLOT_SENT);
	c->result = ref;
	return 0;
}

/* The answer to the RECALL below: the slot is the caller's again. */
static int
undone(struct slabd_call *c, struct message *m)
{
	struct table *t = &c->pool->table;
	uint32_t slot = ref_slot(c->ref);

	if (m == NULL || c->status < 0)
		return 0;
	if (!wire_done(&m->body))
		return -EBADMSG;
	if (!ref_shared(c->ref) && c->status != 1)
		return 0;
	/* He may have freed it since, by the ref it had when that failed. */
	if (table_ref(t, slot) == c->result && table_is_last(t, slot))
		table_hold(t, c->ref);
	else
		pool_give_back(c->pool, &c->ref, 1);
	return 0;
}

/*
 * The answer to SEND or SHARE when that has failed for its caller; nobody knows
 * the ref, so it is taken back.
 */
static int
moved_late(struct slabd_call *c, struct message *m)
{
	struct slabd_call r = {.type = WIRE_RECALL,
			      .pool = c->pool,
			      .result = c->ref,
			      .reply = undone},
			  *post;

	if (m == NULL || c->status < 0)
		return 0;
	r.ref = wire_get_u64(&m->body);
	if (!wire_done(&m->body) || !table_valid(&c->pool->table, r.ref) ||
	    ref_slot(r.ref) != ref_slot(c->ref))
		return -EBADMSG;
	call_put_u64(&r, r.ref);
	call_put_u32(&r, 0);
	post = call_copy(&r, 0);
	if (post != NULL)
		call_post(c->session, post);
	return 0;
}

/* Claims the slot and runs the call that moves it. */
static int
move(struct slabd_pool *p, uint32_t slot, struct slabd_call *c)
{
	int err;

	c->ref = table_ref(&p->table, slot);
	if (pool_collect(p, c))
		return c->status;
	err = table_move(&p->table, slot, &c->ref);
	if (err < 0)
		return pool_error_at(p, err, wire_type_name(c->type),
		    table_address(&p->table, slot));
	call_put_u64(c, c->ref);
	if (c->type == WIRE_SHARE)
		call_put_u32(c, c->n);
	return pool_run(p, c);
}

static int
hand_off_by_message(struct slabd_pool *p, void *at, uint16_t type,
    uint32_t receivers, slabd_ref *ref)
{
	struct slabd_call c = {.type = type,
	    .pool = p,
	    .n = receivers,
	    .reply = moved,
	    .late = moved_late};
	int cancel, err = pool_enter(p, true, &cancel);
	uint32_t slot;

	if (err < 0)
		return err;
	slot = table_slot(&p->table, at);
	err = slot == TABLE_NO_SLOT
		  ? pool_error_at(p, -EINVAL, wire_type_name(type), at)
		  : move(p, slot, &c);
	session_leave(p->session, cancel);
	if (err < 0)
		return err;
	*ref = c.result;
	return 0;
}

/* Whether a lane is there, and may be used to do more than receive and free. */
static bool
may_change(const struct slabd_pool *p)
{
	return p != NULL && stock_usable(p) && !(p->flags & SLABD_RDONLY);
}

/* Sends the slot, or shares it with so many receivers. */
static int
hand_off_by_lane(struct slabd_pool *p, void *at, uint16_t type,
    uint32_t receivers, slabd_ref *ref)
{
	bool shared = type == WIRE_SHARE;
	uint32_t slot = table_slot(&p->table, at);
	uint64_t held, offered;
	int err;

	if (slot == TABLE_NO_SLOT)
		return pool_error_at(p, -EINVAL, wire_type_name(type), at);
	__builtin_prefetch((void *)&p->claims[slot], 1);
	err = post_begin(p);
	if (err < 0)
		return err;
	err = table_offer(&p->table, slot, shared, &held, &offered);
	if (err < 0) {
		post_cancel(p);
		return pool_error_at(p, err, wire_type_name(type), at);
	}
	claim_offer(p->claims, offered, shared ? receivers : 1);
	post_record(
	    p, record_make(shared ? LANE_SHARE : LANE_SEND, held, receivers));
	post_end(p);
	*ref = offered;
	return 0;
}

static int
hand_off(struct slabd_pool *p, void *at, uint16_t type, uint32_t receivers,
    slabd_ref *ref)
{
	*ref = 0;
	return may_change(p) ? hand_off_by_lane(p, at, type, receivers, ref)
			     : hand_off_by_message(p, at, type, receivers, ref);
}

int
slabd_send(struct slabd_pool *p, void *slot, slabd_ref *ref)
{
	int err;

	mark_leaves(p, slot);
	err = hand_off(p, slot, WIRE_SEND, 0, ref);
	return mark_sent(p, slot, *ref, err);
}

int
slabd_share(
    struct slabd_pool *p, void *slot, unsigned receivers, slabd_ref *ref)
{
	*ref = 0;
	if (receivers == 0 || receivers > SLABD_SHARE_MAX)
		return error_set(
		    -EINVAL, "share: with 1 to %u receivers", SLABD_SHARE_MAX);
	return hand_off(p, slot, WIRE_SHARE, receivers, ref);
}

/* The answer to RECEIVE. */
static int
received(struct slabd_call *c, struct message *m)
{
	struct slabd_pool *p = c->pool;
	uint64_t ref, offset;

	if (m == NULL && c->sent)
		return 0;
	if (c->status < 0) {
		if (c->owed && !pool_owe(p, c->ref, c))
			pool_give_back(p, &c->ref, 1);
		return 0;
	}
	ref = wire_get_u64(&m->body);
	offset = wire_get_u64(&m->body);
	if (!wire_done(&m->body) || ref != c->ref ||
	    offset != ref_slot(ref) * p->table.slot_size)
		return -EBADMSG;
	table_hold(&p->table, ref);
	c->slot = table_address(&p->table, ref_slot(ref));
	return 0;
}

/* Ends the hold that a call has brought which had failed for its caller. */
static void
let_go(struct slabd_call *c)
{
	struct slabd_pool *p = c->pool;
	uint64_t ref;

	if (table_drop(&p->table, ref_slot(c->ref), &ref) == 0 &&
	    !(ref_shared(ref) && pool_owe(p, ref, c)))
		pool_give_back(p, &ref, 1);
}

static int
received_late(struct slabd_call *c, struct message *m)
{
	int err = received(c, m);

	if (m != NULL && err == 0 && c->status >= 0)
		let_go(c);
	return err;
}

/*
 * True when the ref could be one of this pool. It may lie in a part the pool
 * has grown by, and the event that says so be under way: it came before the
 * ref, so the answer to anything asked now comes behind it.
 */
static bool
known(struct slabd_pool *p, slabd_ref ref)
{
	struct slabd_call ping = {.type = WIRE_PING};

	if (ref_version(ref) == 0 || table_valid(&p->table, ref))
		return ref_version(ref) != 0;
	if (p->flags & SLABD_NONBLOCK)
		session_drain(p->session);
	else
		call_run(p->session, &ping);
	return table_valid(&p->table, ref);
}

/* Enters the pool for a call about a ref. */
static int
enter_with(struct slabd_pool *p, slabd_ref ref, bool change, int *cancel)
{
	int err = pool_enter(p, change, cancel);

	if (err == 0 && !known(p, ref)) {
		session_leave(p->session, *cancel);
		err = error_set(-EINVAL, "%#llx is no ref of pool %s",
		    (unsigned long long)ref, p->name);
	}
	return err;
}

static int
receive_by_message(struct slabd_pool *p, slabd_ref ref, void **slot)
{
	struct slabd_call c = {.type = WIRE_RECEIVE,
	    .pool = p,
	    .ref = ref,
	    .reply = received,
	    .late = received_late};
	int cancel, err = enter_with(p, ref, false, &cancel);

	if (err < 0)
		return err;
	call_put_u64(&c, ref);
	err = pool_collect(p, &c) ? c.status : pool_run(p, &c);
	session_leave(p->session, cancel);
	if (err < 0)
		return err;
	*slot = c.slot;
	return 0;
}

static int
stale(const struct slabd_pool *p, slabd_ref ref)
{
	return error_set(-ESTALE, "pool %s: ref %#llx: %s", p->name,
	    (unsigned long long)ref, slabd_strerror(-ESTALE));
}

/*
 * The answer to HELD about a receipt. That the ref is held may be due to another
 * receipt of the same share; then the record is among the refused.
 */
static int
judged(struct slabd_call *c, struct message *m)
{
	struct slabd_pool *p = c->pool;

	if (m == NULL || c->status < 0)
		/* Nobody knows: if it counted, it is given back. */
		post_withdraw(p, c->ref, true);
	else if (!wire_done(&m->body))
		return -EBADMSG;
	else if (c->status == 0)
		post_withdraw(p, c->ref, false);
	else if (post_was_refused(p, c->result)) {
		post_withdraw(p, c->ref, true);
		c->status = 0;
	}
	return 0;
}

/*
 * The claim of a receipt that was taken does not stand any more: the daemon says
 * whether it saw the record, of that index, in time.
 */
static int
ask_verdict(struct slabd_pool *p, slabd_ref ref, uint64_t index)
{
	struct slabd_call c = {.type = WIRE_HELD,
	    .pool = p,
	    .ref = ref,
	    .result = index,
	    .reply = judged};
	int cancel, err = pool_enter(p, false, &cancel);

	if (err < 0)
		return err;
	call_put_u64(&c, ref);
	err = pool_run(p, &c);
	session_leave(p->session, cancel);
	return err == 0 ? stale(p, ref) : err < 0 ? err : 0;
}

/* The verdict that a non-blocking call has asked for before. */
static int
collect_verdict(struct slabd_pool *p, slabd_ref ref)
{
	struct slabd_call c = {.type = WIRE_HELD, .pool = p, .ref = ref};
	int cancel, err = pool_enter(p, false, &cancel);

	if (err < 0)
		return err;
	err = pool_collect(p, &c) ? c.status : 0;
	session_leave(p->session, cancel);
	return err == 0 ? stale(p, ref) : err < 0 ? err : 0;
}

/* The answer to HELD about what the table has: if it is not so, not any more. */
static int
settled(struct slabd_call *c, struct message *m)
{
	if (m == NULL || c->status < 0)
		return 0;
	if (!wire_done(&m->body))
		return -EBADMSG;
	if (c->status > 0)
		return 0;
	table_forget(&c->pool->table, ref_slot(c->ref), c->result);
	/* Who asked finds no more reason to. */
	if (c->owner == CALL_KEPT) {
		LIST_REMOVE(c, kept);
		c->owner = CALL_POSTED;
		session_news(c->session);
	}
	return 0;
}

/*
 * A word of the table rules out a ref that is to be had: 0, it was wrong, and is
 * no more; -ESTALE: it was right.
 */
static int
settle(struct slabd_pool *p, slabd_ref ref, uint64_t word)
{
	/* By `n` it is told from a question about a receipt. */
	struct slabd_call c = {.type = WIRE_HELD,
	    .pool = p,
	    .ref = (word & TABLE_NAME) | ref_slot(ref),
	    .n = 1,
	    .result = word,
	    .reply = settled};
	int cancel, err;

	if (table_state(word) == SLOT_SENT)
		return stale(p, ref);
	err = pool_enter(p, false, &cancel);
	if (err < 0)
		return err;
	call_put_u64(&c, c.ref);
	err = pool_collect(p, &c) ? c.status : pool_run(p, &c);
	session_leave(p->session, cancel);
	return err > 0 ? stale(p, ref) : err;
}

/*
 * Whether the slot's claim may be looked at: the daemon has made it before any
 * ref of the slot, so what cannot be is none. Relaxed: how a ref travels keeps
 * order.
 */
static bool
has_claim(const struct slabd_pool *p, slabd_ref ref)
{
	return ref_slot(ref) < load_relaxed(&p->lane.header->claims);
}

/* Whether some RECALL of the pool is under way, for somebody who waits or not. */
static bool
is_asked_to_recall(const struct slabd_pool *p)
{
	const struct call_list *lists[] = {
	    &p->session->calls, &p->session->unsent};
	const struct slabd_call *c;

	for (int i = 0; i < 2; i++)
		TAILQ_FOREACH (c, lists[i], link)
			if (c->type == WIRE_RECALL && c->pool == p)
				return true;
	return false;
}

/*
 * With the session's lock. While `recalling` the daemon may be about to take back
 * what this attachment has offered. A receipt that was taken from the claim by
 * then, and published later, it would give to both; so nobody here takes one by
 * the lane, and who has just done so has published it when this returns.
 */
static void
set_recalling(struct slabd_pool *p, bool recalling)
{
	pthread_mutex_lock(&p->post.lock);
	p->post.recalling = recalling;
	pthread_mutex_unlock(&p->post.lock);
}

/* What to think of a receipt that was to be taken by the lane. */
enum receipt {
	RECEIPT_SURE,
	RECEIPT_DOUBTFUL,  /* it was revoked, perhaps in time */
	RECEIPT_OPPOSED,   /* not taken: by the table */
	RECEIPT_CONTESTED, /* not taken: what was sent here is being recalled */
};

/*
 * Takes a receipt and publishes that: an enum receipt; -ESTALE, or what
 * post_begin() says. `*about` is the index of its record, or the word of the
 * table.
 */
static int
take_receipt(struct slabd_pool *p, slabd_ref ref, uint64_t *about)
{
	int err;

	if (!has_claim(p, ref))
		return -ESTALE;
	__builtin_prefetch(table_address(&p->table, ref_slot(ref)), 0);
	err = post_begin(p);
	if (err < 0)
		return err;
	/* Of a share there may be one for each. */
	if (p->post.recalling && !ref_shared(ref) &&
	    table_offered(&p->table, ref))
		err = RECEIPT_CONTESTED;
	else if (!claim_is_open(p->claims, ref))
		err = -ESTALE;
	else if ((*about = table_opposing(&p->table, ref)) != 0)
		err = RECEIPT_OPPOSED;
	else if (claim_take(p->claims, ref, 1) == 0 ||
		 !table_receive(&p->table, ref))
		err = -ESTALE;
	if (err != 0) {
		post_cancel(p);
		return err;
	}
	*about = p->post.outlet.tail;
	post_record(p, record_make(LANE_RECEIVE, ref, 0));
	post_end(p);
	return claim_stands(p->claims, ref) ? RECEIPT_SURE : RECEIPT_DOUBTFUL;
}

/* 0: that is over; else RECEIPT_CONTESTED still, or nobody is there to ask. */
static int
look_at_contest(struct slabd_pool *p)
{
	struct slabd_call c = {.pool = p};
	int cancel, err = pool_enter(p, false, &cancel);

	if (err < 0)
		return err;
	if (is_asked_to_recall(p)) {
		err = call_ready(p->session, &c);
		if (err == 0 || err == -EAGAIN)
			err = RECEIPT_CONTESTED;
	} else
		set_recalling(p, false);
	session_leave(p->session, cancel);
	return err;
}

/* Until the receipt is taken, or it is known why not: as take_receipt(). */
static int
take_receipt_at_last(struct slabd_pool *p, slabd_ref ref, uint64_t *about)
{
	int err, taken;

	do {
		taken = take_receipt(p, ref, about);
		if (taken == RECEIPT_OPPOSED)
			err = settle(p, ref, *about);
		else if (taken == RECEIPT_CONTESTED)
			err = look_at_contest(p);
		else
			return taken;
	} while (err == 0);
	return err;
}

static int
receive_by_lane(struct slabd_pool *p, slabd_ref ref, void **slot)
{
	bool waits = !(p->flags & SLABD_NONBLOCK);
	uint64_t about = 0;
	int err = take_receipt_at_last(p, ref, &about);

	if (err == RECEIPT_CONTESTED)
		return waits ? receive_by_message(p, ref, slot)
			     : pool_error(p, -EAGAIN, "receive");
	if (err == RECEIPT_DOUBTFUL)
		err = ask_verdict(p, ref, about);
	else if (err == -ESTALE)
		err = waits ? stale(p, ref) : collect_verdict(p, ref);
	if (err < 0)
		return err;
	*slot = table_address(&p->table, ref_slot(ref));
	return 0;
}

static int
receive(struct slabd_pool *p, slabd_ref ref, void **slot)
{
	int cancel, err;

	if (p == NULL || !stock_usable(p))
		return receive_by_message(p, ref, slot);
	if (!table_valid(&p->table, ref)) {
		err = enter_with(p, ref, false, &cancel);
		if (err < 0)
			return err;
		session_leave(p->session, cancel);
	}
	return receive_by_lane(p, ref, slot);
}

int
slabd_receive(struct slabd_pool *p, slabd_ref ref, void **slot)
{
	int err;

	*slot = NULL;
	err = receive(p, ref, slot);
	if (err == 0)
		mark_received(p, *slot, ref);
	return err;
}

/* The answer to RECALL. */
static int
recalled(struct slabd_call *c, struct message *m)
{
	if (m == NULL || c->status < 0)
		return 0;
	if (!wire_done(&m->body) || (!ref_shared(c->ref) && c->status > 1))
		return -EBADMSG;
	if (!ref_shared(c->ref) && c->status == 1)
		table_hold(&c->pool->table, c->ref);
	return 0;
}

static int
recalled_late(struct slabd_call *c, struct message *m)
{
	int err = recalled(c, m);

	if (m != NULL && err == 0 && c->status == 1 && !ref_shared(c->ref))
		let_go(c);
	return err;
}

static int
recall_by_message(struct slabd_pool *p, slabd_ref ref, uint32_t n)
{
	struct slabd_call c = {.type = WIRE_RECALL,
	    .pool = p,
	    .ref = ref,
	    .n = n,
	    .reply = recalled,
	    .late = recalled_late};
	int cancel, err = enter_with(p, ref, true, &cancel);

	if (err < 0)
		return err;
	call_put_u64(&c, ref);
	call_put_u32(&c, n);
	set_recalling(p, true);
	err = pool_collect(p, &c) ? c.status : pool_run(p, &c);
	set_recalling(p, is_asked_to_recall(p));
	session_leave(p->session, cancel);
	return err;
}

/* 0: only the daemon can say what there is to take back, and from whom. */
static int
recall_by_lane(struct slabd_pool *p, slabd_ref ref, uint32_t n)
{
	unsigned taken = 0;
	int err;

	if (!table_valid(&p->table, ref) || !table_offered(&p->table, ref))
		return 0;
	err = post_begin(p);
	if (err < 0)
		return err;
	if (!p->post.recalling && table_offered(&p->table, ref))
		taken = claim_take(p->claims, ref, n);
	if (taken == 0) {
		post_cancel(p);
		return 0;
	}
	if (!ref_shared(ref))
		table_hold(&p->table, ref);
	post_record(p, record_make(LANE_RECALL, ref, taken));
	post_end(p);
	return (int)taken;
}

/*
 * What is left of a share only the daemon knows: a receipt that was taken by who
 * died before he could say so is in no claim.
 */
static int
recall_with_lane(struct slabd_pool *p, slabd_ref ref, uint32_t n)
{
	int taken = 0;

	if (n > 0 || !ref_shared(ref))
		taken = recall_by_lane(p, ref, n > 0 ? n : SLABD_SHARE_MAX);
	return taken != 0 ? taken : recall_by_message(p, ref, n);
}

/* Takes back `n` receipts, 0: all. */
static int
recall(struct slabd_pool *p, slabd_ref ref, uint32_t n)
{
	int taken = may_change(p) ? recall_with_lane(p, ref, n)
				  : recall_by_message(p, ref, n);

	if (taken > 0)
		mark_recalled(p, ref);
	return taken;
}

int
slabd_recall(struct slabd_pool *p, slabd_ref ref)
{
	return recall(p, ref, 0);
}

int
slabd_recall_n(struct slabd_pool *p, slabd_ref ref, unsigned n)
{
	if (n == 0 || n > SLABD_SHARE_MAX)
		return error_set(
		    -EINVAL, "recall: 1 to %u receipts", SLABD_SHARE_MAX);
	return recall(p, ref, n);
}

/* The answer to FLUSH; a cancelled one says how many are open in its body. */
static int
flushed(struct slabd_call *c, struct message *m)
{
	if (m == NULL || (c->status < 0 && c->status != -ECANCELED))
		return 0;
	c->result =
	    c->status < 0 ? wire_get_u32(&m->body) : (uint64_t)c->status;
	return wire_done(&m->body) && c->result <= REF_SLOTS_MAX ? 0 : -EBADMSG;
}

/* Waits; a wait that is withdrawn says how many are open, if anybody knows. */
static int
flush_until(struct slabd_pool *p, struct slabd_call *c, int timeout_ms)
{
	int err = call_run_until(p->session, c, clock_after(timeout_ms));

	if (err == 0 || c->status != -ECANCELED)
		return call_result(c);
	if (err == -EINTR)
		return error_plain(err, "flush");
	if (c->result <= REF_SLOTS_MAX)
		return (int)c->result;
	/* The daemon is away: asked when it is back. */
	c->flags = 0;
	c->here = c->interruptible = false;
	return call_run(p->session, c);
}

int
slabd_flush(struct slabd_pool *p, int timeout_ms)
{
	struct slabd_call c = {.type = WIRE_FLUSH,
	    .pool = p,
	    .flags = timeout_ms != 0 ? WIRE_WAIT : 0,
	    .result = UINT64_MAX,
	    .reply = flushed};
	int cancel, err = pool_enter(p, false, &cancel);

	if (err < 0)
		return err;
	if (p->flags & SLABD_NONBLOCK)
		err = pool_collect(p, &c) ? c.status : pool_run(p, &c);
	else if (timeout_ms == 0)
		err = call_run(p->session, &c);
	else
		err = flush_until(p, &c, timeout_ms);
	session_leave(p->session, cancel);
	return err;
}
