# The longer questions configure.ac asks, each a macro of its own.

# SLABD_CHECK_TESTS: the test suite needs Criterion, C++ and Python; building
# without it has to be asked for, so that "make check" never quietly runs nothing.
AC_DEFUN([SLABD_CHECK_TESTS], [
AC_ARG_ENABLE([tests],
    [AS_HELP_STRING([--disable-tests],
	[build without the test suite (make check then fails)])],
    [], [enable_tests=yes])
slabd_tests=no
AS_IF([test "x$enable_tests" != xno], [
    PKG_CHECK_MODULES([CRITERION], [criterion >= 2.4], [slabd_tests=yes],
	[AC_MSG_ERROR([Criterion is needed for the tests: install libcriterion-dev, or say --disable-tests])])
    AC_LANG_PUSH([C++])
    AC_MSG_CHECKING([whether the C++ compiler works])
    AC_COMPILE_IFELSE([AC_LANG_PROGRAM([[#include <memory>]])],
	[AC_MSG_RESULT([yes])],
	[AC_MSG_RESULT([no])
	AC_MSG_ERROR([a C++ compiler is needed for the tests: install g++, or say --disable-tests])])
    AC_LANG_POP([C++])
    AC_CHECK_PROG([slabd_python], [python3], [yes], [no])
    AS_IF([test "$slabd_python" = no],
	[AC_MSG_ERROR([Python is needed for the tests: install python3, or say --disable-tests])])
])
AM_CONDITIONAL([TESTS_ENABLED], [test "x$slabd_tests" = xyes])
])

# SLABD_CHECK_WARNINGS: the warnings this code is free of.
AC_DEFUN([SLABD_CHECK_WARNINGS], [
AC_ARG_ENABLE([werror],
    [AS_HELP_STRING([--enable-werror], [treat warnings as errors])],
    [], [enable_werror=no])
WARN_CFLAGS="-Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wvla"
WARN_CXXFLAGS="-Wall -Wextra -Wshadow"
AS_IF([test "x$enable_werror" != xno], [
    WARN_CFLAGS="$WARN_CFLAGS -Werror"
    WARN_CXXFLAGS="$WARN_CXXFLAGS -Werror"
])
AC_SUBST([WARN_CFLAGS])
AC_SUBST([WARN_CXXFLAGS])
])

# SLABD_CHECK_SANITIZERS: --enable-sanitizers[=address,undefined]
AC_DEFUN([SLABD_CHECK_SANITIZERS], [
AC_ARG_ENABLE([sanitizers],
    [AS_HELP_STRING([--enable-sanitizers@<:@=LIST@:>@],
	[build with sanitizers @<:@address,undefined@:>@])],
    [], [enable_sanitizers=no])
slabd_sanitizers=$enable_sanitizers
AS_CASE([$enable_sanitizers],
    [no], [SAN_CFLAGS=],
    [yes], [slabd_sanitizers=address,undefined],
    [])
AS_IF([test "x$slabd_sanitizers" != xno],
    [SAN_CFLAGS="-fsanitize=$slabd_sanitizers -fno-sanitize-recover=all -fno-omit-frame-pointer"])
AC_SUBST([SAN_CFLAGS])
AM_CONDITIONAL([SANITIZERS], [test "x$slabd_sanitizers" != xno])
])

# SLABD_CHECK_COVERAGE: --enable-coverage, for gcov
AC_DEFUN([SLABD_CHECK_COVERAGE], [
AC_ARG_ENABLE([coverage],
    [AS_HELP_STRING([--enable-coverage], [count executed lines (gcov)])],
    [], [enable_coverage=no])
slabd_coverage=$enable_coverage
COV_CFLAGS=
AS_IF([test "x$enable_coverage" != xno],
    [COV_CFLAGS="--coverage -O0 -fprofile-update=atomic"])
AC_SUBST([COV_CFLAGS])
])

# SLABD_CHECK_DEBUG: --enable-debug checks every invariant around mutations.
AC_DEFUN([SLABD_CHECK_DEBUG], [
AC_ARG_ENABLE([debug],
    [AS_HELP_STRING([--enable-debug],
	[check the invariants around every mutation (slow)])],
    [], [enable_debug=no])
slabd_debug=$enable_debug
AS_IF([test "x$enable_debug" != xno],
    [AC_DEFINE([SLAB_DEBUG], [1], [Check invariants around mutations])])
])

# SLABD_CHECK_ANNOTATIONS: --enable-annotations tells memory checkers which slots
# are the program's to touch.
AC_DEFUN([SLABD_CHECK_ANNOTATIONS], [
AC_ARG_ENABLE([annotations],
    [AS_HELP_STRING([--enable-annotations],
	[tell Valgrind and AddressSanitizer which slots are in use])],
    [], [enable_annotations=no])
slabd_annotations=$enable_annotations
AS_IF([test "x$enable_annotations" != xno], [
    AC_DEFINE([SLABD_ANNOTATIONS], [1],
	[Tell memory checkers which slots are in use])
    AC_CHECK_HEADERS([valgrind/memcheck.h])
])
])

# SLABD_CHECK_PROBES: --enable-probes puts static tracepoints in.
AC_DEFUN([SLABD_CHECK_PROBES], [
AC_ARG_ENABLE([probes],
    [AS_HELP_STRING([--enable-probes],
	[static tracepoints (USDT) for perf, bpftrace and systemtap])],
    [], [enable_probes=no])
slabd_probes=$enable_probes
AS_IF([test "x$enable_probes" != xno], [
    AC_CHECK_HEADER([sys/sdt.h], [],
	[AC_MSG_ERROR([sys/sdt.h is needed for --enable-probes: install systemtap-sdt-dev])])
    AC_DEFINE([SLABD_PROBES], [1], [Static tracepoints])
])
])
