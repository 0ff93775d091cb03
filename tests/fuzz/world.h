/*
 * The small pool that the drain's fuzzer plays with: four clients of it, three
 * of which have a lane, and what is known of each of its slots.
 *
 * The daemon is started once. What an attachment costs is mostly the kernel's,
 * so files, mappings, clocks and barriers are played here (kernel.h); all else
 * is real.
 */
#ifndef SLABD_TESTS_FUZZ_WORLD_H
#define SLABD_TESTS_FUZZ_WORLD_H

#include "daemon/client.h"
#include "daemon/lanes.h"
#include "daemon/pool.h"
#include "oracle.h"

#define CLIENTS	  4
#define LANES	  ORACLE_LANES
#define SEGMENTS  2
#define EACH	  8
#define SLOTS	  (SEGMENTS * EACH)
#define HOLDERS	  8 /* beyond them are orphans */
#define QUOTA	  10
#define RING	  64
#define MAGAZINES 2
#define ROOM	  8

/* A record that the daemon has read and that waits. */
struct pending {
	uint64_t index, record;
	bool old;   /* since an earlier round */
	bool maybe; /* it may be refused: its slot was not moved by a record */
	bool loose; /* it may be judged: it was read before the round began */
};

/* What is known of a client, and what its lane was seen to say. */
struct party {
	struct client client;
	struct attachment *a; /* NULL: it has ended */
	struct lane_end *e;   /* NULL: no lane */
	struct lane lane;     /* its memory stays for a while */
	unsigned holder;
	bool write;
	uint64_t read, seen, tail;
	uint64_t granted[RING];
	bool breached, away;
	struct pending pending[2 * RING];
	unsigned n;
	/* As they were before the instruction. */
	uint64_t head, first;
	uint64_t stowed[MAGAZINES * ROOM];
	unsigned nstowed;
};

extern struct pool *pool;
extern struct party parties[CLIENTS];
extern struct slot slots[SLOTS]; /* as they were seen last */

void world_begin(void);
/*
 * As if the pool had never been used; all slots are free then, and everybody
 * is attached. The low bits of `kind` choose where versions begin, what becomes
 * of orphans, and who may write.
 */
void world_reset(uint8_t kind);
/* Everybody goes, each by `leave`; then nothing may be left. */
void world_clear(void (*leave)(struct party *));
void world_audit(void);
/* The client of that number; it is attached if it was not. */
struct party *world_party(int i);

#endif
