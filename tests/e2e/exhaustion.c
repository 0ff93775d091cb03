/*
 * What the host runs out of: descriptors, processes, the memory of a control
 * group. The daemon lives on, says what is missing, does not run in circles
 * meanwhile, and goes on as before once there is enough again. (A file system
 * that is full: lifecycle.c.)
 */
#include "config.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "e2e.h"

#define POOL                                                \
	"\"pools\": [{\"name\": \"p\", \"slot_size\": 64, " \
	"\"slots_per_segment\": 8, \"max_segments\": 4}]"

static char group[64]; /* a control group of this test's, "": none */

static void
finish_group(void)
{
	finish();
	for (int i = 0; group[0] != '\0' && i < 200; i++) {
		if (rmdir(group) == 0 || errno != EBUSY)
			break;
		poll(NULL, 0, 10);
	}
}

TestSuite(exhaustion, .timeout = 60, .fini = finish_group);

static bool
put(const char *file, long long number)
{
	char path[128], text[32];
	bool done;
	int fd;

	snprintf(path, sizeof(path), "%s/%s", group, file);
	snprintf(text, sizeof(text), "%lld", number);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	done = fd >= 0 && write(fd, text, strlen(text)) > 0;
	close(fd);
	return done;
}

/* Goes when this process and whoever was in the group have ended. */
static void
start_janitor(void)
{
	char byte;
	int ends[2];

	cr_assert_eq(pipe2(ends, O_CLOEXEC), 0);
	if (fork() != 0) {
		close(ends[0]);
		return;
	}
	setsid();
	for (int fd = 0; fd < 1024; fd++)
		if (fd != ends[0])
			close(fd);
	while (read(ends[0], &byte, 1) > 0)
		;
	for (int i = 0; i < 500 && rmdir(group) < 0 && errno == EBUSY; i++)
		poll(NULL, 0, 10);
	_exit(0);
}

/* Puts the helper into a group with that limit; false: there is no such. */
static bool
limit_helper(const char *controller, const char *file, long long limit)
{
	snprintf(group, sizeof(group), "/sys/fs/cgroup/%s/slabd-test-%d",
	    controller, (int)getpid());
	if (mkdir(group, 0755) < 0) {
		group[0] = '\0';
		return false;
	}
	start_janitor();
	return put(file, limit) && put("cgroup.procs", server_helper(&server));
}

/* Seconds of a processor that the daemon has used. */
static double
seconds_used(void)
{
	unsigned long user = 0, system = 0;
	char path[64], text[1024], *at;
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)server.pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	cr_assert_geq(fd, 0);
	n = read(fd, text, sizeof(text) - 1);
	close(fd);
	cr_assert_gt(n, 0);
	text[n] = '\0';
	at = strrchr(text, ')');
	cr_assert_eq(sscanf(at,
			 ") %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u "
			 "%lu %lu",
			 &user, &system),
	    2);
	return (double)(user + system) / (double)sysconf(_SC_CLK_TCK);
}

/*
 * With no descriptor left and clients at the door it waits rather than tries
 * again and again; and as soon as there are some, it lets them in.
 */
Test(exhaustion, descriptors)
{
	struct raw in[32], door[64], last;
	double before;
	int n = 0;

	cr_assert_eq(server_prepare(&server), 0);
	cr_assert_eq(server_configure(&server, POOL), 0);
	server.nofile = 32;
	cr_assert_eq(server_start(&server), 0);
	while (n < 32 && raw_open(&in[n], server.socket, "in") == 0)
		n++;
	cr_assert_gt(n, 2);
	cr_assert_lt(n, 32);
	raw_close(&in[n]);
	for (int i = 0; i < 64; i++)
		cr_assert_eq(raw_connect(&door[i], server.socket), 0);
	/* The share of a processor is over time, whatever happens in it. */
	before = seconds_used();
	poll(NULL, 0, 1000);
	cr_assert_lt(seconds_used() - before, 0.05);
	for (int i = 0; i < n; i++)
		cr_assert_eq(raw_ping(&in[i]), 0);
	for (int i = 0; i < 64; i++)
		raw_close(&door[i]);
	for (int i = 0; i < n; i++)
		logout(&in[i]);
	login(&last, "last");
	alloc_one(&last, attach(&last, "p"));
	cr_assert_eq(raw_audit(&last), 0);
}

