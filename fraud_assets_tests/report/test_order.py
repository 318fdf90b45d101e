"""What a page says of the order of its list: by what, what came of the labels, and how far it can be believed."""

from dataclasses import replace

from fraud_assets.model.estimates import AMOUNT, FOREST, RULE, Estimate, Evaluation
from fraud_assets.model.list_words import CALIBRATION, OVER_MEAN, RANKER, minus
from fraud_assets.report.facts import Order
from fraud_assets.report.page import render
from fraud_assets_tests.report import samples

AT = "100_a_day"


def lists(precision: float = 0.57, said: float = 0.21) -> Evaluation:
    metrics = ("precision", "recall", "fraud_amount_share")
    found = {
        list_: {f"{name}_at_{AT}": Estimate(value, value - 0.1, value + 0.1) for name in metrics}
        for list_, value in ((RANKER, precision), (FOREST, 0.34), (RULE, 0.31), (OVER_MEAN, 0.28), (AMOUNT, 0.12))
    }
    found[minus(FOREST)] = {f"precision_at_{AT}": Estimate(0.23, 0.15, 0.31)}
    calibration = {"brier": Estimate(0.02, 0.018, 0.023), "brier_of_base_rate": Estimate(0.03)}
    for number in range(5):
        calibration |= {
            f"rows_{number}": Estimate(200.0),
            f"said_{number}": Estimate(said),
            f"found_{number}": Estimate(0.2, 0.15, 0.25),
        }
    return Evaluation({**found, CALIBRATION: calibration})


def order(**changes: object) -> Order:
    compared = (("2", ("2026-01-20", "2026-01-26"), lists()), ("1", ("2026-01-13", "2026-01-19"), lists(0.52)))
    known = Order(
        version="2", waits_for_history=False, said="Version 2 was promoted.", lists=compared, alerts_per_day=100
    )
    return replace(known, **changes)  # pyright: ignore[reportArgumentType]


def page(found: Order | None) -> str:
    return render(replace(samples.report(cards=1, days=2), order=found))


def test_the_lists_stand_side_by_side_with_their_intervals_and_over_time() -> None:
    shown = page(order())
    assert "This list is ordered by version 2 of the ranker, which learnt from labels. Version 2 was promoted." in shown
    for words in ("ranker", "forest alone", "plain rule", "amount alone", "2026-01-13 to 2026-01-19"):
        assert words in shown
    assert "0.57 (0.47 to 0.67)" in shown
    assert "-0.23 (-0.31 to -0.15)" in shown
    assert "0.52 (0.42 to 0.62)" in shown


def test_the_calibration_is_shown_and_whether_it_is_believed() -> None:
    assert "The ranker's probability is shown. Brier score 0.0200 (0.0180 to 0.0230)" in page(order()).replace(
        "&#39;", "'"
    )
    wrong = order(lists=(("2", ("2026-01-20", "2026-01-26"), lists(said=0.6)),))
    assert "is not shown, since it was not seen to come true" in page(wrong)


def test_what_was_not_learnt_is_said_and_no_table_is_empty() -> None:
    shown = page(order(version=None, lists=(), said="No label is known yet."))
    assert "This list is ordered by the forest" in shown
    assert "No label is known yet." in shown
    assert "What each list finds" not in shown


def test_a_list_that_waits_for_its_history_says_so() -> None:
    assert "until the history of its cards is made; then version 2 of the ranker orders it" in page(
        order(waits_for_history=True)
    )


def test_where_nothing_ever_tried_to_learn_the_page_says_nothing_of_it() -> None:
    assert "The order of the list" not in page(None)
    assert page(None) == render(samples.report(cards=1, days=2))
