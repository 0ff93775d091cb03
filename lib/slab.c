/*
 * slab.c - a cache: slots of one size from as many segments as it takes.
 *
 * Every segment is in exactly one of three lists, by its state.  Allocation
 * takes the head of the partial list, else of the empty one, else obtains a
 * segment; taking or giving one slot moves a segment by one list at most.
 *
 * A free finds its segment without reading anything but the cache's own
 * memory: obtained segments lie at base + key * seg_size, and a hash table of
 * their keys leads to their headers; the few attached by hand, which may lie
 * anywhere, are in a list that is searched when the table knows nothing.
 *
 * The header (struct segment) of an intrusive segment is at the start of its
 * memory, with the bits behind it if checked; that of an external segment, with
 * links and bits behind it, is in memory from `meta`.
 *
 *	count[e] + count[p] + count[f] = segments, sum of capacities = total
 *	spare = empty segments that were obtained, <= keep_empty between calls
 *	the cache lives while handles > 0 or used > 0
 *
 * All fields are guarded by the lock.  What is to be released is first taken
 * out of all lists under it, with copies of the hooks, since after the unlock
 * another thread may free the last slot and with it the cache.
 *
 * Freestanding: this file needs no libc, and config.h only for SLAB_DEBUG.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "slots.h"

#define LOCK_BYTES 16
#define META_ALIGN 16 /* of everything obtained from meta */
#define FEW_BITS   4  /* the table inside the cache: 16 places */
#define KEY_BITS   (sizeof(uintptr_t) * 8)
#define STATES	   3

/* Off the fast path, which then needs no registers saved for it. */
#define COLD __attribute__((noinline, cold))

/* Marks a live header, mixed with its address so that no copy passes. */
#define MAGIC ((uintptr_t)UINT64_C(0x736c6162d5e6f7a9))

struct segment {
	struct slab_seg seg;
	uintptr_t key;	       /* if obtained: (mem - base) / seg_size */
	struct segment *chain; /* next in the table's place, or by hand */
	struct slab *owner;
	uintptr_t magic; /* own address ^ MAGIC while attached */
	struct segment *next, **prev;
	enum slab_state state; /* whose list it is in */
	bool by_hand;
	void *mem;	   /* as obtained or attached */
	size_t len;	   /* of mem */
	size_t header_len; /* external: of this in meta; intrusive: 0 */
};

struct slab {
	_Alignas(LOCK_BYTES) unsigned char lock_state[LOCK_BYTES];
	struct slab_lock_ops lock; /* lock.lock NULL: none */
	struct segment *list[STATES];
	struct segment **table; /* 1 << table_bits places; at first, few */
	struct segment *by_hand;
	uintptr_t base;
	unsigned table_bits;
	unsigned seg_shift; /* seg_size = 1 << seg_shift */
	uint64_t used;
	uint64_t total;
	uint64_t rejected;
	uint32_t count[STATES];
	uint32_t spare;
	uint32_t handles;
	uint32_t obtained; /* segments, not by hand */
	uint32_t keep_empty;
	uint32_t max_segs;
	size_t seg_size;
	struct slab_geom geom; /* but for links and bitmap */
	struct slab_mem mem;   /* obtain NULL: none */
	struct slab_mem meta;  /* obtain NULL: none */
	bool in_first; /* the cache itself lives in the caller's memory */
	struct segment *few[1 << FEW_BITS];
};

/* What is to be released, after the unlock. */
struct scrap {
	struct slab_mem mem, meta;
	struct segment *segments; /* linked by next */
	void *unused;		  /* a segment's memory without header */
	size_t unused_len;
	void *block; /* from meta: a table, or a header without segment */
	size_t block_len;
	struct slab *cache; /* the cache itself */
};

/* ------------------------------------------------------------- the lock */

static void
spin_init(void *state)
{
	/* Relaxed: the cache is not shared before slab_create returns. */
	atomic_store_explicit((atomic_uint *)state, 0, memory_order_relaxed);
}

