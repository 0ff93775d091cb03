#include "config.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/queue.h>
#include <sys/stat.h>

#include "locked.h"
#include "region.h"

/*
 * An object from its start on, with those ranges locked that are. A range that
 * lies further on has the object mapped once more, twice as far as is needed:
 * sparse objects may be larger than all our address space.
 */
struct mapping {
	LIST_ENTRY(mapping) entry;
	dev_t dev;
	ino_t ino;
	char *base;
	uint64_t bytes;
};

static LIST_HEAD(, mapping) mappings = LIST_HEAD_INITIALIZER(mappings);

static bool
is_of(const struct mapping *m, const struct stat *st)
{
	return m->dev == st->st_dev && m->ino == st->st_ino;
}

/* Pages do not come with the mapping, only with the lock. */
static int
mapping_new(struct mapping **out, int fd, const struct stat *st, uint64_t end)
{
	uint64_t size = (uint64_t)st->st_size;
	uint64_t bytes = size / 2 < end ? size : 2 * end;
	struct mapping *m;
	void *base;

	if (size < end)
		return -EINVAL;
	m = malloc(sizeof(*m));
	if (m == NULL)
		return -ENOMEM;
	base = mmap(NULL, bytes, PROT_READ, MAP_SHARED | MAP_NORESERVE, fd, 0);
	if (base == MAP_FAILED) {
		free(m);
		return -errno;
	}
	madvise(base, bytes, MADV_DONTDUMP);
	*m = (struct mapping){
	    .dev = st->st_dev, .ino = st->st_ino, .base = base, .bytes = bytes};
	LIST_INSERT_HEAD(&mappings, m, entry);
	*out = m;
	return 0;
}

static struct mapping *
mapping_find(const struct stat *st, uint64_t end)
{
	struct mapping *m;

	LIST_FOREACH (m, &mappings, entry)
		if (is_of(m, st) && m->bytes >= end)
			break;
	return m;
}

int
locked_add(int fd, uint64_t offset, uint64_t bytes)
{
	struct mapping *m;
	struct stat st;
	int rc = 0;

	if (region_is_huge(fd))
		return 0;
	if (fstat(fd, &st) < 0)
		return -errno;
	m = mapping_find(&st, offset + bytes);
	if (m == NULL)
		rc = mapping_new(&m, fd, &st, offset + bytes);
	if (rc < 0 || mlock(m->base + offset, bytes) == 0)
		return rc;
	/* The memory is there: only the permission can be missing. */
	locked_drop(fd, offset, bytes);
	return -EPERM;
}

void
locked_drop(int fd, uint64_t offset, uint64_t bytes)
{
	struct mapping *m;
	struct stat st;

	if (fstat(fd, &st) < 0)
		return;
	LIST_FOREACH (m, &mappings, entry)
		if (is_of(m, &st) && offset < m->bytes)
			munlock(m->base + offset, bytes < m->bytes - offset
						      ? bytes
						      : m->bytes - offset);
}

void
locked_forget(int fd)
{
	struct mapping *m, *next;
	struct stat st;

	if (fstat(fd, &st) < 0)
		return;
	for (m = LIST_FIRST(&mappings); m != NULL; m = next) {
		next = LIST_NEXT(m, entry);
		if (!is_of(m, &st))
			continue;
		LIST_REMOVE(m, entry);
		munmap(m->base, m->bytes);
		free(m);
	}
}
