"""The compiled scorer: scikit-learn's fraud scores to the last bit, without scikit-learn.

What belongs here: what a compiled forest is, how it scores rows, and its artifact on disk. What does not: making one
from a Pipeline (`scorer_compiler`), the loops that numba compiles (`scorer_kernels`), and fitting.

Three ways give the same bits. Many rows: each value becomes its rank among its feature's cuts, equal rows are scored
once, rows of similar ranks share a block, and a split is one compare-and-blend over the block. Few rows walk the
trees. Where numba is not loaded yet, numpy walks them for less than its import would cost.
See docs/adr/0005-compiled-scorer.md.
"""

import hashlib
import importlib
import json
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self

import numpy as np

from fraud_assets.errors import FraudAssetsError
from fraud_assets.model.scorer_compiler import ScorerMismatch, compile_forest, probes, sklearn_scores

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline

FORMAT: Final = 1
"""The layout of the folder; a reader refuses any other."""

_ARRAYS: Final = ("nodes", "ordinals", "roots", "values", "training_scores")
"""What the folder holds beside its manifest, one .npy file each."""

_COMPARED_ROWS: Final = 10_000
"""Training rows on which the scorer is compared with scikit-learn, beside the rows made for its cuts."""

_TRAINING_SCORES: Final = 10_001
"""Up to here every training score is kept; of more, as many evenly spaced ones: percentiles are exact to 1e-4."""

WALK_ROWS: Final = 64
"""Up to here walking the trees is cheaper than preparing a block."""

NUMPY_ROWS: Final = 10_000
"""Up to here numpy scores in less time than importing numba takes."""

_CHUNK_ROWS: Final = 131_072
"""Rows per task: more find few more equal rows, and a task's arrays stay below 16 MiB."""

_THREAD_ROWS: Final = 50_000
"""Rows that repay another thread: two halves of 65,536 find fewer equal rows, and cost a third more in all."""

_KERNELS: Final = "fraud_assets.model.scorer_kernels"
"""Imported by name when first needed."""

_TWO: Final = np.array(2.0)
"""An array, since numpy converts a Python number at every call."""


class ScorerArtifactError(FraudAssetsError):
    """A folder does not hold a scorer that this release may trust."""


def is_anomaly(scores: np.ndarray, threshold: float) -> np.ndarray:
    """Return which scores lie above a version's threshold; one that ties with it does not."""
    return scores > threshold


class Blocks(NamedTuple):
    """Rows in the order and form in which blocks of them are evaluated."""

    ranks: np.ndarray  # uint16 (n_features, n_samples): how many of its feature's cuts lie below a value
    first: np.ndarray  # int32 per row: the first row with the same ranks
    order: np.ndarray  # int32: those first rows, alike ones together
    ends: np.ndarray  # int32 per block: where it ends in `order`
    has_nan: np.ndarray  # bool per row: its ranks do not say which way it goes
    finite: bool


