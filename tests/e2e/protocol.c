/*
 * Every message of slabd-protocol(7), and every way to get it wrong: each has
 * its error, the connection goes on where it should, and nobody loses a slot.
 */
#include "config.h"

#include <fcntl.h>

#include "e2e.h"

#define POOLS                                                                  \
	"\"shrink_seconds\": 3600, \"pools\": ["                               \
	"{\"name\": \"big\", \"slot_size\": 64, \"slots_per_segment\": 2048,"  \
	" \"max_segments\": 1},"                                               \
	"{\"name\": \"small\", \"slot_size\": 4096, \"slots_per_segment\": 8," \
	" \"max_segments\": 3}]"

/* Has slots all the time, and wants them to be there at the end. */
static struct raw innocent;
static uint32_t innocent_at;
static uint64_t innocent_refs[3];

/* Who says what it should not. */
static struct raw offender;
static uint32_t offender_at;

static void
balance(void)
{
	uint64_t out;

	cr_assert_eq(raw_audit(&innocent), 0);
	/* A hand-off to itself shows that the slot is still its own. */
	cr_assert_eq(
	    raw_send(&innocent, innocent_at, innocent_refs[0], &out), 0);
	cr_assert_eq(raw_receive(&innocent, innocent_at, out), 0);
	innocent_refs[0] = out;
}

static void
start(void)
{
	serve(POOLS);
	login(&innocent, "innocent");
	innocent_at = attach(&innocent, "big");
	cr_assert_eq(raw_alloc(&innocent, innocent_at, 3, innocent_refs), 3);
	login(&offender, "offender");
	offender_at = attach(&offender, "big");
}

static void
stop(void)
{
	balance();
	cr_assert_eq(raw_free(&innocent, innocent_at, innocent_refs, 3), 3);
	raw_close(&offender);
	raw_close(&innocent);
	finish();
}

TestSuite(protocol, .timeout = 120, .init = start, .fini = stop);

/* Which body lengths are right when the body is zeros. */
enum form {
	EMPTY = 0,
	U32 = 4,
	U64 = 8,
	U64_U32 = 12,
	NAME = 2,
	ATTACHING = 6,
	REFS = -1
};

static const struct request {
	unsigned type, flags;
	bool attachment;
	enum form form;
} requests[] = {
    {WIRE_PING, 0, false, EMPTY},
    {WIRE_BYE, 0, false, EMPTY},
    {WIRE_ATTACH, WIRE_AGAIN, false, ATTACHING},
    {WIRE_DETACH, 0, true, EMPTY},
    {WIRE_EXTEND, 0, true, U32},
    {WIRE_RESUME, 0, true, EMPTY},
    {WIRE_ALLOC, WIRE_WAIT | WIRE_AGAIN, true, U32},
    {WIRE_CANCEL, 0, true, U32},
    {WIRE_FREE, WIRE_AGAIN, true, REFS},
    {WIRE_SEND, WIRE_AGAIN, true, U64},
    {WIRE_SHARE, WIRE_AGAIN, true, U64_U32},
    {WIRE_RECEIVE, WIRE_AGAIN, true, U64},
    {WIRE_RECALL, WIRE_AGAIN, true, U64_U32},
    {WIRE_FLUSH, WIRE_WAIT, true, EMPTY},
    {WIRE_STATS, 0, false, EMPTY},
    {WIRE_HOLDERS, 0, false, NAME},
    {WIRE_CONFIG, 0, false, EMPTY},
    {WIRE_RELOAD, 0, false, EMPTY},
    {WIRE_TRIM, 0, false, NAME},
    {WIRE_SHUTDOWN, WIRE_FORCE, false, EMPTY},
    {WIRE_AUDIT, 0, false, EMPTY},
};

#define EACH_REQUEST(q)                      \
	(const struct request *q = requests; \
	    q < requests + sizeof(requests) / sizeof(*requests); q++)

static bool
is_right(const struct request *q, size_t len)
{
	if (q->form == REFS)
		return len > 0 && len % 8 == 0;
	return len == (size_t)q->form;
}

Test(protocol, wrong_body_length)
{
	static const uint8_t zeros[40];
	int status;

	for
		EACH_REQUEST(q)
		{
			for (size_t len = 0; len <= sizeof(zeros); len++) {
				if (is_right(q, len))
					continue;
				status = raw_call(&offender, q->type, 0,
				    q->attachment ? offender_at : 0, zeros, len,
				    NULL);
				cr_assert_eq(status, -EINVAL,
				    "%s of %zu bytes: %d",
				    wire_type_name(q->type), len, status);
			}
			balance();
		}
}

