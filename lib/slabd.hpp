/*
 * slabd.hpp - libslabd for C++11 and later: owners that close, detach and free
 * by themselves, and errors as std::system_error. Header only; slabd.h says
 * what the calls do. Owners may be moved, not copied, and are empty after that.
 *
 *	slabd::connection daemon;
 *	slabd::pool frames(daemon, "frames");
 *	auto frame = frames.alloc<struct frame>();
 *	slabd_ref ref = frames.send(std::move(frame));
 *
 * The order of owners matters as it does in C: slots before their pool, pools
 * before their connection; declared in that order, they end so.
 */
#ifndef SLABD_HPP
#define SLABD_HPP

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <string>
#include <system_error>
#include <type_traits>
#include <utility>
#include <vector>

#include "slabd.h"

/*
 * The names live in struct slabd, which C knows as an opaque type and has taken
 * as a name, so that no namespace can be called so; nobody makes one.
 */
struct slabd {
	slabd() = delete;

	/* Throws for a negative result, in the library's words; else passes it
	 * on. */
	static int
	check(int result)
	{
		if (result < 0)
			throw std::system_error(-result,
			    std::generic_category(), slabd_error_detail());
		return result;
	}

	/* Frees a slot: what a unique_ptr needs. */
	class deleter
	{
	      public:
		deleter() noexcept : pool_(nullptr)
		{
		}
		explicit deleter(slabd_pool *pool) noexcept : pool_(pool)
		{
		}

		template <typename T>
		void
		operator()(T *slot) const noexcept
		{
			slabd_free(pool_,
			    const_cast<void *>(
				static_cast<const volatile void *>(slot)));
		}

		slabd_pool *
		pool() const noexcept
		{
			return pool_;
		}

	      private:
		slabd_pool *pool_;
	};

	/* A slot that frees itself. Nothing is constructed in it, nothing
	 * destroyed. */
	template <typename T> using slot = std::unique_ptr<T, deleter>;

	/* A connection to a daemon. */
	class connection
	{
	      public:
		/* Without a path the usual places are tried. */
		explicit connection(const char *socket_path = nullptr)
		{
			slabd *s;

			check(slabd_open(&s, socket_path));
			handle_.reset(s);
		}

		explicit connection(const slabd_options &options)
		{
			slabd *s;

			check(slabd_open_options(&s, &options));
			handle_.reset(s);
		}

		int
		fd() const
		{
			return check(slabd_fd(get()));
		}
		int
		dispatch() const
		{
			return check(slabd_dispatch(get()));
		}

		std::string
		stats_json() const
		{
			char *json;

			check(slabd_stats_json(get(), &json));
			std::unique_ptr<char, void (*)(void *)> own(
			    json, std::free);
			return std::string(json);
		}

		slabd *
		get() const noexcept
		{
			return handle_.get();
		}

	      private:
		struct closer {
			void
			operator()(slabd *s) const noexcept
			{
				slabd_close(s);
			}
		};
		std::unique_ptr<slabd, closer> handle_;
	};

	/* An attached pool. */
	class pool
	{
	      public:
		pool(const connection &c, const char *name, unsigned flags = 0)
		{
			slabd_pool *p;

			check(slabd_pool_attach(&p, c.get(), name, flags));
			handle_.reset(p);
		}

		std::size_t
		slot_size() const noexcept
		{
			return slabd_pool_slot_size(get());
		}

		/* A slot, or an exception, as for every call below. */
		template <typename T = void>
		slot<T>
		alloc()
		{
			return own<T>(slabd_alloc(get()));
		}

		template <typename T = void>
		slot<T>
		alloc_wait(int timeout_ms = -1)
		{
			return own<T>(slabd_alloc_wait(get(), timeout_ms));
		}

		/* Between one and `n` slots. */
		template <typename T = void>
		std::vector<slot<T>>
		alloc_many(unsigned n)
		{
			std::vector<void *> raw(n);
			std::vector<slot<T>> owned;

			owned.reserve(n);
			n = static_cast<unsigned>(
			    check(slabd_alloc_many(get(), raw.data(), n)));
			for (unsigned i = 0; i < n; i++)
				owned.push_back(own<T>(raw[i]));
			return owned;
		}

		void
		want(unsigned n)
		{
			check(slabd_pool_want(get(), n));
		}

		/* Gives the slot away; on failure it stays in `s`. */
		template <typename T>
		slabd_ref
		send(slot<T> &&s)
		{
			slabd_ref ref;

			check(slabd_send(get(), raw(s.get()), &ref));
			s.release();
			return ref;
		}

		/* Offers the slot and keeps it. */
		template <typename T>
		slabd_ref
		share(const slot<T> &s, unsigned receivers)
		{
			slabd_ref ref;

			check(
			    slabd_share(get(), raw(s.get()), receivers, &ref));
			return ref;
		}

		template <typename T = void>
		slot<T>
		receive(slabd_ref ref)
		{
			void *at;

			check(slabd_receive(get(), ref, &at));
			return slot<T>(static_cast<T *>(at), deleter(get()));
		}

		/*
		 * How many receipts were withdrawn. A sent slot is the caller's
		 * again, under the address it had; adopt() makes an owner of
		 * that.
		 */
		int
		recall(slabd_ref ref)
		{
			return check(slabd_recall(get(), ref));
		}
		int
		recall(slabd_ref ref, unsigned n)
		{
			return check(slabd_recall_n(get(), ref, n));
		}

		int
		flush(int timeout_ms = -1)
		{
			return check(slabd_flush(get(), timeout_ms));
		}

		/* An owner for a slot that has none. */
		template <typename T>
		slot<T>
		adopt(T *at) noexcept
		{
			return slot<T>(at, deleter(get()));
		}

		std::uint64_t
		offset(const volatile void *at) const noexcept
		{
			return slabd_offset(
			    get(), const_cast<const void *>(at));
		}
		void *
		at(std::uint64_t offset) const noexcept
		{
			return slabd_at(get(), offset);
		}

		slabd_pool *
		get() const noexcept
		{
			return handle_.get();
		}

	      private:
		struct detacher {
			void
			operator()(slabd_pool *p) const noexcept
			{
				slabd_pool_detach(p);
			}
		};

		template <typename T>
		static void *
		raw(T *at) noexcept
		{
			return const_cast<void *>(
			    static_cast<const volatile void *>(at));
		}

		template <typename T>
		static constexpr std::size_t
		size_of(T *) noexcept
		{
			return sizeof(T);
		}
		static constexpr std::size_t
		size_of(void *) noexcept
		{
			return 0;
		}

		/* What does not fit a slot of this pool is refused, and freed.
		 */
		template <typename T>
		slot<T>
		own(void *at)
		{
			if (at == nullptr)
				check(-errno);
			slot<T> owned(static_cast<T *>(at), deleter(get()));
			if (size_of(
				static_cast<typename std::remove_cv<T>::type *>(
				    nullptr)) > slot_size())
				throw std::system_error(EINVAL,
				    std::generic_category(),
				    "the type is larger than a slot");
			return owned;
		}

		std::unique_ptr<slabd_pool, detacher> handle_;
	};
};

#endif
