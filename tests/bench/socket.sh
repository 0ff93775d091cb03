#!/bin/sh
# The figures of the socket path, each beside its goal: requests, attaching, the
# idle daemon, the statistics of a large installation. Run by `make bench`.
. "${srcdir:-.}/tests/e2e/lib.sh"

status_of() {
	awk -v key="$2:" '$1 == key { print $2 }' "/proc/$1/status"
}

switches() {
	awk '/ctxt_switches/ { sum += $2 } END { print sum }' \
	    "/proc/$SLABD_PID/status"
}

# One pool to allocate from, two to attach: 64 MiB and 64 GiB of region.
start_daemon '{ "pools": [
  { "name": "work", "slot_size": "2K", "slots_per_segment": 8192,
    "min_segments": 1, "max_segments": 1 },
  { "name": "small", "slot_size": "64K", "slots_per_segment": 1024,
    "min_segments": 0, "max_segments": 1 },
  { "name": "large", "slot_size": "64K", "slots_per_segment": 1024,
    "min_segments": 0, "max_segments": 1024 } ] }'
"$builddir/tests/bench/socket" work small large
stop_daemon

start_daemon '{ "pools": [
  { "name": "million", "slot_size": 64, "slots_per_segment": 50000,
    "min_segments": 20, "max_segments": 20 } ] }'
echo
rss=$(status_of "$SLABD_PID" VmRSS)
limit=$((4096 + 8 * 1000000 / 1024))
echo "idle daemon, 1,000,000 slots: resident $rss KiB (goal: below $limit)"
before=$(switches)
sleep 5
after=$(switches)
echo "idle daemon: $((after - before)) wakeups in 5 s (goal: 0)"
stop_daemon

pools=$(awk 'BEGIN { for (i = 0; i < 1000; i++) printf "%s{ \"name\": \"p%d\", \"slot_size\": 4096, \"slots_per_segment\": 64, \"min_segments\": 1, \"max_segments\": 4 }", i ? "," : "", i }')
start_daemon "{ \"pools\": [ $pools ] }"
"$builddir/tests/bench/crowd" 100
