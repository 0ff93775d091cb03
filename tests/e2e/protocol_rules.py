#!/usr/bin/env python3
"""Holds a daemon to the rules of slabd-protocol(7), packet by packet.

usage: protocol_rules.py CLIENT.PY SOCKET POOL CONFIG

The pool has one segment of 4 slots that nobody else uses; CONFIG is the
daemon's file, where it says "max_segments": 1 once. Whoever runs the script is
told "kill" and "start" on its standard output, and answers each with a line
when the daemon is dead, or another one serves. Each function is one rule; the
first that is broken ends the script with its name.
"""

import errno
import fcntl
import importlib.util
import mmap
import os
import socket
import struct
import sys
import time

sys.dont_write_bytecode = True
spec = importlib.util.spec_from_file_location("client", sys.argv[1])
slabd = importlib.util.module_from_spec(spec)
spec.loader.exec_module(slabd)
PATH, POOL, CONFIG = sys.argv[2:]
SLOTS = 4
RETIRED, RESIZED = 0x4001, 0x4002
HELD = 40
KIND, VERSION = 1 << 24, 25     # in a ref


def refs(*values):
    return struct.pack(f"<{len(values)}Q", *values)


def same(got, wanted):
    if got != wanted:
        raise AssertionError(f"got {got}, wanted {wanted}")


def error(number, call, *args, **kwargs):
    """The call must be refused with this error."""
    try:
        result = call(*args, **kwargs)
    except slabd.Refused as e:
        same(errno.errorcode.get(e.errno), errno.errorcode[number])
        return
    raise AssertionError(f"got {result}, wanted {errno.errorcode[number]}")


def connect():
    """A bare socket."""
    s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    s.settimeout(10)
    s.connect(PATH)
    return s


def ended(s):
    try:
        same(s.recv(slabd.MESSAGE_MAX), b"")
    except ConnectionResetError:
        pass


def hello(magic=slabd.MAGIC, lowest=1, highest=1, session=0, token=0,
          rest=b"\0\0"):
    return slabd.HEADER.pack(slabd.HELLO, 0, 7, 0, 0) + struct.pack(
        "<IHHQQQ", magic, lowest, highest, 0, session, token) + rest


def status_of(packet):
    kind, _, tag, status, _ = slabd.HEADER.unpack_from(packet)
    return kind, tag, status


def first_message(c, pool):
    for packet, number in (
            (slabd.HEADER.pack(slabd.PING, 0, 7, 0, 0), errno.EPROTO),
            (slabd.HEADER.pack(999, 0, 7, 0, 0), errno.EPROTO),
            (hello(magic=1), errno.EPROTONOSUPPORT),
            (hello(lowest=2, highest=9), errno.EPROTONOSUPPORT),
            (hello(lowest=0, highest=0), errno.EPROTONOSUPPORT),
            (hello(rest=b"\5\0four"), errno.EINVAL)):
        with connect() as s:
            s.send(packet)
            kind, tag, status = status_of(s.recv(slabd.MESSAGE_MAX))
            same((kind & slabd.REPLY, tag, status), (slabd.REPLY, 7, -number))
            ended(s)
    with connect() as s:
        s.send(hello(lowest=0, highest=9))
        same(status_of(s.recv(slabd.MESSAGE_MAX))[2], 0)


def what_ends_a_connection(c, pool):
    fd = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
    for bad in (b"short", b"x" * (slabd.MESSAGE_MAX + 1)):
        with connect() as s:
            s.send(hello())
            s.recv(slabd.MESSAGE_MAX)
            s.send(bad)
            ended(s)
    with connect() as s:
        try:
            socket.send_fds(s, [hello()], [fd])
            ended(s)
        except PermissionError:
            pass                # where the kernel refuses them for the daemon
    os.close(fd)


