/*
 * A client in a process, a world and under a user of its own, that does with the
 * library what the test tells it.
 *
 * Nothing of a test framework is used here.
 */
#ifndef SLABD_TESTS_PUPPET_H
#define SLABD_TESTS_PUPPET_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "server.h"

struct puppet {
	/* To be set: */
	const struct server *server;
	const char *pool;
	unsigned flags; /* SLABD_* */
	uid_t uid;	/* it becomes; 0: it stays who it is */
	/*
	 * In namespaces of its own (mounts, network, processes, IPC), with an
	 * empty read-only root but for /run, which has the socket: the
	 * directory or, with `file`, that one file.
	 */
	bool contained, file;
	/* What it does instead of what it is told, once it is there. */
	int (*body)(int control, const char *socket);

	pid_t pid;
	int control;
};

#define PUPPET_IMPOSSIBLE 77 /* its status where there is no such world */

/* Whether this process may make namespaces and become other users. */
bool puppet_possible(void);

/* This process, and whoever it starts, has an empty read-only /dev/shm. */
int puppet_bare_shm(void);

/* For spawn(), with the puppet: goes there and does it. */
int puppet_main(int control, void *puppet);

/* Connects and attaches; 0, or what the library said, or -EPIPE. */
int puppet_start(struct puppet *);

/* As many slots as it can have of `n`, to be held; how many, or -errno. */
int puppet_take(struct puppet *, unsigned n);
/* Frees all it holds; how many, or -errno. */
int puppet_free(struct puppet *);
/* Sends a slot of which the first and last bytes are `what`. */
int puppet_send(struct puppet *, uint64_t what, uint64_t *ref);
/* Receives one and frees it, or, with `keep`, holds it. */
int puppet_receive(struct puppet *, uint64_t ref, bool keep, uint64_t *what);
/* The offset of what it took or received last. */
int puppet_offset(struct puppet *, uint64_t *offset);

/* It closes and ends: its exit status, 0 if all was well. */
int puppet_end(struct puppet *);
void puppet_kill(struct puppet *);

#endif
