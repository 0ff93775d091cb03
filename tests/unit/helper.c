#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <poll.h>
#include <sched.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#include "daemon/headroom.h"
#include "daemon/helper.h"
#include "daemon/instance.h"
#include "daemon/log.h"
#include "daemon/region.h"
#include "cgroup.h"
#include "scratch.h"

#define PAGE UINT64_C(4096)
#define MIB  (UINT64_C(1) << 20)

TestSuite(helper, .timeout = 60, .init = scratch_open, .fini = scratch_close);

/* The next result, however long it takes. */
static int
next_result(struct helper *helper, struct helper_result *result)
{
	struct pollfd ready = {.fd = helper_fd(helper), .events = POLLIN};
	int rc;

	while ((rc = helper_read(helper, result)) == 0)
		poll(&ready, 1, -1);
	return rc;
}

/* Runs one job to its end. */
static struct helper_result
run_job(struct helper *helper, const struct helper_job *job)
{
	struct helper_result result = {.status = 1};
	int rc = helper_submit(helper, job);

	if (rc == 0)
		rc = next_result(helper, &result);
	return rc < 0 ? (struct helper_result){.status = rc} : result;
}

static struct helper_result
run(struct helper *helper, enum helper_kind kind, int fd, uint64_t offset,
    uint64_t bytes)
{
	struct helper_job job = {
	    .id = 99, .kind = kind, .fd = fd, .offset = offset, .bytes = bytes};

	return run_job(helper, &job);
}

static struct helper *helper;
static struct region region;

static void
start(void)
{
	scratch_open();
	cr_assert_eq(helper_start(&helper), 0);
	cr_assert_eq(
	    region_create(&region, scratch_name("a"), 1024 * MIB, REGION_POSIX),
	    0);
}

static void
stop(void)
{
	helper_stop(helper);
	region_remove(&region);
	scratch_close();
}

TestSuite(helping, .timeout = 60, .init = start, .fini = stop);

Test(helping, attach_and_detach)
{
	struct helper_result result;

	result = run(helper, HELPER_ATTACH, region.fd, 5 * PAGE, 3 * PAGE);
	cr_assert_eq(result.status, 0);
	cr_assert_eq(result.id, 99);
	cr_assert_eq(result.needed, 0);
	cr_assert_eq(result.available, 0);
	cr_assert_eq(region_allocated(region.fd), 3 * PAGE);
	for (unsigned i = 5; i < 8; i++)
		cr_assert_eq(pwrite(region.fd, "x", 1, (off_t)(i * PAGE)), 1);
	cr_assert_eq(region_allocated(region.fd), 3 * PAGE);
	result = run(helper, HELPER_DETACH, region.fd, 5 * PAGE, 2 * PAGE);
	cr_assert_eq(result.status, 0);
	cr_assert_eq(region_allocated(region.fd), PAGE);
	cr_assert_eq(lseek(region.fd, 0, SEEK_DATA), 7 * PAGE);
	cr_assert_eq(lseek(region.fd, 0, SEEK_END), 1024 * MIB);
}

Test(helping, more_than_one_step)
{
	cr_assert_eq(
	    run(helper, HELPER_ATTACH, region.fd, 0, 130 * MIB + PAGE).status,
	    0);
	cr_assert_eq(region_allocated(region.fd), 130 * MIB + PAGE);
}

/* Far more than run at once, and the descriptor is not needed any longer. */
Test(helping, many_jobs_in_order)
{
	struct helper_result result;
	struct helper_job job = {
	    .kind = HELPER_ATTACH, .fd = region.fd, .bytes = PAGE};

	for (job.id = 0; job.id < 300; job.id++) {
		job.offset = job.id * PAGE;
		cr_assert_eq(helper_submit(helper, &job), 0);
	}
	for (uint64_t id = 0; id < 300; id++) {
		cr_assert_eq(next_result(helper, &result), 1);
		cr_assert_eq(result.id, id);
		cr_assert_eq(result.status, 0);
	}
	cr_assert_eq(helper_read(helper, &result), 0);
	cr_assert_eq(region_allocated(region.fd), 300 * PAGE);
}

