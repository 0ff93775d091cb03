/*
 * The daemon's life: start, serve, stop.
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sysexits.h>
#include <unistd.h>

#include "client.h"
#include "daemon.h"
#include "event.h"
#include "helper.h"
#include "listener.h"
#include "log.h"
#include "notify.h"
#include "pool.h"

/* Connections beyond the limits that are kept for administrators. */
#define GUESTS_MAX 4u

struct pool *
daemon_pool(const struct daemon *d, const char *name)
{
	struct pool *p;

	TAILQ_FOREACH (p, &d->pools, entry)
		if (strcmp(p->conf.name, name) == 0)
			return p;
	return NULL;
}

void
daemon_pool_idle(struct daemon *d, struct pool *p)
{
	log_info(
	    "pool", "%s: retired, and nobody uses it any more", p->conf.name);
	TAILQ_REMOVE(&d->pools, p, entry);
	pool_close(p, true);
}

static struct user *
find_user(const struct daemon *d, uid_t uid)
{
	struct user *u;

	LIST_FOREACH (u, &d->users, entry)
		if (u->uid == uid)
			break;
	return u;
}

/* Whether the limits, each raised by `extra`, leave room for one more. */
static bool
has_place(const struct daemon *d, const struct user *u, unsigned extra)
{
	return d->nclients < d->conf->max_clients + extra &&
	       (u == NULL || u->clients < d->conf->max_clients_per_uid + extra);
}

enum admission
daemon_admit(struct daemon *d, uid_t uid)
{
	unsigned guests = uid == 0 || uid == geteuid() ? GUESTS_MAX : 0;
	struct user *u = find_user(d, uid);
	bool full = !has_place(d, u, 0);

	if (!has_place(d, u, guests))
		return DAEMON_TURNED_AWAY;
	if (u == NULL) {
		u = calloc(1, sizeof(*u));
		if (u == NULL)
			return DAEMON_TURNED_AWAY;
		u->uid = uid;
		LIST_INSERT_HEAD(&d->users, u, entry);
	}
	u->clients++;
	d->nclients++;
	return full ? DAEMON_GUEST : DAEMON_ADMITTED;
}

void
daemon_dismiss(struct daemon *d, uid_t uid)
{
	struct user *u = find_user(d, uid);

	d->nclients--;
	if (--u->clients > 0)
		return;
	LIST_REMOVE(u, entry);
	free(u);
}

int
daemon_submit(
    struct daemon *d, struct pool *p, uint32_t segment, struct helper_job *job)
{
	struct ticket *t = calloc(1, sizeof(*t));
	int err = -EPIPE;

	if (t == NULL)
		return -ENOMEM;
	*t = (struct ticket){.pool = p,
	    .segment = segment,
	    .attach = job->kind == HELPER_ATTACH};
	if (d->helper_watch != NULL)
		err = helper_submit(d->helper, job);
	if (err != 0) {
		free(t);
		return err;
	}
	TAILQ_INSERT_TAIL(&d->tickets, t, entry);
	return 0;
}

static void
next_ticket(struct daemon *d, const struct helper_result *r)
{
	struct ticket *t = TAILQ_FIRST(&d->tickets);

	TAILQ_REMOVE(&d->tickets, t, entry);
	pool_job_done(t->pool, t->segment, t->attach, r);
	free(t);
}

/* No result will come any more: pools live on with the segments they have. */
static void
helper_lost(struct daemon *d)
{
	struct helper_result gone = {.status = -EPIPE};

	watch_free(d->helper_watch);
	d->helper_watch = NULL;
	while (!TAILQ_EMPTY(&d->tickets))
		next_ticket(d, &gone);
}

static void
client_arrived(void *arg, int fd)
{
	client_accept(arg, fd);
}

/* True once every pool has the segments it starts with, or cannot get them. */
static bool
pools_settled(const struct daemon *d)
{
	const struct pool *p;

	TAILQ_FOREACH (p, &d->pools, entry)
		if (p->growing && p->segments_attached < p->conf.min_segments)
			return false;
	return true;
}

/* Nobody is let in before the pools are there. */
static void
serve_when_settled(struct daemon *d)
{
	int err;

	if (d->listener != NULL || !pools_settled(d))
		return;
	err = listener_open(&d->listener, d->loop, &d->instance, d->conf->mode,
	    config_group(d->conf), client_arrived, d);
	if (err != 0)
		fatal(EX_CANTCREAT, "cannot listen on %s: %s",
		    d->instance.socket_path, strerror(-err));
	log_info(
	    NULL, "version %s serves %s", VERSION, d->instance.socket_path);
	notify_status("serving %s", d->instance.socket_path);
	notify_ready();
}

static void
helper_ready(void *arg, unsigned what)
{
	struct daemon *d = arg;
	struct helper_result r;
	int got;

	(void)what;
	while ((got = helper_read(d->helper, &r)) > 0)
		next_ticket(d, &r);
	if (got < 0)
		helper_lost(d);
	serve_when_settled(d);
}

static void
reload_by_signal(struct daemon *d)
{
	char *error = NULL;

	/* What went wrong is in the log. */
	daemon_reload(d, &error);
	free(error);
}

static void
signal_came(void *arg, unsigned signo)
{
	struct daemon *d = arg;

	if (signo == SIGHUP)
		reload_by_signal(d);
	else
		daemon_stop(d, false);
}

