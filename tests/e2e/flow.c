/*
 * Slots on their way through many processes by the library: whatever the way,
 * everyone finds what the one before wrote, and of many who want a ref exactly
 * as many get it as it was offered to.
 */
#include "config.h"

#include <stdio.h>
#include <stdlib.h>

#include "../core/random.h"
#include "e2e.h"
#include "slabd.h"

#define SLOTS 512
#define CONFIG                                               \
	"\"pools\": [{\"name\": \"p\", \"slot_size\": 256, " \
	"\"slots_per_segment\": 512, \"max_segments\": 1, "  \
	"\"orphan_seconds\": 3600}, {\"name\": \"wide\", "   \
	"\"slot_size\": 64, \"slots_per_segment\": 8192, "   \
	"\"max_segments\": 1}]"
#define NUMBERS (256 / sizeof(uint64_t))

static struct raw watcher;

static void
start(void)
{
	serve(CONFIG);
	login(&watcher, "watcher");
}

/* Whoever is gone has left nothing. */
static void
stop(void)
{
	struct raw_stats s;

	STATS_UNTIL(&watcher, "p", s, s.clients == 0);
	cr_assert_eq(s.used + s.cached + s.quarantined, 0);
	cr_assert_eq(raw_audit(&watcher), 0);
	raw_close(&watcher);
	finish();
}

TestSuite(flow, .timeout = 60, .init = start, .fini = stop);

