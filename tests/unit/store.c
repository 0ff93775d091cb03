/*
 * The descriptor store, and the regions in it, with a service manager of the
 * test's own: a socket, and what came over it.
 */
#include "config.h"

#include <sys/socket.h>
#include <sys/un.h>

#include "daemon/log.h"
#include "daemon/region.h"
#include "daemon/store.h"
#include "scratch.h"

#define PAGE	 4096u
#define KEPT_MAX 16u

/* The manager: its socket, and the store. */
static struct {
	int fd;
	unsigned n;
	struct {
		char name[300];
		int fd;
	} kept[KEPT_MAX];
} manager;

static void
start(void)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};

	scratch_open();
	log_open(SLABD_LOG_ERROR, NULL);
	strcpy(address.sun_path, scratch_path("notify"));
	manager.fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	cr_assert_eq(
	    bind(manager.fd, (struct sockaddr *)&address, sizeof(address)), 0);
	setenv("NOTIFY_SOCKET", address.sun_path, 1);
}

TestSuite(store, .timeout = 20, .init = start, .fini = scratch_close);

/* One message, and the descriptor with it or -1; false: there is none. */
static bool
manager_read(char text[1024], int *fd)
{
	union {
		struct cmsghdr header;
		char space[CMSG_SPACE(sizeof(int))];
	} control;
	struct iovec body = {text, 1023};
	struct msghdr message = {.msg_iov = &body,
	    .msg_iovlen = 1,
	    .msg_control = &control,
	    .msg_controllen = sizeof(control)};
	ssize_t n = recvmsg(manager.fd, &message, MSG_DONTWAIT);

	if (n < 0)
		return false;
	text[n] = '\0';
	*fd = -1;
	if (CMSG_FIRSTHDR(&message) != NULL)
		memcpy(fd, CMSG_DATA(&control.header), sizeof(int));
	return true;
}

static void
manager_remove(const char *name)
{
	for (unsigned i = 0; i < manager.n; i++)
		if (strcmp(manager.kept[i].name, name) == 0) {
			close(manager.kept[i].fd);
			manager.kept[i--] = manager.kept[--manager.n];
		}
}

/* Does what the messages say, which must be of the store. */
static void
manager_run(void)
{
	char text[1024], name[300];
	int fd, end;

	while (manager_read(text, &fd)) {
		end = 0;
		if (sscanf(text, "FDSTOREREMOVE=1\nFDNAME=%299[^\n]%n", name,
			&end) == 1) {
			cr_assert_eq(fd, -1);
			manager_remove(name);
		} else {
			cr_assert_eq(sscanf(text,
					 "FDSTORE=1\nFDNAME=%299[^\n]\n"
					 "FDPOLL=0%n",
					 name, &end),
			    1);
			cr_assert_geq(fd, 0);
			strcpy(manager.kept[manager.n].name, name);
			manager.kept[manager.n++].fd = fd;
		}
		cr_assert_eq(text[end], '\0');
	}
}

struct daemon {
	int (*body)(void);
	bool own_pid; /* the variables are for it */
};

/* In the child: descriptors from 3 on and three variables. */
static int
daemon_main(void *arg)
{
	const struct daemon *d = arg;
	char names[KEPT_MAX * 300] = "", number[32];
	unsigned n = manager.n;

	/* Out of the way first, since they may lie about there. */
	for (unsigned i = 0; i < n; i++)
		CHECK((manager.kept[i].fd =
			      fcntl(manager.kept[i].fd, F_DUPFD, 100)) >= 0);
	for (unsigned i = 0; i < n; i++) {
		CHECK(dup2(manager.kept[i].fd, (int)(3 + i)) >= 0);
		strcat(names, i > 0 ? ":" : "");
		strcat(names, manager.kept[i].name);
	}
	CHECK(close_range(3 + n, ~0u, 0) == 0);
	snprintf(number, sizeof(number), "%u", n);
	setenv("LISTEN_FDS", number, 1);
	setenv("LISTEN_FDNAMES", names, 1);
	snprintf(number, sizeof(number), "%d",
	    d->own_pid ? (int)getpid() : (int)getppid());
	setenv("LISTEN_PID", number, 1);
	return d->body();
}