Test(helping, stopped_with_jobs_waiting)
{
	struct helper_job job = {
	    .kind = HELPER_ATTACH, .fd = region.fd, .bytes = MIB};

	for (job.id = 0; job.id < 100; job.id++)
		cr_assert_eq(helper_submit(helper, &job), 0);
}

Test(helping, bad_ranges)
{
	static const struct {
		uint64_t offset, bytes;
	} table[] = {
	    {0, 0},
	    {1024 * MIB, PAGE},
	    {1023 * MIB, MIB + PAGE},
	    {UINT64_MAX - PAGE + 1, PAGE},
	    {PAGE, UINT64_MAX},
	    {0, UINT64_MAX},
	};

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		cr_assert_eq(run(helper, HELPER_ATTACH, region.fd,
				 table[i].offset, table[i].bytes)
				 .status,
		    -EINVAL);
		cr_assert_eq(run(helper, HELPER_DETACH, region.fd,
				 table[i].offset, table[i].bytes)
				 .status,
		    -EINVAL);
	}
	cr_assert_eq(region_allocated(region.fd), 0);
}

Test(helping, descriptor_that_cannot_write)
{
	int fd = region_open_readonly(&region);
	struct helper_result result;

	result = run(helper, HELPER_ATTACH, fd, 0, PAGE);
	cr_assert_eq(result.status, -EBADF);
	cr_assert_eq(result.needed, PAGE);
	cr_assert_eq(run(helper, HELPER_DETACH, fd, 0, PAGE).status, -EBADF);
	close(fd);
	cr_assert_eq(run(helper, HELPER_ATTACH, fd, 0, PAGE).status, -EBADF);
	cr_assert_eq(run(helper, HELPER_ATTACH, region.fd, 0, PAGE).status, 0);
}

Test(helping, signals_for_the_daemon_do_not_end_it)
{
	cr_assert_eq(run(helper, HELPER_ATTACH, region.fd, 0, PAGE).status, 0);
	kill(helper_pid(helper), SIGTERM);
	kill(helper_pid(helper), SIGINT);
	kill(helper_pid(helper), SIGHUP);
	cr_assert_eq(run(helper, HELPER_ATTACH, region.fd, 0, PAGE).status, 0);
}

Test(helping, its_end_is_told)
{
	struct helper_result result;
	struct helper_job job = {
	    .kind = HELPER_ATTACH, .fd = region.fd, .bytes = PAGE};

	log_set_level(SLABD_LOG_ERROR);
	cr_assert_eq(run(helper, HELPER_ATTACH, region.fd, 0, PAGE).status, 0);
	kill(helper_pid(helper), SIGKILL);
	cr_assert_eq(next_result(helper, &result), -EPIPE);
	cr_assert_eq(helper_read(helper, &result), -EPIPE);
	cr_assert_eq(helper_submit(helper, &job), -EPIPE);
}

/* A stopped helper takes nothing: the daemon must not wait for it. */
Test(helping, stopped_helper_does_not_stop_us)
{
	struct helper_result result;
	struct helper_job job = {
	    .kind = HELPER_ATTACH, .fd = region.fd, .bytes = PAGE};

	kill(helper_pid(helper), SIGSTOP);
	for (job.id = 0; job.id < 1000; job.id++)
		cr_assert_eq(helper_submit(helper, &job), 0);
	cr_assert_eq(helper_read(helper, &result), 0);
	kill(helper_pid(helper), SIGCONT);
	for (uint64_t id = 0; id < 1000; id++) {
		cr_assert_eq(next_result(helper, &result), 1);
		cr_assert_eq(result.id, id);
	}
}

/*
 * With room in the helper again, a new job still goes behind those waiting:
 * more of them than a socket holds.
 */
