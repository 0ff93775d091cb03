/*
 * The daemon: one event loop over everything it owns.
 *
 * Order of life: the helper is forked first, when there is one thread and no
 * lock or socket it could inherit; then the instance's lock, the loop, the
 * pools; the socket listens once the segments that pools start with have been
 * attached (or could not be), so the first client finds them.
 */
#ifndef SLABD_DAEMON_DAEMON_H
#define SLABD_DAEMON_DAEMON_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>
#include <sys/types.h>

#include "conf.h"
#include "instance.h"

struct client;
struct helper;
struct helper_job;
struct listener;
struct loop;
struct pool;
struct timer;
struct user;
struct watch;

/* A job at the helper; results come in the order of submission. */
struct ticket {
	TAILQ_ENTRY(ticket) entry;
	struct pool *pool;
	uint32_t segment;
	bool attach;
};

struct daemon_options {
	const char *config_path;
	const char *socket_path; /* NULL: the configuration's */
	bool confine;		 /* for good: only in a process of its own */
};

struct daemon {
	const char *config_path;
	const char *socket_path;
	bool confine;
	struct config *conf;
	struct instance instance;
	uint8_t boot_id[16];
	uint64_t pids;	   /* our pid namespace */
	uint64_t identity; /* random, new at every start */
	uint64_t started_ms;
	struct loop *loop;
	struct helper *helper;
	struct watch *helper_watch;
	struct watch *signals[3];
	struct listener *listener; /* NULL: not serving yet */
	TAILQ_HEAD(, ticket) tickets;
	TAILQ_HEAD(pool_list, pool) pools;
	TAILQ_HEAD(client_list, client) clients;
	TAILQ_HEAD(, client) late; /* they wait for their share */
	struct timer *turn;	   /* runs while there are any */
	LIST_HEAD(user_list, user) users;
	unsigned nclients;
	uint64_t client_ids;
	uint64_t reloads_total, reload_failures_total;
	bool force; /* at shutdown: leave nothing behind */
};

/*
 * Reads the configuration and brings everything up; errors end the process
 * with a message. daemon_run() serves until told to stop, and returns the
 * exit status; daemon_free() then leaves what a successor needs, or nothing.
 */
void daemon_start(struct daemon *, const struct daemon_options *);
int daemon_run(struct daemon *);
void daemon_free(struct daemon *);

/* Ends daemon_run(). */
void daemon_stop(struct daemon *, bool force);

/* The pool of that name; NULL: none. */
struct pool *daemon_pool(const struct daemon *, const char *name);
/* Hand a job to the helper; its result goes to the pool. 0 or -errno. */
int daemon_submit(
    struct daemon *, struct pool *, uint32_t segment, struct helper_job *);
/* A retired pool has no client left: it goes. */
void daemon_pool_idle(struct daemon *, struct pool *);

/* reload.c: 0, or -errno with the reason in *error (to be freed). */
int daemon_reload(struct daemon *, char **error);

#endif
