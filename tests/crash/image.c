#include "config.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "image.h"

#define SHM "/dev/shm"

static int
open_object(const char *name, int flags)
{
	char path[IMAGE_NAME + 16];
	int fd;

	snprintf(path, sizeof(path), SHM "/%s", name);
	fd = open(path, flags | O_CLOEXEC | O_NOFOLLOW, 0600);
	return fd < 0 ? -errno : fd;
}

static int
by_name(const struct dirent **a, const struct dirent **b)
{
	return strcmp((*a)->d_name, (*b)->d_name);
}

/* The names there are, in their order; how many, or -errno. */
static int
list(const char *prefix, char names[][IMAGE_NAME])
{
	struct dirent **all;
	int n = scandir(SHM, &all, NULL, by_name), found = 0;

	if (n < 0)
		return -errno;
	for (int i = 0; i < n; i++) {
		if (strncmp(all[i]->d_name, prefix, strlen(prefix)) == 0) {
			if (found < (int)IMAGE_OBJECTS)
				snprintf(names[found], IMAGE_NAME, "%s",
				    all[i]->d_name);
			found++;
		}
		free(all[i]);
	}
	free(all);
	return found <= (int)IMAGE_OBJECTS ? found : -E2BIG;
}

static int
find_runs(int fd, struct object *o)
{
	off_t at = 0, end;

	o->nruns = 0;
	while ((at = lseek(fd, at, SEEK_DATA)) >= 0) {
		end = lseek(fd, at, SEEK_HOLE);
		if (end < 0 || o->nruns == IMAGE_RUNS)
			return -E2BIG;
		o->runs[o->nruns++] =
		    (struct run){.at = at, .len = (size_t)(end - at)};
		at = end;
	}
	return errno == ENXIO ? 0 : -errno;
}

static int
measure(int fd, struct object *o)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return -errno;
	o->size = st.st_size;
	o->blocks = st.st_blocks;
	return find_runs(fd, o);
}

static int
open_all(struct watched *w)
{
	char names[IMAGE_OBJECTS][IMAGE_NAME];
	int n = list(w->prefix, names);
	struct object *o;
	int err;

	if (n < 0)
		return n;
	for (w->n = 0; w->n < (unsigned)n; w->n++) {
		o = &w->last.objects[w->n];
		memcpy(o->name, names[w->n], sizeof(o->name));
		w->at[w->n] = MAP_FAILED;
		w->fds[w->n] = open_object(o->name, O_RDONLY);
		if (w->fds[w->n] < 0)
			return w->fds[w->n];
		err = measure(w->fds[w->n], o);
		if (err != 0)
			return err;
		w->at[w->n] = mmap(NULL, (size_t)o->size + 1, PROT_READ,
		    MAP_SHARED, w->fds[w->n], 0);
		if (w->at[w->n] == MAP_FAILED)
			return -errno;
	}
	w->last.n = w->n;
	return 0;
}

static void
close_all(struct watched *w)
{
	for (unsigned i = 0; i < w->n; i++) {
		if (w->at[i] != MAP_FAILED)
			munmap(w->at[i], (size_t)w->last.objects[i].size + 1);
		close(w->fds[i]);
	}
	w->n = 0;
}

/* Takes the bytes of every run. */
static int
copy_bytes(struct watched *w)
{
	struct image *l = &w->last;
	struct run *r;
	size_t len = 0;
	void *grown;

	for (unsigned i = 0; i < w->n; i++)
		for (unsigned k = 0; k < l->objects[i].nruns; k++) {
			l->objects[i].runs[k].copy = len;
			len += l->objects[i].runs[k].len;
		}
	grown = realloc(l->bytes, len + 1);
	if (grown == NULL)
		return -ENOMEM;
	l->bytes = grown;
	l->len = len;
	for (unsigned i = 0; i < w->n; i++)
		for (unsigned k = 0; k < l->objects[i].nruns; k++) {
			r = &l->objects[i].runs[k];
			memcpy(l->bytes + r->copy, w->at[i] + r->at, r->len);
		}
	return 0;
}

int
image_watch(struct watched *w, const char *prefix)
{
	int err;

	snprintf(w->prefix, sizeof(w->prefix), "%s", prefix);
	err = open_all(w);
	return err != 0 ? err : copy_bytes(w);
}

void
image_unwatch(struct watched *w)
{
	close_all(w);
	image_free(&w->last);
}

/*
 * Sizes and memory are the same, and so are the bytes. Memory that was only
 * reserved counts as a hole until it is touched.
 */
static bool
is_same(const struct watched *w, unsigned i)
{
	const struct object *o = &w->last.objects[i];
	struct object now;

	if (measure(w->fds[i], &now) != 0 || now.size != o->size ||
	    now.blocks != o->blocks || now.nruns != o->nruns)
		return false;
	for (unsigned k = 0; k < o->nruns; k++)
		if (now.runs[k].at != o->runs[k].at ||
		    now.runs[k].len != o->runs[k].len)
			return false;
	for (unsigned k = 0; k < o->nruns; k++)
		if (memcmp(w->at[i] + o->runs[k].at,
			w->last.bytes + o->runs[k].copy, o->runs[k].len) != 0)
			return false;
	return true;
}

static bool
are_named(const struct watched *w)
{
	char names[IMAGE_OBJECTS][IMAGE_NAME];
	int n = list(w->prefix, names);

	if (n != (int)w->n)
		return false;
	for (int i = 0; i < n; i++)
		if (strcmp(names[i], w->last.objects[i].name) != 0)
			return false;
	return true;
}

int
image_changed(struct watched *w, bool names)
{
	bool same = !names || are_named(w);
	int err;

	for (unsigned i = 0; i < w->n && same; i++)
		same = is_same(w, i);
	if (same)
		return 0;
	close_all(w);
	err = open_all(w);
	if (err == 0)
		err = copy_bytes(w);
	return err != 0 ? err : 1;
}

int
image_copy(const struct watched *w, struct image *out)
{
	*out = w->last;
	out->bytes = malloc(out->len + 1);
	if (out->bytes == NULL)
		return -ENOMEM;
	memcpy(out->bytes, w->last.bytes, out->len);
	return 0;
}

void
image_free(struct image *i)
{
	free(i->bytes);
	i->bytes = NULL;
}

static int
restore_one(const struct image *i, const struct object *o)
{
	int fd = open_object(o->name, O_RDWR | O_CREAT), err = 0;
	const struct run *r;

	if (fd < 0)
		return fd;
	if (ftruncate(fd, 0) < 0 || ftruncate(fd, o->size) < 0)
		err = -errno;
	for (unsigned k = 0; k < o->nruns && err == 0; k++) {
		r = &o->runs[k];
		if (pwrite(fd, i->bytes + r->copy, r->len, r->at) !=
		    (ssize_t)r->len)
			err = -EIO;
	}
	close(fd);
	return err;
}

static bool
has(const struct image *i, const char *name)
{
	for (unsigned k = 0; k < i->n; k++)
		if (strcmp(i->objects[k].name, name) == 0)
			return true;
	return false;
}

int
image_restore(const struct image *i, const char *prefix)
{
	char names[IMAGE_OBJECTS][IMAGE_NAME];
	int n = list(prefix, names), err = n < 0 ? n : 0;

	for (int k = 0; k < n; k++)
		if (!has(i, names[k]))
			shm_unlink(names[k]);
	for (unsigned k = 0; k < i->n && err == 0; k++)
		err = restore_one(i, &i->objects[k]);
	return err;
}
