/*
 * Statistics and other documents, built with cJSON. Counters are written as raw
 * text: a double cannot hold 64 bits.
 */
#include "config.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "client.h"
#include "daemon.h"
#include "document.h"
#include "event.h"
#include "lanes.h"
#include "pool.h"

#define ROOM_MAX (1 << 26) /* bytes reserved for printing at first */

/* Something had no room in the document being made: there will be none. */
static bool incomplete;

/* The item, or NULL: it is gone. */
static cJSON *
add(cJSON *to, const char *key, cJSON *item)
{
	if (item != NULL && cJSON_AddItemToObjectCS(to, key, item))
		return item;
	cJSON_Delete(item);
	incomplete = true;
	return NULL;
}

static void
add_u64(cJSON *to, const char *key, uint64_t value)
{
	char text[24];

	snprintf(text, sizeof(text), "%" PRIu64, value);
	add(to, key, cJSON_CreateRaw(text));
}

static void
add_tenths(cJSON *to, const char *key, uint64_t tenths)
{
	char text[32];

	snprintf(text, sizeof(text), "%" PRIu64 ".%u", tenths / 10,
	    (unsigned)(tenths % 10));
	add(to, key, cJSON_CreateRaw(text));
}

static void
add_text(cJSON *to, const char *key, const char *text)
{
	add(to, key, cJSON_CreateString(text));
}

static cJSON *
add_array(cJSON *to, const char *key)
{
	return add(to, key, cJSON_CreateArray());
}

static cJSON *
append_object(cJSON *array)
{
	cJSON *object = cJSON_CreateObject();

	if (cJSON_AddItemToArray(array, object))
		return object;
	cJSON_Delete(object);
	incomplete = true;
	return NULL;
}

static cJSON *
new_document(void)
{
	cJSON *root = cJSON_CreateObject();
	time_t now = time(NULL);
	char text[32];
	struct tm tm;

	incomplete = false;
	if (root == NULL)
		return NULL;
	strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&now, &tm));
	add_u64(root, "version", 1);
	add_text(root, "generated_at", text);
	return root;
}

static char *
print(cJSON *root, int room)
{
	char *text = incomplete ? NULL : cJSON_PrintBuffered(root, room, 0);

	cJSON_Delete(root);
	return text;
}

static void
add_daemon(cJSON *root, const struct daemon *d)
{
	cJSON *o = add(root, "daemon", cJSON_CreateObject());

	add_text(o, "version", VERSION);
	add_u64(o, "pid", (uint64_t)getpid());
	add_u64(o, "uptime_seconds", (loop_now_ms() - d->started_ms) / 1000);
	add_text(o, "socket", d->instance.socket_path);
	add_text(o, "config_file", d->config_path);
	add_u64(o, "clients_max", d->conf->max_clients);
	add_u64(o, "reloads_total", d->reloads_total);
	add_u64(o, "reload_failures_total", d->reload_failures_total);
}

static const char *
segment_state(enum ledger_segment state)
{
	switch (state) {
	case LEDGER_ABSENT:
		return "absent";
	case LEDGER_ATTACHING:
		return "attaching";
	case LEDGER_ATTACHED:
		return "attached";
	case LEDGER_DETACHING:
		return "detaching";
	}
	return "unknown";
}

static void
add_segments(cJSON *to, const struct pool *p)
{
	cJSON *array = add_array(to, "segments"), *o;
	uint32_t n = p->conf.slots_per_segment;

	for (uint32_t i = 0; i < p->segments_high; i++) {
		const struct segment *s = &p->segments[i];

		if (s->state != LEDGER_ATTACHED)
			continue;
		o = append_object(array);
		add_u64(o, "id", i);
		add_u64(o, "slots", n);
		add_u64(o, "free", n - slab_seg_used(&s->core));
		add_text(o, "state", segment_state(s->state));
	}
}

