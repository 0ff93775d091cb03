/*
 * The daemon is killed, or stopped, and another comes: nothing that clients
 * have is lost, nothing is done twice, and who died meanwhile is buried.
 */
#include "config.h"

#include <fcntl.h>
#include <grp.h>
#include <linux/sockios.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/stat.h>

#include "claim.h"
#include "e2e.h"
#include "lane.h"
#include "ledger.h"

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

/* A client with so many slots, by messages; its attachment. */
static uint32_t
begin(struct raw *r, uint32_t n, uint64_t *refs)
{
	uint32_t at;

	serve(ONE_POOL(""));
	login(r, "a");
	at = attach(r, "p");
	cr_assert_eq(raw_alloc(r, at, n, refs), (int)n);
	return at;
}

/* The same with a lane. */
static void
begin_lane(struct raw *r, struct raw_lane *l, uint32_t n, uint64_t *refs)
{
	serve(ONE_POOL(""));
	login(r, "a");
	lane_of(r, l);
	cr_assert_eq(raw_alloc(r, l->pool.number, n, refs), (int)n);
}

Test(restart, slots_by_message)
{
	uint64_t held[10], sent, shared, refs[64];
	struct raw_stats s;
	uint32_t at;
	struct raw r;

	at = begin(&r, 10, held);
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

	at = begin(&r, 1, &ref);
	cr_assert_eq(server_end(&server, SIGTERM), 0);
	bring_back();
	come_back(&r);
	cr_assert_eq(raw_resume(&r, at), 0);
	cr_assert_eq(raw_free(&r, at, &ref, 1), 1);
	logout(&r);
	cr_assert_eq(figures().free, 64);
}

/* A client with a lane and 18 slots that sends one; for spawn(). */
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

/* What it has sent is told. */
static pid_t
start_holder(int *control, uint64_t *sent)
{
	pid_t pid = spawn(hold_some, NULL, control);

	cr_assert_eq(hear(*control, sent, sizeof(*sent)), 0);
	return pid;
}

static void
bury(pid_t pid, int control)
{
	kill(pid, SIGKILL);
	cr_assert_eq(reap(pid), 128 + SIGKILL);
	close(control);
}

/*
 * A record that waits for another's, when the daemon ends, waits for it still
 * when there is a successor. A sends, B receives, and of A there is only the
 * claim as yet.
 */
struct hand_over {
	struct raw ra, rb;
	struct raw_lane a, b;
	uint64_t ref, sent;
};

static void
begin_hand_over(struct hand_over *h)
{
	begin_lane(&h->ra, &h->a, 1, &h->ref);
	login(&h->rb, "b");
	lane_of(&h->rb, &h->b);
	h->sent = ref_make(ref_slot(h->ref), false, ref_version(h->ref) + 1);
	claim_offer(h->b.claims, h->sent, 1);
}

static void
end_hand_over(struct hand_over *h)
{
	cr_assert(raw_lane_record(&h->a, LANE_SEND, h->ref, 0));
	bring_back();
	come_back(&h->ra);
	cr_assert_eq(raw_resume_lane(&h->ra, &h->a), 0);
	come_back(&h->rb);
	cr_assert_eq(raw_resume_lane(&h->rb, &h->b), 0);
	if (raw_held(&h->rb, h->b.pool.number, h->sent) == 1) {
		cr_assert_eq(raw_lane_refused(&h->b), 0);
		cr_assert(raw_lane_record(&h->b, LANE_FREE, h->sent, 0));
	} else /* the end came too late, and it was judged: it was told */
		cr_assert_eq(raw_lane_refused(&h->b), h->sent);
	raw_lane_close(&h->a);
	raw_lane_close(&h->b);
	logout(&h->ra);
	logout(&h->rb);
}

/* A death that is noticed on the way out has all lanes read once more. */
Test(restart, parked_when_stopped)
{
	struct hand_over h;
	uint64_t sent;
	int control;
	pid_t pid;

	begin_hand_over(&h);
	pid = start_holder(&control, &sent);
	cr_assert_eq(server_freeze(&server), 0);
	cr_assert_eq(raw_lane_receive(&h.b, h.sent), 0);
	bury(pid, control);
	kill(server.pid, SIGTERM);
	cr_assert_eq(server_end(&server, SIGCONT), 0);
	end_hand_over(&h);
}

