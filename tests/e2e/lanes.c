/*
 * Lanes, from the side of the daemon: clients that move along their rings by
 * hand, one step at a time, and in ways that no library does.
 *
 * Whoever watches asks for statistics, and with that the daemon reads every
 * lane; nothing else here makes it read one, unless a test rings.
 */
#include "config.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "../core/random.h"
#include "claim.h"
#include "e2e.h"
#include "magazine.h"

/* `segments` of `n` slots. */
#define POOL(n, segments, more)                                                \
	"\"shrink_seconds\": 3600, \"max_clients_per_uid\": 256, \"pools\": "  \
	"[{\"name\": \"p\", \"slot_size\": 2048, \"slots_per_segment\": " #n   \
	", \"max_segments\": " #segments ", \"orphan_seconds\": 3600" more "}" \
	"]"
#define PEERS 8

struct party {
	struct raw r;
	struct raw_lane l;
	uint32_t at;
};

static struct raw watcher;
static struct party peer[PEERS];
static unsigned peers;

static void
join_as(struct party *p, uint32_t flags)
{
	int err;

	login(&p->r, "lane");
	err = raw_attach_lane(&p->r, "p", flags, &p->l);
	cr_assert_eq(err, 0, "cannot attach: %d", err);
	cr_assert_not_null(p->l.lane.header, "no lane");
	p->at = p->l.pool.number;
}

static void
leave(struct party *p)
{
	raw_close(&p->r);
	raw_lane_close(&p->l);
}

/* The daemon, and so many parties. */
static void
begin(const char *text, unsigned n)
{
	serve(text);
	login(&watcher, "watcher");
	for (peers = 0; peers < n; peers++)
		join_as(&peer[peers], 0);
}

/* Reads every lane; the pool's figures. */
static struct raw_stats
look(void)
{
	struct raw_stats s = stats_of(&watcher, "p");

	cr_assert_leq(s.free, s.slots);
	cr_assert_leq(s.used, s.slots);
	cr_assert_leq(s.cached, s.slots);
	return s;
}

static void
stop(void)
{
	struct raw_stats s;

	if (watcher.fd >= 0 && raw_pool_stats(&watcher, "p", &s) == 0) {
		look();
		cr_assert_eq(raw_audit(&watcher), 0);
		for (unsigned i = 0; i < peers; i++)
			leave(&peer[i]);
		look();
		cr_assert_eq(raw_audit(&watcher), 0);
	}
	raw_close(&watcher);
	finish();
}

TestSuite(lanes, .timeout = 60, .fini = stop);

/* Bogus records are found out by the second look. */
static struct raw_stats
look_twice(void)
{
	look();
	return look();
}

static bool
holds(struct party *p, uint64_t ref)
{
	int held = raw_held(&p->r, p->at, ref);

	cr_assert(held == 0 || held == 1, "HELD says %d", held);
	return held == 1;
}

static uint64_t
one(struct party *p)
{
	return alloc_one(&p->r, p->at);
}

static void
record(struct party *p, enum lane_operation what, uint64_t ref, unsigned count)
{
	cr_assert(raw_lane_record(&p->l, what, ref, count));
}

static uint64_t
after(uint64_t ref, unsigned versions, bool shared)
{
	return ref_make(ref_slot(ref), shared, ref_version(ref) + versions);
}

static uint64_t
give(struct party *p, uint64_t ref)
{
	uint64_t out;

	cr_assert_eq(raw_lane_send(&p->l, ref, &out), 0);
	return out;
}

static uint64_t
u64_at(const struct party *p, size_t offset)
{
	uint64_t value;

	memcpy(&value, (uint8_t *)p->l.lane.header + offset, sizeof(value));
	return value;
}

static uint32_t
u32_at(const struct party *p, size_t offset)
{
	uint32_t value;

	memcpy(&value, (uint8_t *)p->l.lane.header + offset, sizeof(value));
	return value;
}

/* Until the daemon has closed the connection. */
static void
has_ended(struct party *p)
{
	int err;

	while ((err = raw_ping(&p->r)) == 0)
		continue;
	cr_assert(err == -ENOTCONN || err == -ECONNRESET, "ended with %d", err);
}

/* It allocates and frees by its lane and hands on by it as ever. */
static void
goes_on(struct party *a, struct party *b)
{
	uint64_t ref = one(a), sent = give(a, ref);

	cr_assert_eq(raw_lane_receive(&b->l, sent), 0);
	cr_assert(holds(b, sent));
	record(b, LANE_FREE, sent, 0);
	cr_assert_not(holds(b, sent));
	cr_assert_eq(raw_lane_refused(&a->l), 0);
	cr_assert_eq(raw_lane_refused(&b->l), 0);
}

static void
reload(const char *text)
{
	cr_assert_eq(server_configure(&server, text), 0);
	cr_assert_eq(raw_call(&watcher, WIRE_RELOAD, 0, 0, NULL, 0, NULL), 0);
}

/*
 * Attach, and the formats, in numbers.
 */

Test(lanes, layout)
{
	static const char magic[] = "SLABLANE";
	struct party *p = &peer[0];
	struct lane_geometry g = lane_geometry_for(256);
	struct stat st;
	uint64_t ref, sent;

	begin(POOL(256, 1, ""), 1);
	cr_assert_arr_eq(p->l.lane.header, magic, 8);
	cr_assert_eq(u32_at(p, 8), 3);
	cr_assert_eq(u32_at(p, 12), 1664);
	cr_assert_eq(u64_at(p, 16), p->l.lane_bytes);
	cr_assert_eq(u64_at(p, 24), p->l.pool.identity);
	cr_assert_eq(u32_at(p, 32), 1, "the first holder");
	cr_assert_eq(fstat(p->l.lane_fd, &st), 0);
	cr_assert_eq((uint64_t)st.st_size, p->l.lane_bytes);
	cr_assert_eq((uint64_t)st.st_blocks * 512, p->l.lane_bytes,
	    "all its memory is there");
	/* The geometry is the reply's, and the lane's, and that of the pool. */
	cr_assert_arr_eq(&p->l.lane.geometry, &g, sizeof(g));
	cr_assert_arr_eq((uint8_t *)p->l.lane.header + 64, &g, sizeof(g));
	cr_assert_eq(u32_at(p, 64), g.grants_at);
	cr_assert_eq(u32_at(p, 68), 512, "twice the slots");
	cr_assert_eq(u32_at(p, 320), 1, "the daemon sleeps");
	cr_assert_eq(u64_at(p, 192), 0);
	/* The reply to the first ALLOC leaves some in the ring. */
	ref = one(p);
	cr_assert_gt(u64_at(p, 192), 0);
	cr_assert_eq(u64_at(p, 384), 0);
	cr_assert_neq(u64_at(p, g.grants_at), 0);
	sent = give(p, ref);
	cr_assert_eq(sent, ref + (UINT64_C(1) << 25));
	cr_assert_eq(
	    p->l.claims[ref & 0xffffff], (sent & ~UINT64_C(0xffffff)) | 1);
	cr_assert_eq(u64_at(p, g.records_at),
	    (ref & 0xffffff) | UINT64_C(2) << 25 | ref >> 25 << 36);
	cr_assert_eq(u64_at(p, 448), 1);
	cr_assert_eq(u64_at(p, 256), 0);
	cr_assert_eq(look().in_flight, 1);
	cr_assert_eq(u64_at(p, 256), 1);
	/* Again: it is stale now. */
	record(p, LANE_SEND, ref, 0);
	cr_assert_eq(look().rejected_total, 1);
	cr_assert_eq(u64_at(p, 520), 1);
	cr_assert_eq(u64_at(p, 640), ref);
	cr_assert_eq(u64_at(p, 1152), 1, "the second record");
}

/* Each attachment has its own, and its name goes with it. */
Test(lanes, attachments)
{
	struct party *p = &peer[0], second = {.r.fd = -1};
	unsigned names;
	uint64_t ref;

	begin(POOL(64, 1, ""), 1);
	names = server_names(&server);
	cr_assert_eq(raw_attach_lane(&p->r, "p", 0, &second.l), 0);
	cr_assert_neq(second.l.pool.number, p->at);
	cr_assert_eq(server_names(&server), names + 1);
	cr_assert_eq(u32_at(&second, 32), 2);
	ref = one(p);
	/* The slot is the attachment's, not the client's. */
	cr_assert(raw_lane_record(&second.l, LANE_FREE, ref, 0));
	cr_assert_eq(look().rejected_total, 1);
	cr_assert_eq(raw_lane_refused(&second.l), ref);
	cr_assert_eq(raw_lane_refused(&p->l), 0);
	cr_assert(holds(p, ref));
	cr_assert_eq(raw_detach(&p->r, second.l.pool.number), 0);
	cr_assert_eq(server_names(&server), names);
	raw_lane_close(&second.l);
	record(p, LANE_FREE, ref, 0);
	cr_assert_not(holds(p, ref));
}

Test(lanes, read_only)
{
	struct party *a = &peer[0], *b = &peer[1];
	uint64_t ref, sent, shared, n;

	begin(POOL(64, 1, ""), 1);
	join_as(b, WIRE_ATTACH_RDONLY);
	peers = 2;
	ref = give(a, one(a));
	cr_assert_eq(raw_lane_share(&a->l, one(a), 1, &shared), 0);
	cr_assert_eq(raw_lane_receive(&b->l, ref), 0);
	cr_assert_eq(raw_lane_receive(&b->l, shared), 0);
	cr_assert(holds(b, ref));
	cr_assert(holds(b, shared));
	cr_assert_eq(raw_alloc(&b->r, b->at, 1, &n), -EACCES);
	cr_assert_eq(raw_lane_take(&b->l, &n, 1), 0);
	cr_assert_eq(b->l.lane.header->magazine_limit, 0);
	/* No library does that; it is refused, and counted. */
	cr_assert_eq(raw_lane_send(&b->l, ref, &sent), 0);
	cr_assert_eq(look().rejected_total, 1);
	cr_assert_eq(raw_lane_refused(&b->l), ref);
	record(b, LANE_SHARE, ref, 2);
	cr_assert_eq(look().rejected_total, 2);
	cr_assert_eq(raw_lane_refused(&b->l), ref);
	cr_assert(holds(b, ref));
	record(b, LANE_FREE, ref, 0);
	record(b, LANE_FREE, shared, 0);
	record(a, LANE_FREE, shared, 0);
	cr_assert_eq(look().in_flight, 0);
	cr_assert_not(holds(b, ref));
	cr_assert_not(holds(b, shared));
}

