/*
 * What clients do while the daemon is under fault, in parts. Any request may
 * fail, and any connection may be lost; but none may go unanswered, and what is
 * said to have succeeded must be so.
 */
#ifndef SLABD_TESTS_FAULT_SCENE_H
#define SLABD_TESTS_FAULT_SCENE_H

#include <stdint.h>

#include "../e2e/server.h"

/* The configuration of every part, and what a reload makes of it. */
#define SCENE_POOL  "p"
#define SCENE_SLOTS 24u /* of that pool, when it has grown */
#define SCENE_KEPT  2u	/* slots another client has all the time */

struct scene {
	const struct server *server;
	uint64_t kept[SCENE_KEPT]; /* refs nobody else may get; 0: none */
	const char *config;	   /* as the daemon shows it; NULL: not known */
};

/*
 * How a part ends: nothing to complain of, or the answer to a request did not
 * come, or was wrong; the text is on the standard error stream.
 */
enum scene_end { SCENE_FINE, SCENE_HUNG, SCENE_WRONG };

int scene_configure(struct server *, bool reloaded);

/* Each runs in a process of its own, which ends with it. */
enum scene_end scene_greet(struct scene *);
enum scene_end scene_slots(struct scene *);
enum scene_end scene_lanes(struct scene *);
enum scene_end scene_death(struct scene *);
enum scene_end scene_reload(struct scene *);
enum scene_end scene_rule(struct scene *);
/* Takes more than a second. */
enum scene_end scene_wait(struct scene *);

/*
 * A client that takes slots in every way there is, says so on `control`, and
 * keeps them until it is killed.
 */
int scene_hold(int control, void *server);

#endif