/* Runs one daemon with what the manager keeps, to its end. */
static void
daemon_run(int (*body)(void))
{
	struct daemon d = {body, true};

	child_check(daemon_main, &d);
	manager_run();
}

static int
create_and_write(void)
{
	struct region region;

	CHECK(region_create(
		  &region, scratch_name("a"), 64 * PAGE, REGION_MEMFD) == 0);
	CHECK(pwrite(region.fd, "kept", 4, 5 * PAGE) == 4);
	return 0;
}

static int
killed(void)
{
	if (create_and_write() == 0)
		raise(SIGKILL);
	return 1;
}

static int
find_and_remove(void)
{
	struct region region;
	char text[5] = "";

	CHECK(store_receive() == 0);
	CHECK(getenv("LISTEN_FDS") == NULL && getenv("LISTEN_PID") == NULL &&
	      getenv("LISTEN_FDNAMES") == NULL);
	CHECK(store_socket() == -ENOENT);
	CHECK(region_create(&region, scratch_name("a"), PAGE, REGION_MEMFD) ==
	      -EEXIST);
	CHECK(region_open(&region, scratch_name("a")) == 0);
	CHECK(region.kind == REGION_MEMFD);
	CHECK(region.bytes == 64 * PAGE && region.page_bytes == PAGE);
	CHECK(fcntl(region.fd, F_GETFD) & FD_CLOEXEC);
	CHECK(pread(region.fd, text, 4, 5 * PAGE) == 4);
	CHECK(strcmp(text, "kept") == 0);
	CHECK(ftruncate(region.fd, 0) == -1);
	CHECK(store_take(scratch_name("a") + 1) == -ENOENT);
	CHECK(store_close_rest() == 0);
	region_remove(&region);
	return 0;
}

Test(store, region_outlives_a_killed_daemon)
{
	struct daemon d = {killed, true};

	cr_assert_eq(child_wait(child_start(daemon_main, &d)), -SIGKILL);
	manager_run();
	cr_assert_eq(manager.n, 1);
	cr_assert_str_eq(manager.kept[0].name, scratch_name("a") + 1);
	daemon_run(find_and_remove);
	cr_assert_eq(manager.n, 0);
}

static int
create_huge(void)
{
	struct region region;

	return region_create(&region, scratch_name("h"), PAGE, REGION_HUGETLB) <
		       0
		   ? SKIP
		   : 0;
}

static int
find_huge(void)
{
	struct region region;

	CHECK(region_open(&region, scratch_name("h")) == 0);
	CHECK(region.kind == REGION_HUGETLB);
	CHECK(region.page_bytes > PAGE && region.bytes == region.page_bytes);
	return 0;
}

Test(store, huge_pages_are_known_again)
{
	daemon_run(create_huge);
	daemon_run(find_huge);
}

static int
leave_it(void)
{
	struct region region;

	CHECK(region_open(&region, scratch_name("a")) == 0);
	return 0;
}

/* What was taken stays with the manager: nobody has to give it again. */
Test(store, region_outlives_many_daemons)
{
	daemon_run(create_and_write);
	for (int i = 0; i < 3; i++)
		daemon_run(leave_it);
	daemon_run(find_and_remove);
	cr_assert_eq(manager.n, 0);
}

static int
create_two(void)
{
	struct region region;

	CHECK(create_and_write() == 0);
	CHECK(
	    region_create(&region, scratch_name("b"), PAGE, REGION_MEMFD) == 0);
	return 0;
}

static int
take_one_close_rest(void)
{
	struct region region;

	CHECK(region_open(&region, scratch_name("b")) == 0);
	CHECK(store_close_rest() == 1);
	CHECK(fcntl(3, F_GETFD) == -1);
	CHECK(region_allocated(region.fd) == 0);
	return 0;
}

