/*
 * Between the daemon and the C library, libevent and cJSON: linked with --wrap
 * for each of the functions in board.h, so a call from the daemon's own code
 * comes here first and fails if the board says so. What the libraries call
 * among themselves is not seen; instead those of their functions the daemon
 * calls fail as a whole.
 */
#include "config.h"

#include <cjson/cJSON.h>
#include <dirent.h>
#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <glob.h>
#include <grp.h>
#include <link.h>
#include <poll.h>
#include <pwd.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include "board.h"

/* NULL: an ordinary daemon. */
static struct fault_board *board;
/* How far from where it was linked to be this program lies. */
static uintptr_t shift;

/* The program itself comes first. */
static int
note_shift(struct dl_phdr_info *info, size_t size, void *arg)
{
	(void)size;
	(void)arg;
	shift = (uintptr_t)info->dlpi_addr;
	return 1;
}

static void __attribute__((constructor)) find_board(void)
{
	const char *path = getenv("SLABD_FAULT");
	struct fault_board *found;
	int fd;

	if (path == NULL)
		return;
	fd = open(path, O_RDWR | O_CLOEXEC);
	found = mmap(
	    NULL, sizeof(*found), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	if (found == MAP_FAILED)
		_exit(126);
	dl_iterate_phdr(note_shift, NULL);
	board = found;
}

/* Notes the call; relaxed: read when the daemon has answered or ended. */
static void
count(struct fault_board *b, enum fault_function f, uintptr_t address)
{
	uintptr_t was;
	uint32_t part = atomic_load_explicit(&b->part, memory_order_relaxed);

	for (uint32_t i = 0; i < FAULT_SITES; i++) {
		struct fault_site *s =
		    &b->sites[(address + i) & (FAULT_SITES - 1)];

		was = 0;
		if (!atomic_compare_exchange_strong_explicit(&s->address, &was,
			address, memory_order_relaxed, memory_order_relaxed) &&
		    was != address)
			continue;
		atomic_store_explicit(&s->function, f, memory_order_relaxed);
		atomic_fetch_add_explicit(
		    &s->calls[part % FAULT_PARTS], 1, memory_order_relaxed);
		return;
	}
	atomic_store_explicit(&b->overflow, true, memory_order_relaxed);
}

/* Whether this call fails; then errno says how. */
static bool
fails(enum fault_function f, const void *from)
{
	uintptr_t address = (uintptr_t)from - shift;
	struct fault_board *b = board;
	uint32_t n;

	if (b == NULL)
		return false;
	count(b, f, address);
	/* Acquire: with the tester's release, after it wrote the rest. */
	if (atomic_load_explicit(&b->armed, memory_order_acquire) != address ||
	    b->function != f)
		return false;
	n = atomic_fetch_add_explicit(&b->seen, 1, memory_order_relaxed) + 1;
	if (n < b->at || (n > b->at && !b->forever))
		return false;
	atomic_fetch_add_explicit(&b->injected, 1, memory_order_relaxed);
	errno = b->error;
	return true;
}

#define FAILS(name) fails(FAULT_##name, __builtin_return_address(0))

/*
 * A function of that type, name, parameters and arguments, and its failure. It
 * is weak since the daemon may be linked without the library it comes from.
 */
#define WRAP(type, name, parameters, arguments, failure)     \
	type __real_##name parameters __attribute__((weak)); \
	type __wrap_##name parameters;                       \
	type __wrap_##name parameters                        \
	{                                                    \
		if (FAILS(name))                             \
			return failure;                      \
		return __real_##name arguments;              \
	}

/* The end of a file or of a conversation is no error. */
#define NOTHING (errno == 0 ? 0 : -1)

WRAP(int, accept4, (int fd, struct sockaddr *a, socklen_t *n, int flags),
    (fd, a, n, flags), -1)
WRAP(int, bind, (int fd, const struct sockaddr *a, socklen_t n), (fd, a, n), -1)
WRAP(void *, calloc, (size_t n, size_t size), (n, size), NULL)
WRAP(int, chmod, (const char *path, mode_t mode), (path, mode), -1)
WRAP(int, close_range, (unsigned from, unsigned to, int flags),
    (from, to, flags), -1)
WRAP(int, connect, (int fd, const struct sockaddr *a, socklen_t n), (fd, a, n),
    -1)
WRAP(int, dup2, (int from, int to), (from, to), -1)
WRAP(int, eventfd, (unsigned value, int flags), (value, flags), -1)
WRAP(int, fallocate, (int fd, int mode, off_t at, off_t n), (fd, mode, at, n),
    -1)
WRAP(int, fchmod, (int fd, mode_t mode), (fd, mode), -1)
WRAP(char *, fgets, (char *line, int n, FILE *file), (line, n, file), NULL)
WRAP(int, flock, (int fd, int how), (fd, how), -1)
WRAP(FILE *, fopen, (const char *path, const char *mode), (path, mode), NULL)
WRAP(pid_t, fork, (void), (), -1)
WRAP(int, fstat, (int fd, struct stat *st), (fd, st), -1)
WRAP(int, fstatvfs, (int fd, struct statvfs *fs), (fd, fs), -1)
WRAP(int, ftruncate, (int fd, off_t n), (fd, n), -1)
WRAP(
    ssize_t, getline, (char **line, size_t *n, FILE *file), (line, n, file), -1)
WRAP(ssize_t, getrandom, (void *bytes, size_t n, unsigned flags),
    (bytes, n, flags), NOTHING)
WRAP(int, getrlimit, (__rlimit_resource_t what, struct rlimit *limit),
    (what, limit), -1)
WRAP(int, getsockopt, (int fd, int level, int name, void *value, socklen_t *n),
    (fd, level, name, value, n), -1)
WRAP(int, glob,
    (const char *pattern, int flags, int (*error)(const char *, int),
	glob_t *found),
    (pattern, flags, error, found),
    errno == ENOMEM ? GLOB_NOSPACE : GLOB_ABORTED)
WRAP(int, kill, (pid_t pid, int signo), (pid, signo), -1)
WRAP(
    int, lchown, (const char *path, uid_t uid, gid_t gid), (path, uid, gid), -1)
WRAP(int, listen, (int fd, int n), (fd, n), -1)
WRAP(int, lstat, (const char *path, struct stat *st), (path, st), -1)
WRAP(int, madvise, (void *at, size_t n, int advice), (at, n, advice), -1)
WRAP(void *, malloc, (size_t size), (size), NULL)
WRAP(int, memfd_create, (const char *name, unsigned flags), (name, flags), -1)
WRAP(int, mkdir, (const char *path, mode_t mode), (path, mode), -1)
WRAP(int, mlock, (const void *at, size_t n), (at, n), -1)
WRAP(void *, mmap,
    (void *at, size_t n, int protection, int flags, int fd, off_t offset),
    (at, n, protection, flags, fd, offset), MAP_FAILED)
WRAP(int, munmap, (void *at, size_t n), (at, n), -1)
WRAP(FILE *, open_memstream, (char **text, size_t *n), (text, n), NULL)
WRAP(DIR *, opendir, (const char *path), (path), NULL)
WRAP(int, poll, (struct pollfd * fds, nfds_t n, int ms), (fds, n, ms), -1)
WRAP(int, posix_fallocate, (int fd, off_t at, off_t n), (fd, at, n), errno)
WRAP(ssize_t, read, (int fd, void *bytes, size_t n), (fd, bytes, n), NOTHING)
WRAP(struct dirent *, readdir, (DIR * directory), (directory), NULL)
WRAP(void *, realloc, (void *at, size_t size), (at, size), NULL)
WRAP(void *, reallocarray, (void *at, size_t n, size_t size), (at, n, size),
    NULL)
WRAP(char *, realpath, (const char *path, char *out), (path, out), NULL)
WRAP(ssize_t, recv, (int fd, void *bytes, size_t n, int flags),
    (fd, bytes, n, flags), NOTHING)
WRAP(ssize_t, recvmsg, (int fd, struct msghdr *m, int flags), (fd, m, flags),
    NOTHING)
WRAP(ssize_t, send, (int fd, const void *bytes, size_t n, int flags),
    (fd, bytes, n, flags), -1)
WRAP(ssize_t, sendmsg, (int fd, const struct msghdr *m, int flags),
    (fd, m, flags), -1)
WRAP(ssize_t, sendto,
    (int fd, const void *bytes, size_t n, int flags, const struct sockaddr *a,
	socklen_t len),
    (fd, bytes, n, flags, a, len), -1)
WRAP(int, setrlimit, (__rlimit_resource_t what, const struct rlimit *limit),
    (what, limit), -1)
WRAP(int, setsockopt,
    (int fd, int level, int name, const void *value, socklen_t n),
    (fd, level, name, value, n), -1)
WRAP(int, shm_open, (const char *name, int flags, mode_t mode),
    (name, flags, mode), -1)
WRAP(int, shm_unlink, (const char *name), (name), -1)
WRAP(int, sigaction,
    (int signo, const struct sigaction *now, struct sigaction *before),
    (signo, now, before), -1)
WRAP(int, socket, (int domain, int type, int protocol),
    (domain, type, protocol), -1)
WRAP(int, socketpair, (int domain, int type, int protocol, int *ends),
    (domain, type, protocol, ends), -1)
WRAP(char *, strdup, (const char *text), (text), NULL)
WRAP(char *, strndup, (const char *text, size_t n), (text, n), NULL)
WRAP(int, unlink, (const char *path), (path), -1)
WRAP(int, vasprintf, (char **text, const char *format, va_list ap),
    (text, format, ap), -1)
WRAP(pid_t, waitpid, (pid_t pid, int *status, int flags), (pid, status, flags),
    -1)
WRAP(int, dup, (int fd), (fd), -1)
WRAP(int, fsync, (int fd), (fd), -1)
/* What getline() is when it is inlined. */
WRAP(ssize_t, __getdelim, (char **line, size_t *n, int end, FILE *file),
    (line, n, end, file), -1)
WRAP(int, mprotect, (void *at, size_t n, int protection), (at, n, protection),
    -1)
WRAP(int, pipe2, (int *ends, int flags), (ends, flags), -1)
WRAP(ssize_t, pread, (int fd, void *bytes, size_t n, off_t at),
    (fd, bytes, n, at), NOTHING)
WRAP(ssize_t, pwrite, (int fd, const void *bytes, size_t n, off_t at),
    (fd, bytes, n, at), -1)
WRAP(int, rename, (const char *from, const char *to), (from, to), -1)
WRAP(int, seteuid, (uid_t uid), (uid), -1)
WRAP(int, setgroups, (size_t n, const gid_t *groups), (n, groups), -1)
WRAP(int, setresgid, (gid_t real, gid_t now, gid_t saved), (real, now, saved),
    -1)
WRAP(int, setresuid, (uid_t real, uid_t now, uid_t saved), (real, now, saved),
    -1)
WRAP(int, stat, (const char *path, struct stat *st), (path, st), -1)
WRAP(
    int, unlinkat, (int fd, const char *path, int flags), (fd, path, flags), -1)
WRAP(ssize_t, write, (int fd, const void *bytes, size_t n), (fd, bytes, n), -1)

WRAP(int, event_add, (struct event * event, const struct timeval *after),
    (event, after), -1)
WRAP(int, event_base_loop, (struct event_base * base, int flags), (base, flags),
    -1)
WRAP(struct event_base *, event_base_new_with_config,
    (const struct event_config *config), (config), NULL)
WRAP(int, event_base_priority_init, (struct event_base * base, int n),
    (base, n), -1)
WRAP(struct event_config *, event_config_new, (void), (), NULL)
WRAP(struct event *, event_new,
    (struct event_base * base, evutil_socket_t fd, short what,
	event_callback_fn callback, void *arg),
    (base, fd, what, callback, arg), NULL)

WRAP(cJSON *, cJSON_AddArrayToObject, (cJSON * object, const char *key),
    (object, key), NULL)
WRAP(cJSON *, cJSON_AddBoolToObject,
    (cJSON * object, const char *key, cJSON_bool value), (object, key, value),
    NULL)
WRAP(cJSON *, cJSON_AddNumberToObject,
    (cJSON * object, const char *key, double value), (object, key, value), NULL)
WRAP(cJSON *, cJSON_AddStringToObject,
    (cJSON * object, const char *key, const char *value), (object, key, value),
    NULL)
WRAP(cJSON *, cJSON_CreateArray, (void), (), NULL)
WRAP(cJSON *, cJSON_CreateBool, (cJSON_bool value), (value), NULL)
WRAP(cJSON *, cJSON_CreateObject, (void), (), NULL)
WRAP(cJSON *, cJSON_CreateRaw, (const char *text), (text), NULL)
WRAP(cJSON *, cJSON_CreateString, (const char *text), (text), NULL)
WRAP(cJSON *, cJSON_ParseWithLengthOpts,
    (const char *text, size_t n, const char **end, cJSON_bool whole),
    (text, n, end, whole), (*end = text, NULL))
WRAP(char *, cJSON_PrintBuffered,
    (const cJSON *item, int room, cJSON_bool format), (item, room, format),
    NULL)

/* libseccomp returns the negated number. */
WRAP(void *, seccomp_init, (uint32_t action), (action), NULL)
WRAP(int, seccomp_load, (const void *filter), (filter), -errno)
WRAP(int, seccomp_rule_add_array,
    (void *filter, uint32_t action, int call, unsigned n, const void *when),
    (filter, action, call, n, when), -errno)

/* Those that fail have done their work all the same. */
#define WRAP_END(name, type, arg)            \
	int __real_##name(type);             \
	int __wrap_##name(type);             \
	int __wrap_##name(type arg)          \
	{                                    \
		bool failed = FAILS(name);   \
		int error = errno;           \
		int rc = __real_##name(arg); \
                                             \
		if (!failed)                 \
			return rc;           \
		errno = error;               \
		return -1;                   \
	}

WRAP_END(close, int, fd)
WRAP_END(fclose, FILE *, file)

/* Error numbers are what they return. */
#define WRAP_LOOKUP(name, key, type)                                           \
	int __real_##name(key, struct type *, char *, size_t, struct type **); \
	int __wrap_##name(key, struct type *, char *, size_t, struct type **); \
	int __wrap_##name(key which, struct type *entry, char *text, size_t n, \
	    struct type **found)                                               \
	{                                                                      \
		if (!FAILS(name))                                              \
			return __real_##name(which, entry, text, n, found);    \
		*found = NULL;                                                 \
		return errno;                                                  \
	}

