#include "config.h"

#include <stdlib.h>
#include <unistd.h>

#include "client.h"
#include "daemon.h"
#include "event.h"
#include "user.h"

/* Connections beyond the limits that are kept for administrators. */
#define GUESTS_MAX 4u

static struct user *
find(const struct daemon *d, uid_t uid)
{
	struct user *u;

	LIST_FOREACH (u, &d->users, entry)
		if (u->uid == uid)
			break;
	return u;
}

/* Who has left is remembered as long as what it used is not paid for. */
static void
forget(struct daemon *d, uint64_t now)
{
	struct user *u, *next;

	for (u = LIST_FIRST(&d->users); u != NULL; u = next) {
		next = LIST_NEXT(u, entry);
		if (u->clients > 0 || u->paid_us > now)
			continue;
		LIST_REMOVE(u, entry);
		free(u);
	}
}

void
users_forget(struct daemon *d)
{
	forget(d, UINT64_MAX);
}

struct user *
user_keep_place(struct daemon *d, uid_t uid)
{
	struct user *u;

	forget(d, loop_now_us());
	u = find(d, uid);
	if (u == NULL) {
		u = calloc(1, sizeof(*u));
		if (u == NULL)
			return NULL;
		u->uid = uid;
		LIST_INSERT_HEAD(&d->users, u, entry);
	}
	u->clients++;
	d->nclients++;
	return u;
}

/* Whether the limits, each raised by `extra`, leave room for one more. */
static bool
has_place(const struct daemon *d, const struct user *u, unsigned extra)
{
	return d->nclients < d->conf->max_clients + extra &&
	       (u == NULL || u->clients < d->conf->max_clients_per_uid + extra);
}

enum admission
user_admit(struct daemon *d, uid_t uid, struct user **u)
{
	unsigned guests = uid == 0 || uid == geteuid() ? GUESTS_MAX : 0;
	bool full;

	*u = find(d, uid);
	full = !has_place(d, *u, 0);
	/* Who comes back gives the place he has kept for this one. */
	guests += clients_away(d, uid);
	if (!has_place(d, *u, guests))
		return USER_TURNED_AWAY;
	*u = user_keep_place(d, uid);
	return *u == NULL ? USER_TURNED_AWAY
	       : full	  ? USER_GUEST
			  : USER_ADMITTED;
}

void
user_dismiss(struct daemon *d, struct user *u)
{
	d->nclients--;
	u->clients--;
}
