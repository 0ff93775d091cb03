/*
 * Connections: accepting, reading, sending, ending.
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#include "client.h"
#include "daemon.h"
#include "event.h"
#include "lanes.h"
#include "ledger.h"
#include "log.h"
#include "pool.h"
#include "share.h"
#include "user.h"

/* How often to look whether an ended client's descriptors were read, */
#define UNREAD_LOOK_MS 1000u
/* and whether one whose process cannot be seen still is there. */
#define AWAY_LOOK_MS 1000u
/*
 * The number of an attachment is its place among the client's, and above it
 * some of the tag of its ATTACH: a DETACH that is sent again to a successor
 * must not meet another attachment in that place.
 */
#define NUMBER_PLACE	 0xffffu
#define NUMBER_TAG_SHIFT 16
/* Clients that are read again in one turn. */
#define TURN_MAX 16u

uid_t
client_uid(const struct client *c)
{
	return c->peer.uid;
}

bool
client_is_admin(const struct client *c)
{
	const struct config *conf = c->daemon->conf;

	return c->peer.uid == 0 || c->peer.uid == geteuid() ||
	       (conf->has_admin_group &&
		   peer_in_group(&c->peer, conf->admin_group));
}

size_t
client_describe(const struct client *c, uid_t uid, char *buf, size_t len)
{
	const char *name;

	if (c == NULL)
		return (size_t)snprintf(
		    buf, len, "ended clients of uid %u", (unsigned)uid);
	name = c->label[0] != '\0' ? c->label : c->peer.comm;
	return (size_t)snprintf(
	    buf, len, "%s (pid %d)", log_quote(name), (int)c->peer.pid);
}

void
client_identify(const struct client *c, struct ledger_attachment *l)
{
	l->pid = (uint32_t)c->peer.pid;
	l->session = c->session;
	l->token = c->token;
	l->start_time = c->peer.start_time;
	l->pids = c->daemon->pids;
}

struct attachment *
client_attachment(const struct client *c, uint32_t number)
{
	uint32_t place = number & NUMBER_PLACE;
	struct attachment *a = NULL;

	if (place > 0 && place <= c->nattachments)
		a = c->attachments[place - 1];
	return a != NULL && a->number == number ? a : NULL;
}

/* Place `i` of its attachments is there. */
static int
make_place(struct client *c, uint32_t i)
{
	struct attachment **grown;

	if (i < c->nattachments)
		return 0;
	grown = reallocarray(c->attachments, i + 1, sizeof(*grown));
	if (grown == NULL)
		return -ENOMEM;
	c->attachments = grown;
	while (c->nattachments <= i)
		c->attachments[c->nattachments++] = NULL;
	return 0;
}

int
client_attach(struct client *c, struct attachment *a, uint32_t tag)
{
	uint32_t i = 0;

	while (i < c->nattachments && c->attachments[i] != NULL)
		i++;
	if (i == NUMBER_PLACE || make_place(c, i) != 0)
		return -ENOMEM;
	c->attachments[i] = a;
	a->number = tag << NUMBER_TAG_SHIFT | (i + 1);
	a->client = c;
	return 0;
}

bool
client_is_choked(const struct client *c)
{
	return !TAILQ_EMPTY(&c->queue);
}

void
client_detach(struct client *c, uint32_t number)
{
	c->attachments[(number & NUMBER_PLACE) - 1] = NULL;
}

static bool
client_is_attached(const struct client *c)
{
	for (uint32_t i = 0; i < c->nattachments; i++)
		if (c->attachments[i] != NULL)
			return true;
	return false;
}

/* What the socket is watched for, from the client's state alone. */
static void
set_mask(struct client *c)
{
	unsigned mask = WATCH_CLOSED;

	/* It was woken for its end, and to watch anew would undo that. */
	if (c->ending)
		return;
	mask |= TAILQ_EMPTY(&c->queue) ? WATCH_READ : WATCH_WRITE;
	if (c->late)
		mask = 0;
	if (watch_set(c->watch, mask) != 0)
		client_fail(c, "cannot be watched");
}

static void
be_late(struct client *c)
{
	struct daemon *d = c->daemon;

	if (TAILQ_EMPTY(&d->late))
		timer_start(d->turn, SHARE_TURN_MS);
	TAILQ_INSERT_TAIL(&d->late, c, late_entry);
	c->late = true;
	set_mask(c);
}

