/*
 * slabctl: looks at a running slabd and administers it; slabctl(1).
 *
 * A command is a row of the table `commands`: what it is called, which options
 * it takes, and the function that runs it. Most only name the document they
 * show or the request they send. What they return is the exit status.
 */
#include "config.h"

#include <errno.h>
#include <getopt.h>
#include <locale.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cjson/cJSON.h>

#include "connection.h"
#include "clients/schema.h"
#include "output.h"
#include "view.h"

#define COUNT(array)  (sizeof(array) / sizeof((array)[0]))
#define WATCH_MIN     0.1 /* seconds */
#define WATCH_MAX     86400.0
#define WAIT_MAX      86400.0
#define DOCUMENT_FORM 1 /* the version of the documents we can show */
#define NAME_DISTANCE 2 /* edits up to which a name may be meant */
#define COMMAND_MAX   15

enum status {
	STATUS_OK,
	STATUS_FAILED,
	STATUS_USAGE,
	STATUS_UNREACHABLE,
};

/* Options that not every command takes. */
enum option_bit {
	TAKES_JSON = 1,
	TAKES_WATCH = 2,
	TAKES_FORCE = 4,
	TAKES_VERBOSE = 8,
};

struct ctl;

struct command {
	const char *name;
	const char *argument; /* what the one argument is called, or NULL; in
				 brackets when it may be left out */
	const char *summary;
	unsigned takes;
	int (*run)(struct ctl *);
	enum wire_type type; /* of the request, where there is one */
	void (*view)(const struct output *, const cJSON *); /* NULL: as JSON */
	const char *done; /* said when the request was granted */
};

/* One run of slabctl. */
struct ctl {
	const struct command *command;
	const char *socket, *argument;
	unsigned given;	 /* of enum option_bit */
	double interval; /* seconds */
	double patience; /* seconds, for a daemon to appear */
	bool titles;
	struct slabd *slabd;
	struct output out;
};

/* What to do about a refusal, where neither daemon nor library said so. */
static const struct {
	int err;
	const char *todo;
} advice[] = {
    {EPERM, "run it as one of them"},
    {ENOENT, "`slabctl pools` lists the pools there are"},
    {ENOTCONN, "is slabd still running?"},
    {EUSERS, "end some clients, or raise these limits"},
};

static int
complain(int status, const char *what, const char *why, const char *todo)
{
	struct output err;

	fflush(stdout);
	output_init(&err, stderr);
	fputs("slabctl: ", stderr);
	output_text(&err, what, false);
	fputs(": ", stderr);
	output_text(&err, why, true);
	if (todo != NULL)
		fprintf(stderr, "; %s", todo);
	fputc('\n', stderr);
	return status;
}

/* Says why the daemon was not reached or refused; err is negative. */
static int
failed(const struct ctl *c, int err)
{
	/* Who is turned away has reached it all the same. */
	bool reached = (c->slabd != NULL && err != -ENOTCONN) || err == -EUSERS;
	const char *why = slabd_error_detail(), *todo = NULL;

	if (*why == '\0')
		why = slabd_strerror(err);
	for (size_t i = 0; strchr(why, ';') == NULL && i < COUNT(advice); i++)
		if (advice[i].err == -err)
			todo = advice[i].todo;
	return complain(reached ? STATUS_FAILED : STATUS_UNREACHABLE,
	    c->command->name, why, todo);
}

static int
ctl_connect(struct ctl *c)
{
	struct slabd_options options = SLABD_OPTIONS_INIT;

	options.socket_path = c->socket;
	options.label = "slabctl";
	options.connect_ms = (int32_t)(c->patience * 1e3);
	options.reconnect_ms = 0;
	return slabd_open_options(&c->slabd, &options);
}

