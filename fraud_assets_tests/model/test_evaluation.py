"""Evaluation: every figure against a slow count, and None with a reason where nothing can be known."""

from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fraud_assets.model.evaluation import Evaluation, RankingQuality, evaluate, rule_score
from fraud_assets_tests.depth import cases


def slow_roc_auc(labels: list[int], scores: list[float]) -> float:
    """The share of (fraud, other) pairs in which fraud scores higher; a tie counts half."""
    fraud = [score for label, score in zip(labels, scores, strict=True) if label]
    others = [score for label, score in zip(labels, scores, strict=True) if not label]
    wins = sum((f > o) + 0.5 * (f == o) for f in fraud for o in others)
    return wins / (len(fraud) * len(others))


def slow_precision_recall(labels: list[int], scores: list[float]) -> list[tuple[float, float]]:
    """(recall, precision) at each distinct score taken as the threshold, from the strictest, and (0, 1) before."""
    points = [(0.0, 1.0)]
    for threshold in sorted(set(scores), reverse=True):
        flagged = [label for label, score in zip(labels, scores, strict=True) if score >= threshold]
        points.append((sum(flagged) / sum(labels), sum(flagged) / len(flagged)))
    return points


def slow_average_precision(labels: list[int], scores: list[float]) -> float:
    points = slow_precision_recall(labels, scores)
    return sum((after[0] - before[0]) * after[1] for before, after in pairwise(points))


def slow_pr_auc(labels: list[int], scores: list[float]) -> float:
    points = slow_precision_recall(labels, scores)
    return sum((after[0] - before[0]) * (after[1] + before[1]) / 2 for before, after in pairwise(points))


@st.composite
def labelled_scores(draw: st.DrawFn) -> tuple[list[int | None], list[float], list[float]]:
    """Enough of each class, labels missing here and there, many ties."""
    labels = [1] * draw(st.integers(10, 15)) + [0] * draw(st.integers(1, 30)) + [None] * draw(st.integers(0, 10))
    labels = draw(st.permutations(labels))
    score = st.sampled_from([-0.25, -0.1, 0.0, 0.1, 0.3])
    scores = draw(st.lists(score, min_size=len(labels), max_size=len(labels)))
    rule = draw(st.lists(st.floats(0, 5), min_size=len(labels), max_size=len(labels)))
    return labels, scores, rule


@settings(max_examples=cases(100, 3_000))
@given(drawn=labelled_scores())
def test_every_figure_equals_a_slow_count_over_the_labelled_rows(drawn):
    labels, scores, rule = drawn
    found = evaluate(labels, np.array(scores), np.array(rule), threshold=0.0)
    known = [at for at, label in enumerate(labels) if label is not None]
    truth = [labels[at] or 0 for at in known]

    assert (found.rows, found.labelled_rows, found.fraud_rows) == (len(labels), len(known), sum(truth))
    assert found.alert_rate == pytest.approx(sum(score > 0.0 for score in scores) / len(scores))
    assert found.base_rate == pytest.approx(sum(truth) / len(truth))
    assert found.not_measurable is None
    for quality, all_scores in ((found.forest, scores), (found.rule, rule)):
        assert quality is not None
        ranked = [all_scores[at] for at in known]
        assert quality.roc_auc == pytest.approx(slow_roc_auc(truth, ranked))
        assert quality.average_precision == pytest.approx(slow_average_precision(truth, ranked))
        assert quality.pr_auc == pytest.approx(slow_pr_auc(truth, ranked))


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
    found = evaluate(labels, scores, scores, threshold=0.0)
    assert found.forest is None
    assert found.rule is None
    assert found.not_measurable == reason
    assert not {"roc_auc", "pr_auc", "average_precision", "rule_roc_auc"} & set(found.as_metrics())


def test_no_label_means_no_base_rate_and_no_row_no_alert_rate():
    unlabelled = evaluate([None] * 4, np.array([1.0, -1.0, -1.0, -1.0]), np.zeros(4), threshold=0.0)
    assert (unlabelled.base_rate, unlabelled.alert_rate) == (None, 0.25)
    empty = evaluate([], np.array([]), np.array([]), threshold=0.0)
    assert (empty.base_rate, empty.alert_rate) == (None, None)


@pytest.mark.parametrize(
    "labels",
    [
        pd.Series([1, 0, None] * 10, dtype="Int32"),
        pd.Series([1, 0, None] * 10, dtype="float64"),
        pd.Series([True, False, None] * 10, dtype="boolean"),
        pd.Series([True, False, None] * 10, dtype="object"),
        np.array([1.0, 0.0, np.nan] * 10),
        pd.Series([1, 0, None] * 10, dtype="Int32", index=range(100, 130)),
    ],
    ids=["Int32", "float64", "boolean", "object", "numpy", "another index"],
)
def test_a_missing_label_is_unknown_in_every_spelling(labels):
    scores = np.tile([0.3, 0.1, 0.2], 10)
    found = evaluate(labels, scores, scores, threshold=0.0)
    assert (found.labelled_rows, found.fraud_rows) == (20, 10)
    assert found.forest == RankingQuality(roc_auc=1.0, pr_auc=1.0, average_precision=1.0)


def test_a_score_on_the_threshold_is_no_alert():
    assert evaluate([0, 0], np.array([0.1, 0.2]), np.zeros(2), threshold=0.1).alert_rate == 0.5


def test_scores_of_other_rows_are_refused():
    with pytest.raises(ValueError, match="3 labels, 2 scores and 3 rule scores"):
        evaluate([0, 1, 0], np.zeros(2), np.zeros(3), threshold=0.0)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_score_that_cannot_be_ranked_is_refused(value):
    with pytest.raises(ValueError, match="cannot be ranked"):
        evaluate([0, 1], np.array([0.0, value]), np.zeros(2), threshold=0.0)


def test_the_rule_is_rank_plus_two_for_abroad_plus_four_tenths_per_transaction():
    features = pd.DataFrame(
        {
            "log_transaction_amount": [1.0, 3.0, 2.0, 2.0],
            "is_international_txn": [0, 0, 1, 0],
            "txn_count_5min": [1, 1, 1, 5],
        }
    )
    assert rule_score(features).tolist() == pytest.approx([0.25 + 0.4, 1.0 + 0.4, 0.625 + 2.4, 0.625 + 2.0])


def test_metrics_have_flat_names_and_the_rules_begin_with_rule():
    found = Evaluation(
        rows=100,
        labelled_rows=80,
        fraud_rows=8,
        alert_rate=0.03,
        base_rate=0.1,
        forest=RankingQuality(roc_auc=0.8, pr_auc=0.3, average_precision=0.2),
        rule=RankingQuality(roc_auc=0.7, pr_auc=0.4, average_precision=0.3),
        not_measurable=None,
    )
    assert found.as_metrics() == {
        "evaluation_rows": 100.0,
        "labelled_rows": 80.0,
        "fraud_rows": 8.0,
        "alert_rate": 0.03,
        "base_rate": 0.1,
        "roc_auc": 0.8,
        "pr_auc": 0.3,
        "average_precision": 0.2,
        "rule_roc_auc": 0.7,
        "rule_pr_auc": 0.4,
        "rule_average_precision": 0.3,
    }
