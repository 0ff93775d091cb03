/*
 * From start to stop: what the daemon leaves behind, what a reload changes, and
 * how pools grow and shrink.
 */
#include "config.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sysexits.h>

#include "e2e.h"

/* Names of a pool: region, ledger, claims. */
#define OBJECTS 3

#define POOL(name, more)                                 \
	"{\"name\": \"" name "\", \"slot_size\": 4096, " \
	"\"slots_per_segment\": 8" more "}"
#define POOLS(list) "\"pools\": [" list "]"
#define SEGMENT	    (8 * 4096) /* bytes */

TestSuite(lifecycle, .timeout = 60, .fini = finish);

Test(lifecycle, nobody_attached)
{
	struct raw r;

	serve(POOLS(POOL("a", "") ", " POOL("b", "")));
	cr_assert_eq(server_names(&server), 2 * OBJECTS);
	login(&r, "not attached");
	cr_assert_null(server_stop(&server, SIGTERM));
	raw_close(&r);
}

Test(lifecycle, interrupted)
{
	serve(POOLS(POOL("a", "")));
	cr_assert_null(server_stop(&server, SIGINT));
}

Test(lifecycle, no_pools_at_all)
{
	serve(POOLS(""));
	cr_assert_eq(server_names(&server), 0);
	cr_assert_null(server_stop(&server, SIGTERM));
}

/* With clients attached what they have mapped stays, and the log says so. */
Test(lifecycle, somebody_attached)
{
	struct raw_message m;
	struct raw r;

	serve(POOLS(POOL("kept", "") ", " POOL("unused", "")));
	login(&r, "client");
	attach(&r, "kept");
	cr_assert_eq(server_end(&server, SIGTERM), 0);
	cr_assert_eq(server_names(&server), OBJECTS);
	cr_assert(server_logged(&server, "kept: clients attached: 1"));
	cr_assert_neq(access(server.socket, F_OK), 0);
	cr_assert_eq(raw_next(&r, &m), -ENOTCONN);
	raw_close(&r);
	/* The next one starts all the same, and clears up after both. */
	cr_assert_eq(server_start(&server), 0);
	login(&r, "client");
	alloc_one(&r, attach(&r, "kept"));
	logout(&r);
}

Test(lifecycle, shutdown_with_force)
{
	struct raw_message m;
	struct raw r;

	serve(POOLS(POOL("a", "")));
	login(&r, "client");
	alloc_one(&r, attach(&r, "a"));
	cr_assert_eq(
	    raw_call(&r, WIRE_SHUTDOWN, WIRE_FORCE, 0, NULL, 0, NULL), 0);
	cr_assert_eq(raw_next(&r, &m), -ENOTCONN);
	cr_assert_null(server_stop(&server, 0));
}

Test(lifecycle, shutdown)
{
	struct raw r;

	serve(POOLS(POOL("a", "")));
	login(&r, "client");
	cr_assert_eq(raw_call(&r, WIRE_SHUTDOWN, 0, 0, NULL, 0, NULL), 0);
	cr_assert_null(server_stop(&server, 0));
	raw_close(&r);
}

Test(lifecycle, second_daemon)
{
	struct server second;
	struct raw r;
	uint32_t at;

	serve(POOLS(POOL("a", "")));
	login(&r, "client");
	at = attach(&r, "a");
	second = server;
	cr_assert_eq(server_start(&second), -ECHILD);
	cr_assert_eq(server_wait(&second), EX_TEMPFAIL);
	cr_assert(server_logged(&server, "another slabd serves"));
	alloc_one(&r, at);
	cr_assert_eq(server_names(&server), OBJECTS);
	login(&r, "another");
	cr_assert_eq(stats_of(&r, "a").used, 1);
}

/* A killed daemon's socket and names are in nobody's way. */
Test(lifecycle, after_a_kill)
{
	struct raw r;

	serve(POOLS(POOL("a", "")));
	login(&r, "client");
	attach(&r, "a");
	cr_assert_eq(server_kill(&server), 0);
	cr_assert_eq(server_names(&server), OBJECTS);
	raw_close(&r);
	cr_assert_eq(server_start(&server), 0);
	login(&r, "client");
	cr_assert_eq(stats_of(&r, "a").free, 8);
	raw_close(&r);
}

