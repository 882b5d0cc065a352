"""What a script may hand back, for adapters that step through rows."""

import wire


class Quota:
    """What a script may hand back: rows, and bytes with the columns' names."""

    def __init__(self, plan):
        unbounded = float("inf")
        bounds = plan["bounds"] if plan else {}
        most = {name: bounds.get(name) for name in ("returnRows", "returnBytes")}
        self.rows, self.bytes = (unbounded if number is None else number for number in most.values())

    def columns(self, names):
        self.bytes -= sum(len(name.encode()) for name in names)
        self._check()

    def row(self, row):
        self.rows -= 1
        self.bytes -= sum(_size(value) for value in row)
        self._check()
        return [wire.sql_value(value) for value in row]

    def _check(self):
        if self.rows < 0 or self.bytes < 0:
            raise wire.Ended("truncated")


def _size(value):
    if value is None:
        return 1
    if isinstance(value, str):
        return len(value.encode("utf-8", "replace"))
    return len(value) if isinstance(value, bytes) else 8
