/*
 * What a client may not do to the others: take all connections, all
 * descriptors or all memory for messages, dawdle, look where it has no rights,
 * or rule.
 */
#include "config.h"

#include <fcntl.h>
#include <grp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "e2e.h"

#define POOL                                                \
	"\"pools\": [{\"name\": \"p\", \"slot_size\": 64, " \
	"\"slots_per_segment\": 8, \"max_segments\": 1, \"max_clients\": 4}]"

#define STRANGER 54321 /* a user and group that nobody is */

TestSuite(limits, .timeout = 60, .fini = finish);

/* Turned away with that status, or let in: 0. */
static int
try_login(struct raw *r)
{
	int err = raw_connect(r, server.socket);
	struct raw_message m;

	cr_assert_eq(err, 0);
	/* The refusal comes under tag 0, before anything was asked. */
	if (raw_hello(r, "one more") == 0)
		return 0;
	raw_close(r);
	cr_assert_eq(raw_connect(r, server.socket), 0);
	cr_assert_eq(raw_next(r, &m), 0);
	cr_assert_eq(m.h.type, WIRE_HELLO | WIRE_REPLY);
	cr_assert_eq(m.h.tag, 0);
	cr_assert_gt(m.len, 0);
	cr_assert_eq(raw_next(r, &m), -ENOTCONN);
	raw_close(r);
	return m.h.status;
}

/* The places beyond the limits that are kept for who runs the daemon: us. */
static struct raw guests[4];

static void
take_guest_places(void)
{
	for (int i = 0; i < 4; i++)
		login(&guests[i], "guest");
}

Test(limits, connections)
{
	struct raw r[4], more;
	struct raw_stats s;

	serve("\"max_clients\": 4, " POOL);
	for (int i = 0; i < 4; i++)
		login(&r[i], "client");
	take_guest_places();
	cr_assert_eq(try_login(&more), -EUSERS);
	for (int i = 0; i < 4; i++)
		logout(&guests[i]);
	cr_assert_eq(raw_ping(&r[0]), 0);
	logout(&r[1]);
	cr_assert_eq(try_login(&more), 0);
	s = stats_of(&more, "p");
	cr_assert_eq(s.slots, 8);
	attach(&more, "p");
	raw_close(&more);
	raw_close(&r[0]);
}

/* Who comes beyond the limits can look and rule, but not attach. */
Test(limits, guests_rule_and_do_not_attach)
{
	struct raw_pool p;
	struct raw first;

	serve("\"max_clients\": 1, " POOL);
	login(&first, "client");
	take_guest_places();
	cr_assert_eq(stats_of(&guests[0], "p").slots, 8);
	cr_assert_eq(raw_attach(&guests[0], "p", 0, &p), -EUSERS);
	cr_assert_eq(raw_audit(&guests[3]), 0);
	attach(&first, "p");
	logout(&first);
}

/* The refusal can be read even by those who talk before they listen. */
Test(limits, refusal_is_read_by_the_hasty)
{
	struct raw first, hasty;
	struct raw_message m;
	int err;

	serve("\"max_clients\": 1, " POOL);
	login(&first, "client");
	take_guest_places();
	/* While the daemon stands still the hello is there before accept. */
	kill(server.pid, SIGSTOP);
	cr_assert_eq(raw_connect(&hasty, server.socket), 0);
	raw_post(&hasty, WIRE_HELLO, 0, 0, NULL, 0);
	kill(server.pid, SIGCONT);
	err = raw_next(&hasty, &m);
	cr_assert_eq(err, 0, "%d", err);
	cr_assert_eq(m.h.status, -EUSERS);
	raw_close(&hasty);
	logout(&first);
}

Test(limits, connections_of_a_user)
{
	struct raw r[3], more;

	serve("\"max_clients_per_uid\": 3, " POOL);
	for (int i = 0; i < 3; i++)
		login(&r[i], "client");
	take_guest_places();
	cr_assert_eq(try_login(&more), -EUSERS);
	raw_close(&r[0]);
	/* Its end is seen before a connection made later is taken. */
	cr_assert_eq(raw_ping(&r[1]), 0);
	cr_assert_eq(try_login(&more), 0);
}

