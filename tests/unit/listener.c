#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "daemon/event.h"
#include "daemon/instance.h"
#include "daemon/listener.h"
#include "daemon/log.h"
#include "scratch.h"

#ifndef SO_PASSRIGHTS
#define SO_PASSRIGHTS 83
#endif

static struct loop *loop;
static struct instance instance;
static struct listener *listener;

/* What the listener handed over. */
static int clients[64];
static size_t nclients;

static uint32_t rest_ms; /* after each; 0: none */

static void
take(void *arg, int fd)
{
	(void)arg;
	clients[nclients++] = fd;
	if (rest_ms > 0)
		listener_rest(listener, rest_ms);
	loop_stop(loop);
}

static void
start(void)
{
	scratch_open();
	log_open(SLABD_LOG_ERROR, NULL);
	cr_assert_eq(loop_new(&loop), 0);
	cr_assert_eq(instance_open(&instance, scratch_path("sock")), 0);
}

static void
stop(void)
{
	listener_close(listener);
	instance_close(&instance);
	loop_free(loop);
	scratch_close();
}

TestSuite(listener, .timeout = 30, .init = start, .fini = stop);

static int
listener_start(void)
{
	return listener_open(
	    &listener, loop, &instance, 0600, (gid_t)-1, take, NULL);
}

static int client(void);

/* The socket when it was given its mode: its mode then, how a client fared. */
static mode_t early_mode;
static int early_client;

/* Instead of the one in the C library. */
int
chmod(const char *path, mode_t mode)
{
	struct stat st;

	if (lstat(path, &st) == 0)
		early_mode = st.st_mode;
	early_client = client();
	return fchmodat(AT_FDCWD, path, mode, 0);
}

static struct sockaddr_un
address_of(const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};

	strcpy(address.sun_path, path);
	return address;
}

static int
bound(const char *path, int type)
{
	struct sockaddr_un address = address_of(path);
	int fd = socket(AF_UNIX, type | SOCK_CLOEXEC, 0);

	if (bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
		return -1;
	return fd;
}

/* A connection to the instance's socket, or -errno. */
static int
client(void)
{
	struct sockaddr_un address = address_of(instance.socket_path);
	int fd =
	    socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0)
		return fd;
	close(fd);
	return -errno;
}

static bool
hung_up(int fd)
{
	struct pollfd state = {.fd = fd, .events = POLLRDHUP};

	return poll(&state, 1, 0) == 1;
}

Test(listener, hands_over_clients)
{
	int fds[40];
	char byte = 0;

	cr_assert_eq(listener_start(), 0);
	cr_assert_not(listener_activated(listener));
	for (size_t i = 0; i < 40; i++)
		cr_assert_geq(fds[i] = client(), 0);
	while (nclients < 40)
		cr_assert_eq(loop_run(loop), 0);
	for (size_t i = 0; i < 40; i++) {
		cr_assert(fcntl(clients[i], F_GETFL) & O_NONBLOCK);
		cr_assert(fcntl(clients[i], F_GETFD) & FD_CLOEXEC);
		cr_assert_eq(send(fds[i], "x", 1, 0), 1);
		cr_assert_eq(recv(clients[i], &byte, 1, 0), 1);
	}
}

/* The others wait where they are, and are not forgotten. */
Test(listener, rests_when_it_is_told)
{
	cr_assert_eq(listener_start(), 0);
	for (size_t i = 0; i < 6; i++)
		cr_assert_geq(client(), 0);
	rest_ms = 3600000;
	cr_assert_eq(loop_run(loop), 0);
	cr_assert_eq(nclients, 4, "a turn");
	for (size_t i = 0; i < 3; i++)
		cr_assert_eq(loop_poll(loop), 0);
	cr_assert_eq(nclients, 4);
	rest_ms = 1;
	listener_rest(listener, rest_ms);
	cr_assert_eq(loop_run(loop), 0);
	cr_assert_eq(nclients, 6);
}

Test(listener, mode_and_group_whatever_the_umask)
{
	mode_t saved = umask(0777);
	gid_t group = geteuid() == 0 ? 12345 : getegid();
	struct stat st;

	cr_assert_eq(
	    listener_open(&listener, loop, &instance, 0664, group, take, NULL),
	    0);
	cr_assert_eq(umask(saved), 0777);
	cr_assert_eq(stat(instance.socket_path, &st), 0);
	cr_assert_eq(st.st_mode, S_IFSOCK | 0664);
	cr_assert_eq(st.st_gid, group);
}

