/*
 * Fuzzes what the daemon reads of lanes: the input is a program for four clients
 * of one small pool, three of which have a lane. They publish records, true and
 * forged, write whatever they like wherever they can, take grants, end and come
 * back, while the daemon's own functions sweep, grant, take back and revoke.
 *
 * After each instruction every slot must be as oracle.h allows: what the daemon
 * was told is read again here, from the lanes themselves and by the rules of
 * slabd-protocol(7). At the end everybody goes, and every slot must be free.
 *
 * An instruction is one byte: bits 6-7 choose the client, the others what
 * happens, in the order of `instructions`; operands are the bytes behind it. The
 * first byte of all says what kind of pool it is. Slots are named by number and
 * versions by their distance from the slot's own, so that a kept input means the
 * same wherever versions begin.
 *
 * The daemon is started once. What an attachment costs is mostly the kernel's,
 * so files, mappings and barriers of lanes are played here; all else is real.
 */
#include "config.h"

#include <assert.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/client.h"
#include "daemon/daemon.h"
#include "daemon/event.h"
#include "daemon/guard.h"
#include "daemon/lanes.h"
#include "daemon/pool.h"
#include "daemon/region.h"
#include "magazine.h"
#include "oracle.h"
#include "replay.h"
#include "ring.h"

#define CLIENTS	  4
#define LANES	  ORACLE_LANES
#define SEGMENTS  2
#define EACH	  8
#define SLOTS	  (SEGMENTS * EACH)
#define HOLDERS	  8 /* beyond them are orphans */
#define QUOTA	  10
#define RING	  64
#define MAGAZINES 2
#define ROOM	  8
#define FAKE	  1000000 /* no descriptor */

static const char config_text[] =
    "{ 'socket': '%s/s', 'shrink_seconds': 86400, 'log_level': 'error',"
    "  'pools': [ { 'name': 'a', 'slot_size': 64, 'slots_per_segment': 8,"
    "    'min_segments': 2, 'max_segments': 2, 'quota': 10,"
    "    'max_clients': 8, 'orphan_seconds': 3600 } ] }";

/* A record that the daemon has read and that waits. */
struct pending {
	uint64_t index, record;
	bool old;   /* since an earlier round */
	bool maybe; /* it may be refused: its slot was not moved by a record */
	bool loose; /* it may be judged: it was read before the round began */
};

/* What is known of a client, and what its lane was seen to say. */
struct party {
	struct client client;
	struct attachment *a; /* NULL: it has ended */
	struct lane_end *e;   /* NULL: no lane */
	struct lane lane;     /* its memory stays for a while */
	unsigned holder;
	bool write;
	uint64_t read, seen, tail;
	uint64_t granted[RING];
	bool breached, away;
	struct pending pending[2 * RING];
	unsigned n;
	/* As they were before the instruction. */
	uint64_t head, first;
	uint64_t stowed[MAGAZINES * ROOM];
	unsigned nstowed;
};

/* Held by `holder` under `ref`: free again, or granted. */
struct deal {
	unsigned holder;
	uint64_t ref;
};

/* What an instruction does with slots, apart from the records. */
struct effect {
	struct deal returned[RING + MAGAZINES * ROOM], granted[SLOTS];
	unsigned nreturned, ngranted;
	unsigned ended, heir; /* holders; 0: nobody */
	bool evicts;	      /* what orphans left may end */
	uint32_t number;      /* the slot that is looked at */
	struct slot is;	      /* and what has become of it */
};

static struct daemon daemon_;
static struct pool *pool;
static struct slab_seg pristine[SEGMENTS];
static uint8_t *memory[LANES]; /* for lanes, */
static bool lent[LANES];       /* now one's */
static char dir[] = "/tmp/slabd-fuzz.XXXXXX";
static bool playing;
static struct party parties[CLIENTS];
static struct slot slots[SLOTS];
static struct effect effect;
static uint64_t sweeps; /* begun before the instruction */

struct input {
	const uint8_t *data;
	size_t left;
};

static uint8_t
next(struct input *in)
{
	if (in->left == 0)
		return 0;
	in->left--;
	return *in->data++;
}

static void
must(bool ok, const char *what)
{
	if (ok)
		return;
	fprintf(stderr, "%s\n", what);
	abort();
}

/* The kernel's part, linked with --wrap. */

