#!/bin/sh
# slabctl against a real daemon: what it prints, compared with expected/, and
# its exit status; the statistics document against its schema; the completion.

. "${srcdir:-.}/tests/e2e/lib.sh"

here=$srcdir/tests/e2e
hold=$builddir/tests/e2e/hold
export LC_ALL=C

# run STATUS ARGS...: slabctl exits so; $tmp/out and $tmp/err are what it said.
run()
{
	want=$1
	got=0
	shift
	"$SLABCTL" "$@" >"$tmp/out" 2>"$tmp/err" || got=$?
	[ $got -eq "$want" ] ||
		fail "slabctl $*: exit $got, not $want: $(cat "$tmp/err")"
}

# same NAME FILE: the file is as expected/NAME.txt says.
same()
{
	diff -u "$here/expected/$1.txt" "$2" >&2 || fail "$1 differs"
}

# says TEXT: slabctl complained in one form, and with these words.
says()
{
	head -n 1 "$tmp/err" | grep -q "^slabctl: [^:]*: ." ||
		fail "not of the form of an error: $(cat "$tmp/err")"
	grep -qF -- "$1" "$tmp/err" || fail "no '$1' in: $(cat "$tmp/err")"
	[ ! -s "$tmp/out" ] || fail "an error wrote to standard output"
}

# table FIELD...: $tmp/out made comparable as $tmp/table: single spaces, lines
# sorted, and X for these fields below the titles, which differ between runs.
table()
{
	awk -v fields="$*" '
	BEGIN { n = split(fields, field, " ") }
	/^[A-Z ]+$/ { body = 1; $1 = $1; print; next }
	body && NF { for (i = 1; i <= n; i++) $field[i] = "X" }
	{ $1 = $1; print }' "$tmp/out" | sort >"$tmp/table"
}

# hold NAME ARGS...: starts a holder that waits until release NAME.
hold()
{
	name=$1
	shift
	mkfifo "$tmp/$name.in" "$tmp/$name.out"
	"$hold" "$@" <"$tmp/$name.in" >"$tmp/$name.out" &
	eval "pid_$name=$!"
	case $name in
	a) exec 7>"$tmp/a.in" ;;
	b) exec 8>"$tmp/b.in" ;;
	esac
	read -r _ <"$tmp/$name.out" || fail "holder $name did not start"
}

command -v python3 >/dev/null || { echo "python3 is missing" >&2; exit 77; }

# Without a daemon.

run 0 -h
same help "$tmp/out"
run 0 -V
grep -q '^slabctl [0-9]' "$tmp/out" || fail "-V"
run 0 schema
cmp "$tmp/out" "$srcdir/etc/slabd-stats.schema.json" || fail "schema"
run 2
run 2 sats; says 'no such command; did you mean `stats`?'
run 2 frobnicate; says 'no such command; `slabctl -h`'
run 2 holders; says 'it takes the name of a pool'
run 2 pools frames; says 'it takes no argument, but `frames` was given'
run 2 stats frames small; says 'it takes one pool only, but `small` was given'
run 2 stats frames --json; says 'leave out the pool'
run 2 ping --wait soon; says 'no time to wait'
run 3 -s "$tmp" ping; says 'is not a socket'
run 3 -s "$(printf '%0108d' 0)" ping; says 'at most 107 bytes'
run 2 reload --json; says 'it does not take one of these options'
run 2 stats --watch soon; says 'no interval'
run 2 --bogus
run 1 holders "$(printf '%064d' 0)"; says 'no pool'
for command in ping stats pools clients "holders frames" config version reload \
    "trim frames" audit "shutdown --force"; do
	# shellcheck disable=SC2086 # the words of a command
	run 3 -s "$tmp/nobody.sock" $command; says 'slabctl: '
done

# Whoever waits for a daemon need not know when it is there.
run 3 --wait 0.05 ping
"$SLABCTL" --wait 60 ping >"$tmp/early" 2>&1 &
early=$!

# With one.

start_daemon '{ "mode": "0666", "pools": [
	{ "name": "frames", "slot_size": "64K", "slots_per_segment": 16,
	  "min_segments": 1, "max_segments": 4, "quota": 12, "orphan_seconds": 3600 },
	{ "name": "small", "slot_size": 100, "slots_per_segment": 8,
	  "min_segments": 1, "max_segments": 1 } ] }'

wait $early || fail "--wait: $(cat "$tmp/early")"
run 0 --wait 5 ping; grep -q '^slabd answers in [0-9.]* ms$' "$tmp/out" || fail ping
run 0 version
sed 's/ [0-9.]*$/ VERSION/' "$tmp/out" >"$tmp/version"
same version "$tmp/version"
run 0 audit
same audit "$tmp/out"
run 0 trim frames
run 1 trim nothing; says 'slabctl: trim: '
run 1 holders nothing; says 'slabctl: holders: '

