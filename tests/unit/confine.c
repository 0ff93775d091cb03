#include "config.h"

#include <grp.h>
#include <limits.h>
#include <linux/landlock.h>
#include <linux/sockios.h>
#include <sched.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/un.h>

#include "daemon/conf.h"
#include "daemon/confine.h"
#include "daemon/headroom.h"
#include "daemon/log.h"
#include "daemon/notify.h"
#include "daemon/peer.h"
#include "lib/barrier.h"
#include "scratch.h"

/* Nobody's, but not that of "nobody", whom other tests may be running as. */
#define NOONE 64321

/*
 * What somebody who has taken the daemon over might try. Each attempt tells how
 * it ended: 0, or the error. It is made twice, by a free process and by one that
 * has confined itself, and each time in a child of its own, since some of them
 * are the end of it.
 */
struct attempt {
	const char *name;
	int (*try)(void);
	int denied; /* the error when confined */
};

static char config_path[128], socket_path[128];
static pid_t bystander; /* neither parent nor child of who attempts */

static void
write_config(const char *text)
{
	int fd = open(config_path, O_WRONLY | O_CREAT | O_TRUNC, 0644);

	cr_assert_geq(fd, 0);
	cr_assert_eq(write(fd, text, strlen(text)), (ssize_t)strlen(text));
	close(fd);
}

static int
sleep_on(void *arg)
{
	(void)arg;
	for (;;)
		pause();
	return 0;
}

static void
open_place(void)
{
	scratch_open();
	strcpy(config_path, scratch_path("slabd.conf"));
	strcpy(socket_path, scratch_path("slabd.sock"));
	cr_assert_eq(chmod(scratch.dir, 0755), 0);
	write_config("{ \"group\": \"daemon\", \"pools\": [] }");
	bystander = child_start(sleep_on, NULL);
}

static void
close_place(void)
{
	kill(bystander, SIGKILL);
	waitpid(bystander, NULL, 0);
	scratch_close();
}

TestSuite(confine, .timeout = 60, .init = open_place, .fini = close_place);

static int
confine_as_daemon(void)
{
	struct confine_needs needs = {
	    .config_path = config_path, .socket_path = socket_path};

	return confine_daemon(&needs);
}

static int
confine_as_user(void)
{
	return confine_user(NOONE, NOONE, (gid_t)-1);
}

static long
landlock_version(void)
{
	return syscall(SYS_landlock_create_ruleset, NULL, 0,
	    LANDLOCK_CREATE_RULESET_VERSION);
}

static void
skip_unless_filtered(void)
{
#ifdef INSTRUMENTED
	cr_skip_test("built without a filter");
#endif
}

static void
skip_unless_landlocked(void)
{
	skip_unless_filtered();
	if (landlock_version() <= 0)
		cr_skip_test("no landlock in this kernel");
}

static void
skip_unless_root(void)
{
	if (geteuid() != 0)
		cr_skip_test("only root can become somebody else");
}

/* ------------------------------------------------------------ two worlds */

struct trial {
	int (*confine)(void); /* NULL: free */
	int (*try)(void);
};

static int
try_it(void *arg)
{
	const struct trial *trial = arg;

	if (trial->confine != NULL && trial->confine() != 0)
		return 255;
	return trial->try();
}

static int
outcome(int (*confine)(void), int (*try)(void))
{
	struct trial trial = {confine, try};

	return child_wait(child_start(try_it, &trial));
}

/*
 * A free process must fare differently, or the attempt would prove nothing.
 * Where something else denies it already, there is nothing to see.
 */
static void
expect_denied(int (*confine)(void), const struct attempt *attempts, size_t n)
{
	size_t seen = 0;

	for (size_t i = 0; i < n; i++) {
		int was = outcome(NULL, attempts[i].try);
		int is = outcome(confine, attempts[i].try);

		cr_assert_eq(is, attempts[i].denied,
		    "%s: %d where %d was expected", attempts[i].name, is,
		    attempts[i].denied);
		seen += was != is;
		if (was == is)
			cr_log_info(
			    "%s: denied to everybody here", attempts[i].name);
	}
	cr_assert_geq(
	    seen, n / 2, "only %zu of %zu attempts told anything", seen, n);
}

