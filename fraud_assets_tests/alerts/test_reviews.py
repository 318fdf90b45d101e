"""Decisions come back from spreadsheets: what counts, what is named, and what is known of a version by them."""

import random
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openpyxl import Workbook, load_workbook

from fraud_assets.alerts import spreadsheets
from fraud_assets.alerts.review_findings import SampleReviews, precision_of_reviewed, read_sample
from fraud_assets.alerts.reviews import (
    REVIEWS_SCHEMA,
    Decision,
    join_reviews,
    latest_decisions,
    read_decisions,
)
from fraud_assets.alerts.spreadsheets import SpreadsheetError
from fraud_assets_tests.depth import cases

MONDAY = datetime(2026, 1, 5, 8, tzinfo=UTC)

SHOWN = ("TransactionID", "partition_key", "model_version", "card_id", "alerted_at")

HOSTILE = [
    "=1+1", '=HYPERLINK("http://x","y")', "+49 30", "-1", "@SUM(A1)", "\t=1", "'quoted", "'",
    "<script>alert(1)</script>", "\u202etxet", "a;b,c\"d\ne", "x" * 10_000, "00042", "1e5", "2026-01-05", "é😀",
]  # fmt: skip


def decision(transaction: str = "t", outcome: str = "fraud", at: datetime | None = None) -> Decision:
    return Decision(transaction, outcome, None, at, None)


def write(path: Path, names: list[str], rows: list[list[Any]]) -> None:
    (spreadsheets.write_xlsx if path.suffix == ".xlsx" else spreadsheets.write_csv)(path, names, rows)


@pytest.mark.parametrize("name", ["out.csv", "out.xlsx"])
def test_hostile_texts_go_out_harmless_and_come_back_unharmed(name: str, tmp_path: Path) -> None:
    write(tmp_path / name, ["TransactionID", "outcome"], [[text, ""] for text in HOSTILE])
    rows = spreadsheets.read_rows(tmp_path / name, ["TransactionID"])
    assert [row["TransactionID"] for row in rows] == HOSTILE


def test_what_a_workbook_spells_that_is_no_text_costs_its_character_alone(tmp_path: Path) -> None:
    workbook = Workbook()
    assert workbook.active is not None
    for line in (["TransactionID", "outcome"], ["a_xD800_b", "fraud"], ["_xD83D__xDE00_", "genuine"]):
        workbook.active.append(line)
    workbook.save(tmp_path / "in.xlsx")
    read = read_decisions(spreadsheets.read_rows(tmp_path / "in.xlsx", ["TransactionID", "outcome"]))
    none = f"(FROM (SELECT {', '.join(f'NULL AS {name}' for name in SHOWN)}) WHERE false)"
    with duckdb.connect() as con:
        rows = join_reviews(
            con,
            latest_decisions([("in.xlsx", MONDAY, read.decisions)]),
            **dict.fromkeys(("alerts", "withdrawn", "drawn", "silver"), none),
            feed="simulated",
        )
    assert sorted(rows["TransactionID"].to_pylist()) == ["a\N{REPLACEMENT CHARACTER}b", "😀"]


def test_no_cell_of_a_workbook_is_a_formula(tmp_path: Path) -> None:
    write(tmp_path / "out.xlsx", ["note"], [[text] for text in HOSTILE])
    sheet = load_workbook(tmp_path / "out.xlsx").worksheets[0]
    assert {cell.data_type for row in sheet.iter_rows() for cell in row} <= {"s", "inlineStr"}


def test_no_cell_of_a_csv_file_begins_as_a_formula_does(tmp_path: Path) -> None:
    text = spreadsheets.as_csv(["note"], [[text] for text in HOSTILE])
    assert not [line for line in text.splitlines() if line.lstrip('"')[:1] in ("=", "+", "-", "@", "\t")]


