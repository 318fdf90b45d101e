"""The machine code of the attribution: each row's summed feature contributions in a compiled forest.

Only loops that numba compiles belong here. They find leaves as those of `scorer_kernels` do, and add up what a leaf
contributes. `fraud_assets.model.attribution` says what that is, and imports this late.
"""

from typing import Final

import numba
import numpy as np

from fraud_assets.model.scorer_compiler import GROUP
from fraud_assets.model.scorer_kernels import (
    BLOCK,
    F8,
    I4,
    NODES,
    RANKS,
    ROWS,
    U4,
    compiled,
    fill_block,
    step,
    write_codes,
)

LANES: Final = 8
"""Features that are added together, as one or two vector instructions; a multiple of them is stored."""

_TABLE = numba.float64[:, :, ::1]


@compiled(
    ROWS, NODES, U4, U4, U4, F8, numba.int64, numba.float64, _TABLE, F8, numba.float64[:, ::1], returns=numba.boolean
)
def walk_explained(rows, nodes, ordinals, places, roots, values, steps, denominator, table, exponents, sums):
    """Write the exponents of rows, as `scorer_kernels.walk` does, and their summed contributions, in one walk.

    `table` is (n_panels, n_leaves, LANES), `places` says where in it a leaf stands. Returns False when a value is
    infinite.
    """
    infinite = False
    panels, n_features = len(table), sums.shape[1]
    added = np.empty((panels, LANES))
    for i in range(len(rows)):
        row = rows[i]
        for value in row:
            infinite |= np.isinf(value)
        total = 0.0
        added[:] = 0.0
        for tree in range(0, len(roots), GROUP):
            a, b, c, d = roots[tree], roots[tree + 1], roots[tree + 2], roots[tree + 3]
            e, f, g, h = roots[tree + 4], roots[tree + 5], roots[tree + 6], roots[tree + 7]
            for _ in range(steps):
                a, b, c, d = step(row, nodes, a), step(row, nodes, b), step(row, nodes, c), step(row, nodes, d)
                e, f, g, h = step(row, nodes, e), step(row, nodes, f), step(row, nodes, g), step(row, nodes, h)
            for leaf in (a, b, c, d, e, f, g, h):
                total += values[ordinals[leaf]]
                place = places[leaf]
                for panel in range(panels):
                    for lane in range(LANES):
                        added[panel, lane] += table[panel, place, lane]
        exponents[i] = total / denominator
        for feature in range(n_features):
            sums[i, feature] = added[feature // LANES, feature % LANES]
    return not infinite


@compiled(RANKS, I4, I4, NODES, U4, U4, U4, _TABLE, numba.float64[:, ::1])
def sum_contributions(ranks, order, ends, nodes, ordinals, roots, first, table, sums):
    """Write the summed contributions of rows, block by block.

    A leaf's ordinal is its place among its tree's, which begin at `first` of the tree. What a tree gives to all rows
    of a block alike is added once.
    """
    n_features = len(ranks)
    block = np.empty((n_features, BLOCK), np.uint16)
    low, high = np.empty(n_features, np.int64), np.empty(n_features, np.int64)
    codes = np.empty((64, BLOCK), np.uint16)
    live = np.empty(len(nodes), np.int32)
    todo, operands = np.empty(64, np.uint32), np.empty(64, np.int32)
    varying, offsets = np.empty(GROUP, np.uint64), np.empty(GROUP, np.uint64)
    panels = len(table)
    total = np.empty((panels, BLOCK, LANES))
    shared = np.empty((panels, LANES))
    start = 0
    for end in ends:
        m = end - start
        rows = fill_block(ranks, order[start:end], block, low, high)
        total[:, :m] = 0.0
        shared[:] = 0.0
        for tree in range(0, len(roots), GROUP):
            count = 0
            for slot in range(GROUP):
                root = roots[tree + slot]
                if write_codes(codes, slot, rows, block, low, high, root, nodes, ordinals, live, todo, operands):
                    leaf = np.uint64(first[tree + slot]) + np.uint64(codes[slot, 0])
                    for panel in range(panels):
                        for lane in range(LANES):
                            shared[panel, lane] += table[panel, leaf, lane]
                else:
                    varying[count], offsets[count] = slot, first[tree + slot]
                    count += 1
            for panel in range(panels):
                leaves, sums_of = table[panel], total[panel]
                for k in range(0, count - 1, 2):  # two trees at a time: a row's sums are written half as often
                    a, b, x, y = varying[k], varying[k + 1], offsets[k], offsets[k + 1]
                    for r in range(m):
                        i, j = x + np.uint64(codes[a, r]), y + np.uint64(codes[b, r])
                        for lane in range(LANES):
                            sums_of[r, lane] += leaves[i, lane] + leaves[j, lane]
                if count & 1:
                    a, x = varying[count - 1], offsets[count - 1]
                    for r in range(m):
                        i = x + np.uint64(codes[a, r])
                        for lane in range(LANES):
                            sums_of[r, lane] += leaves[i, lane]
        for r in range(m):
            row = order[start + r]
            for f in range(n_features):
                sums[row, f] = shared[f // LANES, f % LANES] + total[f // LANES, r, f % LANES]
        start = end
