#!/bin/sh
# The client in Python does everything once, and says what is wrong when
# something is; then the daemon is held to the page it was written from.

. "${srcdir:-.}/tests/e2e/lib.sh"

client=${srcdir:-.}/clients/examples/client.py
python=${PYTHON:-python3}

"$python" -c 'import socket; socket.recv_fds' 2>/dev/null || {
	echo "needs Python 3.9"
	exit 77
}

# complains WORDS ARGS...: the client fails, in one line with these words.
complains()
{
	words=$1
	shift
	"$python" "$client" "$@" >"$tmp/out" 2>"$tmp/err" &&
		fail "client.py $*: should fail"
	grep -q "^client.py: .*$words" "$tmp/err" ||
		fail "client.py $*: no '$words' in: $(cat "$tmp/err")"
	! grep -q Traceback "$tmp/err" || fail "client.py $*: a traceback"
}

start_daemon '{ "pools": [
	{ "name": "messages", "slot_size": 4096, "slots_per_segment": 4,
	  "max_segments": 1, "orphan_seconds": 60 },
	{ "name": "forbidden", "slot_size": 4096, "slots_per_segment": 4,
	  "max_segments": 4, "access": [ { "user": 65533, "rights": "r" } ] } ] }'

"$python" "$client" -p messages >"$tmp/out" 2>"$tmp/err" ||
	fail "client.py: $(cat "$tmp/out" "$tmp/err")"
cat "$tmp/out"
grep -q 'consumer: received .* given away' "$tmp/out" ||
	fail "what was sent did not arrive"
grep -q 'consumer: received .* shared with two' "$tmp/out" ||
	fail "what was shared did not arrive"

complains 'there is no pool' -p nowhere
complains 'may not' -p forbidden
complains 'No such file' -s "$tmp/nowhere.sock"

"$python" "${srcdir:-.}/tests/e2e/protocol_rules.py" "$client" \
	"$SLABD_SOCKET" messages "$tmp/slabd.conf" ||
	fail "the daemon breaks a rule of the page"
"$SLABCTL" audit || fail "the books do not balance"
