"""The cards of the synthetic feed: who they are, where they live, how they spend.

Belongs here: what does not change about a card from day to day. Not here: what it does on a day (`sessions`,
`fraud`). The population depends on the seed and the size of the feed alone, so every day sees the same cards.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Integers = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

PRODUCTS: Final = ("W", "C", "H", "R", "S")
"""The product codes of the genuine file."""
PRODUCT_W: Final = 0
PRODUCT_C: Final = 1
OTHER_PRODUCTS: Final = (0, 2, 3, 4)
_OTHER_SHARES: Final = (0.842, 0.063, 0.072, 0.023)
"""All but C, with their genuine shares among themselves."""

COUNTRIES: Final = ("US", "CA", "MX", "GB", "DE", "FR", "BR", "IN")
_COUNTRY_SHARES: Final = (0.87, 0.03, 0.03, 0.02, 0.015, 0.015, 0.01, 0.01)
"""87 % of the cards are American."""
_UTC_OFFSETS: Final = np.array([-5, -5, -6, 0, 1, 1, -3, 5])
"""Whole hours are near enough for a diurnal curve; American cards lie up to three zones further west."""

_PRODUCT_C_SHARES: Final = (0.44, 0.066)
"""Of foreign and American cards: C is the foreign product of the genuine file, and 11.5 % of its rows."""

_CARDS_PER_DAILY_ROW: Final = 4
"""A quarter of a row per card and day: most cards come back within a month, few are there every day."""


@dataclass(frozen=True)
class Population:
    """One entry per card in every field; products and countries are positions in PRODUCTS and COUNTRIES.

    `activity` is the cumulated share of sessions, `spend_level` an offset in log amount, `columns` what the
    raw file says of the card. A card is in `destination` on `trip_days` days out of every `trip_period`.
    """

    activity: Floats
    spend_level: Floats
    product: Integers
    home: Integers
    utc_offset: Integers
    destination: Integers
    trip_days: Integers
    trip_period: Integers
    trip_phase: Integers
    columns: pa.Table

    def pick(self, rng: np.random.Generator, size: int) -> Integers:
        """Return `size` cards, each as likely as its activity."""
        return np.searchsorted(self.activity, rng.random(size), side="right")

    def is_travelling(self, cards: Integers, day_ordinal: int) -> npt.NDArray[np.bool_]:
        """Return for each of `cards` whether it is on a trip on that day."""
        return (day_ordinal + self.trip_phase[cards]) % self.trip_period[cards] < self.trip_days[cards]


def elsewhere(rng: np.random.Generator, home: Integers) -> Integers:
    """Return for each home a country that is another one."""
    return (home + rng.integers(1, len(COUNTRIES), size=len(home))) % len(COUNTRIES)


@lru_cache(maxsize=2)
def draw_population(seed: int, rows_per_day: int) -> Population:
    """Return the cards of a feed: the same ones for the same arguments."""
    rng = np.random.default_rng([seed, rows_per_day])
    n = _CARDS_PER_DAILY_ROW * rows_per_day
    home = rng.choice(len(COUNTRIES), size=n, p=_COUNTRY_SHARES)
    is_american = home == 0
    is_product_c = rng.random(n) < np.take(_PRODUCT_C_SHARES, is_american)
    activity = np.cumsum(rng.lognormal(sigma=1.3, size=n))
    columns = {
        # Unique, so that no two cards share a window by accident.
        "card1": 1000 + rng.permutation(n),
        "card2": pa.array(rng.integers(100, 601, size=n).astype(float), mask=rng.random(n) < 0.0175),
        "card3": np.where(is_american, 150.0, 185.0),
        "card4": rng.choice(["visa", "mastercard", "discover"], size=n, p=[0.66, 0.32, 0.02]),
        "card5": rng.choice([102.0, 117.0, 138.0, 166.0, 195.0, 224.0, 226.0], size=n),
        "card6": rng.choice(["debit", "credit"], size=n, p=[0.75, 0.25]),
        "addr1": rng.integers(100, 541, size=n).astype(float),
        "addr2": np.where(is_american, 87.0, 60.0),
        "P_emaildomain": pa.array(
            rng.choice(["gmail.com", "yahoo.com", "anonymous.com"], size=n, p=[0.6, 0.3, 0.1]),
            mask=rng.random(n) < 0.18,
        ),
        "card_country": np.take(COUNTRIES, home),
    }
    return Population(
        activity=activity / activity[-1],
        spend_level=rng.normal(scale=0.55, size=n),
        product=np.where(is_product_c, PRODUCT_C, rng.choice(OTHER_PRODUCTS, size=n, p=_OTHER_SHARES)),
        home=home,
        utc_offset=_UTC_OFFSETS[home] - is_american * rng.choice(4, size=n, p=[0.48, 0.29, 0.07, 0.16]),
        destination=elsewhere(rng, home),
        trip_days=rng.integers(3, 15, size=n),
        trip_period=rng.integers(150, 700, size=n),
        trip_phase=rng.integers(0, 700, size=n),
        columns=pa.table(columns),
    )
