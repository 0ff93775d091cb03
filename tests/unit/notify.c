#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "daemon/notify.h"
#include "scratch.h"

TestSuite(notify, .timeout = 20, .init = scratch_open, .fini = scratch_close);

/* A service manager's socket at `name`, which goes into the environment. */
static int
manager_open(const char *name)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	memcpy(address.sun_path, name, strlen(name));
	if (*name == '@')
		address.sun_path[0] = '\0';
	cr_assert_eq(bind(fd, (struct sockaddr *)&address,
			 (socklen_t)(offsetof(struct sockaddr_un, sun_path) +
				     strlen(name))),
	    0);
	setenv("NOTIFY_SOCKET", name, 1);
	return fd;
}

static const char *
manager_read(int fd)
{
	static char message[1024];
	ssize_t n = recv(fd, message, sizeof(message) - 1, MSG_DONTWAIT);

	cr_assert_geq(n, 0, "no message");
	message[n] = '\0';
	return message;
}

Test(notify, says_what_a_manager_understands)
{
	int fd = manager_open(scratch_path("notify"));
	unsigned long long usec;
	int end = 0;

	cr_assert_eq(notify_ready(), 0);
	cr_assert_str_eq(manager_read(fd), "READY=1");
	cr_assert_eq(notify_reloading(), 0);
	cr_assert_eq(sscanf(manager_read(fd),
			 "RELOADING=1\nMONOTONIC_USEC=%llu%n", &usec, &end),
	    1);
	cr_assert_gt(usec, 0);
	cr_assert_gt(end, 0);
	cr_assert_eq(notify_stopping(), 0);
	cr_assert_str_eq(manager_read(fd), "STOPPING=1");
	cr_assert_eq(notify_status("%d pools", 3), 0);
	cr_assert_str_eq(manager_read(fd), "STATUS=3 pools");
	close(fd);
}

Test(notify, abstract_name)
{
	char name[64];
	int fd;

	snprintf(name, sizeof(name), "@slabd-test-%d", (int)getpid());
	fd = manager_open(name);
	cr_assert_eq(notify_ready(), 0);
	cr_assert_str_eq(manager_read(fd), "READY=1");
	close(fd);
}

Test(notify, status_stays_one_line)
{
	int fd = manager_open(scratch_path("notify"));
	char text[2000];

	cr_assert_eq(notify_status("a\nREADY=1\nb"), 0);
	cr_assert_str_eq(manager_read(fd), "STATUS=a READY=1 b");
	memset(text, 'x', sizeof(text));
	text[sizeof(text) - 1] = '\0';
	cr_assert_eq(notify_status("%s", text), 0);
	cr_assert_leq(strlen(manager_read(fd)), 512);
	close(fd);
}

Test(notify, nobody_to_tell)
{
	unsetenv("NOTIFY_SOCKET");
	cr_assert_eq(notify_ready(), 0);
	cr_assert_eq(notify_status("x"), 0);
}

Test(notify, bad_addresses)
{
	char name[200];

	setenv("NOTIFY_SOCKET", scratch_path("none"), 1);
	cr_assert_eq(notify_ready(), -ENOENT);
	setenv("NOTIFY_SOCKET", "vsock:2:1", 1);
	cr_assert_eq(notify_ready(), -EAFNOSUPPORT);
	setenv("NOTIFY_SOCKET", "", 1);
	cr_assert_eq(notify_ready(), -EAFNOSUPPORT);
	memset(name, 'x', sizeof(name));
	name[0] = '/';
	name[108] = '\0';
	setenv("NOTIFY_SOCKET", name, 1);
	cr_assert_eq(notify_ready(), -ENAMETOOLONG);
}

/* The queue of a manager that does not read is full after some messages. */
Test(notify, deaf_manager_does_not_hang_us)
{
	int fd = manager_open(scratch_path("notify"));
	int rc = 0;

	for (int i = 0; i < 10000 && rc == 0; i++)
		rc = notify_ready();
	cr_assert_eq(rc, -EAGAIN);
	close(fd);
}

Test(notify, leaves_no_descriptor)
{
	int fd = manager_open(scratch_path("notify"));
	int before = dup(fd), after;

	close(before);
	notify_ready();
	notify_status("x");
	setenv("NOTIFY_SOCKET", scratch_path("none"), 1);
	notify_ready();
	after = dup(fd);
	cr_assert_eq(after, before);
	close(after);
	close(fd);
}