/* Where there is no memory for a lane everything goes by messages. */
Test(lanes, declined)
{
	static struct raw_lane l[64];
	struct raw r;
	unsigned n = 0;
	uint64_t ref;
	int err;

	cr_assert_eq(server_prepare(&server), 0);
	server.shm_size = "1m";
	cr_assert_eq(server_configure(&server, POOL(64, 1, "")), 0);
	err = server_start(&server);
	if (err == -ECHILD && server_wait(&server) == SERVER_NO_SHM)
		cr_skip_test("no mount of our own");
	cr_assert_eq(err, 0);
	login(&watcher, "watcher");
	login(&r, "client");
	do
		cr_assert_eq(raw_attach_lane(&r, "p", 0, &l[n]), 0);
	while (l[n].lane.header != NULL && ++n < 64);
	cr_assert_gt(n, 0);
	cr_assert_lt(n, 64, "the memory never ends");
	cr_assert_eq(l[n].pool.features, 0);
	cr_assert_eq(raw_alloc(&r, l[n].pool.number, 1, &ref), 1);
	cr_assert_eq(raw_free(&r, l[n].pool.number, &ref, 1), 1);
	/* With one lane less there is room again. */
	cr_assert_eq(raw_detach(&r, l[0].pool.number), 0);
	raw_lane_close(&l[0]);
	cr_assert_eq(raw_attach_lane(&r, "p", 0, &l[0]), 0);
	cr_assert_not_null(l[0].lane.header);
	for (unsigned i = 0; i <= n; i++)
		raw_lane_close(&l[i]);
	raw_close(&r);
}

/*
 * The operations, alone and chained.
 */

Test(lanes, stock)
{
	struct party *p = &peer[0];
	uint64_t refs[64];
	struct raw_stats s;
	unsigned n, stock;

	begin(POOL(256, 1, ""), 1);
	refs[0] = one(p);
	s = look();
	cr_assert_eq(s.used, 1);
	cr_assert_gt(s.cached, 0);
	stock = s.cached;
	n = raw_lane_take(&p->l, refs + 1, 8);
	cr_assert_eq(n, 8);
	for (unsigned i = 0; i <= n; i++) {
		cr_assert(holds(p, refs[i]));
		cr_assert_eq(ref_shared(refs[i]), 0);
		for (unsigned k = 0; k < i; k++)
			cr_assert_neq(ref_slot(refs[i]), ref_slot(refs[k]));
	}
	s = look();
	cr_assert_eq(s.used, 9);
	cr_assert_eq(s.cached, stock - 8);
	for (unsigned i = 0; i <= n; i++)
		record(p, LANE_FREE, refs[i], 0);
	s = look();
	cr_assert_eq(s.used, 0);
	cr_assert_eq(s.rejected_total, 0);
}

Test(lanes, each_operation)
{
	struct party *a = &peer[0], *b = &peer[1];
	uint64_t ref, sent, shared;

	begin(POOL(64, 1, ""), 2);
	/* SEND, RECALL, SEND again, RECEIVE, FREE. */
	ref = one(a);
	sent = give(a, ref);
	cr_assert_eq(look().in_flight, 1);
	cr_assert_eq(raw_lane_recall(&a->l, sent, 1), 1);
	cr_assert(holds(a, sent));
	cr_assert_eq(raw_lane_receive(&b->l, sent), -ESTALE);
	sent = give(a, sent);
	cr_assert_eq(look().in_flight, 1);
	cr_assert_eq(raw_lane_receive(&b->l, sent), 0);
	cr_assert_eq(raw_lane_receive(&a->l, sent), -ESTALE);
	cr_assert(holds(b, sent));
	cr_assert_not(holds(a, sent));
	record(b, LANE_FREE, sent, 0);
	cr_assert_not(holds(b, sent));
	/* SHARE with three, one comes, two are recalled. */
	cr_assert_eq(raw_lane_share(&a->l, one(a), 3, &shared), 0);
	cr_assert(holds(a, shared));
	cr_assert_eq(raw_lane_receive(&b->l, shared), 0);
	cr_assert(holds(b, shared));
	cr_assert_eq(raw_flush(&a->r, a->at), 1);
	cr_assert_eq(raw_lane_recall(&a->l, shared, 9), 2);
	cr_assert_eq(raw_flush(&a->r, a->at), 0);
	record(a, LANE_FREE, shared, 0);
	cr_assert_not(holds(a, shared));
	cr_assert(holds(b, shared));
	record(b, LANE_FREE, shared, 0);
	cr_assert_not(holds(b, shared));
	cr_assert_eq(look().rejected_total, 0);
	cr_assert_eq(look().used, 0);
	cr_assert_eq(look().in_flight, 0);
}

/* A slot's whole life lies unread in one ring, and then in two. */
Test(lanes, chained)
{
	struct party *a = &peer[0], *b = &peer[1];
	uint64_t ref, shared;

	begin(POOL(64, 1, ""), 2);
	ref = one(a);
	for (int i = 0; i < 20; i++) {
		ref = give(a, ref);
		cr_assert_eq(raw_lane_receive(&a->l, ref), 0);
	}
	for (int i = 0; i < 20; i++) {
		ref = give(a, ref);
		cr_assert_eq(raw_lane_receive(&b->l, ref), 0);
		ref = give(b, ref);
		cr_assert_eq(raw_lane_receive(&a->l, ref), 0);
	}
	ref = give(a, ref);
	cr_assert_eq(raw_lane_recall(&a->l, ref, 1), 1);
	cr_assert_eq(raw_lane_share(&a->l, ref, 2, &shared), 0);
	cr_assert_eq(raw_lane_receive(&b->l, shared), 0);
	record(a, LANE_FREE, shared, 0);
	record(b, LANE_FREE, shared, 0);
	cr_assert_eq(raw_lane_recall(&a->l, shared, 1), 1);
	cr_assert_eq(look().used, 0);
	cr_assert_eq(look().rejected_total, 0);
	cr_assert_not(holds(a, shared));
}

/* What was published comes before what is asked. */
Test(lanes, messages_between)
{
	struct party *a = &peer[0], *b = &peer[1];
	uint64_t ref, sent, next;

	begin(POOL(64, 1, ""), 2);
	ref = one(a);
	record(a, LANE_FREE, ref, 0);
	cr_assert_eq(raw_free(&a->r, a->at, &ref, 1), -EALREADY);
	ref = one(a);
	sent = give(a, ref);
	cr_assert_eq(raw_recall(&a->r, a->at, sent, 0), 1);
	cr_assert_eq(raw_send(&a->r, a->at, sent, &next), 0);
	cr_assert_eq(raw_lane_receive(&b->l, next), 0);
	cr_assert_eq(raw_flush(&a->r, a->at), 0);
	cr_assert_eq(raw_share(&b->r, b->at, next, 1, &sent), 0);
	cr_assert_eq(raw_lane_receive(&a->l, sent), 0);
	cr_assert_eq(raw_free(&a->r, a->at, &sent, 1), 1);
	record(b, LANE_FREE, sent, 0);
	cr_assert_eq(look().rejected_total, 1);
	cr_assert_eq(look().used, 0);
}

/*
 * What a client asks for may build on what it published, and that on what lies
 * unread in another lane.
 */
Test(lanes, messages_behind_parked)
{
	struct party *a = &peer[0], *b = &peer[1];
	uint64_t sent[3], next;

	begin(POOL(64, 1, ""), 2);
	for (int i = 0; i < 3; i++) {
		sent[i] = give(a, one(a));
		cr_assert_eq(raw_lane_receive(&b->l, sent[i]), 0);
	}
	/* A's last one is not read yet. */
	sent[2] = give(b, sent[2]);
	cr_assert_eq(raw_lane_receive(&a->l, sent[2]), 0);
	sent[2] = give(a, sent[2]);
	cr_assert_eq(raw_lane_receive(&b->l, sent[2]), 0);
	cr_assert_eq(raw_free(&b->r, b->at, &sent[2], 1), 1);
	cr_assert_eq(raw_send(&b->r, b->at, sent[1], &next), 0);
	cr_assert_eq(raw_receive(&a->r, a->at, next), 0);
	cr_assert_eq(look().rejected_total, 0);
}

Test(lanes, without_a_lane)
{
	struct party *a = &peer[0], *b = &peer[1];
	uint64_t ref, sent, shared;
	struct raw c;
	uint32_t at;

	begin(POOL(64, 1, ""), 2);
	login(&c, "without");
	at = attach(&c, "p");
	/* Lane to message, over another lane, unread. */
	sent = give(a, one(a));
	cr_assert_eq(raw_lane_receive(&b->l, sent), 0);
	sent = give(b, sent);
	cr_assert_eq(raw_receive(&c, at, sent), 0);
	cr_assert_eq(raw_lane_receive(&b->l, sent), -ESTALE);
	/* Message to lane, and back. */
	cr_assert_eq(raw_send(&c, at, sent, &ref), 0);
	cr_assert_eq(raw_lane_receive(&a->l, ref), 0);
	cr_assert_eq(raw_receive(&c, at, ref), -ESTALE);
	cr_assert_eq(raw_lane_share(&a->l, ref, 3, &shared), 0);
	cr_assert_eq(raw_receive(&c, at, shared), 0);
	cr_assert_eq(raw_lane_receive(&b->l, shared), 0);
	record(a, LANE_FREE, shared, 0);
	record(b, LANE_FREE, shared, 0);
	cr_assert_eq(look().used, 1);
	cr_assert_eq(raw_free(&c, at, &shared, 1), 1);
	cr_assert_eq(look().used, 0);
	cr_assert_eq(look().in_flight, 1);
	cr_assert_eq(raw_recall(&a->r, a->at, shared, 0), 1);
	cr_assert_eq(look().in_flight, 0);
	cr_assert_eq(look().rejected_total, 1);
	logout(&c);
}

/*
 * Parked records.
 */

/*
 * Records are read before what they build on is there, and that comes before
 * they are judged: true, if we were fast enough for that.
 */
static bool
build_on_air(struct party *a, struct party *b)
{
	uint64_t ref = one(a), sent = after(ref, 1, false), next;
	unsigned long long refused = look().rejected_total;

	record(b, LANE_RECEIVE, sent, 0);
	next = give(b, sent);
	/* Read now: a message of its own, which is refused. */
	cr_assert_lt(raw_free(&b->r, b->at, &ref, 1), 0);
	record(a, LANE_SEND, ref, 0);
	if (look().rejected_total != refused + 1)
		return false;
	cr_assert_eq(look().in_flight, 1);
	cr_assert_eq(u64_at(b, 256), b->l.outlet.tail);
	cr_assert_eq(raw_lane_receive(&a->l, next), 0);
	cr_assert(holds(a, next));
	return true;
}

