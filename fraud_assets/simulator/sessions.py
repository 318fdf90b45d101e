"""Legitimate life: shopping sessions with bursts and retries, large purchases, trips, cross-border shopping.

Belongs here: the rows of sessions that start on one day, and the shapes that fraud shares with them. Not
here: which of those rows fall on which day (`feed`), and how cards differ (`population`).
"""

from collections.abc import Iterable
from datetime import date
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from fraud_assets.simulator.population import OTHER_PRODUCTS, PRODUCT_C, Floats, Integers, Population, elsewhere

DAY_SECONDS: Final = 86_400

_MEDIAN_AMOUNT: Final = 77.0
"""The genuine legitimate median lies between 75 and 79."""
_PRODUCT_LEVEL: Final = np.array([0.03, -0.25, -0.3, 0.4, -0.5])
"""Log offsets of W, C, H, R, S: R is dear, S and H are cheap."""
_LARGE_SHARE: Final = 0.012
_BURST_SHARE: Final = 0.05
_BURST_EXTRA: Final = 0.8
"""A burst has 2 + Poisson rows; together 13-18 % of rows have another row of the card within five minutes."""
_RETRY_SHARE: Final = 0.36
"""Of a burst's later rows; gives 2.8 % of rows that repeat card and amount within five minutes."""
_STRAY_SHARE: Final = 0.12
"""Of rows: another product than the card's own."""
_CROSS_BORDER_SHARES: Final = (0.05, 0.15)
"""Of sessions of cards at home: of other products, and of product C."""

_ACTIVITY: Final = np.array([2.6, 1.2, 0.9, 2.6, 6.7, 10.2, 11.9, 11.7, 12.1, 13.4, 11.8, 6.6])
"""By two hours of local time: a trough at four, a peak at nineteen."""
_ACTIVITY_BEFORE: Final = np.concatenate([[0.0], np.cumsum(_ACTIVITY) / _ACTIVITY.sum()])
_WEEKDAYS: Final = (0.97, 0.96, 0.98, 1.01, 1.07, 1.04, 0.97)
"""Monday to Sunday; the mean is one."""
_BEFORE_CHRISTMAS: Final = 1.3


class Rows(NamedTuple):
    """Transactions as parallel arrays.

    `card` is a position in the population, `second` counts from midnight UTC of the day on which the session
    starts, `product` and `country` are positions in PRODUCTS and COUNTRIES; scenario 0 is legitimate.
    """

    card: npt.NDArray[Any]
    second: npt.NDArray[Any]
    amount: npt.NDArray[Any]
    product: npt.NDArray[Any]
    country: npt.NDArray[Any]
    scenario: npt.NDArray[Any]


def join_rows(parts: Iterable[Rows]) -> Rows:
    """Return the rows of all parts, one after the other."""
    return Rows(*(np.concatenate(values) for values in zip(*parts, strict=True)))


def season(day: date) -> float:
    """Return the volume of a day relative to a mean day."""
    return _WEEKDAYS[day.weekday()] * (_BEFORE_CHRISTMAS if day.month == 12 and day.day <= 24 else 1.0)


def unfold(rng: np.random.Generator, starts: Floats, sizes: Integers, gaps: Floats) -> tuple[Integers, Integers]:
    """Return (session, second) of each row of sessions of `sizes` rows with mean gaps of `gaps` seconds."""
    session = np.repeat(np.arange(len(sizes)), sizes)
    elapsed = np.cumsum(rng.exponential(size=len(session)) * gaps[session])
    first = np.cumsum(sizes) - sizes
    return session, (starts[session] + elapsed - elapsed[first][session]).astype(np.int64)


def usual_log_amount(rng: np.random.Generator, population: Population, card: Integers, product: Integers) -> Floats:
    """Return log amounts as the owner of the card would spend them."""
    level = np.log(_MEDIAN_AMOUNT) + population.spend_level[card] + _PRODUCT_LEVEL[product]
    return level + rng.normal(scale=0.87, size=len(card))


def price(rng: np.random.Generator, log_amount: Floats, product: Integers) -> Floats:
    """Return amounts as merchants ask them: whole, in cents, or converted to three decimals (product C)."""
    amount = np.clip(np.exp(log_amount), 0.3, 30_000.0)
    draw = rng.random(len(amount))
    asked = np.where((draw < 0.5) & (amount >= 5), np.round(amount), np.round(amount, 2))
    return np.where((product == PRODUCT_C) & (draw < 0.98), np.round(amount, 3), asked)


def draw_legitimate_rows(rng: np.random.Generator, population: Population, day: date, expected_rows: float) -> Rows:
    """Return the legitimate rows of all sessions that start on `day`; about `expected_rows` of them."""
    n = rng.poisson(expected_rows / (1 + _BURST_SHARE * (1 + _BURST_EXTRA)))
    cards = population.pick(rng, n)
    sizes = np.where(rng.random(n) < _BURST_SHARE, 2 + rng.poisson(_BURST_EXTRA, size=n), 1)
    local_hour = np.interp(rng.random(n), _ACTIVITY_BEFORE, np.arange(0, 25, 2))
    starts = (local_hour - population.utc_offset[cards]) % 24 * 3600
    session, second = unfold(rng, starts, sizes, np.full(n, 70.0))

    home = population.home[cards]
    crosses = rng.random(n) < np.take(_CROSS_BORDER_SHARES, population.product[cards] == PRODUCT_C)
    place = np.where(crosses, elsewhere(rng, home), home)
    place = np.where(population.is_travelling(cards, day.toordinal()), population.destination[cards], place)

    card = cards[session]
    product = population.product[card]
    strays = (rng.random(len(card)) < _STRAY_SHARE) & (product != PRODUCT_C)
    product = np.where(strays, rng.choice(OTHER_PRODUCTS, size=len(card)), product)
    large = np.log(1_500.0) + rng.normal(scale=0.5, size=len(card))
    is_large = rng.random(len(card)) < _LARGE_SHARE
    log_amount = np.where(is_large, large, usual_log_amount(rng, population, card, product))
    amount = price(rng, log_amount, product)

    # A retry asks for what the row before it asked for, which may be a retry itself.
    is_retry = (rng.random(len(card)) < _RETRY_SHARE) & (np.diff(session, prepend=-1) == 0)
    asked = np.maximum.accumulate(np.where(is_retry, 0, np.arange(len(card))))
    return Rows(card, second, amount[asked], product[asked], place[session], np.zeros(len(card), np.int64))
