/*
 * Requests and their answers over one connection, from many threads, and over
 * the daemon's end.
 *
 * A call is one request. It stands in the session's list `unsent` until there
 * is room for it in the socket, then in `calls` until it is answered, and its
 * tag finds it. Of the threads that wait for answers one at a time is the
 * receiver: it sleeps in the socket without the lock and gives each answer to
 * the call it is for; the others sleep on a semaphore of their own. A receiver
 * that has its answer passes the role on.
 *
 * When the daemon goes away the session goes on (session.c): what was sent and
 * not answered is put back before what was not sent, and whoever is the
 * receiver connects again. The greeting names the session of before; if the
 * daemon knows it, every attachment is resumed, and then all calls are sent
 * again, in their order and under their tags, so that nothing is done twice. If
 * it does not, what was attached is lost.
 *
 * Rules. `lock` guards everything but the inbox and the socket's reading end,
 * which are the receiver's. Only the receiver, or whoever holds the lock while
 * there is none, closes the socket. A call's `reply` runs exactly once, with
 * the lock held, by whichever thread took the answer: it may start other calls,
 * by call_post() alone, and must not wait. Whoever slept and leaves wakes
 * another sleeper if nobody receives (session_leave), so that no answer lies
 * unread while threads wait. Without a connection `calls` is empty.
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

#define NEVER	 INT64_MAX /* a deadline, in ms of CLOCK_MONOTONIC */
#define HELLO_MS 5000 /* for the daemon to answer a greeting or a goodbye */

/* Between two tries to connect, in ms, and doubled each time up to a limit. */
#define PAUSE_MS  1
#define PAUSE_MAX 50

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
	bool
	    sent; /* to this daemon or the one before, so it may have counted */
	bool done;
	bool interruptible; /* waiting ends with EINTR after a signal */
	bool here;	    /* it does not wait for a daemon that goes away */
	bool owed;	    /* a RECEIVE whose slot must be freed if it fails */

	/* The request. */
	struct slabd *session;
	uint16_t type, flags;
	uint32_t tag;
	struct slabd_pool *pool; /* NULL: none, */
	uint32_t attachment;	 /* and this one is meant, */
	unsigned epoch;		 /* of this session */
	const void *body;
	size_t len;
	uint8_t small[16]; /* room for a body of fixed form */
	uint64_t ref;	   /* what it is about, */
	uint32_t n;	   /* and how many: these tell kept calls apart */

	/*
	 * The answer. `reply` finds status set; `m` is NULL when there will be
	 * none (not sent, given up, or what it is about is lost). -EBADMSG: the
	 * answer is malformed, and the session ends; any other error ends the
	 * connection alone. NULL: an empty answer is due.
	 */
	int (*reply)(struct slabd_call *, struct message *m);
	/*
	 * The `reply` of a copy that takes the place of a call nobody waits for
	 * any more while it may have counted; NULL: it need not be asked for.
	 */
	int (*late)(struct slabd_call *, struct message *m);
	int status;
	uint64_t result; /* a ref or number, */
	void *slot;	 /* an address, */
	void *out;	 /* or whatever `reply` fills for the caller */
	char text[ERROR_TEXT_BYTES];
};

TAILQ_HEAD(call_list, slabd_call);

enum session_phase {
	SESSION_AWAY,	  /* no socket */
	SESSION_GREETING, /* HELLO was sent */
	SESSION_RESUMING, /* `resume` is under way, nothing else is sent */
	SESSION_READY,
};

struct slabd {
	pthread_mutex_t lock;
	unsigned generation; /* of the process it belongs to */

	int socket; /* -1: there is none */
	enum session_phase phase;
	bool broken;	/* the receiver is about to find the socket dead */
	bool receiving; /* somebody is the receiver, or about to connect */
	unsigned epoch; /* rises with every new session, */
	unsigned connections; /* and this with every greeting that went well */
	uint32_t tag;	      /* the last one given */
	struct call_list calls, unsent, sleepers;
	LIST_HEAD(, slabd_pool) pools;

	/* slabd_fd(), and what makes it readable beside the socket; or -1. */
	int epoll, event, timer;
	unsigned news; /* not yet reported by slabd_dispatch() */

	char *path; /* where the daemon is, or, before, was asked for */
	char label[WIRE_LABEL_MAX + 1];
	int32_t reconnect_ms;
	uint64_t session, token; /* 0: a new one is wanted */

	/* While there is no daemon; times in ms of CLOCK_MONOTONIC. */
	int64_t lost_at;	    /* when it went away */
	int64_t next_try;	    /* when to knock */
	int64_t greet_by;	    /* until then HELLO is to be answered */
	int pause_ms;		    /* after the next try in vain */
	char why[ERROR_TEXT_BYTES]; /* what came of the last one */
	struct slabd_call resume;