Test(helping, no_job_overtakes)
{
	struct helper_result result;
	struct helper_job job = {
	    .kind = HELPER_DETACH, .fd = region.fd, .bytes = PAGE};

	kill(helper_pid(helper), SIGSTOP);
	for (job.id = 0; job.id < 400; job.id++)
		cr_assert_eq(helper_submit(helper, &job), 0);
	kill(helper_pid(helper), SIGCONT);
	cr_assert_eq(next_result(helper, &result), 1);
	cr_assert_eq(result.id, 0);
	cr_assert_eq(helper_submit(helper, &job), 0);
	for (uint64_t id = 1; id <= 400; id++) {
		cr_assert_eq(next_result(helper, &result), 1);
		cr_assert_eq(result.id, id);
	}
}

/* Whether process `pid` has a descriptor beyond the first four. */
static bool
has_more_descriptors(pid_t pid)
{
	char path[64];
	struct dirent *entry;
	bool more = false;
	DIR *directory;

	snprintf(path, sizeof(path), "/proc/%d/fd", (int)pid);
	directory = opendir(path);
	if (directory == NULL && errno == EACCES)
		cr_skip_test("only root can look into the helper");
	cr_assert_not_null(directory);
	while ((entry = readdir(directory)) != NULL)
		more |= atoi(entry->d_name) > 3;
	closedir(directory);
	return more;
}

Test(helper, holds_no_descriptor_of_ours)
{
	int marker = open("/dev/null", O_RDONLY);
	int fds[20];

	for (size_t i = 0; i < 20; i++)
		fds[i] = dup(marker);
	cr_assert_eq(helper_start(&helper), 0);
	cr_assert_eq(
	    region_create(&region, scratch_name("a"), MIB, REGION_POSIX), 0);
	cr_assert_eq(run(helper, HELPER_ATTACH, region.fd, 0, PAGE).status, 0);
	cr_assert_not(has_more_descriptors(helper_pid(helper)));
	for (size_t i = 0; i < 20; i++)
		close(fds[i]);
	close(marker);
	helper_stop(helper);
	region_remove(&region);
}

Test(helper, stop_accepts_null)
{
	helper_stop(NULL);
}

/* Tells its helper's pid, once that is at work, and waits to be killed. */
static int
daemon_child(void *arg)
{
	pid_t pid;

	CHECK(helper_start(&helper) == 0);
	CHECK(run(helper, HELPER_DETACH, *(int *)arg, 0, 0).status == -EINVAL);
	pid = helper_pid(helper);
	CHECK(write(*(int *)arg, &pid, sizeof(pid)) == sizeof(pid));
	for (;;)
		pause();
}

/*
 * Kills a daemon whose helper got `signo` before, and waits for the helper; one
 * that stays must not stay for ever.
 */
static void
check_death(int signo)
{
	int ends[2], died;
	pid_t pid, daemon;
	struct pollfd end = {.events = POLLIN};

	cr_assert_eq(pipe(ends), 0);
	daemon = child_start(daemon_child, &ends[1]);
	cr_assert_eq(read(ends[0], &pid, sizeof(pid)), sizeof(pid));
	end.fd = (int)syscall(SYS_pidfd_open, pid, 0);
	cr_assert_geq(end.fd, 0);
	cr_assert_eq(kill(pid, signo), 0);
	cr_assert_eq(poll(&end, 1, 0), 0);
	kill(daemon, SIGKILL);
	cr_assert_eq(child_wait(daemon), -SIGKILL);
	died = poll(&end, 1, 10000);
	if (died != 1)
		kill(pid, SIGKILL);
	cr_assert_eq(died, 1);
	close(end.fd);
}

Test(helper, dies_with_the_daemon)
{
	check_death(0);
}

/* As if in the middle of a long job, when it does not see the socket close. */
Test(helper, dies_with_the_daemon_at_once)
{
	check_death(SIGSTOP);
}

/* The kilobytes that a process has of something. */
static unsigned long
status_kb(pid_t pid, const char *key)
{
	char path[64], line[256];
	unsigned long kb = 0;
	FILE *status;

	snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
	status = fopen(path, "re");
	while (status != NULL && fgets(line, sizeof(line), status) != NULL)
		if (strncmp(line, key, strlen(key)) == 0)
			sscanf(line + strlen(key), ": %lu", &kb);
	if (status != NULL)
		fclose(status);
	return kb;
}

