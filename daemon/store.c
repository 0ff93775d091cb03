#include "config.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "notify.h"
#include "store.h"

#define HANDED_OVER_FROM 3 /* the first descriptor, by convention */

struct kept {
	const char *name; /* in store.names; "": none was given */
	int fd;		  /* -1: taken or closed */
};

/* The variables are the process's, and so is this. */
static struct {
	bool received;
	int error; /* of receiving */
	char *names;
	struct kept *kept;
	size_t n;
} store;

static bool
is_ours(const char *name)
{
	return strncmp(name, STORE_PREFIX, strlen(STORE_PREFIX)) == 0;
}

/* How many descriptors are meant for this process. */
static size_t
announced(void)
{
	const char *pid = getenv("LISTEN_PID"), *fds = getenv("LISTEN_FDS");
	long n = 0;

	if (pid != NULL && fds != NULL && strtol(pid, NULL, 10) == getpid())
		n = strtol(fds, NULL, 10);
	return n < 0 ? 0 : n > INT_MAX - HANDED_OVER_FROM ? INT_MAX : (size_t)n;
}

/* One more descriptor, with the next name of *names. */
static int
receive_one(char **names)
{
	int fd = HANDED_OVER_FROM + (int)store.n;
	struct kept *kept;
	const char *name;

	if (fcntl(fd, F_SETFD, FD_CLOEXEC) < 0)
		return -EINVAL;
	kept = reallocarray(store.kept, store.n + 1, sizeof(*kept));
	if (kept == NULL)
		return -ENOMEM;
	store.kept = kept;
	name = strsep(names, ":");
	kept[store.n++] =
	    (struct kept){.name = name != NULL ? name : "", .fd = fd};
	return 0;
}

static int
receive_all(void)
{
	const char *text = getenv("LISTEN_FDNAMES");
	size_t n = announced();
	char *names;
	int rc = 0;

	names = store.names = strdup(text != NULL ? text : "");
	if (names == NULL)
		return -ENOMEM;
	while (rc == 0 && store.n < n)
		rc = receive_one(&names);
	return rc;
}

int
store_receive(void)
{
	if (store.received)
		return store.error;
	store.received = true;
	store.error = receive_all();
	unsetenv("LISTEN_PID");
	unsetenv("LISTEN_FDS");
	unsetenv("LISTEN_FDNAMES");
	return store.error;
}

int
store_socket(void)
{
	struct kept *found = NULL;
	int fd, rc = store_receive();

	if (rc < 0)
		return rc;
	for (size_t i = 0; i < store.n; i++) {
		if (store.kept[i].fd < 0 || is_ours(store.kept[i].name))
			continue;
		if (found != NULL)
			return -EINVAL;
		found = &store.kept[i];
	}
	if (found == NULL)
		return -ENOENT;
	fd = found->fd;
	found->fd = -1;
	return fd;
}

static struct kept *
find(const char *name)
{
	for (size_t i = 0; i < store.n; i++)
		if (store.kept[i].fd >= 0 && is_ours(name) &&
		    strcmp(store.kept[i].name, name) == 0)
			return &store.kept[i];
	return NULL;
}

bool
store_has(const char *name)
{
	return store_receive() == 0 && find(name) != NULL;
}

int
store_take(const char *name)
{
	int fd, rc = store_receive();
	struct kept *kept = find(name);

	if (rc < 0)
		return rc;
	if (kept == NULL)
		return -ENOENT;
	fd = kept->fd;
	kept->fd = -1;
	return fd;
}

void
store_return(const char *name, int fd)
{
	for (size_t i = 0; i < store.n; i++)
		if (store.kept[i].fd < 0 &&
		    strcmp(store.kept[i].name, name) == 0) {
			store.kept[i].fd = fd;
			return;
		}
	close(fd);
}

/* A line feed or a colon would say something else to the manager. */
static bool
is_name(const char *name)
{
	if (!is_ours(name) || strlen(name) > STORE_NAME_MAX)
		return false;
	for (; *name != '\0'; name++)
		if (!isascii(*name) || !isprint(*name) || *name == ':')
			return false;
	return true;
}

int
store_put(const char *name, int fd)
{
	char message[64 + STORE_NAME_MAX];

	if (!is_name(name))
		return -EINVAL;
	/* Not polled: a manager that does would drop it at a hang-up. */
	snprintf(
	    message, sizeof(message), "FDSTORE=1\nFDNAME=%s\nFDPOLL=0", name);
	return notify_send(message, fd);
}

/* What was taken is its taker's alone from now on. */
static void
forget(const char *name)
{
	for (size_t i = 0; i < store.n; i++) {
		struct kept *kept = &store.kept[i];

		if (strcmp(kept->name, name) != 0)
			continue;
		if (kept->fd >= 0)
			close(kept->fd);
		*kept = (struct kept){.name = "", .fd = -1};
	}
}

int
store_drop(const char *name)
{
	char message[64 + STORE_NAME_MAX];

	if (!is_name(name))
		return -EINVAL;
	snprintf(message, sizeof(message), "FDSTOREREMOVE=1\nFDNAME=%s", name);
	forget(name);
	return notify_send(message, -1);
}

int
store_each(const char *prefix,
    void (*visit)(void *arg, const char *name, int fd), void *arg)
{
	int n = 0, rc = store_receive();

	if (rc < 0)
		return rc;
	for (size_t i = 0; i < store.n; i++) {
		const struct kept *kept = &store.kept[i];

		if (kept->fd < 0 || !is_ours(kept->name) ||
		    strncmp(kept->name, prefix, strlen(prefix)) != 0)
			continue;
		visit(arg, kept->name, kept->fd);
		n++;
	}
	return n;
}

/* A second one under a name that was taken: the name stays. */
static bool
is_taken(const char *name)
{
	for (size_t i = 0; i < store.n; i++)
		if (store.kept[i].fd < 0 &&
		    strcmp(store.kept[i].name, name) == 0)
			return true;
	return false;
}

static void
drop_or_close(void *arg, const char *name, int fd)
{
	struct kept *kept = find(name);

	(void)arg;
	if (!is_taken(name)) {
		store_drop(name);
		return;
	}
	close(fd);
	kept->fd = -1;
}

int
store_close_rest(void)
{
	return store_each("", drop_or_close, NULL);
}
