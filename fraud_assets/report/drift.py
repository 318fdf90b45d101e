"""How far each partition's features lie from the training's, and what of that is unusual.

The effect size of a feature is the largest difference between two cumulative distributions, that of the partition and
that of the training rows, at values that divide the training rows evenly (Kolmogorov and Smirnov's distance on a grid):
a share of rows, so that it means the same for an amount, a count and a flag, and does not grow with the number of rows
as a test's significance does. What is too much is no constant: a partition is unusual where one of its features lies
further off, as a multiple of what is usual for that feature, than any feature of any earlier healthy partition did. So
all features together raise a false alarm once in n + 1 partitions. See docs/adr/0014-a-page-from-values.md.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from duckdb import DuckDBPyConnection

from fraud_assets.report.facts import Drift, FeatureDrift
from fraud_assets.report.sentences import LEAST_HEALTHY
from fraud_assets.silver.contract import FEATURE_NAMES, FEATURES

LEVELS: Final = (*(level / 20 for level in range(1, 20)), 0.99)
"""Shares of the training rows at or below the values that are compared at: evenly spread, and one in the upper tail,
where fraud is."""

_LEAST_USUAL: Final = 0.005
"""An effect that nobody would act on: a multiple of less would make something of nothing."""

_SAMPLED_ROWS: Final = 200_000
"""Training rows that the values are taken from: more would not move them by what a page shows."""


@dataclass(frozen=True)
class Profile:
    """The distribution of the features in some rows.

    Attributes:
        rows: how many there are.
        sums: of each feature, (n_features,).
        at_or_below: of each feature, how many rows lie at or below each of its edges.
    """

    rows: int
    sums: np.ndarray
    at_or_below: tuple[np.ndarray, ...]


def edges_of(con: DuckDBPyConnection, training: str, *, rows: int) -> tuple[tuple[float, ...], ...]:
    """Return per feature the distinct values at `LEVELS` of a relation of training rows; there are `rows` of them."""
    quantiles = ", ".join(f"quantile_disc({name}, {list(LEVELS)})" for name in FEATURE_NAMES)
    every = 1 + rows // _SAMPLED_ROWS
    [values] = con.execute(
        f"SELECT {quantiles} FROM {training} WHERE hash(TransactionID) % $every = 0", {"every": every}
    ).fetchall()
    return tuple(tuple(sorted({float(one) for one in of_feature or ()})) for of_feature in values)


def profiles(con: DuckDBPyConnection, silver: str, edges: Sequence[Sequence[float]]) -> dict[str, Profile]:
    """Return the profile of each partition of a relation of Silver rows, in one pass over it."""
    counted = ", ".join(
        f"sum({name}), [{', '.join(f'count(*) FILTER ({name} <= ?)' for _ in of_feature)}]"
        for name, of_feature in zip(FEATURE_NAMES, edges, strict=True)
    )
    found = con.execute(
        f"SELECT partition_key, count(*), {counted} FROM {silver} GROUP BY partition_key",
        [edge for of_feature in edges for edge in of_feature],
    ).fetchall()
    return {
        key: Profile(rows, np.array(rest[::2], float), tuple(np.array(counts, float) for counts in rest[1::2]))
        for key, rows, *rest in found
    }


def measure(
    known: Mapping[str, Profile], key: str, *, training: Collection[str], earlier: Sequence[str]
) -> Drift | None:
    """Return the drift of a partition, with the limits that earlier healthy ones set; None without rows to compare.

    Args:
        known: profiles of the partitions.
        key: the partition.
        training: the partitions whose rows the model learnt from. A partition is compared with the others of them.
        earlier: the healthy partitions before it, in time order.
    """
    reference = _together(known, training)
    effects = {one: found for one in (*earlier, key) if (found := _effects(known, one, training)) is not None}
    if key not in effects or reference is None:
        return None
    before = np.array([effects[one] for one in earlier if one in effects]).reshape(-1, len(FEATURES))
    limits = _limits(before)
    replayed = [before[n] > limit for n in range(len(before)) if (limit := _limits(before[:n])) is not None]
    mine = known[key]
    features = tuple(
        FeatureDrift(
            feature=feature.name,
            meaning=feature.meaning,
            training_mean=float(reference.sums[n] / reference.rows),
            mean=float(mine.sums[n] / mine.rows),
            effect=float(effects[key][n]),
            limit=None if limits is None else float(limits[n]),
            earlier=tuple(map(float, before[:, n])),
        )
        for n, feature in enumerate(FEATURES)
    )
    return Drift(
        features,
        training_rows=reference.rows,
        healthy=len(before),
        replayed=len(replayed),
        false_alarms=sum(bool(one.any()) for one in replayed),
    )


def _limits(before: np.ndarray) -> np.ndarray | None:
    """Return per feature the largest usual effect, given those of earlier partitions, (n, n_features).

    None where they are too few. A multiple of the feature's median, the same for all features: the largest that occurs.
    """
    if len(before) < LEAST_HEALTHY:
        return None
    usual = np.maximum(np.median(before, axis=0), _LEAST_USUAL)
    return usual * (before / usual).max()


def _effects(known: Mapping[str, Profile], key: str, training: Collection[str]) -> np.ndarray | None:
    """Return the effect of each feature, (n_features,), against the training rows of other partitions."""
    reference = _together(known, [one for one in training if one != key])
    mine = known.get(key)
    if mine is None or reference is None:
        return None
    pairs = zip(mine.at_or_below, reference.at_or_below, strict=True)
    return np.array([np.abs(own / mine.rows - other / reference.rows).max(initial=0.0) for own, other in pairs])


def _together(known: Mapping[str, Profile], keys: Collection[str]) -> Profile | None:
    """Return the profile of several partitions' rows; None where none of them is known."""
    parts = [known[key] for key in keys if key in known]
    if not parts:
        return None
    counts = zip(*(part.at_or_below for part in parts), strict=True)
    return Profile(
        rows=sum(part.rows for part in parts),
        sums=np.sum([part.sums for part in parts], axis=0),
        at_or_below=tuple(np.sum(of_feature, axis=0) for of_feature in counts),
    )