Test(limits, attachments)
{
	uint32_t numbers[4], another;
	struct raw_pool p;
	struct raw r;

	serve(POOL);
	login(&r, "client");
	for (int i = 0; i < 4; i++)
		numbers[i] = attach(&r, "p");
	cr_assert_eq(raw_attach(&r, "p", 0, &p), -EUSERS);
	cr_assert_eq(raw_detach(&r, numbers[1]), 0);
	/* In its place, and not to be taken for it. */
	another = attach(&r, "p");
	cr_assert_neq(another, numbers[1]);
	cr_assert_eq(raw_detach(&r, numbers[1]), -EBADF);
	cr_assert_eq(raw_detach(&r, another), 0);
}

Test(limits, handshake)
{
	struct raw silent, idle;
	struct raw_message m;

	serve("\"handshake_seconds\": 1, " POOL);
	login(&idle, "idle");
	cr_assert_eq(raw_connect(&silent, server.socket), 0);
	cr_assert_eq(raw_next(&silent, &m), -ENOTCONN);
	cr_assert(server_logged(&server, "has not said hello in time"));
	/* There is no deadline once it was said. */
	cr_assert_eq(raw_ping(&idle), 0);
	raw_close(&silent);
	raw_close(&idle);
}

/* The daemon has closed it: seen without reading anything. */
static bool
is_closed(const struct raw *r)
{
	struct pollfd p = {.fd = r->fd, .events = POLLRDHUP};

	return poll(&p, 1, 0) == 1 && (p.revents & POLLRDHUP) != 0;
}

/*
 * Who leaves a descriptor unread is thrown out; who has read it is not, even if
 * something else lies unread at every moment.
 */
Test(limits, unread_descriptors)
{
	struct raw lazy, busy, other;
	struct raw_message m;
	uint32_t document, tags[2];
	unsigned at = 0;

	serve("\"handshake_seconds\": 1, " POOL);
	login(&lazy, "lazy");
	login(&busy, "busy");
	login(&other, "other");
	document = raw_post(&busy, WIRE_STATS, 0, 0, NULL, 0);
	tags[0] = raw_post(&busy, WIRE_PING, 0, 0, NULL, 0);
	for (int i = 0; i < 4; i++)
		cr_assert_eq(raw_ping(&other), 0);
	cr_assert_eq(raw_wait(&busy, document, NULL), 0);
	raw_post(&lazy, WIRE_STATS, 0, 0, NULL, 0);
	while (!is_closed(&lazy)) {
		tags[++at % 2] = raw_post(&busy, WIRE_PING, 0, 0, NULL, 0);
		/* Answered before the one before it is read. */
		for (int i = 0; i < 3; i++)
			cr_assert_eq(raw_ping(&other), 0);
		cr_assert_eq(
		    raw_wait(&busy, tags[(at - 1) % 2], &m), 0, "thrown out");
	}
	cr_assert_eq(raw_wait(&busy, tags[at % 2], &m), 0);
	cr_assert(server_logged(&server, "has not read its descriptors"));
	cr_assert_eq(raw_ping(&busy), 0);
	raw_close(&lazy);
}

/* Messages to who does not read are kept, up to a limit. */
Test(limits, slow_reader)
{
	struct raw slow, quick;
	struct raw_message m;
	uint32_t at, quick_at;
	int i, err = 0;

	serve(POOL);
	login(&quick, "quick");
	quick_at = attach(&quick, "p");
	login(&slow, "slow");
	at = attach(&slow, "p");
	/* The daemon reads no more requests of one it cannot answer. */
	cr_assert_eq(fcntl(slow.fd, F_SETFL, O_NONBLOCK), 0);
	for (i = 0; i < 100000; i++) {
		struct wire_header h = {
		    .type = WIRE_FLUSH, .tag = 7, .attachment = at};
		uint8_t bytes[WIRE_HEADER_BYTES];
		struct wire_writer out;

		wire_begin(&out, bytes, sizeof(bytes), &h);
		err = raw_put(&slow, bytes, sizeof(bytes), -1);
		if (err != 0)
			break;
		if (i % 16 == 0)
			cr_assert_eq(raw_flush(&quick, quick_at), 0);
	}
	cr_assert_eq(err, -ETIMEDOUT, "it was not held back: %d", err);
	for (int k = 0; k < 1000; k++)
		cr_assert_eq(raw_flush(&quick, quick_at), 0);
	/* Nothing was lost to it: it reads as many replies as it asked for. */
	cr_assert_eq(fcntl(slow.fd, F_SETFL, 0), 0);
	for (; i > 0; i--) {
		cr_assert_eq(raw_next(&slow, &m), 0);
		cr_assert_eq(m.h.tag, 7);
	}
	cr_assert_eq(raw_ping(&slow), 0);
}

