#include "config.h"

#include <linux/membarrier.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "atomic.h"
#include "barrier.h"

static long
membarrier(int command)
{
	return syscall(SYS_membarrier, command, 0, 0);
}

bool
barrier_join(void)
{
	return membarrier(MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED) == 0;
}

bool
barrier_possible(void)
{
	static long commands; /* 0: not asked yet; the kernel never says that */

	if (commands == 0)
		commands = membarrier(MEMBARRIER_CMD_QUERY);
	return commands > 0 &&
	       (commands & MEMBARRIER_CMD_GLOBAL_EXPEDITED) != 0;
}

void
barrier_all(void)
{
	/* Where that fails the clients fence for themselves: here too. */
	atomic_thread_fence(memory_order_seq_cst);
	membarrier(MEMBARRIER_CMD_GLOBAL_EXPEDITED);
}