def framed_well_but_wrong(c, pool):
    error(errno.ENOSYS, c.request, 999)
    error(errno.ENOSYS, c.request, slabd.PING | slabd.REPLY)
    error(errno.EINVAL, c.request, slabd.PING, flags=0x4000)
    error(errno.EINVAL, c.request, slabd.PING, b"body")
    error(errno.EPROTO, c.request, slabd.HELLO, hello()[16:])
    c.socket.send(slabd.HEADER.pack(slabd.PING, 0, 0xFFFFFFFF, 5, 0))
    error(errno.EINVAL, c.reply, 0xFFFFFFFF)
    error(errno.EINVAL, pool.request, slabd.ALLOC, b"\1\0\0\0", flags=2)
    error(errno.EINVAL, pool.request, slabd.ALLOC, b"\1")
    error(errno.EINVAL, pool.request, slabd.SEND, b"\1" * 9)
    error(errno.EINVAL, pool.request, slabd.FREE)
    error(errno.EINVAL, pool.request, slabd.FREE, b"\1" * 9)
    error(errno.EINVAL, pool.request, slabd.FREE, refs(*[1] * 1025))
    same(c.request(slabd.PING).body, b"")


def tag_zero(c, pool):
    slot = pool.alloc()
    silent = slabd.HEADER.pack(slabd.FREE, 0, 0, 0, pool.attachment)
    c.socket.send(silent + refs(slot.ref))
    c.socket.send(silent + refs(slot.ref))
    c.socket.send(slabd.HEADER.pack(slabd.PING, 0, 0, 0, 0))
    slot.forget()
    same(status_of(c.socket.recv(slabd.MESSAGE_MAX)),
         (slabd.PING | slabd.REPLY, 0, 0))


def attaching(c, pool):
    name = slabd.string(POOL)
    error(errno.ENOENT, c.attach, "nowhere")
    error(errno.ENOENT, c.attach, "")
    error(errno.EINVAL, c.request, slabd.ATTACH, struct.pack("<I", 8) + name)
    error(errno.EINVAL, c.request, slabd.ATTACH, struct.pack("<I", 0) +
          slabd.string("x" * 64))
    second = c.attach(POOL)
    slot = second.alloc()
    error(errno.EPERM, pool.request, slabd.FREE, refs(slot.ref))
    second.detach()
    error(errno.EBADF, second.request, slabd.FLUSH)
    error(errno.EBADF, c.request, slabd.ALLOC, b"\1\0\0\0", attachment=0)
    error(errno.EALREADY, pool.request, slabd.FREE, refs(slot.ref))


def reading_only(c, pool):
    reader = c.attach(POOL, readonly=True)
    slot = pool.alloc()
    ref = slot.share(1)
    error(errno.EACCES, reader.alloc)
    taken = reader.receive(ref)
    error(errno.EACCES, reader.request, slabd.SEND, refs(taken.ref))
    error(errno.EACCES, reader.request, slabd.SHARE, refs(taken.ref) +
          b"\1\0\0\0")
    error(errno.EACCES, reader.recall, ref)
    try:
        taken.memory[0] = 1
        raise AssertionError("a mapping for reading only was written")
    except TypeError:
        pass
    taken.free()
    slot.free()
    reader.detach()


def allocating(c, pool):
    for n in (0, 1025):
        error(errno.EINVAL, pool.alloc_many, n)
    slots = pool.alloc_many(1024)
    same(len(slots), SLOTS)
    same(len({slot.offset for slot in slots}), SLOTS)
    error(errno.ENOBUFS, pool.alloc)
    error(errno.ENOBUFS, pool.alloc_many, SLOTS + 1, wait=True)
    same(pool.request(slabd.FREE, refs(*[s.ref for s in slots])).status, SLOTS)
    for slot in slots:
        slot.forget()


def freeing(c, pool):
    slot, other = pool.alloc_many(2)
    bad = refs(slot.ref, slot.ref, 0xFFFFFF | slot.ref, other.ref + (1 << 25),
               other.ref)
    tag = c.send(slabd.FREE, bad, attachment=pool.attachment)
    while tag not in c.replies:
        c._read()
    reply = c.replies.pop(tag)
    same(reply.status, -errno.EALREADY)
    same(struct.unpack("<5i", reply.body),
         (0, -errno.EALREADY, -errno.EINVAL, -errno.EPERM, 0))
    slot.forget()
    other.forget()