Test(protocol, unknown_flags)
{
	static const uint8_t zeros[12];
	int status;

	for
		EACH_REQUEST(q)
		{
			for (unsigned bit = 1; bit <= 0x8000; bit <<= 1) {
				if ((bit & q->flags) != 0)
					continue;
				status = raw_call(&offender, q->type, bit,
				    q->attachment ? offender_at : 0, zeros,
				    q->form == REFS ? 8 : (size_t)q->form,
				    NULL);
				cr_assert_eq(status, -EINVAL,
				    "%s with flags 0x%x: %d",
				    wire_type_name(q->type), bit, status);
			}
			balance();
		}
}

Test(protocol, a_request_has_no_status)
{
	struct wire_header h = {.type = WIRE_PING, .tag = 77, .status = 1};
	uint8_t bytes[WIRE_HEADER_BYTES];
	struct wire_writer out;

	wire_begin(&out, bytes, sizeof(bytes), &h);
	cr_assert_eq(raw_put(&offender, bytes, out.len, -1), 0);
	cr_assert_eq(raw_wait(&offender, 77, NULL), -EINVAL);
	cr_assert_eq(raw_ping(&offender), 0);
}

Test(protocol, wrong_attachment)
{
	static const uint8_t zeros[12];
	uint32_t gone = attach(&offender, "small");
	uint32_t numbers[] = {0, gone, gone + 1, UINT32_MAX};
	int status;

	cr_assert_eq(raw_detach(&offender, gone), 0);
	for
		EACH_REQUEST(q)
		{
			for (int i = 0; i < 4 && q->attachment; i++) {
				status = raw_call(&offender, q->type, 0,
				    numbers[i], zeros,
				    q->form == REFS ? 8 : (size_t)q->form,
				    NULL);
				cr_assert_eq(status, -EBADF, "%s for %u: %d",
				    wire_type_name(q->type), numbers[i],
				    status);
			}
		}
}

Test(protocol, unknown_types)
{
	static const unsigned types[] = {0, 4, 15, 20, 31, 41, 63, 67, 79, 84,
	    WIRE_EVENT_RETIRED, WIRE_EVENT_RESIZED, 0x7fff, WIRE_REPLY,
	    WIRE_REPLY | WIRE_PING, WIRE_REPLY | WIRE_FREE, 0xffff};
	int status;

	for (size_t i = 0; i < sizeof(types) / sizeof(*types); i++) {
		status = raw_call(
		    &offender, types[i], 0, offender_at, NULL, 0, NULL);
		cr_assert_eq(status, -ENOSYS, "type %u: %d", types[i], status);
	}
	cr_assert_eq(raw_ping(&offender), 0);
}

Test(protocol, errors_are_said_in_words)
{
	struct raw_message m;

	cr_assert_eq(raw_call(&offender, 999, 0, 0, NULL, 0, &m), -ENOSYS);
	m.body[m.len] = '\0';
	cr_assert_str_eq((char *)m.body, "unknown message type 999");
	cr_assert_eq(m.h.type, WIRE_REPLY | 999);
}

/* Byte for byte as the manual has it, without the functions of wire.h. */
Test(protocol, hello_by_hand)
{
	static const uint8_t hello[] = {1, 0, 0, 0, 9, 8, 7, 6, 0, 0, 0, 0, 0,
	    0, 0, 0, 'S', 'L', 'B', 'D', 1, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
	    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 'm', 'e'};
	uint8_t reply[256];
	struct raw r;
	ssize_t n;

	cr_assert_eq(raw_connect(&r, server.socket), 0);
	cr_assert_eq(raw_put(&r, hello, sizeof(hello), -1), 0);
	n = read(r.fd, reply, sizeof(reply));
	cr_assert_eq(n, 16 + 46 + (ssize_t)strlen(VERSION));
	cr_assert_arr_eq(
	    reply, "\1\200\0\0\11\10\7\6\0\0\0\0\0\0\0\0\1\0\0\0\0\4\0\0", 24);
	cr_assert_arr_eq(reply + 56, "\0\200\0\0", 4);
	cr_assert_eq(reply[60] + 256 * reply[61], (int)strlen(VERSION));
	cr_assert_arr_eq(reply + 62, VERSION, strlen(VERSION));
	raw_close(&r);
}

