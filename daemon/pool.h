/*
 * A pool: slots of one size under one name.
 *
 * The pool owns a region (which the daemon never maps), the ledger that says
 * who has which slot, and what is derived from the ledger: a free list per
 * segment (the allocator core with links outside the memory), the counters,
 * and what each attachment holds. Every change of a slot goes through the
 * ledger first; the rest follows from comparing before and after.
 *
 * Invariants (pool_audit() recomputes every one of them from the ledger):
 *	sum of count[] == slots == attached segments * slots_per_segment
 *	a slot is on its segment's free list if and only if its word is FREE
 *	held, open and stakes of every attachment are what the words say
 *	owed == sum over clients of max(0, reserve - slots charged)
 *	hungry if somebody waits for slots, or the pool is retired
 *
 * The rooms: pool.c life and slots, segment.c growth and shrinking,
 * attachment.c who is attached and what becomes of their slots, waiter.c the
 * queue for slots, orphan.c what ended senders left, audit.c the books; and with
 * headers of their own the lanes (lanes.h), the claims (claims.h) and what
 * happens to a slot most often (slot.h).
 */
#ifndef SLABD_DAEMON_POOL_H
#define SLABD_DAEMON_POOL_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>
#include <sys/types.h>

#include "claims.h"
#include "conf.h"
#include "lane.h"
#include "ledger.h"
#include "region.h"
#include "slab.h"

struct client;
struct daemon;
struct helper_result;
struct lane_end;
struct parking;
struct timer;

/* Where a slot counts. */
enum slot_class {
	SLOT_FREE,
	SLOT_USED,	  /* held by a connected client */
	SLOT_IN_FLIGHT,	  /* sent, and held by nobody */
	SLOT_QUARANTINED, /* its holder's connection is gone, not the process */
	SLOT_CLASSES,
};

struct segment {
	struct slab_seg core;	 /* free list, by index */
	void *links;		 /* its memory, and the bits behind it */
	_Atomic uint64_t *words; /* the ledger's, while attached */
	uint32_t *since;
	enum ledger_segment state;
	unsigned jobs; /* at the helper */
	bool failed;   /* one of them */
};

/* What one user has in this pool, over all connections and orphans. */
struct account {
	LIST_ENTRY(account) entry;
	uid_t uid;
	unsigned users;		    /* attachments that point here */
	uint32_t slots;		    /* charged */
	struct attachment *orphans; /* NULL: none */
};

struct waiter;
TAILQ_HEAD(waiter_list, waiter);

/* One client's access to one pool, or one user's orphans. */
struct attachment {
	struct pool *pool;
	struct client *client; /* NULL: orphans */
	uint32_t number;       /* the client's name for it */
	unsigned holder;       /* the ledger's name for it */
	struct account *account;
	struct lane_end *lane; /* NULL: it has none */
	bool write;
	bool quarantined; /* its client is not there, its process may be */
	bool lane_lost;	  /* it has one that the daemon has not */
	struct ledger_mirror *mirror; /* NULL: orphans */
	uint32_t segments_seen;	      /* the client has so many mapped */
	uint32_t held;		      /* slots held */
	uint32_t open;		      /* slots sent or shared, receipts open */
	uint32_t charged;	      /* slots held or open */
	uint32_t *stakes;	      /* [segment]: slots held or open there */
	uint32_t ended;		      /* when, as pool_now() says */
	uint64_t rejected_total;
	uint64_t since; /* the pool's how-manieth: the order of reserves */
	struct waiter_list waiters; /* for slots, in order */
	bool queued;		    /* on the pool's queue */
	TAILQ_ENTRY(attachment) turn;
	struct waiter_list flushes; /* for `open` to become 0 */
};

/* A request that is answered later. */
struct waiter {
	TAILQ_ENTRY(waiter) entry;
	struct attachment *attachment;
	uint32_t tag;
	uint32_t n;
	bool growth_only; /* not for others to free: only for a segment */
	/* Called once, after the waiter is off its list; frees nothing. */
	void (*done)(struct waiter *, int status, const uint64_t *refs);
};

/* In flight from an ended client, until `expires` (loop time, ms). */
struct orphan {
	TAILQ_ENTRY(orphan) entry;
	uint64_t ref;
	uint64_t expires;
};

enum pool_state { POOL_READY, POOL_RETIRED };

