/*
 * Views of the daemon's documents; see view.h.
 */
#include "config.h"

#include <errno.h>
#include <stdint.h>
#include <string.h>

#include <cjson/cJSON.h>

#include "output.h"
#include "view.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static const struct output_column stats_slots[] = {
    {"POOL", "name", NULL, OUTPUT_TEXT},
    {"TAKEN", "free", "slots", OUTPUT_TAKEN},
    {"SLOTS", "slots", NULL, OUTPUT_COUNT},
    {"USED", "used", NULL, OUTPUT_COUNT},
    {"CACHED", "cached", NULL, OUTPUT_COUNT},
    {"FLIGHT", "in_flight", NULL, OUTPUT_COUNT},
    {"QUAR", "quarantined", NULL, OUTPUT_COUNT},
    {"FREE", "free", NULL, OUTPUT_COUNT},
    {"PEAK", "used_max", NULL, OUTPUT_COUNT},
};

static const struct output_column stats_totals[] = {
    {"POOL", "name", NULL, OUTPUT_TEXT},
    {"ALLOCS", "allocs_total", NULL, OUTPUT_COUNT},
    {"FREES", "frees_total", NULL, OUTPUT_COUNT},
    {"FAILED", "failures_total", NULL, OUTPUT_COUNT},
    {"RECLAIMED", "reclaimed_total", NULL, OUTPUT_COUNT},
    {"REJECTED", "rejected_total", NULL, OUTPUT_COUNT},
    /* Only there after view_rates(). */
    {"ALLOCS/S", "allocs_per_second", NULL, OUTPUT_COUNT},
    {"FREES/S", "frees_per_second", NULL, OUTPUT_COUNT},
};

static const struct output_column pools[] = {
    {"POOL", "name", NULL, OUTPUT_TEXT},
    {"STATE", "state", NULL, OUTPUT_TEXT},
    {"BACKING", "backing", NULL, OUTPUT_TEXT},
    {"SLOT", "slot_size", NULL, OUTPUT_SIZE},
    {"SEGS", "segments_attached", "segments_max", OUTPUT_PART},
    {"REGION", "region_bytes", NULL, OUTPUT_SIZE},
    {"CLIENTS", "clients", NULL, OUTPUT_COUNT},
    {"WAIT", "waiters", NULL, OUTPUT_COUNT},
    {"QUOTA", "quota", NULL, OUTPUT_LIMIT},
};

static const struct output_column clients[] = {
    {"ID", "id", NULL, OUTPUT_ID},
    {"PID", "pid", NULL, OUTPUT_ID},
    {"UID", "uid", NULL, OUTPUT_ID},
    {"TIME", "connected_seconds", NULL, OUTPUT_SECONDS},
    {"POOL", "name", NULL, OUTPUT_TEXT},
    {"HELD", "held", NULL, OUTPUT_COUNT},
    {"CACHED", "cached", NULL, OUTPUT_COUNT},
    {"FLIGHT", "in_flight", NULL, OUTPUT_COUNT},
    {"COMMAND", "comm", NULL, OUTPUT_TEXT},
    {"LABEL", "label", NULL, OUTPUT_TEXT},
};

static const struct output_column holders[] = {
    {"ID", "client", NULL, OUTPUT_ID},
    {"PID", "pid", NULL, OUTPUT_ID},
    {"UID", "uid", NULL, OUTPUT_ID},
    {"STATE", "state", NULL, OUTPUT_TEXT},
    {"HELD", "held", NULL, OUTPUT_COUNT},
    {"CACHED", "cached", NULL, OUTPUT_COUNT},
    {"FLIGHT", "in_flight", NULL, OUTPUT_COUNT},
    {"OLDEST", "oldest_seconds", NULL, OUTPUT_SECONDS},
    {"COMMAND", "comm", NULL, OUTPUT_TEXT},
    {"LABEL", "label", NULL, OUTPUT_TEXT},
};

/* "held" is the segment's, whose row is looked at first. */
static const struct output_column holder_segments[] = {
    {"SEGMENT", "id", NULL, OUTPUT_ID},
    {"SLOTS", "held", NULL, OUTPUT_COUNT},
    {"ID", "client", NULL, OUTPUT_ID},
    {"PID", "pid", NULL, OUTPUT_ID},
    {"COMMAND", "comm", NULL, OUTPUT_TEXT},
    {"LABEL", "label", NULL, OUTPUT_TEXT},
};

/* Likewise "state" is the slot's. */
static const struct output_column holder_slots[] = {
    {"SLOT", "slot", NULL, OUTPUT_ID},
    {"VERSION", "version", NULL, OUTPUT_ID},
    {"STATE", "state", NULL, OUTPUT_TEXT},
    {"FOR", "seconds", NULL, OUTPUT_SECONDS},
    {"ID", "client", NULL, OUTPUT_ID},
    {"PID", "pid", NULL, OUTPUT_ID},
    {"COMMAND", "comm", NULL, OUTPUT_TEXT},
    {"LABEL", "label", NULL, OUTPUT_TEXT},
};

static const cJSON *
get(const cJSON *object, const char *key)
{
	return cJSON_GetObjectItemCaseSensitive(object, key);
}

static void
print_string(const struct output *out, const char *before, const cJSON *object,
    const char *key)
{
	const char *text = cJSON_GetStringValue(get(object, key));

	fputs(before, out->to);
	output_text(out, text != NULL ? text : "-", false);
}

static void
print_number(const struct output *out, const char *before, const cJSON *object,
    const char *key)
{
	const cJSON *item = get(object, key);

	if (cJSON_IsNumber(item))
		fprintf(out->to, "%s%.0f", before, item->valuedouble);
	else
		fprintf(out->to, "%s-", before);
}

