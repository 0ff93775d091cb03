/*
 * What slabctl prints, from documents made up here: no daemon is needed.
 */
#include "config.h"

#include <fcntl.h>
#include <locale.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <cjson/cJSON.h>
#include <criterion/criterion.h>

#include "../../clients/output.h"
#include "../../clients/view.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* Where the functions under test write; read() closes it. */
static struct output out;
static char *written;
static size_t bytes;

static void
open_output(bool terminal, bool utf8)
{
	free(written);
	written = NULL;
	out = (struct output){
	    .terminal = terminal, .utf8 = utf8, .titles = true, .width = 80};
	out.to = open_memstream(&written, &bytes);
	cr_assert_not_null(out.to);
	cr_assert_not_null(setlocale(LC_CTYPE, utf8 ? "C.UTF-8" : "C"));
}

static const char *
read_output(void)
{
	cr_assert_eq(fclose(out.to), 0);
	return written;
}

static cJSON *
parse(const char *json)
{
	cJSON *doc = cJSON_ParseWithOpts(json, NULL, 1);

	cr_assert_not_null(doc, "no JSON: %s", json);
	return doc;
}

static void
teardown(void)
{
	free(written);
	written = NULL;
}

TestSuite(output, .timeout = 10, .fini = teardown);

Test(output, text_lets_only_printable_characters_through)
{
	static const struct {
		bool utf8;
		const char *in, *out;
		size_t width;
	} cases[] = {
	    {true, "camera-1", "camera-1", 8}, {true, "", "", 0},
	    {true, "a\\x1b", "a\\x5cx1b", 8},
	    {true, "\033[31m", "\\x1b[31m", 8},
	    {true, "a\nb\tc", "a\\x0ab\\x09c", 11}, {true, "\x7f", "\\x7f", 4},
	    {true, "ünï", "ünï", 3}, {true, "漢字", "漢字", 4},
	    {false, "ü", "\\xc3\\xbc", 8},
	    {true, "\xc2\x9b", "\\xc2\\x9b", 8},	   /* C1: CSI */
	    {true, "\xe2\x80\xae", "\\xe2\\x80\\xae", 12}, /* right to left */
	    {true, "\xe2\x80\x8b", "\\xe2\\x80\\x8b", 12}, /* no width */
	    {true, "\xff", "\\xff", 4},
	    {true, "a\xc3", "a\\xc3", 5},		   /* cut short */
	    {true, "\xc0\xaf", "\\xc0\\xaf", 8},	   /* overlong */
	    {true, "\xed\xa0\x80", "\\xed\\xa0\\x80", 12}, /* surrogate */
	    {true, "\xf4\x90\x80\x80", "\\xf4\\x90\\x80\\x80", 16},
	    {true, "\xef\xbf\xbd", "\xef\xbf\xbd", 1}, /* U+FFFD itself */
	};

	for (size_t i = 0; i < COUNT(cases); i++) {
		size_t width;

		open_output(true, cases[i].utf8);
		width = output_text(&out, cases[i].in, false);
		cr_expect_str_eq(
		    read_output(), cases[i].out, "case %zu: %s", i, written);
		cr_expect_eq(width, cases[i].width, "case %zu: %zu", i, width);
	}
}

Test(output, text_of_several_lines_keeps_them)
{
	open_output(true, true);
	output_text(&out, "conf:1:2: no\n\t{\n\t^\r\a", true);
	cr_assert_str_eq(read_output(), "conf:1:2: no\n\t{\n\t^\\x0d\\x07");
}

Test(output, json_is_indented_and_numbers_stay)
{
	open_output(false, true);
	output_json(&out,
	    " {\"b\":[1,18446744073709551615 , {}],\"a\":\"x{,:\\\"}\\\\\","
	    "\"e\":[ ],\"n\":null}\n");
	cr_assert_str_eq(read_output(), "{\n"
					"  \"b\": [\n"
					"    1,\n"
					"    18446744073709551615,\n"
					"    {}\n"
					"  ],\n"
					"  \"a\": \"x{,:\\\"}\\\\\",\n"
					"  \"e\": [],\n"
					"  \"n\": null\n"
					"}\n");
}

