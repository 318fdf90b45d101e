"""The compiled scorer against scikit-learn: every bit of every score, and nothing loaded that is not needed."""

import importlib.util
import json
import pickle
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numba
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numba.core import config
from sklearn.ensemble import IsolationForest
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler

from fraud_assets.model import scorer_compiler, scorer_kernels
from fraud_assets.model.scorer import Scorer, ScorerArtifactError, ScorerMismatch, fit_offset
from fraud_assets_tests.depth import cases, full_only

Random = np.random.Generator
LARGEST = float(np.finfo(np.float64).max)


def transactions(random: Random, n: int) -> np.ndarray:
    amount = np.round(np.exp(random.normal(4.3, 1.0, n)), 2)
    count = 1 + np.where(random.random(n) < 0.16, random.geometric(0.5, n), 0)
    mean = np.where(count == 1, amount, np.round(np.exp(random.normal(4.3, 0.8, n)), 3))
    deviation = np.where(count == 1, 0.0, np.abs(random.normal(30.0, 20.0, n)))
    products = np.minimum(count, 1 + random.integers(0, 3, n))
    columns = [amount, np.log1p(amount), amount >= 500, random.random(n) < 0.13, count, mean, deviation, products]
    return np.column_stack(columns).astype(np.float64)


FAMILIES: dict[str, Callable[[Random, int], np.ndarray]] = {
    "transactions": transactions,
    "gaussian": lambda random, n: random.normal(size=(n, 8)),
    "small integers": lambda random, n: random.integers(-3, 4, (n, 8)).astype(np.float64),
    "heavy tails": lambda random, n: random.standard_cauchy((n, 8)) ** 3,
    "constant columns": lambda random, n: np.column_stack([np.tile([0.0, 7.5, -1e9], (n, 1)), random.normal(size=n)]),
    "constant": lambda _, n: np.full((n, 3), 2.5),
    "twenty features": lambda random, n: random.exponential(size=(n, 20)),
    "huge and tiny": lambda random, n: random.choice([1e300, -1e300, 5e-324, -1e-310, 0.0, 1.0], (n, 4)),
    "missing values": lambda random, n: np.where(random.random((n, 5)) < 0.2, np.nan, random.normal(size=(n, 5))),
}


def fitted(rows: Any, **parameters: Any) -> Pipeline:
    defaults = {"n_estimators": 50, "contamination": 0.035, "random_state": 42}
    forest = IsolationForest(**{**defaults, **parameters})
    with np.errstate(over="ignore", invalid="ignore"):
        return Pipeline([("scaler", StandardScaler()), ("forest", forest)]).fit(rows)


def same_bits(a: np.ndarray, b: np.ndarray) -> bool:
    return bool((np.asarray(a, np.float64).view(np.int64) == np.asarray(b, np.float64).view(np.int64)).all())


