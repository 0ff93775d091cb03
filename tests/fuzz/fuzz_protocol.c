/*
 * Fuzzes the protocol, with state: the input is a program for up to three
 * clients that connect, say anything, use the refs they were given, repeat
 * themselves, hang up and come back, as new ones or to resume a session, all
 * against the real daemon in this process; only its kernel is played, see
 * kernel.h and sockets.h. After each input the books must balance, and once
 * everybody is gone every slot must be free and every descriptor closed.
 *
 * An instruction is one byte: bits 6-7 choose the client, the others what it
 * does, in the order of `instructions`; operands are the bytes behind it. Refs
 * and sessions are named by their place among those seen in replies, so that a
 * kept input still means the same when versions begin elsewhere.
 */
#include "config.h"

#include <string.h>

#include "daemon/client.h"
#include "daemon/peer.h"
#include "daemon/pool.h"
#include "host.h"
#include "input.h"
#include "kernel.h"
#include "replay.h"
#include "sockets.h"
#include "wire.h"

#define CLIENTS	 3
#define REFS	 16
#define SESSIONS 4
#define FLAGS_AT 2 /* in a message; the low byte */

static const char config_text[] =
    "{ 'socket': '%s/s', 'handshake_seconds': 3600,"
    "  'shrink_seconds': 86400, 'log_level': 'error', 'pools': ["
    "  { 'name': 'a', 'slot_size': 64, 'slots_per_segment': 12,"
    "    'min_segments': 2, 'max_segments': 2, 'quota': 20, 'uid_quota': 22,"
    "    'max_clients': 8, 'orphan_seconds': 3600 },"
    "  { 'name': 'b', 'slot_size': 4096, 'slots_per_segment': 8,"
    "    'min_segments': 1, 'max_segments': 2, 'reserve': 2,"
    "    'max_clients': 8, 'orphan_seconds': 0 } ] }";

/* What one who resumes a session must know. */
struct session {
	uint64_t id, token;
};

/* The last message of each client, to be said again. */
struct said {
	size_t len;
	uint8_t bytes[512];
};

static struct daemon daemon_;
static struct line *lines[CLIENTS]; /* NULL: not connected */
static bool silent[CLIENTS];	    /* it does not read */
static bool busy;		    /* the daemon does not look */
static bool passes;		    /* the next message has descriptors */
static struct said said[CLIENTS];
static uint64_t refs[REFS];
static unsigned nrefs;
static struct session sessions[SESSIONS];
static unsigned nsessions;
static uint32_t tag;

/* What is said of whoever connects next. */
static uid_t next_uid;
static bool next_lives; /* beyond its connection: a case for quarantine */

/* Linked with --wrap: there are no processes to be asked about. */
WRAP(peer_of);
WRAP(peer_find);
WRAP(peer_alive);

int
__wrap_peer_of(struct peer *peer, int socket)
{
	(void)socket;
	*peer = (struct peer){.pid = 1,
	    .uid = next_uid,
	    .gid = next_uid,
	    .pidfd = next_lives ? kernel_fd() : -1};
	return 0;
}

int
__wrap_peer_find(struct peer *peer, pid_t pid, uid_t uid, uint64_t start_time)
{
	*peer = (struct peer){
	    .pid = pid, .uid = uid, .start_time = start_time, .pidfd = -1};
	return 0;
}

bool
__wrap_peer_alive(int pidfd)
{
	return pidfd >= 0 && !process_ended(pidfd);
}

static void
end_daemon(void)
{
	struct client *c;

	while ((c = TAILQ_FIRST(&daemon_.clients)) != NULL)
		client_end(c, true);
	kernel_play(false);
	host_end(&daemon_);
	kernel_release();
}

