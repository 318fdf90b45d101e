"""Figures of a ranking: each against scikit-learn or a slow count, under weights, ties and one-class slices."""

from collections.abc import Sequence
from itertools import permutations
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import auc, average_precision_score, precision_recall_curve, roc_auc_score

from fraud_assets.model.ranking import (
    capacity_metrics,
    cards_of_a_day,
    precision_by_part,
    ranking_metrics,
    review_queue,
    weighted,
)
from fraud_assets_tests.depth import cases


class LabelledRows:
    """Rows with many ties, their cards, and a weight for each card."""

    def __init__(self, draw: st.DrawFn, *, most: int = 40, weights: st.SearchStrategy[int]) -> None:
        n = draw(st.integers(2, most))

        def each(of: st.SearchStrategy[Any]) -> np.ndarray:
            return np.array(draw(st.lists(of, min_size=n, max_size=n)))

        self.score = each(st.sampled_from([-0.25, -0.1, 0.0, 0.1, 0.3]) if draw(st.booleans()) else st.floats(-1, 1))
        self.is_fraud = each(st.booleans())
        self.is_fraud[draw(st.integers(0, n - 1))] = True
        self.amount = each(st.integers(0, 1000)).astype(float)
        self.card = each(st.integers(0, 6))
        self.day = np.unique(each(st.integers(0, 3)), return_inverse=True)[1]
        self.weight_of_card = np.array(draw(st.lists(weights, min_size=7, max_size=7)), float)
        self.weight = self.weight_of_card[self.card]

    def repeated(self) -> "LabelledRows":
        """Each row as many times as its weight."""
        other = object.__new__(LabelledRows)
        times = self.weight.astype(int)
        for name in ("score", "is_fraud", "amount", "card", "day"):
            setattr(other, name, np.repeat(getattr(self, name), times))
        return other


@st.composite
def labelled_rows(draw: st.DrawFn) -> LabelledRows:
    return LabelledRows(draw, weights=st.integers(1, 3))


@st.composite
def drawn_rows(draw: st.DrawFn) -> LabelledRows:
    """Weights as a bootstrap gives them, zero among them."""
    return LabelledRows(draw, weights=st.integers(0, 3))


def ranking_of(rows: LabelledRows) -> dict[str, float]:
    queue = review_queue(rows.score, rows.is_fraud, rows.amount, rows.card)
    return {name: value[0] for name, value in ranking_metrics(weighted(queue, rows.weight_of_card[None])).items()}


@settings(max_examples=cases(40, 250))
@given(rows=labelled_rows())
def test_a_ranking_is_measured_as_scikit_learn_does_weights_and_ties_included(rows: LabelledRows) -> None:
    found = ranking_of(rows)
    precision, recall, _ = precision_recall_curve(rows.is_fraud, rows.score, sample_weight=rows.weight)
    assert found["pr_auc"] == pytest.approx(auc(recall, precision))
    expected = average_precision_score(rows.is_fraud, rows.score, sample_weight=rows.weight)
    assert found["average_precision"] == pytest.approx(expected)
    if rows.is_fraud.all():
        assert np.isnan(found["roc_auc"])
    else:
        assert found["roc_auc"] == pytest.approx(roc_auc_score(rows.is_fraud, rows.score, sample_weight=rows.weight))


@settings(max_examples=cases(40, 250))
@given(rows=drawn_rows())
def test_a_weight_of_two_is_two_rows_and_a_weight_of_zero_is_none(rows: LabelledRows) -> None:
    found = ranking_of(rows)
    twice = rows.repeated()
    if not twice.is_fraud.any():
        assert all(np.isnan(value) for value in found.values())
        return
    precision, recall, _ = precision_recall_curve(twice.is_fraud, twice.score)
    assert found["pr_auc"] == pytest.approx(auc(recall, precision))
    assert found["average_precision"] == pytest.approx(average_precision_score(twice.is_fraud, twice.score))


def slow_reviews(
    score: np.ndarray, is_fraud: np.ndarray, amount: np.ndarray, capacity: float
) -> tuple[float, float, float]:
    """Return rows reviewed, frauds and amount found: row by row, of rows that tie the share that still fits."""
    reviewed = found = amount_found = 0.0
    for value in sorted(set(score.tolist()), reverse=True):
        tied = score == value
        fits = min(1.0, max(0.0, capacity - reviewed) / tied.sum())
        reviewed += fits * tied.sum()
        found += fits * is_fraud[tied].sum()
        amount_found += fits * amount[tied & is_fraud].sum()
    return reviewed, found, amount_found


