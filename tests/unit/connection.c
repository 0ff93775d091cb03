/*
 * The library against a daemon of our own making (fake.h), which answers what a
 * real one would, and what none should.
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>

#include "fake.h"

TestSuite(
    connection, .timeout = 60, .init = scratch_open, .fini = scratch_close);

/* ----------------------------------------------------------------- opening */

static void
just_bye(int fd)
{
	welcome(fd);
	serve(fd, WIRE_BYE);
}

Test(connection, opens_and_says_goodbye)
{
	unsigned before = open_fds();

	fake_start(just_bye, NULL);
	slabd_close(open_fake());
	fake_end();
	cr_assert_str_eq(fake.label, "tester");
	cr_assert_eq(fake.asked, 0, "a new session");
	cr_assert_eq(open_fds(), before);
}

static void
too_old(int fd)
{
	static struct request rq;
	struct wire_writer w;

	expect(fd, &rq, WIRE_HELLO);
	w = reply(&rq, -EPROTONOSUPPORT);
	wire_put_bytes(&w, "too\n\told\033", 9);
	put(fd, &w);
}

Test(connection, a_refusal_is_passed_on_in_words)
{
	struct slabd *s = (void *)1;

	fake_start(too_old, NULL);
	cr_assert_eq(slabd_open(&s, scratch_path("sock")), -EPROTONOSUPPORT);
	cr_assert_null(s);
	cr_assert_str_eq(slabd_error_detail(), "too\n old?");
	fake_end();
}

#define TURNED_AWAY 200

/*
 * What a full daemon does: it answers before it is asked, and hangs up. That
 * may come before the client's greeting, which then cannot be sent, or after
 * it, and over an unread greeting the client meets a reset.
 */
static void
turn_all_away(int fd)
{
	int first = fd;

	for (int i = 0; i < TURNED_AWAY; i++) {
		if (i > 0)
			fd = accept(fake.listener, NULL, NULL);
		turn_away(fd);
		if (i % 2)
			shutdown(fd, SHUT_RD);
		else
			readable(fd, -1);
		/* The first is whoever called us's to close. */
		if (fd != first)
			close(fd);
	}
}

Test(connection, who_is_turned_away_learns_why)
{
	struct slabd *s;

	fake_start(turn_all_away, NULL);
	for (int i = 0; i < TURNED_AWAY; i++) {
		cr_assert_eq(slabd_open(&s, scratch_path("sock")), -EUSERS,
		    "%d: %s", i, slabd_error_detail());
		cr_assert_null(s);
		cr_assert_str_eq(slabd_error_detail(), "the house is full");
	}
	fake_end();
}

Test(connection, a_place_without_a_daemon_does_not_hide_a_refusal)
{
	struct slabd *s;

	unsetenv("SLABD_SOCKET");
	if (access("/run/slabd/slabd.sock", F_OK) == 0)
		cr_skip_test("a daemon of the system's listens");
	fake_start(turn_away, NULL);
	mkdir(scratch_path("slabd"), 0700);
	cr_assert_eq(chdir(scratch.dir), 0);
	cr_assert_eq(rename("sock", "slabd/slabd.sock"), 0);
	setenv("XDG_RUNTIME_DIR", scratch.dir, 1);
	cr_assert_eq(slabd_open(&s, NULL), -EUSERS);
	cr_assert_str_eq(slabd_error_detail(), "the house is full");
	unlink("slabd/slabd.sock");
	fake_end();
}

static void
unasked_welcome(int fd)
{
	static struct request rq;
	struct wire_writer w;

	expect(fd, &rq, WIRE_HELLO);
	rq.h.tag = 0;
	w = reply(&rq, 0);
	put(fd, &w);
}

static void
half_hello(int fd)
{
	static struct request rq;
	struct wire_writer w;

	expect(fd, &rq, WIRE_HELLO);
	w = reply(&rq, 0);
	wire_put_u16(&w, WIRE_VERSION);
	put(fd, &w);
}

static void
foreign_hello(int fd)
{
	static struct request rq;

	expect(fd, &rq, WIRE_HELLO);
	send(fd, "HTTP/1.1 400 Bad Request\r\n", 26, MSG_NOSIGNAL);
}

Test(connection, a_malformed_greeting_is_refused)
{
	struct slabd *s;

	fake.script[2] = unasked_welcome;
	fake_start(half_hello, foreign_hello);
	cr_assert_eq(slabd_open(&s, scratch_path("sock")), -EPROTO);
	cr_assert_eq(slabd_open(&s, scratch_path("sock")), -EPROTO);
	cr_assert_eq(slabd_open(&s, scratch_path("sock")), -EPROTO);
	cr_assert_null(s);
	fake_end();
}

Test(connection, missing_daemons_are_explained)
{
	char path[200];
	struct slabd *s = (void *)1;

	cr_assert_eq(slabd_open(&s, scratch_path("none")), -ENOENT);
	cr_assert_null(s);
	cr_assert_not_null(strstr(slabd_error_detail(), "/none: "));
	close(listen_at(scratch_path("dead")));
	cr_assert_eq(slabd_open(&s, scratch_path("dead")), -ECONNREFUSED);
	memset(path, 'x', sizeof(path) - 1);
	path[sizeof(path) - 1] = '\0';
	cr_assert_eq(slabd_open(&s, path), -ENAMETOOLONG);
	SAYS("at most 107 bytes");
}

Test(connection, what_is_no_daemons_socket_is_told)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int file = creat(scratch_path("file"), 0600), stream;
	struct slabd_options opt = SLABD_OPTIONS_INIT;
	struct slabd *s;

	cr_assert_geq(file, 0);
	opt.socket_path = scratch_path("file");
	opt.connect_ms = -1; /* waiting makes no socket of it */
	cr_assert_eq(slabd_open_options(&s, &opt), -ENOTSOCK);
	SAYS("/file: it is not a socket");
	cr_assert_eq(slabd_open(&s, scratch.dir), -ENOTSOCK);
	strcpy(address.sun_path, scratch_path("stream"));
	stream = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	cr_assert_eq(
	    bind(stream, (struct sockaddr *)&address, sizeof(address)), 0);
	cr_assert_eq(listen(stream, 1), 0);
	cr_assert_eq(slabd_open(&s, scratch_path("stream")), -EPROTOTYPE);
	SAYS("another program's socket");
	close(stream);
	close(file);
}

Test(connection, options_are_checked)
{
	struct slabd_options opt = SLABD_OPTIONS_INIT;
	char label[WIRE_LABEL_MAX + 2] = "";
	struct slabd *s;
	struct {
		struct slabd_options known;
		uint64_t more;
	} newer = {SLABD_OPTIONS_INIT, 1};

	cr_assert_eq(slabd_open_options(&s, NULL), -EINVAL);
	opt.flags = 1;
	cr_assert_eq(slabd_open_options(&s, &opt), -EINVAL);
	opt.flags = 0;
	opt.size--;
	cr_assert_eq(slabd_open_options(&s, &opt), -EINVAL);
	opt.size++;
	memset(label, 'x', sizeof(label) - 1);
	opt.label = label;
	cr_assert_eq(slabd_open_options(&s, &opt), -EINVAL);
	newer.known.size = sizeof(newer);
	newer.known.socket_path = scratch_path("none");
	cr_assert_eq(slabd_open_options(&s, &newer.known), -EINVAL);
	newer.more = 0;
	cr_assert_eq(slabd_open_options(&s, &newer.known), -ENOENT);
}

