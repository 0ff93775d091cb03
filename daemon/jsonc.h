/*
 * JSON for people: comments (#, // and slash-star), trailing commas, and
 * errors that show the place.
 *
 * The text is copied, comments and trailing commas in the copy are overwritten
 * by spaces, and cJSON parses the rest, so that an offset in the copy is one in
 * the text.  The tree holds no positions; jsonc_fail() finds them again by
 * counting, since cJSON keeps members in the order of the text.
 *
 * Stricter than cJSON where it is dangerously lenient: text is UTF-8 without
 * control characters, a string never contains NUL, a number is whole, decimal
 * and below 10^18, and nothing follows the first value.  Names that appear
 * twice in an object are left to the caller.
 */
#ifndef SLABD_DAEMON_JSONC_H
#define SLABD_DAEMON_JSONC_H

#include <stddef.h>
#include <cjson/cJSON.h>

#define JSONC_DEPTH_MAX 32 /* objects and arrays within each other */

struct jsonc {
	const char *name; /* of the file, for messages */
	const char *text; /* as written */
	size_t len;
	char *plain; /* as cJSON sees it: len bytes and a NUL */
	cJSON *root;
	char *error; /* what jsonc_close() leaves to the caller, or NULL */
};

/*
 * Parses; name and text must outlive *j.  Returns 0, -EINVAL with j->error set
 * or -ENOMEM.  jsonc_close() is due in every case.
 */
int jsonc_open(struct jsonc *j, const char *name, const char *text, size_t len);
void jsonc_close(struct jsonc *j);

/*
 * Puts "name:line:column: message", the line and a caret below the item into
 * j->error, for the caller to free.  Lines and columns count characters from 1.
 * Returns -EINVAL, or -ENOMEM with j->error NULL.
 */
__attribute__((format(printf, 3, 4))) int jsonc_fail(
    struct jsonc *j, const cJSON *item, const char *format, ...);

/* The same about the key of a member instead of its value. */
__attribute__((format(printf, 3, 4))) int jsonc_fail_key(
    struct jsonc *j, const cJSON *item, const char *format, ...);

#endif
