/*
 * The segment helper: a process of its own that puts memory into regions and
 * takes it out again, because both take long (tenths of a second for a GiB) and
 * the first can end in a kill by the kernel instead of an error.
 *
 * The helper is forked before the event loop, the instance's lock and the
 * sockets exist, holds none of them, confines itself (confine.h), and dies with
 * the daemon. It runs one job after the other, those that attach each in a
 * worker process that offers itself to the kernel's out-of-memory killer first.
 * A killed worker is an error reply, and so is a request that the memory limits
 * in force cannot meet; either way no memory stays behind.
 *
 * A daemon that is killed may leave the helper and a worker behind for a moment,
 * in the middle of a job. The lock of helper_guard() tells the next one when
 * they are gone, see instance_wait_helper().
 *
 * Offsets and lengths are multiples of the region's page size, by the caller's
 * care. The range of a job belongs to it until its result has come: no second
 * job on the same range may wait behind it unless it is meant to follow it.
 */
#ifndef SLABD_DAEMON_HELPER_H
#define SLABD_DAEMON_HELPER_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

enum helper_kind {
	HELPER_ATTACH = 1, /* every page of the range gets memory */
	HELPER_DETACH,	   /* the range becomes a hole, and is not locked */
	HELPER_LOCK,	   /* locks the range, which has its memory */
	HELPER_FORGET,	   /* unlocks all of the object, whatever the range */
	HELPER_GUARD,	   /* helper_guard()'s own */
};

struct helper_job {
	uint64_t id; /* the caller's; comes back in the result */
	enum helper_kind kind;
	int fd; /* the region, open for writing until the result is there */
	uint64_t offset, bytes;
	/* Of HELPER_ATTACH: */
	bool prefault; /* pages are cleared now, not when they are used first */
	bool lock;     /* HELPER_LOCK at once */
};

struct helper_result {
	uint64_t id;
	/*
	 * 0; -ENOSPC: it cannot fit, or did not; -ENOMEM: the kernel killed the
	 * worker; -EPERM: RLIMIT_MEMLOCK does not let the range be locked;
	 * -EINVAL: the range is empty or leaves the object; -EOPNOTSUPP: this
	 * kernel cannot prefault; or what fallocate(2), madvise(2) and fork(2)
	 * gave. After a failed attach the range is a hole again; a failed lock
	 * leaves its memory as it is.
	 */
	int status;
	uint64_t needed;    /* bytes a failed attach asked for, otherwise 0 */
	uint64_t available; /* bytes there was room for, otherwise 0, also
			       when it was not for want of room */
};

struct helper;

/* Forks the helper; while there is one thread. 0 or -errno. */
int helper_start(struct helper **out);

/* To be watched for WATCH_READ, then helper_read() until it returns 0. */
int helper_fd(const struct helper *helper);

/* The helper's process, for messages. */
pid_t helper_pid(const struct helper *helper);

/*
 * Gives the helper what instance_guard() made, before the first job: the helper
 * and its workers hold that lock as long as one of them lives. The caller closes
 * its descriptor. 0, or what sendmsg(2) gave.
 */
int helper_guard(struct helper *helper, int guard);

/*
 * Hands a job over, or keeps it until the helper has room; never waits. Results
 * come in the order of submission. 0; -EPIPE: the helper is gone; -ENOMEM,
 * -EMFILE, or what sendmsg(2) gave: no result will come.
 */
int helper_submit(struct helper *helper, const struct helper_job *job);

/*
 * The next result: 1, or 0 when there is none yet. -EPIPE: the helper is gone
 * (logged once); no job that is still open will be answered, and the descriptor
 * stays readable, so stop watching it.
 */
int helper_read(struct helper *helper, struct helper_result *result);

/*
 * Ends the helper, without waiting for its job; call after the watch on its
 * descriptor is freed. NULL is accepted.
 */
void helper_stop(struct helper *helper);

#endif
