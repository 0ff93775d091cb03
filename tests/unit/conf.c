/*
 * The configuration: what each key takes, where each error points, included
 * files, and that a configuration survives being written and read.
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cjson/cJSON.h>
#include <criterion/criterion.h>

#include "daemon/conf.h"

TestSuite(config, .timeout = 20);

static struct config *
parse(const char *text)
{
	struct config *config;
	char *error;
	int rc = config_parse(&config, text, strlen(text), "f", &error);

	cr_assert_eq(rc, 0, "%s\n%s", text, error);
	cr_assert_not_null(config);
	cr_assert_null(error);
	return config;
}

/* One error: the first line after "f:", in a text that spans lines or not. */
struct wrong {
	const char *text, *error;
};

static void
check_wrong(const struct wrong *cases, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		const struct wrong *w = &cases[i];
		struct config *config;
		char *error;
		int rc = config_parse(
		    &config, w->text, strlen(w->text), "f", &error);

		cr_assert_eq(rc, -EINVAL, "accepted: %s", w->text);
		cr_assert_null(config);
		cr_assert_not_null(error);
		*strchr(error, '\n') = '\0';
		cr_assert_str_eq(error, w->error,
		    "%s\nsays     %s\nexpected %s", w->text, error, w->error);
		free(error);
	}
}

#define CHECK_WRONG(cases) check_wrong(cases, sizeof(cases) / sizeof(*cases))

#define POOL(members) \
	"{\"pools\":[{\"name\":\"a\",\"slot_size\":64," members "}]}"

Test(config, defaults)
{
	struct config *c = parse("{}");

	cr_assert_str_eq(c->socket, "/run/slabd/slabd.sock");
	cr_assert_eq(c->mode, 0660);
	cr_assert(!c->has_user && !c->has_group && !c->has_admin_group);
	cr_assert_eq(c->max_clients, 1024);
	cr_assert_eq(c->max_clients_per_uid, 128);
	cr_assert_eq(c->handshake_seconds, 5);
	cr_assert_eq(c->shrink_seconds, 5);
	cr_assert_eq(c->log_level, CONFIG_LOG_INFO);
	cr_assert_eq(c->npools, 0);
	config_free(c);

	c = parse("{\"pools\": [{\"name\": \"a\", \"slot_size\": 1}]}");
	cr_assert_eq(c->npools, 1);
	cr_assert_str_eq(c->pools[0].name, "a");
	cr_assert_eq(c->pools[0].slot_size, 1);
	cr_assert_eq(c->pools[0].slot_stride, 64);
	cr_assert_eq(c->pools[0].slots_per_segment, 256);
	cr_assert_eq(c->pools[0].min_segments, 1);
	cr_assert_eq(c->pools[0].max_segments, 64);
	cr_assert_eq(c->pools[0].backing, CONFIG_BACKING_POSIX);
	cr_assert_eq(c->pools[0].orphan_seconds, 10);
	cr_assert_eq(c->pools[0].naccess, 0);
	cr_assert_eq(c->pools[0].quota, 0);
	cr_assert_eq(c->pools[0].uid_quota, 0);
	cr_assert_eq(c->pools[0].reserve, 0);
	cr_assert_eq(c->pools[0].max_clients, 256);
	cr_assert(!c->pools[0].prefault && !c->pools[0].lock);
	config_free(c);
}

static const char *const everything =
    "{ # everything at once\n"
    "\"socket\": \"/tmp/s\", \"mode\": \"600\", \"group\": \"root\",\n"
    "\"user\": 99, \"admin_group\": 4294967294, \"max_clients\": 65535,\n"
    "\"max_clients_per_uid\": 1, \"handshake_seconds\": 3600,\n"
    "\"shrink_seconds\": 0, \"log_level\": \"debug\",\n"
    "\"pools\": [\n"
    "  {\"name\": \"frames\", \"slot_size\": \"64K\", \"backing\": \"posix\",\n"
    "   \"slots_per_segment\": 65534, \"min_segments\": 2,\n"
    "   \"max_segments\": 256, \"orphan_seconds\": 86400,\n"
    "   \"access\": [ {\"group\": 44, \"rights\": \"rw\"},\n"
    "     {\"rights\": \"r\", \"user\": \"root\"}, ],\n"
    "   \"quota\": 4294967295, \"uid_quota\": 2000, \"reserve\": 16,\n"
    "   \"max_clients\": 4095, \"prefault\": false, \"lock\": false},\n"
    "  {\"name\": \"B-2_c.\", \"slot_size\": 65, \"min_segments\": 0,\n"
    "   \"backing\": \"hugetlb\", \"prefault\": true, \"lock\": true}, ],\n"
    "}\n";

