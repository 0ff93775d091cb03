#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "event.h"
#include "instance.h"
#include "listener.h"
#include "log.h"
#include "peer.h"
#include "store.h"

#define ACCEPT_TURN 4 /* clients taken before others get a turn */

_Static_assert(sizeof(((struct sockaddr_un *)0)->sun_path) == INSTANCE_PATH_MAX,
    "an instance's path is a socket's");

struct listener {
	const struct instance *instance;
	struct watch *watch;
	struct timer *pause; /* running while the watch is off */
	int fd;
	int spare;	/* given up to turn one client away; -1: gone */
	bool activated; /* the service manager's socket, not ours */
	dev_t dev;	/* with ino, the path we made; 0: none */
	ino_t ino;
	listener_callback accepted;
	void *arg;
	struct log_limit limit;
};

static bool
is_listening_seqpacket(int fd)
{
	const int want[][2] = {
	    {SO_DOMAIN, AF_UNIX},
	    {SO_TYPE, SOCK_SEQPACKET},
	    {SO_ACCEPTCONN, 1},
	};

	for (size_t i = 0; i < sizeof(want) / sizeof(want[0]); i++) {
		int value = -1;
		socklen_t bytes = sizeof(value);

		if (getsockopt(fd, SOL_SOCKET, want[i][0], &value, &bytes) <
			0 ||
		    value != want[i][1])
			return false;
	}
	return true;
}

/* Takes the handed-over socket, if there is one: 0 or -errno. */
static int
socket_inherit(struct listener *listener)
{
	int fd = store_socket();

	if (fd < 0)
		return fd == -ENOENT ? 0 : fd;
	listener->fd = fd;
	if (!is_listening_seqpacket(fd))
		return -EINVAL;
	if (fcntl(fd, F_SETFL, O_NONBLOCK) < 0)
		return -errno;
	listener->activated = true;
	return 0;
}

/*
 * Removes what a daemon before us left at the path. Nobody else does so at the
 * same time, because we hold the lock; a program that serves without the lock
 * still answers, or is busy, and is left alone.
 */
static int
socket_remove_stale(const struct sockaddr_un *address)
{
	struct stat st;
	int fd, rc;

	if (lstat(address->sun_path, &st) < 0)
		return errno == ENOENT ? 0 : -errno;
	if (!S_ISSOCK(st.st_mode))
		return -EEXIST;
	fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	rc = -EADDRINUSE;
	if (connect(fd, (const struct sockaddr *)address, sizeof(*address)) <
		0 &&
	    errno == ECONNREFUSED)
		rc = unlink(address->sun_path) < 0 ? -errno : 0;
	close(fd);
	return rc;
}

/* Nobody can connect before the socket has its owner and its mode. */
static int
socket_bind(int fd, const struct sockaddr_un *address)
{
	mode_t saved = umask(0177);
	int rc;

	rc = bind(fd, (const struct sockaddr *)address, sizeof(*address));
	rc = rc < 0 ? -errno : 0;
	umask(saved);
	return rc;
}

int
listener_permit(struct listener *listener, mode_t mode, gid_t group)
{
	const char *path = listener->instance->socket_path;

	if (listener_activated(listener))
		return 0;
	if ((group != (gid_t)-1 && lchown(path, (uid_t)-1, group) < 0) ||
	    chmod(path, mode) < 0)
		return -errno;
	return 0;
}

static int
socket_publish(struct listener *listener, mode_t mode, gid_t group)
{
	struct stat st;
	int rc;

	if (lstat(listener->instance->socket_path, &st) < 0)
		return -errno;
	listener->dev = st.st_dev;
	listener->ino = st.st_ino;
	rc = listener_permit(listener, mode, group);
	if (rc == 0 && listen(listener->fd, SOMAXCONN) < 0)
		rc = -errno;
	return rc;
}

static int
socket_make(struct listener *listener, mode_t mode, gid_t group)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int rc;

	memcpy(address.sun_path, listener->instance->socket_path,
	    sizeof(address.sun_path));
	rc = socket_remove_stale(&address);
	if (rc < 0)
		return rc;
	listener->fd =
	    socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (listener->fd < 0)
		return -errno;
	rc = socket_bind(listener->fd, &address);
	if (rc < 0)
		return rc;
	return socket_publish(listener, mode, group);
}

