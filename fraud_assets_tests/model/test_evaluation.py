"""Evaluation: which rows and scorers are measured, and None with a reason where nothing can be known."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from fraud_assets.model.estimates import ROWS, TRAINING_ALERT_RATE, Estimate, Evaluation
from fraud_assets.model.evaluation import Scores, evaluate, metric_names


def rows_of(labels: object, *, cards: int = 25) -> pd.DataFrame:
    """Rows with these labels: an hour and a card after the other, two days, amounts from 1."""
    truth = labels if isinstance(labels, pd.Series) else pd.Series(labels, dtype="object")
    at = np.arange(len(truth))
    return pd.DataFrame(
        {
            "isFraud": truth,
            "TransactionAmt": at + 1.0,
            "card_id": (at % cards).astype(str),
            "partition_key": np.where(at < len(truth) / 2, "2026-01-05-03", "2026-01-06-22"),
        },
        index=truth.index,
    )


def measured(labels: object, *scores: np.ndarray, **options: object) -> Evaluation:
    names = ("forest", "rule", "reference")
    scorers = {name: Scores(values, threshold=0.0) for name, values in zip(names, scores, strict=False)}
    arguments: dict[str, object] = {"alerts_per_day": 5, "replicates": 20} | options
    return evaluate(rows_of(labels), scorers, **arguments)  # pyright: ignore[reportArgumentType]


LABELS = [1, 0, 0, 1, None, 0, 1, 0, None, 0] * 10
SCORES = np.random.default_rng(1).normal(size=100)


def test_every_scorer_is_measured_on_the_labelled_rows_and_its_alerts_on_all() -> None:
    found = measured(LABELS, SCORES, -SCORES)
    known = np.array([label is not None for label in LABELS])
    truth = np.array([bool(label) for label in LABELS])[known]

    assert [found.estimate(ROWS, name).value for name in ("rows", "labelled_rows", "fraud_rows")] == [100, 80, 30]
    assert found.estimate(ROWS, "base_rate").value == 0.375
    assert found.estimate(ROWS, "reviewed_share_at_5_a_day").value == 10 / 80
    for name, score in (("forest", SCORES), ("rule", -SCORES)):
        assert list(found.estimates[name]) == ["alert_rate", *metric_names(5)]
        assert found.estimate(name, "alert_rate").value == pytest.approx((score > 0).mean())
        assert found.estimate(name, "roc_auc").value == pytest.approx(roc_auc_score(truth, score[known]))
        assert found.estimate(name, "average_precision").value == pytest.approx(
            average_precision_score(truth, score[known])
        )


def test_the_figures_are_named_with_their_capacities() -> None:
    assert metric_names(100) == [
        "roc_auc",
        "pr_auc",
        "average_precision",
        "precision_at_top_0_5pct",
        "recall_at_top_0_5pct",
        "fraud_amount_share_at_top_0_5pct",
        "precision_at_top_1pct",
        "recall_at_top_1pct",
        "fraud_amount_share_at_top_1pct",
        "precision_at_top_3_5pct",
        "recall_at_top_3_5pct",
        "fraud_amount_share_at_top_3_5pct",
        "precision_at_100_a_day",
        "recall_at_100_a_day",
        "fraud_amount_share_at_100_a_day",
        "card_precision_at_100_a_day",
    ]


def test_a_day_is_reviewed_by_itself_whatever_the_grain_of_the_partitions() -> None:
    # Ten frauds on the first day, none on the second, whose scores are all higher.
    labels = [1] * 10 + [0] * 10 + [0] * 20
    scores = np.array([0.5] * 10 + [0.1] * 10 + [0.9] * 20)
    found = measured(labels, scores)
    assert found.estimate("forest", "precision_at_5_a_day").value == 0.5
    assert found.estimate("forest", "recall_at_5_a_day").value == 0.5
    assert found.estimate("forest", "precision_at_top_3_5pct").value == 0.0
    # 1 + ... + 10 is the amount of the frauds, and any five of the ten that tie are reviewed.
    assert found.estimate("forest", "fraud_amount_share_at_5_a_day").value == pytest.approx(0.5)
    assert found.estimate("forest", "card_precision_at_5_a_day").value == pytest.approx((1.0 + 0.0) / 2)


@pytest.mark.parametrize(
    ("labels", "reason"),
    [
        ([], "there are no rows after the training window"),
        ([None] * 30, "no row has a label"),
        ([0] * 30, "all 30 labels are the same"),
        ([1] * 30, "all 30 labels are the same"),
        ([1] * 9 + [0] * 21, "9 fraud rows are too few, 10 are needed"),
    ],
)
def test_what_cannot_be_measured_is_none_with_the_reason_and_never_zero(labels, reason):
    scores = np.linspace(-0.2, 0.2, len(labels))
    found = measured(labels, scores, scores, differences={"difference": ("forest", "rule")})
    for name in ("forest", "rule", "difference"):
        for metric in metric_names(5):
            assert found.estimate(name, metric) == Estimate(None, not_measurable=reason)
    assert not [name for name in found.as_metrics() if name.endswith(("roc_auc", "pr_auc"))]


def test_no_label_means_no_base_rate_and_no_row_no_alert_rate():
    unlabelled = measured([None] * 4, np.array([1.0, -1.0, -1.0, -1.0]))
    assert unlabelled.estimate(ROWS, "base_rate").value is None
    assert unlabelled.estimate("forest", "alert_rate").value == 0.25
    empty = measured([], np.array([]))
    assert empty.estimate(ROWS, "base_rate").value is None
    assert empty.estimate("forest", "alert_rate").value is None


def test_a_scorer_without_scores_says_why_and_the_others_are_measured() -> None:
    scorers = {"forest": Scores(SCORES), "reference": Scores(None, not_measurable="too few frauds to learn from")}
    found = evaluate(rows_of(LABELS), scorers, alerts_per_day=5, replicates=20)
    assert {estimate.not_measurable for estimate in found.estimates["reference"].values()} == {
        "too few frauds to learn from"
    }
    assert found.estimate("forest", "roc_auc").value is not None


def test_a_share_of_an_amount_of_zero_is_not_measurable() -> None:
    rows = rows_of(LABELS).assign(TransactionAmt=0.0)
    found = evaluate(rows, {"forest": Scores(SCORES)}, alerts_per_day=5, replicates=20)
    assert found.estimate("forest", "fraud_amount_share_at_top_1pct").not_measurable == "the fraud rows have no amount"
    assert found.estimate("forest", "recall_at_top_1pct").value is not None


def test_each_figure_has_an_interval_around_it_that_the_seed_decides() -> None:
    one, same, other = (measured(LABELS, SCORES, replicates=100, seed=seed) for seed in (3, 3, 4))
    assert one == same
    assert one != other
    for scored_by, metrics in one.estimates.items():
        for metric, estimate in metrics.items():
            if scored_by == ROWS and metric != "base_rate":
                assert estimate.lower is None
            else:
                assert estimate.lower is not None
                assert estimate.upper is not None
                assert estimate.lower <= estimate.upper


def test_too_few_cards_with_fraud_give_no_interval() -> None:
    labels = [1] * 20 + [0] * 80
    few = evaluate(rows_of(labels, cards=9), {"forest": Scores(SCORES)}, alerts_per_day=5)
    assert few.estimate("forest", "roc_auc").value is not None
    assert few.estimate("forest", "roc_auc").lower is None
    enough = evaluate(rows_of(labels, cards=10), {"forest": Scores(SCORES)}, alerts_per_day=5)
    assert enough.estimate("forest", "roc_auc").lower is not None


def test_nothing_depends_on_the_order_of_the_rows_intervals_included() -> None:
    rows, scores = rows_of(LABELS), SCORES.round(1)
    order = np.random.default_rng(2).permutation(100)
    one = evaluate(rows, {"forest": Scores(scores, 0.0)}, alerts_per_day=5, replicates=50)
    other = evaluate(rows.iloc[order], {"forest": Scores(scores[order], 0.0)}, alerts_per_day=5, replicates=50)
    for scored_by, figures in one.estimates.items():
        for metric, estimate in figures.items():
            found = other.estimate(scored_by, metric)
            assert (found.value, found.lower, found.upper) == pytest.approx(
                (estimate.value, estimate.lower, estimate.upper)
            )


def test_a_difference_to_itself_is_exactly_nothing() -> None:
    found = measured(LABELS, SCORES, SCORES.copy(), differences={"difference": ("forest", "rule")})
    assert {(one.value, one.lower, one.upper) for one in found.estimates["difference"].values()} == {(0.0, 0.0, 0.0)}


@pytest.mark.parametrize(
    "labels",
    [
        pd.Series([1, 0, None] * 10, dtype="Int32"),
        pd.Series([1, 0, None] * 10, dtype="float64"),
        pd.Series([True, False, None] * 10, dtype="boolean"),
        pd.Series([True, False, None] * 10, dtype="object"),
        pd.Series([1, 0, None] * 10, dtype="Int32", index=range(100, 130)),
    ],
    ids=["Int32", "float64", "boolean", "object", "another index"],
)
def test_a_missing_label_is_unknown_in_every_spelling(labels):
    found = measured(labels, np.tile([0.3, 0.1, 0.2], 10))
    assert [found.estimate(ROWS, name).value for name in ("labelled_rows", "fraud_rows")] == [20, 10]
    assert found.estimate("forest", "roc_auc").value == 1.0


def test_a_score_on_the_threshold_is_no_alert():
    scores = {"forest": Scores(np.array([0.1, 0.2]), threshold=0.1)}
    assert evaluate(rows_of([0, 0]), scores, alerts_per_day=5).estimate("forest", "alert_rate").value == 0.5


def test_the_alert_rate_in_training_stands_beside_where_it_is_known() -> None:
    known = evaluate(rows_of([0, 0]), {"forest": Scores(np.zeros(2), 0.0, 0.035)}, alerts_per_day=5)
    assert known.estimate("forest", TRAINING_ALERT_RATE) == Estimate(0.035)
    unknown = evaluate(rows_of([0, 0]), {"forest": Scores(np.zeros(2), 0.0)}, alerts_per_day=5)
    assert TRAINING_ALERT_RATE not in unknown.estimates["forest"]