static void *
open_patiently(void *arg)
{
	struct slabd_options opt = SLABD_OPTIONS_INIT;
	struct slabd *s;

	opt.socket_path = arg;
	opt.connect_ms = -1;
	cr_assert_eq(slabd_open_options(&s, &opt), 0);
	slabd_close(s);
	return NULL;
}

Test(connection, waits_for_a_daemon_to_appear)
{
	pthread_t client;
	char path[128];

	strcpy(path, scratch_path("sock"));
	pthread_create(&client, NULL, open_patiently, path);
	fake_start(just_bye, NULL);
	pthread_join(client, NULL);
	fake_end();
}

Test(connection, finds_the_socket_by_the_environment)
{
	struct slabd *s;
	char plain[128];

	strcpy(plain, scratch_path("sock"));
	fake_start(just_bye, just_bye);
	setenv("SLABD_SOCKET", scratch_path("sock"), 1);
	cr_assert_eq(slabd_open(&s, NULL), 0);
	slabd_close(s);
	unsetenv("SLABD_SOCKET");
	mkdir(scratch_path("slabd"), 0700);
	setenv("XDG_RUNTIME_DIR", scratch.dir, 1);
	rename(plain, scratch_path("slabd/slabd.sock"));
	cr_assert_eq(slabd_open(&s, NULL), 0);
	slabd_close(s);
	unlink(scratch_path("slabd/slabd.sock"));
	fake_end();
}

/* ---------------------------------------------------------- broken answers */

static void
wrong_tag(int fd, struct request *rq)
{
	rq->h.tag++;
	put_plain(fd, rq, 0);
}

static void
wrong_type(int fd, struct request *rq)
{
	rq->h.type = WIRE_BYE;
	put_plain(fd, rq, 0);
}

static void
no_reply_bit(int fd, struct request *rq)
{
	struct wire_writer w;

	(void)rq;
	w = event(WIRE_PING);
	put(fd, &w);
}

static void
not_an_errno(int fd, struct request *rq)
{
	put_plain(fd, rq, -100000);
}

static void
too_short(int fd, struct request *rq)
{
	put_plain(fd, rq, 0);
	send(fd, outbox, WIRE_HEADER_BYTES - 1, MSG_NOSIGNAL);
}

static void
too_long(int fd, struct request *rq)
{
	static uint8_t buf[WIRE_MESSAGE_MAX + 1];

	(void)rq;
	send(fd, buf, sizeof(buf), MSG_NOSIGNAL);
}

static void (*const breaches[])(int, struct request *) = {
    wrong_tag, wrong_type, no_reply_bit, not_an_errno, too_long, too_short};
static unsigned breach;

static void
break_rules(int fd)
{
	static struct request rq;

	welcome(fd);
	expect(fd, &rq, WIRE_PING);
	breaches[breach](fd, &rq);
	expect_end(fd);
}

Test(connection, a_breach_ends_the_connection)
{
	for (breach = 0; breach < 5; breach++) {
		struct slabd *s;

		fake_start(break_rules, NULL);
		s = open_fake();
		cr_assert_eq(ask(s, WIRE_PING), -EPROTO, "breach %u", breach);
		cr_assert_eq(slabd_dispatch(s), -ENOTCONN);
		fake_end();
		slabd_close(s);
		unlink(scratch_path("sock"));
	}
}

Test(connection, a_breach_after_the_answer_is_noticed_by_dispatch)
{
	struct slabd *s;

	breach = 5;
	fake_start(break_rules, NULL);
	s = open_fake();
	cr_assert_eq(ask(s, WIRE_PING), 0);
	cr_assert(readable(slabd_fd(s), -1));
	cr_assert_eq(slabd_dispatch(s), -ENOTCONN);
	fake_end();
	slabd_close(s);
}

static void
unknown_event(int fd)
{
	static struct request rq;
	struct wire_writer w;

	welcome(fd);
	expect(fd, &rq, WIRE_PING);
	w = event((enum wire_type)0x4fff);
	put(fd, &w);
	put_plain(fd, &rq, 0);
	serve(fd, WIRE_BYE);
}

Test(connection, unknown_events_are_ignored)
{
	struct slabd *s;

	fake_start(unknown_event, NULL);
	s = open_fake();
	cr_assert_eq(ask(s, WIRE_PING), 0);
	slabd_close(s);
	fake_end();
}

static void
gift(int fd)
{
	static struct request rq;
	struct wire_writer w;

	welcome(fd);
	expect(fd, &rq, WIRE_PING);
	w = reply(&rq, 0);
	put_fd(fd, &w, fake.region);
	serve(fd, WIRE_BYE);
}

Test(connection, unwanted_descriptors_are_closed)
{
	struct slabd *s;
	unsigned before;

	fake_start(gift, NULL);
	s = open_fake();
	before = open_fds();
	cr_assert_eq(ask(s, WIRE_PING), 0);
	cr_assert_eq(open_fds(), before);
	slabd_close(s);
	fake_end();
}

/* --------------------------------------------------------------- attaching */

static const struct geometry bad[] = {
    {REGION, 0, SEGMENT, SEGMENTS, 3, 1, WIRE_FD_REGION},
    {REGION, 96, SEGMENT, SEGMENTS, 3, 1, WIRE_FD_REGION},
    {REGION, SLOT_SIZE, 0, SEGMENTS, 3, 1, WIRE_FD_REGION},
    {REGION, SLOT_SIZE, SEGMENT, 0, 3, 1, WIRE_FD_REGION},
    {REGION, SLOT_SIZE, SEGMENT + 1, SEGMENTS, 3, 1, WIRE_FD_REGION},
    {UINT64_MAX, SLOT_SIZE, SEGMENT, SEGMENTS, 3, 1, WIRE_FD_REGION},
    {REGION, UINT64_C(1) << 62, SEGMENT, SEGMENTS, 3, 1, WIRE_FD_REGION},
    {REGION, 64, 1u << 31, 1u << 31, 3, 1, WIRE_FD_REGION},
    {REGION, 64, UINT32_MAX, UINT32_MAX, 3, 1, WIRE_FD_REGION},
    {REGION, SLOT_SIZE, SEGMENT, SEGMENTS, 3, 0, WIRE_FD_REGION},
    {REGION, SLOT_SIZE, SEGMENT, SEGMENTS, 3, 2, WIRE_FD_REGION},
    {REGION, SLOT_SIZE, SEGMENT, SEGMENTS, 3, 1, 77},
};
static unsigned geometry;

static void
bad_geometry(int fd)
{
	welcome(fd);
	serve_attach(fd, &bad[geometry], fake.region);
	expect_end(fd);
}

Test(connection, impossible_pools_are_refused)
{
	for (geometry = 0; geometry < sizeof(bad) / sizeof(bad[0]);
	     geometry++) {
		struct slabd_pool *p = (void *)1;
		struct slabd *s;
		unsigned before;

		fake_start(bad_geometry, NULL);
		s = open_fake();
		before = open_fds();
		cr_assert_eq(slabd_pool_attach(&p, s, "pool", 0), -EPROTO,
		    "geometry %u", geometry);
		cr_assert_null(p);
		fake_end();
		cr_assert_leq(open_fds(), before);
		slabd_close(s);
		unlink(scratch_path("sock"));
	}
}

