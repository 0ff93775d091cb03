#include "config.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <poll.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../e2e/raw.h"
#include "scene.h"

#define SEGMENT 8u /* slots */
#define CROWD	14 /* more connections than are let in */

/* A client; `n` refs are its own. */
struct guest {
	struct raw r;
	struct raw_lane l;
	uint32_t at; /* 0: not attached */
	uint64_t refs[SCENE_SLOTS];
	unsigned n;
};

static const struct scene *scene;
/* By slot: it is one of a guest's. */
static bool taken[SCENE_SLOTS * 2];

static void __attribute__((noreturn))
complain(enum scene_end end, const char *what, int status)
{
	fprintf(stderr, "%s: %s (%d)\n", what,
	    end == SCENE_HUNG ? "no answer" : "wrong answer", status);
	_exit(end);
}

/* Any error is an answer, but silence and nonsense are not. */
static int
answered(int status, const char *what)
{
	if (status == -ETIMEDOUT)
		complain(SCENE_HUNG, what, status);
	if (status == -EBADMSG)
		complain(SCENE_WRONG, what, status);
	return status;
}
#define ASK(call) answered(call, #call)

static const char base[] =
    "\"max_clients\": 6, \"shrink_seconds\": 0, \"handshake_seconds\": 1, "
    "\"group\": %u, \"admin_group\": %u, \"include\": \"more*.conf\", "
    "\"pools\": [{\"name\": \"p\", \"slot_size\": 64, "
    "\"slots_per_segment\": 8, \"max_segments\": %u, \"orphan_seconds\": 1, "
    "\"max_clients\": 8}%s]";
static const char more[] =
    "{\"pools\": [{\"name\": \"q\", \"slot_size\": \"4K\", "
    "\"slots_per_segment\": 4, \"max_segments\": 2, \"min_segments\": 0, "
    "\"quota\": 3, \"access\": [{\"user\": \"%s\", \"rights\": \"rw\"}, "
    "{\"group\": \"root\", \"rights\": \"r\"}]}]}\n";

int
scene_configure(struct server *s, bool reloaded)
{
	const struct passwd *we = getpwuid(geteuid());
	char path[64], text[1024];
	FILE *file;

	snprintf(path, sizeof(path), "%s/more.conf", s->dir);
	unlink(path);
	snprintf(text, sizeof(text), base, (unsigned)getegid(),
	    (unsigned)getegid(), reloaded ? 4u : 3u,
	    reloaded ? ", {\"name\": \"r\", \"slot_size\": 256}" : "");
	if (reloaded)
		return server_configure(s, text);
	file = fopen(path, "we");
	if (file == NULL)
		return -errno;
	fprintf(file, more, we != NULL ? we->pw_name : "root");
	if (fclose(file) != 0)
		return -errno;
	return server_configure(s, text);
}

static void
mark(struct guest *g, uint64_t ref, const char *what)
{
	uint32_t slot = ref_slot(ref);

	for (unsigned i = 0; i < SCENE_KEPT; i++)
		if (scene->kept[i] != 0 && ref_slot(scene->kept[i]) == slot)
			complain(SCENE_WRONG, what, (int)slot);
	if (slot >= sizeof(taken) || taken[slot])
		complain(SCENE_WRONG, what, (int)slot);
	taken[slot] = true;
	g->refs[g->n++] = ref;
}

/* No longer its own; 0: it has none. */
static uint64_t
part_with(struct guest *g)
{
	uint64_t ref = g->n > 0 ? g->refs[--g->n] : 0;

	if (ref != 0)
		taken[ref_slot(ref)] = false;
	return ref;
}

/* Connected, and attached to `pool`, if it can be had. */
static bool
join(struct guest *g, const char *pool, bool lane)
{
	*g = (struct guest){.l = {.lane_fd = -1, .claims_fd = -1}};
	g->l.doorbell = g->l.pool.fd = -1;
	if (ASK(raw_open(&g->r, scene->server->socket, "guest")) != 0)
		return false;
	if (lane && ASK(raw_attach_lane(&g->r, pool, 0, &g->l)) == 0)
		g->at = g->l.pool.number;
	else if (!lane && ASK(raw_attach(&g->r, pool, 0, &g->l.pool)) == 0)
		g->at = g->l.pool.number;
	return g->at != 0;
}

static bool
has_lane(const struct guest *g)
{
	return g->at != 0 && g->l.lane.header != NULL;
}