Test(lanes, parked)
{
	begin(POOL(256, 1, ""), 2);
	while (!build_on_air(&peer[0], &peer[1]))
		continue;
}

static void
chain(const unsigned *order, unsigned n, unsigned rounds)
{
	uint64_t first[8], ref[8];

	for (unsigned s = 0; s < 8; s++)
		first[s] = one(&peer[order[0]]);
	memcpy(ref, first, sizeof(ref));
	for (unsigned i = 0; i < rounds; i++)
		for (unsigned s = 0; s < 8; s++) {
			struct party *to = &peer[order[(i + 1 + s) % n]];
			struct party *from = &peer[order[(i + s) % n]];

			if (i == 0)
				from = &peer[order[0]];
			ref[s] = give(from, ref[s]);
			cr_assert_eq(raw_lane_receive(&to->l, ref[s]), 0);
		}
	for (unsigned s = 0; s < 8; s++)
		record(&peer[order[(rounds + s) % n]], LANE_FREE, ref[s], 0);
	cr_assert_eq(look().used, 0);
}

/* Lanes are read in some order; whichever, it is the wrong one for a chain. */
Test(lanes, long_chains)
{
	static const unsigned orders[][PEERS] = {{0, 1, 2, 3, 4, 5, 6, 7},
	    {7, 6, 5, 4, 3, 2, 1, 0}, {0, 7, 1, 6, 2, 5, 3, 4}};

	begin(POOL(512, 1, ""), PEERS);
	for (int i = 0; i < 3; i++)
		chain(orders[i], PEERS, 25);
	for (unsigned i = 0; i < PEERS; i++) {
		cr_assert_eq(raw_lane_refused(&peer[i].l), 0);
		cr_assert_eq(
		    u64_at(&peer[i], 256), peer[i].l.outlet.tail, "all done");
	}
	cr_assert_eq(look().rejected_total, 0);
}

/* A record of nothing delays nobody, not even what its client says next. */
Test(lanes, bogus_in_front)
{
	struct party *h = &peer[0], *b = &peer[1];
	uint64_t bogus, other, sent, next;

	begin(POOL(64, 1, ""), 2);
	other = one(h);
	bogus = after(one(h), 5, false);
	record(h, LANE_RECEIVE, bogus, 0);
	record(h, LANE_SEND, bogus, 0);
	sent = give(h, other);
	cr_assert_eq(raw_lane_receive(&b->l, sent), 0);
	cr_assert(holds(b, sent));
	next = give(b, sent);
	cr_assert_eq(raw_lane_receive(&h->l, next), 0);
	cr_assert(holds(h, next));
	cr_assert_eq(look().rejected_total, 2);
	cr_assert_eq(raw_lane_refused(&h->l), bogus);
	cr_assert_eq(raw_lane_refused(&h->l), bogus);
	cr_assert_eq(raw_lane_refused(&h->l), 0);
	cr_assert_eq(raw_lane_refused(&b->l), 0);
	cr_assert_eq(u64_at(h, 256), 4, "all its places are free again");
	cr_assert_eq(raw_ping(&h->r), 0);
}

/* What the judge must find by itself, with nobody else about. */
Test(lanes, judged_in_time)
{
	struct party *h = &peer[0];
	uint64_t bogus;
	int tries = 20000;

	begin(POOL(64, 1, ""), 1);
	bogus = after(one(h), 7, true);
	record(h, LANE_FREE, bogus, 0);
	raw_lane_bell(&h->l);
	while ((bogus = raw_lane_refused(&h->l)) == 0 && tries-- > 0)
		poll(NULL, 0, 1);
	cr_assert_neq(bogus, 0);
	cr_assert_eq(look().rejected_total, 1);
}

/* A whole ring of records ahead, and then it can be used again. */
Test(lanes, ring_full_of_bogus)
{
	struct party *h = &peer[0];
	uint64_t ref, bogus;
	uint32_t n;

	begin(POOL(64, 1, ""), 1);
	n = h->l.lane.geometry.records;
	ref = one(h);
	for (uint32_t i = 0; i < n; i++)
		record(h, LANE_SEND, after(ref, 1 + i % 50, false), 0);
	cr_assert_not(raw_lane_record(&h->l, LANE_FREE, ref, 0));
	cr_assert_eq(look_twice().rejected_total, n);
	for (uint32_t i = n - LANE_REFUSED; i < n; i++) {
		h->l.refused = i;
		bogus = raw_lane_refused(&h->l);
		cr_assert_eq(ref_slot(bogus), ref_slot(ref));
		cr_assert_gt(ref_version(bogus), ref_version(ref));
	}
	record(h, LANE_FREE, ref, 0);
	cr_assert_not(holds(h, ref));
	goes_on(h, h);
}

/*
 * Refusals and breaches.
 */

Test(lanes, refusals)
{
	struct party *a = &peer[0], *b = &peer[1];
	uint64_t mine, stale, sent, shared, ref;
	unsigned n = 0;

	begin(POOL(64, 1, ""), 2);
	mine = one(a);
	stale = one(a);
	sent = give(a, stale);
	cr_assert_eq(raw_lane_share(&a->l, one(a), 1, &shared), 0);
	look();
	struct {
		struct party *who;
		enum lane_operation what;
		uint64_t ref;
		unsigned count;
	} wrong[] = {
	    {a, LANE_FREE, stale, 0},
	    {a, LANE_SEND, stale, 0},
	    {a, LANE_SHARE, stale, 2},
	    {a, LANE_FREE, sent, 0},
	    {a, LANE_RECALL, mine, 1},
	    {a, LANE_RECALL, stale, 1},
	    {b, LANE_RECEIVE, mine, 0},
	    {b, LANE_FREE, mine, 0},
	    {b, LANE_SEND, mine, 0},
	    {b, LANE_RECALL, sent, 1},
	    {b, LANE_FREE, shared, 0},
	    {b, LANE_RECALL, shared, 1},
	    {b, LANE_RECEIVE, after(sent, 0, true), 0},
	    {b, LANE_RECEIVE, after(shared, 0, false), 0},
	    {b, LANE_RECEIVE, after(sent, 1, false), 0},
	    {b, LANE_FREE, after(mine, 3, false), 0},
	    {b, LANE_RECEIVE, after(mine, (1u << 27) - 1, true), 0},
	    {b, LANE_FREE, ref_make(63, false, 1), 0},
	};
	for (size_t i = 0; i < sizeof(wrong) / sizeof(*wrong); i++) {
		record(
		    wrong[i].who, wrong[i].what, wrong[i].ref, wrong[i].count);
		cr_assert_eq(look_twice().rejected_total, ++n, "number %zu", i);
		ref = raw_lane_refused(&wrong[i].who->l);
		/* Of a slot never granted only the low bits can be known. */
		if (ref_slot(ref) != 63)
			cr_assert_eq(ref, wrong[i].ref, "number %zu", i);
		cr_assert_eq(ref_slot(ref), ref_slot(wrong[i].ref));
		cr_assert_eq(raw_lane_refused(&wrong[i].who->l), 0);
		cr_assert(holds(a, mine));
		cr_assert(holds(a, shared));
		cr_assert_eq(look().in_flight, 1);
	}
	/* Double: the first counts. */
	record(a, LANE_FREE, mine, 0);
	record(a, LANE_FREE, mine, 0);
	cr_assert_eq(look().rejected_total, n + 1);
	cr_assert_eq(raw_lane_refused(&a->l), mine);
	cr_assert_eq(raw_lane_receive(&b->l, sent), 0);
	cr_assert(holds(b, sent));
	cr_assert_eq(raw_ping(&a->r), 0);
}

/* Its last record came too late, for a slot that it holds by the same ref. */
static void
is_late(struct party *p, uint64_t ref)
{
	uint64_t notice = p->l.lane.header->notice;
	uint64_t tail = u64_at(p, 520), place = 8 * (tail % LANE_REFUSED);

	record(p, LANE_RECEIVE, ref, 0);
	cr_assert(holds(p, ref));
	cr_assert_eq(u64_at(p, 520), tail + 1);
	cr_assert_eq(u64_at(p, 640 + place), 0, "it has lost nothing");
	cr_assert_eq(u64_at(p, 1152 + place), u64_at(p, 448) - 1);
	cr_assert_eq(p->l.lane.header->notice, notice, "nobody need look");
}

/* Two threads of one client: HELD alone would say that both were in time. */
Test(lanes, late_receipts)
{
	struct party *a = &peer[0], *b = &peer[1];
	uint64_t sent, shared;

	begin(POOL(64, 1, ""), 2);
	cr_assert_eq(raw_lane_share(&a->l, one(a), 2, &shared), 0);
	cr_assert_eq(raw_lane_receive(&b->l, shared), 0);
	cr_assert_eq(claim_take(b->l.claims, shared, 1), 1);
	cr_assert_eq(raw_recall(&a->r, a->at, shared, 0), 1);
	is_late(b, shared);
	sent = give(a, one(a));
	cr_assert_eq(claim_take(a->l.claims, sent, 1), 1);
	cr_assert_eq(raw_recall(&a->r, a->at, sent, 0), 1);
	is_late(a, sent);
	record(a, LANE_FREE, sent, 0);
	record(a, LANE_FREE, shared, 0);
	cr_assert_eq(look().used, 1);
	record(b, LANE_FREE, shared, 0);
	cr_assert_eq(look().used, 0);
	cr_assert_eq(look().rejected_total, 2);
}

/* Between two notices more is refused than can be told. */
Test(lanes, refusals_beyond_room)
{
	struct party *a = &peer[0];
	uint64_t ref, tail, notice;

	begin(POOL(64, 1, ""), 1);
	ref = one(a);
	notice = a->l.lane.header->notice;
	for (int i = 0; i < 100; i++)
		record(a, LANE_RECALL, ref, 1);
	cr_assert_eq(look().rejected_total, 100);
	tail = u64_at(a, 520);
	cr_assert_eq(tail, 100);
	for (unsigned i = 0; i < LANE_REFUSED; i++)
		cr_assert_eq(raw_lane_refused(&a->l), ref);
	cr_assert_neq(a->l.lane.header->notice, notice, "it is told");
	cr_assert_eq(a->l.lane.header->revoked, a->l.lane.header->notice);
}

static void
end_short(struct party *p, uint64_t arg)
{
	/* There is something to be read beyond. */
	if (arg > 0)
		raw_lane_record(&p->l, LANE_FREE, 0, 0);
	if (ftruncate(p->l.lane_fd, (off_t)arg) != 0)
		abort();
}

