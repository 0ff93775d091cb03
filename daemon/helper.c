#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/queue.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "confine.h"
#include "headroom.h"
#include "helper.h"
#include "locked.h"
#include "log.h"
#include "region.h"

#define HELPER_STEP   (UINT64_C(64) << 20) /* bytes in one fallocate */
#define HELPER_WINDOW 8 /* jobs sent and not answered, so no send fills up */

/* In the helper: the only one beside the standard ones, and the guard. */
#define HELPER_SOCKET_FD 3

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23 /* Linux 5.14 */
#endif

struct queued_job {
	STAILQ_ENTRY(queued_job) next;
	struct helper_job job; /* with a descriptor of its own */
};

/* A job waits in the queue only while others are running. */
struct helper {
	pid_t pid;
	int fd;
	unsigned running; /* jobs sent and not answered */
	bool gone;
	STAILQ_HEAD(, queued_job) queue;
};

/*
 * Both ends are one program, so jobs and results travel as they are, a job
 * together with its descriptor.
 */
union job_control {
	struct cmsghdr header;
	char space[CMSG_SPACE(sizeof(int))];
};

static int
job_send(int socket, const struct helper_job *job)
{
	union job_control control = {0};
	struct iovec body = {(void *)job, sizeof(*job)};
	struct msghdr message = {.msg_iov = &body,
	    .msg_iovlen = 1,
	    .msg_control = &control,
	    .msg_controllen = sizeof(control)};
	struct cmsghdr *cmsg = CMSG_FIRSTHDR(&message);

	cmsg->cmsg_level = SOL_SOCKET;
	cmsg->cmsg_type = SCM_RIGHTS;
	cmsg->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(cmsg), &job->fd, sizeof(int));
	if (sendmsg(socket, &message, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0)
		return 0;
	return errno == ECONNRESET ? -EPIPE : -errno;
}

/*
 * Waits for a job; false when the daemon is gone. The descriptor is -1 if there
 * was none left to receive it with.
 */
static bool
job_receive(int socket, struct helper_job *job)
{
	union job_control control;
	struct iovec body = {job, sizeof(*job)};
	struct msghdr message = {.msg_iov = &body,
	    .msg_iovlen = 1,
	    .msg_control = &control,
	    .msg_controllen = sizeof(control)};
	struct cmsghdr *cmsg;
	ssize_t n;

	do
		n = recvmsg(socket, &message, MSG_CMSG_CLOEXEC);
	while (n < 0 && errno == EINTR);
	if (n != sizeof(*job))
		return false;
	job->fd = -1;
	cmsg = CMSG_FIRSTHDR(&message);
	if (cmsg != NULL)
		memcpy(&job->fd, CMSG_DATA(cmsg), sizeof(int));
	return true;
}

static int
range_punch(const struct helper_job *job)
{
	int rc;

	do
		rc = fallocate(job->fd,
		    FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
		    (off_t)job->offset, (off_t)job->bytes);
	while (rc < 0 && errno == EINTR);
	return rc < 0 ? -errno : 0;
}

static int
range_fill(const struct helper_job *job)
{
	uint64_t step;

	for (uint64_t done = 0; done < job->bytes; done += step) {
		step = job->bytes - done;
		if (step > HELPER_STEP)
			step = HELPER_STEP;
		while (fallocate(job->fd, 0, (off_t)(job->offset + done),
			   (off_t)step) < 0)
			if (errno != EINTR)
				return -errno;
	}
	return 0;
}

/*
 * The pages have memory; now each is cleared. What a client takes away meanwhile
 * is -EFAULT, where touching the pages would be a SIGBUS.
 */
static int
range_prefault(const struct helper_job *job)
{
	void *at = mmap(NULL, job->bytes, PROT_READ | PROT_WRITE,
	    MAP_SHARED | MAP_NORESERVE, job->fd, (off_t)job->offset);
	int rc;

	if (at == MAP_FAILED)
		return -errno;
	rc = madvise(at, job->bytes, MADV_POPULATE_WRITE) < 0 ? -errno : 0;
	munmap(at, job->bytes);
	return rc == -EINVAL ? -EOPNOTSUPP : rc;
}

static int
range_attach(const struct helper_job *job)
{
	int rc = range_fill(job);

	return rc == 0 && job->prefault ? range_prefault(job) : rc;
}

/* Dies with `parent`, even if that was faster than this call. */
static void
die_with(pid_t parent)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(EXIT_FAILURE);
}