#define EXPECT_DENIED(confine, attempts) \
	expect_denied(confine, attempts, sizeof(attempts) / sizeof(*(attempts)))

/* What a system call's return value comes to, and an attempt of one call. */
static int
error_of(long rc)
{
	return rc < 0 ? errno : 0;
}

/* ------------------------------------------------------ the system calls */

#define ATTEMPT(name, call)            \
	static int name(void)          \
	{                              \
		return error_of(call); \
	}

ATTEMPT(try_internet, socket(AF_INET, SOCK_STREAM, 0))
ATTEMPT(try_datagrams, socket(AF_INET, SOCK_DGRAM, 0))
ATTEMPT(try_local_stream, socket(AF_UNIX, SOCK_STREAM, 0))
ATTEMPT(try_connect, connect(-1, NULL, 0))
ATTEMPT(try_bind, bind(-1, NULL, 0))

static int
try_execve(void)
{
	char *const argv[] = {"true", NULL};

	execv("/bin/true", argv);
	return errno;
}

ATTEMPT(try_execveat, syscall(SYS_execveat, -1, "", NULL, NULL, 0))
ATTEMPT(try_ptrace, ptrace(PTRACE_TRACEME, 0, NULL, NULL))
ATTEMPT(try_read_memory,
    syscall(SYS_process_vm_readv, getpid(), NULL, 0, NULL, 0, 0))
ATTEMPT(try_kill_parent, kill(getppid(), 0))
ATTEMPT(try_kill_bystander, kill(bystander, SIGCONT))
ATTEMPT(try_kill_by_thread, syscall(SYS_tgkill, bystander, bystander, SIGCONT))

static int
try_kill_by_pidfd(void)
{
	int fd = (int)syscall(SYS_pidfd_open, bystander, 0);

	return fd < 0 ? 254
		      : error_of(syscall(
			    SYS_pidfd_send_signal, fd, SIGCONT, NULL, 0));
}

static int
try_own_signal(void)
{
	int fd = eventfd(0, 0);

	return error_of(fcntl(fd, F_SETOWN, getpid()));
}

static int
try_steal_descriptor(void)
{
	int fd = (int)syscall(SYS_pidfd_open, getpid(), 0);

	return error_of(syscall(SYS_pidfd_getfd, fd, 0, 0));
}

