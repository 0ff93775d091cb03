#!/bin/sh
# Daemons and clients are killed until there were enough of both: batches of
# tests/stress/lanes in which the daemon dies in every round, several at a time.
# Each batch has a seed of its own, the first one's plus its number.
#
#	KILLS	of daemons, and of clients (100000)
#	SEED	of the first batch (the clock)
#	JOBS	at a time (as many as there are CPUs)
#	ROUNDS	of a batch (1000)
set -eu
: "${builddir:?run by make check-restart}"
kills=${KILLS:-100000} seed=${SEED:-$(date +%s)} rounds=${ROUNDS:-1000}
jobs=${JOBS:-$(getconf _NPROCESSORS_ONLN)}
tmp=$(mktemp -d /tmp/slabd-restart.XXXXXX)
pids=
trap 'kill $pids 2>/dev/null || :; rm -rf "$tmp"' EXIT
trap 'exit 1' HUP INT TERM

batches=0 clients=0 daemons=0
while [ "$clients" -lt "$kills" ] || [ "$daemons" -lt "$kills" ]; do
	pids=
	for job in $(seq "$jobs"); do
		"$builddir/tests/stress/lanes" -d 100 -r "$rounds" \
		    -s $((seed + batches + job - 1)) >"$tmp/$job" 2>&1 &
		pids="$pids $!"
	done
	job=0
	for pid in $pids; do
		job=$((job + 1))
		wait "$pid" || {
			cat "$tmp/$job"
			exit 1
		}
		# Its last line: N kills of clients, M of daemons: ok
		set -- $(tail -n 1 "$tmp/$job")
		clients=$((clients + $1)) daemons=$((daemons + $5))
	done
	batches=$((batches + jobs))
	echo "seeds $seed to $((seed + batches - 1))," \
	    "$((batches * rounds)) rounds, $clients kills of clients," \
	    "$daemons of daemons: ok"
done