/*
 * Everybody may make himself a likelier victim, as long as he may be dumped;
 * without /proc nobody can.
 */
static void
volunteer_for_oom(void)
{
	static const char most[] = "1000";
	int fd;

	prctl(PR_SET_DUMPABLE, 1);
	fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
	if (fd >= 0) {
		(void)!write(fd, most, sizeof(most) - 1);
		close(fd);
	}
	prctl(PR_SET_DUMPABLE, 0);
}

/* Fills the range in a process that may be killed for it: 0 or -errno. */
static int
worker_run(const struct helper_job *job)
{
	pid_t self = getpid(), pid = fork();
	int status;

	if (pid < 0)
		return -errno;
	if (pid == 0) {
		die_with(self);
		volunteer_for_oom();
		_exit(-range_attach(job));
	}
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return -errno;
	return WIFEXITED(status) ? -WEXITSTATUS(status) : -ENOMEM;
}

static int
job_check(const struct helper_job *job)
{
	struct stat st;
	uint64_t end;

	if (job->fd < 0)
		return -EMFILE;
	if (fstat(job->fd, &st) < 0)
		return -errno;
	if (job->bytes == 0 ||
	    __builtin_add_overflow(job->offset, job->bytes, &end) ||
	    end > (uint64_t)st.st_size)
		return -EINVAL;
	return 0;
}

/* Huge pages are in no limit but their own number, and that is no estimate. */
static uint64_t
room_for(int fd)
{
	return region_is_huge(fd) ? UINT64_MAX : headroom(fd);
}

static uint64_t
room_left(int fd)
{
	return region_is_huge(fd) ? region_huge_room(fd) : headroom(fd);
}

static int
attach(const struct helper_job *job)
{
	int rc = worker_run(job);

	if (rc == 0 && job->lock)
		rc = locked_add(job->fd, job->offset, job->bytes);
	if (rc < 0)
		range_punch(job);
	return rc;
}

static void
attach_run(const struct helper_job *job, struct helper_result *result)
{
	result->status = room_for(job->fd) < job->bytes ? -ENOSPC : attach(job);
	if (result->status == 0)
		return;
	result->needed = job->bytes;
	if (result->status != -EPERM)
		result->available = room_left(job->fd);
}

static int
range_run(const struct helper_job *job)
{
	if (job->kind == HELPER_LOCK)
		return locked_add(job->fd, job->offset, job->bytes);
	locked_drop(job->fd, job->offset, job->bytes);
	return range_punch(job);
}

static struct helper_result
job_run(const struct helper_job *job)
{
	struct helper_result result = {.id = job->id};

	if (job->kind == HELPER_FORGET) {
		locked_forget(job->fd);
		return result;
	}
	result.status = job_check(job);
	if (result.status < 0)
		return result;
	if (job->kind == HELPER_ATTACH)
		attach_run(job, &result);
	else
		result.status = range_run(job);
	return result;
}

/*
 * The daemon ends this process, by closing the socket or by its own end. A
 * signal meant for the daemon also reaches us, from a terminal or a service
 * manager, and must not take the helper away while the daemon shuts down.
 */
static void
helper_ignore_signals(void)
{
	static const int ignored[] = {
	    SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGPIPE};

	for (size_t i = 0; i < sizeof(ignored) / sizeof(ignored[0]); i++)
		signal(ignored[i], SIG_IGN);
	signal(SIGCHLD, SIG_DFL);
}

/* As much as we may lock. */
static void
helper_raise_limit(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_MEMLOCK, &limit) < 0)
		return;
	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_MEMLOCK, &limit);
}

static void
helper_become(int socket, pid_t daemon)
{
	helper_ignore_signals();
	die_with(daemon);
	prctl(PR_SET_NAME, "slabd-helper");
	helper_raise_limit();
	if (dup2(socket, HELPER_SOCKET_FD) < 0 ||
	    close_range(HELPER_SOCKET_FD + 1, ~0u, 0) < 0 ||
	    confine_helper() < 0)
		_exit(EXIT_FAILURE);
}

/* The result of one job; false when the daemon has gone. */
static bool
helper_serve(const struct helper_job *job)
{
	struct helper_result result = job_run(job);

	if (job->fd >= 0)
		close(job->fd);
	return send(HELPER_SOCKET_FD, &result, sizeof(result), MSG_NOSIGNAL) >=
	       0;
}

