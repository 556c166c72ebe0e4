"""A checksum for each row of the database, so that a byte that changed on disk is noticed.

SQLite checks how its pages hang together, not what stands in them. Triggers, which exist for our
connections only, keep one sum per row in the table ``row_sums``; at each start all are compared.
"""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Iterator

SUMS = "row_sums"
#: Takes all rows as they are, at the next start.
FORGET = f"DELETE FROM {SUMS}"  # noqa: S608  (names are ours)
CREATE = f"""CREATE TABLE {SUMS} (
    of_table TEXT NOT NULL,
    row_key TEXT NOT NULL,
    sum INTEGER NOT NULL,
    PRIMARY KEY (of_table, row_key)
) STRICT, WITHOUT ROWID"""


def attach(connection: sqlite3.Connection) -> None:
    """From now on every change through this connection changes the sums, too."""
    connection.create_function("clouditia_sum", -1, _sum, deterministic=True)
    connection.execute("PRAGMA recursive_triggers = ON")  # INSERT OR REPLACE deletes rows, too
    for table in _tables(connection):
        for event, rows in (("INSERT", ("new",)), ("DELETE", ("old",)), ("UPDATE", ("old", "new"))):
            steps = [_forget(connection, table, "old")] if "old" in rows else []
            steps += [_note(connection, table, "new")] if "new" in rows else []
            connection.execute(
                f"CREATE TEMP TRIGGER sum_{table}_{event} AFTER {event} ON main.{table} "
                f"BEGIN {' '.join(steps)} END"
            )


def recompute(connection: sqlite3.Connection) -> None:
    """Take all rows as they are; the caller has begun a transaction."""
    connection.create_function("clouditia_sum", -1, _sum, deterministic=True)
    connection.execute(FORGET)
    for table in _tables(connection):
        key, values = _expressions(connection, table, table)
        connection.execute(
            f"INSERT INTO {SUMS} SELECT '{table}', {key}, {values} FROM {table}"  # noqa: S608
        )


def first_damage(connection: sqlite3.Connection) -> str | None:
    """Where a row is not what was written: its table, or None. No sums at all say nothing."""
    connection.create_function("clouditia_sum", -1, _sum, deterministic=True)
    counts = {str(name): int(count) for name, count in connection.execute(_COUNT)}
    if not counts:
        return None
    for table in _tables(connection):
        key, values = _expressions(connection, table, "found")
        rows = connection.execute(
            f"SELECT count(*), coalesce(sum({values} IS sums.sum), 0) FROM {table} AS found "  # noqa: S608
            f"LEFT JOIN {SUMS} AS sums ON sums.of_table = '{table}' AND sums.row_key = {key}"
        )
        found, right = rows.fetchone()
        if not found == right == counts.pop(table, 0):
            return table
    return next(iter(counts), None)


_COUNT = f"SELECT of_table, count(*) FROM {SUMS} GROUP BY of_table"  # noqa: S608


def _tables(connection: sqlite3.Connection) -> Iterator[str]:
    names = connection.execute(
        "SELECT name FROM main.sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite%' "
        "AND name <> ? ORDER BY name",
        (SUMS,),
    )
    return iter([str(row[0]) for row in names.fetchall()])


def _expressions(connection: sqlite3.Connection, table: str, row: str) -> tuple[str, str]:
    """SQL for the key of a row and for its sum."""
    columns = connection.execute(f"PRAGMA table_info({table})").fetchall()
    keys = sorted((int(column[5]), str(column[1])) for column in columns if column[5])
    key = ", ".join(f"{row}.{name}" for _, name in keys) or f"{row}.rowid"
    values = ", ".join(f"{row}.{column[1]}" for column in columns)
    return f"json_array({key})", f"clouditia_sum({values})"


def _note(connection: sqlite3.Connection, table: str, row: str) -> str:
    key, values = _expressions(connection, table, row)
    return f"INSERT OR REPLACE INTO {SUMS} VALUES ('{table}', {key}, {values});"  # noqa: S608


def _forget(connection: sqlite3.Connection, table: str, row: str) -> str:
    key, _ = _expressions(connection, table, row)
    return f"DELETE FROM {SUMS} WHERE of_table = '{table}' AND row_key = {key};"  # noqa: S608


def _sum(*values: object) -> int:
    return zlib.crc32(repr(values).encode("utf-8", "surrogatepass"))
