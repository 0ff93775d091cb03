# Fuzzing. The replay programs are part of `make check` and run the kept corpus
# with any compiler; the fuzzers need clang:
#
#	./configure CC=clang CXX=clang++ && make check-fuzz [FUZZ_SECONDS=20]
#	make -j2 fuzz-long [FUZZ_SEED=1] [FUZZ_RUNS=10000000]
#	make fuzz-random [FUZZ_SEED=1] [FUZZ_RANDOM_RUNS=100000000]
#
# They start from the corpus and keep what they find new in fuzz-corpus/, and
# inputs that fail in fuzz-found/. The long runs have one process each for drain
# and protocol and no sanitizers, since what they look for the targets see by
# themselves; FUZZ_LONG_SANITIZERS=fuzzer,undefined would be half as fast. With
# another seed more of them can run at the same time in the same place. At last,
# fuzz-random changes what they have found for the drain at random, with any
# compiler.

FUZZ_SECONDS = 20
FUZZ_RUNS = 10000000
FUZZ_RANDOM_RUNS = 100000000
FUZZ_SEED = 1
FUZZ_SANITIZERS = fuzzer,address,undefined
FUZZ_LONG_SANITIZERS = fuzzer

if TESTS_ENABLED
fuzz_replays = tests/fuzz/replay_config tests/fuzz/replay_drain \
	tests/fuzz/replay_protocol
check_PROGRAMS += $(fuzz_replays)
TESTS += $(fuzz_replays)
endif
fuzzers = tests/fuzz/fuzz_config tests/fuzz/fuzz_drain tests/fuzz/fuzz_protocol
EXTRA_PROGRAMS += $(fuzzers) tests/fuzz/random_drain
EXTRA_DIST += tests/fuzz/corpus tests/fuzz/drain.allow \
	tests/fuzz/protocol.allow

replay_sources = tests/fuzz/replay.c tests/fuzz/replay.h
host_sources = tests/fuzz/host.c tests/fuzz/host.h tests/fuzz/input.h \
	tests/fuzz/kernel.c tests/fuzz/kernel.h
drain_sources = tests/fuzz/fuzz_drain.c tests/fuzz/judge.c tests/fuzz/judge.h \
	tests/fuzz/oracle.c tests/fuzz/oracle.h tests/fuzz/world.c \
	tests/fuzz/world.h $(host_sources)
protocol_sources = tests/fuzz/fuzz_protocol.c tests/fuzz/sockets.c \
	tests/fuzz/sockets.h $(host_sources)
wrap_kernel = -Wl,--wrap=region_create -Wl,--wrap=region_open \
	-Wl,--wrap=region_unlink -Wl,--wrap=region_close \
	-Wl,--wrap=region_size -Wl,--wrap=region_allocated \
	-Wl,--wrap=guard_map -Wl,--wrap=guard_unmap \
	-Wl,--wrap=posix_fallocate -Wl,--wrap=fallocate -Wl,--wrap=eventfd \
	-Wl,--wrap=close -Wl,--wrap=headroom -Wl,--wrap=loop_now_ms \
	-Wl,--wrap=loop_now_us -Wl,--wrap=pool_look_at_clock \
	-Wl,--wrap=barrier_all
wrap_world = $(wrap_kernel) -Wl,--wrap=watch_new -Wl,--wrap=watch_wake \
	-Wl,--wrap=timer_start -Wl,--wrap=timer_ensure \
	-Wl,--wrap=client_attach -Wl,--wrap=client_fail
