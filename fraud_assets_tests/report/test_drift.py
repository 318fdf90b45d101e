"""Drift: the effect size against a slow one over all values, and what is called unusual."""

from collections.abc import Iterator
from typing import Any

import duckdb
import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from fraud_assets.report.drift import Profile, _limits, edges_of, measure, profiles
from fraud_assets.report.sentences import LEAST_HEALTHY
from fraud_assets.silver.contract import FEATURE_NAMES
from fraud_assets_tests.depth import cases

COLUMNS = len(FEATURE_NAMES)


@pytest.fixture(scope="module")
def con() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as connection:
        yield connection


def relation(con: duckdb.DuckDBPyConnection, rows: dict[str, list[list[float]]]) -> str:
    """A relation of Silver rows, (n, 8) values by partition."""
    con.execute("CREATE OR REPLACE TABLE silver (TransactionID VARCHAR, partition_key VARCHAR, "
                + ", ".join(f"{name} DOUBLE" for name in FEATURE_NAMES) + ")")  # fmt: skip
    values = [[f"{key}-{n}", key, *row] for key, part in rows.items() for n, row in enumerate(part)]
    con.executemany(f"INSERT INTO silver VALUES ({', '.join('?' * (COLUMNS + 2))})", values)
    return "silver"


def measured(con: duckdb.DuckDBPyConnection, rows: dict[str, list[list[float]]], key: str, **more: Any) -> Any:
    silver = relation(con, rows)
    training = f"(FROM {silver} WHERE partition_key IN ({', '.join(map(repr, more['training']))}))"
    return measure(profiles(con, silver, edges_of(con, training, rows=1)), key, **more)


values = st.lists(st.sampled_from([0.0, 1.0, 2.0, 3.5, 80.0]), min_size=COLUMNS, max_size=COLUMNS)
partition = st.lists(values, min_size=1, max_size=12)


@hypothesis_settings(max_examples=cases(25, 100))
@given(training=partition, other=partition)
def test_the_effect_size_is_the_largest_difference_of_the_shares_at_or_below_a_value_of_training(
    con: duckdb.DuckDBPyConnection, training: list[list[float]], other: list[list[float]]
) -> None:
    drift = measured(con, {"1": training, "2": other}, "2", training=["1"], earlier=[])

    for n, feature in enumerate(drift.features):
        ordered = sorted(row[n] for row in training)
        grid = {ordered[max(0, int(np.ceil(level * len(ordered))) - 1)] for level in [*np.arange(1, 20) / 20, 0.99]}
        slow = max(
            abs(sum(row[n] <= edge for row in other) / len(other) - sum(v <= edge for v in ordered) / len(ordered))
            for edge in grid
        )
        assert feature.effect == pytest.approx(slow, abs=1e-12)
        assert feature.mean == pytest.approx(np.mean([row[n] for row in other]))
        assert feature.training_mean == pytest.approx(np.mean(ordered))


def test_a_partition_that_trained_is_compared_with_the_others_that_trained(con: duckdb.DuckDBPyConnection) -> None:
    rows = {"1": [[0.0] * COLUMNS] * 4, "2": [[1.0] * COLUMNS] * 4}

    drift = measured(con, rows, "2", training=["1", "2"], earlier=[])

    assert [feature.effect for feature in drift.features] == [1.0] * COLUMNS
    assert drift.training_rows == 8


def test_without_other_rows_to_compare_with_there_is_no_drift(con: duckdb.DuckDBPyConnection) -> None:
    rows = {"1": [[0.0] * COLUMNS]}
    assert measured(con, rows, "1", training=["1"], earlier=[]) is None
    assert measured(con, rows, "2", training=["1"], earlier=[]) is None


def profile(share: float) -> Profile:
    """A partition of 1,000 rows of which a share lies above the only edge of the first feature."""
    flat = [np.array([1000.0])] * (COLUMNS - 1)
    return Profile(1000, np.zeros(COLUMNS), (np.array([1000 * (1 - share)]), *flat))


def test_a_feature_is_unusual_further_off_than_any_earlier_healthy_partition_as_a_multiple_of_its_median() -> None:
    shares = [0.01, 0.03, 0.02, 0.01, 0.02, 0.01, 0.02]  # median 0.02, and 0.03 is 1.5 times that
    known = {"training": profile(0.0), "now": profile(0.031)} | {str(n): profile(one) for n, one in enumerate(shares)}

    drift = measure(known, "now", training=["training"], earlier=[str(n) for n in range(len(shares))])

    assert drift is not None
    first, *others = drift.features
    assert (first.effect, first.limit, first.is_unusual) == (pytest.approx(0.031), pytest.approx(0.03), True)
    assert first.earlier == pytest.approx(tuple(shares))
    assert not any(other.is_unusual for other in others)
    # The others never moved: the same multiple of what nobody would act on.
    assert [other.limit for other in others] == pytest.approx([1.5 * 0.005] * 7)


def test_too_few_earlier_partitions_set_no_limit() -> None:
    earlier = [str(n) for n in range(LEAST_HEALTHY - 1)]
    known = {"training": profile(0.0), "now": profile(0.9)} | {key: profile(0.01) for key in earlier}

    drift = measure(known, "now", training=["training"], earlier=earlier)

    assert drift is not None
    assert {(feature.limit, feature.is_unusual) for feature in drift.features} == {(None, False)}
    assert (drift.replayed, drift.false_alarms) == (0, 0)


def test_false_alarms_are_counted_by_the_same_rule_on_each_earlier_partition() -> None:
    shares = [0.01] * LEAST_HEALTHY + [0.02, 0.01, 0.03]
    known = {"training": profile(0.0), "now": profile(0.01)} | {str(n): profile(one) for n, one in enumerate(shares)}

    drift = measure(known, "now", training=["training"], earlier=[str(n) for n in range(len(shares))])

    assert drift is not None
    assert (drift.replayed, drift.false_alarms) == (3, 2)


def test_of_partitions_that_are_alike_one_in_n_plus_1_is_called_unusual() -> None:
    """All eight features together: what the page states is what happens."""
    drawn, n, alarms, times = np.random.default_rng(7), 12, 0, cases(300, 3_000)
    for _ in range(times):
        effects = drawn.exponential(0.02, (n + 1, COLUMNS)) + 0.005
        limits = _limits(effects[:n])
        assert limits is not None
        alarms += bool((effects[n] > limits).any())
    expected = 1 / (n + 1)
    # Three standard errors, and the median that today is no part of.
    assert alarms / times == pytest.approx(expected, abs=3 * (expected / times) ** 0.5 + 0.03)
