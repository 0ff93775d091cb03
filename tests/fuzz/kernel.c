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
#include "daemon/pool.h"
#include "input.h"
#include "kernel.h"

#define FAKE   1000000 /* the first object's descriptor; there is none */
#define FDS    (FAKE + KERNEL_OBJECTS)
#define NOW_MS UINT64_C(1000000)

WRAP(region_create);
WRAP(region_open);
WRAP(region_unlink);
WRAP(region_close);
WRAP(region_size);
WRAP(region_allocated);
WRAP(guard_map);
WRAP(guard_unmap);
WRAP(posix_fallocate);
WRAP(fallocate);
WRAP(eventfd);
WRAP(close);
WRAP(headroom);
WRAP(loop_now_ms);
WRAP(loop_now_us);
WRAP(pool_look_at_clock);
WRAP(barrier_all);

/* A lane's: each a block of its own, so that its ends are watched. */
struct object {
	uint8_t *memory;
	char name[REGION_NAME_MAX]; /* "": none */
	bool open;
};

static bool playing;
static struct object objects[KERNEL_OBJECTS];
static unsigned nobjects;
static uint64_t object_bytes;
static bool open_fds[KERNEL_FDS];
static int fds_given;
static unsigned nfds;
static uint64_t now_ms;

void
kernel_play(bool play)
{
	playing = play;
	kernel_restart();
}

void
kernel_restart(void)
{
	must(nfds == 0, "a descriptor is left");
	fds_given = 0;
	now_ms = NOW_MS;
}

bool
kernel_plays(void)
{
	return playing;
}

void
kernel_pass(uint64_t ms)
{
	now_ms += ms;
}

void
kernel_reserve(unsigned n, uint64_t bytes)
{
	must(n <= KERNEL_OBJECTS, "too many objects");
	nobjects = n;
	object_bytes = bytes;
	for (unsigned i = 0; i < n; i++)
		must(posix_memalign(
			 (void **)&objects[i].memory, LANE_PAGE, bytes) == 0,
		    "memory");
}

void
kernel_release(void)
{
	for (unsigned i = 0; i < nobjects; i++)
		free(objects[i].memory);
}

/* No number is given twice, so that who uses an old one is found. */
int
kernel_fd(void)
{
	must(fds_given < KERNEL_FDS, "too many descriptors");
	open_fds[fds_given] = true;
	nfds++;
	return FDS + fds_given++;
}

int
kernel_fd_index(int fd)
{
	return fd >= FDS && fd < FDS + KERNEL_FDS ? fd - FDS : -1;
}

bool
kernel_fd_is_open(int fd)
{
	int i = kernel_fd_index(fd);

	return i >= 0 && open_fds[i];
}

/* NULL: it is a real one. */
static struct object *
object_of(int fd)
{
	return fd >= FAKE && fd < FDS ? &objects[fd - FAKE] : NULL;
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
		must(++o < objects + nobjects, "more lanes than clients");
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
	for (unsigned i = 0; i < nobjects; i++)
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

/* And it holds nothing that was not attached. */
uint64_t
__wrap_region_allocated(int fd)
{
	return playing ? 0 : __real_region_allocated(fd);
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
	for (unsigned i = 0; i < nobjects; i++)
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
	return playing ? kernel_fd() : __real_eventfd(n, flags);
}

int
__wrap_close(int fd)
{
	int i = kernel_fd_index(fd);

	if (i < 0)
		return __real_close(fd);
	must(open_fds[i], "closed twice");
	open_fds[i] = false;
	nfds--;
	return 0;
}

uint64_t
__wrap_headroom(int fd)
{
	(void)fd;
	return UINT64_MAX;
}

uint64_t
__wrap_loop_now_ms(void)
{
	return playing ? now_ms : __real_loop_now_ms();
}

uint64_t
__wrap_loop_now_us(void)
{
	return playing ? now_ms * 1000 : __real_loop_now_us();
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