Test(restart, parked_when_killed)
{
	struct hand_over h;

	begin_hand_over(&h);
	cr_assert_eq(raw_lane_receive(&h.b, h.sent), 0);
	/* All lanes are read for this. */
	cr_assert_eq(raw_flush(&h.rb, h.b.pool.number), 0);
	cr_assert_eq(server_kill(&server), 0);
	end_hand_over(&h);
}

/* Nobody but a receiver who comes later will ask for it. */
Test(restart, orphans_when_stopped)
{
	uint64_t ref;
	struct raw r;
	uint32_t at;

	serve(ONE_POOL(", \"orphan_seconds\": 3600"));
	login(&r, "sender");
	at = attach(&r, "p");
	cr_assert_eq(raw_send(&r, at, alloc_one(&r, at), &ref), 0);
	logout(&r);
	cr_assert_eq(server_end(&server, SIGTERM), 0);
	bring_back();
	cr_assert_eq(figures().in_flight, 1);
	login(&r, "receiver");
	at = attach(&r, "p");
	cr_assert_eq(raw_receive(&r, at, ref), 0);
	cr_assert_eq(raw_free(&r, at, &ref, 1), 1);
	logout(&r);
	cr_assert_eq(figures().free, 64);
}

/* Somebody dies before the signal, and the daemon finds both at once. */
static void
die_and_stop(void)
{
	uint64_t sent;
	int control;
	pid_t pid = start_holder(&control, &sent);

	cr_assert_eq(server_freeze(&server), 0);
	bury(pid, control);
	kill(server.pid, SIGTERM);
}

Test(restart, last_one_died_when_stopped)
{
	serve(ONE_POOL(", \"orphan_seconds\": 0"));
	die_and_stop();
	cr_assert_null(server_stop(&server, SIGCONT));
	bring_back();
	cr_assert_eq(figures().free, 64);
}

Test(restart, one_of_two_died_when_stopped)
{
	uint64_t ref;
	uint32_t at;

	serve(ONE_POOL(", \"orphan_seconds\": 0"));
	login(&innocent, "innocent");
	at = attach(&innocent, "p");
	ref = alloc_one(&innocent, at);
	die_and_stop();
	cr_assert_eq(server_end(&server, SIGCONT), 0);
	bring_back();
	cr_assert_eq(figures().free, 63);
	come_back(&innocent);
	cr_assert_eq(raw_free(&innocent, at, &ref, 1), 1);
	logout(&innocent);
}

/* With a lane a client goes on as if nothing had been. */
Test(restart, a_lane_goes_on)
{
	uint64_t refs[32], sent, first;
	struct raw_lane l;
	struct raw_stats s;
	struct raw r;
	unsigned n;

	begin_lane(&r, &l, 1, &first);
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
	pid = start_holder(&control, &sent);
	cr_assert_eq(server_kill(&server), 0);
	bury(pid, control);
	bring_back();
	s = figures();
	cr_assert_eq(s.in_flight, 1);
	cr_assert_eq(s.free, 63);
	cr_assert_eq(s.quarantined, 0);
	come_back(&innocent);
	cr_assert_eq(raw_receive(&innocent, at, sent), 0);
	logout(&innocent);
	cr_assert_eq(figures().free, 64);
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
	pid = start_holder(&control, &sent);
	restart();
	restart();
	s = figures();
	cr_assert_geq(s.quarantined, 18);
	cr_assert_eq(s.in_flight, 1);
	bury(pid, control);
	login(&r, "looks");
	STATS_UNTIL(&r, "p", s, s.free == 64);
	raw_close(&r);
}