static void
end_tail(struct party *p, uint64_t arg)
{
	p->l.lane.header->record_tail += arg;
}

static void
end_head(struct party *p, uint64_t arg)
{
	p->l.lane.header->grant_head += arg;
}

static void
end_record(struct party *p, uint64_t arg)
{
	raw_lane_put(&p->l, &arg, 1);
}

/* A record of slot `slot`. */
#define RECORD(operation, kind, slot, count)                        \
	((uint64_t)(slot) | (uint64_t)(kind) << 24 |                \
	    (uint64_t)(operation) << 25 | (uint64_t)(count) << 28 | \
	    UINT64_C(77) << 36)

static const struct breach {
	const char *name;
	void (*commit)(struct party *, uint64_t arg);
	uint64_t arg;
} breaches[] = {
    {"tail - 1", end_tail, UINT64_MAX},
    {"tail + size + 1", end_tail, LANE_RING_MIN * 2 + 1},
    {"tail + 2^31", end_tail, UINT64_C(1) << 31},
    {"tail + 2^32 - 1", end_tail, UINT32_MAX},
    {"tail + 2^32", end_tail, UINT64_C(1) << 32},
    {"tail + 2^63", end_tail, UINT64_C(1) << 63},
    {"head + size", end_head, LANE_RING_MIN * 2},
    {"head + 2^32", end_head, UINT64_C(1) << 32},
    {"head + 2^63", end_head, UINT64_C(1) << 63},
    {"head - 1", end_head, UINT64_MAX},
    {"operation 0", end_record, RECORD(0, 0, 1, 0)},
    {"operation 6", end_record, RECORD(6, 0, 1, 0)},
    {"operation 7", end_record, RECORD(7, 0, 1, 0)},
    {"all zero", end_record, 0},
    {"all one", end_record, UINT64_MAX},
    {"no such slot", end_record, RECORD(LANE_FREE, 0, 64, 0)},
    {"far from any slot", end_record, RECORD(LANE_FREE, 0, 0xffffff, 0)},
    {"FREE with a count", end_record, RECORD(LANE_FREE, 0, 1, 1)},
    {"SEND with a count", end_record, RECORD(LANE_SEND, 0, 1, 1)},
    {"SEND, shared", end_record, RECORD(LANE_SEND, 1, 1, 0)},
    {"SHARE with none", end_record, RECORD(LANE_SHARE, 0, 1, 0)},
    {"SHARE, shared", end_record, RECORD(LANE_SHARE, 1, 1, 2)},
    {"RECEIVE with a count", end_record, RECORD(LANE_RECEIVE, 0, 1, 1)},
    {"RECALL with none", end_record, RECORD(LANE_RECALL, 0, 1, 0)},
    {"lane of 0 bytes", end_short, 0},
    {"lane of a page", end_short, LANE_PAGE},
    {"lane of two", end_short, 2 * LANE_PAGE},
};

/* A client of its own process, which is gone afterwards with all it held. */
static int
commit(int control, void *arg)
{
	(void)control;
	const struct breach *b = arg;
	struct party p = {0};
	uint64_t ref, taken;
	int err = raw_open(&p.r, server.socket, "breach");

	if (err == 0)
		err = raw_attach_lane(&p.r, "p", 0, &p.l);
	if (err != 0 || raw_alloc(&p.r, p.l.pool.number, 1, &ref) != 1)
		return 1;
	/* Somewhat on the way along both rings, as the daemon knows. */
	raw_lane_take(&p.l, &taken, 1);
	raw_lane_record(&p.l, LANE_FREE, ref, 0);
	if (raw_alloc(&p.r, p.l.pool.number, 1, &ref) != 1 ||
	    raw_flush(&p.r, p.l.pool.number) != 0)
		return 2;
	b->commit(&p, b->arg);
	raw_lane_bell(&p.l);
	while ((err = raw_ping(&p.r)) == 0)
		continue;
	return err == -ENOTCONN || err == -ECONNRESET ? 0 : 3;
}

Test(lanes, breaches)
{
	struct party *a = &peer[0], *b = &peer[1];
	uint64_t kept;
	int control;
	pid_t pid;

	begin(POOL(64, 1, ""), 2);
	kept = one(a);
	for (size_t i = 0; i < sizeof(breaches) / sizeof(*breaches); i++) {
		struct raw_stats s;

		pid = spawn(commit, (void *)(uintptr_t)&breaches[i], &control);
		cr_assert_eq(reap(pid), 0, "%s", breaches[i].name);
		close(control);
		STATS_UNTIL(&watcher, "p", s, s.clients == 2);
		cr_assert_eq(s.quarantined, 0);
		cr_assert_eq(s.used, 1, "%s", breaches[i].name);
		cr_assert(holds(a, kept));
		goes_on(a, b);
		cr_assert_eq(raw_audit(&watcher), 0, "%s", breaches[i].name);
	}
	cr_assert_eq(look().rejected_total, 0);
}

/*
 * Claims.
 */

Test(lanes, claims_cut_off)
{
	struct party *a = &peer[0], *b = &peer[1];
	uint64_t ref, sent, mine;
	struct raw_lane late;
	struct raw c;
	uint32_t at;

	begin(POOL(64, 1, ""), 2);
	login(&c, "without");
	at = attach(&c, "p");
	ref = one(a);
	mine = one(a);
	cr_assert_eq(ftruncate(b->l.claims_fd, 0), 0);
	/* From here on our own claims must not be touched. */
	cr_assert_eq(raw_attach_lane(&c, "p", 0, &late), 0);
	cr_assert_null(late.lane.header, "whoever comes later gets no lane");
	cr_assert_eq(raw_detach(&c, late.pool.number), 0);
	raw_lane_close(&late);
	cr_assert_eq(raw_send(&c, at, alloc_one(&c, at), &sent), 0);
	cr_assert_eq(raw_receive(&a->r, a->at, sent), -ESTALE);
	cr_assert_eq(raw_recall(&c, at, sent, 0), 1);
	cr_assert_eq(raw_free(&c, at, &sent, 1), 1);
	record(a, LANE_SEND, ref, 0);
	cr_assert_eq(look().in_flight, 1);
	sent = after(ref, 1, false);
	cr_assert_eq(raw_receive(&c, at, sent), -ESTALE);
	cr_assert_eq(raw_recall(&a->r, a->at, sent, 0), 1);
	cr_assert(holds(a, sent));
	record(a, LANE_FREE, sent, 0);
	record(a, LANE_FREE, mine, 0);
	cr_assert_eq(raw_share(&b->r, b->at, one(b), 3, &sent), 0);
	cr_assert_eq(raw_recall(&b->r, b->at, sent, 0), 3);
	record(b, LANE_FREE, sent, 0);
	cr_assert_eq(look().used, 0);
	cr_assert_eq(look().in_flight, 0);
	cr_assert(server_logged(&server, "cut its claims off"));
	logout(&c);
}

/* What a hostile client may write there. */
static void
scribble(struct party *h, uint64_t *d, uint64_t ref)
{
	_Atomic uint64_t *at = &h->l.claims[ref_slot(ref)];

	switch (random_below(d, 4)) {
	case 0:
		*at = random_next(d);
		break;
	case 1:
		*at = (ref & CLAIM_NAME) | random_below(d, 4);
		break;
	case 2:
		*at = (after(ref, 1, random_below(d, 2)) & CLAIM_NAME) |
		      random_below(d, 256);
		break;
	case 3:
		*at |= CLAIM_REVOKED;
		break;
	}
}

/* Gives back whatever anybody has of these refs. */
static void
clear_up(const uint64_t *refs, unsigned n, struct raw *c, uint32_t at)
{
	for (unsigned i = 0; i < n; i++) {
		for (unsigned k = 0; k < 2; k++) {
			raw_recall(&peer[k].r, peer[k].at, refs[i], 0);
			if (holds(&peer[k], refs[i]))
				record(&peer[k], LANE_FREE, refs[i], 0);
		}
		raw_recall(c, at, refs[i], 0);
		raw_free(c, at, &refs[i], 1);
	}
}

/* Whatever is written there, the ledger is exact, and nothing is lost. */
Test(lanes, claims_forged)
{
	struct party *a = &peer[0], *b = &peer[1], *h = &peer[2], *from, *to;
	uint64_t d = 4711;
	uint64_t refs[24], out;
	struct raw c;
	uint32_t at;
	unsigned n, has;

	begin(POOL(64, 1, ""), 3);
	login(&c, "without");
	at = attach(&c, "p");
	for (int round = 0; round < 30; round++) {
		for (n = 0; n < 24; n++) {
			from = random_below(&d, 2) ? a : b;
			to = from == a ? b : a;
			refs[n] = one(from);
			if (random_below(&d, 3) == 0)
				raw_lane_share(&from->l, refs[n], 2, &out);
			else
				raw_lane_send(&from->l, refs[n], &out);
			refs[n] = out;
			if (random_below(&d, 2))
				scribble(h, &d, out);
			if (random_below(&d, 4) == 0)
				raw_receive(&c, at, out);
			if (raw_lane_receive(&to->l, out) == 0 &&
			    random_below(&d, 2))
				scribble(h, &d, out);
			if (random_below(&d, 5) == 0)
				raw_lane_recall(&from->l, out, 1);
			if (ref_shared(out) || raw_held(&c, at, out) != 1)
				continue;
			has = holds(a, out) + holds(b, out);
			cr_assert_eq(has, 0, "two have slot %u", ref_slot(out));
		}
		clear_up(refs, n, &c, at);
		cr_assert_eq(look().used, 0);
		cr_assert_eq(look().in_flight, 0);
		cr_assert_eq(raw_audit(&watcher), 0);
	}
	logout(&c);
}

/* Who recalls what was received by help of a forged claim must hear of it. */
Test(lanes, recall_of_nothing)
{
	struct party *a = &peer[0], *b = &peer[1];
	uint64_t sent;

	begin(POOL(64, 1, ""), 2);
	sent = give(a, one(a));
	cr_assert_eq(raw_lane_receive(&b->l, sent), 0);
	look();
	claim_offer(b->l.claims, sent, 1);
	cr_assert_eq(raw_lane_recall(&a->l, sent, 1), 1);
	cr_assert_eq(look().rejected_total, 1);
	cr_assert_eq(raw_lane_refused(&a->l), sent);
	cr_assert(holds(b, sent));
	cr_assert_not(holds(a, sent));
}

/*
 * Revocation: receipts that were taken, and nothing came of it.
 */

