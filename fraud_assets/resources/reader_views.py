"""`fraud.duckdb`: read-only views of the tables, for any DuckDB client. It is for readers, never a place of work.

Nothing is known of Delta here: what a view shows is a query over files, which `fraud_assets.resources.lake` makes.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import duckdb
from duckdb import DuckDBPyConnection
from filelock import FileLock

from fraud_assets.digests import digest_lines
from fraud_assets.files import replacing
from fraud_assets.resources.tables import TABLES, Table
from fraud_assets.sql import identifier, literal

READER_DATABASE: Final = "fraud.duckdb"
"""File name of the read-only views; a reader opens it with any DuckDB client."""

_STORAGE_VERSION: Final = "v1.0.0"
"""The format of the file: every DuckDB from 1.0 on opens it, also those that tools bring along."""


@dataclass(frozen=True)
class View:
    """One version of a table, at the place where it lies, as a query over the files of that version."""

    table: Table
    version: int | None
    location: str
    query: str


def publish(path: Path, current: Callable[[], Iterable[View]]) -> None:
    """Write the views that `current` gives to a new file and move it over the old one.

    Readers keep what they opened and nobody waits. `current` is called inside the lock, so that a slow publisher cannot
    take the file back in time.
    """
    with FileLock(path.with_name(f".{path.name}.lock")), duckdb.connect() as connection:
        for left in path.parent.glob(f".{path.name}.*.tmp*"):
            left.unlink(missing_ok=True)  # Who made it died: nobody else writes while this lock is held.
        with replacing(path) as fresh:
            connection.execute(f"ATTACH {literal(str(fresh))} AS fresh (STORAGE_VERSION '{_STORAGE_VERSION}')")
            connection.execute("USE fresh")
            connection.begin()  # one transaction, or each statement waits for the disk
            _write(connection, current())
            connection.commit()
            connection.execute("USE memory")
            connection.execute("DETACH fresh")


def _write(connection: DuckDBPyConnection, views: Iterable[View]) -> None:
    connection.execute(
        "CREATE TABLE tables (name VARCHAR, version BIGINT, as_of TIMESTAMPTZ, grain VARCHAR, location VARCHAR)"
    )
    connection.execute(f"COMMENT ON TABLE tables IS {literal(_words())}")
    as_of, statements = datetime.now(tz=UTC), []
    for view in views:
        table = view.table
        values = [table.address, view.version, as_of, table.grain, view.location]
        connection.execute("INSERT INTO tables VALUES (?, ?, ?, ?, ?)", values)
        statements += [
            f"CREATE SCHEMA IF NOT EXISTS {table.group}",
            f"CREATE VIEW {table.address} AS {view.query}",
            f"COMMENT ON VIEW {table.address} IS {literal(table.description)}",
            *(
                f"COMMENT ON COLUMN {table.address}.{identifier(name)} IS {literal(meaning)}"
                for name, meaning in table.meanings.items()
            ),
        ]
    connection.execute("; ".join(statements))  # one by one, hundreds of comments take twice as long


def _words() -> str:
    """Return a sentence with a digest of all columns and their meanings: views of other ones are written anew."""
    columns = (f"{table.address} {name}: {meaning}" for table in TABLES for name, meaning in table.meanings.items())
    return f"The tables and the versions that are shown; columns as of {digest_lines(columns)}."


@contextmanager
def open_views(path: Path) -> Iterator[DuckDBPyConnection]:
    """Give a read-only connection to the views, in UTC, as any reader would open it."""
    with duckdb.connect(path, read_only=True) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        yield connection


def published(path: Path) -> list[tuple[str, int | None, str]] | None:
    """Return name, version and location of what the views show, by name; None where they have to be written.

    They have to where the file is missing, damaged, of another release or format, or opened by someone for writing.
    """
    try:
        with open_views(path) as connection:
            return connection.execute(
                "SELECT name, version, location FROM tables, duckdb_databases() AS file, duckdb_tables() AS described "
                "WHERE file.database_name = current_database() AND starts_with(file.tags['storage_version'], ?) "
                "AND described.table_name = 'tables' AND described.comment = ? ORDER BY ALL",
                [_STORAGE_VERSION, _words()],
            ).fetchall()
    except duckdb.Error:
        return None
