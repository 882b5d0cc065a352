"""APSW: the whole of SQLite's interface from Python, so every defence that SQLite has."""

import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import apsw
import quota
import sqlite
import wire

harness = wire.Harness()

# As SQLite's advice on hostile SQL says, https://sqlite.org/security.html; names that this build does not know are left out.
SWITCHES = {
    "SQLITE_DBCONFIG_DEFENSIVE": 1,
    "SQLITE_DBCONFIG_TRUSTED_SCHEMA": 0,
    "SQLITE_DBCONFIG_WRITABLE_SCHEMA": 0,
    "SQLITE_DBCONFIG_ENABLE_FTS3_TOKENIZER": 0,
    "SQLITE_DBCONFIG_ENABLE_ATTACH_CREATE": 0,
    "SQLITE_DBCONFIG_ENABLE_ATTACH_WRITE": 0,
    "SQLITE_DBCONFIG_DQS_DML": 0,
    "SQLITE_DBCONFIG_DQS_DDL": 0,
}
# Limits beyond those that every SQLite has, by the names that this build gives them.
NEWER = {
    "sqlParserDepth": "SQLITE_LIMIT_PARSER_DEPTH",
    "sqlSchema": "SQLITE_LIMIT_SCHEMA",
    "sqlTriggerSteps": "SQLITE_LIMIT_TRIGGER_STEPS",
}
LIMITS = {**sqlite.LIMITS, **{meter: getattr(apsw, name) for meter, name in NEWER.items() if hasattr(apsw, name)}}


def fence(connection, plan):
    for name, value in SWITCHES.items():
        if hasattr(apsw, name):
            connection.config(getattr(apsw, name), value)
    for text in sqlite.prelude(plan):
        connection.execute(text)
    for meter, number in LIMITS.items():
        most = plan["bounds"][meter]
        if most is not None:
            # SQLite counts its own schema table among the objects of a schema.
            own = 1 if meter == "sqlSchema" else 0
            connection.limit(number, min(most + own, 2**31 - 1))
    authorizer = sqlite.Authorizer(harness, plan)
    connection.authorizer = authorizer
    return authorizer


def play(run, product):
    plan = run["plan"]
    flags = apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE
    if plan is None:
        flags |= apsw.SQLITE_OPEN_URI
    connection = apsw.Connection(run["database"] or ":memory:", flags=flags)
    connection.enable_load_extension(plan is None)
    results = product["statements"] = []
    authorizer = None
    allowance = quota.Quota(plan)
    connection.execute(sqlite.OWNER)
    harness.started()
    try:
        if plan:
            authorizer = fence(connection, plan)
        deadline = sqlite.Deadline(connection, plan)

        def next_statement(_, text, __):
            deadline.check()
            if not sqlite.is_blank(text):
                results.append({"rows": []})
            return True

        def next_row(cursor, row):
            if not results[-1]["rows"]:
                allowance.columns(column[0] for column in cursor.get_description())
            return row

        cursor = connection.cursor()
        cursor.exec_trace = next_statement
        cursor.row_trace = next_row
        for row in cursor.execute(run["guest"]["script"]):
            results[-1]["rows"].append(allowance.row(row))
        deadline.check()
    except apsw.Error as error:
        if authorizer and authorizer.denied:
            raise wire.Ended(authorizer.outcome(), f"{authorizer.denied}: {error}")
        raise wire.Ended(sqlite.outcome_of_error(getattr(error, "result", None), str(error)), str(error))
    except (ValueError, UnicodeError) as error:
        raise wire.Ended("guest.malformed", str(error))
    except MemoryError:
        raise wire.Ended("limit.memory", "out of memory")


meters = [*LIMITS, "elapse", "growHeap", "growDatabase", "returnRows", "returnBytes"]
harness.serve("apsw", apsw.sqlite_lib_version(), ["sql"], meters, sqlite.ACTIONS, play)
