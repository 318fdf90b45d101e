"""Whether a ranker may order the alerts: lists are compared with lists, on the same later days.

Belongs here: what is compared, the gate, calibration, and the words of each. Does not belong here: metrics and their
intervals (`evaluation`), rows and labels (`known_labels`), moving `@prod`. Needs pandas: import it late.
"""

from collections.abc import Mapping
from typing import Final

import numpy as np
import pandas as pd

from fraud_assets.model import bootstrap
from fraud_assets.model.comparison import MINIMUM_LEARNT_FRAUD_ROWS, rule_score
from fraud_assets.model.estimates import AMOUNT, FOREST, RULE, Estimate, Evaluation, prod_scorer
from fraud_assets.model.evaluation import Scores, evaluate
from fraud_assets.model.list_words import BINS, CALIBRATION, LIST_WORDS, OVER_MEAN, RANKER, minus
from fraud_assets.model.promotion import PromotionDecision

AMOUNT_TOLERANCE: Final = 0.05
"""Of the fraud amount on the days: a list that catches more frauds may catch so much less of it, since many of them
are small. Less is a refusal where its interval says so."""

PROD_TOLERANCE: Final = 0.05
"""Precision by which a retrained ranker may be worse than the present one at the lower end: two trainings on the same
labels differ by about half of it."""


def too_little(labels: pd.DataFrame) -> str:
    """Return why nobody can learn from these labelled rows, as a sentence; empty where one can."""
    fraud, rows = int(labels["isFraud"].sum()), len(labels)
    if not rows:
        return "No transaction of the days that train has a label that is known."
    if fraud in (0, rows):
        kind = "fraud" if fraud else "genuine"
        return f"All {rows:,} labels that are known of the days that train say {kind}: there is nothing to tell apart."
    if min(fraud, rows - fraud) < MINIMUM_LEARNT_FRAUD_ROWS:
        return (
            f"{fraud:,} of {rows:,} labels that are known of the days that train are fraud; "
            f"{MINIMUM_LEARNT_FRAUD_ROWS} of each kind are needed."
        )
    return ""


def compare_lists(
    rows: pd.DataFrame, probability: np.ndarray, production: Mapping[str, np.ndarray], *, alerts_per_day: int
) -> Evaluation:
    """Return what each list finds on the labelled rows of later days, within the capacity of each day.

    `rows` have the ranker's features, `isFraud`, `card_id` and `partition_key`; `probability` is the candidate's, and
    `production` that of the present `@prod` version by its number, empty where there is none. Every difference is one
    of pairs: the same days, and the same cards drawn.
    """
    scorers = {
        RANKER: Scores(probability),
        **{prod_scorer(version): Scores(scores) for version, scores in production.items()},
        FOREST: Scores(rows["fraud_score"].to_numpy(np.float64)),
        RULE: Scores(rule_score(rows)),
        OVER_MEAN: Scores(rows["log_amount_over_card_mean"].fillna(0.0).to_numpy(np.float64)),
        AMOUNT: Scores(rows["TransactionAmt"].to_numpy(np.float64)),
    }
    others = [FOREST, RULE, *map(prod_scorer, production)]
    differences = {minus(other): (RANKER, other) for other in others}
    for version in production:
        differences |= {
            f"{prod_scorer(version)} minus {other}": (prod_scorer(version), other) for other in (FOREST, RULE)
        }
    found = evaluate(rows, scorers, alerts_per_day=alerts_per_day, differences=differences)
    calibrated = calibration(
        probability, rows["isFraud"].to_numpy(np.float64), pd.factorize(rows["card_id"], sort=True)[0]
    )
    return Evaluation({**found.estimates, CALIBRATION: calibrated})


def decide_ranker(
    lists: Evaluation, *, signature_matches: bool, production: str | None, alerts_per_day: int
) -> PromotionDecision:
    """Return whether the candidate may order the alerts.

    Its list must be shown to hold more fraud than that of the forest and that of the plain rule: the lower end of the
    95 % interval of the difference lies above 0, else it is not promoted. No interval is no evidence.
    """
    findings = [(signature_matches, f"the signature is {'' if signature_matches else 'not '}the ranker's")]
    findings += [finding for other in (FOREST, RULE) for finding in _beats(lists, RANKER, other, alerts_per_day)]
    if production is not None and findings:
        precision = lists.estimate(minus(prod_scorer(production)), f"precision_at_{alerts_per_day}_a_day")
        good = precision.lower is not None and precision.lower >= -PROD_TOLERANCE
        words = f"precision less that of @prod's version {production} is {_as_text(precision)}"
        shown = "not" if good else "not shown not to be"
        findings.append((good, f"{words}: {shown} worse by more than {PROD_TOLERANCE:.2f}"))
    promote = all(good for good, _ in findings)
    return PromotionDecision(promote, tuple(words for good, words in findings if good == promote))