static void
check_everything(const struct config *c)
{
	const struct config_pool *p = c->pools;

	cr_assert_str_eq(c->socket, "/tmp/s");
	cr_assert_eq(c->mode, 0600);
	cr_assert(c->has_user && c->has_group && c->has_admin_group);
	cr_assert_eq(c->user, 99);
	cr_assert_eq(c->group, 0);
	cr_assert_eq(c->admin_group, 4294967294);
	cr_assert_eq(c->max_clients, 65535);
	cr_assert_eq(c->max_clients_per_uid, 1);
	cr_assert_eq(c->handshake_seconds, 3600);
	cr_assert_eq(c->shrink_seconds, 0);
	cr_assert_eq(c->log_level, CONFIG_LOG_DEBUG);
	cr_assert_eq(c->npools, 2);
	cr_assert_str_eq(p->name, "frames");
	cr_assert_eq(p->slot_size, 65536);
	cr_assert_eq(p->slot_stride, 65536);
	cr_assert_eq(p->slots_per_segment, 65534);
	cr_assert_eq(p->min_segments, 2);
	cr_assert_eq(p->max_segments, 256);
	cr_assert_eq(p->orphan_seconds, 86400);
	cr_assert_eq(p->naccess, 2);
	cr_assert_eq(p->access[0].who, CONFIG_GROUP);
	cr_assert_eq(p->access[0].id, 44);
	cr_assert(p->access[0].write);
	cr_assert_eq(p->access[1].who, CONFIG_USER);
	cr_assert_eq(p->access[1].id, 0);
	cr_assert(!p->access[1].write);
	cr_assert_eq(p->quota, UINT32_MAX);
	cr_assert_eq(p->uid_quota, 2000);
	cr_assert_eq(p->reserve, 16);
	cr_assert_eq(p->max_clients, 4095);
	cr_assert_str_eq(p[1].name, "B-2_c.");
	cr_assert_eq(p[1].slot_size, 65);
	cr_assert_eq(p[1].slot_stride, 128);
	cr_assert_eq(p[1].min_segments, 0);
	cr_assert_eq(p->backing, CONFIG_BACKING_POSIX);
	cr_assert(!p->prefault && !p->lock);
	cr_assert_eq(p[1].backing, CONFIG_BACKING_HUGETLB);
	cr_assert(p[1].prefault && p[1].lock);
}

Test(config, every_key)
{
	struct config *c = parse(everything);

	check_everything(c);
	config_free(c);
}

Test(config, round_trip)
{
	struct config *c = parse(everything), *copy;
	cJSON *json = config_to_json(c), *again;
	char *text = cJSON_Print(json);

	copy = parse(text);
	check_everything(copy);
	again = config_to_json(copy);
	cr_assert(cJSON_Compare(json, again, 1));
	cJSON_Delete(json);
	cJSON_Delete(again);
	free(text);
	config_free(c);
	config_free(copy);
}

Test(config, free_takes_null)
{
	config_free(NULL);
}

Test(config, sizes)
{
	static const struct {
		const char *text;
		uint64_t bytes, stride;
	} good[] = {
	    {"1", 1, 64},
	    {"\"1\"", 1, 64},
	    {"64", 64, 64},
	    {"1073741824", 1 << 30, 1 << 30},
	    {"1073741823", (1 << 30) - 1, 1 << 30},
	    {"\"1G\"", 1 << 30, 1 << 30},
	    {"\"1024M\"", 1 << 30, 1 << 30},
	    {"\"3K\"", 3072, 3072},
	    {"\"16M\"", 16 << 20, 16 << 20},
	    {"\"007\"", 7, 64},
	};

	for (size_t i = 0; i < sizeof(good) / sizeof(*good); i++) {
		char text[128];
		struct config *c;

		snprintf(text, sizeof(text),
		    "{\"pools\":[{\"name\":\"a\",\"slot_size\":%s}]}",
		    good[i].text);
		c = parse(text);
		cr_assert_eq(c->pools[0].slot_size, good[i].bytes, "%s", text);
		cr_assert_eq(c->pools[0].slot_stride, good[i].stride);
		config_free(c);
	}
}

