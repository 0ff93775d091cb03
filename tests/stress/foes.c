/*
 * What the attackers do. Each process leads one life after the other, as
 * children of its own, since most attacks end with the connection, and the
 * daemon keeps the slots of one it has ended until its process has.
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../core/random.h"
#include "../e2e/raw.h"
#include "../e2e/server.h"
#include "atomic.h"
#include "foes.h"

enum {
	AHEAD_LANES = 64, /* of each attacker that is ahead */
	HOARDS = 20,	  /* attachments of each that hoards */
	HALF_OPEN = 100,  /* sockets of each that says nothing */
	STOPPED = 8,	  /* processes one keeps stopped */
	NOBODY = 65534	  /* user of the attackers */
};

struct foes foes;

/* Relaxed: a figure, read when all is quiet. */
static void
acted(uint64_t n)
{
	atomic_fetch_add_explicit(foes.acts, n, memory_order_relaxed);
}
struct foe {
	uint64_t random;
	struct raw r, own; /* the second one behaves */
	struct raw_lane l;
	int line[2]; /* a pipe or a pair of sockets, if any */
};

static int
enter(struct foe *f, const char *pool)
{
	int err = raw_open(&f->r, foes.socket, "foe");

	if (err == 0)
		err = raw_attach_lane(&f->r, pool, 0, &f->l);
	return err == 0 && f->l.lane.header != NULL ? 0 : -1;
}

static bool
thrown_out(const struct foe *f)
{
	struct pollfd p = {.fd = f->r.fd};

	return poll(&p, 1, 0) > 0;
}

/* A moment that the daemon determines. */
static void
dawdle(struct foe *f)
{
	if (f->own.fd < 0)
		raw_open(&f->own, foes.socket, "foe's own");
	for (int i = 0; i < 20 && raw_ping(&f->own) == 0; i++)
		continue;
}

/* A child that dies with us and lives that life. */
static pid_t
branch(struct foe *f, int (*life)(struct foe *))
{
	pid_t parent = getpid(), pid = fork();

	random_next(&f->random);
	if (pid != 0)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	_exit(getppid() == parent ? life(f) : 1);
}