static void
spin_pause(void)
{
#if defined(__x86_64__) || defined(__i386__)
	__builtin_ia32_pause();
#elif defined(__aarch64__)
	__asm__ volatile("yield");
#endif
}

static void
spin_lock(void *state)
{
	atomic_uint *word = state;

	/* Acquire: partner of the release in spin_unlock. */
	while (atomic_exchange_explicit(word, 1, memory_order_acquire))
		/* Relaxed: only waits; the exchange above decides. */
		while (atomic_load_explicit(word, memory_order_relaxed))
			spin_pause();
}

static void
spin_unlock(void *state)
{
	/*
	 * Release: partner of the acquire in spin_lock, whose thread would
	 * otherwise see half of a list.
	 */
	atomic_store_explicit((atomic_uint *)state, 0, memory_order_release);
}

_Static_assert(sizeof(atomic_uint) <= LOCK_BYTES, "lock_state");

const struct slab_lock_ops slab_lock_spin = {spin_init, spin_lock, spin_unlock};

static int check(const struct slab *s);

static void
enter(struct slab *s)
{
	if (s->lock.lock)
		s->lock.lock(s->lock_state);
}

static void
unlock(struct slab *s)
{
	if (s->lock.unlock)
		s->lock.unlock(s->lock_state);
}

static void
leave(struct slab *s)
{
#ifdef SLAB_DEBUG
	if (check(s) != 0)
		__builtin_trap();
#endif
	unlock(s);
}

/* ---------------------------------------------------------------- scrap */

static void
release(const struct slab_mem *hooks, void *mem, size_t len)
{
	if (mem && hooks->release)
		hooks->release(hooks->ctx, mem, len);
}

static void
scrap_begin(struct scrap *scrap, const struct slab *s)
{
	scrap->mem = s->mem;
	scrap->meta = s->meta;
	scrap->segments = NULL;
	scrap->unused = NULL;
	scrap->unused_len = 0;
	scrap->block = NULL;
	scrap->block_len = 0;
	scrap->cache = NULL;
}

/* Without the lock: after this the cache may be gone. */
static void
scrap_release(struct scrap *scrap)
{
	struct segment *g = scrap->segments;

	while (g) {
		struct segment *next = g->next;
		size_t header_len = g->header_len;

		if (!g->by_hand)
			release(&scrap->mem, g->mem, g->len);
		if (header_len)
			release(&scrap->meta, g, header_len);
		g = next;
	}
	release(&scrap->mem, scrap->unused, scrap->unused_len);
	release(&scrap->meta, scrap->block, scrap->block_len);
	release(&scrap->meta, scrap->cache, sizeof(struct slab));
}

/* ------------------------------------------------------- lists and table */

static void
list_insert(struct slab *s, struct segment *g, enum slab_state state)
{
	struct segment **head = &s->list[state];

	g->state = state;
	g->next = *head;
	g->prev = head;
	if (g->next)
		g->next->prev = &g->next;
	*head = g;
	s->count[state]++;
	s->spare += state == SLAB_EMPTY && !g->by_hand;
}

static void
list_remove(struct slab *s, struct segment *g)
{
	*g->prev = g->next;
	if (g->next)
		g->next->prev = g->prev;
	s->count[g->state]--;
	s->spare -= g->state == SLAB_EMPTY && !g->by_hand;
}

COLD static void
list_change(struct slab *s, struct segment *g, enum slab_state state)
{
	list_remove(s, g);
	list_insert(s, g, state);
}

/* After a slot was taken or given: into the list of its state. */
static inline void
list_move(struct slab *s, struct segment *g)
{
	enum slab_state state = seg_state(seg_of(&g->seg));

	if (state != g->state)
		list_change(s, g, state);
}

static uintptr_t
key_of(const struct slab *s, const void *at)
{
	return ((uintptr_t)at - s->base) >> s->seg_shift;
}

