#include "config.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "input.h"
#include "judge.h"

struct effect effect;
static uint64_t sweeps; /* begun before the instruction */

struct slot
look(uint32_t number)
{
	static const uint8_t fates[] = {[LEDGER_FREE] = FREE,
	    [LEDGER_HELD] = HELD,
	    [LEDGER_IN_FLIGHT] = SENT,
	    [LEDGER_SHARED] = SHARED};
	struct ledger_word w = ledger_word(&pool->ledger, number);
	struct ledger_share share = ledger_share_of(&pool->ledger, number);

	must(w.state <= LEDGER_SHARED, "a state that is none");
	return (struct slot){.version = w.version,
	    .row = (uint32_t)*ledger_row(&pool->ledger, number),
	    .fate = fates[w.state],
	    .holder = (uint8_t)w.holder,
	    .open = (uint8_t)share.open,
	    .sender = (uint8_t)(share.open > 0 ? share.sender : 0)};
}

void
wrong(uint32_t number, const struct slot *is, const char *what)
{
	const struct slot *s = &slots[number];

	fprintf(stderr,
	    "slot %u was: fate %u version %llx holder %u open %u of %u row %x\n"
	    "      and is: fate %u version %llx holder %u open %u of %u row "
	    "%x\n",
	    number, s->fate, (unsigned long long)s->version, s->holder, s->open,
	    s->sender, s->row, is->fate, (unsigned long long)is->version,
	    is->holder, is->open, is->sender, is->row);
	must(false, what);
}

/* What the lanes say. */

bool
head_possible(const struct party *q)
{
	return q->tail - q->head <= q->tail - q->seen;
}

static void
note_magazines(struct party *q)
{
	uint32_t used = q->lane.header->magazines_used, count;
	const struct lane_magazine *m;

	q->nstowed = 0;
	for (uint32_t i = 0; i < used && i < MAGAZINES; i++) {
		m = lane_magazine(&q->lane, i);
		count = m->count < ROOM ? m->count : ROOM;
		for (uint32_t k = 0; m->busy == 0 && k < count; k++)
			q->stowed[q->nstowed++] = m->refs[k];
	}
}

void
note(void)
{
	struct party *q;

	effect.nreturned = effect.ngranted = 0;
	effect.ended = effect.heir = 0;
	effect.evicts = false;
	sweeps = pool->sweeps;
	for (int i = 0; i < LANES; i++) {
		q = &parties[i];
		if (q->e == NULL)
			continue;
		/* tests/unit/lanes.c is about patience; here all is read. */
		q->e->patience = UINT32_MAX;
		q->head = q->lane.header->grant_head;
		q->first = q->e->mirror->record_head;
		note_magazines(q);
	}
}

/* The first record that is not done. */
static uint64_t
first_kept(const struct party *q)
{
	uint64_t first = q->read;

	for (unsigned k = 0; k < q->n; k++)
		if (first - q->pending[k].index <= RING)
			first = q->pending[k].index;
	return first;
}

static bool
is_record(uint64_t record)
{
	struct said s = oracle_read(record);

	return oracle_is_record(&s) && (record & 0xffffff) < SLOTS;
}

/*
 * Reads what the lane has published; false: something no client may write. Where
 * a record may be done or not the daemon's own head is as good as another.
 */
static bool
hear(struct party *q, uint64_t head)
{
	uint64_t tail = q->lane.header->record_tail, record;

	if (tail - head > RING || tail - head < q->read - head)
		return false;
	for (; q->read != tail; q->read++) {
		record = q->lane.records[q->read % RING];
		if (!is_record(record))
			return false;
		must(q->n < 2 * RING, "more than a ring of records waits");
		q->pending[q->n++] =
		    (struct pending){.index = q->read, .record = record};
	}
	return true;
}

static unsigned
doubtful(const struct party *q)
{
	unsigned n = 0;

	for (unsigned k = 0; k < q->n; k++)
		n += q->pending[k].maybe || q->pending[k].loose;
	return n;
}

/* What was moved by other means than records is not looked at again. */
static void
doubt(struct party *q)
{
	struct pending *r;
	struct said s;

	for (unsigned k = 0; k < q->n; k++) {
		r = &q->pending[k];
		s = oracle_read(r->record);
		if (oracle_ahead(&s, slots[r->record & 0xffffff].version) <= 0)
			r->maybe = true;
	}
}

/*
 * What is new waits behind what waits already for the same slot and version,
 * and shares its doubts. With `apart` its lane was read once before the round.
 */
static void
spread_doubt(struct party *q, bool apart)
{
	struct pending *r, *before;

	for (unsigned k = 0; k < q->n; k++)
		for (unsigned j = 0; j < k; j++) {
			r = &q->pending[k];
			before = &q->pending[j];
			if (((before->record ^ r->record) &
				UINT64_C(0xfffffff000ffffff)) != 0)
				continue;
			r->maybe = r->maybe || before->maybe;
			r->loose = r->loose || (apart && before->old);
		}
}

