/*
 * What Valgrind's memcheck and AddressSanitizer are told about slots, where
 * configured (--enable-annotations): a slot the program has freed or sent away
 * is not its to touch, and one that it was given is, though not initialised.
 * Slots it never had are left alone, so that attaching costs nothing.
 */
#ifndef SLABD_ANNOTATE_H
#define SLABD_ANNOTATE_H

#include <stddef.h>

#if defined(SLABD_ANNOTATIONS) && defined(HAVE_VALGRIND_MEMCHECK_H)
#include <valgrind/memcheck.h>
#define MEMCHECK_(what, at, bytes) VALGRIND_MAKE_MEM_##what(at, bytes)
#else
#define MEMCHECK_(what, at, bytes) ((void)0)
#endif

/* gcc says it by a macro, clang by a feature. */
#if defined(__SANITIZE_ADDRESS__)
#define ASAN_ 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define ASAN_ 1
#endif
#endif
#if defined(SLABD_ANNOTATIONS) && defined(ASAN_)
#include <sanitizer/asan_interface.h>
#define ASAN_POISON_(at, bytes)	  __asan_poison_memory_region(at, bytes)
#define ASAN_UNPOISON_(at, bytes) __asan_unpoison_memory_region(at, bytes)
#else
#define ASAN_POISON_(at, bytes)	  ((void)0)
#define ASAN_UNPOISON_(at, bytes) ((void)0)
#endif

/* The program was given it: allocated. */
static inline void
annotate_allocated(void *at, size_t bytes)
{
	(void)at;
	(void)bytes;
	ASAN_UNPOISON_(at, bytes);
	MEMCHECK_(UNDEFINED, at, bytes);
}

/* The same with somebody's content: received, recalled. */
static inline void
annotate_received(void *at, size_t bytes)
{
	(void)at;
	(void)bytes;
	ASAN_UNPOISON_(at, bytes);
	MEMCHECK_(DEFINED, at, bytes);
}

/* It is not the program's any more: freed, sent, or about to be unmapped. */
static inline void
annotate_gone(void *at, size_t bytes)
{
	(void)at;
	(void)bytes;
	ASAN_POISON_(at, bytes);
	MEMCHECK_(NOACCESS, at, bytes);
}

#endif
