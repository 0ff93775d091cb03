/*
 * Reading and writing messages, field by field; wire.h says what they mean.
 */
#include "config.h"

#include <endian.h>
#include <errno.h>
#include <string.h>

#include "wire.h"

void
wire_begin(
    struct wire_writer *w, void *buf, size_t cap, const struct wire_header *h)
{
	*w = (struct wire_writer){.buf = buf, .cap = cap};
	wire_put_u16(w, h->type);
	wire_put_u16(w, h->flags);
	wire_put_u32(w, h->tag);
	wire_put_u32(w, (uint32_t)h->status);
	wire_put_u32(w, h->attachment);
}

/* Room for `len` more bytes, or NULL and the writer is bad from now on. */
static uint8_t *
room(struct wire_writer *w, size_t len)
{
	uint8_t *at;

	if (w->bad || len > w->cap - w->len) {
		w->bad = true;
		return NULL;
	}
	at = w->buf + w->len;
	w->len += len;
	return at;
}

/* Fixed sizes let the compiler see a single store, or load, in each of these.
 */

void
wire_put_u16(struct wire_writer *w, uint16_t value)
{
	uint8_t *at = room(w, sizeof(value));

	value = htole16(value);
	if (at != NULL)
		memcpy(at, &value, sizeof(value));
}

void
wire_put_u32(struct wire_writer *w, uint32_t value)
{
	uint8_t *at = room(w, sizeof(value));

	value = htole32(value);
	if (at != NULL)
		memcpy(at, &value, sizeof(value));
}

void
wire_put_u64(struct wire_writer *w, uint64_t value)
{
	uint8_t *at = room(w, sizeof(value));

	value = htole64(value);
	if (at != NULL)
		memcpy(at, &value, sizeof(value));
}

void
wire_put_bytes(struct wire_writer *w, const void *bytes, size_t len)
{
	uint8_t *at = room(w, len);

	if (at != NULL && len > 0)
		memcpy(at, bytes, len);
}

void
wire_put_string(struct wire_writer *w, const char *text, size_t max)
{
	size_t len = strnlen(text, max < UINT16_MAX ? max : UINT16_MAX);

	wire_put_u16(w, (uint16_t)len);
	wire_put_bytes(w, text, len);
}

int
wire_open(
    struct wire_reader *r, const void *buf, size_t len, struct wire_header *h)
{
	*r = (struct wire_reader){.buf = buf, .len = len};
	if (len < WIRE_HEADER_BYTES || len > WIRE_MESSAGE_MAX)
		return -EBADMSG;
	h->type = wire_get_u16(r);
	h->flags = wire_get_u16(r);
	h->tag = wire_get_u32(r);
	h->status = (int32_t)wire_get_u32(r);
	h->attachment = wire_get_u32(r);
	return 0;
}

const void *
wire_get_bytes(struct wire_reader *r, size_t len)
{
	const uint8_t *at;

	if (r->bad || len > r->len - r->at) {
		r->bad = true;
		return NULL;
	}
	at = r->buf + r->at;
	r->at += len;
	return at;
}

uint16_t
wire_get_u16(struct wire_reader *r)
{
	const void *at = wire_get_bytes(r, sizeof(uint16_t));
	uint16_t value = 0;

	if (at != NULL)
		memcpy(&value, at, sizeof(value));
	return le16toh(value);
}

uint32_t
wire_get_u32(struct wire_reader *r)
{
	const void *at = wire_get_bytes(r, sizeof(uint32_t));
	uint32_t value = 0;

	if (at != NULL)
		memcpy(&value, at, sizeof(value));
	return le32toh(value);
}

uint64_t
wire_get_u64(struct wire_reader *r)
{
	const void *at = wire_get_bytes(r, sizeof(uint64_t));
	uint64_t value = 0;

	if (at != NULL)
		memcpy(&value, at, sizeof(value));
	return le64toh(value);
}

/* Bytes of the UTF-8 character at `s`, 0 when it is none or a control. */
static size_t
utf8_char(const uint8_t *s, size_t left)
{
	static const uint32_t lowest[5] = {0, 0, 0x80, 0x800, 0x10000};
	size_t len = s[0] < 0x80	 ? 1
		     : s[0] >> 5 == 0x6	 ? 2
		     : s[0] >> 4 == 0xe	 ? 3
		     : s[0] >> 3 == 0x1e ? 4
					 : 0;
	uint32_t c;

	if (len == 0 || len > left)
		return 0;
	if (len == 1)
		return s[0] < 0x20 || s[0] == 0x7f ? 0 : 1;
	c = s[0] & (0x7fu >> len);
	for (size_t i = 1; i < len; i++) {
		if (s[i] >> 6 != 0x2)
			return 0;
		c = c << 6 | (s[i] & 0x3fu);
	}
	if (c < lowest[len] || c > 0x10ffff || (c >= 0xd800 && c < 0xe000) ||
	    (c >= 0x80 && c < 0xa0))
		return 0;
	return len;
}

void
wire_get_string(struct wire_reader *r, char *out, size_t cap)
{
	size_t len = wire_get_u16(r), step;
	const uint8_t *at = wire_get_bytes(r, len);

	out[0] = '\0';
	if (at == NULL)
		return;
	r->bad = len >= cap;
	for (size_t i = 0; !r->bad && i < len; i += step) {
		step = utf8_char(at + i, len - i);
		r->bad = step == 0;
	}
	if (r->bad)
		return;
	memcpy(out, at, len);
	out[len] = '\0';
}

size_t
wire_left(const struct wire_reader *r)
{
	return r->bad ? 0 : r->len - r->at;
}

bool
wire_done(const struct wire_reader *r)
{
	return !r->bad && r->at == r->len;
}

const char *
wire_type_name(unsigned type)
{
	switch ((enum wire_type)(type & ~(unsigned)WIRE_REPLY)) {
	case WIRE_HELLO:
		return "HELLO";
	case WIRE_PING:
		return "PING";
	case WIRE_BYE:
		return "BYE";
	case WIRE_ATTACH:
		return "ATTACH";
	case WIRE_DETACH:
		return "DETACH";
	case WIRE_EXTEND:
		return "EXTEND";
	case WIRE_RESUME:
		return "RESUME";
	case WIRE_ALLOC:
		return "ALLOC";
	case WIRE_CANCEL:
		return "CANCEL";
	case WIRE_FREE:
		return "FREE";
	case WIRE_SEND:
		return "SEND";
	case WIRE_SHARE:
		return "SHARE";
	case WIRE_RECEIVE:
		return "RECEIVE";
	case WIRE_RECALL:
		return "RECALL";
	case WIRE_FLUSH:
		return "FLUSH";
	case WIRE_HELD:
		return "HELD";
	case WIRE_STATS:
		return "STATS";
	case WIRE_HOLDERS:
		return "HOLDERS";
	case WIRE_CONFIG:
		return "CONFIG";
	case WIRE_RELOAD:
		return "RELOAD";
	case WIRE_TRIM:
		return "TRIM";
	case WIRE_SHUTDOWN:
		return "SHUTDOWN";
	case WIRE_AUDIT:
		return "AUDIT";
	case WIRE_EVENT_RETIRED:
		return "RETIRED";
	case WIRE_EVENT_RESIZED:
		return "RESIZED";
	case WIRE_REPLY:
		break;
	}
	return NULL;
}
