"""Extism from Python: pages of memory and a timeout in the manifest. A function hands back bytes and a code, not numbers."""

import importlib.metadata
import os
import re
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import extism
import wasm
import wire

harness = wire.Harness()
PAGE = 65536


def play(run, product):
    guest, plan = run["guest"], run["plan"]
    bounds = plan["bounds"] if plan else {"growMemory": None, "elapse": None}
    if guest["arguments"]:
        raise wire.Unsupported("arguments of an export")
    module, exports = wasm.check(guest)
    manifest = {"wasm": [{"data": module}]}
    if bounds["growMemory"] is not None:
        manifest["memory"] = {"max_pages": bounds["growMemory"] // PAGE}
    if bounds["elapse"] is not None:
        manifest["timeout_ms"] = max(bounds["elapse"], 1)
    # The start function runs in here.
    harness.started()
    try:
        plugin = extism.Plugin(manifest, wasi=False)
        name = wasm.entry(exports, guest)
        if name is not None:
            plugin.call(name, b"")
            product["results"] = [{"i32": "0"}]
    except extism.Error as error:
        text = str(error)
        # A code that is not zero is what the function returned.
        code = re.fullmatch(r"Error code: (-?\d+)", text)
        if not code:
            raise wire.Ended(outcome_of(text), text)
        product["results"] = [wasm.result(int(code[1]), "i32")]


def outcome_of(text):
    if "unknown import" in text:
        return "denied.import"
    if "Unable to compile" in text or "failed to parse" in text:
        return "module.malformed"
    return wasm.outcome_of_trap(text)


harness.serve("extism", importlib.metadata.version("extism-sys"), ["wasm"], ["growMemory", "elapse"], [], play)