Test(lifecycle, wrong_configuration)
{
	cr_assert_eq(server_open(&server, "\"pool\": []"), -ECHILD);
	cr_assert_eq(server_wait(&server), EX_CONFIG);
	cr_assert(server_logged(&server, "did you mean \"pools\""));
	server_close(&server);
}

/* New configuration, by signal; done when it returns. */
static void
reload(const char *text)
{
	cr_assert_eq(server_configure(&server, text), 0);
	kill(server.pid, SIGHUP);
	cr_assert_eq(server_await(&server, "RELOADING=1"), 0);
	cr_assert_eq(server_await(&server, "READY=1"), 0);
}

Test(lifecycle, reload_adds)
{
	struct raw_pool p;
	struct raw r;

	serve(POOLS(POOL("a", "")));
	login(&r, "client");
	cr_assert_eq(raw_attach(&r, "b", 0, &p), -ENOENT);
	reload(POOLS(POOL("a", "") ", " POOL("b", "")));
	/* Its first segment may still be on its way: that is waited for. */
	alloc_one(&r, attach(&r, "b"));
	alloc_one(&r, attach(&r, "a"));
	cr_assert_eq(raw_audit(&r), 0);
}

Test(lifecycle, reload_resizes)
{
	struct raw_message m;
	struct raw_pool p;
	uint64_t refs[24];
	struct raw r;

	serve(POOLS(POOL("a", ", \"max_segments\": 1")));
	login(&r, "client");
	cr_assert_eq(raw_attach(&r, "a", 0, &p), 0);
	cr_assert_eq(raw_alloc(&r, p.number, 24, refs), 8);
	cr_assert_eq(raw_alloc(&r, p.number, 1, refs), -ENOBUFS);
	reload(POOLS(POOL("a", ", \"max_segments\": 3")));
	cr_assert_eq(raw_event(&r, WIRE_EVENT_RESIZED, &m), 0);
	cr_assert_eq(m.h.attachment, p.number);
	cr_assert_arr_eq(m.body, "\0\200\1\0\0\0\0\0\3\0\0\0", 12);
	cr_assert_eq(lseek(p.fd, 0, SEEK_END), 3 * SEGMENT);
	/* Not before it says that it has mapped them. */
	cr_assert_eq(raw_alloc(&r, p.number, 1, refs), -ENOBUFS);
	cr_assert_eq(raw_extend(&r, p.number, 2), 0);
	cr_assert_eq(raw_alloc(&r, p.number, 8, refs), 8);
	for (int i = 0; i < 8; i++)
		cr_assert_eq(ref_slot(refs[i]) / 8, 1);
	cr_assert_eq(raw_extend(&r, p.number, 3), 0);
	alloc_one(&r, p.number);
	cr_assert_eq(raw_audit(&r), 0);
}

Test(lifecycle, reload_retires)
{
	struct raw_message m;
	struct raw_pool p;
	struct raw r, other;
	uint32_t at, other_at;
	uint64_t ref, out;

	serve(POOLS(POOL("a", "") ", " POOL("b", "") ", " POOL("c", "")));
	login(&r, "client");
	at = attach(&r, "b");
	login(&other, "other");
	other_at = attach(&other, "b");
	ref = alloc_one(&r, at);
	reload(POOLS(POOL("a", "")));
	cr_assert_eq(server_names(&server), 2 * OBJECTS, "c goes at once");
	cr_assert_eq(raw_event(&r, WIRE_EVENT_RETIRED, &m), 0);
	cr_assert_eq(m.h.attachment, at);
	cr_assert_eq(m.len, 0);
	cr_assert_eq(raw_event(&other, WIRE_EVENT_RETIRED, &m), 0);
	cr_assert(stats_of(&r, "b").retired);
	cr_assert_eq(raw_attach(&r, "b", 0, &p), -ESHUTDOWN);
	cr_assert_eq(raw_alloc(&r, at, 1, &out), -ESHUTDOWN);
	/* What is held can be handed on and given back. */
	cr_assert_eq(raw_send(&r, at, ref, &out), 0);
	cr_assert_eq(raw_receive(&other, other_at, out), 0);
	cr_assert_eq(raw_free(&other, other_at, &out, 1), 1);
	cr_assert_eq(raw_detach(&r, at), 0);
	/* While somebody uses it a new pool cannot have its name. */
	cr_assert_eq(
	    server_configure(&server, POOLS(POOL("a", "") ", " POOL("b", ""))),
	    0);
	cr_assert_eq(raw_call(&r, WIRE_RELOAD, 0, 0, NULL, 0, NULL), -EINVAL);
	logout(&other);
	cr_assert_eq(raw_ping(&r), 0);
	cr_assert_eq(server_names(&server), OBJECTS);
	cr_assert_eq(raw_attach(&r, "b", 0, &p), -ENOENT);
	cr_assert_eq(raw_call(&r, WIRE_RELOAD, 0, 0, NULL, 0, NULL), 0);
	alloc_one(&r, attach(&r, "b"));
}

