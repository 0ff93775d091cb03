#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <signal.h>
#include <sys/prctl.h>

#include "daemon/region.h"
#include "scratch.h"

#define PAGE  4096u
#define BYTES (UINT64_C(1) << 40) /* far more than there is memory */

TestSuite(region, .timeout = 20, .init = scratch_open, .fini = scratch_close);

static struct stat
stat_fd(int fd)
{
	struct stat st;

	cr_assert_eq(fstat(fd, &st), 0);
	return st;
}

/* Whether there is an object of this name. */
static bool
exists(const char *name)
{
	int fd = shm_open(name, O_RDONLY, 0);

	if (fd >= 0)
		close(fd);
	return fd >= 0;
}

Test(region, is_sparse_private_and_whole)
{
	mode_t saved = umask(0777);
	struct region region;
	struct stat st;

	cr_assert_eq(
	    region_create(&region, scratch_name("a"), BYTES, REGION_POSIX), 0);
	umask(saved);
	st = stat_fd(region.fd);
	cr_assert_eq(st.st_mode, S_IFREG | 0600);
	cr_assert_eq(st.st_uid, geteuid());
	cr_assert_eq(st.st_size, BYTES);
	cr_assert_eq(region.bytes, BYTES);
	cr_assert_eq(region_allocated(region.fd), 0);
	cr_assert(fcntl(region.fd, F_GETFD) & FD_CLOEXEC);
	cr_assert_str_eq(region.name, scratch_name("a"));
	region_remove(&region);
}

Test(region, taken_name_is_refused_and_unharmed)
{
	struct region first, second;

	cr_assert_eq(
	    region_create(&first, scratch_name("a"), PAGE, REGION_POSIX), 0);
	cr_assert_eq(
	    region_create(&second, first.name, BYTES, REGION_POSIX), -EEXIST);
	cr_assert_eq(second.fd, -1);
	region_remove(&second);
	cr_assert(exists(first.name));
	cr_assert_eq(stat_fd(first.fd).st_size, PAGE);
	region_remove(&first);
}

Test(region, planted_link_is_not_followed)
{
	struct region victim, region;
	char target[300], link[300];

	cr_assert_eq(
	    region_create(&victim, scratch_name("victim"), PAGE, REGION_POSIX),
	    0);
	snprintf(target, sizeof(target), "/dev/shm%s", victim.name);
	snprintf(link, sizeof(link), "/dev/shm%s", scratch_name("link"));
	cr_assert_eq(symlink(target, link), 0);
	cr_assert_eq(
	    region_create(&region, scratch_name("link"), BYTES, REGION_POSIX),
	    -EEXIST);
	cr_assert_eq(stat_fd(victim.fd).st_size, PAGE);
	region_remove(&victim);
}

Test(region, bad_arguments)
{
	struct region region;
	char name[300];

	cr_assert_eq(region_create(&region, scratch_name("a"), 0, REGION_POSIX),
	    -EINVAL);
	cr_assert_eq(region.fd, -1);
	cr_assert_eq(
	    region_create(&region, "/slabd-test/inside", 1, REGION_POSIX),
	    -EINVAL);
	cr_assert_eq(region_create(&region, "/", 1, REGION_POSIX), -EINVAL);
	memset(name, 'x', sizeof(name));
	name[0] = '/';
	name[REGION_NAME_MAX] = '\0';
	cr_assert_eq(
	    region_create(&region, name, 1, REGION_POSIX), -ENAMETOOLONG);
	cr_assert_eq(region.fd, -1);
}

Test(region, impossible_size_leaves_nothing)
{
	struct region region;

	cr_assert_eq(
	    region_create(&region, scratch_name("a"), UINT64_MAX, REGION_POSIX),
	    -EFBIG);
	cr_assert_eq(region.fd, -1);
	cr_assert_not(exists(scratch_name("a")));
	cr_assert_eq(region_create(&region, scratch_name("a"),
			 (uint64_t)INT64_MAX + 1, REGION_POSIX),
	    -EFBIG);
	cr_assert_not(exists(scratch_name("a")));
}

Test(region, readonly_descriptor_cannot_change_anything)
{
	struct region region;
	int fd;

	cr_assert_eq(
	    region_create(&region, scratch_name("a"), 16 * PAGE, REGION_POSIX),
	    0);
	fd = region_open_readonly(&region);
	cr_assert_geq(fd, 0);
	cr_assert(fcntl(fd, F_GETFD) & FD_CLOEXEC);
	cr_assert_eq(fcntl(fd, F_GETFL) & O_ACCMODE, O_RDONLY);
	cr_assert_eq(
	    mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0),
	    MAP_FAILED);
	cr_assert_eq(errno, EACCES);
	cr_assert_eq(ftruncate(fd, 0), -1);
	cr_assert_eq(
	    fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, PAGE),
	    -1);
	cr_assert_eq(fallocate(fd, 0, 0, PAGE), -1);
	cr_assert_eq(stat_fd(region.fd).st_size, 16 * PAGE);
	close(fd);
	region_remove(&region);
}

