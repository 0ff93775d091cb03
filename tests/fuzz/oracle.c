#include "config.h"

#include <string.h>

#include "oracle.h"

#define VERSION_MASK ((UINT64_C(1) << 39) - 1)
#define SEEN	     4096u /* states looked at, a power of two */

enum { SAY_FREE = 1, SAY_SEND, SAY_SHARE, SAY_RECEIVE, SAY_RECALL };

struct said
oracle_read(uint64_t record)
{
	return (struct said){.version = (uint32_t)(record >> 36),
	    .count = record >> 28 & 0xff,
	    .operation = record >> 25 & 7,
	    .shared = record >> 24 & 1};
}

bool
oracle_is_record(const struct said *s)
{
	switch (s->operation) {
	case SAY_FREE:
	case SAY_RECEIVE:
		return s->count == 0;
	case SAY_SEND:
		return s->count == 0 && !s->shared;
	case SAY_SHARE:
		return s->count != 0 && !s->shared;
	case SAY_RECALL:
		return s->count != 0;
	}
	return false;
}

uint64_t
oracle_next(uint64_t version)
{
	version = (version + 1) & VERSION_MASK;
	return version == 0 ? 1 : version;
}

int32_t
oracle_ahead(const struct said *s, uint64_t version)
{
	uint32_t d = (s->version - (uint32_t)version) & 0xfffffff;

	return d < 0x8000000 ? (int32_t)d : (int32_t)d - 0x10000000;
}

bool
oracle_same(const struct slot *a, const struct slot *b)
{
	return a->version == b->version && a->row == b->row &&
	       a->fate == b->fate && a->holder == b->holder &&
	       a->open == b->open && a->sender == b->sender;
}

static uint32_t
bit(unsigned holder)
{
	return UINT32_C(1) << (holder - 1);
}

/* A share of which nothing is left. */
static void
tidy(struct slot *s)
{
	if (s->open == 0)
		s->sender = 0;
	if (s->open == 0 && s->row == 0)
		s->fate = FREE;
}

static bool
end_hold(struct slot *s, bool shared, unsigned holder)
{
	if (!shared && s->fate == HELD && s->holder == holder) {
		s->fate = FREE;
		s->holder = 0;
		return true;
	}
	if (!shared || s->fate != SHARED || (s->row & bit(holder)) == 0)
		return false;
	s->row &= ~bit(holder);
	tidy(s);
	return true;
}

static bool
hand_on(struct slot *s, bool shared, unsigned count, unsigned holder)
{
	if (shared || s->fate != HELD || s->holder != holder)
		return false;
	s->version = oracle_next(s->version);
	if (count == 0) {
		s->fate = SENT;
		return true;
	}
	*s = (struct slot){.version = s->version,
	    .row = bit(holder),
	    .fate = SHARED,
	    .open = (uint8_t)count,
	    .sender = (uint8_t)holder};
	return true;
}

static bool
receive(struct slot *s, bool shared, unsigned holder)
{
	if (!shared && s->fate == SENT) {
		s->fate = HELD;
		s->holder = (uint8_t)holder;
		return true;
	}
	if (!shared || s->fate != SHARED || s->open == 0)
		return false;
	s->open--;
	s->row |= bit(holder);
	tidy(s);
	return true;
}

static bool
recall(struct slot *s, bool shared, unsigned count, unsigned holder)
{
	if (!shared && s->fate == SENT && s->holder == holder) {
		s->fate = HELD;
		return true;
	}
	if (!shared || s->fate != SHARED || s->sender != holder)
		return false;
	s->open -= count == 0 || count > s->open ? s->open : count;
	tidy(s);
	return true;
}

bool
oracle_do(struct slot *s, unsigned operation, bool shared, unsigned count,
    unsigned holder, bool write)
{
	switch (operation) {
	case SAY_FREE:
		return end_hold(s, shared, holder);
	case SAY_SEND:
	case SAY_SHARE:
		return write && hand_on(s, shared, count, holder);
	case SAY_RECEIVE:
		return receive(s, shared, holder);
	case SAY_RECALL:
		return write && recall(s, shared, count, holder);
	}
	return false;
}

