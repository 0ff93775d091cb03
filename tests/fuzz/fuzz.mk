# Fuzzing. The replay programs are part of `make check` and run the kept corpus
# with any compiler; the fuzzers need clang:
#
#	./configure CC=clang CXX=clang++ && make check-fuzz [FUZZ_SECONDS=20]
#	make fuzz-long [FUZZ_RUNS=100000000] [FUZZ_SEED=1]
#
# They start from the corpus and keep what they find new in fuzz-corpus/.

FUZZ_SECONDS = 20
FUZZ_RUNS = 100000000
FUZZ_SEED = 1
FUZZ_SANITIZERS = fuzzer,address,undefined

if TESTS_ENABLED
fuzz_replays = tests/fuzz/replay_config tests/fuzz/replay_drain \
	tests/fuzz/replay_protocol
check_PROGRAMS += $(fuzz_replays)
TESTS += $(fuzz_replays)
endif
fuzzers = tests/fuzz/fuzz_config tests/fuzz/fuzz_drain tests/fuzz/fuzz_protocol
EXTRA_PROGRAMS += $(fuzzers)
EXTRA_DIST += tests/fuzz/corpus

replay_sources = tests/fuzz/replay.c tests/fuzz/replay.h
wrap_peer = -Wl,--wrap=peer_of -Wl,--wrap=peer_alive
wrap_lanes = -Wl,--wrap=region_create -Wl,--wrap=region_unlink \
	-Wl,--wrap=region_close -Wl,--wrap=region_size \
	-Wl,--wrap=guard_map -Wl,--wrap=guard_unmap \
	-Wl,--wrap=posix_fallocate -Wl,--wrap=fallocate -Wl,--wrap=eventfd \
	-Wl,--wrap=close -Wl,--wrap=headroom -Wl,--wrap=watch_new \
	-Wl,--wrap=watch_wake -Wl,--wrap=timer_start -Wl,--wrap=barrier_all \
	-Wl,--wrap=client_attach -Wl,--wrap=client_fail
drain_sources = tests/fuzz/fuzz_drain.c tests/fuzz/oracle.c tests/fuzz/oracle.h

tests_fuzz_replay_config_SOURCES = tests/fuzz/fuzz_config.c $(replay_sources)
tests_fuzz_replay_config_CPPFLAGS = $(AM_CPPFLAGS) -DREPLAY
tests_fuzz_replay_config_LDADD = daemon/libdaemon.la
tests_fuzz_replay_drain_SOURCES = $(drain_sources) $(replay_sources)
tests_fuzz_replay_drain_CPPFLAGS = $(AM_CPPFLAGS) -DREPLAY
tests_fuzz_replay_drain_LDFLAGS = $(AM_LDFLAGS) $(wrap_lanes)
tests_fuzz_replay_drain_LDADD = daemon/libdaemon.la
tests_fuzz_replay_protocol_SOURCES = tests/fuzz/fuzz_protocol.c \
	$(replay_sources)
tests_fuzz_replay_protocol_CPPFLAGS = $(AM_CPPFLAGS) -DREPLAY
tests_fuzz_replay_protocol_LDFLAGS = $(AM_LDFLAGS) $(wrap_peer)
tests_fuzz_replay_protocol_LDADD = daemon/libdaemon.la

# The fuzzers have objects of their own, since they need them instrumented.
tests_fuzz_fuzz_config_SOURCES = tests/fuzz/fuzz_config.c \
	tests/fuzz/replay.h $(config_sources)
tests_fuzz_fuzz_config_CFLAGS = $(AM_CFLAGS) $(FUZZ_CFLAGS)
tests_fuzz_fuzz_config_LDFLAGS = $(AM_LDFLAGS) $(FUZZ_CFLAGS)
tests_fuzz_fuzz_config_LDADD = $(CJSON_LIBS)
tests_fuzz_fuzz_drain_SOURCES = $(drain_sources) tests/fuzz/replay.h \
	$(daemon_libdaemon_la_SOURCES) $(daemon_libconfine_la_SOURCES) \
	$(lib_libslabformat_la_SOURCES) $(slabcore_sources)
tests_fuzz_fuzz_drain_CFLAGS = $(AM_CFLAGS) $(FUZZ_CFLAGS) $(fuzz_plain)
tests_fuzz_fuzz_drain_LDFLAGS = $(AM_LDFLAGS) $(FUZZ_CFLAGS) $(wrap_lanes)
tests_fuzz_fuzz_drain_LDADD = $(EVENT_LIBS) $(CJSON_LIBS) $(SECCOMP_LIBS)
tests_fuzz_fuzz_protocol_SOURCES = tests/fuzz/fuzz_protocol.c \
	tests/fuzz/replay.h $(daemon_libdaemon_la_SOURCES) \
	$(daemon_libconfine_la_SOURCES) \
	$(lib_libslabformat_la_SOURCES) $(slabcore_sources)
tests_fuzz_fuzz_protocol_CFLAGS = $(AM_CFLAGS) $(FUZZ_CFLAGS)
tests_fuzz_fuzz_protocol_LDFLAGS = $(AM_LDFLAGS) $(FUZZ_CFLAGS) $(wrap_peer)
tests_fuzz_fuzz_protocol_LDADD = $(EVENT_LIBS) $(CJSON_LIBS) $(SECCOMP_LIBS)

# Its input is a program of bytes: to watch comparisons only takes time.
fuzz_plain = -fno-sanitize-coverage=trace-cmp
fuzz_make = $(MAKE) FUZZ_CFLAGS='-fsanitize=$(FUZZ_SANITIZERS) -fno-sanitize-recover=undefined'

check-fuzz: $(BUILT_SOURCES)
	$(fuzz_make) $(fuzzers)
	for name in config drain protocol; do \
		$(MKDIR_P) fuzz-corpus/$$name && \
		tests/fuzz/fuzz_$$name -max_total_time=$(FUZZ_SECONDS) \
		    -max_len=256 -timeout=20 -print_final_stats=1 \
		    fuzz-corpus/$$name $(srcdir)/tests/fuzz/corpus/$$name \
		    || exit 1; \
	done

# What lanes can say, for hours; it prints its seed and ends after FUZZ_RUNS.
fuzz-long: $(BUILT_SOURCES)
	$(fuzz_make) tests/fuzz/fuzz_drain
	$(MKDIR_P) fuzz-corpus/drain
	tests/fuzz/fuzz_drain -runs=$(FUZZ_RUNS) -seed=$(FUZZ_SEED) \
	    -entropic=0 -max_len=128 -timeout=20 -print_final_stats=1 \
	    fuzz-corpus/drain $(srcdir)/tests/fuzz/corpus/drain

clean-local:
	rm -rf fuzz-corpus
.PHONY: check-fuzz fuzz-long
