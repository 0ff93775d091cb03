#include "config.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "server.h"

#define PATIENCE_MS 30000

/* What children must not keep open, or the janitor waits for them too. */
static int alive = -1;

/* Names carry a hash of the socket's path: 64-bit FNV-1a. */
static void
find_prefix(struct server *s)
{
	uint64_t hash = UINT64_C(0xcbf29ce484222325);

	for (const char *c = s->socket; *c != '\0'; c++)
		hash = (hash ^ (unsigned char)*c) * UINT64_C(0x100000001b3);
	snprintf(s->prefix, sizeof(s->prefix), "slabd-%016" PRIx64 "-", hash);
}

/* Calls `visit` for each entry whose name starts so; how many there were. */
static unsigned
each_entry(const char *path, const char *start,
    void (*visit)(int dir, const char *name))
{
	DIR *directory = opendir(path);
	struct dirent *entry;
	unsigned n = 0;

	while (directory != NULL && (entry = readdir(directory)) != NULL) {
		if (entry->d_name[0] == '.' ||
		    strncmp(entry->d_name, start, strlen(start)) != 0)
			continue;
		n++;
		if (visit != NULL)
			visit(dirfd(directory), entry->d_name);
	}
	if (directory != NULL)
		closedir(directory);
	return n;
}

static void
remove_entry(int dir, const char *name)
{
	unlinkat(dir, name, 0);
}

static void
clear(const struct server *s)
{
	each_entry("/dev/shm", s->prefix, remove_entry);
	each_entry(s->dir, "", remove_entry);
	rmdir(s->dir);
}

unsigned
server_names(const struct server *s)
{
	return each_entry("/dev/shm", s->prefix, NULL);
}

/* The pipe's writing end is the test's, the daemon's, and nobody else's. */
static int
start_janitor(struct server *s)
{
	int ends[2];
	char byte;

	if (pipe2(ends, O_CLOEXEC) < 0)
		return -errno;
	s->janitor = fork();
	if (s->janitor < 0)
		return -errno;
	if (s->janitor == 0) {
		/* Whoever reads the test's output shall not wait for us. */
		setsid();
		for (int fd = 0; fd < 1024; fd++)
			if (fd != ends[0])
				close(fd);
		if (read(ends[0], &byte, 1) == 0)
			clear(s);
		_exit(0);
	}
	close(ends[0]);
	s->alive = alive = ends[1];
	return 0;
}

static int
open_notify(struct server *s)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};

	snprintf(
	    address.sun_path, sizeof(address.sun_path), "%s/notify", s->dir);
	s->notify = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (s->notify < 0)
		return -errno;
	return bind(s->notify, (struct sockaddr *)&address, sizeof(address)) < 0
		   ? -errno
		   : 0;
}

int
server_prepare(struct server *s)
{
	int err;

	*s = (struct server){
	    .pidfd = -1, .helper = -1, .notify = -1, .alive = -1};
	strcpy(s->dir, "/tmp/slabd-e2e-XXXXXX");
	if (mkdtemp(s->dir) == NULL)
		return -errno;
	/* Clients of other users are let in by the socket's mode alone. */
	chmod(s->dir, 0711);
	snprintf(s->socket, sizeof(s->socket), "%s/socket", s->dir);
	snprintf(s->config, sizeof(s->config), "%s/slabd.conf", s->dir);
	snprintf(s->log, sizeof(s->log), "%s/log", s->dir);
	find_prefix(s);
	err = start_janitor(s);
	return err != 0 ? err : open_notify(s);
}

int
server_configure(struct server *s, const char *text)
{
	FILE *file = fopen(s->config, "we");
	bool hurried = strstr(text, "\"handshake_seconds\"") != NULL;

	if (file == NULL)
		return -errno;
	/* A busy machine is slow to greet and to read. */
	fprintf(file, "{ \"mode\": \"0666\", %s%s }\n",
	    hurried ? "" : "\"handshake_seconds\": 3600, ", text);
	fchmod(fileno(file), 0644);
	return fclose(file) == 0 ? 0 : -errno;
}

