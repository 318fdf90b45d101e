"""The machine code of the compiled scorer: summed path lengths of rows in a compiled forest.

Loops that numba compiles belong here, and the tables they read. What a forest is and what a score is stand in
`fraud_assets.model.scorer`, which imports this module late. Kernels free the GIL, so that threads share the work.
An exponent is a row's summed path length over minus the sum expected of an average row: a score is two to its power.
"""

from collections.abc import Callable
from typing import Any, Final

import numba
import numpy as np
from numba.core import config

from fraud_assets.model.scorer_compiler import GROUP, NODE

BLOCK: Final = 1024
"""Rows that are evaluated together: enough to repay walking a tree, few enough for the first two caches."""

_SAMPLE: Final = 32
"""Rows looked at to choose a split: enough to find the widest feature, few enough to cost nothing."""

_CELLS: Final = 65_536
"""A value's cell is the upper half of its float32: 128 cells in each octave, so few cuts share one."""

THREADS: Final[int] = config.NUMBA_NUM_THREADS  # pyright: ignore[reportAttributeAccessIssue]
"""The cores that this process may use."""

ROWS: Final = numba.types.Array(numba.float64, 2, "C", readonly=True)
"""Read-only, so that what pyarrow and pandas hand out is taken as it is."""

NODES = numba.from_dtype(NODE)[::1]
I4, U4, F8, _BOOL = numba.int32[::1], numba.uint32[::1], numba.float64[::1], numba.boolean[::1]
RANKS = numba.uint16[:, ::1]


def compiled(*arguments: Any, returns: Any = numba.void) -> Callable[..., Any]:
    """Compile a function for one signature, without the GIL, or take its machine code from numba's cache.

    One signature means that no array, read-only say, makes a caller wait for a second compilation.
    """

    def compile_now(function: Callable[..., Any]) -> Any:
        try:
            return numba.njit(returns(*arguments), nogil=True, cache=True)(function)
        except (RuntimeError, OSError):  # numba found no folder that it may write, or cannot: compile for this process
            return numba.njit(returns(*arguments), nogil=True)(function)

    return compile_now


@numba.njit
def step(row, nodes, at):
    """Return the node to which a row goes from one; a leaf leads to itself."""
    node = nodes[at]
    value = row[node.feature]
    return np.uint32(node.left + np.uint32((value > node.cut) | (np.isnan(value) & (node.nan_right == 1))))


