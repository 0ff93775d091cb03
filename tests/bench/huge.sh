#!/bin/sh
# huge.sh COMMAND...: runs it with some 2 MiB pages at hand, where root can have
# them: then $HUGE_DIR is a file system of them that nobody else sees. At the end
# they are given back. $RUNTIME_DIRECTORY is for DPDK's own files.
set -eu
knob=/proc/sys/vm/nr_hugepages
wanted=24
before=$(cat $knob 2>/dev/null || echo 0)
dir=$(mktemp -d /tmp/slabd-bench.XXXXXX)
mkdir "$dir/pages" "$dir/run"
export RUNTIME_DIRECTORY="$dir/run"

put_back() {
	status=$?
	trap - EXIT
	[ "$(cat $knob 2>/dev/null || echo 0)" = "$before" ] ||
	    echo "$before" >$knob
	rm -rf "$dir"
	exit $status
}
trap put_back EXIT
trap 'exit 1' HUP INT TERM

free_pages() {
	awk '$1 == "HugePages_Free:" { print $2 }' /proc/meminfo
}

can_have() {
	[ "$(id -u)" = 0 ] && echo $((before + wanted)) >$knob &&
	    [ "$(free_pages)" -ge $wanted ] &&
	    unshare -m mount -t hugetlbfs none "$dir/pages"
}

if can_have 2>/dev/null; then
	HUGE_DIR=$dir/pages unshare -m sh -c \
	    'mount -t hugetlbfs none "$HUGE_DIR" && exec "$@"' sh "$@"
else
	"$@"
fi
