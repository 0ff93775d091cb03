/*
 * Reader, worker and collector; stages.h says how they share a chunk.
 */
#include "config.h"

#include <sys/stat.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "message.h"
#include "sha256.h"
#include "stages.h"

/* What every stage has. */
struct stage {
	const char *name;
	const struct plan *plan;
	int channel;
	struct slabd *slabd;
	struct slabd_pool *pool;
};

/* A chunk under way; the reader and the collector keep plan->window of them. */
struct chunk {
	bool there;
	void *slot; /* the reader's */
	struct message m;
};

/* Says what failed: 1, the exit status. */
static int
fail(const struct stage *st, const char *what, int err)
{
	fprintf(stderr, "filepipe: %s: %s: %s\n", st->name, what,
	    strerror(err < 0 ? -err : err));
	return 1;
}

/* The same for calls of libslabd, which explains itself better. */
static int
refused(const struct stage *st, const char *what)
{
	fprintf(stderr, "filepipe: %s: %s: %s\n", st->name, what,
	    slabd_error_detail());
	return 1;
}

/* 0, or 1 and it was said. */
static int
stage_begin(struct stage *st, unsigned flags)
{
	struct slabd_options opt = SLABD_OPTIONS_INIT;
	char label[64];

	snprintf(label, sizeof(label), "filepipe %s", st->name);
	opt.socket_path = st->plan->socket;
	opt.label = label;
	if (slabd_open_options(&st->slabd, &opt) < 0)
		return refused(st, "no connection to slabd");
	if (slabd_pool_attach(&st->pool, st->slabd, st->plan->pool, flags) < 0)
		return refused(st, st->plan->pool);
	return 0;
}

static void
stage_end(struct stage *st)
{
	slabd_pool_detach(st->pool);
	slabd_close(st->slabd);
}

static int
tell(const struct stage *st, const struct message *m)
{
	int err = message_send(st->channel, m);

	return err < 0 ? fail(st, "no word to the dispatcher", err) : 0;
}

/* Up to `len` bytes, fewer only at the end of the file. */
static ssize_t
read_all(int fd, uint8_t *buf, size_t len)
{
	size_t have = 0;
	ssize_t n;

	while (have < len) {
		n = read(fd, buf + have, len - have);
		if (n == 0)
			break;
		if (n < 0 && errno != EINTR)
			return -errno;
		if (n > 0)
			have += (size_t)n;
	}
	return (ssize_t)have;
}

static int
write_all(int fd, const uint8_t *buf, size_t len)
{
	ssize_t n;

	while (len > 0) {
		n = write(fd, buf, len);
		if (n < 0 && errno != EINTR)
			return -errno;
		if (n > 0) {
			buf += n;
			len -= (size_t)n;
		}
	}
	return 0;
}

/* The reader: chunks oldest to next - 1 are under way. */
struct reader {
	struct stage stage;
	struct chunk *chunks; /* [index % window] */
	uint64_t oldest, next;
	struct sha256 whole;
};

static int
reader_announce(struct reader *r)
{
	size_t size = slabd_pool_slot_size(r->stage.pool);
	struct message m = {.kind = MESSAGE_INPUT, .bytes = (uint32_t)size};
	struct stat sb;

	if (fstat(r->stage.plan->input, &sb) < 0)
		return fail(&r->stage, "input", errno);
	if (S_ISREG(sb.st_mode))
		m.index = ((uint64_t)sb.st_size + size - 1) / size;
	return tell(&r->stage, &m);
}

/* Waits until the oldest chunk is in the output, and gives its slot back. */
static int
reader_retire(struct reader *r)
{
	struct stage *st = &r->stage;
	struct chunk *c = &r->chunks[r->oldest % st->plan->window];
	struct message m;

	if (message_receive(st->channel, &m) != 1)
		return 1; /* the dispatcher has given up, and said why */
	if (m.kind != MESSAGE_WRITTEN || m.index != r->oldest)
		return fail(st, "the dispatcher is confused", EBADMSG);
	if (slabd_recall(st->pool, c->m.ref) < 0)
		return refused(st, "recall");
	if (slabd_free(st->pool, c->slot) < 0)
		return refused(st, "free");
	r->oldest++;
	return 0;
}

/*
 * A slot to read into. Slots that others free are waited for only when we have
 * none that will come back.
 */
static void *
reader_slot(struct reader *r)
{
	struct stage *st = &r->stage;
	void *slot = NULL;

	while (slot == NULL) {
		bool full = r->next - r->oldest == st->plan->window;

		if (!full && (slot = slabd_alloc(st->pool)) != NULL)
			break;
		if (r->oldest == r->next) {
			if (errno == ENOBUFS)
				slot = slabd_alloc_wait(st->pool, -1);
			if (slot == NULL)
				refused(st, "no slot");
			break;
		}
		if (!full && errno != ENOBUFS && errno != ENOSPC &&
		    errno != EDQUOT) {
			refused(st, "no slot");
			break;
		}
		if (reader_retire(r) != 0)
			break;
	}
	return slot;
}