/* A HELLO made of pieces; the status, after which the daemon hangs up. */
static int
hello_with(uint32_t magic, unsigned lowest, unsigned highest, const char *label,
    size_t label_len, size_t body_len)
{
	uint8_t bytes[256] = "";
	struct wire_header h = {.type = WIRE_HELLO, .tag = 5};
	struct wire_writer out;
	struct raw_message m;
	struct raw r;
	int status;

	wire_begin(&out, bytes, sizeof(bytes), &h);
	wire_put_u32(&out, magic);
	wire_put_u16(&out, (uint16_t)lowest);
	wire_put_u16(&out, (uint16_t)highest);
	for (int i = 0; i < 3; i++)
		wire_put_u64(&out, 0);
	wire_put_u16(&out, (uint16_t)label_len);
	wire_put_bytes(&out, label, label_len);
	cr_assert_eq(raw_connect(&r, server.socket), 0);
	cr_assert_eq(raw_put(&r, bytes, 16 + body_len, -1), 0);
	status = raw_wait(&r, 5, NULL);
	if (status < 0)
		cr_assert_eq(raw_next(&r, &m), -ENOTCONN);
	else
		cr_assert_eq(raw_ping(&r), 0);
	raw_close(&r);
	return status;
}

static int
label_of(const char *label, size_t len)
{
	return hello_with(WIRE_MAGIC, 1, 1, label, len, 34 + len);
}

Test(protocol, hello_wrong)
{
	cr_assert_eq(
	    hello_with(WIRE_MAGIC + 1, 1, 1, "", 0, 34), -EPROTONOSUPPORT);
	cr_assert_eq(hello_with(0, 0, 0, "", 0, 34), -EPROTONOSUPPORT);
	cr_assert_eq(hello_with(WIRE_MAGIC, 0, 0, "", 0, 34), -EPROTONOSUPPORT);
	cr_assert_eq(hello_with(WIRE_MAGIC, 2, 9, "", 0, 34), -EPROTONOSUPPORT);
	cr_assert_eq(hello_with(WIRE_MAGIC, 2, 1, "", 0, 34), -EPROTONOSUPPORT);
	cr_assert_eq(hello_with(WIRE_MAGIC, 0, 65535, "", 0, 34), 0);
	for (size_t len = 8; len < 40; len++)
		if (len != 34)
			cr_assert_eq(
			    hello_with(WIRE_MAGIC, 1, 1, "", 0, len), -EINVAL);
	cr_assert_lt(hello_with(WIRE_MAGIC, 1, 1, "", 0, 0), 0);
	/* A label that says it is longer, or shorter, than it is. */
	cr_assert_eq(hello_with(WIRE_MAGIC, 1, 1, "abc", 3, 36), -EINVAL);
	cr_assert_eq(hello_with(WIRE_MAGIC, 1, 1, "abc", 3, 38), -EINVAL);
}

Test(protocol, hello_labels)
{
	char longest[64];

	memset(longest, 'x', sizeof(longest));
	cr_assert_eq(label_of("", 0), 0);
	cr_assert_eq(label_of(longest, 63), 0);
	cr_assert_eq(label_of(longest, 64), -EINVAL);
	cr_assert_eq(
	    label_of("B\303\244r \342\202\254 \360\237\220\273", 13), 0);
	for (char c = 1; c < 0x20; c++)
		cr_assert_eq(label_of(&c, 1), -EINVAL);
	cr_assert_eq(label_of("a\0b", 3), -EINVAL);
	cr_assert_eq(label_of("\177", 1), -EINVAL);
	cr_assert_eq(label_of("\302\205", 2), -EINVAL);	    /* a C1 control */
	cr_assert_eq(label_of("\303", 1), -EINVAL);	    /* cut */
	cr_assert_eq(label_of("\300\257", 2), -EINVAL);	    /* overlong */
	cr_assert_eq(label_of("\355\240\200", 3), -EINVAL); /* surrogate */
	cr_assert_eq(label_of("\364\220\200\200", 4), -EINVAL);
	cr_assert_eq(label_of("\200", 1), -EINVAL);
}

/* A session is its process's, whoever else knows the token. */
static int
steal_session(int control, void *arg)
{
	const struct raw *owner = arg;
	struct raw thief;

	(void)control;
	if (raw_connect(&thief, server.socket) != 0)
		return 1;
	thief.session = owner->session;
	thief.token = owner->token;
	if (raw_hello(&thief, "thief") != 0)
		return 2;
	return thief.session == owner->session ? 3 : 0;
}

Test(protocol, hello_of_another_process)
{
	int control;

	cr_assert_eq(reap(spawn(steal_session, &offender, &control)), 0);
	close(control);
	cr_assert_eq(raw_ping(&offender), 0);
}

Test(protocol, hello_twice)
{
	cr_assert_eq(raw_hello(&offender, "again"), -EPROTO);
	cr_assert_eq(raw_ping(&offender), 0);
}

