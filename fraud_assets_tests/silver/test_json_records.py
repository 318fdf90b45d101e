import json
from pathlib import Path
from typing import Any

import duckdb
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fraud_assets.silver import json_records
from fraud_assets.silver.cleaning import clean
from fraud_assets.silver.json_records import open_json
from fraud_assets.silver.raw_files import BrokenFileError, RawFile
from fraud_assets.silver.reading import count_records, open_raw, read_raw
from fraud_assets.silver.source import CsvFormat
from fraud_assets_tests.depth import cases
from fraud_assets_tests.silver.cases import json_lines
from fraud_assets_tests.silver.feed import HEADER, make_source, read, row, write_bytes, write_csv


def found(file: RawFile, names: list[str]) -> dict[int, Any]:
    """Return of each record its values, or the reason why it has none, by line."""
    with open_json(file) as records:
        records_of: dict[int, Any] = {}
        for rows in records.rows(names):
            cells = zip(*(column.to_pylist() for column in rows.columns), strict=True)
            records_of |= dict(zip(rows.lines, cells, strict=True))
            records_of |= {line: problem for line, _, problem in rows.unreadable}
        return dict(sorted(records_of.items()))


TEXT = st.text(st.sampled_from('ab "\\\n\té\u2028{}[]:,0nN'), max_size=6)
NUMBER = st.sampled_from(
    ["0", "-0", "10.5", "10.50", "1e3", "0.1", "123456789012345678901", "1.2345678901234567", "1.0"]
)
VALUE = st.one_of(
    TEXT.map(json.dumps), NUMBER, st.sampled_from(["true", "null", "NaN", '{"x": 1.50}', "[1, [2]]", "{}"])
)
ODD = st.sampled_from(
    ['{"a":[[1', "2]]}", '{"a":1,}', "[1]", "1", '{"a":1}{', '{"a":"\\u0000"}', '{"a":"\\ud800"}', " ", "x"]
)
OBJECT = st.lists(st.tuples(st.sampled_from("abc"), VALUE), max_size=4).map(
    lambda pairs: "{" + ", ".join(f'"{key}": {value}' for key, value in pairs) + "}"
)


@given(lines=st.lists(st.one_of(OBJECT, OBJECT, ODD), max_size=8), at_once=st.integers(1, 5))
@settings(max_examples=cases(30, 120), suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_fast_way_finds_what_the_json_module_does(tmp_path: Path, lines: list[str], at_once: int):
    file = write_bytes(tmp_path, "\n".join(lines).encode(), "a.jsonl")
    with pytest.MonkeyPatch.context() as patch:
        fast = found(file, ["a", "b", "c"])
        patch.setattr(json_records, "LINES_AT_ONCE", at_once)
        assert found(file, ["a", "b", "c"]) == fast
        patch.setattr(json_records, "_MAY_DIFFER", "")  # every line is one by one
        assert found(file, ["a", "b", "c"]) == fast
    assert count_records(file, CsvFormat()) == len(fast)


@given(table=st.lists(st.lists(st.one_of(st.none(), TEXT), min_size=3, max_size=3), max_size=6))
@settings(max_examples=cases(40, 150), suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_a_json_writer_writes_is_read_back(tmp_path: Path, table: list[list[str | None]]):
    content = "".join(json.dumps(dict(zip("abc", cells, strict=True))) + "\n" for cells in table)
    assert list(found(write_bytes(tmp_path, content.encode(), "a.jsonl"), ["a", "b", "c"]).values()) == [
        tuple(cells) for cells in table
    ]


def test_the_same_rows_in_json_and_in_csv_are_the_same_silver_rows(con: duckdb.DuckDBPyConnection, tmp_path: Path):
    rows = [row(id=f"T{i}", amount=amount) for i, amount in enumerate(["10.50", "1e2", "-3", "n/a", "", "nan", "1e-9"])]
    table = [dict(zip(HEADER.split(","), text.split(","), strict=True)) for text in rows]
    content = "".join(json.dumps({name: cell or None for name, cell in one.items()}) + "\n" for one in table)
    outcomes = []
    for file in (write_csv(tmp_path, *rows), write_bytes(tmp_path, content.encode(), "feed.jsonl")):
        result = clean(con, make_source(), "2026-01-05", [file])
        outcomes.append((result, con.execute("FROM good_transactions ORDER BY ALL").fetchall()))
    assert outcomes[0] == outcomes[1]


def test_a_refused_row_is_kept_as_its_line_with_all_its_keys(con: duckdb.DuckDBPyConnection, tmp_path: Path):
    content = json_lines({"amount": "n/a", "note": "kept"}, "no json", {})
    clean(con, make_source(), "2026-01-05", [write_bytes(tmp_path, content, "feed.jsonl")])
    kept = con.execute("SELECT raw_row FROM quarantined_rows ORDER BY line").fetchall()
    assert kept == [(line,) for line in content.decode().splitlines()[:2]]


def test_a_key_that_no_record_has_stops_a_landing_and_not_a_partition(con: duckdb.DuckDBPyConnection, tmp_path: Path):
    file = write_bytes(tmp_path, b'{"id": "T1", "amount": 3}\n', "feed.jsonl")
    assert read(con, make_source(), file) == 1
    with (
        open_raw(file, CsvFormat()) as records,
        pytest.raises(BrokenFileError, match="column card is missing; it has amount, id"),
    ):
        read_raw(con, file, records, "raw", frozenset({"card"}), is_strict=True)