static void
attach_truncated(int fd)
{
	welcome_attached(fd);
	serve(fd, WIRE_DETACH);
	serve(fd, WIRE_PING);
	serve(fd, WIRE_BYE);
}

Test(connection, a_truncated_region_is_no_breach)
{
	struct slabd_pool *p;
	struct slabd *s;
	unsigned before;

	fake_start(attach_truncated, NULL);
	cr_assert_eq(ftruncate(fake.region, REGION - 1), 0);
	s = open_fake();
	before = open_fds();
	cr_assert_eq(slabd_pool_attach(&p, s, "pool", 0), -EUCLEAN);
	cr_assert_null(p);
	SAYS("pool pool: its region is 32767 bytes instead of 32768: ");
	cr_assert_eq(open_fds(), before);
	cr_assert_eq(ask(s, WIRE_PING), 0);
	slabd_close(s);
	fake_end();
}

static void
no_region(int fd)
{
	welcome(fd);
	serve_attach(fd, &good, -1);
	expect_end(fd);
}

Test(connection, a_pool_without_a_region_is_refused)
{
	struct slabd_pool *p;
	struct slabd *s;

	fake_start(no_region, NULL);
	s = open_fake();
	cr_assert_eq(slabd_pool_attach(&p, s, "pool", 0), -EPROTO);
	fake_end();
	slabd_close(s);
}

static void
attach_twice(int fd)
{
	welcome_attached(fd);
	serve(fd, WIRE_DETACH);
	serve_attach(fd, &good, fake.region);
	serve(fd, WIRE_BYE);
}

Test(connection, a_full_descriptor_table_is_told_and_detached)
{
	struct rlimit limit, tight;
	struct slabd_pool *p;
	struct slabd *s;
	int spare;

	fake_start(attach_twice, NULL);
	s = open_fake();
	getrlimit(RLIMIT_NOFILE, &limit);
	tight = limit;
	spare = dup(0);
	tight.rlim_cur = (rlim_t)spare;
	while (close(spare),
	    (spare = dup(0)) >= 0 && (rlim_t)spare < tight.rlim_cur)
		tight.rlim_cur = (rlim_t)spare;
	close(spare);
	setrlimit(RLIMIT_NOFILE, &tight);
	cr_assert_eq(slabd_pool_attach(&p, s, "pool", 0), -EMFILE);
	setrlimit(RLIMIT_NOFILE, &limit);
	attach_fake(s, 0);
	slabd_close(s);
	fake_end();
}

static void
read_only(int fd)
{
	static const struct geometry readable_only = {REGION, SLOT_SIZE,
	    SEGMENT, SEGMENTS, WIRE_RIGHT_READ, 1, WIRE_FD_REGION};

	welcome(fd);
	serve_attach(fd, &readable_only, fake.region);
	serve(fd, WIRE_DETACH);
	serve_attach(fd, &readable_only, fake.region);
	serve(fd, WIRE_BYE);
}

Test(connection, rights_are_minded)
{
	struct slabd_pool *p;
	struct slabd *s;
	slabd_ref ref;
	void *v[1];

	fake_start(read_only, NULL);
	s = open_fake();
	cr_assert_eq(slabd_pool_attach(&p, s, "pool", 0), -EACCES);
	p = attach_fake(s, SLABD_RDONLY);
	cr_assert_null(slabd_alloc(p));
	cr_assert_eq(errno, EACCES);
	cr_assert_null(slabd_alloc_wait(p, 0));
	cr_assert_eq(errno, EACCES);
	cr_assert_eq(slabd_alloc_many(p, v, 1), -EACCES);
	cr_assert_eq(slabd_pool_want(p, 1), -EACCES);
	cr_assert_eq(slabd_send(p, slabd_at(p, 0), &ref), -EACCES);
	cr_assert_eq(slabd_share(p, slabd_at(p, 0), 1, &ref), -EACCES);
	cr_assert_eq(slabd_recall(p, ref_make(0, false, 1)), -EACCES);
	slabd_close(s);
	fake_end();
}

static void
just_attach(int fd)
{
	welcome_attached(fd);
	serve(fd, WIRE_BYE);
}

Test(connection, arguments_are_checked_without_asking)
{
	struct slabd *s;
	struct slabd_pool *p, *none;
	slabd_ref ref = 1;
	void *slot = &slot, *base, *v[1];
	uint64_t bytes;
	char where[64];

	fake_start(just_attach, NULL);
	s = open_fake();
	cr_assert_eq(slabd_pool_attach(&none, s, "pool", 16), -EINVAL);
	cr_assert_eq(slabd_pool_attach(&none, s, "", 0), -EINVAL);
	cr_assert_eq(slabd_pool_attach(&none, s, NULL, 0), -EINVAL);
	p = attach_fake(s, 0);
	cr_assert_eq(slabd_pool_slot_size(p), SLOT_SIZE);
	cr_assert_eq(slabd_pool_region(p, &base, &bytes), 0);
	cr_assert_eq(bytes, REGION);
	cr_assert_eq(slabd_at(p, 0), base);
	cr_assert_eq(slabd_at(p, SLOT_SIZE), (char *)base + SLOT_SIZE);
	cr_assert_null(slabd_at(p, 1));
	cr_assert_null(slabd_at(p, REGION));
	cr_assert_eq(slabd_offset(p, (char *)base + SLOT_SIZE), SLOT_SIZE);
	cr_assert_eq(slabd_offset(p, (char *)base + 64), UINT64_MAX);
	cr_assert_eq(slabd_offset(p, NULL), UINT64_MAX);
	cr_assert_eq(slabd_free(p, NULL), -EINVAL);
	SAYS("pool pool");
	SAYS("NULL is no slot");
	cr_assert_eq(slabd_free(p, (char *)base + 1), -EINVAL);
	snprintf(where, sizeof(where), "address %p: no slot starts there",
	    (void *)((char *)base + 1));
	SAYS(where);
	cr_assert_eq(slabd_free(p, (char *)base + REGION), -EINVAL);
	cr_assert_eq(slabd_free(p, base), -EPERM);
	cr_assert_eq(slabd_send(p, base, &ref), -EPERM);
	cr_assert_eq(ref, 0);
	cr_assert_eq(slabd_share(p, base, 0, &ref), -EINVAL);
	cr_assert_eq(slabd_share(p, base, 256, &ref), -EINVAL);
	cr_assert_eq(slabd_receive(p, 0, &slot), -EINVAL);
	cr_assert_null(slot);
	cr_assert_eq(slabd_recall_n(p, ref_make(0, true, 1), 0), -EINVAL);
	cr_assert_eq(slabd_alloc_many(p, v, 0), -EINVAL);
	cr_assert_eq(slabd_free_many(p, v, 0), 0);
	cr_assert_eq(slabd_pool_want(p, SLABD_BATCH_MAX + 1), -EINVAL);
	slabd_close(NULL);
	slabd_pool_detach(NULL);
	slabd_close(s);
	fake_end();
}