WRAP_LOOKUP(getpwnam_r, const char *, passwd)
WRAP_LOOKUP(getgrnam_r, const char *, group)

/*
 * What has a varying number of arguments takes as many as there may be; those
 * that are not there are read all the same, and not used.
 */
#define AS_MANY __attribute__((no_sanitize("address")))
#define WRAP_VARYING(type, name, parameters, last, as, call) \
	type __real_##name(parameters, ...);                 \
	type __wrap_##name(parameters, ...);                 \
	AS_MANY type __wrap_##name(parameters, ...)          \
	{                                                    \
		bool failed = FAILS(name);                   \
		va_list ap;                                  \
		as rest;                                     \
                                                             \
		if (failed)                                  \
			return -1;                           \
		va_start(ap, last);                          \
		rest = va_arg(ap, as);                       \
		va_end(ap);                                  \
		return __real_##name call;                   \
	}
#define TWO(a, b) a, b

WRAP_VARYING(int, open, TWO(const char *path, int flags), flags, mode_t,
    (path, flags, rest))
WRAP_VARYING(int, fcntl, TWO(int fd, int what), what, void *, (fd, what, rest))
WRAP_VARYING(
    int, ioctl, TWO(int fd, unsigned long what), what, void *, (fd, what, rest))

int __wrap_asprintf(char **text, const char *format, ...);
int
__wrap_asprintf(char **text, const char *format, ...)
{
	va_list ap;
	int n;

	if (FAILS(asprintf))
		return -1;
	va_start(ap, format);
	n = __real_vasprintf(text, format, ap);
	va_end(ap);
	return n;
}

/* prctl(2) and syscall(2): so many long arguments, as the kernel's. */
#define WRAP_KERNEL(type, name, first)                         \
	type __real_##name(first, ...);                        \
	type __wrap_##name(first, ...);                        \
	AS_MANY type __wrap_##name(first what, ...)            \
	{                                                      \
		bool failed = FAILS(name);                     \
		unsigned long a[6];                            \
		va_list ap;                                    \
                                                               \
		if (failed)                                    \
			return -1;                             \
		va_start(ap, what);                            \
		for (int i = 0; i < 6; i++)                    \
			a[i] = va_arg(ap, unsigned long);      \
		va_end(ap);                                    \
		return __real_##name(                          \
		    what, a[0], a[1], a[2], a[3], a[4], a[5]); \
	}

WRAP_KERNEL(int, prctl, int)
WRAP_KERNEL(long, syscall, long)
