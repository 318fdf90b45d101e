"""The sentences of a report: each state that a day can be in is said, and none is a silent zero."""

from dataclasses import replace

import pytest

from fraud_assets.alerts.review_findings import SampleReviews
from fraud_assets.report import sentences
from fraud_assets.report.facts import PartitionFigures, Quarantine, Reviews
from fraud_assets_tests.report import samples


def figures(**changed: object) -> PartitionFigures:
    return replace(samples.report(cards=0).figures, **changed)  # type: ignore[arg-type]


def test_a_day_with_alerts_says_how_many_of_what_and_where_to_begin() -> None:
    report = samples.report(cards=3)
    said = sentences.lede(report)
    assert said.startswith(f"{report.figures.alerts} alerts on 3 cards, ")
    assert "of 3,012 scored transactions." in said
    assert f"{report.cards[0].amount_at_risk:,.2f} at risk." in said


def test_a_day_without_anomalies_says_that_none_lies_above_the_threshold() -> None:
    quiet = replace(samples.report(cards=0), figures=figures(anomalies=0, alerts=0, below_the_cut=0))
    assert "of 3,012 scored transactions none lies above the threshold of version 1." in sentences.lede(quiet)
    assert "of 3,012 scored transactions none lies above" in sentences.no_alerts(quiet)
    assert "there was no anomaly" in sentences.cut(quiet)


def test_an_hour_whose_day_has_its_alerts_already_does_not_say_that_nothing_is_suspicious() -> None:
    late = replace(samples.report(cards=0), figures=figures(anomalies=1_234, alerts=0, below_the_cut=1_234))
    for said in (sentences.lede(late), sentences.no_alerts(late)):
        assert "the day's list was full, though of 3,012 scored transactions 1,234 lie above the threshold" in said


def test_a_day_of_which_nothing_was_scored_is_no_day_without_fraud() -> None:
    empty = samples.empty_report()
    assert "nothing is known of it" in sentences.lede(empty)
    assert "All 12 landed rows stand in quarantine" in sentences.no_alerts(empty)


def test_anomalies_below_the_cut_are_counted() -> None:
    cut = replace(samples.report(cards=0), figures=figures(anomalies=133, alerts=100, below_the_cut=33))
    assert sentences.cut(cut).startswith("33 of 133 anomalies stayed below the cut of 100 a day")
    whole = replace(samples.report(cards=0), figures=figures(anomalies=40, alerts=40, below_the_cut=0))
    assert "all 40 anomalies are here" in sentences.cut(whole)


def test_a_day_is_compared_with_the_days_before_it() -> None:
    report = samples.report(cards=0)
    before = [figures(key=f"2026-01-0{n}", anomalies=100 + n) for n in (1, 2, 3)]
    now = figures(anomalies=400)

    rate, *_ = sentences.findings(replace(report, figures=now, history=(*before, now)))

    assert rate == (
        "13.3 % of the scored rows lie above the threshold: above all of the 3 days before (3.35 % to 3.42 %, half of "
        "them below 3.39 %)."
    )


def test_without_enough_days_drift_has_no_limit_and_says_so() -> None:
    report = replace(samples.report(cards=0), drift=samples.drift(healthy=3))
    assert "No limit for drift is known yet" in list(sentences.findings(report))[-1]


def test_drift_names_what_is_unusual_and_its_false_alarms() -> None:
    report = samples.report(cards=0)
    assert report.drift is not None
    assert list(sentences.findings(report))[-1] == (
        "1 of 8 features lies further from training than the limit that 24 earlier healthy days set: "
        "is_international_txn."
    )
    said = sentences.false_alarms(report.drift, "day")
    assert "One day in 25 that is like the 24 before it" in said
    assert "false-alarm rate of 4.00 %" in said
    assert "of 19 healthy days, each compared with those before it by the same rule, 2 had one, 10.5 %" in said


@pytest.mark.parametrize(
    ("refused", "said"),
    [
        (Quarantine(0, 0, 0.05), "No row landed for this day."),
        (Quarantine(300, 0, 0.05), "None of 300 landed rows was refused."),
        (Quarantine(300, 3, 0.05), "3 of 300 landed rows were refused: 1.00 %, within the limit of 5.00 %"),
        (Quarantine(300, 30, 0.05), "30 of 300 landed rows were refused: 10.0 %, above the limit of 5.00 %"),
    ],
)
def test_what_was_refused_has_a_denominator_and_a_limit(refused: Quarantine, said: str) -> None:
    assert sentences.quarantine(refused, "day").startswith(said)


def test_unsure_reviews_are_no_decision() -> None:
    said = sentences.reviews(Reviews(200, 0, 0, 4, 0, "2026-01-01", "2026-01-02"))
    assert "4 of 200 alerts" in said
    assert "Precision is not measurable" in said
    assert "Precision 50.0 %" in sentences.reviews(Reviews(200, 2, 2, 90, 4, "2026-01-01", "2026-01-02"))


def test_of_what_is_no_alert_reviews_say_something_where_some_of_it_was_drawn() -> None:
    only_alerts = Reviews(200, 20, 20, 0, 40, "2026-01-01", "2026-01-02")
    assert "Only alerts are reviewed" in sentences.reviews(only_alerts)
    said = sentences.reviews(replace(only_alerts, sample=SampleReviews(200, 2, 0.01, 200, 10_000, 100.0)))
    assert "Drawn at random from what is no alert, and decided: 200 transactions, 2 fraud: 1.00 %" in said
    assert "so that the lists hold 50.0 % of all fraud (21.9 % to 78.5 %)." in said
    nobody = replace(only_alerts, fraud=0, genuine=0, unsure=1, sample=SampleReviews(1, 0, 0, 1, 10_000, None))
    assert sentences.reviews(nobody).endswith("1 transaction, 0 fraud: 0 % (0 % to 79.3 %).")
