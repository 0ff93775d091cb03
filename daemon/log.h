/*
 * The daemon's log: lines on standard error, for a person or for the journal.
 *
 * A line reads "slabd: subsystem: text". When standard error is the journal's
 * stream ($JOURNAL_STREAM names it) every line starts with its priority as
 * "<N>" instead of the program's name. A line is one write and at most
 * LOG_LINE_MAX bytes; text with newlines becomes several lines. The log never
 * makes the daemon wait: what a full pipe would not take is dropped, counted
 * and reported with the next line that gets through.
 *
 * Text from a client goes through log_quote(), and messages a client can
 * provoke at will through a log_limit. One thread only.
 */
#ifndef SLABD_DAEMON_LOG_H
#define SLABD_DAEMON_LOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LOG_LINE_MAX	2048u  /* bytes, newline included; below PIPE_BUF */
#define LOG_QUOTE_MAX	256u   /* bytes of a quoted text, NUL included */
#define LOG_LIMIT_LINES 10u    /* let through in ... */
#define LOG_LIMIT_MS	10000u /* ... this many milliseconds */

/* The order of the configuration's log_level. */
enum log_level {
	SLABD_LOG_ERROR,
	SLABD_LOG_WARN,
	SLABD_LOG_INFO,
	SLABD_LOG_DEBUG,
};

/*
 * Starts logging at `level`; before it, SLABD_LOG_INFO holds. `subsystems` is a
 * list separated by commas that debug lines are confined to, NULL for all; it
 * must outlive the log.
 */
void log_open(enum log_level level, const char *subsystems);
void log_set_level(enum log_level level);

/*
 * One message of `subsystem`, NULL for the daemon as a whole; leaves errno as
 * it was. Below, one short form for each level: log_warn("client", "...", ...).
 */
void log_write(enum log_level level, const char *subsystem, const char *fmt,
    ...) __attribute__((format(printf, 3, 4)));
#define log_error(...) log_write(SLABD_LOG_ERROR, __VA_ARGS__)
#define log_warn(...)  log_write(SLABD_LOG_WARN, __VA_ARGS__)
#define log_info(...)  log_write(SLABD_LOG_INFO, __VA_ARGS__)
#define log_debug(...) log_write(SLABD_LOG_DEBUG, __VA_ARGS__)

/*
 * For start-up: logs an error and exits with `status`, one of sysexits.h
 * (EX_USAGE 64, EX_UNAVAILABLE 69, EX_OSERR 71, EX_CANTCREAT 73, EX_TEMPFAIL
 * 75, EX_NOPERM 77, EX_CONFIG 78).
 */
void fatal(int status, const char *fmt, ...)
    __attribute__((format(printf, 2, 3), noreturn));

/*
 * `text` in double quotes, for use inside the calling block's log line: quotes,
 * backslashes and every byte outside printable ASCII are escaped, so it neither
 * breaks a line nor drives a terminal. What does not fit is cut and ends in
 * three dots behind the closing quote. NULL gives (null) without quotes.
 */
#define log_quote(text) log_quote_into((char[LOG_QUOTE_MAX]){0}, text)
const char *log_quote_into(char out[LOG_QUOTE_MAX], const char *text);

/* One source of lines, such as a client. Zeros, or LOG_LIMIT_INIT. */
struct log_limit {
	const char *subsystem; /* for the line that tells what was left out */
	uint64_t since_ms;     /* start of the current window */
	uint32_t lines;	       /* let through in it */
	uint32_t swallowed;    /* since the last line let through */
};

#define LOG_LIMIT_INIT(subsystem)    \
	{                            \
		(subsystem), 0, 0, 0 \
	}

/*
 * True if one more line may be logged now; false counts it as swallowed. The
 * first true after that logs how many there were.
 */
bool log_allowed(struct log_limit *limit);

/* When the source goes away: logs what was swallowed and not reported yet. */
void log_limit_end(struct log_limit *limit);

#endif
