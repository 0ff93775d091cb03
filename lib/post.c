/*
 * Records on their way to the daemon. See post.h for the rules.
 */
#include "config.h"

#include <errno.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "publish.h"

int
post_init(struct slabd_pool *p)
{
	struct post *o = &p->post;
	size_t bytes = (size_t)p->table.reserve * sizeof(*o->kept);
	void *kept = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
	    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (kept == MAP_FAILED)
		return -ENOMEM;
	o->kept = kept;
	o->kept_bytes = bytes;
	return 0;
}

void
post_destroy(struct slabd_pool *p)
{
	if (p->post.kept != NULL)
		munmap(p->post.kept, p->post.kept_bytes);
	if (p->post.doorbell >= 0)
		close(p->post.doorbell);
}

/* How many of `n` records fit; the daemon's index is looked at when needed. */
static inline unsigned
room(struct slabd_pool *p, unsigned n)
{
	struct ring_outlet *o = &p->post.outlet;
	uint64_t size = p->lane.geometry.records, used;

	if (ring_has_room(&p->lane, o, n))
		return n;
	used = o->tail - o->head;
	return used < size ? (unsigned)(size - used) : 0;
}

/* Publishes kept refs as long as there is room. */
static void
publish_kept(struct slabd_pool *p)
{
	/* Relaxed, here and below: it changes under the lock. */
	uint32_t n = load_relaxed(&p->post.n_kept);
	uint64_t record;

	while (n > 0 && room(p, 1) > 0) {
		record = record_make(LANE_FREE, p->post.kept[--n], 0);
		post_publish(p, &record, 1);
	}
	store_relaxed(&p->post.n_kept, n);
}

/* True when there is none, or none is left. */
static inline bool
nothing_kept(struct slabd_pool *p)
{
	if (load_relaxed(&p->post.n_kept) > 0)
		publish_kept(p);
	return load_relaxed(&p->post.n_kept) == 0;
}

void
post_wake(struct slabd_pool *p)
{
	int cancel;

	if (!ring_wake(&p->lane))
		return;
	/* A full counter is readable as well, so it cannot fail. */
	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel);
	eventfd_write(p->post.doorbell, 1);
	pthread_setcancelstate(cancel, NULL);
}

static void ask(struct slabd_pool *);

/* The answer to FLUSH: the daemon has read all that was in the ring. */
static int
drained(struct slabd_call *c, struct message *m)
{
	struct slabd_pool *p = c->pool;

	bool more;

	if (c->owner == CALL_POSTED) {
		p->post.asked = false;
		session_news(p->session);
	}
	if (m == NULL || c->status < 0)
		return 0;
	pthread_mutex_lock(&p->post.lock);
	publish_kept(p);
	more = load_relaxed(&p->post.n_kept) > 0; /* with the lock */
	post_end(p);
	if (more && c->owner == CALL_POSTED)
		ask(p);
	return wire_done(&m->body) ? 0 : -EBADMSG;
}

/* Asks for room and does not wait; the answer is news. */
static void
ask(struct slabd_pool *p)
{
	struct slabd_call c = {.type = WIRE_FLUSH, .pool = p, .reply = drained},
			  *post;

	if (p->post.asked || (post = call_copy(&c, 0)) == NULL)
		return;
	p->post.asked = true;
	call_post(p->session, post);
}

/* Waits until there was room, or, non-blocking, only asks: -EAGAIN. */
static int
make_room(struct slabd_pool *p)
{
	struct slabd_call c = {.type = WIRE_FLUSH, .pool = p, .reply = drained};
	int cancel, err = pool_enter(p, false, &cancel);

	if (err < 0)
		return err;
	if (p->flags & SLABD_NONBLOCK) {
		err = call_ready(p->session, &c);
		if (err != -ENOTRECOVERABLE)
			ask(p);
		err = pool_error(p, err < 0 ? err : -EAGAIN, "lane");
	} else
		err = call_run(p->session, &c);
	session_leave(p->session, cancel);
	return err < 0 ? err : 0;
}

/* With the lock: nothing is kept, and there is room for one record. */
static bool
ready(struct slabd_pool *p)
{
	return nothing_kept(p) && room(p, 1) > 0;
}

int
post_make_room(struct slabd_pool *p)
{
	int err;

	while (!ready(p)) {
		post_end(p);
		err = make_room(p);
		if (err < 0)
			return err;
		pthread_mutex_lock(&p->post.lock);
	}
	return 0;
}

