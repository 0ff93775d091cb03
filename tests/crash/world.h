/*
 * A daemon, some clients of bytes, and what each of these believes it has. All
 * of it can be copied and taken up again later, against a daemon that found
 * another state of the shared memory.
 *
 * The clients are honest and know what they did: held refs, offers that they
 * sent or shared, what lies unread in their grant rings or in magazines. After
 * a daemon's death they come back, repeat what was not answered, and then the
 * ledger must say of every slot exactly what they believe, no more and no less.
 *
 * A client may be dead, or have closed its connection (parted): then nothing of
 * it is repeated, and its slots are free, or nobody's until its end.
 */
#ifndef SLABD_TESTS_WORLD_H
#define SLABD_TESTS_WORLD_H

#include "../e2e/raw.h"
#include "../e2e/server.h"

#define WORLD_CLIENTS 3u
#define WORLD_SLOTS   64u /* of a segment */
#define WORLD_POOL    "p"

enum presence { ABSENT, PRESENT, PARTED, DEAD };

struct client {
	enum presence presence;
	struct raw raw;
	struct raw_lane lane; /* header NULL: it goes by messages */
	uint32_t at, holder;
	uint64_t held[4 * WORLD_SLOTS];
	unsigned nheld;
};

/* A ref that may be received. */
struct offer {
	uint64_t ref;
	unsigned open, sender; /* which client */
};

/* A request that was posted, and the answer if one came. */
struct pending {
	unsigned client;
	uint32_t tag;
	unsigned type, flags;
	uint8_t body[1024];
	size_t len;
	int expected;
	bool answered;
	struct raw_message reply;
};

struct world {
	struct server server;
	struct client clients[WORLD_CLIENTS];
	struct offer offers[16];
	unsigned noffers;
	struct pending pending[4];
	unsigned npending;
	pid_t victim; /* a process of its own behind client 1 */
	int control;  /* the way to it; 0: there is none */
};

/* Of world_post(): any status will do. */
#define ANY_STATUS (-10000)

/* A client connects, and attaches with or without a lane: 0 or -errno. */
int world_join(struct world *, unsigned client, bool lane);
/* Slots by message, without a fault: 0 or -errno. */
int world_alloc(struct world *, unsigned client, unsigned n);
/* A request that is answered later. */
void world_post(struct world *, unsigned client, unsigned type, unsigned flags,
    const void *body, size_t len, int expected);
/* Takes answers that have come; a mask of the requests that have theirs. */
unsigned world_answers(struct world *);
/*
 * Takes the meaning of answers that came, and then asks again for those that
 * did not. NULL, or what is wrong.
 */
const char *world_finish(struct world *);
/* Answers that came after a point in time count as not given. */
void world_unanswer(struct world *, unsigned mask);
/* Beliefs, after the client itself has done something in its lane. */
void world_hold(struct world *, unsigned client, uint64_t ref);
void world_drop(struct world *, unsigned client, uint64_t ref);
void world_offer(struct world *, unsigned client, uint64_t ref, unsigned open);
void world_take(struct world *, uint64_t ref, unsigned n);
/* The clients' sockets and mappings are to be made anew; after a copy. */
void world_adrift(struct world *);
/* Receipts that are open, by the ledger. */
unsigned world_open(const struct world *);
/* Everything of its clients goes, without a goodbye. */
void world_leave(struct world *);

/*
 * To a daemon that was started on what another left: all come back, finish
 * what they were at, compare, use, and give back what they have. NULL, or what
 * is wrong.
 */
const char *world_check(struct world *);

#endif
