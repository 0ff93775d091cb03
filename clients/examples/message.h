/*
 * What the processes of filepipe say to each other, over socket pairs that
 * keep messages whole. A chunk's bytes are never in a message: its ref is.
 *
 *	reader     INPUT, CHUNK..., END   dispatcher
 *	dispatcher CHUNK                  worker
 *	worker     DONE                   dispatcher
 *	dispatcher DONE..., END           collector
 *	collector  WRITTEN..., END        dispatcher
 *	dispatcher WRITTEN...             reader
 */
#ifndef EXAMPLE_MESSAGE_H
#define EXAMPLE_MESSAGE_H

#include <stdint.h>

#include <slabd.h>

#include "sha256.h"

enum message_kind {
	MESSAGE_INPUT = 1, /* bytes: of a slot; index: chunks there will be,
			      0 when nobody knows */
	MESSAGE_CHUNK,	   /* bytes of chunk index are in the slot of ref */
	MESSAGE_DONE,	   /* the same, and its digest */
	MESSAGE_WRITTEN,   /* chunk index is in the output */
	MESSAGE_END,	   /* index: chunks there were; digest: of them all */
};

struct message {
	uint32_t kind;
	uint32_t bytes;
	uint64_t index;
	slabd_ref ref;
	uint8_t digest[SHA256_BYTES];
};

/* 0, or -errno: -EPIPE or -ECONNRESET when the other process has ended. */
int message_send(int channel, const struct message *);
/* Waits. 1, 0 when the other process has ended, -errno; never half a one. */
int message_receive(int channel, struct message *);

#endif
