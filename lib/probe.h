/*
 * Static tracepoints, where configured (--enable-probes): places a tracer can
 * attach to, one instruction that does nothing otherwise. slabd(8) and
 * libslabd(3) list them with their arguments.
 */
#ifndef SLABD_PROBE_H
#define SLABD_PROBE_H

#ifdef SLABD_PROBES
#include <sys/sdt.h>
#define PROBE1(provider, name, a)	DTRACE_PROBE1(provider, name, a)
#define PROBE2(provider, name, a, b)	DTRACE_PROBE2(provider, name, a, b)
#define PROBE3(provider, name, a, b, c) DTRACE_PROBE3(provider, name, a, b, c)
#else
#define PROBE1(provider, name, a)	((void)(a))
#define PROBE2(provider, name, a, b)	((void)(a), (void)(b))
#define PROBE3(provider, name, a, b, c) ((void)(a), (void)(b), (void)(c))
#endif

#endif
