#include "config.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#include <cjson/cJSON.h>

#include "reclaim.h"
#include "report.h"

/* A flow may use twice what is in flight and one batch of the daemon (grants.c). */
#define FLOW_BATCH 512

/* Reclaiming may take so much longer than the hang-up of a socket. */
#define RECLAIM_MS 10

struct report {
	cJSON *root, *rows, *flow;
	const char *heading; /* the last one printed */
	int missed;
};

static void
add_cpu_model(cJSON *machine)
{
	FILE *file = fopen("/proc/cpuinfo", "re");
	char line[256], *colon;

	while (file != NULL && fgets(line, sizeof(line), file) != NULL) {
		colon = strchr(line, ':');
		if (strncmp(line, "model name", 10) != 0 || colon == NULL)
			continue;
		line[strcspn(line, "\n")] = '\0';
		cJSON_AddStringToObject(machine, "cpu", colon + 2);
		break;
	}
	if (file != NULL)
		fclose(file);
}

static void
add_machine(cJSON *root)
{
	cJSON *machine = cJSON_AddObjectToObject(root, "machine");
	time_t now = time(NULL);
	struct utsname name;
	double load = 0;
	char date[32];

	uname(&name);
	strftime(date, sizeof(date), "%Y-%m-%dT%H:%M:%SZ", gmtime(&now));
	add_cpu_model(machine);
	cJSON_AddNumberToObject(
	    machine, "cpus", (double)sysconf(_SC_NPROCESSORS_ONLN));
	cJSON_AddStringToObject(machine, "architecture", name.machine);
	cJSON_AddStringToObject(machine, "kernel", name.release);
	cJSON_AddStringToObject(machine, "compiler", __VERSION__);
	/* What else ran: the rows of two processes suffer most from it. */
	getloadavg(&load, 1);
	cJSON_AddNumberToObject(machine, "load_before", load);
	cJSON_AddStringToObject(root, "date", date);
}

static void
print_machine(const cJSON *machine)
{
	const cJSON *part;

	cJSON_ArrayForEach (part, machine)
		if (cJSON_IsString(part))
			printf("%s: %s\n", part->string, part->valuestring);
		else
			printf("%s: %g\n", part->string, part->valuedouble);
}

struct report *
report_new(unsigned rounds, unsigned ms)
{
	struct report *r = calloc(1, sizeof(*r));

	if (r == NULL)
		bench_die("report");
	r->root = cJSON_CreateObject();
	cJSON_AddNumberToObject(r->root, "version", 1);
	cJSON_AddStringToObject(r->root, "slabd", VERSION);
	add_machine(r->root);
	cJSON_AddNumberToObject(r->root, "rounds", rounds);
	cJSON_AddNumberToObject(r->root, "round_ms", ms);
	r->rows = cJSON_AddArrayToObject(r->root, "rows");
	r->flow = cJSON_AddArrayToObject(r->root, "flow");
	print_machine(cJSON_GetObjectItem(r->root, "machine"));
	printf("medians of %u rounds, in turns, of %u ms each\n", rounds, ms);
	return r;
}

static void
print_heading(struct report *r, const char *heading, const char *columns)
{
	if (r->heading == NULL || strcmp(r->heading, heading) != 0)
		printf("\n%s%s\n", heading, columns);
	r->heading = heading;
}

static void
print_size(size_t size)
{
	if (size < 1024)
		printf("%5zu B  ", size);
	else if (size < 1024 * 1024)
		printf("%5zu KiB", size / 1024);
	else
		printf("%5zu MiB", size / (1024 * 1024));
}

/* The part of a row that is there whether it could be measured or not. */
static cJSON *
begin_row(struct report *r, const struct row *row, size_t size)
{
	cJSON *o = cJSON_CreateObject();
	char against[48];

	print_heading(r, row->what,
	    row->throughput ? ": slabd, peer, how many times the GB/s"
			    : ": slabd, peer, slabd/peer");
	snprintf(against, sizeof(against), "%s%s", row->against->name,
	    row->sides != row->against_sides && !row->throughput ? ", alone"
								 : "");
	printf("  %-26s ", against);
	print_size(size);
	cJSON_AddStringToObject(o, "row", row->name);
	cJSON_AddStringToObject(o, "what", row->what);
	cJSON_AddStringToObject(o, "against", against);
	cJSON_AddNumberToObject(o, "bytes", (double)size);
	cJSON_AddItemToArray(r->rows, o);
	return o;
}