/* One message, never waiting: 0 or -errno. */
static int
say(struct foe *f, unsigned type, unsigned flags, uint32_t attachment,
    const void *body, size_t len)
{
	struct wire_header h = {.type = (uint16_t)type,
	    .flags = (uint16_t)flags,
	    .tag = ++f->r.tag,
	    .attachment = attachment};
	uint8_t bytes[WIRE_HEADER_BYTES + 256];
	struct wire_writer out;

	wire_begin(&out, bytes, sizeof(bytes), &h);
	wire_put_bytes(&out, body, len);
	if (send(f->r.fd, bytes, out.len, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
		return -errno;
	acted(1);
	return 0;
}

/* What has come is thrown away, descriptors and all. */
static void
drain(const struct foe *f)
{
	char bytes[256];

	while (recv(f->r.fd, bytes, sizeof(bytes), MSG_DONTWAIT) > 0)
		continue;
}

static int
busy(struct foe *f)
{
	for (int i = 0; i < 1000000; i++)
		random_next(&f->random);
	acted(1);
	return 0;
}

/* Random words anywhere in the lane, or in its header alone. */
static int
noise(struct foe *f)
{
	_Atomic uint64_t *words;
	uint32_t n;

	if (enter(f, "front") != 0)
		return 1;
	words = (_Atomic uint64_t *)f->l.lane.header;
	n = random_below(&f->random, 2) ? (uint32_t)(f->l.lane_bytes / 8) : 144;
	while (!thrown_out(f)) {
		for (int i = 0; i < 64; i++)
			store_relaxed(&words[random_below(&f->random, n)],
			    random_next(&f->random));
		raw_lane_bell(&f->l);
		acted(64);
	}
	return 0;
}

/*
 * A record about a slot of anybody's at the version it has now, or almost:
 * well-formed, and never true, since who says it has nothing. To receive what is
 * in flight is anybody's right who knows the ref, so that is said too late.
 */
static uint64_t
forge(struct foe *f)
{
	static const enum lane_operation what[] = {
	    LANE_FREE, LANE_SEND, LANE_SHARE, LANE_RECALL, LANE_RECEIVE};
	uint32_t slot = random_below(&f->random, 4096);
	enum lane_operation o = what[random_below(&f->random, 5)];
	uint64_t version = ref_version(load_relaxed(&f->l.claims[slot]));
	bool shared = random_below(&f->random, 4) == 0;

	version += random_below(&f->random, 4) - 1;
	if (o == LANE_RECEIVE)
		version -= 3 + random_below(&f->random, 1000);
	if (o == LANE_SEND || o == LANE_SHARE)
		shared = false;
	return record_make(o,
	    ref_make(slot, shared, version & REF_VERSION_MASK),
	    o == LANE_SHARE || o == LANE_RECALL);
}

static int
forgeries(struct foe *f)
{
	uint64_t record;

	if (enter(f, "front") != 0)
		return 1;
	while (!thrown_out(f))
		for (int i = 0; i < 256; i++) {
			record = forge(f);
			acted(raw_lane_put(&f->l, &record, 1));
			if (i % 32 == 0)
				raw_lane_bell(&f->l);
		}
	return 0;
}

static int
indices(struct foe *f)
{
	struct lane_header *h;
	_Atomic uint64_t *index;
	uint64_t size, to;

	if (enter(f, "front") != 0)
		return 1;
	h = f->l.lane.header;
	size = f->l.lane.geometry.records;
	do {
		_Atomic uint64_t *const all[] = {&h->record_tail,
		    &h->grant_head, &h->record_head, &h->grant_tail};
		const uint64_t jumps[] = {0, 1, size, size + 1,
		    UINT64_C(1) << 31, UINT32_MAX, UINT64_C(1) << 63,
		    -UINT64_C(1), -size};

		index = all[random_below(&f->random, 4)];
		to = jumps[random_below(&f->random, 9)];
		if (random_below(&f->random, 2))
			to += load_relaxed(index);
		store_relaxed(index, to);
		raw_lane_bell(&f->l);
		acted(1);
	} while (raw_ping(&f->r) == 0);
	return 0;
}

/* Any word, or one that could be. */
static uint64_t
forge_claim(struct foe *f, uint64_t ref)
{
	uint64_t word = random_next(&f->random);

	return random_below(&f->random, 2)
		   ? word
		   : (ref & ~UINT64_C(0xffffff)) | (word & 0x1ff);
}

/* Messages that make the daemon look at the claims of `back`. */
static void
use_claims(struct foe *f, uint64_t *ref)
{
	uint32_t at = f->l.pool.number;

	if (*ref == 0 && raw_alloc(&f->r, at, 1, ref) != 1)
		return;
	raw_send(&f->r, at, *ref, ref);
	store_relaxed(&f->l.claims[ref_slot(*ref)], forge_claim(f, *ref));
	raw_receive(&f->r, at, *ref);
	raw_recall(&f->r, at, *ref, 0);
	if (raw_free(&f->r, at, ref, 1) == 1)
		*ref = 0;
}

/* All those of `back`; in `front` those of slots that are its own. */
static int
claims(struct foe *f)
{
	struct foe own = *f;
	uint64_t mine[16], ref = 0;
	unsigned n, slot;

	if (enter(f, "back") != 0 || enter(&own, "front") != 0)
		return 1;
	n = raw_lane_take(&own.l, mine, 16);
	while (!thrown_out(f)) {
		for (int i = 0; i < 256; i++) {
			slot = random_below(&f->random, 1024);
			store_relaxed(&f->l.claims[slot], forge_claim(f, slot));
		}
		for (unsigned i = 0; i < n; i++)
			store_relaxed(&own.l.claims[ref_slot(mine[i])],
			    forge_claim(f, mine[i]));
		use_claims(f, &ref);
		acted(256 + n);
	}
	return 0;
}

/* Shorter, longer, or with a hole: whatever the kernel lets it do. */
static void
cut(struct foe *f, int fd, uint64_t bytes, bool holes)
{
	const off_t sizes[] = {0, LANE_PAGE,
	    (off_t)(random_below(&f->random, 64) * LANE_PAGE),
	    (off_t)(bytes + (1 << 20))};
	unsigned which = random_below(&f->random, holes ? 5 : 4);
	int err;

	if (which < 4)
		err = ftruncate(fd, sizes[which]);
	else
		err = fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
		    0, (off_t)bytes);
	/* A refusal is what is hoped for. */
	acted(err == 0 || errno == EPERM);
}

static int
cut_lane(struct foe *f)
{
	if (enter(f, "front") != 0)
		return 1;
	do {
		cut(f, f->l.lane_fd, f->l.lane_bytes, true);
		raw_lane_bell(&f->l);
	} while (raw_ping(&f->r) == 0);
	return 0;
}

/* Messages that make the daemon use what was cut. */
static void
use_cut(struct foe *f)
{
	uint32_t at = f->l.pool.number;
	uint64_t ref = 0;

	if (raw_alloc(&f->r, at, 1, &ref) == 1 &&
	    raw_send(&f->r, at, ref, &ref) == 0)
		raw_receive(&f->r, at, ref);
	raw_free(&f->r, at, &ref, 1);
	free(raw_document(&f->r, WIRE_STATS, NULL, 0));
}

/*
 * Everything it has; once the claims are cut off, nobody gets a lane. Where
 * nothing can be cut that is tried on the pair's own pool, but holes are what
 * whoever may write may make.
 */
static int
cut_all(struct foe *f)
{
	const struct raw_lane *l = &f->l;
	unsigned which;

	if (raw_open(&f->r, foes.socket, "foe") != 0 ||
	    raw_attach_lane(&f->r, foes.sealed ? "front" : "cut", 0, &f->l) !=
		0)
		return 1;
	while (!thrown_out(f)) {
		which = random_below(&f->random, 32);
		if (which == 0 && l->claims_fd >= 0)
			cut(f, l->claims_fd, l->claims_bytes, !foes.sealed);
		else if (which < 4 && l->lane_fd >= 0)
			cut(f, l->lane_fd, l->lane_bytes, true);
		else
			cut(f, l->pool.fd, l->pool.bytes, !foes.sealed);
		if (l->doorbell >= 0)
			raw_lane_bell(&f->l);
		use_cut(f);
	}
	return 0;
}

/* Valid requests, as fast as they are taken; what rules only from foes.strangers. */
static int
flood(struct foe *f)
{
	static const unsigned types[] = {WIRE_PING, WIRE_FLUSH, WIRE_HELD,
	    WIRE_RECALL, WIRE_ALLOC, WIRE_STATS, WIRE_HOLDERS, WIRE_CONFIG,
	    WIRE_AUDIT, WIRE_TRIM, WIRE_RELOAD, WIRE_SHUTDOWN};
	uint8_t name[8];
	size_t len = raw_name(name, "front");
	uint64_t body[2] = {1};
	unsigned type;
	int err = enter(f, "front");

	while (err == 0 || err == -EAGAIN) {
		type = types[random_below(&f->random, foes.strangers ? 12 : 8)];
		if (type == WIRE_HOLDERS || type == WIRE_TRIM)
			err = say(f, type, 0, 0, name, len);
		else
			err = say(f, type, 0, f->l.pool.number, body,
			    type == WIRE_ALLOC	  ? 4
			    : type == WIRE_HELD	  ? 8
			    : type == WIRE_RECALL ? 12
						  : 0);
		drain(f);
	}
	return 0;
}

/* Any form but the right one; rarely one that is no message at all. */
static int
malformed(struct foe *f)
{
	uint64_t body[32];
	unsigned type, flags;
	int err = enter(f, "front");

	while (err == 0 || err == -EAGAIN) {
		for (int i = 0; i < 32; i++)
			body[i] = random_next(&f->random);
		type =
		    random_below(&f->random, foes.strangers ? 96 : WIRE_RELOAD);
		/* Who says goodbye is no flood. */
		type = type == WIRE_BYE || type == WIRE_DETACH ? 0 : type;
		flags = random_below(&f->random, 4)
			    ? 0
			    : (unsigned)body[0] & 0xffff;
		if (random_below(&f->random, 1000) == 0)
			err = raw_put(&f->r, body,
			    random_below(&f->random, WIRE_HEADER_BYTES), -1);
		else
			err = say(f, type, flags, random_below(&f->random, 3),
			    body, random_below(&f->random, sizeof(body)));
		drain(f);
	}
	return 0;
}

static int
unknown(struct foe *f)
{
	unsigned type;
	int err = enter(f, "front");

	while (err == 0 || err == -EAGAIN) {
		do
			type = random_below(&f->random, 1 << 16);
		while (wire_type_name(type) != NULL);
		err = say(f, type, 0, 0, NULL, 0);
		drain(f);
	}
	return 0;
}

static int
doorbell(struct foe *f)
{
	if (enter(f, "front") != 0)
		return 1;
	while (!thrown_out(f)) {
		for (int i = 0; i < 1000; i++)
			raw_lane_bell(&f->l);
		acted(1000);
	}
	return 0;
}

/* Asks until nothing goes any more, and reads none of it. */
static int
deaf(struct foe *f)
{
	static const unsigned types[] = {
	    WIRE_PING, WIRE_STATS, WIRE_ALLOC, WIRE_FLUSH};
	const uint32_t n = 200;
	unsigned type;
	int err = enter(f, "front");

	while (err == 0) {
		type = types[random_below(&f->random, 4)];
		err = say(f, type, type == WIRE_ALLOC ? WIRE_WAIT : 0,
		    f->l.pool.number, &n, type == WIRE_ALLOC ? sizeof(n) : 0);
	}
	dawdle(f);
	return 0;
}

/* Connects up to the limits and says nothing. */
static int
half_open(struct foe *f)
{
	struct raw open[HALF_OPEN];

	for (int i = 0; i < HALF_OPEN; i++)
		open[i].fd = -1;
	for (int i = 0; raw_connect(&f->r, foes.socket) == 0;
	     i = (i + 1) % HALF_OPEN) {
		if (open[i].fd >= 0)
			close(open[i].fd);
		open[i] = f->r;
		acted(1);
	}
	return 0;
}

static void
take_all(struct foe *f, uint32_t at)
{
	uint64_t refs[256];
	int got;

	while ((got = raw_alloc(&f->r, at, 256, refs)) > 0)
		acted((unsigned)got);
}

/* All slots it can have; then it waits for more. */
static int
hoard(struct foe *f)
{
	uint32_t all[HOARDS];

	if (raw_open(&f->r, foes.socket, "foe") != 0)
		return 1;
	for (int i = 0; i < HOARDS; i++) {
		if (raw_attach_lane(&f->r, "front", 0, &f->l) != 0)
			return 1;
		all[i] = f->l.pool.number;
		raw_lane_close(&f->l);
	}
	for (int i = 0; i < HOARDS; i++)
		take_all(f, all[i]);
	raw_post_alloc(&f->r, all[0], 256);
	dawdle(f);
	return 0;
}

/* The same, attaching again and again when nothing is left to be reserved. */
static int
hoard_late(struct foe *f)
{
	if (raw_open(&f->r, foes.socket, "foe") != 0)
		return 1;
	for (int i = 0; i < HOARDS; i++) {
		if (raw_attach_lane(&f->r, "front", 0, &f->l) != 0)
			return 1;
		raw_lane_close(&f->l);
		take_all(f, f->l.pool.number);
	}
	dawdle(f);
	return 0;
}

/* One of its own, and as many as go into a message. */
static int
descriptors(struct foe *f)
{
	struct iovec iov = {(void *)(uintptr_t) "0123456789abcdef", 16};
	union {
		struct cmsghdr header;
		char room[CMSG_SPACE(253 * sizeof(int))];
	} control;
	struct msghdr msg = {.msg_iov = &iov,
	    .msg_iovlen = 1,
	    .msg_control = &control,
	    .msg_controllen = sizeof(control)};
	int err, *fds = (int *)(void *)CMSG_DATA(&control.header);

	if (enter(f, "front") != 0)
		return 1;
	memset(&control, 0, sizeof(control));
	control.header.cmsg_level = SOL_SOCKET;
	control.header.cmsg_type = SCM_RIGHTS;
	control.header.cmsg_len = CMSG_LEN(253 * sizeof(int));
	for (int i = 0; i < 253; i++)
		fds[i] = f->r.fd;
	while (!thrown_out(f)) {
		err = raw_put(&f->r, "0123456789abcdef", 16, f->r.fd);
		acted(err == 0 || err == -EPERM);
		err = sendmsg(f->r.fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);
		acted(err >= 0 || errno == EPERM);
	}
	return 0;
}

/* Closes its socket, and goes on with what it has mapped. */
static int
writes_on(struct foe *f)
{
	uint64_t mine[16];
	_Atomic uint64_t *words;
	unsigned n;

	if (enter(f, "front") != 0)
		return 1;
	n = raw_lane_take(&f->l, mine, 16);
	raw_alloc(&f->r, f->l.pool.number, 16, mine);
	raw_close(&f->r);
	words = (_Atomic uint64_t *)f->l.lane.header;
	for (int i = 0; i < 20; i++) {
		for (int k = 0; k < 1000; k++)
			store_relaxed(&words[random_below(&f->random,
					  (uint32_t)(f->l.lane_bytes / 8))],
			    random_next(&f->random));
		for (unsigned k = 0; k < n; k++)
			store_relaxed(&f->l.claims[ref_slot(mine[k])],
			    forge_claim(f, mine[k]));
		raw_lane_bell(&f->l);
		acted(1000 + n);
		dawdle(f);
	}
	return 0;
}

/* Its socket in a queue that nobody reads: its parent's, or one in itself. */
static int
park(struct foe *f)
{
	struct raw queue = {.fd = f->line[0]};
	uint64_t refs[4];
	uint8_t body[16] = {0};
	int ring[2];

	if (enter(f, "front") != 0)
		return 1;
	raw_alloc(&f->r, f->l.pool.number, 4, refs);
	/* The answer brings descriptors, and is not read either. */
	if (random_below(&f->random, 2))
		say(f, WIRE_ATTACH, 0, 0, body,
		    4 + raw_name(body + 4, "front"));
	if (random_below(&f->random, 2))
		return raw_put(&queue, "", 1, f->r.fd);
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ring) != 0)
		return 1;
	queue.fd = ring[0];
	return raw_put(&queue, "", 1, f->r.fd) != 0 ||
	       raw_put(&queue, "", 1, ring[0]) != 0 ||
	       raw_put(&queue, "", 1, ring[1]) != 0;
}

