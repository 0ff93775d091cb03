/*
 * Clients and daemons in containers and under other users: no /dev/shm, other
 * networks and pids, nothing in common but the socket.
 */
#include "config.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sysexits.h>

#include "lane.h"
#include "managed.h"
#include "slabd.h"

/* For worlds that only root can make. */
static void
prepare_world(const char *text)
{
	if (!puppet_possible())
		cr_skip_test("no namespaces, or not root");
	prepare(text);
}

TestSuite(container, .timeout = 60, .fini = finish_all);

static void
pass_both_ways(unsigned inside, unsigned outside)
{
	struct puppet in = {.contained = true, .flags = inside},
		      out = {.flags = outside};

	start_puppet(&in);
	start_puppet(&out);
	for (uint64_t i = 1; i < 200; i += 2) {
		pass(&in, &out, i);
		pass(&out, &in, i + 1);
	}
	cr_assert_eq(puppet_end(&in), 0);
	cr_assert_eq(puppet_end(&out), 0);
	cr_assert_eq(figures("p").free, 64);
	/* Its queue is short, and the daemon waits while it is full. */
	cr_assert_eq(manager_run(&manager), 0);
}

/* Nobody has any shared memory by name, not even the daemon. */
Test(container, no_shared_memory_by_name)
{
	struct stat st;

	prepare_world(POOLS(POOL("p", SEALED)));
	cr_assert_eq(puppet_bare_shm(), 0);
	cr_assert_eq(open("/dev/shm/x", O_CREAT | O_RDWR, 0600), -1);
	begin();
	pass_both_ways(0, 0);
	pass_both_ways(SLABD_NO_LANE, 0);
	pass_both_ways(0, SLABD_NO_LANE);
	cr_assert_eq(stat("/dev/shm", &st), 0);
	cr_assert_eq(server_names(&server), 0);
}

/* Named objects are the daemon's alone: clients are handed them open. */
Test(container, shared_memory_of_the_daemon)
{
	prepare_world(POOLS(POOL("p", "")));
	begin();
	cr_assert_gt(server_names(&server), 0);
	pass_both_ways(0, 0);
}

/* A client made of bytes, which has what the message brought and no more. */
static int
raw_guest(int control, const char *path)
{
	struct raw_lane l;
	uint64_t ref;
	struct raw r;
	char *at;

	if (raw_open(&r, path, "guest") != 0 ||
	    raw_attach_lane(&r, "p", 0, &l) != 0 || l.lane.header == NULL)
		return 2;
	at = mmap(NULL, l.pool.bytes, PROT_READ | PROT_WRITE, MAP_SHARED,
	    l.pool.fd, 0);
	if (at == MAP_FAILED || raw_alloc(&r, l.pool.number, 1, &ref) != 1)
		return 3;
	strcpy(at + ref_slot(ref) * l.pool.slot_size, "from inside");
	if (raw_lane_send(&l, ref, &ref) != 0)
		return 4;
	raw_lane_bell(&l);
	tell(control, &ref, sizeof(ref));
	if (hear(control, &ref, sizeof(ref)) != 0 ||
	    raw_lane_receive(&l, ref) != 0 ||
	    strcmp(at + ref_slot(ref) * l.pool.slot_size, "from outside") != 0)
		return 5;
	raw_lane_record(&l, LANE_FREE, ref, 0);
	raw_lane_bell(&l);
	return raw_bye(&r) == 0 ? 0 : 6;
}

Test(container, client_made_of_bytes)
{
	struct puppet in = {
	    .server = &server, .contained = true, .body = raw_guest};
	uint64_t ref, mine;
	struct raw_pool p;
	int control;
	struct raw r;
	pid_t pid;
	char *at;

	prepare_world(POOLS(POOL("p", SEALED)));
	begin();
	login(&r, "outside");
	cr_assert_eq(raw_attach(&r, "p", 0, &p), 0);
	at = mmap(NULL, p.bytes, PROT_READ | PROT_WRITE, MAP_SHARED, p.fd, 0);
	cr_assert_neq(at, MAP_FAILED);
	pid = spawn(puppet_main, &in, &control);
	cr_assert_eq(hear(control, &ref, sizeof(ref)), 0);
	cr_assert_eq(raw_receive(&r, p.number, ref), 0);
	cr_assert_str_eq(at + ref_slot(ref) * p.slot_size, "from inside");
	cr_assert_eq(raw_free(&r, p.number, &ref, 1), 1);
	mine = alloc_one(&r, p.number);
	strcpy(at + ref_slot(mine) * p.slot_size, "from outside");
	cr_assert_eq(raw_send(&r, p.number, mine, &ref), 0);
	cr_assert_eq(tell(control, &ref, sizeof(ref)), 0);
	cr_assert_eq(reap(pid), 0);
	close(control);
	munmap(at, p.bytes);
	close(p.fd);
	logout(&r);
	cr_assert_eq(figures("p").free, 64);
}

