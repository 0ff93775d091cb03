/*
 * Reading slabd.conf, see conf.h for what comes out.  The keys are in the
 * tables in the middle: above them the types that only this file has, below
 * them the files.
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <grp.h>
#include <inttypes.h>
#include <pwd.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/conf.h"
#include "daemon/jsonc.h"
#include "daemon/schema.h"

#define NSS_BUF_MAX (1u << 20) /* for one entry of the group database */
#define DIGITS	    "0123456789"
#define LETTERS	    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"

/* One file being read. */
struct file {
	struct jsonc json; /* first: a type gets this and knows the rest */
	struct config *config;
	const char *dir; /* where include looks; NULL: it may not be used */
	const cJSON *include; /* the pattern, if the file has one */
};

static const struct schema pool_schema, access_schema;

static const struct config_pool pool_defaults = {
    .slots_per_segment = 256,
    .min_segments = 1,
    .max_segments = 64,
    .orphan_seconds = CONFIG_ORPHAN_SECONDS,
    .max_clients = 256,
};

static const struct config config_defaults = {
    .mode = 0660,
    .max_clients = 1024,
    .max_clients_per_uid = 128,
    .handshake_seconds = 5,
    .shrink_seconds = 5,
    .log_level = CONFIG_LOG_INFO,
};

_Static_assert(CONFIG_SLOT_SIZE_MAX <= (UINT64_C(1) << 62) / CONFIG_SLOTS_MAX,
    "an offset into a region fits 62 bits");
_Static_assert(sizeof(enum config_log_level) == sizeof(unsigned) &&
		   sizeof(enum config_backing) == sizeof(unsigned),
    "schema_word stores an unsigned");
_Static_assert(
    sizeof(uid_t) == sizeof(uint32_t) && sizeof(gid_t) == sizeof(uint32_t),
    "an id is a uint32_t");

/* The socket */

static int
set_socket(
    struct jsonc *j, const struct key *key, const cJSON *item, void *field)
{
	char **path = field;
	const char *text;
	int rc = schema_text(j, item, &text);

	(void)key;
	if (rc != 0)
		return rc;
	if (text[0] != '/')
		return jsonc_fail(j, item, "expected an absolute path");
	if (strlen(text) > CONFIG_SOCKET_MAX)
		return jsonc_fail(j, item,
		    "a socket's path has at most %u bytes", CONFIG_SOCKET_MAX);
	free(*path);
	*path = strdup(text);
	return *path != NULL ? 0 : -ENOMEM;
}

static bool
show_socket(cJSON *object, const struct key *key, const void *field)
{
	const char *const *path = field;

	return cJSON_AddStringToObject(object, key->name, *path) != NULL;
}

static const struct type socket_type = {set_socket, show_socket};

static int
set_mode(struct jsonc *j, const struct key *key, const cJSON *item, void *field)
{
	const char *text = cJSON_IsString(item) ? item->valuestring : "";
	size_t digits = strspn(text, "01234567");
	mode_t mode = (mode_t)strtoul(text, NULL, 8);

	(void)key;
	/* a number would be taken for a decimal one */
	if (digits == 0 || digits > 4 || text[digits] != '\0' || mode > 0777)
		return jsonc_fail(j, item,
		    "expected octal digits in a string, up to \"0777\"");
	*(mode_t *)field = mode;
	return 0;
}

static bool
show_mode(cJSON *object, const struct key *key, const void *field)
{
	const mode_t *mode = field;
	char text[16];

	snprintf(text, sizeof(text), "%04o", (unsigned)*mode);
	return cJSON_AddStringToObject(object, key->name, text) != NULL;
}

static const struct type mode_type = {set_mode, show_mode};

/* Users and groups */

static int
find_user(const char *name, char *buf, size_t size, uint32_t *id)
{
	struct passwd entry, *found;
	int rc = getpwnam_r(name, &entry, buf, size, &found);

	if (rc != 0)
		return rc;
	if (found == NULL)
		return ENOENT;
	*id = found->pw_uid;
	return 0;
}

static int
find_group(const char *name, char *buf, size_t size, uint32_t *id)
{
	struct group entry, *found;
	int rc = getgrnam_r(name, &entry, buf, size, &found);

	if (rc != 0)
		return rc;
	if (found == NULL)
		return ENOENT;
	*id = found->gr_gid;
	return 0;
}

/* Looks a name up, with as much room as its entry needs: 0 or an errno. */
static int
find_id(enum config_who who, const char *name, uint32_t *id)
{
	int rc = ERANGE;

	for (size_t size = 1024; rc == ERANGE && size <= NSS_BUF_MAX;
	     size *= 4) {
		char *buf = malloc(size);

		if (buf == NULL)
			return ENOMEM;
		rc = who == CONFIG_USER ? find_user(name, buf, size, id)
					: find_group(name, buf, size, id);
		free(buf);
	}
	return rc;
}

