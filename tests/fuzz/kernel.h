/*
 * The kernel's part in the daemon of a fuzz target, played: objects for lanes
 * that are no files but memory that was there before, descriptors that are only
 * numbers, a clock that stands still unless it is told to go.
 *
 * Linked with --wrap. Until kernel_play(true), and after kernel_play(false), the
 * real one serves; what it has opened it also closes.
 */
#ifndef SLABD_TESTS_FUZZ_KERNEL_H
#define SLABD_TESTS_FUZZ_KERNEL_H

#include <stdbool.h>
#include <stdint.h>

#define KERNEL_OBJECTS 32
#define KERNEL_FDS     8192

/* Of `name`, declared by the header of what it stands for, so that one which
 * does not fit does not compile. */
#define WRAP(name) extern __typeof__(name) __real_##name, __wrap_##name

void kernel_play(bool play);
bool kernel_plays(void);
/* Memory for so many objects of so many bytes; and it goes. */
void kernel_reserve(unsigned objects, uint64_t bytes);
void kernel_release(void);

/* A descriptor that close(2) knows. */
int kernel_fd(void);
/* Which of these it is, from 0 on; -1: it is a real one or an object's. */
int kernel_fd_index(int fd);
bool kernel_fd_is_open(int fd);
/* None may be left: numbers and the time begin anew. */
void kernel_restart(void);

/* So many milliseconds pass. */
void kernel_pass(uint64_t ms);

#endif
