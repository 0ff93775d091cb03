#include "config.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "notify.h"

#define STATUS "STATUS="

/* The address $NOTIFY_SOCKET names; its length, or -errno. */
static int
notify_address(struct sockaddr_un *address, const char *name)
{
	size_t len = strlen(name);

	if (*name != '/' && *name != '@')
		return -EAFNOSUPPORT;
	if (len >= sizeof(address->sun_path))
		return -ENAMETOOLONG;
	*address = (struct sockaddr_un){.sun_family = AF_UNIX};
	memcpy(address->sun_path, name, len);
	if (*name == '@')
		address->sun_path[0] = '\0';
	return (int)(offsetof(struct sockaddr_un, sun_path) + len);
}

static int
notify_send(const char *message)
{
	const struct timeval longest = {.tv_sec = 1};
	const char *name = getenv("NOTIFY_SOCKET");
	struct sockaddr_un address;
	int rc, fd;

	if (name == NULL)
		return 0;
	rc = notify_address(&address, name);
	if (rc < 0)
		return rc;
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &longest, sizeof(longest));
	rc = sendto(fd, message, strlen(message), MSG_NOSIGNAL,
		 (struct sockaddr *)&address, (socklen_t)rc) < 0
		 ? -errno
		 : 0;
	close(fd);
	return rc;
}

int
notify_ready(void)
{
	return notify_send("READY=1");
}

/* The time lets the manager tell this reload from an earlier one. */
int
notify_reloading(void)
{
	struct timespec now;
	char message[64];

	clock_gettime(CLOCK_MONOTONIC, &now);
	snprintf(message, sizeof(message),
	    "RELOADING=1\nMONOTONIC_USEC=%" PRIu64,
	    (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000);
	return notify_send(message);
}

int
notify_stopping(void)
{
	return notify_send("STOPPING=1");
}

int
notify_status(const char *fmt, ...)
{
	char message[512] = STATUS;
	char *text = message + strlen(STATUS);
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(message) - strlen(STATUS), fmt, ap);
	va_end(ap);
	/* A second line would be a second assignment. */
	for (; *text != '\0'; text++)
		if (*text == '\n')
			*text = ' ';
	return notify_send(message);
}
