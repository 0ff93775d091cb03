/*
 * Requests by number, and the documents that come as files in memory.
 */
#include "config.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "call.h"
#include "connection.h"

#define DOCUMENT_MAX (UINT64_C(1) << 30) /* bytes; no honest one is larger */

/* Hands the whole answer to the caller. */
static int
copy_reply(struct slabd_call *c, struct message *m)
{
	struct slabd_reply *out = c->out;

	if (m == NULL || out == NULL)
		return 0;
	out->status = c->status;
	out->attachment = m->header.attachment;
	out->len = m->body.len - WIRE_HEADER_BYTES;
	if (out->len > sizeof(out->body))
		out->len = sizeof(out->body);
	memcpy(out->body, m->body.buf + WIRE_HEADER_BYTES, out->len);
	out->n_fds = m->n_fds;
	memcpy(out->fds, m->fds, m->n_fds * sizeof(int));
	m->n_fds = 0;
	return 0;
}

int
slabd_request(struct slabd *s, uint16_t type, uint16_t flags,
    uint32_t attachment, const void *body, size_t len, struct slabd_reply *out)
{
	struct slabd_call c = {.type = type,
	    .flags = flags,
	    .attachment = attachment,
	    .body = body,
	    .len = len,
	    .reply = copy_reply,
	    .out = out};
	int cancel, err;

	if (out != NULL)
		memset(out, 0, sizeof(*out));
	err = session_enter(s, &cancel);
	if (err < 0)
		return err;
	err = call_run(s, &c);
	session_leave(s, cancel);
	return err;
}

/* All `bytes` of the file as a string, or NULL and errno. */
static char *
slurp(int fd, size_t bytes)
{
	char *text = malloc(bytes + 1);
	ssize_t n;

	for (size_t at = 0; text != NULL && at < bytes; at += (size_t)n) {
		n = pread(fd, text + at, bytes - at, (off_t)at);
		if (n > 0)
			continue;
		free(text);
		errno = n < 0 ? errno : EPROTO;
		return NULL;
	}
	if (text != NULL)
		text[bytes] = '\0';
	return text;
}

/* The document described by `reply`, whose descriptors stay open. */
static int
read_document(const struct slabd_reply *reply, char **json)
{
	struct wire_reader r = {reply->body, reply->len, 0, false};
	uint64_t bytes = wire_get_u64(&r);
	struct stat st;

	if (!wire_done(&r) || reply->n_fds != 1 || bytes > DOCUMENT_MAX ||
	    fstat(reply->fds[0], &st) < 0 || (uint64_t)st.st_size < bytes)
		return error_plain(-EPROTO, "document");
	*json = slurp(reply->fds[0], (size_t)bytes);
	return *json != NULL ? 0 : error_plain(-errno, "document");
}

int
slabd_document(struct slabd *s, uint16_t type, const char *name, char **json)
{
	struct slabd_reply reply;
	uint8_t body[2 + WIRE_NAME_MAX];
	struct wire_writer w = {body, 0, sizeof(body), false};
	int err;

	*json = NULL;
	if (name != NULL && strlen(name) > WIRE_NAME_MAX)
		return error_set(
		    -ENOENT, "pool names have at most %u bytes", WIRE_NAME_MAX);
	if (name != NULL)
		wire_put_string(&w, name, WIRE_NAME_MAX);
	err = slabd_request(s, type, 0, 0, body, w.len, &reply);
	if (err >= 0)
		err = read_document(&reply, json);
	for (unsigned i = 0; i < reply.n_fds; i++)
		close(reply.fds[i]);
	return err;
}

int
slabd_stats_json(struct slabd *s, char **json)
{
	return slabd_document(s, WIRE_STATS, NULL, json);
}