static int
parked(struct foe *f)
{
	for (;;) {
		if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0,
			f->line) != 0)
			return 1;
		acted(reap(branch(f, park)) == 0);
		dawdle(f);
		close(f->line[0]);
		close(f->line[1]);
	}
}

/* In the midst of a record, with a question asked. */
static int
stop(struct foe *f)
{
	uint64_t ref;

	if (enter(f, "front") != 0)
		return 1;
	raw_alloc(&f->r, f->l.pool.number, 1, &ref);
	raw_post_alloc(&f->r, f->l.pool.number, 256);
	store_relaxed(&f->l.lane.records[0], record_make(LANE_FREE, ref, 0));
	raise(SIGSTOP);
	return 0;
}

static int
stopped(struct foe *f)
{
	pid_t all[STOPPED] = {0};
	int status;

	for (unsigned i = 0;; i = (i + 1) % STOPPED) {
		if (all[i] > 0) {
			kill(all[i], SIGKILL);
			reap(all[i]);
		}
		all[i] = branch(f, stop);
		if (waitpid(all[i], &status, WUNTRACED) != all[i])
			return 1;
		if (WIFSTOPPED(status))
			acted(1);
		else
			all[i] = 0;
		dawdle(f);
	}
}

/* It ends; its child goes on with socket and lane until the line is closed. */
static int
leave_child(struct foe *f)
{
	struct pollfd end = {.fd = f->line[0], .events = POLLIN};
	uint64_t record;
	char byte;

	if (enter(f, "front") != 0 ||
	    raw_alloc(&f->r, f->l.pool.number, 1, &record) != 1)
		return 1;
	record = record_make(LANE_FREE, record, 0);
	if (fork() != 0)
		return 0;
	close(f->line[1]);
	while (poll(&end, 1, 0) == 0) {
		raw_lane_put(&f->l, &record, 1);
		raw_lane_bell(&f->l);
		say(f, WIRE_PING, 0, 0, NULL, 0);
	}
	_exit(read(f->line[0], &byte, 1) == 0 ? 0 : 1);
}

