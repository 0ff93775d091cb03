/*
 * Fuzzes what the daemon reads of lanes: the input is a program for four clients
 * of one small pool, three of which have a lane. They publish records, true and
 * forged, write whatever they like wherever they can, take grants, end and come
 * back, while the daemon's own functions sweep, grant, take back and revoke.
 *
 * After each instruction every slot must be as judge.h says. At the end everybody
 * goes, and every slot must be free.
 *
 * An instruction is one byte: bits 6-7 choose the client, the others what
 * happens, in the order of `instructions`; operands are the bytes behind it. The
 * first byte of all says what kind of pool it is. Slots are named by number and
 * versions by their distance from the slot's own, so that a kept input means the
 * same wherever versions begin.
 */
#include "config.h"

#include "input.h"
#include "judge.h"
#include "magazine.h"
#include "replay.h"
#include "ring.h"

/* A version near the slot's own. */
static uint64_t
pick_version(uint32_t number, uint8_t how)
{
	static const int64_t steps[] = {
	    0, 0, 0, 0, 1, 1, 2, 3, -1, -2, 5, 17, 1 << 26, -(1 << 26)};

	how &= 0xf;
	if (how == 14)
		return 0;
	if (how == 15)
		return slots[number].version ^ UINT64_C(1) << 33;
	return slots[number].version + (uint64_t)steps[how];
}

static uint64_t
pick_ref(struct input *in)
{
	uint8_t which = next(in), how = next(in);
	uint32_t number = which % SLOTS;
	bool shared = (slots[number].fate == SHARED) != (how >> 4 & 1);
	uint64_t version = pick_version(number, how) & REF_VERSION_MASK;

	if (which >= 0xf0)
		number = which == 0xff ? 0xffffff : SLOTS + which % 15;
	return ref_make(number, shared, version);
}

static uint64_t
pick_record(struct input *in)
{
	static const uint8_t counts[] = {1, 2, 3, 255};
	uint8_t what = next(in);
	unsigned operation = what % 5 + 1, count;
	uint64_t ref;

	if (what >= 0xfa)
		return UINT64_C(0x0101010101010101) * next(in);
	ref = pick_ref(in);
	count = operation == LANE_SHARE || operation == LANE_RECALL
		    ? counts[what / 5 % 4]
		    : 0;
	if (operation == LANE_SEND || operation == LANE_SHARE)
		ref &= ~(UINT64_C(1) << REF_SLOT_BITS);
	return record_make((enum lane_operation)operation, ref, count);
}

static uint64_t
pick_index(struct input *in, uint64_t is, uint64_t other)
{
	static const uint64_t fixed[] = {0, RING, RING + 1, UINT64_C(1) << 31,
	    UINT32_MAX, UINT64_C(1) << 63, UINT64_MAX};
	uint8_t how = next(in);

	switch (how % 4) {
	case 0:
		return fixed[how / 4 % 7];
	case 1:
		return is + how / 4 % 8;
	case 2:
		return is - how / 4 % 8;
	default:
		return other + how / 4 - 32;
	}
}

static void
publish(struct party *q, uint64_t record)
{
	struct lane_header *h = q->lane.header;
	uint64_t tail = h->record_tail;

	q->lane.records[tail % RING] = record;
	h->record_tail = tail + 1;
}

static void
do_say(struct party *q, struct input *in)
{
	publish(q, pick_record(in));
}

/* Slots in a row. */
static void
do_say_row(struct party *q, struct input *in)
{
	uint8_t what = next(in), how = next(in);
	static const enum lane_operation rows[] = {
	    LANE_FREE, LANE_SEND, LANE_RECEIVE, LANE_RECEIVE};
	uint32_t number = what % SLOTS;

	for (unsigned n = how >> 4; n > 0; n--, number = (number + 1) % SLOTS)
		publish(
		    q, record_make(rows[what / SLOTS % 4],
			   ref_make(number, false,
			       pick_version(number, how) & REF_VERSION_MASK),
			   0));
}

/* A record where none is due. */
static void
do_poke_record(struct party *q, struct input *in)
{
	uint8_t place = next(in);

	q->lane.records[place % RING] = pick_record(in);
}

static void
do_poke_index(struct party *q, struct input *in)
{
	struct lane_header *h = q->lane.header;
	uint8_t which = next(in);

	if (which % 3 == 0)
		h->record_tail = pick_index(in, h->record_tail, h->record_head);
	else if (which % 3 == 1)
		h->grant_head = pick_index(in, h->grant_head, h->grant_tail);
	else
		((uint64_t *)(void *)h)[which] = pick_index(in, 0, which);
}

