/*
 * What a daemon under fault and the program that tests it share: a file that
 * both map, the daemon and its helper through the environment variable
 * SLABD_FAULT (wrap.c), the tester as fault.c.
 *
 * A call site is a function and the address a call of it returns to, as it
 * is in the program's file, so that it is the same in every process. The
 * board counts the calls of each site, apart for each part of the scenario, and
 * names at most one site whose calls fail.
 */
#ifndef SLABD_TESTS_FAULT_BOARD_H
#define SLABD_TESTS_FAULT_BOARD_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define FAULT_SITES 2048u /* a power of two */
#define FAULT_PARTS 16u

/* Every function whose calls can be made to fail; fault.mk has them again. */
#define FAULT_FUNCTIONS(X)                                                                            \
	X(accept4)                                                                                    \
	X(asprintf)                                                                                   \
	X(bind) X(calloc) X(chmod) X(close) X(close_range) X(connect) X(                              \
	    dup) X(dup2) X(eventfd) X(fallocate) X(fchmod) X(fclose) X(fcntl)                         \
	    X(fgets) X(flock) X(fopen) X(fork) X(fstat) X(fstatvfs) X(fsync) X(                       \
		ftruncate) X(__getdelim) X(getgrnam_r) X(getline) X(getpwnam_r)                       \
		X(getrandom) X(getrlimit) X(getsockopt) X(glob) X(ioctl) X(                           \
		    kill) X(lchown) X(listen) X(lstat) X(madvise) X(malloc)                           \
		    X(memfd_create) X(mkdir) X(mlock) X(mmap) X(mprotect) X(                          \
			munmap) X(open) X(open_memstream) X(opendir) X(pipe2)                         \
			X(poll) X(posix_fallocate) X(prctl) X(pread) X(pwrite) X(                     \
			    read) X(readdir) X(realloc) X(reallocarray) X(realpath)                   \
			    X(recv) X(recvmsg) X(rename) X(send) X(sendmsg) X(                        \
				sendto) X(seteuid) X(setgroups) X(setresgid)                          \
				X(setresuid) X(setrlimit) X(setsockopt) X(                            \
				    shm_open) X(shm_unlink) X(sigaction) X(socket)                    \
				    X(socketpair) X(stat) X(strdup) X(strndup) X(                     \
					syscall) X(unlink) X(unlinkat) X(vasprintf)                   \
					X(waitpid) X(write) X(event_add) X(                           \
					    event_base_loop) X(event_base_new_with_config)            \
					    X(event_base_priority_init) X(                            \
						event_config_new) X(event_new)                        \
						X(cJSON_AddArrayToObject) X(                          \
						    cJSON_AddBoolToObject) X(cJSON_AddNumberToObject) \
						    X(cJSON_AddStringToObject) X(                     \
							cJSON_CreateArray) X(cJSON_CreateBool)        \
							X(cJSON_CreateObject) X(                      \
							    cJSON_CreateRaw)                          \
							    X(cJSON_CreateString) X(                  \
								cJSON_ParseWithLengthOpts)            \
								X(cJSON_PrintBuffered)                \
								    X(seccomp_init)                   \
									X(seccomp_load)               \
									    X(seccomp_rule_add_array)

#define FAULT_ENUM(name) FAULT_##name,
enum fault_function { FAULT_FUNCTIONS(FAULT_ENUM) FAULT_COUNT };

/* A row of the table, found by its address; 0: free. */
struct fault_site {
	_Atomic uintptr_t address;
	_Atomic uint32_t function;
	_Atomic uint32_t calls[FAULT_PARTS];
};

struct fault_board {
	_Atomic uint32_t part; /* of the scenario, now */
	/* Which calls fail; written before `armed`, 0: none. */
	_Atomic uintptr_t armed;
	uint32_t function;
	int error;    /* errno; 0: the end of what there is to read */
	uint32_t at;  /* the first call that fails, from 1 on */
	bool forever; /* all after it as well */
	_Atomic uint32_t seen, injected;
	_Atomic bool overflow; /* more sites than there is room for */
	struct fault_site sites[FAULT_SITES];
};

#endif
