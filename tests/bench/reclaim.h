/*
 * How soon the slots of a killed client are free again, against how soon a
 * socket's peer learns that the other end was killed.
 */
#ifndef SLABD_TESTS_RECLAIM_H
#define SLABD_TESTS_RECLAIM_H

#include <stdint.h>

#define RECLAIM_HELD 100000u /* slots that the client of a comparison holds */
#define RECLAIM_SIZE 64u     /* bytes of each */
/* Slots of the pool, of which a client holds so many at least. */
#define RECLAIM_SLOTS(held) ((held) / 1000u * 1024u)

/*
 * Kills a client that holds all of the pool, "SLOTSxSIZE": nanoseconds until all
 * but what this process was granted itself are free.
 */
double reclaim_slabd(unsigned held);
/* The same with a process that has only a socket and as much shared memory. */
double reclaim_floor(unsigned held);

#endif