def sending(c, pool):
    receiver = c.attach(POOL)
    slot = pool.alloc()
    held = slot.ref
    ref = slot.send()
    same(ref, held + (1 << 25))
    error(errno.EPERM, pool.request, slabd.FREE, refs(held))
    error(errno.EPERM, pool.request, slabd.SEND, refs(held))
    error(errno.EPERM, receiver.recall, ref)
    error(errno.ESTALE, receiver.receive, held)
    error(errno.ESTALE, receiver.receive, ref | 1 << 24)
    error(errno.EINVAL, receiver.receive, ref | 0xFFFFFF)
    same(pool.flush(), 1)
    got = receiver.receive(ref)
    same(got.ref, ref)
    same(pool.flush(), 0)
    error(errno.ESTALE, pool.receive, ref)
    same(pool.recall(ref), 0)
    got.free()
    error(errno.ESTALE, pool.recall, ref)
    slot = pool.alloc()
    ref = slot.send()
    same(pool.recall(ref, 1), 1)
    error(errno.ESTALE, receiver.receive, ref)
    pool.request(slabd.FREE, refs(ref))
    receiver.detach()


def sharing(c, pool):
    receiver = c.attach(POOL)
    slot = pool.alloc()
    error(errno.EINVAL, slot.share, 0)
    error(errno.EINVAL, slot.share, 256)
    ref = slot.share(4)
    same(ref >> 24 & 1, 1)
    error(errno.EBUSY, slot.share, 1)
    error(errno.EBUSY, slot.send)
    a, b = receiver.receive(ref), receiver.receive(ref)
    same((a.ref, b.ref, a.offset), (ref, ref, b.offset))
    same(pool.recall(ref, 1), 1)
    error(errno.EPERM, receiver.recall, ref)
    a.free()                    # one hold, however often received
    error(errno.EPERM, b.free)
    b.forget()
    slot.free()                 # a receipt is open: not free yet
    late = receiver.receive(ref)
    error(errno.ESTALE, receiver.receive, ref)
    late.free()
    error(errno.EALREADY, late.free)
    same(pool.flush(), 0)
    receiver.detach()


def waiting(c, pool):
    slots = pool.alloc_many(SLOTS)
    second = c.attach(POOL)

    def ask(n):
        return c.send(slabd.ALLOC, struct.pack("<I", n), slabd.WAIT,
                      second.attachment)

    def cancel(tag):
        return second.request(slabd.CANCEL, struct.pack("<I", tag))

    error(errno.ENOENT, cancel, 12345)
    tag = ask(2)
    slots.pop().free()
    error(errno.ENOBUFS, pool.alloc)     # nobody overtakes
    same(cancel(tag).status, 0)
    error(errno.ECANCELED, c.reply, tag)
    tag = ask(2)
    slots.pop().free()
    error(errno.ENOENT, cancel, tag)     # the grant was faster
    reply = c.reply(tag)
    same((reply.status, len(reply.body)), (2, 32))
    tag = ask(1)
    second.detach()                      # and gives its two back
    error(errno.ECANCELED, c.reply, tag)
    same(len(pool.alloc_many(SLOTS)), 2)
    for slot in list(pool.slots):
        slot.free()


def flushing(c, pool):
    slot = pool.alloc()
    ref = slot.share(1)
    tag = c.send(slabd.FLUSH, b"", slabd.WAIT, pool.attachment)
    pool.request(slabd.CANCEL, struct.pack("<I", tag))
    while tag not in c.replies:
        c._read()
    reply = c.replies.pop(tag)
    same((reply.status, reply.body), (-errno.ECANCELED, b"\1\0\0\0"))
    tag = c.send(slabd.FLUSH, b"", slabd.WAIT, pool.attachment)
    same(pool.recall(ref), 1)
    same(c.reply(tag).status, 0)
    slot.free()


