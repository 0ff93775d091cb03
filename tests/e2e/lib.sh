# What every end-to-end test in shell needs: a daemon of its own, and nothing
# left behind whatever happens. Source it; $srcdir and $builddir come from make.
#
#	start_daemon CONF	starts slabd with that configuration (without
#				"socket"), waits until it serves
#	stop_daemon		ends it and waits
#	$tmp			a directory of the test's own
#	$SLABD_SOCKET $SLABCTL $SLABD_PID

set -eu
: "${builddir:?run by make check}" "${srcdir:?run by make check}"
SLABD=$builddir/slabd
SLABCTL=$builddir/slabctl
SLABD_PID=
tmp=$(mktemp -d /tmp/slabd-e2e.XXXXXX)
SLABD_SOCKET=$tmp/slabd.sock
export SLABD_SOCKET SLABCTL srcdir builddir tmp

fail() {
	echo "FAIL: $*" >&2
	[ ! -s "$tmp/slabd.log" ] || sed 's/^/    slabd.log: /' "$tmp/slabd.log" >&2
	exit 1
}

# The shared-memory objects of this daemon that exist: their names carry the
# 64-bit FNV-1a hash of its socket's path.
names_left() {
	prefix=$(python3 -c '
import os, sys
path = os.path.realpath(sys.argv[1]).encode()
h = 0xcbf29ce484222325
for byte in path:
    h = (h ^ byte) * 0x100000001b3 % 2**64
print("slabd-%016x-" % h)' "$SLABD_SOCKET")
	ls /dev/shm | grep "^$prefix" || true
}

start_daemon() {
	printf '%s\n' "$1" >"$tmp/slabd.conf"
	run_daemon "$SLABD" -c "$tmp/slabd.conf" -s "$SLABD_SOCKET"
	wait_serving
}

# Started so that it dies with this shell, even if that is killed.
run_daemon() {
	if command -v setpriv >/dev/null 2>&1; then
		setpriv --pdeathsig KILL "$@" 2>>"$tmp/slabd.log" &
	else
		"$@" 2>>"$tmp/slabd.log" &
	fi
	SLABD_PID=$!
	export SLABD_PID
}

# It serves once a ping is answered; it says so, or has ended.
wait_serving() {
	while ! "$SLABCTL" -s "$SLABD_SOCKET" ping >/dev/null 2>&1; do
		kill -0 "$SLABD_PID" 2>/dev/null || fail "slabd did not start"
		sleep 0.02
	done
}

stop_daemon() {
	[ -n "$SLABD_PID" ] || return 0
	kill -TERM "$SLABD_PID" 2>/dev/null || true
	await_daemon
}

# Its exit status counts: a sanitizer's report is in it.
await_daemon() {
	pid=$SLABD_PID
	SLABD_PID=
	wait "$pid" || fail "slabd ended with status $?"
}

cleanup() {
	status=$?
	trap - EXIT
	if [ -n "$SLABD_PID" ]; then
		"$SLABCTL" -s "$SLABD_SOCKET" shutdown --force >/dev/null 2>&1 ||
		    kill -KILL "$SLABD_PID" 2>/dev/null || true
		if ! wait "$SLABD_PID"; then
			echo "slabd did not end well" >&2
			sed 's/^/    /' "$tmp/slabd.log" >&2
			status=1
		fi
		left=$(names_left)
		if [ -n "$left" ]; then
			echo "left behind: $left" >&2
			(cd /dev/shm && rm -f $left)
			status=1
		fi
	fi
	rm -rf "$tmp"
	exit $status
}
trap cleanup EXIT
trap 'exit 1' HUP INT TERM
