#!/bin/sh
# mutants.sh [--apply-only | --run]: the tests are tested. Each patch here puts one defect
# into the sources, and the test that its first line names must fail for it:
#
#	DEFECT | TEST
#
# TEST is a program below the build tree and its arguments, quoted as for a shell; of
# a Criterion program the tests to run, as a pattern. In front of it may stand:
#
#	hangs	it fails by not ending; only then does a time limit count as caught
#	races	it takes luck to fail, so it has several tries, and no other mutant
#		beside it: where two must meet they need two processors
#	tsan	that, and built with ThreadSanitizer, since this processor does not
#		show what is missing
#
# `make check-mutants` does that in a directory of its own, $mutants: the sources
# as they are in src, build trees of them beside it, and for each mutant a copy
# of both, so that make compiles what the patch reaches and links one test, and
# $MUTANTS_JOBS go on at a time. MUTANTS='003 017' selects some. What a mutant
# printed stays in $mutants/NUMBER.log. Exit status 1: a mutant was not caught, or
# not tried, or there was none. Some tests are skipped for who is not root; that
# is no pass.
#
# Without --run it is only seen that all patches still fit $srcdir.

set -u
LC_ALL=C; export LC_ALL
srcdir=${srcdir:-$(dirname "$0")/../..}
: "${mutants:=$PWD/mutants}" "${MUTANTS:=}" "${MUTANTS_JOBS:=$(($(nproc) + 1))}"
export srcdir mutants MUTANTS MUTANTS_JOBS
LIMIT=150  # seconds for a test
HANGS=20   # for one that will hang
RACES=20   # tries where two must meet
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

# Of $patch: number, defect, test; tree, hangs, tries, program, arguments.
read_head() {
	number=${patch##*/} number=${number%%-*}
	IFS='|' read -r defect test <"$patch"
	defect=${defect% } test=${test# }
	tree=build hangs= tries=1
	rest=$test
	case $rest in
	'tsan '*) tree=tsan tries=$RACES rest=${rest#tsan } ;;
	'hangs '*) hangs=yes rest=${rest#hangs } ;;
	'races '*) tries=$RACES rest=${rest#races } ;;
	esac
	program=${rest%% *}
	arguments=${rest#"$program"}
	arguments=${arguments# }
}

# What make is told to build.
targets() {
	case $program in
	tests/unit/* | tests/stress/rings) ;;
	*) echo slabd ;;
	esac
	echo "$program"
}

# run DIRECTORY: the test of the build tree there; its status.
run() {
	limit=$LIMIT at=$1
	[ -z "$hangs" ] || limit=$HANGS
	case $program in
	*/test_*) set -- --tap=- --filter="$arguments" ;;
	*) eval "set -- $arguments" ;;
	esac
	(cd "$at/$tree" && builddir=$PWD srcdir=$at/src \
	    TSAN_OPTIONS=halt_on_error=1 \
	    timeout -k 5 "$limit" "./$program" "$@") >"$log" 2>&1
}

# Whether the test passes as it should, and was there at all.
passes() {
	run "$mutants" || return 1
	case $program in
	*/test_*) grep '^ok ' "$log" | grep -qv '# SKIP' ;;
	esac
}

# By what a test that ended with status $1 has caught the mutant.
caught_by() {
	race='^WARNING: ThreadSanitizer: \([a-z -]*[a-z]\).*'
	if [ "$1" -eq 124 ] || [ "$1" -eq 137 ] ||
	    grep -q '^not ok .* timed out' "$log"; then
		echo 'does not end'
	elif grep -q "$race" "$log"; then
		sed -n "s/$race/\1/p" "$log" | head -n 1
	elif grep -q '^not ok ' "$log"; then
		sed -n 's/^not ok - \([^ ]*\).*/\1/p' "$log" | head -n 1
	else
		echo "exit status $1"
	fi
}

# What becomes of the mutant in $patch, in $copy.
verdict() {
	mkdir "$copy" && cp -a "$mutants/src" "$mutants/$tree" "$copy" || exit 1
	fit -d "$copy/src" >"$log" 2>&1 || { echo 'DOES NOT APPLY'; return; }
	make -s -C "$copy/$tree" $(targets) >"$log" 2>&1 ||
	    { echo 'DOES NOT BUILD'; return; }
	status=0
	while [ "$status" -eq 0 ]; do
		[ "$tries" -gt 0 ] || { echo SURVIVED; return; }
		tries=$((tries - 1))
		run "$copy"
		status=$?
	done
	by=$(caught_by "$status")
	case $by:$hangs in
	'does not end:') echo 'TAKES TOO LONG' ;;
	*) echo "caught: $by" ;;
	esac
}