@settings(max_examples=cases(40, 250))
@given(rows=drawn_rows(), capacity=st.floats(0.1, 60), by_day=st.booleans())
def test_a_capacity_is_spent_from_the_top_of_each_day(rows: LabelledRows, capacity: float, by_day: bool) -> None:
    queue = review_queue(rows.score, rows.is_fraud, rows.amount, rows.card, rows.day if by_day else None)
    in_weights = weighted(queue, rows.weight_of_card[None])
    found = capacity_metrics(in_weights, np.full_like(in_weights.size, capacity), at="x")
    twice = rows.repeated()
    days = twice.day if by_day else np.zeros(len(twice.score), int)
    sums = np.zeros(3)
    for day in np.unique(days):
        of_day = days == day
        sums += slow_reviews(twice.score[of_day], twice.is_fraud[of_day], twice.amount[of_day], capacity)
    for name, part, whole in (
        ("precision", sums[1], sums[0]),
        ("recall", sums[1], twice.is_fraud.sum()),
        ("fraud_amount_share", sums[2], twice.amount[twice.is_fraud].sum()),
    ):
        value = found[f"{name}_at_x"][0]
        assert np.isnan(value) if whole == 0 else value == pytest.approx(part / whole), name


@pytest.mark.parametrize("capacity", [1, 2, 3])
def test_ties_count_what_a_review_in_random_order_finds_on_average(capacity: int) -> None:
    score, is_fraud = np.array([0.2, 0.1, 0.1, 0.1, 0.0]), np.array([False, True, False, False, True])
    on_average = np.mean(
        [is_fraud[[0, *order]][:capacity].mean() for order in permutations([1, 2, 3])],
    )
    queue = weighted(review_queue(score, is_fraud, np.ones(5), np.arange(5)), np.ones((1, 5)))
    found = capacity_metrics(queue, np.full((1, 1), float(capacity)), at="x")
    assert found["precision_at_x"][0] == pytest.approx(on_average)


@settings(max_examples=cases(40, 250))
@given(rows=drawn_rows(), capacity=st.integers(1, 8))
def test_card_precision_is_the_mean_over_days_of_the_share_of_reviewed_cards_with_fraud(
    rows: LabelledRows, capacity: int
) -> None:
    score, is_fraud, card, day = cards_of_a_day(rows.score, rows.is_fraud, rows.card, rows.day)
    queue = weighted(review_queue(score, is_fraud, np.zeros(len(card)), card, day), rows.weight_of_card[None])
    found = precision_by_part(queue, np.full_like(queue.size, capacity))[0]
    of_days = []
    for one_day in range(rows.day.max() + 1):
        highest: dict[int, float] = {}
        defrauded: dict[int, bool] = {}
        for value, fraud, its_card, its_day in zip(rows.score, rows.is_fraud, rows.card, rows.day, strict=True):
            if its_day == one_day:
                highest[its_card] = max(value, highest.get(its_card, -np.inf))
                defrauded[its_card] = bool(fraud) or defrauded.get(its_card, False)
        cards = [name for name in highest for _ in range(int(rows.weight_of_card[name]))]
        if cards:
            of_card = (np.array([values[name] for name in cards]) for values in (highest, defrauded))
            reviewed, caught, _ = slow_reviews(*of_card, np.zeros(len(cards)), capacity)
            of_days.append(caught / reviewed)
    assert np.isnan(found) if not of_days else found == pytest.approx(np.mean(of_days))


@settings(max_examples=cases(25, 125))
@given(rows=drawn_rows(), data=st.data())
def test_no_figure_depends_on_the_order_of_the_rows(rows: LabelledRows, data: st.DataObject) -> None:
    order = np.array(data.draw(st.permutations(range(len(rows.score)))))

    def figures(at: Sequence[int] | slice) -> list[float]:
        queue = review_queue(rows.score[at], rows.is_fraud[at], rows.amount[at], rows.card[at], rows.day[at])
        in_weights = weighted(queue, rows.weight_of_card[None])
        return [float(value[0]) for value in capacity_metrics(in_weights, in_weights.size * 0 + 2.0, at="x").values()]

    np.testing.assert_allclose(figures(slice(None)), figures(order), rtol=1e-12)  # pyright: ignore[reportArgumentType]
