#!/usr/bin/env python3
"""A client of slabd in plain Python, written from slabd-protocol(7) alone.

It needs Python 3.9 and its standard library. As a module:

    with Client() as client:
        pool = client.attach("frames")
        with pool.alloc() as slot:
            slot.memory[:5] = b"hello"
            ref = slot.send()       # for pool.receive(ref) in another process

A Client is for one thread and for the process that made it: a child of fork()
makes its own. What the daemon refuses raises Refused, an OSError whose errno
is the daemon's and whose text says why.

A daemon that ends is waited for: a Client goes on with the next one where it
was with the last, slots and unanswered requests included. When that takes more
than `patience` seconds, or the next one does not know it, Broken is raised.

As a script it does all of that once with a second process, and says each step.
"""

import argparse
import errno
import json
import mmap
import os
import socket
import struct
import sys
import time
from typing import List, NamedTuple

MAGIC = 0x44424C53
VERSION = 1
MESSAGE_MAX = 32768
FDS_MAX = 4
REPLY = 0x8000
EVENTS = 0x4000

HELLO, PING, BYE = 1, 2, 3
ATTACH, DETACH, EXTEND, RESUME = 16, 17, 18, 19
ALLOC, CANCEL, FREE, SEND, SHARE, RECEIVE, RECALL, FLUSH = range(32, 40)
STATS, HOLDERS, CONFIG = 64, 65, 66
RELOAD, TRIM, SHUTDOWN = 80, 81, 82

WAIT = 0x1              # header flag of ALLOC and FLUSH
AGAIN = 0x4             # header flag of what counts once when sent twice:
COUNTED = ATTACH, ALLOC, FREE, SEND, SHARE, RECEIVE, RECALL
RDONLY = 0x1            # attach flag
WRITE = 0x2             # right
REGION = 1              # kind of descriptor

HEADER = struct.Struct("<HHIiI")    # type, flags, tag, status, attachment


class Refused(OSError):
    """The daemon answered a request with an error."""


class Broken(ConnectionError):
    """There is no daemon, or none that knows us, or it speaks nonsense."""


class Reply(NamedTuple):
    kind: int
    status: int
    body: bytes
    attachment: int
    fds: List[int]

    def close(self):
        for fd in self.fds:
            os.close(fd)


def default_path():
    """Where the daemon listens, unless told otherwise."""
    if "SLABD_SOCKET" in os.environ:
        return os.environ["SLABD_SOCKET"]
    own = os.environ.get("XDG_RUNTIME_DIR", "/nonexistent")
    own += "/slabd/slabd.sock"
    return own if os.path.exists(own) else "/run/slabd/slabd.sock"


def string(text):
    """A field of two bytes of length and the text."""
    data = text.encode()
    return struct.pack("<H", len(data)) + data


class Request(NamedTuple):
    kind: int
    body: bytes
    flags: int
    attachment: int