line='%-3s %-54s %-42s %s\n'
try() {
	copy=$mutants/$number log=$mutants/$number.log
	since=$(date +%s)
	result=$(verdict)
	rm -rf "$copy"
	printf "$line" "$number" "$defect" "$test" \
	    "$result, $(($(date +%s) - since)) s"
}

check() {
	log=$mutants/$number.log
	! passes || return 0
	tail -n 20 "$log" >&2
	echo "DOES NOT PASS without a mutant: $test" >&2
	return 1
}

# A build tree with all that the tests need.
prepare() {
	log=$mutants/$1.log
	mkdir "$mutants/$1" &&
	(cd "$mutants/$1" && shift &&
	    ../src/configure -q --disable-shared CFLAGS=-O1 "$@") >"$log" 2>&1 &&
	make -s -C "$mutants/$1" -j"$MUTANTS_JOBS" \
	    $(sort -u "$mutants/targets.$1") >"$log" 2>&1 && return
	tail -n 20 "$log" >&2
	echo 'DOES NOT BUILD without a mutant' >&2
	return 1
}

# each JOBS COMMAND: with the patches that are listed in the input.
each() {
	xargs -r -P "$1" -n 1 "$0" "$2"
}

apply_only() {
	failed=0 n=0
	for patch in $(selected); do
		n=$((n + 1))
		fit --dry-run -d "$srcdir" >/dev/null 2>&1 && continue
		echo "${patch##*/}: does not apply"
		failed=$((failed + 1))
	done
	echo "$n patches, $failed do not apply"
	[ "$n" -gt 0 ] && [ "$failed" -eq 0 ]
}

# Lists what to build, for each test one patch that names it, and the patches.
plan() {
	: >"$mutants/tests" >"$mutants/races" >"$mutants/others"
	for patch in $(selected); do
		read_head
		list=others
		[ "$tries" -eq 1 ] || list=races
		echo "$patch" >>"$mutants/$list"
		targets >>"$mutants/targets.$tree"
		printf '%s\t%s\n' "$test" "$patch" >>"$mutants/tests"
	done
	sort -u -t '	' -k 1,1 "$mutants/tests" | cut -f 2 >"$mutants/once"
}

run_all() {
	begun=$(date +%s)
	plan
	[ -s "$mutants/once" ] || { echo 'no such mutant' >&2; exit 1; }
	[ ! -e "$mutants/targets.build" ] || prepare build || exit 1
	[ ! -e "$mutants/targets.tsan" ] ||
	    prepare tsan --enable-sanitizers=thread || exit 1
	each "$MUTANTS_JOBS" --check <"$mutants/once" || exit 1
	printf "$line" NO DEFECT TEST RESULT
	{
		each 1 --try <"$mutants/races"
		each "$MUTANTS_JOBS" --try <"$mutants/others"
	} | tee "$mutants/table"
	n=$(selected | wc -l)
	caught=$(grep -c ' caught: [^ ]' "$mutants/table")
	echo "$n mutants, $((n - caught)) not caught," \
	    "$(($(date +%s) - begun)) seconds"
	[ "$caught" -eq "$n" ]
}

case ${1:---apply-only} in
--apply-only) apply_only ;;
--run) run_all ;;
--check) patch=$2; read_head; check ;;
--try) patch=$2; read_head; try ;;
esac