/* Events come unasked: who reads none of them is dropped at last. */
Test(limits, deaf)
{
	char text[512];
	struct raw deaf, admin;
	uint64_t ref;

	serve("\"handshake_seconds\": 1000, "
	      "\"pools\": [{\"name\": \"p\", \"slot_size\": 64, "
	      "\"slots_per_segment\": 8, \"max_segments\": 1}]");
	login(&admin, "admin");
	login(&deaf, "deaf");
	for (int i = 0; i < 16; i++)
		attach(&deaf, "p");
	for (int round = 2; round < 200 && !is_closed(&deaf); round++) {
		snprintf(text, sizeof(text),
		    "\"pools\": [{\"name\": \"p\", \"slot_size\": 64, "
		    "\"slots_per_segment\": 8, \"max_segments\": %d}]",
		    round);
		cr_assert_eq(server_configure(&server, text), 0);
		cr_assert_eq(
		    raw_call(&admin, WIRE_RELOAD, 0, 0, NULL, 0, NULL), 0);
		/* Who does not listen to the daemon either would hold it up. */
		cr_assert_eq(server_await(&server, "READY=1"), 0);
		cr_assert_eq(raw_ping(&admin), 0);
	}
	cr_assert(is_closed(&deaf));
	cr_assert(server_logged(&server, "does not read its messages"));
	cr_assert_eq(raw_alloc(&admin, attach(&admin, "p"), 1, &ref), 1);
	cr_assert_eq(raw_audit(&admin), 0);
}

/* Runs `body` as another user; what it returned, or 77 where that cannot be. */
static int
as_stranger(int (*body)(int, void *), void *arg)
{
	int control, status;
	pid_t pid;

	if (geteuid() != 0)
		cr_skip_test("only root can become somebody else");
	pid = spawn(body, arg, &control);
	status = reap(pid);
	close(control);
	return status;
}

static int
become(gid_t group)
{
	return setgroups(group != 0, &group) == 0 && setgid(STRANGER) == 0 &&
		       setuid(STRANGER) == 0
		   ? 0
		   : -1;
}

static int
rights_of_stranger(int control, void *arg)
{
	struct raw_pool p;
	struct raw r;

	(void)control;
	(void)arg;
	if (become(0) != 0 || raw_open(&r, server.socket, "stranger") != 0)
		return 1;
	if (raw_attach(&r, "closed", 0, &p) != -EACCES ||
	    raw_attach(&r, "closed", WIRE_ATTACH_RDONLY, &p) != -EACCES)
		return 2;
	if (raw_attach(&r, "read", 0, &p) != -EACCES ||
	    raw_attach(&r, "read", WIRE_ATTACH_RDONLY, &p) != 0 ||
	    p.rights != WIRE_RIGHT_READ)
		return 3;
	if (raw_attach(&r, "write", 0, &p) != 0 ||
	    p.rights != (WIRE_RIGHT_READ | WIRE_RIGHT_WRITE))
		return 4;
	if (raw_attach(&r, "both", 0, &p) != 0)
		return 5;
	return raw_attach(&r, "group", 0, &p) == -EACCES ? 0 : 6;
}

static int
rights_of_group(int control, void *arg)
{
	struct raw_pool p;
	struct raw r;

	(void)control;
	(void)arg;
	if (become(STRANGER + 1) != 0 ||
	    raw_open(&r, server.socket, "member") != 0)
		return 1;
	return raw_attach(&r, "group", 0, &p) == 0 ? 0 : 2;
}

