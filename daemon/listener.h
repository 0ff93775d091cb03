/*
 * The listening socket: SOCK_SEQPACKET at the instance's path, our own or
 * handed over by the service manager.
 *
 * Running out of descriptors must neither spin nor leave clients hanging: a
 * descriptor kept in reserve is given up to accept and close each client that
 * cannot be served, and if even that fails, accepting pauses for a while.
 */
#ifndef SLABD_DAEMON_LISTENER_H
#define SLABD_DAEMON_LISTENER_H

#include <stdbool.h>
#include <sys/types.h>

#define LISTENER_PAUSE_MS 500u /* no accept after descriptors ran out */

struct instance;
struct listener;
struct loop;

/*
 * A new client: the descriptor, non-blocking and close-on-exec, is yours. The
 * listener must not be closed from here.
 */
typedef void (*listener_callback)(void *arg, int fd);

/*
 * Takes the socket that the service manager handed over, see store_socket(),
 * and else removes a stale one from the instance's path, binds there, and sets
 * group (-1: leave it) and mode; `mode` and `group` do not touch a socket that
 * was handed over. Takes the umask for a moment, so call it while there is one
 * thread. The instance must outlive the listener.
 *
 * 0; -EADDRINUSE: somebody listens there; -EEXIST: something other than a
 * socket is there; -EINVAL: what was handed over is not exactly one listening
 * AF_UNIX SOCK_SEQPACKET socket; -ENOMEM, or what socket(2), bind(2), chown(2),
 * chmod(2) and listen(2) gave.
 */
int listener_open(struct listener **out, struct loop *loop,
    const struct instance *instance, mode_t mode, gid_t group,
    listener_callback accepted, void *arg);

/*
 * Gives the socket another group (-1: leave it) and mode, unless it was handed
 * over. 0, or what chown(2) and chmod(2) gave.
 */
int listener_permit(struct listener *listener, mode_t mode, gid_t group);

/* Accepts nobody for so many milliseconds; also from the callback. */
void listener_rest(struct listener *listener, uint32_t ms);

/* True if the service manager owns the socket. */
bool listener_activated(const struct listener *listener);

/* Stops listening, and removes the path if we made it. NULL is accepted. */
void listener_close(struct listener *listener);

#endif
