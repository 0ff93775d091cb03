/*
 * Fuzzes the configuration reader.  Whatever the bytes are, it either explains
 * what is wrong, and where, or gives a configuration that keeps its promises
 * and reads back from its own JSON.
 *
 * Built with -DREPLAY it is a program that runs the files it is given, or else
 * the corpus.
 */
#include "config.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cjson/cJSON.h>

#include "daemon/conf.h"
#include "replay.h"

#define CHECK(condition)                                                   \
	do {                                                               \
		if (!(condition)) {                                        \
			fprintf(stderr, "%d: %s\n", __LINE__, #condition); \
			abort();                                           \
		}                                                          \
	} while (0)

/* The real databases are slow, and differ between machines. */
int
getpwnam_r(const char *name, struct passwd *entry, char *buf, size_t size,
    struct passwd **found)
{
	(void)buf;
	if (size < 4096)
		return ERANGE;
	*entry = (struct passwd){.pw_uid = 7};
	*found = strcmp(name, "u") == 0 ? entry : NULL;
	return 0;
}

int
getgrnam_r(const char *name, struct group *entry, char *buf, size_t size,
    struct group **found)
{
	(void)buf;
	(void)size;
	*entry = (struct group){.gr_gid = 8};
	*found = strcmp(name, "g") == 0 ? entry : NULL;
	return strcmp(name, "e") == 0 ? EIO : 0;
}

static void
check_pool(const struct config_pool *pool)
{
	CHECK(pool->name[0] != '\0' && strlen(pool->name) <= CONFIG_NAME_MAX);
	CHECK(pool->slot_size >= 1 && pool->slot_size <= CONFIG_SLOT_SIZE_MAX);
	CHECK(pool->slot_stride % CONFIG_SLOT_ALIGN == 0);
	CHECK(pool->slot_stride >= pool->slot_size &&
	      pool->slot_stride - pool->slot_size < CONFIG_SLOT_ALIGN);
	CHECK(pool->slots_per_segment >= 1 &&
	      pool->slots_per_segment <= CONFIG_SEGMENT_MAX);
	CHECK(pool->max_segments >= 1 &&
	      pool->min_segments <= pool->max_segments);
	CHECK((uint64_t)pool->slots_per_segment * pool->max_segments <=
	      CONFIG_SLOTS_MAX);
	CHECK(pool->orphan_seconds <= 86400);
	CHECK(pool->max_clients >= 1 &&
	      pool->max_clients <= CONFIG_POOL_CLIENTS_MAX);
	CHECK((pool->access != NULL) == (pool->naccess != 0));
	CHECK(!pool->prefault && !pool->lock);
	for (size_t i = 0; i < pool->naccess; i++)
		CHECK((pool->access[i].who == CONFIG_USER ||
			  pool->access[i].who == CONFIG_GROUP) &&
		      pool->access[i].id != UINT32_MAX);
}

static void
check_config(const struct config *config)
{
	CHECK(config->socket[0] == '/');
	CHECK(strlen(config->socket) <= CONFIG_SOCKET_MAX);
	CHECK(config->mode <= 0777 && config->log_level <= CONFIG_LOG_DEBUG);
	CHECK(config->npools <= CONFIG_POOLS_MAX);
	for (size_t i = 0; i < config->npools; i++) {
		check_pool(&config->pools[i]);
		for (size_t k = 0; k < i; k++)
			CHECK(strcmp(config->pools[i].name,
				  config->pools[k].name) != 0);
	}
}

static char *
show(const struct config *config)
{
	cJSON *json = config_to_json(config);
	char *text;

	CHECK(json != NULL);
	text = cJSON_PrintUnformatted(json);
	CHECK(text != NULL);
	cJSON_Delete(json);
	return text;
}

static void
check_round_trip(const struct config *config)
{
	char *text = show(config), *again, *error;
	struct config *copy;

	CHECK(config_parse(&copy, text, strlen(text), "shown", &error) == 0);
	again = show(copy);
	CHECK(strcmp(text, again) == 0);
	config_free(copy);
	free(text);
	free(again);
}

/* "f:LINE:COLUMN: ", with a place that exists, and a caret in the last line. */
static void
check_error(const char *error, const char *text, size_t size)
{
	size_t line, column, lines = 1;
	const char *last = strrchr(error, '\n');

	CHECK(sscanf(error, "f:%zu:%zu: ", &line, &column) == 2);
	for (size_t i = 0; i < size; i++)
		lines += text[i] == '\n';
	CHECK(line >= 1 && line <= lines && column >= 1 && column <= size + 1);
	CHECK(last != NULL && last[1 + strspn(last + 1, " \t")] == '^');
	for (const char *c = error; *c != '\0'; c++)
		CHECK((unsigned char)*c >= ' ' || *c == '\n' || *c == '\t');
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct config *config;
	/* a copy of exactly the size: reading beyond it shows */
	char *error, *text = malloc(size > 0 ? size : 1);
	int rc;

	CHECK(text != NULL);
	memcpy(text, data, size);
	rc = config_parse(&config, text, size, "f", &error);
	if (rc == 0) {
		CHECK(config != NULL && error == NULL);
		check_config(config);
		check_round_trip(config);
	} else {
		CHECK(rc == -EINVAL && config == NULL && error != NULL);
		check_error(error, text, size);
	}
	config_free(config);
	free(error);
	free(text);
	return 0;
}

#ifdef REPLAY
int
main(int argc, char **argv)
{
	return fuzz_replay(argc, argv, "config");
}
#endif