struct pool {
	TAILQ_ENTRY(pool) entry;
	struct daemon *daemon;
	struct config_pool conf;
	enum pool_state state;
	uint64_t id;
	uint64_t attached_total;
	struct region region;	     /* what clients map */
	struct region ledger_region; /* what only the daemon writes */
	int region_rdonly;	     /* opened read-only, for such clients */
	struct ledger ledger;
	struct segment *segments; /* [segments_max] */
	uint32_t segments_max, segments_attached, segments_empty;
	uint32_t segments_high; /* beyond it none has ever been attached */
	uint32_t hot;		/* where a slot was freed last */
	uint64_t *roomy;  /* a bit for each attached segment with free slots */
	bool growing;	  /* a segment is being attached */
	bool shrinking;	  /* the clock for giving back runs */
	bool dying;	  /* closed, but the helper is still at work */
	unsigned jobs;	  /* at the helper */
	int growth_error; /* why the last growth failed, 0: it did not */
	char growth_why[160]; /* the same in words */
	struct timer *shrink, *retry, *expiry;

	uint32_t slots, count[SLOT_CLASSES];
	uint32_t used_max;
	uint64_t allocs_total, frees_total, failures_total, reclaimed_total,
	    rejected_total;

	struct attachment **attachments; /* [holder - 1], NULL: nobody */
	unsigned clients;		 /* attachments of clients */
	uint64_t *quarantined_row;	 /* a bit for each such holder */
	uint32_t owed; /* slots reserved for clients that lack them */
	LIST_HEAD(, account) accounts;
	TAILQ_HEAD(, attachment) queue; /* whose turn it is */
	uint32_t growth_waiters;	/* on it with growth_only */
	unsigned flushes;		/* requests that wait for `open` */
	TAILQ_HEAD(, orphan) orphans;	/* oldest first */
	uint32_t norphans;

	struct claims claims;
	struct lane_geometry lane_geometry;
	LIST_HEAD(, lane_end) lanes;
	struct parking *parking; /* records ahead of their slot */
	struct timer *judge;	 /* looks at them again */
	uint64_t sweeps;	 /* begun */
	bool sweeping;		 /* the last of them is not over */
	bool laborious;		 /* the last turn was long */
	bool hungry, eager;	 /* what the lanes were told, see lane.h */
	bool revoking;		 /* magazines are about to be emptied */
};

/* The key of a request's intent. */
static inline uint64_t
request_key(unsigned type, uint32_t tag)
{
	return (uint64_t)type << 32 | tag;
}

/* What the pool's slots are made of, and what the daemon keeps beside them. */
static inline enum region_kind
pool_slots_kind(const struct config_pool *conf)
{
	return conf->backing == CONFIG_BACKING_HUGETLB ? REGION_HUGETLB
	       : conf->backing == CONFIG_BACKING_MEMFD ? REGION_MEMFD
						       : REGION_POSIX;
}

static inline enum region_kind
pool_kind(const struct config_pool *conf)
{
	return conf->backing == CONFIG_BACKING_POSIX ? REGION_POSIX
						     : REGION_MEMFD;
}

/* recover.c */

/*
 * Opens all pools: those that a daemon before us has served as they were, with
 * all their attachments and lanes, others anew; what is of no use any more is
 * removed. What cannot be done ends the process with a message.
 */
void pools_open(struct daemon *);

/* pool.c */

#define PAGE_BYTES UINT64_C(4096)

/*
 * Creates region and ledger and starts to attach min_segments. 0 or -errno
 * with a reason in `why`.
 */
int pool_create(struct pool **out, struct daemon *, const struct config_pool *,
    char *why, size_t len);
/* The parts of that, for who finds objects instead of making them. */
uint64_t pool_region_bytes(const struct pool *, uint32_t segments);
int pool_reserve_head(struct pool *);
struct pool *pool_blank(struct daemon *, const struct config_pool *);
int pool_create_tables(struct pool *);
void pool_destroy(struct pool *);
/* Users whose orphans are booked apart; beyond that they expire at once. */
#define POOL_ORPHAN_HOLDERS 64u
/*
 * Closes the pool; no attachment may be left. With `remove` its names go too,
 * else they stay for a successor. NULL is accepted.
 */
void pool_close(struct pool *, bool remove);
/* Takes over what may change while the pool is in use. 0 or -ENOMEM. */
int pool_configure(struct pool *, const struct config_pool *);
/* Room for so many segments, more than now. 0 or -errno. */
int pool_resize(struct pool *, uint32_t segments_max);
/* No new slots, no new attachments; goes away with the last one. */
void pool_retire(struct pool *);

