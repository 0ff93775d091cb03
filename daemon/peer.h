/*
 * Who is at the other end of a socket, as the kernel says: never what the peer
 * says of itself, and never by pid number alone.
 *
 * Everything describes the process that called connect(2), at that time.
 */
#ifndef SLABD_DAEMON_PEER_H
#define SLABD_DAEMON_PEER_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct peer {
	pid_t pid; /* 0: not visible in our pid namespace */
	uid_t uid;
	gid_t gid;
	gid_t *groups; /* the supplementary ones */
	int ngroups;
	int pidfd;	     /* readable once the process has ended; -1: none */
	uint64_t start_time; /* clock ticks since boot, 0: unknown */
	char comm[16];	     /* printable ASCII, possibly empty */
};

/*
 * Fills *peer, to be given to peer_free(), for a connected AF_UNIX socket.
 * pidfd is -1 only where the kernel has no SO_PEERPIDFD (before 6.5) and the
 * process is in another pid namespace. 0; -ESRCH: the process has ended;
 * -EMFILE, -ENFILE, -ENOMEM, or what getsockopt(2) gave. On failure *peer is
 * empty and may, but need not, be freed.
 */
int peer_of(struct peer *peer, int socket);

/*
 * The same for a process that connected to a daemon before us: `pid` 0 is not
 * visible. 0, with pidfd -1 where nobody can tell whether it lives; -ESRCH: it
 * has ended.
 */
int peer_find(struct peer *peer, pid_t pid, uid_t uid, uint64_t start_time);

/* Which pid namespace our pids are counted in; 0: unknown. */
uint64_t peer_pid_namespace(void);

/*
 * Has the kernel refuse descriptors the peer wants to send, from now on. False
 * where it cannot (before Linux 6.16): then they have to be looked for.
 */
bool peer_refuse_descriptors(int socket);

/* False once the process has ended; true for -1, where nobody can tell. */
bool peer_alive(int pidfd);

/* Whether `gid` is the primary or a supplementary group of the peer. */
bool peer_in_group(const struct peer *peer, gid_t gid);

/* Closes and frees what *peer owns and empties it. */
void peer_free(struct peer *peer);

#endif
