/*
 * JSON with comments: what is accepted, what cJSON alone would take and must
 * not get, and that every error shows its place.
 */
#include "config.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <criterion/criterion.h>

#include "daemon/jsonc.h"

TestSuite(jsonc, .timeout = 20);

/* The compact form of what was read. */
static void
check_reads(const char *text, const char *expected)
{
	struct jsonc j;
	char *printed;
	int rc = jsonc_open(&j, "f", text, strlen(text));

	cr_assert_eq(rc, 0, "%s\n%s", text, j.error);
	printed = cJSON_PrintUnformatted(j.root);
	cr_assert_str_eq(printed, expected);
	free(printed);
	jsonc_close(&j);
}

static void
check_fails_n(const char *text, size_t len, const char *expected)
{
	struct jsonc j;
	int rc = jsonc_open(&j, "f", text, len);

	cr_assert_eq(rc, -EINVAL, "accepted: %s", text);
	cr_assert_not_null(j.error);
	cr_assert_null(j.root);
	cr_assert_str_eq(j.error, expected);
	jsonc_close(&j);
	free(j.error);
}

static void
check_fails(const char *text, const char *expected)
{
	check_fails_n(text, strlen(text), expected);
}

/* "f:LINE:COLUMN: what" must begin the error about the item at a path. */
static void
check_place(const char *text, const int *path, bool key, const char *expected)
{
	struct jsonc j;
	const cJSON *item;

	cr_assert_eq(jsonc_open(&j, "f", text, strlen(text)), 0, "%s", text);
	item = j.root;
	for (; *path >= 0; path++)
		item = cJSON_GetArrayItem(item, *path);
	if (key)
		cr_assert_eq(jsonc_fail_key(&j, item, "%s", "k"), -EINVAL);
	else
		cr_assert_eq(jsonc_fail(&j, item, "%s", "v"), -EINVAL);
	*strchr(j.error, '\n') = '\0';
	cr_assert_str_eq(j.error, expected);
	jsonc_close(&j);
	free(j.error);
}

Test(jsonc, plain_json)
{
	check_reads("{}", "{}");
	check_reads(" [1, -2, 0, -0, true, false, null, \"a\"] \n",
	    "[1,-2,0,-0,true,false,null,\"a\"]");
	check_reads("999999999999999999", "1e+18");
	check_reads("\"\\u00e9\\ud83d\\ude00 \xc3\xa9\"",
	    "\"\xc3\xa9\xf0\x9f\x98\x80 \xc3\xa9\"");
	check_reads("\"\\\\\\\"\"", "\"\\\\\\\"\"");
}

Test(jsonc, comments)
{
	check_reads("# one\n// two\r\n/* three\n * / */[1]# four", "[1]");
	check_reads("[1,/**/2/***/]//", "[1,2]");
	check_reads("[\"# // /* */\"]", "[\"# // /* */\"]");
	check_reads("[\"\\\"#\"]", "[\"\\\"#\"]");
	check_reads("[1 # \"not a string\n]", "[1]");
	check_reads("[1 // ]\n, 2]", "[1,2]");
	check_reads("[/* // */ 1]", "[1]");
	check_reads("[1 # \xc3\xa9t\xc3\xa9\n]", "[1]");
}

Test(jsonc, trailing_commas)
{
	check_reads("[1,]", "[1]");
	check_reads("{\"a\":1,\"b\":[2,3],}", "{\"a\":1,\"b\":[2,3]}");
	check_reads("{\"a\":[{},],}", "{\"a\":[{}]}");
	check_reads("[1, # last\n]", "[1]");
	check_reads("[\",]\",]", "[\",]\"]");
}

Test(jsonc, byte_order_mark)
{
	check_reads("\xef\xbb\xbf[1]", "[1]");
	check_fails("\xef\xbb\xbf[x]", "f:1:2: unknown word; strings stand in "
				       "quotes\n[x]\n ^");
	check_fails("\xef\xbb\xbf\xef\xbb\xbf[]",
	    "f:1:1: unexpected here\n\xef\xbb\xbf[]\n^");
}

Test(jsonc, commas_elsewhere)
{
	check_fails("[,]", "f:1:2: unexpected here\n[,]\n ^");
	check_fails("{,}", "f:1:2: expected a key in quotes\n{,}\n ^");
	check_fails("[1,,]", "f:1:4: unexpected here\n[1,,]\n   ^");
	check_fails("[1,,2]", "f:1:4: unexpected here\n[1,,2]\n   ^");
	check_fails("{\"a\":[],,}",
	    "f:1:9: expected a key in quotes\n{\"a\":[],,}\n        ^");
	check_fails("[],", "f:1:3: unexpected here\n[],\n  ^");
	check_fails("{\"a\":,}", "f:1:6: unexpected here\n{\"a\":,}\n     ^");
	check_fails(",", "f:1:1: unexpected here\n,\n^");
}

