/*
 * Where slots get their memory: sealed objects, which a manager keeps from one
 * daemon to the next; huge pages; pages cleared and locked beforehand; and
 * regions larger than 32 bits can say.
 */
#include "config.h"

#include <fcntl.h>
#include <linux/capability.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "lane.h"
#include "ledger.h"
#include "managed.h"
#include "slabd.h"

TestSuite(sealed, .timeout = 60, .fini = finish_all);
TestSuite(kept, .timeout = 60, .fini = finish_all);

static void
lane_of(struct raw *r, struct raw_lane *l)
{
	cr_assert_eq(raw_attach_lane(r, "p", 0, l), 0);
	cr_assert_not_null(l->lane.header);
}

/* What a client has been given has the size it has, whatever is tried. */
static void
try_to_resize(int fd)
{
	struct stat before, after;

	cr_assert_eq(fstat(fd, &before), 0);
	cr_assert_eq(ftruncate(fd, 0), -1);
	cr_assert_eq(errno, EPERM);
	cr_assert_eq(ftruncate(fd, before.st_size - 1), -1);
	cr_assert_eq(errno, EPERM);
	cr_assert_eq(ftruncate(fd, before.st_size + 4096), -1);
	cr_assert_eq(errno, EPERM);
	cr_assert_eq(fallocate(fd, 0, before.st_size, 4096), -1);
	cr_assert_eq(errno, EPERM);
	cr_assert_eq(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE), -1);
	cr_assert_eq(errno, EPERM);
	cr_assert_eq(fstat(fd, &after), 0);
	cr_assert_eq(after.st_size, before.st_size);
}

Test(sealed, nothing_can_be_cut)
{
	struct puppet a = {0}, b = {0};
	uint64_t ref, sent;
	struct raw_lane l;
	struct raw r;

	prepare(POOLS(POOL("p", SEALED)));
	begin();
	start_puppet(&a);
	start_puppet(&b);
	login(&r, "cutter");
	lane_of(&r, &l);
	ref = alloc_one(&r, l.pool.number);
	try_to_resize(l.pool.fd);
	try_to_resize(l.claims_fd);
	try_to_resize(l.lane_fd);
	cr_assert_eq(ftruncate(l.doorbell, 0), -1);
	pass(&a, &b, 1);
	pass(&b, &a, 2);
	/* It has done no harm, and goes on itself. */
	cr_assert_eq(raw_lane_send(&l, ref, &sent), 0);
	raw_lane_bell(&l);
	cr_assert_eq(puppet_receive(&a, sent, false, &ref), 0);
	raw_lane_close(&l);
	logout(&r);
	cr_assert_eq(puppet_end(&a), 0);
	cr_assert_eq(puppet_end(&b), 0);
	cr_assert_eq(figures("p").free, 64);
}

/* The manager has three objects of the pool, and the lanes of its clients. */
static unsigned
kept_now(void)
{
	cr_assert_eq(manager_run(&manager), 0);
	return manager.n;
}

Test(kept, slots_outlive_daemons)
{
	struct puppet a = {0}, b = {.flags = SLABD_NO_LANE};
	uint64_t ref, what;

	prepare(POOLS(POOL("p", SEALED)));
	begin();
	start_puppet(&a);
	start_puppet(&b);
	cr_assert_eq(kept_now(), 3 + 1);
	cr_assert_eq(puppet_take(&a, 50), 50);
	cr_assert_eq(puppet_take(&b, 30), 30);
	cr_assert_eq(puppet_send(&a, 7, &ref), 0);
	for (uint64_t i = 0; i < 4; i++) {
		restart();
		pass(&a, &b, i);
		pass(&b, &a, i);
	}
	cr_assert_eq(kept_now(), 3 + 1);
	cr_assert_eq(puppet_receive(&b, ref, false, &what), 0);
	cr_assert_eq(what, 7);
	cr_assert_eq(puppet_free(&a), 50);
	cr_assert_eq(puppet_free(&b), 30);
	cr_assert_eq(puppet_end(&a), 0);
	cr_assert_eq(puppet_end(&b), 0);
	cr_assert_eq(kept_now(), 3);
	await_all_free("p");
}

