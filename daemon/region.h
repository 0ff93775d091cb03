/*
 * A region: an object of shared memory, as large as it may ever get and sparse.
 * Memory is attached to ranges of it by the helper; nothing here allocates any,
 * and the daemon never maps the region of a pool.
 *
 * posix: a named POSIX shared-memory object. It outlives the daemon by itself,
 * and whoever may write it can also cut it off. Ours is a regular file with one
 * name, mode 0600 whatever the umask says, that belongs to our effective user;
 * others get at it by descriptor, never by name.
 *
 * memfd: an object without a name in the file system, sealed: its size never
 * changes, so nobody can cut it off or make it hold more than its size.
 * It outlives the daemon in the service manager's descriptor store, see
 * store.h, or not at all.
 *
 * hugetlb: the same, of huge pages of the system's default size. Sizes are
 * rounded up to them. The seal is no promise of memory: a range that the helper
 * has not filled is a SIGBUS to who touches it, as in the other kinds on a full
 * file system.
 *
 * A descriptor that can only read keeps a process of another user from writing,
 * truncating and punching holes: /proc would open the object anew for writing
 * only to who has the rights, and those are our user's alone. It is no
 * protection from our own user and from root, who may change the mode and then
 * open it as they like, nor does a seal keep anybody who can write from punching
 * holes.
 */
#ifndef SLABD_DAEMON_REGION_H
#define SLABD_DAEMON_REGION_H

#include <stdbool.h>
#include <stdint.h>

#define REGION_NAME_MAX 256u /* the slash in front and the NUL included */

enum region_kind {
	REGION_POSIX,
	REGION_MEMFD,
	REGION_HUGETLB,
};

struct region {
	char name[REGION_NAME_MAX]; /* "/slabd-..." */
	enum region_kind kind;
	int fd;		     /* read and write; -1: none */
	uint64_t bytes;	     /* size of the object, not memory used; who has
				made a sealed one larger may say less */
	uint64_t page_bytes; /* what it gets and gives back at least */
};

/*
 * Creates the object `name` with `bytes` bytes, no memory in it. A sealed one
 * is given to the service manager; that this failed is logged and no error.
 * 0; -EEXIST: the name is taken (see region_unlink_stale()); -EINVAL: 0 bytes
 * or a bad name; -ENAMETOOLONG; -EFBIG; or what shm_open(3), memfd_create(2),
 * fchmod(2), ftruncate(2) and fcntl(2) gave. On failure nothing is left behind
 * and region->fd is -1.
 */
int region_create(struct region *region, const char *name, uint64_t bytes,
    enum region_kind kind);

/*
 * Finds an object again that a daemon before us left, of whichever kind, and
 * makes it ours as if region_create() had made it just now; region->bytes is the
 * size it has. 0; -ENOENT: there is none; -EPERM: it is not what region_create()
 * makes for our user; -EINVAL, -ENAMETOOLONG: a bad name; or what open(2) gave.
 * On failure region->fd is -1.
 */
int region_open(struct region *region, const char *name);

/*
 * Calls `visit` for each name with `prefix` under which a daemon before us left
 * something, be it ours or not, unless region_open() has taken it from the
 * store. It may open and unlink what it is shown. How many, or -errno.
 */
int region_each(
    const char *prefix, void (*visit)(void *arg, const char *name), void *arg);

/*
 * A second descriptor that cannot write, grow or punch, for clients that may
 * only read; the caller closes it. The descriptor or -errno; -ESTALE: the name
 * leads to another object by now.
 */
int region_open_readonly(const struct region *region);

/*
 * How long the object is now, which who may write it can change unless it is
 * sealed. 0 or -errno.
 */
int region_size(const struct region *region, uint64_t *bytes);

/*
 * Makes region->bytes `bytes`, and a posix object that long; a sealed one must be
 * already. 0; -EINVAL: it never becomes less; -EPERM: a sealed object is not as
 * long; or -errno.
 */
int region_grow(struct region *region, uint64_t bytes);

/*
 * Removes the name alone, or closes alone: each once. What was found in the store
 * and has kept its name can be found there again once it is closed.
 */
void region_unlink(struct region *region);
void region_close(struct region *region);

/* Removes the name and closes; who has it open keeps the memory. Twice is fine.
 */
void region_remove(struct region *region);

/* Bytes of memory in the object behind `fd`; 0 if it cannot be told. */
uint64_t region_allocated(int fd);

/* Whether the object behind `fd` is of huge pages, which are never swapped. */
bool region_is_huge(int fd);

/* Bytes there are for one of the default size; 0 if it cannot be told. */
uint64_t region_huge_room(int fd);

/*
 * Removes an object a daemon before us left and we did not take. 0 or -ENOENT;
 * -EPERM: it is no regular file of our user and stays.
 */
int region_unlink_stale(const char *name);

#endif