static void
be_late_no_more(struct client *c)
{
	if (c->late)
		TAILQ_REMOVE(&c->daemon->late, c, late_entry);
	c->late = false;
}

/* A few at a time: the first will have used up what there is. */
void
clients_turn(void *arg)
{
	struct daemon *d = arg;
	struct client *c, *next;
	unsigned n = 0;

	for (c = TAILQ_FIRST(&d->late); c != NULL && n < TURN_MAX; c = next) {
		next = TAILQ_NEXT(c, late_entry);
		if (share_is_used(d, c->user))
			continue;
		be_late_no_more(c);
		set_mask(c);
		n++;
	}
	if (!TAILQ_EMPTY(&d->late))
		timer_start(d->turn, SHARE_TURN_MS);
}

static void
drop_first(struct client *c)
{
	struct message *m = TAILQ_FIRST(&c->queue);

	TAILQ_REMOVE(&c->queue, m, entry);
	c->queued--;
	for (unsigned i = 0; i < m->passed.n; i++)
		close(m->passed.fds[i]);
	free(m);
}

static void
drop_queue(struct client *c)
{
	while (!TAILQ_EMPTY(&c->queue))
		drop_first(c);
}

/* Their readers have had the time; the memory is the daemon's. */
static void
drop_documents(struct client *c)
{
	while (c->ndocuments > 0) {
		if (ftruncate(c->documents[--c->ndocuments], 0) != 0)
			log_warn(
			    "client", "a document stays: %s", strerror(errno));
		close(c->documents[c->ndocuments]);
	}
}

void
client_keep_document(struct client *c, int fd)
{
	if (c->ndocuments == CLIENT_UNREAD_FDS)
		drop_documents(c);
	c->documents[c->ndocuments++] = fd;
}

/*
 * Forgets the replies with descriptors once the last was read. The kernel
 * counts a message that lies unread as more than its own bytes: if less than
 * was sent since lies there, it is not among them.
 */
static void
note_reading(struct client *c)
{
	int unread = 0;

	if (c->fd_replies > 0 && ioctl(c->fd, SIOCOUTQ, &unread) == 0 &&
	    (uint64_t)unread < c->fd_bytes)
		c->fd_replies = 0;
}

/*
 * Ends the conversation; true once the socket is closed. Descriptors the peer
 * has not read count against the daemon even when its end is closed, so that
 * stays open, and with it the client's place, until they are read or thrown
 * away.
 */
static bool
close_socket(struct client *c)
{
	be_late_no_more(c);
	watch_free(c->watch);
	c->watch = NULL;
	drop_queue(c);
	drop_documents(c);
	if (c->fd < 0)
		return true;
	note_reading(c);
	if (c->fd_replies > 0) {
		shutdown(c->fd, SHUT_RDWR);
		timer_start(c->deadline, UNREAD_LOOK_MS);
		return false;
	}
	close(c->fd);
	c->fd = -1;
	return true;
}

static void
client_free(struct client *c)
{
	TAILQ_REMOVE(&c->daemon->clients, c, entry);
	if (c->user != NULL)
		user_dismiss(c->daemon, c->user);
	close_socket(c);
	if (c->fd >= 0)
		close(c->fd);
	timer_free(c->deadline);
	watch_free(c->death);
	peer_free(&c->peer);
	free(c->attachments);
	free(c);
}

static void
quarantine(struct client *c)
{
	char who[LOG_QUOTE_MAX];

	client_describe(c, 0, who, sizeof(who));
	log_debug("client",
	    "%s closed its connection before its end: "
	    "slots are set aside until then",
	    who);
	c->state = CLIENT_QUARANTINED;
	close_socket(c);
	for (uint32_t i = 0; i < c->nattachments; i++)
		if (c->attachments[i] != NULL)
			attachment_quarantine(c->attachments[i]);
}

/* Some cannot be seen to end, and some say goodbye where only we look. */
static void
watch_over(struct client *c)
{
	if (c->state == CLIENT_AWAY || c->death == NULL)
		timer_start(c->deadline, AWAY_LOOK_MS);
}

/* Its attachments wait for somebody to take them over. */
static void
leave_attachments(struct client *c)
{
	for (uint32_t i = 0; i < c->nattachments; i++)
		if (c->attachments[i] != NULL)
			attachment_away(c->attachments[i]);
	c->waiters = 0;
}

