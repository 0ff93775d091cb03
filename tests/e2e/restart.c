/*
 * The daemon is killed, or stopped, and another comes: nothing that clients
 * have is lost, nothing is done twice, and who died meanwhile is buried.
 */
#include "config.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "e2e.h"
#include "lane.h"
#include "ledger.h"
#include "magazine.h"

#define ONE_POOL(more)                                        \
	"\"pools\": [{\"name\": \"p\", \"slot_size\": 4096, " \
	"\"slots_per_segment\": 64, \"min_segments\": 1, "    \
	"\"max_segments\": 4" more "}]"

TestSuite(restart, .timeout = 120, .fini = finish);

static struct raw innocent;

/* kill -9, and a successor. */
static void
bring_back(void)
{
	int err = server_start(&server);

	cr_assert_eq(err, 0, "no successor: %s", strerror(-err));
}

static void
restart(void)
{
	cr_assert_eq(server_kill(&server), 0);
	bring_back();
}

static void
come_back(struct raw *r)
{
	cr_assert_eq(raw_reopen(r, server.socket, "back"), 1);
}

/* The pool, for who has no attachment to it. */
static struct raw_stats
figures(void)
{
	struct raw r;
	struct raw_stats s;

	login(&r, "figures");
	cr_assert_eq(raw_audit(&r), 0);
	s = stats_of(&r, "p");
	raw_close(&r);
	return s;
}

static void
lane_of(struct raw *r, struct raw_lane *l)
{
	cr_assert_eq(raw_attach_lane(r, "p", 0, l), 0);
	cr_assert_not_null(l->lane.header);
}

Test(restart, slots_by_message)
{
	uint64_t held[10], sent, shared, refs[64];
	struct raw_stats s;
	uint32_t at;
	struct raw r;

	serve(ONE_POOL(""));
	login(&r, "a");
	at = attach(&r, "p");
	cr_assert_eq(raw_alloc(&r, at, 10, held), 10);
	cr_assert_eq(raw_send(&r, at, held[8], &sent), 0);
	cr_assert_eq(raw_share(&r, at, held[9], 3, &shared), 0);
	cr_assert_eq(raw_receive(&r, at, shared), 0);
	restart();
	s = figures();
	cr_assert_eq(s.quarantined, 9);
	cr_assert_eq(s.in_flight, 1);
	cr_assert_eq(s.free, 54);
	come_back(&r);
	cr_assert_eq(raw_resume(&r, at), 0);
	s = figures();
	cr_assert_eq(s.quarantined, 0);
	cr_assert_eq(s.used, 9);
	cr_assert_eq(raw_free(&r, at, held, 8), 8);
	cr_assert_eq(raw_receive(&r, at, sent), 0);
	cr_assert_eq(raw_free(&r, at, &sent, 1), 1);
	cr_assert_eq(raw_recall(&r, at, shared, 0), 2);
	cr_assert_eq(raw_free(&r, at, &shared, 1), 1);
	cr_assert_eq(raw_free(&r, at, &shared, 1), -EALREADY);
	cr_assert_eq(figures().free, 64);
	cr_assert_eq(raw_alloc(&r, at, 64, refs), 64);
	logout(&r);
}

Test(restart, after_a_stop)
{
	uint64_t ref;
	uint32_t at;
	struct raw r;

	serve(ONE_POOL(""));
	login(&r, "a");
	at = attach(&r, "p");
	ref = alloc_one(&r, at);
	kill(server.pid, SIGTERM);
	cr_assert_eq(server_wait(&server), 0);
	bring_back();
	come_back(&r);
	cr_assert_eq(raw_resume(&r, at), 0);
	cr_assert_eq(raw_free(&r, at, &ref, 1), 1);
	logout(&r);
	cr_assert_eq(figures().free, 64);
}

/*
 * A record that waits for another's, when the daemon stops, waits for it still
 * when there is a successor.
 */
