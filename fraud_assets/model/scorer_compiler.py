"""From a fitted Pipeline to the arrays of the compiled scorer, and the comparison that proves them equal.

What belongs here: everything about the scorer that needs scikit-learn, which is imported late. What does not: scoring
(`scorer`) and fitting (`training`).

scikit-learn tests `float32((x - mean) / scale) <= threshold`, which is monotone in x, so every split has a largest raw
x that goes left: the cut. Scaler and cast disappear, exactly. Splits whose sides lead to one path length disappear too.
"""

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from fraud_assets.errors import FraudAssetsError

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline

NODE: Final = np.dtype([("cut", "<f8"), ("left", "<u4"), ("feature", "<u2"), ("nan_right", "<u2")])
"""16 bytes: a step of a walk touches one cache line. The right side stands after the left; a leaf is its own left."""

GROUP: Final = 8
"""Trees that the kernels walk at once, and add in one pass over a block while the sum stays in a register."""


class ScorerMismatch(FraudAssetsError):  # noqa: N818  it is the state that callers name: fall back to the Pipeline
    """The compiled scorer does not reproduce scikit-learn's scores, or cannot; the Pipeline itself still scores."""


def compile_forest(pipeline: "Pipeline") -> dict[str, Any]:
    """Return the forest's share of a Scorer's fields: its splits on raw values, without those that decide nothing.

    Raises ScorerMismatch where a step is unknown, or path lengths or features outnumber 16 bits.
    """
    import sklearn
    from sklearn.ensemble import IsolationForest
    from sklearn.ensemble._iforest import _average_path_length
    from sklearn.preprocessing import StandardScaler

    *before, forest = (step for _, step in pipeline.steps)
    if type(forest) is not IsolationForest or [type(step) for step in before] not in ([], [StandardScaler]):
        raise ScorerMismatch(f"only StandardScaler and IsolationForest can be compiled, not {pipeline.steps}")
    denominator = float(len(forest.estimators_) * _average_path_length([forest.max_samples_])[0])
    if not denominator:
        raise ScorerMismatch("trees of one row each have no path to measure")
    n_features: int = vars(forest)["n_features_in_"]
    scaler: Any = before[0] if before else StandardScaler(with_mean=False, with_std=False)
    mean = scaler.mean_ if scaler.with_mean else np.zeros(n_features)
    scale = scaler.scale_ if scaler.with_std else np.ones(n_features)
    averages = [_average_path_length(estimator.tree_.n_node_samples) for estimator in forest.estimators_]
    return {
        **_compile_trees(forest, np.concatenate(averages), mean, scale),
        "feature_names": tuple(map(str, getattr(pipeline, "feature_names_in_", range(n_features)))),
        "denominator": -denominator,
        "offset": float(forest.offset_),
        "sklearn_version": sklearn.__version__,
    }


def _compile_trees(forest: Any, average: np.ndarray, mean: np.ndarray, scale: np.ndarray) -> dict[str, Any]:
    # All trees one after another; `first` is the root of each.
    trees = [estimator.tree_ for estimator in forest.estimators_]
    sizes = [tree.node_count for tree in trees]
    first = np.cumsum([0, *sizes[:-1]])
    tree_of = np.repeat(np.arange(len(trees)), sizes)
    left, right, threshold, feature, missing_left = (
        np.concatenate([getattr(tree, name) for tree in trees])
        for name in ("children_left", "children_right", "threshold", "feature", "missing_go_to_left")
    )
    split = left >= 0
    left, right = left + first[tree_of], right + first[tree_of]
    columns = np.stack(forest.estimators_features_)
    if columns.shape[1] < len(mean):  # each tree has columns of its own; scikit-learn ignores them otherwise
        feature = columns[tree_of, feature]
    depth = np.concatenate([tree.compute_node_depths() for tree in trees])
    values, ordinal = np.unique(depth + average - 1.0, return_inverse=True)  # its expression, in its order
    values = np.append(values, 0.0)
    for number, what in ((len(values), "distinct path lengths"), (len(mean), "features")):
        if number > np.iinfo(np.uint16).max:
            raise ScorerMismatch(f"{number} {what} do not fit 16 bits")

    for level in range(int(depth.max()), 0, -1):
        at = np.flatnonzero(split & (depth == level))
        at = at[~split[left[at]] & ~split[right[at]] & (ordinal[left[at]] == ordinal[right[at]])]
        split[at], ordinal[at] = False, ordinal[left[at]]

    old, steps = _kept_nodes(first, left, right, split, tree_of)
    new = np.zeros(len(split), np.int64)
    new[old] = np.arange(len(old))
    nodes = np.zeros(len(old) + 1, NODE)  # the last is the leaf of the trees that fill the last group
    nodes["cut"], nodes["left"] = np.inf, np.arange(len(nodes))
    ordinals = np.append(ordinal[old], len(values) - 1).astype(np.uint32)
    inner, old = np.flatnonzero(split[old]), old[split[old]]
    cut = _largest_going_left(threshold[old], mean[feature[old]], scale[feature[old]])
    for name, column in (("cut", cut), ("left", new[left[old]]), ("feature", feature[old])):
        nodes[name][inner] = column
    nodes["nan_right"][inner] = missing_left[old] == 0
    for f in range(len(mean)):
        of_feature = feature[old] == f
        ordinals[inner[of_feature]] = np.unique(cut[of_feature], return_inverse=True)[1]
    roots = np.append(new[first], np.full(-len(first) % GROUP, len(nodes) - 1)).astype(np.uint32)
    return {"nodes": nodes, "ordinals": ordinals, "roots": roots, "values": values, "steps": steps}


