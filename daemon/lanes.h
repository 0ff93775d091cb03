/*
 * The daemon's ends of a pool's lanes.
 *
 * What a client can write is read once and checked; indices are our own. Of the
 * return ring each record is taken once into private memory: it is applied to
 * the ledger, or refused, or, while it is ahead of its slot's version, parked:
 * then the record before it lies in another lane that was not read yet. (Who
 * hands a slot on publishes first, so what a record builds on was published
 * before it.) A record is parked alone; only those of the same lane, slot and
 * version wait behind it. Whenever the slot's version moves its parked records
 * are tried again, and one that is still ahead after a whole sweep that began
 * after it was read is bogus, and refused.
 *
 * Who breaks the format (no library does) is disconnected; who is refused is
 * told and nothing else, since a forged ref can lead an honest client there.
 *
 * The rooms: lanes.c life, sleep, hunger; drain.c records; run.c rows of them;
 * parked.c those that wait; grants.c stock.
 */
#ifndef SLABD_DAEMON_LANES_H
#define SLABD_DAEMON_LANES_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "guard.h"
#include "lane.h"
#include "ledger.h"
#include "region.h"

struct account;
struct attachment;
struct pool;
struct watch;

struct lane_end {
	LIST_ENTRY(lane_end) entry, pending;
	struct attachment *attachment;
	struct region object;
	struct guard guard;
	struct lane lane;
	struct ledger_mirror *mirror;
	uint64_t *done;	       /* the mirror's bits, */
	uint32_t early;	       /* and how many are set */
	bool breached;	       /* nothing of it is read any more */
	uint64_t read;	       /* records below were taken */
	uint64_t end;	       /* and below this they may be, now */
	uint64_t goal;	       /* and below this the sweep is to read */
	uint64_t released;     /* and below this the client may write */
	uint64_t head_seen;    /* grants below were taken by the client */
	uint64_t notice;       /* the last one */
	uint64_t refused_tail; /* refusals told */
	uint64_t allocs_seen, frees_seen; /* of the client's counts */
	bool refused;			  /* some since the last notice */
	uint32_t patience;		  /* with records that do not fit, */
	bool tiresome;			  /* and it is at an end */
	uint32_t parked;		  /* records */
	uint32_t target;		  /* stock to keep */
	uint32_t peak;			  /* slots out, of late */
	uint32_t watermark, low, limit;	  /* what the client was told */
	int doorbell;
	struct watch *bell;
	bool muted; /* nobody listens to it before the judge has looked */
};

/* lanes.c */

/* What a successor will know of the attachment by. 0 or -errno. */
int mirror_create(struct attachment *);
/*
 * Makes the attachment's lane: 0 or -errno, and it goes on without one.
 */
int lane_create(struct attachment *);
/*
 * Finds again the lane that a daemon before us has made: 0, or -errno: the
 * client may have spoilt it. Nobody can ring it before lane_resume().
 */
int lane_recover(struct attachment *);
/* A new doorbell, to be sent to the client. 0 or -errno. */
int lane_resume(struct lane_end *);
/* Nobody rings for now. */
void lane_silence(struct lane_end *);
/* The client has said in it that it has done with the pool. */
bool lane_said_goodbye(const struct lane_end *);
/* Whether a process holds its record lock. */
bool lane_is_locked(const struct lane_end *);
/* Drops it, read or not; NULL is fine. */
void lane_close(struct lane_end *);
/* Its object's name and memory go. */
void lane_unlink(struct lane_end *);
/* The client does what no library does: it ends. */
void lane_breach(struct lane_end *, const char *what);
/* Slots whose claims have memory: a client looks at no others. */
void lane_tell_claims(struct lane_end *);
/* A notice for this client; the daemon's part in it is done. */
void lane_notify(struct lane_end *);