Test(config, wrong_sizes)
{
	static const char *const out[] = {"0", "-1", "1073741825",
	    "999999999999999999", "\"0\"", "\"0K\"", "\"2G\"", "\"1048577K\"",
	    "\"18446744073709551616\"", "\"18446744073709551617\"",
	    "\"18014398509481985K\"", "\"17179869185G\"",
	    "\"99999999999999999999999999999999999999\""};
	static const char *const no[] = {"\"\"", "\"K\"", "\"64k\"", "\"64KB\"",
	    "\"64 K\"", "\" 64\"", "\"-1\"", "\"+1\"", "\"1.5K\"", "\"0x40\"",
	    "\"1T\"", "null", "true", "[]", "{}"};
	char text[128];

	for (size_t i = 0; i < sizeof(out) / sizeof(*out); i++) {
		snprintf(text, sizeof(text),
		    "{\"pools\":[{\"name\":\"a\",\n\"slot_size\":%s}]}",
		    out[i]);
		check_wrong(&(struct wrong){text,
				"f:2:13: must be from 1 to 1073741824"},
		    1);
	}
	for (size_t i = 0; i < sizeof(no) / sizeof(*no); i++) {
		snprintf(text, sizeof(text),
		    "{\"pools\":[{\"name\":\"a\",\n\"slot_size\":%s}]}", no[i]);
		check_wrong(&(struct wrong){text,
				"f:2:13: expected bytes, as a number or like "
				"\"64K\", \"16M\" or \"1G\""},
		    1);
	}
}

Test(config, wrong_numbers)
{
	static const struct wrong cases[] = {
	    {"{\"max_clients\": 0}", "f:1:17: must be from 1 to 65535"},
	    {"{\"max_clients\": 65536}", "f:1:17: must be from 1 to 65535"},
	    {"{\"max_clients\": 4294967297}",
		"f:1:17: must be from 1 to 65535"},
	    {"{\"max_clients\": -1}", "f:1:17: must be from 1 to 65535"},
	    {"{\"max_clients\": \"1\"}", "f:1:17: expected a number"},
	    {"{\"max_clients\": null}", "f:1:17: expected a number"},
	    {"{\"max_clients\": 1.5}",
		"f:1:17: not a whole number; sizes with a unit stand in "
		"quotes"},
	    {"{\"max_clients_per_uid\": 0}", "f:1:25: must be from 1 to 65535"},
	    {"{\"max_clients_per_uid\": 65536}",
		"f:1:25: must be from 1 to 65535"},
	    {"{\"handshake_seconds\": 0}", "f:1:23: must be from 1 to 3600"},
	    {"{\"handshake_seconds\": 3601}", "f:1:23: must be from 1 to 3600"},
	    {"{\"shrink_seconds\": 86401}", "f:1:20: must be from 0 to 86400"},
	    {"{\"shrink_seconds\": -1}", "f:1:20: must be from 0 to 86400"},
	    {POOL("\n\"slots_per_segment\":0"),
		"f:2:21: must be from 1 to 65534"},
	    {POOL("\n\"slots_per_segment\":65535"),
		"f:2:21: must be from 1 to 65534"},
	    {POOL("\n\"min_segments\":-1"),
		"f:2:16: must be from 0 to 16777216"},
	    {POOL("\n\"min_segments\":16777217"),
		"f:2:16: must be from 0 to 16777216"},
	    {POOL("\n\"max_segments\":0"),
		"f:2:16: must be from 1 to 16777216"},
	    {POOL("\n\"max_segments\":16777217"),
		"f:2:16: must be from 1 to 16777216"},
	    {POOL("\n\"orphan_seconds\":86401"),
		"f:2:18: must be from 0 to 86400"},
	    {POOL("\n\"quota\":-1"), "f:2:9: must be from 0 to 4294967295"},
	    {POOL("\n\"quota\":4294967296"),
		"f:2:9: must be from 0 to 4294967295"},
	    {POOL("\n\"uid_quota\":4294967296"),
		"f:2:13: must be from 0 to 4294967295"},
	    {POOL("\n\"reserve\":16777217"),
		"f:2:11: must be from 0 to 16777216"},
	    {POOL("\n\"max_clients\":0"), "f:2:15: must be from 1 to 4095"},
	    {POOL("\n\"max_clients\":4096"), "f:2:15: must be from 1 to 4095"},
	};

	CHECK_WRONG(cases);
}