/* Whatever is wrong with it, nothing of a bad file comes into force. */
Test(lifecycle, reload_refused)
{
	static const char *const bad[] = {"\"pools\": [ oops ]",
	    POOLS(POOL("new", "") ", " POOL("a", ", \"wrong\": 1")),
	    POOLS(POOL("new", "") ", {\"name\": \"a\", \"slot_size\": 64, "
				  "\"slots_per_segment\": 8}"),
	    POOLS(POOL("new", "") ", " POOL("a", ", \"max_segments\": 2")),
	    POOLS(POOL("new", "") ", " POOL("a", ", \"max_clients\": 2")),
	    POOLS(POOL("new", "") ", " POOL("new", ""))};
	struct raw_message m;
	struct raw_pool p;
	struct raw r;
	char *before, *after;
	uint32_t at;

	serve(POOLS(POOL("a", ", \"max_segments\": 3")));
	login(&r, "client");
	at = attach(&r, "a");
	before = raw_document(&r, WIRE_CONFIG, NULL, 0);
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		cr_assert_eq(server_configure(&server, bad[i]), 0);
		cr_assert_eq(raw_call(&r, WIRE_RELOAD, 0, 0, NULL, 0, &m),
		    -EINVAL, "number %zu", i);
		cr_assert_gt(m.len, 10);
		cr_assert_eq(raw_attach(&r, "new", 0, &p), -ENOENT);
		cr_assert_eq(server_names(&server), OBJECTS);
	}
	reload(bad[0]);
	cr_assert(server_logged(&server, "the old configuration stays"));
	after = raw_document(&r, WIRE_CONFIG, NULL, 0);
	cr_assert_str_eq(before, after);
	free(before);
	free(after);
	alloc_one(&r, at);
	unlink(server.config);
	cr_assert_eq(raw_call(&r, WIRE_RELOAD, 0, 0, NULL, 0, NULL), -ENOENT);
	cr_assert_eq(raw_audit(&r), 0);
}

/* Takes all a growable pool has; how many, one by one. */
static unsigned
take_all(struct raw *r, uint32_t at, uint64_t *refs, unsigned most)
{
	unsigned n = 0;

	while (n < most && raw_alloc(r, at, 1, &refs[n]) == 1)
		n++;
	return n;
}

/* A client that has all `n` slots of pool "a"; its attachment. */
static uint32_t
take_all_of(const char *text, struct raw *r, uint64_t *refs, unsigned n)
{
	uint32_t at;

	serve(text);
	login(r, "client");
	at = attach(r, "a");
	cr_assert_eq(take_all(r, at, refs, n), n);
	return at;
}

/* The helper takes memory away by and by. */
static void
await_bytes(struct raw *r, const char *pool, long long most)
{
	while (server_region_bytes(&server, pool) > most)
		cr_assert_eq(raw_audit(r), 0);
}

Test(lifecycle, grows_on_demand)
{
	uint64_t refs[64];
	struct raw_stats s;
	struct raw r;
	uint32_t at;

	serve(POOLS(POOL("a", ", \"max_segments\": 5")));
	cr_assert_eq(server_region_bytes(&server, "a"), SEGMENT);
	login(&r, "client");
	at = attach(&r, "a");
	/* A segment is fetched before the last slot is gone. */
	cr_assert_eq(raw_alloc(&r, at, 7, refs), 7);
	STATS_UNTIL(&r, "a", s, s.segments_attached == 2);
	cr_assert_eq(take_all(&r, at, refs + 7, 57), 33);
	cr_assert_eq(raw_alloc(&r, at, 1, refs), -ENOBUFS);
	cr_assert_eq(server_region_bytes(&server, "a"), 5 * SEGMENT);
	cr_assert_eq(stats_of(&r, "a").slots, 40);
}

