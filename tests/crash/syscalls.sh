#!/bin/sh
# syscalls.sh [-a]: the daemon, or its helper, is killed at a system call of its
# life; a successor must have all there was. A sample of the calls, or with -a
# each of each; $SYSCALLS_JOBS at a time.
#
# A table says for each call how often it was tried and in which act the daemon
# then ended: start ... stop, the last if only its helper was killed, or if it
# did not come that far.

set -eu
: "${builddir:?run by make check}"
survivor=$builddir/tests/crash/survivor
all=${1:-}
sample=${SYSCALLS_SAMPLE:-16}
tmp=$(mktemp -d /tmp/slabd-syscalls.XXXXXX)
trap 'rm -rf "$tmp"' EXIT

# Where nobody may trace there is nothing to do.
strace -D -f -qq -o /dev/null -e trace=exit_group \
	-e inject=exit_group:signal=KILL:when=9 true 2>/dev/null || exit 77
"$survivor" -o "$tmp/trace" >"$tmp/out" || { cat "$tmp/out"; exit 1; }

# The larger of how often daemon and helper make each call.
awk '{ if (match($2, /^[a-z_0-9]+\(/)) n[$1 " " substr($2, 1, RLENGTH - 1)]++ }
	END { for (k in n) { split(k, f, " ");
		if (n[k] > most[f[2]]) most[f[2]] = n[k] }
		for (c in most) for (i = 1; i <= most[c]; i++) print c, i }' \
	"$tmp/trace" | sort -k1,1 -k2,2n >"$tmp/points"
seed=${SLAB_SEED:-$(date +%s)}
echo "SLAB_SEED=$seed"
if [ "$all" != -a ]; then
	awk -v seed="$seed" 'BEGIN { srand(seed) } { print rand(), $0 }' \
		"$tmp/points" | sort -n | head -n "$sample" | cut -d' ' -f2- |
		sort -k1,1 -k2,2n >"$tmp/some"
	mv "$tmp/some" "$tmp/points"
fi

# One point: a line of what is wrong, and one for the table.
cat >"$tmp/try" <<'EOF'
outcome=$("$1" "$3" "$4") || {
	echo "$3 $4: $outcome"
	outcome=failed
}
echo "$3 $outcome" >>"$2/outcomes"
EOF
begun=$(date +%s)
xargs -n 2 -P "${SYSCALLS_JOBS:-1}" sh "$tmp/try" "$survivor" "$tmp" \
	<"$tmp/points"
[ -s "$tmp/outcomes" ] || { echo 'nothing was tried'; exit 1; }
sort "$tmp/outcomes" | uniq -c | awk '{
	if ($2 != call) { if (call != "") printf "%-18s%5d %s\n", call, n, text
		call = $2; n = 0; text = "" }
	n += $1; text = text " " $3 ":" $1 }
	END { printf "%-18s%5d %s\n", call, n, text }'
kills=$(wc -l <"$tmp/outcomes")
failed=$(grep -c ' failed$' "$tmp/outcomes") || true
echo "$kills of $(wc -l <"$tmp/points") points tried, $failed failed," \
	"$(($(date +%s) - begun)) s"
[ "$failed" -eq 0 ] && [ "$kills" -eq "$(wc -l <"$tmp/points")" ]
