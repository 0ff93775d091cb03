/* Fields written are read back, and nothing is believed that is not there. */
#include "config.h"

#include <errno.h>
#include <string.h>

#include <criterion/criterion.h>

#include "wire.h"

TestSuite(wire, .timeout = 30);

static const struct wire_header header = {.type = WIRE_ALLOC | WIRE_REPLY,
    .flags = 0x1234,
    .tag = 0x89abcdef,
    .status = -ENOBUFS,
    .attachment = 0x01020304};

Test(wire, header_is_little_endian_at_its_offsets)
{
	static const struct wire_header h = {.type = 0x2010,
	    .flags = 0x4030,
	    .tag = 0x80706050,
	    .status = -2,
	    .attachment = 0xc0b0a090};
	static const uint8_t expected[WIRE_HEADER_BYTES] = {0x10, 0x20, 0x30,
	    0x40, 0x50, 0x60, 0x70, 0x80, 0xfe, 0xff, 0xff, 0xff, 0x90, 0xa0,
	    0xb0, 0xc0};
	uint8_t buf[WIRE_HEADER_BYTES];
	struct wire_writer w;

	wire_begin(&w, buf, sizeof(buf), &h);
	cr_assert(!w.bad);
	cr_assert_eq(w.len, WIRE_HEADER_BYTES);
	cr_assert_arr_eq(buf, expected, sizeof(expected));
}

/* A message with one of everything. */
static size_t
compose(uint8_t *buf, size_t cap, bool *bad)
{
	struct wire_writer w;

	wire_begin(&w, buf, cap, &header);
	wire_put_u16(&w, 0xfedc);
	wire_put_u32(&w, 0xba987654);
	wire_put_u64(&w, UINT64_C(0x0123456789abcdef));
	wire_put_string(&w, "caf\xc3\xa9", 63);
	wire_put_bytes(&w, "xyz", 3);
	*bad = w.bad;
	return w.len;
}

#define COMPOSED (WIRE_HEADER_BYTES + 2 + 4 + 8 + 2 + 5 + 3)

/* True when all of it was there. */
static bool
parse(const uint8_t *buf, size_t len)
{
	struct wire_header h;
	struct wire_reader r;
	const void *bytes;
	char text[8];

	if (wire_open(&r, buf, len, &h) < 0)
		return false;
	cr_assert_eq(h.type, header.type);
	cr_assert_eq(h.flags, header.flags);
	cr_assert_eq(h.tag, header.tag);
	cr_assert_eq(h.status, header.status);
	cr_assert_eq(h.attachment, header.attachment);
	uint16_t u16 = wire_get_u16(&r);
	uint32_t u32 = wire_get_u32(&r);
	uint64_t u64 = wire_get_u64(&r);
	wire_get_string(&r, text, sizeof(text));
	bytes = wire_get_bytes(&r, 3);
	if (!wire_done(&r))
		return false;
	cr_assert_eq(u16, 0xfedc);
	cr_assert_eq(u32, 0xba987654);
	cr_assert_eq(u64, UINT64_C(0x0123456789abcdef));
	cr_assert_str_eq(text, "caf\xc3\xa9");
	cr_assert_eq(memcmp(bytes, "xyz", 3), 0);
	return true;
}

Test(wire, what_is_written_is_read)
{
	uint8_t buf[COMPOSED];
	bool bad;

	cr_assert_eq(compose(buf, sizeof(buf), &bad), COMPOSED);
	cr_assert(!bad);
	cr_assert(parse(buf, sizeof(buf)));
}

Test(wire, every_truncation_is_noticed)
{
	uint8_t buf[COMPOSED + 1];
	bool bad;

	compose(buf, sizeof(buf), &bad);
	for (size_t len = 0; len < COMPOSED; len++)
		cr_assert(!parse(buf, len), "%zu bytes", len);
	cr_assert(!parse(buf, COMPOSED + 1), "one byte too many");
}

