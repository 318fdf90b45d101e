"""Whether every landed row is somewhere: the evaluator behind `rows_are_accounted_for`. Opens no table."""

from collections.abc import Mapping
from dataclasses import dataclass

import duckdb


@dataclass(frozen=True)
class Accounting:
    """How many partitions were compared, and what does not add up, by partition."""

    partitions: int
    faults: dict[str, str]


def account_for_rows(con: duckdb.DuckDBPyConnection, *, builds: str, silver: str, quarantined: str) -> Accounting:
    """Compare what landed in each built partition with the rows that Silver and quarantine hold now (relations)."""
    compared = con.execute(
        f"""
        WITH good AS (SELECT partition_key, count(*) AS n FROM {silver} GROUP BY ALL),
        refused AS (SELECT partition_key, count(*) AS n FROM {quarantined} GROUP BY ALL),
        landed AS (SELECT partition_key, landed_rows FROM {builds})
        SELECT partition_key, coalesce(landed_rows, 0), coalesce(good.n, 0), coalesce(refused.n, 0)
        FROM landed FULL JOIN good USING (partition_key) FULL JOIN refused USING (partition_key)
        ORDER BY partition_key
        """
    ).fetchall()
    return Accounting(
        partitions=len(compared),
        faults={
            key: f"{landed} landed, {good} in Silver, {refused} quarantined"
            for key, landed, good, refused in compared
            if landed != good + refused
        },
    )


def shares_over_limit(builds: Mapping[str, Mapping[str, int]], *, limit: float) -> dict[str, float]:
    """Return the share of the `landed_rows` that is quarantined, by partition, where it lies above the limit."""
    shares = {key: build["quarantined_rows"] / max(build["landed_rows"], 1) for key, build in builds.items()}
    return {key: share for key, share in shares.items() if share > limit}