static int
try_map_code(void)
{
	void *at = mmap(NULL, 4096, PROT_READ | PROT_EXEC,
	    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	return at == MAP_FAILED ? errno : 0;
}

static int
try_make_code(void)
{
	void *at = mmap(NULL, 4096, PROT_READ | PROT_WRITE,
	    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	return at == MAP_FAILED
		   ? 254
		   : error_of(mprotect(at, 4096, PROT_READ | PROT_EXEC));
}

ATTEMPT(try_personality, syscall(SYS_personality, 0xffffffff))

static int
try_fork(void)
{
	pid_t pid = fork();

	if (pid == 0)
		_exit(0);
	return error_of(pid);
}

ATTEMPT(try_namespace, unshare(CLONE_FS))
ATTEMPT(try_mount, syscall(SYS_mount, NULL, NULL, NULL, 0, NULL))
ATTEMPT(try_chroot, chroot("/nowhere"))
ATTEMPT(try_mkdir, mkdir("/nowhere/at/all", 0700))
ATTEMPT(try_setuid, setuid(getuid()))
ATTEMPT(try_clone_by_structure, syscall(SYS_clone3, NULL, 0))
ATTEMPT(try_keyctl, syscall(SYS_keyctl, 0, -4, 0))
ATTEMPT(try_bpf, syscall(SYS_bpf, 0, NULL, 1u << 20))
ATTEMPT(try_perf, syscall(SYS_perf_event_open, NULL, 0, -1, -1, 0))
ATTEMPT(try_module, syscall(SYS_init_module, NULL, 0, ""))
ATTEMPT(try_io_uring, syscall(SYS_io_uring_setup, 0, NULL))
ATTEMPT(try_limit, setrlimit(RLIMIT_CORE, &(struct rlimit){0}))

static int
try_other_ioctl(void)
{
	char c = 'x';

	return error_of(syscall(SYS_ioctl, -1, TIOCSTI, &c));
}

#ifdef __x86_64__
ATTEMPT(try_other_interface, syscall(0x40000000 | SYS_getpid))
#endif

static const struct attempt calls_of_daemon[] = {
#ifdef __x86_64__
    {"a call by 32-bit pointers", try_other_interface, EPERM},
#endif
    {"socket(AF_INET)", try_internet, EPERM},
    {"socket(AF_INET, SOCK_DGRAM)", try_datagrams, EPERM},
    {"socket(AF_UNIX, SOCK_STREAM)", try_local_stream, EPERM},
    {"connect", try_connect, EPERM},
    {"bind", try_bind, EPERM},
    {"execve", try_execve, EPERM},
    {"execveat", try_execveat, EPERM},
    {"ptrace", try_ptrace, EPERM},
    {"process_vm_readv", try_read_memory, EPERM},
    {"kill the parent", try_kill_parent, EPERM},
    {"kill a bystander", try_kill_bystander, EPERM},
    {"tgkill a bystander", try_kill_by_thread, EPERM},
    {"pidfd_send_signal", try_kill_by_pidfd, EPERM},
    {"fcntl(F_SETOWN)", try_own_signal, EPERM},
    {"pidfd_getfd", try_steal_descriptor, EPERM},
    {"mmap(PROT_EXEC)", try_map_code, EPERM},
    {"mprotect(PROT_EXEC)", try_make_code, EPERM},
    {"personality", try_personality, EPERM},
    {"fork", try_fork, EPERM},
    {"unshare", try_namespace, EPERM},
    {"mount", try_mount, EPERM},
    {"chroot", try_chroot, EPERM},
    {"mkdir", try_mkdir, EPERM},
    {"setuid", try_setuid, EPERM},
    {"clone3", try_clone_by_structure, ENOSYS},
    {"keyctl", try_keyctl, EPERM},
    {"bpf", try_bpf, EPERM},
    {"perf_event_open", try_perf, EPERM},
    {"init_module", try_module, EPERM},
    {"io_uring_setup", try_io_uring, EPERM},
    {"prlimit", try_limit, EPERM},
    {"ioctl", try_other_ioctl, EPERM},
};

Test(confine, daemon_calls)
{
	skip_unless_filtered();
	EXPECT_DENIED(confine_as_daemon, calls_of_daemon);
}

ATTEMPT(try_thread, syscall(SYS_clone, CLONE_VM | SIGCHLD, NULL, 0, 0, 0))

static int
try_user_namespace(void)
{
	long pid = syscall(SYS_clone, CLONE_NEWUSER | SIGCHLD, NULL, 0, 0, 0);

	if (pid == 0)
		_exit(0);
	return error_of(pid);
}

ATTEMPT(try_any_socket, socket(AF_UNIX, SOCK_DGRAM, 0))
ATTEMPT(try_unlink, unlink("/nowhere/at/all"))

static const struct attempt calls_of_helper[] = {
    {"socket(AF_INET)", try_internet, EPERM},
    {"socket(AF_UNIX)", try_any_socket, EPERM},
    {"execve", try_execve, EPERM},
    {"ptrace", try_ptrace, EPERM},
    {"kill the parent", try_kill_parent, EPERM},
    {"kill a bystander", try_kill_bystander, EPERM},
    {"tgkill a bystander", try_kill_by_thread, EPERM},
    {"mmap(PROT_EXEC)", try_map_code, EPERM},
    {"mprotect(PROT_EXEC)", try_make_code, EPERM},
    {"clone(CLONE_NEWUSER)", try_user_namespace, EPERM},
    {"unshare", try_namespace, EPERM},
    {"unlink", try_unlink, EPERM},
    {"mkdir", try_mkdir, EPERM},
    {"setuid", try_setuid, EPERM},
    {"clone3", try_clone_by_structure, ENOSYS},
    {"bpf", try_bpf, EPERM},
    {"io_uring_setup", try_io_uring, EPERM},
};

Test(confine, helper_calls)
{
	skip_unless_filtered();
	EXPECT_DENIED(confine_helper, calls_of_helper);
	/* A free process would share its stack with that one: not tried. */
	cr_assert_eq(outcome(confine_helper, try_thread), EPERM);
}

/* --------------------------------------------------------------- the files */

static int
open_anew(const char *path, int flags)
{
	return open(path, flags | O_CLOEXEC, 0600);
}

ATTEMPT(try_root_directory, open_anew("/", O_RDONLY | O_DIRECTORY))
ATTEMPT(try_program, open_anew("/bin/sh", O_RDONLY))
ATTEMPT(try_write_config, open_anew(config_path, O_WRONLY))

static int
try_new_config(void)
{
	char path[160];

	snprintf(path, sizeof(path), "%s.new", config_path);
	return error_of(open_anew(path, O_WRONLY | O_CREAT));
}

ATTEMPT(try_temporary_file, open_anew("/tmp", O_RDWR | O_TMPFILE))
ATTEMPT(try_write_process, open_anew("/proc/self/oom_score_adj", O_WRONLY))
ATTEMPT(try_write_etc, open_anew("/etc/group", O_WRONLY))
ATTEMPT(try_read_config, open_anew(config_path, O_RDONLY))

static int
try_new_object(void)
{
	char path[128];

	snprintf(path, sizeof(path), "/dev/shm%sbad", scratch.prefix);
	return error_of(open_anew(path, O_RDWR | O_CREAT));
}

static const struct attempt files_of_daemon[] = {
    {"the root directory", try_root_directory, EACCES},
    {"a program", try_program, EACCES},
    {"to write the configuration", try_write_config, EACCES},
    {"a new file beside it", try_new_config, EACCES},
    {"a file without a name", try_temporary_file, EACCES},
    {"to write to /proc", try_write_process, EACCES},
    {"to write to /etc", try_write_etc, EACCES},
};

Test(confine, daemon_files)
{
	skip_unless_landlocked();
	EXPECT_DENIED(confine_as_daemon, files_of_daemon);
}

static const struct attempt files_of_helper[] = {
    {"the root directory", try_root_directory, EACCES},
    {"a program", try_program, EACCES},
    {"the configuration", try_read_config, EACCES},
    {"a file without a name", try_temporary_file, EACCES},
    {"an object", try_new_object, EACCES},
};

Test(confine, helper_files)
{
	skip_unless_landlocked();
	EXPECT_DENIED(confine_helper, files_of_helper);
}

/* A configuration that is a link is read from where it lies. */
static int
read_linked_config(void *arg)
{
	struct confine_needs needs = {
	    .config_path = arg, .socket_path = socket_path};

	CHECK(confine_daemon(&needs) == 0);
	CHECK(open_anew(arg, O_RDONLY) >= 0);
	CHECK(try_read_config() == 0);
	CHECK(open_anew("/tmp", O_RDONLY) < 0 && errno == EACCES);
	return 0;
}

Test(confine, linked_config)
{
	char directory[160], path[192];

	skip_unless_landlocked();
	snprintf(directory, sizeof(directory), "%s/links", scratch.dir);
	snprintf(path, sizeof(path), "%s/slabd.conf", directory);
	cr_assert_eq(mkdir(directory, 0755), 0);
	cr_assert_eq(symlink(config_path, path), 0);
	child_check(read_linked_config, path);
	cr_assert_eq(unlink(path), 0);
	cr_assert_eq(rmdir(directory), 0);
}

/* What cannot be read by now cannot be read later. */
static int
confine_elsewhere(void *arg)
{
	static char longest[PATH_MAX + 2];
	struct confine_needs needs = {
	    .config_path = longest, .socket_path = socket_path};

	(void)arg;
	memset(longest, '/', sizeof(longest) - 1);
	CHECK(confine_daemon(&needs) == -ENAMETOOLONG);
	needs.config_path = "/nowhere/slabd.conf";
	CHECK(confine_daemon(&needs) == 0);
	CHECK(open_anew(config_path, O_RDONLY) < 0 && errno == EACCES);
	return 0;
}

Test(confine, config_out_of_reach)
{
	skip_unless_landlocked();
	child_check(confine_elsewhere, NULL);
}

/* ----------------------------------------------------------------- the user */

ATTEMPT(try_become_root, setuid(0))
ATTEMPT(try_root_group, setgid(0))

static int
try_groups(void)
{
	gid_t root = 0;

	return error_of(setgroups(1, &root));
}

ATTEMPT(try_shadow, open_anew("/etc/shadow", O_RDONLY))
ATTEMPT(try_raise_priority, syscall(SYS_setpriority, 0, 0, -1))
ATTEMPT(try_real_chroot, chroot("/"))

static const struct attempt rights_of_user[] = {
    {"setuid(0)", try_become_root, EPERM},
    {"setgid(0)", try_root_group, EPERM},
    {"setgroups", try_groups, EPERM},
    {"/etc/shadow", try_shadow, EACCES},
    {"setpriority", try_raise_priority, EACCES},
    {"chroot", try_real_chroot, EPERM},
};

Test(confine, user_rights)
{
	skip_unless_root();
	EXPECT_DENIED(confine_as_user, rights_of_user);
}

/* The value in a line of /proc/self/status; good until the next call. */
static const char *
status_value(const char *key)
{
	static char line[256];
	FILE *file = fopen("/proc/self/status", "re");
	size_t len = strlen(key);

	while (file != NULL && fgets(line, sizeof(line), file) != NULL) {
		if (strncmp(line, key, len) != 0 || line[len] != ':')
			continue;
		fclose(file);
		line[strcspn(line, "\n")] = '\0';
		return line + len + 1 + strspn(line + len + 1, " \t");
	}
	return "?";
}

static int
look_at_user(void *arg)
{
	const char *const empty[] = {"CapInh", "CapPrm", "CapEff", "CapAmb"};
	gid_t groups[8], also = *(gid_t *)arg;
	uid_t r, e, s;
	int n;

	CHECK(confine_user(NOONE, NOONE + 1, also) == 0);
	CHECK(getresuid(&r, &e, &s) == 0);
	CHECK(r == NOONE && e == NOONE && s == NOONE);
	CHECK(getresgid(&r, &e, &s) == 0);
	CHECK(r == NOONE + 1 && e == NOONE + 1 && s == NOONE + 1);
	n = getgroups(8, groups);
	CHECK(n == (also == (gid_t)-1 ? 0 : 1));
	CHECK(n == 0 || groups[0] == also);
	for (int i = 0; i < 4; i++)
		CHECK(strtoull(status_value(empty[i]), NULL, 16) == 0);
	CHECK(atoi(status_value("NoNewPrivs")) == 1);
	CHECK(prctl(PR_GET_DUMPABLE) == 0);
	return 0;
}

Test(confine, user)
{
	gid_t none = (gid_t)-1, other = NOONE + 2;

	skip_unless_root();
	child_check(look_at_user, &none);
	child_check(look_at_user, &other);
}

/* The bounding set goes as far as the system lets us. */
static int
look_at_bounds(void *arg)
{
	(void)arg;
	if (prctl(PR_CAPBSET_READ, 8 /* CAP_SETPCAP */) != 1)
		return SKIP;
	CHECK(confine_user(NOONE, NOONE, (gid_t)-1) == 0);
	CHECK(strtoull(status_value("CapBnd"), NULL, 16) == 0);
	return 0;
}

Test(confine, bounding_set)
{
	skip_unless_root();
	child_check(look_at_bounds, NULL);
}

static int
stay_as_is(void *arg)
{
	(void)arg;
	if (geteuid() == 0) {
		CHECK(setgroups(0, NULL) == 0);
		CHECK(setresgid(NOONE, NOONE, NOONE) == 0);
		CHECK(setresuid(NOONE, NOONE, NOONE) == 0);
	}
	CHECK(prctl(PR_SET_DUMPABLE, 1) == 0);
	CHECK(confine_user(0, 0, (gid_t)-1) == -EINVAL);
	CHECK(confine_user(NOONE + 1, NOONE, (gid_t)-1) == -EPERM);
	CHECK(confine_user(geteuid(), NOONE + 1, (gid_t)-1) == 0);
	CHECK(getegid() != NOONE + 1);
	CHECK(prctl(PR_GET_DUMPABLE) == 0);
	return 0;
}

Test(confine, who_is_no_root)
{
	child_check(stay_as_is, NULL);
}

/* ------------------------------------------------- looked at from outside */

static int
confined_until_told(void *arg)
{
	int *ends = arg;
	char byte = 'r';

	close(ends[0]);
	CHECK(confine_user(NOONE, NOONE, (gid_t)-1) == 0);
	CHECK(confine_as_daemon() == 0);
	CHECK(write(ends[1], &byte, 1) == 1);
	CHECK(read(ends[1], &byte, 1) == 0);
	return 0;
}

static int
unconfined_until_told(void *arg)
{
	int *ends = arg;
	char byte = 'r';

	close(ends[0]);
	CHECK(setresgid(NOONE, NOONE, NOONE) == 0);
	CHECK(setresuid(NOONE, NOONE, NOONE) == 0);
	CHECK(prctl(PR_SET_DUMPABLE, 1) == 0);
	CHECK(write(ends[1], &byte, 1) == 1);
	CHECK(read(ends[1], &byte, 1) == 0);
	return 0;
}

/* As another process of the same user. */
static int
look_into(void *arg)
{
	pid_t pid = *(pid_t *)arg;
	char path[64];

	if (setgroups(0, NULL) < 0 || setresgid(NOONE, NOONE, NOONE) < 0 ||
	    setresuid(NOONE, NOONE, NOONE) < 0)
		return 255;
	snprintf(path, sizeof(path), "/proc/%d/maps", (int)pid);
	return error_of(open(path, O_RDONLY));
}

static int
outcome_of_looking(int (*victim)(void *))
{
	char byte;
	pid_t pid;
	int ends[2], outcome;

	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
	pid = child_start(victim, ends);
	close(ends[1]);
	cr_assert_eq(read(ends[0], &byte, 1), 1);
	outcome = child_wait(child_start(look_into, &pid));
	close(ends[0]);
	cr_assert_eq(child_wait(pid), 0);
	return outcome;
}

Test(confine, not_looked_into)
{
	skip_unless_root();
	cr_assert_eq(outcome_of_looking(unconfined_until_told), 0);
	cr_assert_eq(outcome_of_looking(confined_until_told), EACCES);
}

/* --------------------------------------------------- what must still work */

static int
need_objects(void)
{
	struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
	const char *name = scratch_name("object");
	int fd, again, secret;
	char *at;

	fd = shm_open(name, O_RDWR | O_CREAT | O_EXCL, 0600);
	CHECK(fd >= 0);
	CHECK(fchmod(fd, 0600) == 0);
	CHECK(ftruncate(fd, 65536) == 0);
	CHECK(posix_fallocate(fd, 0, 4096) == 0);
	at = mmap(NULL, 65536, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	CHECK(at != MAP_FAILED);
	CHECK(madvise(at, 65536, MADV_DONTDUMP) == 0);
	again = shm_open(name, O_RDONLY, 0);
	CHECK(again >= 0);
	CHECK(fcntl(fd, F_GETLK, &lock) == 0 && lock.l_type == F_UNLCK);
	CHECK(shm_unlink(name) == 0);
	CHECK(munmap(at, 65536) == 0);
	secret = memfd_create("document", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	CHECK(secret >= 0);
	CHECK(ftruncate(secret, 4096) == 0);
	CHECK(fcntl(secret, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_SEAL) == 0);
	return 0;
}

/* As a region of its own kind is opened for who may only read. */
static int
need_own_descriptors(void)
{
	int fd = memfd_create("region", MFD_CLOEXEC), again;
	char path[64];

	CHECK(fd >= 0);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	again = open(path, O_RDONLY | O_CLOEXEC);
	CHECK(again >= 0);
	CHECK((fcntl(again, F_GETFL) & O_ACCMODE) == O_RDONLY);
	return 0;
}

static int
need_configuration(void)
{
	struct config *config;
	char *error = NULL;

	if (config_load(&config, config_path, &error) != 0) {
		dprintf(STDERR_FILENO, "%s\n", error);
		return 1;
	}
	CHECK(config->has_group);
	config_free(config);
	return 0;
}

static int
need_clients(int listener)
{
	struct peer peer;
	struct stat st;
	int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK), unread;

	CHECK(fd >= 0);
	CHECK(peer_of(&peer, fd) == 0);
	CHECK(peer.start_time != 0);
	CHECK(peer_alive(peer.pidfd));
	CHECK(stat("/proc/self/ns/pid", &st) == 0);
	CHECK(send(fd, "hello", 5, MSG_NOSIGNAL | MSG_DONTWAIT) == 5);
	CHECK(ioctl(fd, SIOCOUTQ, &unread) == 0);
	CHECK(shutdown(fd, SHUT_WR) == 0);
	peer_free(&peer);
	return 0;
}

static int
need_events(void)
{
	struct itimerspec soon = {.it_value = {.tv_nsec = 1}};
	struct epoll_event event = {.events = EPOLLIN};
	int loop = epoll_create1(EPOLL_CLOEXEC);
	int timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);

	CHECK(loop >= 0 && timer >= 0);
	CHECK(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK) >= 0);
	CHECK(epoll_ctl(loop, EPOLL_CTL_ADD, timer, &event) == 0);
	CHECK(timerfd_settime(timer, 0, &soon, NULL) == 0);
	CHECK(epoll_wait(loop, &event, 1, -1) == 1);
	if (barrier_possible())
		barrier_all();
	return 0;
}

static int
need_socket(void)
{
	CHECK(open("/dev/null", O_RDONLY | O_CLOEXEC) >= 0);
	CHECK(chmod(socket_path, 0600) == 0);
	CHECK(lchown(socket_path, (uid_t)-1, getegid()) == 0);
	CHECK(unlink(socket_path) == 0);
	return 0;
}

static int
listen_here(void)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	memcpy(address.sun_path, socket_path, strlen(socket_path));
	if (bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0 ||
	    listen(fd, 4) < 0)
		return -1;
	return fd;
}