static void
waits_across(int signo)
{
	struct raw_lane a, b;
	struct raw ra, rb;
	uint64_t ref, sent;

	serve(ONE_POOL(""));
	login(&ra, "a");
	lane_of(&ra, &a);
	login(&rb, "b");
	lane_of(&rb, &b);
	ref = alloc_one(&ra, a.pool.number);
	/* The claim alone: the record of it comes late. */
	sent = ref_make(ref_slot(ref), false, ref_version(ref) + 1);
	store_release(
	    &b.claims[ref_slot(ref)], (sent & ~UINT64_C(0xffffff)) | 1);
	cr_assert_eq(raw_lane_receive(&b, sent), 0);
	/* It is read, and stays parked for 2 ms at least: tried until then. */
	raw_post(&rb, WIRE_PING, 0, 0, NULL, 0);
	raw_flush(&rb, b.pool.number);
	kill(server.pid, signo);
	cr_assert_neq(server_wait(&server), -ETIMEDOUT);
	cr_assert(raw_lane_record(&a, LANE_SEND, ref, 0));
	bring_back();
	come_back(&ra);
	cr_assert_eq(raw_resume_lane(&ra, &a), 0);
	come_back(&rb);
	cr_assert_eq(raw_resume_lane(&rb, &b), 0);
	if (raw_held(&rb, b.pool.number, sent) == 1) {
		cr_assert_eq(raw_lane_refused(&b), 0);
		cr_assert(raw_lane_record(&b, LANE_FREE, sent, 0));
	} else /* judged before the signal was seen: then it was told */
		cr_assert_eq(raw_lane_refused(&b), sent);
	raw_lane_close(&a);
	raw_lane_close(&b);
	logout(&ra);
	logout(&rb);
}

Test(restart, parked_when_stopped)
{
	waits_across(SIGTERM);
}

Test(restart, parked_when_killed)
{
	waits_across(SIGKILL);
}

/* With a lane a client goes on as if nothing had been. */
Test(restart, a_lane_goes_on)
{
	uint64_t refs[32], sent, first;
	struct raw_lane l;
	struct raw_stats s;
	struct raw r;
	unsigned n;

	serve(ONE_POOL(""));
	login(&r, "a");
	lane_of(&r, &l);
	first = alloc_one(&r, l.pool.number);
	cr_assert_eq(server_kill(&server), 0);
	n = raw_lane_take(&l, refs, 32);
	cr_assert_gt(n, 2);
	cr_assert(raw_lane_record(&l, LANE_FREE, refs[0], 0));
	cr_assert_eq(raw_lane_send(&l, refs[1], &sent), 0);
	bring_back();
	s = figures();
	cr_assert_eq(s.in_flight, 1, "what was published meanwhile counts");
	cr_assert_eq(s.free + s.quarantined + s.in_flight, 64);
	cr_assert_eq(s.quarantined, n - 2 + 1);
	come_back(&r);
	cr_assert_eq(raw_resume_lane(&r, &l), 0);
	cr_assert_eq(raw_lane_receive(&l, sent), 0);
	cr_assert(raw_lane_record(&l, LANE_FREE, sent, 0));
	cr_assert(raw_lane_record(&l, LANE_FREE, first, 0));
	for (unsigned i = 2; i < n; i++)
		cr_assert(raw_lane_record(&l, LANE_FREE, refs[i], 0));
	raw_lane_bell(&l);
	s = figures();
	cr_assert_eq(s.free + s.cached, 64);
	cr_assert_eq(s.rejected_total, 0);
	/* Its bell is heard, its requests are served. */
	first = alloc_one(&r, l.pool.number);
	cr_assert(raw_lane_record(&l, LANE_FREE, first, 0));
	raw_lane_close(&l);
	logout(&r);
	cr_assert_eq(figures().free, 64);
}

static int
hold_some(int control, void *arg)
{
	uint64_t refs[20];
	struct raw_lane l;
	struct raw r;
	char c = 0;

	(void)arg;
	if (raw_open(&r, server.socket, "victim") != 0 ||
	    raw_attach_lane(&r, "p", 0, &l) != 0 ||
	    raw_alloc(&r, l.pool.number, 20, refs) != 20 ||
	    !raw_lane_record(&l, LANE_FREE, refs[0], 0) ||
	    raw_lane_send(&l, refs[1], &refs[1]) != 0)
		return 1;
	tell(control, &refs[1], sizeof(refs[1]));
	hear(control, &c, 1);
	return 0;
}

/* What the dead had published is read first, and then they are buried. */
Test(restart, who_died_meanwhile)
{
	uint64_t sent;
	struct raw_stats s;
	int control;
	pid_t pid;
	uint32_t at;

	serve(ONE_POOL(""));
	login(&innocent, "innocent");
	at = attach(&innocent, "p");
	pid = spawn(hold_some, NULL, &control);
	hear(control, &sent, sizeof(sent));
	cr_assert_eq(server_kill(&server), 0);
	kill(pid, SIGKILL);
	reap(pid);
	bring_back();
	s = figures();
	cr_assert_eq(s.in_flight, 1);
	cr_assert_eq(s.free, 63);
	cr_assert_eq(s.quarantined, 0);
	come_back(&innocent);
	cr_assert_eq(raw_receive(&innocent, at, sent), 0);
	logout(&innocent);
	cr_assert_eq(figures().free, 64);
	close(control);
}