/* A name or a number; (uint32_t)-1 is nobody's. */
static int
read_id(struct jsonc *j, enum config_who who, const cJSON *item, uint32_t *id)
{
	static const struct key number = {.max = UINT32_MAX - 1};
	const char *what = who == CONFIG_USER ? "user" : "group";
	const char *name;
	int rc;

	if (cJSON_IsNumber(item))
		return schema_count.set(j, &number, item, id);
	rc = schema_text(j, item, &name);
	if (rc != 0)
		return rc;
	rc = find_id(who, name, id);
	if (rc == 0 || rc == ENOMEM)
		return -rc;
	if (rc == ENOENT || rc == ESRCH)
		return jsonc_fail(j, item, "there is no such %s", what);
	return jsonc_fail(
	    j, item, "this %s cannot be looked up: %s", what, strerror(rc));
}

static int
set_id(struct jsonc *j, const struct key *key, const cJSON *item, void *field)
{
	*((bool *)field + key->flag) = true;
	return read_id(j, (enum config_who)key->min, item, field);
}

static bool
show_id(cJSON *object, const struct key *key, const void *field)
{
	const uint32_t *id = field;

	return !*((const bool *)field + key->flag) ||
	       cJSON_AddNumberToObject(object, key->name, *id) != NULL;
}

static const struct type id_type = {set_id, show_id};

/* The access list */

static int
set_who(struct jsonc *j, const struct key *key, const cJSON *item, void *field)
{
	struct config_access *access = field;

	if (access->who != 0)
		return jsonc_fail_key(
		    j, item, "a user and a group need an entry each");
	access->who = (enum config_who)key->min;
	return read_id(j, access->who, item, &access->id);
}

static bool
show_who(cJSON *object, const struct key *key, const void *field)
{
	const struct config_access *access = field;

	return access->who != (enum config_who)key->min ||
	       cJSON_AddNumberToObject(object, key->name, access->id) != NULL;
}

static const struct type who_type = {set_who, show_who};

static int
set_rights(
    struct jsonc *j, const struct key *key, const cJSON *item, void *field)
{
	unsigned word;
	int rc = schema_word.set(j, key, item, &word);

	if (rc == 0)
		*(bool *)field = word != 0;
	return rc;
}

static bool
show_rights(cJSON *object, const struct key *key, const void *field)
{
	const bool *write = field;
	unsigned word = *write;

	return schema_word.show(object, key, &word);
}

static const struct type rights_type = {set_rights, show_rights};

static int
set_access(
    struct jsonc *j, const struct key *key, const cJSON *item, void *field)
{
	struct config_pool *pool = field;
	const cJSON *entry;

	(void)key;
	if (!cJSON_IsArray(item))
		return jsonc_fail(j, item, "expected an array in brackets");
	if (item->child == NULL) /* everybody or nobody? */
		return jsonc_fail(j, item,
		    "name somebody, or leave \"access\" out to admit all");
	pool->access =
	    calloc((size_t)cJSON_GetArraySize(item), sizeof(*pool->access));
	if (pool->access == NULL)
		return -ENOMEM;
	cJSON_ArrayForEach (entry, item) {
		struct config_access *access = &pool->access[pool->naccess++];
		int rc = schema_read(j, &access_schema, entry, access);

		if (rc != 0)
			return rc;
		if (access->who == 0)
			return jsonc_fail(
			    j, entry, "\"user\" or \"group\" is missing");
	}
	return 0;
}

static bool
show_access(cJSON *object, const struct key *key, const void *field)
{
	const struct config_pool *pool = field;

	return pool->naccess == 0 ||
	       schema_show_array(object, key->name, &access_schema,
		   pool->access, pool->naccess, sizeof(*pool->access));
}

static const struct type access_type = {set_access, show_access};

/* Pools */

static int
set_name(struct jsonc *j, const struct key *key, const cJSON *item, void *field)
{
	const char *text;
	size_t len;
	int rc = schema_text(j, item, &text);

	(void)key;
	if (rc != 0)
		return rc;
	len = strlen(text);
	if (len == 0 || len > CONFIG_NAME_MAX)
		return jsonc_fail(j, item,
		    "a pool's name has 1 to %u characters", CONFIG_NAME_MAX);
	if (strspn(text, LETTERS DIGITS "_.-") != len ||
	    strspn(text, LETTERS DIGITS) == 0)
		return jsonc_fail(j, item,
		    "a pool's name has letters, digits and, not in front, "
		    "'_', '.' and '-'");
	memcpy(field, text, len + 1);
	return 0;
}

