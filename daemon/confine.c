#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <libgen.h>
#include <limits.h>
#include <linux/capability.h>
#include <linux/landlock.h>
#include <linux/sockios.h>
#include <sched.h>
#include <seccomp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "confine.h"
#include "log.h"

#ifdef INSTRUMENTED
#define CAN_FILTER false
#else
#define CAN_FILTER true
#endif

/* --------------------------------------------------------------- the user */

/* For good: neither a debugger nor a program with the set-user-ID bit helps. */
static int
process_seal(void)
{
	/* A change of user sets the first anew, so this comes last. */
	if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0 ||
	    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return -errno;
	return 0;
}

/*
 * What execve(2) could give back. It takes a capability that a container need
 * not have, and is worth nothing once there are no new privileges: errors do
 * not matter.
 */
static void
bounds_drop(void)
{
	for (int i = 0; prctl(PR_CAPBSET_READ, i, 0, 0, 0) >= 0; i++)
		prctl(PR_CAPBSET_DROP, i, 0, 0, 0);
	prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
}

static int
capabilities_drop(void)
{
	struct __user_cap_header_struct header = {
	    .version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3] = {0};

	return syscall(SYS_capset, &header, none) < 0 ? -errno : 0;
}

static bool
root_is_gone(void)
{
	uid_t real, effective, saved;

	return getresuid(&real, &effective, &saved) == 0 && real != 0 &&
	       real == effective && real == saved && setuid(0) < 0 &&
	       seteuid(0) < 0;
}

static int
user_change(uid_t uid, gid_t gid, gid_t also)
{
	if (setgroups(also == (gid_t)-1 ? 0 : 1, &also) < 0 ||
	    setresgid(gid, gid, gid) < 0)
		return -errno;
	bounds_drop();
	if (setresuid(uid, uid, uid) < 0)
		return -errno;
	return 0;
}

int
confine_user(uid_t uid, gid_t gid, gid_t also)
{
	int err = 0;

	if (uid == 0)
		return -EINVAL;
	if (geteuid() != uid)
		err = user_change(uid, gid, also);
	if (err == 0)
		err = capabilities_drop();
	if (err != 0)
		return err;
	return root_is_gone() ? process_seal() : -EPERM;
}

/* --------------------------------------------------------------- the files */

/* What came after the first version, which is as old as this feature. */
#ifndef LANDLOCK_ACCESS_FS_TRUNCATE
#define LANDLOCK_ACCESS_FS_TRUNCATE (1ULL << 14)
#endif
#define ACCESS_FS_FIRST ((1ULL << 13) - 1) /* EXECUTE to MAKE_SYM */
#define ACCESS_FS_IOCTL (1ULL << 15)
#define ACCESS_NET_ALL	3ULL /* bind and connect by TCP */
#define SCOPE_ABSTRACT	1ULL /* sockets without a path */
#define SCOPE_SIGNAL	2ULL
#define ACCESS_FS_READ \
	(LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR)
#define ACCESS_FS_OBJECTS                                                  \
	(ACCESS_FS_READ | LANDLOCK_ACCESS_FS_WRITE_FILE |                  \
	    LANDLOCK_ACCESS_FS_MAKE_REG | LANDLOCK_ACCESS_FS_REMOVE_FILE | \
	    LANDLOCK_ACCESS_FS_TRUNCATE)

/* The kernel takes a longer structure than its own if the rest is zero. */
struct landlock_rights {
	uint64_t fs, net, scope;
};

struct place {
	const char *path;
	uint64_t access;
};

/* Everything that this version of landlock can deny. */
static struct landlock_rights
rights_known(long version, uint64_t scope)
{
	struct landlock_rights all = {.fs = ACCESS_FS_FIRST};

	if (version >= 2)
		all.fs |= LANDLOCK_ACCESS_FS_REFER;
	if (version >= 3)
		all.fs |= LANDLOCK_ACCESS_FS_TRUNCATE;
	if (version >= 4)
		all.net = ACCESS_NET_ALL;
	if (version >= 5)
		all.fs |= ACCESS_FS_IOCTL;
	if (version >= 6)
		all.scope = scope;
	return all;
}

