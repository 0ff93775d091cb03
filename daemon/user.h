/*
 * Users: what is one uid's, its connections and its share of the time.
 *
 * There is one for each uid that has a connection, and for one that had, as long
 * as what it used is not paid for (share.h).
 */
#ifndef SLABD_DAEMON_USER_H
#define SLABD_DAEMON_USER_H

#include <stdint.h>
#include <sys/queue.h>
#include <sys/types.h>

struct daemon;

struct user {
	LIST_ENTRY(user) entry; /* in the daemon's users */
	uid_t uid;
	unsigned clients;   /* connections */
	unsigned returning; /* of before our start, to be made again */
	uint64_t served_us; /* when it was, last */
	uint64_t paid_us;   /* when it will have paid for it: share.c */
};

/*
 * One more connection. Beyond the limits a few are let in that may rule but not
 * attach, so that an administrator can still look and act. `*u` is whose it is,
 * or, of one that is turned away, NULL if nothing is known of its user.
 */
enum admission { USER_TURNED_AWAY, USER_ADMITTED, USER_GUEST };
enum admission user_admit(struct daemon *, uid_t, struct user **u);
/* The same, whatever the limits say; NULL: no memory. */
struct user *user_keep_place(struct daemon *, uid_t);
/* One less. */
void user_dismiss(struct daemon *, struct user *);

/* At the end, without connections. */
void users_forget(struct daemon *);

#endif
