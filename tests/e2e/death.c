/*
 * What becomes of slots when a client ends, in whatever way and at whatever
 * moment. Clients that are to die are processes of their own.
 */
#include "config.h"

#include <stdio.h>
#include <sys/wait.h>

#include "e2e.h"

static struct raw watcher;

/* `orphans` is a number of seconds. */
static void
start(const char *orphans)
{
	char text[256];

	snprintf(text, sizeof(text),
	    "\"pools\": [{\"name\": \"p\", \"slot_size\": 64, "
	    "\"slots_per_segment\": 16, \"max_segments\": 1, "
	    "\"orphan_seconds\": %s}]",
	    orphans);
	serve(text);
	login(&watcher, "watcher");
}

static void
stop(void)
{
	cr_assert_eq(raw_audit(&watcher), 0);
	raw_close(&watcher);
	finish();
}

static void
start_short(void)
{
	start("1");
}

static void
start_long(void)
{
	start("3600");
}

/* Orphans expire while the test looks. */
TestSuite(death, .timeout = 60, .init = start_short, .fini = stop);
/* Orphans stay as long as the test. */
TestSuite(orphans, .timeout = 60, .init = start_long, .fini = stop);

/* A client at its work: what it has, and one ref for the parent. */
struct victim {
	unsigned hold, send, share;
	bool wait;  /* for more slots than there are */
	bool fork;  /* a child of it keeps the socket */
	bool close; /* and lives on without the socket */
};

static int
work(struct raw *r, uint32_t at, const struct victim *v, uint64_t *last)
{
	uint64_t ref;

	*last = 0;
	for (unsigned i = 0; i < v->hold; i++)
		if (raw_alloc(r, at, 1, last) != 1)
			return -1;
	for (unsigned i = 0; i < v->send; i++)
		if (raw_alloc(r, at, 1, &ref) != 1 ||
		    raw_send(r, at, ref, last) != 0)
			return -1;
	for (unsigned i = 0; i < v->share; i++)
		if (raw_alloc(r, at, 1, &ref) != 1 ||
		    raw_share(r, at, ref, 2, last) != 0)
			return -1;
	if (v->wait)
		raw_post_alloc(r, at, 16);
	/* Served after the wait was put in the queue. */
	return raw_ping(r);
}

static int
victim(int control, void *arg)
{
	const struct victim *v = arg;
	struct raw_pool p;
	uint64_t last;
	struct raw r;

	if (raw_open(&r, server.socket, "victim") != 0 ||
	    raw_attach(&r, "p", 0, &p) != 0 ||
	    work(&r, p.number, v, &last) != 0)
		return 1;
	/* The child keeps both sockets, and ends when the test closes ours. */
	if (v->fork && fork() == 0) {
		while (hear(control, &last, sizeof(last)) == 0)
			;
		return 0;
	}
	if (v->close)
		raw_close(&r);
	if (tell(control, &last, sizeof(last)) != 0)
		return 1;
	while (hear(control, &last, sizeof(last)) == 0)
		;
	return 0;
}

/* A victim that has what it should; its pid, and the last ref it made. */
static pid_t
start_victim(const struct victim *v, int *control, uint64_t *last)
{
	pid_t pid = spawn(victim, (void *)(uintptr_t)v, control);

	cr_assert_eq(hear(*control, last, sizeof(*last)), 0);
	return pid;
}

static void
kill_victim(pid_t pid, int control)
{
	kill(pid, SIGKILL);
	cr_assert_eq(reap(pid), 128 + SIGKILL);
	close(control);
}

Test(death, holding)
{
	struct victim v = {.hold = 16};
	struct raw_stats s;
	uint64_t last;
	int control;
	pid_t pid = start_victim(&v, &control, &last);

	cr_assert_eq(stats_of(&watcher, "p").used, 16);
	kill_victim(pid, control);
	STATS_UNTIL(&watcher, "p", s, s.free == 16);
	cr_assert_eq(s.reclaimed_total, 16);
	cr_assert_eq(s.clients, 0);
}

