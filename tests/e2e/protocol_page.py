#!/usr/bin/env python3
"""Compares slabd-protocol(7), and the client written from it, with lib/wire.h.

Types, flags, limits, the width and the order of every field, and the error
numbers of this host must be the same; the offsets in a table must follow from
the sizes. A name that is new in wire.h is an error until the page has it and
CONSTANTS below says where.
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
    "WIRE_ATTACH_RDONLY": r"RDONLY (\w+):",
    "WIRE_RIGHT_READ": r"\"READ (\w+),",
    "WIRE_RIGHT_WRITE": r"WRITE (\w+)\"",
    "WIRE_FD_REGION": r"REGION (\d+);",
    "REF_SLOT_BITS": r"slot: (\d+) bits",
    "REF_VERSION_BITS": r"version: (\d+) bits",
    "REF_SLOTS_MAX": r"slots in a pool\" Ta (\d+)",
}
DERIVED = {"REF_SLOTS_MAX": lambda c: 1 << c["REF_SLOT_BITS"]}
IGNORED = {"REF_VERSION_MASK", "SLABD_WIRE_H"}

faults = []


def check(what, page, header):
    if page != header:
        faults.append(f"{what}: the page has {page}, the header {header}")


def read(*path):
    with open(os.path.join(TOP, *path), encoding="utf-8") as file:
        return file.read()


def widths(text):
    """The sizes in bytes of the fields that a comment lists."""
    return [int(bits) // 8 for bits in re.findall(r"\b[ui](16|32|64)\b", text)]


def header_types(text):
    """name: (number, request widths, reply widths), from the comments."""
    body = re.search(r"enum wire_type \{(.*?)\n\};", text, re.S).group(1)
    types, comment, group = {}, "", []
    for match in re.finditer(r"/\*(.*?)\*/|WIRE_(\w+) = (\w+)", body, re.S):
        if match.group(1) is not None:
            comment = re.sub(r"\s*\n\s*\*\s?", " ", match.group(1))
            group = []
            continue
        name, number = match.group(2), int(match.group(3), 0)
        request, _, reply = comment.partition("Reply")
        of_group = re.search(rf"\b{name} is ([^.;]*)", comment)
        if of_group or group or f"{name} and " in comment:
            group.append(name)
            request = of_group.group(1) if of_group else ""
        if name != "REPLY":
            types[name.replace("EVENT_", "")] = (number, widths(request),
                                                 widths(reply))
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
        elif line.startswith(".It ") and rows is not None:
            rows.append(tuple(cell.strip().strip('"').replace("\\&", "")
                              for cell in line[4:].split(" Ta ")[:3]))
        elif line.startswith(".El"):
            rows = None
    return tables


def check_offsets(where, rows, start):
    """Each offset is where the field before ended; repeated ones by group."""
    at, stride, group = start, None, 0
    for offset, size, field in rows:
        base, _, step = offset.partition("+")
        if step:
            stride = stride or int(step.rstrip("i"))
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
    for (section, kind), rows in tables.items():
        check_offsets(f"{section} {kind or ''}", rows, 16 if kind else 0)
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


def check_constants(page, header):
    values = {name: int(number, 0) for name, number in re.findall(
        r"^#define\s+((?:WIRE|REF)_\w+)\s+(\w+?)u?\b(?!\()", header, re.M)
        if number != "UINT32_C"}
    values["WIRE_REPLY"] = int(re.search(r"WIRE_REPLY = (\w+)",
                                         header).group(1), 0)
    for name, derive in DERIVED.items():
        values[name] = derive(values)
    known = set(CONSTANTS) | IGNORED
    for name in re.findall(r"^#define\s+(\w+)", header, re.M):
        if name not in known:
            faults.append(f"{name} is new in wire.h: is it in the page?")
    for name, pattern in CONSTANTS.items():
        found = {int(number, 0) for number in re.findall(pattern, page)}
        check(name, found, {values[name]})


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


def main():
    page, header = read("man", "slabd-protocol.7"), read("lib", "wire.h")
    check_types(page, header)
    check_constants(page, header)
    check_errors(page)
    check_client(page)
    for fault in faults:
        print(f"slabd-protocol.7: {fault}", file=sys.stderr)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
