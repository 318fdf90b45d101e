"""How far a metric could be off: intervals by drawing cards again.

A card's transactions resemble each other, and fraud comes in bursts on one card; drawing rows would take them for
independent and give intervals that are too narrow. So whole cards are drawn, with replacement, and a card that is
drawn twice counts twice. Source: Efron and Tibshirani, An Introduction to the Bootstrap (1993), chapters 8 and 13.
"""

from collections.abc import Iterator
from typing import Final

import numpy as np

REPLICATES: Final = 400
"""Ten replicates lie below the lower bound: another seed then moves the bound by a tenth of the interval's width."""

MAXIMUM_ROW_DRAWS: Final = 100_000_000
"""Rows times replicates: above 250,000 rows there are fewer replicates, so that a million take tens of seconds."""

FEWEST_REPLICATES: Final = 100
"""Replicates that are made however many the rows are."""

MINIMUM_CARDS: Final = 10
"""Fewest cards that must hold what is counted, such as fraud: of ten, a replicate draws none one time in e**10."""

_CELLS: Final = 2_000_000
"""Rows times replicates computed at a time: 16 MB for each array."""


def card_weights(cards: int, *, rows: int, replicates: int, seed: int) -> Iterator[np.ndarray]:
    """Give how often each card is drawn in each replicate, in blocks of shape (k, cards); the same for one seed.

    Of `cards` as many are drawn. How many `rows` there are sets how many replicates are made at most, and at once.
    """
    wanted = min(replicates, max(FEWEST_REPLICATES, MAXIMUM_ROW_DRAWS // max(rows, 1)))
    generator = np.random.default_rng(seed)
    at_once = max(1, _CELLS // max(rows, cards, 1))
    for first in range(0, wanted, at_once):
        size = min(at_once, wanted - first)
        drawn = generator.integers(cards, size=(size, cards)) + cards * np.arange(size)[:, None]
        yield np.bincount(drawn.ravel(), minlength=size * cards).reshape(size, cards).astype(np.float64)


def percentile_interval(replicated: np.ndarray) -> tuple[float, float] | None:
    """Return the 2.5th and 97.5th percentile of a metric's replicates, those without a value left out, or None."""
    known = replicated[np.isfinite(replicated)]
    if not len(known):
        return None
    lower, upper = np.quantile(known, [0.025, 0.975])
    return float(lower), float(upper)
