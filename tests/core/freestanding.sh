#!/bin/sh
# The core needs nothing: compiled freestanding at every level, its objects ask
# for no symbol but their own, and a program of just them and a _start runs.

srcdir=${srcdir:-.}
case $(uname -m) in
x86_64 | aarch64) ;;
*) echo "no _start for $(uname -m)"; exit 77 ;;
esac

dir=$(mktemp -d) || exit 99
trap 'rm -rf "$dir"' EXIT
tried=0

try()
{
	cc=$1 level=$2
	flags="-std=c11 -ffreestanding -nostdlib -fno-stack-protector -fno-pie"
	for part in lib/slots lib/slab tests/core/freestanding; do
		"$cc" $flags "$level" -I"$srcdir/lib" -c "$srcdir/$part.c" \
		    -o "$dir/${part##*/}.o" || exit 1
	done
	"$cc" -nostdlib -r "$dir/slots.o" "$dir/slab.o" \
	    -o "$dir/core.o" || exit 1
	missing=$(nm -u "$dir/core.o")
	if [ -n "$missing" ]; then
		echo "$cc $level: the core asks for" $missing
		exit 1
	fi
	"$cc" -nostdlib -static "$dir/core.o" "$dir/freestanding.o" \
	    -o "$dir/program" || exit 1
	"$dir/program" || { echo "$cc $level: line $?"; exit 1; }
	echo "$cc $level: ok"
	tried=$((tried + 1))
}

for cc in ${CC:-gcc clang}; do
	command -v "$cc" >/dev/null 2>&1 || continue
	for level in -O0 -O1 -O2 -O3 -Os; do
		try "$cc" "$level"
	done
done
[ "$tried" -gt 0 ] || exit 77
