"""Contributions against a slow walk over scikit-learn's own trees, and every way to them against the others."""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.ensemble._iforest import _average_path_length
from sklearn.pipeline import Pipeline

from fraud_assets.model import attribution_kernels
from fraud_assets.model.attribution import Attribution, AttributionError
from fraud_assets.model.scorer import WALK_ROWS, Scorer
from fraud_assets_tests.depth import cases
from fraud_assets_tests.model.test_scorer import FAMILIES, fitted, transactions

assert attribution_kernels  # numba's ways are compared, too


def slow_contributions(pipeline: Pipeline, rows: np.ndarray) -> tuple[float, np.ndarray]:
    """Walk every tree for every row, and credit each step's change of the expected path length to its feature."""
    scaler: Any = pipeline[0]
    forest: Any = pipeline[-1]
    with np.errstate(over="ignore", invalid="ignore"):
        X = np.asarray(scaler.transform(rows)).astype(np.float32)  # noqa: N806
    base, made = 0.0, np.zeros(rows.shape)
    for estimator, columns in zip(forest.estimators_, forest.estimators_features_, strict=True):
        tree = estimator.tree_
        columns = columns if len(columns) < rows.shape[1] else np.arange(rows.shape[1])
        expected = np.zeros(tree.node_count)

        def expect(node: int, depth: int, tree: Any = tree, expected: np.ndarray = expected) -> float:
            left, right = tree.children_left[node], tree.children_right[node]
            if left < 0:
                expected[node] = depth + _average_path_length(tree.n_node_samples[[node]])[0]
            else:
                sides = [(side, expect(side, depth + 1)) for side in (left, right)]
                total = sum(tree.n_node_samples[side] for side, _ in sides)
                expected[node] = sum(tree.n_node_samples[side] * length for side, length in sides) / total
            return expected[node]

        base += expect(0, 0)
        for i, row in enumerate(X):
            at = 0
            while tree.children_left[at] >= 0:
                feature = columns[tree.feature[at]]
                value = row[feature]
                left = tree.missing_go_to_left[at] if np.isnan(value) else value <= tree.threshold[at]
                to = tree.children_left[at] if left else tree.children_right[at]
                made[i, feature] += expected[to] - expected[at]
                at = to
    return base / len(forest.estimators_), made / len(forest.estimators_)


def mean_path_lengths(pipeline: Pipeline, rows: np.ndarray) -> np.ndarray:
    """Return what scikit-learn's score says that the mean path length of each row is."""
    forest: Any = pipeline[-1]
    with np.errstate(over="ignore", invalid="ignore"):
        score = -pipeline.decision_function(rows) - forest.offset_  # 2 ** -(mean length / average length)
    return -np.log2(score) * _average_path_length([forest._max_samples])[0]


def ways_of(attribution: Attribution) -> list[Callable[[np.ndarray], np.ndarray]]:
    def filled(way: Callable[[np.ndarray, np.ndarray], bool]) -> Callable[[np.ndarray], np.ndarray]:
        def contributions(rows: np.ndarray) -> np.ndarray:
            sums = np.empty(rows.shape)
            assert way(np.ascontiguousarray(rows), sums)
            return sums / attribution.trees

        return contributions

    return [
        attribution.contributions,
        filled(attribution._sum_chunk),
        filled(attribution._sum_by_walking),
        lambda rows: attribution._sum_with_numpy(rows) / attribution.trees,
    ]


def assert_right(pipeline: Pipeline, rows: np.ndarray) -> None:
    attribution = Attribution.of(Scorer.from_pipeline(pipeline))
    base, expected = slow_contributions(pipeline, rows)
    assert attribution.base == pytest.approx(base, abs=1e-10)
    first, *others = [way(rows) for way in ways_of(attribution)]
    np.testing.assert_allclose(first, expected, rtol=0, atol=1e-9)
    for other in others:
        assert other.tobytes() == first.tobytes()
    scores, together = attribution.scores_and_contributions(rows[:WALK_ROWS])
    assert scores.tobytes() == attribution.scorer.score(rows[:WALK_ROWS]).tobytes()
    assert together.tobytes() == first[:WALK_ROWS].tobytes()


@pytest.mark.parametrize("family", FAMILIES)
def test_contributions_are_those_of_a_slow_walk_over_the_trees(family: str) -> None:
    random = np.random.default_rng(5)
    rows = FAMILIES[family](random, 1_000)
    assert_right(fitted(rows, n_estimators=9), FAMILIES[family](random, cases(25, 250)))


@pytest.mark.parametrize(
    "parameters",
    [
        {"n_estimators": 1},
        {"n_estimators": 16, "max_samples": 1_024},
        {"max_samples": 3},
        {"max_features": 3},
        {"max_features": 0.5, "bootstrap": True},
    ],
    ids=str,
)
def test_every_forest_is_explained(parameters: dict[str, Any]) -> None:
    random = np.random.default_rng(6)
    pipeline = fitted(transactions(random, 5_000), **{"n_estimators": 12, **parameters})
    assert_right(pipeline, transactions(random, 40))


