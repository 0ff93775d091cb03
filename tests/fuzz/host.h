/*
 * The daemon in this process, as the fuzz targets have it: started once, serving
 * from a directory of its own, of which nothing is left at exit.
 */
#ifndef SLABD_TESTS_FUZZ_HOST_H
#define SLABD_TESTS_FUZZ_HOST_H

#include "daemon/daemon.h"

/*
 * Starts it with `config`, in which ' stands for " and %s for its directory, and
 * returns when it serves.
 */
void host_begin(struct daemon *, const char *config);
/* Nobody comes by name any more, so whatever happens leaves nothing behind. */
void host_drop_names(struct daemon *);
/* Frees it, whose clients are gone. */
void host_end(struct daemon *);

#endif
