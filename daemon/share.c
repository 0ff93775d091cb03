#include "config.h"

#include <stddef.h>

#include "daemon.h"
#include "event.h"
#include "share.h"
#include "user.h"

/* One part of the time in so many, */
#define PARTS 16u
/* this at once, */
#define RESERVE_US 1000u
/* and what was used beyond it is held against the user up to that. */
#define DEBT_US 4000u
/* What a refused record costs; to look at the clock costs as much. */
#define REJECT_US 1u
/* Who was served less long ago is still about. */
#define ABOUT_US 100000u

static bool
is_alone(const struct daemon *d, const struct user *but, uint64_t now)
{
	const struct user *u;

	LIST_FOREACH (u, &d->users, entry)
		if (u != but && u->served_us + ABOUT_US > now)
			return false;
	return true;
}

bool
share_is_used(const struct daemon *d, const struct user *u)
{
	uint64_t now = loop_now_us();

	return u != NULL && u->paid_us > now + RESERVE_US * PARTS &&
	       !is_alone(d, u, now);
}

bool
share_admits(const struct daemon *d, struct user *u)
{
	if (u != NULL)
		u->served_us = loop_now_us();
	return !share_is_used(d, u);
}

/*
 * One number says it all: when what was used will be paid for (the virtual
 * scheduling of ITU-T I.371's generic cell rate algorithm).
 */
static void
charge(struct user *u, uint64_t now, uint64_t us)
{
	uint64_t most = now + DEBT_US * PARTS;

	if (u == NULL)
		return;
	if (u->paid_us < now)
		u->paid_us = now;
	u->paid_us += us * PARTS;
	if (u->paid_us > most)
		u->paid_us = most;
}

void
share_charge(struct user *u, uint64_t begun)
{
	uint64_t now = loop_now_us();

	charge(u, now, now - begun);
}

void
share_charge_turn(struct user *u, uint64_t begun)
{
	if (u != NULL && u->paid_us > begun)
		share_charge(u, begun);
}

void
share_charge_reject(struct user *u)
{
	charge(u, loop_now_us(), REJECT_US);
}
