/*
 * What a daemon is killed in: for each kind of transition a state that is
 * prepared without a fault, and what then sets the transition off.
 */
#ifndef SLABD_TESTS_SCENES_H
#define SLABD_TESTS_SCENES_H

#include "world.h"

struct scene {
	const char *name;
	const char *config; /* what the pool has beyond the usual */
	int (*prepare)(struct world *);
	int (*trigger)(struct world *);
	/* Once the daemon has looked at the lane of client 0, or NULL. */
	int (*meanwhile)(struct world *);
	/* Whether all has come of it that will; asked when the daemon sleeps. */
	bool (*is_over)(struct world *);
	bool is_long; /* hundreds of thousands of instructions */
};

extern const struct scene scenes[];
extern const unsigned nscenes;

/* The configuration of a scene's daemon. */
void scene_config(const struct scene *, char *text, size_t len);

#endif
