"""Files of the feed: where they land, what stands in them, and that they land whole."""

import csv
from datetime import date

import pyarrow.parquet as pq
import pytest

from fraud_assets.simulator.feed import simulate_day
from fraud_assets.simulator.writing import write_day

DAY = date(2026, 1, 5)


def records(path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_a_day_lands_in_the_directory_of_its_partition(tmp_path):
    path = write_day(DAY, tmp_path, rows_per_day=50)
    assert path == tmp_path / "2026-01-05" / "simulated-2026-01-05.csv"
    assert [p.name for p in path.parent.iterdir()] == ["simulated-2026-01-05.csv"]


@pytest.mark.parametrize("dirt", [False, True])
@pytest.mark.parametrize("file_format", ["csv", "parquet"])
def test_writing_a_day_twice_gives_the_same_bytes(tmp_path, file_format, dirt):
    first = write_day(DAY, tmp_path / "a", format=file_format, dirt=dirt, rows_per_day=200).read_bytes()
    assert write_day(DAY, tmp_path / "b", format=file_format, dirt=dirt, rows_per_day=200).read_bytes() == first


def test_other_options_replace_the_file_of_the_day(tmp_path):
    write_day(DAY, tmp_path, rows_per_day=50)
    write_day(DAY, tmp_path, rows_per_day=50, seed=8, dirt=True)
    path = write_day(DAY, tmp_path, rows_per_day=50, format="parquet")
    assert [p.name for p in path.parent.iterdir()] == ["simulated-2026-01-05.parquet"]
    write_day(DAY, tmp_path, rows_per_day=50)
    assert [p.name for p in path.parent.iterdir()] == ["simulated-2026-01-05.csv"]


def test_the_csv_says_what_the_table_says(tmp_path):
    table = simulate_day(DAY, rows_per_day=300)
    expected = [{name: "" if value is None else str(value) for name, value in row.items()} for row in table.to_pylist()]
    assert records(write_day(DAY, tmp_path, rows_per_day=300)) == expected


def test_codes_and_amounts_keep_their_point_in_the_csv_as_in_the_genuine_file(tmp_path):
    for record in records(write_day(DAY, tmp_path, rows_per_day=100)):
        assert record["card3"] in {"150.0", "185.0"}
        assert "." in record["TransactionAmt"]
        assert record["card1"].isdigit()
        assert record["TransactionID"].isdigit()


def test_parquet_holds_the_table(tmp_path):
    path = write_day(DAY, tmp_path, format="parquet", rows_per_day=300)
    assert pq.ParquetFile(path).read().equals(simulate_day(DAY, rows_per_day=300))


def test_no_file_tells_the_scenario(tmp_path):
    text = write_day(DAY, tmp_path, rows_per_day=1000).read_text(encoding="utf-8")
    assert not any(word in text for word in ("scenario", "testing", "takeover", "friendly", "legitimate"))