Test(output, json_on_a_terminal_hides_what_moves_the_cursor)
{
	static const char json[] =
	    "[\"\xc2\x9b\x7f\xe2\x80\xae ü\",\"\xf3\xa0\x80\x81\",\"\\\\\"]";
	cJSON *before = parse(json), *after;

	open_output(true, true);
	output_json(&out, json);
	cr_expect_str_eq(read_output(),
	    "[\n  \"\\u009b\\u007f\\u202e ü\",\n  \"\\udb40\\udc01\",\n"
	    "  \"\\\\\"\n]\n");
	after = parse(written);
	cr_expect(cJSON_Compare(before, after, 1));
	cJSON_Delete(after);
	cJSON_Delete(before);
}

Test(output, json_on_a_terminal_is_utf8_even_if_it_came_broken)
{
	open_output(true, true);
	output_json(&out, "[\"a\x9b\xc3\"]");
	cr_expect_str_eq(read_output(), "[\n  \"a\\ufffd\\ufffd\"\n]\n");
	open_output(false, true);
	output_json(&out, "[\"a\x9b\xc3\"]");
	cr_expect_str_eq(read_output(), "[\n  \"a\x9b\xc3\"\n]\n");
}

/* One cell of a kind, as a terminal and as a pipe see it. */
/* A cell as people see it, and as programs do. */
static const struct cell {
	enum output_kind kind;
	const char *value, *terminal, *pipe;
} cells[] = {
    {OUTPUT_COUNT, "0", "0", "0"},
    {OUTPUT_COUNT, "9999999", "9999999", "9999999"},
    {OUTPUT_COUNT, "10000000", "10M", "10000000"},
    {OUTPUT_COUNT, "12345678", "12.3M", "12345678"},
    {OUTPUT_COUNT, "999999999", "1.0G", "999999999"},
    {OUTPUT_COUNT, "9007199254740991", "9.0P", "9007199254740991"},
    {OUTPUT_COUNT, "18446744073709551615", "-", "-"},
    {OUTPUT_COUNT, "9223372036854775808", "9223P", "~9223372036854775808"},
    {OUTPUT_COUNT, "-1", "-", "-"},
    {OUTPUT_COUNT, "null", "-", "-"},
    {OUTPUT_COUNT, "{}", "-", "-"},
    {OUTPUT_COUNT, "1e999", "-", "-"},
    {OUTPUT_ID, "4294967294", "4294967294", "4294967294"},
    {OUTPUT_ID, "\"549755813887\"", "549755813887", "549755813887"},
    {OUTPUT_LIMIT, "0", "-", "-"},
    {OUTPUT_LIMIT, "1000", "1000", "1000"},
    {OUTPUT_SIZE, "0", "0 B", "0"},
    {OUTPUT_SIZE, "64", "64 B", "64"},
    {OUTPUT_SIZE, "65536", "64 KiB", "65536"},
    {OUTPUT_SIZE, "1536", "1.5 KiB", "1536"},
    {OUTPUT_SIZE, "1048575", "1.0 MiB", "1048575"},
    {OUTPUT_SIZE, "17179869184", "16 GiB", "17179869184"},
    {OUTPUT_SIZE, "1152921504606846976", "1024 PiB", "1152921504606846976"},
    {OUTPUT_SECONDS, "0", "0s", "0"},
    {OUTPUT_SECONDS, "0.04", "0s", "0.04"},
    {OUTPUT_SECONDS, "0.05", "0.1s", "0.05"},
    {OUTPUT_SECONDS, "4.98", "5s", "4.98"},
    {OUTPUT_SECONDS, "59.9", "59.9s", "59.9"},
    {OUTPUT_SECONDS, "75.25", "1m15s", "75.25"},
    {OUTPUT_SECONDS, "7380", "2h03m", "7380"},
    {OUTPUT_SECONDS, "273600", "3d04h", "273600"},
    {OUTPUT_SECONDS, "1e18", "1e+18", "1e+18"},
    {OUTPUT_TEXT, "\"\"", "-", "-"},
    {OUTPUT_TEXT, "7", "-", "-"},
    {OUTPUT_TEXT, "\"a b\"", "a b", "a b"},
};

