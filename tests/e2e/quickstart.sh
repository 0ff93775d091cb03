#!/bin/sh
# What the first command of the README shows, with the programs of this build:
# a real file goes through the shipped configuration, a worker dies on the way,
# every slot is accounted for, and nothing is left behind.

set -eu
: "${builddir:?run by make check}" "${srcdir:?run by make check}"
QUICKSTART_BUILD=$builddir
export QUICKSTART_BUILD
tmp=$(mktemp -d /tmp/slabd-e2e.XXXXXX)
trap 'rm -rf "$tmp"' EXIT
trap 'exit 1' HUP INT TERM

fail() {
	echo "FAIL: $*" >&2
	cat "$tmp/said" >&2
	exit 1
}

# What is mentioned in $tmp/said, as a basic regular expression.
says() {
	grep -q "$1" "$tmp/said" || fail "it does not say: $1"
}

# refuses TEXT ARGUMENT...: fails, and says that.
refuses() {
	text=$1
	shift
	! "$srcdir/quickstart" "$@" >"$tmp/said" 2>&1 || fail "accepted: $*"
	says "$text"
}

"$srcdir/quickstart" >"$tmp/said" 2>&1 || fail "exit status $?"
cat "$tmp/said"
digest=$(sed -n 's/^    written  \([0-9a-f]*\)  equal$/\1/p' "$tmp/said")
says "^$digest  /"
says '^    all  *[0-9]*  *1  '
says '^frames '
says 'every slot is in exactly one place'
work=$(sed -n 's/.* serves \(.*\)\/slabd.sock$/\1/p' "$tmp/said")
[ -n "$work" ] || fail "it does not say where it serves"
[ ! -e "$work" ] || fail "left behind: $work"

head -c 100000 "$builddir/config.status" >"$tmp/small"
(cd "$tmp" && "$srcdir/quickstart" small) >"$tmp/said" 2>&1 ||
	fail "a path relative to where it is called: exit status $?"
refuses '/none: no such file' /none
refuses 'not a regular file' "$tmp"
refuses 'usage: ' "$tmp/small" "$tmp/small"
refuses 'usage: ' --help
