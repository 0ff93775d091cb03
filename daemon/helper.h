/*
 * The segment helper: a process of its own that puts memory into regions and
 * takes it out again, because both take long (tenths of a second for a GiB) and
 * the first can end in a kill by the kernel instead of an error.
 *
 * The helper is forked before the event loop, the lock and the sockets exist,
 * holds none of them, and dies with the daemon. It runs one job after the
 * other, each in a worker process that offers itself to the kernel's
 * out-of-memory killer first. A killed worker is an error reply, and so is a
 * request that the memory limits in force cannot meet; either way no memory
 * stays behind.
 *
 * Offsets and lengths are multiples of the page size, by the caller's care. The
 * range of a job belongs to it until its result has come: no second job on the
 * same range may wait behind it unless it is meant to follow it.
 */
#ifndef SLABD_DAEMON_HELPER_H
#define SLABD_DAEMON_HELPER_H

#include <stdint.h>
#include <sys/types.h>

enum helper_kind {
	HELPER_ATTACH = 1, /* every page of the range gets memory */
	HELPER_DETACH,	   /* the range becomes a hole */
};

struct helper_job {
	uint64_t id; /* the caller's; comes back in the result */
	enum helper_kind kind;
	int fd; /* the region, open for writing until the result is there */
	uint64_t offset, bytes;
};

struct helper_result {
	uint64_t id;
	/*
	 * 0; -ENOSPC: it cannot fit, or did not; -ENOMEM: the kernel killed the
	 * worker; -EINVAL: the range is empty or leaves the object; or what
	 * fallocate(2) and fork(2) gave. After a failed attach the range is a
	 * hole again.
	 */
	int status;
	uint64_t needed;    /* bytes a failed attach asked for, otherwise 0 */
	uint64_t available; /* bytes there was room for, otherwise 0 */
};

struct helper;

/* Forks the helper; while there is one thread. 0 or -errno. */
int helper_start(struct helper **out);

/* To be watched for WATCH_READ, then helper_read() until it returns 0. */
int helper_fd(const struct helper *helper);

/* The helper's process, for messages. */
pid_t helper_pid(const struct helper *helper);

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