@dataclass(frozen=True, eq=False)
class Scorer:
    """Scores rows exactly as `-pipeline.decision_function` does: higher is more suspicious, 0 is the boundary."""

    nodes: np.ndarray  # scorer_compiler.NODE
    ordinals: np.ndarray  # uint32 per node: a split's rank among its feature's cuts, a leaf's place in `values`
    roots: np.ndarray  # uint32, a node per tree, padded to whole groups
    values: np.ndarray  # float64, the distinct path lengths
    training_scores: np.ndarray  # float64, sorted; empty when unknown
    feature_names: tuple[str, ...]
    denominator: float  # minus the trees times their average path length
    offset: float
    steps: int  # the longest way from a root to a leaf
    threshold: float
    sklearn_version: str

    @classmethod
    def from_pipeline(cls, pipeline: "Pipeline", *, threshold: float = 0.0) -> Self:
        """Return a scorer of a fitted StandardScaler (optional) and IsolationForest, compared with them bit for bit.

        Raises ScorerMismatch where a step is unknown, the forest cannot be compiled, or a score differs.
        """
        scorer = cls(**compile_forest(pipeline), training_scores=np.empty(0), threshold=float(threshold))
        scorer.assert_equal_scores(pipeline, probes(scorer.cuts))
        return scorer

    def score(self, X: np.ndarray) -> np.ndarray:  # noqa: N803  scikit-learn's name
        """Return float64 (n_samples,) for float64 X (n_samples, n_features), bit for bit scikit-learn's.

        Columns are in the order of `feature_names`. NaN takes the side that each split of the forest chose for
        missing values; infinity is refused (ValueError), as StandardScaler refuses it. Both are scikit-learn's way.
        """
        X = np.ascontiguousarray(X, np.float64)  # noqa: N806
        if X.ndim != 2 or X.shape[1] != len(self.feature_names):
            raise ValueError(f"X has shape {X.shape}; expected (n_samples, {len(self.feature_names)})")
        scores = np.empty(len(X))
        if len(X) <= NUMPY_ROWS and _KERNELS not in sys.modules:
            finite = self._score_with_numpy(X, scores)
        elif len(X) <= WALK_ROWS:
            finite = self._score_by_walking(X, scores)
        else:
            finite = self._score_in_chunks(X, scores)
        if not finite:
            raise ValueError("X holds an infinite value, which scikit-learn refuses too")
        return scores

    def percentile(self, scores: np.ndarray) -> np.ndarray:
        """Return the share of training rows that scored lower, NaN when the training scores are unknown."""
        known = self.training_scores
        if not len(known):
            return np.full(np.shape(scores), np.nan)
        if len(scores) <= NUMPY_ROWS or len(known) > np.iinfo(np.uint16).max:
            return np.searchsorted(known, scores, side="left") / len(known)
        # The share is a rank among the training scores, as a value's is among the cuts of its feature.
        ranks, has_nan = np.empty((1, len(scores)), np.uint16), np.empty(len(scores), np.bool_)
        _kernels().rank_rows(np.ascontiguousarray(scores)[:, None], *self._score_ranking, ranks, has_nan)
        return ranks[0] / len(known)

    def assert_equal_scores(self, pipeline: "Pipeline", X: np.ndarray) -> None:  # noqa: N803
        """Assert, or raise ScorerMismatch, that each of the three ways of scoring X gives the pipeline's very bits."""
        X = np.ascontiguousarray(X, np.float64)  # noqa: N806
        expected = sklearn_scores(pipeline, X)
        scores = np.empty(len(X))
        ways = {self._score_in_chunks: len(X), self._score_by_walking: len(X), self._score_with_numpy: 1_000}
        for way, n in ways.items():
            way(X[:n], scores[:n])
            differing = np.count_nonzero(scores[:n].view(np.int64) != expected[:n].view(np.int64))
            if differing:
                raise ScorerMismatch(f"{differing} of {len(X)} scores differ from scikit-learn {self.sklearn_version}")

    def save(self, folder: Path) -> None:
        """Write the arrays, without pickle, and a manifest that holds a digest of everything."""
        folder.mkdir(parents=True, exist_ok=True)
        for name in _ARRAYS:
            np.save(folder / f"{name}.npy", getattr(self, name), allow_pickle=False)
        fields = ("sklearn_version", "feature_names", "threshold", "denominator", "offset", "steps")
        manifest = {
            "format": FORMAT,
            "scorer_version": metadata.version("fraud-assets"),
            **{name: getattr(self, name) for name in fields},
        }
        manifest["digest"] = _digest(folder, manifest)
        (folder / "manifest.json").write_text(json.dumps(manifest, indent=2) + "\n")

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Return the scorer that was saved in a folder; needs numpy alone.

        Raises ScorerArtifactError for no scorer, another layout, a changed file, or another scikit-learn installed.
        """
        try:
            manifest = json.loads((folder / "manifest.json").read_text())
            if manifest["format"] != FORMAT:
                raise ScorerArtifactError(f"{folder} has layout {manifest['format']}; this release reads {FORMAT}")
            if manifest.pop("digest") != _digest(folder, manifest):
                raise ScorerArtifactError(f"{folder} was changed after it was written: its digest differs")
        except (FileNotFoundError, json.JSONDecodeError, KeyError, TypeError) as error:
            raise ScorerArtifactError(
                f"{folder} does not hold a whole compiled scorer: {type(error).__name__} {error}"
            ) from error
        compiled_for = manifest["sklearn_version"]
        try:
            installed = metadata.version("scikit-learn")
        except metadata.PackageNotFoundError:  # nothing here could score differently
            installed = compiled_for
        if installed != compiled_for:
            raise ScorerArtifactError(
                f"{folder} reproduces scikit-learn {compiled_for}, and {installed} is installed: train anew"
            )
        del manifest["format"], manifest["scorer_version"]
        manifest["feature_names"] = tuple(manifest["feature_names"])
        return cls(**{name: np.load(folder / f"{name}.npy", allow_pickle=False) for name in _ARRAYS}, **manifest)

    @cached_property
    def cuts(self) -> list[np.ndarray]:
        """The sorted cuts of each feature: a split sends the values up to its cut to the left."""
        splits = self.nodes[self.nodes["left"] != np.arange(len(self.nodes))]
        return [np.unique(splits["cut"][splits["feature"] == f]) for f in range(len(self.feature_names))]

    @cached_property
    def _columns(self) -> dict[str, np.ndarray]:
        return {name: np.ascontiguousarray(self.nodes[name]) for name in self.nodes.dtype.names or ()}

    @cached_property
    def _ranking(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return _kernels().prepare_ranking(self.cuts)

    @cached_property
    def _score_ranking(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return _kernels().prepare_ranking([self.training_scores])

    def finish(self, exponents: np.ndarray) -> np.ndarray:
        """Turn exponents into scores, in place, by the rest of scikit-learn's expressions.

        The power is numpy's, as there. The negation belongs to them: it decides the sign of a zero. Only the last
        step writes where the exponents stood: numpy is slow to see that a step on one row may overwrite its input.
        """
        return np.negative(-self.offset - np.power(_TWO, exponents), exponents)

    def leaves(self, rows: np.ndarray) -> np.ndarray:
        """Return the node of each row's leaf, (n_roots, n_samples), with numpy alone: all walks step together."""
        at = np.repeat(self.roots[:, None], len(rows), axis=1)
        for _ in range(self.steps):
            value = rows[np.arange(len(rows)), self._columns["feature"][at]]
            right = (value > self._columns["cut"][at]) | (np.isnan(value) & (self._columns["nan_right"][at] == 1))
            at = self._columns["left"][at] + right
        return at

    def _score_with_numpy(self, rows: np.ndarray, scores: np.ndarray) -> bool:
        """Score some rows at a time."""
        for start in range(0, len(rows), 512):
            block = rows[start : start + 512]
            total = np.zeros(len(block))
            for leaf in self.leaves(block):  # in scikit-learn's order of trees: a sum's last bits depend on it
                total += self.values[self.ordinals[leaf]]
            scores[start : start + 512] = self.finish(total / self.denominator)
        return not np.isinf(rows).any()

    def _score_by_walking(self, rows: np.ndarray, scores: np.ndarray) -> bool:
        finite = _kernels().walk(
            rows, self.nodes, self.ordinals, self.roots, self.values, self.steps, self.denominator, scores
        )
        self.finish(scores)
        return finite

    def _score_in_chunks(self, rows: np.ndarray, scores: np.ndarray) -> bool:
        return in_chunks(self._score_chunk, rows, scores)

    def blocks(self, rows: np.ndarray) -> "Blocks":
        """Return rows as the kernels take many of them: ranks among the cuts, equal rows once, alike rows together."""
        kernels, n = _kernels(), len(rows)
        ranks = np.empty((rows.shape[1], n), np.uint16)
        has_nan = np.zeros(n, np.bool_)
        finite = kernels.rank_rows(rows, *self._ranking, ranks, has_nan)
        first, distinct, ends = np.empty(n, np.int32), np.empty(n, np.int32), np.empty(n, np.int32)
        distinct = distinct[: kernels.find_equal(ranks, first, distinct)]
        return Blocks(ranks, first, distinct, ends[: kernels.gather_alike(ranks, distinct, ends)], has_nan, finite)

    def _score_chunk(self, rows: np.ndarray, scores: np.ndarray) -> bool:
        if max(map(len, self.cuts)) > np.iinfo(np.uint16).max:
            return self._score_by_walking(rows, scores)
        ranks, first, distinct, ends, has_nan, finite = self.blocks(rows)
        if not finite:
            return False
        _kernels().sum_blocks(
            ranks, distinct, ends, self.nodes, self.ordinals, self.roots, self.values, self.denominator, scores
        )
        scores[distinct] = self.finish(scores[distinct])
        scores[:] = scores[first]
        if has_nan.any():  # a rank cannot say which side each split chose for missing values
            missing = np.empty(np.count_nonzero(has_nan))
            self._score_by_walking(rows[has_nan], missing)
            scores[has_nan] = missing
        return True