int __real_region_create(struct region *, const char *, uint64_t);
int __wrap_region_create(struct region *, const char *, uint64_t);
void __real_region_unlink(struct region *);
void __wrap_region_unlink(struct region *);
void __real_region_close(struct region *);
void __wrap_region_close(struct region *);
int __real_region_size(const struct region *, uint64_t *);
int __wrap_region_size(const struct region *, uint64_t *);
int __real_guard_map(struct guard *, int, uint64_t);
int __wrap_guard_map(struct guard *, int, uint64_t);
void __real_guard_unmap(struct guard *);
void __wrap_guard_unmap(struct guard *);
int __real_posix_fallocate(int, off_t, off_t);
int __wrap_posix_fallocate(int, off_t, off_t);
int __real_fallocate(int, int, off_t, off_t);
int __wrap_fallocate(int, int, off_t, off_t);
int __real_eventfd(unsigned, int);
int __wrap_eventfd(unsigned, int);
int __real_close(int);
int __wrap_close(int);
uint64_t __wrap_headroom(int);
int __real_watch_new(struct watch **, struct loop *, int, unsigned,
    enum loop_priority, watch_callback, void *);
int __wrap_watch_new(struct watch **, struct loop *, int, unsigned,
    enum loop_priority, watch_callback, void *);
void __real_watch_wake(struct watch *, unsigned);
void __wrap_watch_wake(struct watch *, unsigned);
int __real_timer_start(struct timer *, uint32_t);
int __wrap_timer_start(struct timer *, uint32_t);
void __wrap_barrier_all(void);
int __wrap_client_attach(struct client *, struct attachment *);
void __wrap_client_fail(struct client *, const char *);

int
__wrap_region_create(struct region *r, const char *name, uint64_t bytes)
{
	if (!playing)
		return __real_region_create(r, name, bytes);
	*r = (struct region){.fd = FAKE, .bytes = bytes};
	return 0;
}

void
__wrap_region_unlink(struct region *r)
{
	if (r->fd != FAKE)
		__real_region_unlink(r);
}

void
__wrap_region_close(struct region *r)
{
	if (r->fd != FAKE)
		__real_region_close(r);
	r->fd = -1;
}

/* Nobody here can change it. */
int
__wrap_region_size(const struct region *r, uint64_t *bytes)
{
	if (!playing)
		return __real_region_size(r, bytes);
	*bytes = r->bytes;
	return 0;
}

/* The memory of each is a block of its own, so that its ends are watched. */
int
__wrap_guard_map(struct guard *g, int fd, uint64_t bytes)
{
	int i = 0;

	if (fd != FAKE)
		return __real_guard_map(g, fd, bytes);
	while (lent[i])
		i++;
	lent[i] = true;
	*g = (struct guard){.at = memory[i], .bytes = bytes};
	memset(g->at, 0, bytes);
	return 0;
}

void
__wrap_guard_unmap(struct guard *g)
{
	if (!playing)
		__real_guard_unmap(g);
	for (int i = 0; i < LANES; i++)
		if (g->at == memory[i])
			lent[i] = false;
	g->at = NULL;
}

int
__wrap_posix_fallocate(int fd, off_t at, off_t bytes)
{
	return playing ? 0 : __real_posix_fallocate(fd, at, bytes);
}

int
__wrap_fallocate(int fd, int mode, off_t at, off_t bytes)
{
	return playing ? 0 : __real_fallocate(fd, mode, at, bytes);
}

int
__wrap_eventfd(unsigned n, int flags)
{
	return playing ? FAKE : __real_eventfd(n, flags);
}

int
__wrap_close(int fd)
{
	return fd == FAKE ? 0 : __real_close(fd);
}

uint64_t
__wrap_headroom(int fd)
{
	(void)fd;
	return UINT64_MAX;
}

int
__wrap_watch_new(struct watch **out, struct loop *loop, int fd, unsigned mask,
    enum loop_priority priority, watch_callback callback, void *arg)
{
	if (!playing)
		return __real_watch_new(
		    out, loop, fd, mask, priority, callback, arg);
	*out = NULL;
	return 0;
}

void
__wrap_watch_wake(struct watch *w, unsigned what)
{
	if (!playing)
		__real_watch_wake(w, what);
}

int
__wrap_timer_start(struct timer *t, uint32_t ms)
{
	return playing ? 0 : __real_timer_start(t, ms);
}

/* There is one thread: what it stored it sees. */
void
__wrap_barrier_all(void)
{
}

/* It has no other. */
int
__wrap_client_attach(struct client *c, struct attachment *a)
{
	a->client = c;
	a->number = 1;
	return 0;
}

/* The loop would end it later; here an instruction does. */
void
__wrap_client_fail(struct client *c, const char *why)
{
	(void)why;
	c->ending = true;
}

/* The daemon. */

static void
end_daemon(void)
{
	char path[64];

	playing = false;
	daemon_free(&daemon_);
	snprintf(path, sizeof(path), "%s/c", dir);
	unlink(path);
	snprintf(path, sizeof(path), "%s/s.lock", dir);
	unlink(path);
	rmdir(dir);
	for (int i = 0; i < LANES; i++)
		free(memory[i]);
}

