"""What is due, and why: one pure function from what is on disk to what should be done.

`fraud-assets status` shows its answer, `fraud-assets run` does it now and the sensors do it for ever. It compares
states, never events, so that nothing depends on having seen something happen. What kinds of work there are stands in
one table, `STAGES`. No clock, no tables, no Dagster.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from fraud_assets.partition_keys import day_of
from fraud_assets.platform_state import Made, PlatformState
from fraud_assets.ranked_lists import why_learn, why_ranked_anew
from fraud_assets.silver.adoption import is_adopted
from fraud_assets.silver.build import InputDigest
from fraud_assets.silver.features import EMPTY_TAIL
from fraud_assets.silver.history import HISTORY_DAYS, HistoryDigest, earlier_digests, silver_digest

REPORTED_DAYS: Final = 31
"""The latest days of which a report is made by itself: a month. Whoever lands years at once does not wait for pages
that nobody opens; a report that exists is kept up to date, however old."""

PROD_TAKEN_AWAY: Final = (
    "@prod was taken away, so that nothing trains or scores by itself: `fraud-assets promote VERSION` or "
    "`fraud-assets rollback` puts a version there"
)
"""What a person is told who took `@prod` away in MLflow: a training would put a version there that nobody chose."""


@dataclass(frozen=True)
class Due:
    """One thing to do.

    Attributes:
        stage: name of the stage that does it.
        key: the partition; empty where the stage has none.
        why: the reason, in words.
        cause: what of the state makes it due, as text; while that is the same, so is the need.
        model_version: the version that scores or is evaluated. Where one is known before a partition is built, the run
            that builds it scores it, too.
        is_correction: only files landed for a partition that was made before. Nothing waits for it, since a feed may
            correct for ever.
    """

    stage: str
    key: str
    why: str
    cause: str
    model_version: str = ""
    is_correction: bool = False


@dataclass(frozen=True)
class Stage:
    """One kind of work, from what makes it due to the job that does it. Stages may share a job.

    Attributes:
        name: what code and people call it.
        does: the job in a sentence.
        job: name of the Dagster job.
        assets: what of the job this stage materializes, by name.
        due: what is due of it.
        table: address of the table whose partitions it makes; empty where it has no partitions.
        made_of: columns of that table that are constant in a partition and say what it was made of.
        sensor: name of the sensor that requests it.
        waits_for: stages of which nothing but corrections may be due, in flight or open, before a sensor requests this
            one.
        follows: the stage whose runs may go on with this one, for the same partitions.
        goes_on_in: name of the job whose runs go on with the stages that follow; empty where none does.
        priority: of its runs in Dagster's queue; higher ones are launched first.
    """

    name: str
    does: str
    job: str
    assets: tuple[str, ...]
    due: Callable[[PlatformState], Iterable[Due]]
    table: str = ""
    made_of: tuple[str, ...] = ()
    sensor: Literal["landed_partitions_sensor", "unscored_partitions_sensor"] = "unscored_partitions_sensor"
    waits_for: tuple[str, ...] = ()
    follows: str = ""
    goes_on_in: str = ""
    priority: int = 0


@dataclass(frozen=True)
class Plan:
    """All that is due, in the order in which it is done, and what waits for a person."""

    due: tuple[Due, ...] = ()
    notes: tuple[str, ...] = ()


def with_following(stage: Stage, stages: Iterable[Stage]) -> tuple[Stage, ...]:
    """Return a stage and the stages that follow it, in the order of the table."""
    found = {stage.name: stage}
    for other in stages:
        if other.follows in found:
            found[other.name] = other
    return tuple(found.values())


# The stages, each from the state to what is due of it.


_FILES: Final = "landed files"
"""What of a partition's input a feed changes; the rest a person does."""