/*
 * A place that is not there, or that we could not get at anyway, needs no rule:
 * 0 or -errno.
 */
static int
place_allow(int ruleset, const struct place *place, uint64_t known)
{
	struct landlock_path_beneath_attr beneath = {
	    .allowed_access = place->access & known,
	    .parent_fd = open(place->path, O_PATH | O_CLOEXEC)};
	int err = 0;

	if (beneath.parent_fd < 0)
		return errno == ENOENT || errno == EACCES ? 0 : -errno;
	if (syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH,
		&beneath, 0) < 0)
		err = -errno;
	close(beneath.parent_fd);
	return err;
}

/* The version that is in force, 0: the kernel has none; or -errno. */
static long
files_confine(const struct place *places, size_t n, uint64_t scope)
{
	long version = syscall(SYS_landlock_create_ruleset, NULL, 0,
	    LANDLOCK_CREATE_RULESET_VERSION);
	struct landlock_rights known = rights_known(version, scope);
	int ruleset, err = 0;

	if (version <= 0)
		return 0;
	ruleset =
	    (int)syscall(SYS_landlock_create_ruleset, &known, sizeof(known), 0);
	if (ruleset < 0)
		return -errno;
	for (size_t i = 0; i < n && err == 0; i++)
		err = place_allow(ruleset, &places[i], known.fs);
	if (err == 0 && syscall(SYS_landlock_restrict_self, ruleset, 0) < 0)
		err = -errno;
	close(ruleset);
	return err != 0 ? err : version;
}

/* The service manager may be told things at an address without a path. */
static uint64_t
daemon_scope(void)
{
	const char *manager = getenv("NOTIFY_SOCKET");

	/* No SCOPE_SIGNAL: the helper, older than the rules, is outside. */
	return manager != NULL && *manager == '@' ? 0 : SCOPE_ABSTRACT;
}

/* Puts the directory of a path where the path is. */
static void
directory_of(char path[PATH_MAX])
{
	const char *directory = dirname(path);

	memmove(path, directory, strlen(directory) + 1);
}

/*
 * The configuration may be reached through a link; what it includes is then
 * looked for on one side or the other.
 */
static long
daemon_files(const struct confine_needs *needs)
{
	char config[PATH_MAX], target[PATH_MAX], socket[PATH_MAX];
	const struct place places[] = {
	    {config, ACCESS_FS_READ},
	    {target, ACCESS_FS_READ},
	    {socket, LANDLOCK_ACCESS_FS_REMOVE_FILE},
	    {"/dev/shm", ACCESS_FS_OBJECTS},
	    {"/dev/null", LANDLOCK_ACCESS_FS_READ_FILE},
	    {"/etc", ACCESS_FS_READ}, /* names of users and groups */
	    {"/proc", ACCESS_FS_READ},
	    {"/sys/fs/cgroup", ACCESS_FS_READ},
	};

	if (strlen(needs->config_path) >= sizeof(config) ||
	    strlen(needs->socket_path) >= sizeof(socket))
		return -ENAMETOOLONG;
	if (realpath(needs->config_path, target) == NULL)
		strcpy(target, needs->config_path);
	directory_of(target);
	directory_of(strcpy(config, needs->config_path));
	directory_of(strcpy(socket, needs->socket_path));
	return files_confine(
	    places, sizeof(places) / sizeof(places[0]), daemon_scope());
}

/* How much memory there is, and how likely a victim a worker shall be. */
static long
helper_files(void)
{
	static const struct place places[] = {
	    {"/proc", ACCESS_FS_READ | LANDLOCK_ACCESS_FS_WRITE_FILE},
	    {"/sys/fs/cgroup", ACCESS_FS_READ},
	};

	return files_confine(places, sizeof(places) / sizeof(places[0]),
	    SCOPE_ABSTRACT | SCOPE_SIGNAL);
}

