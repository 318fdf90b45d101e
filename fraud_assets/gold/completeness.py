"""Whether every Silver row has exactly one score: the evaluator behind `every_transaction_is_scored_once`."""

from dataclasses import dataclass
from typing import Final

import duckdb

_FINGERPRINT: Final = "count(*) AS n, sum(hash(TransactionID)) AS ids, sum(hash(hash(TransactionID))) AS mixed"
"""Which ids there are and how often, whatever their order: a partition of any size is compared in the memory of three
numbers. Other ids give the same by an accident of one in 2^64; the second sum is for ids so regular that the first
would not scatter them. Both sides are hashed by one query, so that no release of DuckDB has to keep its hash."""


@dataclass(frozen=True)
class Completeness:
    """How many rows were compared, and what is wrong, by partition."""

    rows: int
    faults: dict[str, str]


def compare_scored(con: duckdb.DuckDBPyConnection, *, silver: str, gold: str) -> Completeness:
    """Compare the keys (partition_key, TransactionID) of two relations, for the partitions that are in Gold.

    A partition that is not scored yet is no fault; `fraud-assets status` shows it as due. Keys are matched one by one
    only in partitions whose fingerprints differ, to say what is wrong there.
    """
    fingerprints = con.execute(
        f"""
        WITH built AS (SELECT partition_key, {_FINGERPRINT} FROM {silver} GROUP BY ALL),
        scored AS (SELECT partition_key, {_FINGERPRINT} FROM {gold} GROUP BY ALL)
        SELECT partition_key, scored.n, (scored.n, scored.ids, scored.mixed) = (built.n, built.ids, built.mixed)
        FROM scored LEFT JOIN built USING (partition_key)
        """
    ).fetchall()
    alike = {key: rows for key, rows, equal in fingerprints if equal}
    if len(alike) == len(fingerprints):
        return Completeness(rows=sum(alike.values()), faults={})
    counted = "SELECT partition_key, TransactionID, count(*) AS n FROM {} WHERE partition_key IN $keys GROUP BY ALL"
    compared = con.execute(
        f"""
        WITH built AS ({counted.format(silver)}), scored AS ({counted.format(gold)}),
        compared AS (
            SELECT partition_key, coalesce(built.n, 0) AS built_rows, coalesce(scored.n, 0) AS scored_rows
            FROM scored FULL JOIN built USING (partition_key, TransactionID)
        )
        SELECT
            partition_key,
            count(*),
            count(*) FILTER (scored_rows < built_rows),
            count(*) FILTER (scored_rows > greatest(built_rows, 1)),
            count(*) FILTER (built_rows = 0)
        FROM compared GROUP BY ALL ORDER BY ALL
        """,
        {"keys": [key for key, *_ in fingerprints if key not in alike]},
    ).fetchall()
    return Completeness(
        rows=sum(alike.values()) + sum(rows for _, rows, *_ in compared),
        faults={
            key: f"{unscored} not scored, {repeated} scored more than once, {unknown} not in Silver"
            for key, _, unscored, repeated, unknown in compared
        },
    )