Test(listener, nobody_connects_before_the_mode_is_set)
{
	mode_t saved = umask(0);

	cr_assert_eq(listener_start(), 0);
	umask(saved);
	cr_assert_eq(early_mode, S_IFSOCK | 0600);
	cr_assert_eq(early_client, -ECONNREFUSED);
}

Test(listener, close_removes_the_path)
{
	cr_assert_eq(listener_start(), 0);
	listener_close(listener);
	listener = NULL;
	cr_assert_eq(access(instance.socket_path, F_OK), -1);
	listener_close(NULL);
}

Test(listener, close_spares_somebody_elses_path)
{
	int fd;

	cr_assert_eq(listener_start(), 0);
	unlink(instance.socket_path);
	fd = bound(instance.socket_path, SOCK_SEQPACKET);
	cr_assert_geq(fd, 0);
	listener_close(listener);
	listener = NULL;
	cr_assert_eq(access(instance.socket_path, F_OK), 0);
	close(fd);
}

Test(listener, stale_socket_is_replaced)
{
	close(bound(instance.socket_path, SOCK_SEQPACKET));
	cr_assert_eq(client(), -ECONNREFUSED);
	cr_assert_eq(listener_start(), 0);
	cr_assert_geq(client(), 0);
}

static int
killed_daemon(void *arg)
{
	(void)arg;
	if (listener_start() < 0)
		return 1;
	raise(SIGKILL);
	return 1;
}

Test(listener, killed_daemon_is_replaced)
{
	struct listener *none = listener;

	cr_assert_eq(child_wait(child_start(killed_daemon, NULL)), -SIGKILL);
	listener = none;
	cr_assert_eq(access(instance.socket_path, F_OK), 0);
	cr_assert_eq(listener_start(), 0);
	cr_assert_geq(client(), 0);
}

/* Somebody who serves there without the lock is not disturbed. */
Test(listener, live_socket_is_left_alone)
{
	int fd = bound(instance.socket_path, SOCK_SEQPACKET);

	listen(fd, 1);
	cr_assert_eq(listener_start(), -EADDRINUSE);
	cr_assert_null(listener);
	while (client() >= 0)
		;
	cr_assert_eq(client(), -EAGAIN);
	cr_assert_eq(listener_start(), -EADDRINUSE);
	cr_assert_eq(access(instance.socket_path, F_OK), 0);
	close(fd);
}

Test(listener, live_socket_of_another_type_is_left_alone)
{
	int fd = bound(instance.socket_path, SOCK_STREAM);

	listen(fd, 1);
	cr_assert_eq(listener_start(), -EADDRINUSE);
	cr_assert_eq(access(instance.socket_path, F_OK), 0);
	close(fd);
}

Test(listener, other_files_are_left_alone)
{
	int fd = open(instance.socket_path, O_CREAT | O_WRONLY, 0600);

	close(fd);
	cr_assert_eq(listener_start(), -EEXIST);
	cr_assert_eq(access(instance.socket_path, F_OK), 0);
	unlink(instance.socket_path);
	cr_assert_eq(symlink("/dev/null", instance.socket_path), 0);
	cr_assert_eq(listener_start(), -EEXIST);
	cr_assert_eq(access(instance.socket_path, F_OK), 0);
}

Test(listener, directory_that_went_away)
{
	strcpy(instance.socket_path, scratch_path("gone/sock"));
	cr_assert_eq(listener_start(), -ENOENT);
}

Test(listener, failure_leaves_no_descriptor)
{
	int before = dup(0), after;

	close(before);
	cr_assert_eq(symlink("/dev/null", instance.socket_path), 0);
	cr_assert_eq(listener_start(), -EEXIST);
	after = dup(0);
	cr_assert_eq(after, before);
	close(after);
}