Test(death, holding_sending_sharing_waiting)
{
	struct victim v = {.hold = 3, .send = 4, .share = 5, .wait = true};
	struct raw_stats s;
	uint64_t last;
	int control;
	pid_t pid = start_victim(&v, &control, &last);

	s = stats_of(&watcher, "p");
	cr_assert_eq(s.used, 8);
	cr_assert_eq(s.in_flight, 4);
	cr_assert_eq(s.waiters, 1);
	kill_victim(pid, control);
	STATS_UNTIL(&watcher, "p", s, s.used == 0);
	cr_assert_eq(s.in_flight, 9, "nobody has received them: orphans");
	cr_assert_eq(s.waiters, 0);
	cr_assert_eq(raw_audit(&watcher), 0);
	STATS_UNTIL(&watcher, "p", s, s.free == 16);
}

Test(death, an_orphan_expires)
{
	struct victim v = {.send = 1};
	uint32_t at = attach(&watcher, "p");
	struct raw_stats s;
	uint64_t ref;
	int control;
	pid_t pid = start_victim(&v, &control, &ref);

	kill_victim(pid, control);
	STATS_UNTIL(&watcher, "p", s, s.free == 16);
	cr_assert_eq(raw_receive(&watcher, at, ref), -ESTALE);
}

Test(orphans, are_received)
{
	struct victim v = {.hold = 2, .share = 1};
	uint32_t at = attach(&watcher, "p"), other = attach(&watcher, "p");
	struct raw_stats s;
	uint64_t ref;
	int control;
	pid_t pid = start_victim(&v, &control, &ref);

	cr_assert_eq(raw_receive(&watcher, at, ref), 0);
	kill_victim(pid, control);
	STATS_UNTIL(&watcher, "p", s, s.used == 1);
	cr_assert_eq(raw_receive(&watcher, other, ref), 0);
	cr_assert_eq(raw_receive(&watcher, other, ref), -ESTALE);
	cr_assert_eq(raw_free(&watcher, at, &ref, 1), 1);
	cr_assert_eq(stats_of(&watcher, "p").used, 1);
	cr_assert_eq(raw_free(&watcher, other, &ref, 1), 1);
	cr_assert_eq(stats_of(&watcher, "p").free, 16);
}

Test(orphans, nobody_else_recalls_them)
{
	struct victim v = {.send = 1};
	uint32_t at = attach(&watcher, "p");
	struct raw_stats s;
	uint64_t ref;
	int control;
	pid_t pid = start_victim(&v, &control, &ref);

	kill_victim(pid, control);
	STATS_UNTIL(&watcher, "p", s, s.clients == 1);
	cr_assert_eq(raw_recall(&watcher, at, ref, 0), -EPERM);
	cr_assert_eq(raw_receive(&watcher, at, ref), 0);
}

/* Oldest first, and only as many as are needed. */
Test(orphans, make_room)
{
	struct victim v = {.send = 4};
	uint32_t at = attach(&watcher, "p");
	uint64_t old, young, refs[16];
	struct raw_stats s;
	int control;
	pid_t pid = start_victim(&v, &control, &old);

	kill_victim(pid, control);
	STATS_UNTIL(&watcher, "p", s, s.clients == 1);
	pid = start_victim(&v, &control, &young);
	kill_victim(pid, control);
	STATS_UNTIL(&watcher, "p", s, s.clients == 1);
	cr_assert_eq(s.in_flight, 8);
	cr_assert_eq(raw_alloc(&watcher, at, 8, refs), 8);
	cr_assert_eq(stats_of(&watcher, "p").in_flight, 8);
	for (int i = 8; i < 12; i++)
		refs[i] = alloc_one(&watcher, at);
	cr_assert_eq(stats_of(&watcher, "p").in_flight, 4);
	cr_assert_eq(raw_audit(&watcher), 0);
	cr_assert_eq(raw_receive(&watcher, at, old), -ESTALE);
	cr_assert_eq(raw_receive(&watcher, at, young), 0);
	/* One of four left was received, three make room. */
	for (int i = 0; i < 3; i++)
		alloc_one(&watcher, at);
	cr_assert_eq(raw_alloc(&watcher, at, 1, refs), -ENOBUFS);
	cr_assert_eq(stats_of(&watcher, "p").used, 16);
}