Test(protocol, before_hello)
{
	static const uint8_t zeros[12];
	struct raw_message m;
	struct raw r;

	for
		EACH_REQUEST(q)
		{
			cr_assert_eq(raw_connect(&r, server.socket), 0);
			cr_assert_eq(
			    raw_call(&r, q->type, 0, 1, zeros,
				q->form == REFS ? 8 : (size_t)q->form, NULL),
			    -EPROTO, "%s", wire_type_name(q->type));
			cr_assert_eq(raw_next(&r, &m), -ENOTCONN);
			raw_close(&r);
		}
}

/* What a child sends that ends its connection, with slots in its hands. */
struct packet {
	size_t len;
	bool fd;
};

static int
say_and_see_the_end(int control, void *arg)
{
	static const uint8_t zeros[WIRE_MESSAGE_MAX + 1];
	const struct packet *p = arg;
	struct raw_message m;
	struct raw_pool pool;
	uint64_t refs[5];
	struct raw r;
	int err;

	(void)control;
	if (raw_open(&r, server.socket, "packet") != 0 ||
	    raw_attach(&r, "big", 0, &pool) != 0 ||
	    raw_alloc(&r, pool.number, 5, refs) != 5)
		return 1;
	err = raw_put(&r, zeros, p->len, p->fd ? r.fd : -1);
	/* Newer kernels refuse descriptors on the daemon's behalf. */
	if (p->fd && err == -EPERM)
		return raw_ping(&r) == 0 && raw_bye(&r) == 0 ? 0 : 2;
	if (err != 0)
		return 3;
	err = raw_next(&r, &m);
	return err == -ENOTCONN || err == -ECONNRESET ? 0 : 4;
}

static void
packet_ends_it(size_t len, bool fd)
{
	struct packet p = {len, fd};
	struct raw_stats s;
	int control, status;
	pid_t pid;

	pid = spawn(say_and_see_the_end, &p, &control);
	status = reap(pid);
	close(control);
	cr_assert_eq(status, 0, "%zu bytes%s: %d", len,
	    fd ? " and a descriptor" : "", status);
	STATS_UNTIL(&innocent, "big", s, s.free == s.slots - 3);
	balance();
}

Test(protocol, packets_that_are_no_message)
{
	for (size_t len = 0; len < WIRE_HEADER_BYTES; len++)
		packet_ends_it(len, false);
	packet_ends_it(WIRE_MESSAGE_MAX + 1, false);
}

Test(protocol, descriptors)
{
	packet_ends_it(WIRE_HEADER_BYTES, true);
	packet_ends_it(0, true);
	packet_ends_it(1, true);
}

Test(protocol, largest_packet)
{
	static const uint8_t zeros[WIRE_MESSAGE_MAX - WIRE_HEADER_BYTES];

	cr_assert_eq(
	    raw_call(&offender, WIRE_PING, 0, 0, zeros, sizeof(zeros), NULL),
	    -EINVAL);
	cr_assert_eq(raw_ping(&offender), 0);
}

Test(protocol, attach_wrong)
{
	char longest[80] = "";
	struct raw_pool p;

	cr_assert_eq(raw_attach(&offender, "nosuch", 0, &p), -ENOENT);
	cr_assert_eq(raw_attach(&offender, "", 0, &p), -ENOENT);
	cr_assert_eq(raw_attach(&offender, "../big", 0, &p), -ENOENT);
	memset(longest, 'b', 63);
	cr_assert_eq(raw_attach(&offender, longest, 0, &p), -ENOENT);
	longest[63] = 'b';
	cr_assert_eq(raw_attach(&offender, longest, 0, &p), -EINVAL);
	cr_assert_eq(raw_attach(&offender, "b\nig", 0, &p), -EINVAL);
	for (uint32_t bit = 4; bit != 0; bit <<= 1)
		cr_assert_eq(raw_attach(&offender, "big", bit, &p), -EINVAL);
}

Test(protocol, attach_says_what_is_there)
{
	struct raw_pool p, q;

	cr_assert_eq(raw_attach(&offender, "small", 0, &p), 0);
	cr_assert_eq(p.slot_size, 4096);
	cr_assert_eq(p.segment_slots, 8);
	cr_assert_eq(p.segments, 3);
	cr_assert_eq(p.bytes, 3 * 8 * 4096);
	cr_assert_eq(p.rights, WIRE_RIGHT_READ | WIRE_RIGHT_WRITE);
	cr_assert_eq(lseek(p.fd, 0, SEEK_END), 3 * 8 * 4096);
	/* Twice over one connection: two holders, one pool. */
	cr_assert_eq(raw_attach(&offender, "small", 0, &q), 0);
	cr_assert_neq(p.number, q.number);
	cr_assert_eq(p.identity, q.identity);
	cr_assert_eq(raw_attach(&innocent, "small", 0, &q), 0);
	cr_assert_eq(p.identity, q.identity);
}