/* With the lock: publishes what fits and keeps the rest. */
static void
put_free(struct slabd_pool *p, const uint64_t *refs, unsigned n)
{
	uint64_t records[LANE_MAGAZINE];
	unsigned fit = nothing_kept(p) ? room(p, n) : 0;
	uint32_t kept;

	for (unsigned i = 0; i < fit; i++)
		records[i] = record_make(LANE_FREE, refs[i], 0);
	if (fit > 0)
		post_publish(p, records, fit);
	kept = load_relaxed(&p->post.n_kept);
	/* Only who frees slots twice could come to the end of it. */
	while (fit < n && kept < p->table.reserve)
		p->post.kept[kept++] = refs[fit++];
	store_relaxed(&p->post.n_kept, kept);
}

void
post_free(struct slabd_pool *p, const uint64_t *refs, unsigned n)
{
	pthread_mutex_lock(&p->post.lock);
	put_free(p, refs, n);
	post_end(p);
}

bool
post_has_room(struct slabd_pool *p, unsigned n)
{
	bool has;

	pthread_mutex_lock(&p->post.lock);
	/* Relaxed: with the lock. */
	has = load_relaxed(&p->post.n_kept) == 0 && room(p, n) >= n;
	pthread_mutex_unlock(&p->post.lock);
	return has;
}

int
post_drop(struct slabd_pool *p, uint32_t slot)
{
	uint64_t ref;
	int err;

	pthread_mutex_lock(&p->post.lock);
	err = table_drop(&p->table, slot, &ref);
	if (err == 0)
		put_free(p, &ref, 1);
	post_end(p);
	return err;
}

void
post_withdraw(struct slabd_pool *p, uint64_t ref, bool counted)
{
	pthread_mutex_lock(&p->post.lock);
	if (table_withdraw(&p->table, ref) && counted)
		put_free(p, &ref, 1);
	post_end(p);
}

void
post_relieve(struct slabd_pool *p)
{
	struct slabd *s = p->session;
	struct slabd_call c = {.status = 0};
	int cancel;

	/* Relaxed: whoever kept one asks himself. */
	if (load_relaxed(&p->post.n_kept) == 0 ||
	    pool_enter(p, false, &cancel) < 0)
		return;
	/* Nobody waits here for a daemon that is away, but helps to find one.
	 */
	if (s->phase != SESSION_READY)
		session_poll(s, true);
	if (p->flags & SLABD_NONBLOCK)
		ask(p);
	else
		while (s->phase == SESSION_READY && c.status >= 0 &&
		       load_relaxed(&p->post.n_kept) > 0) {
			c = (struct slabd_call){
			    .type = WIRE_FLUSH, .pool = p, .reply = drained};
			call_run_here(s, &c, NEVER);
		}
	session_leave(s, cancel);
}

/* The daemon refused this one. */
static void
refused(struct slabd_pool *p, uint64_t ref)
{
	if (table_valid(&p->table, ref))
		table_lose(&p->table, ref);
}

void
post_read_refused(struct slabd_pool *p)
{
	struct lane_header *h = p->lane.header;
	/* Acquire: with the daemon's release after it wrote the refs. */
	uint64_t tail = load_acquire(&h->refused_tail), next;

	/* Relaxed: it changes under the lock, and is looked at again there. */
	if (load_relaxed(&p->post.refused) == tail)
		return;
	pthread_mutex_lock(&p->post.lock);
	next = load_relaxed(&p->post.refused);
	if (tail - next > LANE_REFUSED)
		next = tail - LANE_REFUSED;
	/* Relaxed: one that is written over just now will be met again. */
	for (; next != tail; next++)
		refused(p, load_relaxed(&h->refused[next % LANE_REFUSED]));
	store_relaxed(&p->post.refused, next);
	pthread_mutex_unlock(&p->post.lock);
}

bool
post_was_refused(const struct slabd_pool *p, uint64_t index)
{
	const struct lane_header *h = p->lane.header;
	/* Acquire: as in post_read_refused(). */
	uint64_t tail = load_acquire(&h->refused_tail);
	uint64_t n = tail < LANE_REFUSED ? tail : LANE_REFUSED;

	/* Relaxed: one that is written over just now is a later one. */
	for (uint64_t i = 0; i < n; i++)
		if (load_relaxed(&h->refused_at[i]) == index)
			return true;
	return false;
}
