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
	lib/ledger.c lib/ledger.h \
	lib/wire.c lib/wire.h

# libslabd for users, and the same objects as an archive with nothing hidden for
# our own programs and tests.

if !SANITIZERS
# The sanitizers' own symbols come from the program.
endif

include_HEADERS += \
	lib/slab.h \
	lib/slab.hpp