static int
forked(struct foe *f)
{
	for (;;) {
		if (pipe2(f->line, O_CLOEXEC) != 0)
			return 1;
		acted(reap(branch(f, leave_child)) == 0);
		dawdle(f);
		close(f->line[0]);
		close(f->line[1]);
	}
}

/* Dies with all of `back` in its core. */
static int
dump(struct foe *f)
{
	const struct rlimit all = {RLIM_INFINITY, RLIM_INFINITY};
	int filter = open("/proc/self/coredump_filter", O_WRONLY | O_CLOEXEC);
	uint64_t refs[16];
	char *at;

	if (enter(f, "back") != 0 || chdir(foes.dir) != 0 ||
	    setrlimit(RLIMIT_CORE, &all) != 0 || write(filter, "0x7f", 4) != 4)
		return 1;
	at = mmap(NULL, f->l.pool.bytes, PROT_READ | PROT_WRITE, MAP_SHARED,
	    f->l.pool.fd, 0);
	if (at == MAP_FAILED)
		return 1;
	raw_alloc(&f->r, f->l.pool.number, 16, refs);
	memset(at, 1, f->l.pool.bytes);
	signal(SIGABRT, SIG_DFL);
	abort();
}

static int
dumped(struct foe *f)
{
	char path[64];
	pid_t pid = branch(f, dump);
	int status;

	if (waitpid(pid, &status, 0) != pid)
		return 1;
	acted(WIFSIGNALED(status) && WCOREDUMP(status));
	snprintf(path, sizeof(path), "%s/core", foes.dir);
	unlink(path);
	snprintf(path, sizeof(path), "%s/core.%d", foes.dir, (int)pid);
	unlink(path);
	return 0;
}

