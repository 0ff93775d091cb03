/*
 * A peer: one of the things that are compared, slabd among them.
 *
 * Its operations run in processes of its own (team.h), which live for a whole
 * row. An allocator does what loops.h has; a carrier only brings payload from
 * one process to another (STREAM).
 */
#ifndef SLABD_TESTS_PEER_H
#define SLABD_TESTS_PEER_H

#include <stddef.h>
#include <stdint.h>

#include "queue.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Before PASS, each side works for itself. */
enum pattern {
	LIFO,	  /* one slot allocated and freed */
	SHUFFLED, /* 64 allocated, then freed in random order */
	BATCH,	  /* 4096 allocated, then freed */
	PASS,	  /* allocated by side 0, freed by side 1; both poll */
	STREAM,	  /* the same, whole payload; who has nothing to do sleeps */
	FLOW	  /* as PASS, and the different slots are counted */
};

struct setting {
	enum pattern pattern;
	unsigned sides;	    /* processes: 1 or 2 */
	unsigned slots;	    /* in the pool */
	size_t slot_size;   /* a power of two, at least 64 */
	unsigned in_flight; /* at most, between the sides */
	struct queue *queue;
};

/* Allocate and free are counted as one operation, so is passing a slot. */
struct peer {
	const char *name;
	/*
	 * What the sides inherit; called before they are forked. NULL, or why
	 * this peer cannot be measured. Its counterpart release() may be NULL.
	 */
	const char *(*prepare)(const struct setting *);
	/* In each side's process, side 0 first. NULL, or why not. */
	const char *(*enter)(const struct setting *, unsigned side);
	/* n operations, n a multiple of the pattern's unit; what was counted */
	uint64_t (*run)(enum pattern, unsigned side, uint64_t n);
	void (*release)(void);
};

extern const struct peer peer_slabd, peer_no_lane;
extern const struct peer peer_dpdk, peer_malloc, peer_mimalloc, peer_boost;
extern const struct peer peer_list, peer_mutex, peer_ring;
extern const struct peer peer_pipe, peer_socket, peer_zmq, peer_memcpy;

#ifdef __cplusplus
}
#endif

#endif
