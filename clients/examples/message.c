/*
 * Messages over a socket pair; message.h says which.
 */
#include "config.h"

#include <errno.h>
#include <sys/socket.h>

#include "message.h"

int
message_send(int channel, const struct message *m)
{
	ssize_t n;

	do
		n = send(channel, m, sizeof(*m), MSG_NOSIGNAL);
	while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : 0;
}

int
message_receive(int channel, struct message *m)
{
	ssize_t n;

	do
		n = recv(channel, m, sizeof(*m), 0);
	while (n < 0 && errno == EINTR);
	/* A process killed with a message unread resets the connection. */
	if (n == 0 || (n < 0 && errno == ECONNRESET))
		return 0;
	if (n < 0)
		return -errno;
	return n == sizeof(*m) ? 1 : -EBADMSG;
}