/* Without its socket, but all the rest stays: it may come back. */
static void
go_away(struct client *c)
{
	close_socket(c);
	timer_stop(c->deadline);
	if (c->fd >= 0)
		close(c->fd);
	c->fd = -1;
	c->state = CLIENT_AWAY;
	c->ending = c->fresh = false;
	leave_attachments(c);
	watch_over(c);
}

void
client_detach_all(struct client *c)
{
	struct attachment *a;

	for (uint32_t i = 0; i < c->nattachments; i++) {
		a = c->attachments[i];
		c->attachments[i] = NULL;
		if (a != NULL)
			attachment_end(a);
	}
}

/* Attachments that their client says, in the lane, it has done with. */
static void
end_parted(struct client *c)
{
	struct attachment *a;

	for (uint32_t i = 0; i < c->nattachments; i++) {
		a = c->attachments[i];
		if (a == NULL || a->lane == NULL || !lane_said_goodbye(a->lane))
			continue;
		c->attachments[i] = NULL;
		attachment_end(a);
	}
}

static void
end(struct client *c, bool goodbye)
{
	/* No callback may find the client half gone. */
	c->ending = true;
	note_reading(c);
	if (!goodbye && c->fresh && !c->failed && c->fd_replies == 0 &&
	    peer_alive(c->peer.pidfd)) {
		go_away(c);
		return;
	}
	if (!goodbye)
		end_parted(c);
	if (!goodbye && client_is_attached(c) && c->death != NULL &&
	    peer_alive(c->peer.pidfd)) {
		if (c->state != CLIENT_QUARANTINED)
			quarantine(c);
		return;
	}
	client_detach_all(c);
	watch_free(c->death);
	c->death = NULL;
	c->state = CLIENT_GONE;
	if (close_socket(c))
		client_free(c);
}

void
client_end(struct client *c, bool goodbye)
{
	uint64_t begun = loop_now_us();
	struct user *u = c->user;

	end(c, goodbye);
	share_charge(u, begun);
}

bool
client_leave(struct client *c)
{
	if (!c->ending && !TAILQ_EMPTY(&c->queue)) {
		c->leaving = true;
		return true;
	}
	client_end(c, true);
	return false;
}

void
client_fail(struct client *c, const char *why)
{
	static struct log_limit limit = LOG_LIMIT_INIT("client");
	char who[LOG_QUOTE_MAX];

	if (c->ending)
		return;
	client_describe(c, 0, who, sizeof(who));
	/* One limit for all: to connect anew is cheap. */
	if (log_allowed(&limit))
		log_warn("client", "%s %s: disconnected", who, why);
	c->ending = c->failed = true;
	if (c->watch != NULL)
		watch_wake(c->watch, WATCH_CLOSED);
	else
		timer_start(c->deadline, 0);
}

static ssize_t
send_now(
    int fd, const void *bytes, size_t len, const struct descriptors *passed)
{
	struct iovec iov = {(void *)(uintptr_t)bytes, len};
	union {
		struct cmsghdr align;
		char room[CMSG_SPACE(sizeof(passed->fds))];
	} control;
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
	struct cmsghdr *cmsg;
	size_t size;

	if (passed == NULL || passed->n == 0)
		return send(fd, bytes, len, MSG_DONTWAIT | MSG_NOSIGNAL);
	size = passed->n * sizeof(int);
	memset(&control, 0, sizeof(control));
	msg.msg_control = control.room;
	msg.msg_controllen = CMSG_SPACE(size);
	cmsg = CMSG_FIRSTHDR(&msg);
	cmsg->cmsg_level = SOL_SOCKET;
	cmsg->cmsg_type = SCM_RIGHTS;
	cmsg->cmsg_len = CMSG_LEN(size);
	memcpy(CMSG_DATA(cmsg), passed->fds, size);
	return sendmsg(fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);
}

/* Duplicates of all, or of as many as there may be: false. */
static bool
duplicate(struct descriptors *to, const struct descriptors *from)
{
	to->n = 0;
	while (from != NULL && to->n < from->n) {
		to->fds[to->n] = fcntl(from->fds[to->n], F_DUPFD_CLOEXEC, 3);
		if (to->fds[to->n] < 0)
			return false;
		to->n++;
	}
	return true;
}