/* Small lanes, of both pools: nothing but the daemon looks at them. */
static void
shrink_lanes(void)
{
	struct lane_geometry g = {.magazines_at = LANE_PAGE,
	    .magazines = 2,
	    .magazine_room = 8,
	    .grants_at = 2 * LANE_PAGE,
	    .grants = 64,
	    .records_at = 3 * LANE_PAGE,
	    .records = 64};
	struct pool *p;

	TAILQ_FOREACH (p, &daemon_.pools, entry)
		p->lane_geometry = g;
	kernel_reserve(KERNEL_OBJECTS, lane_bytes(&g));
}

int
LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc;
	(void)argv;
	host_begin(&daemon_, config_text);
	host_drop_names(&daemon_);
	shrink_lanes();
	atexit(end_daemon);
	kernel_play(true);
	return 0;
}

static void
remember(uint64_t ref)
{
	refs[nrefs++ % REFS] = ref;
}

static void
learn_session(struct wire_reader *r)
{
	struct session *s = &sessions[nsessions++ % SESSIONS];

	wire_get_u32(r);
	wire_get_u32(r);
	wire_get_u64(r);
	s->id = wire_get_u64(r);
	s->token = wire_get_u64(r);
}

/* What a client learns from one message. */
static void
learn(const uint8_t *bytes, size_t len)
{
	struct wire_reader r;
	struct wire_header h;

	must(wire_open(&r, bytes, len, &h) == 0, "a reply that is no message");
	if (h.status < 0)
		return;
	switch (h.type) {
	case WIRE_HELLO | WIRE_REPLY:
		learn_session(&r);
		break;
	case WIRE_ALLOC | WIRE_REPLY:
		for (int i = 0; i < h.status; i++) {
			remember(wire_get_u64(&r));
			wire_get_u64(&r);
		}
		must(wire_done(&r), "ALLOC reply");
		break;
	case WIRE_SEND | WIRE_REPLY:
	case WIRE_SHARE | WIRE_REPLY:
		remember(wire_get_u64(&r));
		must(wire_done(&r), "SEND reply");
		break;
	default:
		break;
	}
}

static void
turn(void)
{
	if (!busy)
		loop_turn();
}

/* Others hear what came for them when they say something. */
static void
hear(int i)
{
	const uint8_t *bytes;
	size_t len;

	while (!silent[i] && (bytes = line_hear(lines[i], &len)) != NULL)
		learn(bytes, len);
}

static void
hang_up(int i)
{
	if (lines[i] != NULL)
		line_hang_up(lines[i]);
	lines[i] = NULL;
	turn();
}

static void
send_bytes(int i, const void *bytes, size_t len)
{
	if (lines[i] == NULL)
		return;
	line_say(lines[i], bytes, len, passes);
	passes = false;
	turn();
	hear(i);
}

static void
say(int i, const struct wire_writer *w)
{
	struct said *s = &said[i];

	s->len = w->len <= sizeof(s->bytes) ? w->len : 0;
	memcpy(s->bytes, w->buf, s->len);
	send_bytes(i, w->buf, w->len);
}

static void
start(struct wire_writer *w, struct input *in, enum wire_type type)
{
	static uint8_t bytes[WIRE_MESSAGE_MAX];
	static const uint16_t flags[] = {
	    0, 0, 0, 0, 0, WIRE_AGAIN, WIRE_WAIT | WIRE_AGAIN, WIRE_WAIT};
	uint8_t how = next(in);
	struct wire_header h = {.type = (uint16_t)type,
	    .flags = flags[how >> 5],
	    .tag = how >> 4 == 0 ? 0 : ++tag,
	    .attachment = how & 0xf};

	/* The tag of one before it, perhaps of another type. */
	if (h.flags & WIRE_AGAIN && how & 0x10)
		h.tag = --tag;
	wire_begin(w, bytes, sizeof(bytes), &h);
}

/* A ref seen before; now and then with a bit of it turned. */
static uint64_t
pick(struct input *in)
{
	uint8_t which = next(in);
	uint64_t ref = refs[which % REFS];

	return which >= 0xf0 ? ref ^ UINT64_C(1) << next(in) % 64 : ref;
}

