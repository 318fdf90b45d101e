"""Training: same rows and parameters, same bits; the window never looks ahead."""

import math
import pickle
import subprocess
import sys
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.ensemble import IsolationForest
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from fraud_assets.model import training
from fraud_assets.model.rows import read_training_rows
from fraud_assets.model.scorer import ScorerMismatch
from fraud_assets.model.scorer_compiler import sklearn_scores
from fraud_assets.model.training import (
    MINIMUM_TRAINING_ROWS,
    QUANTILES,
    PipelineScorer,
    TooFewRowsError,
    Trained,
    UnknownTrainingScoresError,
    describe_training,
    threshold_for,
    train,
    with_threshold,
)
from fraud_assets.model.training_facts import TrainingParameters
from fraud_assets.silver.contract import FEATURE_NAMES, as_features
from fraud_assets_tests.depth import cases, full_only

SMALL = TrainingParameters(n_estimators=10)
ONE_IN_A_HUNDRED = TrainingParameters(n_estimators=10, alert_share=0.01)


def fit_pipeline(features: pd.DataFrame, parameters: TrainingParameters) -> Pipeline:
    return train(features, parameters).pipeline


def fraud_score(pipeline: Pipeline, features: pd.DataFrame) -> np.ndarray:
    """Scikit-learn's scores of features in any column order."""
    return sklearn_scores(pipeline, as_features(features).to_numpy(np.float64))


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


# --- the rows ---


def as_silver(features: pd.DataFrame) -> pd.DataFrame:
    """Features with what Silver has beside them; each id occurs in two partitions, which Silver allows."""
    ids = [f"t{number // 2}" for number in range(len(features))]
    return features.assign(TransactionID=ids, partition_key=[f"2026-01-0{1 + n % 2}" for n in range(len(features))])


def read(silver: pd.DataFrame, *, max_rows: int) -> pd.DataFrame:
    with duckdb.connect() as connection:
        connection.register("silver", silver)
        return read_training_rows(connection, "(FROM silver)", max_rows=max_rows)


def sorted_rows(features: pd.DataFrame) -> list[tuple[float, ...]]:
    return sorted(map(tuple, features.to_numpy(np.float64)))


def test_up_to_the_limit_every_row_trains(features):
    rows = read(as_silver(features), max_rows=len(features))
    assert list(rows.columns) == list(FEATURE_NAMES)
    assert sorted_rows(rows) == sorted_rows(as_features(features))


@settings(max_examples=cases(10, 60))
@given(seed=st.integers(0, 2**32 - 1), max_rows=st.integers(1, 2_000))
def test_a_sample_is_the_same_rows_however_the_table_is_stored(features, seed, max_rows):
    silver = as_silver(features)
    once = read(silver, max_rows=max_rows)
    again = read(silver.sample(frac=1.0, random_state=seed), max_rows=max_rows)
    assert len(once) == max_rows
    assert sorted_rows(once) == sorted_rows(again)


def test_a_larger_sample_holds_the_smaller_and_follows_no_order_of_the_ids(features):
    silver = as_silver(features)
    small, large = read(silver, max_rows=300), read(silver, max_rows=400)
    assert set(sorted_rows(small)) <= set(sorted_rows(large))
    first_half = set(sorted_rows(as_features(features.head(1_000))))
    assert 100 < sum(row in first_half for row in sorted_rows(small)) < 200


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


@settings(max_examples=cases(5, 20))
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


def test_a_missing_feature_is_named(features):
    with pytest.raises(ValueError, match="txn_count_5min"):
        fit_pipeline(features.drop(columns="txn_count_5min"), SMALL)


ROWS = cases(2_000, 100_000)

_RETRAIN = """
import sys
import numpy as np
from fraud_assets.model.training import train
from fraud_assets.model.training_facts import TrainingParameters
from fraud_assets_tests.model.test_training import made_features

features = made_features(rows=int(sys.argv[1]), seed=1)
shuffled = features.sample(frac=1.0, random_state=int(sys.argv[2]))
np.save(sys.argv[3], train(shuffled, TrainingParameters(alert_share=0.01)).scorer.score(features.to_numpy(float)))
"""


@full_only("another process")
def test_another_process_with_rows_in_another_order_trains_the_same_scores(tmp_path: Path):
    made = []
    for order in (1, 2):
        file = tmp_path / f"{order}.npy"
        subprocess.run([sys.executable, "-W", "ignore", "-c", _RETRAIN, str(ROWS), str(order), str(file)], check=True)
        made.append(np.load(file))
    assert len(made[0]) == ROWS
    assert made[0].tobytes() == made[1].tobytes()


