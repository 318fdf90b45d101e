"""Decide whether a candidate becomes the `@prod` version, in words that a reviewer reads.

Belongs here: the gate and its tolerances. Does not belong here: moving the alias, recording the decision,
computing metrics.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from fraud_assets.model.records import Evaluation

Move = Literal["promoted", "refused", "rolled back"]
"""What a decision does; the words that stand in `model.promotions`."""

ALERT_RATE_BAND: Final = (0.0035, 0.175)
"""A tenth and five times the contamination of 0.035: outside, the threshold means something else on later rows."""

ROC_AUC_TOLERANCE: Final = 0.02
"""Four times what eight seeds of the forest spanned on the synthetic feed (0.005 on 1,012 frauds, 2026-11-24)."""

AVERAGE_PRECISION_TOLERANCE: Final = 0.15
"""Relative, since average precision scales with the base rate: the same eight seeds spanned 10 % of it."""


@dataclass(frozen=True)
class PromotionDecision:
    """Whether to promote; `reasons` are all that speak for it, or, when refused, all that speak against."""

    promote: bool
    reasons: tuple[str, ...]


def version_before(history: Iterable[Mapping[str, Any]], now: str | None) -> str | None:
    """Return the version that a rollback from `now` leads to, or None where none was behind `@prod` before.

    Promotions pile up and a rollback takes the topmost away, so that rolling back twice goes back two versions. A
    version that was put behind `@prod` in MLflow itself lies on top of the pile without a row of its own.

    Args:
        history: rows of `model.promotions`, the latest first.
        now: the version behind `@prod`.
    """
    pile: list[str] = []
    for row in reversed(list(history)):
        if row["decision"] == "promoted":
            pile.append(row["model_version"])
        elif row["decision"] == "rolled back" and pile:
            pile.pop()
    if pile and pile[-1] == now:
        pile.pop()
    return pile[-1] if pile else None


def decide(candidate: Evaluation, *, signature_matches: bool, production: Evaluation | None) -> PromotionDecision:
    """Return whether the candidate may become `@prod`.

    Args:
        candidate: Its evaluation on rows later than its training.
        signature_matches: Whether the registered signature is the contract's.
        production: The present `@prod` version's evaluation on the same rows; None when there is no such version.

    Raises:
        ValueError: When the two evaluations are not of the same rows.
    """
    if production is not None and (production.rows, production.labelled_rows, production.fraud_rows) != (
        candidate.rows,
        candidate.labelled_rows,
        candidate.fraud_rows,
    ):
        raise ValueError("The candidate and the @prod version must be evaluated on the same rows.")
    findings = [
        (signature_matches, "the signature is the contract's")
        if signature_matches
        else (False, "the signature is not the contract's"),
        _alert_rate_finding(candidate),
        *_quality_findings(candidate, production),
    ]
    promote = all(speaks_for for speaks_for, _ in findings)
    return PromotionDecision(promote, tuple(words for speaks_for, words in findings if speaks_for == promote))


def _alert_rate_finding(candidate: Evaluation) -> tuple[bool, str]:
    if candidate.alert_rate is None:
        return True, "the alert rate cannot be measured: there are no rows after the training window"
    lower, upper = ALERT_RATE_BAND
    inside = lower <= candidate.alert_rate < upper
    where = "within" if inside else "outside"
    return inside, f"the alert rate {candidate.alert_rate:.2%} lies {where} {lower:.2%} to {upper:.2%}"


def _quality_findings(candidate: Evaluation, production: Evaluation | None) -> list[tuple[bool, str]]:
    if candidate.forest is None or candidate.base_rate is None:
        first = production is None
        consequence = (
            "there is no @prod version yet, so this one is taken"
            if first
            else "the present @prod version stays; `fraud-assets promote VERSION` overrides"
        )
        return [(first, f"quality is not measurable ({candidate.not_measurable}): {consequence}")]
    quality = candidate.forest
    findings = [
        _compared("ROC-AUC", quality.roc_auc, 0.5, "a blind guess's 0.5", strict=True),
        _compared("average precision", quality.average_precision, candidate.base_rate, "the base rate", strict=True),
    ]
    if production is not None and production.forest is not None:
        present = production.forest
        findings += [
            _compared(
                "ROC-AUC",
                quality.roc_auc,
                present.roc_auc - ROC_AUC_TOLERANCE,
                f"@prod's {present.roc_auc:.4f} less the tolerance of {ROC_AUC_TOLERANCE}",
            ),
            _compared(
                "average precision",
                quality.average_precision,
                present.average_precision * (1 - AVERAGE_PRECISION_TOLERANCE),
                f"@prod's {present.average_precision:.4f} less the tolerance of {AVERAGE_PRECISION_TOLERANCE:.0%}",
            ),
        ]
    return findings


def _compared(name: str, value: float, limit: float, limit_words: str, *, strict: bool = False) -> tuple[bool, str]:
    good = value > limit if strict else value >= limit
    words = ("above" if strict else "at or above") if good else ("not above" if strict else "below")
    return good, f"{name} {value:.4f} is {words} {limit_words} ({limit:.4f})"
