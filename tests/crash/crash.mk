# The daemon killed at every instruction and at every system call of what it
# does, and another on what it left. `make check` tries a sample, `make
# check-crash` all, CRASH_JOBS at a time.

crash_programs = tests/crash/step tests/crash/survivor
if TESTS_ENABLED
check_PROGRAMS += $(crash_programs)
TESTS += tests/crash/step tests/crash/syscalls.sh
endif
dist_check_SCRIPTS += tests/crash/syscalls.sh

tests_crash_step_SOURCES = tests/crash/step.c \
	tests/crash/image.c tests/crash/image.h \
	tests/crash/scenes.c tests/crash/scenes.h \
	tests/crash/trace.c tests/crash/trace.h \
	tests/crash/world.c tests/crash/world.h \
	tests/core/random.h $(raw_sources)
tests_crash_step_LDADD = $(raw_libs)
tests_crash_survivor_SOURCES = tests/crash/survivor.c \
	tests/crash/world.c tests/crash/world.h $(raw_sources)
tests_crash_survivor_LDADD = $(raw_libs)

CRASH_JOBS = 1
check-crash: all $(crash_programs)
	$(AM_TESTS_ENVIRONMENT) tests/crash/step -a -k 8 -j $(CRASH_JOBS) && \
	$(AM_TESTS_ENVIRONMENT) SYSCALLS_JOBS=$(CRASH_JOBS) \
		$(SHELL) $(srcdir)/tests/crash/syscalls.sh -a
.PHONY: check-crash
