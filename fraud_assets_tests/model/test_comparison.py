"""What the forest is compared with: the rule's formula; a reference that learns, or says that it cannot."""

import duckdb
import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from fraud_assets.model import rows as silver_rows
from fraud_assets.model.comparison import (
    MINIMUM_LEARNT_FRAUD_ROWS,
    best_column,
    compare,
    rule_score,
    supervised_scores,
)
from fraud_assets.model.evaluation import Scores
from fraud_assets.model.rows import read_reference_rows
from fraud_assets.silver.contract import FEATURE_NAMES, FEATURES


def silver(n: int, *, frauds: int, seed: int = 0) -> pd.DataFrame:
    """Rows whose frauds have small amounts on cards that are used often: no outliers."""
    generator = np.random.default_rng(seed)
    rows = pd.DataFrame({name: generator.integers(0, 50, n) for name in FEATURE_NAMES}).astype(
        {feature.name: "float64" if feature.type == "double" else "int64" for feature in FEATURES}
    )
    is_fraud = np.arange(n) < frauds
    rows.loc[is_fraud, "TransactionAmt"] = 1.0
    return rows.assign(
        isFraud=is_fraud.astype(int), TransactionID=[f"t{at}" for at in range(n)], partition_key="2026-01-05"
    )


def test_it_learns_from_labels() -> None:
    later = silver(1_000, frauds=100, seed=1)
    found = supervised_scores(silver(1_000, frauds=100), later)
    assert found.threshold is None
    assert found.values is not None
    assert roc_auc_score(later["isFraud"], found.values) > 0.9


@pytest.mark.parametrize(("n", "frauds"), [(500, MINIMUM_LEARNT_FRAUD_ROWS - 1), (0, 0), (60, 60)])
def test_too_little_to_learn_from_is_said(n: int, frauds: int) -> None:
    found = supervised_scores(silver(n, frauds=frauds), silver(10, frauds=1))
    assert found.values is None
    assert found.not_measurable == (
        f"{frauds} of {n} labelled training rows are fraud, 50 are needed, and others, to learn from"
    )


def test_no_row_to_score_is_no_error() -> None:
    assert supervised_scores(silver(500, frauds=50), silver(0, frauds=0)).values is not None


def test_the_same_rows_are_learnt_from_in_whatever_order_they_are_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    stored = silver(500, frauds=100).astype({"isFraud": "Int64"})
    stored.loc[stored.index % 7 == 0, "isFraud"] = pd.NA
    mixed = stored.sample(frac=1.0, random_state=3)
    with duckdb.connect() as connection:
        connection.register("stored", stored)
        connection.register("mixed", mixed)
        assert len(read_reference_rows(connection, "(FROM stored)")) == stored["isFraud"].notna().sum()
        monkeypatch.setattr(silver_rows, "REFERENCE_ROWS", 200)
        one, other = (read_reference_rows(connection, f"(FROM {name})") for name in ("stored", "mixed"))
    pd.testing.assert_frame_equal(one, other)
    assert len(one) == 200
    later = silver(50, frauds=5, seed=1)
    np.testing.assert_array_equal(supervised_scores(one, later).values, supervised_scores(other, later).values)


def test_the_rule_is_rank_plus_two_for_abroad_plus_four_tenths_per_transaction():
    features = pd.DataFrame(
        {
            "log_transaction_amount": [1.0, 3.0, 2.0, 2.0],
            "is_international_txn": [0, 0, 1, 0],
            "txn_count_5min": [1, 1, 1, 5],
        }
    )
    assert rule_score(features).tolist() == pytest.approx([0.25 + 0.4, 1.0 + 0.4, 0.625 + 2.4, 0.625 + 2.0])


def evaluated(*, frauds: int = 100, seed: int = 0) -> pd.DataFrame:
    rows = silver(1_000, frauds=frauds, seed=seed)
    return rows.assign(card_id=[str(at % 300) for at in range(len(rows))])


def test_the_best_column_ranks_best_by_itself_in_either_direction() -> None:
    [(name, found)] = best_column(evaluated()).items()  # frauds have the smallest amounts
    assert name == "best column: TransactionAmt, lowest first"
    assert found.values is not None
    assert (found.values == -evaluated()["TransactionAmt"]).all()
    [(name, _)] = best_column(evaluated().assign(TransactionAmt=lambda rows: -rows["TransactionAmt"])).items()
    assert name == "best column: TransactionAmt, highest first"
    is_fraud = evaluated()["isFraud"].to_numpy()
    [(name, _)] = best_column(evaluated().assign(TransactionAmt=1.0, product_diversity_5min=is_fraud)).items()
    assert name == "best column: product_diversity_5min, highest first"


def test_rows_without_a_label_do_not_choose_the_best_column() -> None:
    rows = evaluated()
    unknown = rows.assign(isFraud=np.nan, TransactionAmt=0.0)  # with labels, they would come before every fraud
    [(name, found)] = best_column(pd.concat([rows, *[unknown] * 3], ignore_index=True)).items()
    assert name == "best column: TransactionAmt, lowest first"
    assert found.values is not None
    assert len(found.values) == 4 * len(rows)


@pytest.mark.parametrize("frauds", [0, 1_000])
def test_labels_of_one_kind_choose_no_column(frauds: int) -> None:
    [(name, found)] = best_column(evaluated(frauds=frauds)).items()
    assert (name, found.values) == ("best column", None)
    assert found.not_measurable == "no column can be chosen without fraud and other rows"


def test_the_forest_stands_beside_everything_that_answers_whether_it_is_worth_it() -> None:
    rows = evaluated(seed=1)
    forest = Scores(-rows["TransactionAmt"].to_numpy(float), threshold=0.0)
    evaluation, scorers = compare(
        rows, evaluated(), candidate=forest, production={"6": Scores(np.zeros(1_000))}, alerts_per_day=20
    )
    best = "best column: TransactionAmt, lowest first"
    assert list(scorers) == ["forest", "version 6", "rule", "amount", best, "reference"]
    assert list(evaluation.estimates) == ["rows", *scorers, "forest minus version 6"]
    assert evaluation.estimate("amount", "roc_auc").value == pytest.approx(
        1 - (evaluation.estimate(best, "roc_auc").value or 0)
    )
    assert evaluation.estimates[best] == {
        name: estimate for name, estimate in evaluation.estimates["forest"].items() if name != "alert_rate"
    }
