#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <stddef.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>

#include "daemon/peer.h"
#include "scratch.h"

#ifndef SO_PEERPIDFD
#define SO_PEERPIDFD 77
#endif

static int server, ends[2];
static struct sockaddr_un address;

static void
start(void)
{
	scratch_open();
	address.sun_family = AF_UNIX;
	strcpy(address.sun_path, scratch_path("sock"));
	server = socket(AF_UNIX, SOCK_SEQPACKET, 0);
	cr_assert_eq(
	    bind(server, (struct sockaddr *)&address, sizeof(address)), 0);
	cr_assert_eq(listen(server, 10), 0);
	cr_assert_eq(pipe(ends), 0);
}

TestSuite(peer, .timeout = 20, .init = start, .fini = scratch_close);

/* Connects, and lives until the test closes the pipe. */
static int
connect_and_wait(void)
{
	int fd = socket(AF_UNIX, SOCK_SEQPACKET, 0);
	char byte;

	close(ends[1]);
	CHECK(connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0);
	CHECK(read(ends[0], &byte, 1) == 0);
	return 0;
}

static int
plain_client(void *arg)
{
	if (arg != NULL)
		prctl(PR_SET_NAME, arg);
	return connect_and_wait();
}

/* The peer of the next connection. */
static struct peer
accept_peer(void)
{
	struct peer peer;
	int fd = accept(server, NULL, NULL);

	cr_assert_geq(fd, 0);
	cr_assert_eq(peer_of(&peer, fd), 0);
	close(fd);
	return peer;
}

Test(peer, is_who_connected)
{
	pid_t pid = child_start(plain_client, "tester");
	struct peer peer = accept_peer();
	struct pollfd end = {.fd = peer.pidfd, .events = POLLIN};

	cr_assert_eq(peer.pid, pid);
	cr_assert_eq(peer.uid, getuid());
	cr_assert_eq(peer.gid, getgid());
	cr_assert_str_eq(peer.comm, "tester");
	cr_assert_gt(peer.start_time, 0);
	cr_assert_geq(peer.pidfd, 0);
	cr_assert(fcntl(peer.pidfd, F_GETFD) & FD_CLOEXEC);
	cr_assert(peer_alive(peer.pidfd));
	close(ends[1]);
	cr_assert_eq(poll(&end, 1, -1), 1);
	cr_assert_not(peer_alive(peer.pidfd));
	cr_assert_eq(child_wait(pid), 0);
	cr_assert_not(peer_alive(peer.pidfd));
	peer_free(&peer);
	cr_assert_eq(peer.pidfd, -1);
	peer_free(&peer);
}

/* What ps(1) reads: field 22, counted behind the name. */
static unsigned long long
start_time_of(pid_t pid)
{
	char path[64], text[1024] = "", *at;
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	fd = open(path, O_RDONLY);
	cr_assert_gt(read(fd, text, sizeof(text) - 1), 0);
	close(fd);
	at = strrchr(text, ')') + 1;
	for (int i = 2; i < 22; i++)
		at = strchr(at, ' ') + 1;
	return strtoull(at, NULL, 10);
}

Test(peer, name_made_to_deceive)
{
	pid_t pid = child_start(plain_client, "a) R 1 (\n\033\xff\x7f");
	struct peer peer = accept_peer();

	cr_assert_str_eq(peer.comm, "a) R 1 (????");
	cr_assert_eq(peer.start_time, start_time_of(pid));
	peer_free(&peer);
	close(ends[1]);
	cr_assert_eq(child_wait(pid), 0);
}

static int
grouped_client(void *arg)
{
	gid_t groups[100];

	(void)arg;
	for (gid_t i = 0; i < 100; i++)
		groups[i] = 5000 + i;
	if (setgroups(100, groups) < 0 || setgid(4000) < 0 || setuid(3000) < 0)
		return SKIP;
	prctl(PR_SET_PDEATHSIG, SIGKILL); /* setuid(2) took it away */
	return connect_and_wait();
}

Test(peer, groups)
{
	struct peer peer;
	pid_t pid;

	if (geteuid() != 0)
		cr_skip_test("only root can become somebody else");
	chmod(scratch.dir, 0755);
	chmod(address.sun_path, 0666);
	pid = child_start(grouped_client, NULL);
	peer = accept_peer();
	cr_assert_eq(peer.uid, 3000);
	cr_assert_eq(peer.gid, 4000);
	cr_assert_eq(peer.ngroups, 100);
	cr_assert(peer_in_group(&peer, 4000));
	cr_assert(peer_in_group(&peer, 5000));
	cr_assert(peer_in_group(&peer, 5099));
	cr_assert_not(peer_in_group(&peer, 5100));
	cr_assert_not(peer_in_group(&peer, 0));
	peer_free(&peer);
	close(ends[1]);
	cr_assert_eq(child_wait(pid), 0);
}

static int
gone_client(void *arg)
{
	CHECK(connect(*(int *)arg, (struct sockaddr *)&address,
		  sizeof(address)) == 0);
	return 0;
}