Test(protocol, a_slots_life)
{
	uint64_t ref, sent, again;
	uint32_t other = attach(&offender, "big");

	ref = alloc_one(&offender, offender_at);
	cr_assert_neq(ref_version(ref), 0);
	cr_assert_not(ref_shared(ref));
	cr_assert_eq(raw_send(&offender, offender_at, ref, &sent), 0);
	cr_assert_eq(ref_slot(sent), ref_slot(ref));
	cr_assert_eq(ref_version(sent), ref_version_next(ref_version(ref)));
	cr_assert_eq(raw_flush(&offender, offender_at), 1);
	cr_assert_eq(raw_receive(&offender, other, sent), 0);
	cr_assert_eq(raw_flush(&offender, offender_at), 0);
	cr_assert_eq(raw_recall(&offender, offender_at, sent, 0), 0);
	cr_assert_eq(raw_send(&offender, other, sent, &again), 0);
	cr_assert_eq(raw_recall(&offender, other, again, 0), 1);
	cr_assert_eq(raw_free(&offender, other, &again, 1), 1);
	cr_assert_eq(raw_recall(&offender, other, again, 0), -ESTALE);
}

Test(protocol, a_shared_slots_life)
{
	uint64_t ref, shared;
	uint32_t a = attach(&offender, "big"), b = attach(&offender, "big");
	struct raw_stats s;

	ref = alloc_one(&offender, offender_at);
	cr_assert_eq(raw_share(&offender, offender_at, ref, 3, &shared), 0);
	cr_assert(ref_shared(shared));
	cr_assert_eq(raw_receive(&offender, a, shared), 0);
	/* A second receipt of the same holder is used up all the same. */
	cr_assert_eq(raw_receive(&offender, a, shared), 0);
	cr_assert_eq(raw_recall(&offender, offender_at, shared, 5), 1);
	cr_assert_eq(raw_receive(&offender, b, shared), -ESTALE);
	cr_assert_eq(raw_free(&offender, b, &shared, 1), -EPERM);
	cr_assert_eq(raw_free(&offender, offender_at, &shared, 1), 1);
	cr_assert_eq(raw_free(&offender, offender_at, &shared, 1), -EPERM);
	s = stats_of(&innocent, "big");
	cr_assert_eq(s.used, 4);
	cr_assert_eq(raw_free(&offender, a, &shared, 1), 1);
	cr_assert_eq(raw_free(&offender, a, &shared, 1), -EALREADY);
	s = stats_of(&innocent, "big");
	cr_assert_eq(s.used, 3);
}

/* What each slot operation answers to one ref. */
struct answers {
	int free, send, share, receive, recall;
};

static void
expect(uint64_t ref, struct answers want, const char *what)
{
	uint64_t out;
	int got;

	got = raw_receive(&offender, offender_at, ref);
	cr_assert_eq(got, want.receive, "RECEIVE of %s: %d", what, got);
	got = raw_recall(&offender, offender_at, ref, 0);
	cr_assert_eq(got, want.recall, "RECALL of %s: %d", what, got);
	got = raw_send(&offender, offender_at, ref, &out);
	cr_assert_eq(got, want.send, "SEND of %s: %d", what, got);
	got = raw_share(&offender, offender_at, ref, 1, &out);
	cr_assert_eq(got, want.share, "SHARE of %s: %d", what, got);
	got = raw_free(&offender, offender_at, &ref, 1);
	cr_assert_eq(got, want.free, "FREE of %s: %d", what, got);
	cr_assert_eq(raw_audit(&offender), 0, "books, after %s", what);
}

#define KIND	    (UINT64_C(1) << REF_SLOT_BITS)
#define VERSION_ONE (UINT64_C(1) << (REF_SLOT_BITS + 1))

