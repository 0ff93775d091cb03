# The tests: how they run, what there is, what each is made of. Criterion programs
# are named test_*, and tests/run-test makes every one of them speak TAP; scripts
# and plain programs count by their exit status.

LOG_DRIVER = env AM_TAP_AWK='$(AWK)' $(SHELL) \
	$(top_srcdir)/build-aux/tap-driver.sh
LOG_COMPILER = $(top_srcdir)/tests/run-test
TEST_EXTENSIONS = .sh .py
SH_LOG_DRIVER = $(top_srcdir)/build-aux/test-driver
SH_LOG_COMPILER = $(SHELL)
PY_LOG_DRIVER = $(top_srcdir)/build-aux/test-driver
PY_LOG_COMPILER = python3
AM_TESTS_ENVIRONMENT = \
	builddir='$(abs_builddir)'; export builddir; \
	srcdir='$(abs_srcdir)'; export srcdir; \
	PYTHONDONTWRITEBYTECODE=1; export PYTHONDONTWRITEBYTECODE; \
	SANITIZERS='$(SAN_CFLAGS)'; export SANITIZERS; \
	COVERAGE='$(COV_CFLAGS)'; export COVERAGE;

unit_tests = \
	tests/unit/test_claim \
	tests/unit/test_client \
	tests/unit/test_conf \
	tests/unit/test_confine \
	tests/unit/test_connection \
	tests/unit/test_event \
	tests/unit/test_guard \
	tests/unit/test_headroom \
	tests/unit/test_helper \
	tests/unit/test_instance \
	tests/unit/test_jsonc \
	tests/unit/test_lane \
	tests/unit/test_lanes \
	tests/unit/test_ledger \
	tests/unit/test_listener \
	tests/unit/test_log \
	tests/unit/test_notify \
	tests/unit/test_output \
	tests/unit/test_peer \
	tests/unit/test_region \
	tests/unit/test_request \
	tests/unit/test_ring \
	tests/unit/test_session \
	tests/unit/test_share \
	tests/unit/test_slab \
	tests/unit/test_slots \
	tests/unit/test_stock \
	tests/unit/test_store \
	tests/unit/test_table \
	tests/unit/test_wire \
	tests/unit/slab_hpp
e2e_tests = \
	tests/e2e/test_backing \
	tests/e2e/test_container \
	tests/e2e/test_death \
	tests/e2e/test_flow \
	tests/e2e/test_lanes \
	tests/e2e/test_library \
	tests/e2e/test_lifecycle \
	tests/e2e/test_limits \
	tests/e2e/test_protocol \
	tests/e2e/test_restart \
	tests/e2e/test_waiting
stress_tests = \
	tests/stress/hostile \
	tests/stress/kill \
	tests/stress/lanes \
	tests/stress/lanes_stalled \
	tests/stress/library \
	tests/stress/rings \
	tests/stress/slab_threads
script_tests = \
	tests/bench/smoke.sh \
	tests/core/freestanding.sh \
	tests/core/headers.sh \
	tests/e2e/confine.sh \
	tests/e2e/filepipe.sh \
	tests/e2e/overview.sh \
	tests/e2e/protocol_page.py \
	tests/e2e/python.sh \
	tests/e2e/quickstart.sh \
	tests/e2e/slabctl.sh \
	tests/stress/soak.sh \
	tests/unit/headers.sh \
	tests/unit/probes.sh

if TESTS_ENABLED
check_PROGRAMS += $(unit_tests) $(e2e_tests) $(stress_tests) \
	tests/e2e/hold tests/e2e/overview
TESTS += $(unit_tests) $(e2e_tests) $(stress_tests) $(script_tests)
else
check-local:
	@echo 'configured with --disable-tests: there is nothing to run' >&2
	@false
endif
dist_check_SCRIPTS += $(script_tests) tests/e2e/protocol_rules.py
dist_noinst_SCRIPTS += quickstart .ci/run
EXTRA_DIST += tests/run-test tests/core/freestanding.c tests/e2e/lib.sh \
	tests/stress/restart.sh \
	tests/e2e/schema.py tests/e2e/expected