#define ACCESS(name, list)                                                    \
	"{\"name\": \"" name "\", \"slot_size\": 64, \"slots_per_segment\": " \
	"8, \"max_segments\": 1, \"access\": [" list "]}"
#define ID(who, id, rights) "{\"" who "\": " #id ", \"rights\": \"" rights "\"}"

Test(limits, access)
{
	serve("\"pools\": [" ACCESS("closed", ID("user", 0, "rw")) ", " ACCESS(
	    "read", ID("user", 54321, "r")) ", " ACCESS("write",
	    ID("group", 54321, "rw")) ", " ACCESS("both",
	    ID("user", 54321, "r") ", " ID("group", 54321,
		"rw")) ", " ACCESS("group", ID("group", 54322, "rw")) "]");
	cr_assert_eq(as_stranger(rights_of_stranger, NULL), 0);
	/* A second group counts as well as the first. */
	cr_assert_eq(as_stranger(rights_of_group, NULL), 0);
}

Test(limits, read_only)
{
	struct raw writer, reader;
	uint64_t ref, out;
	struct raw_pool p;
	uint32_t at, tag;
	void *mem;

	serve(POOL);
	login(&writer, "writer");
	at = attach(&writer, "p");
	login(&reader, "reader");
	cr_assert_eq(raw_attach(&reader, "p", WIRE_ATTACH_RDONLY, &p), 0);
	cr_assert_eq(p.rights, WIRE_RIGHT_READ);
	mem = mmap(NULL, p.bytes, PROT_READ | PROT_WRITE, MAP_SHARED, p.fd, 0);
	cr_assert_eq(mem, MAP_FAILED);
	cr_assert_eq(errno, EACCES);
	mem = mmap(NULL, p.bytes, PROT_READ, MAP_SHARED, p.fd, 0);
	cr_assert_neq(mem, MAP_FAILED);
	cr_assert_neq(mprotect(mem, p.bytes, PROT_READ | PROT_WRITE), 0);
	cr_assert_neq(ftruncate(p.fd, 0), 0);
	cr_assert_neq(fallocate(p.fd, 0, 0, 4096), 0);
	cr_assert_eq(write(p.fd, "x", 1), -1);
	cr_assert_eq(raw_alloc(&reader, p.number, 1, &ref), -EACCES);
	tag = raw_post_alloc(&reader, p.number, 1);
	cr_assert_eq(raw_wait(&reader, tag, NULL), -EACCES);
	ref = alloc_one(&writer, at);
	cr_assert_eq(raw_send(&writer, at, ref, &ref), 0);
	cr_assert_eq(raw_receive(&reader, p.number, ref), 0);
	cr_assert_eq(raw_send(&reader, p.number, ref, &out), -EACCES);
	cr_assert_eq(raw_share(&reader, p.number, ref, 1, &out), -EACCES);
	cr_assert_eq(raw_recall(&reader, p.number, ref, 0), -EACCES);
	cr_assert_eq(raw_free(&reader, p.number, &ref, 1), 1);
}

static int
try_to_rule(int control, void *arg)
{
	static const unsigned types[] = {
	    WIRE_RELOAD, WIRE_SHUTDOWN, WIRE_AUDIT};
	gid_t group = *(gid_t *)arg;
	uint8_t name[8];
	struct raw r;
	int status = group == 0 ? -EPERM : 0;

	(void)control;
	if (become(group) != 0 || raw_open(&r, server.socket, "rebel") != 0)
		return 1;
	if (raw_call(&r, WIRE_TRIM, 0, 0, name, raw_name(name, "p"), NULL) !=
	    status)
		return 2;
	if (raw_audit(&r) != status)
		return 3;
	for (int i = 0; i < 3 && group == 0; i++)
		if (raw_call(&r, types[i], 0, 0, NULL, 0, NULL) != -EPERM)
			return 4;
	if (group == 0 &&
	    raw_call(&r, WIRE_SHUTDOWN, WIRE_FORCE, 0, NULL, 0, NULL) != -EPERM)
		return 5;
	return raw_ping(&r) == 0 ? 0 : 6;
}

