/*
 * libslabd: fixed-size buffers shared between processes.
 *
 * A daemon, slabd(8), owns pools of equal slots in shared memory. A program
 * opens a connection (struct slabd), attaches pools through it (struct
 * slabd_pool), allocates slots, writes into them in place and hands them to
 * other processes as a slabd_ref: 64 bits that may travel through any pipe,
 * queue or file. What a process held when it died is free again; nothing leaks.
 *
 * Errors. A function returning int gives 0, or a count, or -errno; one
 * returning a pointer gives NULL and sets errno; on failure *out is NULL.
 * slabd_error_detail() says in words what went wrong last in this thread. A
 * handle that is NULL is -EINVAL (and 0 or UINT64_MAX where there is no errno),
 * but slabd_close() and slabd_pool_detach() do nothing; other pointers are not
 * checked.
 *
 * Threads. Every handle may be used from many threads at once, except that
 * slabd_close() and slabd_pool_detach() may not race other calls on the same
 * handle. Nothing here is async-signal-safe; a handler that allocates or frees
 * while it interrupts its own thread doing so in the same pool gets EDEADLK.
 *
 * Fork. A child inherits no slots: its calls on inherited handles fail with
 * EOWNERDEAD, and close and detach only free memory. It opens its own.
 *
 * The daemon's end. Calls that need the daemon wait for the next one, which goes
 * on where the last one was; none fails for that before reconnect_ms is over, and
 * slots, addresses and refs stay valid. With a lane what needs no message goes
 * on meanwhile.
 *
 * Besides what is named at each function, every call that talks to the daemon
 * may fail with ENOTCONN (the daemon has been away for longer than
 * reconnect_ms; the handle works again once it is back), ENOTRECOVERABLE (the
 * daemon knows nothing of this pool any more: detach and attach again), EPROTO
 * (the peer broke the protocol; the connection was ended), EOWNERDEAD and
 * ENOMEM.
 *
 * The manual: slabd(7), slabd_open(3), slabd_pool_attach(3), slabd_alloc(3),
 * slabd_send(3).
 */
#ifndef SLABD_H
#define SLABD_H

#include <stddef.h>
#include <stdint.h>

#if defined(__GNUC__)
#define SLABD_API __attribute__((visibility("default")))
#else
#define SLABD_API
#endif

#define SLABD_VERSION \
	"0.1.0" /* this header's; slabd_version(): the library's */

