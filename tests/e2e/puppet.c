#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "puppet.h"
#include "slabd.h"

#define SLOTS_MAX 4096
#define WORLD	  (CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWPID | CLONE_NEWIPC)

struct order {
	char what;
	uint64_t number;
};

struct answer {
	int64_t status;
	uint64_t number;
};

static int
make_private(void)
{
	/* In a chroot "/" is no mount; what is mounted upon will do. */
	return mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 &&
		       mount(NULL, "/dev/shm", NULL, MS_PRIVATE, NULL) < 0
		   ? -errno
		   : 0;
}

int
puppet_bare_shm(void)
{
	if (unshare(CLONE_NEWNS) < 0 || make_private() < 0 ||
	    mount("tmpfs", "/dev/shm", "tmpfs", MS_RDONLY, NULL) < 0)
		return -errno;
	return 0;
}

bool
puppet_possible(void)
{
	pid_t pid = geteuid() == 0 ? fork() : -1;

	if (pid == 0)
		_exit(unshare(WORLD) != 0 || puppet_bare_shm() != 0 ||
		      setgroups(0, NULL) != 0);
	return pid > 0 && reap(pid) == 0;
}

/* Makes the world in the one place that is always there to mount upon. */
static int
make_root(const struct puppet *p)
{
	const char *from = p->file ? p->server->socket : p->server->dir;
	const char *to = p->file ? "/dev/shm/run/socket" : "/dev/shm/run";
	int fd;

	if (make_private() < 0 ||
	    mount("tmpfs", "/dev/shm", "tmpfs", 0, "mode=0755") < 0 ||
	    mkdir("/dev/shm/run", 0755) < 0)
		return -errno;
	if (p->file) {
		fd = open(to, O_CREAT | O_CLOEXEC, 0600);
		close(fd);
	}
	if (mount(from, to, NULL, MS_BIND, NULL) < 0 ||
	    mount(NULL, "/dev/shm", NULL, MS_REMOUNT | MS_RDONLY, NULL) < 0 ||
	    chroot("/dev/shm") < 0 || chdir("/") < 0)
		return -errno;
	return 0;
}

static int
become(uid_t uid)
{
	return setgroups(0, NULL) < 0 || setgid(uid) < 0 || setuid(uid) < 0
		   ? -errno
		   : 0;
}

static struct {
	struct slabd *session;
	struct slabd_pool *pool;
	void *slots[SLOTS_MAX];
	unsigned n;
} my;

static const char *
socket_of(const struct puppet *p)
{
	return p->contained ? "/run/socket" : p->server->socket;
}

static int
join(const struct puppet *p)
{
	struct slabd_options opt = SLABD_OPTIONS_INIT;
	int err;

	opt.socket_path = socket_of(p);
	opt.label = "puppet";
	opt.reconnect_ms = -1;
	err = slabd_open_options(&my.session, &opt);
	return err < 0
		   ? err
		   : slabd_pool_attach(&my.pool, my.session, p->pool, p->flags);
}

static int
take(uint64_t n)
{
	int got;

	if (n > SLOTS_MAX - my.n)
		return -EINVAL;
	for (uint64_t left = n; left > 0; left -= (unsigned)got) {
		got =
		    slabd_alloc_many(my.pool, my.slots + my.n, (unsigned)left);
		if (got < 0)
			return left == n ? got : (int)(n - left);
		my.n += (unsigned)got;
	}
	return (int)n;
}

static int
free_all(void)
{
	int n = (int)my.n,
	    err = n == 0 ? 0 : slabd_free_many(my.pool, my.slots, my.n);

	my.n = 0;
	return err < 0 ? err : n;
}

/* Where the last number in the slot is. */
static char *
end_of(void *slot)
{
	return (char *)slot + slabd_pool_slot_size(my.pool) - sizeof(uint64_t);
}

static int
send_one(uint64_t what, uint64_t *ref)
{
	void *slot = slabd_alloc(my.pool);

	if (slot == NULL)
		return -errno;
	memcpy(slot, &what, sizeof(what));
	memcpy(end_of(slot), &what, sizeof(what));
	return slabd_send(my.pool, slot, ref);
}

static int
receive_one(uint64_t ref, bool keep, uint64_t *what)
{
	uint64_t last;
	void *slot;
	int err = slabd_receive(my.pool, ref, &slot);

	if (err < 0)
		return err;
	memcpy(what, slot, sizeof(*what));
	memcpy(&last, end_of(slot), sizeof(last));
	if (last != *what)
		return -EILSEQ;
	if (!keep)
		return slabd_free(my.pool, slot);
	if (my.n == SLOTS_MAX)
		return -ENOMEM;
	my.slots[my.n++] = slot;
	return 0;
}

