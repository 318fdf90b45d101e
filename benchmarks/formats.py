"""How long the same rows take to be cleaned in each format that may land: plain CSV is the control.

What belongs here: files of the rows of a large day, and the comparison. What does not: the rows (`features`).
"""

from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import duckdb

from benchmarks.features import write_skewed_day
from benchmarks.features_run import DAY, SOURCE
from benchmarks.measuring import Timing, compare
from fraud_assets.resources.lake import open_lake
from fraud_assets.silver.cleaning import clean
from fraud_assets.silver.raw_files import RawFile
from fraud_assets.silver.source import load_source

_FILES: Final = {
    "CSV": ("plain.csv", "FORMAT csv, HEADER"),
    "CSV, every field quoted": ("quoted.csv", "FORMAT csv, HEADER, FORCE_QUOTE *"),
    "JSON Lines": ("rows.jsonl", "FORMAT json"),
    "Parquet": ("rows.parquet", "FORMAT parquet"),
}


def measure(*, rows: int) -> list[Timing]:
    """Compare the formats on a day of so many rows, in turns within one process."""
    source = load_source(SOURCE)
    with TemporaryDirectory() as scratch, open_lake(Path(scratch)).connect() as con:
        canonical = Path(scratch, "canonical.parquet")
        write_skewed_day(canonical, rows)
        ways = {}
        with duckdb.connect() as writer:
            writer.execute("SET TimeZone = 'UTC'")
            time = "strftime(event_timestamp, '%Y-%m-%d %H:%M:%S.%f') AS event_timestamp"
            for way, (name, how) in _FILES.items():
                file = Path(scratch, name)
                writer.execute(f"COPY (SELECT * REPLACE ({time}) FROM '{canonical}') TO '{file}' ({how})")
                ways[way] = partial(clean, con, source, DAY, [RawFile(file, name)])
        return compare(f"cleaning {rows:,} rows", ways)
