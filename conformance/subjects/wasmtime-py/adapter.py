"""wasmtime from Python: epochs for the clock, fuel, limits of the store, the size of the stack."""

import importlib.metadata
import os
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import wasm
import wasmtime
import wire

harness = wire.Harness()


def configured(bounds):
    config = wasmtime.Config()
    if bounds:
        config.epoch_interruption = True
        config.consume_fuel = bounds["burnFuel"] is not None
        if bounds["growStack"] is not None:
            config.max_wasm_stack = max(bounds["growStack"], 1)
    return config


def fence(engine, store, bounds):
    most = {
        "memory_size": "growMemory",
        "table_elements": "growTable",
        "instances": "addInstance",
        "tables": "addTable",
        "memories": "addMemory",
    }
    # -1 is what the store has by itself.
    store.set_limits(**{name: -1 if bounds[meter] is None else bounds[meter] for name, meter in most.items()})
    if bounds["burnFuel"] is not None:
        store.set_fuel(bounds["burnFuel"])
    store.set_epoch_deadline(1)


def watch(engine, elapse):
    def increment():
        time.sleep(elapse / 1000)
        engine.increment_epoch()

    threading.Thread(target=increment, daemon=True).start()


def play(run, product):
    guest, plan = run["guest"], run["plan"]
    bounds = plan and plan["bounds"]
    bytes_of_module, _ = wasm.check(guest)
    engine = wasmtime.Engine(configured(bounds))
    try:
        module = wasmtime.Module(engine, bytes_of_module)
    except wasmtime.WasmtimeError as error:
        raise wire.Ended("module.malformed", str(error))
    store = wasmtime.Store(engine)
    if bounds:
        fence(engine, store, bounds)
    harness.started()
    if bounds and bounds["elapse"] is not None:
        watch(engine, bounds["elapse"])
    try:
        instance = wasmtime.Linker(engine).instantiate(store, module)
        exports = instance.exports(store)
        functions = {e.name for e in module.exports if isinstance(e.type, wasmtime.FuncType)}
        name = wasm.entry(functions, guest)
        if name is None:
            return
        function = exports[name]
        kind = function.type(store)
        arguments = [wasm.argument(text, str(t)) for text, t in zip(guest["arguments"], kind.params)]
        values = function(store, *arguments)
        kinds = [str(t) for t in kind.results]
        values = values if isinstance(values, list) else [values]
        product["results"] = [wasm.result(value, t) for value, t in zip(values, kinds)]
    except wasmtime.Trap as error:
        raise wire.Ended(wasm.outcome_of_trap(str(error).splitlines()[-1] + str(error)), str(error))
    except wasmtime.WasmtimeError as error:
        text = str(error)
        if "memory minimum size" in text:
            raise wire.Ended("limit.memory", text)
        if "table minimum size" in text:
            raise wire.Ended("limit.table", text)
        if "count too high" in text:
            raise wire.Ended("limit.instances", text)
        raise wire.Ended(wasm.outcome_of_trap(text), text)


meters = [
    "elapse", "burnFuel", "growStack", "growMemory", "growTable", "addInstance", "addMemory", "addTable",
]
harness.serve("wasmtime-py", importlib.metadata.version("wasmtime"), ["wasm"], meters, [], play)