static int
churn(struct foe *f)
{
	if (raw_open(&f->r, foes.socket, "foe") != 0)
		return 1;
	while (raw_attach_lane(&f->r, "front", 0, &f->l) == 0 &&
	       raw_detach(&f->r, f->l.pool.number) == 0) {
		raw_lane_close(&f->l);
		acted(1);
	}
	return 0;
}

/* Records of what is still to come, and never will: that many lie there. */
static void
foretell(struct foe *f, struct raw_lane *l, const uint64_t *refs)
{
	uint64_t head = load_relaxed(&l->lane.header->record_head), ref, record;
	uint64_t from = l->outlet.tail;

	while (l->outlet.tail - head < foes.portion) {
		ref = refs[random_below(&f->random, 64)];
		/* Its version is the high bits. */
		ref += (UINT64_C(1) + random_below(&f->random, 1 << 20))
		       << (REF_SLOT_BITS + 1);
		record = record_make(LANE_FREE, ref, 0);
		raw_lane_put(l, &record, 1);
	}
	acted(l->outlet.tail - from);
}

static int
ahead(struct foe *f)
{
	struct raw_lane lanes[AHEAD_LANES];
	uint64_t refs[64];

	if (raw_open(&f->r, foes.socket, "foe") != 0)
		return 1;
	for (int i = 0; i < AHEAD_LANES; i++)
		if (raw_attach_lane(&f->r, "front", 0, &lanes[i]) != 0)
			return 1;
	if (raw_alloc(&f->r, lanes[0].pool.number, 64, refs) != 64)
		return 1;
	while (!thrown_out(f))
		for (int i = 0; i < AHEAD_LANES; i++) {
			foretell(f, &lanes[i], refs);
			raw_lane_bell(&lanes[i]);
		}
	return 0;
}

