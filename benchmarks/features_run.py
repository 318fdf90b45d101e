"""`python -m benchmarks.features_run WAY CANONICAL.parquet SILVER.parquet`: the eight features of a partition, one way.

What belongs here: the ways that are compared, and what each says of itself. What does not: the rows (`features`).
Prints the seconds from reading to the written file, and the process's peak memory; the imports before do not count.
"""

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from time import perf_counter
from typing import Final

import duckdb
import pyarrow.compute  # noqa: F401 - else its first use within the measured time imports it

from benchmarks.memory import say
from fraud_assets.resources.lake import open_lake
from fraud_assets.resources.row_batches import batches
from fraud_assets.resources.tables import SILVER_TRANSACTIONS
from fraud_assets.silver.build import InputDigest, build_partition
from fraud_assets.silver.cleaning import clean
from fraud_assets.silver.contract import FEATURE_NAMES, check_features
from fraud_assets.silver.features import compute_features, read_transactions, sum_features
from fraud_assets.silver.raw_files import RawFile
from fraud_assets.silver.source import load_source

_DIGEST = InputDigest("benchmark", "", "")

DAY: Final = "2026-01-01"
SOURCE: Final = str(Path(__file__).with_name("canonical.toml"))
_COLUMNS: Final = ("TransactionID", "event_timestamp", "card_id", "ProductCD", *FEATURE_NAMES, "isFraud")


def by_fraud_assets(canonical: Path, silver: Path) -> float:
    """Compute the features as the Silver asset does, and write them; return the seconds."""
    with open_lake(silver.parent).connect() as con:
        began = perf_counter()
        _features(con, canonical)
        # As Silver's own files: rows in any order, and no large dictionaries.
        con.execute("SET preserve_insertion_order = false")
        con.execute(
            f"COPY (SELECT {', '.join(_COLUMNS)} FROM featured_transactions) TO '{silver}'"
            " (FORMAT parquet, DICTIONARY_SIZE_LIMIT 8192)"
        )
        return perf_counter() - began


def cleaning(canonical: Path, silver: Path) -> float:
    """Return the seconds that the same rows take to be cleaned."""
    with open_lake(silver.parent).connect() as con:
        began = perf_counter()
        clean(con, load_source(SOURCE), DAY, [RawFile(canonical, canonical.name)])
        return perf_counter() - began


def digest(canonical: Path, silver: Path) -> float:
    """Return the seconds that the digests of the featured rows take."""
    with open_lake(silver.parent).connect() as con:
        _features(con, canonical)
        began = perf_counter()
        sum_features(con, load_source(SOURCE), DAY)
        return perf_counter() - began


def whole_partition(canonical: Path, silver: Path) -> float:
    """Return the seconds that the same rows take from the landed file to the committed Silver partition."""
    lake = open_lake(silver.parent)
    began = perf_counter()
    with lake.connect() as con:
        build_partition(con, load_source(SOURCE), DAY, [RawFile(canonical, canonical.name)], None, _DIGEST)
        assert check_features(con, "silver_rows").passed
        rows = batches(con, "silver_rows", SILVER_TRANSACTIONS.schema)
        lake.replace_partition(SILVER_TRANSACTIONS, DAY, rows, provenance={})
    return perf_counter() - began


def by_polars(canonical: Path, silver: Path) -> float:
    """Compute the same features by polars' rolling windows, with floating sums, and write them; return the seconds."""
    import polars as pl  # pyright: ignore[reportMissingImports]

    amount, product = pl.col("TransactionAmt"), pl.col("ProductCD")
    began = perf_counter()
    rows = pl.scan_parquet(canonical).with_columns(amount.round(3)).sort("card_id", "event_timestamp").collect()
    windows = rows.rolling("event_timestamp", period="5m", closed="both", group_by="card_id").agg(
        pl.len().cast(pl.Int64).alias("txn_count_5min"),
        amount.mean().alias("avg_amount_5min"),
        amount.std().fill_null(0.0).alias("stddev_amount_5min"),
        product.n_unique().cast(pl.Int64).alias("product_diversity_5min"),
    )
    featured = pl.concat([rows, windows.drop("card_id", "event_timestamp")], how="horizontal").with_columns(
        (1 + amount).log().alias("log_transaction_amount"), (amount >= 500).cast(pl.Int32).alias("is_high_value_txn")
    )
    featured.select(_COLUMNS).write_parquet(silver, compression="snappy")
    return perf_counter() - began


WAYS: Final[Mapping[str, Callable[[Path, Path], float]]] = {
    "polars": by_polars,
    "fraud_assets": by_fraud_assets,
    "cleaning": cleaning,
    "digest": digest,
    "the whole partition": whole_partition,
}


def _features(con: duckdb.DuckDBPyConnection, canonical: Path) -> None:
    con.execute(
        f"""
        CREATE TEMP VIEW good_transactions AS
        SELECT * EXCLUDE (TransactionAmt), round_even(TransactionAmt * 1000, 0)::BIGINT AS amount_thousandths
        FROM '{canonical}'
        """
    )
    source = load_source(SOURCE)
    compute_features(con, source, read_transactions(con, source, DAY, None))


if __name__ == "__main__":
    say(WAYS[sys.argv[1]](*map(Path, sys.argv[2:])))
