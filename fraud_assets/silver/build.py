"""One call from a partition's landed files to its Silver rows, its quarantine, and where both came from.

Here belongs the order of the steps and what a caller learns of them. The caller reads and writes the tables.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import duckdb
import pyarrow as pa

from fraud_assets.digests import digest_lines
from fraud_assets.silver.cleaning import clean
from fraud_assets.silver.contract import CONTRACT_DIGEST, quarantine_schema, silver_schema
from fraud_assets.silver.features import FeatureDigests, compute_features, read_transactions, sum_features
from fraud_assets.silver.raw_files import RawFile
from fraud_assets.silver.source import Source
from fraud_assets.sql import literal


class InputDigest(NamedTuple):
    """What a partition is built from, part by part, so that a difference says why it is due.

    As text it is the column `input_version`.
    """

    files: str
    source: str
    contract: str

    def __str__(self) -> str:
        return "-".join(self)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the digest that was stored as this text."""
        return cls(*text.split("-"))


@dataclass(frozen=True)
class SilverBuild:
    """What a partition was built from and became; landed_rows = silver_rows + quarantined_rows."""

    partition_key: str
    landed_rows: int
    silver_rows: int
    quarantined_rows: int
    quarantine_reasons: Mapping[str, int]
    input_digest: InputDigest
    lookback_digest: str
    tail_digest: str
    silver_digest: str

    @property
    def stored_digests(self) -> dict[str, str]:
        """The four digests by the columns that hold them."""
        return stored_digests(
            self.input_digest, FeatureDigests(self.silver_digest, self.tail_digest, self.lookback_digest)
        )

    @property
    def record(self) -> dict[str, Any]:
        """The row of `silver.partition_builds`, but for its time."""
        counts = {name: getattr(self, name) for name in ("landed_rows", "silver_rows", "quarantined_rows")}
        return {"partition_key": self.partition_key, **counts, **self.stored_digests}


def stored_digests(input_digest: InputDigest, digests: FeatureDigests) -> dict[str, str]:
    """Return the four digests of a partition by the columns that hold them."""
    return {
        "input_version": str(input_digest),
        "lookback_version": digests.lookback_digest,
        "tail_version": digests.tail_digest,
        "silver_version": digests.silver_digest,
    }


def stamp_rows(
    con: duckdb.DuckDBPyConnection, view: str, made_of: str, schema: pa.Schema, constants: Mapping[str, str]
) -> None:
    """Make a temporary view of a relation's rows in a schema of the contract.

    The constants are what all rows of a partition have in common: its key and its digests.
    """
    columns = ", ".join(f"{literal(constants[name])} AS {name}" if name in constants else name for name in schema.names)
    con.execute(f"CREATE OR REPLACE TEMP VIEW {view} AS SELECT {columns} FROM {made_of}")


def input_digest(files: Sequence[str], source: Source) -> InputDigest:
    """Return the digest of what a partition is built from.

    `files` are the content digests of the landed files in their order, which counts: the last label of a transaction
    wins, and the last file where the source says so.
    """
    return InputDigest(files=digest_lines(files), source=source.digest, contract=CONTRACT_DIGEST)


def build_partition(
    con: duckdb.DuckDBPyConnection,
    source: Source,
    key: str,
    files: Sequence[RawFile],
    lookback: str | None,
    input_digest: InputDigest,
) -> SilverBuild:
    """Make temporary views `silver_rows` and `quarantine_rows` of a partition, in the contract's schemas.

    The connection's TimeZone is UTC, the files are in the order in which a later one wins, `lookback` is a relation
    with the previous partition's Silver rows, None where there is none. Whoever stores the rows has them checked
    (`check_features`). Raises what `clean` raises.
    """
    cleaned = clean(con, source, key, files)
    transactions = read_transactions(con, source, key, lookback)
    con.execute("DROP TABLE candidate_rows; DROP TABLE good_transactions")  # the rows of a large partition, twice
    compute_features(con, source, transactions)
    digests = sum_features(con, source, key).digests
    constants = {**stored_digests(input_digest, digests), "partition_key": key}
    stamp_rows(con, "silver_rows", "featured_transactions", silver_schema(), constants)
    stamp_rows(con, "quarantine_rows", "quarantined_rows", quarantine_schema(), constants)
    return SilverBuild(
        partition_key=key,
        landed_rows=cleaned.landed,
        silver_rows=cleaned.good,
        quarantined_rows=cleaned.quarantined,
        quarantine_reasons=cleaned.reasons,
        input_digest=input_digest,
        **vars(digests),
    )
