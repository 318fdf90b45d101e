"""Whether every Silver row has exactly one score: the evaluator behind `every_transaction_is_scored_once`."""

from dataclasses import dataclass

import duckdb


@dataclass(frozen=True)
class Completeness:
    """How many rows were compared, and what is wrong, by partition."""

    rows: int
    faults: dict[str, str]


def compare_scored(con: duckdb.DuckDBPyConnection, *, silver: str, gold: str) -> Completeness:
    """Compare the keys (partition_key, TransactionID) of Silver and Gold, for the partitions that are in Gold.

    A partition that is not scored yet is no fault; `fraud-assets status` shows it as due.

    Args:
        con: DuckDB in UTC.
        silver: relation with the Silver rows.
        gold: relation with the Gold rows.
    """
    compared = con.execute(
        f"""
        WITH built AS (SELECT partition_key, TransactionID, count(*) AS n FROM {silver} GROUP BY ALL),
        scored AS (SELECT partition_key, TransactionID, count(*) AS n FROM {gold} GROUP BY ALL),
        compared AS (
            SELECT partition_key, coalesce(built.n, 0) AS built_rows, coalesce(scored.n, 0) AS scored_rows
            FROM scored FULL JOIN built USING (partition_key, TransactionID)
            WHERE partition_key IN (SELECT partition_key FROM {gold})
        )
        SELECT
            partition_key,
            count(*),
            count(*) FILTER (scored_rows = 0),
            count(*) FILTER (scored_rows > 1),
            count(*) FILTER (built_rows = 0)
        FROM compared GROUP BY partition_key ORDER BY partition_key
        """
    ).fetchall()
    return Completeness(
        rows=sum(row[1] for row in compared),
        faults={
            key: f"{unscored} not scored, {repeated} scored more than once, {unknown} not in Silver"
            for key, _, unscored, repeated, unknown in compared
            if unscored or repeated or unknown
        },
    )