/* Who comes to the daemon in time, and who is away when it comes. */
Test(kept, set_aside_until_they_come)
{
	struct puppet a = {0};
	struct raw_stats s;

	prepare(POOLS(POOL("p", SEALED)));
	begin();
	start_puppet(&a);
	cr_assert_eq(puppet_take(&a, 20), 20);
	cr_assert_eq(server_kill(&server), 0);
	kill(a.pid, SIGSTOP);
	begin();
	s = figures("p");
	cr_assert_geq(s.quarantined, 20);
	cr_assert_eq(s.free + s.quarantined, s.slots);
	kill(a.pid, SIGCONT);
	cr_assert_eq(puppet_free(&a), 20);
	cr_assert_eq(puppet_end(&a), 0);
	cr_assert_eq(figures("p").free, 64);
}

Test(kept, after_a_stop)
{
	struct puppet a = {0};

	prepare(POOLS(POOL("p", SEALED)));
	begin();
	start_puppet(&a);
	cr_assert_eq(puppet_take(&a, 20), 20);
	kill(server.pid, SIGTERM);
	cr_assert_eq(server_wait(&server), 0);
	cr_assert_eq(kept_now(), 3 + 1);
	begin();
	cr_assert_eq(puppet_free(&a), 20);
	cr_assert_eq(puppet_end(&a), 0);
	cr_assert_eq(figures("p").free, 64);
}

Test(kept, who_died_meanwhile)
{
	struct puppet a = {0}, b = {.flags = SLABD_NO_LANE};

	prepare(POOLS(POOL("p", SEALED)));
	begin();
	start_puppet(&a);
	start_puppet(&b);
	cr_assert_eq(puppet_take(&a, 20), 20);
	cr_assert_eq(puppet_take(&b, 20), 20);
	cr_assert_eq(server_kill(&server), 0);
	puppet_kill(&a);
	puppet_kill(&b);
	begin();
	cr_assert_eq(figures("p").free, 64);
	cr_assert_eq(kept_now(), 3);
}

/* Pools come and go, and what they had in the store with them. */
Test(kept, not_configured_any_more)
{
	struct puppet a = {.pool = "q"};

	prepare(POOLS(POOL("p", SEALED) ", " POOL("q", SEALED)));
	begin();
	start_puppet(&a);
	cr_assert_eq(puppet_take(&a, 20), 20);
	cr_assert_eq(kept_now(), 3 + 3 + 1);
	cr_assert_eq(server_kill(&server), 0);
	cr_assert_eq(server_configure(&server, POOLS(POOL("p", SEALED))), 0);
	begin();
	cr_assert_eq(kept_now(), 3 + 3 + 1);
	cr_assert_eq(puppet_free(&a), 20);
	cr_assert_eq(puppet_end(&a), 0);
	cr_assert_eq(figures("p").free, 64);
	cr_assert_eq(kept_now(), 3);
	cr_assert_eq(server_kill(&server), 0);
	cr_assert_eq(server_configure(&server, POOLS("")), 0);
	begin();
	cr_assert_eq(kept_now(), 0);
}

/* What lies at hand is used up first; then it must ask, and learns. */
static void
expect_lost(struct puppet *p)
{
	int n;

	do
		n = puppet_take(p, 64);
	while (n > 0);
	cr_assert_eq(n, -ENOTRECOVERABLE, "%s", strerror(-n));
}

/* Its clients know that theirs is lost, and may begin anew. */
static void
expect_fresh(struct puppet *p)
{
	struct puppet another = {0};
	uint64_t ref;

	expect_lost(p);
	cr_assert_eq(puppet_take(p, 1), -ENOTRECOVERABLE);
	cr_assert_eq(puppet_send(p, 1, &ref), -ENOTRECOVERABLE);
	cr_assert_eq(puppet_free(p), -ENOTRECOVERABLE);
	start_puppet(&another);
	cr_assert_eq(puppet_take(&another, 64), 64);
	cr_assert_eq(puppet_end(&another), 0);
	cr_assert_eq(puppet_end(p), 0);
	await_all_free("p");
}

