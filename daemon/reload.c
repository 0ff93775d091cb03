/*
 * Reading the configuration again: everything is checked and every new pool
 * made before anything changes, so that a bad file changes nothing.
 *
 * Pools can be added, retired (left out), given room for more segments and new
 * limits and access. What cannot change while clients have it mapped is
 * refused: slot size, slots per segment, fewer segments, the socket.
 */
#include "config.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client.h"
#include "daemon.h"
#include "listener.h"
#include "log.h"
#include "notify.h"
#include "pool.h"

static int __attribute__((format(printf, 2, 3)))
refuse(char **error, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	if (vasprintf(error, fmt, ap) < 0)
		*error = NULL;
	va_end(ap);
	return -EINVAL;
}

static const struct config_pool *
find_conf(const struct config *conf, const char *name)
{
	for (size_t i = 0; i < conf->npools; i++)
		if (strcmp(conf->pools[i].name, name) == 0)
			return &conf->pools[i];
	return NULL;
}

static int
check_pool(const struct pool *p, const struct config_pool *conf, char **error)
{
	if (p->state == POOL_RETIRED)
		return refuse(error,
		    "pool %s: the retired pool of that name still has %u "
		    "clients",
		    conf->name, p->clients);
	if (conf->slot_stride != p->conf.slot_stride ||
	    conf->slots_per_segment != p->conf.slots_per_segment ||
	    conf->max_clients != p->conf.max_clients ||
	    conf->backing != p->conf.backing)
		return refuse(error,
		    "pool %s: slot_size, slots_per_segment, max_clients and "
		    "backing cannot change while it exists",
		    conf->name);
	if (conf->max_segments < p->conf.max_segments)
		return refuse(
		    error, "pool %s: max_segments can only grow", conf->name);
	return 0;
}

static int
check(const struct daemon *d, const struct config *conf, char **error)
{
	struct pool *p;
	int err = 0;

	if (d->socket_path == NULL &&
	    strcmp(conf->socket, d->conf->socket) != 0)
		return refuse(error, "socket: a restart is needed to move it");
	for (size_t i = 0; i < conf->npools && err == 0; i++) {
		p = daemon_pool(d, conf->pools[i].name);
		if (p != NULL)
			err = check_pool(p, &conf->pools[i], error);
	}
	return err;
}

/* The pools that are not there yet, each made and kept aside. */
static int
create_new(struct daemon *d, const struct config *conf, struct pool_list *made,
    char **error)
{
	struct pool *p;
	char why[256];
	int err;

	for (size_t i = 0; i < conf->npools; i++) {
		if (daemon_pool(d, conf->pools[i].name) != NULL)
			continue;
		err = pool_create(&p, d, &conf->pools[i], why, sizeof(why));
		if (err != 0) {
			refuse(error, "pool %s: %s", conf->pools[i].name, why);
			return err;
		}
		TAILQ_INSERT_TAIL(made, p, entry);
	}
	return 0;
}

static int
resize_grown(struct daemon *d, const struct config *conf, char **error)
{
	const struct config_pool *want;
	struct pool *p;
	int err;

	TAILQ_FOREACH (p, &d->pools, entry) {
		want = find_conf(conf, p->conf.name);
		if (want == NULL || want->max_segments <= p->segments_max)
			continue;
		err = pool_resize(p, want->max_segments);
		if (err != 0) {
			refuse(error, "pool %s: cannot grow to %u segments: %s",
			    p->conf.name, want->max_segments, strerror(-err));
			return err;
		}
		for (unsigned i = 0; i < p->conf.max_clients; i++)
			if (p->attachments[i] != NULL)
				client_event(p->attachments[i]->client,
				    WIRE_EVENT_RESIZED,
				    p->attachments[i]->number, p);
	}
	return 0;
}

/* Nothing here can fail any more but for memory, which is logged. */
static void
apply(struct daemon *d, const struct config *conf)
{
	const struct config_pool *want;
	struct pool *p, *next;

	for (p = TAILQ_FIRST(&d->pools); p != NULL; p = next) {
		next = TAILQ_NEXT(p, entry);
		want = find_conf(conf, p->conf.name);
		if (want == NULL && p->state == POOL_READY) {
			log_info("pool", "%s: retired", p->conf.name);
			pool_retire(p);
			if (p->clients == 0)
				daemon_pool_idle(d, p);
		} else if (want != NULL && pool_configure(p, want) != 0) {
			log_error("pool", "%s: no memory for its new access",
			    p->conf.name);
		} else if (want != NULL) {
			waiters_serve(p);
			segments_shrink_later(p);
		}
	}
}

static int
reload(struct daemon *d, struct config *conf, char **error)
{
	struct pool_list made = TAILQ_HEAD_INITIALIZER(made);
	struct pool *p;
	int err = check(d, conf, error);

	if (err == 0)
		err = create_new(d, conf, &made, error);
	if (err == 0)
		err = resize_grown(d, conf, error);
	while ((p = TAILQ_FIRST(&made)) != NULL) {
		TAILQ_REMOVE(&made, p, entry);
		if (err != 0) {
			pool_close(p, true);
			continue;
		}
		TAILQ_INSERT_TAIL(&d->pools, p, entry);
		segments_start(p);
	}
	if (err != 0)
		return err;
	apply(d, conf);
	if (d->listener != NULL)
		err = listener_permit(
		    d->listener, conf->mode, config_group(conf));
	if (err != 0)
		log_error(NULL, "the socket keeps its old group and mode: %s",
		    strerror(-err));
	config_free(d->conf);
	d->conf = conf;
	log_set_level((enum log_level)conf->log_level);
	return 0;
}

int
daemon_reload(struct daemon *d, char **error)
{
	struct config *conf = NULL;
	int err;

	*error = NULL;
	notify_reloading();
	err = config_load(&conf, d->config_path, error);
	if (err == 0)
		err = reload(d, conf, error);
	if (err != 0) {
		if (conf != NULL)
			config_free(conf);
		d->reload_failures_total++;
		log_error(NULL,
		    "reload refused, the old configuration stays: %s",
		    *error != NULL ? *error : strerror(-err));
	} else {
		d->reloads_total++;
		log_info(NULL, "configuration reloaded");
	}
	notify_ready();
	return err;
}
