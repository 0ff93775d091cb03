#!/bin/sh
# The client in Python does everything once, also with a daemon that is killed
# and another one, and says what is wrong when something is; then the daemon is
# held to the page it was written from.

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

kill_daemon()
{
	kill -KILL "$SLABD_PID"
	wait "$SLABD_PID" 2>/dev/null || true
}

start_again()
{
	run_daemon "$SLABD" -c "$tmp/slabd.conf" -s "$SLABD_SOCKET"
	wait_serving
}

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

# Both processes meet another daemon, one of them with a slot in hand.
mkfifo "$tmp/enter"
"$python" "$client" --pause <"$tmp/enter" >"$tmp/out" 2>"$tmp/err" &
pid=$!
exec 8>"$tmp/enter"
while ! grep -q 'press Enter' "$tmp/out"; do
	kill -0 $pid 2>/dev/null || break
	sleep 0.02
done
kill_daemon
start_again 8>&-
echo >&8
exec 8>&-
wait $pid || fail "client.py --pause: $(cat "$tmp/out" "$tmp/err")"
grep -q 'another daemon knows us' "$tmp/out" ||
	fail "the client met no other daemon: $(cat "$tmp/out")"

# It has the daemon killed and started when it wants to.
mkfifo "$tmp/wishes" "$tmp/answers"
"$python" "${srcdir:-.}/tests/e2e/protocol_rules.py" "$client" "$SLABD_SOCKET" \
	messages "$tmp/slabd.conf" >"$tmp/wishes" <"$tmp/answers" &
pid=$!
exec 9<"$tmp/wishes" 8>"$tmp/answers"
while read -r wish <&9; do
	case $wish in
	kill)	kill_daemon ;;
	start)	start_again 8>&- 9<&- ;;
	*)	fail "the rules want '$wish'" ;;
	esac
	echo done >&8
done
exec 8>&- 9<&-
wait $pid || fail "the daemon breaks a rule of the page"
"$SLABCTL" audit || fail "the books do not balance"
