#!/bin/sh
# mutants.sh [--apply-only | --run]: the tests are tested. Each patch here puts one defect
# into the sources, and the test that its first line names must fail for it:
#
#	DEFECT | TEST
#
# TEST is a program below the build tree and its arguments, quoted as for a shell; of
# a Criterion program the tests to run, as a pattern. "tsan" in front of it: built with
# ThreadSanitizer, since this processor does not show what is missing. "hangs" in
# front of it: it fails by not ending; only then does a time limit count as
# caught.
#
# `make check-mutants` does that in a tree of its own, $mutants: a copy of the
# sources in src, where patches come and go, and build trees beside it. What takes
# time is the compiler, so patches to the same file have numbers side by side.
# MUTANTS='03 17' selects some. Exit status 1: a mutant was not caught, or not
# tried, or there was none.
#
# Without --run it is only seen that all patches still fit $srcdir.

set -u
LC_ALL=C; export LC_ALL
srcdir=${srcdir:-$(dirname "$0")/../..}
: "${mutants:=$PWD/mutants}" "${MUTANTS:=}" "${MUTANTS_JOBS:=2}"
LIMIT=150  # seconds for a test
HANGS=20   # for one that will hang
here=$(cd "$srcdir" && pwd)/tests/mutants
unset MAKEFLAGS MFLAGS MAKELEVEL
command -v patch >/dev/null || { echo 'mutants.sh: needs patch' >&2; exit 77; }

selected() {
	for patch in "$here"/*.patch; do
		number=${patch##*/} number=${number%%-*}
		case " ${MUTANTS:-$number} " in
		*" $number "*) echo "$patch" ;;
		esac
	done
}

# fit OPTION...: the patch, with no more than the context that it has.
fit() {
	patch -p1 -F0 -s -f -r - "$@" <"$patch"
}

# Sets: defect, tree, hangs, program, arguments.
read_head() {
	IFS='|' read -r defect test <"$patch"
	defect=${defect% }
	tree=build hangs=
	rest=${test# }
	case $rest in
	'tsan '*) tree=tsan rest=${rest#tsan } ;;
	'hangs '*) hangs=yes rest=${rest#hangs } ;;
	esac
	program=${rest%% *}
	arguments=${rest#"$program"}
	arguments=${arguments# }
}

build() {
	case $program in
	tests/unit/* | tests/stress/rings) daemon= ;;
	*) daemon=slabd ;;
	esac
	make -s -C "$mutants/$tree" -j"$MUTANTS_JOBS" $daemon "$program" \
	    >"$mutants/log" 2>&1
}

# Runs the test in a directory for its temporary files; its status.
run() {
	limit=$LIMIT
	[ -z "$hangs" ] || limit=$HANGS
	case $program in
	*/test_*) set -- --tap=- --filter="$arguments" ;;
	*) eval "set -- $arguments" ;;
	esac
	(cd "$mutants/$tree" && builddir=$PWD srcdir=$mutants/src \
	    TSAN_OPTIONS=halt_on_error=1 \
	    timeout -k 5 "$limit" "./$program" "$@") >"$mutants/log" 2>&1
}

# Whether the test passes as it should, and was there at all.
passes() {
	run || return 1
	case $program in
	*/test_*) grep -q '^ok ' "$mutants/log" ;;
	esac
}

# By what a test that ended with status $1 has caught the mutant.
caught_by() {
	case $1 in
	124 | 137) echo 'does not end'; return ;;
	esac
	if grep -q 'WARNING: ThreadSanitizer' "$mutants/log"; then
		sed -n 's/^WARNING: ThreadSanitizer: \([a-z -]*[a-z]\).*/\1/p' \
		    "$mutants/log" | head -n 1
	elif grep -q '^not ok ' "$mutants/log"; then
		sed -n 's/^not ok - \([^ ]*\).*/\1/p' "$mutants/log" | head -n 1
	else
		echo "exit status $1"
	fi
}

# What becomes of the mutant in $patch.
try() {
	fit -d "$mutants/src" >/dev/null 2>&1 || { echo 'DOES NOT APPLY'; return; }
	if ! build; then
		echo 'DOES NOT BUILD'
	elif run; then
		echo SURVIVED
	else
		status=$?
		by=$(caught_by "$status")
		case $by:$hangs in
		'does not end:') echo 'TAKES TOO LONG' ;;
		*) echo "caught: $by" ;;
		esac
	fi
	fit -R -d "$mutants/src" >/dev/null
}

configure() {
	case $1 in
	tsan) set -- "$1" --enable-sanitizers=thread ;;
	esac
	mkdir -p "$mutants/$1" || return 1
	[ -e "$mutants/$1/Makefile" ] || (cd "$mutants/$1" &&
	    shift && ../src/configure -q --disable-shared CFLAGS=-O1 "$@") \
		>"$mutants/log" 2>&1
}

# Each test once on what is not changed.
check_tests() {
	for patch in $(selected); do
		read_head
		! grep -qxF -e "$test" "$mutants/passed" || continue
		if ! configure "$tree" || ! build; then
			tail -n 20 "$mutants/log" >&2
			echo "DOES NOT BUILD without a mutant:$test"
			return 1
		elif ! passes; then
			tail -n 20 "$mutants/log" >&2
			echo "DOES NOT PASS without a mutant:$test"
			return 1
		fi
		echo "$test" >>"$mutants/passed"
	done
}

if [ "${1:---apply-only}" = --apply-only ]; then
	failed=0 n=0
	for patch in $(selected); do
		n=$((n + 1))
		fit --dry-run -d "$srcdir" >/dev/null 2>&1 && continue
		echo "${patch##*/}: does not apply"
		failed=$((failed + 1))
	done
	echo "$n patches, $failed do not apply"
	[ "$n" -gt 0 ] && [ "$failed" -eq 0 ]
	exit
fi

: >"$mutants/passed" || exit 1
check_tests || exit 1
line='%-3s %-54s %-42s %s\n'
n=0 bad=0
printf "$line" NO DEFECT TEST RESULT
for patch in $(selected); do
	read_head
	result=$(try)
	number=${patch##*/}
	printf "$line" "${number%%-*}" "$defect" "${test# }" "$result"
	n=$((n + 1))
	case $result in
	caught:*) ;;
	*) bad=$((bad + 1)) ;;
	esac
done
echo "$n mutants, $bad not caught"
[ "$n" -gt 0 ] && [ "$bad" -eq 0 ]
