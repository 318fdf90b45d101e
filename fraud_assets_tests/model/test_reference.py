"""The supervised reference: learns where there is enough to learn from, and says so where not."""

import duckdb
import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from fraud_assets.model.reference import MINIMUM_FRAUD_ROWS, read_reference_rows, reference_scores
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
    found = reference_scores(silver(1_000, frauds=100), later)
    assert found.threshold is None
    assert found.values is not None
    assert roc_auc_score(later["isFraud"], found.values) > 0.9


@pytest.mark.parametrize(("n", "frauds"), [(500, MINIMUM_FRAUD_ROWS - 1), (0, 0), (60, 60)])
def test_too_little_to_learn_from_is_said(n: int, frauds: int) -> None:
    found = reference_scores(silver(n, frauds=frauds), silver(10, frauds=1))
    assert found.values is None
    assert found.not_measurable == (
        f"{frauds} fraud rows of {n} labelled ones in the training window are not enough to learn from, "
        "50 and others are needed"
    )


def test_no_row_to_score_is_no_error() -> None:
    assert reference_scores(silver(500, frauds=50), silver(0, frauds=0)).values is not None


def test_the_same_rows_are_learnt_from_in_whatever_order_they_are_stored() -> None:
    rows = silver(500, frauds=100).astype({"isFraud": "Int64"})
    rows.loc[rows.index % 7 == 0, "isFraud"] = pd.NA
    mixed = rows.sample(frac=1.0, random_state=3)
    with duckdb.connect() as connection:
        connection.register("stored", rows)
        connection.register("mixed", mixed)
        one, other = (read_reference_rows(connection, f"(FROM {name})", max_rows=200) for name in ("stored", "mixed"))
        everything = read_reference_rows(connection, "(FROM stored)")
    pd.testing.assert_frame_equal(one, other)
    assert len(one) == 200
    assert len(everything) == rows["isFraud"].notna().sum()
    later = silver(50, frauds=5, seed=1)
    np.testing.assert_array_equal(reference_scores(one, later).values, reference_scores(other, later).values)
