#include "config.h"

#include <errno.h>
#include <stddef.h>
#include <sys/mman.h>

#include "guard.h"

static LIST_HEAD(, guard) guards = LIST_HEAD_INITIALIZER(guards);

static struct guard *
guard_of(const void *address)
{
	struct guard *g;

	LIST_FOREACH (g, &guards, entry)
		if ((uintptr_t)address - (uintptr_t)g->at < g->bytes)
			break;
	return g;
}

/*
 * The access that failed is repeated on return. mmap() is not on the list of
 * what a handler may call, but the signal comes from this thread's own access
 * to a guarded mapping, so it has interrupted nothing of the C library.
 */
static void
on_bus_error(int signo, siginfo_t *info, void *context)
{
	struct guard *g = guard_of(info->si_addr);
	int saved = errno;

	(void)context;
	if (g == NULL || g->broken ||
	    mmap(g->at, g->bytes, PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1,
		0) == MAP_FAILED)
		signal(signo, SIG_DFL); /* not ours: die of it */
	else
		g->broken = 1;
	errno = saved;
}

static int
catch_bus_errors(void)
{
	static bool done;
	struct sigaction action = {
	    .sa_sigaction = on_bus_error, .sa_flags = SA_SIGINFO};

	if (done)
		return 0;
	sigemptyset(&action.sa_mask);
	if (sigaction(SIGBUS, &action, NULL) < 0)
		return -errno;
	done = true;
	return 0;
}

int
guard_map(struct guard *g, int fd, uint64_t bytes)
{
	int err = catch_bus_errors();
	void *at;

	*g = (struct guard){.bytes = bytes};
	if (err != 0)
		return err;
	at = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
	    MAP_SHARED | MAP_NORESERVE, fd, 0);
	if (at == MAP_FAILED)
		return -errno;
	madvise(at, bytes, MADV_DONTDUMP);
	g->at = at;
	LIST_INSERT_HEAD(&guards, g, entry);
	return 0;
}

void
guard_unmap(struct guard *g)
{
	if (g->at == NULL)
		return;
	LIST_REMOVE(g, entry);
	munmap(g->at, g->bytes);
	g->at = NULL;
}
