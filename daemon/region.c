#include "config.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/magic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "log.h"
#include "region.h"
#include "store.h"

#define REGION_DIRECTORY "/dev/shm" /* where the C library keeps the names */
#define REGION_SEALS	 (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL)

#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 8u /* Linux 6.3 */
#endif

static int
check_name(const char *name)
{
	if (*name != '/' || name[1] == '\0' || strchr(name + 1, '/') != NULL)
		return -EINVAL;
	return strlen(name) < REGION_NAME_MAX ? 0 : -ENAMETOOLONG;
}

/* The store has no slash in front. */
static const char *
stored(const char *name)
{
	return name + 1;
}

static bool
is_ours(const struct stat *st)
{
	return S_ISREG(st->st_mode) && st->st_uid == geteuid();
}

bool
region_is_huge(int fd)
{
	struct statfs fs;

	return fstatfs(fd, &fs) == 0 && fs.f_type == HUGETLBFS_MAGIC;
}

/* Of a tmpfs st_blksize may be the huge page it would like to use. */
static uint64_t
page_bytes(const struct region *region)
{
	struct stat st;

	if (region->kind == REGION_HUGETLB && fstat(region->fd, &st) == 0)
		return (uint64_t)st.st_blksize;
	return (uint64_t)sysconf(_SC_PAGESIZE);
}

static int
set_size(int fd, uint64_t bytes)
{
	if (bytes > INT64_MAX)
		return -EFBIG;
	return ftruncate(fd, (off_t)bytes) < 0 ? -errno : 0;
}

static int
posix_create(const char *name)
{
	int fd = shm_open(name, O_RDWR | O_CREAT | O_EXCL, 0600);

	return fd < 0 ? -errno : fd;
}

static int
memfd_open(const char *name, unsigned flags)
{
	int fd = memfd_create(name, flags | MFD_NOEXEC_SEAL);

	if (fd < 0 && errno == EINVAL)
		fd = memfd_create(name, flags);
	return fd < 0 ? -errno : fd;
}

static int
object_create(const char *name, enum region_kind kind)
{
	unsigned flags = MFD_CLOEXEC | MFD_ALLOW_SEALING;

	if (kind == REGION_POSIX)
		return posix_create(name);
	if (store_has(stored(name)))
		return -EEXIST;
	if (kind == REGION_HUGETLB)
		flags |= MFD_HUGETLB;
	return memfd_open(stored(name), flags);
}

/* Nothing goes to anybody before it is sealed. */
static int
seal(const struct region *region)
{
	int rc;

	if (region->kind == REGION_POSIX)
		return 0;
	if (fcntl(region->fd, F_ADD_SEALS, REGION_SEALS) < 0)
		return -errno;
	rc = store_put(stored(region->name), region->fd);
	if (rc < 0)
		log_warn("region",
		    "%s will not outlive this daemon: the service manager "
		    "cannot be told: %s",
		    region->name, strerror(-rc));
	return 0;
}

/* The size is rounded up to whole pages where the object has no other. */
static int
make_size(struct region *region, uint64_t bytes)
{
	uint64_t page = region->page_bytes;

	if (region->kind == REGION_HUGETLB && bytes % page != 0 &&
	    __builtin_add_overflow(bytes, page - bytes % page, &bytes))
		return -EFBIG;
	region->bytes = bytes;
	return set_size(region->fd, bytes);
}

int
region_create(struct region *region, const char *name, uint64_t bytes,
    enum region_kind kind)
{
	int rc = check_name(name);

	*region = (struct region){.kind = kind, .fd = -1};
	if (rc == 0 && bytes == 0)
		rc = -EINVAL;
	if (rc < 0)
		return rc;
	strcpy(region->name, name);
	rc = object_create(name, kind);
	if (rc < 0)
		return rc;
	region->fd = rc;
	region->page_bytes = page_bytes(region);
	/* The umask may have taken even the owner's bits. */
	rc = fchmod(region->fd, 0600) < 0 ? -errno : make_size(region, bytes);
	if (rc == 0)
		rc = seal(region);
	if (rc < 0)
		region_remove(region);
	return rc;
}

/* -EPERM for all that is there and cannot be ours. */
static int
posix_open(const char *name)
{
	int fd = shm_open(name, O_RDWR, 0);

	if (fd >= 0)
		return fd;
	return errno == ELOOP || errno == EACCES || errno == EINVAL ? -EPERM
								    : -errno;
}

static bool
is_sealed(const struct region *region)
{
	int seals = fcntl(region->fd, F_GET_SEALS);

	return seals >= 0 && (seals & REGION_SEALS) == REGION_SEALS &&
	       (seals & (F_SEAL_WRITE | F_SEAL_FUTURE_WRITE)) == 0;
}

/* Whether the object is what region_create() makes. */
static int
check_object(struct region *region)
{
	bool named = region->kind == REGION_POSIX;
	struct stat st;

	if (fstat(region->fd, &st) < 0)
		return -errno;
	if (!is_ours(&st) || (st.st_mode & 07777) != 0600 ||
	    st.st_nlink != named || (!named && !is_sealed(region)) ||
	    (fcntl(region->fd, F_GETFL) & O_ACCMODE) != O_RDWR)
		return -EPERM;
	region->bytes = (uint64_t)st.st_size;
	region->page_bytes = page_bytes(region);
	return 0;
}