/* Nobody is given up for being late. */
Test(restart, who_lives_is_waited_for)
{
	struct raw_stats s;
	struct raw r;
	uint64_t sent;
	int control;
	pid_t pid;

	serve(ONE_POOL(", \"orphan_seconds\": 0"));
	pid = spawn(hold_some, NULL, &control);
	hear(control, &sent, sizeof(sent));
	restart();
	restart();
	s = figures();
	cr_assert_geq(s.quarantined, 18);
	cr_assert_eq(s.in_flight, 1);
	kill(pid, SIGKILL);
	reap(pid);
	login(&r, "looks");
	STATS_UNTIL(&r, "p", s, s.free == 64);
	raw_close(&r);
	close(control);
}

/* A token is this process's alone, and no other's session is to be had. */
Test(restart, not_anybodys)
{
	struct raw r, thief;
	uint32_t at;

	serve(ONE_POOL(""));
	login(&r, "a");
	at = attach(&r, "p");
	alloc_one(&r, at);
	restart();
	cr_assert_eq(raw_connect(&thief, server.socket), 0);
	thief.session = r.session;
	thief.token = r.token + 1;
	cr_assert_eq(raw_hello(&thief, "thief"), 0);
	cr_assert_neq(thief.session, r.session);
	cr_assert_eq(raw_resume(&thief, at), -EBADF);
	raw_close(&thief);
	come_back(&r);
	/* A second time: the first socket is left. */
	thief = r;
	r.fd = -1;
	come_back(&r);
	cr_assert_eq(raw_ping(&thief), -ENOTCONN);
	cr_assert_eq(raw_resume(&r, at), 0);
	cr_assert_eq(figures().used, 1);
	raw_close(&thief);
	logout(&r);
}

static uint32_t
body_of_ref(uint8_t *out, uint64_t ref, uint32_t more, bool with)
{
	memcpy(out, &ref, 8);
	memcpy(out + 8, &more, 4);
	return with ? 12 : 8;
}

static uint64_t
ref_in(const struct raw_message *m)
{
	uint64_t ref;

	memcpy(&ref, m->body, 8);
	return ref;
}

/* A request that was served, and whose answer got lost, is not served twice. */
Test(restart, answered_again)
{
	uint64_t refs[4], sent, shared, old[3];
	uint32_t at, tag, n = 3;
	struct raw_message m;
	uint8_t body[16];
	struct raw r;

	serve(ONE_POOL(""));
	login(&r, "a");
	at = attach(&r, "p");
	cr_assert_eq(raw_alloc(&r, at, 3, old), 3);
	tag = r.tag;
	restart();
	come_back(&r);
	cr_assert_eq(
	    raw_again(&r, tag, WIRE_ALLOC, 0, at, &n, sizeof(n), &m), 3);
	for (unsigned i = 0; i < 3; i++) {
		memcpy(&refs[i], m.body + 16 * i, 8);
		cr_assert_eq(refs[i], old[i]);
	}
	cr_assert_eq(figures().used, 3);

	cr_assert_eq(raw_send(&r, at, refs[0], &sent), 0);
	tag = r.tag;
	restart();
	come_back(&r);
	cr_assert_eq(raw_again(&r, tag, WIRE_SEND, 0, at, body,
			 body_of_ref(body, refs[0], 0, false), &m),
	    0);
	cr_assert_eq(ref_in(&m), sent);

	cr_assert_eq(raw_receive(&r, at, sent), 0);
	tag = r.tag;
	restart();
	come_back(&r);
	cr_assert_eq(raw_again(&r, tag, WIRE_RECEIVE, 0, at, body,
			 body_of_ref(body, sent, 0, false), &m),
	    0);
	cr_assert_eq(raw_receive(&r, at, sent), -ESTALE);

	cr_assert_eq(raw_share(&r, at, refs[1], 5, &shared), 0);
	tag = r.tag;
	restart();
	come_back(&r);
	cr_assert_eq(raw_again(&r, tag, WIRE_SHARE, 0, at, body,
			 body_of_ref(body, refs[1], 5, true), &m),
	    0);
	cr_assert_eq(ref_in(&m), shared);

	/* The same share twice: one receipt each, and no more. */
	cr_assert_eq(raw_receive(&r, at, shared), 0);
	tag = r.tag;
	restart();
	come_back(&r);
	cr_assert_eq(raw_again(&r, tag, WIRE_RECEIVE, 0, at, body,
			 body_of_ref(body, shared, 0, false), &m),
	    0);
	cr_assert_eq(raw_recall(&r, at, shared, 2), 2);
	tag = r.tag;
	restart();
	come_back(&r);
	cr_assert_eq(raw_again(&r, tag, WIRE_RECALL, 0, at, body,
			 body_of_ref(body, shared, 2, true), &m),
	    2);
	cr_assert_eq(raw_recall(&r, at, shared, 0), 2);

	cr_assert_eq(raw_free(&r, at, &refs[2], 1), 1);
	tag = r.tag;
	restart();
	come_back(&r);
	cr_assert_eq(raw_again(&r, tag, WIRE_FREE, 0, at, &refs[2], 8, &m), 1);
	cr_assert_eq(raw_free(&r, at, &refs[2], 1), -EALREADY);
	logout(&r);
	cr_assert_eq(figures().free, 64);
}

