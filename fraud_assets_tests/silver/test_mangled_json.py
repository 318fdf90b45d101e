"""Whatever happens to a JSON Lines file, no row of it is lost in silence.

A file of its own, so that its many cases and the other ones of JSON have a worker each.
"""

import random
from pathlib import Path

import duckdb
import pytest

from fraud_assets.silver.cleaning import clean
from fraud_assets.silver.json_records import open_json
from fraud_assets.silver.raw_files import BrokenFileError
from fraud_assets.silver.reading import count_records
from fraud_assets.silver.source import CsvFormat
from fraud_assets_tests.depth import cases
from fraud_assets_tests.silver.cases import json_lines
from fraud_assets_tests.silver.feed import make_source, read, write_bytes
from fraud_assets_tests.silver.test_reading import ids, mangled, unreadable


@pytest.mark.parametrize("seed", range(cases(60, 200)))
def test_a_mangled_file_is_broken_or_every_row_is_somewhere(con: duckdb.DuckDBPyConnection, tmp_path: Path, seed: int):
    content = mangled(json_lines(*({"id": f"T{i}"} for i in range(30))), random.Random(seed))
    file = write_bytes(tmp_path, content, "a.jsonl")
    try:
        landed = read(con, make_source(), file)
    except BrokenFileError:
        return
    assert landed == len(ids(con)) + len(unreadable(con)) == count_records(file, CsvFormat())
    with open_json(file) as records:
        kept = "".join(text for chunk in records.chunks() for _, text, _ in chunk.texts())
    text = content.decode("utf-8-sig", "surrogateescape")
    assert "".join(kept.split()) == "".join(text.split()), "not a character is lost"
    result = clean(con, make_source(), "2026-01-05", [file])
    assert result.landed == landed == result.good + result.quarantined
