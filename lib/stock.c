/*
 * Seats, and what they do that is not an everyday matter. See stock.h.
 */
#include "config.h"

#include <errno.h>
#include <pthread.h>
#include <sys/mman.h>
#include <unistd.h>

#include "publish.h"
#include "stock.h"

/* Where a wiped gate leads there must be nobody who takes 0 for his serial. */
_Thread_local struct seat stock_seats[SEATS] = {
    {.everyday = SEAT_EMPTY, .serial = SEAT_EMPTY}};
_Atomic uint64_t stock_closed;

/*
 * The pools with open gates, so that a thread that ends finds those it has a
 * seat at and no others. The lock comes before a pool's own.
 */
static pthread_mutex_t open_lock = PTHREAD_MUTEX_INITIALIZER;
static LIST_HEAD(, slabd_pool) open_pools = LIST_HEAD_INITIALIZER(open_pools);
static uint64_t last_serial; /* goes on in a forked child */

static pthread_once_t once = PTHREAD_ONCE_INIT;
static pthread_key_t leaving; /* its destructor runs when a thread ends */
static bool seated;	      /* there is such a key */

static void
lock_open(void)
{
	pthread_mutex_lock(&open_lock);
}

static void
unlock_open(void)
{
	pthread_mutex_unlock(&open_lock);
}

static uint32_t
least(uint32_t a, uint32_t b)
{
	return a < b ? a : b;
}

/* Where this thread has its seat at the pool, if it has one. */
static struct seat *
seat_at(const struct slabd_pool *p)
{
	return &stock_seats[p->serial % SEATS];
}

/* Refs that are moved together; the daemon may change it at any time. */
static uint32_t
batch_of(const struct slabd_pool *p)
{
	/* Relaxed: a number for heuristics. */
	uint32_t batch = load_relaxed(&p->lane.header->batch);

	return batch == 0 ? 1 : least(batch, p->lane.geometry.magazine_room);
}

/* Refs a magazine may keep: a batch where nothing is allocated. */
static uint32_t
limit_of(const struct slabd_pool *p, bool allocates)
{
	/* Relaxed: the same. */
	uint32_t most = load_relaxed(&p->lane.header->magazine_limit);

	most = least(most, p->lane.geometry.magazine_room);
	return allocates ? most : least(most, batch_of(p));
}

/* Refs in this thread's magazine; others could write that, too. */
static uint32_t
count_of(const struct slabd_pool *p, const struct lane_magazine *m)
{
	return least(load_relaxed(&m->count), p->lane.geometry.magazine_room);
}

/* Gives back all that is in the magazine, and that the daemon has not taken. */
static void
give_up(struct slabd_pool *p, struct lane_magazine *m)
{
	uint32_t count = count_of(p, m);
	uint64_t refs[LANE_MAGAZINE], ref;
	unsigned n = 0;

	for (uint32_t i = 0; i < count; i++)
		if ((ref = magazine_take(m, i)) != 0)
			refs[n++] = ref;
	store_relaxed(&m->count, 0);
	if (n > 0)
		post_free(p, refs, n);
}

/* The daemon is done with the magazine: what it took is closed up. */
static void
close_up(struct slabd_pool *p, struct lane_magazine *m)
{
	uint32_t count = count_of(p, m), n = 0;
	uint64_t ref;

	/* Relaxed: `revoked`, which was acquired, came after what it took. */
	for (uint32_t i = 0; i < count; i++)
		if ((ref = magazine_peek(m, i)) != 0)
			store_relaxed(&m->refs[n++], ref);
	store_relaxed(&m->count, n);
}

/*
 * Inside: does what the last notice wants. True: the magazine agrees with it,
 * and may be used. While slots are short it never does, so that nothing is
 * kept.
 */
static bool
attend(struct slabd_pool *p, struct seat *seat)
{
	struct lane_magazine *m = seat->magazine;
	struct lane_header *h = p->lane.header;
	uint64_t notice;
	bool over;

	if (!magazine_noticed(m, &p->lane))
		return true;
	/* Relaxed: the next one tells what has been done about it. */
	notice = load_relaxed(&h->notice);
	/* Acquire: with the daemon's release, after what it refused or took. */
	over = load_acquire(&h->revoked) == notice;
	post_read_refused(p);
	if (!over || (notice & LANE_HUNGRY) != 0) {
		give_up(p, m);
		return false;
	}
	close_up(p, m);
	seat->limit = least(seat->limit, limit_of(p, true));
	store_relaxed(&m->seen, notice); /* only this thread's */
	return true;
}

int
stock_attend(struct slabd_pool *p, struct lane_magazine *m)
{
	struct seat *seat = seat_at(p);
	bool agrees;

	do {
		if (!magazine_enter(m))
			return 0; /* a handler's: whom it interrupted will */
		agrees = attend(p, seat);
		magazine_leave(m);
	} while (agrees && magazine_noticed(m, &p->lane));
	post_relieve(p);
	return 0;
}

/* Leaves the magazine; the rest of the protocol is stock_attend()'s. */
static void
leave(struct slabd_pool *p, struct lane_magazine *m)
{
	magazine_leave(m);
	if (magazine_noticed(m, &p->lane))
		stock_attend(p, m);
}

