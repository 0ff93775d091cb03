/*
 * fault [-a] [-v] [-n cases] [-o text] [-s seed]: makes the daemon's calls fail,
 * one site and one error at a time, and sees that nobody is the worse for it.
 *
 * First every part of the scenario is played without a fault; this finds the
 * call sites. Then there is a case for each site, each part that reaches it,
 * each error the function may plausibly give, once (at one of its calls, by the
 * seed) and for ever. Each has a daemon of its own, tests/fault/slabd. That may
 * refuse to start, with a message and an exit status of sysexits.h; else it
 * lives, answers, and does not run in circles. When the fault is gone the books
 * must balance, every slot be free, no descriptor or name be left that was not
 * there before, a new client be served, and the daemon stop as it should.
 *
 * Without -a a sample is taken, which contains as many sites as it has cases.
 * -o: only sites whose line of the table contains the text. -v: all lines
 * instead of those of a failure. The seed is SLAB_SEED too.
 */
#include "config.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../core/random.h"
#include "../e2e/raw.h"
#include "board.h"
#include "scene.h"

#define SAMPLE	   250
#define SLOWER	   3	 /* times, with sanitizers */
#define PATIENCE   20000 /* ms, for what a part of the scenario may take */
#define OUTSIDE	   300	 /* ms, for who is not let in */
#define TRIES	   3	 /* until a fault is met */
#define ERRORS_MAX 7
#define SPIN_MS	   20 /* in which an idle daemon does not ... */
#define SPIN_CALLS 40 /* ... call a function so often in vain, */
#define SPIN_LOOKS 10 /* not all the time */

static const char *const function_names[] = {
#define NAME(name) #name,
    FAULT_FUNCTIONS(NAME)};

/* The errors of a function, as far as a caller can meet them; 0: the end. */
struct errors {
	enum fault_function function;
	int n, list[ERRORS_MAX];
};
#define ERRORS(name, ...)                                                 \
	{                                                                 \
		FAULT_##name, sizeof((int[]){__VA_ARGS__}) / sizeof(int), \
		{                                                         \
			__VA_ARGS__                                       \
		}                                                         \
	}