static void
do_poke_magazine(struct party *q, struct input *in)
{
	uint8_t which = next(in);
	struct lane_magazine *m = lane_magazine(&q->lane, which & 1);

	switch (which >> 1 & 3) {
	case 0:
		m->busy = next(in);
		break;
	case 1:
		m->count = (uint32_t)pick_index(in, m->count, 0);
		break;
	case 2:
		q->lane.header->magazines_used = (uint32_t)pick_index(in, 0, 0);
		break;
	default:
		m->refs[which >> 3 & 7] = pick_ref(in);
	}
}

static void
do_poke_grant(struct party *q, struct input *in)
{
	uint8_t place = next(in);

	q->lane.grants[place % RING] = pick_ref(in);
}

static void
do_poke_claim(struct party *q, struct input *in)
{
	uint64_t ref = pick_ref(in);

	(void)q;
	pool->claims.words[ref_slot(ref) % SLOTS] = ref ^ next(in);
}

/* As the library does: some grants, the rest of them into a magazine. */
static void
do_take(struct party *q, struct input *in)
{
	uint8_t how = next(in);
	uint64_t refs[ROOM];
	struct lane_magazine *m = lane_magazine(&q->lane, how & 1);
	unsigned n = ring_take(&q->lane, refs, how >> 1 & 7);

	q->lane.header->magazines_used = MAGAZINES;
	for (unsigned i = how >> 4; i < n && m->count < ROOM; i++)
		magazine_push(m, refs[i]);
}

static void
do_sweep(struct party *q, struct input *in)
{
	bool due[LANES] = {false};

	(void)q;
	(void)in;
	note();
	lanes_sweep(pool);
	settle_records(-1, due);
	settle(-1, due);
}

static void
do_turn(struct party *q, struct input *in)
{
	bool due[LANES] = {false};

	(void)in;
	note();
	lanes_turn(pool);
	settle_records(-1, due);
	for (int i = 0; i < LANES; i++) {
		q = &parties[i];
		if (q->e == NULL)
			continue;
		hear_grants(q, due[i] || !head_possible(q));
		due[i] = due[i] || !head_possible(q);
		if (!due[i])
			q->seen = q->head;
	}
	settle(-1, due);
}

static void
do_catch_up(struct party *q, struct input *in)
{
	bool due[LANES] = {false};

	(void)in;
	note();
	lane_catch_up(q->a);
	settle_records((int)(q - parties), due);
	settle((int)(q - parties), due);
}

static void
do_ask(struct party *q, struct input *in)
{
	bool due[LANES] = {false};
	int i = (int)(q - parties);

	(void)in;
	note();
	lane_asked(q->e);
	settle_records(-1, due);
	due[i] = !head_possible(q);
	hear_grants(q, due[i]);
	if (!due[i] && !q->breached)
		q->seen = q->head;
	settle(-1, due);
}

static void
do_take_back(struct party *q, struct input *in)
{
	bool due[LANES] = {false};

	(void)in;
	note();
	lane_take_back(q->e);
	settle_records(-1, due);
	due[q - parties] = return_stock(q, false);
	settle(-1, due);
}

static void
do_revoke(struct party *q, struct input *in)
{
	const struct account *of = next(in) & 1 ? q->a->account : NULL;
	bool due[LANES] = {false};

	note();
	lanes_revoke(pool, of);
	settle_records(-1, due);
	for (int i = 0; i < LANES; i++) {
		q = &parties[i];
		if (q->e != NULL && !due[i] && !q->breached &&
		    (of == NULL || q->a->account == of))
			return_magazines(q);
	}
	settle(-1, due);
}

/* The orphans' holder of that user, once the daemon has made one. */
static unsigned
heir_of(uid_t uid)
{
	const struct attachment *a;

	for (unsigned h = HOLDERS + 1;
	     h <= pool->ledger.geometry.attachments_max; h++) {
		a = pool->attachments[h - 1];
		if (a != NULL && a->account->uid == uid)
			return h;
	}
	return 0;
}

static void
do_end(struct party *q, struct input *in)
{
	bool due[LANES] = {false};
	int i = (int)(q - parties);

	(void)in;
	note();
	attachment_end(q->a);
	settle_records(-1, due);
	if (q->e != NULL) {
		return_stock(q, due[i]);
		return_magazines(q);
	}
	effect.ended = q->holder;
	effect.heir = heir_of(q->client.peer.uid);
	q->a = NULL;
	settle(-1, due);
}

