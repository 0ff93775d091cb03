/*
 * A client: one connection, and what it has attached.
 *
 *	NEW --hello--> READY --bye, or the process ended--> gone
 *	                ^ |
 *	        resumed | +--socket closed, process alive--> QUARANTINED
 *	                |                                        |
 *	              AWAY             gone <--the process ended-+
 *	                |                              |
 *	                +------------------------------+
 *
 * A client ends at the first of: goodbye, hang-up, its process's end, a message
 * no library sends, too little reading. What it held is free again, what it
 * sent becomes an orphan; only when the socket closes under a process that
 * lives on, its slots are set aside until that ends, since it may still write
 * to them.
 *
 * AWAY is who had attached pools when a daemon before us was killed or stopped,
 * and has not come back yet; or had come back, and hung up again before it asked
 * for anything. It is not waited for and not given up: its lanes
 * are read, its slots set aside, until it resumes its session or its process is
 * known to have ended. A new connection that resumes a session takes over all
 * of it, the old one's place included.
 *
 * A client is never freed while somebody up the stack may be using it: a
 * failure while sending only marks it, and the next round of the loop ends it.
 */
#ifndef SLABD_DAEMON_CLIENT_H
#define SLABD_DAEMON_CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>
#include <sys/types.h>

#include "peer.h"
#include "wire.h"

struct attachment;
struct daemon;
struct ledger_attachment;
struct pool;
struct timer;
struct user;
struct watch;

#define CLIENT_WAITERS_MAX 1024u
/* Messages that may wait to be read: all waits can end at once. */
#define CLIENT_QUEUE_MAX  (CLIENT_WAITERS_MAX + 256u)
#define CLIENT_UNREAD_FDS 8u /* replies with descriptors, not read yet */

enum client_state {
	CLIENT_NEW,
	CLIENT_READY,
	CLIENT_QUARANTINED,
	CLIENT_AWAY,
	CLIENT_GONE, /* but for descriptors its peer has not read */
};

/* Descriptors that go with a message. */
struct descriptors {
	unsigned n;
	int fds[WIRE_FDS_MAX];
};

/* A message the socket had no room for. */
struct message {
	TAILQ_ENTRY(message) entry;
	size_t len;
	struct descriptors passed; /* our own duplicates */
	uint8_t bytes[];
};

struct client {
	TAILQ_ENTRY(client) entry, late_entry;
	struct daemon *daemon;
	struct user *user; /* NULL: no memory to count it by */
	uint64_t id;
	enum client_state state;
	int fd;
	struct watch *watch;
	struct watch *death; /* on the pidfd */
	struct timer *deadline;
	struct peer peer;
	uint64_t session, token;
	uint64_t connected_ms;
	char label[WIRE_LABEL_MAX + 1];
	struct attachment **attachments; /* [number - 1], NULL: detached */
	uint32_t nattachments;
	unsigned waiters;
	TAILQ_HEAD(, message) queue;
	unsigned queued;
	unsigned fd_replies; /* since descriptors were last seen read */
	uint64_t fd_bytes;   /* sent since the last of them, it included */
	bool ending;	     /* the next round ends it */
	bool no_descriptors; /* the kernel refuses to take any from it */
	bool guest;	     /* beyond the limits: may not attach */
	bool deaf;	     /* it hung up: nobody reads answers */
	bool leaving;	     /* ends once the queue is sent */
	bool failed;	     /* it was disconnected for what it did */
	bool fresh;	     /* it has resumed, and asked nothing since */
	bool late;	     /* not read before its user's turn comes */
	bool ended;	     /* its process has, before we came */
	int documents[CLIENT_UNREAD_FDS]; /* sent, emptied at the deadline */
	unsigned ndocuments;
};

/* Takes over the connected socket `fd`; false: its user has used its share. */
bool client_accept(struct daemon *, int fd);
/* The daemon's timer: those who are late are read again. */
void clients_turn(void *daemon);
/* The hello came: READY from now on. */
void client_welcome(struct client *, const char *label);
/* Ends it now. `goodbye`: it said so itself, nothing is set aside. */
void client_end(struct client *, bool goodbye);
/*
 * The same for one that said goodbye, once all its messages are sent. False: it
 * is gone already.
 */
bool client_leave(struct client *);
/*
 * The one, away, behind a recovered attachment, found or made: 0 or -errno.
 * clients_settle() then ends those that have ended, once all pools are there.
 */
int client_recover(
    struct daemon *, const struct ledger_attachment *, struct attachment *);
void clients_settle(struct daemon *);
/* How many of this user are away. */
unsigned clients_away(const struct daemon *, uid_t);
/* Ends those whose processes have ended, though nobody has told us yet. */
void clients_bury(struct daemon *);
/*
 * Takes over the session that `token` proves to be this process's; false: there
 * is none.
 */
bool client_resume(struct client *, uint64_t session, uint64_t token);
/* Messages for it lie unread. */
bool client_is_choked(const struct client *);
/* At shutdown: close and free all, and leave the ledgers as they are. */
void clients_forget(struct daemon *);
/* Ends it in the next round, and says why. */
void client_fail(struct client *, const char *why);

/*
 * Sends or queues one message, with descriptors (NULL: none) that stay the
 * caller's.
 */
void client_send(
    struct client *, const void *bytes, size_t len, const struct descriptors *);
/* Whether a reply with descriptors may be sent: the last ones were read. */
bool client_reads_fds(struct client *);
/* Takes over a document's descriptor that was sent, to empty it in time. */
void client_keep_document(struct client *, int fd);
/* An event about an attached pool. */
void client_event(
    struct client *, enum wire_type, uint32_t attachment, const struct pool *);

/* The attachment of that number; NULL: none. */
struct attachment *client_attachment(const struct client *, uint32_t number);
/* The attachment, which an ATTACH of that tag asked for, becomes its, with a
 * number. 0 or -ENOMEM. */
int client_attach(struct client *, struct attachment *, uint32_t tag);
void client_detach(struct client *, uint32_t number);
/* Ends all its attachments: what they held is free, what they sent orphaned. */
void client_detach_all(struct client *);

bool client_is_admin(const struct client *);
uid_t client_uid(const struct client *);
/*
 * A few words for people, quoted: label or command, and pid. NULL stands for
 * the orphans of `uid`. Returns the length it would have, as snprintf(3).
 */
size_t client_describe(const struct client *, uid_t uid, char *buf, size_t len);
/* For a successor's sake, who this is. */
void client_identify(const struct client *, struct ledger_attachment *);

/* request.c: serves one message; the client may be gone afterwards: false. */
bool request_serve(struct client *, const uint8_t *bytes, size_t len);

#endif