/* Asks for a document; the text is the caller's, and *doc what it says. */
static int
fetch(struct ctl *c, enum wire_type type, char **json, cJSON **doc)
{
	const char *pool = type == WIRE_HOLDERS ? c->argument : NULL;
	int err = slabd_document(c->slabd, (uint16_t)type, pool, json);

	*doc = NULL;
	if (err < 0)
		return failed(c, err);
	*doc = cJSON_ParseWithOpts(*json, NULL, 1);
	if (*doc != NULL)
		return STATUS_OK;
	free(*json);
	return complain(STATUS_FAILED, c->command->name,
	    "the daemon's answer is not JSON", "is it of another version?");
}

static double
seconds_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* The terminal may have another width each time it is looked at. */
static void
prepare(struct ctl *c)
{
	output_init(&c->out, stdout);
	c->out.titles = c->titles;
	c->out.verbose = c->given & TAKES_VERBOSE;
}

static int
show(struct ctl *c, const char *json, const cJSON *doc)
{
	const cJSON *form = cJSON_GetObjectItemCaseSensitive(doc, "version");

	prepare(c);
	if (c->given & TAKES_WATCH && c->out.terminal)
		fputs("\033[H\033[2J", stdout);
	if (c->command->view == NULL || c->given & TAKES_JSON)
		output_json(&c->out, json);
	else if (cJSON_GetNumberValue(form) == DOCUMENT_FORM)
		c->command->view(&c->out, doc);
	else
		return complain(STATUS_FAILED, c->command->name,
		    "the document is of a form that this slabctl cannot show",
		    "--json prints it as it is");
	fflush(stdout);
	return STATUS_OK;
}

/* Of a document about all pools keeps the one asked for, if one was. */
static int
choose(const struct ctl *c, cJSON *doc)
{
	char why[32 + WIRE_NAME_MAX];

	if (c->argument == NULL || view_choose(doc, c->argument))
		return STATUS_OK;
	snprintf(why, sizeof(why), "there is no pool %s", c->argument);
	return complain(STATUS_FAILED, c->command->name, why,
	    "`slabctl pools` lists the pools there are");
}

static void
wait_for(double seconds)
{
	double whole = floor(seconds);

	nanosleep(
	    &(struct timespec){(time_t)whole, (long)((seconds - whole) * 1e9)},
	    NULL);
}

static int
run_document(struct ctl *c)
{
	cJSON *doc = NULL, *before;
	double then = 0, now;
	char *json;
	int status;

	for (;;) {
		before = doc;
		status = fetch(c, c->command->type, &json, &doc);
		if (status != STATUS_OK)
			break;
		now = seconds_now();
		if (before != NULL)
			view_rates(doc, before, now - then);
		then = now;
		status =
		    c->command->type == WIRE_STATS ? choose(c, doc) : STATUS_OK;
		if (status == STATUS_OK)
			status = show(c, json, doc);
		free(json);
		cJSON_Delete(before);
		before = NULL;
		if (status != STATUS_OK || !(c->given & TAKES_WATCH) ||
		    ferror(stdout))
			break;
		wait_for(c->interval);
		if (!c->out.terminal)
			fputc('\n', stdout);
	}
	cJSON_Delete(before);
	cJSON_Delete(doc);
	return status;
}

/* Sends the command's request, about a pool if it has one: its status. */
static int
request(struct ctl *c)
{
	uint8_t buf[2 + WIRE_NAME_MAX];
	struct wire_writer body = {.buf = buf, .cap = sizeof(buf)};
	uint16_t flags = c->given & TAKES_FORCE ? WIRE_FORCE : 0;

	if (c->argument != NULL)
		wire_put_string(&body, c->argument, WIRE_NAME_MAX);
	return slabd_request(c->slabd, (uint16_t)c->command->type, flags, 0,
	    buf, body.len, NULL);
}

static int
run_request(struct ctl *c)
{
	int err = request(c);

	if (err < 0)
		return failed(c, err);
	puts(c->command->done);
	return STATUS_OK;
}

