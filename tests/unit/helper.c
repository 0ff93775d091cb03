#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/syscall.h>

#include "daemon/headroom.h"
#include "daemon/helper.h"
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
run(struct helper *helper, enum helper_kind kind, int fd, uint64_t offset,
    uint64_t bytes)
{
	struct helper_job job = {
	    .id = 99, .kind = kind, .fd = fd, .offset = offset, .bytes = bytes};
	struct helper_result result = {.status = 1};
	int rc = helper_submit(helper, &job);

	if (rc == 0)
		rc = next_result(helper, &result);
	return rc < 0 ? (struct helper_result){.status = rc} : result;
}

static struct helper *helper;
static struct region region;

static void
start(void)
{
	scratch_open();
	cr_assert_eq(helper_start(&helper), 0);
	cr_assert_eq(region_create(&region, scratch_name("a"), 1024 * MIB), 0);
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
	cr_assert_eq(region_create(&region, scratch_name("a"), MIB), 0);
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
	CHECK(region_create(&region, scratch_name("a"), 1024 * MIB) == 0);
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
	CHECK(region_create(&region, scratch_name("a"), 1024 * MIB) == 0);
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