/* Sanitizers make mlock(2) a call that does nothing. */
static bool
can_lock(void)
{
	static char page[2 * PAGE];

	return mlock(page, sizeof(page)) == 0 &&
	       status_kb(getpid(), "VmLck") > 0;
}

static void
need_lock(void)
{
	if (!can_lock())
		cr_skip_test("memory cannot be locked here");
}

static unsigned long
locked_pages(void)
{
	return status_kb(helper_pid(helper), "VmLck") * 1024 / PAGE;
}

/* What lies in a hole is not locked, and what is locked elsewhere stays. */
Test(helping, locks_while_it_is_attached)
{
	struct helper_job job = {.kind = HELPER_ATTACH,
	    .fd = region.fd,
	    .offset = 5 * PAGE,
	    .bytes = 8 * PAGE,
	    .lock = true};

	need_lock();
	cr_assert_eq(run_job(helper, &job).status, 0);
	cr_assert_eq(locked_pages(), 8);
	cr_assert_eq(run_job(helper, &job).status, 0);
	cr_assert_eq(locked_pages(), 8);
	cr_assert_eq(
	    run(helper, HELPER_DETACH, region.fd, 6 * PAGE, 2 * PAGE).status,
	    0);
	cr_assert_eq(locked_pages(), 6);
	cr_assert_eq(region_allocated(region.fd), 6 * PAGE);
	cr_assert_eq(
	    run(helper, HELPER_DETACH, region.fd, 0, 100 * PAGE).status, 0);
	cr_assert_eq(locked_pages(), 0);
	cr_assert_eq(region_allocated(region.fd), 0);
}

/* As the daemon after a killed one does: memory and content stay. */
Test(helping, locks_what_is_there)
{
	struct helper_job job = {.kind = HELPER_LOCK,
	    .fd = region.fd,
	    .offset = PAGE,
	    .bytes = 4 * PAGE};
	char text[5] = "";

	need_lock();
	cr_assert_eq(
	    run(helper, HELPER_ATTACH, region.fd, 0, 8 * PAGE).status, 0);
	cr_assert_eq(pwrite(region.fd, "kept", 4, 2 * PAGE), 4);
	cr_assert_eq(locked_pages(), 0);
	cr_assert_eq(run_job(helper, &job).status, 0);
	cr_assert_eq(locked_pages(), 4);
	cr_assert_eq(pread(region.fd, text, 4, 2 * PAGE), 4);
	cr_assert_str_eq(text, "kept");
	cr_assert_eq(region_allocated(region.fd), 8 * PAGE);
}

Test(helping, locks_in_an_object_that_has_grown)
{
	struct helper_job job = {.kind = HELPER_ATTACH,
	    .fd = region.fd,
	    .bytes = 2 * PAGE,
	    .lock = true};

	need_lock();
	cr_assert_eq(run_job(helper, &job).status, 0);
	cr_assert_eq(region_grow(&region, 2048 * MIB), 0);
	job.offset = 1500 * MIB;
	cr_assert_eq(run_job(helper, &job).status, 0);
	cr_assert_eq(locked_pages(), 4);
	cr_assert_eq(run(helper, HELPER_DETACH, region.fd, 0, PAGE).status, 0);
	cr_assert_eq(locked_pages(), 3);
	cr_assert_eq(run(helper, HELPER_FORGET, region.fd, 0, 0).status, 0);
	cr_assert_eq(locked_pages(), 0);
	cr_assert_eq(region_allocated(region.fd), 3 * PAGE);
}

