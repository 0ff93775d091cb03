#!/usr/bin/env python3
"""Compares slabd-protocol(7), and the client written from it, with the headers.

Of lib/wire.h types, flags, limits, the width and the order of every field must
be the same, and the error numbers those of this host; the offsets in a table
must follow from the sizes. Of lib/lane.h, lib/claim.h and lib/magazine.h it is
the offsets of the structures, the bits of records and claims, and the
operations. A name that is new in one of them is an error until the page has it
and CONSTANTS below says where.
"""

import errno
import importlib.util
import os
import platform
import re
import sys

TOP = os.environ.get("srcdir") or os.path.join(os.path.dirname(__file__),
                                               "..", "..")

# Where the page gives a constant: a pattern whose group is the number.
CONSTANTS = {
    "WIRE_MAGIC": r"Ta magic Ta \"(\w+),",
    "WIRE_VERSION": r"highest version Ta \"the client speaks: (\d+)\"",
    "WIRE_HEADER_BYTES": r"bytes in a header\" Ta (\d+)",
    "WIRE_MESSAGE_MAX": r"bytes in a packet, header included\" Ta (\d+)",
    "WIRE_BATCH_MAX": r"slots named by one message\" Ta (\d+)",
    "WIRE_LABEL_MAX": r"bytes in a label\" Ta (\d+)",
    "WIRE_NAME_MAX": r"bytes in a pool's name\" Ta (\d+)",
    "WIRE_SHARE_MAX": r"receipts opened by one SHARE\" Ta (\d+)",
    "WIRE_FDS_MAX": r"descriptors in one reply\" Ta (\d+)",
    "WIRE_REPLY": r"a reply has (\w+) added",
    "WIRE_WAIT": r"Header flag WAIT (\w+)\.",
    "WIRE_FORCE": r"header flag FORCE (\w+)",
    "WIRE_AGAIN": r"header flag\s+AGAIN (\w+)",
    "WIRE_ATTACH_RDONLY": r"RDONLY (\w+):",
    "WIRE_RIGHT_READ": r"\"READ (\w+),",
    "WIRE_RIGHT_WRITE": r"WRITE (\w+)\"",
    "WIRE_ATTACH_LANE": r"LANE (\w+): with a lane",
    "WIRE_ATTACHED_LANE": r"LANE (\w+): there is a lane",
    "WIRE_ATTACHED_FENCES": r"FENCES (\w+):",
    "WIRE_FD_REGION": r"REGION (\d+),",
    "WIRE_FD_CLAIMS": r"CLAIMS (\d+),",
    "WIRE_FD_LANE": r"LANE (\d+),",
    "WIRE_FD_DOORBELL": r"DOORBELL (\d+);",
    "REF_SLOT_BITS": r"slot: (\d+) bits",
    "REF_VERSION_BITS": r"version: (\d+) bits",
    "REF_SLOTS_MAX": r"slots in a pool\" Ta (\d+)",
    "LANE_MAGIC": r"Ta magic Ta once Ta \"(\w+):",
    "LANE_FORMAT": r"Ta format Ta once Ta \"(\d+)\"",
    "LANE_RING_MIN": r"ring of a lane, at least\" Ta (\d+)",
    "LANE_RING_MAX": r"ring of a lane, at most\" Ta (\d+)",
    "LANE_MAGAZINES": r"magazines in a lane\" Ta (\d+)",
    "LANE_MAGAZINE": r"places in a magazine\" Ta (\d+)",
    "LANE_REFUSED": r"\"(\d+) refs, see Refusals",
    "LANE_HUNGRY": r"HUNGRY (\w+),",
    "LANE_NOTICE": r"a count in steps of (\w+)\"",
    "MAGAZINE_TAKEN": r"likewise, by a compare-and-swap for (\d+)",
}
DERIVED = {"REF_SLOTS_MAX": lambda c: 1 << c["REF_SLOT_BITS"]}
# What no client needs to know, or what check_bits() compares.
IGNORED = {"REF_VERSION_MASK", "SLABD_WIRE_H", "SLABD_LANE_H", "LANE_PAGE",
           "RECORD_OPERATION_SHIFT", "RECORD_COUNT_SHIFT",
           "RECORD_VERSION_SHIFT", "RECORD_VERSION_BITS", "RECORD_PLACE_MASK",
           "SLABD_CLAIM_H", "CLAIM_TRIES", "CLAIM_OPEN", "CLAIM_REVOKED",
           "CLAIM_TAKING",
           "CLAIM_NAME", "SLABD_MAGAZINE_H"}
SIZES = {"uint32_t": 4, "uint64_t": 8}
DESCRIPTORS = 4         # with a lane

faults = []


def check(what, page, header):
    if page != header:
        faults.append(f"{what}: the page has {page}, the header {header}")


def read(*path):
    with open(os.path.join(TOP, *path), encoding="utf-8") as file:
        return file.read()


def widths(text):
    """The sizes in bytes of the fields that a comment lists."""
    return [int(bits) // 8
            for n, bits in re.findall(r"(?:(\d+) \* )?\b[ui](16|32|64)\b", text)
            for _ in range(int(n or 1))]