/* Those who wait are served by orphans that a client leaves just then. */
Test(orphans, make_room_for_who_waits)
{
	struct victim v = {.send = 16};
	uint32_t at = attach(&watcher, "p"), tag;
	uint64_t last, refs[16];
	struct raw_stats s;
	int control;
	pid_t pid = start_victim(&v, &control, &last);

	tag = raw_post_alloc(&watcher, at, 2);
	cr_assert_eq(raw_ping(&watcher), 0);
	cr_assert_eq(stats_of(&watcher, "p").waiters, 1);
	kill_victim(pid, control);
	cr_assert_eq(raw_wait_alloc(&watcher, tag, refs), 2);
	s = stats_of(&watcher, "p");
	cr_assert_eq(s.used, 2);
	cr_assert_eq(s.in_flight, 14);
}

Test(orphans, of_a_polite_client)
{
	struct raw r;
	uint32_t at, mine = attach(&watcher, "p");
	uint64_t refs[3], out;

	login(&r, "polite");
	at = attach(&r, "p");
	cr_assert_eq(raw_alloc(&r, at, 3, refs), 3);
	cr_assert_eq(raw_send(&r, at, refs[0], &out), 0);
	logout(&r);
	/* BYE was answered, so it is all done. */
	cr_assert_eq(stats_of(&watcher, "p").free, 15);
	cr_assert_eq(raw_receive(&watcher, mine, out), 0);
}

/* The receiver of a sent slot dies: the slot is free. */
static int
receiver(int control, void *arg)
{
	struct raw_pool p;
	uint64_t ref;
	struct raw r;

	(void)arg;
	if (raw_open(&r, server.socket, "receiver") != 0 ||
	    raw_attach(&r, "p", 0, &p) != 0 ||
	    hear(control, &ref, sizeof(ref)) != 0 ||
	    raw_receive(&r, p.number, ref) != 0)
		return 1;
	tell(control, &ref, sizeof(ref));
	while (hear(control, &ref, sizeof(ref)) == 0)
		;
	return 0;
}

static void
hand_over_and_kill(uint64_t ref)
{
	int control;
	pid_t pid = spawn(receiver, NULL, &control);

	cr_assert_eq(tell(control, &ref, sizeof(ref)), 0);
	cr_assert_eq(hear(control, &ref, sizeof(ref)), 0);
	kill_victim(pid, control);
}

Test(death, of_a_receiver)
{
	uint32_t at = attach(&watcher, "p");
	uint64_t ref = alloc_one(&watcher, at);
	struct raw_stats s;

	cr_assert_eq(raw_send(&watcher, at, ref, &ref), 0);
	hand_over_and_kill(ref);
	STATS_UNTIL(&watcher, "p", s, s.free == 16);
}

/* What must survive its receiver is shared: another one takes the receipt. */
Test(death, of_a_receiver_of_a_shared_slot)
{
	uint32_t at = attach(&watcher, "p"), other = attach(&watcher, "p");
	uint64_t ref = alloc_one(&watcher, at);
	struct raw_stats s;

	cr_assert_eq(raw_share(&watcher, at, ref, 2, &ref), 0);
	hand_over_and_kill(ref);
	STATS_UNTIL(&watcher, "p", s, s.clients == 2);
	cr_assert_eq(s.used, 1);
	cr_assert_eq(raw_receive(&watcher, other, ref), 0);
	cr_assert_eq(raw_free(&watcher, at, &ref, 1), 1);
	cr_assert_eq(raw_free(&watcher, other, &ref, 1), 1);
	cr_assert_eq(stats_of(&watcher, "p").free, 16);
}

/* Its memory may still be written to: nobody gets it before the process ends.
 */