/* Its connection stays as it is, in `left`; the session can go on elsewhere. */
static void
leave(struct raw *r, struct raw *left)
{
	cr_assert(STAILQ_EMPTY(&r->kept));
	*left = *r;
	STAILQ_INIT(&left->kept);
	r->fd = -1;
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
	leave(&r, &thief);
	come_back(&r);
	cr_assert_eq(raw_ping(&thief), -ENOTCONN);
	cr_assert_eq(raw_resume(&r, at), 0);
	cr_assert_eq(figures().used, 1);
	raw_close(&thief);
	logout(&r);
}

/* What SEND, SHARE, RECEIVE and RECALL have in their bodies. */
static int
ref_again(struct raw *r, uint32_t tag, unsigned type, uint32_t at, uint64_t ref,
    uint32_t n, uint64_t *out)
{
	bool counts = type == WIRE_SHARE || type == WIRE_RECALL;
	struct raw_message m = {.len = 0};
	uint8_t body[12];
	int status;

	memcpy(body, &ref, 8);
	memcpy(body + 8, &n, 4);
	status = raw_again(r, tag, type, 0, at, body, counts ? 12 : 8, &m);
	if (out != NULL)
		memcpy(out, m.body, 8);
	return status;
}

/*
 * The request that was answered last is sent again to a successor: it was
 * served, so it is answered as before, and not served twice.
 */
static int
answered_again(struct raw *r, unsigned type, uint32_t at, uint64_t ref,
    uint32_t n, uint64_t *out)
{
	uint32_t tag = r->tag;

	restart();
	come_back(r);
	return ref_again(r, tag, type, at, ref, n, out);
}

Test(restart, alloc_and_free_answered_again)
{
	struct raw_message m;
	uint32_t at, tag, n = 3;
	uint64_t refs[3];
	struct raw r;

	at = begin(&r, n, refs);
	tag = r.tag;
	restart();
	come_back(&r);
	cr_assert_eq(
	    raw_again(&r, tag, WIRE_ALLOC, 0, at, &n, sizeof(n), &m), 3);
	for (unsigned i = 0; i < 3; i++)
		cr_assert_arr_eq(m.body + 16 * i, &refs[i], 8);
	cr_assert_eq(figures().used, 3);
	cr_assert_eq(raw_free(&r, at, refs, 1), 1);
	tag = r.tag;
	restart();
	come_back(&r);
	cr_assert_eq(raw_again(&r, tag, WIRE_FREE, 0, at, refs, 8, &m), 1);
	cr_assert_eq(raw_free(&r, at, refs, 1), -EALREADY);
	logout(&r);
	cr_assert_eq(figures().free, 64);
}

Test(restart, send_and_receive_answered_again)
{
	uint64_t ref, sent, out;
	struct raw r;
	uint32_t at;

	at = begin(&r, 1, &ref);
	cr_assert_eq(raw_send(&r, at, ref, &sent), 0);
	cr_assert_eq(answered_again(&r, WIRE_SEND, at, ref, 0, &out), 0);
	cr_assert_eq(out, sent);
	cr_assert_eq(raw_receive(&r, at, sent), 0);
	cr_assert_eq(answered_again(&r, WIRE_RECEIVE, at, sent, 0, NULL), 0);
	cr_assert_eq(raw_receive(&r, at, sent), -ESTALE);
	logout(&r);
	cr_assert_eq(figures().free, 64);
}

/* One receipt each, and no more. */
Test(restart, share_answered_again)
{
	uint64_t ref, shared, out;
	struct raw r;
	uint32_t at;

	at = begin(&r, 1, &ref);
	cr_assert_eq(raw_share(&r, at, ref, 5, &shared), 0);
	cr_assert_eq(answered_again(&r, WIRE_SHARE, at, ref, 5, &out), 0);
	cr_assert_eq(out, shared);
	cr_assert_eq(raw_receive(&r, at, shared), 0);
	cr_assert_eq(answered_again(&r, WIRE_RECEIVE, at, shared, 0, NULL), 0);
	cr_assert_eq(raw_recall(&r, at, shared, 2), 2);
	cr_assert_eq(answered_again(&r, WIRE_RECALL, at, shared, 2, NULL), 2);
	cr_assert_eq(raw_recall(&r, at, shared, 0), 2);
	logout(&r);
	cr_assert_eq(figures().free, 64);
}

