/*
 * A barrier in every process that joined, at the expense of the one who asks:
 * membarrier(2), MEMBARRIER_CMD_GLOBAL_EXPEDITED. The clients' fast paths store
 * and then look at what the daemon may have stored, many million times a
 * second; the daemon's side of that is rare. So the clients keep to compiler
 * barriers, and the daemon stores, asks for this barrier, and then looks.
 */
#ifndef SLABD_BARRIER_H
#define SLABD_BARRIER_H

#include <stdbool.h>

/* From now on this process takes part. False: the kernel cannot do it. */
bool barrier_join(void);
/* Whether barrier_all() works here. One thread only. */
bool barrier_possible(void);
/*
 * When it returns, each thread of each process that joined has passed through a
 * full barrier since the call.
 */
void barrier_all(void);

#endif