/* One that was not served is served when it is sent again. */
Test(restart, served_again)
{
	uint64_t ref, refs[2];
	uint32_t at, n = 2;
	struct raw_message m;
	uint8_t body[16];
	struct raw r;

	serve(ONE_POOL(""));
	login(&r, "a");
	at = attach(&r, "p");
	ref = alloc_one(&r, at);
	restart();
	come_back(&r);
	cr_assert_eq(
	    raw_again(&r, 1000, WIRE_ALLOC, 0, at, &n, sizeof(n), &m), 2);
	memcpy(&refs[0], m.body, 8);
	memcpy(&refs[1], m.body + 16, 8);
	cr_assert_eq(raw_again(&r, 1001, WIRE_SEND, 0, at, body,
			 body_of_ref(body, ref, 0, false), &m),
	    0);
	cr_assert_eq(raw_again(&r, 1002, WIRE_RECALL, 0, at, body,
			 body_of_ref(body, ref_in(&m), 0, true), NULL),
	    1);
	cr_assert_eq(raw_again(&r, 1003, WIRE_FREE, 0, at, refs, 16, NULL), 2);
	logout(&r);
	cr_assert_eq(figures().free, 64);
}

Test(restart, attached_again)
{
	uint8_t body[16] = {0};
	struct raw_message m;
	uint32_t at, tag;
	struct raw r;

	serve(ONE_POOL(", \"max_clients\": 3"));
	login(&r, "a");
	at = attach(&r, "p");
	tag = r.tag;
	restart();
	come_back(&r);
	cr_assert_eq(raw_again(&r, tag, WIRE_ATTACH, 0, 0, body,
			 4 + raw_name(body + 4, "p"), &m),
	    0);
	cr_assert_eq(m.h.attachment, at);
	cr_assert_geq(m.fd, 0);
	close(m.fd);
	cr_assert_eq(raw_again(&r, tag + 9, WIRE_ATTACH, 0, 0, body,
			 4 + raw_name(body + 4, "p"), &m),
	    0);
	cr_assert_neq(m.h.attachment, at);
	close(m.fd);
	logout(&r);
}

/* Who has said goodbye to a daemon that was not there has gone. */
Test(restart, goodbye_meanwhile)
{
	uint64_t refs[8];
	struct raw_lane l;
	struct raw r;

	serve(ONE_POOL(""));
	login(&r, "a");
	lane_of(&r, &l);
	cr_assert_eq(raw_alloc(&r, l.pool.number, 8, refs), 8);
	cr_assert_eq(server_kill(&server), 0);
	store_release(&l.lane.header->goodbye, 1);
	bring_back();
	cr_assert_eq(figures().free, 64);
	cr_assert_eq(raw_reopen(&r, server.socket, "gone"), 0);
	raw_close(&r);
	raw_lane_close(&l);
}

/* And so has who has said it there, and just hangs up. */
Test(restart, goodbye_by_the_lane)
{
	uint64_t refs[8];
	struct raw_lane l;
	struct raw r, looks;
	struct raw_stats s;

	serve(ONE_POOL(""));
	login(&r, "a");
	lane_of(&r, &l);
	cr_assert_eq(raw_alloc(&r, l.pool.number, 8, refs), 8);
	store_release(&l.lane.header->goodbye, 1);
	raw_close(&r);
	login(&looks, "looks");
	STATS_UNTIL(&looks, "p", s, s.free == 64);
	raw_close(&looks);
	raw_lane_close(&l);
}