static void
do_quarantine(struct party *q, struct input *in)
{
	bool due[LANES] = {false};

	(void)in;
	if (q->a->quarantined)
		return;
	note();
	attachment_quarantine(q->a);
	settle_records(-1, due);
	if (q->e != NULL)
		return_stock(q, due[q - parties]);
	settle(-1, due);
}

/* As after a restart of the daemon: the session ends, or it goes on. */
static void
do_away(struct party *q, struct input *in)
{
	bool due[LANES] = {false};

	(void)in;
	if (q->a->quarantined && !q->away)
		return;
	note();
	if (!q->away)
		attachment_away(q->a);
	else if (q->e == NULL || lane_resume(q->e) == 0)
		attachment_back(q->a);
	q->away = !q->away;
	settle_records(-1, due);
	settle(-1, due);
}

/* By the socket: its lane is read first, and then this is between two sweeps. */
static void
do_request(struct party *q, struct input *in)
{
	uint8_t what = next(in);
	unsigned operation = what % 5 + 1, count = 1 + what / 5 % 4;
	uint64_t ref = pick_ref(in), out;
	uint32_t number = ref_slot(ref);
	struct slot s, is;
	bool ok = false;
	int n = -1;

	if (q->a->quarantined)
		return;
	do_catch_up(q, in);
	if (number < SLOTS) {
		s = slots[number];
		ok = s.version == ref_version(ref) &&
		     oracle_do(&s, operation, ref_shared(ref),
			 operation == LANE_SEND ? 0 : count, q->a->holder,
			 q->a->write);
	}
	switch (operation) {
	case LANE_FREE:
		n = pool_free(q->a, ref);
		break;
	case LANE_SEND:
		n = pool_send(q->a, ref, &out);
		break;
	case LANE_SHARE:
		n = pool_share(q->a, ref, count, &out);
		break;
	case LANE_RECEIVE:
		n = pool_receive(q->a, ref);
		break;
	case LANE_RECALL:
		n = pool_recall(q->a, ref, count);
		break;
	}
	must(!ok || n >= 0, "refused against the rules");
	must(ok || n <= 0, "a refusal that counts something");
	if (!ok)
		return;
	is = look(number);
	if (!oracle_same(&s, &is))
		wrong(number, &is, "a request against the rules");
	slots[number] = s;
}

static void
do_alloc(struct party *q, struct input *in)
{
	bool due[LANES] = {false};
	uint64_t refs[EACH];
	int n;

	if (q->a->quarantined)
		return;
	do_catch_up(q, in);
	note();
	n = pool_alloc(q->a, next(in) % EACH + 1, false, 1, refs);
	settle_records(-1, due);
	effect.evicts = true;
	for (int i = 0; i < n; i++)
		effect.granted[effect.ngranted++] =
		    (struct deal){q->holder, refs[i]};
	must(n <= 0 || q->a->charged <= QUOTA, "beyond the quota");
	settle(-1, due);
}

static void
do_evict(struct party *q, struct input *in)
{
	bool due[LANES] = {false};

	(void)q;
	note();
	orphans_evict(pool, next(in) % 4 + 1);
	settle_records(-1, due);
	effect.evicts = true;
	settle(-1, due);
}

static const struct {
	void (*run)(struct party *, struct input *);
	bool lane; /* only who has one can */
} instructions[] = {{do_say, true}, {do_say_row, true}, {do_poke_record, true},
    {do_poke_index, true}, {do_poke_magazine, true}, {do_poke_grant, true},
    {do_poke_claim, false}, {do_take, true}, {do_sweep, false},
    {do_turn, false}, {do_catch_up, false}, {do_ask, true},
    {do_take_back, true}, {do_revoke, false}, {do_end, false},
    {do_quarantine, false}, {do_request, false}, {do_alloc, false},
    {do_evict, false}, {do_away, false}};

static void
leave(struct party *q)
{
	do_end(q, NULL);
}

int
LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc;
	(void)argv;
	world_begin();
	return 0;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = {data, size};
	uint8_t op, which;
	struct party *q;

	world_reset(next(&in));
	while (in.left > 0) {
		op = next(&in);
		which = (op & 0x3f) %
			(sizeof(instructions) / sizeof(*instructions));
		q = world_party(op >> 6);
		if (q->a->lane != NULL || !instructions[which].lane)
			instructions[which].run(q, &in);
	}
	world_audit();
	world_clear(leave);
	world_audit();
	return 0;
}

#ifdef REPLAY
int
main(int argc, char **argv)
{
	LLVMFuzzerInitialize(&argc, &argv);
	return fuzz_replay(argc, argv, "drain");
}
#endif