def reference(pipeline: Pipeline, rows: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore", invalid="ignore"):
        return -pipeline.decision_function(rows)


def ways_of(scorer: Scorer) -> list[Callable[[np.ndarray], np.ndarray]]:
    """Every way to the scores of many rows: as they come, in blocks, walked by numba, walked by numpy."""

    def alone(way: Callable[[np.ndarray, np.ndarray], bool]) -> Callable[[np.ndarray], np.ndarray]:
        def score(rows: np.ndarray) -> np.ndarray:
            scores = np.empty(len(rows))
            assert way(np.ascontiguousarray(rows), scores)
            return scores

        return score

    return [scorer.score, *map(alone, (scorer._score_in_chunks, scorer._score_by_walking, scorer._score_with_numpy))]


@pytest.fixture(scope="module")
def training_rows() -> np.ndarray:
    return transactions(np.random.default_rng(1), 4_000)


@pytest.fixture(scope="module")
def pipeline(training_rows: np.ndarray) -> Pipeline:
    return fitted(training_rows)


@pytest.fixture(scope="module")
def scorer(pipeline: Pipeline, training_rows: np.ndarray) -> Scorer:
    return replace(Scorer.from_pipeline(pipeline), training_scores=np.sort(reference(pipeline, training_rows)))


# The same bits


@pytest.mark.parametrize("family", FAMILIES)
def test_every_score_has_the_bits_of_scikit_learn(family: str) -> None:
    random = np.random.default_rng(2)
    rows = FAMILIES[family](random, 2_000)
    pipeline = fitted(rows)
    scorer = Scorer.from_pipeline(pipeline)
    new = FAMILIES[family](random, cases(3_000, 100_000))
    expected = reference(pipeline, new)
    for way in ways_of(scorer):
        assert same_bits(way(new), expected)


@pytest.mark.parametrize(
    "parameters",
    [
        {"n_estimators": 1},
        {"n_estimators": 7},
        {"n_estimators": 8},
        {"n_estimators": 300, "max_samples": 64},
        {"n_estimators": 60, "max_samples": 1_024},
        {"n_estimators": 100, "max_samples": 4_096},
        {"max_samples": 2},
        {"max_features": 3},
        {"max_features": 0.5, "bootstrap": True},
        {"contamination": "auto"},
        {"contamination": 0.5},
    ],
    ids=str,
)
def test_every_forest_has_the_bits_of_scikit_learn(parameters: dict[str, Any]) -> None:
    random = np.random.default_rng(3)
    pipeline = fitted(transactions(random, 5_000), **parameters)
    scorer = Scorer.from_pipeline(pipeline)
    new = transactions(random, 3_000)
    assert same_bits(scorer.score(new), reference(pipeline, new))


@settings(max_examples=cases(12, 100))
@given(st.data())
def test_any_small_forest_scores_any_finite_rows_alike(data: st.DataObject) -> None:
    random = np.random.default_rng(data.draw(st.integers(0, 2**32), label="seed"))
    family = FAMILIES[data.draw(st.sampled_from(sorted(FAMILIES)), label="family")]
    rows = family(random, data.draw(st.integers(5, 400), label="training rows"))
    trees = data.draw(st.integers(1, 20), label="trees")
    pipeline = fitted(rows, n_estimators=trees, max_samples=min(len(rows), 64), random_state=int(random.integers(99)))
    scorer = Scorer.from_pipeline(pipeline)
    number = st.floats(allow_nan=True, allow_infinity=False) | st.sampled_from([-0.0, LARGEST, 5e-324])
    row = st.lists(number, min_size=rows.shape[1], max_size=rows.shape[1])
    new = np.array(data.draw(st.lists(row, min_size=1, max_size=5), label="rows"), np.float64)
    for copies in (1, 40):  # few rows walk, many share blocks
        many = np.tile(new, (copies, 1))
        assert same_bits(scorer.score(many), reference(pipeline, many))


@given(
    st.floats(allow_nan=False),
    st.floats(allow_nan=False, allow_infinity=False),
    st.floats(min_value=1e-300, max_value=1e300),
)
@settings(max_examples=cases(200, 1_000))
def test_a_cut_is_the_last_value_that_goes_left(threshold: float, mean: float, scale: float) -> None:
    def goes_left(x: float) -> bool:
        with np.errstate(over="ignore"):
            return float(np.float32((np.float64(x) - mean) / scale)) <= threshold

    arrays = [np.array([value]) for value in (threshold, mean, scale)]
    cut = float(scorer_compiler._largest_going_left(*arrays)[0])
    if cut == -np.inf:
        assert not goes_left(-LARGEST)
    else:
        assert goes_left(cut)
        assert cut == LARGEST or not goes_left(float(np.nextafter(cut, np.inf)))


@given(
    st.lists(st.lists(st.floats(allow_nan=False), max_size=60), min_size=1, max_size=3),
    st.integers(-300, 300),
    st.integers(0, 2**32),
)
@settings(max_examples=cases(100, 500))
def test_a_rank_counts_the_cuts_below_a_value(cuts: list[list[float]], magnitude: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    own = [np.unique(np.append(random.normal(size=300) * 10.0**magnitude, few)) for few in cuts]
    own = [values[values < np.inf] for values in own]
    with np.errstate(over="ignore"):  # the largest number has an infinite neighbour
        near = [
            np.concatenate([[0.0, -0.0], values, np.nextafter(values, np.inf), random.normal(size=9)]) for values in own
        ]
    rows = np.column_stack([np.resize(values[np.isfinite(values)], 1_100) for values in near])
    ranks, has_nan = np.empty(rows.shape[::-1], np.uint16), np.zeros(len(rows), np.bool_)
    assert scorer_kernels.rank_rows(rows, *scorer_kernels.prepare_ranking(own), ranks, has_nan)
    assert ranks.tolist() == [np.searchsorted(values, rows[:, f]).tolist() for f, values in enumerate(own)]


def test_a_zero_is_not_above_a_cut_at_minus_zero() -> None:
    ranks, has_nan = np.empty((1, 4), np.uint16), np.zeros(4, np.bool_)
    rows = np.array([[0.0], [-0.0], [5e-324], [-5e-324]])
    assert scorer_kernels.rank_rows(rows, *scorer_kernels.prepare_ranking([np.array([-0.0, 1.0])]), ranks, has_nan)
    assert ranks.tolist() == [[0, 0, 1, 0]]


def test_values_at_and_next_to_every_cut_have_the_bits_of_scikit_learn(pipeline: Pipeline, scorer: Scorer) -> None:
    row = np.median(transactions(np.random.default_rng(4), 99), axis=0)
    for feature, cuts in enumerate(scorer.cuts):
        near = np.concatenate([cuts, np.nextafter(cuts, np.inf), np.nextafter(cuts, -np.inf)])
        rows = np.tile(row, (len(near), 1))
        rows[:, feature] = near
        assert same_bits(scorer.score(rows), reference(pipeline, rows))


@pytest.mark.parametrize("value", [-0.0, 5e-324, -5e-324, 1e38, 3.5e38, -3.5e38, LARGEST, -LARGEST, np.nan])
@pytest.mark.parametrize("copies", [1, 500])
def test_extreme_values_have_the_bits_of_scikit_learn(
    pipeline: Pipeline, scorer: Scorer, value: float, copies: int
) -> None:
    rows = np.tile(transactions(np.random.default_rng(5), 8), (copies, 1))
    rows[np.arange(len(rows)), np.arange(len(rows)) % 8] = value
    assert same_bits(scorer.score(rows), reference(pipeline, rows))


@pytest.mark.parametrize("value", [np.inf, -np.inf])
@pytest.mark.parametrize("n", [1, 5_000, 20_000])
def test_an_infinite_value_is_refused_as_scikit_learn_refuses_it(
    pipeline: Pipeline, scorer: Scorer, value: float, n: int
) -> None:
    rows = transactions(np.random.default_rng(6), n)
    rows[-1, 5] = value
    with pytest.raises(ValueError, match="infinit"):
        pipeline.decision_function(rows)
    with pytest.raises(ValueError, match="infinit"):
        scorer.score(rows)


def test_each_way_of_scoring_tells_an_infinite_value(scorer: Scorer) -> None:
    rows = transactions(np.random.default_rng(6), 3)
    rows[1, 0] = -np.inf
    for way in (scorer._score_with_numpy, scorer._score_by_walking, scorer._score_in_chunks):
        assert not way(rows, np.empty(3))
        assert way(rows[:1], np.empty(1))


def test_a_row_on_the_boundary_keeps_the_sign_of_zero(training_rows: np.ndarray) -> None:
    pipeline = fitted(training_rows[:101], contamination=0.1)  # the tenth of a hundred steps is a row itself
    scores = Scorer.from_pipeline(pipeline).score(training_rows[:101])
    assert np.signbit(scores[scores == 0.0]).all()
    assert (scores == 0.0).any()


def forest_with_cuts(number: int) -> Scorer:
    """A full tree whose cuts are 0 to 65,534 and whose leaf of rank k adds k % 1,000; then trees of one cut each."""
    depth = 16
    nodes = np.zeros(2 ** (depth + 1) - 1, scorer_compiler.NODE)  # level by level, the node of a level's place p
    ordinals = np.zeros(len(nodes), np.uint32)
    for level in range(depth):
        place, first = np.arange(2**level), 2**level - 1
        cut = place * 2 ** (depth - level) + 2 ** (depth - level - 1) - 1
        nodes["cut"][first + place], ordinals[first + place] = cut, cut
        nodes["left"][first + place] = 2 * (first + place) + 1
    leaves = np.arange(2**depth - 1, len(nodes))
    ordinals[leaves] = np.arange(2**depth) % 1_000
    stumps = np.zeros(3 * (number - 2**depth + 1), scorer_compiler.NODE)
    last = len(nodes) + len(stumps)
    for n in range(number - 2**depth + 1):
        stumps[3 * n] = (2.0**depth - 1 + n, len(nodes) + 3 * n + 1, 0, 0)
        ordinals = np.append(ordinals, [2**depth - 1 + n, 0, 1_000 + n]).astype(np.uint32)
    nodes = np.concatenate([nodes, stumps, np.zeros(1, scorer_compiler.NODE)])
    is_leaf = nodes["left"] == 0
    nodes["cut"][is_leaf], nodes["left"][is_leaf] = np.inf, np.flatnonzero(is_leaf)
    values = np.arange(1_100.0)
    return Scorer(
        nodes=nodes,
        ordinals=np.append(ordinals, 0).astype(np.uint32),
        roots=np.resize([0, *range(2 ** (depth + 1) - 1, last, 3), *[last] * 7], 8).astype(np.uint32),
        values=values,
        training_scores=np.empty(0),
        feature_names=("x",),
        denominator=-1e4,
        offset=0.0,
        steps=depth,
        threshold=0.0,
        sklearn_version="",
    )


@pytest.mark.parametrize("number", [2**16 - 1, 2**16, 2**16 + 2])
def test_the_highest_rank_of_16_bits_and_the_next_do_not_wrap(number: int) -> None:
    scorer = forest_with_cuts(number)
    assert [len(cuts) for cuts in scorer.cuts] == [number]
    rows = np.concatenate([np.arange(-2.0, number + 2), np.arange(number) + 0.5])[:, None]
    rank = np.searchsorted(np.arange(number), rows[:, 0])
    total = np.minimum(rank, 2**16 - 1) % 1_000.0
    for n in range(number - 2**16 + 1):
        total += (rows[:, 0] > 2**16 - 1 + n) * (1_000.0 + n)
    expected = 2.0 ** (total / -1e4)
    for way in ways_of(scorer):
        assert same_bits(way(rows), expected)


@pytest.fixture(scope="module")
def large_forest() -> Pipeline:
    rows = np.random.default_rng(12).normal(size=(4_096, 8))
    return fitted(rows, n_estimators=110, max_samples=4_096, contamination="auto")


def test_nodes_that_outnumber_16_bits_keep_their_numbers(large_forest: Pipeline) -> None:
    scorer = Scorer.from_pipeline(large_forest)
    assert len(scorer.nodes) > 2**16
    new = np.random.default_rng(13).normal(size=(1_000, 8))
    expected = reference(large_forest, new)
    for way in ways_of(scorer):
        assert same_bits(way(new), expected)


def test_path_lengths_that_outnumber_16_bits_are_refused(large_forest: Pipeline) -> None:
    pipeline = pickle.loads(pickle.dumps(large_forest))
    for n, tree in enumerate(pipeline[-1].estimators_):  # no two nodes of the forest end alike
        tree.tree_.n_node_samples[:] = 3 + n * 1_000 + np.arange(tree.tree_.node_count)
    with pytest.raises(ScorerMismatch, match="distinct path lengths do not fit 16 bits"):
        Scorer.from_pipeline(pipeline)


def test_features_that_outnumber_16_bits_are_refused() -> None:
    rows = np.arange(3.0)[:, None].repeat(2**16, axis=1)
    with pytest.raises(ScorerMismatch, match="65536 features do not fit 16 bits"):
        Scorer.from_pipeline(fitted(rows, n_estimators=1))


def test_a_forest_with_more_cuts_than_16_bits_count_scores_alike() -> None:
    random = np.random.default_rng(7)
    pipeline = fitted(random.normal(size=(5_000, 1)), n_estimators=120, max_samples=4_096, contamination="auto")
    scorer = Scorer(**scorer_compiler.compile_forest(pipeline), training_scores=np.empty(0), threshold=0.0)
    assert len(scorer.cuts[0]) > 2**16 - 1
    new = random.normal(size=(2_000, 1))
    assert same_bits(scorer.score(new), reference(pipeline, new))


def test_chunks_threads_and_neighbours_change_no_bit(pipeline: Pipeline, scorer: Scorer) -> None:
    random = np.random.default_rng(8)
    rows = transactions(random, 40_000)
    rows[random.random(len(rows)) < 0.01, 5] = np.nan
    scores = scorer.score(rows)
    assert same_bits(scores, reference(pipeline, rows))
    order = random.choice(len(rows), 150_001)  # enough for several chunks, whatever the number of cores
    many = rows[order]
    assert same_bits(scorer.score(many), scores[order])
    assert same_bits(np.concatenate([scorer.score(part) for part in np.array_split(rows, 700)]), scores)
    with ThreadPoolExecutor(4) as pool:
        assert all(same_bits(again, scores[order]) for again in pool.map(scorer.score, [many] * 4))


def test_layout_and_type_of_the_rows_do_not_matter(scorer: Scorer) -> None:
    rows = np.round(transactions(np.random.default_rng(9), 300))
    scores = scorer.score(rows)
    read_only = rows.copy()
    read_only.flags.writeable = False
    for same in (read_only, np.asfortranarray(rows), np.repeat(rows, 2, axis=0)[::2], rows.astype(np.int64)):
        assert same_bits(scorer.score(same), scores)
    assert scorer.score(rows[:0]).shape == (0,)


@pytest.mark.parametrize("shape", [(8,), (3, 7), (0, 9), (2, 8, 1)])
def test_rows_of_another_shape_are_refused(scorer: Scorer, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="expected \\(n_samples, 8\\)"):
        scorer.score(np.zeros(shape))


@full_only("half a minute of scikit-learn")
@pytest.mark.parametrize("family", ["transactions", "gaussian"])
def test_a_million_rows_have_the_bits_of_scikit_learn(family: str) -> None:
    random = np.random.default_rng(10)
    pipeline = fitted(FAMILIES[family](random, 50_000), n_estimators=200 if family == "transactions" else 50)
    scorer = Scorer.from_pipeline(pipeline)
    for _ in range(2):
        rows = FAMILIES[family](random, 500_000)
        with ThreadPoolExecutor(2) as pool:  # scikit-learn adds trees in order only within a thread
            expected = np.concatenate(list(pool.map(lambda part: reference(pipeline, part), np.array_split(rows, 8))))
        assert same_bits(scorer.score(rows), expected)


# Made from a Pipeline


def test_a_pipeline_fitted_on_named_columns_keeps_its_names(training_rows: np.ndarray) -> None:
    frame = pd.DataFrame(training_rows, columns=pd.Index(list("abcdefgh"))).astype({"c": "int32", "e": "int64"})
    pipeline = fitted(frame)
    scorer = Scorer.from_pipeline(pipeline, threshold=0.125)
    assert scorer.feature_names == ("a", "b", "c", "d", "e", "f", "g", "h")
    assert scorer.threshold == 0.125
    assert same_bits(scorer.score(training_rows), -pipeline.decision_function(frame))


@pytest.mark.parametrize(
    "steps",
    [
        [("scaler", MinMaxScaler()), ("forest", IsolationForest())],
        [("one", StandardScaler()), ("two", StandardScaler()), ("forest", IsolationForest())],
        [("scaler", StandardScaler())],
        [("forest", IsolationForest().set_params(max_samples=1))],
    ],
    ids=["another scaler", "two scalers", "no forest", "trees of one row"],
)
def test_what_cannot_be_compiled_is_refused(steps: list[tuple[str, Any]], training_rows: np.ndarray) -> None:
    with pytest.raises(ScorerMismatch):
        Scorer.from_pipeline(Pipeline(steps).fit(training_rows))


@pytest.mark.parametrize("step", [None, StandardScaler(with_mean=False), StandardScaler(with_std=False)], ids=str)
def test_every_standard_scaler_or_none_is_compiled(step: StandardScaler | None, training_rows: np.ndarray) -> None:
    steps = [("scaler", step), ("forest", IsolationForest(n_estimators=9, random_state=0))]
    pipeline = Pipeline(steps[step is None :]).fit(training_rows)
    assert same_bits(Scorer.from_pipeline(pipeline).score(training_rows), reference(pipeline, training_rows))


def _one_ulp_higher(scorer: Scorer) -> Scorer:
    nodes = scorer.nodes.copy()
    nodes["cut"] = np.nextafter(nodes["cut"], np.inf)
    return replace(scorer, nodes=nodes)


@pytest.mark.parametrize(
    "spoil",
    [
        _one_ulp_higher,
        lambda scorer: replace(scorer, roots=scorer.roots[::-1].copy()),
        lambda scorer: replace(scorer, roots=np.append(scorer.roots[1:], scorer.roots[-1])),
        lambda scorer: replace(scorer, offset=float(np.nextafter(scorer.offset, 0.0))),
    ],
    ids=["cuts one ulp higher", "another order of trees", "one tree dropped", "offset one ulp higher"],
)
def test_a_scorer_that_differs_is_told_from_scikit_learn(
    scorer: Scorer, pipeline: Pipeline, spoil: Callable[[Scorer], Scorer]
) -> None:
    rows = scorer_compiler.probes(scorer.cuts)
    scorer.assert_equal_scores(pipeline, rows)
    with pytest.raises(ScorerMismatch, match="scores differ"):
        spoil(scorer).assert_equal_scores(pipeline, rows)


def test_probes_hold_every_cut_and_both_its_neighbours(scorer: Scorer) -> None:
    rows = scorer_compiler.probes(scorer.cuts)
    held = [
        np.isin([cuts, np.nextafter(cuts, 1e9), np.nextafter(cuts, -1e9)], rows[:, f]).mean()
        for f, cuts in enumerate(scorer.cuts)
    ]
    assert min(held) > 0.9  # some give way to NaN
    assert np.isnan(rows).any()


@pytest.mark.parametrize("contamination", [0.035, 0.1, 0.5])
def test_a_fast_offset_leaves_the_pipeline_that_scikit_learn_would_have_fitted(
    training_rows: np.ndarray, contamination: float
) -> None:
    fast, slow = fitted(training_rows, contamination="auto"), fitted(training_rows, contamination=contamination)
    scorer, scores = fit_offset(fast, training_rows, contamination)
    assert vars(fast[-1])["offset_"].hex() == vars(slow[-1])["offset_"].hex()
    assert fast.get_params(deep=True)["forest__contamination"] == contamination
    assert pickle.dumps(fast) == pickle.dumps(slow)
    assert same_bits(scores, -slow.decision_function(training_rows))
    assert same_bits(scorer.score(training_rows), scores)
    assert same_bits(scorer.training_scores, np.sort(scores))


# Percentiles


def test_a_percentile_is_the_share_of_training_rows_that_scored_lower(scorer: Scorer) -> None:
    known = replace(scorer, training_scores=np.array([-0.2, -0.1, -0.1, 0.3]))
    assert known.percentile(np.array([-0.3, -0.2, -0.1, 0.0, 0.3, 0.4])).tolist() == [0.0, 0.0, 0.25, 0.75, 0.75, 1.0]


def test_percentiles_of_many_training_rows_are_exact_to_a_ten_thousandth() -> None:
    rows = transactions(np.random.default_rng(11), 50_000)
    auto = fitted(rows, contamination="auto")
    scorer, training = fit_offset(auto, rows, 0.035)
    assert same_bits(training, reference(auto, rows))
    scores = np.linspace(training.min() - 0.01, training.max() + 0.01, 2_001)
    exact = np.array([(training < score).mean() for score in scores])
    assert np.abs(scorer.percentile(scores) - exact).max() <= 1e-4
    assert len(scorer.training_scores) == 10_001


@settings(max_examples=cases(15, 100), deadline=None)
@given(st.lists(st.floats(-1, 1), min_size=1, max_size=50), st.integers(0, 2**32))
def test_percentiles_of_many_rows_are_those_of_each_alone(scorer: Scorer, known: list[float], seed: int) -> None:
    random = np.random.default_rng(seed)
    training = np.sort(np.append(np.repeat(known, 20), random.normal(size=200) * random.choice([1.0, 1e-9])))
    some = replace(scorer, training_scores=training)
    scores = random.choice([*training, *np.nextafter(training, 9.0), *random.normal(size=99), -9.0, 9.0], 10_500)
    assert same_bits(some.percentile(scores), np.searchsorted(training, scores, side="left") / len(training))


def test_percentiles_are_missing_without_training_scores(pipeline: Pipeline) -> None:
    assert np.isnan(Scorer.from_pipeline(pipeline).percentile(np.zeros(3))).all()


# The artifact


def test_a_saved_scorer_comes_back_with_the_same_bits(
    scorer: Scorer, training_rows: np.ndarray, tmp_path: Path
) -> None:
    scorer.save(tmp_path / "a" / "b")
    loaded = Scorer.load(tmp_path / "a" / "b")
    scores = scorer.score(training_rows)
    assert same_bits(loaded.score(training_rows), scores)
    assert same_bits(loaded.percentile(scores), scorer.percentile(scores))
    assert (loaded.feature_names, loaded.threshold) == (scorer.feature_names, scorer.threshold)


@pytest.mark.parametrize("name", ["nodes", "ordinals", "roots", "values", "training_scores"])
def test_a_tampered_array_is_refused(scorer: Scorer, tmp_path: Path, name: str) -> None:
    scorer.save(tmp_path)
    file = tmp_path / f"{name}.npy"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(ScorerArtifactError, match="changed after it was written"):
        Scorer.load(tmp_path)
    file.unlink()
    with pytest.raises(ScorerArtifactError, match=f"{name}.npy"):
        Scorer.load(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"threshold": 0.5}, "changed after it was written"),
        ({"format": 2}, "has layout 2; this release reads 1"),
        ({"sklearn_version": "1.8.0"}, "changed after it was written"),
    ],
)
def test_a_changed_manifest_is_refused(scorer: Scorer, tmp_path: Path, change: dict[str, Any], message: str) -> None:
    scorer.save(tmp_path)
    file = tmp_path / "manifest.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(ScorerArtifactError, match=message):
        Scorer.load(tmp_path)


