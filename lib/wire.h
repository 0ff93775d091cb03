/*
 * The messages between a client and the daemon.
 *
 * A connection is an AF_UNIX SOCK_SEQPACKET socket; one packet is one message.
 * Every field has a fixed width and is little-endian; fields follow one another
 * without padding other than what is named. A message is a header of 16 bytes
 * and a body whose form depends on the type:
 *
 *	offset size field
 *	 0     2    type        WIRE_*; a reply has WIRE_REPLY added
 *	 2     2    flags       per type; unknown bits are refused (EINVAL)
 *	 4     4    tag         the client's choice, repeated in the reply;
 *	                        0 in events, and in requests that want no reply
 *	 8     4    status      requests and events 0; replies >= 0 or -errno
 *	12     4    attachment  which attached pool is meant, 0 none
 *	16     ...  body
 *
 * A reply whose status is negative carries text for a person (UTF-8, without a
 * final NUL, possibly empty) unless its type says otherwise. Error numbers are
 * the host's own errno values. Replies may overtake each other; the tag tells
 * them apart. Clients never send descriptors; the daemon closes and refuses
 * what arrives with any. slabd-protocol(7) says the same for readers who
 * write a client from the page alone, and both are checked by tests.
 *
 * The functions below read and write fields; nothing here makes a system call.
 * A reader that runs past the end of its message turns bad and yields zeros,
 * so that a caller may read everything and ask once.
 */
#ifndef SLABD_WIRE_H
#define SLABD_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define WIRE_MAGIC	  0x44424c53u /* the bytes S L B D */
#define WIRE_VERSION	  1u	      /* the only one so far */
#define WIRE_HEADER_BYTES 16u
#define WIRE_MESSAGE_MAX  32768u /* bytes, header included */
#define WIRE_BATCH_MAX	  1024u	 /* slots named by one message */
#define WIRE_LABEL_MAX	  63u	 /* bytes */
#define WIRE_NAME_MAX	  63u	 /* bytes of a pool's name */
#define WIRE_SHARE_MAX	  255u	 /* receipts one share may offer */
#define WIRE_FDS_MAX	  4u	 /* descriptors in one reply */

/*
 * Types, in ranges: 1-15 session, 16-31 pool, 32-63 slot, 64-79 documents,
 * 80-95 administration, 0x4000 events. A number once used is never given a
 * second meaning.
 */
enum wire_type {
	/*
	 * HELLO, the first message. u32 magic, u16 lowest and u16 highest
	 * version spoken, u64 features wanted, u64 session and u64 token (0:
	 * a new session), u16 length and bytes of the label.
	 * Reply: u16 version, u16 0, u32 WIRE_BATCH_MAX, u64 features granted,
	 * u64 session, u64 token, u64 instance of the daemon, u32
	 * WIRE_MESSAGE_MAX, u16 length and bytes of the daemon's version.
	 */
	WIRE_HELLO = 1,
	/* PING. Empty, and so is the reply. */
	WIRE_PING = 2,
	/*
	 * BYE. Empty. Everything the session holds is given back, what it
	 * sent stays receivable; empty reply, then the daemon closes.
	 */
	WIRE_BYE = 3,

	/*
	 * ATTACH. u32 attach flags (WIRE_ATTACH_*), u16 length and bytes of
	 * the pool's name. Reply (the attachment's number in the header):
	 * u64 region bytes, u64 slot size, u32 slots per segment, u32
	 * segments at most, u32 rights (WIRE_RIGHT_*), u32 features
	 * (WIRE_ATTACHED_*), u64 identity of the pool, u32 number of
	 * descriptors n, u32 0, then n times u32 kind (WIRE_FD_*), u32 0, u64
	 * bytes; the descriptors come with the message in the same order. With
	 * WIRE_ATTACHED_LANE there follow the 8 * u32 of the lane's geometry
	 * (lane.h). Slot i starts i * slot size bytes into the region.
	 */
	WIRE_ATTACH = 16,
	/* DETACH. Empty. What the attachment holds is given back. */
	WIRE_DETACH = 17,
	/*
	 * EXTEND, after event RESIZED: u32 segments the client has mapped now.
	 * Slots beyond are granted only afterwards. Empty reply.
	 */
	WIRE_EXTEND = 18,
	/*
	 * RESUME, first for each attachment of a session that HELLO has
	 * resumed. Empty. The reply is that to ATTACH, but of the descriptors
	 * only the lane's new doorbell comes, and the u32 behind their number
	 * is the tag of the last ALLOC that was served: if that was not
	 * answered it is the first to be sent again. ENOTRECOVERABLE: the attachment's
	 * lane is lost; EBADF: there is no such attachment.
	 */
	WIRE_RESUME = 19,