static const char *
write_config(void)
{
	static char path[64];
	char text[sizeof(config_text) + 64];
	int fd, len;

	must(mkdtemp(dir) != NULL, "mkdtemp");
	snprintf(path, sizeof(path), "%s/c", dir);
	len = snprintf(text, sizeof(text), config_text, dir);
	for (int i = 0; i < len; i++)
		text[i] = text[i] == '\'' ? '"' : text[i];
	fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	must(fd >= 0 && write(fd, text, (size_t)len) == len, "config");
	close(fd);
	return path;
}

int
LLVMFuzzerInitialize(int *argc, char ***argv)
{
	struct daemon_options options = {.config_path = write_config()};

	(void)argc;
	(void)argv;
	daemon_start(&daemon_, &options);
	while (daemon_.listener == NULL)
		loop_poll(daemon_.loop);
	pool = daemon_pool(&daemon_, "a");
	region_unlink(&pool->region);
	region_unlink(&pool->ledger_region);
	region_unlink(&pool->claims.region);
	unlink(daemon_.instance.socket_path);
	atexit(end_daemon);
	must(pool->slots == SLOTS, "the pool is not whole");
	pool->lane_geometry = (struct lane_geometry){.magazines_at = LANE_PAGE,
	    .magazines = MAGAZINES,
	    .magazine_room = ROOM,
	    .grants_at = 2 * LANE_PAGE,
	    .grants = RING,
	    .records_at = 3 * LANE_PAGE,
	    .records = RING};
	for (int i = 0; i < LANES; i++)
		must(posix_memalign((void **)&memory[i], LANE_PAGE,
			 lane_bytes(&pool->lane_geometry)) == 0,
		    "memory");
	for (int i = 0; i < SEGMENTS; i++)
		pristine[i] = pool->segments[i].core;
	playing = true;
	return 0;
}

/* As if the pool had never been used; all slots are free now. */
static void
begin(uint8_t kind)
{
	static const uint64_t seeds[] = {1, (UINT64_C(1) << 28) - 3,
	    (UINT64_C(1) << 39) - 3, (UINT64_C(1) << 27) + 77};

	pool->ledger.seed = seeds[kind & 3];
	pool->conf.orphan_seconds = kind & 4 ? 3600 : 0;
	pool->hot = 0;
	pool->used_max = 0;
	pool->sweeps = 0;
	for (int i = 0; i < SEGMENTS; i++) {
		pool->segments[i].core = pristine[i];
		for (int k = 0; k < EACH; k++)
			pool->segments[i].words[k] = 0;
	}
	for (int i = 0; i < SLOTS; i++)
		slots[i] = (struct slot){.version = pool->ledger.seed};
	for (int i = 0; i < CLIENTS; i++) {
		parties[i].client = (struct client){.daemon = &daemon_};
		parties[i].client.peer.uid = (uid_t)(i / 2);
		parties[i].write = true;
	}
	/* One of those with a lane may only read. */
	parties[2].write = (kind >> 3 & 1) == 0;
}

/* The ledger's word for it. */
static struct slot
look(uint32_t number)
{
	static const uint8_t fates[] = {[LEDGER_FREE] = FREE,
	    [LEDGER_HELD] = HELD,
	    [LEDGER_IN_FLIGHT] = SENT,
	    [LEDGER_SHARED] = SHARED};
	struct ledger_word w = ledger_word(&pool->ledger, number);
	struct ledger_share share = ledger_share_of(&pool->ledger, number);

	must(w.state <= LEDGER_SHARED, "a state that is none");
	return (struct slot){.version = w.version,
	    .row = (uint32_t)*ledger_row(&pool->ledger, number),
	    .fate = fates[w.state],
	    .holder = (uint8_t)w.holder,
	    .open = (uint8_t)share.open,
	    .sender = (uint8_t)(share.open > 0 ? share.sender : 0)};
}

static void
wrong(uint32_t number, const struct slot *is, const char *what)
{
	const struct slot *s = &slots[number];

	fprintf(stderr,
	    "slot %u was: fate %u version %llx holder %u open %u of %u row %x\n"
	    "      and is: fate %u version %llx holder %u open %u of %u row "
	    "%x\n",
	    number, s->fate, (unsigned long long)s->version, s->holder, s->open,
	    s->sender, s->row, is->fate, (unsigned long long)is->version,
	    is->holder, is->open, is->sender, is->row);
	must(false, what);
}

/* What the lanes say. */

static bool
head_possible(const struct party *q)
{
	return q->tail - q->head <= q->tail - q->seen;
}

static void
note_magazines(struct party *q)
{
	uint32_t used = q->lane.header->magazines_used, count;
	const struct lane_magazine *m;

	q->nstowed = 0;
	for (uint32_t i = 0; i < used && i < MAGAZINES; i++) {
		m = lane_magazine(&q->lane, i);
		count = m->count < ROOM ? m->count : ROOM;
		for (uint32_t k = 0; m->busy == 0 && k < count; k++)
			q->stowed[q->nstowed++] = m->refs[k];
	}
}

