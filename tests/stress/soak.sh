#!/bin/sh
# Clients work and are killed for a long time, in its first half the daemon too
# now and then; memory, descriptors and names must stay flat.
#
#	SOAK_SECONDS	how long (20)
#	SEED		(the clock)
set -eu
: "${builddir:?run by make check}"
seconds=${SOAK_SECONDS:-20}
# Some daemons die in a short one, not all too many in a long one.
percent=2
[ "$seconds" -ge 300 ] || percent=30
exec "$builddir/tests/stress/lanes" -T "$seconds" -d "$percent" \
    -s "${SEED:-$(date +%s)}" -v
