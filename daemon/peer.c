#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "peer.h"

#ifndef SO_PASSRIGHTS
#define SO_PASSRIGHTS 83 /* Linux 6.16 */
#endif

#ifndef SO_PEERPIDFD
#define SO_PEERPIDFD 77 /* Linux 6.5 */
#endif

#define PEER_STAT_MAX	1024  /* bytes of /proc/PID/stat that matter */
#define PEER_GROUPS_MAX 65536 /* the kernel's own limit */

/* The kernel tells how much it wanted when the buffer was too small. */
static int
peer_groups(struct peer *peer, int socket)
{
	socklen_t bytes = 0;
	gid_t *groups;

	if (getsockopt(socket, SOL_SOCKET, SO_PEERGROUPS, NULL, &bytes) == 0)
		return 0;
	if (errno != ERANGE)
		return -errno;
	if (bytes > PEER_GROUPS_MAX * sizeof(gid_t))
		return -E2BIG;
	groups = malloc(bytes);
	if (groups == NULL)
		return -ENOMEM;
	if (getsockopt(socket, SOL_SOCKET, SO_PEERGROUPS, groups, &bytes) < 0) {
		free(groups);
		return -errno;
	}
	peer->groups = groups;
	peer->ngroups = (int)(bytes / sizeof(gid_t));
	return 0;
}

/*
 * For kernels without SO_PEERPIDFD. The pid may have passed to another process
 * before pidfd_open(2), but then its first owner's end of the socket is closed,
 * which is why the socket is looked at afterwards.
 */
static int
peer_pidfd_by_pid(struct peer *peer, int socket)
{
	struct pollfd hangup = {.fd = socket, .events = POLLRDHUP};

	if (peer->pid == 0)
		return 0;
	peer->pidfd = (int)syscall(SYS_pidfd_open, peer->pid, 0);
	if (peer->pidfd < 0)
		return errno == ENOSYS ? 0 : -errno;
	return poll(&hangup, 1, 0) == 0 ? 0 : -ESRCH;
}

static int
peer_pidfd(struct peer *peer, int socket)
{
	socklen_t bytes = sizeof(peer->pidfd);

	if (getsockopt(
		socket, SOL_SOCKET, SO_PEERPIDFD, &peer->pidfd, &bytes) == 0)
		return 0;
	peer->pidfd = -1;
	switch (errno) {
	case EINVAL: /* it has ended, as older kernels say */
	case ESRCH:
		return -ESRCH;
	case ENOPROTOOPT:
	case ENODATA:
		return peer_pidfd_by_pid(peer, socket);
	default:
		return -errno;
	}
}

static ssize_t
peer_stat_read(pid_t pid, char *text, size_t size)
{
	char path[32];
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	n = read(fd, text, size - 1);
	close(fd);
	if (n >= 0)
		text[n] = '\0';
	return n;
}

/* The process chose its name: parentheses and anything else may be in it. */
static void
peer_comm(struct peer *peer, const char *name, size_t len)
{
	if (len >= sizeof(peer->comm))
		len = sizeof(peer->comm) - 1;
	for (size_t i = 0; i < len; i++)
		peer->comm[i] = name[i] < ' ' || name[i] > '~' ? '?' : name[i];
	peer->comm[len] = '\0';
}

/*
 * Reads name and start time from "PID (name) state ppid ...": the start is the
 * 22nd field, the 20th behind the last parenthesis. Believed only if the
 * process is still there afterwards, for otherwise the pid may be another's.
 */
static void
peer_stat(struct peer *peer)
{
	char text[PEER_STAT_MAX], *name, *end;
	unsigned long long start;

	if (peer->pid == 0 ||
	    peer_stat_read(peer->pid, text, sizeof(text)) <= 0 ||
	    !peer_alive(peer->pidfd))
		return;
	name = strchr(text, '(');
	end = strrchr(text, ')');
	if (name == NULL || end == NULL)
		return;
	peer_comm(peer, name + 1, (size_t)(end - name - 1));
	if (sscanf(end + 1,
		" %*c %*s %*s %*s %*s %*s %*s %*s %*s %*s"
		" %*s %*s %*s %*s %*s %*s %*s %*s %*s %llu",
		&start) == 1)
		peer->start_time = start;
}

int
peer_of(struct peer *peer, int socket)
{
	struct ucred cred;
	socklen_t bytes = sizeof(cred);
	int rc;

	*peer = (struct peer){.pidfd = -1};
	if (getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &cred, &bytes) < 0)
		return -errno;
	peer->pid = cred.pid;
	peer->uid = cred.uid;
	peer->gid = cred.gid;
	rc = peer_groups(peer, socket);
	if (rc == 0)
		rc = peer_pidfd(peer, socket);
	if (rc < 0) {
		peer_free(peer);
		return rc;
	}
	peer_stat(peer);
	return 0;
}

int
peer_find(struct peer *peer, pid_t pid, uid_t uid, uint64_t start_time)
{
	int err;

	*peer = (struct peer){.pidfd = -1, .pid = pid, .uid = uid};
	if (pid == 0)
		return 0;
	peer->pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	if (peer->pidfd < 0) {
		err = errno;
		return err == ESRCH ? -ESRCH : 0;
	}
	/* The pid may be another's by now: it started later then. */
	peer_stat(peer);
	if (peer_alive(peer->pidfd) &&
	    (start_time == 0 || peer->start_time == 0 ||
		peer->start_time == start_time))
		return 0;
	peer_free(peer);
	peer->uid = uid;
	return -ESRCH;
}

uint64_t
peer_pid_namespace(void)
{
	struct stat st;

	return stat("/proc/self/ns/pid", &st) == 0 ? st.st_ino : 0;
}

bool
peer_refuse_descriptors(int socket)
{
	const int off = 0;

	return setsockopt(
		   socket, SOL_SOCKET, SO_PASSRIGHTS, &off, sizeof(off)) == 0;
}

bool
peer_alive(int pidfd)
{
	struct pollfd end = {.fd = pidfd, .events = POLLIN};

	return pidfd < 0 || poll(&end, 1, 0) == 0;
}

bool
peer_in_group(const struct peer *peer, gid_t gid)
{
	if (peer->gid == gid)
		return true;
	for (int i = 0; i < peer->ngroups; i++)
		if (peer->groups[i] == gid)
			return true;
	return false;
}

void
peer_free(struct peer *peer)
{
	if (peer->pidfd >= 0)
		close(peer->pidfd);
	free(peer->groups);
	*peer = (struct peer){.pidfd = -1};
}