static int
come_as_client(void *arg)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	char text[8];

	(void)arg;
	memcpy(address.sun_path, socket_path, strlen(socket_path));
	CHECK(connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0);
	CHECK(recv(fd, text, sizeof(text), 0) == 5);
	CHECK(recv(fd, text, sizeof(text), 0) == 0);
	return 0;
}

static int
live_as_daemon(void *arg)
{
	struct confine_needs needs = {
	    .config_path = config_path, .socket_path = socket_path};
	int failed, listener;

	if (geteuid() == 0)
		CHECK(chown(scratch.dir, NOONE, NOONE) == 0 &&
		      confine_user(NOONE, NOONE, (gid_t)-1) == 0);
	listener = listen_here();
	CHECK(listener >= 0);
	/* Anybody may come, as with mode 0666. */
	CHECK(chmod(socket_path, 0666) == 0);
	CHECK(write(*(int *)arg, "l", 1) == 1);
	CHECK(confine_daemon(&needs) == 0);
	log_info(NULL, "serving");
	failed = need_objects() + need_own_descriptors() +
		 need_configuration() + need_clients(listener) + need_events() +
		 need_socket();
	CHECK(notify_status("serving") == 0);
	return failed;
}

Test(confine, daemon_lives)
{
	pid_t pid, client;
	int ends[2];
	char byte;

	cr_assert_eq(pipe(ends), 0);
	pid = child_start(live_as_daemon, &ends[1]);
	close(ends[1]);
	cr_assert_eq(read(ends[0], &byte, 1), 1);
	client = child_start(come_as_client, NULL);
	cr_assert_eq(child_wait(pid), 0);
	cr_assert_eq(child_wait(client), 0);
}