static void
expect_cell(const struct cell *c, bool terminal)
{
	const struct output_column column = {"", "k", NULL, c->kind};
	struct output_table *table;
	char json[64], line[64];
	cJSON *row;

	snprintf(json, sizeof(json), "{\"k\":%s}", c->value);
	snprintf(line, sizeof(line), "%s\n", terminal ? c->terminal : c->pipe);
	row = parse(json);
	open_output(terminal, true);
	out.titles = false;
	table = output_table_new(&out, &column, 1);
	output_table_add(table, row, NULL);
	output_table_end(table);
	cr_expect_str_eq(
	    read_output(), line, "%s: %s, not %s", json, written, line);
	cJSON_Delete(row);
}

Test(output, figures_are_rounded_on_a_terminal_only)
{
	for (size_t i = 0; i < COUNT(cells); i++) {
		expect_cell(&cells[i], true);
		expect_cell(&cells[i], false);
	}
}

static void
draw(const char *json, bool colour)
{
	static const struct output_column column = {
	    "", "free", "slots", OUTPUT_TAKEN};
	struct output_table *table;
	cJSON *row = parse(json);

	out.titles = false;
	out.colour = colour;
	table = output_table_new(&out, &column, 1);
	output_table_add(table, row, NULL);
	output_table_end(table);
	cJSON_Delete(row);
}

Test(output, bars_show_the_share_that_is_taken)
{
	open_output(true, false);
	draw("{\"free\":256,\"slots\":256}", false);
	draw("{\"free\":128,\"slots\":256}", false);
	draw("{\"free\":1,\"slots\":1000}", false);
	draw("{\"free\":0,\"slots\":1000}", false);
	draw("{\"free\":0,\"slots\":0}", false);
	draw("{\"free\":2,\"slots\":1}", false);
	draw("{\"free\":0,\"slots\":1}", true);
	cr_assert_str_eq(read_output(), "..........   0%\n"
					"#####.....  50%\n"
					"##########  99%\n"
					"########## 100%\n"
					"..........   0%\n"
					"-\n"
					"\033[31m##########\033[0m 100%\n");
}

/* Two pools, one of them named as long as a name may be, and two clients. */
static const char stats[] =
    "{\"version\":1,\"generated_at\":\"2024-05-01T10:00:00Z\",\"daemon\":{"
    "\"version\":\"0.1.0\",\"pid\":4242,\"uptime_seconds\":273600,"
    "\"socket\":\"/run/slabd/slabd.sock\",\"config_file\":\"/etc/slabd.conf\","
    "\"clients_max\":1024,\"reloads_total\":2,\"reload_failures_total\":1},"
    "\"pools\":[{\"name\":\"frames\",\"state\":\"ready\",\"backing\":\"posix\","
    "\"slot_size\":65536,\"region_bytes\":1073741824,\"segments_attached\":1,"
    "\"segments_max\":64,\"slots\":256,\"free\":122,\"used\":120,\"cached\":8,"
    "\"in_flight\":4,\"quarantined\":2,\"used_max\":140,"
    "\"allocs_total\":123456789,\"frees_total\":123456655,"
    "\"failures_total\":3,\"reclaimed_total\":12,\"rejected_total\":0,"
    "\"clients\":2,\"waiters\":1,\"quota\":0,\"segments\":[]},"
    "{\"name\":\"n23456789-123456789-123456789-123456789-123456789-123456789-"
    "123\",\"state\":\"retired\",\"slots\":0,\"free\":0}],"
    "\"clients\":[{\"id\":7,\"pid\":1234,\"uid\":0,\"comm\":\"worker\","
    "\"label\":\"camera-1\",\"connected_seconds\":75.25,\"pools\":[{\"name\":"
    "\"frames\",\"held\":12,\"cached\":8,\"in_flight\":4}]},{\"id\":8,\"pid\":"
    "99,\"uid\":1000,\"comm\":\"\\u001b[31m\",\"label\":\"\\u009b\\n\","
    "\"connected_seconds\":5,\"pools\":[]}]}";

static void
expect_view(void (*view)(const struct output *, const cJSON *),
    const char *json, bool terminal, const char *want)
{
	cJSON *doc = parse(json);

	open_output(terminal, false);
	view(&out, doc);
	cr_expect_str_eq(read_output(), want, "\n%s", written);
	cJSON_Delete(doc);
}