static int
client_accept(const struct listener *listener)
{
	int fd =
	    accept4(listener->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

	return fd < 0 ? -errno : fd;
}

static int
spare_open(void)
{
	return open("/dev/null", O_RDONLY | O_CLOEXEC);
}

/*
 * Turns one client away in the place the spare descriptor held. False if that
 * is not possible: the spare is gone, the system's table is full, or memory
 * short.
 */
static bool
client_turn_away(struct listener *listener)
{
	int fd;

	if (listener->spare < 0)
		listener->spare = spare_open();
	if (listener->spare < 0)
		return false;
	close(listener->spare);
	fd = client_accept(listener);
	if (fd >= 0)
		close(fd);
	listener->spare = spare_open();
	return fd >= 0 || fd == -EAGAIN;
}

void
listener_rest(struct listener *listener, uint32_t ms)
{
	watch_set(listener->watch, 0);
	timer_start(listener->pause, ms);
}

static void
listener_resume(void *arg)
{
	struct listener *listener = arg;

	if (watch_set(listener->watch, WATCH_READ) < 0)
		timer_start(listener->pause, LISTENER_PAUSE_MS);
}

static void
listener_short(struct listener *listener, int error)
{
	bool turned_away = client_turn_away(listener);

	if (log_allowed(&listener->limit))
		log_warn("listener", "%s: a client %s", strerror(-error),
		    turned_away ? "was turned away" : "has to wait");
	if (!turned_away)
		listener_rest(listener, LISTENER_PAUSE_MS);
}

static void
listener_ready(void *arg, unsigned what)
{
	struct listener *listener = arg;

	(void)what;
	for (int i = 0; i < ACCEPT_TURN; i++) {
		int fd = client_accept(listener);

		if (fd >= 0) {
			listener->accepted(listener->arg, fd);
		} else if (fd != -EINTR && fd != -ECONNABORTED) {
			if (fd != -EAGAIN)
				listener_short(listener, fd);
			return;
		}
	}
}

int
listener_open(struct listener **out, struct loop *loop,
    const struct instance *instance, mode_t mode, gid_t group,
    listener_callback accepted, void *arg)
{
	struct listener *listener = malloc(sizeof(*listener));
	int rc;

	*out = NULL;
	if (listener == NULL)
		return -ENOMEM;
	*listener = (struct listener){.instance = instance,
	    .fd = -1,
	    .spare = spare_open(),
	    .accepted = accepted,
	    .arg = arg,
	    .limit = LOG_LIMIT_INIT("listener")};
	rc = socket_inherit(listener);
	if (rc == 0 && !listener->activated)
		rc = socket_make(listener, mode, group);
	if (rc < 0)
		goto close_listener;
	/* Inherited by accepted sockets: nothing comes before the accept. */
	peer_refuse_descriptors(listener->fd);
	rc = timer_new(&listener->pause, loop, listener_resume, listener);
	if (rc < 0)
		goto close_listener;
	rc = watch_new(&listener->watch, loop, listener->fd, WATCH_READ,
	    LOOP_CLIENT, listener_ready, listener);
	if (rc < 0)
		goto close_listener;
	*out = listener;
	return 0;

close_listener:
	listener_close(listener);
	return rc;
}

bool
listener_activated(const struct listener *listener)
{
	return listener->activated;
}

/* Only what we made: somebody may have put another socket there. */
static void
socket_unlink(const struct listener *listener)
{
	const char *path = listener->instance->socket_path;
	struct stat st;

	if (lstat(path, &st) == 0 && st.st_dev == listener->dev &&
	    st.st_ino == listener->ino)
		unlink(path);
}

void
listener_close(struct listener *listener)
{
	if (listener == NULL)
		return;
	log_limit_end(&listener->limit);
	watch_free(listener->watch);
	timer_free(listener->pause);
	socket_unlink(listener);
	if (listener->fd >= 0)
		close(listener->fd);
	if (listener->spare >= 0)
		close(listener->spare);
	free(listener);
}