def header_types(text):
    """name: (number, request widths, reply widths), from the comments.

    A reply that ends like another has the name of that one for its widths.
    """
    body = re.search(r"enum wire_type \{(.*?)\n\};", text, re.S).group(1)
    types, comment, group = {}, "", []
    for match in re.finditer(r"/\*(.*?)\*/|WIRE_(\w+) = (\w+)", body, re.S):
        if match.group(1) is not None:
            comment = re.sub(r"\s*\n\s*\*\s?", " ", match.group(1))
            group = []
            continue
        name, number = match.group(2), int(match.group(3), 0)
        like = re.search(r"The reply is that to (\w+), but", comment)
        request, _, reply = comment.partition(
            like.group() if like else "Reply")
        of_group = re.search(rf"\b{name} is ([^.;]*)", comment)
        if of_group or group or f"{name} and " in comment:
            group.append(name)
            request = of_group.group(1) if of_group else ""
        if name != "REPLY":
            types[name.replace("EVENT_", "")] = (
                number, widths(request),
                like.group(1) if like else widths(reply))
    return types


def page_tables(text):
    """(subsection, Request, Reply, Event or none): [(offset, size, field)]."""
    tables, section, kind, rows = {}, None, None, None
    for line in text.splitlines():
        if re.match(r"\.S[hs] ", line):
            section, kind = line[4:], None
        elif re.match(r"(Request|Reply|Event)\b.*:$", line):
            kind = line.split(":")[0].split(",")[0]
        elif line.startswith(".It Sy offset"):
            rows = tables.setdefault((section, kind), [])
        elif re.match(r"\.It (?!Ta )", line) and rows is not None:
            rows.append(tuple(cell.strip().strip('"').replace("\\&", "")
                              for cell in line[4:].split(" Ta ")[:3]))
        elif line.startswith(".El"):
            rows = None
    return tables


def check_offsets(where, rows, start):
    """Each offset is where the field before ended; repeated ones by group."""
    at, stride, group, behind = start, None, 0, False
    for offset, size, field in rows:
        base, _, step = offset.partition("+")
        if step:
            stride = stride or int(step.rstrip("i"))
        elif stride and not behind:     # there were as many as there can be
            at += (DESCRIPTORS - 1) * stride
            behind = True
        check(f"{where}: offset of {field}", int(base), at)
        if not size.isdigit():
            continue
        at += int(size)
        group += int(size) if step else 0
    if stride:
        check(f"{where}: bytes from one to the next", stride, group)


def check_types(page, header):
    of_page = {name: int(number, 0) for name, number in
               re.findall(r"^\.Ss ([A-Z]+)\nType (\w+)\.$", page, re.M)}
    types = header_types(header)
    check("types", of_page, {name: t[0] for name, t in types.items()})
    tables = page_tables(page)
    check_layout(tables.pop(("Layout of a lane", None), []), "lane_header")
    check_layout(tables.pop(("Magazines", None), []), "lane_magazine")
    begin = {}              # of tables that leave out what is alike
    for name, (number, request, reply) in types.items():
        if isinstance(reply, str):
            other, rows = types[reply][2], tables.get((name, "Reply"), [])
            begin[name] = 16 + sum(other[:-len(rows)])
            types[name] = number, request, other[-len(rows):]
    for (section, kind), rows in tables.items():
        check_offsets(f"{section} {kind or ''}", rows,
                      begin.get(section, 16) if kind else 0)
    for name, (number, request, reply) in types.items():
        first = "Event" if number & 0x4000 else "Request"
        for kind, expected in ((first, request), ("Reply", reply)):
            rows = tables.pop((name, kind), [])
            check(f"{name}: widths of the {kind.lower()}",
                  [int(size) for _, size, _ in rows if size.isdigit()],
                  expected)
    documents = re.search(r"Documents: the reply's body is (.*?)\n", header)
    check("documents: width of the reply",
          [int(row[1]) for row in tables.pop(("DOCUMENTS", "Reply"), [])],
          widths(documents.group(1)))
    check("the header's fields",
          tables.pop(("Requests, replies and events", None), None),
          re.findall(r"^ \*\s+(\d+)\s+(\d+|\.\.\.)\s+(\w+)\b", header, re.M))
    check("tables that belong to nothing", list(tables), [])


def layout(struct):
    """(offset, size, field) of a structure of lane.h, those in it included."""
    text = re.sub(r"/\*.*?\*/", "", read("lib", "lane.h"), flags=re.S)
    body = re.search(rf"struct {struct} \{{(.*?)\n\}};", text, re.S).group(1)
    at, fields = 0, []
    for line in re.split(r"[;{}]", body):
        match = re.match(r"\s*(_Alignas\(64\))?\s*(?:_Atomic )?"
                         r"(uint\d+_t|struct \w+)?\s*(.*)", line, re.S)
        if match.group(1):
            at = (at + 63) // 64 * 64
        if match.group(2) not in SIZES:
            continue
        size = SIZES[match.group(2)]
        for name in re.split(r",\s*", match.group(3)):
            name, _, count = name.strip().rstrip("]").partition("[")
            at = (at + size - 1) // size * size
            if count.startswith("LANE_"):
                count = re.search(rf"#define {count}\s+(\d+)", text).group(1)
            bytes_ = size * int(count or 1) if "[]" not in line else "..."
            fields.append((str(at), str(bytes_), name.replace("_", " ")))
            at += 0 if bytes_ == "..." else bytes_
    return fields