/* ------------------------------------------------------- the system calls */

/*
 * The kernel looks at 32 bits of an int and the filter at 64, the upper half of
 * which may hold anything.
 */
#define INT UINT32_MAX

struct condition {
	unsigned argument; /* from 0 */
	uint64_t mask, value;
};

/* A call that is allowed if all the conditions hold. */
struct rule {
	int call;
	unsigned n;
	struct condition when[2];
};

/*
 * Calls are listed under all their names: which of them the C library uses
 * depends on its version and on the architecture, which may lack some.
 */
static const int shared_calls[] = {
    /* descriptors */
    SCMP_SYS(read), SCMP_SYS(readv), SCMP_SYS(pread64), SCMP_SYS(write),
    SCMP_SYS(writev), SCMP_SYS(pwrite64), SCMP_SYS(lseek), SCMP_SYS(_llseek),
    SCMP_SYS(close), SCMP_SYS(poll), SCMP_SYS(ppoll), SCMP_SYS(recvfrom),
    SCMP_SYS(recvmsg), SCMP_SYS(sendto), SCMP_SYS(sendmsg),
    /* files */
    SCMP_SYS(open), SCMP_SYS(openat), SCMP_SYS(stat), SCMP_SYS(lstat),
    SCMP_SYS(fstat), SCMP_SYS(newfstatat), SCMP_SYS(stat64), SCMP_SYS(lstat64),
    SCMP_SYS(fstat64), SCMP_SYS(fstatat64), SCMP_SYS(statx), SCMP_SYS(statfs),
    SCMP_SYS(statfs64), SCMP_SYS(fstatfs), SCMP_SYS(fstatfs64),
    SCMP_SYS(fallocate),
    /* memory */
    SCMP_SYS(brk), SCMP_SYS(munmap), SCMP_SYS(mremap), SCMP_SYS(madvise),
    /* the process itself */
    SCMP_SYS(getpid), SCMP_SYS(gettid), SCMP_SYS(getppid), SCMP_SYS(getuid),
    SCMP_SYS(geteuid), SCMP_SYS(getgid), SCMP_SYS(getegid),
    SCMP_SYS(rt_sigaction), SCMP_SYS(rt_sigprocmask), SCMP_SYS(rt_sigreturn),
    SCMP_SYS(sigaltstack), SCMP_SYS(sigreturn), SCMP_SYS(restart_syscall),
    SCMP_SYS(exit), SCMP_SYS(exit_group), SCMP_SYS(set_robust_list),
    SCMP_SYS(rseq), SCMP_SYS(futex), SCMP_SYS(futex_time64), SCMP_SYS(wait4),
    SCMP_SYS(waitid), SCMP_SYS(waitpid),
    /* time, chance and what qsort(3) asks */
    SCMP_SYS(clock_gettime), SCMP_SYS(clock_gettime64), SCMP_SYS(gettimeofday),
    SCMP_SYS(time), SCMP_SYS(getrandom), SCMP_SYS(sysinfo)};

static const struct rule shared_rules[] = {
    /* Memory is data. */
    {SCMP_SYS(mmap), 1, {{2, PROT_EXEC, 0}}},
    {SCMP_SYS(mmap2), 1, {{2, PROT_EXEC, 0}}},
    {SCMP_SYS(mprotect), 1, {{2, PROT_EXEC, 0}}},
};

/* Not F_SETOWN, which has others signalled. */
static const int shared_fcntls[] = {F_DUPFD, F_DUPFD_CLOEXEC, F_GETFD, F_SETFD,
    F_GETFL, F_SETFL, F_GETLK, F_SETLK, F_SETLKW, F_OFD_GETLK, F_OFD_SETLK,
    F_ADD_SEALS, F_GET_SEALS};