Test(lanes, revoked_by_recall)
{
	struct party *a = &peer[0], *b = &peer[1];
	uint64_t sent;

	begin(POOL(64, 1, ""), 2);
	sent = give(a, one(a));
	cr_assert_eq(claim_take(b->l.claims, sent, 1), 1);
	cr_assert_eq(raw_recall(&a->r, a->at, sent, 0), 1);
	cr_assert(holds(a, sent));
	cr_assert_not(claim_stands(b->l.claims, sent));
	record(b, LANE_RECEIVE, sent, 0);
	cr_assert_not(holds(b, sent));
	cr_assert_eq(look().rejected_total, 1);
	cr_assert_eq(raw_lane_refused(&b->l), sent);
	/* Published in time, it counts. */
	sent = give(a, sent);
	cr_assert_eq(claim_take(b->l.claims, sent, 1), 1);
	record(b, LANE_RECEIVE, sent, 0);
	cr_assert_leq(raw_recall(&a->r, a->at, sent, 0), 0);
	cr_assert(holds(b, sent));
	cr_assert_not(holds(a, sent));
}

Test(lanes, revoked_share)
{
	struct party *a = &peer[0], *b = &peer[1], *c = &peer[2];
	uint64_t shared;

	begin(POOL(64, 1, ""), 3);
	cr_assert_eq(raw_lane_share(&a->l, one(a), 4, &shared), 0);
	cr_assert_eq(raw_lane_receive(&b->l, shared), 0);
	cr_assert_eq(claim_take(c->l.claims, shared, 1), 1);
	/* One of the two that are open; then that, and the one that is lost. */
	cr_assert_eq(raw_recall(&a->r, a->at, shared, 1), 1);
	cr_assert_eq(raw_recall(&a->r, a->at, shared, 0), 2);
	cr_assert_eq(raw_lane_receive(&b->l, shared), -ESTALE);
	record(c, LANE_RECEIVE, shared, 0);
	cr_assert_not(claim_stands(c->l.claims, shared));
	cr_assert_not(holds(c, shared));
	cr_assert(holds(b, shared));
	cr_assert_eq(raw_flush(&a->r, a->at), 0);
	record(a, LANE_FREE, shared, 0);
	record(b, LANE_FREE, shared, 0);
	cr_assert_eq(look().used, 0);
	cr_assert_eq(look().rejected_total, 1);
}

/* The pool is full but for what an ended client had sent. */
Test(lanes, revoked_orphans)
{
	struct party *a = &peer[0], *b = &peer[1];
	uint64_t lost, kept, open, refs[8];
	struct raw c;
	uint32_t at;

	begin(POOL(8, 1, ""), 2);
	login(&c, "without");
	at = attach(&c, "p");
	lost = give(a, one(a));
	kept = give(a, one(a));
	open = give(a, one(a));
	cr_assert_eq(claim_take(b->l.claims, lost, 1), 1);
	cr_assert_eq(raw_detach(&a->r, a->at), 0);
	cr_assert_eq(raw_lane_receive(&b->l, kept), 0);
	cr_assert_eq(look().in_flight, 2);
	for (int i = 0; i < 7; i++)
		cr_assert_eq(raw_alloc(&c, at, 1, &refs[i]), 1);
	cr_assert_eq(raw_alloc(&c, at, 1, &refs[7]), -ENOBUFS);
	cr_assert_eq(raw_lane_receive(&b->l, open), -ESTALE);
	record(b, LANE_RECEIVE, lost, 0);
	cr_assert_not(claim_stands(b->l.claims, lost));
	cr_assert_not(holds(b, lost));
	cr_assert(holds(b, kept));
	cr_assert_eq(look().rejected_total, 1);
	logout(&c);
}

/* Where there are to be no orphans, what was sent ends with its sender. */
Test(lanes, revoked_without_orphans)
{
	struct party *a = &peer[0], *b = &peer[1];
	uint64_t sent;

	begin("\"pools\": [{\"name\": \"p\", \"slot_size\": 64, "
	      "\"slots_per_segment\": 64, \"max_segments\": 1, "
	      "\"orphan_seconds\": 0}]",
	    2);
	sent = give(a, one(a));
	cr_assert_eq(raw_detach(&a->r, a->at), 0);
	cr_assert_eq(look().in_flight, 0);
	cr_assert_eq(raw_lane_receive(&b->l, sent), -ESTALE);
	cr_assert_not(claim_stands(b->l.claims, sent));
}

/*
 * An orphan was received in time, and then somebody else made its claim look as
 * if it were still open.
 */
Test(lanes, orphan_reopened)
{
	struct party *a = &peer[0], *b = &peer[1];
	uint64_t sent;
	int tries = 20000;

	begin("\"pools\": [{\"name\": \"p\", \"slot_size\": 64, "
	      "\"slots_per_segment\": 64, \"max_segments\": 1, "
	      "\"orphan_seconds\": 1}]",
	    2);
	sent = give(a, one(a));
	cr_assert_eq(raw_detach(&a->r, a->at), 0);
	cr_assert_eq(raw_lane_receive(&b->l, sent), 0);
	claim_offer(b->l.claims, sent, 1);
	while (
	    (b->l.claims[ref_slot(sent)] & CLAIM_REVOKED) == 0 && tries-- > 0)
		poll(NULL, 0, 1);
	cr_assert(holds(b, sent));
	record(b, LANE_FREE, sent, 0);
	cr_assert_eq(look().rejected_total, 0);
}

/*
 * Scarcity.
 */

/* Grants lie in the ring of a client that does nothing, which has one slot. */
static void
hoard(struct party *p, uint64_t *held)
{
	for (int i = 0; i < 4; i++)
		held[i] = one(p);
	for (int i = 1; i < 4; i++)
		record(p, LANE_FREE, held[i], 0);
}

static unsigned
alloc_all(struct raw *r, uint32_t at)
{
	uint64_t ref;
	unsigned n = 0;
	int err;

	while ((err = raw_alloc(r, at, 1, &ref)) == 1)
		n++;
	cr_assert_eq(err, -ENOBUFS);
	return n;
}

Test(lanes, idle_hoarders)
{
	uint64_t held[PEERS][4], ref;
	struct raw c;
	uint32_t at;

	begin(POOL(512, 1, ""), PEERS);
	for (unsigned i = 0; i < PEERS; i++)
		hoard(&peer[i], held[i]);
	cr_assert_gt(look().cached, 0);
	login(&c, "without");
	at = attach(&c, "p");
	cr_assert_eq(alloc_all(&c, at), 512 - PEERS);
	for (unsigned i = 0; i < PEERS; i++) {
		cr_assert_eq(raw_lane_take(&peer[i].l, &ref, 1), 0);
		cr_assert(holds(&peer[i], held[i][0]));
	}
	cr_assert_eq(look().cached, 0);
	cr_assert_eq(look().used, 512);
	logout(&c);
}

/* The same for one who waits for all there is. */
Test(lanes, waits_for_hoarders)
{
	static uint64_t refs[256];
	uint64_t held[4][4];
	struct raw c;
	uint32_t at, tag;

	begin(POOL(256, 1, ""), 4);
	for (unsigned i = 0; i < 4; i++)
		hoard(&peer[i], held[i]);
	login(&c, "without");
	at = attach(&c, "p");
	tag = raw_post_alloc(&c, at, 252);
	cr_assert_eq(raw_wait_alloc(&c, tag, refs), 252);
	cr_assert_eq(raw_free(&c, at, refs, 252), 252);
	/* And one more, that is freed below every mark. */
	tag = raw_post_alloc(&c, at, 253);
	cr_assert_eq(raw_ping(&c), 0);
	cr_assert_eq(peer[1].l.lane.header->eager, 1);
	record(&peer[1], LANE_FREE, held[1][0], 0);
	cr_assert(raw_lane_ring(&peer[1].l));
	cr_assert_eq(raw_wait_alloc(&c, tag, refs), 253);
	logout(&c);
}

static void
into_magazine(
    struct party *p, uint32_t number, const uint64_t *refs, unsigned n)
{
	struct lane_magazine *m = lane_magazine(&p->l.lane, number);

	p->l.lane.header->magazines_used = number + 1;
	m->seen = p->l.lane.header->notice;
	cr_assert(magazine_enter(m));
	for (unsigned i = 0; i < n; i++)
		magazine_push(m, refs[i]);
	magazine_leave(m);
}

Test(lanes, magazines_taken_back)
{
	struct party *a = &peer[0];
	struct lane_header *h;
	struct lane_magazine *m;
	uint64_t refs[40], notice;
	struct raw c;
	uint32_t at;

	begin(POOL(128, 1, ""), 1);
	h = a->l.lane.header;
	for (int i = 0; i < 40; i++)
		refs[i] = one(a);
	into_magazine(a, 0, refs, 20);
	into_magazine(a, 3, refs + 20, 10);
	cr_assert_eq(look().used, 10);
	cr_assert_geq(look().cached, 30);
	/* A thread is in the middle of something with the second. */
	m = lane_magazine(&a->l.lane, 3);
	cr_assert(magazine_enter(m));
	notice = h->notice;
	login(&c, "without");
	at = attach(&c, "p");
	cr_assert_eq(alloc_all(&c, at), 128 - 20);
	cr_assert_neq(h->notice, notice);
	cr_assert_eq(h->revoked, h->notice);
	cr_assert_eq(h->notice & LANE_HUNGRY, 0);
	for (int i = 0; i < 20; i++)
		cr_assert_eq(
		    lane_magazine(&a->l.lane, 0)->refs[i], MAGAZINE_TAKEN);
	for (int i = 0; i < 10; i++) {
		cr_assert_eq(m->refs[i], refs[20 + i]);
		cr_assert(holds(a, refs[20 + i]));
		cr_assert_not(holds(a, refs[i]));
		cr_assert(holds(a, refs[30 + i]));
	}
	/* Done, it finds the notice, and keeps what it has. */
	magazine_leave(m);
	cr_assert(magazine_noticed(m, &a->l.lane));
	cr_assert_eq(magazine_take(m, 9), refs[29]);
	m->count = 9;
	record(a, LANE_FREE, refs[29], 0);
	m->seen = h->notice;
	cr_assert_eq(alloc_all(&c, at), 10);
	cr_assert_eq(look().rejected_total, 0);
	logout(&c);
}

