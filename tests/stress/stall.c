/*
 * Where a thread stops by chance before an atomic operation (lib/atomic.h), as
 * one does whose processor is taken away: mostly only for another to run, at
 * times for long enough that whole rounds of others pass.
 */
#include "config.h"

#include <pthread.h>
#include <sched.h>
#include <time.h>

#include "../core/random.h"
#include "atomic.h"

enum {
	ODDS = 20,	  /* operations to one stop */
	LONG_ODDS = 4,	  /* stops to a long one */
	LONG_NS = 500000, /* at most */
};

void
stall(void)
{
	static _Thread_local uint64_t chance;
	struct timespec pause = {0, 0};

	if (chance == 0)
		chance = (uint64_t)time(NULL) ^ (uint64_t)pthread_self();
	if (random_below(&chance, ODDS) != 0)
		return;
	if (random_below(&chance, LONG_ODDS) != 0) {
		sched_yield();
		return;
	}
	pause.tv_nsec = random_below(&chance, LONG_NS);
	nanosleep(&pause, NULL);
}