/* Multiplicative hashing (Knuth, volume 3, 6.4): neighbours lie far apart. */
static struct segment **
table_place(const struct slab *s, uintptr_t key)
{
	uintptr_t golden = (uintptr_t)UINT64_C(0x9e3779b97f4a7c15);

	return &s->table[key * golden >> (KEY_BITS - s->table_bits)];
}

/* Volatile, lest a compiler turns the loop into a call of memset. */
static void
table_clear(struct segment *volatile *table, unsigned bits)
{
	for (size_t i = 0; i < (size_t)1 << bits; i++)
		table[i] = NULL;
}

static size_t
table_bytes(const struct slab *s)
{
	return sizeof(*s->table) << s->table_bits;
}

static void
table_discard(struct slab *s, struct scrap *scrap)
{
	if (s->table == s->few)
		return;
	scrap->block = s->table;
	scrap->block_len = table_bytes(s);
}

static void
table_insert(struct slab *s, struct segment *g)
{
	struct segment **place = table_place(s, g->key);

	g->chain = *place;
	*place = g;
}

/* Four times the places; without memory for them the chains grow longer. */
static void
table_grow(struct slab *s, struct scrap *scrap)
{
	struct segment **old = s->table, **table;
	size_t places = (size_t)1 << s->table_bits;

	table = s->meta.obtain(s->meta.ctx, 4 * table_bytes(s), META_ALIGN);
	if (!table)
		return;
	table_discard(s, scrap);
	s->table = table;
	s->table_bits += 2;
	table_clear(table, s->table_bits);
	for (size_t i = 0; i < places; i++)
		for (struct segment *g = old[i], *next; g; g = next) {
			next = g->chain;
			table_insert(s, g);
		}
}

static inline struct segment *
segment_find(const struct slab *s, const void *slot)
{
	uintptr_t key = key_of(s, slot);
	struct segment *g;

	for (g = *table_place(s, key); g; g = g->chain)
		if (g->key == key)
			return g;
	for (g = s->by_hand; g; g = g->chain)
		if ((uintptr_t)slot - (uintptr_t)g->mem < g->len)
			return g;
	return NULL;
}

/* -------------------------------------------------------------- segments */

static size_t
slots_at_most(const struct slab_geom *geom, size_t len)
{
	size_t n = len / geom->slot_size;

	return n < SLAB_SEG_MAX ? n : SLAB_SEG_MAX;
}

static size_t
link_bytes(const struct slab_geom *geom, size_t len)
{
	return geom->flags & SLAB_EXTERNAL
		   ? SLAB_LINK_BYTES(slots_at_most(geom, len))
		   : 0;
}

/* Header, links and bits of a segment over len bytes. */
static size_t
header_bytes(const struct slab_geom *geom, size_t len)
{
	size_t bytes = sizeof(struct segment) + link_bytes(geom, len);

	if (geom->flags & SLAB_CHECKED)
		bytes += SLAB_BITMAP_BYTES(slots_at_most(geom, len));
	return (bytes + META_ALIGN - 1) & ~(size_t)(META_ALIGN - 1);
}

/* slab_seg_init with links and bits at `aside`, which need not be there yet. */
static int
seg_over(struct slab_seg *seg, struct slab_geom *geom, uintptr_t mem,
    size_t len, unsigned char *aside)
{
	geom->links = aside;
	geom->bitmap = aside + link_bytes(geom, len);
	return slab_seg_init(seg, (void *)mem, len, geom);
}

/* Header, bits and slots in the same memory; how many slots, or an error. */
static int
lay_inside(struct slab_geom *geom, void *mem, size_t len, struct segment **out)
{
	size_t pad = -(uintptr_t)mem & (_Alignof(struct segment) - 1);
	size_t header;
	struct segment *g;

	if (len < pad)
		return SLAB_ESIZE;
	header = pad + header_bytes(geom, len - pad);
	if (len < header)
		return SLAB_ESIZE;
	g = (struct segment *)((uintptr_t)mem + pad);
	g->header_len = 0;
	*out = g;
	return seg_over(&g->seg, geom, (uintptr_t)mem + header, len - header,
	    (unsigned char *)(g + 1));
}