/* Reads what this client has published, and no other. */
void lane_catch_up(struct attachment *);
/* Reads every lane of the pool, whatever lies there. */
void lanes_sweep(struct pool *);
/*
 * The same, with patience: records that are refused or parked are many or few
 * for each lane, and the rest of it waits for the judge. So a sweep may take
 * several; it is over when each lane was read as far as it was filled when the
 * sweep began.
 */
void lanes_glance(struct pool *);
/* Sweeps, serves who waits, tops up, and lets the clients ring again. */
void lanes_turn(struct pool *);
/*
 * The judge's timer, for a `struct pool *`: lanes have all their patience again,
 * a turn is made, and who was muted is heard, if its user need not wait.
 */
void lanes_judge(void *pool);
/* Somebody waits, perhaps for what lies in a lane that nobody rings for. */
void lanes_visit(struct pool *);
/* Makes flags of what the waiting requests want. */
void lanes_mind_waiters(struct pool *);
/*
 * After a sweep: slots that nobody uses and that are not on the free list come
 * back, as long as `enough` is not content: unread grants, then magazines. With
 * an account, of its clients alone.
 */
void lanes_recover(struct pool *, const struct account *,
    bool (*enough)(const void *), const void *);

/* drain.c */

enum outcome { RECORD_APPLIED, RECORD_REFUSED, RECORD_AHEAD };
/* One record that has none to wait for in its lane. */
enum outcome record_apply(struct lane_end *, uint64_t index, uint64_t record);
/* Tells the client, at the next lane_settle(), that this one counts nothing. */
void record_refused(struct lane_end *, uint64_t index, uint64_t record);
/* Record `index` of the ring needs not be kept any more. */
void record_done(struct lane_end *, uint64_t index);
/* Sees how far it may be drained. */
void lane_look(struct lane_end *);
/*
 * Takes records up to there, or to the first that is ahead of its slot; with
 * `park` one such record is parked if it comes first. Whether any was taken.
 */
bool lane_drain(struct lane_end *, bool park);
/* Gives the places that are done back, and tells of refusals. */
void lane_settle(struct lane_end *);
/* Goes on where the daemon before has stopped. */
void lane_recover_records(struct lane_end *);

/* run.c */

/* Takes what it can of the usual records at the head; nothing may be parked. */
void lane_take_run(struct lane_end *);

/* parked.c */

struct parking;
/* NULL: no memory. */
struct parking *parking_new(void);
void parking_free(struct parking *);
bool parking_empty(const struct parking *);
/* Whether a record must wait behind parked ones of this lane. */
bool parked_before(const struct lane_end *, uint64_t record);
/* False: no memory. */
bool parked_add(struct lane_end *, uint64_t index, uint64_t record);
/* The slot's version has moved. */
void parked_retry(struct pool *, uint32_t slot);
/* Refuses what was parked before the last whole sweep, so many at most. */
void parked_judge(struct pool *, uint32_t most);
/* Forgets this lane's. */
void parked_drop(struct lane_end *);

/* grants.c */

/* Grants ahead what the client is likely to need. */
void lane_top_up(struct lane_end *);
/* The client found its ring empty. */
void lane_asked(struct lane_end *);
/* Grants it has not taken, as it says. */
uint32_t lane_stock(struct lane_end *);
/* Slots in its magazines, as it says. */
uint32_t lane_magazines(const struct lane_end *);
/* Takes unread grants back; how many slots are free by it. */
uint32_t lane_take_back(struct lane_end *);
/*
 * Empties the pool's magazines, or one account's; how many slots are free by it.
 */
uint32_t lanes_revoke(struct pool *, const struct account *);
/* Empties the magazines of a client that has ended. */
uint32_t lane_empty(struct lane_end *);
/* Ends what the daemon before was killed in, and shows the ring as it is. */
void lane_recover_grants(struct lane_end *);
/* Adds the operations that the client has counted to the pool's. */
void lane_count(struct lane_end *);
/* What the magazines and marks of all should be, with so many clients. */
void lanes_tune(struct pool *);

#endif
