"""A posted record is what the batch would make of it, whichever way it is read."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fraud_assets.partition_keys import key_of
from fraud_assets.serve.records import Fault, NotJsonError, Record, RecordReader, read_plain, split
from fraud_assets.silver.cleaning import clean
from fraud_assets.silver.raw_files import RawFile
from fraud_assets.silver.source import Source
from fraud_assets_tests.depth import cases
from fraud_assets_tests.silver.feed import make_source

SOURCE = make_source()
GOOD = {
    "TransactionID": "T1",
    "event_timestamp": "2026-01-05T12:00:00Z",
    "card_id": "card-1",
    "TransactionAmt": 10.5,
    "ProductCD": "W",
    "is_international_txn": False,
}
RAW = {"id": "T1", "time": "2026-01-05 12:00", "card": "card-1", "product": "W", "amount": "10.50", "abroad": 0}

TEXTS: Any = st.one_of(
    st.text(max_size=5),
    st.sampled_from([" ", "\u00a0", "\t", "ä", "a\0b", "007", "", "\\", '"', "card_id"]),
    st.integers(-3, 10**18),
    st.floats(),
    st.none(),
    st.booleans(),
)
TIMES: Any = st.one_of(
    st.datetimes().map(lambda time: time.isoformat()),
    st.datetimes().map(lambda time: f"{time.isoformat(sep=' ')}Z"),
    st.datetimes().map(lambda time: f"{time.isoformat()}+05:30"),
    st.sampled_from([
        "2026-01-05T24:00:00Z", "2026-01-05T12:00:60Z", "2026-01-05", "0001-01-01T00:00:00+14:00", "infinity", "", " ",
        "2026-01-05T12:00:00.1234567Z", "2026-01-05T12:00:00-14:59", "9999-12-31T23:59:59-01:00",
        "2026-02-30T00:00:00Z", "2026-01-05T12:00:00.5Z", "2026-01-05t12:00:00z", "20260105T120000Z",
    ]),
    st.integers(),
)  # fmt: skip
AMOUNTS: Any = st.one_of(
    st.floats(),
    st.floats(0, 1e12),
    st.integers(-5, 10**13),
    st.sampled_from([0.0005, 0.0015, 0.0025, 499.9995, -0.0, 99999999999.9999, 1e11, "12.5", "1e3", None]),
)
RECORDS = st.fixed_dictionaries(
    {},
    optional={
        "TransactionID": TEXTS,
        "event_timestamp": TIMES,
        "card_id": TEXTS,
        "TransactionAmt": AMOUNTS,
        "ProductCD": TEXTS,
        "is_international_txn": st.one_of(st.booleans(), st.sampled_from([0, 1, "true", "f", "maybe", 2, None])),
        "isFraud": st.sampled_from([0, 1, "1.0", 2, None]),
        "other": st.just({"nested": [1]}),
    },
)


@pytest.fixture(scope="module")
def reader() -> Iterator[RecordReader]:
    reader = RecordReader(SOURCE)
    yield reader
    reader.close()


def read(reader: RecordReader, *raws: dict[str, Any] | bytes) -> list[Record | list[Fault]]:
    return reader.read([raw if isinstance(raw, bytes) else json.dumps(raw).encode() for raw in raws])


def built(con: duckdb.DuckDBPyConnection, record: Record, folder: Path, source: Source = SOURCE) -> tuple[Any, ...]:
    """What the batch makes of the line that lands."""
    path = folder / f"one{'.canonical' if record.is_canonical else ''}.jsonl"
    path.write_bytes(record.line + b"\n")
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=record.transaction.time_us)
    clean(con, source, key_of(moment, "daily"), [RawFile(path, path.name)])
    [found] = con.execute(
        "SELECT TransactionID, epoch_us(event_timestamp), card_id, ProductCD, amount_thousandths,"
        " is_international_txn = 1 FROM good_transactions"
    ).fetchall()
    return found


def values(record: Record) -> tuple[Any, ...]:
    found = record.transaction
    return found.id, found.time_us, found.card, found.product, found.thousandths, found.is_international


@given(changes=RECORDS, indent=st.sampled_from([None, 1]), ascii_only=st.booleans())
@settings(max_examples=cases(250, 500))
def test_the_fast_way_finds_what_cleaning_finds(
    reader: RecordReader, changes: dict[str, Any], indent: int | None, ascii_only: bool
):
    raw = json.dumps(GOOD | changes, indent=indent, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")
    plain = read_plain(raw)
    if plain is not None:
        [other] = reader.read([raw])
        assert isinstance(other, Record)
        assert other.transaction == plain.transaction


@given(changes=RECORDS)
@settings(max_examples=cases(25, 50))
def test_what_lands_is_what_was_scored(
    reader: RecordReader, changes: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
):
    folder = tmp_path_factory.mktemp("landed")
    raw = json.dumps(GOOD | changes).encode()
    with duckdb.connect() as con:
        con.execute("SET TimeZone = 'UTC'")
        for found in (read_plain(raw), *reader.read([raw])):
            if isinstance(found, Record) and found.transaction.time_us > 0:
                assert built(con, found, folder) == values(found)


def test_a_plain_record_takes_the_fast_way():
    for changes in ({}, {"TransactionID": 2987000}, {"event_timestamp": "2026-01-05 12:00:00.5"}, {"more": 1}):
        assert read_plain(json.dumps(GOOD | changes).encode()) is not None


@pytest.mark.parametrize(
    ("changes", "field", "reason"),
    [
        ({"card_id": " "}, "card_id", "missing_card"),
        ({"TransactionAmt": -1}, "TransactionAmt", "amount_negative"),
        ({"TransactionAmt": 1e11}, "TransactionAmt", "amount_too_large"),
        ({"TransactionAmt": "much"}, "TransactionAmt", "unreadable_TransactionAmt"),
        ({"event_timestamp": "soon"}, "event_timestamp", "unreadable_event_timestamp"),
        ({"is_international_txn": None}, "is_international_txn", "missing_international"),
        ({"isFraud": 3}, "isFraud", "label_not_0_or_1"),
    ],
)
def test_a_fault_names_field_and_reason(reader: RecordReader, changes: dict[str, Any], field: str, reason: str):
    [faults] = read(reader, GOOD | changes)
    assert isinstance(faults, list)
    assert [(fault.field, fault.reason) for fault in faults] == [(field, reason)]


def test_a_raw_record_is_read_by_the_expressions_of_the_source_and_lands_as_it_came(
    reader: RecordReader, tmp_path: Path
):
    raw = json.dumps(RAW, indent=1).encode()
    [found] = read(reader, raw)
    assert isinstance(found, Record)
    assert not found.is_canonical
    assert found.line == raw.replace(b"\n", b" ")
    assert found.transaction.thousandths == 10_500
    with duckdb.connect() as con:
        con.execute("SET TimeZone = 'UTC'")
        assert built(con, found, tmp_path) == values(found)


def test_of_a_key_that_is_there_twice_the_first_counts_as_in_a_file(reader: RecordReader):
    raw = json.dumps(GOOD).encode()[:-1] + b', "card_id": "other"}'
    assert read_plain(raw) is None
    [found] = reader.read([raw])
    assert isinstance(found, Record)
    assert found.transaction.card == "card-1"


def test_a_column_that_is_no_expression_is_found_by_its_name():
    columns = {**SOURCE.columns, "card_id": "Card No.", "ProductCD": "Was-Art"}
    reader = RecordReader(make_source(columns=columns))
    good = {**RAW, "Card No.": "c", "Was-Art": "W"}
    [found, other] = read(reader, good, {**good, "Card No.": ""})
    assert isinstance(found, Record)
    assert (found.transaction.card, found.transaction.product) == ("c", "W")
    assert isinstance(other, list)
    assert [fault.reason for fault in other] == ["missing_card"]
    reader.close()


def test_records_of_one_request_are_read_together_and_each_by_itself(reader: RecordReader):
    good, bad, raw, nothing = read(reader, GOOD, {**GOOD, "card_id": ""}, RAW, b"[1]")
    assert isinstance(good, Record)
    assert isinstance(bad, list)
    assert bad[0].index == 1
    assert isinstance(raw, Record)
    assert isinstance(nothing, list)
    assert (nothing[0].index, nothing[0].reason) == (3, "unreadable_line")


def test_a_body_is_one_record_or_a_list():
    assert split(b' {"a": 1} ') == ([b'{"a": 1}'], False)
    assert split(b'[{"a": 1}, {"b": [2]}]') == ([b'{"a": 1}', b'{"b": [2]}'], True)
    with pytest.raises(NotJsonError):
        split(b"[1,")
