"""Training: same rows and parameters, same bits; the window never looks ahead."""

import pickle

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.ensemble import IsolationForest
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from fraud_assets.model import training
from fraud_assets.model.scorer import ScorerMismatch
from fraud_assets.model.training import (
    MINIMUM_TRAINING_ROWS,
    NoTrainingWindowError,
    TooFewRowsError,
    TrainingParameters,
    UnusableFeaturesError,
    Window,
    fit_pipeline,
    fraud_score,
    split_window,
)
from fraud_assets.silver.contract import FEATURE_NAMES, as_features
from fraud_assets_tests.depth import cases

SMALL = TrainingParameters(n_estimators=10)


def made_features(*, rows: int, seed: int) -> pd.DataFrame:
    """Rows that look like Silver's: amounts, two flags, and what one card did in five minutes."""
    random = np.random.default_rng(seed)
    amount = np.round(random.lognormal(4.0, 1.2, rows), 2)
    return pd.DataFrame(
        {
            "TransactionAmt": amount,
            "log_transaction_amount": np.log(1.0 + amount),
            "is_high_value_txn": (amount >= 500.0).astype(np.int32),
            "is_international_txn": (random.random(rows) < 0.1).astype(np.int32),
            "txn_count_5min": random.geometric(0.7, rows),
            "avg_amount_5min": amount,
            "stddev_amount_5min": np.where(random.random(rows) < 0.8, 0.0, random.gamma(2.0, 20.0, rows)),
            "product_diversity_5min": random.integers(1, 4, rows),
        }
    )


@pytest.fixture(scope="module")
def features() -> pd.DataFrame:
    return made_features(rows=2_000, seed=1)


@pytest.fixture(scope="module")
def pipeline(features: pd.DataFrame) -> Pipeline:
    return fit_pipeline(features, SMALL)


# --- the window ---


@pytest.mark.parametrize(
    ("keys", "gap", "expected"),
    [
        (
            ["2026-01-03", "2026-01-01", "2026-01-02"],
            0,
            Window("2026-01-01", "2026-01-02", "2026-01-03", "2026-01-03"),
        ),
        (
            [f"2026-01-{day:02}" for day in range(1, 31)],
            0,
            Window("2026-01-01", "2026-01-21", "2026-01-22", "2026-01-30"),
        ),
        (
            [f"2026-01-{day:02}" for day in range(1, 31)],
            7,
            Window("2026-01-01", "2026-01-14", "2026-01-22", "2026-01-30"),
        ),
        (
            ["2026-01-01-23", "2026-01-02-00"],
            0,
            Window("2026-01-01-23", "2026-01-01-23", "2026-01-02-00", "2026-01-02-00"),
        ),
        (["2026-01-01"], 0, Window("2026-01-01", "2026-01-01", None, None)),
        (["2026-01-01"], 3, Window("2026-01-01", "2026-01-01", None, None)),
    ],
)
def test_the_last_partitions_evaluate_and_the_earlier_ones_train(keys, gap, expected):
    assert split_window(keys, gap=gap) == expected


@settings(max_examples=cases(100, 2_000))
@given(
    keys=st.lists(st.dates().map(str), min_size=2, max_size=40, unique=True),
    share=st.floats(0.01, 0.99),
    gap=st.integers(0, 5),
)
def test_training_ends_before_the_gap_and_the_gap_before_evaluation(keys, share, gap):
    try:
        window = split_window(keys, evaluation_share=share, gap=gap)
    except NoTrainingWindowError:
        assert len(keys) - max(1, int(len(keys) * share)) - gap < 1
        return
    ordered = sorted(keys)
    training = [key for key in ordered if window.train_start <= key <= window.train_end]
    evaluating = [key for key in ordered if (window.evaluation_start or "") <= key <= (window.evaluation_end or "")]
    between = ordered[len(training) : len(ordered) - len(evaluating)]
    assert training
    assert evaluating
    assert [*training, *between, *evaluating] == ordered
    assert len(between) == gap


def test_no_partition_says_what_to_do():
    with pytest.raises(NoTrainingWindowError, match="fraud-assets run"):
        split_window([])


def test_a_gap_that_leaves_nothing_to_train_on_is_named():
    with pytest.raises(NoTrainingWindowError, match="2 partitions leave none to train on when 1 evaluate and 1"):
        split_window(["2026-01-01", "2026-01-02"], gap=1)


@pytest.mark.parametrize(("share", "gap"), [(0.0, 0), (1.0, 0), (0.3, -1)])
def test_a_share_or_gap_without_meaning_is_refused(share, gap):
    with pytest.raises(ValueError, match="evaluation_share must lie between"):
        split_window(["2026-01-01", "2026-01-02"], evaluation_share=share, gap=gap)


# --- the fit ---


def test_the_defaults_are_the_seed_model(features):
    scaler, forest = (step for _, step in fit_pipeline(features, TrainingParameters()).steps)
    assert type(scaler).__name__ == "StandardScaler"
    assert type(forest).__name__ == "IsolationForest"
    assert forest.get_params() == {
        "bootstrap": False,
        "contamination": 0.035,
        "max_features": 1.0,
        "max_samples": "auto",
        "n_estimators": 200,
        "n_jobs": None,
        "random_state": 42,
        "verbose": 0,
        "warm_start": False,
    }