static const struct errors errors[] = {
    ERRORS(accept4, EMFILE, ENFILE, ENOMEM, ENOBUFS, ECONNABORTED, EINTR),
    ERRORS(bind, EADDRINUSE, EACCES, ENOMEM),
    ERRORS(chmod, EPERM, EROFS),
    ERRORS(close, EINTR, EIO),
    ERRORS(close_range, ENOSYS, ENOMEM),
    ERRORS(connect, EAGAIN, EACCES),
    ERRORS(dup2, EBUSY, EMFILE),
    ERRORS(eventfd, EMFILE, ENFILE, ENOMEM),
    ERRORS(fallocate, ENOSPC, ENOMEM, EINTR, EOPNOTSUPP),
    ERRORS(fchmod, EPERM, EROFS),
    ERRORS(fclose, EIO, ENOSPC),
    ERRORS(fcntl, EMFILE, ENOMEM),
    ERRORS(fgets, 0, EIO),
    ERRORS(flock, EWOULDBLOCK, EINTR, ENOLCK),
    ERRORS(fopen, ENOENT, EMFILE, ENOMEM, EACCES),
    ERRORS(fork, EAGAIN, ENOMEM),
    ERRORS(fstat, EIO, ENOMEM),
    ERRORS(fstatvfs, EIO, ENOSYS),
    ERRORS(ftruncate, ENOSPC, EPERM, EINTR),
    ERRORS(getgrnam_r, EIO, EMFILE, ENOMEM),
    ERRORS(getline, 0, ENOMEM),
    ERRORS(getpwnam_r, EIO, EMFILE, ENOMEM),
    ERRORS(getrandom, EAGAIN, EINTR, ENOSYS, 0),
    ERRORS(getrlimit, EPERM),
    ERRORS(getsockopt, ENOPROTOOPT, EMFILE, ENOMEM, ESRCH),
    ERRORS(ioctl, EINVAL, ENOTTY),
    ERRORS(kill, ESRCH, EPERM),
    ERRORS(lchown, EPERM, EROFS),
    ERRORS(listen, EADDRINUSE, ENOMEM),
    ERRORS(lstat, EACCES, ENOENT, ENOMEM),
    ERRORS(madvise, ENOMEM, EINVAL),
    ERRORS(memfd_create, EMFILE, ENFILE, ENOMEM, ENOSYS),
    ERRORS(mkdir, EACCES, ENOSPC, EROFS),
    ERRORS(mlock, ENOMEM, EPERM),
    ERRORS(mmap, ENOMEM, ENODEV),
    ERRORS(munmap, ENOMEM),
    ERRORS(open, EMFILE, ENFILE, ENOMEM, EACCES, ENOENT, EINTR),
    ERRORS(opendir, EMFILE, ENOMEM, EACCES),
    ERRORS(poll, EINTR, ENOMEM),
    ERRORS(posix_fallocate, ENOSPC, ENOMEM, EINTR),
    ERRORS(prctl, EINVAL, EPERM),
    ERRORS(read, EIO, EINTR, 0),
    ERRORS(readdir, 0, EIO),
    ERRORS(realpath, EACCES, ENOMEM),
    ERRORS(recv, EINTR, EAGAIN, ECONNRESET, ENOMEM, 0),
    ERRORS(recvmsg, EINTR, EAGAIN, ECONNRESET, ENOMEM, EMFILE, 0),
    /* EPIPE only comes once nobody is there to be answered. */
    ERRORS(send, EINTR, EAGAIN, ENOMEM, ENOBUFS),
    ERRORS(sendmsg, EINTR, EAGAIN, ENOMEM, ENOBUFS, ETOOMANYREFS),
    ERRORS(sendto, EAGAIN, ECONNREFUSED, ENOENT),
    ERRORS(setrlimit, EPERM),
    ERRORS(setsockopt, ENOPROTOOPT, ENOMEM),
    ERRORS(shm_open, EMFILE, ENFILE, EACCES, ENOSPC, EEXIST, ENOENT),
    ERRORS(shm_unlink, EACCES, ENOENT),
    ERRORS(sigaction, EINVAL),
    ERRORS(socket, EMFILE, ENFILE, ENOMEM, ENOBUFS),
    ERRORS(socketpair, EMFILE, ENFILE, ENOMEM),
    ERRORS(syscall, ENOSYS, EPERM, EMFILE, ENOMEM),
    ERRORS(unlink, EACCES, ENOENT, EBUSY),
    ERRORS(waitpid, EINTR, ECHILD),
    ERRORS(write, EINTR, EAGAIN, EIO, ENOSPC),
    ERRORS(dup, EMFILE),
    ERRORS(fsync, EIO, ENOSPC),
    ERRORS(__getdelim, 0, ENOMEM),
    ERRORS(mprotect, ENOMEM, EACCES),
    ERRORS(pipe2, EMFILE, ENFILE),
    ERRORS(pread, EIO, EINTR, 0),
    ERRORS(pwrite, EIO, ENOSPC),
    ERRORS(rename, EACCES, ENOSPC, ENOENT),
    ERRORS(seteuid, EPERM, EAGAIN),
    ERRORS(setgroups, EPERM, ENOMEM),
    ERRORS(setresgid, EPERM),
    ERRORS(setresuid, EPERM, EAGAIN),
    ERRORS(stat, EACCES, ENOENT, ENOMEM),
    ERRORS(unlinkat, EACCES, ENOENT),
    ERRORS(seccomp_load, EINVAL, EACCES, ENOMEM),
    ERRORS(event_add, ENOMEM, ENOSPC),
    ERRORS(event_base_loop, ENOMEM),
};
/* Of all others. */
static const struct errors no_memory = ERRORS(malloc, ENOMEM);

enum kind {
	SERVE, /* the fault comes when the daemon serves */
	START, /* before it starts */
	CRASH, /* before it starts after another one was killed */
	STOP,  /* before it stops */
	LEAVE, /* the same, while a client is attached */
};

struct part {
	const char *name;
	enum kind kind;
	bool slow;
	enum scene_end (*play)(struct scene *);
	long descriptors, names; /* of the daemon after it, without a fault */
};

