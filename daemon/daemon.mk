# The daemon: everything but main() is a library, so that tests link the real
# thing.

config_sources = \
	daemon/conf.c daemon/conf.h \
	daemon/jsonc.c daemon/jsonc.h \
	daemon/schema.c daemon/schema.h
platform_sources = \
	daemon/event.c daemon/event.h \
	daemon/guard.c daemon/guard.h \
	daemon/headroom.c daemon/headroom.h \
	daemon/helper.c daemon/helper.h \
	daemon/instance.c daemon/instance.h \
	daemon/listener.c daemon/listener.h \
	daemon/locked.c daemon/locked.h \
	daemon/log.c daemon/log.h \
	daemon/notify.c daemon/notify.h \
	daemon/peer.c daemon/peer.h \
	daemon/region.c daemon/region.h \
	daemon/store.c daemon/store.h
pool_sources = \
	daemon/attachment.c \
	daemon/audit.c \
	daemon/claims.c daemon/claims.h \
	daemon/drain.c \
	daemon/grants.c \
	daemon/lanes.c daemon/lanes.h \
	daemon/orphan.c \
	daemon/parked.c \
	daemon/recover.c \
	daemon/run.c \
	daemon/pool.c daemon/pool.h \
	daemon/segment.c \
	daemon/slot.h \
	daemon/waiter.c
service_sources = \
	daemon/client.c daemon/client.h \
	daemon/daemon.c daemon/daemon.h \
	daemon/document.c daemon/document.h \
	daemon/reload.c \
	daemon/request.c \
	daemon/share.c daemon/share.h \
	daemon/user.c daemon/user.h

AM_CPPFLAGS += $(SECCOMP_CFLAGS)
noinst_LTLIBRARIES += daemon/libconfine.la daemon/libdaemon.la
# By itself: what links it can confine itself, what compiles the rest need not.
daemon_libconfine_la_SOURCES = daemon/confine.c daemon/confine.h
daemon_libconfine_la_LIBADD = $(SECCOMP_LIBS)
daemon_libdaemon_la_SOURCES = $(config_sources) $(platform_sources) \
	$(pool_sources) $(service_sources)
daemon_libdaemon_la_LIBADD = daemon/libconfine.la \
	lib/libslabformat.la lib/libslabcore.la \
	$(EVENT_LIBS) $(CJSON_LIBS)

sbin_PROGRAMS += slabd
slabd_SOURCES = daemon/main.c
slabd_LDADD = daemon/libdaemon.la