def test_the_pipeline_knows_the_features_by_name(pipeline):
    assert list(pipeline.feature_names_in_) == [
        "TransactionAmt",
        "log_transaction_amount",
        "is_high_value_txn",
        "is_international_txn",
        "txn_count_5min",
        "avg_amount_5min",
        "stddev_amount_5min",
        "product_diversity_5min",
    ]


@settings(max_examples=cases(5, 50))
@given(seed=st.integers(0, 2**32 - 1))
def test_rows_stored_in_another_order_give_the_same_bits(features, pipeline, seed):
    shuffled = features.sample(frac=1.0, random_state=seed)
    again = fit_pipeline(shuffled, SMALL)
    assert fraud_score(again, features).tobytes() == fraud_score(pipeline, features).tobytes()


def test_columns_in_another_order_and_further_columns_change_nothing(features, pipeline):
    wider = features[features.columns[::-1]].assign(card_id="a", TransactionID=range(len(features)))
    again = fit_pipeline(wider, SMALL)
    assert fraud_score(again, wider).tobytes() == fraud_score(pipeline, features).tobytes()


def test_another_row_gives_another_forest(features, pipeline):
    other = pd.concat([features, features.head(1)])
    assert fraud_score(fit_pipeline(other, SMALL), features).tobytes() != fraud_score(pipeline, features).tobytes()


def test_the_contamination_is_the_share_of_training_rows_above_zero(features):
    scores = fraud_score(fit_pipeline(features, TrainingParameters()), features)
    assert (scores > 0).mean() == pytest.approx(0.035, abs=0.001)


def test_a_constant_feature_is_no_obstacle(features):
    constant = features.assign(is_international_txn=0)
    assert np.isfinite(fraud_score(fit_pipeline(constant, SMALL), constant)).all()


def test_too_few_rows_say_what_to_do(features):
    with pytest.raises(TooFewRowsError, match=r"255 rows are too few to train on, 256 are needed.*fraud-assets land"):
        fit_pipeline(features.head(255), SMALL)


def test_just_enough_rows_are_enough(features):
    assert MINIMUM_TRAINING_ROWS == 256
    fit_pipeline(features.head(256), SMALL)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", ["avg_amount_5min", "txn_count_5min"])
def test_a_value_that_is_not_finite_is_refused_by_the_name_of_its_feature(features, name, value):
    broken = features.astype({name: np.float64})
    broken.loc[7, name] = value
    with pytest.raises(UnusableFeaturesError, match=f"in {name}:"):
        fit_pipeline(broken, SMALL)


def test_a_missing_feature_is_named(features):
    with pytest.raises(ValueError, match="txn_count_5min"):
        fit_pipeline(features.drop(columns="txn_count_5min"), SMALL)


# --- the score, and the three traps of the usual recipe ---


def test_the_score_is_the_whole_pipelines_and_its_sign_is_flipped(features, pipeline):
    assert fraud_score(pipeline, features).tobytes() == (-pipeline.decision_function(features)).tobytes()
    huge = features.head(1).assign(TransactionAmt=1e6, avg_amount_5min=1e6, txn_count_5min=40)
    assert fraud_score(pipeline, huge)[0] > fraud_score(pipeline, features).mean()


def test_the_forest_step_without_the_scaler_flags_nearly_everything(features, pipeline):
    forest_alone = -pipeline.named_steps["forest"].decision_function(features.to_numpy(np.float64))
    assert (forest_alone > 0).mean() > 0.9
    assert (fraud_score(pipeline, features) > 0).mean() < 0.1


def test_the_score_is_continuous_unlike_predict(features, pipeline):
    assert set(pipeline.predict(features)) == {-1, 1}
    assert len(np.unique(fraud_score(pipeline, features))) > 100


def test_a_threshold_of_six_tenths_would_flag_nothing(features, pipeline):
    huge = features.assign(TransactionAmt=1e9, avg_amount_5min=1e9, stddev_amount_5min=1e9, txn_count_5min=1_000)
    assert fraud_score(pipeline, huge).max() < 0.6


def test_a_fit_is_the_one_that_scikit_learn_makes_by_itself(features):
    ordered = as_features(features).sort_values(list(FEATURE_NAMES), ignore_index=True)
    by_itself = Pipeline([("scaler", StandardScaler()), ("forest", IsolationForest(**vars(SMALL)))]).fit(ordered)
    assert pickle.dumps(fit_pipeline(features, SMALL)) == pickle.dumps(by_itself)


def test_a_forest_that_cannot_be_compiled_is_fitted_all_the_same(features, monkeypatch):
    def refuse(*_arguments):
        raise ScorerMismatch("refused for a test")

    expected = pickle.dumps(fit_pipeline(features, SMALL))
    monkeypatch.setattr(training, "fit_offset", refuse)
    assert pickle.dumps(fit_pipeline(features, SMALL)) == expected