/* Cached is what lies in rings and magazines, a full one too. */
Test(lanes, cached)
{
	struct party *a = &peer[0];
	static uint64_t refs[300];
	struct raw_stats s;
	unsigned ring;

	begin(POOL(1024, 1, ""), 1);
	cr_assert_eq(raw_alloc(&a->r, a->at, 300, refs), 300);
	ring = look().cached;
	cr_assert_eq(look().used, 300);
	into_magazine(a, 0, refs, LANE_MAGAZINE);
	into_magazine(a, 1, refs + LANE_MAGAZINE, LANE_MAGAZINE - 1);
	s = look();
	cr_assert_eq(s.cached, ring + 2 * LANE_MAGAZINE - 1);
	cr_assert_eq(s.used, 300 - 2 * LANE_MAGAZINE + 1);
	lane_magazine(&a->l.lane, 0)->allocs = 70;
	lane_magazine(&a->l.lane, 1)->frees = 7;
	a->l.lane.header->allocs = 5;
	a->l.lane.header->frees = 3;
	cr_assert_eq(look().allocs_total, s.allocs_total + 75);
	cr_assert_eq(look().frees_total, s.frees_total + 10);
	/* What it did last counts after its end as well. */
	a->l.lane.header->allocs = 6;
	cr_assert_eq(raw_detach(&a->r, a->at), 0);
	cr_assert_eq(look().allocs_total, s.allocs_total + 76);
}

/* Who lies about what it has cached makes nothing but itself look better. */
Test(lanes, lying_counts)
{
	static const uint32_t lies[] = {
	    100, UINT32_MAX, LANE_MAGAZINE + 1, LANE_MAGAZINE, 1u << 31};
	struct party *a = &peer[0], *b = &peer[1];
	uint64_t shared;
	struct raw_stats s;

	begin(POOL(64, 1, ""), 2);
	cr_assert_eq(raw_lane_share(&a->l, one(a), 1, &shared), 0);
	cr_assert_eq(raw_lane_receive(&b->l, shared), 0);
	cr_assert_eq(raw_call(&watcher, WIRE_AUDIT, 0, 0, NULL, 0, NULL), 0);
	for (size_t i = 0; i < sizeof(lies) / sizeof(*lies); i++)
		for (unsigned k = 0; k < 2; k++) {
			struct lane_header *h = peer[k].l.lane.header;

			h->magazines_used = UINT32_MAX;
			for (uint32_t m = 0; m < LANE_MAGAZINES; m++) {
				lane_magazine(&peer[k].l.lane, m)->count =
				    lies[i];
				lane_magazine(&peer[k].l.lane, m)->allocs =
				    UINT64_MAX - m;
			}
			h->allocs = UINT64_MAX;
			s = look();
			cr_assert_leq(s.cached + s.free + s.used, s.slots);
		}
	/* Nor does the daemon take what is not there. */
	cr_assert_eq(raw_alloc(&a->r, a->at, 64, &(uint64_t[64]){0}[0]) > 0, 1);
	cr_assert(holds(a, shared));
	cr_assert(holds(b, shared));
}

/* A grant that is used without being taken from the ring is used. */
/* What a ring says while no daemon lives is nothing: the copy is what counts. */
Test(lanes, grants_shown_again)
{
	struct party *a = &peer[0];
	uint64_t head, tail, mask, refs[64];
	_Atomic uint64_t *ring;

	begin(POOL(64, 1, ""), 1);
	one(a);
	ring = a->l.lane.grants;
	mask = a->l.lane.geometry.grants - 1;
	head = load_acquire(&a->l.lane.header->grant_head);
	tail = load_acquire(&a->l.lane.header->grant_tail);
	cr_assert_gt(tail, head);
	cr_assert_eq(server_kill(&server), 0);
	for (uint64_t i = head; i != tail; i++) {
		refs[i - head] = load_relaxed(&ring[i & mask]);
		store_relaxed(&ring[i & mask], 0);
	}
	store_relaxed(&a->l.lane.header->grant_tail, head);
	cr_assert_eq(server_start(&server), 0);
	cr_assert_geq(load_acquire(&a->l.lane.header->grant_tail), tail);
	for (uint64_t i = head; i != tail; i++)
		cr_assert_eq(load_relaxed(&ring[i & mask]), refs[i - head]);
}

Test(lanes, grants_not_taken)
{
	struct party *a = &peer[0];
	uint64_t refs[4], ref;
	unsigned n;

	begin(POOL(64, 1, ""), 1);
	ref = one(a);
	n = look().cached;
	cr_assert_gt(n, 4);
	for (int i = 0; i < 4; i++)
		refs[i] = a->l.lane.grants[i];
	record(a, LANE_FREE, refs[0], 0);
	give(a, refs[1]);
	record(a, LANE_FREE, refs[2], 0);
	look();
	cr_assert_eq(raw_audit(&watcher), 0);
	/* Taken back, each slot comes back once. */
	record(a, LANE_FREE, ref, 0);
	cr_assert_eq(alloc_all(&a->r, a->at), 63);
	cr_assert_eq(look().in_flight, 1);
	cr_assert_eq(look().rejected_total, 0);
}

Test(lanes, quota)
{
	struct party *a = &peer[0];
	uint64_t refs[20];
	uint32_t tag;

	begin(POOL(64, 1, ", \"quota\": 20"), 1);
	refs[0] = one(a);
	cr_assert_leq(look().cached, 19);
	/* One's own stock is no reason to be refused. */
	tag = raw_post_alloc(&a->r, a->at, 19);
	cr_assert_eq(raw_wait_alloc(&a->r, tag, refs + 1), 19);
	cr_assert_eq(raw_alloc(&a->r, a->at, 1, refs), -EDQUOT);
	cr_assert_eq(look().cached, 0);
	record(a, LANE_FREE, refs[7], 0);
	cr_assert_eq(raw_alloc(&a->r, a->at, 9, refs), 1);
}

/* Another client of the same user has it all in its ring. */
Test(lanes, quota_of_a_user)
{
	struct party *a = &peer[0], *b = &peer[1];
	uint64_t held[4], refs[20];
	uint32_t tag;

	begin(POOL(256, 1, ", \"uid_quota\": 24"), 2);
	hoard(a, held);
	tag = raw_post_alloc(&b->r, b->at, 20);
	cr_assert_eq(raw_wait_alloc(&b->r, tag, refs), 20);
	cr_assert_eq(raw_alloc(&b->r, b->at, 20, refs), 3);
	cr_assert_eq(raw_alloc(&b->r, b->at, 1, refs), -EDQUOT);
	cr_assert(holds(a, held[0]));
}

/* Nobody's stock takes what is reserved for others. */
Test(lanes, reserve)
{
	uint64_t refs[48];

	begin(POOL(64, 1, ", \"reserve\": 16"), 3);
	cr_assert_eq(raw_alloc(&peer[0].r, peer[0].at, 48, refs), 32);
	cr_assert_eq(look().cached, 0);
	cr_assert_eq(raw_alloc(&peer[0].r, peer[0].at, 1, refs), -ENOBUFS);
	cr_assert_gt(raw_alloc(&peer[1].r, peer[1].at, 1, refs), 0);
	cr_assert_eq(look().cached <= 15, true);
	cr_assert_eq(raw_alloc(&peer[2].r, peer[2].at, 16, refs), 16);
	cr_assert_eq(alloc_all(&peer[1].r, peer[1].at), 15);
}

#define WAITERS 100

/* One slot goes from hand to hand, through lanes and messages by turns. */
Test(lanes, turns)
{
	static struct party w[WAITERS];
	static uint32_t tags[WAITERS];
	uint64_t ref;
	struct raw_pool q;

	begin(POOL(1, 1, ""), 1);
	ref = one(&peer[0]);
	for (int i = 0; i < WAITERS; i++) {
		login(&w[i].r, "waiter");
		if (i % 3 == 0) {
			cr_assert_eq(raw_attach(&w[i].r, "p", 0, &q), 0);
			close(q.fd);
			w[i].at = q.number;
			w[i].l.lane_fd = w[i].l.claims_fd = -1;
			w[i].l.doorbell = w[i].l.pool.fd = -1;
		} else {
			cr_assert_eq(
			    raw_attach_lane(&w[i].r, "p", 0, &w[i].l), 0);
			w[i].at = w[i].l.pool.number;
		}
		tags[i] = raw_post_alloc(&w[i].r, w[i].at, 1);
		cr_assert_eq(raw_ping(&w[i].r), 0);
	}
	record(&peer[0], LANE_FREE, ref, 0);
	cr_assert(raw_lane_ring(&peer[0].l));
	for (int i = 0; i < WAITERS; i++) {
		cr_assert_eq(raw_wait_alloc(&w[i].r, tags[i], &ref), 1);
		cr_assert_eq(stats_of(&watcher, "p").waiters,
		    (unsigned)(WAITERS - 1 - i));
		if (w[i].l.lane.header == NULL) {
			cr_assert_eq(raw_free(&w[i].r, w[i].at, &ref, 1), 1);
			continue;
		}
		record(&w[i], LANE_FREE, ref, 0);
		cr_assert(raw_lane_ring(&w[i].l) || i == WAITERS - 1, "%d", i);
	}
	cr_assert_eq(look().free, 1);
	for (int i = 0; i < WAITERS; i++)
		leave(&w[i]);
}

Test(lanes, hungry_and_eager)
{
	struct party *a = &peer[0], *b = &peer[1];
	struct lane_header *h;
	struct raw_message m;
	uint64_t refs[8], sent, first;
	uint32_t tag;

	begin(POOL(8, 1, ""), 2);
	h = a->l.lane.header;
	cr_assert_eq(h->eager, 0);
	cr_assert_eq(h->notice & LANE_HUNGRY, 0);
	for (int i = 0; i < 8; i++)
		refs[i] = one(a);
	/* Nobody waits: nothing needs to be said. */
	record(a, LANE_FREE, refs[0], 0);
	cr_assert_not(raw_lane_ring(&a->l));
	first = h->notice;
	tag = raw_post_alloc(&b->r, b->at, 2);
	cr_assert_eq(raw_ping(&b->r), 0);
	cr_assert_eq(h->eager, 1);
	cr_assert_eq(h->notice & LANE_HUNGRY, LANE_HUNGRY);
	cr_assert_eq(h->revoked, h->notice);
	cr_assert_neq(h->notice & ~(uint64_t)LANE_HUNGRY, first);
	record(a, LANE_FREE, refs[1], 0);
	cr_assert(raw_lane_ring(&a->l));
	cr_assert_eq(raw_wait_alloc(&b->r, tag, refs), 2);
	cr_assert_eq(raw_ping(&b->r), 0);
	cr_assert_eq(h->eager, 0);
	cr_assert_eq(h->notice & LANE_HUNGRY, 0);
	cr_assert_eq(h->revoked, h->notice);
	/* The same for one who cancels, and one who goes. */
	tag = raw_post_alloc(&b->r, b->at, 2);
	cr_assert_eq(raw_cancel(&b->r, b->at, tag), 0);
	cr_assert_eq(raw_wait(&b->r, tag, NULL), -ECANCELED);
	cr_assert_eq(raw_ping(&b->r), 0);
	cr_assert_eq(h->eager, 0);
	/* A flush ends with a record; that was worth a ring as well. */
	sent = give(a, refs[2]);
	tag = raw_post(&a->r, WIRE_FLUSH, WIRE_WAIT, a->at, NULL, 0);
	cr_assert_eq(raw_ping(&a->r), 0);
	cr_assert_eq(b->l.lane.header->eager, 1);
	cr_assert_eq(h->notice & LANE_HUNGRY, 0);
	cr_assert_eq(raw_lane_receive(&b->l, sent), 0);
	cr_assert(raw_lane_ring(&b->l));
	cr_assert_eq(raw_wait(&a->r, tag, &m), 0);
	cr_assert_eq(raw_ping(&a->r), 0);
	cr_assert_eq(b->l.lane.header->eager, 0);
}