static int
run_trim(struct ctl *c)
{
	int n = request(c);

	if (n < 0)
		return failed(c, n);
	printf("%d segment%s given back\n", n, n == 1 ? "" : "s");
	return STATUS_OK;
}

static int
run_ping(struct ctl *c)
{
	double begun = seconds_now(), took;
	int err = request(c);

	took = seconds_now() - begun;
	if (err < 0)
		return failed(c, err);
	if (c->given & TAKES_JSON)
		printf("{\n  \"version\": 1,\n  \"seconds\": %.6f\n}\n", took);
	else
		printf("slabd answers in %.3f ms\n", took * 1e3);
	return STATUS_OK;
}

/* Our own version and the daemon's. */
static void
print_versions(const struct ctl *c, const char *daemon)
{
	cJSON *both;
	char *json = NULL;

	if (!(c->given & TAKES_JSON)) {
		fputs("slabctl " VERSION "\nslabd ", stdout);
		output_text(&c->out, daemon, false);
		fputc('\n', stdout);
		return;
	}
	both = cJSON_CreateObject();
	cJSON_AddStringToObject(both, "slabctl", VERSION);
	if (cJSON_AddStringToObject(both, "slabd", daemon) != NULL)
		json = cJSON_PrintUnformatted(both);
	if (json != NULL)
		output_json(&c->out, json);
	free(json);
	cJSON_Delete(both);
}

static int
run_version(struct ctl *c)
{
	const cJSON *daemon;
	const char *version;
	cJSON *doc;
	char *json;
	int status;

	status = fetch(c, WIRE_STATS, &json, &doc);
	if (status != STATUS_OK)
		return status;
	daemon = cJSON_GetObjectItemCaseSensitive(doc, "daemon");
	version = cJSON_GetStringValue(
	    cJSON_GetObjectItemCaseSensitive(daemon, "version"));
	prepare(c);
	print_versions(c, version != NULL ? version : "-");
	free(json);
	cJSON_Delete(doc);
	return STATUS_OK;
}

static int
run_schema(struct ctl *c)
{
	(void)c;
	fputs(schema, stdout);
	return STATUS_OK;
}

#define TAKES_VIEW (TAKES_JSON | TAKES_WATCH)

static const struct command commands[] = {
    {"ping", NULL, "ask whether the daemon answers", TAKES_JSON, run_ping,
	WIRE_PING, NULL, NULL},
    {"stats", "[POOL]", "how full the pools are and what they have done",
	TAKES_VIEW, run_document, WIRE_STATS, view_stats, NULL},
    {"pools", NULL, "how the pools are built", TAKES_VIEW, run_document,
	WIRE_STATS, view_pools, NULL},
    {"clients", NULL, "who is connected", TAKES_VIEW, run_document, WIRE_STATS,
	view_clients, NULL},
    {"holders", "POOL", "who holds a pool's slots, and since when",
	TAKES_VIEW | TAKES_VERBOSE, run_document, WIRE_HOLDERS, view_holders,
	NULL},
    {"config", NULL, "the configuration in force", TAKES_JSON, run_document,
	WIRE_CONFIG, NULL, NULL},
    {"version", NULL, "the versions of slabctl and of the daemon", TAKES_JSON,
	run_version, WIRE_STATS, NULL, NULL},
    {"schema", NULL, "the JSON Schema of `stats --json`", 0, run_schema, 0,
	NULL, NULL},
    {"reload", NULL, "read the configuration again", 0, run_request,
	WIRE_RELOAD, NULL, "configuration reloaded"},
    {"trim", "POOL", "give a pool's empty segments back", 0, run_trim,
	WIRE_TRIM, NULL, NULL},
    {"audit", NULL, "check that every slot is in exactly one place", 0,
	run_request, WIRE_AUDIT, NULL, "every slot is in exactly one place"},
    {"shutdown", NULL, "stop the daemon; --force: even pools in use go",
	TAKES_FORCE, run_request, WIRE_SHUTDOWN, NULL, "slabd is going down"},
};

