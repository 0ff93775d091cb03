/*
 * What of a daemon outlives it: its shared-memory objects, watched, copied and
 * put back. An image is a copy of all of them, with their sizes and holes; two
 * daemons that leave the same image behind cannot be told apart by whoever comes
 * after.
 *
 * Objects are written in place when they are put back, so that what clients
 * have mapped of them shows it too; only one that is gone is made anew.
 */
#ifndef SLABD_TESTS_IMAGE_H
#define SLABD_TESTS_IMAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#define IMAGE_NAME    256u
#define IMAGE_OBJECTS 12u
#define IMAGE_RUNS    64u /* of data between holes, in one object */

struct object {
	char name[IMAGE_NAME]; /* under /dev/shm */
	off_t size;
	blkcnt_t blocks;
	unsigned nruns;
	struct run {
		off_t at;
		size_t len, copy; /* where in the image's bytes */
	} runs[IMAGE_RUNS];
};

struct image {
	unsigned n;
	struct object objects[IMAGE_OBJECTS];
	size_t len;
	unsigned char *bytes;
};

/* The objects as they are now, mapped for looking at. */
struct watched {
	char prefix[64];
	unsigned n;
	int fds[IMAGE_OBJECTS];
	unsigned char *at[IMAGE_OBJECTS];
	struct image last;
};

/* Looks at all objects whose names start with the prefix: 0 or -errno. */
int image_watch(struct watched *, const char *prefix);
void image_unwatch(struct watched *);
/*
 * Whether anything has changed since it was last asked, or watched; `names`:
 * objects may have come or gone. -errno: it cannot be told.
 */
int image_changed(struct watched *, bool names);
/* A copy of what was seen last: 0 or -ENOMEM. */
int image_copy(const struct watched *, struct image *);
void image_free(struct image *);
/* Puts the objects back as they were in the image. 0 or -errno. */
int image_restore(const struct image *, const char *prefix);

#endif