/* Their numbers are those on the board; the last is what nobody looks at. */
static struct part parts[] = {
    {.name = "start", .kind = START, .play = scene_greet},
    {.name = "greet", .play = scene_greet},
    {.name = "slots", .play = scene_slots},
    {.name = "lanes", .play = scene_lanes},
    {.name = "death", .play = scene_death},
    {.name = "reload", .play = scene_reload},
    {.name = "rule", .play = scene_rule},
    {.name = "crash", .kind = CRASH, .play = scene_greet},
    {.name = "stop", .kind = STOP},
    {.name = "leave", .kind = LEAVE},
    {.name = "wait", .slow = true, .play = scene_wait},
};
#define PARTS	   (sizeof(parts) / sizeof(parts[0]))
#define PART_OTHER (FAULT_PARTS - 1)

struct fault {
	const struct fault_site *site;
	const char *place; /* in the source */
	unsigned part;
	int error;
	bool forever;
	uint32_t at;
};

static struct fault_board *board;
static struct server server;
static char why[256]; /* the last case failed */

static bool
wrong(const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	if (why[0] == '\0')
		vsnprintf(why, sizeof(why), format, ap);
	va_end(ap);
	return false;
}

/* Relaxed but for `armed`: the daemon looks at the rest only behind that. */
static void
arm(const struct fault *f)
{
	if (f == NULL)
		return;
	board->function = atomic_load(&f->site->function);
	board->error = f->error;
	board->at = f->at;
	board->forever = f->forever;
	/* Release: with the wrapper's acquire. */
	atomic_store_explicit(&board->armed, atomic_load(&f->site->address),
	    memory_order_release);
}

static void
disarm(void)
{
	atomic_store(&board->armed, 0);
	atomic_store(&board->part, PART_OTHER);
}

/* What earlier daemons have said to the service manager is no answer. */
static void
forget_messages(void)
{
	char text[1024];

	while (recv(server.notify, text, sizeof(text), MSG_DONTWAIT) >= 0)
		;
}

static int
launch(void)
{
	forget_messages();
	return server_start(&server);
}

/* Entries of /proc/PID/fd, or -1: not ours to see. */
static long
count_descriptors(pid_t pid)
{
	char path[64];
	DIR *directory;
	long n = 0;

	snprintf(path, sizeof(path), "/proc/%d/fd", (int)pid);
	directory = opendir(path);
	if (directory == NULL)
		return -1;
	while (readdir(directory) != NULL)
		n++;
	closedir(directory);
	return n;
}

static bool
daemon_lives(void)
{
	struct pollfd p = {.fd = server.pidfd, .events = POLLIN};

	return server.pid > 0 && poll(&p, 1, 0) == 0;
}

/* What a sanitizer has to say goes to the log unless it is told otherwise. */
static bool
log_is_clean(void)
{
	static const char *const bad[] = {
	    "Sanitizer", "runtime error", "Assertion", "do not balance"};

	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		if (server_logged(&server, bad[i]))
			return wrong("its log says \"%s\"", bad[i]);
	return true;
}

/* Nobody new is let in: whoever comes has to wait until the fault is gone. */
static bool
keeps_out(const struct fault *f)
{
	return f != NULL && f->forever &&
	       atomic_load(&f->site->function) == FAULT_accept4;
}

/* Without its loop a daemon can do nothing but end, and say so. */
static bool
ends_it(const struct fault *f)
{
	return f != NULL &&
	       atomic_load(&f->site->function) == FAULT_event_base_loop;
}

/*
 * What is not removed now is the next daemon's to find; so is what a daemon may
 * not remove that could not see where it was, when it confined itself.
 */
static bool
keeps_names(const struct fault *f)
{
	static const enum fault_function removal[] = {FAULT_shm_unlink,
	    FAULT_unlink, FAULT_unlinkat, FAULT_lstat, FAULT_stat,
	    FAULT_opendir, FAULT_readdir};

	for (unsigned i = 0;
	     f != NULL && i < sizeof(removal) / sizeof(removal[0]); i++)
		if (atomic_load(&f->site->function) == removal[i])
			return true;
	return f != NULL && strncmp(f->place, "confine.c", 9) == 0;
}

/* A child of ours, given time. */
static int
await_child(pid_t pid, int ms)
{
	int fd = (int)syscall(SYS_pidfd_open, pid, 0);
	struct pollfd p = {.fd = fd, .events = POLLIN};

	if (fd < 0 || poll(&p, 1, ms) != 1)
		kill(pid, SIGKILL);
	close(fd);
	return reap(pid);
}