/* Larger than any address space, as a sealed object with room to grow may be. */
Test(helping, locks_in_a_huge_sparse_object)
{
	struct helper_job job = {.kind = HELPER_ATTACH,
	    .offset = 4096 * MIB,
	    .bytes = 2 * PAGE,
	    .lock = true};
	struct region huge;

	need_lock();
	cr_assert_eq(region_create(&huge, scratch_name("b"), UINT64_C(1) << 54,
			 REGION_MEMFD),
	    0);
	job.fd = huge.fd;
	cr_assert_eq(run_job(helper, &job).status, 0);
	job.offset *= 4;
	cr_assert_eq(run_job(helper, &job).status, 0);
	cr_assert_eq(locked_pages(), 4);
	cr_assert_eq(
	    run(helper, HELPER_DETACH, huge.fd, 0, 5 * job.offset).status, 0);
	cr_assert_eq(locked_pages(), 0);
	cr_assert_eq(region_allocated(huge.fd), 0);
	region_remove(&huge);
}

/* The memory of an object that is forgotten ends with the object. */
Test(helping, forgotten_object_is_not_kept_alive)
{
	struct helper_job job = {.kind = HELPER_ATTACH,
	    .fd = region.fd,
	    .bytes = 4 * MIB,
	    .lock = true};
	struct region other;

	need_lock();
	cr_assert_eq(
	    region_create(&other, scratch_name("b"), MIB, REGION_MEMFD), 0);
	cr_assert_eq(run_job(helper, &job).status, 0);
	job.fd = other.fd;
	job.bytes = PAGE;
	cr_assert_eq(run_job(helper, &job).status, 0);
	cr_assert_geq(status_kb(helper_pid(helper), "RssShmem"), 4 << 10);
	cr_assert_eq(run(helper, HELPER_FORGET, region.fd, 0, 0).status, 0);
	cr_assert_leq(status_kb(helper_pid(helper), "RssShmem"), 1 << 10);
	cr_assert_eq(locked_pages(), 1);
	region_remove(&other);
}

/* Neither truncated nor punched memory ends the helper. */
Test(helping, locked_memory_that_is_taken_away)
{
	struct helper_job job = {.kind = HELPER_ATTACH,
	    .fd = region.fd,
	    .bytes = MIB,
	    .prefault = true,
	    .lock = true};

	need_lock();
	cr_assert_eq(run_job(helper, &job).status, 0);
	cr_assert_eq(
	    fallocate(region.fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0,
		MIB / 2),
	    0);
	cr_assert_eq(ftruncate(region.fd, PAGE), 0);
	cr_assert_eq(run_job(helper, &job).status, -EINVAL);
	job.kind = HELPER_LOCK;
	job.bytes = PAGE;
	cr_assert_eq(run_job(helper, &job).status, 0);
	cr_assert_eq(region_grow(&region, 1024 * MIB), 0);
	job.kind = HELPER_ATTACH;
	job.bytes = MIB;
	cr_assert_eq(run_job(helper, &job).status, 0);
	cr_assert_eq(region_allocated(region.fd), MIB);
	cr_assert_eq(locked_pages(), MIB / PAGE);
}

static int
lock_limited(void *arg)
{
	struct rlimit limit = {64 * 1024, 64 * 1024};
	struct helper_job job = {
	    .kind = HELPER_ATTACH, .offset = PAGE, .bytes = MIB, .lock = true};
	struct helper_result result;

	(void)arg;
	if (!can_lock())
		return SKIP;
	CHECK(region_create(
		  &region, scratch_name("a"), 64 * MIB, REGION_MEMFD) == 0);
	CHECK(setrlimit(RLIMIT_MEMLOCK, &limit) == 0);
	/* Root may lock as much as it likes. */
	if (geteuid() == 0)
		CHECK(setgid(65534) == 0 && setuid(65534) == 0);
	CHECK(helper_start(&helper) == 0);
	job.fd = region.fd;
	result = run_job(helper, &job);
	CHECK(result.status == -EPERM);
	CHECK(result.needed == MIB);
	CHECK(result.available == 0);
	CHECK(region_allocated(region.fd) == 0);
	job.bytes = 8 * PAGE;
	CHECK(run_job(helper, &job).status == 0);
	CHECK(locked_pages() == 8);
	job.lock = false;
	job.offset = 0;
	job.bytes = MIB;
	CHECK(run_job(helper, &job).status == 0);
	job.kind = HELPER_LOCK;
	CHECK(run_job(helper, &job).status == -EPERM);
	CHECK(region_allocated(region.fd) == MIB);
	helper_stop(helper);
	return 0;
}

