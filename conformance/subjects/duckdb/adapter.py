"""DuckDB: no access to anything outside, a memory limit, and an interrupt. It has no authorizer."""

import os
import sys
import threading

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import duckdb
import quota
import wire

harness = wire.Harness()


def settings(plan):
    """As DuckDB's own page on securing it says: https://duckdb.org/docs/stable/operations_manual/securing_duckdb/overview"""
    if not plan:
        return {"threads": 1}
    settings = {
        "threads": 1,
        "enable_external_access": "false",
        "autoinstall_known_extensions": "false",
        "autoload_known_extensions": "false",
        "allow_community_extensions": "false",
        "temp_directory": "",
        "lock_configuration": "true",
    }
    heap = plan["bounds"]["growHeap"]
    if heap is not None:
        settings["memory_limit"] = f"{max(heap, 1)}B"
    return settings


def play(run, product):
    if run["database"]:
        raise wire.Unsupported("SQLite's file format")
    plan = run["plan"]
    try:
        connection = duckdb.connect(":memory:", config=settings(plan))
    except duckdb.Error as error:
        raise wire.Ended("limit.memory", str(error))
    elapse = plan and plan["bounds"]["elapse"]
    is_late = threading.Event()

    def interrupt():
        is_late.set()
        connection.interrupt()

    timer = threading.Timer((elapse or 0) / 1000, interrupt)
    timer.daemon = True
    results = product["statements"] = []
    allowance = quota.Quota(plan)
    harness.started()
    if elapse is not None:
        timer.start()
    try:
        for statement in connection.extract_statements(run["guest"]["script"]):
            cursor = connection.execute(statement)
            rows = []
            results.append({"rows": rows})
            allowance.columns(column[0] for column in cursor.description or [])
            while chunk := cursor.fetchmany(1000) if cursor.description else []:
                rows.extend(allowance.row(row) for row in chunk)
    except duckdb.Error as error:
        text = str(error)
        if is_late.is_set():
            raise wire.Ended("limit.time", text)
        if isinstance(error, duckdb.OutOfMemoryException):
            raise wire.Ended("limit.memory", text)
        if isinstance(error, duckdb.PermissionException) or "disabled by configuration" in text:
            raise wire.Ended("denied.sql-action", text)
        raise wire.Ended("sql.syntax" if isinstance(error, duckdb.ParserException) else "sql.error", text)
    except RuntimeError as error:
        raise wire.Ended("limit.time" if is_late.is_set() else "sql.error", str(error))
    except MemoryError:
        raise wire.Ended("limit.memory", "out of memory")
    finally:
        timer.cancel()


meters = ["elapse", "growHeap", "returnRows", "returnBytes"]
harness.serve("duckdb", duckdb.__version__, ["sql"], meters, ["attach"], play)
