#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include "manager.h"

#define PATIENCE_MS 30000
#define FIRST_FD    3	/* handed over, by convention */
#define ASIDE_FD    100 /* where nothing is handed over */

static int
bind_at(int type, const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, type | SOCK_CLOEXEC, 0);

	snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
	if (fd < 0)
		return -errno;
	/* Whichever user the daemon becomes. */
	if (bind(fd, (struct sockaddr *)&address, sizeof(address)) == 0 &&
	    chmod(path, 0777) == 0)
		return fd;
	close(fd);
	return -errno;
}

int
manager_open(struct manager *m, struct server *server)
{
	char path[64];

	*m = (struct manager){.server = server, .listener = -1};
	snprintf(path, sizeof(path), "%s/manager", server->dir);
	m->fd = bind_at(SOCK_DGRAM, path);
	return m->fd < 0 ? m->fd : 0;
}

int
manager_listen(struct manager *m)
{
	m->listener = bind_at(SOCK_SEQPACKET, m->server->socket);
	if (m->listener < 0)
		return m->listener;
	return listen(m->listener, 128) < 0 ? -errno : 0;
}

void
manager_lose(struct manager *m, const char *end)
{
	size_t len, least = strlen(end);
	const char *name;

	for (unsigned i = 0; i < m->n; i++) {
		name = m->kept[i].name;
		len = strlen(name);
		if (len < least || strcmp(name + len - least, end) != 0)
			continue;
		close(m->kept[i].fd);
		m->kept[i--] = m->kept[--m->n];
	}
}

static int
keep(struct manager *m, const char *name, int fd)
{
	if (fd < 0 || m->n == MANAGER_KEPT_MAX)
		return -EPROTO;
	if (m->forgetful) {
		close(fd);
		return 0;
	}
	snprintf(m->kept[m->n].name, sizeof(m->kept[0].name), "%s", name);
	m->kept[m->n++].fd = fd;
	return 0;
}

/* 1: a message was read into `text`; 0: there is none. */
static int
read_one(struct manager *m, char *text, size_t size, int *fd)
{
	union {
		struct cmsghdr header;
		char space[CMSG_SPACE(sizeof(int))];
	} control;
	struct iovec body = {text, size - 1};
	struct msghdr message = {.msg_iov = &body,
	    .msg_iovlen = 1,
	    .msg_control = &control,
	    .msg_controllen = sizeof(control)};
	ssize_t n = recvmsg(m->fd, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);

	if (n < 0)
		return errno == EAGAIN ? 0 : -errno;
	text[n] = '\0';
	*fd = -1;
	if (CMSG_FIRSTHDR(&message) != NULL)
		memcpy(fd, CMSG_DATA(&control.header), sizeof(int));
	return 1;
}

static int
obey(struct manager *m, const char *text, int fd)
{
	char name[256];

	if (sscanf(text, "FDSTORE=1\nFDNAME=%255[^\n]\nFDPOLL=0", name) == 1)
		return keep(m, name, fd);
	if (fd >= 0)
		return -EPROTO;
	if (sscanf(text, "FDSTOREREMOVE=1\nFDNAME=%255[^\n]", name) == 1)
		manager_lose(m, name); /* a whole one ends only so */
	return 0;
}

/* Reads until there is no more, or something that starts so. 1: it came. */
static int
run_until(struct manager *m, const char *start)
{
	char text[1024];
	int fd = -1, rc;

	while ((rc = read_one(m, text, sizeof(text), &fd)) > 0) {
		rc = obey(m, text, fd);
		if (rc < 0)
			return rc;
		if (start != NULL && strncmp(text, start, strlen(start)) == 0)
			return 1;
	}
	return rc;
}

int
manager_run(struct manager *m)
{
	return run_until(m, NULL);
}

static int
await_ready(struct manager *m)
{
	struct pollfd ready[2] = {
	    {.fd = m->fd, .events = POLLIN}, {m->server->pidfd, POLLIN, 0}};
	int rc;

	for (;;) {
		if (poll(ready, 2, PATIENCE_MS) == 0)
			return -ETIMEDOUT;
		rc = run_until(m, "READY=1");
		if (rc != 0)
			return rc < 0 ? rc : 0;
		if (ready[1].revents != 0)
			return -ECHILD;
	}
}

