/*
 * hostile [-a records] [-k kind] [-m] [-n bursts] [-p] [-r rounds] [-s seed]: two
 * honest processes at their work, beside one kind of attacker after the other.
 *
 * The maker allocates slots by its lane, stamps them and sends them, a burst at
 * a time; the taker receives each, finds the next stamp in it, whole, and frees
 * it. Between two bursts the maker allocates and frees one slot by message. Rules:
 *
 *	No call of theirs fails, no stamp is missing, and neither hangs.
 *	Whatever is done, the daemon's books balance. When the attackers are
 *	gone and the pair rests, no slot is used, in flight or set aside, and
 *	the daemon's memory and descriptors are back where they were.
 *	An attack of which nothing was done has not been tried: that fails too.
 *	With root's rights the attackers are of another user, and then a
 *	newcomer gets in while they are at it.
 *
 * What SECURITY.md leaves to whoever may write a pool (its payload, its claims)
 * is attacked in pools of their own; with -m, in which all memory is sealed, cut
 * off in the pair's own.
 *
 * How long the maker waits for two answers (trip), and a slot is on its way from
 * one to the other (handoff), is compared with the median of all turns in which
 * nobody else was there. The goal is five times as long for one in a hundred, in
 * the median of the rounds; with -p it is a failure to miss it.
 *
 * Who uses the processors slows everybody, with or without slabd. So the pair has
 * the first to itself, as one would arrange it with cpusets, undisturbed and
 * under attack alike; the attackers have the others, and the daemon goes where
 * the kernel puts it, and has to hold its own there. With one processor all are
 * on it, and the figures say more about the machine. The first row is no
 * attack: there others only use the processors, and never talk to the daemon. -a
 * says how many bogus records lie in each of many lanes, in the attack "ahead".
 *
 * The seed decides what each attacker does, not how they are mixed.
 */
#include "config.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "../core/random.h"
#include "../e2e/raw.h"
#include "../e2e/server.h"
#include "atomic.h"
#include "foes.h"
#include "slabd.h"

enum {
	WINDOW = 8,	   /* slots of a burst, at most */
	SAMPLES = 1 << 17, /* of a kind, in one part */
	PARTS_MAX = 1000,  /* bursts asked for at once */
	ROUNDS_MAX = 64,
	HONEST = 3,	      /* the pair's attachments */
	GOAL = 5,	      /* times as long */
	SPARE_KIB = 16 << 10, /* the daemon's memory may stay larger by */
	PATIENCE_MS = 120000  /* then something hangs */
};

/* Nobody can keep all of `front`: each has a reserve, and a quota. */
#define CONFIG                                                              \
	"\"log_level\": \"error\", \"handshake_seconds\": 1, "              \
	"\"max_clients\": 400, \"max_clients_per_uid\": 160, \"pools\": ["  \
	"{\"name\": \"front\", \"slot_size\": 256, \"slots_per_segment\": " \
	"512, \"min_segments\": 8, \"max_segments\": 8, \"quota\": 256, "   \
	"\"reserve\": 12, \"max_clients\": 256, \"orphan_seconds\": 0, "    \
	"\"backing\": \"%s\"}, "                                            \
	"{\"name\": \"back\", \"slot_size\": \"64K\", "                     \
	"\"slots_per_segment\": 256, \"min_segments\": 4, "                 \
	"\"max_segments\": 4, \"orphan_seconds\": 1}%s]"
#define CUT                                                \
	", {\"name\": \"cut\", \"slot_size\": \"4K\", "    \
	"\"slots_per_segment\": 64, \"min_segments\": 1, " \
	"\"max_segments\": 4}"

struct stamp {
	uint64_t number, sent_ns;
	uint64_t filling[29];
	uint64_t not_number;
};

_Static_assert(sizeof(struct stamp) == 256, "slot_size");

enum what { TRIP, HANDOFF, NWHATS };

static const char *const what_names[NWHATS] = {"trip", "handoff"};

struct samples {
	_Atomic uint32_t n;
	uint32_t us10[SAMPLES]; /* tenths of a microsecond */
};

