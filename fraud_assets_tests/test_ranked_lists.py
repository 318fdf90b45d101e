"""Which ranker orders a list, and when a ranker learns, from values alone."""

from dataclasses import replace
from typing import Any

import pytest

from fraud_assets.model.known_labels import KnownLabels
from fraud_assets.platform_state import Made, PlatformState, RankerState
from fraud_assets.ranked_lists import history_to_rank_by, ranker_of
from fraud_assets.silver.history import HistoryDigest, silver_digest
from fraud_assets.staleness import STAGES, decide
from fraud_assets_tests.test_staleness import LANDED, alerts, gold, silver

DAY, BEFORE = "2026-01-05", "2026-01-04"
ALERTS_AND_RANKER = tuple(stage for stage in STAGES if stage.name in ("alerts", "ranker"))
HISTORY = str(HistoryDigest(silver_digest(str(LANDED)), "earlier"))
LABELS = KnownLabels("files", "reviews", "feed")


def listed(**changes: Any) -> Made:
    return alerts(**({"ranker_version": None, "history_version": None} | changes))


def state(**changes: Any) -> PlatformState:
    """Two scored days, listed by score; no ranker, no history."""
    days = (BEFORE, DAY)
    made = {"silver": dict.fromkeys(days, silver()), "gold": dict.fromkeys(days, gold())}
    made["alerts"] = {**dict.fromkeys(days, listed()), **changes.pop("lists", {})}
    made["history"] = changes.pop("history", {})
    ranker = RankerState(**({"version": None, "labels": KnownLabels()} | changes))
    known = PlatformState(dict.fromkeys(days, LANDED), made, {DAY: BEFORE, BEFORE: "2026-01-03"}, "1", ranker=ranker)
    return replace(known)


def due(**changes: Any) -> list[tuple[str, str, str]]:
    return [(item.stage, item.key, item.why) for item in decide(state(**changes), ALERTS_AND_RANKER).due]


def history() -> Made:
    return Made(5, {"history_version": HISTORY, "handed_on_version": "h"})


def test_a_new_ranker_orders_the_lists_of_the_latest_day_and_no_other() -> None:
    assert due() == []
    assert due(version="2") == [("alerts", DAY, "version 2 of the ranker is behind @prod")]


def test_a_list_keeps_its_ranker_whatever_becomes_of_it() -> None:
    by_first = {DAY: listed(ranker_version="1", history_version=HISTORY)}
    for version in (None, "1", "2"):
        assert due(version=version, lists=by_first, history={DAY: history()}) == []


def test_a_list_that_waits_for_the_history_of_its_cards_is_due_once_that_is_made() -> None:
    waiting = {DAY: listed(ranker_version="1")}
    why = "the history of its cards was made, by which version 1 of the ranker lists it"
    assert due(version="1", lists=waiting) == []
    assert due(version="1", lists=waiting, history={DAY: history()}) == [("alerts", DAY, why)]


def test_a_history_of_other_days_changes_no_list_and_one_of_own_rows_does() -> None:
    own, others = HistoryDigest.parse(HISTORY), HistoryDigest("other rows", "earlier")
    neighbours = {DAY: listed(ranker_version="1", history_version=str(own._replace(earlier="others")))}
    assert due(version="1", lists=neighbours, history={DAY: history()}) == []
    before = {DAY: listed(ranker_version="1", history_version=str(others))}
    assert [key for _, key, _ in due(version="1", lists=before, history={DAY: history()})] == [DAY]


def test_only_a_history_of_the_rows_as_they_are_can_be_ranked_by() -> None:
    assert history_to_rank_by(history(), silver()) == HISTORY
    assert history_to_rank_by(history(), silver(landed=LANDED._replace(files="others"))) is None
    assert history_to_rank_by(None, silver()) is None


@pytest.mark.parametrize(
    ("before", "prod", "latest", "expected"),
    [
        (None, None, DAY, None),
        (None, "2", BEFORE, "2"),
        ({"ranker_version": None}, "2", DAY, "2"),
        ({"ranker_version": None}, "2", "2026-01-06", None),
        ({"ranker_version": "1"}, "2", DAY, "1"),
        ({"ranker_version": "1"}, None, DAY, "1"),
        ({}, "2", "2026-01-06", None),  # a list of an earlier release
    ],
)
def test_which_ranker_orders_a_list(
    before: dict[str, Any] | None, prod: str | None, latest: str, expected: str | None
) -> None:
    assert ranker_of(DAY, before, prod=prod, latest_day=latest) == expected


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({}, None),  # nothing is known
        ({"labels": LABELS}, "labels are known, and nothing has learnt from them yet"),
        ({"labels": LABELS, "learned": (LABELS, "2025-12-01")}, None),  # the very same
        (
            {"labels": LABELS, "learned": (LABELS, "2025-12-01"), "version": "1"},  # they stopped, and one ranks
            "7 days or more since a ranker learnt from labels",
        ),
        ({"labels": LABELS, "learned": (LABELS._replace(feed="f"), "2026-01-01")}, None),  # six days, the feed's alone
        (
            {"labels": LABELS, "learned": (LABELS._replace(feed="f"), "2025-12-31")},
            "7 days or more since a ranker learnt from labels",
        ),
        (
            {"labels": LABELS, "learned": (LABELS._replace(files="f"), "2026-01-06")},
            "labels landed or alerts were reviewed since a ranker was refused",
        ),
        ({"labels": LABELS, "learned": (LABELS._replace(files="f"), "2026-01-06"), "version": "1"}, None),
        (  # somebody tried before Silver had a row
            {"labels": LABELS, "learned": (LABELS._replace(feed=""), "")},
            "labels are known, and nothing has learnt from them yet",
        ),
    ],
)
def test_a_ranker_learns_when_there_is_something_new_and_otherwise_weekly(
    changes: dict[str, Any], why: str | None
) -> None:
    found = [item for item in due(last_day="2026-01-07", **changes) if item[0] == "ranker"]
    assert found == ([] if why is None else [("ranker", "", why)])


@pytest.mark.parametrize(
    "changes", [{}, {"learned": (LABELS, "")}, {"learned": (LABELS._replace(files="f"), "2026-01-06"), "version": "1"}]
)
def test_nothing_learns_while_silver_has_no_row(changes: dict[str, Any]) -> None:
    assert [item for item in due(last_day="", labels=LABELS, **changes) if item[0] == "ranker"] == []


def test_a_feed_that_orders_by_score_alone_never_learns() -> None:
    assert decide(replace(state(labels=LABELS, version="2"), ranker=None), ALERTS_AND_RANKER).due == ()
