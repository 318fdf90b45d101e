"""Promotion: what is refused, what is taken, and in which words."""

import pytest

from fraud_assets.model.estimates import Estimate, Evaluation
from fraud_assets.model.promotion import NotEvaluatedError, PromotionDecision, decide, version_before

REASON = "no row has a label"


def evaluated(
    *,
    roc_auc: tuple[float, float] | None = (0.80, 0.78),
    average_precision: tuple[float, float] | None = (0.20, 0.18),
    alert_rate: float | None = 0.035,
    training_alert_rate: float = 0.035,
    prod_alert_rate: float = 0.035,
    less_roc_auc: tuple[float, float] = (0.0, 0.0),
    less_average_precision: tuple[float, float] = (0.0, 0.0),
) -> Evaluation:
    """An evaluation beside version 6: values with lower bounds; None is not measurable."""

    def figure(pair: tuple[float, float] | None) -> Estimate:
        return Estimate(None, not_measurable=REASON) if pair is None else Estimate(pair[0], pair[1], pair[0] + 0.02)

    def alerts(rate: float | None, in_training: float) -> dict[str, Estimate]:
        return {"alert_rate": Estimate(rate), "training_alert_rate": Estimate(in_training)}

    unknown = Estimate(None, not_measurable=REASON)
    return Evaluation(
        {
            "rows": {"base_rate": unknown if roc_auc is None else Estimate(0.02)},
            "forest": {
                **alerts(alert_rate, training_alert_rate),
                "roc_auc": figure(roc_auc),
                "average_precision": figure(average_precision),
            },
            "version 6": {
                **alerts(prod_alert_rate, 0.035),
                "roc_auc": Estimate(0.80),
                "average_precision": Estimate(0.20),
            },
            "forest minus version 6": {
                "roc_auc": figure(less_roc_auc),
                "average_precision": figure(less_average_precision),
            },
        }
    )


GOOD = evaluated()
UNLABELLED = evaluated(roc_auc=None, average_precision=None)


def decided(evaluation: Evaluation, production: str | None = None) -> PromotionDecision:
    return decide(evaluation, signature_matches=True, production=production)


def test_a_good_first_version_is_promoted_and_every_finding_is_told():
    assert decided(GOOD) == PromotionDecision(
        promote=True,
        reasons=(
            "the signature is the contract's",
            "the alert rate 3.50% is 1.00 times that of the training rows, within 0.10 to 5.00 times",
            "ROC-AUC 0.8000 (0.7800 to 0.8200) is above a blind guess's 0.5",
            "average precision 0.2000 (0.1800 to 0.2200) is above the base rate 0.0200",
        ),
    )


def test_beside_prod_the_differences_are_told_too():
    assert decided(evaluated(less_roc_auc=(0.01, -0.01)), production="6").reasons[1:] == (
        "the alert rate 3.50% is 1.00 times that of the training rows, within 0.67 to 1.50 times; "
        "@prod's is 1.00 times its own",
        "ROC-AUC 0.8000 (0.7800 to 0.8200) is above a blind guess's 0.5",
        "average precision 0.2000 (0.1800 to 0.2200) is above the base rate 0.0200",
        "ROC-AUC less that of @prod's version 6, 0.8000, is +0.0100 (-0.0100 to +0.0300): "
        "not worse by more than 0.0200",
        "average precision less that of @prod's version 6, 0.2000, is +0.0000 (+0.0000 to +0.0200): "
        "not worse by more than 0.0500",
    )


def test_another_signature_is_refused_whatever_the_quality():
    assert decide(GOOD, signature_matches=False, production=None) == PromotionDecision(
        promote=False, reasons=("the signature is not the contract's",)
    )


@pytest.mark.parametrize(
    ("alert_rate", "promote"),
    [(0.0, False), (0.0034, False), (0.0036, True), (0.174, True), (0.1751, False), (1.0, False)],
)
def test_a_first_version_alerts_a_tenth_to_five_times_as_often_as_in_training(alert_rate, promote):
    assert decided(evaluated(alert_rate=alert_rate)).promote is promote


def test_the_alert_rate_is_held_against_the_share_that_the_threshold_was_chosen_for():
    assert decided(evaluated(alert_rate=0.001, training_alert_rate=0.001), production="6").promote
    assert not decided(evaluated(alert_rate=0.035, training_alert_rate=0.001), production="6").promote


@pytest.mark.parametrize(
    ("alert_rate", "prod_alert_rate", "promote"),
    [
        pytest.param(0.052, 0.035, True, id="half as many again"),
        pytest.param(0.053, 0.035, False, id="more"),
        pytest.param(0.024, 0.035, True, id="two thirds"),
        pytest.param(0.023, 0.035, False, id="fewer"),
        pytest.param(0.100, 0.070, True, id="the rows have changed, and @prod drifted as far"),
        pytest.param(0.035, 0.070, True, id="@prod drifted and the candidate did not"),
        pytest.param(0.020, 0.014, True, id="fewer, and @prod fewer still"),
    ],
)
def test_a_candidate_drifts_no_further_than_half_again_as_far_as_prod(alert_rate, prod_alert_rate, promote):
    decision = decided(evaluated(alert_rate=alert_rate, prod_alert_rate=prod_alert_rate), production="6")
    assert decision.promote is promote
    if not promote:
        [reason] = decision.reasons
        assert "outside 0.67 to 1.50 times" in reason


