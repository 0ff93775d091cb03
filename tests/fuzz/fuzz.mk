# Fuzzing. The replay programs are part of `make check` and run the kept corpus
# with any compiler; the fuzzers need clang:
#
#	./configure CC=clang CXX=clang++ && make check-fuzz [FUZZ_SECONDS=20]
#
# They start from the corpus and keep what they find new in fuzz-corpus/.

FUZZ_SECONDS = 20
FUZZ_SANITIZERS = fuzzer,address,undefined

if TESTS_ENABLED
check_PROGRAMS += tests/fuzz/replay_config tests/fuzz/replay_protocol
TESTS += tests/fuzz/replay_config tests/fuzz/replay_protocol
endif
EXTRA_PROGRAMS += tests/fuzz/fuzz_config tests/fuzz/fuzz_protocol
EXTRA_DIST += tests/fuzz/corpus

replay_sources = tests/fuzz/replay.c tests/fuzz/replay.h
wrap_peer = -Wl,--wrap=peer_of -Wl,--wrap=peer_alive

tests_fuzz_replay_config_SOURCES = tests/fuzz/fuzz_config.c $(replay_sources)
tests_fuzz_replay_config_CPPFLAGS = $(AM_CPPFLAGS) -DREPLAY
tests_fuzz_replay_config_LDADD = daemon/libdaemon.la
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
tests_fuzz_fuzz_protocol_SOURCES = tests/fuzz/fuzz_protocol.c \
	tests/fuzz/replay.h $(daemon_libdaemon_la_SOURCES) \
	$(lib_libslabformat_la_SOURCES) $(slabcore_sources)
tests_fuzz_fuzz_protocol_CFLAGS = $(AM_CFLAGS) $(FUZZ_CFLAGS)
tests_fuzz_fuzz_protocol_LDFLAGS = $(AM_LDFLAGS) $(FUZZ_CFLAGS) $(wrap_peer)
tests_fuzz_fuzz_protocol_LDADD = $(EVENT_LIBS) $(CJSON_LIBS)

check-fuzz: $(BUILT_SOURCES)
	$(MAKE) FUZZ_CFLAGS='-fsanitize=$(FUZZ_SANITIZERS) -fno-sanitize-recover=undefined' \
	    tests/fuzz/fuzz_config tests/fuzz/fuzz_protocol
	for name in config protocol; do \
		$(MKDIR_P) fuzz-corpus/$$name && \
		tests/fuzz/fuzz_$$name -max_total_time=$(FUZZ_SECONDS) \
		    -max_len=256 -timeout=20 -print_final_stats=1 \
		    fuzz-corpus/$$name $(srcdir)/tests/fuzz/corpus/$$name \
		    || exit 1; \
	done
clean-local:
	rm -rf fuzz-corpus
.PHONY: check-fuzz
