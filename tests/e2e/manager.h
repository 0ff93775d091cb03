/*
 * A service manager for tests: it keeps the descriptors that slabd(8) hands it,
 * under their names, and starts each daemon with what is kept, as systemd(1)
 * does. It reads what it is told when it is asked to, or waits for a daemon.
 *
 * Nothing of a test framework is used here. Functions return 0 or -errno.
 */
#ifndef SLABD_TESTS_MANAGER_H
#define SLABD_TESTS_MANAGER_H

#include <stdbool.h>

#include "server.h"

#define MANAGER_KEPT_MAX 64u

struct manager {
	struct server *server;
	int fd;		/* where it is told */
	int listener;	/* handed over to be served, -1: none */
	bool forgetful; /* keeps nothing: there might as well be no store */
	bool pids;	/* each daemon in a pid namespace of its own */
	unsigned n;	/* kept */
	struct {
		char name[256];
		int fd;
	} kept[MANAGER_KEPT_MAX];
};

/* For a server that was prepared. */
int manager_open(struct manager *, struct server *);
/* Makes the daemons' socket, so that it outlives them. */
int manager_listen(struct manager *);
/* Starts the daemon and waits until it serves; -ECHILD: it has ended. */
int manager_start(struct manager *);
/* Does what it was told meanwhile; -EPROTO: it makes no sense. */
int manager_run(struct manager *);
/* It has lost what has a name that ends so. */
void manager_lose(struct manager *, const char *end);
void manager_close(struct manager *);

#endif