/* What all processes see. */
struct board {
	_Atomic uint64_t acts; /* of the attack under way */
	_Atomic uint64_t stamps;
	struct samples samples[NWHATS];
};

static struct board *board;
static struct server server;
static cpu_set_t pairs_processor;

static uint64_t
now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

/* The honest. */

struct packet {
	unsigned n;
	slabd_ref refs[WINDOW];
};

struct honest {
	struct slabd *session;
	struct slabd_pool *lane, *plain;
	int pipe, others; /* to the other one; the end that is not ours */
	uint64_t next, random;
};

static void
must(bool is, const char *what, long long result)
{
	if (is)
		return;
	fprintf(stderr, "the honest: %s: %lld (%s)\n", what, result,
	    slabd_error_detail());
	_exit(1);
}

static void
note(enum what what, uint64_t since_ns)
{
	struct samples *s = &board->samples[what];
	uint32_t n = load_relaxed(&s->n);

	if (n == SAMPLES)
		return;
	s->us10[n] = (uint32_t)((now_ns() - since_ns) / 100);
	/* Release: with collect(). */
	store_release(&s->n, n + 1);
}

static void
begin(struct honest *h, const char *label)
{
	struct slabd_options o = SLABD_OPTIONS_INIT;
	int err;

	close(h->others);
	must(sched_setaffinity(0, sizeof(pairs_processor), &pairs_processor) ==
		 0,
	    "its processor", -errno);
	o.socket_path = server.socket;
	o.label = label;
	err = slabd_open_options(&h->session, &o);
	must(err == 0, "open", err);
	err = slabd_pool_attach(&h->lane, h->session, "front", 0);
	must(err == 0, "attach", err);
}

static void
trip(struct honest *h)
{
	uint64_t from = now_ns();
	void *slot = slabd_alloc(h->plain);
	int err;

	must(slot != NULL, "allocate by message", -errno);
	err = slabd_free(h->plain, slot);
	must(err == 0, "free by message", err);
	note(TRIP, from);
}

static slabd_ref
make(struct honest *h)
{
	struct stamp *slot = slabd_alloc(h->lane);
	slabd_ref ref;
	int err;

	must(slot != NULL, "allocate", -errno);
	slot->number = h->next;
	for (unsigned i = 0; i < 29; i++)
		slot->filling[i] = h->next * (i + 1);
	slot->not_number = ~h->next++;
	slot->sent_ns = now_ns();
	err = slabd_send(h->lane, slot, &ref);
	must(err == 0, "send", err);
	return ref;
}

static void
burst(struct honest *h)
{
	struct packet p = {.n = 1 + random_below(&h->random, WINDOW)};
	char taken;

	for (unsigned i = 0; i < p.n; i++)
		p.refs[i] = make(h);
	must(tell(h->pipe, &p, sizeof(p)) == 0 && hear(h->pipe, &taken, 1) == 0,
	    "the taker has ended", 0);
}

/* Says when it is ready, and when it has done as many bursts as it was told. */
static int
maker(int control, void *arg)
{
	struct honest *h = arg;
	uint32_t n = 0;
	int err;

	begin(h, "maker");
	err = slabd_pool_attach(&h->plain, h->session, "front", SLABD_NO_LANE);
	must(err == 0, "attach without a lane", err);
	while (tell(control, "", 1) == 0 && hear(control, &n, sizeof(n)) == 0 &&
	       n > 0)
		for (; n > 0; n--) {
			trip(h);
			burst(h);
		}
	slabd_close(h->session);
	return 0;
}

static void
take(struct honest *h, slabd_ref ref)
{
	struct stamp *slot;
	bool whole;
	int err;

	err = slabd_receive(h->lane, ref, (void **)&slot);
	must(err == 0, "receive", err);
	note(HANDOFF, slot->sent_ns);
	whole = slot->number == h->next && slot->not_number == ~h->next;
	for (unsigned i = 0; i < 29; i++)
		whole = whole && slot->filling[i] == h->next * (i + 1);
	must(whole, "another stamp is in it", (long long)slot->number);
	err = slabd_free(h->lane, slot);
	must(err == 0, "free", err);
	h->next++;
	atomic_fetch_add_explicit(&board->stamps, 1, memory_order_relaxed);
}