/* The other client, which has its slots whatever happens: as spawn()'s. */
static int
keep(int control, void *arg)
{
	uint64_t refs[SCENE_KEPT] = {0};
	struct raw_pool p;
	struct raw r;
	char byte;
	int got;

	(void)arg;
	if (raw_open(&r, server.socket, "keeper") != 0 ||
	    raw_attach(&r, SCENE_POOL, 0, &p) != 0 ||
	    raw_alloc(&r, p.number, SCENE_KEPT, refs) != (int)SCENE_KEPT)
		return 1;
	if (tell(control, refs, sizeof(refs)) != 0 ||
	    hear(control, &byte, 1) != 0)
		return 2;
	got = raw_free(&r, p.number, refs, SCENE_KEPT);
	/* The connection may have been the fault's victim. */
	return got == (int)SCENE_KEPT || got == -ENOTCONN || got == -EPIPE ||
		       got == -ECONNRESET
		   ? 0
		   : 3;
}

/* The configuration's document, before anything is wrong. */
static char *
fetch_config(void)
{
	char *text = NULL;
	struct raw r;

	if (raw_open(&r, server.socket, "before") == 0)
		text = raw_document(&r, WIRE_CONFIG, NULL, 0);
	raw_bye(&r);
	raw_close(&r);
	return text;
}

struct act {
	enum scene_end (*play)(struct scene *);
	struct scene scene;
};

static int
perform(int control, void *arg)
{
	struct act *act = arg;

	(void)control;
	act->scene.server = &server;
	return (int)act->play(&act->scene);
}

static bool
play(const struct part *part, const uint64_t *kept, const char *config,
    const struct fault *f)
{
	struct act act = {.play = part->play, .scene.config = config};
	int control, status;
	pid_t pid;

	if (kept != NULL)
		memcpy(act.scene.kept, kept, sizeof(act.scene.kept));
	pid = spawn(perform, &act, &control);
	status = await_child(pid, keeps_out(f) ? OUTSIDE : PATIENCE);
	close(control);
	if (keeps_out(f) && status == 128 + SIGKILL)
		return true;
	switch (status) {
	case SCENE_FINE:
		return true;
	case SCENE_HUNG:
		return wrong("a request was not answered");
	case SCENE_WRONG:
		return wrong("a client got a wrong answer");
	default:
		return wrong("the clients ended with %d", status);
	}
}

/* A daemon that has nothing to do does not call in vain all the time. */
static bool
is_calm(const struct fault *f)
{
	uint32_t before;

	if (f == NULL || !f->forever)
		return true;
	for (int i = 0; i < SPIN_LOOKS; i++) {
		before = atomic_load(&board->injected);
		poll(NULL, 0, SPIN_MS);
		if (atomic_load(&board->injected) - before < SPIN_CALLS)
			return true;
	}
	return wrong("runs in circles");
}

/* Whether it can no longer attach memory, and has said so. */
static bool
helper_is_lost(void)
{
	return server_logged(&server, "until the daemon is restarted");
}

/* Nobody has anything any more, and the daemon knows. */
static bool
is_quiet(struct raw *r)
{
	struct raw_stats s = {0};
	int err;

	for (int i = 0; i < 3000; i++) {
		err = raw_pool_stats(r, SCENE_POOL, &s);
		if (err != 0)
			return wrong("no statistics (%d)", err);
		if (s.clients + s.used + s.quarantined + s.cached + s.waiters ==
		    0)
			return true;
		poll(NULL, 0, 1);
	}
	return wrong("%u clients, %u used, %u cached, %u quarantined, %u wait",
	    s.clients, s.used, s.cached, s.quarantined, s.waiters);
}

static bool
are_distinct(const uint64_t *refs, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		for (unsigned k = 0; k < i; k++)
			if (ref_slot(refs[i]) == ref_slot(refs[k]))
				return wrong("two slots are one");
	return true;
}