Test(listener, clients_cannot_send_descriptors)
{
	union {
		struct cmsghdr header;
		char space[CMSG_SPACE(sizeof(int))];
	} control = {.header = {CMSG_LEN(sizeof(int)), SOL_SOCKET, SCM_RIGHTS}};
	struct iovec body = {"x", 1};
	struct msghdr message = {.msg_iov = &body,
	    .msg_iovlen = 1,
	    .msg_control = &control,
	    .msg_controllen = sizeof(control)};
	socklen_t bytes = sizeof(int);
	int value, fd;

	cr_assert_eq(listener_start(), 0);
	fd = client();
	if (getsockopt(fd, SOL_SOCKET, SO_PASSRIGHTS, &value, &bytes) < 0)
		cr_skip_test("this kernel cannot refuse descriptors");
	memcpy(CMSG_DATA(&control.header), &fd, sizeof(fd));
	cr_assert_eq(sendmsg(fd, &message, MSG_NOSIGNAL), -1); /* too early */
	cr_assert_eq(errno, EPERM);
	cr_assert_eq(loop_run(loop), 0);
	cr_assert_eq(sendmsg(fd, &message, MSG_NOSIGNAL), -1);
	cr_assert_eq(errno, EPERM);
	cr_assert_eq(send(fd, "x", 1, 0), 1);
}

/* The lowest descriptor that is free. */
static int
lowest_free(void)
{
	int fd = dup(0);

	close(fd);
	return fd;
}

static void
set_limit(int descriptors)
{
	struct rlimit limit;

	getrlimit(RLIMIT_NOFILE, &limit);
	limit.rlim_cur = (rlim_t)descriptors;
	setrlimit(RLIMIT_NOFILE, &limit);
}

static int
turned_away(void *arg)
{
	int fds[20];
	struct rlimit limit;

	(void)arg;
	CHECK(listener_start() == 0);
	getrlimit(RLIMIT_NOFILE, &limit);
	for (int i = 0; i < 20; i++)
		CHECK((fds[i] = client()) >= 0);
	set_limit(lowest_free());
	CHECK(accept(0, NULL, NULL) < 0);
	for (int i = 0; i < 25; i++)
		CHECK(loop_poll(loop) == 0);
	CHECK(nclients == 0);
	for (int i = 0; i < 20; i++)
		CHECK(hung_up(fds[i]));
	setrlimit(RLIMIT_NOFILE, &limit);
	CHECK((fds[0] = client()) >= 0);
	CHECK(loop_poll(loop) == 0);
	CHECK(nclients == 1 && !hung_up(fds[0]));
	return 0;
}

Test(listener, without_descriptors_clients_are_turned_away)
{
	child_check(turned_away, NULL);
}

static uint64_t
cpu_us(void)
{
	struct rusage usage;

	getrusage(RUSAGE_SELF, &usage);
	return (uint64_t)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) *
		   1000000 +
	       (uint64_t)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec);
}

static void
raise_limit(void *arg)
{
	setrlimit(RLIMIT_NOFILE, arg);
}

/* With a limit below every open descriptor, the spare cannot help either. */
static int
paused(void *arg)
{
	struct rlimit limit;
	struct timer *relief;
	uint64_t before, since;
	int fd;

	(void)arg;
	CHECK(listener_start() == 0);
	CHECK(timer_new(&relief, loop, raise_limit, &limit) == 0);
	CHECK((fd = client()) >= 0);
	getrlimit(RLIMIT_NOFILE, &limit);
	set_limit(3);
	CHECK(timer_start(relief, LISTENER_PAUSE_MS * 3 / 2) == 0);
	before = cpu_us();
	since = loop_now_ms();
	CHECK(loop_run(loop) == 0); /* until the client is taken */
	CHECK(nclients == 1 && !hung_up(fd));
	CHECK(loop_now_ms() - since >= LISTENER_PAUSE_MS);
	CHECK(cpu_us() - before < 50000);
	timer_free(relief);
	return 0;
}

Test(listener, without_even_the_spare_accepting_pauses)
{
	child_check(paused, NULL);
}

/* As a service manager starts us: descriptor 3 and two variables. */
static int
activate_as(pid_t pid, const char *count)
{
	char text[32];

	snprintf(text, sizeof(text), "%d", (int)pid);
	setenv("LISTEN_PID", text, 1);
	setenv("LISTEN_FDS", count, 1);
	/* The child's loop and lock lie about there: it makes them anew. */
	instance_close(&instance);
	if (loop_new(&loop) < 0)
		return -errno;
	return listener_start();
}