Test(wire, a_full_writer_turns_bad_and_writes_no_further)
{
	uint8_t buf[COMPOSED + 1];
	bool bad;

	for (size_t cap = 0; cap < COMPOSED; cap++) {
		memset(buf, 0x55, sizeof(buf));
		cr_assert_leq(compose(buf, cap, &bad), cap);
		cr_assert(bad, "room for %zu bytes", cap);
		for (size_t i = cap; i < sizeof(buf); i++)
			cr_assert_eq(buf[i], 0x55);
	}
}

Test(wire, sizes_of_messages_are_bounded)
{
	static uint8_t buf[WIRE_MESSAGE_MAX + 1];
	struct wire_header h;
	struct wire_reader r;

	cr_assert_eq(wire_open(&r, buf, WIRE_HEADER_BYTES - 1, &h), -EBADMSG);
	cr_assert_eq(wire_open(&r, buf, WIRE_HEADER_BYTES, &h), 0);
	cr_assert_eq(wire_left(&r), 0);
	cr_assert(wire_done(&r));
	cr_assert_eq(wire_open(&r, buf, WIRE_MESSAGE_MAX, &h), 0);
	cr_assert_eq(wire_left(&r), WIRE_MESSAGE_MAX - WIRE_HEADER_BYTES);
	cr_assert_eq(wire_open(&r, buf, WIRE_MESSAGE_MAX + 1, &h), -EBADMSG);
}

Test(wire, a_bad_reader_yields_zeros_and_stays_bad)
{
	uint8_t buf[WIRE_HEADER_BYTES + 3] = {0};
	struct wire_header h;
	struct wire_reader r;

	memset(buf + WIRE_HEADER_BYTES, 0xff, 3);
	cr_assert_eq(wire_open(&r, buf, sizeof(buf), &h), 0);
	cr_assert_eq(wire_get_u32(&r), 0);
	cr_assert_eq(wire_get_u16(&r), 0, "although two bytes are left");
	cr_assert_null(wire_get_bytes(&r, 0));
	cr_assert_eq(wire_left(&r), 0);
	cr_assert(!wire_done(&r));
}

struct text_case {
	const char *bytes;
	size_t len;
	bool good;
};

static const struct text_case texts[] = {
    {"", 0, true},
    {"pool-1", 6, true},
    {"1234567", 7, true},
    {"12345678", 8, false}, /* one more than there is room for */
    {"a\0b", 3, false},
    {"a\nb", 3, false},
    {"\x1b[31m", 5, false},
    {"\x7f", 1, false},
    {"\xc2\x80", 2, false}, /* a control of the second range */
    {"\xc2\x9f", 2, false},
    {"\xc2\xa0", 2, true},
    {"\xc3", 1, false},	    /* cut short */
    {"\xc3(", 2, false},    /* no continuation */
    {"\x80", 1, false},	    /* a continuation alone */
    {"\xc0\xaf", 2, false}, /* overlong */
    {"\xc1\xbf", 2, false},
    {"\xe0\x9f\xbf", 3, false},
    {"\xe0\xa0\x80", 3, true},
    {"\xed\x9f\xbf", 3, true},
    {"\xed\xa0\x80", 3, false}, /* a surrogate */
    {"\xed\xbf\xbf", 3, false},
    {"\xee\x80\x80", 3, true},
    {"\xf0\x8f\xbf\xbf", 4, false},
    {"\xf0\x9f\x99\x82", 4, true},
    {"\xf4\x8f\xbf\xbf", 4, true},
    {"\xf4\x90\x80\x80", 4, false}, /* beyond Unicode */
    {"\xf8\x88\x80\x80\x80", 5, false},
    {"\xff", 1, false},
};