static bool
show_name(cJSON *object, const struct key *key, const void *field)
{
	return cJSON_AddStringToObject(object, key->name, field) != NULL;
}

static const struct type name_type = {set_name, show_name};

/* What no key can tell alone. */
static int
check_pool(struct jsonc *j, const cJSON *item, const struct config_pool *pool)
{
	uint64_t slots = (uint64_t)pool->slots_per_segment * pool->max_segments;

	/* the defaults break neither rule, so the key blamed is there */
	if (pool->min_segments > pool->max_segments)
		return jsonc_fail(j,
		    cJSON_GetObjectItemCaseSensitive(item, "min_segments"),
		    "more than max_segments, which is %" PRIu32,
		    pool->max_segments);
	if (slots > CONFIG_SLOTS_MAX)
		return jsonc_fail(j,
		    cJSON_GetObjectItemCaseSensitive(item, "max_segments"),
		    "%" PRIu64 " slots in all, a pool has at most %u", slots,
		    CONFIG_SLOTS_MAX);
	return 0;
}

static int
read_pool(struct jsonc *j, const cJSON *item, const struct config *config,
    struct config_pool *pool)
{
	int rc = schema_read(j, &pool_schema, item, pool);

	if (rc != 0)
		return rc;
	for (const struct config_pool *p = config->pools; p < pool; p++)
		if (strcmp(p->name, pool->name) == 0)
			return jsonc_fail(j,
			    cJSON_GetObjectItemCaseSensitive(item, "name"),
			    "there is a pool of this name already");
	pool->slot_stride = (pool->slot_size + CONFIG_SLOT_ALIGN - 1) /
			    CONFIG_SLOT_ALIGN * CONFIG_SLOT_ALIGN;
	return check_pool(j, item, pool);
}

/* Adds to the pools there are: each file may bring some. */
static int
set_pools(
    struct jsonc *j, const struct key *key, const cJSON *item, void *field)
{
	struct config *config = field;
	struct config_pool *pools;
	const cJSON *entry;
	size_t n;

	(void)key;
	if (!cJSON_IsArray(item))
		return jsonc_fail(j, item, "expected an array in brackets");
	if (item->child == NULL)
		return 0;
	n = config->npools + (size_t)cJSON_GetArraySize(item);
	if (n > CONFIG_POOLS_MAX)
		return jsonc_fail(
		    j, item, "more than %u pools", CONFIG_POOLS_MAX);
	pools = reallocarray(config->pools, n, sizeof(*pools));
	if (pools == NULL)
		return -ENOMEM;
	config->pools = pools;
	cJSON_ArrayForEach (entry, item) {
		struct config_pool *pool = &pools[config->npools++];
		int rc;

		*pool = pool_defaults;
		rc = read_pool(j, entry, config, pool);
		if (rc != 0)
			return rc;
	}
	return 0;
}

static bool
show_pools(cJSON *object, const struct key *key, const void *field)
{
	const struct config *config = field;

	return schema_show_array(object, key->name, &pool_schema, config->pools,
	    config->npools, sizeof(*config->pools));
}

static const struct type pools_type = {set_pools, show_pools};

/* Noted only: the pools of the file itself come first. */
static int
set_include(
    struct jsonc *j, const struct key *key, const cJSON *item, void *field)
{
	struct file *file = (struct file *)j;
	const char *pattern;

	(void)key;
	(void)field;
	if (file->dir == NULL)
		return jsonc_fail_key(
		    j, item, "only a configuration in a file can include");
	file->include = item;
	return schema_text(j, item, &pattern);
}

/* What was included is among the pools. */
static bool
show_include(cJSON *object, const struct key *key, const void *field)
{
	(void)object;
	(void)key;
	(void)field;
	return true;
}

static const struct type include_type = {set_include, show_include};

/* The keys */

static const char *const log_levels[] = {
    "error", "warning", "info", "debug", NULL};
static const char *const backings[] = {"posix", "memfd", "hugetlb", NULL};
static const char *const rights[] = {"r", "rw", NULL};

#define TOP(field) .name = #field, .offset = offsetof(struct config, field)
#define POOL(field) \
	.name = #field, .offset = offsetof(struct config_pool, field)
#define FLAG(f, field)                                  \
	.flag = (ptrdiff_t)offsetof(struct config, f) - \
		(ptrdiff_t)offsetof(struct config, field)