static int
taker(int control, void *arg)
{
	struct honest *h = arg;
	struct packet p;

	begin(h, "taker");
	tell(control, "", 1);
	while (hear(h->pipe, &p, sizeof(p)) == 0) {
		for (unsigned i = 0; i < p.n; i++)
			take(h, p.refs[i]);
		must(tell(h->pipe, "", 1) == 0, "the maker has ended", 0);
	}
	slabd_close(h->session);
	return 0;
}

/* What is seen of the daemon. */

struct look {
	long rss_kib, peak_kib;
	unsigned fds;
};

static long
status_kib(const char *text, const char *key)
{
	const char *at = strstr(text, key);

	return at != NULL ? atol(at + strlen(key)) : -1;
}

static unsigned
count_descriptors(void)
{
	char path[64];
	unsigned n = 0;
	DIR *all;

	snprintf(path, sizeof(path), "/proc/%d/fd", (int)server.pid);
	all = opendir(path);
	while (all != NULL && readdir(all) != NULL)
		n++;
	if (all != NULL)
		closedir(all);
	return n;
}

static struct look
look_at_daemon(void)
{
	struct look l = {.fds = count_descriptors()};
	char path[64], text[4096] = "";
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/status", (int)server.pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || read(fd, text, sizeof(text) - 1) < 0)
		text[0] = '\0';
	close(fd);
	l.rss_kib = status_kib(text, "VmRSS:");
	l.peak_kib = status_kib(text, "VmHWM:");
	return l;
}

/* The peak is now. */
static void
forget_peak(void)
{
	char path[64];
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/clear_refs", (int)server.pid);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd >= 0 && write(fd, "5", 1) != 1)
		fprintf(stderr, "peaks are those of the whole run\n");
	close(fd);
}

/* The test. */

struct result {
	uint64_t acts;
	double p99_us[NWHATS][ROUNDS_MAX]; /* 99th percentiles */
	double worst_us;
	long rss_kib, peak_kib; /* the largest */
	unsigned fds;
};

struct test {
	unsigned rounds, bursts;
	uint64_t random;
	const char *only; /* one kind, or NULL: all */
	struct honest maker, taker;
	int maker_control, taker_control;
	pid_t maker_pid, taker_pid;
	struct raw checker;
	struct look before;
	double alone_us[NWHATS]
		       [ATTACKS_MAX * ROUNDS_MAX]; /* percentiles, too */
	unsigned nalone;
	struct result results[ATTACKS_MAX];
};

static bool
wrong(const char *what, const char *detail)
{
	fprintf(stderr, "%s: %s\n", what, detail);
	return false;
}

/* The pair says that it is ready, or has done what it was told. */
static bool
pair_ready(int control)
{
	struct pollfd p[2] = {{.fd = control, .events = POLLIN},
	    {.fd = server.pidfd, .events = POLLIN}};
	char ready;

	if (poll(p, 2, PATIENCE_MS) == 0)
		return wrong("the honest", "hang");
	if (p[1].revents != 0)
		return wrong("the daemon", "has ended");
	return hear(control, &ready, 1) == 0 ||
	       wrong("the honest", "have ended");
}

static bool
pair_works(struct test *t, uint32_t n)
{
	return tell(t->maker_control, &n, sizeof(n)) == 0 &&
	       pair_ready(t->maker_control);
}

static bool
pair_begins(struct test *t)
{
	int ends[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0)
		return wrong("pair", strerror(errno));
	t->maker = (struct honest){
	    .pipe = ends[0], .others = ends[1], .random = t->random};
	t->taker = (struct honest){.pipe = ends[1], .others = ends[0]};
	t->taker_pid = spawn(taker, &t->taker, &t->taker_control);
	t->maker_pid = spawn(maker, &t->maker, &t->maker_control);
	close(ends[0]);
	close(ends[1]);
	return pair_ready(t->taker_control) && pair_ready(t->maker_control);
}

