/*
 * What the daemon gives up, so that whoever took it over could do little with
 * it: the superuser, being looked into, the system calls it never makes, the
 * files it never opens.
 *
 * The order matters. confine_user() comes while nothing exists yet that belongs
 * to the daemon's user (lock, socket, shared memory, the helper), the other two
 * when everything stands that is made only once: confine_daemon() when the
 * socket listens and before the first client is accepted, confine_helper() in
 * the helper before its first job. None of it can be undone. All need a process
 * of one thread; after an error the process must not go on.
 *
 * What is denied gives an error, never a signal: a daemon that was killed for
 * a call nobody thought of would cost every client its service. A build with
 * sanitizers or for coverage has neither filter nor file rules, since those make
 * system calls and write files of their own; nor can a confined daemon run under
 * a checker that generates code, valgrind above all.
 */
#ifndef SLABD_DAEMON_CONFINE_H
#define SLABD_DAEMON_CONFINE_H

#include <sys/types.h>

/*
 * Becomes this user for good: with this group and, unless it is -1, `also` as
 * the only supplementary one (the socket's, so that it can still be given away
 * to it), without any capability, not to be traced or dumped by others of that
 * user, and without a way to gain anything by execve(2).
 *
 * A process that is that user already keeps the groups it was started with.
 *
 * 0; -EINVAL: the user is root; -EPERM: not started as root, or there would be
 * a way back; or what setgroups(2), setresgid(2), setresuid(2), capset(2) and
 * prctl(2) gave.
 */
int confine_user(uid_t uid, gid_t gid, gid_t also);

struct confine_needs {
	const char *config_path; /* its directory is all a reload can read */
	const char *socket_path; /* removed at the end */
	pid_t helper;		 /* the one process that may be killed; or 0 */
};

/*
 * Leaves the daemon the system calls and the files that serving takes, reloading
 * and stopping included. The file rules (landlock) are left out, with a line in
 * the log, where the kernel has none.
 *
 * 0; -ENAMETOOLONG; or -errno where the kernel has no filter for system calls,
 * or is short of memory or descriptors.
 */
int confine_daemon(const struct confine_needs *needs);

/* The same for the helper: no file may be made, no socket, no signal sent. */
int confine_helper(void);

#endif