static void
lose_everything(unsigned flags)
{
	struct puppet a = {.flags = flags};

	prepare(POOLS(POOL("p", SEALED)));
	manager.forgetful = true;
	begin();
	start_puppet(&a);
	cr_assert_eq(puppet_take(&a, 20), 20);
	restart();
	expect_fresh(&a);
}

Test(kept, without_a_store)
{
	lose_everything(0);
}

Test(kept, without_a_store_nor_a_lane)
{
	lose_everything(SLABD_NO_LANE);
}

/* A store that had no room for all. */
static void
lose_one(const char *what)
{
	struct puppet a = {0};
	unsigned before;

	prepare(POOLS(POOL("p", SEALED)));
	begin();
	start_puppet(&a);
	cr_assert_eq(puppet_take(&a, 20), 20);
	before = kept_now();
	cr_assert_eq(server_kill(&server), 0);
	manager_lose(&manager, what);
	cr_assert_eq(manager.n, before - 1);
	begin();
	expect_fresh(&a);
	cr_assert_eq(kept_now(), 3);
}

Test(kept, without_the_ledger)
{
	lose_one(".ledger");
}

Test(kept, without_the_region)
{
	lose_one(".data");
}

Test(kept, without_the_claims)
{
	lose_one(".claims");
}

/* Its slots are its own still, until it says that it has done with them. */
Test(kept, without_a_lane)
{
	struct puppet a = {0}, b = {0};
	uint64_t ref, what;

	prepare(POOLS(POOL("p", SEALED)));
	begin();
	start_puppet(&a);
	cr_assert_eq(puppet_take(&a, 20), 20);
	start_puppet(&b);
	cr_assert_eq(puppet_send(&b, 1, &ref), 0);
	cr_assert_eq(kept_now(), 3 + 2);
	cr_assert_eq(server_kill(&server), 0);
	manager_lose(&manager, ".lane-1");
	cr_assert_eq(manager.n, 3 + 1);
	begin();
	cr_assert_geq(figures("p").quarantined, 20);
	cr_assert_eq(puppet_receive(&b, ref, false, &what), 0);
	expect_lost(&a);
	cr_assert_eq(puppet_end(&a), 0);
	cr_assert_eq(puppet_end(&b), 0);
	await_all_free("p");
	cr_assert_eq(kept_now(), 3);
}

/* Gives back all that is empty. */
static void
trim(void)
{
	uint8_t name[8];
	struct raw r;

	login(&r, "trims");
	cr_assert_geq(
	    raw_call(&r, WIRE_TRIM, 0, 0, name, raw_name(name, "p"), NULL), 0);
	raw_close(&r);
}

#define MIB (UINT64_C(1) << 20)

TestSuite(large, .timeout = 60, .fini = finish_all);

/* What a daemon would have left that had these segments, but for their memory. */
static void
leave(uint32_t first, uint32_t last)
{
	struct ledger_identity id;
	struct ledger ledger;
	char path[128];
	struct stat st;
	void *mem;
	int fd;

	snprintf(path, sizeof(path), "/dev/shm/%sp.ledger", server.prefix);
	fd = open(path, O_RDWR | O_CLOEXEC);
	cr_assert_eq(fstat(fd, &st), 0);
	mem = mmap(NULL, (size_t)st.st_size, PROT_READ | PROT_WRITE, MAP_SHARED,
	    fd, 0);
	cr_assert_neq(mem, MAP_FAILED);
	cr_assert_eq(ledger_open(&ledger, mem, (uint64_t)st.st_size, &id), 0);
	for (uint32_t i = first; i <= last; i++)
		ledger_segment_set(&ledger, i, LEDGER_ATTACHED);
	munmap(mem, (size_t)st.st_size);
	close(fd);
}