raw_sources = tests/e2e/raw.c tests/e2e/raw.h \
	tests/e2e/server.c tests/e2e/server.h
raw_libs = lib/libslabformat.la $(CJSON_LIBS)

tests_unit_test_conf_SOURCES = tests/unit/conf.c tests/unit/scratch.h
tests_unit_test_conf_LDADD = daemon/libdaemon.la $(CRITERION_LIBS)
tests_unit_test_confine_SOURCES = tests/unit/confine.c tests/unit/scratch.h
tests_unit_test_confine_LDADD = daemon/libdaemon.la $(CRITERION_LIBS)
tests_unit_test_event_SOURCES = tests/unit/event.c tests/unit/scratch.h
tests_unit_test_event_LDADD = daemon/libdaemon.la $(CRITERION_LIBS)
tests_unit_test_headroom_SOURCES = tests/unit/headroom.c tests/unit/scratch.h tests/unit/cgroup.h
tests_unit_test_headroom_LDADD = daemon/libdaemon.la $(CRITERION_LIBS)
tests_unit_test_helper_SOURCES = tests/unit/helper.c tests/unit/scratch.h \
	tests/unit/cgroup.h
tests_unit_test_helper_LDADD = daemon/libdaemon.la $(CRITERION_LIBS)
tests_unit_test_instance_SOURCES = tests/unit/instance.c tests/unit/scratch.h
tests_unit_test_instance_LDADD = daemon/libdaemon.la $(CRITERION_LIBS)
tests_unit_test_jsonc_SOURCES = tests/unit/jsonc.c
tests_unit_test_jsonc_LDADD = daemon/libdaemon.la $(CRITERION_LIBS)
tests_unit_test_listener_SOURCES = tests/unit/listener.c tests/unit/scratch.h
tests_unit_test_listener_LDADD = daemon/libdaemon.la $(CRITERION_LIBS)
tests_unit_test_log_SOURCES = tests/unit/log.c tests/unit/scratch.h
tests_unit_test_log_LDADD = daemon/libdaemon.la $(CRITERION_LIBS)
tests_unit_test_notify_SOURCES = tests/unit/notify.c tests/unit/scratch.h
tests_unit_test_notify_LDADD = daemon/libdaemon.la $(CRITERION_LIBS)
tests_unit_test_peer_SOURCES = tests/unit/peer.c tests/unit/scratch.h
tests_unit_test_peer_LDADD = daemon/libdaemon.la $(CRITERION_LIBS)
tests_unit_test_region_SOURCES = tests/unit/region.c tests/unit/scratch.h
tests_unit_test_region_LDADD = daemon/libdaemon.la $(CRITERION_LIBS)
tests_unit_test_store_SOURCES = tests/unit/store.c tests/unit/scratch.h
tests_unit_test_store_LDADD = daemon/libdaemon.la $(CRITERION_LIBS)
tests_unit_test_guard_SOURCES = tests/unit/guard.c
tests_unit_test_guard_LDADD = daemon/libdaemon.la $(CRITERION_LIBS)
tests_unit_test_claim_SOURCES = tests/unit/claim.c
tests_unit_test_claim_CFLAGS = $(AM_CFLAGS) -pthread
tests_unit_test_claim_LDFLAGS = $(AM_LDFLAGS) -pthread
tests_unit_test_claim_LDADD = lib/libslabformat.la $(CRITERION_LIBS)
tests_unit_test_lane_SOURCES = tests/unit/lane.c
tests_unit_test_lane_LDADD = lib/libslabformat.la $(CRITERION_LIBS)
inside_sources = tests/unit/inside.h tests/unit/scratch.h
tests_unit_test_client_SOURCES = tests/unit/client.c $(inside_sources)
tests_unit_test_client_LDADD = daemon/libdaemon.la $(CRITERION_LIBS)
tests_unit_test_request_SOURCES = tests/unit/request.c $(inside_sources)
tests_unit_test_request_LDADD = daemon/libdaemon.la $(CRITERION_LIBS)
tests_unit_test_share_SOURCES = tests/unit/share.c $(inside_sources)
tests_unit_test_share_LDFLAGS = $(AM_LDFLAGS) -Wl,--wrap=loop_now_us \
	-Wl,--wrap=pool_look_at_clock -Wl,--wrap=peer_of -Wl,--wrap=clients_turn \
	-Wl,--wrap=listener_rest
