/*
 * One running daemon, identified by its socket's path.
 *
 * The path is made canonical (its directory without symbolic links), and the
 * 64-bit FNV-1a hash of it is part of every shared-memory name, so that the
 * objects of two daemons never meet. A lock on "<socket>.lock" makes a second
 * daemon on the same path stop before it touches anything; the kernel drops it
 * with the process. The lock file stays: removing it would race with a
 * newcomer.
 *
 * The daemon's helper may outlive it for a moment, and must not meet the next
 * daemon. So there is a second lock on the first byte of the file, and it lies
 * on a descriptor of its own (F_OFD_SETLK in fcntl(2)): whoever has a copy holds
 * it, those who inherited one by fork included, and it ends with the last one.
 * The daemon takes it and hands the copy over with no moment between in which
 * nobody has it.
 */
#ifndef SLABD_DAEMON_INSTANCE_H
#define SLABD_DAEMON_INSTANCE_H

#include <stddef.h>
#include <stdint.h>

#define INSTANCE_PATH_MAX   108u /* NUL included, as in sun_path */
#define INSTANCE_PREFIX_MAX 32u

struct instance {
	char socket_path[INSTANCE_PATH_MAX]; /* canonical */
	uint64_t hash;			     /* FNV-1a of socket_path */
	char prefix[INSTANCE_PREFIX_MAX];    /* "/slabd-<16 hex digits>-" */
	int lock_fd;			     /* holds the lock while open */
};

/*
 * Takes the lock for `socket_path`. A missing last directory of the path is
 * created, mode 0755 as far as the umask lets it. 0, and *instance is to be
 * given to instance_close(); -EADDRINUSE: another daemon has it; -ENAMETOOLONG:
 * the canonical path does not fit a socket address; -EINVAL: no file name in
 * it; -EPERM: the lock file is no regular file of our own; or what realpath(3),
 * mkdir(2) and open(2) gave.
 */
int instance_open(struct instance *instance, const char *socket_path);

/*
 * Waits until the helper of the daemon before us, and what it forked, are gone:
 * before anything is touched that they may be at work on, and before
 * instance_guard(). 0, or what fcntl(2) gave.
 */
int instance_wait_helper(const struct instance *instance);

/*
 * A descriptor that holds the second lock, for helper_guard(); the caller closes
 * it. -ESTALE: the lock file has been replaced; -EADDRINUSE: somebody holds the
 * lock; or what open(2) and fcntl(2) gave.
 */
int instance_guard(const struct instance *instance);

/*
 * What the shared-memory object `part` of a pool is called: "<prefix><pool>.<part>".
 */
void instance_object_name(const struct instance *instance, const char *pool,
    const char *part, char *name, size_t size);

/* Gives the lock up. */
void instance_close(struct instance *instance);

#endif
