#include "config.h"

#include <errno.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "trace.h"

#if defined(__x86_64__)

#define SYSCALL_OPCODE 0x050fu
#define LOAD_OR_STORE  0x3u /* of DR7's condition, for DR0 */
#define EIGHT_BYTES    0x2u
/* The debug registers, by the offsets that ptrace(2) knows. */
#define DEBUG_REGISTER(i) \
	(offsetof(struct user, u_debugreg) + (i) * sizeof(long))

static long
user_word(pid_t pid, size_t at)
{
	return ptrace(PTRACE_PEEKUSER, pid, (void *)at, NULL);
}

/* Bytes of the process's memory: whether they are there. */
static bool
peek(const struct trace *t, uintptr_t at, void *out, size_t len)
{
	struct iovec here = {out, len}, there = {(void *)at, len};

	return process_vm_readv(t->pid, &here, 1, &there, 1, 0) == (ssize_t)len;
}

/* What is there in its program, whose pages do not change. */
static uint16_t
code_at(struct trace *t, uintptr_t at)
{
	uintptr_t page = at & ~(uintptr_t)(TRACE_PAGE - 1);
	struct trace_code *c = &t->code[at / TRACE_PAGE % TRACE_CODE];
	uint16_t code = 0;

	if (at - page > TRACE_PAGE - sizeof(code))
		return peek(t, at, &code, sizeof(code)) ? code : 0;
	if (c->page != page)
		c->page = peek(t, page, c->bytes, TRACE_PAGE) ? page : 0;
	if (c->page == page)
		memcpy(&code, c->bytes + (at - page), sizeof(code));
	return code;
}

/* Whether the next instruction is a system call. */
static bool
at_call(struct trace *t)
{
	uintptr_t ip = (uintptr_t)user_word(
	    t->pid, offsetof(struct user_regs_struct, rip));

	return code_at(t, ip) == SYSCALL_OPCODE;
}

int
trace_word(struct trace *t, uintptr_t address)
{
	unsigned long control =
	    1 | (unsigned long)(LOAD_OR_STORE | EIGHT_BYTES << 2) << 16;

	if (ptrace(PTRACE_POKEUSER, t->pid, (void *)DEBUG_REGISTER(0),
		(void *)address) < 0 ||
	    ptrace(PTRACE_POKEUSER, t->pid, (void *)DEBUG_REGISTER(7),
		(void *)control) < 0)
		return -errno;
	return 0;
}

bool
trace_touched(const struct trace *t)
{
	return (user_word(t->pid, DEBUG_REGISTER(6)) & 1) != 0;
}

/* The name that an openat(2) under way has got. */
static void
opened(pid_t pid, char *name, size_t size)
{
	struct user_regs_struct r;
	struct iovec here = {name, size - 1}, there;

	memset(name, 0, size);
	if (ptrace(PTRACE_GETREGS, pid, NULL, &r) < 0 || r.orig_rax != 257)
		return;
	there = (struct iovec){(void *)(uintptr_t)r.rsi, size - 1};
	/* Up to the end of a page, if the name ends before. */
	if (process_vm_readv(pid, &here, 1, &there, 1, 0) < 0) {
		here.iov_len = there.iov_len =
		    4096 - (size_t)(r.rsi & 4095) < size - 1
			? 4096 - (size_t)(r.rsi & 4095)
			: size - 1;
		process_vm_readv(pid, &here, 1, &there, 1, 0);
	}
}

#else /* Elsewhere nothing can be traced, and the tests are skipped. */

static bool
at_call(struct trace *t)
{
	(void)t;
	return false;
}

int
trace_word(struct trace *t, uintptr_t address)
{
	(void)t;
	(void)address;
	return -ENOSYS;
}

bool
trace_touched(const struct trace *t)
{
	(void)t;
	return false;
}

static void
opened(pid_t pid, char *name, size_t size)
{
	(void)pid;
	memset(name, 0, size);
}

#endif

static bool
ends_with(const char *text, const char *end)
{
	size_t len = strlen(text), n = strlen(end);

	return len >= n && strcmp(text + len - n, end) == 0;
}

int
trace_stop(struct trace *t, pid_t pid)
{
	int status;

	memset(t, 0, sizeof(*t));
	t->pid = pid;
	if (ptrace(PTRACE_SEIZE, pid, NULL, NULL) < 0 ||
	    ptrace(PTRACE_INTERRUPT, pid, NULL, NULL) < 0)
		return -errno;
	return waitpid(pid, &status, __WALL) == pid && WIFSTOPPED(status)
		   ? 0
		   : -ESRCH;
}

int
trace_until_open(struct trace *t, pid_t pid, const char *end)
{
	char name[256];
	int status;

	memset(t, 0, sizeof(*t));
	t->pid = pid;
	for (;;) {
		if (waitpid(pid, &status, __WALL) != pid)
			return -errno;
		if (!WIFSTOPPED(status))
			return -ECHILD;
		opened(pid, name, sizeof(name));
		if (ends_with(name, end))
			return 0;
		if (ptrace(PTRACE_SYSCALL, pid, NULL, NULL) < 0)
			return -errno;
	}
}

/* The letter that /proc gives: S, it sleeps. */
static char
state_of(pid_t pid)
{
	char path[64], text[512] = "", *end;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	file = fopen(path, "re");
	if (file == NULL)
		return 'X';
	if (fgets(text, sizeof(text), file) == NULL)
		text[0] = '\0';
	fclose(file);
	end = strrchr(text, ')');
	return end != NULL && end[1] == ' ' ? end[2] : 'X';
}

static void
short_nap(void)
{
	nanosleep(&(struct timespec){.tv_nsec = 50000}, NULL);
}

/* A system call may take its time; then it is asked whether it sleeps. */
static int
wait_for_call(struct trace *t, int *status)
{
	for (unsigned i = 0;; i++) {
		int got = waitpid(t->pid, status, __WALL | WNOHANG);

		if (got != 0)
			return got;
		if (i >= 20 && state_of(t->pid) == 'S')
			return 0;
		if (i >= 10)
			short_nap();
	}
}

enum step
trace_step(struct trace *t)
{
	int status, got;

	if (!t->running) {
		t->was_call = at_call(t);
		if (ptrace(PTRACE_SINGLESTEP, t->pid, NULL,
			(void *)(intptr_t)t->signal) < 0)
			return STEP_ENDED;
		t->running = true;
	}
	got = t->was_call ? wait_for_call(t, &status)
			  : waitpid(t->pid, &status, __WALL);
	if (got == 0)
		return STEP_ASLEEP;
	if (got < 0 || !WIFSTOPPED(status))
		return STEP_ENDED;
	t->running = false;
	t->signal = WSTOPSIG(status) == SIGTRAP || status >> 16 != 0
			? 0
			: WSTOPSIG(status);
	return STEP_DONE;
}

uintptr_t
trace_mapped(const struct trace *t, const char *end)
{
	char path[64], line[512];
	unsigned long at = 0;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/maps", (int)t->pid);
	file = fopen(path, "re");
	while (file != NULL && at == 0 && fgets(line, sizeof(line), file)) {
		line[strcspn(line, "\n")] = '\0';
		if (ends_with(line, end))
			at = strtoul(line, NULL, 16);
	}
	if (file != NULL)
		fclose(file);
	return (uintptr_t)at;
}

void
trace_release(struct trace *t)
{
	ptrace(PTRACE_DETACH, t->pid, NULL, NULL);
}
