"""Decide whether a candidate becomes the `@prod` version, in words that a reviewer reads.

Belongs here: the gate and its tolerances. Does not belong here: moving the alias, recording the decision,
computing metrics.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from fraud_assets.errors import FraudAssetsError
from fraud_assets.model.estimates import (
    FOREST,
    ROWS,
    TRAINING_ALERT_RATE,
    Estimate,
    Evaluation,
    minus_prod,
    prod_scorer,
)

Move = Literal["promoted", "refused", "rolled back", "withdrawn", "lost"]
"""What a decision does; the words that stand in `model.promotions` and `model.ranker_promotions`.

Withdrawn: `@prod` was taken away, by the ranker's gate or in MLflow itself. Lost: the registry has no version any more,
and whatever was decided before is about none that it will have.
"""

ALERT_DRIFT_BAND: Final = (0.1, 5.0)
"""Alert rate on later rows, as a multiple of that on the training rows: outside, the threshold means something else."""

ALERT_DRIFT_TOLERANCE: Final = 1.5
"""How many times further from 1 than `@prod`'s the drift may lie, either way. On the synthetic feed another seed moves
it by 2 %, and a forest trained on shuffled columns, which ranks almost as well, alerts 2.3 times as often."""

ROC_AUC_TOLERANCE: Final = 0.02
"""Six times what seven seeds of the forest spanned on the synthetic feed (0.0034 on 904 frauds); on 90 frauds, the
lower bounds of the difference between two seeds reach down to -0.014."""

AVERAGE_PRECISION_TOLERANCE: Final = 0.25
"""Relative, since average precision scales with the base rate. It is what a mere retraining, by another seed or on a
week's later rows, needs: of nine the lower bounds reach down to -16 % on 904 frauds, and to -24 % on 233."""


class NotEvaluatedError(FraudAssetsError):
    """A version is to be decided about that was not evaluated beside the present `@prod` version."""


@dataclass(frozen=True)
class PromotionDecision:
    """Whether to promote; `reasons` are all that speak for it, or, when refused, all that speak against."""

    promote: bool
    reasons: tuple[str, ...]

    @property
    def move(self) -> Move:
        """The decision in the words of `model.promotions`."""
        return "promoted" if self.promote else "refused"


def prod_after(history: Iterable[Mapping[str, Any]]) -> str | None:
    """Return the version behind `@prod` after the decisions, rows of `model.promotions`, the latest first."""
    latest = next((row for row in history if row["decision"] != "refused"), None)
    return None if latest is None or latest["decision"] == "withdrawn" else latest["model_version"]


def version_before(history: Iterable[Mapping[str, Any]]) -> str | None:
    """Return the version that a rollback leads to, or None where none was behind `@prod` before.

    Of `history`, rows of `model.promotions`, the latest first, promotions pile up and a rollback takes the topmost
    away, so that rolling back twice goes back two versions. A withdrawal lies on the pile as no version: a rollback
    from there leads to what was withdrawn.
    """
    pile: list[str | None] = []
    for row in reversed(list(history)):
        if row["decision"] == "promoted":
            pile.append(row["model_version"])
        elif row["decision"] == "withdrawn":
            pile.append(None)
        elif row["decision"] == "rolled back":
            del pile[-1:]
            while pile and pile[-1] is None:
                pile.pop()
    return next((version for version in reversed(pile[:-1]) if version is not None), None)


def decide(evaluation: Evaluation | None, *, signature_matches: bool, production: str | None) -> PromotionDecision:
    """Return whether the candidate may become `@prod`, by its evaluation beside the present one (`production`).

    The worse end of each 95 % interval counts, so that luck does not promote: the ROC-AUC of a score that knows nothing
    lies above a blind guess's every second time, its lower bound one time in forty. Against `@prod` the interval is
    that of the difference on the same cards. Where too few cards hold fraud for an interval, the value itself counts.
    Raises NotEvaluatedError where there is no evaluation, or none beside that version.
    """
    if evaluation is None or (production is not None and minus_prod(production) not in evaluation.estimates):
        beside = "" if production is None else f" beside the present @prod version {production}"
        raise NotEvaluatedError(
            f"The candidate was not evaluated{beside}. Materialize evaluation_metrics first, or "
            "`dagster job execute -m fraud_assets.definitions -j training_job`."
        )
    findings = [
        (signature_matches, f"the signature is {'' if signature_matches else 'not '}the contract's"),
        _alert_rate_finding(evaluation, production),
        *_quality_findings(evaluation, production),
    ]
    promote = all(speaks_for for speaks_for, _ in findings)
    return PromotionDecision(promote, tuple(words for speaks_for, words in findings if speaks_for == promote))