static bool
pair_ends(struct test *t)
{
	const uint32_t none = 0;

	tell(t->maker_control, &none, sizeof(none));
	return (reap(t->maker_pid) == 0 && reap(t->taker_pid) == 0) ||
	       wrong("the honest", "end badly");
}

/* Every pool balances. */
static bool
books_balance(struct test *t)
{
	struct raw_message m;
	int status = raw_call(&t->checker, WIRE_AUDIT, 0, 0, NULL, 0, &m);

	if (status == 0)
		return true;
	fprintf(stderr, "the books: %.*s (%d)\n",
	    status == -ENOTCONN ? 0 : (int)m.len, m.body, status);
	return false;
}

/* Whether all is as if nobody had been there, but for memory. */
static bool
is_quiet(struct test *t, struct raw_stats *s, struct look *l)
{
	struct raw_stats back;

	if (raw_pool_stats(&t->checker, "front", s) != 0 ||
	    raw_pool_stats(&t->checker, "back", &back) != 0)
		return false;
	*l = look_at_daemon();
	return s->clients == HONEST && s->used == 0 && s->in_flight == 0 &&
	       s->quarantined == 0 && s->free + s->cached == s->slots &&
	       back.clients == 0 && l->fds <= t->before.fds;
}

/* The attackers are gone and the pair rests: nothing may be left of them. */
static bool
settle(struct test *t, struct result *r)
{
	struct raw_stats s = {0};
	struct look l = {0};

	for (int i = 0; i < PATIENCE_MS / 10; i++) {
		if (!books_balance(t))
			return false;
		if (is_quiet(t, &s, &l)) {
			r->rss_kib =
			    l.rss_kib > r->rss_kib ? l.rss_kib : r->rss_kib;
			r->fds = l.fds;
			return true;
		}
		poll(NULL, 0, 2);
	}
	fprintf(stderr,
	    "left: %u clients, %u used, %u in flight, %u set aside, %u free "
	    "and %u cached of %u; %u descriptors, before %u\n",
	    s.clients, s.used, s.in_flight, s.quarantined, s.free, s.cached,
	    s.slots, l.fds, t->before.fds);
	return false;
}

static int
ascending(const void *a, const void *b)
{
	const uint32_t *x = a, *y = b;

	return (*x > *y) - (*x < *y);
}

/* The 99th percentile of what was noted, in microseconds, and the largest. */
static double
collect(enum what what, double *worst)
{
	struct samples *s = &board->samples[what];
	/* Acquire: with note(). */
	uint32_t n = load_acquire(&s->n);

	store_relaxed(&s->n, 0);
	if (n == 0)
		return 0;
	qsort(s->us10, n, sizeof(*s->us10), ascending);
	if (worst != NULL && s->us10[n - 1] / 10.0 > *worst)
		*worst = s->us10[n - 1] / 10.0;
	return s->us10[(uint64_t)n * 99 / 100] / 10.0;
}

static bool
attack_begins(
    struct test *t, const struct attack *a, pid_t *pids, int *controls)
{
	struct foe_start start = {.attack = a};
	unsigned n = 0;

	store_relaxed(&board->acts, 0);
	for (; n < a->processes; n++) {
		start.seed = random_next(&t->random);
		start.group = n > 0 ? pids[0] : 0;
		pids[n] = spawn(foe, &start, &controls[n]);
		if (pids[n] < 0)
			return wrong("fork", strerror(errno));
		/* Whoever is first makes the group. */
		setpgid(pids[n], pids[0]);
	}
	return true;
}

/* All of the group, children's children too: they are ours to reap. */
static void
attack_ends(const struct attack *a, pid_t group, const int *controls)
{
	kill(-group, SIGKILL);
	while (waitpid(-group, NULL, 0) > 0 || errno == EINTR)
		continue;
	for (unsigned n = 0; n < a->processes; n++)
		close(controls[n]);
}