Test(helper, lock_limit_is_an_error)
{
	child_check(lock_limited, NULL);
}

/* Page faults of the helper's workers so far. */
static unsigned long
worker_faults(void)
{
	unsigned long faults = 0;
	char path[64];
	FILE *stat;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)helper_pid(helper));
	stat = fopen(path, "re");
	cr_assert_not_null(stat);
	cr_assert_eq(
	    fscanf(stat, "%*d (%*[^)]) %*c %*d %*d %*d %*d %*d %*u %*u %lu",
		&faults),
	    1);
	fclose(stat);
	return faults;
}

/* Clearing a page is a fault of the worker; memory and content are the same. */
Test(helping, prefault_touches_every_page)
{
	struct helper_job job = {.kind = HELPER_ATTACH,
	    .fd = region.fd,
	    .offset = 3 * PAGE,
	    .bytes = 4 * MIB};
	unsigned long before = worker_faults(), plain;
	char text[5] = "";

	cr_assert_eq(run_job(helper, &job).status, 0);
	cr_assert_eq(pwrite(region.fd, "kept", 4, 4 * PAGE), 4);
	plain = worker_faults() - before;
	job.prefault = true;
	cr_assert_eq(run_job(helper, &job).status, 0);
	cr_assert_geq(
	    worker_faults() - before, 2 * plain + job.bytes / PAGE / 2);
	cr_assert_eq(region_allocated(region.fd), job.bytes);
	cr_assert_eq(pread(region.fd, text, 4, 4 * PAGE), 4);
	cr_assert_str_eq(text, "kept");
	cr_assert_eq(status_kb(helper_pid(helper), "VmLck"), 0);
}

/* A region of huge pages, and how much memory there is for it. */
static uint64_t
huge_open(struct region *huge)
{
	uint64_t room;

	if (region_create(huge, scratch_name("h"), 1024 * MIB, REGION_HUGETLB) <
	    0)
		cr_skip_test("no huge pages in this kernel");
	room = region_huge_room(huge->fd);
	if (room >= huge->bytes)
		cr_skip_test("too many huge pages");
	return room;
}

/* One more than there are: those that came must go again. */
Test(helping, missing_huge_page_is_an_error)
{
	struct helper_job job = {
	    .kind = HELPER_ATTACH, .prefault = true, .lock = true};
	struct helper_result result;
	struct region huge;
	uint64_t room = huge_open(&huge);

	job.fd = huge.fd;
	job.bytes = room + huge.page_bytes;
	result = run_job(helper, &job);
	if (result.status == 0)
		cr_skip_test("huge pages on demand");
	cr_assert_eq(result.status, -ENOSPC);
	cr_assert_eq(result.needed, job.bytes);
	cr_assert_eq(result.available, room);
	cr_assert_eq(region_allocated(huge.fd), 0);
	cr_assert_eq(region_huge_room(huge.fd), room);
	region_remove(&huge);
}

Test(helping, huge_pages_come_and_go)
{
	struct helper_job job = {
	    .kind = HELPER_ATTACH, .prefault = true, .lock = true};
	struct region huge;
	uint64_t room = huge_open(&huge);

	if (room == 0)
		cr_skip_test("no huge page is free");
	job.fd = huge.fd;
	job.bytes = room;
	cr_assert_eq(run_job(helper, &job).status, 0);
	cr_assert_eq(region_allocated(huge.fd), room);
	cr_assert_eq(region_huge_room(huge.fd), 0);
	cr_assert_eq(run(helper, HELPER_DETACH, huge.fd, 0, room).status, 0);
	cr_assert_eq(region_huge_room(huge.fd), room);
	region_remove(&huge);
}