Test(output, stats_for_a_person)
{
	expect_view(view_stats, stats, true,
	    "slabd 0.1.0, pid 4242, up 3d04h; clients 2 of 1024; reloads 2,"
	    " failed 1\n"
	    "socket /run/slabd/slabd.sock; configuration /etc/slabd.conf\n"
	    "\n"
	    "POOL              TAKEN            SLOTS  USED  CACHED  FLIGHT"
	    "  QUAR  FREE  PEAK\n"
	    "frames            #####.....  52%    256   120       8       4"
	    "     2   122   140\n"
	    "n23456789-12345~  ..........   0%      0     -       -       -"
	    "     -     0     -\n"
	    "\n"
	    "POOL                                  ALLOCS  FREES  FAILED"
	    "  RECLAIMED  REJECTED\n"
	    "frames                                  123M   123M       3"
	    "         12         0\n"
	    "n23456789-123456789-123456789-12345~       -      -       -"
	    "          -         -\n");
}

Test(output, one_pool_is_chosen)
{
	cJSON *doc = parse("{\"pools\":[{\"name\":\"a\"},{\"name\":\"b\"},"
			   "{\"name\":\"c\"}]}");
	cJSON *none = parse("{\"pools\":7}");
	char *text;

	cr_assert(!view_choose(doc, "d"));
	cr_assert(!view_choose(none, "a"));
	cr_assert(view_choose(doc, "b"));
	text = cJSON_PrintUnformatted(doc);
	cr_expect_str_eq(text, "{\"pools\":[{\"name\":\"b\"}]}");
	cJSON_free(text);
	cJSON_Delete(none);
	cJSON_Delete(doc);
}

Test(output, pools_for_a_program)
{
	expect_view(view_pools, stats, false,
	    "POOL                                                            "
	    " STATE    BACKING   SLOT  SEGS      REGION  CLIENTS  WAIT  QUOTA\n"
	    "frames                                                          "
	    " ready    posix    65536  1/64  1073741824        2     1      -\n"
	    "n23456789-123456789-123456789-123456789-123456789-123456789-123 "
	    " retired  -            -     -           -        -     -      -"
	    "\n");
}

Test(output, clients_for_a_person)
{
	expect_view(view_clients, stats, true,
	    "ID   PID   UID   TIME  POOL    HELD  CACHED  FLIGHT  COMMAND   "
	    "LABEL\n"
	    " 7  1234     0  1m15s  frames    12       8       4  worker    "
	    "camera-1\n"
	    " 8    99  1000     5s  -          -       -       -  \\x1b[31m  "
	    "\\xc2\\x9b\\x0a\n");
}

static const char holders[] =
    "{\"version\":1,\"pool\":\"frames\",\"slots\":256,\"free\":253,"
    "\"slots_truncated\":true,\"holders\":["
    "{\"attachment\":3,\"client\":7,\"pid\":1234,\"uid\":0,\"comm\":\"worker\","
    "\"label\":\"camera-1\",\"state\":\"attached\",\"held\":2,\"cached\":0,"
    "\"in_flight\":1,\"oldest_seconds\":4.25,"
    "\"segments\":[{\"id\":0,\"held\":1},{\"id\":5,\"held\":1}],"
    "\"slots\":[{\"slot\":17,\"state\":\"held\",\"seconds\":4.25,"
    "\"version\":\"549755813887\"}]},"
    "{\"client\":null,\"uid\":1000,\"state\":\"orphans\",\"held\":0,"
    "\"in_flight\":1,\"oldest_seconds\":0.5,\"slots\":[{\"slot\":18,"
    "\"state\":\"in_flight\",\"seconds\":0.5,\"version\":\"9\"}]}]}";

Test(output, holders_line_by_line)
{
	expect_view(view_holders, holders, false,
	    "pool frames: slots 256, free 253; holders 2\n"
	    "\n"
	    "ID   PID   UID  STATE     HELD  CACHED  FLIGHT  OLDEST  COMMAND"
	    "  LABEL\n"
	    " 7  1234     0  attached     2       0       1    4.25  worker "
	    "  camera-1\n"
	    " -     -  1000  orphans      0       -       1     0.5  -      "
	    "  -\n");
}