# --- what a training keeps ---


@pytest.fixture(scope="module")
def trained(features: pd.DataFrame) -> Trained:
    return train(features, SMALL)


def test_a_training_is_its_pipeline_compiled_at_the_default_threshold(trained, features, pipeline):
    assert trained.scorer is not None
    assert trained.scorer.score(features.to_numpy(np.float64)).tobytes() == fraud_score(pipeline, features).tobytes()
    assert (trained.threshold, trained.scorer.threshold, trained.not_compiled) == (0.0, 0.0, None)


@settings(max_examples=cases(200, 1_000))
@given(
    scores=st.lists(st.integers(-20, 20).map(lambda n: n / 7), min_size=1, max_size=60),
    share=st.floats(0.001, 0.999),
)
def test_the_threshold_is_the_least_score_that_keeps_the_budget(scores, share):
    def above(threshold: float) -> float:
        return sum(score > threshold for score in scores)

    threshold = threshold_for(np.array(scores), share)
    allowed = share * len(scores) + 1e-9
    assert threshold in scores
    assert above(threshold) <= allowed
    assert all(above(lower) > allowed for lower in scores if lower < threshold)


@pytest.mark.parametrize("share", [0.29, 0.57, 0.07])
def test_a_share_of_a_hundred_rows_is_that_many_rows(share):
    assert (np.arange(100.0) > threshold_for(np.arange(100.0), share)).sum() == round(share * 100)


def test_an_alert_share_is_met_on_the_training_rows(features):
    trained = train(features, ONE_IN_A_HUNDRED)
    assert trained.scorer is not None
    scores = trained.scorer.score(features.to_numpy(np.float64))
    assert (scores > trained.threshold).mean() == pytest.approx(0.01, abs=0.0005)
    assert trained.scorer.threshold == trained.threshold > 0.0


def test_the_same_trees_take_another_threshold_and_keep_their_bits(features, trained):
    other = with_threshold(trained.pipeline, trained.scorer, trained.distribution, alert_share=0.01)
    anew = train(features, ONE_IN_A_HUNDRED)
    X = features.to_numpy(np.float64)  # noqa: N806 - scikit-learn's name
    assert other.scorer is not None
    assert trained.scorer is not None
    assert other.threshold == other.scorer.threshold == anew.threshold
    assert other.scorer.score(X).tobytes() == trained.scorer.score(X).tobytes()
    assert with_threshold(trained.pipeline, trained.scorer, {}, alert_share=None).threshold == 0.0


def test_a_share_cannot_be_met_where_the_training_scores_are_not_known(trained):
    scorer = PipelineScorer(trained.pipeline, threshold=0.0)
    with pytest.raises(UnknownTrainingScoresError, match="Train anew with alert_share"):
        with_threshold(trained.pipeline, scorer, trained.distribution, alert_share=0.01)
    assert with_threshold(trained.pipeline, scorer, trained.distribution, alert_share=None).scorer is None


@settings(max_examples=cases(50, 250))
@given(values=st.lists(st.integers(-5, 5), min_size=1, max_size=50))
def test_a_quantile_is_the_least_value_with_that_share_at_or_below_it(values):
    column = pd.DataFrame(dict.fromkeys(FEATURE_NAMES, values))
    kept = describe_training(column, np.array(values, float))
    ordered = sorted(values)
    expected = [ordered[max(math.ceil(level * len(values) - 1e-9), 1) - 1] for level in QUANTILES]
    assert kept["rows"] == len(values)
    assert kept["levels"] == list(QUANTILES)
    assert all(quantiles == expected for quantiles in kept["quantiles"].values())


def test_the_distribution_is_of_all_training_rows_and_no_order(features, trained):
    again = train(features[::-1], SMALL)
    assert again.distribution == trained.distribution
    assert trained.distribution["quantiles"]["TransactionAmt"][0] == features["TransactionAmt"].min()
    scores = fraud_score(trained.pipeline, features)
    assert trained.distribution["quantiles"]["fraud_score"][-1] == scores.max()


def test_an_example_is_of_the_contracts_types(trained):
    example = trained.example()
    assert list(example.columns) == list(FEATURE_NAMES)
    assert len(example) == len(QUANTILES)
    assert np.isfinite(fraud_score(trained.pipeline, example)).all()


