/*
 * SHA-256, so that the example needs no library but libslabd.
 *
 * Source: FIPS 180-4, Secure Hash Standard, sections 4.1.2, 4.2.2 and 6.2.
 */
#ifndef EXAMPLE_SHA256_H
#define EXAMPLE_SHA256_H

#include <stddef.h>
#include <stdint.h>

#define SHA256_BYTES 32u
#define SHA256_BLOCK 64u

struct sha256 {
	uint32_t state[8];
	uint64_t bytes;		     /* added so far, modulo 2^61 */
	uint8_t block[SHA256_BLOCK]; /* the first bytes % SHA256_BLOCK count */
};

void sha256_begin(struct sha256 *);
void sha256_add(struct sha256 *, const void *data, size_t len);
/* Ends it: nothing may be added afterwards. */
void sha256_end(struct sha256 *, uint8_t digest[SHA256_BYTES]);
/* Lower-case hexadecimal digits and a NUL. */
void sha256_text(
    const uint8_t digest[SHA256_BYTES], char text[2 * SHA256_BYTES + 1]);

#endif