void
daemon_stop(struct daemon *d, bool force)
{
	d->force = d->force || force;
	notify_stopping();
	loop_stop(d->loop);
}

static void
read_boot_id(uint8_t id[16])
{
	char text[40] = "", *at = text;
	int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);

	memset(id, 0, 16);
	if (fd < 0)
		return;
	if (read(fd, text, sizeof(text) - 1) < 36)
		text[0] = '\0';
	close(fd);
	for (int i = 0; i < 16 && *at != '\0'; i++) {
		unsigned byte = 0;

		at += *at == '-';
		sscanf(at, "%2x", &byte);
		id[i] = (uint8_t)byte;
		at += 2;
	}
}

/* As many descriptors as we may have: clients cost two each. */
static void
raise_limits(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
		limit.rlim_cur = limit.rlim_max;
		setrlimit(RLIMIT_NOFILE, &limit);
	}
}

static void
load_config(struct daemon *d)
{
	char *error = NULL;

	if (config_load(&d->conf, d->config_path, &error) != 0)
		fatal(EX_CONFIG, "%s", error != NULL ? error : "out of memory");
	log_set_level((enum log_level)d->conf->log_level);
}

static void
open_instance(struct daemon *d)
{
	const char *path =
	    d->socket_path != NULL ? d->socket_path : d->conf->socket;
	int err = instance_open(&d->instance, path);

	if (err == -EADDRINUSE)
		fatal(EX_TEMPFAIL, "another slabd serves %s", path);
	if (err != 0)
		fatal(EX_CANTCREAT, "%s: %s", path, strerror(-err));
}

static void
open_loop(struct daemon *d)
{
	static const int signals[3] = {SIGTERM, SIGINT, SIGHUP};
	int err = loop_new(&d->loop);

	if (err == 0)
		err = watch_new(&d->helper_watch, d->loop, helper_fd(d->helper),
		    WATCH_READ, LOOP_CLIENT, helper_ready, d);
	for (int i = 0; i < 3 && err == 0; i++)
		err = watch_signal(
		    &d->signals[i], d->loop, signals[i], signal_came, d);
	if (err != 0)
		fatal(EX_OSERR, "event loop: %s", strerror(-err));
}

/*
 * What a daemon before us left under this socket's names. The lock is ours, so
 * nobody serves it any more; clients that still map it keep their memory.
 */
static void
sweep_leftovers(struct daemon *d)
{
	int n = region_sweep(d->instance.prefix);

	if (n > 0)
		log_info(
		    "region", "removed %d objects of an earlier daemon", n);
}

static void
create_pools(struct daemon *d)
{
	struct pool *p;
	char why[256];

	sweep_leftovers(d);
	for (size_t i = 0; i < d->conf->npools; i++) {
		if (pool_create(&p, d, &d->conf->pools[i], why, sizeof(why)) !=
		    0)
			fatal(EX_OSERR, "pool %s: %s", d->conf->pools[i].name,
			    why);
		TAILQ_INSERT_TAIL(&d->pools, p, entry);
	}
}

void
daemon_start(struct daemon *d, const struct daemon_options *options)
{
	int err;

	*d = (struct daemon){.config_path = options->config_path,
	    .socket_path = options->socket_path,
	    .started_ms = loop_now_ms()};
	TAILQ_INIT(&d->tickets);
	TAILQ_INIT(&d->clients);
	TAILQ_INIT(&d->pools);
	LIST_INIT(&d->users);
	load_config(d);
	raise_limits();
	err = helper_start(&d->helper);
	if (err != 0)
		fatal(EX_OSERR, "segment helper: %s", strerror(-err));
	/* After the helper, whose workers must raise their own oom score. */
	prctl(PR_SET_DUMPABLE, 0);
	open_instance(d);
	read_boot_id(d->boot_id);
	if (getrandom(&d->identity, sizeof(d->identity), 0) !=
	    sizeof(d->identity))
		fatal(EX_OSERR, "no random numbers");
	open_loop(d);
	create_pools(d);
	serve_when_settled(d);
}

int
daemon_run(struct daemon *d)
{
	int err = loop_run(d->loop);

	if (err != 0)
		log_error(NULL, "event loop: %s", strerror(-err));
	return err == 0 ? EX_OK : EX_OSERR;
}

/* Whether a successor will be asked for this pool by those who use it now. */
static bool
is_in_use(const struct daemon *d, const struct pool *p)
{
	return !d->force && p->clients > 0;
}

static void
close_pools(struct daemon *d)
{
	struct pool *p;
	bool keep;

	while ((p = TAILQ_FIRST(&d->pools)) != NULL) {
		keep = is_in_use(d, p);
		if (keep)
			log_info("pool",
			    "%s: clients attached: %u; region and ledger "
			    "stay for a successor",
			    p->conf.name, p->clients);
		TAILQ_REMOVE(&d->pools, p, entry);
		pool_close(p, !keep);
	}
}

void
daemon_free(struct daemon *d)
{
	listener_close(d->listener);
	clients_forget(d);
	close_pools(d);
	if (d->helper_watch != NULL)
		helper_lost(d);
	helper_stop(d->helper);
	for (int i = 0; i < 3; i++)
		watch_free(d->signals[i]);
	loop_free(d->loop);
	instance_close(&d->instance);
	config_free(d->conf);
	log_info(NULL, "stopped");
}
