/*
 * A process that goes on by single instructions, and can be asked when its
 * thread loads or stores a word. Only the thread that has called trace_stop()
 * may call the others.
 */
#ifndef SLABD_TESTS_TRACE_H
#define SLABD_TESTS_TRACE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define TRACE_PAGE 4096u
#define TRACE_CODE 64u

struct trace {
	pid_t pid;
	bool running;  /* its last instruction is not over */
	bool was_call; /* that was a system call */
	int signal;    /* to be delivered with the next */
	/* Pages of its program that were read. */
	struct trace_code {
		uintptr_t page;
		unsigned char bytes[TRACE_PAGE];
	} code[TRACE_CODE];
};

enum step {
	STEP_DONE,   /* one instruction is over */
	STEP_ASLEEP, /* it waits inside a system call for something to come */
	STEP_ENDED,  /* the process is no more */
};

/* Stops the process wherever it is: 0 or -errno. */
int trace_stop(struct trace *, pid_t);
/*
 * A process that has asked to be traced and executes another program: it runs
 * until it opens a file with this end of its name. 0 or -errno.
 */
int trace_until_open(struct trace *, pid_t, const char *end);
enum step trace_step(struct trace *);
/* trace_touched() is true once the word at `address` was loaded or stored. */
int trace_word(struct trace *, uintptr_t address);
bool trace_touched(const struct trace *);
/* Where the process has mapped the file with this end of its name; 0: nowhere.
 */
uintptr_t trace_mapped(const struct trace *, const char *end);
/* Lets it run. */
void trace_release(struct trace *);

#endif