static void
enqueue(struct client *c, const void *bytes, size_t len,
    const struct descriptors *passed)
{
	struct message *m;

	if (c->queued == CLIENT_QUEUE_MAX) {
		client_fail(c, "does not read its messages");
		return;
	}
	m = malloc(sizeof(*m) + len);
	if (m == NULL) {
		client_fail(c, "cannot be answered for want of memory");
		return;
	}
	m->len = len;
	memcpy(m->bytes, bytes, len);
	TAILQ_INSERT_TAIL(&c->queue, m, entry);
	if (c->queued++ == 0)
		set_mask(c);
	if (!duplicate(&m->passed, passed))
		client_fail(c, "cannot be sent a descriptor");
}

/*
 * Sends what the socket takes: 0 or -errno. An unread descriptor costs the
 * daemon one, so it gets a deadline.
 */
static int
transmit(struct client *c, const void *bytes, size_t len,
    const struct descriptors *passed)
{
	if (send_now(c->fd, bytes, len, passed) < 0)
		return -errno;
	if (passed != NULL && passed->n > 0) {
		c->fd_replies++;
		c->fd_bytes = 0;
		timer_start(
		    c->deadline, c->daemon->conf->handshake_seconds * 1000);
	}
	c->fd_bytes += len;
	return 0;
}

void
client_send(struct client *c, const void *bytes, size_t len,
    const struct descriptors *passed)
{
	int err;

	if (c->ending || c->fd < 0)
		return;
	if (!TAILQ_EMPTY(&c->queue)) {
		enqueue(c, bytes, len, passed);
		return;
	}
	err = transmit(c, bytes, len, passed);
	if (err == -EAGAIN || err == -EINTR || err == -ENOBUFS)
		enqueue(c, bytes, len, passed);
	else if (err != 0 && err != -EPIPE && err != -ECONNRESET)
		client_fail(c, strerror(-err));
}

bool
client_reads_fds(struct client *c)
{
	note_reading(c);
	return c->fd_replies < CLIENT_UNREAD_FDS;
}

void
client_event(struct client *c, enum wire_type type, uint32_t attachment,
    const struct pool *p)
{
	struct wire_header h = {
	    .type = (uint16_t)type, .attachment = attachment};
	uint8_t bytes[WIRE_HEADER_BYTES + 12];
	struct wire_writer w;

	if (c == NULL)
		return;
	wire_begin(&w, bytes, sizeof(bytes), &h);
	if (type == WIRE_EVENT_RESIZED) {
		wire_put_u64(&w, p->region.bytes);
		wire_put_u32(&w, p->segments_max);
	}
	client_send(c, bytes, w.len, NULL);
}

/* True when the queue is empty. */
static bool
flush_queue(struct client *c)
{
	struct message *m;
	int err;

	while ((m = TAILQ_FIRST(&c->queue)) != NULL) {
		err = transmit(c, m->bytes, m->len, &m->passed);
		if (err != 0) {
			if (err != -EAGAIN && err != -EINTR)
				client_fail(c, strerror(-err));
			return false;
		}
		drop_first(c);
	}
	set_mask(c);
	/* Its waiting requests may be served again. */
	for (uint32_t i = 0; i < c->nattachments; i++)
		if (c->attachments[i] != NULL)
			waiters_resume(c->attachments[i]);
	return true;
}

/* As recv(2); notes descriptors, which the kernel has closed for lack of room.
 */
static ssize_t
receive(const struct client *c, void *bytes, size_t size, bool *descriptors)
{
	struct iovec iov = {bytes, size};
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
	ssize_t len;

	*descriptors = false;
	if (c->no_descriptors)
		return recv(c->fd, bytes, size, MSG_DONTWAIT);
	len = recvmsg(c->fd, &msg, MSG_DONTWAIT);
	*descriptors = len >= 0 && (msg.msg_flags & MSG_CTRUNC) != 0;
	return len;
}

enum reading { READ_MORE, READ_EMPTY, READ_END, READ_GONE };