def _alert_rate_finding(evaluation: Evaluation, production: str | None) -> tuple[bool, str]:
    rate, drift = evaluation.estimate(FOREST, "alert_rate").value, _alert_drift(evaluation, FOREST)
    if drift is None:
        return True, "the alert rate cannot be measured: there are no rows after the training window"
    (lower, upper), prod_words = ALERT_DRIFT_BAND, ""
    of_prod = None if production is None else _alert_drift(evaluation, prod_scorer(production))
    if of_prod is not None:
        lower = max(lower, min(1.0, of_prod) / ALERT_DRIFT_TOLERANCE)
        upper = min(upper, max(1.0, of_prod) * ALERT_DRIFT_TOLERANCE)
        prod_words = f"; @prod's is {of_prod:.2f} times its own"
    inside = lower <= drift < upper
    return inside, (
        f"the alert rate {rate:.2%} is {drift:.2f} times that of the training rows, "
        f"{'within' if inside else 'outside'} {lower:.2f} to {upper:.2f} times{prod_words}"
    )


def _alert_drift(evaluation: Evaluation, scored_by: str) -> float | None:
    rate = evaluation.estimate(scored_by, "alert_rate").value
    in_training = evaluation.estimate(scored_by, TRAINING_ALERT_RATE).value
    return None if rate is None or in_training is None else rate / in_training


def _quality_findings(evaluation: Evaluation, production: str | None) -> list[tuple[bool, str]]:
    base_rate = evaluation.estimate(ROWS, "base_rate").value
    unknown = evaluation.estimate(FOREST, "roc_auc").not_measurable
    if unknown is not None or base_rate is None:
        stays = "the present @prod version stays; `fraud-assets promote VERSION` overrides"
        consequence = "there is no @prod version yet, so this one is taken" if production is None else stays
        return [(production is None, f"quality is not measurable ({unknown}): {consequence}")]
    findings = []
    for metric, words, chance, chance_words in (
        ("roc_auc", "ROC-AUC", 0.5, "a blind guess's 0.5"),
        ("average_precision", "average precision", base_rate, f"the base rate {base_rate:.4f}"),
    ):
        estimate = evaluation.estimate(FOREST, metric)
        good = _worse_end(estimate) > chance
        finding = f"{words} {_as_text(estimate)} is {'above' if good else 'not shown to be above'} {chance_words}"
        findings.append((good, finding))
    if production is None:
        return findings
    for metric, words, relative in (("roc_auc", "ROC-AUC", False), ("average_precision", "average precision", True)):
        present = evaluation.estimate(prod_scorer(production), metric).value or 0.0
        tolerance = AVERAGE_PRECISION_TOLERANCE * present if relative else ROC_AUC_TOLERANCE
        difference = evaluation.estimate(minus_prod(production), metric)
        good = _worse_end(difference) >= -tolerance
        finding = (
            f"{words} less that of @prod's version {production}, {present:.4f}, is {_as_text(difference, '+')}: "
            f"{'not' if good else 'not shown not to be'} worse by more than {tolerance:.4f}"
        )
        findings.append((good, finding))
    return findings


def _worse_end(estimate: Estimate) -> float:
    worse = estimate.value if estimate.lower is None else estimate.lower
    assert worse is not None
    return worse


def _as_text(estimate: Estimate, sign: str = "") -> str:
    if estimate.lower is None:
        return f"{estimate.value:{sign}.4f} (no interval: too few cards hold fraud)"
    return f"{estimate.value:{sign}.4f} ({estimate.lower:{sign}.4f} to {estimate.upper:{sign}.4f})"
