/*
 * A lane's life, and when it is read.
 *
 * The daemon reads a lane when its doorbell rings, and then all of the pool's,
 * since what one client wants has often been freed by another, who had no
 * reason to ring. It is also read before any request of its client, so that
 * messages and records keep their order.
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "barrier.h"
#include "client.h"
#include "daemon.h"
#include "event.h"
#include "headroom.h"
#include "lanes.h"
#include "log.h"
#include "pool.h"
#include "ring.h"

/* When to look again at records that wait for others, in ms. */
#define JUDGE_MS 2u
/* How long to believe that there is memory, as long as there is so much. */
#define ROOM_MS	    1000u
#define ROOM_PLENTY (UINT64_C(64) << 20)

static void
rung(void *arg, unsigned what)
{
	struct lane_end *e = arg;

	(void)what;
	lanes_turn(e->attachment->pool);
}

/*
 * Whether limits leave room for so many bytes. To ask costs many files, so
 * while there is plenty what was said is believed for a while.
 */
static bool
has_room(int fd, uint64_t bytes)
{
	static uint64_t room, asked_ms;
	uint64_t now = loop_now_ms();

	if (now - asked_ms > ROOM_MS || room < bytes + ROOM_PLENTY) {
		room = headroom(fd);
		asked_ms = now;
	}
	if (room < bytes)
		return false;
	room -= bytes;
	return true;
}

/* Memory now, so that neither side meets a SIGBUS for want of it later. */
static int
reserve(int fd, uint64_t at, uint64_t bytes)
{
	int err;

	if (!has_room(fd, bytes))
		return -ENOSPC;
	do
		err = posix_fallocate(fd, (off_t)at, (off_t)bytes);
	while (err == EINTR);
	return -err;
}

static int
make_object(struct lane_end *e)
{
	struct attachment *a = e->attachment;
	struct pool *p = a->pool;
	struct lane_geometry g = p->lane_geometry;
	uint64_t bytes = lane_bytes(&g);
	char name[REGION_NAME_MAX];
	int err;

	snprintf(name, sizeof(name), "%s%s.lane-%u", p->daemon->instance.prefix,
	    p->conf.name, a->holder);
	err = region_create(&e->object, name, bytes);
	if (err == 0)
		err = reserve(e->object.fd, 0, bytes);
	if (err == 0)
		err = guard_map(&e->guard, e->object.fd, bytes);
	if (err == 0)
		err = lane_format(&e->lane, e->guard.at, &g, p->id, a->holder);
	return err;
}

static int
make_mirror(struct lane_end *e)
{
	struct pool *p = e->attachment->pool;
	struct ledger *l = &p->ledger;
	unsigned holder = e->attachment->holder;
	int err = reserve(
	    p->ledger_region.fd, ledger_mirror_at(l, holder), l->mirror_bytes);

	if (err != 0)
		return err;
	e->mirror = ledger_mirror(l, holder);
	e->done = ledger_mirror_done(l, e->mirror);
	memset(e->mirror, 0, l->mirror_bytes);
	return 0;
}

static int
make_bell(struct lane_end *e)
{
	struct loop *loop = e->attachment->pool->daemon->loop;

	e->doorbell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (e->doorbell < 0)
		return -errno;
	/* Never read: each ring is an edge. */
	return watch_new(&e->bell, loop, e->doorbell, WATCH_READ | WATCH_EDGE,
	    LOOP_CLIENT, rung, e);
}

int
lane_create(struct attachment *a)
{
	struct pool *p = a->pool;
	struct lane_end *e;
	int err;

	/* To touch them would kill the client. */
	if (!claims_whole(p))
		return -EIO;
	e = calloc(1, sizeof(*e));
	if (e == NULL)
		return -ENOMEM;
	e->attachment = a;
	e->object.fd = e->doorbell = -1;
	LIST_INSERT_HEAD(&p->lanes, e, entry);
	err = make_object(e);
	if (err == 0)
		err = make_mirror(e);
	if (err == 0)
		err = make_bell(e);
	if (err != 0) {
		lane_unlink(e);
		lane_close(e);
		return err;
	}
	a->lane = e;
	lanes_tune(p);
	lanes_mind_waiters(p);
	store_relaxed(&e->lane.header->eager, p->eager);
	lane_tell_claims(e);
	if (p->hungry)
		lane_notify(e);
	/* The client has nothing of this before the answer to its ATTACH. */
	ring_sleep(&e->lane);
	return 0;
}

/*
 * Who keeps a descriptor would else keep the memory, and attach again. Punched
 * and not cut: its process may still look at it, and shall not die of that.
 */
void
lane_unlink(struct lane_end *e)
{
	if (e == NULL || e->object.fd < 0)
		return;
	region_unlink(&e->object);
	if (fallocate(e->object.fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
		0, (off_t)e->object.bytes) < 0)
		log_warn("pool", "%s: a lane keeps its memory: %s",
		    e->attachment->pool->conf.name, strerror(errno));
}

void
lane_close(struct lane_end *e)
{
	if (e == NULL)
		return;
	parked_drop(e);
	LIST_REMOVE(e, entry);
	e->attachment->lane = NULL;
	watch_free(e->bell);
	if (e->doorbell >= 0)
		close(e->doorbell);
	guard_unmap(&e->guard);
	region_close(&e->object);
	free(e);
}

void
lane_breach(struct lane_end *e, const char *what)
{
	if (e->breached)
		return;
	e->breached = true;
	client_fail(e->attachment->client, what);
}