/* Before an instruction; the daemon changes these itself. */
static void
note(void)
{
	struct party *q;

	effect.nreturned = effect.ngranted = 0;
	effect.ended = effect.heir = 0;
	effect.evicts = false;
	sweeps = pool->sweeps;
	for (int i = 0; i < LANES; i++) {
		q = &parties[i];
		if (q->e == NULL)
			continue;
		q->head = q->lane.header->grant_head;
		q->first = q->e->mirror->record_head;
		note_magazines(q);
	}
}

/* The first record that is not done. */
static uint64_t
first_kept(const struct party *q)
{
	uint64_t first = q->read;

	for (unsigned k = 0; k < q->n; k++)
		if (first - q->pending[k].index <= RING)
			first = q->pending[k].index;
	return first;
}

static bool
is_record(uint64_t record)
{
	struct said s = oracle_read(record);

	return oracle_is_record(&s) && (record & 0xffffff) < SLOTS;
}

/*
 * Reads what the lane has published; false: something no client may write. Where
 * a record may be done or not the daemon's own head is as good as another.
 */
static bool
hear(struct party *q, uint64_t head)
{
	uint64_t tail = q->lane.header->record_tail, record;

	if (tail - head > RING || tail - head < q->read - head)
		return false;
	for (; q->read != tail; q->read++) {
		record = q->lane.records[q->read % RING];
		if (!is_record(record))
			return false;
		must(q->n < 2 * RING, "more than a ring of records waits");
		q->pending[q->n++] =
		    (struct pending){.index = q->read, .record = record};
	}
	return true;
}

static unsigned
doubtful(const struct party *q)
{
	unsigned n = 0;

	for (unsigned k = 0; k < q->n; k++)
		n += q->pending[k].maybe || q->pending[k].loose;
	return n;
}

/* What was moved by other means than records is not looked at again. */
static void
doubt(struct party *q)
{
	struct pending *r;
	struct said s;

	for (unsigned k = 0; k < q->n; k++) {
		r = &q->pending[k];
		s = oracle_read(r->record);
		if (oracle_ahead(&s, slots[r->record & 0xffffff].version) <= 0)
			r->maybe = true;
	}
}

/*
 * What is new waits behind what waits already for the same slot and version,
 * and shares its doubts. With `apart` its lane was read once before the round.
 */
static void
spread_doubt(struct party *q, bool apart)
{
	struct pending *r, *before;

	for (unsigned k = 0; k < q->n; k++)
		for (unsigned j = 0; j < k; j++) {
			r = &q->pending[k];
			before = &q->pending[j];
			if (((before->record ^ r->record) &
				UINT64_C(0xfffffff000ffffff)) != 0)
				continue;
			r->maybe = r->maybe || before->maybe;
			r->loose = r->loose || (apart && before->old);
		}
}

/* What the lane says of this slot; how much that is. */
static unsigned
tell(struct story *s, const struct party *q, uint32_t number)
{
	struct said *said;

	s->n = 0;
	for (unsigned k = 0; k < q->n; k++) {
		if ((q->pending[k].record & 0xffffff) != number)
			continue;
		said = &s->said[s->n++];
		*said = oracle_read(q->pending[k].record);
		said->maybe = q->pending[k].maybe;
	}
	return s->n;
}

/* After the records, what else the instruction does. */
static bool
finish(struct slot s, void *arg)
{
	const struct effect *f = arg;
	const struct deal *d;
	struct slot evicted;
	unsigned sender;

	for (unsigned i = 0; i < f->nreturned; i++) {
		d = &f->returned[i];
		if (ref_slot(d->ref) == f->number && !ref_shared(d->ref) &&
		    ref_version(d->ref) == s.version)
			oracle_do(&s, LANE_FREE, false, 0, d->holder, true);
	}
	if (f->ended != 0)
		oracle_abandon(&s, f->ended, f->heir);
	evicted = s;
	sender = s.fate == SENT ? s.holder : s.sender;
	if (f->evicts && sender > HOLDERS)
		oracle_abandon(&evicted, sender, 0);
	for (unsigned i = 0; i < f->ngranted; i++) {
		d = &f->granted[i];
		if (ref_slot(d->ref) != f->number)
			continue;
		oracle_grant(&s, d->holder, ref_version(d->ref));
		oracle_grant(&evicted, d->holder, ref_version(d->ref));
	}
	return oracle_same(&s, &f->is) ||
	       (f->evicts && oracle_same(&evicted, &f->is));
}

