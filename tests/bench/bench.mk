# Benchmarks: not part of `make check`; `make bench` builds and runs them.

bench_programs = tests/bench/socket tests/bench/crowd
EXTRA_PROGRAMS += $(bench_programs)
CLEANFILES += $(bench_programs)
EXTRA_DIST += tests/bench/socket.sh

bench_common = tests/bench/bench.c tests/bench/bench.h
tests_bench_socket_SOURCES = tests/bench/socket.c $(bench_common)
tests_bench_socket_LDADD = lib/libslabd.la
tests_bench_crowd_SOURCES = tests/bench/crowd.c $(bench_common)
tests_bench_crowd_LDADD = lib/libslabd.la

bench: all $(bench_programs)
	srcdir='$(abs_srcdir)' builddir='$(abs_builddir)' \
	    $(SHELL) $(srcdir)/tests/bench/socket.sh
.PHONY: bench