/* What the lane says of this slot; how much that is. */
static unsigned
tell(struct story *s, const struct party *q, uint32_t number)
{
	struct said *said;

	s->n = 0;
	for (unsigned k = 0; k < q->n; k++) {
		if ((q->pending[k].record & 0xffffff) != number)
			continue;
		said = &s->said[s->n++];
		*said = oracle_read(q->pending[k].record);
		said->maybe = q->pending[k].maybe;
	}
	return s->n;
}

/* After the records, what else the instruction does. */
static bool
finish(struct slot s, void *arg)
{
	const struct effect *f = arg;
	const struct deal *d;
	struct slot evicted;
	unsigned sender;

	for (unsigned i = 0; i < f->nreturned; i++) {
		d = &f->returned[i];
		if (ref_slot(d->ref) == f->number && !ref_shared(d->ref) &&
		    ref_version(d->ref) == s.version)
			oracle_do(&s, LANE_FREE, false, 0, d->holder, true);
	}
	if (f->ended != 0)
		oracle_abandon(&s, f->ended, f->heir);
	evicted = s;
	sender = s.fate == SENT ? s.holder : s.sender;
	if (f->evicts && sender > HOLDERS)
		oracle_abandon(&evicted, sender, 0);
	for (unsigned i = 0; i < f->ngranted; i++) {
		d = &f->granted[i];
		if (ref_slot(d->ref) != f->number)
			continue;
		oracle_grant(&s, d->holder, ref_version(d->ref));
		oracle_grant(&evicted, d->holder, ref_version(d->ref));
	}
	return oracle_same(&s, &f->is) ||
	       (f->evicts && oracle_same(&evicted, &f->is));
}

/* Whether one who ends, or orphans that do, have to do with the slot. */
static bool
has_stake_of_ended(const struct slot *s)
{
	unsigned sender = s->fate == SENT ? s->holder : s->sender;

	if (effect.evicts && sender > HOLDERS)
		return true;
	return effect.ended != 0 &&
	       (s->holder == effect.ended || s->sender == effect.ended ||
		   (s->row >> (effect.ended - 1) & 1) != 0);
}

/* A bit for each slot that the records or the instruction say anything of. */
static uint32_t
slots_told_of(void)
{
	uint32_t told = 0;
	const struct party *q;

	for (q = parties; q < parties + LANES; q++)
		for (unsigned k = 0; k < q->n; k++)
			told |= 1u << (q->pending[k].record & 0xffffff);
	for (unsigned i = 0; i < effect.nreturned; i++)
		if (ref_slot(effect.returned[i].ref) < SLOTS)
			told |= 1u << ref_slot(effect.returned[i].ref);
	for (unsigned i = 0; i < effect.ngranted; i++)
		if (ref_slot(effect.granted[i].ref) < SLOTS)
			told |= 1u << ref_slot(effect.granted[i].ref);
	if (effect.ended == 0 && !effect.evicts)
		return told;
	for (uint32_t number = 0; number < SLOTS; number++)
		if (has_stake_of_ended(&slots[number]))
			told |= 1u << number;
	return told;
}

/* A bit for each slot of which the ledger has another word, share or row. */
static uint32_t
slots_changed(void)
{
	static uint64_t before[SEGMENTS][3 * EACH];
	uint32_t changed = 0;
	const uint64_t *is;

	for (unsigned i = 0; i < SEGMENTS; i++) {
		is = (const uint64_t *)pool->segments[i].words;
		if (memcmp(before[i], is, sizeof(before[i])) == 0)
			continue;
		for (unsigned k = 0; k < 3 * EACH; k++)
			changed |= (uint32_t)(is[k] != before[i][k])
				   << (i * EACH + k % EACH);
		memcpy(before[i], is, sizeof(before[i]));
	}
	return changed;
}

static void
check_slot(uint32_t number)
{
	static struct story stories[LANES];
	unsigned n = 0;
	bool ok;

	effect.number = number;
	effect.is = look(number);
	for (int i = 0; i < LANES; i++) {
		stories[i].holder = (uint8_t)parties[i].holder;
		stories[i].write = parties[i].write;
		n += tell(&stories[i], &parties[i], number);
	}
	ok = n > 0 ? oracle_allows(&slots[number], stories, finish, &effect)
		   : finish(slots[number], &effect);
	if (!ok)
		wrong(number, &effect.is, "against the rules");
	slots[number] = effect.is;
}

/* Of any other slot nothing was said, and it is as it was. */
static void
check_slots(void)
{
	uint32_t left = slots_told_of() | slots_changed();

	for (; left != 0; left &= left - 1)
		check_slot((uint32_t)__builtin_ctz(left));
}