def _due_silver(state: PlatformState) -> Iterator[Due]:
    # Where no version may score, Silver is built alone.
    no_prod = state.prod_version is None or state.prod_problem
    version_of = (lambda _: "") if no_prod else _scoring_version(state, state.prod_version or "")
    for key, landed in sorted(state.landed.items()):
        before = state.silver.get(state.previous_key[key])
        tail = EMPTY_TAIL if before is None else before.of["tail_version"]
        if why := _why_silver(state.silver.get(key), landed, tail):
            is_correction = why == f"{_FILES} changed"
            yield Due("silver", key, why, f"{landed} {tail}", version_of(key), is_correction)


def _scoring_version(state: PlatformState, prod: str) -> Callable[[str], str]:
    """Return what gives the version by which a partition is scored.

    A partition keeps its model version, also when it is corrected; only those of the latest days move to `prod`.
    """
    moving = {*sorted({day_of(key) for key in state.silver}, reverse=True)[: state.rescore_days]}

    def version_of(key: str) -> str:
        scored = state.gold.get(key)
        return prod if scored is None or day_of(key) in moving else scored.of["model_version"]

    return version_of


def _why_silver(built: Made | None, landed: InputDigest, tail: str) -> str | None:
    if built is None or is_adopted(built.of["input_version"]):
        return "landed, not built yet"
    if built.of["input_version"] != str(landed):
        words = {"files": _FILES, "source": "source file", "contract": "feature contract"}
        return f"{_changed(InputDigest.parse(built.of['input_version']), landed, words)} changed"
    if built.of["lookback_version"] != tail:
        return "the last five minutes of the partition before changed"
    return None


def _changed(before: Any, now: Any, words: Mapping[str, str]) -> str:
    """Name the parts of a digest that differ."""
    return " and ".join(word for part, word in words.items() if getattr(before, part) != getattr(now, part))


def _due_adoption(state: PlatformState) -> Iterator[Due]:
    for key in sorted(state.foreign.keys() - state.landed.keys()):  # What landed is the truth, and is built.
        yield Due("adoption", key, "something else wrote its Silver rows", state.foreign[key])


def _due_model(state: PlatformState) -> Iterator[Due]:
    if state.prod_version is not None or not any(built.rows for built in state.silver.values()):
        return
    if state.prod_taken_away or state.refused_on == state.silver_data_digest:
        return
    first = "no model version is behind @prod"
    why = first if state.refused_on is None else "Silver changed since a candidate was refused"
    yield Due("model", "", why, state.silver_data_digest)


def _due_gold(state: PlatformState) -> Iterator[Due]:
    prod = state.prod_version
    if prod is None:
        return
    version_of = _scoring_version(state, prod)
    for key, built in sorted(state.silver.items()):
        scored, silver, version = state.gold.get(key), built.of["silver_version"], version_of(key)
        if scored is None:
            if built.rows:
                yield Due("gold", key, "built, not scored yet", silver, version)
        elif scored.of["model_version"] != version:
            yield Due(
                "gold", key, f"@prod moved from version {scored.of['model_version']} to {version}", silver, version
            )
        elif scored.of["silver_version"] != silver:
            yield Due("gold", key, "its Silver rows changed", silver, version)


def _due_history(state: PlatformState) -> Iterator[Due]:
    made, not_yet = state.made.get("history", {}), {item.key for item in _due_silver(state)}
    own = {key: silver_digest(one.of["input_version"]) for key, one in state.silver.items() if one.rows}
    before = {key: HistoryDigest.parse(one.of["history_version"]) for key, one in made.items()}
    # What a partition hands on is known once its own history is made of its rows as they are.
    is_known = {key for key, digest in own.items() if key in before and before[key].silver == digest}
    handed_on = {key: made[key].of["handed_on_version"] if key in is_known else None for key in own}
    earlier = earlier_digests(handed_on, own)
    for key, digest in sorted(own.items()):
        if key not in made:
            why = "built, no history of its cards yet"
        elif key not in is_known:
            why = f"its {_FILES} changed"
        elif earlier[key] not in (None, before[key].earlier):
            why = f"what its cards did in the {HISTORY_DAYS} days before changed"
        else:
            continue
        if key not in not_yet:
            yield Due("history", key, why, f"{digest} {earlier[key]}")
    for key in sorted((made.keys() & state.silver.keys()) - own.keys() - not_yet):
        yield Due("history", key, "its Silver rows are gone", f"{before[key]} gone")


