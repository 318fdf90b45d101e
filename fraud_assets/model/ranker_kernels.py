"""The loops of the compiled ranker: rows through boosted trees, compiled by numba.

Belongs here: what numba compiles, on arrays alone. What a ranker is, and where its arrays come from, is `ranker`.
"""

import math

import numpy as np
from numba import njit


@njit(cache=True, nogil=True)
def add_leaves(X, roots, feature, threshold, left, right, missing_left, value, out):  # noqa: N803
    """Add to `out`, (n_rows,), the leaf of each tree that a row of X falls into, tree after tree.

    In that order scikit-learn adds them: the sums are the same to the last bit. `left` and `right` count from a tree's
    root; where both are 0 the node is a leaf.
    """
    for row in range(len(X)):
        total = out[row]
        for root in roots:
            at = root
            while left[at] != 0:
                x = X[row, feature[at]]
                goes_left = missing_left[at] if math.isnan(x) else x <= threshold[at]
                at = root + (left[at] if goes_left else right[at])
            total += value[at]
        out[row] = total


@njit(cache=True, nogil=True)
def add_steps(X, roots, feature, threshold, left, right, missing_left, expected, out):  # noqa: N803
    """Add to `out`, (n_rows, n_features), by how much each step on a row's paths moves what is expected of it."""
    for row in range(len(X)):
        for root in roots:
            at = root
            while left[at] != 0:
                x = X[row, feature[at]]
                goes_left = missing_left[at] if math.isnan(x) else x <= threshold[at]
                below = root + (left[at] if goes_left else right[at])
                out[row, feature[at]] += expected[below] - expected[at]
                at = below


def warm() -> None:
    """Compile both for the types that a ranker has, or load them from numba's cache."""
    whole, real = np.zeros(1, np.int32), np.zeros(1)
    tree = (whole, whole, real, whole, whole, np.zeros(1, np.bool_), real)
    add_leaves(np.zeros((1, 1)), *tree, np.zeros(1))
    add_steps(np.zeros((1, 1)), *tree, np.zeros((1, 1)))