Test(connection, null_handles_are_refused)
{
	slabd_ref ref = 1;
	uint64_t bytes;
	char *json;
	void *v[1];
	struct slabd_pool *p = (void *)1;

	cr_assert_eq(slabd_fd(NULL), -EINVAL);
	SAYS("the connection is NULL");
	cr_assert_eq(slabd_dispatch(NULL), -EINVAL);
	cr_assert_eq(slabd_stats_json(NULL, &json), -EINVAL);
	cr_assert_null(json);
	cr_assert_eq(slabd_pool_attach(&p, NULL, "pool", 0), -EINVAL);
	cr_assert_null(p);
	cr_assert_eq(slabd_pool_slot_size(NULL), 0);
	cr_assert_eq(slabd_pool_region(NULL, v, &bytes), -EINVAL);
	cr_assert_null(v[0]);
	SAYS("the pool is NULL");
	cr_assert_eq(slabd_pool_want(NULL, 1), -EINVAL);
	cr_assert_null(slabd_alloc(NULL));
	cr_assert_eq(errno, EINVAL);
	errno = 0;
	cr_assert_null(slabd_alloc_wait(NULL, -1));
	cr_assert_eq(errno, EINVAL);
	cr_assert_eq(slabd_alloc_many(NULL, v, 1), -EINVAL);
	cr_assert_eq(slabd_free(NULL, v), -EINVAL);
	cr_assert_eq(slabd_free_many(NULL, v, 1), -EINVAL);
	cr_assert_eq(slabd_send(NULL, v, &ref), -EINVAL);
	cr_assert_eq(ref, 0);
	cr_assert_eq(slabd_share(NULL, v, 1, &ref), -EINVAL);
	cr_assert_eq(slabd_receive(NULL, 1, v), -EINVAL);
	cr_assert_eq(slabd_recall(NULL, 1), -EINVAL);
	cr_assert_eq(slabd_recall_n(NULL, 1, 1), -EINVAL);
	cr_assert_eq(slabd_flush(NULL, 0), -EINVAL);
	cr_assert_eq(slabd_offset(NULL, v), UINT64_MAX);
	errno = 0;
	cr_assert_null(slabd_at(NULL, 0));
	cr_assert_eq(errno, EINVAL);
	SAYS("the pool is NULL");
	{
		SLABD_SCOPED((struct slabd_pool *)NULL, int, number);
		cr_assert_null(number);
	}
}

/* -------------------------------------------------------- allocating, freeing
 */

struct grant {
	int32_t status;
	uint32_t n;
	uint64_t ref, offset;
};

static const struct grant bad_grants[] = {
    {0, 0, 0, 0},
    {1, 0, 0, 0},
    {1, 2, (1u << 25), 0},
    {2, 2, (1u << 25), 0},
    {1, 1, 1, SLOT_SIZE},		/* version 0 */
    {1, 1, (1u << 25) | 1, 0},		/* another's offset */
    {1, 1, (1u << 25) | (1u << 24), 0}, /* shared */
    {1, 1, (1u << 25) | SEGMENT *SEGMENTS, REGION},
};
static unsigned bad_grant;

static void
grant_badly(int fd)
{
	static struct request rq;
	const struct grant *g = &bad_grants[bad_grant];
	struct wire_writer w;

	welcome_attached(fd);
	expect(fd, &rq, WIRE_ALLOC);
	w = reply(&rq, g->status);
	for (uint32_t i = 0; i < g->n; i++) {
		wire_put_u64(&w, g->ref);
		wire_put_u64(&w, g->offset);
	}
	put(fd, &w);
	expect_end(fd);
}

Test(connection, impossible_grants_end_the_connection)
{
	for (bad_grant = 0;
	     bad_grant < sizeof(bad_grants) / sizeof(bad_grants[0]);
	     bad_grant++) {
		struct slabd *s;

		fake_start(grant_badly, NULL);
		s = open_fake();
		cr_assert_null(slabd_alloc(attach_fake(s, 0)));
		cr_assert_eq(errno, EPROTO, "grant %u", bad_grant);
		fake_end();
		slabd_close(s);
		unlink(scratch_path("sock"));
	}
}

static void
refuse_free(int fd)
{
	static struct request rq;
	struct wire_writer w;

	welcome_attached(fd);
	serve_alloc(fd, 0, 1);
	expect(fd, &rq, WIRE_FREE);
	w = reply(&rq, -EPERM);
	wire_put_u32(&w, 0);
	wire_put_u32(&w, (uint32_t)-EPERM);
	put(fd, &w);
	serve(fd, WIRE_BYE);
}

Test(connection, a_slot_the_daemon_refuses_is_lost)
{
	struct slabd *s;
	struct slabd_pool *p;
	void *v[2];

	fake_start(refuse_free, NULL);
	s = open_fake();
	p = attach_fake(s, 0);
	cr_assert_eq(slabd_alloc_many(p, v, 2), 2);
	cr_assert_eq(slabd_free_many(p, v, 2), -EPERM);
	cr_assert_eq(slabd_free(p, v[0]), -EALREADY);
	cr_assert_eq(slabd_free(p, v[1]), -EPERM);
	slabd_close(s);
	fake_end();
}

static void
refuse_alloc(int fd)
{
	static struct request rq;
	struct wire_writer w;

	welcome_attached(fd);
	expect(fd, &rq, WIRE_ALLOC);
	w = reply(&rq, -ENOBUFS);
	wire_put_bytes(&w, "the camera has them", 19);
	put(fd, &w);
	serve(fd, WIRE_BYE);
}

Test(connection, the_daemons_words_reach_the_caller)
{
	struct slabd *s;

	fake_start(refuse_alloc, NULL);
	s = open_fake();
	cr_assert_null(slabd_alloc(attach_fake(s, 0)));
	cr_assert_eq(errno, ENOBUFS);
	cr_assert_str_eq(slabd_error_detail(), "the camera has them");
	slabd_close(s);
	fake_end();
}

static void
wait_in_vain(int fd)
{
	static struct request rq, cancel;
	struct wire_writer w;

	welcome_attached(fd);
	expect(fd, &rq, WIRE_ALLOC);
	cr_assert_eq(rq.h.flags, WIRE_WAIT);
	expect(fd, &cancel, WIRE_CANCEL);
	cr_assert_eq(wire_get_u32(&cancel.in), rq.h.tag);
	put_plain(fd, &rq, -ECANCELED);
	put_plain(fd, &cancel, 0);
	expect(fd, &rq, WIRE_ALLOC);
	expect(fd, &cancel, WIRE_CANCEL);
	w = reply(&rq, -ECANCELED);
	wire_put_bytes(&w, "pool pool: the camera has them", 30);
	put(fd, &w);
	put_plain(fd, &cancel, 0);
	serve(fd, WIRE_BYE);
}

Test(connection, a_wait_ends_in_time)
{
	struct slabd *s;
	struct slabd_pool *p;

	fake_start(wait_in_vain, NULL);
	s = open_fake();
	p = attach_fake(s, 0);
	cr_assert_null(slabd_alloc_wait(p, 1));
	cr_assert_eq(errno, ETIMEDOUT);
	cr_assert_str_eq(
	    slabd_error_detail(), "pool pool: no slot came free in 1 ms");
	cr_assert_null(slabd_alloc_wait(p, 2));
	cr_assert_eq(errno, ETIMEDOUT);
	cr_assert_str_eq(slabd_error_detail(),
	    "pool pool: no slot came free in 2 ms: the camera has them");
	slabd_close(s);
	fake_end();
}