class Client:
    """A session with the daemon, and with its successors."""

    def __init__(self, path=None, label="", patience=10.0):
        self.path, self.label = path or default_path(), label
        self.patience = patience
        self.session = self.token = 0
        self.tag = 0            # only rises: one names one request
        self.unanswered = {}    # by tag, in the order in which they were made
        self.replies = {}       # by tag: came while another was awaited
        self.events = []        # (type, attachment, body), oldest first
        self.pools = {}         # by attachment
        try:
            self._connect()
        except OSError as e:
            e.filename = self.path
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def _connect(self):
        """Connect, and take up the session if there was one before."""
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            self.socket.connect(self.path)
            self._hello()
        except OSError:
            self.socket.close()
            raise

    def _hello(self):
        body = struct.pack("<IHHQQQ", MAGIC, VERSION, VERSION, 0, self.session,
                           self.token)
        reply = self.ask(HELLO, body + string(self.label)).body
        fields = struct.Struct("<HHIQQQQIH")
        if len(reply) < fields.size:
            raise Broken("the daemon's hello is too short")
        (self.version, _, self.batch_max, _, self.session, self.token,
         self.instance, _, length) = fields.unpack_from(reply)
        self.daemon = reply[fields.size:fields.size + length].decode()

    def _resume(self):
        """On a connection to the next daemon, go on with it."""
        earlier = self.session
        self._connect()
        if self.session != earlier and self.pools:
            self.patience = 0
            raise Broken("the daemon knows nothing of our slots any more")
        served = {pool.attachment: pool.resume()
                  for pool in self.pools.values()}
        # What may have been granted already comes before what is new.
        for tag in sorted(self.unanswered, key=lambda tag: not (
                self.unanswered[tag].kind == ALLOC and
                served.get(self.unanswered[tag].attachment) == tag)):
            self._transmit(tag)

    def _return(self):
        """The connection ended: find the next daemon."""
        self.socket.close()
        for tag, request in list(self.unanswered.items()):
            if request.kind in (RELOAD, TRIM, SHUTDOWN):    # ask for it anew
                self._answered(tag, Reply(request.kind, -errno.ECANCELED,
                                          b"the daemon was restarted", 0, []))
        deadline = time.monotonic() + self.patience
        while self.unanswered:
            try:
                return self._resume()
            except OSError as e:
                if time.monotonic() >= deadline or not self.patience:
                    raise Broken(f"the daemon is away: {e}") from e
            time.sleep(0.05)

    def close(self):
        """Give everything back and say goodbye."""
        if self.socket.fileno() < 0:
            return
        for pool in self.pools.values():
            pool.unmap()
        self.patience = 0
        try:
            self.request(BYE)
        except Broken:
            pass            # our slots are set aside until this process ends
        finally:
            self.socket.close()

    def send(self, kind, body=b"", flags=0, attachment=0):
        """Send a request; its tag is for reply()."""
        self.tag = self.tag % 0xFFFFFFFF + 1
        self.unanswered[self.tag] = Request(kind, body, flags, attachment)
        self._transmit(self.tag)
        return self.tag

    def _transmit(self, tag):
        request = self.unanswered[tag]
        head = HEADER.pack(request.kind, request.flags, tag, 0,
                           request.attachment)
        try:
            self.socket.send(head + request.body, socket.MSG_NOSIGNAL)
        except (BrokenPipeError, ConnectionResetError):
            return          # who reads the reply will find the end
        if request.kind in COUNTED:     # from the second time on
            self.unanswered[tag] = request._replace(
                flags=request.flags | AGAIN)

    def reply(self, tag):
        """Wait for the reply to a request, for the next daemon's if need be."""
        while tag not in self.replies and 0 not in self.replies:
            if not self._read():
                self._return()
        return self._take(tag)

    def request(self, kind, body=b"", flags=0, attachment=0):
        """Send a request and wait for its reply."""
        return self.reply(self.send(kind, body, flags, attachment))

    def ask(self, kind, body=b"", attachment=0):
        """The same, of this daemon and no other."""
        tag = self.send(kind, body, attachment=attachment)
        try:
            while tag not in self.replies and 0 not in self.replies:
                if not self._read():
                    raise Broken("the daemon closed the connection")
            return self._take(tag)
        finally:
            self.unanswered.pop(tag, None)

    def _take(self, tag):
        # Under tag 0 a connection is turned away before it has asked.
        reply = self.replies.pop(tag if tag in self.replies else 0)
        self.unanswered.pop(tag, None)
        if reply.status < 0:
            reply.close()
            text = "" if reply.kind in (FREE, FLUSH) else reply.body.decode()
            raise Refused(-reply.status, text or os.strerror(-reply.status))
        return reply

    def _answered(self, tag, reply):
        self.unanswered.pop(tag, None)
        self.replies[tag] = reply

    def _read(self):
        """Read one packet and put it where it belongs; False: the end."""
        try:
            data, fds, flags, _ = socket.recv_fds(
                self.socket, MESSAGE_MAX, FDS_MAX, socket.MSG_CMSG_CLOEXEC)
        except ConnectionResetError:
            return True         # said once, before what still lies there
        if not data and not fds:
            return False
        if flags & (socket.MSG_CTRUNC | socket.MSG_TRUNC) or \
                len(data) < HEADER.size:
            for fd in fds:
                os.close(fd)
            self.socket.close()
            raise Broken("a packet came incomplete")
        kind, _, tag, status, attachment = HEADER.unpack_from(data)
        body = data[HEADER.size:]
        if kind & REPLY:
            self._answered(tag, Reply(kind & ~REPLY, status, body, attachment,
                                      fds))
        elif kind & EVENTS:
            self.events.append((kind, attachment, body))
        return True

    def attach(self, name, readonly=False):
        """Open a pool."""
        body = struct.pack("<I", RDONLY if readonly else 0) + string(name)
        reply = self.request(ATTACH, body)
        try:
            pool = self.pools[reply.attachment] = Pool(self, name, reply)
        finally:
            reply.close()
        return pool

    def document(self, kind, body=b""):
        """STATS, HOLDERS with string(pool), or CONFIG, as Python objects."""
        reply = self.request(kind, body)
        try:
            length, = struct.unpack("<Q", reply.body)
            return json.loads(os.pread(reply.fds[0], length, 0))
        finally:
            reply.close()