/* In a child's function: says where, and returns 1 from it. */
#define MUST(condition)                                                \
	do {                                                           \
		if (condition)                                         \
			break;                                         \
		fprintf(stderr, "%s:%d: %s: %s\n", __FILE__, __LINE__, \
		    #condition, slabd_error_detail());                 \
		return 1;                                              \
	} while (0)

static int
enter(struct slabd **s, struct slabd_pool **p, const char *name, unsigned how)
{
	MUST(slabd_open(s, server.socket) == 0);
	MUST(slabd_pool_attach(p, *s, name, how) == 0);
	return 0;
}

/* A slot's content: which one of those under way, and for the how many'th time
 * it is handed on. */
static uint64_t
stamp(uint64_t token, uint64_t hop, size_t i)
{
	return token << 48 ^ hop << 8 ^ i;
}

static void
write_stamps(uint64_t *slot, uint64_t token, uint64_t hop)
{
	for (size_t i = 0; i < NUMBERS; i++)
		slot[i] = stamp(token, hop, i);
}

static bool
has_stamps(const uint64_t *slot, uint64_t token, uint64_t hop)
{
	for (size_t i = 0; i < NUMBERS; i++)
		if (slot[i] != stamp(token, hop, i))
			return false;
	return true;
}

/*
 * Chains.
 */

#define STATIONS 6
#define TOKENS	 24

/* What travels through the pipes; ref 0: the end. */
struct parcel {
	uint64_t ref, token, hop;
};

struct station {
	int in, out;
	unsigned how;  /* it is attached */
	uint64_t hops; /* a token lives for */
};

/* Takes the slot, and hands on the same or a fresh one. */
static int
forward(struct slabd_pool *p, struct parcel *m, const struct station *st)
{
	void *slot, *fresh;

	MUST(slabd_receive(p, m->ref, &slot) == 0);
	MUST(has_stamps(slot, m->token, m->hop));
	if (++m->hop == st->hops) {
		MUST(slabd_free(p, slot) == 0);
		m->ref = 0;
		return 0;
	}
	if (m->hop % 5 == 0) {
		fresh = slabd_alloc(p);
		MUST(fresh != NULL);
		MUST(slabd_free(p, slot) == 0);
		slot = fresh;
	}
	write_stamps(slot, m->token, m->hop);
	MUST(slabd_send(p, slot, &m->ref) == 0);
	return 0;
}

static int
serve_station(int control, void *arg)
{
	const struct station *st = arg;
	struct slabd_pool *p;
	struct slabd *s;
	struct parcel m;

	MUST(enter(&s, &p, "p", st->how) == 0);
	for (;;) {
		MUST(read(st->in, &m, sizeof(m)) == sizeof(m));
		if (m.ref == 0)
			break;
		MUST(forward(p, &m, st) == 0);
		if (m.ref == 0)
			MUST(tell(control, "", 1) == 0);
		else
			MUST(write(st->out, &m, sizeof(m)) == sizeof(m));
	}
	slabd_close(s);
	return 0;
}

/* A ring of processes, each attached as `how` says for it. */
static void
run_chain(const unsigned *how, uint64_t hops)
{
	struct station st[STATIONS];
	int ends[STATIONS][2], control[STATIONS];
	struct pollfd done[STATIONS];
	struct parcel m = {0};
	struct slabd_pool *p;
	struct slabd *s;
	pid_t pid[STATIONS];
	void *slot;
	char byte;

	for (int i = 0; i < STATIONS; i++)
		cr_assert_eq(pipe(ends[i]), 0);
	for (int i = 0; i < STATIONS; i++) {
		st[i] = (struct station){
		    ends[i][0], ends[(i + 1) % STATIONS][1], how[i], hops};
		pid[i] = spawn(serve_station, &st[i], &control[i]);
		done[i] = (struct pollfd){.fd = control[i], .events = POLLIN};
	}
	cr_assert_eq(enter(&s, &p, "p", how[0]), 0);
	for (uint64_t t = 0; t < TOKENS; t++) {
		slot = slabd_alloc(p);
		cr_assert_not_null(slot);
		m = (struct parcel){.token = t};
		write_stamps(slot, t, 0);
		cr_assert_eq(slabd_send(p, slot, &m.ref), 0);
		cr_assert_eq(write(ends[t % STATIONS][1], &m, sizeof(m)),
		    (ssize_t)sizeof(m));
	}
	for (int n = 0; n < TOKENS;) {
		cr_assert_gt(poll(done, STATIONS, 20000), 0);
		for (int i = 0; i < STATIONS; i++)
			if (done[i].revents != 0) {
				cr_assert_eq(hear(control[i], &byte, 1), 0);
				n++;
			}
	}
	m.ref = 0;
	for (int i = 0; i < STATIONS; i++)
		cr_assert_eq(
		    write(ends[i][1], &m, sizeof(m)), (ssize_t)sizeof(m));
	for (int i = 0; i < STATIONS; i++) {
		cr_assert_eq(reap(pid[i]), 0);
		close(control[i]);
		close(ends[i][0]);
		close(ends[i][1]);
	}
	slabd_close(s);
	cr_assert_eq(stats_of(&watcher, "p").rejected_total, 0);
	cr_assert_eq(stats_of(&watcher, "p").free, SLOTS);
}

Test(flow, chain)
{
	run_chain((unsigned[STATIONS]){0}, 10000);
}

Test(flow, chain_mixed)
{
	run_chain(
	    (unsigned[]){0, SLABD_NO_LANE, 0, 0, SLABD_NO_LANE, SLABD_NO_LANE},
	    600);
}

Test(flow, chain_of_messages)
{
	run_chain((unsigned[]){SLABD_NO_LANE, SLABD_NO_LANE, SLABD_NO_LANE,
		      SLABD_NO_LANE, SLABD_NO_LANE, SLABD_NO_LANE},
	    300);
}

/*
 * Races.
 */

#define RACERS 5
#define BATCH  16
#define ROUNDS 200

/* Gets refs in batches, the last of zeros, and tells which of them it got. */
static int
racer(int control, void *arg)
{
	struct slabd_pool *p;
	struct parcel m[BATCH];
	struct slabd *s;
	bool won[BATCH];
	void *slot;
	int err;

	MUST(enter(&s, &p, "p", *(unsigned *)arg) == 0);
	MUST(tell(control, won, sizeof(won)) == 0);
	while (hear(control, m, sizeof(m)) == 0 && m[0].ref != 0) {
		for (int i = 0; i < BATCH; i++) {
			err = slabd_receive(p, m[i].ref, &slot);
			MUST(err == 0 || err == -ESTALE);
			won[i] = err == 0;
			if (!won[i])
				continue;
			MUST(has_stamps(slot, m[i].token, m[i].hop));
			MUST(slabd_free(p, slot) == 0);
		}
		MUST(tell(control, won, sizeof(won)) == 0);
	}
	slabd_close(s);
	return 0;
}

static void
offer(struct slabd_pool *p, struct parcel *m, void **slot, unsigned n)
{
	*slot = slabd_alloc(p);
	cr_assert_not_null(*slot, "%s", slabd_error_detail());
	write_stamps(*slot, m->token, m->hop);
	if (n > 0)
		cr_assert_eq(slabd_share(p, *slot, n, &m->ref), 0);
	else
		cr_assert_eq(slabd_send(p, *slot, &m->ref), 0);
}

/* Everybody tries everything; `n` is 0 for what is sent. */
static void
run_races(const unsigned *how, unsigned n)
{
	int control[RACERS], wins[BATCH];
	struct parcel m[BATCH];
	struct slabd_pool *p;
	struct slabd *s;
	void *slots[BATCH];
	pid_t pid[RACERS];
	bool won[BATCH];

	for (int i = 0; i < RACERS; i++) {
		pid[i] = spawn(racer, (void *)(uintptr_t)&how[i], &control[i]);
		cr_assert_eq(hear(control[i], won, sizeof(won)), 0);
	}
	cr_assert_eq(enter(&s, &p, "p", how[RACERS]), 0);
	for (uint64_t round = 0; round < ROUNDS; round++) {
		for (uint64_t i = 0; i < BATCH; i++) {
			m[i] = (struct parcel){.token = i, .hop = round};
			offer(p, &m[i], &slots[i], n);
			wins[i] = 0;
		}
		for (int k = 0; k < RACERS; k++)
			cr_assert_eq(tell(control[k], m, sizeof(m)), 0);
		for (int k = 0; k < RACERS; k++) {
			cr_assert_eq(hear(control[k], won, sizeof(won)), 0);
			for (int i = 0; i < BATCH; i++)
				wins[i] += won[i];
		}
		for (int i = 0; i < BATCH; i++) {
			cr_assert_eq(wins[i], n > 0 ? (int)n : 1);
			if (n > 0)
				cr_assert_eq(slabd_free(p, slots[i]), 0);
		}
		cr_assert_eq(slabd_flush(p, 0), 0);
	}
	slabd_close(s);
	memset(m, 0, sizeof(m));
	for (int i = 0; i < RACERS; i++) {
		cr_assert_eq(tell(control[i], m, sizeof(m)), 0);
		cr_assert_eq(reap(pid[i]), 0);
		close(control[i]);
	}
	cr_assert_eq(stats_of(&watcher, "p").free, SLOTS);
}

static const unsigned lanes[RACERS + 1] = {0};
static const unsigned mixed[RACERS + 1] = {0, SLABD_NO_LANE, 0, SLABD_NO_LANE};

Test(flow, one_gets_what_was_sent)
{
	run_races(lanes, 0);
	cr_assert_eq(stats_of(&watcher, "p").rejected_total, 0);
}

Test(flow, one_gets_what_was_sent_mixed)
{
	run_races(mixed, 0);
}

Test(flow, as_many_as_offered)
{
	for (unsigned n = 1; n <= RACERS; n += 2)
		run_races(lanes, n);
	cr_assert_eq(stats_of(&watcher, "p").rejected_total, 0);
}

Test(flow, as_many_as_offered_mixed)
{
	run_races(mixed, 3);
}

/*
 * How many different slots a steady flow touches.
 */

#define WIDE  8192
#define STEPS 20000

static int
consumer(int control, void *arg)
{
	struct slabd_pool *p;
	struct slabd *s;
	uint64_t ref;
	void *slot;

	(void)arg;
	MUST(enter(&s, &p, "wide", 0) == 0);
	MUST(tell(control, "", 1) == 0);
	while (hear(control, &ref, sizeof(ref)) == 0) {
		MUST(slabd_receive(p, ref, &slot) == 0);
		MUST(slabd_free(p, slot) == 0);
		MUST(tell(control, "", 1) == 0);
	}
	slabd_close(s);
	return 0;
}

/* With `k` under way; of the second half of the flow. */
static unsigned
working_set(unsigned k)
{
	static bool seen[WIDE];
	unsigned out = 0, distinct = 0;
	struct slabd_pool *p;
	struct slabd *s;
	uint64_t ref;
	int control;
	pid_t pid = spawn(consumer, NULL, &control);
	void *slot;
	char byte;

	memset(seen, 0, sizeof(seen));
	cr_assert_eq(hear(control, &byte, 1), 0);
	cr_assert_eq(enter(&s, &p, "wide", 0), 0);
	for (unsigned i = 0; i < STEPS; i++) {
		if (out == k) {
			cr_assert_eq(hear(control, &byte, 1), 0);
			out--;
		}
		slot = slabd_alloc(p);
		cr_assert_not_null(slot, "%s", slabd_error_detail());
		if (i > STEPS / 2)
			seen[slabd_offset(p, slot) / 64] = true;
		cr_assert_eq(slabd_send(p, slot, &ref), 0);
		cr_assert_eq(tell(control, &ref, sizeof(ref)), 0);
		out++;
	}
	for (; out > 0; out--)
		cr_assert_eq(hear(control, &byte, 1), 0);
	close(control);
	cr_assert_eq(reap(pid), 0);
	slabd_close(s);
	for (unsigned i = 0; i < WIDE; i++)
		distinct += seen[i];
	return distinct;
}

/* Two batches, and two magazines, beyond twice what is under way. */
Test(flow, working_set)
{
	static const unsigned ks[] = {1, 8, 64};
	unsigned n;

	for (int i = 0; i < 3; i++) {
		n = working_set(ks[i]);
		fprintf(stderr, "flow: %u under way, %u slots\n", ks[i], n);
		cr_assert_leq(n, 2 * ks[i] + 256 + 2 * 128);
	}
}

/*
 * Deaths.
 */

/* Does everything there is to do, with itself and the other, until killed. */
static int
busy(int control, void *arg)
{
	uint64_t ref, dice = *(uint64_t *)arg;
	struct slabd_pool *p;
	struct slabd *s;
	void *slot, *v[40];
	int n;

	MUST(enter(&s, &p, "p", 0) == 0);
	for (;;) {
		n = slabd_alloc_many(p, v, 1 + random_below(&dice, 40));
		for (int i = 0; i < n; i++)
			switch (random_below(&dice, 4)) {
			case 0:
				MUST(slabd_send(p, v[i], &ref) == 0);
				tell(control, &ref, sizeof(ref));
				break;
			case 1:
				MUST(slabd_share(p, v[i], 3, &ref) == 0);
				tell(control, &ref, sizeof(ref));
				slabd_receive(p, ref, &slot);
				slabd_recall_n(p, ref, 1);
				slabd_free(p, v[i]);
				slabd_free(p, slot);
				break;
			case 2:
				MUST(slabd_send(p, v[i], &ref) == 0);
				MUST(slabd_recall(p, ref) == 1);
				MUST(slabd_free(p, v[i]) == 0);
				break;
			case 3:
				MUST(slabd_free(p, v[i]) == 0);
				break;
			}
	}
}

static int
count_all(struct slabd_pool *p)
{
	static void *v[SLOTS + 1];
	int n = 0, got;

	while (
	    (got = slabd_alloc_many(p, v + n, (unsigned)(SLOTS + 1 - n))) > 0)
		n += got;
	cr_assert_eq(slabd_free_many(p, v, (unsigned)n), n);
	return n;
}

Test(flow, killed)
{
	uint64_t dice = random_seed("flow"), ref;
	struct slabd_pool *p;
	struct slabd *s;
	struct raw_stats st;
	int control, err;
	pid_t pid;
	void *slot;

	cr_assert_eq(enter(&s, &p, "p", 0), 0);
	for (int round = 0; round < 40; round++) {
		random_next(&dice);
		pid = spawn(busy, &dice, &control);
		for (uint32_t n = random_below(&dice, 400); n > 0; n--) {
			cr_assert_eq(hear(control, &ref, sizeof(ref)), 0);
			err = slabd_receive(p, ref, &slot);
			cr_assert_eq(err, 0, "%s", slabd_error_detail());
			cr_assert_eq(slabd_free(p, slot), 0);
		}
		kill(pid, SIGKILL);
		cr_assert_eq(reap(pid), 128 + SIGKILL);
		close(control);
		STATS_UNTIL(&watcher, "p", st, st.clients == 1);
		cr_assert_eq(st.used, 0);
		cr_assert_eq(st.quarantined, 0);
		cr_assert_eq(raw_audit(&watcher), 0);
		/* Orphans make room. */
		cr_assert_eq(count_all(p), SLOTS);
		cr_assert_eq(stats_of(&watcher, "p").in_flight, 0);
	}
	slabd_close(s);
}