/* The process has ended, its socket lives on, because we have it as well. */
static void
check_ended(void)
{
	struct peer peer;
	int rc = peer_of(&peer, accept(server, NULL, NULL));

	if (rc == 0) {
		cr_assert_geq(peer.pidfd, 0);
		cr_assert_not(peer_alive(peer.pidfd));
		cr_assert_eq(peer.start_time, 0);
		cr_assert_str_eq(peer.comm, "");
	} else {
		cr_assert_eq(rc, -ESRCH);
		cr_assert_eq(peer.pidfd, -1);
	}
	peer_free(&peer);
}

Test(peer, process_that_ended)
{
	int fd = socket(AF_UNIX, SOCK_SEQPACKET, 0);

	cr_assert_eq(child_wait(child_start(gone_client, &fd)), 0);
	check_ended();
}

/* Its pid is still its own, but could be another's a moment later. */
Test(peer, process_that_ended_and_was_not_waited_for)
{
	int fd = socket(AF_UNIX, SOCK_SEQPACKET, 0);
	pid_t pid = child_start(gone_client, &fd);
	siginfo_t info;

	cr_assert_eq(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT), 0);
	check_ended();
	cr_assert_eq(child_wait(pid), 0);
}

Test(peer, not_a_socket)
{
	struct peer peer;

	cr_assert_eq(peer_of(&peer, ends[0]), -ENOTSOCK);
	cr_assert_eq(peer_of(&peer, -1), -EBADF);
	cr_assert_eq(peer.pidfd, -1);
	peer_free(&peer);
}

Test(peer, nobody_can_tell)
{
	cr_assert(peer_alive(-1));
}

/* Has getsockopt(SO_PEERPIDFD) answer as a kernel before 6.5 does. */
static bool
forget_peerpidfd(void)
{
	struct sock_filter code[] = {
	    BPF_STMT(
		BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
	    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_getsockopt, 0, 3),
	    BPF_STMT(BPF_LD | BPF_W | BPF_ABS,
		offsetof(struct seccomp_data, args[2])),
	    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SO_PEERPIDFD, 0, 1),
	    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOPROTOOPT),
	    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = {sizeof(code) / sizeof(code[0]), code};

	return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
	       prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

/* Connects, closes its socket and says so, and lives on. */
static int
hung_up_client(void *arg)
{
	int fd = socket(AF_UNIX, SOCK_SEQPACKET, 0);
	char byte = 0;

	close(ends[1]);
	CHECK(connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0);
	close(fd);
	CHECK(write(*(int *)arg, &byte, 1) == 1);
	CHECK(read(ends[0], &byte, 1) == 0);
	return 0;
}

static int
old_kernel(void *arg)
{
	struct peer peer;

	(void)arg;
	if (!forget_peerpidfd())
		return SKIP;
	CHECK(peer_of(&peer, accept(server, NULL, NULL)) == 0);
	CHECK(peer.pidfd >= 0 && peer_alive(peer.pidfd));
	CHECK(peer.start_time > 0 && strcmp(peer.comm, "old") == 0);
	peer_free(&peer);
	/* The second one hung up: its pid proves nothing any more. */
	CHECK(peer_of(&peer, accept(server, NULL, NULL)) == -ESRCH);
	CHECK(peer.pidfd == -1);
	return 0;
}

Test(peer, without_peerpidfd)
{
	struct pollfd waiting = {.fd = server, .events = POLLIN};
	pid_t there, hung_up;
	int closed[2], status;
	char byte;

	cr_assert_eq(pipe(closed), 0);
	there = child_start(plain_client, "old");
	cr_assert_eq(poll(&waiting, 1, -1), 1);
	hung_up = child_start(hung_up_client, &closed[1]);
	cr_assert_eq(read(closed[0], &byte, 1), 1);
	status = child_wait(child_start(old_kernel, NULL));
	close(ends[1]);
	cr_assert_eq(child_wait(there), 0);
	cr_assert_eq(child_wait(hung_up), 0);
	if (status == SKIP)
		cr_skip_test("not possible on this system");
	cr_assert_eq(status, 0);
}

/* Found again by what a ledger knows of it, as long as it lives. */
Test(peer, found_again)
{
	pid_t pid = child_start(plain_client, "tester");
	struct peer peer = accept_peer(), found;

	cr_assert_eq(peer_find(&found, pid, getuid(), peer.start_time), 0);
	cr_assert_eq(found.pid, pid);
	cr_assert_eq(found.uid, getuid());
	cr_assert_eq(found.start_time, peer.start_time);
	cr_assert_str_eq(found.comm, "tester");
	cr_assert(peer_alive(found.pidfd));
	peer_free(&found);
	/* The pid is another's by now. */
	cr_assert_eq(
	    peer_find(&found, pid, getuid(), peer.start_time - 1), -ESRCH);
	cr_assert_eq(found.pidfd, -1);
	close(ends[1]);
	cr_assert_eq(child_wait(pid), 0);
	cr_assert_eq(peer_find(&found, pid, getuid(), peer.start_time), -ESRCH);
	/* Who was not visible then is not now. */
	cr_assert_eq(peer_find(&found, 0, getuid(), 0), 0);
	cr_assert_eq(found.pidfd, -1);
	peer_free(&peer);
}

Test(peer, pid_namespace)
{
	struct stat st;

	cr_assert_eq(stat("/proc/self/ns/pid", &st), 0);
	cr_assert_eq(peer_pid_namespace(), st.st_ino);
}
