#include "config.h"

#include <errno.h>
#include <event2/event.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <time.h>

#include "event.h"
#include "log.h"

/* Callbacks served before the kernel is asked for something more urgent. */
#define LOOP_TURN 16

struct loop {
	struct event_base *base;
};

struct watch {
	struct event *event;
	struct event_base *base;
	watch_callback callback;
	void *arg;
	int priority;
};

struct timer {
	struct event *event;
	timer_callback callback;
	void *arg;
};

static void
loop_log(int severity, const char *text)
{
	if (severity == EVENT_LOG_DEBUG)
		return;
	log_warn("event", "%s", text);
}

/*
 * No changelist, so that a registration is gone when its watch is.
 */
static struct event_base *
loop_base(void)
{
	struct event_config *config = event_config_new();
	struct event_base *base = NULL;

	if (config == NULL)
		return NULL;
	if (event_config_require_features(config,
		EV_FEATURE_ET | EV_FEATURE_O1 | EV_FEATURE_EARLY_CLOSE) == 0 &&
	    event_config_set_flag(config, EVENT_BASE_FLAG_IGNORE_ENV) == 0 &&
	    event_config_set_max_dispatch_interval(
		config, NULL, LOOP_TURN, LOOP_CLIENT) == 0)
		base = event_base_new_with_config(config);
	event_config_free(config);
	return base;
}

int
loop_new(struct loop **out)
{
	struct loop *loop = malloc(sizeof(*loop));
	int rc = -ENOSYS;

	*out = NULL;
	if (loop == NULL)
		return -ENOMEM;
	event_set_log_callback(loop_log);
	signal(SIGPIPE, SIG_IGN);
	loop->base = loop_base();
	if (loop->base == NULL)
		goto free_loop;
	rc = -ENOMEM;
	if (event_base_priority_init(loop->base, LOOP_PRIORITIES) < 0)
		goto free_base;
	*out = loop;
	return 0;

free_base:
	event_base_free(loop->base);
free_loop:
	free(loop);
	return rc;
}

static int
loop_turn(struct loop *loop, int flags)
{
	errno = 0;
	if (event_base_loop(loop->base, flags) < 0)
		return errno != 0 ? -errno : -EIO;
	return 0;
}

int
loop_run(struct loop *loop)
{
	return loop_turn(loop, EVLOOP_NO_EXIT_ON_EMPTY);
}

int
loop_poll(struct loop *loop)
{
	return loop_turn(loop, EVLOOP_ONCE | EVLOOP_NONBLOCK);
}

void
loop_stop(struct loop *loop)
{
	event_base_loopbreak(loop->base);
}

void
loop_free(struct loop *loop)
{
	if (loop == NULL)
		return;
	event_base_free(loop->base);
	free(loop);
}

uint64_t
loop_now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

