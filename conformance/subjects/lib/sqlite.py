"""What a plan means to SQLite, whichever library it is reached through."""

import re
import sqlite3
import threading
import time

import wire

# SQLITE_LIMIT_…, https://sqlite.org/c3ref/c_limit_attached.html
LIMITS = {
    "sqlLength": 0,
    "sqlSqlLength": 1,
    "sqlColumn": 2,
    "sqlExprDepth": 3,
    "sqlCompoundSelect": 4,
    "sqlVdbeOp": 5,
    "sqlFunctionArg": 6,
    "sqlAttached": 7,
    "sqlLikePatternLength": 8,
    "sqlVariableNumber": 9,
    "sqlTriggerDepth": 10,
    "sqlWorkerThreads": 11,
}

# The authorizer's codes, https://sqlite.org/c3ref/c_alter_table.html
ACTIONS = (
    "createIndex createTable createTempIndex createTempTable createTempTrigger createTempView createTrigger createView "
    "delete dropIndex dropTable dropTempIndex dropTempTable dropTempTrigger dropTempView dropTrigger dropView insert "
    "pragma read select transaction update attach detach alterTable reindex analyze createVtable dropVtable "
    "callFunction savepoint recursive"
).split()

OK, DENY = 0, 1


def question(code, first, second, database, trigger):
    """The action, its resource and its context for one call of the authorizer; `None` for what cannot be named."""
    if not 1 <= code <= len(ACTIONS):
        return None
    action = ACTIONS[code - 1]
    context = {"database": database, "trigger": trigger}
    schema = database or "main"
    if action in ("createIndex", "createTempIndex", "dropIndex", "dropTempIndex"):
        context["index"] = first
        resource = [schema, second]
    elif action in ("createTrigger", "createTempTrigger", "dropTrigger", "dropTempTrigger"):
        context["name"] = first
        resource = [schema, second]
    elif action in ("createVtable", "dropVtable"):
        context["module"] = second
        resource = [schema, first]
    elif action == "alterTable":
        resource = [first, second]
    elif action in ("read", "update"):
        resource = [schema, first, second]
    elif action == "pragma":
        context["argument"] = second
        resource = [first]
    elif action == "callFunction":
        resource = [second]
    elif action == "attach":
        context["file"] = first
        resource = [first]
    elif action == "detach":
        resource = [first]
    elif action in ("select", "recursive"):
        resource = [schema]
    elif action == "transaction":
        context["operation"] = first
        resource = [schema]
    elif action == "savepoint":
        context.update(operation=first, name=second)
        resource = [schema]
    elif action == "reindex":
        context["index"] = first
        resource = [schema]
    else:
        resource = [schema, first]
    if None in resource:
        return None
    return action, resource, context


class Authorizer:
    """Asks the plan whatever SQLite asks, and remembers what was denied."""

    def __init__(self, harness, plan):
        self.harness = harness
        self.plan = plan
        self.denied = None

    def __call__(self, code, first, second, database, trigger):
        asked = question(code, first, second, database, trigger)
        if asked is not None:
            action, resource, context = asked
            if self.harness.granted(self.plan, action, resource, **context):
                return OK
        self.denied = self.denied or (asked[0] if asked else f"code {code}")
        return DENY

    def outcome(self):
        return "denied.function" if self.denied == "callFunction" else "denied.sql-action"


def outcome_of_error(code, message):
    """The class of an error of SQLite."""
    by_code = {7: "limit.memory", 9: "limit.time", 13: "limit.storage", 18: "limit.sql-value", 23: "denied.sql-action"}
    by_words = [
        ("too many levels of trigger", "limit.sql-trigger"),
        ("string or blob too big", "limit.sql-value"),
        ("out of memory", "limit.memory"),
        ("is full", "limit.storage"),
        ("not authorized", "denied.sql-action"),
        ("prohibited", "denied.sql-action"),
        ("Expression tree is too large", "limit.sql-expr"),
        ("too many terms in compound", "limit.sql-compound"),
        ("pattern too complex", "limit.sql-pattern"),
        ("variable number must be", "limit.sql-variables"),
        ("too many arguments on function", "limit.sql-arguments"),
        ("too many columns", "limit.sql-columns"),
        ("too many attached", "limit.sql-attached"),
        ("parser stack overflow", "limit.sql-parser"),
        ("interrupted", "limit.time"),
    ]
    if code in by_code:
        return by_code[code]
    for words, outcome in by_words:
        if words in message:
            return outcome
    return "sql.syntax" if code in (None, 1) else "sql.error"


# Said with a plan and without: the corpus's databases are kept by an owner who wants them to hold together.
OWNER = "pragma foreign_keys = on"


def prelude(plan):
    """What is said in SQL before the guest: what SQLite's own advice on hostile SQL and hostile files names
    (https://sqlite.org/security.html), and the bounds for which there is a pragma."""
    # What is temporary is bounded by the heap only where it is kept there.
    pragmas = ["trusted_schema = off", "cell_size_check = on", "mmap_size = 0", "temp_store = memory"]
    heap = plan["bounds"]["growHeap"]
    if heap is not None:
        # Zero would be no limit.
        pragmas.append(f"hard_heap_limit = {max(heap, 1)}")
    database = plan["bounds"]["growDatabase"]
    if database is not None:
        pragmas.append(f"max_page_count = {max(database // 4096, 1)}")
    return [f"pragma {pragma}" for pragma in pragmas]


def limits(plan):
    """`(number, most)` of each `sqlite3_limit`."""
    for meter, number in LIMITS.items():
        most = plan["bounds"][meter]
        if most is not None:
            yield number, min(most, 2**31 - 1)


_BLANK = re.compile(r"(?:\s|;|--[^\n]*(?:\n|\Z)|/\*(?:(?!\*/).)*(?:\*/|\Z))*", re.DOTALL)


def statements(script):
    """Each statement of a script; what is only commentary is none."""
    begun = at = 0
    while (end := script.find(";", at)) >= 0:
        at = end + 1
        if sqlite3.complete_statement(script[begun:at]):
            if not is_blank(script[begun:at]):
                yield script[begun:at]
            begun = at
    if not is_blank(script[begun:]):
        yield script[begun:]


def is_blank(text):
    return _BLANK.fullmatch(text) is not None


class Deadline:
    """Ends a script whose time is up: SQLite asks while a statement runs, another thread interrupts it, and between
    statements the clock is looked at."""

    def __init__(self, connection, plan):
        elapse = plan["bounds"]["elapse"] if plan else None
        self.at = None if elapse is None else time.monotonic() + elapse / 1000
        if self.at is None:
            return
        connection.set_progress_handler(self.is_past, 100)
        timer = threading.Timer(elapse / 1000, self._interrupt, [connection])
        timer.daemon = True
        timer.start()

    def _interrupt(self, connection):
        # A statement that begins just now is not interrupted by what was said before it began.
        while True:
            connection.interrupt()
            time.sleep(0.01)

    def is_past(self):
        return self.at is not None and time.monotonic() > self.at

    def check(self):
        if self.is_past():
            raise wire.Ended("limit.time", "between two statements")