class Lane:
    """An attachment with a lane, used as the page has it.

    Nobody else takes what is taken here, so a store does for an exchange.
    """
    FREE, SEND, SHARE, RECEIVE, RECALL = range(1, 6)
    REVOKED = 0x100

    def __init__(self, client):
        self.client = client
        tag = client.send(slabd.ATTACH, struct.pack("<I", 2) +
                          slabd.string(POOL))
        reply = client.reply(tag)
        self.attachment = reply.attachment
        features, _, count, _ = struct.unpack_from("<IQII", reply.body, 28)
        same((features & 1, count, len(reply.fds)), (1, 4, 4))
        entries = struct.unpack_from("<" + "IIQ" * 4, reply.body, 48)
        same(entries[0::3], (1, 2, 3, 4))
        geometry = struct.unpack_from("<8I", reply.body, 112)
        (self.grants_at, self.grants, self.records_at, self.records,
         *_) = geometry
        region, claims, self.fd, self.bell = reply.fds
        self.claims = self.map(claims, entries[5])
        self.words = self.map(self.fd, entries[8])
        os.close(region)
        os.close(claims)
        # Both descriptors of the lane, mmap's own too, stay open until its end.
        fcntl.lockf(self.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        same(struct.pack("=Q", self.words[0]), b"SLABLANE")
        same((self.words[1] & 0xFFFFFFFF, self.words[2]), (3, entries[8]))
        same(struct.unpack("=8I", self.words[8:12]), geometry)

    @staticmethod
    def map(fd, length):
        return memoryview(mmap.mmap(fd, length)).cast("Q")

    def request(self, kind, body=b"", flags=0):
        return self.client.request(kind, body, flags, self.attachment)

    def alloc(self):
        """One ref by message, after which others lie ready."""
        self.asked = self.client.send(slabd.ALLOC, b"\1\0\0\0", 0,
                                      self.attachment)
        return struct.unpack("<QQ", self.client.reply(self.asked).body)[0]

    def resume(self):
        """With another daemon: its doorbell, which is rung once."""
        reply = self.request(slabd.RESUME)
        features, _, *rest = struct.unpack_from("<IQIIIIQ", reply.body, 28)
        same((features & 1, rest), (1, [1, self.asked, 4, 0, 0]))
        same(len(reply.body), 64 + 32)
        os.close(self.bell)
        self.bell, = reply.fds
        os.write(self.bell, struct.pack("=Q", 1))

    def say_goodbye(self):
        self.words.cast("B").cast("I")[596 // 4] = 1

    def take(self):
        """The refs that lie ready."""
        head, tail = self.words[384 // 8], self.words[192 // 8]
        taken = [self.words[self.grants_at // 8 + i % self.grants]
                 for i in range(head, tail)]
        self.words[384 // 8] = tail
        return taken

    def publish(self, operation, ref, count=0):
        tail = self.words[448 // 8]
        self.words[self.records_at // 8 + tail % self.records] = (
            ref & 0x1FFFFFF | operation << 25 | count << 28 |
            (ref >> VERSION & 0xFFFFFFF) << 36)
        self.words[448 // 8] = tail + 1

    def claim(self, ref):
        """The open receipts and the flag, if the claim is about this ref."""
        word = self.claims[ref & 0xFFFFFF]
        return word & 0xFFFFFF if word >> 24 == ref >> 24 else None

    def offer(self, operation, held, receipts):
        """Sends or shares; the new ref."""
        ref = held + (1 << VERSION) | (KIND if operation == self.SHARE else 0)
        self.claims[ref & 0xFFFFFF] = ref & ~0xFFFFFF | receipts
        self.publish(operation, held, receipts if ref & KIND else 0)
        return ref

    def receipt(self, ref):
        """Takes one from the claim."""
        same(self.claim(ref) in range(1, 256), True)
        self.claims[ref & 0xFFFFFF] -= 1

    def refused(self):
        tail = self.words[520 // 8]
        return tail, self.words[640 // 8 + (tail - 1) % 64]

    def flush(self):
        return self.request(slabd.FLUSH).status

    def held(self, ref):
        return self.request(HELD, refs(ref)).status

    def ring(self):
        if self.words[320 // 8] & 0xFFFFFFFF:
            self.words[320 // 8] &= ~0xFFFFFFFF
            os.write(self.bell, struct.pack("=Q", 1))

    def detach(self):
        self.request(slabd.DETACH)
        self.close()

    def close(self):
        os.close(self.bell)
        os.close(self.fd)


def lane_grants(c, pool):
    lane = Lane(c)
    same(lane.take(), [])
    ref, _ = struct.unpack("<QQ", lane.request(slabd.ALLOC,
                                               b"\1\0\0\0").body)
    ahead = lane.take()
    same(len(ahead) > 0 and ref not in ahead, True)
    same(lane.request(slabd.FREE, refs(*ahead)).status, len(ahead))
    lane.publish(lane.FREE, ref)
    error(errno.EALREADY, lane.request, slabd.FREE, refs(ref))
    lane.request(slabd.ALLOC, b"\1\0\0\0")    # and others lie ahead again
    while len(pool.slots) < SLOTS - 1:
        pool.alloc()                            # also what lies ahead
    error(errno.ENOBUFS, pool.alloc)
    same(lane.take(), [])
    for slot in list(pool.slots):
        slot.free()
    lane.detach()                               # and so comes the last


def lane_hand_over(c, pool):
    lane = Lane(c)
    held, _ = struct.unpack("<QQ", lane.request(slabd.ALLOC,
                                                b"\1\0\0\0").body)
    ref = lane.offer(lane.SEND, held, 1)
    same(lane.flush(), 1)
    got = pool.receive(ref)                     # by message
    same((got.ref, lane.claim(ref), lane.flush()), (ref, 0, 0))
    ref = got.send()                            # and back by the lane
    lane.receipt(ref)
    error(errno.ESTALE, pool.receive, ref)
    lane.publish(lane.RECEIVE, ref)
    same((lane.claim(ref), lane.held(ref), pool.flush()), (0, 1, 0))
    shared = lane.offer(lane.SHARE, ref, 3)
    other = pool.receive(shared)
    lane.receipt(shared)
    lane.publish(lane.RECALL, shared, 1)
    same(pool.request(slabd.FREE, refs(other.ref)).status, 1)
    other.forget()
    lane.publish(lane.FREE, shared)
    same((lane.claim(shared), lane.flush()), (1, 1))
    got = pool.receive(shared)
    got.free()
    error(errno.EALREADY, lane.request, slabd.FREE, refs(shared))
    same(lane.refused()[0], 0)
    lane.detach()


def lane_revoked(c, pool):
    lane = Lane(c)
    slot = pool.alloc()
    ref = slot.send()
    lane.receipt(ref)                           # and it says nothing
    same(pool.recall(ref), 1)
    same((lane.claim(ref), lane.held(ref)), (lane.REVOKED, 0))
    lane.publish(lane.RECEIVE, ref)
    lane.flush()
    same(lane.refused(), (1, ref))
    pool.request(slabd.FREE, refs(ref))
    lane.detach()


def lane_late(c, pool):
    lane = Lane(c)
    slot = pool.alloc()
    shared = slot.share(2)
    lane.receipt(shared)
    lane.publish(lane.RECEIVE, shared)
    lane.receipt(shared)                        # another thread
    same(pool.recall(shared), 1)
    lane.publish(lane.RECEIVE, shared)
    same((lane.held(shared), *lane.refused()), (1, 1, 0))
    same(lane.words[1152 // 8], 1)
    lane.publish(lane.FREE, shared)
    same(lane.held(shared), 0)
    slot.free()
    lane.detach()


def lane_refusals(c, pool):
    lane = Lane(c)
    slot = pool.alloc()
    notice = lane.words[128 // 8]
    past, future = slot.ref - (1 << VERSION), slot.ref + (3 << VERSION)
    lane.publish(lane.FREE, past)
    lane.publish(lane.FREE, future)
    lane.publish(lane.FREE, slot.ref)           # does not wait behind it
    lane.flush()
    same((lane.refused()[0], *lane.words[640 // 8:664 // 8]),
         (3, past, slot.ref, future))
    same(lane.words[128 // 8] >> 1 > notice >> 1, True)
    slot.free()
    lane.detach()


def lane_doorbell(c, pool):
    lane = Lane(c)
    slots = pool.alloc_many(SLOTS)
    mine = slots.pop().send()
    lane.receipt(mine)
    lane.publish(lane.RECEIVE, mine)
    same(lane.held(mine), 1)
    eager, hungry = lane.words[136 // 8], lane.words[128 // 8] & 1
    same((eager & 0xFFFFFFFF, hungry), (0, 0))
    tag = c.send(slabd.ALLOC, struct.pack("<I", 1), slabd.WAIT,
                 pool.attachment)
    c.request(slabd.PING)
    eager, hungry = lane.words[136 // 8], lane.words[128 // 8] & 1
    same((eager & 0xFFFFFFFF != 0, hungry), (True, 1))
    lane.publish(lane.FREE, mine)
    lane.ring()
    ref, _ = struct.unpack("<QQ", c.reply(tag).body)
    pool.request(slabd.FREE, refs(ref))
    for slot in slots:
        slot.free()
    lane.detach()


def what_ends_a_lane(c, pool):
    slot = 0xFFFFFF
    for word, value in ((448, 1 << 20), (384, 1), (None, 0),
                        (None, slot | Lane.FREE << 25), (None, 6 << 25),
                        (None, Lane.FREE << 25 | 1 << 28),
                        (None, Lane.SHARE << 25),
                        (None, Lane.SEND << 25 | KIND)):
        with slabd.Client(PATH) as other:
            other.socket.settimeout(10)
            lane = Lane(other)
            if word is None:
                lane.words[lane.records_at // 8] = value
                lane.words[448 // 8] = 1
            else:
                lane.words[word // 8] = value
            lane.ring()
            ended(other.socket)
            other.socket.close()
            lane.close()


def saying_goodbye(c, pool):
    other = slabd.Client(PATH)
    theirs = other.attach(POOL)
    theirs.alloc_many(SLOTS)
    error(errno.ENOBUFS, pool.alloc)
    other.request(slabd.BYE)
    ended(other.socket)
    same(len(pool.alloc_many(SLOTS)), SLOTS)
    for slot in list(pool.slots):
        slot.free()


def occupancy(c):
    pool, = [p for p in c.document(slabd.STATS)["pools"] if p["name"] == POOL]
    return {key: pool[key] for key in
            ("free", "used", "in_flight", "quarantined")}


def until(c, **wanted):
    """The daemon may serve us before it looks at a connection that ended."""
    deadline = time.monotonic() + 10
    state = occupancy(c)
    while not wanted.items() <= state.items():
        if time.monotonic() > deadline:
            raise AssertionError(f"got {state}, wanted {wanted}")
        time.sleep(0.01)
        state = occupancy(c)


def leave_two(told, go):
    """A process that closes its connection without BYE, and lives on."""
    try:
        other = slabd.Client(PATH)
        other.attach(POOL).alloc_many(2)
        other.socket.close()
        os.write(told, b".")
        os.read(go, 1)
    finally:
        os._exit(0)


def quarantine(c, pool):
    go, told = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        os.close(go[1])
        leave_two(told[1], go[0])
    os.close(told[1])
    same(os.read(told[0], 1), b".")
    until(c, quarantined=2, free=2)
    os.close(go[1])
    os.waitpid(child, 0)
    until(c, quarantined=0, free=4)
    os.close(go[0])
    os.close(told[0])


def orphans(c, pool):
    other = slabd.Client(PATH)
    ref = other.attach(POOL).alloc().send()
    other.close()
    same(occupancy(c)["in_flight"], 1)
    pool.receive(ref).free()
    other = slabd.Client(PATH)
    ref = other.attach(POOL).alloc().send()
    other.close()
    same(len(pool.alloc_many(SLOTS)), SLOTS - 1)
    pool.alloc()                                # makes room
    error(errno.ESTALE, pool.receive, ref)
    for slot in list(pool.slots):
        slot.free()


def ask_for(wish):
    print(wish, flush=True)
    same(sys.stdin.readline(), "done\n")


def restart(c):
    ask_for("kill")
    ask_for("start")
    come_back(c)


def come_back(c):
    """To the daemon that is there now."""
    c.request(slabd.PING)
    c.socket.settimeout(10)


def resuming(c, pool):
    slot = pool.alloc()
    slot.memory[:4] = b"kept"
    session, instance = c.session, c.instance
    ask_for("kill")
    ask_for("start")
    with slabd.Client(PATH) as other:           # before we are back
        same(occupancy(other)["quarantined"], 1)
        same([client["state"] for client
              in other.document(slabd.STATS)["clients"]
              if any(p["held"] for p in client["pools"])], ["away"])
        with connect() as thief:                # without our token
            thief.send(hello(session=c.session, token=c.token + 1 & 2**64 - 1))
            reply = thief.recv(slabd.MESSAGE_MAX)
            same(status_of(reply)[2], 0)
            same(struct.unpack_from("<Q", reply, 32)[0] != session, True)
    come_back(c)
    same((c.session, c.instance != instance), (session, True))
    same(pool.request(HELD, refs(slot.ref)).status, 1)
    same(bytes(slot.memory[:4]), b"kept")
    slot.free()
    error(errno.EBADF, c.request, slabd.RESUME, attachment=pool.attachment + 1)
    error(errno.EINVAL, pool.request, slabd.RESUME, b"body")


def from_another_process(c, pool):
    """A session is its process's, whoever knows the token."""
    child = os.fork()
    if child == 0:
        try:
            with connect() as thief:
                thief.send(hello(session=c.session, token=c.token))
                reply = thief.recv(slabd.MESSAGE_MAX)
                theirs, = struct.unpack_from("<Q", reply, 32)
                os._exit(theirs == c.session)
        finally:
            os._exit(2)
    same(os.waitpid(child, 0)[1], 0)
    c.request(slabd.PING)


def twice(c, kind, body, pool, flags=0):
    """A request, and the same again to the next daemon, which answers alike."""
    attachment = pool.attachment if pool else 0
    tag = c.send(kind, body, flags, attachment)
    request = c.unanswered[tag]
    reply = c.reply(tag)
    reply.close()
    restart(c)
    c.unanswered[tag] = request
    c._transmit(tag)
    second = c.reply(tag)
    second.close()
    same(second[1:4], reply[1:4])
    return reply


def answering_again(c, pool):
    error(errno.EINVAL, c.request, slabd.PING, flags=slabd.AGAIN)
    name = struct.pack("<I", 0) + slabd.string(POOL)
    number = twice(c, slabd.ATTACH, name, None).attachment
    c.request(slabd.DETACH, attachment=number)
    body = twice(c, slabd.ALLOC, b"\2\0\0\0", pool).body
    sent, shared = struct.unpack("<Q8xQ8x", body)
    sent, = struct.unpack("<Q", twice(c, slabd.SEND, refs(sent), pool).body)
    same(pool.flush(), 1)
    twice(c, slabd.RECEIVE, refs(sent), pool)
    same(pool.flush(), 0)
    body = twice(c, slabd.SHARE, refs(shared) + b"\3\0\0\0", pool).body
    shared, = struct.unpack("<Q", body)
    same(twice(c, slabd.RECALL, refs(shared) + b"\2\0\0\0", pool).status, 2)
    same(pool.recall(shared), 1)
    same(twice(c, slabd.FREE, refs(sent, shared), pool).status, 2)
    error(errno.EALREADY, pool.request, slabd.FREE, refs(sent))


def asked_meanwhile(c, pool):
    """What nobody has served is served when it is sent to the next daemon."""
    slots = pool.alloc_many(SLOTS)
    wait = c.send(slabd.ALLOC, struct.pack("<I", 1), slabd.WAIT,
                  pool.attachment)
    c.request(slabd.PING)
    ask_for("kill")
    send = c.send(slabd.SEND, refs(slots[0].ref), 0, pool.attachment)
    late = c.send(slabd.FREE, refs(slots[1].ref), 0, pool.attachment)
    ask_for("start")
    same(c.reply(late).status, 1)
    granted, _ = struct.unpack("<QQ", c.reply(wait).body)
    sent, = struct.unpack("<Q", c.reply(send).body)
    same((pool.flush(), pool.recall(sent)), (1, 1))
    same(pool.request(slabd.FREE, refs(granted, sent)).status, 2)
    for slot in slots[:2]:
        slot.forget()
    for slot in slots[2:]:
        slot.free()
    c.socket.settimeout(10)


def lane_goes_on(c, pool):
    lane = Lane(c)
    first = lane.alloc()
    ask_for("kill")
    ahead = lane.take()                         # nobody is needed for that
    same(len(ahead) > 0, True)
    ref = lane.offer(lane.SEND, first, 1)
    for other in ahead:
        lane.publish(lane.FREE, other)
    ask_for("start")
    come_back(c)
    lane.resume()
    pool.receive(ref).free()
    lane.request(slabd.FREE, refs(lane.alloc()))
    same(lane.refused()[0], 0)
    lane.detach()


def lane_says_goodbye(c, pool):
    lane = Lane(c)
    first = lane.alloc()
    ask_for("kill")
    ref = lane.offer(lane.SEND, first, 1)
    lane.say_goodbye()
    ask_for("start")
    come_back(c)
    error(errno.EBADF, lane.request, slabd.RESUME)
    pool.receive(ref).free()
    same(len(pool.alloc_many(SLOTS)), SLOTS)    # what lay ready is free
    for slot in list(pool.slots):
        slot.free()
    lane.close()


def reconfigure(c, old, new):
    """Have the daemon read another configuration; the event it sends us."""
    with open(CONFIG, encoding="utf-8") as file:
        text = file.read()
    with open(CONFIG, "w", encoding="utf-8") as file:
        file.write(text.replace(old, new))
    c.request(slabd.RELOAD)
    c.request(slabd.PING)
    event, = c.events
    c.events.clear()
    return event


def growing(c, pool):
    kind, attachment, body = reconfigure(c, '"max_segments": 1',
                                         '"max_segments": 2')
    same((kind, attachment), (RESIZED, pool.attachment))
    same(struct.unpack("<QI", body), (2 * SLOTS * pool.slot_size, 2))
    slots = pool.alloc_many(1024)
    same(len(slots), SLOTS)             # of the segment that is mapped
    error(errno.ENOBUFS, pool.alloc)
    second = c.attach(POOL)             # has the whole region
    same(second.segments, 2)
    ref = second.alloc().send()
    same(ref & 0xFFFFFF in range(SLOTS, 2 * SLOTS), True)
    error(errno.EREMCHG, pool.receive, ref)
    for segments in (0, 3):
        error(errno.EINVAL, pool.request, slabd.EXTEND,
              struct.pack("<I", segments))
    pool.request(slabd.EXTEND, struct.pack("<I", 2))
    same(pool.request(slabd.RECEIVE, refs(ref)).body,
         refs(ref, (ref & 0xFFFFFF) * pool.slot_size))
    pool.request(slabd.FREE, refs(ref))
    second.detach()
    for slot in slots:
        slot.free()


def retiring(c, pool):
    slot, sent = pool.alloc_many(2)
    ref = sent.send()
    same(reconfigure(c, f'"{POOL}"', '"another"'),
         (RETIRED, pool.attachment, b""))
    error(errno.ESHUTDOWN, pool.alloc)
    error(errno.ESHUTDOWN, pool.alloc, wait=True)
    error(errno.ESHUTDOWN, c.attach, POOL)
    pool.receive(ref).free()
    slot.free()


RULES = (first_message, what_ends_a_connection, framed_well_but_wrong,
         tag_zero, attaching, reading_only, allocating, freeing, sending,
         sharing, waiting, flushing, lane_grants, lane_hand_over, lane_revoked,
         lane_late, lane_refusals, lane_doorbell, what_ends_a_lane,
         saying_goodbye, quarantine, orphans, resuming, from_another_process,
         answering_again, asked_meanwhile, lane_goes_on, lane_says_goodbye,
         growing, retiring)


def main():
    with slabd.Client(PATH, "protocol_rules.py") as c:
        c.socket.settimeout(10)
        pool = c.attach(POOL)
        for rule in RULES:
            try:
                rule(c, pool)
                state = occupancy(c)
                same({**state, "free": 0}, dict.fromkeys(state, 0))
            except (AssertionError, OSError) as e:
                raise SystemExit(f"{rule.__name__}: {e}") from e


if __name__ == "__main__":
    main()