uint64_t
loop_now_us(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

static short
mask_to_event(unsigned mask)
{
	return (short)(EV_PERSIST | (mask & WATCH_READ ? EV_READ : 0) |
		       (mask & WATCH_WRITE ? EV_WRITE : 0) |
		       (mask & WATCH_CLOSED ? EV_CLOSED : 0) |
		       (mask & WATCH_EDGE ? EV_ET : 0));
}

static unsigned
mask_of_event(short what)
{
	return (what & EV_READ ? WATCH_READ : 0u) |
	       (what & EV_WRITE ? WATCH_WRITE : 0u) |
	       (what & EV_CLOSED ? WATCH_CLOSED : 0u);
}

static void
watch_ready(evutil_socket_t fd, short what, void *arg)
{
	struct watch *watch = arg;

	(void)fd;
	watch->callback(watch->arg, mask_of_event(what));
}

static void
watch_signalled(evutil_socket_t signo, short what, void *arg)
{
	struct watch *watch = arg;

	(void)what;
	watch->callback(watch->arg, (unsigned)signo);
}

static int
event_start(struct event *event, const struct timeval *after)
{
	errno = 0;
	if (event_add(event, after) < 0)
		return errno != 0 ? -errno : -EIO;
	return 0;
}

/* A watch whose event is assigned but not started. */
static struct watch *
watch_make(struct loop *loop, int fd, short events, int priority,
    event_callback_fn ready, watch_callback callback, void *arg)
{
	struct watch *watch = malloc(sizeof(*watch));

	if (watch == NULL)
		return NULL;
	*watch = (struct watch){.base = loop->base,
	    .callback = callback,
	    .arg = arg,
	    .priority = priority};
	watch->event = event_new(loop->base, fd, events, ready, watch);
	if (watch->event == NULL) {
		free(watch);
		return NULL;
	}
	event_priority_set(watch->event, priority);
	return watch;
}

int
watch_new(struct watch **out, struct loop *loop, int fd, unsigned mask,
    enum loop_priority priority, watch_callback callback, void *arg)
{
	struct watch *watch;
	int rc;

	*out = NULL;
	watch = watch_make(loop, fd, mask_to_event(mask), (int)priority,
	    watch_ready, callback, arg);
	if (watch == NULL)
		return -ENOMEM;
	if (mask != 0 && (rc = event_start(watch->event, NULL)) < 0) {
		watch_free(watch);
		return rc;
	}
	*out = watch;
	return 0;
}

int
watch_signal(struct watch **out, struct loop *loop, int signo,
    watch_callback callback, void *arg)
{
	struct watch *watch;
	int rc;

	*out = NULL;
	watch = watch_make(loop, signo, EV_SIGNAL | EV_PERSIST, LOOP_CONTROL,
	    watch_signalled, callback, arg);
	if (watch == NULL)
		return -ENOMEM;
	rc = event_start(watch->event, NULL);
	if (rc < 0) {
		watch_free(watch);
		return rc;
	}
	*out = watch;
	return 0;
}

int
watch_set(struct watch *watch, unsigned mask)
{
	short events = mask_to_event(mask);
	bool waiting = event_pending(watch->event,
			   EV_READ | EV_WRITE | EV_CLOSED, NULL) != 0;

	if (events == event_get_events(watch->event) && waiting == (mask != 0))
		return 0;
	event_del(watch->event);
	event_assign(watch->event, watch->base, event_get_fd(watch->event),
	    events, watch_ready, watch);
	event_priority_set(watch->event, watch->priority);
	return mask == 0 ? 0 : event_start(watch->event, NULL);
}

void
watch_wake(struct watch *watch, unsigned what)
{
	event_active(watch->event, mask_to_event(what) & ~EV_PERSIST, 1);
}

void
watch_free(struct watch *watch)
{
	if (watch == NULL)
		return;
	event_free(watch->event);
	free(watch);
}

static void
timer_fired(evutil_socket_t fd, short what, void *arg)
{
	struct timer *timer = arg;

	(void)fd;
	(void)what;
	timer->callback(timer->arg);
}

int
timer_new(
    struct timer **out, struct loop *loop, timer_callback callback, void *arg)
{
	struct timer *timer = malloc(sizeof(*timer));

	*out = NULL;
	if (timer == NULL)
		return -ENOMEM;
	timer->callback = callback;
	timer->arg = arg;
	timer->event = event_new(loop->base, -1, 0, timer_fired, timer);
	if (timer->event == NULL) {
		free(timer);
		return -ENOMEM;
	}
	event_priority_set(timer->event, LOOP_CONTROL);
	*out = timer;
	return 0;
}

int
timer_start(struct timer *timer, uint32_t ms)
{
	struct timeval after = {
	    .tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000};

	return event_start(timer->event, &after);
}

int
timer_ensure(struct timer *timer, uint32_t ms)
{
	return event_pending(timer->event, EV_TIMEOUT, NULL)
		   ? 0
		   : timer_start(timer, ms);
}

void
timer_stop(struct timer *timer)
{
	event_del(timer->event);
}

void
timer_free(struct timer *timer)
{
	if (timer == NULL)
		return;
	event_free(timer->event);
	free(timer);
}