static void
usage(FILE *to)
{
	fputs("usage: slabctl [-Hv] [-s SOCKET] [--wait SECONDS] [--json] "
	      "[--watch SECONDS]\n"
	      "               COMMAND [POOL]\n\n",
	    to);
	for (size_t i = 0; i < COUNT(commands); i++)
		fprintf(to, "  %s %-*s %s\n", commands[i].name,
		    (int)(18 - strlen(commands[i].name)),
		    commands[i].argument != NULL      ? commands[i].argument
		    : commands[i].takes & TAKES_FORCE ? "[--force]"
						      : "",
		    commands[i].summary);
	fputs("\n"
	      "  -s, --socket SOCKET  the daemon's socket [$SLABD_SOCKET or a"
	      " usual place]\n"
	      "      --wait SECONDS   for a daemon that is about to start\n"
	      "      --json           the document itself, where one is read\n"
	      "  -w, --watch SECONDS  again and again, with what changed\n"
	      "  -v, --verbose        holders: also each segment and slot\n"
	      "  -H, --no-header      no titles and no summary\n"
	      "  -h, --help           this text\n"
	      "  -V, --version        slabctl's own version\n",
	    to);
}

/* How many edits of one character make b, a command's name, of a. */
static size_t
distance(const char *a, const char *b)
{
	size_t row[COMMAND_MAX + 1], n = strlen(b), left, above;

	for (size_t j = 0; j <= n; j++)
		row[j] = j;
	for (size_t i = 1; *a != '\0'; a++, i++) {
		left = i;
		for (size_t j = 1; j <= n; j++) {
			above = row[j - 1] + (*a != b[j - 1]);
			row[j - 1] = left;
			left++;
			if (above < left)
				left = above;
			if (row[j] + 1 < left)
				left = row[j] + 1;
		}
		row[n] = left;
	}
	return row[n];
}

static int
unknown_command(const char *name)
{
	const char *meant = NULL;
	size_t nearest = NAME_DISTANCE + 1, edits;
	char why[64 + COMMAND_MAX];

	for (size_t i = 0; i < COUNT(commands); i++) {
		edits = distance(name, commands[i].name);
		if (edits < nearest) {
			nearest = edits;
			meant = commands[i].name;
		}
	}
	if (meant == NULL)
		return complain(STATUS_USAGE, name, "no such command",
		    "`slabctl -h` lists them");
	snprintf(
	    why, sizeof(why), "no such command; did you mean `%s`?", meant);
	return complain(STATUS_USAGE, name, why, NULL);
}

static const struct command *
command_find(const char *name)
{
	for (size_t i = 0; i < COUNT(commands); i++)
		if (strcmp(commands[i].name, name) == 0)
			return &commands[i];
	return NULL;
}

static bool
seconds_parse(const char *text, double least, double most, double *seconds)
{
	char *end;

	*seconds = strtod(text, &end);
	return end != text && *end == '\0' && *seconds >= least &&
	       *seconds <= most;
}