/* Nothing but the helper may be ended, and the daemon itself may abort. */
static int
end_helper(void *arg)
{
	struct confine_needs needs = {
	    .config_path = config_path, .socket_path = socket_path};
	pid_t self = getpid();
	int status;

	(void)arg;
	needs.helper = fork();
	if (needs.helper == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		_exit(getppid() == self ? sleep_on(NULL) : 1);
	}
	CHECK(confine_daemon(&needs) == 0);
	CHECK(kill(needs.helper, SIGTERM) < 0 && errno == EPERM);
	CHECK(kill(bystander, SIGKILL) < 0 && errno == EPERM);
	CHECK(kill(needs.helper, SIGKILL) == 0);
	CHECK(waitpid(needs.helper, &status, 0) == needs.helper);
	CHECK(WIFSIGNALED(status));
	abort();
}

Test(confine, daemon_ends_helper_and_itself)
{
	skip_unless_filtered();
	cr_assert_eq(child_wait(child_start(end_helper, NULL)), -SIGABRT);
}

/* The service manager is told how things are, by path or without one. */
static int
tell_manager(void *arg)
{
	(void)arg;
	CHECK(confine_as_daemon() == 0);
	CHECK(notify_stopping() == 0);
	return 0;
}

static void
expect_told(const char *name)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	char text[32] = "";

	memcpy(address.sun_path, name, strlen(name));
	if (*name == '@')
		address.sun_path[0] = '\0';
	cr_assert_eq(bind(fd, (struct sockaddr *)&address,
			 (socklen_t)(offsetof(struct sockaddr_un, sun_path) +
				     strlen(name))),
	    0);
	setenv("NOTIFY_SOCKET", name, 1);
	child_check(tell_manager, NULL);
	cr_assert_gt(recv(fd, text, sizeof(text) - 1, MSG_DONTWAIT), 0);
	cr_assert_str_eq(text, "STOPPING=1");
	close(fd);
}

