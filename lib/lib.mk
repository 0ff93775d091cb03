# Three floors, each on the one before: the core, the formats two processes share,
# the client library.

# The core is freestanding, so it is compiled that way: inside libslabd and slabd,
# and for others as the static library slab.
slabcore_sources = lib/slab.c lib/slab.h lib/slots.c lib/slots.h
noinst_LTLIBRARIES += lib/libslabcore.la
lib_libslabcore_la_SOURCES = $(slabcore_sources)
lib_libslabcore_la_CFLAGS = $(AM_CFLAGS) -ffreestanding
lib_LIBRARIES += lib/libslab.a
lib_libslab_a_SOURCES = $(slabcore_sources)
lib_libslab_a_CFLAGS = $(AM_CFLAGS) -ffreestanding

noinst_LTLIBRARIES += lib/libslabformat.la
lib_libslabformat_la_SOURCES = \
	lib/atomic.h \
	lib/barrier.c lib/barrier.h \
	lib/claim.h \
	lib/lane.c lib/lane.h \
	lib/ledger.c lib/ledger.h \
	lib/magazine.h \
	lib/probe.h \
	lib/ring.h \
	lib/wire.c lib/wire.h

# libslabd for users, and the same objects as an archive with nothing hidden for
# our own programs and tests.
noinst_LTLIBRARIES += lib/libslabdall.la
lib_libslabdall_la_SOURCES = \
	lib/annotate.h \
	lib/mark.h \
	lib/call.c lib/call.h \
	lib/connection.c lib/connection.h \
	lib/document.c \
	lib/error.c lib/error.h \
	lib/fork.c lib/fork.h \
	lib/handoff.c \
	lib/pool.c lib/pool.h \
	lib/post.c lib/post.h \
	lib/publish.h \
	lib/session.c \
	lib/slot.c \
	lib/stock.c lib/stock.h \
	lib/table.c lib/table.h
lib_libslabdall_la_CFLAGS = $(AM_CFLAGS) -pthread
lib_libslabdall_la_LDFLAGS = -pthread
lib_libslabdall_la_LIBADD = lib/libslabformat.la lib/libslabcore.la

lib_LTLIBRARIES += lib/libslabd.la
lib_libslabd_la_SOURCES =
lib_libslabd_la_LIBADD = lib/libslabdall.la
lib_libslabd_la_LDFLAGS = $(AM_LDFLAGS) -pthread -version-info 0:0:0 \
	-Wl,--version-script=$(srcdir)/lib/libslabd.map -Wl,-z,nodelete
EXTRA_lib_libslabd_la_DEPENDENCIES = lib/libslabd.map
if !SANITIZERS
# The sanitizers' own symbols come from the program.
lib_libslabd_la_LDFLAGS += -Wl,-z,defs
endif

include_HEADERS += lib/slab.h lib/slab.hpp lib/slabd.h lib/slabd.hpp
pkgconfig_DATA += lib/slab.pc lib/slabd.pc
EXTRA_DIST += lib/libslabd.map
