/*
 * How soon the slots of a killed client are free again, against how soon a
 * socket's peer learns that the other end was killed.
 */
#ifndef SLABD_TESTS_RECLAIM_H
#define SLABD_TESTS_RECLAIM_H

#include <stdint.h>

#define RECLAIM_HELD  100000u /* slots at least that the client holds */
#define RECLAIM_SLOTS 102400u /* in its pool */
#define RECLAIM_SIZE  64u     /* bytes of each */

/*
 * Kills a client that holds all of the pool: nanoseconds until all but what
 * this process was granted itself are free.
 */
double reclaim_slabd(void *unused);
/* The same with a process that has only a socket and as much shared memory. */
double reclaim_floor(void *unused);

#endif
