#!/bin/sh
# Checks the models with spin: each as it is built, which must hold in every state
# there is, and each with a part left out, which must fail, and by the property
# named here: a model that cannot fail proves nothing.
#
#	check.sh [MODEL...]		MODEL_LONG=1: larger sizes, and more memory
#
# Exit status 1: a verdict that was not expected, a search that was not complete,
# or nothing to run.

set -u
srcdir=${srcdir:-$(dirname "$0")/../..}
: "${CC:=gcc}" "${SPIN:=spin}" "${MODEL_LONG:=}"
command -v "$SPIN" >/dev/null || { echo "check.sh: needs spin" >&2; exit 1; }
dir=$(mktemp -d "${TMPDIR:-/tmp}/slabd-model.XXXXXX") || exit 1
trap 'rm -rf "$dir"' EXIT
trap 'exit 1' HUP INT PIPE TERM

# model | variant | passes, or the property that fails | form | flags
table() {
	cat <<-'END'
	doorbell|as built|passes|short|
	doorbell|as built, more|passes|long|-DWAITS=1 -DTAKERS=2
	doorbell|client: no fence before SLEEPING|watermark_kept|short|-DNO_CLIENT_FENCE -DTAKERS=0
	doorbell|client: the same, grant ring|grants_topped_up|short|-DNO_CLIENT_FENCE
	doorbell|client: EAGER loaded before the tail is stored|waiter_served|short|-DFLAG_FIRST -DTAKERS=0
	doorbell|daemon: no fence after SLEEPING|watermark_kept|short|-DNO_DAEMON_FENCE -DTAKERS=0
	doorbell|daemon: no second look|watermark_kept|short|-DNO_SECOND_LOOK -DTAKERS=0
	doorbell|daemon: second look at the return rings only|grants_topped_up|short|-DTAILS_ONLY
	doorbell|daemon: no membarrier after EAGER|waiter_served|short|-DNO_MEMBARRIER -DTAKERS=0
	doorbell|daemon: membarrier before EAGER|waiter_served|short|-DBARRIER_FIRST -DTAKERS=0
	handoff|as built, with shares|passes|short|
	handoff|as built, longer chains of sends|passes|short|-DNO_SHARE -DSTEPS=4
	handoff|as built, a liar among the clients|passes|short|-DHOSTILE -DSTEPS=2
	handoff|as built, more|passes|long|-DSTEPS=3 -DCOPIES=2 -DRECALLS=2
	handoff|as built, a liar, more|passes|long|-DHOSTILE -DSTEPS=3
	handoff|no version: by state alone|refused_a_liar|short|-DBY_STATE
	handoff|judged in the sweep that read it|refused_a_liar|short|-DSAME_SWEEP
	handoff|a liar, the lane parked|refused_a_liar|short|-DHOSTILE -DPARK_LANE
	handoff|a liar, order by slot, not by version|refused_a_liar|short|-DHOSTILE -DORDER_BY_SLOT
	revoke|as built|passes|short|-DSTEPS=3
	revoke|as built, more|passes|long|
	revoke|receiver: no second look|believed_by_one|short|-DSTEPS=3 -DNO_SECOND_LOOK
	revoke|receiver: looks for REVOKED, not for its version|believed_by_one|short|-DSTEPS=3 -DREVOKED_ONLY
	revoke|sender: no second look at recall|believed_by_one|short|-DSTEPS=3 -DRECALL_NO_LOOK
	revoke|daemon: no membarrier|believed_by_one|short|-DSTEPS=3 -DNO_MEMBARRIER
	revoke|daemon: exchanges the claim, whatever its version|claim_was_closed|short|-DSTEPS=3 -DBLIND
	magazine|as built|passes|short|
	magazine|as built, more|passes|long|-DOPERATIONS=6 -DNOTICES=3
	magazine|owner: uses it again before DONE|slot_at_hand|short|-DEARLY_RESUME
	magazine|owner: no look at NOTICE at the end|none_hoarded|short|-DNO_LAST_LOOK
	magazine|owner: BUSY cleared without release|freed_by_holder|short|-DBUSY_RELAXED
	magazine|both: load and store instead of exchange|freed_by_holder|short|-DPLAIN_TAKE
	magazine|daemon: no membarrier|freed_by_holder|short|-DNO_MEMBARRIER
	magazine|daemon: BUSY loaded before the membarrier|given_to_one|short|-DBUSY_BEFORE_BARRIER
	magazine|daemon: frees at once, not behind the lane|freed_by_holder|short|-DFREE_AT_ONCE
	grants|as built, two kills|passes|short|-DGRANTS=4 -DBACKS=1
	grants|as built, no kill|passes|short|-DKILLS=0
	grants|as built, two kills, more|passes|long|-DGRANTS=5 -DBACKS=1
	grants|the copy's next place not cleared|taken_is_granted|short|-DNOT_CLEARED -DTHREADS=1
	grants|taken back without closing the head|one_owner|short|-DNOT_CLOSED -DTHREADS=1
	grants|indexes that come back|taken_is_granted|short|-DSMALL_INDEX -DKILLS=0
	restart|as built, three kills|passes|short|-DMORTAL=2
	restart|as built, the client with the ring may die|passes|short|-DGRANTS=2
	restart|as built, the other may|passes|short|-DGRANTS=2 -DMORTAL=1
	restart|as built, the one may die, more|passes|long|-DSENDS=2
	restart|as built, the other may, more|passes|long|-DSENDS=2 -DMORTAL=1
	restart|the copy's next place not cleared|taken_is_granted|short|-DMORTAL=2 -DNOT_CLEARED
	restart|goes on at the tail the client can see|one_place|short|-DMORTAL=2 -DSHARED_TAIL
	restart|a grant that never was, its copy not cleared|free_is_nobodys|short|-DMORTAL=2 -DNOT_DROPPED
	restart|taken back: freed before the ring is closed|taken_is_granted|short|-DMORTAL=2 -DFREED_FIRST
	restart|a record seen twice is a record|none_refused|short|-DMORTAL=2 -DSEEN_TWICE
	restart|the dead reclaimed without a sweep|free_is_nobodys|short|-DNOT_SWEPT
	marks|as built, three kills|passes|short|-DMOVES=2
	marks|as built, three kills, more|passes|long|
	marks|bits cleared before the head moves|none_refused|short|-DMOVES=2 -DBITS_FIRST
	marks|bits never cleared|applied_once|short|-DMOVES=2 -DNEVER_CLEARED
	marks|not noted what is cleared|applied_once|short|-DMOVES=2 -DNO_CLEARING
	marks|a receipt without intent|none_refused|short|-DMOVES=2 -DNO_INTENT
	marks|intent ended before the mark|none_refused|short|-DMOVES=2 -DINTENT_ENDS_FIRST
	marks|start: marked although it was|applied_once|short|-DMOVES=2 -DMARK_AGAIN
	marks|start: looked for at its turn only|none_refused|short|-DMOVES=2 -DAT_ITS_TURN
	seize|as built, three kills|passes|short|-DOPERATIONS=3
	seize|as built, three kills, more|passes|long|-DOPERATIONS=4
	seize|daemon: leaves 0, not MARK|one_place|short|-DLEAVES_ZERO
	seize|owner: takes MARK away|one_place|short|-DTAKES_MARK
	seize|daemon: not noted|one_place|short|-DNOT_NOTED
	seize|daemon: noted after the exchange|one_place|short|-DNOTED_LATE
	seize|daemon: note ended before the slot is free|one_place|short|-DENDED_EARLY
	seize|start: DONE before it is finished|one_place|short|-DDONE_FIRST
	seize|start: no DONE|usable_again|short|-DNEVER_DONE
	again|as built, three kills|passes|short|
	again|as built, three kills, more|passes|long|-DSTEPS=4
	again|intent before the lanes are drained|believed_by_one|short|-DINTENT_FIRST
	again|start: intent kept if it was not carried out|believed_by_one|short|-DINTENT_KEPT
	again|intent looked at when it is asked again|believed_by_one|short|-DAT_ITS_TURN
	again|start: what was taken is not given back|receivable|short|-DNOT_GIVEN_BACK
	journal|as built, three kills|passes|short|
	journal|as built, three kills, more|passes|long|-DGRANTS=3
	journal|start: what was not granted stays in it|given_to_one|short|-DNOT_TRIMMED
	journal|found by its tag only, when asked again|none_lost|short|-DBY_TAG
	journal|written after the word|none_lost|short|-DWORDS_FIRST
	END
}

