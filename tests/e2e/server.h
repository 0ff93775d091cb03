/*
 * A slabd(8) of a test's own, in a directory of its own under /tmp.
 *
 * It dies with the test, and a janitor process clears its directory and its
 * shared-memory names once both are gone, so nothing stays behind however the
 * test ends. server_stop() finds out whether the daemon cleared up itself.
 * Nothing of a test framework is used here.
 */
#ifndef SLABD_TESTS_SERVER_H
#define SLABD_TESTS_SERVER_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

struct server {
	pid_t pid, janitor; /* 0: not running */
	int pidfd;
	int helper; /* its child's pidfd */
	int notify; /* receives what it says to a service manager */
	int alive;  /* the janitor waits for the end of this pipe */
	char dir[32];
	char socket[64], config[64], log[64];
	char prefix[64];      /* of its names under /dev/shm */
	unsigned nofile;      /* its limit of descriptors, 0: ours */
	const char *shm_size; /* of a /dev/shm of its own, NULL: the host's */
};

/* How it ends where a /dev/shm of its own cannot be mounted. */
#define SERVER_NO_SHM 126

/*
 * Makes the directory and what else outlives one daemon. 0 or -errno. Fields
 * from `nofile` on may be set afterwards.
 */
int server_prepare(struct server *);
/*
 * Writes the configuration file: the text between the outer braces. Unless that
 * says how long a handshake may take there is no end to it.
 */
int server_configure(struct server *, const char *text);
/*
 * Starts the daemon and waits until it says READY. 0, or -errno; -ECHILD: it
 * ended instead.
 */
int server_start(struct server *);
/*
 * Ends it with a signal and waits for that; all else stays, for a successor.
 * The exit status, or 128 + the signal.
 */
int server_end(struct server *, int signo);
/* The same with SIGKILL: 0 or -errno. */
int server_kill(struct server *);
/* Stops it, until SIGCONT: what comes meanwhile it finds all at once. */
int server_freeze(struct server *);
/* server_start() without waiting. */
int server_launch(struct server *);
/* server_prepare(), server_configure() and server_start(). */
int server_open(struct server *, const char *text);
/* Waits for the next message to the service manager that starts so. */
int server_await(struct server *, const char *start);
/* Waits for its end; the exit status, or 128 + the signal. */
int server_wait(struct server *);
/*
 * Ends the daemon with a signal (0: it was asked already) and looks for
 * leftovers: NULL, or what is wrong.
 */
const char *server_stop(struct server *, int signo);
/* Everything goes. */
void server_close(struct server *);

/* The daemon's only child; 0: it has none. */
pid_t server_helper(const struct server *);
/* How many names of this daemon there are under /dev/shm. */
unsigned server_names(const struct server *);
/* Whether its log contains the text. */
bool server_logged(const struct server *, const char *text);
/* Bytes of memory behind a pool's region. */
long long server_region_bytes(const struct server *, const char *pool);

/*
 * Runs `body` in a child that dies with its parent; *control is the parent's
 * end of a socket pair. The child ends with what the body returns.
 */
pid_t spawn(int (*body)(int control, void *arg), void *arg, int *control);
/* Exit status or 128 + signal. */
int reap(pid_t);
/* The child's way of saying something, and the parent's of hearing it. */
int tell(int control, const void *bytes, size_t len);
int hear(int control, void *bytes, size_t len);

#endif
