"""Which features made a row suspicious: exact contributions along the very paths that scored it.

What belongs here: what a contribution is, and how those of rows are found. What does not: scores (`scorer`), the loops
that numba compiles (`attribution_kernels`), and words for people (`fraud_assets.alerts.reasons`).

A node's expected path length is the mean over the training rows of its tree that reach it. At each split of a row's
path the change to the chosen side's is credited to the split's feature, so that the contributions and the base, which
is what is expected at the roots, add up to the row's mean path length. All of that is known of a leaf beforehand.
See docs/adr/0013-reasons-from-the-paths.md.
"""

import importlib
import sys
from dataclasses import dataclass
from functools import lru_cache
from types import ModuleType
from typing import Final

import numpy as np

from fraud_assets.errors import FraudAssetsError
from fraud_assets.model.scorer import NUMPY_ROWS, WALK_ROWS, Scorer, in_chunks

_KERNELS: Final = "fraud_assets.model.attribution_kernels"
"""Imported by name when first needed."""

_UNIT: Final = 2.0**-36
"""What a leaf contributes is rounded to multiples of this, 1.5e-11 of a split: sums are then exact in any order, and
every way to them gives the same bits."""

_LANES: Final = 8
"""The table's last dimension; the kernels add as many features at once."""

_SAME: Final = 1e-12
"""Path lengths of one count agree to this; those of different counts differ by more."""

_EULER: Final = 0.577215664901532860606512090082402431
"""Euler's constant."""


_INFINITE: Final = "X holds an infinite value, which scikit-learn refuses too"


class AttributionError(FraudAssetsError):
    """The scorer's arrays are not those of a forest whose counts of rows can be recovered."""


