#include "config.h"

#include <dirent.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "../e2e/server.h"
#include "trend.h"

enum { LEAST = 8 }; /* samples that can be judged */

/* Name, whether it begins anew with a daemon, whether it is resident memory,
   and by how much its line may always rise. */
#define COLUMNS(X)                                     \
	X(DAEMON_KIB, "daemon KiB", true, true, 256)   \
	X(DAEMON_FDS, "daemon fds", true, false, 6)    \
	X(HELPER_KIB, "helper KiB", true, true, 128)   \
	X(HELPER_FDS, "helper fds", true, false, 2)    \
	X(SHM_KIB, "shm KiB", false, false, 512)       \
	X(SHM_NAMES, "shm names", false, false, 6)     \
	X(CLIENT_KIB, "client heap", false, true, 256) \
	X(CLIENT_FDS, "client fds", false, false, 6)   \
	X(CLIENT_MAPS, "client maps", false, false, 6)

enum {
#define X(name, text, anew, resident, grain) name,
	COLUMNS(X)
#undef X
	    NCOLUMNS
};

static const struct column {
	const char *text;
	bool anew, resident;
	double grain;
} columns[] = {
#define X(name, text, anew, resident, grain) {text, anew, resident, grain},
    COLUMNS(X)
#undef X
};

static struct sample {
	double seconds, value[NCOLUMNS]; /* negative: not to be seen */
} samples[TREND_SAMPLES_MAX];
static unsigned nsamples, first_of_daemon;

static FILE *
open_proc(pid_t pid, const char *name)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, name);
	return fopen(path, "re");
}

/* A figure of /proc/PID/status; -1: there is none. */
static double
status_kib(pid_t pid, const char *key)
{
	FILE *file = open_proc(pid, "status");
	char line[256];
	double kib = -1;

	while (file != NULL && fgets(line, sizeof(line), file) != NULL)
		if (strncmp(line, key, strlen(key)) == 0)
			kib = strtod(line + strlen(key), NULL);
	if (file != NULL)
		fclose(file);
	return kib;
}

static double
count_fds(pid_t pid)
{
	char path[64];
	double n = -2; /* . and .. */
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%d/fd", (int)pid);
	dir = opendir(path);
	if (dir == NULL)
		return -1;
	while (readdir(dir) != NULL)
		n++;
	closedir(dir);
	return n;
}

static double
count_maps(pid_t pid)
{
	FILE *file = open_proc(pid, "maps");
	double n = 0;
	int c;

	if (file == NULL)
		return -1;
	while ((c = getc(file)) != EOF)
		n += c == '\n';
	fclose(file);
	return n;
}

static double
shm_kib(const struct server *s)
{
	DIR *dir = opendir("/dev/shm");
	struct dirent *entry;
	char path[PATH_MAX];
	double kib = 0;
	struct stat st;

	while (dir != NULL && (entry = readdir(dir)) != NULL) {
		if (strncmp(entry->d_name, s->prefix, strlen(s->prefix)) != 0)
			continue;
		snprintf(path, sizeof(path), "/dev/shm/%s", entry->d_name);
		if (stat(path, &st) == 0)
			kib += (double)st.st_blocks / 2;
	}
	if (dir != NULL)
		closedir(dir);
	return kib;
}

void
trend_sample(const struct server *s, pid_t client, bool restarted)
{
	pid_t helper = server_helper(s);
	struct timespec now;
	struct sample *new;

	if (nsamples == TREND_SAMPLES_MAX)
		return;
	if (restarted)
		first_of_daemon = nsamples;
	new = &samples[nsamples++];
	clock_gettime(CLOCK_MONOTONIC, &now);
	new->seconds = (double)now.tv_sec + (double)now.tv_nsec / 1e9;
	new->value[DAEMON_KIB] = status_kib(s->pid, "VmRSS:");
	new->value[DAEMON_FDS] = count_fds(s->pid);
	new->value[HELPER_KIB] = status_kib(helper, "VmRSS:");
	new->value[HELPER_FDS] = count_fds(helper);
	new->value[SHM_KIB] = shm_kib(s);
	new->value[SHM_NAMES] = server_names(s);
	/* Its own memory, and not how much of the shared it has seen. */
	new->value[CLIENT_KIB] = status_kib(client, "RssAnon:");
	new->value[CLIENT_FDS] = count_fds(client);
	new->value[CLIENT_MAPS] = count_maps(client);
}

static void
print_samples(void)
{
	printf("%10s", "second");
	for (int c = 0; c < NCOLUMNS; c++)
		printf("%12s", columns[c].text);
	printf("\n");
	for (unsigned i = 0; i < nsamples; i++) {
		printf("%10.1f", samples[i].seconds - samples[0].seconds);
		for (int c = 0; c < NCOLUMNS; c++)
			printf("%12.0f", samples[i].value[c]);
		printf("\n");
	}
}

/* By how much the least-squares line through samples [from, nsamples) rises. */
static double
rise(int c, unsigned from, double *mean)
{
	double t = 0, v = 0, above = 0, below = 0, dt;
	unsigned n = nsamples - from;

	for (unsigned i = from; i < nsamples; i++) {
		t += samples[i].seconds / n;
		v += samples[i].value[c] / n;
	}
	for (unsigned i = from; i < nsamples; i++) {
		dt = samples[i].seconds - t;
		above += dt * (samples[i].value[c] - v);
		below += dt * dt;
	}
	*mean = v;
	return above / below *
	       (samples[nsamples - 1].seconds - samples[from].seconds);
}

static bool
can_be_seen(int c)
{
	for (unsigned i = 0; i < nsamples; i++)
		if (samples[i].value[c] < 0)
			return false;
	return true;
}

/* Prints it; false: it grew, or there is too little to tell. */
static bool
is_flat(int c)
{
	const char *sanitizers = getenv("SANITIZERS");
	unsigned from = columns[c].anew ? first_of_daemon : 0;
	double mean, up, limit;

	if (!can_be_seen(c) || (columns[c].resident && sanitizers != NULL &&
				   *sanitizers != '\0')) {
		printf("%-12s not judged\n", columns[c].text);
		return true;
	}
	from += (nsamples - from) / 4;
	if (nsamples - from < LEAST) {
		printf("%-12s %u samples are too few\n", columns[c].text,
		    nsamples - from);
		return false;
	}
	up = rise(c, from, &mean);
	limit = mean / 10 + columns[c].grain;
	printf("%-12s %u samples, mean %.0f, rises by %.1f (at most %.1f): "
	       "%s\n",
	    columns[c].text, nsamples - from, mean, up, limit,
	    up <= limit ? "flat" : "GROWS");
	return up <= limit;
}

int
trend_report(void)
{
	int err = 0;

	print_samples();
	for (int c = 0; c < NCOLUMNS; c++)
		if (!is_flat(c))
			err = -1;
	return err;
}
