/*
 * Ranges of regions that are kept in memory, never swapped. Pages of a shared
 * object stay as long as one process has them locked; the helper does so for
 * all, since it lives as long as the daemon, and neither the workers nor the
 * daemon, which maps no region, could.
 *
 * The mappings are for the kernel alone: no instruction reads or writes through
 * them, so what a client cuts off an object is no SIGBUS here.
 */
#ifndef SLABD_DAEMON_LOCKED_H
#define SLABD_DAEMON_LOCKED_H

#include <stdint.h>

/*
 * Locks the range, which has its memory; as often as one likes. Huge pages stay
 * of themselves. 0; -EPERM: RLIMIT_MEMLOCK, or what else restricts us, is in
 * the way; -EINVAL: the object has become shorter meanwhile; -ENOMEM; or what
 * mmap(2) gave. After a failure none of the range is locked.
 */
int locked_add(int fd, uint64_t offset, uint64_t bytes);

/* Unlocks the range, however often it was locked. */
void locked_drop(int fd, uint64_t offset, uint64_t bytes);

/* Unlocks the whole object, which then is no longer kept alive from here. */
void locked_forget(int fd);

#endif