Test(config, wrong_sums)
{
	static const struct wrong cases[] = {
	    {POOL("\n\"max_segments\": 2, \"min_segments\": 3"),
		"f:2:36: more than max_segments, which is 2"},
	    {POOL("\n\"min_segments\": 65"),
		"f:2:17: more than max_segments, which is 64"},
	    {POOL("\n\"max_segments\": 65537"),
		"f:2:17: 16777472 slots in all, a pool has at most 16777216"},
	    {POOL("\n\"max_segments\":16777216,\"slots_per_segment\":65534"),
		"f:2:16: 1099478073344 slots in all, a pool has at most "
		"16777216"},
	};

	CHECK_WRONG(cases);
	config_free(parse(POOL("\"max_segments\":2,\"min_segments\":2")));
	config_free(parse(POOL("\"max_segments\":65536")));
	config_free(
	    parse(POOL("\"max_segments\":16777216,\"slots_per_segment\":1")));
	config_free(parse(POOL("\"slots_per_segment\":65534")));
}

Test(config, wrong_strings)
{
	static const struct wrong cases[] = {
	    {"{\"socket\": 1}", "f:1:12: expected a string"},
	    {"{\"socket\": \"slabd.sock\"}",
		"f:1:12: expected an absolute path"},
	    {"{\"socket\": \"\"}", "f:1:12: expected an absolute path"},
	    {"{\"socket\": \"/a\\nb\"}",
		"f:1:12: control character in a string"},
	    {"{\"socket\": \"/a\\u0000b\"}",
		"f:1:15: a string cannot contain NUL"},
	    {"{\"mode\": 660}",
		"f:1:10: expected octal digits in a string, up to \"0777\""},
	    {"{\"mode\": \"\"}",
		"f:1:10: expected octal digits in a string, up to \"0777\""},
	    {"{\"mode\": \"0680\"}",
		"f:1:10: expected octal digits in a string, up to \"0777\""},
	    {"{\"mode\": \"1000\"}",
		"f:1:10: expected octal digits in a string, up to \"0777\""},
	    {"{\"mode\": \"00660\"}",
		"f:1:10: expected octal digits in a string, up to \"0777\""},
	    {"{\"log_level\": \"loud\"}",
		"f:1:15: expected \"error\" or \"warning\" or \"info\" or "
		"\"debug\""},
	    {"{\"log_level\": \"Info\"}",
		"f:1:15: expected \"error\" or \"warning\" or \"info\" or "
		"\"debug\""},
	    {"{\"log_level\": 3}", "f:1:15: expected a string"},
	    {"{\"include\": \"*.conf\"}",
		"f:1:2: only a configuration in a file can include"},
	    {POOL("\n\"backing\":\"heap\""),
		"f:2:11: expected \"posix\" or \"memfd\" or \"hugetlb\""},
	    {POOL("\n\"prefault\":1"), "f:2:12: expected true or false"},
	    {POOL("\n\"lock\":0"), "f:2:8: expected true or false"},
	};

	CHECK_WRONG(cases);
}

Test(config, socket_length)
{
	char text[160];
	struct config *c;

	snprintf(text, sizeof(text), "{\"socket\": \"/%0106d\"}", 0);
	c = parse(text);
	cr_assert_eq(strlen(c->socket), CONFIG_SOCKET_MAX);
	config_free(c);
	snprintf(text, sizeof(text), "{\"socket\": \"/%0107d\"}", 0);
	check_wrong(&(struct wrong){text,
			"f:1:12: a socket's path has at most 107 bytes"},
	    1);
}

