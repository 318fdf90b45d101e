from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fraud_assets.model.ranker import RANKER_FEATURES, Ranker, RankerArtifactError
from fraud_assets.model.ranker_training import TrainedRanker, train_ranker
from fraud_assets_tests.depth import cases


def some_rows(rows: int, seed: int) -> pd.DataFrame:
    """Rows that a ranker can learn from, with cards of which nothing is known."""
    random = np.random.default_rng(seed)
    found = pd.DataFrame({name: random.normal(size=rows).round(1) for name in RANKER_FEATURES})
    found["isFraud"] = (found["fraud_score"] + found["is_new_product"] + random.normal(size=rows) > 1.5).astype(int)
    unknown = random.random(rows) < 0.2
    found.loc[unknown, ["card_mean_log_amount_30d", "days_since_last_txn", "log_amount_over_card_mean"]] = np.nan
    return found


@pytest.fixture(scope="module")
def trained() -> TrainedRanker:
    return train_ranker(some_rows(2_000, seed=1))


def test_compiled_trees_give_scikit_learn_s_log_odds_to_the_last_bit(trained: TrainedRanker) -> None:
    edges = sorted({*trained.ranker.threshold.tolist()})
    values = st.sampled_from([*edges[:: max(1, len(edges) // 50)], float("nan"), float("inf"), -float("inf"), 0.0])

    @settings(max_examples=cases(20, 200))
    @given(rows=st.lists(st.lists(values, min_size=16, max_size=16), min_size=1, max_size=20))
    def score(rows: list[list[float]]) -> None:
        X = pd.DataFrame(rows, columns=list(RANKER_FEATURES))  # noqa: N806
        compiled = trained.ranker.log_odds(X.to_numpy())
        assert compiled.tolist() == trained.classifier.decision_function(X).tolist()
        expected = trained.classifier.predict_proba(X)[:, 1]
        assert trained.ranker.probability(X.to_numpy()) == pytest.approx(expected, rel=1e-14)

    score()


def test_contributions_and_the_mean_add_up_to_the_log_odds(trained: TrainedRanker) -> None:
    X = some_rows(500, seed=2)[list(RANKER_FEATURES)].to_numpy()  # noqa: N806
    mean = trained.ranker.baseline + trained.ranker.expected[trained.ranker.roots].sum()
    together = mean + trained.ranker.contributions(X).sum(axis=1)
    assert together == pytest.approx(trained.ranker.log_odds(X), abs=1e-9)


def test_a_contribution_is_what_a_walk_through_the_trees_says(trained: TrainedRanker) -> None:
    """The oracle walks scikit-learn's own nodes, and takes the mean of the leaves below from the training rows."""
    X = some_rows(40, seed=3)[list(RANKER_FEATURES)].to_numpy()  # noqa: N806

    def mean_below(nodes: np.ndarray, at: int) -> tuple[float, int]:
        node = nodes[at]
        if node["is_leaf"]:
            return float(node["value"]), int(node["count"])
        (one, of_one), (other, of_other) = (mean_below(nodes, node[side]) for side in ("left", "right"))
        return (one * of_one + other * of_other) / (of_one + of_other), of_one + of_other

    expected = np.zeros_like(X)
    for (predictor,) in trained.classifier._predictors:  # pyright: ignore[reportAttributeAccessIssue]
        nodes = predictor.nodes
        for row, values in enumerate(X):
            at = 0
            while not nodes[at]["is_leaf"]:
                feature, value = nodes[at]["feature_idx"], values[nodes[at]["feature_idx"]]
                left = nodes[at]["missing_go_to_left"] if np.isnan(value) else value <= nodes[at]["num_threshold"]
                below = int(nodes[at]["left" if left else "right"])
                expected[row, feature] += mean_below(nodes, below)[0] - mean_below(nodes, at)[0]
                at = below
    assert trained.ranker.contributions(X) == pytest.approx(expected, abs=1e-9)


def test_the_order_of_rows_changes_nothing(trained: TrainedRanker) -> None:
    rows = some_rows(2_000, seed=1)
    other = train_ranker(rows.sample(frac=1, random_state=4))
    assert all(np.array_equal(one, vars(other.ranker)[name]) for name, one in _arrays(trained.ranker).items())


def test_where_no_card_has_a_history_the_ranker_learns_from_the_rest() -> None:
    rows = some_rows(2_000, seed=7)
    of_history = ["card_mean_log_amount_30d", "days_since_last_txn", "log_amount_over_card_mean"]
    trained = train_ranker(rows.assign(**dict.fromkeys(of_history, np.nan)))
    assert not {RANKER_FEATURES.index(name) for name in of_history} & {*trained.ranker.feature[trained.ranker.left > 0]}
    X = rows[list(RANKER_FEATURES)]  # noqa: N806
    expected = trained.classifier.decision_function(X).tolist()
    assert trained.ranker.log_odds(X.to_numpy()).tolist() == expected
    assert trained.ranker.log_odds(X.assign(**dict.fromkeys(of_history, np.nan)).to_numpy()).tolist() == expected
    assert len({*expected}) > 100


def test_a_row_counts_as_often_as_its_weight_says(trained: TrainedRanker) -> None:
    """Genuine rows of which one in ten was kept, each ten times as heavy, tell as much fraud as all of them."""
    rows = some_rows(60_000, seed=5)
    kept = rows[(rows["isFraud"] == 1) | (np.arange(len(rows)) % 10 == 0)]
    weighted = train_ranker(kept.assign(weight=np.where(kept["isFraud"] == 1, 1.0, 10.0)))
    X = some_rows(4_000, seed=6)[list(RANKER_FEATURES)].to_numpy()  # noqa: N806
    expected = float(rows["isFraud"].mean())
    assert weighted.ranker.probability(X).mean() == pytest.approx(expected, rel=0.2)
    assert train_ranker(kept).ranker.probability(X).mean() > 2 * expected
    rows = some_rows(2_000, seed=1).assign(weight=1.0)
    other = train_ranker(rows)
    assert all(np.array_equal(one, vars(other.ranker)[name]) for name, one in _arrays(trained.ranker).items())


def test_a_column_that_repeats_the_label_cannot_reach_a_ranker(trained: TrainedRanker) -> None:
    leaking = some_rows(2_000, seed=1).assign(isFraudToo=lambda rows: rows["isFraud"])
    other = train_ranker(leaking)
    assert all(np.array_equal(one, vars(other.ranker)[name]) for name, one in _arrays(trained.ranker).items())
    assert "isFraud" not in RANKER_FEATURES


def test_a_saved_ranker_is_the_same_and_a_changed_file_is_refused(trained: TrainedRanker, tmp_path: Path) -> None:
    trained.ranker.save(tmp_path / "ranker")
    loaded = Ranker.load(tmp_path / "ranker")
    X = trained.example().to_numpy()  # noqa: N806
    assert loaded.log_odds(X).tolist() == trained.ranker.log_odds(X).tolist()

    arrays = tmp_path / "ranker" / "trees.npz"
    arrays.write_bytes(arrays.read_bytes()[:-1] + b"x")
    with pytest.raises(RankerArtifactError, match="damaged"):
        Ranker.load(tmp_path / "ranker")
    with pytest.raises(RankerArtifactError, match="no ranker"):
        Ranker.load(tmp_path / "nothing")


def _arrays(ranker: Ranker) -> dict[str, np.ndarray]:
    return {name: value for name, value in vars(ranker).items() if isinstance(value, np.ndarray)}