def check_layout(rows, struct):
    check(f"struct {struct}", rows, layout(struct))


def check_bits(page, values):
    """The bits of records and claims, and what the operations are called."""
    sections = dict(re.findall(r"^\.Ss (Records|Claims)\n(.*?)(?=^\.S[hs])", page,
                               re.M | re.S))
    bits = {name: {field: (int(low), int(high or low)) for low, high, field in
                   re.findall(r"^\.It (\d+)(?: to (\d+))? Ta ([a-z]+) Ta",
                              text, re.M)}
            for name, text in sections.items()}
    kind = values["REF_SLOT_BITS"]
    operation, count, version = (values[f"RECORD_{name}_SHIFT"] for name in
                                 ("OPERATION", "COUNT", "VERSION"))
    check("the bits of a record", bits["Records"], {
        "slot": (0, kind - 1), "kind": (kind, operation - 1),
        "operation": (operation, count - 1), "count": (count, version - 1),
        "version": (version, version + values["RECORD_VERSION_BITS"] - 1)})
    opened = values["CLAIM_OPEN"].bit_length()
    revoked = values["CLAIM_REVOKED"].bit_length() - 1
    taking = values["CLAIM_TAKING"].bit_length() - 1
    check("the bits of a claim", bits["Claims"], {
        "open": (0, opened - 1), "revoked": (opened, revoked),
        "taking": (taking, taking),
        "zero": (taking + 1, kind - 1), "kind": (kind, kind),
        "version": (kind + 1, kind + values["REF_VERSION_BITS"])})
    names = re.search(r"enum lane_operation \{\s*(.*?)\n\};",
                      read("lib", "lane.h"), re.S).group(1)
    check("the first operation", names.partition(",")[0], "LANE_FREE = 1")
    names = re.findall(r"LANE_(\w+)", re.sub(r"/\*.*?\*/", "", names,
                                             flags=re.S))
    check("operations", re.findall(r"^\.It ([A-Z]+) Ta (\d) Ta",
                                   sections["Records"], re.M),
          [(name, str(i)) for i, name in enumerate(names, 1)])


def check_constants(page, header):
    values = {name: int(number, 0) for name, number in re.findall(
        r"^#define\s+((?:WIRE|REF|LANE|RECORD|CLAIM|MAGAZINE)_\w+)\s+"
        r"(?:UINT64_C\()?(\w+?)u?\b(?!\()", header, re.M)
        if number[0].isdigit()}
    values["WIRE_REPLY"] = int(re.search(r"WIRE_REPLY = (\w+)",
                                         header).group(1), 0)
    for name, derive in DERIVED.items():
        values[name] = derive(values)
    known = set(CONSTANTS) | IGNORED
    for name in re.findall(r"^#define\s+(\w+)", header, re.M):
        if name not in known:
            faults.append(f"{name} is new in the headers: is it in the page?")
    for name, pattern in CONSTANTS.items():
        found = {int(number, 0) for number in re.findall(pattern, page)}
        check(name, found, {values[name]})
    check_bits(page, values)


def check_errors(page):
    if re.match(r"mips|sparc|alpha|parisc", platform.machine()):
        return
    rows = re.findall(r"^\.It Er (\w+) Ta (\d+) Ta", page, re.M)
    for name, number in rows:
        check(name, int(number), getattr(errno, name))
    check("errors that the table lacks",
          sorted(set(re.findall(r"^(?:\.It )?\.?Er (E\w+)", page, re.M)) -
                 {name for name, _ in rows}), [])


def check_client(page):
    """The Python client says what the page says."""
    sys.dont_write_bytecode = True
    spec = importlib.util.spec_from_file_location(
        "client", os.path.join(TOP, "clients", "examples", "client.py"))
    client = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(client)
    for name, number in re.findall(r"^\.Ss ([A-Z]+)\nType (\w+)\.$", page,
                                   re.M):
        if hasattr(client, name):
            check(f"client.py: {name}", int(number, 0), getattr(client, name))
    for name in ("WAIT", "AGAIN"):
        found = re.findall(CONSTANTS["WIRE_" + name], page)
        check(f"client.py: {name}", {int(number, 0) for number in found},
              {getattr(client, name)})


def main():
    page, header = read("man", "slabd-protocol.7"), read("lib", "wire.h")
    check_types(page, header)
    check_constants(page, "".join(
        [header] + [read("lib", name) for name in
                    ("lane.h", "claim.h", "magazine.h")]))
    check_errors(page)
    check_client(page)
    for fault in faults:
        print(f"slabd-protocol.7: {fault}", file=sys.stderr)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