#define ID(who, f, field) .type = &id_type, .min = (who), FLAG(f, field)
#define COUNT(lo, hi)	  .type = &schema_count, .min = (lo), .max = (hi)

static const struct key config_keys[] = {
    {TOP(socket), .type = &socket_type},
    {TOP(mode), .type = &mode_type},
    {TOP(user), ID(CONFIG_USER, has_user, user)},
    {TOP(group), ID(CONFIG_GROUP, has_group, group)},
    {TOP(admin_group), ID(CONFIG_GROUP, has_admin_group, admin_group)},
    {TOP(max_clients), COUNT(1, 65535)},
    {TOP(max_clients_per_uid), COUNT(1, 65535)},
    {TOP(handshake_seconds), COUNT(1, 3600)},
    {TOP(shrink_seconds), COUNT(0, 86400)},
    {TOP(log_level), .type = &schema_word, .words = log_levels},
    {.name = "include", .type = &include_type},
    {.name = "pools", .type = &pools_type},
    {.name = NULL},
};
static const struct schema config_schema = {"the configuration", config_keys};

static const struct key included_keys[] = {
    {.name = "pools", .type = &pools_type},
    {.name = NULL},
};
static const struct schema included_schema = {
    "an included file", included_keys};

static const struct key pool_keys[] = {
    {POOL(name), .type = &name_type, .required = true},
    {POOL(slot_size), .type = &schema_size, .min = 1,
	.max = CONFIG_SLOT_SIZE_MAX, .required = true},
    {POOL(slots_per_segment), COUNT(1, CONFIG_SEGMENT_MAX)},
    {POOL(min_segments), COUNT(0, CONFIG_SLOTS_MAX)},
    {POOL(max_segments), COUNT(1, CONFIG_SLOTS_MAX)},
    {POOL(backing), .type = &schema_word, .words = backings},
    {POOL(orphan_seconds), COUNT(0, 86400)},
    {.name = "access", .type = &access_type},
    {POOL(quota), COUNT(0, UINT32_MAX)},
    {POOL(uid_quota), COUNT(0, UINT32_MAX)},
    {POOL(reserve), COUNT(0, CONFIG_SLOTS_MAX)},
    {POOL(max_clients), COUNT(1, CONFIG_POOL_CLIENTS_MAX)},
    {POOL(prefault), .type = &schema_flag},
    {POOL(lock), .type = &schema_flag},
    {.name = NULL},
};
static const struct schema pool_schema = {"a pool", pool_keys};

static const struct key access_keys[] = {
    {.name = "user", .type = &who_type, .min = CONFIG_USER},
    {.name = "group", .type = &who_type, .min = CONFIG_GROUP},
    {.name = "rights",
	.type = &rights_type,
	.words = rights,
	.offset = offsetof(struct config_access, write),
	.required = true},
    {.name = NULL},
};
static const struct schema access_schema = {"an access entry", access_keys};

/* Files */

/* *error becomes "path: reason"; returns rc. */
static int
fail_file(char **error, int rc, const char *path, const char *reason)
{
	if (asprintf(error, "%s: %s", path, reason) >= 0)
		return rc;
	*error = NULL;
	return -ENOMEM;
}

/* Whoever can write the file could give himself every pool. */
static int
check_file(int fd, const char *path, char **error)
{
	struct stat st;

	if (fstat(fd, &st) != 0)
		return fail_file(error, -errno, path, strerror(errno));
	if (!S_ISREG(st.st_mode))
		return fail_file(error, -EPERM, path, "not a regular file");
	if (st.st_mode & S_IWOTH)
		return fail_file(error, -EPERM, path,
		    "anybody can write this file: chmod o-w");
	return 0;
}