class Pool:
    """A pool, attached; Client.attach() makes it."""

    def __init__(self, client, name, reply):
        fields = struct.Struct("<QQIIIIQII")
        entry = struct.Struct("<IIQ")
        self.client, self.name = client, name
        self.attachment = reply.attachment
        self.slots = set()          # held: their memory is ours
        if len(reply.body) != fields.size + len(reply.fds) * entry.size:
            raise Broken("the reply to ATTACH has the wrong length")
        (bytes_, self.slot_size, self.segment_slots, self.segments, rights,
         _, self.identity, count, _) = fields.unpack_from(reply.body)
        kinds = [k for k, _, _ in entry.iter_unpack(reply.body[fields.size:])]
        if count != len(kinds) or REGION not in kinds:
            raise Broken("the pool's region did not come with its reply")
        access = mmap.PROT_READ
        if rights & WRITE:
            access |= mmap.PROT_WRITE
        self.region = mmap.mmap(reply.fds[kinds.index(REGION)], bytes_,
                                mmap.MAP_SHARED, access)

    def resume(self):
        """Go on with another daemon; the tag of the last ALLOC served."""
        reply = self.client.ask(RESUME, attachment=self.attachment)
        reply.close()
        return struct.unpack_from("<I", reply.body, 44)[0]

    def request(self, kind, body=b"", flags=0):
        """Send a request about this pool and wait for its reply."""
        return self.client.request(kind, body, flags, self.attachment)

    def alloc(self, wait=False):
        """One slot; `wait` until another client frees one if need be."""
        return self.alloc_many(1, wait)[0]

    def alloc_many(self, n, wait=False):
        """A list of 1 to n slots; with `wait`, of n."""
        reply = self.request(ALLOC, struct.pack("<I", n), WAIT if wait else 0)
        return [Slot(self, ref, offset)
                for ref, offset in struct.iter_unpack("<QQ", reply.body)]

    def receive(self, ref):
        """The slot that another client sent or shared."""
        reply = self.request(RECEIVE, struct.pack("<Q", ref))
        return Slot(self, *struct.unpack("<QQ", reply.body))

    def recall(self, ref, receipts=0):
        """Take back up to so many open receipts (0: all); how many it was."""
        return self.request(RECALL, struct.pack("<QI", ref, receipts)).status

    def flush(self, wait=False):
        """How many slots we sent or shared are open; `wait`: until none is."""
        return self.request(FLUSH, flags=WAIT if wait else 0).status

    def detach(self):
        """Give everything back."""
        self.unmap()
        self.client.pools.pop(self.attachment, None)
        self.request(DETACH)

    def unmap(self):
        """Let go of the memory, but tell nobody."""
        for slot in list(self.slots):
            slot.forget()
        self.region.close()


class Slot:
    """A slot we hold. Its `memory` cannot be used once it is given away."""

    def __init__(self, pool, ref, offset):
        self.pool, self.ref, self.offset = pool, ref, offset
        view = memoryview(pool.region)
        self.memory = view[offset:offset + pool.slot_size]
        view.release()
        pool.slots.add(self)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self in self.pool.slots:
            self.free()

    def forget(self):
        self.memory.release()
        self.pool.slots.discard(self)

    def free(self):
        """Give it back."""
        self.pool.request(FREE, struct.pack("<Q", self.ref))
        self.forget()

    def send(self):
        """Give it to whoever receives the ref that this returns."""
        reply = self.pool.request(SEND, struct.pack("<Q", self.ref))
        self.forget()
        return struct.unpack("<Q", reply.body)[0]

    def share(self, receivers):
        """Keep it and let it be received so many times, by this ref."""
        reply = self.pool.request(SHARE, struct.pack("<QI", self.ref,
                                                     receivers))
        self.ref, = struct.unpack("<Q", reply.body)
        return self.ref


def say(who, text):
    print(f"{who:>8}: {text}", flush=True)


def expect(what, condition):
    if not condition:
        raise RuntimeError("expected " + what)


def refused(code, call, *args):
    """What the daemon says when it refuses a call with errno `code`."""
    try:
        call(*args)
    except Refused as e:
        expect(errno.errorcode[code], e.errno == code)
        return e.strerror
    raise RuntimeError(f"expected {errno.errorcode[code]}, but it was done")


