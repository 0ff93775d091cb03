/* Tables of keys, see schema.h. */
#include "config.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "daemon/schema.h"

#define KEY_MAX 32u /* bytes of a key we know, with its NUL */

/* How many letters to add, drop or change to get from a to b. */
static size_t
distance(const char *a, const char *b)
{
	size_t row[KEY_MAX], n = strlen(b);

	for (size_t i = 0; i <= n; i++)
		row[i] = i;
	for (; *a != '\0'; a++) {
		size_t diagonal = row[0]++;

		for (size_t i = 1; i <= n; i++) {
			size_t best =
			    diagonal + (tolower((unsigned char)*a) != b[i - 1]);

			diagonal = row[i];
			if (best > diagonal + 1)
				best = diagonal + 1;
			if (best > row[i - 1] + 1)
				best = row[i - 1] + 1;
			row[i] = best;
		}
	}
	return row[n];
}

/* The key that was probably meant, or NULL. */
static const char *
nearest(const struct schema *schema, const char *name)
{
	const char *found = NULL;
	size_t least = SIZE_MAX;

	if (strlen(name) >= KEY_MAX)
		return NULL;
	for (const struct key *key = schema->keys; key->name != NULL; key++) {
		size_t d = distance(name, key->name);

		if (d < least && d <= 2 + strlen(key->name) / 6) {
			least = d;
			found = key->name;
		}
	}
	return found;
}

static int
fail_unknown(struct jsonc *j, const struct schema *schema, const cJSON *item)
{
	const char *meant = nearest(schema, item->string);

	if (meant == NULL)
		return jsonc_fail_key(
		    j, item, "unknown key in %s", schema->where);
	return jsonc_fail_key(j, item,
	    "unknown key in %s, did you mean \"%s\"?", schema->where, meant);
}

/* Reads one member; seen has a bit for each key that was here already. */
static int
read_member(struct jsonc *j, const struct schema *schema, const cJSON *item,
    char *into, uint32_t *seen)
{
	const struct key *key = schema->keys;
	uint32_t bit = 1;

	for (; key->name != NULL; key++, bit <<= 1)
		if (strcmp(key->name, item->string) == 0)
			break;
	if (key->name == NULL)
		return fail_unknown(j, schema, item);
	if (*seen & bit)
		return jsonc_fail_key(j, item, "this key was here before");
	*seen |= bit;
	return key->type->set(j, key, item, into + key->offset);
}

int
schema_read(struct jsonc *j, const struct schema *schema, const cJSON *object,
    void *into)
{
	uint32_t seen = 0, bit = 1;
	const cJSON *item;

	if (!cJSON_IsObject(object))
		return jsonc_fail(j, object, "expected an object in braces");
	cJSON_ArrayForEach (item, object) {
		int rc = read_member(j, schema, item, into, &seen);

		if (rc != 0)
			return rc;
	}
	for (const struct key *key = schema->keys; key->name != NULL; key++) {
		if (key->required && !(seen & bit))
			return jsonc_fail(j, object, "\"%s\" is missing in %s",
			    key->name, schema->where);
		bit <<= 1;
	}
	return 0;
}

bool
schema_show(cJSON *object, const struct schema *schema, const void *from)
{
	for (const struct key *key = schema->keys; key->name != NULL; key++) {
		const void *field = (const char *)from + key->offset;

		if (!key->type->show(object, key, field))
			return false;
	}
	return true;
}

bool
schema_show_array(cJSON *object, const char *name, const struct schema *schema,
    const void *from, size_t n, size_t size)
{
	cJSON *array = cJSON_AddArrayToObject(object, name);

	if (array == NULL)
		return false;
	for (const char *at = from; n > 0; n--, at += size) {
		cJSON *entry = cJSON_CreateObject();

		if (!cJSON_AddItemToArray(array, entry) ||
		    !schema_show(entry, schema, at))
			return false;
	}
	return true;
}

int
schema_range(
    struct jsonc *j, const struct key *key, const cJSON *item, uint64_t value)
{
	if (value >= key->min && value <= key->max)
		return 0;
	return jsonc_fail(j, item, "must be from %" PRIu32 " to %" PRIu32,
	    key->min, key->max);
}

/* The range, for what may be negative: jsonc.c admits 18 digits and a sign. */
static int
read_number(
    struct jsonc *j, const struct key *key, const cJSON *item, uint64_t *value)
{
	/* valueint would stop at INT_MAX */
	*value =
	    item->valuedouble < 0 ? UINT64_MAX : (uint64_t)item->valuedouble;
	return schema_range(j, key, item, *value);
}