/* Descriptors from FIRST_FD on, and their names: how many. */
static unsigned
hand_over(struct manager *m, char *names, size_t size)
{
	int fds[MANAGER_KEPT_MAX + 1];
	unsigned n = 0;
	size_t len = 0;

	/* Aside first, since they may lie where they shall go. */
	if (m->listener >= 0) {
		fds[n++] = fcntl(m->listener, F_DUPFD_CLOEXEC, ASIDE_FD);
		len = (size_t)snprintf(names, size, "slabd.socket");
	}
	for (unsigned i = 0; i < m->n; i++) {
		len += (size_t)snprintf(names + len, size - len, "%s%s",
		    n > 0 ? ":" : "", m->kept[i].name);
		fds[n++] = fcntl(m->kept[i].fd, F_DUPFD_CLOEXEC, ASIDE_FD);
	}
	for (unsigned i = 0; i < n; i++)
		dup2(fds[i], FIRST_FD + (int)i);
	return n;
}

/* Its own /proc, of its own processes. */
static int
own_proc(void)
{
	if (unshare(CLONE_NEWNS) < 0)
		return -errno;
	if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		mount(NULL, "/proc", NULL, MS_PRIVATE, NULL);
	return mount("proc", "/proc", "proc", 0, NULL) < 0 ? -errno : 0;
}

static void
become_daemon(struct manager *m)
{
	static char names[sizeof(m->kept)];
	const struct server *s = m->server;
	const char *build = getenv("builddir");
	int log = open(s->log, O_WRONLY | O_CREAT | O_APPEND, 0600);
	char path[4096], number[16];
	unsigned n;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	dup2(log, STDOUT_FILENO);
	dup2(log, STDERR_FILENO);
	/* The janitor waits for the end of this one. */
	fcntl(s->alive, F_DUPFD, ASIDE_FD + 2 * MANAGER_KEPT_MAX);
	if (m->pids && own_proc() != 0)
		_exit(126);
	n = hand_over(m, names, sizeof(names));
	snprintf(number, sizeof(number), "%u", n);
	setenv("LISTEN_FDS", number, 1);
	setenv("LISTEN_FDNAMES", names, 1);
	snprintf(number, sizeof(number), "%d", (int)getpid());
	setenv("LISTEN_PID", number, 1);
	snprintf(path, sizeof(path), "%s/manager", s->dir);
	setenv("NOTIFY_SOCKET", path, 1);
	snprintf(path, sizeof(path), "%s/slabd", build != NULL ? build : ".");
	execl(path, "slabd", "-c", s->config, "-s", s->socket, (char *)NULL);
	_exit(127);
}

/* As fork(2); the child may be the first in a pid namespace. */
static pid_t
fork_daemon(const struct manager *m)
{
	int ours = open("/proc/self/ns/pid", O_RDONLY | O_CLOEXEC);
	pid_t pid = -1;

	if (!m->pids || unshare(CLONE_NEWPID) == 0)
		pid = fork();
	if (pid != 0) {
		if (m->pids)
			setns(ours, CLONE_NEWPID);
		close(ours);
	}
	return pid;
}

int
manager_start(struct manager *m)
{
	struct server *s = m->server;
	int rc = manager_run(m);

	if (rc < 0)
		return rc;
	s->pid = fork_daemon(m);
	if (s->pid < 0)
		return -errno;
	if (s->pid == 0)
		become_daemon(m);
	s->pidfd = (int)syscall(SYS_pidfd_open, s->pid, 0);
	return s->pidfd < 0 ? -errno : await_ready(m);
}

void
manager_close(struct manager *m)
{
	while (m->n > 0)
		close(m->kept[--m->n].fd);
	if (m->listener >= 0)
		close(m->listener);
	if (m->fd >= 0)
		close(m->fd);
	m->fd = m->listener = -1;
}
