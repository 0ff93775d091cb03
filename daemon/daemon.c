/*
 * The daemon's life: start, serve, stop.
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/sched.h>
#include <linux/sched/types.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sysexits.h>
#include <unistd.h>

#include "client.h"
#include "confine.h"
#include "daemon.h"
#include "event.h"
#include "helper.h"
#include "listener.h"
#include "log.h"
#include "notify.h"
#include "peer.h"
#include "pool.h"
#include "share.h"
#include "store.h"
#include "user.h"

/* What is asked of the scheduler, in ns: its least. */
#define SLICE_NS 100000u

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
	struct daemon *d = arg;

	if (!client_accept(d, fd))
		listener_rest(d->listener, SHARE_TURN_MS);
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

/* Nothing but what serving takes, from here on. */
static void
confine(const struct daemon *d)
{
	struct confine_needs needs = {.config_path = d->config_path,
	    .socket_path = d->instance.socket_path,
	    .helper = helper_pid(d->helper)};
	int err = d->confine ? confine_daemon(&needs) : 0;

	if (err != 0)
		fatal(EX_OSERR, "cannot confine itself: %s (slabd -U)",
		    strerror(-err));
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
	confine(d);
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

/*
 * The socket's directory, which belongs to the user we are about to become: lock
 * and socket are made there.
 */
static void
make_directory(const struct daemon *d, uid_t uid, gid_t gid)
{
	char path[PATH_MAX], *slash;

	snprintf(path, sizeof(path), "%s",
	    d->socket_path != NULL ? d->socket_path : d->conf->socket);
	slash = strrchr(path, '/');
	if (slash == NULL || slash == path)
		return;
	*slash = '\0';
	if (mkdir(path, 0755) == 0 && chown(path, uid, gid) < 0)
		log_warn(NULL, "%s: %s", path, strerror(errno));
}

/* The configured one, if we are root: before anything is made. */
static void
become_user(const struct daemon *d)
{
	const struct config *conf = d->conf;
	const struct passwd *pw;
	gid_t gid;
	int err;

	if (geteuid() != 0 || !conf->has_user || conf->user == 0)
		return;
	pw = getpwuid(conf->user);
	gid = pw != NULL ? pw->pw_gid : (gid_t)conf->user;
	make_directory(d, conf->user, gid);
	err = confine_user(conf->user, gid, config_group(conf));
	if (err != 0)
		fatal(EX_OSERR, "cannot become user %u: %s",
		    (unsigned)conf->user, strerror(-err));
}

static void
raise_limit(int what, rlim_t to)
{
	struct rlimit limit;

	if (getrlimit(what, &limit) < 0)
		return;
	if (geteuid() == 0 && to > limit.rlim_max)
		limit.rlim_max = to;
	limit.rlim_cur = limit.rlim_max;
	setrlimit(what, &limit);
}

/*
 * As many descriptors as we may have, since clients cost two each; and pools may
 * want to be locked, which the user we become could not.
 */
static void
raise_limits(const struct config *conf)
{
	bool lock = false;

	for (size_t i = 0; i < conf->npools; i++)
		lock = lock || conf->pools[i].lock;
	raise_limit(RLIMIT_NOFILE, 0);
	if (lock)
		raise_limit(RLIMIT_MEMLOCK, RLIM_INFINITY);
}

/*
 * Turns are short, and somebody waits for each: to be run soon matters more than
 * for long. From Linux 6.12 on that can be said; before, it means nothing.
 */
static void
ask_for_short_slices(void)
{
	struct sched_attr attr = {.size = sizeof(attr)};

	if (syscall(SYS_sched_getattr, 0, &attr, sizeof(attr), 0) != 0 ||
	    attr.sched_policy != SCHED_NORMAL)
		return;
	attr.sched_runtime = SLICE_NS;
	syscall(SYS_sched_setattr, 0, &attr, 0);
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

/* Until nobody is at work any more for a daemon that was killed. */
static void
guard_instance(struct daemon *d)
{
	int err = instance_wait_helper(&d->instance), guard;

	guard = err == 0 ? instance_guard(&d->instance) : err;
	if (guard >= 0) {
		err = helper_guard(d->helper, guard);
		close(guard);
	} else
		err = guard;
	if (err != 0)
		fatal(EX_OSERR, "segment helper's lock: %s", strerror(-err));
}

static void
open_loop(struct daemon *d)
{
	static const int signals[3] = {SIGTERM, SIGINT, SIGHUP};
	int err = loop_new(&d->loop);

	if (err == 0)
		err = timer_new(&d->turn, d->loop, clients_turn, d);
	if (err == 0)
		err = watch_new(&d->helper_watch, d->loop, helper_fd(d->helper),
		    WATCH_READ, LOOP_CLIENT, helper_ready, d);
	for (int i = 0; i < 3 && err == 0; i++)
		err = watch_signal(
		    &d->signals[i], d->loop, signals[i], signal_came, d);
	if (err != 0)
		fatal(EX_OSERR, "event loop: %s", strerror(-err));
}

void
daemon_start(struct daemon *d, const struct daemon_options *options)
{
	int err;

	*d = (struct daemon){.config_path = options->config_path,
	    .socket_path = options->socket_path,
	    .confine = options->confine,
	    .started_ms = loop_now_ms()};
	TAILQ_INIT(&d->tickets);
	TAILQ_INIT(&d->clients);
	TAILQ_INIT(&d->late);
	TAILQ_INIT(&d->pools);
	LIST_INIT(&d->users);
	err = store_receive();
	if (err != 0)
		fatal(EX_OSERR, "descriptors of the service manager: %s",
		    strerror(-err));
	load_config(d);
	raise_limits(d->conf);
	become_user(d);
	err = helper_start(&d->helper);
	if (err != 0)
		fatal(EX_OSERR, "segment helper: %s", strerror(-err));
	ask_for_short_slices();
	/* After the helper, whose workers must raise their own oom score. */
	prctl(PR_SET_DUMPABLE, 0);
	open_instance(d);
	guard_instance(d);
	read_boot_id(d->boot_id);
	/* Without it nobody can tell who of before is still there. */
	d->pids = peer_pid_namespace();
	if (d->pids == 0)
		fatal(EX_OSERR, "/proc/self/ns/pid: cannot be looked at");
	if (getrandom(&d->identity, sizeof(d->identity), 0) !=
	    sizeof(d->identity))
		fatal(EX_OSERR, "no random numbers");
	open_loop(d);
	pools_open(d);
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
	return !d->force && (p->clients > 0 || orphans_slots(p) > 0);
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
			    "%s: clients attached: %u, in flight from others: "
			    "%u; region and ledger stay for a successor",
			    p->conf.name, p->clients, orphans_slots(p));
		TAILQ_REMOVE(&d->pools, p, entry);
		pool_close(p, !keep);
	}
}

void
daemon_free(struct daemon *d)
{
	listener_close(d->listener);
	/* The dead will ask no successor for anything. */
	clients_bury(d);
	clients_forget(d);
	close_pools(d);
	if (d->helper_watch != NULL)
		helper_lost(d);
	helper_stop(d->helper);
	for (int i = 0; i < 3; i++)
		watch_free(d->signals[i]);
	timer_free(d->turn);
	users_forget(d);
	loop_free(d->loop);
	instance_close(&d->instance);
	config_free(d->conf);
	log_info(NULL, "stopped");
}