Test(limits, administration)
{
	gid_t group = 0;

	serve("\"admin_group\": 54322, " POOL);
	cr_assert_eq(as_stranger(try_to_rule, &group), 0);
	group = 54322;
	cr_assert_eq(as_stranger(try_to_rule, &group), 0);
}

/* Few descriptors: too many clients are turned away, and later ones let in. */
Test(limits, out_of_descriptors)
{
	struct raw r[64], last;
	struct raw_message m;
	int in = 0, out = 0;

	cr_assert_eq(server_prepare(&server), 0);
	cr_assert_eq(server_configure(&server, POOL), 0);
	server.nofile = 48;
	cr_assert_eq(server_start(&server), 0);
	for (int i = 0; i < 64; i++) {
		if (raw_open(&r[in], server.socket, "client") == 0) {
			in++;
			continue;
		}
		raw_close(&r[in]);
		out++;
	}
	cr_assert_gt(in, 4);
	cr_assert_gt(out, 0);
	for (int i = 0; i < in; i++)
		cr_assert_eq(raw_ping(&r[i]), 0);
	/* Not a document either, but the connection goes on. */
	raw_call(&r[0], WIRE_STATS, 0, 0, NULL, 0, &m);
	for (int i = 1; i < in; i++)
		logout(&r[i]);
	login(&last, "last");
	cr_assert_eq(stats_of(&last, "p").slots, 8);
	cr_assert_eq(raw_audit(&last), 0);
	logout(&last);
	raw_close(&r[0]);
}

/* What was not cut off keeps its content; nor does a longer region harm it. */
Test(limits, a_region_that_was_cut_in_part)
{
	struct raw bad, good;
	struct raw_pool p, q;
	char *memory;
	off_t sizes[2] = {4096, 0};

	serve("\"pools\": [{\"name\": \"p\", \"slot_size\": 4096, "
	      "\"slots_per_segment\": 8, \"max_segments\": 1}]");
	login(&bad, "bad");
	cr_assert_eq(raw_attach(&bad, "p", 0, &p), 0);
	sizes[1] = (off_t)p.bytes + 1;
	login(&good, "good");
	for (int i = 0; i < 2; i++) {
		cr_assert_eq(raw_attach(&good, "p", 0, &q), 0);
		memory = mmap(
		    NULL, q.bytes, PROT_READ | PROT_WRITE, MAP_SHARED, q.fd, 0);
		cr_assert_neq(memory, MAP_FAILED);
		memset(memory, 7, q.bytes);
		cr_assert_eq(ftruncate(p.fd, sizes[i]), 0);
		cr_assert_eq(raw_audit(&good), -EUCLEAN);
		stats_of(&good, "p");
		cr_assert_eq(raw_audit(&good), 0);
		cr_assert_eq(memory[4095], 7);
		cr_assert_eq(memory[q.bytes - 1], i == 0 ? 0 : 7);
		munmap(memory, q.bytes);
		close(q.fd);
	}
	close(p.fd);
}

/*
 * A writer can make the region shorter. It is found by the audit, and whoever
 * attaches next finds the full size, with memory in what is attached.
 */
Test(limits, a_region_that_was_cut)
{
	struct raw bad, good;
	struct raw_pool p, q;
	struct stat st;
	char *memory;

	serve(POOL);
	login(&bad, "bad");
	cr_assert_eq(raw_attach(&bad, "p", 0, &p), 0);
	cr_assert_eq(ftruncate(p.fd, 0), 0);
	cr_assert_eq(raw_audit(&bad), -EUCLEAN);
	login(&good, "good");
	cr_assert_eq(raw_attach(&good, "p", 0, &q), 0);
	cr_assert_eq(fstat(q.fd, &st), 0);
	cr_assert_eq((uint64_t)st.st_size, q.bytes);
	cr_assert_eq(raw_audit(&good), 0);
	memory =
	    mmap(NULL, q.bytes, PROT_READ | PROT_WRITE, MAP_SHARED, q.fd, 0);
	cr_assert_neq(memory, MAP_FAILED);
	memset(memory, 1, q.bytes);
	munmap(memory, q.bytes);
	close(p.fd);
	close(q.fd);
	cr_assert(server_logged(&server, "a client has changed it"));
}