static void
add_spread(cJSON *o, const char *name, double median, double least, double most)
{
	cJSON *spread = cJSON_AddObjectToObject(o, name);

	cJSON_AddNumberToObject(spread, "median", median);
	cJSON_AddNumberToObject(spread, "least", least);
	cJSON_AddNumberToObject(spread, "most", most);
}

/* Ends a line with the goal, and says whether it was met. */
static void
add_goal(struct report *r, cJSON *o, const char *kind, double goal, double aim,
    bool met)
{
	printf(
	    "   goal %s %g", strcmp(kind, "at_least") == 0 ? ">=" : "<=", goal);
	if (aim > 0)
		printf(", aim %g", aim);
	printf(": %s", met ? "met" : "MISSED");
	o = cJSON_AddObjectToObject(o, "goal");
	cJSON_AddNumberToObject(o, kind, goal);
	if (aim > 0)
		cJSON_AddNumberToObject(o, "aim", aim);
	cJSON_AddBoolToObject(o, "met", met);
	r->missed += !met;
}

void
report_row(struct report *r, const struct row *row, unsigned size_index,
    const struct bench_ratio *ratio)
{
	size_t size = row->sizes[size_index];
	double bytes = (double)size, goal = 0;
	double median = ratio->median, least = ratio->least, most = ratio->most;
	cJSON *o = begin_row(r, row, size);

	if (row->throughput) {
		median = 1 / ratio->median;
		least = 1 / ratio->most;
		most = 1 / ratio->least;
		printf(" %9.3f %9.3f GB/s", bytes / ratio->b, bytes / ratio->a);
	} else {
		printf(" %9.1f %9.1f ns  ", ratio->b, ratio->a);
	}
	printf(" %7.3f (%.3f to %.3f)", median, least, most);
	cJSON_AddNumberToObject(o, "slabd_ns", ratio->b);
	cJSON_AddNumberToObject(o, "against_ns", ratio->a);
	add_spread(o, row->throughput ? "times_the_rate" : "ratio", median,
	    least, most);
	if (row->goals != NULL)
		goal = row->goals[size_index];
	if (goal > 0 && row->throughput)
		add_goal(r, o, "at_least", goal, row->aim, median >= goal);
	else if (goal > 0)
		add_goal(r, o, "at_most", goal, row->aim, median <= goal);
	printf("\n");
	fflush(stdout);
}

void
report_skip(struct report *r, const struct row *row, unsigned size_index,
    const char *why)
{
	cJSON *o = begin_row(r, row, row->sizes[size_index]);

	printf(" %s\n", why);
	cJSON_AddStringToObject(o, "skipped", why);
}

void
report_flow(struct report *r, unsigned in_flight, unsigned different)
{
	unsigned goal = 2 * in_flight + FLOW_BATCH;
	cJSON *o = cJSON_CreateObject();

	print_heading(r, "different slots used by a steady flow from A to B",
	    ": in flight, twice that, used");
	printf("  %6u %6u %6u", in_flight, 2 * in_flight, different);
	cJSON_AddNumberToObject(o, "in_flight", in_flight);
	cJSON_AddNumberToObject(o, "different", different);
	add_goal(r, o, "at_most", goal, 0, different <= goal);
	cJSON_AddItemToArray(r->flow, o);
	printf("\n");
	fflush(stdout);
}

void
report_reclaim(
    struct report *r, double slabd, double floor, const double extra[3])
{
	cJSON *o = cJSON_AddObjectToObject(r->root, "reclaim");

	print_heading(r,
	    "all free again after kill -9 of a client with 100,000"
	    " slots",
	    ": slabd, hang-up of a socket, slabd - hang-up");
	printf("  %.2f %.2f ms   %.2f (%.2f to %.2f)", slabd, floor, extra[1],
	    extra[0], extra[2]);
	cJSON_AddNumberToObject(o, "held_at_least", RECLAIM_HELD);
	cJSON_AddNumberToObject(o, "slabd_ms", slabd);
	cJSON_AddNumberToObject(o, "floor_ms", floor);
	add_spread(o, "extra_ms", extra[1], extra[0], extra[2]);
	add_goal(r, o, "at_most", RECLAIM_MS, 0, extra[1] <= RECLAIM_MS);
	printf("\n");
}

int
report_write(struct report *r, const char *path)
{
	char *text = cJSON_Print(r->root);
	FILE *file = fopen(path, "we");
	int missed = r->missed;

	if (file == NULL || fprintf(file, "%s\n", text) < 0 ||
	    fclose(file) != 0)
		bench_die(path);
	cJSON_free(text);
	cJSON_Delete(r->root);
	free(r);
	return missed;
}