tests_unit_test_share_LDADD = daemon/libdaemon.la $(CRITERION_LIBS)
tests_unit_test_lanes_SOURCES = tests/unit/lanes.c $(inside_sources)
tests_unit_test_lanes_LDFLAGS = $(AM_LDFLAGS) -Wl,--wrap=pool_note_used
tests_unit_test_lanes_LDADD = daemon/libdaemon.la $(CRITERION_LIBS)
tests_unit_test_ring_SOURCES = tests/unit/ring.c
tests_unit_test_ring_CFLAGS = $(AM_CFLAGS) -pthread
tests_unit_test_ring_LDFLAGS = $(AM_LDFLAGS) -pthread
tests_unit_test_ring_LDADD = lib/libslabformat.la $(CRITERION_LIBS)
tests_unit_test_ledger_SOURCES = tests/unit/ledger.c tests/core/random.h
tests_unit_test_ledger_LDADD = $(raw_libs) $(CRITERION_LIBS)
tests_unit_test_connection_SOURCES = tests/unit/connection.c tests/unit/fake.h \
	tests/unit/scratch.h
tests_unit_test_connection_LDADD = lib/libslabdall.la $(CRITERION_LIBS)
tests_unit_test_session_SOURCES = tests/unit/session.c tests/unit/fake.h \
	tests/unit/scratch.h
tests_unit_test_session_LDADD = lib/libslabdall.la $(CRITERION_LIBS)
tests_unit_test_stock_SOURCES = tests/unit/stock.c tests/core/revoke.h
tests_unit_test_stock_LDADD = lib/libslabdall.la $(CRITERION_LIBS)
tests_unit_test_table_SOURCES = tests/unit/table.c
tests_unit_test_table_LDADD = lib/libslabdall.la $(CRITERION_LIBS)
tests_unit_test_wire_SOURCES = tests/unit/wire.c
tests_unit_test_wire_LDADD = lib/libslabformat.la $(CRITERION_LIBS)
tests_unit_test_slab_SOURCES = tests/unit/slab.c tests/core/random.h
tests_unit_test_slab_LDADD = lib/libslabcore.la $(CRITERION_LIBS)
tests_unit_test_slots_SOURCES = tests/unit/slots.c tests/core/random.h
tests_unit_test_slots_LDADD = lib/libslabcore.la $(CRITERION_LIBS)
tests_unit_slab_hpp_SOURCES = tests/unit/slab_hpp.cc
tests_unit_slab_hpp_LDADD = lib/libslabcore.la
tests_unit_test_output_SOURCES = tests/unit/output.c \
	clients/output.c clients/output.h \
	clients/view.c clients/view.h
tests_unit_test_output_LDADD = $(CJSON_LIBS) $(CRITERION_LIBS) -lm

tests_e2e_test_restart_SOURCES = tests/e2e/restart.c tests/e2e/e2e.h \
	$(raw_sources)
tests_e2e_test_restart_LDADD = $(raw_libs) $(CRITERION_LIBS)
puppet_sources = tests/e2e/managed.h \
	tests/e2e/manager.c tests/e2e/manager.h \
	tests/e2e/puppet.c tests/e2e/puppet.h
tests_e2e_test_backing_SOURCES = tests/e2e/backing.c tests/e2e/e2e.h \
	$(puppet_sources) $(raw_sources)
tests_e2e_test_backing_LDADD = lib/libslabdall.la $(CJSON_LIBS) \
	$(CRITERION_LIBS)
tests_e2e_test_container_SOURCES = tests/e2e/container.c tests/e2e/e2e.h \
	$(puppet_sources) $(raw_sources)
tests_e2e_test_container_LDADD = lib/libslabdall.la $(CJSON_LIBS) \
	$(CRITERION_LIBS)