/*
 * Serves a pool of which segments first..last are there, without anybody having
 * had to attach gigabytes to get so far.
 */
static void
begin_with(const char *geometry, uint32_t first, uint32_t last)
{
	char text[256];

	snprintf(text, sizeof(text),
	    POOLS("{\"name\": \"p\", %s, \"min_segments\": 0, "
		  "\"max_clients\": 4, \"orphan_seconds\": 60}"),
	    geometry);
	prepare(text);
	begin();
	/* Not asked for anything it grows no segment, nor begins to. */
	cr_assert_eq(server_kill(&server), 0);
	leave(first, last);
	begin();
}

/* Writes the number to where the slot begins and where it ends. */
static void
mark(const struct raw_pool *p, uint32_t slot, uint64_t number)
{
	uint64_t at = slot * p->slot_size, end = at + p->slot_size - 8;

	cr_assert_eq(pwrite(p->fd, &number, 8, (off_t)at), 8);
	cr_assert_eq(pwrite(p->fd, &number, 8, (off_t)end), 8);
}

/* Sent by a client made of bytes, found by the library where it must be. */
static void
receive_there(struct puppet *p, uint64_t ref, uint64_t offset, uint64_t number)
{
	uint64_t got;
	int err = puppet_receive(p, ref, true, &got);

	cr_assert_eq(err, 0, "not received: %s", strerror(-err));
	cr_assert_eq(got, number);
	cr_assert_eq(puppet_offset(p, &got), 0);
	cr_assert_eq(got, offset);
}

/*
 * Of a pool that has but segment number `segment` the slot `index` and the one
 * before it go from hand to hand, by lane, through a restart, and by message.
 */
static void
pass_far_away(const char *geometry, uint32_t segment, uint32_t index)
{
	struct puppet a = {0}, b = {.flags = SLABD_NO_LANE};
	uint64_t refs[256], ref, stride;
	struct raw_lane l;
	uint32_t slot;
	struct raw r;
	int n;

	begin_with(geometry, segment, segment);
	login(&r, "far away");
	lane_of(&r, &l);
	n = (int)l.pool.segment_slots;
	stride = l.pool.slot_size;
	slot = segment * (uint32_t)n + index;
	cr_assert_eq(figures("p").slots, l.pool.segment_slots);
	cr_assert_eq(raw_alloc(&r, l.pool.number, (uint32_t)n, refs), n);
	cr_assert_eq(ref_slot(refs[index]), slot);
	start_puppet(&a);
	start_puppet(&b);
	mark(&l.pool, slot, 1);
	cr_assert_eq(raw_lane_send(&l, refs[index], &ref), 0);
	raw_lane_bell(&l);
	receive_there(&a, ref, slot * stride, 1);
	restart();
	cr_assert_eq(raw_reopen(&r, server.socket, "back"), 1);
	cr_assert_eq(raw_resume_lane(&r, &l), 0);
	mark(&l.pool, slot - 1, 2);
	cr_assert_eq(raw_send(&r, l.pool.number, refs[index - 1], &ref), 0);
	receive_there(&b, ref, (slot - 1) * stride, 2);
	cr_assert_eq(puppet_free(&a), 1);
	cr_assert_eq(puppet_free(&b), 1);
	raw_lane_close(&l);
	logout(&r);
	cr_assert_eq(puppet_end(&a), 0);
	cr_assert_eq(puppet_end(&b), 0);
	await_all_free("p");
}

/* Segments of 6 MiB, of which number 682 begins at 4092 MiB. */
#define STRADDLING                                             \
	"\"slot_size\": \"1536K\", \"slots_per_segment\": 4, " \
	"\"max_segments\": 700"

/* Its first byte is below 4 GiB, its last one beyond. */
Test(large, across_four_gib)
{
	pass_far_away(STRADDLING, 682, 2);
}

/* Where the region's memory begins, and how much there is. */
static void
check_memory(int fd, off_t from, long long bytes)
{
	struct stat st;

	cr_assert_eq(lseek(fd, 0, SEEK_DATA), from);
	cr_assert_eq(fstat(fd, &st), 0);
	cr_assert_eq(st.st_blocks * 512, bytes);
}