/* A client gets every slot there may be. */
static bool
all_is_free(struct raw *r)
{
	uint64_t refs[WIRE_BATCH_MAX];
	struct raw_stats s;
	struct raw_pool p;
	unsigned n;
	int got;

	got = raw_attach(r, SCENE_POOL, 0, &p);
	if (got != 0)
		return wrong("a new client cannot attach (%d)", got);
	close(p.fd);
	n = p.segments * p.segment_slots;
	if (helper_is_lost() && raw_pool_stats(r, SCENE_POOL, &s) == 0)
		n = s.slots;
	if (n == 0)
		return raw_detach(r, p.number) == 0;
	got = raw_wait_alloc(r, raw_post_alloc(r, p.number, n), refs);
	if (got != (int)n)
		return wrong("%u slots, but a new client gets %d", n, got);
	if (!are_distinct(refs, n))
		return false;
	got = raw_free(r, p.number, refs, n);
	if (got != (int)n)
		return wrong("%d of %u slots freed", got, n);
	return raw_detach(r, p.number) == 0 || wrong("no detach");
}

/* No more descriptors and names than after the part without a fault. */
static bool
is_tidy(struct part *part, const struct fault *f)
{
	long fds = 0, names = 0;

	for (int i = 0; i < 3000; i++) {
		fds = count_descriptors(server.pid);
		names = (long)server_names(&server);
		if (fds <= part->descriptors &&
		    (names <= part->names || keeps_names(f)))
			return true;
		if (f == NULL && i > 100)
			break;
		poll(NULL, 0, 1);
	}
	if (f != NULL)
		return wrong("%ld descriptors and %ld names instead of %ld and "
			     "%ld",
		    fds, names, part->descriptors, part->names);
	part->descriptors = fds;
	part->names = names;
	return true;
}

/* The fault is gone: nothing may be left of it. */
static bool
is_sound(void)
{
	struct raw r;
	bool good;
	int err;

	if (!daemon_lives())
		return wrong("the daemon has ended");
	err = raw_open(&r, server.socket, "new");
	if (err != 0)
		return wrong("a new client is not let in (%d)", err);
	good = is_quiet(&r) && all_is_free(&r) && is_quiet(&r);
	if (good && (err = raw_audit(&r)) != 0)
		good = wrong("the audit says %d", err);
	if (good && raw_bye(&r) != 0)
		good = wrong("no goodbye");
	raw_close(&r);
	return good;
}

/* Ends it for the next case; it is no longer judged. */
static void
put_away(void)
{
	if (server.pid > 0) {
		kill(server.pid, SIGKILL);
		reap(server.pid);
		close(server.pidfd);
	}
	if (server.helper >= 0)
		close(server.helper);
	server.pid = 0;
	server.pidfd = server.helper = -1;
}

/* After a crash, or a start that failed, another daemon serves as ever. */
static bool
stop_and_clear(const struct fault *f)
{
	const char *text;

	if (keeps_names(f) && server.pid != 0)
		server_stop(&server, SIGTERM);

	if (server.pid == 0 && launch() != 0) {
		put_away();
		return wrong("does not start again");
	}
	if (!is_sound())
		return false;
	text = server_stop(&server, SIGTERM);
	return text == NULL || wrong("%s", text);
}

/* It did not come up: whether that is as it should be. */
static bool
has_refused(void)
{
	struct pollfd p = {.fd = server.pidfd, .events = POLLIN};
	int status;

	if (server.pidfd < 0 || poll(&p, 1, 0) != 1)
		return wrong("neither starts nor ends");
	status = server_wait(&server);
	if (status < 64 || status > 78)
		return wrong("refuses to start with status %d", status);
	return server_logged(&server, "slabd") || server_logged(&server, ":") ||
	       wrong("refuses to start without a word");
}

/* With `f` from before it starts; *started tells whether it did. */
static bool
start(unsigned part, const struct fault *f, bool *started)
{
	int err;

	atomic_store(&board->part, part);
	arm(f);
	err = launch();
	if (err == 0 && ends_it(f)) {
		struct pollfd p = {.fd = server.pidfd, .events = POLLIN};

		err = poll(&p, 1, PATIENCE) == 1 ? -ECHILD : 0;
	}
	*started = err == 0;
	return err == 0 || has_refused();
}

/* Leaves behind what a client had of a daemon that was killed. */
static bool
crash(pid_t *holder, int *control)
{
	char byte;

	if (launch() != 0)
		return wrong("does not start");
	*holder = spawn(scene_hold, &server, control);
	if (hear(*control, &byte, 1) != 0)
		return wrong("no client to crash upon");
	put_away();
	return true;
}

