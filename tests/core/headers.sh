#!/bin/sh
# <slab.h> and <slab.hpp> compile without a warning in every standard they are
# for, and what SLAB_FITS and SLAB_LOCK_OPS are to refuse does not compile.

srcdir=${srcdir:-.}
dir=$(mktemp -d) || exit 99
trap 'rm -rf "$dir"' EXIT
tried=0

cat >"$dir/good.c" <<'END'
#include "slab.h"
struct lock { int word; };
static void turn(struct lock *lock) { lock->word = !lock->word; }
SLAB_FITS(struct slab_geom, 64);
SLAB_FITS(long, 64);
SLAB_LOCK_OPS(ops, struct lock, turn, turn, turn);
int use(struct slab *s, const struct slab_lock_ops **lock);
int use(struct slab *s, const struct slab_lock_ops **lock)
{
	SLAB_FITS(int, 4);
	SLAB_SCOPED(s, int, p);

	*lock = &ops;
	return p ? *p : SLAB_ENOMEM;
}
END
{ echo '#include "slab.hpp"'; cat "$dir/good.c"; } >"$dir/good.cc"
echo '#include "slab.h"
SLAB_FITS(long, 4);' >"$dir/bad1.c"
echo '#include "slab.h"
SLAB_FITS(long, 12);' >"$dir/bad2.c"
echo '#include "slab.h"
struct lock { char state[17]; };
void turn(struct lock *lock);
SLAB_LOCK_OPS(ops, struct lock, turn, turn, turn);' >"$dir/bad3.c"

good()
{
	"$1" "-std=$2" -Wall -Wextra -Wshadow -pedantic -Werror \
	    -I"$srcdir/lib" -c "$dir/$3" -o "$dir/good.o" || {
		echo "$1 -std=$2: not clean"
		exit 1
	}
	tried=$((tried + 1))
}

bad()
{
	for file in bad1 bad2 bad3; do
		"$1" "-std=$2" $3 -w -I"$srcdir/lib" -c "$dir/$file.c" \
		    -o "$dir/bad.o" 2>/dev/null || continue
		echo "$1 -std=$2: $file.c compiled"
		exit 1
	done
}

for cc in gcc clang; do
	command -v "$cc" >/dev/null 2>&1 || continue
	for std in c99 c11 c17 c2x gnu99 gnu2x; do
		good "$cc" "$std" good.c
		bad "$cc" "$std"
	done
done
for cxx in g++ clang++; do
	command -v "$cxx" >/dev/null 2>&1 || continue
	for std in c++11 c++14 c++17 c++20; do
		good "$cxx" "$std" good.cc
		bad "$cxx" "$std" "-x c++"
	done
done
echo "$tried ways"
[ "$tried" -gt 0 ] || exit 77