Test(store, what_nobody_took_is_dropped)
{
	daemon_run(create_two);
	cr_assert_eq(manager.n, 2);
	daemon_run(take_one_close_rest);
	cr_assert_eq(manager.n, 1);
	cr_assert_str_eq(manager.kept[0].name, scratch_name("b") + 1);
}

static void
open_b(void *arg, const char *name)
{
	struct region region;

	if (strcmp(name, scratch_name("b")) == 0 &&
	    region_open(&region, name) == 0)
		(*(int *)arg)++;
}

static void
remove_stale(void *arg, const char *name)
{
	if (region_unlink_stale(name) == 0)
		(*(int *)arg)++;
}

static int
visit_and_remove(void)
{
	int opened = 0, removed = 0;

	CHECK(region_each(scratch.prefix, open_b, &opened) == 2);
	CHECK(opened == 1);
	CHECK(region_each(scratch.prefix, open_b, &opened) == 1);
	CHECK(region_each("/slabd-other-", open_b, &opened) == 0);
	CHECK(region_each(scratch.prefix, remove_stale, &removed) == 1);
	CHECK(removed == 1);
	CHECK(region_unlink_stale(scratch_name("a")) == -ENOENT);
	return 0;
}

Test(store, regions_are_visited_and_swept)
{
	daemon_run(create_two);
	daemon_run(visit_and_remove);
	cr_assert_eq(manager.n, 1);
	cr_assert_str_eq(manager.kept[0].name, scratch_name("b") + 1);
}

/* The manager hands over one more descriptor. */
static void
manager_add(const char *name, int fd)
{
	snprintf(manager.kept[manager.n].name,
	    sizeof(manager.kept[manager.n].name), "%s", name);
	cr_assert_geq(fd, 0);
	manager.kept[manager.n++].fd = fd;
}

/* A memfd of `mode` and with `seals`. */
static int
memfd(mode_t mode, int seals)
{
	int fd = memfd_create("x", MFD_ALLOW_SEALING | MFD_CLOEXEC);

	cr_assert_eq(fchmod(fd, mode), 0);
	cr_assert_eq(ftruncate(fd, PAGE), 0);
	cr_assert_eq(fcntl(fd, F_ADD_SEALS, seals), 0);
	return fd;
}

static int
open_strangers(void)
{
	struct region region;
	char name[32];

	for (int i = 1; i < 7; i++) {
		snprintf(name, sizeof(name), "/slabd-%d", i);
		CHECK(region_open(&region, name) == -EPERM);
		CHECK(region.fd == -1);
	}
	CHECK(region_open(&region, "/slabd-7") == 0);
	return 0;
}

Test(store, what_is_not_as_we_make_it_is_not_opened)
{
	int all = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;

	manager_add("slabd-1", memfd(0600, F_SEAL_SHRINK | F_SEAL_GROW));
	manager_add("slabd-2", memfd(0600, F_SEAL_SHRINK | F_SEAL_SEAL));
	manager_add("slabd-3", memfd(0600, F_SEAL_GROW | F_SEAL_SEAL));
	manager_add("slabd-4", memfd(0600, all | F_SEAL_WRITE));
	manager_add("slabd-5", memfd(0666, all));
	manager_add("slabd-6", open("/dev/null", O_RDWR));
	manager_add("slabd-7", memfd(0600, all));
	daemon_run(open_strangers);
}

static int
mixed(void)
{
	CHECK(store_has("slabd-a") && store_has("slabd-b"));
	CHECK(!store_has("control") && store_take("control") == -ENOENT);
	CHECK(!store_has("slabd-c"));
	CHECK(store_socket() == 4);
	CHECK(store_socket() == -ENOENT);
	CHECK(store_take("slabd-b") == 5);
	/* A second one of that name is nothing to anybody. */
	CHECK(store_close_rest() == 2);
	CHECK(fcntl(3, F_GETFD) == -1 && fcntl(6, F_GETFD) == -1);
	CHECK(fcntl(4, F_GETFD) == FD_CLOEXEC);
	CHECK(fcntl(5, F_GETFD) == FD_CLOEXEC);
	return 0;
}

