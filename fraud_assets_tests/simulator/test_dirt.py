"""Dirt: a few rows are spoilt, each in one known way, and the others are left alone."""

from datetime import date

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fraud_assets.simulator.dirt import spoil
from fraud_assets.simulator.feed import simulate_day
from fraud_assets.simulator.writing import as_text
from fraud_assets_tests.depth import cases

DAY = date(2026, 1, 5)


def kind_of(before: dict, after: dict) -> str | None:
    """Return what happened to a row, None for nothing, a text that no test expects for anything else."""
    match [(name, after[name]) for name in before if after[name] != before[name]]:
        case []:
            return None
        case [("P_emaildomain", text)] if text.startswith('"') and text.count('"') == 1:
            return "open_quote"
        case [("TransactionAmt", "n/a")]:
            return "unreadable_amount"
        case [("TransactionAmt", text)] if float(text) == -float(before["TransactionAmt"]):
            return "negative_amount"
        case [("TransactionID", None)]:
            return "blank_id"
        case [("TransactionDT", text)] if int(text) == int(before["TransactionDT"]) + 86_400:
            return "other_day"
        case changes:
            return f"unknown: {changes}"


def kind_of_repeat(before: dict, again: dict) -> str:
    """Return whether a row that comes again is equal, or has another amount once both are in thousandths."""
    if again == before:
        return "duplicate"
    amounts = (round(float(row["TransactionAmt"]), 3) for row in (before, again))
    is_conflict = len(set(amounts)) == 2 and {**again, "TransactionAmt": before["TransactionAmt"]} == before
    return "conflicting_id" if is_conflict else "unknown repeat"


def soiled(rows_per_day: int, seed: int = 7, with_quotes: bool = True) -> list[str]:
    clean = as_text(simulate_day(DAY, seed=seed, rows_per_day=rows_per_day))
    dirty = spoil(clean, DAY, seed=seed, with_quotes=with_quotes)
    assert dirty.schema == clean.schema
    rows, dirty_rows = clean.to_pylist(), dirty.to_pylist()
    spoilt = [kind_of(before, after) for before, after in zip(rows, dirty_rows, strict=False)]
    by_id = {row["TransactionID"]: row for row in rows}
    again = [kind_of_repeat(by_id[row["TransactionID"]], row) for row in dirty_rows[len(rows) :]]
    return [kind for kind in spoilt if kind is not None] + again


EVERY_KIND = [
    "blank_id", "conflicting_id", "duplicate", "negative_amount", "open_quote", "other_day", "unreadable_amount",
]  # fmt: skip


@settings(max_examples=cases(10, 40))
@given(seed=st.integers(0, 2**32), rows_per_day=st.integers(30, 2_000))
def test_a_small_day_has_each_kind_of_dirt_once(seed, rows_per_day):
    assert sorted(soiled(rows_per_day, seed)) == EVERY_KIND


def test_a_large_day_has_three_dirty_rows_in_a_thousand_but_one_open_quote_and_one_conflict():
    kinds = soiled(20_000)
    rows = simulate_day(DAY, rows_per_day=20_000).num_rows
    assert len(kinds) == round(0.003 * rows)
    assert sorted(set(kinds)) == EVERY_KIND
    counts = {kind: kinds.count(kind) for kind in EVERY_KIND}
    assert (counts.pop("open_quote"), counts.pop("conflicting_id")) == (1, 1)
    assert max(counts.values()) - min(counts.values()) <= 1


def test_without_quotes_the_other_kinds_remain():
    assert sorted(soiled(300, with_quotes=False)) == [kind for kind in EVERY_KIND if kind != "open_quote"]


def test_the_same_arguments_spoil_the_same_rows_and_another_seed_spoils_others():
    clean = as_text(simulate_day(DAY, rows_per_day=500))
    first, second, other = (spoil(clean, DAY, seed=seed, with_quotes=True) for seed in (7, 7, 8))
    assert first.equals(second)
    assert not first.equals(other)


@pytest.mark.parametrize("rows", [0, 1, 3, 6])
def test_a_day_with_fewer_rows_than_kinds_is_spoilt_without_an_error(rows):
    clean = as_text(simulate_day(DAY, rows_per_day=500)).slice(0, rows)
    assert spoil(clean, DAY, seed=7, with_quotes=True).num_rows >= rows
