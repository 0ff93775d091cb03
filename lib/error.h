/*
 * The last failure of each thread in words, for slabd_error_detail().
 */
#ifndef SLABD_ERROR_H
#define SLABD_ERROR_H

#include <stddef.h>

#define ERROR_TEXT_BYTES 1024u /* of a failure in words, NUL included */

/* Remembers what happened, and returns `err` (negative), for `return`. */
int error_set(int err, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* The same in the words of slabd_strerror(), after `what`. */
int error_plain(int err, const char *what);

/* NULL, with errno set from `err` (negative). */
void *error_null(int err);

/*
 * Copies another process's `len` bytes of text, cut to `cap` with the NUL.
 * Newlines stay; a tab becomes a space, so that what is aligned below it stays
 * so, and every other control character a '?'.
 */
void error_copy(char *out, size_t cap, const void *text, size_t len);

#endif
