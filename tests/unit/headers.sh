#!/bin/sh
# The installed headers compile without a warning in every dialect they are
# promised for, also under a library that takes common words for itself.
set -eu
: "${srcdir:=.}"
tmp=$(mktemp -d /tmp/slabd-headers.XXXXXX)
trap 'rm -rf "$tmp"' EXIT
status=0

cat >"$tmp/c.c" <<'END'
#define slots
#define signals
#define emit
#include <slabd.h>
#include <slab.h>

struct frame {
	int width;
};

int use(struct slabd_pool *pool);

int
use(struct slabd_pool *pool)
{
	struct slabd_options options = SLABD_OPTIONS_INIT;
#ifdef __GNUC__
	SLABD_SCOPED(pool, struct frame, frame);

	if (frame == NULL)
		return -1;
	frame->width = options.flags == 0;
	return frame->width;
#else
	return options.flags == 0 && pool != NULL;
#endif
}
END
sed 's/<slabd.h>/<slabd.hpp>/; s/<slab.h>/<slab.hpp>/' "$tmp/c.c" >"$tmp/cc.cc"
cat >>"$tmp/cc.cc" <<'END'
slabd_ref pass(slabd::connection &daemon);

slabd_ref
pass(slabd::connection &daemon)
{
	slabd::pool frames(daemon, "frames", SLABD_NO_LANE);
	auto frame = frames.alloc<struct frame>();
	slabd::slot<void> raw = frames.alloc_wait(10);
	auto many = frames.alloc_many<const struct frame>(3);

	frame->width = static_cast<int>(frames.slot_size());
	frames.want(1);
	frames.share(many[0], 2);
	frames.recall(frames.send(std::move(raw)), 1);
	frame = frames.receive<struct frame>(frames.send(std::move(frame)));
	return static_cast<slabd_ref>(frames.flush(0));
}
END

# try COMPILER STANDARD FILE [WARNING...]
try() {
	compiler=$1 standard=$2 file=$3
	shift 3
	command -v "$compiler" >/dev/null || return 0
	"$compiler" -std="$standard" -Wall -Wextra -Wshadow -pedantic -Werror \
	    "$@" -I"$srcdir/lib" -fsyntax-only "$tmp/$file" || {
		echo "FAIL: $compiler -std=$standard $file" >&2
		status=1
	}
}

for compiler in gcc clang; do
	for standard in c99 c11 c17 c2x gnu99; do
		try "$compiler" "$standard" c.c
	done
done
for compiler in g++ clang++; do
	for standard in c++11 c++14 c++17 c++20; do
		try "$compiler" "$standard" cc.cc -Wold-style-cast
	done
done
exit $status
