#!/bin/sh
# The static tracepoints that slabd(8) and libslabd(3) list are in the programs, in
# a tree configured with --enable-probes.
grep -q '^#define SLABD_PROBES 1' "$builddir/config.h" || {
	echo 'not configured with --enable-probes'
	exit 77
}
found=$(readelf -n "$builddir/slabd" "$builddir/lib/.libs/libslabd.so" |
    awk '/Provider:/ { p = $2 } /Name:/ { print p ":" $2 }' | sort -u)
status=0
for probe in libslabd:alloc libslabd:free libslabd:receive libslabd:send \
    slabd:grant slabd:reclaim; do
	echo "$found" | grep -qx "$probe" || {
		echo "FAIL: $probe is missing"
		status=1
	}
done
exit $status
