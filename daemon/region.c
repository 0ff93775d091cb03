#include "config.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "region.h"

#define REGION_DIRECTORY "/dev/shm" /* where the C library keeps the names */

static bool
is_ours(const struct stat *st)
{
	return S_ISREG(st->st_mode) && st->st_uid == geteuid();
}

static int
set_size(int fd, uint64_t bytes)
{
	if (bytes > INT64_MAX)
		return -EFBIG;
	return ftruncate(fd, (off_t)bytes) < 0 ? -errno : 0;
}

int
region_create(struct region *region, const char *name, uint64_t bytes)
{
	int rc;

	*region = (struct region){.fd = -1};
	if (bytes == 0)
		return -EINVAL;
	if (strlen(name) >= sizeof(region->name))
		return -ENAMETOOLONG;
	strcpy(region->name, name);
	region->fd = shm_open(name, O_RDWR | O_CREAT | O_EXCL, 0600);
	if (region->fd < 0)
		return -errno;
	/* The umask may have taken even the owner's bits. */
	rc =
	    fchmod(region->fd, 0600) < 0 ? -errno : set_size(region->fd, bytes);
	if (rc < 0) {
		region_remove(region);
		return rc;
	}
	region->bytes = bytes;
	return 0;
}

int
region_open_readonly(const struct region *region)
{
	struct stat ours, there;
	int fd = shm_open(region->name, O_RDONLY, 0);

	if (fd < 0)
		return -errno;
	if (fstat(region->fd, &ours) == 0 && fstat(fd, &there) == 0 &&
	    ours.st_dev == there.st_dev && ours.st_ino == there.st_ino)
		return fd;
	close(fd);
	return -ESTALE;
}

int
region_size(const struct region *region, uint64_t *bytes)
{
	struct stat st;

	*bytes = 0;
	if (fstat(region->fd, &st) < 0)
		return -errno;
	*bytes = (uint64_t)st.st_size;
	return 0;
}

int
region_grow(struct region *region, uint64_t bytes)
{
	int rc;

	if (bytes < region->bytes)
		return -EINVAL;
	rc = set_size(region->fd, bytes);
	if (rc == 0)
		region->bytes = bytes;
	return rc;
}

void
region_unlink(struct region *region)
{
	if (region->fd >= 0)
		shm_unlink(region->name);
}

void
region_close(struct region *region)
{
	if (region->fd >= 0)
		close(region->fd);
	region->fd = -1;
}

void
region_remove(struct region *region)
{
	region_unlink(region);
	region_close(region);
}

uint64_t
region_allocated(int fd)
{
	struct stat st;

	return fstat(fd, &st) == 0 ? (uint64_t)st.st_blocks * 512 : 0;
}

int
region_unlink_stale(const char *name)
{
	char path[sizeof(REGION_DIRECTORY) + REGION_NAME_MAX];
	struct stat st;

	if (*name != '/' || strchr(name + 1, '/') != NULL)
		return -EINVAL;
	if (snprintf(path, sizeof(path), REGION_DIRECTORY "%s", name) >=
	    (int)sizeof(path))
		return -ENAMETOOLONG;
	if (lstat(path, &st) < 0)
		return -errno;
	if (!is_ours(&st))
		return -EPERM;
	return unlink(path) < 0 ? -errno : 0;
}

int
region_sweep(const char *prefix)
{
	char name[REGION_NAME_MAX];
	struct dirent *entry;
	int removed = 0;
	DIR *directory = opendir(REGION_DIRECTORY);

	if (directory == NULL)
		return -errno;
	while ((entry = readdir(directory)) != NULL) {
		if (snprintf(name, sizeof(name), "/%s", entry->d_name) >=
			(int)sizeof(name) ||
		    strncmp(name, prefix, strlen(prefix)) != 0)
			continue;
		if (region_unlink_stale(name) == 0)
			removed++;
	}
	closedir(directory);
	return removed;
}