Test(protocol, refs_that_do_not_match)
{
	const struct answers foreign = {-EPERM, -EPERM, -EPERM, -ESTALE, 0};
	const struct answers stale = {-EPERM, -EPERM, -EPERM, -ESTALE, -ESTALE};
	const struct answers is_free = {
	    -EALREADY, -EALREADY, -EALREADY, -ESTALE, -ESTALE};
	const struct answers none = {
	    -EINVAL, -EINVAL, -EINVAL, -EINVAL, -EINVAL};
	uint64_t held = innocent_refs[1];
	uint64_t mine = alloc_one(&offender, offender_at);

	expect(held, foreign, "another's slot");
	expect(held | KIND, foreign, "another's slot, other kind");
	expect(held + VERSION_ONE, stale, "another's slot, next version");
	expect(held - VERSION_ONE, stale, "another's slot, last version");
	expect(ref_make(ref_slot(held), false, 0), stale, "version 0");
	expect(ref_make(ref_slot(held), true, 0), stale, "shared version 0");
	expect(ref_make(ref_slot(mine), false, 0), stale, "mine, version 0");
	expect(mine + VERSION_ONE, stale, "mine, next version");
	/* Recalling what one holds exclusively: "received already". */
	expect(mine | KIND, foreign, "mine, other kind");
	expect(0, stale, "nothing"); /* slot 0 is the innocent's */
	expect(UINT64_MAX, none, "all ones");
	expect(ref_make(2048, false, 1), none, "the slot behind the last");
	expect(ref_make(REF_SLOTS_MAX - 1, false, 1), none, "the last slot");
	cr_assert_eq(raw_free(&offender, offender_at, &mine, 1), 1);
	expect(mine, is_free, "a freed slot");
	expect(mine | KIND, is_free, "a freed slot, other kind");
	expect(mine + VERSION_ONE, is_free, "a freed slot, next version");
	expect(ref_make(2047, false, 1), is_free, "a slot never granted");
}

Test(protocol, refs_of_segments_that_are_not_there)
{
	const struct answers absent = {
	    -EALREADY, -EALREADY, -EALREADY, -ESTALE, -ESTALE};
	const struct answers none = {
	    -EINVAL, -EINVAL, -EINVAL, -EINVAL, -EINVAL};

	offender_at = attach(&offender, "small");
	expect(ref_make(8, false, 1), absent, "a slot of an absent segment");
	expect(ref_make(23, true, 9), absent, "the last slot of the pool");
	expect(ref_make(24, false, 1), none, "a slot beyond the pool");
}

Test(protocol, refs_in_flight)
{
	const struct answers sent = {-EPERM, -EPERM, -EPERM, 0, 0};
	uint64_t ref = alloc_one(&innocent, innocent_at), out, shared;

	cr_assert_eq(raw_send(&innocent, innocent_at, ref, &out), 0);
	cr_assert_eq(raw_send(&offender, offender_at, out, &ref), -EPERM);
	cr_assert_eq(raw_share(&offender, offender_at, out, 2, &ref), -EPERM);
	cr_assert_eq(raw_free(&offender, offender_at, &out, 1), -EPERM);
	cr_assert_eq(raw_recall(&offender, offender_at, out, 0), -EPERM);
	cr_assert_eq(raw_receive(&offender, offender_at, out | KIND), -ESTALE);
	cr_assert_eq(raw_receive(&offender, offender_at, out), sent.receive);
	cr_assert_eq(raw_receive(&offender, offender_at, out), -ESTALE);
	cr_assert_eq(raw_receive(&innocent, innocent_at, out), -ESTALE);
	cr_assert_eq(raw_share(&offender, offender_at, out, 2, &shared), 0);
	cr_assert_eq(raw_send(&offender, offender_at, shared, &out), -EBUSY);
	cr_assert_eq(
	    raw_share(&offender, offender_at, shared, 2, &out), -EBUSY);
	cr_assert_eq(raw_recall(&innocent, innocent_at, shared, 1), -EPERM);
	cr_assert_eq(raw_recall(&offender, offender_at, shared, 1), 1);
	cr_assert_eq(raw_recall(&offender, offender_at, shared, 0), 1);
	cr_assert_eq(raw_recall(&offender, offender_at, shared, 0), 0);
	cr_assert_eq(raw_free(&offender, offender_at, &shared, 1), 1);
}

Test(protocol, share_counts)
{
	uint64_t ref = alloc_one(&offender, offender_at), out;

	cr_assert_eq(raw_share(&offender, offender_at, ref, 0, &out), -EINVAL);
	cr_assert_eq(
	    raw_share(&offender, offender_at, ref, 256, &out), -EINVAL);
	cr_assert_eq(
	    raw_share(&offender, offender_at, ref, UINT32_MAX, &out), -EINVAL);
	cr_assert_eq(raw_share(&offender, offender_at, ref, 255, &out), 0);
	cr_assert_eq(raw_recall(&offender, offender_at, out, 0), 255);
	cr_assert_eq(raw_free(&offender, offender_at, &out, 1), 1);
}

