/*
 * Failures in words. The text belongs to its thread, so nothing here locks.
 */
#include "config.h"

#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "error.h"
#include "slabd.h"

static _Thread_local char detail[ERROR_TEXT_BYTES];

int
error_set(int err, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(detail, sizeof(detail), format, args);
	va_end(args);
	return err;
}

int
error_plain(int err, const char *what)
{
	return error_set(err, "%s: %s", what, slabd_strerror(err));
}

void *
error_null(int err)
{
	errno = -err;
	return NULL;
}

void
error_copy(char *out, size_t cap, const void *text, size_t len)
{
	const unsigned char *in = text;

	if (len >= cap)
		len = cap - 1;
	for (size_t i = 0; i < len; i++) {
		bool control = in[i] < 0x20 || in[i] == 0x7f;

		out[i] = !control || in[i] == '\n' ? (char)in[i]
			 : in[i] == '\t'	   ? ' '
						   : '?';
	}
	out[len] = '\0';
}

const char *
slabd_error_detail(void)
{
	return detail;
}

const char *
slabd_version(void)
{
	return VERSION;
}

const char *
slabd_strerror(int err)
{
	const char *text;

	switch (err < 0 ? -err : err) {
	case 0:
		return "success";
	case EACCES:
		return "not permitted on this pool or socket";
	case EAGAIN:
		return "not finished yet, ask again";
	case EALREADY:
		return "the slot is free already";
	case EBUSY:
		return "in use: shared, or not finished with";
	case EDQUOT:
		return "over the quota";
	case EINTR:
		return "a signal handler ran";
	case EINVAL:
		return "no slot starts there, or a bad argument";
	case ENOBUFS:
		return "no slot is free";
	case ENOSPC:
		return "the host has no memory to grow the pool";
	case ENOTCONN:
		return "the daemon is away";
	case ENOTRECOVERABLE:
		return "a new daemon knows nothing of this pool: detach it "
		       "and attach it again";
	case EOWNERDEAD:
		return "inherited by fork: open a connection of your own";
	case EPERM:
		return "the slot is not held by this attachment";
	case EPROTO:
		return "the peer broke the protocol";
	case ESHUTDOWN:
		return "the pool was taken out of service";
	case ETIMEDOUT:
		return "not in time";
	case EUCLEAN:
		return "the pool's region was truncated";
	case EUSERS:
		return "too many connections or attachments";
	case ESTALE:
		return "the ref is used up, recalled or expired";
	}
	text = strerrordesc_np(err < 0 ? -err : err);
	return text != NULL ? text : "unknown error";
}
