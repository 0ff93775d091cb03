/*
 * What the fuzz targets share: an input that is read byte by byte, and what must
 * be true.
 */
#ifndef SLABD_TESTS_FUZZ_INPUT_H
#define SLABD_TESTS_FUZZ_INPUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

struct input {
	const uint8_t *data;
	size_t left;
};

/* Behind the end there are zeros. */
static inline uint8_t
next(struct input *in)
{
	if (in->left == 0)
		return 0;
	in->left--;
	return *in->data++;
}

static inline void
must(bool ok, const char *what)
{
	if (ok)
		return;
	fprintf(stderr, "%s\n", what);
	abort();
}

#endif
