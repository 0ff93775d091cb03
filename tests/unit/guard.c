/*
 * Guarded mappings: what is behind them may be cut off at any moment.
 */
#include "config.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "daemon/guard.h"

#define PAGE   4096u
#define BYTES  (16 * PAGE)
#define ROUNDS 1500

TestSuite(guard, .timeout = 120);

static int
object(void)
{
	int fd = memfd_create("guard", MFD_CLOEXEC);

	cr_assert_geq(fd, 0);
	cr_assert_eq(ftruncate(fd, BYTES), 0);
	return fd;
}

/* The word at that byte. */
static _Atomic uint64_t *
at(const struct guard *g, size_t byte)
{
	return (_Atomic uint64_t *)(void *)((uint8_t *)g->at + byte);
}

Test(guard, whole)
{
	int fd = object();
	struct guard g;

	cr_assert_eq(guard_map(&g, fd, BYTES), 0);
	*at(&g, 8) = 42;
	*at(&g, BYTES - 8) = 43;
	cr_assert_not(guard_broken(&g));
	guard_unmap(&g);
	guard_unmap(&g);
	cr_assert_eq(guard_map(&g, fd, BYTES), 0);
	cr_assert_eq(*at(&g, 8), 42, "it is shared");
	guard_unmap(&g);
	close(fd);
}

Test(guard, cannot)
{
	struct guard g;

	cr_assert_eq(guard_map(&g, -1, BYTES), -EBADF);
	cr_assert_null(g.at);
	guard_unmap(&g);
}

/* Reading, writing and exchanging; once it broke everything is a zero. */
Test(guard, cut_off)
{
	int fd = object();
	struct guard g, other;
	uint64_t expected = 0;

	cr_assert_eq(guard_map(&g, fd, BYTES), 0);
	cr_assert_eq(guard_map(&other, fd, BYTES), 0);
	*at(&g, 0) = 42;
	*at(&g, 2 * PAGE) = 43;
	cr_assert_eq(ftruncate(fd, PAGE), 0);
	cr_assert_eq(*at(&g, 0), 42, "what is left can be read");
	cr_assert_not(guard_broken(&g));
	cr_assert_eq(*at(&g, 2 * PAGE), 0);
	cr_assert(guard_broken(&g));
	cr_assert_eq(*at(&g, 0), 0);
	*at(&g, 3 * PAGE) = 7;
	cr_assert_eq(*at(&g, 3 * PAGE), 7);
	/* One that nobody touched is as it was. */
	cr_assert_not(guard_broken(&other));
	cr_assert_eq(*at(&other, 0), 42);
	cr_assert(atomic_compare_exchange_strong(
	    at(&other, BYTES - 8), &expected, 5));
	cr_assert(guard_broken(&other));
	cr_assert_eq(*at(&other, BYTES - 8), 5);
	/* Longer again, it stays broken. */
	cr_assert_eq(ftruncate(fd, BYTES), 0);
	cr_assert_eq(*at(&g, 2 * PAGE), 0);
	cr_assert(guard_broken(&g));
	guard_unmap(&g);
	guard_unmap(&other);
	close(fd);
}

static pid_t
start_cutting(int fd)
{
	pid_t pid = fork();

	if (pid != 0)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (uint64_t i = 0;; i++)
		if (ftruncate(fd, (off_t)(i * 7 % 17 * PAGE)) != 0 ||
		    ftruncate(fd, BYTES) != 0)
			_exit(1);
}

/* Works in it until it breaks; false: it never does. */
static bool
work_until_broken(struct guard *g)
{
	uint64_t i;

	for (i = 0; i < 100000000 && !guard_broken(g); i++) {
		_Atomic uint64_t *word = at(g, i * 520 % BYTES & ~7u);

		atomic_store(word, atomic_load(word) + i);
		atomic_fetch_add(word, 1);
	}
	return guard_broken(g);
}

/* Another process cuts it off under our hands, again and again. */
Test(guard, under_load)
{
	int fd = object(), status;
	pid_t pid = start_cutting(fd);
	struct guard g, bystander;
	int quiet = object();

	cr_assert_gt(pid, 0);
	cr_assert_eq(guard_map(&bystander, quiet, BYTES), 0);
	for (int i = 0; i < ROUNDS; i++) {
		cr_assert_eq(guard_map(&g, fd, BYTES), 0);
		cr_assert(work_until_broken(&g), "round %d", i);
		*at(&g, 0) = 1;
		*at(&g, BYTES - 8) = 2;
		cr_assert_eq(*at(&g, BYTES - 8), 2);
		guard_unmap(&g);
	}
	cr_assert_not(guard_broken(&bystander));
	kill(pid, SIGKILL);
	cr_assert_eq(waitpid(pid, &status, 0), pid);
	guard_unmap(&bystander);
	close(fd);
	close(quiet);
}

/* What is no guard's business ends the process as ever. */
Test(guard, not_ours, .signal = SIGBUS)
{
	int fd = object(), guarded = object();
	struct guard g;
	volatile uint8_t *mem;

	cr_assert_eq(guard_map(&g, guarded, BYTES), 0);
	mem = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	cr_assert_neq(mem, MAP_FAILED);
	cr_assert_eq(ftruncate(fd, 0), 0);
	mem[0] = 1;
}

/* Nor what lies where a guard was. */
Test(guard, no_more, .signal = SIGBUS)
{
	int fd = object();
	struct guard g;
	volatile uint8_t *mem;
	void *where;

	cr_assert_eq(guard_map(&g, fd, BYTES), 0);
	where = g.at;
	guard_unmap(&g);
	mem = mmap(where, BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED,
	    fd, 0);
	cr_assert_eq(mem, where);
	cr_assert_eq(ftruncate(fd, 0), 0);
	mem[0] = 1;
}