/* Holds slots, and hands some over, across a restart. */
static void
outlive(struct puppet *in)
{
	struct puppet out = {0};

	begin();
	start_puppet(in);
	start_puppet(&out);
	cr_assert_eq(puppet_take(in, 20), 20);
	restart();
	pass(in, &out, 1);
	pass(&out, in, 2);
	cr_assert_eq(puppet_free(in), 20);
	cr_assert_eq(puppet_end(in), 0);
	cr_assert_eq(puppet_end(&out), 0);
	cr_assert_eq(figures("p").free, 64);
}

/* Where the directory is mounted the next daemon's socket is found in it. */
Test(container, client_resumes)
{
	prepare_world(POOLS(POOL("p", SEALED)));
	outlive(&(struct puppet){.contained = true});
}

/* Where the socket alone is, it is the manager's, and stays. */
Test(container, socket_alone_is_mounted)
{
	prepare_world(POOLS(POOL("p", SEALED)));
	cr_assert_eq(manager_listen(&manager), 0);
	outlive(&(struct puppet){.contained = true, .file = true});
}

Test(container, client_dies_meanwhile)
{
	struct puppet in = {.contained = true};

	prepare_world(POOLS(POOL("p", SEALED)));
	begin();
	start_puppet(&in);
	cr_assert_eq(puppet_take(&in, 20), 20);
	cr_assert_eq(server_kill(&server), 0);
	puppet_kill(&in);
	begin();
	await_all_free("p");
}

TestSuite(pids, .timeout = 60, .fini = finish_all);

static void
check_pid_unknown(void)
{
	uint8_t name[8];
	struct raw r;
	char *text;

	login(&r, "looks");
	text = raw_document(&r, WIRE_HOLDERS, name, raw_name(name, "p"));
	cr_assert_not_null(text);
	cr_assert_not_null(strstr(text, "\"pid\":0,"), "%s", text);
	free(text);
	raw_close(&r);
}

/*
 * To a daemon in a pid namespace of its own all clients have pid 0, and the next
 * daemon is in yet another: the lock on the lane is all that tells.
 */
static void
begin_among_strangers(struct puppet *p)
{
	prepare_world(POOLS(POOL("p", SEALED)));
	manager.pids = true;
	begin();
	start_puppet(p);
	cr_assert_eq(puppet_take(p, 20), 20);
	check_pid_unknown();
	cr_assert_eq(server_kill(&server), 0);
}

Test(pids, dead_is_reclaimed)
{
	struct puppet p = {0};

	begin_among_strangers(&p);
	puppet_kill(&p);
	begin();
	cr_assert_eq(figures("p").free, 64);
}

Test(pids, alive_is_waited_for)
{
	struct puppet p = {0};
	struct raw_stats s;

	begin_among_strangers(&p);
	/* It cannot come back now, but neither is it dead. */
	kill(p.pid, SIGSTOP);
	begin();
	s = figures("p");
	cr_assert_geq(s.quarantined, 20);
	cr_assert_eq(s.free + s.quarantined, 64);
	restart();
	cr_assert_geq(figures("p").quarantined, 20);
	puppet_kill(&p);
	await_all_free("p");
}

/* What is known of pids counts in the namespace where it was learnt. */
Test(pids, another_namespace)
{
	struct puppet p = {0};

	prepare_world(POOLS(POOL("p", SEALED)));
	begin();
	start_puppet(&p);
	cr_assert_eq(puppet_take(&p, 20), 20);
	cr_assert_eq(server_kill(&server), 0);
	kill(p.pid, SIGSTOP);
	manager.pids = true;
	begin();
	cr_assert_geq(figures("p").quarantined, 20);
	kill(p.pid, SIGCONT);
	cr_assert_eq(puppet_free(&p), 20);
	cr_assert_eq(puppet_end(&p), 0);
	await_all_free("p");
}