static int
activate(int fd, pid_t pid, const char *count)
{
	setenv("LISTEN_FDNAMES", "control", 1);
	if (dup2(fd, 3) < 0)
		return -errno;
	return activate_as(pid, count);
}

static int
activated(void *arg)
{
	char path[128];
	int fd;

	(void)arg;
	strcpy(path, instance.socket_path);
	fd = bound(path, SOCK_SEQPACKET);
	CHECK(chmod(path, 0640) == 0 && listen(fd, 5) == 0);
	CHECK(activate(fd, getpid(), "1") == 0);
	CHECK(listener_activated(listener));
	CHECK(getenv("LISTEN_PID") == NULL && getenv("LISTEN_FDS") == NULL &&
	      getenv("LISTEN_FDNAMES") == NULL);
	CHECK(fcntl(3, F_GETFD) & FD_CLOEXEC);
	CHECK(fcntl(3, F_GETFL) & O_NONBLOCK);
	CHECK(client() >= 0);
	CHECK(loop_run(loop) == 0);
	CHECK(nclients == 1);
	listener_close(listener);
	CHECK(access(path, F_OK) == 0);
	return 0;
}

Test(listener, takes_the_service_managers_socket)
{
	child_check(activated, NULL);
}

static int
activated_wrong_type(void *arg)
{
	int fd = bound(scratch_path("stream"), SOCK_STREAM);

	(void)arg;
	CHECK(listen(fd, 5) == 0);
	CHECK(activate(fd, getpid(), "1") == -EINVAL);
	return 0;
}

static int
activated_not_listening(void *arg)
{
	(void)arg;
	CHECK(activate(bound(scratch_path("deaf"), SOCK_SEQPACKET), getpid(),
		  "1") == -EINVAL);
	return 0;
}

static int
activated_file(void *arg)
{
	(void)arg;
	CHECK(activate(0, getpid(), "1") == -EINVAL);
	return 0;
}

static int
activated_many(void *arg)
{
	int fd = bound(scratch_path("one"), SOCK_SEQPACKET);

	(void)arg;
	CHECK(listen(fd, 5) == 0);
	CHECK(dup2(fd, 4) == 4);
	CHECK(activate(fd, getpid(), "2") == -EINVAL);
	return 0;
}

static int
activated_too_few(void *arg)
{
	int fd = bound(scratch_path("few"), SOCK_SEQPACKET);

	(void)arg;
	CHECK(listen(fd, 5) == 0);
	close(4);
	CHECK(activate(fd, getpid(), "2") == -EINVAL);
	return 0;
}

/* What is the store's is not served. */
static int
activated_with_store(void *arg)
{
	int fd = bound(scratch_path("mixed"), SOCK_SEQPACKET);

	(void)arg;
	CHECK(listen(fd, 5) == 0);
	CHECK(dup2(fd, 4) == 4);
	CHECK(dup2(open("/dev/null", O_RDONLY), 3) == 3);
	CHECK(dup2(open("/dev/null", O_RDONLY), 5) == 5);
	setenv("LISTEN_FDNAMES", "slabd-a:control:slabd-b", 1);
	CHECK(activate_as(getpid(), "3") == 0);
	CHECK(listener_activated(listener));
	return 0;
}

static int
activated_not_us(void *arg)
{
	int fd = bound(scratch_path("one"), SOCK_SEQPACKET);

	(void)arg;
	CHECK(listen(fd, 5) == 0);
	CHECK(activate(fd, getppid(), "1") == 0);
	CHECK(!listener_activated(listener));
	CHECK(getenv("LISTEN_FDS") == NULL);
	return 0;
}

Test(listener, refuses_a_wrong_hand_over)
{
	child_check(activated_wrong_type, NULL);
	child_check(activated_not_listening, NULL);
	child_check(activated_file, NULL);
	child_check(activated_many, NULL);
	child_check(activated_too_few, NULL);
}

Test(listener, leaves_the_store_alone)
{
	child_check(activated_with_store, NULL);
}

Test(listener, ignores_a_hand_over_to_another_process)
{
	child_check(activated_not_us, NULL);
}