/* Header, links and bits from meta. */
static int
lay_outside(struct slab *s, void *mem, size_t len, struct scrap *scrap,
    struct segment **out)
{
	size_t header = header_bytes(&s->geom, len);
	struct segment *g = s->meta.obtain(s->meta.ctx, header, META_ALIGN);
	int slots;

	if (!g)
		return SLAB_ENOMEM;
	g->header_len = header;
	slots = seg_over(
	    &g->seg, &s->geom, (uintptr_t)mem, len, (unsigned char *)(g + 1));
	if (slots < 0) {
		scrap->block = g;
		scrap->block_len = header;
	}
	*out = g;
	return slots;
}

/* Make a segment of memory and take it in; how many slots, or an error. */
static int
segment_add(
    struct slab *s, void *mem, size_t len, bool by_hand, struct scrap *scrap)
{
	struct segment *g;
	int slots = s->geom.flags & SLAB_EXTERNAL
			? lay_outside(s, mem, len, scrap, &g)
			: lay_inside(&s->geom, mem, len, &g);

	if (slots < 0)
		return slots;
	g->owner = s;
	g->magic = (uintptr_t)g ^ MAGIC;
	g->mem = mem;
	g->len = len;
	g->by_hand = by_hand;
	g->key = key_of(s, mem);
	if (by_hand) {
		g->chain = s->by_hand;
		s->by_hand = g;
	} else {
		table_insert(s, g);
		s->obtained++;
	}
	s->total += (uint64_t)slots;
	list_insert(s, g, SLAB_EMPTY);
	return slots;
}

static void
segment_retire(struct slab *s, struct segment *g, struct scrap *scrap)
{
	struct segment **at = g->by_hand ? &s->by_hand : table_place(s, g->key);

	while (*at != g)
		at = &(*at)->chain;
	*at = g->chain;
	s->obtained -= !g->by_hand;
	s->total -= slab_seg_capacity(&g->seg);
	list_remove(s, g);
	g->magic = 0;
	g->next = scrap->segments;
	scrap->segments = g;
}

/* Retire the empty obtained segments; how many. */
static int
retire_spare(struct slab *s, struct scrap *scrap)
{
	struct segment *g, *next;
	int retired = 0;

	for (g = s->list[SLAB_EMPTY]; g; g = next) {
		next = g->next;
		if (g->by_hand)
			continue;
		segment_retire(s, g, scrap);
		retired++;
	}
	return retired;
}

/* With the last handle and the last slot gone: retire all there is. */
static void
retire_cache(struct slab *s, struct scrap *scrap)
{
	for (int state = 0; state < STATES; state++)
		while (s->list[state])
			segment_retire(s, s->list[state], scrap);
	table_discard(s, scrap);
	scrap->cache = s->in_first ? NULL : s;
}

/* Obtain one more segment; NULL: no memory. */
static struct segment *
grow(struct slab *s, struct scrap *scrap)
{
	uintptr_t align = s->base | s->seg_size;
	void *mem;

	if (!s->mem.obtain || (s->max_segs && s->obtained >= s->max_segs))
		return NULL;
	/* What base is aligned to, and no more than seg_size. */
	mem = s->mem.obtain(s->mem.ctx, s->seg_size, align & -align);
	if (!mem)
		return NULL;
	if (((uintptr_t)mem - s->base) & (s->seg_size - 1) ||
	    segment_add(s, mem, s->seg_size, false, scrap) < 0) {
		scrap->unused = mem;
		scrap->unused_len = s->seg_size;
		return NULL;
	}
	if (s->obtained > (size_t)1 << s->table_bits)
		table_grow(s, scrap);
	return s->list[SLAB_EMPTY];
}

/* -------------------------------------------------------------- the cache */