/*
 * Inside: gives back the top of a full magazine, hottest last, since the last
 * to be freed is the first to be granted; everything when the thread only
 * frees, so that it hoards nothing.
 */
static void
flush(struct slabd_pool *p, struct seat *seat)
{
	struct lane_magazine *m = seat->magazine;
	uint64_t refs[LANE_MAGAZINE], allocs = load_relaxed(&m->allocs);
	uint32_t count = count_of(p, m);
	bool allocates = allocs != seat->allocs;
	uint32_t keep = 0, n;

	seat->limit = limit_of(p, allocates);
	seat->allocs = allocs;
	if (allocates && seat->limit > 0)
		keep =
		    least(count - least(count, batch_of(p)), seat->limit - 1);
	n = count - keep;
	for (uint32_t i = 0; i < n; i++)
		refs[i] = load_relaxed(&m->refs[keep + i]);
	store_relaxed(&m->count, keep);
	if (n > 0)
		post_free(p, refs, n);
}

/* A magazine nobody has: its number, or -1. */
static int
claim_magazine(struct slabd_pool *p)
{
	_Atomic uint32_t *used = &p->lane.header->magazines_used;
	uint32_t unused;
	int number = -1;

	pthread_mutex_lock(&p->post.lock);
	unused = ~p->sat;
	if (unused != 0)
		number = __builtin_ctz(unused);
	if (number >= (int)p->lane.geometry.magazines)
		number = -1;
	if (number >= 0)
		p->sat |= UINT32_C(1) << number;
	/* Relaxed: its first use is ordered as all are, see magazine.h. */
	if (number >= (int)load_relaxed(used))
		store_relaxed(used, (uint32_t)number + 1);
	pthread_mutex_unlock(&p->post.lock);
	return number;
}

/*
 * Gives back the magazine and what is in it; what the return ring has no room
 * for stays, where the daemon can find it. False: a signal handler has
 * interrupted its thread inside.
 */
static bool
vacate(struct slabd_pool *p, const struct seat *seat)
{
	struct lane_magazine *m = seat->magazine;

	if (!magazine_enter(m))
		return false;
	if (post_has_room(p, count_of(p, m)))
		give_up(p, m);
	magazine_leave(m);
	pthread_mutex_lock(&p->post.lock);
	p->sat &= ~(UINT32_C(1) << seat->number);
	pthread_mutex_unlock(&p->post.lock);
	return true;
}

/* Gives up a seat, whatever has become of its pool; false: it is in use. */
static bool
stand_up(struct seat *seat)
{
	struct slabd_pool *p;
	bool free = true;

	lock_open();
	LIST_FOREACH (p, &open_pools, open)
		if (p->serial == seat->serial && stock_usable(p))
			free = vacate(p, seat);
	unlock_open();
	if (free)
		seat->everyday = seat->serial = SEAT_EMPTY;
	return free;
}

/* This thread ends. */
static void
stand_up_all(void *seats)
{
	for (unsigned i = 0; i < SEATS; i++)
		stand_up((struct seat *)seats + i);
}

/* A forked child inherits the list, which is why it must not be in the making
 * then. */
static void
prepare(void)
{
	seated = pthread_key_create(&leaving, stand_up_all) == 0 &&
		 pthread_atfork(lock_open, unlock_open, unlock_open) == 0;
}

/*
 * This thread's seat at the pool, taken if it has none; NULL: there is none to
 * be had, and it works with the rings. Where the daemon cannot ask for barriers
 * it could not empty a magazine, and a reader, who allocates nothing, would
 * have no use for one.
 */
static struct seat *
sit(struct slabd_pool *p)
{
	struct seat *seat = seat_at(p);
	int number;

	if (seat->serial == p->serial)
		return seat;
	if (p->fences || p->flags & SLABD_RDONLY || !seated ||
	    pthread_setspecific(leaving, stock_seats) != 0 || !stand_up(seat) ||
	    (number = claim_magazine(p)) < 0)
		return NULL;
	seat->serial = p->serial;
	seat->everyday = p->table.checked ? SEAT_EMPTY : p->serial;
	seat->number = (uint32_t)number;
	seat->magazine = lane_magazine(&p->lane, seat->number);
	seat->allocs = load_relaxed(&seat->magazine->allocs);
	seat->limit = limit_of(p, false);
	return seat;
}

void
stock_look(struct slabd_pool *p)
{
	struct seat *seat = seat_at(p);

	if (seat->serial == p->serial && stock_noticed(p, seat->magazine))
		stock_attend(p, seat->magazine);
}

/* Grants the daemon has no business to make are not taken. */
static unsigned
take_grants(struct slabd_pool *p, uint64_t *refs, unsigned n)
{
	unsigned taken = ring_take(&p->lane, refs, n), good = 0;

	for (unsigned i = 0; i < taken; i++)
		if (table_valid(&p->table, refs[i]) && !ref_shared(refs[i]))
			refs[good++] = refs[i];
	if (ring_is_low(&p->lane))
		post_wake(p);
	return good;
}

