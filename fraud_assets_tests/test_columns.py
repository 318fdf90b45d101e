"""Rows as tables: what pyarrow would make of them, without what it imports for it."""

import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fraud_assets.columns import UTC_MICROSECONDS, column, number_array, table_of, text_array

SCHEMA = pa.schema(
    [
        column("text", pa.string(), "A text."),
        column("number", pa.int64(), "A number.", nullable=True),
        column("time", UTC_MICROSECONDS, "A time.", nullable=True),
    ]
)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]))
NUMBERS = st.integers(-(2**63), 2**63 - 1)
TIMES = st.integers(-(10**16), 10**16).map(lambda n: datetime(2026, 1, 1, tzinfo=UTC) + timedelta(microseconds=n))
ROWS = st.lists(st.fixed_dictionaries({"text": TEXTS}, optional={"number": NUMBERS, "time": TIMES | st.none()}))


@given(ROWS)
def test_rows_become_what_pyarrow_makes_of_them(rows: list[dict[str, object]]) -> None:
    made = table_of(rows, SCHEMA)
    assert made.equals(pa.Table.from_pylist(rows, schema=SCHEMA))
    assert made.schema.equals(SCHEMA, check_metadata=True)


@given(st.lists(TEXTS | st.none()), st.lists(NUMBERS))
def test_arrays_become_what_pyarrow_makes_of_them(texts: list[str | None], numbers: list[int]) -> None:
    assert text_array(texts).equals(pa.array(texts, pa.string()))
    assert number_array(numbers).equals(pa.array(numbers, pa.int64()))
    assert number_array(numbers, pa.float64()).equals(pa.array(map(float, numbers), pa.float64()))
    text_array(texts).validate(full=True)


def test_what_is_no_text_is_refused_as_by_pyarrow() -> None:
    with pytest.raises(UnicodeEncodeError):
        text_array(["\ud800"])


def test_what_no_column_has_is_left_out() -> None:
    assert table_of([{"text": "a", "more": 1}], SCHEMA).to_pylist() == [{"text": "a", "number": None, "time": None}]


def test_pandas_is_not_imported() -> None:
    code = """
import sys
from datetime import UTC, datetime
import pyarrow as pa
from fraud_assets.columns import number_array, table_of, text_array
schema = pa.schema([("number", pa.int64()), ("time", pa.timestamp("us", "UTC"))])
for rows in ([], [{"number": 1, "time": datetime.now(tz=UTC)}]):
    assert len(table_of(rows, schema)) == len(rows)
text_array(["a", None]), number_array([1])
assert "pandas" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)