static const int daemon_calls[] = {
    /* clients */
    SCMP_SYS(accept), SCMP_SYS(accept4), SCMP_SYS(getsockopt),
    SCMP_SYS(shutdown), SCMP_SYS(pidfd_open), SCMP_SYS(membarrier),
    /* the event loop */
    SCMP_SYS(epoll_create1), SCMP_SYS(epoll_ctl), SCMP_SYS(epoll_wait),
    SCMP_SYS(epoll_pwait), SCMP_SYS(epoll_pwait2), SCMP_SYS(eventfd2),
    SCMP_SYS(timerfd_create), SCMP_SYS(timerfd_settime),
    SCMP_SYS(timerfd_settime64), SCMP_SYS(timerfd_gettime),
    /* objects of pools, and documents */
    SCMP_SYS(memfd_create), SCMP_SYS(ftruncate), SCMP_SYS(ftruncate64),
    SCMP_SYS(fchmod), SCMP_SYS(unlink), SCMP_SYS(unlinkat), SCMP_SYS(flock),
    /* the configuration, and the socket's group and mode */
    SCMP_SYS(getdents64), SCMP_SYS(readlink), SCMP_SYS(readlinkat),
    SCMP_SYS(access), SCMP_SYS(faccessat), SCMP_SYS(faccessat2),
    SCMP_SYS(chmod), SCMP_SYS(fchmodat), SCMP_SYS(lchown), SCMP_SYS(fchownat),
    SCMP_SYS(umask)};

static const struct rule daemon_rules[] = {
    {SCMP_SYS(setsockopt), 1, {{1, INT, SOL_SOCKET}}},
    {SCMP_SYS(ioctl), 1, {{1, INT, SIOCOUTQ}}},
    /* To the service manager. No connect(2): nobody else is spoken to. */
    {SCMP_SYS(socket), 2,
	{{0, INT, AF_UNIX},
	    {1, INT & ~(uint64_t)(SOCK_CLOEXEC | SOCK_NONBLOCK), SOCK_DGRAM}}},
    /* To look at its own limits, not to set any. */
    {SCMP_SYS(prlimit64), 2, {{0, INT, 0}, {2, UINT64_MAX, 0}}},
};

static const int helper_calls[] = {
    SCMP_SYS(mlock), SCMP_SYS(mlock2), SCMP_SYS(munlock)};

/*
 * Workers, in no new namespace and no thread, and what they say of themselves.
 */
static const struct rule helper_rules[] = {
    {SCMP_SYS(fork), 0, {{0}}},
    {SCMP_SYS(clone), 1,
	{{0,
	    CLONE_VM | CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS |
		CLONE_NEWIPC | CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET,
	    0}}},
    {SCMP_SYS(prctl), 1, {{0, INT, PR_SET_PDEATHSIG}}},
    {SCMP_SYS(prctl), 1, {{0, INT, PR_SET_DUMPABLE}}},
};

static int
calls_allow(scmp_filter_ctx filter, const int *calls, size_t n)
{
	int err = 0;

	for (size_t i = 0; i < n && err == 0; i++)
		err = seccomp_rule_add(filter, SCMP_ACT_ALLOW, calls[i], 0);
	return err;
}

static int
rules_allow(scmp_filter_ctx filter, const struct rule *rules, size_t n)
{
	int err = 0;

	for (size_t i = 0; i < n && err == 0; i++) {
		struct scmp_arg_cmp when[2];

		for (unsigned k = 0; k < rules[i].n; k++)
			when[k] = (struct scmp_arg_cmp){
			    .arg = rules[i].when[k].argument,
			    .op = SCMP_CMP_MASKED_EQ,
			    .datum_a = rules[i].when[k].mask,
			    .datum_b = rules[i].when[k].value};
		err = seccomp_rule_add_array(
		    filter, SCMP_ACT_ALLOW, rules[i].call, rules[i].n, when);
	}
	return err;
}

