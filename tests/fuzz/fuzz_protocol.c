/*
 * Fuzzes the protocol, with state: the input is a program for up to three
 * clients that connect, say anything, use the refs they were given, hang up and
 * come back, all against the real daemon in this process. After each input the
 * books must balance, and once everybody is gone every slot must be free.
 *
 * An instruction is one byte: bits 6-7 choose the client, the others what it
 * does, in the order of `instructions`; operands are the bytes behind it. Refs
 * are named by their place among those seen in replies, so that a kept input
 * still means the same when versions begin elsewhere.
 */
#include "config.h"

#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/client.h"
#include "daemon/daemon.h"
#include "daemon/event.h"
#include "daemon/peer.h"
#include "daemon/pool.h"
#include "replay.h"
#include "wire.h"

#define CLIENTS 3
#define REFS	16

static const char config_text[] =
    "{ 'socket': '%s/s', 'handshake_seconds': 3600,"
    "  'shrink_seconds': 86400, 'log_level': 'error', 'pools': ["
    "  { 'name': 'a', 'slot_size': 64, 'slots_per_segment': 12,"
    "    'min_segments': 2, 'max_segments': 2, 'quota': 20, 'uid_quota': 22,"
    "    'max_clients': 8, 'orphan_seconds': 3600 },"
    "  { 'name': 'b', 'slot_size': 4096, 'slots_per_segment': 8,"
    "    'min_segments': 1, 'max_segments': 2, 'reserve': 2,"
    "    'max_clients': 8, 'orphan_seconds': 0 } ] }";

static struct daemon daemon_;
static char dir[] = "/tmp/slabd-fuzz.XXXXXX";
static int sockets[CLIENTS];
static uint64_t refs[REFS];
static unsigned nrefs;

/* What the kernel is made to say of whoever connects next. */
static uid_t next_uid;
static bool next_lives; /* beyond its connection: a case for quarantine */

/* Linked with --wrap: asking the kernel takes longer than all the rest. */
int __wrap_peer_of(struct peer *, int);
bool __wrap_peer_alive(int);

int
__wrap_peer_of(struct peer *peer, int socket)
{
	(void)socket;
	*peer = (struct peer){.pid = 1,
	    .uid = next_uid,
	    .gid = next_uid,
	    .pidfd = next_lives ? eventfd(0, EFD_CLOEXEC) : -1};
	return 0;
}

bool
__wrap_peer_alive(int pidfd)
{
	return pidfd >= 0;
}

struct input {
	const uint8_t *data;
	size_t left;
};

static uint8_t
next(struct input *in)
{
	if (in->left == 0)
		return 0;
	in->left--;
	return *in->data++;
}

static void
must(bool ok, const char *what)
{
	if (ok)
		return;
	fprintf(stderr, "%s\n", what);
	abort();
}

static void
remove_dir(void)
{
	char path[64];

	snprintf(path, sizeof(path), "%s/c", dir);
	unlink(path);
	snprintf(path, sizeof(path), "%s/s.lock", dir);
	unlink(path);
	rmdir(dir);
}

static void
end_daemon(void)
{
	struct client *c;

	while ((c = TAILQ_FIRST(&daemon_.clients)) != NULL)
		client_end(c, true);
	daemon_free(&daemon_);
	remove_dir();
}

/* Nobody comes by name, and so nothing is left behind, whatever happens. */
static void
drop_names(void)
{
	struct pool *p;

	TAILQ_FOREACH (p, &daemon_.pools, entry) {
		region_unlink(&p->region);
		region_unlink(&p->ledger_region);
	}
	unlink(daemon_.instance.socket_path);
}

int
LLVMFuzzerInitialize(int *argc, char ***argv)
{
	struct daemon_options options = {0};
	static char path[64];
	char text[sizeof(config_text) + 64];
	int fd, len;

	(void)argc;
	(void)argv;
	must(mkdtemp(dir) != NULL, "mkdtemp");
	snprintf(path, sizeof(path), "%s/c", dir);
	len = snprintf(text, sizeof(text), config_text, dir);
	for (int i = 0; i < len; i++)
		text[i] = text[i] == '\'' ? '"' : text[i];
	fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	must(fd >= 0 && write(fd, text, (size_t)len) == len, "config");
	close(fd);
	options.config_path = path;
	daemon_start(&daemon_, &options);
	while (daemon_.listener == NULL)
		loop_poll(daemon_.loop);
	drop_names();
	atexit(end_daemon);
	for (int i = 0; i < CLIENTS; i++)
		sockets[i] = -1;
	return 0;
}

static void
remember(uint64_t ref)
{
	refs[nrefs++ % REFS] = ref;
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
hear(int i)
{
	static uint8_t bytes[WIRE_MESSAGE_MAX + 1];
	ssize_t len;

	while (sockets[i] >= 0) {
		len = recv(sockets[i], bytes, sizeof(bytes), MSG_DONTWAIT);
		if (len <= 0)
			return;
		learn(bytes, (size_t)len);
	}
}

static void
run(void)
{
	loop_poll(daemon_.loop);
	for (int i = 0; i < CLIENTS; i++)
		hear(i);
}

static void
hang_up(int i)
{
	if (sockets[i] >= 0)
		close(sockets[i]);
	sockets[i] = -1;
	loop_poll(daemon_.loop);
}

static void
say(int i, const struct wire_writer *w)
{
	if (sockets[i] >= 0)
		send(sockets[i], w->buf, w->len, MSG_DONTWAIT | MSG_NOSIGNAL);
	run();
}

static void
start(struct wire_writer *w, struct input *in, enum wire_type type)
{
	static uint8_t bytes[WIRE_MESSAGE_MAX];
	static uint32_t tag;
	uint8_t how = next(in);
	struct wire_header h = {.type = (uint16_t)type,
	    .flags = how >> 6 == 3 ? WIRE_WAIT : 0,
	    .tag = how >> 4 == 0 ? 0 : ++tag,
	    .attachment = how & 0xf};

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
	struct wire_writer w;
	int pair[2];
	uint8_t how;

	hang_up(i);
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK,
		0, pair) != 0)
		return;
	sockets[i] = pair[0];
	how = next(in);
	next_uid = how & 3; /* 0 may administer */
	next_lives = how >> 2 & 1;
	client_accept(&daemon_, pair[1]);
	if (how >> 3 == 0)
		return;
	start(&w, in, WIRE_HELLO);
	wire_put_u32(&w, WIRE_MAGIC);
	wire_put_u16(&w, 1);
	wire_put_u16(&w, 1);
	for (int k = 0; k < 3; k++)
		wire_put_u64(&w, 0);
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
	    WIRE_RECEIVE, WIRE_RECALL, WIRE_RECEIVE};
	enum wire_type type = types[next(in) % 6];
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

static void (*const instructions[])(int, struct input *) = {do_connect,
    do_hang_up, do_raw, do_any, do_empty, do_pool, do_number, do_ref,
    do_free_many};

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
clear(void)
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
	}
	nrefs = 0;
	memset(refs, 0, sizeof(refs));
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = {data, size};
	uint8_t op;

	while (in.left > 0) {
		op = next(&in);
		instructions[(op & 0x3f) %
			     (sizeof(instructions) / sizeof(*instructions))](
		    (op >> 6) % CLIENTS, &in);
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