	/*
	 * ALLOC. u32 n, 1..WIRE_BATCH_MAX. Without WIRE_WAIT: 1..n slots now,
	 * or an error. With it: exactly n, when they are free and it is this
	 * client's turn (first come, first served).
	 * Reply: status slots, and for each u64 ref, u64 offset.
	 */
	WIRE_ALLOC = 32,
	/*
	 * CANCEL. u32 tag of an ALLOC or FLUSH that waits; that one is then
	 * answered ECANCELED. Reply ENOENT: nothing waits under that tag.
	 */
	WIRE_CANCEL = 33,
	/*
	 * FREE. 1..WIRE_BATCH_MAX times u64 ref. Reply: status how many were
	 * freed, or the first error; then the body is one i32 status a ref.
	 */
	WIRE_FREE = 34,
	/* SEND. u64 ref of a held slot. Reply: u64 ref for the receiver. */
	WIRE_SEND = 35,
	/*
	 * SHARE. u64 ref of a held slot, u32 receivers, 1..WIRE_SHARE_MAX.
	 * Reply: u64 ref, for the receivers and from now on for the sharer.
	 */
	WIRE_SHARE = 36,
	/* RECEIVE. u64 ref. Reply: u64 ref held (the same), u64 offset. */
	WIRE_RECEIVE = 37,
	/*
	 * RECALL. u64 ref this attachment sent or shared, u32 how many
	 * receipts at most (0: all). Reply: status how many were taken back.
	 */
	WIRE_RECALL = 38,
	/*
	 * FLUSH. Empty. Reply: status how many of the slots this attachment
	 * sent or shared are open; with WIRE_WAIT answered when none is. A
	 * cancelled one's body is u32, that number.
	 */
	WIRE_FLUSH = 39,
	/*
	 * HELD. u64 ref. Reply: status 1, this attachment holds the slot under
	 * this ref, or 0. For who found its claim revoked.
	 */
	WIRE_HELD = 40,

	/*
	 * Documents: the reply's body is u64 bytes of a JSON text in the
	 * memfd that comes with the message, to be read at once: the daemon
	 * empties it after handshake_seconds.
	 * STATS and CONFIG are empty; HOLDERS is u16 length and bytes of a
	 * pool's name.
	 */
	WIRE_STATS = 64,
	WIRE_HOLDERS = 65,
	WIRE_CONFIG = 66,

	/*
	 * Administration, for root, the daemon's user and the admin group.
	 * RELOAD is empty. TRIM is u16 length and bytes of a pool's name;
	 * status: segments given back. SHUTDOWN is empty, with WIRE_FORCE
	 * everything is removed although clients are attached. AUDIT is
	 * empty: EUCLEAN and text when the books do not balance.
	 */
	WIRE_RELOAD = 80,
	WIRE_TRIM = 81,
	WIRE_SHUTDOWN = 82,
	WIRE_AUDIT = 83,

	/* Event: the attached pool was taken out of service. Empty. */
	WIRE_EVENT_RETIRED = 0x4001,
	/* Event: the pool may grow further. u64 region bytes, u32 segments. */
	WIRE_EVENT_RESIZED = 0x4002,

	WIRE_REPLY = 0x8000,
};

/* Header flags. */
#define WIRE_WAIT  0x0001u /* ALLOC, FLUSH */
#define WIRE_FORCE 0x0002u /* SHUTDOWN */
/*
 * The request was sent before, under the same tag, to a daemon that has ended,
 * and not answered: what was done of it is not done again, and answered as it
 * would have been then. ATTACH, ALLOC, FREE, SEND, SHARE, RECEIVE, RECALL;
 * others that do not administer may be repeated as they are.
 */
#define WIRE_AGAIN 0x0004u