/* From the store, which knows no kinds, and else by name. */
static int
object_open(struct region *region)
{
	int fd = store_take(stored(region->name));

	if (fd >= 0)
		region->kind =
		    region_is_huge(fd) ? REGION_HUGETLB : REGION_MEMFD;
	return fd == -ENOENT ? posix_open(region->name) : fd;
}

int
region_open(struct region *region, const char *name)
{
	int rc = check_name(name);

	*region = (struct region){.fd = -1};
	if (rc < 0)
		return rc;
	strcpy(region->name, name);
	rc = object_open(region);
	if (rc < 0)
		return rc;
	region->fd = rc;
	rc = check_object(region);
	if (rc < 0)
		region_close(region);
	return rc;
}

static int
reopen(const struct region *region)
{
	char path[64];
	int fd;

	if (region->kind == REGION_POSIX) {
		fd = shm_open(region->name, O_RDONLY, 0);
	} else {
		snprintf(path, sizeof(path), "/proc/self/fd/%d", region->fd);
		fd = open(path, O_RDONLY | O_CLOEXEC);
	}
	return fd < 0 ? -errno : fd;
}

int
region_open_readonly(const struct region *region)
{
	struct stat ours, there;
	int fd = reopen(region);

	if (fd < 0)
		return fd;
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

/* Whether the sealed object has room for so many bytes. */
static int
check_size(const struct region *region, uint64_t bytes)
{
	uint64_t size;
	int rc = region_size(region, &size);

	return rc == 0 && bytes > size ? -EPERM : rc;
}

int
region_grow(struct region *region, uint64_t bytes)
{
	int rc;

	if (bytes < region->bytes)
		return -EINVAL;
	rc = region->kind == REGION_POSIX ? set_size(region->fd, bytes)
					  : check_size(region, bytes);
	if (rc == 0)
		region->bytes = bytes;
	return rc;
}

void
region_unlink(struct region *region)
{
	if (region->fd < 0)
		return;
	if (region->kind == REGION_POSIX)
		shm_unlink(region->name);
	else
		store_drop(stored(region->name));
}

void
region_close(struct region *region)
{
	if (region->fd >= 0 && region->kind == REGION_POSIX)
		close(region->fd);
	else if (region->fd >= 0)
		store_return(stored(region->name), region->fd);
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

/* A number of pages from /proc/meminfo; 0 if it is not there. */
static uint64_t
meminfo_pages(const char *key)
{
	FILE *file = fopen("/proc/meminfo", "re");
	uint64_t number, pages = 0;
	char line[128], name[64];

	if (file == NULL)
		return 0;
	while (pages == 0 && fgets(line, sizeof(line), file) != NULL)
		if (sscanf(line, "%63[^:]: %" SCNu64, name, &number) == 2 &&
		    strcmp(name, key) == 0)
			pages = number;
	fclose(file);
	return pages;
}

uint64_t
region_huge_room(int fd)
{
	uint64_t unused = meminfo_pages("HugePages_Free");
	uint64_t promised = meminfo_pages("HugePages_Rsvd");
	struct stat st;

	if (fstat(fd, &st) < 0 || unused <= promised)
		return 0;
	return (unused - promised) * (uint64_t)st.st_blksize;
}

static int
posix_unlink_stale(const char *name)
{
	char path[sizeof(REGION_DIRECTORY) + REGION_NAME_MAX];
	struct stat st;

	snprintf(path, sizeof(path), REGION_DIRECTORY "%s", name);
	if (lstat(path, &st) < 0)
		return -errno;
	if (!is_ours(&st))
		return -EPERM;
	return unlink(path) < 0 ? -errno : 0;
}

int
region_unlink_stale(const char *name)
{
	int rc = check_name(name);

	if (rc < 0)
		return rc;
	if (!store_has(stored(name)))
		return posix_unlink_stale(name);
	store_drop(stored(name));
	return 0;
}

struct visitor {
	void (*visit)(void *arg, const char *name);
	void *arg;
};

static int
each_posix(const char *prefix, const struct visitor *v)
{
	DIR *directory = opendir(REGION_DIRECTORY);
	char name[REGION_NAME_MAX];
	struct dirent *entry;
	int n = 0;

	if (directory == NULL)
		return errno == ENOENT ? 0 : -errno;
	while ((entry = readdir(directory)) != NULL) {
		if (snprintf(name, sizeof(name), "/%s", entry->d_name) >=
			(int)sizeof(name) ||
		    strncmp(name, prefix, strlen(prefix)) != 0)
			continue;
		v->visit(v->arg, name);
		n++;
	}
	closedir(directory);
	return n;
}

static void
visit_stored(void *arg, const char *name, int fd)
{
	const struct visitor *v = arg;
	char full[REGION_NAME_MAX];

	(void)fd;
	if (snprintf(full, sizeof(full), "/%s", name) < (int)sizeof(full))
		v->visit(v->arg, full);
}

int
region_each(
    const char *prefix, void (*visit)(void *arg, const char *name), void *arg)
{
	struct visitor v = {visit, arg};
	int named, kept, rc = check_name(prefix);

	if (rc < 0)
		return rc;
	named = each_posix(prefix, &v);
	if (named < 0)
		return named;
	kept = store_each(stored(prefix), visit_stored, &v);
	return kept < 0 ? kept : named + kept;
}