/* What a client says who wants more than there is: until it ends. */
static int
alloc_until_refused(struct raw *r, uint32_t at, unsigned *n)
{
	uint64_t ref;
	int got;

	for (*n = 0; (got = raw_alloc(r, at, 1, &ref)) == 1; ++*n)
		;
	return got;
}

/* With what was too small lifted the pool grows as ever. */
static void
expect_growth(struct raw *r, uint32_t at)
{
	unsigned n;

	alloc_until_refused(r, at, &n);
	cr_assert_eq(stats_of(r, "p").used, 32);
	cr_assert_eq(raw_audit(r), 0);
}

static struct rlimit processes;

/* The helper can start nobody. A user's limit does not bind root. */
static bool
forbid_processes(void)
{
	struct rlimit none = {0};

	if (geteuid() == 0)
		return limit_helper("pids", "pids.max", 1);
	cr_assert_eq(
	    prlimit(server_helper(&server), RLIMIT_NPROC, NULL, &processes), 0);
	none.rlim_max = processes.rlim_max;
	return prlimit(server_helper(&server), RLIMIT_NPROC, &none, NULL) == 0;
}

static void
allow_processes(void)
{
	if (geteuid() == 0)
		cr_assert(put("pids.max", 100));
	else
		cr_assert_eq(prlimit(server_helper(&server), RLIMIT_NPROC,
				 &processes, NULL),
		    0);
}

Test(exhaustion, processes)
{
	struct raw r;
	uint32_t at;
	unsigned n;
	int status;

	serve(POOL);
	if (!forbid_processes())
		cr_skip_test("there is no control group for processes");
	login(&r, "client");
	at = attach(&r, "p");
	status = alloc_until_refused(&r, at, &n);
	cr_assert_eq(n, 8);
	cr_assert(status == -ENOSPC || status == -ENOBUFS ||
		      status == -ENOMEM || status == -EAGAIN,
	    "%d", status);
	cr_assert_eq(raw_audit(&r), 0);
	allow_processes();
	expect_growth(&r, at);
}

/* Who waits for growth that failed gets it once there is enough again. */
Test(exhaustion, growth_is_tried_again_for_who_waits)
{
	uint64_t refs[32];
	uint32_t at, tag;
	struct raw r;

	serve(POOL);
	if (!forbid_processes())
		cr_skip_test("there is no control group for processes");
	login(&r, "client");
	at = attach(&r, "p");
	tag = raw_post_alloc(&r, at, 32);
	while (!server_logged(&server, "cannot attach a segment"))
		cr_assert_eq(raw_ping(&r), 0);
	allow_processes();
	cr_assert_eq(raw_wait_alloc(&r, tag, refs), 32);
	cr_assert_eq(raw_audit(&r), 0);
}

/* The limit is met in the midst of a segment, by a process made for that. */
Test(exhaustion, memory_of_a_group)
{
	struct raw r;
	uint32_t at;
	unsigned n;
	int status;

	serve("\"pools\": [{\"name\": \"p\", \"slot_size\": \"4M\", "
	      "\"slots_per_segment\": 8, \"max_segments\": 4}]");
	if (!limit_helper("memory", "memory.limit_in_bytes", 48LL << 20))
		cr_skip_test("there is no control group for memory");
	login(&r, "client");
	at = attach(&r, "p");
	status = alloc_until_refused(&r, at, &n);
	cr_assert_geq(n, 8);
	cr_assert_lt(n, 32);
	cr_assert(status == -ENOSPC || status == -ENOMEM, "%d", status);
	cr_assert_eq(raw_audit(&r), 0);
	cr_assert(put("memory.limit_in_bytes", 1LL << 30));
	expect_growth(&r, at);
}
