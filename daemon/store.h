/*
 * The service manager's descriptor store: what has no name in the file system
 * is kept there under one of ours, and comes back to the daemon after us,
 * whatever this one died of (FDSTORE in sd_notify(3), LISTEN_FDS in
 * sd_listen_fds(3)).
 *
 * What the manager hands over at start is read once for the whole process.
 * Names that start with STORE_PREFIX are the store's; the others are sockets
 * to serve. The manager keeps its own descriptor until store_drop(), so what
 * was taken is there again for the next daemon without a word.
 *
 * Without a manager ($NOTIFY_SOCKET) nothing is kept, and that is no error:
 * such objects end with the daemon. For one thread.
 */
#ifndef SLABD_DAEMON_STORE_H
#define SLABD_DAEMON_STORE_H

#include <stdbool.h>

#define STORE_PREFIX   "slabd-"
#define STORE_NAME_MAX 255u /* bytes; printable and no colon among them */

/*
 * Reads what was handed over, makes it close-on-exec, and removes the variables
 * that say so from the environment. Call it early; only the first call does
 * anything, and the other functions make up for it. 0; -EINVAL: there are fewer
 * descriptors than announced; -ENOMEM.
 */
int store_receive(void);

/*
 * The one descriptor that was handed over to be served; the caller's from now
 * on. -ENOENT: there is none (any more); -EINVAL: there are several; or what
 * store_receive() gave.
 */
int store_socket(void);

/*
 * The descriptor kept under `name`; the caller's from now on. -ENOENT: there is
 * none, or it was taken; or what store_receive() gave.
 */
int store_take(const char *name);

/*
 * Gives back what store_take() gave under `name`, to be found there once more,
 * unless it was dropped: then it is closed, and so is what never was the store's.
 */
void store_return(const char *name, int fd);

/* Whether store_take() would find `name`. */
bool store_has(const char *name);

/*
 * Has the manager keep `fd` under `name`; `fd` stays the caller's. Whether it
 * has room is the manager's to say, in its log. 0, also without a manager;
 * -EINVAL: not a name for the store; or what notify_send() gave.
 */
int store_put(const char *name, int fd);

/* Has the manager forget `name`, and closes what was not taken. As above. */
int store_drop(const char *name);

/*
 * Calls `visit` for each name with `prefix` that was not taken; it may take,
 * drop and put. How many, or what store_receive() gave.
 */
int store_each(const char *prefix,
    void (*visit)(void *arg, const char *name, int fd), void *arg);

/* Drops whatever was not taken. How many, or what store_receive() gave. */
int store_close_rest(void);

#endif
