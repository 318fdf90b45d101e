"""The names of the lists that are compared, their tables for a person, and whether a probability may be shown.

Values and words: nothing is measured here, so whoever shows them need not load pandas.
"""

from itertools import pairwise
from typing import Final

from fraud_assets.model.estimates import AMOUNT, FOREST, RULE, Estimate, Evaluation

RANKER: Final = "ranker"

OVER_MEAN: Final = "amount over the card's mean"
"""In `scored_by`: a list by one column of the card's history, which needs no label."""

CALIBRATION: Final = "probability"
"""In `scored_by`: how far the ranker's probability can be believed."""

LIST_WORDS: Final = {
    RANKER: "ranker",
    FOREST: "forest alone",
    RULE: "plain rule",
    OVER_MEAN: OVER_MEAN,
    AMOUNT: "amount alone",
}
"""The lists in the words of tables, in their order."""


def minus(other: str) -> str:
    """Return the name under which what the ranker's list finds, less what another list finds, stands in `scored_by`."""
    return f"{RANKER} minus {other}"


def lists_table(lists: Evaluation, alerts_per_day: int) -> tuple[list[str], list[list[str]]]:
    """Return column names and a row per list: what it finds within a day's capacity, with 95 % intervals."""
    at = f"{alerts_per_day}_a_day"
    shown = (f"precision_at_{at}", f"recall_at_{at}", f"fraud_amount_share_at_{at}")
    names = ["list", "precision", "recall", "share of the fraud amount", "precision less the ranker's"]
    rows = []
    for scored_by, estimates in lists.estimates.items():
        words = LIST_WORDS.get(scored_by) or (f"ranker {scored_by}" if scored_by.startswith("version ") else None)
        if words is None or " minus " in scored_by:
            continue
        difference = lists.estimates.get(minus(scored_by), {}).get(shown[0])
        rows.append(
            [
                words,
                *(as_text(estimates[name]) for name in shown),
                "" if difference is None else as_text(_negated(difference), "+"),
            ]
        )
    return names, rows


def _negated(one: Estimate) -> Estimate:
    if one.value is None or one.lower is None or one.upper is None:
        return one if one.value is None else Estimate(-one.value)
    return Estimate(-one.value, -one.upper, -one.lower)


def as_text(estimate: Estimate, sign: str = "") -> str:
    """Return a share with its interval, `-` where it is not measurable."""
    if estimate.value is None:
        return "-"
    interval = "" if estimate.lower is None else f" ({estimate.lower:{sign}.2f} to {estimate.upper:{sign}.2f})"
    return f"{estimate.value:{sign}.2f}{interval}"


BINS: Final = (0.0, 0.02, 0.1, 0.3, 0.6, 1.0)
"""Where the probabilities are cut to be compared with what came true: few, so that each holds frauds."""


def is_calibrated(lists: Evaluation) -> bool:
    """Return whether a probability may be shown: in each stretch what was said lies within what came true.

    Within its 95 % interval, or a fifth of it away; a stretch of fewer than 50 rows says nothing either way. And it
    must say more than the base rate does.
    """
    brier, guess = (lists.estimate(CALIBRATION, name).value for name in ("brier", "brier_of_base_rate"))
    if brier is None or guess is None or brier >= guess:
        return False
    return all(_agrees(lists, number) for number in range(len(BINS) - 1))


_FEWEST: Final = 50


def _agrees(lists: Evaluation, number: int) -> bool:
    rows, said, found = (lists.estimate(CALIBRATION, f"{name}_{number}") for name in ("rows", "said", "found"))
    if not rows.value or rows.value < _FEWEST or said.value is None or found.lower is None or found.upper is None:
        return True
    return found.lower * 0.8 <= said.value <= found.upper * 1.2


def calibration_table(lists: Evaluation) -> tuple[list[str], list[list[str]]]:
    """Return column names and a row per stretch of `BINS` that holds rows: what was said, and what came true."""
    rows = []
    for number, (low, high) in enumerate(pairwise(BINS)):
        said, found, inside = (lists.estimate(CALIBRATION, f"{name}_{number}") for name in ("said", "found", "rows"))
        if inside.value:
            rows.append([f"{low:.0%} to {high:.0%}", f"{inside.value:,.0f}", as_text(said), as_text(found)])
    return ["probability", "rows", "mean of what was said", "share that was fraud"], rows