static int
offset_of_last(uint64_t *offset)
{
	if (my.n == 0)
		return -ENOENT;
	*offset = slabd_offset(my.pool, my.slots[my.n - 1]);
	return slabd_at(my.pool, *offset) == my.slots[my.n - 1] ? 0 : -EILSEQ;
}

static struct answer
obey(const struct order *o)
{
	struct answer a = {.status = -ENOSYS};

	switch (o->what) {
	case 't':
		a.status = take(o->number);
		break;
	case 'f':
		a.status = free_all();
		break;
	case 's':
		a.status = send_one(o->number, &a.number);
		break;
	case 'r':
	case 'k':
		a.status = receive_one(o->number, o->what == 'k', &a.number);
		break;
	case 'o':
		a.status = offset_of_last(&a.number);
		break;
	}
	return a;
}

/* Until it is told to end, or nobody is there who could tell. */
static int
live(const struct puppet *p, int control)
{
	struct answer a = {.status = join(p)};
	struct order o = {0};

	tell(control, &a, sizeof(a));
	while (a.status >= 0 && hear(control, &o, sizeof(o)) == 0 &&
	       o.what != 'e') {
		a = obey(&o);
		tell(control, &a, sizeof(a));
		a.status = 0;
	}
	slabd_pool_detach(my.pool);
	slabd_close(my.session);
	return o.what == 'e' ? 0 : 1;
}

static int
enter(const struct puppet *p, int control)
{
	int err = p->contained ? make_root(p) : 0;

	if (err == 0 && p->uid != 0)
		err = become(p->uid);
	/* After a change of user it would be forgotten. */
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (err != 0)
		return PUPPET_IMPOSSIBLE;
	return p->body != NULL ? p->body(control, socket_of(p))
			       : live(p, control);
}

/* Who makes a pid namespace is not in it, but its first child is. */
int
puppet_main(int control, void *puppet)
{
	const struct puppet *p = puppet;
	pid_t pid;

	if (!p->contained)
		return enter(p, control);
	if (unshare(WORLD) < 0)
		return PUPPET_IMPOSSIBLE;
	pid = fork();
	if (pid == 0)
		_exit(enter(p, control));
	close(control);
	return pid < 0 ? PUPPET_IMPOSSIBLE : reap(pid);
}

/* `number` is for the order, and from the answer. */
static int
ask(struct puppet *p, char what, uint64_t *number)
{
	struct order o;
	struct answer a;
	int err;

	/* With its padding, which goes over the socket too. */
	memset(&o, 0, sizeof(o));
	o.what = what;
	o.number = *number;
	err = tell(p->control, &o, sizeof(o));
	if (err == 0)
		err = hear(p->control, &a, sizeof(a));
	if (err != 0)
		return err;
	*number = a.number;
	return (int)a.status;
}

int
puppet_start(struct puppet *p)
{
	struct answer a;

	p->pid = spawn(puppet_main, p, &p->control);
	if (p->pid < 0)
		return -errno;
	return hear(p->control, &a, sizeof(a)) == 0 ? (int)a.status : -EPIPE;
}

int
puppet_take(struct puppet *p, unsigned n)
{
	uint64_t number = n;

	return ask(p, 't', &number);
}

int
puppet_free(struct puppet *p)
{
	uint64_t number = 0;

	return ask(p, 'f', &number);
}

int
puppet_send(struct puppet *p, uint64_t what, uint64_t *ref)
{
	*ref = what;
	return ask(p, 's', ref);
}

int
puppet_receive(struct puppet *p, uint64_t ref, bool keep, uint64_t *what)
{
	*what = ref;
	return ask(p, keep ? 'k' : 'r', what);
}

int
puppet_offset(struct puppet *p, uint64_t *offset)
{
	*offset = 0;
	return ask(p, 'o', offset);
}

int
puppet_end(struct puppet *p)
{
	struct order o;

	memset(&o, 0, sizeof(o));
	o.what = 'e';
	tell(p->control, &o, sizeof(o));
	close(p->control);
	return reap(p->pid);
}

void
puppet_kill(struct puppet *p)
{
	kill(p->pid, SIGKILL);
	close(p->control);
	reap(p->pid);
}
