# SLABD_CHECK_BENCH: what `make bench` compares with, if it is installed.
AC_DEFUN([SLABD_CHECK_BENCH], [
PKG_CHECK_MODULES([DPDK], [libdpdk],
    [AC_DEFINE([HAVE_DPDK], [1], [The benchmarks have DPDK])], [:])
PKG_CHECK_MODULES([ZMQ], [libzmq],
    [AC_DEFINE([HAVE_ZMQ], [1], [The benchmarks have ZeroMQ])], [:])
AC_LANG_PUSH([C++])
AC_CHECK_HEADER([boost/interprocess/managed_shared_memory.hpp],
    [AC_DEFINE([HAVE_BOOST_INTERPROCESS], [1],
	[The benchmarks have Boost.Interprocess])])
AC_LANG_POP([C++])
])