/* A lane that its client has spoilt is no lane; its slots wait for its end. */
Test(restart, spoilt_lane)
{
	uint64_t refs[8];
	struct raw_lane l;
	struct raw_stats s;
	struct raw r;

	serve(ONE_POOL(""));
	login(&r, "a");
	lane_of(&r, &l);
	cr_assert_eq(raw_alloc(&r, l.pool.number, 8, refs), 8);
	cr_assert_eq(server_kill(&server), 0);
	cr_assert_eq(ftruncate(l.lane_fd, 4096), 0);
	bring_back();
	s = figures();
	cr_assert_geq(s.quarantined, 8);
	come_back(&r);
	cr_assert_eq(raw_resume(&r, l.pool.number), -ENOTRECOVERABLE);
	cr_assert_eq(raw_detach(&r, l.pool.number), 0);
	cr_assert_eq(figures().free, 64);
	logout(&r);
	raw_lane_close(&l);
}

/* A pool that the configuration does not know any more goes with its users. */
Test(restart, not_configured_any_more)
{
	struct raw_message m;
	struct raw_stats s;
	uint64_t ref;
	uint32_t at;
	struct raw r;

	serve(ONE_POOL(""));
	login(&r, "a");
	at = attach(&r, "p");
	ref = alloc_one(&r, at);
	cr_assert_eq(server_kill(&server), 0);
	cr_assert_eq(server_configure(&server,
			 "\"pools\": [{\"name\": \"q\", \"slot_size\": 64, "
			 "\"slots_per_segment\": 4, \"max_segments\": 1}]"),
	    0);
	bring_back();
	come_back(&r);
	cr_assert_eq(raw_resume(&r, at), 0);
	cr_assert_eq(raw_event(&r, WIRE_EVENT_RETIRED, &m), 0);
	cr_assert(stats_of(&r, "p").retired);
	cr_assert_eq(raw_free(&r, at, &ref, 1), 1);
	cr_assert_eq(raw_detach(&r, at), 0);
	cr_assert_eq(raw_pool_stats(&r, "p", &s), -ENOENT);
	logout(&r);
}

/* Another layout waits until nobody uses the old one. */
Test(restart, another_layout)
{
	struct raw_stats s;
	uint64_t ref;
	uint32_t at;
	struct raw r;

	serve(ONE_POOL(""));
	login(&r, "a");
	at = attach(&r, "p");
	ref = alloc_one(&r, at);
	cr_assert_eq(server_kill(&server), 0);
	cr_assert_eq(server_configure(&server,
			 "\"pools\": [{\"name\": \"p\", \"slot_size\": 64, "
			 "\"slots_per_segment\": 16, \"min_segments\": 1, "
			 "\"max_segments\": 1}]"),
	    0);
	bring_back();
	come_back(&r);
	cr_assert_eq(raw_resume(&r, at), 0);
	cr_assert_eq(raw_free(&r, at, &ref, 1), 1);
	s = stats_of(&r, "p");
	cr_assert_eq(s.slots, 64);
	logout(&r);
	cr_assert_eq(server_kill(&server), 0);
	bring_back();
	cr_assert_eq(figures().slots, 16);
}

/* More room in the configuration of the successor is there when one is back. */
Test(restart, more_segments)
{
	uint64_t refs[200];
	struct raw r;
	uint32_t at;

	serve(ONE_POOL(""));
	login(&r, "a");
	at = attach(&r, "p");
	cr_assert_eq(raw_alloc(&r, at, 200, refs), 64);
	cr_assert_eq(server_kill(&server), 0);
	cr_assert_eq(server_configure(&server,
			 "\"pools\": [{\"name\": \"p\", \"slot_size\": 4096, "
			 "\"slots_per_segment\": 64, \"min_segments\": 1, "
			 "\"max_segments\": 9}]"),
	    0);
	bring_back();
	cr_assert_not(server_logged(&server, "has changed it"));
	come_back(&r);
	cr_assert_eq(raw_resume(&r, at), 0);
	cr_assert_eq(raw_extend(&r, at, 9), 0);
	for (unsigned left = 512, n; left > 0; left -= n) {
		n = left < 128 ? left : 128;
		cr_assert_eq(
		    raw_wait_alloc(&r, raw_post_alloc(&r, at, n), refs),
		    (int)n);
	}
	logout(&r);
	cr_assert_eq(figures().free, figures().slots);
}