@pytest.mark.parametrize(
    ("candidate", "words"),
    [
        (
            evaluated(roc_auc=(0.55, 0.5)),
            "ROC-AUC 0.5500 (0.5000 to 0.5700) is not shown to be above a blind guess's 0.5",
        ),
        (
            evaluated(average_precision=(0.03, 0.02)),
            "average precision 0.0300 (0.0200 to 0.0500) is not shown to be above the base rate 0.0200",
        ),
    ],
)
def test_what_is_not_shown_to_be_better_than_chance_is_refused(candidate, words):
    assert decided(candidate) == PromotionDecision(promote=False, reasons=(words,))


@pytest.mark.parametrize(
    ("candidate", "promote"),
    [
        (GOOD, True),
        (evaluated(less_roc_auc=(0.1, 0.05)), True),
        (evaluated(less_roc_auc=(-0.01, -0.0199)), True),
        (evaluated(less_roc_auc=(0.03, -0.0201)), False),
        (evaluated(less_average_precision=(-0.01, -0.0499)), True),
        (evaluated(less_average_precision=(0.01, -0.0501)), False),
    ],
)
def test_the_worse_end_of_the_difference_to_prod_lies_within_the_tolerance(candidate, promote):
    assert decided(candidate, production="6").promote is promote


def test_a_refusal_gives_both_figures_and_the_tolerance():
    assert decided(evaluated(less_roc_auc=(-0.10, -0.13)), production="6").reasons == (
        "ROC-AUC less that of @prod's version 6, 0.8000, is -0.1000 (-0.1300 to -0.0800): "
        "not shown not to be worse by more than 0.0200",
    )


def test_where_too_few_cards_hold_fraud_for_an_interval_the_values_decide_and_it_says_so():
    figures = {name: dict(of) for name, of in GOOD.estimates.items()}
    for name in ("forest", "forest minus version 6"):
        for metric in ("roc_auc", "average_precision"):
            figures[name][metric] = Estimate(figures[name][metric].value)
    decision = decided(Evaluation(figures), production="6")
    assert decision.promote
    assert "ROC-AUC 0.8000 (no interval: too few cards hold fraud) is above a blind guess's 0.5" in decision.reasons
    figures["forest minus version 6"]["roc_auc"] = Estimate(-0.021)
    assert not decided(Evaluation(figures), production="6").promote


@pytest.mark.parametrize("alert_rate", [0.035, None])
def test_without_labels_only_the_first_version_is_promoted_and_it_says_so(alert_rate):
    candidate = evaluated(roc_auc=None, average_precision=None, alert_rate=alert_rate)
    first = decided(candidate)
    assert first.promote
    assert "not measurable" in first.reasons[-1]
    assert "there is no @prod version yet" in first.reasons[-1]
    later = decided(candidate, production="6")
    assert not later.promote
    assert later.reasons == (
        f"quality is not measurable ({REASON}): "
        "the present @prod version stays; `fraud-assets promote VERSION` overrides",
    )


def test_a_candidate_that_was_not_evaluated_beside_prod_is_not_decided_about():
    with pytest.raises(NotEvaluatedError, match=r"not evaluated beside the present @prod version 7\. .*training_job"):
        decided(GOOD, production="7")
    with pytest.raises(NotEvaluatedError, match="Materialize evaluation_metrics"):
        decide(None, signature_matches=True, production=None)


def history(*moves: tuple[str, str]) -> list[dict[str, str]]:
    """Decisions in the order in which they were made, as the table gives them: the latest first."""
    return [{"decision": move, "model_version": version} for move, version in reversed(moves)]


@pytest.mark.parametrize(
    ("moves", "before"),
    [
        pytest.param([], None, id="nothing yet"),
        pytest.param([("promoted", "1")], None, id="the first version"),
        pytest.param([("promoted", "1"), ("promoted", "2")], "1", id="the second"),
        pytest.param([("promoted", "1"), ("refused", "2"), ("promoted", "3")], "1", id="a refusal between"),
        pytest.param(
            [("promoted", "1"), ("promoted", "2"), ("promoted", "3"), ("rolled back", "2")], "1", id="once more"
        ),
        pytest.param([("promoted", "1"), ("promoted", "2"), ("rolled back", "1")], None, id="back at the first"),
        pytest.param(
            [("promoted", "1"), ("promoted", "2"), ("rolled back", "1"), ("promoted", "3")], "1", id="on again"
        ),
        pytest.param([("promoted", "1"), ("promoted", "2"), ("withdrawn", "2")], "2", id="taken away in MLflow"),
        pytest.param(
            [("promoted", "1"), ("promoted", "2"), ("withdrawn", "2"), ("rolled back", "2")], "1", id="and put back"
        ),
    ],
)
def test_a_rollback_leads_to_the_version_before(moves, before):
    assert version_before(history(*moves)) == before
