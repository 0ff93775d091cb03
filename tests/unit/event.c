#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/time.h>

#include "daemon/event.h"
#include "daemon/log.h"
#include "scratch.h"

static struct loop *loop;
static struct watch *watch, *other;
static struct timer *timer;
static int ends[2]; /* a connected pair; the loop watches the first */

static char order[64]; /* what was called, one letter each */
static unsigned last;  /* what the last callback was told */

static void
start(void)
{
	scratch_open();
	log_open(SLABD_LOG_ERROR, NULL);
	cr_assert_eq(loop_new(&loop), 0);
	cr_assert_eq(
	    socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, ends), 0);
}

static void
stop(void)
{
	watch_free(watch);
	watch_free(other);
	timer_free(timer);
	loop_free(loop);
	scratch_close();
}

TestSuite(event, .timeout = 20, .init = start, .fini = stop);

static void
note(void *arg, unsigned what)
{
	last = what;
	strcat(order, arg);
}

static void
note_timer(void *arg)
{
	strcat(order, arg);
}

static void
note_and_stop(void *arg)
{
	strcat(order, arg);
	loop_stop(loop);
}

static const char *
polled(void)
{
	static char copy[sizeof(order)];

	cr_assert_eq(loop_poll(loop), 0);
	strcpy(copy, order);
	order[0] = '\0';
	return copy;
}

static void
send_one(void)
{
	cr_assert_eq(send(ends[1], "x", 1, 0), 1);
}

Test(event, tells_what_happened)
{
	char byte;

	cr_assert_eq(watch_new(&watch, loop, ends[0], WATCH_READ, LOOP_CLIENT,
			 note, "a"),
	    0);
	cr_assert_str_eq(polled(), "");
	send_one();
	cr_assert_str_eq(polled(), "a");
	cr_assert_eq(last, WATCH_READ);
	cr_assert_str_eq(polled(), "a"); /* still readable */
	cr_assert_eq(recv(ends[0], &byte, 1, 0), 1);
	cr_assert_str_eq(polled(), "");
	cr_assert_eq(watch_set(watch, WATCH_READ | WATCH_WRITE), 0);
	cr_assert_str_eq(polled(), "a");
	cr_assert_eq(last, WATCH_WRITE);
	cr_assert_eq(watch_set(watch, 0), 0);
	send_one();
	cr_assert_str_eq(polled(), "");
	cr_assert_eq(watch_set(watch, WATCH_READ), 0);
	cr_assert_str_eq(polled(), "a");
	cr_assert_eq(last, WATCH_READ);
}

Test(event, may_start_with_nothing_to_wait_for)
{
	cr_assert_eq(
	    watch_new(&watch, loop, ends[0], 0, LOOP_CLIENT, note, "a"), 0);
	send_one();
	cr_assert_str_eq(polled(), "");
	cr_assert_eq(watch_set(watch, WATCH_READ), 0);
	cr_assert_str_eq(polled(), "a");
}

/* The end of a peer is seen although nobody reads what it sent. */
Test(event, closed_behind_unread_messages)
{
	cr_assert_eq(watch_new(&watch, loop, ends[0], WATCH_CLOSED, LOOP_CLIENT,
			 note, "a"),
	    0);
	send_one();
	cr_assert_str_eq(polled(), "");
	close(ends[1]);
	cr_assert_str_eq(polled(), "a");
	cr_assert_eq(last, WATCH_CLOSED);
}

/* A doorbell: rung, never read, and every ring after the last look counts. */
Test(event, edge_needs_no_reading)
{
	int bell = eventfd(0, EFD_NONBLOCK);

	cr_assert_eq(watch_new(&watch, loop, bell, WATCH_READ | WATCH_EDGE,
			 LOOP_CLIENT, note, "a"),
	    0);
	cr_assert_str_eq(polled(), "");
	for (int i = 0; i < 5; i++) {
		cr_assert_eq(eventfd_write(bell, 1), 0);
		cr_assert_str_eq(polled(), "a");
		cr_assert_eq(last, WATCH_READ);
		cr_assert_str_eq(polled(), "");
	}
}

static void
note_and_read(void *arg, unsigned what)
{
	char byte;

	note(arg, what);
	recv(*(char *)arg == 'd' ? ends[0] : ends[1], &byte, 1, 0);
}

/* All three are ready at once, in the wrong order. */
Test(event, priorities)
{
	cr_assert_eq(watch_new(&watch, loop, ends[0], WATCH_READ, LOOP_DOCUMENT,
			 note_and_read, "d"),
	    0);
	cr_assert_eq(watch_new(&other, loop, ends[1], WATCH_READ, LOOP_CLIENT,
			 note_and_read, "c"),
	    0);
	cr_assert_eq(timer_new(&timer, loop, note_timer, "t"), 0);
	for (int i = 0; i < 2; i++) {
		send_one();
		cr_assert_eq(send(ends[0], "x", 1, 0), 1);
		cr_assert_eq(timer_start(timer, 0), 0);
		cr_assert_str_eq(polled(), "tcd");
		/* Once more, for watch_set() keeps the priority. */
		cr_assert_eq(watch_set(watch, 0), 0);
		cr_assert_eq(watch_set(watch, WATCH_READ), 0);
	}
}

