/*
 * A region: the POSIX shared-memory object of a pool, as large as the pool may
 * ever get and sparse. Memory is attached to ranges of it by the helper;
 * nothing here allocates any, and the daemon never maps one.
 *
 * An object is ours if it is a regular file, belongs to our effective user and
 * is made with O_EXCL; others get at it by descriptor, never by name, so its
 * mode is 0600 whatever the umask says.
 */
#ifndef SLABD_DAEMON_REGION_H
#define SLABD_DAEMON_REGION_H

#include <stdint.h>

#define REGION_NAME_MAX 256u /* the slash in front and the NUL included */

struct region {
	char name[REGION_NAME_MAX]; /* "/slabd-..." */
	int fd;			    /* read and write; -1: none */
	uint64_t bytes;		    /* size of the object, not memory used */
};

/*
 * Creates the object `name` with `bytes` bytes, no memory in it. 0; -EEXIST:
 * the name is taken (see region_unlink_stale()); -EINVAL: 0 bytes or a bad
 * name; -ENAMETOOLONG; -EFBIG; or what shm_open(3), fchmod(2) and ftruncate(2)
 * gave. On failure nothing is left behind and region->fd is -1.
 */
int region_create(struct region *region, const char *name, uint64_t bytes);

/*
 * A second descriptor that cannot write, grow or punch, for clients that may
 * only read; the caller closes it. The descriptor or -errno; -ESTALE: the name
 * leads to another object by now.
 */
int region_open_readonly(const struct region *region);

/* How long the object is now, which who may write it can change. 0 or -errno.
 */
int region_size(const struct region *region, uint64_t *bytes);

/* Makes the object `bytes` long; never shorter: -EINVAL. Else 0 or -errno. */
int region_grow(struct region *region, uint64_t bytes);

/* Removes the name alone, or closes alone: each once. */
void region_unlink(struct region *region);
void region_close(struct region *region);

/* Removes the name and closes; who has it open keeps the memory. Twice is fine.
 */
void region_remove(struct region *region);

/* Bytes of memory in the object behind `fd`; 0 if it cannot be told. */
uint64_t region_allocated(int fd);

/*
 * Removes an object a daemon before us left. 0 or -ENOENT; -EPERM: it is no
 * regular file of our user and stays.
 */
int region_unlink_stale(const char *name);

/*
 * The same for every object whose name starts with `prefix`, an instance's. How
 * many were removed, or -errno; those that are not ours are left alone.
 */
int region_sweep(const char *prefix);

#endif