@pytest.mark.parametrize("content", ["", "[]", "{}", "null"])
def test_a_manifest_that_is_none_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "manifest.json").write_text(content)
    with pytest.raises(ScorerArtifactError, match="does not hold a whole compiled scorer"):
        Scorer.load(tmp_path)
    with pytest.raises(ScorerArtifactError, match="does not hold a whole compiled scorer"):
        Scorer.load(tmp_path / "absent")


def test_a_scorer_of_another_scikit_learn_is_refused(scorer: Scorer, tmp_path: Path) -> None:
    replace(scorer, sklearn_version="1.8.0").save(tmp_path)
    with pytest.raises(ScorerArtifactError, match=r"reproduces scikit-learn 1\.8\.0, and .* is installed"):
        Scorer.load(tmp_path)


def test_loading_and_scoring_a_small_partition_imports_numpy_alone(
    scorer: Scorer, training_rows: np.ndarray, tmp_path: Path
) -> None:
    scorer.save(tmp_path)
    np.save(tmp_path / "rows.npy", training_rows)
    program = f"""
import sys
import numpy as np
from fraud_assets.model.scorer import Scorer
scorer = Scorer.load(__import__("pathlib").Path({str(tmp_path)!r}))
scores = scorer.score(np.load({str(tmp_path / "rows.npy")!r}))
np.save({str(tmp_path / "scores.npy")!r}, scores)
heavy = {{"numba", "llvmlite", "sklearn", "scipy", "pandas", "mlflow", "dagster"}} & set(sys.modules)
assert not heavy, heavy
"""
    subprocess.run([sys.executable, "-c", program], check=True)
    assert same_bits(np.load(tmp_path / "scores.npy"), scorer.score(training_rows))


