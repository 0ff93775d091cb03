#include "config.h"

#include <errno.h>

#include "daemon/headroom.h"
#include "cgroup.h"
#include "scratch.h"

#define MIB (UINT64_C(1) << 20)

TestSuite(headroom, .timeout = 30, .init = scratch_open, .fini = scratch_close);

static int
small_tmpfs(void *arg)
{
	int fd;

	(void)arg;
	if (!mount_private(scratch.dir, "size=8m"))
		return SKIP;
	fd = open(scratch_path("a"), O_RDWR | O_CREAT, 0600);
	CHECK(headroom(fd) == 8 * MIB);
	CHECK(fallocate(fd, 0, 0, 3 * MIB) == 0);
	CHECK(headroom(fd) == 5 * MIB);
	CHECK(fallocate(fd, 0, 0, 8 * MIB) == 0);
	CHECK(headroom(fd) == 0);
	return 0;
}

Test(headroom, file_system)
{
	child_check(small_tmpfs, NULL);
}

/* Files that no memory limit is known for: what the host has. */
Test(headroom, host)
{
	uint64_t room = headroom(-1);
	int fd = open("/proc/self/stat", O_RDONLY);

	cr_assert_gt(room, MIB);
	cr_assert_lt(room, (uint64_t)sysconf(_SC_PHYS_PAGES) *
			       (uint64_t)sysconf(_SC_PAGESIZE) * 64);
	cr_assert_gt(headroom(fd), MIB);
	close(fd);
}

/* The process is in a group without a limit, below one that has one. */
static int
limit_above(void *arg)
{
	char inner[160];

	(void)arg;
	if (!cgroup_enter(48 * MIB))
		return SKIP;
	snprintf(inner, sizeof(inner), "%s/inner", scratch_cgroup("memory"));
	CHECK(mkdir(inner, 0755) == 0);
	CHECK(put_number(inner, "cgroup.procs", (uint64_t)getpid()));
	CHECK(headroom(-1) <= 48 * MIB);
	CHECK(headroom(-1) >= 32 * MIB);
	CHECK(put_number(
	    scratch_cgroup("memory"), "cgroup.procs", (uint64_t)getpid()));
	CHECK(rmdir(inner) == 0);
	return 0;
}

Test(headroom, limit_of_a_group_above)
{
	child_check(limit_above, NULL);
}

/* Pages of files give way. Those of /dev/shm do not. */
static int
cached_file(void *arg)
{
	static char block[MIB];
	uint64_t before;
	int fd, shm;

	(void)arg;
	if (!cgroup_enter(64 * MIB))
		return SKIP;
	fd = open(scratch_path("a"), O_RDWR | O_CREAT, 0600);
	shm = shm_open(scratch_name("a"), O_RDWR | O_CREAT, 0600);
	before = headroom(-1);
	for (int i = 0; i < 24; i++)
		CHECK(write(fd, block, sizeof(block)) == sizeof(block));
	CHECK(headroom(-1) + 8 * MIB > before);
	CHECK(fallocate(shm, 0, 0, 16 * MIB) == 0);
	CHECK(headroom(-1) + 16 * MIB <= before);
	return 0;
}

Test(headroom, page_cache_is_room)
{
	child_check(cached_file, NULL);
}

/*
 * The second version's files, faked by a tmpfs over its mount: a group of ours
 * without a limit, and one at the top.
 */
static int
second_version(void *arg)
{
	static const char top[] = "/sys/fs/cgroup/unified";
	char group[128];

	(void)arg;
	strcpy(group, scratch_cgroup("unified"));
	if (mkdir(group, 0755) < 0 ||
	    !put_number(group, "cgroup.procs", (uint64_t)getpid()) ||
	    !mount_private(top, "size=1m"))
		return SKIP;
	CHECK(mkdir(group, 0755) == 0);
	CHECK(put_text(group, "memory.max", "max\n"));
	CHECK(put_text(group, "memory.current", "4096\n"));
	CHECK(put_number(top, "memory.max", 30 * MIB));
	CHECK(put_number(top, "memory.current", 20 * MIB));
	CHECK(headroom(-1) == 10 * MIB);
	CHECK(put_text(top, "memory.stat",
	    "anon 1\nfile 999999999\ninactive_anon 7\nactive_file 1048576\n"
	    "inactive_file 2097152\n"));
	CHECK(headroom(-1) == 13 * MIB);
	CHECK(put_number(group, "memory.max", 4096 * 3));
	CHECK(headroom(-1) == 4096 * 2);
	CHECK(put_number(group, "memory.current", 4096 * 9));
	CHECK(headroom(-1) == 0);
	return 0;
}

Test(headroom, second_version_of_groups)
{
	child_check(second_version, NULL);
}