/*
 * A /dev/shm of the daemon's own, seen by nobody else. In a chroot "/" is no
 * mount; there it is enough if /dev/shm is one.
 */
static int
own_shm(const char *size)
{
	char options[64];

	snprintf(options, sizeof(options), "size=%s", size);
	if (unshare(CLONE_NEWNS) < 0 ||
	    (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 &&
		mount(NULL, "/dev/shm", NULL, MS_PRIVATE, NULL) < 0) ||
	    mount("tmpfs", "/dev/shm", "tmpfs", 0, options) < 0)
		return -errno;
	return 0;
}

static void
become_daemon(struct server *s)
{
	struct rlimit limit = {s->nofile, s->nofile};
	const char *build = getenv("builddir");
	char path[4096], notify[64];
	int log = open(s->log, O_WRONLY | O_CREAT | O_APPEND, 0600);

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	dup2(log, STDOUT_FILENO);
	dup2(log, STDERR_FILENO);
	snprintf(path, sizeof(path), "%s/slabd", build != NULL ? build : ".");
	snprintf(notify, sizeof(notify), "%s/notify", s->dir);
	setenv("NOTIFY_SOCKET", notify, 1);
	fcntl(s->alive, F_SETFD, 0);
	if (s->shm_size != NULL && own_shm(s->shm_size) != 0)
		_exit(SERVER_NO_SHM);
	if (s->nofile > 0)
		setrlimit(RLIMIT_NOFILE, &limit);
	execl(path, "slabd", "-c", s->config, "-s", s->socket, (char *)NULL);
	_exit(127);
}

pid_t
server_helper(const struct server *s)
{
	char path[64], text[32] = "";
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/task/%d/children", (int)s->pid,
	    (int)s->pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return 0;
	if (read(fd, text, sizeof(text) - 1) < 0)
		text[0] = '\0';
	close(fd);
	return (pid_t)atoi(text);
}

/* So that its end can be seen. */
static int
watch_helper(const struct server *s)
{
	pid_t pid = server_helper(s);

	return pid > 0 ? (int)syscall(SYS_pidfd_open, pid, 0) : -1;
}

int
server_await(struct server *s, const char *start)
{
	struct pollfd ready[2] = {
	    {.fd = s->notify, .events = POLLIN}, {s->pidfd, POLLIN, 0}};
	char text[1024];
	ssize_t n;

	for (;;) {
		if (poll(ready, 2, PATIENCE_MS) == 0)
			return -ETIMEDOUT;
		n = recv(s->notify, text, sizeof(text) - 1, MSG_DONTWAIT);
		if (n < 0 && ready[1].revents != 0)
			return -ECHILD;
		if (n < 0)
			continue;
		text[n] = '\0';
		if (strncmp(text, start, strlen(start)) == 0)
			return 0;
	}
}

int
server_launch(struct server *s)
{
	s->pid = fork();
	if (s->pid < 0)
		return -errno;
	if (s->pid == 0)
		become_daemon(s);
	s->pidfd = (int)syscall(SYS_pidfd_open, s->pid, 0);
	return s->pidfd < 0 ? -errno : 0;
}

int
server_start(struct server *s)
{
	int err = server_launch(s);

	if (err == 0)
		err = server_await(s, "READY=1");
	if (err == 0)
		s->helper = watch_helper(s);
	return err;
}

int
server_open(struct server *s, const char *text)
{
	int err = server_prepare(s);

	if (err == 0)
		err = server_configure(s, text);
	return err != 0 ? err : server_start(s);
}

int
server_wait(struct server *s)
{
	struct pollfd ended = {.fd = s->pidfd, .events = POLLIN};
	int status;

	if (poll(&ended, 1, PATIENCE_MS) != 1)
		return -ETIMEDOUT;
	status = reap(s->pid);
	s->pid = 0;
	close(s->pidfd);
	s->pidfd = -1;
	return status;
}