hold a frames camera-1 5 2
hold b frames "$(printf '\302\255\342\200\256x y')" 1 0

run 0 stats -H
table
same stats "$tmp/table"
grep '^small ' "$tmp/out" | tr -s ' ' >"$tmp/want"
run 0 stats small -H
grep -v '^$' "$tmp/out" | tr -s ' ' | diff -u "$tmp/want" - >&2 || fail "stats small"
run 1 stats nothing; says 'there is no pool nothing'
run 0 pools
table
same pools "$tmp/table"
run 0 clients
table 1 2 3 4
same clients "$tmp/table"
run 0 holders frames
table 1 2 3 8
same holders "$tmp/table"
# shellcheck disable=SC2154 # set by hold()
run 0 holders frames -v
[ "$(grep -c " $pid_a .* camera-1\$" "$tmp/out")" -ge 8 ] ||
	fail "holders -v does not list the slots: $(cat "$tmp/out")"

run 0 stats --json
python3 "$here/schema.py" "$srcdir/etc/slabd-stats.schema.json" \
    "$tmp/out" || fail "the document and its schema"
for command in ping pools clients "holders frames" config version; do
	# shellcheck disable=SC2086
	run 0 $command --json
	python3 -m json.tool "$tmp/out" >/dev/null || fail "$command --json"
done

# Watching goes on until nobody reads any more.
"$SLABCTL" stats --watch 0.1 | grep -m 2 ALLOCS/S >"$tmp/watch"
[ "$(wc -l <"$tmp/watch")" -eq 2 ] || fail "--watch"

# Their slots are free when they have gone, and the books balance.
exec 7>&- 8>&-
wait "$pid_a" "$pid_b"
run 0 stats -H
table
same idle "$tmp/table"
run 0 audit

# A configuration is taken whole or not at all, and its fault is pointed at.
run 0 reload
same reload "$tmp/out"
sed 's/"quota"/"qota"/' "$tmp/slabd.conf" >"$tmp/faulty"
cp "$tmp/slabd.conf" "$tmp/good"
cp "$tmp/faulty" "$tmp/slabd.conf"
run 1 reload
sed "s|$tmp|TMP|; 1s/\(:42: \).*/\1WHY/" "$tmp/err" >"$tmp/fault"
same fault "$tmp/fault"
run 0 config
grep -q '"quota": 12' "$tmp/out" || fail "a faulty configuration was taken"
cp "$tmp/good" "$tmp/slabd.conf"

# Others may look, but not administer.
if [ "$(id -u)" -eq 0 ] && command -v setpriv >/dev/null; then
	cp "$SLABCTL" "$tmp/slabctl"
	chmod 711 "$tmp"
	for command in reload "trim frames" audit "shutdown --force"; do
		got=0
		# shellcheck disable=SC2086
		setpriv --reuid 65534 --regid 65534 --clear-groups \
		    "$tmp/slabctl" $command >"$tmp/out" 2>"$tmp/err" || got=$?
		[ $got -eq 1 ] || fail "$command of a stranger: exit $got"
		says 'this is for root'
	done
	setpriv --reuid 65534 --regid 65534 --clear-groups \
	    "$tmp/slabctl" stats >/dev/null || fail "a stranger may look"
fi

# A full disk, and a reader that went away.
"$SLABCTL" stats >/dev/full 2>"$tmp/err" && fail "/dev/full was no failure"
grep -q '^slabctl: standard output: ' "$tmp/err" || fail "$(cat "$tmp/err")"

# The completion knows each command, and the pools.
if command -v bash >/dev/null; then
	PATH=$(dirname "$SLABCTL"):$PATH bash -c '
		. "$1"
		COMP_WORDS=(slabctl "") COMP_CWORD=1
		_slabctl; printf "%s\n" "${COMPREPLY[@]}"
		COMP_WORDS=(slabctl trim s) COMP_CWORD=2
		_slabctl; echo "pool ${COMPREPLY[*]}"
		COMP_WORDS=(slabctl --wait 5 stats s) COMP_CWORD=4
		_slabctl; echo "pool ${COMPREPLY[*]}"
		COMP_WORDS=(slabctl --wai) COMP_CWORD=1
		_slabctl; echo "${COMPREPLY[*]}"
	' bash "$srcdir/etc/slabctl.bash" | sort >"$tmp/completed"
	{ "$SLABCTL" -h | awk '/^  [a-z]/ { print $1 }'
	  echo pool small; echo pool small; echo --wait; } |
		sort | diff -u - "$tmp/completed" >&2 || fail "completion"
fi

run 0 shutdown --force
same shutdown "$tmp/out"
wait "$SLABD_PID" || fail "slabd ended with $?"
SLABD_PID=