static void
check_slots(void)
{
	static struct story stories[LANES];
	unsigned n;
	bool ok;

	for (int i = 0; i < LANES; i++) {
		stories[i].holder = (uint8_t)parties[i].holder;
		stories[i].write = parties[i].write;
	}
	for (uint32_t number = 0; number < SLOTS; number++) {
		effect.number = number;
		effect.is = look(number);
		n = 0;
		for (int i = 0; i < LANES; i++)
			n += tell(&stories[i], &parties[i], number);
		ok = n > 0 ? oracle_allows(
				 &slots[number], stories, finish, &effect)
			   : finish(slots[number], &effect);
		if (!ok)
			wrong(number, &effect.is, "against the rules");
		slots[number] = effect.is;
	}
}

/*
 * Whether the instruction itself may have given the slot a new version, after
 * the records were read.
 */
static bool
touched(uint32_t number)
{
	if (effect.ended != 0 || effect.evicts)
		return true;
	for (unsigned i = 0; i < effect.ngranted; i++)
		if (ref_slot(effect.granted[i].ref) == number)
			return true;
	return false;
}

/* What was read in one of `rounds` full ones, and still waits after them. */
static void
keep(struct party *q, uint64_t rounds)
{
	unsigned kept = 0;
	struct pending *r;
	struct said s;
	uint32_t number;
	int32_t ahead;

	for (unsigned k = 0; k < q->n; k++) {
		r = &q->pending[k];
		s = oracle_read(r->record);
		number = (uint32_t)(r->record & 0xffffff);
		ahead = oracle_ahead(&s, slots[number].version);
		/* At version 0, which is passed over, nobody tries it. */
		if (ahead <= 0 && (touched(number) || s.version == 0))
			r->maybe = true;
		if (rounds > 1 || (r->old && rounds > 0) ||
		    (ahead <= 0 && !r->maybe) ||
		    (q->e->parked == 0 && (r->maybe || r->loose)))
			continue;
		r->old = true;
		r->maybe = r->maybe || r->loose;
		q->pending[kept++] = *r;
	}
	q->n = kept;
}

static void
check_lane(struct party *q)
{
	must(q->e->read == q->read, "read more or less than was published");
	must(q->e->parked <= q->n, "more is parked than can wait");
	must(q->e->parked + doubtful(q) >= q->n, "less is parked than waits");
	if (doubtful(q) > 0)
		return;
	must(q->e->mirror->record_head == first_kept(q),
	    "the head is not where it must be");
}

/* `due`: the daemon has met something no client may write, and must say so. */
static void
check_breach(struct party *q, bool due)
{
	bool may = due || !head_possible(q);

	must(q->breached || q->e->breached || !due, "a breach was overlooked");
	must(q->breached || !q->e->breached || may, "no breach, and yet");
	q->breached = q->e->breached;
}

/*
 * After an instruction: `who` is the only one whose lane was read (-1: nobody),
 * unless all were, in whole rounds.
 */
static void
settle_records(int who, bool due[LANES])
{
	uint64_t rounds = pool->sweeps - sweeps;
	struct party *q;

	for (int i = 0; i < LANES; i++) {
		q = &parties[i];
		if (q->e == NULL)
			continue;
		doubt(q);
		if ((rounds > 0 || i == who) && !q->breached && !due[i])
			due[i] = !hear(
			    q, doubtful(q) > 0 ? q->first : first_kept(q));
		spread_doubt(q, i == who);
	}
}

static void
settle_lanes(int who)
{
	uint64_t rounds = pool->sweeps - sweeps;
	struct party *q;

	for (int i = 0; i < LANES; i++) {
		q = &parties[i];
		if (q->a == NULL || q->a->lane == NULL) {
			q->e = NULL;
			q->n = 0;
			continue;
		}
		if (rounds == 0 && i != who)
			continue;
		keep(q, rounds);
		check_lane(q);
	}
}

/* The grants since the last time are there, in the daemon's own copy. */
static void
hear_grants(struct party *q, bool due)
{
	uint64_t tail = q->e->mirror->grant_tail, ref;

	must(tail == q->tail || (!due && !q->breached),
	    "grants for who has broken the rules");
	must(tail == q->tail || q->a->charged <= QUOTA, "beyond the quota");
	must(tail - q->head < RING || tail == q->tail, "too many grants");
	for (; q->tail != tail; q->tail++) {
		must(effect.ngranted < SLOTS, "more grants than slots");
		ref = q->e->mirror->words[q->tail % RING];
		q->granted[q->tail % RING] = ref;
		effect.granted[effect.ngranted++] =
		    (struct deal){q->holder, ref};
	}
}

static void
give_back(unsigned holder, uint64_t ref)
{
	effect.returned[effect.nreturned++] = (struct deal){holder, ref};
}

/* The stock comes back, if the client's head is one. */
static bool
return_stock(struct party *q, bool due)
{
	if (q->breached || due)
		return false;
	if (!head_possible(q))
		return true;
	for (uint64_t i = q->head; i != q->tail; i++)
		give_back(q->holder, q->granted[i % RING]);
	q->seen = q->head = q->tail;
	return false;
}

