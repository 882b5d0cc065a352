"""What every adapter of a WebAssembly engine does alike."""

import wire

# Where a module is called when the case does not say.
ENTRIES = ("run", "_start")


def names(module):
    """The modules that a module imports from, and the names of what it exports; engines tell these in different ways, or not
    at all. Of what is no module, as far as it is one."""
    imports, exports = set(), set()
    at = 8
    try:
        while at < len(module):
            section, (size, at) = module[at], _number(module, at + 1)
            end, here = at + size, at
            if section in (2, 7):
                count, here = _number(module, here)
                for _ in range(count):
                    name, here = _name(module, here)
                    if section == 2:
                        imports.add(name)
                        _, here = _name(module, here)
                        here = _behind_type(module, here)
                    else:
                        exports.add(name)
                        _, here = _number(module, here + 1)
            at = end
    except IndexError:
        pass
    return imports, exports


def _number(module, at):
    number = shift = 0
    while True:
        byte = module[at]
        number |= (byte & 0x7F) << shift
        at += 1
        shift += 7
        if not byte & 0x80:
            return number, at


def _name(module, at):
    size, at = _number(module, at)
    return module[at : at + size].decode("utf-8", "replace"), at + size


def _behind_type(module, at):
    """Behind the type of an import: a function, table, memory, global or tag."""
    kind = module[at]
    at += 1
    if kind == 0:
        return _number(module, at)[1]
    if kind == 3:
        return at + 2
    if kind == 4:
        return _number(module, at + 1)[1]
    if kind == 1:
        at += 1
    flags = module[at]
    at = _number(module, at + 1)[1]
    return _number(module, at)[1] if flags & 1 else at


def check(guest):
    """Turns away what needs Stockade's own host functions or its contract of input and output. Returns the module, and the
    names of what it exports."""
    module = bytes.fromhex(guest["module"])
    imports, exports = names(module)
    if "stockade" in imports:
        raise wire.Unsupported("Stockade's host functions")
    if guest["invoke"] is None and "input_ptr" in exports:
        raise wire.Unsupported("the contract of input and output")
    return module, exports


def entry(exports, guest):
    """The name of the export to call, or `None`."""
    if guest["invoke"] is not None:
        if guest["invoke"] not in exports:
            raise wire.Ended("contract.missing-export", guest["invoke"])
        return guest["invoke"]
    return next((name for name in ENTRIES if name in exports), None)


def argument(text, kind):
    return int(text) if kind.startswith("i") else float(text)


def result(value, kind):
    if kind in ("i32", "i64"):
        bits = int(kind[1:])
        value = (int(value) + (1 << (bits - 1))) % (1 << bits) - (1 << (bits - 1))
        return {kind: str(value)}
    if kind in ("f32", "f64"):
        text = repr(float(value))
        return {kind: {"nan": "NaN"}.get(text, text)}
    return "opaque"


def outcome_of_trap(message):
    by_words = [
        ("all fuel consumed", "limit.fuel"),
        ("out of fuel", "limit.fuel"),
        ("interrupt", "limit.time"),
        ("timeout", "limit.time"),
        ("stack", "limit.stack"),
        ("unknown import", "denied.import"),
        ("oom", "limit.memory"),
    ]
    text = message.lower()
    return next((outcome for words, outcome in by_words if words in text), "trap")