static int
set_count(
    struct jsonc *j, const struct key *key, const cJSON *item, void *field)
{
	uint64_t value;
	int rc;

	if (!cJSON_IsNumber(item))
		return jsonc_fail(j, item, "expected a number");
	rc = read_number(j, key, item, &value);
	if (rc == 0)
		*(uint32_t *)field = (uint32_t)value;
	return rc;
}

static bool
show_count(cJSON *object, const struct key *key, const void *field)
{
	const uint32_t *value = field;

	return cJSON_AddNumberToObject(object, key->name, *value) != NULL;
}

const struct type schema_count = {set_count, show_count};

/* Reads "64K"; what does not fit 64 bits becomes UINT64_MAX. */
static bool
parse_size(const char *s, uint64_t *bytes)
{
	static const char units[] = "KMG";
	const char *unit;
	uint64_t n = 0;
	bool over = !isdigit((unsigned char)*s);

	if (over)
		return false;
	for (; isdigit((unsigned char)*s); s++)
		over |= __builtin_mul_overflow(n, 10u, &n) ||
			__builtin_add_overflow(n, (unsigned)(*s - '0'), &n);
	if (*s != '\0') {
		unit = strchr(units, *s);
		if (unit == NULL || s[1] != '\0')
			return false;
		over |= __builtin_mul_overflow(
		    n, UINT64_C(1024) << (10 * (unit - units)), &n);
	}
	*bytes = over ? UINT64_MAX : n;
	return true;
}

static int
set_size(struct jsonc *j, const struct key *key, const cJSON *item, void *field)
{
	uint64_t value;
	int rc;

	if (cJSON_IsNumber(item))
		rc = read_number(j, key, item, &value);
	else if (cJSON_IsString(item) && parse_size(item->valuestring, &value))
		rc = schema_range(j, key, item, value);
	else
		return jsonc_fail(j, item,
		    "expected bytes, as a number or like \"64K\", \"16M\" or "
		    "\"1G\"");
	if (rc == 0)
		*(uint64_t *)field = value;
	return rc;
}

static bool
show_size(cJSON *object, const struct key *key, const void *field)
{
	const uint64_t *value = field;

	return cJSON_AddNumberToObject(object, key->name, (double)*value) !=
	       NULL;
}

const struct type schema_size = {set_size, show_size};

static int
set_flag(struct jsonc *j, const struct key *key, const cJSON *item, void *field)
{
	(void)key;
	if (!cJSON_IsBool(item))
		return jsonc_fail(j, item, "expected true or false");
	*(bool *)field = cJSON_IsTrue(item);
	return 0;
}

static bool
show_flag(cJSON *object, const struct key *key, const void *field)
{
	const bool *value = field;

	return cJSON_AddBoolToObject(object, key->name, *value) != NULL;
}

const struct type schema_flag = {set_flag, show_flag};

int
schema_text(struct jsonc *j, const cJSON *item, const char **text)
{
	if (!cJSON_IsString(item))
		return jsonc_fail(j, item, "expected a string");
	*text = item->valuestring;
	for (const char *c = *text; *c != '\0'; c++)
		if (iscntrl((unsigned char)*c))
			return jsonc_fail(
			    j, item, "control character in a string");
	return 0;
}

static int
fail_word(struct jsonc *j, const struct key *key, const cJSON *item)
{
	char list[128] = "";
	size_t len = 0;

	for (unsigned i = 0; key->words[i] != NULL && len < sizeof(list); i++)
		len += (size_t)snprintf(list + len, sizeof(list) - len,
		    "%s\"%s\"", i > 0 ? " or " : "", key->words[i]);
	return jsonc_fail(j, item, "expected %s", list);
}

static int
set_word(struct jsonc *j, const struct key *key, const cJSON *item, void *field)
{
	const char *text = "";
	unsigned word = 0;
	int rc = schema_text(j, item, &text);

	if (rc != 0)
		return rc;
	while (key->words[word] != NULL && strcmp(key->words[word], text) != 0)
		word++;
	if (key->words[word] == NULL)
		return fail_word(j, key, item);
	*(unsigned *)field = word;
	return 0;
}

static bool
show_word(cJSON *object, const struct key *key, const void *field)
{
	const unsigned *word = field;

	return cJSON_AddStringToObject(object, key->name, key->words[*word]) !=
	       NULL;
}

const struct type schema_word = {set_word, show_word};
