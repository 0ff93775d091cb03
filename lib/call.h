/*
 * Requests and their answers over one connection, from many threads.
 *
 * A call is one request; it stands in the connection's list from the moment it
 * was sent until it is answered, and its tag finds it. Of the threads that wait
 * for answers one at a time is the receiver: it sleeps in the socket without
 * the lock and gives each answer to the call it is for; the others sleep on a
 * semaphore of their own. A receiver that has its answer passes the role on.
 *
 * Rules. `lock` guards everything but the inbox and the socket's reading end,
 * which are the receiver's. Only the receiver, or whoever holds the lock while
 * there is none, closes the socket. A call's `reply` runs exactly once, with
 * the lock held, by whichever thread took the answer: it may start other calls,
 * by call_post() alone, and must not wait. Whoever slept and leaves wakes
 * another sleeper if nobody receives (session_leave), so that no answer lies
 * unread while threads wait.
 */
#ifndef SLABD_CALL_H
#define SLABD_CALL_H

#include <pthread.h>
#include <semaphore.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "error.h"
#include "slabd.h"
#include "wire.h"

#define NEVER INT64_MAX /* a deadline, in ms of CLOCK_MONOTONIC */

/* An answer or event as it came; descriptors left in it are closed. */
struct message {
	struct wire_header header;
	struct wire_reader body;
	unsigned n_fds;
	int fds[WIRE_FDS_MAX];
	bool cut; /* more descriptors came than there was room for */
};

enum call_owner {
	CALL_WAITED, /* a thread waits for it */
	CALL_KEPT,   /* somebody will ask for it; the answer is news */
	CALL_POSTED, /* nobody does: freed when answered */
};

struct slabd_call {
	TAILQ_ENTRY(slabd_call) link; /* in the session's calls or unsent */
	TAILQ_ENTRY(slabd_call) nap;  /* in sleepers */
	LIST_ENTRY(slabd_call) kept;  /* in the pool's, when CALL_KEPT */
	sem_t wake;
	enum call_owner owner;
	bool sent, done;
	bool interruptible; /* waiting ends with EINTR after a signal */
	bool owed;	    /* a RECEIVE whose slot must be freed if it fails */

	/* The request. */
	uint16_t type, flags;
	uint32_t tag;
	struct slabd_pool *pool; /* NULL: none, */
	uint32_t attachment;	 /* and this one is meant */
	const void *body;
	size_t len;
	uint8_t small[16]; /* room for a body of fixed form */
	uint64_t ref;	   /* what it is about, */
	uint32_t n;	   /* and how many: these tell kept calls apart */

	/*
	 * The answer. `reply` finds status set; `m` is NULL when there will be
	 * none (not sent, or the connection ended). -EBADMSG: the answer is
	 * malformed, and the connection ends. NULL: an empty answer is due.
	 */
	int (*reply)(struct slabd_call *, struct message *m);
	int status;
	uint64_t result; /* a ref or number, */
	void *slot;	 /* an address, */
	void *out;	 /* or whatever `reply` fills for the caller */
	char text[ERROR_TEXT_BYTES];
};

TAILQ_HEAD(call_list, slabd_call);

struct slabd {
	pthread_mutex_t lock;
	unsigned generation; /* of the process it belongs to */

	int socket;	/* -1: there is none */
	bool broken;	/* the receiver is about to find the socket dead */
	bool receiving; /* somebody is the receiver, or connects */
	unsigned epoch; /* rises with every new session */
	uint32_t tag;	/* the last one given */
	struct call_list calls, unsent, sleepers;
	LIST_HEAD(, slabd_pool) pools;

	int epoll, event; /* slabd_fd(), and what makes it readable; or -1 */
	unsigned news;	  /* not yet reported by slabd_dispatch() */

	char *path; /* as asked for; NULL: the usual places */
	char label[WIRE_LABEL_MAX + 1];
	int32_t reconnect_ms;
	int64_t lost_at; /* when the daemon went away */
	uint64_t session, token, instance;

	uint8_t inbox[WIRE_MESSAGE_MAX];
	uint8_t outbox[WIRE_MESSAGE_MAX]; /* guarded by lock */
};

/* A socket on which the daemon has said hello, and what it said. */
struct greeting {
	int socket;
	uint64_t session, token, instance;
};

/* Milliseconds of CLOCK_MONOTONIC; and `ms` from now, NEVER if negative. */
int64_t clock_ms(void);
int64_t clock_after(int ms);

/*
 * Around every call of the library: takes the lock and holds off thread
 * cancellation; `cancel` is for session_leave(). -EOWNERDEAD, -EINVAL: NULL
 * (and no lock).
 */
int session_enter(struct slabd *, int *cancel);
void session_leave(struct slabd *, int cancel);

/* The rest needs the lock, and drops it only where it waits. */

/* Small bodies. */
void call_put_u32(struct slabd_call *, uint32_t);
void call_put_u64(struct slabd_call *, uint64_t);

/*
 * Reconnects if need be; -ENOTCONN, -ENOTRECOVERABLE (the call's pool is of
 * another session). Without `wait` only looks.
 */
int call_ready(struct slabd *, struct slabd_call *, bool wait);

/*
 * Sends: 0, or why it could not (`reply` has run then). Without `wait` -EAGAIN
 * when the socket has no room.
 */
int call_start(struct slabd *, struct slabd_call *, bool wait);
/* Waits for the answer: 0, -ETIMEDOUT, -EINTR (still under way then). */
int call_await(struct slabd *, struct slabd_call *, int64_t deadline);
/* Both: the status, with the failure in words. */
int call_run(struct slabd *, struct slabd_call *);
/*
 * Starts a call from the heap that nobody waits for; it is sent when there is
 * room. Without a connection it is dropped.
 */
void call_post(struct slabd *, struct slabd_call *);
/*
 * Both, for a call with WIRE_WAIT: 0, -ETIMEDOUT or -EINTR. In each case it is
 * answered: when it was withdrawn for the error with -ECANCELED.
 */
int call_run_until(struct slabd *, struct slabd_call *, int64_t deadline);
/* Both, for a call that means something on this connection alone. */
void call_run_here(struct slabd *, struct slabd_call *, int64_t deadline);
/* Nobody is interested any more in this call from the heap. */
void call_abandon(struct slabd_call *);
/* The call's status; when it is a failure, in words too. */
int call_result(const struct slabd_call *);
/* For replies whose content does not matter. */
int call_ignore(struct slabd_call *, struct message *);

/* Takes what lies in the socket, without waiting. */
void session_drain(struct slabd *);
/* Ends the connection: every call under way fails with `err`. */
void session_lost(struct slabd *, int err);
/* Something happened that slabd_dispatch() reports. */
void session_news(struct slabd *);

/* connection.c: says hello, by the receiver without the lock; explained. */
int session_connect(const struct slabd *, int64_t deadline, struct greeting *);
void session_install(struct slabd *, const struct greeting *);
/* pool.c: an event for an attached pool. -EBADMSG: malformed. */
int pool_event(struct slabd *, struct message *);

#endif