/*
 * Tenths of a second of the boot clock, for ledger_since(), as of the last
 * pool_look_at_clock(): by whoever begins to change slots.
 */
static inline uint32_t
pool_now(void)
{
	extern uint32_t pool_clock;

	return pool_clock;
}
void pool_look_at_clock(void);
/* The class a slot counts in now. */
enum slot_class pool_class(const struct pool *, uint32_t slot);
/* What the attachment has to do with a slot as it is now. */
void pool_stake(const struct pool *, uint32_t slot, const struct attachment *,
    bool *held, bool *open);
/* Who sent what is in flight or shared; NULL: nobody any more. */
struct attachment *pool_sender(const struct pool *, uint32_t slot);
/* Calls `visit` with each holder the slot's words name, until it returns not 0.
 */
int pool_each_holder(const struct pool *, uint32_t slot,
    int (*visit)(void *arg, uint32_t slot, unsigned holder), void *arg);
/* True when the slot lies in an attached segment. */
bool pool_slot_attached(const struct pool *, uint32_t slot);

/* The helper has finished a job of this pool; frees a closed one's rest. */
void pool_job_done(
    struct pool *, uint32_t segment, bool attach, const struct helper_result *);

/*
 * The operations of a client. 0 or a count, or -errno as wire.h and
 * slabd-protocol(7) say; refusals are counted. After pool_alloc() the pool
 * may want to grow, after all others there may be slots for those who wait:
 * the caller calls segments_grow() or waiters_serve().
 */
int pool_alloc(
    struct attachment *, uint32_t n, bool exact, uint32_t tag, uint64_t *refs);
/* What an ALLOC of that tag was granted by a daemon before us, and is held. */
int pool_alloc_again(struct attachment *, uint32_t tag, uint64_t *refs);
/* 0, or why it may not at all, however many slots are free. */
int pool_may_alloc(const struct attachment *, uint32_t n, bool exact);
int pool_free(struct attachment *, uint64_t ref);
int pool_send(struct attachment *, uint64_t ref, uint64_t *out);
int pool_share(struct attachment *, uint64_t ref, unsigned n, uint64_t *out);
int pool_receive(struct attachment *, uint64_t ref);
int pool_recall(struct attachment *, uint64_t ref, unsigned most);

/*
 * Frees a slot that the attachment, which ends, holds alone. The usual case
 * of many at once, so nothing is compared that is known.
 */
void pool_take_back(struct attachment *, uint32_t slot, uint32_t now);

/* How many slots may be granted ahead without hurting others. */
uint32_t pool_spare(const struct attachment *);
/* The slot under this ref, granted and not used, is free again: 1, or 0: it is
 * not held under it. */
unsigned pool_ungrant(struct attachment *, uint64_t ref);
/* Slots granted to clients that lie in rings and magazines. */
uint32_t pool_cached(const struct pool *);
uint32_t attachment_cached(const struct attachment *);
/* Keeps the highest number of slots ever in use. */
void pool_note_used(struct pool *);
/* Whether `n` slots could be had at once, all of them or `exact`ly. */
bool pool_can_alloc(const struct attachment *, uint32_t n, bool exact);
/* Counts a refusal. */
void pool_reject(struct attachment *);

/* Text naming the three largest holders: "camera-1 (pid 12) 100, …". */
void pool_largest_holders(const struct pool *, char *buf, size_t len);

/*
 * A change of one slot: note what counts before, change the ledger, settle
 * the difference. `party` (or NULL) is the attachment that acts.
 */
struct change {
	struct pool *pool;
	uint32_t slot;
	enum slot_class class_before;
	struct attachment *party[2];
	bool held[2], open[2];
};
void change_begin(
    struct change *, struct pool *, uint32_t slot, struct attachment *party);
void change_end(struct change *);

/* What its slots count as. */
static inline enum slot_class
attachment_class(const struct attachment *a)
{
	return a->quarantined ? SLOT_QUARANTINED : SLOT_USED;
}

/* segment.c */
/* Free slots below which the pool grows. */
uint32_t segments_low_water(const struct pool *);
void segments_start(struct pool *);
/* As the ledger says, each with its list; what was half done is undone. 0 or
 * -ENOMEM. */
