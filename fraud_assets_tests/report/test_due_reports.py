"""Which reports are due, and why: state in, what is due out."""

from dataclasses import replace
from datetime import date, timedelta
from typing import Any

from fraud_assets.platform_state import EvaluationState, Made, PlatformState
from fraud_assets.silver.build import InputDigest
from fraud_assets.silver.features import EMPTY_TAIL
from fraud_assets.silver.labels import LabelsDigest
from fraud_assets.staleness import REPORTED_DAYS, decide
from fraud_assets_tests.platform import WITHOUT_HISTORY

LANDED = InputDigest("files", "source", "contract")
LABELS = LabelsDigest("labels", "days")
DAYS = ("2026-01-05", "2026-01-06")
LISTED = {"silver_version": "s", "model_version": "1", "alerts_per_day": 100}


def built(**changes: Any) -> Made:
    rows = changes.pop("rows", 5)
    of = {"input_version": str(LANDED), "lookback_version": EMPTY_TAIL, "tail_version": EMPTY_TAIL}
    return Made(rows, of | {"silver_version": "s"} | changes)


def listed(**changes: Any) -> Made:
    return Made(1, LISTED | changes)


def reported(**changes: Any) -> Made:
    return Made(1, LISTED | {"evaluation_version": str(LABELS), "reviews_version": "r"} | changes)


def state(days: tuple[str, ...] = DAYS, **changes: Any) -> PlatformState:
    """Days of which everything is made, reports included."""
    scored = Made(5, {"silver_version": "s", "model_version": "1"})
    made = {"silver": built(), "gold": scored, "alerts": listed(), "report": reported()}
    of_days: dict[str, dict[str, Made]] = {stage: dict.fromkeys(days, one) for stage, one in made.items()}
    for stage in made:
        of_days[stage] |= changes.pop(stage, {})
    previous = {day: (date.fromisoformat(day) - timedelta(days=1)).isoformat() for day in days}
    return replace(
        PlatformState(
            landed=dict.fromkeys(days, LANDED),
            made={stage: {key: one for key, one in of.items() if one} for stage, of in of_days.items()},
            previous_key=previous,
            prod_version="1",
            evaluation=EvaluationState("1", LABELS, LABELS),
            reviews_read="r",
            reviews_landed="r",
        ),
        **changes,
    )


def due(state: PlatformState) -> list[tuple[str, str, str]]:
    return [(item.stage, item.key, item.why) for item in decide(state, WITHOUT_HISTORY).due]


def test_nothing_is_due_where_every_list_has_its_page() -> None:
    assert due(state()) == []


def test_a_list_without_a_page_gets_one() -> None:
    assert due(state(report={DAYS[0]: None})) == [("report", DAYS[0], "listed, no report yet")]


def test_a_changed_list_makes_its_own_page_due_and_no_other() -> None:
    scored = Made(5, {"silver_version": "s2", "model_version": "1"})
    corrected = {"silver": built(silver_version="s2"), "gold": scored, "alerts": listed(silver_version="s2")}
    assert due(state(**{stage: {DAYS[0]: one} for stage, one in corrected.items()})) == [
        ("report", DAYS[0], "its alerts changed")
    ]


def test_a_page_waits_until_the_list_below_it_is_made() -> None:
    corrected = due(state(silver={DAYS[0]: built(silver_version="s2")}, report={DAYS[0]: None}))
    assert [stage for stage, *_ in corrected] == ["gold"]
    more = due(state(alerts_per_day=50))
    assert {stage for stage, *_ in more} == {"alerts"}


def test_a_new_evaluation_makes_the_latest_page_due_and_no_older_one() -> None:
    anew = EvaluationState("1", LABELS._replace(files="more"), LABELS._replace(files="more"))
    assert due(state(evaluation=anew)) == [
        ("report", DAYS[1], "version 1 was evaluated anew, and this is the latest report")
    ]


def test_reviews_make_the_latest_page_due_and_no_older_one() -> None:
    assert due(state(reviews_read="r2", reviews_landed="r2")) == [
        ("report", DAYS[1], "alerts were reviewed, and this is the latest report")
    ]


def test_the_evaluation_of_a_version_that_did_not_score_the_latest_day_is_none_of_its_business() -> None:
    other = EvaluationState("2", LABELS._replace(files="more"), LABELS._replace(files="more"))
    assert due(state(evaluation=other)) == []


def test_a_day_of_which_every_row_was_refused_has_a_page_too() -> None:
    refused = state(
        silver={DAYS[1]: built(rows=0)}, gold={DAYS[1]: None}, alerts={DAYS[1]: None}, report={DAYS[1]: None}
    )
    assert due(refused) == [("report", DAYS[1], "listed, no report yet")]
    made = reported(model_version="", evaluation_version="")
    assert due(replace(refused, made={**refused.made, "report": {**refused.made["report"], DAYS[1]: made}})) == []


def test_of_many_days_at_once_the_latest_have_pages_and_an_old_page_is_kept_up_to_date() -> None:
    days = tuple((date(2026, 1, 1) + timedelta(days=n)).isoformat() for n in range(REPORTED_DAYS + 3))
    missing = state(days, report=dict.fromkeys(days, None))
    assert [key for _, key, _ in due(missing)] == list(days[3:])
    outdated = state(days, report=dict.fromkeys(days[1:3], None) | {days[0]: reported(alerts_per_day=7)})
    assert due(outdated) == [("report", days[0], "its alerts changed")]