/* One message: served, none there, no more to come, or the client is gone. */
static enum reading
read_one(struct client *c)
{
	static uint8_t bytes[WIRE_MESSAGE_MAX + 1];
	bool descriptors;
	ssize_t len = receive(c, bytes, sizeof(bytes), &descriptors);

	if (len < 0)
		return errno == EAGAIN	     ? READ_EMPTY
		       : errno == EINTR	     ? READ_MORE
		       : errno == ECONNRESET ? READ_MORE
					     : READ_END;
	if (len == 0)
		return READ_END;
	if (descriptors) {
		client_fail(c, "sent descriptors, which nobody takes");
		return READ_EMPTY;
	}
	if ((size_t)len > WIRE_MESSAGE_MAX || (size_t)len < WIRE_HEADER_BYTES) {
		client_fail(c, "sent a packet that is no message");
		return READ_EMPTY;
	}
	/* Who has read one reply before it asks again needs no guess later. */
	note_reading(c);
	return request_serve(c, bytes, (size_t)len) ? READ_MORE : READ_GONE;
}

/*
 * One message a turn: most clients wait for the answer anyway, so looking for a
 * second would be a system call for nothing, and a flood lets others in
 * between. What a client said before it hung up still counts.
 */
static void
read_turn(struct client *c, bool closed)
{
	enum reading r;

	c->deaf = closed;
	do
		r = read_one(c);
	while (
	    closed && r == READ_MORE && !c->ending && TAILQ_EMPTY(&c->queue));
	if (r == READ_GONE)
		return;
	if (r == READ_END || closed)
		client_end(c, false);
}

static void client_died(void *, unsigned);

/* Whether its process is gone, as far as its lanes can tell. */
static bool
has_let_go(const struct client *c)
{
	const struct attachment *a;
	bool lanes = false;

	for (uint32_t i = 0; i < c->nattachments; i++) {
		a = c->attachments[i];
		if (a == NULL || a->lane == NULL)
			continue;
		if (lane_is_locked(a->lane))
			return false;
		lanes = true;
	}
	return lanes;
}

/* Its process, to hear of its end; what failed before is tried again. */
static void
find_process(struct client *c)
{
	struct peer found;

	if (c->peer.pid == 0 || c->death != NULL || c->ended)
		return;
	c->ended = peer_find(&found, c->peer.pid, c->peer.uid,
		       c->peer.start_time) == -ESRCH;
	if (c->ended || found.pidfd < 0)
		return;
	if (found.start_time == 0)
		found.start_time = c->peer.start_time;
	peer_free(&c->peer);
	c->peer = found;
	if (watch_new(&c->death, c->daemon->loop, found.pidfd, WATCH_READ,
		LOOP_CLIENT, client_died, c) != 0)
		c->death = NULL;
}

/* Of one that is away: what there is to be ended is. */
static void
look_after(struct client *c)
{
	bool gone;

	find_process(c);
	gone = c->ended || (c->peer.pidfd >= 0 ? !peer_alive(c->peer.pidfd)
					       : has_let_go(c));

	/* Its lane is no lane any more: nothing of it is read. */
	if (c->failed && c->state == CLIENT_AWAY && !gone) {
		c->ending = false;
		quarantine(c);
		return;
	}
	if (!gone)
		end_parted(c);
	if (gone || !client_is_attached(c))
		client_end(c, true);
	else
		watch_over(c);
}

static void
serve(struct client *c, unsigned what)
{
	if (c->ending) {
		client_end(c, false);
		return;
	}
	if ((what & WATCH_WRITE) != 0)
		flush_queue(c);
	if (c->leaving &&
	    (TAILQ_EMPTY(&c->queue) || (what & WATCH_CLOSED) != 0))
		client_end(c, true);
	else if ((what & (WATCH_READ | WATCH_CLOSED)) != 0)
		read_turn(c, (what & WATCH_CLOSED) != 0);
}

static void
client_ready(void *arg, unsigned what)
{
	struct client *c = arg;

	if (c->ending || share_admits(c->daemon, c->user))
		serve(c, what);
	else
		be_late(c);
}

static void
client_died(void *arg, unsigned what)
{
	(void)what;
	client_end(arg, true);
}

static void
client_deadline(void *arg)
{
	struct client *c = arg;
	bool over = c->state == CLIENT_GONE || c->state == CLIENT_QUARANTINED;

	if (c->state == CLIENT_AWAY) {
		look_after(c);
		return;
	}
	if (over && close_socket(c) && c->state == CLIENT_GONE)
		client_free(c);
	else if (c->state == CLIENT_QUARANTINED && c->death == NULL)
		look_after(c);
	if (over)
		return;
	note_reading(c);
	drop_documents(c);
	if (c->state == CLIENT_NEW)
		client_fail(c, "has not said hello in time");
	else if (c->fd_replies > 0)
		client_fail(c, "has not read its descriptors in time");
}