Test(region, readonly_descriptor_is_of_the_same_object)
{
	struct region region, other;

	cr_assert_eq(
	    region_create(&region, scratch_name("a"), PAGE, REGION_POSIX), 0);
	shm_unlink(region.name);
	cr_assert_eq(region_open_readonly(&region), -ENOENT);
	cr_assert_eq(region_create(&other, region.name, PAGE, REGION_POSIX), 0);
	cr_assert_eq(region_open_readonly(&region), -ESTALE);
	region_remove(&other);
	region_remove(&region);
}

Test(region, grows_and_never_shrinks)
{
	struct region region;

	cr_assert_eq(
	    region_create(&region, scratch_name("a"), 4 * PAGE, REGION_POSIX),
	    0);
	cr_assert_eq(fallocate(region.fd, 0, 0, 4 * PAGE), 0);
	cr_assert_eq(region_grow(&region, BYTES), 0);
	cr_assert_eq(stat_fd(region.fd).st_size, BYTES);
	cr_assert_eq(region.bytes, BYTES);
	cr_assert_eq(region_allocated(region.fd), 4 * PAGE);
	cr_assert_eq(region_grow(&region, BYTES), 0);
	cr_assert_eq(region_grow(&region, BYTES - 1), -EINVAL);
	cr_assert_eq(region_grow(&region, UINT64_MAX), -EFBIG);
	cr_assert_eq(region.bytes, BYTES);
	cr_assert_eq(stat_fd(region.fd).st_size, BYTES);
	region_remove(&region);
}

Test(region, removal_spares_those_who_have_it_open)
{
	struct region region;
	int fd;

	cr_assert_eq(
	    region_create(&region, scratch_name("a"), PAGE, REGION_POSIX), 0);
	fd = region_open_readonly(&region);
	cr_assert_eq(pwrite(region.fd, "kept", 4, 0), 4);
	region_remove(&region);
	cr_assert_eq(region.fd, -1);
	cr_assert_not(exists(scratch_name("a")));
	cr_assert_eq(region_allocated(fd), PAGE);
	region_remove(&region);
	close(fd);
}

Test(region, allocated_follows_the_memory)
{
	struct region region;

	cr_assert_eq(
	    region_create(&region, scratch_name("a"), BYTES, REGION_POSIX), 0);
	cr_assert_eq(fallocate(region.fd, 0, 64 * PAGE, 3 * PAGE), 0);
	cr_assert_eq(region_allocated(region.fd), 3 * PAGE);
	cr_assert_eq(
	    fallocate(region.fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
		64 * PAGE, 3 * PAGE),
	    0);
	cr_assert_eq(region_allocated(region.fd), 0);
	cr_assert_eq(region_allocated(-1), 0);
	region_remove(&region);
}

Test(region, stale_object_of_ours_goes)
{
	struct region region;

	cr_assert_eq(
	    region_create(&region, scratch_name("a"), PAGE, REGION_POSIX), 0);
	cr_assert_eq(region_unlink_stale(region.name), 0);
	cr_assert_not(exists(region.name));
	cr_assert_eq(region_unlink_stale(region.name), -ENOENT);
	region_remove(&region);
}

Test(region, what_is_not_ours_stays)
{
	struct region region;
	char path[300];

	snprintf(path, sizeof(path), "/dev/shm%s", scratch_name("link"));
	cr_assert_eq(symlink("/dev/null", path), 0);
	cr_assert_eq(region_unlink_stale(scratch_name("link")), -EPERM);
	cr_assert_eq(unlink(path), 0);
	cr_assert_eq(region_unlink_stale("no-slash"), -EINVAL);
	cr_assert_eq(region_unlink_stale("/../tmp"), -EINVAL);
	if (geteuid() != 0)
		cr_skip_test("only root can give a file away");
	cr_assert_eq(
	    region_create(&region, scratch_name("a"), PAGE, REGION_POSIX), 0);
	cr_assert_eq(fchown(region.fd, 65534, (gid_t)-1), 0);
	cr_assert_eq(region_unlink_stale(region.name), -EPERM);
	cr_assert(exists(region.name));
	region_remove(&region);
}

static void
remove_stale(void *arg, const char *name)
{
	if (region_unlink_stale(name) == 0)
		(*(int *)arg)++;
}

static int
remove_all(const char *prefix)
{
	int removed = 0;

	region_each(prefix, remove_stale, &removed);
	return removed;
}