@settings(max_examples=cases(6, 60))
@given(st.data())
def test_any_small_forest_is_explained_on_any_finite_rows(data: st.DataObject) -> None:
    random = np.random.default_rng(data.draw(st.integers(0, 2**32), label="seed"))
    family = FAMILIES[data.draw(st.sampled_from(sorted(FAMILIES)), label="family")]
    rows = family(random, data.draw(st.integers(5, 300), label="training rows"))
    trees = data.draw(st.integers(1, 10), label="trees")
    pipeline = fitted(rows, n_estimators=trees, max_samples=min(len(rows), 64), random_state=int(random.integers(99)))
    number = st.floats(allow_nan=True, allow_infinity=False) | st.sampled_from([-0.0, 5e-324])
    row = st.lists(number, min_size=rows.shape[1], max_size=rows.shape[1])
    assert_right(pipeline, np.array(data.draw(st.lists(row, min_size=1, max_size=5), label="rows"), np.float64))


def test_base_and_contributions_add_up_to_scikit_learns_mean_path_length() -> None:
    random = np.random.default_rng(7)
    pipeline = fitted(transactions(random, 20_000), n_estimators=200)
    attribution = Attribution.of(Scorer.from_pipeline(pipeline))
    rows = transactions(random, cases(20_000, 1_000_000))
    lengths = attribution.base + attribution.contributions(rows).sum(axis=1)
    assert np.abs(lengths - mean_path_lengths(pipeline, rows)).max() < 1e-9


def test_a_feature_that_no_tree_splits_on_contributes_exactly_nothing() -> None:
    random = np.random.default_rng(8)
    rows = transactions(random, 3_000)
    rows[:, 3] = 1.0
    attribution = Attribution.of(Scorer.from_pipeline(fitted(rows)))
    new = transactions(random, 500)
    assert not attribution.contributions(new)[:, 3].any()
    assert attribution.contributions(new)[:, 0].all()


def test_the_tables_of_a_scorer_are_made_once() -> None:
    scorer = Scorer.from_pipeline(fitted(transactions(np.random.default_rng(9), 500), n_estimators=3))
    assert Attribution.of(scorer) is Attribution.of(scorer)


def test_a_saved_scorer_is_explained_as_the_fresh_one_is(tmp_path: Path) -> None:
    random = np.random.default_rng(10)
    scorer = Scorer.from_pipeline(fitted(transactions(random, 500), n_estimators=5))
    scorer.save(tmp_path)
    rows = transactions(random, 100)
    of_saved, of_fresh = (Attribution.of(one).contributions(rows) for one in (Scorer.load(tmp_path), scorer))
    assert of_saved.tobytes() == of_fresh.tobytes()


@pytest.mark.parametrize("n", [1, 100])
def test_an_infinite_value_and_another_shape_are_refused(n: int) -> None:
    scorer = Scorer.from_pipeline(fitted(transactions(np.random.default_rng(11), 500), n_estimators=3))
    rows = np.ones((n, 8))
    with pytest.raises(ValueError, match="shape"):
        Attribution.of(scorer).contributions(rows[:, :7])
    rows[0, 0] = np.inf
    with pytest.raises(ValueError, match="infinite"):
        Attribution.of(scorer).contributions(rows)


def test_a_path_length_of_no_count_of_rows_is_refused() -> None:
    scorer = Scorer.from_pipeline(fitted(transactions(np.random.default_rng(12), 500), n_estimators=3))
    with pytest.raises(AttributionError, match="no count of training rows"):
        Attribution.of(replace(scorer, values=scorer.values + 0.123456))


def test_few_rows_are_explained_without_numba_and_scikit_learn(tmp_path: Path) -> None:
    random = np.random.default_rng(13)
    scorer = Scorer.from_pipeline(fitted(transactions(random, 500), n_estimators=20))
    scorer.save(tmp_path)
    rows = transactions(random, 100)
    np.save(tmp_path / "rows.npy", rows)
    program = (
        "import sys, numpy as np\n"
        "from pathlib import Path\n"
        "from fraud_assets.model.attribution import Attribution\n"
        "from fraud_assets.model.scorer import Scorer\n"
        "folder = Path(sys.argv[1])\n"
        "made = Attribution.of(Scorer.load(folder)).contributions(np.load(folder / 'rows.npy'))\n"
        "assert not {'numba', 'sklearn', 'pandas', 'mlflow', 'dagster'} & set(sys.modules)\n"
        "sys.stdout.write(made.tobytes().hex())\n"
    )
    run = subprocess.run([sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=True)
    assert run.stdout == Attribution.of(scorer).contributions(rows).tobytes().hex()
