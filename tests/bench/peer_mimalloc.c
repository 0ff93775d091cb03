/*
 * mimalloc, within one process. Opened at run time and in a scope of its own:
 * linked in, it would put itself in malloc()'s place.
 */
#include "config.h"

#include <dlfcn.h>
#include <stdlib.h>

#include "bench.h"
#include "peer.h"

static void *(*mi_malloc)(size_t);
static void (*mi_free)(void *);
static size_t slot_size;

static inline void *
slot_alloc(void)
{
	void *slot = mi_malloc(slot_size);

	if (slot == NULL)
		bench_die("mi_malloc");
	return slot;
}

static inline void
slot_free(void *slot)
{
	mi_free(slot);
}

/* As in peer_malloc.c. */
static inline uint64_t
slot_give(void *slot)
{
	return (uintptr_t)slot;
}

static inline void *
slot_take(uint64_t token)
{
	return (void *)(uintptr_t)token;
}

#include "loops.h"

static const char *
enter(const struct setting *s, unsigned side)
{
	static const char *const names[] = {
	    "libmimalloc.so", "libmimalloc.so.3", "libmimalloc.so.2"};
	void *library = NULL;

	for (size_t i = 0; library == NULL && i < 3; i++)
		library = dlopen(names[i], RTLD_NOW | RTLD_LOCAL);
	if (library == NULL)
		return "not installed";
	*(void **)&mi_malloc = dlsym(library, "mi_malloc");
	*(void **)&mi_free = dlsym(library, "mi_free");
	if (mi_malloc == NULL || mi_free == NULL)
		return "not as expected";
	slot_size = s->slot_size;
	loops_enter(s, side);
	return NULL;
}

const struct peer peer_mimalloc = {
    .name = "mimalloc", .enter = enter, .run = loops_run};