def _due_alerts(state: PlatformState) -> Iterator[Due]:
    latest_day = day_of(max(state.gold, default=""))
    scored_anew = {item.key for item in _due_gold(state)}  # Whoever scores a partition makes its list as well.
    for key, scored in sorted(state.gold.items()):
        made = state.made.get("alerts", {}).get(key)
        if key in scored_anew:
            continue
        if made is None:
            why = "scored, no list of alerts yet"
        elif {**made.of, **scored.of} != made.of:
            why = "its scores changed"
        elif made.of["alerts_per_day"] != state.alerts_per_day:
            why = f"alerts per day changed from {made.of['alerts_per_day']} to {state.alerts_per_day}"
        elif not (why := why_ranked_anew(state, key, made.of, latest_day)):
            continue
        yield Due("alerts", key, why, f"{scored.of} {state.alerts_per_day} {why}")
    for key, made in sorted(state.made.get("alerts", {}).items()):
        if key not in state.gold and key not in scored_anew:
            yield Due("alerts", key, "its scores are gone", f"{made.of} gone")


def _due_reviews(state: PlatformState) -> Iterator[Due]:
    if state.reviews_landed != state.reviews_read:
        yield Due("reviews", "", "files of reviews landed or changed", state.reviews_landed or "none")


def _due_ranker(state: PlatformState) -> Iterator[Due]:
    if state.ranker is not None and (why := why_learn(state.ranker)):
        yield Due("ranker", "", why, f"{state.ranker.labels} {state.ranker.last_day}")


def _due_report(state: PlatformState) -> Iterator[Due]:
    not_yet = {item.key for due in (_due_silver, _due_gold, _due_alerts) for item in due(state)}
    # A partition of which every row was refused has no scores: its page says so.
    lists = {key: {"silver_version": made.of["silver_version"]} for key, made in state.silver.items() if not made.rows}
    lists |= {key: made.of for key, made in state.made.get("alerts", {}).items()}
    days = sorted({day_of(key) for key in lists})
    recent, latest = {*days[-REPORTED_DAYS:]}, max(lists, default="")
    for key, listed in sorted(lists.items()):
        made = state.made.get("report", {}).get(key)
        evaluated = _evaluation_shown(state, listed) if key == latest else None
        if key in not_yet or (made is None and day_of(key) not in recent):
            continue
        if made is None:
            why = "listed, no report yet"
        elif {**made.of, **listed} != made.of:
            why = "its alerts changed"
        elif evaluated is not None and made.of["evaluation_version"] != evaluated:
            why = f"version {listed['model_version']} was evaluated anew, and this is the latest report"
        elif key == latest and made.of["reviews_version"] != state.reviews_read:
            why = "alerts were reviewed, and this is the latest report"
        else:
            continue
        yield Due("report", key, why, f"{listed} {evaluated} {state.reviews_read}")


def _evaluation_shown(state: PlatformState, listed: Mapping[str, Any]) -> str | None:
    """Return what the report of a list would show of its model version's evaluation; None where that is not known."""
    found = state.evaluation
    is_its_own = found is not None and found.model_version == listed.get("model_version")
    return str(found.evaluated_on) if found is not None and is_its_own else None


def _due_evaluation(state: PlatformState) -> Iterator[Due]:
    found = state.evaluation
    if found is None or found.evaluated_on == found.now or any(_due_model(state)):  # A training evaluates.
        return
    words = {
        "files": "labels landed or changed",
        "partitions": "evaluated partitions changed",
        "reviews": "reviews landed or changed",
    }
    what = _changed(found.evaluated_on, found.now, words)
    why = f"{what} since version {found.model_version} was evaluated"
    yield Due("evaluation", "", why, str(found.now), found.model_version)


