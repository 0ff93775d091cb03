#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <sched.h>

#include "daemon/instance.h"
#include "scratch.h"

TestSuite(instance, .timeout = 20, .init = scratch_open, .fini = scratch_close);

Test(instance, names_are_made_of_the_path)
{
	uint64_t hash = UINT64_C(14695981039346656037);
	struct instance instance;
	char prefix[64];

	cr_assert_eq(instance_open(&instance, scratch_path("sock")), 0);
	cr_assert_str_eq(instance.socket_path, scratch_path("sock"));
	for (const char *at = instance.socket_path; *at != '\0'; at++)
		hash = (hash ^ (unsigned char)*at) * UINT64_C(1099511628211);
	cr_assert_eq(instance.hash, hash);
	snprintf(prefix, sizeof(prefix), "/slabd-%016" PRIx64 "-", hash);
	cr_assert_str_eq(instance.prefix, prefix);
	instance_close(&instance);
	instance_close(&instance);
}

Test(instance, second_is_refused_and_first_unharmed)
{
	struct instance first, second;

	cr_assert_eq(instance_open(&first, scratch_path("sock")), 0);
	for (int i = 0; i < 3; i++) {
		cr_assert_eq(
		    instance_open(&second, scratch_path("sock")), -EADDRINUSE);
		cr_assert_eq(second.lock_fd, -1);
	}
	instance_close(&first);
	cr_assert_eq(instance_open(&second, scratch_path("sock")), 0);
	instance_close(&second);
}

Test(instance, neighbours_do_not_meet)
{
	struct instance one, two;

	cr_assert_eq(instance_open(&one, scratch_path("one")), 0);
	cr_assert_eq(instance_open(&two, scratch_path("two")), 0);
	cr_assert_neq(one.hash, two.hash);
	cr_assert_str_neq(one.prefix, two.prefix);
	instance_close(&one);
	instance_close(&two);
}

Test(instance, same_by_another_path)
{
	struct instance first, second;

	cr_assert_eq(instance_open(&first, scratch_path("sock")), 0);
	cr_assert_eq(symlink(".", scratch_path("link")), 0);
	cr_assert_eq(
	    instance_open(&second, scratch_path("link/sock")), -EADDRINUSE);
	cr_assert_eq(
	    instance_open(&second, scratch_path("./sock")), -EADDRINUSE);
	cr_assert_eq(chdir(scratch.dir), 0);
	cr_assert_eq(instance_open(&second, "sock"), -EADDRINUSE);
	cr_assert_eq(instance_open(&second, "./sock"), -EADDRINUSE);
	instance_close(&first);
	cr_assert_eq(instance_open(&second, "sock"), 0);
	cr_assert_eq(second.hash, first.hash);
	instance_close(&second);
}

static int
killed_with_lock(void *arg)
{
	struct instance instance;

	(void)arg;
	if (instance_open(&instance, scratch_path("sock")) == 0)
		raise(SIGKILL);
	return 1;
}

Test(instance, lock_goes_with_its_process)
{
	struct instance instance;

	cr_assert_eq(child_wait(child_start(killed_with_lock, NULL)), -SIGKILL);
	cr_assert_eq(instance_open(&instance, scratch_path("sock")), 0);
	cr_assert(fcntl(instance.lock_fd, F_GETFD) & FD_CLOEXEC);
	instance_close(&instance);
}

/* A lock on a file that is no longer there would lock nobody out. */
Test(instance, removed_lock_file_is_made_anew)
{
	struct instance instance;

	cr_assert_eq(instance_open(&instance, scratch_path("sock")), 0);
	instance_close(&instance);
	cr_assert_eq(unlink(scratch_path("sock.lock")), 0);
	cr_assert_eq(instance_open(&instance, scratch_path("sock")), 0);
	cr_assert_eq(access(scratch_path("sock.lock"), F_OK), 0);
	instance_close(&instance);
}

Test(instance, missing_directory_is_made)
{
	struct instance instance;
	struct stat st;

	umask(022);
	cr_assert_eq(instance_open(&instance, scratch_path("dir/sock")), 0);
	cr_assert_eq(stat(scratch_path("dir"), &st), 0);
	cr_assert_eq(st.st_mode, S_IFDIR | 0755);
	instance_close(&instance);
	unlink(scratch_path("dir/sock.lock"));
	cr_assert_eq(
	    instance_open(&instance, scratch_path("a/b/sock")), -ENOENT);
}

Test(instance, bad_paths)
{
	struct instance instance;
	char path[5000];

	cr_assert_eq(instance_open(&instance, ""), -EINVAL);
	cr_assert_eq(instance_open(&instance, scratch_path("")), -EINVAL);
	cr_assert_eq(instance_open(&instance, scratch_path(".")), -EINVAL);
	cr_assert_eq(instance_open(&instance, scratch_path("..")), -EINVAL);
	memset(path, 'x', sizeof(path));
	memcpy(path, "/tmp/", 5);
	path[sizeof(path) - 1] = '\0';
	cr_assert_eq(instance_open(&instance, path), -ENAMETOOLONG);
	path[INSTANCE_PATH_MAX] = '\0';
	cr_assert_eq(instance_open(&instance, path), -ENAMETOOLONG);
	cr_assert_eq(instance.lock_fd, -1);
}

