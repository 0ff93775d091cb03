/*
 * Tests of lib/slab.c: the cache against a model, its hooks, and each wrong
 * call.
 */
#include "config.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "slab.h"
#include "../core/random.h"

TestSuite(slab, .timeout = 120);

/* cr_assert reports every success to the runner: too slow for inner loops. */
#define MUST(cond)                                                      \
	do {                                                            \
		if (!(cond))                                            \
			cr_assert_fail("line %d: %s", __LINE__, #cond); \
	} while (0)

enum {
	MARGIN = 64, /* of the counting heap, and filled */
	FILL = 0xc3
};

/* A heap that counts, checks what comes back, and can fail on demand. */
struct heap {
	int live;	    /* blocks out */
	int most;	    /* of them at a time */
	int obtained;	    /* calls, since ever */
	int fail_at;	    /* this call returns NULL; 0: none */
	const bool *locked; /* by a lock: at obtain, not at release */
};

static void *
heap_obtain(void *ctx, size_t len, size_t align)
{
	struct heap *h = ctx;
	size_t head = align > MARGIN ? align : MARGIN;
	unsigned char *p;

	MUST(!h->locked || *h->locked);
	if (++h->obtained == h->fail_at)
		return NULL;
	p = aligned_alloc(head, (head + len + MARGIN + head - 1) & ~(head - 1));
	MUST(p);
	memset(p, FILL, head + len + MARGIN);
	memcpy(p + head - sizeof(len), &len, sizeof(len));
	memcpy(p + head - 2 * sizeof(len), &head, sizeof(head));
	if (++h->live > h->most)
		h->most = h->live;
	return p + head;
}

static void
heap_release(void *ctx, void *mem, size_t len)
{
	struct heap *h = ctx;
	unsigned char *p = mem;
	size_t was, head;

	MUST(!h->locked || !*h->locked);
	memcpy(&was, p - sizeof(was), sizeof(was));
	memcpy(&head, p - 2 * sizeof(head), sizeof(head));
	MUST(was == len);
	for (size_t i = 0; i < MARGIN; i++)
		MUST(p[len + i] == FILL);
	h->live--;
	free(p - head);
	errno = EDOM; /* as a hook may */
}

static struct slab_mem
heap_hooks(struct heap *h)
{
	return (struct slab_mem){heap_obtain, heap_release, h};
}

static struct slab_options
options(uint32_t slot_size, size_t seg_size, const struct slab_mem *mem)
{
	return (struct slab_options){.size = sizeof(struct slab_options),
	    .slot_size = slot_size,
	    .seg_size = seg_size,
	    .mem = mem};
}

static struct slab_stats
stats_of(struct slab *s)
{
	struct slab_stats st = {.size = sizeof(st)};

	slab_get_stats(s, &st);
	return st;
}

/* ------------------------------------------------------- against a model */

enum { OUT_MAX = 3000 };

struct out {
	unsigned char *slot;
	uint8_t stamp;
};

static void
model_check(struct slab *s, const struct out *out, uint32_t n)
{
	struct slab_stats st = stats_of(s);

	MUST(slab_check(s) == 0);
	MUST(st.used == n && st.total >= n);
	for (uint32_t i = 0; i < n; i++)
		for (size_t k = 0; k < slab_slot_size(s); k++)
			MUST(out[i].slot[k] == out[i].stamp);
}

static void
model_run(struct slab *s, uint64_t *rng, uint32_t limit)
{
	static struct out out[OUT_MAX];
	uint32_t n = 0,
		 align = (uint32_t)(slab_slot_size(s) & -slab_slot_size(s));

	for (int i = 0; i < 12000; i++) {
		bool filling = i / 1500 % 2 == 0;
		uint32_t k;

		if (n < limit && random_below(rng, 100) < (filling ? 80 : 20)) {
			out[n].slot = slab_alloc(s);
			MUST(out[n].slot);
			MUST((uintptr_t)out[n].slot %
				 (align < 64 ? align : 64) ==
			     0);
			out[n].stamp = (uint8_t)random_next(rng);
			memset(out[n].slot, out[n].stamp, slab_slot_size(s));
			n++;
		} else if (n > 0) {
			k = random_below(rng, n);
			MUST(slab_free(s, out[k].slot) == 0);
			out[k] = out[--n];
		}
		if (i % 500 == 0)
			model_check(s, out, n);
	}
	while (n > 0)
		MUST(slab_free(s, out[--n].slot) == 0);
	model_check(s, out, 0);
}

Test(slab, random_against_model)
{
	static const struct {
		uint32_t size, align, limit;
		size_t seg_size;
	} shapes[] = {{2, 0, 3000, 512}, {8, 8, 2000, 256}, {24, 8, 1000, 1024},
	    {512, 0, 400, 4096}, {48, 16, 500, 65536}, {100, 0, 300, 2048},
	    {4096, 4096, 60, 16384}};
	uint64_t rng = random_seed("slab/random_against_model");

	for (size_t i = 0; i < sizeof(shapes) / sizeof(*shapes); i++)
		for (uint32_t mode = 0; mode < 8; mode++) {
			struct heap heap = {0}, side = {0};
			struct slab_mem mem = heap_hooks(&heap);
			struct slab_mem meta = heap_hooks(&side);
			struct slab_options opt =
			    options(shapes[i].size, shapes[i].seg_size, &mem);
			int keep = mode & 4 ? 3 : 0;
			struct slab *s;

			opt.slot_align = shapes[i].align;
			opt.flags = mode & 3;
			opt.meta = &meta;
			opt.keep_empty = (uint32_t)keep;
			opt.lock = mode & 4 ? &slab_lock_spin : NULL;
			MUST(slab_create(&s, &opt) == 0);
			model_run(s, &rng, shapes[i].limit);
			MUST(heap.live == (int)stats_of(s).segs);
			MUST(
			    heap.live == (heap.most < keep ? heap.most : keep));
			slab_drop(s);
			MUST(heap.live == 0 && side.live == 0);
		}
}

/* Many segments, so that the table of them grows, and a foreign one beside. */
Test(slab, thousands_of_segments)
{
	enum { N = 5000 };
	static void *out[N];
	uint64_t rng = random_seed("slab/thousands_of_segments");
	struct heap heap = {0}, side = {0};
	struct slab_mem mem = heap_hooks(&heap), meta = heap_hooks(&side);
	struct slab_options opt = options(64, 256, &mem);
	struct slab *s;

	opt.slot_align = 64;
	opt.flags = SLAB_CHECKED;
	opt.meta = &meta;
	MUST(slab_create(&s, &opt) == 0);
	for (int i = 0; i < N; i++)
		MUST(out[i] = slab_alloc(s));
	MUST(stats_of(s).segs == (uint32_t)heap.live && heap.live >= N / 4);
	MUST(side.live == 2 && side.obtained > 3); /* the cache, one table */
	MUST(slab_check(s) == 0);
	for (uint32_t n = N; n > 0; n--) {
		uint32_t k = random_below(&rng, n);

		MUST(slab_free(s, out[k]) == 0);
		out[k] = out[n - 1];
	}
	MUST(heap.live == 0);
	slab_drop(s);
	MUST(side.live == 0);
}

/* ---------------------------------------------------------- wrong pointers */

static void
refuse_all(struct slab *s, struct slab *other, size_t seg_size)
{
	unsigned char *slot[40], *foreign = slab_alloc(other);
	void *heap_block = malloc(100);
	uint64_t rejected = stats_of(s).rejected;
	int local;

	for (int i = 0; i < 40; i++)
		MUST(slot[i] = slab_alloc(s));
	for (int i = 0; i < 40; i++)
		for (size_t off = 1; off < slab_slot_size(s); off++)
			MUST(slab_free(s, slot[i] + off) == SLAB_ESLOT);
	rejected += 40 * (slab_slot_size(s) - 1);
	MUST(slab_free(s, &local) == SLAB_ERANGE);
	MUST(slab_free(s, heap_block) == SLAB_ERANGE);
	MUST(slab_free(s, foreign) == SLAB_ERANGE);
	MUST(slab_free(s, NULL) == SLAB_ERANGE);
	MUST(slab_free(s, (void *)UINTPTR_MAX) == SLAB_ERANGE);
	MUST(slab_free(s, (void *)(slot[0] + (seg_size << 20))) == SLAB_ERANGE);
	MUST(slab_free(NULL, slot[0]) == SLAB_EINVAL);
	rejected += 6;
	for (int i = 39; i >= 0; i--)
		MUST(slab_free(s, slot[i]) == 0);
	MUST(stats_of(s).rejected == rejected && stats_of(s).used == 0);
	MUST(slab_free(other, foreign) == 0);
	free(heap_block);
}

Test(slab, wrong_pointers_refused)
{
	for (uint32_t flags = 0; flags < 4; flags++) {
		struct heap heap = {0}, side = {0};
		struct slab_mem mem = heap_hooks(&heap);
		struct slab_mem meta = heap_hooks(&side);
		struct slab_options opt = options(48, 1024, &mem);
		struct slab *s, *other;

		opt.flags = flags;
		opt.meta = &meta;
		opt.keep_empty = 1;
		MUST(slab_create(&s, &opt) == 0);
		MUST(slab_create(&other, &opt) == 0);
		refuse_all(s, other, 1024);
		slab_drop(s);
		slab_drop(other);
		MUST(heap.live == 0 && side.live == 0);
	}
}

Test(slab, double_free_header_and_uncarved_refused)
{
	for (uint32_t flags = 0; flags < 4; flags++) {
		struct heap heap = {0}, side = {0};
		struct slab_mem mem = heap_hooks(&heap);
		struct slab_mem meta = heap_hooks(&side);
		struct slab_options opt = options(64, 4096, &mem);
		unsigned char *a, *b, *seg;
		struct slab *s;

		opt.flags = flags;
		opt.meta = &meta;
		MUST(slab_create(&s, &opt) == 0);
		MUST((a = slab_alloc(s)) && (b = slab_alloc(s)));
		seg = (unsigned char *)((uintptr_t)a & ~(uintptr_t)4095);
		MUST(slab_free(s, b + 64) == SLAB_EFREE);
		MUST(slab_free(s, b + 65) == SLAB_ESLOT);
		MUST(slab_free(s, seg + 4096 - 64) ==
		     ((a - seg) % 64 ? SLAB_ESLOT : SLAB_EFREE));
		if (!(flags & SLAB_EXTERNAL))
			for (unsigned char *p = seg; p < a; p++)
				MUST(slab_free(s, p) == SLAB_ESLOT);
		MUST(slab_free(s, a) == 0);
		MUST(slab_free(s, a) == SLAB_EFREE);
		MUST(slab_free(s, b) == 0);
		MUST(slab_free(s, b) == SLAB_ERANGE); /* its segment is gone */
		slab_drop(s);
		MUST(heap.live == 0 && side.live == 0);
	}
}

/* ------------------------------------------------------------------- hooks */

/* One story; false if memory ran out somewhere on the way. */
static bool
story(struct heap *h, uint32_t flags, uint32_t n)
{
	struct slab_mem mem = heap_hooks(h);
	struct slab_options opt = options(64, 512, &mem);
	void *out[400];
	uint32_t got = 0;
	struct slab *s;
	int err;

	opt.flags = flags;
	opt.meta = &mem;
	err = slab_create(&s, &opt);
	if (err) {
		MUST(err == SLAB_ENOMEM && !s && h->live == 0);
		return false;
	}
	while (got < n && (out[got] = slab_alloc(s)))
		got++;
	MUST(slab_check(s) == 0);
	if (got < n) {
		/* The failure is not for ever. */
		MUST(out[got] = slab_alloc(s));
		got++;
	}
	while (got > 0)
		MUST(slab_free(s, out[--got]) == 0);
	slab_drop(s);
	MUST(h->live == 0);
	return h->obtained < h->fail_at;
}

Test(slab, every_obtain_fails_once)
{
	for (uint32_t flags = 0; flags < 4; flags++) {
		struct heap h = {0};
		int fail_at = 0;

		do {
			h = (struct heap){.fail_at = ++fail_at};
		} while (!story(&h, flags, 400) && fail_at < 10000);
		MUST(fail_at > 50 && fail_at < 10000);
	}
}

Test(slab, empty_segments_given_back_with_hysteresis)
{
	struct heap heap = {0}, side = {0};
	struct slab_mem mem = heap_hooks(&heap), meta = heap_hooks(&side);
	struct slab_options opt = options(512, 4096, &mem);
	void *out[100];
	struct slab *s;
	int n;

	opt.meta = &meta;
	opt.keep_empty = 1;
	MUST(slab_create(&s, &opt) == 0);
	MUST(heap.obtained == 0);
	for (n = 0; heap.obtained < 3; n++)
		MUST(out[n] = slab_alloc(s));
	/* Across the brink of a segment, a thousand times: no hook. */
	for (int i = 0; i < 1000; i++) {
		MUST(slab_free(s, out[n - 1]) == 0);
		MUST(out[n - 1] = slab_alloc(s));
	}
	MUST(heap.obtained == 3 && heap.live == 3);
	while (n > 0)
		MUST(slab_free(s, out[--n]) == 0);
	MUST(heap.live == 1 && stats_of(s).segs_empty == 1);
	MUST(slab_trim(s) == 1 && heap.live == 0);
	MUST(slab_trim(s) == 0);
	MUST(slab_trim(NULL) == SLAB_EINVAL);
	MUST(out[0] = slab_alloc(s));
	MUST(slab_trim(s) == 0);
	MUST(slab_free(s, out[0]) == 0);
	slab_drop(s);
	MUST(heap.live == 0 && side.live == 0);
}

Test(slab, growth_is_limited)
{
	struct heap heap = {0};
	struct slab_mem mem = heap_hooks(&heap);
	struct slab_options opt = options(64, 4096, &mem);
	static unsigned char extra[4096];
	void *out[300];
	struct slab *s;
	int n = 0, more;

	opt.max_segs = 2;
	MUST(slab_create(&s, &opt) == 0);
	while ((out[n] = slab_alloc(s)))
		n++;
	MUST(stats_of(s).segs == 2 && stats_of(s).segs_full == 2);
	MUST(heap.live == 3); /* and the cache itself */
	more = slab_attach(s, extra, sizeof(extra));
	MUST(more > 0);
	while (more-- > 0)
		MUST(out[n++] = slab_alloc(s));
	MUST(!slab_alloc(s));
	MUST(stats_of(s).used == stats_of(s).total);
	slab_drop(s);
	while (n > 0) {
		MUST(heap.live > 0);
		MUST(slab_free(s, out[--n]) == 0);
	}
	MUST(heap.live == 0);
}

/* -------------------------------------------------------------------- lock */

struct flag_lock {
	bool held;
	uint32_t turns;
};

static struct flag_lock *flag_lock_last;

static void
flag_init(struct flag_lock *l)
{
	l->held = false;
	l->turns = 0;
	flag_lock_last = l;
}

static void
flag_lock(struct flag_lock *l)
{
	MUST(!l->held);
	l->held = true;
	l->turns++;
}

static void
flag_unlock(struct flag_lock *l)
{
	MUST(l->held);
	l->held = false;
}

SLAB_LOCK_OPS(flag_ops, struct flag_lock, flag_init, flag_lock, flag_unlock);

/* Of every call: taken, left, obtain inside, release outside. */
Test(slab, callers_lock)
{
	struct heap heap = {0}, side = {0};
	struct slab_mem mem = heap_hooks(&heap), meta = heap_hooks(&side);
	struct slab_options opt = options(512, 4096, &mem);
	static unsigned char extra[4096];
	void *out[60];
	struct slab *s;

	opt.meta = &meta;
	opt.lock = &flag_ops;
	MUST(slab_create(&s, &opt) == 0);
	heap.locked = &flag_lock_last->held;
	MUST((uintptr_t)flag_lock_last % 16 == 0);
	for (int round = 0; round < 3; round++) {
		for (int i = 0; i < 60; i++)
			MUST(out[i] = slab_alloc(s));
		for (int i = 0; i < 60; i++)
			MUST(slab_free(s, out[i]) == 0);
	}
	MUST(flag_lock_last->turns == 360 && heap.live == 0);
	MUST(slab_attach(s, extra, sizeof(extra)) > 0);
	MUST(slab_attach(s, extra, sizeof(extra)) == SLAB_EBUSY);
	MUST(slab_detach(s, extra) == 0);
	MUST(slab_clone(s) == s);
	slab_drop(s);
	MUST(slab_trim(s) == 0 && stats_of(s).segs == 0 && slab_check(s) == 0);
	MUST(!flag_lock_last->held);
	slab_drop(s);
	MUST(side.live == 0);
}

/* Memory in the wrong place goes straight back. */
static void *
crooked_obtain(void *ctx, size_t len, size_t align)
{
	unsigned char *p = heap_obtain(ctx, len + 64, align);

	return p ? p + 64 : NULL;
}

static void
crooked_release(void *ctx, void *mem, size_t len)
{
	heap_release(ctx, (unsigned char *)mem - 64, len + 64);
}

Test(slab, misplaced_segment_returned)
{
	struct heap heap = {0}, side = {0};
	struct slab_mem mem = {crooked_obtain, crooked_release, &heap};
	struct slab_mem meta = heap_hooks(&side);
	struct slab_options opt = options(64, 4096, &mem);
	struct slab *s;

	opt.meta = &meta;
	opt.lock = &flag_ops;
	MUST(slab_create(&s, &opt) == 0);
	heap.locked = &flag_lock_last->held;
	MUST(!slab_alloc(s));
	MUST(heap.obtained == 1 && heap.live == 0);
	slab_drop(s);
	MUST(side.live == 0);
}

/* -------------------------------------------------------- memory by hand */

Test(slab, static_buffer_alone)
{
	static unsigned char buffer[4096 + 1];
	void *out[200];

	for (uint32_t flags = 0; flags <= SLAB_CHECKED; flags += SLAB_CHECKED) {
		struct slab_options opt = options(32, 0, NULL);
		struct slab *s;
		uint32_t n = 0;

		opt.flags = flags;
		opt.first = buffer + 1;
		opt.first_len = 4096;
		MUST(slab_create(&s, &opt) == 0);
		while ((out[n] = slab_alloc(s)))
			n++;
		MUST(n == stats_of(s).total && n > 90);
		for (uint32_t i = 0; i < n; i++) {
			MUST((unsigned char *)out[i] > buffer);
			MUST((unsigned char *)out[i] + 32 <= buffer + 4097);
			memset(out[i], 0xff, 32);
		}
		MUST(slab_check(s) == 0);
		MUST(slab_detach(s, buffer + 1) == SLAB_ERANGE);
		while (n > 0)
			MUST(slab_free(s, out[--n]) == 0);
		slab_drop(s);
		/* Ours again, so that the next cache may live there. */
		memset(buffer, 0xff, sizeof(buffer));
	}
}

/* The shortest `first` that holds a slot; nothing beyond is written. */
Test(slab, static_buffer_shortest)
{
	static _Alignas(64) unsigned char buffer[1024];
	struct slab_options opt = options(64, 0, NULL);
	struct slab *s;
	size_t len = 0;

	opt.first = buffer;
	memset(buffer, FILL, sizeof(buffer));
	for (opt.first_len = 1; slab_create(&s, &opt) != 0; opt.first_len++) {
		MUST(!s);
		MUST(slab_create(&s, &opt) == SLAB_ESIZE);
		MUST(opt.first_len < sizeof(buffer));
	}
	len = opt.first_len;
	memset(slab_alloc(s), 1, 64);
	MUST(!slab_alloc(s));
	for (size_t i = len; i < sizeof(buffer); i++)
		MUST(buffer[i] == FILL);
}

Test(slab, attach_and_detach)
{
	static unsigned char a[5000], b[3000];
	unsigned char *slots[200], *mem_a = a + 1, *mem_b = b + 7;
	struct heap side = {0};
	struct slab_mem meta = heap_hooks(&side);
	int n_a, n_b, n;

	for (uint32_t flags = 0; flags < 4; flags++) {
		struct slab_options opt = options(64, 0, NULL);
		struct slab *s;

		opt.flags = flags;
		opt.meta = &meta;
		MUST(slab_create(&s, &opt) == 0);
		MUST(!slab_alloc(s));
		MUST((n_a = slab_attach(s, mem_a, 4900)) > 70);
		MUST((n_b = slab_attach(s, mem_b, 2900)) > 38);
		MUST(slab_attach(s, mem_a, 4900) == SLAB_EBUSY);
		MUST(slab_attach(s, mem_a + 4899, 100) == SLAB_EBUSY);
		MUST(slab_attach(s, mem_b - 5, 6) == SLAB_EBUSY);
		for (n = 0; (slots[n] = slab_alloc(s)); n++)
			memset(slots[n], n, 64);
		MUST(n == n_a + n_b && (int)stats_of(s).total == n);
		MUST(slab_check(s) == 0);
		MUST(slab_free(s, slots[3] + 1) == SLAB_ESLOT);
		MUST(slab_free(s, mem_a + 4900) == SLAB_ERANGE);
		MUST(slab_detach(s, mem_a) == SLAB_EBUSY);
		MUST(slab_detach(s, mem_a + 1) == SLAB_ERANGE);
		MUST(slab_detach(s, NULL) == SLAB_EINVAL);
		MUST(slab_detach(NULL, mem_a) == SLAB_EINVAL);
		for (int i = 0; i < n; i++)
			MUST(slots[i][0] == i && slab_free(s, slots[i]) == 0);
		MUST(stats_of(s).segs == 2 && stats_of(s).segs_empty == 2);
		MUST(slab_trim(s) == 0); /* not the cache's to release */
		MUST(slab_detach(s, mem_a) == 0);
		MUST(slab_detach(s, mem_a) == SLAB_ERANGE);
		MUST(slab_free(s, slots[0]) != 0);
		MUST((int)stats_of(s).total == n_b ||
		     (int)stats_of(s).total == n_a);
		slab_drop(s);
		MUST(side.live == 0);
	}
}

Test(slab, attach_refuses)
{
	static unsigned char small[64];
	struct heap side = {0};
	struct slab_mem meta = heap_hooks(&side);

	for (uint32_t flags = 0; flags < 4; flags++) {
		struct slab_options opt = options(64, 0, NULL);
		struct slab *s;

		opt.flags = flags;
		opt.meta = &meta;
		MUST(slab_create(&s, &opt) == 0);
		for (size_t len = 0; len < 64; len++)
			MUST(slab_attach(s, small, len) == SLAB_ESIZE);
		MUST(slab_attach(s, NULL, 4096) == SLAB_EINVAL);
		MUST(slab_attach(NULL, small, 64) == SLAB_EINVAL);
		MUST(slab_attach(s, small, SIZE_MAX) == SLAB_EINVAL);
		MUST(stats_of(s).segs == 0 && side.live == 1);
		if (flags & SLAB_EXTERNAL) {
			side.fail_at = side.obtained + 1;
			MUST(slab_attach(s, small, 64) == SLAB_ENOMEM);
			MUST(side.live == 1);
		}
		slab_drop(s);
		MUST(side.live == 0);
	}
}

/* Where the by-hand and the obtained lie side by side. */
Test(slab, attached_beside_obtained)
{
	static unsigned char hand[4000];
	struct heap heap = {0}, side = {0};
	struct slab_mem mem = heap_hooks(&heap), meta = heap_hooks(&side);
	struct slab_options opt = options(128, 4096, &mem);
	uint64_t rng = random_seed("slab/attached_beside_obtained");
	struct slab *s;

	opt.meta = &meta;
	opt.first = hand + 3;
	opt.first_len = 3900;
	MUST(slab_create(&s, &opt) == 0);
	MUST(heap.obtained == 0 && stats_of(s).segs == 1);
	model_run(s, &rng, 300);
	MUST(heap.obtained > 0 && heap.live == 0 && stats_of(s).segs == 1);
	MUST(slab_detach(s, hand + 3) == 0);
	slab_drop(s);
	MUST(side.live == 0);
}

/* ---------------------------------------------------------------- external */

/* Hands out addresses nobody may touch, upwards from a base. */
struct mirage {
	uintptr_t next;
	size_t align;
	int live;
};

static void *
mirage_obtain(void *ctx, size_t len, size_t align)
{
	struct mirage *m = ctx;
	void *mem = (void *)m->next;

	m->align = align;
	m->next += len;
	m->live++;
	return mem;
}

static void
mirage_release(void *ctx, void *mem, size_t len)
{
	struct mirage *m = ctx;

	(void)mem;
	(void)len;
	m->live--;
}

Test(slab, external_memory_is_never_touched)
{
	static const uintptr_t bases[] = {
	    (uintptr_t)1 << 40, ((uintptr_t)1 << 40) + 192, 0x10040};

	for (size_t i = 0; i < sizeof(bases) / sizeof(*bases); i++) {
		struct mirage mirage = {.next = bases[i]};
		struct slab_mem mem = {mirage_obtain, mirage_release, &mirage};
		struct heap side = {0};
		struct slab_mem meta = heap_hooks(&side);
		struct slab_options opt = options(64, 65536, &mem);
		struct slab *s;
		uintptr_t at;

		opt.flags = SLAB_EXTERNAL | SLAB_CHECKED;
		opt.meta = &meta;
		opt.base = (void *)bases[i];
		MUST(slab_create(&s, &opt) == 0);
		for (at = bases[i]; at < mirage.next || at == bases[i];
		     at += 64)
			MUST(slab_alloc(s) == (void *)at && mirage.live < 40);
		MUST(at - bases[i] == 65536 && mirage.live == 1);
		MUST(bases[i] % mirage.align == 0);
		MUST(mirage.align <= 65536);
		MUST(slab_alloc(s) == (void *)at && mirage.live == 2);
		MUST(slab_free(s, (void *)at) == 0 && mirage.live == 1);
		MUST(slab_free(s, (void *)at) == SLAB_ERANGE);
		for (at = bases[i]; at < bases[i] + 65536; at += 64) {
			MUST(slab_free(s, (void *)(at + 8)) == SLAB_ESLOT);
			MUST(slab_free(s, (void *)at) == 0);
			MUST(at == bases[i] + 65536 - 64 ||
			     slab_free(s, (void *)at) == SLAB_EFREE);
		}
		MUST(mirage.live == 0);
		slab_drop(s);
		MUST(side.live == 0);
	}
}

/* ------------------------------------------------------------ last release */

/*
 * Three handles and two slots go in every order; all memory goes with the last
 * of the five, and none of the rest before.
 */
static void
play_order(const int *order, uint32_t flags, bool bare)
{
	struct heap heap = {0}, side = {0};
	struct slab_mem mem = heap_hooks(&heap), meta = heap_hooks(&side);
	struct slab_options opt = options(1024, 2048, &mem);
	void *slot[2];
	struct slab *s;

	opt.flags = flags;
	opt.meta = &meta;
	opt.keep_empty = 5;
	MUST(slab_create(&s, &opt) == 0);
	MUST(slab_clone(s) == s && slab_clone(s) == s);
	MUST((slot[0] = slab_alloc(s)) && (slot[1] = slab_alloc(s)));
	for (int i = 0; i < 5; i++) {
		MUST(side.live > 0);
		if (order[i] < 3)
			slab_drop(s);
		else if (bare)
			MUST(slab_free_in(slot[order[i] - 3], 2048) == 0);
		else
			MUST(slab_free(s, slot[order[i] - 3]) == 0);
	}
	MUST(heap.live == 0 && side.live == 0);
}

static void
permute(int *order, int n, uint32_t flags)
{
	for (int i = 0; n > 1 && i < n; i++) {
		int last = order[n - 1];

		order[n - 1] = order[i];
		order[i] = last;
		permute(order, n - 1, flags);
		order[i] = order[n - 1];
		order[n - 1] = last;
	}
	if (n > 1)
		return;
	play_order(order, flags, false);
	if (!(flags & SLAB_EXTERNAL))
		play_order(order, flags, true);
}

Test(slab, drops_and_frees_in_every_order)
{
	int order[] = {0, 1, 2, 3, 4};

	for (uint32_t flags = 0; flags < 4; flags++)
		permute(order, 5, flags);
}

Test(slab, drop_releases_empty_segments_at_once)
{
	struct heap heap = {0}, side = {0};
	struct slab_mem mem = heap_hooks(&heap), meta = heap_hooks(&side);
	struct slab_options opt = options(512, 2048, &mem);
	void *out[9];
	struct slab *s;

	opt.meta = &meta;
	opt.keep_empty = 9;
	MUST(slab_create(&s, &opt) == 0);
	for (int i = 0; i < 9; i++)
		MUST(out[i] = slab_alloc(s));
	for (int i = 1; i < 8; i++)
		MUST(slab_free(s, out[i]) == 0);
	MUST(heap.live == 3);
	slab_drop(s);
	MUST(heap.live == 2 && side.live == 1);
	MUST(slab_free(s, out[8]) == 0);
	MUST(heap.live == 1 && side.live == 1);
	MUST(slab_free(s, (char *)out[0] + 1) == SLAB_ESLOT);
	MUST(slab_free(s, out[0]) == 0);
	MUST(heap.live == 0 && side.live == 0);
	slab_drop(NULL);
}

/* The last slot may lie in memory that the hooks know nothing of. */
Test(slab, last_slot_in_attached_memory)
{
	static unsigned char hand[4096];
	struct heap heap = {0}, side = {0};
	struct slab_mem mem = heap_hooks(&heap), meta = heap_hooks(&side);
	struct slab_options opt = options(512, 4096, &mem);
	struct slab *s;
	void *slot;

	opt.meta = &meta;
	opt.first = hand;
	opt.first_len = sizeof(hand);
	MUST(slab_create(&s, &opt) == 0);
	MUST(slot = slab_alloc(s));
	slab_drop(s);
	MUST(side.live == 1);
	MUST(slab_free(s, slot) == 0);
	MUST(side.live == 0 && heap.obtained == 0);

	/* Without meta the cache lives there too: not the hooks' to release. */
	opt.meta = NULL;
	MUST(slab_create(&s, &opt) == 0);
	while ((slot = slab_alloc(s)) && heap.live == 0)
		;
	slab_drop(s);
	MUST(heap.live == 1);
	MUST(slab_create(&s, &opt) == 0); /* over what nobody will free */
	slab_drop(s);
	MUST(heap.live == 1);
	heap_release(&heap, (void *)((uintptr_t)slot & -(uintptr_t)4096), 4096);
}

Test(slab, free_from_the_bare_pointer)
{
	struct heap heap = {0};
	struct slab_mem mem = heap_hooks(&heap);
	struct slab_options opt = options(48, 4096, &mem);
	static _Alignas(4096) unsigned char hand[4096];
	unsigned char *p;
	struct slab *s;

	MUST(slab_create(&s, &opt) == 0);
	MUST(p = slab_alloc(s));
	MUST(slab_free_in(p + 1, 4096) == SLAB_ESLOT);
	MUST(slab_free_in(p, 0) == SLAB_EINVAL);
	MUST(slab_free_in(p, 4095) == SLAB_EINVAL);
	MUST(slab_free_in(p, 8) == SLAB_EINVAL);
	MUST(slab_free_in(NULL, 4096) == SLAB_ERANGE);
	MUST(slab_free_in(hand + 1024, 4096) == SLAB_ERANGE);
	MUST(slab_free_in(p, 4096) == 0);
	/* A segment attached by hand, if it lies as one of the cache's would.
	 */
	MUST(slab_attach(s, hand, sizeof(hand)) > 0);
	MUST(p = slab_alloc(s));
	MUST(p > hand && p < hand + 4096);
	MUST(slab_free_in(p, 4096) == 0);
	MUST(slab_detach(s, hand) == 0);
	slab_drop(s);
	MUST(heap.live == 0);
	MUST(slab_free_in(p, 4096) == SLAB_ERANGE); /* and no cache is asked */
}

/* ------------------------------------------------------------- scope guard */

struct point {
	double x, y;
};

SLAB_FITS(struct point, 16);

static int
guarded(struct slab *s, int leave_at, struct point **kept)
{
	SLAB_SCOPED(s, struct point, p);

	if (leave_at == 0)
		return 0;
	for (int i = 0; i < 3; i++) {
		SLAB_SCOPED(s, struct point, q);

		q->x = i;
		if (i == leave_at)
			return 1;
		if (i == 2)
			MUST(stats_of(s).used == 2);
	}
	MUST(stats_of(s).used == 1);
	*kept = p;
	p = NULL;
	errno = ENOENT;
	return 2;
}

Test(slab, scope_guard)
{
	struct heap heap = {0};
	struct slab_mem mem = heap_hooks(&heap);
	struct slab_options opt = options(16, 1024, &mem);
	struct point *kept = NULL;
	struct slab *s;

	opt.slot_align = 16;
	MUST(slab_create(&s, &opt) == 0);
	errno = EXDEV;
	MUST(guarded(s, 0, &kept) == 0);
	MUST(errno == EXDEV && heap.live == 1); /* though the hook set it */
	MUST(guarded(s, 1, &kept) == 1);
	MUST(errno == EXDEV && stats_of(s).used == 0);
	MUST(guarded(s, 9, &kept) == 2);
	MUST(errno == ENOENT && stats_of(s).used == 1);
	MUST(slab_free(s, kept) == 0);
	heap.fail_at = heap.obtained + 1;
	{
		SLAB_SCOPED(s, struct point, p);

		MUST(!p);
	}
	MUST(stats_of(s).rejected == 0);
	slab_drop(s);
	MUST(heap.live == 0);
}

/* --------------------------------------------------------------- arguments */

Test(slab, wrong_options)
{
	static unsigned char buffer[4096];
	struct heap heap = {0};
	const struct slab_mem mem = heap_hooks(&heap);
	const struct slab_mem hollow = {NULL, heap_release, &heap};
	const struct slab_lock_ops no_unlock = {NULL, free, NULL};
	const struct slab_options good = options(64, 4096, &mem);
	struct slab_options wrong[24];
	int expect[24], n = 0;

#define WRONG(err, change)                \
	do {                              \
		wrong[n] = good;          \
		wrong[n].change;          \
		expect[n++] = SLAB_##err; \
	} while (0)
	WRONG(EINVAL, size = 8);
	WRONG(EINVAL, flags = 4);
	WRONG(EINVAL, seg_size = 0);
	WRONG(EINVAL, seg_size = 4095);
	WRONG(EINVAL, seg_size = 12288);
	WRONG(EINVAL, mem = &hollow);
	WRONG(EINVAL, meta = &hollow);
	WRONG(EINVAL, lock = &no_unlock);
	WRONG(EINVAL, flags = SLAB_EXTERNAL);
	WRONG(EINVAL, mem = NULL);
	WRONG(ESIZE, slot_size = 0);
	WRONG(ESIZE, slot_size = 1);
	WRONG(ESIZE, slot_size = 4096);
	WRONG(ESIZE, slot_size = UINT32_MAX - 1);
	WRONG(ESIZE, seg_size = 1);
	WRONG(ESIZE, seg_size = 128);
	WRONG(EALIGN, slot_size = 63);
	WRONG(EALIGN, slot_align = 1);
	WRONG(EALIGN, slot_align = 3);
	WRONG(EALIGN, slot_align = 128);
	WRONG(ESIZE, first = buffer);
#undef WRONG
	for (int i = 0; i < n; i++) {
		struct slab *s = (struct slab *)&heap;
		int err = slab_create(&s, &wrong[i]);

		cr_assert_eq(err, expect[i], "case %d: %d", i, err);
		cr_assert_null(s);
	}
	cr_assert_eq(slab_create(NULL, &good), SLAB_EINVAL);
	cr_assert_eq(heap.live, 0);
}

Test(slab, damage_is_seen)
{
	struct heap heap = {0};
	struct slab_mem mem = heap_hooks(&heap);
	struct slab_options opt = options(64, 4096, &mem);
	uint16_t *a, *b, *c, *d;
	struct slab *s;

	MUST(slab_create(&s, &opt) == 0);
	MUST((a = slab_alloc(s)) && (b = slab_alloc(s)) && (c = slab_alloc(s)));
	MUST(slab_free(s, a) == 0 && slab_free(s, b) == 0);
	MUST(slab_check(s) == 0);
	*b = 50; /* a use after free, right where the link is */
	MUST(slab_check(s) == SLAB_EINVAL);
	MUST(slab_alloc(s) == b);
	MUST((d = slab_alloc(s)) != a && slab_check(s) == 0);
	/* `a` is lost, but its memory goes with the cache all the same. */
	MUST(slab_free(s, b) == 0 && slab_free(s, c) == 0);
	MUST(slab_free(s, d) == 0 && stats_of(s).segs == 1);
	slab_drop(s);
	MUST(heap.live == 0);
}
