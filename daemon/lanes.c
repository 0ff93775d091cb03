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
#include "share.h"

/* When to look again at records that wait for others, in ms. */
#define JUDGE_MS 2u
/* When to look at the rings of those who are away, while somebody waits. */
#define VISIT_MS 5u
/*
 * Records that do not fit, of one lane between two looks of the judge, or of all
 * together whose users have used their share.
 */
#define PATIENCE 256u
/* The same, of one user's lanes together. */
#define USERS_PATIENCE (4 * PATIENCE)
/* A turn that takes longer is not made for each bell. */
#define TURN_US 200u
/* How long to believe that there is memory, as long as there is so much. */
#define ROOM_MS	    1000u
#define ROOM_PLENTY (UINT64_C(64) << 20)

/* Whether its user need not wait. */
static bool
has_share(const struct lane_end *e)
{
	const struct attachment *a = e->attachment;

	return !share_is_used(a->pool->daemon, a->client->user);
}

/* Who brings many lanes shall have no more of it. */
static void
be_patient(struct lane_end *e)
{
	const struct attachment *a = e->attachment;
	uint32_t most = has_share(e) ? USERS_PATIENCE / a->account->users
				     : PATIENCE / (a->pool->clients + 1);

	e->patience = 1 + (most < PATIENCE ? most : PATIENCE);
	e->tiresome = false;
}

/* Its user has rung for more than its share: once is enough for now. */
static void
mute(struct lane_end *e)
{
	e->muted = watch_set(e->bell, 0) == 0;
	timer_ensure(e->attachment->pool->judge, JUDGE_MS);
}

/* A ring meanwhile is heard: the doorbell is never read. */
static void
unmute(struct lane_end *e)
{
	if (!e->muted)
		return;
	e->muted =
	    !has_share(e) || watch_set(e->bell, WATCH_READ | WATCH_EDGE) != 0;
	if (e->muted)
		timer_ensure(e->attachment->pool->judge, JUDGE_MS);
}

static void
rung(void *arg, unsigned what)
{
	uint64_t begun = loop_now_us();
	struct lane_end *e = arg;
	struct pool *p = e->attachment->pool;
	struct user *u = e->attachment->client->user;

	(void)what;
	/* Where one turn is work, however many have rung, it is one. */
	if (!share_admits(p->daemon, u))
		mute(e);
	else if (p->laborious)
		timer_start(p->judge, 0);
	else {
		lanes_turn(p);
		/* A long one was for what others had published, too. */
		if (!p->laborious)
			share_charge_turn(u, begun);
	}
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

static void
object_name(const struct attachment *a, char *name, size_t size)
{
	const struct pool *p = a->pool;
	char part[16];

	snprintf(part, sizeof(part), "lane-%u", a->holder);
	instance_object_name(
	    &p->daemon->instance, p->conf.name, part, name, size);
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

	object_name(a, name, sizeof(name));
	err = region_create(&e->object, name, bytes, pool_kind(&p->conf));
	if (err == 0)
		err = reserve(e->object.fd, 0, bytes);
	if (err == 0)
		err = guard_map(&e->guard, e->object.fd, bytes);
	if (err == 0)
		err = lane_format(&e->lane, e->guard.at, &g, p->id, a->holder);
	return err;
}

int
mirror_create(struct attachment *a)
{
	struct pool *p = a->pool;
	struct ledger *l = &p->ledger;
	int err = reserve(p->ledger_region.fd, ledger_mirror_at(l, a->holder),
	    l->mirror_bytes);

	if (err != 0)
		return err;
	a->mirror = ledger_mirror(l, a->holder);
	/* All but what is only read as far as it was written. */
	memset(a->mirror, 0,
	    (size_t)((uint8_t *)ledger_mirror_batch(l, a->mirror) -
		     (uint8_t *)a->mirror));
	return 0;
}

void
lane_silence(struct lane_end *e)
{
	watch_free(e->bell);
	e->bell = NULL;
	e->muted = false;
	if (e->doorbell >= 0)
		close(e->doorbell);
	e->doorbell = -1;
}

int
lane_resume(struct lane_end *e)
{
	struct loop *loop = e->attachment->pool->daemon->loop;

	lane_silence(e);
	e->doorbell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (e->doorbell < 0)
		return -errno;
	/* Never read: each ring is an edge. */
	return watch_new(&e->bell, loop, e->doorbell, WATCH_READ | WATCH_EDGE,
	    LOOP_CLIENT, rung, e);
}

bool
lane_said_goodbye(const struct lane_end *e)
{
	/* Acquire: with the client's release, after its last record. */
	return load_acquire(&e->lane.header->goodbye) != 0;
}

bool
lane_is_locked(const struct lane_end *e)
{
	struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};

	return fcntl(e->object.fd, F_GETLK, &lock) < 0 ||
	       lock.l_type != F_UNLCK;
}

