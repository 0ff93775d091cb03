/*
 * slab.hpp - owners for <slab.h> in C++11 and later.
 *
 *	slab_handle cache(c);                       // dropped at the end
 *	slab_box<point> p = slab_make<point>(c, 1, 2);
 *	if (!p) ...                                 // no memory
 *
 * slab_box is a std::unique_ptr: it moves, does not copy, and takes another
 * deleter as its second argument.  A box may outlive the last handle.
 */
#ifndef SLAB_HPP
#define SLAB_HPP

#include <cstdint>
#include <memory>
#include <new>
#include <type_traits>
#include <utility>

#include "slab.h"

/* Drops a handle. */
struct slab_dropper {
	void
	operator()(struct slab *cache) const noexcept
	{
		slab_drop(cache);
	}
};

using slab_handle = std::unique_ptr<struct slab, slab_dropper>;

/* Gives a slot back without destroying what is in it. */
struct slab_returner {
	struct slab *cache;

	void
	operator()(void *slot) const noexcept
	{
		slab_free(cache, slot);
	}
};

/* Destroys an object and gives its slot back. */
template <class T> struct slab_deleter {
	struct slab *cache;

	explicit slab_deleter(struct slab *from = nullptr) noexcept
	    : cache(from)
	{
	}

	void
	operator()(T *object) const noexcept
	{
		object->~T();
		slab_free(cache,
		    const_cast<typename std::remove_cv<T>::type *>(object));
	}
};

template <class T, class Deleter = slab_deleter<T>>
using slab_box = std::unique_ptr<T, Deleter>;

/*
 * Construct a T in a slot of the cache.  Empty if there is no memory, or if a T
 * does not fit the slots.  What the constructor throws is passed on, and the
 * slot given back.
 */
template <class T, class... Args>
slab_box<T>
slab_make(struct slab *cache, Args &&...args)
{
	std::unique_ptr<void, slab_returner> slot(
	    nullptr, slab_returner{cache});

	if (sizeof(T) <= slab_slot_size(cache))
		slot.reset(slab_alloc(cache));
	if (!slot ||
	    reinterpret_cast<std::uintptr_t>(slot.get()) % alignof(T) != 0)
		return slab_box<T>(nullptr, slab_deleter<T>(cache));
	T *object = ::new (slot.get()) T(std::forward<Args>(args)...);
	slot.release();
	return slab_box<T>(object, slab_deleter<T>(cache));
}

#endif