static void
add_pool(cJSON *pools, const struct pool *p)
{
	cJSON *o = append_object(pools);
	uint32_t cached = pool_cached(p);

	add_text(o, "name", p->conf.name);
	add_text(o, "state", p->state == POOL_READY ? "ready" : "retired");
	add_text(o, "backing", "posix");
	add_u64(o, "slot_size", p->conf.slot_stride);
	add_u64(o, "region_bytes", p->region.bytes);
	add_u64(o, "segments_attached", p->segments_attached);
	add_u64(o, "segments_max", p->segments_max);
	add_u64(o, "slots", p->slots);
	add_u64(o, "free", p->count[SLOT_FREE]);
	add_u64(o, "used", p->count[SLOT_USED] - cached);
	add_u64(o, "cached", cached);
	add_u64(o, "in_flight", p->count[SLOT_IN_FLIGHT]);
	add_u64(o, "quarantined", p->count[SLOT_QUARANTINED]);
	add_u64(o, "used_max", p->used_max);
	add_u64(o, "clients", p->clients);
	add_u64(o, "waiters", waiters_count(p));
	add_u64(o, "quota", p->conf.quota);
	add_u64(o, "allocs_total", p->allocs_total);
	add_u64(o, "frees_total", p->frees_total);
	add_u64(o, "failures_total", p->failures_total);
	add_u64(o, "reclaimed_total", p->reclaimed_total);
	add_u64(o, "rejected_total", p->rejected_total);
	add_segments(o, p);
}

static const char *
client_state(const struct client *c)
{
	switch (c->state) {
	case CLIENT_NEW:
		return "new";
	case CLIENT_READY:
		return "ready";
	case CLIENT_QUARANTINED:
		return "quarantined";
	case CLIENT_AWAY:
		return "away";
	case CLIENT_GONE:
		return "gone";
	}
	return "";
}

static void
add_client(cJSON *clients, const struct client *c)
{
	cJSON *o = append_object(clients), *pools, *pool;
	const struct attachment *a;
	uint32_t cached;

	add_u64(o, "id", c->id);
	add_u64(o, "pid", (uint64_t)c->peer.pid);
	add_u64(o, "uid", c->peer.uid);
	add_text(o, "comm", c->peer.comm);
	add_text(o, "label", c->label);
	add_text(o, "state", client_state(c));
	add_u64(
	    o, "connected_seconds", (loop_now_ms() - c->connected_ms) / 1000);
	pools = add_array(o, "pools");
	for (uint32_t i = 0; i < c->nattachments; i++) {
		a = c->attachments[i];
		if (a == NULL)
			continue;
		cached = attachment_cached(a);
		pool = append_object(pools);
		add_text(pool, "name", a->pool->conf.name);
		add_u64(pool, "held", a->held - cached);
		add_u64(pool, "cached", cached);
		add_u64(pool, "in_flight", a->open);
	}
}

/* What lies in lanes counts, and so do the clients' own counts. */
static void
bring_up_to_date(struct pool *p)
{
	struct lane_end *e;

	segments_scrub(p);
	lanes_sweep(p);
	waiters_serve(p);
	LIST_FOREACH (e, &p->lanes, entry)
		lane_count(e);
	pool_note_used(p);
}

char *
document_stats(struct daemon *d)
{
	cJSON *root = new_document(), *pools, *clients;
	const struct client *c;
	struct pool *p;
	size_t room = 4096;

	if (root == NULL)
		return NULL;
	add_daemon(root, d);
	pools = add_array(root, "pools");
	TAILQ_FOREACH (p, &d->pools, entry) {
		bring_up_to_date(p);
		add_pool(pools, p);
		room += 512 + 64 * (size_t)p->segments_attached;
	}
	clients = add_array(root, "clients");
	TAILQ_FOREACH (c, &d->clients, entry)
		add_client(clients, c);
	return print(root, room < ROOM_MAX ? (int)room : ROOM_MAX);
}

static const char *
holder_state(const struct attachment *a)
{
	if (a->client == NULL)
		return "orphans";
	if (!a->quarantined)
		return "attached";
	return a->client->state == CLIENT_AWAY ? "away" : "quarantined";
}

static void
add_identity(cJSON *o, const struct attachment *a)
{
	const struct client *c = a->client;
	uint32_t cached = attachment_cached(a);

	add_u64(o, "attachment", a->holder);
	add_u64(o, "client", c != NULL ? c->id : 0);
	add_u64(o, "pid", c != NULL ? (uint64_t)c->peer.pid : 0);
	add_u64(o, "uid", a->account->uid);
	add_text(o, "comm", c != NULL ? c->peer.comm : "");
	add_text(o, "label", c != NULL ? c->label : "");
	add_text(o, "state", holder_state(a));
	add_u64(o, "held", a->held - cached);
	add_u64(o, "cached", cached);
	add_u64(o, "in_flight", a->open);
}