static struct lane_end *
lane_new(struct attachment *a)
{
	struct lane_end *e = calloc(1, sizeof(*e));

	if (e == NULL)
		return NULL;
	e->attachment = a;
	e->mirror = a->mirror;
	e->done = ledger_mirror_done(&a->pool->ledger, a->mirror);
	e->object.fd = e->doorbell = -1;
	be_patient(e);
	LIST_INSERT_HEAD(&a->pool->lanes, e, entry);
	return e;
}

/* The lane is there: what the client is told of, from now on. */
static void
lane_begin(struct lane_end *e)
{
	struct pool *p = e->attachment->pool;

	e->attachment->lane = e;
	store_relaxed(&e->lane.header->eager, p->eager);
	lane_tell_claims(e);
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
	e = lane_new(a);
	if (e == NULL)
		return -ENOMEM;
	err = make_object(e);
	if (err == 0)
		err = lane_resume(e);
	if (err != 0) {
		lane_unlink(e);
		lane_close(e);
		return err;
	}
	lane_begin(e);
	/* From here on a successor looks for it. */
	p->ledger.attachments[a->holder - 1].lane = 1;
	lanes_tune(p);
	lanes_mind_waiters(p);
	if (p->hungry)
		lane_notify(e);
	/* The client has nothing of this before the answer to its ATTACH. */
	ring_sleep(&e->lane);
	return 0;
}

/* The object as it should be, mapped; the client could have cut it. */
static int
find_object(struct lane_end *e)
{
	struct pool *p = e->attachment->pool;
	uint64_t bytes = lane_bytes(&p->lane_geometry);
	char name[REGION_NAME_MAX];
	int err;

	object_name(e->attachment, name, sizeof(name));
	err = region_open(&e->object, name);
	if (err == 0 && e->object.bytes < bytes)
		err = -EUCLEAN;
	if (err == 0)
		err = guard_map(&e->guard, e->object.fd, bytes);
	if (err == 0)
		err =
		    lane_open(&e->lane, e->guard.at, bytes, &p->lane_geometry);
	return err == 0 && guard_broken(&e->guard) ? -EUCLEAN : err;
}