#ifdef __cplusplus
extern "C" {
#endif

struct slabd;		    /* a connection to a daemon */
struct slabd_pool;	    /* a pool, attached through a connection */
typedef uint64_t slabd_ref; /* one slot at one version; 0 is never valid */

/* Attach flags. */
#define SLABD_RDONLY   1u /* receive and free only; memory mapped read-only */
#define SLABD_NO_LANE  2u /* every operation is a message to the daemon */
#define SLABD_NONBLOCK 4u /* EAGAIN instead of waiting for the daemon */
#define SLABD_CHECKED  8u /* of threads racing to free one slot one succeeds */

/* Slots at most in one slabd_pool_want(), and granted by one alloc_many(). */
#define SLABD_BATCH_MAX 1024u

/* Receivers at most of one slabd_share(). */
#define SLABD_SHARE_MAX 255u

/* Start from SLABD_OPTIONS_INIT; new members are added at the end. */
struct slabd_options {
	uint32_t size;		 /* sizeof(struct slabd_options) */
	uint32_t flags;		 /* none yet: 0 */
	const char *socket_path; /* NULL: see slabd_open() */
	const char *label;    /* shown by `slabctl holders`; at most 63 bytes of
				 UTF-8 without control characters; NULL: none */
	int32_t connect_ms;   /* how long to wait for a daemon to appear; 0: one
				 try; -1: for ever */
	int32_t reconnect_ms; /* how long calls wait for a daemon that went
				 away; 0: calls under way fail, later ones
				 try once; -1: for ever */
};
#define SLABD_OPTIONS_INIT                                            \
	{                                                             \
		sizeof(struct slabd_options), 0, NULL, NULL, 0, 10000 \
	}

/*
 * Connects to the daemon at `socket_path`. NULL: $SLABD_SOCKET if set, else
 * the first that accepts of $XDG_RUNTIME_DIR/slabd/slabd.sock and
 * /run/slabd/slabd.sock; set-uid programs ignore the environment.
 *
 * 0; -EINVAL: an option; -ENAMETOOLONG: over 107 bytes; -ENOENT,
 * -ECONNREFUSED: no daemon there; -ENOTSOCK: something else is there;
 * -EPROTOTYPE: another program's socket; -EACCES: not allowed to open the
 * socket; -EAGAIN: the daemon accepts nobody; -EUSERS: it has as many
 * connections, in all or of this user, as it admits; -ETIMEDOUT: connected, but
 * no answer within 5 seconds; -EPROTONOSUPPORT: it speaks another version;
 * -ENOMEM, -EMFILE, -ENFILE.
 */
SLABD_API int slabd_open(struct slabd **out, const char *socket_path);
SLABD_API int slabd_open_options(
    struct slabd **out, const struct slabd_options *opt);

/*
 * Gives everything back, detaches the pools and frees the handle; slots are
 * free when it returns (a daemon that does not answer is waited for up to five
 * seconds; one that is away only for attachments without a lane, and else learns
 * it later). What was sent and not received yet stays receivable. NULL is fine.
 */
SLABD_API void slabd_close(struct slabd *s);

/*
 * A descriptor to poll for reading: the same for the handle's life, also across
 * reconnects; readable when there is something for slabd_dispatch(), until that
 * is called. Never read or close it. -EMFILE, -ENFILE, -ENOMEM.
 */
SLABD_API int slabd_fd(struct slabd *s);

/*
 * Takes what the daemon has sent, and never blocks: how many events (reserved
 * slots, finished non-blocking calls, a retired or grown pool, the daemon's loss
 * and return) came since the last time, by whichever thread they were taken.
 * Looks for a daemon that is away; -ENOTCONN: for longer than reconnect_ms.
 */
SLABD_API int slabd_dispatch(struct slabd *s);

/* The statistics document of slabctl(1); free() it. */
SLABD_API int slabd_stats_json(struct slabd *s, char **json);

SLABD_API const char *slabd_version(void);

/* What an error means here; takes -errno or errno. Never NULL. */
SLABD_API const char *slabd_strerror(int err);

/*
 * This thread's last failure in words: what, why, and what can be done; valid
 * until its next failure. May have several lines, but no other control
 * characters. Empty before the first.
 */
SLABD_API const char *slabd_error_detail(void);

/*
 * Attaches the pool `name`; its slots are at fixed addresses until detach. Time
 * does not depend on the pool's size. A pool may be attached several times.
 *
 * Slots are granted and given back ahead of need through memory shared with the
 * daemon, the attachment's lane, so that most calls cost no message; with
 * SLABD_NO_LANE, or where the daemon cannot give one, each call is a message.
 *
 * 0; -EINVAL: name or flags; -ENOENT: no such pool; -EACCES: no right to it;
 * -EUSERS: it has as many attachments as it admits; -EDQUOT: no slots left to
 * reserve for one more; -ESHUTDOWN: it was retired; -EBUSY: earlier answers
 * wait to be read, try again; -EUCLEAN: a client has truncated its region;
 * -ENOLCK: the lane could not be locked; -ENOMEM: also no address space;
 * -EMFILE.
 */
SLABD_API int slabd_pool_attach(
    struct slabd_pool **out, struct slabd *s, const char *name, unsigned flags);

/*
 * Gives back what the attachment holds and frees it; a daemon that is away is
 * not waited for, and learns it later. NULL is fine.
 */
SLABD_API void slabd_pool_detach(struct slabd_pool *p);

/* Usable bytes of a slot: a multiple of 64. 0 for NULL. */
SLABD_API size_t slabd_pool_slot_size(const struct slabd_pool *p);

/*
 * Where the whole region is mapped, for DMA, io_uring, CUDA. `bytes` may grow,
 * `base` does not change. Either address may be NULL.
 */
SLABD_API int slabd_pool_region(
    const struct slabd_pool *p, void **base, uint64_t *bytes);

/*
 * Queues, fairly, for `n` slots (at most SLABD_BATCH_MAX) and returns at once;
 * slabd_fd() turns readable when they are reserved, and slabd_alloc() and
 * slabd_alloc_many() take from the reserve first. Asking again replaces what is
 * not granted yet; 0 cancels and gives the reserve back.
 *
 * 0; -EINVAL: n; -EACCES; -ESHUTDOWN: the pool was retired; -EAGAIN: the
 * attachment is SLABD_NONBLOCK and the daemon is behind with reading.
 */
SLABD_API int slabd_pool_want(struct slabd_pool *p, unsigned n);

/*
 * A slot, uninitialised, aligned to the largest power of two that divides the
 * slot size, at most a page. Does not wait for others to free one.
 *
 * NULL and errno: ENOBUFS: none free and the pool at its cap; ENOSPC: it may
 * grow but the host has no memory; EDQUOT; ESHUTDOWN; EACCES; EAGAIN; EDEADLK.
 */
SLABD_API void *slabd_alloc(struct slabd_pool *p);

/*
 * The same, waiting in a fair queue for up to `timeout_ms` (-1: for ever).
 * ETIMEDOUT; EINTR: a signal handler ran. On a SLABD_NONBLOCK attachment the
 * place in the queue is kept by EAGAIN, and the timeout means nothing.
 */
SLABD_API void *slabd_alloc_wait(struct slabd_pool *p, int timeout_ms);

/*
 * Up to `n` slots: how many, 1..n and at most SLABD_BATCH_MAX; v[0..] is set.
 * Negative: as slabd_alloc(); -EINVAL: n is 0.
 */
SLABD_API int slabd_alloc_many(struct slabd_pool *p, void **v, unsigned n);

/*
 * Frees a slot; any thread may. -EINVAL: no slot starts there, and NULL is none
 * (unlike free(3)); -EALREADY: it is free already; -EPERM: not held by this
 * attachment; -EDEADLK. A slot shared and received in one process is freed once
 * for each. With a lane no daemon need be there. Without one the answer is not
 * waited for on a SLABD_NONBLOCK attachment; -EAGAIN: nothing was freed, try
 * again.
 *
 * A second free is always found, unless two threads free the same slot at the
 * same instant: then both may succeed, or, with SLABD_CHECKED, exactly one.
 */
SLABD_API int slabd_free(struct slabd_pool *p, void *slot);

/* Tries all: `n`, or the first failure met. v is not changed. */
SLABD_API int slabd_free_many(struct slabd_pool *p, void **v, unsigned n);

/*
 * Gives the slot away: whoever first receives `*ref` in this pool has it. What
 * was written before is visible after that receive, however the ref travelled.
 * On failure the slot stays the caller's and *ref is 0.
 *
 * 0; -EINVAL, -EALREADY, -EPERM: as slabd_free(); -EBUSY: it is shared;
 * -EACCES: attached SLABD_RDONLY; -EAGAIN.
 */
SLABD_API int slabd_send(struct slabd_pool *p, void *slot, slabd_ref *ref);

/*
 * Keeps the slot and offers it `receivers` times, 1..SLABD_SHARE_MAX (else
 * -EINVAL). It is free when nothing is open and all have freed it. Errors as
 * slabd_send(); -EBUSY: it is shared already.
 */
SLABD_API int slabd_share(
    struct slabd_pool *p, void *slot, unsigned receivers, slabd_ref *ref);

/*
 * Takes a slot that was sent, or one receipt of a share. -EINVAL: no ref of
 * this pool; -ESTALE: used up, recalled or expired; -EAGAIN.
 */
SLABD_API int slabd_receive(struct slabd_pool *p, slabd_ref ref, void **slot);

/*
 * Withdraws what is still open: how many receipts. A sent slot is the caller's
 * again at the same address (1), a shared one stays held. -EPERM: this
 * attachment did not send it; -ESTALE: an older ref; -EINVAL; -EACCES; -EAGAIN.
 */
SLABD_API int slabd_recall(struct slabd_pool *p, slabd_ref ref);

/* At most `n` of them, 1..SLABD_SHARE_MAX (else -EINVAL). */
SLABD_API int slabd_recall_n(struct slabd_pool *p, slabd_ref ref, unsigned n);

/*
 * Waits until nothing this attachment sent or shared is open, for up to
 * `timeout_ms` (0: only asks, -1: for ever): 0, or how many slots still are.
 * -EINTR: a signal handler ran; -EAGAIN.
 */
SLABD_API int slabd_flush(struct slabd_pool *p, int timeout_ms);

/* The slot's offset from the region's start; UINT64_MAX: no slot is there. */
SLABD_API uint64_t slabd_offset(const struct slabd_pool *p, const void *slot);

/* And back; NULL: no slot starts at `offset`. */
SLABD_API void *slabd_at(const struct slabd_pool *p, uint64_t offset);

/*
 * SLABD_SCOPED(pool, type, name) declares `type *name` and allocates it (NULL
 * and errno on failure). At the end of the scope the slot `name` then points to
 * is freed (NULL: nothing, so set it NULL after a send); errno survives.
 */
struct slabd_scope_ {
	struct slabd_pool *pool;
	void *where;
};
SLABD_API struct slabd_scope_ slabd_scope_begin_(
    struct slabd_pool *pool, void *where);
SLABD_API void slabd_scope_end_(struct slabd_scope_ *scope);
#if defined(__GNUC__)
#define SLABD_SCOPED(pool, type, name)                           \
	type *name = NULL;                                       \
	struct slabd_scope_ name##_scope_                        \
	    __attribute__((cleanup(slabd_scope_end_), unused)) = \
		slabd_scope_begin_((pool), &name)
#endif

#ifdef __cplusplus
}
#endif

#endif