Test(confine, manager_is_told)
{
	char name[256];

	expect_told(scratch_path("manager"));
	snprintf(name, sizeof(name), "@%s", scratch.prefix + 1);
	expect_told(name);
}

/* What a worker does: it dies with the helper and offers itself for that. */
static int
work(int fd)
{
	int score;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	CHECK(prctl(PR_SET_DUMPABLE, 1) == 0);
	score = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
	CHECK(score >= 0);
	CHECK(write(score, "1000", 4) == 4);
	CHECK(prctl(PR_SET_DUMPABLE, 0) == 0);
	CHECK(fallocate(fd, 0, 0, 8192) == 0);
	return 0;
}

static int
live_as_helper(void *arg)
{
	int fd = memfd_create("region", MFD_CLOEXEC), status;
	pid_t pid;
	void *at;

	(void)arg;
	CHECK(ftruncate(fd, 1 << 20) == 0);
	if (geteuid() == 0)
		CHECK(confine_user(NOONE, NOONE, (gid_t)-1) == 0);
	CHECK(confine_helper() == 0);
	CHECK(headroom(fd) > 0 && headroom(fd) < UINT64_MAX);
	pid = fork();
	if (pid == 0)
		_exit(work(fd));
	CHECK(pid > 0);
	CHECK(waitpid(pid, &status, 0) == pid);
	CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	at = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	CHECK(at != MAP_FAILED);
	CHECK(mlock(at, 4096) == 0 || errno == ENOMEM);
	CHECK(munlock(at, 4096) == 0 && munmap(at, 8192) == 0);
	CHECK(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0,
		  8192) == 0);
	return 0;
}

Test(confine, helper_lives)
{
	child_check(live_as_helper, NULL);
}