# numba


@pytest.fixture
def double(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[int], int]:
    """A function that numba can compile, in a file whose neighbourhood a test may spoil."""
    (tmp_path / "doubling.py").write_text("def double(x):\n    return 2 * x\n")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "doubling.py"))  # no folder: numba's second choice fails
    monkeypatch.setattr(config, "CACHE_DIR", "")
    spec = importlib.util.spec_from_file_location("doubling", tmp_path / "doubling.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    spec.loader.exec_module(module)
    return module.double


def test_without_a_folder_for_its_cache_numba_compiles_for_this_process(
    double: Callable[[int], int], tmp_path: Path
) -> None:
    (tmp_path / "__pycache__").write_text("a file, where a folder ought to be")
    with pytest.raises(RuntimeError, match="no locator available"):
        numba.njit(cache=True)(double)
    assert scorer_kernels.compiled(numba.int64, returns=numba.int64)(double)(21) == 42


def test_a_cache_that_takes_no_file_leaves_numba_to_compile_for_this_process(
    double: Callable[[int], int], tmp_path: Path
) -> None:
    compile_now = scorer_kernels.compiled(numba.int64, returns=numba.int64)
    assert compile_now(double)(21) == 42
    (index,) = (tmp_path / "__pycache__").glob("*.nbi")
    index.unlink()
    index.mkdir()
    with pytest.raises(IsADirectoryError):
        numba.njit(numba.int64(numba.int64), cache=True)(double)
    assert compile_now(double)(21) == 42


def test_kernels_are_compiled_once_and_kept() -> None:
    parts = (scorer_kernels.step, scorer_kernels.fill_block, scorer_kernels.write_codes)
    kernels = [value for value in vars(scorer_kernels).values() if hasattr(value, "nopython_signatures")]
    assert len([kernel for kernel in kernels if len(kernel.nopython_signatures) == 1]) >= 6
    assert all(kernel.stats.cache_path for kernel in kernels if kernel not in parts)