static void
on_signal(int number)
{
	(void)number;
}

static void
wait_and_signal(int fd)
{
	static struct request rq, cancel;

	welcome_attached(fd);
	expect(fd, &rq, WIRE_ALLOC);
	/* Until it is noticed: the client may not sleep yet. */
	do
		kill(getpid(), SIGUSR1);
	while (!readable(fd, 1));
	expect(fd, &cancel, WIRE_CANCEL);
	put_plain(fd, &rq, -ECANCELED);
	put_plain(fd, &cancel, 0);
	serve(fd, WIRE_BYE);
}

Test(connection, a_signal_ends_a_wait)
{
	struct sigaction action = {
	    .sa_handler = on_signal, .sa_flags = SA_RESTART};
	sigset_t usr1;
	struct slabd *s;

	sigemptyset(&usr1);
	sigaddset(&usr1, SIGUSR1);
	sigaction(SIGUSR1, &action, NULL);
	pthread_sigmask(SIG_BLOCK, &usr1, NULL);
	fake_start(wait_and_signal, NULL);
	s = open_fake();
	pthread_sigmask(SIG_UNBLOCK, &usr1, NULL);
	cr_assert_null(slabd_alloc_wait(attach_fake(s, 0), -1));
	cr_assert_eq(errno, EINTR);
	SAYS("pool pool: a signal handler ran");
	pthread_sigmask(SIG_BLOCK, &usr1, NULL);
	slabd_close(s);
	fake_end();
}

static void
grant_across(int fd)
{
	static struct request rq, cancel;

	welcome_attached(fd);
	expect(fd, &rq, WIRE_ALLOC);
	expect(fd, &cancel, WIRE_CANCEL);
	put_grant(fd, &rq, 3, 1, 1);
	put_plain(fd, &cancel, -ENOENT);
	serve_free(fd, ref_make(3, false, 1));
	serve(fd, WIRE_BYE);
}

Test(connection, a_grant_that_crosses_the_cancel_is_kept)
{
	struct slabd *s;
	struct slabd_pool *p;
	void *slot;

	fake_start(grant_across, NULL);
	s = open_fake();
	p = attach_fake(s, 0);
	slot = slabd_alloc_wait(p, 1);
	cr_assert_eq(slot, slabd_at(p, OFFSET(3)));
	cr_assert_eq(slabd_free(p, slot), 0);
	slabd_close(s);
	fake_end();
}

static void
flush_in_vain(int fd)
{
	static struct request rq, cancel;
	struct wire_writer w;

	welcome_attached(fd);
	expect(fd, &rq, WIRE_FLUSH);
	put_plain(fd, &rq, 5);
	expect(fd, &rq, WIRE_FLUSH);
	cr_assert_eq(rq.h.flags, WIRE_WAIT);
	expect(fd, &cancel, WIRE_CANCEL);
	put_plain(fd, &cancel, 0);
	w = reply(&rq, -ECANCELED);
	wire_put_u32(&w, 4);
	put(fd, &w);
	expect(fd, &rq, WIRE_FLUSH);
	put_plain(fd, &rq, 0);
	serve(fd, WIRE_BYE);
}

Test(connection, flush_counts_what_is_open)
{
	struct slabd *s;
	struct slabd_pool *p;

	fake_start(flush_in_vain, NULL);
	s = open_fake();
	p = attach_fake(s, 0);
	cr_assert_eq(slabd_flush(p, 0), 5);
	cr_assert_eq(slabd_flush(p, 1), 4);
	cr_assert_eq(slabd_flush(p, -1), 0);
	slabd_close(s);
	fake_end();
}

/* ----------------------------------------------------------------- handing off
 */

#define SHARED ref_make(2, true, 9)

static void
free_while_receiving(int fd)
{
	static struct request first, second;

	welcome_attached(fd);
	expect(fd, &first, WIRE_RECEIVE);
	expect(fd, &second, WIRE_RECEIVE);
	put_received(fd, &first, SHARED);
	/* It is freed now, but the other receive may still be granted. */
	serve(fd, WIRE_PING);
	put_plain(fd, &second, -ESTALE);
	serve_free(fd, SHARED);
	serve(fd, WIRE_BYE);
}

static struct slabd *contested;

static void *
receive_and_free(void *arg)
{
	void *slot;
	int err = slabd_receive(arg, SHARED, &slot);

	if (err == 0) {
		cr_assert_eq(slabd_free(arg, slot), 0);
		ask(contested, WIRE_PING);
	} else
		cr_assert_eq(err, -ESTALE);
	return NULL;
}

Test(connection, a_shared_slot_is_not_freed_under_a_receive)
{
	pthread_t thread;
	struct slabd_pool *p;

	fake_start(free_while_receiving, NULL);
	contested = open_fake();
	p = attach_fake(contested, 0);
	pthread_create(&thread, NULL, receive_and_free, p);
	receive_and_free(p);
	pthread_join(thread, NULL);
	slabd_close(contested);
	fake_end();
}

static void
send_and_refuse(int fd)
{
	static struct request rq;

	welcome_attached(fd);
	serve_alloc(fd, 0, 1);
	expect(fd, &rq, WIRE_SEND);
	put_plain(fd, &rq, -EAGAIN);
	serve_ref(fd, WIRE_SHARE, ref_make(0, true, 2));
	serve_free(fd, ref_make(0, true, 2));
	serve_alloc(fd, 1, 1);
	serve_ref(fd, WIRE_SEND, ref_make(1, false, 2));
	expect(fd, &rq, WIRE_RECALL);
	cr_assert_eq(wire_get_u64(&rq.in), ref_make(1, false, 2));
	cr_assert_eq(wire_get_u32(&rq.in), 0);
	put_plain(fd, &rq, 1);
	expect(fd, &rq, WIRE_SEND);
	cr_assert_eq(wire_get_u64(&rq.in), ref_make(1, false, 2));
	put_plain(fd, &rq, -EPERM);
	serve(fd, WIRE_BYE);
}

Test(connection, a_failed_send_leaves_the_slot)
{
	struct slabd *s;
	struct slabd_pool *p;
	slabd_ref ref;
	void *slot;

	fake_start(send_and_refuse, NULL);
	s = open_fake();
	p = attach_fake(s, 0);
	slot = slabd_alloc(p);
	cr_assert_eq(slabd_send(p, slot, &ref), -EAGAIN);
	cr_assert_eq(ref, 0);
	cr_assert_eq(slabd_share(p, slot, 1, &ref), 0);
	cr_assert_eq(ref, ref_make(0, true, 2));
	cr_assert_eq(slabd_send(p, slot, &ref), -EBUSY);
	SAYS("the slot is shared");
	cr_assert_eq(slabd_free(p, slot), 0);
	slot = slabd_alloc(p);
	cr_assert_eq(slabd_send(p, slot, &ref), 0);
	cr_assert_eq(slabd_free(p, slot), -EPERM);
	cr_assert_eq(slabd_recall(p, ref), 1);
	cr_assert_eq(slabd_send(p, slot, &ref), -EPERM);
	cr_assert_eq(slabd_free(p, slot), -EPERM, "lost");
	slabd_close(s);
	fake_end();
}