wrap_sockets = $(wrap_kernel) -Wl,--wrap=peer_of -Wl,--wrap=peer_find \
	-Wl,--wrap=peer_alive -Wl,--wrap=peer_refuse_descriptors \
	-Wl,--wrap=recv -Wl,--wrap=recvmsg -Wl,--wrap=send \
	-Wl,--wrap=sendmsg -Wl,--wrap=shutdown -Wl,--wrap=ioctl \
	-Wl,--wrap=fcntl -Wl,--wrap=ftruncate -Wl,--wrap=getrandom \
	-Wl,--wrap=geteuid -Wl,--wrap=document_seal \
	-Wl,--wrap=daemon_submit -Wl,--wrap=watch_new -Wl,--wrap=watch_set \
	-Wl,--wrap=watch_wake -Wl,--wrap=watch_free -Wl,--wrap=timer_new \
	-Wl,--wrap=timer_start -Wl,--wrap=timer_ensure \
	-Wl,--wrap=timer_stop -Wl,--wrap=timer_free

tests_fuzz_replay_config_SOURCES = tests/fuzz/fuzz_config.c $(replay_sources)
tests_fuzz_replay_config_CPPFLAGS = $(AM_CPPFLAGS) -DREPLAY
tests_fuzz_replay_config_LDADD = daemon/libdaemon.la
tests_fuzz_replay_drain_SOURCES = $(drain_sources) $(replay_sources)
tests_fuzz_replay_drain_CPPFLAGS = $(AM_CPPFLAGS) -DREPLAY
tests_fuzz_replay_drain_LDFLAGS = $(AM_LDFLAGS) $(wrap_world)
tests_fuzz_replay_drain_LDADD = daemon/libdaemon.la
tests_fuzz_replay_protocol_SOURCES = $(protocol_sources) $(replay_sources)
tests_fuzz_replay_protocol_CPPFLAGS = $(AM_CPPFLAGS) -DREPLAY
tests_fuzz_replay_protocol_LDFLAGS = $(AM_LDFLAGS) $(wrap_sockets)
tests_fuzz_replay_protocol_LDADD = daemon/libdaemon.la
tests_fuzz_random_drain_SOURCES = $(drain_sources) tests/fuzz/random.c \
	tests/fuzz/replay.h
tests_fuzz_random_drain_LDFLAGS = $(AM_LDFLAGS) $(wrap_world)
tests_fuzz_random_drain_LDADD = daemon/libdaemon.la

# The fuzzers have objects of their own, since they need them instrumented: of
# drain and protocol what is tested, and not what tests it. Their inputs are
# programs of bytes, so to watch comparisons and calls would only take time.
fuzzed_sources = $(daemon_libdaemon_la_SOURCES) \
	$(daemon_libconfine_la_SOURCES) $(lib_libslabformat_la_SOURCES) \
	$(slabcore_sources)
fuzz_plain = -fno-sanitize-coverage=trace-cmp,indirect-calls,stack-depth
fuzz_watch = $(fuzz_plain) \
	-fsanitize-coverage-allowlist=$(srcdir)/tests/fuzz
tests_fuzz_fuzz_config_SOURCES = tests/fuzz/fuzz_config.c \
	tests/fuzz/replay.h $(config_sources)
tests_fuzz_fuzz_config_CFLAGS = $(AM_CFLAGS) $(FUZZ_CFLAGS)
tests_fuzz_fuzz_config_LDFLAGS = $(AM_LDFLAGS) $(FUZZ_CFLAGS)
tests_fuzz_fuzz_config_LDADD = $(CJSON_LIBS)
tests_fuzz_fuzz_drain_SOURCES = $(drain_sources) tests/fuzz/replay.h \
	$(fuzzed_sources)
tests_fuzz_fuzz_drain_CFLAGS = $(AM_CFLAGS) $(FUZZ_CFLAGS) \
	$(fuzz_watch)/drain.allow
tests_fuzz_fuzz_drain_LDFLAGS = $(AM_LDFLAGS) $(FUZZ_CFLAGS) $(wrap_world)
tests_fuzz_fuzz_drain_LDADD = $(EVENT_LIBS) $(CJSON_LIBS) $(SECCOMP_LIBS)
tests_fuzz_fuzz_protocol_SOURCES = $(protocol_sources) tests/fuzz/replay.h \
	$(fuzzed_sources)
tests_fuzz_fuzz_protocol_CFLAGS = $(AM_CFLAGS) $(FUZZ_CFLAGS) \
	$(fuzz_watch)/protocol.allow
