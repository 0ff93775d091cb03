/*
 * What the daemon does to an idle magazine, without a ledger: for tests of the
 * owner's side.
 */
#ifndef SLABD_TESTS_REVOKE_H
#define SLABD_TESTS_REVOKE_H

#include "magazine.h"

static inline unsigned
magazine_revoke(struct lane_magazine *m, uint64_t *refs, uint32_t room)
{
	uint32_t n = magazine_idle(m, room);
	unsigned got = 0;
	uint64_t ref;

	for (uint32_t i = 0; i < n; i++) {
		ref = magazine_peek(m, i);
		if (ref != 0 && magazine_seize(m, i, ref))
			refs[got++] = ref;
	}
	return got;
}

#endif
