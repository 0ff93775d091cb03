/*
 * What is written into slots and read from them: every byte derived from the
 * message's number, so that a reader finds out when it got another's.
 */
#ifndef SLABD_TESTS_PAYLOAD_H
#define SLABD_TESTS_PAYLOAD_H

#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "bench.h"

/* The part of a slot that the allocators' rows write and read. */
#define PAYLOAD_LINE 64

static inline unsigned char
payload_byte(uint64_t number)
{
	return (unsigned char)(number ^ number >> 8);
}

/* The compiler must believe that somebody reads what was written. */
static inline void
payload_write(void *to, size_t len, uint64_t number)
{
	memset(to, payload_byte(number), len);
	__asm__ volatile("" : : "r"(to) : "memory");
}

/* Sixteen bytes at any address: a carrier's buffer need not be aligned. */
typedef uint64_t payload_words
    __attribute__((vector_size(16), aligned(1), may_alias));

/* Reads all of it, a multiple of 64 bytes, and dies if it is not `number`. */
static inline void
payload_read(const void *from, size_t len, uint64_t number)
{
	const payload_words *at = (const payload_words *)from;
	const uint64_t one = UINT64_C(0x0101010101010101);
	payload_words a = {0, 0}, b = a, c = a, d = a;

	for (const payload_words *end = at + len / 16; at < end; at += 4) {
		a += at[0];
		b += at[1];
		c += at[2];
		d += at[3];
	}
	a += b + c + d;
	if (a[0] + a[1] == len / 8 * one * payload_byte(number))
		return;
	errno = EBADMSG;
	bench_die("another message's payload");
}

#endif
