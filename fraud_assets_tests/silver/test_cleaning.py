import json
from datetime import UTC, datetime
from itertools import permutations
from pathlib import Path

import duckdb
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fraud_assets.silver.cleaning import REASONS, CleaningResult, clean, reason_kind
from fraud_assets.silver.raw_files import BrokenFileError, RawFile
from fraud_assets.silver.source import Source
from fraud_assets_tests.depth import cases
from fraud_assets_tests.silver.feed import GOOD, make_source, row, write_csv

KEY = "2026-01-05"


def clean_rows(
    con: duckdb.DuckDBPyConnection, folder: Path, *rows: str, source: Source | None = None, key: str | None = KEY
) -> CleaningResult:
    return clean(con, source or make_source(), key, [write_csv(folder, *rows)])


def good(con: duckdb.DuckDBPyConnection, columns: str = "TransactionID") -> list[tuple]:
    return con.execute(f"SELECT {columns} FROM good_transactions ORDER BY ALL").fetchall()


def refused(con: duckdb.DuckDBPyConnection) -> list[tuple[str, int, list[str]]]:
    return con.execute("SELECT file, line, reasons FROM quarantined_rows ORDER BY ALL").fetchall()


def test_a_good_row_becomes_the_canonical_columns(con: duckdb.DuckDBPyConnection, tmp_path: Path):
    result = clean_rows(con, tmp_path, GOOD)
    assert result == CleaningResult(landed=1, good=1, quarantined=0, reasons={})
    assert good(con, "*") == [("T1", datetime(2026, 1, 5, 12, tzinfo=UTC), "card-1", "W", 10_500, 0, 0)]


def test_without_a_key_any_time_is_right(con: duckdb.DuckDBPyConnection, tmp_path: Path):
    assert clean_rows(con, tmp_path, row(time="1999-01-01"), key=None).good == 1


def test_an_hour_is_a_partition_too(con: duckdb.DuckDBPyConnection, tmp_path: Path):
    source = make_source(partitions={"grain": "hourly", "start": "2026-01-01"})
    rows = [row(id=time, time=f"2026-01-05 {time}") for time in ("11:59:59.999999", "12:00:00", "13:00:00")]
    clean_rows(con, tmp_path, *rows, source=source, key="2026-01-05-12")
    assert good(con) == [("12:00:00",)]


def test_an_unreadable_cell_that_no_expression_needs_does_not_matter(con: duckdb.DuckDBPyConnection, tmp_path: Path):
    columns = make_source().columns | {"is_international_txn": "false"}
    assert clean_rows(con, tmp_path, row(abroad="?"), source=make_source(columns=columns)).good == 1


def test_a_value_made_of_an_unreadable_cell_is_quarantined_even_where_the_expression_has_a_default(
    con: duckdb.DuckDBPyConnection, tmp_path: Path
):
    columns = make_source().columns | {"is_international_txn": "coalesce(abroad, true)"}
    source = make_source(columns=columns)
    clean_rows(con, tmp_path, row(abroad="?"), row(id="T2", abroad=""), source=source)
    assert good(con, "TransactionID, is_international_txn") == [("T2", 1)]
    assert refused(con) == [("feed.csv", 2, ["unreadable_abroad"])]


def test_an_expression_that_fails_for_a_row_costs_that_row(con: duckdb.DuckDBPyConnection, tmp_path: Path):
    columns = make_source().columns | {"TransactionAmt": "CAST(card AS DOUBLE)"}
    clean_rows(con, tmp_path, row(id="A"), row(id="B", card="7"), source=make_source(columns=columns))
    assert good(con) == [("B",)]
    assert refused(con) == [("feed.csv", 2, ["amount_not_understood"])]


def test_a_cell_that_two_expressions_cannot_read_costs_its_row_alone(con: duckdb.DuckDBPyConnection, tmp_path: Path):
    columns = {"TransactionAmt": "card::DOUBLE + 1", "is_international_txn": "card::DOUBLE + 2 > 5"}
    source = make_source(columns=make_source().columns | columns)
    clean_rows(con, tmp_path, row(id="A"), row(id="B", card="7"), source=source)
    assert good(con, "TransactionID, amount_thousandths, is_international_txn") == [("B", 8_000, 1)]
    assert refused(con) == [("feed.csv", 2, ["amount_not_understood", "international_not_understood"])]


def test_a_feed_without_labels_has_none(con: duckdb.DuckDBPyConnection, tmp_path: Path):
    columns = {name: text for name, text in make_source().columns.items() if name != "isFraud"}
    clean_rows(con, tmp_path, GOOD, source=make_source(columns=columns))
    assert good(con, "isFraud") == [(None,)]


