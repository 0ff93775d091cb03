/*
 * Objects of a configuration, described by tables: each key once, with its
 * type, its place in a C struct and its range.  Reading, writing back, the
 * nearest name for a mistyped key and the check for missing ones follow the
 * table.
 *
 * A key whose offset is 0 hands its type the whole struct; so a type may also
 * fill several fields.
 */
#ifndef SLABD_DAEMON_SCHEMA_H
#define SLABD_DAEMON_SCHEMA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "daemon/jsonc.h"

struct key;

/* How a value is checked into a field, and how it becomes JSON again. */
struct type {
	/* item is of any JSON type; 0, -ENOMEM or what jsonc_fail() gave */
	int (*set)(struct jsonc *j, const struct key *key, const cJSON *item,
	    void *field);
	/* adds a member to the object, or nothing; false: no memory */
	bool (*show)(cJSON *object, const struct key *key, const void *field);
};

struct key {
	const char *name; /* NULL ends a table; at most 31 bytes */
	const struct type *type;
	size_t offset;		  /* of the field in the struct */
	ptrdiff_t flag;		  /* from there to a bool for "is set" */
	uint32_t min, max;	  /* of a number */
	const char *const *words; /* of schema_word, ended by NULL */
	bool required;
};

struct schema {
	const char *where;	/* for messages: "unknown key in ..." */
	const struct key *keys; /* at most 32 */
};

extern const struct type schema_count; /* uint32_t */
extern const struct type schema_size;  /* uint64_t, bytes: 65536 or "64K" */
extern const struct type schema_flag;  /* bool */
extern const struct type schema_word;  /* an enum: the index of the word */

/*
 * Fills the struct from a JSON object.  Every key is known and there at most
 * once, and none that is required is missing.  Returns 0, -EINVAL with
 * j->error set, or -ENOMEM.
 */
int schema_read(struct jsonc *j, const struct schema *schema,
    const cJSON *object, void *into);

/* Adds what the struct holds to a JSON object; false: no memory. */
bool schema_show(cJSON *object, const struct schema *schema, const void *from);

/* Adds n structs of size bytes as an array of objects; false: no memory. */
bool schema_show_array(cJSON *object, const char *name,
    const struct schema *schema, const void *from, size_t n, size_t size);

/* Values on the way into a field; 0, or what jsonc_fail() gave. */
int schema_text(struct jsonc *j, const cJSON *item, const char **text);
int schema_range(
    struct jsonc *j, const struct key *key, const cJSON *item, uint64_t value);

#endif