# What pan said: "passes", the property that failed, or why nobody knows.
verdict() {
	if property=$(sed -n 's/^pan:[0-9]*: \(assertion violated \)\{0,1\}\(.*\) (at depth.*/\2/p' \
	    "$dir/said" | head -n 1) && [ -n "$property" ]; then
		echo "$property"
	elif grep -q 'max search depth too small' "$dir/said"; then
		echo 'too deep'
	elif ! grep -q 'errors: 0$' "$dir/said" ||
	    grep -qE 'Search not completed|out of memory|MEMLIM' "$dir/said"; then
		echo 'not complete'
	else
		echo passes
	fi
}

# check FLAG...: the model in $model; leaves what pan said in $dir/said. What
# fails does so soon: there the compiler would take longer than the search.
check() {
	rm -f "$dir/$model.pml.trail"
	[ "$expected" = passes ] && optimize=-O2 || optimize=-O0
	(cd "$dir" && "$SPIN" -a "$@" "$model.pml" >said 2>&1 &&
	    "$CC" $optimize -w -DSAFETY $compress -DMEMLIM="$memory" \
		-o pan pan.c >>said 2>&1 && ./pan -m"$depth" >said 2>&1)
}

memory=3500 depth=20000 compress=
[ -z "$MODEL_LONG" ] || { memory=16000; compress=-DCOLLAPSE; }
cp "$srcdir"/tests/model/*.pml "$dir" || exit 1
table >"$dir/table"
runs=0 surprises=0
line='%-9s %-50s %-16s %-16s %9s\n'
printf "$line" MODEL VARIANT EXPECTED GOT STATES
while IFS='|' read -r model variant expected form flags; do
	case " $* " in
	'  ' | *" $model "*) ;;
	*) continue ;;
	esac
	[ "$form" = short ] || [ -n "$MODEL_LONG" ] || continue
	check $flags </dev/null
	got=$(verdict)
	states=$(sed -n 's/^ *\([0-9]*\) states, stored.*/\1/p' "$dir/said")
	printf "$line" "$model" "$variant" "$expected" "$got" "${states:--}"
	runs=$((runs + 1))
	[ "$got" != "$expected" ] || continue
	surprises=$((surprises + 1))
	echo "^^^ not as expected; $model.pml $flags" >&2
	if [ -e "$dir/$model.pml.trail" ]; then
		(cd "$dir" && "$SPIN" -t -p $flags "$model.pml" | tail -n 60) >&2
	else
		tail -n 20 "$dir/said" >&2
	fi
done <"$dir/table"
echo "$runs runs, $surprises not as expected"
[ "$runs" -gt 0 ] && [ "$surprises" -eq 0 ]