/* The segments below are full, so it is this one that comes, and that goes. */
Test(large, grows_beyond_four_gib)
{
	static uint64_t refs[683 * 4 + 1];
	unsigned n = 0, all = 683 * 4 + 1;
	struct raw_pool p;
	struct raw r;
	int got;

	begin_with(STRADDLING, 0, 682);
	login(&r, "full");
	cr_assert_eq(raw_attach(&r, "p", 0, &p), 0);
	for (; n < all; n += (unsigned)got) {
		got = raw_alloc(&r, p.number,
		    all - n < WIRE_BATCH_MAX ? all - n : WIRE_BATCH_MAX,
		    refs + n);
		cr_assert_gt(got, 0);
	}
	cr_assert_eq(ref_slot(refs[n - 1]), 683 * 4);
	mark(&p, 683 * 4, 3);
	check_memory(p.fd, (off_t)(4098 * MIB), (long long)(6 * MIB));
	cr_assert_eq(raw_free(&r, p.number, refs + n - 1, 1), 1);
	trim();
	for (int tries = 0; lseek(p.fd, 0, SEEK_DATA) >= 0; tries++) {
		cr_assert_lt(tries, 20000);
		poll(NULL, 0, 1);
	}
	close(p.fd);
	logout(&r);
}

/* The last one there can be, at 17 GiB. */
Test(large, last_of_all_slots)
{
	cr_assert_eq(65535u * 256 + 255, REF_SLOTS_MAX - 1);
	pass_far_away("\"slot_size\": 1088, \"slots_per_segment\": 256, "
		      "\"max_segments\": 65536",
	    65535, 255);
}

TestSuite(huge, .timeout = 60, .fini = finish_all);

#define KNOB	  "/proc/sys/vm/nr_hugepages"
#define HUGE_SLOT (64 * 1024)
#define PER_PAGE  32 /* of these slots */
#define ADDED	  5  /* an odd number */

static long long
meminfo(const char *format)
{
	FILE *file = fopen("/proc/meminfo", "re");
	long long value = -1;
	char line[128];

	while (file != NULL && fgets(line, sizeof(line), file) != NULL &&
	       sscanf(line, format, &value) != 1)
		continue;
	if (file != NULL)
		fclose(file);
	return value;
}

static long long
pages_free(void)
{
	return meminfo("HugePages_Free: %lld") -
	       meminfo("HugePages_Rsvd: %lld");
}

/* So many more, or fewer: how many it was. */
static long long
change_pages(long long by)
{
	FILE *file = fopen(KNOB, "r+e");
	long long before = 0, after = 0;

	if (file == NULL)
		return 0;
	if (fscanf(file, "%lld", &before) == 1) {
		rewind(file);
		fprintf(file, "%lld", before + by);
		fflush(file);
		rewind(file);
		if (fscanf(file, "%lld", &after) != 1)
			after = before;
	}
	fclose(file);
	return after - before;
}

/* Lends huge pages until nobody is at the other end; one test after the other. */
static void
lend_pages(int end)
{
	int knob = open(KNOB, O_RDONLY | O_CLOEXEC);
	long long given;
	char byte;

	setsid();
	for (int fd = 0; fd < 1024; fd++)
		if (fd != end && fd != knob)
			close(fd);
	given = flock(knob, LOCK_EX) < 0 ? 0 : change_pages(ADDED);
	tell(end, &given, sizeof(given));
	while (read(end, &byte, 1) > 0)
		continue;
	change_pages(-given);
	_exit(0);
}