tests_e2e_test_death_SOURCES = tests/e2e/death.c tests/e2e/e2e.h \
	$(raw_sources)
tests_e2e_test_death_LDADD = $(raw_libs) $(CRITERION_LIBS)
tests_e2e_test_flow_SOURCES = tests/e2e/flow.c tests/e2e/e2e.h \
	$(raw_sources)
tests_e2e_test_flow_LDADD = lib/libslabdall.la $(CJSON_LIBS) $(CRITERION_LIBS)
tests_e2e_test_lanes_SOURCES = tests/e2e/lanes.c tests/e2e/e2e.h \
	tests/core/random.h $(raw_sources)
tests_e2e_test_lanes_LDADD = $(raw_libs) $(CRITERION_LIBS)
tests_e2e_test_lifecycle_SOURCES = tests/e2e/lifecycle.c tests/e2e/e2e.h \
	$(raw_sources)
tests_e2e_test_lifecycle_LDADD = $(raw_libs) $(CRITERION_LIBS)
tests_e2e_test_limits_SOURCES = tests/e2e/limits.c tests/e2e/e2e.h \
	$(raw_sources)
tests_e2e_test_limits_LDADD = $(raw_libs) $(CRITERION_LIBS)
tests_e2e_test_protocol_SOURCES = tests/e2e/protocol.c tests/e2e/e2e.h \
	$(raw_sources)
tests_e2e_test_protocol_LDADD = $(raw_libs) $(CRITERION_LIBS)
tests_e2e_test_waiting_SOURCES = tests/e2e/waiting.c tests/e2e/e2e.h \
	$(raw_sources)
tests_e2e_test_waiting_LDADD = $(raw_libs) $(CRITERION_LIBS)
tests_e2e_test_library_SOURCES = tests/e2e/library.c \
	tests/e2e/server.c tests/e2e/server.h
tests_e2e_test_library_LDADD = lib/libslabdall.la $(CJSON_LIBS) $(CRITERION_LIBS)

# Holds slots while slabctl is looked at.
tests_e2e_hold_SOURCES = tests/e2e/hold.c
tests_e2e_hold_LDADD = lib/libslabdall.la

# The program in slabd(7): what stands between its mark and the end of display.
tests/e2e/overview.c: man/slabd.7
	$(AM_V_GEN)$(MKDIR_P) tests/e2e && \
	sed -n '/^\.\\" program/,/^\.Ed/{/^\./!p;}' $(srcdir)/man/slabd.7 | \
	    sed 's/\\e/\\/g; s/\\-/-/g; s/\\&//g' >$@.tmp && mv $@.tmp $@
nodist_tests_e2e_overview_SOURCES = tests/e2e/overview.c
tests_e2e_overview_LDADD = lib/libslabd.la
CLEANFILES += tests/e2e/overview.c tests/e2e/overview.c.tmp

tests_stress_hostile_SOURCES = tests/stress/hostile.c \
	tests/stress/foes.c tests/stress/foes.h tests/core/random.h \
	$(raw_sources)
tests_stress_hostile_LDADD = lib/libslabdall.la $(CJSON_LIBS)
tests_stress_kill_SOURCES = tests/stress/kill.c tests/core/random.h \
	$(raw_sources)
tests_stress_kill_LDADD = $(raw_libs)
tests_stress_lanes_SOURCES = tests/stress/lanes.c \
	tests/stress/trend.c tests/stress/trend.h tests/core/random.h \
	$(raw_sources)
tests_stress_lanes_CFLAGS = $(AM_CFLAGS) -pthread
tests_stress_lanes_LDFLAGS = $(AM_LDFLAGS) -pthread
tests_stress_lanes_LDADD = lib/libslabdall.la $(CJSON_LIBS)
# The same with a library whose threads stop at any atomic operation, now and then:
# races that a test would else meet once in a million rounds.
check_LTLIBRARIES += tests/stress/libstalled.la
tests_stress_libstalled_la_SOURCES = $(lib_libslabdall_la_SOURCES) \
	$(lib_libslabformat_la_SOURCES) tests/stress/stall.c tests/core/random.h