/* Serves, with a guard, and has the helper begin a job that it can never end. */
static int
guarded_daemon(void *arg)
{
	struct helper_job job = {.kind = HELPER_ATTACH, .bytes = PAGE};
	struct instance instance;
	int *ends = arg, guard;
	pid_t pid;

	CHECK(helper_start(&helper) == 0);
	CHECK(instance_open(&instance, scratch_path("sock")) == 0);
	CHECK(instance_wait_helper(&instance) == 0);
	guard = instance_guard(&instance);
	CHECK(guard >= 0);
	CHECK(helper_guard(helper, guard) == 0);
	close(guard);
	CHECK(
	    region_create(&region, scratch_name("a"), MIB, REGION_POSIX) == 0);
	CHECK(run(helper, HELPER_DETACH, region.fd, 0, PAGE).status == 0);
	pid = helper_pid(helper);
	CHECK(write(ends[1], &pid, sizeof(pid)) == sizeof(pid));
	/* The test has taken hold of the helper. */
	CHECK(read(ends[2], &pid, 1) == 1);
	job.fd = region.fd;
	CHECK(helper_submit(helper, &job) == 0);
	for (;;)
		pause();
}

/* Whether somebody holds the helper's lock, or has it in a message. */
static bool
guard_is_held(const struct instance *instance)
{
	struct flock lock = {.l_type = F_WRLCK, .l_len = 1};

	cr_assert_eq(fcntl(instance->lock_fd, F_OFD_GETLK, &lock), 0);
	return lock.l_type != F_UNLCK;
}

/* Waits until a process that is traced stops for `event`. */
static pid_t
stopped_at(pid_t pid, int event)
{
	int status;

	for (;;) {
		pid = waitpid(pid, &status, __WALL);
		cr_assert_gt(pid, 0);
		cr_assert(WIFSTOPPED(status), "%d is gone", (int)pid);
		if (status >> 16 == event)
			return pid;
		ptrace(PTRACE_CONT, pid, NULL, NULL);
	}
}

/*
 * A daemon is killed while a worker of its helper works: held here at its very
 * first instruction, and the helper, then the worker, at their last, before the
 * kernel closes what they have open. All the while the next daemon must wait.
 */
Test(helper, guard_is_held_until_the_last_worker_is_gone)
{
	const long options =
	    PTRACE_O_TRACEFORK | PTRACE_O_TRACEEXIT | PTRACE_O_EXITKILL;
	struct instance instance;
	unsigned long worker;
	int ends[4], status;
	pid_t pid, daemon;

	cr_assert_eq(pipe(ends), 0);
	cr_assert_eq(pipe(ends + 2), 0);
	daemon = child_start(guarded_daemon, ends);
	cr_assert_eq(read(ends[0], &pid, sizeof(pid)), sizeof(pid));
	if (ptrace(PTRACE_SEIZE, pid, NULL, options) < 0)
		cr_skip_test("no process may be traced here");
	cr_assert_eq(write(ends[3], "", 1), 1);
	stopped_at(pid, PTRACE_EVENT_FORK);
	cr_assert_eq(ptrace(PTRACE_GETEVENTMSG, pid, NULL, &worker), 0);
	cr_assert_eq(waitpid((pid_t)worker, &status, __WALL), (pid_t)worker);

	kill(daemon, SIGKILL);
	cr_assert_eq(child_wait(daemon), -SIGKILL);
	cr_assert_eq(instance_open(&instance, scratch_path("sock")), 0);
	stopped_at(pid, PTRACE_EVENT_EXIT);
	cr_assert(guard_is_held(&instance));
	ptrace(PTRACE_CONT, pid, NULL, NULL);
	cr_assert_eq(waitpid(pid, &status, __WALL), pid);
	cr_assert(WIFSIGNALED(status));
	/* The helper is gone, the worker not even begun. */
	cr_assert(guard_is_held(&instance));
	ptrace(PTRACE_CONT, (pid_t)worker, NULL, NULL);
	stopped_at((pid_t)worker, PTRACE_EVENT_EXIT);
	cr_assert(guard_is_held(&instance));
	ptrace(PTRACE_CONT, (pid_t)worker, NULL, NULL);
	cr_assert_eq(instance_wait_helper(&instance), 0);
	cr_assert_not(guard_is_held(&instance));
	instance_close(&instance);
}