void
client_welcome(struct client *c, const char *label)
{
	c->state = CLIENT_READY;
	timer_stop(c->deadline);
	memcpy(c->label, label, sizeof(c->label));
}

/* Tell a client that cannot be admitted why, as far as the socket takes it. */
static void
turn_away(int fd, int err, const char *why)
{
	struct wire_header h = {.type = WIRE_HELLO | WIRE_REPLY, .status = err};
	uint8_t bytes[256];
	struct wire_writer w;

	wire_begin(&w, bytes, sizeof(bytes), &h);
	wire_put_bytes(&w, why, strlen(why));
	send_now(fd, bytes, w.len, NULL);
	/* Closed over an unread hello, the socket would say ECONNRESET. */
	shutdown(fd, SHUT_RD);
	while (recv(fd, bytes, sizeof(bytes), MSG_DONTWAIT) > 0)
		;
	close(fd);
}

static int
client_watch(struct client *c)
{
	struct loop *loop = c->daemon->loop;
	int err;

	err = timer_new(&c->deadline, loop, client_deadline, c);
	if (err == 0)
		err = watch_new(&c->watch, loop, c->fd,
		    WATCH_READ | WATCH_CLOSED, LOOP_CLIENT, client_ready, c);
	if (err == 0 && c->peer.pidfd >= 0)
		err = watch_new(&c->death, loop, c->peer.pidfd, WATCH_READ,
		    LOOP_CLIENT, client_died, c);
	return err;
}

/* Whose connection it is, or was to be; NULL: nobody we know. */
static struct user *
take_over(struct daemon *d, int fd, struct peer peer)
{
	static struct log_limit limit = LOG_LIMIT_INIT("client");
	struct user *u;
	enum admission admission = user_admit(d, peer.uid, &u);
	struct client *c;

	if (admission == USER_TURNED_AWAY) {
		if (log_allowed(&limit))
			log_warn("client", "uid %u: too many connections",
			    (unsigned)peer.uid);
		turn_away(fd, -EUSERS,
		    "too many connections (max_clients and "
		    "max_clients_per_uid in slabd.conf)");
		peer_free(&peer);
		return u;
	}
	c = calloc(1, sizeof(*c));
	if (c == NULL) {
		user_dismiss(d, u);
		turn_away(fd, -ENOMEM, "the daemon is out of memory");
		peer_free(&peer);
		return u;
	}
	*c = (struct client){.daemon = d,
	    .user = u,
	    .id = ++d->client_ids,
	    .fd = fd,
	    .peer = peer,
	    .connected_ms = loop_now_ms()};
	c->guest = admission == USER_GUEST;
	c->no_descriptors = peer_refuse_descriptors(fd);
	TAILQ_INIT(&c->queue);
	TAILQ_INSERT_TAIL(&d->clients, c, entry);
	if (client_watch(c) == 0)
		timer_start(c->deadline, d->conf->handshake_seconds * 1000);
	else
		client_free(c);
	return u;
}

bool
client_accept(struct daemon *d, int fd)
{
	uint64_t begun = loop_now_us();
	struct peer peer;
	struct user *u;
	int err = peer_of(&peer, fd);

	if (err != 0) {
		turn_away(fd, err, "the daemon cannot tell who you are");
		return true;
	}
	u = take_over(d, fd, peer);
	/* Who comes back after our start cannot help it. */
	if (u != NULL && u->returning > 0)
		u->returning--;
	else
		share_charge(u, begun);
	return !share_is_used(d, u);
}

static struct client *
find_away(const struct daemon *d, const struct ledger_attachment *l)
{
	struct client *c;

	TAILQ_FOREACH (c, &d->clients, entry)
		if (l->session != 0 && c->session == l->session &&
		    c->token == l->token)
			break;
	return c;
}

