"""Fraudulent life: card testing, account takeover, low and slow, friendly fraud.

Belongs here: what each scenario looks like, how often it happens in each profile, and how the mix drifts.
What a model reaches on it is by construction. Not here: anything that a legitimate card does.
"""

from dataclasses import dataclass
from datetime import date
from typing import Final, Literal

import numpy as np

from fraud_assets.simulator.population import OTHER_PRODUCTS, PRODUCT_C, Population, elsewhere
from fraud_assets.simulator.sessions import DAY_SECONDS, Rows, join_rows, price, unfold, usual_log_amount

Profile = Literal["default", "hard"]

FRAUD_SHARE: Final = 0.035
"""Of rows, as in the genuine file."""


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """How one kind of fraud goes: sessions of `min_rows` + Poisson(`more_rows`) rows on one stolen card.

    Gaps are means in seconds, amounts log-normal (`median` None: as the owner would spend), the others shares
    of sessions: with slow gaps, abroad, over several products.
    """

    min_rows: int = 1
    more_rows: float = 0.0
    gap: float = 0.0
    slow_gap: float = 0.0
    slow: float = 0.0
    median: float | None = None
    sigma: float = 0.0
    abroad: float
    spread: float = 0.0


SCENARIOS: Final = {
    "card_testing": Scenario(
        min_rows=2, more_rows=4.4, gap=28, slow_gap=900, slow=0.25, median=9, sigma=0.9, abroad=0.38, spread=0.67
    ),
    "account_takeover": Scenario(more_rows=1.5, gap=120, slow_gap=1_500, slow=0.5, median=430, sigma=0.7, abroad=0.55),
    "low_and_slow": Scenario(more_rows=1.5, gap=10_000, median=70, sigma=0.7, abroad=0.25),
    "friendly_fraud": Scenario(abroad=0.06),
}
"""Set so that the figures of docs/synthetic_feed.md come out. Pace and products give a tester away, amounts and
places whoever took an account over; low and slow hides in the crowd; nothing gives friendly fraud away."""

_MIX: Final[dict[Profile, tuple[float, ...]]] = {"default": (0.45, 0.40, 0.10, 0.05), "hard": (0.30, 0.30, 0.25, 0.15)}
"""Shares of fraudulent rows in the order of SCENARIOS, halfway through the drift."""
_DRIFT: Final = 0.05
_DRIFT_FROM: Final = date(2026, 1, 1)
_DRIFT_DAYS: Final = 181
"""Testing loses what takeover gains: five points above the mix when the feed starts, five below when it ends."""


def mix_of(day: date, profile: Profile) -> tuple[float, ...]:
    """Return the shares of fraudulent rows on that day, in the order of SCENARIOS; they sum to one."""
    progress = min(max((day - _DRIFT_FROM).days / _DRIFT_DAYS, 0.0), 1.0)
    moved = _DRIFT * (1 - 2 * progress)
    testing, takeover, slow, friendly = _MIX[profile]
    return testing + moved, takeover - moved, slow, friendly


def draw_fraudulent_rows(
    rng: np.random.Generator, population: Population, day: date, expected_rows: float, profile: Profile
) -> Rows:
    """Return the rows of frauds that start on `day`, about `expected_rows`; scenarios count from 1."""
    shares = zip(SCENARIOS.values(), mix_of(day, profile), strict=True)
    return join_rows(
        _draw_rows(rng, population, scenario, number, expected_rows * share)
        for number, (scenario, share) in enumerate(shares, start=1)
    )


def _draw_rows(
    rng: np.random.Generator, population: Population, scenario: Scenario, number: int, expected_rows: float
) -> Rows:
    # Rounded up or down at random, right on average: the fraud share hardly moves with the seed.
    n = int(expected_rows / (scenario.min_rows + scenario.more_rows) + rng.random())
    cards = population.pick(rng, n)
    home = population.home[cards]
    place = np.where(rng.random(n) < scenario.abroad, elsewhere(rng, home), home)
    is_spread = rng.random(n) < scenario.spread
    sizes = scenario.min_rows + rng.poisson(scenario.more_rows, size=n)
    gaps = np.where(rng.random(n) < scenario.slow, scenario.slow_gap, scenario.gap)
    session, second = unfold(rng, rng.uniform(0, DAY_SECONDS, size=n), sizes, gaps)

    card = cards[session]
    product = population.product[card]
    # Product C has no address, and the address is part of a card's identity: nobody moves to it or from it.
    moves = is_spread[session] & (product != PRODUCT_C)
    product = np.where(moves, rng.choice(OTHER_PRODUCTS, size=len(card)), product)
    if scenario.median is None:
        log_amount = usual_log_amount(rng, population, card, product)
    else:
        log_amount = np.log(scenario.median) + rng.normal(scale=scenario.sigma, size=len(card))
    amount = price(rng, log_amount, product)
    return Rows(card, second, amount, product, place[session], np.full(len(card), number))
