/*
 * Whether each slot is as oracle.h allows after an instruction: what the daemon
 * was told is read again here, from the lanes themselves and by the rules of
 * slabd-protocol(7).
 */
#ifndef SLABD_TESTS_FUZZ_JUDGE_H
#define SLABD_TESTS_FUZZ_JUDGE_H

#include "world.h"

/* Held by `holder` under `ref`: free again, or granted. */
struct deal {
	unsigned holder;
	uint64_t ref;
};

/* What an instruction does with slots, apart from the records. */
struct effect {
	struct deal returned[RING + MAGAZINES * ROOM], granted[SLOTS];
	unsigned nreturned, ngranted;
	unsigned ended, heir; /* holders; 0: nobody */
	bool evicts;	      /* what orphans left may end */
	uint32_t number;      /* the slot that is looked at */
	struct slot is;	      /* and what has become of it */
};

extern struct effect effect;

/* Before an instruction: the daemon changes these itself. */
void note(void);
/*
 * After an instruction, first: `who` is the only one whose lane was read (-1:
 * nobody), unless all were, in whole rounds. In `due` is who has been met with
 * something no client may write.
 */
void settle_records(int who, bool due[LANES]);
/* What else came of it, between the two. */
void hear_grants(struct party *, bool due);
void return_magazines(struct party *);
/* The stock comes back, if the client's head is one; whether it is none. */
bool return_stock(struct party *, bool due);
bool head_possible(const struct party *);
/* And last: everything is as it must be. */
void settle(int who, bool due[LANES]);

/* The ledger's word for it. */
struct slot look(uint32_t number);
void wrong(uint32_t number, const struct slot *is, const char *what);

#endif