	uint8_t inbox[WIRE_MESSAGE_MAX];
	uint8_t outbox[WIRE_MESSAGE_MAX]; /* guarded by lock */
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
 * Whether a call could be sent now, after doing what can be done for it without
 * waiting: 0; -EAGAIN: the daemon is away, but not for long yet; -ENOTCONN;
 * -ENOTRECOVERABLE (the call's pool is lost).
 */
int call_ready(struct slabd *, struct slabd_call *);

/*
 * Sends, or, with `wait`, queues it, to be sent by whoever waits: 0, or why it
 * could not (`reply` has run then). Without `wait` -EAGAIN when the socket has
 * no room or the daemon is away.
 */
int call_start(struct slabd *, struct slabd_call *, bool wait);
/*
 * Waits for the answer: 0, -ETIMEDOUT, -EINTR, -ENOTCONN if it is `here` (still
 * under way then).
 */
int call_await(struct slabd *, struct slabd_call *, int64_t deadline);
/* Both: the status, with the failure in words. */
int call_run(struct slabd *, struct slabd_call *);
/*
 * Starts a call from the heap that nobody waits for; it is sent when there is
 * room, and by the next daemon if this one is away.
 */
void call_post(struct slabd *, struct slabd_call *);
/*
 * Both, for a call with WIRE_WAIT: 0, -ETIMEDOUT or -EINTR. In each case it is
 * answered: when it was withdrawn for the error with -ECANCELED.
 */
int call_run_until(struct slabd *, struct slabd_call *, int64_t deadline);
/*
 * Both, for a call that does not wait for a daemon that is away: -ENOTCONN, and
 * if it has `late` a copy follows when there is one.
 */
void call_run_here(struct slabd *, struct slabd_call *, int64_t deadline);
/* Nobody is interested any more in this call from the heap. */
void call_abandon(struct slabd_call *);
/* The call's status; when it is a failure, in words too. */
int call_result(const struct slabd_call *);
/* For replies whose content does not matter. */
int call_ignore(struct slabd_call *, struct message *);
/* A copy on the heap, with `room` bytes behind it for the body; or NULL. */
struct slabd_call *call_copy(const struct slabd_call *, size_t room);

/* Between call.c and session.c. */

/* Gives a call its tag and what it needs to be waited for. */
void call_number(struct slabd *, struct slabd_call *);
/*
 * Sends a call that is in no list, and puts it in `calls`: 0, -EAGAIN (no
 * room), -ENOTCONN (and it is known), -ENOMEM, -EMSGSIZE.
 */
int call_transmit(struct slabd *, struct slabd_call *);
/* A call that is in no list ends without an answer. */
void call_fail(struct slabd *, struct slabd_call *, int err);
/* The flags a call is sent again with, to another daemon; -1: never. */
int call_again(const struct slabd_call *);

/* The connection has ended; calls wait for the next. */
void session_lost(struct slabd *);
/* The session has ended too, and every call under way fails with `err`. */
void session_end(struct slabd *, int err);
/* Takes what lies in the socket, without waiting. */
void session_drain(struct slabd *);
/* That, and what else is due; with `knock` also to connect again. */
void session_poll(struct slabd *, bool knock);
/* Nobody waits any more for a call in `unsent`: it fails. */
void session_let_go(struct slabd *, struct slabd_call *, int err);
/* While away: whether calls do not wait any longer for the daemon, */
bool session_is_given_up(const struct slabd *);
/* and when to try next. */
int64_t session_next_try(const struct slabd *);
/* Connects and says hello, or learns why it cannot. */
void session_knock(struct slabd *);
/* The answer, of `len` bytes in the inbox: 0, -ENOTCONN. */
int session_greeted(struct slabd *, size_t len);
/* There was none; hangs up if it is late. */
void session_unanswered(struct slabd *);
/* Resumes the next attachment; when there is none left, it is ready. */
void session_resume(struct slabd *);
/*
 * The ALLOC of that tag is sent again before all else: of a pool's the daemon
 * remembers what the last one it served was granted, and no more than that.
 */
void session_prefer(struct slabd *, const struct slabd_pool *, uint32_t tag);
/* Whether the call means something that is lost; those not sent then fail. */
bool session_lacks(const struct slabd *, const struct slabd_call *);
void session_drop_lost(struct slabd *);
/* Sets the alarm for who waits in slabd_fd(). */
void session_alarm(struct slabd *);
/* Something happened that slabd_dispatch() reports. */
void session_news(struct slabd *);

/* What HELLO is answered. */
struct greeting {
	uint64_t session, token;
};

/* connection.c: a socket at s->path on which HELLO was sent, or -errno. */
int hello_send(const struct slabd *);
/* Reads the answer: 0 or -errno; explained, both. */
int hello_read(struct greeting *, const uint8_t *buf, size_t len);
/* An answer that did not come, for -errno. */
int hello_explain(const struct slabd *, int err);

/* pool.c: an event for an attached pool. -EBADMSG: malformed. */
int pool_event(struct slabd *, struct message *);
/* A pool that is attached and not resumed on this connection; or NULL. */
struct slabd_pool *pool_to_resume(struct slabd *);
/* The answer to RESUME. */
int pool_resumed(struct slabd_call *, struct message *);
/* Of what another session attached nothing is usable any more. */
void pool_shut_all(struct slabd *);

#endif