/* One that was not served is served when it is sent again. */
Test(restart, served_again)
{
	uint64_t ref, refs[2], sent;
	struct raw_message m;
	uint32_t at, n = 2;
	struct raw r;

	at = begin(&r, 1, &ref);
	restart();
	come_back(&r);
	cr_assert_eq(
	    raw_again(&r, 1000, WIRE_ALLOC, 0, at, &n, sizeof(n), &m), 2);
	memcpy(&refs[0], m.body, 8);
	memcpy(&refs[1], m.body + 16, 8);
	cr_assert_eq(ref_again(&r, 1001, WIRE_SEND, at, ref, 0, &sent), 0);
	cr_assert_eq(ref_again(&r, 1002, WIRE_RECALL, at, sent, 0, NULL), 1);
	cr_assert_eq(raw_again(&r, 1003, WIRE_FREE, 0, at, refs, 16, NULL), 2);
	logout(&r);
	cr_assert_eq(figures().free, 64);
}

/*
 * Who pretends to send or share again, but a slot that another has, does not
 * open that one's claim: a receiver has just taken its receipt.
 */
static void
open_anothers(unsigned type)
{
	uint64_t ref, sent, out;
	struct raw a, liar;
	struct raw_lane l;
	uint32_t at;

	begin_lane(&a, &l, 1, &ref);
	if (type == WIRE_SEND)
		cr_assert_eq(raw_send(&a, l.pool.number, ref, &sent), 0);
	else
		cr_assert_eq(raw_share(&a, l.pool.number, ref, 1, &sent), 0);
	cr_assert_eq(claim_take(l.claims, sent, 1), 1);
	login(&liar, "liar");
	at = attach(&liar, "p");
	/* Under a tag that answers nothing, and under that of a good answer. */
	cr_assert_lt(ref_again(&liar, 0, type, at, ref, 1, NULL), 0);
	cr_assert_eq(raw_receive(&liar, at, sent), -ESTALE);
	cr_assert_eq(raw_send(&liar, at, alloc_one(&liar, at), &out), 0);
	ref_again(&liar, liar.tag, type, at, ref, 1, NULL);
	cr_assert_eq(raw_receive(&liar, at, sent), -ESTALE);
	cr_assert(raw_lane_record(&l, LANE_RECEIVE, sent, 0));
	cr_assert_eq(raw_held(&a, l.pool.number, sent), 1);
	raw_lane_close(&l);
	logout(&liar);
	logout(&a);
}

Test(restart, anothers_slot_sent_again)
{
	open_anothers(WIRE_SEND);
}