/* The longest name that fits a socket address together with its NUL. */
Test(instance, longest_path)
{
	struct instance instance;
	char path[INSTANCE_PATH_MAX + 1];
	size_t len = strlen(scratch_path(""));

	memset(path, 'x', sizeof(path));
	memcpy(path, scratch_path(""), len);
	path[INSTANCE_PATH_MAX] = '\0';
	cr_assert_eq(instance_open(&instance, path), -ENAMETOOLONG);
	path[INSTANCE_PATH_MAX - 1] = '\0';
	cr_assert_eq(instance_open(&instance, path), 0);
	cr_assert_str_eq(instance.socket_path, path);
	instance_close(&instance);
}

Test(instance, planted_lock_files)
{
	struct instance instance;

	cr_assert_eq(symlink("elsewhere", scratch_path("sock.lock")), 0);
	cr_assert_eq(instance_open(&instance, scratch_path("sock")), -EPERM);
	cr_assert_eq(access(scratch_path("elsewhere"), F_OK), -1);
	unlink(scratch_path("sock.lock"));
	cr_assert_eq(mkfifo(scratch_path("sock.lock"), 0600), 0);
	cr_assert_eq(instance_open(&instance, scratch_path("sock")), -EPERM);
	unlink(scratch_path("sock.lock"));
	if (geteuid() != 0)
		cr_skip_test("only root can give a file away");
	close(open(scratch_path("sock.lock"), O_CREAT | O_WRONLY, 0666));
	cr_assert_eq(chown(scratch_path("sock.lock"), 65534, (gid_t)-1), 0);
	cr_assert_eq(instance_open(&instance, scratch_path("sock")), -EPERM);
}

/* Waits for the helper, with a word before and after. */
static int
successor(void *arg)
{
	struct instance instance;
	int told = *(int *)arg;

	CHECK(instance_open(&instance, scratch_path("sock")) == 0);
	CHECK(write(told, "", 1) == 1);
	CHECK(instance_wait_helper(&instance) == 0);
	CHECK(write(told, "", 1) == 1);
	/* The lock is there for its own helper. */
	CHECK(instance_guard(&instance) >= 0);
	return 0;
}

/* Whether the kernel shows somebody who waits for a lock on this file. */
static bool
waits_for_lock(ino_t inode)
{
	char line[256], end[32];
	FILE *locks = fopen("/proc/locks", "re");
	bool waits = false;

	cr_assert_not_null(locks);
	snprintf(end, sizeof(end), ":%ju ", (uintmax_t)inode);
	while (fgets(line, sizeof(line), locks) != NULL)
		waits |= strstr(line, "-> OFDLCK") != NULL &&
			 strstr(line, end) != NULL;
	fclose(locks);
	return waits;
}

/* Until the successor waits for the lock, or says that it need not. */
static void
check_waiting(int told)
{
	struct pollfd more = {.fd = told, .events = POLLIN};
	struct stat st;

	cr_assert_eq(stat(scratch_path("sock.lock"), &st), 0);
	while (poll(&more, 1, 0) == 0 && !waits_for_lock(st.st_ino))
		sched_yield();
	cr_assert_eq(poll(&more, 1, 0), 0, "did not wait");
}

/* The lock lives in whoever has inherited the descriptor. */
Test(instance, successor_waits_for_the_last_copy_of_the_guard)
{
	struct instance instance;
	int guard, copy, ends[2];
	pid_t pid;
	char byte;

	cr_assert_eq(pipe(ends), 0);
	cr_assert_eq(instance_open(&instance, scratch_path("sock")), 0);
	cr_assert_eq(instance_wait_helper(&instance), 0);
	guard = instance_guard(&instance);
	cr_assert_geq(guard, 0);
	cr_assert(fcntl(guard, F_GETFD) & FD_CLOEXEC);
	cr_assert_eq(instance_guard(&instance), -EADDRINUSE);
	copy = dup(guard);
	instance_close(&instance);
	/* An unlucky fork would hold the guard as well. */
	pid = fork();
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		close(scratch.alive);
		close(guard);
		close(copy);
		_exit(successor(&ends[1]));
	}
	cr_assert_eq(read(ends[0], &byte, 1), 1);
	check_waiting(ends[0]);
	close(guard);
	check_waiting(ends[0]);
	close(copy);
	cr_assert_eq(read(ends[0], &byte, 1), 1);
	cr_assert_eq(child_wait(pid), 0);
}

Test(instance, guard_of_a_file_that_was_replaced)
{
	struct instance instance;

	cr_assert_eq(instance_open(&instance, scratch_path("sock")), 0);
	cr_assert_eq(unlink(scratch_path("sock.lock")), 0);
	cr_assert_eq(instance_guard(&instance), -ENOENT);
	close(open(scratch_path("sock.lock"), O_CREAT | O_WRONLY, 0600));
	cr_assert_eq(instance_guard(&instance), -ESTALE);
	instance_close(&instance);
}