Test(jsonc, structure)
{
	check_fails("", "f:1:1: the file ends here, but its content does "
			"not\n\n^");
	check_fails("# nothing\n \n", "f:1:1: the file ends here, but its "
				      "content does not\n# nothing\n^");
	check_fails("{\n\t\"a\": [1\n\n", "f:2:8: the file ends here, but its "
					  "content does not\n\t\"a\": [1\n"
					  "\t      ^");
	check_fails("{\"a\":\n1\n\"b\":2}",
	    "f:3:1: no comma or colon before this\n\"b\":2}\n^");
	check_fails("{\"a\" 1}",
	    "f:1:6: no comma or colon before this\n{\"a\" 1}\n     ^");
	check_fails(
	    "{} {}", "f:1:4: no comma or colon before this\n{} {}\n   ^");
	check_fails("{} x", "f:1:4: unknown word; strings stand in quotes\n"
			    "{} x\n   ^");
	check_fails("[1}", "f:1:3: unexpected here\n[1}\n  ^");
	check_fails("{1:2}", "f:1:2: expected a key in quotes\n{1:2}\n ^");
	check_fails("{\"a\":}", "f:1:6: unexpected here\n{\"a\":}\n     ^");
	check_fails("[{}, {\"a\": 1, b: 2}]",
	    "f:1:15: expected a key in quotes\n[{}, {\"a\": 1, b: 2}]\n"
	    "              ^");
	check_fails("{'a':1}", "f:1:2: expected a key in quotes\n{'a':1}\n ^");
	check_fails("[/ 1]", "f:1:2: unexpected '/'\n[/ 1]\n ^");
	check_fails("[1]\n/* a\n*", "f:2:1: this comment never ends\n/* a\n^");
	check_fails("/*/", "f:1:1: this comment never ends\n/*/\n^");
}

Test(jsonc, depth)
{
	char text[2 * JSONC_DEPTH_MAX + 3];
	size_t n = JSONC_DEPTH_MAX;
	struct jsonc j;

	memset(text, '[', n);
	memset(text + n, ']', n);
	cr_assert_eq(jsonc_open(&j, "f", text, 2 * n), 0);
	jsonc_close(&j);

	memset(text, '[', n + 1);
	memset(text + n + 1, ']', n + 1);
	cr_assert_eq(jsonc_open(&j, "f", text, 2 * n + 2), -EINVAL);
	cr_assert(strstr(j.error, "f:1:33: nested too deep\n") == j.error);
	jsonc_close(&j);
	free(j.error);
}

/* All of these cJSON takes, or turns into something else. */
Test(jsonc, numbers)
{
	const char *whole = "not a whole number; sizes with a unit stand in "
			    "quotes";
	static const char *const bad[] = {
	    "1.", "1.5", "1e3", "1e999", "64K", "-1-", "1+1", "0x10", "1_000"};
	char expected[160];

	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		char text[32];

		snprintf(text, sizeof(text), "[%s]", bad[i]);
		snprintf(expected, sizeof(expected), "f:1:2: %s\n%s\n ^", whole,
		    text);
		check_fails(text, expected);
	}
	check_fails("01", "f:1:1: a number begins with a zero\n01\n^");
	check_fails("-01", "f:1:1: a number begins with a zero\n-01\n^");
	check_fails("1000000000000000000",
	    "f:1:1: number too large\n1000000000000000000\n^");
	check_fails("-", "f:1:1: unknown word; strings stand in quotes\n-\n^");
	check_fails(
	    "+1", "f:1:1: unknown word; strings stand in quotes\n+1\n^");
	check_fails(
	    ".5", "f:1:1: unknown word; strings stand in quotes\n.5\n^");
	check_fails(
	    "NaN", "f:1:1: unknown word; strings stand in quotes\nNaN\n^");
	check_fails(
	    "True", "f:1:1: unknown word; strings stand in quotes\nTrue\n^");
	check_fails(
	    "truer", "f:1:1: unknown word; strings stand in quotes\ntruer\n^");
}

/* cJSON would cut these short, or let them through. */
Test(jsonc, strings)
{
	check_fails("[\"a\\u0000b\"]",
	    "f:1:4: a string cannot contain NUL\n[\"a\\u0000b\"]\n   ^");
	check_fails("[\"\\uZZZZ\"]",
	    "f:1:3: \\u takes four hexadecimal digits\n[\"\\uZZZZ\"]\n  ^");
	check_fails("[\"\\u12\"]",
	    "f:1:3: \\u takes four hexadecimal digits\n[\"\\u12\"]\n  ^");
	check_fails("[\"a\nb\"]", "f:1:2: this string never ends\n[\"a\n ^");
	check_fails("[\"a", "f:1:2: this string never ends\n[\"a\n ^");
	check_fails("[\"a\\", "f:1:2: this string never ends\n[\"a\\\n ^");
	check_fails(
	    "[\"a\\\nb\"]", "f:1:2: this string never ends\n[\"a\\\n ^");
	check_fails(
	    "[\"a\tb\"]", "f:1:4: tab inside a string\n[\"a\tb\"]\n   ^");
	check_fails(
	    "[\"\\q\"]", "f:1:3: unknown escape in a string\n[\"\\q\"]\n  ^");
	check_fails("[\"\\ud800\"]",
	    "f:1:3: unknown escape in a string\n[\"\\ud800\"]\n  ^");
}

