#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "instance.h"

#define LOCK_PATH_MAX (INSTANCE_PATH_MAX + sizeof(".lock"))

#define LOCK_TRIES 100

/* The 64-bit FNV-1a hash (Fowler, Noll, Vo). */
static uint64_t
fnv1a(const char *text)
{
	uint64_t hash = UINT64_C(0xcbf29ce484222325);

	for (; *text != '\0'; text++) {
		hash ^= (unsigned char)*text;
		hash *= UINT64_C(0x100000001b3);
	}
	return hash;
}

/*
 * Splits `path` in place: the directory part is returned, *name becomes what is
 * behind the last slash.
 */
static const char *
path_split(char *path, const char **name)
{
	char *slash = strrchr(path, '/');

	if (slash == NULL) {
		*name = path;
		return ".";
	}
	*slash = '\0';
	*name = slash + 1;
	return slash == path ? "/" : path;
}

static int
canonical_path(char out[INSTANCE_PATH_MAX], const char *socket_path)
{
	char path[PATH_MAX], directory[PATH_MAX];
	const char *parent, *name;
	int n;

	if (snprintf(path, sizeof(path), "%s", socket_path) >=
	    (int)sizeof(path))
		return -ENAMETOOLONG;
	parent = path_split(path, &name);
	if (*name == '\0' || strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
		return -EINVAL;
	if (mkdir(parent, 0755) < 0 && errno != EEXIST)
		return -errno;
	if (realpath(parent, directory) == NULL)
		return -errno;
	n = snprintf(out, INSTANCE_PATH_MAX, "%s/%s",
	    strcmp(directory, "/") == 0 ? "" : directory, name);
	return n < (int)INSTANCE_PATH_MAX ? 0 : -ENAMETOOLONG;
}

/* Opens and locks `path`; the descriptor or -errno. */
static int
lock_take(const char *path)
{
	struct stat st;
	int rc, fd;

	fd = open(
	    path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600);
	if (fd < 0)
		return errno == ELOOP ? -EPERM : -errno;
	rc = -EPERM;
	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) ||
	    st.st_uid != geteuid())
		goto close_fd;
	rc = -EADDRINUSE;
	if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
		if (errno != EWOULDBLOCK)
			rc = -errno;
		goto close_fd;
	}
	return fd;

close_fd:
	close(fd);
	return rc;
}

/* Whether `path` still leads to the file behind `fd`: 0, or -EAGAIN if not. */
static int
lock_is_at(int fd, const char *path)
{
	struct stat ours, there;

	if (fstat(fd, &ours) < 0)
		return -errno;
	if (lstat(path, &there) < 0)
		return errno == ENOENT ? -EAGAIN : -errno;
	return ours.st_dev == there.st_dev && ours.st_ino == there.st_ino
		   ? 0
		   : -EAGAIN;
}

static void
lock_path(const struct instance *instance, char path[LOCK_PATH_MAX])
{
	snprintf(path, LOCK_PATH_MAX, "%s.lock", instance->socket_path);
}

int
instance_open(struct instance *instance, const char *socket_path)
{
	char path[LOCK_PATH_MAX];
	int rc, tries = 0;

	*instance = (struct instance){.lock_fd = -1};
	rc = canonical_path(instance->socket_path, socket_path);
	if (rc < 0)
		return rc;
	instance->hash = fnv1a(instance->socket_path);
	snprintf(instance->prefix, sizeof(instance->prefix),
	    "/slabd-%016" PRIx64 "-", instance->hash);
	lock_path(instance, path);
	/* Somebody tidying up may remove the file between open and lock. */
	do {
		instance_close(instance);
		rc = lock_take(path);
		if (rc < 0)
			return rc;
		instance->lock_fd = rc;
		rc = lock_is_at(instance->lock_fd, path);
	} while (rc == -EAGAIN && ++tries < LOCK_TRIES);
	if (rc < 0)
		instance_close(instance);
	return rc;
}

/* Locks or unlocks the first byte by way of the descriptor's own lock. */
static int
first_byte(int fd, int command, short type)
{
	struct flock lock = {.l_type = type, .l_whence = SEEK_SET, .l_len = 1};

	while (fcntl(fd, command, &lock) < 0)
		if (errno != EINTR)
			return errno == EACCES ? -EAGAIN : -errno;
	return 0;
}

int
instance_wait_helper(const struct instance *instance)
{
	int rc = first_byte(instance->lock_fd, F_OFD_SETLKW, F_WRLCK);

	return rc < 0 ? rc
		      : first_byte(instance->lock_fd, F_OFD_SETLK, F_UNLCK);
}

int
instance_guard(const struct instance *instance)
{
	char path[LOCK_PATH_MAX];
	int rc, fd;

	lock_path(instance, path);
	fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	if (fd < 0)
		return -errno;
	rc = lock_is_at(instance->lock_fd, path) == 0 &&
		     lock_is_at(fd, path) == 0
		 ? first_byte(fd, F_OFD_SETLK, F_WRLCK)
		 : -ESTALE;
	if (rc == 0)
		return fd;
	close(fd);
	return rc == -EAGAIN ? -EADDRINUSE : rc;
}

void
instance_object_name(const struct instance *instance, const char *pool,
    const char *part, char *name, size_t size)
{
	snprintf(name, size, "%s%s.%s", instance->prefix, pool, part);
}

void
instance_close(struct instance *instance)
{
	if (instance->lock_fd >= 0)
		close(instance->lock_fd);
	instance->lock_fd = -1;
}