static void
add_slot(cJSON *slots, const struct pool *p, uint32_t slot, uint32_t age)
{
	struct ledger_word w = ledger_word(&p->ledger, slot);
	cJSON *o = append_object(slots);
	char version[24];

	snprintf(version, sizeof(version), "%" PRIu64, w.version);
	add_u64(o, "slot", slot);
	add_text(o, "state",
	    w.state == LEDGER_SHARED	  ? "shared"
	    : w.state == LEDGER_IN_FLIGHT ? "in_flight"
					  : "held");
	add_tenths(o, "seconds", age);
	add_text(o, "version", version);
}

/* What `holders` says, gathered in one pass over the pool. */
struct survey {
	const struct pool *pool;
	uint32_t now;
	unsigned room, left_out; /* slots listed one by one, and not */
	struct finding {
		cJSON *segments, *slots;
		uint32_t here;	 /* slots in the segment looked at */
		uint32_t oldest; /* tenths of a second */
	} * of;			 /* [holder - 1] */
};

static int
survey_holder(void *arg, uint32_t slot, unsigned holder)
{
	struct survey *s = arg;
	struct finding *f = &s->of[holder - 1];
	uint32_t age = s->now - ledger_since(&s->pool->ledger, slot);

	f->here++;
	f->oldest = age > f->oldest ? age : f->oldest;
	if (s->room == 0) {
		s->left_out++;
		return 0;
	}
	s->room--;
	if (f->slots == NULL)
		f->slots = cJSON_CreateArray();
	add_slot(f->slots, s->pool, slot, age);
	return 0;
}

static void
survey_segment(struct survey *s, uint32_t segment)
{
	const struct pool *p = s->pool;
	uint32_t n = p->conf.slots_per_segment;
	struct finding *f;
	cJSON *o;

	for (uint32_t i = 0; i < n; i++)
		pool_each_holder(p, segment * n + i, survey_holder, s);
	for (unsigned h = 0; h < p->ledger.geometry.attachments_max; h++) {
		f = &s->of[h];
		if (f->here == 0)
			continue;
		if (f->segments == NULL)
			f->segments = cJSON_CreateArray();
		o = append_object(f->segments);
		add_u64(o, "id", segment);
		add_u64(o, "held", f->here);
		f->here = 0;
	}
}

static void
add_findings(cJSON *holders, const struct survey *s)
{
	const struct pool *p = s->pool;
	struct finding *f;
	cJSON *o;

	for (unsigned h = 0; h < p->ledger.geometry.attachments_max; h++) {
		f = &s->of[h];
		if (f->segments == NULL) {
			cJSON_Delete(f->slots);
			continue;
		}
		o = append_object(holders);
		add_identity(o, p->attachments[h]);
		add_tenths(o, "oldest_seconds", f->oldest);
		add(o, "segments", f->segments);
		add(o, "slots",
		    f->slots != NULL ? f->slots : cJSON_CreateArray());
	}
}

char *
document_holders(struct pool *p)
{
	struct survey s = {
	    .pool = p, .now = pool_now(), .room = DOCUMENT_SLOTS_MAX};
	cJSON *root = new_document();

	s.of = calloc(p->ledger.geometry.attachments_max, sizeof(*s.of));
	if (root == NULL || s.of == NULL) {
		cJSON_Delete(root);
		free(s.of);
		return NULL;
	}
	add_text(root, "pool", p->conf.name);
	add_u64(root, "slots", p->slots);
	add_u64(root, "free", p->count[SLOT_FREE]);
	for (uint32_t i = 0; i < p->segments_high; i++)
		if (p->segments[i].state == LEDGER_ATTACHED &&
		    slab_seg_used(&p->segments[i].core) > 0)
			survey_segment(&s, i);
	add_findings(add_array(root, "holders"), &s);
	add(root, "slots_truncated", cJSON_CreateBool(s.left_out > 0));
	free(s.of);
	return print(root, 4096);
}

char *
document_config(struct daemon *d)
{
	cJSON *root = config_to_json(d->conf);

	incomplete = false;
	return root != NULL ? print(root, 4096) : NULL;
}

int
document_seal(const char *text, size_t len)
{
	int fd =
	    memfd_create("slabd-document", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	ssize_t n;

	if (fd < 0)
		return -errno;
	for (size_t at = 0; at < len; at += (size_t)n) {
		n = write(fd, text + at, len - at);
		if (n <= 0) {
			n = -errno;
			close(fd);
			return (int)n;
		}
	}
	/* The daemon itself will shrink it. */
	fcntl(fd, F_ADD_SEALS, F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL);
	return fd;
}
