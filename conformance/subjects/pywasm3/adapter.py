"""wasm3 from Python: an interpreter with a stack of a given size. Nothing else can be bounded."""

import importlib.metadata
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import wasm3
import wasm
import wire

harness = wire.Harness()
KINDS = {1: "i32", 2: "i64", 3: "f32", 4: "f64"}
# What its own examples use.
STACK = 64 * 1024


def play(run, product):
    guest, plan = run["guest"], run["plan"]
    bound = plan and plan["bounds"]["growStack"]
    module, exports = wasm.check(guest)
    environment = wasm3.Environment()
    runtime = environment.new_runtime(STACK if bound is None else bound)
    try:
        runtime.load(environment.parse_module(module))
    except RuntimeError as error:
        raise wire.Ended("module.malformed", str(error))
    harness.started()
    try:
        name = wasm.entry(exports, guest)
        if name is None:
            return
        function = runtime.find_function(name)
        kinds = [KINDS[kind] for kind in function.ret_types]
        arguments = [wasm.argument(text, KINDS[kind]) for text, kind in zip(guest["arguments"], function.arg_types)]
        values = function(*arguments)
        values = values if isinstance(values, tuple) else [values]
        product["results"] = [wasm.result(value, kind) for value, kind in zip(values, kinds)]
    except RuntimeError as error:
        text = str(error)
        if "missing imported function" in text:
            raise wire.Ended("denied.import", text)
        raise wire.Ended(wasm.outcome_of_trap(text), text)


harness.serve("pywasm3", importlib.metadata.version("pywasm3"), ["wasm"], ["growStack"], [], play)