/* Reads until the end or until size bytes: how many, or -errno. */
static ssize_t
read_all(int fd, char *text, size_t size)
{
	size_t len = 0;

	while (len < size) {
		ssize_t n = read(fd, text + len, size - len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			break;
		len += (size_t)n;
	}
	return (ssize_t)len;
}

/* Reads into text, which has room for a byte more than a file may have. */
static ssize_t
read_file(const char *path, char *text, char **error)
{
	/* non-blocking: the path may turn out to be a pipe */
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	ssize_t rc;

	if (fd < 0)
		return fail_file(error, -errno, path, strerror(errno));
	rc = check_file(fd, path, error);
	if (rc == 0) {
		rc = read_all(fd, text, CONFIG_FILE_MAX + 1);
		if (rc < 0)
			rc =
			    fail_file(error, (int)rc, path, strerror((int)-rc));
		else if (rc > (ssize_t)CONFIG_FILE_MAX)
			rc =
			    fail_file(error, -EFBIG, path, "larger than 1 MiB");
	}
	close(fd);
	return rc;
}

static int load(struct config *config, const struct schema *schema,
    const char *path, const char *dir, char **error);

/* dir/pattern; only the pattern has wildcards. */
static char *
join(const char *dir, const char *pattern)
{
	char *path = NULL;
	size_t len;
	FILE *f;

	if (pattern[0] == '/')
		return strdup(pattern);
	f = open_memstream(&path, &len);
	if (f == NULL)
		return NULL;
	for (; *dir != '\0'; dir++)
		fprintf(f, strchr("*?[\\", *dir) ? "\\%c" : "%c", *dir);
	fprintf(f, "/%s", pattern);
	if (fclose(f) == 0)
		return path;
	free(path);
	return NULL;
}

/* A directory that is not there has no match; one we cannot see into might. */
static int
glob_failed(const char *path, int error)
{
	(void)path;
	return error != ENOENT && error != ENOTDIR;
}

static int
load_included(struct file *file)
{
	struct jsonc *j = &file->json;
	char *pattern = join(file->dir, file->include->valuestring);
	glob_t found = {0};
	int rc;

	if (pattern == NULL)
		return -ENOMEM;
	rc = glob(pattern, 0, glob_failed, &found);
	free(pattern);
	if (rc == GLOB_NOMATCH)
		rc = 0;
	else if (rc == GLOB_NOSPACE)
		rc = -ENOMEM;
	else if (rc != 0)
		rc = jsonc_fail(j, file->include,
		    "a directory in this path cannot be read");
	for (size_t i = 0; rc == 0 && i < found.gl_pathc; i++)
		rc = load(file->config, &included_schema, found.gl_pathv[i],
		    NULL, &j->error);
	globfree(&found);
	return rc;
}

static int
parse(struct config *config, const struct schema *schema, const char *text,
    size_t len, const char *name, const char *dir, char **error)
{
	struct file file = {.config = config, .dir = dir};
	int rc = jsonc_open(&file.json, name, text, len);

	if (rc == 0)
		rc = schema_read(&file.json, schema, file.json.root, config);
	if (rc == 0 && file.include != NULL)
		rc = load_included(&file);
	*error = file.json.error;
	jsonc_close(&file.json);
	return rc;
}

static int
load(struct config *config, const struct schema *schema, const char *path,
    const char *dir, char **error)
{
	char *text = malloc(CONFIG_FILE_MAX + 1);
	ssize_t len;
	int rc;

	if (text == NULL)
		return -ENOMEM;
	len = read_file(path, text, error);
	rc = len < 0
		 ? (int)len
		 : parse(config, schema, text, (size_t)len, path, dir, error);
	free(text);
	return rc;
}

static struct config *
config_new(void)
{
	struct config *config = malloc(sizeof(*config));

	if (config == NULL)
		return NULL;
	*config = config_defaults;
	config->socket = strdup(CONFIG_SOCKET);
	if (config->socket != NULL)
		return config;
	free(config);
	return NULL;
}

/* Hands over what was read, or frees it and finds words for the reason. */
static int
finish(struct config **out, struct config *config, int rc, char **error)
{
	if (rc == 0) {
		*out = config;
		return 0;
	}
	config_free(config);
	if (rc == -ENOMEM && *error == NULL)
		*error = strdup("out of memory");
	return rc;
}

int
config_load(struct config **out, const char *path, char **error)
{
	const char *slash = strrchr(path, '/');
	struct config *config = config_new();
	char *dir =
	    slash != NULL ? strndup(path, (size_t)(slash - path)) : strdup(".");
	int rc = -ENOMEM;

	*out = NULL;
	*error = NULL;
	if (config != NULL && dir != NULL)
		rc = load(config, &config_schema, path, dir, error);
	free(dir);
	return finish(out, config, rc, error);
}

int
config_parse(struct config **out, const char *text, size_t len,
    const char *name, char **error)
{
	struct config *config = config_new();
	int rc = -ENOMEM;

	*out = NULL;
	*error = NULL;
	if (config != NULL)
		rc =
		    parse(config, &config_schema, text, len, name, NULL, error);
	return finish(out, config, rc, error);
}

void
config_free(struct config *config)
{
	if (config == NULL)
		return;
	for (size_t i = 0; i < config->npools; i++)
		free(config->pools[i].access);
	free(config->pools);
	free(config->socket);
	free(config);
}

struct cJSON *
config_to_json(const struct config *config)
{
	cJSON *json = cJSON_CreateObject();

	if (json != NULL && schema_show(json, &config_schema, config))
		return json;
	cJSON_Delete(json);
	return NULL;
}