Test(orphans, close_without_goodbye)
{
	struct victim v = {.hold = 5, .send = 2, .share = 1, .close = true};
	uint32_t at = attach(&watcher, "p");
	uint64_t ref, refs[16];
	struct raw_stats s;
	int control;
	pid_t pid = start_victim(&v, &control, &ref);

	STATS_UNTIL(&watcher, "p", s, s.quarantined == 6);
	cr_assert_eq(s.in_flight, 2);
	cr_assert_eq(raw_audit(&watcher), 0);
	cr_assert_eq(raw_receive(&watcher, at, ref), 0);
	cr_assert_eq(stats_of(&watcher, "p").quarantined, 5);
	cr_assert_eq(raw_alloc(&watcher, at, 16, refs), 8);
	kill_victim(pid, control);
	STATS_UNTIL(&watcher, "p", s, s.quarantined == 0);
	cr_assert_eq(s.free, 5);
	cr_assert_eq(s.in_flight, 2);
	cr_assert_eq(s.used, 9);
}

Test(orphans, quarantine_ends_with_exit)
{
	struct victim v = {.hold = 5, .wait = true, .close = true};
	struct raw_stats s;
	uint64_t last;
	int control;
	pid_t pid = start_victim(&v, &control, &last);

	STATS_UNTIL(&watcher, "p", s, s.quarantined == 5);
	cr_assert_eq(s.waiters, 0);
	close(control);
	cr_assert_eq(reap(pid), 0);
	STATS_UNTIL(&watcher, "p", s, s.free == 16);
}

/* A forked child has the socket open: the process that connected counts. */
static void
end_but_for_a_child(void)
{
	struct victim v = {.hold = 7, .fork = true};
	struct raw_stats s;
	uint64_t last;
	int control;
	pid_t pid = start_victim(&v, &control, &last);

	kill(pid, SIGKILL);
	cr_assert_eq(reap(pid), 128 + SIGKILL);
	STATS_UNTIL(&watcher, "p", s, s.free == 16);
	cr_assert_eq(s.clients, 0);
	close(control);
}

Test(orphans, fork_keeps_the_socket)
{
	end_but_for_a_child();
}

/* By descriptors that were another's, who lives. */
Test(orphans, fork_after_another_left)
{
	struct raw other;

	login(&other, "other");
	logout(&other);
	end_but_for_a_child();
}

/* Stopped is not dead, however long the others look. */
Test(death, stopped_loses_nothing)
{
	struct victim v = {.hold = 6, .send = 1}, dying = {.send = 1};
	uint32_t at = attach(&watcher, "p");
	uint64_t ref, last, refs[16];
	int control, other_control, status;
	struct raw_stats s;
	pid_t pid = start_victim(&v, &control, &ref), other;

	kill(pid, SIGSTOP);
	cr_assert_eq(waitpid(pid, &status, WUNTRACED), pid);
	cr_assert(WIFSTOPPED(status));
	for (int i = 0; i < 200; i++) {
		cr_assert_eq(raw_alloc(&watcher, at, 16, refs), 9);
		cr_assert_eq(raw_free(&watcher, at, refs, 9), 9);
	}
	/* What a dead client sent expires meanwhile, but not what it sent. */
	other = start_victim(&dying, &other_control, &last);
	kill_victim(other, other_control);
	STATS_UNTIL(&watcher, "p", s, s.in_flight == 1);
	cr_assert_eq(raw_receive(&watcher, at, last), -ESTALE);
	cr_assert_eq(s.used, 6);
	cr_assert_eq(raw_receive(&watcher, at, ref), 0);
	kill(pid, SIGCONT);
	close(control);
	cr_assert_eq(reap(pid), 0);
}

/* Sixteen clients at once, killed in one go. */
Test(orphans, many_at_once)
{
	struct victim v = {.share = 1};
	struct raw_stats s;
	uint64_t last;
	int controls[16];
	pid_t pids[16];

	for (int i = 0; i < 16; i++)
		pids[i] = start_victim(&v, &controls[i], &last);
	cr_assert_eq(stats_of(&watcher, "p").used, 16);
	for (int i = 0; i < 16; i++)
		kill(pids[i], SIGKILL);
	for (int i = 0; i < 16; i++)
		kill_victim(pids[i], controls[i]);
	STATS_UNTIL(&watcher, "p", s, s.used == 0);
	cr_assert_eq(s.in_flight, 16);
	cr_assert_eq(raw_audit(&watcher), 0);
}
