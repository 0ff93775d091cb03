/*
 * Whether this process is the one a handle was made in. A page the kernel wipes
 * in every child carries the process's generation, so the answer needs no
 * handler, no lock and no system call, and holds after a raw clone() too. (A
 * vfork() child shares the page and is not told apart.)
 */
#ifndef SLABD_FORK_H
#define SLABD_FORK_H

#include <stdbool.h>

/* This process's generation, to be kept in a handle; 0: no memory. */
unsigned fork_generation(void);

/* True in a process forked from the one that got `generation`. */
bool fork_foreign(unsigned generation);

#endif