void
oracle_grant(struct slot *s, unsigned holder, uint64_t version)
{
	if (s->fate != FREE || version != oracle_next(s->version))
		s->fate = IMPOSSIBLE;
	else
		*s = (struct slot){.version = version,
		    .fate = HELD,
		    .holder = (uint8_t)holder};
}

void
oracle_abandon(struct slot *s, unsigned holder, unsigned heir)
{
	if (s->fate == SENT && s->holder == holder) {
		s->holder = (uint8_t)heir;
		if (heir == 0) {
			s->fate = FREE;
			s->version = oracle_next(s->version);
		}
		return;
	}
	end_hold(s, s->fate == SHARED, holder);
	if (s->fate == SHARED && s->sender == holder) {
		s->sender = (uint8_t)heir;
		s->open = heir == 0 ? 0 : s->open;
		tidy(s);
	}
}

/* One way the stories can be told, so far. */
struct way {
	struct slot slot;
	uint8_t at[ORACLE_LANES];
};

struct search {
	const struct story *stories;
	bool (*finish)(struct slot, void *);
	void *arg;
};

/* Ways that were gone before, while the search lasts. */
static struct {
	struct way way;
	unsigned search;
} seen[SEEN];
static unsigned searches;

static bool
been_there(const struct way *w)
{
	uint64_t h = w->slot.version + w->slot.row * UINT64_C(0x10001);
	unsigned tries = 0, i;

	h = h * 31 + w->slot.fate + w->slot.holder * 5 + w->slot.open * 77;
	for (int k = 0; k < ORACLE_LANES; k++)
		h = h * 131 + w->at[k];
	for (i = (unsigned)(h * UINT64_C(0x9e3779b97f4a7c15) >> 52);
	     tries++ < SEEN; i = (i + 1) & (SEEN - 1)) {
		if (seen[i].search != searches) {
			seen[i].search = searches;
			seen[i].way = *w;
			return false;
		}
		if (oracle_same(&seen[i].way.slot, &w->slot) &&
		    memcmp(seen[i].way.at, w->at, sizeof(w->at)) == 0)
			return true;
	}
	return false;
}

/* The lane's next word at the slot's version; false: none. */
static bool
find(const struct story *s, uint64_t version, uint8_t *at)
{
	while (*at < s->n && oracle_ahead(&s->said[*at], version) != 0)
		++*at;
	return *at < s->n;
}

/* The lane's next word is heard, or not at all. */
static struct way
step(const struct search *s, struct way w, int lane, bool heard)
{
	const struct story *story = &s->stories[lane];
	const struct said *said = &story->said[w.at[lane]++];
	uint64_t version = w.slot.version;

	if (heard)
		oracle_do(&w.slot, said->operation, said->shared, said->count,
		    story->holder, story->write);
	/* What was too early before may be in time now. */
	if (w.slot.version != version)
		memset(w.at, 0, sizeof(w.at));
	return w;
}

static bool
explore(const struct search *s, struct way w)
{
	unsigned choices = 0;
	bool more[ORACLE_LANES];

	for (int i = 0; i < ORACLE_LANES; i++) {
		more[i] = find(&s->stories[i], w.slot.version, &w.at[i]);
		if (more[i])
			choices += 1 + s->stories[i].said[w.at[i]].maybe;
	}
	if (choices == 0)
		return s->finish(w.slot, s->arg);
	if (choices > 1 && been_there(&w))
		return false;
	for (int i = 0; i < ORACLE_LANES; i++) {
		if (!more[i])
			continue;
		if (explore(s, step(s, w, i, true)) ||
		    (s->stories[i].said[w.at[i]].maybe &&
			explore(s, step(s, w, i, false))))
			return true;
	}
	return false;
}

bool
oracle_allows(const struct slot *from, const struct story stories[ORACLE_LANES],
    bool (*finish)(struct slot, void *), void *arg)
{
	struct search s = {stories, finish, arg};

	searches++;
	return explore(&s, (struct way){.slot = *from});
}
