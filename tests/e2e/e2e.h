/*
 * What the end-to-end tests in C have in common: one daemon a test, and an
 * innocent client at its side. After every test the books must balance, the
 * innocent must still hold what it held, and nothing may be left behind.
 */
#ifndef SLABD_TESTS_E2E_H
#define SLABD_TESTS_E2E_H

#include <criterion/criterion.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "raw.h"
#include "server.h"

static struct server server;

/* Starts the daemon with that configuration. */
static inline void
serve(const char *text)
{
	int err = server_open(&server, text);

	cr_assert_eq(err, 0, "slabd did not start: %s", strerror(-err));
}

/* For .fini: whoever is still connected does not matter. */
static inline void
finish(void)
{
	const char *why = NULL;
	struct raw r;

	if (server.pid > 0) {
		if (raw_open(&r, server.socket, "finish") == 0)
			raw_call(
			    &r, WIRE_SHUTDOWN, WIRE_FORCE, 0, NULL, 0, NULL);
		raw_close(&r);
		why = server_stop(&server, SIGTERM);
	}
	if (server.janitor > 0)
		server_close(&server);
	cr_assert_null(why, "%s", why);
}

static inline void
login(struct raw *r, const char *label)
{
	int err = raw_open(r, server.socket, label);

	cr_assert_eq(err, 0, "%s: no connection: %d", label, err);
}

/* Attached to the pool; the attachment's number. */
static inline uint32_t
attach(struct raw *r, const char *pool)
{
	struct raw_pool p;
	int err = raw_attach(r, pool, 0, &p);

	cr_assert_eq(err, 0, "cannot attach %s: %d", pool, err);
	close(p.fd);
	return p.number;
}

static inline uint64_t
alloc_one(struct raw *r, uint32_t attachment)
{
	uint64_t ref = 0;
	int n = raw_alloc(r, attachment, 1, &ref);

	cr_assert_eq(n, 1, "no slot: %d", n);
	return ref;
}

static inline struct raw_stats
stats_of(struct raw *r, const char *pool)
{
	struct raw_stats s;
	int err = raw_pool_stats(r, pool, &s);

	cr_assert_eq(err, 0, "no statistics: %d", err);
	cr_assert_eq(
	    s.free + s.used + s.cached + s.in_flight + s.quarantined, s.slots);
	return s;
}

/* Until `condition` over `s`, the statistics of `pool`, is true: 20 seconds. */
#define STATS_UNTIL(r, pool, s, condition)                                  \
	do {                                                                \
		int tries_ = 20000;                                         \
                                                                            \
		while ((s) = stats_of((r), (pool)), !(condition)) {         \
			cr_assert_gt(tries_--, 0, "never: %s", #condition); \
			poll(NULL, 0, 1);                                   \
		}                                                           \
	} while (0)

/* A polite end, after which nothing of the client is left. */
static inline void
logout(struct raw *r)
{
	cr_assert_eq(raw_bye(r), 0);
	raw_close(r);
}

#endif
