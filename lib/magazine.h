/*
 * A magazine: a few slots one thread of a client keeps at hand. It lies in the
 * lane, and only its thread writes it, with plain stores and no fence; that the
 * daemon can empty it all the same, when somebody else waits for slots, rests
 * on the barrier that the daemon can ask for in every client (barrier.h):
 *
 *	the owner	stores `busy`, loads `notice`; if it is not the one
 *			`seen` it leaves the magazine alone. Afterwards it
 *			clears `busy` and looks at `notice` once more.
 *	the daemon	stores a new `notice`, asks for the barrier, loads
 *			`busy`. If it is clear no owner touches the magazine
 *			any more before it has attended to the notice, and the
 *			daemon takes the refs; if it is set, the owner will see
 *			the notice when it is done and give them back itself.
 *
 * An owner that attends to a notice may meet the daemon at the same refs, so
 * both take them by compare-and-swap: who gets one has it. The owner leaves 0
 * in its place, the daemon MAGAZINE_TAKEN, which tells its successor, should it
 * be killed just then, who had the slot. The owner uses the magazine again only
 * when `revoked`, the last notice that the daemon is done with, says so.
 *
 * `busy` also tells a signal handler that it has interrupted its own thread.
 *
 * What the refs are is for the ledger to judge; a client that writes nonsense
 * here has thrown away its own slots.
 */
#ifndef SLABD_MAGAZINE_H
#define SLABD_MAGAZINE_H

#include <stdbool.h>
#include <stdint.h>

#include "atomic.h"
#include "lane.h"

#define MAGAZINE_TAKEN UINT64_C(1) /* by the daemon; no ref is this */

/* The owner's side. */

/* Enters; false: a signal handler is inside already. */
static inline bool
magazine_enter(struct lane_magazine *m)
{
	/* Relaxed: only this thread and the daemon's look at it, and the
	 * daemon's barrier orders it. */
	if (load_relaxed(&m->busy) != 0)
		return false;
	store_relaxed(&m->busy, 1);
	compiler_barrier();
	return true;
}

/* Release: with the acquire in magazine_idle(). */
static inline void
magazine_leave(struct lane_magazine *m)
{
	store_release(&m->busy, 0);
	compiler_barrier();
}

/* Whether there is a notice to attend to: asked inside, and after leaving. */
static inline bool
magazine_noticed(const struct lane_magazine *m, const struct lane *l)
{
	return load_relaxed(&l->header->notice) != load_relaxed(&m->seen);
}

/* Takes the top; 0: empty. Inside, and with no notice to attend to. */
static inline uint64_t
magazine_pop(struct lane_magazine *m)
{
	uint32_t n = load_relaxed(&m->count);

	if (n == 0)
		return 0;
	store_relaxed(&m->count, n - 1);
	return load_relaxed(&m->refs[n - 1]);
}

/* Puts one on top; the caller has seen to the room. */
static inline void
magazine_push(struct lane_magazine *m, uint64_t ref)
{
	uint32_t n = load_relaxed(&m->count);

	store_relaxed(&m->refs[n], ref);
	store_relaxed(&m->count, n + 1);
}

/* Ref `i`, 0: nobody's any more. Relaxed: to have it takes an exchange. */
static inline uint64_t
magazine_peek(const struct lane_magazine *m, uint32_t i)
{
	uint64_t ref = load_relaxed(&m->refs[i]);

	return ref == MAGAZINE_TAKEN ? 0 : ref;
}

/* Leaves `mark` where `ref` is; false: the other side has been there. Acquire
 * and release: with the same operation of the other side. */
static inline bool
magazine_swap(struct lane_magazine *m, uint32_t i, uint64_t ref, uint64_t mark)
{
	return atomic_compare_exchange_strong_explicit(&m->refs[i], &ref, mark,
	    memory_order_acq_rel, memory_order_relaxed);
}

/* The owner takes ref `i` to give it back; 0: the daemon has it. */
static inline uint64_t
magazine_take(struct lane_magazine *m, uint32_t i)
{
	uint64_t ref = magazine_peek(m, i);

	return ref != 0 && magazine_swap(m, i, ref, 0) ? ref : 0;
}

/* The daemon's side. */

/*
 * Refs that may be in the magazine, up to `room`, after the daemon's notice and
 * barrier; 0 when its owner is in the middle of something.
 */
static inline uint32_t
magazine_idle(const struct lane_magazine *m, uint32_t room)
{
	uint32_t count;

	/* Acquire: with magazine_leave(). */
	if (load_acquire(&m->busy) != 0)
		return 0;
	count = load_relaxed(&m->count);
	return count < room ? count : room;
}

/* Takes `ref`, place `i`; false: its owner was faster. */
static inline bool
magazine_seize(struct lane_magazine *m, uint32_t i, uint64_t ref)
{
	return magazine_swap(m, i, ref, MAGAZINE_TAKEN);
}

/* Whether that is what has become of place `i`. */
static inline bool
magazine_is_seized(const struct lane_magazine *m, uint32_t i)
{
	return load_relaxed(&m->refs[i]) == MAGAZINE_TAKEN;
}

#endif
