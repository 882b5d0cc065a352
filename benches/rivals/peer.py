"""Does one thing as often as it is told, and says how long that took: a line with a number in, a line with the nanoseconds of its
own thread and the answer out.

    peer.py kept DATABASE SCRIPT       Python's sqlite3, the same text each time
    peer.py compiled DATABASE SCRIPT   another text each time: the number of the time is put where {} is
    peer.py extism KERNEL MAIN         Extism: MAIN's `twice`, which calls the module `kernel`
    peer.py versions                   nothing: what all of these are
"""

import sys
import time


def kept(path, script):
    import sqlite3

    connection = sqlite3.connect(path)
    return lambda time: connection.execute(script).fetchall()


def compiled(path, script):
    import sqlite3

    connection = sqlite3.connect(path, cached_statements=0)
    return lambda time: connection.execute(script.format(time % 10000 + 1)).fetchall()


def extism(kernel, main):
    import extism

    modules = [("kernel", kernel), ("main", main)]
    manifest = {"wasm": [{"name": name, "data": open(path, "rb").read()} for name, path in modules]}
    plugin = extism.Plugin(manifest, wasi=False)

    def once(time):
        # A function returns no number but a code, which is an error's unless it is 0.
        try:
            return plugin.call("twice", b"")
        except extism.Error as error:
            return str(error)

    return once


def versions():
    import importlib.metadata
    import platform
    import sqlite3

    all = {"python": platform.python_version(), "python-sqlite3": sqlite3.sqlite_version}
    all |= {name: importlib.metadata.version(name) for name in ("extism", "extism-sys")}
    return lambda time: ", ".join(f"{name} {version}" for name, version in all.items())


once = {"kept": kept, "compiled": compiled, "extism": extism, "versions": versions}[sys.argv[1]](*sys.argv[2:])
done = 0
for line in sys.stdin:
    begun = time.thread_time_ns()
    for _ in range(int(line)):
        answer = once(done)
        done += 1
    print(time.thread_time_ns() - begun, str(answer).replace("\n", " "), flush=True)