/* Takes the options out of argv, and what they mean into *c: -1 to go on. */
static int
options_parse(struct ctl *c, int argc, char **argv)
{
	static const struct option options[] = {
	    {"socket", required_argument, NULL, 's'},
	    {"json", no_argument, NULL, 'j'},
	    {"wait", required_argument, NULL, 'W'},
	    {"watch", required_argument, NULL, 'w'},
	    {"force", no_argument, NULL, 'f'},
	    {"verbose", no_argument, NULL, 'v'},
	    {"no-header", no_argument, NULL, 'H'},
	    {"help", no_argument, NULL, 'h'},
	    {"version", no_argument, NULL, 'V'},
	    {NULL, 0, NULL, 0},
	};
	int option;

	while ((option = getopt_long(argc, argv, "s:w:vHhV", options, NULL)) !=
	       -1) {
		switch (option) {
		case 's':
			c->socket = optarg;
			break;
		case 'j':
			c->given |= TAKES_JSON;
			break;
		case 'w':
			c->given |= TAKES_WATCH;
			if (!seconds_parse(
				optarg, WATCH_MIN, WATCH_MAX, &c->interval))
				return complain(STATUS_USAGE, optarg,
				    "no interval", "say 0.1 to 86400 seconds");
			break;
		case 'W':
			if (!seconds_parse(optarg, 0, WAIT_MAX, &c->patience))
				return complain(STATUS_USAGE, optarg,
				    "no time to wait",
				    "say 0 to 86400 seconds");
			break;
		case 'f':
			c->given |= TAKES_FORCE;
			break;
		case 'v':
			c->given |= TAKES_VERBOSE;
			break;
		case 'H':
			c->titles = false;
			break;
		case 'h':
			usage(stdout);
			return STATUS_OK;
		case 'V':
			puts("slabctl " VERSION);
			return STATUS_OK;
		default:
			fputs("`slabctl -h` lists the options\n", stderr);
			return STATUS_USAGE;
		}
	}
	return -1;
}

/* Takes the command's argument from those behind it: -1 to go on. */
static int
argument_parse(struct ctl *c, int argc, char **argv)
{
	const char *called = c->command->argument;
	int most = called != NULL, least = most && *called != '[';
	char why[256];

	if (argc < least)
		return complain(STATUS_USAGE, c->command->name,
		    "it takes the name of a pool",
		    "`slabctl pools` lists the pools there are");
	if (argc > most) {
		snprintf(why, sizeof(why),
		    "it takes %s, but `%.128s` was given",
		    most ? "one pool only" : "no argument", argv[most]);
		return complain(STATUS_USAGE, c->command->name, why,
		    "`slabctl -h` lists the commands");
	}
	c->argument = argv[0];
	if (c->argument == NULL)
		return -1;
	if (strlen(c->argument) > WIRE_NAME_MAX)
		return complain(STATUS_FAILED, c->command->name,
		    "no pool's name is that long",
		    "`slabctl pools` lists the pools there are");
	if (!least && c->given & TAKES_JSON)
		return complain(STATUS_USAGE, c->command->name,
		    "--json prints the document as it is, with all pools",
		    "leave out the pool's name");
	return -1;
}

/* Takes the command and its argument: -1 to go on. */
static int
command_parse(struct ctl *c, int argc, char **argv)
{
	if (argc == 0) {
		usage(stderr);
		return STATUS_USAGE;
	}
	c->command = command_find(argv[0]);
	if (c->command == NULL)
		return unknown_command(argv[0]);
	if (c->given & ~c->command->takes)
		return complain(STATUS_USAGE, argv[0],
		    "it does not take one of these options",
		    "slabctl(1) tells which it takes");
	return argument_parse(c, argc - 1, argv + 1);
}

static int
run(struct ctl *c)
{
	int status, err;

	if (c->command->run == run_schema)
		return run_schema(c);
	err = ctl_connect(c);
	if (err < 0)
		return failed(c, err);
	status = c->command->run(c);
	slabd_close(c->slabd);
	return status;
}

int
main(int argc, char **argv)
{
	struct ctl c = {.titles = true};
	int status;

	setlocale(LC_CTYPE, "");
	/* A page of figures shall appear at once. */
	setvbuf(stdout, NULL, _IOFBF, 0);
	status = options_parse(&c, argc, argv);
	if (status < 0)
		status = command_parse(&c, argc - optind, argv + optind);
	if (status < 0)
		status = run(&c);
	if (fflush(stdout) != 0 || ferror(stdout))
		return complain(STATUS_FAILED, "standard output",
		    strerror(errno), "what was printed is incomplete");
	return status;
}
