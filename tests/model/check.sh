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

# check FLAG...: the model in $model; leaves what pan said in $dir/said.
check() {
	rm -f "$dir/$model.pml.trail"
	(cd "$dir" && "$SPIN" -a "$@" "$model.pml" >said 2>&1 &&
	    "$CC" -O2 -w -DSAFETY -DCOLLAPSE -DMEMLIM="$memory" -o pan pan.c \
		>>said 2>&1 && ./pan -m"$depth" >said 2>&1)
}

memory=3500 depth=20000
[ -z "$MODEL_LONG" ] || memory=16000
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