static bool
newcomer(void)
{
	struct raw_lane l;
	struct raw r;
	int err;

	if (!foes.strangers)
		return true;
	err = raw_open(&r, server.socket, "newcomer");
	if (err == 0)
		err = raw_attach_lane(&r, "front", 0, &l);
	if (err == 0)
		raw_lane_close(&l);
	if (err == 0)
		err = raw_bye(&r);
	raw_close(&r);
	return err == 0 || wrong("a newcomer", strerror(-err));
}

/* The pair works until enough was done to it. */
static bool
under_attack(struct test *t, const struct attack *a)
{
	uint32_t n = 1 + t->bursts / a->slow;
	uint64_t from = now_ns();

	while (load_relaxed(&board->acts) < a->least) {
		if (!pair_works(t, n))
			return false;
		if ((now_ns() - from) / 1000000 > PATIENCE_MS)
			break;
	}
	for (enum what w = 0; w < NWHATS; w++)
		collect(w, NULL);
	return pair_works(t, n) && newcomer() &&
	       /* An audit tells of what is cut off now. */
	       ((a->flags & ATTACK_CUTS) != 0 || books_balance(t));
}

/*
 * What was cut off stays so until the pool is created anew. Nobody is attached.
 */
static bool
renew_cut(struct test *t)
{
	char text[sizeof(CONFIG) + sizeof(CUT) + 16];
	const char *backing = foes.sealed ? "memfd" : "posix";
	struct raw_stats s;
	int err = 0;

	for (int with = 0; with < 2 && err == 0; with++) {
		snprintf(text, sizeof(text), CONFIG, backing, with ? CUT : "");
		err = server_configure(&server, text);
		if (err == 0)
			err = raw_call(
			    &t->checker, WIRE_RELOAD, 0, 0, NULL, 0, NULL);
		while (err == 0 && !with &&
		       raw_pool_stats(&t->checker, "cut", &s) == 0)
			poll(NULL, 0, 1);
	}
	return err == 0 || wrong("reload", strerror(-err));
}

static bool
one_attack(struct test *t, unsigned round, const struct attack *a)
{
	struct result *r = &t->results[a - attacks];
	int controls[FOES_MAX];
	pid_t pids[FOES_MAX];
	struct look l;
	bool good;

	if (!pair_works(t, t->bursts))
		return false;
	for (enum what w = 0; w < NWHATS; w++)
		t->alone_us[w][t->nalone] = collect(w, NULL);
	t->nalone++;
	forget_peak();
	if (!attack_begins(t, a, pids, controls))
		return false;
	good = under_attack(t, a);
	l = look_at_daemon();
	r->peak_kib = l.peak_kib > r->peak_kib ? l.peak_kib : r->peak_kib;
	attack_ends(a, pids[0], controls);
	r->acts += load_relaxed(&board->acts);
	for (enum what w = 0; w < NWHATS && good; w++)
		r->p99_us[w][round] = collect(w, &r->worst_us);
	if (good && (a->flags & ATTACK_CUTS) != 0)
		good = renew_cut(t);
	if (good && settle(t, r))
		return true;
	fprintf(stderr, "in %s, round %u\n", a->name, round);
	return false;
}

static bool
is_chosen(const struct test *t, const struct attack *a)
{
	return t->only == NULL || strcmp(t->only, a->name) == 0;
}

/* Where cores go elsewhere nobody could remove them. */
static bool
is_possible(const struct attack *a)
{
	char pattern[8] = "";
	int fd;

	if ((a->flags & ATTACK_CORES) == 0)
		return true;
	fd = open("/proc/sys/kernel/core_pattern", O_RDONLY | O_CLOEXEC);
	if (fd < 0 || read(fd, pattern, sizeof(pattern) - 1) < 0)
		pattern[0] = '\0';
	close(fd);
	return strcmp(pattern, "core\n") == 0;
}

static bool
all_attacks(struct test *t)
{
	for (unsigned round = 0; round < t->rounds; round++)
		for (unsigned i = 0; i < nattacks; i++)
			if (is_chosen(t, &attacks[i]) &&
			    is_possible(&attacks[i]) &&
			    !one_attack(t, round, &attacks[i]))
				return false;
	return true;
}