/*
 * Whether the instruction itself may have given the slot a new version, after
 * the records were read.
 */
static bool
touched(uint32_t number)
{
	if (effect.ended != 0 || effect.evicts)
		return true;
	for (unsigned i = 0; i < effect.ngranted; i++)
		if (ref_slot(effect.granted[i].ref) == number)
			return true;
	return false;
}

/* What was read in one of `rounds` full ones, and still waits after them. */
static void
keep(struct party *q, uint64_t rounds)
{
	unsigned kept = 0;
	struct pending *r;
	struct said s;
	uint32_t number;
	int32_t ahead;

	for (unsigned k = 0; k < q->n; k++) {
		r = &q->pending[k];
		s = oracle_read(r->record);
		number = (uint32_t)(r->record & 0xffffff);
		ahead = oracle_ahead(&s, slots[number].version);
		/* At version 0, which is passed over, nobody tries it. */
		if (ahead <= 0 && (touched(number) || s.version == 0))
			r->maybe = true;
		if (rounds > 1 || (r->old && rounds > 0) ||
		    (ahead <= 0 && !r->maybe) ||
		    (q->e->parked == 0 && (r->maybe || r->loose)))
			continue;
		r->old = true;
		r->maybe = r->maybe || r->loose;
		q->pending[kept++] = *r;
	}
	q->n = kept;
}

static void
check_lane(struct party *q)
{
	must(q->e->read == q->read, "read more or less than was published");
	must(q->e->parked <= q->n, "more is parked than can wait");
	must(q->e->parked + doubtful(q) >= q->n, "less is parked than waits");
	if (doubtful(q) > 0)
		return;
	must(q->e->mirror->record_head == first_kept(q),
	    "the head is not where it must be");
}

/* `due`: the daemon has met something no client may write, and must say so. */
static void
check_breach(struct party *q, bool due)
{
	bool may = due || !head_possible(q);

	must(q->breached || q->e->breached || !due, "a breach was overlooked");
	must(q->breached || !q->e->breached || may, "no breach, and yet");
	q->breached = q->e->breached;
}

void
settle_records(int who, bool due[LANES])
{
	uint64_t rounds = pool->sweeps - sweeps;
	struct party *q;

	for (int i = 0; i < LANES; i++) {
		q = &parties[i];
		if (q->e == NULL)
			continue;
		doubt(q);
		if ((rounds > 0 || i == who) && !q->breached && !due[i])
			due[i] = !hear(
			    q, doubtful(q) > 0 ? q->first : first_kept(q));
		spread_doubt(q, i == who);
	}
}

static void
settle_lanes(int who)
{
	uint64_t rounds = pool->sweeps - sweeps;
	struct party *q;

	for (int i = 0; i < LANES; i++) {
		q = &parties[i];
		if (q->a == NULL || q->a->lane == NULL) {
			q->e = NULL;
			q->n = 0;
			continue;
		}
		if (rounds == 0 && i != who)
			continue;
		keep(q, rounds);
		/* How far one was read before its breach depends on who was
		 * read first. */
		if (!q->e->breached)
			check_lane(q);
	}
}

/* The grants since the last time are there, in the daemon's own copy. */
void
hear_grants(struct party *q, bool due)
{
	uint64_t tail = q->e->mirror->grant_tail, ref;

	must(tail == q->tail || (!due && !q->breached),
	    "grants for who has broken the rules");
	must(tail == q->tail || q->a->charged <= QUOTA, "beyond the quota");
	must(tail - q->head < RING || tail == q->tail, "too many grants");
	for (; q->tail != tail; q->tail++) {
		must(effect.ngranted < SLOTS, "more grants than slots");
		ref = q->e->mirror->words[q->tail % RING];
		q->granted[q->tail % RING] = ref;
		effect.granted[effect.ngranted++] =
		    (struct deal){q->holder, ref};
	}
}

static void
give_back(unsigned holder, uint64_t ref)
{
	effect.returned[effect.nreturned++] = (struct deal){holder, ref};
}

bool
return_stock(struct party *q, bool due)
{
	if (q->breached || due)
		return false;
	if (!head_possible(q))
		return true;
	for (uint64_t i = q->head; i != q->tail; i++)
		give_back(q->holder, q->granted[i % RING]);
	q->seen = q->head = q->tail;
	return false;
}

void
return_magazines(struct party *q)
{
	for (unsigned i = 0; i < q->nstowed; i++)
		give_back(q->holder, q->stowed[i]);
}

void
settle(int who, bool due[LANES])
{
	check_slots();
	for (int i = 0; i < LANES; i++)
		if (parties[i].a != NULL && parties[i].a->lane != NULL)
			check_breach(&parties[i], due[i]);
	settle_lanes(who);
}