static void
return_magazines(struct party *q)
{
	for (unsigned i = 0; i < q->nstowed; i++)
		give_back(q->holder, q->stowed[i]);
}

static void
settle(int who, bool due[LANES])
{
	check_slots();
	for (int i = 0; i < LANES; i++)
		if (parties[i].a != NULL && parties[i].a->lane != NULL)
			check_breach(&parties[i], due[i]);
	settle_lanes(who);
}

/* Instructions. */

static struct party *
party(int i)
{
	struct party *q = &parties[i];
	char why[256];

	if (q->a != NULL)
		return q;
	must(attachment_new(
		 &q->a, pool, &q->client, q->write, 0, why, sizeof(why)) == 0,
	    "cannot attach");
	if (i < LANES)
		must(lane_create(q->a) == 0, "cannot have a lane");
	q->holder = q->a->holder;
	must(q->holder <= HOLDERS, "a client booked as orphans");
	q->e = q->a->lane;
	if (q->e != NULL)
		q->lane = q->e->lane;
	q->read = q->seen = q->tail = 0;
	q->breached = q->away = false;
	q->client.ending = false;
	q->n = 0;
	return q;
}

/* All that went before have their numbers, so that each gets its own. */
static void
attach_all(void)
{
	for (int i = 0; i < CLIENTS; i++)
		party(i);
}

/* A version near the slot's own. */
static uint64_t
pick_version(uint32_t number, uint8_t how)
{
	static const int64_t steps[] = {
	    0, 0, 0, 0, 1, 1, 2, 3, -1, -2, 5, 17, 1 << 26, -(1 << 26)};

	how &= 0xf;
	if (how == 14)
		return 0;
	if (how == 15)
		return slots[number].version ^ UINT64_C(1) << 33;
	return slots[number].version + (uint64_t)steps[how];
}

static uint64_t
pick_ref(struct input *in)
{
	uint8_t which = next(in), how = next(in);
	uint32_t number = which % SLOTS;
	bool shared = (slots[number].fate == SHARED) != (how >> 4 & 1);
	uint64_t version = pick_version(number, how) & REF_VERSION_MASK;

	if (which >= 0xf0)
		number = which == 0xff ? 0xffffff : SLOTS + which % 15;
	return ref_make(number, shared, version);
}

static uint64_t
pick_record(struct input *in)
{
	static const uint8_t counts[] = {1, 2, 3, 255};
	uint8_t what = next(in);
	unsigned operation = what % 5 + 1, count;
	uint64_t ref;

	if (what >= 0xfa)
		return UINT64_C(0x0101010101010101) * next(in);
	ref = pick_ref(in);
	count = operation == LANE_SHARE || operation == LANE_RECALL
		    ? counts[what / 5 % 4]
		    : 0;
	if (operation == LANE_SEND || operation == LANE_SHARE)
		ref &= ~(UINT64_C(1) << REF_SLOT_BITS);
	return record_make((enum lane_operation)operation, ref, count);
}

static uint64_t
pick_index(struct input *in, uint64_t is, uint64_t other)
{
	static const uint64_t fixed[] = {0, RING, RING + 1, UINT64_C(1) << 31,
	    UINT32_MAX, UINT64_C(1) << 63, UINT64_MAX};
	uint8_t how = next(in);

	switch (how % 4) {
	case 0:
		return fixed[how / 4 % 7];
	case 1:
		return is + how / 4 % 8;
	case 2:
		return is - how / 4 % 8;
	default:
		return other + how / 4 - 32;
	}
}

static void
publish(struct party *q, uint64_t record)
{
	struct lane_header *h = q->lane.header;
	uint64_t tail = h->record_tail;

	q->lane.records[tail % RING] = record;
	h->record_tail = tail + 1;
}

static void
do_say(struct party *q, struct input *in)
{
	publish(q, pick_record(in));
}

/* Slots in a row. */
static void
do_say_row(struct party *q, struct input *in)
{
	uint8_t what = next(in), how = next(in);
	static const enum lane_operation rows[] = {
	    LANE_FREE, LANE_SEND, LANE_RECEIVE, LANE_RECEIVE};
	uint32_t number = what % SLOTS;

	for (unsigned n = how >> 4; n > 0; n--, number = (number + 1) % SLOTS)
		publish(
		    q, record_make(rows[what / SLOTS % 4],
			   ref_make(number, false,
			       pick_version(number, how) & REF_VERSION_MASK),
			   0));
}

/* A record where none is due. */
static void
do_poke_record(struct party *q, struct input *in)
{
	uint8_t place = next(in);

	q->lane.records[place % RING] = pick_record(in);
}

static void
do_poke_index(struct party *q, struct input *in)
{
	struct lane_header *h = q->lane.header;
	uint8_t which = next(in);

	if (which % 3 == 0)
		h->record_tail = pick_index(in, h->record_tail, h->record_head);
	else if (which % 3 == 1)
		h->grant_head = pick_index(in, h->grant_head, h->grant_tail);
	else
		((uint64_t *)(void *)h)[which] = pick_index(in, 0, which);
}