/* ATTACH flags. */
#define WIRE_ATTACH_RDONLY 0x1u /* receive and free only */
#define WIRE_ATTACH_LANE   0x2u /* with a lane, if there can be one */

/* What an attachment has, in the reply. */
#define WIRE_ATTACHED_LANE   0x1u
#define WIRE_ATTACHED_FENCES 0x2u /* the daemon cannot ask for barriers */

#define WIRE_RIGHT_READ	 0x1u
#define WIRE_RIGHT_WRITE 0x2u

/* Kinds of descriptor. */
#define WIRE_FD_REGION	 1u
#define WIRE_FD_CLAIMS	 2u /* u64 a slot, see claim.h */
#define WIRE_FD_LANE	 3u /* see lane.h */
#define WIRE_FD_DOORBELL 4u /* an eventfd, 0 bytes */

/*
 * A ref: bits 0-23 the slot, bit 24 its kind (0 exclusive, 1 shared), bits
 * 25-63 the version. The version rises whenever a slot is granted, sent or
 * shared and never is zero, so no ref is.
 */
#define REF_SLOT_BITS	 24u
#define REF_VERSION_BITS 39u
#define REF_SLOTS_MAX	 (UINT32_C(1) << REF_SLOT_BITS)
#define REF_VERSION_MASK ((UINT64_C(1) << REF_VERSION_BITS) - 1)

static inline uint64_t
ref_make(uint32_t slot, bool shared, uint64_t version)
{
	return version << (REF_SLOT_BITS + 1) |
	       (uint64_t)shared << REF_SLOT_BITS | slot;
}

static inline uint32_t
ref_slot(uint64_t ref)
{
	return (uint32_t)ref & (REF_SLOTS_MAX - 1);
}

static inline bool
ref_shared(uint64_t ref)
{
	return ref >> REF_SLOT_BITS & 1;
}

static inline uint64_t
ref_version(uint64_t ref)
{
	return ref >> (REF_SLOT_BITS + 1);
}

/* The version after `version`: 1..REF_VERSION_MASK, around for ever. */
static inline uint64_t
ref_version_next(uint64_t version)
{
	return version == REF_VERSION_MASK ? 1 : version + 1;
}

struct wire_header {
	uint16_t type, flags;
	uint32_t tag;
	int32_t status;
	uint32_t attachment;
};

/* Writes into a caller's buffer; bad once it did not fit. */
struct wire_writer {
	uint8_t *buf;
	size_t len, cap;
	bool bad;
};

/* Reads from a message; bad once it ran past the end. */
struct wire_reader {
	const uint8_t *buf;
	size_t len, at;
	bool bad;
};

void wire_begin(
    struct wire_writer *, void *buf, size_t cap, const struct wire_header *);
void wire_put_u16(struct wire_writer *, uint16_t);
void wire_put_u32(struct wire_writer *, uint32_t);
void wire_put_u64(struct wire_writer *, uint64_t);
void wire_put_bytes(struct wire_writer *, const void *, size_t len);
/* A u16 length and the bytes; longer than `max` is cut. */
void wire_put_string(struct wire_writer *, const char *, size_t max);

/* 0, or -EBADMSG when `len` is no header's worth or beyond the maximum. */
int wire_open(
    struct wire_reader *, const void *buf, size_t len, struct wire_header *);
uint16_t wire_get_u16(struct wire_reader *);
uint32_t wire_get_u32(struct wire_reader *);
uint64_t wire_get_u64(struct wire_reader *);
/* The next `len` bytes, in place; NULL when they are not all there. */
const void *wire_get_bytes(struct wire_reader *, size_t len);
/*
 * A u16 length and the bytes, copied and NUL-terminated. More than `cap` - 1
 * bytes, a NUL or a control character among them, or invalid UTF-8: bad.
 */
void wire_get_string(struct wire_reader *, char *out, size_t cap);
/* Bytes not read yet. */
size_t wire_left(const struct wire_reader *);
/* True when everything was there, and nothing beyond it. */
bool wire_done(const struct wire_reader *);

/* "ALLOC" for WIRE_ALLOC, with or without the reply bit; NULL: unknown. */
const char *wire_type_name(unsigned type);

#endif