static struct client *
make_away(struct daemon *d, const struct ledger_attachment *l)
{
	struct client *c = calloc(1, sizeof(*c));

	if (c == NULL)
		return NULL;
	*c = (struct client){.daemon = d,
	    .user = user_keep_place(d, l->uid),
	    .id = ++d->client_ids,
	    .state = l->session != 0 ? CLIENT_AWAY : CLIENT_QUARANTINED,
	    .fd = -1,
	    .session = l->session,
	    .token = l->token,
	    .connected_ms = loop_now_ms()};
	if (c->user != NULL)
		c->user->returning += c->state == CLIENT_AWAY;
	TAILQ_INIT(&c->queue);
	TAILQ_INSERT_TAIL(&d->clients, c, entry);
	/* Pids of another namespace say nothing here. */
	c->peer = (struct peer){.pidfd = -1,
	    .uid = l->uid,
	    .pid = l->pids == d->pids && d->pids != 0 ? (pid_t)l->pid : 0,
	    .start_time = l->start_time};
	if (timer_new(&c->deadline, d->loop, client_deadline, c) == 0)
		return c;
	client_free(c);
	return NULL;
}

int
client_recover(
    struct daemon *d, const struct ledger_attachment *l, struct attachment *a)
{
	uint32_t place = a->number & NUMBER_PLACE;
	struct client *c = find_away(d, l);

	if (place == 0)
		return -EUCLEAN;
	if (c == NULL)
		c = make_away(d, l);
	if (c == NULL || make_place(c, place - 1) != 0)
		return -ENOMEM;
	if (c->attachments[place - 1] != NULL)
		return -EUCLEAN;
	c->attachments[place - 1] = a;
	a->client = c;
	return 0;
}

unsigned
clients_away(const struct daemon *d, uid_t uid)
{
	const struct client *c;
	unsigned n = 0;

	TAILQ_FOREACH (c, &d->clients, entry)
		n += c->state == CLIENT_AWAY && c->peer.uid == uid;
	return n;
}

void
clients_bury(struct daemon *d)
{
	struct client *c, *next;

	for (c = TAILQ_FIRST(&d->clients); c != NULL; c = next) {
		next = TAILQ_NEXT(c, entry);
		if (c->state != CLIENT_GONE && c->peer.pidfd >= 0 &&
		    !peer_alive(c->peer.pidfd))
			client_end(c, true);
	}
}

void
clients_settle(struct daemon *d)
{
	struct client *c, *next;

	for (c = TAILQ_FIRST(&d->clients); c != NULL; c = next) {
		next = TAILQ_NEXT(c, entry);
		look_after(c);
	}
}

/* The same process, as far as both times could be seen. */
static bool
is_same(const struct peer *a, const struct peer *b)
{
	return a->uid == b->uid &&
	       (a->pid == 0 || b->pid == 0 ||
		   (a->pid == b->pid &&
		       (a->start_time == 0 || b->start_time == 0 ||
			   a->start_time == b->start_time)));
}

static struct client *
find_session(const struct client *but, uint64_t session, uint64_t token)
{
	struct client *c;

	TAILQ_FOREACH (c, &but->daemon->clients, entry)
		if (c != but && c->session == session && c->token == token &&
		    (c->state == CLIENT_AWAY || c->state == CLIENT_READY) &&
		    !c->failed && is_same(&c->peer, &but->peer))
			break;
	return session == 0 ? NULL : c;
}

bool
client_resume(struct client *c, uint64_t session, uint64_t token)
{
	struct client *old = find_session(c, session, token);

	if (old == NULL)
		return false;
	if (old->state == CLIENT_READY)
		leave_attachments(old);
	c->session = session;
	c->token = token;
	c->fresh = true;
	c->guest = old->guest;
	free(c->attachments);
	c->attachments = old->attachments;
	c->nattachments = old->nattachments;
	old->attachments = NULL;
	old->nattachments = 0;
	old->session = old->token = 0;
	for (uint32_t i = 0; i < c->nattachments; i++)
		if (c->attachments[i] != NULL) {
			c->attachments[i]->client = c;
			attachment_back(c->attachments[i]);
		}
	/* It keeps its place as long as descriptors lie unread there. */
	end(old, true);
	return true;
}

void
clients_forget(struct daemon *d)
{
	struct client *c;

	while ((c = TAILQ_FIRST(&d->clients)) != NULL) {
		for (uint32_t i = 0; i < c->nattachments; i++)
			if (c->attachments[i] != NULL)
				attachment_forget(c->attachments[i]);
		client_free(c);
	}
}
