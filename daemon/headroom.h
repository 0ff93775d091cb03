/*
 * How much more memory an object can get before a limit stops it: the size of
 * its file system, what the host has left, and the limits of our memory cgroup
 * and of those above it (both versions of cgroups).
 */
#ifndef SLABD_DAEMON_HEADROOM_H
#define SLABD_DAEMON_HEADROOM_H

#include <stdint.h>

/*
 * The least room any limit leaves for the object behind `fd`, in bytes; a limit
 * that cannot be read does not count, and UINT64_MAX means none could. Page
 * cache counts as room, since the kernel gives it up; swap under a cgroup's
 * limit does not. Only an estimate: others allocate meanwhile.
 */
uint64_t headroom(int fd);

#endif
