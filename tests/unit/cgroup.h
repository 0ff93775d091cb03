/*
 * Limits of memory for tests: a control group of the test's own (scratch.h
 * removes it), and mounts that only the calling process sees. In children only.
 */
#ifndef SLABD_TESTS_CGROUP_H
#define SLABD_TESTS_CGROUP_H

#include <fcntl.h>
#include <sched.h>
#include <stdint.h>
#include <sys/mount.h>

#include "scratch.h"

/* Writes `text` into a file of `directory`, which is made if it can be. */
static inline bool
put_text(const char *directory, const char *file, const char *text)
{
	char path[256];
	bool done;
	int fd;

	snprintf(path, sizeof(path), "%s/%s", directory, file);
	fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0)
		return false;
	done = write(fd, text, strlen(text)) == (ssize_t)strlen(text);
	close(fd);
	return done;
}

static inline bool
put_number(const char *directory, const char *file, uint64_t number)
{
	char text[32];

	snprintf(text, sizeof(text), "%ju", (uintmax_t)number);
	return put_text(directory, file, text);
}

/* Puts this process into a group of version 1 that may use `limit` bytes. */
static inline bool
cgroup_enter(uint64_t limit)
{
	const char *group = scratch_cgroup("memory");

	return mkdir(group, 0755) == 0 &&
	       put_number(group, "memory.limit_in_bytes", limit) &&
	       put_number(group, "cgroup.procs", (uint64_t)getpid());
}

/* Covers the directory `at` with a tmpfs nobody else sees. */
static inline bool
mount_private(const char *at, const char *options)
{
	return unshare(CLONE_NEWNS) == 0 &&
	       mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
	       mount("slabd-test", at, "tmpfs", 0, options) == 0;
}

#endif