/* Huge pages until this test has ended, however it does. */
static void
borrow_pages(void)
{
	long long given = 0;
	int ends[2];

	if (geteuid() != 0 || meminfo("Hugepagesize: %lld") != 2048)
		cr_skip_test("no huge pages of 2 MiB, or not root");
	cr_assert_eq(
	    socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
	if (fork() == 0)
		lend_pages(ends[0]);
	close(ends[0]);
	cr_assert_eq(hear(ends[1], &given, sizeof(given)), 0);
	if (given < ADDED)
		cr_skip_test("there is no room for huge pages");
}

static void
begin_huge(unsigned per_segment, unsigned segments)
{
	char text[256];

	snprintf(text, sizeof(text),
	    POOLS("{\"name\": \"p\", \"slot_size\": \"64K\", \"backing\": "
		  "\"hugetlb\", \"slots_per_segment\": %u, \"min_segments\": "
		  "0, \"max_segments\": %u, \"max_clients\": 4}"),
	    per_segment, segments);
	prepare(text);
	begin();
}

/* All that is empty, but perhaps one segment, goes back to the system. */
static void
await_pages(long long least)
{
	trim();
	for (int tries = 0; pages_free() < least; tries++) {
		cr_assert_lt(tries, 20000, "%lld pages", pages_free());
		poll(NULL, 0, 1);
	}
}

Test(huge, pages)
{
	struct puppet a = {0}, b = {.flags = SLABD_NO_LANE};
	long long pages;
	int slots;

	borrow_pages();
	pages = pages_free();
	if (pages > 100)
		cr_skip_test("there are too many huge pages to use all");
	slots = (int)pages / 2 * 2 * PER_PAGE;
	begin_huge(2 * PER_PAGE, (unsigned)pages);
	start_puppet(&a);
	start_puppet(&b);
	pass(&a, &b, 1);
	/* More than there are is an error, and no more than that. */
	cr_assert_eq(puppet_take(&a, (unsigned)slots), slots);
	cr_assert_eq(puppet_take(&a, 1), -ENOSPC);
	cr_assert_eq(puppet_take(&b, 1), -ENOSPC);
	/* What there was of a segment that did not come is given back. */
	cr_assert_eq(pages_free(), pages % 2);
	cr_assert_eq(figures("p").used, (unsigned)slots);
	restart();
	cr_assert_eq(puppet_free(&a), slots);
	pass(&b, &a, 2);
	await_pages(pages - 2);
	/* And they are to be had once more. */
	cr_assert_eq(puppet_take(&a, (unsigned)slots), slots);
	cr_assert_eq(puppet_free(&a), slots);
	cr_assert_eq(puppet_end(&a), 0);
	cr_assert_eq(puppet_end(&b), 0);
	await_pages(pages - 2);
	cr_assert_null(server_stop(&server, SIGTERM));
	cr_assert_eq(manager_run(&manager), 0);
	cr_assert_eq(pages_free(), pages);
}

/* Segments of one page and a quarter have pages in common. */
Test(huge, pages_in_common)
{
	struct puppet a = {0}, b = {0};
	uint64_t ref, what;

	borrow_pages();
	begin_huge(PER_PAGE + PER_PAGE / 4, 3);
	start_puppet(&a);
	start_puppet(&b);
	for (uint64_t i = 1; i <= 3; i++) {
		cr_assert_eq(puppet_take(&a, 3 * 40 - 1), 3 * 40 - 1);
		cr_assert_eq(puppet_send(&a, i, &ref), 0);
		cr_assert_eq(puppet_receive(&b, ref, true, &what), 0);
		cr_assert_eq(what, i);
		cr_assert_eq(puppet_free(&a), 3 * 40 - 1);
		await_pages(1);
		cr_assert_eq(puppet_free(&b), 1);
	}
	cr_assert_eq(puppet_end(&a), 0);
	cr_assert_eq(puppet_end(&b), 0);
}

TestSuite(memory, .timeout = 60, .fini = finish_all);

/* How many of the first segment's pages have content already. */
static unsigned
pages_filled(const char *more)
{
	unsigned char filled[64];
	unsigned n = 0;
	struct raw_stats s;
	struct raw_pool p;
	struct raw r;
	void *at;

	prepare(more);
	begin();
	login(&r, "looks");
	STATS_UNTIL(&r, "p", s, s.slots == 64);
	cr_assert_eq(raw_attach(&r, "p", 0, &p), 0);
	at = mmap(NULL, 64 * 4096, PROT_READ | PROT_WRITE, MAP_SHARED, p.fd, 0);
	cr_assert_neq(at, MAP_FAILED);
	cr_assert_eq(mincore(at, 64 * 4096, filled), 0);
	for (int i = 0; i < 64; i++)
		n += filled[i] & 1;
	munmap(at, 64 * 4096);
	close(p.fd);
	logout(&r);
	return n;
}

Test(memory, prefault)
{
	cr_assert_eq(
	    pages_filled(POOLS(POOL("p", ", \"prefault\": true"))), 64);
}

Test(memory, prefault_sealed)
{
	cr_assert_eq(
	    pages_filled(POOLS(POOL("p", SEALED ", \"prefault\": true"))), 64);
}

Test(memory, no_prefault)
{
	cr_assert_eq(pages_filled(POOLS(POOL("p", ""))), 0);
}

#define LOCKED ", \"lock\": true"

/* Until the helper, the daemon's only child, has so much locked. */
static void
await_locked(unsigned long kib)
{
	unsigned long locked = 0;
	char path[64], line[128];
	int helper = 0;
	FILE *file;

	for (int tries = 0; tries < 20000; tries++) {
		snprintf(path, sizeof(path), "/proc/%d/task/%d/children",
		    (int)server.pid, (int)server.pid);
		file = fopen(path, "re");
		cr_assert_not_null(file);
		cr_assert_eq(fscanf(file, "%d", &helper), 1);
		fclose(file);
		snprintf(path, sizeof(path), "/proc/%d/status", helper);
		file = fopen(path, "re");
		cr_assert_not_null(file);
		while (fgets(line, sizeof(line), file) != NULL)
			sscanf(line, "VmLck: %lu", &locked);
		fclose(file);
		if (locked == kib)
			return;
		poll(NULL, 0, 1);
	}
	cr_assert_fail("%lu KiB are locked, not %lu", locked, kib);
}

/* Sanitizers turn mlock(2) into nothing. */
static void
prepare_to_lock(const char *text)
{
	const char *sanitizers = getenv("SANITIZERS");

	if (sanitizers != NULL && *sanitizers != '\0')
		cr_skip_test("nothing is locked under sanitizers");
	prepare(text);
}

static void
keep_locked(const char *text)
{
	struct puppet a = {0};

	prepare_to_lock(text);
	begin();
	await_locked(256);
	start_puppet(&a);
	cr_assert_eq(puppet_take(&a, 128), 128);
	await_locked(512);
	/* What one helper had locked the next one locks. */
	restart();
	await_locked(512);
	cr_assert_eq(puppet_free(&a), 128);
	cr_assert_eq(puppet_end(&a), 0);
	trim();
	await_locked(256);
}

Test(memory, lock)
{
	keep_locked(POOLS(POOL("p", LOCKED)));
}

Test(memory, lock_sealed)
{
	keep_locked(POOLS(POOL("p", SEALED LOCKED)));
}

/* Who may not lock has no segments, and keeps no memory for them. */
Test(memory, lock_refused)
{
	struct rlimit little = {128 * 1024, 128 * 1024};
	struct raw r;
	uint64_t ref;
	uint32_t at;

	if (prctl(PR_CAPBSET_DROP, CAP_IPC_LOCK) < 0 ||
	    prctl(PR_CAPBSET_DROP, CAP_SYS_RESOURCE) < 0)
		cr_skip_test("only root may lock without a limit");
	cr_assert_eq(setrlimit(RLIMIT_MEMLOCK, &little), 0);
	prepare_to_lock(POOLS(POOL("p", LOCKED)));
	begin();
	login(&r, "a");
	at = attach(&r, "p");
	cr_assert_eq(raw_alloc(&r, at, 1, &ref), -ENOSPC);
	cr_assert_eq(server_region_bytes(&server, "p"), 0);
	cr_assert(server_logged(&server, "cannot attach a segment"));
	logout(&r);
}
