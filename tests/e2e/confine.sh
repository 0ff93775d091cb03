#!/bin/sh
# A daemon that root starts becomes the user it is told to be, confines itself and
# its helper, and serves, grows, reloads and stops like that.

. "${srcdir:-.}/tests/e2e/lib.sh"

[ "$(id -u)" -eq 0 ] || exit 77
user=64321

# is PID KEY VALUE: what the kernel says of this process
is() {
	value=$(awk -v key="$2:" '$1 == key { $1 = ""; print }' \
	    "/proc/$1/status" | xargs)
	[ "$value" = "$3" ] || fail "process $1: $2 is '$value', not '$3'"
}

confined() {
	is "$1" Uid "$user $user $user $user"
	for set in CapInh CapPrm CapEff CapAmb; do
		is "$1" $set 0000000000000000
	done
	is "$1" NoNewPrivs 1
	# Sanitizers make system calls that no filter could know of.
	[ -n "${SANITIZERS-}${COVERAGE-}" ] || is "$1" Seccomp 2
}

# configuration GROUP POOL...: of pools that have one segment and may get two
configuration() {
	printf '{ "user": %s, "group": "%s", "pools": [' $user "$1"
	shift
	for pool; do
		printf '{ "name": "%s", "slot_size": "64K", ' "$pool"
		printf '"slots_per_segment": 16, "max_segments": 2 }, '
	done
	echo '] }'
}

chmod 0755 "$tmp"
chown $user "$tmp"
start_daemon "$(configuration daemon first)"
chmod 0644 "$tmp/slabd.conf"
confined "$SLABD_PID"
is "$SLABD_PID" Groups "$(getent group daemon | cut -d: -f3)"
helper=$(cat "/proc/$SLABD_PID/task/$SLABD_PID/children" | xargs)
confined "$helper"
[ "$(stat -c %U:%G "$SLABD_SOCKET")" = UNKNOWN:daemon ] ||
	fail "the socket is not the daemon's and its group's"

# A slot beyond the first segment takes the helper, and the helper a worker.
"$builddir/tests/e2e/hold" first holder 17 0 </dev/null >/dev/null ||
	fail "17 slots were not to be had"

# By name, with a new pool, with a group that only root could give it.
configuration daemon first second >"$tmp/slabd.conf"
"$SLABCTL" reload || fail "no reload"
"$SLABCTL" stats | grep -q second || fail "the new pool is missing"
configuration disk first second >"$tmp/slabd.conf"
"$SLABCTL" reload 2>/dev/null || true
[ "$(stat -c %G "$SLABD_SOCKET")" = daemon ] ||
	fail "a daemon without privileges gave its socket to a group"
"$SLABCTL" audit >/dev/null || fail "the audit found something"
stop_daemon
[ ! -e "$SLABD_SOCKET" ] || fail "the socket is still there"
[ -z "$(names_left)" ] || fail "objects are still there"