int segments_recover(struct pool *);
/* Attach another if free slots run low, unless one is under way. */
void segments_grow(struct pool *);
/*
 * True when a segment is on its way, or may be asked for, among those that the
 * attachment has mapped.
 */
bool segments_may_help(const struct attachment *);
/* Start the clock for giving empty ones back, if there are any. */
void segments_shrink_later(struct pool *);
/* What that clock calls. */
void segments_shrink(void *pool);
/* What the retry timer calls. */
void segments_retry(void *pool);
/* They need not stay in memory any more; the pool ends. */
void segments_unlock(struct pool *);
/* Free what the segments' lists need; the pool ends. */
void segments_clear(struct pool *);
/* Give back all empty ones above the minimum now; how many. */
int segments_trim(struct pool *);
/*
 * Undo what clients did to the region itself: its size, and memory they
 * allocated by touching absent segments.
 */
void segments_scrub(struct pool *);
void segments_job_done(
    struct pool *, uint32_t segment, bool attach, const struct helper_result *);
/* A segment with free slots among the first `limit`, or -1. */
int segments_pick(const struct pool *, uint32_t limit);

/* attachment.c */

/* -EDQUOT, -EUSERS, -ENOMEM, -ESHUTDOWN; `why` says more. */
int attachment_new(struct attachment **out, struct pool *, struct client *,
    bool write, uint32_t tag, char *why, size_t len);
/*
 * What the ledger says of that holder, its client being away. 0, -ENOMEM, or
 * -EUCLEAN: it cannot be.
 */
int attachment_recover(struct pool *, unsigned holder);
/* Attachments of this user's clients. */
unsigned attachments_of(const struct pool *, uid_t);
/* Everything held is free again, everything sent an orphan; then freed. */
void attachment_end(struct attachment *);
/* Freed and nothing else: the ledger keeps what it says for a successor. */
void attachment_forget(struct attachment *);
/* The connection is gone but not the process: slots are set aside. */
void attachment_quarantine(struct attachment *);
/* The same, but it may come back: nothing of it is given up. */
void attachment_away(struct attachment *);
void attachment_back(struct attachment *);
/* The tag of the ATTACH that asked for it. */
uint32_t attachment_tag(const struct attachment *);
/* The client has mapped so many segments. */
void attachment_extend(struct attachment *, uint32_t segments);
/* Room for so many segments. 0 or -ENOMEM. */
int attachment_resize(struct attachment *, uint32_t segments_max);
/* What the quota leaves: slots this attachment may still take. */
uint32_t attachment_quota_left(const struct attachment *);
/* After fewer of its slots are open: flushes end, empty orphanages close. */
void attachment_settled(struct attachment *);
/* Slots of the reserve this attachment does not have yet. */
uint32_t attachment_owed(const struct attachment *);

/* waiter.c */
void waiter_add(struct waiter *);
void waiter_add_flush(struct waiter *);
/* The request waiting under that tag; NULL: none. */
struct waiter *waiter_find(struct attachment *, uint32_t tag);
/* Answers it ECANCELED. */
void waiter_cancel(struct waiter *);
/* Grant what can be granted, in turn. */
void waiters_serve(struct pool *);
/* How many of `n` slots may be taken now without overtaking anybody. */
uint32_t waiters_leave(const struct attachment *, uint32_t n);
/* A growth ended: those who waited only for that are told. */
void waiters_growth_failed(struct pool *);
/* Answers the flushes of an attachment that has nothing open any more. */
void waiters_flushed(struct attachment *);
/* Answer all of an attachment's with `status`. */
void waiters_end(struct attachment *, int status);
/* The same for those that wait for slots only. */
void waiters_end_alloc(struct attachment *, int status);
/* Drops them unanswered. */
void waiters_forget(struct attachment *);
/* Its client reads again. */
void waiters_resume(struct attachment *);
unsigned waiters_count(const struct pool *);

/* orphan.c */
void orphan_add(struct pool *, uint64_t ref);
/* Slots that orphans occupy, at most. */
uint32_t orphans_slots(const struct pool *);
/* Close up to `n` of the oldest; how many slots that made free. */
uint32_t orphans_evict(struct pool *, uint32_t n);
/* Forget when they end; the ledger keeps them. */
void orphans_forget(struct pool *);
/* What the expiry timer calls. */
void orphans_expire(void *pool);

/* audit.c */

/* 0, or -EUCLEAN and the first contradiction in `why`. */
int pool_audit(const struct pool *, char *why, size_t len);

#endif
