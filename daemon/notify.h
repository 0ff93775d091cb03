/*
 * Telling the service manager how we are: the datagrams of sd_notify(3), sent
 * to the socket $NOTIFY_SOCKET names (a path, or @name in the abstract
 * namespace).
 *
 * Every function returns 0, also when there is no manager to tell; otherwise
 * -errno, which is safe to ignore. A manager that does not read delays the
 * caller by at most a second.
 */
#ifndef SLABD_DAEMON_NOTIFY_H
#define SLABD_DAEMON_NOTIFY_H

/* Serving: after start, and after a reload. */
int notify_ready(void);
/* The configuration is being read again; notify_ready() ends it. */
int notify_reloading(void);
/* Shutting down. */
int notify_stopping(void);
/* One line for people; newlines become blanks. */
int notify_status(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/*
 * Any other assignments, with a descriptor for the manager unless it is -1;
 * the caller's stays open.
 */
int notify_send(const char *message, int descriptor);

#endif