Test(pids, alive_comes_back)
{
	struct puppet p = {0}, contained = {.contained = true};

	begin_among_strangers(&p);
	begin();
	start_puppet(&contained);
	pass(&p, &contained, 1);
	restart();
	pass(&contained, &p, 2);
	restart();
	cr_assert_eq(puppet_free(&p), 20);
	cr_assert_eq(puppet_end(&p), 0);
	puppet_kill(&contained);
	await_all_free("p");
}

/* Without a lane it is known again when it comes, but not missed. */
Test(pids, without_a_lane)
{
	struct puppet p = {.flags = SLABD_NO_LANE};

	begin_among_strangers(&p);
	begin();
	cr_assert_eq(puppet_free(&p), 20);
	cr_assert_eq(puppet_end(&p), 0);
	cr_assert_eq(figures("p").free, 64);
}

TestSuite(users, .timeout = 60, .fini = finish_all);

#define DAEMON	64321 /* nobody's numbers */
#define WRITER	54321
#define READER	54322
#define NOBODY_ 54323

#define ACCESS                                                             \
	", \"access\": [{\"user\": 54321, \"rights\": \"rw\"}, "           \
	"{\"user\": 54322, \"rights\": \"r\"}, {\"user\": 0, \"rights\": " \
	"\"rw\"}]"

static void
prepare_as_user(void)
{
	prepare_world("\"user\": 64321, " POOLS(
	    POOL("p", SEALED ACCESS) ", " POOL("named", ACCESS)));
	cr_assert_eq(chown(server.dir, DAEMON, DAEMON), 0);
}

/* Every object with a name belongs to the daemon's user, and nobody else. */
static void
check_owner(void)
{
	static const char *const parts[] = {"data", "ledger", "claims"};
	char path[128];
	struct stat st;

	for (int i = 0; i < 3; i++) {
		snprintf(path, sizeof(path), "/dev/shm/%snamed.%s",
		    server.prefix, parts[i]);
		cr_assert_eq(stat(path, &st), 0, "%s", path);
		cr_assert_eq(st.st_uid, DAEMON);
		cr_assert_eq(st.st_mode & 07777, 0600);
	}
}

static void
serve_users(const char *pool)
{
	struct puppet writer = {.uid = WRITER, .pool = pool},
		      reader = {.uid = READER,
			  .pool = pool,
			  .flags = SLABD_RDONLY},
		      both = {.uid = READER, .pool = pool},
		      nobody = {.uid = NOBODY_,
			  .pool = pool,
			  .flags = SLABD_RDONLY,
			  .server = &server};

	both.server = &server;
	start_puppet(&writer);
	start_puppet(&reader);
	cr_assert_eq(puppet_start(&both), -EACCES);
	cr_assert_eq(puppet_end(&both), 1);
	cr_assert_eq(puppet_start(&nobody), -EACCES);
	cr_assert_eq(puppet_end(&nobody), 1);
	pass(&writer, &reader, 1);
	cr_assert_eq(puppet_take(&writer, 10), 10);
	cr_assert_eq(puppet_take(&reader, 1), -EACCES);
	check_owner();
	for (uint64_t i = 2; i < 4; i++) {
		restart();
		check_owner();
		pass(&writer, &reader, i);
	}
	cr_assert_eq(puppet_free(&writer), 10);
	cr_assert_eq(puppet_end(&writer), 0);
	cr_assert_eq(puppet_end(&reader), 0);
	cr_assert_eq(figures(pool).free, 64);
}

Test(users, sealed)
{
	prepare_as_user();
	begin();
	serve_users("p");
}

Test(users, named)
{
	prepare_as_user();
	begin();
	serve_users("named");
}

/* A daemon under another user does not touch what the one before it had. */
Test(users, another_user)
{
	struct puppet p = {.uid = WRITER, .pool = "named"};
	char path[128];

	prepare_as_user();
	manager.forgetful = true;
	begin();
	start_puppet(&p);
	cr_assert_eq(server_kill(&server), 0);
	cr_assert_eq(server_configure(
			 &server, "\"user\": 64323, " POOLS(POOL("named", ""))),
	    0);
	cr_assert_eq(chown(server.dir, DAEMON + 2, DAEMON + 2), 0);
	cr_assert_eq(manager_start(&manager), -ECHILD);
	cr_assert_eq(server_wait(&server), EX_CANTCREAT);
	snprintf(path, sizeof(path), "%s.lock", server.socket);
	cr_assert_eq(unlink(path), 0);
	cr_assert_eq(unlink(server.socket), 0);
	cr_assert_eq(manager_start(&manager), -ECHILD);
	cr_assert_eq(server_wait(&server), EX_OSERR);
	check_owner();
}