Test(region, sweep_removes_one_instance_only)
{
	struct region mine[2], other;
	char prefix[300];

	snprintf(prefix, sizeof(prefix), "%s", scratch_name("one-"));
	cr_assert_eq(
	    region_create(&mine[0], scratch_name("one-a"), PAGE, REGION_POSIX),
	    0);
	cr_assert_eq(
	    region_create(&mine[1], scratch_name("one-b"), PAGE, REGION_POSIX),
	    0);
	cr_assert_eq(
	    region_create(&other, scratch_name("two-a"), PAGE, REGION_POSIX),
	    0);
	cr_assert_eq(remove_all(prefix), 2);
	cr_assert_not(exists(mine[0].name));
	cr_assert_not(exists(mine[1].name));
	cr_assert(exists(other.name));
	cr_assert_eq(remove_all(prefix), 0);
	region_remove(&mine[0]);
	region_remove(&mine[1]);
	region_remove(&other);
}

/* As a killed daemon leaves it: no descriptor of it is open here. */
static void
leave(const char *name, uint64_t bytes)
{
	struct region region;

	cr_assert_eq(region_create(&region, name, bytes, REGION_POSIX), 0);
	cr_assert_eq(pwrite(region.fd, "left", 4, PAGE), 4);
	region_close(&region);
}

Test(region, is_found_again)
{
	struct region region;
	char text[5] = "";

	leave(scratch_name("a"), BYTES);
	cr_assert_eq(region_open(&region, scratch_name("a")), 0);
	cr_assert_str_eq(region.name, scratch_name("a"));
	cr_assert_eq(region.kind, REGION_POSIX);
	cr_assert_eq(region.bytes, BYTES);
	cr_assert_eq(region.page_bytes, PAGE);
	cr_assert(fcntl(region.fd, F_GETFD) & FD_CLOEXEC);
	cr_assert_eq(pread(region.fd, text, 4, PAGE), 4);
	cr_assert_str_eq(text, "left");
	cr_assert_eq(region_grow(&region, 2 * BYTES), 0);
	region_remove(&region);
	cr_assert_eq(region_open(&region, scratch_name("a")), -ENOENT);
	cr_assert_eq(region.fd, -1);
}

static int
open_left(void)
{
	struct region region;
	int rc = region_open(&region, scratch_name("a"));

	cr_assert_eq(region.fd, -1);
	return rc;
}

Test(region, what_may_not_be_ours_is_not_opened)
{
	char path[300], other[300];

	snprintf(path, sizeof(path), "/dev/shm%s", scratch_name("a"));
	snprintf(other, sizeof(other), "/dev/shm%s", scratch_name("b"));
	leave(scratch_name("a"), PAGE);
	cr_assert_eq(chmod(path, 0640), 0);
	cr_assert_eq(open_left(), -EPERM);
	cr_assert_eq(chmod(path, 0600), 0);
	cr_assert_eq(link(path, other), 0);
	cr_assert_eq(open_left(), -EPERM);
	cr_assert_eq(unlink(path), 0);
	cr_assert_eq(symlink(other, path), 0);
	cr_assert_eq(open_left(), -EPERM);
	cr_assert_eq(unlink(path), 0);
	cr_assert_eq(mkfifo(path, 0600), 0);
	cr_assert_eq(open_left(), -EPERM);
	cr_assert_eq(unlink(path), 0);
	cr_assert_eq(mkdir(path, 0700), 0);
	cr_assert_eq(open_left(), -EPERM);
	cr_assert_eq(rmdir(path), 0);
	if (geteuid() != 0)
		cr_skip_test("only root can give a file away");
	leave(scratch_name("a"), PAGE);
	cr_assert_eq(chown(path, 65534, (gid_t)-1), 0);
	cr_assert_eq(open_left(), -EPERM);
}

struct seen {
	unsigned n;
	char last[REGION_NAME_MAX];
};

static void
see(void *arg, const char *name)
{
	struct seen *seen = arg;

	seen->n++;
	strcpy(seen->last, name);
}

Test(region, each_is_visited)
{
	struct seen seen = {0};
	char prefix[300];

	snprintf(prefix, sizeof(prefix), "%s", scratch_name("one-"));
	cr_assert_eq(region_each(prefix, see, &seen), 0);
	leave(scratch_name("one-a"), PAGE);
	leave(scratch_name("two-a"), PAGE);
	cr_assert_eq(region_each(prefix, see, &seen), 1);
	cr_assert_eq(seen.n, 1);
	cr_assert_str_eq(seen.last, scratch_name("one-a"));
	cr_assert_eq(region_each("", see, &seen), -EINVAL);
}