/* Reads one chunk and offers it: 1, 0 at the end of the input, -1. */
static int
reader_chunk(struct reader *r)
{
	struct stage *st = &r->stage;
	struct chunk *c = &r->chunks[r->next % st->plan->window];
	void *slot = reader_slot(r);
	ssize_t n;

	if (slot == NULL)
		return -1;
	n = read_all(st->plan->input, slot, slabd_pool_slot_size(st->pool));
	if (n <= 0) {
		slabd_free(st->pool, slot);
		return n == 0 ? 0 : -fail(st, "input", (int)n);
	}
	sha256_add(&r->whole, slot, (size_t)n);
	*c = (struct chunk){true, slot,
	    {.kind = MESSAGE_CHUNK, .bytes = (uint32_t)n, .index = r->next}};
	if (slabd_share(st->pool, slot, STAGES_TRIES_MAX + 1, &c->m.ref) < 0)
		return -refused(st, "share");
	r->next++;
	return tell(st, &c->m) != 0 ? -1 : 1;
}

static int
reader_all(struct reader *r)
{
	struct message end = {.kind = MESSAGE_END};
	int more = 1;

	if (reader_announce(r) != 0)
		return 1;
	while (more > 0)
		more = reader_chunk(r);
	while (more == 0 && r->oldest < r->next)
		more = -reader_retire(r);
	if (more < 0)
		return 1;
	end.index = r->next;
	sha256_end(&r->whole, end.digest);
	return tell(&r->stage, &end);
}

int
reader_run(const struct plan *plan, int channel)
{
	struct reader r = {
	    .stage = {.name = "reader", .plan = plan, .channel = channel}};
	int status;

	r.chunks = calloc(plan->window, sizeof(*r.chunks));
	if (r.chunks == NULL)
		return fail(&r.stage, "chunks", errno);
	sha256_begin(&r.whole);
	status = stage_begin(&r.stage, 0);
	if (status == 0)
		status = reader_all(&r);
	stage_end(&r.stage);
	free(r.chunks);
	return status;
}

static void
digest_of(const void *data, size_t len, uint8_t digest[SHA256_BYTES])
{
	struct sha256 h;

	sha256_begin(&h);
	sha256_add(&h, data, len);
	sha256_end(&h, digest);
}

static int
worker_chunk(struct stage *st, struct message *m)
{
	void *slot;

	if (slabd_receive(st->pool, m->ref, &slot) < 0)
		return refused(st, "receive");
	digest_of(slot, m->bytes, m->digest);
	if (slabd_free(st->pool, slot) < 0)
		return refused(st, "free");
	m->kind = MESSAGE_DONE;
	return tell(st, m);
}

int
worker_run(const struct plan *plan, int channel)
{
	struct stage st = {.name = "worker", .plan = plan, .channel = channel};
	struct message m;
	int status = stage_begin(&st, SLABD_RDONLY);

	while (status == 0 && message_receive(channel, &m) == 1)
		status = worker_chunk(&st, &m);
	stage_end(&st);
	return status;
}

/* The collector: chunks before next are in the output. */
struct collector {
	struct stage stage;
	struct chunk *chunks; /* done and not written yet, [index % window] */
	uint64_t next;
	struct sha256 whole;
};

static int
collector_write(struct collector *c, const struct message *m)
{
	struct stage *st = &c->stage;
	struct message written = {.kind = MESSAGE_WRITTEN, .index = m->index};
	uint8_t digest[SHA256_BYTES];
	void *slot;
	int err;

	if (slabd_receive(st->pool, m->ref, &slot) < 0)
		return refused(st, "receive");
	digest_of(slot, m->bytes, digest);
	if (memcmp(digest, m->digest, sizeof(digest)) != 0)
		return fail(st, "a chunk is not what the worker saw", EBADMSG);
	sha256_add(&c->whole, slot, m->bytes);
	err = write_all(st->plan->output, slot, m->bytes);
	if (err < 0)
		return fail(st, "output", err);
	if (slabd_free(st->pool, slot) < 0)
		return refused(st, "free");
	return tell(st, &written);
}

/* Keeps a chunk that is done, and writes all whose turn has come. */
static int
collector_take(struct collector *c, const struct message *m)
{
	unsigned window = c->stage.plan->window;
	struct chunk *at = &c->chunks[m->index % window];

	*at = (struct chunk){.there = true, .m = *m};
	for (at = &c->chunks[c->next % window]; at->there;
	     at = &c->chunks[++c->next % window]) {
		at->there = false;
		if (collector_write(c, &at->m) != 0)
			return 1;
	}
	return 0;
}

static int
collector_all(struct collector *c)
{
	struct stage *st = &c->stage;
	struct message m;

	for (;;) {
		if (message_receive(st->channel, &m) != 1)
			return 1; /* the dispatcher has given up */
		if (m.kind == MESSAGE_END)
			break;
		if (collector_take(c, &m) != 0)
			return 1;
	}
	if (m.index != c->next)
		return fail(st, "chunks are missing", EBADMSG);
	sha256_end(&c->whole, m.digest);
	return tell(st, &m);
}

int
collector_run(const struct plan *plan, int channel)
{
	struct collector c = {
	    .stage = {.name = "collector", .plan = plan, .channel = channel}};
	int status;

	c.chunks = calloc(plan->window, sizeof(*c.chunks));
	if (c.chunks == NULL)
		return fail(&c.stage, "chunks", errno);
	sha256_begin(&c.whole);
	status = stage_begin(&c.stage, SLABD_RDONLY);
	if (status == 0)
		status = collector_all(&c);
	stage_end(&c.stage);
	free(c.chunks);
	return status;
}
