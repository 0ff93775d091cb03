/*
 * A client of slabd(8) made of nothing but a socket, for tests: it can say
 * everything slabd-protocol(7) knows, and also what no client should say. With
 * a lane it does by hand what the library does, step by step, so that a test
 * can stop between any two of them.
 *
 * Functions return the status of the reply, or -errno of the socket: -ENOTCONN
 * once the daemon has closed it, -ETIMEDOUT when nothing came for
 * RAW_PATIENCE seconds. Nothing of a test framework is used here, so forked
 * children may call everything. One thread for each client.
 */
#ifndef SLABD_TESTS_RAW_H
#define SLABD_TESTS_RAW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#include "ring.h"
#include "wire.h"

#define RAW_PATIENCE 30 /* seconds */

struct raw_message {
	STAILQ_ENTRY(raw_message) entry;
	struct wire_header h;
	union {
		int fd;		       /* the first descriptor, -1: none */
		int fds[WIRE_FDS_MAX]; /* all */
	};
	size_t len;
	uint8_t body[WIRE_MESSAGE_MAX];
};

struct raw {
	int fd;
	uint32_t tag;		 /* the last one used */
	uint64_t session, token; /* as HELLO was answered */
	/* Read while another message was looked for. */
	STAILQ_HEAD(, raw_message) kept;
};

/* The reply to ATTACH. */
struct raw_pool {
	uint32_t number; /* of the attachment */
	int fd;		 /* the caller's */
	uint64_t bytes, slot_size, identity;
	uint32_t segment_slots, segments, rights, features;
};

/* An attachment with a lane. */
struct raw_lane {
	struct raw_pool pool; /* its descriptor is still open */
	struct lane lane;     /* header NULL: the daemon gave none */
	uint64_t lane_bytes, claims_bytes;
	_Atomic uint64_t *claims;
	int lane_fd, claims_fd, doorbell;
	struct ring_outlet outlet;
	uint64_t refused; /* the next refusal to read */
};

/* A pool's part of STATS. */
struct raw_stats {
	unsigned slots, free, used, cached, in_flight, quarantined;
	unsigned segments_attached, clients, waiters;
	unsigned long long allocs_total, frees_total, reclaimed_total,
	    rejected_total;
	bool retired;
};

int raw_connect(struct raw *, const char *path);
/* The same with HELLO said. */
int raw_open(struct raw *, const char *path, const char *label);
/* Closes without a goodbye; harmless on a closed one. */
void raw_close(struct raw *);

/* Bytes as they are, with a descriptor of the client's (-1: none). */
int raw_put(struct raw *, const void *bytes, size_t len, int fd);
/* The next message, kept ones first. */
int raw_next(struct raw *, struct raw_message *);
/* The message with that tag; others are kept. */
int raw_wait(struct raw *, uint32_t tag, struct raw_message *);
/* The event of that type; other messages are kept. */
int raw_event(struct raw *, unsigned type, struct raw_message *);
/* A request on its way; its tag. */
uint32_t raw_post(struct raw *, unsigned type, unsigned flags,
    uint32_t attachment, const void *body, size_t len);
/* A request and its reply; `m` may be NULL. */
int raw_call(struct raw *, unsigned type, unsigned flags, uint32_t attachment,
    const void *body, size_t len, struct raw_message *m);

int raw_hello(struct raw *, const char *label);
/*
 * To a daemon that came after: closes, connects and resumes the session. 1: it
 * was; 0: it is a new one; or -errno.
 */
int raw_reopen(struct raw *, const char *path, const char *label);
/* RESUME, of an attachment with or without a lane; its new doorbell. */
int raw_resume(struct raw *, uint32_t attachment);
int raw_resume_lane(struct raw *, struct raw_lane *);
/* A request sent again: the tag of before, and WIRE_AGAIN. */
int raw_again(struct raw *, uint32_t tag, unsigned type, unsigned flags,
    uint32_t attachment, const void *body, size_t len, struct raw_message *m);
int raw_ping(struct raw *);
int raw_bye(struct raw *);
int raw_attach(
    struct raw *, const char *name, uint32_t flags, struct raw_pool *);
/*
 * With WIRE_ATTACH_LANE added. 0 also when there is no lane; -EBADMSG: what
 * came is not as wire.h says.
 */
int raw_attach_lane(
    struct raw *, const char *name, uint32_t flags, struct raw_lane *);
/* Unmaps and closes, and says nothing to the daemon. */
void raw_lane_close(struct raw_lane *);
int raw_detach(struct raw *, uint32_t attachment);
int raw_extend(struct raw *, uint32_t attachment, uint32_t segments);
int raw_alloc(struct raw *, uint32_t attachment, uint32_t n, uint64_t *refs);
/* With WAIT; the tag. */
uint32_t raw_post_alloc(struct raw *, uint32_t attachment, uint32_t n);
/* The reply to it. */
int raw_wait_alloc(struct raw *, uint32_t tag, uint64_t *refs);
int raw_cancel(struct raw *, uint32_t attachment, uint32_t tag);
int raw_free(struct raw *, uint32_t attachment, const uint64_t *refs, size_t n);
int raw_send(struct raw *, uint32_t attachment, uint64_t ref, uint64_t *out);
int raw_share(
    struct raw *, uint32_t attachment, uint64_t ref, uint32_t n, uint64_t *out);
int raw_receive(struct raw *, uint32_t attachment, uint64_t ref);
int raw_recall(struct raw *, uint32_t attachment, uint64_t ref, uint32_t n);
int raw_flush(struct raw *, uint32_t attachment);
int raw_audit(struct raw *);
/* A document's text, to be freed; NULL: there is none. */
char *raw_document(struct raw *, unsigned type, const void *body, size_t len);
int raw_pool_stats(struct raw *, const char *pool, struct raw_stats *);

/*
 * A lane by hand. Nothing here rings: what is published lies there until
 * raw_lane_ring() rings as the library would, or raw_lane_bell() does anyhow.
 * False or -ENOSPC: the ring is full.
 */
unsigned raw_lane_take(struct raw_lane *, uint64_t *refs, unsigned n);
bool raw_lane_put(struct raw_lane *, const uint64_t *records, unsigned n);
bool raw_lane_record(
    struct raw_lane *, enum lane_operation, uint64_t ref, unsigned count);
/* The claim and the record; the ref for the receivers. */
int raw_lane_send(struct raw_lane *, uint64_t ref, uint64_t *out);
int raw_lane_share(struct raw_lane *, uint64_t ref, unsigned n, uint64_t *out);
/* -ESTALE: no receipt is open; -EAGAIN: to be asked with raw_held(). */
int raw_lane_receive(struct raw_lane *, uint64_t ref);
/* Up to `n` open receipts come back; how many. */
int raw_lane_recall(struct raw_lane *, uint64_t ref, unsigned n);
/* True: it has rung. */
bool raw_lane_ring(struct raw_lane *);
void raw_lane_bell(struct raw_lane *);
/* The next refused ref; 0: none. */
uint64_t raw_lane_refused(struct raw_lane *);
int raw_held(struct raw *, uint32_t attachment, uint64_t ref);

/*
 * The same for a body that is a u16 length and a name; returns its bytes.
 * `out` has room for the name and two more.
 */
size_t raw_name(uint8_t *out, const char *name);

#endif