static void
geom_init(struct slab_geom *geom, const struct slab_options *opt)
{
	geom->size = sizeof(*geom);
	geom->flags = opt->flags;
	geom->slot_size = opt->slot_size;
	geom->slot_align = opt->slot_align;
}

/*
 * Would a segment of this size, at an address that suits, hold a slot?  Nothing
 * is at the address tried: initialising touches no memory.
 */
static int
try_geometry(const struct slab_options *opt)
{
	bool inside = !(opt->flags & SLAB_EXTERNAL);
	uintptr_t mem = 1;
	size_t len = SIZE_MAX / 2, header = 0;
	struct slab_geom geom;
	struct slab_seg seg;
	int slots;

	if (opt->slot_size == 0)
		return SLAB_ESIZE;
	geom_init(&geom, opt);
	if (opt->mem) {
		len = opt->seg_size;
		mem = len | (inside ? 0 : (uintptr_t)opt->base & (len - 1));
		header = inside ? header_bytes(&geom, len) : 0;
	}
	if (len < header)
		return SLAB_ESIZE;
	slots = seg_over(
	    &seg, &geom, mem + header, len - header, (unsigned char *)&seg);
	return slots < 0 ? slots : 0;
}

static bool
options_valid(const struct slab_options *opt)
{
	if (opt->size != sizeof(*opt) ||
	    opt->flags & ~(SLAB_EXTERNAL | SLAB_CHECKED))
		return false;
	if (opt->mem && (!opt->mem->obtain || !opt->seg_size ||
			    opt->seg_size & (opt->seg_size - 1)))
		return false;
	if (opt->meta && !opt->meta->obtain)
		return false;
	if (opt->lock && (!opt->lock->lock || !opt->lock->unlock))
		return false;
	if (opt->flags & SLAB_EXTERNAL)
		return opt->meta;
	return opt->meta || opt->first || opt->mem;
}

static const struct slab_mem no_mem;
static const struct slab_lock_ops no_lock;

static void
cache_init(
    struct slab *s, const struct slab_options *opt, const struct slab_mem *meta)
{
	bool external = opt->flags & SLAB_EXTERNAL;

	s->lock = opt->lock ? *opt->lock : no_lock;
	if (s->lock.init)
		s->lock.init(s->lock_state);
	for (int state = 0; state < STATES; state++) {
		s->list[state] = NULL;
		s->count[state] = 0;
	}
	s->table = s->few;
	s->table_bits = FEW_BITS;
	table_clear(s->few, FEW_BITS);
	s->by_hand = NULL;
	s->base = external ? (uintptr_t)opt->base : 0;
	s->seg_size = opt->seg_size;
	s->seg_shift = 0;
	while (opt->mem && opt->seg_size >> s->seg_shift > 1)
		s->seg_shift++;
	s->used = 0;
	s->total = 0;
	s->rejected = 0;
	s->spare = 0;
	s->handles = 1;
	s->obtained = 0;
	s->keep_empty = opt->keep_empty;
	s->max_segs = opt->max_segs;
	geom_init(&s->geom, opt);
	s->mem = opt->mem ? *opt->mem : no_mem;
	s->meta = meta ? *meta : no_mem;
	s->in_first = !opt->meta && opt->first;
}

/* Memory for the cache itself: from meta, at the start of first, or from mem.
 */
static int
cache_place(const struct slab_options *opt, const struct slab_mem *meta,
    size_t *taken, struct slab **out)
{
	*taken = 0;
	if (!opt->meta && opt->first) {
		size_t pad =
		    -(uintptr_t)opt->first & (_Alignof(struct slab) - 1);

		*taken = pad + sizeof(struct slab);
		*out = (struct slab *)((uintptr_t)opt->first + pad);
		return opt->first_len < *taken ? SLAB_ESIZE : 0;
	}
	*out =
	    meta->obtain(meta->ctx, sizeof(struct slab), _Alignof(struct slab));
	return *out ? 0 : SLAB_ENOMEM;
}

