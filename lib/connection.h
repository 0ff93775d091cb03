/*
 * What the project's own programs may ask of a connection beyond <slabd.h>:
 * any request by its number, and the daemon's documents. Not exported.
 */
#ifndef SLABD_CONNECTION_H
#define SLABD_CONNECTION_H

#include <stdint.h>

#include "slabd.h"
#include "wire.h"

/* An answer; body bytes beyond the room are dropped. */
struct slabd_reply {
	int32_t status;	     /* >= 0, or -errno */
	uint32_t attachment; /* the header's */
	size_t len;	     /* bytes of body */
	uint8_t body[1024];
	unsigned n_fds;
	int fds[WIRE_FDS_MAX]; /* the caller's to close */
};

/*
 * Sends one request and waits for its answer: its status, a count or -errno.
 * `out` may be NULL (descriptors are closed then) and is filled also when the
 * daemon refused; its text is in slabd_error_detail() as well. Thread-safe.
 */
int slabd_request(struct slabd *, uint16_t type, uint16_t flags,
    uint32_t attachment, const void *body, size_t len, struct slabd_reply *out);

/*
 * The JSON text that answers WIRE_STATS, WIRE_HOLDERS (of pool `name`) or
 * WIRE_CONFIG, NUL-terminated, to be freed; `name` is NULL for the others.
 * -EPROTO: what came is no document.
 */
int slabd_document(
    struct slabd *, uint16_t type, const char *name, char **json);

#endif