Test(store, sockets_are_told_apart_by_name)
{
	manager_add("slabd-a", open("/dev/null", O_RDWR));
	manager_add("control", open("/dev/null", O_RDWR));
	manager_add("slabd-b", open("/dev/null", O_RDWR));
	manager_add("slabd-b", open("/dev/null", O_RDWR));
	daemon_run(mixed);
	/* Only what has no other of its name was given back. */
	cr_assert_eq(manager.n, 3);
}

static int
not_ours(void)
{
	CHECK(store_receive() == 0);
	CHECK(!store_has("slabd-a"));
	CHECK(store_close_rest() == 0);
	CHECK(fcntl(3, F_GETFD) == 0);
	return 0;
}

Test(store, handed_over_to_another_process)
{
	struct daemon d = {not_ours, false};

	manager_add("slabd-a", open("/dev/null", O_RDWR));
	child_check(daemon_main, &d);
}

static int
announced_more(void)
{
	setenv("LISTEN_FDS", "2147483647", 1);
	CHECK(store_receive() == -EINVAL);
	CHECK(store_receive() == -EINVAL);
	CHECK(store_socket() == -EINVAL);
	CHECK(store_take("slabd-a") == -EINVAL);
	CHECK(getenv("LISTEN_FDS") == NULL);
	return 0;
}

static int
announced_nonsense(void)
{
	setenv("LISTEN_FDS", "-1", 1);
	CHECK(store_receive() == 0 && !store_has("slabd-a"));
	return 0;
}

static int
without_names(void)
{
	unsetenv("LISTEN_FDNAMES");
	CHECK(!store_has("slabd-a"));
	CHECK(store_socket() == 3);
	return 0;
}

Test(store, odd_announcements)
{
	manager_add("slabd-a", open("/dev/null", O_RDWR));
	daemon_run(announced_more);
	daemon_run(announced_nonsense);
	daemon_run(without_names);
}

Test(store, names_that_are_refused)
{
	char name[STORE_NAME_MAX + 2], text[1024];
	int fd = open("/dev/null", O_RDWR), got;

	memset(name, 'x', sizeof(name));
	memcpy(name, "slabd-", 6);
	name[STORE_NAME_MAX + 1] = '\0';
	cr_assert_eq(store_put(name, fd), -EINVAL);
	cr_assert_eq(store_put("slabd-a:b", fd), -EINVAL);
	cr_assert_eq(store_put("slabd-a\nREADY=1", fd), -EINVAL);
	cr_assert_eq(store_put("slabd-\xc3\xa4", fd), -EINVAL);
	cr_assert_eq(store_put("other", fd), -EINVAL);
	cr_assert_eq(store_drop("slabd-a:b"), -EINVAL);
	cr_assert_not(manager_read(text, &got));
	name[STORE_NAME_MAX] = '\0';
	cr_assert_eq(store_put(name, fd), 0);
	cr_assert(manager_read(text, &got));
	cr_assert_geq(got, 0);
	cr_assert_not_null(strstr(text, name));
}

Test(store, without_a_manager_nothing_is_kept)
{
	struct region region;

	unsetenv("NOTIFY_SOCKET");
	cr_assert_eq(store_put("slabd-a", 0), 0);
	cr_assert_eq(store_drop("slabd-a"), 0);
	cr_assert_eq(
	    region_create(&region, scratch_name("a"), PAGE, REGION_MEMFD), 0);
	region_remove(&region);
}

/* A manager that cannot be told costs the memory's afterlife, not the pool. */
Test(store, unreachable_manager)
{
	struct region region;

	setenv("NOTIFY_SOCKET", scratch_path("none"), 1);
	cr_assert_eq(store_put("slabd-a", 0), -ENOENT);
	cr_assert_eq(
	    region_create(&region, scratch_name("a"), PAGE, REGION_MEMFD), 0);
	region_remove(&region);
}