/*
 * The doorbell.
 */

/* Full rings below the mark are read at the mark, not before. */
Test(lanes, watermark)
{
	struct party *a = &peer[0];
	static uint64_t refs[600];
	uint32_t mark;
	unsigned i;

	begin(POOL(1024, 1, ""), 1);
	cr_assert_eq(raw_alloc(&a->r, a->at, 600, refs), 600);
	mark = a->l.lane.header->watermark;
	cr_assert_gt(mark, 1);
	cr_assert_lt(mark, 600);
	for (i = 0; i + 1 < mark; i++) {
		record(a, LANE_FREE, refs[i], 0);
		cr_assert_not(raw_lane_ring(&a->l));
	}
	record(a, LANE_FREE, refs[i], 0);
	cr_assert(raw_lane_ring(&a->l));
	while (load_acquire(&a->l.lane.header->record_head) < mark)
		poll(NULL, 0, 1);
	cr_assert_eq(look().rejected_total, 0);
}

static long
wakeups(void)
{
	char path[64], line[256];
	long n = -1;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/status", (int)server.pid);
	f = fopen(path, "re");
	while (f != NULL && fgets(line, sizeof(line), f))
		sscanf(line, "voluntary_ctxt_switches: %ld", &n);
	if (f != NULL)
		fclose(f);
	return n;
}

Test(lanes, idle)
{
	struct party *a = &peer[0], *b = &peer[1];
	uint64_t refs[4];
	long before;

	begin(POOL(64, 1, ""), 2);
	hoard(a, refs);
	goes_on(a, b);
	record(a, LANE_FREE, after(refs[0], 4, false), 0);
	cr_assert_eq(look_twice().rejected_total, 1);
	give(a, refs[0]);
	raw_lane_bell(&a->l);
	/* Whatever follows at once has followed. */
	poll(NULL, 0, 50);
	before = wakeups();
	cr_assert_geq(before, 0);
	poll(NULL, 0, 200);
	cr_assert_eq(wakeups(), before);
}

/* Milliseconds of processor time the daemon has used. */
static long
worked_ms(void)
{
	struct timespec used;
	clockid_t clock;

	cr_assert_eq(clock_getcpuclockid(server.pid, &clock), 0);
	cr_assert_eq(clock_gettime(clock, &used), 0);
	return used.tv_sec * 1000 + used.tv_nsec / 1000000;
}

/* Who rings for grants that he may not have gets none, and that was it. */
Test(lanes, idle_at_the_quota)
{
	struct party *a = &peer[0];
	uint64_t refs[64];
	unsigned n;
	long before;

	begin(POOL(64, 1, ", \"quota\": 20"), 1);
	one(a);
	n = raw_lane_take(&a->l, refs, 17);
	cr_assert_gt(n, 8);
	raw_lane_bell(&a->l);
	/* Whatever follows at once has followed. */
	poll(NULL, 0, 50);
	before = worked_ms();
	poll(NULL, 0, 300);
	cr_assert_lt(worked_ms() - before, 100);
}

/* To attach again and again costs no memory, descriptors kept or not. */
Test(lanes, kept_descriptors)
{
	struct raw_lane kept[8];
	struct stat st;
	struct raw c;

	begin(POOL(64, 1, ""), 0);
	login(&c, "keeper");
	for (int i = 0; i < 8; i++) {
		cr_assert_eq(raw_attach_lane(&c, "p", 0, &kept[i]), 0);
		cr_assert_eq(fstat(kept[i].lane_fd, &st), 0);
		cr_assert_gt(st.st_blocks, 0);
		cr_assert_eq(raw_detach(&c, kept[i].pool.number), 0);
		cr_assert_eq(fstat(kept[i].lane_fd, &st), 0);
		cr_assert_eq(st.st_blocks, 0);
		/* Whoever looks there still does not die of it. */
		cr_assert_eq(load_relaxed(&kept[i].lane.header->notice), 0);
		raw_lane_close(&kept[i]);
	}
}

struct flood {
	bool bells;   /* and nothing else */
	bool records; /* that are none of its business */
};

/* A version near the one a slot has now: in its claim, if it was ever sent. */
static uint64_t
guess(struct party *p, uint64_t *d)
{
	uint32_t slot = (uint32_t)random_below(d, 64);
	uint64_t claim = load_relaxed(&p->l.claims[slot]);

	return ref_make(slot, random_below(d, 2),
	    (ref_version(claim) + random_below(d, 5) - 2) & REF_VERSION_MASK);
}

/* Well-formed, and never true for one who has nothing. */
static uint64_t
lie(struct party *p, uint64_t *d)
{
	static const enum lane_operation what[] = {LANE_FREE, LANE_FREE,
	    LANE_SEND, LANE_SHARE, LANE_RECALL, LANE_RECEIVE};
	enum lane_operation o = what[random_below(d, 6)];
	uint64_t ref = guess(p, d);

	if (o == LANE_SEND || o == LANE_SHARE)
		ref = after(ref, 0, false);
	/* What is in flight is anybody's who knows its ref. */
	if (o == LANE_RECEIVE)
		ref = after(ref, 1u << 20, ref_shared(ref));
	return record_make(o, ref, o == LANE_SHARE || o == LANE_RECALL);
}

static int
flood(int control, void *arg)
{
	const struct flood *f = arg;
	uint64_t d = (uint64_t)getpid();
	struct party p = {0};
	int err = raw_open(&p.r, server.socket, "flood");
	uint64_t said;

	if (err == 0)
		err = raw_attach_lane(&p.r, "p", 0, &p.l);
	if (err != 0 || tell(control, "", 1) != 0)
		return 1;
	for (;;) {
		if (f->records) {
			said = lie(&p, &d);
			raw_lane_put(&p.l, &said, 1);
		}
		if (f->bells || p.l.outlet.tail % 32 == 0)
			raw_lane_bell(&p.l);
	}
}

static pid_t
start_flood(const struct flood *f, int *control)
{
	pid_t pid = spawn(flood, (void *)(uintptr_t)f, control);
	char ready;

	cr_assert_gt(pid, 0);
	cr_assert_eq(hear(*control, &ready, 1), 0);
	return pid;
}

static void
end_flood(pid_t pid, int control)
{
	struct raw_stats s;

	kill(pid, SIGKILL);
	cr_assert_eq(reap(pid), 128 + SIGKILL);
	close(control);
	STATS_UNTIL(&watcher, "p", s, s.clients == peers);
}

Test(lanes, doorbell_flood)
{
	static const struct flood bells = {.bells = true};
	int control;
	pid_t pid;

	begin(POOL(64, 1, ""), 2);
	pid = start_flood(&bells, &control);
	for (int i = 0; i < 100; i++)
		goes_on(&peer[0], &peer[1]);
	end_flood(pid, control);
	cr_assert_eq(look().used, 0);
}

/*
 * Honest clients hand on at full speed, over lanes that the daemon reads at all
 * times, while another lies about their slots.
 */
static void
hop(struct party *from, struct party *to, uint64_t *ref)
{
	while (raw_lane_send(&from->l, *ref, ref) != 0)
		raw_flush(&from->r, from->at);
	while (!ring_has_room(&to->l.lane, &to->l.outlet, 1))
		raw_flush(&to->r, to->at);
	cr_assert_eq(raw_lane_receive(&to->l, *ref), 0);
	raw_lane_ring(&from->l);
	raw_lane_ring(&to->l);
}

static unsigned long long
lies_refused(void)
{
	return look().rejected_total;
}

Test(lanes, hostile_flood)
{
	static const struct flood lies = {.records = true};
	uint64_t ref[4];
	int control[2];
	pid_t pid[2];

	begin(POOL(64, 1, ""), 4);
	for (int k = 0; k < 2; k++)
		pid[k] = start_flood(&lies, &control[k]);
	peers = 4;
	for (int k = 0; k < 4; k++)
		ref[k] = one(&peer[k]);
	/* In the end each is where it began. */
	for (int i = 0; i < 4000 || i % 4 != 0 || lies_refused() < 5000; i++)
		for (int k = 0; k < 4; k++) {
			hop(&peer[(k + i) % 4], &peer[(k + i + 1) % 4],
			    &ref[k]);
			if (i % 200 == 0)
				cr_assert(holds(&peer[(k + i + 1) % 4], ref[k]),
				    "hop %d %d", i, k);
		}
	for (int k = 0; k < 2; k++) {
		kill(pid[k], SIGKILL);
		reap(pid[k]);
		close(control[k]);
	}
	for (unsigned k = 0; k < 4; k++) {
		cr_assert(holds(&peer[k], ref[k]));
		cr_assert_eq(raw_lane_refused(&peer[k].l), 0);
	}
}

/*
 * Ends of attachments, pools and clients.
 */

Test(lanes, retired)
{
	static const char without[] =
	    "\"pools\": [{\"name\": \"q\", \"slot_size\": 64, "
	    "\"slots_per_segment\": 8}]";
	struct party *a = &peer[0], *b = &peer[1];
	uint64_t held[4], sent, ref;
	struct raw_message m;

	begin(POOL(64, 1, ""), 2);
	hoard(a, held);
	cr_assert_gt(look().cached, 0);
	reload(without);
	cr_assert_eq(raw_event(&a->r, WIRE_EVENT_RETIRED, &m), 0);
	cr_assert_eq(look().cached, 0);
	cr_assert_eq(a->l.lane.header->notice & LANE_HUNGRY, LANE_HUNGRY);
	cr_assert_eq(raw_lane_take(&a->l, &ref, 1), 0);
	cr_assert_eq(raw_alloc(&a->r, a->at, 1, &ref), -ESHUTDOWN);
	sent = give(a, held[0]);
	cr_assert_eq(raw_lane_receive(&b->l, sent), 0);
	cr_assert(holds(b, sent));
	record(b, LANE_FREE, sent, 0);
	cr_assert_eq(look().used, 0);
	cr_assert_eq(raw_detach(&a->r, a->at), 0);
	cr_assert_eq(raw_detach(&b->r, b->at), 0);
	cr_assert_eq(raw_ping(&b->r), 0);
	cr_assert_eq(server_names(&server), 3, "those of q");
	reload(POOL(64, 1, ""));
}