/* --------------------------------------------------------------- many threads
 */

static void
answer_backwards(int fd)
{
	static struct request rq[2];

	welcome_attached(fd);
	expect(fd, &rq[0], WIRE_RECEIVE);
	expect(fd, &rq[1], WIRE_RECEIVE);
	for (int i = 1; i >= 0; i--)
		put_received(fd, &rq[i], wire_get_u64(&rq[i].in));
	serve(fd, WIRE_BYE);
}

struct receiver {
	struct slabd_pool *pool;
	slabd_ref ref;
	void *slot;
};

static void *
receive(void *arg)
{
	struct receiver *r = arg;

	cr_assert_eq(slabd_receive(r->pool, r->ref, &r->slot), 0);
	return NULL;
}

Test(connection, answers_find_their_callers)
{
	struct slabd *s;
	struct slabd_pool *p;
	struct receiver r[2];
	pthread_t thread;

	fake_start(answer_backwards, NULL);
	s = open_fake();
	p = attach_fake(s, 0);
	r[0] = (struct receiver){p, ref_make(0, false, 3), NULL};
	r[1] = (struct receiver){p, ref_make(1, false, 4), NULL};
	pthread_create(&thread, NULL, receive, &r[0]);
	receive(&r[1]);
	pthread_join(thread, NULL);
	cr_assert_eq(r[0].slot, slabd_at(p, 0));
	cr_assert_eq(r[1].slot, slabd_at(p, SLOT_SIZE));
	slabd_close(s);
	fake_end();
}

/* A daemon that grants the lowest free slot and takes back what it gave. */
static void
serve_all(int fd)
{
	static struct request rq;
	bool out[SEGMENT * SEGMENTS] = {false};
	uint64_t version = 0, ref;
	uint32_t i;

	welcome_attached(fd);
	for (;;) {
		cr_assert(get(fd, &rq));
		switch (rq.h.type) {
		case WIRE_ALLOC:
			for (i = 0; out[i]; i++)
				cr_assert_lt(i, SEGMENT * SEGMENTS - 1);
			out[i] = true;
			put_grant(fd, &rq, i, 1, ++version);
			break;
		case WIRE_FREE:
			ref = wire_get_u64(&rq.in);
			cr_assert(out[ref_slot(ref)]);
			out[ref_slot(ref)] = false;
			put_plain(fd, &rq, 1);
			break;
		default:
			put_plain(fd, &rq, 0);
			return;
		}
	}
}

Test(connection, threads_share_one_handle)
{
	struct slabd *s;

	fake_start(serve_all, NULL);
	s = open_fake();
	churn(attach_fake(s, 0));
	slabd_close(s);
	fake_end();
}

/* --------------------------------------------------------- losing the daemon
 */

static void
die_unanswering(int fd)
{
	static struct request rq;

	welcome_attached(fd);
	serve_alloc(fd, 0, 1);
	expect(fd, &rq, WIRE_PING);
}

static void
be_new(int fd)
{
	welcome_attached(fd);
	serve_alloc(fd, 0, 1);
	serve(fd, WIRE_BYE);
}

Test(connection, survives_the_daemon)
{
	struct slabd *s;
	struct slabd_pool *p, *fresh;
	void *slot;
	slabd_ref ref;
	int fd;

	fake_start(die_unanswering, be_new);
	s = open_fake();
	fd = slabd_fd(s);
	p = attach_fake(s, 0);
	slot = slabd_alloc(p);
	cr_assert_eq(ask(s, WIRE_PING), -ENOTCONN);
	cr_assert(readable(fd, 0), "the loss is news");
	cr_assert_eq(slabd_dispatch(s), -ENOTCONN);
	cr_assert(!readable(fd, 0), "but told once");
	cr_assert_eq(slabd_free(p, slot), -ENOTRECOVERABLE);
	SAYS("pool pool: ");
	SAYS("detach it and attach it again");
	cr_assert_eq(fake.asked, 1, "the old session was asked for");
	cr_assert_eq(slabd_send(p, slot, &ref), -ENOTRECOVERABLE);
	cr_assert_null(slabd_alloc(p));
	cr_assert_eq(errno, ENOTRECOVERABLE);
	fresh = attach_fake(s, 0);
	cr_assert_not_null(slabd_alloc(fresh));
	slabd_pool_detach(p);
	cr_assert_eq(slabd_fd(s), fd);
	cr_assert_eq(slabd_dispatch(s), 1, "that there is one again is news");
	slabd_close(s);
	fake_end();
}

static void
say_and_die(int fd)
{
	static struct request rq;

	welcome(fd);
	expect(fd, &rq, WIRE_PING);
	put_plain(fd, &rq, 0);
}

Test(connection, without_a_daemon_calls_fail)
{
	struct slabd *s;

	fake_start(say_and_die, NULL);
	s = open_fake();
	cr_assert_eq(ask(s, WIRE_PING), 0);
	fake_end();
	unlink(scratch_path("sock"));
	for (int i = 0; i < 3; i++)
		cr_assert_eq(ask(s, WIRE_PING), -ENOTCONN);
	cr_assert_not_null(strstr(slabd_error_detail(), "/sock"));
	slabd_close(s);
}

/* -------------------------------------------------------------------- events
 */

static void
retire(int fd)
{
	static struct request rq;
	struct wire_writer w;

	welcome_attached(fd);
	serve_alloc(fd, 0, 1);
	expect(fd, &rq, WIRE_PING);
	w = event(WIRE_EVENT_RETIRED);
	put(fd, &w);
	put_plain(fd, &rq, 0);
	serve_free(fd, ref_make(0, false, 1));
	serve(fd, WIRE_BYE);
}

Test(connection, a_retired_pool_takes_back_only)
{
	struct slabd *s;
	struct slabd_pool *p;
	void *slot;

	fake_start(retire, NULL);
	s = open_fake();
	p = attach_fake(s, 0);
	slot = slabd_alloc(p);
	/* This call takes the event from the socket; it is news all the same.
	 */
	cr_assert_eq(ask(s, WIRE_PING), 0);
	cr_assert(readable(slabd_fd(s), 0));
	cr_assert_eq(slabd_dispatch(s), 1);
	cr_assert(!readable(slabd_fd(s), 0));
	cr_assert_eq(slabd_dispatch(s), 0);
	cr_assert_null(slabd_alloc(p));
	cr_assert_eq(errno, ESHUTDOWN);
	cr_assert_eq(slabd_pool_want(p, 1), -ESHUTDOWN);
	cr_assert_eq(slabd_free(p, slot), 0);
	slabd_close(s);
	fake_end();
}

static void
put_resized(int fd, uint64_t bytes, uint32_t segments)
{
	struct wire_writer w = event(WIRE_EVENT_RESIZED);

	wire_put_u64(&w, bytes);
	wire_put_u32(&w, segments);
	put(fd, &w);
}