def _kept_nodes(
    level: np.ndarray, left: np.ndarray, right: np.ndarray, split: np.ndarray, tree_of: np.ndarray
) -> tuple[np.ndarray, int]:
    """Return the nodes below the roots, tree by tree and level by level, siblings side by side; and the longest way."""
    levels = []
    while len(level):
        levels.append(level)
        inner = level[split[level]]
        level = np.column_stack([left[inner], right[inner]]).ravel()
    kept = np.concatenate(levels)
    return kept[np.argsort(tree_of[kept], kind="stable")], len(levels) - 1


def sklearn_scores(pipeline: "Pipeline", X: np.ndarray) -> np.ndarray:  # noqa: N803
    """Return scikit-learn's fraud scores of X: its own with the sign flipped, so that higher is more suspicious.

    The whole pipeline decides, scaler included. X goes in under the names that the pipeline was fitted with, if any.
    What scores without this function is compared with it.
    """
    rows: Any = X
    if hasattr(pipeline, "feature_names_in_"):
        import pandas as pd

        rows = pd.DataFrame(X, columns=pipeline.feature_names_in_)
    with np.errstate(over="ignore", invalid="ignore"):  # its cast to float32 and its check for infinity, on huge values
        return -pipeline.decision_function(rows)


def probes(cuts: list[np.ndarray], rows: int = 10_000) -> np.ndarray:
    """Return rows that betray a wrong split: at and next to every cut, extremes, zeros of both signs, NaN."""
    random = np.random.default_rng(0)
    largest, tiny = np.finfo(np.float64).max, np.finfo(np.float64).smallest_subnormal
    extremes = np.array([0.0, -0.0, largest, -largest, tiny, -tiny, 1e38, -1e38, 1e-300])
    with np.errstate(over="ignore"):  # the largest number has an infinite neighbour
        near = [np.concatenate([own, np.nextafter(own, np.inf), np.nextafter(own, -np.inf), extremes]) for own in cuts]
    near = [random.permutation(own[np.isfinite(own)]) for own in near]
    matrix = np.column_stack([np.resize(own, max(rows, *map(len, near))) for own in near])
    matrix[random.random(matrix.shape) < 0.05 / len(cuts)] = np.nan
    return matrix


def _largest_going_left(threshold: np.ndarray, mean: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Return per split the largest finite x with float32((x - mean) / scale) <= threshold, or -inf.

    Bisection over the ordering of float64 bit patterns, read as integers: 64 steps reach the exact boundary.
    """

    def value(key: np.ndarray) -> np.ndarray:
        return np.where(key < 0, key ^ np.int64(2**63 - 1), key).view(np.float64)

    def goes_left(key: np.ndarray) -> np.ndarray:
        with np.errstate(over="ignore"):
            return ((value(key) - mean) / scale).astype(np.float32) <= threshold

    largest = np.float64(np.finfo(np.float64).max).view(np.int64)
    low, high = np.full(len(threshold), ~largest), np.full(len(threshold), largest)
    for _ in range(64):
        middle = (low & high) + ((low ^ high) >> 1)  # their mean, rounded down, without overflow
        middle += middle < high
        left = goes_left(middle)
        low, high = np.where(left, middle, low), np.where(left, high, np.maximum(middle - 1, low))
    return np.where(goes_left(low), value(low), -np.inf)
