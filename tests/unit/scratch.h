/*
 * What a test leaves in the file system and in shared memory, removed whatever
 * becomes of the test: a process waits for the test's end, be it a crash, and
 * clears up. And children that end with the test.
 *
 * A test makes files in scratch.dir and shared-memory names from scratch.prefix
 * only. In a child nothing of Criterion may be used; it says CHECK() instead.
 */
#ifndef SLABD_TESTS_SCRATCH_H
#define SLABD_TESTS_SCRATCH_H

#include <criterion/criterion.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define SKIP 77 /* what a child returns where the system lacks something */

/* In a child's function: returns 1 from it, saying where. */
#define CHECK(condition)                                                 \
	do {                                                             \
		if (!(condition)) {                                      \
			dprintf(STDERR_FILENO, "%s:%d: %s (errno %d)\n", \
			    __FILE__, __LINE__, #condition, errno);      \
			return 1;                                        \
		}                                                        \
	} while (0)

static struct {
	char dir[64];	 /* a directory of the test's own */
	char prefix[64]; /* "/slabd-test-PID-" */
	char cgroup[64]; /* "slabd-test-PID", to be made by who needs one */
	int alive;	 /* open as long as the test lives */
	pid_t janitor;
} scratch;

/* Our group under a hierarchy's mount; good until the next call. */
static inline const char *
scratch_cgroup(const char *hierarchy)
{
	static char path[128];

	snprintf(path, sizeof(path), "/sys/fs/cgroup/%s/%s", hierarchy,
	    scratch.cgroup);
	return path;
}

/* Processes that were in the group may be on their way out. */
static inline void
remove_cgroup(const char *path)
{
	for (int i = 0; i < 200 && rmdir(path) < 0 && errno == EBUSY; i++)
		usleep(10000);
}

static void
scratch_clear(void)
{
	struct dirent *entry;
	DIR *directory;

	directory = opendir(scratch.dir);
	while (directory != NULL && (entry = readdir(directory)) != NULL)
		if (unlinkat(dirfd(directory), entry->d_name, 0) < 0)
			unlinkat(dirfd(directory), entry->d_name, AT_REMOVEDIR);
	closedir(directory);
	rmdir(scratch.dir);
	remove_cgroup(scratch_cgroup("memory"));
	remove_cgroup(scratch_cgroup("unified"));
	directory = opendir("/dev/shm");
	while (directory != NULL && (entry = readdir(directory)) != NULL)
		if (strncmp(entry->d_name, scratch.prefix + 1,
			strlen(scratch.prefix + 1)) == 0)
			unlinkat(dirfd(directory), entry->d_name, 0);
	closedir(directory);
}

static void
scratch_open(void)
{
	int ends[2];
	char byte;

	strcpy(scratch.dir, "/tmp/slabd-test-XXXXXX");
	snprintf(scratch.prefix, sizeof(scratch.prefix), "/slabd-test-%d-",
	    (int)getpid());
	snprintf(scratch.cgroup, sizeof(scratch.cgroup), "slabd-test-%d",
	    (int)getpid());
	cr_assert_not_null(mkdtemp(scratch.dir));
	cr_assert_eq(pipe(ends), 0);
	scratch.janitor = fork();
	cr_assert_geq(scratch.janitor, 0);
	if (scratch.janitor == 0) {
		close(ends[1]);
		if (read(ends[0], &byte, 1) == 0)
			scratch_clear();
		_exit(0);
	}
	close(ends[0]);
	scratch.alive = ends[1];
}

static void
scratch_close(void)
{
	close(scratch.alive);
	waitpid(scratch.janitor, NULL, 0);
}

/* A path in scratch.dir, or a shared-memory name; good until the next call. */
static inline const char *
scratch_path(const char *name)
{
	static char path[128];

	snprintf(path, sizeof(path), "%s/%s", scratch.dir, name);
	return path;
}

static inline const char *
scratch_name(const char *name)
{
	static char full[128];

	snprintf(full, sizeof(full), "%s%s", scratch.prefix, name);
	return full;
}

/* Starts `body` in a child that dies with the test. */
static inline pid_t
child_start(int (*body)(void *), void *arg)
{
	pid_t test = getpid(), pid = fork();

	cr_assert_geq(pid, 0);
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		close(scratch.alive);
		_exit(getppid() == test ? body(arg) : 1);
	}
	return pid;
}

/* Exit status, or the negative number of the signal that ended the child. */
static inline int
child_wait(pid_t pid)
{
	int status;

	while (waitpid(pid, &status, 0) < 0)
		cr_assert_eq(errno, EINTR);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

static inline void
child_check(int (*body)(void *), void *arg)
{
	int status = child_wait(child_start(body, arg));

	if (status == SKIP)
		cr_skip_test("not possible on this system");
	cr_assert_eq(status, 0, "child ended with %d", status);
}

#endif