static bool
play_start(unsigned part, const struct fault *f, bool *refused)
{
	bool crashed = parts[part].kind == CRASH, started = false, good;
	pid_t holder = 0;
	int control = -1;

	good = !crashed || crash(&holder, &control);
	good = good && start(part, f, &started);
	if (holder > 0) {
		kill(holder, SIGKILL);
		reap(holder);
		close(control);
	}
	*refused = good && !started;
	if (good && started)
		good = play(&parts[part], NULL, NULL, f) && is_calm(f);
	disarm();
	return good && (*refused || is_sound());
}

/* The daemon's own end, with a client there or without. */
static bool
play_stop(unsigned part, const struct fault *f)
{
	int control, status;
	pid_t holder = 0;
	char byte;

	if (launch() != 0)
		return wrong("does not start");
	if (parts[part].kind == LEAVE) {
		holder = spawn(scene_hold, &server, &control);
		if (hear(control, &byte, 1) != 0)
			wrong("no client to leave");
	}
	atomic_store(&board->part, part);
	arm(f);
	kill(server.pid, SIGTERM);
	status = server_wait(&server);
	if (holder > 0) {
		kill(holder, SIGKILL);
		reap(holder);
		close(control);
	}
	disarm();
	if (server.helper >= 0)
		close(server.helper);
	server.helper = -1;
	if (status == -ETIMEDOUT)
		return wrong("does not end");
	/* What a signal or a sanitizer makes of it is neither. */
	return status == 0 || (status >= 64 && status <= 78) ||
	       wrong("ends with %d", status);
}

static bool
play_serve(unsigned part, const struct fault *f)
{
	uint64_t kept[SCENE_KEPT];
	int control, status;
	char byte = 0, *config;
	bool good;
	pid_t pid;

	if (launch() != 0)
		return wrong("does not start");
	/* A reload changes it. */
	config = parts[part].play == scene_reload ? NULL : fetch_config();
	pid = spawn(keep, NULL, &control);
	if (hear(control, kept, sizeof(kept)) != 0)
		wrong("no slots to be kept");
	atomic_store(&board->part, part);
	arm(f);
	good = play(&parts[part], kept, config, f) && is_calm(f);
	disarm();
	free(config);
	tell(control, &byte, 1);
	status = await_child(pid, PATIENCE);
	close(control);
	if (status != 0 && daemon_lives())
		wrong("the client beside ended with %d", status);
	/* The audit would count what an administrator has just taken away. */
	if (good && parts[part].play == scene_reload) {
		scene_configure(&server, true);
		forget_messages();
		kill(server.pid, SIGHUP);
		good = server_await(&server, "READY=1") == 0;
	}
	return good && is_sound() && is_tidy(&parts[part], f);
}

/* Plays a part: true, or `why` says what was wrong. */
static bool
run(unsigned part, const struct fault *f, const char **outcome)
{
	bool refused = false, good;

	why[0] = '\0';
	*outcome = "lives";
	board->seen = board->injected = 0;
	unlink(server.log);
	/* Only the daemons under test look at the board. */
	if (scene_configure(&server, false) != 0)
		return wrong("no configuration");
	switch (parts[part].kind) {
	case SERVE:
		good = play_serve(part, f);
		break;
	case START:
	case CRASH:
		good = play_start(part, f, &refused);
		break;
	default:
		good = play_stop(part, f);
		break;
	}
	disarm();
	if (refused)
		*outcome = "refuses to start";
	else if (helper_is_lost())
		*outcome = "lives without its helper";
	good = good && why[0] == '\0' && stop_and_clear(f);
	put_away();
	return log_is_clean() && good && why[0] == '\0';
}

/* The source's places of all sites, by their address; as addr2line says. */
static char (*places)[64];

static void
find_places(const char *program)
{
	char command[4200], line[512], *name, *end;
	FILE *out;

	places = calloc(FAULT_SITES, sizeof(*places));
	for (unsigned i = 0; places != NULL && i < FAULT_SITES; i++) {
		uintptr_t at = atomic_load(&board->sites[i].address);

		if (at == 0)
			continue;
		snprintf(places[i], sizeof(places[i]), "+0x%zx", (size_t)at);
		snprintf(command, sizeof(command),
		    "addr2line -s -e '%s' 0x%zx 2>/dev/null", program,
		    (size_t)at - 1);
		out = popen(command, "re");
		name = out == NULL ? NULL : fgets(line, sizeof(line), out);
		if (name != NULL && name[0] != '?') {
			end = name + strcspn(name, " \n");
			*end = '\0';
			snprintf(places[i], sizeof(places[i]), "%.60s", name);
		}
		if (out != NULL)
			pclose(out);
	}
}