/* Descriptors nobody reads are no more than one client may have unread. */
Test(restart, resumed_without_reading)
{
	struct raw first, r;
	uint8_t body[16] = {0};
	uint32_t tag;

	serve(ONE_POOL(""));
	login(&r, "a");
	attach(&r, "p");
	tag = r.tag;
	for (unsigned i = 0; i < 20; i++) {
		r.tag = tag - 1;
		raw_post(&r, WIRE_ATTACH, WIRE_AGAIN, 0, body,
		    4 + raw_name(body + 4, "p"));
	}
	r.tag = tag;
	for (unsigned i = 0; i < 8; i++)
		cr_assert_eq(raw_wait(&r, tag, NULL), 0);
	first = r;
	r.fd = -1;
	come_back(&r);
	raw_close(&first);
	logout(&r);
}

/* The ledger, to be spoilt. */
static void
spoil(size_t at, const void *bytes, size_t len)
{
	char path[128];
	int fd;

	snprintf(path, sizeof(path), "/dev/shm/%sp.ledger", server.prefix);
	fd = open(path, O_RDWR);
	cr_assert_geq(fd, 0, "%s", path);
	cr_assert_eq(pwrite(fd, bytes, len, (off_t)at), (ssize_t)len);
	close(fd);
}

static void
expect_rebuilt(void)
{
	struct raw r;
	uint32_t at;

	bring_back();
	cr_assert(server_logged(&server, "cannot be used"));
	cr_assert_eq(figures().free, 64);
	cr_assert_eq(raw_reopen(&innocent, server.socket, "back"), 0);
	raw_close(&innocent);
	login(&r, "new");
	at = attach(&r, "p");
	alloc_one(&r, at);
	logout(&r);
}

static void
leave_something(void)
{
	serve(ONE_POOL(""));
	login(&innocent, "a");
	alloc_one(&innocent, attach(&innocent, "p"));
	cr_assert_eq(server_kill(&server), 0);
}

Test(restart, another_format)
{
	uint32_t format = LEDGER_FORMAT + 1;

	leave_something();
	spoil(8, &format, sizeof(format));
	expect_rebuilt();
}

Test(restart, another_boot)
{
	uint8_t boot[16] = {1, 2, 3};

	leave_something();
	/* Behind magic, format, sizes, geometry, places, seed, pool, hash. */
	spoil(112, boot, sizeof(boot));
	expect_rebuilt();
}

Test(restart, never_finished)
{
	uint64_t none = 0;

	leave_something();
	spoil(0, &none, sizeof(none));
	expect_rebuilt();
}

/* What is no object of ours is neither used nor removed. */
Test(restart, somebody_elses)
{
	char path[128];
	struct stat st;

	leave_something();
	snprintf(path, sizeof(path), "/dev/shm/%sp.ledger", server.prefix);
	if (chown(path, 65534, 65534) != 0)
		cr_skip_test("only root can give files away");
	cr_assert_eq(server_start(&server), -ECHILD);
	cr_assert_eq(stat(path, &st), 0);
	cr_assert_eq(unlink(path), 0);
	cr_assert_eq(server_wait(&server), 71);
	bring_back();
	raw_close(&innocent);
	cr_assert_eq(figures().free, 64);
}

/* Who waited goes on waiting, and gets what comes from one who is away. */
Test(restart, who_waits)
{
	uint64_t all[256], got[2];
	struct raw_lane l;
	struct raw a, b;
	uint32_t bt, tag;

	serve(ONE_POOL(""));
	login(&a, "a");
	lane_of(&a, &l);
	login(&b, "b");
	bt = attach(&b, "p");
	cr_assert_eq(
	    raw_wait_alloc(&a, raw_post_alloc(&a, l.pool.number, 256), all),
	    256);
	tag = raw_post_alloc(&b, bt, 2);
	restart();
	come_back(&b);
	cr_assert_eq(raw_resume(&b, bt), 0);
	tag = raw_post_alloc(&b, bt, 2);
	/* It rings a bell that nobody hears. */
	cr_assert(raw_lane_record(&l, LANE_FREE, all[0], 0));
	cr_assert(raw_lane_record(&l, LANE_FREE, all[1], 0));
	cr_assert_eq(raw_wait_alloc(&b, tag, got), 2);
	logout(&b);
	come_back(&a);
	cr_assert_eq(raw_resume_lane(&a, &l), 0);
	raw_lane_close(&l);
	logout(&a);
	cr_assert_eq(figures().free, 256);
}
