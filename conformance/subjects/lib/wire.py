"""An adapter's half of the protocol that docs/put-a-runtime-to-the-test.md describes, for adapters in Python."""

import json
import os
import sys


class Unsupported(Exception):
    """The subject has no means for what the case needs; the text says what that would be."""


class Ended(Exception):
    """The guest was ended."""

    def __init__(self, outcome, detail=""):
        super().__init__(detail)
        self.outcome = outcome
        self.detail = detail


class Harness:
    """The other end of the wire."""

    def __init__(self):
        # What a guest or a library prints must not pass for an answer.
        self._out = os.fdopen(os.dup(1), "w", encoding="utf-8")
        os.dup2(2, 1)
        self._in = sys.stdin.buffer
        self.case = None
        self._known = {}

    def _say(self, **message):
        self._out.write(json.dumps(message) + "\n")
        self._out.flush()

    def _hear(self):
        line = self._in.readline()
        if not line:
            sys.exit(0)
        return json.loads(line)

    def started(self):
        """The guest's first instruction comes next."""
        self._say(type="started", case=self.case)

    def granted(self, plan, action, resource, **context):
        """Whether the plan grants the action on this. Asks only where the plan does not say."""
        grant = plan["actions"].get(action, "denied")
        if grant != "ask":
            return grant == "granted"
        context = {name: value for name, value in context.items() if value is not None}
        question = (action, tuple(resource), tuple(context.items()))
        if question not in self._known:
            self._say(type="ask", case=self.case, action=action, resource=resource, context=context)
            self._known[question] = self._hear()["granted"]
        return self._known[question]

    def serve(self, subject, version, kinds, meters, actions, play):
        """Says hello and plays one guest. `play(run, product)` fills in what the guest hands back, and raises `Ended`
        or `Unsupported`."""
        hello = self._hear()
        assert hello["type"] == "hello", hello
        self._say(
            type="hello",
            protocol=1,
            subject=subject,
            version=version,
            kinds=kinds,
            meters=sorted(meters),
            actions=sorted(actions),
        )
        run = self._hear()
        self.case = run["case"]
        product = {}
        try:
            play(run, product)
            outcome, detail = "completed", ""
        except Ended as ended:
            outcome, detail = ended.outcome, ended.detail
        except Unsupported as unsupported:
            self._say(type="unsupported", case=self.case, needs=str(unsupported))
            return
        self._say(**{"type": "done", "case": self.case, "class": outcome, "detail": detail[:500]}, **product)


def sql_value(value):
    """A value of a row, as the protocol writes it."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return {"integer": str(int(value))}
    if isinstance(value, int):
        return {"integer": str(value)}
    if isinstance(value, float):
        return {"real": repr(value)}
    if isinstance(value, str):
        return {"text": value.encode("utf-8", "replace").decode()}
    if isinstance(value, bytes):
        return {"blob": value.hex()}
    return {"text": str(value)}