Test(config, wrong_users_and_groups)
{
	static const struct wrong cases[] = {
	    {"{\"group\": \"no such group\"}",
		"f:1:11: there is no such group"},
	    {"{\"group\": \"\"}", "f:1:11: there is no such group"},
	    {"{\"admin_group\": \"no such group\"}",
		"f:1:17: there is no such group"},
	    {"{\"group\": -1}", "f:1:11: must be from 0 to 4294967294"},
	    {"{\"group\": 4294967295}", "f:1:11: must be from 0 to 4294967294"},
	    {"{\"user\": \"no such user\"}", "f:1:10: there is no such user"},
	    {"{\"user\": 4294967295}", "f:1:10: must be from 0 to 4294967294"},
	    {"{\"group\": true}", "f:1:11: expected a string"},
	    {"{\"group\": null}", "f:1:11: expected a string"},
	};

	CHECK_WRONG(cases);
}

Test(config, wrong_access)
{
	static const struct wrong cases[] = {
	    {POOL("\n\"access\":{}"), "f:2:10: expected an array in brackets"},
	    {POOL("\n\"access\":[]"),
		"f:2:10: name somebody, or leave \"access\" out to admit all"},
	    {POOL("\n\"access\":[1]"), "f:2:11: expected an object in braces"},
	    {POOL("\n\"access\":[{\"rights\":\"r\"}]"),
		"f:2:11: \"user\" or \"group\" is missing"},
	    {POOL("\n\"access\":[{\"user\":0}]"),
		"f:2:11: \"rights\" is missing in an access entry"},
	    {POOL("\n\"access\":[{\"user\":0,\"group\":0}]"),
		"f:2:21: a user and a group need an entry each"},
	    {POOL("\n\"access\":[{\"user\":0,\"rights\":\"w\"}]"),
		"f:2:30: expected \"r\" or \"rw\""},
	    {POOL("\n\"access\":[{\"user\":\"no such user\"}]"),
		"f:2:19: there is no such user"},
	    {POOL("\n\"access\":[{\"user\":0,\"right\":\"r\"}]"),
		"f:2:21: unknown key in an access entry, did you mean "
		"\"rights\"?"},
	};

	CHECK_WRONG(cases);
}

Test(config, pool_names)
{
	static const char *const bad[] = {
	    "-a", ".a", "_a", "a/b", "a b", "\xc3\xa9", "a:"};
	char text[200];

	snprintf(text, sizeof(text),
	    "{\"pools\":[{\"name\":\"%063d\",\"slot_size\":1}]}", 0);
	config_free(parse(text));
	snprintf(text, sizeof(text),
	    "{\"pools\":[{\"name\":\"%064d\",\"slot_size\":1}]}", 0);
	check_wrong(&(struct wrong){text,
			"f:1:19: a pool's name has 1 to 63 characters"},
	    1);
	check_wrong(&(struct wrong){"{\"pools\":[{\"name\":\"\"}]}",
			"f:1:19: a pool's name has 1 to 63 characters"},
	    1);
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		snprintf(text, sizeof(text), "{\"pools\":[{\"name\":\"%s\"}]}",
		    bad[i]);
		check_wrong(&(struct wrong){text,
				"f:1:19: a pool's name has letters, digits "
				"and, not in front, '_', '.' and '-'"},
		    1);
	}
}

Test(config, wrong_objects)
{
	static const struct wrong cases[] = {
	    {"[]", "f:1:1: expected an object in braces"},
	    {"# no\nnull", "f:2:1: expected an object in braces"},
	    {"{\"pools\": {}}", "f:1:11: expected an array in brackets"},
	    {"{\"pools\": [\n[]]}", "f:2:1: expected an object in braces"},
	    {"{\"pools\": [ {}]}", "f:1:13: \"name\" is missing in a pool"},
	    {"{\"pools\": [{\"name\":\"a\",}]}",
		"f:1:12: \"slot_size\" is missing in a pool"},
	    {"{\"pools\":[{\"name\":\"a\",\"slot_size\":1},\n"
	     "{\"slot_size\":1,\"name\":\"a\"}]}",
		"f:2:23: there is a pool of this name already"},
	};

	CHECK_WRONG(cases);
}