Test(lifecycle, starts_with_nothing)
{
	struct raw r;
	uint32_t at;

	serve(POOLS(POOL("a", ", \"min_segments\": 0")));
	cr_assert_eq(server_region_bytes(&server, "a"), 0);
	login(&r, "client");
	cr_assert_eq(stats_of(&r, "a").slots, 0);
	at = attach(&r, "a");
	alloc_one(&r, at);
}

/* A load that swings makes nothing come and go. */
Test(lifecycle, does_not_shrink_at_once)
{
	uint64_t refs[40];
	struct raw r;
	uint32_t at;

	at = take_all_of("\"shrink_seconds\": 3600, " POOLS(
			     POOL("a", ", \"max_segments\": 5")),
	    &r, refs, 40);
	for (int i = 0; i < 100; i++) {
		cr_assert_eq(raw_free(&r, at, refs, 40), 40);
		cr_assert_eq(stats_of(&r, "a").segments_attached, 5);
		cr_assert_eq(raw_alloc(&r, at, 40, refs), 40);
	}
}

/* All memory above the minimum goes back. */
Test(lifecycle, shrinks)
{
	uint64_t refs[40];
	struct raw_stats s;
	struct raw r;
	uint32_t at;

	at = take_all_of(
	    "\"shrink_seconds\": 1, " POOLS(POOL("a", ", \"max_segments\": 5")),
	    &r, refs, 40);
	cr_assert_eq(raw_free(&r, at, refs, 40), 40);
	STATS_UNTIL(&r, "a", s, s.segments_attached == 1);
	cr_assert_eq(s.slots, 8);
	await_bytes(&r, "a", SEGMENT);
	/* Versions outlive the memory. */
	cr_assert_eq(raw_free(&r, at, &refs[39], 1), -EALREADY);
	cr_assert_eq(take_all(&r, at, refs, 40), 40);
}

/* The last slot that makes a segment dispensable may lie in another one. */
Test(lifecycle, shrinks_when_others_have_room)
{
	uint64_t refs[16], low[8];
	unsigned nlow = 0;
	struct raw_stats s;
	struct raw r;
	uint32_t at;

	at = take_all_of(
	    "\"shrink_seconds\": 0, " POOLS(POOL("a", ", \"max_segments\": 2")),
	    &r, refs, 16);
	for (int i = 0; i < 16; i++)
		if (ref_slot(refs[i]) < 8)
			low[nlow++] = refs[i];
		else
			cr_assert_eq(raw_free(&r, at, &refs[i], 1), 1);
	cr_assert_eq(nlow, 8);
	cr_assert_eq(stats_of(&r, "a").segments_attached, 2);
	cr_assert_eq(raw_free(&r, at, low, 6), 6);
	STATS_UNTIL(&r, "a", s, s.segments_attached == 1);
	cr_assert_eq(raw_free(&r, at, low + 6, 2), 2);
}

Test(lifecycle, trim)
{
	uint64_t refs[40];
	uint8_t name[8];
	size_t len = raw_name(name, "a");
	struct raw r;
	uint32_t at;

	at = take_all_of("\"shrink_seconds\": 3600, " POOLS(
			     POOL("a", ", \"max_segments\": 5")),
	    &r, refs, 40);
	cr_assert_eq(raw_call(&r, WIRE_TRIM, 0, 0, name, len, NULL), 0);
	cr_assert_eq(raw_free(&r, at, refs, 40), 40);
	cr_assert_eq(stats_of(&r, "a").segments_attached, 5);
	cr_assert_eq(raw_call(&r, WIRE_TRIM, 0, 0, name, len, NULL), 4);
	cr_assert_eq(stats_of(&r, "a").slots, 8);
	await_bytes(&r, "a", SEGMENT);
}