void
lane_tell_claims(struct lane_end *e)
{
	const struct pool *p = e->attachment->pool;

	/*
	 * Relaxed: it comes before the first grant of such a slot, and so
	 * before any ref, which travels by means that keep order.
	 */
	store_relaxed(&e->lane.header->claims,
	    p->claims.high * p->conf.slots_per_segment);
}

void
lane_notify(struct lane_end *e)
{
	struct lane_header *h = e->lane.header;

	e->notice = (e->notice + LANE_NOTICE) & ~(uint64_t)LANE_HUNGRY;
	e->notice |= e->attachment->pool->hungry ? LANE_HUNGRY : 0;
	store_relaxed(&h->notice, e->notice);
	/* Nothing is revoked by it. Release: with the owner's acquire. */
	if (!e->attachment->pool->revoking)
		store_release(&h->revoked, e->notice);
}

LIST_HEAD(pending, lane_end);

/*
 * One round over the lanes with records left: each goes on as far as it can
 * without the others. Whether any did.
 */
static bool
drain_round(struct pending *pending, bool park)
{
	struct lane_end *e, *next;
	bool moved = false;

	for (e = LIST_FIRST(pending); e != NULL; e = next) {
		next = LIST_NEXT(e, pending);
		moved = lane_drain(e, park) || moved;
		if (e->read == e->end)
			LIST_REMOVE(e, pending);
	}
	return moved;
}

void
lanes_sweep(struct pool *p)
{
	struct pending pending = LIST_HEAD_INITIALIZER(pending);
	struct lane_end *e;
	uint64_t sweep = ++p->sweeps;

	LIST_FOREACH (e, &p->lanes, entry) {
		lane_look(e);
		if (e->read != e->end)
			LIST_INSERT_HEAD(&pending, e, pending);
	}
	/*
	 * What is ahead waits here as long as other lanes move; only what is
	 * left then is parked, one record a lane, and that lets them go on.
	 */
	while (drain_round(&pending, false) || drain_round(&pending, true))
		continue;
	parked_judge(p, sweep);
	LIST_FOREACH (e, &p->lanes, entry)
		lane_settle(e);
	if (!parking_empty(p->parking))
		timer_start(p->judge, JUDGE_MS);
}

void
lane_catch_up(struct attachment *a)
{
	struct lane_end *e = a->lane;

	if (e == NULL)
		return;
	lane_look(e);
	lane_drain(e, false);
	if (e->read != e->end || e->parked > 0)
		lanes_sweep(a->pool);
	else
		lane_settle(e);
}

/* Whether this lane has something for a daemon that is about to sleep. */
static bool
has_work(struct lane_end *e)
{
	const struct lane_header *h = e->lane.header;
	uint64_t unread = load_relaxed(&h->record_tail) - e->read;

	if (e->breached)
		return false;
	if (unread > 0 &&
	    (unread >= e->watermark || e->attachment->pool->eager))
		return true;
	return e->low > 0 && lane_stock(e) < e->low &&
	       pool_spare(e->attachment) > 0;
}

/*
 * Lets the clients ring again, and looks once more for what they may have
 * published before they could know.
 */
static void
sleep_all(struct pool *p)
{
	struct lane_end *e;

	LIST_FOREACH (e, &p->lanes, entry)
		ring_sleep(&e->lane);
	/* With the one in ring_wake(). */
	atomic_thread_fence(memory_order_seq_cst);
	LIST_FOREACH (e, &p->lanes, entry)
		if (has_work(e)) {
			watch_wake(e->bell, WATCH_READ);
			break;
		}
}

void
lanes_turn(struct pool *p)
{
	struct lane_end *e;

	pool_look_at_clock();
	lanes_sweep(p);
	waiters_serve(p);
	LIST_FOREACH (e, &p->lanes, entry)
		lane_top_up(e);
	pool_note_used(p);
	sleep_all(p);
}

void
lanes_judge(void *arg)
{
	lanes_turn(arg);
}

/*
 * Nobody shall keep back what somebody waits for, nor keep quiet about it. What
 * was published before a client can know is read at once.
 */
static void
set_wishes(struct pool *p, bool hungry, bool eager)
{
	bool more = (hungry && !p->hungry) || (eager && !p->eager);
	bool notify = hungry != p->hungry;
	struct lane_end *e;

	p->hungry = hungry;
	p->eager = eager;
	LIST_FOREACH (e, &p->lanes, entry) {
		store_relaxed(&e->lane.header->eager, eager);
		if (notify && !hungry)
			lane_notify(e);
	}
	if (notify && hungry) {
		LIST_FOREACH (e, &p->lanes, entry)
			lane_take_back(e);
		lanes_revoke(p, NULL); /* with a barrier and a sweep */
	} else if (more) {
		barrier_all();
		lanes_sweep(p);
	}
}

void
lanes_mind_waiters(struct pool *p)
{
	bool hungry = p->state == POOL_RETIRED || !TAILQ_EMPTY(&p->queue);
	bool eager = hungry || p->flushes > 0;

	if (hungry != p->hungry || eager != p->eager)
		set_wishes(p, hungry, eager);
}

void
lanes_recover(struct pool *p, const struct account *of,
    bool (*enough)(const void *), const void *arg)
{
	struct lane_end *e;
	uint32_t at_hand = 0;

	LIST_FOREACH (e, &p->lanes, entry) {
		if (of != NULL && e->attachment->account != of)
			continue;
		if (enough(arg))
			return;
		lane_take_back(e);
		at_hand += lane_magazines(e);
	}
	if (at_hand > 0 && !enough(arg))
		lanes_revoke(p, of);
}
