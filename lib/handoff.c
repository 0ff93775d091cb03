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
 * The daemon's word that this attachment holds the ref, for one of its receipts.
 * It may be by another receipt of the same share; then the record is among the
 * refused. False: so it is.
 */
static bool
counted(const struct slabd_call *c)
{
	struct slabd_pool *p = c->pool;

	if (post_was_refused(p, c->result))
		return false;
	/* What the table has instead was forged. */
	if (c->unheld)
		post_hold(p, c->ref);
	return true;
}

/* The receipt is given back, as far as it is ours, or, `unknown`, may be. */
static void
give_up(const struct slabd_call *c, bool unknown)
{
	if (!c->unheld)
		post_withdraw(c->pool, c->ref, unknown || c->status > 0);
	else if (unknown)
		post_free(c->pool, &c->ref, 1);
}

/* The answer to HELD. */
static int
judged(struct slabd_call *c, struct message *m)
{
	bool unknown = m == NULL || c->status < 0;

	if (!unknown && !wire_done(&m->body))
		return -EBADMSG;
	if (!unknown && c->status > 0 && counted(c))
		return 0;
	give_up(c, unknown);
	if (!unknown)
		c->status = 0;
	return 0;
}

/*
 * The claim of a receipt that was taken does not stand any more, or the table
 * does not have it: the daemon says whether it saw the record, of that index, in
 * time.
 */
static int
ask_verdict(struct slabd_pool *p, slabd_ref ref, uint64_t index, bool unheld)
{
	struct slabd_call c = {.type = WIRE_HELD,
	    .pool = p,
	    .ref = ref,
	    .result = index,
	    .unheld = unheld,
	    .reply = judged};
	int cancel, err = pool_enter(p, false, &cancel);

	if (err < 0)
		return err;
	call_put_u64(&c, ref);
	err = pool_run(p, &c);
	session_leave(p->session, cancel);
	return err == 0 ? stale(p, ref) : err < 0 ? err : 0;
}

/* What a non-blocking call has asked about the ref before; else it is stale. */
static int
collect_receipt(struct slabd_pool *p, slabd_ref ref)
{
	struct slabd_call held = {.type = WIRE_HELD, .pool = p, .ref = ref};
	struct slabd_call got = {.type = WIRE_RECEIVE, .pool = p, .ref = ref};
	int cancel, err = pool_enter(p, false, &cancel);
	bool is = false;

	if (err < 0)
		return err;
	if (pool_collect(p, &held)) {
		err = held.status;
		is = err > 0;
	} else if (pool_collect(p, &got)) {
		err = got.status;
		is = err == 0;
	}
	session_leave(p->session, cancel);
	return is ? 0 : err < 0 ? err : stale(p, ref);
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

/*
 * With the post's lock: the daemon may be about to take back what this
 * attachment has offered. A receipt taken from the claim by then, and published
 * later, it would give to both, so meanwhile nobody here takes one by the lane.
 */
static bool
is_recalling(const struct slabd_pool *p)
{
	return p->post.recallers > 0 || p->post.recalling;
}

/* What to think of a receipt that was to be taken by the lane. */
enum receipt {
	RECEIPT_SURE,
	RECEIPT_DOUBTFUL,  /* it was revoked, perhaps in time, */
	RECEIPT_UNHELD,	   /* or the table knows better, or was deceived */
	RECEIPT_CONTESTED, /* it was not taken: that is the daemon's to do */
};

/*
 * Takes a receipt and publishes that, in the record of this index: an enum
 * receipt; -ESTALE, or what post_begin() says.
 */
static int
take_receipt(struct slabd_pool *p, slabd_ref ref, uint64_t *index)
{
	bool held;
	int err;

	if (!has_claim(p, ref))
		return -ESTALE;
	__builtin_prefetch(table_address(&p->table, ref_slot(ref)), 0);
	err = post_begin(p);
	if (err < 0)
		return err;
	/* Of a share there may be one for each. */
	if (is_recalling(p) && !ref_shared(ref) &&
	    table_offered(&p->table, ref))
		err = RECEIPT_CONTESTED;
	else if (claim_take(p->claims, ref, 1) == 0)
		err = -ESTALE;
	if (err != 0) {
		post_cancel(p);
		return err;
	}
	held = table_receive(&p->table, ref);
	*index = p->post.outlet.tail;
	post_record(p, record_make(LANE_RECEIVE, ref, 0));
	post_end(p);
	return !held			      ? RECEIPT_UNHELD
	       : claim_stands(p->claims, ref) ? RECEIPT_SURE
					      : RECEIPT_DOUBTFUL;
}

static int
receive_by_lane(struct slabd_pool *p, slabd_ref ref, void **slot)
{
	uint64_t index = 0;
	int err = take_receipt(p, ref, &index);

	if (err == RECEIPT_CONTESTED)
		return receive_by_message(p, ref, slot);
	if (err == RECEIPT_DOUBTFUL || err == RECEIPT_UNHELD)
		err = ask_verdict(p, ref, index, err == RECEIPT_UNHELD);
	else if (err == -ESTALE)
		err = p->flags & SLABD_NONBLOCK ? collect_receipt(p, ref)
						: stale(p, ref);
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

/* Who has taken a receipt by the lane has published it by now. */
static void
begin_recall(struct slabd_pool *p)
{
	pthread_mutex_lock(&p->post.lock);
	p->post.recallers++;
	pthread_mutex_unlock(&p->post.lock);
}

/* What goes on without its caller is seen by the next one's end to be over. */
static void
end_recall(struct slabd_pool *p)
{
	bool asked = is_asked_to_recall(p);

	pthread_mutex_lock(&p->post.lock);
	p->post.recallers--;
	p->post.recalling = asked;
	pthread_mutex_unlock(&p->post.lock);
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
	begin_recall(p);
	err = pool_collect(p, &c) ? c.status : pool_run(p, &c);
	end_recall(p);
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
	if (!is_recalling(p) && table_offered(&p->table, ref))
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
