/*
 * End-to-end tests with a service manager that keeps descriptors, and with
 * clients that are puppets. After every test nothing may be left in the store
 * either.
 */
#ifndef SLABD_TESTS_MANAGED_H
#define SLABD_TESTS_MANAGED_H

#include "e2e.h"
#include "manager.h"
#include "puppet.h"

#define POOL(name, more)                                                \
	"{\"name\": \"" name "\", \"slot_size\": 4096, "                \
	"\"slots_per_segment\": 64, \"min_segments\": 1, "              \
	"\"max_segments\": 2, \"max_clients\": 8, \"orphan_seconds\": " \
	"60" more "}"
#define SEALED	 ", \"backing\": \"memfd\""
#define POOLS(p) "\"pools\": [" p "]"

static struct manager manager = {.fd = -1, .listener = -1};

/* The last daemon took everything out of the store. */
static inline void
finish_all(void)
{
	int kept = 0;

	/* The manager's socket is not the daemon's to remove. */
	if (manager.listener >= 0)
		unlink(server.socket);
	finish();
	if (manager.fd >= 0) {
		cr_assert_eq(manager_run(&manager), 0);
		kept = (int)manager.n;
		manager_close(&manager);
	}
	cr_assert_eq(kept, 0, "%d descriptors are left in the store", kept);
}

static inline void
prepare(const char *text)
{
	cr_assert_eq(server_prepare(&server), 0);
	cr_assert_eq(server_configure(&server, text), 0);
	cr_assert_eq(manager_open(&manager, &server), 0);
}

static inline void
begin(void)
{
	int err = manager_start(&manager);

	cr_assert_eq(err, 0, "slabd did not start: %s", strerror(-err));
}

static inline void
restart(void)
{
	cr_assert_eq(server_kill(&server), 0);
	begin();
}

static inline void
start_puppet(struct puppet *p)
{
	int err;

	p->server = &server;
	if (p->pool == NULL)
		p->pool = "p";
	err = puppet_start(p);
	cr_assert_eq(err, 0, "no puppet: %s", strerror(-err));
}

static inline struct raw_stats
figures(const char *pool)
{
	struct raw r;
	struct raw_stats s;

	login(&r, "figures");
	cr_assert_eq(raw_audit(&r), 0);
	s = stats_of(&r, pool);
	raw_close(&r);
	return s;
}

/* Waits for what the daemon finds out by and by. */
static inline void
await_all_free(const char *pool)
{
	struct raw_stats s;
	struct raw r;

	login(&r, "awaits");
	STATS_UNTIL(&r, pool, s, s.free == s.slots);
	cr_assert_eq(raw_audit(&r), 0);
	raw_close(&r);
}

/* A slot from one to the other, with what is in it. */
static inline void
pass(struct puppet *from, struct puppet *to, uint64_t what)
{
	uint64_t ref, got;
	int err = puppet_send(from, what, &ref);

	cr_assert_eq(err, 0, "not sent: %s", strerror(-err));
	err = puppet_receive(to, ref, false, &got);
	cr_assert_eq(err, 0, "not received: %s", strerror(-err));
	cr_assert_eq(got, what);
}

#endif