static int
by_value(const void *a, const void *b)
{
	const double *x = a, *y = b;

	return (*x > *y) - (*x < *y);
}

static double
median(double *v, unsigned n)
{
	qsort(v, n, sizeof(*v), by_value);
	return n % 2 ? v[n / 2] : (v[n / 2 - 1] + v[n / 2]) / 2;
}

static bool
is_sanitized(void)
{
	const char *sanitizers = getenv("SANITIZERS");

	return sanitizers != NULL && sanitizers[0] != '\0';
}

/* One row; false: it fails, whatever it says about time. */
static bool
report_one(const struct test *t, const struct attack *a, struct result *r,
    const double *alone_us, bool *met)
{
	double times, p99;
	bool good = r->acts >= a->least;

	printf("%-12s%12llu", a->name, (unsigned long long)r->acts);
	for (enum what w = 0; w < NWHATS; w++) {
		p99 = median(r->p99_us[w], t->rounds);
		times = p99 / alone_us[w];
		*met = *met && times <= GOAL;
		printf("%9.0f%7.1f", p99, times);
	}
	printf("%9.1f%9ld%9ld%5u  %s\n", r->worst_us / 1000, r->rss_kib,
	    r->peak_kib, r->fds, *met ? "met" : "missed");
	if (!good)
		fprintf(stderr, "%s: too little was done\n", a->name);
	/* Sanitizers keep what is freed. */
	if (!is_sanitized() && r->rss_kib > t->before.rss_kib + SPARE_KIB) {
		fprintf(stderr, "%s: the daemon has not given memory back\n",
		    a->name);
		good = false;
	}
	return good;
}

static bool
report(struct test *t, bool strict)
{
	unsigned rows = 0, within = 0;
	double alone_us[NWHATS];
	bool good = true, met;

	printf("\nbefore: %ld KiB, %u descriptors; afterwards at most %d KiB "
	       "more\n%-12s%12s",
	    t->before.rss_kib, t->before.fds, SPARE_KIB, "", "acts");
	for (enum what w = 0; w < NWHATS; w++)
		printf("%9s%7s", what_names[w], "times");
	printf("%9s%9s%9s%5s\n%24s%9s%7s%9s%7s%9s%9s%9s\n%-24s", "worst",
	    "after", "peak", "fds", "", "p99 us", "", "p99 us", "", "ms", "KiB",
	    "KiB", "alone");
	for (enum what w = 0; w < NWHATS; w++) {
		alone_us[w] = median(t->alone_us[w], t->nalone);
		printf("%9.0f%7.1f", alone_us[w], 1.0);
	}
	putchar('\n');
	for (unsigned i = 0; i < nattacks; i++) {
		met = true;
		if (!is_chosen(t, &attacks[i]))
			continue;
		if (!is_possible(&attacks[i])) {
			printf("%-12sskipped: core_pattern\n", attacks[i].name);
			continue;
		}
		good = report_one(
			   t, &attacks[i], &t->results[i], alone_us, &met) &&
		       good;
		rows += (attacks[i].flags & ATTACK_NONE) == 0;
		within += (attacks[i].flags & ATTACK_NONE) == 0 && met;
	}
	printf("%llu stamps; at most %d times as long: %u of %u\n",
	    (unsigned long long)load_relaxed(&board->stamps), GOAL, within,
	    rows);
	return good && (!strict || within == rows);
}

static bool
run(struct test *t, bool strict)
{
	int err = raw_open(&t->checker, server.socket, "checker");
	struct result none = {0};
	bool good;

	if (err != 0)
		return wrong("checker", strerror(-err));
	good = pair_begins(t) && pair_works(t, t->bursts);
	for (enum what w = 0; w < NWHATS; w++)
		collect(w, NULL);
	t->before.fds = UINT32_MAX;
	good = good && settle(t, &none);
	t->before = look_at_daemon();
	good = good && all_attacks(t);
	/* Who waits for us would wait for ever if it did not go well. */
	good = good && pair_ends(t) && report(t, strict);
	raw_close(&t->checker);
	return good;
}

