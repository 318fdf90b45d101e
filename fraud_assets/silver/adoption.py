"""Silver rows that something else wrote: whether they may be scored, and what they are known by.

Here belongs what is asked of a partition that was not built from landed files. Who wrote it is not known, and nothing
of it is changed. Which partitions these are: `fraud_assets.resources.state`. See docs/adr/0021-adopted-silver.md.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

import duckdb

from fraud_assets.partition_keys import bounds
from fraud_assets.silver.contract import ContractCheck, check_features
from fraud_assets.silver.features import digest_stored_rows
from fraud_assets.silver.source import Source

_OF_CLEANING: Final[Mapping[str, str]] = {
    "TransactionAmt is below 100,000,000,000": "TransactionAmt < 1e11",
    "event_timestamp lies in the partition": "event_timestamp >= $start AND event_timestamp < $end",
}
"""Rules that cleaning keeps for what is built here; windows and lists of alerts rely on them."""


@dataclass(frozen=True)
class Adoption:
    """What was found of a partition; the digests are empty where its rows do not pass."""

    check: ContractCheck
    silver_digest: str = ""
    tail_digest: str = ""


def adopt_partition(con: duckdb.DuckDBPyConnection, source: Source, key: str, rows: str) -> Adoption:
    """Compare a relation of a partition's stored rows with the contract, and digest what is scored of them.

    Equal rows give equal digests, however they are spread over files. The connection's TimeZone is UTC.
    """
    check = check_features(con, rows)
    if check.passed:
        start, end = bounds(key, source.partitions.grain)
        counts = ", ".join(f"count(*) FILTER (WHERE ({rule}) IS NOT TRUE)" for rule in _OF_CLEANING.values())
        [broken] = con.execute(f"SELECT {counts} FROM {rows}", {"start": start, "end": end}).fetchall()
        violations = {rule: count for rule, count in zip(_OF_CLEANING, broken, strict=True) if count}
        check = replace(check, violations=violations)
    return Adoption(check, *digest_stored_rows(con, rows, source, key)) if check.passed else Adoption(check)


def is_adopted(input_version: str) -> bool:
    """Whether this is of rows that something else wrote: of what is built here it has three parts, see `build`."""
    return input_version.count("-") != 2