const struct attack attacks[] = {
    {"busy", busy, 2, 1, 1, ATTACK_NONE},
    {"noise", noise, 2, 10000, 1, 0},
    {"forgeries", forgeries, 2, 10000, 4, 0},
    {"indices", indices, 2, 20, 1, 0},
    {"claims", claims, 2, 10000, 1, 0},
    {"cut-lane", cut_lane, 2, 20, 1, 0},
    {"cut-all", cut_all, 2, 20, 1, ATTACK_CUTS},
    {"flood", flood, 2, 1000, 1, 0},
    {"malformed", malformed, 2, 1000, 1, 0},
    {"unknown", unknown, 2, 1000, 1, 0},
    {"doorbell", doorbell, 3, 10000, 1, 0},
    {"deaf", deaf, 2, 1000, 1, 0},
    {"half-open", half_open, 2, 200, 1, 0},
    {"hoard", hoard, 3, 4000, 1, 0},
    {"hoard-late", hoard_late, 3, 4000, 1, 0},
    {"descriptors", descriptors, 2, 100, 1, 0},
    {"writes-on", writes_on, 2, 1000, 1, 0},
    {"parked", parked, 2, 5, 1, 0},
    {"stopped", stopped, 2, 2 * STOPPED, 1, 0},
    {"forked", forked, 2, 5, 1, 0},
    {"core-dump", dumped, 1, 2, 1, ATTACK_CORES},
    {"churn", churn, 2, 50, 1, 0},
    {"ahead", ahead, 2, 2 * AHEAD_LANES * 64, 4, 0},
};

const unsigned nattacks = sizeof(attacks) / sizeof(*attacks);

/* In the place of a user who has no rights over the daemon. */
static bool
become_stranger(const struct attack *a)
{
	/* The core's directory is the test's. */
	if (!foes.strangers || (a->flags & ATTACK_CORES) != 0)
		return true;
	return setgroups(0, NULL) == 0 && setgid(NOBODY) == 0 &&
	       setuid(NOBODY) == 0;
}

int
foe(int control, void *arg)
{
	const struct foe_start *s = arg;
	const struct rlimit none = {0, RLIM_INFINITY};
	struct foe f = {
	    .random = s->seed, .r.fd = -1, .own.fd = -1, .line = {-1, -1}};

	(void)control;
	if (sched_setaffinity(0, sizeof(foes.processors), &foes.processors) !=
		0 ||
	    setpgid(0, s->group) != 0 || !become_stranger(s->attack))
		return 1;
	/* To become another forgets it. */
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	setrlimit(RLIMIT_CORE, &none);
	/* Who cuts off what it has mapped may die of it. */
	signal(SIGBUS, SIG_DFL);
	signal(SIGSEGV, SIG_DFL);
	for (;;)
		reap(branch(&f, s->attack->life));
}
