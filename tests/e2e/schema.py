#!/usr/bin/env python3
"""schema.py SCHEMA DOCUMENT: is a statistics document as the schema says?

Implements what our schema uses of JSON Schema 2020-12 and refuses keywords it
does not know, so that nothing in the schema goes unchecked. Then makes sure
that the check can fail, by spoiling each part of the document in turn, and
that in every pool the slots add up.
"""
import copy
import json
import re
import sys

ANNOTATIONS = {"$schema", "$id", "$defs", "title", "description", "format"}
TYPES = {
    "object": lambda v: isinstance(v, dict),
    "array": lambda v: isinstance(v, list),
    "string": lambda v: isinstance(v, str),
    "null": lambda v: v is None,
    "integer": lambda v: is_number(v) and v == int(v),
    "number": lambda v: is_number(v),
}


def is_number(value):
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def unlike(value, schema, root, path="$"):
    """Yields what is wrong with the value."""

    def resolve(ref):
        at = root
        for key in ref.removeprefix("#/").split("/"):
            at = at[key]
        return unlike(value, at, root, path)

    def types(names):
        names = names if isinstance(names, list) else [names]
        if not any(TYPES[name](value) for name in names):
            yield f"{path}: not of type {names}"

    def say(wrong, text):
        if wrong:
            yield f"{path}: {text}"

    def properties(known):
        for key in known.keys() & value.keys():
            yield from unlike(value[key], known[key], root, f"{path}.{key}")

    def items(each):
        for i, item in enumerate(value):
            yield from unlike(item, each, root, f"{path}[{i}]")

    keywords = {
        "$ref": (None, resolve),
        "type": (None, types),
        "const": (None, lambda c: say(value != c, f"not {c}")),
        "enum": (None, lambda e: say(value not in e, f"none of {e}")),
        "required": ("object", lambda keys: (
            f"{path}: no {key}" for key in keys if key not in value)),
        "properties": ("object", properties),
        "items": ("array", items),
        "minimum": ("number", lambda m: say(value < m, f"less than {m}")),
        "multipleOf": ("number", lambda m: say(value % m, f"no times {m}")),
        "minLength": ("string", lambda n: say(len(value) < n, "too short")),
        "maxLength": ("string", lambda n: say(len(value) > n, "too long")),
        "pattern": ("string", lambda p: say(
            not re.search(p, value), f"does not match {p}")),
    }
    for keyword, argument in schema.items():
        if keyword in ANNOTATIONS:
            continue
        of, check = keywords[keyword]
        if of is None or TYPES[of](value):
            yield from check(argument)


def places(value):
    """Yields every container in the value with each of its keys."""
    keys = value.keys() if isinstance(value, dict) else range(len(value))
    for key in list(keys):
        yield value, key
        if isinstance(value[key], (dict, list)):
            yield from places(value[key])


def spoil(document, schema):
    """Returns how many ways to spoil the document were all noticed."""
    count = len(list(places(document)))
    for i in range(count):
        spoilt = copy.deepcopy(document)
        container, key = list(places(spoilt))[i]
        other = isinstance(container[key], (list, str))
        container[key] = -1 if other else [-1]
        if not list(unlike(spoilt, schema, schema)):
            sys.exit(f"schema.py: {key!r} of a wrong type went unnoticed")
        if isinstance(container, dict):
            del container[key]
            if not list(unlike(spoilt, schema, schema)):
                sys.exit(f"schema.py: missing {key!r} went unnoticed")
    return count


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        schema = json.load(file)
    with open(sys.argv[2], encoding="utf-8") as file:
        document = json.load(file)
    wrong = list(unlike(document, schema, schema))
    for pool in document["pools"]:
        parts = ("free", "used", "cached", "in_flight", "quarantined")
        if sum(pool[part] for part in parts) != pool["slots"]:
            wrong.append(f"{pool['name']}: {parts} are not all its slots")
    if wrong:
        sys.exit("\n".join(["schema.py: the document is wrong:"] + wrong))
    print(f"{spoil(document, schema)} values checked")


if __name__ == "__main__":
    main()