Test(jsonc, bytes)
{
	static const char *const bad[] = {"\x80", "\xc3", "\xc0\xaf",
	    "\xc1\xbf", "\xe0\x9f\xbf", "\xed\xa0\x80", "\xf0\x8f\xbf\xbf",
	    "\xf4\x90\x80\x80", "\xf5\x80\x80\x80", "\xff", "\xe2\x82"};

	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		char text[16], expected[64], marks[8] = "????";

		marks[strlen(bad[i])] = '\0';
		snprintf(text, sizeof(text), "[\n\"%s\"]", bad[i]);
		snprintf(expected, sizeof(expected),
		    "f:2:2: this is not UTF-8\n\"%s\"]\n ^", marks);
		check_fails(text, expected);
	}
	/* cut within a character, which goes on behind the end */
	check_fails_n("\"\xc3\xa9\"", 2, "f:1:2: this is not UTF-8\n\"?\n ^");
	check_fails(
	    "[\"\x1b[2J\"]", "f:1:3: control character 0x1b\n[\"?[2J\"]\n  ^");
	check_fails("# \x7f", "f:1:3: control character 0x7f\n# ?\n  ^");
	check_fails_n(
	    "[\"a\0b\"]", 7, "f:1:4: control character 0x00\n[\"a?b\"]\n   ^");
	check_fails_n("{}\0", 3, "f:1:3: control character 0x00\n{}?\n  ^");
	check_reads("\"\xc2\x80\xdf\xbf\xe0\xa0\x80\xed\x9f\xbf\xee\x80\x80"
		    "\xf0\x90\x80\x80\xf4\x8f\xbf\xbf\"",
	    "\"\xc2\x80\xdf\xbf\xe0\xa0\x80\xed\x9f\xbf\xee\x80\x80"
	    "\xf0\x90\x80\x80\xf4\x8f\xbf\xbf\"");
}

/* Columns count characters, and the caret stands below the right one. */
Test(jsonc, excerpt)
{
	char text[400], expected[400];

	check_fails("[\t\"\xc3\xa9\xe2\x82\xac\", x]\r\n",
	    "f:1:9: unknown word; strings stand in quotes\n"
	    "[\t\"\xc3\xa9\xe2\x82\xac\", x]\n \t      ^");

	/* a line of 301 bytes is cut on both sides */
	snprintf(text, sizeof(text), "[%*sx%*s]", 150, "", 148, "");
	snprintf(expected, sizeof(expected),
	    "f:1:152: unknown word; strings stand in quotes\n"
	    "...%*sx%*s...\n   %*s^",
	    60, "", 59, "", 60, "");
	check_fails(text, expected);

	/* but not within a character */
	strcpy(text, "[\"");
	for (int i = 0; i < 50; i++)
		strcat(text, "\xc3\xa9");
	strcat(text, "\"x");
	for (int i = 0; i < 50; i++)
		strcat(text, "\xc3\xa9");
	strcpy(expected, "f:1:54: unknown word; strings stand in quotes\n...");
	for (int i = 0; i < 29; i++)
		strcat(expected, "\xc3\xa9");
	strcat(expected, "\"x");
	for (int i = 0; i < 30; i++)
		strcat(expected, "\xc3\xa9");
	strcat(expected, "...\n                                 ^");
	check_fails(text, expected);
}

Test(jsonc, places)
{
	const char *text = "{ # \"x\": 1\n"
			   "  \"a\" : [ 1, \"b:\" , [], {\"c\":\ttrue} ],\n"
			   "  /* : */ \"d\\\"\" /* : */ :\n"
			   "    {\"e\": -5,},\n"
			   "}";

	check_place(text, (int[]){-1}, false, "f:1:1: v");
	check_place(text, (int[]){0, -1}, true, "f:2:3: k");
	check_place(text, (int[]){0, -1}, false, "f:2:9: v");
	check_place(text, (int[]){0, 0, -1}, false, "f:2:11: v");
	check_place(text, (int[]){0, 1, -1}, false, "f:2:14: v");
	check_place(text, (int[]){0, 2, -1}, false, "f:2:21: v");
	check_place(text, (int[]){0, 3, -1}, false, "f:2:25: v");
	check_place(text, (int[]){0, 3, 0, -1}, true, "f:2:26: k");
	check_place(text, (int[]){0, 3, 0, -1}, false, "f:2:31: v");
	check_place(text, (int[]){1, -1}, true, "f:3:11: k");
	check_place(text, (int[]){1, -1}, false, "f:4:5: v");
	check_place(text, (int[]){1, 0, -1}, true, "f:4:6: k");
	check_place(text, (int[]){1, 0, -1}, false, "f:4:11: v");
}