static void
view_rows(const struct output *out, const struct output_column *columns,
    size_t n, const cJSON *rows)
{
	struct output_table *table = output_table_new(out, columns, n);
	const cJSON *row;

	cJSON_ArrayForEach (row, rows)
		output_table_add(table, row, NULL);
	output_table_end(table);
}

/* A row for each member of the array `key` in each of `outers`. */
static void
view_inner(const struct output *out, const struct output_column *columns,
    size_t n, const cJSON *outers, const char *key)
{
	struct output_table *table = output_table_new(out, columns, n);
	const cJSON *outer, *inner;

	cJSON_ArrayForEach (outer, outers) {
		cJSON_ArrayForEach (inner, get(outer, key))
			output_table_add(table, inner, outer);
	}
	output_table_end(table);
}

static void
view_daemon(const struct output *out, const cJSON *stats)
{
	const cJSON *daemon = get(stats, "daemon");
	const cJSON *uptime = get(daemon, "uptime_seconds");

	print_string(out, "slabd ", daemon, "version");
	print_number(out, ", pid ", daemon, "pid");
	if (cJSON_IsNumber(uptime) && uptime->valuedouble >= 0) {
		fputs(", up ", out->to);
		output_seconds(out, uptime->valuedouble);
		fputs(out->terminal ? "" : "s", out->to);
	}
	fprintf(
	    out->to, "; clients %d", cJSON_GetArraySize(get(stats, "clients")));
	print_number(out, " of ", daemon, "clients_max");
	print_number(out, "; reloads ", daemon, "reloads_total");
	print_number(out, ", failed ", daemon, "reload_failures_total");
	print_string(out, "\nsocket ", daemon, "socket");
	print_string(out, "; configuration ", daemon, "config_file");
	fputs("\n\n", out->to);
}

void
view_stats(const struct output *out, const cJSON *stats)
{
	const cJSON *rows = get(stats, "pools");
	bool rates = get(cJSON_GetArrayItem(rows, 0), "allocs_per_second");

	if (out->titles)
		view_daemon(out, stats);
	view_rows(out, stats_slots, COUNT(stats_slots), rows);
	fputc('\n', out->to);
	view_rows(
	    out, stats_totals, COUNT(stats_totals) - (rates ? 0 : 2), rows);
}

void
view_pools(const struct output *out, const cJSON *stats)
{
	view_rows(out, pools, COUNT(pools), get(stats, "pools"));
}

void
view_clients(const struct output *out, const cJSON *stats)
{
	struct output_table *table =
	    output_table_new(out, clients, COUNT(clients));
	const cJSON *client, *pool;

	cJSON_ArrayForEach (client, get(stats, "clients")) {
		const cJSON *attached = get(client, "pools");

		cJSON_ArrayForEach (pool, attached)
			output_table_add(table, pool, client);
		if (cJSON_GetArraySize(attached) == 0)
			output_table_add(table, client, NULL);
	}
	output_table_end(table);
}

void
view_holders(const struct output *out, const cJSON *doc)
{
	const cJSON *rows = get(doc, "holders");

	if (out->titles) {
		print_string(out, "pool ", doc, "pool");
		print_number(out, ": slots ", doc, "slots");
		print_number(out, ", free ", doc, "free");
		fprintf(out->to, "; holders %d\n\n", cJSON_GetArraySize(rows));
	}
	view_rows(out, holders, COUNT(holders), rows);
	if (!out->verbose)
		return;
	fputc('\n', out->to);
	view_inner(
	    out, holder_segments, COUNT(holder_segments), rows, "segments");
	fputc('\n', out->to);
	view_inner(out, holder_slots, COUNT(holder_slots), rows, "slots");
	if (out->titles && cJSON_IsTrue(get(doc, "slots_truncated")))
		fputs("\nMore slots are out than the daemon lists.\n", out->to);
}

static const cJSON *
pool_named(const cJSON *stats, const char *name)
{
	const cJSON *pool;

	cJSON_ArrayForEach (pool, get(stats, "pools")) {
		const char *other = cJSON_GetStringValue(get(pool, "name"));

		if (name != NULL && other != NULL && strcmp(name, other) == 0)
			return pool;
	}
	return NULL;
}

bool
view_choose(cJSON *stats, const char *name)
{
	cJSON *list = cJSON_GetObjectItemCaseSensitive(stats, "pools");
	cJSON *one = cJSON_DetachItemViaPointer(
	    list, (cJSON *)(uintptr_t)pool_named(stats, name));

	if (one == NULL)
		return false;
	cJSON_ReplaceItemInObjectCaseSensitive(
	    stats, "pools", cJSON_CreateArray());
	return cJSON_AddItemToArray(
	    cJSON_GetObjectItemCaseSensitive(stats, "pools"), one);
}

/* What the counter `total` gained a second; from 0 where it began anew. */
static int
add_rate(cJSON *pool, const cJSON *before, const char *total, const char *rate,
    double seconds)
{
	double now = cJSON_GetNumberValue(get(pool, total));
	double then = cJSON_GetNumberValue(get(before, total));
	double gained = now >= then ? now - then : now;

	if (!(now >= 0))
		return 0;
	return cJSON_AddNumberToObject(pool, rate, gained / seconds) != NULL
		   ? 0
		   : -ENOMEM;
}

int
view_rates(cJSON *stats, const cJSON *before, double seconds)
{
	cJSON *pool;

	cJSON_ArrayForEach (pool, get(stats, "pools")) {
		const cJSON *was =
		    pool_named(before, cJSON_GetStringValue(get(pool, "name")));

		if (add_rate(pool, was, "allocs_total", "allocs_per_second",
			seconds) < 0 ||
		    add_rate(pool, was, "frees_total", "frees_per_second",
			seconds) < 0)
			return -ENOMEM;
	}
	return 0;
}
