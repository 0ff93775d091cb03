/*
 * What the daemon tells about itself, as JSON: statistics, who holds a pool's
 * slots, the running configuration. slabctl(1) describes every field.
 */
#ifndef SLABD_DAEMON_DOCUMENT_H
#define SLABD_DAEMON_DOCUMENT_H

#include <stddef.h>

struct daemon;
struct pool;

#define DOCUMENT_SLOTS_MAX 1000u /* listed one by one in `holders` */

/* The text, to be freed; NULL: no memory. */
char *document_stats(struct daemon *);
char *document_holders(struct pool *);
char *document_config(struct daemon *);

/* The text in a memfd nobody can write to or lengthen: the descriptor or
 * -errno. */
int document_seal(const char *text, size_t len);

#endif
