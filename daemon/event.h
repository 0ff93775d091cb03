/*
 * The event loop: descriptors, signals and timers, each with one callback.
 *
 * This file and event.c are the only ones that know libevent. The daemon has
 * one loop and one thread; every function here belongs to that thread. The loop
 * has no periodic timers: with nothing to do it sleeps for ever.
 *
 * A descriptor's watch is freed *before* the descriptor is closed. A duplicate
 * in another process keeps the kernel's registration alive, which could then
 * neither be removed nor told from a newer one.
 *
 * Callbacks may create, change and free any watch and timer, their own too. A
 * freed one is not called again, even if its event had already happened.
 */
#ifndef SLABD_DAEMON_EVENT_H
#define SLABD_DAEMON_EVENT_H

#include <stdint.h>

struct loop;
struct watch;
struct timer;

/* What a watch waits for, and what its callback is told. */
#define WATCH_READ   0x1u
#define WATCH_WRITE  0x2u
#define WATCH_CLOSED 0x4u /* the peer hung up, even behind unread messages */
#define WATCH_EDGE   0x8u /* only changes count; with the others, never told */

/* Of what is ready at once, lower numbers are served first. */
enum loop_priority {
	LOOP_CONTROL,	/* signals and timers */
	LOOP_CLIENT,	/* deaths, connections and requests */
	LOOP_DOCUMENT,	/* what may take long: documents */
	LOOP_PRIORITIES /* how many */
};

typedef void (*watch_callback)(void *arg, unsigned what);
typedef void (*timer_callback)(void *arg);

/* Also makes the process ignore SIGPIPE. 0, -ENOMEM or -ENOSYS. */
int loop_new(struct loop **out);
/* Serves until loop_stop(); 0 or -errno. */
int loop_run(struct loop *loop);
/* Serves what is ready now and returns without waiting; 0 or -errno. */
int loop_poll(struct loop *loop);
/* Makes loop_run() return after the callback that is running. */
void loop_stop(struct loop *loop);
/* Every watch and timer must be freed before. NULL is accepted. */
void loop_free(struct loop *loop);
/* Milliseconds, and microseconds, of the monotonic clock. */
uint64_t loop_now_ms(void);
uint64_t loop_now_us(void);

/*
 * Watches `fd` for the events in `mask`, which may be 0. The descriptor stays
 * the caller's. 0, -ENOMEM, or what epoll_ctl(2) gave, such as -EPERM for a
 * descriptor that cannot be waited for.
 */
int watch_new(struct watch **out, struct loop *loop, int fd, unsigned mask,
    enum loop_priority priority, watch_callback callback, void *arg);
/* Watches a signal; `what` is its number. Deliveries may be merged. */
int watch_signal(struct watch **out, struct loop *loop, int signo,
    watch_callback callback, void *arg);
/* Waits for `mask` from now on; 0 or -errno. Not for signals. */
int watch_set(struct watch *watch, unsigned mask);
/* Has the callback called in the next round, as if `what` had happened. */
void watch_wake(struct watch *watch, unsigned what);
/* NULL is accepted. */
void watch_free(struct watch *watch);

/* A timer, not running. 0 or -ENOMEM. */
int timer_new(
    struct timer **out, struct loop *loop, timer_callback callback, void *arg);
/*
 * Fires once, `ms` milliseconds from now, to a tick of the kernel's clock (10
 * at most); replaces an earlier start. 0 or -ENOMEM.
 */
int timer_start(struct timer *timer, uint32_t ms);
/* The same, if it does not run yet. */
int timer_ensure(struct timer *timer, uint32_t ms);
void timer_stop(struct timer *timer);
/* NULL is accepted. */
void timer_free(struct timer *timer);

#endif
