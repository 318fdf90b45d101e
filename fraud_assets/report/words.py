"""How a report says times, shares, amounts, odds and texts that others wrote.

The reasons of an alert are not worded here but in `fraud_assets.alerts.reasons`.
"""

import unicodedata
from datetime import datetime
from typing import Final

from markupsafe import Markup

from fraud_assets.partition_keys import Grain, bounds

RAREST: Final = 10_000
"""Percentiles are exact to one ten-thousandth: beyond, all one can say is "rarer"."""

LONGEST_TEXT: Final = 80
"""Characters that are shown of a source's own text: real codes are shorter, and a long one would hide the rest."""

_HIDDEN: Final = ("Cc", "Cf", "Zl", "Zp", "Cs", "Co")
"""Unicode categories of characters that are not seen, or that turn what stands beside them around."""


def visible(text: str, longest: int = LONGEST_TEXT) -> str:
    """Return a source's own text as a person can see it: no hidden characters, not too long."""
    cut = text[:longest]
    seen = "".join(f"[U+{ord(c):04X}]" if unicodedata.category(c) in _HIDDEN else c for c in cut)
    return f"{seen}… ({len(text):,} characters)" if len(text) > longest else seen


def isolated(text: str) -> Markup:
    """Return a source's own text as markup: seen as it is, and it does not turn around what stands beside it."""
    return Markup('<bdi class="text">{}</bdi>').format(visible(text))


def odds(percentile: float | None) -> str:
    """Return how rare a score was in training: 0.9975 is "1 in 400"."""
    if percentile is None:
        return "rarity not known"
    rarity = 1 - percentile
    if rarity < 1 / RAREST * (1 - 1e-9):
        return f"rarer than 1 in {RAREST:,}"
    one_in = 1 / rarity
    digits = 0 if one_in < 100 else -1 if one_in < 1000 else -2
    return f"1 in {round(one_in, digits):,.0f}"


def share(value: float | None) -> str:
    """Return a share in percent with about three digits that say something."""
    if value is None:
        return "not known"
    percent = 100 * value
    digits = 0 if percent in (0, 100) else 1 if percent >= 10 else 2 if percent >= 0.1 else 3
    return f"{percent:.{digits}f} %"


def amount(value: float) -> str:
    """Return an amount with its hundredths."""
    return f"{value:,.2f}"


def number(value: float) -> str:
    """Return a number with about four digits that say something."""
    if value == int(value) and abs(value) < 1e15:
        return f"{value:,.0f}"
    digits = 2 if abs(value) >= 10 else 3 if abs(value) >= 1 else 4
    return f"{value:,.{digits}f}"


def count(n: int, one: str, many: str = "") -> str:
    """Return a number with its noun."""
    return f"{n:,} {one if n == 1 else many or one + 's'}"


def moment(time: datetime) -> str:
    """Return a time to the minute."""
    return f"{time:%Y-%m-%d %H:%M} UTC"


def partition_words(key: str, grain: Grain) -> str:
    """Return a partition as a person says it."""
    start, end = bounds(key, grain)
    day = f"{start:%A}, {start.day} {start:%B %Y}"
    return day if grain == "daily" else f"{day}, {start:%H:%M} to {end:%H:%M} UTC"