@settings(max_examples=cases(100, 500))
@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), min_size=1))
def test_any_text_survives_csv(text: str) -> None:
    written = spreadsheets.as_csv(["a", "b"], [[text, "end"]])
    [_, line] = list(spreadsheets._lines_of(written))
    assert line == [text, "end"]


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_a_file_that_a_spreadsheet_saved_with_another_delimiter_is_read(delimiter: str, tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text(
        delimiter.join(["TransactionID", "outcome"]) + f"\nt1{delimiter}fraud\n", "utf-8-sig"
    )
    rows = spreadsheets.read_rows(tmp_path / "in.csv", ["TransactionID", "outcome"])
    assert rows == [{"TransactionID": "t1", "outcome": "fraud"}]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", b"id,outcome\n1,fraud\n", "has no column TransactionID; it has id, outcome"),
        ("a.csv", b"", "has no column TransactionID, outcome; it has none"),
        ("a.csv", b"\xff\xfe\x00", "cannot be read as CSV"),
        ("a.xlsx", b"no workbook", "cannot be read as XLSX"),
    ],
)
def test_what_is_no_sheet_of_decisions_is_refused_with_the_reason(
    name: str, content: bytes, message: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(SpreadsheetError, match=message):
        spreadsheets.read_rows(tmp_path / name, ["TransactionID", "outcome"])


def test_what_does_not_count_is_named_and_costs_nothing_else() -> None:
    read = read_decisions(
        [
            {
                "TransactionID": "a",
                "outcome": " Fraud ",
                "reviewer": "Ada",
                "reviewed_at": "2026-01-05 08:00",
                "note": "n",
            },
            {"TransactionID": "b", "outcome": ""},
            {"TransactionID": "c", "outcome": "perhaps"},
            {"TransactionID": "d", "outcome": "genuine", "reviewed_at": "yesterday"},
            {"TransactionID": "", "outcome": "fraud"},
            {"TransactionID": "g", "outcome": "fraud", "reviewed_at": "0001-01-01T00:00:00+14:00"},
            {"TransactionID": "e", "outcome": "unsure", "reviewed_at": datetime(2026, 1, 5, 8)},  # noqa: DTZ001
            {"TransactionID": 7, "outcome": "genuine", "reviewed_at": "2026-01-05T09:00+01:00"},
        ]
    )
    assert read.decisions == (
        Decision("a", "fraud", "Ada", MONDAY, "n"),
        Decision("e", "unsure", None, MONDAY, None),
        Decision("7", "genuine", None, MONDAY, None),
    )
    assert read.undecided == 1
    assert read.refused == (
        "c: 'perhaps' is none of fraud, genuine, unsure",
        "d: reviewed_at 'yesterday' is no time",
        "'fraud' without a TransactionID",
        "g: reviewed_at '0001-01-01T00:00:00+14:00' is no time",
    )


def test_the_decision_made_last_counts_whenever_its_file_landed() -> None:
    tuesday, wednesday = MONDAY + timedelta(days=1), MONDAY + timedelta(days=2)
    files = [
        ("first", tuesday, [decision("a", "fraud", tuesday), decision("b", "fraud")]),
        ("second", wednesday, [decision("a", "genuine", MONDAY), decision("b", "genuine"), decision("b", "unsure")]),
    ]
    found = {row["TransactionID"]: (row["outcome"], row["review_file"]) for row in latest_decisions(files)}
    assert found == {"a": ("fraud", "first"), "b": ("unsure", "second")}


def test_a_file_read_twice_counts_once() -> None:
    once = [("file", MONDAY, [decision("a"), decision("b", "genuine")])]
    assert latest_decisions(once * 2) == latest_decisions(once)


def test_each_decision_knows_its_partition_and_the_alert_it_is_about() -> None:
    decided = latest_decisions(
        [("f", MONDAY, [decision(name) for name in ("alert", "gone", "drawn", "risen", "row", "none")])]
    )
    shown = "SELECT '{}' AS TransactionID, '2026-01-0{}' AS partition_key, '{}' AS model_version, 'c' AS card_id,"
    shown += " TIMESTAMPTZ '2026-01-06' AS alerted_at"
    silver = "(FROM (VALUES ('alert', '2026-01-01'), ('row', '2026-01-02'), ('row', '2026-01-03'))"
    with duckdb.connect() as con:
        con.execute("SET TimeZone = 'UTC'")
        rows = join_reviews(
            con,
            decided,
            alerts=f"({shown.format('alert', 1, 3)})",
            withdrawn=f"({shown.format('gone', 2, 3)} UNION ALL {shown.format('risen', 4, 3)})",
            drawn=f"({shown.format('drawn', 3, 2)} UNION ALL {shown.format('risen', 5, 4)})",
            silver=f"{silver} AS found (TransactionID, partition_key))",
            feed="simulated",
        )
    assert rows.schema.equals(REVIEWS_SCHEMA, check_metadata=True)
    names = ("TransactionID", "partition_key", "was_alert", "was_sampled", "model_version", "card_id")
    assert sorted(tuple(row[name] for name in names) for row in rows.to_pylist()) == [
        ("alert", "2026-01-01", True, False, "3", "c"),
        ("drawn", "2026-01-03", False, True, "2", "c"),
        ("gone", "2026-01-02", True, False, "3", "c"),
        ("none", None, False, False, None, None),
        ("risen", "2026-01-04", True, False, "3", "c"),
        ("row", "2026-01-03", False, False, None, None),
    ]


def test_precision_has_wilsons_interval_of_the_cards_and_recall_is_not_measurable() -> None:
    found = precision_of_reviewed(8, 10, 10)
    assert found["precision"].value == 0.8
    assert (found["precision"].lower, found["precision"].upper) == (
        pytest.approx(0.4902, abs=1e-4),
        pytest.approx(0.9433, abs=1e-4),
    )
    assert found["recall"].value is None
    assert "nobody has looked" in (found["recall"].not_measurable or "")
    of_few_cards = precision_of_reviewed(8, 10, 2)["precision"]
    assert (of_few_cards.lower or 1) < (found["precision"].lower or 0)


@pytest.mark.parametrize(("frauds", "decided"), [(0, 3), (3, 3), (1, 1), (0, 1)])
def test_a_precision_of_few_reviews_has_an_interval_within_zero_and_one(frauds: int, decided: int) -> None:
    found = precision_of_reviewed(frauds, decided, decided)["precision"]
    assert found.lower is not None
    assert found.upper is not None
    assert 0 <= found.lower <= (found.value or 0) <= found.upper <= 1
    assert found.upper - found.lower > 0.3


def test_without_a_decided_alert_precision_has_a_reason_and_no_value() -> None:
    found = precision_of_reviewed(0, 0, 0)["precision"]
    assert (found.value, bool(found.not_measurable)) == (None, True)


REVIEWED = "partition_key VARCHAR, was_alert BOOLEAN, was_sampled BOOLEAN, outcome VARCHAR, model_version VARCHAR"


def of_sample(days: dict[str, tuple[int, int, list[str], list[str]]], **options: str) -> SampleReviews | None:
    """Of days with so many scored rows and alerts, what was decided of alerts and of what was drawn."""
    with duckdb.connect() as con:
        con.execute(f"CREATE TABLE reviews ({REVIEWED})")
        con.execute("CREATE TABLE lists (partition_key VARCHAR, scored_rows BIGINT, alerts BIGINT)")
        lists = [f"('{day}', {scored}, {alerts})" for day, (scored, alerts, _, _) in days.items()]
        reviews = [
            f"('{day}', {is_alert}, {not is_alert}, '{outcome}', '1')"
            for day, (_, _, of_alerts, drawn) in days.items()
            for outcomes, is_alert in ((of_alerts, True), (drawn, False))
            for outcome in outcomes
        ]
        for table, rows in (("lists", lists), ("reviews", reviews)):
            if rows:
                con.execute(f"INSERT INTO {table} VALUES {', '.join(rows)}")
        return read_sample(con, "reviews", "lists", **options)


@settings(max_examples=cases(50, 300))
@given(
    st.lists(
        st.tuples(
            st.integers(0, 500),
            st.lists(st.sampled_from(("fraud", "genuine", "unsure")), max_size=6),
            st.lists(st.sampled_from(("fraud", "genuine", "unsure")), max_size=6),
        ),
        max_size=5,
    )
)
def test_a_sample_stands_for_all_that_is_no_alert(found: list[tuple[int, list[str], list[str]]]) -> None:
    """Against the rows themselves: each decided one as often as the rows of its day that it stands for."""
    days = {
        f"2026-01-0{n}": (len(alerts) + len(drawn) + more, len(alerts), alerts, drawn)
        for n, (more, alerts, drawn) in enumerate(found, start=1)
    }
    decided = {day: [one for one in drawn if one != "unsure"] for day, (_, _, _, drawn) in days.items()}
    sample = of_sample(days)
    if not any(decided.values()):
        assert sample is None
        return
    assert sample is not None
    stand_for = [
        (one == "fraud", (days[day][0] - days[day][1]) / len(drawn)) for day, drawn in decided.items() for one in drawn
    ]
    everything = sum(weight for _, weight in stand_for)
    assert sample.decided == len(stand_for)
    assert sample.frauds == sum(is_fraud for is_fraud, _ in stand_for)
    assert sample.unalerted == round(everything)
    assert sample.share == pytest.approx(sum(weight for is_fraud, weight in stand_for if is_fraud) / everything)
    assert sample.draws == pytest.approx(everything**2 / sum(weight**2 for _, weight in stand_for))
    alerts = [one for day, drawn in decided.items() if drawn for one in days[day][2] if one != "unsure"]
    listed = sum(days[day][1] for day, drawn in decided.items() if drawn)
    assert sample.caught == (pytest.approx(listed * alerts.count("fraud") / len(alerts)) if alerts else None)


def test_where_all_of_the_rest_was_reviewed_recall_is_what_it_is() -> None:
    days = {
        "2026-01-01": (104, 4, ["fraud", "fraud", "genuine", "fraud"], ["fraud"] + ["genuine"] * 99),
        "2026-01-02": (52, 2, ["fraud", "genuine"], ["fraud"] + ["genuine"] * 49),
        "2026-01-03": (500, 2, ["fraud", "fraud"], []),
    }
    found = precision_of_reviewed(6, 8, 8, of_sample(days))
    assert found["unalerted_fraud_rate"].value == pytest.approx(2 / 150)
    assert found["recall"].value == pytest.approx(4 / 6)
    assert (found["recall"].lower or 1) < 4 / 6 < (found["recall"].upper or 0)
    assert found["reviewed_sample"].value == 150
    assert of_sample(days, until="2026-01-01") == SampleReviews(100, 1, pytest.approx(0.01), pytest.approx(100), 100, 3)
    assert of_sample(days, version="2") is None


def test_a_day_of_which_all_became_alerts_says_nothing_of_the_rest() -> None:
    all_alerts = {"2026-01-01": (2, 2, ["fraud"], ["genuine"])}
    assert of_sample(all_alerts) is None
    another = {"2026-01-02": (12, 2, ["fraud"], ["genuine"])}
    assert of_sample(all_alerts | another) == of_sample(another)


@pytest.mark.parametrize(
    ("caught", "frauds", "value", "why"),
    [(None, 1, None, "no alert of the sampled partitions"), (0.0, 0, None, "no fraud was found"), (0.0, 1, 0.0, None)],
)
def test_recall_has_a_value_or_the_reason_why_not(
    caught: float | None, frauds: int, value: float | None, why: str | None
) -> None:
    found = precision_of_reviewed(0, 0, 0, SampleReviews(10, frauds, frauds / 10, 10, 100, caught))["recall"]
    assert found.value == value
    assert (why or "") in (found.not_measurable or "")
    assert (found.not_measurable is None) == (why is None)


def test_the_interval_of_recall_holds_the_truth_as_often_as_it_says() -> None:
    """Of a day of 3,000 rows, 2 % of the rest fraud, sixty drawn rows are reviewed, again and again."""
    chance, inside, tries = random.Random(5), 0, 400
    for _ in range(tries):
        drawn = sum(chance.random() < 0.02 for _ in range(60))
        estimate = precision_of_reviewed(40, 100, 100, SampleReviews(60, drawn, drawn / 60, 60, 2_900, 40.0))["recall"]
        assert estimate.lower is not None
        assert estimate.upper is not None
        inside += estimate.lower <= 40 / (40 + 0.02 * 2_900) <= estimate.upper
    assert 0.92 <= inside / tries <= 1
