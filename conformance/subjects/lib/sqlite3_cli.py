"""SQLite's shell, plain or with -safe. It has limits, switches and pragmas, and with -safe a fixed list of what it will not
do; it has no deadline, and knows no tables that some may read and others may not."""

import os
import re
import secrets
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import sqlite
import wire

harness = wire.Harness()
SAFE = sys.argv[1:] == ["safe"]
NAMES = {
    "sqlLength": "length",
    "sqlSqlLength": "sql_length",
    "sqlColumn": "column",
    "sqlExprDepth": "expr_depth",
    "sqlCompoundSelect": "compound_select",
    "sqlVdbeOp": "vdbe_op",
    "sqlFunctionArg": "function_arg",
    "sqlAttached": "attached",
    "sqlLikePatternLength": "like_pattern_length",
    "sqlVariableNumber": "variable_number",
    "sqlTriggerDepth": "trigger_depth",
    "sqlWorkerThreads": "worker_threads",
}
SWITCHES = ["defensive on", "trusted_schema off", "writable_schema off", "dqs_ddl off", "dqs_dml off"]
# More output than any case needs.
MOST = 16 << 20


def before(plan):
    lines = [".bail on", ".headers off", ".mode quote", sqlite.OWNER + ";"]
    if plan:
        lines += [f".dbconfig {switch}" for switch in SWITCHES]
        lines += [f"{text};" for text in sqlite.prelude(plan)]
        for meter, name in NAMES.items():
            most = plan["bounds"][meter]
            if most is not None:
                lines.append(f".limit {name} {min(most, 2**31 - 1)}")
    return lines


VALUE = re.compile(r"NULL|X'(?P<blob>[0-9A-Fa-f]*)'|'(?P<text>(?:[^']|'')*)'|(?P<number>[-+0-9.eEInfa]+)", re.DOTALL)


def rows(text):
    """Rows in mode quote: SQL literals, commas between, a line's end after each row."""
    found, row, at = [], [], 0
    while at < len(text):
        match = VALUE.match(text, at)
        if not match:
            break
        if match["blob"] is not None:
            row.append({"blob": match["blob"].lower()})
        elif match["text"] is not None:
            row.append({"text": match["text"].replace("''", "'")})
        elif match["number"] is not None:
            kind = "integer" if re.fullmatch(r"[-+]?[0-9]+", match["number"]) else "real"
            row.append({kind: match["number"]})
        else:
            row.append("null")
        at = match.end()
        if text[at : at + 1] == ",":
            at += 1
            continue
        at = text.find("\n", at) + 1 or len(text)
        found.append(row)
        row = []
    return found


def play(run, product):
    plan = run["plan"]
    mark = secrets.token_hex(16)
    lines = before(plan) + [f".print {mark}"]
    for statement in sqlite.statements(run["guest"]["script"]):
        # Ended in any case, or the mark would be part of it.
        lines += [statement, ";", f".print {mark}"]
    command = ["sqlite3", "-batch", "-init", "/dev/null", *(["-safe"] if SAFE and plan else []), run["database"] or ":memory:"]
    shell = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    harness.started()
    shell.stdin.write("\n".join(lines).encode() + b"\n")
    shell.stdin.close()
    output = shell.stdout.read(MOST)
    is_cut = len(output) == MOST
    if is_cut:
        shell.kill()
    error = shell.stderr.read(65536).decode("utf-8", "replace").strip()
    status = shell.wait()
    parts = output.decode("utf-8", "replace").split(mark + "\n")
    # What comes before the first mark is the adapter's own, and after the last one no statement ended.
    product["statements"] = [{"rows": rows(part)} for part in parts[1:-1]]
    if status < 0 and not is_cut:
        # The guest brought the subject down: the adapter goes the same way.
        os.kill(os.getpid(), -status)
    if is_cut:
        raise wire.Ended("truncated")
    if error or status:
        if "safe mode" in error:
            raise wire.Ended("denied.function" if "()" in error else "denied.sql-action", error)
        raise wire.Ended(sqlite.outcome_of_error(None, error), error)


def version():
    return subprocess.run(["sqlite3", "--version"], capture_output=True, text=True, check=True).stdout.split()[0]


meters = [*NAMES, "growHeap", "growDatabase"]
name, actions = ("sqlite3-cli-safe", ["attach", "callFunction"]) if SAFE else ("sqlite3-cli", [])
harness.serve(name, version(), ["sql"], meters, actions, play)