/* Without a goodbye, for which it depends on the end of this process. */
static void
drop(struct guest *g)
{
	if (has_lane(g))
		raw_lane_close(&g->l);
	if (g->l.pool.fd >= 0)
		close(g->l.pool.fd);
	raw_close(&g->r);
	g->at = 0;
	g->l.pool.fd = -1;
	g->l.lane.header = NULL;
}

static void
leave(struct guest *g)
{
	if (g->at != 0)
		ASK(raw_detach(&g->r, g->at));
	if (g->r.fd >= 0)
		ASK(raw_bye(&g->r));
	while (g->n > 0)
		part_with(g);
	drop(g);
}

static void
take(struct guest *g, uint32_t n)
{
	uint64_t refs[SCENE_SLOTS];
	int got = ASK(raw_alloc(&g->r, g->at, n, refs));

	if (got > (int)n || got == 0)
		complain(SCENE_WRONG, "number of slots", got);
	for (int i = 0; i < got; i++)
		mark(g, refs[i], "a slot that was not free");
}

static void
give(struct guest *g)
{
	uint64_t refs[SCENE_SLOTS];
	unsigned n = 0;

	while (g->n > 0)
		refs[n++] = part_with(g);
	if (n > 0)
		ASK(raw_free(&g->r, g->at, refs, n));
}

/* Waits for `n` slots while `other` has too many, then gives up. */
static void
wait_and_cancel(struct guest *g, struct guest *other, uint32_t n)
{
	uint32_t tag = raw_post_alloc(&g->r, g->at, n);
	uint64_t refs[SCENE_SLOTS];
	int got;

	give(other);
	got = ASK(raw_cancel(&g->r, g->at, tag));
	if (got != 0 && got != -ENOENT)
		return;
	got = ASK(raw_wait_alloc(&g->r, tag, refs));
	for (int i = 0; i < got; i++)
		mark(g, refs[i], "a slot that was not free");
	give(g);
}

/* A document is whole or there is none. */
static void
look_at_holders(struct raw *r)
{
	uint8_t name[8];
	char *text =
	    raw_document(r, WIRE_HOLDERS, name, raw_name(name, SCENE_POOL));
	cJSON *root = text == NULL ? NULL : cJSON_Parse(text);
	const cJSON *list, *holder;

	list = cJSON_GetObjectItemCaseSensitive(root, "holders");
	if (text != NULL && (!cJSON_IsArray(list) ||
				!cJSON_HasObjectItem(root, "slots_truncated")))
		complain(SCENE_WRONG, text, 0);
	cJSON_ArrayForEach (holder, list)
		if (!cJSON_HasObjectItem(holder, "pid") ||
		    !cJSON_HasObjectItem(holder, "segments") ||
		    !cJSON_HasObjectItem(holder, "slots"))
			complain(SCENE_WRONG, text, 0);
	cJSON_Delete(root);
	free(text);
}

static void
look(struct raw *r)
{
	struct raw_stats s;
	int err = ASK(raw_pool_stats(r, SCENE_POOL, &s));
	char *config = raw_document(r, WIRE_CONFIG, NULL, 0);

	/* What is missing reads as a number of all ones. */
	if (err == -ENOENT ||
	    (err == 0 && (s.slots | s.free | s.used | s.cached | s.in_flight |
			     s.quarantined | s.segments_attached | s.clients |
			     s.waiters) == ~0u))
		complain(SCENE_WRONG, "statistics that are not whole", err);
	if (config != NULL && scene->config != NULL &&
	    strcmp(config, scene->config) != 0)
		complain(SCENE_WRONG, config, 0);
	free(config);
	look_at_holders(r);
}

enum scene_end
scene_greet(struct scene *s)
{
	struct guest crowd[CROWD], g;

	scene = s;
	if (join(&g, SCENE_POOL, false))
		take(&g, 1);
	ASK(raw_ping(&g.r));
	look(&g.r);
	ASK(raw_call(&g.r, 15, 0, 0, NULL, 0, NULL));
	for (int i = 0; i < CROWD; i++)
		ASK(raw_open(&crowd[i].r, s->server->socket, "crowd"));
	for (int i = 0; i < CROWD; i++)
		raw_close(&crowd[i].r);
	if (raw_connect(&crowd[0].r, s->server->socket) == 0)
		ASK(raw_call(&crowd[0].r, WIRE_PING, 0, 0, NULL, 0, NULL));
	raw_close(&crowd[0].r);
	leave(&g);
	return SCENE_FINE;
}

