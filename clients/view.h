/*
 * The daemon's documents as a person reads them: which keys of a STATS or
 * HOLDERS document become which columns. slabctl(1) explains every column.
 *
 * A document that lacks a key leaves "-" in its place, so that an older or
 * newer daemon can still be looked at.
 */
#ifndef SLABD_CLIENTS_VIEW_H
#define SLABD_CLIENTS_VIEW_H

#include <stdbool.h>

struct cJSON;
struct output;

/* The daemon itself, how full its pools are, and what they have done. */
void view_stats(const struct output *out, const struct cJSON *stats);

/* Leaves only the pool `name` in `stats`; false: there is none. */
bool view_choose(struct cJSON *stats, const char *name);

/* How the pools are built and used. */
void view_pools(const struct output *out, const struct cJSON *stats);

/* Who is connected, a line for each pool attached. */
void view_clients(const struct output *out, const struct cJSON *stats);

/*
 * Who holds the slots of one pool and since when; verbose also which segments
 * and slots these are.
 */
void view_holders(const struct output *out, const struct cJSON *holders);

/*
 * Adds to each pool of `stats` what happened a second since `before`, taken
 * `seconds` ago; view_stats() then shows it. 0 or -ENOMEM.
 */
int view_rates(struct cJSON *stats, const struct cJSON *before, double seconds);

#endif