tests_stress_libstalled_la_CPPFLAGS = $(AM_CPPFLAGS) -DSLABD_STALLS
tests_stress_libstalled_la_CFLAGS = $(AM_CFLAGS) -pthread
tests_stress_libstalled_la_LIBADD = lib/libslabcore.la
tests_stress_lanes_stalled_SOURCES = $(tests_stress_lanes_SOURCES)
tests_stress_lanes_stalled_CFLAGS = $(AM_CFLAGS) -pthread
tests_stress_lanes_stalled_LDFLAGS = $(AM_LDFLAGS) -pthread
tests_stress_lanes_stalled_LDADD = tests/stress/libstalled.la $(CJSON_LIBS)
tests_stress_library_SOURCES = tests/stress/library.c \
	tests/core/random.h $(raw_sources)
tests_stress_library_CFLAGS = $(AM_CFLAGS) -pthread
tests_stress_library_LDFLAGS = $(AM_LDFLAGS) -pthread
tests_stress_library_LDADD = lib/libslabdall.la $(CJSON_LIBS)
tests_stress_rings_SOURCES = tests/stress/rings.c tests/core/random.h \
	tests/core/revoke.h
tests_stress_rings_CFLAGS = $(AM_CFLAGS) -pthread
tests_stress_rings_LDFLAGS = $(AM_LDFLAGS) -pthread
tests_stress_rings_LDADD = lib/libslabdall.la
tests_stress_slab_threads_SOURCES = tests/stress/slab_threads.c \
	tests/core/random.h
tests_stress_slab_threads_CFLAGS = $(AM_CFLAGS) -pthread
tests_stress_slab_threads_LDFLAGS = $(AM_LDFLAGS) -pthread
tests_stress_slab_threads_LDADD = lib/libslabcore.la

# Criterion does not run under ThreadSanitizer, programs with a plain main() do:
# for a tree configured with --enable-sanitizers=thread.
tsan_programs = tests/stress/lanes tests/stress/library \
	tests/stress/rings tests/stress/slab_threads
check-tsan: $(BUILT_SOURCES) slabd$(EXEEXT) $(tsan_programs)
	$(AM_TESTS_ENVIRONMENT) for program in $(tsan_programs); do \
		TSAN_OPTIONS=halt_on_error=1 $$program || exit 1; \
	done

# The long form of what `make check` does for seconds.
check-stress: all $(stress_tests)
	$(AM_TESTS_ENVIRONMENT) tests/stress/kill -r 10000 && \
	tests/stress/lanes -r 20000 && \
	tests/stress/library -r 2000 && \
	tests/stress/rings -r 2000

# The daemon and its clients killed $(KILLS) times, 100000 if nothing is said.
check-restart: all tests/stress/lanes
	$(AM_TESTS_ENVIRONMENT) $(SHELL) $(srcdir)/tests/stress/restart.sh

# An hour, or SOAK_SECONDS.
check-soak: all tests/stress/lanes
	$(AM_TESTS_ENVIRONMENT) SOAK_SECONDS=$${SOAK_SECONDS:-3600} \
	    $(SHELL) $(srcdir)/tests/stress/soak.sh

# And each kind of attacker for longer, beside a pair that is timed.
check-hostile: all tests/stress/hostile
	$(AM_TESTS_ENVIRONMENT) tests/stress/hostile -r 3 -n 5000 && \
	{ tests/stress/hostile -m -r 1 -n 5000 || test $$? -eq 77; }
.PHONY: check-tsan check-stress check-restart check-soak check-hostile

# What the tests reach, in a tree configured with --enable-coverage. Counters are
# not atomic here: with those, gcov loses arcs that it must infer.
coverage:
	@test -n '$(COV_CFLAGS)' || { echo 'configure --enable-coverage' >&2; false; }
	find . -name '*.gcda' -delete
	$(MAKE) clean
	status=0; $(MAKE) COV_CFLAGS='--coverage -O0' check || status=$$?; \
	python3 $(srcdir)/tests/coverage.py .; exit $$status
.PHONY: coverage
EXTRA_DIST += tests/coverage.py