static void
do_poke_magazine(struct party *q, struct input *in)
{
	uint8_t which = next(in);
	struct lane_magazine *m = lane_magazine(&q->lane, which & 1);

	switch (which >> 1 & 3) {
	case 0:
		m->busy = next(in);
		break;
	case 1:
		m->count = (uint32_t)pick_index(in, m->count, 0);
		break;
	case 2:
		q->lane.header->magazines_used = (uint32_t)pick_index(in, 0, 0);
		break;
	default:
		m->refs[which >> 3 & 7] = pick_ref(in);
	}
}

static void
do_poke_grant(struct party *q, struct input *in)
{
	uint8_t place = next(in);

	q->lane.grants[place % RING] = pick_ref(in);
}

static void
do_poke_claim(struct party *q, struct input *in)
{
	uint64_t ref = pick_ref(in);

	(void)q;
	pool->claims.words[ref_slot(ref) % SLOTS] = ref ^ next(in);
}

/* As the library does: some grants, the rest of them into a magazine. */
static void
do_take(struct party *q, struct input *in)
{
	uint8_t how = next(in);
	uint64_t refs[ROOM];
	struct lane_magazine *m = lane_magazine(&q->lane, how & 1);
	unsigned n = ring_take(&q->lane, refs, how >> 1 & 7);

	q->lane.header->magazines_used = MAGAZINES;
	for (unsigned i = how >> 4; i < n && m->count < ROOM; i++)
		magazine_push(m, refs[i]);
}

static void
do_sweep(struct party *q, struct input *in)
{
	bool due[LANES] = {false};

	(void)q;
	(void)in;
	note();
	lanes_sweep(pool);
	settle_records(-1, due);
	settle(-1, due);
}

static void
do_turn(struct party *q, struct input *in)
{
	bool due[LANES] = {false};

	(void)in;
	note();
	lanes_turn(pool);
	settle_records(-1, due);
	for (int i = 0; i < LANES; i++) {
		q = &parties[i];
		if (q->e == NULL)
			continue;
		hear_grants(q, due[i] || !head_possible(q));
		due[i] = due[i] || !head_possible(q);
		if (!due[i])
			q->seen = q->head;
	}
	settle(-1, due);
}

static void
do_catch_up(struct party *q, struct input *in)
{
	bool due[LANES] = {false};

	(void)in;
	note();
	lane_catch_up(q->a);
	settle_records((int)(q - parties), due);
	settle((int)(q - parties), due);
}

static void
do_ask(struct party *q, struct input *in)
{
	bool due[LANES] = {false};
	int i = (int)(q - parties);

	(void)in;
	note();
	lane_asked(q->e);
	settle_records(-1, due);
	due[i] = !head_possible(q);
	hear_grants(q, due[i]);
	if (!due[i] && !q->breached)
		q->seen = q->head;
	settle(-1, due);
}

static void
do_take_back(struct party *q, struct input *in)
{
	bool due[LANES] = {false};

	(void)in;
	note();
	lane_take_back(q->e);
	settle_records(-1, due);
	due[q - parties] = return_stock(q, false);
	settle(-1, due);
}

static void
do_revoke(struct party *q, struct input *in)
{
	const struct account *of = next(in) & 1 ? q->a->account : NULL;
	bool due[LANES] = {false};

	note();
	lanes_revoke(pool, of);
	settle_records(-1, due);
	for (int i = 0; i < LANES; i++) {
		q = &parties[i];
		if (q->e != NULL && !due[i] && !q->breached &&
		    (of == NULL || q->a->account == of))
			return_magazines(q);
	}
	settle(-1, due);
}

/* The orphans' holder of that user, once the daemon has made one. */
static unsigned
heir_of(uid_t uid)
{
	const struct attachment *a;

	for (unsigned h = HOLDERS + 1;
	     h <= pool->ledger.geometry.attachments_max; h++) {
		a = pool->attachments[h - 1];
		if (a != NULL && a->account->uid == uid)
			return h;
	}
	return 0;
}

static void
do_end(struct party *q, struct input *in)
{
	bool due[LANES] = {false};
	int i = (int)(q - parties);

	(void)in;
	note();
	attachment_end(q->a);
	settle_records(-1, due);
	if (q->e != NULL) {
		return_stock(q, due[i]);
		return_magazines(q);
	}
	effect.ended = q->holder;
	effect.heir = heir_of(q->client.peer.uid);
	q->a = NULL;
	settle(-1, due);
}

static void
do_quarantine(struct party *q, struct input *in)
{
	bool due[LANES] = {false};

	(void)in;
	if (q->a->quarantined)
		return;
	note();
	attachment_quarantine(q->a);
	settle_records(-1, due);
	if (q->e != NULL)
		return_stock(q, due[q - parties]);
	settle(-1, due);
}