Test(config, wrong_keys)
{
	static const struct wrong cases[] = {
	    {"{\"mode\": \"0600\", \"mode\": \"0600\"}",
		"f:1:18: this key was here before"},
	    {"{\"pools\": [], # one\n \"pools\": []}",
		"f:2:2: this key was here before"},
	    {"{\"mode\": \"0600\", \"\\u006dode\": \"0600\"}",
		"f:1:18: this key was here before"},
	    {POOL("\n\"slot_size\":64"), "f:2:1: this key was here before"},
	    {"{\"sokcet\": 1}", "f:1:2: unknown key in the configuration, "
				"did you mean \"socket\"?"},
	    {"{\"Socket\": 1}", "f:1:2: unknown key in the configuration, "
				"did you mean \"socket\"?"},
	    {"{\"pool\": 1}", "f:1:2: unknown key in the configuration, "
			      "did you mean \"pools\"?"},
	    {"{\"max_client\": 1}", "f:1:2: unknown key in the "
				    "configuration, did you mean "
				    "\"max_clients\"?"},
	    {"{\"log-level\": 1}", "f:1:2: unknown key in the "
				   "configuration, did you mean "
				   "\"log_level\"?"},
	    {"{\"frobnicate\": 1}", "f:1:2: unknown key in the configuration"},
	    {"{\"\": 1}", "f:1:2: unknown key in the configuration"},
	    {"{\"a key that is longer than any we could ever have\": 1}",
		"f:1:2: unknown key in the configuration"},
	    {"{\"slot_size\": 1}", "f:1:2: unknown key in the configuration"},
	    {POOL("\n\"slots_size\":1"),
		"f:2:1: unknown key in a pool, did you mean \"slot_size\"?"},
	    {POOL("\n\"SLOT_SIZE\":1"),
		"f:2:1: unknown key in a pool, did you mean \"slot_size\"?"},
	    {POOL("\n\"segments_max\":1"), "f:2:1: unknown key in a pool"},
	    {POOL("\n\"slots_per_segments\":1"),
		"f:2:1: unknown key in a pool, did you mean "
		"\"slots_per_segment\"?"},
	};

	CHECK_WRONG(cases);
}

/* The whole of a message, once. */
Test(config, message)
{
	static const char text[] = "{\n\t\"pools\": [\n\t\t{ \"nmae\": \"a\" },"
				   "\n\t],\n}\n";
	struct config *config;
	char *error;

	cr_assert_eq(config_parse(&config, text, sizeof(text) - 1,
			 "/etc/slabd/slabd.conf", &error),
	    -EINVAL);
	cr_assert_str_eq(error,
	    "/etc/slabd/slabd.conf:3:5: unknown key in a pool, did you mean "
	    "\"name\"?\n"
	    "\t\t{ \"nmae\": \"a\" },\n"
	    "\t\t  ^");
	free(error);
}

Test(config, too_many_pools)
{
	size_t size = (CONFIG_POOLS_MAX + 1) * 40 + 20, len;
	char *text = malloc(size), *error;
	struct config *config;

	for (unsigned n = CONFIG_POOLS_MAX; n <= CONFIG_POOLS_MAX + 1; n++) {
		len = (size_t)snprintf(text, size, "{\"pools\":[");
		for (unsigned i = 0; i < n; i++)
			len += (size_t)snprintf(text + len, size - len,
			    "{\"name\":\"p%u\",\"slot_size\":1},", i);
		len += (size_t)snprintf(text + len, size - len, "]}");
		if (n == CONFIG_POOLS_MAX) {
			config = parse(text);
			cr_assert_eq(config->npools, n);
			config_free(config);
		}
	}
	cr_assert_eq(config_parse(&config, text, len, "f", &error), -EINVAL);
	cr_assert(strstr(error, "f:1:10: more than 4096 pools\n") == error);
	free(error);
	free(text);
}

/* What is out of memory is not half done, and loses nothing. */
static long allocations;

static void *
failing_malloc(size_t size)
{
	return allocations-- > 0 ? malloc(size) : NULL;
}

Test(config, no_memory_for_json)
{
	struct config *config = parse(everything);
	cJSON_Hooks hooks = {failing_malloc, free};
	cJSON *json = NULL;
	long n = 0;

	cJSON_InitHooks(&hooks);
	for (; json == NULL; n++) {
		allocations = n;
		json = config_to_json(config);
	}
	cJSON_Delete(json);
	cJSON_InitHooks(NULL);
	cr_assert_gt(n, 50);
	config_free(config);
}

/* Files, in a directory of their own. */

static char dir[] = "/tmp/slabd-config-[x]-XXXXXX";

static void
make_dir(void)
{
	cr_assert_not_null(mkdtemp(dir));
}

