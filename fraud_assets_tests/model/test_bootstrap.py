"""Intervals: they hold the truth as often as they say, where a card's rows resemble each other."""

import numpy as np
import pandas as pd
import pytest

from fraud_assets.model import bootstrap
from fraud_assets.model.bootstrap import FEWEST_REPLICATES, MAXIMUM_ROW_DRAWS, card_weights, percentile_interval
from fraud_assets.model.evaluation import Scores, evaluate
from fraud_assets_tests.depth import cases

CARDS, ROWS_PER_CARD = 500, 5

COVERED = ("roc_auc", "average_precision", "recall_at_top_3_5pct", "precision_at_20_a_day", "base_rate", "alert_rate")


def population(cards: int, seed: int) -> tuple[pd.DataFrame, np.ndarray, np.ndarray]:
    """Cards whose rows resemble each other: one in five is defrauded and mostly so, and each has its own usual score.

    Returns the rows and two scores of them, of which the second is a noisy first.
    """
    generator = np.random.default_rng(seed)
    card = np.repeat(np.arange(cards), ROWS_PER_CARD)
    is_defrauded = generator.random(cards) < 0.2
    is_fraud = is_defrauded[card] & (generator.random(len(card)) < 0.7)
    usual = generator.normal(0, 1, cards)
    score = usual[card] + 1.5 * is_fraud + generator.normal(0, 0.4, len(card))
    other = score + generator.normal(0, 0.4, cards)[card]
    rows = pd.DataFrame(
        {
            "isFraud": is_fraud.astype(int),
            "TransactionAmt": 1.0,
            "card_id": card.astype(str),
            # The days of a population are as long as those of a sample: 20 rows a day is then the same capacity.
            "partition_key": np.char.mod("day-%06d", generator.permutation(len(card)) // (CARDS * ROWS_PER_CARD // 4)),
        }
    )
    return rows, score, other


def measured(seed: int, cards: int = CARDS, **options: int) -> dict[tuple[str, str], tuple[float, float, float]]:
    rows, score, other = population(cards, seed)
    found = evaluate(
        rows,
        {"forest": Scores(score, threshold=2.0), "other": Scores(other, threshold=2.0)},
        alerts_per_day=20,
        differences={"difference": ("forest", "other")},
        seed=seed,
        **options,
    )
    return {
        (scored_by, metric): (figure.value or 0.0, figure.lower or 0.0, figure.upper or 0.0)
        for scored_by, figures in found.estimates.items()
        for metric, figure in figures.items()
    }


def test_intervals_hold_the_truth_in_95_of_100_draws() -> None:
    truth = measured(0, cards=cases(25_000, 100_000), replicates=1)
    draws = cases(80, 400)
    watched = [("rows" if name == "base_rate" else "forest", name) for name in COVERED]
    watched += [("difference", "roc_auc"), ("difference", "average_precision")]
    held = dict.fromkeys(watched, 0)
    for seed in range(1, draws + 1):
        found = measured(seed, replicates=cases(200, 400))
        for key in watched:
            _, lower, upper = found[key]
            held[key] += lower <= truth[key][0] <= upper
    # Of 80 draws, 95 % give or take three standard deviations.
    least, most = cases(88, 92), cases(100, 98)
    shares = {key: 100 * count / draws for key, count in held.items()}
    assert {key: share for key, share in shares.items() if not least <= share <= most} == {}


def test_a_difference_is_one_of_pairs() -> None:
    found = measured(1, replicates=200)
    width = {key: upper - lower for key, (_, lower, upper) in found.items()}
    assert width["difference", "roc_auc"] < 0.5 * min(width["forest", "roc_auc"], width["other", "roc_auc"])


def test_the_same_seed_draws_the_same_cards_however_many_are_drawn_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def drawn(seed: int) -> np.ndarray:
        return np.concatenate(list(card_weights(7, rows=50, replicates=30, seed=seed)))

    at_once = drawn(3)
    monkeypatch.setattr(bootstrap, "_CELLS", 200)
    assert len(list(card_weights(7, rows=50, replicates=30, seed=3))) > 1
    np.testing.assert_array_equal(drawn(3), at_once)
    assert (drawn(4) != at_once).any()


def test_as_many_cards_are_drawn_as_there_are() -> None:
    [weights] = card_weights(7, rows=50, replicates=30, seed=3)
    assert weights.shape == (30, 7)
    assert (weights.sum(axis=1) == 7).all()
    assert weights.mean(axis=0) == pytest.approx(np.ones(7), abs=0.6)


@pytest.mark.parametrize(
    ("rows", "replicates"),
    [(1, 400), (MAXIMUM_ROW_DRAWS // 400, 400), (MAXIMUM_ROW_DRAWS // 200, 200), (10**12, FEWEST_REPLICATES)],
)
def test_very_many_rows_are_drawn_less_often(rows: int, replicates: int) -> None:
    assert sum(len(weights) for weights in card_weights(3, rows=rows, replicates=400, seed=0)) == replicates


def test_an_interval_leaves_out_replicates_without_a_value() -> None:
    assert percentile_interval(np.append(np.arange(1001.0), [np.nan] * 50)) == (25.0, 975.0)
    assert percentile_interval(np.array([np.nan])) is None