Test(wire, only_clean_text_is_taken)
{
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		uint8_t buf[64];
		char out[8];
		struct wire_header h;
		struct wire_writer w;
		struct wire_reader r;

		wire_begin(&w, buf, sizeof(buf), &header);
		wire_put_u16(&w, (uint16_t)texts[i].len);
		wire_put_bytes(&w, texts[i].bytes, texts[i].len);
		memset(out, 'x', sizeof(out));
		wire_open(&r, buf, w.len, &h);
		wire_get_string(&r, out, sizeof(out));
		cr_assert_eq(wire_done(&r), texts[i].good, "text %zu", i);
		cr_assert_eq(strlen(out), texts[i].good ? texts[i].len : 0,
		    "text %zu", i);
	}
}

Test(wire, long_strings_are_cut)
{
	uint8_t buf[64];
	struct wire_writer w;

	wire_begin(&w, buf, sizeof(buf), &header);
	wire_put_string(&w, "abcdef", 4);
	cr_assert_eq(w.len, WIRE_HEADER_BYTES + 2 + 4);
	cr_assert_eq(buf[WIRE_HEADER_BYTES], 4);
}

Test(wire, types_have_names)
{
	static const struct {
		unsigned type;
		const char *name;
	} types[] = {{WIRE_HELLO, "HELLO"}, {WIRE_PING, "PING"},
	    {WIRE_BYE, "BYE"}, {WIRE_ATTACH, "ATTACH"}, {WIRE_DETACH, "DETACH"},
	    {WIRE_EXTEND, "EXTEND"}, {WIRE_RESUME, "RESUME"},
	    {WIRE_ALLOC, "ALLOC"}, {WIRE_CANCEL, "CANCEL"}, {WIRE_FREE, "FREE"},
	    {WIRE_SEND, "SEND"}, {WIRE_SHARE, "SHARE"},
	    {WIRE_RECEIVE, "RECEIVE"}, {WIRE_RECALL, "RECALL"},
	    {WIRE_FLUSH, "FLUSH"}, {WIRE_HELD, "HELD"}, {WIRE_STATS, "STATS"},
	    {WIRE_HOLDERS, "HOLDERS"}, {WIRE_CONFIG, "CONFIG"},
	    {WIRE_RELOAD, "RELOAD"}, {WIRE_TRIM, "TRIM"},
	    {WIRE_SHUTDOWN, "SHUTDOWN"}, {WIRE_AUDIT, "AUDIT"},
	    {WIRE_EVENT_RETIRED, "RETIRED"}, {WIRE_EVENT_RESIZED, "RESIZED"}};

	for (size_t i = 0; i < sizeof(types) / sizeof(*types); i++) {
		cr_assert_str_eq(wire_type_name(types[i].type), types[i].name);
		cr_assert_str_eq(
		    wire_type_name(types[i].type | WIRE_REPLY), types[i].name);
	}
	cr_assert_null(wire_type_name(0));
	cr_assert_null(wire_type_name(0x7fff));
	cr_assert_null(wire_type_name(WIRE_REPLY));
}

Test(wire, refs_keep_their_parts)
{
	static const uint32_t at[] = {0, 1, 0x123456, REF_SLOTS_MAX - 1};
	static const uint64_t versions[] = {
	    1, 2, UINT64_C(0x1234567890), REF_VERSION_MASK};

	for (int i = 0; i < 4; i++)
		for (int j = 0; j < 4; j++)
			for (int shared = 0; shared < 2; shared++) {
				uint64_t ref =
				    ref_make(at[i], shared, versions[j]);

				cr_assert_eq(ref_slot(ref), at[i]);
				cr_assert_eq(ref_shared(ref), shared);
				cr_assert_eq(ref_version(ref), versions[j]);
				cr_assert_neq(ref, 0);
			}
}

Test(wire, versions_go_around_without_zero)
{
	cr_assert_eq(ref_version_next(1), 2);
	cr_assert_eq(ref_version_next(REF_VERSION_MASK - 1), REF_VERSION_MASK);
	cr_assert_eq(ref_version_next(REF_VERSION_MASK), 1);
}