tests_fuzz_fuzz_protocol_LDFLAGS = $(AM_LDFLAGS) $(FUZZ_CFLAGS) $(wrap_sockets)
tests_fuzz_fuzz_protocol_LDADD = $(EVENT_LIBS) $(CJSON_LIBS) $(SECCOMP_LIBS)

# Both ways to build them use the same objects: these know by which.
$(tests_fuzz_fuzz_config_OBJECTS) $(tests_fuzz_fuzz_drain_OBJECTS) \
    $(tests_fuzz_fuzz_protocol_OBJECTS): fuzz-flags
fuzz-flags: fuzz-always
	@echo '$(FUZZ_CFLAGS)' | cmp -s - $@ || echo '$(FUZZ_CFLAGS)' >$@
fuzz-always:

check-fuzz: $(BUILT_SOURCES)
	$(MAKE) FUZZ_CFLAGS='-fsanitize=$(FUZZ_SANITIZERS) -fno-sanitize-recover=undefined' \
	    $(fuzzers)
	$(MKDIR_P) fuzz-found
	for name in config drain protocol; do \
		$(MKDIR_P) fuzz-corpus/$$name && \
		tests/fuzz/fuzz_$$name -max_total_time=$(FUZZ_SECONDS) \
		    -max_len=256 -timeout=20 -print_final_stats=1 \
		    -artifact_prefix=fuzz-found/$$name- \
		    fuzz-corpus/$$name $(srcdir)/tests/fuzz/corpus/$$name \
		    || exit 1; \
	done

fuzz-long-build: $(BUILT_SOURCES)
	$(MAKE) FUZZ_CFLAGS='-fsanitize=$(FUZZ_LONG_SANITIZERS) -fsanitize-undefined-trap-on-error' \
	    tests/fuzz/fuzz_drain tests/fuzz/fuzz_protocol

# Says at the end which seed, how many executions, how fast, and what was found.
fuzz_long = name=$(@:fuzz-long-%=%) run=$(@:fuzz-long-%=%)-$(FUZZ_SEED); \
	$(MKDIR_P) fuzz-corpus/$$run fuzz-found; \
	tests/fuzz/fuzz_$$name -seed=$(FUZZ_SEED) -entropic=0 -reload=0 \
	    -max_len=$$len -timeout=20 -print_final_stats=1 \
	    -artifact_prefix=fuzz-found/$$run- -runs=$(FUZZ_RUNS) \
	    fuzz-corpus/$$run $(srcdir)/tests/fuzz/corpus/$$name \
	    >fuzz-found/$$run.log 2>&1; status=$$?; \
	echo "$$run: seed $(FUZZ_SEED)," \
	    "$$(sed -n 's/^stat::number_of_executed_units: *//p' \
		fuzz-found/$$run.log) executions," \
	    "$$(sed -n 's/^stat::average_exec_per_sec: *//p' \
		fuzz-found/$$run.log) a second," \
	    "$$(grep -c 'Test unit written' fuzz-found/$$run.log) findings," \
	    "see fuzz-found/$$run.log"; \
	exit $$status

fuzz-long-drain: fuzz-long-build
	@len=128; $(fuzz_long)
fuzz-long-protocol: fuzz-long-build
	@len=64; $(fuzz_long)
fuzz-long: fuzz-long-drain fuzz-long-protocol

fuzz-random: tests/fuzz/random_drain
	find $(srcdir)/tests/fuzz/corpus/drain fuzz-corpus/drain* -type f \
	    2>/dev/null | LC_ALL=C sort | \
	    xargs -x -s 1000000 tests/fuzz/random_drain -n $(FUZZ_RANDOM_RUNS) -s $(FUZZ_SEED)

clean-local:
	rm -rf fuzz-corpus fuzz-found fuzz-flags
.PHONY: check-fuzz fuzz-always fuzz-long fuzz-long-build fuzz-long-drain \
	fuzz-long-protocol fuzz-random
