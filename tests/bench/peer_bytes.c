/*
 * The carriers that copy: a pipe, a Unix stream socket, and as their floor one
 * memcpy() in one process. Writer and reader have a buffer each, which they
 * fill and read as they would fill and read a slot.
 */
#include "config.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "bench.h"
#include "payload.h"
#include "peer.h"

#define KERNEL_BUFFER (1 << 20)

static int ends[2]; /* 0 writes, 1 reads */
static char *buffer, *copy;
static size_t len;

static const char *
prepare_pipe(const struct setting *s)
{
	int pair[2];

	(void)s;
	if (pipe2(pair, O_CLOEXEC) != 0)
		bench_die("pipe");
	ends[0] = pair[1];
	ends[1] = pair[0];
	/* As large as everybody may make it; if not, the default. */
	fcntl(ends[0], F_SETPIPE_SZ, KERNEL_BUFFER);
	return NULL;
}

static const char *
prepare_socket(const struct setting *s)
{
	int size = KERNEL_BUFFER;

	(void)s;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0)
		bench_die("socketpair");
	/* The system may allow less. */
	setsockopt(ends[0], SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
	return NULL;
}

static const char *
enter(const struct setting *s, unsigned side)
{
	(void)side;
	len = s->slot_size;
	buffer = aligned_alloc(64, len);
	copy = aligned_alloc(64, len);
	if (buffer == NULL || copy == NULL)
		bench_die("aligned_alloc");
	return NULL;
}

static void
release(void)
{
	close(ends[0]);
	close(ends[1]);
}

static void
write_all(void)
{
	ssize_t n;

	for (size_t done = 0; done < len; done += (size_t)n) {
		n = write(ends[0], buffer + done, len - done);
		if (n <= 0)
			bench_die("write");
	}
}

static void
read_all(void)
{
	ssize_t n;

	for (size_t done = 0; done < len; done += (size_t)n) {
		n = read(ends[1], buffer + done, len - done);
		if (n <= 0)
			bench_die("read");
	}
}

static uint64_t
run(enum pattern pattern, unsigned side, uint64_t n)
{
	(void)pattern;
	for (uint64_t i = 0; i < n && side == 0; i++) {
		payload_write(buffer, len, i);
		write_all();
	}
	for (uint64_t i = 0; i < n && side == 1; i++) {
		read_all();
		payload_read(buffer, len, i);
	}
	return 0;
}

static uint64_t
run_memcpy(enum pattern pattern, unsigned side, uint64_t n)
{
	(void)pattern;
	(void)side;
	for (uint64_t i = 0; i < n; i++) {
		payload_write(buffer, len, i);
		memcpy(copy, buffer, len);
		payload_read(copy, len, i);
	}
	return 0;
}

const struct peer peer_pipe = {.name = "pipe",
    .prepare = prepare_pipe,
    .enter = enter,
    .run = run,
    .release = release};
const struct peer peer_socket = {.name = "Unix socket",
    .prepare = prepare_socket,
    .enter = enter,
    .run = run,
    .release = release};
const struct peer peer_memcpy = {
    .name = "memcpy, one process", .enter = enter, .run = run_memcpy};
