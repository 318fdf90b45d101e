from pathlib import Path

import duckdb
import pytest

from fraud_assets.silver.raw_files import BrokenFileError, RawFile
from fraud_assets.silver.source import Source, SourceError
from fraud_assets.silver.splitting import partition_keys
from fraud_assets_tests.silver.feed import make_source, write_bytes, write_csv, write_parquet


def keys(con: duckdb.DuckDBPyConnection, source: Source, file: RawFile) -> dict[int, str]:
    found, _ = partition_keys(con, source, file)
    return dict(found)


def row(time: str) -> str:
    return f"T1,{time},card-1,W,10.50,0,0"


def test_each_record_has_the_day_of_its_time_by_its_line(con: duckdb.DuckDBPyConnection, tmp_path: Path) -> None:
    file = write_csv(tmp_path, row("2026-01-06 00:00:00"), row("2026-01-05 23:59:59.999999"), row("2025-12-31"))
    assert keys(con, make_source(), file) == {2: "2026-01-06", 3: "2026-01-05", 4: "2025-12-31"}


def test_an_hourly_feed_has_hours(con: duckdb.DuckDBPyConnection, tmp_path: Path) -> None:
    source = make_source(partitions={"grain": "hourly", "start": "2026-01-01"})
    file = write_csv(tmp_path, row("2026-01-06 00:00:00"), row("2026-01-05 23:59:59.999999"))
    assert keys(con, source, file) == {2: "2026-01-06-00", 3: "2026-01-05-23"}


def test_days_are_days_in_utc(con: duckdb.DuckDBPyConnection, tmp_path: Path) -> None:
    file = write_csv(tmp_path, row("2026-01-06 01:00:00+02"), row("2026-01-05 23:00:00-02"), row("2026-01-05 23:00:00"))
    assert keys(con, make_source(), file) == {2: "2026-01-05", 3: "2026-01-06", 4: "2026-01-05"}


def test_a_record_without_a_readable_time_has_no_partition(con: duckdb.DuckDBPyConnection, tmp_path: Path) -> None:
    times = ["", "yesterday", "2026-13-01", "infinity", "2026-01-05"]
    file = write_csv(tmp_path, *map(row, times), "too,few")
    assert keys(con, make_source(), file) == {6: "2026-01-05"}


def test_a_record_that_quarantine_will_take_has_the_partition_of_its_time(
    con: duckdb.DuckDBPyConnection, tmp_path: Path
) -> None:
    file = write_csv(tmp_path, "T1,2026-01-05,,,not a number,,7", row("2026-01-05"), row("2026-01-05"))
    assert keys(con, make_source(), file) == {2: "2026-01-05", 3: "2026-01-05", 4: "2026-01-05"}


def test_a_record_over_several_lines_counts_by_its_first(con: duckdb.DuckDBPyConnection, tmp_path: Path) -> None:
    file = write_csv(tmp_path, 'T1,2026-01-05,c,"two\nlines",1,0,0', row("2026-01-06"))
    assert keys(con, make_source(), file) == {2: "2026-01-05", 4: "2026-01-06"}


def test_rows_of_parquet_count_from_one(con: duckdb.DuckDBPyConnection, tmp_path: Path) -> None:
    names = ("id", "card", "product", "amount", "abroad", "fraud")
    rows = [dict.fromkeys(names, "1") | {"time": f"2026-01-0{day} 12:00:00"} for day in (7, 5)]
    assert keys(con, make_source(), write_parquet(tmp_path, rows)) == {1: "2026-01-07", 2: "2026-01-05"}


def test_a_file_without_records_has_no_partition(con: duckdb.DuckDBPyConnection, tmp_path: Path) -> None:
    assert keys(con, make_source(), write_csv(tmp_path)) == {}


def test_a_broken_file_is_an_error(con: duckdb.DuckDBPyConnection, tmp_path: Path) -> None:
    with pytest.raises(BrokenFileError, match=r"feed\.csv"):
        keys(con, make_source(), write_bytes(tmp_path, b"id,amount\n"))


def test_a_bad_expression_is_an_error(con: duckdb.DuckDBPyConnection, tmp_path: Path) -> None:
    source = make_source(columns=make_source().columns | {"event_timestamp": "no_such_function(time)"})
    with pytest.raises(SourceError, match="event_timestamp"):
        keys(con, source, write_csv(tmp_path, row("2026-01-05")))