def test_refunds_count_with_their_absolute_amount_where_the_source_says_so(
    con: duckdb.DuckDBPyConnection, tmp_path: Path
):
    clean_rows(con, tmp_path, row(amount="-10.50"), source=make_source(rules={"refunds": "absolute"}))
    assert good(con, "amount_thousandths") == [(10_500,)]


def test_the_raw_row_is_kept_as_json_and_unreadable_text_as_it_came(con: duckdb.DuckDBPyConnection, tmp_path: Path):
    clean_rows(con, tmp_path, row(amount="n/a", card="", product='"a ""b"", c"'), "only this")
    (first,), (second,) = con.execute("SELECT raw_row FROM quarantined_rows ORDER BY line").fetchall()
    assert json.loads(first) == {
        "id": "T1",
        "time": "2026-01-05 12:00:00",
        "card": None,
        "product": 'a "b", c',
        "amount": "n/a",
        "abroad": "0",
        "fraud": "0",
    }
    assert second == "only this"


def test_three_copies_of_which_one_differs_all_conflict(con: duckdb.DuckDBPyConnection, tmp_path: Path):
    result = clean_rows(con, tmp_path, GOOD, GOOD, row(amount="11"), row(id="T2"))
    assert result.reasons == {"conflicting_id": 3}
    assert good(con) == [("T2",)]


def test_with_last_file_the_last_file_wins_and_equal_copies_are_still_duplicates(
    con: duckdb.DuckDBPyConnection, tmp_path: Path
):
    source = make_source(rules={"on_conflict": "last_file"})
    files = [
        write_csv(tmp_path, GOOD, row(id="T2"), row(id="T3", fraud="1"), name="1.csv"),
        write_csv(tmp_path, row(amount="11"), row(id="T2"), name="2.csv"),
        write_csv(tmp_path, row(amount="12"), row(amount="12"), row(id="T3", amount="9", fraud=""), name="3.csv"),
    ]
    clean(con, source, KEY, files)
    assert good(con, "TransactionID, amount_thousandths, isFraud") == [
        ("T1", 12_000, 0),
        ("T2", 10_500, 0),
        ("T3", 9_000, 1),
    ]
    assert refused(con) == [
        ("1.csv", 2, ["superseded"]),
        ("1.csv", 3, ["duplicate"]),
        ("1.csv", 4, ["superseded"]),
        ("2.csv", 2, ["superseded"]),
        ("3.csv", 3, ["duplicate"]),
    ]
    clean(con, source, KEY, files[::-1])
    assert good(con, "TransactionID, amount_thousandths") == [("T1", 10_500), ("T2", 10_500), ("T3", 10_500)]


def test_with_last_file_a_file_that_contradicts_itself_still_conflicts(con: duckdb.DuckDBPyConnection, tmp_path: Path):
    source = make_source(rules={"on_conflict": "last_file"})
    files = [
        write_csv(tmp_path, GOOD, name="1.csv"),
        write_csv(tmp_path, row(amount="11"), row(amount="12"), name="2.csv"),
    ]
    result = clean(con, source, KEY, files)
    assert result.reasons == {"conflicting_id": 2, "superseded": 1}


def test_without_last_file_the_order_of_files_changes_no_good_row(con: duckdb.DuckDBPyConnection, tmp_path: Path):
    files = [
        write_csv(tmp_path, GOOD, row(id="T2"), name="1.csv"),
        write_csv(tmp_path, GOOD, row(id="T2", amount="3"), name="2.csv"),
        write_csv(tmp_path, row(id="T3"), GOOD, name="3.csv"),
    ]
    outcomes = set()
    for order in permutations(files):
        result = clean(con, make_source(), KEY, order)
        outcomes.add((repr(good(con, "*")), repr(sorted(result.reasons.items()))))
    assert len(outcomes) == 1


def test_no_files_are_no_rows(con: duckdb.DuckDBPyConnection):
    assert clean(con, make_source(), KEY, []) == CleaningResult(landed=0, good=0, quarantined=0, reasons={})


def test_a_broken_file_stops_the_partition(con: duckdb.DuckDBPyConnection, tmp_path: Path):
    with pytest.raises(BrokenFileError, match=r"2\.csv"):
        clean(con, make_source(), KEY, [write_csv(tmp_path, GOOD), write_csv(tmp_path, name="2.csv", header="")])


