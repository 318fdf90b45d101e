import re
import tomllib
from pathlib import Path

import duckdb
import pytest

from fraud_assets.silver.source import Source
from fraud_assets.silver.trial import Trial, try_files
from fraud_assets_tests.silver.feed import GOOD, make_source, row, write_bytes, write_csv


def tried(
    con: duckdb.DuckDBPyConnection, folder: Path, *rows: str, time: str = "time", amount: str = "amount"
) -> Trial:
    columns = make_source().columns | {"event_timestamp": time, "TransactionAmt": amount}
    source = make_source(columns=columns, types={"abroad": "BOOLEAN"})
    return try_files(con, source, [write_csv(folder, *rows)])


@pytest.mark.parametrize(
    ("cell", "expression"),
    [
        ("23/04/2026", "strptime(time, '%d/%m/%Y')"),
        ("04/23/2026", "strptime(time, '%m/%d/%Y')"),
        ("23.04.2026 10:30", "strptime(time, '%d.%m.%Y %H:%M')"),
        ("20260423", "strptime(time, '%Y%m%d')"),
        ("1767614400", "to_timestamp(time::DOUBLE)"),
        ("1767614400000", "to_timestamp(time::DOUBLE / 1000)"),
        ("46027.5", "TIMESTAMP '1899-12-30' + to_seconds(round(time::DOUBLE * 86400))"),
    ],
)
def test_times_that_are_not_understood_come_with_an_expression_that_reads_them(
    con: duckdb.DuckDBPyConnection, tmp_path: Path, cell: str, expression: str
):
    first = tried(con, tmp_path, row(time=cell), row(id="T2", time=cell))
    [sentence] = first.advice
    assert first.timed == 0
    assert sentence.startswith(f"2 rows have no event_time by it: time = '{cell}', by event_timestamp = \"time\"")
    assert f'event_timestamp = "{expression}"' in sentence
    assert tried(con, tmp_path, row(time=cell), time=expression).timed == 1, "what it says works"


@pytest.mark.parametrize(
    ("cell", "marks"),
    [
        ('"25,000"', 'thousands = ","'),
        ('"4.711,50"', 'decimal = ",", thousands = "."'),
        ("1'234.50", 'thousands = "\'"'),
        ("$40.00", 'thousands = ","'),
    ],
)
def test_amounts_that_are_not_understood_come_with_the_marks_that_read_them(
    con: duckdb.DuckDBPyConnection, tmp_path: Path, cell: str, marks: str
):
    [sentence] = tried(con, tmp_path, row(amount=cell)).advice
    assert "1 rows have no amount by it: amount = " in sentence
    assert f'[csv] {marks}, and [types] amount = "DOUBLE"' in sentence


def test_where_the_day_or_the_month_may_come_first_both_are_named(con: duckdb.DuckDBPyConnection, tmp_path: Path):
    [sentence] = tried(con, tmp_path, row(time="03/04/2026")).advice
    assert "'%d/%m/%Y')\" or event_timestamp = \"strptime(time, '%m/%d/%Y')" in sentence


def test_files_are_tried_together_and_amounts_have_percentiles(con: duckdb.DuckDBPyConnection, tmp_path: Path):
    files = [
        write_csv(tmp_path, *(row(id=f"T{i}", amount=str(i)) for i in range(1, 1001)), name="a.csv"),
        write_csv(tmp_path, GOOD, row(id="late", time="2025-12-30"), row(amount="x"), name="b.csv"),
    ]
    trial = try_files(con, make_source(), files)
    assert (trial.result.landed, trial.timed) == (1003, 1003)
    assert trial.amounts == pytest.approx([500.0, 900.0, 950.0, 990.0, 999.0], abs=2)
    assert trial.partitions == 2
    assert [(reason, file) for reason, file, _, _ in trial.refused][-1] == ("unreadable_amount", "b.csv")
    assert trial.advice[-1].startswith("2025-12-30 lies outside the days of source small (2026-01-01 without end)")


def test_rows_that_are_understood_need_no_advice(con: duckdb.DuckDBPyConnection, tmp_path: Path):
    assert tried(con, tmp_path, GOOD, row(id="", amount="")).advice == []


GUIDE = (Path(__file__).parents[2] / "docs" / "your_own_feed.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```toml\n([^`]*)```\n\n[^`]*```(csv|json)\n([^`]*)```", GUIDE)


@pytest.mark.parametrize(("toml", "kind", "text"), EXAMPLES, ids=[kind for _, kind, _ in EXAMPLES])
def test_the_examples_of_the_guide_are_read_without_a_fault(
    con: duckdb.DuckDBPyConnection, tmp_path: Path, toml: str, kind: str, text: str
):
    source = Source.model_validate(
        make_source().model_dump(include={"name", "partitions", "features"}) | tomllib.loads(toml)
    )
    content = text.encode(source.csv.encoding if kind == "csv" else "utf-8")
    trial = try_files(con, source, [write_bytes(tmp_path, content, "a.csv" if kind == "csv" else "a.jsonl")])
    assert trial.result.reasons == {}
    amounts = con.execute("SELECT amount_thousandths FROM good_transactions ORDER BY TransactionID").fetchall()
    assert amounts == {"csv": [(4_711_500,), (12_000,), (5_000,)], "json": [(42_000,), (10_500,)]}[kind]


def test_the_guide_has_an_example_of_each_habit():
    assert [kind for _, kind, _ in EXAMPLES] == ["csv", "json"]
