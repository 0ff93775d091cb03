#!/bin/sh
# filepipe on real input: what comes out is what went in, to the digest that
# sha256sum finds, also when workers are killed, by filepipe itself or from
# outside; and every slot is free afterwards.

. "${srcdir:-.}/tests/e2e/lib.sh"

filepipe=$builddir/clients/examples/filepipe
chunk=16384

# What filepipe said, and the end of the test.
bad()
{
	cat "$tmp/report" "$tmp/err" >&2
	fail "$@"
}

# The daemon hears of the last killed worker in its own time, so ask for a while.
all_free()
{
	for try in $(seq 200); do
		"$SLABCTL" stats --json >"$tmp/stats" || fail "slabctl stats"
		python3 -c '
import json, sys
pools = json.load(sys.stdin)["pools"]
sys.exit(any(p["free"] != p["slots"] for p in pools))' <"$tmp/stats" &&
			return
		sleep 0.05
	done
	bad "slots are in use: $(cat "$tmp/stats")"
}

# compare INPUT: the output is the input, and the report says so.
compare()
{
	cmp "$1" "$tmp/output" || bad "$1: the output differs"
	digest=$(sha256sum <"$1" | cut -d ' ' -f 1)
	grep -q "^    read     $digest\$" "$tmp/report" &&
		grep -q "^    written  $digest  equal\$" "$tmp/report" ||
		bad "$1: not the digest of sha256sum, $digest"
	size=$(wc -c <"$1")
	chunks=$(((size + chunk - 1) / chunk))
	awk -v n=$chunks '
	/^    [0-9]/ { sum += $2 }
	/^    all/ { exit sum != n || $2 != n }' "$tmp/report" ||
		bad "$1: not $chunks chunks"
	all_free
}

# pipe INPUT OPTIONS...: through the pool, and compare.
pipe()
{
	input=$1
	shift
	timeout 120 "$filepipe" "$@" "$input" "$tmp/output" >"$tmp/report" 2>"$tmp/err" ||
		bad "$input $*: exit $?"
	compare "$input"
}

# refuses STATUS ARGS...
refuses()
{
	want=$1
	shift
	got=0
	"$filepipe" "$@" >"$tmp/report" 2>"$tmp/err" || got=$?
	[ $got -eq "$want" ] || bad "filepipe $*: exit $got, not $want"
	[ -s "$tmp/err" ] || bad "filepipe $*: says nothing"
}

# The first worker of this process, which may just be starting: kill it.
kill_worker_of()
{
	for try in $(seq 100); do
		worker=$(cat /proc/[0-9]*/stat 2>/dev/null |
			sed -n "s/^\([0-9]*\) (worker 1) [^Z] $1 .*/\1/p")
		[ -z "$worker" ] || break
		sleep 0.05
	done
	kill -9 "$worker" || bad "there is no worker to kill"
}

# What a run that fails has offered and nobody received is free after a second.
start_daemon '{ "pools": [
	{ "name": "frames", "slot_size": 16384, "slots_per_segment": 16,
	  "max_segments": 4, "orphan_seconds": 1 },
	{ "name": "scarce", "slot_size": 16384, "slots_per_segment": 1,
	  "max_segments": 1 } ] }'

head -c 8388608 /dev/urandom >"$tmp/big"
: >"$tmp/empty"
for size in 1 16383 16384 16385 98304; do
	head -c $size "$tmp/big" >"$tmp/input"
	pipe "$tmp/input"
done
pipe "$tmp/empty"
pipe "$filepipe" -w 1
pipe "$tmp/input" -p scarce -w 5
pipe "$tmp/input" -w 20

# Killed at random: as often as was asked, and not always too late to matter.
pipe "$tmp/big" -k 50
cat "$tmp/report"
grep -q '^    all .* 50  chunks done again: [1-9]' "$tmp/report" ||
	bad "the workers were not killed at work"
pipe "$tmp/input" -w 1 -k 5 -p scarce

# Killed from outside, in the middle of an input that waits for it.
mkfifo "$tmp/fifo"
rm "$tmp/output"
"$filepipe" "$tmp/fifo" "$tmp/output" >"$tmp/report" 2>"$tmp/err" &
pid=$!
exec 3>"$tmp/fifo"
head -c 4194304 "$tmp/big" >&3
for n in 64 65 66; do
	kill_worker_of $pid
	dd if="$tmp/big" bs=65536 skip=$n count=1 status=none >&3
done
tail -c +$((67 * 65536 + 1)) "$tmp/big" >&3
exec 3>&-
wait $pid || bad "killed from outside: exit $?"
compare "$tmp/big"
grep -q '^    1 .* 3$' "$tmp/report" || bad "3 workers were killed"

refuses 2
refuses 2 -w 0 "$tmp/input" "$tmp/output"
refuses 2 -k x "$tmp/input" "$tmp/output"
refuses 1 "$tmp/nothing" "$tmp/output"
refuses 1 -p nowhere "$tmp/input" "$tmp/output"
refuses 1 -s "$tmp/nowhere.sock" "$tmp/input" "$tmp/output"
refuses 1 "$tmp/input" "$tmp/input"
[ -s "$tmp/input" ] || fail "an input was emptied"
refuses 1 "$tmp/input" /dev/full
all_free
"$SLABCTL" audit || fail "the books do not balance"