static void
remove_dir(void)
{
	char command[64];

	snprintf(command, sizeof(command), "rm -rf '%s'", dir);
	cr_assert_eq(system(command), 0);
}

static const char *
in_dir(const char *name)
{
	static char path[128];

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	return path;
}

static void
write_file(const char *name, const char *text)
{
	FILE *f = fopen(in_dir(name), "w");

	cr_assert_not_null(f);
	cr_assert_geq(fputs(text, f), 0);
	cr_assert_eq(fclose(f), 0);
}

static void
check_load_fails(const char *name, int expected, const char *message)
{
	struct config *config;
	char *error, text[256];
	int rc = config_load(&config, in_dir(name), &error);

	cr_assert_eq(rc, expected, "%d %s", rc, error);
	cr_assert_null(config);
	cr_assert_not_null(error);
	snprintf(text, sizeof(text), "%s/%s", dir, message);
	cr_assert(
	    strncmp(error, text, strlen(text)) == 0, "%s\n%s", error, text);
	free(error);
}

static struct config *
load(const char *name)
{
	struct config *config;
	char *error;
	int rc = config_load(&config, in_dir(name), &error);

	cr_assert_eq(rc, 0, "%s", error);
	cr_assert_null(error);
	return config;
}

Test(config, load, .init = make_dir, .fini = remove_dir)
{
	struct config *config;

	write_file("f", everything);
	config = load("f");
	check_everything(config);
	config_free(config);
	write_file("f", "{\n \"x\": 1}");
	check_load_fails("f", -EINVAL, "f:2:2: unknown key");
}

Test(config, load_from_here, .init = make_dir, .fini = remove_dir)
{
	struct config *config;
	char *error;

	write_file("f", "{\"include\": \"g*\"}");
	write_file("g", "{\"pools\":[{\"name\":\"a\",\"slot_size\":1}]}");
	cr_assert_eq(chdir(dir), 0);
	cr_assert_eq(config_load(&config, "f", &error), 0);
	cr_assert_eq(config->npools, 1);
	config_free(config);
	cr_assert_eq(chdir("/"), 0);
}

Test(config, wrong_files, .init = make_dir, .fini = remove_dir)
{
	char *text = malloc(CONFIG_FILE_MAX + 2);

	check_load_fails("none", -ENOENT, "none: No such file");
	check_load_fails("", -EPERM, ": not a regular file");
	cr_assert_eq(mkfifo(in_dir("fifo"), 0600), 0);
	check_load_fails("fifo", -EPERM, "fifo: not a regular file");
	write_file("open", "{}");
	cr_assert_eq(chmod(in_dir("open"), 0602), 0);
	check_load_fails(
	    "open", -EPERM, "open: anybody can write this file: chmod o-w");

	memset(text, ' ', CONFIG_FILE_MAX + 1);
	memcpy(text, "{}", 2);
	text[CONFIG_FILE_MAX] = '\0';
	write_file("large", text);
	config_free(load("large"));
	text[CONFIG_FILE_MAX] = ' ';
	text[CONFIG_FILE_MAX + 1] = '\0';
	write_file("large", text);
	check_load_fails("large", -EFBIG, "large: larger than 1 MiB");
	free(text);
}

Test(config, include, .init = make_dir, .fini = remove_dir)
{
	struct config *c;
	cJSON *json;

	cr_assert_eq(mkdir(in_dir("d"), 0700), 0);
	write_file("f", "{ \"include\": \"d/*.conf\",\n"
			"\"pools\":[{\"name\":\"a\",\"slot_size\":1}]}");
	write_file("d/2.conf", "{\"pools\":[{\"name\":\"c\",\"slot_size\":1},"
			       "{\"name\":\"d\",\"slot_size\":1}]}");
	write_file("d/1.conf", "{\"pools\":[{\"name\":\"b\",\"slot_size\":1,"
			       "\"access\":[{\"user\":0,\"rights\":\"r\"}]}]}");
	write_file("d/3.conf", "{} # nothing");
	write_file("d/4.other", "not read");
	write_file("d/.hidden.conf", "not read");
	c = load("f");
	cr_assert_eq(c->npools, 4);
	cr_assert_str_eq(c->pools[0].name, "a");
	cr_assert_str_eq(c->pools[1].name, "b");
	cr_assert_eq(c->pools[1].naccess, 1);
	cr_assert_str_eq(c->pools[2].name, "c");
	cr_assert_str_eq(c->pools[3].name, "d");
	json = config_to_json(c);
	cr_assert_null(cJSON_GetObjectItemCaseSensitive(json, "include"));
	cJSON_Delete(json);
	config_free(c);
}