static void
do_connect(int i, struct input *in)
{
	const struct session *s;
	struct wire_writer w;
	int fd;
	uint8_t how;

	hang_up(i);
	lines[i] = line_open(&fd);
	if (lines[i] == NULL)
		return;
	silent[i] = false;
	how = next(in);
	next_uid = how & 3; /* 0 may administer */
	next_lives = how >> 2 & 1;
	client_accept(&daemon_, fd);
	if (how >> 3 == 0)
		return;
	start(&w, in, WIRE_HELLO);
	wire_put_u32(&w, WIRE_MAGIC);
	wire_put_u16(&w, 1);
	wire_put_u16(&w, 1);
	wire_put_u64(&w, 0);
	s = how & 0x80 ? &sessions[how >> 5 & 3] : &(struct session){0, 0};
	wire_put_u64(&w, s->id);
	wire_put_u64(&w, s->token);
	wire_put_string(&w, "fuzz", 4);
	say(i, &w);
}

static void
do_hang_up(int i, struct input *in)
{
	(void)in;
	hang_up(i);
}

/* Any bytes at all. */
static void
do_raw(int i, struct input *in)
{
	struct wire_writer w;
	uint8_t bytes[256];
	size_t len = next(in);

	w = (struct wire_writer){.buf = bytes, .cap = sizeof(bytes)};
	for (size_t k = 0; k < len; k++)
		bytes[w.len++] = next(in);
	say(i, &w);
}

/* Any body behind a sound header. */
static void
do_any(int i, struct input *in)
{
	struct wire_writer w;
	size_t len;

	start(&w, in, next(in));
	for (len = next(in); len > 0; len--)
		wire_put_bytes(&w, &(uint8_t){next(in)}, 1);
	say(i, &w);
}

static void
do_empty(int i, struct input *in)
{
	static const enum wire_type types[] = {WIRE_PING, WIRE_BYE, WIRE_DETACH,
	    WIRE_FLUSH, WIRE_STATS, WIRE_CONFIG, WIRE_AUDIT};
	struct wire_writer w;

	start(&w, in, types[next(in) % (sizeof(types) / sizeof(*types))]);
	say(i, &w);
}

static void
do_pool(int i, struct input *in)
{
	static const enum wire_type types[] = {
	    WIRE_ATTACH, WIRE_ATTACH, WIRE_HOLDERS, WIRE_TRIM};
	enum wire_type type = types[next(in) % 4];
	struct wire_writer w;
	uint8_t how;

	start(&w, in, type);
	how = next(in);
	if (type == WIRE_ATTACH)
		wire_put_u32(&w, how >> 1 & 3);
	wire_put_string(&w, how & 1 ? "b" : "a", 1);
	say(i, &w);
}

static void
do_number(int i, struct input *in)
{
	static const enum wire_type types[] = {
	    WIRE_ALLOC, WIRE_ALLOC, WIRE_CANCEL, WIRE_EXTEND};
	struct wire_writer w;

	start(&w, in, types[next(in) % 4]);
	wire_put_u32(&w, next(in));
	say(i, &w);
}

static void
do_ref(int i, struct input *in)
{
	static const enum wire_type types[] = {WIRE_FREE, WIRE_SEND, WIRE_SHARE,
	    WIRE_RECEIVE, WIRE_RECALL, WIRE_RECEIVE, WIRE_HELD};
	enum wire_type type = types[next(in) % 7];
	struct wire_writer w;

	start(&w, in, type);
	wire_put_u64(&w, pick(in));
	if (type == WIRE_SHARE || type == WIRE_RECALL)
		wire_put_u32(&w, next(in));
	say(i, &w);
}

static void
do_free_many(int i, struct input *in)
{
	struct wire_writer w;
	int n;

	start(&w, in, WIRE_FREE);
	for (n = next(in) % 32; n > 0; n--)
		wire_put_u64(&w, pick(in));
	say(i, &w);
}

/* First of all, for who has resumed a session. */
static void
do_resume(int i, struct input *in)
{
	struct wire_writer w;

	start(&w, in, WIRE_RESUME);
	say(i, &w);
}