Test(protocol, batches)
{
	uint64_t refs[1025];

	cr_assert_eq(raw_alloc(&offender, offender_at, 0, refs), -EINVAL);
	cr_assert_eq(raw_alloc(&offender, offender_at, 1025, refs), -EINVAL);
	cr_assert_eq(
	    raw_alloc(&offender, offender_at, UINT32_MAX, refs), -EINVAL);
	cr_assert_eq(raw_alloc(&offender, offender_at, 1024, refs), 1024);
	refs[1024] = alloc_one(&offender, offender_at);
	cr_assert_eq(raw_free(&offender, offender_at, refs, 0), -EINVAL);
	cr_assert_eq(raw_free(&offender, offender_at, refs, 1025), -EINVAL);
	/* Refused as a whole: all are still there. */
	cr_assert_eq(raw_free(&offender, offender_at, refs, 1024), 1024);
	cr_assert_eq(raw_free(&offender, offender_at, refs + 1024, 1), 1);
	cr_assert_eq(stats_of(&innocent, "big").used, 3);
}

/* One wrong ref among right ones: those are freed, and the body says which. */
Test(protocol, free_tries_all)
{
	struct raw_message m;
	uint64_t refs[4];
	uint8_t body[32];
	struct wire_writer out;
	struct wire_reader in;
	static const int32_t want[4] = {0, -EPERM, 0, -EALREADY};

	cr_assert_eq(raw_alloc(&offender, offender_at, 2, refs), 2);
	refs[2] = refs[1];
	refs[1] = innocent_refs[1];
	refs[3] = refs[0];
	out = (struct wire_writer){.buf = body, .cap = sizeof(body)};
	for (int i = 0; i < 4; i++)
		wire_put_u64(&out, refs[i]);
	cr_assert_eq(
	    raw_call(&offender, WIRE_FREE, 0, offender_at, body, 32, &m),
	    -EPERM);
	cr_assert_eq(m.len, 16);
	in = (struct wire_reader){.buf = m.body, .len = m.len};
	for (int i = 0; i < 4; i++)
		cr_assert_eq((int32_t)wire_get_u32(&in), want[i], "ref %d", i);
}

/* FREE under tag 0 is not answered, whatever becomes of it. */
Test(protocol, free_without_reply)
{
	struct wire_header h = {.type = WIRE_FREE, .attachment = offender_at};
	uint64_t ref = alloc_one(&offender, offender_at);
	uint8_t bytes[64];
	struct wire_writer out;
	struct raw_message m;

	for (int i = 0; i < 2; i++) {
		wire_begin(&out, bytes, sizeof(bytes), &h);
		wire_put_u64(&out, ref);
		cr_assert_eq(raw_put(&offender, bytes, out.len, -1), 0);
	}
	offender.tag = 1000;
	raw_post(&offender, WIRE_PING, 0, 0, NULL, 0);
	cr_assert_eq(raw_next(&offender, &m), 0);
	cr_assert_eq(m.h.tag, 1001);
	cr_assert_eq(stats_of(&innocent, "big").used, 3);
	cr_assert_eq(stats_of(&innocent, "big").rejected_total, 1);
}

Test(protocol, replies_carry_tag_and_attachment)
{
	struct raw_message m;

	cr_assert_eq(
	    raw_call(&offender, WIRE_FLUSH, 0, offender_at, NULL, 0, &m), 0);
	cr_assert_eq(m.h.attachment, offender_at);
	cr_assert_eq(m.h.tag, offender.tag);
	cr_assert_eq(m.h.flags, 0);
	cr_assert_eq(m.len, 0);
}

Test(protocol, extend_wrong)
{
	uint32_t at = attach(&offender, "small");

	cr_assert_eq(raw_extend(&offender, at, 3), 0);
	cr_assert_eq(raw_extend(&offender, at, 4), -EINVAL);
	cr_assert_eq(raw_extend(&offender, at, 2), -EINVAL);
	cr_assert_eq(raw_extend(&offender, at, UINT32_MAX), -EINVAL);
}

Test(protocol, cancel_of_nothing)
{
	cr_assert_eq(raw_cancel(&offender, offender_at, 0), -ENOENT);
	cr_assert_eq(raw_cancel(&offender, offender_at, 12345), -ENOENT);
}

