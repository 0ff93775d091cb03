/*
 * The attackers of hostile.c: a table of them, and the process that each is.
 */
#ifndef SLABD_TESTS_FOES_H
#define SLABD_TESTS_FOES_H

#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define FOES_MAX    4  /* processes of an attack */
#define ATTACKS_MAX 32 /* in the table */

/* What all are told, before the first begins. */
extern struct foes {
	const char *socket;
	const char *dir;	/* for cores */
	bool sealed;		/* the pair's own pool may be cut */
	bool strangers;		/* they are of another user than the daemon */
	unsigned portion;	/* records that are kept ahead in a lane */
	cpu_set_t processors;	/* theirs */
	_Atomic uint64_t *acts; /* of the attack under way */
} foes;

#define ATTACK_NONE  0x1u /* no attack: they use the processors, no more */
#define ATTACK_CUTS  0x2u /* the pool "cut" is to be made anew after it */
#define ATTACK_CORES 0x4u /* dumps core, as the user of the test */

struct foe;

extern const struct attack {
	const char *name;
	int (*life)(struct foe *); /* in a process of its own */
	unsigned processes;
	uint64_t least; /* acts, before it counts */
	uint32_t slow;	/* the pair does so many times fewer bursts */
	unsigned flags;
} attacks[];
extern const unsigned nattacks;

struct foe_start {
	const struct attack *attack;
	uint64_t seed;
	pid_t group; /* of processes; 0: its own */
};

/* For spawn(), with a struct foe_start: goes on until it is killed. */
int foe(int control, void *start);

#endif
