"""The raw rows of one synthetic day, in the columns of the IEEE-CIS file.

Belongs here: which rows fall on a day, their ids, times and columns. Not here: how they come about
(`population`, `sessions`, `fraud`), and what is done to them on the way to disk (`dirt`, `writing`).
"""

from datetime import UTC, date, datetime, timedelta
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fraud_assets.simulator.fraud import FRAUD_SHARE, Profile, draw_fraudulent_rows
from fraud_assets.simulator.population import COUNTRIES, PRODUCT_C, PRODUCT_W, PRODUCTS, draw_population
from fraud_assets.simulator.sessions import DAY_SECONDS, Rows, draw_legitimate_rows, join_rows, season

BASE_TIME: Final = datetime(2025, 12, 31, tzinfo=UTC)
"""TransactionDT counts seconds from here, so that 2026-01-01 starts at 86400 as the genuine file does."""

_IDS_PER_DAY: Final = 10_000_000
"""An id is the day's date followed by seven digits: 202601050000123."""

_DISTANCE_KNOWN: Final = 0.6
"""Of product W's rows; leaves dist1 null in 60 % of all rows."""


def simulate_day(day: date, *, seed: int = 7, profile: Profile = "default", rows_per_day: int = 3000) -> pa.Table:
    """Return the raw rows of one UTC day, by time; the same arguments always give the same table.

    Sessions that start on the day before spill into the day, so consecutive days join without a seam.
    `rows_per_day` is the mean day's; weekday and season move it. TransactionID is unique over all days.
    """
    rows = _rows_of(day, seed, profile, rows_per_day)
    card = draw_population(seed, rows_per_day).columns.take(pa.array(rows.card))
    has_address = pa.array(rows.product != PRODUCT_C)
    return pa.table(
        {
            "TransactionID": int(f"{day:%Y%m%d}") * _IDS_PER_DAY + np.arange(len(rows.card)),
            "isFraud": (rows.scenario > 0).astype(np.int64),
            "TransactionDT": rows.second + (day - BASE_TIME.date()).days * DAY_SECONDS,
            "TransactionAmt": rows.amount,
            "ProductCD": np.take(PRODUCTS, rows.product),
            **{name: card[name] for name in ("card1", "card2", "card3", "card4", "card5", "card6")},
            "addr1": pc.if_else(has_address, card["addr1"], None),  # pyright: ignore[reportAttributeAccessIssue] made at import
            "addr2": pc.if_else(has_address, card["addr2"], None),  # pyright: ignore[reportAttributeAccessIssue]
            "dist1": _distances(rows, seed, day),
            "P_emaildomain": card["P_emaildomain"],
            "card_country": card["card_country"],
            "txn_country": np.take(COUNTRIES, rows.country),
        }
    )


def _rows_of(day: date, seed: int, profile: Profile, rows_per_day: int) -> Rows:
    """Return the rows that fall on `day`, by time; a session is cut at the end of the day after its start."""
    before = _started_rows(day - timedelta(days=1), seed, profile, rows_per_day)
    spilled = before._replace(second=before.second - DAY_SECONDS)
    rows = join_rows([spilled, _started_rows(day, seed, profile, rows_per_day)])
    falls_on_day = np.flatnonzero((rows.second >= 0) & (rows.second < DAY_SECONDS))
    by_time = falls_on_day[np.argsort(rows.second[falls_on_day], kind="stable")]
    return Rows(*(values[by_time] for values in rows))


def _started_rows(day: date, seed: int, profile: Profile, rows_per_day: int) -> Rows:
    """Return the rows of sessions that start on `day`; the legitimate ones are the same in every profile."""
    population = draw_population(seed, rows_per_day)
    life, crime = (np.random.default_rng([seed, day.toordinal(), stream]) for stream in (1, 2))
    expected = rows_per_day * season(day)
    legitimate = draw_legitimate_rows(life, population, day, expected * (1 - FRAUD_SHARE))
    fraudulent = draw_fraudulent_rows(crime, population, day, expected * FRAUD_SHARE, profile)
    return join_rows([legitimate, fraudulent])


def _distances(rows: Rows, seed: int, day: date) -> pa.Array:
    """Return dist1: known for some of product W only, null in 60 % of all rows."""
    rng = np.random.default_rng([seed, day.toordinal(), 3])
    n = len(rows.product)
    is_known = (rows.product == PRODUCT_W) & (rng.random(n) < _DISTANCE_KNOWN)
    return pa.array(np.floor(rng.lognormal(mean=2.2, sigma=1.6, size=n)), mask=~is_known)