struct cases {
	struct fault *list;
	size_t n, room;
};

static void
add_case(struct cases *c, const struct fault *f)
{
	if (c->n == c->room) {
		c->room = c->room == 0 ? 1024 : 2 * c->room;
		c->list = reallocarray(c->list, c->room, sizeof(*c->list));
		if (c->list == NULL)
			abort();
	}
	c->list[c->n++] = *f;
}

/* Who is told to try again must be let succeed at some time. */
static bool
passes(int error)
{
	return error == EINTR || error == EAGAIN || error == ECONNABORTED ||
	       error == ECONNRESET;
}

/*
 * That it serves is heard from the daemon itself: where it starts, that may not
 * fail to be said.
 */
static bool
is_heard(unsigned part, const char *place)
{
	return (parts[part].kind == START || parts[part].kind == CRASH) &&
	       strncmp(place, "notify.c", 8) == 0;
}

static const struct errors *
errors_of(uint32_t function)
{
	for (unsigned i = 0; i < sizeof(errors) / sizeof(errors[0]); i++)
		if (errors[i].function == function)
			return &errors[i];
	return &no_memory;
}

static void
add_site(struct cases *c, const struct fault_site *s, const char *place,
    uint64_t *random)
{
	const struct errors *e = errors_of(atomic_load(&s->function));
	struct fault f = {.site = s, .place = place};
	uint32_t calls;

	for (f.part = 0; f.part < PARTS; f.part++) {
		calls = is_heard(f.part, place)
			    ? 0
			    : atomic_load(&s->calls[f.part]);
		for (int i = 0; calls > 0 && i < e->n; i++) {
			f.error = e->list[i];
			f.forever = false;
			f.at = 1 + random_below(random, calls);
			add_case(c, &f);
			f.forever = true;
			f.at = 1;
			if (!passes(f.error))
				add_case(c, &f);
		}
	}
}

static void
shuffle(struct cases *c, uint64_t *random)
{
	for (size_t i = c->n; i > 1; i--) {
		size_t k = random_below(random, (uint32_t)i);
		struct fault f = c->list[k];

		c->list[k] = c->list[i - 1];
		c->list[i - 1] = f;
	}
}

/* The first of each site, in the shuffled order, then others, up to `n`. */
static void
sample(struct cases *c, size_t n)
{
	bool seen[FAULT_SITES] = {false};
	size_t kept = 0;

	for (int again = 0; again < 2; again++)
		for (size_t i = kept; i < c->n && kept < n; i++) {
			struct fault f = c->list[i];
			size_t site = (size_t)(f.site - board->sites);

			if (parts[f.part].slow || (seen[site] && again == 0))
				continue;
			seen[site] = true;
			c->list[i] = c->list[kept];
			c->list[kept++] = f;
		}
	c->n = kept;
}

struct tally {
	unsigned long cases, missed, failed, injected;
};

static void
line(const struct fault *f, uint32_t injected, const char *outcome)
{
	char error[32];

	snprintf(error, sizeof(error), "%s",
	    f->error == 0 ? "end" : strerrorname_np(f->error));
	printf("%-24s %-20s %-7s %-13s %-7s %6u  %s\n",
	    function_names[atomic_load(&f->site->function)], f->place,
	    parts[f->part].name, error, f->forever ? "forever" : "once",
	    injected, outcome);
	fflush(stdout);
}

/* What the daemon had to say, as far as that is of use. */
static void
show_log(void)
{
	FILE *file = fopen(server.log, "re");
	char text[256];

	for (int i = 0; file != NULL && i < 40; i++) {
		if (fgets(text, sizeof(text), file) == NULL)
			break;
		printf("    | %s", text);
	}
	if (file != NULL)
		fclose(file);
}