@dataclass(frozen=True, eq=False)
class Attribution:
    """Credits each feature with its share of a row's mean path length; a negative share makes a row more suspicious.

    Attributes:
        scorer: the compiled scorer that is explained.
        base: the mean path length that the trees expect of their own training rows.
        places: uint32 per node: where a leaf stands in `table`.
        ordinals: uint32 per node: a split's as in the scorer, a leaf's place among the leaves of its tree.
        first: uint32 per root: where the leaves of its tree begin.
        table: float64 (n_panels, n_leaves, 8): what each leaf contributes by feature, eight features to a panel.
        trees: how many the forest has.
    """

    scorer: Scorer
    base: float
    places: np.ndarray
    ordinals: np.ndarray
    first: np.ndarray
    table: np.ndarray
    trees: int

    @staticmethod
    def of(scorer: Scorer) -> "Attribution":
        """Return the attribution of a scorer; the tables of the latest few scorers are kept.

        Raises:
            AttributionError: a leaf's path length belongs to no count of rows.
        """
        return _of(scorer)

    def contributions(self, X: np.ndarray) -> np.ndarray:  # noqa: N803  scikit-learn's name
        """Return float64 (n_samples, n_features): base plus a row's sum is scikit-learn's mean path length, to 1e-9.

        A feature that no split of a row's paths asks for contributes exactly 0. NaN goes the side that each split
        chose for missing values. The same row has the same bits among few rows and among many, with numba or without.

        Raises:
            ValueError: X has another shape or holds an infinite value.
        """
        X = np.ascontiguousarray(X, np.float64)  # noqa: N806
        if X.ndim != 2 or X.shape[1] != len(self.scorer.feature_names):
            raise ValueError(f"X has shape {X.shape}; expected (n_samples, {len(self.scorer.feature_names)})")
        if len(X) <= NUMPY_ROWS and _KERNELS not in sys.modules:
            if np.isinf(X).any():
                raise ValueError(_INFINITE)
            return self._sum_with_numpy(X) / self.trees
        sums = np.empty(X.shape)
        finite = self._sum_by_walking(X, sums) if len(X) <= WALK_ROWS else in_chunks(self._sum_chunk, X, sums)
        if not finite:
            raise ValueError(_INFINITE)
        return np.divide(sums, self.trees, sums)

    def scores_and_contributions(self, X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:  # noqa: N803
        """Return what `Scorer.score` and `contributions` return, the same bits; few rows walk the trees once for both.

        Raises:
            ValueError: as they do.
        """
        if len(X) > WALK_ROWS or _KERNELS not in sys.modules:
            return self.scorer.score(X), self.contributions(X)
        sums, exponents = np.empty(X.shape), np.empty(len(X))
        if not self._walk(X, sums, exponents):
            raise ValueError(_INFINITE)
        return self.scorer.finish(exponents), np.divide(sums, self.trees, sums)

    def _sum_with_numpy(self, rows: np.ndarray) -> np.ndarray:
        by_leaf = np.concatenate(list(self.table), axis=1)[:, : rows.shape[1]]
        sums = np.zeros(rows.shape)
        for start in range(0, len(rows), 512):
            for leaves in self.scorer.leaves(rows[start : start + 512]):
                sums[start : start + 512] += by_leaf[self.places[leaves]]
        return sums

    def _sum_by_walking(self, rows: np.ndarray, sums: np.ndarray) -> bool:
        return self._walk(rows, sums, np.empty(len(rows)))

    def _walk(self, rows: np.ndarray, sums: np.ndarray, exponents: np.ndarray) -> bool:
        of = self.scorer
        return _kernels().walk_explained(
            rows, of.nodes, of.ordinals, self.places, of.roots, of.values, of.steps, of.denominator, self.table,
            exponents, sums,
        )  # fmt: skip

    def _sum_chunk(self, rows: np.ndarray, sums: np.ndarray) -> bool:
        of = self.scorer
        if max(self.ordinals.max(), *map(len, of.cuts)) > np.iinfo(np.uint16).max:
            return self._sum_by_walking(rows, sums)
        ranks, first, order, ends, has_nan, finite = of.blocks(rows)
        if not finite:
            return False
        own = np.empty(sums.shape)
        _kernels().sum_contributions(ranks, order, ends, of.nodes, self.ordinals, of.roots, self.first, self.table, own)
        np.take(own, first, axis=0, out=sums, mode="clip")  # every place is one; to look for others costs as much again
        if has_nan.any():  # a rank cannot say which side each split chose for missing values
            missing = np.empty((np.count_nonzero(has_nan), rows.shape[1]))
            self._sum_by_walking(rows[has_nan], missing)
            sums[has_nan] = missing
        return True


@lru_cache(maxsize=4)
def _of(scorer: Scorer) -> Attribution:
    nodes, places, first = scorer.nodes, *_leaf_places(scorer)
    levels = _levels(scorer)
    trees = int(
        np.count_nonzero(scorer.roots != len(nodes) - 1)
    )  # the last node is the leaf of trees that fill a group
    expected, counts = np.zeros(len(nodes)), np.zeros(len(nodes))
    for depth, level in enumerate(levels):
        leaves = level[nodes["left"][level] == level]
        expected[leaves] = scorer.values[scorer.ordinals[leaves]]
        counts[leaves] = _leaf_counts(expected[leaves] - depth, scorer, trees)
    for level in reversed(levels):
        splits = level[nodes["left"][level] != level]
        left, right = nodes["left"][splits], nodes["left"][splits] + 1
        counts[splits] = counts[left] + counts[right]
        expected[splits] = (counts[left] * expected[left] + counts[right] * expected[right]) / counts[splits]
    n_features = len(scorer.feature_names)
    credited = np.zeros((len(nodes), -(-n_features // _LANES) * _LANES))
    for level in levels:
        splits = level[nodes["left"][level] != level]
        for side in (nodes["left"][splits], nodes["left"][splits] + 1):
            credited[side] = credited[splits]
            credited[side, nodes["feature"][splits]] += expected[side] - expected[splits]
    leaves = np.flatnonzero(nodes["left"] == np.arange(len(nodes)))
    by_leaf = np.round(credited[leaves] / _UNIT) * _UNIT
    table = by_leaf.reshape(len(leaves), -1, _LANES).transpose(1, 0, 2)
    return Attribution(
        scorer=scorer,
        base=float(expected[scorer.roots].sum() / trees),
        places=places,
        ordinals=_own_ordinals(scorer, places, first),
        first=first,
        table=np.ascontiguousarray(table),
        trees=trees,
    )


def _leaf_places(scorer: Scorer) -> tuple[np.ndarray, np.ndarray]:
    """Return per node how many leaves stand before it, and so per root: one tree's nodes follow another's."""
    is_leaf = scorer.nodes["left"] == np.arange(len(scorer.nodes))
    before = (np.cumsum(is_leaf) - is_leaf).astype(np.uint32)
    return before, before[scorer.roots]


def _own_ordinals(scorer: Scorer, places: np.ndarray, first: np.ndarray) -> np.ndarray:
    is_leaf = scorer.nodes["left"] == np.arange(len(scorer.nodes))
    tree = np.searchsorted(scorer.roots, np.arange(len(scorer.nodes)), side="right") - 1
    return np.where(is_leaf, places - first[tree], scorer.ordinals)


def _levels(scorer: Scorer) -> list[np.ndarray]:
    """Return the nodes by their depth, the roots first."""
    level, levels = np.unique(scorer.roots).astype(np.int64), []
    while len(level):
        levels.append(level)
        left = scorer.nodes["left"][level].astype(np.int64)
        left = left[left != level]
        level = np.concatenate([left, left + 1])
    return levels


def _leaf_counts(averages: np.ndarray, scorer: Scorer, trees: int) -> np.ndarray:
    """Return how many training rows leaves hold, by what is left of their path lengths beyond their depths.

    That is scikit-learn's average path length of so many rows, which strictly grows with them. Where splits between
    leaves of one path length were left out of the compiled forest, it is that of the leaves below, and those splits.

    Raises:
        AttributionError: there is no such count.
    """
    most = 2
    while _average_path_length(np.array([most]))[0] < -scorer.denominator / trees - _SAME:
        most *= 2
    known = _average_path_length(np.arange(1, most + 1))
    counts = np.zeros(len(averages))
    for splits in range(scorer.steps + 64):
        left = averages - splits
        at = np.clip(np.searchsorted(known, left - _SAME), 0, most - 1)
        found = (counts == 0) & (np.abs(known[at] - left) < _SAME)
        counts[found] = (at[found] + 1) * 2.0**splits
        if counts.all():
            return counts
    raise AttributionError("a leaf's path length belongs to no count of training rows: the forest cannot be explained")


def _average_path_length(counts: np.ndarray) -> np.ndarray:
    """Return the mean path length of an unsuccessful search among so many rows, by scikit-learn's expression.

    Source: Liu, Ting and Zhou, Isolation Forest, 2008, equation 1.
    """
    with np.errstate(divide="ignore"):
        lengths = 2.0 * (np.log(counts - 1.0) + _EULER) - 2.0 * (counts - 1.0) / counts
    return np.where(counts <= 1, 0.0, np.where(counts == 2, 1.0, lengths))


def warm() -> None:
    """Load the kernels: a process that explains one row after the other is 60 times faster with them."""
    _kernels()


def _kernels() -> ModuleType:
    return sys.modules.get(_KERNELS) or importlib.import_module(_KERNELS)