static int
small_tmpfs(void *arg)
{
	struct helper_result result;
	int fd;

	(void)arg;
	if (!mount_private(scratch.dir, "size=8m"))
		return SKIP;
	CHECK(helper_start(&helper) == 0);
	fd = open(scratch_path("region"), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	CHECK(ftruncate(fd, 64 * MIB) == 0);
	CHECK(run(helper, HELPER_ATTACH, fd, 0, 2 * MIB).status == 0);
	CHECK(headroom(fd) == 6 * MIB);
	result = run(helper, HELPER_ATTACH, fd, 8 * MIB, 7 * MIB);
	CHECK(result.status == -ENOSPC);
	CHECK(result.needed == 7 * MIB);
	CHECK(result.available == 6 * MIB);
	CHECK(region_allocated(fd) == 2 * MIB);
	CHECK(run(helper, HELPER_ATTACH, fd, 8 * MIB, 6 * MIB).status == 0);
	CHECK(run(helper, HELPER_DETACH, fd, 8 * MIB, 6 * MIB).status == 0);
	CHECK(region_allocated(fd) == 2 * MIB);
	helper_stop(helper);
	return 0;
}

Test(helper, full_file_system_is_an_error_with_figures)
{
	child_check(small_tmpfs, NULL);
}

static int
refused_by_cgroup(void *arg)
{
	struct helper_result result;

	(void)arg;
	if (!cgroup_enter(96 * MIB))
		return SKIP;
	CHECK(helper_start(&helper) == 0);
	CHECK(region_create(
		  &region, scratch_name("a"), 1024 * MIB, REGION_POSIX) == 0);
	CHECK(run(helper, HELPER_ATTACH, region.fd, 0, 32 * MIB).status == 0);
	result = run(helper, HELPER_ATTACH, region.fd, 512 * MIB, 80 * MIB);
	CHECK(result.status == -ENOSPC);
	CHECK(result.needed == 80 * MIB);
	CHECK(result.available <= 64 * MIB);
	CHECK(result.available >= 32 * MIB);
	CHECK(region_allocated(region.fd) == 32 * MIB);
	CHECK(
	    run(helper, HELPER_ATTACH, region.fd, 512 * MIB, 16 * MIB).status ==
	    0);
	region_remove(&region);
	helper_stop(helper);
	return 0;
}

Test(helper, cgroup_limit_is_an_error_with_figures)
{
	child_check(refused_by_cgroup, NULL);
}

/*
 * Where the limit cannot be seen, as in a container, the kernel enforces it all
 * the same: it kills the worker, here in its second step.
 */
static int
killed_by_cgroup(void *arg)
{
	struct helper_result result;

	(void)arg;
	if (!cgroup_enter(112 * MIB) ||
	    !mount_private("/sys/fs/cgroup", "size=4k"))
		return SKIP;
	CHECK(helper_start(&helper) == 0);
	CHECK(region_create(
		  &region, scratch_name("a"), 1024 * MIB, REGION_POSIX) == 0);
	CHECK(run(helper, HELPER_ATTACH, region.fd, 0, 8 * MIB).status == 0);
	result = run(helper, HELPER_ATTACH, region.fd, 512 * MIB, 256 * MIB);
	CHECK(result.status == -ENOMEM);
	CHECK(result.needed == 256 * MIB);
	CHECK(result.available > 0);
	CHECK(region_allocated(region.fd) == 8 * MIB);
	CHECK(
	    run(helper, HELPER_ATTACH, region.fd, 512 * MIB, 16 * MIB).status ==
	    0);
	CHECK(region_allocated(region.fd) == 24 * MIB);
	region_remove(&region);
	helper_stop(helper);
	return 0;
}

Test(helper, oom_kill_is_an_error_with_figures)
{
	child_check(killed_by_cgroup, NULL);
}
