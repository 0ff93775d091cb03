/*
 * What may become of a slot, by the rules alone: who may do what with it at
 * which version. Nothing of the daemon is used here, so that the two can be
 * held against each other.
 *
 * Between two lanes there is no order but that of the versions, so what a round
 * over all lanes makes of a slot is a set of states. The daemon's must be in it.
 */
#ifndef SLABD_TESTS_FUZZ_ORACLE_H
#define SLABD_TESTS_FUZZ_ORACLE_H

#include <stdbool.h>
#include <stdint.h>

#define ORACLE_LANES 3
#define ORACLE_SAID  128 /* at most, of one slot and lane */

enum fate { FREE, HELD, SENT, SHARED, IMPOSSIBLE };

struct slot {
	uint64_t version;
	uint32_t row; /* bit h - 1: holder h has it, if shared */
	uint8_t fate;
	uint8_t holder;	      /* of a slot held or sent */
	uint8_t open, sender; /* of a slot shared; no sender if none is open */
};

/* A record, taken apart by the rules of slabd-protocol(7). */
struct said {
	uint32_t version; /* the low 28 bits */
	uint8_t operation, count;
	bool shared;
	bool maybe; /* it may have been refused before its time came */
};

/* What one lane has to say of one slot, in its order. */
struct story {
	uint8_t holder;
	bool write;
	unsigned n;
	struct said said[ORACLE_SAID];
};

struct said oracle_read(uint64_t record);
/* Whether it is a record at all, but for its slot. */
bool oracle_is_record(const struct said *);
uint64_t oracle_next(uint64_t version);
/* How far ahead of a version; behind it: negative. */
int32_t oracle_ahead(const struct said *, uint64_t version);
bool oracle_same(const struct slot *, const struct slot *);

/* What the operation makes of the slot, at its version; false: it is refused.
 * A recall's count of 0 stands for all. */
bool oracle_do(struct slot *, unsigned operation, bool shared, unsigned count,
    unsigned holder, bool write);
/* Granted to `holder`. */
void oracle_grant(struct slot *, unsigned holder, uint64_t version);
/* The holder has ended; what it sent is its heir's, or, 0, nobody's. */
void oracle_abandon(struct slot *, unsigned holder, unsigned heir);

/*
 * Whether the slot can be as `finish` says, when the stories have been told in
 * some order that is one of theirs.
 */
bool oracle_allows(const struct slot *, const struct story[ORACLE_LANES],
    bool (*finish)(struct slot, void *), void *arg);

#endif