static bool
helper_ended(struct server *s)
{
	struct pollfd ended = {.fd = s->helper, .events = POLLIN};
	bool is = s->helper < 0 || poll(&ended, 1, PATIENCE_MS) == 1;

	if (s->helper >= 0)
		close(s->helper);
	s->helper = -1;
	return is;
}

int
server_freeze(struct server *s)
{
	siginfo_t info = {0};

	if (kill(s->pid, SIGSTOP) < 0 || waitid(P_PID, (id_t)s->pid, &info,
					     WSTOPPED | WEXITED | WNOWAIT) < 0)
		return -errno;
	return info.si_code == CLD_STOPPED ? 0 : -ECHILD;
}

int
server_end(struct server *s, int signo)
{
	char text[512];
	int status;

	kill(s->pid, signo);
	status = server_wait(s);
	/* What it said is nothing that its successor has said. */
	while (recv(s->notify, text, sizeof(text), MSG_DONTWAIT) >= 0)
		continue;
	if (s->helper >= 0)
		close(s->helper);
	s->helper = -1;
	return status;
}

int
server_kill(struct server *s)
{
	int status = server_end(s, SIGKILL);

	return status == 128 + SIGKILL ? 0 : status < 0 ? status : -ECHILD;
}

const char *
server_stop(struct server *s, int signo)
{
	static char why[128];
	int status;

	if (signo != 0)
		kill(s->pid, signo);
	status = server_wait(s);
	if (status != 0) {
		snprintf(why, sizeof(why), "the daemon ended with %d", status);
		return why;
	}
	if (!helper_ended(s))
		return "the daemon's helper lives on";
	if (server_names(s) != 0)
		return "names are left in /dev/shm";
	if (access(s->socket, F_OK) == 0)
		return "the socket is left";
	return NULL;
}

void
server_close(struct server *s)
{
	if (s->pid > 0) {
		kill(s->pid, SIGKILL);
		reap(s->pid);
	}
	helper_ended(s);
	if (s->pidfd >= 0)
		close(s->pidfd);
	if (s->notify >= 0)
		close(s->notify);
	if (s->alive >= 0)
		close(s->alive);
	if (s->janitor > 0)
		reap(s->janitor);
	*s = (struct server){
	    .pidfd = -1, .helper = -1, .notify = -1, .alive = -1};
}

bool
server_logged(const struct server *s, const char *text)
{
	FILE *file = fopen(s->log, "re");
	char line[4096];
	bool found = false;

	while (file != NULL && !found && fgets(line, sizeof(line), file))
		found = strstr(line, text) != NULL;
	if (file != NULL)
		fclose(file);
	return found;
}

long long
server_region_bytes(const struct server *s, const char *pool)
{
	char path[256];
	struct stat st;

	snprintf(path, sizeof(path), "/dev/shm/%s%s.data", s->prefix, pool);
	return stat(path, &st) == 0 ? (long long)st.st_blocks * 512 : -1;
}

pid_t
spawn(int (*body)(int, void *), void *arg, int *control)
{
	pid_t parent = getpid(), pid;
	int ends[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0)
		return -1;
	pid = fork();
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		close(ends[0]);
		close(alive);
		_exit(getppid() == parent ? body(ends[1], arg) : 1);
	}
	close(ends[1]);
	*control = ends[0];
	return pid;
}

int
reap(pid_t pid)
{
	int status;

	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return -errno;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

int
tell(int control, const void *bytes, size_t len)
{
	return send(control, bytes, len, MSG_NOSIGNAL) == (ssize_t)len ? 0
								       : -EPIPE;
}

int
hear(int control, void *bytes, size_t len)
{
	return recv(control, bytes, len, 0) == (ssize_t)len ? 0 : -EPIPE;
}