/* The guard stays open, here and in the workers: its lock lives with us. */
static void __attribute__((noreturn)) helper_main(void)
{
	struct helper_job job;

	while (job_receive(HELPER_SOCKET_FD, &job)) {
		if (job.kind == HELPER_GUARD && job.fd < 0)
			_exit(EXIT_FAILURE);
		if (job.kind != HELPER_GUARD && !helper_serve(&job))
			break;
	}
	_exit(EXIT_SUCCESS);
}

int
helper_start(struct helper **out)
{
	struct helper *helper = malloc(sizeof(*helper));
	pid_t self = getpid();
	int rc, ends[2];

	*out = NULL;
	if (helper == NULL)
		return -ENOMEM;
	*helper = (struct helper){.pid = -1};
	STAILQ_INIT(&helper->queue);
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0) {
		rc = -errno;
		goto free_helper;
	}
	helper->pid = fork();
	if (helper->pid < 0) {
		rc = -errno;
		goto close_ends;
	}
	if (helper->pid == 0) {
		helper_become(ends[1], self);
		helper_main();
	}
	close(ends[1]);
	helper->fd = ends[0];
	*out = helper;
	return 0;

close_ends:
	close(ends[0]);
	close(ends[1]);
free_helper:
	free(helper);
	return rc;
}

int
helper_fd(const struct helper *helper)
{
	return helper->fd;
}

pid_t
helper_pid(const struct helper *helper)
{
	return helper->pid;
}

int
helper_guard(struct helper *helper, int guard)
{
	struct helper_job job = {.kind = HELPER_GUARD, .fd = guard};

	return job_send(helper->fd, &job);
}

static int
queue_put(struct helper *helper, const struct helper_job *job)
{
	struct queued_job *queued = malloc(sizeof(*queued));

	if (queued == NULL)
		return -ENOMEM;
	queued->job = *job;
	STAILQ_INSERT_TAIL(&helper->queue, queued, next);
	return 0;
}

static void
queue_drop_first(struct helper *helper)
{
	struct queued_job *first = STAILQ_FIRST(&helper->queue);

	STAILQ_REMOVE_HEAD(&helper->queue, next);
	free(first);
}

int
helper_submit(struct helper *helper, const struct helper_job *job)
{
	int rc;

	if (helper->gone)
		return -EPIPE;
	if (STAILQ_EMPTY(&helper->queue) && helper->running < HELPER_WINDOW) {
		rc = job_send(helper->fd, job);
		if (rc == 0)
			helper->running++;
		/* Without a job running nothing would start the queue. */
		if (rc == 0 || helper->running == 0)
			return rc;
	}
	return queue_put(helper, job);
}

/*
 * Sends what has room now. A job that cannot even be sent while none is running
 * has failed: then 1 and its result, otherwise 0.
 */
static int
queue_send(struct helper *helper, struct helper_result *result)
{
	struct queued_job *first;
	int rc;

	while (helper->running < HELPER_WINDOW &&
	       (first = STAILQ_FIRST(&helper->queue)) != NULL) {
		rc = job_send(helper->fd, &first->job);
		if (rc < 0 && helper->running > 0)
			break;
		if (rc == 0)
			helper->running++;
		else
			*result = (struct helper_result){
			    .id = first->job.id, .status = rc};
		queue_drop_first(helper);
		if (rc < 0)
			return 1;
	}
	return 0;
}

int
helper_read(struct helper *helper, struct helper_result *result)
{
	ssize_t n;

	if (helper->gone)
		return -EPIPE;
	do
		n = recv(helper->fd, result, sizeof(*result), MSG_DONTWAIT);
	while (n < 0 && errno == EINTR);
	if (n == sizeof(*result)) {
		helper->running--;
		return 1;
	}
	if (n < 0 && errno == EAGAIN)
		return queue_send(helper, result);
	helper->gone = true;
	log_error("helper",
	    "process %d has ended: memory can no longer be "
	    "attached or returned until the daemon is restarted",
	    (int)helper->pid);
	return -EPIPE;
}

void
helper_stop(struct helper *helper)
{
	if (helper == NULL)
		return;
	close(helper->fd);
	kill(helper->pid, SIGKILL);
	while (waitpid(helper->pid, NULL, 0) < 0 && errno == EINTR)
		;
	while (!STAILQ_EMPTY(&helper->queue))
		queue_drop_first(helper);
	free(helper);
}