/* The last message once more, as by who got no answer. */
static void
do_again(int i, struct input *in)
{
	struct said *s = &said[i];

	if (s->len < WIRE_HEADER_BYTES)
		return;
	s->bytes[FLAGS_AT] |= next(in) & 1 ? WIRE_AGAIN : 0;
	send_bytes(i, s->bytes, s->len);
}

/* It does not read any more, or again. */
static void
do_silence(int i, struct input *in)
{
	(void)in;
	silent[i] = !silent[i];
	if (lines[i] == NULL)
		return;
	hear(i);
	turn();
	hear(i);
}

/* The daemon is at something else; what happens meanwhile it sees at once. */
static void
do_busy(int i, struct input *in)
{
	(void)i;
	(void)in;
	busy = !busy;
	turn();
}

/* A process ends, perhaps before its connection. */
static void
do_die(int i, struct input *in)
{
	unsigned n = next(in) % 8;
	struct client *c;

	(void)i;
	TAILQ_FOREACH (c, &daemon_.clients, entry)
		if (c->peer.pidfd >= 0 && n-- == 0) {
			process_end(c->peer.pidfd);
			break;
		}
	turn();
}

static void
do_timer(int i, struct input *in)
{
	(void)i;
	(void)in;
	loop_timer();
	turn();
}

static void
do_fail(int i, struct input *in)
{
	(void)i;
	(void)in;
	helper_fail();
}

static void
do_pass(int i, struct input *in)
{
	(void)i;
	(void)in;
	passes = true;
}

typedef void instruction(int, struct input *);

static instruction *const instructions[] = {do_connect, do_hang_up, do_raw,
    do_any, do_empty, do_pool, do_number, do_ref, do_free_many, do_resume,
    do_again};

/* In place of some of the above, from OUTSIDE on: what is nobody's message. */
#define OUTSIDE 55
static instruction *const outside[] = {
    do_silence, do_busy, do_die, do_timer, do_fail, do_pass};

#define COUNT(a) (sizeof(a) / sizeof(*(a)))

static instruction *
instruction_of(uint8_t op)
{
	op &= 0x3f;
	return op >= OUTSIDE && op < OUTSIDE + COUNT(outside)
		   ? outside[op - OUTSIDE]
		   : instructions[op % COUNT(instructions)];
}

static void
audit(void)
{
	struct pool *p;
	char why[256];

	TAILQ_FOREACH (p, &daemon_.pools, entry)
		must(pool_audit(p, why, sizeof(why)) == 0, why);
}

/* Everybody goes, in a way that sets nothing aside; what is left is free. */
static void
clear_daemon(void)
{
	struct client *c;
	struct pool *p;

	for (int i = 0; i < CLIENTS; i++)
		hang_up(i);
	while ((c = TAILQ_FIRST(&daemon_.clients)) != NULL)
		client_end(c, true);
	TAILQ_FOREACH (p, &daemon_.pools, entry) {
		orphans_evict(p, UINT32_MAX);
		must(p->count[SLOT_FREE] == p->slots, "a slot is lost");
		must(p->clients == 0 && p->owed == 0, "a client is left");
		segments_trim(p);
	}
	/* Until the pools are as they began. */
	do
		loop_turn();
	while (loop_timer());
}

static void
clear(void)
{
	busy = passes = false;
	clear_daemon();
	loop_restart();
	nrefs = nsessions = tag = 0;
	memset(refs, 0, sizeof(refs));
	memset(sessions, 0, sizeof(sessions));
	for (int i = 0; i < CLIENTS; i++)
		said[i].len = 0;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = {data, size};
	uint8_t op;

	while (in.left > 0) {
		op = next(&in);
		instruction_of(op)((op >> 6) % CLIENTS, &in);
	}
	audit();
	clear();
	return 0;
}

#ifdef REPLAY
int
main(int argc, char **argv)
{
	LLVMFuzzerInitialize(&argc, &argv);
	return fuzz_replay(argc, argv, "protocol");
}
#endif