static void
grow(int fd)
{
	static struct request rq;

	welcome_attached(fd);
	serve_alloc(fd, 0, 1);
	cr_assert_eq(ftruncate(fake.region, 2 * REGION), 0);
	put_resized(fd, 2 * REGION, 2 * SEGMENTS);
	expect(fd, &rq, WIRE_EXTEND);
	cr_assert_eq(rq.h.attachment, POOL);
	cr_assert_eq(wire_get_u32(&rq.in), 2 * SEGMENTS);
	put_plain(fd, &rq, 0);
	serve_alloc(fd, 2 * SEGMENT * SEGMENTS - 1, 1);
	serve(fd, WIRE_BYE);
}

Test(connection, a_pool_grows_in_place)
{
	struct slabd *s;
	struct slabd_pool *p;
	char *first, *last;
	uint64_t bytes;
	void *base;

	fake_start(grow, NULL);
	s = open_fake();
	p = attach_fake(s, 0);
	first = slabd_alloc(p);
	memset(first, 'x', SLOT_SIZE);
	cr_assert(readable(slabd_fd(s), -1));
	cr_assert_eq(slabd_dispatch(s), 1);
	last = slabd_alloc(p);
	cr_assert_eq(last - first, 2 * (ptrdiff_t)REGION - SLOT_SIZE);
	memset(last, 'y', SLOT_SIZE);
	cr_assert_eq(first[0], 'x');
	slabd_pool_region(p, &base, &bytes);
	cr_assert_eq(base, first);
	cr_assert_eq(bytes, 2 * REGION);
	slabd_close(s);
	fake_end();
}

static void
grow_wrongly(int fd)
{
	welcome_attached(fd);
	put_resized(fd, 2 * REGION, 2 * SEGMENTS); /* the region did not */
	serve(fd, WIRE_PING);
	put_resized(fd, 2 * REGION, 0); /* and this cannot be */
	expect_end(fd);
}

Test(connection, growth_is_checked)
{
	struct slabd *s;
	struct slabd_pool *p;

	fake_start(grow_wrongly, NULL);
	s = open_fake();
	p = attach_fake(s, 0);
	readable(slabd_fd(s), -1);
	/* A client may have cut it; what is not there is not used. */
	cr_assert_geq(slabd_dispatch(s), 0);
	cr_assert_null(slabd_at(p, REGION));
	cr_assert_eq(ask(s, WIRE_PING), 0);
	readable(slabd_fd(s), -1);
	cr_assert_eq(slabd_dispatch(s), -ENOTCONN);
	cr_assert_null(slabd_at(p, REGION));
	fake_end();
	slabd_close(s);
}

/* ------------------------------------------------------------- asynchronously
 */

static void
reserve(int fd)
{
	static struct request rq, cancel, more;

	welcome_attached(fd);
	expect(fd, &rq, WIRE_ALLOC);
	cr_assert_eq(rq.h.flags, WIRE_WAIT);
	cr_assert_eq(wire_get_u32(&rq.in), 2);
	put_grant(fd, &rq, 0, 2, 1);
	/* One was taken; for three, two more are asked for, then withdrawn. */
	expect(fd, &more, WIRE_ALLOC);
	cr_assert_eq(wire_get_u32(&more.in), 2);
	expect(fd, &cancel, WIRE_CANCEL);
	cr_assert_eq(wire_get_u32(&cancel.in), more.h.tag);
	put_grant(fd, &more, 4, 2, 1);
	put_plain(fd, &cancel, -ENOENT);
	expect(fd, &rq, WIRE_FREE);
	cr_assert_eq(wire_get_u64(&rq.in), ref_make(4, false, 1));
	cr_assert_eq(wire_get_u64(&rq.in), ref_make(5, false, 1));
	put_plain(fd, &rq, 2);
	serve_free(fd, ref_make(0, false, 1));
	serve(fd, WIRE_BYE);
}

Test(connection, slots_are_reserved_ahead)
{
	struct slabd *s;
	struct slabd_pool *p;

	fake_start(reserve, NULL);
	s = open_fake();
	p = attach_fake(s, 0);
	cr_assert_eq(slabd_pool_want(p, 2), 0);
	cr_assert(readable(slabd_fd(s), -1));
	cr_assert_eq(slabd_dispatch(s), 1);
	cr_assert_eq(slabd_pool_want(p, 1), 0, "there are");
	cr_assert(readable(slabd_fd(s), 0));
	cr_assert_eq(slabd_dispatch(s), 1);
	cr_assert_eq(slabd_alloc(p), slabd_at(p, OFFSET(1)));
	cr_assert_eq(slabd_pool_want(p, 3), 0);
	cr_assert_eq(slabd_pool_want(p, 0), 0);
	slabd_close(s);
	fake_end();
}

static void
serve_later(int fd)
{
	static struct request rq;
	struct wire_writer w;

	welcome_attached(fd);
	serve_alloc(fd, 0, 1);
	serve_ref(fd, WIRE_SEND, ref_make(0, false, 2));
	expect(fd, &rq, WIRE_RECEIVE);
	put_received(fd, &rq, ref_make(0, false, 2));
	expect(fd, &rq, WIRE_FREE);
	w = reply(&rq, -EALREADY);
	wire_put_u32(&w, (uint32_t)-EALREADY);
	put(fd, &w);
	expect(fd, &rq, WIRE_ALLOC);
	put_plain(fd, &rq, -ENOBUFS);
	serve(fd, WIRE_BYE);
}

/* Runs a call until its result is there. */
#define UNTIL_DONE(s, err, call)                           \
	do {                                               \
		(err) = (call);                            \
		cr_assert_eq((err), -EAGAIN, "%d", (err)); \
		cr_assert(readable(slabd_fd(s), -1));      \
		cr_assert_geq(slabd_dispatch(s), 0);       \
		(err) = (call);                            \
	} while ((err) == -EAGAIN)

Test(connection, non_blocking_calls_are_asked_for_later)
{
	struct slabd *s;
	struct slabd_pool *p;
	slabd_ref ref;
	void *slot = NULL, *again;
	int err;

	fake_start(serve_later, NULL);
	s = open_fake();
	p = attach_fake(s, SLABD_NONBLOCK);
	UNTIL_DONE(s, err, slabd_alloc_many(p, &slot, 1));
	cr_assert_eq(err, 1);
	UNTIL_DONE(s, err, slabd_send(p, slot, &ref));
	cr_assert_eq(err, 0);
	cr_assert_eq(ref, ref_make(0, false, 2));
	UNTIL_DONE(s, err, slabd_receive(p, ref, &again));
	cr_assert_eq(err, 0);
	cr_assert_eq(again, slot);
	cr_assert_eq(slabd_free(p, slot), 0, "does not wait");
	cr_assert_eq(slabd_free(p, slot), -EALREADY);
	cr_assert(readable(slabd_fd(s), -1));
	cr_assert_eq(slabd_dispatch(s), 1, "the refusal is news");
	cr_assert_eq(slabd_free(p, slot), -EPERM, "lost");
	UNTIL_DONE(s, err, slabd_alloc_many(p, &slot, 1));
	cr_assert_eq(err, -ENOBUFS);
	slabd_close(s);
	fake_end();
}

static void
answer_in_passing(int fd)
{
	static struct request rq, ping;

	welcome_attached(fd);
	expect(fd, &rq, WIRE_ALLOC);
	expect(fd, &ping, WIRE_PING);
	put_grant(fd, &rq, 2, 1, 1);
	put_plain(fd, &ping, 0);
	serve(fd, WIRE_BYE);
}