SILVER: Final = Stage(
    name="silver",
    does="Builds Silver from what landed.",
    job="silver_job",
    assets=("raw_transactions", "silver_transactions_base"),
    due=_due_silver,
    table="silver.silver_transactions_base",
    made_of=("input_version", "lookback_version", "tail_version", "silver_version"),
    sensor="landed_partitions_sensor",
    goes_on_in="landing_job",
)

STAGES: Final = (
    SILVER,
    Stage(
        name="adoption",
        does="Compares Silver that something else wrote with the feature contract, and takes it as it is.",
        job="silver_job",
        assets=("silver_transactions_base",),
        due=_due_adoption,
        sensor="landed_partitions_sensor",
    ),
    Stage(
        name="model",
        does="Trains a model, evaluates it on later data and puts it behind @prod if it passes.",
        job="training_job",
        assets=("fraud_isolation_forest", "evaluation_metrics", "prod_model"),
        due=_due_model,
        waits_for=("silver", "adoption"),
    ),
    Stage(
        name="gold",
        does="Scores Silver partitions by one model version.",
        job="scoring_job",
        assets=("fraud_predictions", "fraud_alerts"),
        due=_due_gold,
        table="gold.fraud_predictions",
        made_of=("silver_version", "model_version"),
        follows="silver",
    ),
    Stage(
        name="history",
        does="Keeps what earlier partitions tell of the card of each transaction.",
        job="history_job",
        assets=("card_history",),
        due=_due_history,
        table="silver.card_history",
        made_of=("history_version", "handed_on_version"),
        waits_for=("gold",),
        priority=-1,
    ),
    Stage(
        name="alerts",
        does="Lists the most suspicious scored transactions for an analyst, with reasons.",
        job="scoring_job",
        assets=("fraud_alerts",),
        due=_due_alerts,
        table="gold.alert_lists",
        made_of=("silver_version", "model_version", "alerts_per_day", "ranker_version", "history_version"),
    ),
    Stage(
        name="reviews",
        does="Reads what analysts decided about alerts.",
        job="review_job",
        assets=("alert_reviews",),
        due=_due_reviews,
    ),
    Stage(
        name="ranker",
        does="Learns from labels in which order alerts are looked at, and compares lists before it may order any.",
        job="ranker_job",
        assets=("fraud_alert_ranker",),
        due=_due_ranker,
        waits_for=("silver", "gold", "history", "reviews"),
        priority=-1,
    ),
    Stage(
        name="evaluation",
        does="Measures the latest version again, on labels that landed late; trains and promotes nothing.",
        job="training_job",
        assets=("evaluation_metrics",),
        due=_due_evaluation,
        waits_for=("silver", "reviews"),
    ),
    Stage(
        name="report",
        does="Writes the page that an analyst opens in the morning.",
        job="report_job",
        assets=("fraud_report",),
        due=_due_report,
        table="gold.fraud_report",
        made_of=(
            "silver_version",
            "model_version",
            "alerts_per_day",
            "ranker_version",
            "history_version",
            "evaluation_version",
            "reviews_version",
        ),
        priority=-1,
    ),
)
"""All kinds of work, in the order in which they are done.

Nothing waits for the evaluation of a version that scores, nor for a report. A report waits for what is due of its own
partition, not for a feed that never rests.
"""


def decide(state: PlatformState, stages: Iterable[Stage] = STAGES) -> Plan:
    """Return all that is due for `state`, with the reason of each; the same state always gives the same plan."""
    due = tuple(item for stage in stages for item in stage.due(state))
    return Plan(due, notes=tuple(filter(None, (PROD_TAKEN_AWAY * state.prod_taken_away, state.prod_problem))))
