"""Which ranker orders a list of alerts, when a list is ordered anew, and when a ranker learns: from state alone.

A part of the decision in `fraud_assets.staleness` that the asset shares: both must agree which version orders a list.
"""

from collections.abc import Mapping
from typing import Any, Final

from fraud_assets.partition_keys import day_of, days_between
from fraud_assets.platform_state import Made, PlatformState, RankerState
from fraud_assets.silver.history import HistoryDigest, silver_digest


def ranker_of(key: str, listed: Mapping[str, Any] | None, *, prod: str | None, latest_day: str) -> str | None:
    """Return the version of the ranker by which a partition is listed; None where its score alone decides.

    A list keeps its ranker, as a partition keeps its model version. Only lists of the latest day, and new ones, go by
    the version that is behind `@prod` now.

    Args:
        key: the partition.
        listed: what its list was made of; None where it has none.
        prod: the version behind `@prod`.
        latest_day: of all scored partitions.
    """
    if listed is None or (listed.get("ranker_version") is None and day_of(key) == latest_day):
        return prod
    return listed.get("ranker_version")


def history_to_rank_by(history: Made | None, built: Made | None) -> str | None:
    """Return the version of a partition's history, None where there is none that was made of its rows as they are."""
    if history is None or built is None:
        return None
    version = history.of["history_version"]
    is_current = HistoryDigest.parse(version).silver == silver_digest(built.of["input_version"])
    return version if is_current else None


def why_ranked_anew(state: PlatformState, key: str, listed: Mapping[str, Any], latest_day: str) -> str:
    """Return why a list is to be ordered anew by a ranker; empty where it is as it should be."""
    prod = None if state.ranker is None else state.ranker.version
    version = ranker_of(key, listed, prod=prod, latest_day=latest_day)
    if version != listed.get("ranker_version"):
        return f"version {version} of the ranker is behind @prod"
    history = history_to_rank_by(state.made.get("history", {}).get(key), state.silver.get(key))
    if version is None or history is None:
        return ""
    before = listed.get("history_version")
    if before is None or HistoryDigest.parse(before).silver != HistoryDigest.parse(history).silver:
        return f"the history of its cards was made, by which version {version} of the ranker lists it"
    return ""


LEARNS_EVERY: Final = 7
"""Days of the feed after which a ranker learns anew: fraud changes by weeks, and a training takes half a minute."""


def why_learn(ranker: RankerState) -> str:
    """Return why a ranker is to learn; empty where there is nothing new to learn from, or not yet."""
    if ranker.labels.is_empty or not ranker.last_day:  # Label files and reviews may be there before any row is.
        return ""
    if ranker.learned is None or not ranker.learned[1]:  # An attempt before Silver had a row learnt nothing.
        return "labels are known, and nothing has learnt from them yet"
    before, day = ranker.learned
    # Where labels stopped nothing is new, and the ranker is looked at all the same: it may have to go.
    if days_between(day, ranker.last_day) >= LEARNS_EVERY and (ranker.labels != before or ranker.version is not None):
        return f"{LEARNS_EVERY} days or more since a ranker learnt from labels"
    if ranker.version is None and ranker.labels._replace(feed="") != before._replace(feed=""):
        return "labels landed or alerts were reviewed since a ranker was refused"
    return ""