def consume(args, refs, answers):
    """The second process: receive what is named on a pipe, twice."""
    with Client(args.socket, "client.py consumer") as client:
        pool = client.attach(args.pool, readonly=True)
        for _ in range(2):
            ref = os.read(refs, 8)
            expect("a ref from the producer", len(ref) == 8)
            slot = pool.receive(struct.unpack("<Q", ref)[0])
            text = bytes(slot.memory).split(b"\0")[0]
            say("consumer", f"received ref {slot.ref:#018x}: {text.decode()}")
            slot.free()
            os.write(answers, struct.pack("<I", len(text)))


def hand_over(ref, text, refs, answers):
    """Tell the consumer a ref; it answers when it has freed the slot."""
    os.write(refs, struct.pack("<Q", ref))
    expect("an answer from the consumer",
           os.read(answers, 4) == struct.pack("<I", len(text)))


def outlive(client):
    """Meet another daemon, with a slot in hand."""
    instance, session = client.instance, client.session
    say("producer", "kill slabd, start it again, and press Enter")
    sys.stdin.readline()
    client.request(PING)
    expect("another daemon", client.instance != instance)
    expect("the same session", client.session == session)
    say("producer", "another daemon knows us, and whose the slot is")


def produce(args, refs, answers):
    """The first process: every operation once."""
    with Client(args.socket, "client.py producer") as client:
        say("producer", f"connected to slabd {client.daemon}")
        pool = client.attach(args.pool)
        say("producer", f"attached {pool.name}: slots of {pool.slot_size} "
            f"bytes, {pool.segment_slots} in each of {pool.segments} segments")

        text = b"given away"
        slot = pool.alloc()
        slot.memory[:len(text) + 1] = text + b"\0"
        ref = slot.send()
        say("producer", f"sent slot {ref & 0xFFFFFF} as ref {ref:#018x}")
        hand_over(ref, text, refs, answers)
        why = refused(errno.ESTALE, pool.receive, ref)
        say("producer", f"a second receive is refused: {why}")

        text = b"shared with two"
        slot = pool.alloc()
        slot.memory[:len(text) + 1] = text + b"\0"
        if args.pause:
            outlive(client)
        ref = slot.share(2)
        say("producer", f"shared slot {ref & 0xFFFFFF} as ref {ref:#018x}")
        hand_over(ref, text, refs, answers)
        expect("one open receipt", pool.recall(ref) == 1)
        say("producer", "recalled the receipt that nobody took")
        expect("the slot's bytes untouched",
               slot.memory[:len(text)] == text)
        slot.free()
        why = refused(errno.EALREADY, pool.request, FREE,
                      struct.pack("<Q", ref))
        say("producer", f"a second free is refused: {why}")

        slot = pool.alloc()
        ref = slot.send()
        expect("the slot back", pool.recall(ref) == 1 and pool.flush() == 0)
        pool.request(FREE, struct.pack("<Q", ref))
        say("producer", "sent a slot, took it back, freed it")

        mine = [p for c in client.document(STATS)["clients"]
                if c["pid"] == os.getpid() for p in c["pools"]]
        expect("to hold nothing",
               mine and all(p["held"] == p["in_flight"] == 0 for p in mine))
        say("producer", "the daemon agrees that nothing is held any more")


def report(task, *args):
    """Run one process's part; its exit status."""
    try:
        task(*args)
        return 0
    except OSError as e:
        where = f"{e.filename}: " if e.filename else ""
        why = where + (e.strerror or str(e))
    except RuntimeError as e:
        why = str(e)
    print(f"client.py: {task.__name__}: {why}", file=sys.stderr)
    return 1


def main():
    parser = argparse.ArgumentParser(description="Shows slabd at work.")
    parser.add_argument("-s", "--socket", help="the daemon's socket")
    parser.add_argument("-p", "--pool", default="messages")
    parser.add_argument("--pause", action="store_true",
                        help="wait until the daemon was restarted")
    args = parser.parse_args()

    refs_out, refs_in = os.pipe()
    answers_out, answers_in = os.pipe()
    child = os.fork()           # before anybody connects
    if child == 0:
        os.close(refs_in)       # so that the producer's end is the end
        os._exit(report(consume, args, refs_out, answers_in))
    os.close(refs_out)
    os.close(answers_in)
    status = report(produce, args, refs_in, answers_out)
    os.close(refs_in)
    _, ended = os.waitpid(child, 0)
    return status or os.waitstatus_to_exitcode(ended)


if __name__ == "__main__":
    sys.exit(main())