/* A slot held in the last segment keeps that one, and only that one. */
Test(lifecycle, a_held_slot_keeps_its_segment)
{
	uint64_t refs[40], last = 0;
	uint8_t name[8];
	size_t len = raw_name(name, "a");
	struct raw_pool p;
	struct raw r;
	char *mem;

	serve("\"shrink_seconds\": 3600, " POOLS(
	    POOL("a", ", \"max_segments\": 5")));
	login(&r, "client");
	cr_assert_eq(raw_attach(&r, "a", 0, &p), 0);
	mem = mmap(NULL, p.bytes, PROT_READ | PROT_WRITE, MAP_SHARED, p.fd, 0);
	cr_assert_neq(mem, MAP_FAILED);
	cr_assert_eq(take_all(&r, p.number, refs, 40), 40);
	for (int i = 0; i < 40; i++)
		if (ref_slot(refs[i]) == 39)
			last = refs[i];
		else
			cr_assert_eq(raw_free(&r, p.number, &refs[i], 1), 1);
	strcpy(mem + 39 * p.slot_size, "still here");
	cr_assert_eq(raw_call(&r, WIRE_TRIM, 0, 0, name, len, NULL), 4);
	await_bytes(&r, "a", SEGMENT);
	cr_assert_str_eq(mem + 39 * p.slot_size, "still here");
	cr_assert_eq(raw_free(&r, p.number, &last, 1), 1);
}

/* Slots that are no whole pages: neighbours' bytes survive attach and detach.
 */
Test(lifecycle, segments_that_share_a_page)
{
	uint64_t refs[9], kept = 0;
	uint8_t name[8];
	size_t len = raw_name(name, "odd");
	struct raw_pool p;
	struct raw r;
	char *mem;

	serve("\"shrink_seconds\": 3600, \"pools\": [{\"name\": \"odd\", "
	      "\"slot_size\": 1024, \"slots_per_segment\": 3, "
	      "\"max_segments\": 3}]");
	login(&r, "client");
	cr_assert_eq(raw_attach(&r, "odd", 0, &p), 0);
	mem = mmap(NULL, p.bytes, PROT_READ | PROT_WRITE, MAP_SHARED, p.fd, 0);
	cr_assert_neq(mem, MAP_FAILED);
	for (int round = 0; round < 20; round++) {
		cr_assert_eq(take_all(&r, p.number, refs, 9), 9);
		for (int i = 0; i < 9; i++)
			memset(mem + ref_slot(refs[i]) * 1024, 'x', 1024);
		for (int i = 0; i < 9; i++)
			if (ref_slot(refs[i]) == 3)
				kept = refs[i];
			else
				cr_assert_eq(
				    raw_free(&r, p.number, &refs[i], 1), 1);
		cr_assert_eq(raw_call(&r, WIRE_TRIM, 0, 0, name, len, NULL), 2);
		await_bytes(&r, "odd", 2 * 4096);
		for (int i = 0; i < 1024; i++)
			cr_assert_eq(mem[3 * 1024 + i], 'x');
		cr_assert_eq(raw_free(&r, p.number, &kept, 1), 1);
	}
}

/* Who reads where nothing is attached makes memory appear; it goes again. */
Test(lifecycle, holes_are_punched_again)
{
	volatile char *mem;
	struct raw_pool p;
	struct raw r;
	char sum = 0;

	serve(POOLS(POOL("a", ", \"max_segments\": 64")));
	login(&r, "client");
	cr_assert_eq(raw_attach(&r, "a", 0, &p), 0);
	mem = mmap(NULL, p.bytes, PROT_READ | PROT_WRITE, MAP_SHARED, p.fd, 0);
	cr_assert_neq(mem, MAP_FAILED);
	for (size_t i = 0; i < p.bytes; i += 4096)
		sum += mem[i];
	cr_assert_eq(sum, 0);
	for (size_t i = 32 * SEGMENT; i < 40 * SEGMENT; i += 4096)
		mem[i] = 1;
	cr_assert_gt(server_region_bytes(&server, "a"), 8 * SEGMENT);
	/* The statistics look for it. */
	do
		stats_of(&r, "a");
	while (server_region_bytes(&server, "a") > SEGMENT);
	cr_assert_eq(mem[33 * SEGMENT], 0);
	cr_assert_eq(stats_of(&r, "a").slots, 8);
}

