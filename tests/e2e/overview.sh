#!/bin/sh
# The program in slabd(7), as it stands in the page, does what the page says.

. "${srcdir:-.}/tests/e2e/lib.sh"

start_daemon '{ "pools": [ { "name": "frames", "slot_size": "64K",
	"slots_per_segment": 64, "max_segments": 16 } ] }'

said=$("$builddir/tests/e2e/overview") || fail "it failed"
echo "$said"
expr "$said" : 'hello from [0-9]*$' >/dev/null || fail "it said: $said"