#define ALLOW_CALLS(filter, calls) \
	calls_allow(filter, calls, sizeof(calls) / sizeof((calls)[0]))
#define ALLOW_RULES(filter, rules) \
	rules_allow(filter, rules, sizeof(rules) / sizeof((rules)[0]))

static int
fcntls_allow(scmp_filter_ctx filter)
{
	const size_t n = sizeof(shared_fcntls) / sizeof(*shared_fcntls);
	int err = 0;

	for (size_t i = 0; i < n && err == 0; i++) {
		uint64_t command = (uint64_t)shared_fcntls[i];
		const struct rule rules[] = {
		    {SCMP_SYS(fcntl), 1, {{1, INT, command}}},
		    {SCMP_SYS(fcntl64), 1, {{1, INT, command}}},
		};

		err = ALLOW_RULES(filter, rules);
	}
	return err;
}

/* To itself, for abort(3), and to the helper, which it ends. */
static int
signals_allow(scmp_filter_ctx filter, pid_t helper)
{
	const struct rule rules[] = {
	    {SCMP_SYS(tgkill), 1, {{0, INT, (uint32_t)getpid()}}},
	    {SCMP_SYS(kill), 2,
		{{0, INT, (uint32_t)helper}, {1, INT, SIGKILL}}},
	};

	return rules_allow(filter, rules, helper > 0 ? 2 : 1);
}

/* A filter with what both processes need. */
static int
filter_new(scmp_filter_ctx *out)
{
	scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ERRNO(EPERM));
	int err;

	*out = filter;
	if (filter == NULL)
		return -ENOMEM;
	err = seccomp_attr_set(
	    filter, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_ERRNO(EPERM));
	/* A tree: hot calls come no later than others. */
	if (err == 0)
		err = seccomp_attr_set(filter, SCMP_FLTATR_CTL_OPTIMIZE, 2);
	/* Its flags are in memory, out of sight; clone(2) is tried instead. */
	if (err == 0)
		err = seccomp_rule_add(
		    filter, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3), 0);
	if (err == 0)
		err = ALLOW_CALLS(filter, shared_calls);
	if (err == 0)
		err = ALLOW_RULES(filter, shared_rules);
	if (err == 0)
		err = fcntls_allow(filter);
	return err;
}

static int
daemon_filter(pid_t helper)
{
	scmp_filter_ctx filter;
	int err = filter_new(&filter);

	if (err == 0)
		err = ALLOW_CALLS(filter, daemon_calls);
	if (err == 0)
		err = ALLOW_RULES(filter, daemon_rules);
	if (err == 0)
		err = signals_allow(filter, helper);
	if (err == 0)
		err = seccomp_load(filter);
	seccomp_release(filter);
	return err;
}

static int
helper_filter(void)
{
	scmp_filter_ctx filter;
	int err = filter_new(&filter);

	if (err == 0)
		err = ALLOW_CALLS(filter, helper_calls);
	if (err == 0)
		err = ALLOW_RULES(filter, helper_rules);
	if (err == 0)
		err = seccomp_load(filter);
	seccomp_release(filter);
	return err;
}

int
confine_daemon(const struct confine_needs *needs)
{
	int err = process_seal();
	long version;

	if (err != 0 || !CAN_FILTER)
		return err;
	version = daemon_files(needs);
	if (version < 0)
		return (int)version;
	err = daemon_filter(needs->helper);
	if (err == 0 && version == 0)
		log_info("confine", "landlock is not to be had: files are "
				    "guarded by their owners and modes only");
	return err;
}

int
confine_helper(void)
{
	int err = process_seal();
	long version;

	if (err != 0 || !CAN_FILTER)
		return err;
	version = helper_files();
	return version < 0 ? (int)version : helper_filter();
}