/* Needed again while the helper still takes it away: it comes back. */
Test(lifecycle, wanted_while_it_goes)
{
	uint64_t refs[16], more;
	uint8_t name[8], one[4] = {1, 0, 0, 0};
	size_t len = raw_name(name, "a");
	uint32_t at, trim, alloc;
	struct raw r;

	serve("\"shrink_seconds\": 3600, " POOLS(
	    POOL("a", ", \"max_segments\": 2")));
	login(&r, "client");
	at = attach(&r, "a");
	for (int round = 0; round < 50; round++) {
		cr_assert_eq(take_all(&r, at, refs, 16), 16);
		for (int i = 0; i < 16; i++)
			if (ref_slot(refs[i]) >= 8)
				cr_assert_eq(raw_free(&r, at, &refs[i], 1), 1);
		trim = raw_post(&r, WIRE_TRIM, 0, 0, name, len);
		alloc = raw_post(&r, WIRE_ALLOC, 0, at, one, 4);
		cr_assert_eq(raw_wait(&r, trim, NULL), 1);
		cr_assert_eq(raw_wait_alloc(&r, alloc, &more), 1);
		cr_assert_eq(raw_free(&r, at, &more, 1), 1);
		for (int i = 0; i < 16; i++)
			if (ref_slot(refs[i]) < 8)
				cr_assert_eq(raw_free(&r, at, &refs[i], 1), 1);
	}
}

/* Starts the daemon with a /dev/shm of that size, where one can be mounted. */
static void
serve_with_shm(const char *size, const char *text)
{
	int err;

	cr_assert_eq(server_prepare(&server), 0);
	cr_assert_eq(server_configure(&server, text), 0);
	server.shm_size = size;
	err = server_start(&server);
	if (err == -ECHILD && server_wait(&server) == SERVER_NO_SHM)
		cr_skip_test("no /dev/shm of its own can be mounted here");
	cr_assert_eq(err, 0, "slabd did not start: %s", strerror(-err));
}

/* No memory: an error code that says how much, and no signal. */
Test(lifecycle, host_without_memory)
{
	char text[1024];
	struct raw_message m;
	uint64_t refs[16], ref;
	uint8_t body[4] = {1, 0, 0, 0};
	struct raw_stats s;
	struct raw r;
	uint32_t at, tag;
	unsigned n;

	serve_with_shm("5M",
	    "\"pools\": [{\"name\": \"a\", \"slot_size\": \"1M\", "
	    "\"slots_per_segment\": 1, \"max_segments\": 16}]");
	login(&r, "client");
	at = attach(&r, "a");
	n = take_all(&r, at, refs, 16);
	cr_assert_geq(n, 3);
	cr_assert_leq(n, 4);
	cr_assert_eq(raw_call(&r, WIRE_ALLOC, 0, at, body, 4, &m), -ENOSPC);
	memcpy(text, m.body, m.len);
	text[m.len] = '\0';
	cr_assert_not_null(strstr(text, "bytes needed"), "%s", text);
	cr_assert_not_null(strstr(text, "available"), "%s", text);
	cr_assert_not_null(strstr(text, "client"), "%s", text);
	cr_assert(server_logged(&server, "bytes needed"));
	cr_assert_eq(raw_audit(&r), 0);
	/* Who waits gets what another one gives back. */
	tag = raw_post_alloc(&r, at, 1);
	cr_assert_eq(raw_ping(&r), 0);
	s = stats_of(&r, "a");
	cr_assert_eq(s.waiters, 1);
	cr_assert_eq(raw_free(&r, at, refs, 1), 1);
	cr_assert_eq(raw_wait_alloc(&r, tag, &ref), 1);
	cr_assert_eq(raw_audit(&r), 0);
}

/* Not even enough to start with: the daemon says so, and serves the rest. */
Test(lifecycle, starts_without_memory)
{
	struct raw r;
	uint64_t ref;

	serve_with_shm("4M",
	    "\"pools\": [{\"name\": \"large\", \"slot_size\": \"16M\", "
	    "\"slots_per_segment\": 1, \"max_segments\": 2}, " POOL(
		"a", "") "]");
	cr_assert(server_logged(&server, "large: cannot attach a segment"));
	login(&r, "client");
	cr_assert_eq(raw_alloc(&r, attach(&r, "large"), 1, &ref), -ENOSPC);
	alloc_one(&r, attach(&r, "a"));
}
