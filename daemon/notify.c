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

/* A descriptor of -1 is none. */
static int
send_to(int fd, struct sockaddr_un *address, socklen_t bytes,
    const char *message, int descriptor)
{
	union {
		struct cmsghdr header;
		char space[CMSG_SPACE(sizeof(int))];
	} control = {0};
	struct iovec body = {(void *)message, strlen(message)};
	struct msghdr datagram = {.msg_name = address,
	    .msg_namelen = bytes,
	    .msg_iov = &body,
	    .msg_iovlen = 1};

	if (descriptor >= 0) {
		control.header.cmsg_level = SOL_SOCKET;
		control.header.cmsg_type = SCM_RIGHTS;
		control.header.cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(&control.header), &descriptor, sizeof(int));
		datagram.msg_control = &control;
		datagram.msg_controllen = sizeof(control);
	}
	return sendmsg(fd, &datagram, MSG_NOSIGNAL) < 0 ? -errno : 0;
}

int
notify_send(const char *message, int descriptor)
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
	rc = send_to(fd, &address, (socklen_t)rc, message, descriptor);
	close(fd);
	return rc;
}

int
notify_ready(void)
{
	return notify_send("READY=1", -1);
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
	return notify_send(message, -1);
}

int
notify_stopping(void)
{
	return notify_send("STOPPING=1", -1);
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
	return notify_send(message, -1);
}