static void
hand_over(struct guest *a, struct guest *b)
{
	uint64_t ref = part_with(a), out;

	if (ref == 0 || ASK(raw_send(&a->r, a->at, ref, &out)) != 0)
		return;
	if (ASK(raw_receive(&b->r, b->at, out)) == 0) {
		mark(b, out, "a received slot");
		if (ASK(raw_receive(&a->r, a->at, out)) == 0)
			complain(SCENE_WRONG, "received twice", 0);
	} else {
		ASK(raw_recall(&a->r, a->at, out, 0));
	}
}

static void
share_out(struct guest *a, struct guest *b)
{
	uint64_t ref = part_with(a), out;
	int got;

	if (ref == 0 || ASK(raw_share(&a->r, a->at, ref, 3, &out)) != 0)
		return;
	ASK(raw_receive(&b->r, b->at, out));
	got = ASK(raw_recall(&a->r, a->at, out, 0));
	if (got > 3)
		complain(SCENE_WRONG, "recalled more than shared", got);
	ASK(raw_held(&b->r, b->at, out));
	ASK(raw_free(&a->r, a->at, &out, 1));
	ASK(raw_free(&b->r, b->at, &out, 1));
}

enum scene_end
scene_slots(struct scene *s)
{
	struct guest a, b, q;

	scene = s;
	if (join(&a, SCENE_POOL, false) && join(&b, SCENE_POOL, false)) {
		take(&a, 3);
		hand_over(&a, &b);
		share_out(&a, &b);
		ASK(raw_flush(&a.r, a.at));
		/* Until it is empty, which makes it grow. */
		for (int i = 0; i < 8 && a.n + SEGMENT / 2 <= SCENE_SLOTS; i++)
			take(&a, SEGMENT / 2);
		take(&b, 1);
		wait_and_cancel(&b, &a, SEGMENT * 2);
		give(&b);
		leave(&b);
	}
	leave(&a);
	if (join(&q, "q", false)) {
		ASK(raw_alloc(&q.r, q.at, 4, q.refs));
		ASK(raw_extend(&q.r, q.at, 2));
	}
	leave(&q);
	return SCENE_FINE;
}

/* What lies ready, as the library would take it. */
static void
draw(struct guest *g)
{
	uint64_t refs[4];
	unsigned n = raw_lane_take(&g->l, refs, 4);

	for (unsigned i = 0; i < n; i++)
		mark(g, refs[i], "a granted slot that was not free");
}

static void
hand_over_by_lane(struct guest *a, struct guest *b)
{
	uint64_t ref = part_with(a), out;
	int got = ref == 0 ? -1 : raw_lane_send(&a->l, ref, &out);

	if (got != 0)
		return;
	if (raw_lane_receive(&b->l, out) == 0)
		raw_lane_record(&b->l, LANE_FREE, out, 0);
	ref = part_with(a);
	if (ref == 0 || raw_lane_share(&a->l, ref, 2, &out) != 0)
		return;
	raw_lane_receive(&b->l, out);
	raw_lane_recall(&a->l, out, 1);
	raw_lane_record(&a->l, LANE_FREE, out, 0);
	raw_lane_record(&b->l, LANE_FREE, out, 0);
}

/* A slot that never left, recalled in such a way that it must be revoked. */
static void
recall_by_message(struct guest *a)
{
	uint64_t ref = part_with(a), out;

	if (ref != 0 && raw_lane_send(&a->l, ref, &out) == 0)
		ASK(raw_recall(&a->r, a->at, out, 0));
}

static void
work_lanes(struct guest *a, struct guest *b)
{
	uint64_t ref;

	take(a, 2);
	take(b, 1);
	ASK(raw_ping(&a->r));
	draw(a);
	hand_over_by_lane(a, b);
	raw_lane_bell(&a->l);
	recall_by_message(a);
	while ((ref = part_with(a)) != 0)
		raw_lane_record(&a->l, LANE_FREE, ref, 0);
	/* Of the future, and of nobody: parked, and refused. */
	raw_lane_record(&a->l, LANE_RECEIVE, ref_make(1, false, 99), 0);
	raw_lane_ring(&a->l);
	raw_lane_bell(&b->l);
	ASK(raw_flush(&a->r, a->at));
	ASK(raw_flush(&b->r, b->at));
}

