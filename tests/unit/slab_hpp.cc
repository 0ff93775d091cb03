/* Tests of lib/slab.hpp: a plain program that returns 0 if all is well. */
#include <cstdio>
#include <memory>
#include <stdexcept>
#include <type_traits>
#include <utility>

#include "slab.hpp"

#define MUST(cond)                                                \
	do {                                                      \
		if (!(cond)) {                                    \
			std::printf("%d: %s\n", __LINE__, #cond); \
			failed = 1;                               \
		}                                                 \
	} while (0)

static int failed;
static int alive;

namespace
{

struct counted {
	int value;

	explicit counted(int v) : value(v)
	{
		if (v < 0)
			throw std::runtime_error("negative");
		alive++;
	}
	counted(const counted &) = delete;
	counted &operator=(const counted &) = delete;
	~counted()
	{
		alive--;
	}
};

struct giant {
	char bytes[1000];
};

struct alignas(128) picky {
	char byte;
};

struct count_only {
	int *calls;

	void
	operator()(void *) const
	{
		++*calls;
	}
};

SLAB_FITS(counted, 64);

static_assert(!std::is_copy_constructible<slab_box<counted>>::value, "");
static_assert(std::is_nothrow_move_constructible<slab_box<counted>>::value, "");

slab_handle
cache_in(void *mem, std::size_t len)
{
	struct slab_options opt = {};
	struct slab *cache;

	opt.size = sizeof(opt);
	opt.slot_size = 64;
	opt.first = mem;
	opt.first_len = len;
	return slab_handle(slab_create(&cache, &opt) == 0 ? cache : nullptr);
}

std::uint64_t
used(const slab_handle &cache)
{
	struct slab_stats stats;

	stats.size = sizeof(stats);
	slab_get_stats(cache.get(), &stats);
	return stats.used;
}

void
boxes(const slab_handle &cache)
{
	slab_box<counted> a = slab_make<counted>(cache.get(), 7);
	slab_box<counted> none;

	MUST(!none && a && a->value == 7 && alive == 1 && used(cache) == 1);
	slab_box<counted> b = std::move(a);
	MUST(!a && b && alive == 1);
	a = slab_make<counted>(cache.get(), 8);
	MUST(alive == 2 && used(cache) == 2);
	a = std::move(b);
	MUST(alive == 1 && a->value == 7);
	slab_box<const counted> c = slab_make<const counted>(cache.get(), 9);
	MUST(c->value == 9 && alive == 2);
}

void
refusals(const slab_handle &cache)
{
	bool thrown = false;

	try {
		slab_make<counted>(cache.get(), -1);
	} catch (const std::runtime_error &) {
		thrown = true;
	}
	MUST(thrown && alive == 0 && used(cache) == 0);
	MUST(!slab_make<giant>(cache.get()));
	slab_box<picky> first = slab_make<picky>(cache.get());
	slab_box<picky> second = slab_make<picky>(cache.get());
	MUST(!first || !second); /* 64 bytes apart, so one is misaligned */
	SLAB_SCOPED(cache.get(), int, guarded);
	MUST(guarded && used(cache) <= 2);
}

void
other_deleter(const slab_handle &cache)
{
	int calls = 0;
	counted *object = slab_make<counted>(cache.get(), 1).release();

	{
		slab_box<counted, count_only> box(object, count_only{&calls});
	}
	MUST(calls == 1 && alive == 1);
	slab_deleter<counted> deleter(cache.get());
	deleter(object);
	MUST(alive == 0);
}

void
outlives(slab_handle cache)
{
	slab_box<counted> box = slab_make<counted>(cache.get(), 5);
	slab_handle second(slab_clone(cache.get()));

	cache.reset();
	second.reset();
	MUST(box->value == 5);
	box.reset();
	MUST(alive == 0);
}

} // namespace

int
main()
{
	static unsigned char memory[8192];
	slab_handle cache = cache_in(memory, sizeof(memory));

	if (!cache)
		return 1;
	boxes(cache);
	MUST(alive == 0 && used(cache) == 0);
	refusals(cache);
	MUST(alive == 0 && used(cache) == 0);
	other_deleter(cache);
	MUST(used(cache) == 0);
	outlives(std::move(cache));
	return failed;
}
