import random
from collections.abc import Iterator
from datetime import date, timedelta

import duckdb
import pytest

from fraud_assets.model.known_labels import (
    KnownLabels,
    fed_until,
    learning_window,
    no_window,
    with_known_labels,
    with_weights,
)
from fraud_assets_tests.depth import cases


@pytest.fixture
def con() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as connection:
        yield connection


DAYS = [(date(2026, 1, 1) + timedelta(days=day)).isoformat() for day in range(40)]


@pytest.mark.parametrize(
    ("labelled", "delay", "expected"),
    [
        (DAYS[:23], 7, (DAYS[0], DAYS[10], DAYS[18], DAYS[22])),  # thirty days, the last week unknown
        (DAYS[:40], 7, (DAYS[0], DAYS[25], DAYS[33], DAYS[39])),  # no more than seven compare
        (DAYS[:9], 7, (DAYS[0], DAYS[0], DAYS[8], DAYS[8])),
        (DAYS[:8], 7, None),
        (DAYS[:2], 0, (DAYS[0], DAYS[0], DAYS[1], DAYS[1])),
        (DAYS[:1], 0, None),
        ([], 7, None),
        ([DAYS[0], DAYS[39]], 7, (DAYS[0], DAYS[25], DAYS[33], DAYS[39])),  # days without labels lie between
    ],
)
def test_a_third_of_the_labelled_days_compare_and_the_delay_lies_between(
    labelled: list[str], delay: int, expected: tuple[str, ...] | None
) -> None:
    window = learning_window(labelled, delay_days=delay)
    assert (None if window is None else tuple(vars(window).values())) == expected


def test_a_label_of_the_last_training_day_was_known_before_the_first_compared_day() -> None:
    for span in range(60):
        for delay in range(10):
            days = [(date(2026, 1, 1) + timedelta(days=day)).isoformat() for day in range(span)]
            if (window := learning_window(days, delay_days=delay)) is not None:
                assert fed_until(window.compare_start, delay_days=delay) > window.train_end
                assert window.train_start <= window.train_end < window.compare_start <= window.compare_end
            else:
                assert span < delay + 2


def test_labels_are_those_that_arrived_by_then_and_drawn_ones_speak_for_what_is_unknown(
    con: duckdb.DuckDBPyConnection,
) -> None:
    """Against an oracle that asks row by row, over histories of late labels, reviews and days of the feed."""
    for seed in range(cases(40, 300)):
        chance = random.Random(seed)
        rows = [(chance.choice(DAYS[:12]), f"T{n % 9}", chance.choice((0, 1, None))) for n in range(12)]
        rows = list({(day, id_): (day, id_, label) for day, id_, label in rows}.values())
        files = {f"T{n}": chance.choice((0, 1)) for n in range(9) if chance.random() < 0.3}
        reviews = {
            (day, id_): (chance.choice(("fraud", "genuine", "unsure")), chance.choice((True, False, None)))
            for day, id_, _ in rows
            if chance.random() < 0.3
        }
        alerts = [(day, id_) for day, id_, _ in rows if chance.random() < 0.2]
        until = fed_until(chance.choice(DAYS[:20]), delay_days=chance.choice((0, 7)))

        expected = {}
        for day, id_, label in rows:
            outcome, was_sampled = reviews.get((day, id_), ("unsure", None))
            if id_ in files:
                expected[day, id_] = (files[id_], "label file", False)
            elif day <= until and label is not None:
                expected[day, id_] = (label, "feed", False)
            elif outcome != "unsure":
                expected[day, id_] = (int(outcome == "fraud"), "review", bool(was_sampled))
        weights = {}
        for (day, id_), (_, _, is_sampled) in expected.items():
            sampled = [key for key, known in expected.items() if key[0] == day and known[2]]
            unknown = [key for key in {(of, one) for of, one, _ in rows} - {*expected} - {*alerts} if key[0] == day]
            weights[day, id_] = (len(sampled) + len(unknown)) / len(sampled) if is_sampled else 1

        _table(con, "silver", ("partition_key VARCHAR", "TransactionID VARCHAR", "isFraud INTEGER"), rows)
        _table(con, "late_labels", ("TransactionID VARCHAR", "isFraud INTEGER"), list(files.items()))
        _table(
            con,
            "reviews",
            ("partition_key VARCHAR", "TransactionID VARCHAR", "outcome VARCHAR", "was_sampled BOOLEAN"),
            [(*key, *decided) for key, decided in reviews.items()],
        )
        _table(con, "alerts", ("partition_key VARCHAR", "TransactionID VARCHAR"), alerts)
        relation = with_known_labels("silver", reviews="reviews", until=until)
        con.execute(f"CREATE OR REPLACE TEMP TABLE found AS FROM {relation}")
        found = con.execute("SELECT partition_key, TransactionID, isFraud, origin, is_sampled FROM found").fetchall()
        assert {(day, id_): tuple(known) for day, id_, *known in found} == expected
        assert len(found) == len(expected)
        weighted = with_weights("found", rows="silver", alerts="alerts")
        query = f"SELECT partition_key, TransactionID, weight, isFraud, origin FROM {weighted}"
        found = {(day, id_): tuple(more) for day, id_, *more in con.execute(query).fetchall()}
        assert {key: weight for key, (weight, *_) in found.items()} == pytest.approx(weights)
        assert {key: tuple(more) for key, (_, *more) in found.items()} == {k: v[:2] for k, v in expected.items()}


def _table(con: duckdb.DuckDBPyConnection, name: str, columns: tuple[str, ...], rows: list[tuple]) -> None:
    con.execute(f"CREATE OR REPLACE TEMP TABLE {name} ({', '.join(columns)})")
    values = ", ".join(f"({', '.join('NULL' if value is None else repr(value) for value in row)})" for row in rows)
    if values:
        con.execute(f"INSERT INTO {name} VALUES {values}")


@pytest.mark.parametrize(
    ("by_origin", "has_days", "words"),
    [
        ({}, False, "No label is known yet"),
        ({"review": 5}, False, "by reviews alone"),
        ({"feed": 5}, True, "9 at least are needed, 7 of them between"),
    ],
)
def test_too_little_is_said_in_a_sentence(by_origin: dict[str, int], has_days: bool, words: str) -> None:
    assert words in no_window(by_origin, has_days=has_days, delay_days=7)


def test_what_is_known_is_stored_as_text() -> None:
    for known in (KnownLabels(), KnownLabels("a", "", "c"), KnownLabels("a", "b", "c")):
        assert KnownLabels.parse(str(known)) == known
    assert KnownLabels().is_empty
    assert not KnownLabels(reviews="b").is_empty