enum scene_end
scene_lanes(struct scene *s)
{
	struct guest a, b, c;

	scene = s;
	if (join(&a, SCENE_POOL, true) && join(&b, SCENE_POOL, true)) {
		if (has_lane(&a) && has_lane(&b))
			work_lanes(&a, &b);
		/* More than is free: what lies ready is taken back. */
		if (join(&c, SCENE_POOL, false))
			wait_and_cancel(&c, &b, SCENE_SLOTS - 2);
		leave(&c);
		leave(&b);
	}
	leave(&a);
	return SCENE_FINE;
}

int
scene_hold(int control, void *server)
{
	struct scene own = {.server = server};
	struct guest g, h;
	uint64_t out;
	char byte = 1;

	scene = &own;
	if (join(&g, SCENE_POOL, true)) {
		take(&g, 5);
		if (g.n > 2) {
			ASK(raw_send(&g.r, g.at, part_with(&g), &out));
			ASK(raw_share(&g.r, g.at, part_with(&g), 2, &out));
		}
		if (has_lane(&g)) {
			draw(&g);
			hand_over_by_lane(&g, &g);
		}
	}
	if (join(&h, SCENE_POOL, false)) {
		take(&h, 2);
		raw_post_alloc(&h.r, h.at, SCENE_SLOTS);
		ASK(raw_ping(&g.r));
	}
	tell(control, &byte, 1);
	hear(control, &byte, 1);
	return 0;
}

enum scene_end
scene_death(struct scene *s)
{
	struct guest g;
	int control;
	char byte;
	pid_t pid;

	scene = s;
	pid = spawn(scene_hold, (void *)(uintptr_t)s->server, &control);
	if (hear(control, &byte, 1) == 0)
		kill(pid, SIGKILL);
	byte = (char)reap(pid);
	close(control);
	if (byte == SCENE_HUNG || byte == SCENE_WRONG)
		return (enum scene_end)byte;
	/* And one that closes its connection and lives on. */
	if (join(&g, SCENE_POOL, true))
		take(&g, 2);
	drop(&g);
	if (join(&g, SCENE_POOL, false)) {
		look(&g.r);
		g.n = 0;
	}
	leave(&g);
	return SCENE_FINE;
}

enum scene_end
scene_reload(struct scene *s)
{
	struct server server = *s->server;
	struct guest p, q;

	scene = s;
	join(&p, SCENE_POOL, false);
	join(&q, "q", false);
	scene_configure(&server, true);
	ASK(raw_call(&p.r, WIRE_RELOAD, 0, 0, NULL, 0, NULL));
	server_configure(&server, "\"pools\": 1");
	ASK(raw_call(&p.r, WIRE_RELOAD, 0, 0, NULL, 0, NULL));
	if (p.at != 0) {
		ASK(raw_extend(&p.r, p.at, 4));
		take(&p, SEGMENT);
	}
	look(&p.r);
	leave(&q);
	leave(&p);
	return SCENE_FINE;
}

enum scene_end
scene_rule(struct scene *s)
{
	uint8_t name[8];
	struct guest g;
	uint64_t out = 0;

	scene = s;
	if (!join(&g, SCENE_POOL, false)) {
		leave(&g);
		return SCENE_FINE;
	}
	for (int i = 0; i < 4; i++)
		take(&g, SEGMENT / 2);
	ASK(raw_audit(&g.r));
	if (ASK(raw_send(&g.r, g.at, part_with(&g), &out)) == 0)
		look(&g.r);
	ASK(raw_recall(&g.r, g.at, out, 0));
	give(&g);
	ASK(raw_call(&g.r, WIRE_TRIM, 0, 0, name, raw_name(name, "p"), NULL));
	ASK(raw_audit(&g.r));
	leave(&g);
	return SCENE_FINE;
}

/* Until the daemon has ended the connection, or two seconds have passed. */
static void
await_end(struct raw *r)
{
	struct pollfd p = {.fd = r->fd, .events = POLLRDHUP};

	if (r->fd >= 0)
		poll(&p, 1, 2000);
	raw_close(r);
}

enum scene_end
scene_wait(struct scene *s)
{
	struct raw silent, lazy;
	struct guest g;
	uint64_t out;

	scene = s;
	if (join(&g, SCENE_POOL, false)) {
		take(&g, 2);
		ASK(raw_send(&g.r, g.at, part_with(&g), &out));
	}
	leave(&g);
	raw_connect(&silent, s->server->socket);
	if (ASK(raw_open(&lazy, s->server->socket, "lazy")) == 0)
		raw_post(&lazy, WIRE_STATS, 0, 0, NULL, 0);
	await_end(&silent);
	await_end(&lazy);
	return SCENE_FINE;
}