def fit_offset(pipeline: "Pipeline", X: np.ndarray, contamination: float) -> tuple[Scorer, np.ndarray]:  # noqa: N803
    """Give a pipeline fitted with contamination='auto' what fitting with `contamination` would have given it.

    scikit-learn spends most of such a fit on scoring the training rows X; here the compiled scorer does, once, and is
    returned with the fraud scores of X. It was compared with the pipeline on rows made for its cuts, and on some of X.
    Raises ScorerMismatch where the forest cannot be compiled, or a score differs: fit the pipeline anew.
    """
    forest: Any = pipeline[-1]
    scorer = Scorer(**{**compile_forest(pipeline), "offset": 0.0}, training_scores=np.empty(0), threshold=0.0)
    samples = -scorer.score(X)
    forest.offset_ = np.percentile(samples, 100.0 * contamination)
    forest.contamination = contamination
    scores = -(samples - forest.offset_)
    kept = np.sort(scores)
    if len(kept) > _TRAINING_SCORES:
        kept = kept[np.linspace(0, len(kept) - 1, _TRAINING_SCORES).round().astype(np.int64)]
    scorer = replace(scorer, offset=float(forest.offset_), training_scores=kept)
    for rows in (probes(scorer.cuts), X[:_COMPARED_ROWS]):
        scorer.assert_equal_scores(pipeline, rows)
    return scorer, scores


def in_chunks(fill: Callable[[np.ndarray, np.ndarray], bool], rows: np.ndarray, out: np.ndarray) -> bool:
    """Fill `out` from `rows` by tasks on all cores, of a size that the kernels like; return whether each said True."""
    n, threads = len(rows), _kernels().THREADS
    parts = max(-(-n // _CHUNK_ROWS), min(threads, n // _THREAD_ROWS))
    if parts <= 1:
        return fill(rows, out)
    chunks = [slice(n * part // parts, n * (part + 1) // parts) for part in range(parts)]
    with ThreadPoolExecutor(threads) as pool:
        return all(pool.map(lambda chunk: fill(rows[chunk], out[chunk]), chunks))


def warm() -> None:
    """Compile every kernel, or load it from numba's cache: no later call waits for a compiler."""
    _kernels()


def _kernels() -> ModuleType:
    return sys.modules.get(_KERNELS) or importlib.import_module(_KERNELS)


def _digest(folder: Path, manifest: dict[str, Any]) -> str:
    digest = hashlib.sha256(json.dumps(manifest, sort_keys=True).encode())
    for name in _ARRAYS:
        digest.update((folder / f"{name}.npy").read_bytes())
    return digest.hexdigest()
