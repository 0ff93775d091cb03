# Benchmarks: `make bench` builds and runs them; `make check` only sees that they
# work (smoke.sh). A peer that is not installed is left out.

bench_programs = tests/bench/compare tests/bench/socket tests/bench/crowd \
	tests/bench/kills tests/bench/restart
EXTRA_PROGRAMS += $(bench_programs)
CLEANFILES += $(bench_programs) tests/bench/bench.json tests/bench/bench.svg
EXTRA_DIST += tests/bench/huge.sh tests/bench/socket.sh tests/bench/plot.py \
	tests/bench/throughput.svg

if TESTS_ENABLED
check_PROGRAMS += tests/bench/compare tests/bench/kills tests/bench/restart
endif

bench_common = tests/bench/bench.c tests/bench/bench.h
tests_bench_socket_SOURCES = tests/bench/socket.c $(bench_common)
tests_bench_socket_LDADD = lib/libslabd.la
tests_bench_crowd_SOURCES = tests/bench/crowd.c $(bench_common)
tests_bench_crowd_LDADD = lib/libslabd.la
tests_bench_kills_SOURCES = tests/bench/kills.c $(bench_common) \
	tests/bench/reclaim.c tests/bench/reclaim.h \
	tests/e2e/server.c tests/e2e/server.h
tests_bench_kills_LDADD = lib/libslabd.la $(CJSON_LIBS)
tests_bench_restart_SOURCES = tests/bench/restart.c $(bench_common) \
	$(raw_sources)
tests_bench_restart_LDADD = $(raw_libs) lib/libslabd.la

tests_bench_compare_SOURCES = $(bench_common) \
	tests/bench/compare.c \
	tests/bench/loops.h \
	tests/bench/payload.h \
	tests/bench/peer.h \
	tests/bench/peer_boost.cc \
	tests/bench/peer_bytes.c \
	tests/bench/peer_list.c \
	tests/bench/peer_malloc.c \
	tests/bench/peer_mimalloc.c \
	tests/bench/peer_mutex.c \
	tests/bench/peer_ring.c \
	tests/bench/peer_slabd.c \
	tests/bench/queue.h \
	tests/bench/reclaim.c tests/bench/reclaim.h \
	tests/bench/report.c tests/bench/report.h \
	tests/bench/rows.c tests/bench/rows.h \
	tests/bench/team.c tests/bench/team.h \
	tests/core/random.h \
	tests/e2e/server.c tests/e2e/server.h
tests_bench_compare_LDADD = tests/bench/libforeign.la lib/libslabd.la \
	$(CJSON_LIBS) $(DPDK_LIBS) $(ZMQ_LIBS) -lpthread -ldl

# Apart, for the flags their headers ask for.
EXTRA_LTLIBRARIES = tests/bench/libforeign.la
CLEANFILES += tests/bench/libforeign.la
tests_bench_libforeign_la_SOURCES = tests/bench/peer_dpdk.c \
	tests/bench/peer_zmq.c
tests_bench_libforeign_la_CFLAGS = $(AM_CFLAGS) $(DPDK_CFLAGS) $(ZMQ_CFLAGS)

bench_run = builddir='$(abs_builddir)' srcdir='$(abs_srcdir)' \
	$(SHELL) $(srcdir)/tests/bench
bench: all $(bench_programs)
	$(bench_run)/huge.sh tests/bench/compare tests/bench/bench.json
	python3 $(srcdir)/tests/bench/plot.py tests/bench/bench.json \
	    tests/bench/bench.svg
	$(bench_run)/socket.sh
	builddir='$(abs_builddir)' tests/bench/kills -n 1000
	builddir='$(abs_builddir)' tests/bench/restart
.PHONY: bench