def prepare_ranking(cuts: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return what `rank_rows` needs: sorted cuts padded to one length, where each cell's begin, how many a cell has."""
    padded = np.full((len(cuts), max(1, *map(len, cuts))), np.inf)
    starts, windows = np.zeros((len(cuts), _CELLS), np.uint16), np.zeros(len(cuts), np.int32)
    for f, own in enumerate(cuts):
        if len(own):  # otherwise no split asks for this feature
            padded[f, : len(own)] = own
            found = np.empty(len(own), np.int32)
            find_cells(own, found)
            count = np.bincount(found, minlength=_CELLS)
            windows[f] = count.max()
            # A window may begin early, since the cuts before its cell lie below every value of the cell.
            starts[f] = np.minimum(np.cumsum(count) - count, len(own) - windows[f])
    return padded, starts, windows


@compiled(ROWS, NODES, U4, U4, F8, numba.int64, numba.float64, F8, returns=numba.boolean)
def walk(rows, nodes, ordinals, roots, values, steps, denominator, exponents):
    """Write the exponent of rows, one by one, NaN included; return False when a value is infinite."""
    infinite = False
    for i in range(len(rows)):
        row = rows[i]
        for value in row:
            infinite |= np.isinf(value)
        total = 0.0
        for tree in range(0, len(roots), GROUP):
            # Eight walks at once, since each step waits for memory; a leaf leads to itself.
            a, b, c, d = roots[tree], roots[tree + 1], roots[tree + 2], roots[tree + 3]
            e, f, g, h = roots[tree + 4], roots[tree + 5], roots[tree + 6], roots[tree + 7]
            for _ in range(steps):
                a, b, c, d = step(row, nodes, a), step(row, nodes, b), step(row, nodes, c), step(row, nodes, d)
                e, f, g, h = step(row, nodes, e), step(row, nodes, f), step(row, nodes, g), step(row, nodes, h)
            for leaf in (a, b, c, d, e, f, g, h):
                total += values[ordinals[leaf]]
        exponents[i] = total / denominator
    return not infinite


@compiled(F8, I4)
def find_cells(values, found):
    """Write each value's cell, which never falls as values rise: the bits of floats are ordered as integers are.

    The sum turns -0.0 into 0.0, which is equal to it and must not lie in a cell above.
    """
    for r in range(len(values)):
        bits = np.int32(np.float32(values[r] + 0.0).view(np.int32) >> 16)
        found[r] = (bits if bits >= 0 else bits ^ 0x7FFF) + 0x8000


@compiled(ROWS, numba.float64[:, ::1], RANKS, I4, RANKS, _BOOL, returns=numba.boolean)
def rank_rows(rows, cuts, starts, windows, ranks, has_nan):
    """Write ranks (n_features, n_samples): how many of its feature's cuts lie below a value. False on infinity.

    The value's cell says where a window of cuts begins, and a binary search within it finds the rank.
    """
    values, found = np.empty(BLOCK), np.empty(BLOCK, np.int32)
    infinite = False
    for start in range(0, len(rows), BLOCK):
        m = min(BLOCK, len(rows) - start)
        for f in range(rows.shape[1]):
            for r in range(m):
                value = rows[start + r, f]
                values[r] = value
                infinite |= np.isinf(value)
                has_nan[start + r] |= np.isnan(value)
            find_cells(values[:m], found)
            for r in range(m):
                found[r] = starts[f, found[r]]
            length = windows[f]
            while length > 0:  # one step for all rows before the next, so that no row waits for its own memory
                half = np.int32((length + 1) >> 1)
                for r in range(m):
                    at = found[r]
                    found[r] = at + half * (cuts[f, at + half - 1] < values[r])
                length -= half
            for r in range(m):
                ranks[f, start + r] = found[r]
    return not infinite


@compiled(RANKS, I4, I4, returns=numba.int64)
def find_equal(ranks, first, order):
    """Write for every row the first row with its ranks; list those in order; return how many there are."""
    n_features, n = ranks.shape
    bits = 1
    while 1 << bits < 2 * n:
        bits += 1
    table = np.full(1 << bits, -1, np.int32)
    mask = (1 << bits) - 1
    distinct = 0
    for i in range(n):
        key = np.uint64(0)
        for f in range(n_features):
            key = (key ^ np.uint64(ranks[f, i])) * np.uint64(0x9E3779B97F4A7C15)
        slot = np.int64(key >> np.uint64(64 - bits))
        while True:
            row = table[slot]
            if row < 0:
                table[slot] = row = i
                order[distinct] = i
                distinct += 1
                break
            equal = True
            for f in range(n_features):
                equal &= ranks[f, row] == ranks[f, i]
            if equal:
                break
            slot = (slot + 1) & mask
        first[i] = row
    return distinct


@compiled(RANKS, I4, I4, returns=numba.int64)
def gather_alike(ranks, order, ends):
    """Order rows so that those in one block have similar ranks; return the number of blocks.

    A range of rows is split on the feature whose ranks spread most, at the sample's mean, until it fits a block or
    its rows look equal.
    """
    n_features, n = len(ranks), len(order)
    other = np.empty(n, np.int32)
    stack = [(0, n)]
    blocks = 0
    while stack:
        start, stop = stack.pop()
        split = start
        if stop - start > BLOCK:
            widest, pivot, chosen = 0, 0, 0
            stride = (stop - start) // _SAMPLE
            for f in range(n_features):
                low = high = total = np.int64(ranks[f, order[start]])
                for s in range(1, _SAMPLE):
                    rank = np.int64(ranks[f, order[start + s * stride]])
                    low, high, total = min(low, rank), max(high, rank), total + rank
                if high - low > widest:
                    widest, pivot, chosen = high - low, total // _SAMPLE, f
            if widest > 0:
                right = 0
                for i in range(start, stop):
                    row = order[i]
                    goes_right = ranks[chosen, row] > pivot
                    order[split] = row
                    other[right] = row
                    split += not goes_right
                    right += goes_right
                order[split:stop] = other[:right]
        if start < split < stop:
            stack.append((split, stop))
            stack.append((start, split))
        else:
            for end in range(start + BLOCK, stop, BLOCK):
                ends[blocks] = end
                blocks += 1
            ends[blocks] = stop
            blocks += 1
    return blocks


@numba.njit
def fill_block(ranks, own, block, low, high):
    """Copy the ranks of a block's rows, note each feature's lowest and highest; return how many places are filled.

    Those are whole vectors, so that loops over them have no remainder.
    """
    m = len(own)
    for f in range(len(ranks)):
        lowest = highest = ranks[f, own[0]]
        for r in range(m):
            rank = ranks[f, own[r]]
            block[f, r] = rank
            lowest, highest = min(lowest, rank), max(highest, rank)
        low[f], high[f] = lowest, highest
        block[f, m:] = lowest
    return (m + 63) & ~63


@numba.njit(inline="always")
def write_codes(codes, slot, rows, block, low, high, root, nodes, ordinals, live, todo, operands):
    """Write the ordinal of each row's leaf in one tree into `codes[slot]`; return whether all rows share that leaf.

    A split that sends the whole block one way costs one comparison; of every other, one compare-and-blend over the
    block's rows chooses between the leaf codes of its sides, bottom-up, in the slots above.
    """
    # The live splits and their leaves in preorder: read backwards, both sides come before their split.
    count, waiting = 0, 1
    todo[0] = root
    while waiting > 0:
        waiting -= 1
        at = todo[waiting]
        while True:
            node, ordinal = nodes[at], ordinals[at]
            if node.left == at:
                live[count] = ~np.int32(ordinal)
                break
            if high[node.feature] <= ordinal:
                at = node.left
            elif low[node.feature] > ordinal:
                at = node.left + np.uint32(1)
            else:
                live[count] = at
                todo[waiting] = node.left + np.uint32(1)
                todo[waiting + 1] = node.left
                waiting += 2
                break
        count += 1
    if count == 1:
        codes[slot, :rows] = ~live[0]
        return True
    # A leaf is a constant operand, marked by its complement; any other is the vector at `top`.
    top = slot - 1
    depth = 0
    for k in range(count - 1, -1, -1):
        if live[k] < 0:
            operands[depth] = live[k]
            depth += 1
            continue
        a, b = operands[depth - 1], operands[depth - 2]
        depth -= 1
        operands[depth - 1] = 0
        node, ordinal = nodes[live[k]], ordinals[live[k]]
        f, rank = np.int64(node.feature), np.uint16(ordinal)  # read once, or no loop is vectorised
        if a < 0:
            if b < 0:
                top += 1
                x, y = np.uint16(~a), np.uint16(~b)
                for r in range(rows):
                    codes[top, r] = x if block[f, r] <= rank else y
            else:
                x = np.uint16(~a)
                for r in range(rows):
                    y = codes[top, r]
                    codes[top, r] = x if block[f, r] <= rank else y
        elif b < 0:
            y = np.uint16(~b)
            for r in range(rows):
                x = codes[top, r]
                codes[top, r] = x if block[f, r] <= rank else y
        else:
            top -= 1
            for r in range(rows):
                x, y = codes[top + 1, r], codes[top, r]
                codes[top, r] = x if block[f, r] <= rank else y
    return False


@compiled(RANKS, I4, I4, NODES, U4, U4, F8, numba.float64, F8)
def sum_blocks(ranks, order, ends, nodes, ordinals, roots, values, denominator, exponents):
    """Write the exponent of rows, block by block."""
    n_features = len(ranks)
    block = np.empty((n_features, BLOCK), np.uint16)
    low, high = np.empty(n_features, np.int64), np.empty(n_features, np.int64)
    codes = np.empty((64, BLOCK), np.uint16)
    live = np.empty(len(nodes), np.int32)
    todo, operands = np.empty(64, np.uint32), np.empty(64, np.int32)
    total = np.empty(BLOCK)
    start = 0
    for end in ends:
        m = end - start
        rows = fill_block(ranks, order[start:end], block, low, high)
        total[:rows] = 0.0
        for tree in range(0, len(roots), GROUP):
            for slot in range(GROUP):
                root = roots[tree + slot]
                write_codes(codes, slot, rows, block, low, high, root, nodes, ordinals, live, todo, operands)
            for r in range(rows):
                depth_sum = total[r]
                for slot in range(GROUP):
                    depth_sum += values[codes[slot, r]]
                total[r] = depth_sum
        for r in range(m):
            exponents[order[start + r]] = total[r] / denominator
        start = end
