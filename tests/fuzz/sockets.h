/*
 * Connections without sockets, and a loop without libevent: what the protocol's
 * fuzzer gives the daemon besides kernel.h. A line is a connection: its one end
 * is the daemon's, a descriptor of kernel_fd(), its other end the fuzzer's. Each
 * direction keeps its packets in order and takes few of them.
 *
 * Linked with --wrap. Timers are never the real ones; of the watches those made
 * before kernel_play(true) are.
 */
#ifndef SLABD_TESTS_FUZZ_SOCKETS_H
#define SLABD_TESTS_FUZZ_SOCKETS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct line;

/* A new one, and the daemon's end of it; NULL: there are too many. */
struct line *line_open(int *fd);
/* Lost if the other end is closed, or has too much to read. */
void line_say(struct line *, const void *bytes, size_t len, bool descriptors);
/* The next packet until the next call; NULL: there is none. */
const uint8_t *line_hear(struct line *, size_t *len);
/* Closes the fuzzer's end. */
void line_hang_up(struct line *);

/* The process behind this pidfd has ended. */
void process_end(int pidfd);
bool process_ended(int pidfd);

/* One round of the loop: the helper's results, and each that is ready once. */
void loop_turn(void);
/* The timer that is due first, if there is one, is. */
bool loop_timer(void);
/* The helper's next attach fails. */
void helper_fail(void);
/* Random numbers begin anew, and so does the time. */
void loop_restart(void);

#endif