def test_a_forest_that_cannot_be_compiled_is_trained_all_the_same(features, trained, monkeypatch):
    def refuse(*_arguments, **_named):
        raise ScorerMismatch("refused for a test")

    monkeypatch.setattr(training, "fit_offset", refuse)
    made = train(features, ONE_IN_A_HUNDRED)
    assert (made.scorer, made.not_compiled) == (None, "refused for a test")
    assert made.distribution == trained.distribution
    assert made.threshold == train_threshold(features, trained)
    assert pickle.dumps(made.pipeline) == pickle.dumps(trained.pipeline)


def train_threshold(features: pd.DataFrame, trained: Trained) -> float:
    """The threshold of one row in a hundred, from the scores of all rows."""
    return float(np.sort(fraud_score(trained.pipeline, features))[len(features) - 1 - len(features) // 100])


@pytest.mark.parametrize("feature", FEATURE_NAMES)
def test_any_constant_feature_is_no_obstacle(features, feature):
    constant = features.assign(**{feature: features[feature].iloc[0]})
    made = train(constant, ONE_IN_A_HUNDRED)
    assert made.scorer is not None
    assert len(set(made.distribution["quantiles"][feature])) == 1


def test_rows_that_are_all_alike_train_a_forest_that_flags_none(features):
    alike = pd.concat([features.head(1)] * 300)
    made = train(alike, ONE_IN_A_HUNDRED)
    assert made.scorer is not None
    scores = made.scorer.score(alike.to_numpy(np.float64))
    assert not (scores > made.threshold).any()


def test_one_card_only_trains_like_any_other(features):
    one_card = features.assign(txn_count_5min=range(1, len(features) + 1))
    assert train(one_card, SMALL).distribution["quantiles"]["txn_count_5min"][-1] == len(features)


def test_ten_rows_are_too_few_and_say_so(features):
    with pytest.raises(TooFewRowsError, match="10 rows are too few"):
        train(features.head(10), SMALL)


# --- the score, and the three traps of the usual recipe ---


def test_the_score_is_the_whole_pipelines_and_its_sign_is_flipped(features, pipeline):
    assert fraud_score(pipeline, features).tobytes() == (-pipeline.decision_function(features)).tobytes()
    huge = features.head(1).assign(TransactionAmt=1e6, avg_amount_5min=1e6, txn_count_5min=40)
    assert fraud_score(pipeline, huge)[0] > fraud_score(pipeline, features).mean()


def ways_to_score(trained: Trained, features: pd.DataFrame) -> list[np.ndarray]:
    """Every way in which this package makes a score."""
    X = features.to_numpy(np.float64)  # noqa: N806 - scikit-learn's name
    assert trained.scorer is not None
    scorers = (trained.scorer, PipelineScorer(trained.pipeline, trained.threshold))
    return [fraud_score(trained.pipeline, features), *(scorer.score(X) for scorer in scorers)]


def test_no_score_is_made_by_the_forest_step_alone(features, trained):
    forest_alone = -trained.pipeline.named_steps["forest"].decision_function(features.to_numpy(np.float64))
    assert (forest_alone > 0).mean() > 0.9
    for scores in ways_to_score(trained, features):
        assert (scores > 0).mean() == pytest.approx(0.035, abs=0.002)


def test_no_score_is_the_plus_or_minus_one_of_predict(features, trained):
    assert set(trained.pipeline.predict(features)) == {-1, 1}
    for scores in ways_to_score(trained, features):
        assert len(np.unique(scores)) > 100
        assert not {-1.0, 1.0} & set(scores)


def test_no_default_threshold_is_six_tenths_which_would_flag_nothing(features, trained):
    huge = features.assign(TransactionAmt=1e9, avg_amount_5min=1e9, stddev_amount_5min=1e9, txn_count_5min=1_000)
    assert fraud_score(trained.pipeline, huge).max() < 0.6
    for scores in ways_to_score(trained, features):
        assert (scores > trained.threshold).mean() == pytest.approx(0.035, abs=0.002)


def test_a_fit_is_the_one_that_scikit_learn_makes_by_itself(features):
    ordered = as_features(features).sort_values(list(FEATURE_NAMES), ignore_index=True)
    forest = IsolationForest(n_estimators=10, contamination=0.035, random_state=42)
    by_itself = Pipeline([("scaler", StandardScaler()), ("forest", forest)]).fit(ordered)
    assert pickle.dumps(fit_pipeline(features, SMALL)) == pickle.dumps(by_itself)
