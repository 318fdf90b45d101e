"""Promotion: what is refused, what is taken, and in which words."""

from dataclasses import replace

import pytest

from fraud_assets.model.evaluation import Evaluation, RankingQuality
from fraud_assets.model.promotion import PromotionDecision, decide, version_before

GOOD = Evaluation(
    rows=10_000,
    labelled_rows=10_000,
    fraud_rows=200,
    alert_rate=0.035,
    base_rate=0.02,
    forest=RankingQuality(roc_auc=0.80, pr_auc=0.21, average_precision=0.20),
    rule=RankingQuality(roc_auc=0.75, pr_auc=0.31, average_precision=0.30),
    not_measurable=None,
)
UNLABELLED = replace(
    GOOD, labelled_rows=0, fraud_rows=0, base_rate=None, forest=None, rule=None, not_measurable="no row has a label"
)
NO_LATER_ROWS = replace(
    UNLABELLED, rows=0, alert_rate=None, not_measurable="there are no rows after the training window"
)


def quality(*, roc_auc: float = 0.80, average_precision: float = 0.20) -> Evaluation:
    return replace(
        GOOD, forest=RankingQuality(roc_auc=roc_auc, pr_auc=average_precision, average_precision=average_precision)
    )


def decided(candidate: Evaluation, production: Evaluation | None = None) -> PromotionDecision:
    return decide(candidate, signature_matches=True, production=production)


def test_a_good_first_version_is_promoted_and_every_finding_is_told():
    assert decided(GOOD) == PromotionDecision(
        promote=True,
        reasons=(
            "the signature is the contract's",
            "the alert rate 3.50% lies within 0.35% to 17.50%",
            "ROC-AUC 0.8000 is above a blind guess's 0.5 (0.5000)",
            "average precision 0.2000 is above the base rate (0.0200)",
        ),
    )


def test_another_signature_is_refused_whatever_the_quality():
    assert decide(GOOD, signature_matches=False, production=None) == PromotionDecision(
        promote=False, reasons=("the signature is not the contract's",)
    )


@pytest.mark.parametrize(
    ("alert_rate", "promote"),
    [(0.0, False), (0.0034, False), (0.0035, True), (0.1749, True), (0.175, False), (1.0, False)],
)
def test_the_alert_rate_lies_in_a_half_open_band(alert_rate, promote):
    decision = decided(replace(GOOD, alert_rate=alert_rate))
    assert decision.promote is promote
    if not promote:
        assert decision.reasons == (f"the alert rate {alert_rate:.2%} lies outside 0.35% to 17.50%",)


@pytest.mark.parametrize(
    ("candidate", "words"),
    [
        (quality(roc_auc=0.5), "ROC-AUC 0.5000 is not above a blind guess's 0.5 (0.5000)"),
        (quality(average_precision=0.02), "average precision 0.0200 is not above the base rate (0.0200)"),
    ],
)
def test_no_better_than_chance_is_refused(candidate, words):
    assert decided(candidate) == PromotionDecision(promote=False, reasons=(words,))


@pytest.mark.parametrize(
    ("candidate", "promote"),
    [
        (quality(), True),
        (quality(roc_auc=0.90, average_precision=0.40), True),
        (quality(roc_auc=0.781), True),
        (quality(roc_auc=0.779), False),
        (quality(average_precision=0.171), True),
        (quality(average_precision=0.169), False),
    ],
)
def test_a_candidate_may_be_worse_than_production_within_the_tolerance_only(candidate, promote):
    assert decided(candidate, production=GOOD).promote is promote


def test_a_refusal_gives_both_figures_and_the_tolerance():
    assert decided(quality(roc_auc=0.70), production=GOOD).reasons == (
        "ROC-AUC 0.7000 is below @prod's 0.8000 less the tolerance of 0.02 (0.7800)",
    )


@pytest.mark.parametrize("candidate", [UNLABELLED, NO_LATER_ROWS])
def test_without_labels_only_the_first_version_is_promoted_and_it_says_so(candidate):
    first = decided(candidate)
    assert first.promote
    assert "not measurable" in first.reasons[-1]
    assert "there is no @prod version yet" in first.reasons[-1]
    later = decided(candidate, production=candidate)
    assert not later.promote
    assert later.reasons == (
        f"quality is not measurable ({candidate.not_measurable}): "
        "the present @prod version stays; `fraud-assets promote VERSION` overrides",
    )


def test_evaluations_of_different_rows_are_not_compared():
    with pytest.raises(ValueError, match="the same rows"):
        decided(GOOD, production=replace(GOOD, rows=9_999))


def history(*moves: tuple[str, str]) -> list[dict[str, str]]:
    """Decisions in the order in which they were made, as the table gives them: the latest first."""
    return [{"decision": move, "model_version": version} for move, version in reversed(moves)]


@pytest.mark.parametrize(
    ("moves", "now", "before"),
    [
        pytest.param([], None, None, id="nothing yet"),
        pytest.param([("promoted", "1")], "1", None, id="the first version"),
        pytest.param([("promoted", "1"), ("promoted", "2")], "2", "1", id="the second"),
        pytest.param([("promoted", "1"), ("refused", "2"), ("promoted", "3")], "3", "1", id="a refusal between"),
        pytest.param(
            [("promoted", "1"), ("promoted", "2"), ("promoted", "3"), ("rolled back", "2")], "2", "1", id="once more"
        ),
        pytest.param([("promoted", "1"), ("promoted", "2"), ("rolled back", "1")], "1", None, id="back at the first"),
        pytest.param(
            [("promoted", "1"), ("promoted", "2"), ("rolled back", "1"), ("promoted", "3")], "3", "1", id="on again"
        ),
        pytest.param([("promoted", "1"), ("promoted", "2")], "5", "2", id="moved in MLflow itself"),
    ],
)
def test_a_rollback_leads_to_the_version_before(moves, now, before):
    assert version_before(history(*moves), now) == before