Test(config, include_finds_nothing, .init = make_dir, .fini = remove_dir)
{
	write_file("f", "{ \"include\": \"d/*.conf\"}");
	config_free(load("f"));
	write_file("f", "{ \"include\": \"*/*.conf\"}");
	config_free(load("f"));
	write_file("f", "{ \"include\": \"f/*.conf\"}");
	config_free(load("f"));
}

Test(config, include_by_absolute_path, .init = make_dir, .fini = remove_dir)
{
	char text[128];
	struct config *c;

	write_file("g", "{\"pools\":[{\"name\":\"a\",\"slot_size\":1}]}");
	snprintf(text, sizeof(text),
	    "{\"include\": \"/tmp/slabd-config-\\\\[x\\\\]%s/g\"}",
	    strrchr(dir, '-'));
	write_file("f", text);
	c = load("f");
	cr_assert_eq(c->npools, 1);
	config_free(c);
}

Test(config, wrong_include, .init = make_dir, .fini = remove_dir)
{
	write_file("f", "{ \"include\": \"g\",\n"
			"\"pools\":[{\"name\":\"a\",\"slot_size\":1}]}");
	write_file("g", "{\"pools\":[\n{\"slot_size\":1,\"name\":\"a\"}]}");
	check_load_fails(
	    "f", -EINVAL, "g:2:23: there is a pool of this name already\n");
	write_file("g", "{\"include\":\"*\"}");
	check_load_fails(
	    "f", -EINVAL, "g:1:2: unknown key in an included file\n");
	write_file("g", "{\"socket\":\"/s\"}");
	check_load_fails(
	    "f", -EINVAL, "g:1:2: unknown key in an included file\n");
	write_file("g", "[");
	check_load_fails("f", -EINVAL, "g:1:1: the file ends here");
	write_file("g", "{}");
	cr_assert_eq(chmod(in_dir("g"), 0666), 0);
	check_load_fails(
	    "f", -EPERM, "g: anybody can write this file: chmod o-w");
	cr_assert_eq(unlink(in_dir("g")), 0);
	cr_assert_eq(mkdir(in_dir("g"), 0700), 0);
	check_load_fails("f", -EPERM, "g: not a regular file");

	write_file("f", "{ \"include\": 1}");
	check_load_fails("f", -EINVAL, "f:1:14: expected a string\n");
	write_file("f", "{ \"include\": \"\\n\"}");
	check_load_fails(
	    "f", -EINVAL, "f:1:14: control character in a string\n");
}

/* It has to work out of the box, on any machine, in little memory. */
Test(config, shipped)
{
	const char *srcdir = getenv("srcdir");
	struct config *c;
	char path[256], *error;
	uint64_t bytes = 0;
	int rc;

	snprintf(path, sizeof(path), "%s/etc/slabd.conf",
	    srcdir != NULL ? srcdir : ".");
	rc = config_load(&c, path, &error);
	cr_assert_eq(rc, 0, "%s", error);
	cr_assert_geq(c->npools, 2);
	cr_assert(!c->has_user && !c->has_group && !c->has_admin_group);
	for (size_t i = 0; i < c->npools; i++)
		bytes += c->pools[i].min_segments *
			 c->pools[i].slots_per_segment *
			 c->pools[i].slot_stride;
	cr_assert_lt(bytes, 64u << 20);
	config_free(c);
}

/* A directory that must not be read is no reason to lose its pools. */
Test(config, include_hidden)
{
	bool root = geteuid() == 0;

	if (root && (setegid(65534) != 0 || seteuid(65534) != 0))
		cr_skip("root sees everything, and nobody is not there");
	make_dir();
	cr_assert_eq(mkdir(in_dir("d"), 0), 0);
	write_file("f", "{ \"include\": \"d/*\"}");
	check_load_fails(
	    "f", -EINVAL, "f:1:14: a directory in this path cannot be read\n");
	remove_dir();
	cr_assert(!root || (seteuid(0) == 0 && setegid(0) == 0));
}