int
slab_create(struct slab **out, const struct slab_options *opt)
{
	const struct slab_mem *meta;
	struct slab *s;
	size_t taken;
	int err;

	if (!out)
		return SLAB_EINVAL;
	*out = NULL;
	if (!opt || !options_valid(opt))
		return SLAB_EINVAL;
	err = try_geometry(opt);
	if (err)
		return err;
	meta = opt->meta ? opt->meta : opt->mem;
	err = cache_place(opt, meta, &taken, &s);
	if (err)
		return err;
	cache_init(s, opt, meta);
	if (opt->first) {
		err = slab_attach(s, (unsigned char *)opt->first + taken,
		    opt->first_len - taken);
		if (err < 0)
			goto drop_cache;
	}
	*out = s;
	return 0;

drop_cache:
	slab_drop(s);
	return err;
}

struct slab *
slab_clone(struct slab *s)
{
	bool full;

	enter(s);
	full = s->handles == UINT32_MAX;
	s->handles += !full;
	leave(s);
	return full ? NULL : s;
}

void
slab_drop(struct slab *s)
{
	struct scrap scrap;

	if (!s)
		return;
	enter(s);
	scrap_begin(&scrap, s);
	if (--s->handles == 0) {
		s->keep_empty = 0;
		retire_spare(s, &scrap);
		if (s->used == 0)
			retire_cache(s, &scrap);
	}
	leave(s);
	scrap_release(&scrap);
}

/* With the lock, and a segment that is not full. */
static inline void *
take_from(struct slab *s, struct segment *g)
{
	void *slot = seg_pop(seg_of(&g->seg));

	s->used++;
	list_move(s, g);
	return slot;
}

/* Entered with the lock, left without. */
COLD static void *
alloc_growing(struct slab *s)
{
	struct scrap scrap;
	struct segment *g;
	void *slot;

	scrap_begin(&scrap, s);
	g = grow(s, &scrap);
	slot = g ? take_from(s, g) : NULL;
	leave(s);
	scrap_release(&scrap);
	return slot;
}

void *
slab_alloc(struct slab *s)
{
	struct segment *g;
	void *slot;

	enter(s);
	g = s->list[SLAB_PARTIAL];
	if (!g)
		g = s->list[SLAB_EMPTY];
	if (!g)
		return alloc_growing(s);
	slot = take_from(s, g);
	leave(s);
	return slot;
}

/* A slot of `g` was freed.  Entered with the lock, left without. */
COLD static void
free_shrinking(struct slab *s, struct segment *g)
{
	struct scrap scrap;

	scrap_begin(&scrap, s);
	if (s->handles == 0 && s->used == 0)
		retire_cache(s, &scrap);
	else
		segment_retire(s, g, &scrap);
	leave(s);
	scrap_release(&scrap);
}

int
slab_free(struct slab *s, void *slot)
{
	struct segment *g;
	int err;

	if (!s)
		return SLAB_EINVAL;
	enter(s);
	g = segment_find(s, slot);
	err = g ? seg_push(seg_of(&g->seg), slot) : SLAB_ERANGE;
	if (err) {
		s->rejected++;
		leave(s);
		/* In a segment, but in its header or behind its last slot. */
		return g && err == SLAB_ERANGE ? SLAB_ESLOT : err;
	}
	s->used--;
	list_move(s, g);
	if (s->spare > s->keep_empty || (s->handles == 0 && s->used == 0))
		free_shrinking(s, g);
	else
		leave(s);
	return 0;
}

int
slab_free_in(void *slot, size_t seg_size)
{
	const struct segment *g;

	if (seg_size < sizeof(*g) || seg_size & (seg_size - 1))
		return SLAB_EINVAL;
	g = (const struct segment *)((uintptr_t)slot & -(uintptr_t)seg_size);
	if (!g || g->magic != ((uintptr_t)g ^ MAGIC))
		return SLAB_ERANGE;
	return slab_free(g->owner, slot);
}

