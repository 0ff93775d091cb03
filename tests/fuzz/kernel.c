/*
 * The kernel's part in an attachment, linked with --wrap: objects that are no
 * files but memory that was there before, doorbells without a descriptor, and a
 * clock that stands still.
 *
 * Each is declared by the header of what it stands for, so that one which does
 * not fit does not compile.
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "barrier.h"
#include "daemon/event.h"
#include "daemon/guard.h"
#include "daemon/headroom.h"
#include "daemon/region.h"
#include "input.h"
#include "world.h"

#define FAKE	 1000000 /* the first object's descriptor; there is none */
#define DOORBELL (FAKE + LANES)
#define NOW_MS	 UINT64_C(1000000)

#define WRAP(name) extern __typeof__(name) __real_##name, __wrap_##name

WRAP(region_create);
WRAP(region_open);
WRAP(region_unlink);
WRAP(region_close);
WRAP(region_size);
WRAP(guard_map);
WRAP(guard_unmap);
WRAP(posix_fallocate);
WRAP(fallocate);
WRAP(eventfd);
WRAP(close);
WRAP(headroom);
WRAP(watch_new);
WRAP(watch_wake);
WRAP(timer_start);
WRAP(loop_now_ms);
WRAP(loop_now_us);
WRAP(pool_look_at_clock);
WRAP(barrier_all);
WRAP(client_attach);
WRAP(client_fail);

/* A lane's: each a block of its own, so that its ends are watched. */
struct object {
	uint8_t *memory;
	char name[REGION_NAME_MAX]; /* "": none */
	bool open;
};

static bool playing;
static struct object objects[LANES];
static uint64_t object_bytes;

void
kernel_play(bool play)
{
	playing = play;
}

void
kernel_reserve(uint64_t lane_bytes)
{
	object_bytes = lane_bytes;
	for (int i = 0; i < LANES; i++)
		must(posix_memalign((void **)&objects[i].memory, LANE_PAGE,
			 lane_bytes) == 0,
		    "memory");
}

void
kernel_release(void)
{
	for (int i = 0; i < LANES; i++)
		free(objects[i].memory);
}

/* NULL: it is a real one. */
static struct object *
object_of(int fd)
{
	return fd >= FAKE && fd < DOORBELL ? &objects[fd - FAKE] : NULL;
}

static struct region
object_open(struct object *o)
{
	struct region r = {.kind = REGION_POSIX,
	    .fd = FAKE + (int)(o - objects),
	    .bytes = object_bytes,
	    .page_bytes = LANE_PAGE};

	memcpy(r.name, o->name, sizeof(r.name));
	o->open = true;
	return r;
}

int
__wrap_region_create(
    struct region *r, const char *name, uint64_t bytes, enum region_kind kind)
{
	struct object *o = objects;

	if (!playing)
		return __real_region_create(r, name, bytes, kind);
	must(bytes == object_bytes && kind == REGION_POSIX, "no lane's object");
	while (o->name[0] != '\0' || o->open)
		must(++o < objects + LANES, "more lanes than clients");
	memset(o->memory, 0, bytes);
	strncpy(o->name, name, sizeof(o->name) - 1);
	*r = object_open(o);
	return 0;
}

int
__wrap_region_open(struct region *r, const char *name)
{
	if (!playing)
		return __real_region_open(r, name);
	for (int i = 0; i < LANES; i++)
		if (strcmp(objects[i].name, name) == 0) {
			*r = object_open(&objects[i]);
			return 0;
		}
	r->fd = -1;
	return -ENOENT;
}

void
__wrap_region_unlink(struct region *r)
{
	struct object *o = object_of(r->fd);

	if (o == NULL)
		__real_region_unlink(r);
	else
		o->name[0] = '\0';
}

void
__wrap_region_close(struct region *r)
{
	struct object *o = object_of(r->fd);

	if (o == NULL) {
		__real_region_close(r);
		return;
	}
	o->open = false;
	r->fd = -1;
}

/* Nobody here can change it. */
int
__wrap_region_size(const struct region *r, uint64_t *bytes)
{
	if (!playing)
		return __real_region_size(r, bytes);
	*bytes = r->bytes;
	return 0;
}

int
__wrap_guard_map(struct guard *g, int fd, uint64_t bytes)
{
	const struct object *o = object_of(fd);

	if (o == NULL)
		return __real_guard_map(g, fd, bytes);
	*g = (struct guard){.at = o->memory, .bytes = bytes};
	return 0;
}

void
__wrap_guard_unmap(struct guard *g)
{
	for (int i = 0; i < LANES; i++)
		if (g->at == objects[i].memory)
			g->at = NULL;
	__real_guard_unmap(g);
}

int
__wrap_posix_fallocate(int fd, off_t at, off_t bytes)
{
	return playing ? 0 : __real_posix_fallocate(fd, at, bytes);
}

int
__wrap_fallocate(int fd, int mode, off_t at, off_t bytes)
{
	return playing ? 0 : __real_fallocate(fd, mode, at, bytes);
}

int
__wrap_eventfd(unsigned n, int flags)
{
	return playing ? DOORBELL : __real_eventfd(n, flags);
}

int
__wrap_close(int fd)
{
	return fd == DOORBELL ? 0 : __real_close(fd);
}

uint64_t
__wrap_headroom(int fd)
{
	(void)fd;
	return UINT64_MAX;
}

int
__wrap_watch_new(struct watch **out, struct loop *loop, int fd, unsigned mask,
    enum loop_priority priority, watch_callback callback, void *arg)
{
	if (!playing)
		return __real_watch_new(
		    out, loop, fd, mask, priority, callback, arg);
	*out = NULL;
	return 0;
}

void
__wrap_watch_wake(struct watch *w, unsigned what)
{
	if (!playing)
		__real_watch_wake(w, what);
}

int
__wrap_timer_start(struct timer *t, uint32_t ms)
{
	return playing ? 0 : __real_timer_start(t, ms);
}

uint64_t
__wrap_loop_now_ms(void)
{
	return playing ? NOW_MS : __real_loop_now_ms();
}

uint64_t
__wrap_loop_now_us(void)
{
	return playing ? NOW_MS * 1000 : __real_loop_now_us();
}

void
__wrap_pool_look_at_clock(void)
{
	if (!playing)
		__real_pool_look_at_clock();
}

/* There is one thread: what it stored it sees. */
void
__wrap_barrier_all(void)
{
}

/* It has no other. */
int
__wrap_client_attach(struct client *c, struct attachment *a, uint32_t tag)
{
	(void)tag;
	a->client = c;
	a->number = 1;
	return 0;
}

/* The loop would end it later; here an instruction does. */
void
__wrap_client_fail(struct client *c, const char *why)
{
	(void)why;
	c->ending = true;
}