/* Up to `n` slots from the grant ring; with a seat also a batch to keep. */
static unsigned
fill(struct slabd_pool *p, struct seat *seat, void **v, unsigned n)
{
	uint64_t refs[LANE_MAGAZINE];
	unsigned most = least(n, LANE_MAGAZINE), got, i;

	if (seat != NULL) {
		seat->limit = limit_of(p, true);
		if (most < batch_of(p))
			most = least(batch_of(p), most + seat->limit);
	}
	got = take_grants(p, refs, most);
	for (i = 0; i < got && i < n; i++) {
		table_hold(&p->table, refs[i]);
		v[i] = table_address(&p->table, ref_slot(refs[i]));
	}
	n = i;
	/* The first is the hottest, and so it goes on top. */
	for (i = got; i > n; i--) {
		table_stock(&p->table, refs[i - 1]);
		magazine_push(seat->magazine, refs[i - 1]);
	}
	return n;
}

/* Slots out of the magazine. */
static unsigned
pop_all(struct slabd_pool *p, struct lane_magazine *m, void **v, unsigned n)
{
	unsigned got = 0;
	uint64_t ref;

	while (got < n && (ref = magazine_pop(m)) != 0)
		if (table_pick(&p->table, ref, p->table.checked))
			v[got++] = table_address(&p->table, ref_slot(ref));
		else if (table_ref(&p->table, ref_slot(ref)) != ref)
			/* The table has been told of a ref that was forged. */
			post_free(p, &ref, 1);
	return got;
}

/* Both, for as long as there are any; a seat whose magazine may be used. */
static unsigned
take(struct slabd_pool *p, struct seat *seat, void **v, unsigned n)
{
	unsigned got = 0, more = 1;

	if (seat != NULL)
		got = pop_all(p, seat->magazine, v, n);
	for (; got < n && more > 0; got += more)
		more = fill(p, seat, v + got, n - got);
	return got;
}

/* Operations of threads without a seat. */
static void
count_past(struct slabd_pool *p, _Atomic uint64_t *counter, uint64_t n)
{
	pthread_mutex_lock(&p->post.lock);
	stock_count(counter, n);
	pthread_mutex_unlock(&p->post.lock);
}

int
stock_take(struct slabd_pool *p, void **v, unsigned n)
{
	struct seat *seat = sit(p);
	unsigned got;

	if (seat == NULL) {
		post_read_refused(p);
		got = take(p, NULL, v, n);
		count_past(p, &p->lane.header->allocs, got);
		return (int)got;
	}
	if (!magazine_enter(seat->magazine))
		return -EDEADLK;
	got = take(p, attend(p, seat) ? seat : NULL, v, n);
	stock_count(&seat->magazine->allocs, got);
	leave(p, seat->magazine);
	return (int)got;
}

/* Inside: frees into the magazine if that may be, else to the daemon. */
static int
put(struct slabd_pool *p, struct seat *seat, uint32_t slot)
{
	struct lane_magazine *m = seat->magazine;
	uint64_t ref;

	if (!attend(p, seat))
		return post_drop(p, slot);
	if (load_relaxed(&m->count) >= seat->limit)
		flush(p, seat);
	if (load_relaxed(&m->count) >= seat->limit ||
	    !table_put(&p->table, slot, &ref, p->table.checked))
		return post_drop(p, slot);
	magazine_push(m, ref);
	return 0;
}

int
stock_put(struct slabd_pool *p, uint32_t slot)
{
	struct seat *seat = sit(p);
	int err;

	if (seat == NULL) {
		post_read_refused(p);
		err = post_drop(p, slot);
		count_past(p, &p->lane.header->frees, err == 0);
	} else if (magazine_enter(seat->magazine)) {
		err = put(p, seat, slot);
		stock_count(&seat->magazine->frees, err == 0);
		leave(p, seat->magazine);
	} else
		return -EDEADLK;
	post_relieve(p);
	return err;
}

int
stock_open(struct slabd_pool *p)
{
	size_t bytes = (size_t)sysconf(_SC_PAGESIZE);
	void *page = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
	    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (page == MAP_FAILED)
		return -ENOMEM;
	if (madvise(page, bytes, MADV_WIPEONFORK) < 0) {
		munmap(page, bytes);
		return -ENOMEM;
	}
	pthread_once(&once, prepare);
	p->gate = page;
	lock_open();
	p->serial = ++last_serial;
	store_relaxed(p->gate, p->serial); /* the pool is nobody else's yet */
	LIST_INSERT_HEAD(&open_pools, p, open);
	unlock_open();
	return 0;
}

void
stock_shut(struct slabd_pool *p)
{
	if (p->gate != &stock_closed)
		store_relaxed(p->gate, 0); /* nothing is ordered by it */
}

void
stock_close(struct slabd_pool *p)
{
	if (p->gate == &stock_closed)
		return;
	/* Threads that end find it no more; one that does just now is done. */
	lock_open();
	LIST_REMOVE(p, open);
	unlock_open();
	munmap((void *)p->gate, (size_t)sysconf(_SC_PAGESIZE));
	p->gate = &stock_closed;
}