/* As after a restart of the daemon: the session ends, or it goes on. */
static void
do_away(struct party *q, struct input *in)
{
	bool due[LANES] = {false};

	(void)in;
	if (q->a->quarantined && !q->away)
		return;
	note();
	if (!q->away)
		attachment_away(q->a);
	else if (q->e == NULL || lane_resume(q->e) == 0)
		attachment_back(q->a);
	q->away = !q->away;
	settle_records(-1, due);
	settle(-1, due);
}

/* By the socket: its lane is read first, and then this is between two sweeps. */
static void
do_request(struct party *q, struct input *in)
{
	uint8_t what = next(in);
	unsigned operation = what % 5 + 1, count = 1 + what / 5 % 4;
	uint64_t ref = pick_ref(in), out;
	uint32_t number = ref_slot(ref);
	struct slot s, is;
	bool ok = false;
	int n = -1;

	if (q->a->quarantined)
		return;
	do_catch_up(q, in);
	if (number < SLOTS) {
		s = slots[number];
		ok = s.version == ref_version(ref) &&
		     oracle_do(&s, operation, ref_shared(ref),
			 operation == LANE_SEND ? 0 : count, q->a->holder,
			 q->a->write);
	}
	switch (operation) {
	case LANE_FREE:
		n = pool_free(q->a, ref);
		break;
	case LANE_SEND:
		n = pool_send(q->a, ref, &out);
		break;
	case LANE_SHARE:
		n = pool_share(q->a, ref, count, &out);
		break;
	case LANE_RECEIVE:
		n = pool_receive(q->a, ref);
		break;
	case LANE_RECALL:
		n = pool_recall(q->a, ref, count);
		break;
	}
	must(!ok || n >= 0, "refused against the rules");
	must(ok || n <= 0, "a refusal that counts something");
	if (!ok)
		return;
	is = look(number);
	if (!oracle_same(&s, &is))
		wrong(number, &is, "a request against the rules");
	slots[number] = s;
}

static void
do_alloc(struct party *q, struct input *in)
{
	bool due[LANES] = {false};
	uint64_t refs[EACH];
	int n;

	if (q->a->quarantined)
		return;
	do_catch_up(q, in);
	note();
	n = pool_alloc(q->a, next(in) % EACH + 1, false, 1, refs);
	settle_records(-1, due);
	effect.evicts = true;
	for (int i = 0; i < n; i++)
		effect.granted[effect.ngranted++] =
		    (struct deal){q->holder, refs[i]};
	must(n <= 0 || q->a->charged <= QUOTA, "beyond the quota");
	settle(-1, due);
}

static void
do_evict(struct party *q, struct input *in)
{
	bool due[LANES] = {false};

	(void)q;
	note();
	orphans_evict(pool, next(in) % 4 + 1);
	settle_records(-1, due);
	effect.evicts = true;
	settle(-1, due);
}

static const struct {
	void (*run)(struct party *, struct input *);
	bool lane; /* only who has one can */
} instructions[] = {{do_say, true}, {do_say_row, true}, {do_poke_record, true},
    {do_poke_index, true}, {do_poke_magazine, true}, {do_poke_grant, true},
    {do_poke_claim, false}, {do_take, true}, {do_sweep, false},
    {do_turn, false}, {do_catch_up, false}, {do_ask, true},
    {do_take_back, true}, {do_revoke, false}, {do_end, false},
    {do_quarantine, false}, {do_request, false}, {do_alloc, false},
    {do_evict, false}, {do_away, false}};

static void
audit(void)
{
	char why[256];

	must(pool_audit(pool, why, sizeof(why)) == 0, why);
}

static void
clear(void)
{
	for (int i = 0; i < CLIENTS; i++)
		if (parties[i].a != NULL)
			do_end(&parties[i], NULL);
	orphans_evict(pool, UINT32_MAX);
	must(pool->count[SLOT_FREE] == SLOTS, "a slot is lost");
	must(pool->clients == 0 && pool->owed == 0, "a client is left");
	must(parking_empty(pool->parking), "a record is left");
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = {data, size};
	uint8_t op, which;
	struct party *q;

	begin(next(&in));
	attach_all();
	while (in.left > 0) {
		op = next(&in);
		which = (op & 0x3f) %
			(sizeof(instructions) / sizeof(*instructions));
		q = party(op >> 6);
		if (q->a->lane != NULL || !instructions[which].lane)
			instructions[which].run(q, &in);
	}
	audit();
	clear();
	audit();
	return 0;
}

#ifdef REPLAY
int
main(int argc, char **argv)
{
	LLVMFuzzerInitialize(&argc, &argv);
	return fuzz_replay(argc, argv, "drain");
}
#endif
