# Every call of the daemon that can fail, made to fail: a daemon of its own whose
# calls go through wrap.c. `make check` tries a sample, `make check-fault` all.

# As in board.h.
fault_functions = accept4 asprintf bind calloc chmod close close_range \
	connect dup dup2 eventfd fallocate fchmod fclose fcntl fgets flock \
	fopen fork fstat fstatvfs fsync ftruncate __getdelim getgrnam_r \
	getline getpwnam_r getrandom getrlimit getsockopt glob ioctl kill \
	lchown listen lstat madvise malloc memfd_create mkdir mlock mmap \
	mprotect munmap open open_memstream opendir pipe2 poll \
	posix_fallocate prctl pread pwrite read readdir realloc reallocarray \
	realpath recv recvmsg rename send sendmsg sendto seteuid setgroups \
	setresgid setresuid setrlimit setsockopt shm_open shm_unlink \
	sigaction socket socketpair stat strdup strndup syscall unlink \
	unlinkat vasprintf waitpid write event_add event_base_loop \
	event_base_new_with_config event_base_priority_init event_config_new \
	event_new cJSON_AddArrayToObject cJSON_AddBoolToObject \
	cJSON_AddNumberToObject cJSON_AddStringToObject cJSON_CreateArray \
	cJSON_CreateBool cJSON_CreateObject cJSON_CreateRaw \
	cJSON_CreateString cJSON_ParseWithLengthOpts cJSON_PrintBuffered \
	seccomp_init seccomp_load seccomp_rule_add_array

fault_programs = tests/fault/fault tests/fault/slabd
if TESTS_ENABLED
check_PROGRAMS += $(fault_programs) tests/e2e/test_exhaustion
TESTS += tests/fault/fault tests/e2e/test_exhaustion
endif

tests_fault_slabd_SOURCES = daemon/main.c tests/fault/wrap.c tests/fault/board.h
tests_fault_slabd_LDFLAGS = $(AM_LDFLAGS) $(fault_functions:%=-Wl,--wrap=%)
tests_fault_slabd_LDADD = daemon/libdaemon.la
tests_fault_fault_SOURCES = tests/fault/fault.c tests/fault/board.h \
	tests/fault/scene.c tests/fault/scene.h tests/core/random.h \
	$(raw_sources)
tests_fault_fault_LDADD = $(raw_libs)

# And what the host can really run out of.
tests_e2e_test_exhaustion_SOURCES = tests/e2e/exhaustion.c tests/e2e/e2e.h \
	$(raw_sources)
tests_e2e_test_exhaustion_LDADD = $(raw_libs) $(CRITERION_LIBS)

check-fault: $(fault_programs)
	$(AM_TESTS_ENVIRONMENT) tests/fault/fault -a -v
.PHONY: check-fault