Test(protocol, documents)
{
	uint8_t name[16];
	char *text;

	text = raw_document(&offender, WIRE_STATS, NULL, 0);
	cr_assert_not_null(text);
	cr_assert_eq(text[0], '{');
	free(text);
	text = raw_document(&offender, WIRE_CONFIG, NULL, 0);
	cr_assert_not_null(strstr(text, "\"small\""));
	free(text);
	text =
	    raw_document(&offender, WIRE_HOLDERS, name, raw_name(name, "big"));
	cr_assert_not_null(strstr(text, "\"innocent\""));
	free(text);
	cr_assert_eq(raw_call(&offender, WIRE_HOLDERS, 0, 0, name,
			 raw_name(name, "none"), NULL),
	    -ENOENT);
	cr_assert_eq(raw_call(&offender, WIRE_TRIM, 0, 0, name,
			 raw_name(name, "none"), NULL),
	    -ENOENT);
	cr_assert_eq(raw_call(&offender, WIRE_TRIM, 0, 0, name,
			 raw_name(name, "small"), NULL),
	    0);
}

/* Nobody can change what others may be reading. */
Test(protocol, documents_are_sealed)
{
	struct raw_message m;

	cr_assert_eq(raw_call(&offender, WIRE_STATS, 0, 0, NULL, 0, &m), 0);
	cr_assert_eq(
	    fcntl(m.fd, F_GET_SEALS), F_SEAL_SEAL | F_SEAL_GROW | F_SEAL_WRITE);
	close(m.fd);
}

/* Nine unread replies with descriptors: the ninth is refused, none is lost. */
Test(protocol, unread_descriptors)
{
	struct raw_message m;
	uint32_t tags[9];
	int status;

	for (int i = 0; i < 9; i++)
		tags[i] = raw_post(&offender, WIRE_STATS, 0, 0, NULL, 0);
	/* One message a turn: all are served before any is read. */
	for (int i = 0; i < 12; i++)
		cr_assert_eq(raw_ping(&innocent), 0);
	for (int i = 0; i < 9; i++) {
		status = raw_wait(&offender, tags[i], &m);
		cr_assert_eq(
		    status, i < 8 ? 0 : -EBUSY, "reply %d: %d", i, status);
		if (m.fd >= 0)
			close(m.fd);
	}
	cr_assert_eq(raw_call(&offender, WIRE_STATS, 0, 0, NULL, 0, &m), 0);
	close(m.fd);
}

Test(protocol, bye)
{
	uint64_t refs[4], out;
	struct raw_message m;

	cr_assert_eq(raw_alloc(&offender, offender_at, 4, refs), 4);
	cr_assert_eq(raw_send(&offender, offender_at, refs[0], &out), 0);
	cr_assert_eq(raw_bye(&offender), 0);
	cr_assert_eq(stats_of(&innocent, "big").used, 3);
	cr_assert_eq(stats_of(&innocent, "big").in_flight, 1);
	cr_assert_eq(raw_next(&offender, &m), -ENOTCONN);
	cr_assert_eq(raw_receive(&innocent, innocent_at, out), 0);
	cr_assert_eq(raw_free(&innocent, innocent_at, &out, 1), 1);
}

Test(protocol, detach)
{
	uint64_t refs[4], out;
	uint32_t at = attach(&offender, "big");

	cr_assert_eq(raw_alloc(&offender, offender_at, 4, refs), 4);
	cr_assert_eq(raw_send(&offender, offender_at, refs[0], &out), 0);
	cr_assert_eq(raw_detach(&offender, offender_at), 0);
	cr_assert_eq(stats_of(&innocent, "big").used, 3);
	cr_assert_eq(raw_receive(&offender, at, out), 0);
	cr_assert_eq(raw_free(&offender, at, &out, 1), 1);
}

/* Random bytes behind a right header: never more than an error. */
Test(protocol, noise)
{
	uint8_t body[64];
	uint32_t seed = 1;
	int status;

	for (int i = 0; i < 20000; i++) {
		const struct request *q =
		    &requests[(seed >> 16) %
			      (sizeof(requests) / sizeof(*requests))];

		for (size_t k = 0; k < sizeof(body); k++) {
			seed = seed * 1103515245 + 12345;
			body[k] = (uint8_t)(seed >> 16) & (k % 4 ? 3 : 255);
		}
		if (q->type == WIRE_BYE || q->type == WIRE_SHUTDOWN ||
		    q->type == WIRE_RELOAD || q->type == WIRE_STATS ||
		    q->type == WIRE_CONFIG || q->type == WIRE_DETACH)
			continue;
		status = raw_call(&offender, q->type, 0, offender_at, body,
		    seed % 3 ? (size_t)q->form : seed % sizeof(body), NULL);
		cr_assert_neq(status, -ENOTCONN, "round %d", i);
	}
}