Test(region, sealed_has_one_size)
{
	mode_t saved = umask(0777);
	struct region region;
	uint64_t size;

	cr_assert_eq(
	    region_create(&region, scratch_name("a"), BYTES + 1, REGION_MEMFD),
	    0);
	umask(saved);
	cr_assert_not(exists(scratch_name("a")));
	cr_assert_eq(region.bytes, BYTES + 1);
	cr_assert_eq(region.page_bytes, PAGE);
	cr_assert_eq(region_size(&region, &size), 0);
	cr_assert_eq(size, BYTES + 1);
	cr_assert_eq(stat_fd(region.fd).st_mode, S_IFREG | 0600);
	cr_assert(fcntl(region.fd, F_GETFD) & FD_CLOEXEC);
	cr_assert_eq(ftruncate(region.fd, 0), -1);
	cr_assert_eq(errno, EPERM);
	cr_assert_eq(ftruncate(region.fd, 2 * BYTES), -1);
	cr_assert_eq(
	    fallocate(region.fd, FALLOC_FL_KEEP_SIZE, 2 * BYTES, PAGE), -1);
	cr_assert_eq(fcntl(region.fd, F_ADD_SEALS, F_SEAL_WRITE), -1);
	cr_assert_eq(region_grow(&region, BYTES), -EINVAL);
	region.bytes = PAGE;
	cr_assert_eq(region_grow(&region, BYTES), 0);
	cr_assert_eq(region.bytes, BYTES);
	cr_assert_eq(region_grow(&region, BYTES + 1), 0);
	cr_assert_eq(region_grow(&region, BYTES + 2), -EPERM);
	cr_assert_eq(region.bytes, BYTES + 1);
	cr_assert_eq(fallocate(region.fd, 0, BYTES - PAGE, PAGE), 0);
	cr_assert_eq(region_allocated(region.fd), PAGE);
	region_remove(&region);
	cr_assert_eq(region.fd, -1);
}

Test(region, sealed_bad_arguments)
{
	struct region region;

	cr_assert_eq(region_create(&region, scratch_name("a"), 0, REGION_MEMFD),
	    -EINVAL);
	cr_assert_eq(region_create(&region, "a", 1, REGION_MEMFD), -EINVAL);
	cr_assert_eq(
	    region_create(&region, scratch_name("a"), UINT64_MAX, REGION_MEMFD),
	    -EFBIG);
	cr_assert_eq(region_create(&region, scratch_name("a"), UINT64_MAX,
			 REGION_HUGETLB),
	    -EFBIG);
	cr_assert_eq(region.fd, -1);
	cr_assert_eq(region_open(&region, scratch_name("a")), -ENOENT);
}

/* Opens what `arg` shows by way of /proc; with or without the right to. */
static int
reopen_as_nobody(void *arg)
{
	char path[64];

	if (geteuid() != 0)
		return SKIP;
	CHECK(setgid(65534) == 0 && setuid(65534) == 0);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", *(int *)arg);
	CHECK(open(path, O_RDWR) == -1 && errno == EACCES);
	CHECK(open(path, O_WRONLY | O_TRUNC) == -1 && errno == EACCES);
	CHECK(fchmod(*(int *)arg, 0666) == -1 && errno == EPERM);
	return 0;
}

Test(region, sealed_readonly_descriptor)
{
	struct region region;
	int fd;

	cr_assert_eq(
	    region_create(&region, scratch_name("a"), 16 * PAGE, REGION_MEMFD),
	    0);
	/* As the daemon does: its own /proc entries are root's then. */
	cr_assert_eq(prctl(PR_SET_DUMPABLE, 0), 0);
	fd = region_open_readonly(&region);
	cr_assert_geq(fd, 0);
	cr_assert_eq(prctl(PR_SET_DUMPABLE, 1), 0);
	cr_assert(fcntl(fd, F_GETFD) & FD_CLOEXEC);
	cr_assert_eq(
	    mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0),
	    MAP_FAILED);
	cr_assert_eq(
	    fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, PAGE),
	    -1);
	cr_assert_eq(fallocate(fd, 0, 0, PAGE), -1);
	child_check(reopen_as_nobody, &fd);
	close(fd);
	region_remove(&region);
}

Test(region, huge_pages_are_rounded_up_to)
{
	struct region region;
	int rc =
	    region_create(&region, scratch_name("a"), 3 * PAGE, REGION_HUGETLB);

	if (rc < 0)
		cr_skip_test("no huge pages in this kernel");
	cr_assert(region_is_huge(region.fd));
	cr_assert_gt(region.page_bytes, PAGE);
	cr_assert_eq(region.bytes, region.page_bytes);
	cr_assert_eq((uint64_t)stat_fd(region.fd).st_size, region.page_bytes);
	cr_assert_eq(stat_fd(region.fd).st_mode, S_IFREG | 0600);
	cr_assert_eq(ftruncate(region.fd, 0), -1);
	cr_assert_eq(region_allocated(region.fd), 0);
	cr_assert_eq(region_huge_room(region.fd) % region.page_bytes, 0);
	region_remove(&region);
}