Test(connection, an_answer_taken_by_another_call_is_news)
{
	struct slabd *s;
	struct slabd_pool *p;

	fake_start(answer_in_passing, NULL);
	s = open_fake();
	p = attach_fake(s, SLABD_NONBLOCK);
	cr_assert_null(slabd_alloc(p));
	cr_assert_eq(errno, EAGAIN);
	cr_assert_eq(ask(s, WIRE_PING), 0);
	cr_assert(readable(slabd_fd(s), 0));
	cr_assert_eq(slabd_dispatch(s), 1);
	cr_assert(!readable(slabd_fd(s), 0));
	cr_assert_eq(slabd_alloc(p), slabd_at(p, OFFSET(2)));
	slabd_close(s);
	fake_end();
}

static pthread_barrier_t full;

static void
read_late(int fd)
{
	static struct request rq;
	unsigned frees = 0;

	welcome_attached(fd);
	expect(fd, &rq, WIRE_RECEIVE);
	put_received(fd, &rq, ref_make(0, false, 1));
	pthread_barrier_wait(&full);
	while (get(fd, &rq) && rq.h.type != WIRE_BYE) {
		frees += rq.h.type == WIRE_FREE;
		put_plain(fd, &rq, rq.h.type == WIRE_RECEIVE ? -ESTALE : 1);
	}
	cr_assert_eq(frees, 1);
	put_plain(fd, &rq, 0);
}

Test(connection, a_socket_without_room_is_told)
{
	struct slabd *s;
	struct slabd_pool *p;
	void *slot, *none;
	uint64_t version = 2;
	int err;

	pthread_barrier_init(&full, NULL, 2);
	fake_start(read_late, NULL);
	s = open_fake();
	p = attach_fake(s, SLABD_NONBLOCK);
	UNTIL_DONE(s, err, slabd_receive(p, ref_make(0, false, 1), &slot));
	cr_assert_eq(err, 0);
	/* Until nothing more fits, which shows in that a free does not. */
	do {
		err = slabd_receive(p, ref_make(1, false, version++), &none);
		cr_assert_eq(err, -EAGAIN);
	} while (version < 2000);
	cr_assert_eq(slabd_free(p, slot), -EAGAIN);
	cr_assert_eq(slabd_free(p, slot), -EAGAIN, "it is still ours");
	pthread_barrier_wait(&full);
	while ((err = slabd_free(p, slot)) == -EAGAIN)
		slabd_dispatch(s);
	cr_assert_eq(err, 0);
	slabd_close(s);
	fake_end();
}

/* ---------------------------------------------------------------------- fork
 */

static void
serve_parent(int fd)
{
	welcome_attached(fd);
	serve_alloc(fd, 0, 1);
	serve_free(fd, ref_make(0, false, 1));
	serve(fd, WIRE_BYE);
}

static struct {
	struct slabd *s;
	struct slabd_pool *p;
	void *slot;
} inherited;

static int
use_inherited(void *arg)
{
	struct slabd_pool *p = inherited.p, *other;
	void *v[1] = {inherited.slot};
	slabd_ref ref;
	char *json;

	(void)arg;
	CHECK(slabd_fd(inherited.s) == -EOWNERDEAD);
	CHECK(slabd_dispatch(inherited.s) == -EOWNERDEAD);
	CHECK(slabd_stats_json(inherited.s, &json) == -EOWNERDEAD);
	CHECK(slabd_pool_attach(&other, inherited.s, "pool", 0) == -EOWNERDEAD);
	CHECK(slabd_pool_region(p, v, NULL) == -EOWNERDEAD && v[0] == NULL);
	CHECK(slabd_pool_want(p, 1) == -EOWNERDEAD);
	CHECK(slabd_alloc(p) == NULL && errno == EOWNERDEAD);
	CHECK(slabd_alloc_wait(p, 0) == NULL && errno == EOWNERDEAD);
	CHECK(slabd_alloc_many(p, v, 1) == -EOWNERDEAD);
	CHECK(slabd_free(p, inherited.slot) == -EOWNERDEAD);
	CHECK(slabd_free_many(p, v, 1) == -EOWNERDEAD);
	CHECK(slabd_send(p, inherited.slot, &ref) == -EOWNERDEAD);
	CHECK(slabd_share(p, inherited.slot, 1, &ref) == -EOWNERDEAD);
	CHECK(slabd_receive(p, ref_make(0, false, 1), v) == -EOWNERDEAD);
	CHECK(slabd_recall(p, ref_make(0, false, 1)) == -EOWNERDEAD);
	CHECK(slabd_flush(p, 0) == -EOWNERDEAD);
	CHECK(slabd_at(p, 0) == NULL);
	CHECK(slabd_offset(p, inherited.slot) == UINT64_MAX);
	slabd_pool_detach(p);
	slabd_close(inherited.s);
	return 0;
}

Test(connection, a_forked_child_inherits_nothing)
{
	fake_start(serve_parent, NULL);
	inherited.s = open_fake();
	inherited.p = attach_fake(inherited.s, 0);
	inherited.slot = slabd_alloc(inherited.p);
	child_check(use_inherited, NULL);
	cr_assert_eq(slabd_free(inherited.p, inherited.slot), 0);
	slabd_close(inherited.s);
	fake_end();
}

/* ----------------------------------------------------------------- documents
 */

static void
serve_document(int fd)
{
	static struct request rq;
	struct wire_writer w;
	int doc = memfd_create("doc", MFD_CLOEXEC);

	cr_assert_eq(write(doc, "{\"a\":1}", 7), 7);
	welcome(fd);
	for (uint64_t bytes = 7; bytes < 9; bytes++) {
		expect(fd, &rq, WIRE_STATS);
		w = reply(&rq, 0);
		wire_put_u64(&w, bytes);
		put_fd(fd, &w, doc);
	}
	expect(fd, &rq, WIRE_STATS);
	w = reply(&rq, 0);
	wire_put_u64(&w, 7);
	put(fd, &w);
	serve(fd, WIRE_BYE);
	close(doc);
}

Test(connection, documents_are_read_and_checked)
{
	struct slabd *s;
	unsigned before;
	char *json;

	fake_start(serve_document, NULL);
	s = open_fake();
	before = open_fds();
	cr_assert_eq(slabd_stats_json(s, &json), 0);
	cr_assert_str_eq(json, "{\"a\":1}");
	free(json);
	cr_assert_eq(slabd_stats_json(s, &json), -EPROTO, "longer than it is");
	cr_assert_null(json);
	cr_assert_eq(slabd_stats_json(s, &json), -EPROTO, "no descriptor");
	cr_assert_eq(open_fds(), before);
	slabd_close(s);
	fake_end();
}

Test(connection, errors_have_words)
{
	cr_assert_str_eq(slabd_strerror(-ENOBUFS), slabd_strerror(ENOBUFS));
	cr_assert_not_null(slabd_strerror(123456));
	cr_assert_null(strstr(slabd_strerror(EBUSY), "slot"));
	cr_assert_str_neq(slabd_strerror(EUSERS), strerror(EUSERS));
	cr_assert_str_eq(slabd_version(), SLABD_VERSION);
}
