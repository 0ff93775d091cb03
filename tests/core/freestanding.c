/*
 * The core without a libc: this is the whole program, from _start on.  Its exit
 * status is 0, or the line of the first thing that was not so, modulo 256.
 * Structures are static, as for one on the stack a compiler may call memcpy.
 */
#include <stdalign.h>
#include <stddef.h>
#include <stdint.h>

#include "slab.h"

int freestanding_main(void);

#define MUST(cond)                                                  \
	do {                                                        \
		if (!(cond))                                        \
			return __LINE__ % 256 ? __LINE__ % 256 : 1; \
	} while (0)

#if defined(__x86_64__)
__asm__(".globl _start\n"
	"_start:\n"
	"	xor %ebp, %ebp\n"
	"	and $-16, %rsp\n"
	"	call freestanding_main\n"
	"	mov %eax, %edi\n"
	"	mov $60, %eax\n"
	"	syscall\n");
#elif defined(__aarch64__)
__asm__(".globl _start\n"
	"_start:\n"
	"	bl freestanding_main\n"
	"	mov x8, #93\n"
	"	svc #0\n");
#else
#error "no _start for this processor"
#endif

enum { SEGMENT = 4096, SEGMENTS = 8 };

static alignas(SEGMENT) unsigned char arena[SEGMENTS * SEGMENT];
static unsigned char small[2048];
static unsigned arena_used;

static void *
arena_obtain(void *ctx, size_t len, size_t align)
{
	(void)ctx;
	(void)align;
	if (len != SEGMENT)
		return NULL;
	for (unsigned i = 0; i < SEGMENTS; i++)
		if (!(arena_used >> i & 1)) {
			arena_used |= 1u << i;
			return arena + i * SEGMENT;
		}
	return NULL;
}

static void
arena_release(void *ctx, void *mem, size_t len)
{
	(void)ctx;
	(void)len;
	arena_used &= ~(1u << ((unsigned char *)mem - arena) / SEGMENT);
}

static int
one_segment(void)
{
	static uint16_t links[100];
	struct slab_geom geom = {
	    sizeof(geom), SLAB_EXTERNAL, 640, 0, links, NULL};
	struct slab_seg seg;

	MUST(slab_seg_init(&seg, NULL, 64000, &geom) == 100);
	for (int i = 0; i < 100; i++)
		MUST(slab_seg_take(&seg) == i);
	MUST(slab_seg_take(&seg) == SLAB_ENOMEM);
	MUST(slab_seg_give(&seg, 42) == 0 && slab_seg_take(&seg) == 42);
	return 0;
}

/* A cache over the arena; the cache itself is in `small`, beside it. */
static int
whole_cache(void)
{
	static const struct slab_mem mem = {arena_obtain, arena_release, NULL};
	static const struct slab_options opt = {sizeof(opt), SLAB_CHECKED, 48,
	    0, SEGMENT, 0, 0, &mem, NULL, &slab_lock_spin, small, sizeof(small),
	    NULL};
	static void *out[1000];
	struct slab_stats stats;
	struct slab *s;
	unsigned n = 0;

	stats.size = sizeof(stats);
	MUST(slab_create(&s, &opt) == 0);
	while (n < 1000 && (out[n] = slab_alloc(s)))
		n++;
	slab_get_stats(s, &stats);
	MUST(stats.used == n && stats.segs == SEGMENTS + 1);
	MUST(arena_used == (1u << SEGMENTS) - 1);
	MUST(slab_check(s) == 0);
	MUST(slab_free_in(out[n - 1], SEGMENT) == 0);
	MUST(slab_free(s, out[n - 1]) == SLAB_EFREE);
	for (n--; n > 0; n--)
		MUST(slab_free(s, out[n - 1]) == 0);
	MUST(arena_used == 0);
	slab_drop(s);
	return 0;
}

int
freestanding_main(void)
{
	int line = one_segment();

	return line ? line : whole_cache();
}