def test_every_reason_that_is_given_is_explained(con: duckdb.DuckDBPyConnection, tmp_path: Path):
    bad = [{"time": "x"}, {"amount": "-1"}, {"card": ""}]
    rows = [row(**{"id": f"X{i}"} | changes) for i, changes in enumerate(bad)]
    kinds = set(map(reason_kind, clean_rows(con, tmp_path, GOOD, GOOD, "few", *rows).reasons))
    assert kinds == {"unreadable_<raw column>", "missing_<value>", "amount_negative", "duplicate", "unreadable_line"}
    assert kinds <= set(REASONS)


def test_a_value_is_missing_where_a_cell_is_empty_and_not_understood_where_none_is(
    con: duckdb.DuckDBPyConnection, tmp_path: Path
):
    columns = make_source().columns | {"event_timestamp": "strptime(card || ' ' || product, '%d/%m/%Y %H:%M')"}
    rows = [("03/04/2026", ""), ("", "10:00"), ("", ""), ("2026-04-03", "10:00"), ("05/01/2026", "10:00")]
    written = [row(id=f"T{i}", card=day, product=hour) for i, (day, hour) in enumerate(rows)]
    clean_rows(con, tmp_path, *written, source=make_source(columns=columns))
    assert refused(con) == [
        ("feed.csv", 2, ["missing_event_time", "missing_product"]),
        ("feed.csv", 3, ["missing_event_time", "missing_card"]),
        ("feed.csv", 4, ["missing_event_time", "missing_card", "missing_product"]),
        ("feed.csv", 5, ["event_time_not_understood"]),
    ]


def test_landed_files_are_never_changed(con: duckdb.DuckDBPyConnection, tmp_path: Path):
    file = write_csv(tmp_path, GOOD, "few")
    before = file.path.read_bytes()
    clean(con, make_source(), KEY, [file])
    assert file.path.read_bytes() == before


IDS = st.sampled_from(["A", "B", "C", ""])
ROWS = st.builds(
    lambda **cells: row(**cells),
    id=IDS,
    amount=st.sampled_from(["1", "1.0", "2", "-1", "x"]),
    fraud=st.sampled_from(["", "0", "1", "7"]),
    product=st.sampled_from(["W", "W", "W", '"W']),
)


def expected_outcome(files: list[list[str]], *, is_last_file: bool) -> tuple[dict[str, tuple[str, str]], int]:
    """Judge rows by hand: the good ones as id -> (amount, label), and how many are refused."""
    copies: dict[str, list[tuple[int, float, str]]] = {}
    landed = 0
    for number, rows in enumerate(files):
        for text in rows:
            landed += 1
            identifier, _, _, product, amount, _, label = text.split(",")
            if identifier and product == "W" and amount not in ("-1", "x") and label != "7":
                copies.setdefault(identifier, []).append((number, float(amount), label))
    good_rows = {}
    for identifier, found in copies.items():
        scope = [c for c in found if c[0] == max(found)[0]] if is_last_file else found
        if len({amount for _, amount, _ in scope}) == 1:
            labels = [label for _, _, label in found if label]
            good_rows[identifier] = (scope[0][1], labels[-1] if labels else None)
    return good_rows, landed - len(good_rows)


@given(files=st.lists(st.lists(ROWS, max_size=6), max_size=3), is_last_file=st.booleans())
@settings(max_examples=cases(25, 100), suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_landed_row_is_good_or_quarantined_as_the_rules_say(
    con: duckdb.DuckDBPyConnection, tmp_path: Path, files: list[list[str]], is_last_file: bool
):
    source = make_source(rules={"on_conflict": "last_file"} if is_last_file else {})
    written: list[RawFile] = [write_csv(tmp_path, *rows, name=f"{i}.csv") for i, rows in enumerate(files)]
    result = clean(con, source, KEY, written)
    good_rows, quarantined = expected_outcome(files, is_last_file=is_last_file)
    assert good(con, "TransactionID, amount_thousandths / 1000, isFraud::VARCHAR") == sorted(
        (identifier, amount, label) for identifier, (amount, label) in good_rows.items()
    )
    assert (result.good, result.quarantined) == (len(good_rows), quarantined)


def test_without_a_key_an_id_of_another_partition_is_no_conflict(con: duckdb.DuckDBPyConnection, tmp_path: Path):
    next_day = row(time="2026-01-06 12:00:00")
    assert clean_rows(con, tmp_path, GOOD, next_day, key=None).reasons == {}
    assert clean_rows(con, tmp_path, GOOD, next_day, row(amount="1"), key=None).reasons == {"conflicting_id": 2}