/* What happens at its n-th call today may be another one tomorrow. */
static void
try_case(struct fault *f, bool verbose, struct tally *t)
{
	const char *outcome;
	char text[300];
	bool good = true;

	for (int i = 0; i < TRIES; i++) {
		good = run(f->part, f, &outcome);
		if (!good || atomic_load(&board->injected) > 0)
			break;
		f->at = 1;
	}
	t->cases++;
	t->injected += atomic_load(&board->injected);
	if (!good) {
		t->failed++;
		snprintf(text, sizeof(text), "FAILED: %s", why);
		outcome = text;
	} else if (atomic_load(&board->injected) == 0) {
		t->missed++;
		outcome = "not met";
	}
	if (verbose || !good)
		line(f, atomic_load(&board->injected), outcome);
	if (!good)
		show_log();
}

/* Plays everything without a fault: finds the sites, and what is normal. */
static bool
learn(void)
{
	const char *outcome;

	for (unsigned i = 0; i < PARTS; i++) {
		if (!run(i, NULL, &outcome)) {
			printf("%s, without a fault: %s\n", parts[i].name, why);
			return false;
		}
	}
	return !atomic_load(&board->overflow);
}

static bool
matches(const struct fault *f, const char *only)
{
	char text[256];

	if (only == NULL)
		return true;
	snprintf(text, sizeof(text), "%s %s %s",
	    function_names[atomic_load(&f->site->function)], f->place,
	    parts[f->part].name);
	return strstr(text, only) != NULL;
}

static bool
open_board(void)
{
	char path[64];
	int fd;

	snprintf(path, sizeof(path), "%s/board", server.dir);
	fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0 || ftruncate(fd, sizeof(*board)) < 0)
		return false;
	board = mmap(
	    NULL, sizeof(*board), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	setenv("SLABD_FAULT", path, 1);
	return board != MAP_FAILED;
}

static int
report(const struct tally *t, size_t sites, uint64_t seed)
{
	printf("seed %llu, %zu sites, %lu cases, %lu calls failed, %lu cases "
	       "not met, %lu failures\n",
	    (unsigned long long)seed, sites, t->cases, t->injected, t->missed,
	    t->failed);
	return t->failed > 0 || t->injected == 0 || t->missed * 10 > t->cases;
}

static int
test(size_t n, const char *only, bool verbose, uint64_t seed)
{
	const char *build = getenv("builddir");
	struct cases c = {0};
	struct tally t = {0};
	char program[4096];
	uint64_t random = seed;
	size_t sites = 0;

	if (!learn())
		return 1;
	snprintf(
	    program, sizeof(program), "%s/slabd", build != NULL ? build : ".");
	find_places(program);
	for (unsigned i = 0; i < FAULT_SITES; i++) {
		if (atomic_load(&board->sites[i].address) == 0)
			continue;
		sites++;
		add_site(&c, &board->sites[i], places[i], &random);
	}
	if (n > 0) {
		shuffle(&c, &random);
		sample(&c, n);
	}
	printf("%zu sites, %zu cases\n", sites, c.n);
	for (size_t i = 0; i < c.n; i++)
		if (matches(&c.list[i], only))
			try_case(&c.list[i], verbose, &t);
	free(c.list);
	free(places);
	return report(&t, sites, seed);
}

int
main(int argc, char *argv[])
{
	const char *only = NULL, *build = getenv("builddir");
	uint64_t seed = random_seed("fault");
	const char *sanitizers = getenv("SANITIZERS");
	bool verbose = false;
	size_t n = SAMPLE;
	char path[4096];
	int opt, status;

	if (sanitizers != NULL && sanitizers[0] != '\0')
		n /= SLOWER;
	while ((opt = getopt(argc, argv, "an:o:s:v")) != -1)
		switch (opt) {
		case 'a':
			n = 0;
			break;
		case 'n':
			n = strtoul(optarg, NULL, 10);
			break;
		case 'o':
			only = optarg;
			break;
		case 's':
			seed = strtoull(optarg, NULL, 0);
			break;
		case 'v':
			verbose = true;
			break;
		default:
			return 2;
		}
	/* Where server.c looks for the daemon. */
	snprintf(
	    path, sizeof(path), "%s/tests/fault", build != NULL ? build : ".");
	setenv("builddir", path, 1);
	if (server_prepare(&server) != 0 || !open_board()) {
		perror("fault");
		return 1;
	}
	disarm();
	status = test(n, only, verbose, seed);
	put_away();
	server_close(&server);
	return status;
}