/* In the place of a service manager, who must take what he is to store. */
static int
manager(int control, void *arg)
{
	char bytes[256];

	(void)control;
	(void)arg;
	while (recv(server.notify, bytes, sizeof(bytes), 0) >= 0)
		continue;
	return 1;
}

static bool
serve(void)
{
	char text[sizeof(CONFIG) + sizeof(CUT) + 16];
	int err;

	snprintf(
	    text, sizeof(text), CONFIG, foes.sealed ? "memfd" : "posix", CUT);
	err = server_open(&server, text);
	if (err == -ECHILD && foes.sealed) {
		printf("skipped: this daemon has no sealed memory\n");
		server_close(&server);
		exit(77);
	}
	return err == 0 || wrong("cannot start", strerror(-err));
}

/*
 * The first processor is the pair's, the others are the attackers'. False: there
 * is but one, for all.
 */
static bool
divide_processors(void)
{
	int first = 0;

	sched_getaffinity(0, sizeof(foes.processors), &foes.processors);
	pairs_processor = foes.processors;
	if (CPU_COUNT(&foes.processors) < 2)
		return false;
	while (!CPU_ISSET(first, &foes.processors))
		first++;
	CPU_ZERO(&pairs_processor);
	CPU_SET(first, &pairs_processor);
	CPU_CLR(first, &foes.processors);
	return true;
}

static bool
options(int argc, char **argv, struct test *t, bool *strict)
{
	int opt;

	while ((opt = getopt(argc, argv, "a:k:mn:pr:s:")) != -1) {
		if (opt == 'a')
			foes.portion = (unsigned)strtoul(optarg, NULL, 10);
		else if (opt == 'k')
			t->only = optarg;
		else if (opt == 'm')
			foes.sealed = true;
		else if (opt == 'n')
			t->bursts = (unsigned)strtoul(optarg, NULL, 10);
		else if (opt == 'p')
			*strict = true;
		else if (opt == 'r')
			t->rounds = (unsigned)strtoul(optarg, NULL, 10);
		else if (opt == 's')
			t->random = strtoull(optarg, NULL, 10);
		else
			return false;
	}
	return t->rounds > 0 && t->rounds <= ROUNDS_MAX && t->bursts > 0 &&
	       t->bursts <= SAMPLES / WINDOW;
}

int
main(int argc, char **argv)
{
	static struct test t = {.rounds = 1, .bursts = 200};
	const char *left = NULL;
	bool good, strict = false;
	pid_t reader = -1;
	int control;

	t.random = (uint64_t)time(NULL);
	foes.portion = 16;
	if (!options(argc, argv, &t, &strict))
		return 2;
	foes.strangers = geteuid() == 0;
	printf("seed %llu, %u rounds of %u bursts, %s memory, attackers %s, "
	       "%s\n",
	    (unsigned long long)t.random, t.rounds, t.bursts,
	    foes.sealed ? "sealed" : "named",
	    foes.strangers ? "of another user" : "of the same user",
	    divide_processors() ? "on other processors"
				: "on the same processor");
	fflush(stdout);
	/* What attackers leave behind is ours to reap. */
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	foes.socket = server.socket;
	foes.dir = server.dir;
	board = mmap(NULL, sizeof(*board), PROT_READ | PROT_WRITE,
	    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	foes.acts = &board->acts;
	good = board != MAP_FAILED && serve();
	if (good)
		reader = spawn(manager, NULL, &control);
	good = good && reader > 0 && run(&t, strict);
	if (good)
		left = server_stop(&server, SIGTERM);
	if (left != NULL)
		wrong("left behind", left);
	if (reader > 0) {
		kill(reader, SIGKILL);
		reap(reader);
		close(control);
	}
	server_close(&server);
	printf("%s\n", good && left == NULL ? "ok" : "FAILED");
	return good && left == NULL ? 0 : 1;
}