def still_better(lists: Evaluation, production: str, *, alerts_per_day: int) -> tuple[bool, str]:
    """Return whether the present version's list is still shown to be better on these days, and the words of it."""
    found = [one for other in (FOREST, RULE) for one in _beats(lists, prod_scorer(production), other, alerts_per_day)]
    good = all(good for good, _ in found)
    return good, "; ".join(words for is_good, words in found if is_good == good)


def _beats(lists: Evaluation, list_: str, other: str, alerts_per_day: int) -> list[tuple[bool, str]]:
    at, named = f"{alerts_per_day}_a_day", f"{list_} minus {other}"
    precision = lists.estimate(named, f"precision_at_{at}")
    amount = lists.estimate(named, f"fraud_amount_share_at_{at}")
    words = f"within {alerts_per_day} a day, precision less that of the {LIST_WORDS[other]}'s list"
    if precision.value is None:
        return [(False, f"{words} is not measurable: {precision.not_measurable}")]
    better = precision.lower is not None and precision.lower > 0
    found = [(better, f"{words} is {_as_text(precision)}: {'better' if better else 'not shown to be better'}")]
    if amount.value is not None:
        fine = amount.upper is None or amount.upper >= -AMOUNT_TOLERANCE
        caught = f"the share of the fraud amount that it catches, less that of the {LIST_WORDS[other]}'s"
        found.append((fine, f"{caught}, is {_as_text(amount)}{'' if fine else ': shown to be less'}"))
    return found


def _as_text(estimate: Estimate) -> str:
    if estimate.lower is None:
        return f"{estimate.value:+.3f} (no interval: too few cards hold fraud)"
    return f"{estimate.value:+.3f} ({estimate.lower:+.3f} to {estimate.upper:+.3f})"


# Calibration


def calibration(probability: np.ndarray, is_fraud: np.ndarray, card: np.ndarray) -> dict[str, Estimate]:
    """Return how far the probability can be believed, as metrics, with intervals by drawing cards again.

    `brier` is the mean squared difference to what came true, `brier_of_base_rate` that of the same guess for all rows;
    `expected_over_found` is the sum of the probabilities over the number of frauds, of all rows; `said_N` and
    `found_N` are the mean probability and the share of fraud of the rows in stretch N of `BINS`.
    """
    if not len(is_fraud) or not is_fraud.any():
        return {}
    stretch = np.clip(np.digitize(probability, BINS[1:-1]), 0, len(BINS) - 2)
    base = is_fraud.mean()
    sums = {
        "rows": np.ones(len(card)),
        "squares": (probability - is_fraud) ** 2,
        "base": (base - is_fraud) ** 2,
        "said": probability,
        "fraud": is_fraud,
    }
    for number in range(len(BINS) - 1):
        inside = stretch == number
        sums |= {f"rows_{number}": inside, f"p_{number}": inside * probability, f"y_{number}": inside * is_fraud}
    cards = int(card.max()) + 1
    by_card = np.stack([np.bincount(card, weights=values, minlength=cards) for values in sums.values()])
    blocks = bootstrap.card_weights(cards, rows=len(card), replicates=bootstrap.REPLICATES, seed=0)
    drawn = np.concatenate([np.ones((1, cards)), *blocks]) @ by_card.T
    of = dict(zip(sums, drawn.T, strict=True))
    found = {
        "brier": _ratio(of["squares"], of["rows"]),
        "brier_of_base_rate": _ratio(of["base"], of["rows"]),
        "expected_over_found": _ratio(of["said"], of["fraud"]),
    }
    for number in range(len(BINS) - 1):
        found[f"rows_{number}"] = Estimate(float(of[f"rows_{number}"][0]))
        found[f"said_{number}"] = _ratio(of[f"p_{number}"], of[f"rows_{number}"])
        found[f"found_{number}"] = _ratio(of[f"y_{number}"], of[f"rows_{number}"])
    return found


def _ratio(over: np.ndarray, under: np.ndarray) -> Estimate:
    values = np.divide(over, under, out=np.full(len(over), np.nan), where=under > 0)
    if not np.isfinite(values[0]):
        return Estimate(None, not_measurable="no row lies there")
    return Estimate(float(values[0]), *(bootstrap.percentile_interval(values[1:]) or (None, None)))