Test(restart, anothers_slot_shared_again)
{
	open_anothers(WIRE_SHARE);
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

	begin_lane(&r, &l, 8, refs);
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

	begin_lane(&r, &l, 8, refs);
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

	begin_lane(&r, &l, 8, refs);
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

	at = begin(&r, 1, &ref);
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

	at = begin(&r, 1, &ref);
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

/* Until the daemon has taken all requests, and answered all but the last. */
static void
await_taken(const struct raw *r)
{
	int left;

	while (ioctl(r->fd, SIOCOUTQ, &left) == 0 && left > 0)
		sched_yield();
}

#define UNREAD 8 /* replies with descriptors, before it is asked to read */

/* Descriptors nobody reads are no more than one client may have unread. */
Test(restart, attached_again_without_reading)
{
	uint8_t body[16] = {0};
	uint32_t tag;
	struct raw r;

	serve(ONE_POOL(""));
	login(&r, "a");
	attach(&r, "p");
	tag = r.tag;
	for (unsigned i = 0; i < 2 * UNREAD; i++) {
		r.tag = tag - 1;
		raw_post(&r, WIRE_ATTACH, WIRE_AGAIN, 0, body,
		    4 + raw_name(body + 4, "p"));
	}
	await_taken(&r);
	for (unsigned i = 0; i < 2 * UNREAD; i++)
		cr_assert_eq(
		    raw_wait(&r, tag, NULL), i < UNREAD ? 0 : -EBUSY, "%u", i);
	logout(&r);
}

/* Nor are they more when the session moves on: each takes a place with it. */
Test(restart, resumed_without_reading)
{
	enum { PLACES = 3, GUESTS = 4 };
	struct raw left[PLACES + GUESTS], r;
	unsigned n = 0;

	serve("\"max_clients\": 3, " ONE_POOL(""));
	login(&r, "a");
	attach(&r, "p");
	for (;; n++) {
		for (unsigned i = 0; i < UNREAD; i++)
			raw_post(&r, WIRE_STATS, 0, 0, NULL, 0);
		await_taken(&r);
		leave(&r, &left[n]);
		if (raw_reopen(&r, server.socket, "moved") != 1)
			break;
		cr_assert_lt(n + 1, PLACES + GUESTS, "there is no end to it");
	}
	cr_assert_geq(n, PLACES - 1);
	/* Who could not move on still is where it was. */
	raw_close(&r);
	logout(&left[n]);
	for (unsigned i = 0; i < n; i++)
		raw_close(&left[i]);
}

/* A client that hangs up while it resumes has asked for nothing yet. */
Test(restart, resumed_in_several_tries)
{
	uint64_t refs[8];
	struct raw_lane l;
	struct raw_stats s;
	struct raw r, looks;

	begin_lane(&r, &l, 8, refs);
	restart();
	login(&looks, "looks");
	for (int i = 0; i < 4; i++) {
		come_back(&r);
		raw_post(&r, WIRE_RESUME, 0, l.pool.number, NULL, 0);
		/* With its answer on the way, and before that. */
		if (i % 2 == 0)
			poll(&(struct pollfd){r.fd, POLLIN, 0}, 1, -1);
		raw_close(&r);
		STATS_UNTIL(&looks, "p", s, s.quarantined > 0);
	}
	come_back(&r);
	cr_assert_eq(raw_resume_lane(&r, &l), 0);
	s = stats_of(&looks, "p");
	cr_assert_eq(s.clients, 1);
	cr_assert_eq(s.quarantined, 0);
	cr_assert_eq(s.used, 8);
	cr_assert_eq(raw_free(&r, l.pool.number, refs, 8), 8);
	raw_lane_close(&l);
	logout(&r);
	raw_close(&looks);
	cr_assert_eq(figures().free, 64);
}

/* Two users, neither of whom may have more places than there are. */
#define AWAY	 54321
#define NEWCOMER 54322

static bool
become(uid_t uid)
{
	return setgroups(0, NULL) == 0 && setgid(uid) == 0 &&
	       setuid(uid) == 0 && prctl(PR_SET_PDEATHSIG, SIGKILL) == 0;
}

/* Each byte it hears is a command to go on, and it tells what came of that. */
static int
go_and_return(int control, void *arg)
{
	struct raw_pool p;
	struct raw r;
	char go;
	int err;

	(void)arg;
	if (!become(AWAY) || raw_open(&r, server.socket, "away") != 0)
		return 1;
	err = raw_attach(&r, "p", 0, &p);
	tell(control, &err, sizeof(err));
	hear(control, &go, 1);
	err = raw_reopen(&r, server.socket, "returns");
	if (err == 1)
		err = raw_resume(&r, p.number);
	tell(control, &err, sizeof(err));
	hear(control, &go, 1);
	return 0;
}

static int
crowd_in(int control, void *arg)
{
	struct raw r[2];
	int err[2];
	char go;

	(void)arg;
	if (!become(NEWCOMER))
		return 1;
	for (int i = 0; i < 2; i++)
		err[i] = raw_open(&r[i], server.socket, "newcomer");
	tell(control, err, sizeof(err));
	hear(control, &go, 1);
	return 0;
}

/* His place is his, whoever comes before him. */
Test(restart, who_is_away_keeps_his_place)
{
	int away, crowd, err[2] = {1, 1};
	pid_t one, other;

	if (geteuid() != 0)
		cr_skip_test("only root can be several users");
	serve("\"max_clients\": 2, " ONE_POOL(""));
	one = spawn(go_and_return, NULL, &away);
	cr_assert_eq(hear(away, err, sizeof(err[0])), 0);
	cr_assert_eq(err[0], 0);
	restart();
	other = spawn(crowd_in, NULL, &crowd);
	cr_assert_eq(hear(crowd, err, sizeof(err)), 0);
	cr_assert_eq(err[0], 0);
	cr_assert_lt(err[1], 0, "there was one place, and it was taken");
	tell(away, "", 1);
	cr_assert_eq(hear(away, err, sizeof(err[0])), 0);
	cr_assert_eq(err[0], 0, "turned away: %d", err[0]);
	close(away);
	close(crowd);
	cr_assert_eq(reap(one), 0);
	cr_assert_eq(reap(other), 0);
}

/* The ledger, to be spoilt. */
static int
open_ledger(void)
{
	char path[128];
	int fd;

	snprintf(path, sizeof(path), "/dev/shm/%sp.ledger", server.prefix);
	fd = open(path, O_RDWR);
	cr_assert_geq(fd, 0, "%s", path);
	return fd;
}

static void
spoil(size_t at, const void *bytes, size_t len)
{
	int fd = open_ledger();

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
	spoil(104, boot, sizeof(boot));
	expect_rebuilt();
}

Test(restart, never_finished)
{
	uint64_t none = 0;

	leave_something();
	spoil(0, &none, sizeof(none));
	expect_rebuilt();
}

/* As it is when its maker is killed between its name and its size. */
Test(restart, never_begun)
{
	int fd;

	leave_something();
	fd = open_ledger();
	cr_assert_eq(ftruncate(fd, 0), 0);
	close(fd);
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

/* A client with a lane that has all there is. */
static void
hoard(struct raw *r, struct raw_lane *l, uint64_t all[256])
{
	serve(ONE_POOL(""));
	login(r, "a");
	lane_of(r, l);
	cr_assert_eq(
	    raw_wait_alloc(r, raw_post_alloc(r, l->pool.number, 256), all),
	    256);
}

/* Who waited goes on waiting, and gets what comes from one who is away. */
Test(restart, who_waits)
{
	uint64_t all[256], got[2];
	struct raw_lane l;
	struct raw a, b;
	uint32_t bt, tag;

	hoard(&a, &l, all);
	login(&b, "b");
	bt = attach(&b, "p");
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

/*
 * The same without a restart, when a second connection takes the session and
 * ends. Somebody waits already, so nothing else has the lane looked at.
 */
Test(restart, who_waits_for_one_whose_bell_is_gone)
{
	uint64_t all[256], got;
	struct raw_lane l;
	struct raw_stats s;
	struct raw a, b, second;
	uint32_t bt, tag;

	hoard(&a, &l, all);
	login(&b, "b");
	bt = attach(&b, "p");
	tag = raw_post_alloc(&b, bt, 1);
	STATS_UNTIL(&b, "p", s, s.waiters == 1);
	cr_assert_eq(raw_connect(&second, server.socket), 0);
	second.session = a.session;
	second.token = a.token;
	cr_assert_eq(raw_hello(&second, "second"), 0);
	raw_close(&second);
	STATS_UNTIL(&b, "p", s, s.quarantined == 256);
	cr_assert(raw_lane_record(&l, LANE_FREE, all[0], 0));
	raw_lane_bell(&l);
	cr_assert_eq(raw_wait_alloc(&b, tag, &got), 1);
	logout(&b);
	raw_close(&a);
	raw_lane_close(&l);
}

/* Whoever has much to say must know that a successor that is idle sleeps. */
Test(restart, bell_of_a_daemon_killed_awake)
{
	struct raw_lane l;
	struct raw r;

	serve(ONE_POOL(""));
	login(&r, "a");
	lane_of(&r, &l);
	cr_assert_eq(server_kill(&server), 0);
	store_relaxed(&l.lane.header->sleeping, 0);
	bring_back();
	cr_assert_eq(load_relaxed(&l.lane.header->sleeping), 1);
	come_back(&r);
	raw_lane_close(&l);
	logout(&r);
}