Test(output, holders_slot_by_slot)
{
	cJSON *doc = parse(holders);

	open_output(true, false);
	out.titles = false;
	out.verbose = true;
	view_holders(&out, doc);
	cr_expect_str_eq(read_output(),
	    "7  1234     0  attached  2  0  1  4.2s  worker  camera-1\n"
	    "-     -  1000  orphans   0  -  1  0.5s  -       -\n"
	    "\n"
	    "0  1  7  1234  worker  camera-1\n"
	    "5  1  7  1234  worker  camera-1\n"
	    "\n"
	    "17  549755813887  held       4.2s  7  1234  worker  camera-1\n"
	    "18             9  in_flight  0.5s  -     -  -       -\n",
	    "\n%s", written);
	cJSON_Delete(doc);
}

Test(output, documents_of_any_shape_are_survived)
{
	static const char *const docs[] = {"{}", "[]", "null", "7", "\"x\"",
	    "{\"pools\":7,\"clients\":{},\"holders\":null}",
	    "{\"pools\":[1,null,[]],\"clients\":[1,{\"pools\":[[]]}]}",
	    "{\"holders\":[{\"slots\":[0],\"segments\":{\"a\":{}}}]}"};

	for (size_t i = 0; i < COUNT(docs); i++) {
		cJSON *doc = parse(docs[i]);

		open_output(i % 2, true);
		out.verbose = true;
		cr_expect_eq(view_rates(doc, doc, 1), 0);
		view_stats(&out, doc);
		view_pools(&out, doc);
		view_clients(&out, doc);
		view_holders(&out, doc);
		cr_expect_not_null(strstr(read_output(), "POOL"));
		cJSON_Delete(doc);
	}
}

Test(output, lines_fit_the_terminal_whatever_the_names)
{
	cJSON *doc = parse(stats);
	char *line, *rest;

	open_output(true, false);
	out.titles = false;
	view_stats(&out, doc);
	view_pools(&out, doc);
	view_clients(&out, doc);
	read_output();
	for (rest = written; (line = strsep(&rest, "\n")) != NULL;) {
		cr_expect_leq(strlen(line), 80, "%s", line);
		for (; *line != '\0'; line++)
			cr_expect(*line >= ' ' && *line < 0x7f);
	}
	cJSON_Delete(doc);
}

Test(output, rates_are_what_happened_a_second)
{
	cJSON *before =
	    parse("{\"pools\":[{\"name\":\"a\",\"allocs_total\":100,"
		  "\"frees_total\":50}]}");
	cJSON *after = parse("{\"pools\":[{\"name\":\"b\",\"allocs_total\":8,"
			     "\"frees_total\":4},{\"name\":\"a\","
			     "\"allocs_total\":300,\"frees_total\":10}]}");

	cr_assert_eq(view_rates(after, before, 2), 0);
	open_output(false, true);
	out.titles = false;
	view_stats(&out, after);
	cr_expect_str_eq(read_output(),
	    "b  -  -  -  -  -  -  -  -\n"
	    "a  -  -  -  -  -  -  -  -\n"
	    "\n"
	    "b    8   4  -  -  -    4  2\n"
	    "a  300  10  -  -  -  100  5\n",
	    "\n%s", written);
	cJSON_Delete(before);
	cJSON_Delete(after);
}

Test(output, terminals_are_recognised)
{
	int master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
	struct winsize size = {.ws_col = 132};
	FILE *to = NULL;

	if (master >= 0 && grantpt(master) == 0 && unlockpt(master) == 0)
		to = fopen(ptsname(master), "we");
	if (to == NULL)
		cr_skip_test("there are no pseudo-terminals here");
	cr_assert_eq(ioctl(master, TIOCSWINSZ, &size), 0);
	setenv("TERM", "xterm", 1);
	unsetenv("NO_COLOR");

	output_init(&out, to);
	cr_expect(out.terminal && out.colour && out.titles);
	cr_expect_eq(out.width, 132);

	setenv("NO_COLOR", "1", 1);
	output_init(&out, to);
	cr_expect(out.terminal && !out.colour);

	setenv("NO_COLOR", "", 1);
	output_init(&out, to);
	cr_expect(out.colour, "an empty NO_COLOR says nothing");

	setenv("TERM", "dumb", 1);
	output_init(&out, to);
	cr_expect(out.terminal && !out.colour);
	fclose(to);
	close(master);
}

Test(output, files_are_no_terminals)
{
	FILE *to = tmpfile();

	cr_assert_not_null(to);
	output_init(&out, to);
	cr_expect(!out.terminal && !out.colour);
	cr_expect_eq(out.width, 80);
	fclose(to);
}