static bool
overlaps(const struct slab *s, uintptr_t mem, uintptr_t end)
{
	for (int state = 0; state < STATES; state++)
		for (struct segment *g = s->list[state]; g; g = g->next)
			if (mem < (uintptr_t)g->mem + g->len &&
			    (uintptr_t)g->mem < end)
				return true;
	return false;
}

int
slab_attach(struct slab *s, void *mem, size_t len)
{
	struct scrap scrap;
	uintptr_t end;
	int slots;

	if (!s || !mem || __builtin_add_overflow((uintptr_t)mem, len, &end))
		return SLAB_EINVAL;
	enter(s);
	scrap_begin(&scrap, s);
	slots = overlaps(s, (uintptr_t)mem, end)
		    ? SLAB_EBUSY
		    : segment_add(s, mem, len, true, &scrap);
	leave(s);
	scrap_release(&scrap);
	return slots;
}

int
slab_detach(struct slab *s, void *mem)
{
	struct scrap scrap;
	struct segment *g;
	int err = 0;

	if (!s || !mem)
		return SLAB_EINVAL;
	enter(s);
	scrap_begin(&scrap, s);
	g = s->by_hand;
	while (g && g->mem != mem)
		g = g->chain;
	if (!g)
		err = SLAB_ERANGE;
	else if (g->state != SLAB_EMPTY)
		err = SLAB_EBUSY;
	else
		segment_retire(s, g, &scrap);
	leave(s);
	scrap_release(&scrap);
	return err;
}

int
slab_trim(struct slab *s)
{
	struct scrap scrap;
	int released;

	if (!s)
		return SLAB_EINVAL;
	enter(s);
	scrap_begin(&scrap, s);
	released = retire_spare(s, &scrap);
	leave(s);
	scrap_release(&scrap);
	return released;
}

void
slab_get_stats(struct slab *s, struct slab_stats *stats)
{
	enter(s);
	stats->segs_full = s->count[SLAB_FULL];
	stats->segs_empty = s->count[SLAB_EMPTY];
	stats->segs =
	    stats->segs_full + stats->segs_empty + s->count[SLAB_PARTIAL];
	stats->total = s->total;
	stats->used = s->used;
	stats->rejected = s->rejected;
	leave(s);
}

size_t
slab_slot_size(const struct slab *s)
{
	return s->geom.slot_size;
}

/* ------------------------------------------------------------ invariants */

static int
check_segment(const struct slab *s, const struct segment *g)
{
	if (*g->prev != g || g->owner != s ||
	    g->magic != ((uintptr_t)g ^ MAGIC) ||
	    g->state != slab_seg_state(&g->seg))
		return SLAB_EINVAL;
	if (segment_find(s, slab_seg_at(&g->seg, 0)) != g)
		return SLAB_EINVAL;
	return slab_seg_check(&g->seg);
}

/* Between calls, so with the lock and nothing in the making. */
static int
check(const struct slab *s)
{
	uint64_t total = 0, used = 0;
	uint32_t spare = 0, obtained = 0;

	for (int state = 0; state < STATES; state++) {
		uint32_t count = 0;

		for (struct segment *g = s->list[state]; g; g = g->next) {
			if ((int)g->state != state || check_segment(s, g) != 0)
				return SLAB_EINVAL;
			count++;
			total += slab_seg_capacity(&g->seg);
			used += slab_seg_used(&g->seg);
			obtained += !g->by_hand;
			spare += !g->by_hand && state == SLAB_EMPTY;
		}
		if (count != s->count[state])
			return SLAB_EINVAL;
	}
	/* Slots behind a broken link count as out, in their segment only. */
	return total == s->total && used >= s->used && spare == s->spare &&
		       spare <= s->keep_empty && obtained == s->obtained
		   ? 0
		   : SLAB_EINVAL;
}

int
slab_check(struct slab *s)
{
	int err;

	enter(s);
	err = check(s);
	unlock(s); /* damage is for the caller to handle */
	return err;
}