Test(event, wake_without_an_event)
{
	cr_assert_eq(watch_new(&watch, loop, ends[0], WATCH_READ, LOOP_CLIENT,
			 note, "a"),
	    0);
	watch_wake(watch, WATCH_WRITE);
	cr_assert_str_eq(polled(), "a");
	cr_assert_eq(last, WATCH_WRITE);
	cr_assert_str_eq(polled(), "");
	watch_wake(watch, WATCH_READ);
	watch_free(watch);
	watch = NULL;
	cr_assert_str_eq(polled(), "");
}

Test(event, what_cannot_be_waited_for)
{
	int fd = open("/proc/self/exe", O_RDONLY);

	cr_assert_eq(
	    watch_new(&watch, loop, fd, WATCH_READ, LOOP_CLIENT, note, "a"),
	    -EPERM);
	cr_assert_null(watch);
	cr_assert_eq(
	    watch_new(&watch, loop, 1000, WATCH_READ, LOOP_CLIENT, note, "a"),
	    -EBADF);
	close(fd);
}

static void
free_both(void *arg, unsigned what)
{
	note(arg, what);
	watch_free(watch);
	watch_free(other);
	watch = other = NULL;
}

/* Both are ready in the same round; the first frees itself and the other. */
Test(event, freed_watch_is_not_called)
{
	int pair[2];

	socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair);
	send_one();
	send(pair[1], "x", 1, 0);
	cr_assert_eq(watch_new(&watch, loop, ends[0], WATCH_READ, LOOP_CLIENT,
			 free_both, "a"),
	    0);
	cr_assert_eq(watch_new(&other, loop, pair[0], WATCH_READ, LOOP_CLIENT,
			 free_both, "a"),
	    0);
	cr_assert_str_eq(polled(), "a");
	cr_assert_null(watch);
}

/* A duplicate elsewhere keeps a descriptor's registration in the kernel. */
Test(event, freed_watch_is_gone_from_the_kernel)
{
	int bell = eventfd(0, EFD_NONBLOCK), duplicate = dup(bell);

	cr_assert_eq(
	    watch_new(&watch, loop, bell, WATCH_READ, LOOP_CLIENT, note, "a"),
	    0);
	watch_free(watch);
	watch = NULL;
	close(bell);
	cr_assert_eq(dup2(ends[0], bell), bell);
	cr_assert_eq(
	    watch_new(&watch, loop, bell, WATCH_READ, LOOP_CLIENT, note, "b"),
	    0);
	eventfd_write(duplicate, 1);
	cr_assert_str_eq(polled(), "");
	send_one();
	cr_assert_str_eq(polled(), "b");
}

Test(event, signals)
{
	cr_assert_eq(watch_signal(&watch, loop, SIGHUP, note, "h"), 0);
	cr_assert_eq(watch_signal(&other, loop, SIGTERM, note, "t"), 0);
	kill(getpid(), SIGTERM);
	cr_assert_str_eq(polled(), "t");
	cr_assert_eq(last, SIGTERM);
	kill(getpid(), SIGHUP);
	cr_assert_str_eq(polled(), "h");
	kill(getpid(), SIGPIPE); /* does no harm */
	cr_assert_str_eq(polled(), "");
}

/* A tick of the kernel's clock early is not early. */
Test(event, timer_fires_once_and_not_early)
{
	uint64_t before = loop_now_ms();

	cr_assert_eq(timer_new(&timer, loop, note_and_stop, "t"), 0);
	cr_assert_eq(timer_start(timer, 5), 0);
	cr_assert_eq(timer_start(timer, 30), 0);
	cr_assert_eq(loop_run(loop), 0);
	cr_assert_geq(loop_now_ms() - before, 20);
	cr_assert_str_eq(polled(), "t");
	cr_assert_str_eq(polled(), "");
}

Test(event, stopped_timer_does_not_fire)
{
	struct timer *late;

	cr_assert_eq(timer_new(&timer, loop, note_timer, "t"), 0);
	cr_assert_eq(timer_new(&late, loop, note_and_stop, "l"), 0);
	cr_assert_eq(timer_start(timer, 1), 0);
	timer_stop(timer);
	timer_stop(timer);
	cr_assert_eq(timer_start(late, 5), 0);
	cr_assert_eq(loop_run(loop), 0);
	timer_free(late);
	cr_assert_str_eq(polled(), "l");
}

static void
stop_loop(void *arg, unsigned what)
{
	note(arg, what);
	loop_stop(loop);
}

static int
idle_child(void *arg)
{
	struct itimerval soon = {.it_value = {.tv_usec = 50000}};

	(void)arg;
	CHECK(loop_new(&loop) == 0);
	setitimer(ITIMER_REAL, &soon, NULL);
	return loop_run(loop);
}

/* Only a signal ends it. */
Test(event, runs_without_anything_to_do)
{
	cr_assert_eq(child_wait(child_start(idle_child, NULL)), -SIGALRM);
}

Test(event, runs_until_stopped)
{
	cr_assert_eq(watch_new(&watch, loop, ends[0], WATCH_READ, LOOP_CLIENT,
			 stop_loop, "a"),
	    0);
	send_one();
	cr_assert_eq(loop_run(loop), 0);
	cr_assert_str_eq(order, "a");
	cr_assert_eq(loop_run(loop), 0);
	cr_assert_str_eq(order, "aa");
}

Test(event, null_is_accepted)
{
	watch_free(NULL);
	timer_free(NULL);
	loop_free(NULL);
}