int
lane_recover(struct attachment *a)
{
	struct lane_end *e = lane_new(a);
	struct lane_header *h;
	int err;

	if (e == NULL)
		return -ENOMEM;
	err = find_object(e);
	if (err != 0) {
		lane_unlink(e);
		lane_close(e);
		return err;
	}
	h = e->lane.header;
	/* Ours, though the client could have changed them, to its own harm. */
	e->notice = load_relaxed(&h->notice);
	e->refused_tail = load_relaxed(&h->refused_tail);
	lane_begin(e);
	lane_recover_records(e);
	lane_recover_grants(e);
	/* A revocation that was cut short is over. */
	lane_notify(e);
	/* Else its client would take us for awake. */
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
	lane_silence(e);
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

/* Whether the sweep has read all it was to. */
static bool
is_over(const struct pool *p)
{
	const struct lane_end *e;

	LIST_FOREACH (e, &p->lanes, entry)
		if (!e->breached && e->read < e->goal)
			return false;
	return true;
}

/* Goes on with the sweep, or, where it is over, with the next one. */
static void
sweep(struct pool *p, uint32_t judged)
{
	struct pending pending = LIST_HEAD_INITIALIZER(pending);
	struct lane_end *e;
	bool more = false, begins = !p->sweeping;

	p->sweeps += begins;
	LIST_FOREACH (e, &p->lanes, entry) {
		lane_look(e);
		if (begins)
			e->goal = e->end;
		if (e->read != e->end)
			LIST_INSERT_HEAD(&pending, e, pending);
	}
	/*
	 * What is ahead waits here as long as other lanes move; only what is
	 * left then is parked, one record a lane, and that lets them go on.
	 */
	while (drain_round(&pending, false) || drain_round(&pending, true))
		continue;
	p->sweeping = !is_over(p);
	parked_judge(p, judged);
	LIST_FOREACH (e, &p->lanes, entry) {
		lane_settle(e);
		more = more || e->tiresome;
	}
	if (more || !parking_empty(p->parking))
		timer_ensure(p->judge, JUDGE_MS);
}

/* All that lies there is read. */
static void
have_all_patience(struct lane_end *e)
{
	e->patience = UINT32_MAX;
	e->tiresome = false;
}

static void
all_patient(struct pool *p)
{
	struct lane_end *e;

	LIST_FOREACH (e, &p->lanes, entry)
		be_patient(e);
}

void
lanes_sweep(struct pool *p)
{
	struct lane_end *e;

	/* One that is under way ends with this one, which reads all. */
	p->sweeping = false;
	LIST_FOREACH (e, &p->lanes, entry)
		have_all_patience(e);
	sweep(p, UINT32_MAX);
	all_patient(p);
}

void
lane_catch_up(struct attachment *a)
{
	struct lane_end *e = a->lane;

	if (e == NULL)
		return;
	have_all_patience(e);
	lane_look(e);
	lane_drain(e, false);
	be_patient(e);
	if (e->read != e->end || e->parked > 0)
		lanes_sweep(a->pool);
	else
		lane_settle(e);
}

void
lanes_glance(struct pool *p)
{
	sweep(p, PATIENCE);
}

/* Whether this lane has something for a daemon that is about to sleep. */
static bool
has_work(struct lane_end *e)
{
	const struct lane_header *h = e->lane.header;
	uint64_t unread = load_relaxed(&h->record_tail) - e->read;

	if (e->breached)
		return false;
	if (unread > 0 && !e->tiresome &&
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
	LIST_FOREACH (e, &p->lanes, entry) {
		if (e->bell == NULL || e->muted || !has_work(e))
			continue;
		if (share_admits(p->daemon, e->attachment->client->user)) {
			watch_wake(e->bell, WATCH_READ);
			break;
		}
		mute(e);
	}
}

/*
 * Who is away rings nobody. While somebody waits for what he may have freed his
 * ring is looked at now and then.
 */
void
lanes_visit(struct pool *p)
{
	const struct lane_end *e;

	if (!p->eager || !parking_empty(p->parking))
		return;
	LIST_FOREACH (e, &p->lanes, entry)
		if (e->bell == NULL) {
			timer_ensure(p->judge, VISIT_MS);
			return;
		}
}

void
lanes_turn(struct pool *p)
{
	uint64_t begun = loop_now_us();
	struct lane_end *e;

	pool_look_at_clock();
	lanes_glance(p);
	waiters_serve(p);
	LIST_FOREACH (e, &p->lanes, entry)
		lane_top_up(e);
	pool_note_used(p);
	sleep_all(p);
	lanes_visit(p);
	p->laborious = loop_now_us() - begun > TURN_US;
}

void
lanes_judge(void *arg)
{
	struct pool *p = arg;
	struct lane_end *e;

	all_patient(p);
	lanes_turn(p);
	LIST_FOREACH (e, &p->lanes, entry)
		unmute(e);
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

	if (hungry != p->hungry || eager != p->eager) {
		set_wishes(p, hungry, eager);
		lanes_visit(p);
	}
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