/* Slots of segments that came later go through lanes and claims as well. */
Test(lanes, grown)
{
	struct party *a = &peer[0], *b = &peer[1];
	static uint64_t refs[6000];
	struct raw_message m;
	unsigned n = 0;
	uint64_t sent;
	int got;

	begin(POOL(1000, 3, ""), 2);
	while ((got = raw_alloc(&a->r, a->at, 1000, refs + n)) > 0)
		n += (unsigned)got;
	cr_assert_eq(got, -ENOBUFS);
	cr_assert_eq(n, 3000);
	reload(POOL(1000, 5, ""));
	for (unsigned i = 0; i < 2; i++) {
		cr_assert_eq(raw_event(&peer[i].r, WIRE_EVENT_RESIZED, &m), 0);
		cr_assert_eq(raw_extend(&peer[i].r, peer[i].at, 5), 0);
	}
	while ((got = raw_alloc(&a->r, a->at, 1000, refs + n)) > 0)
		n += (unsigned)got;
	cr_assert_eq(n, 5000);
	for (unsigned i = 0; i < n; i += 499) {
		sent = give(a, refs[i]);
		cr_assert_eq(raw_lane_receive(&b->l, sent), 0);
		record(b, LANE_FREE, sent, 0);
	}
	cr_assert_eq(look().used, 5000 - 11);
	cr_assert_eq(look().rejected_total, 0);
}

/* Segments emptied by records are given back like others. */
Test(lanes, shrunk)
{
	struct party *a = &peer[0];
	uint64_t refs[64];
	struct raw_stats s;
	int got;

	begin("\"shrink_seconds\": 1, \"pools\": [{\"name\": \"p\", "
	      "\"slot_size\": 64, \"slots_per_segment\": 16, "
	      "\"max_segments\": 4}]",
	    1);
	for (unsigned n = 0; n < 64; n += (unsigned)got) {
		got = raw_alloc(&a->r, a->at, 64 - n, refs + n);
		cr_assert_gt(got, 0);
	}
	cr_assert_eq(look().segments_attached, 4);
	for (unsigned i = 0; i < 64; i++)
		record(a, LANE_FREE, refs[i], 0);
	raw_lane_bell(&a->l);
	STATS_UNTIL(&watcher, "p", s, s.segments_attached < 4);
}

static int
victim(int control, void *arg)
{
	struct party p = {0};
	uint64_t refs[16], sent[2];
	int err = raw_open(&p.r, server.socket, "victim");

	(void)arg;
	if (err == 0)
		err = raw_attach_lane(&p.r, "p", 0, &p.l);
	for (int i = 0; i < 16 && err == 0; i++)
		err = raw_alloc(&p.r, p.l.pool.number, 1, &refs[i]) != 1;
	if (err != 0)
		return 1;
	raw_lane_send(&p.l, refs[0], &sent[0]);
	raw_lane_share(&p.l, refs[1], 2, &sent[1]);
	raw_lane_record(&p.l, LANE_FREE, refs[2], 0);
	raw_lane_record(&p.l, LANE_FREE, refs[2], 0);
	into_magazine(&p, 0, refs + 3, 8);
	magazine_enter(lane_magazine(&p.l.lane, 0));
	tell(control, sent, sizeof(sent));
	for (;;)
		pause();
}

/* What it published counts, and nothing else that it had. */
Test(lanes, killed)
{
	struct party *b = &peer[0];
	struct raw_stats s;
	uint64_t sent[2];
	int control;
	pid_t pid;

	begin(POOL(64, 1, ""), 1);
	for (int i = 0; i < 20; i++) {
		pid = spawn(victim, NULL, &control);
		cr_assert_eq(hear(control, sent, sizeof(sent)), 0);
		kill(pid, SIGKILL);
		cr_assert_eq(reap(pid), 128 + SIGKILL);
		close(control);
		STATS_UNTIL(&watcher, "p", s, s.clients == 1);
		cr_assert_eq(s.in_flight, 2);
		cr_assert_eq(s.used, 0);
		for (int k = 0; k < 2; k++) {
			cr_assert_eq(raw_lane_receive(&b->l, sent[k]), 0);
			cr_assert(holds(b, sent[k]));
			record(b, LANE_FREE, sent[k], 0);
		}
		cr_assert_eq(raw_lane_receive(&b->l, sent[1]), 0);
		record(b, LANE_FREE, sent[1], 0);
		s = look();
		cr_assert_eq(s.free + s.cached, 64);
		cr_assert_eq(s.rejected_total, (unsigned)i + 1);
	}
}

/* The socket is closed, the process lives, and writes on. */
Test(lanes, quarantined)
{
	struct party *a = &peer[0], *b = &peer[1];
	uint64_t held[4], ref[3], sent;
	struct raw_stats s;
	unsigned names;

	begin(POOL(64, 1, ""), 2);
	hoard(a, held);
	cr_assert_gt(look().cached, 0);
	held[1] = one(a);
	sent = give(a, held[1]);
	/* What a thread has at hand may be in use this very moment. */
	for (int i = 0; i < 3; i++)
		ref[i] = one(a);
	into_magazine(a, 0, ref, 3);
	names = server_names(&server);
	raw_close(&a->r);
	STATS_UNTIL(&watcher, "p", s, s.quarantined > 0);
	cr_assert_eq(s.quarantined, 4);
	cr_assert_eq(s.in_flight, 1);
	cr_assert_eq(s.cached, 0);
	cr_assert_eq(server_names(&server), names - 1);
	record(a, LANE_FREE, held[0], 0);
	a->l.lane.header->record_tail = UINT64_MAX;
	a->l.lane.header->grant_head = 12345;
	raw_lane_bell(&a->l);
	cr_assert_eq(look().quarantined, 4);
	cr_assert_eq(raw_lane_receive(&b->l, sent), 0);
	cr_assert(holds(b, sent));
	goes_on(b, b);
}

/* Cuts off its lane in the middle of its work, and dies of it. */
static int
cut_off(int control, void *arg)
{
	struct party p = {0};
	uint64_t refs[32];
	unsigned n, work = *(unsigned *)arg;
	int err = raw_open(&p.r, server.socket, "cut off");

	(void)control;
	/* A sanitizer's handler would make a report of it. */
	signal(SIGBUS, SIG_DFL);
	if (err == 0)
		err = raw_attach_lane(&p.r, "p", 0, &p.l);
	if (err != 0 || raw_alloc(&p.r, p.l.pool.number, 1, refs) != 1)
		return 1;
	for (unsigned i = 0;; i++) {
		n = raw_lane_take(&p.l, refs, 1 + i % 16);
		for (unsigned k = 0; k < n; k++)
			raw_lane_record(&p.l, LANE_FREE, refs[k], 0);
		raw_lane_record(&p.l, LANE_RECEIVE, refs[0], 0);
		raw_lane_bell(&p.l);
		if (i == work &&
		    ftruncate(p.l.lane_fd, (off_t)(i % 12 * LANE_PAGE)) != 0)
			return 2;
		if (i > work + 100000)
			return 3;
	}
}

Test(lanes, cut_off_in_use)
{
	struct raw_stats s;
	int control, status;
	unsigned work;
	pid_t pid;

	begin(POOL(256, 1, ""), 2);
	for (work = 3; work < 2000; work = work * 5 / 4 + 1) {
		pid = spawn(cut_off, &work, &control);
		status = reap(pid);
		cr_assert(status == 128 + SIGBUS || status == 3, "%d", status);
		close(control);
		goes_on(&peer[0], &peer[1]);
		STATS_UNTIL(&watcher, "p", s, s.clients == 2);
		cr_assert_eq(s.used, 0);
		cr_assert_eq(s.quarantined, 0);
	}
	cr_assert_eq(raw_audit(&watcher), 0);
}

/* A lane that was cut off before anything was said by it. */
Test(lanes, cut_off_unused)
{
	struct party *a = &peer[0], *b = &peer[1];

	begin(POOL(64, 1, ""), 2);
	cr_assert_eq(ftruncate(a->l.lane_fd, 0), 0);
	raw_lane_bell(&a->l);
	look();
	has_ended(a);
	goes_on(b, b);
}

/* The connection of one who breaks the format is closed, and no other. */
Test(lanes, ended)
{
	struct party *a = &peer[0], *b = &peer[1];
	uint64_t ref, sent;

	begin(POOL(64, 1, ""), 2);
	ref = one(a);
	sent = give(a, one(a));
	a->l.lane.header->record_tail += 1000;
	raw_lane_bell(&a->l);
	has_ended(a);
	cr_assert_geq(look().quarantined, 2);
	cr_assert_not(holds(b, ref));
	/* It was never read: nobody knows of it. */
	cr_assert_eq(raw_lane_receive(&b->l, sent), 0);
	cr_assert_eq(look_twice().rejected_total, 1);
	cr_assert_eq(raw_lane_refused(&b->l), sent);
	goes_on(b, b);
}

/* A lane comes and goes while others work. */
Test(lanes, come_and_go)
{
	struct party extra;
	uint64_t ref;

	begin(POOL(256, 1, ""), 2);
	for (int i = 0; i < 100; i++) {
		join_as(&extra, 0);
		ref = give(&peer[0], one(&peer[0]));
		cr_assert_eq(raw_lane_receive(&extra.l, ref), 0);
		ref = give(&extra, ref);
		cr_assert_eq(raw_lane_receive(&peer[1].l, ref), 0);
		if (i % 2 == 0)
			cr_assert_eq(raw_detach(&extra.r, extra.at), 0);
		cr_assert_eq(raw_bye(&extra.r), 0);
		leave(&extra);
		cr_assert(holds(&peer[1], ref));
		record(&peer[1], LANE_FREE, ref, 0);
	}
	cr_assert_eq(look().used, 0);
	cr_assert_eq(look().rejected_total, 0);
	cr_assert_eq(server_names(&server), 5);
}
