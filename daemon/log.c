#include "config.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "event.h"
#include "log.h"

static enum log_level log_level = SLABD_LOG_INFO;
static const char *log_subsystems;
static bool log_journal;	  /* standard error is the journal's stream */
static unsigned long log_dropped; /* lines nobody would take */

/* syslog's numbers, which are what the journal reads between < and >. */
static const int log_priority[] = {
    [SLABD_LOG_ERROR] = 3,
    [SLABD_LOG_WARN] = 4,
    [SLABD_LOG_INFO] = 6,
    [SLABD_LOG_DEBUG] = 7,
};

/*
 * The variable alone proves nothing: it is inherited by whatever the service
 * starts, with its standard error sent elsewhere.
 */
static bool
stderr_is_journal(void)
{
	const char *stream = getenv("JOURNAL_STREAM");
	uintmax_t dev, ino;
	struct stat st;

	return stream != NULL && sscanf(stream, "%ju:%ju", &dev, &ino) == 2 &&
	       fstat(STDERR_FILENO, &st) == 0 && st.st_dev == dev &&
	       st.st_ino == ino;
}

void
log_open(enum log_level level, const char *subsystems)
{
	log_level = level;
	log_subsystems = subsystems;
	log_journal = stderr_is_journal();
}

void
log_set_level(enum log_level level)
{
	log_level = level;
}

static bool
subsystem_listed(const char *subsystem)
{
	const char *at = log_subsystems;
	size_t len;

	if (at == NULL || subsystem == NULL)
		return true;
	for (; *at != '\0'; at += len + (at[len] == ',')) {
		len = strcspn(at, ",");
		if (len == strlen(subsystem) &&
		    strncmp(at, subsystem, len) == 0)
			return true;
	}
	return false;
}

static bool
log_wanted(enum log_level level, const char *subsystem)
{
	if (level > log_level)
		return false;
	return level != SLABD_LOG_DEBUG || subsystem_listed(subsystem);
}

/*
 * A pipe that polls writable takes PIPE_BUF bytes at once, a stream socket
 * more, so the write does not wait.
 */
static bool
stderr_put(const char *line, size_t len)
{
	struct pollfd ready = {.fd = STDERR_FILENO, .events = POLLOUT};

	return poll(&ready, 1, 0) == 1 &&
	       write(STDERR_FILENO, line, len) == (ssize_t)len;
}

/* False if the line was lost. */
static bool
log_line(enum log_level level, const char *subsystem, const char *text, int len)
{
	char line[LOG_LINE_MAX], priority[8] = "";
	bool named = subsystem != NULL;
	int n;

	if (log_journal)
		snprintf(
		    priority, sizeof(priority), "<%d>", log_priority[level]);
	n = snprintf(line, sizeof(line), "%s%s%s%s%.*s\n", priority,
	    log_journal ? "" : "slabd: ", named ? subsystem : "",
	    named ? ": " : "", len, text);
	if (n >= (int)sizeof(line)) {
		n = (int)sizeof(line) - 1;
		memcpy(line + n - 4, "...\n", 4);
	}
	return stderr_put(line, (size_t)n);
}

static void
log_report_dropped(void)
{
	char text[64];
	int len;

	if (log_dropped == 0)
		return;
	len = snprintf(
	    text, sizeof(text), "%lu lines of log were lost", log_dropped);
	if (log_line(SLABD_LOG_WARN, NULL, text, len))
		log_dropped = 0;
}

static void
log_text(
    enum log_level level, const char *subsystem, const char *fmt, va_list ap)
{
	char text[2 * LOG_LINE_MAX];
	int saved = errno;
	size_t len;

	if (!log_wanted(level, subsystem))
		return;
	vsnprintf(text, sizeof(text), fmt, ap);
	log_report_dropped();
	for (const char *at = text; *at != '\0';
	     at += len + (at[len] == '\n')) {
		len = strcspn(at, "\n");
		if (!log_line(level, subsystem, at, (int)len))
			log_dropped++;
	}
	errno = saved;
}

void
log_write(enum log_level level, const char *subsystem, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	log_text(level, subsystem, fmt, ap);
	va_end(ap);
}

void
fatal(int status, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	log_text(SLABD_LOG_ERROR, NULL, fmt, ap);
	va_end(ap);
	exit(status);
}

const char *
log_quote_into(char out[LOG_QUOTE_MAX], const char *text)
{
	const size_t longest = sizeof("\\xff") - 1, tail = sizeof("\"...");
	size_t n = 0;

	if (text == NULL)
		return "(null)";
	out[n++] = '"';
	for (; *text != '\0' && n + longest + tail <= LOG_QUOTE_MAX; text++) {
		unsigned char c = (unsigned char)*text;

		if (c < ' ' || c > '~') {
			n += (size_t)snprintf(
			    out + n, longest + 1, "\\x%02x", c);
			continue;
		}
		if (c == '"' || c == '\\')
			out[n++] = '\\';
		out[n++] = (char)c;
	}
	strcpy(out + n, *text == '\0' ? "\"" : "\"...");
	return out;
}

void
log_limit_end(struct log_limit *limit)
{
	if (limit->swallowed > 0)
		log_warn(limit->subsystem,
		    "%" PRIu32 " similar messages were left out",
		    limit->swallowed);
	limit->swallowed = 0;
}

bool
log_allowed(struct log_limit *limit)
{
	uint64_t now = loop_now_ms();

	if (limit->lines == 0 || now - limit->since_ms >= LOG_LIMIT_MS) {
		limit->since_ms = now;
		limit->lines = 0;
	}
	if (limit->lines == LOG_LIMIT_LINES) {
		limit->swallowed++;
		return false;
	}
	limit->lines++;
	log_limit_end(limit);
	return true;
}
